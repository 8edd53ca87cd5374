//! Granted: one origin that a handler may call, by which methods, below which paths, and what is done about calls to
//! it of which nobody knows what came. Pure.
//!
//! A path is granted by its beginning, and it is held against the URL as it is sent: `url` has resolved `..`, `%2e%2e`
//! and backslashes by then. What it leaves and servers read in more than one way (an encoded slash, an empty segment,
//! an encoding of an encoding) is refused where paths are granted: a beginning says nothing about such a path.

use std::time::Duration;

use http::{HeaderName, Method};
use url::Url;

use super::origin::{Origin, Pattern};
use super::prepare::is_set_by_host;
use crate::host::{EffectPolicy, OnChanged, OnUnknown, OriginGrant};
use crate::words::event::Name;
use crate::words::limits;

/// RFC draft-ietf-httpapi-idempotency-key-header; Stripe, Adyen and others read it under this name.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

#[derive(Clone, Debug)]
pub(in crate::host) struct Granted {
    pub(in crate::host) pattern: Pattern,
    /// Empty: all.
    methods: Vec<String>,
    /// Beginnings; empty: all.
    paths: Vec<String>,
    pub(super) policy: Policy,
}

/// What is done about the calls to one origin.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) on_unknown: OnUnknown,
    pub(super) on_changed: OnChanged,
    pub(super) key_header: HeaderName,
    /// How long the service remembers an idempotency key; None: for as long as a delivery lives.
    pub(super) key_ttl: Option<Duration>,
    /// `on_unknown: resend` is written for this origin: also without the protection of a key.
    pub(super) resends_unprotected: bool,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            on_unknown: OnUnknown::default(),
            on_changed: OnChanged::default(),
            key_header: IDEMPOTENCY_KEY,
            key_ttl: None,
            resends_unprotected: false,
        }
    }
}

/// What a refusal may show of a path.
#[derive(Clone, Copy)]
pub(super) enum Shown<'a> {
    Path,
    /// The path is a secret; its name.
    Secret(&'a str),
}

impl Granted {
    /// # Errors
    /// Everything wrong with it: the field below the grant, or nothing, and what to write instead.
    pub(in crate::host) fn new(
        grant: &OriginGrant,
        handler: EffectPolicy,
    ) -> Result<Granted, Vec<(String, String)>> {
        let mut problems = Vec::new();
        let mut note = |field: &str, why: String| problems.push((field.to_owned(), why));
        let pattern = Pattern::parse(&grant.origin).map_err(|why| note("", why)).ok();
        for (i, text) in grant.methods.iter().enumerate() {
            method(text).unwrap_or_else(|why| note(&format!(".methods.{i}"), why));
        }
        for (i, text) in grant.paths.iter().enumerate() {
            path(text).unwrap_or_else(|why| note(&format!(".paths.{i}"), why));
        }
        let written = grant.key_header.as_deref().map(key_header).transpose();
        let key_header = written.map_err(|why| note(".idempotency_key.header", why)).ok();
        match (pattern, key_header) {
            (Some(pattern), Some(key_header)) if problems.is_empty() => Ok(Granted {
                pattern,
                methods: grant.methods.clone(),
                paths: grant.paths.clone(),
                policy: Policy {
                    on_unknown: grant.on_unknown.unwrap_or(handler.on_unknown),
                    on_changed: grant.on_changed.unwrap_or(handler.on_changed),
                    key_header: key_header.unwrap_or(IDEMPOTENCY_KEY),
                    key_ttl: grant.key_ttl,
                    resends_unprotected: grant.on_unknown == Some(OnUnknown::Resend),
                },
            }),
            _ => Err(problems),
        }
    }

    fn has_method(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|granted| granted == method.as_str())
    }

    fn has_path(&self, path: &str) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|beginning| begins(path, beginning))
    }
}

