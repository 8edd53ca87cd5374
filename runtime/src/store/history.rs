//! History: events and deliveries as people ask for them, newest first.
//!
//! Events have no key of their own in the index: they are read backwards from the journal. Deliveries are read
//! from their rows; what a row is too small for (ids, messages, attempts) comes from the journal.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::codec::{AcceptRecord, EventRecord, Kind, Record, SettleRecord};
use super::core::Core;
use super::index::prefixed;
use super::journal::{BatchHeader, RawRecord};
use super::rows::Row;
use super::stage::Redeliveries;
use super::view::Scan;
use super::{
    DeliveryFilter, DeliveryHistory, DeliveryRow, DeliverySummary, Durability, Error, EventFilter, EventRow,
    Interrupted, Page, RulingRow, Status, claims, keys,
};
use crate::words::attempt::{Outcome, Verdict};
use crate::words::event::{DeliveryId, EventRef, Name};
use crate::words::limits::{
    DELIVERY_RECORDS_MAX, HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX, HISTORY_SCAN_BYTES_MAX, HISTORY_SCAN_MAX,
};
use crate::words::time::Millis;

/// Events lie in the order in which they were written, which is nearly that of their times; a clock that is set
/// back by less than this hides nothing.
const ORDER_SLACK: Duration = Duration::from_secs(3600);

fn page_size(limit: usize) -> usize {
    if limit == 0 { HISTORY_PAGE_DEFAULT } else { limit.min(HISTORY_PAGE_MAX) }
}

fn bad_cursor(text: &str) -> Error {
    Error::BadCursor(text.chars().take(120).collect())
}

// === events ===

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

pub(super) fn events(core: &Core, filter: &EventFilter) -> Result<Page<EventRow>, Error> {
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
        start = walk.skip_newer_than(start, until)?;
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
                self.rows.push(event_row_of(self.core, event_ref, record, event, answer_us()?)?);
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

    /// Leaves out whole segments that begin after `until`.
    fn skip_newer_than(&self, start: Option<u64>, until: Millis) -> Result<Option<u64>, Error> {
        let mut start = start;
        for segment in self.core.segments.list().iter().rev() {
            let first = self.first_accepted(segment.header.base)?;
            if first.is_none_or(|first| first <= until.plus(ORDER_SLACK)) {
                break;
            }
            let before = segment.header.previous_batch;
            start = (before >= self.core.segments.base()).then_some(before).filter(|_| before != u64::MAX);
        }
        Ok(start)
    }

    fn first_accepted(&self, base: u64) -> Result<Option<Millis>, Error> {
        let mut position = base;
        // A segment begins with a mark, or with copies, but soon has an event.
        for _ in 0..8 {
            let Some((header, records)) = self.core.segments.batch(position)? else { return Ok(None) };
            if let Some(raw) = records.iter().find(|raw| raw.kind == Kind::Accept as u8)
                && let Record::Accept(record) = self.core.decode(raw)?
            {
                return Ok(Some(record.received_at));
            }
            position = header.end();
        }
        Ok(None)
    }
}

fn within(at: Millis, since: Option<Millis>, until: Option<Millis>) -> bool {
    since.is_none_or(|since| at >= since) && until.is_none_or(|until| at <= until)
}

pub(super) fn event_row(core: &Core, event: EventRef) -> Result<Option<EventRow>, Error> {
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
    event_row_of(core, event, &record, of_event, answer).map(Some)
}

fn event_row_of(
    core: &Core,
    event: EventRef,
    record: &AcceptRecord,
    of_event: &EventRecord,
    answer_us: Option<u64>,
) -> Result<EventRow, Error> {
    let seen = core.get(&keys::redeliveries(event))?.map(|value| Redeliveries::decode(&value)).transpose()?;
    let seen = seen.unwrap_or_default();
    let deliveries = core
        .scan(prefixed(&keys::deliveries_of(event)), false)
        .map(|entry| {
            let (key, value) = entry?;
            let row = Row::decode(&value)?;
            let subscription = keys::delivery_in(&key, 1)?.subscription;
            Ok(DeliverySummary { subscription, handler: row.handler, status: row.status })
        })
        .collect::<Result<_, Error>>()?;
    Ok(EventRow {
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
    })
}

