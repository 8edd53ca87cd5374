//! Accept: durable before it is answered, once whoever sends it how often, and refused when in doubt.

use super::*;

#[tokio::test]
async fn no_accept_returns_before_its_sync_and_two_copies_wait_for_the_same_one() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, disk) = open_held(dir.path());
    disk.hold();
    let mut first = Box::pin(ledger.accept(for_crm("evt_1")));
    assert!(is_pending(&mut first).await);
    disk.wait_for_held_sync();
    let mut second = Box::pin(ledger.accept(for_crm("evt_1")));
    for _ in 0..100 {
        assert!(is_pending(&mut first).await, "the sync is held back");
        assert!(is_pending(&mut second).await, "so the second copy waits too");
    }
    assert!(due(&ledger, NOW).await.is_empty(), "nothing is visible that is not durable");
    disk.release();
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert!(!first.events()[0].duplicate);
    assert!(second.events()[0].duplicate);
    assert_eq!(first.events()[0].event, second.events()[0].event);
}

#[tokio::test]
async fn a_failed_sync_refuses_both_copies_and_everything_after() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, disk) = open_held(dir.path());
    let event = accept_one(&ledger, for_crm("evt_0")).await;
    assert_eq!(ledger.refusing(), None);
    disk.hold();
    let mut first = Box::pin(ledger.accept(for_crm("evt_1")));
    assert!(is_pending(&mut first).await);
    disk.wait_for_held_sync();
    let mut second = Box::pin(ledger.accept(for_crm("evt_1")));
    assert!(is_pending(&mut second).await);
    disk.fail_syncs(true);
    disk.release();
    assert!(matches!(first.await, Err(Refused::Failed(_))));
    assert!(matches!(second.await, Err(Refused::Failed(_))));
    disk.fail_syncs(false);

    assert!(matches!(ledger.refusing(), Some(Refused::Failed(_))));
    assert!(ledger.stat().failed.is_some());
    assert!(matches!(ledger.accept(for_crm("evt_2")).await, Err(Refused::Failed(_))));
    assert!(matches!(ledger.accept(for_crm("evt_0")).await, Err(Refused::Failed(_))));
    let id = delivery_of(event);
    assert!(matches!(ledger.begin(&id, 1, Digest([0; 32]), NOW).await, Err(Error::Failed(_))));
    let settle = settle_with(&id, 1, done(), Verdict::Done);
    assert!(matches!(ledger.settle(settle, NOW).await, Err(Error::Failed(_))));
    assert!(ledger.close().await.is_err());
    drop(ledger);

    // Opened again it is well; what was written and not answered may be there or not, but only once.
    let ledger = open(dir.path());
    assert_eq!(ledger.refusing(), None);
    ledger.accept(for_crm("evt_1")).await.unwrap();
    assert!(ledger.accept(for_crm("evt_1")).await.unwrap().events()[0].duplicate);
    assert!(ledger.accept(for_crm("evt_0")).await.unwrap().events()[0].duplicate);
}

