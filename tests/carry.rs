//! Carry: lease, call, settle. Real components, stand-ins for Slack and HubSpot, retries, history.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use stand_ins::{Fault, HubSpot, Slack};

use crate::support::{Daemon, Event, Home, plugin, wait_for};

/// A source, both shipped plugins, and the stand-ins that they call.
struct Scene {
    home: Home,
    slack: Slack,
    hubspot: HubSpot,
}

impl Scene {
    async fn new() -> Scene {
        let (slack, hubspot) = (Slack::start().await, HubSpot::start("pat-test").await);
        let mut home = Home::new(&config(&slack, &hubspot));
        home.set_env("SLACK_WEBHOOK_URL", &slack.webhook_url());
        home.set_env("HUBSPOT_TOKEN", "pat-test");
        Scene { home, slack, hubspot }
    }

    async fn ended(&self, count: usize) -> Vec<Value> {
        ended(&self.home, count).await
    }
}

/// Waits until `count` deliveries have ended and returns all rows.
pub async fn ended(home: &Home, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} deliveries to end"), async || {
        let rows = home.json(&["deliveries", "list", "--limit", "500"])["rows"].as_array().unwrap().clone();
        let over = |row: &&Value| ["done", "skipped", "dead"].contains(&row["status"].as_str().unwrap());
        (rows.iter().filter(over).count() >= count).then_some(rows)
    })
    .await
}

