//! Export: everything that is known of each event, as lines of JSON, newest first.
//!
//! The journal is walked backwards, so that what came of a delivery is met before its event: memory is needed for
//! what is under way at one moment, not for what was ever carried. Read from a snapshot, it sees nothing of what
//! is written meanwhile, and a retention cannot take a file away from under it.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::check::delivery_of;
use super::stat::deliveries_of;
use super::state::State;
use super::survey::open_whole;
use super::{JOURNAL, lock_shared};
use crate::store::codec::{AcceptRecord, CopyRecord, EventRecord, Mark, Record};
use crate::store::journal::{BatchHeader, NO_POSITION, RawRecord, Segments};
use crate::store::stage::Redeliveries;
use crate::store::{Error, Interrupted, RulingRow, Status};
use crate::words::attempt::Attempt;
use crate::words::effect::{Entry, Resolution};
use crate::words::event::{DeliveryId, EventRef, Name};
use crate::words::limits::DELIVERY_RECORDS_MAX;
use crate::words::secret::Fingerprint;
use crate::words::time::Millis;

/// Events lie in the order in which they were written, which is nearly that of their times.
const ORDER_SLACK: Duration = Duration::from_secs(3600);

/// The journal as it was at one moment. Its files stay readable as long as this lives, also where they are deleted.
pub struct Snapshot {
    segments: Segments,
    /// Held where no daemon runs.
    _lock: Option<std::fs::File>,
}

/// Which events.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    pub source: Option<Name>,
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// Events with a delivery to it; their other deliveries are left out.
    pub handler: Option<Name>,
    pub since: Option<Millis>,
    pub until: Option<Millis>,
}

/// One line. Fields are added, never renamed.
#[derive(Debug, Serialize)]
pub struct Exported<'a> {
    pub event: EventRef,
    pub id: &'a str,
    #[serde(rename = "type")]
    pub event_type: &'a str,
    pub source: &'a Name,
    pub received_at: Millis,
    pub signed_at: Option<Millis>,
    /// Names the secret that matched; the secret itself is nowhere in the store.
    pub secret: Fingerprint,
    pub test: bool,
    pub redeliveries: u64,
    pub query: Option<&'a str>,
    pub headers: &'a [(String, String)],
    /// Where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<&'a str>,
    /// Where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    pub deliveries: Vec<ExportedDelivery>,
}

#[derive(Debug, Serialize)]
pub struct ExportedDelivery {
    pub delivery: DeliveryId,
    pub handler: Name,
    pub status: Status,
    pub next_at: Option<Millis>,
    pub ended_at: Option<Millis>,
    pub attempts: Vec<Attempt>,
    /// Attempts that began and of which nothing else is known; the last one may be under way.
    pub interrupted: Vec<Interrupted>,
    pub rulings: Vec<RulingRow>,
}

impl Snapshot {
    /// Of a daemon's journal.
    pub(in crate::store) fn of(live: &Segments) -> Snapshot {
        loop {
            let oldest = live.base();
            let (end, last) = (live.end(), live.last_batch().unwrap_or(NO_POSITION));
            // What is in the list now reaches at least so far. Where a segment went meanwhile, what was copied from
            // it lies behind this end: once more.
            let list = live.list();
            if live.base() == oldest && list.first().is_none_or(|first| first.header.base == oldest) {
                return Snapshot { segments: Segments::new(list, end, last), _lock: None };
            }
        }
    }

    /// Of a journal that no daemon has open. Nothing is written.
    ///
    /// # Errors
    /// `Locked`, `Damaged`, `Io`, `Directory`.
    pub fn open(data: &Path) -> Result<Snapshot, Error> {
        let lock = lock_shared(data)?;
        let segments = open_whole(&data.join(JOURNAL))?;
        Ok(Snapshot { segments, _lock: lock })
    }

    pub(super) fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Calls `line` with each event that the filter lets through, without the line's end; ends early where that
    /// says no. Returns how many there were.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn export(&self, filter: &Filter, line: &mut dyn FnMut(String) -> bool) -> Result<u64, Error> {
        let walk = Walk {
            segments: &self.segments,
            filter,
            heads: HashMap::new(),
            redeliveries: HashMap::new(),
            counted: HashSet::new(),
            moved: HashMap::new(),
            gone: HashSet::new(),
            put_off: Vec::new(),
            lines: 0,
            is_wanted: true,
            line,
        };
        walk.run(self.segments.last_batch())
    }
}

fn resolution_in(detail: &Bytes) -> Option<Resolution> {
    match Entry::unframed(detail) {
        Ok((Entry::Ruled(ruled), _)) => Some(ruled.resolution),
        _ => None,
    }
}