/// Of all that are granted the first that lets a call through, by its place in the list.
///
/// # Errors
/// Why none does, with what to type.
pub(super) fn find(
    all: &[Granted],
    handler: &Name,
    method: &Method,
    (url, origin): (&Url, &Origin),
    shown: Shown<'_>,
) -> Result<usize, String> {
    let of_origin = || all.iter().enumerate().filter(|(_, granted)| granted.pattern.matches(origin));
    let of_method = || of_origin().filter(|(_, granted)| granted.has_method(method));
    let odd = ambiguity(url.path());
    let fits =
        |granted: &Granted| granted.paths.is_empty() || (odd.is_none() && granted.has_path(url.path()));
    if let Some((place, _)) = of_method().find(|(_, granted)| fits(granted)) {
        return Ok(place);
    }
    let field = |place: usize| format!("handlers.{handler}.grants.http.{place}");
    match (of_method().next(), of_origin().next()) {
        (Some((place, granted)), _) => Err(match (shown, odd) {
            (Shown::Secret(name), Some(_)) => format!(
                "the path of secret `{name}` can be read in more than one way, and {origin} is granted by paths; \
                 set the secret to a URL without such a spelling"
            ),
            (Shown::Path, Some(odd)) => format!(
                "the path of this call to {origin} {odd}, and the origin is granted by paths; write it plainly in the \
                 plugin, or grant the whole origin: {}.paths: []",
                field(place)
            ),
            (Shown::Secret(name), None) => format!(
                "the path of secret `{name}` is not granted at {origin}; add its beginning: {}.paths: [{}, \"/…\"]",
                field(place),
                quoted(&granted.paths)
            ),
            (Shown::Path, None) => format!(
                "the path {} is not granted at {origin}; add it: {}.paths: [{}, \"{}\"]",
                short(url.path()),
                field(place),
                quoted(&granted.paths),
                short(url.path())
            ),
        }),
        (None, Some((place, granted))) => Err(format!(
            "{method} is not granted at {origin}; add it: {}.methods: [{}, {method}]",
            field(place),
            granted.methods.join(", ")
        )),
        (None, None) => {
            Err(format!("{origin} is not granted; add it: handlers.{handler}.grants.http: [\"{origin}\"]"))
        }
    }
}

fn quoted(texts: &[String]) -> String {
    texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ")
}

/// A guest's words in an error are short.
fn short(path: &str) -> String {
    crate::host::log::printable(path, 128)
}

// === what may be written ===

/// # Errors
/// What is wrong with a method, and what to type.
pub fn method(text: &str) -> Result<(), String> {
    let is_token = Method::from_bytes(text.as_bytes()).is_ok() && text.len() <= limits::HTTP_METHOD_BYTES_MAX;
    if !is_token || text.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(format!("`{}` is no method; type one as `GET` or `POST`", short(text)));
    }
    match super::prepare::is_never_sent(text) {
        true => Err(format!("{text} is never sent; take it away")),
        false => Ok(()),
    }
}

/// # Errors
/// What is wrong with the beginning of a path, and what to type.
pub fn path(text: &str) -> Result<(), String> {
    let advice = "type the beginning of a path as it is sent, as `/crm/v3/`";
    if !text.starts_with('/') || text.contains(['?', '#', '\\']) || text.len() > limits::HTTP_URL_BYTES_MAX {
        return Err(format!("`{}` is no path; {advice}", short(text)));
    }
    if let Some(odd) = ambiguity(text) {
        return Err(format!("`{}` {odd}; {advice}", short(text)));
    }
    match Url::parse(&format!("https://x.example{text}")) {
        Ok(url) if url.path() == text => Ok(()),
        Ok(url) => Err(format!("`{}` is sent in another spelling; type `{}`", short(text), url.path())),
        Err(_) => Err(format!("`{}` is no path; {advice}", short(text))),
    }
}

/// # Errors
/// What is wrong with the name of the header that carries idempotency keys, and what to type.
pub fn key_header(text: &str) -> Result<HeaderName, String> {
    const TAKEN: [&str; 4] = ["authorization", "content-type", "cookie", "user-agent"];
    let advice = "type the one that the service reads, as `Idempotency-Key`";
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("`{}` is no name of a header; {advice}", short(text)))?;
    match is_set_by_host(&name) || TAKEN.contains(&name.as_str()) {
        true => Err(format!("header `{name}` has another use; {advice}")),
        false => Ok(name),
    }
}

// === paths ===

