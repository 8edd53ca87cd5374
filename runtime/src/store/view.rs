//! View: what the journal has and the index has not yet, laid over the index.
//!
//! The writer commits here as soon as a batch is durable, so that every answer sees what was promised before it.
//! Changes are kept in generations; each goes to the index in one atomic batch, together with the position that
//! it reaches, and only then leaves the view. A reader that takes the view first and the index second misses
//! nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Error;
use super::claims::Claim;
use super::drill::bound;
use super::index::{Blob, Ended, Index, KeyEntry, Range};
use super::rows::Row;
use crate::words::event::DeliveryId;
use crate::words::limits::{INDEX_BATCH_CHANGES_MAX, INDEX_BATCH_RECORDS_MAX, INDEX_PACE};

/// One change of the index. `fresh`: the key is new with this change, so that undoing it leaves nothing to do.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub value: Option<Blob>,
    pub fresh: bool,
}

/// An idempotency key on its way to the index.
#[derive(Clone)]
pub(super) struct KeyPut {
    pub entry: KeyEntry,
    pub claim: Option<Arc<Claim>>,
}

/// What one durable batch changed.
#[derive(Default)]
pub(super) struct Changes {
    pub ops: BTreeMap<Blob, Op>,
    pub keys: Vec<KeyPut>,
    /// Rows of deliveries that ended.
    pub ended: BTreeMap<DeliveryId, Row>,
    pub records: usize,
}

/// Where a batch ends, and which it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    pub end: u64,
    pub batch: u64,
    pub written_at: u64,
}

/// Changes that go to the index together.
#[derive(Default)]
pub(super) struct Generation {
    number: u64,
    pub reached: Reached,
    pub records: usize,
    ops: HashMap<Blob, Op>,
    pub keys: Vec<KeyPut>,
    ended: Vec<Ended>,
}

#[derive(Default)]
pub(super) struct View {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// The same for whoever waits on the runtime: the index came further, or stops.
    moved: Notify,
}

#[derive(Default)]
struct Inner {
    entries: BTreeMap<Blob, Entry>,
    active: Generation,
    sealed: VecDeque<Arc<Generation>>,
    /// Records in no index yet.
    lag: usize,
    /// How far the index has come.
    applied: u64,
    /// How many wait for the index to come further.
    awaited: usize,
    stopping: bool,
}

struct Entry {
    value: Option<Blob>,
    /// The generation that wrote it last.
    generation: u64,
}

