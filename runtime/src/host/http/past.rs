//! Past: what earlier calls of a delivery, of this attempt and of those before it, say about the next one. Pure.
//!
//! The rules are few. What changed something and succeeded is never sent again: it *happened*. A read or a refusal
//! is answered as before while something happened after it, since the handler acted on it. Everything else is sent
//! again. What cannot be known, or not be recognised, is named, and goes by the operator's policy.

use bytes::Bytes;

use super::super::{EffectPolicy, OnChanged, OnUnknown};
use crate::words::effect::{Asked, Entry, Intent, NotSent, Resolution, Response, Ruled, Said, Waiting};

/// The calls of one delivery.
#[derive(Default)]
pub(super) struct Past {
    effects: Vec<Effect>,
    /// Counts entries: what has a higher number came later.
    clock: u64,
    /// New calls that the operator let through.
    allowed: Vec<Asked>,
    /// The calls of this attempt, as effects.
    calls: Vec<Option<u32>>,
}

struct Effect {
    /// As it was asked for first; more where the operator said that another call is the same.
    asked: Vec<Asked>,
    is_safe: bool,
    state: State,
    /// Of its latest entry.
    at: u64,
    /// The attempt that made it first.
    attempt: u32,
    generation: u32,
    /// As the guest asked for it when its generation began; empty for a call that changes nothing.
    request: Bytes,
    /// This attempt has asked for it.
    is_claimed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// The request may have left, and nobody knows what came of it.
    Unknown,
    Said(Said, Bytes),
    Disowned,
    /// The operator's word for an unknown one.
    DidNotHappen,
    /// The operator's word: send it again as it was.
    ToBeSent,
}

/// What is to be done about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Answered with this, and nothing leaves.
    Recorded(Said, Bytes),
    Send(Sending),
    Park(Waiting),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sending {
    pub(super) effect: u32,
    pub(super) generation: u32,
    /// These bytes and not the new ones: the idempotency key stands for them.
    pub(super) request: Option<Bytes>,
    /// It was perhaps sent before: whoever receives it may see it twice.
    pub(super) after_unknown: bool,
}

/// A success that nobody asked for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Orphan {
    pub(super) method: String,
    pub(super) place: String,
    pub(super) attempt: u32,
}

/// Methods that change nothing, by RFC 9110.
pub(super) fn is_safe(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS"].contains(&method)
}

impl Past {
    /// From the entries of earlier attempts, in their order.
    pub(super) fn of(entries: impl IntoIterator<Item = (Entry, Bytes)>) -> Past {
        let mut past = Past::default();
        entries.into_iter().for_each(|(entry, bytes)| past.note(entry, bytes));
        past.effects.iter_mut().for_each(|effect| effect.is_claimed = false);
        past
    }

    /// Takes what was written down, now or in an earlier attempt.
    pub(super) fn note(&mut self, entry: Entry, bytes: Bytes) {
        self.clock += 1;
        match entry {
            Entry::Intent(intent) => self.intended(intent, bytes),
            Entry::Response(response) => self.responded(response, bytes),
            Entry::Disowned { effect } => self.change(effect, |effect| effect.state = State::Disowned),
            Entry::Waiting(_) => {}
            Entry::Ruled(ruled) => self.ruled(ruled),
        }
    }

    fn intended(&mut self, intent: Intent, request: Bytes) {
        let Intent { attempt, effect, asked, generation } = intent;
        self.allowed.retain(|allowed| *allowed != asked);
        let effect = self.entry(effect, asked, attempt);
        if effect.request.is_empty() || effect.generation != generation {
            effect.request = request;
        }
        effect.generation = generation;
        effect.state = State::Unknown;
    }

    fn responded(&mut self, response: Response, body: Bytes) {
        let Response { attempt, effect, asked, said } = response;
        match asked {
            Some(asked) => self.entry(effect, asked, attempt).state = State::Said(said, body),
            None => self.change(effect, |effect| effect.state = State::Said(said, body)),
        }
    }

