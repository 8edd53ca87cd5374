//! Handshakes as the door sees them: every recorded one, what is wrong with one that is written, and each way to make
//! one sign for a stranger.

use http::HeaderMap;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::verify::spec::{EventSpec, Spec};
use crate::words::limits::CHALLENGE_VALUE_BYTES_MAX;

const NOW: Millis = Millis(1_790_000_000_000);
const SECRET: &str = "a secret of the source's";

// === a door ===

/// A source as far as `verify` goes.
struct Door {
    scheme: Scheme,
    challenges: Challenges,
    keys: Vec<Key>,
}

/// What a request came to: the answer, or the status that it is refused with.
#[derive(Debug)]
enum CameTo {
    Answer(Box<Ready>),
    Event,
    Refused(u16),
}

fn scheme(spec: Value) -> Scheme {
    let spec: Spec = serde_json::from_value(spec).unwrap();
    Scheme::compile(&spec, &EventSpec::default()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn hmac(header: &str, prefix: &str, encoding: &str, signed: &str) -> Value {
    let from = format!("header:{header}");
    let mut spec = json!({
        "type": "hmac", "algorithm": "sha256", "signed": signed,
        "signature": {"from": from, "format": "raw", "encoding": encoding},
    });
    if !prefix.is_empty() {
        spec["signature"]["format"] = json!("prefixed");
        spec["signature"]["prefix"] = json!(prefix);
    }
    if signed.contains("{timestamp}") {
        spec["timestamp"] = json!({"from": "header:X-Time", "unit": "s", "tolerance": "300s"});
    }
    spec
}

fn x() -> Value {
    hmac("x-twitter-webhooks-signature", "sha256=", "base64", "{body}")
}

fn zoom() -> Value {
    let mut spec = hmac("x-zm-signature", "v0=", "hex", "v0:{timestamp}:{body}");
    spec["timestamp"]["from"] = json!("header:x-zm-request-timestamp");
    spec
}

fn spec(challenge: Value) -> (String, ChallengeSpec) {
    ("challenge".to_owned(), serde_json::from_value(challenge).unwrap())
}

impl Door {
    fn new(of: Value, challenge: Value) -> Door {
        Door::with_secret(of, challenge, SECRET)
    }

    fn with_secret(of: Value, challenge: Value, secret: &str) -> Door {
        let scheme = scheme(of);
        let challenges = Challenges::compile(Some(&[spec(challenge)]), None, &scheme);
        let challenges = challenges.unwrap_or_else(|problems| panic!("{problems:?}"));
        let keys = vec![scheme.key(&Secret::new(secret), None).unwrap()];
        Door { scheme, challenges, keys }
    }

    fn trusting(mut self, token: &str) -> Door {
        self.challenges.trust(0, Secret::new(token));
        self
    }

    /// In the order of the real one.
    fn ask(&self, request: &Asking) -> CameTo {
        let request = request.as_request();
        let refused = |refused: &Refused| match refused {
            Refused::Token(_) => 403,
            Refused::Value(_) => 400,
            Refused::NoKey => 401,
        };
        let answer = |challenge: &Challenge| match challenge.answer(request, &self.keys, NOW) {
            Ok(ready) => CameTo::Answer(Box::new(ready)),
            Err(why) => CameTo::Refused(refused(&why)),
        };
        if let Some((_, challenge)) = self.challenges.find(&request, false) {
            return answer(challenge);
        }
        if request.method != "POST" && !self.challenges.wants_signed(request.method) {
            return CameTo::Refused(400);
        }
        if self.scheme.verify(request, &self.keys, NOW).is_err()
            || self.challenges.signs_for_anybody(&self.scheme, &request)
        {
            return CameTo::Refused(401);
        }
        self.challenges.find(&request, true).map_or(CameTo::Event, |(_, challenge)| answer(challenge))
    }

    fn status(&self, request: &Asking) -> u16 {
        match self.ask(request) {
            CameTo::Answer(ready) => ready.reply.status,
            CameTo::Event => 0,
            CameTo::Refused(status) => status,
        }
    }

    fn reply(&self, request: &Asking) -> Reply {
        match self.ask(request) {
            CameTo::Answer(ready) => ready.reply,
            other => panic!("{other:?}"),
        }
    }

    fn signed(&self, body: &str) -> Asking {
        let secret = Secret::new(SECRET);
        let signed =
            self.scheme.sign(&secret, "", "", body.as_bytes(), "https://h.example.com/p", NOW).unwrap();
        let headers: Vec<_> =
            signed.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Asking::post(&headers, body)
    }
}

#[derive(Debug, Default)]
struct Asking {
    method: String,
    query: String,
    headers: HeaderMap,
    body: String,
}

impl Asking {
    fn get(pairs: &[(&str, &str)]) -> Asking {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        Asking { method: "GET".into(), query, ..Asking::default() }
    }

    fn post(headers: &[(&str, &str)], body: &str) -> Asking {
        let mut asking = Asking { method: "POST".into(), body: body.into(), ..Asking::default() };
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            asking.headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        asking
    }

    fn as_request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            url: "https://h.example.com/p",
            query: (!self.query.is_empty()).then_some(self.query.as_str()),
            headers: &self.headers,
            body: self.body.as_bytes(),
        }
    }
}

fn json_of(reply: &Reply) -> &Value {
    match &reply.body {
        ReplyBody::Json(value) => value,
        other => panic!("{other:?}"),
    }
}

