//! Structured lines in the delivery's history. The daemon adds handler, event, delivery and attempt.
//!
//! Values go into fields, the sentence stays the same, and so it can be searched for:
//!
//! ```
//! use longshore_sdk::log;
//! use longshore_sdk::testing::{Host, Line};
//!
//! let host = Host::new();
//! let channel = "#sales";
//! log::info!(channel, status = 200, "posted");
//! assert_eq!(host.logs(), [Line::info("posted").field("channel", "#sales").field("status", "200")]);
//! ```
//!
//! Or formatted, as `println!` does it; what a plugin prints is kept too, without a level:
//!
//! ```
//! use longshore_sdk::log;
//! use longshore_sdk::testing::Host;
//!
//! let host = Host::new();
//! let tries = 3;
//! log::warn!("the contact was locked {tries} times, {} left", 5 - tries);
//! assert_eq!(host.logs()[0].message, "the contact was locked 3 times, 2 left");
//! println!("kept in the attempt's log as well");
//! ```
//!
//! No secret can get into a line: the plugin has none. A person's data can; log ids rather than names.

use crate::host;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For whoever debugs the plugin.
    Debug,
    /// What happened.
    Info,
    /// Worth a look.
    Warn,
    /// Somebody must act.
    Error,
}

/// One line; the macros call this.
pub fn line(level: Level, message: &str, fields: Vec<(String, String)>) {
    host::log(level, message, fields);
}

pub use crate::{debug, error, info, trace, warn};

/// Logs at [`Level::Trace`].
#[macro_export]
macro_rules! trace { ($($line:tt)+) => { $crate::__log!(Trace, $($line)+) } }

/// Logs at [`Level::Debug`].
#[macro_export]
macro_rules! debug { ($($line:tt)+) => { $crate::__log!(Debug, $($line)+) } }

/// Logs at [`Level::Info`].
#[macro_export]
macro_rules! info { ($($line:tt)+) => { $crate::__log!(Info, $($line)+) } }

/// Logs at [`Level::Warn`].
#[macro_export]
macro_rules! warn { ($($line:tt)+) => { $crate::__log!(Warn, $($line)+) } }

/// Logs at [`Level::Error`].
#[macro_export]
macro_rules! error { ($($line:tt)+) => { $crate::__log!(Error, $($line)+) } }

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $($key:ident $(= $value:expr)?,)* $message:literal $(, $arg:expr)* $(,)?) => {
        $crate::log::line(
            $crate::log::Level::$level,
            &::std::format!($message $(, $arg)*),
            ::std::vec![$(
                (::std::string::String::from(::core::stringify!($key)), $crate::__field!($key $(, $value)?)),
            )*],
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __field {
    ($key:ident) => {
        ::std::string::ToString::to_string(&$key)
    };
    ($key:ident, $value:expr) => {
        ::std::string::ToString::to_string(&$value)
    };
}
