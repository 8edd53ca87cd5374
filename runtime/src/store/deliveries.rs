//! Deliveries: what lanes ask for and what they report. Every change is judged in the writer.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::codec::{Begun, Effect, HoldRecord, Record, RulingRecord, SettleRecord};
use super::core::Core;
use super::drill::bound;
use super::index::prefixed;
use super::rows::Row;
use super::writer::Batch;
use super::{
    Error, Noted, OpenDelivery, Recorded, Ruling, Settle, Settled, Status, StoredEvent, history, keys, shelf,
};
use crate::words::attempt::Verdict;
use crate::words::digest::Digest;
use crate::words::effect::{Entry, Resolution, Ruled, Waiting};
use crate::words::event::{DeliveryId, EventRef, Name};
use crate::words::limits::{EFFECTS_BYTES_MAX, HOLD_CHUNK_DELIVERIES, KIB, RECORDED_BYTES_MAX};
use crate::words::time::Millis;

// === what is due ===

pub(super) fn due(
    core: &Core,
    handler: &Name,
    until: Millis,
    limit: usize,
    skip: &HashSet<DeliveryId>,
) -> Result<Vec<OpenDelivery>, Error> {
    let prefix = keys::due_of(handler);
    let behind = keys::after_prefix(&keys::due_until(handler, until));
    let range = (Bound::Included(prefix.clone()), behind.map_or(Bound::Unbounded, Bound::Excluded));
    let mut found = Vec::new();
    for entry in core.scan(range, false) {
        if found.len() >= limit {
            break;
        }
        let (key, _) = entry?;
        let id = keys::delivery_in(&key, prefix.len() + 8)?;
        if skip.contains(&id) {
            continue;
        }
        // The key may be older than the row: what was settled meanwhile is not due.
        let row = core.row(&id)?.filter(|row| row.status == Status::Open && row.due <= until);
        found.extend(row.map(|row| row.open(id)));
    }
    Ok(found)
}

pub(super) fn next_due(core: &Core, handler: &Name) -> Result<Option<Millis>, Error> {
    let prefix = keys::due_of(handler);
    let first = core.scan(prefixed(&prefix), false).next().transpose()?;
    first.map(|(key, _)| Ok(Millis(keys::number_in(&key, prefix.len())?))).transpose()
}

pub(super) fn event(core: &Core, event: EventRef) -> Result<Option<StoredEvent>, Error> {
    let Some(found) = core.named(event.position)? else { return Ok(None) };
    let Record::Accept(record) = found.record else { return Ok(None) };
    let Some(of_event) = record.events.get(usize::from(event.ordinal)) else { return Ok(None) };
    Ok(Some(StoredEvent {
        event,
        id: of_event.id.clone(),
        event_type: of_event.event_type.clone(),
        source: record.source.clone(),
        received_at: record.received_at,
        signed_at: record.signed_at,
        secret: record.secret,
        query: record.query.clone(),
        headers: record.headers.clone(),
        body: record.body_of(of_event),
        test: of_event.test,
    }))
}

// === attempts ===

pub(super) async fn begin(core: &Core, begun: Begun) -> Result<(), Error> {
    let record = Record::Begun(begun);
    let draft = record.draft();
    core.change(move |batch| {
        let Record::Begun(begun) = &record else { unreachable!("it was made one line above") };
        let row = batch.stage.row_of(&begun.delivery)?;
        may_begin(&row, &begun.delivery, begun.number)?;
        batch.append_drafted(&draft, &record, row.head).map(drop)
    })
    .await
}

/// Listed as due a moment ago and ended since, or begun twice from one listing: it is not called again.
fn may_begin(row: &Row, delivery: &DeliveryId, number: u32) -> Result<(), Error> {
    let next = row.attempts.saturating_add(row.begun_without_end).saturating_add(1);
    match row.status == Status::Open && number == next {
        true => Ok(()),
        false => Err(Error::WrongState(delivery.clone(), row.status)),
    }
}

