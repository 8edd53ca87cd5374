//! Lane: one handler's deliveries at that handler's pace, from lease to settle.
//!
//! Deliveries are carried by tasks on the guests' threads, as many as the handler's concurrency. A carrier that has
//! settled one takes the next itself: under load nobody is woken, and no task is made, for a single delivery. The
//! lane's own task does what is left: it looks into the index, it waits for what is not due yet, and it writes down
//! what became of the breaker.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{debug, error, info, warn};

use super::attempt::{self, Ended};
use super::breaker::{Breaker, Permit};
use super::pace::Pace;
use super::queue::{Queue, is_suspect};
use super::report::Report;
use super::stops::Stops;
use super::{Lane, LaneStat, Shared};
use crate::store::{self, LaneEntry, OpenDelivery, Standing};
use crate::words::event::{DeliveryId, Name};
use crate::words::lane::{LaneChange, LaneState, Pause};
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
    /// One order of the operator at a time.
    ordered: tokio::sync::Mutex<()>,
    in_memory: AtomicUsize,
    running: AtomicUsize,
}

/// What the ledger knows of a lane when it starts.
pub struct Past {
    pub standing: Standing,
    /// The latest changes, newest first.
    pub history: Vec<LaneEntry>,
}

struct State {
    queue: Queue,
    pace: Pace,
    breaker: Breaker,
    paused: Option<Pause>,
    /// What the breaker did and nobody has written down yet. It waits for attempts to end, which wait for the store as
    /// this does: there are never many.
    news: Vec<LaneChange>,
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
    permit: Permit,
    /// One suspect at a time, over all lanes.
    alone_among_suspects: Option<OwnedSemaphorePermit>,
    has_ended: bool,
    _counted: TaskTrackerToken,
}

impl Line {
    pub fn new(lane: Lane, shared: Shared, past: Past) -> Arc<Line> {
        let Past { standing, history } = past;
        let mut breaker = Breaker::new(lane.breaker, lane.concurrency);
        let stood = standing.breaker.map(|entry| entry.change);
        let news = stood.and_then(|change| breaker.go_on(&change, shared.clock.now()));
        let paused = standing.paused.and_then(|entry| paused_since(entry.at, entry.change));
        tell_what_stands(lane.handler.name(), &breaker, paused.as_ref());
        let mut stops = Stops::of(&history);
        news.iter().for_each(|change| stops.changed(change, shared.ledger.clock(Millis::now())));
        let state = State {
            queue: Queue::new(limits::LANE_DELIVERIES_MAX),
            pace: Pace::new(lane.concurrency, lane.rate),
            breaker,
            paused,
            news: news.into_iter().collect(),
            has_stopped: false,
            is_without_room: false,
            look_at: Instant::now(),
            backlog_warned_at: None,
            overdue_warned_at: None,
        };
        Arc::new(Line {
            context: attempt::Context::new(lane, shared.clone(), stops),
            shared,
            state: Mutex::new(state),
            changed: Notify::new(),
            leases: TaskTracker::new(),
            ordered: tokio::sync::Mutex::default(),
            in_memory: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
        })
    }

    pub fn stat(&self) -> LaneStat {
        let (lane, paused) = {
            let state = self.lock();
            (state.breaker.state(), state.paused.clone())
        };
        LaneStat {
            handler: self.name().clone(),
            in_memory: self.in_memory.load(Ordering::Relaxed),
            running: self.running.load(Ordering::Relaxed),
            lane,
            paused,
        }
    }

    /// No attempt starts until `resume`, also after a restart; those that run end as ever. False: it was paused, and
    /// that stands.
    pub async fn pause(&self, reason: Option<String>) -> Result<bool, store::Error> {
        let _one_at_a_time = self.ordered.lock().await;
        if self.lock().paused.is_some() {
            return Ok(false);
        }
        let now = Millis::now();
        let change = LaneChange::Paused { reason };
        self.shared.ledger.lane_changed(self.name(), change.clone(), now).await?;
        warn!(handler = %self.name(), "{change}; deliveries wait for `longshore handlers resume {}`", self.name());
        self.context.changed(&change);
        self.lock().paused = paused_since(now, change);
        Ok(true)
    }

