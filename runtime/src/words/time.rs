//! Time as a value: wall-clock milliseconds, so that pure rooms take the time as an argument.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// The wall clock. Only effects, flows and assembly call this: the house test refuses it in pure rooms.
    pub fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn from_seconds(seconds: u64) -> Self {
        Millis(seconds.saturating_mul(1000))
    }

    pub fn plus(self, span: Duration) -> Self {
        Millis(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    pub fn minus(self, span: Duration) -> Self {
        Millis(self.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier`; zero where it is not after it.
    pub fn since(self, earlier: Millis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// `2026-11-24T06:48:55Z`, with a fraction and an offset where they are there; None: no such time, or one
    /// before 1970. Takes what jiff takes, which is more than RFC 3339 allows.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        Millis::of(text.parse().ok()?)
    }

    /// `Tue, 24 Nov 2026 06:48:55 GMT`; None: no such time (a wrong weekday included), or one before 1970.
    pub fn from_http_date(text: &str) -> Option<Self> {
        Millis::of(jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?)
    }

    /// As RFC 9110 wants it, the milliseconds cut off; None: beyond the year 9999.
    pub fn to_http_date(self) -> Option<String> {
        let at = jiff::Timestamp::from_millisecond(i64::try_from(self.0).ok()?).ok()?;
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()
    }

    fn of(at: jiff::Timestamp) -> Option<Self> {
        u64::try_from(at.as_millisecond()).ok().map(Millis)
    }
}

impl fmt::Display for Millis {
    /// RFC 3339 with milliseconds, UTC: `2026-11-24T06:48:55.120Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(ms) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_rfc3339() {
        assert_eq!(Millis(1_790_000_000_123).to_string(), "2026-09-21T14:13:20.123Z");
        assert_eq!(Millis(0).to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn reads_and_writes_the_times_of_others() {
        let at = Millis(1_790_000_000_000);
        assert_eq!(Millis::from_rfc3339("2026-09-21T14:13:20Z"), Some(at));
        assert_eq!(Millis::from_rfc3339("2026-09-21T16:13:20.000+02:00"), Some(at));
        assert_eq!(Millis::from_http_date("Mon, 21 Sep 2026 14:13:20 GMT"), Some(at));
        assert_eq!(Millis(at.0 + 999).to_http_date().as_deref(), Some("Mon, 21 Sep 2026 14:13:20 GMT"));
        assert_eq!(Millis(u64::MAX).to_http_date(), None);
        for wrong in ["", "yesterday", "1969-12-31T23:59:59Z", "2026-02-30T00:00:00Z"] {
            assert_eq!(Millis::from_rfc3339(wrong), None, "{wrong}");
        }
        assert_eq!(Millis::from_http_date("Tue, 21 Sep 2026 14:13:20 GMT"), None);
    }
}
