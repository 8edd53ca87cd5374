//! Deliveries: from open to an end, and over restarts.

use std::collections::HashSet;

use super::*;

#[tokio::test]
async fn a_delivery_is_announced_due_begun_settled_and_done() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let mut announced = ledger.announcements();
    let event = accept_one(&ledger, for_crm("evt_1")).await;
    let id = delivery_of(event);
    let open = announced.recv().await.unwrap();
    assert_eq!(
        open,
        OpenDelivery {
            id: id.clone(),
            handler: name("crm"),
            due: NOW,
            accepted_at: NOW,
            attempts: 0,
            begun_without_end: 0
        }
    );
    assert_eq!(due(&ledger, NOW).await, [open]);
    assert_eq!(ledger.next_due(&name("crm")).await.unwrap(), Some(NOW));
    assert_eq!(ledger.next_due(&name("slack")).await.unwrap(), None);
    let skip = HashSet::from([id.clone()]);
    assert!(ledger.due(&name("crm"), NOW, 10, &skip).await.unwrap().is_empty());

    let stored = ledger.event(event).await.unwrap();
    assert_eq!((stored.id.as_str(), &stored.body[..]), ("evt_1", &b"{\"id\":\"evt_1\"}"[..]));
    assert_eq!((stored.query.as_deref(), stored.headers.len()), (Some("a=b"), 1));

    let later = NOW.plus(Duration::from_secs(5));
    run(&ledger, &id, 1, failed("503"), Verdict::Again { at: later }).await;
    assert!(due(&ledger, NOW).await.is_empty());
    let again = due(&ledger, later).await;
    assert_eq!((again[0].attempts, again[0].due), (1, later));
    run(&ledger, &id, 2, done(), Verdict::Done).await;
    assert!(due(&ledger, later).await.is_empty());
    assert_eq!(ledger.next_due(&name("crm")).await.unwrap(), None);

    let history = ledger.delivery(&id).await.unwrap().unwrap();
    assert_eq!(history.row.status, Status::Done);
    assert_eq!(history.row.message.as_deref(), Some("sent"));
    assert_eq!(history.attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(history.attempts[0].outcome, failed("503"));
    assert!(history.interrupted.is_empty());
    assert!(matches!(
        ledger.begin(&id, 3, Digest([0; 32]), NOW).await,
        Err(Error::WrongState(_, Status::Done))
    ));
}

