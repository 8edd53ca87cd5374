//! Sample: one captured request by which a scheme that an operator wrote is proved to verify something.
//!
//! A wrong recipe may accept whatever anybody sends, and looks sound while it does. So a scheme that is spelled out
//! carries a request with a secret that is used nowhere else, and this proves that the request verifies, and that it
//! no longer does when a byte of its body, its timestamp, its id, the secret or its signature is another.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use super::explain::{self, Case, Found, KnownSecret, Role, Splitter, look, position};
use super::spec::{EventSpec, Problem, Spec};
use super::{Refused, Request, Scheme};
use crate::words::limits::{SAMPLE_BODY_BYTES_MAX, SAMPLE_FLIPS_MAX};
use crate::words::secret::Secret;
use crate::words::time::Millis;

/// A request as it was captured, and the secret with which it was signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sample {
    /// One that is used nowhere else, as it is written in this file; of a public key the key.
    pub secret: Option<String>,
    /// `POST` where it is not written.
    pub method: Option<String>,
    /// The URL as it was registered, where the scheme signs it; without it the source's `public_url`.
    pub url: Option<String>,
    /// By name; a list stands for several lines.
    pub headers: std::collections::BTreeMap<String, Lines>,
    /// The body as text, or
    pub body: Option<String>,
    /// the same in base64, for bytes that are not text.
    pub body_base64: Option<String>,
    /// Unix seconds at which it is judged; without it, the time at which it says that it was signed.
    pub now: Option<u64>,
}

/// The values of a header. A number is taken as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines(pub Vec<String>);

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Lines;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a whole number or a list of texts")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Lines, E> {
                Ok(Lines(vec![text.to_owned()]))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Lines, E> {
                Ok(Lines(vec![number.to_string()]))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Lines, E> {
                Ok(Lines(vec![number.to_string()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Lines, A::Error> {
                let mut lines = Vec::new();
                while let Some(line) = items.next_element()? {
                    lines.push(line);
                }
                Ok(Lines(lines))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

impl schemars::JsonSchema for Lines {
    fn schema_name() -> Cow<'static, str> {
        "Lines".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "oneOf": [{"type": "string"}, {"type": "integer"}, {"type": "array", "items": {"type": "string"}}]
        })
    }
}

/// Whether a scheme of this kind has to carry a sample where it is spelled out: one that proves nothing has none, and
/// what is built in is no recipe.
pub fn is_needed(spec: &Spec) -> bool {
    const RECIPES: [&str; 7] = ["hmac", "hash", "ed25519", "ecdsa-p256", "rsa-sha256", "token", "basic"];
    spec.kind.as_deref().is_none_or(|kind| RECIPES.contains(&kind))
}

/// What is wrong with a sample, or with the scheme that it does not prove; nothing where the scheme does not compile.
/// `public_url`: of the source. Keys are counted from the source.
pub fn prove(spec: &Spec, event: &EventSpec, sample: &Sample, public_url: Option<&str>) -> Vec<Problem> {
    match Scheme::compile(spec, event) {
        Ok(scheme) => prove_by(&scheme, spec, event, sample, public_url),
        Err(_) => Vec::new(),
    }
}

fn prove_by(
    scheme: &Scheme,
    spec: &Spec,
    event: &EventSpec,
    sample: &Sample,
    public_url: Option<&str>,
) -> Vec<Problem> {
    let written = match Written::read(sample, scheme, public_url) {
        Ok(written) => written,
        Err(problem) => return vec![problem],
    };
    let mut proof = Proof { spec, scheme, written: &written, at: Millis(0), problems: Vec::new() };
    match proof.verifies(event, sample) {
        Ok(at) => {
            proof.at = at;
            proof.bodies();
            proof.timestamps();
            proof.clocks();
            proof.ids();
            proof.secrets();
            proof.signatures();
            proof.problems
        }
        Err(problem) => vec![problem],
    }
}

fn problem(key: &str, message: impl Into<String>) -> Problem {
    Problem { key: key.to_owned(), message: message.into() }
}

// === the request ===

/// A sample's request, its parts in the form in which they are judged.
#[derive(Clone)]
struct Written {
    secret: Secret,
    method: String,
    url: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Written {
    fn read(sample: &Sample, scheme: &Scheme, public_url: Option<&str>) -> Result<Written, Problem> {
        let secret = sample.secret.clone().ok_or_else(|| {
            problem(
                "sample.secret",
                "the secret that the request was signed with is missing; write secret: \"…\"",
            )
        })?;
        let url = sample.url.as_deref().or(public_url).unwrap_or_default();
        if url.is_empty() && scheme.needs_url() {
            return Err(problem(
                "sample.url",
                "the scheme signs the URL, and it is missing; write url: \"https://…\"",
            ));
        }
        Ok(Written {
            secret: Secret::new(secret),
            method: sample.method.clone().unwrap_or_else(|| "POST".to_owned()),
            url: url.to_owned(),
            query: url.split_once('?').map(|(_, query)| query.to_owned()),
            headers: headers(sample)?,
            body: body(sample)?,
        })
    }

    fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            url: &self.url,
            query: self.query.as_deref(),
            headers: &self.headers,
            body: &self.body,
        }
    }
}

fn headers(sample: &Sample) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::new();
    for (name, lines) in &sample.headers {
        let key = format!("sample.headers.{name}");
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            problem(&key, format!("`{name}` is not a header's name; write it as the request has it"))
        })?;
        for line in &lines.0 {
            let value = HeaderValue::from_str(line).map_err(|_| {
                problem(&key, "no header can carry this value; write it as the request has it")
            })?;
            headers.append(parsed.clone(), value);
        }
    }
    Ok(headers)
}

