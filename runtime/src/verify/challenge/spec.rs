//! Spec: a handshake as an operator writes it in YAML, and as `challenges.yaml` holds it.
//!
//! As a scheme's, every key is optional, so that a few can be laid over a preset's, and words of closed sets are judged by
//! `compile`, which names all mistakes at once. A secret is never in here: `verify_token` says where it is, and
//! `config` reads it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::verify::spec::Texts;

/// A request that wants an answer and is no event, and the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChallengeSpec {
    /// A handshake that is shipped, by name; the keys beside it replace its own.
    #[schemars(schema_with = "preset_names")]
    pub preset: Option<String>,
    pub when: WhenSpec,
    /// Patterns that values must match, or the answer is 400: `"query:crc_token": "^[A-Za-z0-9_-]{1,128}$"`.
    pub require: BTreeMap<String, Option<String>>,
    /// Answered only after the request's signature was found good. Without it, anybody is answered.
    pub verified: Option<bool>,
    pub verify_token: TokenSpec,
    pub capture: CaptureSpec,
    pub follow: FollowSpec,
    pub respond: RespondSpec,
    /// Values for `{const:name}` in `respond`.
    #[serde(rename = "const")]
    pub consts: BTreeMap<String, Option<String>>,
}

/// Which requests it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WhenSpec {
    #[schemars(extend("enum" = ["GET", "HEAD", "OPTIONS", "POST"]))]
    pub method: Option<String>,
    /// The name of a parameter that must be there, or the values that parameters must have.
    pub query: Option<Wanted>,
    /// The name of a header that must be there, or the values that headers must have.
    pub header: Option<Wanted>,
    /// The path of a field that must be there, or a path and what it must be equal to.
    pub json: JsonSpec,
}

/// A field of the body that must be there, or be equal to something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonSpec {
    /// `data.type`
    pub path: Option<String>,
    /// A text, a whole number, or true or false.
    pub equals: Option<Value>,
}

/// The token that a sender must show, agreed with it on its page; otherwise the answer is 403. It is no signing secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSpec {
    /// Where the request has it: `query:hub.verify_token`.
    pub from: Option<String>,
    /// Where it is, as every secret: `env:NAME` or `file:PATH`.
    pub secret: Option<String>,
}

/// A signing secret that the handshake brings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CaptureSpec {
    /// Where the request has it: `header:X-Hook-Secret`.
    pub from: Option<String>,
    /// Where it is written, once; `secrets` of the source names the same file.
    pub file: Option<String>,
}

/// A URL that is called to confirm. Only where `verified: true`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FollowSpec {
    /// Where the request has it: `json:SubscribeURL`.
    pub from: Option<String>,
    /// Patterns, one of which its host must match.
    pub hosts: Option<Texts>,
}

/// What is answered. Texts are templates: `{query:challenge}`, `{json:a.b}`, `{header:X}`, `{hmac_hex:query:x}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RespondSpec {
    /// 200 to 299; 200 where it is not written.
    pub status: Option<u16>,
    /// A body of plain text.
    pub text: Option<String>,
    pub headers: BTreeMap<String, String>,
    /// A body of JSON, its texts being templates.
    pub json: Option<Value>,
}

/// A name alone, or names with values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    There(String),
    Equal(BTreeMap<String, String>),
}

// === laying one over another ===

impl ChallengeSpec {
    /// These keys laid over a preset's. `when` and a body replace the preset's whole: half of one means nothing.
    #[must_use]
    pub fn over(&self, base: &ChallengeSpec) -> ChallengeSpec {
        let when = if self.when == WhenSpec::default() { &base.when } else { &self.when };
        ChallengeSpec {
            preset: self.preset.clone(),
            when: when.clone(),
            require: merged(&self.require, &base.require),
            verified: self.verified.or(base.verified),
            verify_token: TokenSpec {
                from: either(&self.verify_token.from, &base.verify_token.from),
                secret: either(&self.verify_token.secret, &base.verify_token.secret),
            },
            capture: CaptureSpec {
                from: either(&self.capture.from, &base.capture.from),
                file: either(&self.capture.file, &base.capture.file),
            },
            follow: FollowSpec {
                from: either(&self.follow.from, &base.follow.from),
                hosts: either(&self.follow.hosts, &base.follow.hosts),
            },
            respond: self.respond.over(&base.respond),
            consts: merged(&self.consts, &base.consts),
        }
    }
}

impl RespondSpec {
    fn over(&self, base: &RespondSpec) -> RespondSpec {
        let has_body = self.text.is_some() || self.json.is_some();
        let body = if has_body { self } else { base };
        RespondSpec {
            status: either(&self.status, &base.status),
            text: body.text.clone(),
            json: body.json.clone(),
            headers: merged(&self.headers, &base.headers),
        }
    }
}

fn either<T: Clone>(upper: &Option<T>, lower: &Option<T>) -> Option<T> {
    upper.as_ref().or(lower.as_ref()).cloned()
}

fn merged<T: Clone>(upper: &BTreeMap<String, T>, lower: &BTreeMap<String, T>) -> BTreeMap<String, T> {
    let mut all = lower.clone();
    all.extend(upper.iter().map(|(name, value)| (name.clone(), value.clone())));
    all
}

// === a text or a mapping ===

