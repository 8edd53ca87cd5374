//! Compile: judges a spec and turns it into a scheme. All mistakes are named at once.
//!
//! A wrong recipe verifies nothing and looks green, so this refuses more than it must: a body or a timestamp
//! that is not signed, a key that has no meaning beside the others, a word that is not carried out yet.

use std::time::Duration;

use super::Scheme;
use super::extract::Place;
use super::format::{Encoding, Format, Items, Signature};
use super::identify::Event;
use super::mac::{Decode, Proof, SecretText};
use super::signed::Template;
use super::spec::{EventSpec, Problem, SignatureSpec, Spec, Texts, TimestampSpec};
use super::stamp::{self, Stamp, Unit};
use crate::words::limits::SIGNATURE_CANDIDATES_MAX;

pub(super) fn compile(spec: &Spec, event: &EventSpec) -> Result<Scheme, Vec<Problem>> {
    let mut judge = Judge::default();
    let event = judge.event(event);
    let scheme = match judge.kind(spec) {
        Some(Kind::Hmac) => judge.hmac(spec),
        Some(Kind::Token) => judge.token(spec),
        None => None,
    };
    match (scheme, event) {
        (Some(scheme), Some(event)) if judge.problems.is_empty() => Ok(Scheme { event, ..scheme }),
        _ => Err(judge.problems),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Hmac,
    Token,
}

const KINDS: Words<Kind> = &[
    ("hmac", Some(Kind::Hmac)),
    ("token", Some(Kind::Token)),
    ("hash", None),
    ("ed25519", None),
    ("ecdsa-p256", None),
    ("rsa-sha256", None),
    ("basic", None),
    ("none", None),
];
const ALGORITHMS: Words<Proof> = &[
    ("sha256", Some(Proof::HmacSha256)),
    ("sha512", Some(Proof::HmacSha512)),
    ("sha1", Some(Proof::HmacSha1)),
];
const ENCODINGS: Words<Encoding> = &[
    ("hex", Some(Encoding::Hex)),
    ("base64", Some(Encoding::Base64)),
    ("base64url", Some(Encoding::Base64Url)),
];
const UNITS: Words<Unit> = &[
    ("s", Some(Unit::Seconds)),
    ("ms", Some(Unit::Millis)),
    ("rfc3339", Some(Unit::Rfc3339)),
    ("http-date", Some(Unit::HttpDate)),
];
const DECODES: Words<Decode> = &[
    ("utf8", Some(Decode::Utf8)),
    ("base64", Some(Decode::Base64)),
    ("hex", Some(Decode::Hex)),
    ("sha1", None),
];

/// The words of a closed set; one without a meaning belongs to the language, but not to this release.
type Words<T> = &'static [(&'static str, Option<T>)];

/// Collects what is wrong. Each method gives None after saying why.
#[derive(Default)]
struct Judge {
    problems: Vec<Problem>,
}

impl Judge {
    fn hmac(&mut self, spec: &Spec) -> Option<Scheme> {
        let proof = self.required("scheme.algorithm", spec.algorithm.as_deref(), ALGORITHMS);
        let stamp = self.stamp(&spec.timestamp);
        let signature = self.signature(&spec.signature, &spec.timestamp);
        let template = self.template(spec);
        let id = self.optional_place("scheme.id", spec.id.as_deref());
        let secret = self.secret(spec);
        let require = self.require(spec);
        let template = template?;
        self.coverage(spec, &template, stamp.as_ref().and_then(Option::as_ref));
        let stamp = stamp?;
        let notes = notes(&template, stamp.as_ref(), &spec.timestamp);
        Some(Scheme {
            proof: proof?,
            signature: signature?,
            signed: template,
            stamp,
            id: id?,
            secret: secret?,
            require: require?,
            event: Event::default(),
            notes,
        })
    }

