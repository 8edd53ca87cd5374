//! The event: one verified webhook, as handed to one subscription.
//!
//! Its body as a type of the plugin's own; JSON that does not fit is a reject:
//!
//! ```
//! use longshore_sdk::prelude::*;
//!
//! #[derive(serde::Deserialize)]
//! struct Body {
//!     data: Lead,
//! }
//!
//! #[derive(serde::Deserialize)]
//! #[serde(rename_all = "camelCase")]
//! struct Lead {
//!     lead_id: String,
//!     reply: Option<String>,
//! }
//!
//! fn handle(event: Event) -> Result<Outcome, Failure> {
//!     let Lead { lead_id, reply } = event.json::<Body>()?.data;
//!     done(format!("{lead_id} said {}", reply.unwrap_or_default()))
//! }
//!
//! use longshore_sdk::testing::event;
//! let reply = json!({ "data": { "leadId": "lead_1", "reply": "yes" } });
//! assert_eq!(handle(event("reply.received", reply)), done("lead_1 said yes"));
//!
//! let failure = handle(event("reply.received", json!({ "data": {} }))).unwrap_err();
//! assert_eq!(
//!     failure.reason(),
//!     "the body of event `evt_test` is not the JSON expected: missing field `leadId` at line 1 column 10",
//! );
//! assert!(!failure.is_retry());
//! ```
//!
//! Or as a loose value, with its headers and attributes:
//!
//! ```
//! use longshore_sdk::prelude::*;
//!
//! fn handle(event: Event) -> Result<Outcome, Failure> {
//!     if event.attribute("test").is_some() {
//!         return skip("a test event");
//!     }
//!     let url = event.value()?["data"]["linkedinUrl"].as_str().map(str::to_owned);
//!     done(format!("{} from {:?}", url.unwrap_or_default(), event.header("User-Agent")))
//! }
//!
//! let mut event = longshore_sdk::testing::event("lead.updated", json!({ "data": { "linkedinUrl": "u" } }));
//! event.headers.push(("user-agent".into(), "SendPilot".into()));
//! assert_eq!(handle(event), done("u from Some(\"SendPilot\")"));
//! ```

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::outcome::Failure;

/// One verified webhook event, as handed to one subscription.
///
/// A test takes one from [`testing::event`](crate::testing::event) and changes what matters:
/// `Event { attempt: 9, ..event("message.received", body) }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The provider's event id: the same for every redelivery of the event.
    pub id: String,
    /// Event type, e.g. `message.received`; empty where the payload has none.
    pub event_type: String,
    /// Name of the source in the configuration, e.g. `sendpilot`.
    pub source: String,
    /// Names this event for this subscription; stable across attempts and restarts.
    pub delivery_id: String,
    /// Milliseconds since the Unix epoch.
    pub received_at_ms: u64,
    /// When the provider says it signed, where the scheme signs a time.
    pub signed_at_ms: Option<u64>,
    /// 1 for the first try. Do not put it into requests: a call is recognised by its bytes.
    pub attempt: u32,
    /// Wall-clock budget of this call, in milliseconds.
    pub budget_ms: u32,
    /// Query string of the request, without `?`.
    pub query: Option<String>,
    /// Names are lower-case; a repeated header is repeated here.
    pub headers: Vec<(String, String)>,
    /// Exactly the bytes received; for one event of a batch, exactly its slice.
    pub body: Vec<u8>,
    /// `subscription`, `traceparent`, `test`, `replay-of`, …; more may appear.
    pub attributes: Vec<(String, String)>,
}

impl Event {
    /// The body as a type of the plugin's own.
    ///
    /// # Errors
    /// The body is not JSON, or not of that form; `?` makes it a reject.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        from_slice(&self.body, || format!("the body of event `{}`", self.id))
    }

    /// The body as a loose JSON value.
    ///
    /// # Errors
    /// The body is not JSON; `?` makes it a reject.
    pub fn value(&self) -> Result<Value, JsonError> {
        self.json()
    }

    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The first attribute of that name: `subscription`, `test`, …
    pub fn attribute(&self, name: &str) -> Option<&str> {
        find(&self.attributes, name)
    }
}

pub(crate) fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// JSON that is not of the expected form.
#[derive(Debug)]
pub struct JsonError {
    what: String,
    source: serde_json::Error,
}

pub(crate) fn from_slice<T: DeserializeOwned>(
    bytes: &[u8],
    what: impl FnOnce() -> String,
) -> Result<T, JsonError> {
    serde_json::from_slice(bytes).map_err(|source| JsonError { what: what(), source })
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not the JSON expected: {}", self.what, self.source)
    }
}

impl std::error::Error for JsonError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<JsonError> for Failure {
    fn from(error: JsonError) -> Failure {
        Failure::reject(error.to_string())
    }
}
