//! Retention: old history goes, a segment at a time, from the oldest on.
//!
//! A delivery, its event and its attempts are kept or dropped together. What may not go (open deliveries,
//! idempotency keys in their window, shelves, the times of secrets, how lanes stand) is copied to the end of the journal under its
//! old position. A segment is deleted when its copies are durable and the index is past it.

use std::ops::Bound;
use std::sync::Arc;

use super::codec::{AcceptRecord, CopyRecord, HoldRecord, KeyCopy, Mark, Record, ShelfChange, ShelfRecord};
use super::codec::{Kind, SettleRecord, StateCopy};
use super::core::Core;
use super::deliveries::change_all;
use super::drill::bound;
use super::index::prefixed;
use super::journal::RawRecord;
use super::journal::segments::Segment;
use super::shelf::{Entry, set_entry};
use super::stage::{events_at, read_secrets};
use super::writer::Batch;
use super::{Error, Retained, Status, history, keys, lanes};
use crate::words::event::{DeliveryId, Name};
use crate::words::limits::{EXPIRY_JUMP_MAX, PURGE_CHUNK_KEYS, RETAIN_CHUNK_RECORDS};
use crate::words::time::Millis;

pub(super) async fn retain(core: &Arc<Core>, now: Millis) -> Result<Retained, Error> {
    let _one_at_a_time = core.retaining.lock().await;
    let wall = now;
    let now = core.clock.expiry(wall);
    let mut done =
        Retained { deliveries_dead: end_old_deliveries(core, wall, now).await?, ..Retained::default() };
    purge_shelves(core, now).await?;
    for (oldest, next) in doomed(core, wall, now)? {
        // Keys are asked of the index alone: it must have everything that the segment says.
        core.wait_applied(next.header.base).await?;
        match check(core, &oldest, next.header.base).await {
            // It stays, and with it those behind it: the chain of segments has no gaps.
            Err(damage @ Error::Damaged { .. }) => {
                core.health.damaged(&damage.to_string());
                break;
            }
            other => other?,
        }
        done.events_dropped += empty(core, &oldest, next.header.base, now).await?;
        done.bytes_freed += delete(core, &oldest, &next).await?;
        done.segments_dropped += 1;
    }
    Ok(done)
}

/// Nothing waits for ever, not even for an operator.
async fn end_old_deliveries(core: &Arc<Core>, wall: Millis, now: Millis) -> Result<u64, Error> {
    let age_max = core.options.open_age_max;
    let mut ended = 0;
    for status in [Status::Open, Status::Held, Status::Parked] {
        ended += change_all(core, status, move |id, row| {
            let too_old = row.aged_from.plus(age_max) < now;
            too_old.then(|| HoldRecord {
                delivery: id.clone(),
                status: Status::Dead,
                at: wall,
                reason: format!("{status} for longer than store.open_max_age"),
            })
        })
        .await?;
    }
    Ok(ended)
}

/// A segment, and the one after it.
type Doomed = (Arc<Segment>, Arc<Segment>);

/// The oldest segments that are wholly too old, or too many. Never the last.
fn doomed(core: &Core, wall: Millis, now: Millis) -> Result<Vec<Doomed>, Error> {
    let list = core.segments.list();
    let mut bytes = core.segments.bytes();
    let mut doomed = Vec::new();
    for (segment, next) in list.iter().zip(list.iter().skip(1)) {
        let written = last_written(core, next)?;
        let too_old = written.plus(core.options.retain_age) < judged_at(written, wall, now);
        let too_much = bytes > core.options.retain_bytes;
        if !too_old && !too_much {
            break;
        }
        bytes -= next.header.base - segment.header.base;
        doomed.push((segment.clone(), next.clone()));
    }
    Ok(doomed)
}

/// The wall clock told when a segment was written; a wall clock that is wrong now must not make it old. One that
/// was written far ahead of the time of expiry is compared with the clock that it was written by.
fn judged_at(written: Millis, wall: Millis, clock: Millis) -> Millis {
    if written > clock.plus(EXPIRY_JUMP_MAX) { wall } else { wall.min(clock) }
}

/// When the last record before a segment was written: that may be long before the segment was begun.
fn last_written(core: &Core, next: &Segment) -> Result<Millis, Error> {
    let begun = Millis(next.header.created_at);
    let last = core.segments.batch_header(next.header.previous_batch)?;
    Ok(last.map_or(begun, |last| begun.min(Millis(last.written_at / 1000))))
}