fn body(sample: &Sample) -> Result<Vec<u8>, Problem> {
    let body = match (&sample.body, &sample.body_base64) {
        (Some(_), Some(_)) => {
            return Err(problem(
                "sample.body",
                "the body stands here twice; take `body` or `body_base64` away",
            ));
        }
        (Some(text), None) => text.clone().into_bytes(),
        (None, Some(text)) => STANDARD.decode(text).map_err(|_| {
            problem("sample.body_base64", "this is not base64; write the output of `base64 -w0 FILE`")
        })?,
        (None, None) => {
            return Err(problem("sample.body", "the body is missing; write body: '…' with its exact bytes"));
        }
    };
    if body.len() > SAMPLE_BODY_BYTES_MAX {
        let why = format!("the body is longer than {SAMPLE_BODY_BYTES_MAX} bytes; take a smaller request");
        return Err(problem("sample.body", why));
    }
    Ok(body)
}

// === what is proved ===

struct Proof<'p> {
    spec: &'p Spec,
    scheme: &'p Scheme,
    written: &'p Written,
    /// When it says that it was signed; else when it is judged.
    at: Millis,
    problems: Vec<Problem>,
}

impl Proof<'_> {
    fn verifies(&self, event: &EventSpec, sample: &Sample) -> Result<Millis, Problem> {
        let secret = &self.written.secret;
        let key = self.scheme.key(secret, None).map_err(|why| problem("sample.secret", advised(&why)))?;
        let now = sample.now.map_or(Millis(0), Millis::from_seconds);
        match self.scheme.judged(self.written.request(), std::slice::from_ref(&key), now) {
            Ok((verified, in_time)) => {
                let at = verified.signed_at().unwrap_or(now);
                match self.scheme.verify(self.written.request(), std::slice::from_ref(&key), now) {
                    Err(refused) if !in_time && sample.now.is_some() => {
                        let why = format!(
                            "the sample is judged at another time: {refused}; write now: {}, or take it away",
                            at.0 / 1000
                        );
                        Err(problem("sample.now", why))
                    }
                    _ => Ok(at),
                }
            }
            Err(refused) => Err(problem("sample", self.unverified(&refused, event))),
        }
    }

    fn unverified(&self, refused: &Refused, event: &EventSpec) -> String {
        let secret =
            KnownSecret { name: "sample.secret".to_owned(), secret: self.written.secret.clone(), ends: None };
        let case = Case {
            spec: self.spec,
            event,
            request: self.written.request(),
            secrets: &[secret],
            others: &[],
            seen_url: None,
            now: self.at,
        };
        let Some(difference) = explain::difference(&case) else {
            return format!(
                "the sample does not verify: {refused}; take a request exactly as it was sent, and the secret that it \
                 was signed with"
            );
        };
        let says: Vec<_> = difference.changes.iter().map(|change| change.says.as_str()).collect();
        let write: Vec<_> = difference.changes.iter().filter_map(|change| change.write.as_deref()).collect();
        let advice = match write.is_empty() {
            true => "take the request exactly as it was sent".to_owned(),
            false => format!("write `{}`", write.join("` and `")),
        };
        format!("the sample does not verify, and would where {}; {advice}", says.join(", and "))
    }

    /// Whether a changed request is still genuine.
    fn is_genuine(&self, written: &Written) -> bool {
        let key = self.scheme.key(&self.written.secret, None);
        key.is_ok_and(|key| self.scheme.proves(written.request(), &key))
    }

    fn is_proof_of_content(&self) -> bool {
        self.scheme.is_data() && !matches!(self.spec.kind.as_deref(), Some("token" | "basic" | "none"))
    }

    /// One bit of a byte, in many places; and one byte more.
    fn bodies(&mut self) {
        if !self.is_proof_of_content() || is_body_waived(self.spec) {
            return;
        }
        let length = self.written.body.len();
        for at in spread(length, SAMPLE_FLIPS_MAX) {
            let mut changed = self.written.clone();
            changed.body[at] ^= 1;
            if self.is_genuine(&changed) {
                return self.say(
                    "scheme.signed",
                    format!(
                        "the sample still verifies with another body: byte {} of it is in nothing that is signed; write \
                         {{body}} into it",
                        at + 1
                    ),
                );
            }
        }
        let mut longer = self.written.clone();
        longer.body.push(b'x');
        if self.is_genuine(&longer) {
            self.say("scheme.signed", "the sample still verifies with a longer body; write {body} into it");
        }
    }

    /// A digit of the timestamp's text.
    fn timestamps(&mut self) {
        if self.spec.timestamp.from.is_none() || self.spec.timestamp.signed == Some(false) {
            return;
        }
        let unit = self.spec.timestamp.unit.as_deref().unwrap_or_default();
        let Some(text) = self.scheme.claimed_stamp(&self.written.request()) else { return };
        let is_time = |other: &String| explain::parsed(unit, other).is_some();
        let Some(other) = other_digits(&text).find(is_time) else { return };
        let changed = self.with(&text, &other, |scheme, request| scheme.claimed_stamp(request));
        if changed.is_some_and(|changed| self.is_genuine(&changed)) {
            self.say(
                "scheme.signed",
                "the sample still verifies with another timestamp, so its age proves nothing; write {timestamp} into it, \
                 or timestamp: { signed: false }",
            );
        }
    }

    /// A clock beyond what is allowed, on both sides.
    fn clocks(&mut self) {
        const BEYOND: std::time::Duration = std::time::Duration::from_secs(2);
        let Some((past, future)) = self.scheme.tolerance() else { return };
        let Ok(key) = self.scheme.key(&self.written.secret, None) else { return };
        let late = self.at.plus(past).plus(BEYOND);
        let early = self.at.minus(future).minus(BEYOND);
        let clocks = [(late, late > self.at), (early, self.at.since(early) > future)];
        for (now, _) in clocks.into_iter().filter(|(_, is_reached)| *is_reached) {
            if self.scheme.verify(self.written.request(), std::slice::from_ref(&key), now).is_ok() {
                self.say(
                    "scheme.timestamp",
                    "the sample still verifies beyond the tolerance; take `tolerance` away and write it anew",
                );
            }
        }
    }

    fn ids(&mut self) {
        if self.spec.id.is_none() {
            return;
        }
        let Some(text) = self.scheme.claimed_id(&self.written.request()) else { return };
        let Some(other) = other_character(&text) else { return };
        let changed = self.with(&text, &other, |scheme, request| scheme.claimed_id(request));
        if changed.is_some_and(|changed| self.is_genuine(&changed)) {
            self.say(
                "scheme.signed",
                "the sample still verifies with another id; write {id} into it, or take `id` away",
            );
        }
    }

    /// One bit of the secret's bytes. Of a public key some bits may mean nothing, not all of them.
    fn secrets(&mut self) {
        if self.spec.kind.as_deref() == Some("none") {
            return;
        }
        let Ok(bytes) = self.scheme.decoded(&self.written.secret) else { return };
        let places: Vec<usize> = spread(bytes.len(), SAMPLE_FLIPS_MAX).collect();
        let proves = |at: &&usize| {
            let mut other = bytes.clone();
            other[**at] ^= 1;
            self.scheme.key_of(&other).is_some_and(|key| self.scheme.proves(self.written.request(), &key))
        };
        let still = places.iter().filter(proves).count();
        if still > 0 && (!self.is_public() || still == places.len()) {
            self.say(
                "scheme",
                "the sample still verifies with another secret, so anybody could sign; take another scheme",
            );
        }
    }

    fn is_public(&self) -> bool {
        matches!(self.spec.kind.as_deref(), Some("ed25519" | "ecdsa-p256" | "rsa-sha256"))
    }

    /// One bit of every signature's bytes, for each of its bytes.
    fn signatures(&mut self) {
        if self.spec.kind.as_deref() == Some("none") {
            return;
        }
        let candidates = self.candidates();
        let longest = candidates.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or_default();
        for at in 0..longest {
            let mut changed = self.written.clone();
            for (text, bytes) in &candidates {
                let mut other = bytes.clone();
                let place = at % other.len().max(1);
                other[place] ^= self.bit(other[place], at);
                replace(&mut changed, text.as_bytes(), self.encoded(text, &other).as_bytes());
            }
            if self.is_genuine(&changed) {
                return self.say(
                    "scheme.signature",
                    "the sample still verifies with another signature; take another scheme",
                );
            }
        }
    }

    /// A token stays a text that a header can carry.
    fn bit(&self, byte: u8, at: usize) -> u8 {
        match (self.spec.kind.as_deref(), byte) {
            (Some("token"), b'~') => 2,
            (Some("token"), _) => 1,
            _ => 1 << (at % 8),
        }
    }

    /// Each signature of the sample: its text, and its bytes.
    fn candidates(&self) -> Vec<(String, Vec<u8>)> {
        let splitter = Splitter::new(self.spec, self.scheme.proof_bytes());
        let request = self.written.request();
        let mut found = Vec::new();
        for place in explain::places_of_signature(self.spec) {
            let Found::There(texts) = look(&place, true, &request) else { continue };
            for item in texts.iter().flat_map(|text| splitter.items(text)) {
                if let Role::Candidate(Ok(_)) = item.role {
                    let bytes = self.bytes_of(&item.text);
                    found.extend(bytes.map(|bytes| (item.text, bytes)));
                }
            }
        }
        found
    }

    fn bytes_of(&self, text: &str) -> Option<Vec<u8>> {
        match self.spec.kind.as_deref() {
            Some("token") => Some(text.as_bytes().to_vec()),
            Some("basic") => STANDARD.decode(text.split_once(' ')?.1.trim_start_matches(' ')).ok(),
            _ => explain::decoded(self.spec.signature.encoding.as_deref()?, text),
        }
    }

    /// Written as the text was.
    fn encoded(&self, text: &str, bytes: &[u8]) -> String {
        match (self.spec.kind.as_deref(), self.spec.signature.encoding.as_deref()) {
            (Some("token"), _) => String::from_utf8_lossy(bytes).into_owned(),
            (Some("basic"), _) => format!("Basic {}", STANDARD.encode(bytes)),
            (_, Some("hex")) => hex::encode(bytes),
            (_, Some("base64url")) if text.ends_with('=') => URL_SAFE.encode(bytes),
            (_, Some("base64url")) => URL_SAFE_NO_PAD.encode(bytes),
            _ => STANDARD.encode(bytes),
        }
    }

    /// The request with `other` at the place where `text` was read by `read`; None where that cannot be found.
    fn with(
        &self,
        text: &str,
        other: &str,
        read: impl Fn(&Scheme, &Request<'_>) -> Option<String>,
    ) -> Option<Written> {
        let is_done = |changed: &Written| read(self.scheme, &changed.request()).as_deref() == Some(other);
        changes(self.written, text.as_bytes(), other.as_bytes()).into_iter().find(is_done)
    }

    fn say(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(problem(key, message));
    }
}

