//! Segments: the files of the journal as one space of positions, for reading.
//!
//! A position is a place in the whole history, not in a file: a segment covers the positions from its base to
//! the base of the next. Segments are dropped from the oldest on, so the space has one beginning and one end.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use super::disk::File;
use super::format::{
    BATCH_HEADER, BatchHeader, NO_POSITION, RECORD_HEADER, RawRecord, RecordHeader, SEGMENT_HEADER,
    SegmentHeader, check_payload, read_body,
};
use crate::store::Error;

/// What is read at once for a record whose length is not known: most records, headers included, fit.
const FIRST_READ_BYTES: usize = 4096;
const ZEROS_READ_BYTES: usize = 64 * 1024;

pub struct Segment {
    pub header: SegmentHeader,
    pub path: PathBuf,
    pub file: Arc<dyn File>,
}

pub struct Segments {
    list: RwLock<Vec<Arc<Segment>>>,
    /// Behind the last batch that may be read.
    end: AtomicU64,
    /// Where that batch begins, or `NO_POSITION`.
    last_batch: AtomicU64,
}

impl Segments {
    pub fn new(list: Vec<Arc<Segment>>, end: u64, last_batch: u64) -> Segments {
        Segments { list: RwLock::new(list), end: AtomicU64::new(end), last_batch: AtomicU64::new(last_batch) }
    }

    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Lets readers see a batch and everything before it.
    pub fn publish(&self, end: u64, last_batch: u64) {
        self.end.store(end, Ordering::Release);
        self.last_batch.store(last_batch, Ordering::Release);
    }

    /// Where the last batch begins; None: there is none that is left.
    pub fn last_batch(&self) -> Option<u64> {
        let last = self.last_batch.load(Ordering::Acquire);
        (last != NO_POSITION && last >= self.base()).then_some(last)
    }

    pub fn list(&self) -> Vec<Arc<Segment>> {
        self.list.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lowest position that can still be read.
    pub fn base(&self) -> u64 {
        self.list.read().unwrap_or_else(PoisonError::into_inner).first().map_or(0, |first| first.header.base)
    }

    pub fn push(&self, segment: Arc<Segment>) {
        self.list.write().unwrap_or_else(PoisonError::into_inner).push(segment);
    }

    /// Takes the oldest segment out; readers that already hold it go on.
    pub fn remove_oldest(&self) -> Option<Arc<Segment>> {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        (list.len() > 1).then(|| list.remove(0))
    }

    /// The segment that covers `position`; None where it was dropped or is not written yet.
    fn find(&self, position: u64) -> Option<Arc<Segment>> {
        if position >= self.end() {
            return None;
        }
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let after = list.partition_point(|segment| segment.header.base <= position);
        list.get(after.checked_sub(1)?).cloned()
    }

    /// One record, checked. None where its segment was dropped.
    pub fn record(&self, position: u64) -> Result<Option<RawRecord>, Error> {
        self.find(position).map(|segment| segment.record(position)).transpose()
    }

    /// Whether a record begins at a position that somebody typed; true where its segment was dropped.
    pub fn may_be_record(&self, position: u64) -> Result<bool, Error> {
        let Some(segment) = self.find(position) else { return Ok(true) };
        let bytes = segment.read(position, RECORD_HEADER)?;
        let head = bytes.first_chunk();
        Ok(head.is_some_and(|head| RecordHeader::decode(head, segment.header.salt, position).is_some()))
    }

    /// The same of a batch.
    pub fn may_be_batch(&self, position: u64) -> Result<bool, Error> {
        let Some(segment) = self.find(position) else { return Ok(true) };
        let bytes = segment.read(position, BATCH_HEADER)?;
        let head = bytes.first_chunk();
        Ok(head.is_some_and(|head| BatchHeader::decode(head, segment.header.salt, position).is_some()))
    }

    /// The header of the batch that begins at `position`; None at the end or where its segment was dropped.
    pub fn batch_header(&self, position: u64) -> Result<Option<BatchHeader>, Error> {
        self.find(position).map(|segment| segment.batch_header(position)).transpose()
    }

    /// The batch that begins at `position`, whole and checked.
    pub fn batch(&self, position: u64) -> Result<Option<(BatchHeader, Vec<RawRecord>)>, Error> {
        let Some(segment) = self.find(position) else { return Ok(None) };
        let header = segment.batch_header(position)?;
        Ok(Some((header, segment.batch_records(&header)?)))
    }

    /// For an error about what lies at a position.
    pub fn damaged(&self, position: u64, why: &str) -> Error {
        match self.find(position) {
            Some(segment) => segment.damaged(position, why),
            None => Error::Damaged { segment: PathBuf::new(), offset: position, why: why.to_owned() },
        }
    }

    pub fn path_of(&self, position: u64) -> PathBuf {
        self.find(position).map(|segment| segment.path.clone()).unwrap_or_default()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        let headers = self.list().len() * SEGMENT_HEADER;
        self.end().saturating_sub(self.base()) + headers as u64
    }

    /// Where the batch before this one begins; None for the first that is left.
    pub fn before(&self, header: &BatchHeader) -> Option<u64> {
        let before = match header.back {
            0 => self.find(header.position)?.header.previous_batch,
            back => header.position - u64::from(back),
        };
        (before != NO_POSITION && before >= self.base()).then_some(before)
    }
}

impl Segment {
    pub fn offset(&self, position: u64) -> u64 {
        SEGMENT_HEADER as u64 + (position - self.header.base)
    }

