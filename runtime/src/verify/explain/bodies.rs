//! Bodies: what a body may have been before something on its way wrote it anew.
//!
//! A signature is over bytes. Whatever reads a body and writes it again (a framework that parses JSON, an editor, a
//! proxy) keeps its meaning and not its bytes; these are the ways that are known from the providers' issue trackers.

use serde::de::IgnoredAny;

use super::show::position;
use crate::words::limits::{TRIES_BYTES_MAX, TRIES_JSON_BYTES_MAX};

/// A body that was not in the request, and how it differs from the one that was.
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) says: String,
}

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Likely ones first; none twice, and none that is the body itself. False: of this body not all were made.
pub(super) fn rewritten(body: &[u8]) -> (Vec<Body>, bool) {
    let mut made = Made { body, bodies: Vec::new(), bytes: 0, is_all: true };
    line_ends(body, &mut made);
    json_forms(body, &mut made);
    encodings(body, &mut made);
    (made.bodies, made.is_all)
}

/// What is made of one body.
struct Made<'b> {
    body: &'b [u8],
    bodies: Vec<Body>,
    /// Of all of them.
    bytes: usize,
    is_all: bool,
}

impl Made<'_> {
    fn push(&mut self, bytes: Vec<u8>, says: impl Into<String>) {
        if self.bytes > TRIES_BYTES_MAX {
            // More would not be tried.
            self.is_all = false;
        } else if bytes != self.body && self.bodies.iter().all(|made| made.bytes != bytes) {
            self.bytes += bytes.len();
            self.bodies.push(Body { bytes, says: says.into() });
        }
    }
}

// === line ends, the mark at the beginning, nothing at all ===

fn line_ends(body: &[u8], made: &mut Made<'_>) {
    made.push([body, b"\n"].concat(), "the body ends with a newline, which was lost");
    made.push([body, b"\r\n"].concat(), "the body ends with CR and LF, which were lost");
    if let Some(cut) = body.strip_suffix(b"\n") {
        let cut = cut.strip_suffix(b"\r").unwrap_or(cut);
        made.push(
            cut.to_vec(),
            "the body does not end with a newline: one was added, as an editor or `echo` does",
        );
        made.push(body.trim_ascii_end().to_vec(), "the body ends before its last white space");
    }
    made.push(without_cr(body), "the lines end with LF: CR was added in front of each");
    made.push(with_cr(&without_cr(body)), "the lines end with CR and LF: the CR were lost");
    match body.strip_prefix(BOM) {
        Some(rest) => {
            made.push(rest.to_vec(), "the body does not begin with a byte order mark: one was added")
        }
        None => made.push([BOM, body].concat(), "the body begins with a byte order mark, which was lost"),
    }
    made.push(Vec::new(), "nothing is signed as the body: the sender signed an empty one");
}

fn without_cr(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len());
    for (at, byte) in body.iter().enumerate() {
        if *byte != b'\r' || body.get(at + 1) != Some(&b'\n') {
            bytes.push(*byte);
        }
    }
    bytes
}

fn with_cr(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len());
    for byte in body {
        if *byte == b'\n' {
            bytes.push(b'\r');
        }
        bytes.push(*byte);
    }
    bytes
}

// === JSON ===

/// How a JSON text is laid out.
#[derive(Clone, Copy)]
enum Layout {
    AsIs,
    Compact,
    /// A space behind `,` and `:`, as Python's `json.dumps` writes.
    Spaced,
    Indented(usize),
}

#[derive(Clone, Copy)]
enum Escapes {
    AsIs,
    Slash,
    NoSlash,
    /// Everything beyond ASCII as `\uXXXX`, with digits in this case.
    AsciiLower,
    AsciiUpper,
    /// No `\uXXXX` for what needs none.
    Plain,
}

const LAYOUTS: [(Layout, &str); 5] = [
    (Layout::AsIs, ""),
    (Layout::Compact, "without spaces"),
    (Layout::Spaced, "with a space behind each `,` and `:`"),
    (Layout::Indented(2), "on indented lines"),
    (Layout::Indented(4), "on lines indented by four"),
];
const ESCAPES: [(Escapes, &str); 6] = [
    (Escapes::AsIs, ""),
    (Escapes::Slash, "`/` written as `\\/`"),
    (Escapes::NoSlash, "`\\/` written as `/`"),
    (Escapes::AsciiLower, "characters beyond ASCII written as `\\u00e9`"),
    (Escapes::AsciiUpper, "characters beyond ASCII written as `\\u00E9`"),
    (Escapes::Plain, "`\\u00e9` written as the character itself"),
];

