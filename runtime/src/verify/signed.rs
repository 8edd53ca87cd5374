//! Signed: the template of what is signed, and the bytes that it stands for in one request.
//!
//! The bytes are handed to the MAC part by part; the body is never copied.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::extract::Place;
use super::{Claim, Refused, Request};

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
    Url,
    Value(Place),
}

/// One stretch of the signed bytes.
pub(super) struct Piece<'a>(Cow<'a, [u8]>);

impl Piece<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
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
        self.parts.iter().any(|part| matches!(part, Part::Body))
    }

    pub(super) fn has_timestamp(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Timestamp))
    }

    pub(super) fn has_id(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Id { .. }))
    }

    pub(super) fn needs_url(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Url))
    }

    /// Two values side by side: the border between them can be moved without changing what is signed.
    pub(super) fn is_ambiguous(&self) -> bool {
        let is_value = |part: &Part| !matches!(part, Part::Literal(_) | Part::Method);
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
            "path" | "secret" | "crc32" | "form_sorted" => {
                Err(format!("`{{{name}}}` is not supported yet; write a scheme without it"))
            }
            _ if name.contains(':') => Place::parse(name).map(Part::Value),
            _ => Err(format!(
                "`{{{name}}}` is not known; write {{body}}, {{timestamp}}, {{id}}, {{method}}, {{url}}, \
                 {{header:X}}, {{json:a.b}}, {{form:x}}, {{query:x}} or {{const:name}}"
            )),
        }
    }
}

// === one request ===

impl Template {
    pub(super) fn resolve<'a>(
        &'a self,
        request: &Request<'a>,
        claim: &'a Claim,
    ) -> Result<Vec<Piece<'a>>, Refused> {
        self.parts.iter().map(|part| part.resolve(request, claim)).collect()
    }
}

impl Part {
    fn resolve<'a>(&'a self, request: &Request<'a>, claim: &'a Claim) -> Result<Piece<'a>, Refused> {
        let bytes = match self {
            Part::Literal(text) => text.as_bytes(),
            Part::Body => request.body,
            Part::Timestamp => claim.stamp.as_ref().map_or(&b""[..], |stamp| stamp.text.as_bytes()),
            Part::Id { until } => id(claim.id.as_deref().unwrap_or_default(), until.as_deref())?.as_bytes(),
            Part::Method => request.method.as_bytes(),
            Part::Url if request.url.is_empty() => {
                return Err(Refused::Malformed(
                    "the scheme signs the URL; set `public_url` of the source".into(),
                ));
            }
            Part::Url => request.url.as_bytes(),
            Part::Value(place) => return value(place, request),
        };
        Ok(Piece(Cow::Borrowed(bytes)))
    }
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
        Some(Cow::Borrowed(text)) => Ok(Piece(Cow::Borrowed(text.as_bytes()))),
        Some(Cow::Owned(text)) => Ok(Piece(Cow::Owned(text.into_bytes()))),
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
        let stamp = Some(stamp::Read { text: "0017".into(), at: Millis(17_000) });
        let claim = Claim { candidates: vec![], stamp, id: Some(id.into()) };
        let template = template(text);
        let pieces = template.resolve(&request, &claim)?;
        Ok(pieces.iter().map(|piece| String::from_utf8_lossy(piece.bytes()).into_owned()).collect())
    }

    #[test]
    fn a_template_stands_for_the_bytes_of_the_request() {
        for (text, expected) in [
            ("{timestamp}.{body}", "0017.{\"a\":{\"b\":\"B\"}}"),
            ("v0:{timestamp}:{id}", "v0:0017:msg"),
            ("{method}{url}", "POSThttps://h/p"),
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
            ("{secret}{body}", "`{secret}` is not supported yet"),
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
            ("{body}", false),
        ] {
            assert_eq!(template(text).is_ambiguous(), expected, "{text}");
        }
    }
}