    fn token(&mut self, spec: &Spec) -> Option<Scheme> {
        let timestamp = (spec.timestamp != TimestampSpec::default()).then_some("");
        let consts = (!spec.consts.is_empty()).then_some("");
        let written = [
            ("scheme.algorithm", spec.algorithm.as_deref()),
            ("scheme.signed", spec.signed.as_deref()),
            ("scheme.id", spec.id.as_deref()),
            ("scheme.timestamp", timestamp),
            ("scheme.const", consts),
            ("scheme.signature.encoding", spec.signature.encoding.as_deref()),
            ("scheme.secret.decode", spec.secret.decode.as_deref()),
        ];
        self.meaningless("type: token", &written);
        let format = spec.signature.format.as_deref().or(Some("raw"));
        let format = self.format(&SignatureSpec { format: format.map(Into::into), ..spec.signature.clone() });
        if format.as_ref().is_some_and(|format| !matches!(format, Format::Raw | Format::Prefixed(_))) {
            self.say(
                "scheme.signature.format",
                "a token is sent alone; write format: raw or format: prefixed",
            );
        }
        let from = self.signature_from(spec.signature.from.as_ref());
        let secret = self.secret(spec);
        let require = self.require(spec);
        let signature =
            Signature { from: from?, format: format?, encoding: Encoding::Token, stamp_field: None };
        let note = "a token proves who sent a request, not what: whoever sees one can send others";
        Some(Scheme {
            proof: Proof::Token,
            signature,
            signed: Template::default(),
            stamp: None,
            id: None,
            secret: secret?,
            require: require?,
            event: Event::default(),
            notes: vec![note.into()],
        })
    }

    fn kind(&mut self, spec: &Spec) -> Option<Kind> {
        if spec.kind.is_none() {
            self.say(
                "scheme.type",
                "the scheme has no type; write type: hmac or type: token, or name a preset",
            );
            return None;
        }
        self.required("scheme.type", spec.kind.as_deref(), KINDS)
    }

    // === signature ===

    fn signature(&mut self, spec: &SignatureSpec, timestamp: &TimestampSpec) -> Option<Signature> {
        let from = self.signature_from(spec.from.as_ref());
        let encoding = self.required("scheme.signature.encoding", spec.encoding.as_deref(), ENCODINGS);
        let format = self.format(spec);
        let stamp_field = timestamp.from.as_deref().and_then(|from| from.strip_prefix("field:"));
        let format = format?;
        if let Some(field) = stamp_field {
            self.stamp_field(field, &format);
        }
        Some(Signature { from: from?, format, encoding: encoding?, stamp_field: stamp_field.map(Into::into) })
    }

    fn signature_from(&mut self, from: Option<&Texts>) -> Option<Vec<Place>> {
        const KEY: &str = "scheme.signature.from";
        match from {
            Some(texts) if !texts.0.is_empty() => self.places(KEY, texts),
            _ => {
                self.say(KEY, "the signature's place is missing; write from: \"header:X-Signature\"");
                None
            }
        }
    }

    fn format(&mut self, spec: &SignatureSpec) -> Option<Format> {
        if spec.groups.is_some() {
            self.say("scheme.signature.groups", "groups are not supported yet; remove the key");
        }
        let (prefix, separator) = (spec.prefix.as_deref(), spec.separator.as_deref());
        let (assign, key) = (spec.assign.as_deref(), spec.key.as_deref());
        let prefixes = [("scheme.signature.prefix", prefix)];
        let separators = [("scheme.signature.separator", separator)];
        let pairs = [("scheme.signature.assign", assign), ("scheme.signature.key", key)];
        let word = spec.format.as_deref();
        match word {
            Some("raw") => {
                self.meaningless("format: raw", &[&prefixes[..], &separators[..], &pairs[..]].concat());
                Some(Format::Raw)
            }
            Some("prefixed") => {
                self.meaningless("format: prefixed", &[&separators[..], &pairs[..]].concat());
                self.text("scheme.signature.prefix", prefix, "sha256=").map(Format::Prefixed)
            }
            Some("positional") => {
                self.meaningless("format: positional", &[&prefixes[..], &pairs[..]].concat());
                let separator = self.text("scheme.signature.separator", separator, ",")?;
                Some(Format::Positional { separator })
            }
            Some("list") => {
                self.meaningless("format: list", &prefixes);
                let is_bare = assign.is_none() && key.is_none_or(|key| key == "*");
                self.items(spec, is_bare).map(Format::List)
            }
            Some("fields") => {
                self.meaningless("format: fields", &prefixes);
                self.items(spec, false).map(Format::Fields)
            }
            _ => {
                let formats: Words<()> = &[
                    ("raw", None),
                    ("prefixed", None),
                    ("list", None),
                    ("fields", None),
                    ("positional", None),
                ];
                self.unknown("scheme.signature.format", word, formats);
                None
            }
        }
    }

