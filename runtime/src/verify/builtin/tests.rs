//! Built-in schemes: the providers' vectors, and what must not be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use super::super::spec::{EventSpec, Spec};
use super::super::vectors::judge_by;
use super::super::{Key, NoKey, Refused, Request, Scheme, Verified, Wanted, preset};
use super::hash;
use crate::words::limits::*;
use crate::words::secret::Secret;
use crate::words::time::Millis;

const NOW: Millis = Millis(1_790_000_000_000);

/// Those that came with the facts, and our own.
static VECTORS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let read = |text: &str| -> Vec<Value> { serde_json::from_str(text).unwrap() };
    let mut vectors = read(include_str!("../../../../tests/vectors/builtin.json"));
    let ours: BTreeSet<String> =
        vectors.iter().map(|vector| vector["provider"].as_str().unwrap().to_owned()).collect();
    let shared = read(include_str!("../../../../tests/vectors/shared.json"));
    vectors.extend(shared.into_iter().filter(|vector| ours.contains(vector["provider"].as_str().unwrap())));
    vectors
});

fn vector(id: &str) -> &'static Value {
    VECTORS.iter().find(|vector| vector["id"] == id).unwrap_or_else(|| panic!("no vector {id}"))
}

/// The preset that a vector names, with what it lays over it.
fn scheme_of(vector: &Value) -> Scheme {
    let base = preset(vector["provider"].as_str().unwrap()).cloned().unwrap_or_default();
    let upper: Spec = serde_json::from_value(vector.get("scheme").cloned().unwrap_or(json!({}))).unwrap();
    compiled(&upper.over(&base.scheme), &base.event)
}

