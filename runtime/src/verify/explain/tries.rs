//! Tries: the known mistakes, each made good and judged again, to find the first thing that differs.
//!
//! A try changes the body, the URL, the scheme or the secret, and asks `verify` whether that would have been genuine.
//! It never learns the right signature, so it cannot tell it. What matches is certain: nobody finds a signature that
//! matches by accident.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT};
use serde::Serialize;
use sha1::{Digest as _, Sha1};

use super::bodies::{self, Body};
use super::look::{Found, Item, Role, Splitter, look};
use super::show::beside;
use super::{Case, KnownSecret, places_of_signature};
use crate::verify::spec::{Spec, Texts};
use crate::verify::{Request, Scheme, rotation};
use crate::words::limits::{TRIES_BYTES_MAX, TRIES_MAX};

/// What has to be otherwise for the request to be genuine; with two, both have to be.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    pub changes: Vec<Change>,
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// For programs: `body`, `url`, `secret`, `algorithm`, `encoding`, `unit`, `key`, `header`, `signed`.
    pub what: &'static str,
    /// Completes "it matches when …".
    pub says: String,
    /// A key of the source as it should be, where that is the remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<String>,
}

/// What the tries came to.
pub(super) struct Outcome {
    pub(super) difference: Option<Difference>,
    pub(super) tries: usize,
    /// The body is too large for all of them.
    pub(super) is_cut: bool,
}

pub(super) fn search(case: &Case<'_>) -> Outcome {
    let mut search = Search { case, tries: 0, bytes: 0 };
    let axes = Axes::new(case);
    let difference = search.one(&axes).or_else(|| search.two(&axes));
    Outcome { difference, tries: search.tries, is_cut: search.is_spent() || !axes.is_all }
}

/// A thing as it is tried, and what is different about it; None: nothing.
struct Tried<T> {
    value: T,
    change: Option<Change>,
}

/// A registered URL, and the query that came.
#[derive(Clone, PartialEq, Eq)]
struct Url {
    url: String,
    query: Option<String>,
}

/// Everything that is tried, by what it changes. The first of each is as it is.
struct Axes {
    secrets: Vec<Tried<Vec<u8>>>,
    bodies: Vec<Tried<Vec<u8>>>,
    urls: Vec<Tried<Url>>,
    schemes: Vec<Tried<Scheme>>,
    /// Two changes of the scheme at once.
    pairs: Vec<(Scheme, [Change; 2])>,
    /// False: of a large body not all were made.
    is_all: bool,
}

impl Axes {
    fn new(case: &Case<'_>) -> Axes {
        let edits = edits(case);
        let (bodies, is_all) = bodies(case);
        Axes {
            secrets: secrets(case),
            bodies,
            urls: urls(case),
            schemes: schemes(case, &edits),
            pairs: pairs(case, &edits),
            is_all,
        }
    }
}

struct Search<'c, 'a> {
    case: &'c Case<'a>,
    tries: usize,
    bytes: usize,
}

impl Search<'_, '_> {
    fn is_spent(&self) -> bool {
        self.tries >= TRIES_MAX || self.bytes >= TRIES_BYTES_MAX
    }

    /// None: it does not match, or there were too many tries.
    fn attempt(&mut self, scheme: &Scheme, secret: &[u8], body: &[u8], url: &Url) -> Option<()> {
        /// What a key costs to set up, in bytes that are hashed.
        const KEY_BYTES: usize = 512;
        if self.is_spent() {
            return None;
        }
        self.tries += 1;
        self.bytes += body.len() + KEY_BYTES;
        let key = scheme.key_of(secret)?;
        let request = Request { body, url: &url.url, query: url.query.as_deref(), ..self.case.request };
        scheme.proves(request, &key).then_some(())
    }

