//! Codec: what the journal's records mean, and their bytes.
//!
//! Accept and begun are written for every event and are compact binary; what is written once an attempt carries
//! JSON for the parts that people read. A kind that this file does not name refuses to start.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::claims::{Hash, key_of};
use super::journal::Draft;
use super::{NewDelivery, Ruling, Status};
use crate::words::attempt::{Attempt, Verdict};
use crate::words::digest::Digest;
use crate::words::event::{DeliveryId, EventRef, Name};
use crate::words::lane::LaneChange;
use crate::words::secret::Fingerprint;
use crate::words::time::Millis;

/// The numbers are on disk: they are never given to another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Accept = 1,
    Redelivery = 2,
    Begun = 3,
    EffectIntent = 4,
    EffectResponse = 5,
    Settle = 6,
    Shelf = 7,
    Hold = 8,
    Ruling = 9,
    SecretsSeen = 10,
    Copy = 11,
    Mark = 12,
    Gap = 13,
    Lane = 14,
}

pub(super) const KIND_MAX: u8 = Kind::Lane as u8;

impl Kind {
    pub(super) fn of(byte: u8) -> Option<Kind> {
        use Kind::*;
        let all = [
            Accept,
            Redelivery,
            Begun,
            EffectIntent,
            EffectResponse,
            Settle,
            Shelf,
            Hold,
            Ruling,
            SecretsSeen,
            Copy,
            Mark,
            Gap,
            Lane,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record {
    Accept(AcceptRecord),
    Redelivery(Redelivery),
    Begun(Begun),
    EffectIntent(Effect),
    EffectResponse(Effect),
    Settle(Box<SettleRecord>),
    Shelf(ShelfRecord),
    Hold(HoldRecord),
    Ruling(RulingRecord),
    SecretsSeen(SecretsSeen),
    Copy(CopyRecord),
    Mark(Mark),
    Gap(Gap),
    Lane(LaneRecord),
}

/// One request: its bytes once, its events as ranges of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AcceptRecord {
    pub source: Name,
    pub received_at: Millis,
    /// The time of expiry when it was received: windows and ages count from here, not from a wall clock.
    pub clock: Millis,
    /// When it was given to the ledger, microseconds since the epoch: the start of the answer time.
    pub queued_us: u64,
    pub signed_at: Option<Millis>,
    pub secret: Fingerprint,
    /// When its ids are forgotten, by the clock of `health::Clock`.
    pub expires: Millis,
    pub query: Option<String>,
    pub headers: Vec<(String, String)>,
    pub events: Vec<EventRecord>,
    pub body: Bytes,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct EventRecord {
    pub id: String,
    /// The key of its second name.
    pub also: Option<Hash>,
    pub event_type: String,
    pub range: Option<(u32, u32)>,
    pub test: bool,
    /// Of this event's bytes; tells a redelivery from another event under the same id.
    pub body_hash: u64,
    pub deliveries: Vec<NewDelivery>,
}

/// A copy of an event that the ledger already had.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Redelivery {
    pub event: EventRef,
    pub at: Millis,
    pub body_differs: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Begun {
    pub delivery: DeliveryId,
    pub number: u32,
    pub at: Millis,
    pub plugin: Digest,
}

/// An outbound call before it is sent, or what came back. Not written yet; its place in the format is kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Effect {
    pub delivery: DeliveryId,
    pub at: Millis,
    pub detail: Bytes,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct SettleRecord {
    pub delivery: DeliveryId,
    pub handler: Name,
    pub at: Millis,
    pub attempt: Attempt,
    pub verdict: Verdict,
    pub writes: Vec<(String, ShelfChange)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum ShelfChange {
    Set {
        value: Bytes,
        expires: Option<Millis>,
    },
    Delete,
    /// What a counter came to: the sum, so that it can be read again without what came before.
    Sum {
        sum: i64,
        expires: Option<Millis>,
    },
}

/// A value of a shelf whose settle record is about to be dropped.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ShelfRecord {
    pub handler: Name,
    pub key: String,
    pub version: u64,
    pub expires: Option<Millis>,
    pub value: Bytes,
}

/// A delivery's state changed without an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HoldRecord {
    pub delivery: DeliveryId,
    /// Held, Open (resumed), Parked, or Dead (too old).
    pub status: Status,
    pub at: Millis,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct RulingRecord {
    pub delivery: DeliveryId,
    pub ruling: Ruling,
    pub at: Millis,
    /// The time of expiry then.
    pub clock: Millis,
}

/// When each secret of a source was first seen below a newer one; replaces what was known of the source.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SecretsSeen {
    pub source: Name,
    pub demoted: Vec<(Fingerprint, Millis)>,
}

/// What is kept of a segment that is about to be dropped.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum CopyRecord {
    /// A whole record under its old position.
    Whole {
        position: u64,
        kind: u8,
        link: u64,
        answer_us: Option<u64>,
        payload: Bytes,
        state: Vec<StateCopy>,
    },
    /// Idempotency keys whose event is dropped while they are in their window.
    Keys(Vec<KeyCopy>),
}

/// What the index knew of one event of a copied accept record when it was copied: later segments may hold
/// records that lie before the copy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StateCopy {
    pub ordinal: u16,
    pub redeliveries: Bytes,
    /// Subscription and row, as the index has them.
    pub rows: Vec<(Name, Bytes)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct KeyCopy {
    pub key: [u8; 16],
    pub event: EventRef,
    pub body_hash: u64,
    pub expires: Millis,
}

/// An idempotency key that goes, unless it names a later event by now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct KeyDrop {
    pub key: [u8; 16],
    pub position: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mark {
    /// A start; `clock` is 0: it is known only when the index is up to date.
    Opened { at: Millis, clock: Millis },
    /// A clean stop: the index has everything below this record, and is on disk. `clock`: the time of expiry when
    /// the wall clock, last asked, said `at`.
    Clean { at: Millis, clock: Millis },
    /// Records that are in no listing any more, with the keys that went with them.
    Dropped { positions: Vec<u64>, keys: Vec<KeyDrop> },
    /// The chain of segments begins at this one; those before it may be deleted.
    First { sequence: u64 },
    /// The time of expiry, kept where the records that told it are deleted.
    Clock { at: Millis, clock: Millis },
}

/// What `store repair` put in place of what did not read, so that everything behind it stays where it was. Its link
/// leads on to what is left of the chain that led here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// Of its payload, which says nothing.
    pub bytes: usize,
}

