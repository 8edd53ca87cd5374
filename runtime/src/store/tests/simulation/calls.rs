//! Calls: what is asked of the store, and the futures that are under way.
//!
//! A future is polled when it was woken, and only then: one that nobody wakes is a bug to be found. What it hands to
//! the writer is noted in order, for that is the order in which it must take effect.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::durable::{Safety, batch_at, has_event};
use super::model::Row;
use crate::store::codec::Begun;
use crate::store::core::Core;
use crate::store::journal::simulated::Simulated;
use crate::store::journal::simulated::dice::Dice;
use crate::store::{
    Accept, Accepted, Error, EventRef, NewDelivery, NewEvent, Receipt, Refused, Retained, Ruling, Settle,
    Settled, Status, accept, deliveries, lanes, retention,
};
use crate::words::digest::Digest;
use crate::words::event::{DeliveryId, Name};
use crate::words::lane::LaneChange;
use crate::words::secret::Fingerprint;
use crate::words::time::Millis;

pub(super) const PLUGIN: Digest = Digest([3; 32]);

// === what is asked ===

/// One request of a sender.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub source: Name,
    pub received_at: Millis,
    /// The time of expiry when it was received.
    pub clock: Millis,
    pub window: Duration,
    pub events: Vec<Want>,
}

#[derive(Clone, Debug)]
pub(super) struct Want {
    pub id: String,
    /// Equal ids with equal variants have equal bytes.
    pub variant: u64,
    pub padding: usize,
    pub deliveries: Vec<(Name, Name)>,
}

impl Want {
    /// Half of them have a second name, which follows from the id: two keys, and the same events are copies.
    fn also(&self) -> Option<String> {
        let is_even = self.id.bytes().last().is_some_and(|last| last % 2 == 0);
        is_even.then(|| format!("also {}", self.id))
    }

    pub(super) fn bytes(&self) -> Bytes {
        let mut text = format!("{}/{}/", self.id, self.variant);
        text.extend(std::iter::repeat_n('x', self.padding));
        Bytes::from(text)
    }
}

impl Request {
    fn accept(&self) -> Accept {
        let mut body = Vec::new();
        let events = self.events.iter().map(|want| {
            let from = u32::try_from(body.len()).expect("bodies are small");
            body.extend_from_slice(&want.bytes());
            let to = u32::try_from(body.len()).expect("bodies are small");
            let delivery = |(subscription, handler): &(Name, Name)| NewDelivery {
                subscription: subscription.clone(),
                handler: handler.clone(),
            };
            NewEvent {
                id: want.id.clone(),
                also: want.also(),
                event_type: "message.received".to_owned(),
                range: Some((from, to)),
                test: false,
                deliveries: want.deliveries.iter().map(delivery).collect(),
            }
        });
        let events = events.collect();
        Accept {
            source: self.source.clone(),
            received_at: self.received_at,
            signed_at: None,
            secret: Fingerprint([1; 6]),
            query: None,
            headers: Vec::new(),
            body: Bytes::from(body),
            dedupe_window: self.window,
            events,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Accept(Request),
    Begin {
        id: DeliveryId,
        number: u32,
        now: Millis,
    },
    Settle {
        settle: Box<Settle>,
        now: Millis,
        clock: Millis,
    },
    Effect {
        id: DeliveryId,
        number: u32,
        detail: Bytes,
        is_intent: bool,
        now: Millis,
    },
    Park {
        id: DeliveryId,
        now: Millis,
    },
    Rule {
        id: DeliveryId,
        ruling: Ruling,
        now: Millis,
        clock: Millis,
    },
    Lane {
        handler: Name,
        change: LaneChange,
        now: Millis,
    },
    /// Subscriptions that are wanted.
    Hold {
        wanted: BTreeSet<Name>,
        now: Millis,
    },
    /// `old`: what it must end.
    Retain {
        now: Millis,
        clock: Millis,
        old: Vec<(DeliveryId, Row)>,
    },
}

impl Op {
    /// Works in steps of its own, which nobody foresees.
    pub(super) fn is_upkeep(&self) -> bool {
        matches!(self, Op::Hold { .. } | Op::Retain { .. })
    }
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Op::Accept(request) => {
                write!(f, "accept from {} at {}:", request.source, request.received_at.0)?;
                request.events.iter().try_for_each(|want| {
                    write!(f, " {}/{} for {}", want.id, want.variant, want.deliveries.len())
                })
            }
            Op::Begin { id, number, .. } => write!(f, "begin {number} of {id}"),
            Op::Settle { settle, .. } => write!(
                f,
                "settle {} of {}{} as {:?} with {:?}",
                settle.attempt.number,
                settle.delivery,
                if settle.begun { "" } else { ", which was not begun," },
                settle.verdict,
                settle.shelf
            ),
            Op::Effect { id, number, detail, is_intent, .. } => {
                let what = if *is_intent { "intent" } else { "response" };
                write!(
                    f,
                    "note {what} {} of attempt {number} of {id}, {} bytes",
                    String::from_utf8_lossy(detail).trim(),
                    detail.len()
                )
            }
            Op::Park { id, .. } => write!(f, "park {id}"),
            Op::Rule { id, ruling, .. } => write!(f, "{ruling:?} {id}"),
            Op::Lane { handler, change, .. } => write!(f, "{handler} {change}"),
            Op::Hold { wanted, .. } => write!(f, "hold all but {wanted:?}"),
            Op::Retain { clock, .. } => write!(f, "retain at {}", clock.0),
        }
    }
}

