//! Rotation: when each of a source's secrets ends. Time is an argument.

use std::time::Duration;

use crate::words::time::Millis;

/// One secret of a source's list, newest first.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// `until` as configured.
    pub until: Option<Millis>,
    /// When the daemon first saw it below a newer one; None for the first, or where that is not yet known.
    pub demoted_at: Option<Millis>,
}

/// The last moment at which each secret is accepted; None: no end.
///
/// An `until` always counts as written. Without one, the first secret has no end, and one below it ends
/// `window` after it was first seen below a newer one.
pub fn ends(turns: &[Turn], window: Duration) -> Vec<Option<Millis>> {
    turns
        .iter()
        .enumerate()
        .map(|(i, turn)| match (turn.until, i) {
            (Some(until), _) => Some(until),
            (None, 0) => None,
            (None, _) => turn.demoted_at.map(|at| at.plus(window)),
        })
        .collect()
}

pub fn is_live(ends: Option<Millis>, now: Millis) -> bool {
    ends.is_none_or(|end| now <= end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(24 * 3600);
    const NOW: Millis = Millis(1_790_000_000_000);

    fn turn(until: Option<Millis>, demoted_at: Option<Millis>) -> Turn {
        Turn { until, demoted_at }
    }

    #[test]
    fn the_first_secret_never_ends() {
        assert_eq!(ends(&[turn(None, None)], WINDOW), [None]);
        // Demoted once, and first again: the operator took the newer one back.
        assert_eq!(ends(&[turn(None, Some(NOW))], WINDOW), [None]);
        assert_eq!(ends(&[], WINDOW), []);
    }

    #[test]
    fn one_below_ends_a_window_after_it_was_first_seen_there() {
        let turns = [turn(None, None), turn(None, Some(NOW)), turn(None, Some(NOW.minus(WINDOW)))];
        assert_eq!(ends(&turns, WINDOW), [None, Some(NOW.plus(WINDOW)), Some(NOW)]);
        assert_eq!(ends(&turns, Duration::ZERO)[1], Some(NOW));
    }

    #[test]
    fn one_below_that_was_not_yet_seen_there_has_no_end_yet() {
        assert_eq!(ends(&[turn(None, None), turn(None, None)], WINDOW), [None, None]);
    }

    #[test]
    fn until_counts_as_written() {
        let (past, future) = (NOW.minus(WINDOW), NOW.plus(WINDOW));
        let turns = [turn(Some(past), None), turn(Some(future), Some(NOW)), turn(Some(past), Some(NOW))];
        assert_eq!(ends(&turns, Duration::ZERO), [Some(past), Some(future), Some(past)]);
    }

    #[test]
    fn a_secret_is_live_to_the_last_millisecond() {
        let end = NOW.plus(WINDOW);
        assert!(is_live(Some(end), Millis(end.0 - 1)));
        assert!(is_live(Some(end), end));
        assert!(!is_live(Some(end), Millis(end.0 + 1)));
        assert!(is_live(None, Millis(u64::MAX)));
    }
}
