//! Daemon: the rooms of one running daemon, from bound to drained.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::door::Door;
use super::keep::Keeper;
use super::{Known, Plan, build, outward};
use crate::admin::{Admin, Facts, SOCKET_NAME};
use crate::config::Config;
use crate::dispatch::Dispatch;
use crate::intake::{self, Intake, Tls};
use crate::metrics::Metrics;
use crate::store::{self, Durability, Ledger};
use crate::words::time::Millis;

/// Retention looks this often; it finds little to do.
const RETAIN_EVERY: Duration = Duration::from_secs(60);
/// How long open connections to the admin interfaces are waited for at the end.
const ADMIN_DRAIN: Duration = Duration::from_secs(2);
/// A store that is not closed by then hangs on its disk.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

pub struct Daemon {
    admin: Arc<Admin>,
    dispatch: Arc<Dispatch>,
    ledger: Ledger,
    /// Stops the door; then, when all is drained, the admin interfaces.
    stop_intake: CancellationToken,
    stop_admin: CancellationToken,
    intake: JoinHandle<Result<(), intake::Error>>,
    interfaces: Vec<JoinHandle<()>>,
}

impl Daemon {
    /// The ports are taken first and listened on last: nobody is kept waiting by a daemon that is not ready, and
    /// no handler is called by one that cannot start.
    ///
    /// # Errors
    /// In words for the operator.
    pub async fn start(plan: &Plan, guests: tokio::runtime::Handle) -> Result<Daemon, String> {
        let Plan { config, handlers, environment } = plan;
        let front = Door::bind(config.server.listen, "server.listen")?;
        let back = config.admin.listen.map(|address| Door::bind(address, "admin.listen")).transpose()?;
        let ledger = open_store(config).await?;
        remember_asks(config, handlers);
        build::hold_what_nobody_wants(config, handlers, &ledger).await?;
        let metrics = Metrics::default();
        let (sources, source_facts) =
            build::sources(config, environment, &ledger, &outward::to_the_world()).await?;
        let options = build::intake_options(config)?;
        let certificate = match &options.tls {
            Tls::Files { cert, .. } => Some(cert.clone()),
            Tls::Off => None,
        };
        let facts = Facts {
            started_at: Millis::now(),
            listen: Some(front.address()?),
            admin: back.as_ref().map(Door::address).transpose()?,
            certificate,
            sources: source_facts,
            handlers: build::handler_facts(config, handlers),
        };
        let intake = Intake::new(options, sources, build::routes(config), ledger.clone(), metrics.clone());
        let (front, back) = (front.listen()?, back.map(Door::listen).transpose()?);
        let lanes = build::lanes(config, handlers);
        let dispatch = Dispatch::start(lanes, ledger.clone(), metrics.clone(), guests).await;
        let dispatch = Arc::new(dispatch.map_err(|e| e.to_string())?);
        let admin = Admin::new(ledger.clone(), Arc::clone(&intake), Arc::clone(&dispatch), metrics, facts);
        let (stop_intake, stop_admin) = (CancellationToken::new(), CancellationToken::new());
        let keeper = tokio::task::block_in_place(|| Keeper::start(config, handlers, ledger.kept()));
        let mut interfaces = vec![tokio::spawn(retain(ledger.clone(), keeper, stop_admin.clone()))];
        interfaces.push(tokio::spawn(super::memory::give_back(stop_admin.clone())));
        interfaces.extend(serve_admin(config, &admin, back, &stop_admin));
        let intake = open_the_door(config, intake, front, stop_intake.clone());
        Ok(Daemon { admin, dispatch, ledger, stop_intake, stop_admin, intake, interfaces })
    }

    /// Returns, with the reason, when the daemon is no longer whole.
    pub async fn broken(&mut self) -> String {
        tokio::select! {
            ended = &mut self.intake => match ended {
                Ok(Err(error)) => format!("the door is closed: {error}"),
                Ok(Ok(())) => "the door is closed".to_owned(),
                Err(error) => format!("the door is closed: {error}; please report this"),
            },
            () = self.dispatch.broken() => "a lane ended badly; please report this".to_owned(),
        }
    }

