//! Growth: what more live keys cost. Accept rate, memory, start and disk, for each number of them.
//!
//! Each number has a directory and a result of its own: what was measured before an interrupt is not measured
//! again.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::daemon::{Daemon, Home, Wanted};
use super::figures::{bytes, median, ratio, span, whole};
use super::load::Load;
use super::machine;
use super::results::{self, number};
use super::rows::fill;
use super::site::{Place, Site};
use super::table::Table;
use crate::Result;
use crate::interrupt::Interrupts;
use crate::workspace::Workspace;

/// Measure: 10 thousand to 10 million live keys against accept rate, memory, start and disk.
#[derive(Args)]
pub(super) struct Growth {
    #[arg(long, value_delimiter = ',', default_values_t = SIZES)]
    keys: Vec<u64>,
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Measure also what has a result already.
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    place: Place,
}

const SIZES: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
/// Starts of which the median counts. After SIGKILL, and with the index gone, there is only one of its kind.
const STARTS: usize = 3;

impl Growth {
    pub(super) fn run(self, interrupts: &Interrupts) -> Result<ExitCode> {
        let site = Site::open(&self.place, interrupts)?;
        for keys in &self.keys {
            let name = name(*keys);
            if !self.again && results::read(&site.workspace, &name).is_some() {
                eprintln!(
                    "      {} keys: measured before; type --again to measure anew",
                    whole(*keys as f64)
                );
                continue;
            }
            let result = self.size(&site, *keys)?;
            results::save(&site, &name, result)?;
        }
        println!("{}", shown(&measured(&site.workspace)));
        Ok(ExitCode::SUCCESS)
    }

    fn size(&self, site: &Site<'_>, keys: u64) -> Result<Value> {
        eprintln!("{} keys", whole(keys as f64));
        let home = Home::scratch(site, Wanted::Nothing, false)?;
        // The first start compiles the plugin; nobody waits for that twice.
        drop(Daemon::start(site, &home)?);
        let empty = starts(site, &home, STARTS)?;
        let mut daemon = Daemon::start(site, &home)?;
        let filled = fill(keys).run(site, &daemon.address)?;
        daemon.wait_for_index(site)?;
        let full = daemon.memory();
        drop(daemon);
        let (journal, index) = home.disk_bytes();
        eprintln!("      filled at {}/s, {} resident", whole(filled.per_second()), bytes(full.resident));
        let clean = starts(site, &home, STARTS)?;
        let (rate, more) = self.rate_and_kill(site, &home, keys)?;
        let killed = starts(site, &home, 1)?;
        home.delete_index()?;
        let rebuilt = starts(site, &home, 1)?;
        let us = |start: &Value| span(number(start, "us"));
        eprintln!(
            "      start: clean {}, after SIGKILL {}, index deleted {}",
            us(&clean),
            us(&killed),
            us(&rebuilt)
        );
        Ok(json!({
            "keys": keys, "keys_later": keys + more, "fill": filled.value(), "rate": rate, "full": full.value(),
            "journal_bytes": journal, "index_bytes": index,
            "empty": empty, "clean": clean, "killed": killed, "rebuilt": rebuilt,
        }))
    }

    /// The rate with these keys, in a daemon that was just started with them; then SIGKILL, at once. Also how many
    /// keys came with it.
    fn rate_and_kill(&self, site: &Site<'_>, home: &Home, keys: u64) -> Result<(Value, u64)> {
        let mut daemon = Daemon::start(site, home)?;
        // Enough to be measured, and few enough that it stays about this number of keys.
        let events = (keys / 4).clamp(20_000, 500_000);
        let cpu = daemon.cpu_us();
        let rate = Load { connections: self.connections, ..fill(events) }.run(site, &daemon.address)?;
        eprintln!("      accepts {}/s", whole(rate.per_second()));
        let rate = rate.charged(daemon.cpu_us() - cpu);
        daemon.kill()?;
        Ok((rate, events))
    }
}

/// The median of some starts, each stopped cleanly, and what the last of them said and took.
fn starts(site: &Site<'_>, home: &Home, times: usize) -> Result<Value> {
    let mut all = Vec::new();
    let mut last = Value::Null;
    for _ in 0..times {
        let mut daemon = Daemon::start(site, home)?;
        all.push(daemon.ready_us);
        last = json!({"memory": daemon.memory().value(), "store": daemon.opened});
    }
    last["us"] = median(all).into();
    Ok(last)
}

fn name(keys: u64) -> String {
    format!("growth-{keys}")
}

/// All sizes that have a result, smallest first.
pub(super) fn measured(workspace: &Workspace) -> Vec<Value> {
    let folder = std::fs::read_dir(results::folder(workspace)).into_iter().flatten().flatten();
    let names = folder.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let keys =
        names.filter_map(|name| name.strip_prefix("growth-")?.strip_suffix(".json")?.parse::<u64>().ok());
    let mut keys: Vec<u64> = keys.collect();
    keys.sort_unstable();
    keys.into_iter().filter_map(|keys| results::read(workspace, &name(keys))).collect()
}

// === what is shown ===

