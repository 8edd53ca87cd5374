//! Explained: what a source knows, asked about one captured request, and how the answer looks.

use std::path::PathBuf;

use serde_json::json;

use super::super::config::seen;
use super::super::failure::Failure;
use super::super::screen::{Screen, Tone, clean};
use super::super::{Result, setup};
use super::capture::Capture;
use crate::config::{self, End, Request, SecretRef, Secrets, Source};
use crate::verify::explain::{self, Case, Difference, Explanation, KnownSecret, Mark, Verdict};
use crate::verify::spec::{EventSpec, Spec};
use crate::words::event::Name;
use crate::words::secret::Secret;
use crate::words::time::Millis;

/// What the command line asks for.
pub(super) struct Asked<'a> {
    pub(super) files: &'a [PathBuf],
    pub(super) source: &'a Name,
    pub(super) secret_from: Option<&'a str>,
    pub(super) now: Millis,
}

/// A source with everything that its requests are judged by.
pub(super) struct Known {
    pub(super) name: Name,
    pub(super) source: Source,
    pub(super) spec: Spec,
    pub(super) event: EventSpec,
    pub(super) secrets: Vec<KnownSecret>,
    /// The secret was named on the command line.
    pub(super) is_named: bool,
    others: Vec<KnownSecret>,
    /// Secrets that could not be read.
    troubles: Vec<String>,
    pub(super) now: Millis,
}

impl Asked<'_> {
    pub(super) fn known(&self) -> Result<Known> {
        let request = setup::request(self.files);
        let loaded = config::load(&request).for_source(self.source);
        let mut config = loaded.map_err(|problems| setup::unsound(&problems))?;
        let Some(source) = config.sources.remove(self.source) else {
            return Err(setup::unknown("source", self.source, config.sources.keys()));
        };
        let mut troubles = Vec::new();
        let secrets = match self.secret_from {
            Some(text) => vec![self.named(text, &request)?],
            None => self.own(&source, &request, &mut troubles),
        };
        let mut others = Vec::new();
        for (name, other) in &config.sources {
            others.extend(of_other(name, other, &request));
        }
        let (spec, event) = source.specs();
        Ok(Known {
            name: self.source.clone(),
            spec,
            event,
            secrets,
            is_named: self.secret_from.is_some(),
            others,
            troubles,
            now: self.now,
            source,
        })
    }

    fn named(&self, text: &str, request: &Request) -> Result<KnownSecret> {
        let written = SecretRef::of_flag("--secret-from", text).map_err(|why| {
            Failure::Usage(format!("--secret-from: {}", why.replace("written in this file", "typed here")))
        })?;
        let secret = Secrets::new(&request.environment).read(&written);
        let secret = secret.map_err(|problem| Failure::failed(problem.to_string()))?;
        Ok(KnownSecret { name: written.to_string(), secret, ends: None })
    }

    fn own(&self, source: &Source, request: &Request, troubles: &mut Vec<String>) -> Vec<KnownSecret> {
        let reader = Secrets::new(&request.environment);
        let read: Vec<Option<Secret>> = source
            .secrets
            .iter()
            .map(|written| reader.read(&written.from).map_err(|problem| troubles.push(problem.message)).ok())
            .collect();
        let fingerprints: Vec<_> =
            read.iter().map(|secret| secret.as_ref().map(Secret::fingerprint)).collect();
        let seen = if source.secrets.len() > 1 { seen(self.files) } else { Default::default() };
        let ends = config::ends(source, &fingerprints, self.now, |print| {
            seen.get(&(self.source.clone(), print)).copied()
        });
        let known = source.secrets.iter().zip(read).zip(ends).filter_map(|((written, secret), end)| {
            let ends = match end {
                End::At { at } | End::Ended { at } => Some(at),
                End::Never | End::AfterSeen { .. } => None,
            };
            Some(KnownSecret { name: written.from.to_string(), secret: secret?, ends })
        });
        known.collect()
    }
}

fn of_other(name: &Name, source: &Source, request: &Request) -> Vec<KnownSecret> {
    let reader = Secrets::new(&request.environment);
    let known = source.secrets.iter().filter_map(|written| {
        let secret = reader.read(&written.from).ok()?;
        Some(KnownSecret { name: format!("{} of {name}", written.from), secret, ends: None })
    });
    known.collect()
}

impl Known {
    pub(super) fn explain(&self, capture: &Capture) -> Result<Explanation> {
        let seen_url = capture.url();
        explain::explain(&self.case(capture, seen_url.as_deref())).map_err(|problems| {
            let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
            Failure::failed_so(lines.join("\n"), "longshore config check")
        })
    }

    pub(super) fn case<'a>(&'a self, capture: &'a Capture, seen_url: Option<&'a str>) -> Case<'a> {
        Case {
            spec: &self.spec,
            event: &self.event,
            request: self.request(capture),
            secrets: &self.secrets,
            others: &self.others,
            seen_url,
            now: self.now,
        }
    }

    /// As the daemon makes it of what comes in.
    pub(super) fn request<'a>(&'a self, capture: &'a Capture) -> crate::verify::Request<'a> {
        crate::verify::Request {
            method: &capture.method,
            url: self.source.public_url.as_deref().unwrap_or_default(),
            query: capture.query(),
            headers: &capture.headers,
            body: &capture.body,
        }
    }

    fn scheme_in_words(&self) -> String {
        match (&self.source.preset, &self.source.scheme) {
            (Some(preset), None) => format!("preset `{preset}`"),
            (Some(preset), Some(_)) => format!("preset `{preset}` with keys of its own"),
            (None, _) => "a scheme of its own".to_owned(),
        }
    }
}

