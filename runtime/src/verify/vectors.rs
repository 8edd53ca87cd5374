//! Vectors: judges one captured request, as `longshore verify --vectors` prints it.
//!
//! A vector is an object with `id`, `provider` (a preset's name), `secret`, `headers`, `body` (or `body_base64`,
//! or `body_repeat` {char, count}) and `now`, and where they matter `extra_secrets`, `method`, `url`, `context` (what
//! an operator would say, as PayPal's webhook id) and `scheme` (keys laid over the preset's). What it says about itself (`valid`, `reason`) is not looked at.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::{Map, Value};

use super::spec::Spec;
use super::{Identity, Request, Scheme, preset};
use crate::words::limits::VECTOR_BODY_BYTES_MAX;
use crate::words::secret::Secret;
use crate::words::time::Millis;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    pub id: String,
    /// None: it could not be judged; the reason says why.
    pub valid: Option<bool>,
    /// Why it is not valid; None where it is.
    pub reason: Option<String>,
    pub event_id: Option<String>,
    pub event_type: Option<String>,
}

/// Judges one vector of a file by the preset that it names; it always has a judgement.
pub fn judge(vector: &Value) -> Judgement {
    let provider = vector.get("provider").and_then(Value::as_str);
    let Some(preset) = provider.and_then(preset) else {
        return Judgement::new(vector, None, Some("unknown preset".into()));
    };
    let scheme = match as_operated(&preset.scheme, vector) {
        Ok(scheme) => scheme,
        Err(why) => return Judgement::new(vector, None, Some(format!("not a vector: {why}"))),
    };
    match Scheme::compile(&scheme, &preset.event) {
        Ok(scheme) => judge_by(&scheme, vector),
        Err(_) => Judgement::new(vector, None, Some("the preset does not compile".into())),
    }
}

/// The preset's scheme with what an operator lays over it: the vector's `scheme`, and the constants that are signed and
/// that only an operator knows.
fn as_operated(scheme: &Spec, vector: &Value) -> Result<Spec, String> {
    let over: Spec = match vector.get("scheme") {
        Some(over) => serde_json::from_value(over.clone()).map_err(|e| format!("`scheme`: {e}"))?,
        None => Spec::default(),
    };
    let mut scheme = over.over(scheme);
    let signed = scheme.signed.clone().unwrap_or_default();
    let context = vector.get("context").and_then(Value::as_object).into_iter().flatten();
    for (name, value) in context.filter(|(name, _)| signed.contains(&format!("{{const:{name}}}"))) {
        scheme.consts.extend(value.as_str().map(|value| (name.clone(), value.to_owned())));
    }
    Ok(scheme)
}

/// Judges one vector by a scheme, whatever provider it names.
pub fn judge_by(scheme: &Scheme, vector: &Value) -> Judgement {
    let captured = match Captured::read(vector) {
        Ok(captured) => captured,
        Err(why) => return Judgement::new(vector, None, Some(format!("not a vector: {why}"))),
    };
    match captured.verify(scheme).map(|mut events| events.swap_remove(0)) {
        // Of many events the first stands for all.
        Ok(Identity { id, event_type, .. }) => Judgement {
            event_id: Some(id),
            event_type: Some(event_type),
            ..Judgement::new(vector, Some(true), None)
        },
        Err(reason) => Judgement::new(vector, Some(false), Some(reason)),
    }
}

impl Judgement {
    fn new(vector: &Value, valid: Option<bool>, reason: Option<String>) -> Judgement {
        let id = vector.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        Judgement { id, valid, reason, event_id: None, event_type: None }
    }
}

/// A vector's request and the secrets that were live when it came.
pub(super) struct Captured<'v> {
    secrets: Vec<&'v str>,
    method: &'v str,
    url: &'v str,
    headers: Vec<(&'v str, &'v str)>,
    body: Vec<u8>,
    now: Millis,
}

