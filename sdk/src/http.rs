//! Outbound HTTP: the only way in which a plugin acts on the world.
//!
//! A call names the secrets that it needs; the daemon puts them in on the way out, and only for origins that the
//! operator bound them to. The plugin never holds one.
//!
//! ```
//! use longshore_sdk::prelude::*;
//!
//! fn handle(event: Event) -> Result<Outcome, Failure> {
//!     let note = json!({ "text": "replied", "event": event.id });
//!     let answer = http::post("https://crm.example.com/v1/notes")
//!         .bearer("token") // the secret's name
//!         .json(&note)
//!         .key("note")
//!         .send()? // no connection, no answer: retry
//!         .ok()?; // 429, 503: retry; 400: reject
//!     let id: u64 = answer.json::<Value>()?["id"].as_u64().or_reject("the CRM gave the note no id")?;
//!     done(format!("note {id}"))
//! }
//! use longshore_sdk::testing::{Answer, Host, event};
//!
//! let host = Host::new();
//! host.grant("https://crm.example.com").secret("token");
//!
//! host.answer(Answer::new(429).header("retry-after", "30"));
//! let failure = host.call(handle, event("reply.received", json!({}))).unwrap_err();
//! assert_eq!(failure, Failure::retry(failure.reason()).after(Some(std::time::Duration::from_secs(30))));
//!
//! host.answer((201, json!({ "id": 7 })));
//! assert_eq!(host.call(handle, event("reply.received", json!({}))), done("note 7"));
//! assert_eq!(host.calls()[1].json()["text"], "replied");
//! ```
//!
//! # What happened
//!
//! An unsafe call (POST, PUT, PATCH, DELETE) that was answered 2xx *happened*: when the delivery is tried again,
//! it is answered from the record. A call without an answer may have happened: it is sent again with the same
//! `Idempotency-Key`, unless the operator chose to be asked. A call is recognised by its [`key`](Request::key), which must be the same
//! in every attempt and different for each call of a delivery. Without a key its bytes recognise it: then keep
//! attempt numbers, clocks and the order of a `HashMap` out of them.
//!
//! Where the status says yes and the content says no, [`disown`](Response::disown) the answer, and it counts as
//! not having happened:
//!
//! ```
//! use longshore_sdk::prelude::*;
//!
//! fn handle(_: Event) -> Result<Outcome, Failure> {
//!     let answer = http::post(Target::secret_url("webhook")).json(&json!({})).key("post").send()?.ok()?;
//!     let body: Value = answer.json()?;
//!     if body["ok"] == false {
//!         answer.disown();
//!         return retry(format!("refused: {}", body["error"]));
//!     }
//!     done("posted")
//! }
//! use longshore_sdk::testing::{Host, event};
//!
//! let host = Host::new();
//! host.secret("webhook");
//! host.answer((200, json!({ "ok": false, "error": "busy" })));
//! assert!(host.call(handle, event("a", json!({}))).unwrap_err().is_retry());
//! assert!(host.calls()[0].disowned);
//!
//! host.answer((200, json!({ "ok": true })));
//! assert_eq!(host.call(handle, event("a", json!({}))), done("posted"), "sent again, since it was disowned");
//! assert_eq!(host.call(handle, event("a", json!({}))), done("posted"), "not sent again, since it happened");
//! assert!(host.calls()[2].recorded);
//! ```

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::{self, JsonError};
use crate::host;
use crate::outcome::Failure;
use crate::retry_after;

/// How much of a refusal's body goes into the reason that the operator reads.
const EXCERPT_CHARS_MAX: usize = 300;

/// A `GET` request.
pub fn get(target: impl Into<Target>) -> Request {
    request("GET", target)
}

/// A `HEAD` request.
pub fn head(target: impl Into<Target>) -> Request {
    request("HEAD", target)
}

/// A `POST` request.
pub fn post(target: impl Into<Target>) -> Request {
    request("POST", target)
}

/// A `PUT` request.
pub fn put(target: impl Into<Target>) -> Request {
    request("PUT", target)
}

/// A `PATCH` request.
pub fn patch(target: impl Into<Target>) -> Request {
    request("PATCH", target)
}

/// A `DELETE` request.
pub fn delete(target: impl Into<Target>) -> Request {
    request("DELETE", target)
}

