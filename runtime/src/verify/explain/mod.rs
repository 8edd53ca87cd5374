//! Explain: what verification sees in one request, step by step, in words for a person; and the first thing that
//! differs where it does not match.
//!
//! ```text
//! look    what stands at the scheme's places, and what of it is a signature
//! tries   the known mistakes, each made good and judged again
//! bodies  what a body may have been before it was written anew
//! show    bytes and times in words; the veil over secrets and signatures
//! engine  what all this asks of a scheme beyond `verify`
//! ```
//!
//! Pure, as the room. It never tells a signature that was computed, nor a whole one that was sent: where only the body
//! was changed on its way, that is the one that the right key makes. Not here: where a request was written down, and
//! which secrets there are (`cli`).

use serde::Serialize;

use super::spec::{EventSpec, Problem, Spec};
use super::{Identity, Refused, Request, Scheme, Verified, rotation};
use crate::words::secret::{Fingerprint, Secret};
use crate::words::time::Millis;

mod bodies;
mod engine;
mod look;
mod show;
#[cfg(test)]
mod tests;
mod tries;

pub(in crate::verify) use engine::parsed;
pub(in crate::verify) use look::{Found, Role, Splitter, decoded, look, place_in_words};
pub(in crate::verify) use show::position;
pub use tries::{Change, Difference};

use show::{Veil, beside, escaped, excerpt, plural, span};

/// A source's scheme, its secrets, and a request.
#[derive(Debug)]
pub struct Case<'a> {
    /// The preset's keys below, the source's above.
    pub spec: &'a Spec,
    pub event: &'a EventSpec,
    pub request: Request<'a>,
    /// Of the source, newest first.
    pub secrets: &'a [KnownSecret],
    /// Of other sources: tried only where those do not match.
    pub others: &'a [KnownSecret],
    /// The URL that was asked for, as far as it is known.
    pub seen_url: Option<&'a str>,
    pub now: Millis,
}

/// A secret and where it is configured.
#[derive(Clone, Debug)]
pub struct KnownSecret {
    /// `env:ACME_SECRET`; of another source `env:ACME_SECRET of acme`.
    pub name: String,
    pub secret: Secret,
    /// Last moment at which it is tried; None: no end.
    pub ends: Option<Millis>,
}

impl KnownSecret {
    /// As it is written in the configuration.
    fn reference(&self) -> &str {
        self.name.split(' ').next().unwrap_or_default()
    }
}

/// What verification saw, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    #[serde(flatten)]
    pub verdict: Verdict,
    pub steps: Vec<Step>,
    /// None: it is genuine, or no known mistake explains it.
    pub difference: Option<Difference>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// A live secret made the signature.
    Genuine {
        secret: Fingerprint,
        /// Where the request says when it was signed.
        signed_at: Option<Millis>,
        /// Whether it would be accepted at the time of the case, and not only at the time at which it was signed.
        in_time: bool,
        /// In this request; id and type are the first one's.
        events: usize,
        event_id: String,
        event_type: String,
    },
    Refused {
        /// For the operator.
        reason: String,
    },
}

/// One thing that verification does, and what it met.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// `signature`, `timestamp`, `id`, `require`, `signed`, `secrets`, `time`, `event`.
    pub step: &'static str,
    pub lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub mark: Mark,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    Plain,
    Good,
    Bad,
}

/// Judges the case as the daemon would, and says how.
///
/// # Errors
/// What is wrong with the scheme, where it does not compile.
pub fn explain(case: &Case<'_>) -> Result<Explanation, Vec<Problem>> {
    let scheme = Scheme::compile(case.spec, case.event)?;
    let mut telling = Telling { case, scheme: &scheme, veil: veil(case, &scheme), steps: Vec::new() };
    telling.signature();
    telling.timestamp();
    telling.id();
    telling.require();
    telling.signed();
    let judged = telling.judge();
    telling.secrets(&judged);
    let verdict = telling.verdict(&judged);
    let outcome = judged.is_err().then(|| tries::search(case));
    if let Some(outcome) = &outcome {
        telling.tried(outcome);
    }
    let difference = outcome.and_then(|outcome| outcome.difference);
    Ok(telling.told(verdict, difference))
}