/// A handler's lane was stopped, or goes on: by its breaker, or by the operator.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LaneRecord {
    pub handler: Name,
    pub at: Millis,
    /// The time of expiry then.
    pub clock: Millis,
    pub change: LaneChange,
}

/// What does not read is damage: its checksum held, so a writer wrote it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a record does not read: {0}")]
pub(super) struct Unreadable(pub &'static str);

impl Record {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Record::Accept(_) => Kind::Accept,
            Record::Redelivery(_) => Kind::Redelivery,
            Record::Begun(_) => Kind::Begun,
            Record::EffectIntent(_) => Kind::EffectIntent,
            Record::EffectResponse(_) => Kind::EffectResponse,
            Record::Settle(_) => Kind::Settle,
            Record::Shelf(_) => Kind::Shelf,
            Record::Hold(_) => Kind::Hold,
            Record::Ruling(_) => Kind::Ruling,
            Record::SecretsSeen(_) => Kind::SecretsSeen,
            Record::Copy(_) => Kind::Copy,
            Record::Mark(_) => Kind::Mark,
            Record::Gap(_) => Kind::Gap,
            Record::Lane(_) => Kind::Lane,
        }
    }

    pub(super) fn draft(&self) -> Draft {
        let mut out = Out(Vec::with_capacity(self.size_hint()));
        match self {
            Record::Accept(record) => record.encode(&mut out),
            Record::Redelivery(record) => record.encode(&mut out),
            Record::Begun(record) => record.encode(&mut out),
            Record::EffectIntent(record) | Record::EffectResponse(record) => record.encode(&mut out),
            Record::Settle(record) => record.encode(&mut out),
            Record::Shelf(record) => record.encode(&mut out),
            Record::Hold(record) => record.encode(&mut out),
            Record::Ruling(record) => record.encode(&mut out),
            Record::SecretsSeen(record) => record.encode(&mut out),
            Record::Copy(record) => record.encode(&mut out),
            Record::Mark(record) => record.encode(&mut out),
            Record::Gap(gap) => out.0.resize(gap.bytes, 0),
            Record::Lane(record) => record.encode(&mut out),
        }
        Draft::new(self.kind() as u8, out.0)
    }

    fn size_hint(&self) -> usize {
        match self {
            Record::Accept(record) => record.size_hint(),
            Record::Copy(CopyRecord::Whole { payload, .. }) => 256 + payload.len(),
            _ => 256,
        }
    }

    /// The body of an accept, a shelf value and a copy are slices of `payload`, not copies.
    pub(super) fn decode(kind: u8, payload: &Bytes) -> Result<Record, Unreadable> {
        let kind = Kind::of(kind).ok_or(Unreadable("its kind is not known"))?;
        let mut bytes = In::new(payload);
        let record = match kind {
            Kind::Accept => Record::Accept(AcceptRecord::decode(&mut bytes)?),
            Kind::Redelivery => Record::Redelivery(Redelivery::decode(&mut bytes)?),
            Kind::Begun => Record::Begun(Begun::decode(&mut bytes)?),
            Kind::EffectIntent => Record::EffectIntent(Effect::decode(&mut bytes)?),
            Kind::EffectResponse => Record::EffectResponse(Effect::decode(&mut bytes)?),
            Kind::Settle => Record::Settle(Box::new(SettleRecord::decode(&mut bytes)?)),
            Kind::Shelf => Record::Shelf(ShelfRecord::decode(&mut bytes)?),
            Kind::Hold => Record::Hold(HoldRecord::decode(&mut bytes)?),
            Kind::Ruling => Record::Ruling(RulingRecord::decode(&mut bytes)?),
            Kind::SecretsSeen => Record::SecretsSeen(SecretsSeen::decode(&mut bytes)?),
            Kind::Copy => Record::Copy(CopyRecord::decode(&mut bytes)?),
            Kind::Mark => Record::Mark(Mark::decode(&mut bytes)?),
            Kind::Gap => Record::Gap(Gap { bytes: bytes.rest() }),
            Kind::Lane => Record::Lane(LaneRecord::decode(&mut bytes)?),
        };
        bytes.end()?;
        Ok(record)
    }
}

