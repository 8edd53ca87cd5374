//! Pace: when an event is meant to leave, when the clock runs, and the timer that wakes the loop for either.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// After the end: how often answers that do not come are looked for.
const WATCH: Duration = Duration::from_secs(1);

pub struct Pace {
    timer: OwnedFd,
    clock: Clock,
    /// For when the timer is set, so that it is not set again for the same moment.
    armed: Option<Instant>,
}

/// The arithmetic, without a timer.
struct Clock {
    started: Instant,
    measured_from: Instant,
    ends: Option<Instant>,
    events: Option<u64>,
    /// Of the open way.
    rhythm: Option<Rhythm>,
}

/// When events are meant to leave, counted from the start.
#[derive(Clone, Copy)]
pub struct Rhythm {
    rate: f64,
    tick: Duration,
}

impl Rhythm {
    /// `tick`: zero, or the time between two moments at which all that is due leaves together.
    pub fn new(rate: f64, tick: Duration) -> Rhythm {
        Rhythm { rate, tick }
    }

    fn after(&self, number: u64) -> Duration {
        let exact = Duration::from_secs_f64(number as f64 / self.rate);
        match self.tick.as_nanos() {
            0 => exact,
            tick => {
                let ticks = exact.as_nanos().div_ceil(tick);
                Duration::from_nanos(u64::try_from(ticks * tick).expect("no load lasts for centuries"))
            }
        }
    }
}

impl Pace {
    pub fn start(rhythm: Option<Rhythm>, events: Option<u64>, warm_up: f64, seconds: f64) -> Pace {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK);
        let clock = Clock::new(Instant::now(), rhythm, events, (warm_up, seconds));
        Pace { timer: timer.expect("the kernel has timers"), clock, armed: None }
    }

    pub fn timer(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    pub fn is_open(&self) -> bool {
        self.clock.rhythm.is_some()
    }

    pub fn is_over(&self, sent: u64, now: Instant) -> bool {
        self.clock.is_over(sent, now)
    }

    /// When the event of this number is meant to leave; None: as soon as a connection is free.
    pub fn meant_at(&self, number: u64) -> Option<Instant> {
        self.clock.meant_at(number)
    }

    pub fn is_measured(&self, now: Instant) -> bool {
        self.clock.is_measured(now)
    }

    pub fn measured_for(&self, last: Option<Instant>) -> Duration {
        self.clock.measured_for(last)
    }

    /// Wakes the loop at `next`, and at the end in any case; after the end, now and then.
    pub fn arm(&mut self, next: Option<Instant>) {
        let now = Instant::now();
        let at = match self.clock.ends {
            Some(ends) if ends <= now => now + WATCH,
            ends => match [next, ends].into_iter().flatten().min() {
                None => return,
                Some(at) => at,
            },
        };
        if self.armed.is_some_and(|armed| armed == at || (armed > now && self.clock.is_past_end(now))) {
            return;
        }
        // 0 would stop the timer; a moment that is past must ring at once.
        let wait = at.saturating_duration_since(now).max(Duration::from_nanos(1));
        let it_value = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).expect("no load lasts so long"),
            tv_nsec: wait.subsec_nanos().into(),
        };
        let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec).expect("a timer can be set");
        self.armed = Some(at);
    }

    /// The timer rang. After the end it is the watch over answers that do not come.
    pub fn rang(&mut self, patience: Duration) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.timer, &mut count);
        self.armed = None;
        let now = Instant::now();
        if let Some(ends) = self.clock.ends.filter(|ends| *ends <= now) {
            assert!(now < ends + patience, "the server did not answer for {} s", patience.as_secs());
        }
    }
}

impl Clock {
    fn new(
        started: Instant,
        rhythm: Option<Rhythm>,
        events: Option<u64>,
        (warm_up, seconds): (f64, f64),
    ) -> Clock {
        // A number of events ends the load by itself.
        let measured_from = started + Duration::from_secs_f64(if events.is_some() { 0.0 } else { warm_up });
        let ends = events.is_none().then(|| measured_from + Duration::from_secs_f64(seconds));
        Clock { started, measured_from, ends, events, rhythm }
    }

    fn is_over(&self, sent: u64, now: Instant) -> bool {
        self.events.is_some_and(|events| sent >= events) || self.ends.is_some_and(|ends| now >= ends)
    }

    fn meant_at(&self, number: u64) -> Option<Instant> {
        Some(self.started + self.rhythm?.after(number))
    }

    fn is_past_end(&self, now: Instant) -> bool {
        self.ends.is_some_and(|ends| ends <= now)
    }

    /// By when the answer came: what is answered after the end counts for nothing but the sum.
    fn is_measured(&self, now: Instant) -> bool {
        now >= self.measured_from && self.ends.is_none_or(|ends| now <= ends)
    }

    fn measured_for(&self, last: Option<Instant>) -> Duration {
        match (self.ends, last) {
            (Some(ends), _) => ends - self.measured_from,
            (None, Some(last)) => last - self.measured_from,
            (None, None) => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn the_open_way_means_fixed_moments_and_never_drifts() {
        let started = Instant::now();
        let rhythm = Rhythm::new(8_000.0, Duration::ZERO);
        let clock = Clock::new(started, Some(rhythm), None, (0.0, 60.0));
        assert_eq!(clock.meant_at(0), Some(started));
        assert_eq!(clock.meant_at(8), Some(started + Duration::from_millis(1)));
        assert_eq!(clock.meant_at(8_000 * 60), Some(started + 60 * S));
    }

    #[test]
    fn with_a_tick_what_is_due_leaves_together_and_none_too_early() {
        let rhythm = Rhythm::new(1_000.0, Duration::from_millis(5));
        let after: Vec<u128> = (0..=11).map(|number| rhythm.after(number).as_millis()).collect();
        assert_eq!(after, [0, 5, 5, 5, 5, 5, 10, 10, 10, 10, 10, 15]);
        assert_eq!(rhythm.after(60_000).as_secs(), 60);
    }

    #[test]
    fn the_closed_way_means_no_moment() {
        assert_eq!(Clock::new(Instant::now(), None, None, (0.0, 1.0)).meant_at(3), None);
    }

    #[test]
    fn only_what_is_answered_between_warm_up_and_end_is_measured() {
        let started = Instant::now();
        let clock = Clock::new(started, None, None, (1.0, 2.0));
        for (after, measured) in [(0, false), (1, true), (3, true), (4, false)] {
            assert_eq!(clock.is_measured(started + after * S), measured, "{after}");
        }
        assert_eq!(clock.measured_for(None), 2 * S);
        assert!(!clock.is_over(1 << 40, started + 2 * S));
        assert!(clock.is_over(0, started + 3 * S));
    }

    #[test]
    fn a_number_of_events_ends_it_whatever_the_time() {
        let started = Instant::now();
        let clock = Clock::new(started, None, Some(10), (1.0, 2.0));
        assert!(!clock.is_over(9, started + 100 * S));
        assert!(clock.is_over(10, started));
        assert!(clock.is_measured(started + 100 * S));
        assert_eq!(clock.measured_for(Some(started + 5 * S)), 5 * S);
    }
}
