//! App: the daemon's life, read aloud. Configuration becomes rooms, rooms become a running daemon, and a signal
//! ends it.
//!
//! What is not here: anything that a room could do by itself.

use std::time::Duration;

use tracing::{error, info, warn};

use crate::config::{self, Config, Environment, Problems, Request};
use crate::host;
use crate::words::limits;

mod asks;
mod build;
mod daemon;
mod door;
mod examine;
mod keep;
mod logging;
mod memory;
mod outward;
mod signals;

pub use asks::Known;
pub use examine::{Examination, Examined};

use daemon::Daemon;
use signals::Signals;

/// Below `store.path`: compiled plugins, by the digest of their bytes.
const PLUGIN_CACHE: &str = "plugins";

/// Runs the daemon until a signal ends it.
///
/// False where it could not start; it has said why. A daemon that ran and could not be stopped cleanly ends the
/// process itself, with 1: what hangs on a disk would otherwise be waited for.
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
    if let Err(why) = runtime.block_on(live(plan, guests.handle().clone())) {
        error!("{why}");
        std::process::exit(1);
    }
    guests.shutdown_timeout(Duration::from_millis(100));
    runtime.shutdown_timeout(Duration::from_millis(100));
    true
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
        known: Known::read(&config.store.path),
    };
    let Examined { report, handlers } = examination.run().map_err(|e| e.to_string())?;
    let (config, warnings) = report.sound().map_err(|problems| problems.to_string())?;
    Ok((config, warnings, handlers))
}

/// Start, run, wait for a reason to stop, drain with a deadline.
async fn live(plan: Plan, guests: tokio::runtime::Handle) -> Result<(), String> {
    let mut signals = Signals::catch();
    let mut daemon = tokio::select! {
        started = Daemon::start(&plan, guests) => started?,
        () = signals.stop() => return Err("stopped before it was ready".to_owned()),
    };
    let broken = tokio::select! {
        () = signals.stop() => None,
        why = daemon.broken() => Some(why),
    };
    let drain = plan.config.server.drain;
    info!(drain_s = drain.as_secs(), "stopping: no new requests, those in flight are finished");
    tokio::select! {
        drained = daemon.drain(drain) => broken.map_or(drained, Err),
        () = signals.stop() => Err("stopped by a second signal; the journal is whole, attempts in flight are repeated".to_owned()),
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
