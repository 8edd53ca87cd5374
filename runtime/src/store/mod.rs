//! The store: a journal that is the truth, an index that can be thrown away, and the ledger in front of both.
//!
//! This file is the room's face. Everything in it is a value; `ledger` keeps the promise.
//!
//! An event's way through the room: `accept` claims its key (`claims`), asks `index::seen` whether it is
//! new, and hands the record (`codec`) to the `writer`, which puts batches into the `journal` and syncs them. What
//! a record changes is staged (`stage`, `rows`, `shelf`), becomes visible in the `view` once it is durable, and goes
//! to the index behind everybody's back. `deliveries` is what lanes ask, `lanes` how they stand, `history` what people ask, `retention`
//! what is thrown away, `open` how it all starts, `tools` what is done with the files by hand. `journal::Disk`,
//! `machine` and `index::tree` are the seams to the world: a simulation stands behind all three.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::words::attempt::{Attempt, ErrorKind, Verdict};
use crate::words::digest::Digest;
use crate::words::effect::Resolution;
use crate::words::event::{DeliveryId, EventRef, Name};
use crate::words::lane::LaneChange;
use crate::words::secret::Fingerprint;
use crate::words::shelf::ShelfTxn;
use crate::words::time::Millis;

mod accept;
mod claims;
mod codec;
mod core;
mod deliveries;
mod drill;
mod health;
mod history;
mod index;
pub mod journal;
mod kept;
mod keys;
mod lanes;
pub mod ledger;
pub mod machine;
mod open;
mod retention;
mod rows;
mod secrets;
mod shelf;
mod stage;
pub mod tools;
mod view;
mod writer;

#[cfg(test)]
mod tests;

pub use deliveries::HeldEffects;
pub use health::CallRoom;
pub use kept::Kept;
pub use ledger::{Ledger, Retained};

/// How the ledger is opened. All from the configuration; the store asks for nothing else.
#[derive(Clone, Debug)]
pub struct Options {
    /// Data directory; made with mode 0700 where it is missing.
    pub path: PathBuf,
    pub durability: Durability,
    pub retain_age: Duration,
    pub retain_bytes: u64,
    pub open_age_max: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// A 2xx survives power loss: `fdatasync` before the answer.
    PowerLoss,
    /// A 2xx survives a crash of the process only: written, not synced.
    ProcessCrash,
}

/// What `open` found and did, for the start-up line and the metrics.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Recovery {
    pub segments: u64,
    pub journal_bytes: u64,
    /// Records after the last durable mark, copied to a new segment and synced.
    pub records_copied: u64,
    /// Bytes of a torn tail that were cut.
    pub torn_bytes: u64,
    /// Why the index was rebuilt; None where it was trusted.
    pub index_rebuilt: Option<String>,
    pub open_deliveries: u64,
    pub took_ms: u64,
}

// === accept ===

/// One verified request, to be written down whole: all its events or none.
#[derive(Clone, Debug)]
pub struct Accept {
    pub source: Name,
    pub received_at: Millis,
    pub signed_at: Option<Millis>,
    /// Which secret matched.
    pub secret: Fingerprint,
    pub query: Option<String>,
    /// Lower-case names, in the order received.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// How long the ids of these events are remembered.
    pub dedupe_window: Duration,
    /// At least one.
    pub events: Vec<NewEvent>,
}

#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Never empty: `sha256:<body>` where the request has none.
    pub id: String,
    /// A second name: an event that came under either of them before is a copy.
    pub also: Option<String>,
    /// Empty where the request has none.
    pub event_type: String,
    /// Where this event's bytes lie in the body; None: the whole body.
    pub range: Option<(u32, u32)>,
    /// Made by `longshore send`: shown as such and passed to the handler.
    pub test: bool,
    /// One for each subscription that wants it.
    pub deliveries: Vec<NewDelivery>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewDelivery {
    pub subscription: Name,
    pub handler: Name,
}

/// The ledger's word that an event is safe: made only by `Ledger::accept`, and only when the record is durable.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub(in crate::store) events: Vec<Accepted>,
}

impl Receipt {
    pub fn events(&self) -> &[Accepted] {
        &self.events
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The event of the first copy, also for a duplicate.
    pub event: EventRef,
    pub duplicate: bool,
    /// A duplicate by id whose body differs from the first one's.
    pub body_differs: bool,
}

/// Why nothing was accepted. The sender is told to come back; nothing of the request was kept.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    #[error("the queue to the journal is full")]
    Busy,
    #[error(
        "the disk is nearly full: {free_bytes} bytes are free, {reserve_bytes} are kept in reserve; free some space"
    )]
    DiskFull { free_bytes: u64, reserve_bytes: u64 },
    #[error("live data fills more than 70 % of store.retain.max_size; raise it, or end open deliveries")]
    SizeCap,
    #[error("the index lags {records} records behind the journal")]
    IndexLag { records: usize },
    #[error("the store failed: {0}; restart the daemon once the disk is well")]
    Failed(String),
    #[error("the store is closing")]
    Closing,
}

