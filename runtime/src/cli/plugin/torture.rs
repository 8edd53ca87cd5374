//! Torture: a handler killed at every call of the host and refused at every call of its own, in a simulated world, and a
//! certificate of what came of it.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::inspect::handler_name;
use super::run::read_data;
use crate::cli::events::show_facts;
use crate::cli::failure::Failure;
use crate::cli::screen::{Screen, Tone, clean};
use crate::cli::table::Table;
use crate::cli::{Ended, Result};
use crate::host::{self, Engine, Options};
use crate::torture::{Certificate, Counted, Finding, FindingKind, Fixture, Subject};
use crate::words::limits;

/// Kill a plugin at every call of the host, refuse every call that it makes, and see that each thing is done once.
///
/// Runs the event of a fixture in a simulated world, undisturbed, and then once for each place where the daemon could
/// die and each way in which a call could fail: with 402, 429, 500, `ok: false`, a timeout, no connection; resumed as it
/// was, some attempts later, with the shelf changed by another delivery, and with other plugin bytes. Each run goes on
/// until it ends, and what the services did is held against the undisturbed run. Nothing is sent. Exit code 0 only if
/// every point passes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore plugin torture plugins/slack_notify.wasm --fixture plugins/slack-notify/torture
  longshore plugin torture plugins/crm_sync.wasm --fixture plugins/crm-sync/torture/reply.yaml --junit torture.xml

How to write a fixture: docs/torture.md")]
pub(in crate::cli) struct Torture {
    /// The component.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The event, the configuration and the world, in YAML or JSON; a folder: each .yaml, .yml and .json in it. May be
    /// repeated.
    #[arg(long, value_name = "FILE", required = true)]
    fixture: Vec<PathBuf>,
    /// Write every point as a test case, for CI.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report<'a> {
    is_safe: bool,
    certificates: &'a [Certificate],
}

impl Torture {
    pub(super) fn run(self, screen: &Screen) -> Result {
        let fixtures = self.fixtures()?;
        let engine = Engine::new(Options { cache: None, instances_max: 1 });
        let engine = engine.map_err(|e| Failure::failed(e.to_string()))?;
        let subject = self.subject(&engine)?;
        let runtime = host::runtime(1)
            .map_err(|e| Failure::failed(format!("this machine gives no thread to the plugin: {e}")))?;
        let mut certificates = Vec::new();
        for path in &fixtures {
            certificates.push(runtime.block_on(certify(&subject, path))?);
        }
        if let Some(path) = &self.junit {
            let unwritable = |e| Failure::failed(format!("`{}` cannot be written: {e}", path.display()));
            std::fs::write(path, junit(&certificates)).map_err(unwritable)?;
        }
        let is_safe = certificates.iter().all(Certificate::is_safe);
        if screen.json {
            screen.print_json(&Report { is_safe, certificates: &certificates })?;
        } else {
            let texts: Vec<String> =
                certificates.iter().map(|certificate| text(certificate, screen)).collect();
            screen.data(&texts.join("\n"))?;
        }
        Ok(if is_safe { Ended::Well } else { Ended::Badly })
    }

    fn subject(&self, engine: &Engine) -> Result<Subject> {
        // Loaded from its file first: these errors say what to type. Held, so that it is not compiled again.
        let plugin = engine.load(&self.file).map_err(|e| Failure::failed(e.to_string()))?;
        let bytes = std::fs::read(&self.file).map_err(|e| Failure::unreadable(&self.file, &e))?;
        let subject = Subject::new(engine, &self.file, bytes).map_err(|e| Failure::failed(e.to_string()))?;
        drop(plugin);
        Ok(subject)
    }

    fn fixtures(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for path in &self.fixture {
            if path.is_dir() { found.extend(in_folder(path)?) } else { found.push(path.clone()) }
        }
        if found.len() > limits::TORTURE_FIXTURES_MAX {
            let max = limits::TORTURE_FIXTURES_MAX;
            return Err(Failure::failed(format!(
                "--fixture names {} fixtures; at most {max} at once",
                found.len()
            )));
        }
        Ok(found)
    }
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Failure::unreadable(folder, &e))?;
    let is_fixture = |path: &PathBuf| {
        path.extension().is_some_and(|kind| ["yaml", "yml", "json"].iter().any(|known| kind == *known))
    };
    let mut found: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_fixture).collect();
    found.sort();
    if found.is_empty() {
        let folder = folder.display();
        return Err(Failure::failed(format!(
            "`{folder}` holds no fixture; write one, as docs/torture.md shows"
        )));
    }
    Ok(found)
}

async fn certify(subject: &Subject, path: &Path) -> Result<Certificate> {
    let named = |why: String| Failure::failed(format!("fixture `{}`: {why}", path.display()));
    let text = String::from_utf8(read_data(path)?.into()).map_err(|_| named("it is no text".to_owned()))?;
    let fixture = Fixture::parse(&text).map_err(named)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let body = match &fixture.event.body_file {
        Some(file) => Some(read_data(&folder.join(file))?),
        None => None,
    };
    let name = handler_name(subject.plugin().manifest());
    let file = path.display().to_string();
    subject.certify(name, (&file, &fixture), body).await.map_err(|e| named(e.to_string()))
}

// === for people ===

