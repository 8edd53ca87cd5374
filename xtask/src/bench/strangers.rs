//! Strangers: how long a good handler's deliveries take while hostile handlers run, beside how long they take alone.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::daemon::{Daemon, Home, Wanted};
use super::figures::{bytes, median, quantile, ratio, span, whole};
use super::load::Load;
use super::pages;
use super::results::{self, number};
use super::site::{Place, Site};
use super::table::Table;
use super::{machine, scrape::Metrics};
use crate::interrupt::Interrupts;
use crate::{OrTrouble as _, Result, Trouble};

/// Measure: p50 and p99 of a good handler from accepted to done, alone and with hostile handlers beside it.
#[derive(Args)]
pub(super) struct Strangers {
    /// Of each measurement.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Both sides in turns; the medians count.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Events a second for the good handler.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    #[command(flatten)]
    place: Place,
}

/// Of `tests/strangers`. Each of them ends with its time or with its memory.
pub(super) const BESIDE: [&str; 12] = [
    "endless-loop",
    "loop-in-post-return",
    "memory-bomb",
    "memory-fill",
    "slow-drip",
    "deep-recursion",
    "log-without-end",
    "print-without-end",
    "state-without-end",
    "settings-without-end",
    "random-without-end",
    "poll-a-crowd",
];
const GOOD: &str = "message.received";
const BAD: &str = "strangers.go";
/// Each calls every stranger once.
const BAD_PER_SECOND: u32 = 4;
const CONNECTIONS: u32 = 16;
const WARM_UP_S: f64 = 1.0;
/// What the pool and the allocator give back, they give back within this.
const SETTLE: Duration = Duration::from_secs(5);
const PAGE_ROWS: usize = 1000;

impl Strangers {
    pub(super) fn run(self, interrupts: &Interrupts) -> Result<ExitCode> {
        let site = Site::open(&self.place, interrupts)?;
        let mut rounds = Vec::new();
        for round in 1..=self.rounds {
            eprintln!("round {round} of {}", self.rounds);
            let (alone, beside) = (self.side(&site, false)?, self.side(&site, true)?);
            for (name, side) in [("alone", &alone), ("beside strangers", &beside)] {
                eprintln!(
                    "      {name}: p50 {}, p99 {}",
                    span(number(side, "p50_us")),
                    span(number(side, "p99_us"))
                );
            }
            rounds.push(json!({"alone": alone, "beside": beside}));
        }
        let result = json!({"seconds": self.seconds, "rate": self.rate, "strangers": BESIDE.len() + 1, "rounds": rounds});
        let result = results::save(&site, "strangers", result)?;
        println!("{}", shown(&result));
        Ok(ExitCode::SUCCESS)
    }

    fn side(&self, site: &Site<'_>, disturbed: bool) -> Result<Value> {
        let home = Home::scratch(site, Wanted::Strangers, false)?;
        // The first start compiles the plugins; what that takes is not what is measured.
        drop(Daemon::start(site, &home)?);
        let mut daemon = Daemon::start(site, &home)?;
        let before = daemon.memory().resident;
        let bad = if disturbed { BAD_PER_SECOND } else { 0 };
        let mut mix = vec![format!("{}:/webhooks/sendpilot:{GOOD}", self.rate)];
        if disturbed {
            mix.push(format!("{bad}:/webhooks/sendpilot:{BAD}"));
        }
        let load = Load {
            connections: CONNECTIONS,
            seconds: self.seconds,
            warm_up: WARM_UP_S,
            rate: Some(f64::from(self.rate + bad)),
            mix,
            ..Load::default()
        };
        let loaded = load.run(site, &daemon.address)?;
        self.wait_for_the_good_ones(site, &daemon)?;
        let mut waits = waits_us(&daemon.socket())?;
        let ended = daemon.metrics()?.ended();
        let settled = std::time::Instant::now();
        site.until(|| (settled.elapsed() > SETTLE).then_some(()))?;
        Ok(json!({
            "deliveries": waits.len(),
            "p50_us": quantile(&mut waits, 0.5),
            "p99_us": quantile(&mut waits, 0.99),
            "max_us": quantile(&mut waits, 1.0),
            "answer": loaded.value(),
            "ended_by_strangers": ended.saturating_sub(waits.len() as u64),
            "memory_before": before,
            "memory_after": daemon.memory().resident,
        }))
    }

    /// Those of strangers may go on for as long as their backlog lasts.
    fn wait_for_the_good_ones(&self, site: &Site<'_>, daemon: &Daemon) -> Result {
        let accepted = (f64::from(self.rate) * self.seconds) as u64;
        let done = |metrics: Metrics| {
            metrics.sum("longshore_deliveries_total", &[("handler", "good"), ("outcome", "done")])
        };
        let patience = std::time::Instant::now();
        site.until(|| match daemon.metrics().map(done) {
            Ok(Some(count)) if count as u64 >= accepted => Some(Ok(())),
            Err(trouble) => Some(Err(trouble)),
            Ok(_) if patience.elapsed() > Duration::from_secs(120) => Some(Err(Trouble::new(
                "the good handler is not done after two minutes: strangers hold it up",
            ))),
            Ok(_) => None,
        })?
    }
}

