//! Fuzz: some thousand cases of the fuzzer's, without its engine, so that a change which breaks them is seen at once.
//! What they are and what must hold of them is in `fuzz/`; `cargo xtask fuzz` looks for longer.

#[path = "../../../fuzz/src/case.rs"]
mod case;
#[path = "../../../fuzz/src/check.rs"]
mod check;
#[path = "../../../fuzz/src/dice.rs"]
mod dice;

use std::collections::BTreeMap;
use std::time::Duration;

use case::Case;
use check::{End, check};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const CASES: u64 = 4000;
const INPUT_BYTES_MAX: usize = 400;
const BODY_BYTES_MAX: usize = 4 << 10;

/// Speed is no matter of a test.
fn no_clock() -> Duration {
    Duration::ZERO
}

#[test]
fn whatever_comes_what_must_hold_holds() {
    let mut ends = BTreeMap::<End, u32>::new();
    for seed in 0..CASES {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = vec![0; random.random_range(0..INPUT_BYTES_MAX)];
        random.fill(&mut bytes[..]);
        let seen = std::panic::catch_unwind(|| check(&Case::read(&bytes, BODY_BYTES_MAX), no_clock));
        let seen = seen.unwrap_or_else(|_| panic!("seed {seed}, see above"));
        *ends.entry(seen.end).or_default() += 1;
    }
    // A check that hardly any case comes to checks nothing.
    for end in [End::NoScheme, End::NoSignature, End::Malformed, End::Mismatch, End::Genuine] {
        assert!(ends.get(&end).is_some_and(|count| *count >= 50), "{end:?}: {ends:?}");
    }
}
