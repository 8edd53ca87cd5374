//! Effects: a live call between its decision and its record. `past` decides; here it is written down and sent.
//!
//! The order is the promise: the intent is durable before the request leaves, and the answer is durable before the
//! guest has it. What cannot be written down stops the guest.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::past::{Decision, Orphan, Past, Recorded, Sending, is_safe};
use super::prepare::{Prepared, prepare};
use super::{Credential, Error, Failure, Request, Response, Target};
use crate::host::call::trace::Trace;
use crate::host::grant::Grant;
use crate::host::{Departed, Effects, Halt};
use crate::words::attempt::CallRecord;
use crate::words::digest::Digest;
use crate::words::effect::{self, Asked, Entry, Intent, NotSent, Said, Waiting};
use crate::words::time::Millis;

/// Of a key: 128 bits, as hex digits.
const KEY_BYTES: usize = 16;

/// The calls of an attempt, and those before it.
pub(super) struct Ledger {
    effects: Arc<dyn Effects>,
    /// Bytes that this attempt has added to the record, and how many it may.
    written: u64,
    written_max: u64,
    past: Past,
    trace: Trace,
}

/// A call that is to be made now.
pub(super) struct Departure {
    pub(super) prepared: Prepared,
    pub(super) after_unknown: bool,
    pub(super) effect: u32,
    asked: Asked,
    /// It changes nothing: its answer says what was asked.
    is_safe: bool,
}

/// What comes of a decision.
pub(super) enum Next {
    Recorded(Recorded),
    Send(Box<Departure>),
    Halt(Halt),
}

impl Ledger {
    /// Reads what earlier attempts did. `written_max`: bytes that this one may add to the record.
    pub(super) async fn open(
        effects: Arc<dyn Effects>,
        written_max: u64,
        trace: Trace,
    ) -> Result<Ledger, Halt> {
        let before = effects.past().await.map_err(Halt::Store)?;
        let entries =
            before.entries.iter().map(Entry::unframed).collect::<Result<Vec<_>, _>>().map_err(Halt::Store)?;
        let past = Past::of(entries);
        trace.had_before(before.up_to, past.seed().or(effects.seed()));
        Ok(Ledger { effects, written: 0, written_max, past, trace })
    }

    /// What the guest's wall clock begins at for now.
    pub(super) fn wall_clock(&self) -> Millis {
        self.past.wall_clock().unwrap_or(self.effects.started_at())
    }

    /// How much more this attempt may add to the record: the most that the next answer may have.
    pub(super) fn room(&self) -> u64 {
        self.written_max.saturating_sub(self.written)
    }

    /// A call that was refused before anybody asked: it has its number, and no effect.
    pub(super) fn skip(&mut self) {
        self.past.skip();
    }

    /// What to do about a call; where it is to be sent, that is durable when this returns.
    pub(super) async fn decide(
        &mut self,
        grant: &Grant,
        request: &Request,
        prepared: Prepared,
        record: &CallRecord,
    ) -> Result<Next, Error> {
        let asked = asked(request, record);
        self.trace.edit_call(record.number, |record| record.digest = Some(asked.digest));
        let policy = &grant.origins[prepared.granted].policy;
        // Of the attempt, and not of this moment: run again from its record, it decides the same.
        match self.past.decide(&asked, policy, self.effects.started_at()) {
            Decision::Recorded(recorded) => Ok(Next::Recorded(recorded)),
            Decision::Park(waiting) => Ok(Next::Halt(self.park(waiting, record.number, None).await)),
            Decision::Expired(waiting) => {
                Ok(Next::Halt(self.park(waiting, record.number, policy.key_ttl).await))
            }
            Decision::Send(sending) => {
                match self.depart(grant, request, prepared, (asked, record.number), sending).await? {
                    Ok(departure) => Ok(Next::Send(Box::new(departure))),
                    Err(halt) => Ok(Next::Halt(halt)),
                }
            }
        }
    }

