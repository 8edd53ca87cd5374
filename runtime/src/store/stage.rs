//! Stage: what a batch of records changes, before it is durable. `apply` is the only thing that says what a
//! record means to the index, whether it was just written or is read again at a start.

use std::collections::{BTreeMap, HashMap};

use super::claims::Stored;
use super::codec::{
    AcceptRecord, CopyRecord, EventRecord, Mark, Record, Redelivery, SecretsSeen, SettleRecord, StateCopy,
};
use super::drill::bound;
use super::index::{Blob, Index, KeyEntry, Range, prefixed};
use super::rows::Row;
use super::view::{Changes, KeyPut, Op, Scan, View};
use super::{Backlog, Error, OpenDelivery, Status, keys, lanes, shelf};
use crate::words::event::{DeliveryId, EventRef};
use crate::words::limits::HOT_ROWS_MAX;
use crate::words::time::Millis;

const CLOCK_NOTED_EVERY_MS: u64 = 1000;

/// What nearly every record changes, kept from batch to batch: the writer need not ask the index for it, which lets
/// nobody read while it applies a batch. Nobody else changes it, and it is forgotten when a batch is not kept.
#[derive(Default)]
pub(super) struct Hot {
    counters: HashMap<Vec<u8>, Option<Blob>>,
    /// Of deliveries under way: a lane that is behind comes back to them when the index has them already.
    rows: HashMap<Vec<u8>, Blob>,
}

impl Hot {
    pub(super) fn clear(&mut self) {
        self.counters.clear();
        self.rows.clear();
    }

    fn put_row(&mut self, key: Vec<u8>, row: Blob) {
        if self.rows.len() >= bound(HOT_ROWS_MAX) {
            self.rows.clear();
        }
        self.rows.insert(key, row);
    }
}

/// Reads through what is staged, what is committed and what is indexed; writes to what is staged.
pub(super) struct Stage<'a> {
    pub view: &'a View,
    pub index: &'a Index,
    hot: &'a mut Hot,
    changes: Changes,
    /// Deliveries that became open and due.
    pub opened: Vec<OpenDelivery>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(view: &'a View, index: &'a Index, hot: &'a mut Hot) -> Stage<'a> {
        Stage { view, index, hot, changes: Changes::default(), opened: Vec::new() }
    }

    pub(super) fn finish(self, records: usize) -> (Changes, Vec<OpenDelivery>) {
        (Changes { records, ..self.changes }, self.opened)
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Blob>, Error> {
        if let Some(op) = self.changes.ops.get(key) {
            return Ok(op.value.clone());
        }
        match self.view.get(key) {
            Some(value) => Ok(value),
            None => self.index.get(key),
        }
    }

    /// Of a counter, or of what else only this file writes and there are few of.
    pub(super) fn get_hot(&mut self, key: &[u8]) -> Result<Option<Blob>, Error> {
        if let Some(known) = self.hot.counters.get(key) {
            return Ok(known.clone());
        }
        let value = self.get(key)?;
        self.hot.counters.insert(key.to_vec(), value.clone());
        Ok(value)
    }

    pub(super) fn put_hot(&mut self, key: Vec<u8>, value: Blob) {
        self.hot.counters.insert(key.clone(), Some(value.clone()));
        self.put(key, value);
    }

    pub(super) fn scan(&self, range: Range) -> Scan<'_> {
        Scan::new(self.view, self.index, range, false).with_staged(&self.changes.ops)
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: Blob) {
        self.change(key, Some(value), false);
    }

    /// Of a key that no layer can have yet.
    fn put_new(&mut self, key: Vec<u8>, value: Blob) {
        self.change(key, Some(value), true);
    }

    pub(super) fn delete(&mut self, key: &[u8]) {
        if self.changes.ops.get(key).is_some_and(|op| op.fresh) {
            self.changes.ops.remove(key);
        } else {
            self.change(key.to_vec(), None, false);
        }
    }

    fn change(&mut self, key: Vec<u8>, value: Option<Blob>, fresh: bool) {
        let ops: &mut BTreeMap<Blob, Op> = &mut self.changes.ops;
        let fresh = fresh || ops.get(key.as_slice()).is_some_and(|op| op.fresh);
        ops.insert(Blob::from(key), Op { value, fresh });
    }

    pub(super) fn row(&self, id: &DeliveryId) -> Result<Option<Row>, Error> {
        let key = keys::delivery(id);
        if let Some(value) = self.hot.rows.get(&key) {
            return Row::decode(value).map(Some);
        }
        if let Some(value) = self.get(&key)? {
            return Row::decode(&value).map(Some);
        }
        if let Some(row) = self.changes.ended.get(id) {
            return Ok(Some(row.clone()));
        }
        if self.is_kept(id.event.position)? { self.index.ended(id) } else { Ok(None) }
    }

    /// Whether retention left a record where it is, or copied it.
    pub(super) fn is_kept(&self, position: u64) -> Result<bool, Error> {
        let gone = self.get(keys::GONE)?.map(|value| keys::number_in(&value, 0)).transpose()?.unwrap_or(0);
        Ok(position >= gone || self.get(&keys::moved(position))?.is_some())
    }

    /// # Errors
    /// `NoSuchDelivery`
    pub(super) fn row_of(&self, id: &DeliveryId) -> Result<Row, Error> {
        self.row(id)?.ok_or_else(|| Error::NoSuchDelivery(id.clone()))
    }
}

