//! Fixture: one delivery as its author writes it down: the event, the handler's configuration, and how the services
//! answer that it calls. All values are made up; nothing of it leaves the machine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::host::{
    Arrived, BoundSecret, CallLimits, EffectPolicy, Event, Grants, Manifest, OnChanged, OnUnknown,
};
use crate::words::effect::Said;
use crate::words::event::Name;
use crate::words::secret::Secret;
use crate::words::time::Millis;
use crate::words::yaml;

/// When the first attempt of every run begins: 2026-11-24T09:41:00Z.
pub(super) const EPOCH: Millis = Millis(1_795_513_260_000);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    pub event: EventOf,
    #[serde(default)]
    settings: Map<String, Value>,
    #[serde(default)]
    secrets: BTreeMap<String, SecretOf>,
    /// Origins that it may call; those that the manifest asks for where there are none.
    #[serde(default)]
    grants: Vec<String>,
    #[serde(default)]
    effects: PolicyOf,
    /// What is on the shelf before the first attempt. Text is kept as it is, anything else as JSON.
    #[serde(default)]
    shelf: BTreeMap<String, Value>,
    /// What another delivery of the handler writes to the shelf between two attempts of this one.
    #[serde(default)]
    other_delivery: BTreeMap<String, Value>,
    #[serde(default)]
    pub(super) world: Vec<Rule>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventOf {
    #[serde(rename = "type")]
    event_type: String,
    #[serde(default = "event_id")]
    id: String,
    #[serde(default = "source")]
    source: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Value,
    /// The body is in this file, counted from the fixture's folder.
    pub body_file: Option<PathBuf>,
}

fn event_id() -> String {
    "evt_torture".to_owned()
}

