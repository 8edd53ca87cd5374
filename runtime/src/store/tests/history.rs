//! History: newest first, page by page, each row once, and only what was asked for.

use std::fs;
use std::os::unix::fs::FileExt as _;

use super::*;
use crate::words::limits::{HISTORY_PAGE_DEFAULT, HISTORY_SCAN_MAX};

async fn every_event(ledger: &Ledger, filter: EventFilter) -> Vec<EventRow> {
    let mut rows = Vec::new();
    let mut cursor = None;
    loop {
        let page = ledger.events(EventFilter { cursor, ..filter.clone() }).await.unwrap();
        rows.extend(page.rows);
        cursor = page.next;
        if cursor.is_none() {
            return rows;
        }
    }
}

async fn every_delivery(ledger: &Ledger, filter: DeliveryFilter) -> Vec<DeliveryRow> {
    let mut rows = Vec::new();
    let mut cursor = None;
    loop {
        let page = ledger.deliveries(DeliveryFilter { cursor, ..filter.clone() }).await.unwrap();
        rows.extend(page.rows);
        cursor = page.next;
        if cursor.is_none() {
            return rows;
        }
    }
}

/// 60 events of two sources and three types, at one a minute, for two handlers.
async fn a_past(ledger: &Ledger) {
    for n in 0..60_u64 {
        let mut event = new_event(&format!("evt_{n}"), &[("to-crm", "crm"), ("to-slack", "slack")]);
        event.event_type = ["message.received", "reply.received", ""][n as usize % 3].to_owned();
        event.test = n == 7;
        let mut accept = request(vec![event], &format!("body {n}"));
        accept.source = name(["sendpilot", "stripe"][n as usize % 2]);
        accept.received_at = NOW.plus(Duration::from_secs(60 * n));
        let event = accept_one(ledger, accept).await;
        let id = delivery_of(event);
        match n % 5 {
            0 => run_done(ledger, event).await,
            1 => {
                run(ledger, &id, 1, failed("no_service"), Verdict::Dead { reason: "no_service".into() }).await
            }
            2 => run(ledger, &id, 1, failed("HTTP 503"), Verdict::Again { at: NOW.plus(DAY) }).await,
            _ => {}
        }
    }
}

#[tokio::test]
async fn pages_hold_each_event_once_newest_first_whatever_their_size() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open_small(dir.path(), options(dir.path()), NOW);
    a_past(&ledger).await;
    let expected: Vec<String> = (0..60).rev().map(|n| format!("evt_{n}")).collect();
    for _ in 0..2 {
        for limit in [1, 7, 60, 1000] {
            let rows = every_event(&ledger, EventFilter { limit, ..EventFilter::default() }).await;
            assert_eq!(rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>(), expected, "{limit} a page");
            let rows = every_delivery(&ledger, DeliveryFilter { limit, ..DeliveryFilter::default() }).await;
            assert_eq!(rows.len(), 120);
            assert!(rows.is_sorted_by(|one, other| one.delivery > other.delivery));
        }
        // From the index as from the view, and over several segments.
        drop(ledger);
        ledger = open_small(dir.path(), options(dir.path()), NOW).0;
    }
    let page = ledger.events(EventFilter::default()).await.unwrap();
    assert_eq!(page.rows.len(), HISTORY_PAGE_DEFAULT);
}

#[tokio::test]
async fn event_filters_take_what_they_name() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    a_past(&ledger).await;
    let count = async |filter| every_event(&ledger, filter).await.len();
    let all = all_events;
    assert_eq!(count(EventFilter { source: Some(name("stripe")), ..all() }).await, 30);
    assert_eq!(count(EventFilter { source: Some(name("github")), ..all() }).await, 0);
    assert_eq!(count(EventFilter { event_type: Some("reply.received".into()), ..all() }).await, 20);
    assert_eq!(count(EventFilter { event_type: Some(String::new()), ..all() }).await, 20);
    assert_eq!(count(EventFilter { id: Some("evt_8".into()), ..all() }).await, 1);
    assert_eq!(
        count(EventFilter { id: Some("evt_8".into()), source: Some(name("stripe")), ..all() }).await,
        0
    );
    let since = Some(NOW.plus(Duration::from_secs(60 * 10)));
    let until = Some(NOW.plus(Duration::from_secs(60 * 19)));
    assert_eq!(count(EventFilter { since, until, ..all() }).await, 10);

    let row = &every_event(&ledger, EventFilter { id: Some("evt_7".into()), ..all() }).await[0];
    assert!(row.test && row.answer_us.is_some() && row.answered == 200);
    assert_eq!((row.body_bytes, row.source.as_str()), (6, "stripe"));
    let summary: Vec<_> = row.deliveries.iter().map(|one| (one.subscription.as_str(), one.status)).collect();
    assert_eq!(summary, [("to-crm", Status::Open), ("to-slack", Status::Open)]);
    assert_eq!(ledger.event_row(row.event).await.unwrap().unwrap().id, "evt_7");
}

