//! Life: one daemon, from its start to its end, on the data directory that all of them share.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::book::{Difference, HANDLERS};
use super::senders::{PATH, SECRET};
use super::wire;
use crate::charge::Charge;
use crate::{OrTrouble as _, Result, Trouble};

/// A start that recovers and builds the index again, on a machine that has other things to do.
const READY: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(2);
const GRACE: Duration = Duration::from_secs(30);
const ADMIN_PATIENCE: Duration = Duration::from_secs(40);
const LINES_KEPT: usize = 40;
const SECRET_NAME: &str = "TORTURE_SECRET";
/// The smallest that the configuration takes, so that segments go while the run lasts.
const MAX_SIZE: &str = "256MiB";

/// What all lives share.
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) longshore: PathBuf,
    pub(super) plugin: PathBuf,
    pub(super) receivers: Vec<SocketAddr>,
}

/// What a daemon said of itself.
#[derive(Default)]
struct Said {
    last_lines: VecDeque<String>,
    address: Option<SocketAddr>,
    opened: Option<Opened>,
    complaint: Option<String>,
    segments_dropped: u64,
}

/// From the line `the store is open`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Opened {
    pub(super) records_copied: u64,
    pub(super) torn_bytes: u64,
    pub(super) index_rebuilt: bool,
    pub(super) took_ms: u64,
    pub(super) journal_bytes: u64,
}

pub(super) struct Life {
    charge: Charge,
    said: Arc<Mutex<Said>>,
    socket: PathBuf,
}

impl Place {
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Starts a daemon; it is not ready yet.
    pub(super) fn start(&self) -> Result<Life> {
        let config = self.folder.join("config.yaml");
        fs::write(&config, self.configuration()).or_trouble("the configuration cannot be written")?;
        let mut command = Command::new(&self.longshore);
        command.current_dir(&self.folder).args(["run", "--config"]).arg(&config);
        command.env(SECRET_NAME, SECRET).env_remove("RUST_LOG").stdin(Stdio::null()).stderr(Stdio::piped());
        let mut charge = Charge::start("the daemon", &mut command, GRACE)?;
        let stderr = charge.child().stderr.take().expect("it was piped");
        let said = Arc::new(Mutex::new(Said::default()));
        let listener = Arc::clone(&said);
        thread::spawn(move || listen(stderr, &listener));
        Ok(Life { charge, said, socket: self.data().join("longshore.sock") })
    }

    fn configuration(&self) -> String {
        let plugin = self.plugin.display();
        let mut text = format!(
            "server: {{ listen: \"127.0.0.1:0\", tls: off, drain: 5s }}\n\
             admin: {{ listen: off }}\n\
             store: {{ path: data, retain: {{ max_age: 1h, max_size: {MAX_SIZE} }} }}\n\
             log: {{ level: info, format: json }}\n\
             sources:\n  sendpilot: {{ path: {PATH}, preset: sendpilot, secrets: [ \"env:{SECRET_NAME}\" ] }}\n\
             handlers:\n"
        );
        for (handler, receiver) in HANDLERS.iter().zip(&self.receivers) {
            text.push_str(&format!(
                "  {handler}:\n    plugin: \"{plugin}\"\n    \
                 settings: {{ do: by-type, url: \"http://{receiver}/\" }}\n    \
                 grants: {{ http: [ \"http://{receiver}\" ], networks: [ 127.0.0.0/8 ] }}\n    \
                 limits: {{ concurrency: 8 }}\n    \
                 retry: {{ first_delay: 100ms, max_delay: 500ms, give_up_after: 3d }}\n"
            ));
        }
        text.push_str("subscriptions:\n");
        for handler in HANDLERS {
            text.push_str(&format!(
                "  {handler}: {{ source: sendpilot, events: [ job.tally, job.count-state ], handler: {handler} }}\n"
            ));
        }
        text
    }
}

impl Life {
    /// Where its door is, once it is open.
    pub(super) fn ready(&mut self) -> Result<SocketAddr> {
        let started = Instant::now();
        loop {
            if let Some(address) = self.said().address {
                return Ok(address);
            }
            if let Some(status) = self.charge.ended() {
                return Err(self.trouble(&format!("the daemon ended by itself ({status})")));
            }
            if started.elapsed() > READY {
                return Err(self.trouble("the daemon does not get ready"));
            }
            thread::sleep(STEP);
        }
    }

    pub(super) fn opened(&self) -> Opened {
        self.said().opened.unwrap_or_default()
    }

    pub(super) fn segments_dropped(&self) -> u64 {
        self.said().segments_dropped
    }

