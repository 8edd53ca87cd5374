//! How lanes stand: over crashes, rebuilds and retention; and what history says of it.

use super::*;
use crate::words::lane::LaneChange;

fn paused(reason: &str) -> LaneChange {
    LaneChange::Paused { reason: Some(reason.to_owned()) }
}

fn resumed() -> LaneChange {
    LaneChange::Resumed { reason: None }
}

fn opened(failures: u32) -> LaneChange {
    LaneChange::Opened {
        origin: "https://api.hubapi.com".to_owned(),
        failures,
        since: NOW,
        why: "answered 503".to_owned(),
        probe_at: NOW,
        waiting: 40_000,
    }
}

fn closed() -> LaneChange {
    LaneChange::Closed { why: "all is well".to_owned(), since: NOW }
}

async fn say(ledger: &Ledger, handler: &str, change: LaneChange, at: Millis) {
    ledger.lane_changed(&name(handler), change, at).await.unwrap();
}

/// What stands: the pause, and the breaker.
async fn standing(ledger: &Ledger, handler: &str) -> (Option<LaneChange>, Option<LaneChange>) {
    let Standing { paused, breaker } = ledger.lane_standing(&name(handler)).await.unwrap();
    (paused.map(|entry| entry.change), breaker.map(|entry| entry.change))
}

async fn history(ledger: &Ledger, handler: &str) -> Vec<LaneChange> {
    let page = ledger.lane_history(&name(handler), None, 100).await.unwrap();
    assert_eq!(page.next, None);
    page.rows.into_iter().map(|entry| entry.change).collect()
}

#[tokio::test]
async fn what_stands_survives_a_crash_and_the_loss_of_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    assert_eq!(standing(&ledger, "crm").await, (None, None));
    for change in [opened(20), paused("a move"), closed(), opened(5)] {
        say(&ledger, "crm", change, NOW).await;
    }
    say(&ledger, "cr", paused("another"), NOW).await;
    say(&ledger, "slack", paused("x"), NOW).await;
    say(&ledger, "slack", resumed(), NOW).await;
    let expected = (Some(paused("a move")), Some(opened(5)));
    assert_eq!(standing(&ledger, "crm").await, expected);
    drop(ledger);
    let ledger = open(dir.path());
    assert_eq!(standing(&ledger, "crm").await, expected);
    ledger.close().await.unwrap();
    drop(ledger);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let ledger = open(dir.path());
    assert_eq!(standing(&ledger, "crm").await, expected);
    assert_eq!(standing(&ledger, "cr").await, (Some(paused("another")), None));
    assert_eq!(standing(&ledger, "slack").await, (None, None));
    assert_eq!(history(&ledger, "crm").await, [opened(5), closed(), paused("a move"), opened(20)]);
    assert_eq!(history(&ledger, "slack").await, [resumed(), paused("x")]);
}

#[tokio::test]
async fn history_comes_in_pages_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    for n in 0..7 {
        say(&ledger, "crm", opened(n), NOW.plus(Duration::from_secs(u64::from(n)))).await;
    }
    let (mut cursor, mut pages) = (None, Vec::new());
    loop {
        let page = ledger.lane_history(&name("crm"), cursor, 3).await.unwrap();
        let failures = |entry: &LaneEntry| match &entry.change {
            LaneChange::Opened { failures, .. } => *failures,
            other => panic!("{other:?}"),
        };
        pages.push(page.rows.iter().map(failures).collect::<Vec<_>>());
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(pages, [vec![6, 5, 4], vec![3, 2, 1], vec![0]]);
    let wrong = ledger.lane_history(&name("crm"), Some("not one".into()), 3).await;
    assert!(matches!(wrong, Err(Error::BadCursor(_))));
}

#[tokio::test]
async fn retention_keeps_what_stands_and_drops_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let now = Millis::now();
    // All but the last segments are too many.
    let options = Options { retain_bytes: 40_000, ..options(dir.path()) };
    let (ledger, _) = open_small(dir.path(), options.clone(), now);
    for change in [opened(20), closed(), paused("a move"), opened(5)] {
        say(&ledger, "crm", change, now).await;
    }
    let expected = (Some(paused("a move")), Some(opened(5)));
    // Twice: a copy is copied again.
    for round in 0..2 {
        fill(&ledger, round, now.plus(Duration::from_secs(round + 1))).await;
        let retained = ledger.retain(now).await.unwrap();
        assert!(retained.segments_dropped > 0, "round {round}: {retained:?}");
        assert_eq!(standing(&ledger, "crm").await, expected, "round {round}");
        let mut left = history(&ledger, "crm").await;
        left.sort_by_key(|change| change.word());
        assert_eq!(left, [opened(5), paused("a move")], "round {round}");
    }
    let entry = ledger.lane_standing(&name("crm")).await.unwrap().paused.unwrap();
    assert_eq!(entry.at, now, "it stands since then");
    ledger.close().await.unwrap();
    drop(ledger);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (ledger, _) = open_small(dir.path(), options, now);
    assert_eq!(standing(&ledger, "crm").await, expected);
    assert_eq!(history(&ledger, "crm").await.len(), 2);
    say(&ledger, "crm", resumed(), now).await;
    say(&ledger, "crm", closed(), now).await;
    fill(&ledger, 9, now).await;
    assert!(ledger.retain(now).await.unwrap().segments_dropped > 0);
    assert_eq!(standing(&ledger, "crm").await, (None, None));
    assert_eq!(history(&ledger, "crm").await, []);
}

/// Enough to fill several segments, all of it done.
async fn fill(ledger: &Ledger, round: u64, now: Millis) {
    for n in 0..40 {
        let accept = for_crm(&format!("filler_{round}_{n}"));
        let body = Bytes::from(vec![b'x'; 1500]);
        let event = accept_one(ledger, Accept { received_at: now, dedupe_window: DAY, body, ..accept }).await;
        run_done(ledger, event).await;
    }
}