#[tokio::test]
async fn delivery_filters_take_what_they_name() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    a_past(&ledger).await;
    let count = async |filter| every_delivery(&ledger, DeliveryFilter { limit: 5, ..filter }).await.len();
    let all = all_deliveries;
    assert_eq!(count(DeliveryFilter { handler: Some(name("crm")), ..all() }).await, 60);
    assert_eq!(count(DeliveryFilter { status: Some(Status::Done), ..all() }).await, 12);
    assert_eq!(count(DeliveryFilter { status: Some(Status::Dead), ..all() }).await, 12);
    assert_eq!(count(DeliveryFilter { status: Some(Status::Open), ..all() }).await, 36 + 60);
    let crm_open = DeliveryFilter { status: Some(Status::Open), handler: Some(name("crm")), ..all() };
    assert_eq!(count(crm_open).await, 36);
    assert_eq!(count(DeliveryFilter { source: Some(name("stripe")), ..all() }).await, 60);
    assert_eq!(count(DeliveryFilter { event_type: Some("reply.received".into()), ..all() }).await, 40);
    assert_eq!(count(DeliveryFilter { error_kind: Some(ErrorKind::Retry), ..all() }).await, 24);
    assert_eq!(count(DeliveryFilter { error: Some("503".into()), ..all() }).await, 12);
    assert_eq!(count(DeliveryFilter { error: Some("service".into()), ..all() }).await, 12);
    let since = Some(NOW.plus(Duration::from_secs(60 * 50)));
    assert_eq!(count(DeliveryFilter { since, ..all() }).await, 20);

    let dead = every_delivery(&ledger, DeliveryFilter { status: Some(Status::Dead), ..all() }).await;
    assert!(dead.is_sorted_by(|one, other| one.delivery > other.delivery));
    let row = &dead[0];
    assert_eq!((row.event_id.as_str(), row.message.as_deref()), ("evt_56", Some("no_service")));
    assert_eq!((row.last_status, row.last_took_ms, row.attempts), (Some(503), Some(12), 1));
    let of_event = DeliveryFilter { event: Some(row.delivery.event), ..all() };
    assert_eq!(every_delivery(&ledger, of_event).await.len(), 2);
}

#[tokio::test]
async fn a_rare_filter_is_cut_at_the_bound_and_goes_on_from_its_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    for n in 0..9 {
        let deliveries = [("one", "crm"), ("two", "crm"), ("three", "crm")];
        let mut events: Vec<_> = (0..3000)
            .map(|at| new_event(&format!("evt_{n}_{at}"), &deliveries[..usize::from(n < 8) * 3]))
            .collect();
        events[0].event_type = "first.of.its.request".into();
        ledger.accept(request(events, "[]")).await.unwrap();
    }
    let filter = EventFilter { event_type: Some("first.of.its.request".into()), limit: 10, ..all_events() };
    let page = ledger.events(filter.clone()).await.unwrap();
    assert!(page.cut && page.next.is_some());
    assert!(page.rows.len() * 3000 < HISTORY_SCAN_MAX + 3000);
    assert_eq!(every_event(&ledger, filter).await.len(), 9);

    let filter =
        DeliveryFilter { event_type: Some("first.of.its.request".into()), limit: 100, ..all_deliveries() };
    let page = ledger.deliveries(filter.clone()).await.unwrap();
    assert!(page.cut && page.next.is_some() && page.rows.len() < 24);
    assert_eq!(every_delivery(&ledger, filter).await.len(), 24);
}

#[tokio::test]
async fn a_cursor_that_is_none_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    accept_one(&ledger, for_crm("evt_1")).await;
    for bad in ["", "x", "1.", "g.40", "40.ZZ"] {
        let cursor = Some(bad.to_owned());
        let events = ledger.events(EventFilter { cursor: cursor.clone(), ..all_events() }).await;
        assert!(matches!(events, Err(Error::BadCursor(_))), "{bad}");
        let deliveries = ledger.deliveries(DeliveryFilter { cursor, ..all_deliveries() }).await;
        assert!(matches!(deliveries, Err(Error::BadCursor(_))), "{bad}");
    }
    let nobody = EventRef { position: 64, ordinal: 9 };
    assert!(ledger.event_row(nobody).await.unwrap().is_none());
    assert!(matches!(ledger.event(nobody).await, Err(Error::NoSuchEvent(_))));
    let beyond = EventRef { position: u64::MAX, ordinal: 0 };
    assert!(ledger.event_row(beyond).await.unwrap().is_none());
}

#[tokio::test]
async fn a_damaged_record_shows_in_its_row_and_hides_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let mut events = Vec::new();
    for n in 0..3 {
        let event = accept_one(&ledger, for_crm(&format!("evt_{n}"))).await;
        run_done(&ledger, event).await;
        events.push(event);
    }
    let segment = fs::read_dir(dir.path().join("journal")).unwrap().next().unwrap().unwrap().path();
    let file = fs::OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let inside = 64 + events[1].position + 40;
    let mut byte = [0];
    file.read_exact_at(&mut byte, inside).unwrap();
    file.write_all_at(&[!byte[0]], inside).unwrap();

    let rows = every_delivery(&ledger, all_deliveries()).await;
    let ids: Vec<&str> = rows.iter().map(|row| row.event_id.as_str()).collect();
    assert_eq!(ids, ["evt_2", "", "evt_0"]);
    let said = rows[1].message.as_deref().unwrap();
    assert!(said.contains("is damaged at byte") && said.contains("longshore store check"), "{said}");
}
