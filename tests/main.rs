//! The tests of the whole: the real binary, real HTTPS, a real disk, real components. Chapters named by verb.

mod support;

mod accept;
mod author;
mod breaker;
mod carry;
mod demo;
mod effects;
mod faults;
mod grants;
mod hostile;
mod house;
mod kill;
mod lease;
mod observe;
mod read;
mod rerun;
mod settle;
mod sync;
mod tools;
mod torture;
mod verify;
