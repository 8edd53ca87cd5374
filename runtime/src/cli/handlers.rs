//! Handlers: what runs, how busy it is, and what waits for it.

use clap::{Args, Subcommand};

use super::daemon::{Place, Query};
use super::screen::{Screen, Tone};
use super::table::Table;
use super::times::relative;
use super::{Ended, Result};
use crate::admin::view::{HandlerView, SubscriptionView};
use crate::words::time::Millis;

/// List the configured handlers.
#[derive(Debug, Subcommand)]
pub(super) enum Handlers {
    List(List),
}

/// List handlers: plugin, attempts now running, deliveries that wait, and what each is subscribed to.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longshore handlers list")]
pub(super) struct List {
    #[command(flatten)]
    place: Place,
}

impl Handlers {
    pub(super) async fn run(self, screen: &Screen) -> Result {
        let Handlers::List(list) = self;
        let mut daemon = list.place.connect().await?;
        let handlers: Vec<HandlerView> = daemon.get("/handlers", &Query::default()).await?;
        if screen.json {
            screen.print_json(&handlers)?;
        } else {
            screen.data(&table(&handlers, Millis::now()).show(screen))?;
        }
        Ok(Ended::Well)
    }
}

fn table(handlers: &[HandlerView], now: Millis) -> Table {
    let mut table = Table::new([
        "HANDLER",
        "PLUGIN",
        "DIGEST",
        "RUNNING",
        "OPEN",
        "HELD",
        "PARKED",
        "OLDEST",
        "SUBSCRIPTIONS",
    ]);
    for handler in handlers {
        let waiting = &handler.backlog;
        let needs_someone = waiting.held + waiting.parked > 0 || !handler.enabled;
        table.row(
            if needs_someone { Tone::Waiting } else { Tone::Plain },
            [
                handler.name.to_string(),
                handler.plugin_name.clone(),
                handler.digest.short(),
                if handler.enabled { handler.running.to_string() } else { "disabled".to_owned() },
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
    use crate::words::event::Name;

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
            backlog: Backlog { open: 5, held: 0, parked: 1, oldest_accepted_at: Some(Millis(1_000)) },
            subscriptions: vec![subscription],
        };
        let text = table(&[handler], Millis(61_000)).show(&Screen::plain());
        let expected = format!(
            "\
HANDLER       PLUGIN              DIGEST        RUNNING  OPEN  HELD  PARKED  OLDEST  SUBSCRIPTIONS
slack-notify  slack-notify 0.1.0  {}  2        5     0     1       1m ago  replies-to-slack (sendpilot: *.received)
",
            Digest::of(b"plugin").short()
        );
        assert_eq!(text, expected);
    }
}