/// What `Scheme::key` says of a secret mostly ends with what to do.
fn advised(why: &str) -> String {
    if why.contains("; ") && !why.ends_with("sign with it") {
        return why.to_owned();
    }
    format!("{why}; write the secret that the sample was signed with")
}

/// The sender does not sign its body, and the scheme says so.
fn is_body_waived(spec: &Spec) -> bool {
    spec.body_signed == Some(false)
}

// === changing a request ===

/// At most `most` places of `length`, the first and the last among them.
fn spread(length: usize, most: usize) -> impl Iterator<Item = usize> {
    let count = length.min(most);
    (0..count).map(move |n| if count < 2 { 0 } else { n * (length - 1) / (count - 1) })
}

/// The text with one digit changed, from its end on.
fn other_digits(text: &str) -> impl Iterator<Item = String> {
    let digits = text.char_indices().rev().filter(|(_, c)| c.is_ascii_digit());
    digits.map(|(at, c)| {
        let other = char::from(c as u8 ^ 1);
        format!("{}{other}{}", &text[..at], &text[at + 1..])
    })
}

fn other_character(text: &str) -> Option<String> {
    let (at, c) = text.char_indices().rev().find(|(_, c)| c.is_ascii_alphanumeric())?;
    let other = match c {
        '9' => '8',
        'z' => 'y',
        'Z' => 'Y',
        c => char::from(c as u8 + 1),
    };
    Some(format!("{}{other}{}", &text[..at], &text[at + 1..]))
}

