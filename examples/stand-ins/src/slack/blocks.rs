//! What Slack refuses in a message: no text, too many blocks, a text that is too long.
//!
//! The rules are those of <https://docs.slack.dev/reference/block-kit/blocks> (read 2026-11) for the blocks
//! that a message from a plugin is made of; types beyond them are passed unexamined.

use serde_json::Value;

use super::Refusal;
use crate::limits::{
    SLACK_ACTIONS_ELEMENTS_MAX, SLACK_ATTACHMENTS_MAX, SLACK_BLOCK_ID_CHARS_MAX, SLACK_BLOCKS_MAX,
    SLACK_CONTEXT_ELEMENTS_MAX, SLACK_FIELD_CHARS_MAX, SLACK_FIELDS_MAX, SLACK_HEADER_CHARS_MAX,
    SLACK_MARKDOWN_CHARS_MAX, SLACK_TEXT_CHARS_MAX,
};

/// Whether Slack would post this JSON object.
pub(super) fn check(message: &Value) -> Result<(), Refusal> {
    let attachments = list(message, "attachments", "invalid_attachments")?;
    let blocks = list(message, "blocks", "invalid_blocks_format")?;
    if message.get("text").is_some_and(|text| !text.is_string()) {
        return Err(Refusal::new("invalid_payload"));
    }
    if attachments.len() > SLACK_ATTACHMENTS_MAX {
        return Err(Refusal::new("too_many_attachments"));
    }
    let has_text = message["text"].as_str().is_some_and(|text| !text.trim().is_empty());
    if !has_text && attachments.is_empty() && blocks.is_empty() {
        return Err(Refusal::new("no_text"));
    }
    let details = problems(blocks);
    if details.is_empty() { Ok(()) } else { Err(Refusal { error: "invalid_blocks", details }) }
}

/// A list of objects, empty where the field is missing; `error` where it is something else.
fn list<'a>(message: &'a Value, field: &str, error: &'static str) -> Result<&'a [Value], Refusal> {
    match message.get(field) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(all)) if all.iter().all(Value::is_object) => Ok(all),
        Some(_) => Err(Refusal::new(error)),
    }
}

fn problems(blocks: &[Value]) -> Vec<String> {
    if blocks.len() > SLACK_BLOCKS_MAX {
        return vec![format!("no more than {SLACK_BLOCKS_MAX} items allowed [json-pointer:/blocks]")];
    }
    let each = blocks.iter().enumerate();
    each.filter_map(|(at, block)| Some(format!("{} [json-pointer:/blocks/{at}]", problem(block)?))).collect()
}

fn problem(block: &Value) -> Option<String> {
    let id = block.get("block_id").map(|id| id.as_str().map_or(usize::MAX, chars));
    if id.is_some_and(|chars| chars > SLACK_BLOCK_ID_CHARS_MAX) {
        return Some(format!("block_id is a text of at most {SLACK_BLOCK_ID_CHARS_MAX} characters"));
    }
    match block["type"].as_str() {
        Some("section") => section(block),
        Some("header") => header(block),
        Some("context") => context(block),
        Some("actions") => count(block, "elements", SLACK_ACTIONS_ELEMENTS_MAX),
        Some("image") => image(block),
        Some("markdown") => plain(&block["text"], "text", SLACK_MARKDOWN_CHARS_MAX),
        Some("divider" | "rich_text" | "video" | "file" | "input" | "table") => None,
        Some(other) => Some(format!("unsupported type: {other}")),
        None => Some("missing required field: type".to_owned()),
    }
}

fn section(block: &Value) -> Option<String> {
    match (block.get("text"), block.get("fields")) {
        (None, None) => Some("section needs text or fields".to_owned()),
        (Some(of), None) => text(of, SLACK_TEXT_CHARS_MAX),
        (None, Some(_)) => fields(block),
        (Some(of), Some(_)) => text(of, SLACK_TEXT_CHARS_MAX).or_else(|| fields(block)),
    }
}

fn fields(block: &Value) -> Option<String> {
    count(block, "fields", SLACK_FIELDS_MAX)
        .or_else(|| items(block, "fields").iter().find_map(|field| text(field, SLACK_FIELD_CHARS_MAX)))
}

fn header(block: &Value) -> Option<String> {
    if block["text"]["type"] != "plain_text" {
        return Some("must be of type plain_text: text".to_owned());
    }
    text(&block["text"], SLACK_HEADER_CHARS_MAX)
}

fn context(block: &Value) -> Option<String> {
    count(block, "elements", SLACK_CONTEXT_ELEMENTS_MAX)
        .or_else(|| items(block, "elements").iter().find_map(context_element))
}

fn context_element(element: &Value) -> Option<String> {
    if element["type"] == "image" { image(element) } else { text(element, SLACK_TEXT_CHARS_MAX) }
}

fn image(block: &Value) -> Option<String> {
    let has_source = block["image_url"].is_string() || block["slack_file"].is_object();
    (!has_source || !block["alt_text"].is_string())
        .then(|| "missing required field: image_url and alt_text".to_owned())
}

/// A text object: its type, then its length.
fn text(object: &Value, chars_max: usize) -> Option<String> {
    if !matches!(object["type"].as_str(), Some("mrkdwn" | "plain_text")) {
        return Some("a text object is of type mrkdwn or plain_text".to_owned());
    }
    plain(&object["text"], "text", chars_max)
}

fn plain(value: &Value, name: &str, chars_max: usize) -> Option<String> {
    match value.as_str().map(chars) {
        None => Some(format!("missing required field: {name}")),
        Some(0) => Some(format!("must be more than 0 characters: {name}")),
        Some(chars) if chars > chars_max => {
            Some(format!("must be less than {} characters: {name}", chars_max + 1))
        }
        Some(_) => None,
    }
}

fn count(block: &Value, name: &str, max: usize) -> Option<String> {
    match items(block, name).len() {
        0 => Some(format!("missing required field: {name}")),
        count if count > max => Some(format!("no more than {max} items allowed: {name}")),
        _ => None,
    }
}

fn items<'a>(block: &'a Value, name: &str) -> &'a [Value] {
    block[name].as_array().map_or(&[], Vec::as_slice)
}

fn chars(text: &str) -> usize {
    text.chars().count()
}
