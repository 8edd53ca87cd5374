//! Rerun: a delivery as a file, and run again from it: what it did then, and whether it does the same now.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::daemon::{Place, Query};
use super::deliveries::{calls_text, logs_text, outcome_text, size};
use super::failure::Failure;
use super::plugin::{answer, guests, read_bounded, shelf_lines, shelf_text};
use super::screen::{Screen, Tone, clean};
use super::{Ended, Result, setup};
use crate::host::{Called, DryAnswer, Engine, Grants, Handler, Options};
use crate::replay::{self, Difference, Record};
use crate::store::{self, Durability, Kept, Ledger};
use crate::words::attempt::{Attempt, CallRecord, LogLine, Outcome};
use crate::words::digest::Digest;
use crate::words::event::DeliveryId;
use crate::words::limits;
use crate::words::time::Millis;

/// Write everything about one delivery to stdout, as a file that `deliveries rerun` and `plugin test` read on any machine.
///
/// No secret is in it. The event, the answers of the called services and what the handler kept are: --redact takes values
/// out of it, wherever they went.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore deliveries export 1f3a.replies-to-slack > x.delivery
  longshore deliveries export 1f3a.replies-to-slack --redact /data/email --redact /data/name --with-plugin > x.delivery")]
pub(super) struct Export {
    /// The first column of `deliveries list`.
    delivery: DeliveryId,
    /// Take out what this JSON pointer names in the event's body, here and everywhere it went; may be repeated.
    #[arg(long, value_name = "POINTER")]
    redact: Vec<String>,
    /// Put the plugins in that its attempts ran.
    #[arg(long)]
    with_plugin: bool,
    #[command(flatten)]
    place: Place,
}

/// Run a delivery again from its record: its log, its calls, and the first thing that is not as it was then.
///
/// Nothing leaves this machine and nothing is written: calls are answered from the record, the clock and the random numbers
/// are the same. With --live it is the next attempt, for real: what happened is answered from the record, the rest is sent;
/// the ledger does not learn of it, so a later `deliveries retry` sends it again, with the same idempotency keys.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore deliveries rerun 1f3a.replies-to-slack
  longshore deliveries rerun x.delivery --attempt 2
  longshore deliveries rerun x.delivery --plugin target/wasm32-wasip2/release/my_plugin.wasm")]
pub(super) struct Rerun {
    /// A delivery, as the first column of `deliveries list` has it, or a file that `deliveries export` wrote.
    #[arg(value_name = "DELIVERY|FILE")]
    what: String,
    /// This one of its attempts, instead of the last.
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Run this component instead of the one that ran then.
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// What a call is answered with that the record does not know, as `429` or `200:ok`; 200 with `{}` without it.
    #[arg(long, value_name = "STATUS[:BODY]", value_parser = answer, conflicts_with = "live")]
    answer: Option<DryAnswer>,
    /// Send for real what did not happen yet, with the settings, secrets and grants that the configuration has now.
    #[arg(long, conflicts_with = "attempt")]
    live: bool,
    #[command(flatten)]
    place: Place,
}

impl Export {
    pub(super) async fn run(self, screen: &Screen) -> Result {
        let (mut record, kept) = fetch(&self.place, &self.delivery).await?;
        if self.with_plugin {
            let digests: BTreeSet<Digest> = record.attempts.iter().map(|attempt| attempt.plugin).collect();
            for digest in digests {
                let bytes = kept.read(digest).map_err(|e| Failure::failed(e.to_string()))?;
                match bytes {
                    Some(bytes) => record.add_plugin(&bytes),
                    None => screen
                        .say(&format!("the plugin {} is not kept; the file is without it", digest.short())),
                }
            }
        }
        record.redact(&self.redact).map_err(failed)?;
        screen.data(&record.to_json())?;
        Ok(Ended::Well)
    }
}

