//! Attempt: one delivery from its lease to its settle. The half of the line for which nobody waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tracing::{Instrument, debug, debug_span, error, info, info_span, warn};

use super::effects::LedgerEffects;
use super::report::Report;
use super::stops::Stops;
use super::tally::Tally;
use super::{Lane, Shared};
use crate::backoff;
use crate::host::{self, Called, Effects as _, Halt, Handler, Wire};
use crate::store::{self, Ledger, OpenDelivery, Settle, Settled, StoredEvent};
use crate::words::attempt::{Attempt, Blame, ErrorKind, LogLevel, LogLine, Outcome, Verdict};
use crate::words::event::{DeliveryId, Name};
use crate::words::lane::LaneChange;
use crate::words::limits;
use crate::words::shelf::ShelfRead;
use crate::words::time::Millis;

/// What every attempt of a lane shares.
pub struct Context {
    pub handler: Arc<Handler>,
    retry: backoff::Policy,
    shared: Shared,
    shelf: Arc<LedgerShelf>,
    tally: Tally,
    /// See `turn`.
    alone: RwLock<()>,
    /// See `must_begin_first`.
    distrusts: AtomicBool,
    stops: Mutex<Stops>,
}

impl Context {
    pub fn new(lane: Lane, shared: Shared, stops: Stops) -> Context {
        let name = lane.handler.name();
        Context {
            shelf: Arc::new(LedgerShelf { ledger: shared.ledger.clone(), handler: name.clone() }),
            tally: Tally::new(shared.metrics.clone(), name.clone()),
            handler: lane.handler,
            retry: lane.retry,
            shared,
            alone: RwLock::new(()),
            distrusts: AtomicBool::new(false),
            stops: Mutex::new(stops),
        }
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

/// Lease, call, settle. And what the lane's breaker is to know of it.
pub async fn carry(lane: &Context, delivery: &OpenDelivery) -> (Ended, Report) {
    let number = delivery.attempts + delivery.begun_without_end + 1;
    let id = delivery.id.to_string();
    // As text: a span writes that down without another copy of it.
    let (shown, handler) = (id.as_str(), delivery.handler.as_str());
    let span = info_span!("lease", delivery = shown, handler, attempt = number);
    async {
        if delivery.begun_without_end >= limits::POISON_BEGUN_MAX {
            let reason = format!(
                "{} attempts in a row began and the daemon ended in each; look at the handler, then `longshore deliveries retry {}`",
                delivery.begun_without_end, delivery.id
            );
            return (park(lane, delivery, &reason).await, Report::Nothing);
        }
        match attempt(lane, delivery, shown, number).await {
            Ok(ended) => ended,
            Err(error) => (not_written(lane, delivery, &error).await, Report::Nothing),
        }
    }
    .instrument(span)
    .await
}

async fn attempt(
    lane: &Context,
    delivery: &OpenDelivery,
    id: &str,
    number: u32,
) -> Result<(Ended, Report), Arc<store::Error>> {
    let ledger = &lane.shared.ledger;
    let event = ledger.event(delivery.id.event).await?;
    let plugin = lane.handler.plugin().digest();
    let started_at = Millis::now();
    let effects = LedgerEffects::of(ledger.clone(), (delivery, &event), (id, number, started_at), plugin);
    let (effects, mut event) = (Arc::new(effects), Some(event));
    if lane.must_begin_first(delivery) {
        effects.begin_once().await?;
    }
    for run in 1..=limits::SHELF_CONFLICT_RUNS {
        // Held until the settle is durable: only then does an attempt that runs alone read what others wrote.
        let _turn = lane.turn(run).await;
        // Nearly every attempt runs once, and its event is its own; it is read again for those that do not.
        let event = match event.take() {
            Some(event) => event,
            None => ledger.event(delivery.id.event).await?,
        };
        let called = call(lane, guest_event(&delivery.id, event, number), &effects).await;
        match settle(lane, delivery, &effects, called).await? {
            Some(ended) => return Ok(ended),
            None => debug!(run, "another delivery changed what this attempt had read; running again"),
        }
        effects.let_go();
    }
    // The last run was alone in its lane, and nobody else writes this shelf.
    let lost = lost("the shelf changed under an attempt that ran alone; please report this");
    let ended = settle(lane, delivery, &effects, lost).await?;
    Ok(ended.expect("a transaction that read nothing cannot conflict"))
}

impl Context {
    /// What kills the daemon before it makes a call would never be counted: so what was there when the daemon came up
    /// begins in writing, and everything once an attempt ended badly.
    fn must_begin_first(&self, delivery: &OpenDelivery) -> bool {
        self.distrusts.load(Ordering::Relaxed) || self.shared.ledger.was_there_at_the_start(&delivery.id)
    }

    /// When the time to give up began: what the lane was stopped for is not a delivery's fault.
    fn counted_from(&self, delivery: &OpenDelivery, clock: Millis) -> Millis {
        let from = delivery.accepted_at;
        from.plus(self.stops.lock().unwrap_or_else(PoisonError::into_inner).within(from, clock))
    }

    /// The lane was stopped, or goes on.
    pub fn changed(&self, change: &LaneChange) {
        self.tally.changed(change);
        let clock = self.shared.ledger.clock(Millis::now());
        self.stops.lock().unwrap_or_else(PoisonError::into_inner).changed(change, clock);
    }

    /// An attempt of this lane panicked.
    pub fn distrust(&self) {
        self.distrusts.store(true, Ordering::Relaxed);
    }

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
async fn call(lane: &Context, event: host::Event, effects: &Arc<LedgerEffects>) -> Called {
    let given_up = lane.shared.abort.cancelled();
    let wire = Wire::Live(effects.clone());
    let call = lane.handler.call_until(event, lane.shelf.clone(), wire, given_up);
    call.instrument(debug_span!("call")).await
}

/// None: another delivery changed what the attempt had read from the shelf, and nothing was written.
async fn settle(
    lane: &Context,
    delivery: &OpenDelivery,
    effects: &LedgerEffects,
    called: Called,
) -> Result<Option<(Ended, Report)>, Arc<store::Error>> {
    if let Some(Halt::Store(why)) = &called.halt {
        return Err(effects.failure(why));
    }
    let verdict = judge(lane, delivery, &called);
    let report = Report::of(&called.outcome, &called.calls);
    let (outcome, took, number) = (called.outcome.clone(), called.took, effects.number());
    let settle = Settle {
        delivery: delivery.id.clone(),
        handler: delivery.handler.clone(),
        begun: effects.has_begun().await?,
        attempt: Attempt {
            number,
            started_at: effects.started_at(),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            outcome: called.outcome,
            calls: called.calls,
            logs: called.logs,
            plugin: lane.handler.plugin().digest(),
            memory_bytes: called.memory_bytes,
            tape: called.tape,
        },
        verdict: verdict.clone(),
        shelf: called.shelf,
    };
    let ledger = &lane.shared.ledger;
    let write = |settle| ledger.settle(settle, Millis::now());
    match write_down(write, settle).instrument(debug_span!("settle")).await? {
        Settled::Conflict => Ok(None),
        Settled::Written => {
            lane.tally.settled(&outcome, took, &verdict);
            Ok(Some((after(delivery, number, verdict, &outcome), report)))
        }
    }
}

/// An attempt that is too large for the journal is written down without what it said: the delivery ends, or waits,
/// by its verdict all the same.
async fn write_down<W>(write: impl Fn(Settle) -> W, settle: Settle) -> Result<Settled, store::Error>
where
    W: Future<Output = Result<Settled, store::Error>>,
{
    // All that is long in it goes, so this copy is small.
    let short = shortened(&settle);
    match write(settle).await {
        Err(store::Error::TooLarge(bytes)) => {
            warn!(bytes, "the record of the attempt is too large; it is written without its lines and calls");
            let said = format!("a record of {bytes} bytes is too large: its lines and calls were left out");
            let line = LogLine { at_ms: 0, level: LogLevel::Warn, message: said, fields: Vec::new() };
            write(Settle { attempt: Attempt { logs: vec![line], ..short.attempt }, ..short }).await
        }
        written => written,
    }
}

/// The shelf stays: what an attempt wrote there and how it ended are one, and the host bounds it.
fn shortened(settle: &Settle) -> Settle {
    let cut = |text: &String| text.chars().take(limits::SHORT_REASON_CHARS_MAX).collect::<String>();
    let outcome = match &settle.attempt.outcome {
        Outcome::Done { note } => Outcome::Done { note: note.as_ref().map(cut) },
        Outcome::Skipped { note } => Outcome::Skipped { note: note.as_ref().map(cut) },
        Outcome::Failed { kind, blame, reason, permanent, after_ms } => Outcome::Failed {
            kind: *kind,
            blame: *blame,
            reason: cut(reason),
            permanent: *permanent,
            after_ms: *after_ms,
        },
    };
    let verdict = match &settle.verdict {
        Verdict::Dead { reason } => Verdict::Dead { reason: cut(reason) },
        Verdict::Parked { reason } => Verdict::Parked { reason: cut(reason) },
        other => other.clone(),
    };
    Settle {
        delivery: settle.delivery.clone(),
        handler: settle.handler.clone(),
        begun: settle.begun,
        attempt: Attempt {
            number: settle.attempt.number,
            started_at: settle.attempt.started_at,
            took_ms: settle.attempt.took_ms,
            outcome,
            calls: Vec::new(),
            logs: Vec::new(),
            plugin: settle.attempt.plugin,
            memory_bytes: settle.attempt.memory_bytes,
            tape: None,
        },
        verdict,
        shelf: settle.shelf.clone(),
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
        tape: None,
        halt: None,
    }
}

fn judge(lane: &Context, delivery: &OpenDelivery, called: &Called) -> Verdict {
    let now = lane.shared.clock.now();
    if let Some(Halt::Park(reason)) = &called.halt {
        return Verdict::Parked { reason: reason.clone() };
    }
    match &called.outcome {
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
            let counted_from = lane.counted_from(delivery, clock);
            match backoff::next(&lane.retry, ended, counted_from, clock, asked, dice) {
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
        (Verdict::Parked { reason }, _) => warn!(attempt = number, reason, "parked"),
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
            lane.tally.parked();
            Ended::Settled
        }
        Err(error) => Ended::StoreRefused(error.to_string()),
    }
}

/// What concerns the store makes the lane wait; what concerns one delivery sets that one aside.
async fn not_written(lane: &Context, delivery: &OpenDelivery, error: &store::Error) -> Ended {
    match error {
        store::Error::WrongState(..) | store::Error::NoSuchDelivery(_) => {
            debug!(%error, "the operator ended the delivery meanwhile");
            Ended::Settled
        }
        store::Error::Damaged { .. } | store::Error::NoSuchEvent(_) | store::Error::Effect(..) => {
            let reason = format!("its event, or its calls, cannot be read: {error}");
            park(lane, delivery, &reason).await
        }
        error => Ended::StoreRefused(error.to_string()),
    }
}

/// As the handler gets it in this attempt.
pub fn guest_event(id: &DeliveryId, event: StoredEvent, number: u32) -> host::Event {
    let mut attributes = vec![("subscription".to_owned(), id.subscription.to_string())];
    if event.test {
        attributes.push(("test".to_owned(), "true".to_owned()));
    }
    if let Some((_, parent)) = event.headers.iter().find(|(name, _)| name == "traceparent") {
        attributes.push(("traceparent".to_owned(), parent.clone()));
    }
    host::Event {
        id: event.id,
        event_type: event.event_type,
        source: event.source.to_string(),
        delivery_id: id.to_string(),
        received_at: event.received_at,
        signed_at: event.signed_at,
        attempt: number,
        query: event.query,
        headers: event.headers,
        body: event.body,
        attributes,
    }
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::words::attempt::CallRecord;
    use crate::words::digest::Digest;
    use crate::words::event::EventRef;
    use crate::words::shelf::{ShelfTxn, ShelfWrite};

    fn settle(outcome: Outcome, verdict: Verdict) -> Settle {
        let line = |message: &str| LogLine {
            at_ms: 1,
            level: LogLevel::Info,
            message: message.to_owned(),
            fields: Vec::new(),
        };
        let mut shelf = ShelfTxn::default();
        shelf.writes.insert("seen".to_owned(), ShelfWrite::Delete);
        Settle {
            begun: true,
            delivery: DeliveryId {
                event: EventRef { position: 7, ordinal: 0 },
                subscription: Name::new("s").unwrap(),
            },
            handler: Name::new("h").unwrap(),
            attempt: Attempt {
                number: 3,
                started_at: Millis(5),
                took_ms: 6,
                outcome,
                calls: Vec::<CallRecord>::new(),
                logs: vec![line("a"), line("b")],
                plugin: Digest::of(b"x"),
                memory_bytes: 9,
                tape: None,
            },
            verdict,
            shelf,
        }
    }

    /// Writes a settle to a store that takes `lines_max` lines; what it was given, in turn.
    fn written(settle: Settle, lines_max: usize) -> (Result<Settled, store::Error>, Vec<Settle>) {
        let given = RefCell::new(Vec::new());
        let write = |settle: Settle| {
            let lines = settle.attempt.logs.len();
            given.borrow_mut().push(settle);
            let fits = lines <= lines_max;
            std::future::ready(if fits { Ok(Settled::Written) } else { Err(store::Error::TooLarge(lines)) })
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let written = runtime.block_on(write_down(write, settle));
        (written, given.into_inner())
    }

    #[test]
    fn an_attempt_that_is_too_large_is_settled_without_what_it_said() {
        let long = "é".repeat(limits::SHORT_REASON_CHARS_MAX + 1);
        let failed = Outcome::Failed {
            kind: ErrorKind::Trap,
            blame: Blame::Plugin,
            reason: long.clone(),
            permanent: false,
            after_ms: None,
        };
        let again = Verdict::Again { at: Millis(77) };
        for (outcome, verdict) in
            [(failed, again), (Outcome::Done { note: Some(long.clone()) }, Verdict::Done)]
        {
            let (written, given) = written(settle(outcome, verdict.clone()), 1);
            assert_eq!(written.unwrap(), Settled::Written);
            let [whole, short] = &given[..] else { panic!("written {} times", given.len()) };
            assert_eq!((&short.delivery, &short.verdict), (&whole.delivery, &verdict));
            assert_eq!(short.attempt.number, 3, "history counts it as the attempt that it is");
            assert_eq!(
                short.shelf.writes, whole.shelf.writes,
                "it is written with its attempt or not at all"
            );
            assert!(
                short.attempt.logs[0].message.contains("2 bytes is too large"),
                "{:?}",
                short.attempt.logs
            );
            let said = match &short.attempt.outcome {
                Outcome::Done { note } => note.clone().unwrap(),
                Outcome::Failed { reason, .. } => reason.clone(),
                other => panic!("{other:?}"),
            };
            assert_eq!(said.chars().count(), limits::SHORT_REASON_CHARS_MAX);
        }
    }

    #[test]
    fn what_fits_is_written_once_and_whole() {
        let (written, given) = written(settle(Outcome::Skipped { note: None }, Verdict::Skipped), 2);
        assert_eq!((written.unwrap(), given.len()), (Settled::Written, 1));
        assert_eq!(given[0].attempt.logs.len(), 2);
    }

    /// So the shorter record always fits.
    #[test]
    fn a_shelf_alone_is_never_too_large() {
        const { assert!(2 * limits::SHELF_TXN_BYTES_MAX < limits::RECORD_BYTES_MAX) };
    }
}
