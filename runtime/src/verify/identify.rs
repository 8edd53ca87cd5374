//! Identify: what an event calls itself. The first parse of the body, after it was proved genuine.
//!
//! It never refuses: what is missing or unfit becomes a hash or an empty type, with a warning. An id that came
//! from outside the signature (most headers) is as good as its sender's word: a captured body can be sent again
//! under another one. What is done about that belongs to the ledger.

use std::borrow::Cow;

use super::extract::Place;
use super::json::Picker;
use super::{Identity, Request};
use crate::words::digest::Digest;
use crate::words::limits::{EVENT_ID_BYTES_MAX, EVENT_TYPE_BYTES_MAX};

/// `event:` of a source, compiled: all JSON paths share one pass.
#[derive(Default)]
pub(super) struct Event {
    ids: Vec<Lookup>,
    kinds: Vec<Lookup>,
    picker: Option<Picker>,
}

enum Lookup {
    /// Which of the picked values.
    Json {
        slot: usize,
        name: String,
    },
    Place(Place),
}

impl Event {
    pub(super) fn new(ids: Vec<Place>, kinds: Vec<Place>) -> Event {
        let mut paths = Vec::new();
        let mut lookup = |place: Place| match place {
            Place::Json { path, .. } => {
                let name = path.to_string();
                paths.push(path);
                Lookup::Json { slot: paths.len() - 1, name }
            }
            other => Lookup::Place(other),
        };
        let ids = ids.into_iter().map(&mut lookup).collect();
        let kinds = kinds.into_iter().map(&mut lookup).collect();
        let picker = (!paths.is_empty()).then(|| Picker::new(&paths.iter().collect::<Vec<_>>()));
        Event { ids, kinds, picker }
    }

    pub(super) fn identify(&self, request: &Request<'_>) -> Identity {
        let mut finding = Finding { request, picked: Vec::new(), warnings: Vec::new() };
        if let Some(picker) = &self.picker {
            match picker.pick(request.body) {
                Ok(picked) => finding.picked = picked,
                Err(why) => finding.warnings.push(format!("body is not JSON: {why}")),
            }
        }
        let id = finding.id(&self.ids);
        let event_type = finding.event_type(&self.kinds);
        Identity { id, event_type, warnings: finding.warnings }
    }

    /// The headers that carry id and type, for a request that is made here.
    pub(super) fn headers(&self) -> (Option<&str>, Option<&str>) {
        (header_of(&self.ids), header_of(&self.kinds))
    }
}

/// Where a sender would put it: only the first place counts.
fn header_of(lookups: &[Lookup]) -> Option<&str> {
    match lookups.first() {
        Some(Lookup::Place(Place::Header { written, .. })) => Some(written),
        _ => None,
    }
}

struct Finding<'r, 'a> {
    request: &'r Request<'a>,
    picked: Vec<Option<String>>,
    warnings: Vec<String>,
}

impl Finding<'_, '_> {
    /// Without an id the body's hash stands for it. A scheme that names no place for one wants just that.
    fn id(&mut self, lookups: &[Lookup]) -> String {
        let Some(id) = self.first(lookups) else {
            if !lookups.is_empty() {
                self.warnings.push(format!(
                    "no id: there is none at {}; the body's hash stands for it",
                    listing(lookups)
                ));
            }
            return hash(self.request.body);
        };
        match unfit(&id, EVENT_ID_BYTES_MAX) {
            Some(why) => {
                self.warnings.push(format!("the id {why}; its hash stands for it"));
                hash(id.as_bytes())
            }
            None => id,
        }
    }

    fn event_type(&mut self, lookups: &[Lookup]) -> String {
        let Some(event_type) = self.first(lookups) else {
            if !lookups.is_empty() {
                self.warnings.push(format!("no type: there is none at {}", listing(lookups)));
            }
            return String::new();
        };
        match unfit(&event_type, EVENT_TYPE_BYTES_MAX) {
            Some(why) => {
                self.warnings.push(format!("the type {why}; the event counts as one without a type"));
                String::new()
            }
            None => event_type,
        }
    }

    /// The first that yields a scalar. An empty text names nothing.
    fn first(&mut self, lookups: &[Lookup]) -> Option<String> {
        lookups.iter().find_map(|lookup| self.look(lookup))
    }

    fn look(&mut self, lookup: &Lookup) -> Option<String> {
        match lookup {
            Lookup::Json { slot, .. } => {
                // Each look-up has a slot of its own, and looks once.
                self.picked.get_mut(*slot).and_then(Option::take).filter(|text| !text.is_empty())
            }
            Lookup::Place(place) => match place.find(self.request) {
                Ok(found) => found.map(Cow::into_owned),
                Err(why) => {
                    self.warnings.push(format!("not used: {why}"));
                    None
                }
            },
        }
    }
}

