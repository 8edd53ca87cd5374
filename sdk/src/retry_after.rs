//! `Retry-After` (RFC 9110, 10.2.3): seconds, or a date.
//!
//! A date is counted from the answer's own `Date` header where there is one: then no clock of ours is asked, and
//! a clock that is wrong on either side does not matter.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long to wait, if the answer says so.
pub(crate) fn wait(retry_after: Option<&str>, date: Option<&str>) -> Option<Duration> {
    let value = retry_after?.trim();
    if let Some(seconds) = seconds(value) {
        return Some(seconds);
    }
    let until = unix_seconds(value)?;
    let now = date.and_then(unix_seconds).unwrap_or_else(now);
    Some(Duration::from_secs(until.saturating_sub(now)))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whole seconds, as the standard has it, or with a fraction, as some services send it.
fn seconds(value: &str) -> Option<Duration> {
    let is_decimal = value.bytes().next()?.is_ascii_digit()
        && value.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && value.len() <= 20;
    is_decimal.then(|| value.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok())).flatten()
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that may be sent; the two obsolete ones are not read.
fn unix_seconds(date: &str) -> Option<u64> {
    let mut words = date.trim().split_once(", ")?.1.split(' ');
    let day: u64 = number(words.next()?, 2)?;
    let month = month(words.next()?)?;
    let year: u64 = number(words.next()?, 4)?;
    let mut clock = words.next()?.split(':');
    let (hour, minute, second) =
        (number(clock.next()?, 2)?, number(clock.next()?, 2)?, number(clock.next()?, 2)?);
    let in_range = (1..=31).contains(&day) && year >= 1970 && hour < 24 && minute < 60 && second <= 60;
    let at_end = words.next() == Some("GMT") && words.next().is_none() && clock.next().is_none();
    (in_range && at_end)
        .then(|| days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn number(text: &str, digits: usize) -> Option<u64> {
    let fits = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

fn month(name: &str) -> Option<u64> {
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    names.iter().position(|n| *n == name).map(|at| at as u64 + 1)
}

/// Howard Hinnant's `days_from_civil`, for years from 1970: a year begins in March, so that the leap day is last.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read() {
        let sent = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let rows = [
            (None, sent, None),
            (Some("30"), None, Some(30_000)),
            (Some(" 0 "), None, Some(0)),
            (Some("1.5"), None, Some(1_500)),
            (Some("Sun, 06 Nov 1994 08:50:37 GMT"), sent, Some(60_000)),
            (Some("Mon, 07 Nov 1994 08:49:37 GMT"), sent, Some(86_400_000)),
            (Some("Sun, 06 Nov 1994 08:40:00 GMT"), sent, Some(0)),
            (Some("Sun, 06 Nov 1994 08:40:00 GMT"), None, Some(0)),
            (Some("soon"), sent, None),
            (Some("-5"), sent, None),
            (Some("1e9"), sent, None),
            (Some(""), sent, None),
            (Some("Sun, 06 Nov 1994 08:49:37 CET"), sent, None),
            (Some("Sun, 06 Foo 1994 08:49:37 GMT"), sent, None),
            (Some("Sun, 06 Nov 1994 24:00:00 GMT"), sent, None),
            (Some("99999999999999999999999"), sent, None),
        ];
        for (retry_after, date, expected) in rows {
            let got = wait(retry_after, date).map(|wait| wait.as_millis());
            assert_eq!(got, expected, "{retry_after:?} sent at {date:?}");
        }
    }

    #[test]
    fn days_are_counted_over_leap_years() {
        let rows = [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
            ("Wed, 01 Mar 2000 00:00:00 GMT", 951_868_800),
            ("Tue, 24 Nov 2026 07:00:00 GMT", 1_795_503_600),
        ];
        for (date, expected) in rows {
            assert_eq!(unix_seconds(date), Some(expected), "{date}");
        }
    }

    #[test]
    fn a_date_without_the_answers_own_is_counted_from_now() {
        let far = wait(Some("Fri, 31 Dec 2100 00:00:00 GMT"), None).unwrap();
        assert!(far > Duration::from_secs(86_400));
    }
}
