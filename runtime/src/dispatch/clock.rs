//! Clock: the time by which deliveries are due. It starts where the wall clock stands and then goes on by itself.
//!
//! A wall clock that jumps would put retries off by what it jumps back, and run them all at once where it jumps
//! ahead. How old a delivery is, the ledger's clock says. What history shows is the wall clock's time all the same.

use tokio::time::Instant;

use crate::store::OpenDelivery;
use crate::words::limits::AFTER_MAX;
use crate::words::time::Millis;

#[derive(Clone, Copy)]
pub(super) struct Steady {
    started: Instant,
    at_start: Millis,
}

impl Steady {
    pub(super) fn start(now: Millis) -> Steady {
        Steady { started: Instant::now(), at_start: now }
    }

    pub(super) fn now(&self) -> Millis {
        self.at_start.plus(self.started.elapsed())
    }

    /// The later of both clocks: what is due by either may be asked of the ledger.
    pub(super) fn latest(&self, wall: Millis) -> Millis {
        self.now().max(wall)
    }

    /// When a delivery that was found in the ledger is due by this clock. What is due by the wall clock is due:
    /// the operator's `retry` is written with that. Nothing was ever asked to wait before its first attempt, nor for
    /// longer than `AFTER_MAX`: a time that says so was written under a wrong clock.
    pub(super) fn due(&self, delivery: &OpenDelivery, wall: Millis) -> Millis {
        let now = self.now();
        let was_tried = delivery.attempts > 0 || delivery.begun_without_end > 0;
        let waits = was_tried && delivery.due > wall && delivery.due <= now.plus(AFTER_MAX);
        if waits { delivery.due } else { delivery.due.min(now) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::words::event::{DeliveryId, EventRef, Name};

    const NOON: Millis = Millis(1_790_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn delivery(due: Millis, attempts: u32) -> OpenDelivery {
        let event = EventRef { position: 1, ordinal: 0 };
        OpenDelivery {
            id: DeliveryId { event, subscription: Name::new("s").unwrap() },
            handler: Name::new("h").unwrap(),
            due,
            accepted_at: NOON,
            attempts,
            begun_without_end: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_by_itself() {
        let clock = Steady::start(NOON);
        tokio::time::advance(HOUR).await;
        assert_eq!(clock.now(), NOON.plus(HOUR));
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_that_was_written_under_a_wrong_clock_is_not_waited_for() {
        let clock = Steady::start(NOON);
        let due = |at: Millis, attempts| clock.due(&delivery(at, attempts), NOON);
        assert_eq!(due(NOON.plus(HOUR), 1), NOON.plus(HOUR), "a retry waits");
        assert_eq!(due(NOON.plus(AFTER_MAX), 1), NOON.plus(AFTER_MAX), "as long as it was asked to");
        assert_eq!(due(NOON.plus(AFTER_MAX + HOUR), 1), NOON, "but no longer than it can have been");
        assert_eq!(due(NOON.plus(HOUR), 0), NOON, "and a first attempt does not wait");
        assert_eq!(due(NOON.minus(HOUR), 0), NOON.minus(HOUR), "what came first goes first");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_by_the_wall_clock_is_due() {
        let clock = Steady::start(NOON);
        let ruled = delivery(NOON.plus(HOUR), 3);
        assert_eq!(clock.due(&ruled, NOON), NOON.plus(HOUR));
        assert_eq!(
            clock.due(&ruled, NOON.plus(HOUR)),
            NOON,
            "the clock was put forward, then came the order"
        );
        assert_eq!(clock.latest(NOON.plus(HOUR)), NOON.plus(HOUR));
        assert_eq!(clock.latest(NOON.minus(HOUR)), NOON);
    }
}
