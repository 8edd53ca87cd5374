//! Handshake: every recorded one is answered over HTTPS as written, and no way of asking makes the daemon sign for a
//! stranger; a secret that one brings is kept once.

use std::os::unix::fs::PermissionsExt as _;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::{Answer, Client, Home, now_s};

const SECRET: &str = "handshake_secret_0123456789";

/// Of the providers whose handshake is recorded, in the words of an operator. What is signed is signed alike for all:
/// each scheme has its own tests.
fn sources() -> String {
    let plain = "preset: gitea, scheme: { signature: { from: \"header:X-Sig\" } }";
    let of = |name: &str, scheme: &str, secret: &str, challenge: &str| {
        format!(
            "  {name}: {{ path: /{name}, {scheme}, secrets: [ \"{secret}\" ], challenge: {challenge} }}\n"
        )
    };
    let mut text = "sources:\n".to_owned();
    for name in ["slack", "dropbox", "trello", "xero", "azure-event-grid", "cloudevents", "discord"] {
        text += &of(name, plain, "env:SECRET", &format!("{{ preset: {name} }}"));
    }
    text += &of("x", plain, "env:X_SECRET", "{ preset: x }");
    text += &of("zoom", "preset: zoom", "env:ZOOM_SECRET", "{ preset: zoom }");
    text += &of("meta", plain, "env:SECRET", "{ preset: meta, verify_token: \"env:META_VERIFY_TOKEN\" }");
    for name in ["asana", "notion"] {
        text += &of(
            name,
            plain,
            &format!("file:secrets/{name}"),
            &format!("{{ preset: {name}, capture: {{ file: secrets/{name} }} }}"),
        );
    }
    text += &format!("  plain: {{ path: /plain, {plain}, secrets: [ \"env:SECRET\" ] }}\n");
    text
}

fn home() -> Home {
    let mut home = Home::new(&sources());
    home.set_env("SECRET", SECRET);
    home.set_env("X_SECRET", "z3ZX4v7mAAUGykl3EcmkqbartmuW8VFOOzCloLx9Q45P0hLrFu");
    home.set_env("ZOOM_SECRET", "zoomSecretToken123");
    home.set_env("META_VERIFY_TOKEN", "meatyhamhock");
    std::fs::create_dir(home.path().join("secrets")).unwrap();
    home
}

fn mac(secret: &str, parts: &[&str]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    parts.iter().for_each(|part| mac.update(part.as_bytes()));
    hex::encode(mac.finalize().into_bytes())
}

async fn ask(client: &Client, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::builder().method(method).uri(format!("https://localhost{target}"));
    request = request.header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    client.request(request.body(body).unwrap()).await.unwrap()
}

async fn get(client: &Client, path: &str, pairs: &[(&str, &str)]) -> Answer {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    ask(client, "GET", &format!("{path}?{query}"), &[], "").await
}

async fn post(client: &Client, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    ask(client, "POST", path, headers, body).await
}

// === as recorded ===

