//! Yaml: text to a JSON value, with the line and column of every key, so that a problem can point at its place.
//!
//! YAML 1.2, the part that a configuration needs. A scalar that does not survive as a JSON value stays text:
//! dates, `.inf`, numbers with leading zeros or beyond 64 bits. Whoever wanted a number there then says so,
//! instead of getting another one. Not here: anchors' aliases, merge keys, tags other than `!!str`, several
//! documents in a file; each is refused with a sentence.

use std::collections::BTreeMap;
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::{Map, Number, Value};

use super::limits::{YAML_BYTES_MAX, YAML_DEPTH_MAX};

#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub value: Value,
    /// By key path, segments joined with `.`, list indices as numbers: `sources.acme.secrets.0`. The document
    /// itself is the empty path.
    pub places: BTreeMap<String, Place>,
}

/// Where a key stands; for an item of a list, where its value begins. Both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct SyntaxError {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

/// # Errors
/// At the first place that is not YAML, or is YAML that is refused here.
pub fn parse(text: &str) -> Result<Document, SyntaxError> {
    if text.len() > YAML_BYTES_MAX {
        let message = format!("the text is longer than {YAML_BYTES_MAX} bytes");
        return Err(SyntaxError { line: 1, column: 1, message });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader =
        Reader { events: Parser::new_from_str(text), places: BTreeMap::new(), path: String::new() };
    let value = reader.document()?;
    Ok(Document { value, places: reader.places })
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    places: BTreeMap<String, Place>,
    /// Path of the node that is being read.
    path: String,
}

impl<'t> Reader<'t> {
    fn document(&mut self) -> Result<Value, SyntaxError> {
        let mut value = Value::Null;
        let mut documents = 0;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(value),
                Event::DocumentStart(_) if documents == 1 => {
                    return Err(at(span, "a second document begins here; keep one, without `---`"));
                }
                Event::DocumentStart(_) => {
                    documents += 1;
                    let (event, span) = self.next()?;
                    self.mark(span);
                    value = self.node(event, span, 0)?;
                }
                _ => {}
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Value, SyntaxError> {
        if depth > YAML_DEPTH_MAX {
            return Err(at(span, format!("nested deeper than {YAML_DEPTH_MAX}")));
        }
        match event {
            Event::Scalar(text, style, _, tag) => scalar(&text, style, tag.as_deref(), span),
            Event::SequenceStart(_, None) => self.list(depth),
            Event::MappingStart(_, None) => self.map(depth),
            Event::SequenceStart(_, Some(tag)) | Event::MappingStart(_, Some(tag)) => {
                Err(at(span, format!("the tag `{tag}` is not supported; remove it")))
            }
            Event::Alias(_) => Err(at(span, "aliases (`*name`) are not supported; write the value out")),
            _ => Err(at(span, "a value is expected here")),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::Array(items));
            }
            let parent = self.enter(&items.len().to_string());
            self.mark(span);
            items.push(self.node(event, span, depth + 1)?);
            self.path.truncate(parent);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut entries = Map::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Value::Object(entries));
            }
            let key = key(event, span)?;
            if entries.contains_key(&key) {
                return Err(at(span, format!("`{key}` is written twice; keep one")));
            }
            let parent = self.enter(&key);
            self.mark(span);
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            self.path.truncate(parent);
            entries.insert(key, value);
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), SyntaxError> {
        match self.events.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(at(Span::empty(*error.marker()), error.info())),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// Extends the path and returns the length to cut it back to.
    fn enter(&mut self, segment: &str) -> usize {
        let parent = self.path.len();
        if parent > 0 {
            self.path.push('.');
        }
        self.path.push_str(segment);
        parent
    }

    fn mark(&mut self, span: Span) {
        self.places.insert(self.path.clone(), place(span));
    }
}

fn key(event: Event<'_>, span: Span) -> Result<String, SyntaxError> {
    match event {
        Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<" => {
            Err(at(span, "merge keys (`<<`) are not supported; write the keys out"))
        }
        Event::Scalar(text, _, _, None) if !text.is_empty() => Ok(text.into_owned()),
        _ => Err(at(span, "a key must be plain text")),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Result<Value, SyntaxError> {
    match tag {
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(text.into()),
        Some(tag) => Err(at(span, format!("the tag `{tag}` is not supported; remove it"))),
        None if style == ScalarStyle::Plain => Ok(plain(text)),
        None => Ok(text.into()),
    }
}

/// The core schema's words and numbers; everything else is text.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).map_or_else(|| text.into(), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_decimal = digits.bytes().all(|b| b.is_ascii_digit());
    let has_leading_zero = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    let begins_as_number = digits.bytes().next().is_some_and(|b| b.is_ascii_digit());
    let ends_as_number = digits.bytes().last().is_some_and(|b| b.is_ascii_digit());
    if has_leading_zero || !begins_as_number || !ends_as_number {
        return None;
    }
    if is_decimal {
        let signed = text.parse::<i64>().ok().map(Number::from);
        return signed.or_else(|| text.parse::<u64>().ok().map(Number::from));
    }
    let is_float =
        digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if is_float { text.parse().ok().and_then(Number::from_f64) } else { None }
}

