//! Asks: what each handler's plugin asked for when the daemon last ran, so that a new one that asks for more is noticed.
//!
//! It is a small file in the data directory and no part of the store: nothing but a sentence hangs on it. Where it is
//! missing or does not read, nothing is known, and nothing is said.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::build::Handlers;
use crate::host::{Asks, Plugin};
use crate::words::digest::Digest;
use crate::words::event::Name;
use crate::words::limits;

/// Below `store.path`.
const FILE: &str = "asks.json";

/// By handler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Known(BTreeMap<Name, KnownPlugin>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KnownPlugin {
    plugin: Digest,
    asks: Asks,
}

impl Known {
    pub fn read(data: &Path) -> Known {
        let path = data.join(FILE);
        let is_sound = std::fs::metadata(&path).is_ok_and(|file| file.len() <= limits::ASKS_FILE_BYTES_MAX);
        let text = is_sound.then(|| std::fs::read(&path).ok()).flatten();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// A sentence for the operator where another plugin than last time asks for more than that one.
    pub fn warning(&self, handler: &Name, plugin: &Plugin) -> Option<String> {
        let known = self.0.get(handler).filter(|known| known.plugin != plugin.digest())?;
        let more = plugin.asks().beyond(&known.asks);
        if more.is_empty() {
            return None;
        }
        Some(format!(
            "{} {} is another plugin than when the daemon last ran, and asks for more: {}; nothing of it is given by \
             itself. See `longshore plugin inspect FILE --against OLD_FILE`, and grant what you want it to have",
            plugin.manifest().name,
            plugin.manifest().version,
            more.lines().join(", ")
        ))
    }

    /// With what runs now. Handlers that are configured and not loaded, as disabled ones, keep what is known of them.
    pub fn with(mut self, handlers: &Handlers, is_configured: impl Fn(&Name) -> bool) -> Known {
        self.0.retain(|name, _| is_configured(name));
        for (name, handler) in handlers {
            let plugin = handler.plugin();
            self.0.insert(name.clone(), KnownPlugin { plugin: plugin.digest(), asks: plugin.asks() });
        }
        self
    }

    /// Whole or not at all.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(&self, data: &Path) -> std::io::Result<()> {
        let beside = data.join(format!("{FILE}.new"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&serde_json::to_vec(self).expect("names and lists of texts serialise"))?;
        file.sync_all()?;
        std::fs::rename(beside, data.join(FILE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(origins: &[&str]) -> Known {
        let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        let asks = Asks { origins, ..Asks::default() };
        Known([(Name::new("h").unwrap(), KnownPlugin { plugin: Digest::of(b"x"), asks })].into())
    }

    #[test]
    fn it_is_read_as_it_was_written_and_a_broken_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Known::read(folder.path()), Known::default());
        known(&["https://a.example"]).write(folder.path()).unwrap();
        known(&["https://b.example"]).write(folder.path()).unwrap();
        assert_eq!(Known::read(folder.path()), known(&["https://b.example"]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(Known::read(folder.path()), Known::default());
        let long = vec![b' '; usize::try_from(limits::ASKS_FILE_BYTES_MAX).unwrap()];
        std::fs::write(folder.path().join(FILE), [&long[..], b"{}"].concat()).unwrap();
        assert_eq!(Known::read(folder.path()), Known::default());
    }

    #[test]
    fn a_handler_that_is_gone_is_forgotten_and_a_disabled_one_is_not() {
        let none = Handlers::new();
        assert_eq!(known(&[]).with(&none, |_| true), known(&[]));
        assert_eq!(known(&[]).with(&none, |_| false), Known::default());
    }
}
