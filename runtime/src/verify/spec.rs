//! Spec: the scheme language as an operator writes it in YAML, and as `presets.yaml` holds it.
//!
//! Every key is optional, so that an operator's few keys can be laid over a preset. Words of closed sets
//! (`format`, `encoding`, …) are text here and judged by `Scheme::compile`, which can then name all mistakes of
//! a scheme at once. Keys of the language that this release does not carry out are read too, so that `compile`
//! can refuse them with a sentence.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use super::challenge::ChallengeSpec;

/// How a source signs: one scheme as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// `hmac`: a keyed hash over the request; `hash`: a plain one that `{secret}` goes into; `ed25519`, `ecdsa-p256`,
    /// `rsa-sha256`: a signature that a public key proves; `token`: the secret itself travels with the request;
    /// `basic`: as user and password; `none`: nothing is proved; `twilio`, `adyen`, `aws-sns`, `plaid`, `jwt`: as those
    /// do it (docs/builtins.md).
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["hmac", "hash", "ed25519", "ecdsa-p256", "rsa-sha256", "token", "basic", "none", "twilio", "adyen", "aws-sns", "plaid", "jwt"]))]
    pub kind: Option<String>,
    /// The hash of an `hmac`, a `hash` or `twilio`, or how a `jwt` is signed. Never taken from the request.
    #[schemars(extend("enum" = ["sha1", "sha256", "sha512", "hs256", "rs256", "es256"]))]
    pub algorithm: Option<String>,
    pub signature: SignatureSpec,
    pub timestamp: TimestampSpec,
    /// Where `{id}` of the signed text comes from: `header:X`, `json:a.b` or `form:x`.
    pub id: Option<String>,
    /// What is signed, as a template: `{timestamp}.{body}`.
    pub signed: Option<String>,
    /// `false` says that the sender does not sign the body, so that only what `signed` names is proved.
    pub body_signed: Option<bool>,
    pub secret: SecretSpec,
    /// Values that must be equal where they are present: `"header:X-Version": "1"`.
    pub require: BTreeMap<String, String>,
    /// Values for `{const:name}` in `signed`.
    #[serde(rename = "const")]
    pub consts: BTreeMap<String, String>,
    /// `true` lets `type: none` take whatever anybody sends.
    pub i_know_this_is_unauthenticated: Option<bool>,
    /// aws-sns: the topics that may send, each as its ARN.
    pub topics: Option<Texts>,
    /// aws-sns: `1` takes signatures with SHA-1, and only those.
    #[schemars(extend("enum" = [1, 2]))]
    pub signature_version: Option<u64>,
    /// plaid: whose keys are asked for.
    #[schemars(extend("enum" = ["production", "sandbox"]))]
    pub environment: Option<String>,
    /// jwt: what the token says.
    pub claims: ClaimsSpec,
    /// jwt: the URL of the sender's keys; without it they are the source's secrets.
    pub jwks: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimsSpec {
    /// `iss` must be this.
    pub issuer: Option<String>,
    /// `aud` must be this, or hold it; `{url}` is the source's `public_url`.
    pub audience: Option<String>,
    /// The claim that is the body's SHA-256.
    pub body: Option<String>,
    #[schemars(extend("enum" = ["hex", "base64"]))]
    pub body_encoding: Option<String>,
    /// The claim is left out where there is no body.
    pub body_absent_when_empty: Option<bool>,
    /// The claim that is a SHA-256 of the URL, in hex.
    pub url: Option<String>,
    /// What of the URL: all of it, or Atlassian's canonical request.
    #[schemars(extend("enum" = ["url", "atlassian"]))]
    pub url_of: Option<String>,
    /// atlassian: the path of the app's base URL.
    pub url_base: Option<String>,
    /// `exp` must be there; it counts wherever it is.
    pub expires: Option<bool>,
    /// How far clocks may differ, for `nbf` and `exp`: `5s`.
    pub leeway: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SignatureSpec {
    /// `header:X`, `header-numbered:X-` (for `X-1`, `X-2`, …), `json:a.b`, `form:x` or `query:x`. With several, any of
    /// them may carry a good signature.
    pub from: Option<Texts>,
    #[schemars(extend("enum" = ["raw", "prefixed", "list", "fields", "positional"]))]
    pub format: Option<String>,
    /// prefixed: required, and removed.
    pub prefix: Option<String>,
    /// list, fields, positional: between items.
    pub separator: Option<String>,
    /// list, fields: between an item's key and its value.
    pub assign: Option<String>,
    /// list, fields: the key of the items that are signatures; `*` for any.
    pub key: Option<String>,
    /// fields: between groups that have a timestamp and signatures of their own.
    pub groups: Option<String>,
    #[schemars(extend("enum" = ["hex", "base64", "base64url"]))]
    pub encoding: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimestampSpec {
    /// `header:X`, `field:t` (of the signature), `json:a.b`, `form:x` or `query:x`.
    pub from: Option<String>,
    #[schemars(extend("enum" = ["s", "ms", "rfc3339", "http-date"]))]
    pub unit: Option<String>,
    /// How old a signature may be: `300s`, `10m`; `none` switches the check off.
    pub tolerance: Option<String>,
    /// How far ahead it may be; as `tolerance` where it is not written.
    pub future: Option<String>,
    /// `false` says that the sender does not sign its timestamp, so that it proves little.
    pub signed: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SecretSpec {
    /// Removed from the secret's text where it is there.
    pub strip_prefix: Option<String>,
    /// How the secret's text becomes the key; `sha1`: the text's SHA-1 is the key.
    #[schemars(extend("enum" = ["utf8", "base64", "hex", "sha1"]))]
    pub decode: Option<String>,
}

/// Where an event's id and type are: `event:` of a source, beside `scheme:`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventSpec {
    /// `header:X`, `json:a.b` or `form:x`; of several, the first that yields a scalar. `{json:a}:{json:b}` joins two.
    pub id: Option<Texts>,
    #[serde(rename = "type")]
    pub kind: Option<Texts>,
    /// The list whose elements are the events: `json:events`, or `json:.` where the body is that list. In it `json:`
    /// places of `id` and `type` count from the element. `none`: the request is one event, whatever a preset says.
    pub each: Option<String>,
    /// Whether an event whose body came before counts as a copy, whatever its id: `true` where the id is not signed.
    pub dedupe_body: Option<bool>,
}

/// A scheme that ships with the daemon, and where its sender puts id and type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    pub scheme: Spec,
    pub event: EventSpec,
    /// The handshake that its sender asks for; where it is not written, the one of its name in `challenges.yaml`.
    #[serde(default)]
    pub challenge: Option<ChallengeSpec>,
}

/// What is wrong with a scheme or an event: the key, counted from the source (`scheme.signature.format`,
/// `event.id`), and a sentence that ends with what to type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

// === laying one over another ===

impl Spec {
    /// This scheme's keys laid over a preset's: each key written here replaces the preset's, one by one. A
    /// scheme of another `type` takes nothing from it.
    #[must_use]
    pub fn over(&self, base: &Spec) -> Spec {
        if self.kind.is_some() && self.kind != base.kind {
            return self.clone();
        }
        let mut require = base.require.clone();
        require.extend(self.require.clone());
        let mut consts = base.consts.clone();
        consts.extend(self.consts.clone());
        Spec {
            kind: base.kind.clone(),
            algorithm: either(&self.algorithm, &base.algorithm),
            signature: self.signature.over(&base.signature),
            timestamp: self.timestamp.over(&base.timestamp),
            id: either(&self.id, &base.id),
            signed: either(&self.signed, &base.signed),
            body_signed: self.body_signed.or(base.body_signed),
            secret: SecretSpec {
                strip_prefix: either(&self.secret.strip_prefix, &base.secret.strip_prefix),
                decode: either(&self.secret.decode, &base.secret.decode),
            },
            require,
            consts,
            i_know_this_is_unauthenticated: self
                .i_know_this_is_unauthenticated
                .or(base.i_know_this_is_unauthenticated),
            topics: either(&self.topics, &base.topics),
            signature_version: self.signature_version.or(base.signature_version),
            environment: either(&self.environment, &base.environment),
            claims: self.claims.over(&base.claims),
            jwks: either(&self.jwks, &base.jwks),
        }
    }
}

/// Whether a source of this type may have no secret: nothing is proved, or the keys can be had by URL.
pub fn may_lack_secrets(kind: &str) -> bool {
    matches!(kind, "none" | "aws-sns" | "plaid" | "jwt")
}

impl ClaimsSpec {
    fn over(&self, base: &ClaimsSpec) -> ClaimsSpec {
        ClaimsSpec {
            issuer: either(&self.issuer, &base.issuer),
            audience: either(&self.audience, &base.audience),
            body: either(&self.body, &base.body),
            body_encoding: either(&self.body_encoding, &base.body_encoding),
            body_absent_when_empty: self.body_absent_when_empty.or(base.body_absent_when_empty),
            url: either(&self.url, &base.url),
            url_of: either(&self.url_of, &base.url_of),
            url_base: either(&self.url_base, &base.url_base),
            expires: self.expires.or(base.expires),
            leeway: either(&self.leeway, &base.leeway),
        }
    }
}

impl SignatureSpec {
    /// The keys of a format go with it: `format: raw` over a preset's `prefixed` drops the prefix too.
    fn over(&self, base: &SignatureSpec) -> SignatureSpec {
        let mut merged = SignatureSpec {
            from: either(&self.from, &base.from),
            format: either(&self.format, &base.format),
            encoding: either(&self.encoding, &base.encoding),
            ..self.clone()
        };
        if merged.format == base.format {
            merged.prefix = either(&self.prefix, &base.prefix);
            merged.separator = either(&self.separator, &base.separator);
            merged.assign = either(&self.assign, &base.assign);
            merged.key = either(&self.key, &base.key);
            merged.groups = either(&self.groups, &base.groups);
        }
        merged
    }
}

impl TimestampSpec {
    fn over(&self, base: &TimestampSpec) -> TimestampSpec {
        TimestampSpec {
            from: either(&self.from, &base.from),
            unit: either(&self.unit, &base.unit),
            tolerance: either(&self.tolerance, &base.tolerance),
            future: either(&self.future, &base.future),
            signed: self.signed.or(base.signed),
        }
    }
}

impl EventSpec {
    #[must_use]
    pub fn over(&self, base: &EventSpec) -> EventSpec {
        EventSpec {
            id: either(&self.id, &base.id),
            kind: either(&self.kind, &base.kind),
            each: either(&self.each, &base.each),
            dedupe_body: self.dedupe_body.or(base.dedupe_body),
        }
    }
}

fn either<T: Clone>(upper: &Option<T>, lower: &Option<T>) -> Option<T> {
    upper.as_ref().or(lower.as_ref()).cloned()
}

// === one text or several ===

/// Written as one text or as a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    texts.push(text);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

impl schemars::JsonSchema for Texts {
    fn schema_name() -> Cow<'static, str> {
        "Texts".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: serde_json::Value) -> Spec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_few_keys_are_laid_over_a_preset() {
        let base = spec(json!({
            "type": "hmac", "algorithm": "sha256", "signed": "{timestamp}.{body}",
            "signature": {"from": "header:Stripe-Signature", "format": "fields", "separator": ",", "key": "v1"},
            "timestamp": {"from": "field:t", "unit": "s", "tolerance": "300s"},
            "require": {"header:A": "1"},
        }));
        let upper = spec(json!({
            "signature": {"from": ["header:Acme-Signature"]}, "timestamp": {"tolerance": "10m"},
            "require": {"header:B": "2"},
        }));
        let expected = spec(json!({
            "type": "hmac", "algorithm": "sha256", "signed": "{timestamp}.{body}",
            "signature": {"from": "header:Acme-Signature", "format": "fields", "separator": ",", "key": "v1"},
            "timestamp": {"from": "field:t", "unit": "s", "tolerance": "10m"},
            "require": {"header:A": "1", "header:B": "2"},
        }));
        assert_eq!(upper.over(&base), expected);
        assert_eq!(Spec::default().over(&base), base);
    }

    #[test]
    fn another_format_or_type_leaves_the_presets_keys_behind() {
        let base = spec(json!({
            "type": "hmac", "algorithm": "sha256", "signed": "{body}",
            "signature": {"from": "header:X", "format": "prefixed", "prefix": "sha256=", "encoding": "hex"},
        }));
        let raw = spec(json!({"signature": {"format": "raw"}})).over(&base);
        assert_eq!(raw.signature.prefix, None);
        assert_eq!(raw.signature.encoding.as_deref(), Some("hex"));
        let token = spec(json!({"type": "token", "signature": {"from": "header:T"}}));
        assert_eq!(token.over(&base), token);
    }

    #[test]
    fn an_event_is_laid_over_a_presets_event() {
        let base = EventSpec { id: Some(Texts(vec!["json:id".into()])), ..EventSpec::default() };
        let upper: EventSpec = serde_json::from_value(json!({"type": ["json:a", "header:B"]})).unwrap();
        let merged = upper.over(&base);
        assert_eq!(merged.id, base.id);
        assert_eq!(merged.kind.unwrap().0, ["json:a", "header:B"]);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        for wrong in [
            json!({"algorihm": "sha256"}),
            json!({"signature": {"form": "header:X"}}),
            json!({"timestamp": {"tolerence": "1s"}}),
            json!({"secret": {"decode_as": "hex"}}),
        ] {
            let error = serde_json::from_value::<Spec>(wrong).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
    }
}
