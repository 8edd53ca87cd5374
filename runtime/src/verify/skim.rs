//! Skim: the quick walk over a body that is plain JSON, for `json`, which owns the paths and the rules.
//!
//! Reading two names out of each event was the dearest of our own steps, so this does it in a third of the
//! instructions. It decides nothing: what it does not know by heart (an escape in a wanted text, a wanted number that
//! is not a short integer, a hundred brackets within each other, whatever is wrong) it leaves to `json`, which asks
//! serde_json. What it does answer is what that would have answered; a test holds the two together.

use super::json::{Node, Picked};

/// What is at the ends of `paths` below `root`; None: not for us to say.
pub(super) fn skim(root: &Node, paths: usize, body: &[u8]) -> Option<Picked> {
    let mut picked = vec![None; paths];
    let mut skim = Skim { left: body };
    skim.wanted(root, &mut picked)?;
    skim.space();
    skim.left.is_empty().then_some(picked)
}

struct Skim<'b> {
    left: &'b [u8],
}

impl<'b> Skim<'b> {
    /// A value on the way to a path's end, or at it. No deeper within itself than the paths are.
    fn wanted(&mut self, node: &Node, picked: &mut Picked) -> Option<()> {
        self.space();
        match self.left {
            [b'{', ..] => self.entries(node, picked),
            [b'[', ..] if node.is_end() => self.skip(),
            [b'[', ..] => self.elements(node, picked),
            [b'"', ..] => {
                let text = std::str::from_utf8(self.plain_text()?).ok()?;
                node.set(picked, text);
                Some(())
            }
            [b'0'..=b'9', ..] => {
                node.set(picked, self.short_integer()?);
                Some(())
            }
            [b't', ..] => self.word("true").map(|word| node.set(picked, word)),
            [b'f', ..] => self.word("false").map(|word| node.set(picked, word)),
            [b'n', ..] => self.word("null").map(drop),
            _ => None,
        }
    }

