//! Route: which subscriptions want an event. Pure; an empty answer is a fact, not an error.
//!
//! Most patterns are a plain type, so a source's table looks those up by the whole type and the others by their
//! first or last word. An event is matched against the few patterns that could fit, not against all.

use std::collections::HashMap;
use std::fmt;

use crate::words::event::Name;
use crate::words::limits::EVENT_TYPE_BYTES_MAX;

/// An event-type pattern: literal segments separated by `.`, where `*` stands for one or more whole segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// One or more segments.
    Any,
}

impl Pattern {
    /// # Errors
    /// In words: empty, too long, an empty segment, `*` inside a segment.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        if text.is_empty() {
            return Err("an event pattern is empty; write a type, or \"*\" for all".into());
        }
        if text.len() > EVENT_TYPE_BYTES_MAX {
            return Err(format!("an event pattern has at most {EVENT_TYPE_BYTES_MAX} bytes, as a type has"));
        }
        let segments =
            text.split('.').map(|segment| Segment::parse(segment, text)).collect::<Result<_, _>>()?;
        Ok(Pattern { segments })
    }

    /// `*` alone also matches the empty type.
    pub fn matches(&self, event_type: &str) -> bool {
        let found: Vec<&str> = event_type.split('.').collect();
        fits(&self.segments, &found)
    }

    fn literal(&self) -> Option<String> {
        self.segments.iter().all(|segment| *segment != Segment::Any).then(|| self.to_string())
    }
}

impl Segment {
    fn parse(segment: &str, pattern: &str) -> Result<Segment, String> {
        match segment {
            "" => Err(format!("`{pattern}` has an empty segment; write words with single dots between them")),
            "*" => Ok(Segment::Any),
            _ if segment.contains('*') => Err(format!(
                "`{pattern}`: `*` stands for whole segments only; write it between dots, as in \"message.*\""
            )),
            _ if segment.chars().any(|c| c.is_control() || c.is_whitespace()) => {
                Err(format!("`{}` holds a space; remove it", pattern.escape_debug()))
            }
            _ => Ok(Segment::Literal(segment.to_owned())),
        }
    }

    fn literal(&self) -> Option<&str> {
        match self {
            Segment::Literal(text) => Some(text),
            Segment::Any => None,
        }
    }
}

/// The usual walk for wildcards: on a mismatch the last `*` takes one segment more. Never more steps than
/// pattern × type.
fn fits(pattern: &[Segment], found: &[&str]) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where to go on in the pattern, and how far the last `*` has come.
    let mut retry: Option<(usize, usize)> = None;
    while from < found.len() {
        match pattern.get(at) {
            Some(Segment::Any) => {
                (at, from) = (at + 1, from + 1);
                retry = Some((at, from));
            }
            Some(Segment::Literal(text)) if text == found[from] => (at, from) = (at + 1, from + 1),
            _ => match retry {
                Some((after, taken)) => {
                    (at, from) = (after, taken + 1);
                    retry = Some((after, taken + 1));
                }
                None => return false,
            },
        }
    }
    at == pattern.len()
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segments: Vec<&str> =
            self.segments.iter().map(|segment| segment.literal().unwrap_or("*")).collect();
        f.write_str(&segments.join("."))
    }
}

/// One subscription, as the table needs it.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub name: Name,
    pub source: Name,
    pub handler: Name,
    pub events: Vec<Pattern>,
}

/// The subscriptions of all sources, by source.
#[derive(Clone, Debug, Default)]
pub struct Table {
    sources: HashMap<Name, Routes>,
}

/// One source's subscriptions, and where in that list to look for a type.
#[derive(Clone, Debug, Default)]
struct Routes {
    /// By name.
    subscriptions: Vec<Subscription>,
    /// Patterns without a `*`.
    exact: HashMap<String, Vec<usize>>,
    /// Patterns that begin with a literal, by it.
    by_first: HashMap<String, Vec<Wild>>,
    /// Of the others, those that end with a literal, by it.
    by_last: HashMap<String, Vec<Wild>>,
    /// `*`, `*.sent.*`
    other: Vec<Wild>,
}

