//! Simulation: the store lives through random days on a disk that breaks, beside a plain model of itself.
//!
//! One thread does everything, and every choice follows from a seed: what is asked, in which order the futures, the
//! writer and the indexer go, what the disk loses. A failing seed prints its trace, and can be lived through again:
//!
//! - `LONGSHORE_SEED=n`: that one, with its trace
//! - `LONGSHORE_SEEDS=n`: so many; `LONGSHORE_FROM=n`: from this one on
//!
//! `swarm` draws a day, `life` lives it: `asks` what is asked, `batches` what the writer and the indexer do, `hears`
//! what is answered, `ends` how it stops and starts, `check` what must be true, `damage` what may be told
//! instead. `mutants` breaks the promise on purpose.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{NOW, name};
use life::{Figures, Past, live};

mod asks;
mod batches;
mod calls;
mod check;
mod damage;
mod durable;
mod ends;
mod hears;
mod life;
mod machine;
mod model;
mod mutants;
mod swarm;

const SEEDS: u64 = 2000;
const THREADS: usize = 2;
/// Somebody waits for the half million.
const TOLD_EVERY: u64 = 25_000;
/// Seeds that fail, until enough is known.
const FAILURES_MAX: usize = 10;

#[test]
fn the_store_keeps_its_promise_through_every_seed() {
    if let Some(seed) = number_of("LONGSHORE_SEED") {
        let past = live(seed, None);
        past.trace.iter().for_each(|line| println!("{line}"));
        return past.or_panic(seed);
    }
    let (from, seeds) =
        (number_of("LONGSHORE_FROM").unwrap_or(0), number_of("LONGSHORE_SEEDS").unwrap_or(SEEDS));
    let started = Instant::now();
    let (next, figures) = (AtomicU64::new(from), Mutex::new(Figures::default()));
    let failed: Mutex<BTreeMap<u64, Past>> = Mutex::default();
    let live_on = || {
        while failed.lock().unwrap().len() < FAILURES_MAX {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                return;
            }
            if seed > from && (seed - from).is_multiple_of(TOLD_EVERY) {
                println!("{} of {seeds} seeds", seed - from);
            }
            let past = live(seed, None);
            figures.lock().unwrap().add(&past.figures);
            if past.failure.is_some() {
                failed.lock().unwrap().insert(seed, past);
            }
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(live_on))));
    let rate = seeds as f64 / started.elapsed().as_secs_f64();
    println!("{seeds} seeds from {from}, {rate:.0} a second: {:?}", figures.lock().unwrap());
    let failed = failed.into_inner().unwrap();
    for (seed, past) in &failed {
        println!("seed {seed}: {}", past.failure.as_deref().unwrap_or_default());
    }
    if let Some((seed, past)) = failed.into_iter().next() {
        past.or_panic(seed);
    }
}

#[test]
fn a_seed_is_lived_through_again_byte_for_byte() {
    for seed in [1, 2, 3, 4, 5] {
        let (first, second) = (live(seed, None), live(seed, None));
        assert_eq!(first.trace, second.trace);
        assert_eq!(first.image, second.image);
        assert_eq!(first.figures, second.figures);
    }
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

impl Past {
    fn or_panic(self, seed: u64) {
        if let Some(failure) = self.failure {
            let trace = self.trace.join("\n");
            panic!(
                "{trace}\nseed {seed}: {failure}\nagain: LONGSHORE_SEED={seed} cargo test -p longshore --lib simulation"
            );
        }
    }
}

impl Figures {
    fn add(&mut self, other: &Figures) {
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.settled += other.settled;
        self.conflicts += other.conflicts;
        self.dropped += other.dropped;
        self.failed += other.failed;
        self.full += other.full;
        self.starts += other.starts;
        self.rebuilt += other.rebuilt;
        self.unsure_kept += other.unsure_kept;
        self.unsure_lost += other.unsure_lost;
    }
}
