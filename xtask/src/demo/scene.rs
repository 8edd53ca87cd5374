//! The stand-ins and the daemon of one run, with a directory, ports and secrets that are this run's own.
//!
//! Dropping the scene ends them, the daemon first, and removes the directory unless something is to be seen
//! in it. Two demos may run at once.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, process, thread};

use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};

use super::Programs;
use super::rows::{Event, Sent};
use crate::charge::Charge;
use crate::interrupt::Interrupts;
use crate::workspace::Workspace;
use crate::{OrTrouble as _, Result, Trouble, http};

/// The layers of the configuration, below this run's own.
const CONFIG: &str = "config.yaml";
const DEMO_CONFIG: &str = "examples/demo/demo.yaml";

/// The stand-ins only bind two ports.
const STAND_INS_READY: Duration = Duration::from_secs(30);
/// The daemon compiles its plugins, on a slow machine unoptimised and for the first time.
const DAEMON_READY: Duration = Duration::from_secs(180);
/// Its own drain, and some.
const DAEMON_GRACE: Duration = Duration::from_secs(30);
const STAND_INS_GRACE: Duration = Duration::from_secs(5);
/// Of the daemon's log, where it says why it ended.
const LOG_LINES_SHOWN: usize = 15;

pub(super) struct Scene {
    // Fields are dropped in this order.
    daemon: Charge,
    _stand_ins: Charge,
    folder: Folder,
    stand_ins: Value,
    secret: String,
    longshore: PathBuf,
    root: PathBuf,
    addresses: Addresses,
}

/// Where the daemon says that it listens.
#[derive(Debug, Default, PartialEq, Eq)]
struct Addresses {
    door: String,
    admin: String,
}

impl Scene {
    /// Starts the stand-ins, then the daemon, and waits until it is ready.
    pub(super) fn open(workspace: &Workspace, programs: &Programs, interrupts: &Interrupts) -> Result<Scene> {
        let folder = Folder::make(workspace)?;
        let (stand_ins_charge, stand_ins) = start_stand_ins(&programs.stand_ins, interrupts)?;
        let secret = random_secret()?;
        let daemon = start_daemon(workspace, programs, &folder, &stand_ins, &secret)?;
        let mut scene = Scene {
            daemon,
            _stand_ins: stand_ins_charge,
            folder,
            stand_ins,
            secret,
            longshore: programs.longshore.clone(),
            root: workspace.root.clone(),
            addresses: Addresses::default(),
        };
        scene.wait_until_ready(interrupts)?;
        Ok(scene)
    }

    fn wait_until_ready(&mut self, interrupts: &Interrupts) -> Result {
        let deadline = Instant::now() + DAEMON_READY;
        let ready = interrupts.until(|| {
            if let Some(trouble) = self.daemon_ended() {
                return Some(Err(trouble));
            }
            let addresses = Addresses::in_log(&fs::read_to_string(self.folder.log()).unwrap_or_default());
            match addresses.filter(|at| matches!(http::get(&at.admin, "/readyz"), Ok((200, _)))) {
                Some(addresses) => Some(Ok(addresses)),
                None if Instant::now() > deadline => {
                    let why = format!("the daemon is not ready after {} s", DAEMON_READY.as_secs());
                    Some(Err(self.with_log(&why)))
                }
                None => None,
            }
        });
        self.addresses = ready.ok_or_else(Interrupts::interrupted)??;
        Ok(())
    }

    /// Why the daemon is no longer there, if it is not.
    pub(super) fn daemon_ended(&mut self) -> Option<Trouble> {
        let status = self.daemon.ended()?;
        Some(self.with_log(&format!("the daemon ended by itself ({status})")))
    }

    fn with_log(&mut self, why: &str) -> Trouble {
        self.keep();
        let log = fs::read_to_string(self.folder.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
        Trouble::new(format!("{why}; the end of its log, {}:\n{last}", self.log_shown()))
    }

    /// Keeps this run's directory for somebody to look into.
    pub(super) fn keep(&mut self) {
        self.folder.keep = true;
    }

    pub(super) fn log_shown(&self) -> String {
        self.shown(&self.folder.log())
    }

    /// Sends one event with `longshore send`, signed with the daemon's secret or with another one.
    pub(super) fn send(&self, event: &Event, other_secret: bool) -> Result<Sent> {
        let mut command = self.longshore();
        command.args(["send", "sendpilot", event.event_type, "--id", event.id, "--data", event.data]);
        command.args(layers(&self.folder)).arg("--json");
        if other_secret {
            command.env("SENDPILOT_SECRET", random_secret()?);
        }
        let output = command.output().or_trouble("`longshore send` cannot be started")?;
        Sent::of(&output).ok_or_else(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            Trouble::new(format!("`longshore send` told of no answer ({}): {}", output.status, said.trim()))
        })
    }

