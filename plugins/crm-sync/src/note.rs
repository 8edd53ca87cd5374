//! The note: what the lead replied, on the timeline of its contact.
//!
//! `POST /crm/v3/objects/notes` (<https://developers.hubspot.com/docs/api-reference/crm-notes-v3/guide>, 2026-11).
//! HubSpot has no upsert of notes: a call whose answer was lost is sent again, and may leave a second note.

use longshore_sdk::prelude::*;
use serde::Serialize;

use crate::hubspot::HubSpot;
use crate::pointer_setting;

const PATH: &str = "/crm/v3/objects/notes";

/// HubSpot's association from a note to a contact.
const NOTE_TO_CONTACT: u32 = 202;

/// `hs_note_body` holds 65,536 characters.
pub(crate) const BODY_CHARS_MAX: usize = 65_536;

pub(crate) struct Note {
    html: String,
    time: String,
}

#[derive(Serialize)]
struct NewNote<'a> {
    properties: Properties<'a>,
    associations: [Association<'a>; 1],
}

#[derive(Serialize)]
struct Properties<'a> {
    hs_note_body: &'a str,
    hs_timestamp: &'a str,
}

#[derive(Serialize)]
struct Association<'a> {
    to: To<'a>,
    types: [Type; 1],
}

#[derive(Serialize)]
struct To<'a> {
    id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Type {
    association_category: &'static str,
    association_type_id: u32,
}

/// The note that this event asks for, if it does.
pub(crate) fn of(event: &Event, body: &Value) -> Result<Option<Note>, Failure> {
    let types: Vec<String> = settings::json("note_types")?.unwrap_or_default();
    if !types.contains(&event.event_type) {
        return Ok(None);
    }
    let Some(text) = pointer::text(body, &pointer_setting("note_pointer")?) else {
        log::info!("the event has no text for a note");
        return Ok(None);
    };
    let title = settings::get("note_title").unwrap_or_default();
    let time = time(event, body, &pointer_setting("note_time_pointer")?);
    Ok(Some(Note { html: html(&title, &text), time }))
}

/// The note's id, for the history.
pub(crate) fn write(hubspot: &HubSpot, note: &Note, contact: &str) -> Result<String, Failure> {
    let types = [Type { association_category: "HUBSPOT_DEFINED", association_type_id: NOTE_TO_CONTACT }];
    let body = NewNote {
        properties: Properties { hs_note_body: &note.html, hs_timestamp: &note.time },
        associations: [Association { to: To { id: contact }, types }],
    };
    let answer = hubspot.post(PATH, &body, "note")?;
    let made: Value = answer.json().unwrap_or_default();
    if let Some(id) = pointer::text(&made, "/id") {
        return Ok(id);
    }
    if says_no(&made) {
        // Recorded as a yes it would not be sent again.
        answer.disown();
        return Err(hubspot.failure(&answer, &answer.json().unwrap_or_default()));
    }
    // The note is there though its id did not come; it only helps to find it.
    Ok("made".into())
}

/// A 2xx whose content is an error. Anything else that HubSpot does not say, as the page of a proxy, is no word on the
/// note: another try could write it twice.
fn says_no(answer: &Value) -> bool {
    answer["ok"] == false || answer["status"] == "error" || answer["category"].is_string()
}

/// What the event says, in UTC and ISO 8601; else when it was received. Either is the same in every attempt.
fn time(event: &Event, body: &Value, pointers: &str) -> String {
    pointer::text(body, pointers)
        .filter(|said| is_utc_time(said))
        .unwrap_or_else(|| event.received_at_ms.to_string())
}

/// `2026-02-20T18:00:00.000Z`; HubSpot refuses the note for any other form.
fn is_utc_time(text: &str) -> bool {
    let (date, fraction) = text.split_at_checked(19).unwrap_or_default();
    let shape = date.bytes().map(|b| if b.is_ascii_digit() { b'0' } else { b });
    let fraction = fraction.strip_suffix('Z').map(|f| f.strip_prefix('.').unwrap_or(f));
    shape.eq(*b"0000-00-00T00:00:00")
        && fraction.is_some_and(|f| f.len() <= 9 && f.bytes().all(|b| b.is_ascii_digit()))
}