    fn items(&mut self, spec: &SignatureSpec, is_bare: bool) -> Option<Items> {
        let separator = self.text("scheme.signature.separator", spec.separator.as_deref(), ",");
        if is_bare {
            return Some(Items { separator: separator?, assign: None, key: None });
        }
        let assign = self.text("scheme.signature.assign", spec.assign.as_deref(), "=");
        let key = self.text("scheme.signature.key", spec.key.as_deref(), "v1");
        Some(Items { separator: separator?, assign: Some(assign?), key: Some(key?).filter(|key| key != "*") })
    }

    /// The timestamp that is an item of the signature: `field:t`, or `field:0` by position.
    fn stamp_field(&mut self, field: &str, format: &Format) {
        const KEY: &str = "scheme.timestamp.from";
        match format {
            Format::Positional { .. } => match field.parse::<usize>() {
                Ok(position) if position < SIGNATURE_CANDIDATES_MAX && position.to_string() == field => {}
                _ => self.say(
                    KEY,
                    format!("`{field}` is not a position; write from: \"field:0\" for the first item"),
                ),
            },
            Format::Fields(items) if field.is_empty() || items.key.as_deref() == Some(field) => {
                self.say(KEY, "the timestamp needs a key of its own; write from: \"field:t\"");
            }
            Format::Fields(_) => {}
            _ => self.say(
                KEY,
                "only format: fields and format: positional have fields; write one of them, or header:X",
            ),
        }
    }

    // === timestamp ===

    /// None: something is wrong; Some(None): the scheme has no timestamp.
    fn stamp(&mut self, spec: &TimestampSpec) -> Option<Option<Stamp>> {
        if *spec == TimestampSpec::default() {
            return Some(None);
        }
        let from = self.stamp_from(spec.from.as_deref());
        let unit = self.required("scheme.timestamp.unit", spec.unit.as_deref(), UNITS);
        let window = self.window(spec);
        Some(Some(Stamp { from: from?, unit: unit?, window: window? }))
    }

    fn stamp_from(&mut self, from: Option<&str>) -> Option<stamp::From> {
        const KEY: &str = "scheme.timestamp.from";
        match from {
            None => {
                self.say(
                    KEY,
                    "the timestamp's place is missing; write from: \"header:X\" or from: \"field:t\"",
                );
                None
            }
            Some(field) if field.starts_with("field:") => Some(stamp::From::Field),
            Some(text) => match self.place(KEY, text)? {
                Place::Query(_) => {
                    self.say(KEY, "a timestamp in the query is not supported yet; write header:, field:, json: or form:");
                    None
                }
                place => Some(stamp::From::Place(place)),
            },
        }
    }

    fn window(&mut self, spec: &TimestampSpec) -> Option<Option<(Duration, Duration)>> {
        const KEY: &str = "scheme.timestamp.tolerance";
        let Some(tolerance) = spec.tolerance.as_deref() else {
            self.say(KEY, "how old may a signature be? write tolerance: 300s, or tolerance: none");
            return None;
        };
        if tolerance == "none" {
            self.meaningless("tolerance: none", &[("scheme.timestamp.future", spec.future.as_deref())]);
            return Some(None);
        }
        let past = self.span(KEY, tolerance);
        let future = match spec.future.as_deref() {
            Some(future) => self.span("scheme.timestamp.future", future),
            None => past,
        };
        Some(Some((past?, future?)))
    }

    fn span(&mut self, key: &str, text: &str) -> Option<Duration> {
        let span = parse_span(text);
        if span.is_none() {
            self.say(key, format!("`{text}` is not a span of time; write one as 300s, 10m or 1h"));
        }
        span
    }

    // === what is signed ===