/// From accepted to done, of each delivery of the good handler.
fn waits_us(socket: &Path) -> Result<Vec<f64>> {
    let (mut waits, mut cursor) = (Vec::new(), String::new());
    loop {
        let page =
            pages::get(socket, &format!("/deliveries?handler=good&status=done&limit={PAGE_ROWS}{cursor}"))?;
        for row in page["rows"].as_array().into_iter().flatten() {
            waits.push((number(row, "ended_at") - number(row, "accepted_at")) * 1e3);
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(waits),
        }
    }
}

/// Puts every component where the configuration below looks for it.
pub(super) fn write(site: &Site<'_>, folder: &Path) -> Result {
    let mut command = Command::new(site.program("bench-strangers"));
    let status =
        command.arg(folder).stdin(Stdio::null()).status().or_trouble("the strangers cannot be made")?;
    if status.success() { Ok(()) } else { Err(Trouble::new(format!("bench-strangers ended with {status}"))) }
}

/// Lines of the configuration: the good handler, the strangers, a sleeper, and who gets what.
pub(super) fn handlers(test_handlers: &Path) -> String {
    let mut text = "handlers:\n".to_owned();
    let mut subscriptions = "subscriptions:\n".to_owned();
    let plugin = test_handlers.display().to_string();
    let mut add = |name: &str, plugin: &str, more: &str, limits: &str, event: &str| {
        text += &format!(
            "  {name}: {{ plugin: \"{plugin}\", {more}limits: {limits}, retry: {{ give_up_after: 0s }} }}\n"
        );
        subscriptions +=
            &format!("  to-{name}: {{ source: sendpilot, events: [ {event} ], handler: {name} }}\n");
    };
    add("good", &plugin, "settings: { do: noop }, ", "{ timeout: 60s }", GOOD);
    const LIMITS: &str = "{ timeout: 1s, concurrency: 4 }";
    add("sleeper", &plugin, "settings: { do: sleep }, ", LIMITS, BAD);
    for name in BESIDE {
        add(name, &format!("{name}.wasm"), "", LIMITS, BAD);
    }
    text + &subscriptions
}

// === what is shown ===

pub(super) fn shown(result: &Value) -> String {
    let over = |path: &str| {
        median(result["rounds"].as_array().into_iter().flatten().map(|round| number(round, path)))
    };
    let mut table = Table::new(&[
        "",
        ">deliveries",
        ">p50",
        ">p99",
        ">longest",
        ">answer p99",
        ">ended by strangers",
        ">memory",
    ]);
    for (name, side) in [("alone", "alone"), ("beside strangers", "beside")] {
        let of = |key: &str| over(&format!("{side}.{key}"));
        table.row([
            name.into(),
            whole(of("deliveries")),
            span(of("p50_us")),
            span(of("p99_us")),
            span(of("max_us")),
            span(of("answer.p99_us")),
            whole(of("ended_by_strangers")),
            format!("{} -> {}", bytes(of("memory_before")), bytes(of("memory_after"))),
        ]);
    }
    let times = |key: &str| ratio(over(&format!("beside.{key}")) / over(&format!("alone.{key}")));
    table.row([
        "ratio".into(),
        String::new(),
        times("p50_us"),
        times("p99_us"),
        times("max_us"),
        times("answer.p99_us"),
        String::new(),
        String::new(),
    ]);
    format!(
        "{} events a second for {} s, {} hostile handlers.\n\n{}\n\n{}",
        whole(number(result, "rate")),
        whole(number(result, "seconds")),
        whole(number(result, "strangers")),
        table.markdown(),
        machine::sentence(result)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_and_their_ratio_are_shown() {
        let side = |p99: u64| {
            json!({"deliveries": 2000, "p50_us": 2000, "p99_us": p99, "max_us": p99, "ended_by_strangers": 900,
                "answer": {"p99_us": 1500}, "memory_before": 40 << 20, "memory_after": 50 << 20})
        };
        let rounds = json!([{"alone": side(4_000), "beside": side(30_000)}]);
        let shown = shown(&json!({"rate": 100, "seconds": 20.0, "strangers": 13, "rounds": rounds}));
        for word in ["alone", "beside strangers", "4.00 ms", "30 ms", "7.50", "40 MiB -> 50 MiB"] {
            assert!(shown.contains(word), "{word}\n{shown}");
        }
    }

    #[test]
    fn each_stranger_has_a_handler_and_a_subscription() {
        let text = handlers(Path::new("/p/x.wasm"));
        for name in BESIDE.into_iter().chain(["good", "sleeper"]) {
            assert!(
                text.contains(&format!("  {name}: {{ plugin")) && text.contains(&format!("handler: {name} ")),
                "{name}"
            );
        }
    }
}
