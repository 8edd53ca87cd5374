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
use crate::words::limits::{FORM_FIELDS_MAX, NUMBERED_HEADERS_MAX};

#[derive(Clone)]
pub(super) enum Place {
    Header {
        name: HeaderName,
        /// As the scheme writes it, which is how the provider does.
        written: String,
    },
    /// `X-1`, `X-2`, …: one header for each secret of the sender.
    Numbered {
        /// In lower case, up to the number.
        prefix: String,
        written: String,
    },
    Json {
        path: json::Path,
        picker: Picker,
    },
    Form(String),
    Query(String),
    /// Several, with text between them; of an event alone.
    Joined(Vec<Joint>),
}

#[derive(Clone)]
pub(super) enum Joint {
    Text(String),
    Place(Place),
}

impl Place {
    /// As `parse`, or several places in one text: `{json:a.b}:{json:c}`.
    pub(super) fn parse_joined(text: &str) -> Result<Place, String> {
        if !text.contains('{') {
            return Place::parse(text);
        }
        let (mut joints, mut rest) = (Vec::new(), text);
        while let Some((before, behind)) = rest.split_once('{') {
            let (place, behind) =
                behind.split_once('}').ok_or("a `{` is not closed; write places as {json:a.b}")?;
            joints.extend((!before.is_empty()).then(|| Joint::Text(before.to_owned())));
            joints.push(Joint::Place(Place::parse(place)?));
            rest = behind;
        }
        joints.extend((!rest.is_empty()).then(|| Joint::Text(rest.to_owned())));
        Ok(Place::Joined(joints))
    }

    /// The places of which it is made: itself, or those that are joined.
    pub(super) fn parts(&self) -> Vec<&Place> {
        let Place::Joined(joints) = self else { return vec![self] };
        let places = joints.iter().filter_map(|joint| match joint {
            Joint::Place(place) => Some(place),
            Joint::Text(_) => None,
        });
        places.collect()
    }

    fn join<'a>(joints: &[Joint], request: &Request<'a>) -> Result<Option<Cow<'a, str>>, String> {
        let mut text = String::new();
        for joint in joints {
            match joint {
                Joint::Text(between) => text.push_str(between),
                Joint::Place(place) => match place.find(request)? {
                    Some(found) => text.push_str(&found),
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(Cow::Owned(text)))
    }

    /// `header:X`, `header-numbered:X-`, `json:a.b`, `form:x`, `query:x`; an error says what to write.
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
            "header-numbered" => {
                let is_name = HeaderName::from_bytes(format!("{name}1").as_bytes()).is_ok();
                if name.is_empty() || !is_name || name.ends_with(|last: char| last.is_ascii_digit()) {
                    return Err(format!(
                        "`{name}` is not the beginning of a header's name; write it up to the number, as \
                         header-numbered:X-Signature-"
                    ));
                }
                Ok(Place::Numbered { prefix: name.to_ascii_lowercase(), written: name.to_owned() })
            }
            _ => {
                Err(format!("`{text}` names no place; write header:Name, json:a.b, form:name or query:name"))
            }
        }
    }

    /// Whether both are the same place.
    pub(super) fn is(&self, other: &Place) -> bool {
        match (self, other) {
            (Place::Header { name: a, .. }, Place::Header { name: b, .. }) => a == b,
            (Place::Numbered { prefix: a, .. }, Place::Numbered { prefix: b, .. }) => a == b,
            (Place::Json { path: a, .. }, Place::Json { path: b, .. }) => a == b,
            (Place::Form(a), Place::Form(b)) | (Place::Query(a), Place::Query(b)) => a == b,
            _ => false,
        }
    }

    /// The value, or None where there is none; an error where there are several, or it is not text.
    pub(super) fn find<'a>(&self, request: &Request<'a>) -> Result<Option<Cow<'a, str>>, String> {
        match self {
            Place::Header { name, .. } => self.header(name, request),
            Place::Numbered { .. } => Ok(self.find_all(request)?.into_iter().next()),
            Place::Json { picker, .. } => {
                let picked = picker.pick(request.body).unwrap_or_default();
                Ok(picked.into_iter().next().flatten().filter(|text| !text.is_empty()).map(Cow::Owned))
            }
            Place::Form(name) => self.pair(name, request.body),
            Place::Query(name) => self.pair(name, request.query.unwrap_or_default().as_bytes()),
            Place::Joined(joints) => Place::join(joints, request),
        }
    }

    /// As `find`, where the scheme cannot do without: `what` is `id`, `timestamp`, …
    pub(super) fn require(&self, request: &Request<'_>, what: &str) -> Result<String, Refused> {
        match self.find(request).map_err(Refused::Malformed)? {
            Some(found) => Ok(found.into_owned()),
            None => Err(Refused::Malformed(format!("no {what}: {self} is absent or empty"))),
        }
    }

    /// Each of the numbered headers that is there; of any other place its one value, as `find`.
    pub(super) fn find_each<'a>(&self, request: &Request<'a>) -> Result<Vec<Cow<'a, str>>, String> {
        match self {
            Place::Numbered { prefix, .. } => self.numbered(prefix, request),
            _ => Ok(self.find(request)?.into_iter().collect()),
        }
    }

    /// All lines of a header, for schemes whose header is a list; any other place as `find_each`.
    pub(super) fn find_all<'a>(&self, request: &Request<'a>) -> Result<Vec<Cow<'a, str>>, String> {
        let Place::Header { name, .. } = self else { return self.find_each(request) };
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

    /// A number is written in one way: without zeros in front, and on one line.
    fn numbered<'a>(&self, prefix: &str, request: &Request<'a>) -> Result<Vec<Cow<'a, str>>, String> {
        let is_number = |text: &str| {
            text.parse::<usize>().is_ok_and(|number| {
                (1..=NUMBERED_HEADERS_MAX).contains(&number) && number.to_string() == text
            })
        };
        let mut found = Vec::new();
        for name in request.headers.keys() {
            if name.as_str().strip_prefix(prefix).is_some_and(is_number) {
                found.extend(self.header(name, request)?);
            }
        }
        Ok(found)
    }

    fn text<'a>(&self, value: &'a HeaderValue) -> Result<&'a str, String> {
        value.to_str().map_err(|_| format!("{self} is not plain ASCII"))
    }

    fn pair<'a>(&self, name: &str, pairs: &'a [u8]) -> Result<Option<Cow<'a, str>>, String> {
        check_fields(self, pairs)?;
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