/// What `record`, which lies at `position`, means.
pub(super) fn apply(stage: &mut Stage, position: u64, bytes: usize, record: &Record) -> Result<(), Error> {
    match record {
        Record::Accept(record) => apply_accept(stage, position, bytes, record),
        Record::Redelivery(record) => redelivered(stage, position, record),
        Record::Begun(record) => change_row(stage, (position, bytes), &record.delivery, |row| row.begun()),
        Record::EffectIntent(record) | Record::EffectResponse(record) => {
            change_row(stage, (position, bytes), &record.delivery, |_| ())
        }
        Record::Settle(record) => {
            shelf::settled(stage, position, record)?;
            change_row(stage, (position, bytes), &record.delivery, |row| row.settled(record))?;
            announce_retry(stage, record)
        }
        Record::Shelf(record) => shelf::copied(stage, position, record),
        Record::Hold(record) => {
            change_row(stage, (position, bytes), &record.delivery, |row| row.held(record))
        }
        Record::Ruling(record) => {
            change_row(stage, (position, bytes), &record.delivery, |row| row.ruled(record))
        }
        Record::SecretsSeen(record) => {
            stage.put(keys::secrets(&record.source), secrets_value(position, record));
            Ok(())
        }
        Record::Copy(record) => copied(stage, position, record),
        Record::Mark(mark) => marked(stage, mark),
        Record::Gap(_) => Ok(()),
        Record::Lane(record) => {
            lanes::changed(stage, position, record);
            Ok(())
        }
    }
}

// === accept ===

pub(super) fn apply_accept(
    stage: &mut Stage,
    position: u64,
    bytes: usize,
    record: &AcceptRecord,
) -> Result<(), Error> {
    let deliveries: usize = record.events.iter().map(|event| event.deliveries.len()).sum();
    if deliveries > 0 {
        add_live(stage, bytes as u64, 0)?;
    }
    clock_seen(stage, record.received_at, record.clock)?;
    for (event, event_ref) in record.events.iter().zip(events_at(position)) {
        for delivery in &event.deliveries {
            let id = DeliveryId { event: event_ref, subscription: delivery.subscription.clone() };
            let row = Row::accepted(record, event, delivery, position, bytes as u64, deliveries > 1);
            set_row(stage, &id, None, Some(&row))?;
        }
        stage.seen_event(record, event, event_ref);
    }
    let source = keys::source(&record.source);
    if stage.get_hot(&source)?.is_none() {
        stage.put_hot(source, Blob::default());
    }
    Ok(())
}

/// The names of a record's events.
pub(super) fn events_at(position: u64) -> impl Iterator<Item = EventRef> {
    (0..=u16::MAX).map(move |ordinal| EventRef { position, ordinal })
}

impl Stage<'_> {
    fn seen_event(&mut self, accept: &AcceptRecord, event: &EventRecord, at: EventRef) {
        let stored = Stored { event: at, body_hash: event.body_hash };
        for hash in event.keys(&accept.source) {
            self.seen(KeyEntry { hash, stored, expires: accept.expires });
        }
    }

    fn seen(&mut self, entry: KeyEntry) {
        self.changes.keys.push(KeyPut { entry, claim: None });
    }

    /// Hands the last `claims.len()` keys the claims that wait for them to be indexed.
    pub(super) fn attach_claims(
        &mut self,
        claims: impl DoubleEndedIterator<Item = std::sync::Arc<super::claims::Claim>>,
    ) {
        for (put, claim) in self.changes.keys.iter_mut().rev().zip(claims.rev()) {
            put.claim = Some(claim);
        }
    }
}

/// How often an event came again: count, how many with another body, and the last record that was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Redeliveries {
    pub count: u64,
    pub body_differed: u64,
    counted_to: u64,
}

