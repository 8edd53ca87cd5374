//! Presets: the schemes that ship with this program, for a person to find and to paste.
//!
//! docs/providers.md is written from the same rows, by the test below.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;

use super::failure::Failure;
use super::screen::{Screen, Tone};
use super::table::Table;
use super::{Ended, Result};
use crate::config::nearest;
use crate::verify::spec::{Preset, Texts};
use crate::verify::{Card, Scheme, challenge, preset, preset_cards};

/// How providers sign: the schemes that ship with this program.
#[derive(Debug, Subcommand)]
pub(super) enum Presets {
    List(List),
    Show(Show),
}

/// List the presets: who sends so, how it is signed, how old a request may be, where an event's id and type are.
///
/// A pipe gets all columns, a terminal the first ones. With --json also how sure the facts are, where they were
/// found, and what you must know.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore presets list
  longshore presets list git
  longshore presets list --json | jq -r '.presets[] | select(.tolerance == null) | .name'")]
pub(super) struct List {
    /// Only those with this in their name or their provider's.
    word: Option<String>,
}

/// Print a preset as a source that you can paste and edit.
///
/// A source needs no more than `preset: NAME`: the keys that are printed below it are the preset's own. To change one
/// thing, change that key and take the others away.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longshore presets show stripe >> config.yaml")]
pub(super) struct Show {
    /// A name of `longshore presets list`.
    name: String,
}

/// A preset in words, as the list and docs/providers.md have it.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    provider: &'static str,
    /// `hmac sha256`, `ed25519`, `token`, …
    #[serde(rename = "type")]
    kind: String,
    /// The places that may carry it.
    signature: Vec<String>,
    /// The template; None: nothing is signed, or it is not a template.
    signed: Option<String>,
    /// None: there is no timestamp, or it is not judged (`none`).
    tolerance: Option<String>,
    each: Option<String>,
    id: Vec<String>,
    event_type: Vec<String>,
    /// Whether its provider's handshake is answered.
    handshake: bool,
    grade: &'static str,
    source: &'static str,
    notes: &'static str,
}

impl Presets {
    pub(super) fn run(self, screen: &Screen) -> Result {
        match self {
            Presets::List(list) => list.run(screen),
            Presets::Show(show) => show.run(screen),
        }
    }
}

impl List {
    fn run(self, screen: &Screen) -> Result {
        let rows: Vec<Row> = preset_cards().iter().filter(|card| self.wants(card)).map(Row::of).collect();
        if screen.json {
            screen.print_json(&serde_json::json!({ "presets": rows }))?;
        } else {
            screen.data(&table(&rows, screen))?;
        }
        if rows.is_empty() {
            screen.say("no preset has this in its name; a scheme can be written in the configuration");
        } else if screen.width.is_some() {
            screen.say("the whole of one: longshore presets show NAME");
        }
        Ok(Ended::Well)
    }

    fn wants(&self, card: &Card) -> bool {
        let Some(word) = self.word.as_deref().map(str::to_lowercase) else { return true };
        card.name.contains(&word) || card.provider.to_lowercase().contains(&word)
    }
}

impl Show {
    fn run(self, screen: &Screen) -> Result {
        let card = preset_cards().iter().find(|card| card.name == self.name);
        let card = card.ok_or_else(|| unknown(&self.name))?;
        if screen.json {
            let row = serde_json::to_value(Row::of(card)).expect("plain fields are JSON");
            screen.print_json(&with_keys(row, card.value()))?;
        } else {
            screen.data(&source(card))?;
        }
        Ok(Ended::Well)
    }
}

fn unknown(name: &str) -> Failure {
    let names = preset_cards().iter().map(|card| card.name);
    let type_this = match nearest(name, names) {
        Some(near) => format!("longshore presets show {near}"),
        None => "longshore presets list".to_owned(),
    };
    Failure::failed_so(format!("there is no preset `{name}`"), type_this)
}