/// A note is HTML; what a stranger wrote must not be.
fn html(title: &str, text: &str) -> String {
    let mut html = String::new();
    if !title.is_empty() {
        html.push_str("<p><strong>");
        title.chars().for_each(|c| push_escaped(&mut html, c));
        html.push_str("</strong></p>");
    }
    html.push_str("<p>");
    push_clipped(&mut html, text.trim(), "…</p>", "</p>");
    html
}

/// Pushes as much of the text as leaves room for an end: `full` where it fits whole, `cut` where it does not.
fn push_clipped(html: &mut String, text: &str, cut: &str, full: &str) {
    let mut chars = html.chars().count();
    let room = BODY_CHARS_MAX.saturating_sub(cut.chars().count());
    let (mut fits_until, mut escaped) = (html.len(), html.clone());
    for c in text.chars() {
        let before = escaped.len();
        push_escaped(&mut escaped, c);
        chars += escaped[before..].chars().count();
        if chars <= room {
            fits_until = escaped.len();
        }
    }
    let is_whole = chars + full.chars().count() <= BODY_CHARS_MAX;
    if !is_whole {
        escaped.truncate(fits_until);
    }
    escaped.push_str(if is_whole { full } else { cut });
    *html = escaped;
}

fn push_escaped(html: &mut String, c: char) {
    match c {
        '&' => html.push_str("&amp;"),
        '<' => html.push_str("&lt;"),
        '>' => html.push_str("&gt;"),
        '"' => html.push_str("&quot;"),
        '\'' => html.push_str("&#39;"),
        '\n' => html.push_str("<br>"),
        '\r' => {}
        c if c.is_control() => html.push(' '),
        c => html.push(c),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_note_is_escaped() {
        let rows = [
            ("Reply", "Yes", "<p><strong>Reply</strong></p><p>Yes</p>"),
            ("", "Yes", "<p>Yes</p>"),
            (
                "a<b",
                "1 < 2 & \"x\"\r\nit's\u{0}",
                "<p><strong>a&lt;b</strong></p><p>1 &lt; 2 &amp; &quot;x&quot;<br>it&#39;s </p>",
            ),
            ("", "<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
            ("", "  \n ", "<p></p>"),
        ];
        for (title, text, expected) in rows {
            assert_eq!(html(title, text), expected);
        }
    }

    #[test]
    fn a_note_that_is_too_long_ends_in_an_ellipsis() {
        let whole = "x".repeat(BODY_CHARS_MAX - "<p></p>".len());
        assert_eq!(html("", &whole), format!("<p>{whole}</p>"));
        let cut = html("", &format!("{whole}x"));
        assert_eq!(cut.chars().count(), BODY_CHARS_MAX);
        assert!(cut.ends_with("x…</p>"));
        let escapes = html("", &"&".repeat(BODY_CHARS_MAX));
        assert!(escapes.chars().count() <= BODY_CHARS_MAX && escapes.ends_with("&amp;…</p>"));
    }

    #[test]
    fn times_that_hubspot_reads() {
        for good in ["2026-02-20T18:00:00Z", "2026-02-20T18:00:00.000Z", "2026-02-20T18:00:00.123456Z"] {
            assert!(is_utc_time(good), "{good}");
        }
        for bad in [
            "",
            "Z",
            "2026-02-20",
            "2026-02-20T18:00:00",
            "2026-02-20T18:00:00+01:00",
            "20.02.2026 18:00:00Z",
        ] {
            assert!(!is_utc_time(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_reply_can_write_html(text in any::<String>(), title in any::<String>()) {
            let html = html(&title, &text);
            let bare = html.replace("<p>", "").replace("</p>", "").replace("<br>", "")
                .replace("<strong>", "").replace("</strong>", "");
            prop_assert!(!bare.contains(['<', '>', '"', '\'']));
            prop_assert!(html.chars().count() <= BODY_CHARS_MAX);
        }
    }
}