#[tokio::test]
async fn while_a_sync_is_stuck_callers_can_leave_and_what_was_written_stands() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, disk) = open_held(dir.path());
    disk.hold();
    // Each caller gives up waiting: a copy of the one that is stuck, and another behind it.
    for id in ["evt_1", "evt_1", "evt_2"] {
        let mut stuck = Box::pin(ledger.accept(for_crm(id)));
        assert!(is_pending(&mut stuck).await);
        drop(stuck);
        disk.wait_for_held_sync();
    }
    disk.release();
    for id in ["evt_1", "evt_2"] {
        let again = ledger.accept(for_crm(id)).await.unwrap();
        assert!(again.events()[0].duplicate, "{id} was written although nobody waited for it any more");
    }
    assert_eq!(due(&ledger, NOW).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_equal_accepts_at_once_one_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    for round in 0..10 {
        let id = format!("evt_{round}");
        let racers: Vec<_> = (0..64)
            .map(|_| {
                let (ledger, accept) = (ledger.clone(), for_crm(&id));
                tokio::spawn(async move { ledger.accept(accept).await.unwrap().events()[0].clone() })
            })
            .collect();
        let mut accepted = Vec::new();
        for racer in racers {
            accepted.push(racer.await.unwrap());
        }
        assert_eq!(accepted.iter().filter(|one| !one.duplicate).count(), 1);
        assert!(accepted.iter().all(|one| one.event == accepted[0].event));
    }
    assert_eq!(due(&ledger, NOW).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_share_several_events_do_not_wait_for_each_other_in_a_circle() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let ids: Vec<String> = (0..8).map(|n| format!("evt_{n}")).collect();
    let racers: Vec<_> = (0..32)
        .map(|n| {
            let mut ids = ids.clone();
            ids.rotate_left(n % 8);
            if n % 2 == 0 {
                ids.reverse();
            }
            let events = ids.iter().map(|id| new_event(id, &[("to-crm", "crm")])).collect();
            let (ledger, accept) = (ledger.clone(), request(events, "[]"));
            tokio::spawn(async move { ledger.accept(accept).await.unwrap() })
        })
        .collect();
    let mut new = 0;
    for racer in racers {
        new += racer.await.unwrap().events().iter().filter(|one| !one.duplicate).count();
    }
    assert_eq!(new, 8);
}

#[tokio::test]
async fn a_request_of_several_events_is_one_record_and_knows_its_own_duplicates() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    accept_one(&ledger, for_nobody("b")).await;
    let mut events: Vec<_> = ["a", "b", "c", "a"].iter().map(|id| new_event(id, &[])).collect();
    for (at, event) in events.iter_mut().enumerate() {
        event.range = Some((at as u32 * 2, at as u32 * 2 + 2));
    }
    let receipt = ledger.accept(request(events, "aabbccdd")).await.unwrap();
    let duplicates: Vec<_> = receipt.events().iter().map(|one| (one.duplicate, one.body_differs)).collect();
    assert_eq!(duplicates, [(false, false), (true, true), (false, false), (true, true)]);
    assert_eq!(receipt.events()[0].event, receipt.events()[3].event);
    let third = receipt.events()[2].event;
    assert_eq!(third.ordinal, 1, "the second event that was written");
    assert_eq!(ledger.event(third).await.unwrap().body, &b"cc"[..]);
}

#[tokio::test]
async fn an_event_is_known_by_either_of_its_names_also_after_a_restart_and_a_rebuild() {
    let named = |id: &str, also: &str| {
        request(vec![NewEvent { also: Some(also.to_owned()), ..new_event(id, &[]) }], "{}")
    };
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let event = accept_one(&ledger, named("evt_1", "signed:a")).await;
    let copies = [
        named("evt_2", "signed:a"),
        named("evt_1", "signed:b"),
        request(vec![new_event("evt_1", &[])], "{}"),
    ];
    let known = async |ledger: &Ledger| {
        for copy in copies.clone() {
            let receipt = ledger.accept(copy).await.unwrap();
            assert!(receipt.events()[0].duplicate && receipt.events()[0].event == event);
        }
    };
    known(&ledger).await;
    ledger.close().await.unwrap();
    drop(ledger);
    known(&open(dir.path())).await;
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let ledger = open(dir.path());
    known(&ledger).await;
    // What was only a copy's name is nobody's.
    assert_ne!(accept_one(&ledger, named("evt_2", "signed:b")).await, event);
}

#[tokio::test]
async fn events_of_one_request_are_copies_of_each_other_by_any_name() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let event = |id: &str, also: &str| NewEvent { also: Some(also.to_owned()), ..new_event(id, &[]) };
    let events = vec![event("a", "1"), event("b", "1"), event("b", "2"), event("c", "2"), event("d", "3")];
    let receipt = ledger.accept(request(events, "{}")).await.unwrap();
    let found: Vec<_> = receipt.events().iter().map(|event| (event.event.ordinal, event.duplicate)).collect();
    assert_eq!(found, [(0, false), (0, true), (0, true), (0, true), (1, false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_copies_under_other_ids_at_once_one_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let accepts = (0..64).map(|n| {
        let event = NewEvent { also: Some("signed:a".to_owned()), ..new_event(&n.to_string(), &[]) };
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.accept(request(vec![event], "{}")).await.unwrap() })
    });
    let accepts: Vec<_> = accepts.collect();
    let mut new = 0;
    for accept in accepts {
        new += usize::from(!accept.await.unwrap().events()[0].duplicate);
    }
    assert_eq!(new, 1);
}