struct Walk<'a> {
    segments: &'a Segments,
    filter: &'a Filter,
    /// The last record of each delivery whose event is still to come.
    heads: HashMap<DeliveryId, u64>,
    redeliveries: HashMap<EventRef, u64>,
    /// Events whose copy has counted all that came before it.
    counted: HashSet<EventRef>,
    /// Where what was copied lies.
    moved: HashMap<u64, u64>,
    /// Records that were dropped, or that a copy stands for.
    gone: HashSet<u64>,
    /// Copied events: records of them may lie before the copy.
    put_off: Vec<u64>,
    lines: u64,
    is_wanted: bool,
    line: &'a mut dyn FnMut(String) -> bool,
}

impl Walk<'_> {
    fn run(mut self, start: Option<u64>) -> Result<u64, Error> {
        let mut next = start;
        while let Some(position) = next.filter(|_| self.is_wanted) {
            let Some((header, records)) = self.segments.batch(position)? else { break };
            if self.is_before_all(&header) {
                break;
            }
            for raw in records.iter().rev() {
                self.see(raw)?;
            }
            next = self.segments.before(&header);
        }
        for position in std::mem::take(&mut self.put_off) {
            if self.is_wanted
                && let Some((Record::Accept(accept), _)) = self.find(position)?
            {
                self.request(position, &accept)?;
            }
        }
        Ok(self.lines)
    }

    fn is_before_all(&self, header: &BatchHeader) -> bool {
        self.filter.since.is_some_and(|since| Millis(header.written_at / 1000).plus(ORDER_SLACK) < since)
    }

    fn see(&mut self, raw: &RawRecord) -> Result<(), Error> {
        let decode = |kind, payload| {
            Record::decode(kind, payload).map_err(|why| self.segments.damaged(raw.position, &why.to_string()))
        };
        match decode(raw.kind, &raw.payload)? {
            Record::Accept(accept) if !self.gone.contains(&raw.position) => {
                self.request(raw.position, &accept)?;
            }
            Record::Redelivery(again) if self.counted.contains(&again.event) => {}
            Record::Redelivery(again) => *self.redeliveries.entry(again.event).or_default() += 1,
            Record::Copy(CopyRecord::Whole { position, kind, payload, state, .. }) => {
                let is_known = self.moved.contains_key(&position) || self.gone.contains(&position);
                if !is_known {
                    self.copy(raw.position, position, &decode(kind, &payload)?, &state)?;
                }
            }
            Record::Mark(Mark::Dropped { positions, .. }) => self.gone.extend(positions),
            other => {
                if let Some(id) = delivery_of(&other).filter(|id| !self.gone.contains(&id.event.position)) {
                    self.heads
                        .entry(id.clone())
                        .and_modify(|head| *head = raw.position.max(*head))
                        .or_insert(raw.position);
                }
            }
        }
        Ok(())
    }

    /// Of the latest copy of a record; older ones are passed over.
    fn copy(
        &mut self,
        at: u64,
        position: u64,
        record: &Record,
        state: &[crate::store::codec::StateCopy],
    ) -> Result<(), Error> {
        self.moved.insert(position, at);
        match record {
            Record::Accept(accept) => {
                for copy in state {
                    let event = EventRef { position, ordinal: copy.ordinal };
                    self.counted.insert(event);
                    if !copy.redeliveries.is_empty() {
                        let before = Redeliveries::decode(&copy.redeliveries)?.count;
                        *self.redeliveries.entry(event).or_default() += before;
                    }
                }
                self.put_off.extend(self.is_wanted_request(accept).then_some(position));
            }
            other => {
                if let Some(id) = delivery_of(other) {
                    self.heads
                        .entry(id.clone())
                        .and_modify(|head| *head = position.max(*head))
                        .or_insert(position);
                }
            }
        }
        Ok(())
    }

    // === one request ===

    fn is_wanted_request(&self, accept: &AcceptRecord) -> bool {
        let filter = self.filter;
        filter.source.as_ref().is_none_or(|source| *source == accept.source)
            && filter.since.is_none_or(|since| accept.received_at >= since)
            && filter.until.is_none_or(|until| accept.received_at < until)
    }

    fn is_wanted_event(&self, event: &EventRecord) -> bool {
        let to_handler = |handler: &Name| event.deliveries.iter().any(|to| to.handler == *handler);
        self.filter.event_type.as_ref().is_none_or(|wanted| *wanted == event.event_type)
            && self.filter.handler.as_ref().is_none_or(to_handler)
    }

    fn request(&mut self, position: u64, accept: &AcceptRecord) -> Result<(), Error> {
        let is_wanted = self.is_wanted_request(accept);
        let mut heads: HashMap<DeliveryId, u64> = HashMap::new();
        for (id, _) in deliveries_of(position, accept) {
            if let Some(head) = self.heads.remove(&id) {
                heads.insert(id, head);
            }
        }
        for (ordinal, event) in accept.events.iter().enumerate().rev() {
            let event_ref = EventRef { position, ordinal: u16::try_from(ordinal).unwrap_or(u16::MAX) };
            let redeliveries = self.redeliveries.remove(&event_ref).unwrap_or(0);
            if is_wanted && self.is_wanted && self.is_wanted_event(event) {
                let text = self.event(event_ref, accept, event, (redeliveries, &heads))?;
                self.is_wanted = (self.line)(text);
                self.lines += 1;
            }
        }
        Ok(())
    }

    fn event(
        &self,
        event_ref: EventRef,
        accept: &AcceptRecord,
        event: &EventRecord,
        (redeliveries, heads): (u64, &HashMap<DeliveryId, u64>),
    ) -> Result<String, Error> {
        let body = accept.body_of(event);
        let text = std::str::from_utf8(&body).ok();
        let mut deliveries = Vec::with_capacity(event.deliveries.len());
        for to in &event.deliveries {
            if self.filter.handler.as_ref().is_none_or(|handler| *handler == to.handler) {
                let id = DeliveryId { event: event_ref, subscription: to.subscription.clone() };
                let head = heads.get(&id).copied().unwrap_or(0);
                deliveries.push(self.delivery(id, &to.handler, accept, head)?);
            }
        }
        let exported = Exported {
            event: event_ref,
            id: &event.id,
            event_type: &event.event_type,
            source: &accept.source,
            received_at: accept.received_at,
            signed_at: accept.signed_at,
            secret: accept.secret,
            test: event.test,
            redeliveries,
            query: accept.query.as_deref(),
            headers: &accept.headers,
            body: text,
            body_base64: text.is_none().then(|| STANDARD.encode(&body)),
            deliveries,
        };
        Ok(serde_json::to_string(&exported).expect("words have no maps with keys that are not text"))
    }

    // === one delivery ===

    fn delivery(
        &self,
        delivery: DeliveryId,
        handler: &Name,
        accept: &AcceptRecord,
        head: u64,
    ) -> Result<ExportedDelivery, Error> {
        let mut state = State::accepted(accept.received_at.min(accept.clock));
        let (mut attempts, mut begun, mut rulings) = (Vec::new(), Vec::new(), Vec::new());
        let mut word = None;
        for record in self.chain(head)?.into_iter().rev() {
            state.apply(&record);
            match record {
                // What its shelf said is for a record that can be run again: `longshore deliveries export`.
                Record::Settle(settle) => attempts.push(Attempt { tape: None, ..settle.attempt }),
                Record::Begun(one) => begun.push(one),
                // Its word on a call is written before it.
                Record::EffectResponse(effect) => word = resolution_in(&effect.detail).or(word),
                Record::Ruling(one) => {
                    rulings.push(RulingRow { at: one.at, ruling: one.ruling, resolution: word.take() })
                }
                _ => {}
            }
        }
        let ended: HashSet<u32> = attempts.iter().map(|attempt: &Attempt| attempt.number).collect();
        let interrupted = begun.into_iter().filter(|one| !ended.contains(&one.number));
        let interrupted =
            interrupted.map(|one| Interrupted { number: one.number, began_at: one.at, plugin: one.plugin });
        Ok(ExportedDelivery {
            delivery,
            handler: handler.clone(),
            status: state.status,
            next_at: (state.status == Status::Open).then_some(state.due),
            ended_at: state.ended_at,
            attempts,
            interrupted: interrupted.collect(),
            rulings,
        })
    }

    /// Its records, the last one first.
    fn chain(&self, head: u64) -> Result<Vec<Record>, Error> {
        let mut chain = Vec::new();
        let mut position = head;
        while position != 0 && chain.len() < DELIVERY_RECORDS_MAX {
            let Some((record, link)) = self.find(position)? else { break };
            chain.push(record);
            position = link;
        }
        Ok(chain)
    }

    /// A record under the position that it had first, and the one before it of its chain. None: dropped.
    fn find(&self, position: u64) -> Result<Option<(Record, u64)>, Error> {
        let damaged = |at, why: crate::store::codec::Unreadable| self.segments.damaged(at, &why.to_string());
        if let Some(raw) = self.segments.record(position)? {
            let record = Record::decode(raw.kind, &raw.payload).map_err(|why| damaged(position, why))?;
            return Ok(Some((record, raw.link)));
        }
        let Some(at) = self.moved.get(&position) else { return Ok(None) };
        let Some(raw) = self.segments.record(*at)? else { return Ok(None) };
        match Record::decode(raw.kind, &raw.payload).map_err(|why| damaged(*at, why))? {
            Record::Copy(CopyRecord::Whole { kind, link, payload, .. }) => {
                let record = Record::decode(kind, &payload).map_err(|why| damaged(*at, why))?;
                Ok(Some((record, link)))
            }
            _ => Ok(None),
        }
    }
}
