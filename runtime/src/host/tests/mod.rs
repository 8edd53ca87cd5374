//! The sandbox driven through its face, with handlers that misbehave on purpose (`tests/handlers`) and a server
//! on loopback that misbehaves too.

mod http;
mod load;
mod rig;
mod sandbox;
mod state;