/// Reads a segment whole before anything of it is copied: half of it copied at every retention would fill the disk.
async fn check(core: &Arc<Core>, segment: &Segment, end: u64) -> Result<(), Error> {
    let mut position = segment.header.base;
    core.blocking(move |core| {
        while position < end {
            position = read(core, position)?.1;
        }
        Ok(())
    })
    .await
}

/// Copies forward what must stay, and drops the rest from every listing. Returns the number of events dropped.
async fn empty(core: &Arc<Core>, segment: &Segment, end: u64, now: Millis) -> Result<u64, Error> {
    let mut dropped = 0;
    let mut position = segment.header.base;
    while position < end {
        let (records, next) = core.blocking(move |core| read(core, position)).await?;
        for chunk in records.chunks(bound(RETAIN_CHUNK_RECORDS)) {
            let chunk = chunk.to_vec();
            dropped += core.change(move |batch| sort_out(batch, chunk, now)).await?;
        }
        position = next;
    }
    Ok(dropped)
}

/// A record that may have to stay, decoded outside the writer.
#[derive(Clone)]
struct Candidate {
    /// Where it lies.
    at: u64,
    /// Under which position it is known.
    position: u64,
    kind: u8,
    link: u64,
    answer_us: Option<u64>,
    payload: bytes::Bytes,
    record: Record,
    is_copy: bool,
}

fn read(core: &Core, position: u64) -> Result<(Vec<Candidate>, u64), Error> {
    let Some((header, records)) = core.segments.batch(position)? else {
        return Err(Error::Index(format!("there is no batch at {position:x} to retain")));
    };
    let candidate = |raw: &RawRecord| -> Result<Candidate, Error> {
        let record = core.decode(raw)?;
        if let Record::Copy(CopyRecord::Whole { position, kind, link, answer_us, payload, .. }) = record {
            let inner = RawRecord { kind, payload: payload.clone(), ..raw.clone() };
            let record = core.decode(&inner)?;
            return Ok(Candidate {
                at: raw.position,
                position,
                kind,
                link,
                answer_us,
                payload,
                record,
                is_copy: true,
            });
        }
        let answer_us = match &record {
            Record::Accept(accept) => history::answer_us(core, &header, accept)?,
            _ => None,
        };
        Ok(Candidate {
            at: raw.position,
            position: raw.position,
            kind: raw.kind,
            link: raw.link,
            answer_us,
            payload: raw.payload.clone(),
            record,
            is_copy: false,
        })
    };
    Ok((records.iter().map(candidate).collect::<Result<_, _>>()?, header.end()))
}

/// What is decided about a chunk, before it is written.
#[derive(Default)]
struct Verdicts {
    positions: Vec<u64>,
    key_copies: Vec<KeyCopy>,
    events: u64,
}

fn sort_out(batch: &mut Batch, chunk: Vec<Candidate>, now: Millis) -> Result<u64, Error> {
    let mut verdicts = Verdicts::default();
    for candidate in &chunk {
        match &candidate.record {
            // An older copy of what was copied again since.
            _ if candidate.is_copy && !is_current(batch, candidate)? => {}
            Record::Accept(accept) => sort_accept(batch, &mut verdicts, candidate, accept, now)?,
            Record::Begun(begun) => sort_chained(batch, &mut verdicts, candidate, &begun.delivery)?,
            Record::EffectIntent(effect) | Record::EffectResponse(effect) => {
                sort_chained(batch, &mut verdicts, candidate, &effect.delivery)?;
            }
            Record::Settle(settle) => {
                if !candidate.is_copy {
                    keep_shelf_values(batch, candidate, settle, now)?;
                }
                sort_chained(batch, &mut verdicts, candidate, &settle.delivery)?;
            }
            Record::Hold(hold) => sort_chained(batch, &mut verdicts, candidate, &hold.delivery)?,
            Record::Ruling(ruling) => sort_chained(batch, &mut verdicts, candidate, &ruling.delivery)?,
            Record::Shelf(shelf) => keep_shelf_value(batch, candidate.at, shelf, now)?,
            Record::SecretsSeen(seen) => {
                let known = batch.stage.get(&keys::secrets(&seen.source))?;
                let known = known.map(|value| read_secrets(&value)).transpose()?;
                if known.is_some_and(|(at, _)| at == candidate.at) {
                    batch.append(&candidate.record, 0)?;
                }
            }
            Record::Lane(lane) => {
                lanes::keep_what_stands(batch, candidate.at, lane)?;
                verdicts.positions.push(candidate.at);
            }
            Record::Copy(CopyRecord::Keys(copies)) => {
                verdicts.key_copies.extend(copies.iter().filter(|copy| now < copy.expires));
            }
            // Counts of redeliveries are in the index and travel with their event; marks have done their work.
            Record::Copy(_) | Record::Redelivery(_) | Record::Mark(_) | Record::Gap(_) => {}
        }
    }
    verdicts.write(batch)
}