/// A request of any method.
pub fn request(method: &str, target: impl Into<Target>) -> Request {
    Request {
        method: method.to_owned(),
        target: target.into(),
        headers: Vec::new(),
        body: None,
        credentials: Vec::new(),
        timeout: None,
        key: None,
        fault: None,
    }
}

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A URL.
    Url(String),
    /// The whole URL is a secret (a Slack incoming webhook): its name.
    SecretUrl(String),
}

impl Target {
    /// A URL; a string is one, too.
    pub fn url(url: impl Into<String>) -> Target {
        Target::Url(url.into())
    }

    /// The whole URL is a secret: its name.
    pub fn secret_url(name: impl Into<String>) -> Target {
        Target::SecretUrl(name.into())
    }
}

impl From<&str> for Target {
    fn from(url: &str) -> Target {
        Target::Url(url.to_owned())
    }
}

impl From<String> for Target {
    fn from(url: String) -> Target {
        Target::Url(url)
    }
}

impl From<&String> for Target {
    fn from(url: &String) -> Target {
        Target::Url(url.clone())
    }
}

/// Without the query string, which may hold what is nobody's business.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Url(url) => f.write_str(url.split(['?', '#']).next().unwrap_or_default()),
            Target::SecretUrl(name) => write!(f, "the URL in secret `{name}`"),
        }
    }
}

/// How a secret is used. The first name is the place, the last one the secret's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// `Authorization: Bearer <secret>`
    Bearer(String),
    /// `Authorization: Basic`: user, secret that is the password.
    Basic(String, String),
    /// Header, secret.
    Header(String, String),
    /// Query parameter, secret.
    Query(String, String),
    /// Field of a form body, secret.
    Form(String, String),
}

impl Credential {
    /// The secret's name.
    pub fn secret(&self) -> &str {
        match self {
            Credential::Bearer(name)
            | Credential::Basic(_, name)
            | Credential::Header(_, name)
            | Credential::Query(_, name)
            | Credential::Form(_, name) => name,
        }
    }
}

/// A request in the making; nothing leaves before [`send`](Request::send).
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `.send()`"]
pub struct Request {
    pub(crate) method: String,
    pub(crate) target: Target,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) credentials: Vec<Credential>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) key: Option<String>,
    /// The first mistake made while building; `send` returns it.
    fault: Option<String>,
}

// === building ===

impl Request {
    /// A JSON body, with its content type.
    pub fn json<T: Serialize + ?Sized>(self, body: &T) -> Request {
        match serde_json::to_vec(body) {
            Ok(bytes) => self.body("application/json", bytes),
            Err(why) => self.faulty(format!("the body cannot be written as JSON: {why}")),
        }
    }

    /// A form body, with its content type.
    pub fn form<K: AsRef<str>, V: AsRef<str>>(self, fields: impl IntoIterator<Item = (K, V)>) -> Request {
        let body = form_encoded(fields);
        self.body("application/x-www-form-urlencoded", body.into_bytes())
    }

    /// Any other body.
    pub fn body(mut self, content_type: &str, bytes: impl Into<Vec<u8>>) -> Request {
        self.body = Some(bytes.into());
        self.header("content-type", content_type)
    }

