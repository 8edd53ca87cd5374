//! The message's template: text with values in braces, and no way for a value to be anything but text.
//!
//! `{/data/reply|/data/replyPreview}` is the first of these JSON pointers that leads to something; `{type}`,
//! `{id}` and `{source}` are the event's own. Where nothing is found there is a `-`, or nothing at all where the
//! braces end in `|`. `{{` and `}}` are braces.
//!
//! Slack reads `<…>` as links and mentions. The template may write them, a value cannot: its `&`, `<` and `>` are
//! escaped (<https://docs.slack.dev/messaging/formatting-message-text>, 2026-11), and inside a link of the
//! template it is made part of a URL, so that `<{/data/linkedinUrl}|profile>` is never `<!channel|profile>`.

use std::fmt::Write;

use longshore_sdk::{Event, pointer};
use serde_json::Value;

/// Shown where a value is missing.
const MISSING: &str = "-";

#[derive(Debug, PartialEq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Value { origins: Vec<Origin>, missing: &'static str, place: Place },
}

#[derive(Debug, PartialEq)]
enum Origin {
    EventId,
    EventType,
    SourceName,
    Pointer(String),
}

/// Where in Slack's markup a value stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Text,
    /// Directly after `<`: what it begins with decides what Slack makes of it.
    UrlStart,
    /// Later in a link's URL.
    Url,
}

// === parsing ===

impl Template {
    /// # Errors
    /// A sentence that says where and what to write.
    pub(crate) fn parse(source: &str) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut place = Place::Text;
        let mut rest = source;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            text.push_str(before);
            place = place_after(place, before);
            if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
                text.push_str(&brace[..1]);
                place = place_after(place, &brace[..1]);
                rest = after;
                continue;
            }
            let inner_to_end = brace.strip_prefix('{').ok_or_else(|| stray(source, rest, at))?;
            let (inner, after) = inner_to_end.split_once('}').ok_or_else(|| unclosed(source, rest, at))?;
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(value(inner, place)?);
            place = place_after(place, "value");
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Template { pieces })
    }
}

fn stray(source: &str, rest: &str, at: usize) -> String {
    format!("the `}}` at character {} closes nothing; write `}}}}` for a brace", position(source, rest, at))
}

fn unclosed(source: &str, rest: &str, at: usize) -> String {
    format!("the `{{` at character {} is never closed; write `{{{{` for a brace", position(source, rest, at))
}

/// Counted from 1, as an editor does.
fn position(source: &str, rest: &str, at: usize) -> usize {
    source[..source.len() - rest.len() + at].chars().count() + 1
}

fn value(inner: &str, place: Place) -> Result<Piece, String> {
    let (names, missing) = match inner.strip_suffix('|') {
        Some(names) => (names, ""),
        None => (inner, MISSING),
    };
    let origins = names.split('|').map(|name| origin(name.trim())).collect::<Result<_, _>>()?;
    Ok(Piece::Value { origins, missing, place })
}

fn origin(name: &str) -> Result<Origin, String> {
    match name {
        "id" => Ok(Origin::EventId),
        "type" => Ok(Origin::EventType),
        "source" => Ok(Origin::SourceName),
        "" => Err("empty braces; write a JSON pointer in them, such as `{/data/reply}`".to_owned()),
        _ => pointer::check(name)
            .map(|()| Origin::Pointer(name.to_owned()))
            .map_err(|why| format!("{why}, or `type`, `id`, `source`")),
    }
}

/// Follows Slack's markup through the template's own text: `<url|label>`.
fn place_after(before: Place, text: &str) -> Place {
    text.chars().fold(before, |place, c| match (place, c) {
        (_, '<') => Place::UrlStart,
        (Place::UrlStart | Place::Url, '|' | '>') | (Place::Text, _) => Place::Text,
        (Place::UrlStart | Place::Url, _) => Place::Url,
    })
}

// === rendering ===

impl Template {
    pub(crate) fn render(&self, event: &Event, body: &Value) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Value { origins, missing, place } => {
                    match origins.iter().find_map(|origin| origin.text(event, body)) {
                        Some(value) => push(&mut out, &value, *place),
                        None => out.push_str(missing),
                    }
                }
            }
        }
        out
    }
}

impl Origin {
    fn text(&self, event: &Event, body: &Value) -> Option<String> {
        let own = match self {
            Origin::EventId => &event.id,
            Origin::EventType => &event.event_type,
            Origin::SourceName => &event.source,
            Origin::Pointer(pointer) => return pointer::text(body, pointer),
        };
        Some(own.clone()).filter(|text| !text.is_empty())
    }
}

