//! Rows: the seven rows of the table that the project has set itself, each with its bar and its wish.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use serde_json::{Value, json};

use super::daemon::{Daemon, Home, Wanted};
use super::figures::{bytes, mark, median, ratio, span, whole};
use super::load::Load;
use super::results::number;
use super::servers::Server;
use super::site::{Place, Site};
use super::table::Table;
use super::{express, machine, results, servers, steady};
use crate::interrupt::Interrupts;
use crate::{OrTrouble as _, Result, Trouble};

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
    /// Also: the index lost, and made again from a journal of 10 GiB. Takes a quarter of an hour and 25 GiB.
    #[arg(long)]
    growth: bool,
    /// How large that journal is.
    #[arg(long, default_value_t = 10.0, value_name = "GIB")]
    journal: f64,
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
const GIB: f64 = (1u64 << 30) as f64;
const MIB: f64 = (1u64 << 20) as f64;

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
        let rebuilt = if self.growth { self.rebuilt(&site)? } else { Value::Null };
        let result = json!({
            "seconds": self.seconds, "rounds": rounds, "connections": self.connections, "half_load": half_load,
            "host": host, "memory": memory, "rebuilt": rebuilt,
        });
        let result = results::save(&site, "rows", result)?;
        println!("{}", shown(&result));
        Ok(ExitCode::SUCCESS)
    }

    /// Every side once, in turns with the others.
    fn round(&self, site: &Site<'_>, express: Option<&PathBuf>) -> Result<Value> {
        let bare = self.side(site, servers::bare(site, None)?)?;
        eprintln!("      a bare axum server {}/s", whole(number(&bare, "per_second")));
        let accept = self.accept(site)?;
        eprintln!("      durable accepts {}/s", whole(number(&accept, "per_second")));
        let done = steady::steady(site, self.connections, self.seconds)?;
        eprintln!("      accepted and done {}/s", whole(number(&done, "per_second")));
        let express = express.map_or(Ok(Value::Null), |folder| self.side(site, servers::express(folder)?))?;
        eprintln!("      the Express example {}/s", whole(number(&express, "per_second")));
        Ok(json!({"bare": bare, "accept": accept, "done": done, "express": express}))
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

    /// Waits at half of what the machine can do, beside one append and its sync on the same disk, in turns.
    fn half_load(&self, site: &Site<'_>, rounds: &[Value]) -> Result<Value> {
        let rate = median(rounds.iter().map(|round| number(round, "accept.per_second"))) / 2.0;
        eprintln!("half load, {}/s, beside one append and its sync", whole(rate));
        let mut pairs = Vec::new();
        for _ in 0..self.rounds {
            let home = Home::scratch(site, Wanted::Nothing, false)?;
            let daemon = Daemon::start(site, &home)?;
            let load = Load { rate: Some(rate), ..self.load(self.seconds.min(SIDE_S)) };
            let loaded = load.run(site, &daemon.address)?;
            let metrics = daemon.metrics()?;
            let record = metrics.journal_bytes() / metrics.records().max(1);
            drop(daemon);
            let mut command = Command::new(site.program("bench-sync"));
            command.arg(&site.data).args(["--bytes", &record.to_string(), "--count", &APPENDS.to_string()]);
            let sync = told(&mut command, "the disk's bench")?;
            let of_sync = number(&sync, "append.p99_us");
            eprintln!("      accept p99 {}, append and sync p99 {}", span(loaded.p99_us()), span(of_sync));
            pairs.push(json!({"accept": loaded.value(), "sync": sync, "ratio": loaded.p99_us() / of_sync}));
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

    /// Events of the usual size until the journal has its size; then the index goes.
    fn rebuilt(&self, site: &Site<'_>) -> Result<Value> {
        let home = Home::scratch(site, Wanted::Nothing, false)?;
        let daemon = Daemon::start(site, &home)?;
        let (mut events, wanted) = (0, self.journal * GIB);
        let mut journal = 0.0;
        while journal < wanted {
            // As many as are missing, by what one has taken so far; the first ones show that.
            let each = if events == 0 { 1e5 } else { (wanted - journal) / (journal / events as f64) };
            let load =
                Load { connections: FILL_CONNECTIONS, events: Some(each.max(1e3) as u64), ..Load::default() };
            events += load.run(site, &daemon.address)?.answered();
            journal = daemon.metrics()?.journal_bytes() as f64;
            eprintln!("      a journal of {}", bytes(journal));
        }
        daemon.wait_for_index(site)?;
        drop(daemon);
        home.delete_index()?;
        let daemon = Daemon::start(site, &home)?;
        eprintln!("      made again in {}", span(daemon.ready_us));
        Ok(
            json!({"journal_bytes": journal, "events": events, "start_us": daemon.ready_us, "store": daemon.opened}),
        )
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
fn told(command: &mut Command, name: &str) -> Result<Value> {
    let output = command.stdin(Stdio::null()).output().or_trouble(format!("{name} cannot be started"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Trouble::new(format!("{name} ended with {}: {said}", output.status)));
    }
    serde_json::from_slice(&output.stdout).or_trouble(format!("{name} printed no JSON"))
}

// === what is shown ===

/// The table, and below it what shows that nothing piled up.
pub(super) fn shown(result: &Value) -> String {
    let parts = [table(result).markdown(), lags(result), costs(result).markdown(), machine::sentence(result)];
    parts.join("\n\n")
}

fn table(result: &Value) -> Table {
    let mut table = Table::new(&["", "what", ">measured", ">is", ">bar", ">wish", ""]);
    for line in lines(result) {
        let verdict = line.verdict();
        table.row([
            line.number.into(),
            line.what,
            line.measured,
            (line.show)(line.value),
            mark(&(line.show)(line.bar)),
            mark(&(line.show)(line.wish)),
            verdict.into(),
        ]);
    }
    table
}

struct Line {
    number: &'static str,
    what: String,
    measured: String,
    value: f64,
    bar: f64,
    wish: f64,
    more_is_better: bool,
    show: fn(f64) -> String,
}

impl Line {
    fn verdict(&self) -> &'static str {
        let reached = |mark: f64| if self.more_is_better { self.value >= mark } else { self.value <= mark };
        match () {
            () if self.value.is_nan() => "not measured",
            () if reached(self.wish) => "bar and wish reached",
            () if reached(self.bar) => "bar reached",
            () => "BAR MISSED",
        }
    }
}

fn lines(result: &Value) -> Vec<Line> {
    let of = |path: &str| over_rounds(result, path);
    let pairs = || result["half_load"]["pairs"].as_array().into_iter().flatten();
    let of_pairs = |path: &str| median(pairs().map(|pair| number(pair, path)));
    let (bare, accept, done, express) =
        (of("bare.per_second"), of("accept.per_second"), of("done.per_second"), of("express.per_second"));
    let per_second = |ours: f64, theirs: f64| format!("{} /s ÷ {} /s", whole(ours), whole(theirs));
    let spans = |ours: f64, theirs: f64| format!("{} ÷ {}", span(ours), span(theirs));
    let (waits, syncs) = (of_pairs("accept.p99_us"), of_pairs("sync.append.p99_us"));
    let line = |number, what: String, measured: String, value, (bar, wish), more_is_better, show| Line {
        number,
        what,
        measured,
        value,
        bar,
        wish,
        more_is_better,
        show,
    };
    let host = |key: &str| number(&result["host"], key);
    let memory = |path: &str| number(&result["memory"], path);
    let keys = whole(memory("keys"));
    let rebuilt = |key: &str| number(&result["rebuilt"], key);
    let two = |value: f64| ratio(value);
    vec![
        line(
            "1",
            "durable accepts ÷ a bare axum server that verifies".into(),
            per_second(accept, bare),
            accept / bare,
            (0.5, 0.7),
            true,
            two,
        ),
        line(
            "2",
            "accepted and done by a no-op handler ÷ the same server".into(),
            per_second(done, bare),
            done / bare,
            (0.12, 0.2),
            true,
            two,
        ),
        line(
            "3",
            "durable accepts ÷ the provider's Express example".into(),
            per_second(accept, express),
            accept / express,
            (5.0, 10.0),
            true,
            two,
        ),
        line(
            "4",
            "p99 of accept at half load ÷ p99 of one append and fdatasync".into(),
            spans(waits, syncs),
            of_pairs("ratio"),
            (10.0, 4.0),
            false,
            two,
        ),
        line(
            "5",
            "host cost of a delivery ÷ a bare wasmtime call".into(),
            spans(host("host_us"), host("bare_us")),
            host("ratio"),
            (1.5, 1.2),
            false,
            two,
        ),
        line(
            "6",
            "resident memory, idle".into(),
            String::new(),
            memory("idle.resident_bytes"),
            (64.0 * MIB, 40.0 * MIB),
            false,
            bytes,
        ),
        line(
            "6",
            format!("resident memory, {keys} live keys"),
            format!("after a restart {}", bytes(memory("restarted.resident_bytes"))),
            memory("full.resident_bytes"),
            (256.0 * MIB, 150.0 * MIB),
            false,
            bytes,
        ),
        line(
            "7",
            format!("start with {keys} live keys, clean"),
            String::new(),
            memory("start_us"),
            (2e6, 0.5e6),
            false,
            span,
        ),
        line(
            "7",
            "start with the index lost, made again from the journal".into(),
            format!("{}, {} events", bytes(rebuilt("journal_bytes")), whole(rebuilt("events"))),
            rebuilt("start_us"),
            (300e6, 60e6),
            false,
            span,
        ),
    ]
}

/// Backlog and lag at the start, in the middle and at the end, of the round in the middle.
fn lags(result: &Value) -> String {
    let mut table = Table::new(&["held for the whole time", ">start", ">middle", ">end", ">most"]);
    let rounds = result["rounds"].as_array();
    let Some(round) = rounds.and_then(|rounds| rounds.get(rounds.len() / 2)) else { return String::new() };
    let cell = |path: String| whole(number(round, &path));
    let times = ["start", "middle", "end"];
    let mut row = |what: &str, path: &dyn Fn(&str) -> String, most: &str| {
        let mut cells = vec![what.to_owned()];
        cells.extend(times.iter().map(|time| cell(path(time))));
        cells.push(cell(most.to_owned()));
        table.row_of(cells);
    };
    row(
        "accepts alone: records that the index has not seen",
        &|time| format!("accept.index_lag_records.{time}"),
        "accept.index_lag_records.max",
    );
    row(
        "accepted and done: records that the index has not seen",
        &|time| format!("done.{time}.index_lag_records"),
        "done.index_lag_max",
    );
    row(
        "accepted and done: events accepted and not done",
        &|time| format!("done.{time}.waiting"),
        "done.waiting_max",
    );
    table.markdown()
}

/// Processor time for each event. It moves less than the clock does when something else runs on the machine.
fn costs(result: &Value) -> Table {
    let mut table = Table::new(&["processor time for each event", ">server", ">load generator"]);
    for (what, side) in [
        ("a bare axum server that verifies", "bare"),
        ("durable accepts", "accept"),
        ("accepted and done by a no-op handler", "done"),
        ("the provider's Express example", "express"),
    ] {
        let us = |key: &str| {
            let value = over_rounds(result, &format!("{side}.{key}"));
            if value.is_nan() { "-".to_owned() } else { format!("{value:.1} us") }
        };
        table.row([what.into(), us("server_cpu_us"), us("cpu_us")]);
    }
    table
}

/// The median of what was measured at all.
fn over_rounds(result: &Value, path: &str) -> f64 {
    let rounds = result["rounds"].as_array().into_iter().flatten();
    median(rounds.map(|round| number(round, path)).filter(|value| value.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> Value {
        let round = |bare: f64, accept: f64| {
            json!({
                "bare": {"per_second": bare}, "express": {"per_second": 3_000.0},
                "accept": {"per_second": accept, "server_cpu_us": 41.26, "cpu_us": 9.0, "index_lag_records": {"start": 5, "middle": 6, "end": 7, "max": 80}},
                "done": {"per_second": 6_000.0, "start": {"waiting": 1, "index_lag_records": 2},
                    "middle": {"waiting": 3, "index_lag_records": 4}, "end": {"waiting": 5, "index_lag_records": 6},
                    "waiting_max": 7, "index_lag_max": 8},
            })
        };
        json!({
            "rounds": [round(50_000.0, 24_000.0), round(60_000.0, 31_000.0), round(40_000.0, 26_000.0)],
            "half_load": {"pairs": [{"accept": {"p99_us": 9_000}, "sync": {"append": {"p99_us": 3_000}}, "ratio": 3.0}]},
            "host": {"host_us": 70.0, "bare_us": 50.0, "ratio": 1.4},
            "memory": {"keys": 1_000_000, "idle": {"resident_bytes": 50 << 20}, "full": {"resident_bytes": 300 << 20}, "start_us": 400_000},
            "rebuilt": null,
        })
    }

    #[test]
    fn each_row_says_whether_its_bar_and_its_wish_are_reached() {
        let verdicts: Vec<_> = lines(&result()).iter().map(|line| (line.number, line.verdict())).collect();
        let wanted = [
            ("1", "bar reached"),
            ("2", "bar reached"),
            ("3", "bar reached"),
            ("4", "bar and wish reached"),
            ("5", "bar reached"),
            ("6", "bar reached"),
            ("6", "BAR MISSED"),
            ("7", "bar and wish reached"),
            ("7", "not measured"),
        ];
        assert_eq!(verdicts, wanted);
    }

    #[test]
    fn the_table_holds_the_medians_and_the_lags() {
        let shown = shown(&result());
        for words in [
            "26,000 /s ÷ 50,000 /s",
            "0.52",
            "9.00 ms ÷ 3.00 ms",
            "300 MiB",
            "41.3 us",
            "|     5 |      6 |   7 |   80 |",
        ] {
            assert!(shown.contains(words), "`{words}` is not in\n{shown}");
        }
    }
}