/// Points that are named below a finding; the rest is counted.
const POINTS_SHOWN: usize = 3;

fn text(certificate: &Certificate, screen: &Screen) -> String {
    let Certificate { plugin, version, digest, fixture, passed, points, .. } = certificate;
    let (tone, verdict) = match certificate.is_safe() {
        true => (Tone::Good, format!("crash-safe at {passed} of {points} points")),
        false => (Tone::Bad, format!("not crash-safe: {passed} of {points} points pass")),
    };
    let effects =
        if certificate.effects.is_empty() { "none".to_owned() } else { certificate.effects.join(", ") };
    let facts = [
        ("plugin", format!("{plugin} {version}")),
        ("digest", format!("sha256:{digest}")),
        ("fixture", fixture.clone()),
        ("effects", effects),
    ];
    let mut text = show_facts(&facts, screen);
    text += &format!("{}\n\n", screen.paint(tone, &verdict));
    text += &kinds(certificate, screen);
    for finding in &certificate.findings {
        text += &finding_text(finding, screen);
    }
    text + &notes(certificate)
}

fn kinds(certificate: &Certificate, screen: &Screen) -> String {
    let mut table = Table::new(["POINT", "PASS"]);
    for kind in &certificate.kinds {
        let tone = if kind.passed == kind.points { Tone::Plain } else { Tone::Bad };
        table.row(tone, [kind.kind.clone(), format!("{} of {}", kind.passed, kind.points)]);
    }
    table.show(screen)
}

fn finding_text(finding: &Finding, screen: &Screen) -> String {
    let head = format!("{} {}", word(finding.finding), finding.call);
    let mut text = format!("\n{}\n", screen.paint(Tone::Bad, clean(&head).trim_end()));
    text += &format!("  {}\n  change: {}\n", clean(&finding.says), clean(&finding.change));
    for point in finding.at.iter().take(POINTS_SHOWN) {
        text += &format!("  at: {}\n", clean(point));
    }
    match finding.at.len().saturating_sub(POINTS_SHOWN) {
        0 => text,
        more => text + &format!("  and at {more} more\n"),
    }
}

fn word(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Repeats => "REPEATS",
        FindingKind::Lost => "LOST EFFECT",
        FindingKind::Differs => "DIFFERS",
        FindingKind::Parks => "PARKS",
        FindingKind::NeverEnds => "NEVER ENDS",
    }
}

/// What is no finding, and worth knowing.
fn notes(certificate: &Certificate) -> String {
    let lines = |said: &str, calls: &[Counted]| {
        let line =
            |counted: &Counted| format!("{said} {} (at {} points)\n", clean(&counted.call), counted.points);
        calls.iter().map(line).collect::<String>()
    };
    let mut text = lines("may repeat: unknown:", &certificate.may_repeat);
    text += &lines("refused, and done without:", &certificate.went_without);
    if certificate.by_operator > 0 {
        text += &format!(
            "needs the operator (deliveries retry, resolve): at {} points\n",
            certificate.by_operator
        );
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

// === for CI ===

fn junit(certificates: &[Certificate]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for certificate in certificates {
        let name =
            escaped(&format!("{} {}: {}", certificate.plugin, certificate.version, certificate.fixture));
        let failures = certificate.cases.iter().filter(|case| case.failure.is_some()).count();
        let tests = certificate.cases.len();
        xml += &format!("  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\">\n");
        for case in &certificate.cases {
            let (kind, name) = (escaped(&case.kind), escaped(&case.name));
            xml += &match &case.failure {
                None => format!("    <testcase classname=\"{kind}\" name=\"{name}\"/>\n"),
                Some(why) => format!(
                    "    <testcase classname=\"{kind}\" name=\"{name}\"><failure message=\"{}\"/></testcase>\n",
                    escaped(why)
                ),
            };
        }
        xml += "  </testsuite>\n";
    }
    xml + "</testsuites>\n"
}

/// As an attribute of XML, which has no control characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_its_attribute() {
        assert_eq!(escaped("a \"<&>\n\u{1}\u{ffff}é"), "a &quot;&lt;&amp;&gt;&#10;\u{fffd}\u{fffd}é");
    }

    #[test]
    fn the_fixture_that_a_new_plugin_gets_is_one() {
        let text = include_str!("../../../../plugins/template/torture.yaml");
        let fixture = Fixture::parse(text).unwrap();
        assert_eq!(fixture.event.body_file, Some(PathBuf::from("reply.json")), "a file of the template");
    }

    #[test]
    fn a_finding_shows_a_few_of_its_points() {
        let mut finding = Finding {
            finding: FindingKind::Repeats,
            call: "POST https://x/a".to_owned(),
            says: "it was done 2 times".to_owned(),
            change: "give the call a `key`".to_owned(),
            at: ["one", "two", "three"].map(str::to_owned).to_vec(),
        };
        let head = "\nREPEATS POST https://x/a\n  it was done 2 times\n  change: give the call a `key`\n";
        let shown = format!("{head}  at: one\n  at: two\n  at: three\n");
        assert_eq!(finding_text(&finding, &Screen::plain()), shown);
        finding.at.push("four".to_owned());
        assert_eq!(finding_text(&finding, &Screen::plain()), format!("{shown}  and at 1 more\n"));
    }
}