fn made_by(hash: mac::Hash, secret: &str, content: &str) -> mac::Bytes {
    let ready = mac::Proof::Hmac(hash).ready(secret.as_bytes()).unwrap();
    ready.prove(&[signed::Piece::Bytes(content.as_bytes().into())]).unwrap()
}

fn mac(secret: &str, content: &str) -> mac::Bytes {
    made_by(mac::Hash::Sha256, secret, content)
}

// === recorded handshakes ===

fn recorded() -> Vec<Value> {
    serde_json::from_str(include_str!("../../../../tests/vectors/challenges.json")).unwrap()
}

/// A door for a provider, its preset completed as its operator would.
fn door_of(provider: &str, secret: &str) -> Door {
    let challenge = match provider {
        "meta" => json!({"preset": "meta", "verify_token": "env:TOKEN"}),
        "asana" | "notion" => json!({"preset": provider, "capture": {"file": "secrets/it"}}),
        "aws-sns" => json!({
            "preset": provider, "require": {"json:TopicArn": "^arn:aws:sns:eu-west-1:[0-9]{12}:orders$"},
        }),
        _ => json!({ "preset": provider }),
    };
    let of = match provider {
        "x" => x(),
        "zoom" => zoom(),
        "slack" => hmac("x-slack-signature", "v0=", "hex", "v0:{timestamp}:{body}"),
        "xero" => hmac("x-xero-signature", "", "base64", "{body}"),
        _ => hmac("x-signature", "", "hex", "{body}"),
    };
    let door = Door::with_secret(of, challenge, secret);
    if provider == "meta" { door.trusting(secret) } else { door }
}

/// The request of an entry; one that has to be signed, and is not, is signed here.
fn asking_of(entry: &Value, door: &Door) -> Asking {
    let request = &entry["request"];
    let texts = |key: &str| -> Vec<(String, String)> {
        let pairs = request[key].as_object().into_iter().flatten();
        pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
    };
    let body = match entry["provider"].as_str().unwrap() {
        // The entries tell of these in words.
        "xero" => r#"{"events":[],"firstEventSequence":0,"lastEventSequence":0,"entropy":"S0m3r4Nd0mt3xt"}"#,
        "aws-sns" => {
            r#"{"Type":"SubscriptionConfirmation","TopicArn":"arn:aws:sns:eu-west-1:123456789012:orders","SubscribeURL":"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=x"}"#
        }
        _ => request["body"].as_str().unwrap_or_default(),
    };
    let mut headers = texts("headers");
    let has_signature = headers.iter().any(|(name, _)| name.contains("signature"));
    if entry["must_verify_signature_first"] == json!(true) && !has_signature {
        let more = door.signed(body).headers;
        headers
            .extend(more.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())));
    }
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let query = texts("query");
    let query: Vec<_> = query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Asking {
        method: request["method"].as_str().unwrap().into(),
        query: Asking::get(&query).query,
        ..Asking::post(&headers, body)
    }
}

#[test]
fn every_recorded_handshake_is_answered_as_written() {
    let recorded = recorded();
    assert_eq!(recorded.len(), 14);
    for entry in &recorded {
        let provider = entry["provider"].as_str().unwrap();
        let door = door_of(provider, entry["secret"].as_str().unwrap_or(SECRET));
        let asking = asking_of(entry, &door);
        let response = &entry["response"];
        let status = response["status"].as_u64().unwrap_or(200);
        assert_eq!(u64::from(door.status(&asking)), status, "{entry}");
        if status != 200 {
            continue;
        }
        let CameTo::Answer(ready) = door.ask(&asking) else { panic!("{entry}") };
        match (&ready.reply.body, response.get("json"), response.get("text")) {
            (ReplyBody::Json(found), Some(wanted), None) => assert_eq!(found, wanted),
            (ReplyBody::Text(found), None, Some(wanted)) => assert_eq!(found, wanted.as_str().unwrap()),
            (ReplyBody::None, None, None) => {}
            other => panic!("{entry}: {other:?}"),
        }
        // Those of a body are the door's.
        let of_body = ["content-type", "x-content-type-options"];
        for (name, wanted) in response["headers"].as_object().into_iter().flatten() {
            let found = ready.reply.headers.iter().find(|(have, _)| have.as_str().eq_ignore_ascii_case(name));
            match found {
                Some((_, found)) => assert_eq!(found.to_str().unwrap(), wanted.as_str().unwrap()),
                None => assert!(of_body.contains(&name.to_lowercase().as_str()), "{entry}: {name}"),
            }
        }
    }
}

/// The same requests, with a signature of somebody else's or none.
#[test]
fn what_must_be_signed_first_is_not_answered_without() {
    let mut signed = 0;
    for entry in recorded().iter().filter(|entry| entry["must_verify_signature_first"] == json!(true)) {
        let door = door_of(entry["provider"].as_str().unwrap(), "another secret than the sender's");
        let asking = asking_of(entry, &door_of(entry["provider"].as_str().unwrap(), SECRET));
        assert_eq!(door.status(&asking), 401, "{entry}");
        let unsigned = Asking { headers: HeaderMap::new(), ..asking };
        assert_eq!(door.status(&unsigned), 401, "{entry}");
        signed += 1;
    }
    assert_eq!(signed, 5);
}

