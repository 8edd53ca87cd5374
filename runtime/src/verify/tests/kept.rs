//! Kept: the vectors of tests/vectors, each with its source, and that every preset is pinned by some.
//!
//! `shared.json` came with the facts; `more.json` holds published requests beside them; `made.json` is written by
//! `make.py`, which knows the providers and not this engine; `builtin.json` is for the schemes that are code. A vector is
//! marked valid or not, and must come out so.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::verify::vectors::Captured;

const SHARED: &str = include_str!("../../../../tests/vectors/shared.json");
const MORE: &str = include_str!("../../../../tests/vectors/more.json");
const BUILTIN: &str = include_str!("../../../../tests/vectors/builtin.json");
const MADE: &str = include_str!("../../../../tests/vectors/made.json");

fn read(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

pub(super) fn made() -> Vec<Value> {
    read(MADE)
}

pub(super) fn all() -> Vec<Value> {
    let mut all = [read(SHARED), read(MORE), made()].concat();
    // Those of a scheme of their own are not a preset's.
    let ids: BTreeSet<String> = all.iter().map(|vector| text(vector, "id").to_owned()).collect();
    let is_new = |vector: &Value| {
        !ids.contains(text(vector, "id"))
            && vector.get("scheme").is_none()
            && preset(text(vector, "provider")).is_some()
    };
    all.extend(read(BUILTIN).into_iter().filter(is_new));
    all
}

fn text<'v>(vector: &'v Value, key: &str) -> &'v str {
    vector[key].as_str().unwrap_or_default()
}

#[test]
fn all_vectors_come_out_as_marked() {
    assert_eq!(read(SHARED).len(), 424);
    let vectors = all();
    assert!(vectors.len() > 424 + 144 * 2, "{}", vectors.len());
    let mut wrong = Vec::new();
    for vector in &vectors {
        let judgement = judge(vector);
        if judgement.valid != vector["valid"].as_bool()
            || judgement.reason.is_none() != (judgement.valid == Some(true))
        {
            wrong.push(format!("marked {}: {judgement:?}", vector["valid"]));
        }
        assert!(!text(vector, "source").is_empty(), "{vector:#} has no source");
        let kind = text(vector, "kind");
        assert!(matches!(kind, "published" | "generated" | "derived" | "third-party"), "{kind}");
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), vectors.len(), wrong.join("\n"));
    let ids: BTreeSet<&str> = vectors.iter().map(|vector| text(vector, "id")).collect();
    assert_eq!(ids.len(), vectors.len(), "two vectors have one id");
}

#[test]
fn every_preset_has_a_good_a_tampered_and_a_stale_vector() {
    let mut pinned: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for vector in all() {
        pinned.entry(text(&vector, "provider").to_owned()).or_default().push(judge(&vector).reason);
    }
    let mut missing = Vec::new();
    for name in preset_names() {
        let reasons = pinned.remove(name).unwrap_or_default();
        let has = |is: fn(&str) -> bool| reasons.iter().flatten().any(|reason| is(reason));
        if !reasons.contains(&None) {
            missing.push(format!("{name}: a good one"));
        }
        if !has(is_tampered) {
            missing.push(format!("{name}: a tampered one"));
        }
        if tolerance_of(name).is_some() && !has(is_stale) {
            missing.push(format!("{name}: a stale one"));
        }
    }
    assert!(missing.is_empty(), "missing in tests/vectors:\n{}", missing.join("\n"));
    assert_eq!(pinned.keys().collect::<Vec<_>>(), Vec::<&String>::new(), "vectors of no preset");
}

const GENUINE_BUT: &str = "the signature is genuine but ";

/// A JWT is genuine by itself, and names another body or URL.
fn is_tampered(reason: &str) -> bool {
    let is_of_time = ["s old; ", "ahead of this clock", "but ended ", "but begins "]
        .iter()
        .any(|words| reason.contains(words));
    reason == Refused::Mismatch { tried: 1 }.to_string() || (reason.starts_with(GENUINE_BUT) && !is_of_time)
}

