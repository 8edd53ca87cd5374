//! Events as people ask for them: they have no key of their own in the index, and are read backwards from the journal.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{ORDER_SLACK, bad_cursor, page_size, within};
use crate::store::codec::{AcceptRecord, EventRecord, Kind, Record};
use crate::store::core::Core;
use crate::store::index::prefixed;
use crate::store::journal::segments::Segment;
use crate::store::journal::{BatchHeader, RawRecord};
use crate::store::stage::Redeliveries;
use crate::store::{DeliverySummary, Durability, Error, EventFilter, EventRow, Page, claims, keys};
use crate::words::event::{DeliveryId, EventRef, Name};
use crate::words::limits::{HISTORY_SCAN_BYTES_MAX, HISTORY_SCAN_MAX};
use crate::words::time::Millis;

/// A walk through the journal from its end to its beginning.
struct Walk<'a> {
    core: &'a Core,
    filter: &'a EventFilter,
    /// Only events below this.
    below: EventRef,
    limit: usize,
    rows: Vec<EventRow>,
    /// The batch of the last row, for the cursor.
    batch: u64,
    looked_at: usize,
    bytes: u64,
}

pub(in crate::store) fn events(core: &Core, filter: &EventFilter) -> Result<Page<EventRow>, Error> {
    let mut walk = Walk {
        core,
        filter,
        below: EventRef { position: u64::MAX, ordinal: 0 },
        limit: page_size(filter.limit),
        rows: Vec::new(),
        batch: 0,
        looked_at: 0,
        bytes: 0,
    };
    let mut start = core.segments.last_batch();
    if let Some(cursor) = &filter.cursor {
        let (batch, below) = read_cursor(cursor)?;
        if !core.segments.may_be_batch(batch)? {
            return Err(bad_cursor(cursor));
        }
        walk.below = below;
        start = (batch >= core.segments.base()).then_some(batch);
    } else if let Some(id) = &filter.id {
        // The key names the latest event under this id: nothing newer can match.
        if let Some(event) = latest_of(core, filter.source.as_ref(), id)? {
            walk.below = EventRef { position: event.position, ordinal: event.ordinal.saturating_add(1) };
            start = core.segments.record(event.position)?.map(|raw| raw.batch);
        }
    } else if let Some(until) = filter.until {
        start = skip_newer_than(core, start, until)?;
    }
    walk.journal(start)
}

fn read_cursor(text: &str) -> Result<(u64, EventRef), Error> {
    let (batch, event) = text.split_once('.').ok_or_else(|| bad_cursor(text))?;
    let batch = u64::from_str_radix(batch, 16).map_err(|_| bad_cursor(text))?;
    Ok((batch, event.parse().map_err(|_| bad_cursor(text))?))
}

fn latest_of(core: &Core, source: Option<&Name>, id: &str) -> Result<Option<EventRef>, Error> {
    let sources = match source {
        Some(source) => vec![source.clone()],
        None => sources(core)?,
    };
    let mut latest: Option<EventRef> = None;
    for source in sources {
        let known = core.index.seen(&claims::key_of(source.as_str(), id))?;
        latest = latest.max(known.map(|known| known.stored.event));
    }
    // What the index has not seen yet lies above everything that it has.
    Ok(if core.view.lag() == 0 { latest } else { None })
}

fn sources(core: &Core) -> Result<Vec<Name>, Error> {
    core.scan(prefixed(&keys::sources()), false).map(|entry| keys::name_in(&entry?.0)).collect()
}

