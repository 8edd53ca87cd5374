//! Look: what stands at the places that a scheme names, and what of it is a signature.
//!
//! It follows the scheme as it is written, since an operator knows that text and not what it compiles to. A test holds
//! what is taken for a candidate here against what `verify` takes.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD, URL_SAFE_PAD_INDIFFERENT};

use super::show::{abbreviated, plural};
use crate::verify::Request;
use crate::verify::extract::Place;
use crate::verify::spec::{SignatureSpec, Spec};

// === places ===

/// What stands at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::verify) enum Found {
    Absent,
    Empty,
    There(Vec<String>),
    /// It cannot be used: twice, not ASCII, …
    Odd(String),
}

/// Looks at a place as a scheme writes it, `header:X-Signature`. `may_repeat`: a list may be on several lines.
pub(in crate::verify) fn look(place: &str, may_repeat: bool, request: &Request<'_>) -> Found {
    match place.split_once(':') {
        Some(("header", name)) => header(name, may_repeat, request),
        Some(("header-numbered", prefix)) => numbered(prefix, request),
        _ => match Place::parse(place).and_then(|place| place.find(request)) {
            Ok(Some(text)) => Found::There(vec![text.into_owned()]),
            Ok(None) => Found::Absent,
            Err(why) => Found::Odd(why),
        },
    }
}

fn header(name: &str, may_repeat: bool, request: &Request<'_>) -> Found {
    let lines: Vec<_> = request.headers.get_all(name).iter().collect();
    let texts: Result<Vec<_>, _> = lines.iter().map(|line| line.to_str().map(str::to_owned)).collect();
    match texts {
        Err(_) => Found::Odd("it is not plain ASCII".to_owned()),
        Ok(texts) if texts.is_empty() => Found::Absent,
        Ok(texts) if texts.len() > 1 && !may_repeat => Found::Odd(format!(
            "it is there {} times, and only a list may be: such a request is refused",
            texts.len()
        )),
        Ok(texts) if texts.iter().all(String::is_empty) => Found::Empty,
        Ok(texts) => Found::There(texts),
    }
}

fn numbered(prefix: &str, request: &Request<'_>) -> Found {
    let names = request.headers.keys().filter(|name| {
        let number = name.as_str().get(prefix.len()..).filter(|_| starts_without_case(name.as_str(), prefix));
        number.is_some_and(|number| !number.starts_with('0') && number.parse::<usize>().is_ok())
    });
    let mut texts = Vec::new();
    for name in names {
        match header(name.as_str(), false, request) {
            Found::There(found) => texts.extend(found),
            Found::Odd(why) => return Found::Odd(format!("`{name}`: {why}")),
            Found::Absent | Found::Empty => {}
        }
    }
    if texts.is_empty() { Found::Absent } else { Found::There(texts) }
}

fn starts_without_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// `header:X-Signature` as a person says it.
pub(in crate::verify) fn place_in_words(place: &str) -> String {
    match place.split_once(':') {
        Some(("header", name)) => format!("header `{name}`"),
        Some(("header-numbered", prefix)) => format!("headers `{prefix}1`, `{prefix}2`, …"),
        Some(("json", path)) => format!("JSON field `{path}`"),
        Some(("form", name)) => format!("form field `{name}`"),
        Some(("query", name)) => format!("query parameter `{name}`"),
        Some(("field", name)) => format!("field `{name}` of the signature"),
        _ => format!("`{place}`"),
    }
}

// === the items of a signature ===

/// One item of what stands at a signature's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::verify) struct Item {
    /// `v1` of `v1=…`; of a positional one its position.
    pub(in crate::verify) key: Option<String>,
    pub(in crate::verify) text: String,
    pub(in crate::verify) role: Role,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::verify) enum Role {
    /// How many bytes it is, or why it is not one that could be right.
    Candidate(Result<usize, String>),
    Stamp,
    Skipped(String),
}

/// Splits what was found as the scheme says.
pub(in crate::verify) struct Splitter<'s> {
    signature: &'s SignatureSpec,
    stamp_field: Option<&'s str>,
    kind: Kind,
    /// Least and most bytes of a signature.
    bytes: (usize, usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Encoded,
    Token,
    Basic,
}