    /// No new requests, no new attempts, then the store is closed.
    ///
    /// # Errors
    /// Where the store could not be closed; the next start recovers it.
    pub async fn drain(self, deadline: Duration) -> Result<(), String> {
        self.admin.drain();
        self.stop_intake.cancel();
        let intake = async {
            // A door that broke has been awaited already, and may not be again.
            if !self.intake.is_finished() {
                let _ = self.intake.await;
            }
        };
        tokio::join!(intake, self.dispatch.drain(deadline));
        let closed = tokio::time::timeout(CLOSE_TIMEOUT, self.ledger.close()).await;
        self.stop_admin.cancel();
        for interface in self.interfaces {
            let _ = tokio::time::timeout(ADMIN_DRAIN, interface).await;
        }
        match closed {
            Ok(closed) => closed.map_err(|e| e.to_string())?,
            Err(_) => return Err("the store could not be closed in time; its disk hangs".to_owned()),
        }
        info!("stopped");
        Ok(())
    }
}

fn open_the_door(
    config: &Config,
    intake: Arc<Intake>,
    front: TcpListener,
    stop: CancellationToken,
) -> JoinHandle<Result<(), intake::Error>> {
    let address = front.local_addr().ok();
    let serving = tokio::spawn(intake.serve(front, stop));
    let (sources, handlers) = (config.sources.len(), config.handlers.len());
    let address = address.map(tracing::field::display);
    info!(address, tls = ?config.server.tls, sources, handlers, "ready");
    serving
}

async fn open_store(config: &Config) -> Result<Ledger, String> {
    let options = store::Options {
        path: config.store.path.clone(),
        durability: config.store.durability,
        retain_age: config.store.retain.max_age,
        retain_bytes: config.store.retain.max_size,
        open_age_max: config.store.open_max_age,
    };
    if options.durability == Durability::ProcessCrash {
        warn!(
            "store.durability is process-crash: an event that was answered 200 is lost at a power cut; type `durability: power-loss` to end this"
        );
    }
    let opened = tokio::task::spawn_blocking(move || Ledger::open(options, Millis::now())).await;
    let (ledger, recovery) = opened.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    info!(
        segments = recovery.segments,
        journal_bytes = recovery.journal_bytes,
        records_copied = recovery.records_copied,
        torn_bytes = recovery.torn_bytes,
        open_deliveries = recovery.open_deliveries,
        index_rebuilt = recovery.index_rebuilt,
        took_ms = recovery.took_ms,
        "the store is open"
    );
    Ok(ledger)
}

/// For the next start. The directory is this daemon's by now.
fn remember_asks(config: &Config, handlers: &build::Handlers) {
    let data = &config.store.path;
    let known = Known::read(data).with(handlers, |name| config.handlers.contains_key(name));
    if let Err(error) = known.write(data) {
        warn!(%error, "cannot write down what plugins ask for; the next start will not say what is new");
    }
}

fn serve_admin(
    config: &Config,
    admin: &Arc<Admin>,
    back: Option<TcpListener>,
    stop: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    let socket = config.store.path.join(SOCKET_NAME);
    let serve = Arc::clone(admin).serve_socket(socket.clone(), stop.clone());
    let mut serving = vec![tokio::spawn(async move {
        if let Err(error) = serve.await {
            error!(path = %socket.display(), %error, "the command line cannot reach this daemon");
        }
    })];
    if let Some(back) = back {
        let address = back.local_addr().ok().map(tracing::field::display);
        info!(address, "metrics, healthz and readyz");
        serving.push(tokio::spawn(Arc::clone(admin).serve_tcp(back, stop.clone())));
    }
    serving
}

/// The first look is right away: a daemon that never lives for a minute must not fill its disk either.
async fn retain(ledger: Ledger, keeper: Keeper, stop: CancellationToken) {
    let keeper = Arc::new(keeper);
    let mut look = tokio::time::interval(RETAIN_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => {}
        }
        match ledger.retain(Millis::now()).await {
            Ok(did) if did.segments_dropped > 0 || did.deliveries_dead > 0 => info!(?did, "retention"),
            Ok(_) => {}
            Err(error) => warn!(%error, "retention could not run; trying again in a minute"),
        }
        let (keeper, oldest) = (keeper.clone(), ledger.oldest());
        let _ = tokio::task::spawn_blocking(move || keeper.look(Millis::now(), oldest)).await;
    }
}