#[derive(Clone, Debug)]
struct Wild {
    pattern: Pattern,
    subscription: usize,
}

impl Table {
    pub fn new(mut subscriptions: Vec<Subscription>) -> Table {
        subscriptions.sort_by(|a, b| a.name.cmp(&b.name));
        let mut table = Table::default();
        for subscription in subscriptions {
            table.sources.entry(subscription.source.clone()).or_default().add(subscription);
        }
        table
    }

    /// Subscriptions of `source` that want `event_type`, in the order of their names.
    pub fn route<'a>(&'a self, source: &str, event_type: &'a str) -> impl Iterator<Item = &'a Subscription> {
        let routes = self.sources.get(source);
        let wanted = routes.map(|routes| routes.wanted(event_type)).unwrap_or_default();
        wanted.into_iter().filter_map(move |at| routes.map(|routes| &routes.subscriptions[at]))
    }
}

impl Routes {
    fn add(&mut self, subscription: Subscription) {
        let at = self.subscriptions.len();
        for pattern in &subscription.events {
            self.index(pattern, at);
        }
        self.subscriptions.push(subscription);
    }

    fn index(&mut self, pattern: &Pattern, subscription: usize) {
        if let Some(literal) = pattern.literal() {
            self.exact.entry(literal).or_default().push(subscription);
            return;
        }
        let first = pattern.segments.first().and_then(Segment::literal);
        let last = pattern.segments.last().and_then(Segment::literal);
        let shelf = match (first, last) {
            (Some(first), _) => self.by_first.entry(first.to_owned()).or_default(),
            (None, Some(last)) => self.by_last.entry(last.to_owned()).or_default(),
            (None, None) => &mut self.other,
        };
        shelf.push(Wild { pattern: pattern.clone(), subscription });
    }

