//! chat.postMessage: HTTP 200 with `ok: true`, or HTTP 200 with `ok: false` and a code.

use longshore_sdk::http::Response;
use longshore_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::errors;
use crate::message::Message;

#[derive(Serialize)]
struct Post<'a> {
    channel: &'a str,
    #[serde(flatten)]
    message: &'a Message,
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    ts: String,
}

pub(crate) fn post(channel: &str, message: &Message) -> Result<Outcome, Failure> {
    let url = format!("{}/chat.postMessage", settings::require("base_url")?.trim_end_matches('/'));
    let answer = http::post(url)
        .bearer("token")
        .json(&Post { channel, message })
        // Slack warns of a JSON body without it.
        .header("content-type", "application/json; charset=utf-8")
        .key("notify")
        .send()?
        .ok()?;
    match answer.json::<Answer>() {
        Ok(Answer { ok: true, ts, .. }) => done(format!("posted to {channel} as {ts}")),
        Ok(Answer { error, .. }) => refused(&answer, &error),
        Err(why) => {
            // Slack always answers in JSON: this came from something in between.
            answer.disown();
            retry(why.to_string())
        }
    }
}

fn refused(answer: &Response, code: &str) -> Result<Outcome, Failure> {
    answer.disown();
    let no = match errors::advice(code) {
        "" => format!("Slack answered `{code}`"),
        advice => format!("Slack answered `{code}`: {advice}"),
    };
    if errors::is_transient(code) { Err(Failure::retry(no).after(answer.retry_after())) } else { reject(no) }
}
