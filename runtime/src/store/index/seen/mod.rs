//! Seen: which event ids are known. Sorted runs of keys in the tree, a filter in memory before each.
//!
//! One key of sled for each event cost more than everything else that an accept does. So the keys of a generation
//! are sorted and written as a run of blocks, two dozen keys to a value, and runs of like size are merged in small
//! steps (`merge`), four at a time: a key is written again once for each fourfold growth, and there are at most
//! three runs of each size. Where several runs have a key, the one that names the latest event counts: a copy that
//! retention brings forward never hides a later event.

mod block;
mod filter;
mod merge;

use std::ops::Bound;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;

pub use block::KeyEntry;

use super::tree::{Blob, Tree};
use crate::store::claims::Hash;
use crate::store::{Error, keys};
use crate::words::time::Millis;
use filter::Filter;
use merge::Work;

/// What one run is, beside its blocks.
struct Run {
    number: u64,
    keys: u64,
    expires_max: Millis,
    position_max: u64,
    /// Until it is filled, the tree is asked.
    filter: OnceLock<Filter>,
}

pub struct Seen {
    runs: ArcSwap<Vec<Arc<Run>>>,
    work: Mutex<Work>,
}

/// Changes of the tree.
pub(super) type Ops = Vec<(Blob, Option<Blob>)>;

/// A run that is ready to be written: its blocks, and after them its name.
pub(super) struct Written {
    run: Arc<Run>,
    pub blocks: Vec<(Blob, Blob)>,
}

impl Written {
    pub(super) fn meta(&self) -> (Blob, Option<Blob>) {
        self.run.meta()
    }
}

impl Seen {
    /// Reads which runs there are. Blocks of others are left from a merge that was cut short.
    pub(super) fn open(tree: &dyn Tree) -> Result<Seen, Error> {
        let mut runs = Vec::new();
        let mut range = super::prefixed(&keys::seen_runs());
        loop {
            let page = tree.page(range.clone(), false, 128)?;
            for (key, value) in &page {
                runs.push(Arc::new(Run::decode(keys::number_in(key, 1)?, value)?));
            }
            match page.last() {
                Some((key, _)) => range.0 = Bound::Excluded(key.to_vec()),
                None => break,
            }
        }
        let work = Work::after(tree, &runs)?;
        Ok(Seen { runs: ArcSwap::from_pointee(runs), work: Mutex::new(work) })
    }

    /// What is known of a key, expired or not.
    pub(super) fn find(&self, tree: &dyn Tree, hash: &Hash) -> Result<Option<KeyEntry>, Error> {
        loop {
            let runs = self.runs.load_full();
            let mut latest: Option<KeyEntry> = None;
            for run in runs.iter().filter(|run| run.may_have(hash)) {
                let found = run.find(tree, hash)?;
                latest = [latest, found].into_iter().flatten().max_by_key(|entry| entry.stored.event);
            }
            // A run that was merged meanwhile may have lost the block: its keys are in another one now.
            if Arc::ptr_eq(&runs, &self.runs.load()) {
                return Ok(latest);
            }
        }
    }

    /// A new run of these keys. It counts from the batch on that names it.
    pub(super) fn written(&self, mut entries: Vec<KeyEntry>) -> Option<Written> {
        block::sort(&mut entries);
        let number = (!entries.is_empty()).then(|| self.work().take_number())?;
        let mut filter = Filter::for_keys(entries.len() as u64);
        entries.iter().for_each(|entry| filter.insert(&entry.hash));
        let mut run = Run::of(number);
        entries.iter().for_each(|entry| run.count(entry));
        let run = Run { filter: OnceLock::from(filter), ..run };
        let blocks = entries.chunks(block::ENTRIES).map(|entries| block::encode(number, entries)).collect();
        Some(Written { run: Arc::new(run), blocks })
    }

    /// The run is in the tree.
    pub(super) fn add(&self, written: Written) {
        self.change(&[], Some(written.run));
    }

    /// One bounded step of what there is to do behind everybody's back. False: nothing is left.
    pub(super) fn step(&self, tree: &dyn Tree, now: Millis, base: u64) -> Result<bool, Error> {
        self.work().step(self, tree, now, base)
    }

    /// There are more runs than merging should leave: it comes before new ones.
    pub(super) fn is_behind(&self) -> bool {
        self.runs.load().len() > merge::RUNS_MANY
    }

    pub(super) fn keys(&self) -> u64 {
        self.runs.load().iter().map(|run| run.keys).sum()
    }

    #[cfg(test)]
    pub(super) fn runs(&self) -> usize {
        self.runs.load().len()
    }

    fn change(&self, gone: &[u64], new: Option<Arc<Run>>) {
        let runs = self.runs.load();
        let left = runs.iter().filter(|run| !gone.contains(&run.number)).cloned().chain(new);
        self.runs.store(Arc::new(left.collect()));
    }

    fn work(&self) -> std::sync::MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    fn of(number: u64) -> Run {
        Run { number, keys: 0, expires_max: Millis(0), position_max: 0, filter: OnceLock::new() }
    }

    fn count(&mut self, entry: &KeyEntry) {
        self.keys += 1;
        self.expires_max = self.expires_max.max(entry.expires);
        self.position_max = self.position_max.max(entry.stored.event.position);
    }

    fn may_have(&self, hash: &Hash) -> bool {
        self.filter.get().is_none_or(|filter| filter.may_have(hash))
    }

    fn find(&self, tree: &dyn Tree, hash: &Hash) -> Result<Option<KeyEntry>, Error> {
        let from = Bound::Included(keys::seen_blocks_of(self.number));
        let to = Bound::Included(keys::seen_block(self.number, hash));
        match tree.page((from, to), true, 1)?.first() {
            Some((_, value)) => block::find(value, hash),
            None => Ok(None),
        }
    }

    /// All its keys are forgotten, and so are their events.
    fn is_over(&self, now: Millis, base: u64) -> bool {
        self.expires_max <= now && self.position_max < base
    }

    fn meta(&self) -> (Blob, Option<Blob>) {
        let numbers = [self.keys, self.expires_max.0, self.position_max];
        let value = Blob::from(numbers.map(u64::to_be_bytes).concat());
        (Blob::from(keys::seen_run(self.number)), Some(value))
    }

    fn decode(number: u64, value: &[u8]) -> Result<Run, Error> {
        Ok(Run {
            keys: keys::number_in(value, 0)?,
            expires_max: Millis(keys::number_in(value, 8)?),
            position_max: keys::number_in(value, 16)?,
            ..Run::of(number)
        })
    }
}

#[cfg(test)]
mod tests;
