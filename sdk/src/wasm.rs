//! The daemon's side of the host's functions, and the component's exports: plain conversions between the
//! contract's types and this crate's.

use std::panic;
use std::time::Duration;

use crate::event;
use crate::manifest::SettingKind;
use crate::outcome;
use crate::plugin::Plugin;

// The bindings are generated: they hand pointers over the component's border, which nothing else in this crate
// does.
#[allow(unsafe_code, missing_docs)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "plugin",
        pub_export_macro: true,
    });
}

pub use bindings::exports::longshore::plugin::handler::Guest;

#[allow(missing_docs)]
pub mod types {
    pub use super::bindings::longshore::plugin::types::*;
}

#[allow(missing_docs)]
pub fn describe(plugin: &Plugin) -> types::Manifest {
    let manifest = plugin.manifest();
    let settings = manifest.settings.into_iter().map(|setting| types::Setting {
        key: setting.key,
        kind: match setting.kind {
            SettingKind::Text => types::SettingKind::Text,
            SettingKind::Number => types::SettingKind::Number,
            SettingKind::Boolean => types::SettingKind::Boolean,
            SettingKind::Json => types::SettingKind::Json,
            SettingKind::Secret => types::SettingKind::Secret,
        },
        required: setting.required,
        default: setting.default,
        help: setting.help,
    });
    types::Manifest {
        name: manifest.name,
        version: manifest.version,
        description: manifest.description,
        events: manifest.events,
        origins: manifest.origins,
        settings: settings.collect(),
    }
}

#[allow(missing_docs)]
pub fn handle(plugin: &Plugin, event: types::Event) -> Result<types::Outcome, types::Failure> {
    // The host keeps stderr with the attempt; the trap that follows says nothing of why.
    panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(|at| format!(" at {at}")).unwrap_or_default();
        eprintln!("panicked{at}: {}", panic.payload_as_str().unwrap_or("no message"));
    }));
    match plugin.handle(read(event)) {
        Ok(outcome::Outcome::Done(note)) => Ok(types::Outcome::Done(note)),
        Ok(outcome::Outcome::Skipped(note)) => Ok(types::Outcome::Skipped(note)),
        Err(outcome::Failure::Retry { reason, after }) => {
            Err(types::Failure::Retry(types::Retry { reason, after_ms: after.map(millis) }))
        }
        Err(outcome::Failure::Reject { reason }) => Err(types::Failure::Reject(reason)),
    }
}

fn read(event: types::Event) -> event::Event {
    event::Event {
        id: event.id,
        event_type: event.type_,
        source: event.source,
        delivery_id: event.delivery_id,
        received_at_ms: event.received_at_ms,
        signed_at_ms: event.signed_at_ms,
        attempt: event.attempt,
        budget_ms: event.budget_ms,
        query: event.query,
        headers: event.headers,
        body: event.body,
        attributes: event.attributes,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The host's functions.
pub(crate) mod host {
    use std::time::Duration;

    use super::bindings::longshore::plugin as imports;
    use super::millis;
    use crate::http::{Credential, Fault, RawResponse, Request, Target};
    use crate::log::Level;
    use crate::state::Error;

    pub(crate) fn log(level: Level, message: &str, fields: Vec<(String, String)>) {
        let level = match level {
            Level::Trace => imports::log::Level::Trace,
            Level::Debug => imports::log::Level::Debug,
            Level::Info => imports::log::Level::Info,
            Level::Warn => imports::log::Level::Warn,
            Level::Error => imports::log::Level::Error,
        };
        imports::log::log(level, message, &fields);
    }

    pub(crate) fn setting(key: &str) -> Option<String> {
        imports::settings::get(key)
    }

    pub(crate) fn settings() -> String {
        imports::settings::all()
    }

    pub(crate) fn state_get(key: &str) -> Result<Option<Vec<u8>>, Error> {
        imports::state::get(key).map_err(state_error)
    }

    pub(crate) fn state_set(key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Error> {
        imports::state::set(key, &value, ttl.map(millis)).map_err(state_error)
    }

    pub(crate) fn state_delete(key: &str) -> Result<(), Error> {
        imports::state::delete(key).map_err(state_error)
    }

    pub(crate) fn state_add(key: &str, delta: i64, ttl: Option<Duration>) -> Result<(), Error> {
        imports::state::add(key, delta, ttl.map(millis)).map_err(state_error)
    }

    pub(crate) fn state_list(prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>, Error> {
        imports::state::list_keys(prefix, after, limit).map_err(state_error)
    }

    fn state_error(error: imports::state::Error) -> Error {
        match error {
            imports::state::Error::TooLarge => Error::TooLarge,
            imports::state::Error::Quota => Error::Quota,
            imports::state::Error::Unavailable(why) => Error::Unavailable(why),
        }
    }

    pub(crate) fn send(request: Request) -> Result<RawResponse, Fault> {
        let sent = imports::http::send(&imports::http::Request {
            method: request.method,
            target: match request.target {
                Target::Url(url) => imports::http::Target::Url(url),
                Target::SecretUrl(name) => imports::http::Target::SecretUrl(name),
            },
            headers: request.headers,
            body: request.body,
            credentials: request.credentials.into_iter().map(credential).collect(),
            timeout_ms: request.timeout.map(|t| u32::try_from(t.as_millis()).unwrap_or(u32::MAX)),
            key: request.key,
        });
        match sent {
            Ok(answer) => Ok(RawResponse {
                call: answer.call,
                recorded: answer.recorded,
                status: answer.status,
                headers: answer.headers,
                body: answer.body,
            }),
            Err(error) => Err(fault(error)),
        }
    }

    pub(crate) fn disown(call: u32) {
        imports::http::disown(call);
    }

    fn credential(credential: Credential) -> imports::http::Credential {
        match credential {
            Credential::Bearer(secret) => imports::http::Credential::Bearer(secret),
            Credential::Basic(user, secret) => imports::http::Credential::Basic((user, secret)),
            Credential::Header(name, secret) => imports::http::Credential::Header((name, secret)),
            Credential::Query(name, secret) => imports::http::Credential::Query((name, secret)),
            Credential::Form(name, secret) => imports::http::Credential::Form((name, secret)),
        }
    }

    fn fault(error: imports::http::Error) -> Fault {
        match error {
            imports::http::Error::Denied(why) => Fault::Denied(why),
            imports::http::Error::InvalidRequest(why) => Fault::InvalidRequest(why),
            imports::http::Error::RequestTooLarge => Fault::RequestTooLarge,
            imports::http::Error::Dns(why) => Fault::Dns(why),
            imports::http::Error::Connect(why) => Fault::Connect(why),
            imports::http::Error::Tls(why) => Fault::Tls(why),
            imports::http::Error::Limit(why) => Fault::Limit(why),
            imports::http::Error::Unavailable(why) => Fault::Unavailable(why),
            imports::http::Error::Timeout => Fault::Timeout,
            imports::http::Error::Protocol(why) => Fault::Protocol(why),
            imports::http::Error::ResponseTooLarge(status) => Fault::ResponseTooLarge(status),
        }
    }
}