/// The request once for each place where `text` stands in it, with `other` there.
fn changes(written: &Written, text: &[u8], other: &[u8]) -> Vec<Written> {
    let mut made = Vec::new();
    for name in written.headers.keys() {
        let lines: Vec<HeaderValue> = written.headers.get_all(name).iter().cloned().collect();
        for (at, line) in lines.iter().enumerate() {
            for value in each_replaced(line.as_bytes(), text, other) {
                let Ok(value) = HeaderValue::from_bytes(&value) else { continue };
                let mut changed = written.clone();
                changed.headers.remove(name);
                for (n, line) in lines.iter().enumerate() {
                    changed.headers.append(name, if n == at { value.clone() } else { line.clone() });
                }
                made.push(changed);
            }
        }
    }
    made.extend(each_replaced(&written.body, text, other).map(|body| Written { body, ..written.clone() }));
    for url in each_replaced(written.url.as_bytes(), text, other) {
        let url = String::from_utf8_lossy(&url).into_owned();
        let query = url.split_once('?').map(|(_, query)| query.to_owned());
        made.push(Written { url, query, ..written.clone() });
    }
    made
}

/// The bytes once for each place where `text` stands in them, with `other` there.
fn each_replaced<'b>(bytes: &'b [u8], text: &'b [u8], other: &'b [u8]) -> impl Iterator<Item = Vec<u8>> + 'b {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + position(bytes.get(from..)?, text)?;
        from = at + 1;
        Some([&bytes[..at], other, &bytes[at + text.len()..]].concat())
    })
}