    /// A line that says that something is wrong; what is parked is our own doing.
    pub(super) fn complaint(&self) -> Option<Difference> {
        self.said().complaint.clone()
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub(super) fn kill(&mut self) -> Result {
        if let Some(status) = self.charge.ended() {
            return Err(self.trouble(&format!("the daemon ended by itself ({status})")));
        }
        let child = self.charge.child();
        child.kill().and_then(|()| child.wait()).or_trouble("the daemon cannot be killed")?;
        Ok(())
    }

    /// SIGTERM, and its end.
    pub(super) fn stop(&mut self) -> Result {
        let pid = Pid::from_child(self.charge.child());
        kill_process(pid, Signal::TERM).or_trouble("the daemon cannot be told to stop")?;
        let started = Instant::now();
        loop {
            match self.charge.ended() {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.trouble(&format!("the daemon stopped with {status}"))),
                None if started.elapsed() > GRACE => return Err(self.trouble("the daemon does not stop")),
                None => thread::sleep(STEP),
            }
        }
    }

    /// A question to the socket of the command line.
    pub(super) fn ask(&self, method: &str, target: &str) -> Result<(u16, Value)> {
        let started = Instant::now();
        let mut stream = loop {
            match connect(&self.socket) {
                Ok(stream) => break stream,
                // It is made when the door is open, by another task.
                Err(_) if started.elapsed() < ADMIN_PATIENCE => thread::sleep(STEP),
                Err(error) => return Err(self.trouble(&format!("nobody listens on the socket: {error}"))),
            }
        };
        stream.set_read_timeout(Some(ADMIN_PATIENCE)).or_trouble("the socket takes no timeout")?;
        let asked = wire::ask(&mut stream, method, target, &[], b"");
        let (status, body) = asked.map_err(|e| self.trouble(&format!("`{target}` is not answered: {e}")))?;
        let answer =
            serde_json::from_slice(&body).or_trouble(format!("`{target}` is answered without JSON"))?;
        Ok((status, answer))
    }

    pub(super) fn get(&self, target: &str) -> Result<Value> {
        match self.ask("GET", target)? {
            (200, answer) => Ok(answer),
            (status, answer) => Err(self.trouble(&format!("`{target}` is answered {status}: {answer}"))),
        }
    }

    fn trouble(&self, why: &str) -> Trouble {
        let lines: Vec<String> = self.said().last_lines.iter().cloned().collect();
        Trouble::new(format!("{why}; the end of its log:\n{}", lines.join("\n")))
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By way of the directory's descriptor: a socket's path may be long.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let (folder, name) = (socket.parent(), socket.file_name());
    let (folder, name) = folder.zip(name).ok_or(io::ErrorKind::InvalidInput)?;
    let folder = File::open(folder)?;
    UnixStream::connect(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
}

fn listen(stderr: ChildStderr, said: &Mutex<Said>) {
    for line in BufReader::new(stderr).lines().map_while(|line| line.ok()) {
        said.lock().unwrap_or_else(PoisonError::into_inner).hear(line);
    }
}

impl Said {
    fn hear(&mut self, line: String) {
        let told: Value = serde_json::from_str(&line).unwrap_or_default();
        let number = |key: &str| told[key].as_u64().unwrap_or_default();
        match told["message"].as_str() {
            Some("ready") => self.address = told["address"].as_str().and_then(|address| address.parse().ok()),
            Some("the store is open") => {
                self.opened = Some(Opened {
                    records_copied: number("records_copied"),
                    torn_bytes: number("torn_bytes"),
                    index_rebuilt: told["index_rebuilt"].is_string(),
                    took_ms: number("took_ms"),
                    journal_bytes: number("journal_bytes"),
                });
            }
            Some("retention") => self.segments_dropped += dropped(told["did"].as_str().unwrap_or_default()),
            Some("parked") => {}
            _ if told["level"] == "ERROR" || line.contains("panicked") => {
                self.complaint.get_or_insert_with(|| format!("the daemon said: {line}"));
            }
            _ => {}
        }
        if self.last_lines.len() == LINES_KEPT {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(line);
    }
}

/// From `Retained { …, segments_dropped: 3, … }`.
fn dropped(did: &str) -> u64 {
    let number = did.split("segments_dropped: ").nth(1).unwrap_or_default();
    number.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_heard() {
        let mut said = Said::default();
        for line in [
            r#"{"level":"INFO","message":"the store is open","records_copied":7,"torn_bytes":9,"index_rebuilt":"why","took_ms":5}"#,
            r#"{"level":"INFO","message":"ready","address":"127.0.0.1:1"}"#,
            r#"{"level":"INFO","message":"retention","did":"Retained { events_dropped: 4, segments_dropped: 3, bytes_freed: 1 }"}"#,
            r#"{"level":"ERROR","message":"parked"}"#,
        ] {
            said.hear(line.to_owned());
        }
        let opened = said.opened.unwrap();
        assert_eq!((opened.records_copied, opened.torn_bytes, opened.index_rebuilt), (7, 9, true));
        assert_eq!((said.address.unwrap().port(), said.segments_dropped), (1, 3));
        assert_eq!(said.complaint, None);
        said.hear(r#"{"level":"ERROR","message":"the store failed"}"#.to_owned());
        assert!(said.complaint.unwrap().contains("the store failed"));
    }
}
