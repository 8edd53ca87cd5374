//! Page: what the ledger keeps of one delivery, in memory: the entries of its effects, and the handler's shelf.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::host::{Before, EffectFuture, Effects, Shelf, ShelfFuture};
use crate::words::digest::Digest;
use crate::words::effect::{Entry, Resolution, Ruled, Waiting};
use crate::words::shelf::{ShelfRead, ShelfTxn, ShelfWrite};
use crate::words::tape::Seed;
use crate::words::time::Millis;

pub(super) const DELIVERY: &str = "0.torture";

/// The entries of all attempts of a delivery.
#[derive(Clone, Default)]
pub(super) struct Book(Arc<Mutex<Vec<Bytes>>>);

/// The book, as one attempt writes it.
pub(super) struct Page {
    pub(super) book: Book,
    pub(super) attempt: u32,
    pub(super) started_at: Millis,
    /// What the delivery's random numbers follow from.
    pub(super) seed: u8,
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last attempt stopped at.
    pub(super) fn waits_on(&self) -> Option<Waiting> {
        match Entry::unframed(self.lock().last()?) {
            Ok((Entry::Waiting(on), _)) => Some(on),
            _ => None,
        }
    }

    /// The operator's word on it.
    pub(super) fn resolve(&self, on: Waiting, resolution: Resolution) {
        self.lock().push(Entry::Ruled(Ruled { on, resolution }).framed(b""));
    }
}

impl Effects for Page {
    fn delivery(&self) -> &str {
        DELIVERY
    }

    fn root(&self) -> &str {
        "torture"
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }

    fn started_at(&self) -> Millis {
        self.started_at
    }

    fn seed(&self) -> Option<Seed> {
        Some(Seed(Digest::of(&[self.seed]).0))
    }

    fn past(&self) -> EffectFuture<'_, Before> {
        let entries = self.book.lock().clone();
        let up_to = entries.len() as u64;
        Box::pin(std::future::ready(Ok(Before { entries, up_to })))
    }

    fn begin(&self) -> EffectFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn note(&self, entry: Bytes, _: bool) -> EffectFuture<'_, ()> {
        self.book.lock().push(entry);
        Box::pin(std::future::ready(Ok(())))
    }
}

// === the shelf ===

/// A handler's shelf, with the versions by which the ledger knows that something was changed under an attempt.
#[derive(Default)]
pub(super) struct Memory(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    values: BTreeMap<String, (Bytes, u64)>,
    changes: u64,
}

impl Memory {
    pub(super) fn of(values: BTreeMap<String, Bytes>) -> Memory {
        let memory = Memory::default();
        memory.write(values);
        memory
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self, values: BTreeMap<String, Bytes>) {
        let mut inner = self.lock();
        values.into_iter().for_each(|(key, value)| inner.set(key, value));
    }

    pub(super) fn value(&self, key: &str) -> Option<Bytes> {
        self.lock().values.get(key).map(|(value, _)| value.clone())
    }

    /// What an attempt that ended well wants written. False: something that it read has changed since, and nothing is
    /// written. Values do not expire here: a run takes no time.
    pub(super) fn apply(&self, txn: &ShelfTxn) -> bool {
        let mut inner = self.lock();
        let is_read = txn.reads.iter().all(|(key, version)| inner.version(key) == *version);
        let is_listed = txn
            .lists
            .iter()
            .all(|list| inner.list(&list.prefix, list.after.as_deref(), list.limit) == list.keys);
        if !is_read || !is_listed {
            return false;
        }
        for (key, write) in &txn.writes {
            match write {
                ShelfWrite::Set { value, .. } => inner.set(key.clone(), value.clone()),
                ShelfWrite::Add { delta, .. } => {
                    let sum = inner.counter(key).saturating_add(*delta);
                    inner.set(key.clone(), sum.to_string().into());
                }
                ShelfWrite::Delete => {
                    inner.values.remove(key);
                }
            }
        }
        true
    }
}

impl Inner {
    fn set(&mut self, key: String, value: Bytes) {
        self.changes += 1;
        self.values.insert(key, (value, self.changes));
    }

    fn version(&self, key: &str) -> u64 {
        self.values.get(key).map_or(0, |(_, version)| *version)
    }

    fn counter(&self, key: &str) -> i64 {
        let text =
            |(value, _): &(Bytes, u64)| std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        self.values.get(key).and_then(text).unwrap_or(0)
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: u32) -> Vec<String> {
        let is_it = |key: &&String| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after);
        self.values.keys().filter(is_it).take(limit as usize).cloned().collect()
    }
}

impl Shelf for Memory {
    fn get<'a>(&'a self, key: &'a str) -> ShelfFuture<'a, ShelfRead> {
        let (value, version) = (self.value(key), self.lock().version(key));
        Box::pin(std::future::ready(Ok(ShelfRead { value, version })))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
    ) -> ShelfFuture<'a, Vec<String>> {
        let keys = self.lock().list(prefix, after, limit);
        Box::pin(std::future::ready(Ok(keys)))
    }

    fn bytes(&self) -> ShelfFuture<'_, u64> {
        let bytes = self.lock().values.iter().map(|(key, (value, _))| key.len() + value.len()).sum::<usize>();
        Box::pin(std::future::ready(Ok(bytes as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_and_has_changed_since_is_not_written_over() {
        let memory = Memory::of(BTreeMap::from([("n".to_owned(), Bytes::from_static(b"4"))]));
        let reads = BTreeMap::from([("n".to_owned(), memory.lock().version("n"))]);
        let writes = BTreeMap::from([("n".to_owned(), ShelfWrite::Add { delta: 1, ttl: None })]);
        let txn = ShelfTxn { reads, writes, ..ShelfTxn::default() };
        assert!(memory.apply(&txn));
        assert_eq!(memory.value("n"), Some(Bytes::from_static(b"5")));
        assert!(!memory.apply(&txn), "its version is another one now");
        assert_eq!(memory.value("n"), Some(Bytes::from_static(b"5")));
    }
}
