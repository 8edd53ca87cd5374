//! Check: what must hold of every case, whatever it is.
//!
//! Nothing panics. A verdict is the same when it is asked for again. What is genuine is named within the limits, and is
//! genuine no longer with a bit of its body changed, where the scheme signs the body, nor without a live secret. No
//! refusal holds a signature, neither theirs nor the right one.

use std::time::Duration;

use serde_json::Value;

use super::case::{Case, Draft, URL};
use crate::verify::spec::{EventSpec, Preset, Spec};
use crate::verify::{Key, Refused, Request, Scheme, Verified, preset};
use crate::words::limits::{EVENT_ID_BYTES_MAX, EVENT_TYPE_BYTES_MAX};
use crate::words::time::Millis;

/// What a case came to, and what the request took: from headers and bytes to verdict and names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub end: End,
    pub took: Duration,
    pub live_keys: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// The scheme did not compile.
    NoScheme,
    /// No secret fits the scheme.
    NoKey,
    /// The scheme could not sign the request.
    NotSigned,
    NoSignature,
    Malformed,
    Mismatch,
    Stale,
    Genuine,
}

/// `clock`: what counts as time, from any moment on.
///
/// # Panics
/// Where something does not hold.
pub fn check(case: &Case, clock: fn() -> Duration) -> Seen {
    let nothing = |end| Seen { end, took: Duration::ZERO, live_keys: 0 };
    let Some((spec, scheme)) = compile(case) else { return nothing(End::NoScheme) };
    let keys = keys(case, &scheme);
    if keys.is_empty() && !scheme.proves_nothing() {
        return nothing(End::NoKey);
    }
    let mut request = case.request.clone();
    let right = match case.signs {
        Some(by) => match sign(case, &scheme, by, &mut request) {
            Some(right) => right,
            None => return nothing(End::NotSigned),
        },
        None => Vec::new(),
    };
    let as_signed = request.clone();
    case.edits.iter().for_each(|edit| edit.make(&mut request));
    let before = clock();
    let verdict = scheme.verify(request.as_request(), &keys, request.now);
    let named = verdict.as_ref().map(|verified| scheme.identify(verified, request.as_request()));
    let took = clock() - before;
    drop(named);
    same_again(&scheme, &keys, &request, &verdict);
    let signs_body = signs_body(&spec);
    let end = match &verdict {
        Ok(verified) => {
            genuine(&scheme, &keys, &request, verified, signs_body);
            let is_changed = case.signs.is_some() && request.body != as_signed.body;
            assert!(!(signs_body && is_changed), "a body that was changed after it was signed is genuine");
            End::Genuine
        }
        Err(refused) => {
            holds_no_signature(refused, &right);
            end_of(refused)
        }
    };
    if case.preset.is_some() && is_empty(&case.scheme) && right_as_made(case, &scheme, &request, &as_signed) {
        assert_eq!(end, End::Genuine, "a preset refuses what it signed: {verdict:?}");
    }
    Seen { end, took, live_keys: keys.len() }
}

impl Draft {
    pub fn as_request(&self) -> Request<'_> {
        Request {
            method: self.method,
            url: URL,
            query: self.query.as_deref(),
            headers: &self.headers,
            body: &self.body,
        }
    }
}

fn compile(case: &Case) -> Option<(Spec, Scheme)> {
    let none = Preset::default();
    let base = case.preset.and_then(preset).unwrap_or(&none);
    let spec = serde_json::from_value::<Spec>(case.scheme.clone()).ok()?.over(&base.scheme);
    let event = serde_json::from_value::<EventSpec>(case.event.clone()).ok()?.over(&base.event);
    match Scheme::compile(&spec, &event) {
        Ok(scheme) => Some((spec, scheme)),
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a word");
            let has_place = |key: &str| key.starts_with("scheme") || key.starts_with("event");
            assert!(problems.iter().all(|problem| has_place(&problem.key)), "{problems:?}");
            None
        }
    }
}

fn keys(case: &Case, scheme: &Scheme) -> Vec<Key> {
    let key = |secret: &crate::words::secret::Secret| match scheme.key(secret, None) {
        Ok(key) => Some(key),
        Err(why) => {
            let text = String::from_utf8_lossy(secret.expose());
            assert!(text.len() < 8 || !why.contains(&*text), "a secret is told");
            None
        }
    };
    case.secrets.iter().filter_map(key).collect()
}