/// An accept is drafted by its caller, who keeps the record: the body is copied once.
pub(super) fn draft_accept(record: &AcceptRecord) -> Draft {
    let mut out = Out(Vec::with_capacity(record.size_hint()));
    record.encode(&mut out);
    Draft::new(Kind::Accept as u8, out.0)
}

impl AcceptRecord {
    fn size_hint(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        256 + headers + self.events.len() * 160 + self.body.len()
    }

    fn encode(&self, out: &mut Out) {
        out.name(&self.source);
        out.millis(self.received_at);
        out.millis(self.clock);
        out.u64(self.queued_us);
        out.option(self.signed_at, Out::millis);
        out.raw(&self.secret.0);
        out.millis(self.expires);
        out.option(self.query.as_deref(), Out::text);
        out.len(self.headers.len());
        for (name, value) in &self.headers {
            out.text(name);
            out.text(value);
        }
        out.len(self.events.len());
        for event in &self.events {
            event.encode(out);
        }
        out.bytes(&self.body);
    }

    fn decode(bytes: &mut In) -> Result<AcceptRecord, Unreadable> {
        Ok(AcceptRecord {
            source: bytes.name()?,
            received_at: bytes.millis()?,
            clock: bytes.millis()?,
            queued_us: bytes.u64()?,
            signed_at: bytes.option(In::millis)?,
            secret: Fingerprint(bytes.array()?),
            expires: bytes.millis()?,
            query: bytes.option(In::text)?,
            headers: bytes.list(|bytes| Ok((bytes.text()?, bytes.text()?)))?,
            events: bytes.list(EventRecord::decode)?,
            body: bytes.bytes()?,
        })
    }