fn is_current(batch: &Batch, candidate: &Candidate) -> Result<bool, Error> {
    let at = batch.stage.get(&keys::moved(candidate.position))?;
    let at = at.map(|value| keys::number_in(&value, 0)).transpose()?;
    Ok(at == Some(candidate.at))
}

impl Verdicts {
    fn write(self, batch: &mut Batch) -> Result<u64, Error> {
        if !self.key_copies.is_empty() {
            batch.append(&Record::Copy(CopyRecord::Keys(self.key_copies)), 0)?;
        }
        if !self.positions.is_empty() {
            let mark = Mark::Dropped { positions: self.positions, keys: Vec::new() };
            batch.append(&Record::Mark(mark), 0)?;
        }
        Ok(self.events)
    }
}

// === events and their deliveries ===

fn sort_accept(
    batch: &mut Batch,
    verdicts: &mut Verdicts,
    candidate: &Candidate,
    accept: &AcceptRecord,
    now: Millis,
) -> Result<(), Error> {
    let mut live = batch.stage.scan(prefixed(&keys::deliveries_at(candidate.position)));
    if live.next().transpose()?.is_some() {
        drop(live);
        let state = state_of(batch, candidate.position, accept)?;
        return copy_whole(batch, candidate, state);
    }
    drop(live);
    verdicts.positions.push(candidate.position);
    verdicts.events += accept.events.len() as u64;
    for (event, event_ref) in accept.events.iter().zip(events_at(candidate.position)) {
        // A key in its window outlives its event. Where a later event has it, that one counts.
        if now < accept.expires {
            let (body_hash, expires) = (event.body_hash, accept.expires);
            let keys = event.keys(&accept.source);
            verdicts.key_copies.extend(keys.map(|key| KeyCopy { key, event: event_ref, body_hash, expires }));
        }
    }
    Ok(())
}

fn state_of(batch: &Batch, position: u64, accept: &AcceptRecord) -> Result<Vec<StateCopy>, Error> {
    let mut state = Vec::with_capacity(accept.events.len());
    for (event, event_ref) in accept.events.iter().zip(events_at(position)) {
        let redeliveries = batch.stage.get(&keys::redeliveries(event_ref))?.unwrap_or_default();
        let mut rows = Vec::with_capacity(event.deliveries.len());
        for delivery in &event.deliveries {
            let id = DeliveryId { event: event_ref, subscription: delivery.subscription.clone() };
            let row = batch.stage.row(&id)?.map(|row| bytes::Bytes::copy_from_slice(&row.encode()));
            rows.extend(row.map(|row| (id.subscription, row)));
        }
        let redeliveries = bytes::Bytes::copy_from_slice(&redeliveries);
        state.push(StateCopy { ordinal: event_ref.ordinal, redeliveries, rows });
    }
    Ok(state)
}

fn copy_whole(batch: &mut Batch, candidate: &Candidate, state: Vec<StateCopy>) -> Result<(), Error> {
    let copy = CopyRecord::Whole {
        position: candidate.position,
        kind: candidate.kind,
        link: candidate.link,
        answer_us: candidate.answer_us,
        payload: candidate.payload.clone(),
        state,
    };
    batch.append(&Record::Copy(copy), 0).map(drop)
}

/// A record of a delivery's chain stays as long as the delivery does.
fn sort_chained(
    batch: &mut Batch,
    verdicts: &mut Verdicts,
    candidate: &Candidate,
    delivery: &DeliveryId,
) -> Result<(), Error> {
    debug_assert_ne!(candidate.kind, Kind::Accept as u8);
    // Its event lies before it: if it was kept, it has been copied by now.
    let is_kept = batch.stage.get(&keys::moved(delivery.event.position))?.is_some();
    if is_kept {
        copy_whole(batch, candidate, Vec::new())
    } else {
        if candidate.is_copy {
            verdicts.positions.push(candidate.position);
        }
        Ok(())
    }
}

// === shelves ===

fn keep_shelf_values(
    batch: &mut Batch,
    candidate: &Candidate,
    settle: &SettleRecord,
    now: Millis,
) -> Result<(), Error> {
    for (key, change) in &settle.writes {
        let value = match change {
            ShelfChange::Set { value, .. } => value.clone(),
            // The sum is in the index; a counter is never too large for it.
            ShelfChange::Sum { .. } => bytes::Bytes::new(),
            ShelfChange::Delete => continue,
        };
        let shelf = ShelfRecord {
            handler: settle.handler.clone(),
            key: key.clone(),
            version: candidate.at,
            expires: None,
            value,
        };
        keep_shelf_value(batch, candidate.at, &shelf, now)?;
    }
    Ok(())
}

