//! Merging: what is done behind everybody's back to the runs, in steps that delay nobody.
//!
//! Four runs of like size become one; a run whose keys are all forgotten goes; blocks that belong to no run are
//! removed; and after a start the filters are filled. A merge that has begun gives way to a smaller one, so that
//! small runs do not pile up behind a large one.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use super::block::{self, KeyEntry};
use super::filter::Filter;
use super::{Ops, Run, Seen};
use crate::store::drill::bound;
use crate::store::index::tree::{Blob, Tree};
use crate::store::{Error, keys};
use crate::words::limits::{SEEN_MERGE_RUNS, SEEN_STEP_BLOCKS};
use crate::words::time::Millis;

/// With this many runs a merge cannot wait any longer.
pub(super) const RUNS_MANY: usize = 64;

#[derive(Default)]
pub(super) struct Work {
    next_number: u64,
    /// The last is the smallest, and goes first.
    merges: Vec<Merge>,
    /// Runs that are no more, and whose blocks are still there.
    garbage: VecDeque<u64>,
    filling: Option<Filling>,
}

struct Filling {
    run: Arc<Run>,
    filter: Filter,
    after: Option<Vec<u8>>,
}

impl Work {
    pub(super) fn after(tree: &dyn Tree, runs: &[Arc<Run>]) -> Result<Work, Error> {
        let mut work = Work { next_number: 1, ..Work::default() };
        work.next_number = runs.iter().map(|run| run.number + 1).max().unwrap_or(1);
        let end = super::super::prefixed(&keys::seen_blocks()).1;
        let mut from = Bound::Included(keys::seen_blocks());
        while let Some((key, _)) = tree.page((from, end.clone()), false, 1)?.first() {
            let number = keys::number_in(key, 1)?;
            if !runs.iter().any(|run| run.number == number) {
                work.garbage.push_back(number);
                work.next_number = work.next_number.max(number + 1);
            }
            from = Bound::Included(keys::seen_blocks_of(number + 1));
        }
        Ok(work)
    }

    pub(super) fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    pub(super) fn step(
        &mut self,
        seen: &Seen,
        tree: &dyn Tree,
        now: Millis,
        base: u64,
    ) -> Result<bool, Error> {
        if self.fill(seen, tree)? || self.forget(seen, tree, now, base)? || self.collect(tree)? {
            return Ok(true);
        }
        self.begin(seen);
        let Some(merge) = self.merges.last_mut() else { return Ok(false) };
        if merge.step(tree, now, base)? {
            let merge = self.merges.pop().expect("it was there one line above");
            self.garbage.extend(merge.finish(seen, tree)?);
        }
        Ok(true)
    }

    /// After a start, filters are filled from the blocks.
    fn fill(&mut self, seen: &Seen, tree: &dyn Tree) -> Result<bool, Error> {
        if self.filling.is_none() {
            let empty = seen.runs.load().iter().find(|run| run.filter.get().is_none()).cloned();
            self.filling = empty.map(|run| Filling { filter: Filter::for_keys(run.keys), run, after: None });
        }
        let Some(filling) = &mut self.filling else { return Ok(false) };
        let (entries, last) = blocks(tree, filling.run.number, filling.after.take())?;
        entries.iter().for_each(|entry| filling.filter.insert(&entry.hash));
        match last {
            Some(last) => filling.after = Some(last),
            None => {
                let done = self.filling.take().expect("it is being filled");
                let _ = done.run.filter.set(done.filter);
            }
        }
        Ok(true)
    }

    /// Runs that nobody asks for any more, unless they are being merged.
    fn forget(&mut self, seen: &Seen, tree: &dyn Tree, now: Millis, base: u64) -> Result<bool, Error> {
        let over = |run: &&Arc<Run>| run.is_over(now, base) && !self.is_merging(run.number);
        let gone: Vec<u64> = seen.runs.load().iter().filter(over).map(|run| run.number).collect();
        if gone.is_empty() {
            return Ok(false);
        }
        tree.apply(&mut gone.iter().map(|number| (Blob::from(keys::seen_run(*number)), None)))?;
        seen.change(&gone, None);
        self.garbage.extend(gone);
        Ok(true)
    }

    fn collect(&mut self, tree: &dyn Tree) -> Result<bool, Error> {
        let Some(number) = self.garbage.front().copied() else { return Ok(false) };
        let range = super::super::prefixed(&keys::seen_blocks_of(number));
        let page = tree.page(range, false, bound(SEEN_STEP_BLOCKS))?;
        if page.len() < bound(SEEN_STEP_BLOCKS) {
            self.garbage.pop_front();
        }
        tree.apply(&mut page.into_iter().map(|(key, _)| (key, None)))?;
        Ok(true)
    }

    /// The smallest size of which there are enough runs; not of one that is being merged already.
    fn begin(&mut self, seen: &Seen) {
        let runs = seen.runs.load();
        let mut idle: Vec<&Arc<Run>> = runs.iter().filter(|run| !self.is_merging(run.number)).collect();
        idle.sort_by_key(|run| run.keys);
        let below = self.merges.last().map_or(u32::MAX, |merge| merge.size);
        let like = |a: &&Arc<Run>, b: &&Arc<Run>| size_of(a.keys) == size_of(b.keys);
        let group = idle.chunk_by(like).find(|group| group.len() >= SEEN_MERGE_RUNS);
        if let Some(group) = group.filter(|group| size_of(group[0].keys) < below) {
            let from = group.iter().map(|run| (*run).clone()).collect();
            self.next_number += 1;
            self.merges.push(Merge::new(self.next_number - 1, from));
        }
    }

