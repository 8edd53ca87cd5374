//! Pace: concurrency and rate of one lane. No clock: the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

pub struct Pace {
    concurrency: usize,
    interval: Duration,
    next: Instant,
}

impl Pace {
    pub fn new(concurrency: usize, rate: Option<f64>) -> Pace {
        let interval = rate.filter(|r| *r > 0.0).map_or(Duration::ZERO, |r| Duration::from_secs_f64(1.0 / r));
        Pace { concurrency, interval, next: Instant::now() }
    }

    pub fn has_slot(&self, running: usize) -> bool {
        running < self.concurrency
    }

    pub fn allows(&self, running: usize, now: Instant) -> bool {
        self.has_slot(running) && now >= self.next
    }

    pub fn started(&mut self, now: Instant) {
        self.next = self.next.max(now) + self.interval;
    }

    pub fn next_at(&self, now: Instant) -> Instant {
        self.next.max(now)
    }

    /// False where it rests already.
    pub fn rest(&mut self, until: Instant) -> bool {
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
