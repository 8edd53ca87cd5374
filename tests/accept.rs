//! Accept: one event, one place in the ledger, however often it comes; and a 2xx only for what is in it.

use std::sync::Arc;

use crate::support::{Event, Home, SECRET, SENDPILOT, now_s, sign};

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_is_answered_like_the_first_and_stored_once_also_after_a_restart() {
    let home = Home::with_source_only();
    let mut daemon = home.start().await;
    let event = Event::new("evt_1", "message.received");
    let first = daemon.client().send(&event).await.unwrap();
    let second = daemon.client().send(&event).await.unwrap();
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.body, second.body, "a sender cannot tell a duplicate");
    assert!(daemon.stop().success());
    let mut daemon = home.start().await;
    assert_eq!(daemon.client().send(&event).await.unwrap().status, 200, "after a clean stop");
    daemon.kill();
    let daemon = home.start().await;
    assert_eq!(daemon.client().send(&event).await.unwrap().status, 200, "after SIGKILL");
    // Nobody waits for the count: it comes after the answer, and one of them may have gone with the process.
    crate::support::wait_for("the redeliveries to be counted", async || {
        let events = home.json(&["events", "list"]);
        assert_eq!(events["rows"].as_array().unwrap().len(), 1, "{events}");
        (events["rows"][0]["redeliveries"].as_u64().unwrap() >= 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_copies_at_once_are_one_event() {
    let home = Home::with_source_only();
    let daemon = home.start().await;
    let client = Arc::new(daemon.client());
    let event = Event::new("evt_race", "message.received");
    let mut copies = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (client, event) = (Arc::clone(&client), event.clone());
        copies.spawn(async move { client.send(&event).await.unwrap().status });
    }
    assert!(copies.join_all().await.iter().all(|status| *status == 200));
    let events = home.json(&["events", "list"]);
    assert_eq!(events["rows"].as_array().unwrap().len(), 1, "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_with_another_body_is_answered_200_counted_and_warned() {
    let home = Home::with_source_only();
    let daemon = home.start().await;
    let mut event = Event::new("evt_1", "message.received");
    assert_eq!(daemon.client().send(&event).await.unwrap().status, 200);
    event.body = event.body.replace("camp_1", "camp_2");
    assert_eq!(daemon.client().send(&event).await.unwrap().status, 200);
    let (_, metrics) = daemon.admin("/metrics").await;
    assert!(metrics.contains(r#"longshore_events_body_differed_total{source="sendpilot"} 1"#), "{metrics}");
    crate::support::wait_for("a warning", async || daemon.log().contains("body").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_genuine_event_is_never_refused_for_its_content() {
    let home = Home::with_source_only();
    let daemon = home.start().await;
    let bodies: [(&str, Vec<u8>); 6] = [
        ("no id", br#"{"eventType":"message.received"}"#.to_vec()),
        ("no type", br#"{"eventId":"evt_typeless"}"#.to_vec()),
        ("not JSON", b"eventId=evt_form&eventType=x".to_vec()),
        ("empty", Vec::new()),
        ("not UTF-8", vec![0xff, 0xfe, 0x00]),
        ("deep", [vec![b'['; 5000], vec![b']'; 5000]].concat()),
    ];
    for (what, body) in &bodies {
        let signature = sign(SECRET, now_s(), body);
        let answer = daemon
            .client()
            .post("/webhooks/sendpilot", &[("webhook-signature", &signature)], body.clone())
            .await;
        assert_eq!(answer.unwrap().status, 200, "{what}");
    }
    let events = home.json(&["events", "list"]);
    let rows = events["rows"].as_array().unwrap();
    assert_eq!(rows.len(), bodies.len(), "{events}");
    let hashed = rows.iter().filter(|row| row["id"].as_str().unwrap().starts_with("sha256:")).count();
    assert_eq!(hashed, 5, "all but one are named by their body: {events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_daemon_a_directory_and_nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new(SENDPILOT);
    let _daemon = home.start().await;
    let mode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(home.data()), 0o700);
    assert_eq!(mode(home.data().join("longshore.sock")), 0o600);
    let second = home.cli(&["run", "--config", "config.yaml"]);
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another longshore runs on"), "{said}");
}
