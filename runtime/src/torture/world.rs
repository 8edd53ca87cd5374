//! World: the services of a fixture, what they did, and the trouble that strikes at one place.
//!
//! A service has done something where it was asked for a change and said yes, or said nothing because the trouble took
//! its answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::fixture::{Rule, is_like};
use crate::host::{Arrived, Departed, HostCall, Side, World};
use crate::words::digest::Digest;
use crate::words::effect::{Asked, NotSent, Said};
use crate::words::limits;

/// As the guest's clock shows it.
pub(super) const ANSWER_TAKES: Duration = Duration::from_millis(1);
const TIMEOUT_TAKES: Duration = Duration::from_secs(2);

/// Where a run may be disturbed: a call of the host, counted within its attempt, and a moment of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// 0 for the first attempt of a run.
    pub(super) turn: u32,
    /// 1, 2, … within the attempt; 0: behind the last one.
    pub(super) number: u32,
    pub(super) call: Option<HostCall>,
    pub(super) moment: Moment,
    /// Of `http.send`: method and place, where it got so far.
    pub(super) asked: Option<Asked>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Moment {
    Before,
    /// The intent is written, and nothing has left.
    Intended,
    /// The service has done it, and its answer is not written.
    Acted,
    After,
    /// The handler has answered, and its outcome is not written.
    Settle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fault {
    PaymentRequired,
    TooMany,
    ServerError,
    /// 200 with `{"ok":false}`.
    SaysNo,
    TimeoutBefore,
    TimeoutAfter,
    Refused,
}

impl Fault {
    pub(super) const ALL: [Fault; 7] = [
        Fault::PaymentRequired,
        Fault::TooMany,
        Fault::ServerError,
        Fault::SaysNo,
        Fault::TimeoutBefore,
        Fault::TimeoutAfter,
        Fault::Refused,
    ];
}

/// It strikes once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Kill(Place),
    Fault(Place, Fault),
}

/// Something that a service did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Did {
    pub(super) effect: u32,
    pub(super) turn: u32,
    pub(super) asked: Asked,
    pub(super) idempotency_key: Option<String>,
}

/// Why a run cannot go on, where it was the world that ended it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Killed,
    /// No rule answers this call.
    Unanswered(String),
    TooManyPlaces,
}

pub(super) struct Simulation {
    rules: Arc<[Rule]>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    trouble: Option<Trouble>,
    turn: u32,
    number: u32,
    stop: Option<Stop>,
    places: Vec<Place>,
    asked: Vec<Asked>,
    did: Vec<Did>,
    /// Answers given, by rule.
    turns: BTreeMap<usize, usize>,
    /// What a rule answered to an idempotency key.
    known: BTreeMap<(usize, String), Arrived>,
}

/// What a run leaves behind in its world.
pub(super) struct Traces {
    /// Where it could have been disturbed.
    pub(super) places: Vec<Place>,
    /// The calls that left, or would have.
    pub(super) asked: Vec<Asked>,
    pub(super) did: Vec<Did>,
}

impl Simulation {
    pub(super) fn new(rules: Arc<[Rule]>, trouble: Option<Trouble>) -> Simulation {
        Simulation { rules, inner: Mutex::new(Inner { trouble, ..Inner::default() }) }
    }

    pub(super) fn begin(&self, turn: u32) {
        let mut inner = self.lock();
        (inner.turn, inner.number, inner.stop) = (turn, 0, None);
    }

    pub(super) fn stop(&self) -> Option<Stop> {
        self.lock().stop.clone()
    }

    /// The trouble has come and gone.
    pub(super) fn is_calm(&self) -> bool {
        self.lock().trouble.is_none()
    }

    /// The handler has answered: whether the process lives to write it.
    pub(super) fn settles(&self) -> bool {
        let mut inner = self.lock();
        inner.number = 0;
        inner.pass(None, Moment::Settle, None).is_ok()
    }

    pub(super) fn has_done(&self, effect: u32) -> bool {
        self.lock().did.iter().any(|did| did.effect == effect)
    }

