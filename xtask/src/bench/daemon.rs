//! Daemon: the side that is measured, and its home: a folder with its configuration and its data.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::process::{self, Memory};
use super::scrape::Metrics;
use super::site::Site;
use super::strangers;
use crate::charge::Charge;
use crate::{OrTrouble as _, Result, Trouble, http};

/// The secret that `tests/bench` signs with; it protects nothing.
pub(super) const SECRET: (&str, &str) = ("BENCH_SECRET", "bench-secret-of-no-value-0123456789");
/// An index of ten million keys that must be built anew takes its time.
const READY: Duration = Duration::from_secs(3600);
/// From SIGTERM to SIGKILL: longer than the daemon gives itself.
const GRACE: Duration = Duration::from_secs(60);
/// How long a backlog or an index may take to be worked off.
const WORK_OFF: Duration = Duration::from_secs(1800);
/// Sources beside `sendpilot` that the bench of the pages writes to.
pub(super) const OTHER_SOURCES: [&str; 2] = ["partner", "seldom"];
/// What in the data directory can be made again from the journal. Begins with this.
const INDEX: &str = "index";
const JOURNAL: &str = "journal";

/// Which events have a delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    /// All, by a handler that answers `done` at once.
    Done,
    /// All, by a handler that does what the event's type says, and gives up at the first failure.
    ByType,
    /// `message.received` by a handler that answers `done` at once, `strangers.go` by each of `strangers::BESIDE`.
    Strangers,
}

/// A folder with `config.yaml`, and the data directory, which lies in it unless somebody prepared one.
pub(super) struct Home {
    folder: PathBuf,
    data: PathBuf,
}