impl<'s> Splitter<'s> {
    pub(in crate::verify) fn new(spec: &'s Spec, bytes: (usize, usize)) -> Splitter<'s> {
        let kind = match spec.kind.as_deref() {
            Some("token") => Kind::Token,
            Some("basic") => Kind::Basic,
            _ => Kind::Encoded,
        };
        let stamp_field = spec.timestamp.from.as_deref().and_then(|from| from.strip_prefix("field:"));
        Splitter { signature: &spec.signature, stamp_field, kind, bytes }
    }

    pub(in crate::verify) fn is_secret_itself(&self) -> bool {
        self.kind != Kind::Encoded
    }

    pub(in crate::verify) fn items(&self, text: &str) -> Vec<Item> {
        match self.signature.groups.as_deref().filter(|groups| !groups.is_empty()) {
            Some(groups) => split(text, groups)
                .filter(|part| !part.is_empty())
                .flat_map(|part| self.group(part))
                .collect(),
            None => self.group(text),
        }
    }

    fn group(&self, text: &str) -> Vec<Item> {
        let separator = self.signature.separator.as_deref().unwrap_or_default();
        match self.signature.format.as_deref().unwrap_or("raw") {
            "prefixed" => vec![self.prefixed(text)],
            "list" | "fields" if !separator.is_empty() => {
                split(text, separator).filter(|item| !item.is_empty()).map(|item| self.item(item)).collect()
            }
            "positional" if !separator.is_empty() => split(text, separator)
                .enumerate()
                .map(|(at, item)| self.field(&at.to_string(), item))
                .collect(),
            _ => vec![self.candidate(None, text)],
        }
    }

    fn prefixed(&self, text: &str) -> Item {
        let prefix = self.signature.prefix.as_deref().unwrap_or_default();
        match text.strip_prefix(prefix) {
            Some(rest) => self.candidate(Some(prefix), rest),
            None => Item {
                key: None,
                text: text.to_owned(),
                role: Role::Skipped(format!("it does not begin with `{prefix}`")),
            },
        }
    }

    fn item(&self, item: &str) -> Item {
        let key = self.signature.key.as_deref();
        let is_fields = self.signature.format.as_deref() == Some("fields");
        let assign = self.signature.assign.as_deref().filter(|assign| !assign.is_empty());
        let Some(assign) = assign.or(is_fields.then_some("=")) else { return self.candidate(None, item) };
        match item.split_once(assign) {
            Some((found, text))
                if self.stamp_field == Some(found) || key.is_none_or(|key| key == "*" || key == found) =>
            {
                self.field(found, text)
            }
            Some((found, text)) => Item {
                key: Some(found.to_owned()),
                text: text.to_owned(),
                role: Role::Skipped(format!("only `{}` counts", key.unwrap_or_default())),
            },
            None => Item {
                key: None,
                text: item.to_owned(),
                role: Role::Skipped(format!("there is no `{assign}` in it")),
            },
        }
    }

    fn field(&self, key: &str, text: &str) -> Item {
        if self.stamp_field == Some(key) {
            return Item { key: Some(key.to_owned()), text: text.to_owned(), role: Role::Stamp };
        }
        self.candidate(Some(key), text)
    }

    fn candidate(&self, key: Option<&str>, text: &str) -> Item {
        let fits = match self.kind {
            Kind::Token => Ok(text.len()),
            Kind::Basic => credentials(text).map(|pair| pair.len()),
            Kind::Encoded => fits(self.signature.encoding.as_deref().unwrap_or_default(), self.bytes, text),
        };
        Item { key: key.map(str::to_owned), text: text.to_owned(), role: Role::Candidate(fits) }
    }
}

impl Item {
    /// `v1=5257a8…bd`; nothing of what is a secret itself.
    pub(in crate::verify) fn shown(&self, is_secret: bool) -> String {
        let text = match self.role {
            Role::Stamp => self.text.clone(),
            _ if is_secret => format!("({}, not shown)", plural(self.text.chars().count(), "character")),
            _ => abbreviated(&self.text),
        };
        match &self.key {
            Some(key) if key.ends_with(['=', ' ', ',', ':']) => format!("{key}{text}"),
            Some(key) => format!("{key}={text}"),
            None => text,
        }
    }
}

/// As the engine splits: a space that a proxy put behind a separator belongs to no item.
fn split<'t>(text: &'t str, separator: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(separator).map(|item| item.trim_matches([' ', '\t']))
}

/// User and password of a `Basic` header.
fn credentials(text: &str) -> Result<Vec<u8>, String> {
    let rest =
        text.split_once(' ').filter(|(word, _)| word.eq_ignore_ascii_case("basic")).map(|(_, rest)| rest);
    let rest = rest.ok_or("it does not begin with `Basic `")?;
    STANDARD
        .decode(rest.trim_start_matches(' '))
        .map_err(|_| "what follows `Basic ` is not base64".to_owned())
}

// === encodings ===

