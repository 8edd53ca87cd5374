//! Health: why the store takes nothing, and what it knows about itself. Asked by every request, so it is cheap.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::Refused;
use super::journal::Disk;
use super::machine::Machine;
use crate::words::limits::{
    ATTEMPT_RESERVE_BYTES, CALL_RESERVE_BYTES, DISK_CHECK_EVERY, DISK_RESERVE_BYTES, EXPIRY_GAP_MAX,
    EXPIRY_JUMP_MAX, INDEX_LAG_RECORDS_MAX, LIVE_SHARE_MAX_PERCENT,
};
use crate::words::time::Millis;

pub(super) struct Health {
    disk: Arc<dyn Disk>,
    machine: Arc<dyn Machine>,
    dir: PathBuf,
    live_bytes_max: u64,
    failed: OnceLock<String>,
    /// What was found damaged in the past, and is left where it is.
    damaged: OnceLock<String>,
    closing: AtomicBool,
    free_bytes: AtomicU64,
    checked: Mutex<Option<Duration>>,
    calls: Arc<Calls>,
    pub live_bytes: AtomicU64,
    /// Of the idempotency keys, if all were copied forward.
    pub key_bytes: AtomicU64,
    /// See `keys::GONE`.
    pub gone: AtomicU64,
    pub lag: AtomicU64,
    pub syncs: AtomicU64,
    pub sync_us: AtomicU64,
    pub records: AtomicU64,
    /// When the end of the journal became durable, microseconds since the epoch; 0: not known.
    pub durable_at: AtomicU64,
}

impl Health {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        machine: Arc<dyn Machine>,
        dir: PathBuf,
        retain_bytes: u64,
    ) -> Health {
        Health {
            disk,
            machine,
            dir,
            live_bytes_max: retain_bytes / 100 * LIVE_SHARE_MAX_PERCENT,
            failed: OnceLock::new(),
            damaged: OnceLock::new(),
            closing: AtomicBool::new(false),
            free_bytes: AtomicU64::new(u64::MAX),
            checked: Mutex::new(None),
            calls: Arc::default(),
            live_bytes: AtomicU64::new(0),
            key_bytes: AtomicU64::new(0),
            gone: AtomicU64::new(0),
            lag: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            sync_us: AtomicU64::new(0),
            records: AtomicU64::new(0),
            durable_at: AtomicU64::new(0),
        }
    }

    /// For good: nothing is taken until the store is opened again. The first reason is kept.
    pub(super) fn fail(&self, why: String) {
        if self.failed.set(why).is_ok() {
            tracing::error!(
                why = self.failed(),
                "the store failed and takes nothing more; see `df` and `dmesg`, and once the disk is well restart the \
                 daemon, which recovers the journal: `systemctl restart longshore`"
            );
        }
    }

    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// Nothing new is in danger, so the store goes on. Told once.
    pub(super) fn damaged(&self, why: &str) {
        if self.damaged.set(why.to_owned()).is_ok() {
            tracing::error!(why, "an old segment is damaged and stays; nothing from there on is dropped");
        }
    }

    pub(super) fn damage(&self) -> Option<&str> {
        self.damaged.get().map(String::as_str)
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Why nothing at all is written: not accepts, not attempts.
    pub(super) fn stopped(&self) -> Option<Refused> {
        if let Some(why) = self.failed() {
            return Some(Refused::Failed(why.to_owned()));
        }
        self.closing.load(Ordering::Acquire).then_some(Refused::Closing)
    }

    /// Why no event is accepted.
    pub(super) fn refusing(&self) -> Option<Refused> {
        if let Some(stopped) = self.stopped() {
            return Some(stopped);
        }
        let free_bytes = self.free_bytes();
        if free_bytes < DISK_RESERVE_BYTES {
            return Some(Refused::DiskFull { free_bytes, reserve_bytes: DISK_RESERVE_BYTES });
        }
        if self.live() > self.live_bytes_max {
            return Some(Refused::SizeCap);
        }
        let records = usize::try_from(self.lag.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        (records >= INDEX_LAG_RECORDS_MAX).then_some(Refused::IndexLag { records })
    }

    /// What retention may not drop, in bytes of the journal.
    pub(super) fn live(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed).saturating_add(self.key_bytes.load(Ordering::Relaxed))
    }

    /// Why no attempt may start: it could not even make one call.
    pub(super) fn may_begin(&self) -> Result<(), Refused> {
        if let Some(stopped) = self.stopped() {
            return Err(stopped);
        }
        self.room_for(1)
    }

    fn room_for(&self, calls: u64) -> Result<(), Refused> {
        let reserve_bytes = ATTEMPT_RESERVE_BYTES + calls * CALL_RESERVE_BYTES;
        let free_bytes = self.free_bytes();
        match free_bytes < reserve_bytes {
            true => Err(Refused::DiskFull { free_bytes, reserve_bytes }),
            false => Ok(()),
        }
    }

    /// Room for the answer of one call beside those of all calls in flight. Where it is they that have the room, it is
    /// waited for.
    ///
    /// # Errors
    /// Why none can be had, though no call is in flight.
    pub(super) async fn room_for_call(&self) -> Result<CallRoom, Refused> {
        loop {
            let mut ended = std::pin::pin!(self.calls.ended.notified());
            // From here on: an end between the look and the wait is not missed.
            ended.as_mut().enable();
            if let Some(stopped) = self.stopped() {
                return Err(stopped);
            }
            {
                let mut in_flight = self.calls.in_flight();
                match self.room_for(*in_flight + 1) {
                    Ok(()) => {
                        *in_flight += 1;
                        return Ok(CallRoom(Arc::clone(&self.calls)));
                    }
                    Err(refused) if *in_flight == 0 => return Err(refused),
                    Err(_) => {}
                }
            }
            ended.await;
        }
    }

    /// At most `DISK_CHECK_EVERY` old. Only one caller asks; the others take what is known.
    pub(super) fn free_bytes(&self) -> u64 {
        if let Ok(mut checked) = self.checked.try_lock()
            && checked.is_none_or(|at| self.machine.elapsed() >= at + DISK_CHECK_EVERY)
        {
            *checked = Some(self.machine.elapsed());
            match self.disk.free_bytes(&self.dir) {
                Ok(free) => self.free_bytes.store(free, Ordering::Relaxed),
                Err(error) => tracing::warn!(%error, "cannot ask how much of the disk is free"),
            }
        }
        self.free_bytes.load(Ordering::Relaxed)
    }
}

