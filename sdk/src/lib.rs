//! Write a Longshore plugin: one function and a macro.
//!
//! A plugin is a WebAssembly component that Longshore calls once for each attempt to deliver a webhook event.
//! [`plugin!`] turns one function into such a component; everything that the function may do is a module here:
//!
//! | module | what for |
//! |---|---|
//! | [`event`](mod@event) | the verified event: its id, its type, its body as typed JSON |
//! | [`outcome`] | what the call returns: done, skipped, retry, reject; what `?` means |
//! | [`http`] | outbound calls, with secrets that the plugin names and never sees |
//! | [`settings`] | what the operator wrote under `settings:` |
//! | [`state`] | a small durable key-value store, private to the handler |
//! | [`log`] | structured lines in the delivery's history |
//! | [`pointer`](mod@pointer) | values by JSON pointer, as settings name them |
//! | [`manifest`] | what the plugin asks the operator for |
//! | [`testing`] | a fake host: the plugin's tests run natively with `cargo test` |
//!
//! What is not here: files, sockets, threads, environment variables. A plugin reaches the world through
//! [`http`] alone, and only the origins that the operator granted.
//!
//! On `wasm32` the modules speak to the daemon, everywhere else to the fake host of [`testing`]: no plugin needs
//! a `cfg` of its own.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod event;
pub mod http;
pub mod log;
pub mod manifest;
pub mod outcome;
mod plugin;
pub mod pointer;
pub mod settings;
pub mod state;

mod retry_after;

#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

// The two bodies of the host's functions: the daemon's imports in a component, the fake host elsewhere.
#[cfg(not(target_arch = "wasm32"))]
use testing::host;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod wasm;
#[cfg(target_arch = "wasm32")]
use wasm::host;

pub use event::Event;
pub use outcome::{Failure, Outcome};
pub use plugin::Plugin;
pub use serde_json;

/// What nearly every plugin uses: `use longshore_sdk::prelude::*;`.
pub mod prelude {
    pub use crate::event::Event;
    pub use crate::http::{self, Target};
    pub use crate::outcome::{Context, Failure, Outcome, done, reject, retry, retry_after, skip};
    pub use crate::serde_json::{Value, json};
    pub use crate::{log, pointer, settings, state};
}