    fn ruled(&mut self, ruled: Ruled) {
        match (ruled.on, ruled.resolution) {
            (Waiting::Unknown { effect }, resolution) => self.change(effect, |effect| {
                effect.state = match resolution {
                    // Its answer is not known; this is what every handler takes for a yes.
                    Resolution::Happened => {
                        State::Said(Said::Answer { status: 200, headers: Vec::new() }, Bytes::new())
                    }
                    Resolution::DidNot => State::DidNotHappen,
                    Resolution::Send => State::ToBeSent,
                };
            }),
            (Waiting::Changed { effect, asked }, Resolution::Happened) => {
                self.change(effect, |effect| effect.asked.push(asked));
            }
            (Waiting::Changed { asked, .. }, Resolution::DidNot | Resolution::Send) => {
                self.allowed.push(asked)
            }
        }
    }

    fn entry(&mut self, number: u32, asked: Asked, attempt: u32) -> &mut Effect {
        let at = number as usize;
        if at >= self.effects.len() {
            self.effects.push(Effect {
                is_safe: is_safe(&asked.method),
                asked: vec![asked],
                state: State::Unknown,
                at: self.clock,
                attempt,
                generation: 0,
                request: Bytes::new(),
                is_claimed: true,
            });
        }
        let last = self.effects.len() - 1;
        let effect = &mut self.effects[at.min(last)];
        effect.at = self.clock;
        effect
    }

    fn change(&mut self, number: u32, change: impl FnOnce(&mut Effect)) {
        let clock = self.clock;
        if let Some(effect) = self.effects.get_mut(number as usize) {
            effect.at = clock;
            change(effect);
        }
    }

    /// What to do about the next call of this attempt.
    pub(super) fn decide(&mut self, asked: &Asked, policy: EffectPolicy) -> Decision {
        let found = self.find(asked);
        let (number, decision) = match found {
            Some(number) => (number, self.again(number, policy)),
            None => {
                let new = u32::try_from(self.effects.len()).unwrap_or(u32::MAX);
                match self.taken_for(asked) {
                    None => (new, Decision::Send(Sending::first(new))),
                    Some(other) => match policy.on_changed {
                        OnChanged::Send => (new, Decision::Send(Sending::first(new))),
                        OnChanged::Keep => (other, self.recorded(other)),
                        OnChanged::Park => {
                            let waiting = Waiting::Changed { effect: other, asked: asked.clone() };
                            return Decision::Park(waiting);
                        }
                    },
                }
            }
        };
        self.calls.push(Some(number));
        if let Some(effect) = self.effects.get_mut(number as usize) {
            effect.is_claimed = true;
        }
        decision
    }

    /// A call of this attempt that was refused before anybody asked.
    pub(super) fn skip(&mut self) {
        self.calls.push(None);
    }

    /// By its key; without one by its bytes, and of equal ones the next that was not asked for yet.
    fn find(&self, asked: &Asked) -> Option<u32> {
        let found = self.effects.iter().position(|effect| match &asked.key {
            Some(key) => effect.asked.iter().any(|known| {
                known.key.as_ref() == Some(key) && known.method == asked.method && known.place == asked.place
            }),
            None => {
                !effect.is_claimed
                    && effect.asked.iter().any(|known| known.key.is_none() && known.digest == asked.digest)
            }
        });
        found.and_then(|at| u32::try_from(at).ok())
    }

