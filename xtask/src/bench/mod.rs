//! `cargo xtask bench`: what the daemon reaches on this machine, as ratios, each with its other side in the same run.
//!
//! Speed is checked here and never in a timed test: machines are noisy, and a ratio of two runs in turns is what
//! survives that. The same load generator drives every side, and shares the processors with all of them.
//!
//! Without a word it measures the seven rows of the table that the project has set itself (`rows`); `sweep`,
//! `growth`, `pages` and `rebuild` look along one axis each; `strangers` looks at a handler with hostile ones beside it,
//! `verify` at the cost of a signature and of requests that are made to be slow.
//! Every result is a file below `target/bench/results`; `render`
//! writes them into `docs/performance.md`.

mod daemon;
mod express;
mod figures;
mod growth;
mod load;
mod machine;
mod pages;
mod process;
mod rebuild;
mod render;
mod results;
mod rows;
mod scrape;
mod servers;
mod site;
mod steady;
mod strangers;
mod sweep;
mod table;
mod verify;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::Result;
use crate::interrupt::Interrupts;

/// Measure: the seven rows, or one axis of them; each beside its other side.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    #[command(subcommand)]
    axis: Option<Axis>,
    #[command(flatten)]
    rows: rows::Rows,
}

#[derive(Subcommand)]
enum Axis {
    Sweep(sweep::Sweep),
    Growth(growth::Growth),
    Pages(pages::Pages),
    Rebuild(rebuild::Rebuild),
    Strangers(strangers::Strangers),
    Verify(verify::Verify),
    Render(render::Render),
}

impl Bench {
    pub(crate) fn run(self, interrupts: &Interrupts) -> Result<ExitCode> {
        match self.axis {
            None => self.rows.run(interrupts),
            Some(Axis::Sweep(sweep)) => sweep.run(interrupts),
            Some(Axis::Growth(growth)) => growth.run(interrupts),
            Some(Axis::Pages(pages)) => pages.run(interrupts),
            Some(Axis::Rebuild(rebuild)) => rebuild.run(interrupts),
            Some(Axis::Strangers(strangers)) => strangers.run(interrupts),
            Some(Axis::Verify(verify)) => verify.run(interrupts),
            Some(Axis::Render(render)) => render.run(interrupts),
        }
    }
}
