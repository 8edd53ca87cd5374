//! Retention: old history goes, and nothing that somebody still counts on.

use std::fs;

use super::*;
use crate::words::shelf::ShelfWrite;

/// Segments take the wall clock's time, so these tests live in the present and look ahead.
fn start() -> Millis {
    Millis::now()
}

fn at(accept: Accept, now: Millis, window: Duration) -> Accept {
    Accept { received_at: now, dedupe_window: window, body: Bytes::from(vec![b'x'; 1500]), ..accept }
}

/// Enough to fill several segments, all of it done.
async fn fill(ledger: &Ledger, from: usize, now: Millis) {
    for n in from..from + 40 {
        let event = accept_one(ledger, at(for_crm(&format!("filler_{n}")), now, DAY * 7)).await;
        run_done(ledger, event).await;
    }
}

async fn add(ledger: &Ledger, id: &str, delta: i64, ttl: Option<Duration>, now: Millis) {
    let id = delivery_of(accept_one(ledger, at(for_crm(id), now, DAY * 7)).await);
    let mut settle = settle_with(&id, 1, super::done(), Verdict::Done);
    settle.shelf.writes.insert("count".into(), ShelfWrite::Add { delta, ttl });
    assert_eq!(ledger.settle(settle, now).await.unwrap(), Settled::Written);
}

struct Past {
    open: EventRef,
    held: EventRef,
    done: EventRef,
}

async fn a_past(ledger: &Ledger, now: Millis) -> Past {
    let open = accept_one(ledger, at(for_crm("open"), now, DAY * 365)).await;
    run(ledger, &delivery_of(open), 1, failed("503"), Verdict::Again { at: now.plus(DAY) }).await;
    ledger.accept(at(for_crm("open"), now, DAY * 365)).await.unwrap();
    let held = accept_one(
        ledger,
        at(request(vec![new_event("held", &[("to-crm", "crm"), ("to-gone", "gone")])], ""), now, DAY * 365),
    )
    .await;
    run_done(ledger, held).await;
    let gone = |_: &Name, handler: &Name| match handler.as_str() {
        "gone" => Err("gone".to_owned()),
        _ => Ok(()),
    };
    assert_eq!(ledger.hold_unwanted(gone, now).await.unwrap(), (1, 0));
    let done = accept_one(ledger, at(for_crm("done"), now, DAY * 60)).await;
    let id = delivery_of(done);
    ledger.begin(&id, 1, Digest([3; 32]), now).await.unwrap();
    let mut settle = settle_with(&id, 1, super::done(), Verdict::Done);
    let value = Bytes::from("v".repeat(500));
    settle.shelf.writes.insert("large".into(), ShelfWrite::Set { value, ttl: None });
    settle.shelf.writes.insert("count".into(), ShelfWrite::Add { delta: 7, ttl: None });
    let value = Bytes::from("s".repeat(500));
    settle.shelf.writes.insert("short".into(), ShelfWrite::Set { value, ttl: Some(DAY) });
    assert_eq!(ledger.settle(settle, now).await.unwrap(), Settled::Written);
    let prints = [Fingerprint([2; 6]), Fingerprint([1; 6])];
    ledger.secrets_seen(&name("sendpilot"), &prints, now).await.unwrap();
    Past { open, held, done }
}

