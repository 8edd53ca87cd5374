//! Bench: what the load generator, the servers and the measurers share, so that all sides speak of the same event.

use std::time::Duration;

use hmac::{Hmac, KeyInit as _};
use sha2::Sha256;

pub mod nasty;
pub mod quantile;
pub mod request;

/// The secret of the bench: it protects nothing.
pub const SECRET: &str = "bench-secret-of-no-value-0123456789";
/// Body of one event, in bytes: what a SendPilot `message.received` weighs.
pub const BODY_BYTES: usize = 600;
pub const PATH: &str = "/webhooks/sendpilot";
pub const EVENT_TYPE: &str = "message.received";

/// A MAC with its key set up; clone it for each request.
pub fn mac() -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("HMAC takes keys of every length")
}

/// What this thread has used of a processor: what others do on the machine is not in it.
pub fn cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(used).expect("a thread uses no negative time")
}

pub fn now_s() -> u64 {
    since_1970().as_secs()
}

/// Names a run: no two that follow each other on one machine have the same.
pub fn now_us() -> u64 {
    u64::try_from(since_1970().as_micros()).expect("the year is below 500,000")
}

fn since_1970() -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("the clock is past 1970")
}
