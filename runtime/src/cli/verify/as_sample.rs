//! As sample: a captured request that is genuine, printed as the `sample:` of its source.
//!
//! A live secret does not belong into a file, so the request is signed anew with a secret that was made for it: that
//! the provider signs as the scheme says was shown a moment before. A secret that was named on the command line is taken
//! for one that is used nowhere else, and a public key for what it is: with those the request stays as it was sent.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::failure::Failure;
use super::super::screen::Screen;
use super::super::{Ended, Result};
use super::capture::Capture;
use super::explained::Known;
use crate::verify::explain::Verdict;
use crate::verify::sample::{self, Lines, Sample};
use crate::verify::{self, Scheme, explain};
use crate::words::secret::Secret;
use crate::words::time::Millis;

pub(super) fn run(known: &Known, capture: &Capture, screen: &Screen) -> Result {
    let explanation = known.explain(capture)?;
    let Verdict::Genuine { event_id, event_type, secret, signed_at, .. } = &explanation.verdict else {
        return Err(Failure::failed(
            "the request is not genuine, so it proves nothing; see why without `--as-sample`",
        ));
    };
    let scheme = known.source.compile().map_err(|_| Failure::failed("the scheme does not compile"))?;
    let mut made = as_it_is(known, capture);
    made.now = signed_at.map(|at| at.0 / 1000);
    let matched = known.secrets.iter().find(|known| known.secret.fingerprint() == *secret);
    if known.is_named || is_public(known) {
        let text = matched.and_then(|matched| std::str::from_utf8(matched.secret.expose()).ok());
        made.secret =
            Some(text.ok_or_else(|| Failure::failed("the secret is not text; take another"))?.to_owned());
    } else {
        sign_anew(&mut made, &scheme, known, capture, (event_id, event_type))?;
        screen.say("signed anew with a secret made for it: the source's own does not belong into a file");
    }
    screen.data(&yaml(&made))?;
    let problems = sample::prove(&known.spec, &known.event, &made, known.source.public_url.as_deref());
    problems.iter().for_each(|problem| screen.say(&problem.to_string()));
    Ok(if problems.is_empty() { Ended::Well } else { Ended::Badly })
}

fn is_public(known: &Known) -> bool {
    matches!(known.spec.kind.as_deref(), Some("ed25519" | "ecdsa-p256" | "rsa-sha256"))
}

/// Of the headers those that the scheme reads.
fn as_it_is(known: &Known, capture: &Capture) -> Sample {
    let mut headers = BTreeMap::new();
    for name in headers_read(known, capture) {
        let lines = capture.headers.get_all(&name).iter();
        let lines: Vec<String> =
            lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect();
        if !lines.is_empty() {
            headers.insert(name, Lines(lines));
        }
    }
    let (body, body_base64) = body_as_text(&capture.body);
    Sample {
        method: (capture.method != "POST").then(|| capture.method.clone()),
        url: capture.query().and(known.source.public_url.clone()),
        headers,
        body,
        body_base64,
        ..Sample::default()
    }
}

/// As text where YAML can hold it, else in base64.
fn body_as_text(body: &[u8]) -> (Option<String>, Option<String>) {
    let is_plain = |c: char| !c.is_control() && c != '\u{feff}' || matches!(c, '\n' | '\r' | '\t');
    match std::str::from_utf8(body) {
        Ok(text) if text.chars().all(is_plain) => (Some(text.to_owned()), None),
        _ => (None, Some(STANDARD.encode(body))),
    }
}

/// Their names as the scheme writes them.
fn headers_read(known: &Known, capture: &Capture) -> Vec<String> {
    let spec = &known.spec;
    let mut places = explain::places_of_signature(spec);
    places.extend(spec.timestamp.from.clone());
    places.extend(spec.id.clone());
    places.extend(spec.require.keys().cloned());
    let signed = spec.signed.as_deref().unwrap_or_default();
    places.extend(signed.split('{').filter_map(|part| Some(part.split_once('}')?.0.to_owned())));
    let mut names = Vec::new();
    for place in places {
        if let Some(name) = place.strip_prefix("header:") {
            names.push(name.to_owned());
        }
        if let Some(prefix) = place.strip_prefix("header-numbered:") {
            let prefix = prefix.to_ascii_lowercase();
            names.extend(
                capture
                    .headers
                    .keys()
                    .map(|name| name.as_str().to_owned())
                    .filter(|name| name.starts_with(&prefix)),
            );
        }
    }
    names
}

