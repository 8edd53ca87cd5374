//! The sandbox: one attempt in one fresh instance, with an end to its time, its memory and its words.
//!
//! Two clocks end a call. The epoch ends a guest that computes: it never gives its thread back otherwise. The
//! timer ends a guest that waits: it runs no code that an epoch could interrupt. A panic of a host function is
//! caught: it ends that attempt and nothing else.
//!
//! An attempt runs in the task of whoever calls, without a task, a timer or a wake-up of its own: most guests
//! answer within one poll, and what they do not use is not made.

pub(super) mod clock;
mod outcome;
pub(super) mod trace;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use self::clock::{Clock, ClockView, Sleeps};
use self::outcome::{Ended, Full};
use self::trace::{Trace, Waiting};
use super::bindings::{Answer, Fault, Guest};
use super::grant::Grant;
use super::log::{Stdio, Stream};
use super::{Bound, Called, Event, Halt, Manifest, Shelf, ShelfFuture, Wire, engine, http, shelf};
use crate::words::attempt::Outcome;
use crate::words::limits;
use crate::words::shelf::{ShelfRead, ShelfTxn};
use crate::words::time::Millis;

pub(super) async fn run(
    handler: &Bound,
    event: Event,
    shelf: Arc<dyn Shelf>,
    wire: Wire,
    stop: impl Future<Output = ()>,
) -> Called {
    let grant = &handler.grant;
    let trace = Trace::new(grant.handler.clone(), Arc::clone(&grant.mask));
    let mut stop = pin!(stop);
    // Held until the instance is gone: the attempt below is dropped first.
    let _permit = match handler.engine.permit(grant.limits.timeout, stop.as_mut()).await {
        Ok(permit) => permit,
        Err(outcome) => return Called::of(outcome.into(), &trace, Duration::ZERO),
    };
    let (started, setup) = (Instant::now(), grant.setup_digest);
    let finished = {
        let attempt = pin!(attempt(handler, event, shelf, wire, trace.clone()));
        tokio::select! {
            // What has ended has ended, also where it is stopped in the same moment.
            biased;
            finished = caught(attempt) => finished,
            // What it did up to then is in the trace; it is dropped here, and nothing comes after.
            () = stop => outcome::interrupted().into(),
        }
    };
    Called { tape: Some(trace.tape(setup)), ..Called::of(finished, &trace, started.elapsed()) }
}

/// A panic is the host's: a guest's is a trap. What panicked is not polled again.
async fn caught(mut attempt: Pin<&mut impl Future<Output = Finished>>) -> Finished {
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| attempt.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| Poll::Ready(outcome::host_panicked(&*panic).into()))
    })
    .await
}

impl engine::Inner {
    /// Waiting for an instance is not the guest's time, and no longer than the guest's time.
    async fn permit(
        &self,
        patience: Duration,
        stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<SemaphorePermit<'_>, Outcome> {
        if let Ok(permit) = self.instances.try_acquire() {
            return Ok(permit);
        }
        tokio::select! {
            biased;
            permit = timeout(patience, self.instances.acquire()) => {
                permit.ok().and_then(Result::ok).ok_or_else(|| outcome::no_instance(patience))
            }
            () = stop => Err(outcome::interrupted()),
        }
    }
}

/// How an attempt ended, and what it wants written.
struct Finished {
    outcome: Outcome,
    shelf: ShelfTxn,
}

async fn attempt(handler: &Bound, event: Event, shelf: Arc<dyn Shelf>, wire: Wire, trace: Trace) -> Finished {
    let engine = &handler.engine;
    let budget = handler.grant.limits.timeout;
    let _live = engine.ticker.enter();
    let deadline = Instant::now() + budget;
    // What earlier attempts did is read first: nobody but the ledger is to blame for that time.
    trace.waiting(Waiting::Ledger);
    let state = State::new(Arc::clone(&handler.grant), shelf, wire, deadline, trace.clone());
    let state = match timeout_at(deadline, state).await {
        Ok(Ok(state)) => state,
        Ok(Err(halt)) => {
            let outcome = outcome::halted(halt.clone());
            trace.stop_at_call(halt);
            return outcome.into();
        }
        Err(_) => return outcome::of(Ended::TimedOut, &handler.grant, &trace, None).into(),
    };
    trace.waiting(Waiting::Guest);
    let mut store = new_store(&engine.wasm, state);
    let guest = &handler.plugin.inner.guest;
    let ended = match timeout_at(deadline, guest.handle(&mut store, event, budget)).await {
        Ok(Ok(answer)) => Ended::Answered(answer),
        Ok(Err(fault)) => Ended::Failed(fault),
        Err(_) => Ended::TimedOut,
    };
    // Whatever happened, the guest does not run again.
    let state = store.into_data();
    let outcome = match trace.halt() {
        Some(halt) => outcome::halted(halt),
        None => outcome::of(ended, &handler.grant, &trace, state.budget.hit),
    };
    let is_settled = matches!(outcome, Outcome::Done { .. } | Outcome::Skipped { .. });
    if is_settled {
        state.http.tell_orphans();
    }
    Finished { outcome, shelf: if is_settled { state.shelf.into_txn() } else { ShelfTxn::default() } }
}

