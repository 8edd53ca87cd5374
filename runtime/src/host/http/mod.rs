//! Outbound HTTP, the only way for a plugin to act on the world: buffered, blocking, and recorded.
//!
//! `prepare` says what may be sent, `client` sends it, `mask` hides the handler's secrets in what comes back.
//! This file counts and records. What is not here yet: answering a call from the record of an earlier attempt,
//! and the `Idempotency-Key` that belongs to it; `recorded` is false until then.

mod addresses;
mod client;
mod mask;
mod origin;
mod prepare;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap};
use tokio::time::Instant;

use self::client::{Answer, Failure};
pub(in crate::host) use self::client::{Client, Network};
pub(in crate::host) use self::mask::{Mask, parts_of_url};
pub(in crate::host) use self::origin::{Origin, Pattern};
use self::prepare::Prepared;
use super::call::trace::{Cause, Trace, Waiting};
use super::grant::Grant;
use super::log::printable as short;
use super::{DryAnswer, Wire};
use crate::words::attempt::{CallRecord, LogLevel};
use crate::words::limits;

#[derive(Clone, Debug)]
pub(in crate::host) struct Request {
    pub(in crate::host) method: String,
    pub(in crate::host) target: Target,
    pub(in crate::host) headers: Vec<(String, String)>,
    pub(in crate::host) body: Option<Vec<u8>>,
    pub(in crate::host) credentials: Vec<Credential>,
    pub(in crate::host) timeout: Option<Duration>,
    pub(in crate::host) key: Option<String>,
}

#[derive(Clone, Debug)]
pub(in crate::host) enum Target {
    Url(String),
    /// The name of a secret that is the whole URL.
    SecretUrl(String),
}

/// How a secret is used; `secret` is its name.
#[derive(Clone, Debug)]
pub(in crate::host) enum Credential {
    Bearer(String),
    Basic { user: String, secret: String },
    Header { header: String, secret: String },
    Query { parameter: String, secret: String },
    Form { field: String, secret: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::host) struct Response {
    pub(in crate::host) call: u32,
    pub(in crate::host) recorded: bool,
    pub(in crate::host) status: u16,
    pub(in crate::host) headers: Vec<(String, String)>,
    pub(in crate::host) body: Vec<u8>,
}

/// The contract's cases. Its order tells what was not sent, what perhaps was, and what surely was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::host) enum Error {
    #[error("denied: {0}")]
    Denied(String),
    #[error("invalid request: {0}")]
    InvalidRequest(String),
    #[error("the request is too large")]
    RequestTooLarge,
    #[error("dns: {0}")]
    Dns(String),
    #[error("connect: {0}")]
    Connect(String),
    #[error("tls: {0}")]
    Tls(String),
    #[error("limit: {0}")]
    Limit(String),
    #[error("unavailable: {0}")]
    Unavailable(String),
    #[error("timeout")]
    Timeout,
    #[error("protocol: {0}")]
    Protocol(String),
    #[error("the response is too large")]
    ResponseTooLarge(u16),
}

/// Of an origin and path in the history.
const TARGET_BYTES_MAX: usize = 512;

/// The calls of one attempt.
pub(in crate::host) struct Session {
    grant: Arc<Grant>,
    wire: Wire,
    deadline: Instant,
    trace: Trace,
    calls: u32,
    /// Answers that a dry wire has given.
    dry: usize,
    bytes: u64,
}

impl Session {
    pub(in crate::host) fn new(grant: Arc<Grant>, wire: Wire, deadline: Instant, trace: Trace) -> Session {
        Session { grant, wire, deadline, trace, calls: 0, dry: 0, bytes: 0 }
    }

    pub(in crate::host) async fn send(&mut self, request: Request) -> Result<Response, Error> {
        let calls_max = self.grant.limits.calls;
        if self.calls >= calls_max {
            return Err(Error::Limit(format!("an attempt makes at most {calls_max} calls")));
        }
        let number = self.calls;
        self.calls += 1;

        let started = Instant::now();
        let asked = request.timeout;
        let mut record = new_record(number, &request);
        let prepared = prepare::prepare(&self.grant, request, &mut record);
        record.target = short(&self.grant.mask.text(&record.target), TARGET_BYTES_MAX);
        record.request_bytes = prepared.as_ref().map_or(0, |p| p.body_bytes);
        self.trace.begin_call(record);

        let answered = match prepared.and_then(|prepared| self.spend(prepared)) {
            Ok(prepared) => self.exchange(prepared, self.time_for(asked)).await,
            Err(error) => Err(Failure { error, status: None }),
        };
        self.finish(number, started, answered)
    }

    /// The status said yes, the content said no.
    pub(in crate::host) fn disown(&self, call: u32) {
        self.trace.edit_call(call, |record| record.disowned = true);
    }

    fn spend(&mut self, prepared: Prepared) -> Result<Prepared, Error> {
        let bytes_max = self.grant.limits.call_bytes;
        match self.bytes.checked_add(prepared.body_bytes).filter(|total| *total <= bytes_max) {
            Some(total) => self.bytes = total,
            None => {
                return Err(Error::Limit(format!("an attempt sends and receives at most {bytes_max} bytes")));
            }
        }
        if self.time_for(None).is_zero() {
            return Err(Error::Limit("the attempt's time is used up".into()));
        }
        Ok(prepared)
    }

