//! What a call returns, and what `?` makes of an error.
//!
//! A handler ends in one of four ways. Each is a function, so that the last line reads as a sentence:
//!
//! ```
//! use longshore_sdk::prelude::*;
//!
//! fn handle(event: Event) -> Result<Outcome, Failure> {
//!     let body = event.value()?;
//!     let Some(lead) = pointer::text(&body, "/data/leadId") else {
//!         return skip("no lead in this event");
//!     };
//!     match lead.as_str() {
//!         "lead_locked" => retry("the lead is locked"),
//!         "lead_banned" => reject("the lead is banned"),
//!         lead => done(format!("noted {lead}")),
//!     }
//! }
//! # use longshore_sdk::testing::event;
//! # let lead = |id: &str| handle(event("lead.updated", json!({ "data": { "leadId": id } })));
//! # assert_eq!(lead("lead_1"), done("noted lead_1"));
//! # assert_eq!(lead("lead_locked"), retry("the lead is locked"));
//! # assert_eq!(lead("lead_banned"), reject("the lead is banned"));
//! # assert_eq!(lead(""), skip("no lead in this event"));
//! ```
//!
//! `?` turns the errors of this crate into the right one of [`Failure`]:
//!
//! | error | becomes |
//! |---|---|
//! | no connection, no answer in time, a broken answer | retry |
//! | answered 408, 425, 429 or 5xx, with [`ok()?`](crate::http::Response::ok) | retry, after `Retry-After` where it was sent |
//! | answered 3xx or another 4xx | reject |
//! | the call was not granted, not valid, too large, or over the attempt's budget | reject |
//! | JSON that is not of the expected form, in the event or in an answer | reject |
//! | a setting missing or not of its kind | reject, naming it |
//! | state unavailable or full | retry |
//! | a value too large for state | reject |
//!
//! For every other error the plugin decides, with [`Context`]:
//!
//! ```
//! use longshore_sdk::prelude::*;
//!
//! fn cents(price: &str) -> Result<u64, Failure> {
//!     let euros: u64 = price.parse().or_reject("the price")?;
//!     euros.checked_mul(100).or_reject("the price is too high")
//! }
//! assert_eq!(cents("12"), Ok(1200));
//! assert_eq!(cents("?").unwrap_err().to_string(), "rejected: the price: invalid digit found in string");
//! ```

use std::fmt;
use std::time::Duration;

/// What a successful call means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Handled; the text appears in the delivery's history.
    Done(Option<String>),
    /// Nothing to do for this event (counted apart from done).
    Skipped(Option<String>),
}

/// Why a call failed. A panic, a timeout or out-of-memory counts as a retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Transient: try again later.
    Retry {
        /// What the operator reads.
        reason: String,
        /// How long to wait at least. None: the handler's backoff decides.
        after: Option<Duration>,
    },
    /// Permanent: do not try again. The delivery becomes dead, with this reason.
    Reject {
        /// What the operator reads.
        reason: String,
    },
}

/// The event is handled. The note appears in the delivery's history.
///
/// # Errors
/// Never: it is the happy end, in the form that a handler returns.
pub fn done(note: impl Into<String>) -> Result<Outcome, Failure> {
    Ok(Outcome::Done(text(note)))
}

/// There is nothing to do for this event.
///
/// # Errors
/// Never: it is a happy end, in the form that a handler returns.
pub fn skip(why: impl Into<String>) -> Result<Outcome, Failure> {
    Ok(Outcome::Skipped(text(why)))
}

/// Try again later, when the handler's backoff says so.
///
/// # Errors
/// Always: [`Failure::Retry`].
pub fn retry<T>(reason: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::retry(reason))
}

/// Try again, but not before this much time has passed. The daemon clamps it.
///
/// # Errors
/// Always: [`Failure::Retry`].
pub fn retry_after<T>(wait: Duration, reason: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::retry(reason).after(Some(wait)))
}

/// Do not try again: the delivery becomes dead, with this reason.
///
/// # Errors
/// Always: [`Failure::Reject`].
pub fn reject<T>(reason: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::reject(reason))
}

fn text(note: impl Into<String>) -> Option<String> {
    Some(note.into()).filter(|note| !note.is_empty())
}

impl Failure {
    /// A transient failure.
    pub fn retry(reason: impl Into<String>) -> Failure {
        Failure::Retry { reason: reason.into(), after: None }
    }

    /// A permanent failure.
    pub fn reject(reason: impl Into<String>) -> Failure {
        Failure::Reject { reason: reason.into() }
    }

    /// The same failure with the least time to wait; a permanent one stays as it is.
    #[must_use]
    pub fn after(self, wait: Option<Duration>) -> Failure {
        match self {
            Failure::Retry { reason, .. } => Failure::Retry { reason, after: wait },
            permanent @ Failure::Reject { .. } => permanent,
        }
    }

    /// What the operator reads.
    pub fn reason(&self) -> &str {
        match self {
            Failure::Retry { reason, .. } | Failure::Reject { reason } => reason,
        }
    }

    /// Whether it is worth trying again.
    pub fn is_retry(&self) -> bool {
        matches!(self, Failure::Retry { .. })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Retry { reason, .. } => write!(f, "to be retried: {reason}"),
            Failure::Reject { reason } => write!(f, "rejected: {reason}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure::reject(format!("JSON: {error}"))
    }
}

/// Decides what an error of another crate, or a `None`, means for the delivery.
pub trait Context<T> {
    /// Trying again may help.
    ///
    /// # Errors
    /// [`Failure::Retry`] in place of the error, `what` first in its reason.
    fn or_retry(self, what: &str) -> Result<T, Failure>;

    /// Trying again cannot help.
    ///
    /// # Errors
    /// [`Failure::Reject`] in place of the error, `what` first in its reason.
    fn or_reject(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn or_retry(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::retry(format!("{what}: {error}")))
    }

    fn or_reject(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::reject(format!("{what}: {error}")))
    }
}

impl<T> Context<T> for Option<T> {
    fn or_retry(self, what: &str) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::retry(what))
    }

    fn or_reject(self, what: &str) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::reject(what))
    }
}
