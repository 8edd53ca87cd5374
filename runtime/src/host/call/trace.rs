//! What an attempt leaves behind, kept outside of its store: it is there also when the guest's future was
//! dropped in the middle of a call, or a host function panicked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::host::http::Mask;
use crate::host::log::{Lines, Stream};
use crate::words::attempt::{CallRecord, LogLevel, LogLine};
use crate::words::event::Name;

#[derive(Clone)]
pub(in crate::host) struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    lines: Lines,
    calls: Vec<CallRecord>,
    waiting: Waiting,
    cause: Cause,
}

/// Whom a timeout finds at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::host) enum Waiting {
    /// The guest: it computes, or sleeps because it wants to.
    Guest,
    Http,
    Shelf,
}

/// What the last thing that a guest asked of the host says about a failure that follows.
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
            cause: Cause::Plugin,
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

    pub(in crate::host) fn cause(&self, cause: Cause) {
        self.lock().cause = cause;
    }

    pub(in crate::host) fn last_cause(&self) -> Cause {
        self.lock().cause.clone()
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
