//! The clock, and times as HubSpot writes them.

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-11-24T06:59:00.123Z`.
pub(crate) fn iso(ms: u64) -> String {
    let (days, ms_of_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (seconds, millis) = (ms_of_day / 1_000, ms_of_day % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Days since 1970 as a date: Howard Hinnant's `civil_from_days`, for the years that matter here.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Milliseconds since 1970, or a date and time with its zone: the two forms that HubSpot takes.
pub(crate) fn is_timestamp(text: &str) -> bool {
    is_millis(text) || is_iso(text)
}

fn is_millis(text: &str) -> bool {
    (1..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_iso(text: &str) -> bool {
    let Some((date, time)) = text.split_once('T') else { return false };
    let zone_at = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone_at);
    let clock = clock.split_once('.').map_or(clock, |(whole, _)| whole);
    numbers(date, '-', &[4, 2, 2]) && numbers(clock, ':', &[2, 2, 2]) && !zone.is_empty()
}

fn numbers(text: &str, separator: char, widths: &[usize]) -> bool {
    let parts: Vec<&str> = text.split(separator).collect();
    parts.len() == widths.len()
        && parts
            .iter()
            .zip(widths)
            .all(|(part, width)| part.len() == *width && part.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_hubspot_writes_them() {
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(iso(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(iso(1_772_323_199_000), "2026-02-28T23:59:59.000Z");
        assert_eq!(iso(1_772_323_200_000), "2026-03-01T00:00:00.000Z");
    }

    #[test]
    fn timestamps_are_millis_or_iso() {
        for good in
            ["1772323200000", "2026-03-01T00:00:00Z", "2026-03-01T00:00:00.000Z", "2026-03-01T00:00:00+01:00"]
        {
            assert!(is_timestamp(good), "{good}");
        }
        for bad in ["", "soon", "2026-03-01", "2026-03-01T00:00", "2026-03-01T00:00:00", "12 34"] {
            assert!(!is_timestamp(bad), "{bad}");
        }
    }
}