    /// One thing is otherwise. Which secret made it is not among what differs where the first did not.
    fn one(&mut self, axes: &Axes) -> Option<Difference> {
        let own = &axes.secrets[..];
        let (body, url) = (&axes.bodies[0].value, &axes.urls[0].value);
        let scheme = &axes.schemes[0].value;
        for secret in own.iter().filter(|secret| secret.change.is_some()) {
            if self.attempt(scheme, &secret.value, body, url).is_some() {
                return difference([&secret.change]);
            }
        }
        let unchanged: Vec<_> = own.iter().filter(|secret| secret.change.is_none()).collect();
        for body in axes.bodies.iter().skip(1) {
            if unchanged.iter().any(|secret| self.attempt(scheme, &secret.value, &body.value, url).is_some())
            {
                return difference([&body.change]);
            }
        }
        for url in axes.urls.iter().skip(1) {
            if unchanged.iter().any(|secret| self.attempt(scheme, &secret.value, body, &url.value).is_some())
            {
                return difference([&url.change]);
            }
        }
        for scheme in axes.schemes.iter().skip(1) {
            if unchanged.iter().any(|secret| self.attempt(&scheme.value, &secret.value, body, url).is_some())
            {
                return difference([&scheme.change]);
            }
        }
        None
    }

    /// Two things are otherwise.
    fn two(&mut self, axes: &Axes) -> Option<Difference> {
        let (body, url) = (&axes.bodies[0].value, &axes.urls[0].value);
        for secret in &axes.secrets {
            for scheme in axes.schemes.iter().skip(1) {
                if self.attempt(&scheme.value, &secret.value, body, url).is_some() {
                    return difference([&secret.change, &scheme.change]);
                }
            }
            for changed in axes.bodies.iter().skip(1) {
                if self.attempt(&axes.schemes[0].value, &secret.value, &changed.value, url).is_some() {
                    return difference([&secret.change, &changed.change]);
                }
            }
            for changed in axes.urls.iter().skip(1) {
                if self.attempt(&axes.schemes[0].value, &secret.value, body, &changed.value).is_some() {
                    return difference([&secret.change, &changed.change]);
                }
            }
        }
        let unchanged: Vec<_> = axes.secrets.iter().filter(|secret| secret.change.is_none()).collect();
        for secret in unchanged {
            for (scheme, changes) in &axes.pairs {
                if self.attempt(scheme, &secret.value, body, url).is_some() {
                    return Some(Difference { changes: changes.to_vec() });
                }
            }
            for scheme in axes.schemes.iter().skip(1) {
                for changed in axes.bodies.iter().skip(1) {
                    if self.attempt(&scheme.value, &secret.value, &changed.value, url).is_some() {
                        return difference([&changed.change, &scheme.change]);
                    }
                }
                for changed in axes.urls.iter().skip(1) {
                    if self.attempt(&scheme.value, &secret.value, body, &changed.value).is_some() {
                        return difference([&changed.change, &scheme.change]);
                    }
                }
            }
            for changed in axes.bodies.iter().skip(1) {
                for other in axes.urls.iter().skip(1) {
                    if self
                        .attempt(&axes.schemes[0].value, &secret.value, &changed.value, &other.value)
                        .is_some()
                    {
                        return difference([&changed.change, &other.change]);
                    }
                }
            }
        }
        None
    }
}

fn difference<const N: usize>(changes: [&Option<Change>; N]) -> Option<Difference> {
    Some(Difference { changes: changes.into_iter().flatten().cloned().collect() })
}

// === bodies and URLs ===

fn bodies(case: &Case<'_>) -> (Vec<Tried<Vec<u8>>>, bool) {
    let as_it_is = Tried { value: case.request.body.to_vec(), change: None };
    let (rewritten, is_all) = bodies::rewritten(case.request.body);
    let changed = rewritten.into_iter().map(|Body { bytes, says }| Tried {
        value: bytes,
        change: Some(Change { what: "body", says, write: None }),
    });
    (std::iter::once(as_it_is).chain(changed).collect(), is_all)
}

/// Only where the scheme signs it.
fn urls(case: &Case<'_>) -> Vec<Tried<Url>> {
    let query = case.request.query.map(str::to_owned);
    let registered = Url { url: case.request.url.to_owned(), query: query.clone() };
    let mut tried = vec![Tried { value: registered.clone(), change: None }];
    let signed = case.spec.signed.as_deref().unwrap_or_default();
    if !["{url}", "{url_decoded}", "{path}"].iter().any(|name| signed.contains(name)) {
        return tried;
    }
    let mut push = |value: Url, says: String, write: Option<String>| {
        if tried.iter().all(|tried| tried.value != value) {
            tried.push(Tried { value, change: Some(Change { what: "url", says, write }) });
        }
    };
    let seen = case.seen_url.map(without_query).unwrap_or_default();
    for base in [without_query(&registered.url), seen] {
        for url in spellings(&base) {
            let (says, write) = (format!("the URL is `{url}`"), format!("public_url: \"{url}\""));
            push(Url { url: url.clone(), query: query.clone() }, says, Some(write));
        }
    }
    if query.is_some() || registered.url.contains('?') {
        let url = without_query(&registered.url);
        push(Url { url, query: None }, "the URL is signed without its query".to_owned(), None);
    }
    tried
}

