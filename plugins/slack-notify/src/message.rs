//! The message as Block Kit wants it, within its limits.

use serde::Serialize;

/// A text object holds 3,000 characters (<https://docs.slack.dev/reference/block-kit/composition-objects/text-object>,
/// 2026-11). Counted here in UTF-16 units, the strictest of the ways to count.
pub(crate) const TEXT_UNITS_MAX: usize = 3000;

const ELLIPSIS: char = '…';

/// One section of text, and the same text for notifications and screen readers.
#[derive(Debug, Serialize)]
pub(crate) struct Message {
    text: String,
    blocks: [Section; 1],
}

#[derive(Debug, Serialize)]
struct Section {
    r#type: &'static str,
    text: Text,
}

#[derive(Debug, Serialize)]
struct Text {
    r#type: &'static str,
    text: String,
    /// Otherwise Slack makes links of bare URLs and mentions of `@here`, in values too.
    verbatim: bool,
}

impl Message {
    /// None where there is no text: Slack refuses an empty message.
    pub(crate) fn of(text: &str) -> Option<Message> {
        let text = clip(text.trim(), TEXT_UNITS_MAX);
        (!text.is_empty()).then(|| Message {
            text: text.clone(),
            blocks: [Section { r#type: "section", text: Text { r#type: "mrkdwn", text, verbatim: true } }],
        })
    }
}

/// At most `units_max` units, with an ellipsis in place of what was cut off. An escape (`&amp;`) or a link is cut
/// off whole: half of one would show as rubbish, or swallow the ellipsis.
fn clip(text: &str, units_max: usize) -> String {
    if units(text) <= units_max {
        return text.to_owned();
    }
    let mut kept = 0;
    let mut left = units_max - ELLIPSIS.len_utf16();
    for (at, c) in text.char_indices() {
        let Some(rest) = left.checked_sub(c.len_utf16()) else { break };
        left = rest;
        kept = at + c.len_utf8();
    }
    let mut start = &text[..kept];
    for (open, close) in [('&', ';'), ('<', '>')] {
        let halved = start.rfind(open).filter(|at| !start[*at..].contains(close));
        start = halved.map_or(start, |at| &start[..at]);
    }
    format!("{}{ELLIPSIS}", start.trim_end())
}

fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_one_verbatim_section_with_a_fallback() {
        let message = Message::of(" *hello* \n").unwrap();
        assert_eq!(
            serde_json::to_value(&message).unwrap(),
            json!({
                "text": "*hello*",
                "blocks": [{ "type": "section", "text": { "type": "mrkdwn", "text": "*hello*", "verbatim": true } }],
            })
        );
        assert!(Message::of(" \n ").is_none());
    }

    #[test]
    fn what_is_too_long_ends_in_an_ellipsis() {
        let rows = [
            ("12345", 5, "12345"),
            ("123456", 5, "1234…"),
            ("123 56", 5, "123…"),
            ("12&amp;67", 8, "12&amp;…"),
            ("12&amp;67", 7, "12…"),
            ("a <https://b|c> d", 10, "a…"),
            ("a <https://b|c> d e", 17, "a <https://b|c>…"),
            ("😀😀😀", 5, "😀😀…"),
            ("😀😀😀", 4, "😀…"),
        ];
        for (text, max, expected) in rows {
            assert_eq!(clip(text, max), expected, "{text} in {max}");
        }
        let full = "x".repeat(TEXT_UNITS_MAX);
        assert_eq!(Message::of(&full).unwrap().text, full);
        let over = Message::of(&format!("{full}x")).unwrap().text;
        assert_eq!((units(&over), over.ends_with("x…")), (TEXT_UNITS_MAX, true));
    }

    proptest! {
        /// Within the limit, and never half an escape, whatever is cut.
        #[test]
        fn a_clipped_text_is_whole(value in "[a&<> 😀]{0,40}", max in 8usize..60) {
            let text = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let clipped = clip(&text, max);
            prop_assert!(units(&clipped) <= max);
            let kept = clipped.strip_suffix(ELLIPSIS).unwrap_or(&clipped);
            prop_assert!(text.starts_with(kept));
            prop_assert_eq!(kept.matches('&').count(), kept.matches(';').count());
        }
    }
}