#[tokio::test]
async fn the_same_id_is_known_after_a_restart_and_another_body_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let event = accept_one(&open(dir.path()), for_crm("evt_1")).await;
    for clean in [true, false] {
        let ledger = open(dir.path());
        let again = ledger.accept(for_crm("evt_1")).await.unwrap().events()[0].clone();
        assert_eq!(again, Accepted { event, duplicate: true, body_differs: false });
        let other = request(vec![new_event("evt_1", &[])], "another body");
        let other = ledger.accept(other).await.unwrap().events()[0].clone();
        assert_eq!(other, Accepted { event, duplicate: true, body_differs: true });
        let mut from_elsewhere = for_crm("evt_1");
        from_elsewhere.source = name(if clean { "stripe" } else { "github" });
        assert!(!ledger.accept(from_elsewhere).await.unwrap().events()[0].duplicate, "an id is its source's");
        if clean {
            ledger.close().await.unwrap();
        }
    }
    assert!(open(dir.path()).accept(for_crm("evt_1")).await.unwrap().events()[0].duplicate);
}

#[tokio::test]
async fn an_id_is_new_again_after_its_window() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let first = accept_one(&ledger, for_crm("evt_1")).await;
    ledger.close().await.unwrap();
    drop(ledger);
    let last_moment = NOW.plus(DAY * 7).minus(Duration::from_millis(1));
    for (now, duplicate) in [(last_moment, true), (NOW.plus(DAY * 7), false)] {
        let (ledger, _) = open_at(dir.path(), now);
        let accept = Accept { received_at: now, ..for_crm("evt_1") };
        let accepted = ledger.accept(accept).await.unwrap().events()[0].clone();
        assert_eq!(accepted.duplicate, duplicate);
        assert_eq!(accepted.event == first, duplicate);
        ledger.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_clock_that_jumps_a_month_forgets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    accept_one(&ledger, for_crm("evt_1")).await;
    let accept = Accept { received_at: NOW.plus(DAY * 30), ..for_crm("evt_1") };
    assert!(ledger.accept(accept).await.unwrap().events()[0].duplicate);
}

#[tokio::test]
async fn a_nearly_full_disk_refuses_new_events_but_not_duplicates_nor_settles() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Held::default();
    disk.pretend_free(Some(crate::words::limits::DISK_RESERVE_BYTES));
    let (ledger, _) = Ledger::open_on(options(dir.path()), Arc::new(disk.clone()), NOW).unwrap();
    let event = accept_one(&ledger, for_crm("evt_1")).await;
    ledger.close().await.unwrap();
    drop(ledger);
    disk.pretend_free(Some(crate::words::limits::DISK_RESERVE_BYTES - 1));
    let (ledger, _) = Ledger::open_on(options(dir.path()), Arc::new(disk.clone()), NOW).unwrap();
    assert_eq!(ledger.may_begin(), Ok(()));
    assert!(matches!(ledger.refusing(), Some(Refused::DiskFull { .. })));
    assert!(matches!(ledger.accept(for_crm("evt_2")).await, Err(Refused::DiskFull { .. })));
    assert!(ledger.accept(for_crm("evt_1")).await.unwrap().events()[0].duplicate);
    run_done(&ledger, event).await;
    ledger.close().await.unwrap();
    drop(ledger);
    // With less than that left, what is under way may still end, and nothing new begins.
    disk.pretend_free(Some(crate::words::limits::ATTEMPT_RESERVE_BYTES - 1));
    let (ledger, _) = Ledger::open_on(options(dir.path()), Arc::new(disk), NOW).unwrap();
    assert!(matches!(ledger.may_begin(), Err(Refused::DiskFull { .. })));
}

#[tokio::test]
async fn each_call_in_flight_has_room_for_its_answer() {
    use futures_util::FutureExt as _;

    use crate::words::limits::{ATTEMPT_RESERVE_BYTES, CALL_RESERVE_BYTES};
    let dir = tempfile::tempdir().unwrap();
    let disk = Held::default();
    disk.pretend_free(Some(ATTEMPT_RESERVE_BYTES + 3 * CALL_RESERVE_BYTES));
    let (ledger, _) = Ledger::open_on(options(dir.path()), Arc::new(disk.clone()), NOW).unwrap();
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(ledger.room_for_call().now_or_never().expect("there is room").unwrap());
    }
    assert!(ledger.room_for_call().now_or_never().is_none(), "a fourth answer could not be kept: it waits");
    assert_eq!(ledger.may_begin(), Ok(()), "an attempt may begin all the same");
    let waiting = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.room_for_call().await }
    });
    tokio::task::yield_now().await;
    calls.pop();
    calls.push(waiting.await.unwrap().unwrap());
    assert!(ledger.room_for_call().now_or_never().is_none());
    drop(calls);
    ledger.close().await.unwrap();
    assert!(matches!(ledger.room_for_call().await, Err(Refused::Closing)));
    drop(ledger);
    // Nobody would give it back: it is a refusal, and no attempt begins that would meet it.
    disk.pretend_free(Some(ATTEMPT_RESERVE_BYTES + CALL_RESERVE_BYTES - 1));
    let (ledger, _) = Ledger::open_on(options(dir.path()), Arc::new(disk), NOW).unwrap();
    assert!(matches!(ledger.room_for_call().await, Err(Refused::DiskFull { .. })));
    assert!(matches!(ledger.may_begin(), Err(Refused::DiskFull { .. })));
}

