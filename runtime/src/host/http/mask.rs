//! Mask: a handler's secrets do not come back to it. A service that echoes a request (httpbin, an error page, a
//! debug header) would else hand the guest what the host keeps from it.
//!
//! Found are the secret itself and the encodings that a web service makes without being asked: percent, form,
//! base64 wherever it starts, JSON, HTML, hex. Not found is what was compressed or encrypted: `http` asks for
//! neither and withholds a compressed answer to a call with credentials.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::words::limits;

#[derive(Default)]
pub(in crate::host) struct Mask {
    /// None: no secrets, nothing to look for.
    finder: Option<AhoCorasick>,
    /// By pattern: `[secret NAME]`.
    replacements: Vec<String>,
    /// Bytes of the longest pattern.
    longest: usize,
}

impl Mask {
    /// `secrets`: name and value; of a secret URL also its parts (see `parts_of_url`).
    pub(in crate::host) fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Mask {
        let mut patterns: Vec<Vec<u8>> = Vec::new();
        let mut replacements = Vec::new();
        for (name, value) in secrets {
            for pattern in encodings(value) {
                if pattern.len() >= limits::CREDENTIAL_BYTES_MIN && !patterns.contains(&pattern) {
                    patterns.push(pattern);
                    replacements.push(format!("[secret {name}]"));
                }
            }
        }
        let longest = patterns.iter().map(Vec::len).max().unwrap_or(0);
        let finder = (!patterns.is_empty()).then(|| {
            AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(&patterns)
                .expect("a few dozen patterns of a few KiB are below the automaton's limits")
        });
        Mask { finder, replacements, longest }
    }

    pub(in crate::host) fn bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        match &self.finder {
            Some(finder) if finder.is_match(&bytes) => finder.replace_all_bytes(&bytes, &self.replacements),
            _ => bytes,
        }
    }

    /// Of bytes that were cut off somewhere: a secret across the cut is not found any more, so as much as could be
    /// its beginning goes too. After the masking: before it, this cut could go through a secret itself.
    pub(in crate::host) fn beginning(&self, bytes: Vec<u8>) -> Vec<u8> {
        let mut masked = self.bytes(bytes);
        masked.truncate(masked.len().saturating_sub(self.longest.saturating_sub(1)));
        masked
    }

    pub(in crate::host) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.finder {
            // Patterns are ASCII or whole secrets; a secret that starts inside a character would split it.
            Some(finder) if finder.is_match(text) => {
                let masked = finder.replace_all_bytes(text.as_bytes(), &self.replacements);
                Cow::Owned(String::from_utf8_lossy(&masked).into_owned())
            }
            _ => Cow::Borrowed(text),
        }
    }
}

/// What of a secret URL is secret: path and query, and the last segment, which is often the token alone.
pub(in crate::host) fn parts_of_url(url: &str) -> Vec<&str> {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let Some(slash) = after_scheme.find(['/', '?']) else { return Vec::new() };
    let path = &after_scheme[slash..];
    let without_query = path.split(['?', '#']).next().unwrap_or(path).trim_end_matches('/');
    let last = without_query.rsplit('/').next().unwrap_or_default();
    // A word such as `services` or `hook` is not a token.
    [path, without_query, last].into_iter().filter(|part| part.len() >= 8).collect()
}

fn encodings(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut all =
        vec![secret.to_vec(), hex::encode(secret).into_bytes(), hex::encode_upper(secret).into_bytes()];
    all.extend(percent(secret));
    all.extend(base64_anywhere(secret));
    if let Ok(text) = std::str::from_utf8(secret) {
        all.extend(escaped(text).map(String::into_bytes));
    }
    all
}

/// Both cases of hex digits, a space as `%20` or `+`, and two ideas of which characters need it.
fn percent(secret: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let component = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    let lenient = |b: u8| b.is_ascii_graphic() && !b"%\"<>`#".contains(&b);
    let form = |b: u8| b.is_ascii_alphanumeric() || b"*-._".contains(&b);
    let encode = |keep: &dyn Fn(u8) -> bool, space: &str, upper: bool| {
        let mut out = Vec::with_capacity(secret.len() * 3);
        for &b in secret {
            match b {
                b' ' => out.extend_from_slice(space.as_bytes()),
                b if keep(b) => out.push(b),
                b if upper => out.extend_from_slice(format!("%{b:02X}").as_bytes()),
                b => out.extend_from_slice(format!("%{b:02x}").as_bytes()),
            }
        }
        out
    };
    let mut all = Vec::new();
    for upper in [true, false] {
        all.push(encode(&component, "%20", upper));
        all.push(encode(&lenient, "%20", upper));
        all.push(encode(&form, "+", upper));
    }
    all.into_iter()
}