    async fn depart(
        &mut self,
        grant: &Grant,
        request: &Request,
        prepared: Prepared,
        (asked, call): (Asked, u32),
        sending: Sending,
    ) -> Result<Result<Departure, Halt>, Error> {
        let Sending { effect, generation, request: recorded, after_unknown } = sending;
        self.check_room(0)?;
        if is_safe(&asked.method) {
            let begun = self.effects.begin().await.map_err(Halt::Store);
            return Ok(begun.map(|()| Departure { prepared, after_unknown, effect, asked, is_safe: true }));
        }
        let bytes = recorded.clone().unwrap_or_else(|| request.recorded());
        let mut prepared = match &recorded {
            Some(recorded) => {
                let recorded = Request::read(recorded).map_err(Error::Unavailable)?;
                prepare(grant, recorded, &mut super::new_record(0, request))?
            }
            None => prepared,
        };
        let key = idempotency_key(self.effects.root(), effect, generation);
        add_key(prepared.request.headers_mut(), &grant.origins[prepared.granted].policy.key_header, &key);
        // Drawn behind the last intent: from here on it is durable.
        let seed = if self.past.seed().is_none() { self.trace.seed() } else { None };
        let (attempt, started_at) = (self.effects.attempt(), self.effects.started_at());
        let (call, asked_for) = (Some(call), asked.clone());
        let intent = Intent { attempt, effect, asked: asked_for, generation, started_at, call, seed };
        let entry = Entry::Intent(intent);
        self.check_room(entry.framed(&[]).len() + bytes.len())?;
        let noted = self.note(entry, bytes).await;
        Ok(noted.map(|()| Departure { prepared, after_unknown, effect, asked, is_safe: false }))
    }

    /// `bytes`: what is about to be written, behind which an answer must still find room.
    fn check_room(&self, bytes: usize) -> Result<(), Error> {
        match self.room() > bytes as u64 {
            true => Ok(()),
            false => Err(Error::Limit(format!(
                "an attempt adds at most {} bytes to the record, requests and answers",
                self.written_max
            ))),
        }
    }

    /// `call`: of this attempt, the one that was asked for. `expired`: how long the service remembers keys, where that
    /// is over.
    async fn park(&mut self, waiting: Waiting, call: u32, expired: Option<Duration>) -> Halt {
        let reason = self.reason(&waiting, call, expired);
        match self.note(Entry::Waiting(waiting), Bytes::new()).await {
            Ok(()) => Halt::Park(reason),
            Err(halt) => halt,
        }
    }

    fn reason(&self, waiting: &Waiting, call: u32, expired: Option<Duration>) -> String {
        let (Waiting::Unknown { effect } | Waiting::Changed { effect, .. }) = waiting;
        let name = self.past.name_of(*effect);
        let why = match (waiting, expired) {
            (Waiting::Unknown { .. }, None) => {
                "was perhaps sent, and nobody knows what came of it".to_owned()
            }
            (Waiting::Unknown { .. }, Some(ttl)) => format!(
                "has no answer that says whether it happened, and its idempotency key was first sent more than {} s \
                 ago, which is as long as the service remembers one: sent again, it could happen twice",
                ttl.as_secs()
            ),
            (Waiting::Changed { .. }, _) => {
                format!("happened, and call {call} of this attempt is another one to the same place")
            }
        };
        format!(
            "{name} {why}; type `longshore deliveries resolve {} --happened`, `--did-not` or `--send`",
            self.effects.delivery()
        )
    }