#[tokio::test]
async fn a_write_that_finds_the_disk_full_keeps_nothing_and_the_next_may_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, disk) = open_held(dir.path());
    disk.fail_writes(Some(rustix::io::Errno::NOSPC.raw_os_error()));
    assert!(matches!(ledger.accept(for_crm("evt_1")).await, Err(Refused::DiskFull { .. })));
    disk.fail_writes(None);
    accept_one(&ledger, for_crm("evt_1")).await;
    ledger.close().await.unwrap();
    drop(ledger);
    assert!(open(dir.path()).accept(for_crm("evt_1")).await.unwrap().events()[0].duplicate);
}

#[tokio::test]
async fn live_data_over_its_share_of_the_cap_refuses_until_it_is_worked_off() {
    let dir = tempfile::tempdir().unwrap();
    let small = Options { retain_bytes: 20_000, ..options(dir.path()) };
    let (ledger, _) = Ledger::open(small, NOW).unwrap();
    let mut events = Vec::new();
    let refused = loop {
        let id = format!("evt_{}", events.len());
        let body = "x".repeat(1000);
        match ledger.accept(request(vec![new_event(&id, &[("to-crm", "crm")])], &body)).await {
            Ok(receipt) => events.push(receipt.events()[0].event),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, Refused::SizeCap);
    assert!((11..=14).contains(&events.len()), "70 % of 20,000 bytes: {}", events.len());
    for event in events {
        run_done(&ledger, event).await;
    }
    assert_eq!(ledger.stat().live_bytes, 0);
    accept_one(&ledger, for_crm("evt_new")).await;
}

#[tokio::test]
async fn answer_times_and_redeliveries_are_in_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let event = accept_one(&ledger, for_crm("evt_1")).await;
    ledger.accept(for_crm("evt_1")).await.unwrap();
    ledger.accept(request(vec![new_event("evt_1", &[])], "another")).await.unwrap();
    // Nobody waits for the count; the next record is behind it.
    accept_one(&ledger, for_crm("evt_2")).await;
    let row = ledger.event_row(event).await.unwrap().unwrap();
    assert_eq!((row.redeliveries, row.body_differed), (2, 1));
    let answer = row.answer_us.unwrap();
    drop(ledger);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (ledger, recovery) = open_at(dir.path(), NOW);
    assert!(recovery.index_rebuilt.is_some());
    let row = ledger.event_row(event).await.unwrap().unwrap();
    assert_eq!((row.redeliveries, row.body_differed, row.answer_us), (2, 1, Some(answer)));
}

#[tokio::test]
async fn process_crash_durability_answers_without_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Held::default();
    let options = Options { durability: Durability::ProcessCrash, ..options(dir.path()) };
    let (ledger, _) = Ledger::open_on(options.clone(), Arc::new(disk.clone()), NOW).unwrap();
    disk.hold();
    let event = accept_one(&ledger, for_crm("evt_1")).await;
    disk.release();
    drop(ledger);
    let (ledger, _) = Ledger::open_on(options, Arc::new(disk), NOW).unwrap();
    assert_eq!(ledger.event(event).await.unwrap().id, "evt_1");
    assert!(ledger.accept(for_crm("evt_1")).await.unwrap().events()[0].duplicate);
}

#[tokio::test]
async fn an_index_that_cannot_answer_is_a_refusal_and_never_new() {
    use crate::store::{claims::key_of, index::Index, keys};
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    accept_one(&ledger, for_crm("evt_1")).await;
    ledger.close().await.unwrap();
    drop(ledger);
    let key = keys::seen_block(1, &key_of("sendpilot", "evt_1"));
    Index::open(&super::super::index::on_sled::Folder(dir.path().join("index")))
        .unwrap()
        .put_raw(&key, b"not an entry");
    let ledger = open(dir.path());
    assert!(matches!(ledger.accept(for_crm("evt_1")).await, Err(Refused::Failed(_))));
    // The thread of the index comes upon it too, and what it cannot read is built again.
    while !matches!(ledger.refusing(), Some(Refused::Failed(_))) {
        tokio::task::yield_now().await;
    }
    drop(ledger);
    let (ledger, recovery) = open_at(dir.path(), NOW);
    assert!(recovery.index_rebuilt.is_some());
    assert!(ledger.accept(for_crm("evt_1")).await.unwrap().events()[0].duplicate);
}

