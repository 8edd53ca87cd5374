//! Lanes: whether a handler's lane is stopped, by its breaker or by the operator, and what became of that before.
//!
//! Each change is a record. Two keys name what stands of a handler: its pause, and its breaker where that is not
//! closed. Only what stands is copied when its segment goes; the rest is history, and goes with it.

use std::ops::Bound;

use super::codec::{LaneRecord, Record};
use super::core::Core;
use super::index::{Blob, prefixed};
use super::stage::Stage;
use super::writer::Batch;
use super::{Error, LaneEntry, Page, Standing, keys};
use crate::words::event::Name;
use crate::words::lane::LaneChange;
use crate::words::limits::{HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX};
use crate::words::time::Millis;

/// What a change is about, as the index has it.
const PAUSE: u8 = b'p';
const BREAKER: u8 = b'b';

/// Its sort, and whether it stands from then on.
fn sort(change: &LaneChange) -> (u8, bool) {
    match change {
        LaneChange::Paused { .. } => (PAUSE, true),
        LaneChange::Resumed { .. } => (PAUSE, false),
        LaneChange::Opened { .. } | LaneChange::Returning { .. } => (BREAKER, true),
        LaneChange::Closed { .. } => (BREAKER, false),
    }
}

// === writing ===

pub(super) async fn change(core: &Core, handler: Name, change: LaneChange, now: Millis) -> Result<(), Error> {
    let record = Record::Lane(LaneRecord { handler, at: now, clock: core.clock.expiry(now), change });
    core.change(move |batch| batch.append(&record, 0).map(drop)).await
}

pub(super) fn changed(stage: &mut Stage, position: u64, record: &LaneRecord) {
    stage.put(keys::lane_change(&record.handler, position), Blob::default());
    let (sort, stands) = sort(&record.change);
    let key = keys::lane_stands(&record.handler, sort);
    match stands {
        true => stage.put(key, Blob::from(&position.to_be_bytes())),
        false => stage.delete(&key),
    }
}

/// Of a record whose segment is about to be dropped.
pub(super) fn keep_what_stands(batch: &mut Batch, at: u64, record: &LaneRecord) -> Result<(), Error> {
    let key = keys::lane_stands(&record.handler, sort(&record.change).0);
    let stands = batch.stage.get(&key)?.map(|value| keys::number_in(&value, 0)).transpose()?;
    batch.stage.delete(&keys::lane_change(&record.handler, at));
    if stands == Some(at) {
        batch.append(&Record::Lane(record.clone()), 0)?;
    }
    Ok(())
}

// === reading ===

pub(super) fn standing(core: &Core, handler: &Name) -> Result<Standing, Error> {
    Ok(Standing { paused: stands(core, handler, PAUSE)?, breaker: stands(core, handler, BREAKER)? })
}

fn stands(core: &Core, handler: &Name, sort: u8) -> Result<Option<LaneEntry>, Error> {
    // A record that is copied while it is looked for is found the second time.
    for _ in 0..3 {
        let Some(position) = core.get(&keys::lane_stands(handler, sort))? else { return Ok(None) };
        if let Some(entry) = entry(core, keys::number_in(&position, 0)?)? {
            return Ok(Some(entry));
        }
    }
    Err(Error::Index(format!("what stands of the lane of `{handler}` is not in the journal")))
}

pub(super) fn history(
    core: &Core,
    handler: &Name,
    cursor: Option<&str>,
    limit: usize,
) -> Result<Page<LaneEntry>, Error> {
    let prefix = keys::lane_changes(handler);
    let (from, mut until) = prefixed(&prefix);
    if let Some(cursor) = cursor {
        let below = u64::from_str_radix(cursor, 16);
        let below = below.map_err(|_| Error::BadCursor(cursor.chars().take(120).collect()))?;
        until = Bound::Excluded(keys::lane_change(handler, below));
    }
    let most = if limit == 0 { HISTORY_PAGE_DEFAULT } else { limit.min(HISTORY_PAGE_MAX) };
    let mut rows = Vec::new();
    for found in core.scan((from, until), true) {
        let position = keys::number_in(&found?.0, prefix.len())?;
        // What retention has looked at is copied to another position, or gone.
        if !core.is_kept(position)? {
            break;
        }
        if rows.len() == most {
            let next = rows.last().map(|(last, _): &(u64, LaneEntry)| format!("{last:x}"));
            return Ok(Page { rows: rows.into_iter().map(|(_, entry)| entry).collect(), next, cut: false });
        }
        rows.extend(entry(core, position)?.map(|entry| (position, entry)));
    }
    Ok(Page { rows: rows.into_iter().map(|(_, entry)| entry).collect(), next: None, cut: false })
}

/// None: it was dropped.
fn entry(core: &Core, position: u64) -> Result<Option<LaneEntry>, Error> {
    match core.record(position)?.map(|found| found.record) {
        Some(Record::Lane(LaneRecord { at, clock, change, .. })) => Ok(Some(LaneEntry { at, clock, change })),
        Some(_) => Err(Error::Index(format!("the record at {position:x} is no change of a lane"))),
        None => Ok(None),
    }
}
