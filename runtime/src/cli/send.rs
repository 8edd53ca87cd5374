//! Send: a test event, signed as its provider signs, through the daemon's own door; then what came of it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use tokio::time::sleep;

use super::daemon::{Daemon, Place, Query};
use super::deliveries::message;
use super::events::tone;
use super::failure::Failure;
use super::https::{Answer, Door, Target};
use super::payload::{self, Fill, documented_types, fresh_id};
use super::plugin::read_data;
use super::screen::{Screen, Tone, clean};
use super::setup::{Sender, Signed};
use super::table::Table;
use super::times::{span, took};
use super::{Ended, Result, setup};
use crate::admin::view::StatView;
use crate::config::Tls;
use crate::store::{DeliveryRow, EventRow, Page, Status};
use crate::words::event::{EventRef, Name};
use crate::words::limits;
use crate::words::time::Millis;

/// How often the daemon is asked what came of an event: soon at first, then at leisure.
const ASK_AFTER: Duration = Duration::from_millis(25);
const ASK_AFTER_MAX: Duration = Duration::from_millis(500);

/// Send a correctly signed test event over HTTPS, and print what each handler did with it.
///
/// The body is the provider's documented one for the type, or --data. It is signed with the source's first
/// secret, and marked as a test, which handlers see. Ends with 1 where the answer is not 2xx, or where a delivery
/// is dead, held, parked or still open when the time is over.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore send sendpilot message.received
  longshore send stripe charge.succeeded --data charge.json --id evt_1 --no-wait")]
pub(super) struct Send {
    /// A source of the configuration.
    source: Name,
    /// The event's type, as the provider names it.
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// The body, instead of the documented one; `-` reads stdin.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The event's id, instead of a fresh one.
    #[arg(long)]
    id: Option<String>,
    /// Send so many events, each with an id of its own.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::SEND_COUNT_MAX)))]
    count: u32,
    /// Do not wait for the handlers.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the handlers, as 30s or 2m.
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = span)]
    timeout: Duration,
    #[command(flatten)]
    place: Place,
}

/// One event, ready to be posted.
struct Letter {
    id: String,
    event_type: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

/// What became of a letter.
#[derive(Debug, Serialize)]
struct Sent {
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    /// The daemon's answer.
    status: u16,
    answer: String,
    took_ms: u64,
    /// The event's name in the ledger, once it is known.
    event: Option<EventRef>,
    /// How often the same id came before.
    redeliveries: u64,
    deliveries: Vec<DeliveryRow>,
    /// Nothing more is going to happen by itself.
    settled: bool,
}

impl Send {
    pub(super) async fn run(self, screen: &Screen) -> Result {
        let sender = setup::sender(&self.place.files.config, &self.source)?;
        let mut daemon = self.daemon(&sender).await?;
        let target = self.target(&sender, daemon.as_mut()).await?;
        let mut sent = self.post_all(&sender, target, screen).await?;
        if let Some(daemon) = daemon.as_mut().filter(|_| !self.no_wait) {
            watch(daemon, &self.source, &mut sent, self.timeout).await?;
        }
        self.show(&sent, screen)?;
        let well = sent.iter().all(|sent| if self.no_wait { sent.is_accepted() } else { sent.went_well() });
        Ok(if well { Ended::Well } else { Ended::Badly })
    }