/// The bytes of a signature in an encoding; None where it is not in it, to the letter.
pub(in crate::verify) fn decoded(encoding: &str, text: &str) -> Option<Vec<u8>> {
    match encoding {
        "hex" => hex::decode(text).ok(),
        "base64" => STANDARD.decode(text).ok(),
        "base64url" => URL_SAFE_PAD_INDIFFERENT.decode(text).ok(),
        _ => None,
    }
}

/// How many bytes it is, or in words what is wrong with it.
fn fits(encoding: &str, bytes: (usize, usize), text: &str) -> Result<usize, String> {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if let Some(found) = decoded(encoding, text) {
        if (bytes.0..=bytes.1).contains(&found.len()) {
            return Ok(found.len());
        }
        return Err(match other_encoding(encoding, bytes, text) {
            Some(other) => other,
            None => wrong_length(encoding, bytes, text, found.len()),
        });
    }
    Err(garbled(encoding, bytes, text))
}

fn other_encoding(encoding: &str, bytes: (usize, usize), text: &str) -> Option<String> {
    let is_in =
        |other: &&str| decoded(other, text).is_some_and(|found| (bytes.0..=bytes.1).contains(&found.len()));
    let other = ["hex", "base64", "base64url"].into_iter().filter(|other| *other != encoding).find(is_in)?;
    Some(format!("is {other}, not {encoding}: write `encoding: {other}`"))
}

fn wrong_length(encoding: &str, bytes: (usize, usize), text: &str, found: usize) -> String {
    let (is, expected) = match encoding {
        "hex" => (plural(text.len(), "hex digit"), in_range((2 * bytes.0, 2 * bytes.1))),
        _ => (format!("{encoding} of {}", plural(found, "byte")), in_range(bytes)),
    };
    let why = match hash_of(found).filter(|_| hash_of(bytes.0).is_some()) {
        Some(hash) => format!("it is as long as {hash}"),
        None if found < bytes.0 => "it was cut".to_owned(),
        None => "there is too much of it".to_owned(),
    };
    format!("is {is}, and {expected} were expected: {why}")
}

fn in_range((least, most): (usize, usize)) -> String {
    if least == most { least.to_string() } else { format!("{least} to {most}") }
}

fn hash_of(bytes: usize) -> Option<&'static str> {
    match bytes {
        20 => Some("SHA-1"),
        32 => Some("SHA-256"),
        64 => Some("SHA-512"),
        _ => None,
    }
}

fn garbled(encoding: &str, bytes: (usize, usize), text: &str) -> String {
    let is_in = |encoding: &str, text: &str| {
        decoded(encoding, text).is_some_and(|found| (bytes.0..=bytes.1).contains(&found.len()))
    };
    let trimmed = text.trim();
    if trimmed != text && is_in(encoding, trimmed) {
        return "has a space at its beginning or end".to_owned();
    }
    let unquoted = text.trim_matches(['"', '\'']);
    if unquoted != text && is_in(encoding, unquoted) {
        return "is in quotes".to_owned();
    }
    if encoding == "base64" && STANDARD_NO_PAD.decode(text).is_ok() {
        return "lacks the `=` at its end".to_owned();
    }
    if let Some(other) = other_encoding(encoding, bytes, text) {
        return other;
    }
    let unprefixed = text.split_once(['=', ',', ':']).filter(|(_, rest)| is_in(encoding, rest));
    if let Some((prefix, _)) = unprefixed {
        let prefix = &text[..=prefix.len()];
        return format!("begins with `{prefix}`: write `format: prefixed, prefix: \"{prefix}\"`");
    }
    match encoding {
        "hex" => garbled_hex(bytes, text),
        "base64" | "base64url" => garbled_base64(encoding, text),
        _ => format!("is not {encoding}"),
    }
}

fn garbled_hex(bytes: (usize, usize), text: &str) -> String {
    match text.chars().position(|c| !c.is_ascii_hexdigit()) {
        Some(at) => format!("holds a character that is no hex digit, at {}", at + 1),
        None => wrong_length("hex", bytes, text, text.len() / 2),
    }
}

