//! Rebuild: how long a start takes that finds no index, and makes it again from a large journal.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::daemon::{Daemon, Home, Wanted};
use super::figures::{bytes, span, whole};
use super::load::Load;
use super::results::{self, number};
use super::site::{Place, Site};
use crate::Result;
use crate::interrupt::Interrupts;

/// Measure: the index lost, and made again from a journal of 10 GiB; some 20 minutes and 25 GiB.
#[derive(Args)]
pub(super) struct Rebuild {
    /// How large that journal is.
    #[arg(long, default_value_t = 10.0, value_name = "GIB")]
    journal: f64,
    #[command(flatten)]
    place: Place,
}

const FILL_CONNECTIONS: u32 = 256;
const GIB: f64 = (1u64 << 30) as f64;

impl Rebuild {
    pub(super) fn run(self, interrupts: &Interrupts) -> Result<ExitCode> {
        let site = Site::open(&self.place, interrupts)?;
        let result = results::save(&site, "rebuild", self.rebuilt(&site)?)?;
        println!("{}: made again in {}", size(&result), span(number(&result, "start_us")));
        Ok(ExitCode::SUCCESS)
    }

    /// Events of the usual size until the journal has its size; then the index goes.
    fn rebuilt(&self, site: &Site<'_>) -> Result<Value> {
        let home = Home::scratch(site, Wanted::Nothing, false)?;
        let daemon = Daemon::start(site, &home)?;
        let (mut events, wanted) = (0, self.journal * GIB);
        let mut journal = 0.0;
        while journal < wanted {
            // As many as are missing, by what one has taken so far; the first ones show that.
            let each = if events == 0 { 1e5 } else { (wanted - journal) / (journal / events as f64) };
            let load =
                Load { connections: FILL_CONNECTIONS, events: Some(each.max(1e3) as u64), ..Load::default() };
            events += load.run(site, &daemon.address)?.answered();
            journal = daemon.metrics()?.journal_bytes() as f64;
            eprintln!("      a journal of {}", bytes(journal));
        }
        daemon.wait_for_index(site)?;
        drop(daemon);
        home.delete_index()?;
        let daemon = Daemon::start(site, &home)?;
        eprintln!("      made again in {}", span(daemon.ready_us));
        Ok(
            json!({"journal_bytes": journal, "events": events, "start_us": daemon.ready_us, "store": daemon.opened}),
        )
    }
}

/// Of the journal.
pub(super) fn size(result: &Value) -> String {
    let of = |key: &str| number(result, key);
    format!("{}, {} events", bytes(of("journal_bytes")), whole(of("events")))
}