/// The row, and the preset's own keys beside it.
fn with_keys(mut row: Value, keys: &Value) -> Value {
    if let (Some(row), Some(keys)) = (row.as_object_mut(), keys.as_object()) {
        row.extend(keys.clone());
    }
    row
}

// === in words ===

impl Row {
    fn of(card: &'static Card) -> Row {
        let Preset { scheme, event, .. } = preset(card.name).expect("a card is of a preset");
        let kind = [scheme.kind.as_deref(), scheme.algorithm.as_deref()];
        Row {
            name: card.name,
            provider: card.provider,
            kind: kind.into_iter().flatten().collect::<Vec<_>>().join(" "),
            signature: texts(scheme.signature.from.as_ref()),
            signed: scheme.signed.clone(),
            tolerance: scheme.timestamp.tolerance.clone().filter(|tolerance| tolerance != "none"),
            each: event.each.clone(),
            id: texts(event.id.as_ref()),
            event_type: texts(event.kind.as_ref()),
            handshake: challenge::preset(card.name).is_some(),
            grade: card.grade,
            source: card.source,
            notes: &card.notes,
        }
    }
}

fn texts(texts: Option<&Texts>) -> Vec<String> {
    texts.map(|texts| texts.0.clone()).unwrap_or_default()
}

fn table(rows: &[Row], screen: &Screen) -> String {
    let short = |row: &Row| {
        let tolerance = row.tolerance.clone().unwrap_or_default();
        [row.name.to_owned(), row.kind.clone(), tolerance, row.provider.to_owned(), row.signature.join(" ")]
    };
    if screen.width.is_some() {
        let mut table = Table::new(["NAME", "TYPE", "TOLERANCE", "PROVIDER", "SIGNATURE"]);
        rows.iter().for_each(|row| table.row(Tone::Plain, short(row)));
        return table.show(screen);
    }
    let mut table = Table::new([
        "NAME",
        "TYPE",
        "TOLERANCE",
        "PROVIDER",
        "SIGNATURE",
        "SIGNED",
        "EACH",
        "ID",
        "EVENT TYPE",
        "HANDSHAKE",
        "GRADE",
    ]);
    for row in rows {
        let [name, kind, tolerance, provider, signature] = short(row);
        let (signed, each) = (row.signed.clone().unwrap_or_default(), row.each.clone().unwrap_or_default());
        let (id, event_type) = (row.id.join(" "), row.event_type.join(" "));
        let handshake = if row.handshake { "answered".to_owned() } else { String::new() };
        let grade = row.grade.to_owned();
        table.row(
            Tone::Plain,
            [name, kind, tolerance, provider, signature, signed, each, id, event_type, handshake, grade],
        );
    }
    table.show(screen)
}

/// A whole `sources:` section with this one in it.
fn source(card: &Card) -> String {
    let name = card.name;
    let mut lines = vec!["sources:".to_owned()];
    lines.extend(card.comment.lines().map(|line| format!("  {line}")));
    lines.push(format!("  {name}:"));
    lines.push(format!("    path: /webhooks/{name}"));
    lines.push(format!("    preset: {name}"));
    if needs_url(name) {
        lines.push(format!("    public_url: \"https://hooks.example.com/webhooks/{name}\""));
    }
    let variable = name.to_uppercase().replace('-', "_");
    lines.push(format!("    secrets: [ \"env:{variable}_SECRET\" ]"));
    lines.extend(card.yaml.lines().map(|line| format!("  {line}")));
    lines.join("\n") + "\n"
}

