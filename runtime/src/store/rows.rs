//! Rows: what the index knows of a delivery, and how each record changes it.

use bytes::Bytes;

use super::codec::{AcceptRecord, EventRecord, HoldRecord, In, Out, RulingRecord, SettleRecord, Unreadable};
use super::codec::{status_byte, status_of};
use super::index::Blob;
use super::{DeliveryFilter, Error, NewDelivery, OpenDelivery, Ruling, Status};
use crate::words::attempt::{ErrorKind, Outcome, Verdict};
use crate::words::event::{DeliveryId, Name};
use crate::words::limits::EVENT_TYPE_BYTES_MAX;
use crate::words::time::Millis;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub status: Status,
    pub test: bool,
    pub handler: Name,
    pub source: Name,
    pub event_type: String,
    /// When its event was received.
    pub accepted_at: Millis,
    /// From when the time to give up counts: acceptance, or the operator's last `retry`.
    pub counted_from: Millis,
    /// The same moment by the time of expiry: from when it grows too old.
    pub aged_from: Millis,
    /// Meant only while it is open.
    pub due: Millis,
    pub ended_at: Option<Millis>,
    /// Number of the last attempt that is over, whether it ended or was interrupted.
    pub attempts: u32,
    pub begun_without_end: u32,
    /// Position of the last record that changed this row: an earlier one, read again, changes nothing.
    pub changed_at: u64,
    /// Position of the last record of its chain, or 0.
    pub head: u64,
    /// Of its event's record, for the count of live bytes.
    pub bytes: u64,
    /// Of the records that were written about it since.
    pub chain_bytes: u64,
    /// That record has other deliveries too.
    pub shared: bool,
    pub last_status: Option<u16>,
    pub last_took_ms: Option<u64>,
    pub error_kind: Option<ErrorKind>,
}

impl Row {
    pub(super) fn accepted(
        record: &AcceptRecord,
        event: &EventRecord,
        delivery: &NewDelivery,
        position: u64,
        bytes: u64,
        shared: bool,
    ) -> Row {
        Row {
            status: Status::Open,
            test: event.test,
            handler: delivery.handler.clone(),
            source: record.source.clone(),
            event_type: cut(&event.event_type).to_owned(),
            accepted_at: record.received_at,
            counted_from: record.received_at,
            aged_from: record.clock,
            // A wall clock that was ahead must not put it off.
            due: record.received_at.min(record.clock),
            ended_at: None,
            attempts: 0,
            begun_without_end: 0,
            changed_at: position,
            head: 0,
            bytes,
            chain_bytes: 0,
            shared,
            last_status: None,
            last_took_ms: None,
            error_kind: None,
        }
    }

    pub(super) fn status_byte(&self) -> u8 {
        status_byte(self.status)
    }

    pub(super) fn error_byte(&self) -> Option<u8> {
        self.error_kind.map(error_byte)
    }

    /// Whether a filter lets it through, but for times and the text of an error.
    pub(super) fn is(&self, filter: &DeliveryFilter) -> bool {
        filter.source.as_ref().is_none_or(|source| *source == self.source)
            && filter.event_type.as_ref().is_none_or(|text| cut(text) == self.event_type)
            && filter.handler.as_ref().is_none_or(|handler| *handler == self.handler)
            && filter.status.is_none_or(|status| status == self.status)
            && filter.error_kind.is_none_or(|kind| self.error_kind == Some(kind))
    }

    /// Its event may not be dropped.
    pub(super) fn is_live(&self) -> bool {
        !self.status.is_ended()
    }

    pub(super) fn open(&self, id: DeliveryId) -> OpenDelivery {
        OpenDelivery {
            id,
            handler: self.handler.clone(),
            due: self.due,
            accepted_at: self.aged_from,
            attempts: self.attempts,
            begun_without_end: self.begun_without_end,
        }
    }

    pub(super) fn begun(&mut self) {
        self.begun_without_end += 1;
    }

    pub(super) fn settled(&mut self, record: &SettleRecord) {
        let attempt = &record.attempt;
        // A ruling or a later attempt came between: what this one returned is history only.
        if attempt.number <= self.attempts {
            return;
        }
        // Of an ended delivery only what is under way is left to count.
        let passed = attempt.number - self.attempts;
        self.attempts = attempt.number;
        self.begun_without_end =
            if self.status.is_ended() { self.begun_without_end.saturating_sub(passed) } else { 0 };
        self.last_status = attempt.calls.last().and_then(|call| call.status);
        self.last_took_ms = Some(attempt.took_ms);
        self.error_kind = match &attempt.outcome {
            Outcome::Failed { kind, .. } => Some(*kind),
            Outcome::Done { .. } | Outcome::Skipped { .. } => None,
        };
        // The operator's word stands, and that of retention: nothing that has ended opens again by itself.
        if self.status.is_ended() {
            return;
        }
        let status = match &record.verdict {
            Verdict::Done => Status::Done,
            Verdict::Skipped => Status::Skipped,
            Verdict::Dead { .. } => Status::Dead,
            Verdict::Parked { .. } => Status::Parked,
            Verdict::Again { at } => {
                self.due = *at;
                Status::Open
            }
        };
        self.become_at(status, record.at);
    }

    pub(super) fn held(&mut self, record: &HoldRecord) {
        self.become_at(record.status, record.at);
    }