    fn is_merging(&self, number: u64) -> bool {
        self.merges.iter().any(|merge| merge.from.iter().any(|cursor| cursor.run.number == number))
    }
}

/// Runs of one size are less than fourfold apart.
fn size_of(keys: u64) -> u32 {
    keys.max(1).ilog(SEEN_MERGE_RUNS as u64)
}

struct Merge {
    size: u32,
    from: Vec<Cursor>,
    run: Run,
    filter: Filter,
    /// Not yet a whole block.
    rest: Vec<KeyEntry>,
}

/// How far a run has been read.
struct Cursor {
    run: Arc<Run>,
    ready: VecDeque<KeyEntry>,
    after: Option<Vec<u8>>,
    is_over: bool,
}

impl Merge {
    fn new(number: u64, runs: Vec<Arc<Run>>) -> Merge {
        let keys = runs.iter().map(|run| run.keys).sum();
        let size = runs.first().map_or(0, |run| size_of(run.keys));
        let cursor = |run| Cursor { run, ready: VecDeque::new(), after: None, is_over: false };
        Merge {
            size,
            from: runs.into_iter().map(cursor).collect(),
            run: Run::of(number),
            filter: Filter::for_keys(keys),
            rest: Vec::new(),
        }
    }

    /// Writes some blocks. True: everything is written.
    fn step(&mut self, tree: &dyn Tree, now: Millis, base: u64) -> Result<bool, Error> {
        let mut ops: Ops = Vec::new();
        let mut is_over = false;
        while ops.len() < bound(SEEN_STEP_BLOCKS) && !is_over {
            match self.next(tree)? {
                Some(entry) if entry.is_over(now, base) => {}
                Some(entry) => self.rest.push(entry),
                None => is_over = true,
            }
            if self.rest.len() == block::ENTRIES || (is_over && !self.rest.is_empty()) {
                let (key, value) = block::encode(self.run.number, &self.rest);
                for entry in self.rest.drain(..) {
                    self.run.count(&entry);
                    self.filter.insert(&entry.hash);
                }
                ops.push((key, Some(value)));
            }
        }
        tree.apply(&mut ops.into_iter())?;
        Ok(is_over)
    }

    /// The least hash that is left; of equal ones the latest event.
    fn next(&mut self, tree: &dyn Tree) -> Result<Option<KeyEntry>, Error> {
        for cursor in &mut self.from {
            cursor.fill(tree)?;
        }
        let Some(least) = self.from.iter().filter_map(Cursor::hash).min() else { return Ok(None) };
        let equal = self.from.iter_mut().filter(|cursor| cursor.hash() == Some(least));
        Ok(equal.filter_map(|cursor| cursor.ready.pop_front()).max_by_key(|entry| entry.stored.event))
    }

    /// From here on the new run is the one that is asked. Returns the runs whose blocks are left over.
    fn finish(self, seen: &Seen, tree: &dyn Tree) -> Result<Vec<u64>, Error> {
        let gone: Vec<u64> = self.from.iter().map(|cursor| cursor.run.number).collect();
        let run = (self.run.keys > 0).then(|| Run { filter: self.filter.into(), ..self.run });
        let new = run.as_ref().map(Run::meta);
        let old = gone.iter().map(|number| (Blob::from(keys::seen_run(*number)), None));
        tree.apply(&mut old.chain(new))?;
        seen.change(&gone, run.map(Arc::new));
        Ok(gone)
    }
}

impl Cursor {
    fn hash(&self) -> Option<crate::store::claims::Hash> {
        self.ready.front().map(|entry| entry.hash)
    }

    fn fill(&mut self, tree: &dyn Tree) -> Result<(), Error> {
        while self.ready.is_empty() && !self.is_over {
            let (entries, last) = blocks(tree, self.run.number, self.after.take())?;
            self.ready.extend(entries);
            self.is_over = last.is_none();
            self.after = last;
        }
        Ok(())
    }
}

/// Keys of a run behind a block, and the last block that was read where there may be more.
fn blocks(
    tree: &dyn Tree,
    run: u64,
    after: Option<Vec<u8>>,
) -> Result<(Vec<KeyEntry>, Option<Vec<u8>>), Error> {
    let (from, to) = super::super::prefixed(&keys::seen_blocks_of(run));
    let page = tree.page((after.map_or(from, Bound::Excluded), to), false, bound(SEEN_STEP_BLOCKS))?;
    let mut entries = Vec::with_capacity(page.len() * block::ENTRIES);
    for (_, value) in &page {
        entries.extend(block::decode(value)?);
    }
    let last =
        (page.len() == bound(SEEN_STEP_BLOCKS)).then(|| page.last().map(|(key, _)| key.to_vec())).flatten();
    Ok((entries, last))
}
