//! Inspect: what a plugin is and asks for, and the lines of configuration that would give it that.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::cli::events::show_facts;
use crate::cli::failure::Failure;
use crate::cli::screen::{Screen, Tone, clean};
use crate::cli::{Ended, Result};
use crate::host::{Asks, Engine, Manifest, Options, Plugin, Setting, SettingKind};
use crate::words::digest::Digest;
use crate::words::event::Name;

/// Show what a plugin is, what it asks for, and the lines of configuration that would give it that.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore plugin inspect plugins/slack_notify.wasm
  longshore plugin inspect new/slack_notify.wasm --against plugins/slack_notify.wasm")]
pub(in crate::cli) struct Inspect {
    /// The component.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Also say what it asks for that this one does not: the plugin that runs now.
    #[arg(long, value_name = "OLD")]
    against: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report<'a> {
    file: &'a Path,
    digest: Digest,
    contract: &'a str,
    imports: &'a [String],
    manifest: &'a Manifest,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Difference<'a>>,
    /// The lines of configuration.
    snippet: String,
}

/// What one plugin asks for beyond another, and the other way round.
#[derive(Serialize)]
struct Difference<'a> {
    file: &'a Path,
    digest: Digest,
    more: Asks,
    less: Asks,
}

impl Inspect {
    pub(super) fn run(self, screen: &Screen) -> Result {
        let plugin = load(&self.file)?.1;
        let against = self.against.as_deref().map(|old| difference(&plugin, old)).transpose()?;
        let report = Report {
            file: &self.file,
            digest: plugin.digest(),
            contract: plugin.contract(),
            imports: plugin.imports(),
            manifest: plugin.manifest(),
            against,
            snippet: snippet(plugin.manifest(), &self.file),
        };
        if screen.json {
            screen.print_json(&report)?;
        } else {
            screen.data(&text(&report, screen))?;
        }
        Ok(Ended::Well)
    }
}

/// Reads and compiles a plugin, with an engine for a single call.
pub(super) fn load(file: &Path) -> Result<(Engine, Plugin)> {
    let engine = Engine::new(Options { cache: None, instances_max: 1 });
    let engine = engine.map_err(|e| Failure::failed(e.to_string()))?;
    let plugin = engine.load(file).map_err(|e| Failure::failed(e.to_string()))?;
    Ok((engine, plugin))
}

fn difference<'a>(plugin: &Plugin, file: &'a Path) -> Result<Difference<'a>> {
    let old = load(file)?.1;
    let (new, known) = (plugin.asks(), old.asks());
    Ok(Difference { file, digest: old.digest(), more: new.beyond(&known), less: known.beyond(&new) })
}

fn text(report: &Report<'_>, screen: &Screen) -> String {
    let manifest = report.manifest;
    let every = |list: &[String], none: &str| if list.is_empty() { none.to_owned() } else { list.join(", ") };
    let facts = [
        ("plugin", format!("{} {}", manifest.name, manifest.version)),
        ("about", manifest.description.clone()),
        ("digest", format!("sha256:{}", report.digest)),
        ("contract", report.contract.to_owned()),
        ("imports", every(report.imports, "nothing")),
        ("events", every(&manifest.events, "every event")),
        ("origins", every(&manifest.origins, "none")),
    ];
    let mut text = show_facts(&facts, screen);
    if !manifest.settings.is_empty() {
        let _ = writeln!(text, "\n{}", screen.paint(Tone::Head, "SETTINGS"));
    }
    for setting in &manifest.settings {
        let _ = writeln!(text, "{}", clean(&setting_line(setting)));
    }
    if let Some(difference) = &report.against {
        let _ = write!(text, "\n{}\n{}", screen.paint(Tone::Head, "DIFFERENCE"), difference_text(difference));
    }
    let _ = write!(text, "\n{}\n{}", screen.paint(Tone::Head, "CONFIGURATION"), report.snippet);
    text
}

fn difference_text(difference: &Difference<'_>) -> String {
    let signed = |sign: &str, asks: &Asks| -> String {
        asks.lines().iter().map(|line| format!("{sign} {}\n", clean(line))).collect()
    };
    let changes = signed("+", &difference.more) + &signed("-", &difference.less);
    let file = difference.file.display();
    match (difference.more.is_empty(), changes.is_empty()) {
        (_, true) => format!("it asks for the same as {file}\n"),
        (true, _) => format!("{changes}it asks for less than {file}\n"),
        (false, _) => format!(
            "{changes}it asks for more than {file}; nothing of that is given by itself: grant what it is to have\n"
        ),
    }
}

