//! The ledger: nothing leaves here as safe before it is on disk.
//!
//! Top-down: what the door needs, what a lane needs, what a handler's shelf needs, what the operator needs. Each
//! is a few lines; the rooms behind it keep the promise.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::codec::Begun;
use super::core::Core;
use super::open::{Ground, Opened, open};
use super::writer::Job;
use super::*;
use crate::words::effect::Resolution;
use crate::words::limits::ANNOUNCEMENTS_MAX;
use crate::words::shelf::ShelfRead;

/// Cheap to clone. Dropping the last clone without `close` is a crash as far as the files are concerned.
#[derive(Clone)]
pub struct Ledger {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) core: Arc<Core>,
    writer: Mutex<Option<JoinHandle<()>>>,
    stop: tokio::sync::Mutex<Stop>,
}

/// How far a clean stop has come.
enum Stop {
    Open,
    Asked(oneshot::Receiver<Result<(), Error>>),
    /// Over; in words, where it failed.
    Over(Result<(), String>),
}

impl Ledger {
    /// Locks the directory, recovers the journal, opens or rebuilds the index. Blocking; call it off the runtime.
    ///
    /// # Errors
    /// `Directory`, `Locked`, `Damaged`, `UnknownKind`, `Io`, `Index`.
    pub fn open(options: Options, now: Millis) -> Result<(Ledger, Recovery), Error> {
        let ground = Ground::of(&options);
        Ledger::open_upon(options, ground, now)
    }