    fn template(&mut self, spec: &Spec) -> Option<Template> {
        const KEY: &str = "scheme.signed";
        let Some(text) = spec.signed.as_deref() else {
            self.say(KEY, "what is signed? write signed: \"{timestamp}.{body}\"");
            return None;
        };
        for name in spec.consts.keys().filter(|name| !text.contains(&format!("{{const:{name}}}"))) {
            self.say(
                &format!("scheme.const.{name}"),
                format!("`signed` does not hold {{const:{name}}}; remove this"),
            );
        }
        match Template::parse(text, &spec.consts) {
            Ok(template) => Some(template),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.say(KEY, problem));
                None
            }
        }
    }

    /// Everything that is checked must be signed, and everything that is signed must be there.
    fn coverage(&mut self, spec: &Spec, template: &Template, stamp: Option<&Stamp>) {
        if !template.has_body() {
            self.say(
                "scheme.signed",
                "the body is not signed, so anybody could change it; write {body} into it",
            );
        }
        match (template.has_id(), spec.id.is_some()) {
            (true, false) => {
                self.say("scheme.id", "`signed` holds {id}; write where it is: id: \"header:X-Id\"")
            }
            (false, true) => {
                self.say(
                    "scheme.id",
                    "`signed` does not hold {id}; remove this (event.id names the event's id)",
                );
            }
            _ => {}
        }
        let is_in_body = stamp.is_some_and(|stamp| {
            matches!(stamp.from, stamp::From::Place(Place::Json { .. } | Place::Form(_)))
        });
        let is_covered = template.has_timestamp() || is_in_body;
        match (spec.timestamp != TimestampSpec::default(), is_covered, spec.timestamp.signed) {
            (false, true, _) => {
                self.say("scheme.timestamp", "`signed` holds {timestamp}; write where it is: timestamp: { from: … }");
            }
            (true, false, None | Some(true)) if stamp.is_some() => self.say(
                "scheme.signed",
                "the timestamp is not signed, so it proves nothing; write {timestamp} into it, or timestamp: { signed: false }",
            ),
            (true, true, Some(false)) => {
                self.say("scheme.timestamp.signed", "the timestamp is signed; remove signed: false");
            }
            _ => {}
        }
    }

    fn secret(&mut self, spec: &Spec) -> Option<SecretText> {
        let decode = match spec.secret.decode.as_deref() {
            None => Some(Decode::Utf8),
            word => self.required("scheme.secret.decode", word, DECODES),
        };
        Some(SecretText { strip_prefix: spec.secret.strip_prefix.clone(), decode: decode? })
    }

    fn require(&mut self, spec: &Spec) -> Option<Vec<(Place, String)>> {
        let mut require = Vec::new();
        for (text, value) in &spec.require {
            let key = format!("scheme.require.{text}");
            require.push((self.place(&key, text)?, value.clone()));
        }
        Some(require)
    }

    // === event ===

    fn event(&mut self, spec: &EventSpec) -> Option<Event> {
        if spec.each.is_some() {
            self.say("event.each", "several events in one request are not supported yet; remove the key");
        }
        let ids = self.places("event.id", spec.id.as_ref().unwrap_or(&Texts::default()));
        let kinds = self.places("event.type", spec.kind.as_ref().unwrap_or(&Texts::default()));
        Some(Event::new(ids?, kinds?))
    }

    // === words ===

    fn places(&mut self, key: &str, texts: &Texts) -> Option<Vec<Place>> {
        let is_list = texts.0.len() > 1;
        let places = texts.0.iter().enumerate().map(|(at, text)| {
            let key = if is_list { format!("{key}.{at}") } else { key.to_owned() };
            self.place(&key, text)
        });
        // Collected first, so that every wrong place is named.
        let places: Vec<Option<Place>> = places.collect();
        places.into_iter().collect()
    }

    fn place(&mut self, key: &str, text: &str) -> Option<Place> {
        Place::parse(text).map_err(|problem| self.say(key, problem)).ok()
    }

    fn optional_place(&mut self, key: &str, text: Option<&str>) -> Option<Option<Place>> {
        match text {
            Some(text) => self.place(key, text).map(Some),
            None => Some(None),
        }
    }

    fn text(&mut self, key: &str, text: Option<&str>, example: &str) -> Option<String> {
        let text = text.filter(|text| !text.is_empty());
        if text.is_none() {
            let name = key.rsplit('.').next().unwrap_or(key);
            self.say(key, format!("it is missing or empty; write {name}: \"{example}\""));
        }
        text.map(str::to_owned)
    }

    fn required<T: Copy>(&mut self, key: &str, word: Option<&str>, words: Words<T>) -> Option<T> {
        match words.iter().find(|(known, _)| Some(*known) == word) {
            Some((_, Some(meaning))) => Some(*meaning),
            Some((word, None)) => {
                self.say(key, format!("`{word}` is not supported yet; write {}", listing(words)));
                None
            }
            None => {
                self.unknown(key, word, words);
                None
            }
        }
    }

    fn unknown<T>(&mut self, key: &str, word: Option<&str>, words: Words<T>) {
        let what = match word {
            Some(word) => format!("`{word}` is not known here"),
            None => "it is missing".to_owned(),
        };
        self.say(key, format!("{what}; write {}", listing(words)));
    }

    /// A key that does nothing would let its writer believe that it did.
    fn meaningless(&mut self, beside: &str, written: &[(&str, Option<&str>)]) {
        for (key, _) in written.iter().filter(|(_, value)| value.is_some()) {
            self.say(key, format!("it has no meaning with {beside}; remove it"));
        }
    }

    fn say(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(Problem { key: key.to_owned(), message: message.into() });
    }
}

