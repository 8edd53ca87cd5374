//! Events: what came in, and what came of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};

use super::daemon::{Daemon, Place, Query};
use super::failure::Failure;
use super::screen::{Screen, Tone, clean, clean_lines};
use super::table::Table;
use super::times::{moment_argument, took_us};
use super::{Ended, Result};
use crate::admin::view::EventDetail;
use crate::store::{DeliverySummary, EventRow, Page, Status};
use crate::words::event::{EventRef, Name};
use crate::words::limits;
use crate::words::time::Millis;

/// List the events that came in, or show one whole.
#[derive(Debug, Subcommand)]
pub(super) enum Events {
    List(List),
    Show(Show),
}

/// List events, newest first, with what came of each.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longshore events list --source sendpilot --type message.received --since 1h")]
pub(super) struct List {
    /// Only events of this source.
    #[arg(long, value_name = "NAME")]
    source: Option<Name>,
    /// Only events of exactly this type.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only the event with this id, as the provider gave it.
    #[arg(long)]
    id: Option<String>,
    /// Only events received since: a span as `1h`, or a time.
    #[arg(long, value_name = "WHEN", value_parser = moment_argument)]
    since: Option<Millis>,
    /// Only events received before: a span as `1h`, or a time.
    #[arg(long, value_name = "WHEN", value_parser = moment_argument)]
    until: Option<Millis>,
    #[command(flatten)]
    pages: Pages,
    #[command(flatten)]
    place: Place,
}

/// How much of a listing.
#[derive(Debug, Args)]
pub(super) struct Pages {
    /// At most this many rows, up to 1000.
    #[arg(long, value_name = "N", default_value_t = limits::PAGE_ROWS_DEFAULT as u64,
          value_parser = clap::value_parser!(u64).range(1..=limits::PAGE_ROWS_MAX as u64))]
    pub(super) limit: u64,
    /// Go on where the listing before ended.
    #[arg(long)]
    pub(super) cursor: Option<String>,
}

/// Show one event with its headers, its body and its deliveries.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore events show 1f3a
  longshore events show 1f3a --body | jq .data")]
pub(super) struct Show {
    /// The event's name in the ledger, the first column of `events list`.
    #[arg(value_name = "REF")]
    event: EventRef,
    /// Print nothing but the body, byte for byte.
    #[arg(long, conflicts_with = "json")]
    body: bool,
    #[command(flatten)]
    place: Place,
}

impl Events {
    pub(super) async fn run(self, screen: &Screen) -> Result {
        match self {
            Events::List(list) => list.run(screen).await,
            Events::Show(show) => show.run(screen).await,
        }
    }
}

impl List {
    async fn run(self, screen: &Screen) -> Result {
        let mut daemon = self.place.connect().await?;
        let query = Query::default()
            .with("source", self.source)
            .with("type", self.event_type)
            .with("id", self.id)
            .with("since", self.since.map(|at| at.0))
            .with("until", self.until.map(|at| at.0));
        let page: Page<EventRow> = page(&mut daemon, "/events", &query, &self.pages).await?;
        if screen.json {
            screen.print_json(&page)?;
            return Ok(Ended::Well);
        }
        screen.data(&table(&page.rows).show(screen))?;
        tell_more(screen, &page);
        Ok(Ended::Well)
    }
}

/// A listing as full as was asked for: a scan that ended at its bound is taken up again.
pub(super) async fn page<T: serde::de::DeserializeOwned>(
    daemon: &mut Daemon,
    path: &str,
    query: &Query,
    pages: &Pages,
) -> Result<Page<T>> {
    let wanted = usize::try_from(pages.limit).unwrap_or(limits::PAGE_ROWS_MAX);
    let mut whole = Page { rows: Vec::new(), next: pages.cursor.clone(), cut: true };
    while whole.cut && whole.rows.len() < wanted {
        let left = wanted - whole.rows.len();
        let query = query.clone().with("limit", Some(left)).with("cursor", whole.next.take());
        let part: Page<T> = daemon.get(path, &query).await?;
        whole.rows.extend(part.rows);
        whole.cut = part.cut && part.next.is_some();
        whole.next = part.next;
    }
    Ok(whole)
}

pub(super) fn tell_more<T>(screen: &Screen, page: &Page<T>) {
    if page.rows.is_empty() {
        screen.say("nothing found");
    }
    if let Some(next) = &page.next {
        screen.say(&format!("there are more: add `--cursor {next}`"));
    }
}

