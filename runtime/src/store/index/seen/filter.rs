//! Filter: says of nearly every new key that a run does not have it, without asking the tree.

use crate::store::claims::Hash;
use crate::words::limits::FILTER_BITS_PER_KEY;

const LINE_WORDS: usize = 8;
const PROBES: usize = 7;

/// A Bloom filter in lines of 64 bytes: a question costs one of them. The keys are hashes already.
pub(super) struct Filter {
    words: Vec<u64>,
}

impl Filter {
    pub(super) fn for_keys(keys: u64) -> Filter {
        let bits = usize::try_from(keys).unwrap_or(usize::MAX).saturating_mul(FILTER_BITS_PER_KEY);
        let lines = bits.div_ceil(64 * LINE_WORDS).max(1);
        Filter { words: vec![0; lines * LINE_WORDS] }
    }

    pub(super) fn insert(&mut self, hash: &Hash) {
        for (word, bit) in self.probes(hash) {
            self.words[word] |= bit;
        }
    }

    pub(super) fn may_have(&self, hash: &Hash) -> bool {
        self.probes(hash).all(|(word, bit)| self.words[word] & bit != 0)
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
        for keys in [1, 100, 100_000] {
            let mut filter = Filter::for_keys(keys);
            for n in 0..keys {
                filter.insert(&key_of("in", &n.to_string()));
            }
            assert!((0..keys).all(|n| filter.may_have(&key_of("in", &n.to_string()))));
            let wrong = (0..10_000).filter(|n| filter.may_have(&key_of("out", &n.to_string()))).count();
            assert!(wrong < 300, "{wrong} of 10,000 with {keys} keys");
        }
    }
}