/// Asks a plugin what it is, with no capability and a second to answer. Not on a runtime: it makes its own.
pub(super) fn describe(engine: &engine::Inner, guest: &Guest) -> Result<Manifest, String> {
    let grant = Arc::new(Grant::nothing(&engine.network));
    let trace = Trace::new(grant.handler.clone(), Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| format!("no runtime to describe it on: {error}"))?;
    let described = runtime.block_on(async {
        let _live = engine.ticker.enter();
        let deadline = Instant::now() + grant.limits.timeout;
        let wire = Wire::dry(Vec::new());
        let state = State::new(Arc::clone(&grant), Arc::new(NoShelf), wire, deadline, trace.clone()).await;
        let Ok(state) = state else { unreachable!("nothing is read that could fail") };
        let mut store = new_store(&engine.wasm, state);
        let described = timeout_at(deadline, guest.describe(&mut store)).await;
        (described, store.into_data().budget.hit)
    });
    let (ended, full) = match described {
        (Ok(Ok(manifest)), _) => return Ok(manifest),
        (Ok(Err(fault)), hit) => (Ended::Failed(fault), hit),
        (Err(_), hit) => (Ended::TimedOut, hit),
    };
    if let (Ended::Failed(_), Some(full)) = (&ended, full) {
        let said = full.said(grant.limits.memory_bytes);
        return Err(format!("its describe() failed: {said}, and gets no more before it is configured"));
    }
    match outcome::of(ended, &grant, &trace, full) {
        Outcome::Failed { reason, .. } => Err(format!("its describe() failed: {reason}")),
        Outcome::Done { .. } | Outcome::Skipped { .. } => Err("its describe() failed".into()),
    }
}

impl Called {
    fn of(finished: Finished, trace: &Trace, took: Duration) -> Called {
        let (calls, logs) = trace.finish();
        let Finished { outcome, shelf } = finished;
        let (memory_bytes, halt) = (trace.memory_bytes(), trace.halt());
        Called { outcome, calls, logs, took, memory_bytes, shelf, tape: None, halt }
    }
}

impl From<Outcome> for Finished {
    fn from(outcome: Outcome) -> Finished {
        Finished { outcome, shelf: ShelfTxn::default() }
    }
}

// === the store ===

/// What one instance can reach, and no more.
pub(super) struct State {
    /// Made when the guest first asks for something of WASI: a handler that only answers never does.
    wasi: Option<WasiCtx>,
    table: ResourceTable,
    budget: Budget,
    deadline: Instant,
    clock: Clock,
    pub(super) grant: Arc<Grant>,
    pub(super) shelf: shelf::Draft,
    pub(super) http: http::Session,
    pub(super) trace: Trace,
}

impl State {
    async fn new(
        grant: Arc<Grant>,
        shelf: Arc<dyn Shelf>,
        wire: Wire,
        deadline: Instant,
        trace: Trace,
    ) -> Result<State, Halt> {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits::GUEST_HANDLES_MAX);
        let sleeps = match &wire {
            Wire::Live(_) => Sleeps::Real,
            Wire::Simulated(..) => Sleeps::Skipped { up_to: grant.limits.timeout },
        };
        let clock = Clock::new(Millis(0), sleeps);
        let http =
            http::Session::open(Arc::clone(&grant), wire, deadline, clock.clone(), trace.clone()).await?;
        Ok(State {
            wasi: None,
            table,
            budget: Budget::new(&grant, trace.clone()),
            deadline,
            shelf: shelf::Draft::new(shelf, trace.clone()),
            http,
            clock,
            grant,
            trace,
        })
    }

    /// What `wasi:clocks` works on.
    pub(super) fn clocks(&mut self) -> ClockView<'_> {
        ClockView { clock: &self.clock, table: &mut self.table }
    }

    /// The guest asks one of our capabilities: it lives on with what memory it has. Not so where it prints, which
    /// is how an allocator says its last.
    pub(super) fn asked(&mut self) -> &mut State {
        self.budget.hit = None;
        self
    }
}