fn sign_anew(
    made: &mut Sample,
    scheme: &Scheme,
    known: &Known,
    capture: &Capture,
    (event_id, event_type): (&str, &str),
) -> Result<()> {
    let text = fresh_secret(known);
    let secret = Secret::new(text.as_str());
    let cannot = |why: String| {
        Failure::failed_so(
            format!(
                "this scheme cannot be signed with here ({why}); capture a request that was signed with a secret that is \
                 used nowhere else, and name that secret"
            ),
            format!(
                "longshore verify --source {} --request FILE --as-sample --secret-from env:NAME",
                known.name
            ),
        )
    };
    let request = known.request(capture);
    let at = made.now.map_or(known.now, Millis::from_seconds);
    let id = explain::signed_id(scheme, &request).unwrap_or_else(|| event_id.to_owned());
    let url = known.source.public_url.as_deref().unwrap_or_default();
    let verify::Signed { headers, body } =
        scheme.sign(&secret, &id, event_type, &capture.body, url, at).map_err(cannot)?;
    for place in explain::places_of_signature(&known.spec) {
        made.headers.remove(place.trim_start_matches("header:"));
    }
    let read: Vec<String> =
        headers_read(known, capture).iter().map(|name| name.to_ascii_lowercase()).collect();
    if let Some(body) = body {
        (made.body, made.body_base64) = body_as_text(&body);
    }
    for (name, value) in headers {
        if read.contains(&name.to_ascii_lowercase()) {
            made.headers.retain(|have, _| !have.eq_ignore_ascii_case(&name));
            made.headers.insert(name, Lines(vec![value]));
        }
    }
    made.secret = Some(text);
    Ok(())
}

/// One that the scheme takes, and that was never used.
fn fresh_secret(known: &Known) -> String {
    let bytes: [u8; 24] = rand::random();
    let prefix = known.spec.secret.strip_prefix.as_deref().unwrap_or_default();
    match (known.spec.kind.as_deref(), known.spec.secret.decode.as_deref()) {
        (Some("basic"), _) => format!("sample:{}", hex::encode(bytes)),
        (_, Some("base64")) => format!("{prefix}{}", STANDARD.encode(bytes)),
        (_, Some("hex")) => format!("{prefix}{}", hex::encode(bytes)),
        _ => format!("{prefix}sample_{}", hex::encode(bytes)),
    }
}

/// As it stands below `sources.NAME`.
fn yaml(sample: &Sample) -> String {
    // What JSON writes in quotes, YAML reads.
    let quoted = |text: &str| Value::from(text).to_string();
    let mut text = "    sample:\n".to_owned();
    let mut line = |key: &str, value: String| text += &format!("      {key}: {value}\n");
    sample.secret.iter().for_each(|secret| line("secret", quoted(secret)));
    sample.method.iter().for_each(|method| line("method", quoted(method)));
    sample.url.iter().for_each(|url| line("url", quoted(url)));
    line("headers", String::new());
    for (name, Lines(lines)) in &sample.headers {
        let value = match &lines[..] {
            [one] => quoted(one),
            several => {
                format!("[ {} ]", several.iter().map(|line| quoted(line)).collect::<Vec<_>>().join(", "))
            }
        };
        line(&format!("  {name}"), value);
    }
    sample.body.iter().for_each(|body| line("body", quoted(body)));
    sample.body_base64.iter().for_each(|body| line("body_base64", quoted(body)));
    sample.now.iter().for_each(|now| line("now", now.to_string()));
    text.replace("headers: \n", "headers:\n")
}
