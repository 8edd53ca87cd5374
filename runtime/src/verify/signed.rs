//! Signed: the template of what is signed, and the bytes that it stands for in one request.
//!
//! The bytes are handed to the MAC part by part; the body is never copied.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::extract::{Place, sorted_form};
use super::{Refused, Request, stamp};

#[derive(Debug, Default)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Body,
    Timestamp,
    Id {
        /// The literal behind it. An id that held it could be cut in two places and signed once.
        until: Option<String>,
    },
    Method,
    /// As the provider has it registered, with the query that this request has.
    Url,
    /// The same as HubSpot signs it: some escapes decoded.
    UrlDecoded,
    Path,
    /// The secret itself, of a plain hash.
    Secret,
    /// CRC-32 of the body, in decimal.
    Crc32,
    /// All fields of a form, sorted: each name, then its value.
    FormSorted,
    Value(Place),
}

/// One stretch of the signed bytes.
pub(super) enum Piece<'a> {
    Bytes(Cow<'a, [u8]>),
    Secret,
}

impl Piece<'_> {
    pub(super) fn bytes<'p>(&'p self, secret: &'p [u8]) -> &'p [u8] {
        match self {
            Piece::Bytes(bytes) => bytes,
            Piece::Secret => secret,
        }
    }
}

/// What a request claims of itself, as far as it is signed.
#[derive(Clone, Copy, Default)]
pub(super) struct Claimed<'a> {
    pub(super) stamp: Option<&'a stamp::Read>,
    pub(super) id: Option<&'a str>,
}

// === compiling ===

impl Template {
    /// An error for each part that is not known, in words.
    pub(super) fn parse(text: &str, consts: &BTreeMap<String, String>) -> Result<Template, Vec<String>> {
        let (mut parts, mut problems) = (Vec::new(), Vec::new());
        let mut rest = text;
        while let Some((literal, behind)) = rest.split_once('{') {
            push_literal(&mut parts, literal);
            let Some((name, behind)) = behind.split_once('}') else {
                problems.push("a `{` is not closed; write names as {body}".to_owned());
                return Err(problems);
            };
            match Part::parse(name, consts) {
                Ok(Part::Literal(value)) => push_literal(&mut parts, &value),
                Ok(part) => parts.push(part),
                Err(problem) => problems.push(problem),
            }
            rest = behind;
        }
        push_literal(&mut parts, rest);
        for at in 1..parts.len() {
            if let [Part::Id { until }, Part::Literal(literal)] = &mut parts[at - 1..=at] {
                *until = Some(literal.clone());
            }
        }
        if problems.is_empty() { Ok(Template { parts }) } else { Err(problems) }
    }

    pub(super) fn has_body(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Body | Part::Crc32))
    }

    pub(super) fn has_timestamp(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Timestamp))
    }

    pub(super) fn has_id(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Id { .. }))
    }

    pub(super) fn needs_url(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Url | Part::UrlDecoded | Part::Path))
    }

    /// The first that is the secret: None where it is not in it.
    pub(super) fn secret_at(&self) -> Option<usize> {
        self.parts.iter().position(|part| matches!(part, Part::Secret))
    }

    pub(super) fn holds(&self, place: &Place) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Value(signed) if signed.is(place)))
    }

    /// What stands in the signed text of every request.
    pub(super) fn literals(&self) -> Vec<&str> {
        let texts = self.parts.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// Two values side by side: the border between them can be moved without changing what is signed.
    pub(super) fn is_ambiguous(&self) -> bool {
        let is_value = |part: &Part| !matches!(part, Part::Literal(_) | Part::Method | Part::Secret);
        self.parts.windows(2).any(|pair| is_value(&pair[0]) && is_value(&pair[1]))
    }
}

fn push_literal(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Literal(before)) => before.push_str(text),
        _ => parts.push(Part::Literal(text.to_owned())),
    }
}

impl Part {
    fn parse(name: &str, consts: &BTreeMap<String, String>) -> Result<Part, String> {
        if let Some(name) = name.strip_prefix("const:") {
            let value = consts.get(name).ok_or_else(|| {
                format!("`{{const:{name}}}` has no value; add it: const: {{ {name}: \"…\" }}")
            })?;
            return Ok(Part::Literal(value.clone()));
        }
        match name {
            "body" => Ok(Part::Body),
            "timestamp" => Ok(Part::Timestamp),
            "id" => Ok(Part::Id { until: None }),
            "method" => Ok(Part::Method),
            "url" => Ok(Part::Url),
            "url_decoded" => Ok(Part::UrlDecoded),
            "path" => Ok(Part::Path),
            "secret" => Ok(Part::Secret),
            "crc32" => Ok(Part::Crc32),
            "form_sorted" => Ok(Part::FormSorted),
            _ if name.contains(':') => Place::parse(name).map(Part::Value),
            _ => Err(format!(
                "`{{{name}}}` is not known; write {{body}}, {{timestamp}}, {{id}}, {{method}}, {{url}}, {{path}}, \
                 {{header:X}}, {{json:a.b}}, {{form:x}}, {{query:x}}, {{crc32}}, {{form_sorted}} or {{const:name}}"
            )),
        }
    }
}

