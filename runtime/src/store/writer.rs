//! Writer: one thread, many records, one sync, then the answers.
//!
//! It takes whatever waits for it, so that batches grow with the load, and whoever comes alone does not wait for
//! company. What a record changes is judged here, one after the other; nothing is visible, and nothing is answered,
//! before it is durable.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::claims::{Answer, Mine, Stored};
use super::codec::{AcceptRecord, Mark, Record};
use super::core::Core;
#[cfg(test)]
use super::drill;
use super::journal::{AppendError, Appender, BatchBuilder, BatchHeader, Draft};
use super::stage::{Hot, Stage, apply, apply_accept, events_at};
use super::view::{Changes, Reached};
use super::{Durability, Error, Refused};
use crate::words::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, SYNC_SPACING, WRITER_QUEUE_MAX};

/// Something to be written.
pub(super) enum Job {
    Accept(Box<AcceptJob>),
    /// Written when something else is; nobody waits for it.
    Note(Record),
    Change(Box<dyn Change>),
    /// The last job: a clean stop.
    Close(oneshot::Sender<Result<(), Error>>),
}

/// Judges and appends inside the writer, and hears what became of the batch.
pub(super) trait Change: Send {
    /// Of the record that it brings, where that can be large.
    fn bytes(&self) -> usize;
    fn run(self: Box<Self>, batch: &mut Batch) -> Told;
    fn refuse(self: Box<Self>, failure: &Failure);
}

type Told = Box<dyn FnOnce(Result<(), &Failure>) + Send>;

/// A change with the caller who waits for what it returns.
pub(super) struct Asked<T, F> {
    pub change: F,
    pub bytes: usize,
    pub reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Change for Asked<T, F>
where
    T: Send + 'static,
    F: FnOnce(&mut Batch) -> Result<T, Error> + Send,
{
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn run(self: Box<Self>, batch: &mut Batch) -> Told {
        let result = (self.change)(batch);
        let reply = self.reply;
        Box::new(move |outcome| {
            // Whoever asked may have gone; what was written is written.
            let _ = reply.send(outcome.map_err(Failure::error).and(result));
        })
    }

    fn refuse(self: Box<Self>, failure: &Failure) {
        let _ = self.reply.send(Err(failure.error()));
    }
}

/// A new request, with the claims of its events.
pub(super) struct AcceptJob {
    pub draft: Draft,
    pub record: AcceptRecord,
    /// One for each key of each event of the record, in its order.
    pub claims: Vec<Mine>,
}

/// Why a batch was not kept.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    DiskFull(String),
    Failed(String),
    Closing,
}

impl Failure {
    fn refused(&self, free_bytes: u64) -> Refused {
        match self {
            Failure::DiskFull(_) => {
                Refused::DiskFull { free_bytes, reserve_bytes: crate::words::limits::DISK_RESERVE_BYTES }
            }
            Failure::Failed(why) => Refused::Failed(why.clone()),
            Failure::Closing => Refused::Closing,
        }
    }

    pub(super) fn error(&self) -> Error {
        match self {
            Failure::DiskFull(why) => Error::DiskFull(why.clone()),
            Failure::Failed(why) => Error::Failed(why.clone()),
            Failure::Closing => Error::Closing,
        }
    }
}

// === the queue ===

#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<QueueInner>,
    filled: Condvar,
}

#[derive(Default)]
struct QueueInner {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    /// # Errors
    /// `Busy` where too many wait already, `Closing`.
    pub(super) fn push_accept(&self, job: Box<AcceptJob>) -> Result<(), (Box<AcceptJob>, Refused)> {
        let inner = self.lock();
        if inner.closed {
            return Err((job, Refused::Closing));
        }
        if inner.jobs.len() >= WRITER_QUEUE_MAX {
            return Err((job, Refused::Busy));
        }
        self.put(inner, Job::Accept(job));
        Ok(())
    }

    /// Of the daemon's own making: how many there are is bounded by whoever makes them.
    pub(super) fn push(&self, job: Job) -> Result<(), Error> {
        let inner = self.lock();
        if inner.closed {
            return Err(Error::Closing);
        }
        self.put(inner, job);
        Ok(())
    }

    /// A redelivery that is not counted costs nobody an event.
    pub(super) fn push_note(&self, record: Record) {
        let inner = self.lock();
        if !inner.closed && inner.jobs.len() < WRITER_QUEUE_MAX {
            self.put(inner, Job::Note(record));
        }
    }

