//! The guests' clock: an OS thread that raises the epoch while a call is live, and sleeps otherwise.
//!
//! A thread and not a task: a guest that loops never lets its worker poll anything, so a task could wait
//! behind the very guest that it should interrupt.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};

use crate::words::limits;

pub(in crate::host) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    live: AtomicUsize,
    parked: AtomicBool,
    stopped: AtomicBool,
}

/// A call is live while this exists.
pub(in crate::host) struct Live<'a>(&'a Ticker);

impl Ticker {
    pub(super) fn start(engine: &wasmtime::Engine) -> io::Result<Ticker> {
        let shared = Arc::new(Shared::default());
        let weak = engine.weak();
        let theirs = Arc::clone(&shared);
        let handle = thread::Builder::new().name("epoch".into()).spawn(move || {
            while theirs.wait() {
                match weak.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })?;
        Ok(Ticker { shared, thread: handle.thread().clone() })
    }

    pub(in crate::host) fn enter(&self) -> Live<'_> {
        self.shared.live.fetch_add(1, Ordering::SeqCst);
        // Once a second at most: the thread lingers for a while after the last call.
        if self.shared.parked.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        Live(self)
    }
}

impl Ticker {
    #[cfg(test)]
    pub(in crate::host) fn is_parked(&self) -> bool {
        self.shared.parked.load(Ordering::SeqCst)
    }
}

impl Shared {
    /// Waits for the next tick; false where the engine is gone.
    fn wait(&self) -> bool {
        let mut idle_ticks = 0;
        loop {
            thread::sleep(limits::EPOCH_TICK);
            if self.stopped.load(Ordering::SeqCst) {
                return false;
            }
            if self.live.load(Ordering::SeqCst) > 0 {
                return true;
            }
            idle_ticks += 1;
            if idle_ticks >= limits::EPOCH_IDLE_TICKS_MAX {
                self.park();
                idle_ticks = 0;
            }
        }
    }

    fn park(&self) {
        self.parked.store(true, Ordering::SeqCst);
        // Whoever came between the last look and the line above did not see us parked.
        let nobody = self.live.load(Ordering::SeqCst) == 0 && !self.stopped.load(Ordering::SeqCst);
        while nobody && self.parked.load(Ordering::SeqCst) {
            thread::park();
        }
        self.parked.store(false, Ordering::SeqCst);
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.shared.live.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.parked.store(false, Ordering::SeqCst);
        self.thread.unpark();
    }
}