// === one request ===

impl Template {
    pub(super) fn resolve<'a>(
        &'a self,
        request: &Request<'a>,
        claimed: Claimed<'a>,
    ) -> Result<Vec<Piece<'a>>, Refused> {
        self.parts.iter().map(|part| part.resolve(request, claimed)).collect()
    }
}

impl Part {
    fn resolve<'a>(&'a self, request: &Request<'a>, claimed: Claimed<'a>) -> Result<Piece<'a>, Refused> {
        let bytes = match self {
            Part::Literal(text) => text.as_bytes(),
            Part::Body => request.body,
            Part::Timestamp => claimed.stamp.map_or(&b""[..], |stamp| stamp.text.as_bytes()),
            Part::Id { until } => id(claimed.id.unwrap_or_default(), until.as_deref())?.as_bytes(),
            Part::Method => request.method.as_bytes(),
            Part::Url => return Ok(text(registered(request)?)),
            Part::UrlDecoded => return Ok(text(decoded(registered(request)?))),
            Part::Path => return Ok(text(path(registered(request)?))),
            Part::Secret => return Ok(Piece::Secret),
            Part::Crc32 => return Ok(text(crc32fast::hash(request.body).to_string().into())),
            Part::FormSorted => {
                return sorted_form(request.body).map(|form| text(form.into())).map_err(Refused::Malformed);
            }
            Part::Value(place) => return value(place, request),
        };
        Ok(Piece::Bytes(Cow::Borrowed(bytes)))
    }
}

fn text(text: Cow<'_, str>) -> Piece<'_> {
    Piece::Bytes(match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    })
}

/// The URL as the provider has it: what the operator wrote, and the query that came, which proxies leave alone.
fn registered<'a>(request: &Request<'a>) -> Result<Cow<'a, str>, Refused> {
    let url = request.url;
    if url.is_empty() {
        return Err(Refused::Malformed("the scheme signs the URL; set `public_url` of the source".into()));
    }
    let (before, written) = url.split_once('?').map_or((url, None), |(before, query)| (before, Some(query)));
    Ok(match request.query {
        Some(query) if written != Some(query) => Cow::Owned(format!("{before}?{query}")),
        _ => Cow::Borrowed(url),
    })
}

