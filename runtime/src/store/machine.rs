//! Machine: what the store asks of the computer it runs on, beside its disk: the time, and chance.
//!
//! A seam, so that a simulation can live through the same moments again, byte for byte. Nothing else in the store
//! asks the system for either.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub trait Machine: Send + Sync + 'static {
    /// The wall clock, in microseconds since the Unix epoch: for what people read, and for nothing else.
    fn now_us(&self) -> u64;
    /// The monotonic clock, since a moment that stays the same.
    fn elapsed(&self) -> Duration;
    /// Names this boot: what a process wrote in it is in the page cache, if not on disk.
    fn boot_id(&self) -> String;
    /// Never the same twice, so that no checksum of one segment holds in another.
    fn salt(&self) -> u64;
}

/// The operating system.
#[derive(Clone, Copy, Debug)]
pub struct System {
    started: Instant,
}

impl Default for System {
    fn default() -> Self {
        System { started: Instant::now() }
    }
}

impl Machine for System {
    fn now_us(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn boot_id(&self) -> String {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        match id.trim() {
            // Nothing to compare: no index is believed but after a clean stop.
            "" => format!("unknown-{:016x}", self.salt()),
            id => id.to_owned(),
        }
    }

    fn salt(&self) -> u64 {
        rand::random()
    }
}