fn place(span: Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

fn at(span: Span, message: impl Into<String>) -> SyntaxError {
    let Place { line, column } = place(span);
    SyntaxError { line, column, message: message.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Value {
        parse(text).unwrap().value
    }

    fn place_of(text: &str, path: &str) -> Option<(usize, usize)> {
        parse(text).unwrap().places.get(path).map(|p| (p.line, p.column))
    }

    #[test]
    fn a_configuration_reads_with_its_places() {
        let text = "# head\nserver:\n  listen: 0.0.0.0:8443\nsources:\n  acme:\n    secrets: [ \"env:A\", { from: env:B, until: 2026-12-01T00:00:00Z } ]\n    list:\n      - one\n      - two\n";
        assert_eq!(
            value(text),
            json!({
                "server": {"listen": "0.0.0.0:8443"},
                "sources": {"acme": {
                    "secrets": ["env:A", {"from": "env:B", "until": "2026-12-01T00:00:00Z"}],
                    "list": ["one", "two"],
                }},
            })
        );
        assert_eq!(place_of(text, "server"), Some((2, 1)));
        assert_eq!(place_of(text, "server.listen"), Some((3, 3)));
        assert_eq!(place_of(text, "sources.acme.secrets"), Some((6, 5)));
        assert_eq!(place_of(text, "sources.acme.secrets.0"), Some((6, 16)));
        assert_eq!(place_of(text, "sources.acme.secrets.1.until"), Some((6, 40)));
        assert_eq!(place_of(text, "sources.acme.list.1"), Some((9, 9)));
        assert_eq!(place_of(text, "sources.other"), None);
    }

    #[test]
    fn scalars_become_what_json_can_hold_or_stay_text() {
        for (text, expected) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("null", Value::Null),
            ("true", json!(true)),
            ("False", json!(false)),
            ("yes", json!("yes")),
            ("off", json!("off")),
            ("'true'", json!("true")),
            ("\"7\"", json!("7")),
            ("7", json!(7)),
            ("-7", json!(-7)),
            ("0", json!(0)),
            ("18446744073709551615", json!(u64::MAX)),
            ("18446744073709551616", json!("18446744073709551616")),
            ("0600", json!("0600")),
            ("0x1f", json!("0x1f")),
            ("1_000", json!("1_000")),
            ("+1", json!("+1")),
            ("1.5", json!(1.5)),
            ("-0.25", json!(-0.25)),
            ("2e3", json!(2000.0)),
            ("1e999", json!("1e999")),
            (".inf", json!(".inf")),
            ("1.", json!("1.")),
            ("1.2.3", json!("1.2.3")),
            ("2026-12-01", json!("2026-12-01")),
            ("2026-12-01T00:00:00Z", json!("2026-12-01T00:00:00Z")),
            ("10m", json!("10m")),
            ("5MiB", json!("5MiB")),
            ("!!str 5", json!("5")),
            ("|\n  two\n  lines\n", json!("two\nlines\n")),
        ] {
            assert_eq!(value(&format!("k: {text}")), json!({"k": expected}), "{text}");
        }
    }

    #[test]
    fn an_empty_document_is_null() {
        for text in ["", "# only a comment\n", "---\n", "\u{feff}"] {
            assert_eq!(value(text), Value::Null, "{text:?}");
        }
        assert_eq!(value("\u{feff}a: 1"), json!({"a": 1}));
    }

    #[test]
    fn what_is_refused_says_where_and_why() {
        for (text, line, column, words) in [
            ("a: 1\nb: 2\na: 3\n", 3, 1, "`a` is written twice"),
            ("a: &x 1\nb: *x\n", 2, 4, "aliases"),
            ("a: { <<: { b: 1 } }\n", 1, 6, "merge keys"),
            ("a: !secret x\n", 1, 4, "the tag `!secret`"),
            ("a: !!set { b }\n", 1, 4, "not supported"),
            ("a: 1\n---\nb: 2\n", 2, 1, "second document"),
            ("? [a, b]\n: c\n", 1, 3, "a key must be plain text"),
            ("a: [1, 2\n", 2, 1, ""),
            ("a: 1\n b: 2\n", 2, 3, ""),
            ("a:\n\t- b\n", 2, 2, ""),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.message.contains(words), "{text:?}: {error}");
            assert_eq!((error.line, error.column), (line, column), "{text:?}: {error}");
        }
    }

    #[test]
    fn depth_and_size_have_their_limits() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(&nested(YAML_DEPTH_MAX)).is_ok());
        assert!(parse(&nested(YAML_DEPTH_MAX + 2)).unwrap_err().message.contains("nested deeper"));
        assert!(parse(&" ".repeat(YAML_BYTES_MAX)).is_ok());
        assert!(parse(&" ".repeat(YAML_BYTES_MAX + 1)).unwrap_err().message.contains("longer than"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_text_panics(text in "[-a-c0-9:{}\\[\\]\"'|>&*!#%@,?~\\\\ \n\t.é]{0,60}") {
            let _ = parse(&text);
        }

        /// JSON is YAML: what serde_json writes reads back as it was.
        #[test]
        fn json_reads_as_itself(
            entries in proptest::collection::btree_map("[a-z ]{1,8}", any::<(i64, bool, String)>(), 0..4),
        ) {
            let value = json!(entries);
            let text = serde_json::to_string(&value).unwrap();
            let document = parse(&text);
            prop_assert_eq!(document.map(|document| document.value), Ok(value));
        }
    }
}