impl<'v> Captured<'v> {
    pub(super) fn read(vector: &'v Value) -> Result<Captured<'v>, String> {
        let vector = vector.as_object().ok_or("it is not an object")?;
        let text = |key: &str| vector.get(key).and_then(Value::as_str);
        let mut secrets = vec![text("secret").ok_or("`secret` is not a text")?];
        for extra in vector.get("extra_secrets").and_then(Value::as_array).into_iter().flatten() {
            secrets.push(extra.as_str().ok_or("`extra_secrets` holds something that is not a text")?);
        }
        let now = vector.get("now").and_then(Value::as_u64).ok_or("`now` is not Unix seconds")?;
        Ok(Captured {
            secrets,
            method: text("method").unwrap_or("POST"),
            url: text("url").unwrap_or_default(),
            headers: headers(vector)?,
            body: body(vector)?,
            now: Millis::from_seconds(now),
        })
    }

    /// As the daemon would: a secret that it would not start with refuses the request.
    pub(super) fn verify(&self, scheme: &Scheme) -> Result<Vec<Identity>, String> {
        let keys = self.secrets.iter().map(|secret| scheme.key(&Secret::new(*secret), None));
        let keys = keys.collect::<Result<Vec<_>, String>>()?;
        let headers = self.header_map()?;
        let query = self.url.split_once('?').map(|(_, query)| query);
        let request =
            Request { method: self.method, url: self.url, query, headers: &headers, body: &self.body };
        let verified = scheme.verify(request, &keys, self.now).map_err(|refused| refused.to_string())?;
        Ok(scheme.identify(&verified, request))
    }

    /// What HTTP cannot carry never reaches a scheme.
    fn header_map(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let parsed = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("`{name}` cannot be a header"))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("the value of `{name}` cannot be a header's"))?;
            headers.append(parsed, value);
        }
        Ok(headers)
    }
}

/// A value that is a list stands for several lines.
fn headers(vector: &Map<String, Value>) -> Result<Vec<(&str, &str)>, String> {
    let headers = vector.get("headers").and_then(Value::as_object).ok_or("`headers` is not an object")?;
    let mut lines = Vec::new();
    for (name, value) in headers {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in values {
            lines.push((
                name.as_str(),
                value.as_str().ok_or_else(|| format!("header `{name}` is not a text"))?,
            ));
        }
    }
    Ok(lines)
}

