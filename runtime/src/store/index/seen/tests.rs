//! Runs beside a plain map, over random days, merges and starts.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::in_memory::Memory;
use super::super::tree::Home;
use super::*;
use crate::store::claims::Stored;
use crate::words::event::EventRef;

fn entry(id: u64, position: u64, expires: u64) -> KeyEntry {
    let hash = crate::store::claims::key_of("sendpilot", &id.to_string());
    let stored = Stored { event: EventRef { position, ordinal: 0 }, body_hash: id };
    KeyEntry { hash, stored, expires: Millis(expires) }
}

fn write(seen: &Seen, tree: &dyn Tree, entries: Vec<KeyEntry>) {
    let written = seen.written(entries).unwrap();
    let blocks = written.blocks.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
    tree.apply(&mut blocks.chain([written.meta()])).unwrap();
    seen.add(written);
}

#[test]
fn every_key_is_found_and_the_latest_event_counts() {
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let home = Memory::default();
        let mut tree = home.open().unwrap();
        let mut seen = Seen::open(&*tree).unwrap();
        let mut model: BTreeMap<u64, KeyEntry> = BTreeMap::new();
        for position in 1..400 {
            let entries: Vec<KeyEntry> = (0..rng.random_range(1..60))
                .map(|_| {
                    // Some lie before what is known: copied forward.
                    let position = position * 100 - rng.random_range(0..500).min(position * 100);
                    entry(rng.random_range(0..5000), position, u64::MAX)
                })
                .collect();
            for entry in &entries {
                let known = model.entry(entry.stored.body_hash).or_insert(*entry);
                if entry.stored.event > known.stored.event {
                    *known = *entry;
                }
            }
            write(&seen, &*tree, entries);
            for _ in 0..rng.random_range(0..6) {
                seen.step(&*tree, Millis(0), 0).unwrap();
            }
            if rng.random_bool(0.02) {
                home.flush().unwrap();
                tree = home.open().unwrap();
                seen = Seen::open(&*tree).unwrap();
            }
        }
        for id in 0..5000 {
            let hash = entry(id, 0, 0).hash;
            let found = seen.find(&*tree, &hash).unwrap().map(|found| found.stored.event);
            assert_eq!(found, model.get(&id).map(|known| known.stored.event), "seed {seed}, id {id}");
        }
        while seen.step(&*tree, Millis(0), 0).unwrap() {}
        assert!(seen.runs() <= 3 * 8, "{} runs", seen.runs());
        let blocks = tree.page(super::super::prefixed(&keys::seen_blocks()), false, 10_000).unwrap().len();
        assert!(blocks <= model.len() / block::ENTRIES * 2 + seen.runs(), "{blocks} blocks are left");
    }
}

#[test]
fn what_is_over_leaves_the_tree() {
    let home = Memory::default();
    let tree = home.open().unwrap();
    let seen = Seen::open(&*tree).unwrap();
    for day in 0..40 {
        let entries = (0..100).map(|n| entry(day * 100 + n, day * 100 + n, day + 7)).collect();
        write(&seen, &*tree, entries);
        while seen.step(&*tree, Millis(day), day.saturating_sub(10) * 100).unwrap() {}
    }
    let hash = |id| entry(id, 0, 0).hash;
    assert!(seen.find(&*tree, &hash(3950)).unwrap().is_some());
    assert!(seen.find(&*tree, &hash(2950)).unwrap().is_some(), "its event is still there");
    while seen.step(&*tree, Millis(1000), u64::MAX).unwrap() {}
    assert_eq!(seen.runs(), 0);
    assert!(tree.page(super::super::prefixed(&keys::seen_blocks()), false, 10).unwrap().is_empty());
}

#[test]
fn a_merge_that_was_cut_short_leaves_nothing_behind() {
    let home = Memory::default();
    let tree = home.open().unwrap();
    let seen = Seen::open(&*tree).unwrap();
    for run in 0..4 {
        write(&seen, &*tree, (0..5000).map(|n| entry(run * 5000 + n, n + 1, u64::MAX)).collect());
    }
    assert!(seen.step(&*tree, Millis(0), 0).unwrap());
    home.flush().unwrap();
    let seen = Seen::open(&*tree).unwrap();
    while seen.step(&*tree, Millis(0), 0).unwrap() {}
    assert_eq!(seen.runs(), 1);
    let blocks = tree.page(super::super::prefixed(&keys::seen_blocks()), false, 10_000).unwrap().len();
    assert_eq!(blocks, 20_000_usize.div_ceil(block::ENTRIES));
    assert!(seen.find(&*tree, &entry(19_999, 0, 0).hash).unwrap().is_some());
}

#[test]
fn a_block_that_does_not_read_is_an_error_and_never_new() {
    let home = Memory::default();
    let tree = home.open().unwrap();
    let seen = Seen::open(&*tree).unwrap();
    write(&seen, &*tree, vec![entry(1, 1, u64::MAX)]);
    let key = Blob::from(keys::seen_block(1, &entry(1, 0, 0).hash));
    tree.apply(&mut std::iter::once((key, Some(Blob::from(b"not a block"))))).unwrap();
    assert!(matches!(seen.find(&*tree, &entry(1, 0, 0).hash), Err(Error::Index(_))));
}
