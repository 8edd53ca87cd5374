//! Signals: SIGTERM and SIGINT ask for a stop; SIGHUP is answered with a word, because it usually means reload.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// Returns when the daemon is asked to stop.
pub async fn wait_for_stop() {
    let (mut term, mut int, mut hup) =
        (listen(SignalKind::terminate()), listen(SignalKind::interrupt()), listen(SignalKind::hangup()));
    loop {
        tokio::select! {
            _ = term.recv() => return info!("SIGTERM"),
            _ = int.recv() => return info!("SIGINT"),
            _ = hup.recv() => warn!("SIGHUP is ignored: a changed configuration needs a restart (certificates are read again by themselves)"),
        }
    }
}

fn listen(kind: SignalKind) -> Signal {
    signal(kind).expect("the kernel lets a process handle its own signals")
}