fn push(out: &mut String, value: &str, place: Place) {
    match place {
        Place::Text => push_escaped(out, value),
        Place::Url => push_url(out, value),
        Place::UrlStart => {
            // `!channel`, `@U…` and `#C…` would be mentions; whatever is no URL is made one.
            if !["http://", "https://", "mailto:"].iter().any(|scheme| value.starts_with(scheme)) {
                out.push_str("https://");
            }
            push_url(out, value);
        }
    }
}

fn push_escaped(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
}

/// What would end the URL is percent-encoded.
fn push_url(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' | '>' | '|' | '"' => {
                write!(out, "%{:02X}", c as u32).expect("writing to a string cannot fail")
            }
            c if c.is_whitespace() || c.is_control() => out.push_str("%20"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use longshore_sdk::testing::event;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn render(template: &str, body: Value) -> String {
        let event = event("message.received", body.clone());
        Template::parse(template).unwrap().render(&event, &body)
    }

    #[test]
    fn values_are_found_and_escaped() {
        let body = json!({ "data": {
            "url": "https://linkedin.com/in/x?a=1&b=2", "bare": "linkedin.com/in/x", "reply": "1 < 2 & <!channel>",
            "replyPreview": "preview", "n": 7, "yes": true, "list": ["<a>"], "none": null, "empty": "",
            "mention": "!channel", "user": "@U123", "odd": "https://a b|<c>\n",
        }});
        let rows = [
            ("plain, with <!here> of its own", "plain, with <!here> of its own"),
            ("*{/data/url}*", "*https://linkedin.com/in/x?a=1&amp;b=2*"),
            ("{/data/reply}", "1 &lt; 2 &amp; &lt;!channel&gt;"),
            ("{/data/nothing|/data/none|/data/empty|/data/replyPreview}", "preview"),
            ("[{/data/nothing}] [{/data/nothing|}]", "[-] []"),
            ("{/data/n} {/data/yes} {/data/list}", "7 true [\"&lt;a&gt;\"]"),
            ("{type} {id} {source}", "message.received evt_test test"),
            ("{/data/nothing | type}", "message.received"),
            ("{{{/data/n}}} }}{{", "{7} }{"),
            ("<{/data/url}|profile>", "<https://linkedin.com/in/x?a=1&amp;b=2|profile>"),
            ("<{/data/bare}>", "<https://linkedin.com/in/x>"),
            ("<{/data/mention}>", "<https://!channel>"),
            ("<{/data/user}|{/data/user}>", "<https://@U123|@U123>"),
            ("<{/data/odd}|x> {/data/mention}", "<https://a%20b%7C%3Cc%3E%20|x> !channel"),
            (
                "<https://crm/{/data/odd}/{/data/mention}>",
                "<https://crm/https://a%20b%7C%3Cc%3E%20/!channel>",
            ),
            ("<{/data/nothing|/data/url}>", "<https://linkedin.com/in/x?a=1&amp;b=2>"),
            ("grüße {/data/n}", "grüße 7"),
            ("", ""),
        ];
        for (template, expected) in rows {
            assert_eq!(render(template, body.clone()), expected, "{template}");
        }
    }

    #[test]
    fn mistakes_say_where_and_what_to_write() {
        let rows = [
            ("ab {/data", "the `{` at character 4 is never closed; write `{{` for a brace"),
            ("grüße }", "the `}` at character 7 closes nothing; write `}}` for a brace"),
            ("{}", "empty braces; write a JSON pointer in them, such as `{/data/reply}`"),
            ("{/a||}", "empty braces; write a JSON pointer in them, such as `{/data/reply}`"),
            (
                "{data.reply}",
                "`data.reply` is not a JSON pointer: write `/data/reply`, or `type`, `id`, `source`",
            ),
        ];
        for (template, expected) in rows {
            assert_eq!(Template::parse(template).unwrap_err(), expected, "{template}");
        }
    }

    proptest! {
        #[test]
        fn any_template_is_read_or_refused(template in "[{}<>|/a-z~ ü]{0,40}") {
            let _ = Template::parse(&template);
        }

        #[test]
        fn text_without_braces_is_left_alone(text in "[^{}]{0,60}") {
            prop_assert_eq!(render(&text, Value::Null), text);
        }

        /// Whatever the value: in the text it brings no markup, in a link exactly the template's own.
        #[test]
        fn no_value_can_write_markup(value in any::<String>()) {
            let body = json!({ "v": value });
            let text = render("{/v}", body.clone());
            prop_assert!(!text.contains(['<', '>']));
            let link = render("<{/v}|label>", body);
            let inner = link.strip_prefix('<').and_then(|rest| rest.strip_suffix("|label>")).unwrap();
            prop_assert!(!inner.contains(['<', '>', '|', '\n', ' ']));
            prop_assert!(inner == "-" || ["http://", "https://", "mailto:"].iter().any(|s| inner.starts_with(s)));
        }
    }
}