    /// Only the first job of a queue wakes the writer, which sleeps at an empty one: a word to a sleeper is a system
    /// call, whether anybody sleeps or not.
    fn put(&self, mut inner: MutexGuard<'_, QueueInner>, job: Job) {
        let was_empty = inner.jobs.is_empty();
        inner.jobs.push_back(job);
        drop(inner);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Nothing comes in any more; what is here is still written, and `last` is the last. False: it was closed.
    pub(super) fn close(&self, last: Job) -> bool {
        let mut inner = self.lock();
        let was_open = !inner.closed;
        if was_open {
            inner.jobs.push_back(last);
            inner.closed = true;
        }
        drop(inner);
        self.filled.notify_one();
        was_open
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().jobs.len()
    }

    /// As if the process ended here: what waits is refused.
    pub(super) fn abandon(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let jobs = std::mem::take(&mut inner.jobs);
        drop(inner);
        self.filled.notify_one();
        for job in jobs {
            job.refuse(&Failure::Closing, 0);
        }
    }

    /// What waits, up to the size of a batch. None: closed and empty.
    fn take(&self) -> Option<Vec<Job>> {
        let mut inner = self.lock();
        while inner.jobs.is_empty() {
            if inner.closed {
                return None;
            }
            inner = self.filled.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        Some(inner.take())
    }

    fn lock(&self) -> MutexGuard<'_, QueueInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueInner {
    /// As much as a batch may have.
    fn take(&mut self) -> Vec<Job> {
        let mut bytes = 0;
        let mut count = 0;
        for job in self.jobs.iter().take(BATCH_RECORDS_MAX) {
            bytes += job.bytes();
            if count > 0 && bytes > BATCH_BYTES_MAX {
                break;
            }
            count += 1;
        }
        self.jobs.drain(..count).collect()
    }
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Job::Accept(job) => job.draft.bytes(),
            Job::Change(change) => change.bytes(),
            Job::Note(_) | Job::Close(_) => 0,
        }
    }

    fn refuse(self, failure: &Failure, free_bytes: u64) {
        match self {
            Job::Accept(job) => job.refuse(&failure.refused(free_bytes)),
            Job::Note(_) => {}
            Job::Change(change) => change.refuse(failure),
            Job::Close(reply) => drop(reply.send(Err(failure.error()))),
        }
    }
}

impl AcceptJob {
    pub(super) fn refuse(self, refused: &Refused) {
        for claim in self.claims {
            claim.end(Answer::Refused(refused.clone()));
        }
    }

    fn stored(self, position: u64) {
        let mut claims = self.claims.into_iter();
        for (record, event) in self.record.events.iter().zip(events_at(position)) {
            let keys = record.keys(&self.record.source).count();
            for claim in claims.by_ref().take(keys) {
                claim.stored(Stored { event, body_hash: record.body_hash });
            }
        }
    }
}

// === a batch ===

/// Records on their way to the journal, and what they change.
pub(super) struct Batch<'a> {
    pub stage: Stage<'a>,
    builder: BatchBuilder,
    /// Synced even where the answers do not wait for syncs: something will be deleted on its word.
    pub must_sync: bool,
    /// The index could not be read half-way through a record: nothing of the batch may be kept.
    broken: Option<Error>,
}

impl Batch<'_> {
    /// Appends a record and applies it. Returns its position.
    ///
    /// # Errors
    /// Where the index cannot be read; then the whole batch is refused.
    pub(super) fn append(&mut self, record: &Record, link: u64) -> Result<u64, Error> {
        self.append_drafted(&record.draft(), record, link)
    }

    /// The same, encoded beforehand by the caller.
    pub(super) fn append_drafted(&mut self, draft: &Draft, record: &Record, link: u64) -> Result<u64, Error> {
        let position = self.builder.push(draft, link);
        let applied = apply(&mut self.stage, position, draft.bytes(), record);
        self.applied(applied)?;
        Ok(position)
    }

    fn accept(&mut self, job: &AcceptJob) -> Result<u64, Error> {
        let position = self.builder.push(&job.draft, 0);
        let applied = apply_accept(&mut self.stage, position, job.draft.bytes(), &job.record);
        self.applied(applied)?;
        self.stage.attach_claims(job.claims.iter().map(|mine| mine.claim.clone()));
        Ok(position)
    }

    fn applied(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        result.inspect_err(|error| self.broken = Some(Error::Index(error.to_string())))
    }
}