/// Calls that have left, or are about to, and have no answer on disk yet.
#[derive(Debug, Default)]
struct Calls {
    count: Mutex<u64>,
    ended: tokio::sync::Notify,
}

impl Calls {
    fn in_flight(&self) -> MutexGuard<'_, u64> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room on the disk for the answer of one call, until this is dropped.
#[derive(Debug)]
pub struct CallRoom(Arc<Calls>);

impl Drop for CallRoom {
    fn drop(&mut self) {
        *self.0.in_flight() -= 1;
        self.0.ended.notify_waiters();
    }
}

/// The time by which things expire. It never goes back and stays within an hour of the monotonic clock: a wall
/// clock that jumps must not make the store forget what it has seen, nor keep it for ever.
///
/// Only differences of it mean something: what expires is stored with this time, not with the wall clock's. A
/// start goes on from where the last record left it, and adds the time between, as the wall clock tells it; a
/// wall clock that claims more than `EXPIRY_GAP_MAX` is wrong, and nothing is added.
pub(super) struct Clock {
    machine: Arc<dyn Machine>,
    started: Duration,
    at_start: Millis,
    highest: AtomicU64,
    /// What the wall clock said when it was last asked.
    wall: AtomicU64,
}

impl Clock {
    /// `before`: wall clock and time of expiry of the same moment in the past.
    pub(super) fn new(machine: Arc<dyn Machine>, now: Millis, before: Option<(Millis, Millis)>) -> Clock {
        let at_start = match before {
            None => now,
            Some((wall, clock)) => {
                let gap = Duration::from_millis(now.0.saturating_sub(wall.0));
                if gap <= EXPIRY_GAP_MAX { clock.plus(gap) } else { clock }
            }
        };
        let drift = Duration::from_millis(now.0.abs_diff(at_start.0));
        if drift > EXPIRY_JUMP_MAX {
            tracing::warn!(
                now = now.0,
                expected = at_start.0,
                "the clock is not where the journal's past puts it; windows and ages go on from that past"
            );
        }
        Clock {
            started: machine.elapsed(),
            machine,
            at_start,
            highest: AtomicU64::new(at_start.0),
            wall: AtomicU64::new(now.0),
        }
    }

    pub(super) fn expiry(&self, now: Millis) -> Millis {
        self.expiry_after(now, self.machine.elapsed().saturating_sub(self.started))
    }

    fn expiry_after(&self, now: Millis, elapsed: Duration) -> Millis {
        let expected = self.at_start.plus(elapsed);
        let jump = u64::try_from(EXPIRY_JUMP_MAX.as_millis()).unwrap_or(u64::MAX);
        let bounded = now.0.clamp(expected.0.saturating_sub(jump), expected.0.saturating_add(jump));
        self.wall.store(now.0, Ordering::Relaxed);
        let before = self.highest.fetch_max(bounded, Ordering::Relaxed);
        Millis(before.max(bounded))
    }

    /// The wall clock when it was last asked, and the time of expiry then.
    pub(super) fn seen(&self) -> (Millis, Millis) {
        (Millis(self.wall.load(Ordering::Relaxed)), Millis(self.highest.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::machine::System;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn the_time_of_expiry_neither_goes_back_nor_jumps_nor_stands() {
        let clock = Clock::new(Arc::new(System::default()), Millis(10 * HOUR), None);
        let second = Duration::from_secs(1);
        assert_eq!(clock.expiry_after(Millis(10 * HOUR + 500), second), Millis(10 * HOUR + 500));
        assert_eq!(clock.expiry_after(Millis(9 * HOUR), second), Millis(10 * HOUR + 500));
        assert_eq!(clock.expiry_after(Millis(9000 * HOUR), second), Millis(11 * HOUR + 1000));
        let later = Duration::from_millis(5 * HOUR);
        assert_eq!(
            clock.expiry_after(Millis(0), later),
            Millis(14 * HOUR),
            "a clock that stands is not followed"
        );
    }

    #[test]
    fn a_start_adds_the_time_between_and_no_wrong_clock() {
        let start = |now: u64, wall: u64, clock: u64| {
            let before = (Millis(wall * HOUR), Millis(clock * HOUR));
            let clock = Clock::new(Arc::new(System::default()), Millis(now * HOUR), Some(before));
            clock.seen().1.0 / HOUR
        };
        assert_eq!(start(1030, 1000, 1000), 1030);
        assert_eq!(start(1030, 1000, 5000), 5030, "the difference counts, not the offset");
        assert_eq!(start(900, 1000, 1000), 1000, "nor back over a restart");
        assert_eq!(start(900_000, 1000, 1000), 1000, "a century is a wrong clock");
    }
}
