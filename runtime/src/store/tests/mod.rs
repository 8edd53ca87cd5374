//! The ledger's promises, on a real disk and, where a disk must misbehave, on one that does so when told.

use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use super::journal::held::Held;
use super::open::Ground;
use super::*;
use crate::words::attempt::{Attempt, Blame, CallRecord, Outcome};
use crate::words::shelf::ShelfTxn;

mod accept;
mod clock;
mod deliveries;
mod history;
mod lanes;
mod model;
mod month;
mod pace;
mod records;
mod recovery;
mod retention;
mod shelf;
mod simulation;
mod steps;

pub(super) const NOW: Millis = Millis(1_790_000_000_000);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn options(path: &Path) -> Options {
    Options {
        path: path.to_owned(),
        durability: Durability::PowerLoss,
        retain_age: DAY * 30,
        retain_bytes: 1 << 30,
        open_age_max: DAY * 30,
    }
}

pub(super) fn open(path: &Path) -> Ledger {
    Ledger::open(options(path), NOW).unwrap().0
}

pub(super) fn open_at(path: &Path, now: Millis) -> (Ledger, Recovery) {
    Ledger::open(options(path), now).unwrap()
}

pub(super) fn open_held(path: &Path) -> (Ledger, Held) {
    let disk = Held::default();
    (Ledger::open_on(options(path), Arc::new(disk.clone()), NOW).unwrap().0, disk)
}

/// Small segments, so that there are many.
pub(super) fn small(options: &Options) -> Ground {
    Ground { segment_bytes: 16 * 1024, ..Ground::of(options) }
}

pub(super) fn open_small(path: &Path, options: Options, now: Millis) -> (Ledger, Recovery) {
    let _ = path;
    let ground = small(&options);
    Ledger::open_upon(options, ground, now).unwrap()
}

pub(super) fn new_event(id: &str, deliveries: &[(&str, &str)]) -> NewEvent {
    NewEvent {
        id: id.to_owned(),
        also: None,
        event_type: "message.received".to_owned(),
        range: None,
        test: false,
        deliveries: deliveries
            .iter()
            .map(|(subscription, handler)| NewDelivery {
                subscription: name(subscription),
                handler: name(handler),
            })
            .collect(),
    }
}

pub(super) fn request(events: Vec<NewEvent>, body: &str) -> Accept {
    Accept {
        source: name("sendpilot"),
        received_at: NOW,
        signed_at: Some(NOW),
        secret: Fingerprint([1; 6]),
        query: Some("a=b".to_owned()),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: Bytes::copy_from_slice(body.as_bytes()),
        dedupe_window: DAY * 7,
        events,
    }
}

/// One event for the subscription `to-crm` of the handler `crm`.
pub(super) fn for_crm(id: &str) -> Accept {
    request(vec![new_event(id, &[("to-crm", "crm")])], &format!("{{\"id\":\"{id}\"}}"))
}

/// One event that nobody wants.
pub(super) fn for_nobody(id: &str) -> Accept {
    request(vec![new_event(id, &[])], &format!("{{\"id\":\"{id}\"}}"))
}

pub(super) async fn accept_one(ledger: &Ledger, accept: Accept) -> EventRef {
    let receipt = ledger.accept(accept).await.unwrap();
    assert!(!receipt.events()[0].duplicate);
    receipt.events()[0].event
}

pub(super) fn delivery_of(event: EventRef) -> DeliveryId {
    DeliveryId { event, subscription: name("to-crm") }
}

pub(super) async fn due(ledger: &Ledger, until: Millis) -> Vec<OpenDelivery> {
    ledger.due(&name("crm"), until, 1000, &std::collections::HashSet::new()).await.unwrap()
}

pub(super) fn attempt(number: u32, outcome: Outcome) -> Attempt {
    let call = CallRecord {
        number: 0,
        method: "POST".into(),
        target: "https://api.example.com/x".into(),
        key: None,
        status: Some(503),
        error: None,
        took_ms: 3,
        request_bytes: 10,
        response_bytes: 20,
        credentials: vec![],
        recorded: false,
        disowned: false,
        after_unknown: false,
        effect: None,
        digest: None,
    };
    Attempt {
        number,
        started_at: NOW,
        took_ms: 12,
        outcome,
        calls: vec![call],
        logs: vec![],
        plugin: Digest([3; 32]),
        memory_bytes: 65536,
        tape: None,
    }
}

pub(super) fn failed(reason: &str) -> Outcome {
    Outcome::Failed {
        kind: ErrorKind::Retry,
        blame: Blame::Remote,
        reason: reason.into(),
        permanent: false,
        after_ms: None,
    }
}

pub(super) fn done() -> Outcome {
    Outcome::Done { note: Some("sent".into()) }
}

pub(super) fn settle_with(id: &DeliveryId, number: u32, outcome: Outcome, verdict: Verdict) -> Settle {
    Settle {
        begun: true,
        delivery: id.clone(),
        handler: name("crm"),
        attempt: attempt(number, outcome),
        verdict,
        shelf: ShelfTxn::default(),
    }
}

/// Begun and settled.
pub(super) async fn run(ledger: &Ledger, id: &DeliveryId, number: u32, outcome: Outcome, verdict: Verdict) {
    ledger.begin(id, number, Digest([3; 32]), NOW).await.unwrap();
    let settled = ledger.settle(settle_with(id, number, outcome, verdict), NOW).await.unwrap();
    assert_eq!(settled, Settled::Written);
}

pub(super) async fn run_done(ledger: &Ledger, event: EventRef) {
    run(ledger, &delivery_of(event), 1, done(), Verdict::Done).await;
}

/// Whether a future has its answer yet; asks it once more than it asks to be asked.
pub(super) async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
        Poll::Ready(_) => Poll::Ready(false),
        Poll::Pending => Poll::Ready(true),
    })
    .await
}

pub(super) fn all_events() -> EventFilter {
    EventFilter { limit: 1000, ..EventFilter::default() }
}

pub(super) fn all_deliveries() -> DeliveryFilter {
    DeliveryFilter { limit: 1000, ..DeliveryFilter::default() }
}