fn source() -> String {
    "torture".to_owned()
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum SecretOf {
    /// Bound to every granted origin.
    Value(String),
    Bound(BoundOf),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BoundOf {
    value: String,
    to: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PolicyOf {
    on_unknown: OnUnknown,
    on_changed: OnChanged,
}

/// How a service answers. The first rule that fits a call is the one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) method: String,
    /// Origin and path, without query; `*` stands for any characters. A secret URL is `https://origin/[secret name]`.
    pub(super) url: String,
    /// Only calls with this in their body.
    body: Option<String>,
    /// Only once such a call was acted on: `POST https://crm.example.com/contacts`.
    after: Option<String>,
    /// A repeat with the same idempotency key changes nothing, and is answered as the first.
    #[serde(default)]
    pub(super) idempotent: bool,
    /// The same call again changes nothing, whatever its idempotency key.
    #[serde(default)]
    pub(super) upsert: bool,
    /// It says no by its status alone: no 200 of it has a content that says no.
    #[serde(default)]
    honest_status: bool,
    /// One after the other, the last one again and again; 200 with an empty JSON object without any.
    #[serde(default)]
    answers: Vec<AnswerOf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerOf {
    #[serde(default = "ok")]
    status: u16,
    json: Option<Value>,
    text: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

fn ok() -> u16 {
    200
}

impl Fixture {
    /// From YAML or JSON.
    ///
    /// # Errors
    /// In words, with line and column where it is no YAML.
    pub fn parse(text: &str) -> Result<Fixture, String> {
        let document = yaml::parse(text).map_err(|error| error.to_string())?;
        let fixture: Fixture = serde_json::from_value(document.value).map_err(|error| error.to_string())?;
        fixture.world.iter().try_for_each(Rule::check)?;
        Ok(fixture)
    }

    /// As an operator would give it to the handler; nothing is told of secrets that are not text.
    pub(super) fn grants_for(&self, name: Name, manifest: &Manifest) -> Grants {
        let origins = if self.grants.is_empty() { manifest.origins.clone() } else { self.grants.clone() };
        let bound = |secret: &SecretOf| match secret {
            SecretOf::Value(value) => BoundSecret { value: Secret::new(value.as_str()), to: origins.clone() },
            SecretOf::Bound(bound) => {
                BoundSecret { value: Secret::new(bound.value.as_str()), to: bound.to.clone() }
            }
        };
        let secrets = self.secrets.iter().map(|(key, secret)| (key.clone(), bound(secret))).collect();
        let PolicyOf { on_unknown, on_changed } = self.effects;
        Grants {
            name,
            settings: self.settings.clone(),
            secrets,
            origins: origins.into_iter().map(Into::into).collect(),
            networks: Vec::new(),
            limits: CallLimits::default(),
            effects: EffectPolicy { on_unknown, on_changed },
        }
    }

    /// `body`: of the file that it names, where it names one.
    pub(super) fn event(&self, body: Option<Bytes>) -> Event {
        let mut headers: Vec<_> = self.event.headers.clone().into_iter().collect();
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        Event {
            id: self.event.id.clone(),
            event_type: self.event.event_type.clone(),
            source: self.event.source.clone(),
            delivery_id: super::page::DELIVERY.to_owned(),
            received_at: EPOCH,
            signed_at: None,
            attempt: 1,
            query: None,
            headers,
            body: body.unwrap_or_else(|| bytes_of(&self.event.body)),
            attributes: vec![("subscription".to_owned(), "torture".to_owned())],
        }
    }

    pub(super) fn shelf(&self) -> BTreeMap<String, Bytes> {
        self.shelf.iter().map(|(key, value)| (key.clone(), bytes_of(value))).collect()
    }

    pub(super) fn other_delivery(&self) -> BTreeMap<String, Bytes> {
        self.other_delivery.iter().map(|(key, value)| (key.clone(), bytes_of(value))).collect()
    }
}

fn bytes_of(value: &Value) -> Bytes {
    match value {
        Value::String(text) => Bytes::from(text.clone()),
        other => Bytes::from(other.to_string()),
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let is_status = |answer: &AnswerOf| (200..600).contains(&answer.status);
        if let Some(answer) = self.answers.iter().find(|answer| !is_status(answer)) {
            let (method, url, status) = (&self.method, &self.url, answer.status);
            return Err(format!(
                "world: {method} {url}: `{status}` is no status of an answer; type 200 to 599"
            ));
        }
        if let Some(after) = self.after.as_ref().filter(|after| !after.contains(' ')) {
            return Err(format!("world: after: `{after}`: type a method and a URL, as `POST https://…`"));
        }
        Ok(())
    }

    /// `acted`: whether a call with this method and place was acted on.
    pub(super) fn fits(
        &self,
        method: &str,
        place: &str,
        body: &[u8],
        acted: impl Fn(&str, &str) -> bool,
    ) -> bool {
        let is_after = |after: &String| after.split_once(' ').is_some_and(|(method, url)| acted(method, url));
        self.method.eq_ignore_ascii_case(method)
            && is_like(&self.url, place)
            && self.body.as_ref().is_none_or(|part| String::from_utf8_lossy(body).contains(part.as_str()))
            && self.after.as_ref().is_none_or(is_after)
    }

    pub(super) fn is_honest(&self, method: &str, place: &str) -> bool {
        self.honest_status && self.method.eq_ignore_ascii_case(method) && is_like(&self.url, place)
    }

    pub(super) fn answer(&self, turn: usize) -> Arrived {
        let plain = AnswerOf { status: 200, json: None, text: None, headers: BTreeMap::new() };
        let answer = self.answers.get(turn).or(self.answers.last()).unwrap_or(&plain);
        let (kind, body) = match (&answer.json, &answer.text) {
            (Some(json), _) => ("application/json", json.to_string()),
            (None, Some(text)) => ("text/plain; charset=utf-8", text.clone()),
            (None, None) => ("application/json", "{}".to_owned()),
        };
        let mut headers = answer.headers.clone();
        headers.entry("content-type".to_owned()).or_insert_with(|| kind.to_owned());
        let said = Said::Answer { status: answer.status, headers: headers.into_iter().collect() };
        Arrived { said, body: Bytes::from(body), took: super::world::ANSWER_TAKES }
    }
}

/// `*` stands for any characters.
pub(super) fn is_like(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| is_like(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let place = "https://crm.example.com/contacts/12/notes";
        for good in [place, "*", "https://crm.example.com/*", "*/contacts/*/notes", "https:*notes*"] {
            assert!(is_like(good, place), "{good}");
        }
        for bad in ["", "https://crm.example.com/", "*/contacts", "http://*", "*/12/*/notes"] {
            assert!(!is_like(bad, place), "{bad}");
        }
    }

    #[test]
    fn a_fixture_says_what_is_wrong_with_it() {
        let rows = [
            ("event: { type: a }\nwrold: []", "wrold"),
            ("event: {}", "type"),
            (
                "event: { type: a }\nworld: [ { method: GET, url: x, answers: [ { status: 99 } ] } ]",
                "200 to 599",
            ),
            ("event: { type: a }\nworld: [ { method: GET, url: x, after: POST } ]", "a method and a URL"),
            ("event: [", "1:"),
        ];
        for (text, expected) in rows {
            let why = Fixture::parse(text).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        }
    }

    #[test]
    fn answers_come_in_turn_and_with_what_they_are() {
        let text = r#"{ "event": { "type": "a", "body": { "n": 1 } }, "shelf": { "n": 5, "t": "x" },
            "world": [ { "method": "post", "url": "https://x/*",
                         "answers": [ { "status": 503, "text": "busy" }, { "json": { "id": "1" } } ] } ] }"#;
        let fixture = Fixture::parse(text).unwrap();
        assert_eq!(fixture.event(None).body, Bytes::from_static(br#"{"n":1}"#));
        assert_eq!(fixture.shelf()["n"], Bytes::from_static(b"5"));
        assert_eq!(fixture.shelf()["t"], Bytes::from_static(b"x"));
        let rule = &fixture.world[0];
        assert!(rule.fits("POST", "https://x/y", b"", |_, _| false));
        let told = |turn| (rule.answer(turn).said.status(), rule.answer(turn).body);
        assert_eq!(told(0), (Some(503), "busy".into()));
        assert_eq!(told(1), (Some(200), r#"{"id":"1"}"#.into()));
        assert_eq!(told(9), told(1));
    }
}