/// The id that a request was signed with, as far as it says one; it is not believed yet.
pub fn signed_id(scheme: &Scheme, request: &Request<'_>) -> Option<String> {
    scheme.claimed_id(request)
}

/// Where a signature is looked for: user and password are in the header that HTTP has for them.
pub fn places_of_signature(spec: &Spec) -> Vec<String> {
    match &spec.signature.from {
        Some(from) => from.0.clone(),
        None if spec.kind.as_deref() == Some("basic") => vec!["header:Authorization".to_owned()],
        None => Vec::new(),
    }
}

/// What differs between a request and one that would be genuine, as far as a known mistake explains it.
pub(super) fn difference(case: &Case<'_>) -> Option<Difference> {
    let veil = veil(case, &Scheme::compile(case.spec, case.event).ok()?);
    tries::search(case).difference.map(|difference| veiled(&veil, difference))
}

fn veil(case: &Case<'_>, scheme: &Scheme) -> Veil {
    let mut veil = Veil::default();
    for secret in case.secrets.iter().chain(case.others) {
        veil.hide_secret(secret.secret.expose(), &secret.name);
        veil.hide_secret(secret.secret.expose().trim_ascii(), &secret.name);
        if let Ok(decoded) = scheme.decoded(&secret.secret) {
            veil.hide_secret(&decoded, &secret.name);
        }
    }
    for place in places_of_signature(case.spec) {
        let Found::There(texts) = look(&place, true, &case.request) else { continue };
        let splitter = Splitter::new(case.spec, scheme.proof_bytes());
        for item in texts.iter().flat_map(|text| splitter.items(text)) {
            match item.role {
                Role::Stamp => {}
                _ if splitter.is_secret_itself() => veil.hide_secret(item.text.as_bytes(), "that was sent"),
                _ => veil.hide_signature(&item.text),
            }
        }
    }
    veil
}

fn veiled(veil: &Veil, mut difference: Difference) -> Difference {
    for change in &mut difference.changes {
        change.says = veil.over_text(&change.says);
        change.write = change.write.as_ref().map(|write| veil.over_text(write));
    }
    difference
}

struct Telling<'c> {
    case: &'c Case<'c>,
    scheme: &'c Scheme,
    veil: Veil,
    steps: Vec<Step>,
}

/// What is genuine, and whether it is accepted at the time of the case.
type Judged = Result<(Verified, bool), Refused>;

