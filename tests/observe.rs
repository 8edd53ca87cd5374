//! Observe: health, readiness and figures on the loopback listener; no secret and no body in any of them.

use serde_json::Value;

use crate::carry::ended;
use crate::support::{Event, Home, SECRET, SENDPILOT, plugin};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_the_log_names_its_verb_and_a_guests_line_its_delivery() {
    let component = plugin("test_handlers");
    let home = Home::new(&format!(
        "log: {{ level: debug, format: json }}\n{SENDPILOT}handlers:\n  noting: {{ plugin: {}, settings: {{ do: print }} }}\nsubscriptions:\n  all: {{ source: sendpilot, events: [ \"*.*\" ], handler: noting }}\n",
        component.display()
    ));
    let mut daemon = home.start().await;
    daemon.client().send(&Event::new("evt_1", "message.received")).await.unwrap();
    let rows = ended(&home, 1).await;
    assert!(daemon.stop().success());
    let log = daemon.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let spans = |message: &str| -> Vec<Value> {
        let line = lines.iter().find(|line| line["message"] == message);
        let line = line.unwrap_or_else(|| panic!("no line `{message}` in\n{log}"));
        line["spans"].as_array().cloned().unwrap_or_default()
    };
    let names = |message: &str| -> Vec<String> {
        spans(message).iter().map(|span| span["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("accepted"), ["answer"]);
    assert_eq!(names("the delivery has ended"), ["lease"]);
    assert_eq!(names("to stdout"), ["lease", "call"], "what the guest printed");
    let lease = &spans("to stdout")[0];
    assert_eq!((&lease["delivery"], &lease["handler"]), (&rows[0]["delivery"], &rows[0]["handler"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_the_nine_verbs_is_seen_in_the_log_of_one_event() {
    let component = plugin("test_handlers");
    let home = Home::new(&format!(
        "log: {{ level: debug, format: json }}\n{SENDPILOT}handlers:\n  noting: {{ plugin: {}, settings: {{ do: print }} }}\nsubscriptions:\n  all: {{ source: sendpilot, events: [ \"*.*\" ], handler: noting }}\n",
        component.display()
    ));
    let mut daemon = home.start().await;
    daemon.client().send(&Event::new("evt_1", "message.received")).await.unwrap();
    ended(&home, 1).await;
    assert!(daemon.stop().success());
    let log = daemon.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let spans: std::collections::BTreeSet<String> = lines
        .flat_map(|line| {
            let around = line["spans"].as_array().cloned().unwrap_or_default();
            around.into_iter().chain(line.get("span").cloned())
        })
        .map(|span| span["name"].as_str().unwrap().to_owned())
        .collect();
    for verb in ["read", "verify", "identify", "route", "accept", "answer", "lease", "call", "settle"] {
        assert!(spans.contains(verb), "no line within `{verb}`, only within {spans:?}:\n{log}");
    }
}
