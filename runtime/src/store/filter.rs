//! Filter: says "surely new" about most events without asking the index.
//!
//! sled lets nobody read while it applies a batch, so an accept that asked it would wait for the indexer. A key is
//! put in here before its claim is released; until the filter has been filled from the index it says nothing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwapOption;

use super::claims::Hash;
use super::index::Index;
use super::view::prefixed;
use super::{Error, keys};
use crate::words::limits::{FILTER_BITS_PER_KEY, FILTER_KEYS_MIN};

/// Keys read from the index in one step, between two generations.
const STEP_KEYS: usize = 1024;
const LINE_WORDS: usize = 8;
const PROBES: usize = 7;

#[derive(Default)]
pub(super) struct Filter {
    full: ArcSwapOption<Bits>,
    filling: Mutex<Option<Filling>>,
}

struct Filling {
    bits: Bits,
    /// The last key that was read; None: none yet.
    after: Option<Vec<u8>>,
}

impl Filter {
    /// False: the index does not have this key, and no generation on its way does.
    pub(super) fn may_have(&self, hash: &Hash) -> bool {
        self.full.load().as_ref().is_none_or(|bits| bits.may_have(hash))
    }

    /// Before the claim on the key is released.
    pub(super) fn insert(&self, hash: &Hash) {
        if let Some(bits) = self.full.load().as_ref() {
            bits.insert(hash);
        }
        if let Some(filling) = self.lock().as_ref() {
            filling.bits.insert(hash);
        }
    }

    /// Begins to fill a new one where there is none, or where the old one says "perhaps" too often.
    pub(super) fn begin(&self) {
        let full = self.full.load();
        let keys = full.as_ref().map(|bits| bits.keys.load(Ordering::Relaxed));
        if full.as_ref().is_some_and(|bits| bits.has_room()) {
            return;
        }
        let mut filling = self.lock();
        if filling.is_none() {
            let bits = Bits::for_keys(keys.unwrap_or(0).saturating_mul(2));
            *filling = Some(Filling { bits, after: None });
        }
    }

    /// Reads some more keys of the index. False: there is nothing to do.
    pub(super) fn step(&self, index: &Index) -> Result<bool, Error> {
        let mut lock = self.lock();
        let Some(filling) = lock.as_mut() else { return Ok(false) };
        let (from, to) = prefixed(&keys::claims());
        let from = filling.after.take().map_or(from, std::ops::Bound::Excluded);
        let page = index.page((from, to), false, STEP_KEYS)?;
        for (key, _) in &page {
            if let Some(hash) = key.get(1..).and_then(|hash| hash.first_chunk()) {
                filling.bits.insert(hash);
            }
        }
        if page.len() == STEP_KEYS && !filling.bits.has_room() {
            // More keys than were foreseen: again, with room for twice as many.
            let keys = filling.bits.keys.load(Ordering::Relaxed);
            *filling = Filling { bits: Bits::for_keys(keys.saturating_mul(2)), after: None };
        } else if page.len() == STEP_KEYS {
            filling.after = page.last().map(|(key, _)| key.to_vec());
        } else if let Some(filling) = lock.take() {
            self.full.store(Some(std::sync::Arc::new(filling.bits)));
        }
        Ok(true)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Filling>> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A Bloom filter in lines of 64 bytes: a question costs one of them. The keys are hashes already.
struct Bits {
    words: Vec<AtomicU64>,
    keys: AtomicUsize,
}

impl Bits {
    fn for_keys(keys: usize) -> Bits {
        let bits = keys.max(FILTER_KEYS_MIN).saturating_mul(FILTER_BITS_PER_KEY);
        let lines = bits.div_ceil(64 * LINE_WORDS);
        Bits {
            words: (0..lines * LINE_WORDS).map(|_| AtomicU64::new(0)).collect(),
            keys: AtomicUsize::new(0),
        }
    }

    fn has_room(&self) -> bool {
        self.keys.load(Ordering::Relaxed) < self.words.len() * 64 / FILTER_BITS_PER_KEY
    }

    fn insert(&self, hash: &Hash) {
        for (word, bit) in self.probes(hash) {
            self.words[word].fetch_or(bit, Ordering::Relaxed);
        }
        self.keys.fetch_add(1, Ordering::Relaxed);
    }

    fn may_have(&self, hash: &Hash) -> bool {
        self.probes(hash).all(|(word, bit)| self.words[word].load(Ordering::Relaxed) & bit != 0)
    }

    fn probes(&self, hash: &Hash) -> impl Iterator<Item = (usize, u64)> + use<> {
        let [line, spots] =
            [0, 8].map(|at| u64::from_le_bytes(*hash[at..].first_chunk().expect("a hash has sixteen bytes")));
        let lines = (self.words.len() / LINE_WORDS) as u64;
        let first = usize::try_from(line % lines).expect("it is below a length") * LINE_WORDS;
        // Nine bits a probe: three for the word, six for the bit.
        (0..PROBES).map(move |probe| {
            let spot = spots >> (9 * probe);
            (first + (spot & 7) as usize, 1 << ((spot >> 3) & 63))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::claims::key_of;

    #[test]
    fn what_was_put_in_is_found_and_hardly_anything_else() {
        let bits = Bits::for_keys(0);
        let keys = FILTER_KEYS_MIN / 8;
        for n in 0..keys {
            bits.insert(&key_of("in", &n.to_string()));
        }
        assert!((0..keys).all(|n| bits.may_have(&key_of("in", &n.to_string()))));
        let wrong = (0..keys).filter(|n| bits.may_have(&key_of("out", &n.to_string()))).count();
        assert!(wrong * 1000 < keys, "{wrong} of {keys}");
    }
}
