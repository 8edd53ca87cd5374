//! Lane: one handler's deliveries at that handler's pace, from lease to settle.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{self, JoinSet};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::attempt::{self, Ended};
use super::queue::{Queue, is_suspect};
use super::{Gauge, Lane, Shared};
use crate::store::OpenDelivery;
use crate::words::event::DeliveryId;
use crate::words::limits;
use crate::words::time::Millis;

/// A lane looks into the index this often even when nothing tells it to: what was announced while its door
/// was full is found here.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a lane waits when the store refuses to begin or settle.
const STORE_REFUSED_WAIT: Duration = Duration::from_secs(1);
/// What a full queue takes from the index in one look.
const FULL_LOOK_MAX: usize = 64;
/// A long backlog is warned about at most this often.
const BACKLOG_WARN_EVERY: Duration = Duration::from_secs(60);

struct Running {
    lane: Arc<attempt::Context>,
    shared: Shared,
    gauge: Arc<Gauge>,
    queue: Queue,
    attempts: JoinSet<Ended>,
    leases: HashMap<task::Id, DeliveryId>,
    pace: Pace,
    look_at: Instant,
    warned_at: Option<Instant>,
}

/// Runs until the stop signal, then until its last attempt has ended.
pub async fn run(lane: Lane, shared: Shared, gauge: Arc<Gauge>, mut arrivals: mpsc::Receiver<OpenDelivery>) {
    let stop = shared.stop.clone();
    let mut running = Running {
        pace: Pace::new(lane.concurrency, lane.rate),
        lane: Arc::new(attempt::Context::new(lane, shared.clone())),
        shared,
        gauge,
        queue: Queue::new(limits::LANE_DELIVERIES_MAX),
        attempts: JoinSet::new(),
        leases: HashMap::new(),
        look_at: Instant::now(),
        warned_at: None,
    };
    while !stop.is_cancelled() {
        running.look_into_the_index().await;
        running.start_what_is_due();
        let wake = running.wake_at();
        tokio::select! {
            () = stop.cancelled() => {}
            Some(delivery) = arrivals.recv() => running.arrive(delivery, &mut arrivals),
            Some(joined) = running.attempts.join_next_with_id() => running.end(joined),
            () = tokio::time::sleep_until(wake) => {}
        }
    }
    while let Some(joined) = running.attempts.join_next_with_id().await {
        running.end(joined);
    }
}

impl Running {
    fn arrive(&mut self, first: OpenDelivery, arrivals: &mut mpsc::Receiver<OpenDelivery>) {
        self.announced(first);
        while let Ok(delivery) = arrivals.try_recv() {
            self.announced(delivery);
        }
    }

    /// The ledger tells of what may run now: accepted, retried by the operator, or resumed.
    fn announced(&mut self, delivery: OpenDelivery) {
        let due = delivery.due.min(self.shared.clock.now());
        self.queue.put(OpenDelivery { due, ..delivery });
    }

    fn found(&mut self, delivery: OpenDelivery) {
        let due = self.shared.clock.due(&delivery, Millis::now());
        self.queue.put(OpenDelivery { due, ..delivery });
    }

