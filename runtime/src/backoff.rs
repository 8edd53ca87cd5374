//! Backoff: when to try again. Pure: the time and the dice are arguments.
#![allow(clippy::todo, unused_variables)]

use std::time::Duration;

use crate::words::time::Millis;

#[derive(Clone, Debug)]
pub struct Policy {
    pub give_up_after: Duration,
    pub first_delay: Duration,
    pub factor: f64,
    pub max_delay: Duration,
    pub jitter: Jitter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// Uniform between nothing and the whole delay.
    Full,
    None,
}

/// When to try again after `attempts` ended attempts, or None: it is time to give up.
///
/// `asked`: how long the handler asked to wait; clamped to `limits::AFTER_MAX`, never jittered below itself.
/// `dice`: uniform in 0..1. A delay that would pass `accepted_at + give_up_after` becomes one last try at that
/// moment; after it, None.
pub fn next(
    policy: &Policy,
    attempts: u32,
    accepted_at: Millis,
    now: Millis,
    asked: Option<Duration>,
    dice: f64,
) -> Option<Millis> {
    todo!()
}
