//! Stat: the figures of a store whose daemon does not run, counted from its journal.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::check::delivery_of;
use super::state::State;
use super::survey::{Seen, survey};
use super::{INDEX, JOURNAL, lock_shared};
use crate::store::codec::{AcceptRecord, CopyRecord, Mark, Record, StateCopy};
use crate::store::journal::Segments;
use crate::store::journal::disk::{Disk, Real};
use crate::store::rows::Row;
use crate::store::{Backlog, Error, Ruling, Status};
use crate::words::event::{DeliveryId, EventRef, Name};
use crate::words::limits::{DELIVERY_RECORDS_MAX, EXPIRY_GAP_MAX};
use crate::words::time::Millis;

/// What can be known without the index.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OfflineStat {
    pub path: PathBuf,
    pub segments: u64,
    pub journal_bytes: u64,
    pub index_bytes: u64,
    pub free_bytes: u64,
    /// Behind the last whole batch: what a start goes on from.
    pub durable_position: u64,
    /// Events in the journal.
    pub events: u64,
    /// Idempotency keys in their window.
    pub keys: u64,
    pub backlog: BTreeMap<String, Backlog>,
    /// Places that do not read; `store check` names them.
    pub damaged_places: u64,
    /// What a start will cut.
    pub torn_bytes: u64,
    pub is_clean_stop: bool,
}

/// # Errors
/// As `check`.
pub fn stat(data: &Path, now: Millis) -> Result<OfflineStat, Error> {
    let _lock = lock_shared(data)?;
    let mut fold = Fold::default();
    let survey = survey(&data.join(JOURNAL), &mut |seen, past| fold.see(&seen, past.segments))?;
    let bad =
        survey.parts.iter().map(|part| part.stretches.len() + usize::from(part.header_damage.is_some()));
    Ok(OfflineStat {
        path: data.to_owned(),
        segments: survey.parts.iter().filter(|part| part.file_bytes.is_some()).count() as u64,
        journal_bytes: survey.parts.iter().filter_map(|part| part.file_bytes).sum(),
        index_bytes: bytes_below(&data.join(INDEX)),
        free_bytes: Real.free_bytes(data).unwrap_or(0),
        durable_position: survey.end(),
        events: fold.events,
        keys: fold.keys(now),
        backlog: fold.backlog(),
        damaged_places: bad.sum::<usize>() as u64 + u64::from(survey.missing_below().is_some()),
        torn_bytes: survey.torn.map_or(0, |torn| torn.bytes),
        is_clean_stop: survey.is_clean_stop,
    })
}

