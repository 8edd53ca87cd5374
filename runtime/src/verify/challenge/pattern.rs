//! Pattern: what a value of a handshake may look like: `^[A-Za-z0-9_-]{1,128}$`.
//!
//! The part of a regular expression that such values need: from `^` to `$`, characters and classes of ASCII, each with
//! a bound. It is so small because it must be judged and not only run: which characters it lets through decides whether
//! a keyed answer could ever be an event's signature. It runs in time that grows with pattern and text alone.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

use crate::words::limits::{CHALLENGE_PATTERN_PIECES_MAX, CHALLENGE_VALUE_BYTES_MAX};

#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

/// From `least` to `most` characters of a set.
#[derive(Clone, Copy, Debug)]
struct Piece {
    set: Set,
    least: usize,
    most: usize,
}

/// Characters of ASCII, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set(u128);

impl Set {
    pub(super) fn has(self, byte: u8) -> bool {
        byte.is_ascii() && self.0 & (1 << byte) != 0
    }

    fn add(&mut self, from: u8, to: u8) {
        for byte in from..=to {
            self.0 |= 1 << byte;
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

// === judging ===

impl Pattern {
    /// Every character that some matching text holds.
    pub(super) fn alphabet(&self) -> Set {
        let used = self.pieces.iter().filter(|piece| piece.most > 0);
        used.fold(Set::default(), |all, piece| Set(all.0 | piece.set.0))
    }

    /// How long the longest matching text is.
    pub(super) fn longest(&self) -> usize {
        self.pieces.iter().map(|piece| piece.most).sum()
    }
}

// === matching ===

impl Pattern {
    /// The whole text, and nothing of it left over.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        if text.len() > self.longest() {
            return false;
        }
        let mut ends = vec![false; text.len() + 1];
        ends[0] = true;
        for piece in &self.pieces {
            ends = piece.ends(text, &ends);
        }
        ends[text.len()]
    }
}

impl Piece {
    /// Where this piece can end, given where it can begin. One pass: `open` counts the beginnings that reach this far.
    fn ends(&self, text: &[u8], begins: &[bool]) -> Vec<bool> {
        // `before[at]`: how many beginnings lie before `at`.
        let mut before = vec![0_usize; begins.len() + 1];
        for (at, begin) in begins.iter().enumerate() {
            before[at + 1] = before[at] + usize::from(*begin);
        }
        let mut ends = vec![false; begins.len()];
        let mut run = 0;
        for (at, end) in ends.iter_mut().enumerate() {
            if at > 0 {
                run = if self.set.has(text[at - 1]) { run + 1 } else { 0 };
            }
            let reach = run.min(self.most);
            if reach >= self.least {
                *end = before[at - self.least + 1] > before[at - reach];
            }
        }
        ends
    }
}

// === reading ===

impl Pattern {
    /// An error says what to write instead.
    pub(super) fn parse(text: &str) -> Result<Pattern, String> {
        let bare = text.strip_prefix('^').and_then(|rest| rest.strip_suffix('$'));
        let Some(bare) = bare.filter(|bare| !bare.ends_with('\\')) else {
            return Err(format!(
                "`{text}` would match in the middle of a value; write it from ^ to $, as ^[a-z0-9]{{1,64}}$"
            ));
        };
        if let Some(odd) = bare.chars().find(|c| !(' '..='~').contains(c)) {
            return Err(format!("`{}` is not plain ASCII; write a pattern without it", odd.escape_debug()));
        }
        let mut reader = Reader { chars: bare.chars().peekable() };
        let mut pieces = Vec::new();
        while let Some(set) = reader.set()? {
            let (least, most) = reader.bounds()?;
            pieces.push(Piece { set, least, most });
            if pieces.len() > CHALLENGE_PATTERN_PIECES_MAX {
                return Err(format!(
                    "the pattern has more than {CHALLENGE_PATTERN_PIECES_MAX} pieces; write a shorter one"
                ));
            }
        }
        let pattern = Pattern { text: text.to_owned(), pieces };
        match pattern.longest() {
            0 => Err("the pattern matches only nothing; write one as ^[a-z0-9]{1,64}$".to_owned()),
            longest if longest > CHALLENGE_VALUE_BYTES_MAX => Err(format!(
                "the pattern lets {longest} characters through, and {CHALLENGE_VALUE_BYTES_MAX} are the most; write \
                 a smaller bound"
            )),
            _ => Ok(pattern),
        }
    }
}

struct Reader<'t> {
    chars: Peekable<Chars<'t>>,
}

