//! Identify: what an event calls itself. The first parse of the body, after it was proved genuine.
//!
//! It never refuses: what is missing or unfit becomes a hash or an empty type, with a warning. An id that came
//! from outside the signature (most headers) is as good as its sender's word: a captured body can be sent again
//! under another one. So such an event has a second name, made of what is signed, and the ledger knows it by both.

use std::borrow::Cow;

use super::extract::Place;
use super::json::{self, Picker};
use super::{Identity, Request};
use crate::words::digest::Digest;
use crate::words::limits::{EVENT_ID_BYTES_MAX, EVENT_TYPE_BYTES_MAX, EVENTS_PER_REQUEST_MAX};

/// `event:` of a source, compiled: all JSON paths share one pass.
#[derive(Default)]
pub(super) struct Event {
    ids: Vec<Lookup>,
    kinds: Vec<Lookup>,
    picker: Option<Picker>,
    /// The list whose elements are the events.
    each: Option<json::Path>,
    also: Also,
}

/// What an event is known by beside its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Also {
    /// The id is signed, or nothing is.
    #[default]
    Nothing,
    /// Its type and its bytes.
    Body,
    /// Its type and what was signed: the body is not.
    Signed,
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
    pub(super) fn new(ids: Vec<Place>, kinds: Vec<Place>, each: Option<json::Path>) -> Event {
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
        Event { ids, kinds, picker, each, also: Also::Nothing }
    }

    pub(super) fn known_by(self, also: Also) -> Event {
        Event { also, ..self }
    }

    #[cfg(test)]
    pub(super) fn also_kind(&self) -> Also {
        self.also
    }

    pub(super) fn wants_signed(&self) -> bool {
        self.also == Also::Signed
    }

    /// At least one. `signed`: of what was signed, where `wants_signed`.
    pub(super) fn identify(&self, request: &Request<'_>, signed: Option<&Digest>) -> Vec<Identity> {
        let mut events = match &self.each {
            None => vec![self.one(request)],
            Some(list) => self.elements(list, request),
        };
        if self.also != Also::Nothing {
            for (at, event) in events.iter_mut().enumerate() {
                event.also = Some(self.also_of(event, at, request, signed));
            }
        }
        events
    }

    /// The proof's own name for the event, where no place of the request is asked for one.
    pub(super) fn name(&self, events: &mut [Identity], id: &str) {
        if let ([only], true) = (events, self.ids.is_empty()) {
            only.id =
                if unfit(id, EVENT_ID_BYTES_MAX).is_some() { hash(id.as_bytes()) } else { id.to_owned() };
        }
    }

    fn one(&self, request: &Request<'_>) -> Identity {
        let mut finding = Finding { request, picked: Vec::new(), warnings: Vec::new() };
        if let Some(picker) = &self.picker {
            match picker.pick(request.body) {
                Ok(picked) => finding.picked = picked,
                Err(why) => finding.warnings.push(format!("body is not JSON: {why}")),
            }
        }
        let id = finding.id(&self.ids);
        let event_type = finding.event_type(&self.kinds);
        Identity { id, event_type, warnings: finding.warnings, ..Identity::default() }
    }

    /// Each element of the list is an event. A request without one, as senders test a source with, is an event by
    /// itself: it has no type, and nothing that was sent is lost.
    fn elements(&self, list: &json::Path, request: &Request<'_>) -> Vec<Identity> {
        let whole = |warnings: Vec<String>| {
            vec![Identity { id: hash(request.body), warnings, ..Identity::default() }]
        };
        match json::elements(list, request.body) {
            Err(why) => whole(vec![format!("no events: {why}; the request is stored as one event")]),
            Ok(found) if found.is_empty() => whole(Vec::new()),
            Ok(found) if found.len() > EVENTS_PER_REQUEST_MAX => whole(vec![format!(
                "{} events in one request are more than {EVENTS_PER_REQUEST_MAX}; it is stored as one event",
                found.len()
            )]),
            Ok(found) => found
                .into_iter()
                .map(|range| Identity {
                    range: as_range(&range),
                    ..self.one(&Request { body: &request.body[range], ..*request })
                })
                .collect(),
        }
    }

    /// With the type, which is rarely signed where the id is not: senders put one body under two types.
    fn also_of(&self, event: &Identity, at: usize, request: &Request<'_>, signed: Option<&Digest>) -> String {
        let bytes = event.range.map_or(request.body, |(from, to)| &request.body[from as usize..to as usize]);
        let kind = event.event_type.as_bytes();
        let digest = match (self.also, signed) {
            (Also::Signed, Some(signed)) => Digest::of_parts(&[kind, &signed.0, &at.to_le_bytes()]),
            _ => Digest::of_parts(&[kind, bytes]),
        };
        format!("signed:{digest}")
    }

    /// The headers that carry id and type, for a request that is made here.
    pub(super) fn headers(&self) -> (Option<&str>, Option<&str>) {
        (header_of(&self.ids), header_of(&self.kinds))
    }
}