/// From the host's end to the query.
fn path(url: Cow<'_, str>) -> Cow<'_, str> {
    let from = url.find("://").map_or(0, |at| at + 3);
    let from = url[from..].find(['/', '?']).map_or(url.len(), |at| from + at);
    let to = url.find('?').unwrap_or(url.len());
    let path = url.get(from..to).unwrap_or_default();
    Cow::Owned(if path.is_empty() { "/".to_owned() } else { path.to_owned() })
}

/// HubSpot decodes these before it signs, and leaves all others as they are.
/// <https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation> (2026)
fn decoded(url: Cow<'_, str>) -> Cow<'_, str> {
    const ESCAPES: [(&str, char); 12] = [
        ("3a", ':'),
        ("2f", '/'),
        ("3f", '?'),
        ("40", '@'),
        ("21", '!'),
        ("24", '$'),
        ("27", '\''),
        ("28", '('),
        ("29", ')'),
        ("2a", '*'),
        ("2c", ','),
        ("3b", ';'),
    ];
    if !url.contains('%') {
        return url;
    }
    let mut out = String::with_capacity(url.len());
    let mut rest = &*url;
    while let Some((before, behind)) = rest.split_once('%') {
        out.push_str(before);
        let escape = behind.get(..2).map(str::to_ascii_lowercase);
        match ESCAPES.iter().find(|(code, _)| escape.as_deref() == Some(code)) {
            Some((_, character)) => {
                out.push(*character);
                rest = &behind[2..];
            }
            None => {
                out.push('%');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn id<'a>(id: &'a str, until: Option<&str>) -> Result<&'a str, Refused> {
    match until {
        Some(until) if id.contains(until) => {
            Err(Refused::Malformed(format!("the id holds `{until}`, which ends it in what is signed")))
        }
        _ => Ok(id),
    }
}

fn value<'a>(place: &Place, request: &Request<'a>) -> Result<Piece<'a>, Refused> {
    match place.find(request).map_err(Refused::Malformed)? {
        Some(found) => Ok(text(found)),
        None => Err(Refused::Malformed(format!("{place}, which is signed, is absent or empty"))),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::super::stamp;
    use super::*;
    use crate::words::time::Millis;

    fn template(text: &str) -> Template {
        Template::parse(text, &BTreeMap::from([("tag".to_owned(), "42".to_owned())])).unwrap()
    }

    fn signed(text: &str, id: &str) -> Result<String, Refused> {
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("A"));
        let request = Request {
            method: "POST",
            url: "https://h/p",
            query: Some("q=Q"),
            headers: &headers,
            body: br#"{"a":{"b":"B"}}"#,
        };
        let stamp = stamp::Read { text: "0017".into(), at: Millis(17_000) };
        let template = template(text);
        let pieces = template.resolve(&request, Claimed { stamp: Some(&stamp), id: Some(id) })?;
        Ok(pieces.iter().map(|piece| String::from_utf8_lossy(piece.bytes(b"S3")).into_owned()).collect())
    }

    #[test]
    fn a_template_stands_for_the_bytes_of_the_request() {
        for (text, expected) in [
            ("{timestamp}.{body}", "0017.{\"a\":{\"b\":\"B\"}}"),
            ("v0:{timestamp}:{id}", "v0:0017:msg"),
            ("{method}{url}", "POSThttps://h/p?q=Q"),
            ("{path}", "/p"),
            ("{secret}-{crc32}", "S3-109616496"),
            ("{header:X-A}|{json:a.b}|{query:q}|{const:tag}", "A|B|Q|42"),
            ("plain", "plain"),
            ("", ""),
        ] {
            assert_eq!(signed(text, "msg").unwrap(), expected);
        }
        assert!(signed("{header:X-B}", "").unwrap_err().to_string().contains("absent or empty"));
    }

    #[test]
    fn an_id_cannot_hold_what_ends_it() {
        assert!(signed("{id}.{timestamp}", "msg.17").is_err());
        assert_eq!(signed("{id}:{timestamp}", "msg.17").unwrap(), "msg.17:0017");
        assert_eq!(signed("{timestamp}.{id}", "msg.17").unwrap(), "0017.msg.17");
        assert!(signed("{id}{const:tag}", "a42").is_err());
    }

    #[test]
    fn what_cannot_be_signed_is_named() {
        for (text, words) in [
            ("{body", "not closed"),
            ("{bodi}", "`{bodi}` is not known; write {body}"),
            ("{}", "not known"),
            ("{const:other}", "add it: const: { other:"),
            ("{cookie:x}", "names no place"),
        ] {
            let problems = Template::parse(text, &BTreeMap::new()).unwrap_err();
            assert!(problems[0].contains(words), "{problems:?}");
        }
        assert_eq!(Template::parse("{a}{b}", &BTreeMap::new()).unwrap_err().len(), 2);
    }

    #[test]
    fn neighbours_without_a_border_are_seen() {
        for (text, expected) in [
            ("{id}{timestamp}{body}", true),
            ("{url}{body}", true),
            ("{timestamp}.{body}", false),
            ("{method}{url}", false),
            ("{secret}{body}", false),
            ("{body}", false),
        ] {
            assert_eq!(template(text).is_ambiguous(), expected, "{text}");
        }
    }

    fn of_url(part: &str, url: &str, query: Option<&str>) -> String {
        let request = Request { method: "GET", url, query, headers: &HeaderMap::new(), body: b"" };
        let template = template(part);
        let pieces = template.resolve(&request, Claimed::default()).unwrap();
        String::from_utf8(pieces[0].bytes(b"").to_vec()).unwrap()
    }

    #[test]
    fn a_url_has_the_query_that_came() {
        for (url, query, expected) in [
            ("https://h/p", None, "https://h/p"),
            ("https://h/p?a=1", None, "https://h/p?a=1"),
            ("https://h/p?a=1", Some("a=1"), "https://h/p?a=1"),
            ("https://h/p?a=1", Some("a=1&b=2"), "https://h/p?a=1&b=2"),
            ("https://h/p", Some("b=2"), "https://h/p?b=2"),
        ] {
            assert_eq!(of_url("{url}", url, query), expected);
        }
        for (url, expected) in
            [("https://h/p/q?a=/", "/p/q"), ("https://h", "/"), ("https://h?a=1", "/"), ("https://h/", "/")]
        {
            assert_eq!(of_url("{path}", url, None), expected, "{url}");
        }
        let escaped = "https://h/p?a=%3A%2f%20%41%&b=%2";
        assert_eq!(of_url("{url_decoded}", escaped, None), "https://h/p?a=:/%20%41%&b=%2");
    }
}