impl Telling<'_> {
    fn step(&mut self, step: &'static str, lines: Vec<(Mark, String)>) {
        if !lines.is_empty() {
            let lines = lines.into_iter().map(|(mark, text)| Line { mark, text: self.veil.over_text(&text) });
            self.steps.push(Step { step, lines: lines.collect() });
        }
    }

    fn told(self, verdict: Verdict, difference: Option<Difference>) -> Explanation {
        let verdict = match verdict {
            Verdict::Refused { reason } => Verdict::Refused { reason: self.veil.over_text(&reason) },
            Verdict::Genuine { secret, signed_at, in_time, events, event_id, event_type } => {
                Verdict::Genuine {
                    secret,
                    signed_at,
                    in_time,
                    events,
                    event_id: self.veil.over_text(&event_id),
                    event_type: self.veil.over_text(&event_type),
                }
            }
        };
        let difference = difference.map(|difference| veiled(&self.veil, difference));
        Explanation { verdict, steps: self.steps, difference }
    }

    // === what is read ===

    fn signature(&mut self) {
        let spec = self.case.spec;
        if !self.scheme.is_data() {
            let kind = spec.kind.as_deref().unwrap_or_default();
            let told = format!("`{kind}` is a built-in scheme: what it reads is in docs/builtins.md");
            return self.step("signature", vec![(Mark::Plain, told)]);
        }
        let from = places_of_signature(spec);
        let may_repeat = spec.signature.format.as_deref() == Some("list");
        let mut lines = Vec::new();
        let found: Vec<_> =
            from.iter().map(|place| (place, look(place, may_repeat, &self.case.request))).collect();
        let is_anywhere = found.iter().any(|(_, found)| matches!(found, Found::There(_)));
        for (place, found) in found {
            let words = place_in_words(place);
            let missing = if is_anywhere { Mark::Plain } else { Mark::Bad };
            match found {
                Found::Absent => lines.push((missing, format!("{words}: it is not there"))),
                Found::Empty => {
                    lines.push((missing, format!("{words}: it is empty, which counts as not there")))
                }
                Found::Odd(why) => lines.push((Mark::Bad, format!("{words}: {why}"))),
                Found::There(texts) => self.items(&words, &texts, &mut lines),
            }
        }
        if !is_anywhere && !lines.is_empty() {
            lines.extend(self.signature_like());
        }
        self.step("signature", lines);
    }

    fn items(&self, words: &str, texts: &[String], lines: &mut Vec<(Mark, String)>) {
        let splitter = Splitter::new(self.case.spec, self.scheme.proof_bytes());
        lines.push((
            Mark::Plain,
            format!(
                "{words}: {}",
                if texts.len() == 1 { "found".to_owned() } else { format!("found {} times", texts.len()) }
            ),
        ));
        let items: Vec<_> = texts.iter().flat_map(|text| splitter.items(text)).collect();
        let shown = items.iter().take(SHOWN_MAX);
        lines.extend(shown.map(|item| {
            let text = item.shown(splitter.is_secret_itself());
            match &item.role {
                Role::Stamp => (Mark::Good, format!("  {text}: the timestamp")),
                Role::Skipped(why) => (Mark::Plain, format!("  {text}: left out, {why}")),
                Role::Candidate(Ok(bytes)) if splitter.is_secret_itself() => {
                    (Mark::Good, format!("  {text}: {}", plural(*bytes, "byte")))
                }
                Role::Candidate(Ok(bytes)) => {
                    let encoding = self.case.spec.signature.encoding.as_deref().unwrap_or_default();
                    (Mark::Good, format!("  {text}: {} in {encoding}", plural(*bytes, "byte")))
                }
                Role::Candidate(Err(why)) => (Mark::Bad, format!("  {text}: {why}")),
            }
        }));
        if items.len() > SHOWN_MAX {
            lines.push((Mark::Plain, format!("  and {} more", items.len() - SHOWN_MAX)));
        }
        if !items.iter().any(|item| matches!(item.role, Role::Candidate(_))) {
            lines.push((Mark::Bad, "  no signature is among them".to_owned()));
        }
    }

    /// Where the signature is missing: what else could be one.
    fn signature_like(&self) -> Option<(Mark, String)> {
        let is_like = |name: &&str| {
            ["sign", "hmac", "token", "auth", "digest", "hash"].iter().any(|word| name.contains(word))
        };
        let mut names: Vec<_> = self
            .case
            .request
            .headers
            .keys()
            .map(http::HeaderName::as_str)
            .filter(is_like)
            .map(|name| format!("`{name}`"))
            .collect();
        names.dedup();
        let said = if names.is_empty() {
            "no header of the request is called as if it held a signature".to_owned()
        } else {
            format!("headers that may hold one: {}", names.join(", "))
        };
        Some((Mark::Plain, said))
    }

    fn timestamp(&mut self) {
        let spec = &self.case.spec.timestamp;
        let Some(from) = &spec.from else { return };
        let words = place_in_words(from);
        let line = match self.stamp_text(from) {
            Found::Absent => (Mark::Bad, format!("{words}: it is not there")),
            Found::Empty => (Mark::Bad, format!("{words}: it is empty, which counts as not there")),
            Found::Odd(why) => (Mark::Bad, format!("{words}: {why}")),
            Found::There(texts) => self.time(&words, &texts[0]),
        };
        let mut lines = vec![line];
        if spec.signed == Some(false) {
            lines.push((Mark::Plain, "it is not signed, so it proves little".to_owned()));
        }
        self.step("timestamp", lines);
    }

    fn stamp_text(&self, from: &str) -> Found {
        if !from.starts_with("field:") {
            return look(from, false, &self.case.request);
        }
        let stamps: Vec<String> = self.signature_items(Role::Stamp).collect();
        match stamps.first() {
            Some(first) if stamps.iter().any(|stamp| stamp != first) => {
                Found::Odd("it is there twice, with different values: such a request is refused".to_owned())
            }
            Some(first) => Found::There(vec![first.clone()]),
            None => Found::Absent,
        }
    }

    fn signature_items(&self, role: Role) -> impl Iterator<Item = String> {
        let case = self.case;
        let bytes = self.scheme.proof_bytes();
        let texts = places_of_signature(case.spec).into_iter().filter_map(move |place| {
            match look(&place, true, &case.request) {
                Found::There(texts) => Some(texts),
                _ => None,
            }
        });
        let items = texts.flatten().flat_map(move |text| Splitter::new(case.spec, bytes).items(&text));
        items.filter(move |item| item.role == role).map(|item| item.text)
    }

    fn time(&self, words: &str, text: &str) -> (Mark, String) {
        let shown = escaped(text.as_bytes());
        let unit = self.case.spec.timestamp.unit.as_deref().unwrap_or_default();
        match parsed(unit, text) {
            Some(at) => (Mark::Good, format!("{words}: `{shown}` is {at}, {}", beside(at, self.case.now))),
            None => {
                let other = UNITS.iter().find(|(other, ..)| *other != unit && parsed(other, text).is_some());
                let unit = UNITS.iter().find(|(known, ..)| *known == unit).map_or(unit, |(_, name)| *name);
                let hint = match other {
                    Some((other, name)) => {
                        format!("it reads as {name}: write `timestamp: {{ unit: {other} }}`")
                    }
                    None => "sign, space, fraction and letters are not taken".to_owned(),
                };
                (Mark::Bad, format!("{words}: `{shown}` is not {unit}; {hint}"))
            }
        }
    }

    fn id(&mut self) {
        let Some(place) = &self.case.spec.id else { return };
        let words = place_in_words(place);
        let line = match look(place, false, &self.case.request) {
            Found::Absent => (Mark::Bad, format!("{words}: it is not there, and it is signed")),
            Found::Empty => (Mark::Bad, format!("{words}: it is empty, which counts as not there")),
            Found::Odd(why) => (Mark::Bad, format!("{words}: {why}")),
            Found::There(texts) => (Mark::Good, format!("{words}: `{}`", excerpt(texts[0].as_bytes()))),
        };
        self.step("id", vec![line]);
    }

    fn require(&mut self) {
        let mut lines = Vec::new();
        for (place, expected) in &self.case.spec.require {
            let words = place_in_words(place);
            lines.push(match look(place, false, &self.case.request) {
                Found::Absent | Found::Empty => {
                    (Mark::Plain, format!("{words}: it is not there, and need not be"))
                }
                Found::Odd(why) => (Mark::Bad, format!("{words}: {why}")),
                Found::There(texts) if texts[0] == *expected => {
                    (Mark::Good, format!("{words}: `{expected}`, as required"))
                }
                Found::There(texts) => (
                    Mark::Bad,
                    format!("{words}: `{}`, where `{expected}` is required", excerpt(texts[0].as_bytes())),
                ),
            });
        }
        self.step("require", lines);
    }

    // === what is signed ===

    fn signed(&mut self) {
        let Some(template) = &self.case.spec.signed else { return };
        let mut lines = vec![(Mark::Plain, format!("`{template}`, which is here"))];
        for part in parts(template) {
            match part {
                Part::Literal(text) => lines.push((Mark::Plain, format!("  `{}`", escaped(text.as_bytes())))),
                Part::Name(name) => self.part(name, &mut lines),
            }
        }
        self.step("signed", lines);
    }

    fn part(&self, name: &str, lines: &mut Vec<(Mark, String)>) {
        let request = &self.case.request;
        let label = format!("{{{name}}}");
        let plain = |text: &str| (Mark::Plain, format!("  {label} = `{}`", self.shown(text.as_bytes())));
        match name {
            "body" => {
                lines.push((Mark::Plain, format!("  {label} = {}", body_in_words(request.body))));
                if !request.body.is_empty() {
                    lines.push((Mark::Plain, format!("    {}", self.shown(request.body))));
                }
            }
            "secret" => lines.push((Mark::Plain, format!("  {label} = the secret, which is not shown"))),
            "method" => lines.push(plain(request.method)),
            "url" | "url_decoded" | "path" if request.url.is_empty() => {
                lines.push((
                    Mark::Bad,
                    format!(
                        "  {label}: the source has no `public_url`; write the URL as the provider has it"
                    ),
                ));
            }
            _ => lines.push(match engine::resolved(self.scheme, name, self.case) {
                Ok(bytes) => plain(&String::from_utf8_lossy(&bytes)),
                Err(why) => (Mark::Bad, format!("  {label}: {why}")),
            }),
        }
        let seen = self.case.seen_url.filter(|seen| name == "url" && !seen.starts_with(request.url));
        lines.extend(seen.map(|seen| {
            let seen = self.shown(seen.as_bytes());
            (
                Mark::Plain,
                format!(
                    "    asked for was `{seen}`; signed is the source's `public_url` with the query that came"
                ),
            )
        }));
    }

    fn shown(&self, bytes: &[u8]) -> String {
        excerpt(&self.veil.over(bytes))
    }

    // === what came of it ===

    fn judge(&self) -> Judged {
        let keys = self.case.secrets.iter().filter(|secret| rotation::is_live(secret.ends, self.case.now));
        let keys: Vec<_> = keys.filter_map(|secret| self.scheme.key(&secret.secret, None).ok()).collect();
        self.scheme.judged(self.case.request, &keys, self.case.now)
    }

    fn secrets(&mut self, judged: &Judged) {
        let matched = judged.as_ref().ok().map(|(verified, _)| verified.secret());
        let mut lines = Vec::new();
        if self.case.secrets.is_empty() && self.scheme.fetches_keys().is_some() {
            let told = "the daemon fetches the sender's key; here nobody is asked: give it with `--secret-from file:PATH`";
            lines.push((Mark::Bad, told.to_owned()));
        }
        for secret in self.case.secrets {
            let fingerprint = secret.secret.fingerprint();
            let name = format!("`{}` ({fingerprint})", secret.name);
            let taken = match self.scheme.decoded(&secret.secret) {
                Ok(bytes) => format!("{name}: {}", self.taken(secret, bytes.len())),
                Err(why) => {
                    lines.push((Mark::Bad, format!("{name}: {why}")));
                    continue;
                }
            };
            let ended = secret.ends.filter(|_| !rotation::is_live(secret.ends, self.case.now));
            lines.push(match ended {
                Some(at) => (Mark::Plain, format!("{taken}; it ended {at}, and is not tried")),
                None if matched == Some(fingerprint) => {
                    (Mark::Good, format!("{taken}; it made the signature"))
                }
                None if judged.is_ok() || matches!(judged, Err(Refused::Mismatch { .. })) => {
                    (Mark::Plain, format!("{taken}; it did not make the signature"))
                }
                None => (Mark::Plain, format!("{taken}; there is nothing that it could be tried on")),
            });
            lines.extend(odd_text(secret.secret.expose()).map(|why| (Mark::Bad, format!("  {why}"))));
        }
        self.step("secrets", lines);
    }

    /// `after removing `whsec_`, base64 of 24 bytes`
    fn taken(&self, secret: &KnownSecret, bytes: usize) -> String {
        let spec = &self.case.spec.secret;
        let prefix = spec.strip_prefix.as_deref().unwrap_or_default();
        let is_there = !prefix.is_empty() && secret.secret.expose().starts_with(prefix.as_bytes());
        let removed = match (prefix, is_there) {
            ("", _) => String::new(),
            (prefix, true) => format!("after removing `{prefix}`, "),
            (prefix, false) => format!("without `{prefix}` at its beginning, "),
        };
        let bytes = plural(bytes, "byte");
        if !self.scheme.is_data() {
            return format!("taken as the built-in scheme does, {bytes}");
        }
        match spec.decode.as_deref() {
            None | Some("utf8") => format!("{removed}taken as it is, {bytes}"),
            Some("sha1") => format!("{removed}its SHA-1 is taken, {bytes}"),
            Some(encoding) => format!("{removed}{encoding} of {bytes}"),
        }
    }

    fn verdict(&mut self, judged: &Judged) -> Verdict {
        let (verified, in_time) = match judged {
            Ok((verified, in_time)) => (verified, *in_time),
            Err(refused) => return Verdict::Refused { reason: refused.to_string() },
        };
        self.age(verified.signed_at(), in_time);
        let events = self.scheme.identify(verified, self.case.request);
        let mut lines = Vec::new();
        for event in events.iter().take(SHOWN_MAX) {
            let (id, kind) = (excerpt(event.id.as_bytes()), excerpt(event.event_type.as_bytes()));
            lines.push((Mark::Good, format!("id `{id}`, type `{kind}`")));
            lines.extend(event.warnings.iter().map(|warning| (Mark::Bad, warning.clone())));
        }
        if events.len() > SHOWN_MAX {
            lines.push((Mark::Plain, format!("and {} more", events.len() - SHOWN_MAX)));
        }
        self.step("event", lines);
        let Identity { id: event_id, event_type, .. } = events.first().cloned().unwrap_or_default();
        let (secret, signed_at) = (verified.secret(), verified.signed_at());
        Verdict::Genuine { secret, signed_at, in_time, events: events.len(), event_id, event_type }
    }

    /// How old a genuine request is, and how old it may be.
    fn age(&mut self, signed_at: Option<Millis>, in_time: bool) {
        const THEN: &str = "at the time at which it was signed it would have been accepted";
        let now = self.case.now;
        let line = match (signed_at, self.scheme.tolerance()) {
            (Some(at), Some((past, future))) => {
                let (age, side, allowed) =
                    if at > now { (at.since(now), "ahead", future) } else { (now.since(at), "back", past) };
                let said = format!("{} {side}, and {} are allowed", span(age), span(allowed));
                if in_time { (Mark::Good, said) } else { (Mark::Bad, format!("{said}: {THEN}")) }
            }
            (Some(_), None) => (Mark::Plain, "`tolerance: none`: any age is accepted".to_owned()),
            (None, _) if in_time => return,
            (None, _) => (Mark::Bad, format!("it is not accepted now: {THEN}")),
        };
        self.step("time", vec![line]);
    }

    fn tried(&mut self, outcome: &tries::Outcome) {
        if outcome.difference.is_some() {
            return;
        }
        let mut lines = vec![(
            Mark::Plain,
            format!(
                "{} with body, URL, scheme and secret taken otherwise: none matches",
                plural(outcome.tries, "try").replace("trys", "tries")
            ),
        )];
        if outcome.is_cut {
            lines.push((
                Mark::Plain,
                "the body is so large that not all known mistakes were tried".to_owned(),
            ));
        }
        self.step("tries", lines);
    }
}

