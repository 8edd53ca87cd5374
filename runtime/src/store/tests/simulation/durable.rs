//! What lies safe on the simulated disk, read from its bytes alone.

use bytes::Bytes;

use crate::store::codec::Record;
use crate::store::journal::format::{
    BATCH_HEADER, BatchHeader, RawRecord, SEGMENT_HEADER, SegmentHeader, read_body,
};
use crate::store::journal::simulated::Simulated;
use crate::words::event::EventRef;

/// Where to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Safety {
    /// What no machine crash can take.
    Platter,
    /// What no crash of the process can take.
    Cache,
}

/// The batch that begins at `position`, in the segment that a start would read it from.
pub(super) fn batch_at(disk: &Simulated, safety: Safety, position: u64) -> Option<Vec<RawRecord>> {
    segment_of(disk, safety, position).and_then(|(header, bytes)| read_batch(&header, &bytes, position))
}

fn read_batch(segment: &SegmentHeader, bytes: &[u8], position: u64) -> Option<Vec<RawRecord>> {
    let at = SEGMENT_HEADER + usize::try_from(position - segment.base).ok()?;
    let head = bytes.get(at..)?.first_chunk::<BATCH_HEADER>()?;
    let header = BatchHeader::decode(head, segment.salt, position)?;
    let body = bytes.get(at + BATCH_HEADER..at + BATCH_HEADER + header.body_bytes as usize)?;
    read_body(&header, segment.salt, &Bytes::copy_from_slice(body)).ok()
}

/// The last segment that begins at or before `position`.
fn segment_of(disk: &Simulated, safety: Safety, position: u64) -> Option<(SegmentHeader, Vec<u8>)> {
    let mut found: Option<(SegmentHeader, Vec<u8>)> = None;
    let mut visit = |path: &std::path::Path, bytes: &[u8]| {
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        let header = bytes.first_chunk().filter(|_| is_segment);
        let Some(header) = header.and_then(|header| SegmentHeader::decode(header).ok()) else { return };
        let is_later = found.as_ref().is_none_or(|(known, _)| known.sequence < header.sequence);
        if header.base <= position && is_later {
            found = Some((header, bytes.to_vec()));
        }
    };
    match safety {
        Safety::Platter => disk.for_each_durable(&mut visit),
        Safety::Cache => disk.for_each_cached(&mut visit),
    }
    found
}

/// Whether the record of an event is there, whole. Where it was copied forward, a batch says so.
pub(super) fn has_event(disk: &Simulated, safety: Safety, event: EventRef) -> bool {
    let Some((segment, bytes)) = segment_of(disk, safety, event.position) else { return false };
    // Its batch is not known: they are read from the beginning of the segment.
    let mut position = segment.base;
    while position <= event.position {
        let Some(records) = read_batch(&segment, &bytes, position) else { return false };
        if let Some(raw) = records.iter().find(|raw| raw.position == event.position) {
            return matches!(Record::decode(raw.kind, &raw.payload), Ok(Record::Accept(accept))
                if accept.events.len() > usize::from(event.ordinal));
        }
        let Some(last) = records.last() else { return false };
        position = last.position + (crate::store::journal::format::RECORD_HEADER + last.payload.len()) as u64;
    }
    false
}
