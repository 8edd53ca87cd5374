//! Rows: the seven rows of the table that the project has set itself, each with its bar and its wish.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use serde_json::{Value, json};

use super::daemon::{Daemon, Home, Wanted};
use super::figures::{bytes, median, span, whole};
use super::load::Load;
use super::results::number;
use super::servers::Server;
use super::site::{Place, Site};
use super::{express, results, servers, steady};
use crate::interrupt::Interrupts;
use crate::{OrTrouble as _, Result, Trouble};

mod shown;

pub(super) use shown::shown;

#[derive(Args)]
pub(super) struct Rows {
    /// How long the two rows of throughput are held, in each round.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Live idempotency keys of the rows on memory and start.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Leave the row out that needs node and npm.
    #[arg(long)]
    without_express: bool,
    #[command(flatten)]
    place: Place,
}

/// Of the sides that only have to be compared, in each round.
const SIDE_S: f64 = 20.0;
const WARM_UP_S: f64 = 1.0;
/// Appends of the disk's side, in each round.
const APPENDS: u32 = 1000;
const STARTS: usize = 3;
const FILL_CONNECTIONS: u32 = 256;
const FILL_BODY_BYTES: usize = 200;

impl Rows {
    pub(super) fn run(self, interrupts: &Interrupts) -> Result<ExitCode> {
        let site = Site::open(&self.place, interrupts)?;
        let express = if self.without_express { None } else { Some(express::install(&site)?) };
        let mut rounds = Vec::new();
        for round in 1..=self.rounds {
            eprintln!("round {round} of {}", self.rounds);
            rounds.push(self.round(&site, express.as_ref())?);
        }
        let half_load = self.half_load(&site, &rounds)?;
        eprintln!("the host's cost of a delivery");
        let host = told(Command::new(site.program("bench-host")).arg(&site.handlers), "the host's bench")?;
        let memory = self.memory(&site)?;
        let result = json!({
            "seconds": self.seconds, "rounds": rounds, "connections": self.connections, "half_load": half_load,
            "host": host, "memory": memory,
        });
        let result = results::save(&site, "rows", result)?;
        println!("{}", shown(&result, results::read(&site.workspace, "rebuild").as_ref()));
        Ok(ExitCode::SUCCESS)
    }

    /// Every side once, and the bare server before and after each that is held against it: what the machine gives
    /// changes from one minute to the next, and a ratio of two that were an hour apart tells of the machine.
    fn round(&self, site: &Site<'_>, express: Option<&PathBuf>) -> Result<Value> {
        let mut bare = vec![self.bare(site)?];
        let accept = self.accept(site)?;
        eprintln!("      durable accepts {}/s", whole(number(&accept, "per_second")));
        bare.push(self.bare(site)?);
        let done = steady::steady(site, self.connections, self.seconds)?;
        eprintln!("      accepted and done {}/s", whole(number(&done, "per_second")));
        bare.push(self.bare(site)?);
        let express = express.map_or(Ok(Value::Null), |folder| self.side(site, servers::express(folder)?))?;
        eprintln!("      the Express example {}/s", whole(number(&express, "per_second")));
        Ok(json!({"bare": bare, "accept": accept, "done": done, "express": express}))
    }

    fn bare(&self, site: &Site<'_>) -> Result<Value> {
        let bare = self.side(site, servers::bare(site, None)?)?;
        eprintln!("      a bare axum server {}/s", whole(number(&bare, "per_second")));
        Ok(bare)
    }

    fn side(&self, site: &Site<'_>, mut server: Server) -> Result<Value> {
        let before = server.cpu_us();
        let loaded = self.load(self.seconds.min(SIDE_S)).run(site, &server.address)?;
        Ok(loaded.charged(server.cpu_us() - before))
    }

    fn load(&self, seconds: f64) -> Load {
        Load { connections: self.connections, seconds, warm_up: WARM_UP_S, ..Load::default() }
    }

