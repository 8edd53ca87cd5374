//! Run: a delivery from its first attempt to its end, in a simulated world, with at most one trouble on its way.
//!
//! It goes on as the daemon has it go on: the next attempt knows what is written of those before it. Where a handler
//! gives up, the operator brings the delivery back; where it waits with a call, the operator says what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::fixture::{EPOCH, Rule};
use super::page::{Book, Memory, Page};
use super::world::{Did, Place, Simulation, Stop, Trouble};
use crate::host::{Called, Event, Halt, Handler, Wire};
use crate::words::attempt::Outcome;
use crate::words::effect::{Asked, Resolution, Waiting};
use crate::words::limits;
use crate::words::shelf::{ShelfTxn, ShelfWrite};
use crate::words::time::Millis;

/// Between two attempts, as the guest's clock shows it.
const PAUSE_MS: u64 = 60_000;
/// How far the number of an attempt is moved.
pub(super) const ATTEMPTS_APART: u32 = 8;

/// What is needed for every run of a fixture.
pub(super) struct Bench {
    pub(super) handler: Handler,
    /// The same code in other bytes.
    pub(super) other: Handler,
    pub(super) event: Event,
    pub(super) shelf: BTreeMap<String, Bytes>,
    /// What another delivery writes to the shelf.
    pub(super) others: BTreeMap<String, Bytes>,
    pub(super) rules: Arc<[Rule]>,
}

/// What is different when a run that was disturbed goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Variation {
    #[default]
    Nothing,
    Attempt,
    Shelf,
    Plugin,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) trouble: Option<Trouble>,
    pub(super) variation: Variation,
    /// Different from the beginning on: the number of the first attempt, the clock, the random numbers, the shelf.
    pub(super) attempts_before: u32,
    pub(super) later_ms: u64,
    pub(super) seed: u8,
    pub(super) is_shelf_changed: bool,
}

pub(super) struct Run {
    pub(super) end: End,
    pub(super) places: Vec<Place>,
    /// The calls that left, or would have.
    pub(super) asked: Vec<Asked>,
    pub(super) did: Vec<Did>,
    /// It went on because the operator said so.
    pub(super) is_by_operator: bool,
    /// The handler took an answer's yes for a no.
    pub(super) has_disowned: bool,
    /// What its last attempt read and wrote of the shelf.
    pub(super) txn: ShelfTxn,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Done or skipped.
    Settled,
    /// It makes another call than the one that happened.
    Changed(Asked),
    /// It waits for the operator, and nobody can say with what.
    Stuck(String),
    /// No rule of the world answers this call.
    Unanswered(String),
    TooManyPlaces,
}

/// How it goes on behind an attempt.
enum Next {
    Again,
    ByOperator,
    End(End),
}

impl Bench {
    pub(super) async fn run(&self, plan: &Plan) -> Run {
        let world = Arc::new(Simulation::new(Arc::clone(&self.rules), plan.trouble.clone()));
        let (book, shelf) = (Book::default(), Arc::new(Memory::of(self.shelf.clone())));
        if plan.is_shelf_changed {
            shelf.write(self.others.clone());
        }
        let (mut attempt, mut handler, mut is_varied) = (1 + plan.attempts_before, &self.handler, false);
        let (mut is_by_operator, mut has_disowned) = (false, false);
        let (mut txn, mut end) = (ShelfTxn::default(), None);
        let mut last = String::new();
        for turn in 0..limits::TORTURE_ATTEMPTS_MAX {
            world.begin(turn);
            let started_at = Millis(EPOCH.0 + plan.later_ms + u64::from(turn) * PAUSE_MS);
            let page = Page { book: book.clone(), attempt, started_at, seed: plan.seed };
            let wire = Wire::Simulated(Arc::new(page), Arc::clone(&world) as _);
            let called =
                handler.call(Event { attempt, ..self.event.clone() }, Arc::clone(&shelf) as _, wire).await;
            has_disowned |= called.calls.iter().any(|call| call.disowned);
            last = told(&called.outcome);
            match next(&called, &world, &book, &shelf) {
                Next::End(ended) => {
                    txn = called.shelf;
                    end = Some(ended);
                    break;
                }
                Next::ByOperator => is_by_operator = true,
                Next::Again => {}
            }
            attempt += 1;
            if !is_varied && world.is_calm() {
                is_varied = true;
                match plan.variation {
                    Variation::Nothing => {}
                    Variation::Attempt => attempt += ATTEMPTS_APART - 1,
                    Variation::Shelf => shelf.write(self.others.clone()),
                    Variation::Plugin => handler = &self.other,
                }
            }
        }
        let traces = world.traces();
        let end = end.unwrap_or(End::Stuck(last));
        let (places, asked, did) = (traces.places, traces.asked, traces.did);
        Run { end, places, asked, did, is_by_operator, has_disowned, txn }
    }

    /// What another delivery of the handler would write to the keys that this one reads: what this one writes there, and
    /// one more where it is a counter.
    pub(super) fn others_of(&self, txn: &ShelfTxn) -> BTreeMap<String, Bytes> {
        let before = Memory::of(self.shelf.clone());
        let after = Memory::of(self.shelf.clone());
        after.apply(&ShelfTxn { writes: txn.writes.clone(), ..ShelfTxn::default() });
        let other = |key: &String| {
            let (old, new) = (before.value(key), after.value(key));
            let is_written = txn.writes.get(key).is_some_and(|write| *write != ShelfWrite::Delete);
            let counted = || Some(Bytes::from((counter(old.as_ref()?)? + 1).to_string()));
            let value = if is_written && new != old { new } else { counted() };
            Some((key.clone(), value?))
        };
        txn.reads.keys().filter_map(other).collect()
    }
}

fn counter(value: &Bytes) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn next(called: &Called, world: &Simulation, book: &Book, shelf: &Memory) -> Next {
    match world.stop() {
        Some(Stop::Killed) => return Next::Again,
        Some(Stop::Unanswered(call)) => return Next::End(End::Unanswered(call)),
        Some(Stop::TooManyPlaces) => return Next::End(End::TooManyPlaces),
        None => {}
    }
    if let Some(Halt::Park(reason)) = &called.halt {
        return match book.waits_on() {
            Some(Waiting::Changed { asked, .. }) => Next::End(End::Changed(asked)),
            Some(on @ Waiting::Unknown { effect }) => {
                let is_done = world.has_done(effect);
                book.resolve(on, if is_done { Resolution::Happened } else { Resolution::DidNot });
                Next::ByOperator
            }
            None => Next::End(End::Stuck(reason.clone())),
        };
    }
    match &called.outcome {
        Outcome::Done { .. } | Outcome::Skipped { .. } if world.settles() && shelf.apply(&called.shelf) => {
            Next::End(End::Settled)
        }
        Outcome::Failed { permanent: true, .. } => Next::ByOperator,
        _ => Next::Again,
    }
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed { reason, .. } => reason.clone(),
        Outcome::Done { .. } => "done".to_owned(),
        Outcome::Skipped { .. } => "skipped".to_owned(),
    }
}