/// Whole segments: `/a` is the beginning of `/a` and `/a/b`, not of `/ab`; with a slash at its end only of what is below.
fn begins(path: &str, beginning: &str) -> bool {
    path.strip_prefix(beginning)
        .is_some_and(|rest| beginning.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
}

/// Encodings of encodings that are looked into; more are refused.
const DECODINGS_MAX: usize = 4;

/// Characters that some servers take for a slash, a backslash or a dot.
const LOOKALIKES: [char; 7] =
    ['\u{2024}', '\u{2025}', '\u{2044}', '\u{2215}', '\u{ff0e}', '\u{ff0f}', '\u{ff3c}'];

/// How servers could read a path differently, each as often decoded as one of them might; None: they cannot.
fn ambiguity(path: &str) -> Option<&'static str> {
    let slashes = |text: &[u8]| text.iter().filter(|b| **b == b'/').count();
    let mut text = path.as_bytes().to_vec();
    if has_stray_percent(&text) {
        return Some("has a `%` that encodes nothing");
    }
    for _ in 0..DECODINGS_MAX {
        if let Some(odd) = odd_segment(&text) {
            return Some(odd);
        }
        let decoded = decoded(&text);
        if decoded == text {
            return None;
        }
        if slashes(&decoded) != slashes(&text) {
            return Some("has an encoded slash");
        }
        text = decoded;
    }
    Some("is encoded over and over")
}

fn odd_segment(text: &[u8]) -> Option<&'static str> {
    let Ok(text) = std::str::from_utf8(text) else { return Some("is not UTF-8") };
    if text.contains('\\') {
        return Some("has an encoded backslash");
    }
    if text.contains(char::is_control) || text.contains(LOOKALIKES) {
        return Some("has characters that servers take for others");
    }
    let segments: Vec<&str> = text.split('/').collect();
    let inner = segments.get(1..segments.len().saturating_sub(1)).unwrap_or_default();
    if inner.iter().any(|segment| segment.is_empty()) {
        return Some("has an empty segment");
    }
    // Some servers cut a segment at `;`, or spaces from its end.
    let is_dots = |segment: &&str| {
        let name = segment.split(';').next().unwrap_or_default().trim();
        name == "." || name == ".."
    };
    segments.iter().any(is_dots).then_some("has an encoded `.` or `..`")
}