/// What must still be so, however often it was moved.
async fn check(ledger: &Ledger, past: &Past, began: Millis, now: Millis) {
    let open = delivery_of(past.open);
    let due: Vec<_> = due(ledger, now).await.into_iter().map(|one| (one.id, one.attempts)).collect();
    assert_eq!(due, [(open.clone(), 1)]);
    let event = ledger.event(past.open).await.unwrap();
    assert_eq!((event.id.as_str(), event.body.len()), ("open", 1500));
    let history = ledger.delivery(&open).await.unwrap().unwrap();
    assert_eq!(history.attempts.len(), 1);
    assert_eq!(history.row.message.as_deref(), Some("503"));
    let row = ledger.event_row(past.open).await.unwrap().unwrap();
    assert_eq!(row.redeliveries, 1);
    assert!(row.answer_us.is_some());

    // The event of a held delivery stays with all of its deliveries.
    let row = ledger.event_row(past.held).await.unwrap().unwrap();
    let statuses: Vec<_> = row.deliveries.iter().map(|one| one.status).collect();
    assert_eq!(statuses, [Status::Done, Status::Held]);
    let done = ledger.delivery(&delivery_of(past.held)).await.unwrap().unwrap();
    assert_eq!(done.attempts.len(), 1);

    // An ended one is gone, but its key is in its window.
    assert!(ledger.event_row(past.done).await.unwrap().is_none());
    assert!(ledger.delivery(&delivery_of(past.done)).await.unwrap().is_none());
    let again = ledger.accept(at(for_crm("done"), now, DAY * 60)).await.unwrap().events()[0].clone();
    assert_eq!((again.duplicate, again.event), (true, past.done));

    let crm = name("crm");
    let large = ledger.shelf_get(&crm, "large", now).await.unwrap();
    assert_eq!(large.value.unwrap(), "v".repeat(500).as_bytes());
    let count = ledger.shelf_get(&crm, "count", now).await.unwrap();
    assert_eq!(count.value.unwrap(), &b"10"[..], "also where only the last addition is left");
    assert_eq!(ledger.shelf_list(&crm, "", None, 10, now).await.unwrap(), ["count", "large"]);
    assert_eq!(ledger.shelf_bytes(&crm).await.unwrap(), 5 + 2 + 5 + 500, "the expired value is gone");
    let prints = [Fingerprint([2; 6]), Fingerprint([1; 6])];
    let seen = ledger.secrets_seen(&name("sendpilot"), &prints, now).await.unwrap();
    assert_eq!(seen, [None, Some(began)]);
    let listed = ledger.events(EventFilter { id: Some("open".into()), ..all_events() }).await.unwrap();
    assert_eq!(listed.rows.len(), 1);
}

#[tokio::test]
async fn what_may_not_go_is_copied_forward_again_and_again_and_survives_a_rebuild() {
    let dir = tempfile::tempdir().unwrap();
    let began = start();
    let options = Options { open_age_max: DAY * 365, ..options(dir.path()) };
    let (ledger, _) = open_small(dir.path(), options.clone(), began);
    let past = a_past(&ledger, began).await;
    let version = ledger.shelf_get(&name("crm"), "large", began).await.unwrap().version;
    fill(&ledger, 0, began).await;
    add(&ledger, "adder", 3, None, began).await;
    assert_eq!(ledger.retain(began).await.unwrap().segments_dropped, 0, "nothing is old");
    assert_eq!(every_id(&ledger).await.len(), 44);
    ledger.close().await.unwrap();
    drop(ledger);

    let mut now = began;
    for round in 0..3 {
        now = now.plus(DAY * 15 + Duration::from_secs(3600));
        let (ledger, _) = open_small(dir.path(), options.clone(), now.plus(DAY * 30));
        fill(&ledger, 100 * (round + 1), now.plus(DAY * 30)).await;
        ledger.close().await.unwrap();
        drop(ledger);
        if round == 2 {
            break;
        }
        let (ledger, _) = open_small(dir.path(), options.clone(), now.plus(DAY * 30));
        let retained = ledger.retain(now.plus(DAY * 30)).await.unwrap();
        if round == 0 {
            assert!(retained.segments_dropped >= 4, "{retained:?}");
            assert_eq!(retained.events_dropped, 82, "the fillers, and the one that was done");
            assert!(retained.bytes_freed > 60_000);
        }
        let stat = ledger.stat();
        assert_eq!((stat.backlog["crm"].open, stat.backlog["gone"].held), (1, 1));
        if now.plus(DAY * 30) < began.plus(DAY * 60) {
            check(&ledger, &past, began, now.plus(DAY * 30)).await;
            assert_eq!(ledger.shelf_get(&name("crm"), "large", now).await.unwrap().version, version);
        }
        let ids = every_id(&ledger).await;
        ledger.close().await.unwrap();
        drop(ledger);
        fs::remove_dir_all(dir.path().join("index")).unwrap();
        let (ledger, recovery) = open_small(dir.path(), options.clone(), now.plus(DAY * 30));
        assert!(recovery.index_rebuilt.is_some());
        assert_eq!(every_id(&ledger).await, ids);
        if now.plus(DAY * 30) < began.plus(DAY * 60) {
            check(&ledger, &past, began, now.plus(DAY * 30)).await;
            assert_eq!(ledger.shelf_get(&name("crm"), "large", now).await.unwrap().version, version);
        }
        assert_eq!(ledger.stat().live_bytes, stat.live_bytes);
    }
}