impl Redeliveries {
    pub(super) fn decode(value: &[u8]) -> Result<Redeliveries, Error> {
        Ok(Redeliveries {
            count: keys::number_in(value, 0)?,
            body_differed: keys::number_in(value, 8)?,
            counted_to: keys::number_in(value, 16)?,
        })
    }

    fn encode(self) -> Blob {
        let numbers = [self.count, self.body_differed, self.counted_to];
        Blob::from(numbers.map(u64::to_be_bytes).concat())
    }
}

fn redelivered(stage: &mut Stage, position: u64, record: &Redelivery) -> Result<(), Error> {
    let key = keys::redeliveries(record.event);
    let known = stage.get(&key)?.map(|value| Redeliveries::decode(&value)).transpose()?.unwrap_or_default();
    if position <= known.counted_to {
        return Ok(());
    }
    let counted = Redeliveries {
        count: known.count + 1,
        body_differed: known.body_differed + u64::from(record.body_differs),
        counted_to: position,
    };
    stage.put(key, counted.encode());
    Ok(())
}

// === deliveries ===

/// A record whose delivery was dropped changes nothing.
fn change_row(
    stage: &mut Stage,
    (position, bytes): (u64, usize),
    id: &DeliveryId,
    change: impl FnOnce(&mut Row),
) -> Result<(), Error> {
    let Some(old) = stage.row(id)?.filter(|row| row.changed_at < position) else { return Ok(()) };
    let chain_bytes = old.chain_bytes + bytes as u64;
    let mut new = Row { changed_at: position, head: position, chain_bytes, ..old.clone() };
    change(&mut new);
    set_row(stage, id, Some(&old), Some(&new))?;
    live_changed(stage, id, Some(&old), Some(&new))
}

impl Stage<'_> {
    /// It leaves the tree, where only what is under way has rows.
    fn end(&mut self, id: &DeliveryId, row: &Row) {
        let key = keys::delivery(id);
        self.hot.rows.remove(&key);
        self.delete(&key);
        self.changes.ended.insert(id.clone(), row.clone());
    }
}

/// Writes a row, and every key that follows from it. `old: None` means that no layer has the row.
fn set_row(stage: &mut Stage, id: &DeliveryId, old: Option<&Row>, new: Option<&Row>) -> Result<(), Error> {
    let derived = |row: &Row| {
        let due = (row.status == Status::Open).then(|| keys::due(&row.handler, row.due, id));
        let status = row.is_live().then(|| keys::status(row.status, &row.handler, id));
        [due, status].into_iter().flatten().collect::<Vec<_>>()
    };
    let (before, after) = (old.map(derived).unwrap_or_default(), new.map(derived).unwrap_or_default());
    for key in before.iter().filter(|key| !after.contains(key)) {
        stage.delete(key);
    }
    let is_new = old.is_none();
    for key in after.into_iter().filter(|key| !before.contains(key)) {
        if is_new { stage.put_new(key, Blob::default()) } else { stage.put(key, Blob::default()) }
    }
    match new {
        Some(row) if !row.is_live() => stage.end(id, row),
        Some(row) => {
            let (key, value) = (keys::delivery(id), row.encode());
            stage.hot.put_row(key.clone(), value.clone());
            stage.change(key, Some(value), is_new);
        }
        None => {
            stage.hot.rows.remove(&keys::delivery(id));
            stage.delete(&keys::delivery(id));
        }
    }
    if let Some(row) = new.filter(|_| old.is_some_and(|old| !old.is_live())) {
        // What the past says of it may be out of date from here on.
        stage.put(keys::reopened(id), Blob::from(&row.changed_at.to_be_bytes()));
        if row.is_live() {
            stage.changes.ended.remove(id);
        }
    }
    if let Some(row) =
        new.filter(|row| row.status == Status::Open && old.is_none_or(|old| became_due(old, row)))
    {
        stage.opened.push(row.open(id.clone()));
    }
    count(stage, old, new)
}

/// A retry that its lane knows of is not news; one that the operator, or a resumption, made due is.
fn became_due(old: &Row, new: &Row) -> bool {
    old.status != Status::Open || new.counted_from != old.counted_from
}

/// The operator retried it while this attempt ran: its lane, which passed over the word then, hears it again.
fn announce_retry(stage: &mut Stage, record: &SettleRecord) -> Result<(), Error> {
    let id = &record.delivery;
    let retried = stage
        .row(id)?
        .filter(|row| row.status == Status::Open && row.counted_from != row.accepted_at)
        .filter(|row| row.attempts >= record.attempt.number && row.due == row.counted_from);
    stage.opened.extend(retried.map(|row| row.open(id.clone())));
    Ok(())
}