#[derive(Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct TokenParts {
    /// Where the request has it: `query:hub.verify_token`.
    from: Option<String>,
    /// Where it is, as every secret: `env:NAME` or `file:PATH`.
    #[schemars(with = "Option<String>")]
    secret: Option<Value>,
}

/// What is no text is a secret by mistake: an error here would repeat it, and `config` has a better one.
fn reference(written: &Value) -> String {
    written.as_str().unwrap_or_default().to_owned()
}

impl<'de> Deserialize<'de> for TokenSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrParts;
        impl<'de> Visitor<'de> for TextOrParts {
            type Value = TokenSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("env:NAME, or a mapping with from and secret")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<TokenSpec, E> {
                Ok(TokenSpec { from: None, secret: Some(text.to_owned()) })
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<TokenSpec, E> {
                self.visit_str("")
            }
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<TokenSpec, E> {
                self.visit_str("")
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<TokenSpec, E> {
                self.visit_str("")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TokenSpec, A::Error> {
                let TokenParts { from, secret } = Deserialize::deserialize(MapAccessDeserializer::new(map))?;
                Ok(TokenSpec { from, secret: secret.as_ref().map(reference) })
            }
        }
        deserializer.deserialize_any(TextOrParts)
    }
}

impl schemars::JsonSchema for TokenSpec {
    fn schema_name() -> Cow<'static, str> {
        "TokenSpec".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let parts = generator.subschema_for::<TokenParts>();
        schemars::json_schema!({ "anyOf": [{ "type": "string", "pattern": "^(env|file):.+$" }, parts] })
    }
}

#[derive(Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct JsonParts {
    /// `data.type`
    path: Option<String>,
    /// A text, a whole number, or true or false.
    equals: Option<Value>,
}

impl<'de> Deserialize<'de> for JsonSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathOrParts;
        impl<'de> Visitor<'de> for PathOrParts {
            type Value = JsonSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, or a mapping with path and equals")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<JsonSpec, E> {
                Ok(JsonSpec { path: Some(text.to_owned()), equals: None })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<JsonSpec, A::Error> {
                let JsonParts { path, equals } = Deserialize::deserialize(MapAccessDeserializer::new(map))?;
                Ok(JsonSpec { path, equals })
            }
        }
        deserializer.deserialize_any(PathOrParts)
    }
}

impl schemars::JsonSchema for JsonSpec {
    fn schema_name() -> Cow<'static, str> {
        "JsonSpec".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let parts = generator.subschema_for::<JsonParts>();
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, parts] })
    }
}

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrValues;
        impl<'de> Visitor<'de> for NameOrValues {
            type Value = Wanted;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or a mapping of names to values")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Wanted, E> {
                Ok(Wanted::There(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Wanted, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(Wanted::Equal)
            }
        }
        deserializer.deserialize_any(NameOrValues)
    }
}

impl schemars::JsonSchema for Wanted {
    fn schema_name() -> Cow<'static, str> {
        "Wanted".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let values =
            schemars::json_schema!({ "type": "object", "additionalProperties": { "type": "string" } });
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, values] })
    }
}

fn preset_names(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "enum": super::preset_names() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: Value) -> ChallengeSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_few_keys_are_laid_over_a_preset() {
        let base = spec(json!({
            "when": {"method": "GET", "query": {"hub.mode": "subscribe"}}, "require": {"query:a": "^a$"},
            "verify_token": {"from": "query:hub.verify_token"},
            "respond": {"text": "{query:hub.challenge}", "headers": {"X-A": "1"}},
        }));
        let upper = spec(json!({
            "preset": "meta", "verify_token": "env:TOKEN", "require": {"query:b": "^b$"},
            "respond": {"headers": {"X-B": "2"}, "status": 202},
        }));
        let expected = spec(json!({
            "preset": "meta",
            "when": {"method": "GET", "query": {"hub.mode": "subscribe"}},
            "require": {"query:a": "^a$", "query:b": "^b$"},
            "verify_token": {"from": "query:hub.verify_token", "secret": "env:TOKEN"},
            "respond": {"status": 202, "text": "{query:hub.challenge}", "headers": {"X-A": "1", "X-B": "2"}},
        }));
        assert_eq!(upper.over(&base), expected);
        assert_eq!(ChallengeSpec::default().over(&base), base);
    }

    #[test]
    fn a_body_and_a_condition_replace_the_presets_whole() {
        let base = spec(json!({"when": {"method": "GET", "query": "a"}, "respond": {"text": "{query:a}"}}));
        let upper = spec(json!({"when": {"header": "X-A"}, "respond": {"json": {"a": "{query:a}"}}}));
        let laid = upper.over(&base);
        assert_eq!(laid.when, upper.when);
        assert_eq!((laid.respond.text, laid.respond.json), (None, upper.respond.json));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        for wrong in [
            json!({"wen": {}}),
            json!({"when": {"metod": "GET"}}),
            json!({"when": {"json": {"equal": 1}}}),
            json!({"verify_token": {"form": "query:a"}}),
            json!({"capture": {"too": "a"}}),
            json!({"follow": {"host": "a"}}),
            json!({"respond": {"body": "a"}}),
        ] {
            let error = serde_json::from_value::<ChallengeSpec>(wrong).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
    }
}
