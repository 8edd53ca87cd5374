//! The host: runs a handler's WASM component in a sandbox, one fresh instance for each attempt. The room's face.
//!
//! Read `call` first: it is the sandbox. `grant` says what a handler may touch, `http` is its only way out, `shelf`
//! its only memory, `plugin` how its component is loaded, `engine` what all of them share.
//!
//! What is not here: when to run (dispatch), what is kept (store), what the operator wrote (config).

mod asks;
mod bindings;
mod call;
mod engine;
mod grant;
mod http;
mod log;
mod plugin;
mod settings;
mod setup;
mod shelf;
mod size;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;

pub use self::asks::Asks;
pub use self::http::{
    Fetched, Fetcher, UNANSWERED, is_of_the_network, is_safe as is_safe_method, request_body, rewrite_intent,
};
pub use self::log::printable;
pub use self::setup::Setup;
#[cfg(test)]
pub(crate) use self::tests::test_plugin;
pub use self::world::{Arrived, Departed, HostCall, Side, World};
use crate::words::attempt::{CallRecord, ErrorKind, LogLine, Outcome};
use crate::words::digest::Digest;
use crate::words::event::Name;
use crate::words::secret::Secret;
use crate::words::shelf::{ShelfRead, ShelfTxn};
use crate::words::tape::{Seed, Tape};
use crate::words::time::Millis;

/// One per process: compiler, pool, epoch ticker, linkers.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<engine::Inner>,
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Compiled plugins are kept here, mode 0700; None: compile each time.
    pub cache: Option<PathBuf>,
    /// Live instances over all handlers.
    pub instances_max: u32,
}

impl Engine {
    pub fn new(options: Options) -> Result<Engine, Error> {
        Ok(Engine { inner: Arc::new(engine::Inner::new(&options)?) })
    }

    /// Reads, checks, compiles (or takes from the cache) and describes a plugin. Blocking.
    pub fn load(&self, path: &Path) -> Result<Plugin, Error> {
        plugin::load(self, path)
    }

    /// The same of a component that is in memory; `path` names it in an error.
    pub fn load_bytes(&self, path: &Path, bytes: Vec<u8>) -> Result<Plugin, Error> {
        plugin::load_bytes(self, path, bytes)
    }
}

/// The runtime that `Handler::call` runs on, apart from the one that answers senders: a looping guest keeps a
/// thread busy until the next tick.
///
/// Tokio's defaults are right for it: a guest that yields goes behind everything that is ready, and sockets are
/// looked at after each round. A smaller `event_interval` would put the yielding guest in front again.
pub fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name("guest")
        .enable_all()
        .build()
}

/// A component that loads: its digest, its manifest, its imports.
#[derive(Clone)]
pub struct Plugin {
    inner: Arc<plugin::Inner>,
}

impl Plugin {
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }
    /// `0.1`
    pub fn contract(&self) -> &str {
        &self.inner.contract
    }
    /// Interfaces it imports, ours and WASI's.
    pub fn imports(&self) -> &[String] {
        &self.inner.imports
    }
    /// What of that and of its manifest is power.
    pub fn asks(&self) -> Asks {
        Asks::of(self.manifest(), self.imports())
    }
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    pub description: String,
    pub events: Vec<String>,
    pub origins: Vec<String>,
    pub settings: Vec<Setting>,
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct Setting {
    pub key: String,
    pub kind: SettingKind,
    pub required: bool,
    pub default: Option<String>,
    pub help: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SettingKind {
    Text,
    Number,
    Boolean,
    Json,
    Secret,
}

/// What the operator gives one handler.
#[derive(Clone, Debug)]
pub struct Grants {
    pub name: Name,
    pub settings: serde_json::Map<String, serde_json::Value>,
    pub secrets: BTreeMap<String, BoundSecret>,
    pub origins: Vec<OriginGrant>,
    /// Private addresses that may be dialled all the same.
    pub networks: Vec<IpNet>,
    pub limits: CallLimits,
    pub effects: EffectPolicy,
}

/// An origin that may be called, and how. From a text: all of it, as the handler's own policy says.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct OriginGrant {
    /// `https://hooks.slack.com`, `http://127.0.0.1:8081`, `https://*.example.com`
    pub origin: String,
    /// `GET`; none: all.
    pub methods: Vec<String>,
    /// Beginnings of paths, `/crm/v3/`; none: all.
    pub paths: Vec<String>,
    /// In place of the handler's.
    pub on_unknown: Option<OnUnknown>,
    pub on_changed: Option<OnChanged>,
    /// The name under which the service reads idempotency keys; None: `Idempotency-Key`.
    pub key_header: Option<String>,
    /// How long it remembers them after the first; None: for as long as a delivery lives.
    pub key_ttl: Option<Duration>,
}

impl<T: Into<String>> From<T> for OriginGrant {
    fn from(origin: T) -> OriginGrant {
        OriginGrant { origin: origin.into(), ..OriginGrant::default() }
    }
}

