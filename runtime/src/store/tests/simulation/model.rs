//! The model: what a ledger is, without a disk, without threads, and without a thought for speed.
//!
//! It is told what became durable, in that order, and says what every question must be answered with from then on.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::calls::{Answer, Request, Want};
use crate::store::{EventRef, Ruling, Settle, Status};
use crate::words::attempt::Verdict;
use crate::words::event::{DeliveryId, Name};
use crate::words::lane::LaneChange;
use crate::words::shelf::{ShelfListing, ShelfTxn, ShelfWrite};
use crate::words::time::Millis;

/// A source and an event id.
pub(super) type Key = (Name, String);

#[derive(Clone, Default)]
pub(super) struct Model {
    pub events: BTreeMap<EventRef, Event>,
    pub rows: BTreeMap<DeliveryId, Row>,
    /// Every event that was ever under a key, oldest first.
    pub keys: BTreeMap<Key, Vec<Claimed>>,
    pub shelf: BTreeMap<(Name, String), Entry>,
    /// Changes of lanes by their positions, as history has them.
    pub lanes: BTreeMap<u64, (Name, LaneChange)>,
    /// What stands of each lane: its pause, and its breaker.
    pub standing: BTreeMap<Name, [Option<LaneChange>; 2]>,
    /// Positions of records that were dropped.
    pub dropped: BTreeSet<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub key: Key,
    pub bytes: Bytes,
    pub received_at: Millis,
    pub redeliveries: u64,
    pub body_differed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub handler: Name,
    pub status: Status,
    pub due: Millis,
    pub attempts: u32,
    pub begun: u32,
    pub counted_from: Millis,
    pub aged_from: Millis,
    /// What was noted about its calls, in order.
    pub effects: Vec<Bytes>,
    /// An attempt was done since the last retry.
    pub was_done: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Claimed {
    pub event: EventRef,
    pub bytes: Bytes,
    pub expires: Millis,
    /// Its window was over once; a clock that began earlier again may or may not know it.
    pub lapsed: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Position of the record that wrote it.
    pub version: u64,
    pub value: Bytes,
    pub expires: Option<Millis>,
    pub lapsed: bool,
}

impl Entry {
    pub(super) fn is_live(&self, now: Millis) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// A store may have forgotten it, or not yet.
    pub(super) fn is_unsure(&self, now: Millis) -> bool {
        self.lapsed && self.is_live(now)
    }
}

impl Row {
    pub(super) fn is_live(&self) -> bool {
        !self.status.is_ended()
    }
}

impl Model {
    // === what records do ===

    /// # Errors
    /// In words: an event that was there was accepted once more.
    pub(super) fn accepted(&mut self, position: u64, request: &Request, ids: &[&str]) -> Result<(), String> {
        for (ordinal, id) in ids.iter().enumerate() {
            let event = EventRef { position, ordinal: u16::try_from(ordinal).expect("there are few") };
            let want = request.events.iter().find(|want| want.id == *id);
            let want = want.ok_or_else(|| format!("{id} is in the record, and not in the request"))?;
            let key = (request.source.clone(), want.id.clone());
            let known = self.keys.entry(key.clone()).or_default();
            if let Some(last) = known.last().filter(|last| request.clock < last.expires && !last.lapsed) {
                return Err(format!("{id} was accepted as {event} in the window of {}", last.event));
            }
            let expires = request.clock.plus(request.window);
            known.push(Claimed { event, bytes: want.bytes(), expires, lapsed: false });
            self.add_event(event, key, request, want);
        }
        Ok(())
    }

    fn add_event(&mut self, event: EventRef, key: Key, request: &Request, want: &Want) {
        for (subscription, handler) in &want.deliveries {
            let row = Row {
                handler: handler.clone(),
                status: Status::Open,
                due: request.received_at.min(request.clock),
                attempts: 0,
                begun: 0,
                counted_from: request.received_at,
                aged_from: request.clock,
                effects: Vec::new(),
                was_done: false,
            };
            self.rows.insert(DeliveryId { event, subscription: subscription.clone() }, row);
        }
        let bytes = want.bytes();
        let received_at = request.received_at;
        self.events.insert(event, Event { key, bytes, received_at, redeliveries: 0, body_differed: 0 });
    }

