//! What a scheme must say, and how each mistake is named.

use std::time::Duration;

use serde_json::{Value, json};

use super::stamp::parse_span;
use super::*;

fn good() -> Value {
    json!({
        "type": "hmac", "algorithm": "sha256", "signed": "{timestamp}.{body}",
        "signature": {
            "from": "header:X-Sig", "format": "fields", "separator": ",", "assign": "=", "key": "v1",
            "encoding": "hex",
        },
        "timestamp": {"from": "field:t", "unit": "s", "tolerance": "300s"},
    })
}

/// `good`, with the keys of `change` laid over it; null takes a key away.
fn changed(change: Value) -> Spec {
    fn lay(base: &mut Value, change: Value) {
        match (base, change) {
            (Value::Object(base), Value::Object(change)) => {
                for (key, value) in change {
                    if value.is_null() {
                        base.shift_remove(&key);
                    } else {
                        lay(base.entry(key).or_insert(Value::Null), value);
                    }
                }
            }
            (base, change) => *base = change,
        }
    }
    let mut spec = good();
    lay(&mut spec, change);
    serde_json::from_value(spec).unwrap()
}

fn problems(spec: &Spec) -> Vec<String> {
    match compile(spec, &EventSpec::default()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_good_scheme_compiles_and_keeps_its_window() {
    let window = |change| compile(&changed(change), &EventSpec::default()).unwrap().tolerance();
    let seconds = Duration::from_secs;
    assert_eq!(window(json!({})), Some((seconds(300), seconds(300))));
    assert_eq!(window(json!({"timestamp": {"tolerance": "10m"}})), Some((seconds(600), seconds(600))));
    assert_eq!(
        window(json!({"timestamp": {"tolerance": "10m", "future": "0s"}})),
        Some((seconds(600), seconds(0)))
    );
    assert_eq!(window(json!({"timestamp": {"tolerance": "none"}})), None);
    assert_eq!(window(json!({"timestamp": null, "signed": "{body}"})), None);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_mistake_is_named_with_what_to_type() {
    for (change, expected) in [
        (json!({"type": null}), "scheme.type: the scheme has no type; write type: hmac or another"),
        (
            json!({"type": "hmax"}),
            "scheme.type: `hmax` is not known here; write hmac, hash, ed25519, ecdsa-p256",
        ),
        (json!({"algorithm": null}), "scheme.algorithm: it is missing; write sha256, sha512 or sha1"),
        (json!({"algorithm": "md5"}), "scheme.algorithm: `md5` is not known here; write sha256"),
        (json!({"signature": {"from": null}}), "scheme.signature.from: the signature's place is missing"),
        (json!({"signature": {"from": []}}), "scheme.signature.from: the signature's place is missing"),
        (json!({"signature": {"from": "X-Sig"}}), "scheme.signature.from: `X-Sig` names no place"),
        (json!({"signature": {"from": ["header:A", "b"]}}), "scheme.signature.from.1: `b` names no place"),
        (
            json!({"signature": {"from": "header-numbered:X-1"}}),
            "scheme.signature.from: `X-1` is not the beginning of a header's name",
        ),
        (
            json!({"signature": {"format": "filds"}}),
            "scheme.signature.format: `filds` is not known here; write raw, prefixed, list, fields or positional",
        ),
        (json!({"signature": {"format": null}}), "scheme.signature.format: it is missing; write raw"),
        (json!({"signature": {"separator": null}}), "scheme.signature.separator: it is missing or empty"),
        (
            json!({"signature": {"assign": ""}}),
            "scheme.signature.assign: it is missing or empty; write assign: \"=\"",
        ),
        (
            json!({"signature": {"key": null}}),
            "scheme.signature.key: it is missing or empty; write key: \"v1\"",
        ),
        (json!({"signature": {"key": "t"}}), "scheme.timestamp.from: the timestamp needs a key of its own"),
        (
            json!({"signature": {"prefix": "a"}}),
            "scheme.signature.prefix: it has no meaning with format: fields",
        ),
        (
            json!({"signature": {"groups": " ", "format": "list"}, "timestamp": null, "signed": "{body}"}),
            "scheme.signature.groups: it has no meaning with a format that is not fields",
        ),
        (
            json!({"signature": {"encoding": "hexx"}}),
            "scheme.signature.encoding: `hexx` is not known here; write hex",
        ),
        (json!({"timestamp": {"from": null}}), "scheme.timestamp.from: the timestamp's place is missing"),
        (
            json!({"timestamp": {"from": "header-numbered:T-"}}),
            "scheme.timestamp.from: a timestamp is one header",
        ),
        (
            json!({"timestamp": {"unit": null}}),
            "scheme.timestamp.unit: it is missing; write s, ms, rfc3339 or http-date",
        ),
        (
            json!({"timestamp": {"tolerance": null}}),
            "scheme.timestamp.tolerance: how old may a signature be?",
        ),
        (
            json!({"timestamp": {"tolerance": "300"}}),
            "scheme.timestamp.tolerance: `300` is not a span of time",
        ),
        (json!({"timestamp": {"future": "soon"}}), "scheme.timestamp.future: `soon` is not a span of time"),
        (
            json!({"timestamp": {"tolerance": "none", "future": "1s"}}),
            "scheme.timestamp.future: it has no meaning with tolerance: none",
        ),
        (json!({"timestamp": {"signed": false}}), "scheme.timestamp.signed: the timestamp is signed"),
        (json!({"timestamp": null}), "scheme.timestamp: `signed` holds {timestamp}"),
        (json!({"signed": null}), "scheme.signed: what is signed?"),
        (json!({"signed": "{timestamp}."}), "scheme.signed: the body is not signed"),
        (json!({"signed": "{body}"}), "scheme.signed: the timestamp is not signed, so it proves nothing"),
        (json!({"signed": "{timestamp}.{bdy}{body}"}), "scheme.signed: `{bdy}` is not known"),
        (json!({"signed": "{id}.{timestamp}.{body}"}), "scheme.id: `signed` holds {id}"),
        (json!({"id": "header:X-Id"}), "scheme.id: `signed` does not hold {id}"),
        (json!({"const": {"x": "y"}}), "scheme.const.x: `signed` does not hold {const:x}"),
        (
            json!({"secret": {"decode": "md5"}}),
            "scheme.secret.decode: `md5` is not known here; write utf8, base64, hex or sha1",
        ),
        (json!({"body_signed": false}), "scheme.body_signed: the body is signed; remove body_signed: false"),
        (json!({"signed": "{timestamp}.{body}{secret}"}), "scheme.signed: only type: hash has the secret in"),
        (json!({"type": "hash"}), "scheme.signed: the secret is not in it, so anybody could make this hash"),
        (json!({"type": "ed25519"}), "scheme.algorithm: it has no meaning with type: ed25519; remove it"),
        (
            json!({"i_know_this_is_unauthenticated": true}),
            "scheme.i_know_this_is_unauthenticated: it has no meaning with a scheme that proves something",
        ),
        (json!({"require": {"X-V": "1"}}), "scheme.require.X-V: `X-V` names no place"),
    ] {
        let found = problems(&changed(change.clone()));
        assert_eq!(found.len(), 1, "{change}: {found:?}");
        assert!(found[0].starts_with(expected), "{change}: {found:?}");
    }
}

#[test]
fn fields_belong_to_formats_that_have_them() {
    let raw =
        changed(json!({"signature": {"format": "raw", "separator": null, "assign": null, "key": null}}));
    assert!(problems(&raw)[0].starts_with("scheme.timestamp.from: only format: fields"));
    let positional = |field: &str| {
        changed(json!({
            "signature": {"format": "positional", "assign": null, "key": null}, "timestamp": {"from": field},
        }))
    };
    assert!(problems(&positional("field:0")).is_empty());
    for wrong in ["field:t", "field:64", "field:00", "field:"] {
        assert!(problems(&positional(wrong))[0].contains("is not a position"), "{wrong}");
    }
}

#[test]
fn a_token_has_no_use_for_what_an_hmac_needs() {
    let token = |change: Value| {
        let mut base = json!({"type": "token", "signature": {"from": "header:X-Token"}});
        base.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        problems(&serde_json::from_value(base).unwrap())
    };
    assert!(token(json!({})).is_empty());
    let bearer =
        json!({"signature": {"from": "header:Authorization", "format": "prefixed", "prefix": "Bearer "}});
    assert!(token(bearer).is_empty());
    for key in ["algorithm", "signed", "id"] {
        assert!(token(json!({key: "x"}))[0].contains("no meaning with type: token"), "{key}");
    }
    let list = json!({"signature": {"from": "header:X", "format": "list", "separator": ","}});
    assert!(token(list)[0].contains("format: raw"));
}

#[test]
fn all_mistakes_are_named_at_once() {
    let spec = changed(json!({
        "algorithm": "md5", "signed": "{timestamp}", "secret": {"decode": "rot13"},
        "signature": {"from": "X", "encoding": "hexx", "key": null},
        "timestamp": {"unit": "days", "tolerance": null},
    }));
    let event =
        serde_json::from_value(json!({"id": ["id", "json:a"], "type": "type", "each": "form:e"})).unwrap();
    let Err(found) = compile(&spec, &event) else { panic!("compiled") };
    let mut keys: Vec<&str> = found.iter().map(|problem| problem.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "event.each",
            "event.id.0",
            "event.type",
            "scheme.algorithm",
            "scheme.secret.decode",
            "scheme.signature.encoding",
            "scheme.signature.from",
            "scheme.signature.key",
            "scheme.signed",
            "scheme.timestamp.tolerance",
            "scheme.timestamp.unit",
        ]
    );
}

#[test]
fn weak_schemes_are_noted() {
    let notes = |change| compile(&changed(change), &EventSpec::default()).unwrap().notes.len();
    assert_eq!(notes(json!({})), 0);
    assert_eq!(notes(json!({"signed": "{timestamp}{body}"})), 1);
    assert_eq!(notes(json!({"timestamp": {"tolerance": "none"}})), 1);
    assert_eq!(notes(json!({"signed": "{body}", "timestamp": {"signed": false}})), 1);
}

#[test]
fn spans_are_a_number_and_a_unit() {
    for (text, ms) in
        [("300s", 300_000), ("500ms", 500), ("10m", 600_000), ("1h", 3_600_000), ("2d", 172_800_000)]
    {
        assert_eq!(parse_span(text), Some(Duration::from_millis(ms)), "{text}");
    }
    for wrong in
        ["", "s", "300", "3 s", "-1s", "1.5s", "1w", "99999999999999999999s", "18446744073709551615d"]
    {
        assert_eq!(parse_span(wrong), None, "{wrong}");
    }
}

#[test]
fn nothing_is_proved_only_where_that_is_known() {
    let nothing = |change: Value| {
        let mut base = json!({"type": "none", "i_know_this_is_unauthenticated": true});
        base.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        problems(&serde_json::from_value(base).unwrap())
    };
    assert!(nothing(json!({})).is_empty());
    for refused in [json!(false), json!(null)] {
        let found = nothing(json!({"i_know_this_is_unauthenticated": refused}));
        assert!(found[0].contains("write i_know_this_is_unauthenticated: true"), "{found:?}");
    }
    assert!(nothing(json!({"signed": "{body}"}))[0].contains("no meaning with type: none"));
    assert!(nothing(json!({"signature": {"from": "header:X"}}))[0].contains("no meaning with type: none"));
}

#[test]
fn user_and_password_need_no_place() {
    let basic = |change: Value| {
        let mut base = json!({"type": "basic"});
        base.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        problems(&serde_json::from_value(base).unwrap())
    };
    assert!(basic(json!({})).is_empty());
    assert!(basic(json!({"signature": {"from": "header:X-Auth"}})).is_empty());
    assert!(basic(json!({"signature": {"prefix": "Basic "}}))[0].contains("no meaning with type: basic"));
    assert!(basic(json!({"algorithm": "sha256"}))[0].contains("no meaning with type: basic"));
}

#[test]
fn events_of_a_list_need_ids_of_their_own() {
    let event = |value: Value| {
        let event = serde_json::from_value(value).unwrap();
        compile(&changed(json!({})), &event).err().unwrap_or_default()
    };
    assert!(event(json!({"each": "json:events", "id": "json:id"})).is_empty());
    assert!(event(json!({"each": "json:."})).is_empty());
    assert!(
        event(json!({"each": "json:events", "id": "header:X-Id"}))[0].message.contains("an id of its own")
    );
    assert!(event(json!({"each": "header:X"}))[0].message.contains("only a list in JSON"));
}

#[test]
fn an_event_whose_id_is_not_signed_has_a_second_name() {
    let also = |change: Value, event: Value| {
        let event = serde_json::from_value(event).unwrap();
        let scheme = compile(&changed(change), &event).unwrap_or_else(|problems| panic!("{problems:?}"));
        format!("{:?}", scheme.event.also_kind())
    };
    for (change, event, expected) in [
        (json!({}), json!({"id": "json:id"}), "Nothing"),
        (json!({}), json!({}), "Nothing"),
        (json!({}), json!({"id": "header:X-Id"}), "Body"),
        (json!({}), json!({"id": ["json:id", "header:X-Id"]}), "Body"),
        (json!({"signed": "{header:X-Id}.{timestamp}.{body}"}), json!({"id": "header:X-Id"}), "Nothing"),
        (
            json!({"id": "header:X-Id", "signed": "{id}.{timestamp}.{body}"}),
            json!({"id": "header:x-id"}),
            "Nothing",
        ),
        (json!({}), json!({"id": "header:X-Id", "dedupe_body": false}), "Nothing"),
        (json!({}), json!({"id": "json:id", "dedupe_body": true}), "Body"),
        (json!({"signed": "{timestamp}", "body_signed": false}), json!({"id": "json:id"}), "Signed"),
    ] {
        assert_eq!(also(change.clone(), event.clone()), expected, "{change} {event}");
    }
}
