//! A fake host: the plugin's tests run natively, with `cargo test`.
//!
//! ```
//! use longshore_sdk::prelude::*;
//! use longshore_sdk::testing::{Answer, Host, event};
//!
//! longshore_sdk::plugin! {
//!     origins: ["https://chat.example.com"],
//!     settings: [text("room").required(), secret("token").required()],
//!     handle: |event| {
//!         let room = settings::require("room")?;
//!         let url = format!("https://chat.example.com/rooms/{room}");
//!         http::post(url).bearer("token").json(&event.value()?).key("post").send()?.ok()?;
//!         done("posted")
//!     },
//! }
//! # fn main() {
//!
//! let host = Host::of(&PLUGIN); // its origins are granted, its defaults apply
//! host.setting("room", "sales").secret("token");
//! host.answer(Answer::new(503)).answer(204);
//!
//! let failure = host.deliver(event("lead.updated", json!({ "id": 1 }))).unwrap_err();
//! assert!(failure.is_retry());
//! assert_eq!(host.deliver(event("lead.updated", json!({ "id": 1 }))), done("posted"));
//!
//! let call = &host.calls()[1];
//! assert_eq!(call.url(), "https://chat.example.com/rooms/sales");
//! assert_eq!(call.json(), json!({ "id": 1 }));
//! # }
//! ```
//!
//! The host belongs to the test's thread, so tests run in parallel. It does what the contract says of a
//! call: writes to state are dropped when the attempt fails; a call that happened is answered from its record when
//! the same delivery comes again; an origin that is not granted and a secret that is not given are denied; a setting
//! that the manifest does not declare is a mistake of the test.
//!
//! Each answer may also be computed:
//!
//! ```
//! use longshore_sdk::http;
//! use longshore_sdk::testing::{Answer, Host};
//!
//! let host = Host::new();
//! host.grant("https://api.example.com");
//! host.answer_with(|call| match call.url() {
//!     "https://api.example.com/a" => Answer::from((200, "yes")),
//!     _ => Answer::from(http::Fault::Timeout),
//! });
//! assert_eq!(http::get("https://api.example.com/a").send().unwrap().text(), "yes");
//! assert!(http::get("https://api.example.com/b").send().unwrap_err().perhaps_sent());
//! ```

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::event::{self, Event};
use crate::http::{Credential, Fault, RawResponse, Request, Target};
use crate::log::Level;
use crate::manifest::{Setting, SettingKind};
use crate::outcome::{Failure, Outcome};
use crate::plugin::Plugin;

/// An event as a test needs it: id `evt_test`, source `test`, received at a fixed time, first attempt.
///
/// What a test needs otherwise it writes over: `Event { attempt: 9, ..event("message.received", body) }`.
pub fn event(event_type: &str, body: Value) -> Event {
    Event {
        id: "evt_test".to_owned(),
        event_type: event_type.to_owned(),
        source: "test".to_owned(),
        delivery_id: "0.test".to_owned(),
        received_at_ms: 1_700_000_000_000,
        signed_at_ms: None,
        attempt: 1,
        budget_ms: 10_000,
        query: None,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.to_string().into_bytes(),
        attributes: vec![("subscription".to_owned(), "test".to_owned())],
    }
}

/// A fake host, for as long as it lives, of the thread that made it.
pub struct Host {
    plugin: Option<&'static Plugin>,
    inner: Rc<RefCell<Inner>>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<RefCell<Inner>>>> = const { RefCell::new(None) };
}

type Answering = Box<dyn FnMut(&Call) -> Answer>;

#[derive(Default)]
struct Inner {
    settings: Map<String, Value>,
    secrets: BTreeSet<String>,
    origins: BTreeSet<String>,
    answers: VecDeque<Answer>,
    answering: Option<Answering>,
    calls: Vec<Call>,
    logs: Vec<Line>,
    state: BTreeMap<String, Entry>,
    /// Names the delivery whose attempt runs now; outside of one nothing is recorded.
    delivery: Option<String>,
    /// How often each call without a key was made in this attempt.
    made: BTreeMap<String, u32>,
    happened: BTreeMap<(String, String), Happened>,
}

