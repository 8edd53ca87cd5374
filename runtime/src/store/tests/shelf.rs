//! Shelves: written with the verdict or not at all, and judged against what was read.

use std::collections::BTreeMap;

use super::*;
use crate::words::shelf::{ShelfListing, ShelfRead, ShelfWrite};

fn set(value: &str) -> ShelfWrite {
    ShelfWrite::Set { value: Bytes::copy_from_slice(value.as_bytes()), ttl: None }
}

fn add(delta: i64) -> ShelfWrite {
    ShelfWrite::Add { delta, ttl: None }
}

fn writes(writes: &[(&str, ShelfWrite)]) -> ShelfTxn {
    let writes: BTreeMap<_, _> =
        writes.iter().map(|(key, write)| ((*key).to_owned(), write.clone())).collect();
    ShelfTxn { writes, ..ShelfTxn::default() }
}

/// Settles a fresh delivery with this transaction.
async fn settle(ledger: &Ledger, id: &str, shelf: ShelfTxn) -> Settled {
    let id = delivery_of(accept_one(ledger, for_crm(id)).await);
    ledger.begin(&id, 1, Digest([3; 32]), NOW).await.unwrap();
    let settled =
        ledger.settle(Settle { shelf, ..settle_with(&id, 1, done(), Verdict::Done) }, NOW).await.unwrap();
    let status = ledger.delivery(&id).await.unwrap().unwrap().row.status;
    assert_eq!(status == Status::Done, settled == Settled::Written, "verdict and writes go together");
    settled
}

async fn get(ledger: &Ledger, key: &str) -> ShelfRead {
    ledger.shelf_get(&name("crm"), key, NOW).await.unwrap()
}

async fn text(ledger: &Ledger, key: &str) -> Option<String> {
    get(ledger, key).await.value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

async fn list(ledger: &Ledger, prefix: &str, after: Option<&str>, limit: u32) -> Vec<String> {
    ledger.shelf_list(&name("crm"), prefix, after, limit, NOW).await.unwrap()
}

#[tokio::test]
async fn values_are_read_listed_counted_and_deleted_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let long = "x".repeat(100_000);
    let txn = writes(&[("a/1", set("one")), ("a/2", set(&long)), ("b", set("")), ("n", add(5))]);
    assert_eq!(settle(&ledger, "evt_1", txn).await, Settled::Written);
    let bytes = ledger.shelf_bytes(&name("crm")).await.unwrap();
    assert_eq!(bytes, 3 + 3 + 3 + 100_000 + 1 + 1 + 1);
    assert_eq!(ledger.shelf_bytes(&name("slack")).await.unwrap(), 0);
    let mut ledger = ledger;
    for restart in ["none", "clean", "crash", "rebuilt"] {
        if restart == "clean" {
            ledger.close().await.unwrap();
        }
        if restart != "none" {
            drop(ledger);
            if restart == "rebuilt" {
                std::fs::remove_dir_all(dir.path().join("index")).unwrap();
            }
            ledger = open(dir.path());
        }
        assert_eq!(text(&ledger, "a/1").await.as_deref(), Some("one"));
        assert_eq!(text(&ledger, "a/2").await.as_deref(), Some(long.as_str()));
        assert_eq!(text(&ledger, "b").await.as_deref(), Some(""));
        assert_eq!(text(&ledger, "n").await.as_deref(), Some("5"));
        assert_eq!(get(&ledger, "none").await, ShelfRead::default());
        assert_eq!(list(&ledger, "a/", None, 10).await, ["a/1", "a/2"]);
        assert_eq!(list(&ledger, "a/", Some("a/1"), 10).await, ["a/2"]);
        assert_eq!(list(&ledger, "", None, 2).await, ["a/1", "a/2"]);
        assert_eq!(ledger.shelf_get(&name("cr"), "ma/1", NOW).await.unwrap(), ShelfRead::default());
    }
    let txn = writes(&[("a/1", ShelfWrite::Delete), ("none", ShelfWrite::Delete), ("n", add(-7))]);
    assert_eq!(settle(&ledger, "evt_2", txn).await, Settled::Written);
    assert_eq!(get(&ledger, "a/1").await, ShelfRead::default());
    assert_eq!(text(&ledger, "n").await.as_deref(), Some("-2"));
    assert_eq!(list(&ledger, "", None, 10).await, ["a/2", "b", "n"]);
    assert_eq!(ledger.shelf_bytes(&name("crm")).await.unwrap(), bytes - 6 + 1);
}