    /// The same, with the journal on another disk than the system's: for tests that hold a sync back.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_on(
        options: Options,
        disk: Arc<dyn journal::Disk>,
        now: Millis,
    ) -> Result<(Ledger, Recovery), Error> {
        let ground = Ground { disk, ..Ground::of(&options) };
        Ledger::open_upon(options, ground, now)
    }

    pub(super) fn open_upon(
        options: Options,
        ground: Ground,
        now: Millis,
    ) -> Result<(Ledger, Recovery), Error> {
        let (Opened { core, writer }, recovery) = open(options, ground, now)?;
        let (writer, stop) = (Mutex::new(Some(writer)), tokio::sync::Mutex::new(Stop::Open));
        Ok((Ledger { inner: Arc::new(Inner { core, writer, stop }) }, recovery))
    }

    // === accept ===

    /// Durable when it returns. A second copy waits for the first one's sync and shares its answer.
    /// Cancel-safe: a caller that stops waiting changes nothing about what is written.
    ///
    /// # Errors
    /// Nothing of the request was kept; the sender is to come back.
    pub async fn accept(&self, accept: Accept) -> Result<Receipt, Refused> {
        super::accept::accept(self.core(), accept).await
    }

    /// None while accepts can be expected to succeed; else why not. Cheap: readiness and every request ask it.
    pub fn refusing(&self) -> Option<Refused> {
        self.core().health.refusing()
    }

    /// An old segment that does not read, in words: senders are safe, and the operator should see to it. Cheap.
    pub fn damage(&self) -> Option<&str> {
        self.core().health.damage()
    }

    /// Whether an attempt may start: the store writes, and there is room for what the attempt will have to say. A
    /// call whose outcome could not be written down would be made again.
    pub fn may_begin(&self) -> Result<(), Refused> {
        self.core().health.may_begin()
    }

    /// Room on the disk for the answer of a call, beside what settling needs and the answers of all calls in flight. It is
    /// kept for as long as the value lives: until the answer is written down. Waits where other calls have it.
    ///
    /// # Errors
    /// None can be had, though no call is in flight; or the store has stopped.
    pub async fn room_for_call(&self) -> Result<CallRoom, Refused> {
        self.core().health.room_for_call().await
    }

    // === lanes ===

    /// The time by which things grow old, whatever the wall clock says: it never goes back, and goes on over restarts.
    pub fn clock(&self, wall: Millis) -> Millis {
        self.core().clock.expiry(wall)
    }

    /// Newly durable open deliveries, in order of acceptance, bounded: one that finds the channel full is
    /// not lost, it waits in the index, where `due` finds it. Also those that the operator retried, or that were
    /// resumed. One receiver; a second call replaces it.
    pub fn announcements(&self) -> mpsc::Receiver<OpenDelivery> {
        let (send, receive) = mpsc::channel(ANNOUNCEMENTS_MAX);
        *self.core().announce.lock().unwrap_or_else(PoisonError::into_inner) = Some(send);
        receive
    }

    /// Open deliveries of a handler due at or before `until`, by due time, at most `limit`. `skip` names those
    /// the lane already has. Includes accepted ones that the index has not yet seen.
    pub async fn due(
        &self,
        handler: &Name,
        until: Millis,
        limit: usize,
        skip: &HashSet<DeliveryId>,
    ) -> Result<Vec<OpenDelivery>, Error> {
        deliveries::due(self.core(), handler, until, limit, skip)
    }

    /// The earliest due time among a handler's open deliveries, whatever it is.
    pub async fn next_due(&self, handler: &Name) -> Result<Option<Millis>, Error> {
        deliveries::next_due(self.core(), handler)
    }

    /// # Errors
    /// `NoSuchEvent` where it was never there or was dropped.
    pub async fn event(&self, event: EventRef) -> Result<StoredEvent, Error> {
        deliveries::event(self.core(), event)?.ok_or(Error::NoSuchEvent(event))
    }

    /// Whether a delivery was accepted before this process opened the ledger.
    pub fn was_there_at_the_start(&self, delivery: &DeliveryId) -> bool {
        delivery.event.position < self.core().opened_at
    }

    /// Written and durable before an attempt acts on the world. `number`: as history counts attempts. An attempt that
    /// does nothing but end may be settled without it.
    ///
    /// # Errors
    /// `WrongState` where the delivery is not open any more, or this attempt was settled already: it is not called.
    pub async fn begin(
        &self,
        delivery: &DeliveryId,
        number: u32,
        plugin: Digest,
        now: Millis,
    ) -> Result<(), Error> {
        deliveries::begin(self.core(), Begun::new(delivery, number, plugin, now)).await
    }

    /// One more entry about a call of a delivery (`words::effect`) in attempt `number`, durable when it returns.
    ///
    /// # Errors
    /// `WrongState` of an intent, where the delivery is not open any more, or another attempt began since: the call is
    /// not made.
    pub async fn note_effect(
        &self,
        delivery: &DeliveryId,
        number: u32,
        (entry, is_intent): (bytes::Bytes, bool),
        now: Millis,
    ) -> Result<(), Error> {
        deliveries::note_effect(self.core(), delivery.clone(), number, (entry, is_intent), now).await
    }

    /// Waits until what was noted of a delivery may be held in memory beside what other attempts hold; it may for as long
    /// as the value lives.
    pub async fn hold_effects(&self, delivery: &DeliveryId) -> Result<HeldEffects, Error> {
        deliveries::hold_effects(self.core(), delivery).await
    }

    /// What was noted about the calls of a delivery, in order, since it was retried after it was done.
    pub async fn effects(&self, delivery: &DeliveryId) -> Result<Noted, Error> {
        let delivery = delivery.clone();
        self.core().blocking(move |core| deliveries::effects(core, &delivery)).await
    }

    /// All calls of a delivery as they were written down, whether anything still follows from them or not.
    pub async fn recorded(&self, delivery: &DeliveryId) -> Result<Recorded, Error> {
        let delivery = delivery.clone();
        self.core().blocking(move |core| deliveries::recorded(core, &delivery)).await
    }

    /// Durable when it returns `Written`. Shelf writes and verdict take effect together.
    pub async fn settle(&self, settle: Settle, now: Millis) -> Result<Settled, Error> {
        deliveries::settle(self.core(), settle, now).await
    }

    /// Parks an open delivery without an attempt: three begun in a row never ended.
    pub async fn park(&self, delivery: &DeliveryId, reason: &str, now: Millis) -> Result<(), Error> {
        deliveries::park(self.core(), delivery.clone(), reason.to_owned(), now).await
    }

    /// Open deliveries for which `wanted(subscription, handler)` says no become held, held ones for which it says
    /// yes become open. Called at start, before any lane runs. Returns (held, resumed).
    pub async fn hold_unwanted(
        &self,
        wanted: impl Fn(&Name, &Name) -> Result<(), String> + Send + 'static,
        now: Millis,
    ) -> Result<(u64, u64), Error> {
        let wanted = Mutex::new(wanted);
        let wanted = move |subscription: &Name, handler: &Name| {
            wanted.lock().unwrap_or_else(PoisonError::into_inner)(subscription, handler)
        };
        deliveries::hold_unwanted(self.core(), Arc::new(wanted), now).await
    }

    /// How a handler's lane stands, durable when it returns.
    pub async fn lane_changed(&self, handler: &Name, change: LaneChange, now: Millis) -> Result<(), Error> {
        lanes::change(self.core(), handler.clone(), change, now).await
    }

    /// As the last change of each sort left it, in this process or an earlier one.
    pub async fn lane_standing(&self, handler: &Name) -> Result<Standing, Error> {
        let handler = handler.clone();
        self.core().blocking(move |core| lanes::standing(core, &handler)).await
    }

    /// Changes of a handler's lane, newest first, as long as retention keeps them. `cursor`: `next` of the page before.
    pub async fn lane_history(
        &self,
        handler: &Name,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<Page<LaneEntry>, Error> {
        let handler = handler.clone();
        self.core().blocking(move |core| lanes::history(core, &handler, cursor.as_deref(), limit)).await
    }

    /// Open deliveries of a handler.
    pub fn waiting(&self, handler: &Name) -> Result<u64, Error> {
        let backlog = self.core().get(&keys::backlog(handler))?;
        backlog.map_or(Ok(0), |value| keys::number_in(&value, 0))
    }

    // === shelves ===

    pub async fn shelf_get(&self, handler: &Name, key: &str, now: Millis) -> Result<ShelfRead, Error> {
        shelf::read(self.core(), handler, key, now)
    }

    pub async fn shelf_list(
        &self,
        handler: &Name,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
        now: Millis,
    ) -> Result<Vec<String>, Error> {
        shelf::listing(self.core(), handler, prefix, after, (limit, now))
    }

    /// Bytes of keys and values on a handler's shelf.
    pub async fn shelf_bytes(&self, handler: &Name) -> Result<u64, Error> {
        let bytes = self.core().get(&keys::shelf_size(handler))?;
        bytes.map_or(Ok(0), |value| keys::number_in(&value, 0))
    }

    // === the operator ===

    /// The operator's word. `Retry` makes any delivery open and due now; `Cancel` ends one that is not ended.
    pub async fn rule(&self, delivery: &DeliveryId, ruling: Ruling, now: Millis) -> Result<(), Error> {
        deliveries::rule(self.core(), delivery.clone(), ruling, now).await
    }

    /// The operator's word on the call that a parked delivery waits with; the delivery becomes open and due now.
    ///
    /// # Errors
    /// `NothingToResolve` where it is parked for another reason.
    pub async fn resolve(
        &self,
        delivery: &DeliveryId,
        resolution: Resolution,
        now: Millis,
    ) -> Result<(), Error> {
        deliveries::resolve(self.core(), delivery.clone(), resolution, now).await
    }

    /// When the daemon first saw each secret below a newer one, `fingerprints` newest first. The first has none.
    /// What is new is written and synced before this returns; a secret that is first again forgets its time.
    pub async fn secrets_seen(
        &self,
        source: &Name,
        fingerprints: &[Fingerprint],
        now: Millis,
    ) -> Result<Vec<Option<Millis>>, Error> {
        secrets::seen(self.core(), source, fingerprints, now).await
    }

    /// Ends deliveries older than `open_age_max`, drops history by age and size, frees segments. Returns what it did.
    pub async fn retain(&self, now: Millis) -> Result<Retained, Error> {
        retention::retain(self.core(), now).await
    }

    /// When the oldest segment of the journal was begun, by the wall clock of then.
    pub fn oldest(&self) -> Millis {
        self.core().segments.list().first().map_or(Millis(0), |segment| Millis(segment.header.created_at))
    }

    /// The plugins and setups that deliveries were run with.
    pub fn kept(&self) -> Kept {
        Kept::of(&self.core().options.path)
    }

    // === history ===

    pub async fn events(&self, filter: EventFilter) -> Result<Page<EventRow>, Error> {
        self.core().blocking(move |core| history::events(core, &filter)).await
    }

    pub async fn event_row(&self, event: EventRef) -> Result<Option<EventRow>, Error> {
        self.core().blocking(move |core| history::event_row(core, event)).await
    }

    pub async fn deliveries(&self, filter: DeliveryFilter) -> Result<Page<DeliveryRow>, Error> {
        self.core().blocking(move |core| history::deliveries(core, &filter)).await
    }

    pub async fn delivery(&self, delivery: &DeliveryId) -> Result<Option<DeliveryHistory>, Error> {
        let delivery = delivery.clone();
        self.core().blocking(move |core| history::delivery(core, &delivery)).await
    }

    pub fn stat(&self) -> Stat {
        self.core().stat()
    }

    /// The journal as it is now: for an export or a backup, while everything goes on.
    pub fn snapshot(&self) -> tools::Snapshot {
        tools::Snapshot::of(&self.core().segments)
    }

    // === the end ===

    /// Stops taking records, syncs what is queued, brings the index up to date and marks a clean stop.
    /// Whoever calls it again waits for the first call, and hears what became of it.
    pub async fn close(&self) -> Result<(), Error> {
        self.core().health.close();
        let mut stop = self.inner.stop.lock().await;
        if let Stop::Open = &*stop {
            let (reply, closed) = oneshot::channel();
            // Closed already: the writer is gone, and this reply with it.
            self.core().queue.close(Job::Close(reply));
            *stop = Stop::Asked(closed);
        }
        let outcome = match &mut *stop {
            Stop::Asked(closed) => closed.await.unwrap_or_else(|_| Err(self.core().stopped_error())),
            Stop::Over(outcome) => return outcome.clone().map_err(Error::Failed),
            Stop::Open => unreachable!("it was asked for above"),
        };
        *stop = Stop::Over(outcome.as_ref().copied().map_err(|error| match error {
            Error::Failed(why) => why.clone(),
            other => other.to_string(),
        }));
        outcome
    }

    /// As if the writer had a bug.
    #[cfg(test)]
    pub(super) async fn panic_in_writer(&self) -> Result<(), Error> {
        self.core().change(|_| panic!("the test asked for it")).await
    }

    /// As if the index were this far behind, until it says otherwise.
    #[cfg(test)]
    pub(super) fn pretend_lag(&self, records: u64) {
        self.core().health.lag.store(records, std::sync::atomic::Ordering::Relaxed);
    }

    /// A change that says it brings a record of this size.
    #[cfg(test)]
    pub(super) async fn change_of_size(&self, bytes: usize) -> Result<(), Error> {
        self.core().change_of(bytes, |_| Ok(())).await
    }

    /// Whether the index, with what is on its way to it, has a key.
    #[cfg(test)]
    pub(super) fn has_key(&self, key: &[u8]) -> bool {
        self.core().get(key).unwrap().is_some()
    }

    /// End of the journal.
    #[cfg(test)]
    pub(super) fn inner_end(&self) -> u64 {
        self.core().segments.end()
    }

    fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }
}

impl Drop for Inner {
    /// Threads end without a mark; files are let go of when they have.
    fn drop(&mut self) {
        self.core.queue.abandon();
        self.core.stop_indexer();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the thread of the journal panicked");
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Retained {
    pub deliveries_dead: u64,
    pub events_dropped: u64,
    pub segments_dropped: u64,
    pub bytes_freed: u64,
}