    /// The bytes of one of its events.
    pub(super) fn body_of(&self, event: &EventRecord) -> Bytes {
        body_of(&self.body, event.range)
    }
}

/// The bytes of one event of a request; all of them where its range is none.
pub(super) fn body_of(body: &Bytes, range: Option<(u32, u32)>) -> Bytes {
    match range {
        Some((from, to)) if from <= to && to as usize <= body.len() => body.slice(from as usize..to as usize),
        _ => body.clone(),
    }
}

impl EventRecord {
    /// What a copy of it is known by: the key of its id, then that of its second name.
    pub(super) fn keys(&self, source: &Name) -> impl Iterator<Item = Hash> {
        std::iter::once(key_of(source.as_str(), &self.id)).chain(self.also)
    }

    fn encode(&self, out: &mut Out) {
        out.text(&self.id);
        out.text(&self.event_type);
        out.option(self.range, |out, (from, to)| {
            out.u32(from);
            out.u32(to);
        });
        out.u8(u8::from(self.test) | u8::from(self.also.is_some()) << 1);
        if let Some(also) = &self.also {
            out.raw(also);
        }
        out.u64(self.body_hash);
        out.len(self.deliveries.len());
        for delivery in &self.deliveries {
            out.name(&delivery.subscription);
            out.name(&delivery.handler);
        }
    }

    fn decode(bytes: &mut In) -> Result<EventRecord, Unreadable> {
        let (id, event_type) = (bytes.text()?, bytes.text()?);
        let range = bytes.option(|bytes| Ok((bytes.u32()?, bytes.u32()?)))?;
        let flags = bytes.u8()?;
        if flags > 3 {
            return Err(Unreadable("an event's flags are of no known sort"));
        }
        Ok(EventRecord {
            id,
            also: if flags & 2 == 0 { None } else { Some(bytes.array()?) },
            event_type,
            range,
            test: flags & 1 == 1,
            body_hash: bytes.u64()?,
            deliveries: bytes
                .list(|bytes| Ok(NewDelivery { subscription: bytes.name()?, handler: bytes.name()? }))?,
        })
    }
}

impl Redelivery {
    fn encode(&self, out: &mut Out) {
        out.event(self.event);
        out.millis(self.at);
        out.flag(self.body_differs);
    }

    fn decode(bytes: &mut In) -> Result<Redelivery, Unreadable> {
        Ok(Redelivery { event: bytes.event()?, at: bytes.millis()?, body_differs: bytes.flag()? })
    }
}

impl Begun {
    fn encode(&self, out: &mut Out) {
        out.delivery(&self.delivery);
        out.u32(self.number);
        out.millis(self.at);
        out.raw(&self.plugin.0);
    }

    fn decode(bytes: &mut In) -> Result<Begun, Unreadable> {
        Ok(Begun {
            delivery: bytes.delivery()?,
            number: bytes.u32()?,
            at: bytes.millis()?,
            plugin: Digest(bytes.array()?),
        })
    }
}

impl Effect {
    fn encode(&self, out: &mut Out) {
        out.delivery(&self.delivery);
        out.millis(self.at);
        out.bytes(&self.detail);
    }

    fn decode(bytes: &mut In) -> Result<Effect, Unreadable> {
        Ok(Effect { delivery: bytes.delivery()?, at: bytes.millis()?, detail: bytes.bytes()? })
    }
}

impl SettleRecord {
    fn encode(&self, out: &mut Out) {
        out.delivery(&self.delivery);
        out.name(&self.handler);
        out.millis(self.at);
        out.json(&self.verdict);
        out.json(&self.attempt);
        out.len(self.writes.len());
        for (key, change) in &self.writes {
            out.text(key);
            change.encode(out);
        }
    }

    fn decode(bytes: &mut In) -> Result<SettleRecord, Unreadable> {
        Ok(SettleRecord {
            delivery: bytes.delivery()?,
            handler: bytes.name()?,
            at: bytes.millis()?,
            verdict: bytes.json()?,
            attempt: bytes.json()?,
            writes: bytes.list(|bytes| Ok((bytes.text()?, ShelfChange::decode(bytes)?)))?,
        })
    }
}

