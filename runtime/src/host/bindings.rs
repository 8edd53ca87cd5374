//! The contract, one module for each minor version, and what turns each into the host's own words.
//!
//! A capability is written once, in the host's words; a later contract adds a module here and its conversions.
//! Plugins of an old contract keep loading: all versions are in one linker, told apart by their names.

use std::time::Duration;

use wasmtime::component::{HasSelf, InstancePre, Linker};
use wasmtime::{Result, Store};
use wasmtime_wasi::p2::bindings::clocks;

use super::call::State;
use super::call::clock::HasClock;
use super::{Event, HostCall, Manifest, Setting, SettingKind, Side, http, shelf};
use crate::words::attempt::LogLevel;

#[allow(clippy::all, unreachable_pub)]
pub(super) mod v0_1 {
    wasmtime::component::bindgen!({
        path: "../sdk/wit",
        world: "plugin",
        imports: {
            "longshore:plugin/log": trappable,
            "longshore:plugin/settings": trappable,
            "longshore:plugin/http.disown": async | trappable,
            default: async | trappable,
        },
        exports: { default: async },
    });
}

use v0_1::exports::longshore::plugin::handler as guest;
use v0_1::longshore::plugin as imports;

/// Contracts that this host speaks, oldest first.
pub(super) const CONTRACTS: &[&str] = &["0.1"];
/// Interfaces of ours that a plugin may import.
pub(super) const OURS: &[&str] = &["types", "log", "settings", "state", "http"];

pub(super) fn link(linker: &mut Linker<State>) -> Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    // The time that guests see is ours.
    linker.allow_shadowing(true);
    clocks::monotonic_clock::add_to_linker::<_, HasClock>(linker, State::clocks)?;
    clocks::wall_clock::add_to_linker::<_, HasClock>(linker, State::clocks)?;
    linker.allow_shadowing(false);
    v0_1::Plugin::add_to_linker::<_, HasSelf<_>>(linker, State::asked)
}

/// A plugin whose imports are resolved and whose exports are found: what is left for a call is to instantiate.
pub(super) enum Guest {
    V0_1(v0_1::PluginPre<State>),
}

/// What a handler returned, whatever its contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done(Option<String>),
    Skipped(Option<String>),
    Retry { reason: String, after_ms: Option<u64> },
    Reject(String),
}

/// Where a call went wrong: an instance that cannot be had is rarely the plugin's fault.
pub(super) enum Fault {
    Instantiate(wasmtime::Error),
    Call(wasmtime::Error),
}

impl Guest {
    pub(super) fn new(contract: &str, instance: InstancePre<State>) -> Result<Guest> {
        match contract {
            "0.1" => Ok(Guest::V0_1(v0_1::PluginPre::new(instance)?)),
            other => wasmtime::bail!("contract {other} has no bindings"),
        }
    }

    pub(super) async fn handle(
        &self,
        store: &mut Store<State>,
        event: Event,
        budget: Duration,
    ) -> Result<Answer, Fault> {
        let Guest::V0_1(plugin) = self;
        let plugin = plugin.instantiate_async(&mut *store).await.map_err(Fault::Instantiate)?;
        let handler = plugin.longshore_plugin_handler();
        let answer = handler.call_handle(store, &event.into_v0_1(budget)).await.map_err(Fault::Call)?;
        Ok(answer.into())
    }

    pub(super) async fn describe(&self, store: &mut Store<State>) -> Result<Manifest, Fault> {
        let Guest::V0_1(plugin) = self;
        let plugin = plugin.instantiate_async(&mut *store).await.map_err(Fault::Instantiate)?;
        let handler = plugin.longshore_plugin_handler();
        let manifest = handler.call_describe(store).await.map_err(Fault::Call)?;
        Ok(manifest.into())
    }
}

// === values, 0.1 ===

impl Event {
    fn into_v0_1(self, budget: Duration) -> guest::Event {
        guest::Event {
            id: self.id,
            type_: self.event_type,
            source: self.source,
            delivery_id: self.delivery_id,
            received_at_ms: self.received_at.0,
            signed_at_ms: self.signed_at.map(|at| at.0),
            attempt: self.attempt,
            budget_ms: u32::try_from(budget.as_millis()).unwrap_or(u32::MAX),
            query: self.query,
            headers: self.headers,
            body: self.body.into(),
            attributes: self.attributes,
        }
    }
}