fn json_forms(body: &[u8], made: &mut Made<'_>) {
    if body.len() > TRIES_JSON_BYTES_MAX {
        made.is_all = false;
        return;
    }
    let body = body.strip_prefix(BOM).unwrap_or(body);
    let Ok(text) = std::str::from_utf8(body) else { return };
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        return;
    }
    let Some(tree) = Reader::read(text.trim()) else { return };
    for is_sorted in [false, true] {
        for (layout, layout_says) in LAYOUTS {
            let laid_out = match layout {
                Layout::AsIs if is_sorted => continue,
                Layout::AsIs => text.to_owned(),
                _ => tree.printed(layout, is_sorted),
            };
            for (escapes, escapes_say) in ESCAPES {
                let says = [layout_says, if is_sorted { "with its keys sorted" } else { "" }, escapes_say];
                let says: Vec<_> = says.into_iter().filter(|part| !part.is_empty()).collect();
                let says = format!(
                    "the body is the same JSON {}: it was parsed and written anew on its way",
                    says.join(", ")
                );
                made.push(reescaped(&laid_out, escapes).into_bytes(), says);
            }
        }
    }
}

/// JSON whose scalars are kept as they were written.
enum Json<'t> {
    Scalar(&'t str),
    List(Vec<Json<'t>>),
    /// Keys with their quotes.
    Map(Vec<(&'t str, Json<'t>)>),
}

/// Reads a text of which is known that it is JSON.
struct Reader<'t> {
    left: &'t str,
}

/// serde_json reads no deeper.
const DEPTH_MAX: usize = 128;

impl<'t> Reader<'t> {
    fn read(text: &'t str) -> Option<Json<'t>> {
        Reader { left: text }.value(0)
    }

    fn space(&mut self) {
        self.left = self.left.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn eat(&mut self, c: char) -> bool {
        self.space();
        let rest = self.left.strip_prefix(c);
        self.left = rest.unwrap_or(self.left);
        rest.is_some()
    }

    fn value(&mut self, depth: usize) -> Option<Json<'t>> {
        if depth > DEPTH_MAX {
            return None;
        }
        if self.eat('[') {
            let mut items = Vec::new();
            while !self.eat(']') {
                items.push(self.value(depth + 1)?);
                self.eat(',');
            }
            return Some(Json::List(items));
        }
        if self.eat('{') {
            let mut entries = Vec::new();
            while !self.eat('}') {
                let key = self.scalar()?;
                self.eat(':');
                entries.push((key, self.value(depth + 1)?));
                self.eat(',');
            }
            return Some(Json::Map(entries));
        }
        self.scalar().map(Json::Scalar)
    }

    fn scalar(&mut self) -> Option<&'t str> {
        self.space();
        let bytes = self.left.as_bytes();
        let end = if bytes.first() == Some(&b'"') {
            let mut at = 1;
            while *bytes.get(at)? != b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            at + 1
        } else {
            bytes.iter().position(|b| b",:]} \t\r\n".contains(b)).unwrap_or(bytes.len())
        };
        let (scalar, rest) = self.left.split_at_checked(end).filter(|(scalar, _)| !scalar.is_empty())?;
        self.left = rest;
        Some(scalar)
    }
}

impl Json<'_> {
    fn printed(&self, layout: Layout, is_sorted: bool) -> String {
        let mut text = String::new();
        self.print(&mut text, layout, is_sorted, 0);
        text
    }

    fn print(&self, text: &mut String, layout: Layout, is_sorted: bool, depth: usize) {
        match self {
            Json::Scalar(scalar) => text.push_str(scalar),
            Json::List(items) => {
                text.push('[');
                for (at, item) in items.iter().enumerate() {
                    between(text, layout, at, depth + 1);
                    item.print(text, layout, is_sorted, depth + 1);
                }
                close(text, layout, items.len(), depth, ']');
            }
            Json::Map(entries) => {
                text.push('{');
                let mut order: Vec<_> = entries.iter().collect();
                if is_sorted {
                    order.sort_by_key(|(key, _)| key.trim_matches('"'));
                }
                for (at, (key, value)) in order.into_iter().enumerate() {
                    between(text, layout, at, depth + 1);
                    text.push_str(key);
                    text.push_str(if matches!(layout, Layout::Compact) { ":" } else { ": " });
                    value.print(text, layout, is_sorted, depth + 1);
                }
                close(text, layout, entries.len(), depth, '}');
            }
        }
    }
}