fn garbled_base64(encoding: &str, text: &str) -> String {
    let of_alphabet = |c: char| match encoding {
        "base64" => c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='),
        _ => c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '='),
    };
    if let Some(at) = text.chars().position(|c| !of_alphabet(c)) {
        return format!("holds a character that is not {encoding}, at {}", at + 1);
    }
    let stem = text.trim_end_matches('=');
    if stem.len() % 4 == 1 || URL_SAFE_NO_PAD.decode(stem.replace('+', "-").replace('/', "_")).is_ok() {
        return format!("is {}, which no {encoding} can be: it was cut", plural(text.len(), "character"));
    }
    "has bits behind its last byte: it was changed or cut".to_owned()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::verify::Scheme;
    use crate::verify::spec::EventSpec;

    fn splitter_of(spec: &Spec) -> Splitter<'_> {
        Splitter::new(spec, (32, 32))
    }

    fn spec(signature: serde_json::Value, stamp: Option<&str>) -> Spec {
        let mut spec =
            json!({"type": "hmac", "algorithm": "sha256", "signature": signature, "signed": "{body}"});
        if let Some(from) = stamp {
            spec["timestamp"] = json!({"from": from, "unit": "s", "tolerance": "300s"});
            spec["signed"] = json!("{timestamp}{body}");
        }
        serde_json::from_value(spec).unwrap()
    }

    fn why(encoding: &str, text: &str) -> String {
        fits(encoding, (32, 32), text).unwrap_err()
    }

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn what_is_wrong_with_a_candidate_is_told() {
        let base64 = STANDARD.encode(hex::decode(HEX).unwrap());
        let ends_in_bits = format!("{}9=", &base64[..42]);
        for (encoding, text, words) in [
            ("hex", &HEX[1..], "is 63 hex digits, and 64 were expected: it was cut"),
            ("hex", &HEX[2..], "is 62 hex digits, and 64 were expected: it was cut"),
            ("hex", &HEX[..40], "is 40 hex digits, and 64 were expected: it is as long as SHA-1"),
            ("hex", &HEX.repeat(2), "is 128 hex digits, and 64 were expected: it is as long as SHA-512"),
            ("hex", &format!("{HEX}00"), "is 66 hex digits, and 64 were expected: there is too much of it"),
            ("hex", &HEX.replace('7', "g"), "holds a character that is no hex digit, at 8"),
            ("hex", &base64, "is base64, not hex: write `encoding: base64`"),
            ("base64", HEX, "is hex, not base64: write `encoding: hex`"),
            ("hex", &format!(" {HEX}"), "has a space"),
            ("hex", &format!("\"{HEX}\""), "is in quotes"),
            ("hex", &format!("sha256={HEX}"), "write `format: prefixed, prefix: \"sha256=\"`"),
            ("hex", "", "is empty"),
            ("base64", &base64[..43], "lacks the `=` at its end"),
            ("base64", &base64[..40], "is base64 of 30 bytes, and 32 were expected: it was cut"),
            ("base64", &base64[..41], "is 41 characters, which no base64 can be: it was cut"),
            ("base64", &ends_in_bits, "has bits behind its last byte"),
            ("base64", &base64.replace('S', "!"), "holds a character that is not base64, at 2"),
        ] {
            let said = why(encoding, text);
            assert!(said.contains(words), "{encoding} {text}: {said}");
        }
        let public = fits("base64", (64, 64), &STANDARD.encode([1; 63])).unwrap_err();
        assert!(public.contains("is base64 of 63 bytes, and 64 were expected: it was cut"), "{public}");
        assert_eq!(fits("hex", (32, 32), HEX), Ok(32));
    }

    #[test]
    fn each_item_has_its_part() {
        let fields = spec(
            json!({"from": "header:X", "format": "fields", "separator": ",", "assign": "=", "key": "v1", "encoding": "hex"}),
            Some("field:t"),
        );
        let items = splitter_of(&fields).items(&format!("t=17, v1={HEX},v0=00,junk,v1=12"));
        let said: Vec<_> = items.iter().map(|item| item.shown(false)).collect();
        assert_eq!(said, ["t=17", "v1=012345…ef", "v0=00", "junk", "v1=12"]);
        assert_eq!(items[0].role, Role::Stamp);
        assert_eq!(items[1].role, Role::Candidate(Ok(32)));
        assert_eq!(items[2].role, Role::Skipped("only `v1` counts".to_owned()));
        assert_eq!(items[3].role, Role::Skipped("there is no `=` in it".to_owned()));
        assert!(
            matches!(&items[4].role, Role::Candidate(Err(why)) if why.contains("2 hex digits")),
            "{items:?}"
        );

        let prefixed = spec(
            json!({"from": "header:X", "format": "prefixed", "prefix": "sha256=", "encoding": "hex"}),
            None,
        );
        assert_eq!(
            splitter_of(&prefixed).items(&format!("sha256={HEX}"))[0].shown(false),
            "sha256=012345…ef"
        );
        assert!(matches!(splitter_of(&prefixed).items(HEX)[0].role, Role::Skipped(_)));
    }

    #[test]
    fn a_token_is_never_shown() {
        let token: Spec =
            serde_json::from_value(json!({"type": "token", "signature": {"from": "header:X"}})).unwrap();
        let splitter = splitter_of(&token);
        assert!(splitter.is_secret_itself());
        let items = splitter.items("hunter2");
        assert_eq!(items[0].role, Role::Candidate(Ok(7)));
        assert_eq!(items[0].shown(true), "(7 characters, not shown)");
    }

    #[test]
    fn places_are_looked_at_as_verify_looks() {
        let mut headers = HeaderMap::new();
        headers.append("x-one", HeaderValue::from_static("1"));
        headers.append("x-two", HeaderValue::from_static("a"));
        headers.append("x-two", HeaderValue::from_static("b"));
        headers.append("x-empty", HeaderValue::from_static(""));
        headers.append("x-odd", HeaderValue::from_bytes(b"\xe9").unwrap());
        headers.append("x-n-1", HeaderValue::from_static("n1"));
        headers.append("x-n-02", HeaderValue::from_static("n02"));
        let request = Request {
            method: "POST",
            url: "",
            query: Some("q=1"),
            headers: &headers,
            body: b"{\"a\":{\"b\":5}}",
        };
        let found = |place: &str| look(place, false, &request);
        let there = |text: &str| Found::There(vec![text.to_owned()]);
        assert_eq!(found("header:X-One"), there("1"));
        assert_eq!(found("header:X-None"), Found::Absent);
        assert_eq!(found("header:X-Empty"), Found::Empty);
        assert_eq!(found("header-numbered:X-N-"), there("n1"));
        assert_eq!(found("json:a.b"), there("5"));
        assert_eq!(found("query:q"), there("1"));
        assert!(matches!(found("header:X-Two"), Found::Odd(why) if why.contains("2 times")));
        assert!(matches!(found("header:X-Odd"), Found::Odd(why) if why.contains("ASCII")));
        assert_eq!(look("header:X-Two", true, &request), Found::There(vec!["a".into(), "b".into()]));
    }

    fn schemes() -> Vec<Spec> {
        let signature = |more: serde_json::Value| {
            let mut signature = json!({"from": "header:X", "encoding": "hex"});
            signature.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            signature
        };
        vec![
            spec(signature(json!({"format": "raw"})), None),
            spec(signature(json!({"format": "raw", "encoding": "base64"})), None),
            spec(signature(json!({"format": "raw", "encoding": "base64url"})), None),
            spec(signature(json!({"format": "prefixed", "prefix": "v0="})), None),
            spec(signature(json!({"format": "list", "separator": " ", "assign": ",", "key": "v1"})), None),
            spec(signature(json!({"format": "list", "separator": ","})), None),
            spec(
                signature(json!({"format": "fields", "separator": ",", "assign": "=", "key": "v1"})),
                Some("field:t"),
            ),
            spec(
                signature(json!({"format": "fields", "separator": ";", "assign": "=", "key": "*"})),
                Some("field:t"),
            ),
            spec(signature(json!({"format": "positional", "separator": ","})), Some("field:0")),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// What is called a candidate here is what `verify` compares.
        #[test]
        fn candidates_are_those_of_the_engine(
            pieces in prop::collection::vec(0_usize..16, 0..8), which in 0_usize..9,
        ) {
            let base64 = STANDARD.encode(hex::decode(HEX).unwrap());
            let words = [
                HEX, &HEX[1..], &base64, &base64[..43], "t=17", "t=18", "v1=", "v0=", "v1,", ",", " ", ";", "17", "junk", "=", "é",
            ];
            let value: String = pieces.iter().map(|at| words[*at]).collect();
            let spec = &schemes()[which];
            let scheme = Scheme::compile(spec, &EventSpec::default()).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert("x", HeaderValue::from_bytes(value.as_bytes()).unwrap());
            let request = Request { method: "POST", url: "", query: None, headers: &headers, body: b"" };
            let Found::There(texts) = look("header:X", false, &request) else { return Ok(()) };
            let items: Vec<Item> = texts.iter().flat_map(|text| splitter_of(spec).items(text)).collect();
            let good = items.iter().filter(|item| matches!(item.role, Role::Candidate(Ok(_)))).count();
            match scheme.candidates(&request) {
                Some(candidates) => prop_assert_eq!(good, candidates, "{}: {:?}", value, items),
                // Two different timestamps refuse the whole; else there was nothing to compare.
                None => {
                    let stamps: std::collections::BTreeSet<_> =
                        items.iter().filter(|item| item.role == Role::Stamp).map(|item| &item.text).collect();
                    prop_assert!(good == 0 || stamps.len() > 1, "{}: {:?}", value, items);
                }
            }
        }
    }
}