impl ShelfChange {
    fn encode(&self, out: &mut Out) {
        match self {
            ShelfChange::Set { value, expires } => {
                out.u8(1);
                out.option(*expires, Out::millis);
                out.bytes(value);
            }
            ShelfChange::Delete => out.u8(2),
            ShelfChange::Sum { sum, expires } => {
                out.u8(3);
                out.option(*expires, Out::millis);
                out.raw(&sum.to_le_bytes());
            }
        }
    }

    fn decode(bytes: &mut In) -> Result<ShelfChange, Unreadable> {
        match bytes.u8()? {
            1 => {
                let expires = bytes.option(In::millis)?;
                Ok(ShelfChange::Set { value: bytes.bytes()?, expires })
            }
            2 => Ok(ShelfChange::Delete),
            3 => {
                let expires = bytes.option(In::millis)?;
                Ok(ShelfChange::Sum { sum: i64::from_le_bytes(bytes.array()?), expires })
            }
            _ => Err(Unreadable("a write to a shelf is of no known sort")),
        }
    }
}

impl ShelfRecord {
    fn encode(&self, out: &mut Out) {
        out.name(&self.handler);
        out.text(&self.key);
        out.u64(self.version);
        out.option(self.expires, Out::millis);
        out.bytes(&self.value);
    }

    fn decode(bytes: &mut In) -> Result<ShelfRecord, Unreadable> {
        Ok(ShelfRecord {
            handler: bytes.name()?,
            key: bytes.text()?,
            version: bytes.u64()?,
            expires: bytes.option(In::millis)?,
            value: bytes.bytes()?,
        })
    }
}

impl HoldRecord {
    fn encode(&self, out: &mut Out) {
        out.delivery(&self.delivery);
        out.u8(status_byte(self.status));
        out.millis(self.at);
        out.text(&self.reason);
    }

    fn decode(bytes: &mut In) -> Result<HoldRecord, Unreadable> {
        Ok(HoldRecord {
            delivery: bytes.delivery()?,
            status: status_of(bytes.u8()?)?,
            at: bytes.millis()?,
            reason: bytes.text()?,
        })
    }
}

impl RulingRecord {
    fn encode(&self, out: &mut Out) {
        out.delivery(&self.delivery);
        out.u8(match self.ruling {
            Ruling::Retry => 1,
            Ruling::Cancel => 2,
        });
        out.millis(self.at);
        out.millis(self.clock);
    }

    fn decode(bytes: &mut In) -> Result<RulingRecord, Unreadable> {
        let delivery = bytes.delivery()?;
        let ruling = match bytes.u8()? {
            1 => Ruling::Retry,
            2 => Ruling::Cancel,
            _ => return Err(Unreadable("a ruling is of no known sort")),
        };
        Ok(RulingRecord { delivery, ruling, at: bytes.millis()?, clock: bytes.millis()? })
    }
}

impl LaneRecord {
    fn encode(&self, out: &mut Out) {
        out.name(&self.handler);
        out.millis(self.at);
        out.millis(self.clock);
        out.json(&self.change);
    }

    fn decode(bytes: &mut In) -> Result<LaneRecord, Unreadable> {
        Ok(LaneRecord {
            handler: bytes.name()?,
            at: bytes.millis()?,
            clock: bytes.millis()?,
            change: bytes.json()?,
        })
    }
}

impl SecretsSeen {
    pub(super) fn encode(&self, out: &mut Out) {
        out.name(&self.source);
        out.len(self.demoted.len());
        for (fingerprint, at) in &self.demoted {
            out.raw(&fingerprint.0);
            out.millis(*at);
        }
    }

    pub(super) fn decode(bytes: &mut In) -> Result<SecretsSeen, Unreadable> {
        Ok(SecretsSeen {
            source: bytes.name()?,
            demoted: bytes.list(|bytes| Ok((Fingerprint(bytes.array()?), bytes.millis()?)))?,
        })
    }
}