/// Those of AWS SNS need a URL called, and have their own chapter.
#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_handshake_is_answered_over_https() {
    let home = home();
    let daemon = home.start().await;
    let text = include_str!("vectors/challenges.json");
    let recorded: Vec<Value> = serde_json::from_str(text).unwrap();
    let mut answered = 0;
    for entry in recorded.iter().filter(|entry| entry["provider"] != json!("aws-sns")) {
        let provider = entry["provider"].as_str().unwrap();
        let request = &entry["request"];
        let pairs = |key: &str| -> Vec<(&str, &str)> {
            let pairs = request[key].as_object().into_iter().flatten();
            pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect()
        };
        let body = match provider {
            "xero" => {
                r#"{"events":[],"firstEventSequence":0,"lastEventSequence":0,"entropy":"S0m3r4Nd0mt3xt"}"#
            }
            _ => request["body"].as_str().unwrap_or_default(),
        };
        let query =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs("query")).finish();
        let target = format!("/{provider}?{query}");
        let (now, mut headers) = (now_s().to_string(), pairs("headers"));
        // Recorded at another time: signed again, by code of the test's own.
        let signature = match provider {
            "zoom" => format!("v0={}", mac("zoomSecretToken123", &["v0:", &now, ":", body])),
            _ => mac(SECRET, &[body]),
        };
        if entry["must_verify_signature_first"] == json!(true) {
            let refused = post(&daemon.client(), &target, &[], body).await;
            assert_eq!(refused.status, 401, "{provider}, unsigned: {refused:?}");
            headers = match provider {
                "zoom" => vec![("x-zm-signature", &signature), ("x-zm-request-timestamp", &now)],
                _ => vec![("x-sig", &signature)],
            };
        }
        for client in [daemon.client(), daemon.client_h2()] {
            let method = request["method"].as_str().unwrap();
            let answer = ask(&client, method, &target, &headers, body).await;
            as_written(&answer, &entry["response"]);
            answered += 1;
        }
    }
    assert_eq!(answered, 2 * 13);
    assert!(home.json(&["events", "list"])["rows"].as_array().unwrap().is_empty(), "a handshake is no event");
    let (_, metrics) = daemon.admin("/metrics").await;
    assert!(metrics.contains(r#"longshore_handshakes_answered_total{source="zoom"} 2"#), "{metrics}");
    assert!(daemon.log().contains("handshake answered"), "{}", daemon.log());
}

fn as_written(answer: &Answer, response: &Value) {
    let status = response["status"].as_u64().unwrap_or(200);
    assert_eq!(u64::from(answer.status), status, "{answer:?} {response}");
    if status != 200 {
        return;
    }
    match (response.get("json"), response.get("text")) {
        (Some(wanted), _) => {
            assert_eq!(&serde_json::from_str::<Value>(&answer.body).unwrap(), wanted);
            assert_eq!(answer.headers["content-type"], "application/json");
        }
        (None, Some(wanted)) => {
            assert_eq!(answer.body, wanted.as_str().unwrap());
            assert_eq!(answer.headers["content-type"], "text/plain");
            assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        }
        (None, None) => assert_eq!(answer.body, "", "{response}"),
    }
    for (name, wanted) in response["headers"].as_object().into_iter().flatten() {
        assert_eq!(answer.headers[name.to_lowercase()], wanted.as_str().unwrap(), "{name}");
    }
    assert!(!answer.headers.contains_key("set-cookie"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_verify_token_is_403_and_signs_nothing() {
    let home = home();
    let daemon = home.start().await;
    let client = daemon.client();
    let ask = async |token: &str| {
        let pairs = [("hub.mode", "subscribe"), ("hub.challenge", "1158201444"), ("hub.verify_token", token)];
        get(&client, "/meta", &pairs).await
    };
    assert_eq!(ask("meatyhamhock").await.body, "1158201444");
    let wrong = ask("meatyhamhocks").await;
    assert_eq!((wrong.status, wrong.body.as_str()), (403, r#"{"error":"forbidden"}"#));
    let body = r#"{"object":"page","entry":[]}"#;
    let forged = post(&client, "/meta", &[("x-sig", &mac("meatyhamhock", &[body]))], body).await;
    assert_eq!(forged.status, 401, "the verify token is no signing secret");
    let genuine = post(&client, "/meta", &[("x-sig", &mac(SECRET, &[body]))], body).await;
    assert_eq!(genuine.status, 200);
    let shown = home.json(&["sources", "show", "meta"]).to_string();
    assert!(shown.contains("verify-token") && !shown.contains("meatyhamhock"), "{shown}");
    assert!(!daemon.log().contains("meatyhamhock"), "{}", daemon.log());
}

// === signing for strangers ===

#[tokio::test(flavor = "multi_thread")]
async fn no_stranger_has_an_event_signed() {
    let home = home();
    let daemon = home.start().await;
    let client = daemon.client();
    let forged = r#"{"event":"meeting.ended"}"#;
    // Zoom: the token is what an event's signature is made over.
    let token = format!("v0:{}:{forged}", now_s());
    let body = json!({"event": "endpoint.url_validation", "payload": {"plainToken": token}}).to_string();
    let answer = post(&client, "/zoom", &[], &body).await;
    assert_eq!((answer.status, answer.body.as_str()), (401, r#"{"error":"unauthorized"}"#));
    let now = now_s().to_string();
    let signature = format!("v0={}", mac("zoomSecretToken123", &["v0:", &now, ":", &body]));
    let headers = [("x-zm-signature", signature.as_str()), ("x-zm-request-timestamp", now.as_str())];
    assert_eq!(post(&client, "/zoom", &headers, &body).await.status, 400, "whoever asks");
    // X: nobody signs the question.
    for token in [forged, "{}", "a:b", "\"a\"", "[]", "", &"a".repeat(129)] {
        let answer = get(&client, "/x", &[("crc_token", token)]).await;
        assert_eq!((answer.status, answer.body.as_str()), (400, r#"{"error":"bad-request"}"#), "{token}");
    }
    // What it does sign is not taken for an event.
    let answer = get(&client, "/x", &[("crc_token", "12345")]).await;
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    use base64::Engine as _;
    let made = answer["response_token"].as_str().unwrap().strip_prefix("sha256=").unwrap();
    let made = hex::encode(base64::engine::general_purpose::STANDARD.decode(made).unwrap());
    assert_eq!(post(&client, "/x", &[("x-sig", &made)], "12345").await.status, 401);
    assert!(home.json(&["events", "list"])["rows"].as_array().unwrap().is_empty());
    let shown = home.json(&["sources", "show", "x"]).to_string();
    for reason in ["handshake-value", "signed-for-anybody"] {
        assert!(shown.contains(reason), "{shown}");
    }
}

// === methods ===

#[tokio::test(flavor = "multi_thread")]
async fn a_source_without_a_handshake_takes_post_alone() {
    let home = home();
    let daemon = home.start().await;
    for client in [daemon.client(), daemon.client_h2()] {
        for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
            let answer = ask(&client, method, "/plain?challenge=a", &[], "").await;
            assert_eq!((answer.status, answer.headers["allow"].to_str().unwrap()), (405, "POST"), "{method}");
        }
        for (path, allow) in [
            ("/x", "GET, POST"),
            ("/trello", "HEAD, POST"),
            ("/cloudevents", "OPTIONS, POST"),
            ("/slack", "POST"),
        ] {
            let answer = ask(&client, "DELETE", path, &[], "").await;
            assert_eq!((answer.status, answer.headers["allow"].to_str().unwrap()), (405, allow), "{path}");
        }
        assert_eq!(ask(&client, "GET", "/x", &[], "").await.status, 400);
    }
}

// === a secret that is brought ===

const BROUGHT: &str = "b537207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81";

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_captured_once_and_is_in_use_at_once() {
    let home = home();
    let mut daemon = home.start().await;
    let client = daemon.client();
    let log = daemon.log();
    assert!(log.contains("is still to come"), "{log}");
    let file = home.path().join("secrets/asana");
    let event = |n: u32| format!(r#"{{"events":[{{"n":{n}}}]}}"#);
    let send = async |client: &Client, n: u32, secret: &str| {
        let body = event(n);
        post(client, "/asana", &[("x-sig", &mac(secret, &[&body]))], &body).await.status
    };
    assert_eq!(send(&client, 1, BROUGHT).await, 401, "it takes nothing but the handshake");
    assert!(home.json(&["sources", "show", "asana"]).to_string().contains("no-secret-yet"));
    for (secret, status) in [("", 401), ("short", 400), (&*"x".repeat(513), 400), (&*"x".repeat(10_000), 400)]
    {
        assert_eq!(
            post(&client, "/asana", &[("x-hook-secret", secret)], "").await.status,
            status,
            "{secret}"
        );
        assert!(!file.exists());
    }
    let answer = post(&client, "/asana", &[("x-hook-secret", BROUGHT)], "").await;
    assert_eq!((answer.status, answer.headers["x-hook-secret"].to_str().unwrap()), (200, BROUGHT));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), BROUGHT);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(send(&client, 2, BROUGHT).await, 200, "without a restart");
    let other = "c".repeat(64);
    assert_eq!(post(&client, "/asana", &[("x-hook-secret", &other)], "").await.status, 403);
    assert_eq!(
        post(&client, "/asana", &[("x-hook-secret", BROUGHT)], "").await.status,
        200,
        "the same again"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), BROUGHT);
    assert_eq!(send(&client, 3, &other).await, 401);
    let shown = home.json(&["sources", "show", "asana"]);
    let fingerprint = longshore::words::secret::Secret::new(BROUGHT).fingerprint().to_string();
    assert_eq!(shown["sources"][0]["secrets"][0]["fingerprint"], json!(fingerprint), "{shown}");
    assert_eq!(shown["sources"][0]["handshakes"][0]["answered"], json!(2), "{shown}");
    let log = daemon.log();
    assert!(log.contains(&fingerprint), "{log}");
    assert!(daemon.stop().success());
    let again = home.start().await;
    let client = again.client();
    assert_eq!(send(&client, 4, BROUGHT).await, 200);
    assert_eq!(post(&client, "/asana", &[("x-hook-secret", &other)], "").await.status, 403);
    assert_eq!(post(&client, "/asana", &[("x-hook-secret", BROUGHT)], "").await.status, 200);
    for said in [log, again.log(), shown.to_string(), home.json(&["sources", "show"]).to_string()] {
        assert!(!said.contains(BROUGHT) && !said.contains(&other), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_kept_is_asked_for_again() {
    let home = home();
    let daemon = home.start().await;
    let client = daemon.client();
    std::fs::remove_dir(home.path().join("secrets")).unwrap();
    let token = "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl";
    let body = json!({ "verification_token": token }).to_string();
    assert_eq!(post(&client, "/notion", &[], &body).await.status, 503);
    std::fs::create_dir(home.path().join("secrets")).unwrap();
    assert_eq!(post(&client, "/notion", &[], &body).await.status, 200);
    assert_eq!(std::fs::read_to_string(home.path().join("secrets/notion")).unwrap(), token);
    let shown = home.json(&["sources", "show", "notion"]).to_string();
    assert!(shown.contains("secret-not-kept") && !shown.contains(token), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_somebody_wrote_meanwhile_is_not_written_over() {
    let home = home();
    let daemon = home.start().await;
    let file = home.path().join("secrets/asana");
    std::fs::write(&file, "written by the operator, by hand").unwrap();
    assert_eq!(post(&daemon.client(), "/asana", &[("x-hook-secret", BROUGHT)], "").await.status, 403);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "written by the operator, by hand");
}