pub(super) async fn settle(core: &Core, settle: Settle, now: Millis) -> Result<Settled, Error> {
    let clock = core.clock.expiry(now);
    let Settle { delivery, handler, begun, attempt, verdict, shelf: txn } = settle;
    let parts = SettleRecord { delivery, handler, at: now, attempt, verdict, writes: Vec::new() };
    // Without writes it can be encoded here; sums are known in the writer only.
    let record = Record::Settle(Box::new(parts));
    let draft = record.draft();
    let bytes = draft.bytes() + shelf::bytes_of(&txn);
    let draft = txn.writes.is_empty().then_some(draft);
    core.change_of(bytes, move |batch| {
        let Record::Settle(mut settle) = record else { unreachable!("it was made a few lines above") };
        let row = batch.stage.row_of(&settle.delivery)?;
        if !begun {
            may_begin(&row, &settle.delivery, settle.attempt.number)?;
        }
        if !shelf::holds(&batch.stage, &settle.handler, &txn, clock)? {
            return Ok(Settled::Conflict);
        }
        settle.writes = shelf::changes(&batch.stage, &settle.handler, &txn, clock)?;
        let record = Record::Settle(settle);
        batch.append_drafted(&draft.unwrap_or_else(|| record.draft()), &record, row.head)?;
        Ok(Settled::Written)
    })
    .await
}

// === effects ===

/// One more entry about a call of a delivery. An intent is refused where the delivery is not open any more, or the
/// attempt that has it is not the last that began: what is under way twice must not act twice.
pub(super) async fn note_effect(
    core: &Core,
    delivery: DeliveryId,
    number: u32,
    (detail, is_intent): (Bytes, bool),
    now: Millis,
) -> Result<(), Error> {
    let bytes = detail.len();
    let effect = Effect { delivery, at: now, detail };
    core.change_of(bytes, move |batch| {
        let row = batch.stage.row_of(&effect.delivery)?;
        let last = row.attempts.saturating_add(row.begun_without_end);
        if is_intent && (row.status != Status::Open || row.begun_without_end == 0 || number != last) {
            return Err(Error::WrongState(effect.delivery, row.status));
        }
        let record = if is_intent { Record::EffectIntent(effect) } else { Record::EffectResponse(effect) };
        batch.append(&record, row.head).map(drop)
    })
    .await
}

/// Of what all attempts hold together, the part of one.
#[derive(Debug)]
pub struct HeldEffects {
    _bytes: OwnedSemaphorePermit,
}

/// What `HeldEffects` counts in.
pub(super) const HELD_UNIT_BYTES: usize = KIB;

pub(super) async fn hold_effects(core: &Core, delivery: &DeliveryId) -> Result<HeldEffects, Error> {
    // All that was ever written about it; more than is read, so never less than is held.
    let bytes = core.row(delivery)?.map_or(0, |row| row.chain_bytes).min(EFFECTS_BYTES_MAX as u64);
    let units = bytes.div_ceil(HELD_UNIT_BYTES as u64);
    let units = u32::try_from(units).expect("64 MiB are a small number of KiB");
    let held = Arc::clone(&core.effects_held).acquire_many_owned(units).await;
    Ok(HeldEffects { _bytes: held.expect("nobody closes it") })
}

/// What was noted about the calls of a delivery, in order; of a call that changes nothing the last answer only. Nothing
/// from before the operator's retry of one that was done: that is a new round.
///
/// # Errors
/// `Effect` where a part of it is lost, or it is too much to be held: half of it could have the handler act again.
pub(super) fn effects(core: &Core, delivery: &DeliveryId) -> Result<Noted, Error> {
    let up_to = core.row(delivery)?.map_or(0, |row| row.head);
    let mut position = up_to;
    let (mut found, mut bytes, mut read) = (Vec::new(), 0, BTreeSet::new());
    // The earliest retry met so far, and how many entries lie behind it.
    let (mut retried, mut round) = (None, 0);
    while let Some(record) = history::chained(core, position)? {
        let at = std::mem::replace(&mut position, record.link);
        let detail = match record.record {
            Record::Ruling(ruling) if ruling.ruling == Ruling::Retry => {
                retried = Some((at, found.len()));
                continue;
            }
            Record::Settle(settle) if matches!(settle.verdict, Verdict::Done | Verdict::Skipped) => {
                let Some((at, behind)) = retried else { continue };
                found.truncate(behind);
                round = at;
                break;
            }
            Record::EffectIntent(effect) => effect.detail,
            Record::EffectResponse(effect) if is_superseded(&effect.detail, &mut read) => continue,
            Record::EffectResponse(effect) => effect.detail,
            Record::Gap(_) => {
                let why = "a repair gave up a part of its history; end it with `longshore deliveries cancel`";
                return Err(Error::Effect(delivery.clone(), why.to_owned()));
            }
            _ => continue,
        };
        bytes += detail.len();
        if bytes > EFFECTS_BYTES_MAX {
            let why = format!("its calls are more than {EFFECTS_BYTES_MAX} bytes");
            return Err(Error::Effect(delivery.clone(), why));
        }
        found.push(detail);
    }
    found.reverse();
    Ok(Noted { round, entries: found, up_to })
}