fn as_range(range: &std::ops::Range<usize>) -> Option<(u32, u32)> {
    Some((u32::try_from(range.start).ok()?, u32::try_from(range.end).ok()?))
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
        Event::new(places(ids), places(kinds), None).identify(&request, None).remove(0)
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

    fn each(list: &str, body: &str) -> Vec<Identity> {
        let request = Request {
            method: "POST",
            url: "",
            query: None,
            headers: &HeaderMap::new(),
            body: body.as_bytes(),
        };
        let list = json::Path::parse(list).unwrap();
        Event::new(places(&["json:id"]), places(&["json:type"]), Some(list)).identify(&request, None)
    }

    #[test]
    fn each_element_of_a_list_is_an_event() {
        let body = r#"{"events": [ {"id":"a","type":"t"} , {"id":7}, "x" ]}"#;
        let events = each("events", body);
        let found: Vec<_> = events
            .iter()
            .map(|event| {
                let (from, to) = event.range.unwrap();
                (event.id.as_str(), event.event_type.as_str(), &body[from as usize..to as usize])
            })
            .collect();
        let of_text = hash(b"\"x\"");
        assert_eq!(
            found,
            [("a", "t", r#"{"id":"a","type":"t"}"#), ("7", "", r#"{"id":7}"#), (&*of_text, "", "\"x\"")]
        );
        assert_eq!(each(".", r#"[{"id":"a"},{"id":"b"}]"#)[1].id, "b");
    }

    #[test]
    fn a_request_without_a_list_is_one_event() {
        for (body, warns) in
            [(r#"{"events":[]}"#, false), (r#"{"events":{}}"#, true), (r#"{}"#, true), ("no JSON", true)]
        {
            let events = each("events", body);
            assert_eq!(events.len(), 1, "{body}");
            assert_eq!((events[0].id.as_str(), events[0].range), (&*hash(body.as_bytes()), None));
            assert_eq!(!events[0].warnings.is_empty(), warns, "{body}: {:?}", events[0].warnings);
        }
        let many = format!(r#"{{"events":[{}1]}}"#, "1,".repeat(EVENTS_PER_REQUEST_MAX));
        assert!(each("events", &many)[0].warnings[0].contains("more than"));
    }

    #[test]
    fn an_unsigned_id_is_not_the_only_name() {
        let also = |also: Also, ids: &[&str], body: &[u8], signed: Option<&Digest>| {
            let mut headers = HeaderMap::new();
            headers.insert("x-type", HeaderValue::from_static("t"));
            let request = Request { method: "POST", url: "", query: None, headers: &headers, body };
            let event = Event::new(places(ids), places(&["header:X-Type"]), None).known_by(also);
            event.identify(&request, signed).remove(0).also
        };
        let body = |body: &[u8]| also(Also::Body, &["header:X-Id"], body, None).unwrap();
        assert_eq!(body(b"a"), body(b"a"));
        assert_ne!(body(b"a"), body(b"b"));
        let signed = |signed: &[u8]| also(Also::Signed, &[], b"a", Some(&Digest::of(signed))).unwrap();
        assert_eq!(signed(b"1"), signed(b"1"));
        assert_ne!(signed(b"1"), signed(b"2"));
        assert_eq!(also(Also::Nothing, &[], b"a", None), None);
    }
}
