//! Verify: what is not proved genuine is refused with 401, says nothing of why, and leaves nothing behind.

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
    let mut vectors = read("five.json");
    assert_eq!(vectors.len(), 100);
    // Three providers whose schemes are known and whose presets are not in the binary.
    let others = read("others.json");
    assert_eq!(others.len(), 3);
    vectors.extend(others);
    std::fs::write(home.path().join("vectors.json"), serde_json::to_string(&vectors).unwrap()).unwrap();
    let output = home.cli(&["verify", "--vectors", "vectors.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let judged: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(judged.len(), vectors.len());
    for (vector, line) in std::iter::zip(&vectors, &judged).take(100) {
        assert_eq!((&line["id"], &line["valid"]), (&vector["id"], &vector["valid"]), "{line}");
    }
    for (vector, line) in std::iter::zip(&vectors, &judged).skip(100) {
        assert_eq!(line["id"], vector["id"]);
        assert_eq!(line["valid"], serde_json::Value::Null, "{line}");
        assert_eq!(line["reason"], "unknown preset", "{line}");
    }
}
