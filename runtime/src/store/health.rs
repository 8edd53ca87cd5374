//! Health: why the store takes nothing, and what it knows about itself. Asked by every request, so it is cheap.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::Refused;
use super::journal::Disk;
use crate::words::limits::{
    DISK_CHECK_EVERY, DISK_RESERVE_BYTES, EXPIRY_JUMP_MAX, INDEX_LAG_RECORDS_MAX, LIVE_SHARE_MAX_PERCENT,
};
use crate::words::time::Millis;

pub(super) struct Health {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    live_bytes_max: u64,
    failed: OnceLock<String>,
    closing: AtomicBool,
    free_bytes: AtomicU64,
    checked: Mutex<Option<Instant>>,
    pub live_bytes: AtomicU64,
    pub lag: AtomicU64,
    pub syncs: AtomicU64,
    pub sync_us: AtomicU64,
    pub records: AtomicU64,
    /// When the end of the journal became durable, microseconds since the epoch; 0: not known.
    pub durable_at: AtomicU64,
}

impl Health {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf, retain_bytes: u64) -> Health {
        Health {
            disk,
            dir,
            live_bytes_max: retain_bytes / 100 * LIVE_SHARE_MAX_PERCENT,
            failed: OnceLock::new(),
            closing: AtomicBool::new(false),
            free_bytes: AtomicU64::new(u64::MAX),
            checked: Mutex::new(None),
            live_bytes: AtomicU64::new(0),
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
                "the store failed and takes nothing until it is opened again"
            );
        }
    }

    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
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
        if self.live_bytes.load(Ordering::Relaxed) > self.live_bytes_max {
            return Some(Refused::SizeCap);
        }
        let records = usize::try_from(self.lag.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        (records >= INDEX_LAG_RECORDS_MAX).then_some(Refused::IndexLag { records })
    }

    /// At most `DISK_CHECK_EVERY` old. Only one caller asks; the others take what is known.
    pub(super) fn free_bytes(&self) -> u64 {
        if let Ok(mut checked) = self.checked.try_lock()
            && checked.is_none_or(|at| at.elapsed() >= DISK_CHECK_EVERY)
        {
            *checked = Some(Instant::now());
            match self.disk.free_bytes(&self.dir) {
                Ok(free) => self.free_bytes.store(free, Ordering::Relaxed),
                Err(error) => tracing::warn!(%error, "cannot ask how much of the disk is free"),
            }
        }
        self.free_bytes.load(Ordering::Relaxed)
    }
}

/// The time by which things expire. It never goes back, and runs at most an hour ahead of the monotonic clock:
/// a wall clock that jumps must not make the store forget what it has seen.
pub(super) struct Clock {
    started: Instant,
    at_start: Millis,
    highest: AtomicU64,
}

impl Clock {
    /// `highest_before`: of the starts before. One that is hours ahead was a clock that was wrong; were it
    /// believed, everything would be old for good.
    pub(super) fn new(now: Millis, highest_before: Millis) -> Clock {
        let at_start = now.max(highest_before.min(now.plus(EXPIRY_JUMP_MAX)));
        Clock { started: Instant::now(), at_start, highest: AtomicU64::new(at_start.0) }
    }

    pub(super) fn expiry(&self, now: Millis) -> Millis {
        self.expiry_after(now, self.started.elapsed())
    }

    fn expiry_after(&self, now: Millis, elapsed: Duration) -> Millis {
        let bounded = now.min(self.at_start.plus(elapsed).plus(EXPIRY_JUMP_MAX));
        let before = self.highest.fetch_max(bounded.0, Ordering::Relaxed);
        Millis(before.max(bounded.0))
    }

    pub(super) fn highest(&self) -> Millis {
        Millis(self.highest.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_expiry_neither_goes_back_nor_jumps() {
        let hour = 3_600_000;
        let clock = Clock::new(Millis(10 * hour), Millis(0));
        let second = Duration::from_secs(1);
        assert_eq!(clock.expiry_after(Millis(10 * hour + 500), second), Millis(10 * hour + 500));
        assert_eq!(clock.expiry_after(Millis(9 * hour), second), Millis(10 * hour + 500));
        assert_eq!(clock.expiry_after(Millis(9000 * hour), second), Millis(11 * hour + 1000));
        assert_eq!(Clock::new(Millis(5), Millis(9)).expiry(Millis(6)), Millis(9), "nor over a restart");
        let wrong_before = Clock::new(Millis(5), Millis(9000 * hour));
        assert_eq!(wrong_before.expiry(Millis(6)), Millis(5 + hour), "but one that was wrong is not kept");
    }
}