/// As far as it can be read; what is asked for is about how much.
fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_below(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

/// What is open, held and parked, and how many keys are remembered, followed through the records in their order.
/// Of deliveries, only those that have not ended take memory: some fifty bytes each.
#[derive(Default)]
pub(super) struct Fold {
    names: Names,
    live: HashMap<Key, Live>,
    /// Where what was copied lies now.
    moved: HashMap<u64, u64>,
    events: u64,
    deliveries: u64,
    /// Keys by the minute in which they are forgotten.
    forgotten: BTreeMap<u64, u64>,
    /// The last time of expiry, and what the wall clock said then.
    clock: Option<(Millis, Millis)>,
}

type Key = (EventRef, u32);

struct Live {
    handler: u32,
    accepted_at: Millis,
    state: State,
}

impl Fold {
    pub(super) fn see(&mut self, seen: &Seen<'_>, segments: &Segments) {
        match seen.record {
            Record::Accept(accept) => {
                self.request(accept);
                self.deliveries(seen.raw.position, accept);
            }
            Record::Copy(CopyRecord::Whole { position, kind, payload, state, .. }) => {
                self.moved.insert(*position, seen.raw.position);
                if let Ok(Record::Accept(accept)) = Record::decode(*kind, payload)
                    && !matches!(segments.record(*position), Ok(Some(_)))
                {
                    self.request(&accept);
                    self.copied(*position, &accept, state);
                }
            }
            Record::Copy(CopyRecord::Keys(keys)) => keys.iter().for_each(|key| self.key(key.expires)),
            Record::Mark(
                Mark::Opened { at, clock } | Mark::Clean { at, clock } | Mark::Clock { at, clock },
            ) => {
                self.clock_seen(*at, *clock);
            }
            other => {
                if let Some(id) = delivery_of(other) {
                    self.changed(seen, id, segments);
                }
            }
        }
    }

    fn request(&mut self, accept: &AcceptRecord) {
        self.events += accept.events.len() as u64;
        self.deliveries += accept.events.iter().map(|event| event.deliveries.len() as u64).sum::<u64>();
        accept.events.iter().for_each(|_| self.key(accept.expires));
        self.clock_seen(accept.received_at, accept.clock);
    }

    fn deliveries(&mut self, position: u64, accept: &AcceptRecord) {
        for (id, handler) in deliveries_of(position, accept) {
            let state = State::accepted(accept.received_at.min(accept.clock));
            self.put(&id, handler, accept.received_at, state);
        }
    }

    fn copied(&mut self, position: u64, accept: &AcceptRecord, state: &[StateCopy]) {
        for copy in state {
            let event = EventRef { position, ordinal: copy.ordinal };
            for (subscription, row) in &copy.rows {
                let Ok(row) = Row::decode(row) else { continue };
                let id = DeliveryId { event, subscription: subscription.clone() };
                self.put(&id, &row.handler, accept.received_at, State::of_row(&row));
            }
        }
    }

    fn put(&mut self, id: &DeliveryId, handler: &Name, accepted_at: Millis, state: State) {
        let key = (id.event, self.names.number(&id.subscription));
        if state.status.is_ended() {
            self.live.remove(&key);
        } else {
            let handler = self.names.number(handler);
            self.live.insert(key, Live { handler, accepted_at, state });
        }
    }

    fn changed(&mut self, seen: &Seen<'_>, id: &DeliveryId, segments: &Segments) {
        let key = (id.event, self.names.number(&id.subscription));
        if let Some(live) = self.live.get_mut(&key) {
            live.state.apply(seen.record);
            if live.state.status.is_ended() {
                self.live.remove(&key);
            }
        } else if matches!(seen.record, Record::Ruling(ruling) if ruling.ruling == Ruling::Retry) {
            self.opened_again(seen, id, segments);
        }
    }

    /// It had ended: what it was then is read from its chain.
    fn opened_again(&mut self, seen: &Seen<'_>, id: &DeliveryId, segments: &Segments) {
        let Some((Record::Accept(accept), _)) = self.find(segments, id.event.position) else { return };
        let known = deliveries_of(id.event.position, &accept).find(|(known, _)| known == id);
        let Some((_, handler)) = known else { return };
        let mut chain = Vec::new();
        let mut link = seen.raw.link;
        while link != 0 && chain.len() < DELIVERY_RECORDS_MAX {
            let Some((record, before)) = self.find(segments, link) else { break };
            chain.push(record);
            link = before;
        }
        let mut state = State::accepted(accept.received_at.min(accept.clock));
        chain.iter().rev().chain([seen.record]).for_each(|record| state.apply(record));
        self.put(id, handler, accept.received_at, state);
    }

    /// A record, and the one before it of its chain.
    fn find(&self, segments: &Segments, position: u64) -> Option<(Record, u64)> {
        if let Ok(Some(raw)) = segments.record(position) {
            return Some((Record::decode(raw.kind, &raw.payload).ok()?, raw.link));
        }
        let raw = segments.record(*self.moved.get(&position)?).ok()??;
        match Record::decode(raw.kind, &raw.payload).ok()? {
            Record::Copy(CopyRecord::Whole { kind, link, payload, .. }) => {
                Some((Record::decode(kind, &payload).ok()?, link))
            }
            _ => None,
        }
    }

    fn key(&mut self, expires: Millis) {
        *self.forgotten.entry(expires.0 / 60_000).or_default() += 1;
    }

    fn clock_seen(&mut self, wall: Millis, clock: Millis) {
        if self.clock.is_none_or(|(_, known)| clock > known) {
            self.clock = Some((wall, clock));
        }
    }

    fn keys(&self, now: Millis) -> u64 {
        let now = self.clock.map_or(now, |(wall, clock)| {
            let gap = now.since(wall);
            if gap <= EXPIRY_GAP_MAX { clock.plus(gap) } else { clock }
        });
        self.forgotten.range(now.0 / 60_000..).map(|(_, count)| count).sum()
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn deliveries_accepted(&self) -> u64 {
        self.deliveries
    }

    pub(super) fn backlog(&self) -> BTreeMap<String, Backlog> {
        let mut all: BTreeMap<String, Backlog> = BTreeMap::new();
        for live in self.live.values() {
            let backlog = all.entry(self.names.text(live.handler).to_owned()).or_default();
            match live.state.status {
                Status::Held => backlog.held += 1,
                Status::Parked => backlog.parked += 1,
                _ => backlog.open += 1,
            }
            let oldest = backlog.oldest_accepted_at.map_or(live.accepted_at, |at| at.min(live.accepted_at));
            backlog.oldest_accepted_at = Some(oldest);
        }
        all
    }
}

/// The deliveries of a request, with their handlers.
pub(super) fn deliveries_of(
    position: u64,
    accept: &AcceptRecord,
) -> impl Iterator<Item = (DeliveryId, &Name)> {
    accept.events.iter().zip(0..=u16::MAX).flat_map(move |(event, ordinal)| {
        let event_ref = EventRef { position, ordinal };
        event.deliveries.iter().map(move |to| {
            (DeliveryId { event: event_ref, subscription: to.subscription.clone() }, &to.handler)
        })
    })
}

/// There are few names, and millions of deliveries.
#[derive(Default)]
struct Names {
    numbers: HashMap<Name, u32>,
    texts: Vec<Name>,
}

impl Names {
    fn number(&mut self, name: &Name) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).expect("names are configured by hand");
        self.numbers.insert(name.clone(), number);
        self.texts.push(name.clone());
        number
    }

    fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", Name::as_str)
    }
}
