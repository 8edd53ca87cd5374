//! Fuzz: a scheme and a request out of any bytes, and what must hold of both.
//!
//! The rooms are the daemon's own files, not its crate: only `verify` and the words that it uses are compiled with
//! coverage counters. The unit tests of `verify` compile the same cases in, so that a change which breaks them is seen
//! without a fuzzer.

#![allow(dead_code, reason = "the rooms have faces that only the daemon uses")]

#[path = "../../runtime/src/verify/mod.rs"]
pub mod verify;
#[path = "../../runtime/src/words/mod.rs"]
pub mod words;

pub mod case;
pub mod check;
pub mod dice;
pub mod slowest;

/// What this thread has used of a processor: what others do on the machine is not in it.
pub fn cpu() -> std::time::Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    used.try_into().expect("a thread uses no negative time")
}
