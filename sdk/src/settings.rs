//! What the operator wrote under `settings:` of this handler. Never a secret.
//!
//! Text, with the default that the plugin declared:
//!
//! ```
//! use longshore_sdk::prelude::*;
//!
//! longshore_sdk::plugin! {
//!     settings: [text("channel").default("#sales"), number("limit")],
//!     handle: |_| {
//!         let limit: u32 = settings::parse("limit")?.unwrap_or(10);
//!         done(format!("{} up to {limit}", settings::require("channel")?))
//!     },
//! }
//! # fn main() {
//! # let host = longshore_sdk::testing::Host::of(&PLUGIN);
//! # assert_eq!(host.deliver(longshore_sdk::testing::event("a", json!({}))), done("#sales up to 10"));
//! # host.setting("limit", 3).setting("channel", "#x");
//! # assert_eq!(host.deliver(longshore_sdk::testing::event("a", json!({}))), done("#x up to 3"));
//! # }
//! ```
//!
//! A list or an object as a type of the plugin's own; one that is missing or malformed is a reject that names it:
//!
//! ```
//! use std::collections::BTreeMap;
//! use longshore_sdk::prelude::*;
//! use longshore_sdk::testing::Host;
//!
//! fn fields() -> Result<BTreeMap<String, String>, Failure> {
//!     Ok(settings::json("fields")?.unwrap_or_default())
//! }
//!
//! let host = Host::new();
//! host.setting("fields", json!({ "city": "/data/city" }));
//! assert_eq!(fields().unwrap()["city"], "/data/city");
//! host.setting("fields", json!(["city"]));
//! assert!(fields().unwrap_err().reason().starts_with("setting `fields` is not valid"));
//! ```

use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::host;
use crate::outcome::Failure;

/// The setting as text: scalars as they are, lists and objects as JSON. Where the operator wrote nothing, the
/// default that the plugin declared.
pub fn get(key: &str) -> Option<String> {
    host::setting(key)
}

/// The setting, which must be there and must not be blank.
///
/// # Errors
/// It is not; `?` makes it a reject that names the setting.
pub fn require(key: &str) -> Result<String, Error> {
    get(key).filter(|value| !value.trim().is_empty()).ok_or_else(|| Error::missing(key))
}

/// The setting as anything that can be read from text: a number, a boolean, a type of the plugin's own.
///
/// # Errors
/// It is there and cannot be read.
pub fn parse<T>(key: &str) -> Result<Option<T>, Error>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    get(key).map(|text| text.trim().parse().map_err(|why| Error::invalid(key, why))).transpose()
}

/// The setting as a type of the plugin's own, read from JSON.
///
/// # Errors
/// It is there and is not of that form.
pub fn json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    get(key).map(|text| serde_json::from_str(&text).map_err(|why| Error::invalid(key, why))).transpose()
}

/// All settings at once, with declared defaults, as a type of the plugin's own.
///
/// # Errors
/// They are not of that form.
pub fn all<T: DeserializeOwned>() -> Result<T, Error> {
    serde_json::from_str(&host::settings())
        .map_err(|why| Error { key: String::new(), why: Some(why.to_string()) })
}

/// A setting that is missing, or not of the form that the plugin needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The setting's name; empty where all of them were read at once.
    pub key: String,
    why: Option<String>,
}

impl Error {
    /// The setting is not there.
    pub fn missing(key: &str) -> Error {
        Error { key: key.to_owned(), why: None }
    }

    /// The setting is there, but not usable.
    pub fn invalid(key: &str, why: impl fmt::Display) -> Error {
        Error { key: key.to_owned(), why: Some(why.to_string()) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.why {
            None => write!(f, "setting `{key}` is missing: write it under `settings` of this handler"),
            Some(why) if key.is_empty() => write!(f, "the settings are not valid: {why}"),
            Some(why) => write!(f, "setting `{key}` is not valid: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::reject(error.to_string())
    }
}