    fn entries(&mut self, node: &Node, picked: &mut Picked) -> Option<()> {
        self.byte(b'{')?;
        self.space();
        if self.byte(b'}').is_some() {
            return Some(());
        }
        loop {
            self.space();
            let key = self.plain_text()?;
            self.space();
            self.byte(b':')?;
            match node.get(key) {
                Some(child) => {
                    child.clear(picked);
                    self.wanted(child, picked)?;
                }
                None if key.is_ascii() => self.skip()?,
                None => return None,
            }
            self.space();
            match self.next()? {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    fn elements(&mut self, node: &Node, picked: &mut Picked) -> Option<()> {
        self.byte(b'[')?;
        self.space();
        if self.byte(b']').is_some() {
            return Some(());
        }
        for position in 0.. {
            self.space();
            match node.at(position) {
                Some(child) => self.wanted(child, picked)?,
                None => self.skip()?,
            }
            self.space();
            match self.next()? {
                b',' => {}
                b']' => break,
                _ => return None,
            }
        }
        Some(())
    }

    /// A value that nobody wants, whatever is within it.
    fn skip(&mut self) -> Option<()> {
        let mut open = Open::default();
        loop {
            self.space();
            match self.next()? {
                b'"' => self.rest_of_text()?,
                b'{' => {
                    self.space();
                    if self.byte(b'}').is_none() {
                        open.push(Kind::Map)?;
                        self.key()?;
                        continue;
                    }
                }
                b'[' => {
                    self.space();
                    if self.byte(b']').is_none() {
                        open.push(Kind::List)?;
                        continue;
                    }
                }
                b't' => drop(self.word("rue")?),
                b'f' => drop(self.word("alse")?),
                b'n' => drop(self.word("ull")?),
                b'-' => {
                    let first = self.next()?;
                    self.rest_of_number(first)?;
                }
                first => self.rest_of_number(first)?,
            }
            loop {
                let Some(kind) = open.last() else { return Some(()) };
                self.space();
                match (self.next()?, kind) {
                    (b',', Kind::List) => break,
                    (b',', Kind::Map) => {
                        self.key()?;
                        break;
                    }
                    (b']', Kind::List) | (b'}', Kind::Map) => open.pop(),
                    _ => return None,
                }
            }
        }
    }

    fn key(&mut self) -> Option<()> {
        self.space();
        self.byte(b'"')?;
        self.rest_of_text()?;
        self.space();
        self.byte(b':')
    }
}

// === tokens ===

impl<'b> Skim<'b> {
    fn space(&mut self) {
        while let [b' ' | b'\n' | b'\r' | b'\t', left @ ..] = self.left {
            self.left = left;
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, left) = self.left.split_first()?;
        self.left = left;
        Some(*first)
    }

    fn byte(&mut self, wanted: u8) -> Option<()> {
        let (first, left) = self.left.split_first()?;
        if *first != wanted {
            return None;
        }
        self.left = left;
        Some(())
    }

    fn word(&mut self, word: &'static str) -> Option<&'static str> {
        self.left = self.left.strip_prefix(word.as_bytes())?;
        Some(word)
    }

    /// With its quotes, and without an escape.
    fn plain_text(&mut self) -> Option<&'b [u8]> {
        self.byte(b'"')?;
        let (text, behind) = self.left.split_at(plain_bytes(self.left));
        self.left = behind;
        self.byte(b'"')?;
        Some(text)
    }

    /// Behind its first quote.
    fn rest_of_text(&mut self) -> Option<()> {
        loop {
            self.left = &self.left[plain_bytes(self.left)..];
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => self.rest_of_escape()?,
                _ => return None,
            }
        }
    }

    fn rest_of_escape(&mut self) -> Option<()> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let (digits, left) = self.left.split_first_chunk::<4>()?;
                self.left = left;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    /// One that any integer type holds and that is written in the only way.
    fn short_integer(&mut self) -> Option<&'b str> {
        const DIGITS_MAX: usize = 18;
        let digits = self.left.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (integer, behind) = self.left.split_at(digits);
        let is_short = integer == b"0" || (integer.first()? != &b'0' && digits <= DIGITS_MAX);
        if !is_short || matches!(behind, [b'.' | b'e' | b'E', ..]) {
            return None;
        }
        self.left = behind;
        std::str::from_utf8(integer).ok()
    }

    /// Behind its sign and its first digit.
    fn rest_of_number(&mut self, first: u8) -> Option<()> {
        match first {
            b'0' => {}
            b'1'..=b'9' => drop(self.digits()),
            _ => return None,
        }
        if self.byte(b'.').is_some() {
            self.digits()?;
        }
        if let [b'e' | b'E', left @ ..] = self.left {
            self.left = left;
            if let [b'+' | b'-', left @ ..] = self.left {
                self.left = left;
            }
            self.digits()?;
        }
        Some(())
    }

    /// One or more.
    fn digits(&mut self) -> Option<()> {
        let before = self.left.len();
        while let [b'0'..=b'9', left @ ..] = self.left {
            self.left = left;
        }
        (self.left.len() < before).then_some(())
    }
}

/// How many bytes of a text come before the first that is a quote, a backslash or a control character. Eight at a
/// time: the lowest byte that is marked is one, whatever a borrow made of those above it.
fn plain_bytes(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word;
    let (words, _) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
        let marked = (below(word, b' ') | is(b'"') | is(b'\\')) & HIGH;
        if marked != 0 {
            return at * 8 + marked.trailing_zeros() as usize / 8;
        }
    }
    let from = words.len() * 8;
    let is_plain = |byte: &&u8| !matches!(**byte, ..b' ' | b'"' | b'\\');
    from + text[from..].iter().take_while(is_plain).count()
}

/// The brackets that are open, the innermost in the lowest bit. Deeper than it has bits is for `json`.
#[derive(Default)]
struct Open {
    kinds: u64,
    depth: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    List,
    Map,
}

impl Open {
    fn push(&mut self, kind: Kind) -> Option<()> {
        if self.depth == u64::BITS {
            return None;
        }
        self.depth += 1;
        self.kinds = self.kinds << 1 | u64::from(kind == Kind::Map);
        Some(())
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.kinds >>= 1;
    }

