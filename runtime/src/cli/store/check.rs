//! Check: what is damaged in the store, and what depends on it.

use clap::Args;

use super::{count, failure_alone};
use crate::cli::daemon::Place;
use crate::cli::screen::{Screen, Tone, clean};
use crate::cli::{Ended, Result};
use crate::store::tools::{self, Damage, LostRecord, Report};

/// Read every record of the journal, and say what is damaged and what depends on it.
///
/// Nothing is written. The daemon must not run: to look at its journal meanwhile, check a backup. A torn tail is no
/// damage: a crash cut a write short that was never answered for, and the next start cuts it off. Ends with 1 where
/// something is damaged.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore store check
  longshore store check --data-dir /backups/monday --json | jq .touched")]
pub(in crate::cli) struct Check {
    #[command(flatten)]
    place: Place,
}

impl Check {
    pub(super) fn run(self, screen: &Screen) -> Result {
        let data = self.place.data_dir()?;
        let beside = "longshore store backup DIR, then longshore store check --data-dir DIR";
        let report = tools::check(&data).map_err(|error| failure_alone(error, &data, beside))?;
        if screen.json {
            screen.print_json(&report)?;
        } else {
            screen.data(&text(&report, screen))?;
            screen.say(&verdict(&report));
        }
        Ok(if is_sound(&report) { Ended::Well } else { Ended::Badly })
    }
}

fn is_sound(report: &Report) -> bool {
    !report.is_damaged && report.unknown.is_empty() && report.inconsistent.is_empty()
}

/// All that is wrong, and what depends on it.
pub(super) fn text(report: &Report, screen: &Screen) -> String {
    let mut text = String::new();
    for damage in &report.damage {
        let line = format!("{} is damaged at byte {}: {}", damage.segment, damage.byte, damage.why);
        text += &format!("{}\n", screen.paint(Tone::Bad, &clean(&line)));
        lost(damage, &mut text);
    }
    for unknown in &report.unknown {
        let line = format!(
            "{} holds a record of kind {} at {:x}, which this version does not know",
            unknown.segment, unknown.kind, unknown.position
        );
        text += &format!("{}\n", screen.paint(Tone::Bad, &line));
    }
    for odd in &report.inconsistent {
        let line = format!("the record at {:x} does not fit the others: {}", odd.position, odd.why);
        text += &format!("{}\n", screen.paint(Tone::Bad, &clean(&line)));
    }
    touched(report, &mut text);
    if let Some(torn) = &report.torn {
        let line = format!(
            "{} ends in {} at byte {} that a crash cut short: nothing was answered for, and the next start cuts it off",
            torn.segment,
            count(torn.bytes, "byte"),
            torn.byte
        );
        text += &format!("{}\n", screen.paint(Tone::Waiting, &line));
    }
    text
}

fn lost(damage: &Damage, text: &mut String) {
    for lost in &damage.lost {
        *text += &format!("  lost: {}\n", clean(&record(lost)));
    }
    for (from, to) in &damage.unreadable {
        *text += &format!("  lost: bytes {from} to {to}, in which no record can be named\n");
    }
}

fn record(lost: &LostRecord) -> String {
    let mut text = format!("{} at {:x}, {} bytes ({})", lost.kind, lost.position, lost.bytes, lost.why);
    for event in &lost.events {
        text +=
            &format!("; event {} `{}` of {}, id `{}`", event.event, event.event_type, event.source, event.id);
        for delivery in &event.deliveries {
            text += &format!(", delivery {delivery}");
        }
    }
    if let Some(event) = lost.event {
        text += &format!("; of event {event}");
    }
    if let Some(delivery) = &lost.delivery {
        text += &format!("; of delivery {delivery}");
    }
    if let Some(handler) = &lost.handler {
        text += &format!(", handler {handler}");
    }
    for key in &lost.shelf_keys {
        text += &format!(", shelf key `{key}`");
    }
    text
}

fn touched(report: &Report, text: &mut String) {
    let touched = &report.touched;
    for event in &touched.events {
        *text += &format!("event {event}: its own record is lost; later ones name it\n");
    }
    for one in &touched.deliveries {
        let known = [
            one.handler.as_ref().map(|handler| format!("handler {handler}")),
            one.source.as_ref().map(|source| format!("source {source}")),
            one.event_type.as_ref().map(|event_type| format!("type `{event_type}`")),
            one.event_id.as_ref().map(|id| format!("id `{id}`")),
        ];
        let known: Vec<_> = known.into_iter().flatten().collect();
        let known = if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) };
        *text += &clean(&format!("delivery {}{known}: {}", one.delivery, one.why));
        text.push('\n');
    }
    for key in &touched.keys {
        let line = format!(
            "idempotency key {} `{}`: not remembered any more, should it come again",
            key.source, key.id
        );
        *text += &format!("{}\n", clean(&line));
    }
    for one in &touched.shelf {
        *text += &format!(
            "{}\n",
            clean(&format!("shelf key `{}` of {}: a write of it is lost", one.key, one.handler))
        );
    }
}

fn verdict(report: &Report) -> String {
    let read = format!(
        "{} in {}: {}, {}, {}",
        count(report.records, "record"),
        count(report.segments.len() as u64, "segment"),
        count(report.requests, "request"),
        count(report.events, "event"),
        match report.deliveries {
            1 => "1 delivery".to_owned(),
            n => format!("{n} deliveries"),
        }
    );
    let index = match report.is_clean_stop {
        true => "the last stop was clean, so a start believes the index if it fits",
        false => "the last stop was not clean: a start believes the index only if the machine ran on",
    };
    if report.is_damaged {
        let place = report.path.display();
        return format!(
            "{read}\n{}\nrestore a backup, or give up what is lost\n  type: longshore store repair --data-dir {place}",
            count(report.damage.len() as u64, "damaged place")
        );
    }
    if !report.unknown.is_empty() {
        return format!("{read}\na newer longshore wrote here; start that one again");
    }
    if !report.inconsistent.is_empty() {
        let odd = count(report.inconsistent.len() as u64, "record");
        return format!("{read}\nnothing is damaged, but {odd} of it should not be there; a start works");
    }
    format!("{read}\nthe journal is whole; {index}")
}