fn without_query(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

/// The same address, as others write it; the base itself first.
fn spellings(base: &str) -> Vec<String> {
    let Ok(parsed) = url::Url::parse(base) else { return Vec::new() };
    let host = parsed.host_str().unwrap_or_default();
    let path =
        base.split_once("://").and_then(|(_, rest)| Some(&rest[rest.find('/')?..])).unwrap_or_default();
    let other_path = path.strip_suffix('/').map_or(format!("{path}/"), str::to_owned);
    let mut urls = vec![base.to_owned()];
    for path in [path, &other_path] {
        for (scheme, port) in [("https", 443), ("http", 80)] {
            let written = parsed.port().map(|port| format!("{scheme}://{host}:{port}{path}"));
            urls.extend(written);
            urls.push(format!("{scheme}://{host}{path}"));
            urls.push(format!("{scheme}://{host}:{port}{path}"));
        }
    }
    urls
}

// === secrets ===

fn secrets(case: &Case<'_>) -> Vec<Tried<Vec<u8>>> {
    let mut tried: Vec<Tried<Vec<u8>>> = Vec::new();
    let Ok(scheme) = Scheme::compile(case.spec, case.event) else { return tried };
    let mut push = |bytes: Vec<u8>, change: Option<Change>| {
        if !bytes.is_empty() && tried.iter().all(|tried| tried.value != bytes) {
            tried.push(Tried { value: bytes, change });
        }
    };
    let is_live = |secret: &&KnownSecret| rotation::is_live(secret.ends, case.now);
    for secret in case.secrets.iter().filter(is_live) {
        if let Ok(bytes) = scheme.decoded(&secret.secret) {
            push(bytes, None);
        }
    }
    for secret in case.secrets.iter().filter(|secret| !is_live(secret)) {
        let ended = secret.ends.map(|ends| format!("{ends}, {}", beside(ends, case.now))).unwrap_or_default();
        let change = Change {
            what: "secret",
            says: format!("`{}` is tried, which ended {ended}: the sender still signs with it", secret.name),
            write: None,
        };
        push(scheme.decoded(&secret.secret).unwrap_or_default(), Some(change));
    }
    for secret in case.others {
        let change = Change {
            what: "secret",
            says: format!("the secret is `{}`, which is configured for another source", secret.name),
            write: Some(format!("secrets: [ \"{}\" ]", secret.reference())),
        };
        push(scheme.decoded(&secret.secret).unwrap_or_default(), Some(change));
    }
    for secret in case.secrets.iter().filter(is_live) {
        for (bytes, says, write) in otherwise(case.spec, secret) {
            push(bytes, Some(Change { what: "secret", says, write }));
        }
    }
    tried
}

type Otherwise = (Vec<u8>, String, Option<String>);

/// A secret taken in other ways than the scheme says.
fn otherwise(spec: &Spec, secret: &KnownSecret) -> Vec<Otherwise> {
    let (text, name) = (secret.secret.expose(), &secret.name);
    let mut made = decodings(spec, text, "the secret is taken");
    let trimmed = text.trim_ascii();
    let unquoted = unquoted(trimmed);
    let plain = "take them away";
    for (other, says) in [
        (trimmed, format!("`{name}` has white space around the secret; {plain}")),
        (unquoted, format!("`{name}` has quotes around the secret; {plain}")),
    ] {
        if other != text {
            let own = current(spec, other);
            made.extend(own.map(|bytes| (bytes, says.clone(), None)));
            let with = format!("{says}, and the secret is taken");
            made.extend(decodings(spec, other, &with));
        }
    }
    let with_newline = [text, b"\n"].concat();
    made.push((
        with_newline,
        "the sender's secret ends with a newline, which yours does not; set it anew there".into(),
        None,
    ));
    made
}

fn unquoted(text: &[u8]) -> &[u8] {
    match text {
        [first @ (b'"' | b'\''), inner @ .., last] if first == last => inner,
        _ => text,
    }
}

fn current(spec: &Spec, text: &[u8]) -> Option<Vec<u8>> {
    let prefix = spec.secret.strip_prefix.as_deref().unwrap_or_default();
    let text = text.strip_prefix(prefix.as_bytes()).unwrap_or(text);
    decode(spec.secret.decode.as_deref().unwrap_or("utf8"), text)
}

const DECODINGS: [(&str, &str); 4] = [
    ("utf8", "as text, without decoding"),
    ("base64", "as base64"),
    ("hex", "as hex"),
    ("sha1", "as the text whose SHA-1 is the key"),
];

fn decodings(spec: &Spec, text: &[u8], says: &str) -> Vec<Otherwise> {
    let mut prefixes = vec![""];
    prefixes.extend(prefix(text));
    let mut made = Vec::new();
    for prefix in prefixes {
        let behind = &text[prefix.len()..];
        for (decoding, in_words) in DECODINGS {
            let Some(bytes) = decode(decoding, behind) else { continue };
            let has_prefix = spec.secret.strip_prefix.as_deref().is_some_and(|prefix| !prefix.is_empty());
            let (part, key) = match prefix {
                "" if has_prefix => (" whole", "strip_prefix: \"\", ".to_owned()),
                "" => ("", String::new()),
                _ => (" behind its prefix", format!("strip_prefix: \"{prefix}\", ")),
            };
            let write = format!("scheme: {{ secret: {{ {key}decode: {decoding} }} }}");
            made.push((bytes, format!("{says}{part} {in_words}"), Some(write)));
        }
    }
    made
}

/// `whsec_` of `whsec_…`: letters, digits and underscores up to the last underscore near the beginning.
fn prefix(text: &[u8]) -> Option<&str> {
    const PREFIX_BYTES_MAX: usize = 16;
    let start = &text[..text.len().min(PREFIX_BYTES_MAX)];
    let word = start
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b','))
        .count();
    let end = start[..word].iter().position(|byte| *byte == b'_')?;
    std::str::from_utf8(&start[..=end]).ok().filter(|prefix| prefix.len() < text.len())
}