#[derive(Clone)]
struct Entry {
    value: Vec<u8>,
    ttl: Option<Duration>,
}

struct Happened {
    call: u32,
    answer: Result<RawResponse, Fault>,
}

// === arranging ===

impl Host {
    /// A host that knows no plugin: it denies every origin that was not [granted](Host::grant).
    #[allow(clippy::new_without_default)]
    pub fn new() -> Host {
        let inner = Rc::new(RefCell::new(Inner::default()));
        CURRENT.set(Some(Rc::clone(&inner)));
        Host { plugin: None, inner }
    }

    /// A host for this plugin: its origins are granted and its defaults apply.
    ///
    /// # Panics
    /// A declared default is not of its setting's kind; the daemon would not load the plugin.
    pub fn of(plugin: &'static Plugin) -> Host {
        let mut host = Host::new();
        let manifest = plugin.manifest();
        {
            let mut inner = host.inner.borrow_mut();
            inner.origins.extend(manifest.origins);
            inner.settings.extend(manifest.settings.iter().filter_map(default_of));
        }
        host.plugin = Some(plugin);
        host
    }

    /// Writes a setting: a string, a number, `true`, or `json!(…)`.
    ///
    /// # Panics
    /// The plugin's manifest does not declare it.
    pub fn setting(&self, key: &str, value: impl Into<Value>) -> &Host {
        self.check_declared(key, false);
        self.inner.borrow_mut().settings.insert(key.to_owned(), value.into());
        self
    }

    /// Gives a secret, by name; it has no value, since no plugin can see one.
    ///
    /// # Panics
    /// The plugin's manifest does not declare it.
    pub fn secret(&self, name: &str) -> &Host {
        self.check_declared(name, true);
        self.inner.borrow_mut().secrets.insert(name.to_owned());
        self
    }

    fn check_declared(&self, key: &str, secret: bool) {
        let Some(plugin) = self.plugin else { return };
        let known = plugin.manifest().settings;
        let declared = known.iter().any(|s| s.key == key && (s.kind == SettingKind::Secret) == secret);
        let what = if secret { "secret" } else { "setting" };
        assert!(declared, "the plugin declares no {what} `{key}`: add it to `settings:` of `plugin!`");
    }

    /// Grants an origin beyond those of the manifest: `http://127.0.0.1:8081`.
    pub fn grant(&self, origin: &str) -> &Host {
        self.inner.borrow_mut().origins.insert(origin.to_owned());
        self
    }

    /// The answer to the next call that has none yet.
    pub fn answer(&self, answer: impl Into<Answer>) -> &Host {
        self.inner.borrow_mut().answers.push_back(answer.into());
        self
    }

    /// Computes the answer to every call for which none was queued. It must not call the SDK.
    pub fn answer_with(&self, answering: impl FnMut(&Call) -> Answer + 'static) -> &Host {
        self.inner.borrow_mut().answering = Some(Box::new(answering));
        self
    }

    /// Writes a value to the handler's state, as an earlier delivery would have.
    ///
    /// # Panics
    /// The value is not JSON.
    pub fn set_state<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> &Host {
        let value = serde_json::to_vec(value).expect("a test's state value is JSON");
        self.inner.borrow_mut().state.insert(key.to_owned(), Entry { value, ttl: None });
        self
    }
}

/// A declared default, as the value that an operator would have written.
fn default_of(setting: &Setting) -> Option<(String, Value)> {
    let text = setting.default.as_ref()?;
    let value = match setting.kind {
        SettingKind::Text => Value::String(text.clone()),
        SettingKind::Number | SettingKind::Boolean | SettingKind::Json => serde_json::from_str(text)
            .unwrap_or_else(|why| panic!("the default of setting `{}` is not valid: {why}", setting.key)),
        SettingKind::Secret => panic!("secret `{}` has a default; a secret can have none", setting.key),
    };
    Some((setting.key.clone(), value))
}

// === acting ===