/// Whoever waits for a batch.
enum Waiting {
    Accept(Box<AcceptJob>, u64),
    Change(Told),
}

impl Waiting {
    fn tell(self, outcome: &Result<(), Failure>, free_bytes: u64) {
        match (self, outcome) {
            (Waiting::Accept(job, position), Ok(())) => job.stored(position),
            (Waiting::Accept(job, _), Err(failure)) => job.refuse(&failure.refused(free_bytes)),
            (Waiting::Change(told), outcome) => told(outcome.as_ref().copied()),
        }
    }
}

// === the thread ===

/// Where senders come together, batches begin `SYNC_SPACING` apart: a disk that syncs faster would be asked for a sync
/// for every two or three of them, and each costs more than it carries. Whoever comes alone never waits.
#[derive(Default)]
struct Pace {
    /// When the last batch began that was for more than one.
    last: Option<Instant>,
}

impl Pace {
    fn batch(&mut self, jobs: usize) {
        self.last = (jobs > 1).then(Instant::now);
    }

    fn keep(&self) {
        std::thread::sleep(self.wait(Instant::now()));
    }

    fn wait(&self, now: Instant) -> Duration {
        self.last.map_or(Duration::ZERO, |last| SYNC_SPACING.saturating_sub(now.duration_since(last)))
    }
}

pub(super) struct Writer {
    core: Arc<Core>,
    appender: Appender,
    hot: Hot,
}

impl Writer {
    pub(super) fn new(core: Arc<Core>, appender: Appender) -> Writer {
        Writer { core, appender, hot: Hot::default() }
    }

    /// Until the queue is closed and empty. A panic is a bug of ours; it must not leave callers waiting.
    pub(super) fn run(mut self) {
        let core = self.core.clone();
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let mut pace = Pace::default();
            loop {
                pace.keep();
                let Some(jobs) = self.core.queue.take() else { break };
                pace.batch(jobs.len());
                self.batch(jobs);
            }
        }));
        if ran.is_err() {
            core.health.fail("the writer panicked".into());
            core.queue.abandon();
        }
    }

    /// One batch of what waits, without waiting. False: nothing does.
    #[cfg(test)]
    pub(super) fn step(&mut self) -> bool {
        let jobs = self.core.queue.lock().take();
        let waited = !jobs.is_empty();
        if waited {
            self.batch(jobs);
        }
        waited
    }

    fn batch(&mut self, jobs: Vec<Job>) {
        if let Some(why) = self.core.health.failed() {
            let failure = Failure::Failed(why.to_owned());
            return jobs.into_iter().for_each(|job| job.refuse(&failure, 0));
        }
        let builder = match self.appender.begin() {
            Ok(builder) => builder,
            Err(error) => {
                let failure = self.failure(error);
                let free = self.core.health.free_bytes();
                return jobs.into_iter().for_each(|job| job.refuse(&failure, free));
            }
        };
        let core = self.core.clone();
        let stage = Stage::new(&core.view, &core.index, &mut self.hot);
        let mut batch = Batch { stage, builder, must_sync: false, broken: None };
        let (waiting, close) = stage_jobs(&mut batch, jobs);
        let Batch { stage, builder, must_sync, broken } = batch;
        let records = builder.records() as usize;
        let (changes, opened) = stage.finish(records);
        #[cfg(test)]
        let waiting = answered_in_a_drill(waiting);
        let outcome = match broken {
            Some(error) => {
                core.health.fail(error.to_string());
                Err(Failure::Failed(error.to_string()))
            }
            None if records == 0 => {
                // Nothing to write; changes without a record concern the index alone.
                core.commit(changes, None);
                Ok(())
            }
            None => self.persist(builder, must_sync, changes),
        };
        let free = if outcome.is_err() { core.health.free_bytes() } else { 0 };
        match outcome {
            Ok(()) => core.announce(opened),
            Err(_) => self.hot.clear(),
        }
        waiting.into_iter().for_each(|waiting| waiting.tell(&outcome, free));
        if let Some(reply) = close {
            let _ = reply.send(self.close());
        }
    }

    /// Writes and syncs, and makes it visible. Only after this may anybody hear of it.
    fn persist(&mut self, builder: BatchBuilder, must_sync: bool, changes: Changes) -> Result<(), Failure> {
        let header = self.appender.write(builder).map_err(|error| self.failure(error))?;
        #[cfg(test)]
        let changes = self.committed_in_a_drill(changes, &header);
        let health = &self.core.health;
        health.records.fetch_add(u64::from(header.records), Ordering::Relaxed);
        if must_sync || self.core.options.durability == Durability::PowerLoss {
            let started = self.core.machine.elapsed();
            self.appender.sync().map_err(|error| self.failure(error))?;
            let took = self.core.machine.elapsed().saturating_sub(started).as_micros();
            let took = u64::try_from(took).unwrap_or(u64::MAX);
            health.syncs.fetch_add(1, Ordering::Relaxed);
            health.sync_us.fetch_add(took, Ordering::Relaxed);
        }
        health.durable_at.store(self.core.machine.now_us(), Ordering::Relaxed);
        self.appender.publish();
        self.core.commit(changes, Some(reached(&header)));
        Ok(())
    }

    fn failure(&self, error: AppendError) -> Failure {
        match error {
            AppendError::Full(error) => {
                tracing::error!(%error, "the disk is full, or has no file for us; nothing was kept");
                Failure::DiskFull(error.to_string())
            }
            AppendError::Failed(error) => {
                self.core.health.fail(error.to_string());
                Failure::Failed(error.to_string())
            }
        }
    }

    /// The index gets everything and is written out, and the journal's last record says so.
    fn close(&mut self) -> Result<(), Error> {
        let core = self.core.clone();
        core.stop_indexer();
        if let Some(why) = core.health.failed() {
            return Err(Error::Failed(why.to_owned()));
        }
        while let Some(generation) = core.view.next_now() {
            core.index_generation(&generation, &|_| {})?;
        }
        let mut builder = self.appender.begin().map_err(|error| self.failure(error).error())?;
        core.index.closed(builder.next_position())?;
        let (at, clock) = core.clock.seen();
        let mark = Mark::Clean { at, clock };
        builder.push(&Record::Mark(mark).draft(), 0);
        self.appender.write(builder).map_err(|error| self.failure(error).error())?;
        self.appender.sync().map_err(|error| self.failure(error).error())?;
        self.appender.trim();
        Ok(())
    }
}

