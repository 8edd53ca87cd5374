//! The shelf as one attempt sees it: what it reads, with its own writes over it, and what it wants written.
//!
//! Nothing is written here. The draft becomes a transaction only when the attempt ends in `done` or `skipped`;
//! the ledger applies it whole, or not at all where something that was read has changed since.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Shelf;
use super::call::trace::{Cause, Trace, Waiting};
use crate::words::limits;
use crate::words::shelf::{ShelfListing, ShelfRead, ShelfTxn, ShelfWrite};
use crate::words::tape::Read;

/// The contract's cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Error {
    TooLarge,
    Quota,
    Unavailable(String),
}

pub(super) struct Draft {
    shelf: Arc<dyn Shelf>,
    trace: Trace,
    txn: ShelfTxn,
    listed_keys: usize,
    /// Bytes on the shelf when the first write asked.
    base_bytes: Option<u64>,
}

impl Draft {
    pub(super) fn new(shelf: Arc<dyn Shelf>, trace: Trace) -> Draft {
        Draft { shelf, trace, txn: ShelfTxn::default(), listed_keys: 0, base_bytes: None }
    }

    pub(super) fn into_txn(self) -> ShelfTxn {
        self.txn
    }

    pub(super) async fn get(&mut self, key: &str) -> Result<Option<Bytes>, Error> {
        check_key(key)?;
        match self.txn.writes.get(key) {
            Some(ShelfWrite::Set { value, .. }) => Ok(Some(value.clone())),
            Some(ShelfWrite::Delete) => Ok(None),
            Some(ShelfWrite::Add { delta, .. }) => {
                let delta = *delta;
                let sum = add(self.read(key).await?.value.as_deref(), delta)?;
                Ok(Some(sum.to_string().into()))
            }
            None => Ok(self.read(key).await?.value),
        }
    }

    pub(super) async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<(), Error> {
        check_key(&key)?;
        if value.len() > limits::SHELF_VALUE_BYTES_MAX {
            return Err(Error::TooLarge);
        }
        self.write(key, ShelfWrite::Set { value: value.into(), ttl: ttl.map(clamp) }).await
    }

    pub(super) async fn delete(&mut self, key: String) -> Result<(), Error> {
        check_key(&key)?;
        self.write(key, ShelfWrite::Delete).await
    }

    pub(super) async fn add(&mut self, key: String, delta: i64, ttl: Option<Duration>) -> Result<(), Error> {
        check_key(&key)?;
        let ttl = ttl.map(clamp);
        let write = match self.txn.writes.get(&key) {
            None => ShelfWrite::Add { delta, ttl },
            Some(ShelfWrite::Add { delta: before, ttl: old }) => {
                ShelfWrite::Add { delta: before.checked_add(delta).ok_or_else(overflow)?, ttl: ttl.or(*old) }
            }
            // The base of these is known: it is this attempt's own.
            Some(ShelfWrite::Set { value, ttl: old }) => {
                ShelfWrite::Set { value: add(Some(value), delta)?.to_string().into(), ttl: ttl.or(*old) }
            }
            Some(ShelfWrite::Delete) => ShelfWrite::Set { value: delta.to_string().into(), ttl },
        };
        self.write(key, write).await
    }

