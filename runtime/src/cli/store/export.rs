//! Export: everything that is known of each event, as lines of JSON.

use clap::Args;

use super::{count, failure};
use crate::cli::daemon::{Place, Query};
use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::times::moment_argument;
use crate::cli::{Ended, Result};
use crate::store::tools::{ExportFilter, Snapshot};
use crate::words::event::Name;
use crate::words::limits::EXPORT_CHUNK_BYTES;
use crate::words::time::Millis;

/// Print events with their deliveries, attempts and bodies as lines of JSON, newest first.
///
/// What was there when it began, whether the daemon runs or not. docs/export.md describes a line. No secret is in
/// it, only the fingerprints by which `sources show` lists them; bodies are as they came.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore store export --since 7d > week.jsonl
  longshore store export --handler crm-sync | jq -c 'select(.deliveries[].status == \"dead\")'")]
pub(in crate::cli) struct Export {
    /// Only events of this source.
    #[arg(long, value_name = "NAME")]
    source: Option<Name>,
    /// Only events of exactly this type.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only deliveries to this handler, and events that have one.
    #[arg(long, value_name = "NAME")]
    handler: Option<Name>,
    /// Only events received since: a span as `1h`, or a time.
    #[arg(long, value_name = "WHEN", value_parser = moment_argument)]
    since: Option<Millis>,
    /// Only events received before: a span as `1h`, or a time.
    #[arg(long, value_name = "WHEN", value_parser = moment_argument)]
    until: Option<Millis>,
    #[command(flatten)]
    place: Place,
}

impl Export {
    pub(super) async fn run(self, screen: &Screen) -> Result {
        let mut lines = 0;
        let mut print = |bytes: &[u8]| {
            lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            screen.bytes(bytes)
        };
        match self.place.connect().await {
            Ok(mut daemon) => daemon.stream("/export", &self.query(), print).await?,
            Err(Failure::NoDaemon { .. }) => self.offline(&mut print)?,
            Err(other) => return Err(other),
        }
        screen.say(&count(lines, "event"));
        Ok(Ended::Well)
    }

    fn query(&self) -> Query {
        Query::default()
            .with("source", self.source.as_ref())
            .with("type", self.event_type.as_ref())
            .with("handler", self.handler.as_ref())
            .with("since", self.since.map(|at| at.0))
            .with("until", self.until.map(|at| at.0))
    }

    fn offline(&self, print: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let data = self.place.data_dir()?;
        let filter = ExportFilter {
            source: self.source.clone(),
            event_type: self.event_type.clone(),
            handler: self.handler.clone(),
            since: self.since,
            until: self.until,
        };
        let snapshot = Snapshot::open(&data).map_err(|error| failure(error, &data))?;
        let (mut chunk, mut printed) = (Vec::new(), Ok(()));
        let exported = snapshot.export(&filter, &mut |line| {
            chunk.extend_from_slice(line.as_bytes());
            chunk.push(b'\n');
            if chunk.len() >= EXPORT_CHUNK_BYTES {
                printed = print(&chunk);
                chunk.clear();
            }
            printed.is_ok()
        });
        printed?;
        print(&chunk)?;
        exported.map(drop).map_err(|error| failure(error, &data))
    }
}
