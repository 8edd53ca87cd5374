//! `cargo xtask bench`: figures as ratios, both sides in one run, with the same load generator.
//!
//! Speed is checked here and never in a timed test: these machines are noisy, and a ratio of two runs in turns
//! is what survives that. The sides are measured in rounds, bare and Longshore in turns; the median is printed.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::charge::Charge;
use crate::interrupt::Interrupts;
use crate::plugins::{self, Which};
use crate::steps::Steps;
use crate::workspace::{Workspace, ensure_wasm_target};
use crate::{OrTrouble as _, Result, Trouble, http};

/// Measure: durable accepts and done deliveries beside a server that only verifies, host cost beside wasmtime.
#[derive(Args)]
pub(crate) struct Bench {
    /// Of each measurement of each round.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Where the daemon's data lies meanwhile; a real file system. Default: below the target directory.
    #[arg(long)]
    data: Option<PathBuf>,
}

/// The secret that `tests/bench` signs with; it protects nothing.
const SECRET: (&str, &str) = ("BENCH_SECRET", "bench-secret-of-no-value-0123456789");
const READY: Duration = Duration::from_secs(120);
/// After the load: how long a backlog may take to be worked off.
const WORK_OFF: Duration = Duration::from_secs(600);
const GRACE: Duration = Duration::from_secs(30);

struct Programs {
    folder: PathBuf,
    handlers: PathBuf,
}

impl Bench {
    pub(crate) fn run(self, interrupts: &Interrupts) -> Result<ExitCode> {
        let workspace = Workspace::find()?;
        let data = self.data.clone().unwrap_or_else(|| workspace.target.join("bench"));
        fs::create_dir_all(&data).or_trouble(format!("`{}` cannot be made", data.display()))?;
        refuse_memory(&data)?;
        let mut steps = Steps::new(interrupts, 4);
        let programs = build(&workspace, &mut steps)?;
        let rounds = steps.step("the rounds", |_| self.rounds(&programs, &data))?;
        let host = steps.step("the host", |_| host(&programs))?;
        report(&rounds, &host);
        Ok(ExitCode::SUCCESS)
    }

    fn rounds(&self, programs: &Programs, data: &Path) -> Result<Vec<Round>> {
        (1..=self.rounds)
            .map(|number| {
                let round = Round {
                    bare: self.bare(programs)?,
                    accept: self.accept(programs, data)?,
                    done: self.done(programs, data)?,
                };
                eprintln!("      round {number}: {}", round.line());
                Ok(round)
            })
            .collect()
    }

    fn bare(&self, programs: &Programs) -> Result<Value> {
        let mut command = Command::new(programs.folder.join("bench-bare"));
        let mut server = Charge::start("the bare server", command.stdout(Stdio::piped()), GRACE)?;
        let stdout = server.child().stdout.take().expect("it was piped");
        let mut address = String::new();
        BufReader::new(stdout).read_line(&mut address).or_trouble("the bare server says no address")?;
        self.load(programs, address.trim())
    }

    fn accept(&self, programs: &Programs, data: &Path) -> Result<Value> {
        let daemon = Daemon::start(programs, data, false)?;
        self.load(programs, &daemon.address)
    }

    /// From the first request until the last delivery is done: what a steady stream may be at most.
    fn done(&self, programs: &Programs, data: &Path) -> Result<Value> {
        let daemon = Daemon::start(programs, data, true)?;
        let started = Instant::now();
        let load = self.load(programs, &daemon.address)?;
        let accepted = load["answered"].as_u64().unwrap_or_default();
        let done = daemon.wait_until_done(accepted)?;
        let per_second = done as f64 / started.elapsed().as_secs_f64();
        Ok(
            json!({"per_second": per_second, "accepted": accepted, "done": done, "seconds": started.elapsed().as_secs_f64()}),
        )
    }

