//! Sign: makes the headers that a provider would send, for `longshore send` and the tests; and the body, where the
//! signature travels in it.
//!
//! It goes through the same template and format as verification, so that a scheme which signs what it cannot
//! verify does not exist.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::extract::Place;
use super::format::Encoding;
use super::signed::Claimed;
use super::{Key, Request, Scheme, stamp};
use crate::words::secret::Secret;
use crate::words::time::Millis;

/// What is to be signed.
pub(super) struct Draft<'a> {
    pub(super) id: &'a str,
    pub(super) event_type: &'a str,
    pub(super) body: &'a [u8],
    pub(super) url: &'a str,
    pub(super) now: Millis,
}

/// What a provider would send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub headers: Vec<(String, String)>,
    /// With the signature in it; None: as it was given.
    pub body: Option<Vec<u8>>,
}

pub(super) fn sign(scheme: &Scheme, key: &Key, secret: &Secret, draft: &Draft<'_>) -> Result<Signed, String> {
    let mut out = Outgoing::new(draft);
    out.named(scheme, draft)?;
    if scheme.proves_nothing() {
        return Ok(Signed { headers: out.lines, body: None });
    }
    if let Some((builtin, ready)) = scheme.builtin.as_ref().zip(key.ready.builtin()) {
        for (name, value) in builtin.sign(ready, &out.request(), draft.id, draft.now)? {
            out.set(&name, &value)?;
        }
        return Ok(Signed { headers: out.lines, body: None });
    }
    let (stamp, id) = (out.stamp(scheme, draft)?, out.id(scheme, draft)?);
    let signature = match scheme.signature.encoding {
        Encoding::Token => {
            String::from_utf8(secret.expose().to_vec()).map_err(|_| "the token is not text")?
        }
        Encoding::Basic => Encoding::Basic.encode(secret.expose()),
        encoding => {
            let claimed = Claimed { stamp: stamp.as_ref(), id: id.as_deref() };
            let pieces =
                scheme.signed.resolve(&out.request(), claimed).map_err(|refused| refused.to_string())?;
            let proof = key.ready.prove(&pieces).ok_or(
                "the secret is a public key, and only the provider has the private one; send its own test event, or \
                 post a captured request",
            )?;
            encoding.encode(proof.as_slice())
        }
    };
    let value = scheme.signature.write(&signature, stamp.as_ref().map(|stamp| stamp.text.as_str()));
    let mut body = None;
    match &scheme.signature.from[0] {
        Place::Header { written, .. } => out.set(written, &value)?,
        Place::Numbered { written, .. } => out.set(&format!("{written}1"), &value)?,
        place if scheme.signed.has_body() => {
            return Err(format!(
                "the signature travels in the {place}, and cannot cover the body that it is in"
            ));
        }
        place => body = Some(with_signature(draft.body, place, &value)?),
    }
    Ok(Signed { headers: out.lines, body })
}

/// The body with a value put where the scheme will look for it.
fn with_signature(body: &[u8], place: &Place, value: &str) -> Result<Vec<u8>, String> {
    match place {
        Place::Json { path, .. } => {
            let mut document: Value = serde_json::from_slice(body).map_err(|e| {
                format!("the signature travels in the {place}, and the body is not JSON: {e}")
            })?;
            path.put(&mut document, value);
            Ok(document.to_string().into_bytes())
        }
        Place::Form(name) => {
            let others = url::form_urlencoded::parse(body).filter(|(key, _)| key != name);
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            Ok(form.extend_pairs(others).append_pair(name, value).finish().into_bytes())
        }
        _ => Err(format!("the signature travels in the {place}; only headers and bodies can be made here")),
    }
}

/// The request as far as it is made.
struct Outgoing<'a> {
    lines: Vec<(String, String)>,
    headers: HeaderMap,
    body: &'a [u8],
    url: &'a str,
}

impl<'a> Outgoing<'a> {
    fn new(draft: &Draft<'a>) -> Outgoing<'a> {
        Outgoing { lines: Vec::new(), headers: HeaderMap::new(), body: draft.body, url: draft.url }
    }

    fn request(&self) -> Request<'_> {
        let query = self.url.split_once('?').map(|(_, query)| query);
        Request { method: "POST", url: self.url, query, headers: &self.headers, body: self.body }
    }

    /// Headers that name the event, or that the scheme requires.
    fn named(&mut self, scheme: &Scheme, draft: &Draft<'_>) -> Result<(), String> {
        let (id, kind) = scheme.event.headers();
        for (name, value) in [(id, draft.id), (kind, draft.event_type)] {
            match name {
                Some(name) if !value.is_empty() => self.set(name, value)?,
                _ => {}
            }
        }
        for (place, value) in &scheme.require {
            if let Place::Header { written, .. } = place {
                self.set(written, value)?;
            }
        }
        Ok(())
    }

    fn stamp(&mut self, scheme: &Scheme, draft: &Draft<'_>) -> Result<Option<stamp::Read>, String> {
        let Some(stamp) = &scheme.stamp else { return Ok(None) };
        let text = match &stamp.from {
            stamp::From::Field => stamp.unit.print(draft.now)?,
            stamp::From::Place(Place::Header { written, .. }) => {
                let text = stamp.unit.print(draft.now)?;
                self.set(written, &text)?;
                text
            }
            // A body is signed as it is: its time is its own.
            stamp::From::Place(place) => self.own(place)?,
        };
        Ok(Some(stamp::Read { text, at: draft.now }))
    }

    fn id(&mut self, scheme: &Scheme, draft: &Draft<'_>) -> Result<Option<String>, String> {
        match &scheme.id {
            None => Ok(None),
            Some(Place::Header { written, .. }) => {
                self.set(written, draft.id)?;
                Ok(Some(draft.id.to_owned()))
            }
            Some(place) => self.own(place).map(Some),
        }
    }

    fn own(&self, place: &Place) -> Result<String, String> {
        place.require(&self.request(), "value").map_err(|refused| refused.to_string())
    }

    /// A header is set once: two places of a scheme may name the same one.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("`{name}` is not a header's name"))?;
        let text = HeaderValue::from_str(value)
            .map_err(|_| format!("the value of `{name}` does not fit a header"))?;
        if self.headers.insert(parsed, text).is_none() {
            self.lines.push((name.to_owned(), value.to_owned()));
        }
        Ok(())
    }
}