fn setting_line(setting: &Setting) -> String {
    let required = match (setting.required, &setting.default) {
        (true, _) => "required".to_owned(),
        (false, Some(default)) => format!("default {default}"),
        (false, None) => "optional".to_owned(),
    };
    format!("{} ({}, {required}): {}", setting.key, kind(setting.kind), setting.help)
}

fn kind(kind: SettingKind) -> &'static str {
    match kind {
        SettingKind::Text => "text",
        SettingKind::Number => "number",
        SettingKind::Boolean => "boolean",
        SettingKind::Json => "json",
        SettingKind::Secret => "secret",
    }
}

// === the lines of configuration ===

/// What to paste: every origin that the plugin asks for is granted, what it does not need is a comment. A secret
/// is bound to one origin: which one is its own, no manifest says.
fn snippet(manifest: &Manifest, file: &Path) -> String {
    let name = handler_name(manifest);
    let origins = quoted_list(&manifest.origins);
    let (secrets, settings): (Vec<_>, Vec<_>) =
        manifest.settings.iter().partition(|setting| setting.kind == SettingKind::Secret);
    let mut yaml = format!("handlers:\n  {name}:\n    plugin: {}\n", quoted(&file.display().to_string()));
    section(&mut yaml, "settings", &settings, value);
    let credential = |setting: &Setting| {
        let to = quoted_list(&manifest.origins[..manifest.origins.len().min(1)]);
        format!("{{ from: {}, to: {to} }}", quoted(&format!("env:{}", variable(&name, &setting.key))))
    };
    if !secrets.is_empty() && manifest.origins.len() > 1 {
        let _ =
            writeln!(yaml, "    # `to` is the origin that this one secret is for; choose it from {origins}");
    }
    section(&mut yaml, "secrets", &secrets, credential);
    if !manifest.origins.is_empty() {
        let _ = writeln!(yaml, "    grants: {{ http: {origins} }}");
    }
    let events = if manifest.events.is_empty() { vec!["*".to_owned()] } else { manifest.events.clone() };
    let events = quoted_list(&events);
    let _ = writeln!(
        yaml,
        "\nsubscriptions:\n  events-to-{name}: {{ source: SOURCE, events: {events}, handler: {name} }}"
    );
    yaml
}

fn section(yaml: &mut String, title: &str, settings: &[&Setting], value: impl Fn(&Setting) -> String) {
    if settings.is_empty() {
        return;
    }
    // A section of comments alone would be a null, which is not a section.
    let commented = settings.iter().all(|setting| !setting.required);
    let _ = writeln!(yaml, "    {}{title}:", if commented { "# " } else { "" });
    for setting in settings {
        let mark = if setting.required { "" } else { "# " };
        let (key, value) = (quoted_key(&setting.key), value(setting));
        let _ = writeln!(yaml, "      {mark}{key}: {value}   # {}", clean(&setting.help));
    }
}

fn value(setting: &Setting) -> String {
    match (setting.kind, &setting.default) {
        (SettingKind::Text, Some(default)) => quoted(default),
        (_, Some(default)) => quoted_unless_json(default),
        (SettingKind::Text | SettingKind::Secret, None) => "\"\"".to_owned(),
        (SettingKind::Number, None) => "0".to_owned(),
        (SettingKind::Boolean, None) => "false".to_owned(),
        (SettingKind::Json, None) => "{}".to_owned(),
    }
}

fn quoted_unless_json(text: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => value.to_string(),
        Err(_) => quoted(text),
    }
}

/// A JSON string is a YAML string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn quoted_list(items: &[String]) -> String {
    let items: Vec<_> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(", "))
}

fn quoted_key(key: &str) -> String {
    let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let plain = plain && key.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    if plain { key.to_owned() } else { quoted(key) }
}

/// The manifest's name where it is one that a handler can have.
pub(super) fn handler_name(manifest: &Manifest) -> Name {
    let lower = manifest.name.to_ascii_lowercase().replace([' ', '.'], "-");
    Name::new(&lower).unwrap_or_else(|_| Name::new("handler").expect("this is a name"))
}