#[tokio::test]
async fn begun_without_end_is_counted_over_restarts_and_parked_by_dispatch() {
    let dir = tempfile::tempdir().unwrap();
    let mut id = None;
    for start in 1..=3 {
        let ledger = open(dir.path());
        let id = match &id {
            Some(id) => DeliveryId::clone(id),
            None => id.insert(delivery_of(accept_one(&ledger, for_crm("evt_1")).await)).clone(),
        };
        let open = due(&ledger, NOW).await[0].clone();
        assert_eq!((open.attempts, open.begun_without_end), (0, start - 1));
        ledger.begin(&id, start, Digest([3; 32]), NOW).await.unwrap();
        let history = ledger.delivery(&id).await.unwrap().unwrap();
        assert_eq!(history.interrupted.len() as u32, start - 1, "what is under way is not interrupted");
        // The daemon dies in the attempt.
    }
    let id = id.unwrap();
    let ledger = open(dir.path());
    assert_eq!(due(&ledger, NOW).await[0].begun_without_end, 3);
    ledger.park(&id, "three attempts in a row never ended", NOW).await.unwrap();
    assert!(due(&ledger, NOW).await.is_empty());
    let history = ledger.delivery(&id).await.unwrap().unwrap();
    assert_eq!(history.interrupted.iter().map(|one| one.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(history.row.status, Status::Parked);
    assert_eq!(history.row.message.as_deref(), Some("three attempts in a row never ended"));
    assert!(matches!(ledger.park(&id, "", NOW).await, Err(Error::WrongState(_, Status::Parked))));

    ledger.rule(&id, Ruling::Retry, NOW).await.unwrap();
    let open = due(&ledger, NOW).await[0].clone();
    assert_eq!((open.attempts, open.begun_without_end), (3, 0), "numbers go on, the count begins again");
    run(&ledger, &id, 4, failed("503"), Verdict::Again { at: NOW }).await;
    assert_eq!(due(&ledger, NOW).await[0].begun_without_end, 0);
}

#[tokio::test]
async fn the_operator_retries_anything_and_cancels_what_has_not_ended() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let id = delivery_of(accept_one(&ledger, for_crm("evt_1")).await);
    run(&ledger, &id, 1, failed("no"), Verdict::Dead { reason: "gave up after 3d: no".into() }).await;
    let row = ledger.delivery(&id).await.unwrap().unwrap().row;
    assert_eq!((row.status, row.message.as_deref()), (Status::Dead, Some("gave up after 3d: no")));
    assert_eq!(row.ended_at, Some(NOW));
    assert!(matches!(ledger.rule(&id, Ruling::Cancel, NOW).await, Err(Error::WrongState(_, Status::Dead))));

    let mut announced = ledger.announcements();
    // The ledger's clock follows no jump of more than an hour, and ages go by it.
    let later = NOW.plus(Duration::from_secs(1800));
    ledger.rule(&id, Ruling::Retry, later).await.unwrap();
    let open = announced.recv().await.unwrap();
    assert_eq!((open.accepted_at, open.due, open.attempts), (later, later, 1), "a fresh time to give up");
    ledger.rule(&id, Ruling::Cancel, later).await.unwrap();
    assert!(due(&ledger, later).await.is_empty());
    // An attempt that was under way is history, and the operator's word stands.
    ledger.settle(settle_with(&id, 2, done(), Verdict::Done), later).await.unwrap();
    let history = ledger.delivery(&id).await.unwrap().unwrap();
    assert_eq!(history.row.status, Status::Cancelled);
    assert_eq!(history.attempts.len(), 2);
    let rulings: Vec<_> = history.rulings.iter().map(|row| row.ruling).collect();
    assert_eq!(rulings, [Ruling::Retry, Ruling::Cancel]);

    let nobody = DeliveryId { subscription: name("nobody"), ..id };
    assert!(matches!(ledger.rule(&nobody, Ruling::Retry, NOW).await, Err(Error::NoSuchDelivery(_))));
    assert!(ledger.delivery(&nobody).await.unwrap().is_none());
}

#[tokio::test]
async fn a_retry_while_an_attempt_runs_leads_to_another_attempt() {
    for verdict in
        [Verdict::Done, Verdict::Dead { reason: "no".into() }, Verdict::Again { at: NOW.plus(DAY) }]
    {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(dir.path());
        let id = delivery_of(accept_one(&ledger, for_crm("evt_1")).await);
        ledger.begin(&id, 1, Digest([3; 32]), NOW).await.unwrap();
        let later = NOW.plus(Duration::from_secs(60));
        ledger.rule(&id, Ruling::Retry, later).await.unwrap();
        let mut announced = ledger.announcements();
        ledger.settle(settle_with(&id, 1, failed("no"), verdict.clone()), later).await.unwrap();
        let open = due(&ledger, later).await;
        assert_eq!(open.len(), 1, "{verdict:?}");
        assert_eq!((open[0].due, open[0].attempts, open[0].begun_without_end), (later, 1, 0));
        assert_eq!(announced.try_recv().as_ref(), Ok(&open[0]), "its lane hears of it again");
        assert_eq!(ledger.delivery(&id).await.unwrap().unwrap().attempts.len(), 1, "it is history");
        run(&ledger, &id, 2, done(), Verdict::Done).await;
    }
}

#[tokio::test]
async fn a_slow_attempt_does_not_undo_what_a_later_one_or_retention_said() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let id = delivery_of(accept_one(&ledger, for_crm("evt_1")).await);
    ledger.begin(&id, 1, Digest([3; 32]), NOW).await.unwrap();
    ledger.rule(&id, Ruling::Retry, NOW).await.unwrap();
    run(&ledger, &id, 2, done(), Verdict::Done).await;
    let again = Verdict::Again { at: NOW };
    ledger.settle(settle_with(&id, 1, failed("slow"), again.clone()), NOW).await.unwrap();
    let row = ledger.delivery(&id).await.unwrap().unwrap().row;
    assert_eq!((row.status, row.attempts, row.message.as_deref()), (Status::Done, 2, Some("sent")));
    assert!(due(&ledger, NOW.plus(DAY)).await.is_empty());

    let id = delivery_of(accept_one(&ledger, for_crm("evt_2")).await);
    ledger.begin(&id, 1, Digest([3; 32]), NOW).await.unwrap();
    drop(ledger);
    let later = NOW.plus(DAY * 40);
    let (ledger, _) = open_at(dir.path(), later);
    assert_eq!(ledger.retain(later).await.unwrap().deliveries_dead, 1);
    ledger.settle(settle_with(&id, 1, failed("slow"), again), later).await.unwrap();
    let row = ledger.delivery(&id).await.unwrap().unwrap().row;
    assert_eq!((row.status, row.attempts), (Status::Dead, 1));
    ledger.rule(&id, Ruling::Retry, later).await.unwrap();
    assert_eq!(due(&ledger, later).await[0].attempts, 1, "numbers go on");
}