/// All of them, in every round.
pub(super) fn recorded(core: &Core, delivery: &DeliveryId) -> Result<Recorded, Error> {
    let mut position = core.row(delivery)?.map_or(0, |row| row.head);
    let (mut recorded, mut bytes) = (Recorded::default(), 0);
    // The earliest retry met so far.
    let mut retried = None;
    while let Some(record) = history::chained(core, position)? {
        let at = std::mem::replace(&mut position, record.link);
        match record.record {
            Record::Ruling(ruling) if ruling.ruling == Ruling::Retry => retried = Some(at),
            Record::Settle(settle) if matches!(settle.verdict, Verdict::Done | Verdict::Skipped) => {
                recorded.rounds.extend(retried.take());
            }
            Record::EffectIntent(effect) | Record::EffectResponse(effect) => {
                bytes += effect.detail.len();
                if bytes > RECORDED_BYTES_MAX {
                    let why = format!(
                        "its calls are more than {RECORDED_BYTES_MAX} bytes, too many for one record"
                    );
                    return Err(Error::Effect(delivery.clone(), why));
                }
                recorded.entries.push((at, effect.detail));
            }
            _ => {}
        }
    }
    recorded.rounds.push(0);
    recorded.rounds.reverse();
    recorded.entries.reverse();
    Ok(recorded)
}

/// Whether a later answer to the same read is known.
fn is_superseded(detail: &Bytes, read: &mut BTreeSet<u32>) -> bool {
    match Entry::unframed(detail) {
        Ok((Entry::Response(response), _)) if response.asked.is_some() => !read.insert(response.effect),
        _ => false,
    }
}

/// The operator's word on the call that a delivery is parked with; then it runs again.
pub(super) async fn resolve(
    core: &Arc<Core>,
    id: DeliveryId,
    resolution: Resolution,
    now: Millis,
) -> Result<(), Error> {
    let known = id.clone();
    let (head, on) = core
        .blocking(move |core| {
            let head = core.row(&known)?.ok_or_else(|| Error::NoSuchDelivery(known.clone()))?.head;
            Ok((head, waiting(&known, &effects(core, &known)?.entries)?))
        })
        .await?;
    let clock = core.clock.expiry(now);
    core.change(move |batch| {
        let row = batch.stage.row_of(&id)?;
        // Somebody ruled meanwhile.
        if row.status != Status::Parked || row.head != head {
            return Err(Error::WrongState(id, row.status));
        }
        // One that was begun since and never ended is parked for that.
        let on = on.filter(|_| row.begun_without_end == 0);
        let on = on.ok_or_else(|| Error::NothingToResolve(id.clone()))?;
        let detail = Entry::Ruled(Ruled { on, resolution }).framed(b"");
        let effect = Effect { delivery: id.clone(), at: now, detail };
        let head = batch.append(&Record::EffectResponse(effect), row.head)?;
        let record = RulingRecord { delivery: id, ruling: Ruling::Retry, at: now, clock };
        batch.append(&Record::Ruling(record), head).map(drop)
    })
    .await
}

/// The call that a delivery waits with: nothing was noted behind it.
fn waiting(id: &DeliveryId, entries: &[Bytes]) -> Result<Option<Waiting>, Error> {
    let last = entries.last().map(Entry::unframed).transpose();
    match last.map_err(|why| Error::Effect(id.clone(), why))? {
        Some((Entry::Waiting(waiting), _)) => Ok(Some(waiting)),
        _ => Ok(None),
    }
}

// === without an attempt ===

pub(super) async fn park(core: &Core, id: DeliveryId, reason: String, now: Millis) -> Result<(), Error> {
    core.change(move |batch| {
        let row = batch.stage.row_of(&id)?;
        if row.status != Status::Open {
            return Err(Error::WrongState(id, row.status));
        }
        let record = HoldRecord { delivery: id, status: Status::Parked, at: now, reason };
        batch.append(&Record::Hold(record), row.head).map(drop)
    })
    .await
}

pub(super) async fn rule(core: &Core, id: DeliveryId, ruling: Ruling, now: Millis) -> Result<(), Error> {
    let clock = core.clock.expiry(now);
    core.change(move |batch| {
        let row = batch.stage.row_of(&id)?;
        if ruling == Ruling::Cancel && row.status.is_ended() {
            return Err(Error::WrongState(id, row.status));
        }
        let record = RulingRecord { delivery: id, ruling, at: now, clock };
        batch.append(&Record::Ruling(record), row.head).map(drop)
    })
    .await
}

// === hold and resume ===

/// Whether a subscription (first) and a handler (second) are there and enabled; in words, where not.
pub(super) type Wanted = dyn Fn(&Name, &Name) -> Result<(), String> + Send + Sync;

