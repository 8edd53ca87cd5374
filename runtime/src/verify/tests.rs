//! Whole schemes: the providers' vectors, and properties that every preset must have.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::spec::{EventSpec, Spec};
use super::vectors::judge;
use super::*;

const NOW: Millis = Millis(1_790_000_000_500);
/// Base64 too, so that every preset can use it.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn scheme_of(name: &str) -> Scheme {
    let preset = preset(name).unwrap();
    Scheme::compile(&preset.scheme, &preset.event).unwrap()
}

fn custom(spec: Value) -> Scheme {
    let spec: Spec = serde_json::from_value(spec).unwrap();
    Scheme::compile(&spec, &EventSpec::default()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn key(scheme: &Scheme, secret: &str) -> Key {
    scheme.key(&Secret::new(secret), None).unwrap()
}

fn header_map(lines: &[(String, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers
            .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn verify(
    scheme: &Scheme,
    lines: &[(String, String)],
    body: &[u8],
    now: Millis,
) -> Result<Verified, Refused> {
    verify_with(scheme, &[key(scheme, SECRET)], lines, body, now)
}

fn verify_with(
    scheme: &Scheme,
    keys: &[Key],
    lines: &[(String, String)],
    body: &[u8],
    now: Millis,
) -> Result<Verified, Refused> {
    let headers = header_map(lines);
    let request =
        Request { method: "POST", url: "https://hooks.example.com/a", query: None, headers: &headers, body };
    scheme.verify(request, keys, now)
}

fn sign(scheme: &Scheme, secret: &str, body: &[u8], now: Millis) -> Vec<(String, String)> {
    let secret = Secret::new(secret);
    scheme.sign(&secret, "evt_1", "thing.happened", body, "https://hooks.example.com/a", now).unwrap()
}

// === the providers' vectors ===

/// As shared between implementations; its counts are asserted.
fn five() -> Vec<Value> {
    serde_json::from_str(include_str!("../../../tests/vectors/five.json")).unwrap()
}

/// What that file does not hold: a good vector for Slack, some ages.
fn more() -> Vec<Value> {
    serde_json::from_str(include_str!("../../../tests/vectors/more.json")).unwrap()
}

fn check_as_marked(vectors: &[Value]) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::new();
    for vector in vectors {
        let judgement = judge(vector);
        assert_eq!(judgement.valid, vector["valid"].as_bool(), "{judgement:?}\n{vector:#}");
        assert_eq!(judgement.reason.is_none(), judgement.valid == Some(true), "{judgement:?}");
        assert!(vector["source"].is_string(), "{vector:#}");
        *counts.entry(vector["provider"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

#[test]
fn all_vectors_come_out_as_marked() {
    let counted = |counts: &[(&str, usize)]| -> Vec<(String, usize)> {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    };
    assert_eq!(
        check_as_marked(&five()),
        counted(&[
            ("github", 11),
            ("sendpilot", 34),
            ("slack", 9),
            ("standard-webhooks", 33),
            ("stripe", 13)
        ])
    );
    assert_eq!(check_as_marked(&more()), counted(&[("github", 1), ("sendpilot", 1), ("slack", 4)]));
}

#[test]
fn every_preset_has_a_good_a_tampered_and_a_stale_vector() {
    let vectors = [five(), more()].concat();
    for name in preset_names() {
        let of_preset = vectors.iter().filter(|vector| vector["provider"] == name);
        let reasons: Vec<Option<String>> = of_preset.map(|vector| judge(vector).reason).collect();
        let has = |words: &str| reasons.iter().flatten().any(|reason| reason.contains(words));
        assert!(reasons.contains(&None), "{name} has no good vector");
        assert!(has("no live secret made this signature"), "{name} has no tampered vector");
        let has_time = scheme_of(name).tolerance().is_some();
        assert_eq!(has("genuine but 301 s old"), has_time, "{name} has no stale vector");
    }
}

#[test]
fn the_event_of_a_vector_is_named() {
    let judged = |id: &str| judge(five().iter().find(|vector| vector["id"] == id).unwrap());
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

// === the order of trust ===

#[test]
fn stale_means_genuine_but_old() {
    let scheme = scheme_of("sendpilot");
    let lines = sign(&scheme, SECRET, b"{}", NOW);
    let late = |seconds| NOW.plus(Duration::from_secs(seconds));
    assert!(verify(&scheme, &lines, b"{}", late(300)).is_ok());
    assert_eq!(
        verify(&scheme, &lines, b"{}", late(301)).unwrap_err(),
        Refused::Stale { age_s: 301, tolerance_s: 300 }
    );
    assert_eq!(verify(&scheme, &lines, b"{ }", late(301)).unwrap_err(), Refused::Mismatch { tried: 1 });
    let early = verify(&scheme, &lines, b"{}", NOW.minus(Duration::from_secs(301))).unwrap_err();
    assert_eq!(
        early.to_string(),
        "the signature is genuine but 301 s ahead of this clock; 300 s are allowed"
    );
}

#[test]
fn the_secret_that_matched_and_the_time_are_recorded() {
    let scheme = scheme_of("sendpilot");
    let keys = [key(&scheme, "new"), key(&scheme, "old")];
    let lines = sign(&scheme, "old", b"{}", NOW);
    let verified = verify_with(&scheme, &keys, &lines, b"{}", NOW).unwrap();
    assert_eq!(verified.secret(), Secret::new("old").fingerprint());
    assert_eq!(verified.signed_at(), Some(Millis(1_790_000_000_000)));
    let untimed = scheme_of("github");
    let lines = sign(&untimed, SECRET, b"{}", NOW);
    assert_eq!(verify(&untimed, &lines, b"{}", NOW).unwrap().signed_at(), None);
}

#[test]
fn the_good_signature_and_its_secret_may_stand_anywhere() {
    let scheme = scheme_of("sendpilot");
    let right = sign(&scheme, SECRET, b"{}", NOW)[0].1.split_once("s=").unwrap().1.to_owned();
    for at in 0..3 {
        let mut signatures = vec!["00".repeat(32), "11".repeat(32)];
        signatures.insert(at, right.clone());
        let value = format!("t=1790000000,s={}", signatures.join(",s="));
        let mut keys = vec![key(&scheme, "other"), key(&scheme, "another")];
        keys.insert(at, key(&scheme, SECRET));
        let lines = [("Webhook-Signature".to_owned(), value)];
        let verified = verify_with(&scheme, &keys, &lines, b"{}", NOW).unwrap();
        assert_eq!(verified.secret(), Secret::new(SECRET).fingerprint(), "{at}");
    }
}

#[test]
fn an_ended_secret_is_not_tried() {
    let scheme = scheme_of("sendpilot");
    let keys = || vec![key(&scheme, "new"), scheme.key(&Secret::new("old"), Some(NOW)).unwrap()];
    let lines = sign(&scheme, "old", b"{}", NOW);
    assert!(verify_with(&scheme, &keys(), &lines, b"{}", NOW).is_ok());
    let after = Millis(NOW.0 + 1);
    assert_eq!(
        verify_with(&scheme, &keys(), &lines, b"{}", after).unwrap_err(),
        Refused::Mismatch { tried: 1 }
    );
    assert_eq!(verify_with(&scheme, &[], &lines, b"{}", NOW).unwrap_err(), Refused::Mismatch { tried: 0 });
}

#[test]
fn a_refusal_never_holds_a_signature() {
    let scheme = scheme_of("sendpilot");
    let right = sign(&scheme, SECRET, b"{}", NOW)[0].1.split_once("s=").unwrap().1.to_owned();
    for lines in [
        vec![("Webhook-Signature".to_owned(), format!("t=1790000001,s={right}"))],
        vec![("Webhook-Signature".to_owned(), format!("t=1790000000,s={right}00"))],
        vec![("Webhook-Signature".to_owned(), format!("t=x,s={right}"))],
        vec![("Webhook-Signature".to_owned(), format!("t=1,t=2,s={right}"))],
    ] {
        let refused = verify(&scheme, &lines, b"{}", NOW).unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains(&right[..8]), "{refused}");
    }
}

#[test]
fn a_key_of_another_scheme_proves_nothing() {
    let (sha256, sha512) = (scheme_of("github"), custom(body_only("sha512")));
    let lines = sign(&sha256, SECRET, b"{}", NOW);
    let foreign = [key(&sha512, SECRET)];
    assert_eq!(
        verify_with(&sha256, &foreign, &lines, b"{}", NOW).unwrap_err(),
        Refused::Mismatch { tried: 1 }
    );
}

// === beyond the presets ===

fn body_only(algorithm: &str) -> Value {
    json!({
        "type": "hmac", "algorithm": algorithm, "signed": "{body}",
        "signature": {"from": "header:X-Sig", "format": "raw", "encoding": "base64url"},
    })
}

fn customs() -> Vec<(&'static str, Scheme)> {
    let stamped = |from: &str, unit: &str, signed: &str, signature: Value| {
        custom(json!({
            "type": "hmac", "algorithm": "sha1", "signed": signed, "signature": signature,
            "timestamp": {"from": from, "unit": unit, "tolerance": "1m"},
        }))
    };
    let raw = json!({"from": ["header:X-Sig", "header:X-Sig-2"], "format": "raw", "encoding": "base64"});
    let positional =
        json!({"from": "header:X-Sig", "format": "positional", "separator": ",", "encoding": "hex"});
    let required = custom(json!({
        "type": "hmac", "algorithm": "sha512", "signed": "{method} {url} {header:X-Version} {const:app} {body}",
        "signature": {"from": "header:X-Sig", "format": "raw", "encoding": "hex"},
        "require": {"header:X-Version": "2"}, "const": {"app": "42"}, "secret": {"decode": "utf8"},
    }));
    let token = json!({
        "type": "token",
        "signature": {"from": "header:Authorization", "format": "prefixed", "prefix": "Bearer "},
    });
    vec![
        ("sha1", custom(body_only("sha1"))),
        ("sha512", custom(body_only("sha512"))),
        ("ms", stamped("header:X-At", "ms", "{timestamp}{body}", raw.clone())),
        ("rfc3339", stamped("header:X-At", "rfc3339", "{body}{timestamp}", raw.clone())),
        ("http-date", stamped("header:X-At", "http-date", "{body}.{timestamp}", raw.clone())),
        ("json time", stamped("json:at", "ms", "{body}", raw)),
        ("positional", stamped("field:0", "s", "{timestamp}.{body}", positional)),
        ("required", required),
        ("token", custom(token)),
    ]
}

#[test]
fn schemes_beyond_the_presets_verify_what_they_sign() {
    let body = br#"{"at":1790000000000,"a":"b"}"#;
    for (name, scheme) in customs() {
        let lines = sign(&scheme, SECRET, body, NOW);
        let verified =
            verify(&scheme, &lines, body, NOW).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        assert_eq!(verified.secret(), Secret::new(SECRET).fingerprint());
        let wrong = [key(&scheme, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx")];
        assert_eq!(
            verify_with(&scheme, &wrong, &lines, body, NOW).unwrap_err(),
            Refused::Mismatch { tried: 1 },
            "{name}"
        );
        let hour = NOW.plus(Duration::from_secs(3600));
        assert_eq!(verify(&scheme, &lines, body, hour).is_ok(), scheme.tolerance().is_none(), "{name}");
    }
}

#[test]
fn a_token_of_another_length_is_only_a_mismatch() {
    let (_, scheme) = customs().pop().unwrap();
    for token in ["x", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", &SECRET.repeat(100)] {
        let lines = [("Authorization".to_owned(), format!("Bearer {token}"))];
        assert_eq!(verify(&scheme, &lines, b"", NOW).unwrap_err(), Refused::Mismatch { tried: 1 });
    }
    let lines = [("Authorization".to_owned(), SECRET.to_owned())];
    assert!(matches!(verify(&scheme, &lines, b"", NOW), Err(Refused::Malformed(_))));
}

#[test]
fn a_required_value_must_be_equal_where_it_is_there() {
    let scheme = custom(json!({
        "type": "hmac", "algorithm": "sha256", "signed": "{body}",
        "signature": {"from": "header:X-Sig", "format": "raw", "encoding": "hex"},
        "require": {"header:X-Version": "1"},
    }));
    let mut lines = sign(&scheme, SECRET, b"{}", NOW);
    assert!(lines.contains(&("X-Version".to_owned(), "1".to_owned())));
    lines.retain(|(name, _)| name != "X-Version");
    assert!(verify(&scheme, &lines, b"{}", NOW).is_ok());
    lines.push(("X-Version".to_owned(), "2".to_owned()));
    let refused = verify(&scheme, &lines, b"{}", NOW).unwrap_err().to_string();
    assert_eq!(refused, "malformed signature: header `X-Version` is not `1`");
}

#[test]
fn an_operators_scheme_laid_over_a_preset_takes_its_place() {
    let preset = preset("stripe").unwrap();
    let over: Spec = serde_json::from_value(
        json!({"signature": {"from": "header:Acme-Signature"}, "timestamp": {"tolerance": "10m"}}),
    )
    .unwrap();
    let scheme = Scheme::compile(&over.over(&preset.scheme), &preset.event).unwrap();
    assert_eq!(scheme.tolerance().unwrap().0, Duration::from_secs(600));
    let lines = sign(&scheme, SECRET, b"{}", NOW);
    assert_eq!(lines[0].0, "Acme-Signature");
    assert!(verify(&scheme, &lines, b"{}", NOW.plus(Duration::from_secs(600))).is_ok());
}

#[test]
fn what_cannot_be_signed_here_says_why() {
    let secret = Secret::new(SECRET);
    let in_body = custom(json!({
        "type": "hmac", "algorithm": "sha256", "signed": "{body}",
        "signature": {"from": "form:sig", "format": "raw", "encoding": "hex"},
    }));
    let error = in_body.sign(&secret, "", "", b"{}", "", NOW).unwrap_err();
    assert!(error.contains("travels in the form field `sig`"), "{error}");
    let with_url = custom(json!({
        "type": "hmac", "algorithm": "sha256", "signed": "{url}{body}",
        "signature": {"from": "header:X", "format": "raw", "encoding": "hex"},
    }));
    assert!(with_url.needs_url());
    assert!(with_url.sign(&secret, "", "", b"{}", "", NOW).unwrap_err().contains("public_url"));
    assert!(
        scheme_of("github").sign(&secret, "a\nb", "", b"{}", "", NOW).unwrap_err().contains("does not fit")
    );
}

#[test]
fn signing_carries_id_and_type_where_the_provider_does() {
    let lines = sign(&scheme_of("github"), SECRET, b"{}", NOW);
    let names: Vec<&str> = lines.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["X-GitHub-Delivery", "X-GitHub-Event", "X-Hub-Signature-256"]);
    let lines = sign(&scheme_of("standard-webhooks"), SECRET, b"{}", NOW);
    assert!(lines.contains(&("webhook-id".to_owned(), "evt_1".to_owned())));
    assert_eq!(lines.len(), 3);
}

// === properties ===

fn any_preset() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(preset_names())
}

/// Another byte in one place; one that no header can hold becomes `~`, which none of ours holds.
fn flip(text: &str, at: usize, with: u8) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = at % bytes.len();
    let flipped = bytes[at] ^ with;
    bytes[at] = if (b' '..=b'~').contains(&flipped) { flipped } else { b'~' };
    String::from_utf8(bytes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_is_signed_is_accepted_until_a_byte_changes(
        name in any_preset(),
        body in proptest::collection::vec(any::<u8>(), 0..200),
        secret in proptest::collection::vec(any::<u8>(), 1..40),
        now in 1_000_000_000_u64..9_000_000_000,
        at in any::<usize>(),
        with in 1_u8..=255,
    ) {
        let scheme = scheme_of(name);
        let secret = hex::encode(secret);
        // Hex is base64 too, four characters at a time.
        let secret = format!("{secret}{}", &"0000"[secret.len() % 4..]);
        let (now, keys) = (Millis::from_seconds(now), [key(&scheme, &secret)]);
        let lines = sign(&scheme, &secret, &body, now);
        prop_assert!(verify_with(&scheme, &keys, &lines, &body, now).is_ok());

        let mut other = body.clone();
        match other.len() {
            0 => other.push(with),
            len => other[at % len] ^= with,
        }
        prop_assert_eq!(
            verify_with(&scheme, &keys, &lines, &other, now).unwrap_err(),
            Refused::Mismatch { tried: 1 }
        );
    }

    /// Every header that takes part: id, timestamp, signature. A flip of a letter's case in hex is the one
    /// change that spells the same bytes.
    #[test]
    fn what_is_signed_is_refused_when_a_header_changes(
        name in any_preset(),
        which in any::<usize>(),
        at in any::<usize>(),
        with in 1_u8..=255,
    ) {
        let scheme = scheme_of(name);
        let mut lines = sign(&scheme, SECRET, b"{}", NOW);
        // GitHub's id and type are not signed.
        lines.retain(|(name, _)| !name.starts_with("X-GitHub"));
        let line = which % lines.len();
        let before = lines[line].1.clone();
        lines[line].1 = flip(&before, at, with);
        let is_same_hex = name != "standard-webhooks" && before.eq_ignore_ascii_case(&lines[line].1);
        prop_assume!(!is_same_hex);
        prop_assert!(verify(&scheme, &lines, b"{}", NOW).is_err(), "{} -> {}", before, lines[line].1);
    }

    #[test]
    fn no_headers_and_no_body_panic(
        name in any_preset(),
        lines in proptest::collection::vec((any::<usize>(), proptest::collection::vec(any::<u8>(), 0..80)), 0..6),
        body in proptest::collection::vec(any::<u8>(), 0..80),
        now in any::<u64>(),
    ) {
        let names = [
            "webhook-signature", "webhook-id", "webhook-timestamp", "stripe-signature", "x-hub-signature-256",
            "x-github-delivery", "x-slack-signature", "x-slack-request-timestamp", "x-sig", "x-at", "authorization",
        ];
        let mut headers = HeaderMap::new();
        for (which, value) in lines {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(names[which % names.len()], value);
            }
        }
        let request = Request { method: "POST", url: "", query: None, headers: &headers, body: &body };
        let preset = [("preset", scheme_of(name))];
        for (_, scheme) in customs().into_iter().chain(preset) {
            let _ = scheme.verify(request, &[key(&scheme, SECRET)], Millis(now));
            let _ = scheme.event.identify(&request);
        }
    }

    /// As the test before, but near enough to a good header to get past its first check.
    #[test]
    fn no_text_near_a_signature_panics(text in "[tsv01=,. +sha256a-f]{0,40}", stamp in "[0-9TZ:.+-]{0,24}") {
        let mut headers = HeaderMap::new();
        for name in ["webhook-signature", "stripe-signature", "x-hub-signature-256", "x-slack-signature", "x-sig"] {
            headers.insert(name, HeaderValue::from_str(&text).unwrap());
        }
        for name in ["webhook-timestamp", "x-slack-request-timestamp", "x-at", "webhook-id"] {
            headers.insert(name, HeaderValue::from_str(&stamp).unwrap());
        }
        let request = Request { method: "POST", url: "u", query: Some(&text), headers: &headers, body: b"{}" };
        let presets = preset_names().into_iter().map(|name| (name, scheme_of(name)));
        for (_, scheme) in customs().into_iter().chain(presets) {
            prop_assert!(scheme.verify(request, &[key(&scheme, SECRET)], NOW).is_err());
        }
    }
}
