//! Lane: one handler's deliveries at that handler's pace, from lease to settle.
//!
//! Deliveries are carried by tasks on the guests' threads, as many as the handler's concurrency. A carrier that has
//! settled one takes the next itself: under load nobody is woken, and no task is made, for a single delivery. The
//! lane's own task does what is left: it looks into the index, and it waits for what is not due yet.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{debug, error, info, warn};

use super::attempt::{self, Ended};
use super::pace::Pace;
use super::queue::{Queue, is_suspect};
use super::{Lane, Shared};
use crate::store::OpenDelivery;
use crate::words::event::{DeliveryId, Name};
use crate::words::limits;
use crate::words::time::Millis;

/// A lane looks into the index this often even when nothing tells it to: what was announced while its queue
/// was full is found here.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a lane waits when the store refuses to begin or settle.
const STORE_REFUSED_WAIT: Duration = Duration::from_secs(1);
/// What a full queue takes from the index in one look.
const FULL_LOOK_MAX: usize = 64;
/// A long backlog, or an attempt that does not end, is warned about at most this often.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// Whatever the clocks say to each other, a lane does not spin.
const WAKE_STEP: Duration = Duration::from_millis(1);

/// What the lane's task, its carriers and whoever brings deliveries share.
pub struct Line {
    context: attempt::Context,
    shared: Shared,
    state: Mutex<State>,
    /// There is something to do that a carrier does not do itself.
    changed: Notify,
    leases: TaskTracker,
    in_memory: AtomicUsize,
    running: AtomicUsize,
}

struct State {
    queue: Queue,
    pace: Pace,
    has_stopped: bool,
    /// The store has no room for an attempt; told once.
    is_without_room: bool,
    look_at: Instant,
    backlog_warned_at: Option<Instant>,
    overdue_warned_at: Option<Instant>,
}

/// A delivery that a carrier has, until it says how it ended.
struct Lease {
    line: Arc<Line>,
    delivery: OpenDelivery,
    /// One suspect at a time, over all lanes.
    alone_among_suspects: Option<OwnedSemaphorePermit>,
    has_ended: bool,
    _counted: TaskTrackerToken,
}

impl Line {
    pub fn new(lane: Lane, shared: Shared) -> Arc<Line> {
        let state = State {
            queue: Queue::new(limits::LANE_DELIVERIES_MAX),
            pace: Pace::new(lane.concurrency, lane.rate),
            has_stopped: false,
            is_without_room: false,
            look_at: Instant::now(),
            backlog_warned_at: None,
            overdue_warned_at: None,
        };
        Arc::new(Line {
            context: attempt::Context::new(lane, shared.clone()),
            shared,
            state: Mutex::new(state),
            changed: Notify::new(),
            leases: TaskTracker::new(),
            in_memory: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
        })
    }

    /// Deliveries in memory, and those of them that run.
    pub fn stat(&self) -> (usize, usize) {
        (self.in_memory.load(Ordering::Relaxed), self.running.load(Ordering::Relaxed))
    }

    /// Takes what was announced; what is due starts at once.
    pub fn arrive(self: &Arc<Self>, deliveries: impl Iterator<Item = OpenDelivery>) {
        // The ledger tells of what may run now: accepted, retried by the operator, or resumed.
        let now = self.shared.clock.now();
        let announced = deliveries.map(|found| OpenDelivery { due: found.due.min(now), ..found });
        let mut state = self.lock();
        announced.for_each(|delivery| state.queue.put(delivery));
        self.show(&state);
        drop(state);
        if !self.start_what_is_due() {
            self.changed.notify_one();
        }
    }

