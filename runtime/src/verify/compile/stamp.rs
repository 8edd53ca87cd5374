//! The timestamp's part of a spec: where it is, its unit, and how far from now it may lie.

use std::time::Duration;

use super::{Judge, Words};
use crate::verify::extract::Place;
use crate::verify::spec::TimestampSpec;
use crate::verify::stamp::{self, Stamp, Unit};

const UNITS: Words<Unit> =
    &[("s", Unit::Seconds), ("ms", Unit::Millis), ("rfc3339", Unit::Rfc3339), ("http-date", Unit::HttpDate)];

impl Judge {
    /// None: something is wrong; Some(None): the scheme has no timestamp.
    pub(super) fn stamp(&mut self, spec: &TimestampSpec) -> Option<Option<Stamp>> {
        if *spec == TimestampSpec::default() {
            return Some(None);
        }
        let from = self.stamp_from(spec.from.as_deref());
        let unit = self.required("scheme.timestamp.unit", spec.unit.as_deref(), UNITS);
        let window = self.window(spec);
        Some(Some(Stamp { from: from?, unit: unit?, window: window? }))
    }

    fn stamp_from(&mut self, from: Option<&str>) -> Option<stamp::From> {
        const KEY: &str = "scheme.timestamp.from";
        match from {
            None => {
                self.say(
                    KEY,
                    "the timestamp's place is missing; write from: \"header:X\" or from: \"field:t\"",
                );
                None
            }
            Some(field) if field.starts_with("field:") => Some(stamp::From::Field),
            Some(text) => match self.place(KEY, text)? {
                Place::Numbered { .. } => {
                    self.say(KEY, "a timestamp is one header; write from: \"header:X\"");
                    None
                }
                place => Some(stamp::From::Place(place)),
            },
        }
    }

    fn window(&mut self, spec: &TimestampSpec) -> Option<Option<(Duration, Duration)>> {
        const KEY: &str = "scheme.timestamp.tolerance";
        let Some(tolerance) = spec.tolerance.as_deref() else {
            self.say(KEY, "how old may a signature be? write tolerance: 300s, or tolerance: none");
            return None;
        };
        if tolerance == "none" {
            self.meaningless("tolerance: none", &[("scheme.timestamp.future", spec.future.as_deref())]);
            return Some(None);
        }
        let past = self.span(KEY, tolerance);
        let future = match spec.future.as_deref() {
            Some(future) => self.span("scheme.timestamp.future", future),
            None => past,
        };
        Some(Some((past?, future?)))
    }

    fn span(&mut self, key: &str, text: &str) -> Option<Duration> {
        let span = parse_span(text);
        if span.is_none() {
            self.say(key, format!("`{text}` is not a span of time; write one as 300s, 10m or 1h"));
        }
        span
    }
}

/// A whole number with one unit: `300s`, `500ms`, `10m`, `1h`, `2d`.
pub(super) fn parse_span(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_ms).map(Duration::from_millis)
}
