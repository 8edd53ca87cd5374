//! Signals: SIGTERM and SIGINT ask for a stop; SIGHUP is answered with a word, because it usually means reload.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// Caught from the moment this is made: a signal that comes while nobody waits is not lost.
pub struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    pub fn catch() -> Signals {
        Signals {
            term: listen(SignalKind::terminate()),
            int: listen(SignalKind::interrupt()),
            hup: listen(SignalKind::hangup()),
        }
    }

    /// Returns when the daemon is asked to stop.
    pub async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.term.recv() => return info!("SIGTERM"),
                _ = self.int.recv() => return info!("SIGINT"),
                _ = self.hup.recv() => warn!("SIGHUP is ignored: a changed configuration needs a restart (certificates are read again by themselves)"),
            }
        }
    }
}

fn listen(kind: SignalKind) -> Signal {
    signal(kind).expect("the kernel lets a process handle its own signals")
}
