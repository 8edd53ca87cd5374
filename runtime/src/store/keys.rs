//! Keys: how the index is laid out. One tree; the first byte of a key says what it is.
//!
//! Numbers are big-endian, so that byte order is number order. Names go before what varies faster, with their
//! length in front, so that no name is the beginning of another's range.

use super::codec::status_byte;
use super::{Error, Status};
use crate::words::event::{DeliveryId, EventRef, Name};
use crate::words::time::Millis;

/// The row of a delivery that has not ended. `d` position ordinal subscription
const DELIVERY: u8 = b'd';
/// When an open delivery is due. `t` handler due delivery
const DUE: u8 = b't';
/// The same by its status. `s` status handler delivery
const STATUS: u8 = b's';
/// A run of idempotency keys: how many, when the last is forgotten, the latest event. `K` run
const SEEN_RUN: u8 = b'K';
/// A block of such a run. `k` run first-hash
const SEEN_BLOCK: u8 = b'k';
/// How often an event came again. `r` position ordinal
const REDELIVERIES: u8 = b'r';
/// Where a record lies whose segment was dropped. `m` position
const MOVED: u8 = b'm';
/// Rows of deliveries that ended, not yet in a table. `y` block
const PAST_BLOCK: u8 = b'y';
/// A table of such rows. `Y` table
const PAST_TABLE: u8 = b'Y';
/// The delivery was opened again after its end: its rows in the past may be out of date. `z` position ordinal
/// subscription
const REOPENED: u8 = b'z';
/// A shelf's entry. `h` handler key
const SHELF: u8 = b'h';
/// A shelf's size. `H` handler
const SHELF_SIZE: u8 = b'H';
/// Secrets seen below a newer one. `c` source
const SECRETS: u8 = b'c';
/// A handler's open, held and parked. `b` handler
const BACKLOG: u8 = b'b';
/// A change of a handler's lane; the record is the value. `l` handler position
const LANE: u8 = b'l';
/// The position of the change that stands, a byte for each sort. `L` handler sort
const LANE_STANDS: u8 = b'L';
/// Sources that ever sent. `o` source
const SOURCE: u8 = b'o';

pub(super) const POSITION: &[u8] = b"!position";
pub(super) const BATCH: &[u8] = b"!batch";
pub(super) const BOOT: &[u8] = b"!boot";
pub(super) const CLEAN: &[u8] = b"!clean";
pub(super) const SCHEMA: &[u8] = b"!schema";
/// The highest time of expiry, and what the wall clock said then.
pub(super) const CLOCK: &[u8] = b"!clock";
pub(super) const FIRST: &[u8] = b"!first";
pub(super) const LIVE: &[u8] = b"!live";
/// Of the records below this, those are there that were copied; the others are dropped, or about to be.
pub(super) const GONE: &[u8] = b"!gone";

fn put_name(key: &mut Vec<u8>, name: &Name) {
    let text = name.as_str();
    key.push(u8::try_from(text.len()).expect("a name has at most 63 bytes"));
    key.extend_from_slice(text.as_bytes());
}

fn put_event(key: &mut Vec<u8>, event: EventRef) {
    key.extend_from_slice(&event.position.to_be_bytes());
    key.extend_from_slice(&event.ordinal.to_be_bytes());
}

fn put_delivery(key: &mut Vec<u8>, id: &DeliveryId) {
    put_event(key, id.event);
    key.extend_from_slice(id.subscription.as_str().as_bytes());
}

pub(super) fn delivery(id: &DeliveryId) -> Vec<u8> {
    let mut key = vec![DELIVERY];
    put_delivery(&mut key, id);
    key
}

pub(super) fn deliveries() -> Vec<u8> {
    vec![DELIVERY]
}

/// All deliveries of the events of one record.
pub(super) fn deliveries_at(position: u64) -> Vec<u8> {
    numbered(DELIVERY, position)
}

pub(super) fn due_of(handler: &Name) -> Vec<u8> {
    let mut key = vec![DUE];
    put_name(&mut key, handler);
    key
}

pub(super) fn due_until(handler: &Name, at: Millis) -> Vec<u8> {
    let mut key = due_of(handler);
    key.extend_from_slice(&at.0.to_be_bytes());
    key
}

pub(super) fn due(handler: &Name, at: Millis, id: &DeliveryId) -> Vec<u8> {
    let mut key = due_until(handler, at);
    put_delivery(&mut key, id);
    key
}

pub(super) fn status_of(status: Status, handler: &Name) -> Vec<u8> {
    let mut key = vec![STATUS, status_byte(status)];
    put_name(&mut key, handler);
    key
}

pub(super) fn status(status: Status, handler: &Name, id: &DeliveryId) -> Vec<u8> {
    let mut key = status_of(status, handler);
    put_delivery(&mut key, id);
    key
}

pub(super) fn past_block(block: u64) -> Vec<u8> {
    numbered(PAST_BLOCK, block)
}

pub(super) fn past_blocks() -> Vec<u8> {
    vec![PAST_BLOCK]
}

pub(super) fn past_table(table: u64) -> Vec<u8> {
    numbered(PAST_TABLE, table)
}

pub(super) fn past_tables() -> Vec<u8> {
    vec![PAST_TABLE]
}

pub(super) fn reopened(id: &DeliveryId) -> Vec<u8> {
    let mut key = vec![REOPENED];
    put_delivery(&mut key, id);
    key
}