impl From<std::result::Result<guest::Outcome, guest::Failure>> for Answer {
    fn from(returned: std::result::Result<guest::Outcome, guest::Failure>) -> Self {
        match returned {
            Ok(guest::Outcome::Done(note)) => Answer::Done(note),
            Ok(guest::Outcome::Skipped(note)) => Answer::Skipped(note),
            Err(guest::Failure::Retry(retry)) => {
                Answer::Retry { reason: retry.reason, after_ms: retry.after_ms }
            }
            Err(guest::Failure::Reject(reason)) => Answer::Reject(reason),
        }
    }
}

impl From<guest::Manifest> for Manifest {
    fn from(manifest: guest::Manifest) -> Self {
        Manifest {
            name: manifest.name,
            version: manifest.version,
            description: manifest.description,
            events: manifest.events,
            origins: manifest.origins,
            settings: manifest.settings.into_iter().map(Setting::from).collect(),
        }
    }
}

impl From<guest::Setting> for Setting {
    fn from(setting: guest::Setting) -> Self {
        let kind = match setting.kind {
            guest::SettingKind::Text => SettingKind::Text,
            guest::SettingKind::Number => SettingKind::Number,
            guest::SettingKind::Boolean => SettingKind::Boolean,
            guest::SettingKind::Json => SettingKind::Json,
            guest::SettingKind::Secret => SettingKind::Secret,
        };
        Setting {
            key: setting.key,
            kind,
            required: setting.required,
            default: setting.default,
            help: setting.help,
        }
    }
}

// === capabilities, 0.1 ===

impl imports::types::Host for State {}

impl imports::log::Host for State {
    fn log(
        &mut self,
        level: imports::log::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> Result<()> {
        let level = match level {
            imports::log::Level::Trace => LogLevel::Trace,
            imports::log::Level::Debug => LogLevel::Debug,
            imports::log::Level::Info => LogLevel::Info,
            imports::log::Level::Warn => LogLevel::Warn,
            imports::log::Level::Error => LogLevel::Error,
        };
        self.reach(HostCall::Log, Side::Before)?;
        self.trace.log(level, &message, &fields);
        self.reach(HostCall::Log, Side::After)
    }
}

impl imports::settings::Host for State {
    fn get(&mut self, key: String) -> Result<Option<String>> {
        self.reach(HostCall::Settings, Side::Before)?;
        let value = self.grant.settings.get(&key).map(str::to_owned);
        self.reach(HostCall::Settings, Side::After)?;
        Ok(value)
    }

    fn all(&mut self) -> Result<String> {
        self.reach(HostCall::Settings, Side::Before)?;
        let all = self.grant.settings.all().to_owned();
        self.reach(HostCall::Settings, Side::After)?;
        Ok(all)
    }
}

type Stated<T> = Result<std::result::Result<T, imports::state::Error>>;

impl imports::state::Host for State {
    async fn get(&mut self, key: String) -> Stated<Option<Vec<u8>>> {
        self.reach(HostCall::StateGet, Side::Before)?;
        let got = self.shelf.get(&key).await.map(|value| value.map(Vec::from));
        self.reach(HostCall::StateGet, Side::After)?;
        Ok(got.map_err(Into::into))
    }

    async fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> Stated<()> {
        self.reach(HostCall::StateSet, Side::Before)?;
        let set = self.shelf.set(key, value, ttl_ms.map(Duration::from_millis)).await;
        self.reach(HostCall::StateSet, Side::After)?;
        Ok(set.map_err(Into::into))
    }

    async fn delete(&mut self, key: String) -> Stated<()> {
        self.reach(HostCall::StateDelete, Side::Before)?;
        let deleted = self.shelf.delete(key).await;
        self.reach(HostCall::StateDelete, Side::After)?;
        Ok(deleted.map_err(Into::into))
    }

    async fn add(&mut self, key: String, delta: i64, ttl_ms: Option<u64>) -> Stated<()> {
        self.reach(HostCall::StateAdd, Side::Before)?;
        let added = self.shelf.add(key, delta, ttl_ms.map(Duration::from_millis)).await;
        self.reach(HostCall::StateAdd, Side::After)?;
        Ok(added.map_err(Into::into))
    }