#[tokio::test]
async fn a_full_queue_is_busy_and_what_is_in_it_is_written() {
    use crate::words::limits::{BATCH_RECORDS_MAX, WRITER_QUEUE_MAX};
    let dir = tempfile::tempdir().unwrap();
    let (ledger, disk) = open_held(dir.path());
    disk.hold();
    let mut waiting = Vec::new();
    let refused = loop {
        let mut accept = Box::pin(ledger.accept(for_nobody(&format!("evt_{}", waiting.len()))));
        if !is_pending(&mut accept).await {
            break ledger.accept(for_nobody("one more")).await.unwrap_err();
        }
        waiting.push(accept);
    };
    assert_eq!(refused, Refused::Busy);
    assert!((WRITER_QUEUE_MAX..=WRITER_QUEUE_MAX + BATCH_RECORDS_MAX).contains(&waiting.len()));
    disk.release();
    for accept in waiting {
        assert!(!accept.await.unwrap().events()[0].duplicate);
    }
    accept_one(&ledger, for_nobody("one more")).await;
}

#[tokio::test]
async fn an_index_too_far_behind_refuses_new_events() {
    use crate::words::limits::INDEX_LAG_RECORDS_MAX;
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    ledger.pretend_lag(INDEX_LAG_RECORDS_MAX as u64 - 1);
    assert_eq!(ledger.refusing(), None);
    ledger.pretend_lag(INDEX_LAG_RECORDS_MAX as u64);
    let refused = Refused::IndexLag { records: INDEX_LAG_RECORDS_MAX };
    assert_eq!(ledger.refusing(), Some(refused.clone()));
    assert_eq!(ledger.accept(for_crm("evt_1")).await.unwrap_err(), refused);
}

#[tokio::test]
async fn a_request_of_too_many_events_is_refused_whole() {
    use crate::words::limits::EVENTS_PER_REQUEST_MAX;
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let events = (0..=EVENTS_PER_REQUEST_MAX).map(|n| new_event(&n.to_string(), &[])).collect();
    assert!(ledger.accept(request(events, "[]")).await.is_err());
    assert!(ledger.events(all_events()).await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn what_could_not_be_read_as_it_was_meant_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let end = ledger.inner_end();
    let mut bad = vec![request(vec![], "{}")];
    for range in [(2, 1), (0, 3), (9, 9)] {
        bad.push(request(vec![NewEvent { range: Some(range), ..new_event("evt", &[]) }], "{}"));
    }
    bad.push(request(vec![new_event("evt", &[]); crate::words::limits::EVENTS_PER_REQUEST_MAX + 1], "{}"));
    for accept in bad {
        assert!(matches!(ledger.accept(accept).await, Err(Refused::Failed(_))));
    }
    assert_eq!(ledger.inner_end(), end, "nothing was written");
}

#[tokio::test]
async fn a_mistyped_event_is_none_and_a_mistyped_cursor_is_bad() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let event = accept_one(&ledger, for_crm("evt_1")).await;
    let typo = EventRef { position: event.position + 1, ..event };
    assert!(matches!(ledger.event(typo).await, Err(Error::NoSuchEvent(_))));
    assert!(ledger.event_row(typo).await.unwrap().is_none());
    let cursor = Some(format!("{:x}.{event}", event.position + 1));
    let page = ledger.events(EventFilter { cursor, ..all_events() }).await;
    assert!(matches!(page, Err(Error::BadCursor(_))), "{page:?}");
}

#[tokio::test]
async fn a_second_close_waits_for_the_first_and_a_broken_writer_is_not_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, disk) = open_held(dir.path());
    disk.hold();
    let (mut first, mut second) = (Box::pin(ledger.close()), Box::pin(ledger.close()));
    assert!(is_pending(&mut first).await);
    disk.wait_for_held_sync();
    assert!(is_pending(&mut second).await);
    disk.release();
    first.await.unwrap();
    second.await.unwrap();
    drop(ledger);

    let ledger = open(dir.path());
    assert!(ledger.panic_in_writer().await.is_err());
    for _ in 0..2 {
        assert!(ledger.close().await.is_err());
    }
}
