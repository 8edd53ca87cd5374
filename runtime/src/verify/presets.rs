//! Presets: the schemes that ship with the daemon, in the language that an operator writes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::spec::Preset;
use crate::words::yaml;

static PRESETS: LazyLock<BTreeMap<String, Preset>> = LazyLock::new(|| {
    let document =
        yaml::parse(include_str!("presets.yaml")).expect("presets.yaml is in the binary, and tested");
    serde_json::from_value(document.value).expect("presets.yaml is in the binary, and tested")
});

/// A preset by name: `presets.yaml` is data in the language that a user writes.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.get(name)
}

/// All of them, in alphabetical order.
pub fn preset_names() -> Vec<&'static str> {
    PRESETS.keys().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Scheme;
    use super::*;

    #[test]
    fn every_preset_compiles_and_names_its_events() {
        assert_eq!(preset_names(), ["github", "sendpilot", "slack", "standard-webhooks", "stripe"]);
        for name in preset_names() {
            let preset = preset(name).unwrap();
            let scheme =
                Scheme::compile(&preset.scheme, &preset.event).map_err(|problems| format!("{problems:?}"));
            let scheme = scheme.unwrap_or_else(|problems| panic!("{name}: {problems}"));
            assert!(scheme.notes().is_empty(), "{name}: {:?}", scheme.notes());
            assert!(!scheme.needs_url(), "{name}");
            assert!(preset.event.id.is_some() && preset.event.kind.is_some(), "{name}");
        }
        assert_eq!(preset("acme"), None);
    }
}