    pub fn damaged(&self, position: u64, why: impl Into<String>) -> Error {
        Error::Damaged { segment: self.path.clone(), offset: self.offset(position), why: why.into() }
    }

    pub fn io(&self, source: std::io::Error) -> Error {
        Error::Io { what: "cannot read segment", path: self.path.clone(), source }
    }

    /// Bytes of the file without the zeros that it was filled with for appending. A last record that ends in zeros
    /// may reach beyond.
    pub fn written_bytes(&self) -> Result<u64, Error> {
        let mut end = self.file.length().map_err(|error| self.io(error))?;
        let mut bytes = vec![0; ZEROS_READ_BYTES];
        while end > 0 {
            let start = end.saturating_sub(ZEROS_READ_BYTES as u64);
            let wanted = &mut bytes[..(end - start) as usize];
            let read = self.file.read_at(wanted, start).map_err(|error| self.io(error))?;
            if let Some(last) = wanted[..read].iter().rposition(|byte| *byte != 0) {
                return Ok(start + last as u64 + 1);
            }
            end = start;
        }
        Ok(0)
    }

    /// As many bytes as the file has, at most `len`.
    pub fn read(&self, position: u64, len: usize) -> Result<Bytes, Error> {
        let mut bytes = vec![0; len];
        let read = self.file.read_at(&mut bytes, self.offset(position)).map_err(|error| self.io(error))?;
        bytes.truncate(read);
        Ok(Bytes::from(bytes))
    }

    pub fn batch_header(&self, position: u64) -> Result<BatchHeader, Error> {
        let bytes = self.read(position, BATCH_HEADER)?;
        bytes
            .first_chunk()
            .and_then(|head| BatchHeader::decode(head, self.header.salt, position))
            .ok_or_else(|| self.damaged(position, "there is no batch"))
    }

    pub fn batch_records(&self, header: &BatchHeader) -> Result<Vec<RawRecord>, Error> {
        let start = header.position + BATCH_HEADER as u64;
        let body = self.read(start, header.body_bytes as usize)?;
        if body.len() < header.body_bytes as usize {
            return Err(self.damaged(start, "a batch is cut off"));
        }
        read_body(header, self.header.salt, &body).map_err(|(at, why)| self.damaged(start + at as u64, why))
    }

    /// Whether it has everything before `end`. Then nothing is missing behind it: what began there was left by starts
    /// that died, and the name of the last one is on disk and that of one before it is not.
    pub fn reaches(&self, end: u64) -> bool {
        let mut position = self.header.base;
        while position < end {
            let batch = self.batch_header(position);
            let Ok(header) = batch.and_then(|header| self.batch_records(&header).map(|_| header)) else {
                return false;
            };
            position = header.end();
        }
        position == end
    }

    fn record(&self, position: u64) -> Result<RawRecord, Error> {
        let bytes = self.read(position, FIRST_READ_BYTES)?;
        let head = bytes
            .first_chunk()
            .and_then(|head| RecordHeader::decode(head, self.header.salt, position))
            .ok_or_else(|| self.damaged(position, "there is no record"))?;
        let len = head.payload_bytes as usize;
        let whole = RECORD_HEADER + len;
        let payload = if whole <= bytes.len() {
            bytes.slice(RECORD_HEADER..whole)
        } else {
            self.read(position + RECORD_HEADER as u64, len)?
        };
        if payload.len() < len {
            return Err(self.damaged(position, "a record is cut off"));
        }
        check_payload(&head, &payload).map_err(|why| self.damaged(position, why))?;
        let batch = position - u64::from(head.from_batch);
        Ok(RawRecord { position, kind: head.kind, link: head.link, batch, payload })
    }
}