impl View {
    /// Empty, over an index that has come as far as `reached`.
    pub(super) fn over(reached: Reached) -> View {
        let view = View::default();
        let mut inner = view.lock();
        inner.active.reached = reached;
        inner.applied = reached.end;
        drop(inner);
        view
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Blob>> {
        self.lock().entries.get(key).map(|entry| entry.value.clone())
    }

    /// Records that the index has not seen.
    pub(super) fn lag(&self) -> usize {
        self.lock().lag
    }

    /// Entries of a range from one end, deletions included, at most `max`.
    fn page(&self, range: &Range, reverse: bool, max: usize) -> Vec<(Blob, Option<Blob>)> {
        let inner = self.lock();
        let entries = inner.entries.range::<[u8], _>((as_slice(&range.0), as_slice(&range.1)));
        let copy = |(key, entry): (&Blob, &Entry)| (key.clone(), entry.value.clone());
        if reverse {
            entries.rev().take(max).map(copy).collect()
        } else {
            entries.take(max).map(copy).collect()
        }
    }

    /// From here on every reader sees these changes.
    /// `reached: None`: they come from no record, and the index is as far as it was.
    pub(super) fn commit(&self, changes: Changes, reached: Option<Reached>) {
        let mut inner = self.lock();
        let was_empty = inner.active.is_empty();
        inner.lag += changes.records;
        inner.active.records += changes.records;
        inner.active.reached = reached.unwrap_or(inner.active.reached);
        for (key, op) in changes.ops {
            inner.put(key, op);
        }
        inner.active.keys.extend(changes.keys);
        inner.active.ended.extend(changes.ended);
        let is_full = inner.active.records >= bound(INDEX_BATCH_RECORDS_MAX)
            || inner.active.ops.len() >= INDEX_BATCH_CHANGES_MAX;
        if is_full {
            inner.seal();
        }
        drop(inner);
        if was_empty || is_full {
            self.changed.notify_all();
        }
    }

    /// The next generation for the index. Waits for one; gathers for a moment where it is small and nobody waits for
    /// it. None: stop.
    pub(super) fn next(&self) -> Option<Arc<Generation>> {
        let mut inner = self.lock();
        while inner.sealed.is_empty() && inner.active.is_empty() && !inner.stopping {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner = self.gather(inner, INDEX_PACE, 0);
        if inner.stopping {
            return None;
        }
        inner.first_sealed()
    }

    /// Waits for a moment, or until more than `under_way` generations are full.
    fn gather<'a>(
        &self,
        inner: MutexGuard<'a, Inner>,
        moment: Duration,
        under_way: usize,
    ) -> MutexGuard<'a, Inner> {
        let is_idle =
            |inner: &mut Inner| inner.sealed.len() <= under_way && inner.awaited == 0 && !inner.stopping;
        let waited = self.changed.wait_timeout_while(inner, moment, is_idle);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Leaves the processor to others for a moment, unless a generation is full beside the `under_way` ones that
    /// whoever rests has in hand: those leave the view only when they are applied.
    pub(super) fn rest(&self, moment: Duration, under_way: usize) {
        drop(self.gather(self.lock(), moment, under_way));
    }

    /// The next generation that is full.
    pub(super) fn next_full(&self) -> Option<Arc<Generation>> {
        self.lock().sealed.front().cloned()
    }

    /// The next generation without waiting; None: the index has everything.
    pub(super) fn next_now(&self) -> Option<Arc<Generation>> {
        self.lock().first_sealed()
    }

    /// The index has it: readers find it there.
    pub(super) fn applied(&self, generation: &Generation) {
        let mut inner = self.lock();
        inner.lag -= generation.records;
        inner.applied = generation.reached.end;
        let first = inner.sealed.pop_front();
        assert!(first.is_some_and(|first| first.number == generation.number), "generations go in order");
        for key in generation.ops.keys() {
            let is_last = inner.entries.get(key).is_some_and(|entry| entry.generation == generation.number);
            if is_last {
                inner.entries.remove(key);
            }
        }
        drop(inner);
        self.moved.notify_waiters();
    }

    /// Until the index has come to `position`. False: it stopped before.
    pub(super) async fn wait_applied(&self, position: u64) -> bool {
        let _hurry = Hurry::of(self);
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            let (applied, stopping) = {
                let inner = self.lock();
                (inner.applied, inner.stopping)
            };
            if applied >= position || stopping {
                return applied >= position;
            }
            moved.await;
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.changed.notify_all();
        self.moved.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The index does not rest while this lives.
struct Hurry<'a>(&'a View);

impl Hurry<'_> {
    fn of(view: &View) -> Hurry<'_> {
        view.lock().awaited += 1;
        view.changed.notify_all();
        Hurry(view)
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.lock().awaited -= 1;
    }
}

impl Inner {
    fn put(&mut self, key: Blob, op: Op) {
        let undoes = op.value.is_none() && self.active.ops.get(&key).is_some_and(|before| before.fresh);
        if undoes {
            self.active.ops.remove(&key);
            self.entries.remove(&key);
            return;
        }
        let generation = self.active.number;
        let fresh = op.fresh || self.active.ops.get(&key).is_some_and(|before| before.fresh);
        self.entries.insert(key.clone(), Entry { value: op.value.clone(), generation });
        self.active.ops.insert(key, Op { fresh, ..op });
    }

    fn seal(&mut self) {
        let (number, reached) = (self.active.number + 1, self.active.reached);
        let next = Generation { number, reached, ..Generation::default() };
        let sealed = std::mem::replace(&mut self.active, next);
        self.sealed.push_back(Arc::new(sealed));
    }

    fn first_sealed(&mut self) -> Option<Arc<Generation>> {
        if self.sealed.is_empty() && !self.active.is_empty() {
            self.seal();
        }
        self.sealed.front().cloned()
    }
}

impl Generation {
    fn is_empty(&self) -> bool {
        self.records == 0 && self.ops.is_empty()
    }