fn table(rows: &[EventRow]) -> Table {
    let mut table = Table::new([
        "EVENT",
        "TIME",
        "SOURCE",
        "TYPE",
        "ID",
        "ANSWERED",
        "IN",
        "AGAIN",
        "SECRET",
        "CAME OF IT",
    ]);
    for row in rows {
        table.row(
            tone_of(row.deliveries.iter().map(|d| d.status)),
            [
                row.event.to_string(),
                row.received_at.to_string(),
                row.source.to_string(),
                row.event_type.clone(),
                row.id.clone(),
                row.answered.to_string(),
                row.answer_us.map(took_us).unwrap_or_default(),
                again(row),
                row.secret.to_string(),
                came_of(row),
            ],
        );
    }
    table
}

fn tone_of(statuses: impl Iterator<Item = Status>) -> Tone {
    let worst = statuses.map(tone).max_by_key(|tone| match tone {
        Tone::Bad => 2,
        Tone::Waiting => 1,
        _ => 0,
    });
    worst.unwrap_or(Tone::Plain)
}

pub(super) fn tone(status: Status) -> Tone {
    match status {
        Status::Dead => Tone::Bad,
        Status::Held | Status::Parked => Tone::Waiting,
        Status::Open | Status::Done | Status::Skipped | Status::Cancelled => Tone::Plain,
    }
}

fn again(row: &EventRow) -> String {
    match row.body_differed {
        0 => row.redeliveries.to_string(),
        differed => format!("{} ({differed} differed)", row.redeliveries),
    }
}

fn came_of(row: &EventRow) -> String {
    let summary = |d: &DeliverySummary| format!("{} {}", d.subscription, d.status);
    let parts: Vec<_> = row.deliveries.iter().map(summary).collect();
    let text = if parts.is_empty() { "no subscription wants it".to_owned() } else { parts.join(", ") };
    if row.test { format!("test: {text}") } else { text }
}

// === show ===

impl Show {
    async fn run(self, screen: &Screen) -> Result {
        let mut daemon = self.place.connect().await?;
        let detail: EventDetail = daemon.get(&format!("/events/{}", self.event), &Query::default()).await?;
        if screen.json {
            screen.print_json(&detail)?;
        } else if self.body {
            screen.bytes(&body(&detail)?)?;
        } else {
            screen.data(&whole(&detail, screen)?)?;
        }
        Ok(Ended::Well)
    }
}

fn body(detail: &EventDetail) -> Result<Vec<u8>> {
    match (&detail.body, &detail.body_base64) {
        (Some(text), _) => Ok(text.clone().into_bytes()),
        (None, Some(text)) => STANDARD
            .decode(text)
            .map_err(|e| Failure::failed(format!("the daemon's answer has a broken body: {e}"))),
        (None, None) => Ok(Vec::new()),
    }
}

fn whole(detail: &EventDetail, screen: &Screen) -> Result<String> {
    let row = &detail.row;
    let mut text = facts(detail, screen);
    let mut deliveries = Table::new(["DELIVERY", "HANDLER", "STATUS"]);
    for d in &row.deliveries {
        let id = format!("{}.{}", row.event, d.subscription);
        deliveries.row(tone(d.status), [id, d.handler.to_string(), d.status.to_string()]);
    }
    if !deliveries.is_empty() {
        text += &format!("\n{}", deliveries.show(screen));
    }
    text += &format!("\n{}\n", screen.paint(Tone::Head, "HEADERS"));
    for (name, value) in &detail.headers {
        text += &format!("{}: {}\n", clean(name), clean(value));
    }
    text += &format!("\n{}\n", screen.paint(Tone::Head, "BODY"));
    let body = body(detail)?;
    text += &match std::str::from_utf8(&body) {
        Ok(body) => clean_lines(body) + "\n",
        Err(_) => format!("{} bytes that are no text; see them with --body\n", body.len()),
    };
    Ok(text)
}

fn facts(detail: &EventDetail, screen: &Screen) -> String {
    let row = &detail.row;
    let mut facts = vec![
        ("event", row.event.to_string()),
        ("source", row.source.to_string()),
        ("type", row.event_type.clone()),
        ("id", row.id.clone()),
        ("received", row.received_at.to_string()),
        ("signed", row.signed_at.map(|at| at.to_string()).unwrap_or_default()),
        ("secret", row.secret.to_string()),
        ("answered", answered(row)),
        ("redeliveries", again(row)),
        ("came of it", came_of(row)),
    ];
    facts.extend(detail.query.as_ref().map(|query| ("query", query.clone())));
    facts.push(("body", format!("{} bytes", row.body_bytes)));
    show_facts(&facts, screen)
}

fn answered(row: &EventRow) -> String {
    match row.answer_us {
        Some(us) => format!("{} after {}", row.answered, took_us(us)),
        None => row.answered.to_string(),
    }
}

