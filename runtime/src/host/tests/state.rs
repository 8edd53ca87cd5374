//! State through a real guest, and shelves that misbehave.

use std::sync::Arc;
use std::time::Duration;

use super::rig::*;
use crate::host::{Shelf, ShelfFuture};
use crate::words::attempt::{Blame, ErrorKind};
use crate::words::shelf::{ShelfRead, ShelfWrite};

#[test]
fn an_attempt_reads_its_own_writes_and_leaves_a_transaction() {
    on_guests(async {
        let called = Setup::new("get-state").call().await;
        assert_eq!(note(&called), "None Some(\"evt_1\")");
        assert_eq!(called.shelf.reads["last"], 0);
        assert_eq!(called.shelf.writes["last"], ShelfWrite::Set { value: "evt_1".into(), ttl: None });

        let called = Setup::new("add-state").call().await;
        assert_eq!(called.shelf.writes["count"], ShelfWrite::Add { delta: 1, ttl: None });
        assert!(called.shelf.reads.is_empty());

        let memory = Memory([("a".into(), "1".into()), ("c".into(), "1".into())].into());
        let called = Setup::new("list-state").bind().call(event(), Arc::new(memory), live()).await;
        assert_eq!(note(&called), "b,c");
        assert_eq!(called.shelf.lists[0].keys, ["a", "c"]);
    });
}

#[test]
fn a_failed_attempt_leaves_no_trace() {
    let called = on_guests(Setup::new("set-state-then-reject").call());
    assert_eq!(failure(&called).0, ErrorKind::Reject);
    assert_eq!(called.shelf, Default::default());
}

enum Broken {
    Panics,
    Hangs,
    Fails,
}

impl Shelf for Broken {
    fn get<'a>(&'a self, _: &'a str) -> ShelfFuture<'a, ShelfRead> {
        match self {
            Broken::Panics => Box::pin(async { panic!("the shelf fell down") }),
            Broken::Hangs => Box::pin(std::future::pending()),
            Broken::Fails => Box::pin(std::future::ready(Err("no disk".into()))),
        }
    }

    fn list<'a>(&'a self, _: &'a str, _: Option<&'a str>, _: u32) -> ShelfFuture<'a, Vec<String>> {
        Box::pin(std::future::pending())
    }

    fn bytes(&self) -> ShelfFuture<'_, u64> {
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_broken_shelf_is_the_hosts_fault() {
    on_guests(async {
        let cases = [
            (
                Broken::Panics,
                ErrorKind::Host,
                "the host panicked while it served the handler: the shelf fell down",
            ),
            (
                Broken::Hangs,
                ErrorKind::Timeout,
                "not done within 300 ms: the handler's state had not answered yet",
            ),
            (Broken::Fails, ErrorKind::Retry, "no disk"),
        ];
        for (shelf, kind, expected) in cases {
            let handler = Setup::new("get-state").limits(|l| l.timeout = Duration::from_millis(300)).bind();
            let called = handler.call(event(), Arc::new(shelf), live()).await;
            let (found, blame, reason, permanent) = failure(&called);
            assert_eq!((found, blame, permanent), (kind, Blame::Host, false), "{reason}");
            assert!(reason.contains(expected), "{reason}");
            assert!(!called.was_not_begun(), "{reason}");
        }
        // The engine has survived all of them.
        assert_eq!(note(&Setup::new("add-state").call().await), "added");
    });
}