/// Keeps the backlog of the handler.
fn count(stage: &mut Stage, old: Option<&Row>, new: Option<&Row>) -> Result<(), Error> {
    let status = |row: Option<&Row>| row.map(|row| row.status);
    if status(old) == status(new) {
        return Ok(());
    }
    for (row, up) in [(old, false), (new, true)] {
        let Some(row) = row.filter(|row| row.is_live()) else { continue };
        let key = keys::backlog(&row.handler);
        let mut backlog =
            stage.get_hot(&key)?.map(|value| read_backlog(&value)).transpose()?.unwrap_or_default();
        let field = match row.status {
            Status::Held => &mut backlog.held,
            Status::Parked => &mut backlog.parked,
            _ => &mut backlog.open,
        };
        *field = if up { *field + 1 } else { field.saturating_sub(1) };
        let numbers = [backlog.open, backlog.held, backlog.parked];
        stage.put_hot(key, Blob::from(numbers.map(u64::to_be_bytes).concat()));
    }
    Ok(())
}

/// A record may not be dropped, and counts whole, as long as any of its deliveries is live; what was written about a
/// delivery counts as long as that one is.
fn live_changed(
    stage: &mut Stage,
    id: &DeliveryId,
    old: Option<&Row>,
    new: Option<&Row>,
) -> Result<(), Error> {
    let chain = |row: Option<&Row>| row.filter(|row| row.is_live()).map_or(0, |row| row.chain_bytes);
    add_live(stage, chain(new), chain(old))?;
    let live = |row: Option<&Row>| row.filter(|row| row.is_live()).map_or(0, |row| row.bytes);
    if live(old) == live(new) || is_kept_by_another(stage, id, old.or(new))? {
        return Ok(());
    }
    add_live(stage, live(new), live(old))
}

