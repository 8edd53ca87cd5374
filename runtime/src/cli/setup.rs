//! Setup: what commands need of the configuration, without starting anything.
use std::net::SocketAddr;
use std::path::PathBuf;
use super::Result;
use crate::config::{Environment, Request};
use crate::host::Grants;
use crate::words::event::Name;
use crate::words::time::Millis;

pub(super) struct Sender {
    pub(super) path: String,
    pub(super) preset: Option<String>,
    pub(super) listen: SocketAddr,
    pub(super) certificate: Option<PathBuf>,
    pub(super) id_from: Vec<String>,
    pub(super) type_from: Vec<String>,
}
pub(super) struct Signed { pub id: String, pub event_type: String, pub headers: Vec<(String,String)> }
impl Sender { pub(super) fn sign(&self, _id: &str, _t: &str, _b: &[u8], _n: Millis) -> Result<Signed> { todo!() } }
pub(super) fn sender(_: &[PathBuf], _: &Name) -> Result<Sender> { todo!() }
pub(super) fn grants(_: &[PathBuf], _: &Name) -> Result<Grants> { todo!() }
pub(super) fn data_dir(_: &[PathBuf]) -> Result<PathBuf> { todo!() }
pub(super) fn request(files: &[PathBuf]) -> Request { Request { files: files.to_vec(), environment: Environment::of_process(), flags: vec![] } }
pub(super) fn run_command(files: &[PathBuf]) -> String {
    let files: String = files.iter().map(|file| format!(" --config {}", file.display())).collect();
    format!("longshore run{files}")
}
