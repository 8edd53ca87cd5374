//! Verify: what is not proved genuine is refused with 401, says nothing of why, and leaves nothing behind.

use std::io::Write as _;

use crate::support::{Event, Home, SECRET, now_s, sign};

const PATH: &str = "/webhooks/sendpilot";

#[tokio::test(flavor = "multi_thread")]
async fn forged_stale_missing_and_malformed_are_401_and_nothing_is_stored() {
    let home = Home::with_source_only();
    let daemon = home.start().await;
    let client = daemon.client();
    let event = Event::new("evt_1", "message.received");
    let body = event.body.as_bytes();
    let good = sign(SECRET, now_s(), body);
    let rows: Vec<(&str, Option<String>, &str)> = vec![
        ("forged with another secret", Some(sign("another secret", now_s(), body)), "mismatch"),
        ("301 s old", Some(sign(SECRET, now_s() - 301, body)), "stale"),
        ("an hour ahead", Some(sign(SECRET, now_s() + 3600, body)), "stale"),
        ("missing", None, "no-signature"),
        ("empty", Some(String::new()), "no-signature"),
        ("no time", Some(good.split(',').nth(1).unwrap().to_owned()), "malformed"),
        ("not hex", Some(format!("t={},s=zz", now_s())), "malformed"),
        ("a time with a sign", Some(good.replace("t=", "t=+")), "malformed"),
        ("two times", Some(format!("t=1,{good}")), "malformed"),
        ("the signature of another body", Some(sign(SECRET, now_s(), b"{}")), "mismatch"),
    ];
    let mut bodies = std::collections::BTreeSet::new();
    for (what, signature, _) in &rows {
        let header: Vec<(&str, &str)> = signature.iter().map(|s| ("webhook-signature", s.as_str())).collect();
        let answer = client.post(PATH, &header, event.body.clone()).await.unwrap();
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        bodies.insert(answer.body);
    }
    assert_eq!(bodies.len(), 1, "a refused sender learns nothing: {bodies:?}");
    let events = home.json(&["events", "list"]);
    assert_eq!(events["rows"].as_array().unwrap().len(), 0, "{events}");
    let source = home.json(&["sources", "show", "sendpilot"]).to_string();
    for (what, _, reason) in &rows {
        assert!(source.contains(reason), "{what}: no refusal `{reason}` in {source}");
    }
    let (_, metrics) = daemon.admin("/metrics").await;
    assert!(metrics.contains(r#"reason="stale""#), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_of_nearly_five_minutes_is_still_good() {
    let home = Home::with_source_only();
    let daemon = home.start().await;
    let event = Event::new("evt_1", "message.received");
    let signature = sign(SECRET, now_s() - 295, event.body.as_bytes());
    let answer = daemon.client().post(PATH, &[("webhook-signature", &signature)], event.body).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_rotate_with_a_window_and_say_which_one_matched() {
    let mut home = Home::new(&rotating(
        r#""env:NEW", { from: "env:OLD", until: 2099-01-01T00:00:00Z }, { from: "env:ENDED", until: 2020-01-01T00:00:00Z }"#,
    ));
    for (name, value) in [
        ("NEW", "new_secret_0123456789"),
        ("OLD", "old_secret_0123456789"),
        ("ENDED", "ended_secret_0123456789"),
    ] {
        home.set_env(name, value);
    }
    let daemon = home.start().await;
    let client = daemon.client();
    for (id, secret, status) in [
        ("evt_new", "new_secret_0123456789", 200),
        ("evt_old", "old_secret_0123456789", 200),
        ("evt_ended", "ended_secret_0123456789", 401),
    ] {
        let event = Event::new(id, "message.received");
        let signature = sign(secret, now_s(), event.body.as_bytes());
        let answer = client.post(PATH, &[("webhook-signature", &signature)], event.body).await.unwrap();
        assert_eq!(answer.status, status, "{id}: {answer:?}");
    }
    let events = home.json(&["events", "list"]);
    let secrets: std::collections::BTreeSet<_> =
        events["rows"].as_array().unwrap().iter().map(|row| row["secret"].to_string()).collect();
    assert_eq!(secrets.len(), 2, "two secrets matched, and each event says which: {events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_extend_the_window_of_an_old_secret() {
    let mut home = Home::new(&rotating(r#""env:OLD""#));
    home.set_env("OLD", "old_secret_0123456789");
    home.set_env("NEW", "new_secret_0123456789");
    drop(home.start().await);
    home.configure("", &rotating(r#""env:NEW", "env:OLD""#));
    let mut daemon = home.start().await;
    let ends = |shown: serde_json::Value| shown["sources"][0]["secrets"][1]["ends"].clone();
    let first = ends(home.json(&["sources", "show", "sendpilot"]));
    assert!(first.is_number() || first.is_string(), "the old secret has an end: {first}");
    assert!(daemon.stop().success());
    let mut daemon = home.start().await;
    assert_eq!(ends(home.json(&["sources", "show", "sendpilot"])), first, "after a clean stop");
    daemon.kill();
    std::fs::remove_dir_all(home.data().join("index")).unwrap();
    let _daemon = home.start().await;
    assert_eq!(ends(home.json(&["sources", "show", "sendpilot"])), first, "after SIGKILL, without its index");
}

fn rotating(secrets: &str) -> String {
    format!(
        "sources:\n  sendpilot: {{ path: {PATH}, preset: sendpilot, rotation_window: 24h, secrets: [ {secrets} ] }}\n"
    )
}

#[test]
fn the_kept_vectors_come_out_as_marked_and_a_preset_that_is_not_there_is_null() {
    let home = Home::with_source_only();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    let read = |file: &str| -> Vec<serde_json::Value> {
        serde_json::from_str(&std::fs::read_to_string(folder.join(file)).unwrap()).unwrap()
    };
    let mut vectors = read("shared.json");
    assert_eq!(vectors.len(), 424);
    vectors.extend(read("more.json"));
    vectors.extend(read("made.json"));
    let known = vectors.len();
    let judge = |vectors: &[serde_json::Value], code: i32, words: &str| {
        std::fs::write(home.path().join("vectors.json"), serde_json::to_string(vectors).unwrap()).unwrap();
        let output = home.cli(&["verify", "--vectors", "vectors.json"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.trim_end()), (Some(code), words));
        output
    };
    judge(&vectors, 0, &format!("{known} of {known} as marked"));
    let mut acme = vectors[0].clone();
    acme["provider"] = "acme".into();
    vectors.push(acme);
    let all = known + 1;
    let output = judge(&vectors, 1, &format!("{known} of {all} as marked; 1 could not be judged"));
    let lines = String::from_utf8(output.stdout).unwrap();
    let judged: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(judged.len(), vectors.len());
    for (vector, line) in std::iter::zip(&vectors, &judged).take(known) {
        assert_eq!((&line["id"], &line["valid"]), (&vector["id"], &vector["valid"]), "{line}");
    }
    let line = &judged[known];
    assert_eq!(line["id"], vectors[known]["id"]);
    assert_eq!(line["valid"], serde_json::Value::Null, "{line}");
    assert_eq!(line["reason"], "unknown preset", "{line}");
}

/// The file that pins the presets is the one that its script writes.
#[test]
fn the_made_vectors_are_what_their_script_makes() {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/make.py");
    let python =
        |arguments: &[&std::ffi::OsStr]| std::process::Command::new("python3").args(arguments).output();
    let has_tools = python(&["-c".as_ref(), "import cryptography.hazmat".as_ref()]);
    if !has_tools.is_ok_and(|output| output.status.success()) {
        let _ = writeln!(std::io::stderr(), "skipped: python3 with the package `cryptography` is not here");
        return;
    }
    let output = python(&[script.as_os_str(), "--check".as_ref()]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// One of each kind of place, format and body that a preset can have.
const KINDS: [&str; 14] = [
    "stripe",          // fields of a header
    "box",             // either of two headers, and required ones
    "recurly",         // by position
    "docusign",        // numbered headers
    "persona",         // groups
    "github",          // id and type in headers
    "linear",          // its time in the body
    "hubspot",         // the URL, and a body that is a list of events
    "line",            // a list of events in the body
    "mailgun",         // the signature in a JSON body
    "braintree",       // the signature in a form
    "mandrill",        // a form by its fields
    "postmark",        // user and password
    "microsoft-graph", // a token in the body
];

#[tokio::test(flavor = "multi_thread")]
async fn send_signs_as_each_kind_of_provider_does_and_the_daemon_accepts() {
    let source = |name: &&str| {
        format!(
            "  {name}: {{ path: /in/{name}, preset: {name}, secrets: [ \"env:SHARED\" ], public_url: \"https://hooks.example.com/in/{name}\" }}\n"
        )
    };
    let mut home = Home::new(&format!("sources:\n{}", KINDS.iter().map(source).collect::<String>()));
    home.set_env("SHARED", "a_user:a_password_0123456789");
    let daemon = home.start().await;
    for name in KINDS {
        let sent = home.json(&["send", name, "thing.happened", "--no-wait"]);
        assert_eq!(sent["sent"][0]["status"], 200, "{name}: {sent}");
    }
    let stored = home.json(&["events", "list", "--limit", "100"]);
    let mut sources: Vec<&str> =
        stored["rows"].as_array().unwrap().iter().filter_map(|row| row["source"].as_str()).collect();
    sources.sort_unstable();
    let mut expected = KINDS;
    expected.sort_unstable();
    assert_eq!(sources, expected, "one event of each");
    drop(daemon);
}

/// A public key proves and cannot sign: `send` says so, and nothing is posted.
#[tokio::test(flavor = "multi_thread")]
async fn send_cannot_sign_with_a_public_key_and_says_so() {
    let mut home = Home::new(
        "sources:\n  discord: { path: /in/discord, preset: discord, secrets: [ \"env:PUBLIC\" ] }\n",
    );
    home.set_env("PUBLIC", "e421dceefff3a9d008b7898fcc0974813201800419d72f36d51e010d6a0acb71");
    let _daemon = home.start().await;
    let output = home.cli(&["send", "discord", "1", "--no-wait"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("only the provider has the private one"), "{said}");
    assert_eq!(home.json(&["events", "list"])["rows"].as_array().unwrap().len(), 0);
}

// === many events in one request, and events sent again under another id ===

const GITHUB: &str = r#"sources:
  github:
    path: /webhooks/github
    preset: github
    secrets: [ "env:SENDPILOT_SECRET" ]
  batch:
    path: /webhooks/batch
    preset: github
    event: { each: "json:events", id: "json:id", type: "json:type" }
    secrets: [ "env:SENDPILOT_SECRET" ]
  anybody:
    path: /webhooks/anybody
    scheme: { type: none, i_know_this_is_unauthenticated: true }
    event: { id: "json:id", type: "json:type" }
"#;

fn hub_signature(body: &str) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_many_events_is_all_of_them_or_none() {
    let home = Home::new(GITHUB);
    let daemon = home.start().await;
    let client = daemon.client();
    let body =
        r#"{"events":[{"id":"a","type":"t.one"}, {"id":"b","type":"t.two"},{"id":"a","type":"t.one"}]}"#;
    let send = async |body: &str, signature: &str| {
        let headers = [("x-hub-signature-256", signature), ("x-github-delivery", "unused")];
        client.post("/webhooks/batch", &headers, body.to_owned()).await.unwrap().status
    };
    assert_eq!(send(body, &hub_signature("other")).await, 401);
    assert!(home.json(&["events", "list"])["rows"].as_array().unwrap().is_empty());
    assert_eq!(send(body, &hub_signature(body)).await, 200);
    let ids = || {
        let rows = home.json(&["events", "list"])["rows"].as_array().unwrap().clone();
        let mut ids: Vec<(String, String)> = rows
            .iter()
            .map(|row| (row["id"].as_str().unwrap().to_owned(), row["type"].as_str().unwrap().to_owned()))
            .collect();
        ids.sort();
        ids
    };
    let pair = |id: &str, kind: &str| (id.to_owned(), kind.to_owned());
    assert_eq!(ids(), [pair("a", "t.one"), pair("b", "t.two")]);
    // A copy of one of them beside a new one: only the new one is stored.
    let more = r#"{"events":[{"id":"b","type":"t.two"},{"id":"c","type":"t.three"}]}"#;
    assert_eq!(send(more, &hub_signature(more)).await, 200);
    assert_eq!(ids(), [pair("a", "t.one"), pair("b", "t.two"), pair("c", "t.three")]);
    // The sender's own test has no events, and is there.
    let empty = r#"{"events":[]}"#;
    assert_eq!(send(empty, &hub_signature(empty)).await, 200);
    assert_eq!(ids().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_request_under_another_id_is_a_copy() {
    let home = Home::new(GITHUB);
    let daemon = home.start().await;
    let client = daemon.client();
    let send = async |body: &str, id: &str, kind: &str| {
        let signature = hub_signature(body);
        let headers = [
            ("x-hub-signature-256", signature.as_str()),
            ("x-github-delivery", id),
            ("x-github-event", kind),
        ];
        assert_eq!(client.post("/webhooks/github", &headers, body.to_owned()).await.unwrap().status, 200);
        home.json(&["events", "list"])["rows"].as_array().unwrap().len()
    };
    assert_eq!(send("{\"n\":1}", "first", "push").await, 1);
    assert_eq!(send("{\"n\":1}", "again", "push").await, 1, "the same body under another id");
    assert_eq!(send("{\"n\":1}", "third", "ping").await, 2, "one body under two types is two events");
    assert_eq!(send("{\"n\":2}", "fourth", "push").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_proves_nothing_takes_anything_and_says_so() {
    let home = Home::new(GITHUB);
    let daemon = home.start().await;
    let body = r#"{"id":"a","type":"t"}"#.to_owned();
    assert_eq!(daemon.client().post("/webhooks/anybody", &[], body).await.unwrap().status, 200);
    assert_eq!(home.json(&["events", "list"])["rows"][0]["id"], "a");
    assert!(daemon.log().contains("nothing is proved"), "{}", daemon.log());
}