/// The values that prove the request; None where the scheme cannot sign it.
fn sign(case: &Case, scheme: &Scheme, by: usize, request: &mut Draft) -> Option<Vec<String>> {
    let (id, kind) = ("evt_1", "a.b");
    let bare = URL.split('?').next().unwrap_or_default();
    let url = request.query.as_ref().map_or_else(|| bare.to_owned(), |query| format!("{bare}?{query}"));
    let lines = scheme.sign(&case.secrets[by], id, kind, &request.body, &url, request.now).ok()?;
    for (name, value) in &lines.headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a header that was made here");
        request.headers.append(name, value.parse().expect("a value that was made here"));
    }
    // Where the signature travels in the body.
    if let Some(body) = lines.body {
        request.body = body;
    }
    Some(lines.headers.into_iter().map(|(_, value)| value).collect())
}

fn same_again(scheme: &Scheme, keys: &[Key], request: &Draft, verdict: &Result<Verified, Refused>) {
    match (verdict, scheme.verify(request.as_request(), keys, request.now)) {
        (Ok(first), Ok(second)) => {
            assert_eq!((first.secret(), first.signed_at()), (second.secret(), second.signed_at()));
        }
        (Err(first), Err(second)) => assert_eq!(*first, second),
        (first, second) => panic!("{first:?}, and then {second:?}"),
    }
}

fn genuine(scheme: &Scheme, keys: &[Key], request: &Draft, verified: &Verified, signs_body: bool) {
    let names = scheme.identify(verified, request.as_request());
    assert!(!names.is_empty(), "a genuine request is no event");
    assert_eq!(names, scheme.identify(verified, request.as_request()));
    for name in &names {
        assert!((1..=EVENT_ID_BYTES_MAX).contains(&name.id.len()), "an id of {} bytes", name.id.len());
        assert!(name.event_type.len() <= EVENT_TYPE_BYTES_MAX);
        assert!(!name.id.chars().chain(name.event_type.chars()).any(char::is_control), "{name:?}");
        let (from, to) = name.range.unwrap_or_default();
        assert!(from <= to && to as usize <= request.body.len(), "{name:?} of {} bytes", request.body.len());
    }
    if scheme.proves_nothing() {
        return;
    }
    let without = scheme.verify(request.as_request(), &[], request.now);
    assert!(matches!(without, Err(Refused::Mismatch { tried: 0 })), "genuine without a secret: {without:?}");
    if signs_body && !request.body.is_empty() {
        let mut other = request.clone();
        let at = other.body.len() / 2;
        other.body[at] ^= 1 << (at % 8);
        let changed = scheme.verify(other.as_request(), keys, other.now);
        assert!(changed.is_err(), "genuine with another bit at {at} of the body");
    }
}

fn signs_body(spec: &Spec) -> bool {
    let is_proof = !matches!(spec.kind.as_deref(), Some("token" | "basic" | "none"));
    is_proof && spec.signed.as_ref().is_some_and(|signed| signed.contains("{body}"))
}

fn holds_no_signature(refused: &Refused, right: &[String]) {
    let told = format!("{refused} {refused:?}");
    // Shorter ones are times and ids, which may be told.
    let is_told = |value: &&String| value.len() >= 40 && told.contains(value.as_str());
    assert_eq!(right.iter().find(is_told), None, "a refusal holds a signature");
    assert!(told.len() < 4096, "a refusal of {} bytes", told.len());
}

fn end_of(refused: &Refused) -> End {
    match refused {
        Refused::NoSignature(_) => End::NoSignature,
        Refused::Malformed(_) => End::Malformed,
        Refused::Mismatch { .. } => End::Mismatch,
        Refused::Stale { .. } | Refused::Expired { .. } | Refused::NotYet { .. } => End::Stale,
        Refused::Unfit(_) | Refused::Foreign(_) | Refused::UnknownKey(_) => End::Mismatch,
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty)
}

/// It was signed, nothing came of the edits, its URL is the one that is signed, and its time is one that every unit can
/// write.
fn right_as_made(case: &Case, scheme: &Scheme, request: &Draft, as_signed: &Draft) -> bool {
    let is_the_same = |a: &Draft, b: &Draft| a.body == b.body && a.headers == b.headers && a.now == b.now;
    let times = Millis::from_seconds(1_000_000_000)..Millis::from_seconds(9_000_000_000);
    let query = URL.split_once('?').map(|(_, query)| query);
    let is_its_url = !scheme.needs_url() || (request.method == "POST" && request.query.as_deref() == query);
    case.signs.is_some() && is_its_url && is_the_same(request, as_signed) && times.contains(&request.now)
}