    /// What the plugin asks for, within what is left of the attempt less a moment to act on the answer.
    fn time_for(&self, asked: Option<Duration>) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = left.saturating_sub(limits::HTTP_TIMEOUT_MARGIN.min(left / 5));
        asked.unwrap_or(limits::HTTP_TIMEOUT_DEFAULT).min(left)
    }

    async fn exchange(&mut self, prepared: Prepared, time: Duration) -> Result<Answer, Failure> {
        let has_credentials = prepared.has_credentials;
        let room = self.grant.limits.call_bytes.saturating_sub(self.bytes);
        let cap = self.grant.limits.response_bytes.min(usize::try_from(room).unwrap_or(usize::MAX));
        let effects = match &self.wire {
            Wire::Live(effects) => Arc::clone(effects),
            Wire::Dry(answers) => {
                let answer = dry_answer(answers, self.dry, cap);
                self.dry += 1;
                self.bytes = self.bytes.saturating_add(answer.body.len() as u64);
                return Ok(answer);
            }
        };
        self.trace.waiting(Waiting::Ledger);
        let begun = effects.begin().await;
        self.trace.waiting(Waiting::Guest);
        begun.map_err(|why| Failure { error: Error::Unavailable(why), status: None })?;
        self.trace.waiting(Waiting::Http);
        let sent = self.grant.client.send(prepared.request, Instant::now() + time, cap);
        // On the heap: the fiber below has a stack of its own, and not a large one.
        let answered = Box::pin(sent).await;
        self.trace.waiting(Waiting::Guest);
        let mut answer = answered?;
        self.bytes = self.bytes.saturating_add(answer.body.len() as u64);
        if has_credentials && is_compressed(&answer.headers) {
            let said =
                "the answer is compressed, unasked: its body is withheld, it could hold the credential";
            self.trace.log(LogLevel::Warn, said, &[]);
            answer.body.clear();
        }
        Ok(answer)
    }

    /// The record's other half, and what the guest gets.
    fn finish(
        &mut self,
        number: u32,
        started: Instant,
        answered: Result<Answer, Failure>,
    ) -> Result<Response, Error> {
        let (status, response_bytes) = match &answered {
            Ok(answer) => (Some(answer.status), answer.body.len() as u64),
            Err(failure) => (failure.status, 0),
        };
        let response =
            answered.map_err(|failure| failure.error).and_then(|answer| self.response(number, answer));
        self.trace.call_ended(number, Cause::of_call(status, response.as_ref().err()));
        self.trace.edit_call(number, |record| {
            record.status = status;
            record.error = response.as_ref().err().map(Error::to_string);
            record.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            record.response_bytes = response_bytes;
        });
        response
    }

    fn response(&self, call: u32, answer: Answer) -> Result<Response, Error> {
        let Answer { status, headers, body, is_cut } = answer;
        if is_cut && (200..300).contains(&status) {
            return Err(Error::ResponseTooLarge(status));
        }
        if is_cut {
            // An error page: its beginning tells what it has to tell.
            self.trace.log(LogLevel::Warn, "the answer is over the cap; the plugin gets its beginning", &[]);
        }
        Ok(Response {
            call,
            recorded: false,
            status,
            headers: self.headers(&headers),
            body: if is_cut { self.grant.mask.beginning(body) } else { self.grant.mask.bytes(body) },
        })
    }

    fn headers(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        let mut bytes = 0;
        headers
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                (name.as_str().to_owned(), self.grant.mask.text(&value).into_owned())
            })
            .take(limits::HTTP_RESPONSE_HEADERS_MAX)
            .take_while(|(name, value)| {
                bytes += name.len() + value.len();
                bytes <= limits::HTTP_HEADERS_BYTES_MAX
            })
            .collect()
    }
}

impl Credential {
    fn secret(&self) -> &str {
        match self {
            Credential::Bearer(secret)
            | Credential::Basic { secret, .. }
            | Credential::Header { secret, .. }
            | Credential::Query { secret, .. }
            | Credential::Form { secret, .. } => secret,
        }
    }
}

impl Cause {
    /// What this call says about a failure that follows it; None: it went well.
    fn of_call(status: Option<u16>, error: Option<&Error>) -> Option<Cause> {
        match error {
            Some(Error::Denied(why)) => Some(Cause::Denied(why.clone())),
            Some(Error::Unavailable(_)) => Some(Cause::Host),
            Some(Error::Dns(_) | Error::Connect(_) | Error::Tls(_) | Error::Timeout | Error::Protocol(_)) => {
                Some(Cause::Remote)
            }
            Some(_) => Some(Cause::Plugin),
            None if status.is_some_and(|s| s >= 500 || [408, 425, 429].contains(&s)) => Some(Cause::Remote),
            None if status.is_some_and(|s| s >= 400) => Some(Cause::Plugin),
            None => None,
        }
    }
}

fn new_record(number: u32, request: &Request) -> CallRecord {
    CallRecord {
        number,
        method: short(&request.method, limits::HTTP_METHOD_BYTES_MAX),
        target: match &request.target {
            // Until it is found to be one: nothing of it is known to be fit for the history.
            Target::Url(_) | Target::SecretUrl(_) => "(no URL)".into(),
        },
        key: request.key.as_deref().map(|key| short(key, limits::HTTP_KEY_BYTES_MAX)),
        status: None,
        // What it says if nobody lives to finish it.
        error: Some("the attempt ended before the answer; the request was perhaps sent".into()),
        took_ms: 0,
        request_bytes: 0,
        response_bytes: 0,
        credentials: Vec::new(),
        recorded: false,
        disowned: false,
    }
}

fn dry_answer(answers: &[DryAnswer], turn: usize, cap: usize) -> Answer {
    let (status, body) = match answers.get(turn).or(answers.last()) {
        Some(answer) => (answer.status, answer.body.as_ref()),
        None => (200, &b"{}"[..]),
    };
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    let kind = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    Answer { status, headers, body: body[..body.len().min(cap)].to_vec(), is_cut: body.len() > cap }
}

fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().any(|encoding| encoding != "identity")
}