fn decode(decoding: &str, text: &[u8]) -> Option<Vec<u8>> {
    let bytes = match decoding {
        "utf8" => text.to_vec(),
        "base64" => {
            STANDARD_PAD_INDIFFERENT.decode(text).or_else(|_| URL_SAFE_PAD_INDIFFERENT.decode(text)).ok()?
        }
        "hex" => hex::decode(text).ok()?,
        "sha1" => Sha1::digest(text).to_vec(),
        _ => return None,
    };
    (!bytes.is_empty()).then_some(bytes)
}

// === schemes ===

/// One key of the scheme, written otherwise.
struct Edit {
    /// Two edits of one aspect cannot both be.
    aspect: &'static str,
    says: String,
    write: String,
    edit: Box<dyn Fn(&mut Spec)>,
}

impl Edit {
    fn new(
        aspect: &'static str,
        says: impl Into<String>,
        write: impl Into<String>,
        edit: impl Fn(&mut Spec) + 'static,
    ) -> Edit {
        Edit { aspect, says: says.into(), write: write.into(), edit: Box::new(edit) }
    }

    fn change(&self) -> Change {
        Change { what: self.aspect, says: self.says.clone(), write: Some(self.write.clone()) }
    }

    fn applied(&self, spec: &Spec) -> Spec {
        let mut spec = spec.clone();
        (self.edit)(&mut spec);
        spec
    }
}

fn edits(case: &Case<'_>) -> Vec<Edit> {
    let spec = case.spec;
    let mut edits = Vec::new();
    if matches!(spec.kind.as_deref(), Some("hmac" | "hash")) {
        algorithms(spec, &mut edits);
    }
    if !matches!(spec.kind.as_deref(), Some("token" | "basic" | "none")) {
        encodings(spec, &mut edits);
        units(spec, &mut edits);
        templates(case, &mut edits);
    }
    formats(case, &mut edits);
    headers(case, &mut edits);
    edits
}

