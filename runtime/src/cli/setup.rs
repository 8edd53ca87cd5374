//! Setup: what commands need of the configuration, without starting anything.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Result;
use super::failure::Failure;
use crate::config::{self, Config, Environment, Problems, Request};
use crate::host::Grants;
use crate::words::event::Name;
use crate::words::time::Millis;

/// The files, and the environment of this process.
pub(super) fn request(files: &[PathBuf]) -> Request {
    Request { files: files.to_vec(), environment: Environment::of_process(), flags: Vec::new() }
}

pub(super) fn load(files: &[PathBuf]) -> Result<Config> {
    let (config, _) = config::load(&request(files)).sound().map_err(|problems| unsound(&problems))?;
    Ok(config)
}

pub(super) fn unsound(problems: &Problems) -> Failure {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    Failure::failed_so(
        format!("the configuration cannot be used\n{}", lines.join("\n")),
        "longshore config check",
    )
}

/// Where the daemon of this configuration keeps its socket.
pub(super) fn data_dir(files: &[PathBuf]) -> Result<PathBuf> {
    Ok(load(files)?.store.path)
}

/// What starts the daemon of this configuration.
pub(super) fn run_command(files: &[PathBuf]) -> String {
    let files: String = files.iter().map(|file| format!(" --config {}", file.display())).collect();
    format!("longshore run{files}")
}

pub(super) struct Sender {
    pub(super) path: String,
    pub(super) preset: Option<String>,
    pub(super) listen: SocketAddr,
    pub(super) certificate: Option<PathBuf>,
    pub(super) id_from: Vec<String>,
    pub(super) type_from: Vec<String>,
}
pub(super) struct Signed {
    pub id: String,
    pub event_type: String,
    pub headers: Vec<(String, String)>,
}
impl Sender {
    pub(super) fn sign(&self, _id: &str, _t: &str, _b: &[u8], _n: Millis) -> Result<Signed> {
        todo!()
    }
}
pub(super) fn sender(_: &[PathBuf], _: &Name) -> Result<Sender> {
    todo!()
}
pub(super) fn grants(_: &[PathBuf], _: &Name) -> Result<Grants> {
    todo!()
}
