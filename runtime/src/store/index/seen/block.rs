//! Blocks: how a run of idempotency keys lies in the tree. `k` run first-hash -> up to `ENTRIES` keys in order.

use crate::store::claims::{Hash, Stored};
use crate::store::index::Blob;
use crate::store::{Error, keys};
use crate::words::event::EventRef;
use crate::words::limits::INDEX_VALUE_BYTES_MAX;
use crate::words::time::Millis;

/// An idempotency key, the event that it names, and when it is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    pub hash: Hash,
    pub stored: Stored,
    pub expires: Millis,
}

const ENTRY_BYTES: usize = 16 + 8 + 2 + 8 + 8;
/// As many as a value may hold.
pub(super) const ENTRIES: usize = INDEX_VALUE_BYTES_MAX / ENTRY_BYTES;

impl KeyEntry {
    /// Nobody asks for it any more: its window is over, and its event is dropped.
    pub(super) fn is_over(&self, now: Millis, base: u64) -> bool {
        self.expires <= now && self.stored.event.position < base
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hash);
        out.extend_from_slice(&self.stored.event.position.to_be_bytes());
        out.extend_from_slice(&self.stored.event.ordinal.to_be_bytes());
        out.extend_from_slice(&self.stored.body_hash.to_be_bytes());
        out.extend_from_slice(&self.expires.0.to_be_bytes());
    }

    fn read(bytes: &[u8; ENTRY_BYTES]) -> Result<KeyEntry, Error> {
        let event = EventRef {
            position: keys::number_in(bytes, 16)?,
            ordinal: u16::from_be_bytes([bytes[24], bytes[25]]),
        };
        let stored = Stored { event, body_hash: keys::number_in(bytes, 26)? };
        let hash = *bytes.first_chunk().expect("an entry is longer than a hash");
        Ok(KeyEntry { hash, stored, expires: Millis(keys::number_in(bytes, 34)?) })
    }
}

/// The key and the value of a block. The entries are in order, and there is at least one.
pub(super) fn encode(run: u64, entries: &[KeyEntry]) -> (Blob, Blob) {
    let mut value = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    entries.iter().for_each(|entry| entry.put(&mut value));
    (Blob::from(keys::seen_block(run, &entries[0].hash)), Blob::from(value))
}

pub(super) fn decode(value: &[u8]) -> Result<Vec<KeyEntry>, Error> {
    let (entries, rest) = value.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() || entries.is_empty() {
        return Err(Error::Index("a block of idempotency keys does not read".into()));
    }
    entries.iter().map(KeyEntry::read).collect()
}

/// The entry of one hash, of a block that may hold it.
pub(super) fn find(value: &[u8], hash: &Hash) -> Result<Option<KeyEntry>, Error> {
    let entries = decode(value)?;
    let found = entries.binary_search_by(|entry| entry.hash.cmp(hash));
    Ok(found.ok().map(|at| entries[at]))
}

/// In order, and of equal hashes the one that names the latest event.
pub(super) fn sort(entries: &mut Vec<KeyEntry>) {
    entries.sort_unstable_by_key(|entry| (entry.hash, std::cmp::Reverse(entry.stored.event)));
    entries.dedup_by_key(|entry| entry.hash);
}