    fn load(&self, programs: &Programs, address: &str) -> Result<Value> {
        let mut command = Command::new(programs.folder.join("bench-load"));
        command.arg(address).args(["--connections", &self.connections.to_string()]);
        command.args(["--seconds", &self.seconds.to_string()]);
        let told = json_of(&mut command, "the load generator")?;
        match told["refused"].as_u64() {
            Some(0) => Ok(told),
            refused => Err(Trouble::new(format!(
                "{refused:?} requests were refused; the figures would mean nothing"
            ))),
        }
    }
}

struct Round {
    bare: Value,
    accept: Value,
    done: Value,
}

impl Round {
    fn line(&self) -> String {
        let of = |value: &Value| value["per_second"].as_f64().unwrap_or_default();
        format!(
            "bare {:.0}/s, durable accepts {:.0}/s, done {:.0}/s",
            of(&self.bare),
            of(&self.accept),
            of(&self.done)
        )
    }
}

fn build(workspace: &Workspace, steps: &mut Steps<'_>) -> Result<Programs> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release", "--package", "longshore", "--package", "bench"]);
    steps.run("the programs, optimised", &mut cargo)?;
    let files = steps.step("the plugins", |interrupts| {
        ensure_wasm_target(workspace, interrupts)?;
        plugins::build(workspace, Which::All, interrupts)
    })?;
    let handlers = files.into_iter().find(|file| file.ends_with("test_handlers.wasm"));
    let handlers = handlers.ok_or_else(|| Trouble::new("the handlers of the tests were not built"))?;
    Ok(Programs { folder: workspace.target.join("release"), handlers })
}

/// A sync into memory costs nothing and proves nothing.
fn refuse_memory(folder: &Path) -> Result {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let facts =
        rustix::fs::statfs(folder).or_trouble(format!("`{}` cannot be looked at", folder.display()))?;
    match u64::try_from(facts.f_type) {
        Ok(TMPFS | RAMFS) => Err(Trouble::new(format!(
            "`{}` lies in memory, where a sync costs nothing; type `--data` and a folder on a disk",
            folder.display()
        ))),
        _ => Ok(()),
    }
}