#[tokio::test]
async fn a_number_is_begun_once_and_none_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let id = delivery_of(accept_one(&ledger, for_crm("evt_1")).await);
    ledger.begin(&id, 1, Digest([3; 32]), NOW).await.unwrap();
    for number in [0, 1, 3] {
        let begun = ledger.begin(&id, number, Digest([3; 32]), NOW).await;
        assert!(matches!(begun, Err(Error::WrongState(_, Status::Open))), "{number}");
    }
    ledger.begin(&id, 2, Digest([3; 32]), NOW).await.unwrap();
    assert_eq!(due(&ledger, NOW).await[0].begun_without_end, 2);
}

#[tokio::test]
async fn what_nobody_wants_is_held_and_resumed_when_it_is_wanted_again() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let mut ids = Vec::new();
    for n in 0..600 {
        let event = new_event(&format!("evt_{n}"), &[("to-crm", "crm"), ("to-slack", "slack")]);
        ids.push(accept_one(&ledger, request(vec![event], "{}")).await);
    }
    let gone = |_: &Name, handler: &Name| match handler.as_str() {
        "slack" => Err("the handler `slack` is disabled".to_owned()),
        _ => Ok(()),
    };
    assert_eq!(ledger.hold_unwanted(gone, NOW).await.unwrap(), (600, 0));
    assert_eq!(ledger.hold_unwanted(gone, NOW).await.unwrap(), (0, 0));
    assert_eq!(due(&ledger, NOW).await.len(), 600);
    let held = DeliveryId { event: ids[0], subscription: name("to-slack") };
    let row = ledger.delivery(&held).await.unwrap().unwrap().row;
    assert_eq!((row.status, row.message.as_deref()), (Status::Held, Some("the handler `slack` is disabled")));
    let backlog = ledger.stat().backlog;
    assert_eq!((backlog["slack"].open, backlog["slack"].held, backlog["crm"].open), (0, 600, 600));
    assert_eq!(backlog["slack"].oldest_accepted_at, Some(NOW));
    drop(ledger);

    let ledger = open(dir.path());
    assert_eq!(ledger.hold_unwanted(|_, _| Ok(()), NOW).await.unwrap(), (0, 600));
    let skip = HashSet::new();
    assert_eq!(ledger.due(&name("slack"), NOW, 1000, &skip).await.unwrap().len(), 600);
    assert_eq!(ledger.due(&name("slack"), NOW, 7, &skip).await.unwrap().len(), 7);
}

