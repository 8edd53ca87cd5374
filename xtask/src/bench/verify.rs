//! Verify: what a signature costs beside a bare HMAC of the same bytes, and how slow a request of 1 MiB can be made.

use std::process::{Command, ExitCode};

use clap::Args;
use serde_json::Value;

use super::figures::{bytes, ratio, span, whole};
use super::results::{self, number};
use super::site::{Place, Site};
use super::table::Table;
use super::{machine, rows};
use crate::Result;
use crate::interrupt::Interrupts;

/// Measure: a SendPilot request of 600 bytes, from headers and bytes to verdict, beside a bare HMAC-SHA256 with its key
/// set-up; and requests of 1 MiB that are made to be slow.
#[derive(Args)]
pub(super) struct Verify {
    /// Both sides in turns; the median of the rounds' ratios counts.
    #[arg(long, default_value_t = 301)]
    rounds: usize,
    /// Of each nasty request.
    #[arg(long, default_value_t = 51)]
    nasty: usize,
    #[command(flatten)]
    place: Place,
}

const RATIO_BAR: f64 = 1.25;
const NASTY_BAR_US: f64 = 2000.0;

impl Verify {
    pub(super) fn run(self, interrupts: &Interrupts) -> Result<ExitCode> {
        let site = Site::open(&self.place, interrupts)?;
        let mut command = Command::new(site.program("bench-verify"));
        command.args(["--rounds", &self.rounds.to_string(), "--nasty", &self.nasty.to_string()]);
        let result = results::save(&site, "verify", rows::told(&mut command, "the bench of verifying")?)?;
        println!("{}", shown(&result));
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) fn shown(result: &Value) -> String {
    [cost(&result["cost"]), nasty(&result["nasty"]), machine::sentence(result)].join("\n\n")
}

fn cost(cost: &Value) -> String {
    let ns = |key: &str| format!("{} ns", whole(number(cost, key)));
    let times = |key: &str| ratio(number(cost, key) / number(cost, "bare_ns"));
    let mut table = Table::new(&["600 bytes", ">takes", ">beside the bare HMAC", ">bar", ""]);
    let is = number(cost, "ratio");
    table.row([
        "from headers and bytes to verdict".into(),
        ns("verify_ns"),
        ratio(is),
        ratio(RATIO_BAR),
        verdict(is <= RATIO_BAR).into(),
    ]);
    table.row([
        "the same, and the names of the event".into(),
        ns("verify_and_identify_ns"),
        times("verify_and_identify_ns"),
        String::new(),
        String::new(),
    ]);
    let bare = "a bare HMAC-SHA256, with its key set-up";
    table.row([bare.into(), ns("bare_ns"), "1.00".into(), String::new(), String::new()]);
    table.markdown()
}

fn nasty(nasty: &Value) -> String {
    let bare = number(nasty, "bare_us");
    let mut table = Table::new(&[
        "made to be slow",
        ">body",
        ">secrets",
        "genuine",
        ">takes",
        ">bare HMACs of 1 MiB",
        "",
    ]);
    for row in nasty["rows"].as_array().into_iter().flatten() {
        let us = number(row, "median_us");
        let is_genuine = if row["genuine"] == true { "yes" } else { "no" };
        table.row([
            row["name"].as_str().unwrap_or_default().replace('|', "\\|"),
            bytes(number(row, "body_bytes")),
            whole(number(row, "secrets")),
            is_genuine.into(),
            span(us),
            ratio(us / bare),
            if us > NASTY_BAR_US { "over 2 ms".into() } else { String::new() },
        ]);
    }
    format!("A bare HMAC-SHA256 of 1 MiB, its key set up: {}.\n\n{}", span(bare), table.markdown())
}

fn verdict(is_reached: bool) -> &'static str {
    if is_reached { "bar reached" } else { "BAR MISSED" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_ratio_and_the_slow_ones_are_judged() {
        let row = |name: &str, us: f64| json!({"name": name, "body_bytes": 1 << 20, "secrets": 1, "genuine": true, "median_us": us});
        let result = |ratio: f64| {
            json!({
                "cost": {"verify_ns": 600.0, "bare_ns": 500.0, "verify_and_identify_ns": 900.0, "ratio": ratio},
                "nasty": {"bare_us": 500.0, "rows": [row("a form", 2500.0), row("spaces", 900.0)]},
            })
        };
        let good = shown(&result(1.2));
        for words in
            ["600 ns", "1.20", "bar reached", "1.80", "2.50 ms", "5.00", "over 2 ms", "900 us", "1 MiB"]
        {
            assert!(good.contains(words), "{words}\n{good}");
        }
        assert!(shown(&result(1.26)).contains("BAR MISSED"));
    }
}
