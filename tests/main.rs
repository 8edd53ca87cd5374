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
mod handshake;
mod hostile;
mod house;
mod kill;
mod lease;
mod observe;
mod read;
mod rerun;
mod sdks;
mod settle;
mod signatures;
mod sync;
mod tools;
mod torture;
mod verify;
