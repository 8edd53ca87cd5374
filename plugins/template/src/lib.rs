//! Posts every reply to a chat service. Replace the service, the body and the message by your own.

use longshore_sdk::prelude::*;
use serde::Deserialize;

// What the plugin asks for; the operator's configuration grants it. Name, version and description are those of
// Cargo.toml.
longshore_sdk::plugin! {
    events: ["message.received", "reply.received"],
    origins: ["https://chat.example.com"],
    settings: [
        text("room").default("sales").help("Where to post"),
        secret("token").required().help("API token of chat.example.com"),
    ],
    handle: handle,
}

/// The part of the event that matters here. A body that does not fit is rejected.
#[derive(Deserialize)]
struct Body {
    data: Lead,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lead {
    linkedin_url: String,
    /// The newer name and the older one.
    #[serde(alias = "replyPreview")]
    reply: Option<String>,
}

/// Called once for each attempt, in a fresh instance.
fn handle(event: Event) -> Result<Outcome, Failure> {
    let Lead { linkedin_url, reply } = event.json::<Body>()?.data;
    let Some(reply) = reply else {
        return skip("the event has no reply");
    };

    let room = settings::require("room")?;
    http::post(format!("https://chat.example.com/rooms/{room}/messages"))
        .bearer("token") // the secret's name; its value never gets here
        .json(&json!({ "text": format!("{linkedin_url} replied: {reply}") }))
        .key("post") // one name for each call, the same in every attempt; an attempt may still send it again
        .send()? // no answer: tried again
        .ok()?; // 429 and 5xx: tried again; other refusals: rejected

    log::info!(room, "posted");
    done(format!("posted to {room}"))
}

#[cfg(test)]
mod tests {
    use longshore_sdk::testing::{Answer, Host, event};

    use super::*;

    fn reply() -> Event {
        event("reply.received", json!({ "data": { "linkedinUrl": "https://linkedin.com/in/x", "reply": "Yes" } }))
    }

    #[test]
    fn a_reply_is_posted() {
        let host = Host::of(&PLUGIN);
        host.secret("token").answer(204);

        assert_eq!(host.deliver(reply()), done("posted to sales"));
        let call = &host.calls()[0];
        assert_eq!(call.url(), "https://chat.example.com/rooms/sales/messages");
        assert_eq!(call.json(), json!({ "text": "https://linkedin.com/in/x replied: Yes" }));
    }

    #[test]
    fn a_busy_service_is_asked_again_later() {
        let host = Host::of(&PLUGIN);
        host.secret("token").answer(Answer::new(429).header("retry-after", "30"));

        assert!(host.deliver(reply()).unwrap_err().is_retry());
    }

    #[test]
    fn an_event_without_a_reply_is_skipped() {
        let host = Host::of(&PLUGIN);
        let silent = event("reply.received", json!({ "data": { "linkedinUrl": "u" } }));

        assert_eq!(host.deliver(silent), skip("the event has no reply"));
        assert!(host.calls().is_empty());
    }
}