    pub(super) fn redelivered(&mut self, event: EventRef, body_differs: bool) {
        if let Some(event) = self.events.get_mut(&event) {
            event.redeliveries += 1;
            event.body_differed += u64::from(body_differs);
        }
    }

    pub(super) fn can_begin(&self, id: &DeliveryId, number: u32) -> Answer {
        let Some(row) = self.rows.get(id) else { return Answer::NoSuch };
        let is_next = number == row.attempts + row.begun + 1;
        if row.status == Status::Open && is_next { Answer::Fine } else { Answer::WrongState(row.status) }
    }

    /// Nothing may leave for a delivery that is not open, nor from an attempt that is not the last that began; what
    /// came of a call is always written.
    pub(super) fn can_note(&self, id: &DeliveryId, number: u32, is_intent: bool) -> Answer {
        let is_under_way =
            |row: &Row| row.status == Status::Open && row.begun > 0 && number == row.attempts + row.begun;
        match self.rows.get(id) {
            None => Answer::NoSuch,
            Some(row) if is_intent && !is_under_way(row) => Answer::WrongState(row.status),
            Some(_) => Answer::Fine,
        }
    }

    pub(super) fn begun(&mut self, id: &DeliveryId) {
        self.row(id).begun += 1;
    }

    pub(super) fn noted(&mut self, id: &DeliveryId, detail: &Bytes) {
        self.row(id).effects.push(detail.clone());
    }

    pub(super) fn can_settle(&self, settle: &Settle, clock: Millis) -> Answer {
        let begun =
            if settle.begun { Answer::Fine } else { self.can_begin(&settle.delivery, settle.attempt.number) };
        match self.rows.contains_key(&settle.delivery) {
            false => Answer::NoSuch,
            true if begun != Answer::Fine => begun,
            true if self.holds(&settle.handler, &settle.shelf, clock) => Answer::Fine,
            true => Answer::Conflict,
        }
    }

    pub(super) fn settled(&mut self, position: u64, settle: &Settle, clock: Millis) {
        self.write(position, &settle.handler, &settle.shelf, clock);
        let number = settle.attempt.number;
        let row = self.row(&settle.delivery);
        row.was_done |= matches!(settle.verdict, Verdict::Done | Verdict::Skipped);
        if number <= row.attempts {
            return;
        }
        let passed = number - row.attempts;
        row.attempts = number;
        if row.status.is_ended() {
            row.begun = row.begun.saturating_sub(passed);
            return;
        }
        row.begun = 0;
        row.status = match &settle.verdict {
            Verdict::Done => Status::Done,
            Verdict::Skipped => Status::Skipped,
            Verdict::Dead { .. } => Status::Dead,
            Verdict::Parked { .. } => Status::Parked,
            Verdict::Again { at } => {
                row.due = *at;
                Status::Open
            }
        };
    }

    pub(super) fn can_park(&self, id: &DeliveryId) -> Answer {
        match self.rows.get(id) {
            None => Answer::NoSuch,
            Some(row) if row.status == Status::Open => Answer::Fine,
            Some(row) => Answer::WrongState(row.status),
        }
    }

    pub(super) fn can_rule(&self, id: &DeliveryId, ruling: Ruling) -> Answer {
        match self.rows.get(id) {
            None => Answer::NoSuch,
            Some(row) if ruling == Ruling::Cancel && row.status.is_ended() => Answer::WrongState(row.status),
            Some(_) => Answer::Fine,
        }
    }

    pub(super) fn ruled(&mut self, id: &DeliveryId, ruling: Ruling, at: Millis, clock: Millis) {
        let row = self.row(id);
        match ruling {
            Ruling::Cancel => row.status = Status::Cancelled,
            Ruling::Retry => {
                // A new round.
                if std::mem::take(&mut row.was_done) {
                    row.effects.clear();
                }
                row.attempts += row.begun;
                row.begun = 0;
                row.counted_from = at;
                row.aged_from = clock;
                row.due = at;
                row.status = Status::Open;
            }
        }
    }

    pub(super) fn held(&mut self, id: &DeliveryId, status: Status) {
        self.row(id).status = status;
    }