/// Errors of everything but accept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} `{path}`: {source}")]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("another longshore runs on `{0}`; one daemon a data directory")]
    Locked(PathBuf),
    #[error(
        "`{segment}` is damaged at byte {offset}: {why}; `longshore store check` says what depends on it, restore a \
         backup or give it up with `longshore store repair`"
    )]
    Damaged { segment: PathBuf, offset: u64, why: String },
    #[error(
        "`{0}` holds a record of kind {1}, which this version does not know; start the newer longshore again"
    )]
    UnknownKind(PathBuf, u8),
    #[error("the data directory `{0}` {1}")]
    Directory(PathBuf, String),
    #[error("the index failed: {0}")]
    Index(String),
    #[error("the disk is full ({0}); free some space")]
    DiskFull(String),
    #[error("the store failed: {0}; restart the daemon once the disk is well")]
    Failed(String),
    #[error("the cursor `{0}` is not one; take it from `next` of the page before")]
    BadCursor(String),
    #[error("no delivery `{0}`; `longshore deliveries list` prints them")]
    NoSuchDelivery(DeliveryId),
    #[error("no event `{0}`; `longshore events list` prints them")]
    NoSuchEvent(EventRef),
    #[error("delivery `{0}` is {1}, so this does not apply")]
    WrongState(DeliveryId, Status),
    #[error(
        "delivery `{0}` does not wait for a word on a call; `longshore deliveries retry {0}` runs it again"
    )]
    NothingToResolve(DeliveryId),
    #[error("an effect of delivery `{0}` does not read: {1}")]
    Effect(DeliveryId, String),
    #[error("a listing of a shelf passed {0} entries, most of them expired; list a longer prefix")]
    ShelfScan(usize),
    #[error("a record of {0} bytes is too large for the journal; let the attempt log and write less")]
    TooLarge(usize),
    #[error("the store is closing")]
    Closing,
}

// === deliveries ===

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Waiting for its first attempt or the next.
    Open,
    /// Its subscription or handler is gone or disabled; resumed when it is back.
    Held,
    /// Waits for the operator: three attempts in a row began and never ended, or nobody knows what became of a call.
    Parked,
    Done,
    Skipped,
    Dead,
    /// Ended by the operator.
    Cancelled,
}

impl Status {
    pub fn is_ended(self) -> bool {
        matches!(self, Status::Done | Status::Skipped | Status::Dead | Status::Cancelled)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Status::Open => "open",
            Status::Held => "held",
            Status::Parked => "parked",
            Status::Done => "done",
            Status::Skipped => "skipped",
            Status::Dead => "dead",
            Status::Cancelled => "cancelled",
        })
    }
}

/// What a lane needs to know of a delivery before it reads its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenDelivery {
    pub id: DeliveryId,
    pub handler: Name,
    pub due: Millis,
    /// From when the time to give up counts: acceptance, or the operator's last `retry`. By `Ledger::clock`.
    pub accepted_at: Millis,
    /// Attempts that are over; the next one is this plus one, plus `begun_without_end`. Never counts back.
    pub attempts: u32,
    pub begun_without_end: u32,
}

/// One event as a handler gets it, read from the journal.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    pub event: EventRef,
    pub id: String,
    pub event_type: String,
    pub source: Name,
    pub received_at: Millis,
    pub signed_at: Option<Millis>,
    pub secret: Fingerprint,
    pub query: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub test: bool,
}

/// How an attempt ended, and what it does to the shelf. Written and synced as one record.
#[derive(Clone, Debug)]
pub struct Settle {
    pub delivery: DeliveryId,
    pub handler: Name,
    /// Whether `begin` was durable. Where it was not asked for, the attempt counts from here.
    pub begun: bool,
    pub attempt: Attempt,
    pub verdict: Verdict,
    pub shelf: ShelfTxn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Durable.
    Written,
    /// A key that this attempt read was changed by another delivery: nothing was written.
    Conflict,
}