/// `slack-notify`, `webhook` → `SLACK_NOTIFY_WEBHOOK`
fn variable(handler: &Name, key: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("{handler}_{key}").chars().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(key: &str, kind: SettingKind, required: bool, default: Option<&str>) -> Setting {
        let help = format!("the {key}\nto use");
        Setting { key: key.to_owned(), kind, required, default: default.map(str::to_owned), help }
    }

    fn manifest() -> Manifest {
        Manifest {
            name: "slack-notify".to_owned(),
            version: "0.1.0".to_owned(),
            description: "Posts to Slack".to_owned(),
            events: vec!["*.received".to_owned()],
            origins: vec!["https://hooks.slack.com".to_owned()],
            settings: vec![
                setting("template", SettingKind::Text, true, None),
                setting("unfurl", SettingKind::Boolean, false, Some("true")),
                setting("webhook", SettingKind::Secret, true, None),
            ],
        }
    }

    #[test]
    fn the_snippet_is_ready_to_paste() {
        assert_eq!(
            snippet(&manifest(), Path::new("plugins/slack_notify.wasm")),
            "\
handlers:
  slack-notify:
    plugin: \"plugins/slack_notify.wasm\"
    settings:
      template: \"\"   # the template to use
      # unfurl: true   # the unfurl to use
    secrets:
      webhook: { from: \"env:SLACK_NOTIFY_WEBHOOK\", to: [\"https://hooks.slack.com\"] }   # the webhook to use
    grants: { http: [\"https://hooks.slack.com\"] }

subscriptions:
  events-to-slack-notify: { source: SOURCE, events: [\"*.received\"], handler: slack-notify }
"
        );
    }

    #[test]
    fn a_secret_is_bound_to_one_origin() {
        let both = vec!["https://hooks.slack.com".to_owned(), "https://slack.com".to_owned()];
        let yaml = snippet(&Manifest { origins: both, ..manifest() }, Path::new("x.wasm"));
        let expected = "\
    # `to` is the origin that this one secret is for; choose it from [\"https://hooks.slack.com\", \"https://slack.com\"]
    secrets:
      webhook: { from: \"env:SLACK_NOTIFY_WEBHOOK\", to: [\"https://hooks.slack.com\"] }   # the webhook to use
    grants: { http: [\"https://hooks.slack.com\", \"https://slack.com\"] }
";
        assert!(yaml.contains(expected), "{yaml}");
    }

    #[test]
    fn a_plugin_that_asks_for_nothing_gets_nothing() {
        let manifest = Manifest {
            name: "No Name!".to_owned(),
            events: Vec::new(),
            origins: Vec::new(),
            settings: vec![setting("a b", SettingKind::Json, false, None)],
            ..manifest()
        };
        let yaml = snippet(&manifest, Path::new("x.wasm"));
        assert!(!yaml.contains("grants") && !yaml.contains("secrets"), "{yaml}");
        assert!(yaml.contains("    # settings:\n      # \"a b\": {}   # the a b to use\n"), "{yaml}");
        assert!(
            yaml.contains("events-to-handler: { source: SOURCE, events: [\"*\"], handler: handler }"),
            "{yaml}"
        );
    }

    #[test]
    fn a_difference_is_signed_and_says_that_nothing_is_given() {
        let one = |origin: &str| Asks { origins: [origin.to_owned()].into(), ..Asks::default() };
        let said = |more: Asks, less: Asks| {
            let (file, digest) = (Path::new("old.wasm"), Digest::of(b"x"));
            difference_text(&Difference { file, digest, more, less })
        };
        assert_eq!(said(Asks::default(), Asks::default()), "it asks for the same as old.wasm\n");
        assert_eq!(
            said(Asks::default(), one("https://a.example")),
            "- origin https://a.example\nit asks for less than old.wasm\n"
        );
        let both = said(one("https://b.example"), one("https://a.example"));
        assert!(
            both.starts_with("+ origin https://b.example\n- origin https://a.example\nit asks for more than"),
            "{both}"
        );
        assert!(both.contains("nothing of that is given by itself"), "{both}");
    }

    #[test]
    fn a_person_sees_all_that_is_asked_for() {
        let manifest = manifest();
        let report = Report {
            file: Path::new("x.wasm"),
            digest: Digest::of(b"x"),
            contract: "0.1",
            imports: &["longshore:plugin/http@0.1.0".to_owned()],
            manifest: &manifest,
            against: None,
            snippet: String::new(),
        };
        let text = text(&report, &Screen::plain());
        for line in [
            "plugin    slack-notify 0.1.0",
            "imports   longshore:plugin/http@0.1.0",
            "origins   https://hooks.slack.com",
            "template (text, required): the template to use",
            "unfurl (boolean, default true): the unfurl to use",
        ] {
            assert!(text.lines().any(|l| l == line), "`{line}` is not in\n{text}");
        }
    }
}
