//! Shelf: a handler's key-value state. Values live in the journal; the index knows where, and under which version.
//!
//! A transaction is judged by the writer, one after the other: what it read must still be so. Additions read
//! nothing, so they always apply.

use bytes::Bytes;

use super::codec::{In, Out, Record, SettleRecord, ShelfChange, ShelfRecord, Unreadable};
use super::core::Core;
use super::index::Blob;
use super::index::prefixed;
use super::journal::Segments;
use super::stage::{Stage, add_live};
use super::{Error, keys};
use crate::words::event::Name;
use crate::words::limits::{SHELF_INLINE_BYTES_MAX, SHELF_SCAN_MAX};
use crate::words::shelf::{ShelfRead, ShelfTxn, ShelfWrite};
use crate::words::time::Millis;

/// What the index knows of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Position of the record that wrote it first; stays when it is copied forward.
    pub version: u64,
    /// Where it lies now.
    pub position: u64,
    pub expires: Option<Millis>,
    pub bytes: u32,
    /// The value itself, where it is small.
    pub inline: Option<Bytes>,
}

impl Entry {
    pub(super) fn is_live(&self, now: Millis) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    fn of(version: u64, position: u64, value: &Bytes, expires: Option<Millis>) -> Entry {
        let inline = (value.len() <= SHELF_INLINE_BYTES_MAX).then(|| value.clone());
        let bytes = u32::try_from(value.len()).expect("SHELF_VALUE_BYTES_MAX is below 4 GiB");
        Entry { version, position, expires, bytes, inline }
    }

    fn encode(&self) -> Blob {
        let mut out = Out(Vec::with_capacity(96));
        out.u64(self.version);
        out.u64(self.position);
        out.option(self.expires, Out::millis);
        out.u32(self.bytes);
        out.option(self.inline.as_deref(), Out::bytes);
        Blob::from(out.0)
    }

    pub(super) fn decode(value: &[u8]) -> Result<Entry, Error> {
        let bytes = Bytes::copy_from_slice(value);
        let mut bytes = In::new(&bytes);
        let mut read = || -> Result<Entry, Unreadable> {
            Ok(Entry {
                version: bytes.u64()?,
                position: bytes.u64()?,
                expires: bytes.option(In::millis)?,
                bytes: bytes.u32()?,
                inline: bytes.option(In::bytes)?,
            })
        };
        read().map_err(|error| Error::Index(error.to_string()))
    }

    /// Reads the value, from the index or from the journal.
    pub(super) fn value(&self, segments: &Segments, key: &str) -> Result<Bytes, Error> {
        if let Some(value) = &self.inline {
            return Ok(value.clone());
        }
        let lost = || Error::Index(format!("the value of the shelf key `{key}` is not where it should be"));
        let raw = segments.record(self.position)?.ok_or_else(lost)?;
        match Record::decode(raw.kind, &raw.payload).map_err(|error| Error::Index(error.to_string()))? {
            Record::Shelf(record) => Ok(record.value),
            Record::Settle(record) => {
                let write = record.writes.into_iter().find(|(written, _)| written == key);
                match write {
                    Some((_, ShelfChange::Set { value, .. })) => Ok(value),
                    _ => Err(lost()),
                }
            }
            _ => Err(lost()),
        }
    }
}

// === reading ===

pub(super) fn read(core: &Core, handler: &Name, key: &str, now: Millis) -> Result<ShelfRead, Error> {
    let now = core.clock.expiry(now);
    // A value that is copied forward while it is read is found the second time.
    for last in [false, true] {
        let entry = core.get(&keys::shelf(handler, key))?;
        let entry = entry.map(|value| Entry::decode(&value)).transpose()?;
        let Some(entry) = entry.filter(|entry| entry.is_live(now)) else { break };
        match entry.value(&core.segments, key) {
            Ok(value) => return Ok(ShelfRead { value: Some(value), version: entry.version }),
            Err(error) if last => return Err(error),
            Err(_) => {}
        }
    }
    Ok(ShelfRead::default())
}

/// Up to so many keys that are live then.
pub(super) fn listing(
    core: &Core,
    handler: &Name,
    prefix: &str,
    after: Option<&str>,
    (limit, now): (u32, Millis),
) -> Result<Vec<String>, Error> {
    let now = core.clock.expiry(now);
    list(core.scan(listing_range(handler, prefix, after), false), limit, now)
}

// === judging ===