    /// Until the stop signal, then until the last attempt has ended.
    pub async fn run(self: Arc<Self>) {
        let stop = self.shared.stop.clone();
        while !stop.is_cancelled() {
            self.look_into_the_index().await;
            self.start_what_is_due();
            self.warn_of_what_does_not_end();
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(self.wake_at()) => {}
            }
        }
        self.stop();
        self.leases.close();
        self.leases.wait().await;
    }

    /// No lease begins after this.
    pub fn stop(&self) {
        self.lock().has_stopped = true;
    }

    /// At start, when half the queue is free and more is known to wait, and once a second. A queue that is full
    /// asks only for what is due now: it may wait behind deliveries that are not.
    async fn look_into_the_index(&self) {
        let now = Instant::now();
        let (room, known) = {
            let mut state = self.lock();
            if now < state.look_at && !state.queue.wants_refill() {
                return;
            }
            state.look_at = now + LOOK_EVERY;
            (state.queue.room(), state.queue.known())
        };
        let (until, limit) = match room {
            0 => (self.shared.clock.latest(Millis::now()), FULL_LOOK_MAX),
            room => (Millis(u64::MAX), room),
        };
        match self.shared.ledger.due(self.name(), until, limit, &known).await {
            Ok(found) => self.found(found, limit),
            Err(error) => self.rest(&error.to_string()),
        }
    }

    /// What ended while the index was read is listed there as open all the same: `begin` refuses it.
    fn found(&self, found: Vec<OpenDelivery>, limit: usize) {
        let more_remain = found.len() == limit;
        let due = |delivery: &OpenDelivery| self.shared.clock.due(delivery, Millis::now());
        let found = found.into_iter().map(|found| OpenDelivery { due: due(&found), ..found });
        let mut state = self.lock();
        found.for_each(|delivery| state.queue.put(delivery));
        state.queue.refilled(more_remain);
        self.show(&state);
        let now = Instant::now();
        if more_remain && is_time(&mut state.backlog_warned_at, now) {
            let (handler, in_memory) = (self.name(), state.queue.len());
            warn!(%handler, in_memory, "a backlog: more deliveries wait than a lane holds in memory; see `longshore deliveries list --status open --handler {handler}`");
        }
    }

    /// The store takes or gives nothing: wait, and say so once for each wait.
    fn rest(&self, why: &str) {
        if self.lock().rest() {
            error!(handler = %self.name(), "the store refuses: {why}; deliveries wait");
        }
    }

    /// A carrier for each that is due, as many as are free. False where nothing started.
    fn start_what_is_due(self: &Arc<Self>) -> bool {
        let mut has_started = false;
        while let Some(lease) = self.lease() {
            has_started = true;
            self.shared.guests.spawn(carry(lease));
        }
        has_started
    }

    fn lease(self: &Arc<Self>) -> Option<Lease> {
        let mut state = self.lock();
        let (now, due) = (Instant::now(), self.shared.clock.now());
        let may_start = !state.has_stopped && state.pace.allows(state.queue.running(), now);
        if !may_start || !state.queue.is_due(due) || !self.has_room(&mut state) {
            return None;
        }
        let alone = match state.queue.has_suspects() {
            true => Arc::clone(&self.shared.suspects).try_acquire_owned().ok(),
            false => None,
        };
        let delivery = state.queue.lease(due, now, alone.is_some())?;
        state.pace.started(now);
        self.show(&state);
        Some(Lease {
            line: Arc::clone(self),
            // Anybody else gives the permit back at once.
            alone_among_suspects: alone.filter(|_| is_suspect(&delivery)),
            delivery,
            has_ended: false,
            _counted: self.leases.token(),
        })
    }

    /// No attempt begins whose end could not be written down. Nothing has failed, so nothing is counted.
    fn has_room(&self, state: &mut State) -> bool {
        let (handler, was_without) = (self.name(), state.is_without_room);
        let refused = self.shared.ledger.may_begin().err();
        state.is_without_room = refused.is_some();
        match refused {
            None if was_without => info!(%handler, "attempts begin again"),
            None => {}
            Some(why) => {
                state.rest();
                if !was_without {
                    warn!(%handler, "no attempt begins: {why}; deliveries wait, and none is lost");
                }
            }
        }
        !state.is_without_room
    }

    fn end(&self, id: &DeliveryId, ended: Ended) {
        let mut state = self.lock();
        state.queue.release(id);
        let is_for_the_lane = match ended {
            Ended::Settled => {
                debug!(delivery = %id, "the lease has ended");
                state.queue.wants_refill()
            }
            Ended::Again(delivery) => {
                state.queue.put(delivery);
                true
            }
            Ended::StoreRefused(why) => {
                if state.rest() {
                    error!(handler = %self.name(), "the store refuses: {why}; deliveries wait");
                }
                true
            }
        };
        self.show(&state);
        drop(state);
        if is_for_the_lane {
            self.changed.notify_one();
        }
    }

    fn show(&self, state: &State) {
        self.in_memory.store(state.queue.len(), Ordering::Relaxed);
        self.running.store(state.queue.running(), Ordering::Relaxed);
    }

    /// A host function that never returns keeps its thread, and no clock of ours ends it. It is a bug; without a
    /// word nobody would look for it.
    fn warn_of_what_does_not_end(&self) {
        let runs = limits::SHELF_CONFLICT_RUNS;
        let at_most = (2 * self.context.handler.timeout() + limits::CALL_OVERRUN_MAX) * runs;
        let now = Instant::now();
        let mut state = self.lock();
        let Some((id, since)) = state.queue.oldest_running() else { return };
        let (id, under_way) = (id.clone(), now.saturating_duration_since(since));
        if under_way > at_most && is_time(&mut state.overdue_warned_at, now) {
            let for_s = under_way.as_secs();
            error!(delivery = %id, for_s, "an attempt does not end, though its time is over: the disk is stuck, or the host, which is a bug; please report it");
        }
    }

    /// The next moment at which there is something to do without being told.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let state = self.lock();
        // Where a suspect waits for one of another lane, the look that comes each second is soon enough.
        let with_suspects = self.shared.suspects.available_permits() > 0;
        let due = state.queue.next_due(with_suspects).map(|due| now + due.since(self.shared.clock.now()));
        let start = match due {
            Some(due) if state.pace.has_slot(state.queue.running()) => due.max(state.pace.next_at(now)),
            _ => state.look_at,
        };
        start.min(state.look_at).max(now + WAKE_STEP)
    }

    fn name(&self) -> &Name {
        self.context.handler.name()
    }

    /// Nothing under the lock leaves it half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// False where it rests already.
    fn rest(&mut self) -> bool {
        let until = Instant::now() + STORE_REFUSED_WAIT;
        self.look_at = self.look_at.max(until);
        self.pace.rest(until)
    }
}

