//! Handlers: what runs, how busy it is, what waits for it and why; stopping one, and having it go on.

use clap::{Args, Subcommand};

use super::daemon::{Place, Query};
use super::events::{Pages, page, tell_more};
use super::screen::{Screen, Tone, clean};
use super::table::Table;
use super::times::relative;
use super::{Ended, Result};
use crate::admin::view::{HandlerView, LaneOrdered, SubscriptionView};
use crate::store::{LaneEntry, Page};
use crate::words::event::Name;
use crate::words::lane::{self, LaneChange, LaneState};
use crate::words::time::Millis;

/// List the configured handlers, pause and resume them.
#[derive(Debug, Subcommand)]
pub(super) enum Handlers {
    List(List),
    History(History),
    Pause(Pause),
    Resume(Resume),
}

/// List handlers: plugin, state, attempts now running, deliveries that wait, and what each is subscribed to.
///
/// STATE is `runs`; `paused`, by the operator; `open`, the breaker: a service that the handler calls is down, and
/// one delivery at a time looks whether it is back; `returning`, it is back, and attempts start few at once; or
/// `disabled`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longshore handlers list")]
pub(super) struct List {
    #[command(flatten)]
    place: Place,
}

/// Show when a handler was stopped and went on, by whom and why, newest first.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longshore handlers history crm-sync")]
pub(super) struct History {
    /// The handler, also one that is gone from the configuration.
    name: Name,
    #[command(flatten)]
    pages: Pages,
    #[command(flatten)]
    place: Place,
}

