//! Extract: takes one value out of a request, by the place that a scheme names.
//!
//! Strict, because what is taken here goes into the signed text or decides: a header on two lines, a header
//! that is not ASCII, a form field given twice are refused, not resolved. A header that is present and empty
//! counts as missing.

use std::borrow::Cow;
use std::fmt;

use http::{HeaderName, HeaderValue};

use super::json::{self, Picker};
use super::{Refused, Request};

#[derive(Clone)]
pub(super) enum Place {
    Header {
        name: HeaderName,
        /// As the scheme writes it, which is how the provider does.
        written: String,
    },
    Json {
        path: json::Path,
        picker: Picker,
    },
    Form(String),
    Query(String),
}

impl Place {
    /// `header:X`, `json:a.b`, `form:x`, `query:x`; an error says what to write.
    pub(super) fn parse(text: &str) -> Result<Place, String> {
        let (kind, name) = text.split_once(':').unwrap_or(("", text));
        match kind {
            "header" => {
                let parsed = HeaderName::from_bytes(name.as_bytes());
                let parsed = parsed.map_err(|_| format!("`{name}` is not a header's name"))?;
                Ok(Place::Header { name: parsed, written: name.to_owned() })
            }
            "json" => {
                let path = json::Path::parse(name)?;
                Ok(Place::Json { picker: Picker::new(&[&path]), path })
            }
            "form" if !name.is_empty() => Ok(Place::Form(name.to_owned())),
            "query" if !name.is_empty() => Ok(Place::Query(name.to_owned())),
            "header-numbered" => Err(format!(
                "numbered headers are not supported yet; name them: [\"header:{name}1\", \"header:{name}2\"]"
            )),
            _ => {
                Err(format!("`{text}` names no place; write header:Name, json:a.b, form:name or query:name"))
            }
        }
    }

    /// The value, or None where there is none; an error where there are several, or it is not text.
    pub(super) fn find<'a>(&self, request: &Request<'a>) -> Result<Option<Cow<'a, str>>, String> {
        match self {
            Place::Header { name, .. } => self.header(name, request),
            Place::Json { picker, .. } => {
                let picked = picker.pick(request.body).unwrap_or_default();
                Ok(picked.into_iter().next().flatten().filter(|text| !text.is_empty()).map(Cow::Owned))
            }
            Place::Form(name) => self.pair(name, request.body),
            Place::Query(name) => self.pair(name, request.query.unwrap_or_default().as_bytes()),
        }
    }

    /// As `find`, where the scheme cannot do without: `what` is `id`, `timestamp`, …
    pub(super) fn require(&self, request: &Request<'_>, what: &str) -> Result<String, Refused> {
        match self.find(request).map_err(Refused::Malformed)? {
            Some(found) => Ok(found.into_owned()),
            None => Err(Refused::Malformed(format!("no {what}: {self} is absent or empty"))),
        }
    }

    /// All lines of a header, for schemes whose header is a list; any other place as `find`.
    pub(super) fn find_all<'a>(&self, request: &Request<'a>) -> Result<Vec<Cow<'a, str>>, String> {
        let Place::Header { name, .. } = self else {
            return Ok(self.find(request)?.into_iter().collect());
        };
        let lines = request.headers.get_all(name).iter().map(|value| self.text(value));
        let lines = lines.collect::<Result<Vec<_>, String>>()?;
        Ok(lines.into_iter().filter(|line| !line.is_empty()).map(Cow::Borrowed).collect())
    }

    fn header<'a>(&self, name: &HeaderName, request: &Request<'a>) -> Result<Option<Cow<'a, str>>, String> {
        let mut lines = request.headers.get_all(name).iter();
        let Some(value) = lines.next() else { return Ok(None) };
        if lines.next().is_some() {
            return Err(format!("{self} is there more than once"));
        }
        let text = self.text(value)?;
        Ok(Some(text).filter(|text| !text.is_empty()).map(Cow::Borrowed))
    }

    fn text<'a>(&self, value: &'a HeaderValue) -> Result<&'a str, String> {
        value.to_str().map_err(|_| format!("{self} is not plain ASCII"))
    }

    fn pair<'a>(&self, name: &str, pairs: &'a [u8]) -> Result<Option<Cow<'a, str>>, String> {
        let mut found =
            url::form_urlencoded::parse(pairs).filter(|(key, _)| key == name).map(|(_, value)| value);
        let first = found.next().filter(|value| !value.is_empty());
        if found.next().is_some() {
            return Err(format!("{self} is there more than once"));
        }
        // Decoding is lossy: two byte sequences would become one text.
        match first {
            Some(value) if value.contains('\u{fffd}') => Err(format!("{self} is not UTF-8")),
            other => Ok(other),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Header { written, .. } => write!(f, "header `{written}`"),
            Place::Json { path, .. } => write!(f, "JSON field `{path}`"),
            Place::Form(name) => write!(f, "form field `{name}`"),
            Place::Query(name) => write!(f, "query parameter `{name}`"),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        map
    }

    fn find(place: &str, map: &HeaderMap, query: &str, body: &str) -> Result<Option<String>, String> {
        let request =
            Request { method: "POST", url: "", query: Some(query), headers: map, body: body.as_bytes() };
        Ok(Place::parse(place).unwrap().find(&request)?.map(Cow::into_owned))
    }

    #[test]
    fn values_are_found_in_their_places() {
        let map = headers(&[
            ("x-one", b"1"),
            ("x-empty", b""),
            ("x-two", b"a"),
            ("x-two", b"b"),
            ("x-bin", b"\xe9"),
        ]);
        let found =
            |place: &str| find(place, &map, "q=a%20b&d=1&d=2", "{\"a\":{\"b\":\"c\"},\"n\":12,\"e\":\"\"}");
        assert_eq!(found("header:X-One"), Ok(Some("1".into())));
        assert_eq!(found("header:X-Other"), Ok(None));
        assert_eq!(found("header:X-Empty"), Ok(None));
        assert!(found("header:X-Two").unwrap_err().contains("header `X-Two` is there more than once"));
        assert!(found("header:X-Bin").unwrap_err().contains("not plain ASCII"));
        assert_eq!(found("json:a.b"), Ok(Some("c".into())));
        assert_eq!(found("json:n"), Ok(Some("12".into())));
        assert_eq!(found("json:e"), Ok(None));
        assert_eq!(found("json:a"), Ok(None));
        assert_eq!(found("query:q"), Ok(Some("a b".into())));
        assert!(found("query:d").is_err());
        let form = |place: &str| find(place, &map, "", "id=7&x=%FF&y=1&y=1&z=");
        assert_eq!(form("form:id"), Ok(Some("7".into())));
        assert_eq!(form("form:z"), Ok(None));
        assert!(form("form:x").unwrap_err().contains("not UTF-8"));
        assert!(form("form:y").unwrap_err().contains("more than once"));
        assert_eq!(form("json:id"), Ok(None));
    }

    #[test]
    fn a_place_that_cannot_be_is_refused() {
        for (text, words) in [
            ("X-Signature", "write header:Name"),
            ("cookie:x", "write header:Name"),
            ("header:", "not a header's name"),
            ("header:a b", "not a header's name"),
            ("form:", "names no place"),
            ("json:", "path"),
            ("header-numbered:X-DocuSign-Signature-", "header:X-DocuSign-Signature-1"),
        ] {
            assert!(Place::parse(text).unwrap_err().contains(words), "{text}");
        }
    }
}
