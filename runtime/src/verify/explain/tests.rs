//! Whole explanations: a request with each known mistake, and what must never be in any of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use super::*;
use crate::verify::spec::Texts;
use crate::verify::{preset, preset_names};

const NOW: Millis = Millis(1_790_000_000_000);
const STAMP: &str = "1790000000";
/// Text, and base64 behind its prefix: every reading of it gives another key.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const BODY: &str = r#"{"id":"evt_1","type":"a.b","url":"https://a/b","name":"Zoë","n":[1,2]}"#;

// === cases ===

/// A case whose parts a test changes.
#[derive(Clone)]
struct Scene {
    spec: Value,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    url: String,
    query: Option<String>,
    seen_url: Option<String>,
    secrets: Vec<KnownSecret>,
    others: Vec<KnownSecret>,
    now: Millis,
}

fn known(name: &str, secret: &str) -> KnownSecret {
    KnownSecret { name: name.to_owned(), secret: Secret::new(secret), ends: None }
}

impl Scene {
    /// `t=…,v1=…` in hex over `{timestamp}.{body}`, the secret as it is written.
    fn new() -> Scene {
        Scene {
            spec: json!({
                "type": "hmac", "algorithm": "sha256", "signed": "{timestamp}.{body}",
                "signature": {
                    "from": "header:Acme-Signature", "format": "fields", "separator": ",", "assign": "=", "key": "v1",
                    "encoding": "hex",
                },
                "timestamp": {"from": "field:t", "unit": "s", "tolerance": "300s"},
            }),
            headers: Vec::new(),
            body: BODY.as_bytes().to_vec(),
            url: "https://hooks.example.com/acme".to_owned(),
            query: None,
            seen_url: None,
            secrets: vec![known("env:ACME", SECRET)],
            others: Vec::new(),
            now: NOW,
        }
        .signed(SECRET.as_bytes(), BODY.as_bytes())
    }

    /// With another value at a place of the spec: `signature.encoding`.
    fn with(mut self, key: &str, value: Value) -> Scene {
        let mut at = &mut self.spec;
        for part in key.split('.') {
            at = &mut at[part];
        }
        *at = value;
        self
    }

    fn headers(mut self, headers: &[(&str, &str)]) -> Scene {
        self.headers =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self
    }

    /// The header that a sender with this key makes of this body.
    fn signed(self, key: &[u8], body: &[u8]) -> Scene {
        let mac = hex::encode(sha256(key, &[STAMP.as_bytes(), b".", body]));
        self.headers(&[("Acme-Signature", &format!("t={STAMP},v1={mac}"))])
    }

    fn body(mut self, body: &str) -> Scene {
        self.body = body.as_bytes().to_vec();
        self
    }