impl Rerun {
    pub(super) async fn run(self, screen: &Screen) -> Result {
        let (record, kept) = self.record().await?;
        if self.live {
            return self.run_live(record, kept.as_ref(), screen).await;
        }
        let attempt = record.attempt(self.attempt).map_err(failed)?.clone();
        let component = component(&record, &attempt, self.plugin.as_deref(), kept.as_ref())?;
        let grants = record.setup(&attempt).map_err(failed)?.grants();
        let bound = bind(component, grants)?;
        let is_other = bound.plugin().digest() != attempt.plugin;
        let otherwise = self.answer.clone().unwrap_or_default();
        let rerun = tokio::task::spawn_blocking(move || {
            let rerun = replay::rerun(&record, &attempt, &bound, otherwise);
            guests()?.block_on(rerun).map(|rerun| (rerun, attempt.number)).map_err(failed)
        });
        let (rerun, number) = rerun.await.map_err(|e| Failure::failed(e.to_string()))??;
        let report = Report::of(number, is_other, &rerun);
        if screen.json {
            screen.print_json(&report)?
        } else {
            screen.data(&text(&report, screen))?
        }
        // Another plugin is tried because something is to be different: then its own end counts.
        let is_well = match is_other {
            true => !matches!(rerun.called.outcome, Outcome::Failed { .. }),
            false => rerun.difference.is_none(),
        };
        Ok(if is_well { Ended::Well } else { Ended::Badly })
    }

    async fn run_live(&self, record: Record, kept: Option<&Kept>, screen: &Screen) -> Result {
        let grants = setup::grants(&self.place.files.config, &record.handler)?;
        let last = record.attempts.last().cloned();
        let last = last.ok_or_else(|| {
            Failure::failed("the record has no attempt; `longshore deliveries retry` makes one")
        })?;
        let component = component(&record, &last, self.plugin.as_deref(), kept)?;
        let bound = bind(component, grants)?;
        screen.say("sending for real; what becomes of it is not written into the ledger");
        let next = tokio::task::spawn_blocking(move || {
            guests()?.block_on(replay::go_on(&record, &bound)).map_err(failed)
        });
        let (number, called) = next.await.map_err(|e| Failure::failed(e.to_string()))??;
        let report = Report::live(number, &called);
        if screen.json {
            screen.print_json(&report)?
        } else {
            screen.data(&text(&report, screen))?
        }
        Ok(if matches!(called.outcome, Outcome::Failed { .. }) { Ended::Badly } else { Ended::Well })
    }

    /// From a file, where there is one of that name.
    async fn record(&self) -> Result<(Record, Option<Kept>)> {
        let path = PathBuf::from(&self.what);
        if path.is_file() || self.what == "-" {
            return Ok((read(&path)?, None));
        }
        let delivery: DeliveryId = self.what.parse().map_err(|why| {
            Failure::Usage(format!("`{}` is neither a file nor a delivery: {why}", self.what))
        })?;
        let (record, kept) = fetch(&self.place, &delivery).await?;
        Ok((record, Some(kept)))
    }
}

/// A record in a file.
pub(super) fn read(path: &Path) -> Result<Record> {
    let bytes = read_bounded(path, limits::RECORD_FILE_BYTES_MAX)?;
    Record::read(&bytes).map_err(|error| Failure::failed(format!("`{}`: {error}", path.display())))
}

/// Of the running daemon; where none runs and a data directory was named, from that.
async fn fetch(place: &Place, delivery: &DeliveryId) -> Result<(Record, Kept)> {
    let data = place.data_dir()?;
    let kept = Kept::of(&data);
    let record = match place.connect().await {
        Ok(mut daemon) => daemon.get(&format!("/deliveries/{delivery}/record"), &Query::default()).await?,
        Err(Failure::NoDaemon { .. }) if place.names_data() => from_disk(data, delivery.clone()).await?,
        Err(failure) => return Err(failure),
    };
    Ok((record, kept))
}

async fn from_disk(path: PathBuf, delivery: DeliveryId) -> Result<Record> {
    if !path.is_dir() {
        return Err(Failure::failed(format!("`{}` is no data directory", path.display())));
    }
    let options = store::Options {
        path,
        durability: Durability::PowerLoss,
        retain_age: limits::RETAIN_AGE_DEFAULT,
        retain_bytes: limits::RETAIN_BYTES_DEFAULT,
        open_age_max: limits::OPEN_AGE_MAX_DEFAULT,
    };
    let opened = tokio::task::spawn_blocking(move || Ledger::open(options, Millis::now())).await;
    let (ledger, _) =
        opened.map_err(|e| Failure::failed(e.to_string()))?.map_err(|e| Failure::failed(e.to_string()))?;
    let record = replay::take(&ledger, &delivery).await.map_err(failed);
    ledger.close().await.map_err(|e| Failure::failed(e.to_string()))?;
    record
}

// === the component ===

/// Where a component comes from.
enum Component {
    File(PathBuf),
    Bytes(Vec<u8>),
}