    async fn list_keys(&mut self, prefix: String, after: Option<String>, limit: u32) -> Stated<Vec<String>> {
        self.reach(HostCall::StateList, Side::Before)?;
        let listed = self.shelf.list(&prefix, after.as_deref(), limit).await;
        self.reach(HostCall::StateList, Side::After)?;
        Ok(listed.map_err(Into::into))
    }
}

impl From<shelf::Error> for imports::state::Error {
    fn from(error: shelf::Error) -> Self {
        match error {
            shelf::Error::TooLarge => imports::state::Error::TooLarge,
            shelf::Error::Quota => imports::state::Error::Quota,
            shelf::Error::Unavailable(why) => imports::state::Error::Unavailable(why),
        }
    }
}

impl imports::http::Host for State {
    async fn send(
        &mut self,
        request: imports::http::Request,
    ) -> Result<std::result::Result<imports::http::Response, imports::http::Error>> {
        self.reach(HostCall::HttpSend, Side::Before)?;
        let told = match self.http.send(request.into()).await {
            Ok(response) => Ok(response.into()),
            Err(http::Stopped::Refused(error)) => Err(error.into()),
            Err(http::Stopped::Halted) => return Err(halted()),
        };
        self.reach(HostCall::HttpSend, Side::After)?;
        Ok(told)
    }

    async fn disown(&mut self, call: u32) -> Result<()> {
        self.reach(HostCall::HttpDisown, Side::Before)?;
        self.http.disown(call).await.map_err(|_| halted())?;
        self.reach(HostCall::HttpDisown, Side::After)
    }
}

impl State {
    fn reach(&mut self, call: HostCall, side: Side) -> Result<()> {
        self.http.reach(call, side).map_err(|_| halted())
    }
}

/// Ends the guest; the trace says why.
fn halted() -> wasmtime::Error {
    wasmtime::format_err!("the attempt was stopped at a call")
}

impl From<imports::http::Request> for http::Request {
    fn from(request: imports::http::Request) -> Self {
        http::Request {
            method: request.method,
            target: match request.target {
                imports::http::Target::Url(url) => http::Target::Url(url),
                imports::http::Target::SecretUrl(name) => http::Target::SecretUrl(name),
            },
            headers: request.headers,
            body: request.body,
            credentials: request.credentials.into_iter().map(http::Credential::from).collect(),
            timeout: request.timeout_ms.map(|ms| Duration::from_millis(ms.into())),
            key: request.key,
        }
    }
}

impl From<imports::http::Credential> for http::Credential {
    fn from(credential: imports::http::Credential) -> Self {
        use imports::http::Credential as C;
        match credential {
            C::Bearer(secret) => http::Credential::Bearer(secret),
            C::Basic((user, secret)) => http::Credential::Basic { user, secret },
            C::Header((header, secret)) => http::Credential::Header { header, secret },
            C::Query((parameter, secret)) => http::Credential::Query { parameter, secret },
            C::Form((field, secret)) => http::Credential::Form { field, secret },
        }
    }
}

impl From<http::Response> for imports::http::Response {
    fn from(response: http::Response) -> Self {
        imports::http::Response {
            call: response.call,
            recorded: response.recorded,
            status: response.status,
            headers: response.headers,
            body: response.body,
        }
    }
}

impl From<http::Error> for imports::http::Error {
    fn from(error: http::Error) -> Self {
        use imports::http::Error as E;
        match error {
            http::Error::Denied(why) => E::Denied(why),
            http::Error::InvalidRequest(why) => E::InvalidRequest(why),
            http::Error::RequestTooLarge => E::RequestTooLarge,
            http::Error::Dns(why) => E::Dns(why),
            http::Error::Connect(why) => E::Connect(why),
            http::Error::Tls(why) => E::Tls(why),
            http::Error::Limit(why) => E::Limit(why),
            http::Error::Unavailable(why) => E::Unavailable(why),
            http::Error::Timeout => E::Timeout,
            http::Error::Protocol(why) => E::Protocol(why),
            http::Error::ResponseTooLarge(status) => E::ResponseTooLarge(status),
        }
    }
}
