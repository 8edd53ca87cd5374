//! Backoff: when to try again. Pure: the time and the dice are arguments.
//!
//! Full jitter spreads the deliveries that failed together over the whole delay, so that a service which comes
//! back is not met by all of them at once.

use std::time::Duration;

use crate::words::limits::{AFTER_MAX, AFTER_MIN};
use crate::words::time::Millis;

#[derive(Clone, Debug)]
pub struct Policy {
    pub give_up_after: Duration,
    pub first_delay: Duration,
    pub factor: f64,
    pub max_delay: Duration,
    pub jitter: Jitter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// Uniform between nothing and the whole delay.
    Full,
    None,
}

/// When to try again after `attempts` ended attempts, or None: it is time to give up.
///
/// `asked`: how long the handler asked to wait; clamped to `limits::AFTER_MIN` and `AFTER_MAX`, not jittered.
/// `dice`: uniform in 0..1. A delay that would pass `accepted_at + give_up_after` becomes one last try at that
/// moment; after it, None.
pub fn next(
    policy: &Policy,
    attempts: u32,
    accepted_at: Millis,
    now: Millis,
    asked: Option<Duration>,
    dice: f64,
) -> Option<Millis> {
    let last = accepted_at.plus(policy.give_up_after);
    if now >= last {
        return None;
    }
    let delay = match asked {
        Some(asked) => asked.clamp(AFTER_MIN, AFTER_MAX),
        None => jittered(policy.jitter, delay(policy, attempts), dice),
    };
    Some(now.plus(delay).min(last))
}

/// The whole delay after so many attempts: `first_delay`, and `factor` times longer after each, to `max_delay`.
fn delay(policy: &Policy, attempts: u32) -> Duration {
    let exponent = i32::try_from(attempts.saturating_sub(1)).unwrap_or(i32::MAX);
    // A factor below 1, or none at all, would make a storm of what should calm down.
    let factor = if policy.factor >= 1.0 { policy.factor } else { 1.0 };
    let seconds = policy.first_delay.as_secs_f64() * factor.powi(exponent);
    // Beyond what a duration holds, infinite included, it is the longest.
    Duration::try_from_secs_f64(seconds).unwrap_or(policy.max_delay).min(policy.max_delay)
}