fn body(vector: &Map<String, Value>) -> Result<Vec<u8>, String> {
    let there = |key: &str| vector.get(key).filter(|value| !value.is_null());
    if let Some(body) = there("body") {
        return Ok(body.as_str().ok_or("`body` is not a text")?.as_bytes().to_vec());
    }
    if let Some(body) = there("body_base64") {
        let text = body.as_str().ok_or("`body_base64` is not a text")?;
        return STANDARD.decode(text).map_err(|_| "`body_base64` is not base64".into());
    }
    let repeat = there("body_repeat").ok_or("it has no body: `body`, `body_base64` or `body_repeat`")?;
    let text = repeat.get("char").and_then(Value::as_str).ok_or("`body_repeat.char` is not a text")?;
    let count = repeat.get("count").and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
    match count.and_then(|count| {
        count.checked_mul(text.len()).filter(|bytes| *bytes <= VECTOR_BODY_BYTES_MAX).map(|_| count)
    }) {
        Some(count) => Ok(text.repeat(count).into_bytes()),
        None => Err(format!(
            "`body_repeat.count` is not a number that makes at most {VECTOR_BODY_BYTES_MAX} bytes"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn github(change: Value) -> Value {
        let mut vector = json!({
            "id": "github-docs-hello", "provider": "github", "secret": "It's a Secret to Everybody",
            "headers": {
                "X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
                "X-GitHub-Delivery": "72d3162e", "X-GitHub-Event": "push",
            },
            "body": "Hello, World!", "now": 1_790_000_000,
        });
        vector.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        vector
    }

    fn reason(vector: &Value) -> (Option<bool>, String) {
        let judgement = judge(vector);
        (judgement.valid, judgement.reason.unwrap_or_default())
    }

    #[test]
    fn a_judgement_prints_all_its_fields() {
        assert_eq!(
            serde_json::to_string(&judge(&github(json!({})))).unwrap(),
            r#"{"id":"github-docs-hello","valid":true,"reason":null,"event_id":"72d3162e","event_type":"push"}"#
        );
        assert_eq!(
            serde_json::to_string(&judge(&github(json!({"provider": "acme"})))).unwrap(),
            r#"{"id":"github-docs-hello","valid":null,"reason":"unknown preset","event_id":null,"event_type":null}"#
        );
    }

    #[test]
    fn a_body_is_text_or_base64_or_repeated() {
        assert_eq!(
            judge(&github(json!({"body": null, "body_base64": "SGVsbG8sIFdvcmxkIQ=="}))).valid,
            Some(true)
        );
        let repeated = github(json!({"body": null, "body_repeat": {"char": "Hello, World!", "count": 1}}));
        assert_eq!(judge(&repeated).valid, Some(true));
        let repeated = github(json!({"body": null, "body_repeat": {"char": "a", "count": 3}}));
        assert_eq!(judge(&repeated).valid, Some(false));
    }

    #[test]
    fn other_live_secrets_are_tried_too() {
        let extra = json!({"secret": "new", "extra_secrets": ["It's a Secret to Everybody"]});
        assert_eq!(judge(&github(extra)).valid, Some(true));
        let (valid, why) = reason(&github(json!({"extra_secrets": [""]})));
        assert_eq!((valid, why.as_str()), (Some(false), "the secret is empty; anybody could sign with it"));
    }

    #[test]
    fn what_an_operator_would_lay_over_the_preset_is_laid_over_it() {
        let renamed = |header: &str| json!({"scheme": {"signature": {"from": format!("header:{header}")}}});
        assert_eq!(judge(&github(renamed("X-Hub-Signature-256"))).valid, Some(true));
        assert_eq!(judge(&github(renamed("X-Acme"))).valid, Some(false));
        let (valid, why) = reason(&github(json!({"scheme": {"signatur": {}}})));
        assert!(valid.is_none() && why.starts_with("not a vector: `scheme`: unknown field"), "{why}");
        assert_eq!(judge(&github(json!({"context": {"webhook_id": "of no use"}}))).valid, Some(true));
    }

    #[test]
    fn what_http_cannot_carry_is_not_valid() {
        for headers in [json!({"a b": "x"}), json!({"X-Hub-Signature-256": "a\u{0}b"})] {
            assert_eq!(judge(&github(json!({"headers": headers}))).valid, Some(false));
        }
        let twice = json!({"headers": {"X-Hub-Signature-256": ["sha256=00", "sha256=00"]}});
        assert!(reason(&github(twice)).1.contains("more than once"));
    }

    #[test]
    fn what_is_not_a_vector_cannot_be_judged() {
        for wrong in [
            json!({"secret": 7}),
            json!({"extra_secrets": [7]}),
            json!({"now": "today"}),
            json!({"now": -1}),
            json!({"headers": []}),
            json!({"headers": {"X": 7}}),
            json!({"body": null}),
            json!({"body": 7}),
            json!({"body": null, "body_base64": "?"}),
            json!({"body": null, "body_repeat": {"char": "a"}}),
            json!({"body": null, "body_repeat": {"char": "a", "count": VECTOR_BODY_BYTES_MAX + 1}}),
        ] {
            let (valid, why) = reason(&github(wrong.clone()));
            assert_eq!(valid, None, "{wrong}");
            assert!(why.starts_with("not a vector: "), "{wrong}: {why}");
        }
        assert_eq!(reason(&json!([])), (None, "unknown preset".into()));
    }
}