fn between(text: &mut String, layout: Layout, at: usize, depth: usize) {
    match layout {
        Layout::Indented(by) => {
            text.push_str(if at > 0 { ",\n" } else { "\n" });
            text.extend(std::iter::repeat_n(' ', by * depth));
        }
        Layout::Spaced if at > 0 => text.push_str(", "),
        _ if at > 0 => text.push(','),
        _ => {}
    }
}

fn close(text: &mut String, layout: Layout, items: usize, depth: usize, bracket: char) {
    if let (Layout::Indented(by), 1..) = (layout, items) {
        text.push('\n');
        text.extend(std::iter::repeat_n(' ', by * depth));
    }
    text.push(bracket);
}

/// Escapes only stand in texts, and `/` and characters beyond ASCII too: the rest of a JSON text has none of them.
fn reescaped(text: &str, escapes: Escapes) -> String {
    let mut made = String::with_capacity(text.len());
    let mut left = text.chars();
    while let Some(c) = left.next() {
        match (c, escapes) {
            ('\\', _) => escape(&mut made, &mut left, escapes),
            ('/', Escapes::Slash) => made.push_str("\\/"),
            (c, Escapes::AsciiLower | Escapes::AsciiUpper) if !c.is_ascii() => {
                push_ascii(&mut made, c, escapes)
            }
            (c, _) => made.push(c),
        }
    }
    made
}

/// What follows a backslash.
fn escape(made: &mut String, left: &mut std::str::Chars<'_>, escapes: Escapes) {
    match (left.next(), escapes) {
        (Some('/'), Escapes::NoSlash) => made.push('/'),
        (Some('u'), Escapes::Plain | Escapes::AsciiLower | Escapes::AsciiUpper) => {
            let before = left.clone();
            match code_point(left) {
                Some(c) if !c.is_ascii() => match escapes {
                    Escapes::Plain => made.push(c),
                    _ => push_ascii(made, c, escapes),
                },
                // A control character needs its escape; half of a pair has no other.
                _ => {
                    *left = before;
                    made.push_str("\\u");
                }
            }
        }
        (Some(c), _) => {
            made.push('\\');
            made.push(c);
        }
        (None, _) => made.push('\\'),
    }
}

/// The character of four hex digits, or of a pair of them.
fn code_point(left: &mut std::str::Chars<'_>) -> Option<char> {
    let mut unit = || -> Option<u16> {
        let digits = left.as_str().get(..4)?;
        let unit = u16::from_str_radix(digits, 16).ok()?;
        *left = left.as_str().get(4..)?.chars();
        Some(unit)
    };
    let high = unit()?;
    if !(0xd800..0xdc00).contains(&high) {
        return char::from_u32(u32::from(high));
    }
    *left = left.as_str().strip_prefix("\\u")?.chars();
    let digits = left.as_str().get(..4)?;
    let low = u16::from_str_radix(digits, 16).ok()?;
    *left = left.as_str().get(4..)?.chars();
    char::decode_utf16([high, low]).next()?.ok()
}

fn push_ascii(made: &mut String, c: char, escapes: Escapes) {
    let mut units = [0; 2];
    for unit in c.encode_utf16(&mut units) {
        made.push_str(&match escapes {
            Escapes::AsciiUpper => format!("\\u{unit:04X}"),
            _ => format!("\\u{unit:04x}"),
        });
    }
}

// === characters ===

fn encodings(body: &[u8], made: &mut Made<'_>) {
    if body.is_ascii() {
        form_spaces(body, made);
        return;
    }
    let as_latin_1: String = body.iter().map(|byte| char::from(*byte)).collect();
    made.push(
        as_latin_1.into_bytes(),
        "the body's bytes were each taken for a character of Latin-1 and written as UTF-8 by the sender",
    );
    match std::str::from_utf8(body) {
        Ok(text) => {
            let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
            if let Some(bytes) = bytes {
                made.push(bytes, "the body was read as Latin-1 on its way and written as UTF-8");
            }
        }
        Err(_) => {
            let lossy = String::from_utf8_lossy(body).into_owned();
            made.push(
                lossy.into_bytes(),
                "the body was signed as text: what is not UTF-8 became U+FFFD before",
            );
        }
    }
}