    fn wanted(&self, event_type: &str) -> Vec<usize> {
        let mut wanted: Vec<usize> = self.exact.get(event_type).into_iter().flatten().copied().collect();
        if self.has_wild() {
            let found: Vec<&str> = event_type.split('.').collect();
            let first = found.first().and_then(|first| self.by_first.get(*first));
            let last = found.last().and_then(|last| self.by_last.get(*last));
            let could_fit = first.into_iter().chain(last).flatten().chain(&self.other);
            let fit = could_fit.filter(|wild| fits(&wild.pattern.segments, &found));
            wanted.extend(fit.map(|wild| wild.subscription));
        }
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    fn has_wild(&self) -> bool {
        !(self.by_first.is_empty() && self.by_last.is_empty() && self.other.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, event_type: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(event_type)
    }

    #[test]
    fn a_star_stands_for_one_or_more_whole_segments() {
        for (pattern, good, bad) in [
            ("a.b", &["a.b"][..], &["a", "a.b.c", "A.b", "ab", ""][..]),
            (
                "message.*",
                &["message.sent", "message.sent.late"],
                &["message", "messages.sent", "x.message.sent"],
            ),
            ("*.received", &["message.received", "a.b.received"], &["received", "message.received.late"]),
            ("a.*.z", &["a.b.z", "a.b.c.z", "a.z.z"], &["a.z", "a.b", "a.b.z.c"]),
            ("*.b.*", &["a.b.c", "a.b.b.c", "b.b.b"], &["a.b", "b.c", "b.b"]),
            ("*", &["", "a", "a.b", ".", "a b"], &[]),
            ("*.*", &["a.b", "a.b.c"], &["", "a"]),
        ] {
            for event_type in good {
                assert!(matches(pattern, event_type), "{pattern} {event_type:?}");
            }
            for event_type in bad {
                assert!(!matches(pattern, event_type), "{pattern} {event_type:?}");
            }
        }
    }

    #[test]
    fn a_pattern_that_cannot_be_says_what_to_write() {
        for (text, words) in [
            ("", "is empty; write a type"),
            ("a..b", "empty segment"),
            (".a", "empty segment"),
            ("a.", "empty segment"),
            ("mess*", "whole segments only"),
            ("a.**", "whole segments only"),
            ("a. b", "holds a space"),
            ("a\n", "holds a space"),
        ] {
            assert!(Pattern::parse(text).unwrap_err().contains(words), "{text:?}");
        }
        assert!(Pattern::parse(&"a".repeat(EVENT_TYPE_BYTES_MAX)).is_ok());
        assert!(Pattern::parse(&"a".repeat(EVENT_TYPE_BYTES_MAX + 1)).unwrap_err().contains("at most"));
    }

    fn subscription(name: &str, source: &str, events: &[&str]) -> Subscription {
        Subscription {
            name: Name::new(name).unwrap(),
            source: Name::new(source).unwrap(),
            handler: Name::new("handler").unwrap(),
            events: events.iter().map(|text| Pattern::parse(text).unwrap()).collect(),
        }
    }

    fn routed(table: &Table, source: &str, event_type: &str) -> Vec<String> {
        table.route(source, event_type).map(|subscription| subscription.name.to_string()).collect()
    }

    #[test]
    fn a_subscription_is_wanted_once_and_by_its_own_source() {
        let table = Table::new(vec![
            subscription("z-all", "acme", &["*"]),
            subscription("leads", "acme", &["connection.*", "*.received", "message.received"]),
            subscription("replies", "acme", &["message.received", "reply.received"]),
            subscription("other", "other", &["*"]),
        ]);
        assert_eq!(routed(&table, "acme", "message.received"), ["leads", "replies", "z-all"]);
        assert_eq!(routed(&table, "acme", "connection.sent"), ["leads", "z-all"]);
        assert_eq!(routed(&table, "acme", ""), ["z-all"]);
        assert_eq!(routed(&table, "other", "message.received"), ["other"]);
        assert_eq!(routed(&table, "nobody", "message.received"), [""; 0]);
        assert_eq!(routed(&Table::default(), "acme", "a"), [""; 0]);
    }

    /// By definition, without care for speed.
    fn naive(pattern: &[&str], found: &[&str]) -> bool {
        match (pattern, found) {
            ([], []) => true,
            (["*", rest @ ..], [_, after @ ..]) => naive(rest, after) || naive(pattern, after),
            ([literal, rest @ ..], [first, after @ ..]) => literal == first && naive(rest, after),
            _ => false,
        }
    }

    fn naive_text(pattern: &str, event_type: &str) -> bool {
        let (pattern, found): (Vec<&str>, Vec<&str>) =
            (pattern.split('.').collect(), event_type.split('.').collect());
        naive(&pattern, &found)
    }

    const PATTERN: &str = "(a|b|\\*)(\\.(a|b|\\*)){0,4}";
    const TYPE: &str = "|(a|b|c)(\\.(a|b|c)){0,6}";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn matching_is_what_the_definition_says(pattern in PATTERN, event_type in TYPE) {
            prop_assert_eq!(matches(&pattern, &event_type), naive_text(&pattern, &event_type));
            prop_assert_eq!(Pattern::parse(&pattern).unwrap().to_string(), pattern);
        }

        #[test]
        fn the_table_finds_what_a_walk_over_all_finds(
            events in proptest::collection::vec(proptest::collection::vec(PATTERN, 1..4), 0..12),
            event_type in TYPE,
        ) {
            let named = |at: usize| format!("s{at:02}");
            let subscriptions = events.iter().enumerate().map(|(at, events)| {
                subscription(&named(at), "acme", &events.iter().map(String::as_str).collect::<Vec<_>>())
            });
            let table = Table::new(subscriptions.rev().collect());
            let expected: Vec<String> = (0..events.len())
                .filter(|at| events[*at].iter().any(|pattern| naive_text(pattern, &event_type)))
                .map(named)
                .collect();
            prop_assert_eq!(routed(&table, "acme", &event_type), expected);
        }

        #[test]
        fn no_text_panics(pattern in any::<String>(), event_type in any::<String>()) {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                pattern.matches(&event_type);
            }
        }
    }

    /// A pattern of stars against a long type must not take for ever.
    #[test]
    fn many_stars_are_walked_in_bounded_steps() {
        let pattern = Pattern::parse(&format!("{}b", "*.a.".repeat(60))).unwrap();
        assert!(!pattern.matches(&vec!["a"; 50_000].join(".")));
    }
}