/// Names and values, one pair a line.
pub(super) fn show_facts(facts: &[(&str, String)], screen: &Screen) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        let value = if value.is_empty() { "-".into() } else { clean(value) };
        format!("{}  {value}\n", screen.paint(Tone::Head, &format!("{name:width$}")))
    };
    facts.iter().map(line).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::daemon::fake::Fake;
    use crate::words::secret::Secret;

    pub(in crate::cli) fn row() -> EventRow {
        EventRow {
            event: "1f3a".parse().unwrap(),
            id: "evt_1708456789123_abc123def".to_owned(),
            event_type: "message.received".to_owned(),
            source: Name::new("sendpilot").unwrap(),
            received_at: Millis(1_790_000_000_123),
            signed_at: Some(Millis(1_790_000_000_000)),
            answered: 200,
            answer_us: Some(1_234),
            redeliveries: 2,
            body_differed: 1,
            secret: Secret::new("s").fingerprint(),
            body_bytes: 12,
            test: false,
            deliveries: vec![
                summary("replies-to-slack", "slack-notify", Status::Done),
                summary("leads-to-crm", "crm-sync", Status::Dead),
            ],
        }
    }

    fn summary(subscription: &str, handler: &str, status: Status) -> DeliverySummary {
        DeliverySummary {
            subscription: Name::new(subscription).unwrap(),
            handler: Name::new(handler).unwrap(),
            status,
        }
    }

    #[test]
    fn a_listing_shows_what_came_of_each_event() {
        let nobody = EventRow {
            event_type: String::new(),
            answer_us: None,
            redeliveries: 0,
            body_differed: 0,
            test: true,
            deliveries: Vec::new(),
            ..row()
        };
        let secret = row().secret;
        let text = table(&[row(), nobody]).show(&Screen::plain());
        let expected = format!(
            "\
EVENT  TIME                      SOURCE     TYPE              ID                           ANSWERED  IN     AGAIN          SECRET        CAME OF IT
1f3a   2026-09-21T14:13:20.123Z  sendpilot  message.received  evt_1708456789123_abc123def  200       1.2ms  2 (1 differed)  {secret}  replies-to-slack done, leads-to-crm dead
1f3a   2026-09-21T14:13:20.123Z  sendpilot  -                 evt_1708456789123_abc123def  200       -      0              {secret}  test: no subscription wants it
"
        );
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&text), squeezed(&expected));
        assert!(table(&[row()]).show(&Screen::terminal(80)).contains("\x1b[31m"));
    }

    #[test]
    fn an_event_whole_has_headers_and_body_and_obeys_nobody() {
        let detail = EventDetail {
            row: row(),
            query: Some("a=b".to_owned()),
            headers: vec![("content-type".to_owned(), "application/json\u{1b}[2J".to_owned())],
            body: Some("{\"a\":1}\n".to_owned()),
            body_base64: None,
        };
        let text = whole(&detail, &Screen::plain()).unwrap();
        for line in [
            "type          message.received",
            "answered      200 after 1.2ms",
            "query         a=b",
            "1f3a.leads-to-crm      crm-sync      dead",
            "content-type: application/json\u{fffd}[2J",
            "{\"a\":1}",
        ] {
            assert!(text.lines().any(|l| l == line), "`{line}` is not in\n{text}");
        }
        let binary = EventDetail { body: None, body_base64: Some("/wA=".to_owned()), ..detail };
        assert_eq!(body(&binary).unwrap(), [0xff, 0]);
        assert!(
            whole(&binary, &Screen::plain())
                .unwrap()
                .contains("2 bytes that are no text; see them with --body")
        );
    }

    /// A scan that ends at its bound before the page is full is taken up again, and no further than asked.
    #[tokio::test]
    async fn a_listing_is_as_full_as_was_asked_for() {
        let mut parts = vec![
            serde_json::json!({ "rows": [1], "next": "a", "cut": true }),
            serde_json::json!({ "rows": [], "next": "b", "cut": true }),
            serde_json::json!({ "rows": [2, 3], "next": "c", "cut": false }),
        ]
        .into_iter();
        let mut fake = Fake::answering(move |_| (200, parts.next().unwrap())).await;
        let pages = Pages { limit: 3, cursor: None };
        let found: Page<u32> = page(&mut fake.daemon, "/events", &Query::default(), &pages).await.unwrap();
        assert_eq!((found.rows, found.next.as_deref(), found.cut), (vec![1, 2, 3], Some("c"), false));
        let asked = ["GET /events?limit=3", "GET /events?limit=2&cursor=a", "GET /events?limit=2&cursor=b"];
        assert_eq!(fake.asked(), asked);
    }
}