impl Reader<'_> {
    /// One character or class; None at the end.
    fn set(&mut self) -> Result<Option<Set>, String> {
        let Some(c) = self.chars.next() else { return Ok(None) };
        match c {
            '[' => self.class().map(Some),
            '\\' => self.escaped().map(Some),
            '.' => Err("`.` stands for anything; write \\. for a dot, or a class".to_owned()),
            '+' | '*' => Err(format!("`{c}` has no end; write a bound, as {{1,64}}")),
            '(' | ')' | '|' => {
                Err(format!("`{c}` has no meaning here; write one sequence of classes, as ^[a-z]{{1,64}}$"))
            }
            '^' | '$' | '?' | '{' | '}' | ']' => {
                Err(format!("`{c}` stands at an odd place; write \\{c} for the character itself"))
            }
            _ => Ok(Some(single(c))),
        }
    }

    fn escaped(&mut self) -> Result<Set, String> {
        match self.chars.next() {
            Some('d') => {
                let mut digits = Set::default();
                digits.add(b'0', b'9');
                Ok(digits)
            }
            Some(c) if c.is_ascii_alphanumeric() => {
                Err(format!("`\\{c}` is not known here; write the class out, as [A-Za-z0-9_]"))
            }
            Some(c) => Ok(single(c)),
            None => Err("a `\\` stands at the end; write \\\\ for the character itself".to_owned()),
        }
    }

    /// Behind its `[`. A `-` at an end stands for itself.
    fn class(&mut self) -> Result<Set, String> {
        let mut set = Set::default();
        if self.chars.peek() == Some(&'^') {
            return Err("a class says what is let through; write it without ^".to_owned());
        }
        loop {
            let from = match self.chars.next() {
                None => return Err("a class is not closed; write it as [a-z]".to_owned()),
                Some(']') => break,
                Some('[') => return Err("a `[` within a class is written \\[; write it so".to_owned()),
                Some('\\') => {
                    set.0 |= self.escaped()?.0;
                    continue;
                }
                Some(c) => c,
            };
            let mut ahead = self.chars.clone();
            let to = match (ahead.next(), ahead.next()) {
                (Some('-'), Some(to)) if to != ']' => {
                    self.chars = ahead;
                    to
                }
                _ => from,
            };
            let plain = |c: char| c.is_ascii_alphanumeric() || from == to;
            if to < from || !plain(from) || !plain(to) {
                return Err(format!("`{from}-{to}` is no range; write one as a-z, A-Z or 0-9"));
            }
            set.add(byte(from), byte(to));
        }
        if set == Set::default() {
            return Err("a class is empty; write what is let through, as [a-z]".to_owned());
        }
        Ok(set)
    }

    fn bounds(&mut self) -> Result<(usize, usize), String> {
        match self.chars.peek() {
            Some('?') => {
                self.chars.next();
                Ok((0, 1))
            }
            Some(c @ ('+' | '*')) => Err(format!("`{c}` has no end; write a bound, as {{1,64}}")),
            Some('{') => {
                self.chars.next();
                let rest: String = self.chars.clone().collect();
                let (inner, is_closed) =
                    rest.split_once('}').map_or((&*rest, false), |(inner, _)| (inner, true));
                let bounds = parse_bounds(inner).filter(|_| is_closed).ok_or_else(|| {
                    format!(
                        "`{{{inner}}}` is no bound; write one as {{8}} or {{1,64}}, the smaller number first"
                    )
                })?;
                // All of it is ASCII.
                self.chars.nth(inner.len());
                Ok(bounds)
            }
            _ => Ok((1, 1)),
        }
    }
}

fn parse_bounds(text: &str) -> Option<(usize, usize)> {
    let number = |text: &str| {
        let is_short = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
        is_short.then(|| text.parse().ok()).flatten()
    };
    let (least, most) = match text.split_once(',') {
        Some((least, most)) => (number(least)?, number(most)?),
        None => (number(text)?, number(text)?),
    };
    (least <= most && most > 0).then_some((least, most))
}

fn single(c: char) -> Set {
    let mut set = Set::default();
    set.add(byte(c), byte(c));
    set
}