fn schemes(case: &Case<'_>, edits: &[Edit]) -> Vec<Tried<Scheme>> {
    let mut tried = Vec::new();
    tried.extend(Scheme::compile(case.spec, case.event).ok().map(|value| Tried { value, change: None }));
    for edit in edits {
        let compiled = Scheme::compile(&edit.applied(case.spec), case.event);
        tried.extend(compiled.ok().map(|value| Tried { value, change: Some(edit.change()) }));
    }
    tried
}

fn pairs(case: &Case<'_>, edits: &[Edit]) -> Vec<(Scheme, [Change; 2])> {
    let mut pairs = Vec::new();
    for (at, first) in edits.iter().enumerate() {
        let spec = first.applied(case.spec);
        for second in edits[at + 1..].iter().filter(|second| second.aspect != first.aspect) {
            if let Ok(scheme) = Scheme::compile(&second.applied(&spec), case.event) {
                pairs.push((scheme, [first.change(), second.change()]));
            }
        }
    }
    pairs
}

fn algorithms(spec: &Spec, edits: &mut Vec<Edit>) {
    for (word, name) in [("sha256", "SHA-256"), ("sha1", "SHA-1"), ("sha512", "SHA-512")] {
        if spec.algorithm.as_deref() != Some(word) {
            let (says, write) = (format!("the hash is {name}"), format!("scheme: {{ algorithm: {word} }}"));
            edits.push(Edit::new("algorithm", says, write, move |spec| {
                spec.algorithm = Some(word.to_owned())
            }));
        }
    }
}

fn encodings(spec: &Spec, edits: &mut Vec<Edit>) {
    for word in ["hex", "base64", "base64url"] {
        if spec.signature.encoding.as_deref() != Some(word) {
            let says = format!("the signature is read as {word}");
            let write = format!("scheme: {{ signature: {{ encoding: {word} }} }}");
            edits.push(Edit::new("encoding", says, write, move |spec| {
                spec.signature.encoding = Some(word.to_owned());
            }));
        }
    }
}

fn units(spec: &Spec, edits: &mut Vec<Edit>) {
    if spec.timestamp.from.is_none() {
        return;
    }
    for (word, name) in [
        ("s", "seconds"),
        ("ms", "milliseconds"),
        ("rfc3339", "an RFC 3339 time"),
        ("http-date", "an HTTP date"),
    ] {
        if spec.timestamp.unit.as_deref() != Some(word) {
            let says = format!("the timestamp is read as {name}");
            let write = format!("scheme: {{ timestamp: {{ unit: {word} }} }}");
            edits.push(Edit::new("unit", says, write, move |spec| {
                spec.timestamp.unit = Some(word.to_owned())
            }));
        }
    }
}

const TEMPLATES: [&str; 18] = [
    "{body}",
    "{timestamp}.{body}",
    "{timestamp}{body}",
    "{timestamp}:{body}",
    "{timestamp}|{body}",
    "v0:{timestamp}:{body}",
    "v1:{timestamp}:{body}",
    "{body}{timestamp}",
    "{body}.{timestamp}",
    "{id}.{timestamp}.{body}",
    "{id}{timestamp}{body}",
    "{timestamp}.{id}.{body}",
    "{url}{body}",
    "{body}{url}",
    "{method}{url}{body}",
    "{method}{url}{body}{timestamp}",
    "{url}{timestamp}{body}",
    "{secret}{body}",
];

fn templates(case: &Case<'_>, edits: &mut Vec<Edit>) {
    let spec = case.spec;
    let stamps = if spec.timestamp.from.is_some() { vec![None] } else { guessed_stamps(case) };
    for template in TEMPLATES.into_iter().filter(|template| spec.signed.as_deref() != Some(*template)) {
        let needs_stamp = template.contains("{timestamp}");
        if template.contains("{id}") && spec.id.is_none()
            || template.contains("{secret}") != (spec.kind.as_deref() == Some("hash"))
        {
            continue;
        }
        if !needs_stamp || spec.timestamp.from.is_some() {
            edits.push(template_edit(template, None));
            continue;
        }
        edits.extend(stamps.iter().flatten().map(|stamp| template_edit(template, Some(stamp.clone()))));
    }
}

