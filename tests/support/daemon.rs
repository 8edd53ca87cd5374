//! Daemon: the shipped binary on a folder of its own, with a certificate of its own, on free ports.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use super::client::{Client, plain_text};
use super::sender::SECRET;
use super::{PATIENCE, wait_for};

/// A folder with a configuration, a certificate and a data directory. Outlives the daemons that run on it.
pub struct Home {
    folder: TempDir,
    certificate: String,
    environment: Vec<(String, String)>,
    /// Of the daemon alone.
    daemon_environment: Vec<(String, String)>,
}

impl Home {
    /// `rest`: everything of the configuration below `server` and `admin`; a data directory named `data`, if nothing is said of the store.
    pub fn new(rest: &str) -> Home {
        let folder = tempfile::Builder::new().prefix("longshore-test-").tempdir().unwrap();
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = made.cert.pem();
        std::fs::write(folder.path().join("cert.pem"), &certificate).unwrap();
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let environment = vec![("SENDPILOT_SECRET".into(), SECRET.into())];
        let home = Home { folder, certificate, environment, daemon_environment: Vec::new() };
        home.configure("", rest);
        home
    }

    /// A source for SendPilot and nothing that takes its events.
    pub fn with_source_only() -> Home {
        Home::new(SENDPILOT)
    }

    /// Writes the configuration anew, for the next start. `server`: more lines of the section of that name.
    pub fn configure(&self, server: &str, rest: &str) {
        let store = if rest.starts_with("store:") { "" } else { "store: { path: data }\n" };
        let text = format!(
            "server:\n  listen: 127.0.0.1:0\n  tls: {{ cert: cert.pem, key: key.pem }}\n  drain: 5s\n{server}admin: {{ listen: \"127.0.0.1:0\" }}\n{store}{rest}"
        );
        std::fs::write(self.path().join("config.yaml"), text).unwrap();
    }

    pub fn set_env(&mut self, name: &str, value: &str) {
        self.environment.retain(|(n, _)| n != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// For the daemon, and not for the command line.
    pub fn set_daemon_env(&mut self, name: &str, value: &str) {
        self.daemon_environment.push((name.to_owned(), value.to_owned()));
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        command.current_dir(self.path()).args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(n, v)| (n, v)));
        command
    }

    /// Runs a subcommand to its end.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a subcommand with `--json` and reads what it printed.
    ///
    /// # Panics
    /// Where it fails.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.cli(&[arguments, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments:?} printed no JSON ({e}): {text}"))
    }

    pub async fn start(&self) -> Daemon {
        let mut command = self.command(&["run", "--config", "config.yaml"]);
        command.envs(self.daemon_environment.iter().map(|(n, v)| (n, v)));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (kept, stderr) = (Arc::clone(&lines), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        let mut daemon =
            Daemon { child, lines, certificate: self.certificate.clone(), address: None, admin: None };
        daemon.address = Some(daemon.announced("ready").await);
        daemon.admin = Some(daemon.announced("metrics, healthz and readyz").await);
        daemon
    }
}

pub const SENDPILOT: &str = "sources:\n  sendpilot: { path: /webhooks/sendpilot, preset: sendpilot, secrets: [ \"env:SENDPILOT_SECRET\" ] }\n";

/// A running daemon. Dropping it kills it.
pub struct Daemon {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    certificate: String,
    address: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

impl Daemon {
    async fn announced(&mut self, message: &str) -> SocketAddr {
        let (child, lines) = (&mut self.child, &self.lines);
        wait_for(&format!("the daemon to say `{message}`"), async || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("the daemon ended with {status}:\n{}", lines.lock().unwrap().join("\n"));
            }
            let lines = lines.lock().unwrap();
            let events = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut told = events.filter(|e| e["message"] == message);
            told.find_map(|e| e["address"].as_str()?.parse().ok())
        })
        .await
    }

    pub fn address(&self) -> SocketAddr {
        self.address.unwrap()
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.admin.unwrap()
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    pub fn client(&self) -> Client {
        Client::new(self.address(), &self.certificate, b"http/1.1")
    }

    pub fn client_h2(&self) -> Client {
        Client::new(self.address(), &self.certificate, b"h2")
    }

    /// Everything that the daemon has said so far.
    pub fn log(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// A GET on the admin listener: status and text.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        let (status, _, body) = plain_text(self.admin.unwrap(), "GET", path, &[], "").await;
        (status, body)
    }

    /// It was killed, or ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Waits for the end of a daemon that was told to stop.
    pub fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the daemon does not stop:\n{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
