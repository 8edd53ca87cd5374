//! Quantile: what share of the waits was no longer than this. By nearest rank, so every figure was really seen.

/// `sorted` ascending; `share` from 0 to 1. None where nothing was measured.
pub fn quantile(sorted: &[u32], share: f64) -> Option<u32> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// The usual ones as JSON, in microseconds. Sorts what it is given.
pub fn told(waits_us: &mut [u32]) -> serde_json::Value {
    waits_us.sort_unstable();
    let of = |share| quantile(waits_us, share);
    serde_json::json!({
        "count": waits_us.len(),
        "p50_us": of(0.5),
        "p90_us": of(0.9),
        "p99_us": of(0.99),
        "p999_us": of(0.999),
        "max_us": of(1.0),
    })
}

/// A wait that does not fit has lasted over an hour: nobody reads on from there.
pub fn micros(wait: std::time::Duration) -> u32 {
    u32::try_from(wait.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_seen() {
        let hundred: Vec<u32> = (1..=100).collect();
        for (share, value) in [(0.0, 1), (0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100)] {
            assert_eq!(quantile(&hundred, share), Some(value), "{share}");
        }
        assert_eq!(quantile(&[7], 0.99), Some(7));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn the_tail_is_not_lost_among_few() {
        let mut waits = vec![1, 1, 1, 90];
        assert_eq!(told(&mut waits)["p99_us"], 90);
    }
}
