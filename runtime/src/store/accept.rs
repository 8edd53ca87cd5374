//! Accept: claim in memory, ask the index, write. What is new is written once, whoever sends it how often.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::claims::{Answer, Claim, Entered, Hash, Mine, Stored, body_hash, key_of};
use super::codec::{AcceptRecord, EventRecord, Record, Redelivery};
use super::core::Core;
use super::writer::AcceptJob;
use super::{Accept, Accepted, NewEvent, Receipt, Refused};
use crate::words::event::EventRef;
use crate::words::limits::{EVENTS_PER_REQUEST_MAX, RECORD_BYTES_MAX};
use crate::words::time::Millis;

/// An event of the request, and what is known of it so far.
struct Incoming {
    /// Of its id, and of its second name.
    hash: Hash,
    also: Option<Hash>,
    body_hash: u64,
    /// In the journal already, or after this request.
    stored: Option<Stored>,
}

impl Incoming {
    fn keys(&self) -> impl Iterator<Item = Hash> + use<> {
        std::iter::once(self.hash).chain(self.also)
    }
}

/// The new events of a request by their place in it, each with the claims of its keys.
type New = BTreeMap<usize, Vec<Mine>>;

pub(super) async fn accept(core: &Arc<Core>, accept: Accept) -> Result<Receipt, Refused> {
    if let Some(stopped) = core.health.stopped() {
        return Err(stopped);
    }
    check(&accept)?;
    let now = core.clock.expiry(accept.received_at);
    let mut incoming = identify(&accept);
    let new = claim_all(core, &mut incoming, now).await?;
    let received_at = accept.received_at;
    let positions =
        if new.is_empty() { BTreeMap::new() } else { write(core, accept, &incoming, new, now).await? };
    let receipt = receipt(incoming, &positions);
    count_redeliveries(core, &receipt, received_at);
    Ok(receipt)
}

/// What the caller should have seen to: written down, it could not be read as it was meant.
fn check(accept: &Accept) -> Result<(), Refused> {
    let count = accept.events.len();
    if count == 0 || count > EVENTS_PER_REQUEST_MAX {
        return Err(Refused::Failed(format!(
            "a request of {count} events is none; it has 1 to {EVENTS_PER_REQUEST_MAX}"
        )));
    }
    let is_inside = |(from, to): (u32, u32)| from <= to && to as usize <= accept.body.len();
    match accept.events.iter().filter_map(|event| event.range).find(|range| !is_inside(*range)) {
        Some((from, to)) => Err(Refused::Failed(format!(
            "an event from byte {from} to {to} is not in its body of {} bytes",
            accept.body.len()
        ))),
        None => Ok(()),
    }
}

fn identify(accept: &Accept) -> Vec<Incoming> {
    let incoming = |event: &NewEvent| Incoming {
        hash: key_of(accept.source.as_str(), &event.id),
        also: event.also.as_deref().map(|also| key_of(accept.source.as_str(), also)),
        body_hash: body_hash(&super::codec::body_of(&accept.body, event.range)),
        stored: None,
    };
    accept.events.iter().map(incoming).collect()
}

// === claim ===

enum Claimed {
    New(Mine),
    Known(Stored),
}

/// Says of each event whether it is new: none of its keys is known, nor an earlier event's of this request.
async fn claim_all(core: &Arc<Core>, incoming: &mut [Incoming], now: Millis) -> Result<New, Refused> {
    // Keys in their order: two requests that share several cannot wait for each other in a circle.
    let keys = |(at, event): (usize, &Incoming)| event.keys().map(move |key| (key, at));
    let owners: BTreeMap<Hash, usize> = incoming.iter().enumerate().rev().flat_map(keys).collect();
    let (mut mine, mut known) = (BTreeMap::new(), BTreeMap::new());
    for key in owners.keys() {
        match claim(core, *key, now).await? {
            Claimed::New(claim) => drop(mine.insert(*key, claim)),
            Claimed::Known(stored) => drop(known.insert(*key, stored)),
        }
    }
    let mut new = New::new();
    for (at, event) in incoming.iter_mut().enumerate() {
        if event.keys().all(|key| owners[&key] == at && mine.contains_key(&key)) {
            new.insert(at, event.keys().filter_map(|key| mine.remove(&key)).collect());
        } else {
            event.stored = event.keys().find_map(|key| known.get(&key).copied());
        }
    }
    // What is left are other names of events that are known: whoever waits for one of them asks for himself.
    Ok(new)
}

/// Ours to write, or known: to the index, or to another copy that was first.
async fn claim(core: &Arc<Core>, hash: Hash, now: Millis) -> Result<Claimed, Refused> {
    loop {
        match core.claims.enter(hash) {
            Entered::Mine(mine) => return ask_index(core, mine, now),
            Entered::Theirs(claim) => match claim.answer().await {
                Answer::Stored(stored) => return Ok(Claimed::Known(stored)),
                Answer::Refused(refused) => return Err(refused),
                Answer::Abandoned => {}
            },
        }
    }
}