/// The one that was typed, the one in the record, or the one that the data directory keeps.
fn component(
    record: &Record,
    attempt: &Attempt,
    typed: Option<&Path>,
    kept: Option<&Kept>,
) -> Result<Component> {
    if let Some(path) = typed {
        return Ok(Component::File(path.to_owned()));
    }
    let digest = attempt.plugin;
    let bytes = match record.plugin(digest).map_err(failed)? {
        Some(bytes) => Some(bytes),
        None => kept
            .map(|kept| kept.read(digest))
            .transpose()
            .map_err(|e| Failure::failed(e.to_string()))?
            .flatten(),
    };
    bytes.map(Component::Bytes).ok_or_else(|| {
        let why =
            format!("the plugin {} that attempt {} ran is not in the record", digest.short(), attempt.number);
        Failure::failed_so(why, "longshore deliveries rerun … --plugin FILE, or export it --with-plugin")
    })
}

/// A handler of the component in a file.
pub(super) fn bind_file(path: &Path, grants: Grants) -> Result<Handler> {
    bind(Component::File(path.to_owned()), grants)
}

fn bind(component: Component, grants: Grants) -> Result<Handler> {
    let engine = Engine::new(Options { cache: None, instances_max: 1 });
    let engine = engine.map_err(|e| Failure::failed(e.to_string()))?;
    let plugin = match component {
        Component::File(path) => engine.load(&path),
        Component::Bytes(bytes) => engine.load_bytes(Path::new("the plugin of the record"), bytes),
    };
    let plugin = plugin.map_err(|e| Failure::failed(e.to_string()))?;
    let bound = Handler::bind(&engine, plugin, grants).map_err(|problems| {
        let told: Vec<_> = problems.iter().map(|p| format!("{}: {}", p.key, p.message)).collect();
        Failure::failed(format!("the plugin does not fit how its handler is set up: {}", told.join("; ")))
    })?;
    Ok(bound.0)
}

pub(super) fn failed(error: replay::Error) -> Failure {
    Failure::failed(error.to_string())
}

// === what came of it ===

#[derive(Serialize)]
struct Report<'a> {
    attempt: u32,
    #[serde(flatten)]
    outcome: &'a Outcome,
    calls: &'a [CallRecord],
    logs: &'a [LogLine],
    memory_bytes: u64,
    live: bool,
    other_plugin: bool,
    shelf: std::collections::BTreeMap<String, String>,
    /// None: every call, the outcome and the log are as they were then.
    difference: Option<&'a Difference>,
    /// The attempt ended in a call without an answer, and so did this.
    ends_early: bool,
    unrecorded: &'a [u32],
}

impl<'a> Report<'a> {
    fn of(attempt: u32, other_plugin: bool, rerun: &'a replay::Rerun) -> Report<'a> {
        let (difference, unrecorded) = (rerun.difference.as_ref(), rerun.unrecorded.as_slice());
        Report { difference, unrecorded, other_plugin, live: false, ..Report::live(attempt, &rerun.called) }
    }

    fn live(attempt: u32, called: &'a Called) -> Report<'a> {
        Report {
            attempt,
            outcome: &called.outcome,
            calls: &called.calls,
            logs: &called.logs,
            memory_bytes: called.memory_bytes,
            live: true,
            other_plugin: false,
            shelf: shelf_lines(&called.shelf),
            difference: None,
            ends_early: called.ended_with_its_record(),
            unrecorded: &[],
        }
    }
}

fn text(report: &Report<'_>, screen: &Screen) -> String {
    let mut text = logs_text(report.logs, screen);
    text += &calls_text(report.calls, screen);
    text += &shelf_text(&report.shelf);
    let (tone, outcome) = outcome_text(report.outcome);
    text += &format!("attempt {}: {}\n", report.attempt, screen.paint(tone, &clean(&outcome)));
    if report.live {
        return text + "calls were sent, and the ledger does not know it\n";
    }
    for call in report.unrecorded {
        text +=
            &format!("call {call} is not in the record; it was answered with --answer, or 200 and `{{}}`\n");
    }
    text += &match report.difference {
        Some(difference) => {
            let tone = if report.other_plugin { Tone::Waiting } else { Tone::Bad };
            format!("{}\n", screen.paint(tone, &format!("differs in {}", clean(&difference.to_string()))))
        }
        None if report.ends_early => "as it was then, as far as its record goes\n".to_owned(),
        None => {
            format!("as it was then: {} calls, byte for byte, the outcome and the log\n", report.calls.len())
        }
    };
    text + &format!("nothing was sent; {} of memory\n", size(report.memory_bytes))
}
