//! What a stand-in accepts, and what it does then; and the faults by which a test has it misbehave.

use std::time::Duration;

use serde_json::{Value, json};
use stand_ins::{Fault, HubSpot, Slack};

use crate::knock::{Reply, knock};

const JSON: (&str, &str) = ("content-type", "application/json");
const UPSERT: &str = "/crm/v3/objects/contacts/batch/upsert";
const NOTES: &str = "/crm/v3/objects/notes";

async fn post_to_webhook(slack: &Slack, message: &Value) -> Reply {
    let path = slack.webhook_url()[slack.url().len()..].to_owned();
    knock(slack.url(), "POST", &path, &[JSON], &message.to_string()).await
}

async fn ask(hubspot: &HubSpot, path: &str, body: &Value) -> Reply {
    let token = format!("Bearer {}", hubspot.token());
    knock(hubspot.url(), "POST", path, &[JSON, ("authorization", &token)], &body.to_string()).await
}

fn input(id: &str, properties: Value) -> Value {
    json!({"id": id, "idProperty": "sendpilot_lead_id", "properties": properties})
}

#[tokio::test]
async fn a_webhook_message_is_posted_and_kept() {
    let slack = Slack::start().await;
    let text = json!({"type": "mrkdwn", "text": "x".repeat(3_000)});
    let message =
        json!({"text": "a reply", "blocks": [{"type": "section", "text": text}, {"type": "divider"}]});
    let reply = post_to_webhook(&slack, &message).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));

    let kept = slack.wait_for(1).await;
    assert_eq!(kept[0].json(), message);
    assert_eq!(kept[0].headers["content-type"], "application/json");
    assert_eq!(kept[0].status, 200);
}

#[tokio::test]
async fn chat_post_message_answers_with_the_message() {
    let slack = Slack::start().await;
    let token = format!("Bearer {}", slack.bot_token());
    let message = json!({"channel": "#sales", "text": "a reply"}).to_string();
    let headers = [JSON, ("authorization", token.as_str())];
    let reply = knock(slack.url(), "POST", "/api/chat.postMessage", &headers, &message).await.json();
    assert_eq!((&reply["ok"], &reply["channel"]), (&json!(true), &json!("#sales")));
    assert_eq!(reply["message"]["text"], "a reply");
}

#[tokio::test]
async fn a_contact_is_created_once_and_then_changed() {
    let hubspot = HubSpot::start("token").await;
    let first =
        ask(&hubspot, UPSERT, &json!({"inputs": [input("lead_1", json!({"firstname": "Ada"}))]})).await;
    assert_eq!(first.status, 200, "{}", first.body);
    let first = first.json();
    assert_eq!((&first["status"], &first["results"][0]["new"]), (&json!("COMPLETE"), &json!(true)));

    let again = json!({"inputs": [input("lead_1", json!({"lastname": "Lovelace", "firstname": ""}))]});
    let again = ask(&hubspot, UPSERT, &again).await.json();
    assert_eq!(again["results"][0]["new"], false);
    assert_eq!(again["results"][0]["id"], first["results"][0]["id"]);

    let contacts = hubspot.contacts();
    assert_eq!(contacts.len(), 1);
    assert_eq!(contacts[0]["properties"]["lastname"], "Lovelace");
    assert_eq!(contacts[0]["properties"]["sendpilot_lead_id"], "lead_1");
    assert_eq!(contacts[0]["properties"]["firstname"], Value::Null, "an empty text clears a property");
}

#[tokio::test]
async fn a_note_is_put_on_its_contact() {
    let hubspot = HubSpot::start("token").await;
    let contact = ask(&hubspot, UPSERT, &json!({"inputs": [input("lead_1", json!({}))]})).await.json();
    let id = &contact["results"][0]["id"];
    let note = json!({
        "properties": {"hs_timestamp": "2026-03-01T00:00:00Z", "hs_note_body": "Yes, please."},
        "associations": [{
            "to": {"id": id},
            "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202}],
        }],
    });
    let reply = ask(&hubspot, NOTES, &note).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    assert_eq!(hubspot.notes()[0]["contacts"][0], *id);
}

#[tokio::test]
async fn one_bad_input_refuses_the_batch_unless_each_has_a_trace() {
    let hubspot = HubSpot::start("token").await;
    let mut inputs = [input("lead_1", json!({})), input("lead_2", json!({"first_name": "Ada"}))];
    let refused = ask(&hubspot, UPSERT, &json!({"inputs": inputs})).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(hubspot.contacts().is_empty());

    inputs[0]["objectWriteTraceId"] = "first".into();
    inputs[1]["objectWriteTraceId"] = "second".into();
    let partly = ask(&hubspot, UPSERT, &json!({"inputs": inputs})).await;
    assert_eq!(partly.status, 207, "{}", partly.body);
    let partly = partly.json();
    assert_eq!(partly["results"][0]["objectWriteTraceId"], "first");
    assert_eq!(partly["errors"][0]["context"]["objectWriteTraceId"][0], "second");
    assert_eq!(hubspot.contacts().len(), 1);
}