    /// At start, when half the queue is free and more is known to wait, and once a second. A queue that is full
    /// asks only for what is due now: it may wait behind deliveries that are not.
    async fn look_into_the_index(&mut self) {
        let now = Instant::now();
        if now < self.look_at && !self.queue.wants_refill() {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        let handler = self.lane.handler.name().clone();
        let (until, limit) = match self.queue.room() {
            0 => (self.shared.clock.latest(Millis::now()), FULL_LOOK_MAX),
            room => (Millis(u64::MAX), room),
        };
        match self.shared.ledger.due(&handler, until, limit, &self.queue.known()).await {
            Ok(found) => {
                let more_remain = found.len() == limit;
                found.into_iter().for_each(|delivery| self.found(delivery));
                self.queue.refilled(more_remain);
                if more_remain {
                    self.warn_of_the_backlog();
                }
            }
            Err(error) => self.rest(&error.to_string()),
        }
    }

    /// The store takes or gives nothing: wait, and say so once for each wait.
    fn rest(&mut self, why: &str) {
        let now = Instant::now();
        if self.pace.rest(now + STORE_REFUSED_WAIT) {
            error!(handler = %self.lane.handler.name(), "the store refuses: {why}; deliveries wait");
        }
        self.look_at = self.look_at.max(now + STORE_REFUSED_WAIT);
    }

    fn warn_of_the_backlog(&mut self) {
        let now = Instant::now();
        if self.warned_at.is_none_or(|at| now.duration_since(at) >= BACKLOG_WARN_EVERY) {
            self.warned_at = Some(now);
            let handler = self.lane.handler.name();
            warn!(%handler, in_memory = self.queue.len(), "a backlog: more deliveries wait than a lane holds in memory; see `longshore deliveries list --status open --handler {handler}`");
        }
    }

    fn start_what_is_due(&mut self) {
        while self.pace.allows(self.queue.running(), Instant::now()) {
            let permit = Arc::clone(&self.shared.suspects).try_acquire_owned().ok();
            let Some(delivery) = self.queue.lease(self.shared.clock.now(), permit.is_some()) else { break };
            // Anybody else gives the permit back at once.
            let permit = permit.filter(|_| is_suspect(&delivery));
            self.pace.started(Instant::now());
            let (lane, id) = (Arc::clone(&self.lane), delivery.id.clone());
            let carried = async move {
                let _alone_among_suspects = permit;
                attempt::carry(lane, delivery).await
            };
            let task = self.attempts.spawn_on(carried, &self.shared.guests);
            self.leases.insert(task.id(), id);
        }
        self.gauge.in_memory.store(self.queue.len(), Ordering::Relaxed);
        self.gauge.running.store(self.queue.running(), Ordering::Relaxed);
    }

    fn end(&mut self, joined: Result<(task::Id, Ended), task::JoinError>) {
        let task = joined.as_ref().map_or_else(task::JoinError::id, |(task, _)| *task);
        let id = self.leases.remove(&task).expect("every attempt has a lease");
        self.queue.release(&id);
        match joined.map(|(_, ended)| ended) {
            Ok(Ended::Settled) => debug!(delivery = %id, "the lease has ended"),
            Ok(Ended::Again(delivery)) => self.queue.put(delivery),
            Ok(Ended::StoreRefused(why)) => self.rest(&why),
            // The ledger knows it as begun without an end, and the index gives it back as such.
            Err(error) => error!(delivery = %id, %error, "an attempt ended badly; please report this"),
        }
    }

    /// The next moment at which there is something to do without being told.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        // Where a suspect waits for one of another lane, the look that comes each second is soon enough.
        let with_suspects = self.shared.suspects.available_permits() > 0;
        let due = self.queue.next_due(with_suspects).map(|due| now + due.since(self.shared.clock.now()));
        let start = match due {
            Some(due) if self.pace.has_slot(self.queue.running()) => due.max(self.pace.next_at(now)),
            _ => self.look_at,
        };
        start.min(self.look_at).max(now + WAKE_STEP)
    }
}

/// Whatever the clocks say to each other, a lane does not spin.
const WAKE_STEP: Duration = Duration::from_millis(1);

/// Concurrency and rate of one lane.
struct Pace {
    concurrency: usize,
    interval: Duration,
    next: Instant,
}

impl Pace {
    fn new(concurrency: usize, rate: Option<f64>) -> Pace {
        let interval = rate.filter(|r| *r > 0.0).map_or(Duration::ZERO, |r| Duration::from_secs_f64(1.0 / r));
        Pace { concurrency, interval, next: Instant::now() }
    }

    fn has_slot(&self, running: usize) -> bool {
        running < self.concurrency
    }

    fn allows(&self, running: usize, now: Instant) -> bool {
        self.has_slot(running) && now >= self.next
    }

    fn started(&mut self, now: Instant) {
        self.next = self.next.max(now) + self.interval;
    }

    fn next_at(&self, now: Instant) -> Instant {
        self.next.max(now)
    }

    /// False where it rests already.
    fn rest(&mut self, until: Instant) -> bool {
        let is_news = self.next <= Instant::now();
        self.next = self.next.max(until);
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_never_exceeds_concurrency_or_rate() {
        let mut pace = Pace::new(2, Some(10.0));
        let now = Instant::now();
        assert!(pace.allows(0, now));
        assert!(pace.allows(1, now));
        assert!(!pace.allows(2, now), "two run already");
        pace.started(now);
        assert!(!pace.allows(0, now + Duration::from_millis(99)));
        assert!(pace.allows(0, now + Duration::from_millis(100)));
    }

    #[test]
    fn an_idle_lane_saves_up_no_burst() {
        let mut pace = Pace::new(8, Some(1.0));
        let later = Instant::now() + Duration::from_secs(60);
        let mut started = 0;
        while pace.allows(started, later) {
            pace.started(later);
            started += 1;
        }
        assert_eq!(started, 1);
    }
}