    /// Keys in order, after `after`. Pages of the shelf are read until enough of them are left when this
    /// attempt's deletes are taken out.
    pub(super) async fn list(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, Error> {
        if prefix.len() > limits::SHELF_KEY_BYTES_MAX {
            return Err(Error::TooLarge);
        }
        if limit == 0 {
            return Ok(Vec::new());
        }
        let limit = limit.min(limits::SHELF_LIST_MAX);
        let mut keys = BTreeSet::new();
        let mut from = after.map(str::to_owned);
        // The shelf is known up to here; None: to its end.
        let mut horizon;
        loop {
            let page = self.page(prefix, from.as_deref(), limit).await?;
            horizon = (page.len() >= limit as usize).then(|| page.last().cloned()).flatten();
            keys.extend(page.into_iter().filter(|key| self.txn.writes.get(key) != Some(&ShelfWrite::Delete)));
            if horizon.is_none() || keys.len() >= limit as usize {
                break;
            }
            from.clone_from(&horizon);
        }
        keys.extend(self.own_keys(prefix, after, horizon.as_deref()));
        Ok(keys.into_iter().take(limit as usize).collect())
    }

    fn own_keys(&self, prefix: &str, after: Option<&str>, horizon: Option<&str>) -> Vec<String> {
        let is_listed = |key: &str| {
            key.starts_with(prefix)
                && after.is_none_or(|after| key > after)
                && horizon.is_none_or(|end| key <= end)
        };
        let kept = self.txn.writes.iter().filter(|(_, write)| **write != ShelfWrite::Delete);
        kept.map(|(key, _)| key).filter(|key| is_listed(key)).cloned().collect()
    }

    async fn page(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>, Error> {
        if self.txn.lists.len() >= limits::SHELF_LISTINGS_MAX
            || self.listed_keys >= limits::SHELF_LISTED_KEYS_MAX
        {
            return Err(Error::Unavailable(format!(
                "an attempt lists at most {} times and {} keys",
                limits::SHELF_LISTINGS_MAX,
                limits::SHELF_LISTED_KEYS_MAX
            )));
        }
        let kept = |keys: &Vec<String>| Read::Keys {
            prefix: prefix.to_owned(),
            after: after.map(str::to_owned),
            limit,
            keys: keys.clone(),
        };
        let mut keys = self.ask(self.shelf.list(prefix, after, limit), kept).await?;
        // The keys are trusted to be in order and after `after`, not to be few.
        keys.truncate(limit as usize);
        self.listed_keys += keys.len();
        self.txn.lists.push(ShelfListing {
            prefix: prefix.to_owned(),
            after: after.map(str::to_owned),
            limit,
            keys: keys.clone(),
        });
        Ok(keys)
    }

    /// Of two reads of a key the first one's version counts: if they differ, the attempt has seen two states,
    /// and the settle finds it out.
    async fn read(&mut self, key: &str) -> Result<ShelfRead, Error> {
        if self.txn.reads.len() >= limits::SHELF_READS_MAX && !self.txn.reads.contains_key(key) {
            return Err(Error::Unavailable(format!(
                "an attempt reads at most {} keys",
                limits::SHELF_READS_MAX
            )));
        }
        let kept = |read: &ShelfRead| Read::Value { key: key.to_owned(), value: read.value.clone() };
        let read = self.ask(self.shelf.get(key), kept).await?;
        self.txn.reads.entry(key.to_owned()).or_insert(read.version);
        Ok(read)
    }

    /// What a refused write leaves is what was there before it.
    async fn write(&mut self, key: String, write: ShelfWrite) -> Result<(), Error> {
        let is_new = !self.txn.writes.contains_key(&key);
        if is_new && self.txn.writes.len() >= limits::SHELF_WRITES_MAX {
            return Err(Error::Quota);
        }
        let others: usize = self.txn.writes.iter().filter(|(k, _)| **k != key).map(|(k, w)| size(k, w)).sum();
        let bytes = others + size(&key, &write);
        if bytes > limits::SHELF_TXN_BYTES_MAX {
            return Err(Error::Quota);
        }
        // Deleting is how a full shelf gets room again.
        if write != ShelfWrite::Delete {
            let base = match self.base_bytes {
                Some(base) => base,
                None => {
                    let kept = |bytes: &u64| Read::Bytes { bytes: *bytes };
                    *self.base_bytes.insert(self.ask(self.shelf.bytes(), kept).await?)
                }
            };
            if base.saturating_add(bytes as u64) > limits::SHELF_BYTES_MAX {
                return Err(Error::Quota);
            }
        }
        self.txn.writes.insert(key, write);
        Ok(())
    }

    /// While the shelf is asked, the guest is not to blame for the time. `kept`: the answer, for the tape.
    async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, String>> + Send,
        kept: impl FnOnce(&T) -> Read,
    ) -> Result<T, Error> {
        self.trace.waiting(Waiting::Shelf);
        let answer = question.await;
        self.trace.waiting(Waiting::Guest);
        self.trace.read(|| match &answer {
            Ok(answer) => kept(answer),
            Err(why) => Read::Failed { why: why.clone() },
        });
        self.trace.shelf_ended(answer.is_err().then_some(Cause::Host));
        answer.map_err(Error::Unavailable)
    }
}

fn check_key(key: &str) -> Result<(), Error> {
    match key.len() {
        0 => Err(Error::Unavailable("an empty key names nothing".into())),
        n if n > limits::SHELF_KEY_BYTES_MAX => Err(Error::TooLarge),
        _ => Ok(()),
    }
}

/// A decimal counter; absent counts as 0.
fn add(value: Option<&[u8]>, delta: i64) -> Result<i64, Error> {
    let Some(value) = value else { return Ok(delta) };
    let base: i64 = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::Unavailable("the value is no decimal counter".into()))?;
    base.checked_add(delta).ok_or_else(overflow)
}