pub(super) fn shown(sizes: &[Value]) -> String {
    let Some(last) = sizes.last() else { return "Nothing is measured yet.".to_owned() };
    let whole_costs = costs(sizes).markdown();
    format!("{whole_costs}\n\n{}\n\n{}", each(sizes).markdown(), machine::sentence(last))
}

fn costs(sizes: &[Value]) -> Table {
    let mut table = Table::new(&[
        ">live keys",
        ">accepts",
        ">of the first",
        ">memory",
        ">after a restart",
        ">start, clean",
        ">after SIGKILL",
        ">index deleted",
        ">journal",
        ">index",
    ]);
    let first = sizes.first().map_or(f64::NAN, |size| number(size, "rate.per_second"));
    for size in sizes {
        let of = |path: &str| number(size, path);
        table.row([
            whole(of("keys")),
            format!("{} /s", whole(of("rate.per_second"))),
            ratio(of("rate.per_second") / first),
            bytes(of("full.resident_bytes")),
            bytes(of("clean.memory.resident_bytes")),
            span(of("clean.us")),
            span(of("killed.us")),
            span(of("rebuilt.us")),
            bytes(of("journal_bytes")),
            bytes(of("index_bytes")),
        ]);
    }
    table
}

/// The same for one key: of memory and start, what is above an empty daemon.
fn each(sizes: &[Value]) -> Table {
    let mut table = Table::new(&[
        ">for each of",
        ">memory",
        ">after a restart",
        ">start, clean",
        ">after SIGKILL",
        ">index deleted",
        ">journal",
        ">index",
    ]);
    for size in sizes {
        let of = |path: &str| number(size, path);
        let (keys, later) = (of("keys"), of("keys_later"));
        let bytes_each = |value: f64| format!("{} B", ratio(value.max(0.0) / keys));
        let us_each =
            |start: &str, keys: f64| format!("{} us", ratio((of(start) - of("empty.us")).max(0.0) / keys));
        table.row([
            whole(keys),
            bytes_each(of("full.resident_bytes") - of("empty.memory.resident_bytes")),
            bytes_each(of("clean.memory.resident_bytes") - of("empty.memory.resident_bytes")),
            us_each("clean.us", keys),
            us_each("killed.us", later),
            us_each("rebuilt.us", later),
            bytes_each(of("journal_bytes")),
            bytes_each(of("index_bytes")),
        ]);
    }
    table
}

/// Charts for `bench-plot`, by the name of their file.
pub(super) fn charts(sizes: &[Value]) -> Vec<(&'static str, Value)> {
    let series = |name: &str, path: &str, unit: f64| {
        let points: Vec<Value> =
            sizes.iter().map(|size| json!([number(size, "keys"), number(size, path) / unit])).collect();
        json!({"name": name, "points": points})
    };
    let chart = |title: &str, y: &str, log: bool, series: Vec<Value>| json!({"title": title, "x": {"name": "live keys", "log": true}, "y": {"name": y, "log": log}, "series": series});
    const MIB: f64 = (1u64 << 20) as f64;
    let starts = vec![
        series("clean", "clean.us", 1e3),
        series("after SIGKILL", "killed.us", 1e3),
        series("index deleted", "rebuilt.us", 1e3),
    ];
    let memory = vec![
        series("after the fill", "full.resident_bytes", MIB),
        series("after a restart", "clean.memory.resident_bytes", MIB),
    ];
    let disk = vec![series("journal", "journal_bytes", MIB), series("index", "index_bytes", MIB)];
    vec![
        (
            "growth-accepts",
            chart(
                "Accepts by live keys",
                "per second",
                false,
                vec![series("durable accepts", "rate.per_second", 1.0)],
            ),
        ),
        ("growth-memory", chart("Resident memory by live keys", "MiB", true, memory)),
        ("growth-start", chart("Start by live keys", "ms", true, starts)),
        ("growth-disk", chart("Disk by live keys", "MiB", true, disk)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(keys: u64) -> Value {
        let memory = |mib: u64| json!({"resident_bytes": mib << 20});
        json!({
            "keys": keys, "keys_later": keys, "rate": {"per_second": 20_000.0},
            "empty": {"us": 40_000, "memory": memory(50)}, "full": memory(50 + keys / 10_000),
            "journal_bytes": keys * 480, "index_bytes": keys * 60,
            "clean": {"us": 40_000 + keys, "memory": memory(60)}, "killed": {"us": 50_000 + keys}, "rebuilt": {"us": 60_000 + 3 * keys},
        })
    }

    #[test]
    fn costs_are_told_for_all_keys_and_for_each() {
        let shown = shown(&[size(10_000), size(1_000_000)]);
        for words in ["1,000,000", "20,000 /s", "150 MiB", "480 B", "60.0 B", "1.00 us", "3.02 us", "105 B"] {
            assert!(shown.contains(words), "`{words}` is not in\n{shown}");
        }
    }

    #[test]
    fn every_chart_has_a_point_for_each_size() {
        for (name, chart) in charts(&[size(10_000), size(100_000)]) {
            for series in chart["series"].as_array().unwrap() {
                let points = series["points"].as_array().unwrap();
                assert!(points.len() == 2 && points.iter().all(|p| p[1].is_number()), "{name}: {series}");
            }
        }
    }
}