    fn accept(&self, site: &Site<'_>) -> Result<Value> {
        let home = Home::scratch(site, Wanted::Nothing, false)?;
        let mut daemon = Daemon::start(site, &home)?;
        let cpu = daemon.cpu_us();
        let mut lags = Vec::new();
        let loaded = self.load(self.seconds).watched(site, &daemon.address, || {
            lags.push(daemon.metrics()?.index_lag());
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        let loaded = loaded.expect("nobody broke it off");
        let metrics = daemon.metrics()?;
        if metrics.accepted() != loaded.answered() {
            return Err(Trouble::new(format!(
                "{} events were answered and {} accepted; the figures would mean nothing",
                loaded.answered(),
                metrics.accepted()
            )));
        }
        let mut value = loaded.charged(daemon.cpu_us() - cpu);
        value["records_per_sync"] = (metrics.records() as f64 / metrics.syncs().max(1) as f64).into();
        value["index_lag_records"] = json!({
            "start": lags.first(), "middle": lags.get(lags.len() / 2), "end": lags.last(), "max": lags.iter().max()
        });
        Ok(value)
    }

    /// Waits at half of what the machine can do, beside one append and its sync on the same disk, in turns. What this
    /// machine makes everybody wait at that rate shows in a bare server that appends.
    fn half_load(&self, site: &Site<'_>, rounds: &[Value]) -> Result<Value> {
        let rate = median(rounds.iter().map(|round| number(round, "accept.per_second"))) / 2.0;
        eprintln!("half load, {}/s, beside one append and its sync", whole(rate));
        let mut pairs = Vec::new();
        for _ in 0..self.rounds {
            let home = Home::scratch(site, Wanted::Nothing, false)?;
            let daemon = Daemon::start(site, &home)?;
            let load = Load { rate: Some(rate), tick_ms: 1, ..self.load(self.seconds.min(SIDE_S)) };
            let loaded = load.run(site, &daemon.address)?;
            let metrics = daemon.metrics()?;
            let record = metrics.journal_bytes() / metrics.records().max(1);
            drop(daemon);
            let server = servers::bare_appending(site)?;
            let appending = load.run(site, &server.address)?;
            drop(server);
            let mut command = Command::new(site.program("bench-sync"));
            command.arg(&site.data).args(["--bytes", &record.to_string(), "--count", &APPENDS.to_string()]);
            let sync = told(&mut command, "the disk's bench")?;
            let of_sync = number(&sync, "append.p99_us");
            let [ours, theirs] = [&loaded, &appending].map(|loaded| span(loaded.p99_us()));
            eprintln!(
                "      accept p99 {ours}, a bare server that appends {theirs}, append and sync {}",
                span(of_sync)
            );
            pairs.push(json!({
                "accept": loaded.value(), "appending": appending.value(), "sync": sync,
                "ratio": loaded.p99_us() / of_sync,
            }));
        }
        Ok(json!({"rate": rate, "pairs": pairs}))
    }

    /// Idle, and with all keys live; then once more from its files.
    fn memory(&self, site: &Site<'_>) -> Result<Value> {
        eprintln!("memory and start with {} live keys", whole(self.keys as f64));
        let home = Home::scratch(site, Wanted::Nothing, false)?;
        // The first start compiles the plugin; nobody waits for that twice.
        drop(Daemon::start(site, &home)?);
        let mut daemon = Daemon::start(site, &home)?;
        let idle = daemon.memory();
        fill(self.keys).run(site, &daemon.address)?;
        daemon.wait_for_index(site)?;
        let full = daemon.memory();
        drop(daemon);
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            let mut daemon = Daemon::start(site, &home)?;
            starts.push((daemon.ready_us, daemon.memory()));
        }
        eprintln!("      idle {}, full {}", bytes(idle.resident), bytes(full.resident));
        Ok(json!({
            "keys": self.keys,
            "idle": idle.value(),
            "full": full.value(),
            "restarted": starts.last().map(|(_, memory)| memory.value()),
            "start_us": median(starts.iter().map(|(us, _)| *us)),
        }))
    }
}

/// Small events over many connections: keys are what counts.
pub(super) fn fill(events: u64) -> Load {
    Load {
        connections: FILL_CONNECTIONS,
        events: Some(events),
        body_bytes: Some(FILL_BODY_BYTES),
        ..Load::default()
    }
}

/// The JSON line that one of the bench's programs prints.
pub(super) fn told(command: &mut Command, name: &str) -> Result<Value> {
    let output = command.stdin(Stdio::null()).output().or_trouble(format!("{name} cannot be started"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Trouble::new(format!("{name} ended with {}: {said}", output.status)));
    }
    serde_json::from_slice(&output.stdout).or_trouble(format!("{name} printed no JSON"))
}
