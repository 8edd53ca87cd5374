//! Past: what earlier calls of a delivery, of this attempt and of those before it, say about the next one. Pure.
//!
//! The rules are few. What changed something and succeeded is never sent again: it *happened*. A read or a refusal
//! is answered as before while something happened after it, since the handler acted on it. Everything else is sent
//! again. What cannot be known, or not be recognised, is named, and goes by the operator's policy.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::super::{OnChanged, OnUnknown};
use super::granted::Policy;
use crate::words::effect::{Asked, Entry, Intent, NotSent, Resolution, Response, Ruled, Said, Waiting};
use crate::words::tape::Seed;
use crate::words::time::Millis;

/// The calls of one delivery.
#[derive(Default)]
pub(super) struct Past {
    /// By their numbers.
    effects: BTreeMap<u32, Effect>,
    /// Counts entries: what has a higher number came later.
    clock: u64,
    /// New calls that the operator let through.
    allowed: Vec<Asked>,
    /// The calls of this attempt, as effects.
    calls: Vec<Option<u32>>,
    /// What the delivery's random numbers follow from.
    seed: Option<Seed>,
}

struct Effect {
    /// As it was asked for first; more where the operator said that another call is the same.
    asked: Vec<Asked>,
    is_safe: bool,
    state: State,
    /// Its last answer came then, and in this attempt; its last intent.
    answered: (u64, u32),
    left: (u64, u32),
    /// When the attempt began that made its request.
    began_at: Millis,
    /// How long its last answer took.
    took: Duration,
    /// The attempt that made it first.
    attempt: u32,
    /// Which call of the attempt that sent it last it was, where that is known.
    call: Option<u32>,
    generation: u32,
    /// When the key of this generation was first sent, as far as anybody knows.
    key_since: Option<Millis>,
    /// It was sent once with this key, or never.
    is_first_sending: bool,
    /// It was sent again after one that nobody knew the end of, and nothing has settled that since.
    perhaps_sent: bool,
    /// As the guest asked for it when its generation began; empty for a call that changes nothing.
    request: Bytes,
    /// This attempt has asked for it.
    is_claimed: bool,
    /// It was the answer to another call of this attempt.
    has_stood_in: bool,
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
    Recorded(Recorded),
    Send(Sending),
    Park(Waiting),
    /// As `Park`: it would be sent again with a key that the service has forgotten by now.
    Expired(Waiting),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) effect: u32,
    pub(super) said: Said,
    pub(super) body: Bytes,
    pub(super) took: Duration,
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
pub fn is_safe(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS"].contains(&method)
}

impl Past {
    /// From the entries of earlier attempts, in their order.
    pub(super) fn of(entries: impl IntoIterator<Item = (Entry, Bytes)>) -> Past {
        let mut past = Past::default();
        entries.into_iter().for_each(|(entry, bytes)| past.note(entry, bytes));
        past.effects.values_mut().for_each(|effect| effect.is_claimed = false);
        past
    }

    /// Takes what was written down, now or in an earlier attempt.
    pub(super) fn note(&mut self, entry: Entry, bytes: Bytes) {
        self.clock += 1;
        match entry {
            Entry::Intent(intent) => self.intended(intent, bytes),
            Entry::Response(response) => self.responded(response, bytes),
            Entry::Disowned { effect } => self.change(effect, |effect| effect.settle(State::Disowned)),
            Entry::Waiting(_) => {}
            Entry::Ruled(ruled) => self.ruled(ruled),
        }
    }

