//! Index: what is in it can be read from the journal again.
//!
//! It holds small values only, says itself how far it has come, and is believed only where a lie would have been
//! noticed. `tree` is the seam to the map that carries it, `on_sled` the map that the daemon has.

use std::ops::Bound;
use std::time::{Duration, Instant};

use super::claims::Hash;
use super::drill::bound;
use super::rows::Row;
use super::{DeliveryFilter, Error, keys};
use crate::words::event::DeliveryId;
use crate::words::limits::{INDEX_VALUE_BYTES_MAX, SEEN_STEP_BLOCKS};
use crate::words::time::Millis;
use past::Past;
use seen::Seen;

#[cfg(test)]
pub(super) mod in_memory;
pub(super) mod on_sled;
mod past;
mod seen;
pub(super) mod tree;

pub(super) use past::{Ended, Walk};
pub(super) use seen::KeyEntry;
pub(super) use tree::{Blob, Home, Range};

/// Everything that begins with `prefix`.
pub(super) fn prefixed(prefix: &[u8]) -> Range {
    let end = keys::after_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(prefix.to_vec()), end)
}

/// Raised when the layout of `keys` or of a value changes: an index of another number is rebuilt.
const SCHEMA: u64 = 3;

pub(super) struct Index {
    tree: Box<dyn tree::Tree>,
    seen: Seen,
    past: Past,
}

/// How far the index has come, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Everything below is in it.
    pub position: u64,
    /// The batch that ends there, and when it was written: tells this journal from another.
    pub batch: u64,
    pub written_at: u64,
    pub boot: String,
    /// Where the mark of the clean stop lies that it was written out for.
    pub clean: Option<u64>,
}

fn check_size((_, value): &(Blob, Option<Blob>)) {
    let len = value.as_ref().map_or(0, |value| value.len());
    assert!(len <= INDEX_VALUE_BYTES_MAX, "a value of the index is too large");
}

