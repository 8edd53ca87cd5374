//! The tree in the simulation: a map, in a home that outlives the processes that open it.
//!
//! What a process applied and did not flush is volatile, as it is with sled: `forget_unflushed` is the end of that
//! process. For tests only.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::tree::{Blob, Home, Range, Tree};
use crate::store::Error;

type Map = BTreeMap<Blob, Blob>;
type Changes = Vec<(Blob, Option<Blob>)>;

/// Cheap to clone; the clones are one home.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// None: no index was ever made here, or it was removed.
    flushed: Option<Map>,
    /// Applied since, oldest first.
    batches: Vec<Changes>,
    now: Map,
    /// A file is there when it was written: what names it comes later.
    tables: BTreeMap<u64, Bytes>,
    failing: bool,
}

impl Memory {
    /// The process ended: of what was not flushed, the first `kept` batches had reached the files.
    pub(crate) fn forget_unflushed(&self, kept: usize) {
        let mut state = self.lock();
        let mut map = state.flushed.clone().unwrap_or_default();
        for changes in state.batches.drain(..).take(kept) {
            change(&mut map, changes);
        }
        state.now = map.clone();
        state.flushed = state.flushed.is_some().then_some(map);
    }

    pub(crate) fn unflushed(&self) -> usize {
        self.lock().batches.len()
    }

    /// No files of it are left.
    pub(crate) fn remove(&self) {
        *self.lock() = State::default();
    }

    /// What is in its files, to be put back later.
    pub(crate) fn copy(&self) -> Copy {
        let state = self.lock();
        Copy { flushed: state.flushed.clone(), tables: state.tables.clone() }
    }

    pub(crate) fn put_back(&self, copy: Copy) {
        let Copy { flushed, tables } = copy;
        *self.lock() =
            State { now: flushed.clone().unwrap_or_default(), flushed, tables, ..State::default() };
    }

    /// From now on every call of it fails, or none does.
    pub(crate) fn fail(&self, failing: bool) {
        self.lock().failing = failing;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn working(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.lock();
        if state.failing { Err(Error::Index("the test made it fail".into())) } else { Ok(state) }
    }
}

/// An older state of a home.
#[derive(Clone, Default)]
pub(crate) struct Copy {
    flushed: Option<Map>,
    tables: BTreeMap<u64, Bytes>,
}

fn change(map: &mut Map, changes: Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(map.insert(key, value)),
            None => drop(map.remove(&key)),
        }
    }
}

impl Home for Memory {
    fn is_there(&self) -> bool {
        self.lock().flushed.is_some()
    }

    fn open(&self) -> Result<Box<dyn Tree>, Error> {
        self.working()?.flushed.get_or_insert_default();
        Ok(Box::new(self.clone()))
    }

    fn set_aside(&self) -> Result<(), Error> {
        self.remove();
        Ok(())
    }
}

impl Tree for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Blob>, Error> {
        Ok(self.working()?.now.get(key).cloned())
    }

    fn page(&self, range: Range, reverse: bool, max: usize) -> Result<Vec<(Blob, Blob)>, Error> {
        let state = self.working()?;
        let bounds = (as_slice(&range.0), as_slice(&range.1));
        let entries = state.now.range::<[u8], _>(bounds).map(|(key, value)| (key.clone(), value.clone()));
        Ok(if reverse { entries.rev().take(max).collect() } else { entries.take(max).collect() })
    }

    fn apply(&self, ops: &mut dyn Iterator<Item = (Blob, Option<Blob>)>) -> Result<(), Error> {
        let changes: Changes = ops.collect();
        let mut state = self.working()?;
        change(&mut state.now, changes.clone());
        state.batches.push(changes);
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        let mut state = self.working()?;
        state.batches.clear();
        state.flushed = Some(state.now.clone());
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        self.flush()
    }

    fn size_on_disk(&self) -> u64 {
        self.lock().now.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }

    fn put_table(&self, number: u64, bytes: &[u8]) -> Result<(), Error> {
        self.working()?.tables.insert(number, Bytes::copy_from_slice(bytes));
        Ok(())
    }

    fn read_table(&self, number: u64, offset: u64, len: usize) -> Result<Bytes, Error> {
        let table = self.table(number)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(table.len());
        Ok(table.slice(from..from.saturating_add(len).min(table.len())))
    }

    fn table_bytes(&self, number: u64) -> Result<u64, Error> {
        Ok(self.table(number)?.len() as u64)
    }

    fn remove_table(&self, number: u64) -> Result<(), Error> {
        self.working()?.tables.remove(&number);
        Ok(())
    }

    fn tables(&self) -> Result<Vec<u64>, Error> {
        Ok(self.working()?.tables.keys().copied().collect())
    }
}

impl Memory {
    fn table(&self, number: u64) -> Result<Bytes, Error> {
        let table = self.working()?.tables.get(&number).cloned();
        table.ok_or_else(|| Error::Index(format!("there is no table {number}")))
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key.as_slice()),
        Bound::Excluded(key) => Bound::Excluded(key.as_slice()),
        Bound::Unbounded => Bound::Unbounded,
    }
}