fn has_stray_percent(text: &[u8]) -> bool {
    let is_hex = |at: usize| text.get(at).is_some_and(u8::is_ascii_hexdigit);
    text.iter().enumerate().any(|(at, b)| *b == b'%' && !(is_hex(at + 1) && is_hex(at + 2)))
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(b) = text.get(at) {
        match (b, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).expect("two hex digits are a byte"));
                at += 3;
            }
            _ => {
                out.push(*b);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn granted(methods: &[&str], paths: &[&str]) -> Granted {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let grant = OriginGrant {
            methods: texts(methods),
            paths: texts(paths),
            ..OriginGrant::from("https://api.example.com")
        };
        Granted::new(&grant, EffectPolicy::default()).unwrap()
    }

    fn ask(all: &[Granted], method: &str, url: &str) -> Result<usize, String> {
        let url = Url::parse(url).unwrap();
        let origin = Origin::of(&url).unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        find(all, &Name::new("h").unwrap(), &method, (&url, &origin), Shown::Path)
    }

    fn is_below(beginning: &str, path: &str) -> bool {
        ask(&[granted(&[], &[beginning])], "GET", &format!("https://api.example.com{path}")).is_ok()
    }

    #[test]
    fn a_path_is_granted_by_whole_segments() {
        let cases = [
            ("/crm/v3/", "/crm/v3/", true),
            ("/crm/v3/", "/crm/v3/objects/contacts?limit=1", true),
            ("/crm/v3/", "/crm/v3", false),
            ("/crm/v3/", "/crm/v3x/", false),
            ("/crm/v3/", "/CRM/v3/x", false),
            ("/crm/v3/", "/crm/", false),
            ("/crm/v3/", "/", false),
            ("/crm/v3", "/crm/v3", true),
            ("/crm/v3", "/crm/v3/x", true),
            ("/crm/v3", "/crm/v30", false),
            ("/crm/v3", "/crm/v3;a=b/x", false),
            ("/", "/anything/at/all", true),
            ("/a%20b/", "/a b/x", true),
            ("/a%20b/", "/a%20b/x", true),
            // What is inside a segment is the service's business.
            ("/crm/v3/", "/crm/v3/a%20b/100%25/%C3%BC/a.b/..c/x;y=z", true),
            ("/crm/v3/", "/crm/v3/x?to=../../admin&u=%2f%2e%2e", true),
        ];
        for (beginning, path, expected) in cases {
            assert_eq!(is_below(beginning, path), expected, "{beginning} {path}");
        }
    }

    #[test]
    fn no_spelling_leads_out_of_a_granted_path() {
        let escapes = [
            "/crm/v3/../../admin",
            "/crm/v3/./../../admin",
            "/crm/v3/%2e%2e/%2e%2e/admin",
            "/crm/v3/%2E%2e/%2e%2E/admin",
            "/crm/v3/.%2e/.%2e/admin",
            "/crm/v3/..\\..\\admin",
            "/crm/v3/%2e%2e\\%2e%2e\\admin",
            "/crm/v3/..%2f..%2fadmin",
            "/crm/v3/..%2F..%2Fadmin",
            "/crm/v3/%2e%2e%2f%2e%2e%2fadmin",
            "/crm/v3/..%5c..%5cadmin",
            "/crm/v3/..%5C..%5Cadmin",
            "/crm/v3/%252e%252e/%252e%252e/admin",
            "/crm/v3/%252e%252e%252f%252e%252e%252fadmin",
            "/crm/v3/..%252f..%252fadmin",
            "/crm/v3/..%255c..%255cadmin",
            "/crm/v3/%25252e%25252e/admin",
            "/crm/v3/%2525252525252e/admin",
            "/crm/v3/..;/..;/admin",
            "/crm/v3/..;x=y/admin",
            "/crm/v3/%2e%2e;/admin",
            "/crm/v3/..%3b/admin",
            "/crm/v3/..%20/admin",
            "/crm/v3//../../../admin",
            "/crm/v3//admin",
            "//crm/v3/x",
            "/crm//v3/x",
            "/crm/v3/%00/../../admin",
            "/crm/v3/x%00",
            "/crm/v3/x%0a",
            "/crm/v3/%c0%ae%c0%ae/%c0%ae%c0%ae/admin",
            "/crm/v3/..%c0%af..%c0%afadmin",
            "/crm/v3/%ef%bc%8e%ef%bc%8e/admin",
            "/crm/v3/．．／admin",
            "/crm/v3/..%ef%bc%8f..%ef%bc%8fadmin",
            "/crm/v3/%u002e%u002e/admin",
            "/crm/v3/%",
            "/admin#/crm/v3/",
            "/admin?/crm/v3/",
            "/%63rm/v3/x",
            "\\crm\\..\\v3\\x",
        ];
        for path in escapes {
            assert!(!is_below("/crm/v3/", path), "{path}");
        }
    }

    #[test]
    fn an_origin_granted_whole_takes_every_path() {
        let whole = [granted(&[], &[])];
        for path in ["/a%2fb", "//a", "/%2e%252e", "/a%"] {
            assert_eq!(ask(&whole, "PUT", &format!("https://api.example.com{path}")), Ok(0), "{path}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_type() {
        let one = [granted(&["GET", "POST"], &["/crm/v3/"])];
        let cases = [
            (
                "PUT",
                "https://api.example.com/crm/v3/x",
                "PUT is not granted at https://api.example.com; add it: handlers.h.grants.http.0.methods: [GET, POST, PUT]",
            ),
            (
                "GET",
                "https://api.example.com/files/v3/x?token=1",
                "the path /files/v3/x is not granted at https://api.example.com; add it: handlers.h.grants.http.0.paths: [\"/crm/v3/\", \"/files/v3/x\"]",
            ),
            (
                "GET",
                "https://api.example.com/crm/v3/..%2fx",
                "the path of this call to https://api.example.com has an encoded slash, and the origin is granted by paths; write it plainly in the plugin, or grant the whole origin: handlers.h.grants.http.0.paths: []",
            ),
            (
                "GET",
                "https://other.example/",
                "https://other.example is not granted; add it: handlers.h.grants.http: [\"https://other.example\"]",
            ),
            // A method is a token, and tokens know upper and lower case.
            ("get", "https://api.example.com/crm/v3/x", "get is not granted"),
        ];
        for (method, url, expected) in cases {
            let said = ask(&one, method, url).unwrap_err();
            assert!(said.starts_with(expected), "{said}");
        }
    }

    #[test]
    fn the_first_grant_that_lets_a_call_through_is_the_one() {
        let all = [granted(&["GET"], &[]), granted(&["POST"], &["/crm/"]), granted(&["POST"], &["/mail/"])];
        assert_eq!(ask(&all, "GET", "https://api.example.com/x"), Ok(0));
        assert_eq!(ask(&all, "POST", "https://api.example.com/crm/x"), Ok(1));
        assert_eq!(ask(&all, "POST", "https://api.example.com/mail/x"), Ok(2));
        assert!(ask(&all, "POST", "https://api.example.com/x").unwrap_err().contains("grants.http.1.paths"));
        assert!(
            ask(&all, "PUT", "https://api.example.com/crm/x").unwrap_err().contains("grants.http.0.methods")
        );
    }

    #[test]
    fn a_secrets_path_is_in_no_refusal() {
        let one = [granted(&[], &["/crm/"])];
        for path in ["/services/T0KEN", "/crm/..%2fT0KEN"] {
            let url = Url::parse(&format!("https://api.example.com{path}")).unwrap();
            let origin = Origin::of(&url).unwrap();
            let (name, at) = (Name::new("h").unwrap(), (&url, &origin));
            let said = find(&one, &name, &Method::POST, at, Shown::Secret("webhook")).unwrap_err();
            assert!(said.contains("secret `webhook`") && !said.contains("T0KEN"), "{said}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_grant_is_told_at_its_field() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let grant = OriginGrant {
            methods: texts(&["GET", "get", "TRACE", "A B"]),
            paths: texts(&["/a/", "a", "/a/../b", "/a%2fb", "/a?b", "/a//b", "/ü/", "/a b/", "/a\\b"]),
            key_header: Some("Content-Length".to_owned()),
            ..OriginGrant::from("api.example.com")
        };
        let found = Granted::new(&grant, EffectPolicy::default()).unwrap_err();
        let expected = [
            ("", "write scheme and host"),
            (".methods.1", "type one as `GET`"),
            (".methods.2", "is never sent"),
            (".methods.3", "type one as `GET`"),
            (".paths.1", "as `/crm/v3/`"),
            (".paths.2", "`..`"),
            (".paths.3", "an encoded slash"),
            (".paths.4", "is no path"),
            (".paths.5", "an empty segment"),
            (".paths.6", "type `/%C3%BC/`"),
            (".paths.7", "type `/a%20b/`"),
            (".paths.8", "is no path"),
            (".idempotency_key.header", "has another use"),
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for ((field, why), (at, text)) in found.iter().zip(expected) {
            assert!(field == at && why.contains(text), "{at} {text}: {field} {why}");
        }
        assert!(key_header("Idempotency Key").is_err() && key_header("X-Request-Id").is_ok());
    }

    proptest! {
        /// Whatever is let through and is decoded as often as one likes stays below the granted path.
        #[test]
        fn what_is_let_through_stays_below(tail in "([a-c./\\\\;%]|%2e|%2f|%5c|%25){0,24}") {
            let url = Url::parse(&format!("https://api.example.com/crm/v3/{tail}")).unwrap();
            if ask(&[granted(&[], &["/crm/v3/"])], "GET", url.as_str()).is_ok() {
                let mut path = url.path().as_bytes().to_vec();
                for _ in 0..6 {
                    let text = String::from_utf8(path.clone()).unwrap().replace('\\', "/");
                    let mut depth = 0i32;
                    for segment in text.split('/').skip(3) {
                        depth += match segment.split(';').next().unwrap() { ".." => -1, "." | "" => 0, _ => 1 };
                        prop_assert!(depth >= 0, "{url}");
                    }
                    prop_assert!(text.starts_with("/crm/v3/"), "{url}");
                    path = decoded(&path);
                }
            }
        }
    }
}