    /// The daemon says itself where it listens and by which certificate it is known. It is not needed where the
    /// configuration says both and nobody waits: then the door alone may be reachable, as in a container.
    async fn daemon(&self, sender: &Sender) -> Result<Option<Daemon>> {
        let server = &sender.server;
        let must_ask = !self.no_wait || server.listen.port() == 0 || server.tls == Tls::Dev;
        match self.place.connect().await {
            Ok(daemon) => Ok(Some(daemon)),
            Err(Failure::NoDaemon { .. }) if !must_ask => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn target(&self, sender: &Sender, daemon: Option<&mut Daemon>) -> Result<Target> {
        let written = match &sender.server.tls {
            Tls::Files { cert, .. } => Some(cert.clone()),
            Tls::Dev | Tls::Off => None,
        };
        let mut target = Target {
            listen: sender.server.listen,
            certificate: written,
            run_command: self.place.run_command(),
        };
        if let Some(daemon) = daemon {
            let stat: StatView = daemon.get("/stat", &Query::default()).await?;
            target.listen = stat.listen.unwrap_or(target.listen);
            target.certificate = stat.certificate;
        }
        Ok(target)
    }

    async fn post_all(&self, sender: &Sender, target: Target, screen: &Screen) -> Result<Vec<Sent>> {
        let data = self.data.as_deref().map(read_data).transpose()?;
        self.tell_documented(sender, screen);
        let mut door = Door::open(target).await?;
        let mut sent = Vec::new();
        for n in 1..=self.count {
            let letter = self.letter(sender, data.as_ref(), n, Millis::now())?;
            if letter.event_type != self.event_type && n == 1 {
                screen.say(&told_type(&letter.event_type));
            }
            let begun = Instant::now();
            let answer = door.post(&sender.path, &letter.headers, letter.body.clone()).await?;
            sent.push(Sent::new(letter, answer, begun.elapsed()));
        }
        Ok(sent)
    }

    fn tell_documented(&self, sender: &Sender, screen: &Screen) {
        let known = documented_types(sender.preset.as_deref());
        if self.data.is_none() && known.len() > 1 && !known.contains(&self.event_type) {
            screen.say(&format!(
                "`{}` is not a documented type, so its data is made up; documented are: {}",
                clean(&self.event_type),
                known.join(", ")
            ));
        }
    }

    fn letter(&self, sender: &Sender, data: Option<&Bytes>, n: u32, now: Millis) -> Result<Letter> {
        let id = match &self.id {
            Some(id) if self.count == 1 => id.clone(),
            Some(id) => format!("{id}-{n}"),
            None => fresh_id(now),
        };
        let given = match data {
            None => body(sender, &Fill { id: &id, event_type: &self.event_type, now }).into(),
            Some(data) if self.id.is_none() && self.count == 1 => data.clone(),
            Some(data) => renamed(data, sender, &id)?,
        };
        let Signed { headers, body, identity } = sender.sign(&id, &self.event_type, &given, now)?;
        let body = body.map_or(given, Bytes::from);
        Ok(Letter { id: identity.id, event_type: identity.event_type, headers, body })
    }
}

/// The documented body, with everything where the scheme looks for it.
pub(super) fn body(sender: &Sender, fill: &Fill<'_>) -> Vec<u8> {
    let looks = &sender.looks;
    let mut body = payload::default_for(sender.preset.as_deref(), fill);
    if let Some(element) = &looks.element {
        let event = std::mem::take(&mut body);
        payload::place(&mut body, element, event);
    }
    place_first(&mut body, &looks.id, fill.id);
    place_first(&mut body, &looks.kind, fill.event_type);
    if let Some((from, unit)) = &looks.time {
        payload::place(&mut body, from, time(fill.now, unit));
    }
    for place in looks.signed.iter().filter(|place| !payload::holds(&body, place)).collect::<Vec<_>>() {
        payload::place(&mut body, place, fill.id);
    }
    if looks.is_form { payload::as_form(&body).into_bytes() } else { body.to_string().into_bytes() }
}

/// As providers write it into a body.
fn time(now: Millis, unit: &str) -> Value {
    match unit {
        "s" => (now.0 / 1000).into(),
        "ms" => now.0.into(),
        "http-date" => now.to_http_date().into(),
        _ => now.to_string().into(),
    }
}

fn told_type(found: &str) -> String {
    match found {
        "" => "the body names no type, and the body decides".to_owned(),
        found => format!("the body says that its type is `{}`, and the body decides", clean(found)),
    }
}

/// The given body with another id in it. Where the scheme has the id in a header, the body stays as it is.
fn renamed(data: &Bytes, sender: &Sender, id: &str) -> Result<Bytes> {
    let in_body = sender.looks.id.first().filter(|from| !from.starts_with("header:"));
    let Some(from) = in_body else { return Ok(data.clone()) };
    if let Some(name) = from.strip_prefix("form:") {
        let others = url::form_urlencoded::parse(data).filter(|(key, _)| key != name);
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        return Ok(form.extend_pairs(others).append_pair(name, id).finish().into());
    }
    let mut body: Value = serde_json::from_slice(data).map_err(|e| {
        Failure::failed(format!(
            "--data: an id can only be put into a body that is JSON, and this is not: {e}"
        ))
    })?;
    payload::place(&mut body, from, id);
    Ok(body.to_string().into())
}

/// Of several places, the first is where the provider has it.
fn place_first(body: &mut Value, from: &[String], text: &str) {
    if let Some(extractor) = from.first() {
        payload::place(body, extractor, text);
    }
}

impl Sent {
    fn new(letter: Letter, answer: Answer, took: Duration) -> Sent {
        Sent {
            id: letter.id,
            event_type: letter.event_type,
            status: answer.status.as_u16(),
            answer: answer.text,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            event: None,
            redeliveries: 0,
            deliveries: Vec::new(),
            settled: !answer.status.is_success(),
        }
    }

    fn is_accepted(&self) -> bool {
        (200..300).contains(&self.status)
    }

    fn went_well(&self) -> bool {
        let fine = |row: &DeliveryRow| matches!(row.status, Status::Done | Status::Skipped);
        self.is_accepted() && self.settled && self.deliveries.iter().all(fine)
    }

    fn learn(&mut self, row: &EventRow) {
        self.event = Some(row.event);
        self.redeliveries = row.redeliveries;
        self.settled = row.deliveries.iter().all(|delivery| delivery.status != Status::Open);
    }
}

// === what comes of it ===

async fn watch(daemon: &mut Daemon, source: &Name, sent: &mut [Sent], timeout: Duration) -> Result<()> {
    let until = Instant::now() + timeout;
    let mut ask_after = ASK_AFTER;
    loop {
        for sent in sent.iter_mut().filter(|sent| !sent.settled) {
            let query = Query::default().with("source", Some(source)).with("id", Some(&sent.id));
            let found: Page<EventRow> = daemon.get("/events", &query.with("limit", Some(1))).await?;
            found.rows.first().into_iter().for_each(|row| sent.learn(row));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || sent.iter().all(|sent| sent.settled) {
            break;
        }
        sleep(ask_after.min(left)).await;
        ask_after = (ask_after * 2).min(ASK_AFTER_MAX);
    }
    for sent in sent {
        let Some(event) = sent.event else { continue };
        let query = Query::default().with("event", Some(event)).with("limit", Some(limits::PAGE_ROWS_MAX));
        sent.deliveries = daemon.get::<Page<DeliveryRow>>("/deliveries", &query).await?.rows;
    }
    Ok(())
}

impl Send {
    fn show(&self, sent: &[Sent], screen: &Screen) -> Result<()> {
        if screen.json {
            return screen.print_json(&serde_json::json!({ "sent": sent }));
        }
        screen.data(&table(sent, self.no_wait, Millis::now()).show(screen))?;
        if sent.iter().any(|sent| !sent.is_accepted()) {
            screen.say(&format!("why it was refused: longshore sources show {}", self.source));
        }
        if !self.no_wait && sent.iter().any(|sent| !sent.settled) {
            screen.say(&format!(
                "not all has ended after {}; see longshore deliveries list",
                took(self.timeout.as_millis() as u64)
            ));
        }
        Ok(())
    }
}

fn table(sent: &[Sent], no_wait: bool, now: Millis) -> Table {
    let mut table = Table::new([
        "EVENT", "TYPE", "ID", "ANSWER", "HANDLER", "STATUS", "TRIES", "HTTP", "TOOK", "MESSAGE",
    ]);
    for sent in sent {
        let event = sent.event.map(|event| event.to_string()).unwrap_or_default();
        let head = [event, sent.event_type.clone(), sent.id.clone(), sent.status.to_string()];
        if sent.deliveries.is_empty() {
            let tone = if sent.is_accepted() { Tone::Plain } else { Tone::Bad };
            let none = String::new;
            let [event, kind, id, answer] = head;
            table.row(
                tone,
                [event, kind, id, answer, none(), none(), none(), none(), none(), remark(sent, no_wait)],
            );
            continue;
        }
        for row in &sent.deliveries {
            let [event, kind, id, answer] = head.clone();
            table.row(
                tone(row.status),
                [
                    event,
                    kind,
                    id,
                    answer,
                    row.handler.to_string(),
                    row.status.to_string(),
                    row.attempts.to_string(),
                    row.last_status.map(|status| status.to_string()).unwrap_or_default(),
                    row.last_took_ms.map(took).unwrap_or_default(),
                    delivery_remark(sent, row, now),
                ],
            );
        }
    }
    table
}

/// What there is to say of an event without deliveries.
fn remark(sent: &Sent, no_wait: bool) -> String {
    match (sent.is_accepted(), sent.event) {
        (false, _) => sent.answer.trim().to_owned(),
        (true, None) if no_wait => "not waited for".to_owned(),
        (true, None) => "not yet in the history".to_owned(),
        (true, Some(_)) => "no subscription wants it".to_owned(),
    }
}

fn delivery_remark(sent: &Sent, row: &DeliveryRow, now: Millis) -> String {
    let said = message(row, now);
    match sent.redeliveries {
        0 => said,
        _ if said.is_empty() => "a duplicate: not handled again".to_owned(),
        _ => format!("a duplicate, not handled again; {said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::daemon::fake::Fake;
    use crate::cli::events::tests::row as event_row;
    use crate::store::DeliverySummary;
    use crate::words::attempt::ErrorKind;

    fn row(handler: &str, status: Status) -> DeliveryRow {
        DeliveryRow {
            delivery: format!("1f.to-{handler}").parse().unwrap(),
            event_id: "evt_1".to_owned(),
            event_type: "message.received".to_owned(),
            source: Name::new("sendpilot").unwrap(),
            handler: Name::new(handler).unwrap(),
            status,
            accepted_at: Millis(0),
            attempts: 1,
            next_at: None,
            ended_at: Some(Millis(1)),
            last_status: Some(200),
            last_took_ms: Some(12),
            error_kind: None,
            message: None,
            test: true,
        }
    }

    fn sent(status: u16, deliveries: Vec<DeliveryRow>) -> Sent {
        Sent {
            id: "evt_1".to_owned(),
            event_type: "message.received".to_owned(),
            status,
            answer: "{\"error\":\"mismatch\"}\n".to_owned(),
            took_ms: 3,
            event: (status == 200).then(|| "1f".parse().unwrap()),
            redeliveries: 0,
            deliveries,
            settled: true,
        }
    }

    #[test]
    fn it_went_well_only_where_every_delivery_did() {
        assert!(sent(200, vec![row("slack", Status::Done), row("crm", Status::Skipped)]).went_well());
        assert!(sent(200, Vec::new()).went_well());
        assert!(!sent(401, Vec::new()).went_well());
        for status in [Status::Dead, Status::Parked, Status::Held, Status::Cancelled, Status::Open] {
            assert!(!sent(200, vec![row("slack", Status::Done), row("crm", status)]).went_well(), "{status}");
        }
        assert!(!Sent { settled: false, ..sent(200, Vec::new()) }.went_well());
    }

    #[test]
    fn a_row_for_each_handler() {
        let dead = DeliveryRow {
            error_kind: Some(ErrorKind::Reject),
            message: Some("no leadId".to_owned()),
            ..row("crm", Status::Dead)
        };
        let again = Sent { redeliveries: 1, ..sent(200, vec![row("slack", Status::Done)]) };
        let all = [
            sent(200, vec![row("slack", Status::Done), dead]),
            again,
            sent(401, Vec::new()),
            sent(200, Vec::new()),
        ];
        assert_eq!(
            table(&all, false, Millis(2)).show(&Screen::plain()),
            "\
EVENT  TYPE              ID     ANSWER  HANDLER  STATUS  TRIES  HTTP  TOOK  MESSAGE
1f     message.received  evt_1  200     slack    done    1      200   12ms  -
1f     message.received  evt_1  200     crm      dead    1      200   12ms  reject: no leadId
1f     message.received  evt_1  200     slack    done    1      200   12ms  a duplicate: not handled again
-      message.received  evt_1  401     -        -       -      -     -     {\"error\":\"mismatch\"}
1f     message.received  evt_1  200     -        -       -      -     -     no subscription wants it
"
        );
    }

    fn event(status: Status) -> serde_json::Value {
        let delivery = DeliverySummary {
            subscription: Name::new("to-slack").unwrap(),
            handler: Name::new("slack").unwrap(),
            status,
        };
        serde_json::json!({ "rows": [EventRow { deliveries: vec![delivery], ..event_row() }], "next": null, "cut": false })
    }

    #[tokio::test]
    async fn it_is_watched_until_nothing_more_happens() {
        let nothing = serde_json::json!({ "rows": [], "next": null, "cut": false });
        let done = serde_json::json!({ "rows": [row("slack", Status::Done)], "next": null, "cut": false });
        let mut answers = vec![nothing, event(Status::Open), event(Status::Done), done].into_iter();
        let mut fake = Fake::answering(move |_| (200, answers.next().unwrap())).await;
        let mut all = [Sent { event: None, settled: false, ..sent(200, Vec::new()) }];
        let source = Name::new("sendpilot").unwrap();
        watch(&mut fake.daemon, &source, &mut all, Duration::from_secs(60)).await.unwrap();
        assert!(all[0].went_well());
        assert_eq!(all[0].deliveries.len(), 1);
        let asked = fake.asked();
        assert_eq!(asked[0], "GET /events?source=sendpilot&id=evt_1&limit=1");
        assert_eq!(asked[3], "GET /deliveries?event=1f3a&limit=1000");
    }

    #[tokio::test]
    async fn it_is_not_watched_for_ever() {
        let mut fake = Fake::answering(|_| (200, event(Status::Open))).await;
        let mut all = [Sent { event: None, settled: false, ..sent(200, Vec::new()) }];
        let source = Name::new("sendpilot").unwrap();
        // The last question is for the deliveries, of which this daemon has events to tell.
        let _ = watch(&mut fake.daemon, &source, &mut all, Duration::ZERO).await;
        assert!(!all[0].settled && !all[0].went_well());
        assert_eq!(fake.asked().len(), 2);
    }

    #[test]
    fn its_bounds_are_those_of_the_limits() {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            send: Send,
        }
        let line = |more: &[&str]| Line::try_parse_from([&["x", "sendpilot", "a.b"], more].concat());
        assert_eq!(line(&[]).unwrap().send.timeout, limits::SEND_WAIT_DEFAULT);
        let most = limits::SEND_COUNT_MAX;
        assert_eq!(line(&["--count", &most.to_string()]).unwrap().send.count, most);
        assert!(line(&["--count", &(most + 1).to_string()]).is_err());
        assert!(line(&["--count", "0"]).is_err());
    }
}
