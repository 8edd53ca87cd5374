//! The past beside a plain map: rows noted, written, packed into tables, opened again, and asked for by filters.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::in_memory::Memory;
use super::super::tree::Home;
use super::*;
use crate::store::Status;
use crate::words::attempt::ErrorKind;
use crate::words::event::{EventRef, Name};

fn id(position: u64) -> DeliveryId {
    let event = EventRef { position, ordinal: 0 };
    DeliveryId { event, subscription: Name::new("to-crm").unwrap() }
}

fn row(rng: &mut StdRng, changed_at: u64) -> Row {
    let source = Name::new(["sendpilot", "stripe"][rng.random_range(0..2)]).unwrap();
    let status = [Status::Done, Status::Dead][usize::from(rng.random_bool(0.01))];
    Row {
        status,
        source,
        event_type: format!("type.{}", rng.random_range(0..20)),
        error_kind: (status == Status::Dead).then_some(ErrorKind::Timeout),
        changed_at,
        ..Row::ended_example()
    }
}

fn write(past: &Past, tree: &dyn Tree, ended: Vec<Ended>) {
    let reached = ended.iter().map(|(_, row)| row.changed_at + 1).max().unwrap();
    write_to(past, tree, ended, reached);
}

/// With the position that the index has come to.
fn write_to(past: &Past, tree: &dyn Tree, ended: Vec<Ended>, reached: u64) {
    past.note(ended.iter().cloned());
    let reached = (Blob::from(keys::POSITION), Some(Blob::from(&reached.to_be_bytes())));
    tree.apply(&mut past.written(&ended).into_iter().chain([reached])).unwrap();
    past.applied(&ended);
}

fn walked(past: &Past, tree: &dyn Tree, filter: &DeliveryFilter, below: Option<&DeliveryId>) -> Vec<Ended> {
    let mut walk = past.walk(tree, filter, below);
    std::iter::from_fn(|| walk.next().unwrap()).collect()
}

#[test]
fn rows_come_back_by_delivery_and_by_every_filter() {
    let mut rng = StdRng::seed_from_u64(7);
    let home = Memory::default();
    let tree = home.open().unwrap();
    let mut past = Past::open(&*tree).unwrap();
    let mut model: BTreeMap<DeliveryId, Row> = BTreeMap::new();
    let mut changed_at = 0;
    for round in 0..60 {
        let mut ended = Vec::new();
        for _ in 0..1000 {
            changed_at += 1;
            // Nearly in order; a few end late, and some end again.
            let late = if rng.random_bool(0.1) { rng.random_range(0..20_000) } else { 0 };
            let id = id((changed_at * 10_u64).saturating_sub(late * 10));
            if ended.iter().all(|(other, _): &Ended| *other != id) {
                ended.push((id, row(&mut rng, changed_at)));
            }
        }
        model.extend(ended.iter().cloned());
        write(&past, &*tree, ended);
        while past.step(&*tree, 0).unwrap() {}
        if round % 17 == 0 {
            home.flush().unwrap();
            past = Past::open(&*tree).unwrap();
        }
    }
    assert!(past.tables.load().len() >= 2, "some of it is in tables");
    for id in model.keys().step_by(97) {
        assert_eq!(past.find(&*tree, id).unwrap().as_ref(), model.get(id));
    }
    assert_eq!(past.find(&*tree, &id(3)).unwrap(), None);
    let filters = [
        DeliveryFilter::default(),
        DeliveryFilter { status: Some(Status::Dead), ..DeliveryFilter::default() },
        DeliveryFilter { event_type: Some("type.7".into()), ..DeliveryFilter::default() },
        DeliveryFilter {
            source: Some(Name::new("stripe").unwrap()),
            error_kind: Some(ErrorKind::Timeout),
            ..DeliveryFilter::default()
        },
        DeliveryFilter { source: Some(Name::new("nobody").unwrap()), ..DeliveryFilter::default() },
    ];
    for filter in &filters {
        for below in [None, Some(id(200_000))] {
            let expected = model.iter().rev().filter(|(_, row)| row.is(filter));
            let expected = expected.filter(|(id, _)| below.as_ref().is_none_or(|below| *id < below));
            let expected: Vec<&DeliveryId> = expected.map(|(id, _)| id).collect();
            let found = walked(&past, &*tree, filter, below.as_ref());
            // What ended again elsewhere comes up as it ended first, too: whoever lists asks for the last word.
            let current = found.iter().filter(|(id, row)| model[id].changed_at == row.changed_at);
            let mut current: Vec<&DeliveryId> = current.map(|(id, _)| id).collect();
            current.dedup();
            assert!(current == expected, "{filter:?}: {} and {}", current.len(), expected.len());
            assert!(found.is_sorted_by(|(a, _), (b, _)| a >= b), "{filter:?}");
        }
    }
}

#[test]
fn rows_that_were_copied_forward_stay_as_long_as_the_copy_does() {
    let mut rng = StdRng::seed_from_u64(9);
    let home = Memory::default();
    let tree = home.open().unwrap();
    let past = Past::open(&*tree).unwrap();
    let count = PAST_TABLE_ROWS as u64;
    let copied_to = count * 10;
    write_to(&past, &*tree, (1..=count).map(|n| (id(n), row(&mut rng, n))).collect(), copied_to);
    assert!(past.step(&*tree, count + 1).unwrap());
    assert!(!past.step(&*tree, copied_to - 1).unwrap());
    assert!(past.find(&*tree, &id(7)).unwrap().is_some());
    assert!(past.step(&*tree, copied_to).unwrap());
    assert_eq!(past.find(&*tree, &id(7)).unwrap(), None);
}

#[test]
fn a_table_goes_when_its_records_are_gone_and_damage_is_told() {
    let mut rng = StdRng::seed_from_u64(8);
    let home = Memory::default();
    let tree = home.open().unwrap();
    let past = Past::open(&*tree).unwrap();
    let count = PAST_TABLE_ROWS as u64;
    write(&past, &*tree, (1..=count).map(|n| (id(n), row(&mut rng, n))).collect());
    assert!(past.step(&*tree, 0).unwrap());
    assert_eq!(tree.tables().unwrap(), [1]);
    assert!(past.find(&*tree, &id(7)).unwrap().is_some());
    let bytes = tree.read_table(1, 0, usize::MAX >> 1).unwrap();
    for at in [9, bytes.len() / 2, bytes.len() - 20] {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1;
        tree.put_table(1, &damaged).unwrap();
        let read = || {
            let filter = DeliveryFilter { status: Some(Status::Done), ..DeliveryFilter::default() };
            let mut walk = past.walk(&*tree, &filter, None);
            while walk.next()?.is_some() {}
            Ok::<_, Error>(())
        };
        assert!(matches!(read(), Err(Error::Index(_))), "byte {at}");
    }
    tree.put_table(1, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(Past::open(&*tree), Err(Error::Index(_))));
    tree.put_table(1, &bytes).unwrap();
    assert!(!past.step(&*tree, count).unwrap());
    assert!(past.step(&*tree, count + 1).unwrap());
    assert!(tree.tables().unwrap().is_empty());
    assert_eq!(past.find(&*tree, &id(7)).unwrap(), None);
}