    /// Attempts start again, few at once; an open breaker sends its next probe now. False: it was not paused.
    pub async fn resume(&self, reason: Option<String>) -> Result<bool, store::Error> {
        let _one_at_a_time = self.ordered.lock().await;
        let was_paused = self.lock().paused.is_some();
        if was_paused {
            let change = LaneChange::Resumed { reason };
            self.shared.ledger.lane_changed(self.name(), change.clone(), Millis::now()).await?;
            info!(handler = %self.name(), "{change}");
            self.context.changed(&change);
        }
        let mut state = self.lock();
        if was_paused || state.breaker.is_open() {
            state.breaker.ease_in(self.shared.clock.now());
        }
        state.paused = None;
        drop(state);
        self.changed.notify_one();
        Ok(was_paused)
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
            self.write_down_news().await;
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
        self.write_down_news().await;
    }

    /// Log and history say the same. Where the store refuses, the log alone has it, and says that too.
    async fn write_down_news(&self) {
        let news = std::mem::take(&mut self.lock().news);
        for change in news {
            let change = match change {
                LaneChange::Opened { origin, failures, since, why, probe_at, .. } => {
                    let waiting = self.shared.ledger.waiting(self.name()).unwrap_or_default();
                    LaneChange::Opened { origin, failures, since, why, probe_at, waiting }
                }
                other => other,
            };
            let handler = self.name();
            match &change {
                LaneChange::Opened { .. } => warn!(%handler, "the breaker {change}"),
                _ => info!(%handler, "the breaker {change}"),
            }
            if let Err(error) = self.shared.ledger.lane_changed(handler, change, Millis::now()).await {
                warn!(%handler, %error, "the history has no word of that: the store refuses");
            }
        }
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
        let may_start = !state.has_stopped
            && state.paused.is_none()
            && state.breaker.allows(due)
            && state.pace.allows(state.queue.running(), now);
        if !may_start || !state.queue.is_due(due) || !self.has_room(&mut state) {
            return None;
        }
        let alone = match state.queue.has_suspects() {
            true => Arc::clone(&self.shared.suspects).try_acquire_owned().ok(),
            false => None,
        };
        let delivery = state.queue.lease(due, now, alone.is_some())?;
        state.pace.started(now);
        let permit = state.breaker.start();
        self.show(&state);
        Some(Lease {
            line: Arc::clone(self),
            // Anybody else gives the permit back at once.
            alone_among_suspects: alone.filter(|_| is_suspect(&delivery)),
            delivery,
            permit,
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

    fn end(&self, id: &DeliveryId, permit: Permit, (ended, report): (Ended, Report)) {
        let mut state = self.lock();
        state.queue.release(id);
        let change = state.breaker.ended(permit, report, self.shared.clock.now());
        // More of them may start than the one that its carrier takes.
        let may_be_more = change.is_some() || state.breaker.is_returning();
        if let Some(change) = change {
            self.context.changed(&change);
            state.news.push(change);
        }
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
        if is_for_the_lane || may_be_more {
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
        let allowed = state.breaker.next_at().filter(|_| state.paused.is_none());
        let allowed = allowed.map(|at| now + at.since(self.shared.clock.now()));
        let start = match (due, allowed) {
            (Some(due), Some(allowed)) if state.pace.has_slot(state.queue.running()) => {
                due.max(allowed).max(state.pace.next_at(now))
            }
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
    fn end(mut self, ended: (Ended, Report)) -> Option<Lease> {
        self.has_ended = true;
        self.line.end(&self.delivery.id, self.permit, ended);
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
            self.line.end(&self.delivery.id, self.permit, (Ended::Settled, Report::Nothing));
            self.line.changed.notify_one();
        }
    }
}

fn paused_since(since: Millis, change: LaneChange) -> Option<Pause> {
    match change {
        LaneChange::Paused { reason } => Some(Pause { since, reason }),
        _ => None,
    }
}

/// A start says why nothing starts.
fn tell_what_stands(handler: &Name, breaker: &Breaker, paused: Option<&Pause>) {
    if let Some(Pause { since, reason }) = paused {
        warn!(%handler, %since, reason, "paused by the operator: deliveries wait for `longshore handlers resume {handler}`");
    }
    if let LaneState::Open { origin, since, why, .. } = breaker.state() {
        warn!(%handler, origin, %since, why, "the breaker was open when the daemon ended, and goes on so: a probe is due now");
    }
}

fn is_time(last: &mut Option<Instant>, now: Instant) -> bool {
    let is_time = last.is_none_or(|at| now.duration_since(at) >= WARN_EVERY);
    if is_time {
        *last = Some(now);
    }
    is_time
}