// === what is answered ===

/// What a call returned.
#[derive(Debug)]
pub(super) enum Said {
    Accepted(Result<Receipt, Refused>),
    Changed(Answer),
    Held(Result<(u64, u64), Answer>),
    Retained(Result<Retained, Answer>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Fine,
    Conflict,
    NoSuch,
    WrongState(Status),
    /// Nothing was kept.
    Full,
    /// The store takes nothing any more.
    Failed,
    Other(String),
    /// Whatever it says, it cannot be foreseen.
    Any,
}

impl From<Error> for Answer {
    fn from(error: Error) -> Answer {
        match error {
            Error::NoSuchDelivery(_) => Answer::NoSuch,
            Error::WrongState(_, status) => Answer::WrongState(status),
            Error::DiskFull(_) => Answer::Full,
            Error::Failed(_) | Error::Closing => Answer::Failed,
            other => Answer::Other(other.to_string()),
        }
    }
}

fn answer(result: Result<(), Error>) -> Answer {
    result.map_or_else(Answer::from, |()| Answer::Fine)
}

type Asked = Pin<Box<dyn Future<Output = Said> + Send>>;

fn ask(core: Arc<Core>, op: Op) -> Asked {
    Box::pin(async move {
        match op {
            Op::Accept(request) => Said::Accepted(accept::accept(&core, request.accept()).await),
            Op::Begin { id, number, now } => {
                let begun = Begun::new(&id, number, PLUGIN, now);
                Said::Changed(answer(deliveries::begin(&core, begun).await))
            }
            Op::Settle { settle, now, .. } => {
                Said::Changed(match deliveries::settle(&core, *settle, now).await {
                    Ok(Settled::Written) => Answer::Fine,
                    Ok(Settled::Conflict) => Answer::Conflict,
                    Err(error) => error.into(),
                })
            }
            Op::Effect { id, number, detail, is_intent, now } => Said::Changed(answer(
                deliveries::note_effect(&core, id, number, (detail, is_intent), now).await,
            )),
            Op::Park { id, now } => {
                Said::Changed(answer(deliveries::park(&core, id, "it was begun too often".into(), now).await))
            }
            Op::Rule { id, ruling, now, .. } => {
                Said::Changed(answer(deliveries::rule(&core, id, ruling, now).await))
            }
            Op::Lane { handler, change, now } => {
                Said::Changed(answer(lanes::change(&core, handler, change, now).await))
            }
            Op::Hold { wanted, now } => {
                let is_wanted = move |subscription: &Name, _: &Name| {
                    wanted.contains(subscription).then_some(()).ok_or_else(|| "it is gone".to_owned())
                };
                let held = deliveries::hold_unwanted(&core, Arc::new(is_wanted), now).await;
                Said::Held(held.map_err(Answer::from))
            }
            Op::Retain { now, .. } => {
                Said::Retained(retention::retain(&core, now).await.map_err(Answer::from))
            }
        }
    })
}

// === what is under way ===

/// A call, from when it was made until it is answered.
struct Call {
    asked: Asked,
    woken: Arc<Woken>,
    is_upkeep: bool,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Everything of one process that waits for something.
pub(super) struct Flight {
    pub core: Arc<Core>,
    disk: Simulated,
    safety: Safety,
    calls: BTreeMap<u64, Call>,
    /// Calls whose change waits for the writer, in its order.
    pub queue: Vec<u64>,
    /// Calls whose change the writer is at.
    pub taken: Vec<u64>,
    /// Where its batch begins.
    pub batch_at: u64,
    /// Answers that were not looked at yet.
    pub answers: Vec<(u64, Said)>,
    /// Events that were seen to be durable.
    pub proved: BTreeSet<EventRef>,
    /// What must not be, and was seen in the middle of a call of the disk.
    pub found: Option<String>,
}

impl Flight {
    pub(super) fn new(
        core: Arc<Core>,
        disk: Simulated,
        safety: Safety,
        proved: BTreeSet<EventRef>,
    ) -> Flight {
        Flight {
            core,
            disk,
            safety,
            calls: BTreeMap::new(),
            queue: Vec::new(),
            taken: Vec::new(),
            batch_at: 0,
            answers: Vec::new(),
            proved,
            found: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn has_upkeep(&self) -> bool {
        self.calls.values().any(|call| call.is_upkeep)
    }

    pub(super) fn start(&mut self, number: u64, op: Op) {
        let is_upkeep = op.is_upkeep();
        let asked = ask(self.core.clone(), op);
        self.calls.insert(number, Call { asked, woken: Arc::new(Woken(AtomicBool::new(true))), is_upkeep });
        self.poll(number);
    }

    /// The caller went away.
    pub(super) fn cancel(&mut self, dice: &mut Dice) -> Option<u64> {
        let goes = |(number, call): (&u64, &Call)| (!call.is_upkeep || dice.percent(10)).then_some(*number);
        let numbers: Vec<u64> = self.calls.iter().filter_map(goes).collect();
        let number = *dice.pick(&numbers)?;
        self.calls.remove(&number);
        Some(number)
    }

    /// Polls what was woken, in a random order, until nothing is. False: nothing was.
    pub(super) fn poll_woken(&mut self, dice: &mut Dice) -> bool {
        let mut polled = false;
        loop {
            let is_woken = |(_, call): &(&u64, &Call)| call.woken.0.load(Ordering::Relaxed);
            let woken: Vec<u64> = self.calls.iter().filter(is_woken).map(|(number, _)| *number).collect();
            let Some(number) = dice.pick(&woken) else { return polled };
            self.poll(*number);
            polled = true;
        }
    }

    fn poll(&mut self, number: u64) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(call.woken.clone());
        let before = self.core.queue.waiting();
        match call.asked.as_mut().poll(&mut Context::from_waker(&waker)) {
            // What an answered call leaves behind are counts of redeliveries.
            Poll::Ready(said) => {
                self.calls.remove(&number);
                if let Err(why) = self.check_durable(number, &said) {
                    self.found.get_or_insert(why);
                }
                self.answers.push((number, said));
            }
            Poll::Pending if self.core.queue.waiting() > before => self.queue.push(number),
            Poll::Pending => {}
        }
    }

    /// Nobody hears of what a machine crash could take.
    fn check_durable(&mut self, number: u64, said: &Said) -> Result<(), String> {
        match said {
            Said::Accepted(Ok(receipt)) => {
                receipt.events().iter().try_for_each(|accepted: &Accepted| self.prove(accepted.event))
            }
            Said::Changed(Answer::Fine) if self.taken.contains(&number) => self.prove_batch(),
            _ => Ok(()),
        }
    }

    pub(super) fn prove(&mut self, event: EventRef) -> Result<(), String> {
        if !self.proved.contains(&event) {
            if !has_event(&self.disk, self.safety, event) {
                return Err(format!("{event} was named, and it is not durable"));
            }
            self.proved.insert(event);
        }
        Ok(())
    }

    pub(super) fn prove_batch(&self) -> Result<(), String> {
        match batch_at(&self.disk, self.safety, self.batch_at) {
            Some(_) => Ok(()),
            None => Err(format!("the batch at {:x} was answered for, and it is not durable", self.batch_at)),
        }
    }
}
