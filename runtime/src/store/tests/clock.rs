//! The clock: a wall clock that is wrong makes the store neither forget what it has seen nor end what is open.

use super::*;

const BEFORE_NTP: Millis = Millis(1_000);
/// The year 2099.
const FAR: Millis = Millis(4_090_000_000_000);

fn window_options(path: &Path) -> Options {
    Options { open_age_max: DAY * 10, ..options(path) }
}

fn received(id: &str, now: Millis) -> Accept {
    Accept { received_at: now, ..for_crm(id) }
}

async fn is_duplicate(ledger: &Ledger, id: &str, now: Millis) -> bool {
    ledger.accept(received(id, now)).await.unwrap().events()[0].duplicate
}

/// Each start by its wall clock: everything ever accepted is still known and still open, there and in the end.
async fn survives(starts: &[Millis], rebuild: bool) {
    let dir = tempfile::tempdir().unwrap();
    for (round, now) in starts.iter().enumerate() {
        let (ledger, _) = Ledger::open(window_options(dir.path()), *now).unwrap();
        for before in 0..round {
            assert!(is_duplicate(&ledger, &format!("evt_{before}"), *now).await, "{before} at start {round}");
        }
        assert!(!is_duplicate(&ledger, &format!("evt_{round}"), *now).await);
        assert!(is_duplicate(&ledger, &format!("evt_{round}"), *now).await, "its own at start {round}");
        let retained = ledger.retain(*now).await.unwrap();
        assert_eq!(retained.deliveries_dead, 0, "at start {round}");
        if round % 2 == 0 {
            ledger.close().await.unwrap();
        }
        drop(ledger);
        if rebuild {
            std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
    }
    let now = starts.last().unwrap().plus(DAY);
    let (ledger, _) = Ledger::open(window_options(dir.path()), now).unwrap();
    assert_eq!(ledger.retain(now).await.unwrap().deliveries_dead, 0);
    // What a very first start received in the future waits for that; nothing tells that it was wrong.
    let until = now.max(starts[0]);
    assert_eq!(due(&ledger, until).await.len(), starts.len(), "nothing else is put off");
}

#[tokio::test]
async fn a_clock_that_was_wrong_at_a_start_forgets_nothing_and_ends_nothing() {
    let next = NOW.plus(DAY);
    for rebuild in [false, true] {
        survives(&[BEFORE_NTP, NOW, next], rebuild).await;
        survives(&[NOW, BEFORE_NTP, next], rebuild).await;
        survives(&[NOW, FAR, next], rebuild).await;
        survives(&[FAR, NOW, next], rebuild).await;
        survives(&[NOW, FAR, BEFORE_NTP, FAR, next], rebuild).await;
    }
}

#[tokio::test]
async fn what_was_accepted_by_a_wrong_clock_expires_and_dies_in_its_time() {
    for first in [BEFORE_NTP, FAR] {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, _) = Ledger::open(window_options(dir.path()), first).unwrap();
        assert!(!is_duplicate(&ledger, "evt", first).await);
        ledger.close().await.unwrap();
        drop(ledger);
        let (ledger, _) = Ledger::open(window_options(dir.path()), NOW).unwrap();
        assert!(!is_duplicate(&ledger, "other", NOW.plus(Duration::from_secs(1800))).await);
        drop(ledger);
        let later = NOW.plus(DAY * 11);
        let (ledger, _) = Ledger::open(window_options(dir.path()), later).unwrap();
        assert_eq!(ledger.retain(later).await.unwrap().deliveries_dead, if first == FAR { 0 } else { 2 });
        assert!(first == FAR || !is_duplicate(&ledger, "evt", later).await);
    }
}

#[tokio::test]
async fn a_wall_clock_that_jumps_ahead_makes_no_segment_old() {
    let dir = tempfile::tempdir().unwrap();
    let now = Millis::now();
    let (ledger, _) = open_small(dir.path(), options(dir.path()), now);
    for n in 0..40 {
        let body = Bytes::from(vec![b'x'; 1500]);
        ledger.accept(Accept { received_at: now, body, ..for_nobody(&format!("evt_{n}")) }).await.unwrap();
    }
    drop(ledger);
    let (ledger, _) = open_small(dir.path(), options(dir.path()), FAR);
    assert_eq!(ledger.retain(FAR).await.unwrap().segments_dropped, 0);
}
