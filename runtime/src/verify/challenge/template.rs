//! Template: the texts of an answer: what stands there as it is, what the request sent, and what is made with a key.
//!
//! An answer of JSON is built of values; no text is ever pasted into JSON, so nothing that a stranger sends can end a
//! string and go on as something else.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::{Asked, Refused};
use crate::verify::extract::Place;
use crate::verify::format::Encoding;
use crate::words::limits::CHALLENGE_VALUE_BYTES_MAX;

#[derive(Debug, Default)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Value(Place),
    /// The source's MAC over one value.
    Keyed {
        encoding: Encoding,
        place: Place,
        /// As it is written.
        written: String,
    },
    /// SHA-256 in hex over several, one behind the other.
    Hashed(Vec<Hashable>),
}

#[derive(Debug)]
enum Hashable {
    Value(Place),
    VerifyToken,
    PublicUrl,
}

// === reading ===

const NAMES: &str = "{query:x}, {header:X}, {json:a.b}, {form:x}, {const:name}, {hmac_hex:query:x}, \
                     {hmac_base64:query:x}, {hmac_base64url:query:x} or {sha256_hex:query:x+verify_token}";

impl Template {
    /// An error for each part that is not known, in words.
    pub(super) fn parse(
        text: &str,
        consts: &BTreeMap<String, Option<String>>,
    ) -> Result<Template, Vec<String>> {
        let (mut parts, mut problems) = (Vec::new(), Vec::new());
        let mut rest = text;
        while let Some((literal, behind)) = rest.split_once('{') {
            push_literal(&mut parts, literal);
            let Some((name, behind)) = behind.split_once('}') else {
                problems.push(format!("a `{{` is not closed; write {NAMES}"));
                return Err(problems);
            };
            match Part::parse(name, consts) {
                Ok(Part::Literal(value)) => push_literal(&mut parts, &value),
                Ok(part) => parts.push(part),
                Err(problem) => problems.push(problem),
            }
            rest = behind;
        }
        push_literal(&mut parts, rest);
        if problems.is_empty() { Ok(Template { parts }) } else { Err(problems) }
    }

    /// What of the request a key is used on, and how it is written.
    pub(super) fn keyed(&self) -> impl Iterator<Item = (&Place, &str)> {
        self.parts.iter().filter_map(|part| match part {
            Part::Keyed { place, written, .. } => Some((place, written.as_str())),
            _ => None,
        })
    }

    pub(super) fn needs_url(&self) -> bool {
        self.hashables().any(|part| matches!(part, Hashable::PublicUrl))
    }

    pub(super) fn needs_token(&self) -> bool {
        self.hashables().any(|part| matches!(part, Hashable::VerifyToken))
    }

    fn hashables(&self) -> impl Iterator<Item = &Hashable> {
        self.parts.iter().flat_map(|part| match part {
            Part::Hashed(parts) => parts.as_slice(),
            _ => &[],
        })
    }
}

fn push_literal(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Literal(before)) => before.push_str(text),
        _ => parts.push(Part::Literal(text.to_owned())),
    }
}

impl Part {
    fn parse(name: &str, consts: &BTreeMap<String, Option<String>>) -> Result<Part, String> {
        let unknown = || format!("`{{{name}}}` is not known; write {NAMES}");
        let (function, of) = name.split_once(':').ok_or_else(unknown)?;
        let keyed = |encoding| Ok(Part::Keyed { encoding, place: Place::parse(of)?, written: of.to_owned() });
        match function {
            "hmac_hex" => keyed(Encoding::Hex),
            "hmac_base64" => keyed(Encoding::Base64),
            "hmac_base64url" => keyed(Encoding::Base64Url),
            "sha256_hex" => of.split('+').map(Hashable::parse).collect::<Result<_, _>>().map(Part::Hashed),
            // What is written `name:` and left empty is told as such.
            "const" => match consts.get(of) {
                Some(value) => Ok(Part::Literal(value.clone().unwrap_or_default())),
                None => Err(format!("`{{const:{of}}}` has no value; write it: const: {{ {of}: \"…\" }}")),
            },
            "query" | "header" | "json" | "form" => Place::parse(name).map(Part::Value),
            _ => Err(unknown()),
        }
    }
}

impl Hashable {
    fn parse(text: &str) -> Result<Hashable, String> {
        match text {
            "verify_token" => Ok(Hashable::VerifyToken),
            "public_url" => Ok(Hashable::PublicUrl),
            _ => Place::parse(text).map(Hashable::Value),
        }
    }
}

// === answering ===