async fn every_id(ledger: &Ledger) -> Vec<String> {
    let page = ledger.events(all_events()).await.unwrap();
    assert!(page.next.is_none());
    page.rows.into_iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn a_delivery_that_ended_after_its_event_was_moved_stays_ended_after_a_rebuild() {
    let dir = tempfile::tempdir().unwrap();
    let began = start();
    let options = options(dir.path());
    let (ledger, _) = open_small(dir.path(), options.clone(), began);
    let open = accept_one(&ledger, at(for_crm("open"), began, DAY * 7)).await;
    let early = accept_one(&ledger, at(for_crm("early"), began, DAY * 7)).await;
    fill(&ledger, 0, began).await;
    // Ended before the move, in a segment that is not moved.
    let (_, middle) = (ledger.close().await.unwrap(), began.plus(DAY * 20));
    drop(ledger);
    let (ledger, _) = open_small(dir.path(), options.clone(), middle);
    run_done(&ledger, early).await;
    fill(&ledger, 100, middle).await;
    ledger.close().await.unwrap();
    drop(ledger);
    let later = began.plus(DAY * 29);
    let (ledger, _) = open_small(dir.path(), Options { retain_bytes: 150_000, ..options.clone() }, later);
    assert!(ledger.retain(later).await.unwrap().segments_dropped > 0);
    assert_eq!(due(&ledger, later).await.len(), 1);
    run_done(&ledger, open).await;
    ledger.close().await.unwrap();
    drop(ledger);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (ledger, _) = open_small(dir.path(), options, later);
    assert!(due(&ledger, later).await.is_empty());
    let row = ledger.delivery(&delivery_of(open)).await.unwrap().unwrap().row;
    assert_eq!(row.status, Status::Done);
}

#[tokio::test]
async fn the_size_cap_drops_the_oldest_history_first() {
    let dir = tempfile::tempdir().unwrap();
    let began = start();
    let options = Options { retain_bytes: 120_000, ..options(dir.path()) };
    let (ledger, _) = open_small(dir.path(), options, began);
    fill(&ledger, 0, began).await;
    fill(&ledger, 40, began).await;
    assert!(ledger.stat().journal_bytes > 120_000);
    let retained = ledger.retain(began).await.unwrap();
    assert!(retained.segments_dropped > 0);
    let stat = ledger.stat();
    assert!(stat.journal_bytes < 150_000, "{}", stat.journal_bytes);
    let ids = every_id(&ledger).await;
    assert_eq!(ids[0], "filler_79");
    assert!(!ids.contains(&"filler_0".to_owned()));
    assert!(ids.len() > 40, "no more than was needed: {}", ids.len());
    assert!(ledger.accept(at(for_crm("filler_0"), began, DAY)).await.unwrap().events()[0].duplicate);
}

#[tokio::test]
async fn nothing_waits_longer_than_its_age_allows() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { open_age_max: DAY * 10, ..options(dir.path()) };
    let (ledger, _) = Ledger::open(options.clone(), NOW).unwrap();
    let ids: Vec<_> = {
        let mut ids = Vec::new();
        for n in 0..3 {
            ids.push(delivery_of(accept_one(&ledger, for_crm(&format!("evt_{n}"))).await));
        }
        ids
    };
    ledger.park(&ids[1], "poison", NOW).await.unwrap();
    let later = NOW.plus(DAY * 10).plus(Duration::from_millis(1));
    drop(ledger);
    let (ledger, _) = Ledger::open(options, later).unwrap();
    ledger.rule(&ids[2], Ruling::Retry, later).await.unwrap();
    assert_eq!(ledger.retain(later).await.unwrap().deliveries_dead, 2);
    let row = ledger.delivery(&ids[0]).await.unwrap().unwrap().row;
    assert_eq!(row.status, Status::Dead);
    assert_eq!(row.message.as_deref(), Some("open for longer than store.open_max_age"));
    let open = due(&ledger, later).await;
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].id, ids[2], "the operator's retry gave it a fresh time");
}