#[tokio::test]
async fn an_address_that_another_contact_has_is_a_conflict() {
    let hubspot = HubSpot::start("token").await;
    let ada = json!({"inputs": [input("lead_1", json!({"email": "Ada@Example.com"}))]});
    assert_eq!(ask(&hubspot, UPSERT, &ada).await.status, 200);
    let impostor = json!({"inputs": [input("lead_2", json!({"email": "ada@example.com"}))]});
    let refused = ask(&hubspot, UPSERT, &impostor).await;
    assert_eq!(refused.status, 409);
    assert!(refused.body.contains("Contact already exists. Existing ID: "), "{}", refused.body);
    let by_address = json!({"inputs": [{"id": "ADA@example.com", "idProperty": "email", "properties": {"city": "London"}}]});
    assert_eq!(ask(&hubspot, UPSERT, &by_address).await.json()["results"][0]["new"], false);
}

#[tokio::test]
async fn faults_are_used_up_in_order_and_by_path() {
    let hubspot = HubSpot::start("token").await;
    hubspot.fail_next(Fault::status(429).header("Retry-After", "7").times(2).on(UPSERT));
    hubspot.fail_next(Fault::status(503).body("busy").acting());
    let batch = json!({"inputs": [input("lead_1", json!({}))]});
    for _ in 0..2 {
        let limited = ask(&hubspot, UPSERT, &batch).await;
        assert_eq!(limited.status, 429);
        assert!(limited.headers.contains("retry-after: 7"), "{}", limited.headers);
    }
    assert!(hubspot.contacts().is_empty(), "a fault does nothing");
    let lied = ask(&hubspot, UPSERT, &batch).await;
    assert_eq!((lied.status, lied.body.as_str()), (503, "busy"));
    assert_eq!(hubspot.contacts().len(), 1, "but one that acts does");
    assert_eq!(ask(&hubspot, UPSERT, &batch).await.status, 200, "and then all is well");
    let statuses: Vec<u16> = hubspot.received().iter().map(|one| one.status).collect();
    assert_eq!(statuses, [429, 429, 503, 200]);
}

#[tokio::test]
async fn faults_and_records_are_there_over_http_too() {
    let slack = Slack::start().await;
    for bad in [
        "{}x",
        r#"{"state": 500}"#,
        r#"{"status": 99}"#,
        r#"{"delay_ms": 600001}"#,
        r#"{"status": 500, "headers": {"a b": "c"}}"#,
    ] {
        assert_eq!(knock(slack.url(), "POST", "/faults", &[JSON], bad).await.status, 400, "{bad}");
    }
    let fault = r#"{"status": 500, "times": 1, "body": "rollup_error"}"#;
    assert_eq!(knock(slack.url(), "POST", "/faults", &[JSON], fault).await.status, 204);
    assert_eq!(post_to_webhook(&slack, &json!({"text": "hello"})).await.body, "rollup_error");
    assert_eq!(post_to_webhook(&slack, &json!({"text": "hello"})).await.body, "ok");

    let kept = knock(slack.url(), "GET", "/received", &[], "").await.json();
    assert_eq!((&kept[0]["answer"], &kept[1]["answer"]), (&json!("rollup_error"), &json!("ok")));
    assert_eq!(knock(slack.url(), "DELETE", "/received", &[], "").await.status, 204);
    assert!(slack.received().is_empty());
}

#[tokio::test]
async fn a_request_is_kept_before_its_late_answer() {
    let slack = Slack::start().await;
    slack.fail_next(Fault::delay(Duration::from_secs(600)));
    let message = json!({"text": "hello"});
    let answered = post_to_webhook(&slack, &message);
    let kept = tokio::select! {
        _ = answered => panic!("the answer is ten minutes away"),
        kept = slack.wait_for(1) => kept,
    };
    assert_eq!((kept[0].json(), kept[0].status), (message, 200));
}

#[tokio::test]
async fn only_loopback_is_listened_on() {
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let refused = Slack::open(everywhere, stand_ins::SlackSetup::default()).await.err().unwrap();
    assert!(refused.to_string().contains("127.0.0.1:0"), "{refused}");
}

#[tokio::test]
async fn a_body_over_the_cap_is_refused_and_not_kept() {
    let slack = Slack::start().await;
    let around = json!({"text": ""}).to_string().len();
    // One byte over: all of it is read before the answer, so the answer cannot be lost to a reset.
    let message = json!({"text": "x".repeat(4 * 1024 * 1024 + 1 - around)});
    assert_eq!(post_to_webhook(&slack, &message).await.status, 413);
    assert!(slack.received().is_empty());
}
