//! Ctrl-C and its relatives, heard as values: whoever waits for something waits for these too.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::{OrTrouble, Result, Trouble};

/// How soon somebody who waits looks again at what they wait for.
const TICK: Duration = Duration::from_millis(50);

pub(crate) struct Interrupts {
    heard: Receiver<i32>,
}

impl Interrupts {
    pub(crate) fn listen() -> Result<Interrupts> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).or_trouble("signals cannot be heard")?;
        let (tell, heard) = mpsc::channel();
        thread::spawn(move || {
            for signal in signals.forever() {
                if tell.send(signal).is_err() {
                    return;
                }
            }
        });
        Ok(Interrupts { heard })
    }

    /// Waits until there is an answer, asking every few milliseconds; `None` where a signal came first.
    pub(crate) fn until<T>(&self, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            if let Some(answer) = ask() {
                return Some(answer);
            }
            if self.heard.recv_timeout(TICK).is_ok() {
                return None;
            }
        }
    }

    /// For whoever cannot wait by looking every few milliseconds.
    pub(crate) fn heard(&self) -> bool {
        self.heard.try_recv().is_ok()
    }

    pub(crate) fn interrupted() -> Trouble {
        Trouble::new("interrupted")
    }
}
