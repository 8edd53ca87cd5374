//! The machine of a simulation: clocks that go when they are told to, and salts that can be thrown again.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::store::journal::simulated::dice::Dice;
use crate::store::machine::Machine;
use crate::words::time::Millis;

/// Cheap to clone; the clones are one machine.
#[derive(Clone)]
pub(super) struct Clockwork(Arc<Mutex<Times>>);

struct Times {
    wall_us: u64,
    since_start_us: u64,
    boot: u64,
    salts: Dice,
}

impl Clockwork {
    pub(super) fn new(now: Millis, salts: Dice) -> Clockwork {
        let times = Times { wall_us: now.0 * 1000, since_start_us: 0, boot: 1, salts };
        Clockwork(Arc::new(Mutex::new(times)))
    }

    pub(super) fn now(&self) -> Millis {
        Millis(self.times().wall_us / 1000)
    }

    /// Time goes by.
    pub(super) fn pass(&self, span: Duration) {
        let us = u64::try_from(span.as_micros()).expect("a simulation lasts some years");
        let mut times = self.times();
        times.wall_us += us;
        times.since_start_us += us;
    }

    /// Somebody sets the wall clock.
    pub(super) fn set(&self, now: Millis) {
        self.times().wall_us = now.0 * 1000;
    }

    pub(super) fn boot_again(&self) {
        self.times().boot += 1;
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl Machine for Clockwork {
    /// Never the same twice: no two things happen in one microsecond.
    fn now_us(&self) -> u64 {
        let mut times = self.times();
        times.wall_us += 1;
        times.wall_us
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.times().since_start_us)
    }

    fn boot_id(&self) -> String {
        format!("boot-{}", self.times().boot)
    }

    fn salt(&self) -> u64 {
        self.times().salts.throw()
    }
}