    pub(super) fn traces(&self) -> Traces {
        let mut inner = self.lock();
        let inner = std::mem::take(&mut *inner);
        Traces { places: inner.places, asked: inner.asked, did: inner.did }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World for Simulation {
    fn answer(&self, call: &Departed) -> Result<Arrived, String> {
        let mut inner = self.lock();
        inner.asked.push(call.asked.clone());
        inner.pass(Some(HostCall::HttpSend), Moment::Intended, Some(&call.asked))?;
        let fault = inner.fault();
        if let Some(answer) = fault.and_then(instead) {
            return Ok(answer);
        }
        let answer = inner.act(&self.rules, call)?;
        inner.pass(Some(HostCall::HttpSend), Moment::Acted, Some(&call.asked))?;
        Ok(if fault.is_some() { timeout() } else { answer })
    }

    fn reached(&self, call: HostCall, side: Side) -> Result<(), String> {
        let mut inner = self.lock();
        match side {
            Side::Before => {
                inner.number += 1;
                inner.pass(Some(call), Moment::Before, None)
            }
            Side::After => inner.pass(Some(call), Moment::After, None),
        }
    }
}

impl Inner {
    /// Notes a place, and ends the guest where it is the one.
    fn pass(&mut self, call: Option<HostCall>, moment: Moment, asked: Option<&Asked>) -> Result<(), String> {
        if self.places.len() >= limits::TORTURE_PLACES_MAX {
            self.stop = Some(Stop::TooManyPlaces);
            return Err("too many places".to_owned());
        }
        let place = Place { turn: self.turn, number: self.number, call, moment, asked: asked.cloned() };
        let is_it = |trouble: &mut Trouble| matches!(trouble, Trouble::Kill(kill) if kill.is_at(&place));
        let kill = self.trouble.take_if(is_it);
        self.places.push(place);
        if kill.is_none() {
            return Ok(());
        }
        self.stop = Some(Stop::Killed);
        Err("killed".to_owned())
    }

    /// What strikes the call that is leaving.
    fn fault(&mut self) -> Option<Fault> {
        let (turn, number) = (self.turn, self.number);
        let is_it = |trouble: &mut Trouble| matches!(trouble, Trouble::Fault(at, _) if (at.turn, at.number) == (turn, number));
        match self.trouble.take_if(is_it)? {
            Trouble::Fault(_, fault) => Some(fault),
            Trouble::Kill(_) => None,
        }
    }

    fn act(&mut self, rules: &[Rule], call: &Departed) -> Result<Arrived, String> {
        let Asked { method, place, .. } = &call.asked;
        let acted = |method: &str, url: &str| {
            self.did.iter().any(|did| did.asked.method == method && is_like(url, &did.asked.place))
        };
        let Some(at) = rules.iter().position(|rule| rule.fits(method, place, &call.body, acted)) else {
            self.stop = Some(Stop::Unanswered(format!("{method} {place}")));
            return Err("no rule answers".to_owned());
        };
        let rule = &rules[at];
        let known = call.idempotency_key.clone().filter(|_| rule.idempotent).map(|key| (at, key));
        if let Some(known) = known.as_ref().and_then(|known| self.known.get(known)) {
            return Ok(known.clone());
        }
        let turn = self.turns.entry(at).or_default();
        let answer = rule.answer(*turn);
        *turn += 1;
        if !is_safe(method) && says_yes(&answer) {
            let is_there =
                rule.upsert && self.did.iter().any(|did| identity(&did.asked) == identity(&call.asked));
            if !is_there {
                let (effect, turn, asked) = (call.effect, self.turn, call.asked.clone());
                self.did.push(Did { effect, turn, asked, idempotency_key: call.idempotency_key.clone() });
            }
            self.known.extend(known.map(|known| (known, answer.clone())));
        }
        Ok(answer)
    }
}

impl Place {
    pub(super) fn is_at(&self, other: &Place) -> bool {
        (self.turn, self.number, self.moment) == (other.turn, other.number, other.moment)
    }
}

/// What makes two calls the same: method, place, and the key or the bytes.
pub(super) type Identity = (String, String, Result<String, Digest>);

pub(super) fn identity(asked: &Asked) -> Identity {
    (asked.method.clone(), asked.place.clone(), asked.key.clone().ok_or(asked.digest))
}

pub(super) fn is_safe(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS"].contains(&method)
}

fn says_yes(answer: &Arrived) -> bool {
    let is_yes = answer.said.status().is_some_and(|status| (200..300).contains(&status) || status == 303);
    let content: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    is_yes && content["ok"] != serde_json::Value::Bool(false)
}

/// What comes of a call that the service never acted on; None: it does.
fn instead(fault: Fault) -> Option<Arrived> {
    let status = |status: u16, body: &'static str| {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Arrived {
            said: Said::Answer { status, headers },
            body: Bytes::from_static(body.as_bytes()),
            took: ANSWER_TAKES,
        }
    };
    match fault {
        Fault::PaymentRequired => Some(status(402, r#"{"message":"torture: payment required"}"#)),
        Fault::TooMany => Some(status(429, r#"{"message":"torture: too many requests"}"#)),
        Fault::ServerError => Some(status(500, r#"{"message":"torture: internal error"}"#)),
        Fault::SaysNo => Some(status(200, r#"{"ok":false}"#)),
        Fault::TimeoutBefore => Some(timeout()),
        Fault::TimeoutAfter => None,
        Fault::Refused => {
            let said =
                Said::NotSent { kind: NotSent::Connect, why: "torture: connection refused".to_owned() };
            Some(Arrived { said, body: Bytes::new(), took: ANSWER_TAKES })
        }
    }
}

/// Nobody knows what became of it.
fn timeout() -> Arrived {
    Arrived { said: Said::Unknown { why: String::new() }, body: Bytes::new(), took: TIMEOUT_TAKES }
}