/// `other` for `text`, wherever it stands.
fn replace(written: &mut Written, text: &[u8], other: &[u8]) {
    /// As often as a request may hold one signature.
    const TIMES_MAX: usize = 64;
    for _ in 0..TIMES_MAX {
        let Some(changed) = changes(written, text, other).into_iter().next() else { return };
        *written = changed;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::verify::mac;
    use crate::verify::signed::Template;

    const NOW: Millis = Millis(1_790_000_000_000);
    const URL: &str = "https://hooks.example.com/a";
    const BODY: &str = r#"{"id":"evt_1","time":"1790000000","n":[1,2,3]}"#;

    fn spec(value: Value) -> Spec {
        serde_json::from_value(value).unwrap()
    }

    fn fields(signed: &str) -> Value {
        json!({
            "type": "hmac", "algorithm": "sha256", "signed": signed,
            "signature": {
                "from": "header:X-Sig", "format": "fields", "separator": ",", "assign": "=", "key": "v1", "encoding": "hex",
            },
            "timestamp": {"from": "field:t", "unit": "s", "tolerance": "300s"},
        })
    }

    fn compiled(spec: &Spec) -> Scheme {
        Scheme::compile(spec, &EventSpec::default()).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    /// The request that the scheme itself makes.
    fn sample_by(scheme: &Scheme, secret: &str) -> Sample {
        let signed = scheme.sign(&Secret::new(secret), "evt_1", "a.b", BODY.as_bytes(), URL, NOW).unwrap();
        assert_eq!(signed.body, None);
        let headers = signed.headers.into_iter().map(|(name, value)| (name, Lines(vec![value]))).collect();
        Sample {
            secret: Some(secret.to_owned()),
            url: Some(URL.to_owned()),
            headers,
            body: Some(BODY.to_owned()),
            ..Sample::default()
        }
    }

    fn said(problems: &[Problem]) -> Vec<String> {
        problems.iter().map(ToString::to_string).collect()
    }

    const SECRETS: [&str; 2] =
        ["a secret that is used nowhere else", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];

    /// What is wrong with a scheme whose template is another than the one that compiled: what a scheme would be if
    /// `compile` let it pass.
    fn hollow(value: Value, template: &str) -> Vec<String> {
        let spec = spec(value);
        let scheme =
            Scheme { signed: Template::parse(template, &Default::default()).unwrap(), ..compiled(&spec) };
        let sample = sample_by(&scheme, SECRETS[0]);
        said(&prove_by(&scheme, &spec, &EventSpec::default(), &sample, None))
    }

    #[test]
    fn a_good_scheme_of_each_kind_is_proved() {
        let raw = |kind: &str, signed: &str, encoding: &str| {
            json!({
                "type": kind, "algorithm": "sha512", "signed": signed,
                "signature": {"from": "header:X-Sig", "format": "raw", "encoding": encoding},
            })
        };
        let mut with_id = fields("{id}.{timestamp}.{body}");
        with_id["id"] = json!("header:X-Id");
        let mut base64 = fields("{timestamp}.{body}");
        base64["secret"] = json!({"strip_prefix": "whsec_", "decode": "base64"});
        base64["signature"]["encoding"] = json!("base64url");
        for (value, secret) in [
            (fields("{timestamp}.{body}"), SECRETS[0]),
            (fields("v0:{timestamp}:{body}"), SECRETS[0]),
            (with_id, SECRETS[0]),
            (base64, SECRETS[1]),
            (raw("hmac", "{body}", "base64"), SECRETS[0]),
            (raw("hmac", "{url}{body}", "hex"), SECRETS[0]),
            (raw("hash", "{body}{secret}", "hex"), SECRETS[0]),
            (json!({"type": "token", "signature": {"from": "header:X-Token"}}), "a-token~of-theirs~"),
            (json!({"type": "basic"}), "user:a long password"),
            (json!({"type": "none", "i_know_this_is_unauthenticated": true}), SECRETS[0]),
        ] {
            let spec = spec(value.clone());
            let sample = sample_by(&compiled(&spec), secret);
            assert_eq!(said(&prove(&spec, &EventSpec::default(), &sample, None)), [""; 0], "{value}");
            let judged_at = Sample { now: Some(NOW.0 / 1000 + 300), ..sample };
            assert_eq!(said(&prove(&spec, &EventSpec::default(), &judged_at, None)), [""; 0], "{value}");
        }
    }

    #[test]
    fn every_preset_is_proved_by_what_it_signs() {
        let mut proved = 0;
        for name in crate::verify::preset_names() {
            let preset = crate::verify::preset(name).unwrap();
            let Ok(scheme) = Scheme::compile(&preset.scheme, &preset.event) else { continue };
            let signed = ["a_user:a_password_0123456789", SECRETS[1], "00112233445566778899aabbccddeeff"]
                .into_iter()
                .find_map(|secret| {
                    Some((
                        secret,
                        scheme.sign(&Secret::new(secret), "evt_1", "a.b", BODY.as_bytes(), URL, NOW).ok()?,
                    ))
                });
            let Some((secret, signed)) = signed else { continue };
            let headers =
                signed.headers.into_iter().map(|(name, value)| (name, Lines(vec![value]))).collect();
            let body = signed.body.map_or(BODY.to_owned(), |body| String::from_utf8(body).unwrap());
            let sample = Sample {
                secret: Some(secret.into()),
                url: Some(URL.into()),
                headers,
                body: Some(body),
                ..Sample::default()
            };
            assert_eq!(said(&prove(&preset.scheme, &preset.event, &sample, None)), [""; 0], "{name}");
            proved += 1;
        }
        assert!(proved >= 80, "{proved}");
    }

    #[test]
    fn a_public_key_proves_with_what_its_owner_signed() {
        use ring::signature::{Ed25519KeyPair, KeyPair as _};
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let signature = pair.sign(&[b"1790000000", BODY.as_bytes()].concat());
        let spec = spec(json!({
            "type": "ed25519", "signed": "{timestamp}{body}", "secret": {"decode": "hex"},
            "signature": {"from": "header:X-Sig", "format": "raw", "encoding": "hex"},
            "timestamp": {"from": "header:X-Time", "unit": "s", "tolerance": "none"},
        }));
        let sample = Sample {
            secret: Some(hex::encode(pair.public_key().as_ref())),
            headers: [
                ("X-Sig".to_owned(), Lines(vec![hex::encode(signature.as_ref())])),
                ("X-Time".to_owned(), Lines(vec!["1790000000".into()])),
            ]
            .into(),
            body: Some(BODY.into()),
            ..Sample::default()
        };
        assert_eq!(said(&prove(&spec, &EventSpec::default(), &sample, None)), [""; 0]);
        let other = Sample { body: Some("{}".into()), ..sample };
        let problems = said(&prove(&spec, &EventSpec::default(), &other, None));
        assert!(
            problems.len() == 1 && problems[0].starts_with("sample: the sample does not verify"),
            "{problems:?}"
        );
    }

    #[test]
    fn a_signature_in_the_body_is_proved_too() {
        use hmac::{Hmac, KeyInit as _, Mac as _};
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRETS[0].as_bytes()).unwrap();
        mac.update(b"1790000000token");
        let signature = hex::encode(mac.finalize().into_bytes());
        let body = format!(
            r#"{{"other":"1790000000","signature":{{"timestamp":"1790000000","token":"token","signature":"{signature}"}}}}"#
        );
        let spec = spec(json!({
            "type": "hmac", "algorithm": "sha256", "signed": "{timestamp}{json:signature.token}", "body_signed": false,
            "signature": {"from": "json:signature.signature", "format": "raw", "encoding": "hex"},
            "timestamp": {"from": "json:signature.timestamp", "unit": "s", "tolerance": "300s"},
        }));
        let sample = Sample { secret: Some(SECRETS[0].into()), body: Some(body), ..Sample::default() };
        assert_eq!(said(&prove(&spec, &EventSpec::default(), &sample, None)), [""; 0]);
        let scheme = Scheme {
            signed: Template::parse("{json:signature.token}", &Default::default()).unwrap(),
            ..compiled(&spec)
        };
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRETS[0].as_bytes()).unwrap();
        mac.update(b"token");
        let other = hex::encode(mac.finalize().into_bytes());
        let sample = Sample { body: sample.body.map(|body| body.replace(&signature, &other)), ..sample };
        let problems = said(&prove_by(&scheme, &spec, &EventSpec::default(), &sample, None));
        assert!(problems.len() == 1 && problems[0].contains("with another timestamp"), "{problems:?}");
    }

    #[test]
    fn a_scheme_that_verifies_nothing_is_found_out() {
        let starts = |found: &[String], expected: &[&str]| {
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.contains(expected), "{found}: {expected}");
            }
        };
        let (body, stamp) =
            ("still verifies with another body: byte 1 ", "still verifies with another timestamp");
        starts(&hollow(fields("{timestamp}.{body}"), "constant"), &[body, stamp]);
        starts(&hollow(fields("{timestamp}.{body}"), "{timestamp}"), &[body]);
        starts(&hollow(fields("{timestamp}.{body}"), "{body}"), &[stamp]);
        let mut with_id = fields("{id}.{timestamp}.{body}");
        with_id["id"] = json!("header:X-Id");
        starts(&hollow(with_id.clone(), "{id}"), &[body, stamp]);
        starts(&hollow(with_id, "{timestamp}.{body}"), &["still verifies with another id"]);
        // Only a part of the body.
        starts(
            &hollow(fields("{timestamp}.{body}"), "{timestamp}.{json:id}"),
            &["still verifies with another body: byte 16 "],
        );
        let hash = json!({
            "type": "hash", "algorithm": "sha256", "signed": "{body}{secret}",
            "signature": {"from": "header:X-Sig", "format": "raw", "encoding": "hex"},
        });
        starts(&hollow(hash, "{body}"), &["still verifies with another secret"]);
    }

    #[test]
    fn a_scheme_that_takes_anything_is_found_out_in_every_way() {
        let anything = |value: Value| {
            let spec = spec(value);
            let sample = sample_by(&compiled(&spec), SECRETS[0]);
            let scheme = Scheme { proof: mac::Proof::Nothing, ..compiled(&spec) };
            said(&prove_by(&scheme, &spec, &EventSpec::default(), &sample, None)).join("\n")
        };
        let signed = anything(fields("{timestamp}.{body}"));
        for words in ["another body", "beyond the tolerance", "another secret"] {
            assert!(signed.contains(words), "{words}: {signed}");
        }
        let token = anything(json!({"type": "token", "signature": {"from": "header:X-Token"}}));
        for words in ["another secret", "another signature"] {
            assert!(token.contains(words), "{words}: {token}");
        }
    }

    #[test]
    fn what_is_said_to_be_unsigned_is_not_asked_for() {
        let mut unsigned = fields("{body}");
        unsigned["timestamp"]["signed"] = json!(false);
        assert_eq!(hollow(unsigned, "{body}"), [""; 0]);
        let mut no_body = fields("{timestamp}");
        no_body["body_signed"] = json!(false);
        assert_eq!(hollow(no_body, "{timestamp}"), [""; 0]);
    }

    #[test]
    fn a_sample_that_cannot_be_read_is_told_what_to_write() {
        let spec = spec(fields("{timestamp}.{url}{body}"));
        let good = sample_by(&compiled(&spec), SECRETS[0]);
        let lines = |value: &str| [("X-Sig".to_owned(), Lines(vec![value.to_owned()]))].into();
        for (sample, expected) in [
            (
                Sample { secret: None, ..good.clone() },
                "sample.secret: the secret that the request was signed with is missing; write",
            ),
            (Sample { secret: Some(String::new()), ..good.clone() }, "sample.secret: the secret is empty"),
            (
                Sample { url: None, ..good.clone() },
                "sample.url: the scheme signs the URL, and it is missing; write",
            ),
            (Sample { body: None, ..good.clone() }, "sample.body: the body is missing; write"),
            (
                Sample { body_base64: Some("e30=".into()), ..good.clone() },
                "sample.body: the body stands here twice; take",
            ),
            (
                Sample { body: None, body_base64: Some("?".into()), ..good.clone() },
                "sample.body_base64: this is not base64; write",
            ),
            (
                Sample { body: Some("x".repeat(SAMPLE_BODY_BYTES_MAX + 1)), ..good.clone() },
                "sample.body: the body is longer than",
            ),
            (
                Sample { headers: lines("a\u{1}"), ..good.clone() },
                "sample.headers.X-Sig: no header can carry this value; write",
            ),
            (
                Sample { headers: [("a b".to_owned(), Lines::default())].into(), ..good.clone() },
                "sample.headers.a b: `a b` is not a header's name; write",
            ),
            (
                Sample { headers: Default::default(), ..good.clone() },
                "sample: the sample does not verify: no signature: header `X-Sig` is absent",
            ),
            (
                Sample { now: Some(1_790_000_301), ..good.clone() },
                "sample.now: the sample is judged at another time: the signature is genuine but 301 s old",
            ),
            (
                Sample { body: Some(format!("{BODY}\n")), ..good.clone() },
                "sample: the sample does not verify, and would where the body does not end with a newline",
            ),
            (
                Sample { url: Some("http://hooks.example.com/a".into()), ..good.clone() },
                "sample: the sample does not verify, and would where the URL is `https://hooks.example.com/a`; write `public_url:",
            ),
        ] {
            let problems = said(&prove(&spec, &EventSpec::default(), &sample, None));
            assert!(problems.len() == 1 && problems[0].starts_with(expected), "{expected}: {problems:?}");
        }
        let by_source = Sample { url: None, ..good.clone() };
        assert_eq!(said(&prove(&spec, &EventSpec::default(), &by_source, Some(URL))), [""; 0]);
        let at_most = Sample { body: Some("x".repeat(SAMPLE_BODY_BYTES_MAX)), ..good };
        assert!(
            said(&prove(&spec, &EventSpec::default(), &at_most, None))[0]
                .starts_with("sample: the sample does not verify")
        );
    }

    #[test]
    fn a_header_is_a_text_a_number_or_several() {
        let sample: Sample =
            serde_json::from_value(json!({"headers": {"a": "x", "b": 1790000000, "c": ["y", "z"], "d": -1}}))
                .unwrap();
        let lines: Vec<_> = sample.headers.values().map(|lines| lines.0.join(",")).collect();
        assert_eq!(lines, ["x", "1790000000", "y,z", "-1"]);
        assert!(serde_json::from_value::<Sample>(json!({"headers": {"a": true}})).is_err());
        assert!(serde_json::from_value::<Sample>(json!({"header": {}})).is_err());
    }

    #[test]
    fn places_are_spread_over_the_whole() {
        assert_eq!(spread(0, 4).collect::<Vec<_>>(), [0; 0]);
        assert_eq!(spread(1, 4).collect::<Vec<_>>(), [0]);
        assert_eq!(spread(3, 4).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread(10, 4).collect::<Vec<_>>(), [0, 3, 6, 9]);
        assert_eq!(spread(100_000, SAMPLE_FLIPS_MAX).count(), SAMPLE_FLIPS_MAX);
    }
}
