//! Dispatch: lease, call, settle. A lane for each handler carries its deliveries until each has ended.
//!
//! A service that is down stops the lanes that call it (`breaker`), and an operator can stop any (`lane`).
//!
//! One lane, one pace: a handler's concurrency and rate are its own, so that a slow one starves nobody. The
//! lanes hold leases in memory only; a lease ends with its call or with the process. What is owed is in the
//! ledger, which a lane reads when it starts and whenever it has room.
//!
//! What is not here: what a call does (`host`), when to try again (`backoff`), what is kept (`store`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::backoff;
use crate::host;
use crate::metrics::Metrics;
use crate::store::{self, Ledger, OpenDelivery, Refused};
use crate::words::event::Name;
use crate::words::lane::{LaneState, Pause};
use crate::words::limits;
use crate::words::time::Millis;

mod attempt;
mod breaker;
mod clock;
mod effects;
mod lane;
mod pace;
mod queue;
mod report;
mod stops;
mod tally;

pub use self::attempt::guest_event;
pub use self::breaker::Policy as Breaker;
use self::lane::{Line, Past};

use clock::Steady;

/// What one lane needs: its handler and its own pace.
pub struct Lane {
    pub handler: Arc<host::Handler>,
    pub concurrency: usize,
    /// Attempts per second; None: no limit.
    pub rate: Option<f64>,
    pub retry: backoff::Policy,
    /// None: no breaker.
    pub breaker: Option<Breaker>,
}

/// A lane as `handlers list` and the metrics show it.
#[derive(Clone, Debug, Serialize)]
pub struct LaneStat {
    pub handler: Name,
    pub in_memory: usize,
    pub running: usize,
    pub lane: LaneState,
    pub paused: Option<Pause>,
}

/// What every lane shares.
#[derive(Clone)]
struct Shared {
    ledger: Ledger,
    metrics: Metrics,
    /// By which deliveries are due.
    clock: Steady,
    /// Where guests run: threads of their own, so that a looping plugin cannot delay an answer.
    guests: tokio::runtime::Handle,
    /// No new attempts.
    stop: CancellationToken,
    /// Attempts that still run are given up.
    abort: CancellationToken,
    /// Deliveries whose last attempt ended with the process run one at a time, over all lanes: if one of them
    /// kills the daemon, no other suspect is counted with it.
    suspects: Arc<Semaphore>,
}

pub struct Dispatch {
    shared: Shared,
    lines: BTreeMap<Name, Arc<Line>>,
    broken: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Dispatch {
    /// Starts the lanes as the last process left them. Deliveries of no lane are `held` before this is called.
    ///
    /// # Errors
    /// Where the ledger cannot say how they stand.
    pub async fn start(
        lanes: Vec<Lane>,
        ledger: Ledger,
        metrics: Metrics,
        guests: tokio::runtime::Handle,
    ) -> Result<Dispatch, store::Error> {
        let announcements = ledger.announcements();
        let shared = Shared {
            ledger,
            metrics,
            clock: Steady::start(Millis::now()),
            guests,
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            suspects: Arc::new(Semaphore::new(1)),
        };
        let broken = CancellationToken::new();
        let mut lines = BTreeMap::new();
        for lane in lanes {
            let name = lane.handler.name().clone();
            let past = past(&shared.ledger, &name).await?;
            lines.insert(name, Line::new(lane, shared.clone(), past));
        }
        let running = lines.values().map(|line| watched(Arc::clone(line).run(), broken.clone()));
        let mut tasks: Vec<JoinHandle<()>> = running.map(tokio::spawn).collect();
        tasks.push(tokio::spawn(hand_out(announcements, lines.clone(), shared.stop.clone())));
        tasks.push(tokio::spawn(end_calls_of_a_failed_store(shared.clone())));
        Ok(Dispatch { shared, lines, broken, tasks: Mutex::new(tasks) })
    }

    pub fn stat(&self) -> Vec<LaneStat> {
        self.lines.values().map(|line| line.stat()).collect()
    }

    /// Durable when it returns: no attempt of this handler starts, and those that run end as ever. False: it was
    /// paused, and that pause stands. None: it has no lane.
    pub async fn pause(&self, handler: &Name, reason: Option<String>) -> Option<Result<bool, store::Error>> {
        Some(self.lines.get(handler)?.pause(reason).await)
    }

    /// Ends a pause, and has an open breaker look now. False: it was not paused. None: it has no lane.
    pub async fn resume(&self, handler: &Name, reason: Option<String>) -> Option<Result<bool, store::Error>> {
        Some(self.lines.get(handler)?.resume(reason).await)
    }

    /// Returns when a lane has panicked: its handler's deliveries wait for the next start.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// No new attempts; those running get `deadline` to end. What has not ended by then is settled as
    /// interrupted and due again at once.
    pub async fn drain(&self, deadline: Duration) {
        self.lines.values().for_each(|line| line.stop());
        self.shared.stop.cancel();
        let mut tasks = self.tasks.lock().await;
        let mut all_ended = std::pin::pin!(async {
            for task in tasks.iter_mut() {
                if let Err(error) = task.await {
                    warn!(%error, "a lane ended badly");
                }
            }
        });
        if tokio::time::timeout(deadline, &mut all_ended).await.is_err() {
            self.shared.abort.cancel();
            // Settling needs the store only; a store that is stuck is not waited for again.
            let _ = tokio::time::timeout(SETTLE_AT_STOP, &mut all_ended).await;
        }
    }
}

async fn past(ledger: &Ledger, handler: &Name) -> Result<Past, store::Error> {
    // A stop is two changes, or three.
    let history = ledger.lane_history(handler, None, 3 * limits::LANE_STOPS_MAX).await?.rows;
    Ok(Past { standing: ledger.lane_standing(handler).await?, history })
}

/// How soon a failed store ends the calls that are under way.
const STORE_LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long interrupted attempts may take to be written down when the drain is over.
const SETTLE_AT_STOP: Duration = Duration::from_secs(3);

/// After a failed sync nothing can be written down any more, so nothing may act on the world either.
async fn end_calls_of_a_failed_store(shared: Shared) {
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(STORE_LOOK_EVERY) => {}
        }
        if let Some(Refused::Failed(why)) = shared.ledger.refusing() {
            // The store has told the operator already, and what to do.
            warn!(why, "the store failed: attempts that run are given up, and none begins before a restart");
            shared.abort.cancel();
            return;
        }
    }
}

/// Runs a lane and tells of its panic, which is a bug of ours.
async fn watched(lane: impl Future<Output = ()>, broken: CancellationToken) {
    let told = broken.drop_guard();
    lane.await;
    told.disarm();
}

/// Carries the ledger's announcements to the lanes, as many at once as there are. What a full lane drops is in the
/// index, and the lane looks there when it has room.
async fn hand_out(
    mut announcements: mpsc::Receiver<OpenDelivery>,
    lines: BTreeMap<Name, Arc<Line>>,
    stop: CancellationToken,
) {
    let mut announced = Vec::new();
    loop {
        let count = tokio::select! {
            () = stop.cancelled() => return,
            count = announcements.recv_many(&mut announced, limits::LANE_DELIVERIES_MAX) => count,
        };
        if count == 0 {
            return;
        }
        while let Some(first) = announced.first() {
            let handler = first.handler.clone();
            let of_lane = announced.extract_if(.., |delivery| delivery.handler == handler);
            match lines.get(&handler) {
                Some(line) => line.arrive(of_lane),
                None => of_lane.for_each(drop),
            }
        }
    }
}