    fn explain(&self) -> Explanation {
        let spec: Spec = serde_json::from_value(self.spec.clone()).unwrap();
        let event = EventSpec { id: Some(Texts(vec!["json:id".into()])), ..EventSpec::default() };
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let request = Request {
            method: "POST",
            url: &self.url,
            query: self.query.as_deref(),
            headers: &headers,
            body: &self.body,
        };
        let case = Case {
            spec: &spec,
            event: &event,
            request,
            secrets: &self.secrets,
            others: &self.others,
            seen_url: self.seen_url.as_deref(),
            now: self.now,
        };
        explain(&case).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    /// What differs, in one line, and what to write.
    fn differs(&self) -> (String, String) {
        let explanation = self.explain();
        assert!(matches!(explanation.verdict, Verdict::Refused { .. }), "{:?}", explanation.verdict);
        let difference =
            explanation.difference.unwrap_or_else(|| panic!("nothing was found: {:#?}", explanation.steps));
        let says: Vec<_> = difference.changes.iter().map(|change| change.says.clone()).collect();
        let write: Vec<_> = difference.changes.iter().filter_map(|change| change.write.clone()).collect();
        (says.join(" & "), write.join(" & "))
    }
}

fn sha256(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn of_hash<M: hmac::Mac + hmac::KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = <M as hmac::KeyInit>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn lines(explanation: &Explanation, step: &str) -> Vec<String> {
    let steps = explanation.steps.iter().filter(|found| found.step == step);
    steps.flat_map(|step| step.lines.iter().map(|line| line.text.clone())).collect()
}

fn bad_lines(explanation: &Explanation) -> Vec<String> {
    let lines = explanation.steps.iter().flat_map(|step| &step.lines);
    lines.filter(|line| line.mark == Mark::Bad).map(|line| line.text.clone()).collect()
}

// === what is genuine ===

#[test]
fn a_genuine_request_is_told_step_by_step() {
    let explanation = Scene::new().explain();
    let Verdict::Genuine { secret, signed_at, in_time, events, event_id, .. } = &explanation.verdict else {
        panic!("{:?}", explanation.verdict)
    };
    assert_eq!((*secret, *signed_at), (Secret::new(SECRET).fingerprint(), Some(NOW)));
    assert_eq!((*in_time, *events, event_id.as_str()), (true, 1, "evt_1"));
    assert!(explanation.difference.is_none());
    assert_eq!(bad_lines(&explanation), [""; 0]);
    let signature = lines(&explanation, "signature");
    assert_eq!(signature[0], "header `Acme-Signature`: found");
    assert_eq!(signature[1], "  t=1790000000: the timestamp");
    assert!(signature[2].ends_with(": 32 bytes in hex") && signature[2].contains('…'), "{signature:?}");
    assert_eq!(
        lines(&explanation, "timestamp"),
        ["field `t` of the signature: `1790000000` is 2026-09-21T14:13:20.000Z, now"]
    );
    let signed = lines(&explanation, "signed");
    assert_eq!(signed[..3], ["`{timestamp}.{body}`, which is here", "  {timestamp} = `1790000000`", "  `.`"]);
    assert_eq!(signed[3], format!("  {{body}} = the body, {} bytes", BODY.len()));
    assert_eq!(signed[4], format!("    {BODY}"));
    let fingerprint = Secret::new(SECRET).fingerprint();
    assert_eq!(
        lines(&explanation, "secrets"),
        [format!("`env:ACME` ({fingerprint}): taken as it is, 38 bytes; it made the signature")]
    );
    assert_eq!(lines(&explanation, "time"), ["0s back, and 300s are allowed"]);
}

#[test]
fn age_is_judged_by_itself() {
    let late = Scene { now: Millis(NOW.0 + 7_200_000), ..Scene::new() }.explain();
    assert!(matches!(late.verdict, Verdict::Genuine { in_time: false, .. }), "{:?}", late.verdict);
    assert_eq!(
        lines(&late, "time"),
        ["2h 0m back, and 300s are allowed: at the time at which it was signed it would have been accepted"]
    );
    let early = Scene { now: Millis(NOW.0 - 7_200_000), ..Scene::new() }.explain();
    assert!(lines(&early, "time")[0].starts_with("2h 0m ahead"), "{:?}", lines(&early, "time"));
    let any =
        Scene { now: Millis(u64::MAX), ..Scene::new() }.with("timestamp.tolerance", json!("none")).explain();
    assert!(matches!(any.verdict, Verdict::Genuine { in_time: true, .. }), "{:?}", any.verdict);
}

#[test]
fn of_two_secrets_the_one_that_signed_is_told() {
    let mut scene = Scene::new();
    scene.secrets.insert(0, known("env:NEW", "another_secret_0123456789"));
    let secrets = lines(&scene.explain(), "secrets");
    assert!(secrets[0].ends_with("it did not make the signature"), "{secrets:?}");
    assert!(secrets[1].ends_with("it made the signature"), "{secrets:?}");
}

#[test]
fn groups_of_signatures_have_a_time_each() {
    let mac = |stamp: &str, key: &str| {
        hex::encode(sha256(key.as_bytes(), &[stamp.as_bytes(), b".", BODY.as_bytes()]))
    };
    let value = format!(
        "t=1790000001,v1={} t=1790000002,v1={}",
        mac("1790000001", "gone"),
        mac("1790000002", SECRET)
    );
    let explanation =
        Scene::new().with("signature.groups", json!(" ")).headers(&[("Acme-Signature", &value)]).explain();
    let Verdict::Genuine { signed_at, .. } = explanation.verdict else { panic!("{:?}", explanation.verdict) };
    assert_eq!(signed_at, Some(Millis(1_790_000_002_000)));
}

// === what can be seen without a try ===

#[test]
fn what_is_missing_or_odd_is_told_where_it_is_looked_for() {
    let said = |scene: Scene| bad_lines(&scene.explain()).join("\n");
    for (scene, words) in [
        (Scene::new().headers(&[]), "header `Acme-Signature`: it is not there"),
        (Scene::new().headers(&[("Acme-Signature", "")]), "it is empty, which counts as not there"),
        (
            Scene::new().headers(&[("Acme-Signature", "t=1"), ("Acme-Signature", "t=1")]),
            "it is there 2 times, and only a list may be",
        ),
        (Scene::new().headers(&[("Acme-Signature", "t=\u{e9}")]), "it is not plain ASCII"),
        (Scene::new().headers(&[("Acme-Signature", "t=1790000000,v0=00")]), "no signature is among them"),
        (Scene::new().headers(&[("Acme-Signature", "v1=00")]), "field `t` of the signature: it is not there"),
        (
            Scene::new().headers(&[("Acme-Signature", "t=1,t=2,v1=00")]),
            "it is there twice, with different values",
        ),
        (Scene::new().headers(&[("Acme-Signature", "t=+1,v1=00")]), "`+1` is not Unix seconds"),
        (
            Scene::new().headers(&[("Acme-Signature", "t=1790000000123,v1=00")]),
            "it reads as Unix milliseconds: write `timestamp: { unit: ms }`",
        ),
        (
            Scene::new().headers(&[("Acme-Signature", "t=1,v1=00")]),
            "v1=00: is 2 hex digits, and 64 were expected",
        ),
        (
            Scene::new().with("require", json!({"header:X-V": "2"})).and_header("X-V", "1"),
            "`1`, where `2` is required",
        ),
        (
            Scene::new().with("signed", json!("{id}.{timestamp}.{body}")).with("id", json!("header:X-Id")),
            "header `X-Id`: it is not there, and it is signed",
        ),
        (
            Scene { url: String::new(), ..Scene::new() }.with("signed", json!("{timestamp}{url}{body}")),
            "the source has no `public_url`",
        ),
        (
            Scene { secrets: vec![known("env:ACME", "\"quoted-secret\"")], ..Scene::new() },
            "quotes are around it",
        ),
        (
            Scene { secrets: vec![known("env:ACME", " spaced-secret")], ..Scene::new() },
            "white space is around it",
        ),
        (
            Scene::new().with("secret", json!({"decode": "hex"})),
            "the secret is not hex; copy it whole from the provider's page",
        ),
    ] {
        let said = said(scene);
        assert!(said.contains(words), "{words}: {said}");
    }
    let other = Scene::new().headers(&[("X-Acme-Signature", "t=1,v1=00")]).explain();
    assert_eq!(lines(&other, "signature")[1], "headers that may hold one: `x-acme-signature`");
}

impl Scene {
    fn and_header(mut self, name: &str, value: &str) -> Scene {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

#[test]
fn a_body_is_told_with_what_cannot_be_seen() {
    let told = |body: &[u8]| {
        let scene = Scene { body: body.to_vec(), ..Scene::new() };
        lines(&scene.explain(), "signed")[3..].join("\n")
    };
    assert!(told(b"").contains("the body, which is empty"));
    let told_all = told(b"\xef\xbb\xbfa\r\nb\xff\r\n");
    for words in [
        "10 bytes",
        "begins with a byte order mark",
        "ends with CR and LF",
        "lines end with CR and LF",
        "not UTF-8",
        r"\u{feff}a\r\nb\xff\r\n",
    ] {
        assert!(told_all.contains(words), "{words}: {told_all}");
    }
    assert!(told(b"{}\n").contains("it ends with a newline"));
    assert!(told(&[b'x'; 1000]).contains("… 880 bytes …"));
}

// === each known mistake ===

#[test]
fn a_body_that_was_written_anew_is_found() {
    let sent = |body: &[u8]| Scene::new().signed(SECRET.as_bytes(), body);
    let with_bytes = |scene: Scene, body: &[u8]| Scene { body: body.to_vec(), ..scene };
    let spaced = BODY.replace(':', ": ").replace(',', ", ").replace("https: ", "https:");
    for (sent_body, came, words) in [
        (format!("{BODY}\n"), BODY.to_owned(), "ends with a newline, which was lost"),
        (format!("{BODY}\r\n"), BODY.to_owned(), "CR and LF, which were lost"),
        (BODY.to_owned(), format!("{BODY}\n"), "does not end with a newline"),
        (BODY.to_owned(), spaced.clone(), "the same JSON without spaces:"),
        (spaced, BODY.to_owned(), "with a space behind each"),
        (
            r#"{"a":1,"b":2}"#.to_owned(),
            r#"{"b":2,"a":1}"#.to_owned(),
            "without spaces, with its keys sorted",
        ),
        (BODY.replace('/', "\\/"), BODY.to_owned(), r"`/` written as `\/`"),
        (BODY.to_owned(), BODY.replace('/', "\\/"), r"`\/` written as `/`"),
        (BODY.replace('ë', "\\u00eb"), BODY.to_owned(), r"beyond ASCII written as `\u00e9`"),
        (BODY.replace('ë', "\\u00EB"), BODY.to_owned(), r"beyond ASCII written as `\u00E9`"),
        (BODY.to_owned(), BODY.replace('ë', "\\u00eb"), "the character itself"),
        ("a\nb".to_owned(), "a\r\nb".to_owned(), "the lines end with LF"),
        ("a\r\nb".to_owned(), "a\nb".to_owned(), "the CR were lost"),
        (format!("\u{feff}{BODY}"), BODY.to_owned(), "begins with a byte order mark"),
        (BODY.to_owned(), format!("\u{feff}{BODY}"), "does not begin with a byte order mark"),
        ("Zoë".to_owned(), "ZoÃ«".to_owned(), "read as Latin-1"),
        ("ZoÃ«".to_owned(), "Zoë".to_owned(), "taken for a character of Latin-1"),
        (String::new(), BODY.to_owned(), "signed an empty one"),
    ] {
        let (says, _) = sent(sent_body.as_bytes()).body(&came).differs();
        assert!(says.contains(words), "{words}: {says}");
        assert!(!says.contains(" & "), "one change is enough: {says}");
    }
    let (says, _) = with_bytes(sent("a\u{fffd}".as_bytes()), b"a\xff").differs();
    assert!(says.contains("became U+FFFD"), "{says}");
}

#[test]
fn a_secret_that_was_taken_otherwise_is_found() {
    let base64 = SECRET.strip_prefix("whsec_").unwrap();
    let decoded = STANDARD.decode(base64).unwrap();
    let decode = json!({"strip_prefix": "whsec_", "decode": "base64"});
    let scene = |key: &[u8]| Scene::new().signed(key, BODY.as_bytes());
    for (scene, says, write) in [
        (
            scene(SECRET.as_bytes()).with("secret", decode.clone()),
            "the secret is taken whole as text, without decoding",
            "scheme: { secret: { strip_prefix: \"\", decode: utf8 } }",
        ),
        (
            scene(&decoded),
            "the secret is taken behind its prefix as base64",
            "scheme: { secret: { strip_prefix: \"whsec_\", decode: base64 } }",
        ),
        (
            scene(base64.as_bytes()),
            "the secret is taken behind its prefix as text, without decoding",
            "scheme: { secret: { strip_prefix: \"whsec_\", decode: utf8 } }",
        ),
        (
            scene(&<Sha1 as sha1::Digest>::digest(SECRET.as_bytes())),
            "the secret is taken as the text whose SHA-1 is the key",
            "scheme: { secret: { decode: sha1 } }",
        ),
        (scene(format!("{SECRET}\n").as_bytes()), "the sender's secret ends with a newline", ""),
    ] {
        let (said, written) = scene.differs();
        assert!(said.starts_with(says), "{said}");
        assert_eq!(written, write);
    }
    let hex = Scene { secrets: vec![known("env:ACME", "00112233445566778899aabbccddeeff")], ..Scene::new() };
    let (says, write) =
        hex.signed(&hex::decode("00112233445566778899aabbccddeeff").unwrap(), BODY.as_bytes()).differs();
    assert_eq!(
        (says.as_str(), write.as_str()),
        ("the secret is taken as hex", "scheme: { secret: { decode: hex } }")
    );
    for (text, words) in [
        (format!("\"{SECRET}\""), "`env:ACME` has quotes around the secret"),
        (format!(" {SECRET}"), "`env:ACME` has white space around the secret"),
    ] {
        let scene = Scene { secrets: vec![known("env:ACME", &text)], ..scene(SECRET.as_bytes()) };
        let (says, _) = scene.differs();
        assert!(says.starts_with(words), "{says}");
    }
}

#[test]
fn a_secret_of_elsewhere_is_found() {
    let mut ended = Scene::new();
    ended.secrets[0].ends = Some(Millis(NOW.0 - 3_600_000));
    let (says, _) = ended.differs();
    assert!(
        says.contains("`env:ACME` is tried, which ended 2026-09-21T13:13:20.000Z, 1h 0m before now"),
        "{says}"
    );
    let elsewhere = Scene {
        secrets: vec![known("env:ACME", "another_secret_0123456789")],
        others: vec![known("env:OTHER of other", SECRET)],
        ..Scene::new()
    };
    let (says, write) = elsewhere.differs();
    assert_eq!(says, "the secret is `env:OTHER of other`, which is configured for another source");
    assert_eq!(write, "secrets: [ \"env:OTHER\" ]");
}

#[test]
fn a_scheme_that_says_otherwise_is_found() {
    let (stamp, body) = (STAMP.as_bytes(), BODY.as_bytes());
    let key = SECRET.as_bytes();
    let good = sha256(key, &[stamp, b".", body]);
    let header = |text: String| Scene::new().headers(&[("Acme-Signature", &text)]);
    let raw = |scene: Scene| {
        let mut scene = scene
            .with("signature", json!({"from": "header:Acme-Signature", "format": "raw", "encoding": "hex"}));
        scene.spec["timestamp"] = json!({"from": "header:Acme-Time", "unit": "s", "tolerance": "300s"});
        scene.and_header("Acme-Time", STAMP)
    };
    for (scene, says, write) in [
        (
            header(format!("t={STAMP},v1={}", hex::encode(of_hash::<Hmac<Sha1>>(key, &[stamp, b".", body])))),
            "the hash is SHA-1",
            "scheme: { algorithm: sha1 }",
        ),
        (
            header(format!(
                "t={STAMP},v1={}",
                hex::encode(of_hash::<Hmac<Sha512>>(key, &[stamp, b".", body]))
            )),
            "the hash is SHA-512",
            "scheme: { algorithm: sha512 }",
        ),
        (
            header(format!("t={STAMP},v1={}", STANDARD.encode(&good))),
            "the signature is read as base64",
            "scheme: { signature: { encoding: base64 } }",
        ),
        (
            header(format!("t={STAMP},v0={},v1={}", hex::encode(&good), "0".repeat(64))),
            "the signature is taken from `v0`",
            "scheme: { signature: { key: \"v0\" } }",
        ),
        (
            header(format!("t=1790000000123,v1={}", hex::encode(sha256(key, &[b"1790000000123.", body])))),
            "the timestamp is read as milliseconds",
            "scheme: { timestamp: { unit: ms } }",
        ),
        (
            header(format!("t={STAMP},v1={}", hex::encode(sha256(key, &[body])))),
            "what is signed is `{body}`",
            "scheme: { signed: \"{body}\" }",
        ),
        (
            header(format!("t={STAMP},v1={}", hex::encode(sha256(key, &[b"v0:", stamp, b":", body])))),
            "what is signed is `v0:{timestamp}:{body}`",
            "scheme: { signed: \"v0:{timestamp}:{body}\" }",
        ),
        (
            raw(header(format!("sha256={}", hex::encode(&good)))),
            "`sha256=` in front of the signature is left out",
            "scheme: { signature: { format: prefixed, prefix: \"sha256=\" } }",
        ),
        (
            Scene::new().headers(&[("X-Acme-Signature", &format!("t={STAMP},v1={}", hex::encode(&good)))]),
            "the header `x-acme-signature` is read",
            "scheme: { signature: { from: \"header:x-acme-signature\" } }",
        ),
    ] {
        assert_eq!(scene.differs(), (says.to_owned(), write.to_owned()));
    }
}

#[test]
fn a_timestamp_that_the_scheme_left_out_is_found() {
    let signed = hex::encode(sha256(SECRET.as_bytes(), &[STAMP.as_bytes(), b".", BODY.as_bytes()]));
    let mut scene = Scene::new().headers(&[("X-Sig", &signed), ("X-Sig-Timestamp", STAMP)]);
    scene.spec = json!({
        "type": "hmac", "algorithm": "sha256", "signed": "{body}",
        "signature": {"from": "header:X-Sig", "format": "raw", "encoding": "hex"},
    });
    let (says, write) = scene.differs();
    assert_eq!(says, "what is signed is `{timestamp}.{body}`");
    assert_eq!(
        write,
        "scheme: { signed: \"{timestamp}.{body}\", timestamp: { from: \"header:x-sig-timestamp\", unit: s, tolerance: 300s } }"
    );
}

#[test]
fn the_names_of_another_family_are_found() {
    let base64 = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let mac = STANDARD.encode(sha256(&base64, &[b"msg_1.", STAMP.as_bytes(), b".", BODY.as_bytes()]));
    let spec = preset("standard-webhooks").unwrap().scheme.clone();
    let mut scene = Scene::new().headers(&[
        ("svix-id", "msg_1"),
        ("svix-timestamp", STAMP),
        ("svix-signature", &format!("v1,{mac}")),
    ]);
    scene.spec = json!({
        "type": "hmac", "algorithm": "sha256", "signed": spec.signed, "id": spec.id,
        "signature": {"from": "header:webhook-signature", "format": "list", "separator": " ", "assign": ",", "key": "v1", "encoding": "base64"},
        "timestamp": {"from": "header:webhook-timestamp", "unit": "s", "tolerance": "300s"},
        "secret": {"strip_prefix": "whsec_", "decode": "base64"},
    });
    let (says, write) = scene.differs();
    assert_eq!(says, "the headers `svix-signature`, `svix-timestamp`, `svix-id` are read");
    assert_eq!(
        write,
        "scheme: { signature: { from: \"header:svix-signature\" }, timestamp: { from: \"header:svix-timestamp\" }, id: \"header:svix-id\" }"
    );
}

#[test]
fn another_spelling_of_the_url_is_found() {
    let scene = |registered: &str, query: Option<&str>, signed: &str| {
        let mac =
            hex::encode(sha256(SECRET.as_bytes(), &[signed.as_bytes(), STAMP.as_bytes(), BODY.as_bytes()]));
        let mut scene = Scene::new()
            .with("signed", json!("{url}{timestamp}{body}"))
            .headers(&[("Acme-Signature", &format!("t={STAMP},v1={mac}"))]);
        scene.url = registered.to_owned();
        scene.query = query.map(str::to_owned);
        scene
    };
    for (registered, signed) in [
        ("https://h.example.com/a", "https://h.example.com/a/"),
        ("https://h.example.com/a/", "https://h.example.com/a"),
        ("https://h.example.com/a", "http://h.example.com/a"),
        ("https://h.example.com/a", "https://h.example.com:443/a"),
        ("https://h.example.com:8443/a", "https://h.example.com/a"),
        ("https://h.example.com:8443/a", "http://h.example.com:8443/a"),
    ] {
        let (says, write) = scene(registered, None, signed).differs();
        assert_eq!(says, format!("the URL is `{signed}`"));
        assert_eq!(write, format!("public_url: \"{signed}\""));
    }
    let (says, write) = scene("https://h.example.com/a", Some("b=c"), "https://h.example.com/a").differs();
    assert_eq!((says.as_str(), write.as_str()), ("the URL is signed without its query", ""));
    let seen = Scene {
        seen_url: Some("https://other.example.com/b".into()),
        ..scene("https://h.example.com/a", None, "https://other.example.com/b")
    };
    assert_eq!(seen.differs().0, "the URL is `https://other.example.com/b`");
}

#[test]
fn two_mistakes_at_once_are_found() {
    let base64 = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let scene = Scene::new().signed(&base64, format!("{BODY}\n").as_bytes());
    let (says, write) = scene.differs();
    assert!(says.contains("behind its prefix as base64 & the body ends with a newline"), "{says}");
    assert_eq!(write, "scheme: { secret: { strip_prefix: \"whsec_\", decode: base64 } }");
    let good = of_hash::<Hmac<Sha1>>(SECRET.as_bytes(), &[STAMP.as_bytes(), b".", BODY.as_bytes()]);
    let scene =
        Scene::new().headers(&[("Acme-Signature", &format!("t={STAMP},v1={}", STANDARD.encode(good)))]);
    assert_eq!(scene.differs().0, "the hash is SHA-1 & the signature is read as base64");
}

#[test]
fn what_nothing_explains_is_said_so() {
    let scene = Scene::new().signed(b"nobody has this secret", BODY.as_bytes());
    let explanation = scene.explain();
    assert!(explanation.difference.is_none());
    let tries = lines(&explanation, "tries");
    assert!(tries[0].ends_with("none matches"), "{tries:?}");
    let large = Scene { body: vec![b'{'; 3 << 20], ..scene }.explain();
    assert!(lines(&large, "tries")[1].contains("so large that not all"), "{:?}", lines(&large, "tries"));
}

#[test]
fn a_token_is_explained_without_being_shown() {
    let mut scene = Scene::new().headers(&[("X-Token", "hunter2-hunter2")]);
    scene.spec = json!({"type": "token", "signature": {"from": "header:X-Token"}});
    scene.secrets = vec![known("env:TOKEN", "hunter2-hunter2")];
    assert!(matches!(scene.explain().verdict, Verdict::Genuine { .. }));
    scene.secrets = vec![known("env:TOKEN", "hunter3-hunter3")];
    let explanation = scene.explain();
    let text = serde_json::to_string(&explanation).unwrap();
    assert!(!text.contains("hunter"), "{text}");
    assert!(text.contains("(15 characters, not shown)"), "{text}");
    scene.others = vec![known("env:OTHER of other", "hunter2-hunter2")];
    assert!(scene.differs().0.contains("`env:OTHER of other`"));
}

// === what must never be told ===

/// Every encoding in which a signature or a key could be written.
fn spellings(bytes: &[u8]) -> Vec<String> {
    let base64 = STANDARD.encode(bytes);
    let url = base64.replace('+', "-").replace('/', "_");
    vec![
        hex::encode(bytes),
        hex::encode_upper(bytes),
        base64.trim_end_matches('=').to_owned(),
        url.trim_end_matches('=').to_owned(),
        base64,
        url,
    ]
}

/// The signatures that could have been computed: each hash, each reading of the secret, each body, each template.
fn computed(secrets: &[&str], bodies: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut made = Vec::new();
    for secret in secrets {
        let mut keys = vec![secret.as_bytes().to_vec(), format!("{secret}\n").into_bytes()];
        let behind = secret.strip_prefix("whsec_").unwrap_or(secret);
        keys.push(behind.as_bytes().to_vec());
        keys.extend(STANDARD.decode(behind).ok());
        for key in keys {
            for body in bodies {
                for parts in [
                    &[*body][..],
                    &[STAMP.as_bytes(), b".", body],
                    &[STAMP.as_bytes(), body],
                    &[b"v0:", STAMP.as_bytes(), b":", body],
                    &[b"msg_1.", STAMP.as_bytes(), b".", body],
                    &[b"evt_1.", STAMP.as_bytes(), b".", body],
                ] {
                    made.push(of_hash::<Hmac<Sha1>>(&key, parts));
                    made.push(of_hash::<Hmac<Sha256>>(&key, parts));
                    made.push(of_hash::<Hmac<Sha512>>(&key, parts));
                }
            }
        }
    }
    made
}

fn assert_silent(explanation: &Explanation, secrets: &[&str], bodies: &[&[u8]]) {
    let text = serde_json::to_string(explanation).unwrap();
    for secret in secrets {
        assert!(!text.contains(secret), "a secret is told: {text}");
        let behind = secret.strip_prefix("whsec_").unwrap_or(secret);
        assert!(!text.contains(behind), "a secret is told: {text}");
        if let Ok(key) = STANDARD.decode(behind) {
            assert!(spellings(&key).iter().all(|key| !text.contains(key)), "a key is told: {text}");
        }
    }
    for mac in computed(secrets, bodies) {
        for spelling in spellings(&mac) {
            assert!(!text.contains(&spelling), "a computed signature is told: {spelling} in {text}");
        }
    }
}

const OTHER_SECRET: &str = "whsec_b3RoZXItc2VjcmV0LW90aGVyLXNlY3JldA==";

#[test]
fn no_explanation_holds_a_computed_signature_or_a_secret() {
    let bodies: Vec<Vec<u8>> = [
        BODY.to_owned(),
        format!("{BODY}\n"),
        BODY.replace(',', ", "),
        BODY.replace('/', "\\/"),
        String::new(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect();
    let all: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
    let base64 = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let mut told = 0;
    for sent in &bodies {
        for came in &bodies {
            for key in [SECRET.as_bytes(), &base64, OTHER_SECRET.as_bytes(), b"nobody"] {
                let scene = Scene {
                    body: came.clone(),
                    others: vec![known("env:OTHER of other", OTHER_SECRET)],
                    ..Scene::new().signed(key, sent)
                };
                assert_silent(&scene.explain(), &[SECRET, OTHER_SECRET], &all);
                told += 1;
            }
        }
    }
    assert_eq!(told, 100);
}

/// The body itself holds the signature and the secret, as those of some senders do.
#[test]
fn what_the_body_repeats_is_hidden_too() {
    let mac = hex::encode(sha256(SECRET.as_bytes(), &[b"token-of-this-event"]));
    let body = format!(r#"{{"sig":"{mac}","token":"token-of-this-event","echo":"{SECRET}"}}"#);
    let mut scene = Scene::new().body(&body);
    scene.spec = json!({
        "type": "hmac", "algorithm": "sha256", "signed": "{json:token}", "body_signed": false,
        "signature": {"from": "json:sig", "format": "raw", "encoding": "hex"},
    });
    let explanation = scene.explain();
    assert!(matches!(explanation.verdict, Verdict::Genuine { .. }), "{:?}", explanation.verdict);
    let text = serde_json::to_string(&explanation).unwrap();
    assert!(!text.contains(&mac) && !text.contains(SECRET), "{text}");
    let body_shown = Scene::new().signed(SECRET.as_bytes(), b"other").body(&body).explain();
    let text = serde_json::to_string(&body_shown).unwrap();
    assert!(!text.contains(SECRET), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a preset is sent, it is explained, and nothing is told that must not be.
    #[test]
    fn every_preset_explains_any_request_in_silence(
        which in any::<prop::sample::Index>(),
        body in prop_oneof![prop::collection::vec(any::<u8>(), 0..60), Just(BODY.as_bytes().to_vec())],
        came in prop_oneof![Just(None), prop::collection::vec(any::<u8>(), 0..60).prop_map(Some)],
        cut in 0_usize..3,
    ) {
        let names = preset_names();
        let preset = preset(names[which.index(names.len())]).unwrap();
        let Ok(scheme) = Scheme::compile(&preset.scheme, &preset.event) else { return Ok(()) };
        let secret = Secret::new(SECRET);
        let Ok(signed) = scheme.sign(&secret, "evt_1", "a.b", &body, "https://hooks.example.com/a", NOW) else { return Ok(()) };
        let mut headers = HeaderMap::new();
        for (name, value) in &signed.headers {
            let value = &value[..value.len() - cut.min(value.len())];
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let body = signed.body.unwrap_or(body);
        let came = came.unwrap_or(body.clone());
        let request = Request { method: "POST", url: "https://hooks.example.com/a", query: None, headers: &headers, body: &came };
        let case = Case {
            spec: &preset.scheme, event: &preset.event, request, secrets: &[known("env:A", SECRET)],
            others: &[known("env:OTHER of other", OTHER_SECRET)], seen_url: None, now: NOW,
        };
        let explanation = explain(&case).unwrap();
        let is_genuine = matches!(explanation.verdict, Verdict::Genuine { .. });
        prop_assert!(is_genuine || came != body || cut > 0, "{:?}", explanation);
        assert_silent(&explanation, &[SECRET, OTHER_SECRET], &[&body, &came]);
    }
}