impl Host {
    /// One attempt by the plugin that [`Host::of`] was given.
    ///
    /// # Errors
    /// What the plugin returned.
    ///
    /// # Panics
    /// This host knows no plugin.
    pub fn deliver(&self, event: Event) -> Result<Outcome, Failure> {
        let plugin =
            self.plugin.expect("`deliver` needs `Host::of(&PLUGIN)`; a function runs with `host.call`");
        self.call(|event| plugin.handle(event), event)
    }

    /// One attempt by any function.
    ///
    /// # Errors
    /// What the function returned.
    pub fn call(
        &self,
        handle: impl FnOnce(Event) -> Result<Outcome, Failure>,
        event: Event,
    ) -> Result<Outcome, Failure> {
        let before = {
            let mut inner = self.inner.borrow_mut();
            inner.delivery = Some(event.delivery_id.clone());
            inner.made.clear();
            inner.state.clone()
        };
        let result = handle(event);
        let mut inner = self.inner.borrow_mut();
        inner.delivery = None;
        if result.is_err() {
            inner.state = before;
        }
        result
    }
}

// === looking ===

impl Host {
    /// Every call so far, those answered from the record too.
    pub fn calls(&self) -> Vec<Call> {
        self.inner.borrow().calls.clone()
    }

    /// Every line logged so far.
    pub fn logs(&self) -> Vec<Line> {
        self.inner.borrow().logs.clone()
    }

    /// The value under a key of the handler's state.
    ///
    /// # Panics
    /// It is not JSON.
    pub fn state(&self, key: &str) -> Option<Value> {
        let inner = self.inner.borrow();
        let entry = inner.state.get(key)?;
        Some(serde_json::from_slice(&entry.value).expect("the value is JSON; see `state_bytes`"))
    }

    /// The bytes under a key of the handler's state, and when they go away.
    pub fn state_bytes(&self, key: &str) -> Option<(Vec<u8>, Option<Duration>)> {
        self.inner.borrow().state.get(key).map(|entry| (entry.value.clone(), entry.ttl))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(|current| {
            if current.as_ref().is_some_and(|inner| Rc::ptr_eq(inner, &self.inner)) {
                *current = None;
            }
        });
    }
}

/// What a call is answered with: a status, a status with a text or JSON body, or a fault.
#[derive(Clone, Debug)]
pub struct Answer(Result<RawResponse, Fault>);

impl Answer {
    /// A status with no body.
    pub fn new(status: u16) -> Answer {
        Answer(Ok(RawResponse { call: 0, recorded: false, status, headers: Vec::new(), body: Vec::new() }))
    }

    /// The same answer with one more header.
    ///
    /// # Panics
    /// It is a fault.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Answer {
        let answer = self.0.as_mut().expect("a fault has no headers");
        answer.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// The same answer with this body.
    ///
    /// # Panics
    /// It is a fault.
    #[must_use]
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Answer {
        self.0.as_mut().expect("a fault has no body").body = bytes.into();
        self
    }
}

impl From<u16> for Answer {
    fn from(status: u16) -> Answer {
        Answer::new(status)
    }
}

impl From<(u16, &str)> for Answer {
    fn from((status, text): (u16, &str)) -> Answer {
        Answer::new(status).header("content-type", "text/plain").body(text)
    }
}

impl From<(u16, Value)> for Answer {
    fn from((status, json): (u16, Value)) -> Answer {
        Answer::new(status).header("content-type", "application/json").body(json.to_string())
    }
}

impl From<Fault> for Answer {
    fn from(fault: Fault) -> Answer {
        Answer(Err(fault))
    }
}

/// A call that the plugin made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `POST`
    pub method: String,
    /// Where it went.
    pub target: Target,
    /// Names are lower-case.
    pub headers: Vec<(String, String)>,
    /// The bytes, if there were any.
    pub body: Option<Vec<u8>>,
    /// The secrets it used.
    pub credentials: Vec<Credential>,
    /// How long it would have waited.
    pub timeout: Option<Duration>,
    /// Its name within the delivery.
    pub key: Option<String>,
    /// It was answered from the record of an earlier attempt.
    pub recorded: bool,
    /// The plugin disowned its answer.
    pub disowned: bool,
}

