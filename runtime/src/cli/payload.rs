//! Payload: the body of a test event: the provider's documented one, with an id and a time of its own.
//!
//! `payloads/*.json` holds a document for some presets: event type → body, `*` for every other type. Strings in
//! it are filled in: `{{id}}`, `{{type}}`, `{{now}}` (RFC 3339), `{{now_s}}` (a number, seconds). For the others there
//! is one body, and what their scheme looks for is put where it looks.

use serde_json::{Map, Value};

use crate::words::time::Millis;

const DOCUMENTS: [(&str, &str); 6] = [
    ("sendpilot", include_str!("payloads/sendpilot.json")),
    ("standard-webhooks", include_str!("payloads/standard-webhooks.json")),
    ("stripe", include_str!("payloads/stripe.json")),
    ("github", include_str!("payloads/github.json")),
    ("slack", include_str!("payloads/slack.json")),
    ("mailgun", include_str!("payloads/mailgun.json")),
];
const GENERIC: &str = include_str!("payloads/generic.json");
/// Nobody looks for an event further back in a list.
const LIST_MADE_MAX: usize = 64;

/// What makes one test event different from another.
#[derive(Clone, Debug)]
pub(super) struct Fill<'a> {
    pub(super) id: &'a str,
    pub(super) event_type: &'a str,
    pub(super) now: Millis,
}

/// The documented body of a preset for a type, filled in.
pub(super) fn default_for(preset: Option<&str>, fill: &Fill<'_>) -> Value {
    let document = document(preset);
    let body = document.get(fill.event_type).or_else(|| document.get("*")).cloned();
    filled(body.unwrap_or(Value::Object(Map::new())), fill)
}

/// The types for which a preset has a documented body of its own; empty where it has one body for all.
pub(super) fn documented_types(preset: Option<&str>) -> Vec<String> {
    document(preset).keys().filter(|name| *name != "*").cloned().collect()
}

fn document(preset: Option<&str>) -> Map<String, Value> {
    let found = DOCUMENTS.iter().find(|(name, _)| Some(*name) == preset);
    let text = found.map_or(GENERIC, |(_, text)| text);
    serde_json::from_str(text).expect("the documents are read by a test")
}

fn filled(value: Value, fill: &Fill<'_>) -> Value {
    match value {
        Value::String(text) if text == "{{now_s}}" => Value::from(fill.now.0 / 1000),
        Value::String(text) => Value::String(fill.text(&text)),
        Value::Array(items) => items.into_iter().map(|item| filled(item, fill)).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, filled(value, fill))).collect(),
        other => other,
    }
}

impl Fill<'_> {
    fn text(&self, text: &str) -> String {
        let parts = [("{{id}}", self.id), ("{{type}}", self.event_type)];
        let text = text.replace("{{now}}", &self.now.to_string());
        parts.iter().fold(text, |text, (mark, value)| text.replace(mark, value))
    }
}

/// Puts a value where an extractor `json:a.0.b` or `form:a` will look for it; a form is a map of texts until it is
/// printed. Other extractors are none of the body's business.
pub(super) fn place(body: &mut Value, extractor: &str, value: impl Into<Value>) {
    let segments: Vec<&str> = match extractor.split_once(':') {
        Some(("json", path)) => path.split('.').collect(),
        Some(("form", name)) => vec![name],
        _ => return,
    };
    let mut at = body;
    for segment in segments {
        at = match segment.parse::<usize>() {
            Ok(position) if !at.is_object() => element(at, position),
            _ => member(at, segment),
        };
    }
    *at = value.into();
}

/// Whether there is something already.
pub(super) fn holds(body: &Value, extractor: &str) -> bool {
    let pointer = match extractor.split_once(':') {
        Some(("json", path)) => format!("/{}", path.replace('.', "/")),
        Some(("form", name)) => format!("/{name}"),
        _ => return false,
    };
    body.pointer(&pointer).is_some()
}

fn element(at: &mut Value, position: usize) -> &mut Value {
    if !at.is_array() {
        *at = Value::Array(Vec::new());
    }
    let position = position.min(LIST_MADE_MAX);
    let list = at.as_array_mut().expect("it was made one");
    list.resize(list.len().max(position + 1), Value::Null);
    &mut list[position]
}