impl CopyRecord {
    fn encode(&self, out: &mut Out) {
        match self {
            CopyRecord::Whole { position, kind, link, answer_us, payload, state } => {
                out.u8(1);
                out.u64(*position);
                out.u8(*kind);
                out.u64(*link);
                out.option(*answer_us, Out::u64);
                out.len(state.len());
                for event in state {
                    event.encode(out);
                }
                out.bytes(payload);
            }
            CopyRecord::Keys(keys) => {
                out.u8(2);
                out.len(keys.len());
                for key in keys {
                    out.raw(&key.key);
                    out.event(key.event);
                    out.u64(key.body_hash);
                    out.millis(key.expires);
                }
            }
        }
    }

    fn decode(bytes: &mut In) -> Result<CopyRecord, Unreadable> {
        match bytes.u8()? {
            1 => Ok(CopyRecord::Whole {
                position: bytes.u64()?,
                kind: bytes.u8()?,
                link: bytes.u64()?,
                answer_us: bytes.option(In::u64)?,
                state: bytes.list(StateCopy::decode)?,
                payload: bytes.bytes()?,
            }),
            2 => Ok(CopyRecord::Keys(bytes.list(|bytes| {
                Ok(KeyCopy {
                    key: bytes.array()?,
                    event: bytes.event()?,
                    body_hash: bytes.u64()?,
                    expires: bytes.millis()?,
                })
            })?)),
            _ => Err(Unreadable("a copy is of no known sort")),
        }
    }
}

impl StateCopy {
    fn encode(&self, out: &mut Out) {
        out.u16(self.ordinal);
        out.bytes(&self.redeliveries);
        out.len(self.rows.len());
        for (subscription, row) in &self.rows {
            out.name(subscription);
            out.bytes(row);
        }
    }

    fn decode(bytes: &mut In) -> Result<StateCopy, Unreadable> {
        Ok(StateCopy {
            ordinal: bytes.u16()?,
            redeliveries: bytes.bytes()?,
            rows: bytes.list(|bytes| Ok((bytes.name()?, bytes.bytes()?)))?,
        })
    }
}

impl Mark {
    fn encode(&self, out: &mut Out) {
        match self {
            Mark::Opened { at, clock } => {
                out.u8(1);
                out.millis(*at);
                out.millis(*clock);
            }
            Mark::Clean { at, clock } => {
                out.u8(2);
                out.millis(*at);
                out.millis(*clock);
            }
            Mark::Dropped { positions, keys } => {
                out.u8(3);
                out.len(positions.len());
                positions.iter().for_each(|position| out.u64(*position));
                out.len(keys.len());
                for key in keys {
                    out.raw(&key.key);
                    out.u64(key.position);
                }
            }
            Mark::First { sequence } => {
                out.u8(4);
                out.u64(*sequence);
            }
            Mark::Clock { at, clock } => {
                out.u8(5);
                out.millis(*at);
                out.millis(*clock);
            }
        }
    }

    fn decode(bytes: &mut In) -> Result<Mark, Unreadable> {
        match bytes.u8()? {
            1 => Ok(Mark::Opened { at: bytes.millis()?, clock: bytes.millis()? }),
            2 => Ok(Mark::Clean { at: bytes.millis()?, clock: bytes.millis()? }),
            3 => Ok(Mark::Dropped {
                positions: bytes.list(In::u64)?,
                keys: bytes.list(|bytes| Ok(KeyDrop { key: bytes.array()?, position: bytes.u64()? }))?,
            }),
            4 => Ok(Mark::First { sequence: bytes.u64()? }),
            5 => Ok(Mark::Clock { at: bytes.millis()?, clock: bytes.millis()? }),
            _ => Err(Unreadable("a mark is of no known sort")),
        }
    }
}

/// On disk, in records and in the index.
pub(super) fn status_byte(status: Status) -> u8 {
    match status {
        Status::Open => 1,
        Status::Held => 2,
        Status::Parked => 3,
        Status::Done => 4,
        Status::Skipped => 5,
        Status::Dead => 6,
        Status::Cancelled => 7,
    }
}