/// Pause a handler: no attempt starts until `resume`, also after a restart. Events are accepted and wait.
///
/// Attempts that run end as ever. The time does not count towards `retry.give_up_after`, but it does towards
/// `store.open_max_age`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longshore handlers pause crm-sync --reason 'HubSpot moves on Saturday'")]
pub(super) struct Pause {
    name: Name,
    /// One line for the log and the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Resume a handler: attempts start again, few at once first. Where its breaker is open, it sends a probe now.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longshore handlers resume crm-sync")]
pub(super) struct Resume {
    name: Name,
    /// One line for the log and the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    place: Place,
}

impl Handlers {
    pub(super) async fn run(self, screen: &Screen) -> Result {
        match self {
            Handlers::List(list) => list.run(screen).await,
            Handlers::History(history) => history.run(screen).await,
            Handlers::Pause(Pause { name, reason, place }) => {
                order("pause", &name, reason, &place, screen).await
            }
            Handlers::Resume(Resume { name, reason, place }) => {
                order("resume", &name, reason, &place, screen).await
            }
        }
    }
}

impl List {
    async fn run(self, screen: &Screen) -> Result {
        let mut daemon = self.place.connect().await?;
        let handlers: Vec<HandlerView> = daemon.get("/handlers", &Query::default()).await?;
        if screen.json {
            screen.print_json(&handlers)?;
        } else {
            let now = Millis::now();
            screen.data(&table(&handlers, now).show(screen))?;
            let stopped = handlers.iter().filter_map(|handler| {
                why(&handler.name, &handler.lane, handler.paused.as_ref(), handler.backlog.open, now)
            });
            stopped.into_iter().try_for_each(|line| screen.data(&format!("\n{line}\n")))?;
        }
        Ok(Ended::Well)
    }
}

impl History {
    async fn run(self, screen: &Screen) -> Result {
        let mut daemon = self.place.connect().await?;
        let path = format!("/handlers/{}/history", self.name);
        let page: Page<LaneEntry> = page(&mut daemon, &path, &Query::default(), &self.pages).await?;
        if screen.json {
            screen.print_json(&page)?;
            return Ok(Ended::Well);
        }
        screen.data(&changes(&page.rows).show(screen))?;
        tell_more(screen, &page);
        Ok(Ended::Well)
    }
}

async fn order(verb: &str, name: &Name, reason: Option<String>, place: &Place, screen: &Screen) -> Result {
    let query = Query::default().with("reason", reason);
    let mut daemon = place.connect().await?;
    let ordered: LaneOrdered = daemon.post_with(&format!("/handlers/{name}/{verb}"), &query).await?;
    match screen.json {
        true => screen.print_json(&ordered)?,
        false => screen.data(&format!("{}\n", done(verb, &ordered, Millis::now())))?,
    }
    Ok(Ended::Well)
}

fn done(verb: &str, ordered: &LaneOrdered, now: Millis) -> String {
    let LaneOrdered { handler, changed, lane, paused, waiting } = ordered;
    let stands = why(handler, lane, paused.as_ref(), *waiting, now);
    match (verb, changed, stands) {
        (_, true, Some(stands)) => stands,
        ("pause", false, Some(stands)) => format!("{stands} (it was paused already)"),
        (_, _, Some(stands)) => format!("it was not paused; {stands}"),
        (_, true, None) => format!("{handler}: runs; {waiting} deliveries wait"),
        (_, false, None) => format!("{handler}: was not paused, and runs"),
    }
}

/// A line on why attempts do not start as ever; None: they do.
fn why(
    name: &Name,
    lane: &LaneState,
    paused: Option<&lane::Pause>,
    waiting: u64,
    now: Millis,
) -> Option<String> {
    let stopped = stopped(lane, paused, now)?;
    let until =
        if paused.is_some() { format!(" for `longshore handlers resume {name}`") } else { String::new() };
    Some(format!("{name}: {stopped}; {waiting} deliveries wait{until}"))
}

/// The same of any one lane.
pub(super) fn stopped(lane: &LaneState, paused: Option<&lane::Pause>, now: Millis) -> Option<String> {
    if let Some(lane::Pause { since, reason }) = paused {
        let reason = reason.as_ref().map_or(String::new(), |reason| format!(": {}", clean(reason)));
        return Some(format!("paused {}{reason}", relative(*since, now)));
    }
    match lane {
        LaneState::Closed => None,
        LaneState::Open { origin, failures, since, why, probes, probe_at } => {
            let next = match probe_at {
                Some(at) if *at > now => format!("next probe {}", relative(*at, now)),
                Some(_) => "a probe is due".to_owned(),
                None => "a probe is under way".to_owned(),
            };
            let (first, why) = (relative(*since, now), clean(why));
            Some(format!(
                "open, {failures} failures in a row at {origin}, the first {first}, the last: {why}; {probes} probes since, {next}"
            ))
        }
        LaneState::Returning { at_once, of, .. } => {
            Some(format!("returning, {at_once} attempts of {of} at once"))
        }
    }
}

fn changes(entries: &[LaneEntry]) -> Table {
    let mut table = Table::new(["AT", "CHANGE", "BY", "WHY"]);
    for entry in entries {
        let (word, sentence) = (entry.change.word(), entry.change.to_string());
        // The word has a column of its own.
        let why = sentence.split_once(": ").map_or("", |(_, why)| why).to_owned();
        let tone = match entry.change {
            LaneChange::Opened { .. } | LaneChange::Paused { .. } => Tone::Waiting,
            _ => Tone::Plain,
        };
        table.row(tone, [entry.at.to_string(), word.to_owned(), entry.change.by().to_owned(), why]);
    }
    table
}

fn table(handlers: &[HandlerView], now: Millis) -> Table {
    let mut table = Table::new([
        "HANDLER",
        "PLUGIN",
        "DIGEST",
        "STATE",
        "RUNNING",
        "OPEN",
        "HELD",
        "PARKED",
        "OLDEST",
        "SUBSCRIPTIONS",
    ]);
    for handler in handlers {
        let waiting = &handler.backlog;
        let state = state(handler);
        let needs_someone = waiting.held + waiting.parked > 0 || state != "runs";
        table.row(
            if needs_someone { Tone::Waiting } else { Tone::Plain },
            [
                handler.name.to_string(),
                handler.plugin_name.clone(),
                handler.digest.short(),
                state.to_owned(),
                handler.running.to_string(),
                waiting.open.to_string(),
                waiting.held.to_string(),
                waiting.parked.to_string(),
                waiting.oldest_accepted_at.map(|at| relative(at, now)).unwrap_or_default(),
                subscriptions(&handler.subscriptions),
            ],
        );
    }
    table
}

fn state(handler: &HandlerView) -> &'static str {
    match (&handler.lane, &handler.paused) {
        _ if !handler.enabled => "disabled",
        (_, Some(_)) => "paused",
        (LaneState::Closed, None) => "runs",
        (stopped, None) => stopped.word(),
    }
}

