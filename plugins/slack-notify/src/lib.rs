//! slack-notify: posts a Slack message for each event, through an incoming webhook or with a bot token.
//!
//! The line: template, text, message, post, judge. The two ways of posting say yes and no in different words,
//! hence [`webhook`] and [`web_api`]; what a Slack error means for an operator is one table, in [`errors`].
//!
//! Not here: which events are posted (the subscription says it) and how often is tried (the handler's `retry`).

mod errors;
mod message;
mod template;
mod web_api;
mod webhook;

use std::collections::BTreeMap;

use longshore_sdk::prelude::*;

use crate::message::Message;
use crate::template::Template;

longshore_sdk::plugin! {
    name: "slack-notify",
    version: env!("CARGO_PKG_VERSION"),
    description: env!("CARGO_PKG_DESCRIPTION"),
    origins: ["https://hooks.slack.com", "https://slack.com"],
    settings: [
        text("template").default(TEMPLATE).help("The message, with JSON pointers in braces: {/data/reply}"),
        json("templates").help("Messages by event type, each used in place of `template`"),
        text("channel").help("Channel id (C…); with it the message goes to chat.postMessage, with `token`"),
        text("base_url").default("https://slack.com/api").help("Where chat.postMessage is"),
        secret("webhook").help("URL of an incoming webhook; used where no `channel` is set"),
        secret("token").help("Bot token (xoxb-…) with the scope chat:write; used with `channel`"),
    ],
    handle: handle,
}

/// Says something of every event: its type, whose it is, and what was written.
const TEMPLATE: &str = "*{type}* {/data/linkedinUrl|}\n{/data/reply|/data/replyPreview|/data/message|/data/messagePreview|/data/note|}";

fn handle(event: Event) -> Result<Outcome, Failure> {
    let text = template_for(&event.event_type)?.render(&event, &event.value()?);
    let Some(message) = Message::of(&text) else {
        return skip("the template gives no text for this event");
    };
    match settings::get("channel").filter(|channel| !channel.is_empty()) {
        Some(channel) => web_api::post(&channel, &message),
        None => webhook::post(&message),
    }
}

fn template_for(event_type: &str) -> Result<Template, settings::Error> {
    let by_type: BTreeMap<String, String> = settings::json("templates")?.unwrap_or_default();
    match by_type.get(event_type) {
        Some(source) => Template::parse(source)
            .map_err(|why| settings::Error::invalid("templates", format!("`{event_type}`: {why}"))),
        None => Template::parse(&settings::require("template")?)
            .map_err(|why| settings::Error::invalid("template", why)),
    }
}

#[cfg(test)]
mod tests;