fn config(slack: &Slack, hubspot: &HubSpot) -> String {
    let (slack_url, hubspot_url) = (slack.url(), hubspot.url());
    format!(
        r#"{}
handlers:
  slack-notify:
    plugin: {}
    settings: {{ template: "*{{/data/linkedinUrl}}* replied: {{/data/reply}}" }}
    secrets: {{ webhook: {{ from: "env:SLACK_WEBHOOK_URL", to: [ "{slack_url}" ] }} }}
    grants: {{ http: [ "{slack_url}" ], networks: [ 127.0.0.0/8 ] }}
    retry: {{ first_delay: 200ms, max_delay: 400ms, give_up_after: 1h }}
  crm-sync:
    plugin: {}
    settings: {{ base_url: "{hubspot_url}" }}
    secrets: {{ token: {{ from: "env:HUBSPOT_TOKEN", to: [ "{hubspot_url}" ] }} }}
    grants: {{ http: [ "{hubspot_url}" ], networks: [ 127.0.0.0/8 ] }}
    retry: {{ first_delay: 200ms, max_delay: 400ms, give_up_after: 1h }}
subscriptions:
  replies-to-slack: {{ source: sendpilot, events: [ message.received, reply.received ], handler: slack-notify }}
  leads-to-crm: {{ source: sendpilot, events: [ "connection.*", "*.received" ], handler: crm-sync }}
"#,
        crate::support::SENDPILOT,
        plugin("slack_notify").display(),
        plugin("crm_sync").display(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_reaches_both_plugins_and_a_duplicate_reaches_none() {
    let scene = Scene::new().await;
    let mut daemon = scene.home.start().await;
    let event = Event::new("evt_1", "message.received");
    assert_eq!(daemon.client().send(&event).await.unwrap().status, 200);
    let rows = scene.ended(2).await;
    assert!(rows.iter().all(|row| row["status"] == "done"), "{rows:#?}");
    assert_eq!(daemon.client().send(&event).await.unwrap().status, 200);
    assert!(daemon.stop().success());
    let mut daemon = scene.home.start().await;
    assert_eq!(daemon.client().send(&event).await.unwrap().status, 200);
    // A second event, so that waiting for it shows that the duplicates led to nothing before it.
    daemon.client().send(&Event::new("evt_2", "message.received")).await.unwrap();
    let rows = scene.ended(4).await;
    assert_eq!(rows.len(), 4, "{rows:#?}");
    assert_eq!(scene.slack.received().len(), 2);
    let text = scene.slack.received()[0].body.clone();
    assert!(text.contains("Yes &amp; gladly, &lt;b&gt;Tuesday&lt;/b&gt;?"), "mrkdwn is escaped: {text}");
    assert_eq!(scene.hubspot.contacts().len(), 2, "one contact for each lead");
    assert_eq!(scene.hubspot.notes().len(), 2);
    assert!(daemon.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_service_is_tried_again_and_the_other_handler_is_not_held_up() {
    let scene = Scene::new().await;
    scene.slack.fail_next(Fault::status(500).times(2));
    let daemon = scene.home.start().await;
    daemon.client().send(&Event::new("evt_1", "message.received")).await.unwrap();
    let rows = scene.ended(2).await;
    let of = |handler: &str| rows.iter().find(|row| row["handler"] == handler).unwrap().clone();
    assert_eq!(
        (of("slack-notify")["status"].as_str(), of("slack-notify")["attempts"].as_u64()),
        (Some("done"), Some(3))
    );
    assert_eq!(
        (of("crm-sync")["status"].as_str(), of("crm-sync")["attempts"].as_u64()),
        (Some("done"), Some(1))
    );
    let shown = scene.home.json(&["deliveries", "show", of("slack-notify")["delivery"].as_str().unwrap()]);
    let attempts = shown["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 3, "{shown}");
    assert_eq!(attempts[0]["blame"], "remote", "{shown}");
    assert_eq!(attempts[0]["calls"][0]["status"], 500, "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honoured() {
    let scene = Scene::new().await;
    scene.slack.fail_next(Fault::status(429).header("retry-after", "2"));
    let daemon = scene.home.start().await;
    daemon.client().send(&Event::new("evt_1", "reply.received")).await.unwrap();
    scene.ended(2).await;
    let calls = scene.slack.received();
    assert_eq!(calls.len(), 2);
    assert!(calls[1].at_ms - calls[0].at_ms >= 2000, "{} ms", calls[1].at_ms - calls[0].at_ms);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_delivery_is_dead_with_a_reason_and_an_operator_may_retry_it() {
    let scene = Scene::new().await;
    scene.slack.fail_next(Fault::status(404).body("no_service"));
    let daemon = scene.home.start().await;
    daemon.client().send(&Event::new("evt_1", "message.received")).await.unwrap();
    let rows = scene.ended(2).await;
    let dead = rows.iter().find(|row| row["status"] == "dead").expect("one is dead");
    assert!(dead["message"].as_str().unwrap().contains("no_service"), "{dead}");
    let id = dead["delivery"].as_str().unwrap();
    assert!(scene.home.cli(&["deliveries", "retry", id]).status.success());
    wait_for("the retried delivery to be done", async || {
        let row = scene.home.json(&["deliveries", "show", id])["row"].clone();
        (row["status"] == "done").then_some(())
    })
    .await;
    assert_eq!(scene.slack.received().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_any_more_is_held_and_goes_on_when_it_is_back() {
    let scene = Scene::new().await;
    scene.slack.fail_next(Fault::status(503).times(1000));
    let daemon = scene.home.start().await;
    daemon.client().send(&Event::new("evt_1", "message.received")).await.unwrap();
    wait_for("a failed attempt", async || (!scene.slack.received().is_empty()).then_some(())).await;
    drop(daemon);
    let whole = config(&scene.slack, &scene.hubspot);
    let without = whole.replace("handler: slack-notify }", "handler: slack-notify, enabled: false }");
    assert_ne!(whole, without);
    scene.home.configure("", &without);
    let daemon = scene.home.start().await;
    let held = scene.home.json(&["deliveries", "list", "--status", "held"]);
    assert_eq!(held["rows"].as_array().unwrap().len(), 1, "{held}");
    drop(daemon);
    scene.home.configure("", &whole);
    let _daemon = scene.home.start().await;
    let resumed = scene.home.json(&["deliveries", "list", "--status", "held"]);
    assert_eq!(resumed["rows"].as_array().unwrap().len(), 0, "{resumed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_handlers_deliveries_are_held_new_events_make_none_and_the_other_handler_works() {
    let scene = Scene::new().await;
    scene.slack.fail_next(Fault::delay(Duration::from_secs(300)));
    let mut daemon = scene.home.start().await;
    daemon.client().send(&Event::new("evt_before", "message.received")).await.unwrap();
    wait_for("the call that hangs", async || (!scene.slack.received().is_empty()).then_some(())).await;
    scene.ended(1).await;
    daemon.kill();

    let whole = config(&scene.slack, &scene.hubspot);
    let without = whole.replace("  slack-notify:\n", "  slack-notify:\n    enabled: false\n");
    assert_ne!(whole, without);
    scene.home.configure("", &without);
    let mut daemon = scene.home.start().await;
    daemon.client().send(&Event::new("evt_meanwhile", "message.received")).await.unwrap();
    let rows = scene.ended(2).await;
    assert_eq!(rows.len(), 3, "the new event made one delivery: {rows:#?}");
    let status = |handler: &str| -> Vec<_> {
        let of = rows.iter().filter(|row| row["handler"] == handler);
        of.map(|row| row["status"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(status("slack-notify"), ["held"]);
    assert_eq!(status("crm-sync"), ["done", "done"]);
    assert!(daemon.stop().success());

    scene.home.configure("", &whole);
    let _daemon = scene.home.start().await;
    let rows = scene.ended(3).await;
    assert!(rows.iter().all(|row| row["status"] == "done"), "{rows:#?}");
    assert_eq!(scene.slack.received().len(), 2, "the held one went on, and nothing else was called");
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_copies_at_once_are_one_call() {
    let scene = Scene::new().await;
    let daemon = scene.home.start().await;
    let client = Arc::new(daemon.client());
    let event = Event::new("evt_race", "reply.received");
    let mut copies = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (client, event) = (Arc::clone(&client), event.clone());
        copies.spawn(async move { client.send(&event).await.unwrap().status });
    }
    assert!(copies.join_all().await.iter().all(|status| *status == 200));
    // What came after the copies is done, so what a copy had led to would be there as well.
    client.send(&Event::new("evt_after", "reply.received")).await.unwrap();
    let rows = scene.ended(4).await;
    assert_eq!(rows.len(), 4, "{rows:#?}");
    assert_eq!(scene.slack.received().len(), 2, "one for the copies and one for the event after them");
    assert_eq!(scene.hubspot.notes().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn send_signs_an_event_and_prints_what_each_handler_did() {
    let scene = Scene::new().await;
    let daemon = scene.home.start().await;
    let output = scene.home.cli(&["send", "sendpilot", "message.received"]);
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // The configured port is 0, so the command asks the daemon for its address.
    assert!(output.status.success(), "{said}");
    for word in ["slack-notify", "crm-sync", "done"] {
        assert!(said.contains(word), "no `{word}` in {said}");
    }
    secrets_are_in_no_log(&daemon, &scene);
}

fn secrets_are_in_no_log(daemon: &Daemon, scene: &Scene) {
    let log = daemon.log();
    let history = scene.home.json(&["deliveries", "list"]).to_string();
    let webhook_path = scene.slack.webhook_url().replace(scene.slack.url(), "");
    for secret in [crate::support::SECRET, "pat-test", &webhook_path] {
        assert!(!log.contains(secret), "a secret is in the log");
        assert!(!history.contains(secret), "a secret is in the history");
    }
    assert!(!log.contains("linkedin.com/in/"), "a body is in the log:\n{log}");
}