#[tokio::test]
async fn what_was_read_must_still_be_so_and_additions_read_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    settle(&ledger, "evt_1", writes(&[("cursor", set("1"))])).await;
    let read = get(&ledger, "cursor").await;
    let absent = get(&ledger, "other").await;
    assert_eq!(absent.version, 0);

    let reading = |version: u64, key: &str| {
        let mut txn = writes(&[("cursor", set("mine"))]);
        txn.reads.insert(key.to_owned(), version);
        txn
    };
    settle(&ledger, "evt_2", writes(&[("cursor", set("2"))])).await;
    assert_eq!(settle(&ledger, "evt_3", reading(read.version, "cursor")).await, Settled::Conflict);
    assert_eq!(text(&ledger, "cursor").await.as_deref(), Some("2"));
    let read = get(&ledger, "cursor").await;
    assert_eq!(settle(&ledger, "evt_4", reading(read.version, "cursor")).await, Settled::Written);
    assert_eq!(settle(&ledger, "evt_5", reading(0, "other")).await, Settled::Written);
    assert_eq!(settle(&ledger, "evt_6", reading(read.version, "other")).await, Settled::Conflict);

    for n in 0..5 {
        assert_eq!(
            settle(&ledger, &format!("evt_add_{n}"), writes(&[("n", add(n))])).await,
            Settled::Written
        );
    }
    assert_eq!(text(&ledger, "n").await.as_deref(), Some("10"));
    settle(&ledger, "evt_7", writes(&[("cursor", add(3))])).await;
    assert_eq!(text(&ledger, "cursor").await.as_deref(), Some("3"), "what is no number counts as 0");
    settle(&ledger, "evt_8", writes(&[("cursor", add(i64::MAX))])).await;
    assert_eq!(text(&ledger, "cursor").await, Some(i64::MAX.to_string()), "a sum stops at its end");
}

#[tokio::test]
async fn a_listing_that_would_read_otherwise_now_is_a_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    settle(&ledger, "evt_1", writes(&[("a/1", set("")), ("a/3", set("")), ("b", set(""))])).await;
    let listing = |limit: u32, keys: &[&str]| ShelfTxn {
        lists: vec![ShelfListing {
            prefix: "a/".into(),
            after: None,
            limit,
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        }],
        ..writes(&[("seen", add(1))])
    };
    assert_eq!(settle(&ledger, "evt_2", listing(10, &["a/1", "a/3"])).await, Settled::Written);
    settle(&ledger, "evt_3", writes(&[("a/2", set("")), ("c", set(""))])).await;
    assert_eq!(settle(&ledger, "evt_4", listing(10, &["a/1", "a/3"])).await, Settled::Conflict);
    assert_eq!(settle(&ledger, "evt_5", listing(1, &["a/1"])).await, Settled::Written, "behind its limit");
    assert_eq!(text(&ledger, "seen").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn of_two_that_read_the_same_in_one_batch_only_one_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, disk) = open_held(dir.path());
    let mut ids = Vec::new();
    for n in 0..2 {
        ids.push(delivery_of(accept_one(&ledger, for_crm(&format!("evt_{n}"))).await));
    }
    disk.hold();
    // The first batch is stuck, so that the two settles behind it become one batch.
    let mut stuck = Box::pin(ledger.accept(for_crm("evt_stuck")));
    assert!(is_pending(&mut stuck).await);
    disk.wait_for_held_sync();
    let mut settles = Vec::new();
    for id in &ids {
        let mut txn = writes(&[("taken", set(&id.to_string()))]);
        txn.reads.insert("taken".into(), 0);
        let settle = Settle { shelf: txn, ..settle_with(id, 1, done(), Verdict::Done) };
        let mut future = Box::pin(ledger.settle(settle, NOW));
        assert!(is_pending(&mut future).await);
        settles.push(future);
    }
    disk.release();
    stuck.await.unwrap();
    let mut outcomes = Vec::new();
    for settle in settles {
        outcomes.push(settle.await.unwrap());
    }
    assert_eq!(outcomes, [Settled::Written, Settled::Conflict]);
    assert_eq!(text(&ledger, "taken").await, Some(ids[0].to_string()));
}

