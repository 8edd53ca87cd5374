//! App: the daemon's life, read aloud. Configuration becomes rooms, rooms become a running daemon, and a signal
//! ends it.
//!
//! What is not here: anything that a room could do by itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admin::{Admin, Facts, SOCKET_NAME};
use crate::config::{self, Config, Environment, Problems, Request};
use crate::dispatch::Dispatch;
use crate::host;
use crate::intake::{Intake, Tls};
use crate::metrics::Metrics;
use crate::store::{self, Durability, Ledger};
use crate::words::limits;
use crate::words::time::Millis;

mod build;
mod examine;
mod logging;
mod signals;

pub use examine::{Examination, Examined};

/// Below `store.path`: compiled plugins, by the digest of their bytes.
const PLUGIN_CACHE: &str = "plugins";
/// Retention looks this often; it finds little to do.
const RETAIN_EVERY: Duration = Duration::from_secs(60);
/// How long open connections to the admin interfaces are waited for at the end.
const ADMIN_DRAIN: Duration = Duration::from_secs(2);

/// Runs the daemon until a signal ends it.
///
/// False where it could not start, or could not close its store; it has said why.
pub fn run(request: &Request) -> bool {
    let (config, warnings, handlers) = match examine(request) {
        Ok(sound) => sound,
        Err(why) => {
            eprintln!("{why}");
            return false;
        }
    };
    logging::init(&config.log);
    raise_file_limit();
    for warning in warnings.iter() {
        warn!("{warning}");
    }
    let plan = Plan { config, handlers, environment: request.environment.clone() };
    let runtime = tokio::runtime::Runtime::new().expect("the system gives threads");
    // Guests have threads of their own: one that loops may delay another guest, but never an answer.
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let guests = host::runtime(threads).expect("the system gives threads");
    let ended = runtime.block_on(live(plan, guests.handle().clone()));
    guests.shutdown_timeout(Duration::from_millis(100));
    runtime.shutdown_timeout(Duration::from_millis(100));
    if let Err(why) = &ended {
        error!("{why}");
    }
    ended.is_ok()
}

/// What a daemon starts from.
struct Plan {
    config: Config,
    handlers: build::Handlers,
    environment: Environment,
}

/// # Errors
/// Every problem of the configuration, as text for the operator.
fn examine(request: &Request) -> Result<(Config, Problems, build::Handlers), String> {
    // The text alone says where the data directory is, and with it the compiled plugins.
    let (config, _) = config::load(request).sound().map_err(|problems| problems.to_string())?;
    let examination = Examination {
        request,
        read_secrets: true,
        cache: Some(config.store.path.join(PLUGIN_CACHE)),
        demoted_at: &|_, _| None,
    };
    let Examined { report, handlers } = examination.run().map_err(|e| e.to_string())?;
    let (config, warnings) = report.sound().map_err(|problems| problems.to_string())?;
    Ok((config, warnings, handlers))
}

/// Build, bind, say what is bound, run, wait for a reason to stop, drain with a deadline.
async fn live(plan: Plan, guests: tokio::runtime::Handle) -> Result<(), String> {
    let daemon = Daemon::start(&plan, guests).await?;
    signals::wait_for_stop().await;
    let drain = plan.config.server.drain;
    info!(drain_s = drain.as_secs(), "stopping: no new requests, those in flight are finished");
    let drained = daemon.drain(drain);
    tokio::select! {
        closed = drained => closed,
        () = signals::wait_for_stop() => Err("stopped by a second signal; the journal is whole, attempts in flight are repeated".to_owned()),
    }
}

struct Daemon {
    admin: Arc<Admin>,
    dispatch: Arc<Dispatch>,
    ledger: Ledger,
    /// Stops the door; then, when all is drained, the admin interfaces.
    stop_intake: CancellationToken,
    stop_admin: CancellationToken,
    intake: JoinHandle<()>,
    interfaces: Vec<JoinHandle<()>>,
}