fn subscriptions(subscriptions: &[SubscriptionView]) -> String {
    let one = |s: &SubscriptionView| {
        let disabled = if s.enabled { "" } else { ", disabled" };
        format!("{} ({}: {}{disabled})", s.name, s.source, s.events.join(" "))
    };
    subscriptions.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Backlog;
    use crate::words::digest::Digest;

    #[test]
    fn a_handler_shows_what_waits_for_it() {
        let subscription = SubscriptionView {
            name: Name::new("replies-to-slack").unwrap(),
            source: Name::new("sendpilot").unwrap(),
            events: vec!["*.received".to_owned()],
            enabled: true,
        };
        let handler = HandlerView {
            name: Name::new("slack-notify").unwrap(),
            enabled: true,
            plugin: "plugins/slack_notify.wasm".to_owned(),
            plugin_name: "slack-notify 0.1.0".to_owned(),
            digest: Digest::of(b"plugin"),
            contract: "0.1".to_owned(),
            concurrency: 32,
            rate: Some(1.0),
            running: 2,
            in_memory: 5,
            lane: LaneState::Closed,
            paused: None,
            backlog: Backlog { open: 5, held: 0, parked: 1, oldest_accepted_at: Some(Millis(1_000)) },
            subscriptions: vec![subscription],
        };
        let text = table(&[handler], Millis(61_000)).show(&Screen::plain());
        let expected = format!(
            "\
HANDLER       PLUGIN              DIGEST        STATE  RUNNING  OPEN  HELD  PARKED  OLDEST  SUBSCRIPTIONS
slack-notify  slack-notify 0.1.0  {}  runs   2        5     0     1       1m ago  replies-to-slack (sendpilot: *.received)
",
            Digest::of(b"plugin").short()
        );
        assert_eq!(text, expected);
    }

    fn down() -> LaneState {
        LaneState::Open {
            origin: "https://api.hubapi.com".to_owned(),
            failures: 20,
            since: Millis(1_000),
            why: "answered 503".to_owned(),
            probes: 3,
            probe_at: Some(Millis(91_000)),
        }
    }

    #[test]
    fn a_stopped_handler_says_why_and_what_to_type() {
        let crm = Name::new("crm-sync").unwrap();
        let now = Millis(61_000);
        assert_eq!(
            why(&crm, &down(), None, 40_000, now).unwrap(),
            "crm-sync: open, 20 failures in a row at https://api.hubapi.com, the first 1m ago, the last: answered 503; 3 probes since, next probe in 30s; 40000 deliveries wait"
        );
        let pause = lane::Pause { since: Millis(1_000), reason: Some("a move".to_owned()) };
        assert_eq!(
            why(&crm, &down(), Some(&pause), 7, now).unwrap(),
            "crm-sync: paused 1m ago: a move; 7 deliveries wait for `longshore handlers resume crm-sync`"
        );
        let returning = LaneState::Returning { at_once: 4, of: 32, since: Millis(1_000) };
        assert_eq!(
            why(&crm, &returning, None, 7, now).unwrap(),
            "crm-sync: returning, 4 attempts of 32 at once; 7 deliveries wait"
        );
        assert_eq!(why(&crm, &LaneState::Closed, None, 7, now), None);
    }

    #[test]
    fn an_order_says_what_it_led_to() {
        let pause = Some(lane::Pause { since: Millis(1_000), reason: None });
        let ordered = |changed, lane, paused| LaneOrdered {
            handler: Name::new("crm-sync").unwrap(),
            changed,
            lane,
            paused,
            waiting: 7,
        };
        let now = Millis(1_500);
        let cases = [
            ("pause", ordered(true, LaneState::Closed, pause.clone()), "crm-sync: paused 0ms ago; 7"),
            ("pause", ordered(false, LaneState::Closed, pause), "(it was paused already)"),
            ("resume", ordered(true, LaneState::Closed, None), "crm-sync: runs; 7 deliveries wait"),
            ("resume", ordered(false, LaneState::Closed, None), "crm-sync: was not paused, and runs"),
            ("resume", ordered(false, down(), None), "it was not paused; crm-sync: open, 20"),
        ];
        for (verb, ordered, part) in cases {
            let said = done(verb, &ordered, now);
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn history_is_a_table() {
        let entry = |at, change| LaneEntry { at: Millis(at), clock: Millis(at), change };
        let entries = [
            entry(1_790_000_060_000, LaneChange::Resumed { reason: None }),
            entry(1_790_000_000_000, LaneChange::Paused { reason: Some("a move".to_owned()) }),
        ];
        assert_eq!(
            changes(&entries).show(&Screen::plain()),
            "\
AT                        CHANGE   BY        WHY
2026-09-21T14:14:20.000Z  resumed  operator  -
2026-09-21T14:13:20.000Z  paused   operator  a move
"
        );
    }
}