fn byte(c: char) -> u8 {
    u8::try_from(c).expect("a pattern is ASCII, which was checked first")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(text.as_bytes())
    }

    #[test]
    fn a_pattern_matches_a_whole_value() {
        for (pattern, good, bad) in [
            ("^[A-Za-z0-9_-]{1,3}$", &["a", "A-_", "9"][..], &["", "abcd", "a b", "a:", "ä", "a\n"][..]),
            ("^[a-f0-9]{4}$", &["00ff"], &["00f", "00fff", "00fg"]),
            ("^a?b{0,2}c$", &["c", "ac", "abbc", "bc"], &["", "a", "abbbc", "cc"]),
            (
                "^sns\\.[a-z0-9-]{1,32}\\.com$",
                &["sns.eu-west-1.com"],
                &["snsxeu.com", "sns..com", "sns.a.comx"],
            ),
            ("^\\d{2}[.:]\\d{2}$", &["10:59", "10.59"], &["1059", "1:059", "10:5"]),
            ("^[a]{1,2}[a]{1,2}$", &["aa", "aaa", "aaaa"], &["a", "aaaaa"]),
            ("^[\\]\\\\-]{1,9}$", &["]", "\\-"], &["", "a"]),
        ] {
            for text in good {
                assert!(matches(pattern, text), "{pattern} {text:?}");
            }
            for text in bad {
                assert!(!matches(pattern, text), "{pattern} {text:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_judged_is_refused_with_what_to_write() {
        for (pattern, words) in [
            ("[a-z]{1,9}", "write it from ^ to $"),
            ("^[a-z]{1,9}", "write it from ^ to $"),
            ("^a\\$", "write it from ^ to $"),
            ("", "write it from ^ to $"),
            ("^$", "matches only nothing"),
            ("^[a-z]+$", "`+` has no end; write a bound"),
            ("^[a-z]*$", "`*` has no end; write a bound"),
            ("^+$", "`+` has no end"),
            ("^.$", "write \\. for a dot"),
            ("^(a|b)$", "write one sequence"),
            ("^[^a]$", "write it without ^"),
            ("^[a-z$", "a class is not closed"),
            ("^[]$", "a class is empty"),
            ("^[[]$", "within a class"),
            ("^[z-a]$", "is no range"),
            ("^[!-~]$", "is no range"),
            ("^\\w$", "write the class out"),
            ("^a{2,1}$", "the smaller number first"),
            ("^a{1,}$", "is no bound"),
            ("^a{0}$", "is no bound"),
            ("^a{99999}$", "is no bound"),
            ("^a{1$", "is no bound"),
            ("^{1}$", "odd place"),
            ("^ä$", "not plain ASCII"),
            ("^a\n$", "not plain ASCII"),
        ] {
            let why = Pattern::parse(pattern).unwrap_err();
            assert!(why.contains(words), "{pattern}: {why}");
        }
    }

    #[test]
    fn a_pattern_has_its_bounds() {
        let pieces = |n: usize| Pattern::parse(&format!("^{}$", "a".repeat(n)));
        assert!(pieces(CHALLENGE_PATTERN_PIECES_MAX).is_ok());
        assert!(
            pieces(CHALLENGE_PATTERN_PIECES_MAX + 1).unwrap_err().contains("pieces; write a shorter one")
        );
        let longest = |n: usize| Pattern::parse(&format!("^a{{1,{n}}}$"));
        assert_eq!(longest(CHALLENGE_VALUE_BYTES_MAX).unwrap().longest(), CHALLENGE_VALUE_BYTES_MAX);
        assert!(longest(CHALLENGE_VALUE_BYTES_MAX + 1).unwrap_err().contains("write a smaller bound"));
    }

    #[test]
    fn its_alphabet_is_what_it_lets_through() {
        let alphabet = Pattern::parse("^[a-c]{1,2}:?x$").unwrap().alphabet();
        let let_through: String = (0..=255_u8).filter(|byte| alphabet.has(*byte)).map(char::from).collect();
        assert_eq!(let_through, ":abcx");
    }

    /// Every way to share a text among the pieces, one by one.
    fn naive(pieces: &[Piece], text: &[u8]) -> bool {
        let Some((first, rest)) = pieces.split_first() else { return text.is_empty() };
        (first.least..=first.most.min(text.len()))
            .any(|taken| text[..taken].iter().all(|byte| first.set.has(*byte)) && naive(rest, &text[taken..]))
    }

    proptest! {
        #[test]
        fn matching_is_what_trying_everything_would_give(
            pattern in "\\^((a|b|\\[ab\\]|\\[a-c\\])(\\?|\\{[0-2],[2-3]\\}|\\{[1-3]\\})?){1,5}\\$", text in "[abc]{0,8}"
        ) {
            let pattern = Pattern::parse(&pattern).unwrap();
            prop_assert_eq!(pattern.matches(text.as_bytes()), naive(&pattern.pieces, text.as_bytes()));
        }

        /// What matches has no character that the alphabet lacks, and is not longer than said.
        #[test]
        fn nothing_matches_that_was_not_judged(pattern in "\\^[ab\\[\\]{}0-9,?^\\\\-]{0,12}\\$", text in "[ab0-9-]{0,8}") {
            if let Ok(pattern) = Pattern::parse(&pattern) && pattern.matches(text.as_bytes()) {
                prop_assert!(text.len() <= pattern.longest());
                prop_assert!(text.bytes().all(|byte| pattern.alphabet().has(byte)));
            }
        }
    }
}
