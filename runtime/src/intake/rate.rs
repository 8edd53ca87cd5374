//! Rate: a token bucket for one source, so that one sender's flood leaves room for the others.
//!
//! Only requests whose signature was good take a token: whoever forges requests cannot use up the real sender's
//! share. Time is an argument.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::words::limits::RETRY_AFTER_MAX;

pub(super) struct Bucket {
    per_second: f64,
    /// One second's worth, and never less than one request.
    burst: f64,
    level: Mutex<Level>,
}

struct Level {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(per_second: f64, now: Instant) -> Self {
        let burst = per_second.max(1.0);
        Bucket { per_second, burst, level: Mutex::new(Level { tokens: burst, at: now }) }
    }

    pub(super) fn per_second(&self) -> f64 {
        self.per_second
    }

    /// # Errors
    /// How long until there will be a token.
    pub(super) fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(level.at).as_secs_f64();
        level.tokens = (level.tokens + passed * self.per_second).min(self.burst);
        level.at = level.at.max(now);
        if level.tokens >= 1.0 {
            level.tokens -= 1.0;
            return Ok(());
        }
        let seconds = (1.0 - level.tokens) / self.per_second;
        Err(Duration::try_from_secs_f64(seconds).unwrap_or(RETRY_AFTER_MAX).min(RETRY_AFTER_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_of_one_second_then_one_at_a_time() {
        let start = Instant::now();
        let bucket = Bucket::new(2.0, start);
        assert_eq!(bucket.take(start), Ok(()));
        assert_eq!(bucket.take(start), Ok(()));
        assert_eq!(bucket.take(start), Err(Duration::from_millis(500)));
        assert_eq!(bucket.take(start + Duration::from_millis(250)), Err(Duration::from_millis(250)));
        assert_eq!(bucket.take(start + Duration::from_millis(500)), Ok(()));
        assert!(bucket.take(start + Duration::from_millis(500)).is_err());
    }

    #[test]
    fn less_than_one_a_second_still_lets_one_through() {
        let start = Instant::now();
        let bucket = Bucket::new(0.1, start);
        assert_eq!(bucket.take(start), Ok(()));
        let wait = bucket.take(start).unwrap_err();
        assert!(wait > Duration::from_secs(9) && wait <= Duration::from_secs(10), "{wait:?}");
    }

    #[test]
    fn a_rate_of_nothing_tells_a_wait_that_has_an_end() {
        let start = Instant::now();
        let bucket = Bucket::new(0.0, start);
        assert_eq!(bucket.take(start), Ok(()));
        assert_eq!(bucket.take(start), Err(RETRY_AFTER_MAX));
    }

    proptest! {
        /// Whatever the times, no more pass than the burst and what the time gave.
        #[test]
        fn never_more_than_the_rate(rate in 0.5f64..200.0, steps in prop::collection::vec(0u64..400, 1..200)) {
            let start = Instant::now();
            let bucket = Bucket::new(rate, start);
            let (mut now, mut passed) = (start, 0u32);
            for ms in steps {
                now += Duration::from_millis(ms);
                passed += u32::from(bucket.take(now).is_ok());
            }
            let most = rate.max(1.0) + (now - start).as_secs_f64() * rate + 1e-6;
            prop_assert!(f64::from(passed) <= most, "{passed} > {most}");
        }
    }
}
