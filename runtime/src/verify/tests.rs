//! Whole schemes. The providers' vectors are in `kept`, what every preset must have in `properties`.

mod changed;
mod kept;
mod properties;
mod signer;

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
    scheme.sign(&secret, "evt_1", "thing.happened", body, "https://hooks.example.com/a", now).unwrap().headers
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_headers_and_no_body_panic(
        lines in proptest::collection::vec((any::<usize>(), proptest::collection::vec(any::<u8>(), 0..80)), 0..6),
        body in proptest::collection::vec(any::<u8>(), 0..80),
        now in any::<u64>(),
    ) {
        let names = [
            "x-sig", "x-sig-2", "x-at", "x-version", "authorization",
        ];
        let mut headers = HeaderMap::new();
        for (which, value) in lines {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(names[which % names.len()], value);
            }
        }
        let request = Request { method: "POST", url: "", query: None, headers: &headers, body: &body };
        for (_, scheme) in customs() {
            let _ = scheme.verify(request, &[key(&scheme, SECRET)], Millis(now));
            let _ = scheme.event.identify(&request, None);
        }
    }

    /// As the test before, but near enough to a good header to get past its first check.
    #[test]
    fn no_text_near_a_signature_panics(text in "[tsv01=,. +sha256a-f]{0,40}", stamp in "[0-9TZ:.+-]{0,24}") {
        let mut headers = HeaderMap::new();
        headers.insert("x-sig", HeaderValue::from_str(&text).unwrap());
        headers.insert("x-at", HeaderValue::from_str(&stamp).unwrap());
        let request = Request { method: "POST", url: "u", query: Some(&text), headers: &headers, body: b"{}" };
        for (_, scheme) in customs() {
            prop_assert!(scheme.verify(request, &[key(&scheme, SECRET)], NOW).is_err());
        }
    }
}