#[tokio::test]
async fn secrets_keep_their_time_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c] = [1, 2, 3].map(|byte| Fingerprint([byte; 6]));
    let source = name("sendpilot");
    let ledger = open(dir.path());
    assert_eq!(ledger.secrets_seen(&source, &[a], NOW).await.unwrap(), [None]);
    assert_eq!(ledger.secrets_seen(&source, &[b, a], NOW).await.unwrap(), [None, Some(NOW)]);
    drop(ledger);
    let later = NOW.plus(DAY);
    let ledger = open(dir.path());
    assert_eq!(ledger.secrets_seen(&source, &[b, a], later).await.unwrap(), [None, Some(NOW)]);
    let seen = ledger.secrets_seen(&source, &[c, b, a], later).await.unwrap();
    assert_eq!(seen, [None, Some(later), Some(NOW)]);
    ledger.close().await.unwrap();
    drop(ledger);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let ledger = open(dir.path());
    let latest = later.plus(DAY);
    let seen = ledger.secrets_seen(&source, &[a, c, b], latest).await.unwrap();
    assert_eq!(seen, [None, Some(latest), Some(later)], "a is first again and is forgotten");
    assert_eq!(ledger.secrets_seen(&name("stripe"), &[c, a], latest).await.unwrap(), [None, Some(latest)]);
}

#[tokio::test]
async fn a_record_that_is_too_large_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let most = crate::words::limits::RECORD_BYTES_MAX;
    ledger.change_of_size(most).await.unwrap();
    assert!(matches!(ledger.change_of_size(most + 1).await, Err(Error::TooLarge(_))));
}

#[tokio::test]
async fn a_record_counts_whole_while_any_of_its_deliveries_is_live() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let two = request(vec![new_event("evt", &[("to-crm", "crm"), ("to-other", "crm")])], "{}");
    let event = accept_one(&ledger, two).await;
    let whole = ledger.stat().live_bytes;
    assert!(whole > 0);
    run_done(&ledger, event).await;
    assert_eq!(ledger.stat().live_bytes, whole, "of the one that is done nothing counts by itself");
    let other = DeliveryId { event, subscription: name("to-other") };
    ledger.rule(&other, Ruling::Cancel, NOW).await.unwrap();
    assert_eq!(ledger.stat().live_bytes, 0);
    // With what was written about it since: it cannot be dropped either.
    ledger.rule(&other, Ruling::Retry, NOW).await.unwrap();
    assert!(ledger.stat().live_bytes > whole);
    ledger.rule(&other, Ruling::Cancel, NOW).await.unwrap();
    assert_eq!(ledger.stat().live_bytes, 0);
}

#[tokio::test]
async fn effects_are_read_in_order_and_an_intent_needs_an_open_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let id = delivery_of(accept_one(&ledger, for_crm("evt_1")).await);
    assert!(ledger.effects(&id).await.unwrap().entries.is_empty());
    let note = async |ledger: &Ledger, number: u32, text: &'static str, is_intent: bool| {
        ledger.note_effect(&id, number, (Bytes::from_static(text.as_bytes()), is_intent), NOW).await
    };
    let unbegun = note(&ledger, 1, "none", true).await;
    assert!(matches!(unbegun, Err(Error::WrongState(_, Status::Open))), "{unbegun:?}");
    ledger.begin(&id, 1, Digest([3; 32]), NOW).await.unwrap();
    note(&ledger, 1, "one", true).await.unwrap();
    note(&ledger, 1, "two", false).await.unwrap();
    ledger.settle(settle_with(&id, 1, failed("503"), Verdict::Again { at: NOW }), NOW).await.unwrap();
    ledger.begin(&id, 2, Digest([3; 32]), NOW).await.unwrap();
    let stale = note(&ledger, 1, "none", true).await;
    assert!(
        matches!(stale, Err(Error::WrongState(_, Status::Open))),
        "another attempt is under way: {stale:?}"
    );
    note(&ledger, 2, "three", true).await.unwrap();
    drop(ledger);
    let ledger = open(dir.path());
    assert_eq!(ledger.effects(&id).await.unwrap().entries, ["one", "two", "three"]);
    let row = ledger.delivery(&id).await.unwrap().unwrap().row;
    assert_eq!(row.message.as_deref(), Some("503"), "what was said last, behind what was noted since");
    ledger.rule(&id, Ruling::Cancel, NOW).await.unwrap();
    assert!(matches!(note(&ledger, 2, "four", true).await, Err(Error::WrongState(_, Status::Cancelled))));
    note(&ledger, 2, "what came of it", false).await.unwrap();
    assert_eq!(ledger.effects(&id).await.unwrap().entries.len(), 4);
    let nobody = DeliveryId { subscription: name("nobody"), ..id.clone() };
    let refused = ledger.note_effect(&nobody, 1, (Bytes::new(), true), NOW).await;
    assert!(matches!(refused, Err(Error::NoSuchDelivery(_))));
}