fn jittered(jitter: Jitter, delay: Duration, dice: f64) -> Duration {
    match jitter {
        Jitter::None => delay,
        Jitter::Full if dice > 0.0 => delay.mul_f64(dice.min(1.0)),
        Jitter::Full => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::words::limits::{
        BACKOFF_FACTOR_DEFAULT, FIRST_DELAY_DEFAULT, GIVE_UP_AFTER_DEFAULT, MAX_DELAY_DEFAULT,
    };

    const START: Millis = Millis(1_790_000_000_000);

    fn policy(jitter: Jitter) -> Policy {
        Policy {
            give_up_after: GIVE_UP_AFTER_DEFAULT,
            first_delay: FIRST_DELAY_DEFAULT,
            factor: BACKOFF_FACTOR_DEFAULT,
            max_delay: MAX_DELAY_DEFAULT,
            jitter,
        }
    }

    fn seconds_until_next(attempts: u32, dice: f64, jitter: Jitter) -> f64 {
        next(&policy(jitter), attempts, START, START, None, dice).unwrap().since(START).as_secs_f64()
    }

    #[test]
    fn the_delay_doubles_to_its_longest() {
        let delays: Vec<f64> =
            (1..=12).map(|attempts| seconds_until_next(attempts, 0.3, Jitter::None)).collect();
        assert_eq!(delays, [5., 10., 20., 40., 80., 160., 320., 640., 1280., 2560., 3600., 3600.]);
        assert_eq!(seconds_until_next(0, 0.5, Jitter::None), 5.);
        assert_eq!(seconds_until_next(u32::MAX, 0.5, Jitter::None), 3600.);
    }

    #[test]
    fn full_jitter_takes_a_share_of_the_delay() {
        for (dice, expected) in
            [(0.0, 0.), (0.25, 5.), (0.5, 10.), (1.0, 20.), (7.0, 20.), (-1.0, 0.), (f64::NAN, 0.)]
        {
            assert_eq!(seconds_until_next(3, dice, Jitter::Full), expected, "{dice}");
        }
    }

    #[test]
    fn what_the_handler_asked_for_is_honoured_and_clamped() {
        let asked = |seconds| {
            let asked = Some(Duration::from_secs(seconds));
            next(&policy(Jitter::Full), 9, START, START, asked, 0.1).unwrap().since(START)
        };
        assert_eq!(asked(0), AFTER_MIN);
        assert_eq!(asked(30), Duration::from_secs(30));
        assert_eq!(asked(AFTER_MAX.as_secs()), AFTER_MAX);
        assert_eq!(asked(u64::MAX), AFTER_MAX);
    }

    #[test]
    fn the_last_try_is_at_the_end_and_none_comes_after_it() {
        let policy = policy(Jitter::None);
        let end = START.plus(policy.give_up_after);
        let just_before = Millis(end.0 - 1);
        assert_eq!(next(&policy, 20, START, just_before, None, 0.5), Some(end));
        assert_eq!(next(&policy, 20, START, just_before, Some(AFTER_MAX), 0.5), Some(end));
        assert_eq!(next(&policy, 21, START, end, None, 0.5), None);
        assert_eq!(next(&policy, 1, START, Millis(end.0 + 1), None, 0.5), None);
    }

    #[test]
    fn a_factor_that_shrinks_or_is_no_number_counts_as_one() {
        for factor in [0.0, 0.5, -3.0, f64::NAN] {
            let policy = Policy { factor, ..policy(Jitter::None) };
            assert_eq!(
                next(&policy, 30, START, START, None, 0.5),
                Some(START.plus(FIRST_DELAY_DEFAULT)),
                "{factor}"
            );
        }
        let policy = Policy { factor: f64::INFINITY, ..policy(Jitter::None) };
        assert_eq!(next(&policy, 2, START, START, None, 0.5), Some(START.plus(MAX_DELAY_DEFAULT)));
    }

    fn any_policy() -> impl Strategy<Value = Policy> {
        (0_u64..10_000_000, 0_u64..100_000, 0.5..10.0_f64, 0_u64..10_000_000, any::<bool>()).prop_map(
            |(give_up, first, factor, max, full)| Policy {
                give_up_after: Duration::from_millis(give_up),
                first_delay: Duration::from_millis(first),
                factor,
                max_delay: Duration::from_millis(max),
                jitter: if full { Jitter::Full } else { Jitter::None },
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn a_try_lies_between_now_and_the_end_and_within_the_longest_delay(
            policy in any_policy(),
            attempts in any::<u32>(),
            elapsed in 0_u64..20_000_000,
            asked in proptest::option::of(0_u64..200_000_000),
            dice in 0.0..1.0_f64,
        ) {
            let now = Millis(START.0 + elapsed);
            let end = START.plus(policy.give_up_after);
            let asked = asked.map(Duration::from_millis);
            match next(&policy, attempts, START, now, asked, dice) {
                None => prop_assert!(now >= end),
                Some(at) => {
                    prop_assert!(now < end && at >= now && at <= end);
                    let longest = asked.map_or(policy.max_delay, |asked| asked.clamp(AFTER_MIN, AFTER_MAX));
                    prop_assert!(at.since(now) <= longest);
                    if let Some(asked) = asked {
                        prop_assert!(at == end || at.since(now) == asked.clamp(AFTER_MIN, AFTER_MAX));
                    }
                }
            }
        }

        /// Without jitter a later attempt never waits less than an earlier one.
        #[test]
        fn delays_do_not_shrink(policy in any_policy(), attempts in 1_u32..1000) {
            prop_assert!(delay(&policy, attempts) <= delay(&policy, attempts + 1));
        }

        /// However the dice fall, tries come to an end.
        #[test]
        fn a_delivery_is_given_up(
            first in 1_u64..1000,
            dice in proptest::collection::vec(0.1..1.0_f64, 64),
        ) {
            let policy = Policy { first_delay: Duration::from_secs(first), ..policy(Jitter::Full) };
            let (mut now, mut tries) = (START, 0);
            while let Some(at) = next(&policy, tries + 1, START, now, None, dice[tries as usize % dice.len()]) {
                now = at;
                tries += 1;
                prop_assert!(tries < 10_000);
            }
            prop_assert_eq!(now, START.plus(policy.give_up_after));
        }

        #[test]
        fn no_number_panics(
            attempts in any::<u32>(), factor in any::<f64>(), dice in any::<f64>(),
            times in any::<(u64, u64, u64, u64, u64)>(),
        ) {
            let (give_up, first, max, accepted, now) = times;
            for jitter in [Jitter::Full, Jitter::None] {
                let policy = Policy {
                    give_up_after: Duration::from_secs(give_up),
                    first_delay: Duration::from_secs(first),
                    factor,
                    max_delay: Duration::from_secs(max),
                    jitter,
                };
                let _ = next(&policy, attempts, Millis(accepted), Millis(now), None, dice);
            }
        }
    }
}