impl Daemon {
    async fn start(plan: &Plan, guests: tokio::runtime::Handle) -> Result<Daemon, String> {
        let Plan { config, handlers, environment } = plan;
        let door = bind(config.server.listen, "server.listen").await?;
        let ledger = open_store(config).await?;
        build::hold_what_nobody_wants(config, handlers, &ledger).await?;
        let metrics = Metrics::default();
        let (sources, source_facts) = build::sources(config, environment, &ledger).await?;
        let options = build::intake_options(config)?;
        let certificate = match &options.tls {
            Tls::Files { cert, .. } => Some(cert.clone()),
            Tls::Off => None,
        };
        let intake = Intake::new(options, sources, build::routes(config), ledger.clone(), metrics.clone());
        let lanes = build::lanes(config, handlers);
        let dispatch = Arc::new(Dispatch::start(lanes, ledger.clone(), metrics.clone(), guests));
        let admin_door = match config.admin.listen {
            Some(address) => Some(bind(address, "admin.listen").await?),
            None => None,
        };
        let facts = Facts {
            started_at: Millis::now(),
            listen: Some(address_of(&door)?),
            certificate,
            admin: admin_door.as_ref().map(address_of).transpose()?,
            sources: source_facts,
            handlers: build::handler_facts(config, handlers),
        };
        let admin = Admin::new(ledger.clone(), Arc::clone(&intake), Arc::clone(&dispatch), metrics, facts);
        let (stop_intake, stop_admin) = (CancellationToken::new(), CancellationToken::new());
        let mut interfaces = vec![tokio::spawn(retain(ledger.clone(), stop_admin.clone()))];
        interfaces.extend(serve_admin(config, &admin, admin_door, &stop_admin)?);
        let intake = open_the_door(config, intake, door, stop_intake.clone())?;
        Ok(Daemon { admin, dispatch, ledger, stop_intake, stop_admin, intake, interfaces })
    }

    async fn drain(self, deadline: Duration) -> Result<(), String> {
        self.admin.drain();
        self.stop_intake.cancel();
        let attempts = self.dispatch.drain(deadline);
        let _ = tokio::join!(self.intake, attempts);
        let closed = self.ledger.close().await.map_err(|e| e.to_string());
        self.stop_admin.cancel();
        for interface in self.interfaces {
            let _ = tokio::time::timeout(ADMIN_DRAIN, interface).await;
        }
        info!("stopped");
        closed
    }
}

fn open_the_door(
    config: &Config,
    intake: Arc<Intake>,
    door: TcpListener,
    stop: CancellationToken,
) -> Result<JoinHandle<()>, String> {
    let address = address_of(&door)?;
    let serving = tokio::spawn(async move {
        if let Err(error) = intake.serve(door, stop).await {
            error!(%error, "the door is closed");
        }
    });
    let (sources, handlers) = (config.sources.len(), config.handlers.len());
    info!(%address, tls = ?config.server.tls, sources, handlers, "ready");
    Ok(serving)
}

async fn bind(address: SocketAddr, key: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|e| format!("cannot listen on {address}: {e}; change `{key}`, or end what uses the port"))
}

fn address_of(listener: &TcpListener) -> Result<SocketAddr, String> {
    listener.local_addr().map_err(|e| format!("a socket that listens has no address: {e}"))
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

fn serve_admin(
    config: &Config,
    admin: &Arc<Admin>,
    door: Option<TcpListener>,
    stop: &CancellationToken,
) -> Result<Vec<JoinHandle<()>>, String> {
    let mut serving = Vec::new();
    let socket = config.store.path.join(SOCKET_NAME);
    let serve = Arc::clone(admin).serve_socket(socket.clone(), stop.clone());
    serving.push(tokio::spawn(async move {
        if let Err(error) = serve.await {
            error!(path = %socket.display(), %error, "the command line cannot reach this daemon");
        }
    }));
    if let Some(door) = door {
        info!(address = %address_of(&door)?, "metrics, healthz and readyz");
        serving.push(tokio::spawn(Arc::clone(admin).serve_tcp(door, stop.clone())));
    }
    Ok(serving)
}

async fn retain(ledger: Ledger, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETAIN_EVERY) => {}
        }
        match ledger.retain(Millis::now()).await {
            Ok(did) if did.segments_dropped > 0 || did.deliveries_dead > 0 => info!(?did, "retention"),
            Ok(_) => {}
            Err(error) => warn!(%error, "retention could not run; trying again in a minute"),
        }
    }
}

/// A connection is a descriptor, and the usual soft limit is 1,024 of them.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, wanted = limits::CONNECTIONS_MAX_DEFAULT, "cannot raise the limit of open files; see `ulimit -n`");
    }
}
