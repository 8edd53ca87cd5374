//! Show: bytes, times and signatures as a person reads them, and the veil over what nobody may read.
//!
//! A signature is never shown whole, neither theirs: where only the body was changed on its way, theirs is the one
//! that the right key makes.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use crate::words::time::Millis;

/// A text up to this length is no signature, and is shown whole.
const SHORT_CHARS: usize = 12;
/// Of a body its first and its last bytes are shown.
const HEAD_BYTES: usize = 80;
const TAIL_BYTES: usize = 40;

// === bytes ===

/// Bytes on one line: line ends, control characters and what is not UTF-8 as escapes.
pub(super) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push_escaped(&mut text, c));
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("a String takes all text");
        }
    }
    text
}

fn push_escaped(text: &mut String, c: char) {
    match c {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\\' => text.push_str("\\\\"),
        // Beside control characters, marks that turn the direction of writing, and the mark at a file's beginning.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}' => {
            write!(text, "\\u{{{:x}}}", u32::from(c)).expect("a String takes all text");
        }
        c if c.is_control() => write!(text, "\\x{:02x}", u32::from(c)).expect("a String takes all text"),
        c => text.push(c),
    }
}

/// The first and the last bytes, with how many are between them.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    if bytes.len() <= HEAD_BYTES + TAIL_BYTES {
        return escaped(bytes);
    }
    let between = bytes.len() - HEAD_BYTES - TAIL_BYTES;
    let (head, tail) = (&bytes[..HEAD_BYTES], &bytes[bytes.len() - TAIL_BYTES..]);
    format!("{} … {between} bytes … {}", escaped(head), escaped(tail))
}

pub(super) fn plural(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// Enough of a signature to find it in a log, and not more.
pub(super) fn abbreviated(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= SHORT_CHARS {
        return escaped(text.as_bytes());
    }
    let (head, tail) = (&chars[..6], &chars[chars.len() - 2..]);
    let part = |part: &[char]| escaped(part.iter().collect::<String>().as_bytes());
    format!("{}…{}", part(head), part(tail))
}

// === times ===

/// `3h 12m`, `301s`, `2d 4h`: the two largest units.
pub(super) fn span(span: Duration) -> String {
    let s = span.as_secs();
    match s {
        0..600 => format!("{s}s"),
        600..3_600 => format!("{}m {}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h {}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// `3h 12m before now`
pub(super) fn beside(at: Millis, now: Millis) -> String {
    match (now.since(at), at.since(now)) {
        (Duration::ZERO, Duration::ZERO) => "now".to_owned(),
        (ago, Duration::ZERO) => format!("{} before now", span(ago)),
        (_, ahead) => format!("{} after now", span(ahead)),
    }
}

// === what nobody may read ===

/// Takes secrets and whole signatures out of whatever is said.
#[derive(Default)]
pub(super) struct Veil {
    /// What is hidden, and what stands for it; longest first.
    hidden: Vec<(Vec<u8>, String)>,
}

/// A secret that is shorter stands everywhere by accident, and is warned of elsewhere.
const HIDDEN_BYTES_MIN: usize = 4;

impl Veil {
    pub(super) fn hide_secret(&mut self, secret: &[u8], name: &str) {
        self.hide(secret, format!("‹the secret {name}›"));
    }

    pub(super) fn hide_signature(&mut self, text: &str) {
        if text.chars().count() > SHORT_CHARS {
            self.hide(text.as_bytes(), abbreviated(text));
        }
    }

    fn hide(&mut self, what: &[u8], shown: String) {
        if what.len() < HIDDEN_BYTES_MIN || self.hidden.iter().any(|(hidden, _)| hidden == what) {
            return;
        }
        let at = self.hidden.partition_point(|(hidden, _)| hidden.len() > what.len());
        self.hidden.insert(at, (what.to_vec(), shown));
    }

    /// The bytes with everything hidden that is to be.
    pub(super) fn over<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        let mut veiled = Cow::Borrowed(bytes);
        for (hidden, shown) in &self.hidden {
            if let Some(replaced) = replaced(&veiled, hidden, shown.as_bytes()) {
                veiled = Cow::Owned(replaced);
            }
        }
        veiled
    }

    pub(super) fn over_text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.over(text.as_bytes())).into_owned()
    }
}

/// None where it is not in there.
fn replaced(bytes: &[u8], what: &[u8], by: &[u8]) -> Option<Vec<u8>> {
    let mut made: Option<Vec<u8>> = None;
    let mut rest = bytes;
    while let Some(at) = position(rest, what) {
        let made = made.get_or_insert_default();
        made.extend_from_slice(&rest[..at]);
        made.extend_from_slice(by);
        rest = &rest[at + what.len()..];
    }
    let mut made = made?;
    made.extend_from_slice(rest);
    Some(made)
}

/// Where `what` begins in `bytes`.
pub(in crate::verify) fn position(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let first = *what.first()?;
    let mut from = 0;
    while let Some(at) = bytes.get(from..)?.iter().position(|byte| *byte == first) {
        let at = from + at;
        if bytes[at..].starts_with(what) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_shown_on_one_line() {
        assert_eq!(escaped(b"a\r\n\t\\\x00\xff"), r"a\r\n\t\\\x00\xff");
        assert_eq!(escaped("é\u{202e}\u{feff}".as_bytes()), r"é\u{202e}\u{feff}");
        assert_eq!(excerpt(&[b'a'; 120]), "a".repeat(120));
        let long = excerpt(&[b'a'; 130]);
        assert_eq!(long, format!("{} … 10 bytes … {}", "a".repeat(80), "a".repeat(40)));
    }

    #[test]
    fn a_signature_is_shown_in_part() {
        assert_eq!(
            abbreviated("5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd"),
            "5257a8…bd"
        );
        assert_eq!(abbreviated("short"), "short");
        assert_eq!(abbreviated(&"é".repeat(13)), "éééééé…éé");
    }

    #[test]
    fn times_are_told_in_two_units() {
        let told = |s: u64| span(Duration::from_secs(s));
        assert_eq!(
            [told(0), told(301), told(700), told(11_520), told(200_000)],
            ["0s", "301s", "11m 40s", "3h 12m", "2d 7h"]
        );
        assert_eq!(beside(Millis(0), Millis(301_000)), "301s before now");
        assert_eq!(beside(Millis(301_000), Millis(0)), "301s after now");
        assert_eq!(beside(Millis(1), Millis(1)), "now");
    }

    #[test]
    fn what_is_hidden_is_gone() {
        let mut veil = Veil::default();
        veil.hide_secret(b"whsec_topsecret", "env:A");
        veil.hide_secret(b"topsecret", "env:A");
        veil.hide_secret(b"abc", "env:B");
        veil.hide_signature("0123456789abcdef");
        let text = veil.over_text("abc whsec_topsecret topsecret s=0123456789abcdef");
        assert_eq!(text, "abc ‹the secret env:A› ‹the secret env:A› s=012345…ef");
        assert!(matches!(veil.over(b"nothing"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn whatever_is_shown_has_no_control_character(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(!escaped(&bytes).chars().any(char::is_control));
            prop_assert!(!excerpt(&bytes).chars().any(char::is_control));
        }

        #[test]
        fn a_place_is_the_first(bytes in prop::collection::vec(0_u8..3, 0..30), what in prop::collection::vec(0_u8..3, 1..4)) {
            let expected = bytes.windows(what.len()).position(|window| window == what);
            prop_assert_eq!(position(&bytes, &what), expected);
        }
    }
}