/// Genuine; and young enough where the time was asked about.
pub(super) fn is_well(explanation: &Explanation, is_time_asked: bool) -> bool {
    matches!(explanation.verdict, Verdict::Genuine { in_time, .. } if in_time || !is_time_asked)
}

// === how it looks ===

pub(super) fn show(
    known: &Known,
    capture: &Capture,
    explanation: &Explanation,
    screen: &Screen,
) -> Result<()> {
    if screen.json {
        let mut value = serde_json::to_value(explanation).expect("an explanation is plain values");
        value["source"] = json!(known.name);
        value["capture"] = json!({
            "form": capture.form, "method": capture.method, "path": capture.path(),
            "headers": capture.headers.len(), "body_bytes": capture.body.len(), "notes": capture.notes,
        });
        return screen.print_json(&value);
    }
    screen.data(&text(known, capture, explanation, screen))
}

fn text(known: &Known, capture: &Capture, explanation: &Explanation, screen: &Screen) -> String {
    let mut text = section("request", &about(known, capture), screen);
    for step in &explanation.steps {
        let lines: Vec<_> = step.lines.iter().map(|line| (line.mark, line.text.clone())).collect();
        text += &section(step.step, &lines, screen);
    }
    text += &section("verdict", &verdict(&explanation.verdict), screen);
    match (&explanation.difference, &explanation.verdict) {
        (Some(difference), _) => text += &section("what differs", &differs(difference), screen),
        (None, Verdict::Refused { .. }) => text += &section("what to do", &advice(known, capture), screen),
        (None, Verdict::Genuine { .. }) => {}
    }
    text
}

fn section(name: &str, lines: &[(Mark, String)], screen: &Screen) -> String {
    let mut text = screen.paint(Tone::Head, name) + "\n";
    for (mark, said) in lines {
        let (sign, tone) = match mark {
            Mark::Plain => ("   ", Tone::Plain),
            Mark::Good => ("   ", Tone::Good),
            Mark::Bad => (" ! ", Tone::Bad),
        };
        text += &format!("{sign} {}\n", screen.paint(tone, &clean(said)));
    }
    text
}

fn about(known: &Known, capture: &Capture) -> Vec<(Mark, String)> {
    let (headers, bytes) = (capture.headers.len(), capture.body.len());
    let mut lines = vec![
        (Mark::Plain, format!("source `{}`, {}", known.name, known.scheme_in_words())),
        (
            Mark::Plain,
            format!(
                "{} {} ({}), {headers} headers, a body of {bytes} bytes",
                capture.method,
                capture.path(),
                capture.form
            ),
        ),
    ];
    if capture.path() != known.source.path {
        lines.push((
            Mark::Bad,
            format!(
                "the source listens at {}: the daemon would not have taken it for its own",
                known.source.path
            ),
        ));
    }
    if capture.method != "POST" {
        lines.push((Mark::Bad, "the daemon takes events by POST alone".to_owned()));
    }
    lines.extend(capture.notes.iter().map(|note| (Mark::Bad, note.clone())));
    lines.extend(
        known.troubles.iter().map(|trouble| (Mark::Bad, format!("a secret is not tried: {trouble}"))),
    );
    lines
}

fn verdict(verdict: &Verdict) -> Vec<(Mark, String)> {
    match verdict {
        Verdict::Genuine { in_time: true, .. } => vec![(Mark::Good, "genuine".to_owned())],
        Verdict::Genuine { .. } => vec![
            (Mark::Good, "genuine".to_owned()),
            (Mark::Bad, "the daemon would refuse it at this time as stale".to_owned()),
        ],
        Verdict::Refused { reason } => vec![(Mark::Bad, format!("not genuine: {reason}"))],
    }
}

fn differs(difference: &Difference) -> Vec<(Mark, String)> {
    let mut lines = Vec::new();
    for (at, change) in difference.changes.iter().enumerate() {
        let when = if at == 0 { "it matches when" } else { "and" };
        lines.push((Mark::Bad, format!("{when} {}", change.says)));
        lines.extend(change.write.iter().map(|write| (Mark::Plain, format!("  write  {write}"))));
    }
    lines
}

/// Nothing that is known explains it.
fn advice(known: &Known, capture: &Capture) -> Vec<(Mark, String)> {
    let mut lines = Vec::new();
    if known.secrets.is_empty() {
        lines.push("no secret could be read; name one with `--secret-from env:NAME`".to_owned());
    } else {
        lines.push(
            "compare the secret with the provider's page for this very endpoint: each endpoint has its own"
                .to_owned(),
        );
    }
    if capture.notes.is_empty() {
        lines.push(
            "capture the body's bytes again, as they come in: before anything has parsed them".to_owned(),
        );
    } else {
        lines.push("the capture is not what was sent, as is said above; capture it again".to_owned());
    }
    lines.into_iter().map(|line| (Mark::Plain, line)).collect()
}