#[tokio::test]
async fn an_expired_key_reads_as_absent() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let ttl = Some(Duration::from_secs(60));
    let value = Bytes::from_static(b"soon gone");
    let txn = writes(&[
        ("short", ShelfWrite::Set { value, ttl }),
        ("count", ShelfWrite::Add { delta: 4, ttl }),
        ("long", set("stays")),
    ]);
    settle(&ledger, "evt_1", txn).await;
    settle(&ledger, "evt_2", writes(&[("count", add(1))])).await;
    assert_eq!(text(&ledger, "count").await.as_deref(), Some("5"));
    let version = get(&ledger, "short").await.version;
    let later = NOW.plus(Duration::from_secs(60));
    let crm = name("crm");
    for key in ["short", "count"] {
        assert_eq!(ledger.shelf_get(&crm, key, later).await.unwrap(), ShelfRead::default(), "{key}");
    }
    assert_eq!(ledger.shelf_list(&crm, "", None, 10, later).await.unwrap(), ["long"]);
    // Who read it while it was there finds it changed.
    let id = delivery_of(accept_one(&ledger, for_crm("evt_3")).await);
    let mut txn = writes(&[("count", add(1))]);
    txn.reads.insert("short".into(), version);
    let mut settle = Settle { shelf: txn, ..settle_with(&id, 1, done(), Verdict::Done) };
    assert_eq!(ledger.settle(settle.clone(), later).await.unwrap(), Settled::Conflict);
    settle.shelf.reads.insert("short".into(), 0);
    assert_eq!(ledger.settle(settle, later).await.unwrap(), Settled::Written);
    let count = ledger.shelf_get(&crm, "count", later).await.unwrap().value.unwrap();
    assert_eq!(count, &b"1"[..], "it counts from nothing again");
}

#[tokio::test]
async fn a_wall_clock_that_jumps_does_not_reset_a_counter() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let ttl = Some(DAY);
    settle(&ledger, "evt_1", writes(&[("count", ShelfWrite::Add { delta: 4, ttl })])).await;
    let id = delivery_of(accept_one(&ledger, for_crm("evt_2")).await);
    let shelf = writes(&[("count", add(1))]);
    let settle = Settle { shelf, ..settle_with(&id, 1, done(), Verdict::Done) };
    ledger.settle(settle, NOW.plus(DAY * 10)).await.unwrap();
    assert_eq!(text(&ledger, "count").await.as_deref(), Some("5"));
    ledger.close().await.unwrap();
    drop(ledger);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    assert_eq!(text(&open(dir.path()), "count").await.as_deref(), Some("5"));
}

#[tokio::test]
async fn expired_keys_are_swept_and_again_after_a_rebuild() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let short = |n: usize| (format!("short/{n}"), ShelfWrite::Set { value: Bytes::new(), ttl: Some(DAY) });
    for from in [0, 200] {
        let all: BTreeMap<_, _> = (from..from + 200).map(short).collect();
        settle(&ledger, &format!("evt_{from}"), ShelfTxn { writes: all, ..ShelfTxn::default() }).await;
    }
    settle(&ledger, "evt_long", writes(&[("long", set("stays"))])).await;
    drop(ledger);
    let later = NOW.plus(DAY * 2);
    let (ledger, _) = open_at(dir.path(), later);
    ledger.retain(later).await.unwrap();
    assert_eq!(ledger.shelf_bytes(&name("crm")).await.unwrap(), 9);
    ledger.close().await.unwrap();
    drop(ledger);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (ledger, _) = open_at(dir.path(), later);
    ledger.retain(later).await.unwrap();
    assert_eq!(ledger.shelf_bytes(&name("crm")).await.unwrap(), 9);
    assert_eq!(text(&ledger, "long").await.as_deref(), Some("stays"));
}

#[test]
fn a_listing_ends_at_its_bound() {
    use crate::store::{index::Blob, keys, shelf};
    let entries = (0..=crate::words::limits::SHELF_SCAN_MAX).map(|n| {
        let key = keys::shelf(&name("crm"), &n.to_string());
        Ok((Blob::from(key), shelf::expired_entry()))
    });
    assert!(matches!(shelf::list(entries, 1, NOW), Err(Error::ShelfScan(_))));
}
