//! Times: as an operator types them (`1h`, `2026-11-24T06:00:00Z`), and as they read in a listing.

use std::time::Duration;

use crate::words::time::Millis;

/// A moment in the past: so long ago, or at a time.
///
/// # Errors
/// In words, with what to type.
pub(super) fn moment(text: &str, now: Millis) -> Result<Millis, String> {
    if let Ok(ago) = span(text) {
        return Ok(now.minus(ago));
    }
    let at: jiff::Timestamp = text.parse().map_err(|_| {
        format!("`{text}` is no time; type how long ago, as `90s`, `15m`, `1h` or `7d`, or a time as `2026-11-24T06:00:00Z`")
    })?;
    let ms = u64::try_from(at.as_millisecond()).map_err(|_| format!("`{text}` is before 1970"))?;
    Ok(Millis(ms))
}

/// A time as an argument of the command line.
pub(super) fn moment_argument(text: &str) -> Result<Millis, String> {
    moment(text, Millis::now())
}

/// A span as `250ms`, `90s`, `15m`, `1h`, `7d`.
///
/// # Errors
/// In words, with what to type.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let bad =
        || format!("`{text}` is no span; type a number and a unit, as `250ms`, `90s`, `15m`, `1h` or `7d`");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 7 * 86_400_000,
        _ => return Err(bad()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(bad)
}

/// `85ms`, `1.2s`, `3m20s`.
pub(super) fn took(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        _ => crate::admin::view::span(Duration::from_secs(ms / 1000)),
    }
}

/// `640µs`, `1.2ms`, `85ms`.
pub(super) fn took_us(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}µs"),
        1_000..10_000 => format!("{}.{}ms", us / 1000, us % 1000 / 100),
        _ => took(us / 1000),
    }
}

/// How long from now, or ago: `in 4s`, `3m20s ago`.
pub(super) fn relative(at: Millis, now: Millis) -> String {
    let coarse = |span: Duration| took(span.as_millis() as u64 / 1000 * 1000).replace(".0s", "s");
    if at > now { format!("in {}", coarse(at.since(now))) } else { format!("{} ago", coarse(now.since(at))) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments_are_spans_ago_or_times() {
        let now = Millis(1_790_000_000_000);
        assert_eq!(moment("1h", now), Ok(Millis(1_789_996_400_000)));
        assert_eq!(moment("0s", now), Ok(now));
        assert_eq!(moment("2026-09-21T14:13:20Z", now), Ok(now));
        assert_eq!(moment("2026-09-21T16:13:20.000+02:00", now), Ok(now));
        for bad in ["", "1", "h", "1y", "-1h", "yesterday", "1960-01-01T00:00:00Z", "99999999999999999999h"] {
            assert!(moment(bad, now).is_err(), "{bad}");
        }
        assert!(moment("soon", now).unwrap_err().contains("type how long ago"));
    }

    #[test]
    fn durations_read_well() {
        assert_eq!([took(0), took(999), took(1_234), took(200_000)], ["0ms", "999ms", "1.2s", "3m20s"]);
        assert_eq!([took_us(640), took_us(1_234), took_us(85_000)], ["640µs", "1.2ms", "85ms"]);
        assert_eq!(relative(Millis(5_400), Millis(1_000)), "in 4s");
        assert_eq!(relative(Millis(1_000), Millis(201_500)), "3m20s ago");
    }

    proptest! {
        #[test]
        fn nothing_typed_can_panic(text in any::<String>(), now in any::<u64>()) {
            let _ = moment(&text, Millis(now));
        }
    }
}