impl Walk<'_> {
    fn journal(mut self, start: Option<u64>) -> Result<Page<EventRow>, Error> {
        let mut next = start;
        while let Some(position) = next {
            if self.rows.len() >= self.limit {
                return Ok(self.page(false));
            }
            if self.looked_at >= HISTORY_SCAN_MAX || self.bytes >= HISTORY_SCAN_BYTES_MAX {
                let below = self.below;
                return Ok(self.cut_at(position, below));
            }
            let Some((header, records)) = self.core.segments.batch(position)? else { break };
            self.bytes += u64::from(header.body_bytes);
            let newest = self.batch(&header, &records)?;
            if newest.zip(self.filter.since).is_some_and(|(newest, since)| newest.plus(ORDER_SLACK) < since) {
                return Ok(self.page(true));
            }
            next = self.core.segments.before(&header);
        }
        self.moved()
    }

    /// Adds what matches; returns the time of the newest event of the batch.
    fn batch(&mut self, header: &BatchHeader, records: &[RawRecord]) -> Result<Option<Millis>, Error> {
        let mut newest = None;
        for raw in records.iter().rev() {
            self.looked_at += 1;
            if raw.kind != Kind::Accept as u8 || raw.position > self.below.position {
                continue;
            }
            if let Record::Accept(record) = self.core.decode(raw)? {
                newest = newest.max(Some(record.received_at));
                let answer_us = || answer_us(self.core, header, &record);
                self.record(raw.position, header.position, &record, answer_us)?;
            }
        }
        Ok(newest)
    }

    fn record(
        &mut self,
        position: u64,
        batch: u64,
        record: &AcceptRecord,
        answer_us: impl Fn() -> Result<Option<u64>, Error>,
    ) -> Result<(), Error> {
        self.looked_at += record.events.len();
        for (ordinal, event) in record.events.iter().enumerate().rev() {
            let event_ref = EventRef { position, ordinal: u16::try_from(ordinal).unwrap_or(u16::MAX) };
            if self.rows.len() < self.limit && event_ref < self.below && self.matches(record, event) {
                self.rows.extend(event_row_of(self.core, event_ref, record, event, answer_us()?)?);
                self.batch = batch;
            }
        }
        Ok(())
    }

    /// Events whose segment was dropped: all older than what the journal still has in its order.
    fn moved(mut self) -> Result<Page<EventRow>, Error> {
        let end = self.core.segments.base().min(self.below.position.saturating_add(1));
        let range = (Bound::Included(keys::all_moved()), Bound::Excluded(keys::moved(end)));
        let core = self.core;
        for entry in core.scan(range, true) {
            if self.rows.len() >= self.limit {
                return Ok(self.page(false));
            }
            let position = keys::number_in(&entry?.0, 1)?;
            if self.looked_at >= HISTORY_SCAN_MAX || self.bytes >= HISTORY_SCAN_BYTES_MAX {
                return Ok(self.cut_at(position, EventRef { position, ordinal: u16::MAX }));
            }
            self.looked_at += 1;
            let Some(found) = core.record(position)? else { continue };
            if let Record::Accept(record) = found.record {
                self.bytes += record.body.len() as u64;
                self.record(position, position, &record, || Ok(found.answer_us.flatten()))?;
            }
        }
        // A full page may have ended exactly here; asking once more costs little.
        let is_end = self.rows.len() < self.limit;
        Ok(self.page(is_end))
    }

    fn page(self, is_end: bool) -> Page<EventRow> {
        let last = self.rows.last().filter(|_| !is_end);
        let next = last.map(|row| format!("{:x}.{}", self.batch, row.event));
        Page { next, rows: self.rows, cut: false }
    }

    /// What lies in this batch, or before it, is still to be looked at.
    fn cut_at(self, batch: u64, below: EventRef) -> Page<EventRow> {
        Page { rows: self.rows, next: Some(format!("{batch:x}.{below}")), cut: true }
    }

    fn matches(&self, record: &AcceptRecord, event: &EventRecord) -> bool {
        let filter = self.filter;
        filter.source.as_ref().is_none_or(|source| *source == record.source)
            && filter.event_type.as_ref().is_none_or(|event_type| *event_type == event.event_type)
            && filter.id.as_ref().is_none_or(|id| *id == event.id)
            && within(record.received_at, filter.since, filter.until)
    }
}

/// Leaves out whole segments that begin after `until`.
fn skip_newer_than(core: &Core, start: Option<u64>, until: Millis) -> Result<Option<u64>, Error> {
    let Some(first) = newer_than(core, until)? else { return Ok(start) };
    let before = first.header.previous_batch;
    Ok((before >= core.segments.base()).then_some(before).filter(|_| before != u64::MAX))
}