    /// A header. The content type is replaced, every other one added.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Request {
        let name = name.to_ascii_lowercase();
        if name == "content-type" {
            self.headers.retain(|(known, _)| *known != name);
        }
        self.headers.push((name, value.into()));
        self
    }

    /// A query parameter, added to the URL.
    pub fn query(mut self, name: &str, value: impl AsRef<str>) -> Request {
        let Target::Url(url) = &mut self.target else {
            return self.faulty("a secret URL takes no query parameter".to_owned());
        };
        let fragment = url.find('#').map(|at| url.split_off(at)).unwrap_or_default();
        let joint = match url.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some(_) => "&",
        };
        *url += joint;
        *url += &form_encoded([(name, value)]);
        *url += &fragment;
        self
    }

    /// `Authorization: Bearer`, with the secret of that name.
    pub fn bearer(self, secret: &str) -> Request {
        self.credential(Credential::Bearer(secret.to_owned()))
    }

    /// `Authorization: Basic`, with this user and the secret of that name for a password.
    pub fn basic(self, user: &str, secret: &str) -> Request {
        self.credential(Credential::Basic(user.to_owned(), secret.to_owned()))
    }

    /// A header whose value is the secret of that name.
    pub fn secret_header(self, header: &str, secret: &str) -> Request {
        self.credential(Credential::Header(header.to_ascii_lowercase(), secret.to_owned()))
    }

    /// A query parameter whose value is the secret of that name.
    pub fn secret_query(self, parameter: &str, secret: &str) -> Request {
        self.credential(Credential::Query(parameter.to_owned(), secret.to_owned()))
    }

    /// A field of the [form](Request::form) whose value is the secret of that name.
    pub fn secret_form(self, field: &str, secret: &str) -> Request {
        self.credential(Credential::Form(field.to_owned(), secret.to_owned()))
    }

    fn credential(mut self, credential: Credential) -> Request {
        self.credentials.push(credential);
        self
    }

    /// How long to wait for the answer. The handler's own limit holds anyway.
    pub fn timeout(mut self, timeout: Duration) -> Request {
        self.timeout = Some(timeout);
        self
    }

    /// Names this call within its delivery, whatever its bytes: the same in every attempt, different for each
    /// call. Once the daemon records calls, what happened under a key is not sent again for this delivery; in
    /// this version each attempt sends it, and the key is only shown in the history.
    pub fn key(mut self, key: impl Into<String>) -> Request {
        self.key = Some(key.into());
        self
    }

    /// Sends the request and waits for the answer, of whatever status.
    ///
    /// # Errors
    /// There is no answer. `?` makes it a retry where trying again can help; see [`Fault`].
    pub fn send(self) -> Result<Response, Error> {
        let call = format!("{} {}", self.method, self.target);
        if let Some(fault) = self.fault {
            return Err(Error { call, fault: Fault::InvalidRequest(fault) });
        }
        match host::send(self) {
            Ok(raw) => Ok(Response { call, raw }),
            Err(fault) => Err(Error { call, fault }),
        }
    }

    fn faulty(mut self, why: String) -> Request {
        self.fault.get_or_insert(why);
        self
    }
}

/// `application/x-www-form-urlencoded`, as browsers write it.
fn form_encoded<K: AsRef<str>, V: AsRef<str>>(fields: impl IntoIterator<Item = (K, V)>) -> String {
    let mut out = String::new();
    for (name, value) in fields {
        if !out.is_empty() {
            out.push('&');
        }
        push_encoded(&mut out, name.as_ref());
        out.push('=');
        push_encoded(&mut out, value.as_ref());
    }
    out
}

fn push_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => write!(out, "%{byte:02X}").expect("writing to a string cannot fail"),
        }
    }
}

// === answers ===

/// What the host gives for an answer.
#[derive(Clone, Debug)]
pub(crate) struct RawResponse {
    pub(crate) call: u32,
    pub(crate) recorded: bool,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// An answer, of whatever status.
#[derive(Clone, Debug)]
pub struct Response {
    /// Method and target, for messages.
    call: String,
    raw: RawResponse,
}

impl Response {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.raw.status
    }

    /// 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.raw.status)
    }

    /// The answer comes from the record of an earlier attempt, and nothing was sent.
    pub fn recorded(&self) -> bool {
        self.raw.recorded
    }

    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        event::find(&self.raw.headers, name)
    }

    /// All headers, in order.
    pub fn headers(&self) -> &[(String, String)] {
        &self.raw.headers
    }

    /// The body.
    pub fn bytes(&self) -> &[u8] {
        &self.raw.body
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.raw.body)
    }

    /// The body as a type of the plugin's own.
    ///
    /// # Errors
    /// It is not JSON of that form; `?` makes it a reject.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        event::from_slice(&self.raw.body, || format!("the answer of {}", self.call))
    }

    /// How long the answer asks to wait, in seconds or by a date.
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after::wait(self.header("retry-after"), self.header("date"))
    }

    /// This answer, if it is a 2xx.
    ///
    /// # Errors
    /// It is not: `?` makes 408, 425, 429 and 5xx a retry that honours `Retry-After`, everything else a reject.
    pub fn ok(self) -> Result<Response, StatusError> {
        if self.is_success() { Ok(self) } else { Err(StatusError { response: self }) }
    }

    /// The status said yes, the content said no: nothing happened, send this call again on the next attempt.
    /// Then return [`retry`](crate::outcome::retry) or [`reject`](crate::outcome::reject).
    pub fn disown(&self) {
        host::disown(self.raw.call);
    }

    /// The failure that a plugin makes of this answer: call, status, its own words, and the beginning of the
    /// body. A retry where the status is [transient](is_transient), a reject otherwise.
    pub fn failure(&self, why: &str) -> Failure {
        let reason = format!("{} answered {}{}{}", self.call, self.raw.status, joined(why), self.excerpt());
        if is_transient(self.raw.status) {
            Failure::retry(reason).after(self.retry_after())
        } else {
            Failure::reject(reason)
        }
    }

    /// `: invalid_payload`; nothing where the body is empty or not text.
    fn excerpt(&self) -> String {
        let Ok(text) = std::str::from_utf8(&self.raw.body) else { return String::new() };
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut chars = words.chars();
        let start: String = chars.by_ref().take(EXCERPT_CHARS_MAX).collect();
        let end = if chars.next().is_some() { "…" } else { "" };
        joined(&(start + end))
    }
}

