//! Dice: the run's choices, from one seed. What threads and kernels do with them is chance all the same: a seed
//! repeats the plan of a run, not its timing.

use std::time::Duration;

/// SplitMix64, which is enough for choices.
#[derive(Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Dice of their own for somebody who throws in parallel.
    pub(super) fn split(&mut self) -> Dice {
        Dice(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least `from`, below `to`.
    pub(super) fn between(&mut self, from: usize, to: usize) -> usize {
        let width = to.saturating_sub(from).max(1) as u64;
        from + usize::try_from(self.next() % width).unwrap_or_default()
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.between(0, n) == 0
    }

    pub(super) fn milliseconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from * 1000 + self.next() % ((to - from).max(1) * 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_nothing_is_out_of_bounds() {
        let throw = |seed| {
            let mut dice = Dice::new(seed);
            (0..1000).map(|_| dice.between(3, 9)).collect::<Vec<_>>()
        };
        assert_eq!(throw(7), throw(7));
        assert_ne!(throw(7), throw(8));
        assert!((3..9).all(|n| throw(7).contains(&n)) && throw(7).iter().all(|n| (3..9).contains(n)));
        let waits: Vec<_> = (0..100).map(|_| Dice::new(1).milliseconds(20, 30)).collect();
        assert!(waits.iter().all(|wait| (20..30).contains(&wait.as_millis())));
    }
}
