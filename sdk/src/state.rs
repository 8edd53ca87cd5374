//! A small durable key-value store, private to the configured handler.
//!
//! Writes take effect together when the attempt ends in done or skipped; a failed attempt leaves no trace. Reads
//! see the attempt's own writes. State does not guard an outbound call against another delivery that runs at the
//! same time: for that, the called service needs a key.
//!
//! A value of any type that is JSON, here with an end:
//!
//! ```
//! use std::time::Duration;
//! use longshore_sdk::prelude::*;
//!
//! fn handle(event: Event) -> Result<Outcome, Failure> {
//!     let key = format!("told/{}", event.source);
//!     if state::get::<String>(&key)?.is_some() {
//!         return skip("told within the last hour");
//!     }
//!     state::set_for(&key, &event.id, Duration::from_secs(3600))?;
//!     done("told")
//! }
//! # use longshore_sdk::testing::{Host, event};
//! # let host = Host::new();
//! # assert_eq!(host.call(handle, event("a", json!({}))), done("told"));
//! # assert_eq!(host.call(handle, event("a", json!({}))), skip("told within the last hour"));
//! ```
//!
//! Counters, which many deliveries may add to at once, and keys by their beginning:
//!
//! ```
//! use longshore_sdk::prelude::*;
//!
//! fn handle(event: Event) -> Result<Outcome, Failure> {
//!     state::add(&format!("count/{}", event.event_type), 1)?;
//!     let mut lines = Vec::new();
//!     for key in state::keys("count/")? {
//!         lines.push(format!("{key}={}", state::count(&key)?));
//!     }
//!     done(lines.join(" "))
//! }
//! # use longshore_sdk::testing::{Host, event};
//! # let host = Host::new();
//! # host.call(handle, event("b", json!({}))).unwrap();
//! # host.call(handle, event("a", json!({}))).unwrap();
//! # assert_eq!(host.call(handle, event("b", json!({}))), done("count/a=1 count/b=2"));
//! ```

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host;
use crate::outcome::Failure;

/// Keys asked for at once by [`keys`].
const PAGE: u32 = 500;

/// The value under a key, if there is one.
///
/// # Errors
/// State is unavailable, or the value is not of that form.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    get_bytes(key)?
        .map(|bytes| {
            serde_json::from_slice(&bytes).map_err(|why| Error::Json(key.to_owned(), why.to_string()))
        })
        .transpose()
}

/// Writes a value, for good.
///
/// # Errors
/// State is unavailable or full, or the value is too large.
pub fn set<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), Error> {
    host::state_set(key, to_bytes(key, value)?, None)
}

/// Writes a value that goes away after `ttl`.
///
/// # Errors
/// State is unavailable or full, or the value is too large.
pub fn set_for<T: Serialize + ?Sized>(key: &str, value: &T, ttl: Duration) -> Result<(), Error> {
    host::state_set(key, to_bytes(key, value)?, Some(ttl))
}

fn to_bytes<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|why| Error::Json(key.to_owned(), why.to_string()))
}

/// The bytes under a key, if there are any.
///
/// # Errors
/// State is unavailable.
pub fn get_bytes(key: &str) -> Result<Option<Vec<u8>>, Error> {
    host::state_get(key)
}

/// Writes bytes.
///
/// # Errors
/// State is unavailable or full, or the value is too large.
pub fn set_bytes(key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Error> {
    host::state_set(key, value, ttl)
}

/// Removes a key; one that is not there is no error.
///
/// # Errors
/// State is unavailable.
pub fn delete(key: &str) -> Result<(), Error> {
    host::state_delete(key)
}

/// Adds to a counter. Absent counts as 0; additions of deliveries that run at once are all counted.
///
/// # Errors
/// State is unavailable or full.
pub fn add(key: &str, delta: i64) -> Result<(), Error> {
    host::state_add(key, delta, None)
}

/// Adds to a counter that goes away after `ttl`.
///
/// # Errors
/// State is unavailable or full.
pub fn add_for(key: &str, delta: i64, ttl: Duration) -> Result<(), Error> {
    host::state_add(key, delta, Some(ttl))
}

/// What a counter stands at; absent counts as 0. Reading it makes the attempt depend on it, adding does not.
///
/// # Errors
/// State is unavailable, or the value is not a number.
pub fn count(key: &str) -> Result<i64, Error> {
    Ok(get(key)?.unwrap_or(0))
}

/// Every key with that beginning, in order.
///
/// # Errors
/// State is unavailable.
pub fn keys(prefix: &str) -> Result<Vec<String>, Error> {
    let mut all: Vec<String> = Vec::new();
    loop {
        let page = list(prefix, all.last().map(String::as_str), PAGE)?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

/// At most `limit` keys with that beginning, in order, those after `after`.
///
/// # Errors
/// State is unavailable.
pub fn list(prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>, Error> {
    host::state_list(prefix, after, limit)
}

/// Why state did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The key or the value is too large.
    TooLarge,
    /// The handler's store is full, or the attempt writes too often.
    Quota,
    /// Try again later.
    Unavailable(String),
    /// Key, and why its value is not of the form expected.
    Json(String, String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::TooLarge => write!(f, "state: the key or value is too large"),
            Error::Quota => write!(f, "state: the handler's store is full"),
            Error::Unavailable(why) => write!(f, "state is unavailable: {why}"),
            Error::Json(key, why) => {
                write!(f, "state: the value under `{key}` is not the JSON expected: {why}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            // A full store empties as values come to their end.
            Error::Quota | Error::Unavailable(_) => Failure::retry(error.to_string()),
            Error::TooLarge | Error::Json(..) => Failure::reject(error.to_string()),
        }
    }
}