#[tokio::test]
async fn a_segment_that_came_back_is_deleted_and_one_that_is_missing_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let began = start();
    let options = Options { retain_bytes: 60_000, ..options(dir.path()) };
    let (ledger, _) = open_small(dir.path(), options.clone(), began);
    fill(&ledger, 0, began).await;
    let first = dir.path().join("journal/0000000001.seg");
    let saved = fs::read(&first).unwrap();
    assert!(ledger.retain(began).await.unwrap().segments_dropped > 1);
    assert!(!first.exists());
    let ids = every_id(&ledger).await;
    ledger.close().await.unwrap();
    drop(ledger);

    // As if the process had died between its word and the deletion: all of the dropped ones, or a last one.
    let mut names: Vec<_> =
        fs::read_dir(dir.path().join("journal")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let oldest = names[0].to_string_lossy().into_owned();
    fs::write(&first, &saved).unwrap();
    let error = Ledger::open(options.clone(), began).err().unwrap();
    assert!(error.to_string().contains("missing"), "a gap is a gap: {error}");
    fs::remove_file(&first).unwrap();
    let (ledger, _) = open_small(dir.path(), options.clone(), began);
    assert_eq!(every_id(&ledger).await, ids);
    ledger.close().await.unwrap();
    drop(ledger);

    fs::remove_file(dir.path().join("journal").join(oldest)).unwrap();
    let error = Ledger::open(options, began).err().unwrap();
    assert!(error.to_string().contains("missing"), "{error}");
}

#[tokio::test]
async fn an_expired_value_does_not_count_against_its_shelf_for_long() {
    let dir = tempfile::tempdir().unwrap();
    let began = start();
    let (ledger, _) = Ledger::open(options(dir.path()), began).unwrap();
    add(&ledger, "evt_1", 7, Some(Duration::from_secs(60)), began).await;
    let crm = name("crm");
    ledger.retain(began).await.unwrap();
    assert_eq!(ledger.shelf_bytes(&crm).await.unwrap(), 6);
    ledger.retain(began.plus(Duration::from_secs(60))).await.unwrap();
    assert_eq!(ledger.shelf_bytes(&crm).await.unwrap(), 0);
    assert_eq!(ledger.stat().live_bytes, 0);
    drop(ledger);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (ledger, _) = Ledger::open(options(dir.path()), began).unwrap();
    ledger.retain(began.plus(Duration::from_secs(60))).await.unwrap();
    assert_eq!(ledger.shelf_bytes(&crm).await.unwrap(), 0, "nor after the index was built again");
}

