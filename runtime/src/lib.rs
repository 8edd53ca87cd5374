//! Longshore: an integration runtime for webhooks.
//!
//! The map, in reading order. A webhook comes in, is proved genuine, is written down, is answered, and is then
//! carried to the plugins that asked for it until each has said yes, no or later:
//!
//! ```text
//! TCP - read - verify - identify - route - accept - answer        the sender waits: milliseconds
//!                                             | durable
//!                                             +- lease - call - settle      nobody waits: retries live here
//! ```

pub mod words;

// Pure: no clock, no I/O, no async.
pub mod backoff;
pub mod route;
pub mod verify;

// Effects.
pub mod host;
pub mod store;

// Flows.
pub mod admin;
pub mod dispatch;
pub mod intake;
pub mod metrics;
pub mod replay;
pub mod torture;

// Assembly.
pub mod app;
pub mod cli;
pub mod config;
