//! The macro that makes a component of one function, and the value it leaves behind for tests.

use crate::event::Event;
use crate::manifest::Manifest;
use crate::outcome::{Failure, Outcome};

/// A plugin: what it asks for and what it does. [`plugin!`](crate::plugin!) defines one, named `PLUGIN`.
pub struct Plugin {
    manifest: fn() -> Manifest,
    handle: fn(Event) -> Result<Outcome, Failure>,
}

impl Plugin {
    #[doc(hidden)]
    pub const fn new(manifest: fn() -> Manifest, handle: fn(Event) -> Result<Outcome, Failure>) -> Self {
        Plugin { manifest, handle }
    }

    /// What the plugin asks the operator for.
    pub fn manifest(&self) -> Manifest {
        (self.manifest)()
    }

    /// One attempt. Tests rather call [`Host::deliver`](crate::testing::Host::deliver), which also does what
    /// the contract says of it: writes of a failed attempt are dropped, calls that happened are remembered.
    ///
    /// # Errors
    /// What the plugin's function returned.
    pub fn handle(&self, event: Event) -> Result<Outcome, Failure> {
        (self.handle)(event)
    }
}

/// Makes a component of one function.
///
/// Only `handle` is required. The other fields keep this order; `name`, `version` and `description` come from
/// the crate's `Cargo.toml` where they are left out. No `events` means every type, no `origins` no HTTP.
///
/// ```
/// use longshore_sdk::prelude::*;
///
/// longshore_sdk::plugin! {
///     name: "greeter",
///     version: "1.2.0",
///     description: "Says hello to everybody who replied",
///     events: ["message.received", "reply.*"],
///     origins: ["https://chat.example.com"],
///     settings: [
///         text("greeting").default("Hello").help("The first word of the message"),
///         secret("token").required().help("API token of chat.example.com"),
///     ],
///     handle: handle,
/// }
///
/// fn handle(event: Event) -> Result<Outcome, Failure> {
///     let greeting = settings::require("greeting")?;
///     http::post("https://chat.example.com/messages")
///         .bearer("token")
///         .json(&json!({ "text": format!("{greeting}, {}", event.id) }))
///         .key("greet")
///         .send()?
///         .ok()?;
///     done("greeted")
/// }
/// # fn main() { assert_eq!(PLUGIN.manifest().settings[0].default.as_deref(), Some("Hello")); }
/// ```
///
/// The smallest plugin there is:
///
/// ```
/// use longshore_sdk::prelude::*;
///
/// longshore_sdk::plugin! { handle: |event| done(format!("saw {}", event.event_type)) }
/// # fn main() { assert!(PLUGIN.manifest().events.is_empty()); }
/// ```
#[macro_export]
macro_rules! plugin {
    (
        $(name: $name:expr,)?
        $(version: $version:expr,)?
        $(description: $description:expr,)?
        $(events: [$($event:expr),* $(,)?],)?
        $(origins: [$($origin:expr),* $(,)?],)?
        $(settings: [$($setting:expr),* $(,)?],)?
        handle: $handle:expr $(,)?
    ) => {
        /// This plugin: its tests give it to `longshore_sdk::testing::Host::of`.
        pub static PLUGIN: $crate::Plugin = $crate::Plugin::new(
            || {
                #[allow(unused_imports)]
                use $crate::manifest::{boolean, json, number, secret, text};
                #[allow(unused_mut)]
                let mut manifest = $crate::manifest::Manifest::of(
                    ::core::env!("CARGO_PKG_NAME"),
                    ::core::env!("CARGO_PKG_VERSION"),
                    ::core::env!("CARGO_PKG_DESCRIPTION"),
                );
                $(manifest.name = ::std::string::String::from($name);)?
                $(manifest.version = ::std::string::String::from($version);)?
                $(manifest.description = ::std::string::String::from($description);)?
                $(manifest.events = ::std::vec![$(::std::string::String::from($event)),*];)?
                $(manifest.origins = ::std::vec![$(::std::string::String::from($origin)),*];)?
                $(manifest.settings = ::std::vec![$($setting),*];)?
                manifest
            },
            $handle,
        );

        $crate::__export!(PLUGIN);
    };
}

/// Native builds export nothing: the tests call `PLUGIN` itself.
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($plugin:ident) => {};
}

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($plugin:ident) => {
        // Exports of a component are `no_mangle` functions, which the language counts as unsafe; they are
        // generated, and check nothing but the contract.
        #[allow(unsafe_code)]
        const _: () = {
            struct Exported;

            impl $crate::wasm::Guest for Exported {
                fn describe() -> $crate::wasm::types::Manifest {
                    $crate::wasm::describe(&$plugin)
                }

                fn handle(
                    event: $crate::wasm::types::Event,
                ) -> ::core::result::Result<$crate::wasm::types::Outcome, $crate::wasm::types::Failure>
                {
                    $crate::wasm::handle(&$plugin, event)
                }
            }

    $crate::wasm::bindings::export!(Exported with_types_in $crate::wasm::bindings);
        };
    };
}
