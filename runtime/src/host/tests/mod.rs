//! The sandbox driven through its face, with handlers that misbehave on purpose (`tests/handlers`) and a server
//! on loopback that misbehaves too. The chapter on HTTP lies in `http`, beside what it tests.

mod effects;
mod load;
pub(super) mod rig;
mod sandbox;
mod state;
mod strangers;

/// The component of `tests/handlers`, built.
pub(crate) fn test_plugin() -> std::path::PathBuf {
    rig::wasm().to_owned()
}