    /// What a listing of the command line says, as JSON.
    pub(super) fn ask(&self, listing: &[&str]) -> Result<Value> {
        let asked = listing.join(" ");
        let output = self.longshore().args(listing).args(layers(&self.folder)).arg("--json").output();
        let output = output.or_trouble(format!("`longshore {asked}` cannot be started"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Trouble::new(format!("`longshore {asked}` failed: {}", said.trim())));
        }
        serde_json::from_slice(&output.stdout)
            .or_trouble(format!("`longshore {asked} --json` printed no JSON"))
    }

    fn longshore(&self) -> Command {
        let mut command = Command::new(&self.longshore);
        command.current_dir(&self.root).stdin(Stdio::null());
        with_secrets(&mut command, &self.secret, &self.stand_ins);
        command
    }

    pub(super) fn received_by_slack(&self) -> Result<Vec<Value>> {
        received(&self.stand_ins["slack"]["url"])
    }

    pub(super) fn received_by_hubspot(&self) -> Result<Vec<Value>> {
        received(&self.stand_ins["hubspot"]["url"])
    }

    /// What somebody may want to do while everything is up.
    pub(super) fn hints(&self) -> String {
        let longshore = self.shown(&self.longshore);
        let config: Vec<String> = layers(&self.folder).iter().map(|arg| self.shown(Path::new(arg))).collect();
        let config = config.join(" ");
        let slack = self.stand_ins["slack"]["url"].as_str().unwrap_or_default();
        format!(
            "The daemon is up at https://{}, its metrics at http://{}/metrics, its log in {}.\n\
             What the stand-in for Slack was sent: {slack}/received. In another terminal, for example:\n\n  \
             {longshore} events list {config}\n  \
             {longshore} deliveries list {config}\n  \
             SENDPILOT_SECRET={} {longshore} send sendpilot message.received {config}\n\n\
             Ctrl-C ends it all.",
            self.addresses.door,
            self.addresses.admin,
            self.log_shown(),
            self.secret,
        )
    }

    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

/// Starts both stand-ins and returns what they say of themselves. They end with their standard input, so they
/// do not outlive this program even where it is killed.
fn start_stand_ins(program: &Path, interrupts: &Interrupts) -> Result<(Charge, Value)> {
    let mut command = Command::new(program);
    command.arg("--until-stdin-ends").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut charge = Charge::start("the stand-ins", &mut command, STAND_INS_GRACE)?;
    let stdout = charge.child().stdout.take().expect("it was piped");
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        // Whoever waits may have given up.
        let _gone = tell.send(read.map(|_| line));
    });
    let deadline = Instant::now() + STAND_INS_READY;
    let line = interrupts.until(|| match told.try_recv() {
        Ok(line) => Some(Some(line)),
        Err(_) => (Instant::now() > deadline).then_some(None),
    });
    let line = line
        .ok_or_else(Interrupts::interrupted)?
        .ok_or_else(|| Trouble::new("the stand-ins do not start"))?;
    let line = line.or_trouble("the stand-ins cannot be read")?;
    let facts =
        serde_json::from_str(&line).or_trouble("the stand-ins ended without saying where they are")?;
    Ok((charge, facts))
}

fn start_daemon(
    workspace: &Workspace,
    programs: &Programs,
    folder: &Folder,
    stand_ins: &Value,
    secret: &str,
) -> Result<Charge> {
    let layer = layer(folder, stand_ins);
    fs::write(folder.layer(), format!("{layer:#}\n")).or_trouble("the demo's directory cannot be written")?;
    let log = File::create(folder.log()).or_trouble("the daemon's log cannot be written")?;
    let copy = log.try_clone().or_trouble("the daemon's log cannot be written")?;
    let mut command = Command::new(&programs.longshore);
    command.current_dir(&workspace.root).arg("run").args(layers(folder));
    with_secrets(&mut command, secret, stand_ins);
    command.stdin(Stdio::null()).stdout(copy).stderr(log);
    Charge::start("the daemon", &mut command, DAEMON_GRACE)
}

