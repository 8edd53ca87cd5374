//! `--simulate N`: the deterministic simulation of the store, for as many seeds as there is patience.
//!
//! The simulation is a test of the store's own room, which needs its private parts; here it only gets its seeds,
//! and it is seen that it ran.

use std::process::Command;

use crate::steps::Steps;
use crate::workspace::Workspace;
use crate::{Result, Trouble};

/// The first seed, and how many of them: what the simulation reads.
const FROM: &str = "LONGSHORE_FROM";
const SEEDS: &str = "LONGSHORE_SEEDS";
const TEST: &str = "simulation::the_store_keeps_its_promise_through_every_seed";

pub(super) fn run(workspace: &Workspace, steps: &mut Steps<'_>, seeds: u64, first: u64) -> Result {
    let told = steps
        .run_for_output(&format!("{seeds} seeds from {first}"), &mut command(workspace, seeds, first))?;
    print!("{told}");
    if passed(&told) == 0 {
        return Err(Trouble::new(format!("no test is named `{TEST}`: nothing was simulated")));
    }
    Ok(())
}

fn command(workspace: &Workspace, seeds: u64, first: u64) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--release", "--package", "longshore", "--lib", TEST, "--", "--nocapture"]);
    cargo.env(SEEDS, seeds.to_string()).env(FROM, first.to_string());
    cargo
}

/// From `test result: ok. 3 passed; 0 failed; …`.
fn passed(told: &str) -> u64 {
    let of = |line: &str| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<u64>().ok();
    told.lines().filter_map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_finds_nothing_is_seen() {
        assert_eq!(
            passed("running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 341 filtered out\n"),
            0
        );
        assert_eq!(passed("test result: ok. 2 passed; 0 failed; 0 ignored\n"), 2);
        assert_eq!(passed("test result: FAILED. 1 passed; 1 failed\n"), 0);
    }
}
