//! Compare: the first thing in which two runs of an attempt differ: a call, how it ended, or a line of the log.

use bytes::Bytes;
use serde::Serialize;

use super::record::Record;
use crate::host::{Called, is_of_the_network, printable, request_body};
use crate::words::attempt::{Attempt, CallRecord, ErrorKind, LogLine, Outcome};
use crate::words::effect::Entry;
use crate::words::tape::Tape;

/// Of the texts in a difference.
const SHOWN_BYTES: usize = 120;
/// Before the first byte that differs.
const CONTEXT_BYTES: usize = 40;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `call 2`, `outcome`, `log line 3`
    pub place: String,
    pub then: String,
    pub now: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: then {}, now {}", self.place, self.then, self.now)
    }
}

/// What a record says of an attempt.
pub(super) struct Then<'a> {
    attempt: &'a Attempt,
    sent: Sent,
}

impl<'a> Then<'a> {
    pub(super) fn of(record: &'a Record, attempt: &'a Attempt, tape: &Tape) -> Then<'a> {
        let own = record.effects.iter().filter(|line| line.at > tape.past);
        let bytes = |line: &super::record::EffectLine| line.bytes.bytes().unwrap_or_default();
        Then { attempt, sent: Sent::of(own.map(|line| (&line.entry, bytes(line))), attempt.number) }
    }
}

/// What one attempt sent that may change something, in order: the effect, and the request as it is kept.
struct Sent(Vec<(u32, Bytes)>);

impl Sent {
    fn of<'a>(entries: impl Iterator<Item = (&'a Entry, Bytes)>, attempt: u32) -> Sent {
        let intent = |(entry, bytes): (&Entry, Bytes)| match entry {
            Entry::Intent(intent) if intent.attempt == attempt => Some((intent.effect, bytes)),
            _ => None,
        };
        Sent(entries.filter_map(intent).collect())
    }

    /// The request of a call, where it is the next that was sent.
    fn take(&mut self, call: &CallRecord) -> Option<Bytes> {
        let (effect, _) = self.0.first()?;
        if call.recorded || call.effect != Some(*effect) {
            return None;
        }
        Some(self.0.remove(0).1)
    }
}

/// None: nothing that the record knows differs.
pub(super) fn compare(then: Then<'_>, now: &Called, noted: &[(Entry, Bytes)]) -> Option<Difference> {
    let Then { attempt, sent } = then;
    let noted = noted.iter().map(|(entry, bytes)| (entry, bytes.clone()));
    // What the daemon's end cut off went on nowhere: the rerun may.
    let is_cut_off = matches!(attempt.outcome, Outcome::Failed { kind: ErrorKind::Interrupted, .. });
    let until = if is_cut_off { attempt.calls.len().min(now.calls.len()) } else { now.calls.len() };
    calls((&attempt.calls, sent), (&now.calls[..until], Sent::of(noted, attempt.number)))
        .or_else(|| if is_cut_off { None } else { outcomes(&attempt.outcome, now) })
        .or_else(|| if is_cut_off { None } else { logs(&attempt.logs, &now.logs) })
}

fn calls(
    (then, mut sent_then): (&[CallRecord], Sent),
    (now, mut sent_now): (&[CallRecord], Sent),
) -> Option<Difference> {
    let differ =
        |at: usize, then: String, now: String| Some(Difference { place: format!("call {at}"), then, now });
    for at in 0..then.len().max(now.len()) {
        let (Some(before), Some(after)) = (then.get(at), now.get(at)) else {
            let name = |call: Option<&CallRecord>| call.map_or("none".to_owned(), named);
            return differ(at, name(then.get(at)), name(now.get(at)));
        };
        if named(before) != named(after) {
            return differ(at, named(before), named(after));
        }
        match (sent_then.take(before), sent_now.take(after)) {
            (Some(before), Some(after)) if before != after => {
                let (before, after) = requests(&before, &after);
                return differ(at, before, after);
            }
            (Some(_), Some(_)) => {}
            _ if before.digest.is_some() && before.digest != after.digest => {
                return differ(at, named(before), format!("{}, with something else in it", named(after)));
            }
            _ => {}
        }
        if answer(before) != answer(after) {
            return differ(at, answer(before), answer(after));
        }
    }
    None
}

/// Method, place and key.
fn named(call: &CallRecord) -> String {
    let key = call.key.as_ref().map(|key| format!(" ({key})")).unwrap_or_default();
    format!("{} {}{key}", call.method, call.target)
}

fn answer(call: &CallRecord) -> String {
    let said = match (call.status, &call.error) {
        (Some(status), _) => status.to_string(),
        (None, Some(error)) => error.clone(),
        (None, None) => "no answer".to_owned(),
    };
    if call.recorded { format!("{said} from the record") } else { said }
}

/// The bodies from shortly before the first byte that differs; where those are alike, the rest of the requests.
fn requests(then: &Bytes, now: &Bytes) -> (String, String) {
    let (before, after) = match (request_body(then), request_body(now)) {
        (Some(before), Some(after)) if before != after => (before, after),
        _ => (then.clone(), now.clone()),
    };
    let same = before.iter().zip(&after).take_while(|(old, new)| old == new).count();
    let from = same.saturating_sub(CONTEXT_BYTES);
    let shown = |bytes: &Bytes| {
        let dots = if from > 0 { "…" } else { "" };
        format!("{dots}{}", printable(&String::from_utf8_lossy(&bytes[from..]), SHOWN_BYTES))
    };
    (shown(&before), shown(&after))
}

/// An attempt that was cut off ended where its record ends.
fn outcomes(then: &Outcome, now: &Called) -> Option<Difference> {
    if now.ended_with_its_record() || *then == now.outcome {
        return None;
    }
    Some(Difference { place: "outcome".into(), then: ended(then), now: ended(&now.outcome) })
}

fn ended(outcome: &Outcome) -> String {
    let with = |word: &str, note: &Option<String>| match note {
        Some(note) => format!("{word} ({})", printable(note, SHOWN_BYTES)),
        None => word.to_owned(),
    };
    match outcome {
        Outcome::Done { note } => with("done", note),
        Outcome::Skipped { note } => with("skipped", note),
        Outcome::Failed { reason, .. } => format!("failed ({})", printable(reason, SHOWN_BYTES)),
    }
}

/// When a line was said depends on the machine.
fn logs(then: &[LogLine], now: &[LogLine]) -> Option<Difference> {
    let is_same = |then: Option<&LogLine>, now: Option<&LogLine>| match (then, now) {
        (Some(then), Some(now)) => {
            (then.level, &then.message, &then.fields) == (now.level, &now.message, &now.fields)
        }
        (then, now) => then.is_none() && now.is_none(),
    };
    let own = |lines: &[LogLine]| -> Vec<LogLine> {
        lines.iter().filter(|line| !is_of_the_network(&line.message)).cloned().collect()
    };
    let (then, now) = (own(then), own(now));
    let at = (0..then.len().max(now.len())).find(|at| !is_same(then.get(*at), now.get(*at)))?;
    let shown = |line: Option<&LogLine>| match line {
        Some(line) => format!("`{}`", printable(&line.message, SHOWN_BYTES)),
        None => "none".to_owned(),
    };
    Some(Difference { place: format!("log line {at}"), then: shown(then.get(at)), now: shown(now.get(at)) })
}