    /// # Errors
    /// In words: something live was dropped.
    pub(super) fn dropped(&mut self, position: u64) -> Result<(), String> {
        let of_record = |event: &EventRef| event.position == position;
        if let Some((id, row)) = self.rows.iter().find(|(id, row)| of_record(&id.event) && row.is_live()) {
            return Err(format!("{id} is {} and its event was dropped", row.status));
        }
        if let Some((handler, change)) = self.lanes.remove(&position)
            && self.stands(&handler, &change)
            && !self.lanes.values().any(|(other, kept)| *other == handler && *kept == change)
        {
            return Err(format!("{handler}: `{change}` stands, and was dropped"));
        }
        self.dropped.insert(position);
        self.rows.retain(|id, _| !of_record(&id.event));
        self.events.retain(|event, _| !of_record(event));
        Ok(())
    }

    pub(super) fn lane_changed(&mut self, position: u64, handler: &Name, change: &LaneChange) {
        self.lanes.insert(position, (handler.clone(), change.clone()));
        let [pause, breaker] = self.standing.entry(handler.clone()).or_default();
        match change {
            LaneChange::Paused { .. } => *pause = Some(change.clone()),
            LaneChange::Resumed { .. } => *pause = None,
            LaneChange::Opened { .. } | LaneChange::Returning { .. } => *breaker = Some(change.clone()),
            LaneChange::Closed { .. } => *breaker = None,
        }
    }

    pub(super) fn stands(&self, handler: &Name, change: &LaneChange) -> bool {
        self.standing.get(handler).is_some_and(|standing| standing.iter().flatten().any(|one| one == change))
    }

    fn row(&mut self, id: &DeliveryId) -> &mut Row {
        self.rows.get_mut(id).expect("the caller asked whether it is there")
    }

    // === shelves ===

    fn entry(&self, handler: &Name, key: &str, now: Millis) -> Option<&Entry> {
        self.shelf.get(&(handler.clone(), key.to_owned())).filter(|entry| entry.is_live(now))
    }

    pub(super) fn list(
        &self,
        handler: &Name,
        listing: (&str, Option<&str>, u32),
        now: Millis,
    ) -> Vec<String> {
        let (prefix, after, limit) = listing;
        let of_handler = self.shelf.iter().filter(|((of, _), entry)| of == handler && entry.is_live(now));
        of_handler
            .map(|((_, key), _)| key.clone())
            .filter(|key| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after))
            .take(limit as usize)
            .collect()
    }

    fn holds(&self, handler: &Name, txn: &ShelfTxn, now: Millis) -> bool {
        let read = |(key, version): (&String, &u64)| {
            self.entry(handler, key, now).map_or(0, |entry| entry.version) == *version
        };
        let listed = |listing: &ShelfListing| {
            let listed = (listing.prefix.as_str(), listing.after.as_deref(), listing.limit);
            self.list(handler, listed, now) == listing.keys
        };
        txn.reads.iter().all(read) && txn.lists.iter().all(listed)
    }

    fn write(&mut self, position: u64, handler: &Name, txn: &ShelfTxn, now: Millis) {
        for (key, write) in &txn.writes {
            let place = (handler.clone(), key.clone());
            let (value, expires) = match write {
                ShelfWrite::Set { value, ttl } => (value.clone(), ttl.map(|ttl| now.plus(ttl))),
                ShelfWrite::Delete => {
                    self.shelf.remove(&place);
                    continue;
                }
                ShelfWrite::Add { delta, ttl } => {
                    let old = self.entry(handler, key, now);
                    let number = old.and_then(|old| std::str::from_utf8(&old.value).ok()?.parse().ok());
                    let sum = number.unwrap_or(0_i64).saturating_add(*delta);
                    let kept = old.and_then(|old| old.expires);
                    (Bytes::from(sum.to_string()), ttl.map(|ttl| now.plus(ttl)).or(kept))
                }
            };
            self.shelf.insert(place, Entry { version: position, value, expires, lapsed: false });
        }
    }

    /// Whether a transaction depends on what a store may have forgotten, or not.
    pub(super) fn is_unsure(&self, handler: &Name, now: Millis) -> bool {
        self.shelf.iter().any(|((of, _), entry)| of == handler && entry.is_unsure(now))
    }

    // === time ===

    /// A start: the clock may go on from a little earlier than it had come.
    pub(super) fn lapse(&mut self, clock: Millis) {
        for claimed in self.keys.values_mut().flatten() {
            claimed.lapsed |= claimed.expires <= clock;
        }
        for entry in self.shelf.values_mut() {
            entry.lapsed |= !entry.is_live(clock);
        }
    }
}
