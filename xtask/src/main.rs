//! The repository's chores, as a program so that a fresh clone needs nothing but cargo.
//!
//! `cargo xtask demo` shows the whole thing at work; `cargo xtask test` is what a change must pass; `cargo xtask
//! plugins` builds the components that both need. One file for each command.
//!
//! Few dependencies on purpose: whoever types the first command waits for this crate before anything is said.

mod bench;
mod charge;
mod demo;
mod fuzz;
mod http;
mod interrupt;
mod npm;
mod plugins;
mod steps;
mod test;
mod torture;
mod workspace;

use std::fmt;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use interrupt::Interrupts;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Longshore's chores")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Demo),
    Test(test::Test),
    Plugins(plugins::Plugins),
    Sdks(npm::Sdks),
    Bench(bench::Bench),
    Torture(torture::Torture),
    Fuzz(fuzz::Fuzz),
}

fn main() -> ExitCode {
    let command = Args::parse().command;
    let done = Interrupts::listen().and_then(|interrupts| match command {
        Command::Demo(demo) => demo.run(&interrupts),
        Command::Test(test) => test.run(&interrupts),
        Command::Plugins(plugins) => plugins.run(&interrupts),
        Command::Sdks(sdks) => sdks.run(&interrupts),
        Command::Bench(bench) => bench.run(&interrupts),
        Command::Torture(torture) => torture.run(&interrupts),
        Command::Fuzz(fuzz) => fuzz.run(&interrupts),
    });
    done.unwrap_or_else(|trouble| {
        eprintln!("\nxtask: {trouble}");
        ExitCode::FAILURE
    })
}

/// Why a chore could not be done. Ends with what to type, where there is something.
#[derive(Debug)]
pub(crate) struct Trouble(String);

pub(crate) type Result<T = ()> = std::result::Result<T, Trouble>;

impl Trouble {
    pub(crate) fn new(why: impl Into<String>) -> Trouble {
        Trouble(why.into())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `file.read().or_trouble("the file cannot be read")?`
pub(crate) trait OrTrouble<T> {
    fn or_trouble(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> OrTrouble<T> for std::result::Result<T, E> {
    fn or_trouble(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Trouble(format!("{what}: {e}")))
    }
}
