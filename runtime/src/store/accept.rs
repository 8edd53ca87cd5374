//! Accept: claim in memory, ask the index, write. What is new is written once, whoever sends it how often.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::claims::{Answer, Claim, Entered, Hash, Mine, Stored, body_hash, key_of};
use super::codec::{AcceptRecord, EventRecord, Record, Redelivery};
use super::core::Core;
use super::view::KeyEntry;
use super::writer::{AcceptJob, now_us};
use super::{Accept, Accepted, NewEvent, Receipt, Refused, keys};
use crate::words::event::EventRef;
use crate::words::limits::{EVENTS_PER_REQUEST_MAX, RECORD_BYTES_MAX};
use crate::words::time::Millis;

/// An event of the request, and what is known of it so far.
struct Incoming {
    hash: Hash,
    body_hash: u64,
    /// In the journal already, or after this request.
    stored: Option<Stored>,
}

pub(super) async fn accept(core: &Arc<Core>, accept: Accept) -> Result<Receipt, Refused> {
    if let Some(stopped) = core.health.stopped() {
        return Err(stopped);
    }
    if accept.events.len() > EVENTS_PER_REQUEST_MAX {
        return Err(Refused::Failed(format!("a request of {} events is too many", accept.events.len())));
    }
    let now = core.clock.expiry(accept.received_at);
    let mut incoming = identify(&accept);
    // Keys in their order: two requests that share several cannot wait for each other in a circle.
    let order: BTreeMap<Hash, usize> =
        incoming.iter().enumerate().map(|(at, event)| (event.hash, at)).rev().collect();
    let mut new: BTreeMap<usize, Mine> = BTreeMap::new();
    for (hash, at) in order {
        match claim(core, hash, now).await? {
            Claimed::New(mine) => drop(new.insert(at, mine)),
            Claimed::Known(stored) => incoming[at].stored = Some(stored),
        }
    }
    let positions =
        if new.is_empty() { BTreeMap::new() } else { write(core, &accept, now, &incoming, new).await? };
    let receipt = receipt(incoming, &positions);
    count_redeliveries(core, &receipt, accept.received_at);
    Ok(receipt)
}

fn identify(accept: &Accept) -> Vec<Incoming> {
    let incoming = |event: &NewEvent| Incoming {
        hash: key_of(accept.source.as_str(), &event.id),
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
    if !core.filter.may_have(&mine.hash) {
        return Ok(Claimed::New(mine));
    }
    let entry = core.index.get(&keys::claim(&mine.hash));
    let entry = entry.and_then(|value| value.map(|value| KeyEntry::decode(&value)).transpose());
    match entry {
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
    accept: &Accept,
    clock: Millis,
    incoming: &[Incoming],
    new: BTreeMap<usize, Mine>,
) -> Result<BTreeMap<usize, Stored>, Refused> {
    let record = record_of(accept, clock, incoming, new.keys());
    let draft = super::codec::draft_accept(&record);
    let places: Vec<(usize, Arc<Claim>)> = new.iter().map(|(at, mine)| (*at, mine.claim.clone())).collect();
    let job = AcceptJob { draft, record, claims: new.into_values().collect() };
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

fn record_of<'a>(
    accept: &Accept,
    clock: Millis,
    incoming: &[Incoming],
    new: impl Iterator<Item = &'a usize>,
) -> AcceptRecord {
    let event = |at: &usize| {
        let event = &accept.events[*at];
        EventRecord {
            id: event.id.clone(),
            event_type: event.event_type.clone(),
            range: event.range,
            test: event.test,
            body_hash: incoming[*at].body_hash,
            deliveries: event.deliveries.clone(),
        }
    };
    AcceptRecord {
        source: accept.source.clone(),
        received_at: accept.received_at,
        clock,
        queued_us: now_us(),
        signed_at: accept.signed_at,
        secret: accept.secret,
        dedupe_window: accept.dedupe_window,
        query: accept.query.clone(),
        headers: accept.headers.clone(),
        events: new.map(event).collect(),
        body: accept.body.clone(),
    }
}

// === answer ===

/// One row for each event of the request, in its order.
fn receipt(incoming: Vec<Incoming>, new: &BTreeMap<usize, Stored>) -> Receipt {
    let mut places: BTreeMap<Hash, Stored> = BTreeMap::new();
    for (at, event) in incoming.iter().enumerate() {
        if let Some(stored) = event.stored.or_else(|| new.get(&at).copied()) {
            places.insert(event.hash, stored);
        }
    }
    let accepted = |(at, event): (usize, &Incoming)| {
        let stored = places[&event.hash];
        let duplicate = !new.contains_key(&at);
        Accepted { event: stored.event, duplicate, body_differs: stored.body_hash != event.body_hash }
    };
    Receipt { events: incoming.iter().enumerate().map(accepted).collect() }
}

fn count_redeliveries(core: &Core, receipt: &Receipt, at: Millis) {
    for accepted in receipt.events.iter().filter(|accepted| accepted.duplicate) {
        let (event, body_differs): (EventRef, bool) = (accepted.event, accepted.body_differs);
        core.queue.push_note(Record::Redelivery(Redelivery { event, at, body_differs }));
    }
}