/// Place and unit of a timestamp that the scheme does not know of.
type Stamp = (String, &'static str);

fn template_edit(template: &'static str, stamp: Option<Stamp>) -> Edit {
    let says = format!("what is signed is `{template}`");
    let write = match &stamp {
        None => format!("scheme: {{ signed: \"{template}\" }}"),
        Some((from, unit)) => format!(
            "scheme: {{ signed: \"{template}\", timestamp: {{ from: \"{from}\", unit: {unit}, tolerance: 300s }} }}"
        ),
    };
    Edit::new("signed", says, write, move |spec| {
        spec.signed = Some(template.to_owned());
        if let Some((from, unit)) = &stamp {
            spec.timestamp.from = Some(from.clone());
            spec.timestamp.unit = Some((*unit).to_owned());
            spec.timestamp.tolerance = Some("300s".to_owned());
        }
        let has = |name: &str| template.contains(name);
        if spec.timestamp.from.is_some() {
            spec.timestamp.signed = (!has("{timestamp}")).then_some(false);
        }
        if !has("{id}") {
            spec.id = None;
        }
        spec.consts.clear();
    })
}

/// Where a time may stand that the scheme does not name: a field `t`, or a header that is called so.
fn guessed_stamps(case: &Case<'_>) -> Vec<Option<Stamp>> {
    let unit = |text: &str| match text.len() {
        1..=11 if text.bytes().all(|b| b.is_ascii_digit()) => Some("s"),
        12..=14 if text.bytes().all(|b| b.is_ascii_digit()) => Some("ms"),
        _ if text.contains('T') && text.contains(':') => Some("rfc3339"),
        _ if text.ends_with("GMT") => Some("http-date"),
        _ => None,
    };
    let mut stamps = Vec::new();
    for (name, value) in case.request.headers {
        let is_called_so =
            name.as_str().contains("timestamp") || name.as_str().ends_with("-time") || name == "date";
        if let (true, Some(unit)) = (is_called_so, value.to_str().ok().and_then(unit)) {
            stamps.push(Some((format!("header:{name}"), unit)));
        }
    }
    if case.spec.signature.format.as_deref() == Some("fields") {
        for item in
            signature_items(case, case.spec).iter().filter(|item| matches!(item.role, Role::Skipped(_)))
        {
            if let (Some(key), Some(unit)) = (&item.key, unit(&item.text)) {
                stamps.push(Some((format!("field:{key}"), unit)));
            }
        }
    }
    stamps
}

fn signature_items(case: &Case<'_>, spec: &Spec) -> Vec<Item> {
    const ANY_LENGTH: (usize, usize) = (1, 1 << 16);
    let splitter = Splitter::new(spec, ANY_LENGTH);
    let found =
        places_of_signature(spec).into_iter().filter_map(|place| match look(&place, true, &case.request) {
            Found::There(texts) => Some(texts),
            _ => None,
        });
    found.flatten().flat_map(|text| splitter.items(&text)).collect()
}

/// The signature under another key, behind another prefix, or without one.
fn formats(case: &Case<'_>, edits: &mut Vec<Edit>) {
    let spec = case.spec;
    match spec.signature.format.as_deref() {
        Some("list" | "fields") => {
            let items = signature_items(case, spec);
            let mut keys: Vec<String> = items.into_iter().filter_map(|item| item.key).collect();
            keys.sort();
            keys.dedup();
            for key in keys.into_iter().filter(|key| spec.signature.key.as_ref() != Some(key)) {
                let says = format!("the signature is taken from `{key}`");
                let write = format!("scheme: {{ signature: {{ key: \"{key}\" }} }}");
                edits.push(Edit::new("key", says, write, move |spec| spec.signature.key = Some(key.clone())));
            }
        }
        Some("raw") | None => prefixes(case, edits),
        Some("prefixed") => {
            let (says, write) =
                ("nothing stands in front of the signature", "scheme: { signature: { format: raw } }");
            edits.push(Edit::new("key", says, write, |spec| {
                spec.signature.format = Some("raw".to_owned());
                spec.signature.prefix = None;
            }));
            prefixes(case, edits);
        }
        _ => {}
    }
}

fn prefixes(case: &Case<'_>, edits: &mut Vec<Edit>) {
    let mut raw = case.spec.clone();
    raw.signature.format = Some("raw".to_owned());
    raw.signature.prefix = None;
    for item in signature_items(case, &raw) {
        let Some(end) = item.text.find(['=', ',', ':', ' ']) else { continue };
        let prefix = item.text[..=end].to_owned();
        let is_own = case.spec.signature.prefix.as_ref() == Some(&prefix);
        if is_own || end + 1 == item.text.len() || prefix.len() > 16 {
            continue;
        }
        let says = format!("`{prefix}` in front of the signature is left out");
        let write = format!("scheme: {{ signature: {{ format: prefixed, prefix: \"{prefix}\" }} }}");
        edits.push(Edit::new("key", says, write, move |spec| {
            spec.signature.format = Some("prefixed".to_owned());
            spec.signature.prefix = Some(prefix.clone());
        }));
    }
}

/// The signature, the timestamp and the id under other names: `svix-signature` for `webhook-signature`.
fn headers(case: &Case<'_>, edits: &mut Vec<Edit>) {
    let spec = case.spec;
    let is_there = |place: &str| !matches!(look(place, true, &case.request), Found::Absent | Found::Empty);
    let own = places_of_signature(spec);
    if own.iter().any(|place| is_there(place))
        && [&spec.timestamp.from, &spec.id]
            .into_iter()
            .flatten()
            .all(|place| !place.starts_with("header:") || is_there(place))
    {
        return;
    }
    let other = |place: &Option<String>| -> Option<String> {
        let place = place.as_deref()?;
        let name = place.strip_prefix("header:").filter(|_| !is_there(place))?;
        other_name(name, case).map(|other| format!("header:{other}"))
    };
    let (stamp, id) = (other(&spec.timestamp.from), other(&spec.id));
    let mut signatures: Vec<String> = own.iter().filter(|place| is_there(place)).cloned().collect();
    if signatures.is_empty() {
        let name = own.iter().find_map(|place| place.strip_prefix("header:")).unwrap_or_default();
        let alike = other_name(name, case);
        let odd = case.request.headers.keys().map(|name| name.as_str().to_owned()).filter(|name| {
            ["sign", "hmac", "token", "auth", "digest", "hash"].iter().any(|word| name.contains(word))
        });
        signatures = alike.into_iter().chain(odd).map(|name| format!("header:{name}")).collect();
        signatures.dedup();
    }
    for signature in signatures {
        let (stamp, id) = (stamp.clone(), id.clone());
        let named = [Some(&signature), stamp.as_ref(), id.as_ref()];
        let names: Vec<_> = named.into_iter().flatten().filter(|place| !own.contains(place)).collect();
        let names: Vec<_> =
            names.iter().map(|place| format!("`{}`", place.trim_start_matches("header:"))).collect();
        let says = format!(
            "the {} read",
            if names.len() == 1 {
                format!("header {} is", names[0])
            } else {
                format!("headers {} are", names.join(", "))
            }
        );
        let mut keys = vec![format!("signature: {{ from: \"{signature}\" }}")];
        keys.extend(stamp.iter().map(|place| format!("timestamp: {{ from: \"{place}\" }}")));
        keys.extend(id.iter().map(|place| format!("id: \"{place}\"")));
        let write = format!("scheme: {{ {} }}", keys.join(", "));
        edits.push(Edit::new("header", says, write, move |spec| {
            spec.signature.from = Some(Texts(vec![signature.clone()]));
            if stamp.is_some() {
                spec.timestamp.from.clone_from(&stamp);
            }
            if id.is_some() {
                spec.id.clone_from(&id);
            }
        }));
    }
}

/// A header of the request that ends as `name` does behind its first word: `svix-id` for `webhook-id`, `signature`
/// for `x-signature`.
fn other_name(name: &str, case: &Case<'_>) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let plain = |name: &str| name.strip_prefix("x-").unwrap_or(name).replace('_', "-");
    let ending = |name: &str| plain(name).rsplit('-').next().unwrap_or_default().to_owned();
    let names: Vec<&str> = case.request.headers.keys().map(http::HeaderName::as_str).collect();
    let same = names.iter().find(|other| plain(other) == plain(&name));
    let alike = || {
        names.iter().find(|other| {
            other.contains('-') && ending(other) == ending(&name) && **other != "content-length"
        })
    };
    same.or_else(alike).map(|other| (*other).to_owned())
}
