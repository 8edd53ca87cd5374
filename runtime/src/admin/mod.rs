//! Admin: what an operator may ask of a running daemon, and the few things they may order.
//!
//! Served twice. The TCP listener, on loopback, carries only what a scraper and a load balancer need: figures
//! and two words, no event. The Unix socket in the data directory carries the history and the orders, because
//! there the file system says who may connect. Everything is read through the faces of other rooms.
//!
//! What is not here: the counters (metrics), what a retry means (store), how a person sees it (cli).

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::dispatch::Dispatch;
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::store::Ledger;
use crate::words::digest::Digest;
use crate::words::event::Name;
use crate::words::secret::Fingerprint;
use crate::words::time::Millis;

mod api;
mod scrape;
mod serve;
pub mod socket;
#[cfg(test)]
mod tests;
pub mod view;

/// The file name of the socket, below `store.path`.
pub const SOCKET_NAME: &str = "longshore.sock";

/// Everything that can be asked, in one place.
pub struct Admin {
    pub ledger: Ledger,
    pub intake: Arc<Intake>,
    pub dispatch: Arc<Dispatch>,
    pub metrics: Metrics,
    pub facts: Facts,
    draining: AtomicBool,
    backing_up: tokio::sync::Mutex<()>,
}

/// What the operator wrote and no room below knows: given by `app`.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub started_at: Millis,
    /// What is bound: `longshore send` asks for it where the configuration says port 0.
    pub listen: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    /// The certificate that the door shows, also one made for development; None: plain HTTP. By it the command
    /// line knows that it talks to this daemon.
    pub certificate: Option<PathBuf>,
    pub sources: BTreeMap<Name, SourceFacts>,
    pub handlers: BTreeMap<Name, HandlerFacts>,
}

#[derive(Clone, Debug)]
pub struct SourceFacts {
    /// `preset sendpilot`, `preset stripe, changed`, `scheme hmac`: words for a person.
    pub scheme: String,
    pub rotation_window: Duration,
    /// Newest first, as configured. One that a handshake brings comes in while the daemon runs.
    pub secrets: Arc<ArcSwap<Vec<SecretFacts>>>,
}

#[derive(Clone, Debug)]
pub struct SecretFacts {
    pub fingerprint: Fingerprint,
    /// `env:SENDPILOT_SECRET`, `file:secrets/old`: where it comes from, never what it is.
    pub from: String,
    /// `until`, where it is configured.
    pub until: Option<Millis>,
}

#[derive(Clone, Debug)]
pub struct HandlerFacts {
    pub enabled: bool,
    /// The file as configured.
    pub plugin: PathBuf,
    /// From its manifest: `slack-notify 0.1.0`.
    pub plugin_name: String,
    pub digest: Digest,
    pub contract: String,
    pub concurrency: usize,
    pub rate: Option<f64>,
    pub subscriptions: Vec<SubscriptionFacts>,
}

#[derive(Clone, Debug)]
pub struct SubscriptionFacts {
    pub name: Name,
    pub source: Name,
    pub events: Vec<String>,
    pub enabled: bool,
}

impl Admin {
    pub fn new(
        ledger: Ledger,
        intake: Arc<Intake>,
        dispatch: Arc<Dispatch>,
        metrics: Metrics,
        mut facts: Facts,
    ) -> Arc<Admin> {
        // Whoever asks may stand in another folder.
        facts.certificate = facts.certificate.map(|path| std::path::absolute(&path).unwrap_or(path));
        let (draining, backing_up) = (AtomicBool::new(false), tokio::sync::Mutex::new(()));
        Arc::new(Admin { ledger, intake, dispatch, metrics, facts, draining, backing_up })
    }

    /// From now on `/readyz` says no, so that no load balancer sends anything more here.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Serves `/metrics`, `/healthz` and `/readyz` until `stop`.
    pub async fn serve_tcp(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        serve::until(listener, api::public(self), stop, serve::BOUNDS).await;
    }

    /// Serves the API of the command line on a socket at `path`, mode 0600, until `stop`; then the file goes.
    ///
    /// # Errors
    /// Where the socket cannot be made: a path that is too long, or no right to write there.
    pub async fn serve_socket(self: Arc<Self>, path: PathBuf, stop: CancellationToken) -> io::Result<()> {
        let socket = socket::Socket::bind(&path)?;
        serve::until(socket, api::private(self), stop, serve::BOUNDS).await;
        Ok(())
    }

    /// None while a sender may expect a 2xx; else why not, in words.
    fn unready(&self) -> Option<String> {
        if self.draining.load(Ordering::Acquire) {
            return Some("draining: the daemon is stopping and takes no new events".to_owned());
        }
        self.ledger.refusing().map(|refused| refused.to_string()).or_else(|| self.intake.blocked())
    }

    /// What an operator should see to although senders may expect a 2xx.
    fn warning(&self) -> Option<String> {
        let damage = self.ledger.damage()?;
        Some(format!("an old segment stays, and the disk fills behind it: {damage}"))
    }
}
