//! Core: what the ledger's clones, the writer and the indexer share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::claims::Claims;
use super::codec::{Kind, Record};
use super::health::{Clock, Health};
use super::index::{Blob, Index, Range};
use super::journal::{Disk, RawRecord, Segments};
use super::machine::Machine;
use super::rows::Row;
use super::view::{Changes, Generation, Reached, Scan, View};
use super::writer::{Asked, Batch, Failure, Job, Queue};
use super::{Error, OpenDelivery, Options, Stat, keys};
use crate::words::event::DeliveryId;
use crate::words::limits::{
    CLAIMS_STEP, INDEX_REST_FACTOR, INDEX_REST_MAX, KEY_COPY_BYTES, RECORD_BYTES_MAX,
};

pub(super) struct Core {
    pub options: Options,
    pub disk: Arc<dyn Disk>,
    pub machine: Arc<dyn Machine>,
    pub journal_dir: PathBuf,
    pub segments: Arc<Segments>,
    pub index: Index,
    pub view: View,
    pub claims: Arc<Claims>,
    pub queue: Queue,
    pub health: Health,
    pub clock: Clock,
    pub announce: Mutex<Option<mpsc::Sender<OpenDelivery>>>,
    pub indexer: Mutex<Option<JoinHandle<()>>>,
    /// End of the journal at the start: an attempt that began below it is not running.
    pub opened_at: u64,
    /// What attempts hold in memory of earlier ones, in units of `HELD_UNIT_BYTES`.
    pub effects_held: Arc<tokio::sync::Semaphore>,
    /// One retention at a time.
    pub retaining: tokio::sync::Mutex<()>,
    /// Whether long calls go to a thread of their own. A simulation has one thread for everything.
    pub has_threads: bool,
    /// Last, so that it is let go of when everything above has let go of its files. None in a simulation.
    pub _lock: Option<std::fs::File>,
}

impl Core {
    // === reading ===

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Blob>, Error> {
        match self.view.get(key) {
            Some(value) => Ok(value),
            None => self.index.get(key),
        }
    }