/// Each field is decoded before it is told apart from the one that is wanted.
fn check_fields(place: &dyn fmt::Display, pairs: &[u8]) -> Result<(), String> {
    // One more than can be is enough to know.
    let ends = pairs.iter().filter(|byte| **byte == b'&').take(FORM_FIELDS_MAX).count();
    if ends < FORM_FIELDS_MAX {
        return Ok(());
    }
    Err(format!("{place} lies among more than {FORM_FIELDS_MAX} fields"))
}

/// Every field of a form: names and values, decoded, sorted, a pair that is there twice once.
pub(super) fn sorted_form(body: &[u8]) -> Result<String, String> {
    check_fields(&"what is signed", body)?;
    let mut fields: Vec<(Cow<'_, str>, Cow<'_, str>)> = url::form_urlencoded::parse(body).collect();
    if fields.iter().any(|(name, value)| name.contains('\u{fffd}') || value.contains('\u{fffd}')) {
        return Err("the form is not UTF-8".to_owned());
    }
    fields.sort();
    fields.dedup();
    Ok(fields.iter().flat_map(|(name, value)| [&**name, &**value]).collect())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Header { written, .. } => write!(f, "header `{written}`"),
            Place::Numbered { written, .. } => write!(f, "headers `{written}1`, `{written}2`, …"),
            Place::Json { path, .. } => write!(f, "JSON field `{path}`"),
            Place::Form(name) => write!(f, "form field `{name}`"),
            Place::Query(name) => write!(f, "query parameter `{name}`"),
            Place::Joined(_) => {
                let names: Vec<String> = self.parts().iter().map(|place| place.to_string()).collect();
                f.write_str(&names.join(" and "))
            }
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
            ("header-numbered:", "header-numbered:X-Signature-"),
            ("header-numbered:X Y-", "header-numbered:X-Signature-"),
            ("header-numbered:X-1", "header-numbered:X-Signature-"),
        ] {
            assert!(Place::parse(text).unwrap_err().contains(words), "{text}");
        }
    }

    #[test]
    fn places_are_joined_with_text_between() {
        let map = headers(&[("x-one", b"1")]);
        let joined = |text: &str| {
            let request =
                Request { method: "POST", url: "", query: None, headers: &map, body: b"{\"a\":\"A\"}" };
            Place::parse_joined(text).unwrap().find(&request).unwrap().map(Cow::into_owned)
        };
        assert_eq!(joined("{json:a}:{header:X-One}!").as_deref(), Some("A:1!"));
        assert_eq!(joined("{json:a}{json:b}"), None);
        assert_eq!(joined("json:a").as_deref(), Some("A"));
        assert!(Place::parse_joined("{json:a").is_err() && Place::parse_joined("{body}").is_err());
        let named = Place::parse_joined("{json:a}:{header:X-One}").unwrap().to_string();
        assert_eq!(named, "JSON field `a` and header `X-One`");
    }

    #[test]
    fn numbered_headers_are_all_of_them() {
        let map = headers(&[
            ("x-sig-2", b"b"),
            ("x-sig-1", b"a"),
            ("x-sig-01", b"zero"),
            ("x-sig-", b"none"),
            ("x-sig-x", b"letter"),
            ("x-sig-101", b"beyond"),
            ("x-sig-3", b""),
            ("x-sign-1", b"other"),
        ]);
        let place = Place::parse("header-numbered:X-Sig-").unwrap();
        let request = Request { method: "POST", url: "", query: None, headers: &map, body: b"" };
        let mut found = place.find_each(&request).unwrap();
        found.sort();
        assert_eq!(found, ["a", "b"]);
        let twice = headers(&[("x-sig-1", b"a"), ("x-sig-1", b"a")]);
        let request = Request { headers: &twice, ..request };
        assert!(place.find_each(&request).unwrap_err().contains("more than once"));
    }

    #[test]
    fn a_form_has_a_bounded_number_of_fields() {
        let map = HeaderMap::new();
        let form = |fields: usize| format!("{}id=7", "a=&".repeat(fields - 1));
        assert_eq!(find("form:id", &map, "", &form(FORM_FIELDS_MAX)), Ok(Some("7".into())));
        let words = find("form:id", &map, "", &form(FORM_FIELDS_MAX + 1)).unwrap_err();
        assert!(words.contains("more than"), "{words}");
        assert!(sorted_form(form(FORM_FIELDS_MAX + 1).as_bytes()).is_err());
    }

    #[test]
    fn a_sorted_form_has_each_pair_once() {
        assert_eq!(sorted_form(b"b=2&a=%C3%A9&b=1&b=2&c").unwrap(), "a\u{e9}b1b2c");
        assert!(sorted_form(b"a=%FF").is_err());
    }
}