fn is_kept_by_another(stage: &Stage, id: &DeliveryId, row: Option<&Row>) -> Result<bool, Error> {
    if !row.is_some_and(|row| row.shared) {
        return Ok(false);
    }
    for entry in stage.scan(prefixed(&keys::deliveries_at(id.event.position))) {
        let (key, value) = entry?;
        if Row::decode(&value)?.is_live() && keys::delivery_in(&key, 1)? != *id {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn read_backlog(value: &[u8]) -> Result<Backlog, Error> {
    Ok(Backlog {
        open: keys::number_in(value, 0)?,
        held: keys::number_in(value, 8)?,
        parked: keys::number_in(value, 16)?,
        oldest_accepted_at: None,
    })
}

/// Bytes that retention may not drop: events of deliveries that are not ended, and shelves.
pub(super) fn add_live(stage: &mut Stage, more: u64, less: u64) -> Result<(), Error> {
    if more != less {
        let live =
            stage.get_hot(keys::LIVE)?.map(|value| keys::number_in(&value, 0)).transpose()?.unwrap_or(0);
        let live = live.saturating_add(more).saturating_sub(less);
        stage.put_hot(keys::LIVE.to_vec(), Blob::from(&live.to_be_bytes()));
    }
    Ok(())
}

// === secrets ===

fn secrets_value(position: u64, record: &SecretsSeen) -> Blob {
    let mut out = super::codec::Out(Vec::new());
    out.u64(position);
    record.encode(&mut out);
    Blob::from(out.0)
}

/// What is known of a source's secrets, and the position of the record that says so.
pub(super) fn read_secrets(value: &[u8]) -> Result<(u64, SecretsSeen), Error> {
    let bytes = bytes::Bytes::copy_from_slice(value);
    let mut bytes = super::codec::In::new(&bytes);
    let mut read = || Ok((bytes.u64()?, SecretsSeen::decode(&mut bytes)?));
    read().map_err(|error: super::codec::Unreadable| Error::Index(error.to_string()))
}

// === retention ===

fn copied(stage: &mut Stage, at: u64, record: &CopyRecord) -> Result<(), Error> {
    match record {
        CopyRecord::Whole { position, kind, payload, state, .. } => {
            stage.put(keys::moved(*position), Blob::from(&at.to_be_bytes()));
            let whole = Record::decode(*kind, payload).map_err(|error| Error::Index(error.to_string()))?;
            if let Record::Accept(accept) = whole {
                copied_accept(stage, *position, &accept, state)?;
            }
        }
        CopyRecord::Keys(copies) => copies.iter().for_each(|copy| {
            let stored = Stored { event: copy.event, body_hash: copy.body_hash };
            stage.seen(KeyEntry { hash: copy.key, stored, expires: copy.expires });
        }),
    }
    Ok(())
}

/// Brings back what the index, where it was lost, cannot read from the dropped segment any more.
fn copied_accept(
    stage: &mut Stage,
    position: u64,
    accept: &AcceptRecord,
    state: &[StateCopy],
) -> Result<(), Error> {
    for copy in state {
        let event = EventRef { position, ordinal: copy.ordinal };
        copied_counts(stage, event, &copy.redeliveries)?;
        for (subscription, row) in &copy.rows {
            let id = DeliveryId { event, subscription: subscription.clone() };
            let row = Row::decode(row)?;
            let known = stage.row(&id)?;
            // The past lets go of what ended in segments that are gone: it is told again.
            if !row.is_live() && known.as_ref().is_some_and(|known| known.changed_at <= row.changed_at) {
                stage.end(&id, &row);
            }
            if known.is_none() {
                set_row(stage, &id, None, Some(&row))?;
                // Listings go by handler, also where nothing of it is open any more.
                let backlog = keys::backlog(&row.handler);
                if stage.get_hot(&backlog)?.is_none() {
                    stage.put_hot(backlog, Blob::from(&[0; 24]));
                }
                live_changed(stage, &id, None, Some(&row))?;
            }
        }
    }
    let source = keys::source(&accept.source);
    if stage.get_hot(&source)?.is_none() {
        stage.put_hot(source, Blob::default());
    }
    clock_seen(stage, accept.received_at, accept.clock)?;
    for (event, event_ref) in accept.events.iter().zip(events_at(position)) {
        stage.seen_event(accept, event, event_ref);
    }
    Ok(())
}

/// A copy counts everything before itself; a count that began later is part of it.
fn copied_counts(stage: &mut Stage, event: EventRef, counts: &[u8]) -> Result<(), Error> {
    if counts.is_empty() {
        return Ok(());
    }
    let key = keys::redeliveries(event);
    let known = stage.get(&key)?.map(|value| Redeliveries::decode(&value)).transpose()?;
    let copied = Redeliveries::decode(counts)?;
    if known.is_none_or(|known| known.counted_to <= copied.counted_to) {
        stage.put(key, copied.encode());
    }
    Ok(())
}

fn marked(stage: &mut Stage, mark: &Mark) -> Result<(), Error> {
    match mark {
        Mark::Opened { at, clock } | Mark::Clean { at, clock } | Mark::Clock { at, clock } => {
            clock_seen(stage, *at, *clock)?;
        }
        Mark::First { sequence } => {
            stage.put(keys::FIRST.to_vec(), Blob::from(&sequence.to_be_bytes()));
        }
        // Keys that are named there, by an earlier version, leave the index when their window is over.
        Mark::Dropped { positions, .. } => {
            for position in positions {
                dropped(stage, *position)?;
            }
            // They come in the order of the journal, and what was kept among them was copied before.
            let behind = positions.iter().map(|position| position + 1).max().unwrap_or(0);
            let known = stage.get_hot(keys::GONE)?.map(|value| keys::number_in(&value, 0)).transpose()?;
            if known.is_none_or(|known| known < behind) {
                stage.put_hot(keys::GONE.to_vec(), Blob::from(&behind.to_be_bytes()));
            }
        }
    }
    Ok(())
}

/// Keeps the highest time of expiry with what the wall clock said then: the next start goes on from both. A
/// start is not so exact that every record must be noted.
fn clock_seen(stage: &mut Stage, wall: Millis, clock: Millis) -> Result<(), Error> {
    let known = stage.get_hot(keys::CLOCK)?.map(|value| keys::number_in(&value, 0)).transpose()?.unwrap_or(0);
    if clock.0 >= known.saturating_add(CLOCK_NOTED_EVERY_MS) {
        let pair = [clock.0.to_be_bytes(), wall.0.to_be_bytes()].concat();
        stage.put_hot(keys::CLOCK.to_vec(), Blob::from(pair));
    }
    Ok(())
}

/// A record is in no listing any more, and everything that hung on it goes with it.
fn dropped(stage: &mut Stage, position: u64) -> Result<(), Error> {
    for prefix in [keys::redeliveries_at(position), keys::reopened_at(position)] {
        let found: Vec<_> = stage.scan(prefixed(&prefix)).collect::<Result<_, _>>()?;
        found.iter().for_each(|(key, _)| stage.delete(key));
    }
    if stage.get(&keys::moved(position))?.is_some() {
        stage.delete(&keys::moved(position));
    }
    Ok(())
}