/// `hex, base64 or base64url`; of a set that is carried out in part, only that part.
fn listing<T>(words: Words<T>) -> String {
    let carried_out: Vec<&str> =
        words.iter().filter(|(_, meaning)| meaning.is_some()).map(|(word, _)| *word).collect();
    let named =
        if carried_out.is_empty() { words.iter().map(|(word, _)| *word).collect() } else { carried_out };
    match named.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => named.concat(),
    }
}

/// A whole number with one unit: `300s`, `500ms`, `10m`, `1h`, `2d`.
fn parse_span(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_ms).map(Duration::from_millis)
}

fn notes(template: &Template, stamp: Option<&Stamp>, timestamp: &TimestampSpec) -> Vec<String> {
    let mut notes = Vec::new();
    if template.is_ambiguous() {
        notes.push(
            "`signed` joins two values with nothing between them, so their border is not signed".to_owned(),
        );
    }
    if stamp.is_some_and(|stamp| stamp.window.is_none()) {
        notes.push("`tolerance: none` accepts a signature of any age".to_owned());
    }
    if timestamp.signed == Some(false) {
        notes.push(
            "the timestamp is not signed: whoever captured a request can send it again at any time"
                .to_owned(),
        );
    }
    notes
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({
            "type": "hmac", "algorithm": "sha256", "signed": "{timestamp}.{body}",
            "signature": {
                "from": "header:X-Sig", "format": "fields", "separator": ",", "assign": "=", "key": "v1",
                "encoding": "hex",
            },
            "timestamp": {"from": "field:t", "unit": "s", "tolerance": "300s"},
        })
    }

    /// `good`, with the keys of `change` laid over it; null takes a key away.
    fn changed(change: Value) -> Spec {
        fn lay(base: &mut Value, change: Value) {
            match (base, change) {
                (Value::Object(base), Value::Object(change)) => {
                    for (key, value) in change {
                        if value.is_null() {
                            base.shift_remove(&key);
                        } else {
                            lay(base.entry(key).or_insert(Value::Null), value);
                        }
                    }
                }
                (base, change) => *base = change,
            }
        }
        let mut spec = good();
        lay(&mut spec, change);
        serde_json::from_value(spec).unwrap()
    }

    fn problems(spec: &Spec) -> Vec<String> {
        match compile(spec, &EventSpec::default()) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_good_scheme_compiles_and_keeps_its_window() {
        let window = |change| compile(&changed(change), &EventSpec::default()).unwrap().tolerance();
        let seconds = Duration::from_secs;
        assert_eq!(window(json!({})), Some((seconds(300), seconds(300))));
        assert_eq!(window(json!({"timestamp": {"tolerance": "10m"}})), Some((seconds(600), seconds(600))));
        assert_eq!(
            window(json!({"timestamp": {"tolerance": "10m", "future": "0s"}})),
            Some((seconds(600), seconds(0)))
        );
        assert_eq!(window(json!({"timestamp": {"tolerance": "none"}})), None);
        assert_eq!(window(json!({"timestamp": null, "signed": "{body}"})), None);
    }

    #[test]
    fn each_mistake_is_named_with_what_to_type() {
        for (change, expected) in [
            (json!({"type": null}), "scheme.type: the scheme has no type; write type: hmac or type: token"),
            (json!({"type": "hmax"}), "scheme.type: `hmax` is not known here; write hmac or token"),
            (json!({"type": "ed25519"}), "scheme.type: `ed25519` is not supported yet; write hmac or token"),
            (json!({"type": "none"}), "scheme.type: `none` is not supported yet; write hmac or token"),
            (json!({"algorithm": null}), "scheme.algorithm: it is missing; write sha256, sha512 or sha1"),
            (json!({"algorithm": "md5"}), "scheme.algorithm: `md5` is not known here; write sha256"),
            (json!({"signature": {"from": null}}), "scheme.signature.from: the signature's place is missing"),
            (json!({"signature": {"from": []}}), "scheme.signature.from: the signature's place is missing"),
            (json!({"signature": {"from": "X-Sig"}}), "scheme.signature.from: `X-Sig` names no place"),
            (
                json!({"signature": {"from": ["header:A", "b"]}}),
                "scheme.signature.from.1: `b` names no place",
            ),
            (
                json!({"signature": {"from": "header-numbered:X-"}}),
                "scheme.signature.from: numbered headers are not supported yet",
            ),
            (
                json!({"signature": {"format": "filds"}}),
                "scheme.signature.format: `filds` is not known here; write raw, prefixed, list, fields or positional",
            ),
            (json!({"signature": {"format": null}}), "scheme.signature.format: it is missing; write raw"),
            (json!({"signature": {"separator": null}}), "scheme.signature.separator: it is missing or empty"),
            (
                json!({"signature": {"assign": ""}}),
                "scheme.signature.assign: it is missing or empty; write assign: \"=\"",
            ),
            (
                json!({"signature": {"key": null}}),
                "scheme.signature.key: it is missing or empty; write key: \"v1\"",
            ),
            (
                json!({"signature": {"key": "t"}}),
                "scheme.timestamp.from: the timestamp needs a key of its own",
            ),
            (
                json!({"signature": {"prefix": "a"}}),
                "scheme.signature.prefix: it has no meaning with format: fields",
            ),
            (json!({"signature": {"groups": " "}}), "scheme.signature.groups: groups are not supported yet"),
            (
                json!({"signature": {"encoding": "hexx"}}),
                "scheme.signature.encoding: `hexx` is not known here; write hex",
            ),
            (json!({"timestamp": {"from": null}}), "scheme.timestamp.from: the timestamp's place is missing"),
            (json!({"timestamp": {"from": "query:t"}}), "scheme.timestamp.from: a timestamp in the query"),
            (
                json!({"timestamp": {"unit": null}}),
                "scheme.timestamp.unit: it is missing; write s, ms, rfc3339 or http-date",
            ),
            (
                json!({"timestamp": {"tolerance": null}}),
                "scheme.timestamp.tolerance: how old may a signature be?",
            ),
            (
                json!({"timestamp": {"tolerance": "300"}}),
                "scheme.timestamp.tolerance: `300` is not a span of time",
            ),
            (
                json!({"timestamp": {"future": "soon"}}),
                "scheme.timestamp.future: `soon` is not a span of time",
            ),
            (
                json!({"timestamp": {"tolerance": "none", "future": "1s"}}),
                "scheme.timestamp.future: it has no meaning with tolerance: none",
            ),
            (json!({"timestamp": {"signed": false}}), "scheme.timestamp.signed: the timestamp is signed"),
            (json!({"timestamp": null}), "scheme.timestamp: `signed` holds {timestamp}"),
            (json!({"signed": null}), "scheme.signed: what is signed?"),
            (json!({"signed": "{timestamp}."}), "scheme.signed: the body is not signed"),
            (json!({"signed": "{body}"}), "scheme.signed: the timestamp is not signed, so it proves nothing"),
            (json!({"signed": "{timestamp}.{bdy}{body}"}), "scheme.signed: `{bdy}` is not known"),
            (json!({"signed": "{id}.{timestamp}.{body}"}), "scheme.id: `signed` holds {id}"),
            (json!({"id": "header:X-Id"}), "scheme.id: `signed` does not hold {id}"),
            (json!({"const": {"x": "y"}}), "scheme.const.x: `signed` does not hold {const:x}"),
            (
                json!({"secret": {"decode": "sha1"}}),
                "scheme.secret.decode: `sha1` is not supported yet; write utf8, base64 or hex",
            ),
            (json!({"require": {"X-V": "1"}}), "scheme.require.X-V: `X-V` names no place"),
        ] {
            let found = problems(&changed(change.clone()));
            assert_eq!(found.len(), 1, "{change}: {found:?}");
            assert!(found[0].starts_with(expected), "{change}: {found:?}");
        }
    }

    #[test]
    fn fields_belong_to_formats_that_have_them() {
        let raw =
            changed(json!({"signature": {"format": "raw", "separator": null, "assign": null, "key": null}}));
        assert!(problems(&raw)[0].starts_with("scheme.timestamp.from: only format: fields"));
        let positional = |field: &str| {
            changed(json!({
                "signature": {"format": "positional", "assign": null, "key": null}, "timestamp": {"from": field},
            }))
        };
        assert!(problems(&positional("field:0")).is_empty());
        for wrong in ["field:t", "field:64", "field:00", "field:"] {
            assert!(problems(&positional(wrong))[0].contains("is not a position"), "{wrong}");
        }
    }

    #[test]
    fn a_token_has_no_use_for_what_an_hmac_needs() {
        let token = |change: Value| {
            let mut base = json!({"type": "token", "signature": {"from": "header:X-Token"}});
            base.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            problems(&serde_json::from_value(base).unwrap())
        };
        assert!(token(json!({})).is_empty());
        let bearer =
            json!({"signature": {"from": "header:Authorization", "format": "prefixed", "prefix": "Bearer "}});
        assert!(token(bearer).is_empty());
        for key in ["algorithm", "signed", "id"] {
            assert!(token(json!({key: "x"}))[0].contains("no meaning with type: token"), "{key}");
        }
        let list = json!({"signature": {"from": "header:X", "format": "list", "separator": ","}});
        assert!(token(list)[0].contains("format: raw"));
    }

    #[test]
    fn all_mistakes_are_named_at_once() {
        let spec = changed(json!({
            "algorithm": "md5", "signed": "{timestamp}", "secret": {"decode": "rot13"},
            "signature": {"from": "X", "encoding": "hexx", "key": null},
            "timestamp": {"unit": "days", "tolerance": null},
        }));
        let event = serde_json::from_value(json!({"id": ["id", "json:a"], "type": "type", "each": "json:e"}))
            .unwrap();
        let Err(found) = compile(&spec, &event) else { panic!("compiled") };
        let mut keys: Vec<&str> = found.iter().map(|problem| problem.key.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "event.each",
                "event.id.0",
                "event.type",
                "scheme.algorithm",
                "scheme.secret.decode",
                "scheme.signature.encoding",
                "scheme.signature.from",
                "scheme.signature.key",
                "scheme.signed",
                "scheme.timestamp.tolerance",
                "scheme.timestamp.unit",
            ]
        );
    }

    #[test]
    fn weak_schemes_are_noted() {
        let notes = |change| compile(&changed(change), &EventSpec::default()).unwrap().notes.len();
        assert_eq!(notes(json!({})), 0);
        assert_eq!(notes(json!({"signed": "{timestamp}{body}"})), 1);
        assert_eq!(notes(json!({"timestamp": {"tolerance": "none"}})), 1);
        assert_eq!(notes(json!({"signed": "{body}", "timestamp": {"signed": false}})), 1);
    }

    #[test]
    fn spans_are_a_number_and_a_unit() {
        for (text, ms) in
            [("300s", 300_000), ("500ms", 500), ("10m", 600_000), ("1h", 3_600_000), ("2d", 172_800_000)]
        {
            assert_eq!(parse_span(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for wrong in
            ["", "s", "300", "3 s", "-1s", "1.5s", "1w", "99999999999999999999s", "18446744073709551615d"]
        {
            assert_eq!(parse_span(wrong), None, "{wrong}");
        }
    }
}