/// An index that cannot be asked is a refusal, never "new".
fn ask_index(core: &Core, mine: Mine, now: Millis) -> Result<Claimed, Refused> {
    match core.index.seen(&mine.hash) {
        Ok(Some(entry)) if now < entry.expires => {
            mine.end(Answer::Stored(entry.stored));
            Ok(Claimed::Known(entry.stored))
        }
        Ok(_) => Ok(Claimed::New(mine)),
        Err(error) => {
            let refused = Refused::Failed(error.to_string());
            mine.end(Answer::Refused(refused.clone()));
            Err(refused)
        }
    }
}

// === write ===

/// Writes the new events and waits until they are durable. Returns where each of them lies.
async fn write(
    core: &Core,
    accept: Accept,
    incoming: &[Incoming],
    new: New,
    now: Millis,
) -> Result<BTreeMap<usize, Stored>, Refused> {
    let record = record_of(accept, incoming, &new, now, core.machine.now_us());
    let draft = super::codec::draft_accept(&record);
    let places: Vec<(usize, Arc<Claim>)> =
        new.iter().filter_map(|(at, mine)| Some((*at, mine.first()?.claim.clone()))).collect();
    let job = Box::new(AcceptJob { draft, record, claims: new.into_values().flatten().collect() });
    let too_large = (job.draft.bytes() > RECORD_BYTES_MAX).then(|| {
        Refused::Failed(format!("a record of {} bytes is too large for the journal", job.draft.bytes()))
    });
    if let Some(refused) = too_large.or_else(|| core.health.refusing()) {
        job.refuse(&refused);
        return Err(refused);
    }
    if let Err((job, refused)) = core.queue.push_accept(job) {
        job.refuse(&refused);
        return Err(refused);
    }
    let mut stored = BTreeMap::new();
    for (at, claim) in places {
        match claim.answer().await {
            Answer::Stored(place) => drop(stored.insert(at, place)),
            Answer::Refused(refused) => return Err(refused),
            Answer::Abandoned => {
                return Err(core.health.stopped().unwrap_or(Refused::Closing));
            }
        }
    }
    Ok(stored)
}

/// The record of the new events. Takes what it can: the body is copied once, when it is encoded.
fn record_of(accept: Accept, incoming: &[Incoming], new: &New, now: Millis, queued_us: u64) -> AcceptRecord {
    let is_new = |(at, _): &(usize, NewEvent)| new.contains_key(at);
    let event = |(at, event): (usize, NewEvent)| EventRecord {
        id: event.id,
        also: incoming[at].also,
        event_type: event.event_type,
        range: event.range,
        test: event.test,
        body_hash: incoming[at].body_hash,
        deliveries: event.deliveries,
    };
    AcceptRecord {
        source: accept.source,
        received_at: accept.received_at,
        clock: now,
        queued_us,
        signed_at: accept.signed_at,
        secret: accept.secret,
        expires: now.plus(accept.dedupe_window),
        query: accept.query,
        headers: accept.headers,
        events: accept.events.into_iter().enumerate().filter(is_new).map(event).collect(),
        body: accept.body,
    }
}

// === answer ===

/// One row for each event of the request, in its order.
fn receipt(incoming: Vec<Incoming>, new: &BTreeMap<usize, Stored>) -> Receipt {
    let mut places: BTreeMap<Hash, Stored> = BTreeMap::new();
    let mut events = Vec::with_capacity(incoming.len());
    for (at, event) in incoming.iter().enumerate() {
        // A copy of an earlier event of this request is where that one is.
        let stored = event.stored.or_else(|| new.get(&at).copied());
        let stored = stored.or_else(|| event.keys().find_map(|key| places.get(&key).copied()));
        let stored = stored.expect("an event is new, known, or a copy of one before it");
        for key in event.keys() {
            places.entry(key).or_insert(stored);
        }
        let body_differs = stored.body_hash != event.body_hash;
        events.push(Accepted { event: stored.event, duplicate: !new.contains_key(&at), body_differs });
    }
    Receipt { events }
}

fn count_redeliveries(core: &Core, receipt: &Receipt, at: Millis) {
    for accepted in receipt.events.iter().filter(|accepted| accepted.duplicate) {
        // Dropped, and only its key is left: nobody could see the count, and nothing would delete it.
        if !core.is_kept(accepted.event.position).unwrap_or(false) {
            continue;
        }
        let (event, body_differs): (EventRef, bool) = (accepted.event, accepted.body_differs);
        core.queue.push_note(Record::Redelivery(Redelivery { event, at, body_differs }));
    }
}