fn form_spaces(body: &[u8], made: &mut Made<'_>) {
    if position(body, b"+").is_none() && position(body, b"%20").is_none() {
        return;
    }
    let Ok(text) = std::str::from_utf8(body) else { return };
    made.push(
        text.replace('+', "%20").into_bytes(),
        "the form has `%20` where `+` was written anew for a space",
    );
    made.push(
        text.replace("%20", "+").into_bytes(),
        "the form has `+` where `%20` was written anew for a space",
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn says(body: &[u8], wanted: &[u8]) -> String {
        let (made, _) = rewritten(body);
        let found = made.iter().find(|made| made.bytes == wanted);
        found.unwrap_or_else(|| panic!("{} is not made of it", String::from_utf8_lossy(wanted))).says.clone()
    }

    #[test]
    fn each_known_change_is_made_and_told() {
        for (body, wanted, words) in [
            ("{}", "{}\n", "ends with a newline, which was lost"),
            ("{}", "{}\r\n", "CR and LF, which were lost"),
            ("{}\n", "{}", "one was added"),
            ("{}\r\n", "{}", "one was added"),
            ("a\r\nb", "a\nb", "the lines end with LF"),
            ("a\nb\r\nc", "a\r\nb\r\nc", "the CR were lost"),
            ("{}", "\u{feff}{}", "begins with a byte order mark"),
            ("\u{feff}{}", "{}", "does not begin with a byte order mark"),
            ("{}", "", "an empty one"),
            (r#"{"b": 1.50, "a": [1, 2]}"#, r#"{"b":1.50,"a":[1,2]}"#, "the same JSON without spaces:"),
            (r#"{"b":1e5,"a":[1,{}]}"#, r#"{"b": 1e5, "a": [1, {}]}"#, "with a space behind each"),
            (r#"{"b": 1, "a": 2}"#, r#"{"a":2,"b":1}"#, "without spaces, with its keys sorted:"),
            (r#"{"b":[1,[]]}"#, "{\n  \"b\": [\n    1,\n    []\n  ]\n}", "on indented lines"),
            (r#"{"a":"x/y"}"#, r#"{"a":"x\/y"}"#, r"`/` written as `\/`"),
            (r#"{"a":"x\/y"}"#, r#"{"a":"x/y"}"#, r"`\/` written as `/`"),
            (r#"{"a":"é😀"}"#, r#"{"a":"\u00e9\ud83d\ude00"}"#, r"`\u00e9`"),
            (r#"{"a":"\u001b\u00e9"}"#, r#"{"a":"\u001b\u00E9"}"#, r"`\u00E9`"),
            (
                r#"{"a":"\u00e9\ud83d\ude00\u001b\ud83d"}"#,
                r#"{"a":"é😀\u001b\ud83d"}"#,
                "the character itself",
            ),
            ("é", "Ã©", "taken for a character of Latin-1"),
            ("a=b+c", "a=b%20c", "`%20` where `+`"),
        ] {
            let said = says(body.as_bytes(), wanted.as_bytes());
            assert!(said.contains(words), "{body}: {said}");
        }
        assert!(says("é".as_bytes(), b"\xe9").contains("read as Latin-1"));
        assert!(says(b"a\xff", "a\u{fffd}".as_bytes()).contains("became U+FFFD"));
    }

    #[test]
    fn nothing_is_made_twice() {
        let body = r#"{"a": "b/c", "é": [1, 2]}"#.as_bytes();
        let (made, is_all) = rewritten(body);
        assert!(is_all);
        for (at, one) in made.iter().enumerate() {
            assert_ne!(one.bytes, body);
            assert!(made[at + 1..].iter().all(|other| other.bytes != one.bytes), "{}", one.says);
        }
        assert!(made.len() > 15, "{}", made.len());
    }

    #[test]
    fn of_a_large_body_not_all_is_made() {
        let json = |bytes: usize| format!("[{}1]", " ".repeat(bytes - 3));
        let (made, is_all) = rewritten(json(TRIES_JSON_BYTES_MAX).as_bytes());
        assert!(is_all && made.iter().any(|made| made.bytes == b"[1]"));
        let (made, is_all) = rewritten(json(TRIES_JSON_BYTES_MAX + 1).as_bytes());
        assert!(!is_all && made.iter().all(|made| made.bytes != b"[1]"));
        let (made, is_all) = rewritten(&vec![b'\n'; TRIES_BYTES_MAX / 4]);
        let bytes: usize = made.iter().map(|made| made.bytes.len()).sum();
        assert!(!is_all && bytes <= TRIES_BYTES_MAX + TRIES_BYTES_MAX / 2, "{bytes}");
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            Just(Value::Null)
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..5)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = rewritten(&body);
        }

        #[test]
        fn json_stays_the_same_json(value in json()) {
            let text = value.to_string();
            let mut made = Made { body: b"", bodies: Vec::new(), bytes: 0, is_all: true };
            json_forms(text.as_bytes(), &mut made);
            prop_assert!(!made.bodies.is_empty());
            for made in made.bodies {
                let read: Value = serde_json::from_slice(&made.bytes).unwrap();
                prop_assert_eq!(&read, &value, "{}", made.says);
            }
        }
    }
}
