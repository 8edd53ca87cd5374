//! Values by JSON pointer (RFC 6901), with alternatives: `/data/reply|/data/replyPreview`.
//!
//! A provider renames a field, an operator wants another one: a pointer in a setting is a field that can be
//! changed without building the plugin again.
//!
//! ```
//! use longshore_sdk::pointer;
//! use longshore_sdk::serde_json::json;
//!
//! let body = json!({ "data": { "replyPreview": "Sure, let's talk", "score": 7, "note": "" } });
//! assert_eq!(pointer::text(&body, "/data/reply|/data/replyPreview").as_deref(), Some("Sure, let's talk"));
//! assert_eq!(pointer::text(&body, "/data/score").as_deref(), Some("7"));
//! assert_eq!(pointer::text(&body, "/data/note"), None, "empty is absent");
//! ```
//!
//! Check what the operator wrote before using it:
//!
//! ```
//! use longshore_sdk::pointer;
//!
//! assert!(pointer::check("/data/reply|/data/replyPreview").is_ok());
//! assert_eq!(pointer::check("data.reply").unwrap_err(), "`data.reply` is not a JSON pointer: write `/data/reply`");
//! ```

use serde_json::Value;

/// The first alternative that is there, and neither null nor an empty text.
pub fn value<'a>(body: &'a Value, pointers: &str) -> Option<&'a Value> {
    pointers.split('|').filter_map(|pointer| body.pointer(pointer.trim())).find(|found| match found {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        _ => true,
    })
}

/// The same as text: a string as it is, anything else as JSON.
pub fn text(body: &Value, pointers: &str) -> Option<String> {
    value(body, pointers).map(|found| match found {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

/// Whether every alternative is a pointer.
///
/// # Errors
/// A sentence with what to write instead.
pub fn check(pointers: &str) -> Result<(), String> {
    for pointer in pointers.split('|').map(str::trim) {
        if !pointer.starts_with('/') {
            let path = pointer.trim_start_matches("$.").replace('.', "/");
            return Err(format!("`{pointer}` is not a JSON pointer: write `/{path}`"));
        }
        let escaped = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if !escaped {
            return Err(format!("`{pointer}` is not a JSON pointer: write `~0` for a `~` in it"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_alternative_that_says_something_is_taken() {
        let body = json!({ "a": null, "b": "", "c": 0, "d": { "e/f": [true] } });
        let rows = [
            ("/a|/b|/c", Some("0")),
            ("/a | /c", Some("0")),
            ("/d/e~1f/0", Some("true")),
            ("/d", Some(r#"{"e/f":[true]}"#)),
            ("/a|/b", None),
            ("/x", None),
        ];
        for (pointers, expected) in rows {
            assert_eq!(text(&body, pointers).as_deref(), expected, "{pointers}");
        }
    }

    #[test]
    fn what_is_no_pointer_is_named() {
        for good in ["/a", "/a~0b/~1", "/", "/a|/b"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "a", "$.data.a", "/a|", "/a|b", "/a~2", "/a~"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
