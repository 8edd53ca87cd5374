//! Attempt: one delivery from its lease to its settle. The half of the line for which nobody waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
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
    /// See `turn`.
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
    /// The store wrote nothing, and why. The delivery is still owed and found in the index later.
    StoreRefused(String),
}

/// Lease, call, settle.
pub async fn carry(lane: Arc<Context>, delivery: OpenDelivery) -> Ended {
    let span = info_span!("lease", delivery = %delivery.id, handler = %delivery.handler);
    async {
        if delivery.begun_without_end >= limits::POISON_BEGUN_MAX {
            let reason = format!(
                "{} attempts in a row began and the daemon ended in each; look at the handler, then `longshore deliveries retry {}`",
                delivery.begun_without_end, delivery.id
            );
            return park(&lane, &delivery, &reason).await;
        }
        match attempt(&lane, &delivery).await {
            Ok(ended) => ended,
            Err(error) => not_written(&lane, &delivery, error).await,
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
        // Held until the settle is durable: only then does an attempt that runs alone read what others wrote.
        let _turn = lane.turn(run).await;
        let started_at = Millis::now();
        let called = call(lane, delivery, &event, number).await;
        match settle(lane, delivery, number, started_at, called).await? {
            Some(ended) => return Ok(ended),
            None => debug!(run, "another delivery changed what this attempt had read; running again"),
        }
    }
    // The last run was alone in its lane, and nobody else writes this shelf.
    let lost = lost("the shelf changed under an attempt that ran alone; please report this");
    let ended = settle(lane, delivery, number, Millis::now(), lost).await?;
    Ok(ended.expect("a transaction that read nothing cannot conflict"))
}

impl Context {
    /// Attempts run side by side; one that lost the shelf to others twice runs alone.
    async fn turn(&self, run: u32) -> Turn<'_> {
        match run < limits::SHELF_CONFLICT_RUNS {
            true => Turn::Shared { _guard: self.alone.read().await },
            false => Turn::Alone { _guard: self.alone.write().await },
        }
    }
}

enum Turn<'a> {
    Shared { _guard: RwLockReadGuard<'a, ()> },
    Alone { _guard: RwLockWriteGuard<'a, ()> },
}

/// One call of the handler, given up where the drain is over; what it did until then is in its record.
async fn call(lane: &Context, delivery: &OpenDelivery, event: &StoredEvent, number: u32) -> Called {
    let shelf = LedgerShelf { ledger: lane.shared.ledger.clone(), handler: delivery.handler.clone() };
    let event = as_guest_event(delivery, event, number);
    let given_up = lane.shared.abort.cancelled();
    let call = lane.handler.call_until(event, Arc::new(shelf), Wire::Live, given_up);
    call.instrument(info_span!("call", attempt = number)).await
}

/// None: another delivery changed what the attempt had read from the shelf, and nothing was written.
async fn settle(
    lane: &Context,
    delivery: &OpenDelivery,
    number: u32,
    started_at: Millis,
    called: Called,
) -> Result<Option<Ended>, store::Error> {
    let verdict = judge(lane, delivery, &called.outcome);
    let (outcome, took) = (called.outcome.clone(), called.took);
    let settle = Settle {
        delivery: delivery.id.clone(),
        handler: delivery.handler.clone(),
        attempt: as_attempt(lane, number, started_at, &called),
        verdict: verdict.clone(),
        shelf: called.shelf,
    };
    match lane.shared.ledger.settle(settle, Millis::now()).instrument(info_span!("settle")).await? {
        Settled::Conflict => Ok(None),
        Settled::Written => {
            count(lane, &outcome, took, &verdict);
            Ok(Some(after(delivery, number, verdict, &outcome)))
        }
    }
}

/// An attempt that ended through no fault of its handler.
fn lost(reason: &str) -> Called {
    Called {
        outcome: Outcome::Failed {
            kind: ErrorKind::Host,
            blame: Blame::Host,
            reason: reason.to_owned(),
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
    let now = lane.shared.clock.now();
    match outcome {
        Outcome::Done { .. } => Verdict::Done,
        Outcome::Skipped { .. } => Verdict::Skipped,
        // Neither a deploy nor a full pool of instances may use up what a handler may fail.
        Outcome::Failed { kind: ErrorKind::Interrupted, .. } => Verdict::Again { at: now },
        Outcome::Failed { kind: ErrorKind::Host, after_ms: Some(wait), .. } => {
            Verdict::Again { at: now.plus(Duration::from_millis(*wait)) }
        }
        Outcome::Failed { permanent: true, reason, .. } => Verdict::Dead { reason: reason.clone() },
        Outcome::Failed { reason, after_ms, .. } => {
            let asked = after_ms.map(Duration::from_millis);
            let ended = delivery.attempts + delivery.begun_without_end + 1;
            let dice = rand::random::<f64>();
            // Its age is the ledger's to tell; how long it waits is the lane's.
            let clock = lane.shared.ledger.clock(Millis::now());
            match backoff::next(&lane.retry, ended, delivery.accepted_at, clock, asked, dice) {
                Some(at) => Verdict::Again { at: now.plus(at.since(clock)) },
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

async fn park(lane: &Context, delivery: &OpenDelivery, reason: &str) -> Ended {
    error!(reason, "parked");
    match lane.shared.ledger.park(&delivery.id, reason, Millis::now()).await {
        Ok(()) => {
            lane.shared.metrics.deliveries.get_or_create(&by_outcome(&delivery.handler, "parked")).inc();
            Ended::Settled
        }
        Err(error) => Ended::StoreRefused(error.to_string()),
    }
}

/// What concerns the store makes the lane wait; what concerns one delivery sets that one aside.
async fn not_written(lane: &Context, delivery: &OpenDelivery, error: store::Error) -> Ended {
    match error {
        store::Error::WrongState(..) | store::Error::NoSuchDelivery(_) => {
            debug!(%error, "the operator ended the delivery meanwhile");
            Ended::Settled
        }
        store::Error::Damaged { .. } | store::Error::NoSuchEvent(_) => {
            let reason = format!("its event cannot be read: {error}");
            park(lane, delivery, &reason).await
        }
        error => Ended::StoreRefused(error.to_string()),
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

fn count(lane: &Context, outcome: &Outcome, took: Duration, verdict: &Verdict) {
    let metrics = &lane.shared.metrics;
    let handler = lane.handler.name();
    let outcome = match outcome {
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
    metrics.attempt_seconds.get_or_create(&label).observe(took.as_secs_f64());
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