/// Every delivery of an event that was accepted until then lies below this one; None: below none.
pub(super) fn below_until(core: &Core, until: Millis) -> Result<Option<DeliveryId>, Error> {
    let first = newer_than(core, until)?;
    let subscription = Name::new("0").expect("a digit is a name");
    let event = first.map(|segment| EventRef { position: segment.header.base, ordinal: 0 });
    Ok(event.map(|event| DeliveryId { event, subscription }))
}

/// The first of the segments at the end of the journal that begin after a time.
fn newer_than(core: &Core, time: Millis) -> Result<Option<Arc<Segment>>, Error> {
    let mut newer = None;
    for segment in core.segments.list().into_iter().rev() {
        let first = first_accepted(core, segment.header.base)?;
        if first.is_none_or(|first| first <= time.plus(ORDER_SLACK)) {
            break;
        }
        newer = Some(segment);
    }
    Ok(newer)
}

fn first_accepted(core: &Core, base: u64) -> Result<Option<Millis>, Error> {
    let mut position = base;
    // A segment begins with a mark, or with copies, but soon has an event.
    for _ in 0..8 {
        let Some((header, records)) = core.segments.batch(position)? else { return Ok(None) };
        if let Some(raw) = records.iter().find(|raw| raw.kind == Kind::Accept as u8)
            && let Record::Accept(record) = core.decode(raw)?
        {
            return Ok(Some(record.received_at));
        }
        position = header.end();
    }
    Ok(None)
}

pub(in crate::store) fn event_row(core: &Core, event: EventRef) -> Result<Option<EventRow>, Error> {
    let Some(found) = core.named(event.position)? else { return Ok(None) };
    let Record::Accept(record) = found.record else { return Ok(None) };
    let Some(of_event) = record.events.get(usize::from(event.ordinal)) else { return Ok(None) };
    let answer = match found.answer_us {
        Some(copied) => copied,
        None => match core.segments.batch_header(found.batch)? {
            Some(header) => answer_us(core, &header, &record)?,
            None => None,
        },
    };
    event_row_of(core, event, &record, of_event, answer)
}

/// None: its record is still there, and it is being dropped; it would be shown as an event that reached nobody.
fn event_row_of(
    core: &Core,
    event: EventRef,
    record: &AcceptRecord,
    of_event: &EventRecord,
    answer_us: Option<u64>,
) -> Result<Option<EventRow>, Error> {
    let seen = core.get(&keys::redeliveries(event))?.map(|value| Redeliveries::decode(&value)).transpose()?;
    let seen = seen.unwrap_or_default();
    let mut deliveries = Vec::with_capacity(of_event.deliveries.len());
    for (id, row) in super::deliveries::of_event(core, event, of_event)? {
        let (subscription, handler) = (id.subscription, row.handler);
        deliveries.push(DeliverySummary { subscription, handler, status: row.status });
    }
    if deliveries.len() < of_event.deliveries.len() && !core.is_kept(event.position)? {
        return Ok(None);
    }
    Ok(Some(EventRow {
        event,
        id: of_event.id.clone(),
        event_type: of_event.event_type.clone(),
        source: record.source.clone(),
        received_at: record.received_at,
        signed_at: record.signed_at,
        answered: 200,
        answer_us,
        redeliveries: seen.count,
        body_differed: seen.body_differed,
        secret: record.secret,
        body_bytes: record.body_of(of_event).len() as u64,
        test: of_event.test,
        deliveries,
    }))
}

/// How long the sender waited for the disk: the batch behind says when this one was durable.
pub(in crate::store) fn answer_us(
    core: &Core,
    header: &BatchHeader,
    record: &AcceptRecord,
) -> Result<Option<u64>, Error> {
    let end = header.end();
    if core.options.durability == Durability::ProcessCrash {
        return Ok(Some(header.written_at.saturating_sub(record.queued_us)));
    }
    let durable_at = match core.segments.batch_header(end)? {
        Some(next) if next.durable >= end => next.durable_at,
        Some(_) => 0,
        None => core.health.durable_at.load(Ordering::Relaxed),
    };
    Ok((durable_at != 0).then(|| durable_at.saturating_sub(record.queued_us)))
}
