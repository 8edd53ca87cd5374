//! Asks: what a plugin wants of the host and of the operator, as far as more of it is more power, and what one wants
//! beyond another. Nothing of it is given by itself: a grant is what the operator writes.
//!
//! Settings that are no secrets are not among it: a plugin that reads one more text can do no more than before.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::http::Pattern;
use super::{Manifest, SettingKind};

/// Stands for every event where a manifest names none.
const EVERY_EVENT: &str = "*";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asks {
    /// Interfaces that it imports, without their versions.
    pub interfaces: BTreeSet<String>,
    pub origins: BTreeSet<String>,
    /// Keys of settings that are secrets.
    pub secrets: BTreeSet<String>,
    /// Types of events; `*`: every one.
    pub events: BTreeSet<String>,
}

impl Asks {
    pub(super) fn of(manifest: &Manifest, imports: &[String]) -> Asks {
        let interface = |import: &String| import.split('@').next().unwrap_or(import).to_owned();
        let secrets = manifest.settings.iter().filter(|setting| setting.kind == SettingKind::Secret);
        let mut events: BTreeSet<String> = manifest.events.iter().cloned().collect();
        if events.is_empty() {
            events.insert(EVERY_EVENT.to_owned());
        }
        Asks {
            interfaces: imports.iter().map(interface).collect(),
            origins: manifest.origins.iter().cloned().collect(),
            secrets: secrets.map(|setting| setting.key.clone()).collect(),
            events,
        }
    }

    /// What this one asks for and `other` did not.
    pub fn beyond(&self, other: &Asks) -> Asks {
        let without = |ours: &BTreeSet<String>, theirs: &BTreeSet<String>| -> BTreeSet<String> {
            ours.difference(theirs).cloned().collect()
        };
        let patterns: Vec<Pattern> = other.origins.iter().flat_map(|text| Pattern::parse(text)).collect();
        let is_covered = |origin: &String| {
            let wanted = Pattern::parse(origin);
            wanted.is_ok_and(|wanted| patterns.iter().any(|pattern| pattern.covers(&wanted)))
        };
        let mut origins = without(&self.origins, &other.origins);
        origins.retain(|origin| !is_covered(origin));
        let mut events = without(&self.events, &other.events);
        if other.events.contains(EVERY_EVENT) {
            events.clear();
        }
        Asks {
            interfaces: without(&self.interfaces, &other.interfaces),
            origins,
            secrets: without(&self.secrets, &other.secrets),
            events,
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Asks::default()
    }

    /// One for each thing, in words: `origin https://api.example.com`.
    pub fn lines(&self) -> Vec<String> {
        let all = [
            ("interface", &self.interfaces),
            ("origin", &self.origins),
            ("secret", &self.secrets),
            ("events", &self.events),
        ];
        all.iter().flat_map(|(word, list)| list.iter().map(move |one| format!("{word} {one}"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Setting;

    fn asks(imports: &[&str], origins: &[&str], secrets: &[&str], events: &[&str]) -> Asks {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let setting = |key: &&str, kind| Setting {
            key: (*key).to_owned(),
            kind,
            required: false,
            default: None,
            help: String::new(),
        };
        let mut settings: Vec<Setting> =
            secrets.iter().map(|key| setting(key, SettingKind::Secret)).collect();
        settings.push(setting(&"text", SettingKind::Text));
        let manifest = Manifest {
            name: "p".into(),
            version: "1".into(),
            description: String::new(),
            events: texts(events),
            origins: texts(origins),
            settings,
        };
        Asks::of(&manifest, &texts(imports))
    }

    #[test]
    fn what_is_new_is_named_and_nothing_else() {
        let old = asks(&["longshore:plugin/http@0.1.0"], &["https://*.example.com"], &["token"], &["a.*"]);
        let same = asks(&["longshore:plugin/http@0.1.7"], &["https://api.example.com"], &[], &["a.*"]);
        assert!(same.beyond(&old).is_empty(), "{:?}", same.beyond(&old));
        let more = asks(
            &["longshore:plugin/http@0.1.0", "longshore:plugin/state@0.1.0"],
            &["https://*.example.com", "https://evil.example"],
            &["token", "password"],
            &["a.*", "b.c"],
        );
        assert_eq!(
            more.beyond(&old).lines(),
            [
                "interface longshore:plugin/state",
                "origin https://evil.example",
                "secret password",
                "events b.c"
            ]
        );
        assert!(old.beyond(&more).is_empty());
        let every = asks(&[], &[], &[], &[]);
        assert_eq!(every.beyond(&old).lines(), ["events *"]);
        assert!(old.beyond(&every).events.is_empty());
    }
}