impl Call {
    /// Its URL; for a secret one the secret's name.
    pub fn url(&self) -> &str {
        match &self.target {
            Target::Url(url) => url,
            Target::SecretUrl(name) => name,
        }
    }

    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        event::find(&self.headers, name)
    }

    /// Its body as text; empty where there was none.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.body.as_deref().unwrap_or_default()).into_owned()
    }

    /// Its body as JSON.
    ///
    /// # Panics
    /// It is not.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text()).expect("the call's body is JSON")
    }
}

/// A line that the plugin logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How much it matters.
    pub level: Level,
    /// The sentence.
    pub message: String,
    /// The values.
    pub fields: Vec<(String, String)>,
}

impl Line {
    /// A line at [`Level::Info`], to compare with.
    pub fn info(message: &str) -> Line {
        Line { level: Level::Info, message: message.to_owned(), fields: Vec::new() }
    }

    /// A line at [`Level::Warn`], to compare with.
    pub fn warn(message: &str) -> Line {
        Line { level: Level::Warn, ..Line::info(message) }
    }

    /// The same line with one more field.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Line {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The host's functions, as the modules of this crate call them.
pub(crate) mod host {
    use super::*;
    use crate::state::Error;

    /// The daemon's caps, so that a test meets them too.
    const STATE_KEY_BYTES_MAX: usize = 512;
    const STATE_VALUE_BYTES_MAX: usize = 256 << 10;
    const STATE_LIST_MAX: u32 = 1000;

    pub(crate) fn log(level: Level, message: &str, fields: Vec<(String, String)>) {
        // A test of a single function may log without a host.
        if CURRENT.with_borrow(Option::is_some) {
            current(|inner| inner.logs.push(Line { level, message: message.to_owned(), fields }));
        }
    }

    pub(crate) fn setting(key: &str) -> Option<String> {
        current(|inner| {
            inner.settings.get(key).map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
        })
    }

    pub(crate) fn settings() -> String {
        current(|inner| Value::Object(inner.settings.clone()).to_string())
    }

    pub(crate) fn state_get(key: &str) -> Result<Option<Vec<u8>>, Error> {
        current(|inner| Ok(inner.state.get(key).map(|entry| entry.value.clone())))
    }