fn listing(lookups: &[Lookup]) -> String {
    let names = lookups.iter().map(|lookup| match lookup {
        Lookup::Json { name, .. } => format!("JSON field `{name}`"),
        Lookup::Place(place) => place.to_string(),
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Why a text cannot be a name that people read, type and see in logs.
fn unfit(text: &str, bytes_max: usize) -> Option<String> {
    if text.len() > bytes_max {
        return Some(format!("has {} bytes, more than {bytes_max}", text.len()));
    }
    // Nearly every name is plain ASCII, which is told by its bytes.
    let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let has_control = !is_plain && text.chars().any(char::is_control);
    has_control.then(|| "holds control characters".to_owned())
}

fn hash(bytes: &[u8]) -> String {
    format!("sha256:{}", Digest::of(bytes))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn places(texts: &[&str]) -> Vec<Place> {
        texts.iter().map(|text| Place::parse(text).unwrap()).collect()
    }

    fn identify(ids: &[&str], kinds: &[&str], body: &[u8]) -> Identity {
        let mut headers = HeaderMap::new();
        headers.insert("x-id", HeaderValue::from_static("from-header"));
        headers.append("x-twice", HeaderValue::from_static("a"));
        headers.append("x-twice", HeaderValue::from_static("b"));
        headers.insert("x-bin", HeaderValue::from_bytes(b"\xff").unwrap());
        let request = Request { method: "POST", url: "", query: None, headers: &headers, body };
        Event::new(places(ids), places(kinds)).identify(&request)
    }

    #[test]
    fn the_first_place_with_a_scalar_names_the_event() {
        let body = br#"{"id":7,"data":{"id":"d"},"type":"a.b","empty":"","list":[1],"null":null}"#;
        for (ids, expected) in [
            (&["json:id"][..], "7"),
            (&["json:data.id"], "d"),
            (&["json:missing", "json:data", "json:list", "json:null", "json:empty", "json:data.id"], "d"),
            (&["header:X-Id", "json:id"], "from-header"),
            (&["header:X-None", "json:id"], "7"),
        ] {
            let identity = identify(ids, &["json:type"], body);
            assert_eq!((identity.id.as_str(), identity.event_type.as_str()), (expected, "a.b"), "{ids:?}");
            assert!(identity.warnings.is_empty(), "{:?}", identity.warnings);
        }
    }

    #[test]
    fn an_event_without_id_or_type_is_named_by_its_body() {
        let body = br#"{"a":1}"#;
        let identity = identify(&["json:id", "header:X-None"], &["json:type"], body);
        assert_eq!(identity.id, "sha256:015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862");
        assert_eq!(identity.event_type, "");
        assert_eq!(
            identity.warnings,
            [
                "no id: there is none at JSON field `id`, header `X-None`; the body's hash stands for it",
                "no type: there is none at JSON field `type`",
            ]
        );
        assert!(identify(&[], &[], body).warnings.is_empty());
    }

    #[test]
    fn a_body_that_is_not_json_is_an_event_all_the_same() {
        for body in [&b""[..], b"\xff\xfe", b"a=b&c=d", br#"{"id":"x""#, br#"{"id":"x"}x"#] {
            let identity = identify(&["json:id"], &["json:type"], body);
            assert_eq!(identity.id, hash(body));
            assert_eq!(identity.event_type, "");
            assert!(identity.warnings[0].starts_with("body is not JSON: "), "{:?}", identity.warnings);
            assert_eq!(identity.warnings.len(), 3);
        }
        assert!(identify(&["header:X-Id"], &["header:X-Id"], b"not JSON").warnings.is_empty());
    }

    #[test]
    fn unfit_names_are_replaced() {
        let named = |id: &str, kind: &str| {
            let body = serde_json::json!({"id": id, "type": kind}).to_string();
            identify(&["json:id"], &["json:type"], body.as_bytes())
        };
        let (id, kind) = ("i".repeat(EVENT_ID_BYTES_MAX), "t".repeat(EVENT_TYPE_BYTES_MAX));
        let fit = named(&id, &kind);
        assert_eq!((&fit.id, &fit.event_type, fit.warnings.len()), (&id, &kind, 0));
        for (id, kind) in
            [(id + "i", kind + "t"), ("a\nb".into(), "a\u{0}b".into()), ("\u{7f}".into(), "\u{9b}".into())]
        {
            let unfit = named(&id, &kind);
            assert_eq!(unfit.id, hash(id.as_bytes()));
            assert_eq!(unfit.event_type, "");
            assert_eq!(unfit.warnings.len(), 2, "{:?}", unfit.warnings);
        }
    }

    #[test]
    fn a_header_that_is_not_one_text_is_passed_over() {
        for name in ["header:X-Twice", "header:X-Bin"] {
            let identity = identify(&[name, "json:id"], &[], br#"{"id":"x"}"#);
            assert_eq!(identity.id, "x");
            assert!(identity.warnings[0].starts_with("not used: header"), "{:?}", identity.warnings);
        }
    }
}
