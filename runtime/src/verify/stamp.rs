//! Stamp: when a request was signed, and whether that is near enough to now.
//!
//! The raw text goes into the signed content and is never printed again from the number. The text must match
//! its unit's grammar to the letter, so that `+1`, `1_000`, `1.5`, `1e9` and ` 1` are not a time.

use std::time::Duration;

use super::extract::Place;
use super::{Refused, Request};
use crate::words::time::Millis;

#[derive(Debug)]
pub(super) struct Stamp {
    pub(super) from: From,
    pub(super) unit: Unit,
    /// Past and future; None: any time is near enough.
    pub(super) window: Option<(Duration, Duration)>,
}

#[derive(Debug)]
pub(super) enum From {
    /// An item of the signature.
    Field,
    Place(Place),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Millis,
    Rfc3339,
    HttpDate,
}

#[derive(Debug)]
pub(super) struct Read {
    pub(super) text: String,
    pub(super) at: Millis,
}

impl Stamp {
    /// `field`: what the signature held, where the timestamp is one of its items.
    pub(super) fn read(&self, request: &Request<'_>, field: Option<&str>) -> Result<Read, Refused> {
        let text = match &self.from {
            From::Field => {
                let field =
                    field.ok_or_else(|| Refused::Malformed("the signature holds no timestamp".into()));
                field?.to_owned()
            }
            From::Place(place) => place.require(request, "timestamp")?,
        };
        match self.unit.parse(&text) {
            Some(at) => Ok(Read { text, at }),
            None => Err(Refused::Malformed(format!("the timestamp is not {}", self.unit.name()))),
        }
    }

    /// Both bounds are inclusive: at 300 s allowed, 300 s old is good and 301 s is not.
    pub(super) fn check(&self, at: Millis, now: Millis) -> Result<Millis, Refused> {
        let Some((past, future)) = self.window else { return Ok(at) };
        let now = self.unit.truncate(now);
        let (age, ahead) = (now.since(at), at.since(now));
        if age > past {
            return Err(Refused::Stale { age_s: seconds_up(age), tolerance_s: past.as_secs() });
        }
        if ahead > future {
            return Err(Refused::Stale { age_s: -seconds_up(ahead), tolerance_s: future.as_secs() });
        }
        Ok(at)
    }

    pub(super) fn tolerance(&self) -> Option<(Duration, Duration)> {
        self.window
    }
}