    pub(crate) fn state_set(key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Error> {
        if key.len() > STATE_KEY_BYTES_MAX || value.len() > STATE_VALUE_BYTES_MAX {
            return Err(Error::TooLarge);
        }
        current(|inner| inner.state.insert(key.to_owned(), Entry { value, ttl }));
        Ok(())
    }

    pub(crate) fn state_delete(key: &str) -> Result<(), Error> {
        current(|inner| inner.state.remove(key));
        Ok(())
    }

    pub(crate) fn state_add(key: &str, delta: i64, ttl: Option<Duration>) -> Result<(), Error> {
        let now = match state_get(key)? {
            None => 0,
            Some(bytes) => std::str::from_utf8(&bytes)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or_else(|| Error::Unavailable(format!("`{key}` is not a counter")))?,
        };
        state_set(key, now.saturating_add(delta).to_string().into_bytes(), ttl)
    }

    pub(crate) fn state_list(prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>, Error> {
        let limit = limit.min(STATE_LIST_MAX) as usize;
        current(|inner| {
            let keys = inner.state.keys().filter(|key| key.starts_with(prefix));
            let later = keys.filter(|key| after.is_none_or(|after| key.as_str() > after));
            Ok(later.take(limit).cloned().collect())
        })
    }

    pub(crate) fn send(request: Request) -> Result<RawResponse, Fault> {
        let mut call = Call {
            method: request.method,
            target: request.target,
            headers: request.headers,
            body: request.body,
            credentials: request.credentials,
            timeout: request.timeout,
            key: request.key,
            recorded: false,
            disowned: false,
        };
        let number = current(|inner| u32::try_from(inner.calls.len()).expect("a test makes few calls"));
        let name = current(|inner| inner.name(&call));
        let result = match current(|inner| inner.refusal(&call)) {
            Some(fault) => Err(fault),
            None => match current(|inner| inner.record(name.as_ref())) {
                Some(answer) => {
                    call.recorded = true;
                    answer
                }
                None => answer(&call),
            },
        };
        current(|inner| {
            if let Some(name) = name.filter(|_| !call.recorded && did_happen(&call, &result)) {
                inner.happened.insert(name, Happened { call: number, answer: result.clone() });
            }
            let recorded = call.recorded;
            inner.calls.push(call);
            result.map(|answer| RawResponse { call: number, recorded, ..answer })
        })
    }

    pub(crate) fn disown(call: u32) {
        current(|inner| {
            if let Some(call) = inner.calls.get_mut(call as usize) {
                call.disowned = true;
            }
            inner.happened.retain(|_, happened| happened.call != call);
        });
    }

    fn current<T>(act: impl FnOnce(&mut Inner) -> T) -> T {
        let inner = CURRENT.with_borrow(|current| {
            current.clone().expect(
                "no host on this thread: begin the test with `let host = longshore_sdk::testing::Host::new();`",
            )
        });
        act(&mut inner.borrow_mut())
    }

    /// The next queued answer, or the computed one.
    fn answer(call: &Call) -> Result<RawResponse, Fault> {
        let queued = current(|inner| inner.answers.pop_front());
        let answer = queued.or_else(|| {
            // Taken out while it runs, so that it may look at the host.
            let mut answering = current(|inner| inner.answering.take())?;
            let answer = answering(call);
            current(|inner| {
                inner.answering.get_or_insert(answering);
            });
            Some(answer)
        });
        let Some(Answer(answer)) = answer else {
            panic!("no answer for {} {}: queue one with `host.answer(…)`", call.method, call.target);
        };
        answer
    }

    fn is_unsafe(call: &Call) -> bool {
        !matches!(call.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }

    fn did_happen(call: &Call, result: &Result<RawResponse, Fault>) -> bool {
        let status = match result {
            Ok(answer) => answer.status,
            Err(Fault::ResponseTooLarge(status)) => *status,
            Err(_) => return false,
        };
        is_unsafe(call) && matches!(status, 200..300 | 303)
    }

    impl Inner {
        /// What recognises an unsafe call: the delivery, and the key or the bytes with the count of equal ones.
        fn name(&mut self, call: &Call) -> Option<(String, String)> {
            let delivery = self.delivery.clone()?;
            if !is_unsafe(call) {
                return None;
            }
            if let Some(key) = &call.key {
                return Some((delivery, format!("key {key}")));
            }
            let content_type = call.header("content-type").unwrap_or_default();
            let bytes =
                format!("{} {:?} {content_type} {:?}", call.method, call.target, call.body.as_deref());
            let count = self.made.entry(bytes.clone()).or_insert(0);
            *count += 1;
            Some((delivery, format!("{count} {bytes}")))
        }

        fn record(&self, name: Option<&(String, String)>) -> Option<Result<RawResponse, Fault>> {
            self.happened.get(name?).map(|happened| happened.answer.clone())
        }

        fn refusal(&self, call: &Call) -> Option<Fault> {
            let needed = call.credentials.iter().map(Credential::secret);
            let url_secret = match &call.target {
                Target::SecretUrl(name) => Some(name.as_str()),
                Target::Url(_) => None,
            };
            if let Some(name) = needed.chain(url_secret).find(|name| !self.secrets.contains(*name)) {
                return Some(Fault::Denied(format!("this handler has no secret `{name}`")));
            }
            let Target::Url(url) = &call.target else { return None };
            let Some(origin) = origin(url) else {
                return Some(Fault::InvalidRequest(format!("`{url}` is not an http or https URL")));
            };
            let granted = self.origins.contains(origin);
            (!granted).then(|| Fault::Denied(format!("origin {origin} is not granted")))
        }
    }

    /// `https://api.example.com` of `https://api.example.com/a?b`
    fn origin(url: &str) -> Option<&str> {
        let (scheme, rest) = url.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty())?;
        matches!(scheme, "http" | "https").then(|| &url[..scheme.len() + 3 + host.len()])
    }
}