// === history ===

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EventFilter {
    pub source: Option<Name>,
    pub event_type: Option<String>,
    /// The provider's event id.
    pub id: Option<String>,
    pub since: Option<Millis>,
    pub until: Option<Millis>,
    /// Newest first; from the `next` of the page before.
    pub cursor: Option<String>,
    pub limit: usize,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeliveryFilter {
    pub event: Option<EventRef>,
    pub source: Option<Name>,
    pub event_type: Option<String>,
    pub handler: Option<Name>,
    pub status: Option<Status>,
    pub error_kind: Option<ErrorKind>,
    /// Substring of the last error.
    pub error: Option<String>,
    pub since: Option<Millis>,
    pub until: Option<Millis>,
    pub cursor: Option<String>,
    pub limit: usize,
}

/// A page of a listing. `cut`: the scan ended at its bound before the page was full; go on from `next`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub next: Option<String>,
    pub cut: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventRow {
    pub event: EventRef,
    pub id: String,
    #[serde(rename = "type")]
    pub event_type: String,
    pub source: Name,
    pub received_at: Millis,
    pub signed_at: Option<Millis>,
    /// Always 200: what got another answer is not an event.
    pub answered: u16,
    /// From the end of the request to durable, in microseconds; None where it was lost in a crash.
    pub answer_us: Option<u64>,
    pub redeliveries: u64,
    /// Redeliveries whose body differed.
    pub body_differed: u64,
    pub secret: Fingerprint,
    pub body_bytes: u64,
    pub test: bool,
    pub deliveries: Vec<DeliverySummary>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeliverySummary {
    pub subscription: Name,
    pub handler: Name,
    pub status: Status,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeliveryRow {
    pub delivery: DeliveryId,
    pub event_id: String,
    #[serde(rename = "type")]
    pub event_type: String,
    pub source: Name,
    pub handler: Name,
    pub status: Status,
    pub accepted_at: Millis,
    /// Attempts that ended.
    pub attempts: u32,
    pub next_at: Option<Millis>,
    pub ended_at: Option<Millis>,
    /// Status of the last outbound call of the last attempt.
    pub last_status: Option<u16>,
    pub last_took_ms: Option<u64>,
    pub error_kind: Option<ErrorKind>,
    /// The last error, or the note of `done` and `skipped`, or why it is held, parked or dead.
    pub message: Option<String>,
    pub test: bool,
}

/// A delivery whole, for `deliveries show`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeliveryHistory {
    pub row: DeliveryRow,
    pub attempts: Vec<Attempt>,
    /// Attempts that began and of which nothing else is known: the daemon ended in them.
    pub interrupted: Vec<Interrupted>,
    /// What the operator did to it, oldest first.
    pub rulings: Vec<RulingRow>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interrupted {
    pub number: u32,
    pub began_at: Millis,
    pub plugin: Digest,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RulingRow {
    pub at: Millis,
    pub ruling: Ruling,
    /// Of a retry: the operator's word on the call that the delivery waited with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
}

/// What was noted about the calls of one delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// 0, or the position of the retry that began this round: of a delivery that was done.
    pub round: u64,
    /// See `words::effect`.
    pub entries: Vec<Bytes>,
    /// The last change of the delivery that they are known up to.
    pub up_to: u64,
}

/// Everything that was noted about the calls of one delivery, also what later notes replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Where each round begins, oldest first; the first one at 0.
    pub rounds: Vec<u64>,
    /// With its position.
    pub entries: Vec<(u64, Bytes)>,
}

/// What an operator decided about one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ruling {
    /// Run it again now, whatever its state.
    Retry,
    Cancel,
}

// === lanes ===

/// One change of a handler's lane, as `handlers history` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneEntry {
    pub at: Millis,
    /// The time of expiry then; see `Ledger::clock`.
    pub clock: Millis,
    #[serde(flatten)]
    pub change: LaneChange,
}

/// What stands of a handler's lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Paused, and not resumed.
    pub paused: Option<LaneEntry>,
    /// Opened or returning, and not closed.
    pub breaker: Option<LaneEntry>,
}

/// Figures for metrics and readiness.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stat {
    /// None while all is well; else why the store takes nothing.
    pub failed: Option<String>,
    /// An old segment that does not read, in words. It stays, and so does everything behind it.
    pub damaged: Option<String>,
    pub segments: u64,
    pub journal_bytes: u64,
    /// What retention may not drop, beside idempotency keys: events under way with what was written about them,
    /// and shelves.
    pub live_bytes: u64,
    /// In the index, in their window or with their event still there.
    pub idempotency_keys: u64,
    pub index_bytes: u64,
    pub index_lag_records: u64,
    pub free_bytes: u64,
    pub durable_position: u64,
    /// Open, held and parked, by handler: count and oldest acceptance.
    pub backlog: BTreeMap<String, Backlog>,
    pub syncs: u64,
    pub sync_us_total: u64,
    pub records: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Backlog {
    pub open: u64,
    pub held: u64,
    pub parked: u64,
    pub oldest_accepted_at: Option<Millis>,
}
