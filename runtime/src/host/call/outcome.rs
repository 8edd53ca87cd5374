//! From how a call ended to what history says: what happened, whose fault it is, and the words for it.
//!
//! What a guest answers is its own; whom to blame is ours to find. A handler that gives up after a call that was
//! not granted fails because of the configuration, whatever it says itself.

use std::any::Any;
use std::time::Duration;

use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::trace::{Cause, Trace, Waiting};
use super::{Answer, Fault};
use crate::host::Halt;
use crate::host::grant::Grant;
use crate::host::log::printable;
use crate::words::attempt::{Blame, ErrorKind, Outcome};
use crate::words::limits;

pub(super) enum Ended {
    Answered(Answer),
    Failed(Fault),
    /// It was waiting when its time was over.
    TimedOut,
}

/// What a guest asked for last and was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Memory,
    Tables,
}

pub(super) fn of(ended: Ended, grant: &Grant, trace: &Trace, full: Option<Full>) -> Outcome {
    let outcome = match ended {
        Ended::Answered(answer) => answered(answer, trace),
        Ended::Failed(fault) => failed(&fault, grant, trace, full),
        Ended::TimedOut => timed_out(grant.limits.timeout, trace.is_waiting()),
    };
    shown(outcome, grant)
}

fn answered(answer: Answer, trace: &Trace) -> Outcome {
    match answer {
        Answer::Done(note) => Outcome::Done { note },
        Answer::Skipped(note) => Outcome::Skipped { note },
        Answer::Retry { reason, after_ms } => {
            let max = u64::try_from(limits::AFTER_MAX.as_millis()).unwrap_or(u64::MAX);
            let after_ms = after_ms.map(|ms| ms.min(max));
            let blame = match trace.last_cause() {
                Cause::Remote => Blame::Remote,
                Cause::Host => Blame::Host,
                Cause::Plugin | Cause::Denied(_) => Blame::Plugin,
            };
            let failure = Failure { kind: ErrorKind::Retry, blame, reason, permanent: false };
            failure.unless_denied(trace).into_outcome(after_ms)
        }
        Answer::Reject(reason) => {
            let failure = Failure { kind: ErrorKind::Reject, blame: Blame::Plugin, reason, permanent: true };
            failure.unless_denied(trace).into_outcome(None)
        }
    }
}

fn failed(fault: &Fault, grant: &Grant, trace: &Trace, full: Option<Full>) -> Outcome {
    let (error, is_starting) = match fault {
        Fault::Instantiate(error) => (error, true),
        Fault::Call(error) => (error, false),
    };
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::Interrupt) {
        return timed_out(grant.limits.timeout, Waiting::Guest);
    }
    if let Some(full) = full {
        let reason = full.reason(grant);
        return Failure { kind: ErrorKind::Memory, blame: Blame::Plugin, reason, permanent: false }
            .into_outcome(None);
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return not_begun(format!("the pool has no instance for the handler: {error:#}"));
    }
    let is_guests = trap.is_some() || error.is::<I32Exit>() || !is_starting;
    if !is_guests {
        return host_failed(format!("no instance for the handler: {error:#}"));
    }
    let reason = trap_reason(error, trap, trace);
    Failure { kind: ErrorKind::Trap, blame: Blame::Plugin, reason, permanent: false }
        .unless_denied(trace)
        .into_outcome(None)
}

fn timed_out(budget: Duration, waiting: Waiting) -> Outcome {
    let (blame, doing) = match waiting {
        Waiting::Guest => (Blame::Plugin, "the handler was still running"),
        Waiting::Http => (Blame::Remote, "an HTTP call had no answer yet"),
        Waiting::Shelf => (Blame::Host, "the handler's state had not answered yet"),
        Waiting::Ledger => (Blame::Host, "it was not written down yet that the attempt makes a call"),
    };
    let reason = format!("not done within {} ms: {doing}", budget.as_millis());
    Failure { kind: ErrorKind::Timeout, blame, reason, permanent: false }.into_outcome(None)
}