#[tokio::test]
async fn a_counter_that_was_added_to_keeps_its_sum_after_its_first_value_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let began = start();
    let options = Options { retain_bytes: 60_000, ..options(dir.path()) };
    let (ledger, _) = open_small(dir.path(), options.clone(), began);
    let write = async |ledger: &Ledger, id: &str, write: ShelfWrite| {
        let id = delivery_of(accept_one(ledger, at(for_crm(id), began, DAY)).await);
        let mut settle = settle_with(&id, 1, super::done(), Verdict::Done);
        settle.shelf.writes.insert("n".into(), write);
        assert_eq!(ledger.settle(settle, began).await.unwrap(), Settled::Written);
    };
    write(&ledger, "set", ShelfWrite::Set { value: Bytes::from_static(b"5"), ttl: None }).await;
    fill(&ledger, 0, began).await;
    write(&ledger, "add", ShelfWrite::Add { delta: 1, ttl: None }).await;
    assert!(ledger.retain(began).await.unwrap().segments_dropped > 0);
    ledger.close().await.unwrap();
    drop(ledger);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (ledger, _) = open_small(dir.path(), options, began);
    let read = ledger.shelf_get(&name("crm"), "n", began).await.unwrap();
    assert_eq!(read.value.as_deref(), Some(&b"6"[..]));
}

#[tokio::test]
async fn a_copy_of_a_dropped_event_is_not_counted_and_a_moved_one_is_listed_by_its_handlers() {
    let dir = tempfile::tempdir().unwrap();
    let began = start();
    let options = Options { retain_bytes: 60_000, ..options(dir.path()) };
    let (ledger, _) = open_small(dir.path(), options.clone(), began);
    let dropped = accept_one(&ledger, at(for_nobody("dropped"), began, DAY * 7)).await;
    let mixed = new_event("mixed", &[("to-crm", "only-here"), ("to-gone", "gone")]);
    let mixed = accept_one(&ledger, at(request(vec![mixed], ""), began, DAY * 7)).await;
    let dead = Verdict::Dead { reason: "no".into() };
    run(&ledger, &delivery_of(mixed), 1, failed("no"), dead).await;
    fill(&ledger, 0, began).await;
    assert!(ledger.retain(began).await.unwrap().segments_dropped > 0);
    assert!(ledger.event_row(dropped).await.unwrap().is_none());
    for id in ["dropped", "mixed"] {
        assert!(ledger.accept(at(for_nobody(id), began, DAY * 7)).await.unwrap().events()[0].duplicate);
    }
    // Notes are written before what is asked for later.
    ledger.secrets_seen(&name("sendpilot"), &[], began).await.unwrap();
    assert!(!ledger.has_key(&super::super::keys::redeliveries(dropped)));
    assert!(ledger.has_key(&super::super::keys::redeliveries(mixed)));
    ledger.close().await.unwrap();
    drop(ledger);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (ledger, _) = open_small(dir.path(), options, began);
    let filter = DeliveryFilter { status: Some(Status::Dead), ..all_deliveries() };
    let rows = ledger.deliveries(filter).await.unwrap().rows;
    assert_eq!(rows.iter().map(|row| row.delivery.clone()).collect::<Vec<_>>(), [delivery_of(mixed)]);
}

#[tokio::test]
async fn a_damaged_old_segment_is_reported_and_stays_and_the_rest_of_the_retention_goes_on() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let began = start();
    let options = Options { retain_bytes: 60_000, open_age_max: DAY, ..options(dir.path()) };
    let (ledger, _) = open_small(dir.path(), options.clone(), began);
    accept_one(&ledger, at(for_crm("open"), began, DAY)).await;
    fill(&ledger, 0, began).await;
    ledger.close().await.unwrap();
    drop(ledger);
    let first = dir.path().join("journal/0000000001.seg");
    let file = fs::OpenOptions::new().write(true).open(&first).unwrap();
    file.write_all_at(b"scratched", 9000).unwrap();
    let later = began.plus(DAY * 2);
    let (ledger, _) = open_small(dir.path(), options, later);
    assert_eq!(ledger.retain(later).await.unwrap().deliveries_dead, 1);
    let end = ledger.inner_end();
    assert_eq!(ledger.retain(later).await.unwrap().segments_dropped, 0);
    assert_eq!(ledger.inner_end(), end, "nothing is copied again and again");
    assert!(ledger.stat().damaged.unwrap().contains("0000000001.seg"));
    assert_eq!(ledger.stat().failed, None);
    assert!(first.exists());
}
