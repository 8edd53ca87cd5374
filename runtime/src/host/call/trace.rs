//! What an attempt leaves behind, kept outside of its store: it is there also when the guest's future was
//! dropped in the middle of a call, or a host function panicked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::host::Halt;
use crate::host::http::Mask;
use crate::host::log::{Lines, Stream};
use crate::words::attempt::{CallRecord, LogLevel, LogLine};
use crate::words::digest::Digest;
use crate::words::event::Name;
use crate::words::limits;
use crate::words::tape::{Read, Seed, Tape};

#[derive(Clone)]
pub(in crate::host) struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    lines: Lines,
    calls: Vec<CallRecord>,
    waiting: Waiting,
    /// What failed and has not gone well since, oldest first.
    failures: Vec<(Asked, Cause)>,
    memory_bytes: u64,
    halt: Option<Halt>,
    tape: Reel,
}

/// A tape as it is being filled.
#[derive(Default)]
struct Reel {
    past: u64,
    seed: Option<Seed>,
    /// The guest has had numbers that follow from it.
    is_seed_used: bool,
    reads: Vec<Read>,
    bytes: usize,
    is_cut: bool,
}

/// What a guest asked of the host. A later success of the same takes its failure back.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Call { method: String, target: String },
    Shelf,
}

/// Whom a timeout finds at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::host) enum Waiting {
    /// The guest: it computes, or sleeps because it wants to.
    Guest,
    Http,
    Shelf,
    /// The ledger, which is to write that the attempt has begun.
    Ledger,
}

/// What the last thing that a guest asked of the host in vain says about a failure that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::host) enum Cause {
    /// Nothing: the guest decides for itself.
    Plugin,
    /// A call was not granted, for this reason.
    Denied(String),
    /// The called service did not answer, or not well.
    Remote,
    /// The shelf did not answer.
    Host,
}

impl Trace {
    pub(in crate::host) fn new(handler: Name, mask: Arc<Mask>) -> Trace {
        Trace(Arc::new(Mutex::new(Inner {
            lines: Lines::new(handler, mask),
            calls: Vec::new(),
            waiting: Waiting::Guest,
            failures: Vec::new(),
            memory_bytes: 0,
            halt: None,
            tape: Reel::default(),
        })))
    }

    pub(in crate::host) fn log(&self, level: LogLevel, message: &str, fields: &[(String, String)]) {
        self.lock().lines.push(level, message, fields);
    }

    pub(in crate::host) fn print(&self, stream: Stream, bytes: &[u8]) {
        self.lock().lines.print(stream, bytes);
    }

    pub(in crate::host) fn last_words(&self) -> String {
        self.lock().lines.last_words().collect::<Vec<_>>().join(" ")
    }

    pub(in crate::host) fn begin_call(&self, record: CallRecord) {
        self.lock().calls.push(record);
    }

    /// Of a call that was not made there is nothing to edit.
    pub(in crate::host) fn edit_call(&self, number: u32, edit: impl FnOnce(&mut CallRecord)) {
        if let Some(record) = self.lock().calls.get_mut(number as usize) {
            edit(record);
        }
    }

    /// Not reset when the guest's future is dropped: that is when it is asked for.
    pub(in crate::host) fn waiting(&self, waiting: Waiting) {
        self.lock().waiting = waiting;
    }

    pub(in crate::host) fn is_waiting(&self) -> Waiting {
        self.lock().waiting
    }

    /// A call has ended; None: it went well.
    pub(in crate::host) fn call_ended(&self, number: u32, failure: Option<Cause>) {
        let mut inner = self.lock();
        let Some(record) = inner.calls.get(number as usize) else { return };
        let asked = Asked::Call { method: record.method.clone(), target: record.target.clone() };
        inner.ended(asked, failure);
    }

    /// The shelf has answered, or not.
    pub(in crate::host) fn shelf_ended(&self, failure: Option<Cause>) {
        self.lock().ended(Asked::Shelf, failure);
    }

    pub(in crate::host) fn last_cause(&self) -> Cause {
        self.lock().failures.last().map_or(Cause::Plugin, |(_, cause)| cause.clone())
    }

    pub(in crate::host) fn uses_memory(&self, bytes: u64) {
        self.lock().memory_bytes = bytes;
    }

    /// The most that it had: memory of a guest only grows.
    pub(in crate::host) fn memory_bytes(&self) -> u64 {
        self.lock().memory_bytes
    }

    /// The guest does not go on behind this call.
    pub(in crate::host) fn stop_at_call(&self, halt: Halt) {
        self.lock().halt = Some(halt);
    }

    pub(in crate::host) fn halt(&self) -> Option<Halt> {
        self.lock().halt.clone()
    }

    /// What was there before the guest ran.
    pub(in crate::host) fn had_before(&self, up_to: u64, seed: Option<Seed>) {
        let mut inner = self.lock();
        (inner.tape.past, inner.tape.seed) = (up_to, seed);
    }

    /// What the guest's random numbers follow from, from now on.
    pub(in crate::host) fn draw_seed(&self) -> Seed {
        let tape = &mut self.lock().tape;
        tape.is_seed_used = true;
        *tape.seed.get_or_insert_with(|| Seed(rand::random()))
    }

    /// The same, where the guest has had any.
    pub(in crate::host) fn seed(&self) -> Option<Seed> {
        let tape = &self.lock().tape;
        tape.seed.filter(|_| tape.is_seed_used)
    }

    /// What the shelf answered.
    pub(in crate::host) fn read(&self, read: impl FnOnce() -> Read) {
        let tape = &mut self.lock().tape;
        if tape.is_cut {
            return;
        }
        let read = read();
        tape.bytes += read.bytes();
        tape.is_cut = tape.bytes > limits::TAPE_BYTES_MAX;
        if tape.is_cut { tape.reads = Vec::new() } else { tape.reads.push(read) }
    }

    pub(in crate::host) fn tape(&self, setup: Digest) -> Tape {
        let tape = std::mem::take(&mut self.lock().tape);
        let seed = tape.seed.filter(|_| tape.is_seed_used);
        Tape { setup, seed, past: tape.past, reads: tape.reads, is_cut: tape.is_cut }
    }

    pub(in crate::host) fn finish(&self) -> (Vec<CallRecord>, Vec<LogLine>) {
        let mut inner = self.lock();
        let logs = inner.lines.finish();
        (std::mem::take(&mut inner.calls), logs)
    }

    /// A panic elsewhere left whole lines and records behind, so they are still good to show.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn ended(&mut self, asked: Asked, failure: Option<Cause>) {
        self.failures.retain(|(failed, _)| *failed != asked);
        self.failures.extend(failure.map(|cause| (asked, cause)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tape_that_grows_too_long_is_cut_and_says_so() {
        let value = bytes::Bytes::from(vec![b'x'; limits::SHELF_VALUE_BYTES_MAX]);
        let read = || Read::Value { key: "k".into(), value: Some(value.clone()) };
        let trace = Trace::new(Name::new("h").unwrap(), Arc::default());
        trace.read(read);
        let whole = trace.tape(Digest::of(b"setup"));
        assert_eq!((whole.reads.len(), whole.is_cut), (1, false));
        for _ in 0..=limits::TAPE_BYTES_MAX / limits::SHELF_VALUE_BYTES_MAX {
            trace.read(read);
        }
        let cut = trace.tape(Digest::of(b"setup"));
        assert_eq!((cut.reads.len(), cut.is_cut), (0, true));
    }
}