impl Index {
    pub(super) fn open(home: &dyn Home) -> Result<Index, Error> {
        let tree = home.open()?;
        let seen = Seen::open(&*tree)?;
        let past = Past::open(&*tree)?;
        Ok(Index { tree, seen, past })
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Blob>, Error> {
        self.tree.get(key)
    }

    /// Up to `max` entries from one end of a range.
    pub(super) fn page(&self, range: Range, reverse: bool, max: usize) -> Result<Vec<(Blob, Blob)>, Error> {
        self.tree.page(range, reverse, max)
    }

    /// All or nothing, together with how far the index has come. Only the blocks of idempotency keys go first, in
    /// steps, with a `rest` behind each: nobody reads them before the last batch names their run.
    pub(super) fn apply(
        &self,
        ops: impl Iterator<Item = (Blob, Option<Blob>)>,
        keys: Vec<KeyEntry>,
        ended: &[Ended],
        progress: (u64, u64, u64),
        rest: &dyn Fn(Duration),
    ) -> Result<(), Error> {
        let began = Instant::now();
        let run = self.seen.written(keys);
        rest(began.elapsed());
        for blocks in run.iter().flat_map(|run| run.blocks.chunks(bound(SEEN_STEP_BLOCKS))) {
            let began = Instant::now();
            let blocks = blocks.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
            self.tree.apply(&mut blocks.inspect(check_size))?;
            rest(began.elapsed());
        }
        let (position, last_batch, written_at) = progress;
        let progress = [
            (Blob::from(keys::POSITION), Some(Blob::from(&position.to_be_bytes()))),
            (
                Blob::from(keys::BATCH),
                Some(Blob::from([last_batch.to_be_bytes(), written_at.to_be_bytes()].concat())),
            ),
        ];
        let named = run.as_ref().map(|run| run.meta());
        let checked = ops.chain(named).chain(self.past.written(ended)).inspect(check_size);
        self.tree.apply(&mut checked.chain(progress))?;
        run.into_iter().for_each(|run| self.seen.add(run));
        self.past.applied(ended);
        Ok(())
    }

    /// What is known of an idempotency key, in its window or not.
    pub(super) fn seen(&self, hash: &Hash) -> Result<Option<KeyEntry>, Error> {
        self.seen.find(&*self.tree, hash)
    }

    /// Idempotency keys in it, counted twice where two runs have one.
    pub(super) fn keys(&self) -> u64 {
        self.seen.keys()
    }

    /// One bounded step of what is to be done behind everybody's back. False: there is nothing.
    pub(super) fn tidy(&self, now: Millis, base: u64) -> Result<bool, Error> {
        Ok(self.past.step(&*self.tree, base)? || self.seen.step(&*self.tree, now, base)?)
    }

    /// The same, as often as it must be where new runs come one after the other.
    pub(super) fn tidy_if_behind(&self, base: u64) -> Result<(), Error> {
        while (self.seen.is_behind() || self.past.is_behind()) && self.tidy(Millis(0), base)? {}
        Ok(())
    }

    // === deliveries that ended ===

    /// From here on everybody sees these; they are in the index when their generation is.
    pub(super) fn note_ended(&self, ended: impl Iterator<Item = Ended>) {
        self.past.note(ended);
    }

    /// The row of a delivery that ended, as it ended last.
    pub(super) fn ended(&self, id: &DeliveryId) -> Result<Option<Row>, Error> {
        self.past.find(&*self.tree, id)
    }

    /// Rows of deliveries that ended, from the newest delivery before `below` on; see `past`.
    pub(super) fn walk_ended<'a>(
        &'a self,
        filter: &'a DeliveryFilter,
        below: Option<&DeliveryId>,
    ) -> Walk<'a> {
        self.past.walk(&*self.tree, filter, below)
    }

    /// None where it was made by another version, or is empty.
    pub(super) fn progress(&self) -> Result<Option<Progress>, Error> {
        if self.number(keys::SCHEMA)? != Some(SCHEMA) {
            return Ok(None);
        }
        let Some(position) = self.number(keys::POSITION)? else { return Ok(None) };
        let batch = self.get(keys::BATCH)?.unwrap_or_default();
        let boot = self.get(keys::BOOT)?.unwrap_or_default();
        Ok(Some(Progress {
            position,
            batch: keys::number_in(&batch, 0)?,
            written_at: keys::number_in(&batch, 8)?,
            boot: String::from_utf8_lossy(&boot).into_owned(),
            clean: self.number(keys::CLEAN)?,
        }))
    }

    /// From here on the index is only to be believed within this boot.
    pub(super) fn opened(&self, boot: &str) -> Result<(), Error> {
        let word = [
            (Blob::from(keys::SCHEMA), Some(Blob::from(&SCHEMA.to_be_bytes()))),
            (Blob::from(keys::BOOT), Some(Blob::from(boot.as_bytes()))),
            (Blob::from(keys::CLEAN), None),
        ];
        self.tree.apply(&mut word.into_iter())?;
        self.tree.flush()
    }

    /// Written out whole, with the place of the mark that will say so.
    pub(super) fn closed(&self, clean: u64) -> Result<(), Error> {
        let word = (Blob::from(keys::CLEAN), Some(Blob::from(&clean.to_be_bytes())));
        self.tree.apply(&mut std::iter::once(word))?;
        self.tree.sync()
    }

    /// What was applied survives this process.
    pub(super) fn flush(&self) -> Result<(), Error> {
        self.tree.flush()
    }

    /// The next start shall not believe it. Where not even that can be written, that start finds out by itself.
    pub(super) fn disown(&self) {
        let _ = self.tree.apply(&mut std::iter::once((Blob::from(keys::SCHEMA), None)));
        let _ = self.tree.flush();
    }

    /// What no code of ours would write.
    #[cfg(test)]
    pub(super) fn put_raw(&self, key: &[u8], value: &[u8]) {
        self.tree.apply(&mut std::iter::once((Blob::from(key), Some(Blob::from(value))))).unwrap();
        self.tree.flush().unwrap();
    }

    pub(super) fn size_on_disk(&self) -> u64 {
        self.tree.size_on_disk()
    }

    pub(super) fn number(&self, key: &[u8]) -> Result<Option<u64>, Error> {
        self.get(key)?.map(|value| keys::number_in(&value, 0)).transpose()
    }
}