fn overflow() -> Error {
    Error::Unavailable("the counter would overflow".into())
}

fn clamp(ttl: Duration) -> Duration {
    ttl.clamp(Duration::from_millis(1), limits::SHELF_TTL_MAX)
}

fn size(key: &str, write: &ShelfWrite) -> usize {
    const COUNTER: usize = 20;
    key.len()
        + match write {
            ShelfWrite::Set { value, .. } => value.len(),
            ShelfWrite::Add { .. } => COUNTER,
            ShelfWrite::Delete => 0,
        }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;
    use crate::host::ShelfFuture;
    use crate::host::http::Mask;
    use crate::words::event::Name;

    /// A shelf in memory, and how often it was asked.
    #[derive(Default)]
    struct Memory {
        values: BTreeMap<String, String>,
        bytes: u64,
        is_broken: bool,
        asked: Mutex<u32>,
    }

    impl Memory {
        fn of(keys: &[(&str, &str)]) -> Memory {
            let values = keys.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Memory { values, ..Memory::default() }
        }

        fn answer<'a, T: Send + 'a>(&self, value: T) -> ShelfFuture<'a, T> {
            *self.asked.lock().unwrap() += 1;
            let answer = if self.is_broken { Err("the disk is gone".to_owned()) } else { Ok(value) };
            Box::pin(std::future::ready(answer))
        }
    }

    impl Shelf for Memory {
        fn get<'a>(&'a self, key: &'a str) -> ShelfFuture<'a, ShelfRead> {
            let value = self.values.get(key).map(|v| Bytes::from(v.clone()));
            let version = if value.is_some() { 7 } else { 0 };
            self.answer(ShelfRead { value, version })
        }

        fn list<'a>(
            &'a self,
            prefix: &'a str,
            after: Option<&'a str>,
            limit: u32,
        ) -> ShelfFuture<'a, Vec<String>> {
            let keys =
                self.values.keys().filter(|k| k.starts_with(prefix) && after.is_none_or(|a| k.as_str() > a));
            self.answer(keys.take(limit as usize).cloned().collect())
        }

        fn bytes(&self) -> ShelfFuture<'_, u64> {
            self.answer(self.bytes)
        }
    }

    fn draft(memory: Memory) -> Draft {
        Draft::new(Arc::new(memory), Trace::new(Name::new("h").unwrap(), Arc::new(Mask::default())))
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn text(value: Option<Bytes>) -> Option<String> {
        value.map(|v| String::from_utf8(v.to_vec()).unwrap())
    }

    #[test]
    fn an_attempt_reads_its_own_writes() {
        let mut draft = draft(Memory::of(&[("a", "1"), ("b", "2")]));
        run(async {
            assert_eq!(text(draft.get("a").await.unwrap()).as_deref(), Some("1"));
            draft.set("a".into(), b"new".to_vec(), None).await.unwrap();
            assert_eq!(text(draft.get("a").await.unwrap()).as_deref(), Some("new"));
            draft.delete("b".into()).await.unwrap();
            assert_eq!(draft.get("b").await.unwrap(), None);
            assert_eq!(draft.get("c").await.unwrap(), None);
        });
        let txn = draft.into_txn();
        // Only what was read from the shelf is a read: `b` was not.
        assert_eq!(txn.reads, BTreeMap::from([("a".to_owned(), 7), ("c".to_owned(), 0)]));
        assert_eq!(txn.writes.len(), 2);
    }

    #[test]
    fn additions_commute_unless_their_sum_is_read() {
        let mut draft = draft(Memory::of(&[("n", "40")]));
        run(async {
            draft.add("n".into(), 3, Some(Duration::from_secs(9))).await.unwrap();
            draft.add("n".into(), -1, None).await.unwrap();
        });
        assert!(draft.txn.reads.is_empty());
        let expected = ShelfWrite::Add { delta: 2, ttl: Some(Duration::from_secs(9)) };
        assert_eq!(draft.txn.writes["n"], expected);
        assert_eq!(text(run(draft.get("n")).unwrap()).as_deref(), Some("42"));
        assert_eq!(draft.txn.reads["n"], 7);
    }

    #[test]
    fn adding_to_what_this_attempt_wrote() {
        let mut draft = draft(Memory::of(&[("gone", "5"), ("word", "five")]));
        run(async {
            draft.set("set".into(), b"10".to_vec(), None).await.unwrap();
            draft.add("set".into(), 5, None).await.unwrap();
            draft.delete("gone".into()).await.unwrap();
            draft.add("gone".into(), 5, None).await.unwrap();
            draft.set("text".into(), b"x".to_vec(), None).await.unwrap();
            assert!(matches!(draft.add("text".into(), 1, None).await, Err(Error::Unavailable(_))));
            draft.add("word".into(), 1, None).await.unwrap();
            assert!(matches!(draft.get("word").await, Err(Error::Unavailable(_))));
            draft.add("max".into(), i64::MAX, None).await.unwrap();
            assert!(matches!(draft.add("max".into(), 1, None).await, Err(Error::Unavailable(_))));
        });
        assert_eq!(draft.txn.writes["set"], ShelfWrite::Set { value: "15".into(), ttl: None });
        assert_eq!(draft.txn.writes["gone"], ShelfWrite::Set { value: "5".into(), ttl: None });
    }

    #[test]
    fn a_listing_goes_on_past_what_was_deleted() {
        let mut draft = draft(Memory::of(&[("a1", ""), ("a2", ""), ("a3", ""), ("a4", ""), ("b", "")]));
        run(async {
            draft.delete("a1".into()).await.unwrap();
            draft.delete("a2".into()).await.unwrap();
            draft.set("a25".into(), vec![], None).await.unwrap();
            draft.add("a9".into(), 1, None).await.unwrap();
            assert_eq!(draft.list("a", None, 2).await.unwrap(), ["a25", "a3"]);
            assert_eq!(draft.list("a", Some("a3"), 9).await.unwrap(), ["a4", "a9"]);
            assert_eq!(draft.list("a", None, 0).await.unwrap(), Vec::<String>::new());
            assert_eq!(draft.list("c", None, u32::MAX).await.unwrap(), Vec::<String>::new());
        });
        // What the shelf itself said is what the settle compares.
        let listed: Vec<_> = draft.txn.lists.iter().map(|l| l.keys.join(",")).collect();
        assert_eq!(listed, ["a1,a2", "a3,a4", "a4", ""]);
        assert_eq!(draft.txn.lists[3].limit, limits::SHELF_LIST_MAX);
    }

    #[test]
    fn sizes_and_counts_have_ends() {
        let mut draft = draft(Memory { bytes: limits::SHELF_BYTES_MAX - 100, ..Memory::default() });
        run(async {
            let long = "k".repeat(limits::SHELF_KEY_BYTES_MAX + 1);
            assert_eq!(draft.get(&long).await, Err(Error::TooLarge));
            assert_eq!(draft.list(&long, None, 1).await, Err(Error::TooLarge));
            assert!(matches!(draft.get("").await, Err(Error::Unavailable(_))));
            let large = vec![0; limits::SHELF_VALUE_BYTES_MAX + 1];
            assert_eq!(draft.set("k".into(), large, None).await, Err(Error::TooLarge));
            assert_eq!(draft.set("k".into(), vec![0; 100], None).await, Err(Error::Quota));
            draft.set("k".into(), vec![0; 99], None).await.unwrap();
            draft.set("k".into(), vec![1; 99], None).await.unwrap();
            assert_eq!(draft.add("l".into(), 1, None).await, Err(Error::Quota));
            draft.delete("l".into()).await.unwrap();
        });
    }

    #[test]
    fn a_transaction_has_ends() {
        let mut full = draft(Memory::default());
        run(async {
            for n in 0..limits::SHELF_WRITES_MAX {
                full.delete(n.to_string()).await.unwrap();
            }
            assert_eq!(full.delete("one more".into()).await, Err(Error::Quota));
            full.delete("0".into()).await.unwrap();
        });
        let mut heavy = draft(Memory::default());
        run(async {
            let value = vec![0; limits::SHELF_VALUE_BYTES_MAX - 2];
            for n in 0..limits::SHELF_TXN_BYTES_MAX / limits::SHELF_VALUE_BYTES_MAX {
                heavy.set(n.to_string(), value.clone(), None).await.unwrap();
            }
            assert_eq!(heavy.set("one more".into(), value, None).await, Err(Error::Quota));
        });
        let mut curious = draft(Memory::default());
        run(async {
            for n in 0..limits::SHELF_READS_MAX {
                curious.get(&n.to_string()).await.unwrap();
            }
            assert!(matches!(curious.get("one more").await, Err(Error::Unavailable(_))));
            curious.get("0").await.unwrap();
            for _ in 0..limits::SHELF_LISTINGS_MAX {
                curious.list("", None, 1).await.unwrap();
            }
            assert!(matches!(curious.list("", None, 1).await, Err(Error::Unavailable(_))));
        });
    }

    #[test]
    fn a_shelf_that_does_not_answer_is_the_hosts_fault() {
        let mut draft = draft(Memory { is_broken: true, ..Memory::default() });
        assert_eq!(run(draft.get("a")), Err(Error::Unavailable("the disk is gone".into())));
        assert_eq!(draft.trace.last_cause(), Cause::Host);
        assert_eq!(draft.trace.is_waiting(), Waiting::Guest);
    }

    #[test]
    fn the_quota_is_asked_for_once() {
        let memory = Arc::new(Memory::default());
        let shelf: Arc<dyn Shelf> = memory.clone();
        let mut draft = Draft::new(shelf, Trace::new(Name::new("h").unwrap(), Arc::new(Mask::default())));
        run(async {
            for n in 0..10 {
                draft.set(n.to_string(), vec![], Some(Duration::MAX)).await.unwrap();
            }
        });
        assert_eq!(*memory.asked.lock().unwrap(), 1);
        assert_eq!(
            draft.txn.writes["0"],
            ShelfWrite::Set { value: Bytes::new(), ttl: Some(limits::SHELF_TTL_MAX) }
        );
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, u8),
        Delete(u8),
        Add(u8, i8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..8, any::<u8>()).prop_map(|(k, v)| Step::Set(k, v)),
            (0u8..8).prop_map(Step::Delete),
            (0u8..8, any::<i8>()).prop_map(|(k, d)| Step::Add(k, d)),
        ]
    }

    proptest! {
        /// Reads and listings show what a plain map would show after the same steps.
        #[test]
        fn a_draft_is_a_map(base in proptest::collection::btree_map("[0-7]", "[1-9]", 0..8),
                            steps in proptest::collection::vec(step(), 0..12), limit in 1u32..10) {
            let mut model: BTreeMap<String, String> = base.clone();
            let mut draft = draft(Memory { values: base, ..Memory::default() });
            run(async {
                for step in steps {
                    match step {
                        Step::Set(k, v) => {
                            draft.set(k.to_string(), v.to_string().into(), None).await.unwrap();
                            model.insert(k.to_string(), v.to_string());
                        }
                        Step::Delete(k) => {
                            draft.delete(k.to_string()).await.unwrap();
                            model.remove(&k.to_string());
                        }
                        Step::Add(k, d) => {
                            draft.add(k.to_string(), d.into(), None).await.unwrap();
                            let sum = model.get(&k.to_string()).map_or(0, |v| v.parse::<i64>().unwrap()) + i64::from(d);
                            model.insert(k.to_string(), sum.to_string());
                        }
                    }
                }
                let mut listed = Vec::new();
                loop {
                    let page = draft.list("", listed.last().map(String::as_str), limit).await.unwrap();
                    if page.is_empty() {
                        break;
                    }
                    listed.extend(page);
                }
                prop_assert_eq!(&listed, &model.keys().cloned().collect::<Vec<_>>());
                for key in (0..8).map(|k| k.to_string()) {
                    prop_assert_eq!(text(draft.get(&key).await.unwrap()), model.get(&key).cloned());
                }
                Ok(())
            })?;
        }
    }
}