    /// What a call was told, durable before the guest hears it.
    pub(super) async fn answered(
        &mut self,
        (effect, asked): (u32, Option<Asked>),
        (told, status): (&Result<Response, Error>, Option<u16>),
        took: Duration,
    ) -> Result<(), Halt> {
        let (said, body) = said(told, status);
        let (attempt, took_us) =
            (self.effects.attempt(), u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.note(Entry::Response(effect::Response { attempt, effect, asked, said, took_us }), body).await
    }

    /// The status said yes, the content said no.
    pub(super) async fn disown(&mut self, call: u32) -> Result<bool, Halt> {
        match self.past.disownable(call) {
            Some(effect) => self.note(Entry::Disowned { effect }, Bytes::new()).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// What earlier attempts did and this one did not ask for.
    pub(super) fn orphans(&self) -> impl Iterator<Item = Orphan> {
        self.past.orphans()
    }

    async fn note(&mut self, entry: Entry, bytes: Bytes) -> Result<(), Halt> {
        let is_intent = matches!(entry, Entry::Intent(_));
        let framed = entry.framed(&bytes);
        self.written = self.written.saturating_add(framed.len() as u64);
        self.effects.note(framed, is_intent).await.map_err(Halt::Store)?;
        self.past.note(entry, bytes);
        Ok(())
    }
}

impl Departure {
    /// Its number, and where only its answer will say it, what was asked.
    pub(super) fn effect(&self) -> (u32, Option<Asked>) {
        (self.effect, self.is_safe.then(|| self.asked.clone()))
    }

    /// As a world that is not the real one sees it.
    pub(super) fn departed(&self, grant: &Grant, number: u32, body: Option<&[u8]>) -> Departed {
        let policy = &grant.origins[self.prepared.granted].policy;
        let key = self.prepared.request.headers().get(&policy.key_header);
        Departed {
            number,
            effect: self.effect,
            asked: self.asked.clone(),
            idempotency_key: key.and_then(|key| key.to_str().ok()).map(str::to_owned),
            body: Bytes::copy_from_slice(body.unwrap_or_default()),
        }
    }
}

fn asked(request: &Request, record: &CallRecord) -> Asked {
    let content_type = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let (kind, target) = match &request.target {
        Target::Url(url) => ("url", url),
        Target::SecretUrl(name) => ("secret", name),
    };
    let parts = [
        request.method.as_bytes(),
        kind.as_bytes(),
        target.as_bytes(),
        content_type.map_or("", |(_, value)| value).as_bytes(),
        request.body.as_deref().unwrap_or_default(),
    ];
    Asked {
        method: request.method.clone(),
        place: record.target.clone(),
        key: request.key.clone(),
        digest: Digest::of_parts(&parts),
    }
}

fn idempotency_key(root: &str, effect: u32, generation: u32) -> String {
    let parts = [root.as_bytes(), &effect.to_le_bytes(), &generation.to_le_bytes()];
    hex::encode(&Digest::of_parts(&parts).0[..KEY_BYTES])
}

/// A key that the plugin sets is kept.
fn add_key(headers: &mut HeaderMap, name: &HeaderName, key: &str) {
    let value = HeaderValue::from_str(key).expect("hex digits are a header's value");
    headers.entry(name).or_insert(value);
}

// === what a guest was told, and back ===

/// `status`: of the answer, also where its body did not come.
fn said(told: &Result<Response, Error>, status: Option<u16>) -> (Said, Bytes) {
    let said = match told {
        Ok(response) => {
            let said = Said::Answer { status: response.status, headers: response.headers.clone() };
            return (said, Bytes::copy_from_slice(&response.body));
        }
        Err(Error::ResponseTooLarge(status)) => Said::TooLarge { status: *status },
        Err(error @ (Error::Timeout | Error::Protocol(_))) => {
            let why = if let Error::Protocol(why) = error { why.clone() } else { String::new() };
            match status {
                Some(status) => Said::Broken { status, why },
                None => Said::Unknown { why },
            }
        }
        Err(Error::Dns(why)) => Said::not_sent(NotSent::Dns, why),
        Err(Error::Connect(why)) => Said::not_sent(NotSent::Connect, why),
        Err(Error::Tls(why)) => Said::not_sent(NotSent::Tls, why),
        Err(Error::Denied(why)) => Said::not_sent(NotSent::Denied, why),
        Err(Error::Unavailable(why)) => Said::not_sent(NotSent::Unavailable, why),
        Err(other) => Said::not_sent(NotSent::Unavailable, &other.to_string()),
    };
    (said, Bytes::new())
}

/// What the guest is told again.
pub(super) fn told(call: u32, said: Said, body: &Bytes) -> Result<Response, Error> {
    match said {
        Said::Answer { status, headers } => {
            Ok(Response { call, recorded: true, status, headers, body: body.to_vec() })
        }
        Said::TooLarge { status } => Err(Error::ResponseTooLarge(status)),
        // It happened; what it said is lost for good, and another error would only have the handler ask for ever.
        Said::Broken { status, .. } => {
            Ok(Response { call, recorded: true, status, headers: Vec::new(), body: Vec::new() })
        }
        Said::Unknown { why } if why.is_empty() => Err(Error::Timeout),
        Said::Unknown { why } => Err(Error::Protocol(why)),
        Said::NotSent { kind, why } => Err(match kind {
            NotSent::Denied => Error::Denied(why),
            NotSent::Dns => Error::Dns(why),
            NotSent::Connect => Error::Connect(why),
            NotSent::Tls => Error::Tls(why),
            NotSent::Unavailable => Error::Unavailable(why),
        }),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { error, status: None }
    }
}

// === a request as it is kept ===

/// Everything but the body, which follows it.
#[derive(Serialize, Deserialize)]
struct Head {
    method: String,
    target: Target,
    headers: Vec<(String, String)>,
    has_body: bool,
    credentials: Vec<Credential>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl Request {
    /// As it is kept with its intent: secrets by their names.
    fn recorded(&self) -> Bytes {
        let head = Head {
            method: self.method.clone(),
            target: self.target.clone(),
            headers: self.headers.clone(),
            has_body: self.body.is_some(),
            credentials: self.credentials.clone(),
            timeout_ms: self.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            key: self.key.clone(),
        };
        let head = serde_json::to_vec(&head).expect("plain data serialises");
        let length = u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes();
        Bytes::from([&length, head.as_slice(), self.body.as_deref().unwrap_or_default()].concat())
    }

    fn read(recorded: &Bytes) -> Result<Request, String> {
        let (length, rest) = recorded.split_first_chunk::<4>().ok_or("a recorded request is cut short")?;
        let length = u32::from_le_bytes(*length) as usize;
        let (head, body) = rest.split_at_checked(length).ok_or("a recorded request is cut short")?;
        let head: Head = serde_json::from_slice(head)
            .map_err(|error| format!("a recorded request does not read: {error}"))?;
        Ok(Request {
            method: head.method,
            target: head.target,
            headers: head.headers,
            body: head.has_body.then(|| body.to_vec()),
            credentials: head.credentials,
            timeout: head.timeout_ms.map(std::time::Duration::from_millis),
            key: head.key,
        })
    }
}

/// The body of a request as it is kept; None where it does not read.
pub fn request_body(recorded: &Bytes) -> Option<Bytes> {
    Request::read(recorded).ok().map(|request| request.body.unwrap_or_default().into())
}

/// A request as it is kept, with every text in it changed by `change`, and what it is recognised by along with it.
///
/// # Errors
/// In words: it does not read.
pub fn rewrite_intent(
    intent: &mut Intent,
    recorded: &Bytes,
    change: &dyn Fn(&str) -> String,
) -> Result<Bytes, String> {
    let mut request = Request::read(recorded)?;
    let (Target::Url(target) | Target::SecretUrl(target)) = &mut request.target;
    *target = change(target);
    request.headers.iter_mut().for_each(|(_, value)| *value = change(value));
    request.key = request.key.as_deref().map(change);
    for credential in &mut request.credentials {
        if let Credential::Basic { user, .. } = credential {
            *user = change(user);
        }
    }
    request.body = request.body.map(|body| match String::from_utf8(body) {
        Ok(text) => change(&text).into_bytes(),
        Err(bytes) => bytes.into_bytes(),
    });
    let mut record = super::new_record(0, &request);
    record.target = change(&intent.asked.place);
    intent.asked = asked(&request, &record);
    Ok(request.recorded())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_kept() {
        let request = Request {
            method: "POST".into(),
            target: Target::SecretUrl("webhook".into()),
            headers: vec![("content-type".into(), "text/plain".into())],
            body: Some(vec![0, 159, 146, 150]),
            credentials: vec![Credential::Basic { user: "u".into(), secret: "s".into() }],
            timeout: Some(std::time::Duration::from_millis(1500)),
            key: Some("k".into()),
        };
        assert_eq!(Request::read(&request.recorded()).unwrap(), request);
        let bare = Request { body: None, timeout: None, key: None, ..request };
        assert_eq!(Request::read(&bare.recorded()).unwrap(), bare);
        assert!(Request::read(&Bytes::from_static(b"\x09\x00\x00\x00{}")).is_err());
    }

    #[test]
    fn a_key_is_one_per_delivery_call_and_generation() {
        let key = idempotency_key("1f.h", 0, 0);
        assert_eq!(key, idempotency_key("1f.h", 0, 0));
        assert_eq!(key.len(), 32);
        for other in [("1f.g", 0, 0), ("1f.h", 1, 0), ("1f.h", 0, 1)] {
            assert_ne!(key, idempotency_key(other.0, other.1, other.2));
        }
        let name = HeaderName::from_static("x-request-id");
        let mut headers = HeaderMap::new();
        add_key(&mut headers, &name, &key);
        assert_eq!(headers[&name], key);
        headers.insert(&name, HeaderValue::from_static("mine"));
        add_key(&mut headers, &name, &key);
        assert_eq!(headers[&name], "mine");
    }
}
