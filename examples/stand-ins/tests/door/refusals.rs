//! A stand-in that refuses nothing proves nothing: each row of `refusals/*.json` is a request that the real
//! service refuses, with the status and the words of its answer. A refused request is kept and does nothing.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use stand_ins::{HubSpot, Received, Slack};

use crate::knock::knock;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    #[serde(default = "post")]
    method: String,
    /// `webhook`, `webhook+` (one character more), `api`, `contacts`, `notes`, or a path.
    to: String,
    /// Left out: JSON, and the right token. Null: the header is left out.
    #[serde(default = "json_type")]
    content_type: Option<String>,
    #[serde(default = "right")]
    token: Option<String>,
    body: String,
    status: u16,
    words: String,
}

fn post() -> String {
    "POST".to_owned()
}

fn json_type() -> Option<String> {
    Some("application/json; charset=utf-8".to_owned())
}

fn right() -> Option<String> {
    Some("right".to_owned())
}

#[tokio::test]
async fn slack_refuses_what_slack_refuses() {
    let slack = Slack::start().await;
    let webhook = slack.webhook_url()[slack.url().len()..].to_owned();
    let rows = rows("slack.json");
    assert_eq!(rows.len(), 28, "a row of slack.json was lost, or this number was not raised");
    for row in &rows {
        let path = match row.to.as_str() {
            "webhook" => webhook.clone(),
            "webhook+" => format!("{webhook}X"),
            "api" => "/api/chat.postMessage".to_owned(),
            path => path.to_owned(),
        };
        check(row, slack.url(), &path, slack.bot_token(), &slack.received()).await;
    }
    assert!(slack.received().iter().all(|one| one.answer != "ok" && !one.answer.contains("\"ok\":true")));
}

#[tokio::test]
async fn hubspot_refuses_what_hubspot_refuses() {
    let hubspot = HubSpot::start("the-right-token").await;
    let rows = rows("hubspot.json");
    assert_eq!(rows.len(), 26, "a row of hubspot.json was lost, or this number was not raised");
    for row in &rows {
        let path = match row.to.as_str() {
            "contacts" => "/crm/v3/objects/contacts/batch/upsert",
            "notes" => "/crm/v3/objects/notes",
            path => path,
        };
        check(row, hubspot.url(), path, hubspot.token(), &hubspot.received()).await;
    }
    assert_eq!(hubspot.received().len(), rows.len(), "what was refused is kept too");
    assert_eq!((hubspot.contacts(), hubspot.notes()), (vec![], vec![]), "what was refused did nothing");
}

async fn check(row: &Row, url: &str, path: &str, token: &str, before: &[Received]) {
    let authorization = row.token.as_deref().map(|given| if given == "right" { token } else { given });
    let authorization = authorization.map(|token| format!("Bearer {token}"));
    let mut headers = Vec::new();
    headers.extend(row.content_type.as_deref().map(|value| ("content-type", value)));
    headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
    let reply = knock(url, &row.method, path, &headers, &expand(&row.body)).await;
    assert_eq!(reply.status, row.status, "{}: {}", row.name, reply.body);
    assert!(reply.body.contains(&row.words), "{}: {}", row.name, reply.body);

    let kept = knock(url, "GET", "/received", &[], "").await.json();
    let kept = kept.as_array().unwrap();
    assert_eq!(kept.len(), before.len() + 1, "{}", row.name);
    assert_eq!(kept[before.len()]["path"], path, "{}", row.name);
    assert_eq!(kept[before.len()]["status"], row.status, "{}", row.name);
}

fn rows(file: &str) -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/door/refusals").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// `{3001}` is that many characters; `{contact}` and `{101 contacts}` are good batches but for their number.
fn expand(body: &str) -> String {
    match body {
        "{contact}" => return batch(1).to_string(),
        "{101 contacts}" => return batch(101).to_string(),
        _ => {}
    }
    let mut body = body.to_owned();
    for count in [151, 3_001, 65_537] {
        body = body.replace(&format!("{{{count}}}"), &"x".repeat(count));
    }
    body
}

fn batch(count: usize) -> Value {
    let inputs: Vec<Value> = (0..count)
        .map(|n| json!({"id": format!("lead_{n}"), "idProperty": "sendpilot_lead_id", "properties": {}}))
        .collect();
    json!({ "inputs": inputs })
}
