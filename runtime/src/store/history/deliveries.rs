//! Deliveries as people ask for them: those under way from their keys in the index, those that ended from its past,
//! in one order.

use std::ops::Bound;

use super::events::below_until;
use super::{ORDER_SLACK, bad_cursor, delivery_row_of, page_size, within};
use crate::store::codec::{EventRecord, Record};
use crate::store::core::Core;
use crate::store::index::{Ended, Walk, prefixed};
use crate::store::rows::Row;
use crate::store::view::Scan;
use crate::store::{DeliveryFilter, DeliveryRow, Error, Page, Status, keys};
use crate::words::event::{DeliveryId, EventRef, Name};
use crate::words::limits::{HISTORY_MESSAGES_MAX, HISTORY_SCAN_MAX};

pub(in crate::store) fn deliveries(core: &Core, filter: &DeliveryFilter) -> Result<Page<DeliveryRow>, Error> {
    let limit = page_size(filter.limit);
    let below = match (&filter.cursor, filter.until) {
        (Some(cursor), _) => Some(cursor.parse::<DeliveryId>().map_err(|_| bad_cursor(cursor))?),
        (None, Some(until)) => below_until(core, until)?,
        (None, None) => None,
    };
    let mut page = Page { rows: Vec::new(), next: None, cut: false };
    let mut candidates = Candidates::new(core, filter, below.as_ref())?;
    // The next page goes on behind the last one that this page has looked at.
    let mut last = below;
    let (mut looked_at, mut messages) = (0, 0);
    while let Some((id, row)) = candidates.next()? {
        let is_cut = looked_at >= HISTORY_SCAN_MAX || messages >= HISTORY_MESSAGES_MAX;
        if page.rows.len() >= limit || is_cut {
            page.cut = page.rows.len() < limit;
            page.next = last.map(|id| id.to_string());
            break;
        }
        if filter.since.is_some_and(|since| row.accepted_at.plus(ORDER_SLACK) < since) {
            break;
        }
        looked_at += 1;
        if row.is(filter) && within(row.accepted_at, filter.since, filter.until) {
            messages += usize::from(filter.error.is_some());
            let row = delivery_row_of(core, &id, &row)?;
            let said = |text: &String| row.message.as_ref().is_some_and(|message| message.contains(text));
            if filter.error.as_ref().is_none_or(said) {
                page.rows.push(row);
            }
        }
        last = Some(id);
    }
    Ok(page)
}

/// The deliveries of one event, in the order of its record.
pub(super) fn of_event(core: &Core, event: EventRef, record: &EventRecord) -> Result<Vec<Ended>, Error> {
    let mut rows = Vec::with_capacity(record.deliveries.len());
    for delivery in &record.deliveries {
        let id = DeliveryId { event, subscription: delivery.subscription.clone() };
        rows.extend(core.row(&id)?.map(|row| (id, row)));
    }
    Ok(rows)
}

/// Deliveries that may match, newest first.
struct Candidates<'a> {
    core: &'a Core,
    /// Of one event: all that there are, the newest last.
    of_event: Vec<Ended>,
    /// Those under way: a scan, and how many bytes come before the delivery in its keys.
    live: Vec<(usize, std::iter::Peekable<Scan<'a>>)>,
    ended: Option<Walk<'a>>,
    next_ended: Option<Ended>,
    /// What came last of the past, where a row may lie twice.
    last: Option<DeliveryId>,
}

