//! Attempt: one delivery from its lease to its settle. The half of the line for which nobody waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::RwLock;
use tracing::{Instrument, debug, error, info, info_span, warn};

use super::{Lane, Shared};
use crate::backoff;
use crate::host::{self, Called, Handler, Wire};
use crate::metrics::{ByHandler, ByOutcome};
use crate::store::{self, Ledger, OpenDelivery, Settle, Settled, StoredEvent};
use crate::words::attempt::{Attempt, Blame, ErrorKind, Outcome, Verdict};
use crate::words::event::Name;
use crate::words::limits;
use crate::words::shelf::ShelfRead;
use crate::words::time::Millis;

/// What every attempt of a lane shares.
pub struct Context {
    pub handler: Arc<Handler>,
    retry: backoff::Policy,
    shared: Shared,
    /// Attempts share it; one that lost the shelf to others twice runs alone.
    alone: RwLock<()>,
}

impl Context {
    pub fn new(lane: Lane, shared: Shared) -> Context {
        Context { handler: lane.handler, retry: lane.retry, shared, alone: RwLock::new(()) }
    }
}

/// What the lane does with the delivery next.
pub enum Ended {
    /// Nothing: it has ended, or waits for the operator.
    Settled,
    /// It waits for its next attempt.
    Again(OpenDelivery),
    /// The store wrote nothing. The delivery is still owed and found in the index later.
    StoreRefused,
}

/// Lease, call, settle.
pub async fn carry(lane: Arc<Context>, delivery: OpenDelivery) -> Ended {
    let span = info_span!("lease", delivery = %delivery.id, handler = %delivery.handler);
    async {
        let _alone_among_suspects = match delivery.begun_without_end {
            0 => None,
            _ => Some(lane.shared.suspects.lock().await),
        };
        if delivery.begun_without_end >= limits::POISON_BEGUN_MAX {
            return park(&lane, &delivery).await;
        }
        match attempt(&lane, &delivery).await {
            Ok(ended) => ended,
            Err(error) => not_written(&delivery, &error),
        }
    }
    .instrument(span)
    .await
}

async fn attempt(lane: &Context, delivery: &OpenDelivery) -> Result<Ended, store::Error> {
    let event = lane.shared.ledger.event(delivery.id.event).await?;
    let number = delivery.attempts + delivery.begun_without_end + 1;
    lane.shared.ledger.begin(&delivery.id, number, lane.handler.plugin().digest(), Millis::now()).await?;
    for run in 1..=limits::SHELF_CONFLICT_RUNS {
        let started_at = Millis::now();
        let called = call(lane, delivery, &event, number, run).await;
        let verdict = judge(lane, delivery, &called.outcome);
        count(lane, &called, &verdict);
        let settle = Settle {
            delivery: delivery.id.clone(),
            handler: delivery.handler.clone(),
            attempt: as_attempt(lane, number, started_at, &called),
            verdict: verdict.clone(),
            shelf: called.shelf,
        };
        match lane.shared.ledger.settle(settle, Millis::now()).instrument(info_span!("settle")).await? {
            Settled::Written => return Ok(after(delivery, number, verdict, &called.outcome)),
            Settled::Conflict => {
                debug!(run, "another delivery changed what this attempt had read; running again")
            }
        }
    }
    // The last run was alone, so that nothing could change what it read. Whatever did, the delivery is owed.
    warn!("the shelf changed under an attempt that ran alone; the delivery is tried again later");
    Ok(Ended::StoreRefused)
}

/// One call of the handler: alone where the shelf was lost twice, given up where the drain is over.
async fn call(lane: &Context, delivery: &OpenDelivery, event: &StoredEvent, number: u32, run: u32) -> Called {
    let (_shared, _alone);
    if run < limits::SHELF_CONFLICT_RUNS {
        _shared = lane.alone.read().await;
    } else {
        _alone = lane.alone.write().await;
    }
    let shelf = LedgerShelf { ledger: lane.shared.ledger.clone(), handler: delivery.handler.clone() };
    let call = lane.handler.call(as_guest_event(delivery, event, number), Arc::new(shelf), Wire::Live);
    tokio::select! {
        called = call.instrument(info_span!("call", attempt = number)) => called,
        () = lane.shared.abort.cancelled() => interrupted(),
    }
}

fn interrupted() -> Called {
    Called {
        outcome: Outcome::Failed {
            kind: ErrorKind::Interrupted,
            blame: Blame::Host,
            reason: "the daemon was stopped during this attempt".to_owned(),
            permanent: false,
            after_ms: Some(0),
        },
        calls: Vec::new(),
        logs: Vec::new(),
        took: Duration::ZERO,
        memory_bytes: 0,
        shelf: Default::default(),
    }
}

fn judge(lane: &Context, delivery: &OpenDelivery, outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Done { .. } => Verdict::Done,
        Outcome::Skipped { .. } => Verdict::Skipped,
        Outcome::Failed { permanent: true, reason, .. } => Verdict::Dead { reason: reason.clone() },
        Outcome::Failed { reason, after_ms, .. } => {
            let asked = after_ms.map(Duration::from_millis);
            let ended = delivery.attempts + delivery.begun_without_end + 1;
            let dice = rand::random::<f64>();
            match backoff::next(&lane.retry, ended, delivery.accepted_at, Millis::now(), asked, dice) {
                Some(at) => Verdict::Again { at },
                None => Verdict::Dead { reason: format!("gave up after {ended} attempts: {reason}") },
            }
        }
    }
}