#[tokio::test]
async fn a_word_on_a_call_is_written_with_the_retry_and_only_where_one_is_waited_for() {
    use crate::words::effect::{Entry, Resolution, Ruled, Waiting};
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let id = delivery_of(accept_one(&ledger, for_crm("evt_1")).await);
    let refused = ledger.resolve(&id, Resolution::Happened, NOW).await;
    assert!(matches!(refused, Err(Error::WrongState(_, Status::Open))), "{refused:?}");
    ledger.park(&id, "three times in a row", NOW).await.unwrap();
    let refused = ledger.resolve(&id, Resolution::Happened, NOW).await.unwrap_err();
    assert!(refused.to_string().contains(&format!("deliveries retry {id}")), "{refused}");
    ledger.rule(&id, Ruling::Retry, NOW).await.unwrap();

    let on = Waiting::Unknown { effect: 0 };
    let waiting = Entry::Waiting(on.clone()).framed(b"");
    ledger.note_effect(&id, 1, (waiting, false), NOW).await.unwrap();
    run(&ledger, &id, 1, failed("unknown"), Verdict::Parked { reason: "unknown".into() }).await;
    ledger.resolve(&id, Resolution::Send, NOW).await.unwrap();
    let history = ledger.delivery(&id).await.unwrap().unwrap();
    assert_eq!(history.row.status, Status::Open);
    let words: Vec<_> = history.rulings.iter().map(|ruling| (ruling.ruling, ruling.resolution)).collect();
    assert_eq!(words, [(Ruling::Retry, None), (Ruling::Retry, Some(Resolution::Send))]);
    let last = ledger.effects(&id).await.unwrap().entries.pop().unwrap();
    let ruled = Entry::Ruled(Ruled { on, resolution: Resolution::Send });
    assert_eq!(Entry::unframed(&last).unwrap().0, ruled);
    let twice = ledger.resolve(&id, Resolution::Send, NOW).await;
    assert!(matches!(twice, Err(Error::WrongState(..))), "{twice:?}");
    let mut exported = Vec::new();
    let lines = &mut |line: String| {
        exported.push(serde_json::from_str::<serde_json::Value>(&line).unwrap());
        true
    };
    ledger.snapshot().export(&crate::store::tools::ExportFilter::default(), lines).unwrap();
    let rulings = exported[0]["deliveries"][0]["rulings"].clone();
    assert_eq!(rulings, serde_json::to_value(&history.rulings).unwrap());
    assert_eq!(rulings[1]["resolution"], "send");
}

/// 256 MiB over all attempts; whoever needs more waits for another to end.
#[tokio::test]
async fn what_attempts_hold_of_earlier_ones_has_an_end() {
    use crate::store::deliveries::HELD_UNIT_BYTES;
    use crate::words::limits::{EFFECTS_BYTES_MAX, EFFECTS_HELD_BYTES_MAX};
    use futures_util::FutureExt as _;
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let id = delivery_of(accept_one(&ledger, for_crm("evt_1")).await);
    ledger.begin(&id, 1, Digest::of(b"x"), NOW).await.unwrap();
    let large = (Bytes::from(vec![b'x'; 2 * HELD_UNIT_BYTES]), false);
    ledger.note_effect(&id, 1, large, NOW).await.unwrap();
    let free = || ledger.inner.core.effects_held.available_permits();
    let all = free();
    assert_eq!(all * HELD_UNIT_BYTES, EFFECTS_HELD_BYTES_MAX);
    let held = ledger.hold_effects(&id).await.unwrap();
    assert!((all - free()) * HELD_UNIT_BYTES > 2 * HELD_UNIT_BYTES, "{} of {all}", free());
    let permits = std::sync::Arc::clone(&ledger.inner.core.effects_held);
    let rest = permits.acquire_many_owned(u32::try_from(free()).unwrap()).await.unwrap();
    assert!(ledger.hold_effects(&id).now_or_never().is_none(), "nothing is left");
    drop(held);
    drop(ledger.hold_effects(&id).now_or_never().expect("as much is free again").unwrap());
    drop(rest);
    assert_eq!(free(), all);
    const { assert!(EFFECTS_HELD_BYTES_MAX >= EFFECTS_BYTES_MAX) };
}