impl<'a> Candidates<'a> {
    fn new(
        core: &'a Core,
        filter: &'a DeliveryFilter,
        below: Option<&DeliveryId>,
    ) -> Result<Candidates<'a>, Error> {
        let mut candidates = Candidates {
            core,
            of_event: Vec::new(),
            live: Vec::new(),
            ended: None,
            next_ended: None,
            last: None,
        };
        if let Some(event) = filter.event {
            candidates.of_event = rows_of(core, event)?;
            candidates.of_event.retain(|(id, _)| below.is_none_or(|below| id < below));
            candidates.of_event.sort_by(|(a, _), (b, _)| a.cmp(b));
            return Ok(candidates);
        }
        let (live, ended) = (filter.status.is_none_or(|status| !status.is_ended()), filter.status);
        if live {
            let prefixes = live_prefixes(core, filter)?;
            let scans = prefixes.into_iter().map(|prefix| scan_below(core, &prefix, below));
            candidates.live = scans.collect();
        }
        if ended.is_none_or(Status::is_ended) {
            candidates.ended = Some(core.index.walk_ended(filter, below));
            candidates.advance_ended()?;
        }
        Ok(candidates)
    }

    fn next(&mut self) -> Result<Option<(DeliveryId, Row)>, Error> {
        if let Some(found) = self.of_event.pop() {
            return Ok(Some(found));
        }
        loop {
            let live = self.newest_live()?;
            let ended = self.next_ended.as_ref().map(|(id, _)| id);
            match (live, ended) {
                (Some((at, id)), ended) if ended.is_none_or(|ended| id >= *ended) => {
                    self.live[at].1.next().transpose()?;
                    // It may have ended, or may have been dropped, since the key was read.
                    if let Some(row) = self.core.row(&id)?.filter(Row::is_live) {
                        return Ok(Some((id, row)));
                    }
                }
                (_, Some(_)) => {
                    let found = self.next_ended.take();
                    self.advance_ended()?;
                    if let Some((id, row)) = found
                        && self.last.as_ref() != Some(&id)
                        && self.is_current(&id, &row)?
                    {
                        self.last = Some(id.clone());
                        return Ok(Some((id, row)));
                    }
                }
                (_, None) => return Ok(None),
            }
        }
    }

    fn advance_ended(&mut self) -> Result<(), Error> {
        self.next_ended = match &mut self.ended {
            Some(walk) => walk.next()?,
            None => None,
        };
        Ok(())
    }

    /// The past may know of an end that was not the last word, or of a delivery that is dropped.
    fn is_current(&self, id: &DeliveryId, row: &Row) -> Result<bool, Error> {
        if !self.core.is_kept(id.event.position)? {
            return Ok(false);
        }
        match self.core.get(&keys::reopened(id))? {
            None => Ok(true),
            Some(_) => Ok(self.core.row(id)?.is_some_and(|known| known.changed_at == row.changed_at)),
        }
    }

    /// Which scan has it, and the delivery.
    fn newest_live(&mut self) -> Result<Option<(usize, DeliveryId)>, Error> {
        let mut newest: Option<(usize, DeliveryId)> = None;
        for (at, (skip, scan)) in self.live.iter_mut().enumerate() {
            let id = match scan.peek() {
                None => continue,
                Some(Ok((key, _))) => keys::delivery_in(key, *skip)?,
                Some(Err(error)) => return Err(Error::Index(error.to_string())),
            };
            if newest.as_ref().is_none_or(|(_, other)| id > *other) {
                newest = Some((at, id));
            }
        }
        Ok(newest)
    }
}

fn rows_of(core: &Core, event: EventRef) -> Result<Vec<Ended>, Error> {
    let found = core.named(event.position)?.map(|found| found.record);
    let Some(Record::Accept(record)) = found else { return Ok(Vec::new()) };
    match record.events.get(usize::from(event.ordinal)) {
        Some(of_event_) => of_event(core, event, of_event_),
        None => Ok(Vec::new()),
    }
}

/// By status where it is named, by handler where that is, else all.
fn live_prefixes(core: &Core, filter: &DeliveryFilter) -> Result<Vec<Vec<u8>>, Error> {
    if filter.status.is_none() && filter.handler.is_none() {
        return Ok(vec![keys::deliveries()]);
    }
    let handlers: Vec<Name> = match &filter.handler {
        Some(handler) => vec![handler.clone()],
        None => crate::store::deliveries::handlers(core)?,
    };
    let statuses = match filter.status {
        Some(status) => vec![status],
        None => vec![Status::Open, Status::Held, Status::Parked],
    };
    let of_status = |status| handlers.iter().map(move |handler| keys::status_of(status, handler));
    Ok(statuses.into_iter().flat_map(of_status).collect())
}

fn scan_below<'a>(
    core: &'a Core,
    prefix: &[u8],
    below: Option<&DeliveryId>,
) -> (usize, std::iter::Peekable<Scan<'a>>) {
    let (from, mut to) = prefixed(prefix);
    if let Some(below) = below {
        let end = [prefix, &keys::delivery(below)[1..]].concat();
        if matches!(&to, Bound::Excluded(to) if end < *to) {
            to = Bound::Excluded(end);
        }
    }
    (prefix.len(), core.scan((from, to), true).peekable())
}