/// Copies a value that lies in the record at `at` and is still the current one, or was added to since. An expired
/// one goes.
fn keep_shelf_value(batch: &mut Batch, at: u64, shelf: &ShelfRecord, now: Millis) -> Result<(), Error> {
    let entry = batch.stage.get(&keys::shelf(&shelf.handler, &shelf.key))?;
    let entry = entry.map(|value| Entry::decode(&value)).transpose()?;
    let Some(entry) = entry else { return Ok(()) };
    // A later addition was made to this value. Its sum is kept, expired or not, until the sweep drops it: an index
    // that is made again would else count from nothing.
    let is_summand = entry.version > at && entry.position == entry.version && entry.inline.is_some();
    if entry.position != at && !is_summand {
        return Ok(());
    }
    if !is_summand && !entry.is_live(now) {
        return set_entry(&mut batch.stage, &shelf.handler, &shelf.key, Some(&entry), None);
    }
    let value = entry.inline.clone().unwrap_or_else(|| shelf.value.clone());
    let copy = ShelfRecord { version: entry.version, expires: entry.expires, value, ..shelf.clone() };
    batch.append(&Record::Shelf(copy), 0).map(drop)
}

/// Expired values count against their handler's shelf until they are gone. The journal has no word of it: an index
/// that is built again has them again, expired, until the next time.
async fn purge_shelves(core: &Arc<Core>, now: Millis) -> Result<(), Error> {
    let mut range = Some(prefixed(&keys::shelves()));
    while let Some((from, to)) = range.take() {
        let bounds = (from, to.clone());
        let (expired, last) = core.blocking(move |core| expired_in(core, bounds, now)).await?;
        range = last.map(|last| (Bound::Excluded(last), to));
        if expired.is_empty() {
            continue;
        }
        core.change(move |batch| {
            for (handler, key) in expired {
                let entry = batch.stage.get(&keys::shelf(&handler, &key))?;
                let entry = entry.map(|value| Entry::decode(&value)).transpose()?;
                if let Some(entry) = entry.filter(|entry| !entry.is_live(now)) {
                    set_entry(&mut batch.stage, &handler, &key, Some(&entry), None)?;
                }
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

type ShelfKeys = Vec<(Name, String)>;

/// Keys that are expired among the first of a range, and the last that was looked at where there are more.
fn expired_in(
    core: &Core,
    range: super::index::Range,
    now: Millis,
) -> Result<(ShelfKeys, Option<Vec<u8>>), Error> {
    let mut expired = Vec::new();
    let mut last = None;
    for (looked_at, entry) in core.scan(range, false).enumerate() {
        if looked_at == bound(PURGE_CHUNK_KEYS) {
            return Ok((expired, last));
        }
        let (key, value) = entry?;
        if !Entry::decode(&value)?.is_live(now) {
            expired.push(keys::shelf_in(&key)?);
        }
        last = Some(key.to_vec());
    }
    Ok((expired, None))
}

// === files ===

async fn delete(core: &Arc<Core>, segment: &Arc<Segment>, next: &Arc<Segment>) -> Result<u64, Error> {
    let sequence = next.header.sequence;
    let (at, clock) = core.clock.seen();
    core.change(move |batch| {
        batch.must_sync = true;
        batch.append(&Record::Mark(Mark::Clock { at, clock }), 0)?;
        batch.append(&Record::Mark(Mark::First { sequence }), 0).map(drop)
    })
    .await?;
    // An index that was still in this segment could not go on from it.
    core.wait_applied(next.header.base).await?;
    let segment = segment.clone();
    core.blocking(move |core| {
        core.index.flush()?;
        let cannot = |source| Error::Io { what: "cannot delete", path: segment.path.clone(), source };
        let bytes = segment.file.length().map_err(cannot)?;
        // One whose sync failed is gone for good before the next: else this could go, and that one come back. And one
        // that cannot be removed stays the oldest.
        core.disk.sync_dir(&core.journal_dir).map_err(cannot)?;
        core.disk.remove(&segment.path).map_err(cannot)?;
        core.segments.remove_oldest();
        core.disk.sync_dir(&core.journal_dir).map_err(cannot)?;
        Ok(bytes)
    })
    .await
}