impl Home {
    /// Empty, and gone with this value.
    pub(super) fn scratch(site: &Site<'_>, wanted: Wanted, tls: bool) -> Result<Home> {
        let folder = site.data.join(format!("run-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let data = folder.join("data");
        Home { folder, data }.with_configuration(site, wanted, tls)
    }

    /// Around a data directory that exists and stays.
    pub(super) fn around(site: &Site<'_>, data: &Path, wanted: Wanted) -> Result<Home> {
        let data = fs::canonicalize(data).or_trouble(format!("`{}` cannot be found", data.display()))?;
        let folder = site.data.join(format!("run-{}", std::process::id()));
        Home { folder, data }.with_configuration(site, wanted, false)
    }

    fn with_configuration(self, site: &Site<'_>, wanted: Wanted, tls: bool) -> Result<Home> {
        fs::create_dir_all(&self.folder).or_trouble("the bench's folder cannot be made")?;
        if wanted == Wanted::Strangers {
            strangers::write(site, &self.folder)?;
        }
        let text = configuration(&self.data, &site.handlers, wanted, tls);
        fs::write(self.folder.join("config.yaml"), text).or_trouble("the configuration cannot be written")?;
        Ok(self)
    }

    /// As if it had been lost: the next start makes it from the journal.
    pub(super) fn delete_index(&self) -> Result {
        let mut found = false;
        for entry in fs::read_dir(&self.data).or_trouble("the data directory cannot be read")?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(INDEX) {
                found = true;
                fs::remove_dir_all(entry.path()).or_trouble("the index cannot be deleted")?;
            }
        }
        if found { Ok(()) } else { Err(Trouble::new("there is no index in the data directory to delete")) }
    }

    /// Blocks on disk of the journal and of the index.
    pub(super) fn disk_bytes(&self) -> (u64, u64) {
        let part = |name: &str| {
            let entries = fs::read_dir(&self.data).into_iter().flatten().flatten();
            let entries = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(name));
            entries.map(|entry| blocks(&entry.path())).sum()
        };
        (part(JOURNAL), part(INDEX))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Bounds that would turn a thousand connections from one address away are raised; the rest is as shipped. The
/// plugin is loaded in every case: a daemon without one is not what anybody runs.
fn configuration(data: &Path, handlers: &Path, wanted: Wanted, tls: bool) -> String {
    let (tls, events) =
        (if tls { "dev" } else { "off" }, if wanted == Wanted::Nothing { "never.sent" } else { "*" });
    let behaviour = if wanted == Wanted::ByType { "by-type" } else { "noop" };
    let source = |name: &str| {
        format!(
            "  {name}: {{ path: /webhooks/{name}, preset: sendpilot, secrets: [ \"env:{}\" ] }}\n",
            SECRET.0
        )
    };
    let handler = |name: &str| {
        format!(
            "  {name}: {{ plugin: \"{}\", settings: {{ do: {behaviour} }}, retry: {{ give_up_after: 0s }} }}\n",
            handlers.display()
        )
    };
    let mut text = format!(
        "server: {{ listen: \"127.0.0.1:0\", tls: {tls}, max_connections: 8192, max_requests: 8192 }}\nadmin: {{ listen: \"127.0.0.1:0\" }}\nstore: {{ path: \"{}\", retain: {{ max_size: 1TiB }} }}\nlog: {{ level: info, format: json }}\nsources:\n",
        data.display()
    );
    text += &source("sendpilot");
    if wanted == Wanted::Strangers {
        return text + &strangers::handlers(handlers);
    }
    if wanted != Wanted::ByType {
        return text
            + &format!(
                "handlers:\n{}subscriptions:\n  all: {{ source: sendpilot, events: [ \"{events}\" ], handler: noop }}\n",
                handler("noop")
            );
    }
    OTHER_SOURCES.iter().for_each(|name| text += &source(name));
    text += &format!(
        "handlers:\n{}{}subscriptions:\n  all: {{ source: sendpilot, events: [ \"*\" ], handler: busy }}\n",
        handler("busy"),
        handler("quiet")
    );
    for name in OTHER_SOURCES {
        text += &format!("  {name}: {{ source: {name}, events: [ \"*\" ], handler: quiet }}\n");
    }
    text
}

pub(super) struct Certificate {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

pub(super) struct Daemon {
    charge: Charge,
    pub(super) address: String,
    admin: String,
    data: PathBuf,
    /// From its start as a process until it said that it is ready.
    pub(super) ready_us: f64,
    /// What it said of its store when that was open.
    pub(super) opened: Value,
}

impl Daemon {
    pub(super) fn start(site: &Site<'_>, home: &Home) -> Result<Daemon> {
        let mut command = Command::new(site.program("longshore"));
        command.args(["run", "--config"]).arg(home.folder.join("config.yaml"));
        command.env(SECRET.0, SECRET.1).stdin(Stdio::null()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut charge = Charge::start("the daemon", &mut command, GRACE)?;
        let stderr = charge.child().stderr.take().expect("it was piped");
        let said = Said::until_ready(BufReader::new(stderr), started)?;
        let (address, admin, opened) = (said.address, said.admin, said.opened);
        Ok(Daemon { charge, address, admin, data: home.data.clone(), ready_us: said.ready_us, opened })
    }

    /// SIGKILL: no drain, no last word to the index.
    pub(super) fn kill(mut self) -> Result {
        self.charge.child().kill().or_trouble("the daemon cannot be killed")?;
        self.charge.child().wait().map(drop).or_trouble("the daemon cannot be waited for")
    }

    pub(super) fn metrics(&self) -> Result<Metrics> {
        let (status, page) = http::get(&self.admin, "/metrics").or_trouble("the daemon shows no metrics")?;
        if status == 200 {
            Ok(Metrics::new(page))
        } else {
            Err(Trouble::new(format!("/metrics answered {status}")))
        }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.data.join("longshore.sock")
    }

    pub(super) fn certificate(&self) -> Certificate {
        Certificate { certificate: self.data.join("localhost.pem"), key: self.data.join("localhost-key.pem") }
    }

    /// Until the index has seen every record.
    pub(super) fn wait_for_index(&self, site: &Site<'_>) -> Result {
        self.wait(site, "the index has not caught up", |metrics| metrics.index_lag() == 0)
    }

    pub(super) fn wait_until_ended(&self, site: &Site<'_>, deliveries: u64) -> Result {
        let what = format!("not all of {deliveries} deliveries have ended");
        self.wait(site, &what, |metrics| metrics.ended() >= deliveries)
    }

    fn wait(&self, site: &Site<'_>, what: &str, is_so: impl Fn(&Metrics) -> bool) -> Result {
        let started = Instant::now();
        site.until(|| match self.metrics() {
            Ok(metrics) if is_so(&metrics) => Some(Ok(())),
            Err(trouble) => Some(Err(trouble)),
            Ok(_) if started.elapsed() > WORK_OFF => {
                Some(Err(Trouble::new(format!("{what} after {} s", WORK_OFF.as_secs()))))
            }
            Ok(_) => None,
        })?
    }

    pub(super) fn memory(&mut self) -> Memory {
        process::memory(self.charge.child().id())
    }

    /// Processor time so far, user and system, in microseconds.
    pub(super) fn cpu_us(&mut self) -> f64 {
        process::cpu_us(self.charge.child().id())
    }
}

fn blocks(path: &Path) -> u64 {
    let Ok(facts) = fs::symlink_metadata(path) else { return 0 };
    let inside = if facts.is_dir() {
        fs::read_dir(path).into_iter().flatten().flatten().map(|entry| blocks(&entry.path())).sum()
    } else {
        0
    };
    inside + facts.blocks() * 512
}

/// What the daemon says on its way to being ready.
struct Said {
    address: String,
    admin: String,
    opened: Value,
    ready_us: f64,
}

impl Said {
    /// What it says later is read and dropped.
    fn until_ready(stderr: impl BufRead + Send + 'static, started: Instant) -> Result<Said> {
        let mut lines = stderr.lines();
        let (mut address, mut admin, mut opened, mut other) = (None, None, Value::Null, Vec::new());
        while address.is_none() || admin.is_none() {
            let line = lines.next().and_then(|line| line.ok()).filter(|_| started.elapsed() < READY);
            let Some(line) = line else {
                return Err(Trouble::new(format!("the daemon did not get ready:\n{}", other.join("\n"))));
            };
            let told: Value = serde_json::from_str(&line).unwrap_or_default();
            let place = match told["message"].as_str() {
                Some("ready") => &mut address,
                Some("metrics, healthz and readyz") => &mut admin,
                Some("the store is open") => {
                    opened = told;
                    continue;
                }
                _ => {
                    other.push(line);
                    continue;
                }
            };
            *place = told["address"].as_str().map(str::to_owned);
        }
        let ready_us = started.elapsed().as_secs_f64() * 1e6;
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Said { address: address.unwrap_or_default(), admin: admin.unwrap_or_default(), opened, ready_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_read_from_what_the_daemon_says() {
        let said = concat!(
            "{\"message\":\"the store is open\",\"took_ms\":12}\n",
            "{\"message\":\"something else\"}\n",
            "{\"message\":\"metrics, healthz and readyz\",\"address\":\"127.0.0.1:2\"}\n",
            "{\"message\":\"ready\",\"address\":\"127.0.0.1:1\"}\n"
        );
        let said = Said::until_ready(said.as_bytes(), Instant::now()).unwrap();
        assert_eq!((said.address.as_str(), said.admin.as_str()), ("127.0.0.1:1", "127.0.0.1:2"));
        assert_eq!(said.opened["took_ms"], 12);
    }

    #[test]
    fn a_daemon_that_ends_is_quoted() {
        let trouble = Said::until_ready("no room on the disk\n".as_bytes(), Instant::now()).err().unwrap();
        assert!(trouble.to_string().contains("no room on the disk"), "{trouble}");
    }

    #[test]
    fn every_configuration_names_what_it_uses() {
        for (wanted, words) in [
            (Wanted::Nothing, vec!["never.sent", "do: noop"]),
            (Wanted::Done, vec!["[ \"*\" ]", "do: noop"]),
            (Wanted::ByType, vec!["do: by-type", "/webhooks/seldom", "handler: quiet"]),
        ] {
            let text = configuration(Path::new("/d"), Path::new("/p/x.wasm"), wanted, wanted == Wanted::Done);
            for word in words {
                assert!(text.contains(word), "{word}\n{text}");
            }
            assert!(text.contains(if wanted == Wanted::Done { "tls: dev" } else { "tls: off" }));
        }
    }
}