/// How long the sender waited for the disk: the batch behind says when this one was durable.
pub(super) fn answer_us(
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

// === deliveries ===

pub(super) fn deliveries(core: &Core, filter: &DeliveryFilter) -> Result<Page<DeliveryRow>, Error> {
    let limit = page_size(filter.limit);
    let below = match &filter.cursor {
        Some(cursor) => Some(cursor.parse::<DeliveryId>().map_err(|_| bad_cursor(cursor))?),
        None => None,
    };
    let mut rows = Vec::new();
    let mut candidates = Candidates::new(core, filter, below.as_ref())?;
    for looked_at in 0.. {
        let Some((id, row)) = candidates.next().transpose()? else { break };
        if rows.len() >= limit || looked_at >= HISTORY_SCAN_MAX {
            let cut = rows.len() < limit;
            let next = candidates.before.map(|id: DeliveryId| id.to_string());
            return Ok(Page { rows, next, cut });
        }
        let Some(row) = row.map_or_else(|| core.row(&id), |row| Ok(Some(row)))? else { continue };
        if filter.since.is_some_and(|since| row.accepted_at.plus(ORDER_SLACK) < since) {
            break;
        }
        if matches(filter, &row) {
            let row = delivery_row_of(core, &id, &row)?;
            let said = |text: &String| row.message.as_ref().is_some_and(|message| message.contains(text));
            if filter.error.as_ref().is_none_or(said) {
                rows.push(row);
            }
        }
    }
    Ok(Page { rows, next: None, cut: false })
}

fn matches(filter: &DeliveryFilter, row: &Row) -> bool {
    filter.source.as_ref().is_none_or(|source| *source == row.source)
        && filter.event_type.as_ref().is_none_or(|event_type| *event_type == row.event_type)
        && filter.handler.as_ref().is_none_or(|handler| *handler == row.handler)
        && filter.status.is_none_or(|status| status == row.status)
        && filter.error_kind.is_none_or(|kind| row.error_kind == Some(kind))
        && within(row.accepted_at, filter.since, filter.until)
}

/// Deliveries that may match, newest first: of the event, of the status (a scan for each handler), or all.
struct Candidates<'a> {
    scans: Vec<(usize, std::iter::Peekable<Scan<'a>>)>,
    /// The one returned before the last: where the next page goes on, if the last is not on this one.
    before: Option<DeliveryId>,
    last: Option<DeliveryId>,
}

impl<'a> Candidates<'a> {
    fn new(
        core: &'a Core,
        filter: &DeliveryFilter,
        below: Option<&DeliveryId>,
    ) -> Result<Candidates<'a>, Error> {
        let prefixes = match (filter.event, filter.status) {
            (Some(event), _) => vec![(keys::deliveries_of(event), 1)],
            (None, Some(status)) if keys::has_status_key(status) => {
                let handlers = match &filter.handler {
                    Some(handler) => vec![handler.clone()],
                    None => super::deliveries::handlers(core)?,
                };
                handlers
                    .iter()
                    .map(|handler| keys::status_of(status, handler))
                    .map(|prefix| {
                        let len = prefix.len();
                        (prefix, len)
                    })
                    .collect()
            }
            _ => vec![(keys::deliveries(), 1)],
        };
        let scans = prefixes.into_iter().map(|(prefix, skip)| {
            let (from, mut to) = prefixed(&prefix);
            if let Some(below) = below {
                let id = keys::delivery(below);
                let end = [&prefix[..skip], &id[1..]].concat();
                if matches!(&to, Bound::Excluded(to) if end < *to) {
                    to = Bound::Excluded(end);
                }
            }
            (skip, core.scan((from, to), true).peekable())
        });
        Ok(Candidates { scans: scans.collect(), before: below.cloned(), last: below.cloned() })
    }

    /// With its row, where that was what was scanned.
    fn next(&mut self) -> Option<Result<(DeliveryId, Option<Row>), Error>> {
        let mut newest: Option<(DeliveryId, usize)> = None;
        for (at, (skip, scan)) in self.scans.iter_mut().enumerate() {
            let id = match scan.peek() {
                None => continue,
                Some(Ok((key, _))) => keys::delivery_in(key, *skip),
                Some(Err(error)) => Err(Error::Index(error.to_string())),
            };
            match id {
                Ok(id) if newest.as_ref().is_none_or(|(other, _)| id > *other) => newest = Some((id, at)),
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        let (id, at) = newest?;
        let value = self.scans[at].1.next()?;
        self.before = self.last.replace(id.clone());
        Some(value.and_then(|(_, value)| {
            // A key by status says nothing more.
            let row = if value.is_empty() { None } else { Some(Row::decode(&value)?) };
            Ok((id, row))
        }))
    }
}

fn delivery_row_of(core: &Core, id: &DeliveryId, row: &Row) -> Result<DeliveryRow, Error> {
    let event_id = match core.record(id.event.position)?.map(|found| found.record) {
        Some(Record::Accept(record)) => {
            record.events.get(usize::from(id.event.ordinal)).map(|event| event.id.clone()).unwrap_or_default()
        }
        _ => String::new(),
    };
    Ok(DeliveryRow {
        delivery: id.clone(),
        event_id,
        event_type: row.event_type.clone(),
        source: row.source.clone(),
        handler: row.handler.clone(),
        status: row.status,
        accepted_at: row.accepted_at,
        attempts: row.attempts,
        next_at: (row.status == Status::Open).then_some(row.due),
        ended_at: row.ended_at,
        last_status: row.last_status,
        last_took_ms: row.last_took_ms,
        error_kind: row.error_kind,
        message: message_of(core, row)?,
        test: row.test,
    })
}

/// The last thing that was said about a delivery.
fn message_of(core: &Core, row: &Row) -> Result<Option<String>, Error> {
    let mut position = row.head;
    // Begun and rulings say nothing; between two that do lie only a few of them.
    for _ in 0..16 {
        let Some(found) = chained(core, position)? else { return Ok(None) };
        match found.record {
            // A later attempt ended it: what a slow one said afterwards is not why.
            Record::Settle(settle) if row.status.is_ended() && settle.attempt.number < row.attempts => {
                position = found.link;
            }
            Record::Settle(settle) => return Ok(said_by(*settle)),
            // It is open again: what was said before is what there is to know.
            Record::Hold(hold) if hold.status != Status::Open => return Ok(Some(hold.reason)),
            _ => position = found.link,
        }
    }
    Ok(None)
}

fn said_by(settle: SettleRecord) -> Option<String> {
    match (settle.verdict, settle.attempt.outcome) {
        (Verdict::Dead { reason } | Verdict::Parked { reason }, _) => Some(reason),
        (_, Outcome::Failed { reason, .. }) => Some(reason),
        (_, Outcome::Done { note } | Outcome::Skipped { note }) => note,
    }
}

fn chained(core: &Core, position: u64) -> Result<Option<super::core::Found>, Error> {
    if position == 0 { Ok(None) } else { core.record(position) }
}

// === one delivery ===

pub(super) fn delivery(core: &Core, id: &DeliveryId) -> Result<Option<DeliveryHistory>, Error> {
    let Some(row) = core.row(id)? else { return Ok(None) };
    let mut history = DeliveryHistory {
        row: delivery_row_of(core, id, &row)?,
        attempts: Vec::new(),
        interrupted: Vec::new(),
        rulings: Vec::new(),
    };
    let mut ended = BTreeSet::new();
    let mut position = row.head;
    for _ in 0..DELIVERY_RECORDS_MAX {
        let Some(found) = chained(core, position)? else { break };
        match found.record {
            Record::Settle(settle) => {
                ended.insert(settle.attempt.number);
                history.attempts.push(settle.attempt);
            }
            // What began since the start and has no end is under way.
            Record::Begun(begun) if position < core.opened_at && !ended.contains(&begun.number) => {
                history.interrupted.push(Interrupted {
                    number: begun.number,
                    began_at: begun.at,
                    plugin: begun.plugin,
                });
            }
            Record::Ruling(ruling) => {
                history.rulings.push(RulingRow { at: ruling.at, ruling: ruling.ruling })
            }
            _ => {}
        }
        position = found.link;
    }
    history.attempts.reverse();
    history.interrupted.reverse();
    history.rulings.reverse();
    Ok(Some(history))
}