/// Rounded up, so that a refusal never says "300 s old, 300 s allowed".
fn seconds_up(span: Duration) -> i64 {
    i64::try_from(span.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}

impl Unit {
    pub(super) fn parse(self, text: &str) -> Option<Millis> {
        match self {
            Unit::Seconds => digits(text, 1..=11).map(Millis::from_seconds),
            Unit::Millis => digits(text, 12..=14).map(Millis),
            Unit::Rfc3339 if is_rfc3339(text) => Millis::from_rfc3339(text),
            Unit::HttpDate if is_http_date(text) => Millis::from_http_date(text),
            Unit::Rfc3339 | Unit::HttpDate => None,
        }
    }

    /// As a sender would write it.
    pub(super) fn print(self, at: Millis) -> Result<String, String> {
        match self {
            Unit::Seconds => Ok((at.0 / 1000).to_string()),
            Unit::Millis => Ok(at.0.to_string()),
            Unit::Rfc3339 => Ok(at.to_string()),
            Unit::HttpDate => at.to_http_date().ok_or_else(|| "the time is beyond the year 9999".into()),
        }
    }

    /// Now, as precisely as the sender's clock was read: a stamp in whole seconds has lost its fraction.
    fn truncate(self, now: Millis) -> Millis {
        match self {
            Unit::Seconds | Unit::HttpDate => Millis::from_seconds(now.0 / 1000),
            Unit::Millis | Unit::Rfc3339 => now,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Unit::Seconds => "Unix seconds (1 to 11 digits)",
            Unit::Millis => "Unix milliseconds (12 to 14 digits)",
            Unit::Rfc3339 => "an RFC 3339 time (2026-11-24T06:48:55Z)",
            Unit::HttpDate => "an HTTP date (Tue, 24 Nov 2026 06:48:55 GMT)",
        }
    }
}

fn digits(text: &str, lengths: std::ops::RangeInclusive<usize>) -> Option<u64> {
    let is_plain = lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if is_plain { text.parse().ok() } else { None }
}

/// `2026-11-24T06:48:55`, then a fraction of at most nine digits or none, then `Z` or `+01:00`.
fn is_rfc3339(text: &str) -> bool {
    let Some((seconds, rest)) = text.split_at_checked(19) else { return false };
    let (fraction, zone) = rest.split_at(rest.find(['Z', '+', '-']).unwrap_or(rest.len()));
    let is_fraction = match fraction.strip_prefix('.') {
        Some(digits) => (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()),
        None => fraction.is_empty(),
    };
    has_shape(seconds, "0000-00-00T00:00:00")
        && is_fraction
        && (zone == "Z" || has_shape(zone, "+00:00") || has_shape(zone, "-00:00"))
}

/// The one form that RFC 9110 lets senders write: `Tue, 24 Nov 2026 06:48:55 GMT`.
fn is_http_date(text: &str) -> bool {
    has_shape(text, "Aaa, 00 Aaa 0000 00:00:00 GMT")
}

/// `0` stands for a digit, `A` and `a` for letters of that case; everything else for itself.
fn has_shape(text: &str, shape: &str) -> bool {
    let fits = |(found, wanted): (u8, u8)| match wanted {
        b'0' => found.is_ascii_digit(),
        b'A' => found.is_ascii_uppercase(),
        b'a' => found.is_ascii_lowercase(),
        other => found == other,
    };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp(unit: Unit, past: u64, future: u64) -> Stamp {
        let window = Some((Duration::from_secs(past), Duration::from_secs(future)));
        Stamp { from: From::Field, unit, window }
    }

    #[test]
    fn each_unit_has_a_strict_grammar() {
        for (unit, text, expected) in [
            (Unit::Seconds, "1790000000", 1_790_000_000_000),
            (Unit::Seconds, "0", 0),
            (Unit::Seconds, "01790000000", 1_790_000_000_000),
            (Unit::Millis, "1790000000123", 1_790_000_000_123),
            (Unit::Rfc3339, "2026-09-21T14:13:20Z", 1_790_000_000_000),
            (Unit::Rfc3339, "2026-09-21T14:13:20.123456789Z", 1_790_000_000_123),
            (Unit::Rfc3339, "2026-09-21T16:13:20+02:00", 1_790_000_000_000),
            (Unit::Rfc3339, "2026-09-21T07:13:20-07:00", 1_790_000_000_000),
            (Unit::HttpDate, "Mon, 21 Sep 2026 14:13:20 GMT", 1_790_000_000_000),
        ] {
            assert_eq!(unit.parse(text), Some(Millis(expected)), "{unit:?} {text}");
        }
        for (unit, wrong) in [
            (
                Unit::Seconds,
                &[
                    "",
                    "+1",
                    "-1",
                    " 1",
                    "1 ",
                    "1_000",
                    "1.5",
                    "1e9",
                    "1790000000abc",
                    "1790000000000",
                    "１",
                    "1\0",
                ][..],
            ),
            (
                Unit::Millis,
                &["1790000000", "17900000001", "179000000012345", "1790000000.12", "-790000000123"],
            ),
            (
                Unit::Rfc3339,
                &[
                    "",
                    "2026-09-21",
                    "2026-09-21 14:13:20Z",
                    "2026-09-21t14:13:20z",
                    "2026-09-21T14:13:20",
                    "2026-09-21T14:13:20.Z",
                    "2026-09-21T14:13:20.1234567890Z",
                    "2026-09-21T14:13:20+0200",
                    "2026-09-21T14:13:20Z[UTC]",
                    "2026-13-21T14:13:20Z",
                    "2026-02-30T14:13:20Z",
                    "1969-12-31T23:59:59Z",
                    "2026-09-21T14:13:2é",
                ],
            ),
            (
                Unit::HttpDate,
                &[
                    "Tue, 21 Sep 2026 14:13:20 GMT",
                    "Mon, 21 Sep 2026 14:13:20 UTC",
                    "21 Sep 2026 14:13:20 GMT",
                    "Mon, 21 Sep 26 14:13:20 GMT",
                    "Mon, 31 Feb 2026 14:13:20 GMT",
                ],
            ),
        ] {
            for text in wrong {
                assert_eq!(unit.parse(text), None, "{unit:?} {text:?}");
            }
        }
    }

    #[test]
    fn the_window_includes_its_ends() {
        let (stamp, at) = (stamp(Unit::Seconds, 300, 60), Millis::from_seconds(1000));
        for good in [700_000 + 240_000, 1_000_000, 1_300_000, 1_300_999] {
            assert_eq!(stamp.check(at, Millis(good)), Ok(at), "{good}");
        }
        let refused = |now: u64| stamp.check(at, Millis(now)).unwrap_err();
        assert_eq!(refused(1_301_000), Refused::Stale { age_s: 301, tolerance_s: 300 });
        assert_eq!(refused(939_999), Refused::Stale { age_s: -61, tolerance_s: 60 });
    }

    #[test]
    fn milliseconds_are_judged_to_the_millisecond() {
        let (stamp, at) = (stamp(Unit::Millis, 60, 60), Millis(1_000_000));
        assert!(stamp.check(at, Millis(1_060_000)).is_ok());
        assert!(stamp.check(at, Millis(940_000)).is_ok());
        assert_eq!(stamp.check(at, Millis(1_060_001)), Err(Refused::Stale { age_s: 61, tolerance_s: 60 }));
        assert_eq!(stamp.check(at, Millis(939_999)), Err(Refused::Stale { age_s: -61, tolerance_s: 60 }));
    }

    #[test]
    fn without_a_window_any_time_is_good() {
        let stamp = Stamp { from: From::Field, unit: Unit::Seconds, window: None };
        assert_eq!(stamp.check(Millis(0), Millis(u64::MAX)), Ok(Millis(0)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn what_a_unit_prints_it_parses(at in 100_000_000_000_u64..99_999_999_999_999) {
            for unit in [Unit::Seconds, Unit::Millis, Unit::Rfc3339, Unit::HttpDate] {
                let text = unit.print(Millis(at)).unwrap();
                prop_assert_eq!(unit.parse(&text), Some(unit.truncate(Millis(at))), "{:?} {}", unit, text);
            }
        }

        #[test]
        fn no_text_and_no_time_panics(text in any::<String>(), at in any::<u64>(), now in any::<u64>()) {
            for unit in [Unit::Seconds, Unit::Millis, Unit::Rfc3339, Unit::HttpDate] {
                let _ = unit.parse(&text);
                let _ = unit.print(Millis(at));
                let _ = stamp(unit, at / 2, now / 2).check(Millis(at), Millis(now));
            }
        }
    }
}