/// Also where the scheme as it stands lacks something that only the operator knows.
fn needs_url(name: &str) -> bool {
    let Some(Preset { scheme, event, .. }) = preset(name) else { return false };
    Scheme::compile(scheme, event).is_ok_and(|scheme| scheme.needs_url())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Write as _;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::config;

    fn list(word: &str) -> Vec<&'static str> {
        let list = List { word: Some(word.to_owned()) };
        preset_cards().iter().filter(|card| list.wants(card)).map(|card| card.name).collect()
    }

    #[test]
    fn a_word_finds_names_and_providers() {
        assert_eq!(list("twitter"), ["x"]);
        assert_eq!(list("GitHub"), ["github", "github-sha1"]);
        assert_eq!(list("no such"), Vec::<&str>::new());
        assert!(unknown("strpe").to_string().ends_with("type: longshore presets show stripe"));
        assert!(unknown("a provider nobody knows").to_string().ends_with("type: longshore presets list"));
    }

    #[test]
    fn a_pipe_gets_every_column_and_a_terminal_what_fits() {
        let rows: Vec<Row> =
            preset_cards().iter().filter(|card| card.name == "stripe").map(Row::of).collect();
        assert_eq!(
            table(&rows, &Screen::plain()),
            "NAME    TYPE         TOLERANCE  PROVIDER  SIGNATURE                SIGNED              EACH  ID       EVENT TYPE  HANDSHAKE  GRADE\n\
             stripe  hmac sha256  300s       Stripe    header:Stripe-Signature  {timestamp}.{body}  -     json:id  json:type   -          A\n"
        );
        let all: Vec<Row> = preset_cards().iter().map(Row::of).collect();
        let shown = table(&all, &Screen::terminal(100));
        assert_eq!(shown.lines().count(), all.len() + 1);
        assert!(shown.starts_with("\x1b[1mNAME"), "{shown}");
    }

    #[test]
    fn show_prints_the_source_to_paste() {
        let card = preset_cards().iter().find(|card| card.name == "square").unwrap();
        let text = source(card);
        assert_eq!(
            text,
            "\
sources:
  # Square. Grade A: square 46.0.0 and a published example
  # The URL as it is registered, to the letter, in `public_url`.
  square:
    path: /webhooks/square
    preset: square
    public_url: \"https://hooks.example.com/webhooks/square\"
    secrets: [ \"env:SQUARE_SECRET\" ]
    scheme:
      type: hmac
      algorithm: sha256
      signature: { from: \"header:x-square-hmacsha256-signature\", format: raw, encoding: base64 }
      signed: \"{url}{body}\"
    event: { id: \"json:event_id\", type: \"json:type\" }
"
        );
        let json = with_keys(serde_json::to_value(Row::of(card)).unwrap(), card.value());
        assert_eq!(json["grade"], "A");
        assert_eq!(json["scheme"]["signed"], "{url}{body}");
        assert_eq!(json["type"], "hmac sha256");
    }

    /// What `show` prints is a configuration that does what the preset does. What only an operator can say is told.
    #[test]
    fn every_source_that_is_shown_can_be_pasted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        let mut told = BTreeMap::new();
        for card in preset_cards() {
            let head = "server: { listen: 127.0.0.1:0, tls: off }\nstore: { path: data }\n";
            fs::write(&file, format!("{head}{}", source(card))).unwrap();
            let loaded = config::load(&config::Request {
                files: vec![file.clone()],
                environment: config::Environment::default(),
                flags: Vec::new(),
            });
            let (config, _) = match loaded.sound() {
                Ok(sound) => sound,
                Err(problems) => {
                    told.insert(card.name, problems.to_string());
                    continue;
                }
            };
            let written = config.sources.values().next().unwrap();
            let shipped = preset(card.name).unwrap();
            assert_eq!(written.scheme.as_ref(), Some(&shipped.scheme), "{}", card.name);
            assert_eq!(written.event.as_ref(), Some(&shipped.event), "{}", card.name);
            assert!(written.compile().is_ok(), "{}", card.name);
        }
        assert_eq!(told.keys().copied().collect::<Vec<_>>(), ["aws-sns", "paypal"], "{told:#?}");
        assert!(told["paypal"].contains("`{const:webhook_id}` has no value; add it"), "{told:#?}");
        assert!(told["aws-sns"].contains("topics"), "{told:#?}");
    }

    // === docs/providers.md ===

    const BEGIN: &str = "<!-- table: written by a test, see above -->\n";
    const END: &str = "<!-- end of the table -->\n";

    /// After a change of presets.yaml or the vectors: run with UPDATE_SNAPSHOTS=1 and read the difference.
    #[test]
    fn the_page_of_providers_says_what_is_shipped() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/providers.md");
        let text = fs::read_to_string(&page).unwrap();
        let (before, rest) = text.split_once(BEGIN).expect("the page has its table");
        let (_, after) = rest.split_once(END).expect("the table has an end");
        let now = format!("{before}{BEGIN}{}{END}{after}", markdown());
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&page, &now).unwrap();
        }
        let (old, new) = (text.lines().collect::<Vec<_>>(), now.lines().collect::<Vec<_>>());
        let differs = old.iter().zip(&new).find(|(old, new)| old != new);
        let is_current = std::env::var_os("UPDATE_SNAPSHOTS").is_some() || text == now;
        assert!(is_current, "docs/providers.md is out of date at {differs:?}; UPDATE_SNAPSHOTS=1 writes it");
        assert!(text.contains(&format!("{} presets", preset_cards().len())), "the page counts them");
    }

    fn markdown() -> String {
        let pins = pins();
        let mut page = String::from(
            "\n| preset | provider | type | signature | what is signed | tolerance | event: id, type | handshake | facts | vectors |\n\
             |---|---|---|---|---|---|---|---|---|---|\n",
        );
        for row in preset_cards().iter().map(Row::of) {
            let signed = row.signed.as_deref().map(code).unwrap_or_else(|| "nothing".into());
            let signed = if is_code(&row) { "[code](builtins.md)".to_owned() } else { signed };
            let handshake = if row.handshake { "[answered](handshakes.md)" } else { "" };
            let each =
                row.each.as_deref().map(|each| format!("each of {}: ", code(each))).unwrap_or_default();
            let id = if row.id.is_empty() { "the hash".to_owned() } else { codes(&row.id) };
            let kind = if row.event_type.is_empty() { "none".to_owned() } else { codes(&row.event_type) };
            let tolerance = row.tolerance.as_deref().unwrap_or("none");
            writeln!(
                page,
                "| `{}` | {} | {} | {} | {signed} | {tolerance} | {each}{id}, {kind} | {handshake} | {} | {} |",
                row.name,
                row.provider,
                row.kind,
                codes(&row.signature),
                row.grade,
                pins.get(row.name).map_or("none", String::as_str),
            )
            .unwrap();
        }
        page.push_str("\n## What you must know of each\n\n");
        for row in preset_cards().iter().map(Row::of) {
            writeln!(page, "- `{}`: {} ({}: {})", row.name, row.notes, row.grade, row.source).unwrap();
        }
        page.push('\n');
        page
    }

    fn is_code(row: &Row) -> bool {
        row.signed.is_none() && !matches!(row.kind.as_str(), "token" | "basic")
    }

    fn codes(texts: &[String]) -> String {
        texts.iter().map(|text| code(text)).collect::<Vec<_>>().join(" or ")
    }

    /// A `|` would end the cell.
    fn code(text: &str) -> String {
        format!("`{}`", text.replace('|', "\\|"))
    }

    /// How many vectors of tests/vectors pin a preset, and how many of these its provider published.
    fn pins() -> BTreeMap<String, String> {
        let files = ["shared.json", "more.json", "made.json", "builtin.json"];
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
        let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for file in files {
            let vectors: Vec<Value> = serde_json::from_slice(&fs::read(folder.join(file)).unwrap()).unwrap();
            assert!(!vectors.is_empty(), "{file}");
            let is_new = |vector: &Value| seen.insert(vector["id"].as_str().unwrap().to_owned());
            for vector in vectors.into_iter().filter(is_new) {
                let count = counts.entry(vector["provider"].as_str().unwrap().to_owned()).or_default();
                count.0 += 1;
                count.1 += usize::from(vector["kind"] == "published");
            }
        }
        let told = |(all, published): (usize, usize)| match published {
            0 => all.to_string(),
            some => format!("{all}, {some} published"),
        };
        counts.into_iter().map(|(name, count)| (name, told(count))).collect()
    }
}