    pub(super) fn scan(&self, range: Range, reverse: bool) -> Scan<'_> {
        Scan::new(&self.view, &self.index, range, reverse)
    }

    /// The row of a delivery, ended or not.
    pub(super) fn row(&self, id: &DeliveryId) -> Result<Option<Row>, Error> {
        match self.get(&keys::delivery(id))? {
            Some(value) => Row::decode(&value).map(Some),
            None if self.is_kept(id.event.position)? => self.index.ended(id),
            None => Ok(None),
        }
    }

    /// Whether retention left a record where it is, or copied it.
    pub(super) fn is_kept(&self, position: u64) -> Result<bool, Error> {
        let gone = self.health.gone.load(Ordering::Relaxed);
        Ok(position >= gone || self.get(&keys::moved(position))?.is_some())
    }

    /// A record under the position that it had first, wherever it lies now. None: dropped.
    pub(super) fn record(&self, position: u64) -> Result<Option<Found>, Error> {
        // A record that is moved while it is looked for is found the second time.
        for _ in 0..3 {
            if let Some(raw) = self.segments.record(position)? {
                let record = self.decode(&raw)?;
                return Ok(Some(Found { record, link: raw.link, batch: raw.batch, answer_us: None }));
            }
            let Some(at) = self.get(&keys::moved(position))? else { continue };
            let at = keys::number_in(&at, 0)?;
            if let Some(raw) = self.segments.record(at)? {
                return self.unwrap_copy(position, &raw).map(Some);
            }
        }
        Ok(None)
    }

    /// The same of a position that came from outside: where no record begins there is none, and no damage.
    pub(super) fn named(&self, position: u64) -> Result<Option<Found>, Error> {
        if self.segments.may_be_record(position)? { self.record(position) } else { Ok(None) }
    }

    fn unwrap_copy(&self, position: u64, raw: &RawRecord) -> Result<Found, Error> {
        match self.decode(raw)? {
            Record::Copy(super::codec::CopyRecord::Whole {
                position: original,
                kind,
                link,
                answer_us,
                payload,
                ..
            }) if original == position => {
                let record =
                    Record::decode(kind, &payload).map_err(|why| self.damaged(raw.position, &why))?;
                Ok(Found { record, link, batch: raw.batch, answer_us: Some(answer_us) })
            }
            _ => Err(Error::Index(format!("{position:x} should lie at {:x}, and does not", raw.position))),
        }
    }

    pub(super) fn decode(&self, raw: &RawRecord) -> Result<Record, Error> {
        if Kind::of(raw.kind).is_none() {
            return Err(Error::UnknownKind(self.segments.path_of(raw.position), raw.kind));
        }
        Record::decode(raw.kind, &raw.payload).map_err(|why| self.damaged(raw.position, &why))
    }

    fn damaged(&self, position: u64, why: &super::codec::Unreadable) -> Error {
        self.segments.damaged(position, &why.to_string())
    }

    /// Runs a call that may take long where it delays nobody.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        call: impl FnOnce(&Core) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if !self.has_threads {
            return call(self);
        }
        let core = self.clone();
        match tokio::task::spawn_blocking(move || call(&core)).await {
            Ok(result) => result,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only where the runtime is shutting down.
                Err(_) => Err(Error::Closing),
            },
        }
    }

    // === writing ===

    /// Runs in the writer; returns what it returned once that is durable.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Batch) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.change_of(0, change).await
    }

    /// The same, of a change that brings a record of this size: batches end at their bound.
    ///
    /// # Errors
    /// `TooLarge`
    pub(super) async fn change_of<T: Send + 'static>(
        &self,
        bytes: usize,
        change: impl FnOnce(&mut Batch) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if bytes > RECORD_BYTES_MAX {
            return Err(Error::TooLarge(bytes));
        }
        if let Some(failure) = self.stopped() {
            return Err(failure.error());
        }
        let (reply, answer) = oneshot::channel();
        self.queue.push(Job::Change(Box::new(Asked { change, bytes, reply })))?;
        answer.await.unwrap_or_else(|_| Err(self.stopped_error()))
    }

    /// For whoever found a thread gone.
    pub(super) fn stopped_error(&self) -> Error {
        self.stopped().unwrap_or(Failure::Closing).error()
    }

    pub(super) fn stat(&self) -> Stat {
        let load = |figure: &std::sync::atomic::AtomicU64| figure.load(Ordering::Relaxed);
        let health = &self.health;
        let backlog = super::deliveries::backlogs(self).unwrap_or_default();
        Stat {
            failed: health.stopped().map(|refused| refused.to_string()),
            damaged: health.damage().map(str::to_owned),
            segments: self.segments.list().len() as u64,
            journal_bytes: self.segments.bytes(),
            live_bytes: load(&health.live_bytes),
            idempotency_keys: self.index.keys(),
            index_bytes: self.index.size_on_disk(),
            index_lag_records: self.view.lag() as u64,
            free_bytes: health.free_bytes(),
            durable_position: self.segments.end(),
            backlog: backlog.into_iter().map(|(handler, figures)| (handler.to_string(), figures)).collect(),
            syncs: load(&health.syncs),
            sync_us_total: load(&health.sync_us),
            records: load(&health.records),
        }
    }

    fn stopped(&self) -> Option<Failure> {
        self.health.failed().map(|why| Failure::Failed(why.to_owned()))
    }

    /// Makes a durable batch visible. `reached: None`: the changes are in no record.
    pub(super) fn commit(&self, changes: Changes, reached: Option<Reached>) {
        if let Some(live) = changes.ops.get(keys::LIVE).and_then(|op| op.value.as_ref()) {
            self.health.live_bytes.store(keys::number_in(live, 0).unwrap_or(0), Ordering::Relaxed);
        }
        if let Some(gone) = changes.ops.get(keys::GONE).and_then(|op| op.value.as_ref()) {
            self.health.gone.store(keys::number_in(gone, 0).unwrap_or(0), Ordering::Relaxed);
        }
        // First the past, then the view: a row that leaves the one is in the other.
        self.index.note_ended(changes.ended.iter().map(|(id, row)| (id.clone(), row.clone())));
        self.view.commit(changes, reached);
        self.health.lag.store(self.view.lag() as u64, Ordering::Relaxed);
    }

    pub(super) fn announce(&self, opened: Vec<OpenDelivery>) {
        if opened.is_empty() {
            return;
        }
        let announce = self.announce.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(announce) = announce.as_ref() {
            for delivery in opened {
                // Full, or nobody listens: it waits in the index.
                let _ = announce.try_send(delivery);
            }
        }
    }

    // === the index's thread ===

    /// Until it is stopped. A panic is a bug of ours; nobody must wait for an index that goes nowhere.
    pub(super) fn run_indexer(&self) {
        let failed = match catch_unwind(AssertUnwindSafe(|| self.index_all())) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the thread of the index panicked".to_owned(),
        };
        // What made it fail would make it fail again: the next start builds it anew.
        self.index.disown();
        self.health.fail(failed);
        self.view.stop();
    }

    fn index_all(&self) -> Result<(), Error> {
        loop {
            // What is done behind everybody's back goes between the generations.
            let began = Instant::now();
            let is_busy = self.tidy_index()?;
            if is_busy {
                self.rest_after(began.elapsed(), 0);
            }
            let next = if is_busy { self.view.next_full() } else { self.view.next() };
            match next {
                Some(generation) => self.index_generation(&generation, &|step| self.rest_after(step, 1))?,
                None if is_busy && !self.view.is_stopping() => {}
                None => return Ok(()),
            }
        }
    }

    /// The index's thread leaves the processor to others between two steps, unless a generation waits beside the
    /// `under_way` ones that it works on.
    fn rest_after(&self, step: Duration, under_way: usize) {
        self.view.rest(step.saturating_mul(INDEX_REST_FACTOR).min(INDEX_REST_MAX), under_way);
    }

    pub(super) fn note_keys(&self) {
        let bytes = self.index.keys().saturating_mul(KEY_COPY_BYTES);
        self.health.key_bytes.store(bytes, Ordering::Relaxed);
    }

    /// One bounded step. False: there is nothing to do.
    fn tidy_index(&self) -> Result<bool, Error> {
        self.index.tidy(self.clock.seen().1, self.segments.base())
    }

    pub(super) fn index_generation(
        &self,
        generation: &Generation,
        rest: &dyn Fn(Duration),
    ) -> Result<(), Error> {
        generation.write_to(&self.index, rest)?;
        for puts in generation.keys.chunks(CLAIMS_STEP) {
            let began = Instant::now();
            for put in puts {
                if let Some(claim) = &put.claim {
                    self.claims.release(&put.entry.hash, claim);
                }
            }
            rest(began.elapsed());
        }
        self.note_keys();
        self.view.applied(generation);
        self.health.lag.store(self.view.lag() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// One generation, without waiting. False: the index has everything.
    #[cfg(test)]
    pub(super) fn index_step(&self) -> Result<bool, Error> {
        match self.view.next_now() {
            Some(generation) => self.index_generation(&generation, &|_| {}).map(|()| true),
            None => self.tidy_index(),
        }
    }

    /// Until the index has come to a position.
    pub(super) async fn wait_applied(&self, position: u64) -> Result<(), Error> {
        if self.view.wait_applied(position).await { Ok(()) } else { Err(self.stopped_error()) }
    }

    pub(super) fn stop_indexer(&self) {
        self.view.stop();
        let indexer = self.indexer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(indexer) = indexer
            && indexer.join().is_err()
        {
            self.health.fail("the thread of the index panicked".into());
        }
    }
}

/// A record, found under its position.
pub(super) struct Found {
    pub record: Record,
    pub link: u64,
    /// The batch that it lies in.
    pub batch: u64,
    /// Of a copy: what the first one's answer took, where that is known.
    pub answer_us: Option<Option<u64>>,
}