/// What may stand in an origin's grant, for whoever reads one.
pub mod granted {
    pub use super::http::granted::{key_header, method, path};
}

/// What to do where it cannot be known whether a call happened, or which one it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EffectPolicy {
    pub on_unknown: OnUnknown,
    pub on_changed: OnChanged,
}

/// A call was perhaps sent and nobody knows what came of it: the daemon ended, the connection broke, it took too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnknown {
    /// The same bytes again, with the same idempotency key.
    #[default]
    Resend,
    /// The delivery waits for `longshore deliveries resolve`.
    Park,
}

/// An attempt makes a call that is new, and did not make one with its method and path that happened: the plugin was
/// updated between two attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnChanged {
    /// The delivery waits for `longshore deliveries resolve`.
    #[default]
    Park,
    /// It is answered as the one that happened.
    Keep,
    /// It is sent.
    Send,
}

#[derive(Clone, Debug)]
pub struct BoundSecret {
    pub value: Secret,
    /// Origins it may be sent to.
    pub to: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct CallLimits {
    pub memory_bytes: u64,
    pub timeout: Duration,
    pub calls: u32,
    pub call_bytes: u64,
    pub response_bytes: usize,
}

impl Default for CallLimits {
    fn default() -> Self {
        use crate::words::limits as l;
        CallLimits {
            memory_bytes: l::GUEST_MEMORY_BYTES_DEFAULT,
            timeout: l::GUEST_TIMEOUT_DEFAULT,
            calls: l::CALLS_MAX,
            call_bytes: l::CALL_BYTES_MAX,
            response_bytes: l::HTTP_RESPONSE_BYTES_MAX,
        }
    }
}

/// A plugin with its settings and grants: what a subscription names.
#[derive(Clone)]
pub struct Handler {
    inner: Arc<Bound>,
}

struct Bound {
    engine: Arc<engine::Inner>,
    plugin: Plugin,
    grant: Arc<grant::Grant>,
}

/// What does not fit between a plugin and its grants. `key`: the field below the handler (`settings.template`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    pub message: String,
    /// A warning leaves the handler usable.
    pub fatal: bool,
}

impl Handler {
    /// # Errors
    /// All problems at once: a required setting missing, no wanted origin granted (see `grant`), a secret bound to
    /// an origin that is not granted, … Warnings alone do not fail; they are in the second value.
    pub fn bind(
        engine: &Engine,
        plugin: Plugin,
        grants: Grants,
    ) -> Result<(Handler, Vec<Problem>), Vec<Problem>> {
        let engine = Arc::clone(&engine.inner);
        let (memory_initial, network) = (plugin.inner.memory_initial, &engine.network);
        let (grant, warnings) = grant::Grant::new(network, plugin.manifest(), memory_initial, grants)?;
        let inner = Bound { engine, plugin, grant: Arc::new(grant) };
        Ok((Handler { inner: Arc::new(inner) }, warnings))
    }

    pub fn name(&self) -> &Name {
        &self.inner.grant.handler
    }
    pub fn plugin(&self) -> &Plugin {
        &self.inner.plugin
    }

    /// As it was configured, without its secrets.
    pub fn setup(&self) -> &Setup {
        &self.inner.grant.setup
    }

    /// What one attempt may take.
    pub fn timeout(&self) -> Duration {
        self.inner.grant.limits.timeout
    }

    /// Runs one attempt to its end, always within its timeout, counted from when an instance is free; for that it
    /// waits no longer than the timeout again. Must run on the guests' runtime (`runtime`).
    pub async fn call(&self, event: Event, shelf: Arc<dyn Shelf>, wire: Wire) -> Called {
        self.call_until(event, shelf, wire, std::future::pending()).await
    }

    /// As `call`, and ended when `stop` is: then the outcome is `Interrupted`, and with it comes what was recorded
    /// up to then. A call without an answer is among it, as perhaps sent.
    pub async fn call_until(
        &self,
        event: Event,
        shelf: Arc<dyn Shelf>,
        wire: Wire,
        stop: impl Future<Output = ()>,
    ) -> Called {
        call::run(&self.inner, event, shelf, wire, stop).await
    }
}

/// Where calls go, and where it is written down that they do.
#[derive(Clone)]
pub enum Wire {
    /// To the network.
    Live(Arc<dyn Effects>),
    /// Nowhere: a world that is not the real one answers, and nobody waits for sleeps.
    Simulated(Arc<dyn Effects>, Arc<dyn World>),
}

impl Wire {
    /// Granted calls are answered with these in turn, the last one again and again; with none of them, each is
    /// answered 200 with an empty JSON object. Nothing is written down.
    pub fn dry(answers: Vec<DryAnswer>) -> Wire {
        Wire::Simulated(Arc::new(Unrecorded::default()), Arc::new(world::Canned::new(answers)))
    }
}

/// What a call is answered with that is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryAnswer {
    pub status: u16,
    pub body: Bytes,
}

