//! Observe: health, readiness and figures on the loopback listener; no secret and no body in any of them.

use crate::support::{Event, Home, SECRET};

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics_are_served_and_the_figures_are_true() {
    let home = Home::with_source_only();
    let daemon = home.start().await;
    assert_eq!(daemon.admin("/healthz").await.0, 200);
    assert_eq!(daemon.admin("/readyz").await.0, 200);
    let client = daemon.client();
    for id in ["evt_1", "evt_2", "evt_1"] {
        client.send(&Event::new(id, "message.received")).await.unwrap();
    }
    client.post("/webhooks/sendpilot", &[], "{}").await.unwrap();
    let (status, metrics) = daemon.admin("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        r#"longshore_events_accepted_total{source="sendpilot"} 2"#,
        r#"longshore_events_duplicate_total{source="sendpilot"} 1"#,
        r#"longshore_refusals_total{source="sendpilot",reason="no-signature"} 1"#,
    ] {
        assert!(metrics.contains(line), "no `{line}` in\n{metrics}");
    }
    assert!(!metrics.contains(SECRET));
    assert_eq!(daemon.admin("/events").await.0, 404, "history is not on the TCP listener");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_without_a_daemon_ends_with_3_and_says_what_to_type() {
    let home = Home::with_source_only();
    let output = home.cli(&["events", "list"]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("longshore run"), "{said}");
}
