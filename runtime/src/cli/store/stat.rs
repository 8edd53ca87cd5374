//! Stat: the figures of the store, from the daemon or, where none runs, from the files.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::failure;
use crate::admin::view::StatView;
use crate::cli::daemon::{Place, Query};
use crate::cli::deliveries::size;
use crate::cli::events::show_facts;
use crate::cli::failure::Failure;
use crate::cli::screen::{Screen, Tone};
use crate::cli::table::Table;
use crate::cli::times::relative;
use crate::cli::{Ended, Result};
use crate::store::Backlog;
use crate::store::tools::{self, OfflineStat};
use crate::words::time::Millis;

/// Print the figures of the store: sizes, what waits, how far everything has come.
///
/// Where no daemon runs they are counted from the journal, which is read whole; what only the index knows is then
/// left out.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore store stat
  longshore store stat --json | jq .backlog")]
pub(in crate::cli) struct Stat {
    #[command(flatten)]
    place: Place,
}

/// Null: not known, as the index is only open while a daemon runs, or since nobody counts it then.
#[derive(Debug, Default, Serialize)]
struct Figures {
    daemon: bool,
    segments: u64,
    journal_bytes: u64,
    live_bytes: Option<u64>,
    index_bytes: u64,
    free_bytes: u64,
    events: Option<u64>,
    keys: Option<u64>,
    durable_position: u64,
    index_lag_records: Option<u64>,
    torn_bytes: Option<u64>,
    failed: Option<String>,
    damaged: Option<String>,
    backlog: BTreeMap<String, Backlog>,
}

impl Stat {
    pub(super) async fn run(self, screen: &Screen) -> Result {
        let figures = match self.place.connect().await {
            Ok(mut daemon) => of_daemon(daemon.get("/stat", &Query::default()).await?),
            Err(Failure::NoDaemon { .. }) => {
                let data = self.place.data_dir()?;
                of_files(tools::stat(&data, Millis::now()).map_err(|error| failure(error, &data))?)
            }
            Err(other) => return Err(other),
        };
        if screen.json {
            screen.print_json(&figures)?;
        } else {
            screen.data(&text(&figures, Millis::now(), screen))?;
        }
        Ok(Ended::Well)
    }
}

fn of_daemon(stat: StatView) -> Figures {
    let ledger = stat.ledger;
    Figures {
        daemon: true,
        segments: ledger.segments,
        journal_bytes: ledger.journal_bytes,
        live_bytes: Some(ledger.live_bytes),
        index_bytes: ledger.index_bytes,
        free_bytes: ledger.free_bytes,
        events: None,
        keys: None,
        durable_position: ledger.durable_position,
        index_lag_records: Some(ledger.index_lag_records),
        torn_bytes: None,
        failed: ledger.failed,
        damaged: ledger.damaged,
        backlog: ledger.backlog,
    }
}

fn of_files(stat: OfflineStat) -> Figures {
    let places = stat.damaged_places;
    Figures {
        daemon: false,
        segments: stat.segments,
        journal_bytes: stat.journal_bytes,
        live_bytes: None,
        index_bytes: stat.index_bytes,
        free_bytes: stat.free_bytes,
        events: Some(stat.events),
        keys: Some(stat.keys),
        durable_position: stat.durable_position,
        index_lag_records: None,
        torn_bytes: Some(stat.torn_bytes),
        failed: None,
        damaged: (places > 0)
            .then(|| format!("{}; type: longshore store check", super::count(places, "place"))),
        backlog: stat.backlog,
    }
}

fn text(figures: &Figures, now: Millis, screen: &Screen) -> String {
    let known = |figure: Option<u64>| figure.map(|figure| figure.to_string()).unwrap_or_default();
    let facts = [
        ("daemon", if figures.daemon { "runs" } else { "does not run" }.to_owned()),
        ("segments", figures.segments.to_string()),
        ("journal", size(figures.journal_bytes)),
        ("live", figures.live_bytes.map(size).unwrap_or_default()),
        ("index", size(figures.index_bytes)),
        ("free", size(figures.free_bytes)),
        ("events", known(figures.events)),
        ("keys", known(figures.keys)),
        ("durable up to", format!("{:x}", figures.durable_position)),
        ("index lags", figures.index_lag_records.map(|lag| super::count(lag, "record")).unwrap_or_default()),
        ("torn", figures.torn_bytes.map(size).unwrap_or_default()),
        ("failed", figures.failed.clone().unwrap_or_default()),
        ("damaged", figures.damaged.clone().unwrap_or_default()),
    ];
    let mut table = Table::new(["HANDLER", "OPEN", "HELD", "PARKED", "OLDEST"]);
    for (handler, waiting) in &figures.backlog {
        let tone = if waiting.held + waiting.parked > 0 { Tone::Waiting } else { Tone::Plain };
        let oldest = waiting.oldest_accepted_at.map(|at| relative(at, now)).unwrap_or_default();
        let numbers = [waiting.open, waiting.held, waiting.parked].map(|number| number.to_string());
        let [open, held, parked] = numbers;
        table.row(tone, [handler.clone(), open, held, parked, oldest]);
    }
    let mut text = show_facts(&facts, screen);
    if !table.is_empty() {
        text += &format!("\n{}", table.show(screen));
    }
    text
}
