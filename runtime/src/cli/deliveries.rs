//! Deliveries: how each event fared with each handler, and the operator's word on it.

use std::io::{IsTerminal as _, Write as _};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;

use super::daemon::{Daemon, Place, Query};
use super::events::{Pages, page, show_facts, tell_more, tone};
use super::failure::Failure;
use super::handlers::stopped;
use super::rerun::{Export, Rerun};
use super::screen::{Screen, Tone, clean};
use super::table::Table;
use super::times::{moment_argument, relative, took};
use super::{Ended, Result};
use crate::admin::view::{DeliveryDetail, Ruled};
use crate::store::{DeliveryRow, Page, Status};
use crate::words::attempt::{Attempt, CallRecord, ErrorKind, LogLine, Outcome};
use crate::words::effect::Resolution;
use crate::words::event::{DeliveryId, EventRef, Name};
use crate::words::limits;
use crate::words::time::Millis;

/// List deliveries, show one with its attempts, run some again, end some, say what became of a call; and take one along
/// as a file, and run that again without a network.
#[derive(Debug, Subcommand)]
pub(super) enum Deliveries {
    List(List),
    Show(Show),
    Retry(Retry),
    Cancel(Cancel),
    Resolve(Resolve),
    Export(Export),
    Rerun(Rerun),
}

/// List deliveries, newest first: one for each event and subscription.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore deliveries list --status dead --handler slack-notify --since 1d
  longshore deliveries list --json | jq -r '.rows[] | [.delivery, .status] | @tsv'")]
pub(super) struct List {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    pages: Pages,
    #[command(flatten)]
    place: Place,
}

/// Show one delivery: every attempt with its calls, its log and its outcome.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longshore deliveries show 1f3a.replies-to-slack")]
pub(super) struct Show {
    /// The first column of `deliveries list`.
    delivery: DeliveryId,
    #[command(flatten)]
    place: Place,
}

/// Run deliveries again now, whatever state they are in. One that is done makes all its calls anew; of any other, calls
/// that happened are not made again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore deliveries retry 1f3a.replies-to-slack
  longshore deliveries retry --status dead --handler slack-notify --since 1d --yes")]
pub(super) struct Retry {
    #[command(flatten)]
    which: Which,
}

/// End deliveries that have not ended: they are not tried again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore deliveries cancel 1f3a.replies-to-slack
  longshore deliveries cancel --status held --handler old-crm")]
pub(super) struct Cancel {
    #[command(flatten)]
    which: Which,
}

/// Say what became of the call that a parked delivery waits with; it runs again at once.
///
/// `deliveries show` names the call. Of one that was perhaps sent: `--happened` answers it with 200 and nothing more and
/// never sends it, `--did-not` sends it with a new idempotency key, `--send` with the old one. Of one that changed with the
/// plugin: `--happened` answers it as the one that happened, the other two send it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore deliveries resolve 1f3a.replies-to-slack --happened
  longshore deliveries resolve --status parked --handler slack-notify --send --yes")]
pub(super) struct Resolve {
    #[command(flatten)]
    word: Word,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Word {
    /// It did: do not send it.
    #[arg(long)]
    happened: bool,
    /// It did not: send it, as a new call.
    #[arg(long)]
    did_not: bool,
    /// Nobody knows: send it again.
    #[arg(long)]
    send: bool,
}

impl Word {
    fn resolution(&self) -> Resolution {
        match (self.happened, self.did_not) {
            (true, _) => Resolution::Happened,
            (_, true) => Resolution::DidNot,
            _ => Resolution::Send,
        }
    }
}

/// What is asked of the daemon about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Retry,
    Cancel,
    Resolve(Resolution),
}

impl Order {
    fn verb(self) -> &'static str {
        match self {
            Order::Retry => "retry",
            Order::Cancel => "cancel",
            Order::Resolve(_) => "resolve",
        }
    }

    fn path(self, id: &DeliveryId) -> String {
        match self {
            Order::Resolve(resolution) => format!("/deliveries/{id}/resolve/{resolution}"),
            order => format!("/deliveries/{id}/{}", order.verb()),
        }
    }
}