fn member<'a>(at: &'a mut Value, name: &str) -> &'a mut Value {
    if !at.is_object() {
        *at = Value::Object(Map::new());
    }
    &mut at[name]
}

/// The body as a form: what is at its top, texts as they are.
pub(super) fn as_form(body: &Value) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in body.as_object().into_iter().flatten() {
        match value {
            Value::String(text) => form.append_pair(name, text),
            other => form.append_pair(name, &other.to_string()),
        };
    }
    form.finish()
}

/// An id that no event had before: `evt_1790000000123_9f86d081884c`.
pub(super) fn fresh_id(now: Millis) -> String {
    format!("evt_{}_{:012x}", now.0, rand::random::<u64>() >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill<'a>(id: &'a str, event_type: &'a str) -> Fill<'a> {
        Fill { id, event_type, now: Millis(1_790_000_000_123) }
    }

    #[test]
    fn every_document_reads_and_leaves_no_mark() {
        let mut bodies = 0;
        for (name, _) in DOCUMENTS.iter().chain(&[("acme", "")]) {
            let types = documented_types(Some(name));
            for event_type in types.iter().map(String::as_str).chain(["some.other"]) {
                let body = default_for(Some(name), &fill("evt_1", event_type)).to_string();
                assert!(!body.contains("{{"), "{name} {event_type}: {body}");
                bodies += 1;
            }
        }
        assert_eq!(bodies, 7 + 16 + 1);
    }

    /// docs.sendpilot.ai/webhooks, the table of events.
    #[test]
    fn sendpilots_events_have_the_documented_fields() {
        let fields = [
            ("message.sent", "messagePreview"),
            ("message.received", "replyPreview"),
            ("reply.received", "reply"),
            ("connection.sent", "note"),
            ("connection_request.sent", "note"),
            ("connection.accepted", "acceptedAt"),
            ("connection_request.accepted", "acceptedAt"),
        ];
        for (event_type, field) in fields {
            let body = default_for(Some("sendpilot"), &fill("evt_1", event_type));
            assert_eq!(body["eventType"], event_type);
            assert_eq!(body["eventId"], "evt_1");
            assert_eq!(body["timestamp"], "2026-09-21T14:13:20.123Z");
            for field in [field, "leadId", "campaignId", "linkedinUrl", "senderId"] {
                assert!(body["data"][field].is_string(), "{event_type}: {field}");
            }
        }
    }

    #[test]
    fn an_id_is_text_and_cannot_break_out_of_its_string() {
        let body = default_for(Some("stripe"), &fill("\",\"x\":\"", "charge.succeeded"));
        assert_eq!(body["id"], "\",\"x\":\"");
        assert_eq!(body["created"], 1_790_000_000);
        assert!(body.get("x").is_none());
    }

    #[test]
    fn a_value_is_placed_where_the_scheme_will_look() {
        let mut body = serde_json::json!({ "event": { "type": "old" }, "n": 1 });
        place(&mut body, "json:event.type", "new");
        place(&mut body, "json:n.id", "x");
        place(&mut body, "header:X-Id", "y");
        assert_eq!(body, serde_json::json!({ "event": { "type": "new" }, "n": { "id": "x" } }));
        place(&mut body, "json:n.list.1.id", 7);
        assert_eq!(body["n"], serde_json::json!({ "id": "x", "list": [null, { "id": 7 }] }));
        assert!(
            holds(&body, "json:n.list.1.id") && !holds(&body, "json:n.list.2") && !holds(&body, "header:n")
        );
        let mut list = Value::Null;
        place(&mut list, "json:0.id", "a");
        assert_eq!(list, serde_json::json!([{ "id": "a" }]));
    }

    #[test]
    fn a_form_is_what_stands_at_the_top() {
        let mut body = serde_json::json!({ "a b": "1&2", "n": 7, "m": { "x": null } });
        place(&mut body, "form:Sid", "SM1");
        assert_eq!(as_form(&body), "a+b=1%262&n=7&m=%7B%22x%22%3Anull%7D&Sid=SM1");
    }

    #[test]
    fn ids_differ() {
        assert_ne!(fresh_id(Millis(1)), fresh_id(Millis(1)));
        assert!(fresh_id(Millis(1)).starts_with("evt_1_"));
    }
}