fn joined(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

/// Whether a call that was answered so is worth sending again: 408, 425, 429 and 5xx.
pub fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

/// An answer that is not a 2xx.
#[derive(Clone, Debug)]
pub struct StatusError {
    /// The answer.
    pub response: Response,
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Failure::from(self.clone()).reason())
    }
}

impl std::error::Error for StatusError {}

impl From<StatusError> for Failure {
    fn from(error: StatusError) -> Failure {
        let why = match error.response.status() {
            300..400 => "redirects are not followed",
            _ => "",
        };
        error.response.failure(why)
    }
}

// === no answer ===

/// A call without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Method and target.
    pub call: String,
    /// Why.
    pub fault: Fault,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not sent: scheme, origin, port, method, path or resolved address is not granted. A reject.
    Denied(String),
    /// Not sent: it is not a valid request. A reject.
    InvalidRequest(String),
    /// Not sent: its body is over the host's cap. A reject.
    RequestTooLarge,
    /// Not sent: the name does not resolve. A retry.
    Dns(String),
    /// Not sent: no connection. A retry.
    Connect(String),
    /// Not sent: no TLS session. A retry.
    Tls(String),
    /// Not sent: the attempt's budget of calls or bytes is used up. A reject, since the next attempt has no more.
    Limit(String),
    /// Not sent: the host cannot now. A retry.
    Unavailable(String),
    /// Perhaps sent, perhaps acted on: no answer in time. A retry.
    Timeout,
    /// Perhaps sent, perhaps acted on: the answer is broken. A retry.
    Protocol(String),
    /// It happened: this status came, with a body over the host's cap. A retry where the status is
    /// [transient](is_transient), a reject otherwise; a plugin that needs no body can take a 2xx for done.
    ResponseTooLarge(u16),
}

impl Error {
    /// The other side may have acted on the call.
    pub fn perhaps_sent(&self) -> bool {
        matches!(self.fault, Fault::Timeout | Fault::Protocol(_) | Fault::ResponseTooLarge(_))
    }

    /// The other side said 2xx, and its answer was too large to be handed over.
    pub fn happened(&self) -> bool {
        matches!(self.fault, Fault::ResponseTooLarge(200..300))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Denied(why) => write!(f, "denied: {why}"),
            Fault::InvalidRequest(why) => write!(f, "not a valid request: {why}"),
            Fault::RequestTooLarge => write!(f, "the request is too large"),
            Fault::Dns(why) => write!(f, "the name does not resolve: {why}"),
            Fault::Connect(why) => write!(f, "no connection: {why}"),
            Fault::Tls(why) => write!(f, "no TLS session: {why}"),
            Fault::Limit(why) => write!(f, "over the attempt's budget: {why}"),
            Fault::Unavailable(why) => write!(f, "the host cannot send now: {why}"),
            Fault::Timeout => write!(f, "no answer in time; the call may have been acted on"),
            Fault::Protocol(why) => write!(f, "a broken answer: {why}; the call may have been acted on"),
            Fault::ResponseTooLarge(status) => {
                write!(f, "answered {status}, with a body too large to hand over")
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.fault)
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let transient = match error.fault {
            Fault::Dns(_)
            | Fault::Connect(_)
            | Fault::Tls(_)
            | Fault::Unavailable(_)
            | Fault::Timeout
            | Fault::Protocol(_) => true,
            Fault::Denied(_) | Fault::InvalidRequest(_) | Fault::RequestTooLarge | Fault::Limit(_) => false,
            Fault::ResponseTooLarge(status) => is_transient(status),
        };
        let reason = error.to_string();
        if transient { Failure::retry(reason) } else { Failure::reject(reason) }
    }
}
