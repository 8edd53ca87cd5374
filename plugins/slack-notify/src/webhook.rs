//! An incoming webhook: `ok` in plain text, or a code in plain text with a status of its own.

use longshore_sdk::http::Response;
use longshore_sdk::prelude::*;

use crate::errors;
use crate::message::Message;

pub(crate) fn post(message: &Message) -> Result<Outcome, Failure> {
    let answer = http::post(Target::secret_url("webhook")).json(message).key("notify").send()?;
    if !answer.is_success() {
        return Err(answer.failure(errors::advice(errors::code(&answer.text()))));
    }
    if says_ok(&answer) {
        return done("posted");
    }
    // Whatever answered, it is not the yes that Slack gives. Not tried again: where the message did arrive after
    // all, each try would post it once more.
    answer.disown();
    let code = errors::code(&answer.text()).to_owned();
    let no = answer.failure(errors::advice(&code)).reason().to_owned();
    if errors::is_transient(&code) { Err(Failure::retry(no).after(answer.retry_after())) } else { reject(no) }
}

/// Slack says `ok`; a workflow's webhook says `{"ok":true}`.
fn says_ok(answer: &Response) -> bool {
    answer.text().trim() == "ok" || answer.json::<Value>().is_ok_and(|body| body["ok"] == true)
}
