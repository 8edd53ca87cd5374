//! Tokens that nobody knows beforehand.
//!
//! The standard library seeds its hashers from the operating system; that is enough for a secret which lives
//! as long as one demo, and it needs no further crate.

use std::hash::{BuildHasher, Hasher, RandomState};

/// `bytes` letters and digits.
pub(crate) fn word(bytes: usize) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    (0..bytes)
        .map(|at| {
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_usize(at);
            char::from(ALPHABET[(hasher.finish() % ALPHABET.len() as u64) as usize])
        })
        .collect()
}