impl Template {
    pub(super) fn fill(&self, asked: &Asked<'_>) -> Result<String, Refused> {
        self.parts.iter().try_fold(String::new(), |text, part| Ok(text + &part.fill(asked)?))
    }
}

impl Part {
    fn fill<'a>(&'a self, asked: &Asked<'a>) -> Result<Cow<'a, str>, Refused> {
        match self {
            Part::Literal(text) => Ok(Cow::Borrowed(text)),
            Part::Value(place) => value(place, asked),
            Part::Keyed { encoding, place, .. } => {
                let value = value(place, asked)?;
                if let Some(odd) = value.chars().find(|c| is_of_signed_text(*c)) {
                    return Err(Refused::Value(format!(
                        "{place} holds `{odd}`, as the signed text of an event does"
                    )));
                }
                let proof = asked.prove(value.as_bytes())?;
                Ok(Cow::Owned(encoding.encode(proof.as_slice())))
            }
            Part::Hashed(parts) => {
                let mut hash = Sha256::new();
                for part in parts {
                    part.feed(&mut hash, asked)?;
                }
                Ok(Cow::Owned(hex::encode(hash.finalize())))
            }
        }
    }
}

impl Hashable {
    fn feed(&self, hash: &mut Sha256, asked: &Asked<'_>) -> Result<(), Refused> {
        match self {
            Hashable::Value(place) => hash.update(value(place, asked)?.as_bytes()),
            Hashable::VerifyToken => hash.update(asked.verify_token()?.expose()),
            Hashable::PublicUrl => hash.update(asked.request.url.as_bytes()),
        }
        Ok(())
    }
}

/// Never in what a key is used on, whatever a pattern says: what events' signatures are made over holds one of these.
pub(super) fn is_of_signed_text(c: char) -> bool {
    matches!(c, ':' | '{' | '"')
}

/// One value of the request. What is wrong with it is said without it.
pub(super) fn value<'a>(place: &Place, asked: &Asked<'a>) -> Result<Cow<'a, str>, Refused> {
    let found = place.find(&asked.request).map_err(Refused::Value)?;
    let value = found.ok_or_else(|| Refused::Value(format!("{place} is absent or empty")))?;
    if value.len() > CHALLENGE_VALUE_BYTES_MAX {
        return Err(Refused::Value(format!("{place} is longer than {CHALLENGE_VALUE_BYTES_MAX} bytes")));
    }
    Ok(value)
}

/// A JSON value whose texts are templates; keys stand as they are.
#[derive(Debug)]
pub(super) enum Json {
    Fixed(Value),
    Text(Template),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl Json {
    pub(super) fn parse(
        value: &Value,
        consts: &BTreeMap<String, Option<String>>,
    ) -> Result<Json, Vec<String>> {
        match value {
            Value::String(text) => Template::parse(text, consts).map(Json::Text),
            Value::Array(items) => all(items.iter().map(|item| Json::parse(item, consts))).map(Json::List),
            Value::Object(entries) => {
                let entry = |(key, value): (&String, &Value)| {
                    Json::parse(value, consts).map(|json| (key.clone(), json))
                };
                all(entries.iter().map(entry)).map(Json::Map)
            }
            fixed => Ok(Json::Fixed(fixed.clone())),
        }
    }

    pub(super) fn fill(&self, asked: &Asked<'_>) -> Result<Value, Refused> {
        match self {
            Json::Fixed(value) => Ok(value.clone()),
            Json::Text(template) => template.fill(asked).map(Value::String),
            Json::List(items) => items.iter().map(|item| item.fill(asked)).collect(),
            Json::Map(entries) => {
                let entry = |(key, json): &(String, Json)| Ok((key.clone(), json.fill(asked)?));
                entries.iter().map(entry).collect::<Result<Map<_, _>, Refused>>().map(Value::Object)
            }
        }
    }

    /// Its texts, in their order.
    pub(super) fn templates(&self) -> Vec<&Template> {
        match self {
            Json::Fixed(_) => Vec::new(),
            Json::Text(template) => vec![template],
            Json::List(items) => items.iter().flat_map(Json::templates).collect(),
            Json::Map(entries) => entries.iter().flat_map(|(_, json)| json.templates()).collect(),
        }
    }
}

/// All of them, or everything that is wrong with any.
fn all<T>(read: impl Iterator<Item = Result<T, Vec<String>>>) -> Result<Vec<T>, Vec<String>> {
    let (mut good, mut problems) = (Vec::new(), Vec::new());
    for one in read {
        match one {
            Ok(one) => good.push(one),
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok(good) } else { Err(problems) }
}