/// What only this run knows. It is JSON, which is YAML too. Port 0 is any free one; the daemon's log says which.
fn layer(folder: &Folder, stand_ins: &Value) -> Value {
    let (slack, hubspot) = (&stand_ins["slack"]["url"], &stand_ins["hubspot"]["url"]);
    json!({
        "server": { "listen": "127.0.0.1:0" },
        "admin": { "listen": "127.0.0.1:0" },
        "store": { "path": folder.path.join("data") },
        "log": { "format": "json" },
        "handlers": {
            "slack-notify": {
                "secrets": { "webhook": { "to": [slack] } },
                "grants": { "http": [slack] },
            },
            "crm-sync": {
                "settings": { "base_url": hubspot },
                "secrets": { "token": { "to": [hubspot] } },
                "grants": { "http": [hubspot] },
            },
        },
    })
}

fn layers(folder: &Folder) -> [std::ffi::OsString; 6] {
    let flag = || "--config".into();
    [flag(), CONFIG.into(), flag(), DEMO_CONFIG.into(), flag(), folder.layer().into()]
}

/// Every variable that the configuration names, and none that would change it. The old secret is there because
/// a configuration in the middle of a rotation names one; nothing is signed with it.
fn with_secrets(command: &mut Command, secret: &str, stand_ins: &Value) {
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LONGSHORE__")) {
        command.env_remove(name);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    command
        .env("SENDPILOT_SECRET", secret)
        .env("SENDPILOT_SECRET_OLD", format!("{secret}-old"))
        .env("SLACK_WEBHOOK_URL", text(&stand_ins["slack"]["webhook_url"]))
        .env("HUBSPOT_TOKEN", text(&stand_ins["hubspot"]["token"]));
}

impl Addresses {
    /// From the log's lines, once both are there.
    fn in_log(log: &str) -> Option<Addresses> {
        let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let said = |message: &str| {
            let line = lines.iter().find(|line| line["message"] == message)?;
            line["address"].as_str().map(str::to_owned)
        };
        Some(Addresses { door: said("ready")?, admin: said("metrics, healthz and readyz")? })
    }
}

fn received(url: &Value) -> Result<Vec<Value>> {
    let authority = url.as_str().and_then(|url| url.strip_prefix("http://")).unwrap_or_default();
    let (_, body) = http::get(authority, "/received").or_trouble("a stand-in cannot be asked")?;
    serde_json::from_str(&body).or_trouble("a stand-in printed no list")
}

/// A secret for one run.
fn random_secret() -> Result<String> {
    let mut bytes = [0; 24];
    let read = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes));
    read.or_trouble("this machine has no random numbers")?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("demo-{hex}"))
}

// === the run's directory ===

/// `target/demo/<process>`: what a run leaves behind is removed by a later one.
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    fn make(workspace: &Workspace) -> Result<Folder> {
        let all = workspace.target.join("demo");
        fs::create_dir_all(&all).or_trouble(format!("`{}` cannot be made", all.display()))?;
        sweep(&all);
        let path = all.join(process::id().to_string());
        fs::create_dir_all(&path).or_trouble(format!("`{}` cannot be made", path.display()))?;
        Ok(Folder { path, keep: false })
    }

    fn layer(&self) -> PathBuf {
        self.path.join("run.yaml")
    }

    fn log(&self) -> PathBuf {
        self.path.join("daemon.log")
    }
}

/// Removes what runs left whose process is gone. Not worth an error: the space is all that is lost.
fn sweep(all: &Path) {
    let own = i32::try_from(process::id()).ok();
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let owner = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        let other = owner.filter(|_| owner != own).and_then(Pid::from_raw);
        if other.is_none_or(|other| test_kill_process(other).is_err()) {
            let _left = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            let _left = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_read_from_the_log() {
        let admin = r#"{"level":"INFO","message":"metrics, healthz and readyz","address":"127.0.0.1:2"}"#;
        let door = r#"{"level":"INFO","message":"ready","address":"127.0.0.1:1","sources":1}"#;
        assert_eq!(Addresses::in_log(""), None);
        assert_eq!(Addresses::in_log(admin), None);
        assert_eq!(Addresses::in_log(&format!("{admin}\n{}", &door[..40])), None, "half a line is none");
        let both = Addresses { door: "127.0.0.1:1".into(), admin: "127.0.0.1:2".into() };
        assert_eq!(Addresses::in_log(&format!("config.yaml:1: warning\n{admin}\n{door}\n")), Some(both));
    }

    #[test]
    fn secrets_are_of_one_run() {
        let [one, another] = [random_secret().unwrap(), random_secret().unwrap()];
        assert_eq!(one.len(), "demo-".len() + 48);
        assert_ne!(one, another);
    }
}
