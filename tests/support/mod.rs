//! Support: the real daemon as a child process, a sender that signs by its own code, and an HTTPS client.

mod client;
mod daemon;
mod plugins;
mod receiver;
mod sender;

pub use client::{Answer, Client, plain, plain_text};
pub use daemon::{Daemon, Home, SENDPILOT};
pub use plugins::plugin;
pub use receiver::{Call, Receiver};
pub use sender::{Event, SECRET, now_s, sign};

use std::io::Write as _;
use std::time::{Duration, Instant};

/// How long a test waits for something that should come of itself. Long: the machines are slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until `found` has something to say, or fails naming what was waited for.
pub async fn wait_for<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = found().await {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// None, and the test is skipped; in CI that is a failure.
pub fn skip<T>(why: &str) -> Option<T> {
    // Past the harness, which keeps what a test prints to itself unless it fails.
    let _ = std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes());
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!in_ci, "nothing is skipped in CI: {why}");
    None
}