struct Daemon {
    // Dropped first: the daemon ends before its folder goes.
    _charge: Charge,
    _folder: Scratch,
    address: String,
    admin: String,
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Daemon {
    fn start(programs: &Programs, data: &Path, with_handler: bool) -> Result<Daemon> {
        let folder = Scratch(data.join(format!("run-{}", std::process::id())));
        let _ = fs::remove_dir_all(&folder.0);
        fs::create_dir_all(&folder.0).or_trouble("the bench's folder cannot be made")?;
        let config = folder.0.join("config.yaml");
        fs::write(&config, configuration(programs, with_handler))
            .or_trouble("the configuration cannot be written")?;
        let mut command = Command::new(programs.folder.join("longshore"));
        command.args(["run", "--config"]).arg(&config).env(SECRET.0, SECRET.1).stdin(Stdio::null());
        let mut charge = Charge::start("the daemon", command.stderr(Stdio::piped()), GRACE)?;
        let stderr = charge.child().stderr.take().expect("it was piped");
        let (address, admin) = addresses(BufReader::new(stderr))?;
        Ok(Daemon { _charge: charge, _folder: folder, address, admin })
    }

    fn wait_until_done(&self, accepted: u64) -> Result<u64> {
        let started = Instant::now();
        loop {
            let (_, metrics) = http::get(&self.admin, "/metrics").or_trouble("no metrics")?;
            let done = done_deliveries(&metrics);
            if done >= accepted {
                return Ok(done);
            }
            if started.elapsed() > WORK_OFF {
                return Err(Trouble::new(format!(
                    "{done} of {accepted} were done after {} s",
                    WORK_OFF.as_secs()
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn configuration(programs: &Programs, with_handler: bool) -> String {
    let source = "server: { listen: \"127.0.0.1:0\", tls: off }\nadmin: { listen: \"127.0.0.1:0\" }\nstore: { path: data }\nlog: { level: info, format: json }\nsources:\n  sendpilot: { path: /webhooks/sendpilot, preset: sendpilot, secrets: [ \"env:BENCH_SECRET\" ] }\n";
    if !with_handler {
        return source.to_owned();
    }
    format!(
        "{source}handlers:\n  noop: {{ plugin: \"{}\", settings: {{ do: noop }} }}\nsubscriptions:\n  all: {{ source: sendpilot, events: [ \"*\" ], handler: noop }}\n",
        programs.handlers.display()
    )
}

/// Both addresses, from what the daemon says when it is ready. What it says later is read and dropped.
fn addresses(stderr: impl std::io::BufRead + Send + 'static) -> Result<(String, String)> {
    let (mut lines, started) = (stderr.lines(), Instant::now());
    let (mut address, mut admin, mut said) = (None, None, Vec::new());
    while address.is_none() || admin.is_none() {
        let line = lines.next().and_then(|line| line.ok());
        let Some(line) = line.filter(|_| started.elapsed() < READY) else {
            return Err(Trouble::new(format!("the daemon did not get ready:\n{}", said.join("\n"))));
        };
        let told: Value = serde_json::from_str(&line).unwrap_or_default();
        let place = match told["message"].as_str() {
            Some("ready") => &mut address,
            Some("metrics, healthz and readyz") => &mut admin,
            _ => {
                said.push(line);
                continue;
            }
        };
        *place = told["address"].as_str().map(str::to_owned);
    }
    std::thread::spawn(move || lines.for_each(drop));
    Ok((address.unwrap_or_default(), admin.unwrap_or_default()))
}

fn done_deliveries(metrics: &str) -> u64 {
    let of_done =
        |line: &&str| line.starts_with("longshore_deliveries_total") && line.contains(r#"outcome="done""#);
    let value = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
    metrics.lines().filter(of_done).filter_map(value).sum()
}

fn host(programs: &Programs) -> Result<Value> {
    json_of(Command::new(programs.folder.join("bench-host")).arg(&programs.handlers), "the host's bench")
}

fn json_of(command: &mut Command, name: &str) -> Result<Value> {
    let output = command.stdin(Stdio::null()).output().or_trouble(format!("{name} cannot be started"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Trouble::new(format!("{name} ended with {}: {said}", output.status)));
    }
    serde_json::from_slice(&output.stdout).or_trouble(format!("{name} printed no JSON"))
}

fn report(rounds: &[Round], host: &Value) {
    let median = |pick: fn(&Round) -> &Value, key: &str| {
        let mut values: Vec<f64> = rounds.iter().filter_map(|round| pick(round)[key].as_f64()).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let bare = median(|r| &r.bare, "per_second");
    let accept = median(|r| &r.accept, "per_second");
    let done = median(|r| &r.done, "per_second");
    println!("a bare axum server that only verifies the HMAC   {bare:>9.0} /s");
    println!(
        "durable accepts                                  {accept:>9.0} /s   {:.2} of bare (bar 0.5)",
        accept / bare
    );
    println!(
        "accepted and done by a no-op handler             {done:>9.0} /s   {:.2} of bare (bar 0.12)",
        done / bare
    );
    println!(
        "accept under full load: p50 {:.1} ms, p99 {:.1} ms",
        median(|r| &r.accept, "p50_us") / 1e3,
        median(|r| &r.accept, "p99_us") / 1e3
    );
    let of = |key: &str| host[key].as_f64().unwrap_or(f64::NAN);
    println!(
        "host cost of a delivery                          {:>9.1} us   {:.2} of a bare wasmtime call, {:.1} us (bar 1.5)",
        of("host_us"),
        of("ratio"),
        of("bare_us")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_refused_and_a_disk_is_not() {
        let shm = Path::new("/dev/shm");
        if shm.exists() {
            let trouble = refuse_memory(shm).unwrap_err().to_string();
            assert!(trouble.contains("lies in memory"), "{trouble}");
        }
        refuse_memory(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    }

    #[test]
    fn done_deliveries_are_summed_over_handlers() {
        let metrics = "longshore_deliveries_total{handler=\"a\",outcome=\"done\"} 3\nlongshore_deliveries_total{handler=\"b\",outcome=\"done\"} 4\nlongshore_deliveries_total{handler=\"b\",outcome=\"dead\"} 9\n";
        assert_eq!(done_deliveries(metrics), 7);
    }
}