pub(super) fn status_of(byte: u8) -> Result<Status, Unreadable> {
    use Status::*;
    [Open, Held, Parked, Done, Skipped, Dead, Cancelled]
        .into_iter()
        .find(|status| status_byte(*status) == byte)
        .ok_or(Unreadable("a status is not known"))
}

// === bytes ===

/// Writes little-endian numbers, and texts with their length in front.
pub(super) struct Out(pub Vec<u8>);

impl Out {
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(super) fn len(&mut self, len: usize) {
        self.u32(u32::try_from(len).expect("RECORD_BYTES_MAX is below 4 GiB"));
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.raw(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn name(&mut self, name: &Name) {
        let text = name.as_str();
        self.u8(u8::try_from(text.len()).expect("a name has at most 63 bytes"));
        self.raw(text.as_bytes());
    }

    pub(super) fn millis(&mut self, at: Millis) {
        self.u64(at.0);
    }

    pub(super) fn event(&mut self, event: EventRef) {
        self.u64(event.position);
        self.u16(event.ordinal);
    }

    pub(super) fn delivery(&mut self, delivery: &DeliveryId) {
        self.event(delivery.event);
        self.name(&delivery.subscription);
    }

    pub(super) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Out, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn json<T: Serialize>(&mut self, value: &T) {
        let text = serde_json::to_vec(value).expect("words have no maps with keys that are not text");
        self.bytes(&text);
    }
}

/// Reads what `Out` wrote. Nothing in it trusts a length.
pub(super) struct In<'a> {
    whole: &'a Bytes,
    at: usize,
}

impl<'a> In<'a> {
    pub(super) fn new(whole: &'a Bytes) -> In<'a> {
        In { whole, at: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.whole.len()
    }

    pub(super) fn end(&self) -> Result<(), Unreadable> {
        if self.is_empty() { Ok(()) } else { Err(Unreadable("it is longer than its parts")) }
    }

    /// Passes over what is left; returns how much that is.
    fn rest(&mut self) -> usize {
        let left = self.whole.len() - self.at;
        self.at = self.whole.len();
        left
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Unreadable> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.whole.len());
        let end = end.ok_or(Unreadable("it is shorter than its parts"))?;
        let bytes = &self.whole[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        Ok(self.take(N)?.try_into().expect("N bytes were taken"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, Unreadable> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Unreadable> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Unreadable> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Unreadable> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn flag(&mut self) -> Result<bool, Unreadable> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Unreadable("a flag is neither 0 nor 1")),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, Unreadable> {
        let len = self.u32()? as usize;
        let start = self.at;
        self.take(len)?;
        Ok(self.whole.slice(start..start + len))
    }

    pub(super) fn text(&mut self) -> Result<String, Unreadable> {
        let len = self.u32()? as usize;
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| Unreadable("a text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    pub(super) fn name(&mut self) -> Result<Name, Unreadable> {
        let len = usize::from(self.u8()?);
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| Unreadable("a name is not UTF-8"))?;
        Name::new(text).map_err(|_| Unreadable("a name is not one"))
    }

    pub(super) fn millis(&mut self) -> Result<Millis, Unreadable> {
        Ok(Millis(self.u64()?))
    }

    pub(super) fn event(&mut self) -> Result<EventRef, Unreadable> {
        Ok(EventRef { position: self.u64()?, ordinal: self.u16()? })
    }

    pub(super) fn delivery(&mut self) -> Result<DeliveryId, Unreadable> {
        Ok(DeliveryId { event: self.event()?, subscription: self.name()? })
    }

    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<Option<T>, Unreadable> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    pub(super) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<Vec<T>, Unreadable> {
        let len = self.u32()? as usize;
        // A length that lies costs no memory: items are read one by one.
        let mut items = Vec::with_capacity(len.min(64));
        for _ in 0..len {
            items.push(read(self)?);
        }
        Ok(items)
    }

    fn json<T: DeserializeOwned>(&mut self) -> Result<T, Unreadable> {
        let len = self.u32()? as usize;
        serde_json::from_slice(self.take(len)?).map_err(|_| Unreadable("its JSON is not what it should be"))
    }
}