#[derive(Debug, Args)]
struct Which {
    /// The first column of `deliveries list`; none: all that the filters find, for which --status is needed.
    #[arg(value_name = "DELIVERY", conflicts_with_all = FILTERS)]
    deliveries: Vec<DeliveryId>,
    #[command(flatten)]
    filter: Filter,
    /// Do not ask before touching what the filters found.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

const FILTERS: [&str; 9] =
    ["status", "handler", "source", "event_type", "event", "error", "error_kind", "since", "until"];

#[derive(Debug, Default, Args)]
struct Filter {
    /// Only deliveries in this state.
    #[arg(long, value_parser = word::<Status>(&STATUSES))]
    status: Option<Status>,
    /// Only deliveries to this handler.
    #[arg(long, value_name = "NAME")]
    handler: Option<Name>,
    /// Only deliveries of events of this source.
    #[arg(long, value_name = "NAME")]
    source: Option<Name>,
    /// Only deliveries of events of exactly this type.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only deliveries of this event, as `events list` names it.
    #[arg(long, value_name = "REF")]
    event: Option<EventRef>,
    /// Only deliveries whose last error contains this text.
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
    /// Only deliveries whose last error is of this kind.
    #[arg(long, value_name = "KIND", value_parser = word::<ErrorKind>(&ERROR_KINDS))]
    error_kind: Option<ErrorKind>,
    /// Only events accepted since: a span as `1h`, or a time.
    #[arg(long, value_name = "WHEN", value_parser = moment_argument)]
    since: Option<Millis>,
    /// Only events accepted before: a span as `1h`, or a time.
    #[arg(long, value_name = "WHEN", value_parser = moment_argument)]
    until: Option<Millis>,
}

const STATUSES: [&str; 7] = ["open", "held", "parked", "done", "skipped", "dead", "cancelled"];
const ERROR_KINDS: [&str; 9] =
    ["retry", "reject", "trap", "timeout", "memory", "denied", "host", "interrupted", "uncertain"];

/// A word of a closed set, read as the API writes it.
fn word<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    words: &'static [&str],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(words).try_map(|text| serde_json::from_value(serde_json::Value::String(text)))
}

/// A value as the API writes it.
fn wire_word(value: &impl serde::Serialize) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(str::to_owned)
}

impl Filter {
    fn query(&self) -> Query {
        Query::default()
            .with("status", self.status)
            .with("handler", self.handler.as_ref())
            .with("source", self.source.as_ref())
            .with("type", self.event_type.as_ref())
            .with("event", self.event)
            .with("error", self.error.as_ref())
            .with("error_kind", self.error_kind.as_ref().and_then(wire_word))
            .with("since", self.since.map(|at| at.0))
            .with("until", self.until.map(|at| at.0))
    }
}

impl Deliveries {
    pub(super) async fn run(self, screen: &Screen) -> Result {
        match self {
            Deliveries::List(list) => list.run(screen).await,
            Deliveries::Show(show) => show.run(screen).await,
            Deliveries::Retry(retry) => retry.which.rule(Order::Retry, screen).await,
            Deliveries::Cancel(cancel) => cancel.which.rule(Order::Cancel, screen).await,
            Deliveries::Resolve(resolve) => {
                resolve.which.rule(Order::Resolve(resolve.word.resolution()), screen).await
            }
            Deliveries::Export(export) => export.run(screen).await,
            Deliveries::Rerun(rerun) => rerun.run(screen).await,
        }
    }
}

// === list ===

impl List {
    async fn run(self, screen: &Screen) -> Result {
        let mut daemon = self.place.connect().await?;
        let page: Page<DeliveryRow> =
            page(&mut daemon, "/deliveries", &self.filter.query(), &self.pages).await?;
        if screen.json {
            screen.print_json(&page)?;
            return Ok(Ended::Well);
        }
        screen.data(&table(&page.rows, Millis::now()).show(screen))?;
        tell_more(screen, &page);
        Ok(Ended::Well)
    }
}