    pub(super) fn ruled(&mut self, record: &RulingRecord) {
        match record.ruling {
            Ruling::Retry => {
                self.attempts += self.begun_without_end;
                self.begun_without_end = 0;
                self.counted_from = record.at;
                self.aged_from = record.clock;
                self.due = record.at;
                self.become_at(Status::Open, record.at);
            }
            Ruling::Cancel => self.become_at(Status::Cancelled, record.at),
        }
    }

    fn become_at(&mut self, status: Status, at: Millis) {
        self.status = status;
        self.ended_at = status.is_ended().then_some(at);
    }

    pub(super) fn encode(&self) -> Blob {
        let mut out = Out(Vec::with_capacity(160));
        out.u8(status_byte(self.status));
        out.flag(self.test);
        out.name(&self.handler);
        out.name(&self.source);
        out.text(&self.event_type);
        out.millis(self.accepted_at);
        out.millis(self.counted_from);
        out.millis(self.aged_from);
        out.millis(self.due);
        out.option(self.ended_at, Out::millis);
        out.u32(self.attempts);
        out.u32(self.begun_without_end);
        out.u64(self.changed_at);
        out.u64(self.head);
        out.u64(self.bytes);
        out.u64(self.chain_bytes);
        out.flag(self.shared);
        out.option(self.last_status, Out::u16);
        out.option(self.last_took_ms, Out::u64);
        out.option(self.error_kind.map(error_byte), Out::u8);
        Blob::from(out.0)
    }

    pub(super) fn decode(value: &[u8]) -> Result<Row, Error> {
        Row::read(&Bytes::copy_from_slice(value)).map_err(|error| Error::Index(error.to_string()))
    }

    fn read(value: &Bytes) -> Result<Row, Unreadable> {
        let mut bytes = In::new(value);
        let row = Row {
            status: status_of(bytes.u8()?)?,
            test: bytes.flag()?,
            handler: bytes.name()?,
            source: bytes.name()?,
            event_type: bytes.text()?,
            accepted_at: bytes.millis()?,
            counted_from: bytes.millis()?,
            aged_from: bytes.millis()?,
            due: bytes.millis()?,
            ended_at: bytes.option(In::millis)?,
            attempts: bytes.u32()?,
            begun_without_end: bytes.u32()?,
            changed_at: bytes.u64()?,
            head: bytes.u64()?,
            bytes: bytes.u64()?,
            chain_bytes: bytes.u64()?,
            shared: bytes.flag()?,
            last_status: bytes.option(In::u16)?,
            last_took_ms: bytes.option(In::u64)?,
            error_kind: bytes.option(|bytes| error_of(bytes.u8()?))?,
        };
        bytes.end()?;
        Ok(row)
    }
}

#[cfg(test)]
impl Row {
    pub(super) fn ended_example() -> Row {
        let name = Name::new("crm").expect("it is a name");
        Row {
            status: Status::Done,
            test: false,
            handler: name.clone(),
            source: name,
            event_type: "message.received".into(),
            accepted_at: Millis(1),
            counted_from: Millis(1),
            aged_from: Millis(1),
            due: Millis(1),
            ended_at: Some(Millis(2)),
            attempts: 1,
            begun_without_end: 0,
            changed_at: 7,
            head: 7,
            bytes: 700,
            chain_bytes: 300,
            shared: false,
            last_status: Some(200),
            last_took_ms: Some(3),
            error_kind: None,
        }
    }
}

/// `verify` keeps types below this; the index does not depend on it.
pub(super) fn cut(event_type: &str) -> &str {
    &event_type[..event_type.floor_char_boundary(EVENT_TYPE_BYTES_MAX)]
}

const ERROR_KINDS: [ErrorKind; 9] = [
    ErrorKind::Retry,
    ErrorKind::Reject,
    ErrorKind::Trap,
    ErrorKind::Timeout,
    ErrorKind::Memory,
    ErrorKind::Denied,
    ErrorKind::Host,
    ErrorKind::Interrupted,
    ErrorKind::Uncertain,
];

/// Its place in `ERROR_KINDS`, which only ever grows at its end.
pub(super) fn error_byte(kind: ErrorKind) -> u8 {
    let at = ERROR_KINDS.iter().position(|known| *known == kind).expect("every kind is listed");
    u8::try_from(at).expect("there are nine")
}

fn error_of(byte: u8) -> Result<ErrorKind, Unreadable> {
    ERROR_KINDS.get(usize::from(byte)).copied().ok_or(Unreadable("a kind of error is not known"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_and_the_largest_fits_the_index() {
        let name = Name::new(&"n".repeat(63)).unwrap();
        let row = Row {
            status: Status::Dead,
            test: true,
            handler: name.clone(),
            source: name,
            event_type: "t".repeat(EVENT_TYPE_BYTES_MAX),
            accepted_at: Millis(1),
            counted_from: Millis(2),
            aged_from: Millis(2),
            due: Millis(3),
            ended_at: Some(Millis(4)),
            attempts: 5,
            begun_without_end: 6,
            changed_at: 7,
            head: 8,
            bytes: 9,
            chain_bytes: 10,
            shared: true,
            last_status: Some(503),
            last_took_ms: Some(10),
            error_kind: Some(ErrorKind::Interrupted),
        };
        let bytes = row.encode();
        assert!(bytes.len() < crate::words::limits::INDEX_VALUE_BYTES_MAX);
        assert_eq!(Row::decode(&bytes).unwrap(), row);
        for kind in ERROR_KINDS {
            assert_eq!(error_of(error_byte(kind)), Ok(kind));
        }
    }
}
