//! Both stand-ins through their real door: what they refuse, what they accept, how they are told to fail.

mod knock;
mod refusals;
mod service;