fn table(rows: &[DeliveryRow], now: Millis) -> Table {
    let mut table = Table::new([
        "DELIVERY", "ACCEPTED", "TYPE", "EVENT ID", "HANDLER", "STATUS", "TRIES", "HTTP", "TOOK", "MESSAGE",
    ]);
    for row in rows {
        table.row(
            tone(row.status),
            [
                row.delivery.to_string(),
                row.accepted_at.to_string(),
                row.event_type.clone(),
                row.event_id.clone(),
                row.handler.to_string(),
                row.status.to_string(),
                row.attempts.to_string(),
                row.last_status.map(|status| status.to_string()).unwrap_or_default(),
                row.last_took_ms.map(took).unwrap_or_default(),
                message(row, now),
            ],
        );
    }
    table
}

/// What there is to say: when it is tried next, how it failed, why it ended.
pub(super) fn message(row: &DeliveryRow, now: Millis) -> String {
    let next = row.next_at.filter(|_| row.status == Status::Open && row.attempts > 0);
    let next =
        next.map(|at| if at > now { format!("again {}", relative(at, now)) } else { "again now".into() });
    let kind = row.error_kind.as_ref().and_then(wire_word);
    let said = match (kind, &row.message) {
        (Some(kind), Some(message)) => Some(format!("{kind}: {message}")),
        (Some(kind), None) => Some(kind),
        (None, message) => message.clone(),
    };
    let parts: Vec<_> = next.into_iter().chain(said).collect();
    parts.join("; ")
}

// === show ===

impl Show {
    async fn run(self, screen: &Screen) -> Result {
        let mut daemon = self.place.connect().await?;
        let path = format!("/deliveries/{}", self.delivery);
        let history: DeliveryDetail = daemon.get(&path, &Query::default()).await?;
        if screen.json {
            screen.print_json(&history)?;
        } else {
            screen.data(&whole(&history, Millis::now(), screen))?;
        }
        Ok(Ended::Well)
    }
}

fn whole(detail: &DeliveryDetail, now: Millis, screen: &Screen) -> String {
    let DeliveryDetail { history, lane, paused } = detail;
    let row = &history.row;
    let facts = [
        ("delivery", row.delivery.to_string()),
        ("event", format!("{} {}{}", row.event_type, row.event_id, if row.test { ", a test" } else { "" })),
        ("source", row.source.to_string()),
        ("handler", row.handler.to_string()),
        ("status", screen.paint(tone(row.status), &row.status.to_string())),
        ("accepted", row.accepted_at.to_string()),
        ("next try", row.next_at.map(|at| format!("{at}, {}", relative(at, now))).unwrap_or_default()),
        ("ended", row.ended_at.map(|at| at.to_string()).unwrap_or_default()),
        ("attempts", row.attempts.to_string()),
        ("message", row.message.clone().unwrap_or_default()),
    ];
    // The status may carry a colour, which `show_facts` would take for a stranger's.
    let mut text: String = facts.iter().map(|fact| fact_line(fact, screen)).collect();
    if let Some(stopped) = stopped(lane, paused.as_ref(), now) {
        text += &fact_line(&("lane", stopped), screen);
    }
    for attempt in &history.attempts {
        text += &attempt_text(attempt, screen);
    }
    for lost in &history.interrupted {
        let line = format!("ATTEMPT {} began {}", lost.number, lost.began_at);
        text += &format!(
            "\n{}\nthe daemon ended in it; nothing else is known\n",
            screen.paint(Tone::Waiting, &line)
        );
    }
    for ruling in &history.rulings {
        let order = wire_word(&ruling.ruling).unwrap_or_default();
        let word = ruling.resolution.map(|word| format!(", whose word on the call is `{word}`"));
        text += &format!("\n{order} by the operator at {}{}\n", ruling.at, word.unwrap_or_default());
    }
    text
}