// === where the host fails ===

pub(super) fn no_instance(waited: Duration) -> Outcome {
    not_begun(format!(
        "no instance was free within {} ms: more calls at once than the host has room for; \
         lower limits.concurrency of the busiest handlers",
        waited.as_millis()
    ))
}

/// The guest was stopped at a call.
pub(super) fn halted(halt: Halt) -> Outcome {
    let (kind, blame, reason) = match halt {
        Halt::Park(reason) => (ErrorKind::Uncertain, Blame::Operator, reason),
        Halt::Store(why) => {
            (ErrorKind::Host, Blame::Host, format!("a call could not be written down: {why}"))
        }
        Halt::World(why) => (ErrorKind::Interrupted, Blame::Host, why),
    };
    Failure { kind, blame, reason, permanent: false }.into_outcome(None)
}

pub(super) fn interrupted() -> Outcome {
    let reason = "the daemon was stopped during this attempt".to_owned();
    Failure { kind: ErrorKind::Interrupted, blame: Blame::Host, reason, permanent: false }
        .into_outcome(Some(0))
}

pub(super) fn host_panicked(panic: &(dyn Any + Send)) -> Outcome {
    let said = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => *text,
        (_, Some(text)) => text,
        _ => "without a word",
    };
    tracing::error!(panic = said, "the host panicked while it served a handler; please report it");
    host_failed(format!("the host panicked while it served the handler: {}", printable(said, limits::KIB)))
}

/// No instruction of the handler ran: the only failure of the host that says when to come again, by which
/// `Called::was_not_begun` knows it.
fn not_begun(reason: String) -> Outcome {
    let after_ms = u64::try_from(limits::NO_INSTANCE_DELAY.as_millis()).unwrap_or(u64::MAX);
    Failure { kind: ErrorKind::Host, blame: Blame::Host, reason, permanent: false }
        .into_outcome(Some(after_ms))
}

fn host_failed(reason: String) -> Outcome {
    Failure { kind: ErrorKind::Host, blame: Blame::Host, reason, permanent: false }.into_outcome(None)
}

// === words ===

struct Failure {
    kind: ErrorKind,
    blame: Blame,
    reason: String,
    permanent: bool,
}

impl Failure {
    fn unless_denied(mut self, trace: &Trace) -> Failure {
        if let Cause::Denied(why) = trace.last_cause() {
            self.kind = ErrorKind::Denied;
            self.blame = Blame::Operator;
            // The guest may have clipped it or left it out; it is what the operator needs.
            if !self.reason.contains(&why) {
                self.reason =
                    format!("{}; denied: {why}", printable(&self.reason, limits::REASON_BYTES_MAX / 2));
            }
        }
        self
    }

    fn into_outcome(self, after_ms: Option<u64>) -> Outcome {
        let Failure { kind, blame, reason, permanent } = self;
        Outcome::Failed { kind, blame, reason, permanent, after_ms }
    }
}

/// A guest's words, without the handler's secrets, short and harmless.
fn shown(outcome: Outcome, grant: &Grant) -> Outcome {
    let show = |text: String| printable(&grant.mask.text(&text), limits::REASON_BYTES_MAX);
    match outcome {
        Outcome::Done { note } => Outcome::Done { note: note.map(show) },
        Outcome::Skipped { note } => Outcome::Skipped { note: note.map(show) },
        Outcome::Failed { kind, blame, reason, permanent, after_ms } => {
            Outcome::Failed { kind, blame, reason: show(reason), permanent, after_ms }
        }
    }
}

impl Full {
    fn reason(self, grant: &Grant) -> String {
        match self {
            Full::Memory => format!(
                "{}; raise handlers.{}.limits.memory if that is right",
                self.said(grant.limits.memory_bytes),
                grant.handler
            ),
            Full::Tables => {
                format!("{}; no plugin gets more, its author has to use fewer", self.said(0))
            }
        }
    }

