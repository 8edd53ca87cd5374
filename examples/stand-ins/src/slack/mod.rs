//! Slack: an incoming webhook and `chat.postMessage`.
//!
//! The two answer in different ways, which is why a plugin must know both. A webhook answers with a status
//! and one word as plain text (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>); a
//! Web API method answers 200 with `"ok": false` (<https://docs.slack.dev/reference/methods/chat.postMessage>;
//! both read 2026-11).

mod blocks;

use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::desk::{self, Desk, Fault, Received};
use crate::exchange::{Answer, Request};
use crate::random;
use crate::time::now_ms;

/// A running stand-in for Slack; dropping it ends it.
pub struct Slack {
    desk: Desk,
    setup: SlackSetup,
}

/// What the stand-in's workspace has.
#[derive(Debug, Clone)]
pub struct SlackSetup {
    /// Path of the one incoming webhook: `/services/T…/B…/…`.
    pub webhook_path: String,
    /// The bot's token, for `chat.postMessage`.
    pub bot_token: String,
}

impl Default for SlackSetup {
    fn default() -> SlackSetup {
        SlackSetup {
            webhook_path: format!("/services/T{}/B{}/{}", random::word(8), random::word(8), random::word(24)),
            bot_token: format!("stand-in-bot-{}", random::word(24)),
        }
    }
}

impl Slack {
    /// On a free loopback port, with a webhook and a token that nobody knows beforehand.
    pub async fn start() -> Slack {
        Slack::open(desk::anywhere(), SlackSetup::default()).await.expect("loopback has a free port")
    }

    pub async fn open(address: SocketAddr, setup: SlackSetup) -> io::Result<Slack> {
        let mut workspace = Workspace { setup: setup.clone(), posted: 0 };
        let desk = Desk::open(address, Box::new(move |request| workspace.judge(request))).await?;
        Ok(Slack { desk, setup })
    }

    /// `http://127.0.0.1:port`: the origin to grant.
    pub fn url(&self) -> &str {
        self.desk.url()
    }

    pub fn webhook_url(&self) -> String {
        format!("{}{}", self.desk.url(), self.setup.webhook_path)
    }

    pub fn bot_token(&self) -> &str {
        &self.setup.bot_token
    }

    /// Everything that has come, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.desk.received()
    }

    /// Everything that has come, once `count` requests have. Put your own deadline around it.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        self.desk.wait_for(count).await
    }

    /// Faults are used up in the order in which they were set.
    pub fn fail_next(&self, fault: Fault) {
        self.desk.fail_next(fault).expect("the fault is one that can be answered");
    }
}

struct Workspace {
    setup: SlackSetup,
    posted: u64,
}

impl Workspace {
    fn judge(&mut self, request: &Request) -> Answer {
        if let Some(method) = request.path.strip_prefix("/api/") {
            return self.api(method, request);
        }
        if request.path.starts_with("/services/") {
            return self.webhook(request);
        }
        Answer::text(404, "no_service")
    }

    fn webhook(&mut self, request: &Request) -> Answer {
        if request.method != "POST" {
            return Answer::text(405, "method_not_allowed");
        }
        if let Some(refusal) = self.wrong_webhook(&request.path) {
            return refusal;
        }
        // A form field named `payload` is documented too; it is not stood in for.
        let is_json = request.media_type().is_some_and(|media| media == "application/json");
        let message = serde_json::from_slice::<Value>(&request.body).ok().filter(Value::is_object);
        let Some(message) = message.filter(|_| is_json) else {
            return Answer::text(400, "invalid_payload");
        };
        match blocks::check(&message) {
            Ok(()) => {
                self.posted += 1;
                Answer::text(200, "ok")
            }
            Err(refusal) => Answer::text(400, refusal.error),
        }
    }

    /// Which part of the path is unknown decides the word: the team, the webhook, or its token.
    fn wrong_webhook(&self, path: &str) -> Option<Answer> {
        if path == self.setup.webhook_path {
            return None;
        }
        let known: Vec<&str> = self.setup.webhook_path.split('/').collect();
        let asked: Vec<&str> = path.split('/').collect();
        let same = known.iter().zip(&asked).take_while(|(known, asked)| known == asked).count();
        Some(match same {
            2 => Answer::text(404, "no_team"),
            4 if asked.len() == known.len() => Answer::text(403, "invalid_token"),
            _ => Answer::text(404, "no_service"),
        })
    }

    fn api(&mut self, method: &str, request: &Request) -> Answer {
        if method != "chat.postMessage" {
            return Answer::json(200, &json!({"ok": false, "error": "unknown_method", "req_method": method}));
        }
        if request.method != "POST" {
            return Answer::text(405, "method_not_allowed");
        }
        match self.post_message(request) {
            Ok(posted) => Answer::json(200, &posted),
            Err(refusal) => Answer::json(200, &refusal.body()),
        }
    }

    fn post_message(&mut self, request: &Request) -> Result<Value, Refusal> {
        match request.media_type().as_deref() {
            Some("application/json") => {}
            None => return Err(Refusal::new("missing_post_type")),
            Some("application/x-www-form-urlencoded" | "multipart/form-data") => {
                return Err(Refusal::new("invalid_form_data")); // documented, but not stood in for
            }
            Some(_) => return Err(Refusal::new("invalid_post_type")),
        }
        match request.bearer() {
            Some(token) if token == self.setup.bot_token => {}
            Some(_) => return Err(Refusal::new("invalid_auth")),
            None => return Err(Refusal::new("not_authed")),
        }
        let message: Value =
            serde_json::from_slice(&request.body).map_err(|_| Refusal::new("invalid_json"))?;
        if !message.is_object() {
            return Err(Refusal::new("json_not_object"));
        }
        let channel = message["channel"].as_str().filter(|name| is_channel(name));
        let Some(channel) = channel else { return Err(Refusal::new("channel_not_found")) };
        blocks::check(&message)?;
        Ok(self.posted(channel, &message))
    }

    fn posted(&mut self, channel: &str, message: &Value) -> Value {
        self.posted += 1;
        let ts = format!("{}.{:06}", now_ms() / 1_000, self.posted % 1_000_000);
        json!({
            "ok": true,
            "channel": channel,
            "ts": ts,
            "message": { "type": "message", "ts": ts, "text": message["text"].as_str().unwrap_or_default() },
        })
    }
}

/// An encoded id (`C1234567890`), or a name with or without its `#`.
fn is_channel(channel: &str) -> bool {
    let name = channel.strip_prefix('#').unwrap_or(channel);
    (1..=80).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Why a message is not posted, in Slack's word, with where the fault is.
#[derive(Debug)]
struct Refusal {
    error: &'static str,
    details: Vec<String>,
}

impl Refusal {
    fn new(error: &'static str) -> Refusal {
        Refusal { error, details: Vec::new() }
    }

    fn body(&self) -> Value {
        let mut body = json!({"ok": false, "error": self.error});
        if !self.details.is_empty() {
            body["response_metadata"] = json!({ "messages": self.details });
        }
        body
    }
}