fn fact_line((name, value): &(&str, String), screen: &Screen) -> String {
    if *name == "status" {
        return format!("{}  {value}\n", screen.paint(Tone::Head, &format!("{name:8}")));
    }
    show_facts(&[(&format!("{name:8}"), value.clone())], screen)
}

/// One attempt: how it ended, what it called, what it said.
pub(super) fn attempt_text(attempt: &Attempt, screen: &Screen) -> String {
    let head = format!("ATTEMPT {} at {}", attempt.number, attempt.started_at);
    let mut text = format!("\n{}\n", screen.paint(Tone::Head, &head));
    let (tone, outcome) = outcome_text(&attempt.outcome);
    text += &format!("{}\n", screen.paint(tone, &clean(&outcome)));
    text += &format!(
        "took {}, {} of memory, plugin {}\n",
        took(attempt.took_ms),
        size(attempt.memory_bytes),
        attempt.plugin.short()
    );
    text += &calls_text(&attempt.calls, screen);
    text += &logs_text(&attempt.logs, screen);
    text
}

pub(super) fn outcome_text(outcome: &Outcome) -> (Tone, String) {
    let noted = |word: &str, note: &Option<String>| match note {
        Some(note) => format!("{word}: {note}"),
        None => word.to_owned(),
    };
    match outcome {
        Outcome::Done { note } => (Tone::Good, noted("done", note)),
        Outcome::Skipped { note } => (Tone::Good, noted("skipped", note)),
        Outcome::Failed { kind, blame, reason, permanent, after_ms } => {
            let kind = wire_word(kind).unwrap_or_default();
            let blame = wire_word(blame).unwrap_or_default();
            let wait = after_ms.map(|ms| format!(", asked to wait {}", took(ms))).unwrap_or_default();
            let how = if *permanent { "failed for good" } else { "failed" };
            (Tone::Bad, format!("{how} ({kind}, blame: {blame}{wait}): {reason}"))
        }
    }
}

pub(super) fn calls_text(calls: &[CallRecord], screen: &Screen) -> String {
    if calls.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["CALL", "METHOD", "HTTP", "TOOK", "SENT", "GOT", "SECRETS", "TARGET"]);
    for call in calls {
        let tone = if call.error.is_some() { Tone::Bad } else { Tone::Plain };
        table.row(
            tone,
            [
                call.number.to_string(),
                call.method.clone(),
                call.status.map(|status| status.to_string()).unwrap_or_default(),
                took(call.took_ms),
                size(call.request_bytes),
                size(call.response_bytes),
                call.credentials.join(", "),
                call_target(call),
            ],
        );
    }
    table.show(screen)
}

fn call_target(call: &CallRecord) -> String {
    let mut text = call.target.clone();
    text += call.key.as_ref().map(|key| format!(" key {key}")).as_deref().unwrap_or("");
    text += if call.recorded { ", from the record" } else { "" };
    text += if call.disowned { ", disowned" } else { "" };
    text += if call.after_unknown { ", perhaps sent before" } else { "" };
    text + call.error.as_ref().map(|error| format!(": {error}")).as_deref().unwrap_or("")
}

pub(super) fn logs_text(logs: &[LogLine], screen: &Screen) -> String {
    let line = |log: &LogLine| {
        let level = wire_word(&log.level).unwrap_or_default();
        let fields: String = log.fields.iter().map(|(k, v)| format!(" {k}={v}")).collect();
        let text = format!("{:>7}  {level:5}  {}{fields}", format!("+{}", took(log.at_ms)), log.message);
        let tone = match level.as_str() {
            "error" => Tone::Bad,
            "warn" => Tone::Waiting,
            _ => Tone::Plain,
        };
        screen.paint(tone, &clean(&text)) + "\n"
    };
    logs.iter().map(line).collect()
}