    pub(super) fn said(self, memory_bytes: u64) -> String {
        match self {
            Full::Memory => {
                format!("needs more than {} MiB of memory", memory_bytes.div_ceil(limits::MIB as u64))
            }
            Full::Tables => {
                format!("needs more than {} elements in its tables", limits::GUEST_TABLE_ELEMENTS_MAX)
            }
        }
    }
}

/// Wasmtime's word for it is about fuel, which is nothing that an operator has.
fn root_cause(error: &wasmtime::Error) -> String {
    let cause = error.root_cause().to_string();
    if cause.contains("fuel allocated for hostcalls") {
        let mib = limits::HOSTCALL_BYTES_MAX / limits::MIB;
        return format!("hands over more than {mib} MiB in one call; its author has to do it in parts");
    }
    cause
}

/// What it said last, what trapped, and where: `panicked at src/lib.rs:5:9: boom; in handle < call`.
fn trap_reason(error: &wasmtime::Error, trap: Option<&Trap>, trace: &Trace) -> String {
    let said = last_words(&trace.last_words());
    let what = match (trap, error.downcast_ref::<I32Exit>()) {
        (Some(trap), _) => trap.to_string().trim_start_matches("wasm trap: ").to_owned(),
        (None, Some(exit)) => format!("exited with status {}", exit.0),
        (None, None) => root_cause(error),
    };
    let place = error.downcast_ref::<WasmBacktrace>().map(|backtrace| frames(&backtrace.to_string()));
    let place = place.filter(|frames| !frames.is_empty()).map(|frames| format!("; in {frames}"));
    let what = if said.is_empty() { what } else { format!("{said} ({what})") };
    format!("{what}{}", place.unwrap_or_default())
}

/// A Rust panic's two lines without their ornaments; other languages' last lines as they are.
fn last_words(stderr: &str) -> String {
    let said = stderr.split("note: run with `RUST_BACKTRACE").next().unwrap_or_default();
    let said = match said.find("panicked at ") {
        Some(start) => &said[start..],
        None => said,
    };
    printable(said.trim(), limits::KIB)
}

/// The innermost functions of the guest's own, from the lines `  0: 0x1c3 - module.wasm!crate::function`.
fn frames(backtrace: &str) -> String {
    const FRAMES_MAX: usize = 4;
    const FRAME_BYTES_MAX: usize = 100;
    let machinery = [
        "std::",
        "core::",
        "alloc::",
        "rust_",
        "__rust",
        "_rust",
        "<alloc::",
        "<core::",
        "<std::",
        "abort",
        "<wasm function",
    ];
    let names =
        backtrace.lines().filter_map(|line| line.split_once('!').map(|(_, name)| without_hash(name.trim())));
    let own = names.filter(|name| !machinery.iter().any(|prefix| name.starts_with(prefix)));
    own.take(FRAMES_MAX).map(|name| printable(&name, FRAME_BYTES_MAX)).collect::<Vec<_>>().join(" < ")
}