#[cfg(test)]
impl Writer {
    /// Shows what is not durable yet. Returns what is left to be shown.
    fn committed_in_a_drill(&self, changes: Changes, header: &BatchHeader) -> Changes {
        if !drill::breaks(drill::Mutation::IndexAhead) {
            return changes;
        }
        self.core.commit(changes, Some(reached(header)));
        Changes::default()
    }
}

/// Answers for what is not durable yet. Returns who is left to be told.
#[cfg(test)]
fn answered_in_a_drill(waiting: Vec<Waiting>) -> Vec<Waiting> {
    if !drill::breaks(drill::Mutation::AnswerBeforeSync) {
        return waiting;
    }
    waiting.into_iter().for_each(|waiting| waiting.tell(&Ok(()), 0));
    Vec::new()
}

fn stage_jobs(
    batch: &mut Batch,
    jobs: Vec<Job>,
) -> (Vec<Waiting>, Option<oneshot::Sender<Result<(), Error>>>) {
    let mut waiting = Vec::with_capacity(jobs.len());
    let mut close = None;
    for job in jobs {
        match job {
            // After an error everybody hears of it, through `broken`.
            Job::Accept(job) => {
                let position = batch.accept(&job).unwrap_or(0);
                waiting.push(Waiting::Accept(job, position));
            }
            Job::Note(record) => drop(batch.append(&record, 0)),
            Job::Change(change) => waiting.push(Waiting::Change(change.run(batch))),
            Job::Close(reply) => close = Some(reply),
        }
    }
    (waiting, close)
}

pub(super) fn reached(header: &BatchHeader) -> Reached {
    Reached { end: header.end(), batch: header.position, written_at: header.written_at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_several_keep_their_distance_and_one_alone_does_not_wait() {
        let mut pace = Pace::default();
        assert_eq!(pace.wait(Instant::now()), Duration::ZERO);
        pace.batch(2);
        let began = pace.last.unwrap();
        assert_eq!(pace.wait(began), SYNC_SPACING);
        assert_eq!(pace.wait(began + SYNC_SPACING / 4), SYNC_SPACING * 3 / 4);
        assert_eq!(pace.wait(began + SYNC_SPACING * 2), Duration::ZERO);
        pace.batch(1);
        assert_eq!(pace.wait(Instant::now()), Duration::ZERO);
    }
}
