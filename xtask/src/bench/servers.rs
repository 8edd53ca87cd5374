//! Servers: the other sides. Each prints its address on stdout when it listens.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::daemon::Certificate;
use super::process;
use super::site::Site;
use crate::charge::Charge;
use crate::{OrTrouble as _, Result, Trouble};

pub(super) struct Server {
    charge: Charge,
    pub(super) address: String,
}

impl Server {
    /// Processor time so far, user and system, in microseconds.
    pub(super) fn cpu_us(&mut self) -> f64 {
        process::cpu_us(self.charge.child().id())
    }
}

/// They have nothing to lose.
const GRACE: Duration = Duration::from_secs(2);

/// An axum server that verifies the signature and answers.
pub(super) fn bare(site: &Site<'_>, tls: Option<&Certificate>) -> Result<Server> {
    let mut command = Command::new(site.program("bench-bare"));
    if let Some(Certificate { certificate, key }) = tls {
        command.arg("--tls").arg(certificate).arg(key);
    }
    start("the bare server", &mut command)
}

/// The same, and each body is in one file and synced before it is answered: the least that a durable answer costs here.
pub(super) fn bare_appending(site: &Site<'_>) -> Result<Server> {
    let mut command = Command::new(site.program("bench-bare"));
    command.arg("--append").arg(&site.data);
    start("the bare server that appends", &mut command)
}

/// The provider's example, whose packages lie in `folder`.
pub(super) fn express(folder: &PathBuf) -> Result<Server> {
    let mut command = Command::new("node");
    command.arg("server.js").current_dir(folder).env("NODE_ENV", "production");
    start("the Express example", &mut command)
}

fn start(name: &'static str, command: &mut Command) -> Result<Server> {
    let (variable, secret) = super::daemon::SECRET;
    command.env(variable, secret).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut charge = Charge::start(name, command, GRACE)?;
    let stdout = charge.child().stdout.take().expect("it was piped");
    let mut address = String::new();
    BufReader::new(stdout).read_line(&mut address).or_trouble(format!("{name} says no address"))?;
    match address.trim() {
        "" => Err(Trouble::new(format!("{name} ended before it listened"))),
        address => Ok(Server { address: address.to_owned(), charge }),
    }
}
