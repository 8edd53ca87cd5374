//! Intake: the door. Reads a request, and answers it only when the ledger has it. The room's face.
#![allow(clippy::todo, unused_variables)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::route;
use crate::store::Ledger;
use crate::verify;
use crate::words::event::Name;
use crate::words::time::Millis;

/// What the door needs of the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    pub tls: Tls,
    pub body_bytes_max: usize,
    pub connections_max: usize,
    pub requests_max: usize,
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
    /// Exact path, as `/webhooks/sendpilot`.
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
}

/// Everything between the socket and the ledger.
pub struct Intake {}

/// One refused request, for `sources show`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Refusal {
    pub at: Millis,
    pub address: String,
    /// Slug of the table in `refusal`.
    pub reason: String,
    pub status: u16,
    /// The operator's sentence.
    pub detail: String,
}

impl Intake {
    pub fn new(
        options: Options,
        sources: Vec<Source>,
        routes: route::Table,
        ledger: Ledger,
        metrics: Metrics,
    ) -> Arc<Intake> {
        todo!()
    }

    pub fn sources(&self) -> &BTreeMap<Name, Arc<Source>> {
        todo!()
    }

    /// The last refusals of a source, newest first.
    pub fn refusals(&self, source: &Name) -> Vec<Refusal> {
        todo!()
    }

    /// Serves until `stop` is cancelled, then drains: no new connections, requests in flight end within
    /// `options.drain`. Returns when all are gone or the drain is over.
    ///
    /// # Errors
    /// Where the certificate cannot be read at start.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) -> Result<(), Error> {
        todo!()
    }
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

#[allow(dead_code)]
fn _unused(_: SocketAddr) {}
