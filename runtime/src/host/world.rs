//! World: what answers a guest's calls where the network does not: a record, a simulation, or answers that somebody typed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::DryAnswer;
use crate::words::effect::{Asked, Said};

/// Answers calls in the network's place.
pub trait World: Send + Sync {
    /// What comes of a call that was granted and written down.
    ///
    /// # Errors
    /// The guest is not to go on behind it, and why.
    fn answer(&self, call: &Departed) -> Result<Arrived, String>;

    /// The guest asks something of the host, or is about to have its answer. Where it fails, the guest ends there, as
    /// if the process had.
    ///
    /// # Errors
    /// Why.
    fn reached(&self, _: HostCall, _: Side) -> Result<(), String> {
        Ok(())
    }
}

/// What a guest asks of the host; looks at the clock and random numbers, which leave nothing behind, are not among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostCall {
    HttpSend,
    HttpDisown,
    StateGet,
    StateSet,
    StateDelete,
    StateAdd,
    StateList,
    Log,
    Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Nothing of it is done.
    Before,
    /// All of it is done, and the guest does not know yet.
    After,
}

/// A call that would have left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departed {
    /// 0, 1, … within the attempt.
    pub number: u32,
    /// 0, 1, … within the delivery.
    pub effect: u32,
    pub asked: Asked,
    /// As it would be sent, the plugin's own where it set one; None: a call that changes nothing has none.
    pub idempotency_key: Option<String>,
    /// As this attempt asks for it; what is sent again has the bytes that its key stands for.
    pub body: Bytes,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    pub said: Said,
    pub body: Bytes,
    /// As the guest's clock shows it.
    pub took: Duration,
}

/// Answers in turn, the last one again and again; 200 with an empty JSON object where there is none.
pub(super) struct Canned {
    answers: Vec<DryAnswer>,
    turn: AtomicUsize,
}

impl Canned {
    pub(super) fn new(answers: Vec<DryAnswer>) -> Canned {
        Canned { answers, turn: AtomicUsize::new(0) }
    }
}

impl World for Canned {
    fn answer(&self, _: &Departed) -> Result<Arrived, String> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let answer = self.answers.get(turn).or(self.answers.last()).cloned().unwrap_or_default();
        Ok(answer.into())
    }
}

impl Default for DryAnswer {
    fn default() -> DryAnswer {
        DryAnswer { status: 200, body: Bytes::from_static(b"{}") }
    }
}

impl From<DryAnswer> for Arrived {
    fn from(answer: DryAnswer) -> Arrived {
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&answer.body).is_ok();
        let kind = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
        let headers = vec![("content-type".to_owned(), kind.to_owned())];
        let said = Said::Answer { status: answer.status, headers };
        Arrived { said, body: answer.body, took: Duration::from_millis(1) }
    }
}