fn compiled(spec: &Spec, event: &EventSpec) -> Scheme {
    Scheme::compile(spec, event).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn problems(spec: Value) -> Vec<String> {
    let spec: Spec = serde_json::from_value(spec).unwrap();
    match Scheme::compile(&spec, &EventSpec::default()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// A vector as a request, owned.
struct Sent {
    secret: String,
    url: String,
    headers: HeaderMap,
    body: Vec<u8>,
    now: Millis,
}

impl Sent {
    fn of(id: &str) -> Sent {
        let vector = vector(id);
        let mut headers = HeaderMap::new();
        for (name, value) in vector["headers"].as_object().unwrap() {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value.as_str().unwrap()).unwrap());
        }
        let text = |key: &str| vector[key].as_str().unwrap_or_default().to_owned();
        Sent {
            secret: text("secret"),
            url: text("url"),
            headers,
            body: text("body").into_bytes(),
            now: Millis::from_seconds(vector["now"].as_u64().unwrap()),
        }
    }

    fn request(&self) -> Request<'_> {
        let query = self.url.split_once('?').map(|(_, query)| query);
        Request { method: "POST", url: &self.url, query, headers: &self.headers, body: &self.body }
    }

    fn verify(&self, scheme: &Scheme) -> Result<Verified, Refused> {
        let key = scheme.key(&Secret::new(self.secret.as_str()), None).unwrap();
        scheme.verify(self.request(), &[key], self.now)
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
}

// === the vectors ===

#[test]
fn all_vectors_come_out_as_marked() {
    let (mut counts, mut ids) = (BTreeMap::new(), BTreeSet::new());
    for vector in VECTORS.iter() {
        let judgement = judge_by(&scheme_of(vector), vector);
        assert_eq!(judgement.valid, vector["valid"].as_bool(), "{judgement:?}\n{vector:#}");
        assert_eq!(judgement.reason.is_none(), judgement.valid == Some(true), "{judgement:?}");
        assert!(vector["source"].is_string() && ids.insert(vector["id"].as_str()), "{vector:#}");
        *counts.entry(vector["provider"].as_str().unwrap()).or_insert(0) += 1;
    }
    let expected = [
        ("adyen", 24),
        ("adyen-platform", 4),
        ("aws-sns", 43),
        ("jira-connect", 10),
        ("jwt", 8),
        ("messagebird", 18),
        ("monday", 7),
        ("netlify", 5),
        ("plaid", 20),
        ("twilio", 39),
        ("vonage", 39),
    ];
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_refused_says_why() {
    let reason = |id: &str| judge_by(&scheme_of(vector(id)), vector(id)).reason.unwrap_or_default();
    for (id, words) in [
        ("twilio-json-no-hash", "the URL has no `bodySHA256`"),
        ("twilio-json-body-tampered", "genuine but the body is another"),
        ("twilio-shared-key-not-allowed", "write algorithm: sha256"),
        ("twilio-form-as-json", "no form"),
        ("adyen-batch-second-forged", "no live secret"),
        ("adyen-no-items", "no items"),
        ("adyen-colon-moved", "holds `:`"),
        ("adyen-no-signature", "no signature: JSON field `additionalData.hmacSignature`"),
        ("aws-sns-downgrade-1", "signed with version `1`, and the scheme takes version 2"),
        ("aws-sns-evil-cert-host", "SigningCertURL is not one of Amazon SNS"),
        ("aws-sns-wrong-topic", "is not one of the scheme's `topics`"),
        ("aws-sns-confirmation-elsewhere", "SubscribeURL is not one of Amazon SNS"),
        ("aws-sns-raw", "raw message delivery is not signed"),
        ("plaid-alg-none", "says alg `none`, and the scheme says ES256"),
        ("plaid-alg-hs256", "says alg `HS256`, and the scheme says ES256"),
        ("plaid-stale", "genuine but 301 s old; 300 s are allowed"),
        ("plaid-future", "genuine but 301 s ahead of this clock"),
        ("plaid-tampered", "genuine but the body is another than the one that `request_body_sha256`"),
        ("plaid-wrong-kid", "no live secret"),
        ("vonage-no-iat", "`iat` is absent"),
        ("vonage-expired", "genuine but ended 6 s ago"),
        ("vonage-not-yet", "genuine but begins in 6 s"),
        ("vonage-crit", "critical extension"),
        ("vonage-claim-twice", "one stands twice"),
        ("messagebird-other-query", "`url_hash` is the hash of another URL"),
        ("messagebird-other-issuer", "its `iss` is not `MessageBird`"),
        ("messagebird-no-exp", "it has no end"),
        ("monday-other-audience", "its `aud` is not `https://www.yourserver.com/endpoint`"),
        ("jira-connect-other-query", "see that `public_url` is the one"),
    ] {
        assert!(reason(id).contains(words), "{id}: {}", reason(id));
    }
}

#[test]
fn a_refusal_holds_neither_a_signature_nor_a_secret() {
    for vector in VECTORS.iter().filter(|vector| vector["valid"] == false) {
        let reason = judge_by(&scheme_of(vector), vector).reason.unwrap();
        assert!(!reason.contains('\n') && reason.len() < 400, "{reason}");
        let secret = vector["secret"].as_str().unwrap();
        assert!(secret.len() < 8 || !reason.contains(&secret[..secret.len().min(40)]), "{reason}");
        let headers = vector["headers"].as_object().unwrap();
        for (_, value) in headers.iter().filter(|(name, _)| !name.ends_with("-Settings")) {
            let value = value.as_str().unwrap();
            let end = value.rsplit('.').next().unwrap();
            assert!(end.len() < 24 || !reason.contains(&end[..20]), "{reason}");
        }
    }
}

#[test]
fn an_event_is_named_by_what_is_signed() {
    let identity = |id: &str| {
        let (sent, scheme) = (Sent::of(id), scheme_of(vector(id)));
        let verified = sent.verify(&scheme).unwrap();
        let mut identities = scheme.identify(&verified, sent.request());
        (identities.len(), identities.remove(0))
    };
    let named = |id: &str| {
        let (_, identity) = identity(id);
        (identity.id, identity.event_type)
    };
    let pair = |id: &str, kind: &str| (id.to_owned(), kind.to_owned());
    assert_eq!(named("adyen-two-items"), pair("7914073381342284:AUTHORISATION", "AUTHORISATION"));
    let (sent, scheme) = (Sent::of("adyen-two-items"), scheme_of(vector("adyen-two-items")));
    let both = scheme.identify(&sent.verify(&scheme).unwrap(), sent.request());
    assert_eq!(both.len(), 2);
    assert_eq!((both[1].id.as_str(), both[1].also.as_deref()), ("7914073381342285:CAPTURE", None));
    let (from, to) = both[1].range.unwrap();
    let element: Value = serde_json::from_slice(&sent.body[from as usize..to as usize]).unwrap();
    assert_eq!(element["NotificationRequestItem"]["eventCode"], "CAPTURE");

    assert_eq!(
        named("aws-sns-subscription"),
        pair("22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", "SubscriptionConfirmation")
    );
    assert_eq!(named("messagebird-good"), pair("93e55006-a0e8-4526-a190-fa5ff00ea116", ""));
    let body = hex::encode(hash::sha256(&Sent::of("plaid-good").body));
    assert_eq!(named("plaid-good"), (format!("1790000000:{body}"), "SYNC_UPDATES_AVAILABLE".to_owned()));
    assert!(named("netlify-good").0.starts_with("sha256:"));
    assert_eq!(named("monday-good"), pair("b5ed2e17c530f43668de130142445cba", "create_pulse"));
    // Neither Twilio's token nor the body of monday and Jira is signed: what is signed names the event too.
    assert!(identity("twilio-shared-key").1.also.unwrap().starts_with("signed:"));
    assert!(identity("monday-good").1.also.unwrap().starts_with("signed:"));
    let scheme = scheme_of(vector("monday-good"));
    let (mut first, mut second) = (Sent::of("monday-good"), Sent::of("monday-good"));
    second.body = br#"{"event":{"type":"create_pulse","triggerUuid":"other"}}"#.to_vec();
    let also = |sent: &mut Sent| {
        let verified = sent.verify(&scheme).unwrap();
        scheme.identify(&verified, sent.request()).remove(0).also
    };
    assert_eq!(also(&mut first), also(&mut second), "one token is one event");
}

#[test]
fn a_jti_that_is_no_name_becomes_its_hash() {
    let scheme = scheme_of(vector("vonage-good"));
    let id = |jti: Value| {
        let mut claims = json!({"iat": NOW.0 / 1000, "payload_hash": hex::encode(hash::sha256(b""))});
        claims["jti"] = jti;
        let mut sent = Sent::of("vonage-good");
        sent.body.clear();
        sent.set("authorization", &format!("Bearer {}", hs256(&claims, sent.secret.as_bytes())));
        scheme.identify(&sent.verify(&scheme).unwrap(), sent.request()).remove(0).id
    };
    assert_eq!(id(json!("a")), "a");
    assert_eq!(id(json!(7)), "7");
    assert!(id(json!("a".repeat(EVENT_ID_BYTES_MAX + 1))).starts_with("sha256:"));
    assert!(id(json!("a\nb")).starts_with("sha256:"));
    // No name at all: the body's hash.
    for none in [json!(""), json!(null), json!({}), json!(1.5)] {
        assert!(id(none).starts_with("sha256:e3b0c442"));
    }
}

#[test]
fn the_time_and_the_secret_are_recorded() {
    for (id, seconds) in [
        ("plaid-good", 1_790_000_000),
        ("aws-sns-notification", 1_790_000_000),
        ("messagebird-good", 1_790_000_000),
    ] {
        let (sent, scheme) = (Sent::of(id), scheme_of(vector(id)));
        let verified = sent.verify(&scheme).unwrap();
        assert_eq!(verified.signed_at(), Some(Millis::from_seconds(seconds)), "{id}");
        assert_eq!(verified.secret(), Secret::new(sent.secret.as_str()).fingerprint(), "{id}");
    }
    let sent = Sent::of("twilio-json");
    assert_eq!(sent.verify(&scheme_of(vector("twilio-json"))).unwrap().signed_at(), None);
}

#[test]
fn every_live_key_is_tried_and_no_ended_one() {
    for id in ["twilio-shared-key", "adyen-one", "aws-sns-notification", "plaid-good", "vonage-good"] {
        let (sent, scheme) = (Sent::of(id), scheme_of(vector(id)));
        let other = match id {
            "adyen-one" => "00".repeat(32),
            "aws-sns-notification" => Sent::of("aws-sns-other-certificate").secret,
            "plaid-good" => Sent::of("plaid-pem").secret.clone(),
            _ => "another secret".to_owned(),
        };
        let key = |secret: &str, ends| scheme.key(&Secret::new(secret), ends).unwrap();
        let keys = [key(&other, None), key(&sent.secret, Some(sent.now))];
        let verified = scheme.verify(sent.request(), &keys, sent.now);
        assert!(verified.is_ok(), "{id}");
        let after = Millis(sent.now.0 + 1);
        let tried = match scheme.verify(sent.request(), &keys[1..], after) {
            Err(Refused::Mismatch { tried }) => tried,
            found => panic!("{id}: {found:?}"),
        };
        assert_eq!(tried, 0, "{id}");
        assert_eq!(scheme.verify(sent.request(), &[], sent.now).unwrap_err(), Refused::Mismatch { tried: 0 });
    }
    // A key of another scheme proves nothing.
    let (sent, scheme) = (Sent::of("twilio-form-dup-params"), scheme_of(vector("twilio-form-dup-params")));
    let foreign = scheme_of(vector("vonage-good")).key(&Secret::new(sent.secret.as_str()), None).unwrap();
    assert_eq!(
        scheme.verify(sent.request(), &[foreign], sent.now).unwrap_err(),
        Refused::Mismatch { tried: 1 }
    );
}

#[test]
fn a_token_that_is_bound_to_no_body_is_not_stored() {
    let carries =
        |id: &str, name: &'static str| scheme_of(vector(id)).carries_secret(&HeaderName::from_static(name));
    assert!(carries("jira-connect-good", "authorization"));
    assert!(!carries("jira-connect-good", "x-other"));
    assert!(!carries("plaid-good", "plaid-verification"));
    assert!(!carries("twilio-json", "x-twilio-signature"));
}

// === bounds ===

#[test]
fn a_notification_has_so_many_items() {
    let scheme = scheme_of(vector("adyen-one"));
    let one: Value = serde_json::from_slice(&Sent::of("adyen-one").body).unwrap();
    let with = |count: usize| {
        let mut sent = Sent::of("adyen-one");
        let items = vec![one["notificationItems"][0].clone(); count];
        sent.body = json!({"notificationItems": items}).to_string().into_bytes();
        sent.verify(&scheme)
    };
    assert!(with(SIGNED_ITEMS_MAX).is_ok());
    assert!(matches!(with(SIGNED_ITEMS_MAX + 1), Err(Refused::Malformed(_))));
}

#[test]
fn a_token_has_so_many_bytes_and_so_has_the_name_of_a_key() {
    let (mut sent, scheme) = (Sent::of("vonage-good"), scheme_of(vector("vonage-good")));
    let good = sent.headers["authorization"].to_str().unwrap().len() - "Bearer ".len();
    assert!(good < JWT_BYTES_MAX);
    sent.set("authorization", &format!("Bearer {}", "a".repeat(JWT_BYTES_MAX + 1)));
    assert!(sent.verify(&scheme).unwrap_err().to_string().contains("longer than"));
    let pair = pair();
    for (kid, is_good) in [("k".repeat(KEY_ID_BYTES_MAX), true), ("k".repeat(KEY_ID_BYTES_MAX + 1), false)] {
        let mut sent = Sent::of("plaid-good");
        sent.set(
            "plaid-verification",
            &es256(&pair, &json!({"alg": "ES256", "kid": kid}), &plaid_claims(&sent.body)),
        );
        let wanted = plaid().wants(sent.request());
        assert_eq!(wanted.is_ok(), is_good, "{wanted:?}");
    }
}

#[test]
fn topics_are_so_many() {
    let topics = |count: usize| {
        let topics: Vec<String> =
            (0..count).map(|n| format!("arn:aws:sns:us-west-2:123456789012:t{n}")).collect();
        problems(json!({"type": "aws-sns", "topics": topics}))
    };
    assert!(topics(TOPICS_MAX).is_empty());
    assert_eq!(topics(TOPICS_MAX + 1).len(), 1);
    assert_eq!(topics(0).len(), 1);
}

// === what an operator writes ===

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_mistake_is_named_with_what_to_type() {
    let jwt = |change: Value| {
        let mut spec = json!({
            "type": "jwt", "algorithm": "hs256", "signature": {"from": "header:X-Token"},
            "timestamp": {"tolerance": "300s"}, "claims": {"body": "hash"},
        });
        for (key, value) in change.as_object().unwrap() {
            match value {
                Value::Null => drop(spec.as_object_mut().unwrap().shift_remove(key)),
                value => spec[key] = value.clone(),
            }
        }
        spec
    };
    assert!(problems(jwt(json!({}))).is_empty());
    for (spec, expected) in [
        (
            json!({"type": "twilio", "algorithm": "sha512"}),
            "scheme.algorithm: `sha512` is not known here; write sha1",
        ),
        (json!({"type": "twilio", "signed": "{body}"}), "scheme.signed: it has no meaning with type: twilio"),
        (json!({"type": "twilio", "topics": ["a"]}), "scheme.topics: it has no meaning with type: twilio"),
        (
            json!({"type": "adyen", "algorithm": "sha1"}),
            "scheme.algorithm: it has no meaning with type: adyen",
        ),
        (json!({"type": "adyen", "secret": {"decode": "hex"}}), "scheme.secret.decode: it has no meaning"),
        (
            json!({"type": "aws-sns", "signature_version": 3}),
            "scheme.signature_version: SNS has versions 1 and 2",
        ),
        (
            json!({"type": "aws-sns", "topics": ["MyTopic"]}),
            "scheme.topics.0: `MyTopic` is not the ARN of a topic",
        ),
        (
            json!({"type": "plaid", "environment": "dev"}),
            "scheme.environment: `dev` is not known here; write production",
        ),
        (
            json!({"type": "plaid", "timestamp": {"tolerance": "none"}}),
            "scheme.timestamp.tolerance: `none` is not a span",
        ),
        (
            json!({"type": "plaid", "claims": {"body": "x"}}),
            "scheme.claims: it has no meaning with type: plaid",
        ),
        (
            json!({"type": "plaid", "jwks": "https://a.example/"}),
            "scheme.jwks: it has no meaning with type: plaid",
        ),
        (
            json!({"type": "token", "signature": {"from": "header:X"}, "jwks": "x"}),
            "scheme.jwks: it has no meaning with type: token",
        ),
        (jwt(json!({"algorithm": null})), "scheme.algorithm: it is missing; write hs256, rs256 or es256"),
        (jwt(json!({"algorithm": "none"})), "scheme.algorithm: `none` is not known here; write hs256"),
        (jwt(json!({"algorithm": "sha256"})), "scheme.algorithm: `sha256` is not known here; write hs256"),
        (jwt(json!({"signature": null})), "scheme.signature.from: where is the token?"),
        (
            jwt(json!({"signature": {"from": ["header:A", "header:B"]}})),
            "scheme.signature.from: where is the token?",
        ),
        (
            jwt(json!({"signature": {"from": "query:t"}})),
            "scheme.signature.from: a token travels in a header",
        ),
        (
            jwt(json!({"signature": {"from": "header:A", "prefix": "x"}})),
            "scheme.signature.prefix: it has no meaning without",
        ),
        (
            jwt(json!({"signature": {"from": "header:A", "format": "prefixed"}})),
            "scheme.signature.prefix: it is missing",
        ),
        (
            jwt(json!({"signature": {"from": "header:A", "format": "list"}})),
            "scheme.signature.format: a token is sent alone",
        ),
        (
            jwt(json!({"signature": {"from": "header:A", "encoding": "hex"}})),
            "scheme.signature.encoding: it has no meaning",
        ),
        (jwt(json!({"timestamp": null})), "scheme.timestamp.tolerance: how old may `iat` be?"),
        (
            jwt(json!({"timestamp": {"tolerance": "5"}})),
            "scheme.timestamp.tolerance: `5` is not a span of time",
        ),
        (
            jwt(json!({"timestamp": {"tolerance": "none", "future": "1s"}})),
            "scheme.timestamp.future: it has no meaning",
        ),
        (
            jwt(json!({"timestamp": {"tolerance": "1s", "unit": "s"}})),
            "scheme.timestamp.unit: it has no meaning",
        ),
        (jwt(json!({"claims": null})), "scheme.claims.body: the token does not name the body"),
        (
            jwt(json!({"body_signed": true, "claims": null})),
            "scheme.claims.body: the token does not name the body",
        ),
        (jwt(json!({"body_signed": false})), "scheme.body_signed: claims.body names the body's hash"),
        (jwt(json!({"claims": {"body": "h", "body_encoding": "md5"}})), "scheme.claims.body_encoding: `md5`"),
        (
            jwt(json!({"claims": {"body": "h", "leeway": "soon"}})),
            "scheme.claims.leeway: `soon` is not a span",
        ),
        (
            jwt(json!({"claims": {"body": "h", "url_of": "url"}})),
            "scheme.claims.url_of: it has no meaning without",
        ),
        (jwt(json!({"claims": {"body": "h", "url": "u", "url_of": "path"}})), "scheme.claims.url_of: `path`"),
        (
            jwt(json!({"claims": {"body": "h", "url": "u", "url_base": "/a"}})),
            "scheme.claims.url_base: it has no meaning",
        ),
        (
            jwt(json!({"claims": {"body": "h", "url": "u", "url_of": "atlassian", "url_base": "a/"}})),
            "scheme.claims.url_base: the path",
        ),
        (jwt(json!({"jwks": "https://a.example/"})), "scheme.jwks: a key of hs256 is a secret"),
        (
            jwt(json!({"algorithm": "es256", "jwks": "http://a.example/"})),
            "scheme.jwks: it is not a URL with https",
        ),
        (
            jwt(json!({"algorithm": "es256", "jwks": "https://me:pw@a.example/"})),
            "scheme.jwks: it is not a URL",
        ),
    ] {
        let found = problems(spec.clone());
        assert_eq!(found.len(), 1, "{spec}: {found:?}");
        assert!(found[0].starts_with(expected), "{spec}: {found:?}");
    }
    let unknown = serde_json::from_value::<Spec>(json!({"claims": {"bodi": "x"}})).unwrap_err().to_string();
    assert!(unknown.contains("unknown field"), "{unknown}");
}

#[test]
fn what_a_scheme_lacks_and_what_is_weak_is_told() {
    let lacks = |spec: Value| {
        let spec: Spec = serde_json::from_value(spec).unwrap();
        compiled(&spec, &EventSpec::default()).lacks().map(|(key, _)| key)
    };
    assert_eq!(lacks(json!({"type": "aws-sns"})), Some("scheme.topics"));
    assert_eq!(lacks(json!({"type": "aws-sns", "topics": "arn:aws:sns:us-west-2:123456789012:t"})), None);
    assert_eq!(lacks(json!({"type": "twilio"})), None);
    for (name, notes, needs_url, fetches) in [
        ("twilio", 0, true, None),
        ("adyen", 1, false, None),
        ("aws-sns", 0, false, Some(&[][..])),
        ("plaid", 0, false, Some(&["client_id", "secret"][..])),
        ("messagebird", 0, true, None),
        ("vonage", 0, false, None),
        ("netlify", 1, false, None),
        ("monday", 1, true, None),
        ("jira-connect", 1, true, None),
    ] {
        let preset = preset(name).unwrap();
        let scheme = compiled(&preset.scheme, &preset.event);
        assert_eq!(scheme.notes().len(), notes, "{name}: {:?}", scheme.notes());
        assert_eq!(scheme.needs_url(), needs_url, "{name}");
        assert_eq!(scheme.fetches_keys(), fetches, "{name}");
        assert!(!scheme.proves_nothing(), "{name}");
    }
    let old: Spec = serde_json::from_value(json!({"type": "aws-sns", "signature_version": 1})).unwrap();
    assert!(compiled(&old, &EventSpec::default()).notes()[0].contains("SHA-1"));
    assert_eq!(plaid().tolerance(), Some((Duration::from_secs(300), Duration::from_secs(300))));
}

#[test]
fn what_is_signed_here_is_accepted() {
    for (name, body) in [
        ("twilio", "a=b&c=d"),
        ("messagebird", "{}"),
        ("vonage", ""),
        ("netlify", "x"),
        ("monday", "{}"),
        ("jira-connect", "{}"),
    ] {
        let preset = preset(name).unwrap();
        let scheme = compiled(&preset.scheme, &preset.event);
        let (url, secret) = ("https://hooks.example.com/a?b=1", Secret::new("a secret of sixteen"));
        let lines = scheme.sign(&secret, "evt_1", "t", body.as_bytes(), url, NOW).unwrap();
        let mut headers = HeaderMap::new();
        for (header, value) in &lines.headers {
            headers.append(
                HeaderName::from_bytes(header.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let request =
            Request { method: "POST", url, query: Some("b=1"), headers: &headers, body: body.as_bytes() };
        let keys = [scheme.key(&secret, None).unwrap()];
        assert!(
            scheme.verify(request, &keys, NOW).is_ok(),
            "{name}: {:?}",
            scheme.verify(request, &keys, NOW)
        );
    }
    let sign = |name: &str, secret: &str, body: &str| {
        let preset = preset(name).unwrap();
        compiled(&preset.scheme, &preset.event).sign(
            &Secret::new(secret),
            "",
            "",
            body.as_bytes(),
            "https://a.example",
            NOW,
        )
    };
    assert!(sign("adyen", "00ff", "{}").unwrap_err().contains("inside the body"));
    assert!(sign("twilio", "s", "{}").unwrap_err().contains("bodySHA256"));
    assert!(sign("plaid", &Sent::of("plaid-good").secret, "{}").unwrap_err().contains("private key"));
    assert!(sign("aws-sns", &Sent::of("aws-sns-v2").secret, "{}").unwrap_err().contains("private key"));
}

// === keys by URL ===

fn plaid() -> Scheme {
    let preset = preset("plaid").unwrap();
    compiled(&preset.scheme, &preset.event)
}

fn by_set() -> Scheme {
    let spec = json!({
        "type": "jwt", "algorithm": "es256", "signature": {"from": "header:X-Token"}, "timestamp": {"tolerance": "60s"},
        "claims": {"body": "request_body_sha256"}, "jwks": "https://auth.example.com/jwks.json",
    });
    compiled(&serde_json::from_value(spec).unwrap(), &EventSpec::default())
}

fn pair() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap()
}

fn jwk(pair: &EcdsaKeyPair, kid: &str) -> Value {
    let point = pair.public_key().as_ref();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
    json!({"alg": "ES256", "crv": "P-256", "expired_at": null, "kid": kid, "kty": "EC", "use": "sig", "x": x, "y": y})
}

fn es256(pair: &EcdsaKeyPair, header: &Value, claims: &Value) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

fn hs256(claims: &Value, secret: &[u8]) -> String {
    let header = json!({"alg": "HS256"}).to_string();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mac = hash::mac(&hash::hmac_sha256(secret), &[signed.as_bytes()]);
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
}

fn plaid_claims(body: &[u8]) -> Value {
    json!({"iat": NOW.0 / 1000, "request_body_sha256": hex::encode(hash::sha256(body))})
}

/// Why an answer holds no key; None: it holds one.
fn learnt(scheme: &Scheme, wanted: &Wanted, status: u16, body: &Value) -> Option<NoKey> {
    scheme.learn(wanted, status, body.to_string().as_bytes(), NOW).err()
}

#[test]
fn plaids_key_is_asked_for_with_credentials_and_proves_its_request() {
    let (pair, scheme) = (pair(), plaid());
    let mut sent = Sent::of("plaid-good");
    let header = json!({"alg": "ES256", "kid": "key-1"});
    sent.set("plaid-verification", &es256(&pair, &header, &plaid_claims(&sent.body)));
    let wanted = scheme.wants(sent.request()).unwrap().unwrap();
    assert_eq!(wanted.url, "https://production.plaid.com/webhook_verification_key/get");
    assert_eq!((wanted.key_id.as_str(), wanted.lifetime), ("key-1", KEY_LIFETIME));

    let credentials: BTreeMap<String, Secret> =
        [("client_id", "id"), ("secret", "s\"ecret")].map(|(k, v)| (k.to_owned(), Secret::new(v))).into();
    let ask = scheme.ask(&wanted, &credentials).unwrap();
    assert_eq!(ask.url, wanted.url);
    let asked: Value = serde_json::from_slice(&ask.json.unwrap()).unwrap();
    assert_eq!(asked, json!({"client_id": "id", "secret": "s\"ecret", "key_id": "key-1"}));
    assert!(scheme.ask(&wanted, &BTreeMap::new()).unwrap_err().contains("`client_id`"));

    let answer = json!({"key": jwk(&pair, "key-1"), "request_id": "r"});
    let key = scheme.learn(&wanted, 200, answer.to_string().as_bytes(), NOW).unwrap();
    assert!(scheme.verify(sent.request(), &[key], NOW).is_ok());
    let sandbox: Spec = serde_json::from_value(json!({"type": "plaid", "environment": "sandbox"})).unwrap();
    let wanted = compiled(&sandbox, &EventSpec::default()).wants(sent.request()).unwrap().unwrap();
    assert_eq!(wanted.url, "https://sandbox.plaid.com/webhook_verification_key/get");
}

#[test]
fn what_plaid_answers_is_no_key_until_it_is_one() {
    let (pair, scheme) = (pair(), plaid());
    let wanted = Wanted { url: "u".into(), key_id: "key-1".into(), lifetime: KEY_LIFETIME };
    let with = |change: &dyn Fn(&mut Value)| {
        let mut key = jwk(&pair, "key-1");
        change(&mut key);
        learnt(&scheme, &wanted, 200, &json!({"key": key}))
    };
    assert_eq!(with(&|_| {}), None);
    let unknown = |found: Option<NoKey>| matches!(found, Some(NoKey::Unknown(_)));
    let unavailable = |found: Option<NoKey>| matches!(found, Some(NoKey::Unavailable(_)));
    assert!(unknown(with(&|key| key["expired_at"] = json!(NOW.0 / 1000))));
    assert_eq!(with(&|key| key["expired_at"] = json!(NOW.0 / 1000 + 1)), None);
    assert!(unavailable(with(&|key| key["kid"] = json!("key-2"))));
    assert!(unavailable(with(&|key| key["alg"] = json!("RS256"))));
    assert!(unavailable(with(&|key| key["crv"] = json!("P-384"))));
    let no_such = json!({"error_code": "INVALID_WEBHOOK_VERIFICATION_KEY_ID"});
    assert!(unknown(learnt(&scheme, &wanted, 400, &no_such)));
    for (status, body) in [
        (400, json!({"error_code": "INVALID_API_KEYS"})),
        (404, no_such.clone()),
        (401, json!({})),
        (500, json!("")),
        (301, json!({})),
        (200, json!({})),
        (200, json!([])),
        (200, json!({"key": []})),
    ] {
        assert!(unavailable(learnt(&scheme, &wanted, status, &body)), "{status} {body}");
    }
    assert!(scheme.learn(&wanted, 200, b"<html>", NOW).is_err());
    assert!(scheme.learn(&wanted, 200, br#"{"key":{},"key":{}}"#, NOW).is_err());
}

#[test]
fn a_key_that_ends_while_it_is_remembered_is_not_used_any_longer() {
    let (pair, scheme) = (pair(), plaid());
    let wanted = Wanted { url: "u".into(), key_id: "key-1".into(), lifetime: KEY_LIFETIME };
    let mut answer = jwk(&pair, "key-1");
    answer["expired_at"] = json!(NOW.0 / 1000 + 100);
    let key = scheme.learn(&wanted, 200, json!({"key": answer}).to_string().as_bytes(), NOW).unwrap();
    let mut sent = Sent::of("plaid-good");
    let header = json!({"alg": "ES256", "kid": "key-1"});
    sent.set("plaid-verification", &es256(&pair, &header, &plaid_claims(&sent.body)));
    let keys: [Key; 1] = [key];
    assert!(scheme.verify(sent.request(), &keys, NOW.plus(Duration::from_secs(100))).is_ok());
    let after = scheme.verify(sent.request(), &keys, NOW.plus(Duration::from_secs(101)));
    assert_eq!(after.unwrap_err(), Refused::Mismatch { tried: 0 });
}

#[test]
fn nobody_is_asked_about_what_can_be_refused_at_once() {
    let scheme = plaid();
    for id in ["plaid-alg-none", "plaid-alg-hs256", "plaid-no-header", "plaid-kid-number"] {
        assert!(scheme.wants(Sent::of(id).request()).is_err(), "{id}");
    }
    let mut sent = Sent::of("plaid-good");
    sent.set("plaid-verification", &es256(&pair(), &json!({"alg": "ES256"}), &json!({})));
    assert!(scheme.wants(sent.request()).unwrap_err().to_string().contains("no `kid`"));
    for id in [
        "aws-sns-evil-cert-host",
        "aws-sns-wrong-topic",
        "aws-sns-downgrade-1",
        "aws-sns-raw",
        "aws-sns-evil-cert-6",
    ] {
        assert!(scheme_of(vector(id)).wants(Sent::of(id).request()).is_err(), "{id}");
    }
    for id in ["twilio-json", "adyen-one", "vonage-good"] {
        assert_eq!(scheme_of(vector(id)).wants(Sent::of(id).request()), Ok(None), "{id}");
    }
}

#[test]
fn a_key_of_a_set_is_found_by_its_name() {
    let (pair, scheme) = (pair(), by_set());
    let mut sent = Sent::of("plaid-good");
    sent.set("x-token", &es256(&pair, &json!({"alg": "ES256", "kid": "b"}), &plaid_claims(&sent.body)));
    let wanted = scheme.wants(sent.request()).unwrap().unwrap();
    assert_eq!(wanted.url, "https://auth.example.com/jwks.json");
    let ask = scheme.ask(&wanted, &BTreeMap::new()).unwrap();
    assert_eq!((ask.url.as_str(), ask.json), (wanted.url.as_str(), None));
    let set = |kids: &[&str]| {
        let keys: Vec<Value> = kids.iter().map(|kid| jwk(&pair, kid)).collect();
        json!({"keys": keys})
    };
    let key = scheme.learn(&wanted, 200, set(&["a", "b"]).to_string().as_bytes(), NOW).unwrap();
    assert!(scheme.verify(sent.request(), &[key], NOW).is_ok());
    assert!(matches!(learnt(&scheme, &wanted, 200, &set(&["a"])), Some(NoKey::Unknown(_))));
    assert!(matches!(learnt(&scheme, &wanted, 200, &set(&["b", "b"])), Some(NoKey::Unavailable(_))));
    assert!(matches!(learnt(&scheme, &wanted, 404, &set(&["b"])), Some(NoKey::Unavailable(_))));
    let mut many: Vec<String> = (1..KEYS_OF_A_SET_MAX).map(|n| format!("k{n}")).collect();
    many.push("b".to_owned());
    let kids: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(learnt(&scheme, &wanted, 200, &set(&kids)), None);
    assert!(learnt(&scheme, &wanted, 200, &set(&[&kids[..], &["z"]].concat())).is_some());
}

#[test]
fn a_certificate_is_learnt_and_proves_its_message() {
    let id = "aws-sns-notification";
    let (sent, scheme) = (Sent::of(id), scheme_of(vector(id)));
    let wanted = scheme.wants(sent.request()).unwrap().unwrap();
    assert_eq!(
        wanted.url,
        "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem"
    );
    assert_eq!(scheme.ask(&wanted, &BTreeMap::new()).unwrap().json, None);
    let learn = |status: u16, body: &[u8], now: Millis| scheme.learn(&wanted, status, body, now);
    let key = learn(200, sent.secret.as_bytes(), sent.now).unwrap();
    assert!(scheme.verify(sent.request(), &[key], sent.now).is_ok());

    let why = |found: Result<Key, NoKey>| match found {
        Ok(_) => "learnt",
        Err(NoKey::Unknown(_)) => "unknown",
        Err(NoKey::Unavailable(_)) => "unavailable",
    };
    for (status, expected) in
        [(403, "unknown"), (404, "unknown"), (500, "unavailable"), (302, "unavailable"), (204, "unavailable")]
    {
        assert_eq!(why(learn(status, sent.secret.as_bytes(), sent.now)), expected, "{status}");
    }
    // It is good from 2026 to 2036.
    let year = |year: u64| Millis::from_seconds((year - 1970) * 31_556_952);
    assert_eq!(why(learn(200, sent.secret.as_bytes(), year(2025))), "unknown");
    assert_eq!(why(learn(200, sent.secret.as_bytes(), year(2037))), "unknown");
    let key = learn(200, sent.secret.as_bytes(), sent.now).unwrap();
    assert!(matches!(scheme.verify(sent.request(), &[key], year(2037)), Err(Refused::Mismatch { tried: 0 })));
    let public = Sent::of("aws-sns-public-key").secret;
    for body in [
        &b""[..],
        b"<html>",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        public.as_bytes(),
    ] {
        assert_eq!(why(learn(200, body, sent.now)), "unavailable");
    }
}

#[test]
fn only_a_confirmation_of_a_subscription_is_followed() {
    let followed = |id: &str| {
        let (sent, scheme) = (Sent::of(id), scheme_of(vector(id)));
        let verified = sent.verify(&scheme).unwrap();
        scheme.follow(&verified, sent.request())
    };
    let ask = followed("aws-sns-subscription").unwrap();
    assert!(ask.url.starts_with(
        "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:"
    ));
    assert_eq!(ask.json, None);
    for id in ["aws-sns-notification", "aws-sns-unsubscribe", "plaid-good", "twilio-json"] {
        assert_eq!(followed(id), None, "{id}");
    }
}

// === properties ===

fn good() -> Vec<&'static Value> {
    VECTORS.iter().filter(|vector| vector["valid"] == true).collect()
}

/// Whether the body is signed at every byte: not Adyen's, of which eight fields are, nor that of a bare token.
fn signs_every_byte(vector: &Value) -> bool {
    !["adyen", "monday", "jira-connect", "aws-sns"].contains(&vector["provider"].as_str().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_flipped_bit_of_a_body_is_accepted(which in any::<usize>(), at in any::<usize>(), bit in 0_u32..8) {
        let vectors: Vec<_> = good().into_iter().filter(|vector| signs_every_byte(vector)).collect();
        let vector = vectors[which % vectors.len()];
        let (mut sent, scheme) = (Sent::of(vector["id"].as_str().unwrap()), scheme_of(vector));
        if sent.body.is_empty() {
            sent.body.push(b'x');
        } else {
            let at = at % sent.body.len();
            let before = sent.body[at];
            sent.body[at] ^= 1 << bit;
            // The two spellings of a space, and a digit of `%2b`, in a form: what is signed is what it decodes to.
            let is_form = vector["provider"] == "twilio";
            let after = sent.body[at];
            prop_assume!(!(is_form && (before.eq_ignore_ascii_case(&after) || after == b'+' || after == b'&' || before == b'&' || before == b'=' || after == b'=')));
        }
        prop_assert!(sent.verify(&scheme).is_err(), "{}", vector["id"]);
    }

    #[test]
    fn no_flipped_character_of_a_header_is_accepted(which in any::<usize>(), at in any::<usize>(), with in 1_u8..=127) {
        let names = ["x-twilio-signature", "plaid-verification", "authorization", "messagebird-signature-jwt", "x-webhook-signature", "x-token"];
        let vectors = good();
        let vector = vectors[which % vectors.len()];
        let (mut sent, scheme) = (Sent::of(vector["id"].as_str().unwrap()), scheme_of(vector));
        let Some(name) = names.into_iter().find(|name| sent.headers.contains_key(*name)) else { return Ok(()) };
        let mut value = sent.headers[name].as_bytes().to_vec();
        let at = at % value.len();
        value[at] ^= with;
        let Ok(flipped) = HeaderValue::from_bytes(&value) else { return Ok(()) };
        sent.headers.insert(name, flipped);
        prop_assert!(sent.verify(&scheme).is_err(), "{} at {at}", vector["id"]);
    }

    #[test]
    fn no_flipped_bit_of_a_signature_in_a_body_is_accepted(which in any::<usize>(), at in any::<usize>(), bit in 0_u32..7) {
        let vectors: Vec<_> = good().into_iter().filter(|v| v["provider"] == "adyen" || v["provider"] == "aws-sns").collect();
        let vector = vectors[which % vectors.len()];
        let (mut sent, scheme) = (Sent::of(vector["id"].as_str().unwrap()), scheme_of(vector));
        let text = String::from_utf8(sent.body.clone()).unwrap();
        let mark = if vector["provider"] == "adyen" { "\"hmacSignature\": \"" } else { "\"Signature\": \"" };
        let start = text.find(mark).unwrap() + mark.len();
        let len = text[start..].find('"').unwrap();
        sent.body[start + at % len] ^= 1 << bit;
        prop_assert!(sent.verify(&scheme).is_err(), "{}", vector["id"]);
    }

    #[test]
    fn no_bytes_panic(
        which in any::<usize>(),
        body in proptest::collection::vec(any::<u8>(), 0..200),
        value in "[ -~]{0,120}",
        status in 0_u16..600,
    ) {
        let vector = &VECTORS[which % VECTORS.len()];
        let (mut sent, scheme) = (Sent::of(vector["id"].as_str().unwrap()), scheme_of(vector));
        let names: Vec<HeaderName> = sent.headers.keys().cloned().collect();
        for name in names {
            sent.headers.insert(name, HeaderValue::from_str(&value).unwrap());
        }
        let wanted = Wanted { url: value.clone(), key_id: value.clone(), lifetime: KEY_LIFETIME };
        let _ = scheme.learn(&wanted, status, &body, NOW);
        let _ = scheme.wants(sent.request());
        sent.body = body;
        let _ = scheme.wants(sent.request());
        if let Ok(key) = scheme.key(&Secret::new(sent.secret.as_str()), None) {
            let _ = scheme.verify(sent.request(), &[key], NOW);
        }
        let _ = scheme.key(&Secret::new(value), None);
    }

    /// Near enough to a token to get past its first check.
    #[test]
    fn no_token_panics(header in "[{}\":,a-zA-Z0-9\\[\\]]{0,40}", payload in "[{}\":,a-z0-9\\[\\]]{0,60}") {
        let mut sent = Sent::of("vonage-good");
        let header = format!("{{\"alg\":\"HS256\"{header}}}");
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&payload));
        let mac = hash::mac(&hash::hmac_sha256(sent.secret.as_bytes()), &[signed.as_bytes()]);
        sent.set("authorization", &format!("Bearer {signed}.{}", URL_SAFE_NO_PAD.encode(mac)));
        prop_assert!(sent.verify(&scheme_of(vector("vonage-good"))).is_err());
    }
}