/// Holds what nobody wants any more, resumes what is wanted again. Returns how many of each.
pub(super) async fn hold_unwanted(
    core: &Arc<Core>,
    wanted: Arc<Wanted>,
    now: Millis,
) -> Result<(u64, u64), Error> {
    let held = change_all(core, Status::Open, {
        let wanted = wanted.clone();
        move |id, row| {
            let reason = wanted(&id.subscription, &row.handler).err()?;
            Some(HoldRecord { delivery: id.clone(), status: Status::Held, at: now, reason })
        }
    })
    .await?;
    let resumed = change_all(core, Status::Held, move |id, row| {
        wanted(&id.subscription, &row.handler).ok()?;
        let reason = "its subscription and handler are back".to_owned();
        Some(HoldRecord { delivery: id.clone(), status: Status::Open, at: now, reason })
    })
    .await?;
    Ok((held, resumed))
}

/// Walks the deliveries of one status, in chunks, and changes those that `decide` names.
pub(super) async fn change_all(
    core: &Arc<Core>,
    status: Status,
    decide: impl Fn(&DeliveryId, &Row) -> Option<HoldRecord> + Send + Sync + 'static,
) -> Result<u64, Error> {
    let decide = Arc::new(decide);
    let mut changed = 0;
    for handler in handlers(core)? {
        let prefix = keys::status_of(status, &handler);
        let mut range = Some(prefixed(&prefix));
        while let Some(now) = range.take() {
            let end = now.1.clone();
            let keys_of_chunk = core
                .scan(now, false)
                .take(bound(HOLD_CHUNK_DELIVERIES))
                .map(|entry| entry.map(|(key, _)| key))
                .collect::<Result<Vec<_>, Error>>()?;
            if let Some(last) = keys_of_chunk.last() {
                range = Some((Bound::Excluded(last.to_vec()), end));
            }
            let ids = keys_of_chunk
                .iter()
                .map(|key| keys::delivery_in(key, prefix.len()))
                .collect::<Result<Vec<_>, Error>>()?;
            changed += change_chunk(core, status, ids, decide.clone()).await?;
        }
    }
    Ok(changed)
}

async fn change_chunk(
    core: &Arc<Core>,
    status: Status,
    ids: Vec<DeliveryId>,
    decide: Arc<impl Fn(&DeliveryId, &Row) -> Option<HoldRecord> + Send + Sync + 'static>,
) -> Result<u64, Error> {
    if ids.is_empty() {
        return Ok(0);
    }
    core.change(move |batch: &mut Batch| {
        let mut changed = 0;
        for id in ids {
            let Some(row) = batch.stage.row(&id)?.filter(|row| row.status == status) else { continue };
            if let Some(record) = decide(&id, &row) {
                batch.append(&Record::Hold(record), row.head)?;
                changed += 1;
            }
        }
        Ok(changed)
    })
    .await
}

/// Every handler that ever had a delivery.
pub(super) fn handlers(core: &Core) -> Result<Vec<Name>, Error> {
    core.scan(prefixed(&keys::backlogs()), false).map(|entry| keys::name_in(&entry?.0)).collect()
}

/// Handlers with something open, held or parked.
pub(super) fn backlogs(core: &Core) -> Result<BTreeMap<Name, super::Backlog>, Error> {
    let mut all = BTreeMap::new();
    for entry in core.scan(prefixed(&keys::backlogs()), false) {
        let (key, value) = entry?;
        let mut backlog = super::stage::read_backlog(&value)?;
        let handler = keys::name_in(&key)?;
        if backlog.open + backlog.held + backlog.parked > 0 {
            backlog.oldest_accepted_at = oldest(core, &handler)?;
            all.insert(handler, backlog);
        }
    }
    Ok(all)
}

fn oldest(core: &Core, handler: &Name) -> Result<Option<Millis>, Error> {
    let mut oldest: Option<Millis> = None;
    for status in [Status::Open, Status::Held, Status::Parked] {
        let prefix = keys::status_of(status, handler);
        if let Some(entry) = core.scan(prefixed(&prefix), false).next() {
            let row = core.row(&keys::delivery_in(&entry?.0, prefix.len())?)?;
            let accepted = row.map(|row| row.accepted_at);
            oldest = oldest.into_iter().chain(accepted).min();
        }
    }
    Ok(oldest)
}

impl Begun {
    pub(super) fn new(delivery: &DeliveryId, number: u32, plugin: Digest, at: Millis) -> Begun {
        Begun { delivery: delivery.clone(), number, at, plugin }
    }
}