    fn intended(&mut self, intent: Intent, request: Bytes) {
        let Intent { attempt, effect, asked, generation, started_at, call, seed } = intent;
        self.seed = self.seed.or(seed);
        self.allowed.retain(|allowed| *allowed != asked);
        let (left, is_known) = ((self.clock, attempt), self.effects.contains_key(&effect));
        let effect = self.entry(effect, asked, attempt);
        // What happened has happened, whatever was written behind it.
        if effect.has_happened() {
            return;
        }
        effect.perhaps_sent |= is_known && effect.is_unknown();
        if effect.request.is_empty() || effect.generation != generation {
            (effect.request, effect.began_at) = (request, started_at);
        }
        if !is_known || effect.generation != generation {
            effect.key_since = None;
        }
        effect.is_first_sending = effect.key_since.is_none();
        effect.key_since.get_or_insert(started_at);
        effect.generation = generation;
        (effect.left, effect.call) = (left, call);
        effect.state = State::Unknown;
    }

    fn responded(&mut self, response: Response, body: Bytes) {
        let Response { attempt, effect, asked, said, took_us } = response;
        let answered = (self.clock, attempt);
        let effect = match asked {
            Some(asked) => Some(self.entry(effect, asked, attempt)),
            None => self.effects.get_mut(&effect),
        };
        if let Some(effect) = effect {
            (effect.answered, effect.took) = (answered, Duration::from_micros(took_us));
            if effect.is_first_sending && matches!(said, Said::NotSent { .. }) {
                effect.key_since = None;
            }
            effect.perhaps_sent &= !is_certain_no(&said);
            effect.state = State::Said(said, body);
            effect.perhaps_sent &= !effect.has_happened();
        }
    }