#[test]
fn a_secret_and_a_url_are_handed_over_and_not_acted_on() {
    for provider in ["asana", "notion", "aws-sns"] {
        let entry = recorded().into_iter().find(|entry| entry["provider"] == json!(provider)).unwrap();
        let door = door_of(provider, SECRET);
        let CameTo::Answer(ready) = door.ask(&asking_of(&entry, &door)) else { panic!("{provider}") };
        let brought = ready.capture.map(|secret| String::from_utf8(secret.expose().to_vec()).unwrap());
        let wanted = match provider {
            "asana" => Some("b537207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81"),
            "notion" => Some("secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl"),
            _ => None,
        };
        assert_eq!(brought.as_deref(), wanted);
        assert_eq!(ready.follow.is_some(), provider == "aws-sns");
    }
}

#[test]
fn the_other_presets_answer_too() {
    let door = |challenge| Door::new(hmac("x-signature", "", "hex", "{body}"), challenge);
    let graph =
        Asking { query: "validationToken=Validation%3A+a+token%20%C3%A9".into(), ..Asking::post(&[], "") };
    let reply = door(json!({"preset": "microsoft-graph"})).reply(&graph);
    assert_eq!(reply.body, ReplyBody::Text("Validation: a token é".into()));
    let okta =
        Asking { method: "GET".into(), ..Asking::post(&[("x-okta-verification-challenge", "My\"Key")], "") };
    let reply = door(json!({"preset": "okta"})).reply(&okta);
    assert_eq!(json_of(&reply), &json!({"verification": "My\"Key"}));
    let adobe = Asking { method: "GET".into(), ..Asking::post(&[("X-AdobeSign-ClientId", "CBJ_x-1")], "") };
    let reply = door(json!({"preset": "adobe-sign"})).reply(&adobe);
    assert_eq!(reply.headers, [("x-adobesign-clientid".parse().unwrap(), "CBJ_x-1".parse().unwrap())]);
    let twitch = door(json!({"preset": "twitch"}));
    let mut asking = twitch.signed(r#"{"challenge":"pogchamp-kappa-360noscope"}"#);
    asking.headers.insert("twitch-eventsub-message-type", "webhook_callback_verification".parse().unwrap());
    assert_eq!(twitch.reply(&asking).body, ReplyBody::Text("pogchamp-kappa-360noscope".into()));
    let linkedin = door(json!({"preset": "linkedin"}));
    let reply = linkedin.reply(&Asking::get(&[("challengeCode", "890e4665-4dfe-4ab1")]));
    let made = hex::encode(mac(SECRET, "890e4665-4dfe-4ab1").as_slice());
    assert_eq!(json_of(&reply), &json!({"challengeCode": "890e4665-4dfe-4ab1", "challengeResponse": made}));
    let ebay = door(json!({"preset": "ebay", "verify_token": "env:TOKEN"})).trusting("token_0123456789");
    let reply = ebay.reply(&Asking::get(&[("challenge_code", "71745723-d031")]));
    let hash = crate::words::digest::Digest::of(b"71745723-d031token_0123456789https://h.example.com/p");
    assert_eq!(json_of(&reply), &json!({ "challengeResponse": hash.to_string() }));
}

// === signing for strangers ===

#[test]
fn zoom_signs_nothing_for_somebody_who_is_not_zoom() {
    let forged = r#"{"event":"meeting.ended","payload":{}}"#;
    let body = json!({
        "event": "endpoint.url_validation", "payload": {"plainToken": format!("v0:1790000000:{forged}")},
    });
    let body = body.to_string();
    let door = Door::new(zoom(), json!({"preset": "zoom"}));
    assert_eq!(door.status(&Asking::post(&[], &body)), 401, "unsigned");
    assert_eq!(door.status(&door.signed(&body)), 400, "even signed, such a token is given to no key");
    // An operator who takes the check away, and widens the pattern to let it through.
    let careless = json!({
        "preset": "zoom", "verified": false, "require": {"json:payload.plainToken": "^[A-Za-z0-9:{}\",._]{1,256}$"},
    });
    let scheme = scheme(zoom());
    let problems = Challenges::compile(Some(&[spec(careless)]), None, &scheme).unwrap_err();
    assert_eq!(problems[0].key, "challenge.require.json:payload.plainToken");
    // One who takes the check away alone.
    let door = Door::new(zoom(), json!({"preset": "zoom", "verified": false}));
    assert_eq!(door.status(&Asking::post(&[], &body)), 400);
    let plain = r#"{"event":"endpoint.url_validation","payload":{"plainToken":"abc"}}"#;
    assert_eq!(door.status(&Asking::post(&[], plain)), 200);
}

#[test]
fn x_signs_no_event_and_no_part_of_one() {
    let door = Door::new(x(), json!({"preset": "x"}));
    for token in [
        r#"{"for_user_id":"1"}"#,
        "{}",
        "a:b",
        "\"",
        "a\"b",
        "{",
        "[1]",
        "a b",
        "a\n",
        "",
        "a.b",
        "ä",
        "\u{0}",
        &"a".repeat(129),
        &"a".repeat(CHALLENGE_VALUE_BYTES_MAX + 1),
    ] {
        assert_eq!(door.status(&Asking::get(&[("crc_token", token)])), 400, "{token:?}");
    }
    assert_eq!(door.status(&Asking { query: "crc_token=a&crc_token=b".into(), ..Asking::get(&[]) }), 400);
    assert_eq!(door.status(&Asking::get(&[("crc_token", &"a".repeat(128))])), 200);
    // What it does sign is no event: `{body}` alone is signed, and this is a body.
    let reply = door.reply(&Asking::get(&[("crc_token", "12345")]));
    let token = json_of(&reply)["response_token"].as_str().unwrap();
    let forged = Asking::post(&[("x-twitter-webhooks-signature", token)], "12345");
    assert!(door.scheme.verify(forged.as_request(), &door.keys, NOW).is_ok(), "the signature is right");
    assert_eq!(door.status(&forged), 401);
    assert_eq!(door.status(&door.signed(r#"{"for_user_id":"1"}"#)), 0, "an event is one");
}

/// Its payloads are base64 with a line's end, its challenges hex: what is signed for a challenge would do as a payload.
#[test]
fn braintree_takes_no_payload_that_it_signs_as_a_challenge() {
    let of = json!({
        "type": "hmac", "algorithm": "sha1", "signed": "{form:bt_payload}", "body_signed": false,
        "signature": {
            "from": "form:bt_signature", "format": "list", "separator": "&", "assign": "|", "key": "*", "encoding": "hex",
        },
    });
    let door = Door::new(of, json!({"preset": "braintree", "const": {"public_key": "pub"}}));
    let token = "20f9f8ed05f77439fe955c977e4c8a53";
    let reply = door.reply(&Asking::get(&[("bt_challenge", token)]));
    let ReplyBody::Text(text) = reply.body else { panic!("{reply:?}") };
    let made = made_by(mac::Hash::Sha1, SECRET, token);
    assert_eq!(text, format!("pub|{}", hex::encode(made.as_slice())));
    let post = |payload: &str, signature: &str| {
        let pairs = [("bt_signature", signature), ("bt_payload", payload)];
        Asking::post(&[], &url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
    };
    let forged = post(token, &text);
    assert!(door.scheme.verify(forged.as_request(), &door.keys, NOW).is_ok(), "the signature is right");
    assert_eq!(door.status(&forged), 401);
    let payload = "PG5vdGlmaWNhdGlvbj4K\n";
    let proof = made_by(mac::Hash::Sha1, SECRET, payload);
    let genuine = post(payload, &format!("pub|{}", hex::encode(proof.as_slice())));
    assert_eq!(door.status(&genuine), 0);
    for bad in
        ["PG5vdGlmaWNhdGlvbj4K", "20f9f8ed05f77439fe955c977e4c8a53\n", "20F9F8ED05F77439FE955C977E4C8A53", ""]
    {
        assert_ne!(door.status(&Asking::get(&[("bt_challenge", bad)])), 200, "{bad:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever a stranger asks for, and whatever they make of the answer, it is no event. The schemes are those whose
    /// signed content has no punctuation of its own, or little.
    #[test]
    fn nothing_that_is_signed_for_a_stranger_is_an_event(
        signed in proptest::sample::select(vec!["{body}", "{timestamp}{body}", "{body}{timestamp}", "{timestamp}.{body}", "{body}{url}"]),
        token in "[0-9]{10}|[A-Za-z0-9_-]{1,24}|17900000[0-9]{2}[a-z0-9]{0,4}|.{0,12}",
        cut in 0_usize..24,
    ) {
        let door = Door::new(hmac("x-sig", "", "hex", signed), json!({
            "when": {"method": "GET", "query": "t"}, "require": {"query:t": "^[A-Za-z0-9_-]{1,64}$"},
            "respond": {"text": "{hmac_hex:query:t}"},
        }));
        if let CameTo::Answer(ready) = door.ask(&Asking::get(&[("t", &token)])) {
            let ReplyBody::Text(signature) = ready.reply.body else { panic!("a text was asked for") };
            let cut = cut.min(token.len());
            for (stamp, body) in [("1790000000", token.as_str()), (&token[..cut], &token[cut..]), (&token[cut..], &token[..cut])] {
                let forged = Asking::post(&[("x-sig", &signature), ("x-time", stamp)], body);
                prop_assert!(matches!(door.ask(&forged), CameTo::Refused(401)), "{forged:?}");
            }
        }
    }
}

#[test]
fn a_verify_token_signs_nothing() {
    let door =
        Door::new(hmac("x-sig", "", "hex", "{body}"), json!({"preset": "meta", "verify_token": "env:T"}));
    let door = door.trusting("a verify token, as in every log");
    let body = r#"{"object":"page"}"#;
    let with = |secret: &str| Asking::post(&[("x-sig", &hex::encode(mac(secret, body).as_slice()))], body);
    assert_eq!(door.status(&with("a verify token, as in every log")), 401);
    assert_eq!(door.status(&with(SECRET)), 0);
}

#[test]
fn a_verify_token_is_all_of_it_and_once() {
    let door =
        Door::new(hmac("x-sig", "", "hex", "{body}"), json!({"preset": "meta", "verify_token": "env:T"}));
    let ask = |token: &str| {
        Asking::get(&[("hub.mode", "subscribe"), ("hub.challenge", "1158"), ("hub.verify_token", token)])
    };
    assert_eq!(door.status(&ask("")), 403);
    assert_eq!(door.status(&ask("meatyhamhock")), 403, "none is configured yet");
    let door = door.trusting("meatyhamhock");
    for (token, status) in [
        ("meatyhamhock", 200),
        ("meatyhamhoc", 403),
        ("meatyhamhockx", 403),
        ("Meatyhamhock", 403),
        ("", 403),
    ] {
        assert_eq!(door.status(&ask(token)), status, "{token}");
    }
    let twice =
        "hub.mode=subscribe&hub.challenge=1&hub.verify_token=meatyhamhock&hub.verify_token=meatyhamhock";
    assert_eq!(door.status(&Asking { query: twice.into(), ..Asking::get(&[]) }), 403);
    let absent = Asking::get(&[("hub.mode", "subscribe"), ("hub.challenge", "1158")]);
    assert_eq!(door.status(&absent), 403);
    let other_mode = Asking::get(&[("hub.mode", "unsubscribe"), ("hub.challenge", "1158")]);
    assert_eq!(door.status(&other_mode), 400, "a GET that is no handshake");
}

#[test]
fn an_ended_secret_answers_nothing_and_the_newest_live_one_does() {
    let mut door = Door::new(x(), json!({"preset": "x"}));
    let ask = Asking::get(&[("crc_token", "abc")]);
    let key = |secret: &str, ends| door.scheme.key(&Secret::new(secret), ends).unwrap();
    door.keys = vec![key("ended", Some(Millis(NOW.0 - 1))), key("newer", None), key("older", None)];
    let made = json_of(&door.reply(&ask))["response_token"].as_str().unwrap().to_owned();
    let wanted = crate::verify::format::Encoding::Base64.encode(mac("newer", "abc").as_slice());
    assert_eq!(made, format!("sha256={wanted}"));
    door.keys.truncate(1);
    assert_eq!(door.status(&ask), 401);
}

// === what a request may be, and how much of it ===

#[test]
fn conditions_are_of_the_request_and_all_of_them_hold() {
    let door = Door::new(
        hmac("x-sig", "", "hex", "{body}"),
        json!({
            "when": {"method": "POST", "header": {"X-Kind": "ping"}, "query": "q", "json": {"path": "a.b", "equals": true}},
            "respond": {"status": 204},
        }),
    );
    let ask = |kind: &str, query: &str, body: &str| Asking {
        query: query.into(),
        ..Asking::post(&[("x-kind", kind)], body)
    };
    let good = r#"{"a":{"b":true}}"#;
    assert_eq!(door.status(&ask("ping", "q=1", good)), 204);
    for (kind, query, body) in [
        ("pong", "q=1", good),
        ("ping", "", good),
        ("ping", "q=", good),
        ("ping", "q=1", r#"{"a":{"b":false}}"#),
        ("ping", "q=1", r#"{"a":{"b":null}}"#),
        ("ping", "q=1", r#"{"a":true}"#),
        ("ping", "q=1", "{"),
        ("ping", "q=1", ""),
    ] {
        assert_eq!(door.status(&ask(kind, query, body)), 401, "{kind} {query} {body}");
    }
}

#[test]
fn a_large_body_is_no_handshake() {
    let door =
        Door::new(hmac("x-sig", "", "hex", "{body}"), json!({"preset": "notion", "capture": {"file": "f"}}));
    let body = |bytes: usize| {
        let head = r#"{"verification_token":"secret_0123456789","pad":""#;
        format!("{head}{}\"}}", "x".repeat(bytes - head.len() - 2))
    };
    assert_eq!(door.status(&Asking::post(&[], &body(CHALLENGE_BODY_BYTES_MAX))), 200);
    assert_eq!(door.status(&Asking::post(&[], &body(CHALLENGE_BODY_BYTES_MAX + 1))), 401);
}

#[test]
fn what_is_brought_is_a_secret_or_refused() {
    let door =
        Door::new(hmac("x-sig", "", "hex", "{body}"), json!({"preset": "notion", "capture": {"file": "f"}}));
    let (least, most) = (*CAPTURED_SECRET_BYTES.start(), *CAPTURED_SECRET_BYTES.end());
    let ask = |token: &str| Asking::post(&[], &json!({ "verification_token": token }).to_string());
    for (token, status) in [
        ("s".repeat(least), 200),
        ("s".repeat(most), 200),
        ("s".repeat(least - 1), 400),
        ("s".repeat(most + 1), 400),
        ("s".repeat(10_000), 400),
        (format!("{}\n", "s".repeat(20)), 400),
        (format!("{} ", "s".repeat(20)), 400),
        ("ä".repeat(20), 400),
        // Nothing is no handshake, and unsigned.
        (String::new(), 401),
    ] {
        assert_eq!(door.status(&ask(&token)), status, "{token}");
    }
}

#[test]
fn a_url_is_called_only_where_its_host_is_named() {
    let door = door_of("aws-sns", SECRET);
    let ask = |arn: &str, url: &str| {
        let mut asking = door.signed(&json!({"TopicArn": arn, "SubscribeURL": url}).to_string());
        asking.headers.insert("x-amz-sns-message-type", "SubscriptionConfirmation".parse().unwrap());
        door.status(&asking)
    };
    let orders = "arn:aws:sns:eu-west-1:123456789012:orders";
    assert_eq!(ask(orders, "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=a"), 200);
    assert_eq!(ask(orders, "https://sns.cn-north-1.amazonaws.com.cn/?Token=a"), 200);
    assert_eq!(ask("arn:aws:sns:eu-west-1:123456789012:others", "https://sns.eu-west-1.amazonaws.com/"), 400);
    for url in [
        "http://sns.eu-west-1.amazonaws.com/",
        "https://sns.eu-west-1.amazonaws.com:8443/",
        "https://evil.example.com/",
        "https://sns.eu-west-1.amazonaws.com.evil.example.com/",
        "https://sns.eu-west-1.amazonaws.com@evil.example.com/",
        "https://a@sns.eu-west-1.amazonaws.com/",
        "https://169.254.169.254/",
        "https://[::1]/",
        "file:///etc/passwd",
        "https://xsns.eu-west-1.amazonaws.com/",
        "sns.eu-west-1.amazonaws.com",
        "https://sns..amazonaws.com/",
    ] {
        assert_eq!(ask(orders, url), 400, "{url}");
    }
}

#[test]
fn what_is_given_back_cannot_become_something_else() {
    let door = |respond: Value| {
        let when = json!({"method": "GET", "query": "v"});
        Door::new(hmac("x-sig", "", "hex", "{body}"), json!({"when": when, "respond": respond}))
    };
    let value = "a\",\"admin\":true,\"x\":\"\r\nSet-Cookie: a=b <script>";
    let ask = Asking::get(&[("v", value)]);
    let reply = door(json!({"json": {"a": "{query:v}", "l": ["<{query:v}>", 1, null, true]}})).reply(&ask);
    assert_eq!(json_of(&reply), &json!({"a": value, "l": [format!("<{value}>"), 1, null, true]}));
    assert_eq!(door(json!({"headers": {"X-A": "{query:v}"}})).status(&ask), 400);
    assert_eq!(door(json!({"text": "{query:v}"})).reply(&ask).body, ReplyBody::Text(value.into()));
    let long = Asking::get(&[("v", &"v".repeat(CHALLENGE_VALUE_BYTES_MAX))]);
    assert_eq!(door(json!({"text": "{query:v}"})).status(&long), 200);
    let longer = Asking::get(&[("v", &"v".repeat(CHALLENGE_VALUE_BYTES_MAX + 1))]);
    assert_eq!(door(json!({"text": "{query:v}"})).status(&longer), 400);
}

/// What is wrong with a value is told without it: it may be a secret, and it is a stranger's.
#[test]
fn a_refusal_does_not_repeat_the_request() {
    for (challenge, ask) in [
        (json!({"preset": "x"}), Asking::get(&[("crc_token", "SENT:SENT")])),
        (
            json!({"preset": "notion", "capture": {"file": "f"}}),
            Asking::post(&[], r#"{"verification_token":"SENT"}"#),
        ),
        (
            json!({"preset": "meta", "verify_token": "env:T"}),
            Asking::get(&[("hub.mode", "subscribe"), ("hub.verify_token", "SENT")]),
        ),
    ] {
        let door = Door::new(x(), challenge).trusting("configured");
        let request = ask.as_request();
        let (_, challenge) = door.challenges.find(&request, false).unwrap();
        let why = challenge.answer(request, &door.keys, NOW).unwrap_err().to_string();
        assert!(!why.contains("SENT") && !why.contains("configured"), "{why}");
    }
}

proptest! {
    #[test]
    fn no_request_panics(
        at in 0_usize..64, query in "[a-z_.=&%{}\":+ä]{0,40}", header in "[ -~]{0,20}", body in "[\\[\\]{}\":a-z0-9,ä]{0,60}",
        method in proptest::sample::select(vec!["GET", "HEAD", "OPTIONS", "POST"]),
    ) {
        let names = preset_names();
        let name = names[at % names.len()];
        let door = match name {
            "braintree" => Door::new(x(), json!({"preset": name, "const": {"public_key": "p"}})),
            "ebay" => Door::new(x(), json!({"preset": name, "verify_token": "env:T"})).trusting("t"),
            _ => door_of(name, SECRET),
        };
        let mut asking = Asking { method: method.into(), query, ..Asking::post(&[], &body) };
        for name in ["x-hook-secret", "webhook-request-origin", "x-okta-verification-challenge", "x-adobesign-clientid"] {
            asking.headers.insert(name, HeaderValue::from_str(&header).unwrap());
        }
        let _ = door.ask(&asking);
    }
}

// === presets ===

#[test]
fn every_preset_compiles_once_it_has_what_only_the_operator_knows() {
    let names = preset_names();
    assert_eq!(names.len(), 20, "{names:?}");
    let mut waiting = Vec::new();
    for name in names {
        let scheme = scheme(x());
        let compiled = Challenges::compile(Some(&[spec(json!({ "preset": name }))]), None, &scheme);
        match compiled {
            Ok(challenges) => assert_eq!(challenges.iter().count(), 1, "{name}"),
            Err(problems) => {
                assert!(
                    problems.iter().all(|p| p.message.starts_with("this is missing; write ")),
                    "{name}: {problems:?}"
                );
                waiting.push((name, problems[0].key.clone()));
            }
        }
    }
    let expected = [
        ("asana", "challenge.capture.file"),
        ("aws-sns", "challenge.require.json:TopicArn"),
        ("braintree", "challenge.const.public_key"),
        ("ebay", "challenge.verify_token"),
        ("meta", "challenge.verify_token"),
        ("notion", "challenge.capture.file"),
    ];
    let waiting: Vec<_> = waiting.iter().map(|(name, key)| (*name, key.as_str())).collect();
    assert_eq!(waiting, expected);
}

#[test]
fn a_provider_preset_has_the_handshake_of_its_name() {
    let slack = crate::verify::preset("slack").unwrap();
    let scheme = Scheme::compile(&slack.scheme, &slack.event).unwrap();
    let compile =
        |written: Option<&[(String, ChallengeSpec)]>| Challenges::compile(written, Some("slack"), &scheme);
    assert_eq!(
        compile(None).unwrap().iter().map(Challenge::when).collect::<Vec<_>>(),
        ["POST with JSON field `type` = url_verification"]
    );
    assert!(compile(Some(&[])).unwrap().is_empty(), "it can be switched off");
    let changed =
        compile(Some(&[spec(json!({"when": {"json": {"path": "type", "equals": "hello"}}}))])).unwrap();
    assert_eq!(
        changed.iter().map(Challenge::when).collect::<Vec<_>>(),
        ["POST with JSON field `type` = hello"]
    );
    let none = Challenges::compile(None, Some("sendpilot"), &scheme).unwrap();
    assert!(none.is_empty() && none.notes().is_empty());
}

// === what is wrong with one that is written ===

fn problems(challenge: Value) -> Vec<String> {
    match Challenges::compile(Some(&[spec(challenge)]), None, &scheme(zoom())) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_mistake_is_named_with_what_to_type() {
    let keyed = |require: Value| {
        json!({
            "when": {"method": "GET", "query": "t"}, "require": require, "respond": {"text": "{hmac_hex:query:t}"},
        })
    };
    let ok = json!({"status": 200});
    let get = json!({"method": "GET", "query": "t"});
    for (challenge, expected) in [
        (
            json!({"preset": "zom"}),
            "challenge.preset: there is no handshake `zom`; write one of adobe-sign, asana",
        ),
        (json!({"when": get}), "challenge.respond: what is answered? write respond:"),
        (
            json!({"respond": ok}),
            "challenge.when: every POST would be a handshake, and no event would be one; write",
        ),
        (
            json!({"when": {"method": "PUT", "query": "t"}, "respond": ok}),
            "challenge.when.method: `PUT` is not known here; write GET, HEAD, OPTIONS or POST",
        ),
        (
            json!({"when": {"header": "a b"}, "respond": ok}),
            "challenge.when.header: `a b` is not a header's name",
        ),
        (
            json!({"when": {"json": {"path": "a..b"}}, "respond": ok}),
            "challenge.when.json.path: `a..b` is not a path; write",
        ),
        (
            json!({"when": {"query": "t", "json": {"equals": 1}}, "respond": ok}),
            "challenge.when.json.path: this is missing; write",
        ),
        (
            json!({"when": {"json": {"path": "a", "equals": [1]}}, "respond": ok}),
            "challenge.when.json.equals: only a text, a whole number, true or false is compared; write one",
        ),
        (
            json!({"when": get, "require": {"t": "^a$"}, "respond": ok}),
            "challenge.require.t: `t` names no place; write header:Name",
        ),
        (
            json!({"when": get, "require": {"query:t": "a"}, "respond": ok}),
            "challenge.require.query:t: `a` would match in the middle of a value; write it from ^ to $",
        ),
        (
            json!({"when": get, "require": {"query:t": null}, "respond": ok}),
            "challenge.require.query:t: this is missing; write what is yours",
        ),
        (
            json!({"when": get, "respond": {"status": 302}}),
            "challenge.respond.status: 302 is no answer of success; write 200",
        ),
        (
            json!({"when": get, "respond": {"status": 204, "text": "a"}}),
            "challenge.respond.status: 204 has no body; write 200",
        ),
        (
            json!({"when": get, "respond": {"text": "a", "json": {}}}),
            "challenge.respond.text: a body is one text or one JSON; take",
        ),
        (
            json!({"when": get, "respond": {"text": "{query:t"}}),
            "challenge.respond.text: a `{` is not closed; write {query:x}",
        ),
        (
            json!({"when": get, "respond": {"json": {"a": ["{secret}"]}}}),
            "challenge.respond.json: `{secret}` is not known; write {query:x}",
        ),
        (
            json!({"when": get, "respond": {"text": "{md5:query:t}"}}),
            "challenge.respond.text: `{md5:query:t}` is not known; write",
        ),
        (
            json!({"when": get, "respond": {"text": "{const:a}"}}),
            "challenge.respond.text: `{const:a}` has no value; write it: const: { a: \"…\" }",
        ),
        (
            json!({"when": get, "respond": ok, "const": {"a": "b"}}),
            "challenge.const.a: `respond` does not hold {const:a}; take it away",
        ),
        (
            json!({"when": get, "respond": {"headers": {"a b": "c"}}}),
            "challenge.respond.headers.a b: `a b` is not a header's name; write",
        ),
        (
            json!({"when": get, "respond": {"headers": {"Content-Type": "text/html"}}}),
            "challenge.respond.headers.Content-Type: `content-type` is written by the daemon itself; take it away",
        ),
        (
            json!({"when": get, "respond": ok, "verify_token": "env:A"}),
            "challenge.verify_token: nothing is compared with it; write where",
        ),
        (
            json!({"when": get, "respond": ok, "verify_token": {"from": "query:a"}}),
            "challenge.verify_token: this is missing; write the token",
        ),
        (
            json!({"when": get, "respond": ok, "capture": {"from": "header:A"}}),
            "challenge.capture.file: this is missing; write where its secret is kept",
        ),
        (
            json!({"when": get, "respond": ok, "capture": {"file": "a"}}),
            "challenge.capture.from: this is missing; write where the secret is",
        ),
        (
            json!({"when": get, "respond": ok, "capture": {"from": "header:A", "file": "a"}, "verified": true}),
            "challenge.verified: nothing can be signed with a secret that is only now brought; take",
        ),
        (
            json!({"when": get, "respond": ok, "follow": {"from": "json:u", "hosts": "^a$"}}),
            "challenge.follow: a stranger's URL is not called; write verified: true",
        ),
        (
            json!({"when": get, "respond": ok, "follow": {"from": "json:u"}, "verified": true}),
            "challenge.follow.hosts: any host could be called; write which",
        ),
        (
            json!({"when": get, "respond": ok, "follow": {"hosts": "^a$"}}),
            "challenge.follow.from: this is missing; write where the URL is",
        ),
        (
            keyed(json!({})),
            "challenge.require: anybody could have `query:t` signed with the source's secret, and with it an event; write require: { \"query:t\": \"^[A-Za-z0-9_-]{1,128}$\" }",
        ),
        (keyed(json!({"header:t": "^a$"})), "challenge.require: anybody could have `query:t` signed"),
        (
            keyed(json!({"query:t": "^[a-z:]{1,9}$"})),
            "challenge.require.query:t: it lets `:` through, as the signed content of an event has it; write one as ^[A-Za-z0-9_-]",
        ),
        (keyed(json!({"query:t": "^[a-z]{1,9}\\{x$"})), "challenge.require.query:t: it lets `{` through"),
        (keyed(json!({"query:t": "^[a-z\"]{1,9}$"})), "challenge.require.query:t: it lets `\"` through"),
        (keyed(json!({"query:t": "^[a-z ]{1,9}$"})), "challenge.require.query:t: it lets ` ` through"),
    ] {
        let found = problems(challenge.clone());
        assert_eq!(found.len(), 1, "{challenge}: {found:?}");
        assert!(found[0].starts_with(expected), "{challenge}: {found:?}");
    }
    assert_eq!(problems(keyed(json!({"query:t": "^[a-z]{1,9}$"}))), [""; 0]);
}

#[test]
fn a_pattern_must_leave_out_what_the_scheme_signs() {
    let keyed = |pattern: &str| {
        spec(json!({
            "when": {"method": "GET", "query": "t"}, "require": {"query:t": pattern}, "respond": {"text": "{hmac_hex:query:t}"},
        }))
    };
    let stamped = scheme(hmac("x-sig", "", "hex", "{timestamp}.{body}"));
    let problems = Challenges::compile(Some(&[keyed("^[0-9a-z.]{1,64}$")]), None, &stamped).unwrap_err();
    assert!(
        problems[0]
            .message
            .starts_with("it lets . through, which stands in what this source's events sign; write")
    );
    assert!(Challenges::compile(Some(&[keyed("^[0-9a-z]{1,64}$")]), None, &stamped).is_ok());
    let token = scheme(json!({"type": "token", "signature": {"from": "header:X-Token"}}));
    let problems = Challenges::compile(Some(&[keyed("^[0-9a-z]{1,64}$")]), None, &token).unwrap_err();
    assert_eq!(problems[0].key, "challenge.respond");
    assert!(problems[0].message.contains("write a scheme of type: hmac"), "{problems:?}");
}

#[test]
fn all_mistakes_are_named_at_once_each_at_its_place() {
    let bad = json!({
        "when": {"method": "PUT", "header": "a b", "json": "a..b"}, "require": {"x": "y", "query:a": "+"},
        "respond": {"status": 500, "json": {"a": "{b}", "c": ["{d}"]}, "headers": {"date": "x"}}, "const": {"z": "z"},
    });
    let bad: ChallengeSpec = serde_json::from_value(bad).unwrap();
    let good = spec(json!({"preset": "slack"})).1;
    let written = [("challenge.0".to_owned(), good), ("challenge.1".to_owned(), bad)];
    let problems = Challenges::compile(Some(&written), None, &scheme(x())).unwrap_err();
    let mut keys: Vec<_> =
        problems.iter().map(|problem| problem.key.strip_prefix("challenge.1.").unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "const.z",
            "require.query:a",
            "require.x",
            "require.x",
            "respond.headers.date",
            "respond.json",
            "respond.json",
            "respond.status",
            "when.header",
            "when.json.path",
            "when.method",
        ]
    );
}

#[test]
fn a_source_has_a_handful_of_handshakes() {
    let slack = spec(json!({"preset": "slack"}));
    let many = |n: usize| Challenges::compile(Some(&vec![slack.clone(); n]), None, &scheme(x()));
    use crate::words::limits::CHALLENGES_MAX;
    assert_eq!(many(CHALLENGES_MAX).unwrap().iter().count(), CHALLENGES_MAX);
    assert!(many(CHALLENGES_MAX + 1).unwrap_err()[0].message.contains("write at most 8"));
}

#[test]
fn a_handshake_says_what_it_is() {
    let door = Door::new(x(), json!({"preset": "x"}));
    let shown: Vec<_> = door.challenges.iter().map(|c| (c.when(), c.gives())).collect();
    assert_eq!(
        shown,
        [("GET with query parameter `crc_token`".into(), "200, JSON, made with the secret".into())]
    );
    assert_eq!(door.challenges.methods(), ["GET"]);
    let door = door_of("asana", SECRET);
    let shown: Vec<_> = door.challenges.iter().map(|c| (c.when(), c.gives())).collect();
    assert_eq!(shown, [("POST with header `X-Hook-Secret`".into(), "200, header `x-hook-secret`".into())]);
    assert!(door.challenges.methods().is_empty());
}