fn new_store(wasm: &wasmtime::Engine, state: State) -> Store<State> {
    let mut store = Store::new(wasm, state);
    store.limiter(|state| &mut state.budget);
    store.set_hostcall_fuel(limits::HOSTCALL_BYTES_MAX);
    store.set_max_component_handles(limits::GUEST_HANDLES_MAX);
    store.epoch_deadline_callback(|store| {
        if Instant::now() >= store.data().deadline {
            return Ok(UpdateDeadline::Interrupt);
        }
        // Looping guests share their threads with whoever else is ready to run.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store.set_epoch_deadline(1);
    store
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| wasi(&self.trace));
        WasiCtxView { ctx, table: &mut self.table }
    }
}

/// No preopen, no argument, no variable, stdin closed, sockets that refuse: the builder's defaults. Its clocks are not
/// linked: see `clock`. Its random numbers follow from the delivery's seed.
fn wasi(trace: &Trace) -> WasiCtx {
    let seed = trace.draw_seed();
    let numbers = |purpose| ChaCha20Rng::from_seed(seed.branch(purpose));
    WasiCtx::builder()
        .secure_random(numbers("random"))
        .insecure_random(numbers("insecure"))
        .insecure_random_seed(numbers("insecure-seed").random())
        .stdout(Stdio { trace: trace.clone(), stream: Stream::Stdout })
        .stderr(Stdio { trace: trace.clone(), stream: Stream::Stderr })
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(limits::GUEST_RANDOM_BYTES_MAX)
        .build()
}

/// Sums over all memories and all tables: wasmtime's own limits are for each.
struct Budget {
    limit: usize,
    used: usize,
    elements: usize,
    /// Growth was refused, and nothing else has happened since. The guest's allocator makes an `unreachable` of
    /// it, which says nothing.
    hit: Option<Full>,
    trace: Trace,
}

impl Budget {
    fn new(grant: &Grant, trace: Trace) -> Budget {
        let limit = usize::try_from(grant.limits.memory_bytes).unwrap_or(usize::MAX);
        Budget { limit, used: 0, elements: 0, hit: None, trace }
    }
}

impl ResourceLimiter for Budget {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            self.hit = Some(Full::Memory);
            return Ok(false);
        }
        self.used = used;
        self.hit = None;
        self.trace.uses_memory(used as u64);
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let elements = self.elements.saturating_add(desired.saturating_sub(current));
        if elements > limits::GUEST_TABLE_ELEMENTS_MAX {
            self.hit = Some(Full::Tables);
            return Ok(false);
        }
        self.elements = elements;
        Ok(true)
    }

    fn instances(&self) -> usize {
        2 * limits::GUEST_CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        2 * limits::GUEST_TABLES_MAX
    }

    fn memories(&self) -> usize {
        2 * limits::GUEST_MEMORIES_MAX
    }
}

/// The shelf of a plugin that is only described.
struct NoShelf;

impl Shelf for NoShelf {
    fn get<'a>(&'a self, _: &'a str) -> ShelfFuture<'a, ShelfRead> {
        none()
    }

    fn list<'a>(&'a self, _: &'a str, _: Option<&'a str>, _: u32) -> ShelfFuture<'a, Vec<String>> {
        none()
    }

    fn bytes(&self) -> ShelfFuture<'_, u64> {
        none()
    }
}

fn none<'a, T: Send + 'a>() -> ShelfFuture<'a, T> {
    Box::pin(std::future::ready(Err("describe() has no state".into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::grant::tests::grant_with;
    use crate::words::event::Name;

    #[test]
    fn memory_and_tables_are_summed() {
        let trace = Trace::new(Name::new("h").unwrap(), Arc::default());
        let mut budget = Budget { limit: 10, ..Budget::new(&grant_with(&[], &[]), trace.clone()) };
        assert!(budget.memory_growing(0, 6, None).unwrap());
        assert!(budget.memory_growing(0, 4, None).unwrap());
        assert_eq!(budget.hit, None);
        assert!(!budget.memory_growing(4, 5, None).unwrap());
        assert_eq!((budget.hit, budget.used), (Some(Full::Memory), 10));
        assert_eq!(trace.memory_bytes(), 10);
        assert!(budget.memory_growing(4, 4, None).unwrap());
        assert_eq!(budget.hit, None, "it grew after all");

        let half = limits::GUEST_TABLE_ELEMENTS_MAX / 2;
        assert!(budget.table_growing(0, half, None).unwrap());
        assert!(budget.table_growing(0, half, None).unwrap());
        assert!(!budget.table_growing(half, half + 1, None).unwrap());
        assert_eq!(budget.hit, Some(Full::Tables));
    }
}