    fn ruled(&mut self, ruled: Ruled) {
        match (ruled.on, ruled.resolution) {
            (Waiting::Unknown { effect }, resolution) => self.change(effect, |effect| match resolution {
                // Its answer is not known; this is what every handler takes for a yes.
                Resolution::Happened => {
                    let yes = Said::Answer { status: 200, headers: Vec::new() };
                    effect.settle(State::Said(yes, Bytes::new()));
                }
                Resolution::DidNot => effect.settle(State::DidNotHappen),
                Resolution::Send => {
                    effect.perhaps_sent = true;
                    effect.state = State::ToBeSent;
                }
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
        self.effects.entry(number).or_insert_with(|| Effect {
            is_safe: is_safe(&asked.method),
            asked: vec![asked],
            state: State::Unknown,
            answered: (0, 0),
            left: (0, 0),
            began_at: Millis(0),
            took: Duration::ZERO,
            attempt,
            call: None,
            generation: 0,
            key_since: None,
            is_first_sending: true,
            perhaps_sent: false,
            request: Bytes::new(),
            is_claimed: true,
            has_stood_in: false,
        })
    }

    fn change(&mut self, number: u32, change: impl FnOnce(&mut Effect)) {
        if let Some(effect) = self.effects.get_mut(&number) {
            change(effect);
        }
    }

    /// What to do about the next call of this attempt.
    pub(super) fn decide(&mut self, asked: &Asked, policy: &Policy, now: Millis) -> Decision {
        let (number, decision, is_itself) = if let Some(number) = self.find(asked) {
            (number, self.again(number, policy, now), true)
        } else if let Some(number) = self.named_same(asked) {
            (number, self.again(number, policy, now), false)
        } else {
            match (self.taken_for(asked), policy.on_changed) {
                (Some(other), OnChanged::Keep) => (other, self.again(other, policy, now), false),
                (Some(other), OnChanged::Park) => {
                    return Decision::Park(Waiting::Changed { effect: other, asked: asked.clone() });
                }
                (None, _) | (_, OnChanged::Send) => {
                    let new = self.effects.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
                    (new, Decision::Send(Sending::first(new)), true)
                }
            }
        };
        self.calls.push(Some(number));
        self.change(number, |effect| match is_itself {
            true => effect.is_claimed = true,
            // It is still there for the call that it was.
            false => effect.has_stood_in = true,
        });
        decision
    }

    /// A call of this attempt that was refused before anybody asked.
    pub(super) fn skip(&mut self) {
        self.calls.push(None);
    }

    /// By its key; without one by its bytes, and of equal ones the first that was not asked for yet, one that happened
    /// before one that did not.
    fn find(&self, asked: &Asked) -> Option<u32> {
        let is_it = |effect: &Effect| effect.asked[0].is_same_call(asked);
        match &asked.key {
            Some(_) => self.position(is_it),
            None => {
                let is_free = |effect: &Effect| !effect.is_claimed && is_it(effect);
                self.position(|effect| is_free(effect) && effect.has_happened())
                    .or_else(|| self.position(is_free))
            }
        }
    }

    /// One of which the operator said that this call is the same.
    fn named_same(&self, asked: &Asked) -> Option<u32> {
        self.position(|effect| {
            !effect.has_stood_in && effect.asked[1..].iter().any(|known| known.is_same_call(asked))
        })
    }

    fn position(&self, is_it: impl Fn(&Effect) -> bool) -> Option<u32> {
        self.effects.iter().find(|(_, effect)| is_it(effect)).map(|(number, _)| *number)
    }

    fn again(&self, number: u32, policy: &Policy, now: Millis) -> Decision {
        let Some(effect) = self.effects.get(&number) else { return Decision::Send(Sending::first(number)) };
        let send = |generation, after_unknown| {
            let is_same = !effect.is_safe && generation == effect.generation && !effect.request.is_empty();
            let request = is_same.then(|| effect.request.clone());
            Decision::Send(Sending { effect: number, generation, request, after_unknown })
        };
        let (same, next) = (effect.generation, effect.generation.saturating_add(1));
        let recorded = |said: &Said, body: &Bytes| {
            let (said, body) = (said.clone(), body.clone());
            Decision::Recorded(Recorded { effect: number, said, body, took: effect.took })
        };
        let has_expired = effect.has_expired(policy, now);
        let is_unprotected = has_expired && !policy.resends_unprotected;
        match &effect.state {
            State::Said(said, body) if effect.has_happened() => recorded(said, body),
            State::Said(said, body) if (effect.is_safe || is_refusal(said)) && self.was_acted_on(effect) => {
                recorded(said, body)
            }
            _ if effect.is_safe => send(same, false),
            State::ToBeSent => send(same, true),
            State::Disowned | State::DidNotHappen => send(next, false),
            _ if effect.perhaps_sent || effect.is_unknown() => match policy.on_unknown {
                OnUnknown::Park => Decision::Park(Waiting::Unknown { effect: number }),
                OnUnknown::Resend if is_unprotected => Decision::Expired(Waiting::Unknown { effect: number }),
                OnUnknown::Resend => send(same, true),
            },
            State::Said(Said::Answer { status, .. }, _) if is_no(*status) => send(next, false),
            // An answer that says neither yes nor no: it is the key that keeps it from being done twice.
            _ if is_unprotected => Decision::Expired(Waiting::Unknown { effect: number }),
            _ => send(same, has_expired),
        }
    }

    /// A success with this method and place that was not asked for: the plugin's words have changed since.
    fn taken_for(&self, asked: &Asked) -> Option<u32> {
        if is_safe(&asked.method) || self.allowed.contains(asked) {
            return None;
        }
        self.position(|effect| {
            let first = &effect.asked[0];
            // Two keys are two calls by the word of the plugin's author.
            let is_other_key = asked.key.is_some() && first.key.is_some();
            !effect.is_claimed
                && !effect.has_stood_in
                && !is_other_key
                && effect.has_happened()
                && first.method == asked.method
                && first.place == asked.place
        })
    }

    /// In the attempt that had this answer, something happened that left after it.
    fn was_acted_on(&self, read: &Effect) -> bool {
        let (at, attempt) = read.answered;
        self.effects
            .values()
            .any(|effect| effect.has_happened() && effect.left.0 > at && effect.left.1 == attempt)
    }

    pub(super) fn seed(&self) -> Option<Seed> {
        self.seed
    }

    /// What the guest's wall clock begins at, where that is not the beginning of this attempt: that of the attempt that
    /// made the next of the calls that are told or sent again as they were, in their order, behind the last one that was
    /// asked for again.
    pub(super) fn wall_clock(&self) -> Option<Millis> {
        let mut standing: Vec<&Effect> = self.effects.values().filter(|effect| effect.stands()).collect();
        standing.sort_by_key(|effect| effect.left);
        let is_asked = |effect: &&Effect| effect.is_claimed || effect.has_stood_in;
        let next = standing.iter().rposition(is_asked).map_or(0, |last| last + 1);
        // Earlier versions did not write down when.
        standing.get(next).map(|effect| effect.began_at).filter(|began_at| began_at.0 > 0)
    }

    /// The effect that a call of this attempt stands for, where it is one that can be disowned.
    pub(super) fn disownable(&self, call: u32) -> Option<u32> {
        let number = (*self.calls.get(call as usize)?)?;
        self.effects.get(&number).filter(|effect| effect.has_happened()).map(|_| number)
    }

    /// How a call that an attempt waits with is found in the history: method, place, key, and where it was last sent.
    pub(super) fn name_of(&self, effect: u32) -> String {
        let Some(effect) = self.effects.get(&effect) else { return "a call".to_owned() };
        let Asked { method, place, key, .. } = &effect.asked[0];
        let key = key.as_ref().map(|key| format!(" with key `{key}`")).unwrap_or_default();
        let call = effect.call.map(|call| format!("call {call} of ")).unwrap_or_default();
        format!("{method} {place}{key} ({call}attempt {})", effect.left.1.max(effect.attempt))
    }

    /// What happened in earlier attempts and was not asked for in this one.
    pub(super) fn orphans(&self) -> impl Iterator<Item = Orphan> {
        let is_left = |effect: &&Effect| !effect.is_claimed && !effect.has_stood_in && effect.has_happened();
        self.effects.values().filter(is_left).map(|effect| Orphan {
            method: effect.asked[0].method.clone(),
            place: effect.asked[0].place.clone(),
            attempt: effect.attempt,
        })
    }
}

impl Effect {
    fn has_happened(&self) -> bool {
        let is_yes = |status: u16| (200..300).contains(&status) || status == 303;
        match &self.state {
            State::Said(
                Said::Answer { status, .. } | Said::TooLarge { status } | Said::Broken { status, .. },
                _,
            ) => !self.is_safe && is_yes(*status),
            _ => false,
        }
    }

    /// What it was asked for with counts: it is answered from the record, or sent again with the same key.
    fn stands(&self) -> bool {
        let is_over = match &self.state {
            State::Disowned | State::DidNotHappen => true,
            State::Said(Said::Answer { status, .. }, _) => is_no(*status) && !self.perhaps_sent,
            State::Said(..) | State::Unknown | State::ToBeSent => false,
        };
        !self.is_safe && !is_over
    }

    fn is_unknown(&self) -> bool {
        matches!(self.state, State::Unknown | State::Said(Said::Unknown { .. } | Said::Broken { .. }, _))
    }

    /// Whether the service has forgotten the key by now under which it was sent. A key of an unknown age has run out.
    fn has_expired(&self, policy: &Policy, now: Millis) -> bool {
        let Some((ttl, since)) = policy.key_ttl.zip(self.key_since) else { return false };
        !self.is_safe && now.since(since) >= ttl
    }

    /// Nobody need ask any more whether it happened.
    fn settle(&mut self, state: State) {
        self.state = state;
        self.perhaps_sent = false;
    }
}

impl Asked {
    /// By key, method and place, or by the bytes; with a key the place may have moved with a secret.
    fn is_same_call(&self, other: &Asked) -> bool {
        let is_same_place = self.method == other.method && self.place == other.place;
        self.key == other.key && (self.digest == other.digest || (self.key.is_some() && is_same_place))
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

/// Of bytes that were perhaps sent before: the first were judged alike, so nothing came of them either.
fn is_certain_no(said: &Said) -> bool {
    matches!(said, Said::Answer { status: 400 | 413 | 415 | 422, .. })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::http::Granted;
    use crate::host::{EffectPolicy, OriginGrant};
    use crate::words::digest::Digest;

    /// What the calls of one delivery leave behind, attempt by attempt.
    #[derive(Default)]
    struct Story {
        entries: Vec<(Entry, Bytes)>,
        past: Past,
        attempt: u32,
        policy: Policy,
        now: Millis,
    }

    fn call(method: &str, place: &str, key: Option<&str>, body: &str) -> Asked {
        let digest = Digest::of_parts(&[method.as_bytes(), place.as_bytes(), body.as_bytes()]);
        Asked { method: method.into(), place: place.into(), key: key.map(str::to_owned), digest }
    }

    fn post(body: &str) -> Asked {
        call("POST", "https://x.example/m", None, body)
    }

    fn status(status: u16) -> Said {
        Said::Answer { status, headers: Vec::new() }
    }

    fn broken(status: u16) -> Said {
        Said::Broken { status, why: String::new() }
    }

    fn unknown() -> Said {
        Said::Unknown { why: String::new() }
    }

    impl Story {
        fn next_attempt(&mut self) {
            self.past = Past::of(self.entries.clone());
            self.attempt += 1;
        }

        fn note(&mut self, entry: Entry, bytes: &'static str) {
            self.entries.push((entry.clone(), Bytes::from_static(bytes.as_bytes())));
            self.past.note(entry, Bytes::from_static(bytes.as_bytes()));
        }

        /// What is decided; where it is sent, it is answered so.
        fn ask(&mut self, asked: &Asked, said: Said) -> Decision {
            let decision = self.past.decide(asked, &self.policy, self.now);
            if let Decision::Send(Sending { effect, generation, .. }) = decision {
                let (attempt, is_read) = (self.attempt, is_safe(&asked.method));
                if !is_read {
                    // Each attempt has a time of its own, where the story does not tell it.
                    let started_at = self.now.max(Millis(u64::from(attempt) * 1000));
                    let (asked, call, seed) = (asked.clone(), Some(0), None);
                    let intent = Intent { attempt, effect, asked, generation, started_at, call, seed };
                    self.note(Entry::Intent(intent), "request");
                }
                let asked = is_read.then(|| asked.clone());
                self.note(Entry::Response(Response { attempt, effect, asked, said, took_us: 0 }), "body");
            }
            decision
        }
    }

    fn sent(decision: &Decision) -> (u32, u32, bool) {
        let Decision::Send(sending) = decision else { panic!("{decision:?}") };
        (sending.effect, sending.generation, sending.after_unknown)
    }

    fn is_recorded(decision: &Decision) {
        assert!(matches!(decision, Decision::Recorded(..)), "{decision:?}");
    }

    #[test]
    fn a_plugins_own_second_try_is_answered_by_the_one_that_happened() {
        for first in [status(503), unknown()] {
            let mut story = Story::default();
            story.next_attempt();
            story.ask(&post("a"), first);
            assert_eq!(sent(&story.ask(&post("a"), status(201))).0, 1);
            story.next_attempt();
            is_recorded(&story.ask(&post("a"), status(500)));
        }
    }

    #[test]
    fn what_is_unknown_stays_so_until_something_settles_it() {
        let settling = [(status(400), 1), (status(422), 1)];
        let others = [429, 401, 404, 503].map(status);
        let refused = Said::not_sent(NotSent::Connect, "refused");
        for said in others.into_iter().chain([refused]) {
            let mut story = Story::default();
            story.next_attempt();
            story.ask(&post("a"), unknown());
            story.next_attempt();
            assert_eq!(sent(&story.ask(&post("a"), said.clone())), (0, 0, true));
            story.next_attempt();
            assert_eq!(sent(&story.ask(&post("a"), status(200))), (0, 0, true), "{said:?}");
            story.next_attempt();
            is_recorded(&story.ask(&post("a"), status(500)));
        }
        for (said, generation) in settling {
            let mut story = Story::default();
            story.next_attempt();
            story.ask(&post("a"), unknown());
            story.next_attempt();
            story.ask(&post("a"), said);
            story.next_attempt();
            assert_eq!(sent(&story.ask(&post("a"), status(200))), (0, generation, false));
        }
    }

    #[test]
    fn the_operators_word_to_send_is_for_once() {
        let mut story = Story::default();
        story.policy.on_unknown = OnUnknown::Park;
        story.next_attempt();
        story.ask(&post("a"), unknown());
        story.next_attempt();
        let on = Waiting::Unknown { effect: 0 };
        assert_eq!(story.ask(&post("a"), status(200)), Decision::Park(on.clone()));
        story.note(Entry::Ruled(Ruled { on: on.clone(), resolution: Resolution::Send }), "");
        story.next_attempt();
        assert_eq!(sent(&story.ask(&post("a"), status(503))), (0, 0, true));
        story.next_attempt();
        assert_eq!(story.ask(&post("a"), status(200)), Decision::Park(on), "nobody knows still");
    }

    #[test]
    fn a_stand_in_leaves_what_happened_to_the_call_that_it_was() {
        for by_policy in [true, false] {
            let mut story = Story::default();
            story.next_attempt();
            story.ask(&post("a"), status(200));
            story.ask(&post("b"), status(200));
            story.next_attempt();
            if by_policy {
                story.policy.on_changed = OnChanged::Keep;
            } else {
                let on = Waiting::Changed { effect: 0, asked: post("new") };
                assert_eq!(story.ask(&post("new"), status(200)), Decision::Park(on.clone()));
                story.note(Entry::Ruled(Ruled { on, resolution: Resolution::Happened }), "");
                story.next_attempt();
            }
            for body in ["new", "a", "b"] {
                is_recorded(&story.ask(&post(body), status(500)));
            }
            assert_eq!(story.past.orphans().count(), 0);
        }
    }

    #[test]
    fn a_success_whose_body_is_lost_happened() {
        let mut story = Story::default();
        story.next_attempt();
        story.ask(&post("a"), broken(201));
        story.next_attempt();
        is_recorded(&story.ask(&post("a"), status(500)));
        let mut story = Story::default();
        story.next_attempt();
        story.ask(&post("a"), broken(500));
        story.next_attempt();
        assert!(sent(&story.ask(&post("a"), status(200))).2);
    }

    #[test]
    fn a_read_is_told_again_only_where_it_was_acted_on() {
        let get = call("GET", "https://x.example/m", None, "");
        let mut story = Story::default();
        story.next_attempt();
        story.ask(&post("a"), unknown());
        story.ask(&get, status(404));
        story.next_attempt();
        story.ask(&post("a"), status(200));
        assert_eq!(sent(&story.ask(&get, status(200))).0, 1, "it was read before the call happened");
        let mut story = Story::default();
        story.next_attempt();
        story.ask(&get, status(404));
        story.ask(&post("a"), status(200));
        story.next_attempt();
        is_recorded(&story.ask(&get, status(200)));
    }

    #[test]
    fn a_key_is_one_call_wherever_its_secret_url_moves() {
        let to =
            |place: &str, method: &str| Asked { place: place.into(), ..call(method, "x", Some("k"), "a") };
        let mut story = Story::default();
        story.next_attempt();
        story.ask(&to("https://one.example/[secret w]", "POST"), status(200));
        story.next_attempt();
        is_recorded(&story.ask(&to("https://two.example/[secret w]", "POST"), status(500)));
        assert_eq!(sent(&story.ask(&call("POST", "https://crm.example/", Some("k"), "b"), status(200))).0, 1);
    }

    const HOUR: u64 = 3_600_000;

    /// Asked first at the hour 1, with a service that forgets keys after a day.
    fn with_a_ttl(on_unknown: Option<OnUnknown>, first: Said) -> Story {
        let grant = OriginGrant {
            on_unknown,
            key_ttl: Some(std::time::Duration::from_millis(24 * HOUR)),
            ..OriginGrant::from("https://x.example")
        };
        let policy = Granted::new(&grant, EffectPolicy::default()).unwrap().policy;
        let mut story = Story { policy, now: Millis(HOUR), ..Story::default() };
        story.next_attempt();
        story.ask(&post("a"), first);
        story.next_attempt();
        story
    }

    #[test]
    fn a_key_that_has_run_out_protects_nothing() {
        let on = Waiting::Unknown { effect: 0 };
        for first in [unknown(), status(500), status(503), status(408), status(409)] {
            let is_named = first == unknown();
            let mut story = with_a_ttl(None, first.clone());
            story.now = Millis(25 * HOUR - 1);
            assert_eq!(sent(&story.ask(&post("a"), first.clone())), (0, 0, is_named), "{first:?}");
            // The age counts from the first sending and not from the last.
            story.next_attempt();
            story.now = Millis(25 * HOUR);
            assert_eq!(story.ask(&post("a"), status(200)), Decision::Expired(on.clone()), "{first:?}");
            for (resolution, generation, is_again) in
                [(Resolution::Send, 0, true), (Resolution::DidNot, 1, false)]
            {
                let mut story = with_a_ttl(None, first.clone());
                story.now = Millis(25 * HOUR);
                assert_eq!(story.ask(&post("a"), status(200)), Decision::Expired(on.clone()));
                story.note(Entry::Ruled(Ruled { on: on.clone(), resolution }), "");
                story.next_attempt();
                assert_eq!(sent(&story.ask(&post("a"), status(200))), (0, generation, is_again));
            }
            // Written for this origin, it is what the operator wants; and the history names each one.
            let mut story = with_a_ttl(Some(OnUnknown::Resend), first.clone());
            story.now = Millis(25 * HOUR);
            assert_eq!(sent(&story.ask(&post("a"), status(200))), (0, 0, true), "{first:?}");
            let mut story = with_a_ttl(Some(OnUnknown::Park), first);
            story.now = Millis(25 * HOUR);
            let waits = if is_named { Decision::Park(on.clone()) } else { Decision::Expired(on.clone()) };
            assert_eq!(story.ask(&post("a"), status(200)), waits);
        }
    }

    #[test]
    fn a_key_counts_from_when_it_may_have_left() {
        // A refusal has a new key, and what happened is told again: their age is no matter.
        for (first, generation) in [(status(429), 1), (status(400), 1), (status(404), 1)] {
            let mut story = with_a_ttl(None, first);
            story.now = Millis(1000 * HOUR);
            assert_eq!(sent(&story.ask(&post("a"), unknown())), (0, generation, false));
            story.next_attempt();
            story.now = Millis(1001 * HOUR);
            assert_eq!(
                sent(&story.ask(&post("a"), status(200))),
                (0, generation, true),
                "the new key is young"
            );
        }
        let mut story = with_a_ttl(None, status(200));
        story.now = Millis(1000 * HOUR);
        is_recorded(&story.ask(&post("a"), status(500)));
        // Nothing left: the key was never seen.
        let refused = || Said::not_sent(NotSent::Connect, "refused");
        let mut story = with_a_ttl(None, refused());
        story.now = Millis(1000 * HOUR);
        assert_eq!(sent(&story.ask(&post("a"), status(500))), (0, 0, false));
        story.next_attempt();
        story.now = Millis(1023 * HOUR);
        assert_eq!(sent(&story.ask(&post("a"), refused())), (0, 0, false));
        story.next_attempt();
        story.now = Millis(1024 * HOUR);
        let expired = Decision::Expired(Waiting::Unknown { effect: 0 });
        assert_eq!(
            story.ask(&post("a"), status(200)),
            expired,
            "what did not leave does not make it younger"
        );
        // A record from before times were written: its age is not known.
        let mut story = with_a_ttl(None, unknown());
        story.now = Millis(HOUR);
        for (entry, _) in &mut story.entries {
            if let Entry::Intent(intent) = entry {
                intent.started_at = Millis(0);
            }
        }
        story.next_attempt();
        story.now = Millis(1_790_000_000_000);
        assert_eq!(story.ask(&post("a"), status(200)), expired);
        // Reads have no key.
        let mut story = with_a_ttl(None, status(200));
        let get = call("GET", "https://x.example/m", None, "");
        story.ask(&get, status(500));
        story.next_attempt();
        story.now = Millis(1000 * HOUR);
        assert_eq!(sent(&story.ask(&get, status(200))).1, 0);
    }

    #[test]
    fn a_call_that_waits_is_named_by_what_the_history_shows() {
        let mut story = Story::default();
        story.next_attempt();
        story.ask(&call("POST", "https://x.example/m", Some("k"), "a"), unknown());
        story.next_attempt();
        assert_eq!(story.past.name_of(0), "POST https://x.example/m with key `k` (call 0 of attempt 1)");
        story.ask(&call("POST", "https://x.example/m", Some("k"), "a"), unknown());
        assert_eq!(story.past.name_of(0), "POST https://x.example/m with key `k` (call 0 of attempt 2)");
        assert_eq!(story.past.name_of(7), "a call");
    }

    #[test]
    fn the_wall_clock_is_that_of_the_attempt_that_made_what_is_asked_for_next() {
        let mut story = Story::default();
        story.next_attempt();
        assert_eq!(story.past.wall_clock(), None);
        story.ask(&post("a"), status(200));
        story.ask(&post("b"), status(503));
        story.next_attempt();
        assert_eq!(story.past.wall_clock(), Some(Millis(1000)), "it made `a`");
        story.ask(&post("a"), status(500));
        assert_eq!(story.past.wall_clock(), Some(Millis(1000)), "what failed goes again as it was");
        story.ask(&post("b"), status(200));
        assert_eq!(story.past.wall_clock(), None);
        story.ask(&post("c"), unknown());
        story.ask(&post("d"), status(404));
        story.next_attempt();
        assert_eq!(story.past.wall_clock(), Some(Millis(1000)));
        for body in ["a", "b"] {
            story.ask(&post(body), status(500));
        }
        assert_eq!(story.past.wall_clock(), Some(Millis(2000)), "it made `c`, of which nobody knows");
        story.ask(&post("c"), status(200));
        assert_eq!(story.past.wall_clock(), None, "`d` is over: the next is another one");
        // What nobody asks for again does not hold it back.
        story.next_attempt();
        story.ask(&post("c"), status(500));
        assert_eq!(story.past.wall_clock(), None);
    }

    #[test]
    fn a_late_intent_takes_nothing_back_and_numbers_may_have_gaps() {
        let mut story = Story::default();
        story.next_attempt();
        let intent = |effect| {
            let (started_at, call, seed) = (Millis(1), None, None);
            Entry::Intent(Intent {
                attempt: 1,
                effect,
                asked: post("a"),
                generation: 0,
                started_at,
                call,
                seed,
            })
        };
        let yes = |effect| {
            Entry::Response(Response { attempt: 1, effect, asked: None, said: status(200), took_us: 0 })
        };
        for entry in [intent(7), yes(7), intent(7), yes(9)] {
            story.note(entry, "");
        }
        story.next_attempt();
        is_recorded(&story.ask(&post("a"), status(500)));
        assert_eq!(sent(&story.ask(&post("a"), status(200))).0, 8);
    }
}
