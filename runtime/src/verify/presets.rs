//! Presets: the schemes that ship with the daemon, in the language that an operator writes.
//!
//! `presets.yaml` is all there is of them. Its comments are data too: above each preset stands who sends so, how
//! sure that is, and what somebody who uses it must know, for `longshore presets` and docs/providers.md.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::challenge;
use super::spec::Preset;
use crate::words::yaml;

const TEXT: &str = include_str!("presets.yaml");
const TESTED: &str = "presets.yaml is in the binary, and tested";

static VALUES: LazyLock<Map<String, Value>> =
    LazyLock::new(|| match yaml::parse(TEXT).expect(TESTED).value {
        Value::Object(presets) => presets,
        other => panic!("{TESTED}: {other}"),
    });
static PRESETS: LazyLock<BTreeMap<String, Preset>> = LazyLock::new(|| {
    let read = |(name, value): (&String, &Value)| {
        let mut preset: Preset = serde_json::from_value(value.clone()).expect(TESTED);
        preset.challenge = preset.challenge.take().or_else(|| challenge::preset(name).cloned());
        (name.clone(), preset)
    };
    VALUES.iter().map(read).collect()
});
static CARDS: LazyLock<Vec<Card>> = LazyLock::new(|| TEXT.split("\n\n").filter_map(Card::read).collect());

/// A preset by name: `presets.yaml` is data in the language that a user writes.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.get(name)
}

/// All of them, in alphabetical order.
pub fn preset_names() -> Vec<&'static str> {
    PRESETS.keys().map(String::as_str).collect()
}

/// What people are told of each preset, in the order of the file: families together.
pub fn preset_cards() -> &'static [Card] {
    &CARDS
}

/// A preset as a person meets it.
#[derive(Debug, PartialEq, Eq)]
pub struct Card {
    pub name: &'static str,
    /// Who sends so: `GitHub`, `Standard Webhooks, asymmetric`.
    pub provider: &'static str,
    /// How sure its facts are: `A` (computed against the provider's software) to `D` (general knowledge).
    pub grade: &'static str,
    /// Where they were found.
    pub source: &'static str,
    /// What somebody who uses it must know: whole sentences on one line.
    pub notes: String,
    /// The comment above it, line by line.
    pub comment: &'static str,
    /// Its keys as a source holds them, indented by two.
    pub yaml: &'static str,
}

impl Card {
    /// `# Provider. Grade A: source`, lines of notes, `name:`, its keys. None: a heading, or the file's own head.
    fn read(block: &'static str) -> Option<Card> {
        let block = block.trim_end();
        let start = if block.starts_with('#') { block.find("\n")? + 1 } else { return None };
        let (first, rest) = (block[1..start].trim(), &block[start..]);
        let keys = rest.match_indices('\n').map(|(at, _)| at + 1).find(|at| !rest[*at..].starts_with('#'));
        let keys = if rest.starts_with('#') { keys? } else { 0 };
        let (name, yaml) = rest[keys..].split_once(":\n")?;
        let (provider, facts) = first.split_once(". Grade ")?;
        let (grade, source) = facts.split_once(": ")?;
        let notes = rest[..keys].lines().map(|line| line.trim_start_matches('#').trim());
        Some(Card {
            name,
            provider,
            grade,
            source,
            notes: notes.collect::<Vec<_>>().join(" "),
            comment: block[..start + keys].trim_end(),
            yaml,
        })
    }

    /// Its keys as JSON: `{ "scheme": …, "event": … }`.
    pub fn value(&self) -> &'static Value {
        VALUES.get(self.name).expect(TESTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_has_a_card_and_every_card_a_preset() {
        let mut names: Vec<&str> = preset_cards().iter().map(|card| card.name).collect();
        names.sort_unstable();
        assert_eq!(names, preset_names());
        assert!(names.len() >= 85, "{}", names.len());
        assert_eq!(preset("acme"), None);
        for card in preset_cards() {
            let name = card.name;
            assert!(matches!(card.grade, "A" | "B" | "C" | "D"), "{name}: {}", card.grade);
            assert!(!card.provider.is_empty() && !card.source.is_empty(), "{name}");
            assert!(card.notes.ends_with('.'), "{name}: {}", card.notes);
            assert!(card.comment.lines().all(|line| line.starts_with("# ")), "{name}: {}", card.comment);
            let alone: Value = yaml::parse(card.yaml).unwrap().value;
            assert_eq!(alone, *card.value(), "{name}: what is printed is what is in use");
            let name_is_plain =
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            assert!(name_is_plain, "{name}");
        }
    }

    #[test]
    fn a_card_reads_as_it_is_written() {
        let text = "# Acme, Inc. Grade B: acme.example\n# It is slow. Wait\n# for it.\nacme:\n  scheme: {}\n  event: {}\n";
        let card = Card::read(text).unwrap();
        assert_eq!((card.provider, card.grade, card.source), ("Acme, Inc", "B", "acme.example"));
        assert_eq!((card.name, card.notes.as_str()), ("acme", "It is slow. Wait for it."));
        assert_eq!(card.yaml, "  scheme: {}\n  event: {}");
        assert_eq!(card.comment.lines().count(), 3);
        for other in
            ["", "# === A heading ===", "# a\n# b", "acme:\n  scheme: {}", "# Acme\nacme:\n  scheme: {}"]
        {
            assert_eq!(Card::read(other), None, "{other:?}");
        }
    }
}