/// Base64 of something with the secret inside it, as in `Basic base64(user:secret)`: the secret starts at one
/// of three places of a group. Characters that also depend on the neighbours are left out.
fn base64_anywhere(secret: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut all = Vec::new();
    for before in 0..3 {
        let mut padded = vec![0; before];
        padded.extend_from_slice(secret);
        let first = (before * 8).div_ceil(6);
        let last = padded.len() * 8 / 6;
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            all.push(engine.encode(&padded).into_bytes()[first..last].to_vec());
        }
    }
    all.into_iter()
}

fn escaped(text: &str) -> impl Iterator<Item = String> {
    let quoted = serde_json::Value::from(text).to_string();
    let json = quoted[1..quoted.len() - 1].to_owned();
    // PHP escapes the slash, Go what HTML would read.
    let json_slash = json.replace('/', "\\/");
    let json_html = json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
    let html = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let html_apostrophe = html.replace('\'', "&#39;");
    [json, json_slash, json_html, html, html_apostrophe].into_iter()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "s3cr/t+ to&\"ken'=";

    fn mask() -> Mask {
        Mask::new([("token", SECRET.as_bytes())])
    }

    #[test]
    fn a_secret_is_masked_however_it_comes_back() {
        let url_encoded: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
        let forms = [
            SECRET.to_owned(),
            url_encoded,
            "s3cr%2Ft%2B%20to%26%22ken%27%3D".to_owned(),
            "s3cr%2ft%2b%20to%26%22ken%27%3d".to_owned(),
            "s3cr/t+ to\\u0026\\\"ken'=".to_owned(),
            "s3cr\\/t+ to&\\\"ken'=".to_owned(),
            "s3cr/t+ to&amp;&quot;ken&#39;=".to_owned(),
            hex::encode(SECRET),
            hex::encode_upper(SECRET),
        ];
        for form in forms {
            let masked = mask().text(&format!("<a {form} b>")).into_owned();
            assert_eq!(masked, "<a [secret token] b>", "{form}");
        }
    }

    #[test]
    fn base64_is_masked_wherever_the_secret_starts() {
        for user in ["", "u", "us", "use", "user:", "a longer user:"] {
            let sent = STANDARD.encode(format!("{user}{SECRET}"));
            let masked = mask().text(&sent).into_owned();
            assert!(masked.contains("[secret token]"), "{user}: {masked}");
            // What is left holds at most the user and the edges of the group.
            assert!(masked.len() - "[secret token]".len() <= user.len() * 4 / 3 + 6, "{masked}");
        }
    }

    #[test]
    fn parts_of_a_secret_url() {
        let url = "https://hooks.slack.com/services/T000/B000/XXXXXXXXXXXXXXXX";
        assert_eq!(
            parts_of_url(url),
            [
                "/services/T000/B000/XXXXXXXXXXXXXXXX",
                "/services/T000/B000/XXXXXXXXXXXXXXXX",
                "XXXXXXXXXXXXXXXX"
            ]
        );
        assert_eq!(parts_of_url("https://example.com"), Vec::<&str>::new());
        assert_eq!(parts_of_url("https://example.com/hook"), Vec::<&str>::new());
        assert_eq!(parts_of_url("https://example.com?token=abcdef"), ["?token=abcdef"]);
    }

    #[test]
    fn nothing_to_mask() {
        assert_eq!(Mask::default().text("hello"), "hello");
        assert_eq!(mask().bytes(b"hello".to_vec()), b"hello");
    }

    proptest! {
        #[test]
        fn nothing_of_a_secret_across_a_cut_survives(before in "[a-j]{0,80}", cut in 0usize..200) {
            // No character of the secret is in what surrounds it.
            let secret = "0123456789-XYZ-0123456789";
            let mask = Mask::new([("x", secret.as_bytes())]);
            let text = format!("{before}{secret}{before}{secret}{before}");
            let cut = text.as_bytes()[..cut.min(text.len())].to_vec();
            let shown = String::from_utf8(mask.beginning(cut)).unwrap();
            let left = shown.replace("[secret x]", "");
            let left = left.split('[').next().unwrap();
            prop_assert!(left.bytes().all(|b| (b'a'..=b'j').contains(&b)), "{shown}");
        }

        #[test]
        fn no_secret_survives(secret in "[ -~]{6,40}", before in "[ -~]{0,20}", after in "[ -~]{0,20}") {
            // A neighbour that completes an earlier match may move it, but not leave the secret whole.
            let mask = Mask::new([("x", secret.as_bytes())]);
            let text = format!("{before}{secret}{after}");
            prop_assert!(!mask.text(&text).replace("[secret x]", "\0").contains(&secret));
        }
    }
}
