//! Stops: for how long a lane held its deliveries back. That time does not count towards `retry.give_up_after`.
//!
//! Nobody tried in that time, and a delivery must not die because a service was down for longer than three days. Its
//! age for `store.open_max_age` goes on: nothing waits for ever.

use std::collections::VecDeque;
use std::time::Duration;

use crate::store::LaneEntry;
use crate::words::lane::LaneChange;
use crate::words::limits::LANE_STOPS_MAX;
use crate::words::time::Millis;

/// By the ledger's clock. From opening to closed, the return included, and from paused to resumed.
#[derive(Default)]
pub(super) struct Stops {
    /// From, until; oldest first. The oldest goes where there are too many: its time counts again.
    over: VecDeque<(Millis, Millis)>,
    since: Option<Millis>,
    is_open: bool,
    is_paused: bool,
}

impl Stops {
    /// From what history tells, newest first.
    pub(super) fn of(entries: &[LaneEntry]) -> Stops {
        let mut stops = Stops::default();
        entries.iter().rev().for_each(|entry| stops.changed(&entry.change, entry.clock));
        stops
    }

    pub(super) fn changed(&mut self, change: &LaneChange, clock: Millis) {
        match change {
            LaneChange::Opened { .. } | LaneChange::Returning { .. } => self.is_open = true,
            LaneChange::Closed { .. } => self.is_open = false,
            LaneChange::Paused { .. } => self.is_paused = true,
            LaneChange::Resumed { .. } => self.is_paused = false,
        }
        match (self.is_open || self.is_paused, self.since) {
            (true, None) => self.since = Some(clock),
            (false, Some(since)) => {
                self.since = None;
                self.over.push_back((since, clock));
                if self.over.len() > LANE_STOPS_MAX {
                    self.over.pop_front();
                }
            }
            _ => {}
        }
    }

    /// How much of the time between `from` and `now` the lane was stopped.
    pub(super) fn within(&self, from: Millis, now: Millis) -> Duration {
        let standing = self.since.map(|since| (since, now));
        let stops = self.over.iter().copied().chain(standing);
        stops.map(|(since, until)| until.min(now).since(since.max(from))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> LaneChange {
        LaneChange::Returning { origin: "https://x.example".to_owned(), since: Millis(0), probes: 1 }
    }

    fn closed() -> LaneChange {
        LaneChange::Closed { why: "well".to_owned(), since: Millis(0) }
    }

    fn ms(stops: &Stops, from: u64, now: u64) -> u128 {
        stops.within(Millis(from), Millis(now)).as_millis()
    }

    #[test]
    fn what_overlaps_counts_once() {
        let mut stops = Stops::default();
        assert_eq!(ms(&stops, 0, 1000), 0);
        stops.changed(&opened(), Millis(100));
        assert_eq!(ms(&stops, 0, 150), 50);
        stops.changed(&LaneChange::Paused { reason: None }, Millis(150));
        stops.changed(&closed(), Millis(200));
        stops.changed(&LaneChange::Resumed { reason: None }, Millis(300));
        assert_eq!(ms(&stops, 0, 1000), 200);
        assert_eq!(ms(&stops, 250, 1000), 50, "of a delivery that came late");
        assert_eq!(ms(&stops, 400, 1000), 0);
        stops.changed(&opened(), Millis(900));
        assert_eq!(ms(&stops, 0, 1000), 300);
    }

    #[test]
    fn history_tells_the_same() {
        let entry = |change, clock| LaneEntry { at: Millis(7), clock: Millis(clock), change };
        let newest_first = [entry(opened(), 900), entry(closed(), 300), entry(opened(), 100)];
        assert_eq!(ms(&Stops::of(&newest_first), 0, 1000), 300);
    }

    #[test]
    fn they_are_bounded() {
        let mut stops = Stops::default();
        for at in 0..2 * LANE_STOPS_MAX as u64 {
            stops.changed(&opened(), Millis(at * 10));
            stops.changed(&closed(), Millis(at * 10 + 1));
        }
        assert_eq!(ms(&stops, 0, u64::MAX), LANE_STOPS_MAX as u128);
    }
}