/// Whether everything that a transaction read is still so.
pub(super) fn holds(stage: &Stage, handler: &Name, txn: &ShelfTxn, now: Millis) -> Result<bool, Error> {
    for (key, version) in &txn.reads {
        let entry = entry(stage, handler, key)?.filter(|entry| entry.is_live(now));
        if entry.map_or(0, |entry| entry.version) != *version {
            return Ok(false);
        }
    }
    for listing in &txn.lists {
        let entries = stage.scan(listing_range(handler, &listing.prefix, listing.after.as_deref()));
        match list(entries, listing.limit, now) {
            Ok(keys) if keys == listing.keys => {}
            // Too much has expired between its keys since: it cannot be compared, so it does not hold.
            Ok(_) | Err(Error::ShelfScan(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn entry(stage: &Stage, handler: &Name, key: &str) -> Result<Option<Entry>, Error> {
    stage.get(&keys::shelf(handler, key))?.map(|value| Entry::decode(&value)).transpose()
}

/// Keys of a handler that begin with `prefix`, behind `after`.
pub(super) fn listing_range(handler: &Name, prefix: &str, after: Option<&str>) -> super::index::Range {
    let (from, to) = prefixed(&keys::shelf(handler, prefix));
    match after {
        Some(after) if after >= prefix => (std::ops::Bound::Excluded(keys::shelf(handler, after)), to),
        _ => (from, to),
    }
}

pub(super) fn list(
    entries: impl Iterator<Item = Result<(Blob, Blob), Error>>,
    limit: u32,
    now: Millis,
) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for (looked_at, entry) in entries.enumerate() {
        if looked_at >= SHELF_SCAN_MAX {
            return Err(Error::ShelfScan(SHELF_SCAN_MAX));
        }
        if found.len() >= limit as usize {
            break;
        }
        let (key, value) = entry?;
        if Entry::decode(&value)?.is_live(now) {
            found.push(keys::shelf_in(&key)?.1);
        }
    }
    Ok(found)
}

/// A transaction's writes as they are written down: with the times at which they end, and sums for additions.
/// What does not hold a decimal number counts as 0; a sum stops at the ends of 64 bits. Without a ttl of its own,
/// an addition leaves the counter's end where it is.
pub(super) fn changes(
    stage: &Stage,
    handler: &Name,
    txn: &ShelfTxn,
    now: Millis,
) -> Result<Vec<(String, ShelfChange)>, Error> {
    let mut changes = Vec::with_capacity(txn.writes.len());
    for (key, write) in &txn.writes {
        let change = match write {
            ShelfWrite::Set { value, ttl } => {
                ShelfChange::Set { value: value.clone(), expires: ttl.map(|ttl| now.plus(ttl)) }
            }
            ShelfWrite::Delete => ShelfChange::Delete,
            ShelfWrite::Add { delta, ttl } => {
                let old = entry(stage, handler, key)?.filter(|old| old.is_live(now));
                let expires = ttl.map(|ttl| now.plus(ttl));
                let expires = expires.or_else(|| old.as_ref().and_then(|old| old.expires));
                ShelfChange::Sum { sum: number_of(old.as_ref()).saturating_add(*delta), expires }
            }
        };
        changes.push((key.clone(), change));
    }
    Ok(changes)
}

/// What a transaction's writes weigh in a record, about.
pub(super) fn bytes_of(txn: &ShelfTxn) -> usize {
    let weigh = |(key, write): (&String, &ShelfWrite)| match write {
        ShelfWrite::Set { value, .. } => key.len() + value.len(),
        ShelfWrite::Delete | ShelfWrite::Add { .. } => key.len(),
    };
    txn.writes.iter().map(weigh).sum()
}

fn number_of(entry: Option<&Entry>) -> i64 {
    let text =
        entry.and_then(|entry| entry.inline.as_deref()).and_then(|value| std::str::from_utf8(value).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// One that is over at once.
#[cfg(test)]
pub(super) fn expired_entry() -> Blob {
    Entry::of(1, 1, &Bytes::new(), Some(Millis(0))).encode()
}

// === applying ===

pub(super) fn settled(stage: &mut Stage, position: u64, record: &SettleRecord) -> Result<(), Error> {
    for (key, change) in &record.writes {
        let old = entry(stage, &record.handler, key)?;
        // A later write stands where an earlier record is read again.
        if old.as_ref().is_some_and(|old| old.version >= position) {
            continue;
        }
        let new = match change {
            ShelfChange::Set { value, expires } => Some(Entry::of(position, position, value, *expires)),
            ShelfChange::Delete => None,
            ShelfChange::Sum { sum, expires } => {
                Some(Entry::of(position, position, &Bytes::from(sum.to_string()), *expires))
            }
        };
        set_entry(stage, &record.handler, key, old.as_ref(), new.as_ref())?;
    }
    Ok(())
}

pub(super) fn copied(stage: &mut Stage, position: u64, record: &ShelfRecord) -> Result<(), Error> {
    let old = entry(stage, &record.handler, &record.key)?;
    if old.as_ref().is_some_and(|old| old.version > record.version) {
        return Ok(());
    }
    let new = Entry::of(record.version, position, &record.value, record.expires);
    set_entry(stage, &record.handler, &record.key, old.as_ref(), Some(&new))
}

pub(super) fn set_entry(
    stage: &mut Stage,
    handler: &Name,
    key: &str,
    old: Option<&Entry>,
    new: Option<&Entry>,
) -> Result<(), Error> {
    let size = |entry: Option<&Entry>| entry.map_or(0, |entry| key.len() as u64 + u64::from(entry.bytes));
    let index_key = keys::shelf(handler, key);
    match new {
        Some(entry) => stage.put(index_key, entry.encode()),
        None if old.is_some() => stage.delete(&index_key),
        None => {}
    }
    let (more, less) = (size(new), size(old));
    if more != less {
        let total = keys::shelf_size(handler);
        let bytes = stage.get_hot(&total)?.map(|value| keys::number_in(&value, 0)).transpose()?.unwrap_or(0);
        let bytes = bytes.saturating_add(more).saturating_sub(less);
        stage.put_hot(total, Blob::from(&bytes.to_be_bytes()));
    }
    add_live(stage, more, less)
}
