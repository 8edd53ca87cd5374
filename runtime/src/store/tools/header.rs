//! Header: what a segment's header said, found out from its batches where the header itself is damaged.
//!
//! Sixty-four bytes must not cost sixty-four megabytes. The salt in a damaged header may still be right; where it
//! is not, it follows from the first batch, whose place in the file is known: a checksum can be run backwards. No
//! other batch is asked for that, since a webhook's body may hold bytes that look like one.

use bytes::Bytes;

use crate::store::codec::KIND_MAX;
use crate::store::journal::NO_POSITION;
use crate::store::journal::disk::File;
use crate::store::journal::format::{
    BATCH_HEADER, BATCH_MAGIC, BatchHeader, SEGMENT_HEADER, SegmentHeader, read_body,
};

const SEARCH_BYTES: usize = 1 << 20;

/// None where nothing in the file can be recognised. `previous_batch` is left to who knows the segment before.
pub(super) fn find_out(
    file: &dyn File,
    number: u64,
    damaged: &[u8; SEGMENT_HEADER],
) -> Option<SegmentHeader> {
    let salt = number_at(damaged, 16);
    let first = first_batch(file)?;
    let (salt, base, batch) = with_salt(file, &first, salt)
        .or_else(|| with_salt(file, &first, solved_salt(&first)))
        .or_else(|| any_batch(file, salt))?;
    Some(SegmentHeader {
        salt,
        sequence: number,
        base,
        previous_batch: NO_POSITION,
        created_at: batch.written_at / 1000,
        kind_max: KIND_MAX,
    })
}

type Found = (u64, u64, BatchHeader);

fn first_batch(file: &dyn File) -> Option<[u8; BATCH_HEADER]> {
    let mut bytes = [0; BATCH_HEADER];
    let read = file.read_at(&mut bytes, SEGMENT_HEADER as u64).ok()?;
    (read == BATCH_HEADER).then_some(bytes)
}

/// The first batch, read whole under a salt.
fn with_salt(file: &dyn File, bytes: &[u8; BATCH_HEADER], salt: u64) -> Option<Found> {
    let base = number_at(bytes, 8);
    let header = BatchHeader::decode(bytes, salt, base)?;
    let mut body = vec![0; usize::try_from(header.body_bytes).ok()?];
    let read = file.read_at(&mut body, (SEGMENT_HEADER + BATCH_HEADER) as u64).ok()?;
    let is_whole = read == body.len() && read_body(&header, salt, &Bytes::from(body)).is_ok();
    is_whole.then_some((salt, base, header))
}

/// Any batch whose header holds under this salt, which no stranger knows.
fn any_batch(file: &dyn File, salt: u64) -> Option<Found> {
    let mut offset = SEGMENT_HEADER as u64;
    let mut bytes = vec![0; SEARCH_BYTES];
    loop {
        let read = file.read_at(&mut bytes, offset).ok()?;
        for at in
            (0..read.saturating_sub(BATCH_HEADER - 1)).filter(|at| bytes[*at..].starts_with(&BATCH_MAGIC))
        {
            let head: &[u8; BATCH_HEADER] = bytes[at..].first_chunk()?;
            let position = number_at(head, 8);
            let before = offset + at as u64 - SEGMENT_HEADER as u64;
            if let Some(header) = BatchHeader::decode(head, salt, position)
                && let Some(base) = position.checked_sub(before)
            {
                return Some((salt, base, header));
            }
        }
        if read < SEARCH_BYTES {
            return None;
        }
        offset += (SEARCH_BYTES - BATCH_HEADER) as u64;
    }
}

fn number_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"))
}

// === a checksum backwards ===

/// A salt under which this header holds. There are many; all of them check everything else alike, since a salt
/// only sets the state with which a checksum begins.
fn solved_salt(header: &[u8; BATCH_HEADER]) -> u64 {
    let tables = Tables::new();
    let crc = u32::from_le_bytes(header[60..64].try_into().expect("four bytes were sliced"));
    let state = header[..60].iter().rev().fold(!crc, |state, byte| tables.back(state, *byte));
    let state = header[8..16].iter().rev().fold(state, |state, byte| tables.back(state, *byte));
    // Four zero bytes of salt, then the four that lead to that state.
    let zeros = (0..4).fold(u32::MAX, |state, _| tables.forth(state, 0));
    let wanted = (0..4).fold(state, |state, _| tables.back(state, 0));
    u64::from(zeros ^ wanted) << 32
}

struct Tables {
    forth: [u32; 256],
    /// By the highest byte of an entry of `forth`: each has its own.
    back: [usize; 256],
}

impl Tables {
    fn new() -> Tables {
        let mut tables = Tables { forth: [0; 256], back: [0; 256] };
        for byte in 0..256_usize {
            let start = u32::try_from(byte).expect("below 256");
            let entry = (0..8).fold(start, |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)));
            tables.forth[byte] = entry;
            tables.back[(entry >> 24) as usize] = byte;
        }
        tables
    }

    fn forth(&self, state: u32, byte: u8) -> u32 {
        self.forth[((state ^ u32::from(byte)) & 0xFF) as usize] ^ (state >> 8)
    }

    fn back(&self, state: u32, byte: u8) -> u32 {
        let index = self.back[(state >> 24) as usize];
        let low = u32::try_from(index).expect("below 256") ^ u32::from(byte);
        ((state ^ self.forth[index]) << 8) | low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::journal::{BatchBuilder, Draft};

    fn header(position: u64) -> BatchHeader {
        BatchHeader {
            position,
            body_bytes: 0,
            records: 0,
            durable: position,
            durable_at: 5,
            written_at: 6,
            back: 0,
            records_crc: 0,
        }
    }

    #[test]
    fn a_salt_that_is_lost_follows_from_the_first_batch() {
        for (salt, position) in [(0x0123_4567_89AB_CDEF, 0x10_0000), (0, 0), (u64::MAX, 77)] {
            let mut batch = BatchBuilder::new(salt, position, Vec::new());
            batch.push(&Draft::new(1, b"payload".to_vec()), 0);
            let (_, bytes) = batch.seal(header(position));
            let head: &[u8; BATCH_HEADER] = bytes.first_chunk().unwrap();
            let solved = solved_salt(head);
            let read = BatchHeader::decode(head, solved, position).unwrap();
            let body = Bytes::copy_from_slice(&bytes[BATCH_HEADER..]);
            assert_eq!(read_body(&read, solved, &body).unwrap().len(), 1, "the records hold under it too");
            let later = header(position + 500).encode(salt);
            assert!(BatchHeader::decode(&later, solved, position + 500).is_some(), "and every other batch");
        }
    }
}