/// One event as the contract hands it to a guest.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: String,
    pub event_type: String,
    pub source: String,
    pub delivery_id: String,
    pub received_at: Millis,
    pub signed_at: Option<Millis>,
    pub attempt: u32,
    pub query: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub attributes: Vec<(String, String)>,
}

/// What a call left behind.
#[derive(Clone, Debug)]
pub struct Called {
    pub outcome: Outcome,
    pub calls: Vec<CallRecord>,
    pub logs: Vec<LogLine>,
    pub took: Duration,
    pub memory_bytes: u64,
    /// What it read from and wants written to the shelf. Empty unless the outcome is done or skipped.
    pub shelf: ShelfTxn,
    /// What it takes to run it again; None: it did not run.
    pub tape: Option<Tape>,
    /// Why the guest was stopped at a call, where it was.
    pub halt: Option<Halt>,
}

/// A guest was stopped at a call that the host would not make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The operator is to say what became of it, or whether it is another.
    Park(String),
    /// It could not be written down: the attempt has no end.
    Store(String),
    /// The world that answers in the network's place ended it here.
    World(String),
}

impl Called {
    /// The world in the network's place ended it: it says no more of how the attempt would have ended.
    pub fn ended_with_its_record(&self) -> bool {
        matches!(self.halt, Some(Halt::World(_)))
    }

    /// No instance was free: the handler did not run, so that this attempt says nothing about the delivery.
    pub fn was_not_begun(&self) -> bool {
        matches!(self.outcome, Outcome::Failed { kind: ErrorKind::Host, after_ms: Some(_), .. })
    }
}

/// Where `state` reads from. Two bodies: the ledger's (in dispatch) and one in memory for `plugin run`.
pub trait Shelf: Send + Sync {
    fn get<'a>(&'a self, key: &'a str) -> ShelfFuture<'a, ShelfRead>;
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
    ) -> ShelfFuture<'a, Vec<String>>;
    /// Bytes now on the shelf, for the quota.
    fn bytes<'a>(&'a self) -> ShelfFuture<'a, u64>;
}

/// Where it is written down what an attempt does to the world. Two bodies: the ledger's (in dispatch), and `Unrecorded`.
pub trait Effects: Send + Sync {
    /// Whose calls they are.
    fn delivery(&self) -> &str;
    /// What idempotency keys follow from: of this delivery, and of no other one of any daemon.
    fn root(&self) -> &str;
    /// 1 for the first.
    fn attempt(&self) -> u32;
    /// When the attempt began, as the guest's wall clock shows it.
    fn started_at(&self) -> Millis;
    /// What random numbers follow from, where that is known apart from the past; None: 32 bytes of the OS.
    fn seed(&self) -> Option<Seed> {
        None
    }
    /// What was noted for this delivery before this attempt; asked once, before the guest runs.
    fn past(&self) -> EffectFuture<'_, Before>;
    /// That this attempt has begun is durable when this returns; asked before each call leaves that changes nothing.
    /// Where it fails nothing may leave, and the error says why.
    fn begin(&self) -> EffectFuture<'_, ()>;
    /// The same, and one more entry is durable. `is_intent`: a call that may change something is about to leave.
    fn note(&self, entry: Bytes, is_intent: bool) -> EffectFuture<'_, ()>;
}

/// What earlier attempts of a delivery noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// In order.
    pub entries: Vec<Bytes>,
    /// Where they end, in the words of whoever keeps them; the attempt's tape holds it.
    pub up_to: u64,
}

pub type EffectFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Nothing is written down: a plugin tried on a laptop. Each try has idempotency keys of its own.
pub struct Unrecorded {
    root: String,
    started_at: Millis,
}

impl Default for Unrecorded {
    fn default() -> Unrecorded {
        Unrecorded { root: format!("{:032x}", rand::random::<u128>()), started_at: Millis::now() }
    }
}

/// What the idempotency keys of a delivery follow from. `round`: 0, or where the retry lies that began another one.
pub fn root(delivery: &str, source: &str, received_at: Millis, event: &str, round: u64) -> String {
    // Positions begin at 0 in every data directory; what was received when, and as what, does not.
    let root = format!("{delivery}\n{source}\n{}\n{event}", received_at.0);
    if round == 0 { root } else { format!("{root}\n{round}") }
}

impl Effects for Unrecorded {
    fn delivery(&self) -> &str {
        "unrecorded"
    }

    fn root(&self) -> &str {
        &self.root
    }

    fn attempt(&self) -> u32 {
        1
    }

    fn started_at(&self) -> Millis {
        self.started_at
    }

    fn past(&self) -> EffectFuture<'_, Before> {
        Box::pin(std::future::ready(Ok(Before::default())))
    }

    fn begin(&self) -> EffectFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn note(&self, _: Bytes, _: bool) -> EffectFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

pub type ShelfFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("plugin `{path}`: {why}")]
    Plugin { path: PathBuf, why: String },
    #[error("the WASM engine does not start: {0}")]
    Engine(String),
}