    /// Writes it to the index, atomically with the position that it reaches.
    /// `rest` is called between the parts of that work, with the time that the last one took.
    pub(super) fn write_to(&self, index: &Index, rest: &dyn Fn(Duration)) -> Result<(), Error> {
        let ops = self.ops.iter().map(|(key, op)| (key.clone(), op.value.clone()));
        let keys = self.keys.iter().map(|put| put.entry).collect();
        let Reached { end, batch, written_at } = self.reached;
        index.apply(ops, keys, &self.ended, (end, batch, written_at), rest)
    }
}

// === reading the layers as one ===

const PAGE: usize = 128;

/// The entries of a range in order, from one end, as the layers together have them. Bounded steps: no lock is
/// held between them, so a long scan sees changes that are made meanwhile, or not.
pub(super) struct Scan<'a> {
    view: &'a View,
    index: &'a Index,
    /// What the writer has staged and not committed; empty for everybody else.
    staged: Option<&'a BTreeMap<Blob, Op>>,
    range: Option<Range>,
    reverse: bool,
    ready: VecDeque<(Blob, Blob)>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(view: &'a View, index: &'a Index, range: Range, reverse: bool) -> Scan<'a> {
        let range = (!is_empty(&range)).then_some(range);
        Scan { view, index, staged: None, range, reverse, ready: VecDeque::new() }
    }

    pub(super) fn with_staged(self, staged: &'a BTreeMap<Blob, Op>) -> Scan<'a> {
        Scan { staged: Some(staged), ..self }
    }

    fn fill(&mut self) -> Result<(), Error> {
        while self.ready.is_empty() {
            let Some(range) = self.range.take() else { return Ok(()) };
            let over = self.view.page(&range, self.reverse, bound(PAGE));
            let staged = self.staged_page(&range);
            let indexed = self.index.page(range.clone(), self.reverse, bound(PAGE))?;
            // Beyond the last entry of a layer that gave a full page, that layer may hold more.
            let ends =
                [last_of(&over, bound(PAGE)), last_of(&staged, bound(PAGE)), last_of(&indexed, bound(PAGE))];
            let covered = if self.reverse {
                ends.into_iter().flatten().max()
            } else {
                ends.into_iter().flatten().min()
            };
            let mut merged: BTreeMap<Blob, Option<Blob>> =
                indexed.into_iter().map(|(key, value)| (key, Some(value))).collect();
            merged.extend(over);
            merged.extend(staged);
            let within = |key: &Blob| match &covered {
                None => true,
                Some(end) if self.reverse => key >= end,
                Some(end) => key <= end,
            };
            let found = merged.into_iter().filter(|(key, _)| within(key));
            let found = found.filter_map(|(key, value)| value.map(|value| (key, value)));
            if self.reverse {
                found.for_each(|entry| self.ready.push_front(entry));
            } else {
                self.ready.extend(found);
            }
            self.range = covered.map(|end| rest_of(range, end.to_vec(), self.reverse));
        }
        Ok(())
    }

    fn staged_page(&self, range: &Range) -> Vec<(Blob, Option<Blob>)> {
        let Some(staged) = self.staged else { return Vec::new() };
        let entries = staged.range::<[u8], _>((as_slice(&range.0), as_slice(&range.1)));
        let copy = |(key, op): (&Blob, &Op)| (key.clone(), op.value.clone());
        if self.reverse {
            entries.rev().take(bound(PAGE)).map(copy).collect()
        } else {
            entries.take(bound(PAGE)).map(copy).collect()
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<(Blob, Blob), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.fill() {
            self.range = None;
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}

/// A range that begins behind its end: a cursor beyond what it was made for.
fn is_empty(range: &Range) -> bool {
    match (&range.0, &range.1) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
    }
}

fn last_of<T>(page: &[(Blob, T)], full: usize) -> Option<Blob> {
    (page.len() == full).then(|| page.last().map(|(key, _)| key.clone())).flatten()
}

fn rest_of(range: Range, end: Vec<u8>, reverse: bool) -> Range {
    if reverse { (range.0, Bound::Excluded(end)) } else { (Bound::Excluded(end), range.1) }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key.as_slice()),
        Bound::Excluded(key) => Bound::Excluded(key.as_slice()),
        Bound::Unbounded => Bound::Unbounded,
    }
}