/// `640 B`, `1.2 KiB`, `3.0 MiB`
pub(super) fn size(bytes: u64) -> String {
    const KIB: u64 = limits::KIB as u64;
    const MIB: u64 = limits::MIB as u64;
    match bytes {
        0..KIB => format!("{bytes} B"),
        KIB..MIB => format!("{:.1} KiB", bytes as f64 / KIB as f64),
        _ => format!("{:.1} MiB", bytes as f64 / MIB as f64),
    }
}

// === retry and cancel ===

impl Which {
    async fn rule(self, order: Order, screen: &Screen) -> Result {
        if self.deliveries.is_empty() && self.filter.status.is_none() {
            return Err(Failure::Usage(
                "name deliveries, or say which with --status (and further filters)".to_owned(),
            ));
        }
        let mut daemon = self.place.connect().await?;
        let named = !self.deliveries.is_empty();
        let ids = if named { self.deliveries } else { find(&mut daemon, &self.filter, screen).await? };
        if !named && !self.yes && !ids.is_empty() {
            confirm(order, ids.len())?;
        }
        let told = carry_out(&mut daemon, order, &ids, screen).await?;
        if screen.json {
            screen.print_json(&told)?;
        }
        Ok(if told.failed.is_empty() { Ended::Well } else { Ended::Badly })
    }
}

/// All that the filters find, before any of it is touched: a retry changes what the filters see.
async fn find(daemon: &mut Daemon, filter: &Filter, screen: &Screen) -> Result<Vec<DeliveryId>> {
    let mut ids = Vec::new();
    let mut pages = Pages { limit: limits::PAGE_ROWS_MAX as u64, cursor: None };
    loop {
        let found: Page<DeliveryRow> = page(daemon, "/deliveries", &filter.query(), &pages).await?;
        ids.extend(found.rows.into_iter().map(|row| row.delivery));
        pages.cursor = found.next;
        if pages.cursor.is_none() {
            break;
        }
        if ids.len() >= limits::BULK_DELIVERIES_MAX {
            screen.say(&format!("there are more than {}; run this again for the rest", ids.len()));
            break;
        }
    }
    ids.truncate(limits::BULK_DELIVERIES_MAX);
    Ok(ids)
}

fn confirm(order: Order, count: usize) -> Result<()> {
    let order = order.verb();
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("this would {order} {count} deliveries; add --yes to do it")));
    }
    let mut err = std::io::stderr();
    let _ = write!(err, "{order} {count} deliveries? [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was done")),
    }
}

/// What became of an order, for `--json`.
#[derive(Default, serde::Serialize)]
struct Told {
    ruled: Vec<Ruled>,
    failed: Vec<NotRuled>,
}

#[derive(serde::Serialize)]
struct NotRuled {
    delivery: DeliveryId,
    error: String,
}