#[tokio::test]
async fn an_attempt_that_was_not_begun_counts_from_its_settle() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let id = delivery_of(accept_one(&ledger, for_crm("evt_1")).await);
    let settle = |number, verdict| Settle { begun: false, ..settle_with(&id, number, done(), verdict) };
    let wrong = ledger.settle(settle(2, Verdict::Done), NOW).await;
    assert!(matches!(wrong, Err(Error::WrongState(_, Status::Open))), "{wrong:?}");
    assert_eq!(ledger.settle(settle(1, Verdict::Again { at: NOW }), NOW).await.unwrap(), Settled::Written);
    assert_eq!(due(&ledger, NOW).await[0].attempts, 1);
    ledger.rule(&id, Ruling::Cancel, NOW).await.unwrap();
    let late = ledger.settle(settle(2, Verdict::Done), NOW).await;
    assert!(matches!(late, Err(Error::WrongState(_, Status::Cancelled))), "{late:?}");
    let history = ledger.delivery(&id).await.unwrap().unwrap();
    assert_eq!(history.attempts.len(), 1);
    assert!(history.interrupted.is_empty());
}

#[tokio::test]
async fn a_retry_of_what_was_done_begins_a_new_round_and_one_of_what_is_dead_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let id = delivery_of(accept_one(&ledger, for_crm("evt_1")).await);
    let act = async |number: u32, text: &'static str, verdict: Verdict| {
        ledger.begin(&id, number, Digest([3; 32]), NOW).await.unwrap();
        let entry = (Bytes::from_static(text.as_bytes()), true);
        ledger.note_effect(&id, number, entry, NOW).await.unwrap();
        ledger.settle(settle_with(&id, number, done(), verdict), NOW).await.unwrap();
    };
    act(1, "one", Verdict::Dead { reason: "no".into() }).await;
    ledger.rule(&id, Ruling::Retry, NOW).await.unwrap();
    act(2, "two", Verdict::Done).await;
    let first = ledger.effects(&id).await.unwrap();
    assert_eq!((first.round, first.entries), (0, vec!["one".into(), "two".into()]));
    ledger.rule(&id, Ruling::Retry, NOW).await.unwrap();
    let round = ledger.effects(&id).await.unwrap();
    assert!(round.round > 0 && round.entries.is_empty(), "{round:?}");
    act(3, "three", Verdict::Again { at: NOW }).await;
    ledger.rule(&id, Ruling::Retry, NOW).await.unwrap();
    let same = ledger.effects(&id).await.unwrap();
    assert_eq!((same.round, same.entries), (round.round, vec!["three".into()]));
    // A record has all of them, and where the second round began.
    let recorded = ledger.recorded(&id).await.unwrap();
    assert_eq!(recorded.rounds, [0, round.round]);
    let entries: Vec<_> = recorded.entries.iter().map(|(_, entry)| entry.clone()).collect();
    assert_eq!(entries, ["one", "two", "three"]);
    let behind = |at: usize| recorded.entries[at].0 > round.round;
    assert!(!behind(1) && behind(2) && recorded.entries[2].0 <= same.up_to);
}

#[tokio::test]
async fn calls_that_are_too_much_to_be_held_are_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let id = delivery_of(accept_one(&ledger, for_crm("evt_1")).await);
    let quarter = Bytes::from(vec![b'x'; crate::words::limits::EFFECTS_BYTES_MAX / 4]);
    for _ in 0..4 {
        ledger.note_effect(&id, 1, (quarter.clone(), false), NOW).await.unwrap();
    }
    assert_eq!(ledger.effects(&id).await.unwrap().entries.len(), 4);
    ledger.note_effect(&id, 1, (Bytes::from_static(b"x"), false), NOW).await.unwrap();
    assert!(matches!(ledger.effects(&id).await, Err(Error::Effect(..))));
}