    fn last(&self) -> Option<Kind> {
        let kind = if self.kinds & 1 == 1 { Kind::Map } else { Kind::List };
        (self.depth > 0).then_some(kind)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::json::{Path, Picker};
    use super::*;

    fn picker() -> Picker {
        let paths = ["a", "b", "a.a", "a.b", "b.a.b"].map(|text| Path::parse(text).unwrap());
        Picker::new(&paths.iter().collect::<Vec<_>>())
    }

    /// Whatever is answered is what serde_json answers. Returns whether it was answered.
    fn agrees(body: &[u8]) -> bool {
        let picker = picker();
        let Some(skimmed) = picker.skim(body) else { return false };
        assert_eq!(picker.parse(body).ok(), Some(skimmed), "{}", String::from_utf8_lossy(body));
        true
    }

    #[test]
    fn plain_json_is_answered() {
        for body in [
            r#"{"a":"x","b":7,"c":[1,-2.5e+3,{"d":null},[],{}],"e":true}"#,
            " {\t\"a\" : { \"a\" : false , \"b\" : \"\u{e9}\" } ,\r\n\"z\":\"\\u00e9 \\\" \\\\ cut \\ud83d\"} ",
            r#"{"a":{"x":"a text that is longer than eight bytes","b":0},"b":{"a":{"b":123456789012345678}}}"#,
            r#"{"a":"first","a":{"b":1},"b":null}"#,
            r#"[{"a":"x"}]"#,
            r#""a""#,
            "7",
            "{}",
        ] {
            assert!(agrees(body.as_bytes()), "{body}");
        }
        assert!(agrees(b"{\"z\":\"\xff\",\"a\":1}"), "what nobody wants need not be UTF-8");
    }

    #[test]
    fn what_is_not_plain_is_left_to_json() {
        let (lists, maps) = (
            ["[".repeat(66), "]".repeat(66)].concat(),
            format!("{}1{}", r#"{"x":"#.repeat(65), "}".repeat(65)),
        );
        for body in [
            r#"{"a":"\n"}"#,
            r#"{"\u0061":1}"#,
            "{\"\u{e9}\":1}",
            r#"{"a":-1}"#,
            r#"{"a":1.5}"#,
            r#"{"a":1e3}"#,
            r#"{"a":1234567890123456789}"#,
            &format!(r#"{{"z":{lists}}}"#),
            &format!(r#"{{"z":{maps}}}"#),
        ] {
            assert!(!agrees(body.as_bytes()), "{body}");
            assert!(picker().parse(body.as_bytes()).is_ok(), "{body}");
        }
    }

    #[test]
    fn what_is_wrong_is_never_answered() {
        for body in [
            "",
            " ",
            "{",
            "}",
            "[",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{\"z\":[1,]}",
            "{\"z\":[,]}",
            "{\"z\":{1:2}}",
            "{\"z\":[}",
            "{\"z\":{]",
            "{\"a\":01}",
            "{\"z\":01}",
            "{\"z\":-}",
            "{\"z\":1.}",
            "{\"z\":.5}",
            "{\"z\":1e}",
            "{\"z\":+1}",
            "{\"z\":--1}",
            "{\"z\":tru}",
            "{\"z\":nul}",
            "{\"a\":True}",
            "{\"z\":\"\\x\"}",
            "{\"z\":\"\\u12g4\"}",
            "{\"z\":\"a\nb\"}",
            "{\"a\":\"a\u{1}b\"}",
            "{\"z\":\"",
            "{\"z\":\"\\",
            "{\"a\":\"",
            "{}x",
            "{} {}",
            "{\"a\":1 \"b\":2}",
            "\u{feff}{}",
            "{\"z\":1\u{c}}",
        ] {
            assert!(!agrees(body.as_bytes()), "{body:?}");
            assert!(picker().parse(body.as_bytes()).is_err(), "{body:?}");
        }
    }

    #[test]
    fn a_text_ends_where_it_ends() {
        for end in [b'"', b'\\', 0, 0x1f] {
            for before in 0..40 {
                let mut text = vec![b' '; 40];
                text.iter_mut().step_by(3).for_each(|byte| *byte = 0xa2);
                text[before] = end;
                text[before + 1..].fill(b'"');
                assert_eq!(plain_bytes(&text), before);
                assert_eq!(plain_bytes(&text[..before]), before);
            }
        }
    }

    fn any_body() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "null|true|false|0|7|-7|1\\.5|2e9|18446744073709551616",
            "\"([ab{}:,\u{e9}]|\\\\[nu\"\\\\]|00e9){0,12}\"",
        ];
        let leaf = leaf.prop_map(|text: String| text);
        leaf.prop_recursive(4, 32, 4, |inner| {
            let entry = ("\"(a|b|a|b|c|\\\\u0061)\"[ \n]?:[ \t]?", inner.clone())
                .prop_map(|(key, value)| key + &value);
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
                proptest::collection::vec(entry, 0..4)
                    .prop_map(|entries| format!("{{{}}}", entries.join(", "))),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        /// JSON, with a byte of it changed or cut off now and then.
        #[test]
        fn what_is_answered_is_what_serde_json_answers(
            body in any_body(),
            wrong in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cut in proptest::option::of(any::<prop::sample::Index>()),
        ) {
            let mut body = body.into_bytes();
            if let Some((at, byte)) = wrong {
                let at = at.index(body.len());
                body[at] = byte;
            }
            if let Some(cut) = cut {
                body.truncate(cut.index(body.len()));
            }
            agrees(&body);
        }

        #[test]
        fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            agrees(&body);
        }
    }
}
