//! Remembered: the last refusals of one source, and which of them are worth a line in the log.
//!
//! Anybody on the Internet can cause refusals, at any rate. So both are bounded: the list by its length, the log
//! by lines for each reason in each window, with a count of what was left out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Refusal;
use crate::words::limits::{REFUSAL_LOG_LINES_MAX, REFUSAL_LOG_WINDOW, REFUSALS_REMEMBERED};

#[derive(Default)]
pub(super) struct Remembered {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Oldest first.
    last: VecDeque<Refusal>,
    /// By slug: slugs are ours, so there are few.
    told: BTreeMap<&'static str, Told>,
}

struct Told {
    window_began: Instant,
    lines: u32,
    left_out: u64,
}

impl Remembered {
    pub(super) fn keep(&self, refusal: Refusal) {
        let last = &mut self.lock().last;
        if last.len() == REFUSALS_REMEMBERED {
            last.pop_front();
        }
        last.push_back(refusal);
    }

    /// Newest first.
    pub(super) fn last(&self) -> Vec<Refusal> {
        self.lock().last.iter().rev().cloned().collect()
    }

    /// Whether a line about `slug` is to be logged now; if so, how many were left out since the line before.
    pub(super) fn may_tell(&self, slug: &'static str, now: Instant) -> Option<u64> {
        let mut inner = self.lock();
        let fresh = Told { window_began: now, lines: 0, left_out: 0 };
        let told = inner.told.entry(slug).or_insert(fresh);
        if now.saturating_duration_since(told.window_began) >= REFUSAL_LOG_WINDOW {
            told.window_began = now;
            told.lines = 0;
        }
        if told.lines == REFUSAL_LOG_LINES_MAX {
            told.left_out += 1;
            return None;
        }
        told.lines += 1;
        Some(std::mem::take(&mut told.left_out))
    }

    /// What was left out in windows that have ended, when no later line came to say so.
    pub(super) fn left_out(&self, now: Instant) -> Vec<(&'static str, u64)> {
        let mut inner = self.lock();
        let ended = inner.told.iter_mut().filter(|(_, told)| {
            told.left_out > 0 && now.saturating_duration_since(told.window_began) >= REFUSAL_LOG_WINDOW
        });
        ended.map(|(slug, told)| (*slug, std::mem::take(&mut told.left_out))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::time::Millis;

    fn refusal(at: u64) -> Refusal {
        Refusal {
            at: Millis(at),
            address: "203.0.113.7".into(),
            reason: "mismatch".into(),
            status: 401,
            detail: String::new(),
        }
    }

    #[test]
    fn the_last_hundred_are_kept_newest_first() {
        let remembered = Remembered::default();
        (0..REFUSALS_REMEMBERED as u64 + 20).for_each(|at| remembered.keep(refusal(at)));
        let last = remembered.last();
        assert_eq!(last.len(), REFUSALS_REMEMBERED);
        assert_eq!((last[0].at, last[REFUSALS_REMEMBERED - 1].at), (Millis(119), Millis(20)));
    }

    #[test]
    fn a_flood_is_told_in_a_few_lines_and_a_count() {
        let remembered = Remembered::default();
        let start = Instant::now();
        let told = (0..1000).filter(|_| remembered.may_tell("mismatch", start).is_some()).count();
        assert_eq!(told, REFUSAL_LOG_LINES_MAX as usize);
        assert_eq!(remembered.may_tell("stale", start), Some(0), "another reason has lines of its own");
        let later = start + REFUSAL_LOG_WINDOW;
        assert_eq!(remembered.may_tell("mismatch", later), Some(1000 - u64::from(REFUSAL_LOG_LINES_MAX)));
        assert_eq!(remembered.may_tell("mismatch", later), Some(0));
    }

    #[test]
    fn the_count_is_told_once_when_the_flood_is_over() {
        let remembered = Remembered::default();
        let start = Instant::now();
        let told =
            (0..REFUSAL_LOG_LINES_MAX + 7).filter(|_| remembered.may_tell("mismatch", start).is_some());
        assert_eq!(told.count(), REFUSAL_LOG_LINES_MAX as usize);
        assert_eq!(remembered.left_out(start), []);
        let later = start + REFUSAL_LOG_WINDOW;
        assert_eq!(remembered.left_out(later), [("mismatch", 7)]);
        assert_eq!(remembered.left_out(later), []);
    }
}