fn after(delivery: &OpenDelivery, number: u32, verdict: Verdict, outcome: &Outcome) -> Ended {
    match (&verdict, outcome) {
        (Verdict::Again { at }, Outcome::Failed { reason, blame, .. }) => {
            info!(attempt = number, again_at = %at, ?blame, reason, "the attempt failed; trying again later");
        }
        (Verdict::Dead { reason }, _) => {
            warn!(
                attempt = number,
                reason, "the delivery is dead; see `longshore deliveries show {}`", delivery.id
            );
        }
        _ => debug!(attempt = number, ?verdict, "the delivery has ended"),
    }
    match verdict {
        Verdict::Again { at } => {
            Ended::Again(OpenDelivery { due: at, attempts: number, begun_without_end: 0, ..delivery.clone() })
        }
        _ => Ended::Settled,
    }
}

async fn park(lane: &Context, delivery: &OpenDelivery) -> Ended {
    let reason = format!(
        "{} attempts in a row began and the daemon ended in each; look at the handler, then `longshore deliveries retry {}`",
        delivery.begun_without_end, delivery.id
    );
    error!(reason, "parked");
    lane.shared.metrics.deliveries.get_or_create(&by_outcome(&delivery.handler, "parked")).inc();
    match lane.shared.ledger.park(&delivery.id, &reason, Millis::now()).await {
        Ok(()) => Ended::Settled,
        Err(error) => not_written(delivery, &error),
    }
}

fn not_written(delivery: &OpenDelivery, error: &store::Error) -> Ended {
    match error {
        store::Error::WrongState(..) | store::Error::NoSuchDelivery(_) => {
            debug!(%error, "the delivery was ended by the operator");
            Ended::Settled
        }
        store::Error::Closing => Ended::StoreRefused,
        error => {
            error!(delivery = %delivery.id, %error, "the store does not take the attempt");
            Ended::StoreRefused
        }
    }
}

fn as_guest_event(delivery: &OpenDelivery, event: &StoredEvent, number: u32) -> host::Event {
    let mut attributes = vec![("subscription".to_owned(), delivery.id.subscription.to_string())];
    if event.test {
        attributes.push(("test".to_owned(), "true".to_owned()));
    }
    if let Some((_, parent)) = event.headers.iter().find(|(name, _)| name == "traceparent") {
        attributes.push(("traceparent".to_owned(), parent.clone()));
    }
    host::Event {
        id: event.id.clone(),
        event_type: event.event_type.clone(),
        source: event.source.to_string(),
        delivery_id: delivery.id.to_string(),
        received_at: event.received_at,
        signed_at: event.signed_at,
        attempt: number,
        query: event.query.clone(),
        headers: event.headers.clone(),
        body: event.body.clone(),
        attributes,
    }
}

fn as_attempt(lane: &Context, number: u32, started_at: Millis, called: &Called) -> Attempt {
    Attempt {
        number,
        started_at,
        took_ms: u64::try_from(called.took.as_millis()).unwrap_or(u64::MAX),
        outcome: called.outcome.clone(),
        calls: called.calls.clone(),
        logs: called.logs.clone(),
        plugin: lane.handler.plugin().digest(),
        memory_bytes: called.memory_bytes,
    }
}

fn count(lane: &Context, called: &Called, verdict: &Verdict) {
    let metrics = &lane.shared.metrics;
    let handler = lane.handler.name();
    let outcome = match &called.outcome {
        Outcome::Done { .. } => "done",
        Outcome::Skipped { .. } => "skipped",
        Outcome::Failed { .. } => "failed",
    };
    let led_to = match verdict {
        Verdict::Done => "done",
        Verdict::Skipped => "skipped",
        Verdict::Again { .. } => "retried",
        Verdict::Dead { .. } => "dead",
        Verdict::Parked { .. } => "parked",
    };
    metrics.attempts.get_or_create(&by_outcome(handler, outcome)).inc();
    metrics.deliveries.get_or_create(&by_outcome(handler, led_to)).inc();
    let label = ByHandler { handler: handler.to_string() };
    metrics.attempt_seconds.get_or_create(&label).observe(called.took.as_secs_f64());
}

fn by_outcome(handler: &Name, outcome: &str) -> ByOutcome {
    ByOutcome { handler: handler.to_string(), outcome: outcome.to_owned() }
}

/// The ledger's shelf of one handler, as the host reads it.
struct LedgerShelf {
    ledger: Ledger,
    handler: Name,
}

impl host::Shelf for LedgerShelf {
    fn get<'a>(&'a self, key: &'a str) -> host::ShelfFuture<'a, ShelfRead> {
        Box::pin(async move {
            self.ledger.shelf_get(&self.handler, key, Millis::now()).await.map_err(|e| e.to_string())
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
    ) -> host::ShelfFuture<'a, Vec<String>> {
        Box::pin(async move {
            let listed = self.ledger.shelf_list(&self.handler, prefix, after, limit, Millis::now()).await;
            listed.map_err(|e| e.to_string())
        })
    }

    fn bytes<'a>(&'a self) -> host::ShelfFuture<'a, u64> {
        Box::pin(async move { self.ledger.shelf_bytes(&self.handler).await.map_err(|e| e.to_string()) })
    }
}