/// `crate::function::h0123456789abcdef` and `crate[0123456789abcdef]::function` are `crate::function`.
fn without_hash(name: &str) -> String {
    let is_hash = |text: &str| (12..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let name = match name.rsplit_once("::h") {
        Some((name, hash)) if is_hash(hash) => name,
        _ => name,
    };
    let mut parts = name.split('[');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((hash, rest)) if is_hash(hash) => plain.push_str(rest),
            _ => plain.extend(["[", part]),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::grant::tests::grant_with;
    use crate::words::event::Name;

    fn trace(cause: Cause) -> Trace {
        let trace = Trace::new(Name::new("h").unwrap(), Arc::default());
        trace.shelf_ended(Some(cause));
        trace
    }

    fn retry(cause: Cause) -> (ErrorKind, Blame, String, bool) {
        let answer = Answer::Retry { reason: "later".into(), after_ms: None };
        parts(of(Ended::Answered(answer), &grant_with(&[], &[]), &trace(cause), None))
    }

    fn parts(outcome: Outcome) -> (ErrorKind, Blame, String, bool) {
        match outcome {
            Outcome::Failed { kind, blame, reason, permanent, .. } => (kind, blame, reason, permanent),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_retry_is_the_fault_of_what_came_before_it() {
        assert_eq!(retry(Cause::Plugin), (ErrorKind::Retry, Blame::Plugin, "later".into(), false));
        assert_eq!(retry(Cause::Remote), (ErrorKind::Retry, Blame::Remote, "later".into(), false));
        assert_eq!(retry(Cause::Host), (ErrorKind::Retry, Blame::Host, "later".into(), false));
        let denied = retry(Cause::Denied("x is not granted; add it".into()));
        let reason = "later; denied: x is not granted; add it".into();
        assert_eq!(denied, (ErrorKind::Denied, Blame::Operator, reason, false));
    }

    #[test]
    fn a_rejection_after_a_denied_call_stays_permanent() {
        let answer = Answer::Reject("http: x is not granted".into());
        let trace = trace(Cause::Denied("x is not granted".into()));
        let rejected = parts(of(Ended::Answered(answer), &grant_with(&[], &[]), &trace, None));
        assert_eq!(rejected, (ErrorKind::Denied, Blame::Operator, "http: x is not granted".into(), true));
    }

    #[test]
    fn waiting_decides_who_is_blamed_for_a_timeout() {
        for (waiting, blame) in [
            (Waiting::Guest, Blame::Plugin),
            (Waiting::Http, Blame::Remote),
            (Waiting::Shelf, Blame::Host),
            (Waiting::Ledger, Blame::Host),
        ] {
            let trace = trace(Cause::Plugin);
            trace.waiting(waiting);
            let (kind, blamed, reason, permanent) =
                parts(of(Ended::TimedOut, &grant_with(&[], &[]), &trace, None));
            assert_eq!((kind, blamed, permanent), (ErrorKind::Timeout, blame, false));
            assert!(reason.starts_with("not done within 10000 ms"), "{reason}");
        }
    }

    #[test]
    fn words_are_short_harmless_and_without_secrets() {
        let grant =
            grant_with(&["https://a.example"], &[("token", "hunter2hunter2", &["https://a.example"])]);
        let note = format!("\x1b[2Jhunter2hunter2{}", "x".repeat(2 * limits::REASON_BYTES_MAX));
        let done = of(Ended::Answered(Answer::Done(Some(note))), &grant, &trace(Cause::Plugin), None);
        let Outcome::Done { note: Some(note) } = done else { panic!("{done:?}") };
        assert!(note.starts_with("\\u{1b}[2J[secret token]xxx"), "{note}");
        assert!(note.len() <= limits::REASON_BYTES_MAX);
    }

    #[test]
    fn after_is_clamped() {
        let answer = Answer::Retry { reason: String::new(), after_ms: Some(u64::MAX) };
        let outcome = of(Ended::Answered(answer), &grant_with(&[], &[]), &trace(Cause::Plugin), None);
        let Outcome::Failed { after_ms, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(after_ms, Some(limits::AFTER_MAX.as_millis() as u64));
    }

    #[test]
    fn a_panic_is_told_in_its_own_words() {
        let rust = "thread 'main' (1) panicked at src/lib.rs:5:9: boom note: run with `RUST_BACKTRACE=1` …";
        assert_eq!(last_words(rust), "panicked at src/lib.rs:5:9: boom");
        assert_eq!(
            last_words("TypeError: x is undefined at handle (/plugin.js:3:20)"),
            "TypeError: x is undefined at handle (/plugin.js:3:20)"
        );
        let backtrace = "error while executing at wasm backtrace:\n    0:   0x1 - m.wasm!std[0123456789abcdef]::panicking::begin\n    \
             1:   0x2 - m.wasm!crate::deep::h0123456789abcdef\n    2:   0x3 - m.wasm!crate[0123456789abcdef]::handle::<[u8; 3]>";
        assert_eq!(frames(backtrace), "crate::deep < crate::handle::<[u8; 3]>");
    }
}
