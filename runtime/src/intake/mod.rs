//! Intake: the door. Reads a request, and answers it only when the ledger has it. The room's face.
//!
//! ```text
//! serve       sockets: accept, TLS, drain
//! connection  one connection's times: slow headers, idle, stalled, lingering
//! receive     the straight line: read, verify, identify, route, accept, answer
//! read        the exact bytes and headers, capped; budget, share and rate bound them, alarm their time
//! handshake   what is answered and is no event; capture keeps the secret that one brings
//! fetched     keys that requests name, from the one host that has them
//! refusal     the table of everything that is not a 200; remembered keeps the last of them
//! tls         the certificate, read again when it changes
//! ```
//!
//! Not here: what a signature is (`verify`), who wants an event (`route`), what is safe (`store`), and any plugin.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::route;
use crate::store::Ledger;
use crate::verify;
use crate::words::event::Name;
use crate::words::limits::BODIES_IN_FLIGHT_BYTES_MAX;
use crate::words::time::Millis;

mod alarm;
mod budget;
mod capture;
mod connection;
mod fetched;
mod files;
mod handshake;
mod rate;
mod read;
mod receive;
mod refusal;
mod remembered;
mod serve;
mod share;
#[cfg(test)]
mod tests;
pub mod tls;

use budget::Room;
pub use capture::{Capture, Renew};
pub use fetched::{Answered, Fetch, Outward};
pub use handshake::{Follower, HandshakeFacts, Handshakes};
use receive::Door;
use refusal::Refused;
use remembered::Remembered;
use share::{Share, Shares};

/// What the door needs of the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    pub tls: Tls,
    /// A proxy of ours is in front: the last hop of its `X-Forwarded-For` is the sender's address.
    pub behind_proxy: bool,
    pub body_bytes_max: usize,
    pub connections_max: usize,
    pub requests_max: usize,
    /// This and the next are cut short where an answer would be due before they end.
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub drain: Duration,
}

#[derive(Clone, Debug)]
pub enum Tls {
    Off,
    /// PEM files, read again when they change.
    Files {
        cert: PathBuf,
        key: PathBuf,
    },
}

/// One configured sender.
pub struct Source {
    pub name: Name,
    /// Exact path, as `/webhooks/sendpilot`; no two enabled sources have the same.
    pub path: String,
    /// A disabled source answers as an unknown path, and the operator sees why.
    pub enabled: bool,
    pub scheme: verify::Scheme,
    /// Newest first. Swapped when the set changes; an ended key stays and is skipped by its time.
    pub keys: ArcSwap<Vec<verify::Key>>,
    pub dedupe_window: Duration,
    /// Requests per second; None: no limit, and never a 429.
    pub rate: Option<f64>,
    /// The URL as the provider has it, where the scheme signs it; else empty.
    pub public_url: String,
    pub handshakes: Handshakes,
    /// How keys are had that requests name; None: the source's own are all there are.
    pub fetch: Option<Fetch>,
}

/// Everything between the socket and the ledger.
pub struct Intake {
    options: Options,
    sources: BTreeMap<Name, Arc<Source>>,
    doors: BTreeMap<Name, Arc<Door>>,
    /// One exact path for each source; everything else is nobody's.
    paths: HashMap<String, Arc<Door>>,
    /// Refusals that belong to no source.
    elsewhere: Remembered,
    routes: route::Table,
    ledger: Ledger,
    metrics: Metrics,
    /// Connections that cannot be accepted.
    blocked: files::Blocked,
    connections: Arc<Room>,
    requests: Arc<Room>,
    bodies: Arc<Room>,
    /// What one address may hold of the three above.
    shares: Shares,
}

/// One refused request, for `sources show`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Refusal {
    pub at: Millis,
    pub address: String,
    /// Slug of the table in `refusal`.
    pub reason: String,
    /// 0: the connection was closed without an answer.
    pub status: u16,
    /// The operator's sentence.
    pub detail: String,
}

impl Intake {
    pub fn new(
        mut options: Options,
        sources: Vec<Source>,
        routes: route::Table,
        ledger: Ledger,
        metrics: Metrics,
    ) -> Arc<Intake> {
        options.connections_max = files::connections_max(options.connections_max);
        let sources: BTreeMap<Name, Arc<Source>> =
            sources.into_iter().map(|source| (source.name.clone(), Arc::new(source))).collect();
        let door = |source: &Arc<Source>| Arc::new(Door::new(Arc::clone(source), &metrics, Instant::now()));
        let doors: BTreeMap<Name, Arc<Door>> =
            sources.iter().map(|(name, source)| (name.clone(), door(source))).collect();
        Arc::new(Intake {
            connections: Arc::new(Room::new(options.connections_max)),
            requests: Arc::new(Room::new(options.requests_max)),
            bodies: Arc::new(Room::new(BODIES_IN_FLIGHT_BYTES_MAX)),
            shares: Shares::new(Share::new(&options)),
            elsewhere: Remembered::default(),
            blocked: files::Blocked::default(),
            options,
            sources,
            paths: by_path(doors.values()),
            doors,
            routes,
            ledger,
            metrics,
        })
    }

    pub fn sources(&self) -> &BTreeMap<Name, Arc<Source>> {
        &self.sources
    }

    /// The last refusals of a source, newest first.
    pub fn refusals(&self, source: &Name) -> Vec<Refusal> {
        self.doors.get(source).map_or_else(Vec::new, |door| door.remembered.last())
    }

    /// The last refusals that belong to no source, newest first: unknown paths, slow headers, handshakes.
    pub fn refusals_elsewhere(&self) -> Vec<Refusal> {
        self.elsewhere.last()
    }

    /// Why nobody can connect, while that is so.
    pub fn blocked(&self) -> Option<String> {
        self.blocked.why(Instant::now())
    }

    pub fn in_flight(&self) -> InFlight {
        InFlight {
            connections: self.connections.held(),
            requests: self.requests.held(),
            body_bytes: self.bodies.held(),
        }
    }

    /// Serves until `stop` is cancelled, then drains: no new connections, requests in flight end within
    /// `options.drain`. Returns when all are gone or the drain is over.
    ///
    /// # Errors
    /// Where the certificate cannot be read at start.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) -> Result<(), Error> {
        serve::serve(self, listener, stop).await
    }
}

/// Where a disabled source has the path of an enabled one, the enabled one has it.
fn by_path<'d>(doors: impl Iterator<Item = &'d Arc<Door>>) -> HashMap<String, Arc<Door>> {
    let (enabled, disabled): (Vec<_>, Vec<_>) = doors.partition(|door| door.source.enabled);
    let doors = disabled.into_iter().chain(enabled);
    doors.map(|door| (door.source.path.clone(), Arc::clone(door))).collect()
}

/// Connections now open, requests and body bytes in flight; for metrics.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct InFlight {
    pub connections: usize,
    pub requests: usize,
    pub body_bytes: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("certificate `{path}`: {why}")]
    Certificate { path: PathBuf, why: String },
}