/// One delivery after the other, for as long as one is due.
async fn carry(first: Lease) {
    let mut next = Some(first);
    while let Some(lease) = next {
        let ended = attempt::carry(&lease.line.context, &lease.delivery).await;
        next = lease.end(ended);
    }
}

impl Lease {
    /// The next delivery for the same carrier.
    fn end(mut self, ended: Ended) -> Option<Lease> {
        self.has_ended = true;
        self.line.end(&self.delivery.id, ended);
        // Its permit goes first: the next one may be a suspect too.
        self.alone_among_suspects = None;
        let next = self.line.lease();
        if next.is_none() {
            self.line.changed.notify_one();
        }
        next
    }
}

impl Drop for Lease {
    /// Its attempt panicked. The index gives it back, and the next time it is begun in writing.
    fn drop(&mut self) {
        if !self.has_ended {
            self.line.context.distrust();
            error!(delivery = %self.delivery.id, "an attempt ended badly; please report this");
            self.line.end(&self.delivery.id, Ended::Settled);
            self.line.changed.notify_one();
        }
    }
}

fn is_time(last: &mut Option<Instant>, now: Instant) -> bool {
    let is_time = last.is_none_or(|at| now.duration_since(at) >= WARN_EVERY);
    if is_time {
        *last = Some(now);
    }
    is_time
}