pub(super) fn reopened_at(position: u64) -> Vec<u8> {
    numbered(REOPENED, position)
}

pub(super) fn seen_run(run: u64) -> Vec<u8> {
    numbered(SEEN_RUN, run)
}

pub(super) fn seen_runs() -> Vec<u8> {
    vec![SEEN_RUN]
}

pub(super) fn seen_block(run: u64, first: &[u8; 16]) -> Vec<u8> {
    let mut key = numbered(SEEN_BLOCK, run);
    key.extend_from_slice(first);
    key
}

pub(super) fn seen_blocks_of(run: u64) -> Vec<u8> {
    numbered(SEEN_BLOCK, run)
}

pub(super) fn seen_blocks() -> Vec<u8> {
    vec![SEEN_BLOCK]
}

pub(super) fn redeliveries(event: EventRef) -> Vec<u8> {
    let mut key = vec![REDELIVERIES];
    put_event(&mut key, event);
    key
}

pub(super) fn redeliveries_at(position: u64) -> Vec<u8> {
    numbered(REDELIVERIES, position)
}

pub(super) fn moved(position: u64) -> Vec<u8> {
    numbered(MOVED, position)
}

pub(super) fn all_moved() -> Vec<u8> {
    vec![MOVED]
}

/// All entries of all shelves.
pub(super) fn shelves() -> Vec<u8> {
    vec![SHELF]
}

pub(super) fn shelf_of(handler: &Name) -> Vec<u8> {
    let mut key = vec![SHELF];
    put_name(&mut key, handler);
    key
}

pub(super) fn shelf(handler: &Name, name: &str) -> Vec<u8> {
    let mut key = shelf_of(handler);
    key.extend_from_slice(name.as_bytes());
    key
}

pub(super) fn shelf_size(handler: &Name) -> Vec<u8> {
    named(SHELF_SIZE, handler)
}

pub(super) fn secrets(source: &Name) -> Vec<u8> {
    named(SECRETS, source)
}

pub(super) fn backlog(handler: &Name) -> Vec<u8> {
    named(BACKLOG, handler)
}

pub(super) fn backlogs() -> Vec<u8> {
    vec![BACKLOG]
}

pub(super) fn lane_changes(handler: &Name) -> Vec<u8> {
    let mut key = vec![LANE];
    put_name(&mut key, handler);
    key
}

pub(super) fn lane_change(handler: &Name, position: u64) -> Vec<u8> {
    let mut key = lane_changes(handler);
    key.extend_from_slice(&position.to_be_bytes());
    key
}

pub(super) fn lane_stands(handler: &Name, sort: u8) -> Vec<u8> {
    let mut key = vec![LANE_STANDS];
    put_name(&mut key, handler);
    key.push(sort);
    key
}

pub(super) fn source(source: &Name) -> Vec<u8> {
    named(SOURCE, source)
}

pub(super) fn sources() -> Vec<u8> {
    vec![SOURCE]
}

fn numbered(first: u8, position: u64) -> Vec<u8> {
    let mut key = vec![first];
    key.extend_from_slice(&position.to_be_bytes());
    key
}

fn named(first: u8, name: &Name) -> Vec<u8> {
    let mut key = vec![first];
    key.extend_from_slice(name.as_str().as_bytes());
    key
}

// === reading keys back ===

fn unreadable() -> Error {
    Error::Index("a key of the index does not read".into())
}

fn read_name(bytes: &[u8]) -> Result<Name, Error> {
    std::str::from_utf8(bytes).ok().and_then(|text| Name::new(text).ok()).ok_or_else(unreadable)
}

/// The delivery at the end of a key, behind `prefix` bytes.
pub(super) fn delivery_in(key: &[u8], prefix: usize) -> Result<DeliveryId, Error> {
    let (position, rest) =
        key.get(prefix..).and_then(<[u8]>::split_first_chunk::<8>).ok_or_else(unreadable)?;
    let (ordinal, subscription) = rest.split_first_chunk::<2>().ok_or_else(unreadable)?;
    let event = EventRef { position: u64::from_be_bytes(*position), ordinal: u16::from_be_bytes(*ordinal) };
    Ok(DeliveryId { event, subscription: read_name(subscription)? })
}

/// The number behind `prefix` bytes.
pub(super) fn number_in(key: &[u8], prefix: usize) -> Result<u64, Error> {
    let bytes = key.get(prefix..).and_then(<[u8]>::first_chunk::<8>).ok_or_else(unreadable)?;
    Ok(u64::from_be_bytes(*bytes))
}

/// The name that is the rest of a key.
pub(super) fn name_in(key: &[u8]) -> Result<Name, Error> {
    read_name(key.get(1..).ok_or_else(unreadable)?)
}

/// Handler and key of a shelf's entry.
pub(super) fn shelf_in(key: &[u8]) -> Result<(Name, String), Error> {
    let len = usize::from(*key.get(1).ok_or_else(unreadable)?);
    let handler = read_name(key.get(2..2 + len).ok_or_else(unreadable)?)?;
    let name = std::str::from_utf8(&key[2 + len..]).map_err(|_| unreadable())?;
    Ok((handler, name.to_owned()))
}

/// The first key behind all that begin with `prefix`; None where there is none.
pub(super) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut key = prefix.to_vec();
    while let Some(last) = key.pop() {
        if last < u8::MAX {
            key.push(last + 1);
            return Some(key);
        }
    }
    None
}