async fn carry_out(daemon: &mut Daemon, order: Order, ids: &[DeliveryId], screen: &Screen) -> Result<Told> {
    let mut told = Told::default();
    for id in ids {
        match daemon.post::<Ruled>(&order.path(id)).await {
            Ok(ruled) => told.ruled.push(ruled),
            Err(Failure::Failed { message, .. }) => {
                let known = message.contains(&id.to_string());
                let subject = if known { String::new() } else { format!("{id}: ") };
                screen.say(&format!("{subject}{}", clean(&message)));
                told.failed.push(NotRuled { delivery: id.clone(), error: message });
            }
            Err(failure) => return Err(failure),
        }
    }
    let past = if order == Order::Cancel { "cancelled" } else { "due now" };
    screen.say(&format!("{} {past}, {} failed", told.ruled.len(), told.failed.len()));
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::daemon::fake::Fake;
    use crate::store::{DeliveryHistory, Interrupted, Ruling, RulingRow};
    use crate::words::attempt::{Blame, LogLevel};
    use crate::words::digest::Digest;
    use crate::words::lane::{LaneState, Pause};

    fn row() -> DeliveryRow {
        DeliveryRow {
            delivery: "1f3a.replies-to-slack".parse().unwrap(),
            event_id: "evt_1".to_owned(),
            event_type: "message.received".to_owned(),
            source: Name::new("sendpilot").unwrap(),
            handler: Name::new("slack-notify").unwrap(),
            status: Status::Open,
            accepted_at: Millis(1_790_000_000_123),
            attempts: 2,
            next_at: Some(Millis(1_790_000_012_000)),
            ended_at: None,
            last_status: Some(503),
            last_took_ms: Some(120),
            error_kind: Some(ErrorKind::Retry),
            message: Some("hooks.slack.com answered 503".to_owned()),
            test: false,
        }
    }

    #[test]
    fn a_listing_says_how_each_delivery_fares() {
        let dead = DeliveryRow { status: Status::Dead, next_at: None, error_kind: None, ..row() };
        let text = table(&[row(), dead], Millis(1_790_000_008_000)).show(&Screen::plain());
        assert_eq!(
            text,
            "\
DELIVERY               ACCEPTED                  TYPE              EVENT ID  HANDLER       STATUS  TRIES  HTTP  TOOK   MESSAGE
1f3a.replies-to-slack  2026-09-21T14:13:20.123Z  message.received  evt_1     slack-notify  open    2      503   120ms  again in 4s; retry: hooks.slack.com answered 503
1f3a.replies-to-slack  2026-09-21T14:13:20.123Z  message.received  evt_1     slack-notify  dead    2      503   120ms  hooks.slack.com answered 503
"
        );
    }

    fn detail() -> DeliveryDetail {
        let call = CallRecord {
            number: 0,
            method: "POST".to_owned(),
            target: "https://hooks.slack.com (webhook)".to_owned(),
            key: None,
            status: Some(503),
            error: None,
            took_ms: 80,
            request_bytes: 1500,
            response_bytes: 2,
            credentials: vec!["webhook".to_owned()],
            recorded: false,
            disowned: false,
            after_unknown: false,
            effect: None,
            digest: None,
        };
        let log = LogLine {
            at_ms: 12,
            level: LogLevel::Info,
            message: "posting".to_owned(),
            fields: vec![("lead".to_owned(), "l-1".to_owned())],
        };
        let attempt = Attempt {
            number: 1,
            started_at: Millis(1_790_000_001_000),
            took_ms: 120,
            outcome: Outcome::Failed {
                kind: ErrorKind::Retry,
                blame: Blame::Remote,
                reason: "hooks.slack.com answered 503".to_owned(),
                permanent: false,
                after_ms: Some(3000),
            },
            calls: vec![call],
            logs: vec![log],
            plugin: Digest::of(b"plugin"),
            memory_bytes: 2 << 20,
            tape: None,
        };
        let interrupted =
            Interrupted { number: 2, began_at: Millis(1_790_000_005_000), plugin: Digest::of(b"plugin") };
        let ruling = RulingRow { at: Millis(1_790_000_006_000), ruling: Ruling::Retry, resolution: None };
        let history = DeliveryHistory {
            row: row(),
            attempts: vec![attempt],
            interrupted: vec![interrupted],
            rulings: vec![ruling],
        };
        DeliveryDetail { history, lane: LaneState::Closed, paused: None }
    }

    #[test]
    fn a_delivery_whole_tells_its_story() {
        let text = whole(&detail(), Millis(1_790_000_008_000), &Screen::plain());
        let expected = format!(
            "\
delivery  1f3a.replies-to-slack
event     message.received evt_1
source    sendpilot
handler   slack-notify
status    open
accepted  2026-09-21T14:13:20.123Z
next try  2026-09-21T14:13:32.000Z, in 4s
ended     -
attempts  2
message   hooks.slack.com answered 503

ATTEMPT 1 at 2026-09-21T14:13:21.000Z
failed (retry, blame: remote, asked to wait 3.0s): hooks.slack.com answered 503
took 120ms, 2.0 MiB of memory, plugin {}
CALL  METHOD  HTTP  TOOK  SENT     GOT  SECRETS  TARGET
0     POST    503   80ms  1.5 KiB  2 B  webhook  https://hooks.slack.com (webhook)
  +12ms  info   posting lead=l-1

ATTEMPT 2 began 2026-09-21T14:13:25.000Z
the daemon ended in it; nothing else is known

retry by the operator at 2026-09-21T14:13:26.000Z
",
            Digest::of(b"plugin").short()
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn an_open_delivery_of_a_stopped_handler_says_so() {
        let pause = Pause { since: Millis(1_790_000_000_000), reason: Some("a move".to_owned()) };
        let paused = DeliveryDetail { paused: Some(pause), ..detail() };
        let text = whole(&paused, Millis(1_790_000_008_000), &Screen::plain());
        assert!(text.contains("\nlane      paused 8s ago: a move\n"), "{text}");
    }

    #[test]
    fn every_word_of_the_sets_is_known_to_the_api() {
        for status in STATUSES {
            let parsed: Status = serde_json::from_value(status.into()).unwrap();
            assert_eq!(parsed.to_string(), status);
        }
        for kind in ERROR_KINDS {
            let parsed: ErrorKind = serde_json::from_value(kind.into()).unwrap();
            assert_eq!(wire_word(&parsed).unwrap(), kind);
        }
    }

    #[test]
    fn orders_without_a_name_or_a_status_are_refused_before_anything_is_asked() {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Line {
            #[command(subcommand)]
            deliveries: Deliveries,
        }
        let line = Line::try_parse_from(["x", "retry", "--handler", "slack-notify"]).unwrap();
        let failure = super::super::wait_for(line.deliveries.run(&Screen::plain())).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(Line::try_parse_from(["x", "retry", "1f.a", "--status", "dead"]).is_err());
        assert!(Line::try_parse_from(["x", "cancel", "not a delivery"]).is_err());
        assert!(Line::try_parse_from(["x", "list", "--status", "lost"]).is_err());
    }

    /// Found before any is touched, a thousand at a time, and not more than the bound.
    #[tokio::test]
    async fn an_order_with_filters_touches_a_bounded_number() {
        let rows = serde_json::to_value(vec![row(); limits::PAGE_ROWS_MAX]).unwrap();
        let mut fake = Fake::answering(move |_| {
            (200, serde_json::json!({ "rows": rows, "next": "more", "cut": false }))
        })
        .await;
        let filter = Filter { status: Some(Status::Dead), ..Filter::default() };
        let ids = find(&mut fake.daemon, &filter, &Screen::plain()).await.unwrap();
        assert_eq!(ids.len(), limits::BULK_DELIVERIES_MAX);
        assert_eq!(fake.asked().len(), limits::BULK_DELIVERIES_MAX / limits::PAGE_ROWS_MAX);
        assert_eq!(fake.asked()[1], "GET /deliveries?status=dead&limit=1000&cursor=more");
    }

    /// One that cannot be ruled does not keep the others from it.
    #[tokio::test]
    async fn an_order_is_carried_out_one_by_one() {
        let mut fake = Fake::answering(|question| match question {
            "POST /deliveries/1.a/retry" => {
                (200, serde_json::json!({ "delivery": "1.a", "ruling": "retry" }))
            }
            _ => (404, serde_json::json!({ "error": "no delivery `2.a`" })),
        })
        .await;
        let ids = ["2.a".parse().unwrap(), "1.a".parse().unwrap()];
        let told = carry_out(&mut fake.daemon, Order::Retry, &ids, &Screen::plain()).await.unwrap();
        let told = serde_json::to_value(told).unwrap();
        let expected = serde_json::json!({
            "ruled": [{ "delivery": "1.a", "ruling": "retry" }],
            "failed": [{ "delivery": "2.a", "error": "no delivery `2.a`" }],
        });
        assert_eq!(told, expected);
    }
}