/// More items of one signature are counted, and not shown.
const SHOWN_MAX: usize = 8;

const UNITS: [(&str, &str); 4] = [
    ("s", "Unix seconds"),
    ("ms", "Unix milliseconds"),
    ("rfc3339", "an RFC 3339 time (2026-11-24T06:48:55Z)"),
    ("http-date", "an HTTP date (Tue, 24 Nov 2026 06:48:55 GMT)"),
];

enum Part<'t> {
    Literal(&'t str),
    Name(&'t str),
}

/// Of a template that compiled.
fn parts(template: &str) -> Vec<Part<'_>> {
    let (mut parts, mut rest) = (Vec::new(), template);
    while let Some((literal, behind)) = rest.split_once('{') {
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        let (name, behind) = behind.split_once('}').unwrap_or((behind, ""));
        parts.push(Part::Name(name));
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    parts
}

/// `612 bytes; it ends with a newline; …`
fn body_in_words(body: &[u8]) -> String {
    if body.is_empty() {
        return "the body, which is empty".to_owned();
    }
    let mut words = vec![format!("the body, {}", plural(body.len(), "byte"))];
    if body.starts_with(b"\xef\xbb\xbf") {
        words.push("it begins with a byte order mark".to_owned());
    }
    if body.ends_with(b"\r\n") {
        words.push("it ends with CR and LF".to_owned());
    } else if body.ends_with(b"\n") {
        words.push("it ends with a newline".to_owned());
    }
    if body.windows(2).any(|pair| pair == b"\r\n") {
        words.push("its lines end with CR and LF".to_owned());
    }
    if std::str::from_utf8(body).is_err() {
        words.push("it is not UTF-8".to_owned());
    }
    words.join("; ")
}

/// What a secret that was copied badly looks like.
fn odd_text(secret: &[u8]) -> Option<&'static str> {
    if secret.starts_with(b"-----BEGIN ") {
        return None;
    }
    if secret.trim_ascii() != secret {
        return Some("white space is around it; was it copied with it?");
    }
    match secret {
        [first @ (b'"' | b'\''), .., last] if first == last => {
            Some("quotes are around it; are they part of it?")
        }
        _ => None,
    }
}