    fn again(&self, number: u32, policy: EffectPolicy) -> Decision {
        let effect = &self.effects[number as usize];
        let send = |generation, after_unknown| {
            let is_same = !effect.is_safe && generation == effect.generation && !effect.request.is_empty();
            let request = is_same.then(|| effect.request.clone());
            Decision::Send(Sending { effect: number, generation, request, after_unknown })
        };
        let (same, next) = (effect.generation, effect.generation.saturating_add(1));
        match &effect.state {
            State::Said(said, body) if effect.has_happened() => {
                Decision::Recorded(said.clone(), body.clone())
            }
            State::Said(said, body)
                if (effect.is_safe || is_refusal(said)) && self.has_happened_after(effect.at) =>
            {
                Decision::Recorded(said.clone(), body.clone())
            }
            _ if effect.is_safe => send(same, false),
            State::Unknown | State::Said(Said::Unknown { .. }, _) => match policy.on_unknown {
                OnUnknown::Resend => send(same, true),
                OnUnknown::Park => Decision::Park(Waiting::Unknown { effect: number }),
            },
            State::ToBeSent => send(same, true),
            State::Disowned | State::DidNotHappen => send(next, false),
            State::Said(Said::Answer { status, .. }, _) if is_no(*status) => send(next, false),
            State::Said(..) => send(same, false),
        }
    }

    fn recorded(&self, number: u32) -> Decision {
        match &self.effects[number as usize].state {
            State::Said(said, body) => Decision::Recorded(said.clone(), body.clone()),
            _ => Decision::Send(Sending::first(number)),
        }
    }

    /// A success with this method and place that was not asked for: the plugin's words have changed since.
    fn taken_for(&self, asked: &Asked) -> Option<u32> {
        if is_safe(&asked.method) || self.allowed.contains(asked) {
            return None;
        }
        let found = self.effects.iter().position(|effect| {
            // Two keys are two calls by the word of the plugin's author.
            let is_other_key = asked.key.is_some() && effect.asked[0].key.is_some();
            !effect.is_claimed
                && !is_other_key
                && effect.has_happened()
                && effect.asked[0].method == asked.method
                && effect.asked[0].place == asked.place
        });
        found.and_then(|at| u32::try_from(at).ok())
    }

    fn has_happened_after(&self, at: u64) -> bool {
        self.effects.iter().any(|effect| effect.at > at && effect.has_happened())
    }

    /// The effect that a call of this attempt stands for, where it is one that can be disowned.
    pub(super) fn disownable(&self, call: u32) -> Option<u32> {
        let number = (*self.calls.get(call as usize)?)?;
        self.effects.get(number as usize).filter(|effect| effect.has_happened()).map(|_| number)
    }

    /// How a call of which an attempt waits is named.
    pub(super) fn name_of(&self, effect: u32) -> (&str, &str) {
        match self.effects.get(effect as usize) {
            Some(effect) => (&effect.asked[0].method, &effect.asked[0].place),
            None => ("", ""),
        }
    }

    /// What happened in earlier attempts and was not asked for in this one.
    pub(super) fn orphans(&self) -> impl Iterator<Item = Orphan> {
        self.effects.iter().filter(|effect| !effect.is_claimed && effect.has_happened()).map(|effect| {
            Orphan {
                method: effect.asked[0].method.clone(),
                place: effect.asked[0].place.clone(),
                attempt: effect.attempt,
            }
        })
    }
}

impl Effect {
    fn has_happened(&self) -> bool {
        let is_yes = |status: u16| (200..300).contains(&status) || status == 303;
        match &self.state {
            State::Said(Said::Answer { status, .. } | Said::TooLarge { status }, _) => {
                !self.is_safe && is_yes(*status)
            }
            _ => false,
        }
    }
}

impl Sending {
    fn first(effect: u32) -> Sending {
        Sending { effect, generation: 0, request: None, after_unknown: false }
    }
}

/// The service understood and said no; a redirection that is not followed among them.
fn is_refusal(said: &Said) -> bool {
    let Said::Answer { status, .. } = said else { return false };
    (300..500).contains(status) && ![303, 408, 425, 429].contains(status)
}

/// Nothing happened, so that the next try is a new one. 408 and 409 may hide a first one that goes on.
fn is_no(status: u16) -> bool {
    (300..500).contains(&status) && ![303, 408, 409].contains(&status)
}

impl Said {
    /// Nothing left the machine.
    pub(super) fn not_sent(kind: NotSent, why: &str) -> Said {
        Said::NotSent { kind, why: why.to_owned() }
    }
}