fn is_stale(reason: &str) -> bool {
    reason.starts_with(GENUINE_BUT) && (reason.contains(" s old; ") || reason.contains("but ended "))
}

fn tolerance_of(name: &str) -> Option<(Duration, Duration)> {
    scheme_with(name, &json!({})).tolerance()
}

/// The preset, with what only an operator can say.
fn scheme_with(name: &str, context: &Value) -> Scheme {
    let preset = preset(name).unwrap();
    let webhook_id = context.get("webhook_id").cloned().unwrap_or_else(|| "1".into());
    let wants = preset.scheme.signed.as_deref().unwrap_or_default().contains("{const:webhook_id}");
    let over = if wants { json!({ "const": { "webhook_id": webhook_id } }) } else { json!({}) };
    let over: Spec = serde_json::from_value(over).unwrap();
    Scheme::compile(&over.over(&preset.scheme), &preset.event).unwrap_or_else(|p| panic!("{name}: {p:?}"))
}

/// Id and type are where the provider has them; of many events each has its own.
#[test]
fn the_events_of_a_good_vector_are_named() {
    let mut checked = 0;
    for vector in made().iter().filter(|vector| vector["valid"] == true) {
        let one =
            vector.get("event_id").zip(vector.get("event_type")).map(|(id, kind)| vec![json!([id, kind])]);
        let Some(expected) = vector["events"].as_array().cloned().or(one) else { continue };
        let scheme = scheme_with(text(vector, "provider"), &vector["context"]);
        let found = Captured::read(vector).unwrap().verify(&scheme).unwrap();
        assert_eq!(found.len(), expected.len(), "{}", vector["id"]);
        for (event, expected) in found.iter().zip(&expected) {
            // Null: the provider gives it none.
            match expected[0].as_str() {
                Some(id) => assert_eq!(event.id, id, "{}", vector["id"]),
                None => assert!(event.id.starts_with("sha256:"), "{}: {}", vector["id"], event.id),
            }
            assert_eq!(event.event_type, expected[1], "{}", vector["id"]);
            assert_eq!(event.warnings, Vec::<String>::new(), "{}", vector["id"]);
            assert_eq!(event.range.is_some(), vector.get("events").is_some(), "{}", vector["id"]);
        }
        checked += 1;
    }
    assert!(checked >= 135, "{checked}");
}

#[test]
fn the_event_of_a_vector_is_named() {
    let vectors = all();
    let judged = |id: &str| judge(vectors.iter().find(|vector| vector["id"] == id).unwrap());
    for (id, event_id, event_type) in [
        ("sendpilot-gen", "evt_01J8Z3K6W2", "message.received"),
        ("stripe-v0-extra", "evt_test_webhook", ""),
        ("github-gen", "72d3162e-cc78-11e3-81ab-4c9367dc0958", "push"),
        ("standard-webhooks-sign", "msg_p5jXN8AQM9LWM0D4loKWxJek", ""),
        ("sendpilot-body-not-utf8", "e", "x"),
    ] {
        let judgement = judged(id);
        assert_eq!(judgement.event_id.as_deref(), Some(event_id), "{id}");
        assert_eq!(judgement.event_type.as_deref(), Some(event_type), "{id}");
    }
    assert!(judged("sendpilot-body-empty").event_id.unwrap().starts_with("sha256:e3b0c442"));
}

/// The one value that a preset cannot have.
#[test]
fn paypals_webhook_id_is_the_operators_to_say() {
    let preset = preset("paypal").unwrap();
    let Err(problems) = Scheme::compile(&preset.scheme, &preset.event) else { panic!("it compiles without") };
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        ["scheme.signed: `{const:webhook_id}` has no value; add it: const: { webhook_id: \"…\" }"]
    );
}
