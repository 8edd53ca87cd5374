//! Replay: an attempt once more, from its record: the same event, the same answers, the same clock and random numbers.
//!
//! Nothing leaves the machine and nothing is written. With the plugin that ran then, every call is the same, byte for
//! byte; with another one, `compare` says the first thing that is not. `record` is what is needed for it, as one file;
//! `world` is what the record says in the place of ledger, shelf and network.

mod compare;
mod record;
mod redact;
mod take;
#[cfg(test)]
mod tests;
mod world;

use std::sync::Arc;

pub use self::compare::Difference;
pub use self::record::{Blob, EventLine, FORMAT, Record};
pub use self::take::take;
use self::world::{FromRecord, Page};
use crate::host::{Called, DryAnswer, Effects as _, Handler, Wire};
use crate::store::Status;
use crate::words::attempt::Attempt;

/// What came of it.
#[derive(Debug)]
pub struct Rerun {
    pub called: Called,
    /// The first thing that was not as it was then.
    pub difference: Option<Difference>,
    /// Calls of which the record knows no answer, by number; they were given another one.
    pub unrecorded: Vec<u32>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("{0}")]
    Unreadable(String),
    #[error("attempt {number} is not in the record; it has {there}")]
    NoSuchAttempt { number: u32, there: String },
    #[error(
        "attempt {0} has no tape: it did not run, or was written by a version that kept none; name another one with --attempt"
    )]
    NoTape(u32),
    #[error(
        "attempt {0} read more from its state than a record keeps, so it cannot be run again; name another one with --attempt"
    )]
    TapeCut(u32),
    #[error(
        "the record has no setup {0}: its handler was never kept; export it where it ran, or run it with --config"
    )]
    NoSetup(String),
    #[error("a record from which something was taken out is not sent for real; export it without --redact")]
    Redacted,
    #[error(
        "the daemon is about to try this delivery itself; `longshore handlers pause` its handler, or wait until it has ended"
    )]
    StillOpen,
    #[error("a redaction: {0}")]
    Redaction(String),
    #[error("{0}")]
    Store(String),
}

/// Runs an attempt again with `handler`, which was bound from the setup that the attempt names. What the record has no
/// answer for is answered with `otherwise`. On the guests' runtime.
///
/// # Errors
/// Where the attempt has no tape, or the record's effects do not read.
pub async fn rerun(
    record: &Record,
    attempt: &Attempt,
    handler: &Handler,
    otherwise: DryAnswer,
) -> Result<Rerun, Error> {
    let tape = attempt.tape.as_ref().ok_or(Error::NoTape(attempt.number))?;
    if tape.is_cut {
        return Err(Error::TapeCut(attempt.number));
    }
    let page = Arc::new(Page::new(record, attempt, tape)?);
    let world = Arc::new(FromRecord::new(record, attempt, tape, otherwise)?);
    let shelf = world::ReadAgain::new(tape);
    let event = record.event.guest_event(&record.delivery, attempt.number);
    let wire = Wire::Simulated(page.clone(), world.clone());
    let called = handler.call(event, Arc::new(shelf), wire).await;
    let then = compare::Then::of(record, attempt, tape);
    let difference = compare::compare(then, &called, &page.noted());
    Ok(Rerun { called, difference, unrecorded: world.unrecorded() })
}

/// The next attempt of a delivery, for real and with the secrets that `handler` was bound with: what happened is answered
/// from the record, the rest is sent, and its shelf is what the last attempt read. Nothing of it is written down. Returns
/// the attempt's number too. On the guests' runtime.
///
/// # Errors
/// Where that would do harm: something was taken out of the record, its last attempt has no whole tape, or the daemon tries
/// it itself. Where the record's effects do not read.
pub async fn go_on(record: &Record, handler: &Handler) -> Result<(u32, Called), Error> {
    if !record.redacted.is_empty() {
        return Err(Error::Redacted);
    }
    if record.status == Status::Open {
        return Err(Error::StillOpen);
    }
    let last = record.attempt(record.attempts.last().map(|attempt| attempt.number))?;
    let tape = last.tape.as_ref().ok_or(Error::NoTape(last.number))?;
    if tape.is_cut {
        return Err(Error::TapeCut(last.number));
    }
    let page = Arc::new(Page::behind(record)?);
    let number = page.attempt();
    let event = record.event.guest_event(&record.delivery, number);
    let shelf = world::ReadAgain::new(tape);
    Ok((number, handler.call(event, Arc::new(shelf), Wire::Live(page)).await))
}
