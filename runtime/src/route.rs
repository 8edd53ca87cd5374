//! Route: which subscriptions want an event. Pure; an empty answer is a fact, not an error.
#![allow(clippy::todo, unused_variables)]

use crate::words::event::Name;

/// An event-type pattern: literal segments separated by `.`, where `*` stands for one or more whole segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {}

impl Pattern {
    /// # Errors
    /// In words: empty, an empty segment, `*` inside a segment.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        todo!()
    }

    /// `*` alone also matches the empty type.
    pub fn matches(&self, event_type: &str) -> bool {
        todo!()
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
pub struct Table {}

impl Table {
    pub fn new(subscriptions: Vec<Subscription>) -> Table {
        todo!()
    }

    /// Subscriptions of `source` that want `event_type`, in the order of their names.
    pub fn route<'a>(&'a self, source: &str, event_type: &'a str) -> impl Iterator<Item = &'a Subscription> {
        std::iter::empty()
    }
}
