//! `cargo xtask demo`: the whole line at work on this machine, with nothing real at the other ends.
//!
//! The daemon runs on the repository's own `config.yaml`, with `examples/demo/demo.yaml` laid over it and, over
//! that, the ports and addresses of this run. Signed events go in over HTTPS; what came of them is asked of the
//! daemon (`deliveries list --json`) and of the stand-ins, and put beside what should have come of them.

mod rows;
mod scene;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use crate::interrupt::Interrupts;
use crate::plugins::{self, Which};
use crate::steps::{Steps, span};
use crate::workspace::{Workspace, ensure_wasm_target};
use crate::{OrTrouble as _, Result, Trouble};
use rows::{Facts, Sent};
use scene::Scene;

/// Build everything, run it against stand-ins for Slack and HubSpot, and show what comes of each event.
#[derive(Args)]
pub(crate) struct Demo {
    /// End after the table, with 1 where something differs from what should have come of it.
    #[arg(long)]
    once: bool,
    /// Sign the events with another secret than the daemon has, to see the demo fail.
    #[arg(long)]
    secret_wrong: bool,
    /// Do not build the daemon and the stand-ins: use those in this directory.
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,
}

/// Where the daemon and the stand-ins are.
struct Programs {
    longshore: PathBuf,
    stand_ins: PathBuf,
}

/// How long deliveries may take to end after the last event was sent; more than a handler's whole budget.
const SETTLE: Duration = Duration::from_secs(60);

impl Demo {
    pub(crate) fn run(self, interrupts: &Interrupts) -> Result<ExitCode> {
        let workspace = Workspace::find()?;
        let mut steps = Steps::new(interrupts, if self.programs.is_some() { 5 } else { 6 });
        steps.step("the wasm target", |interrupts| ensure_wasm_target(&workspace, interrupts))?;
        steps.step("the plugins", |interrupts| plugins::build(&workspace, Which::Shipped, interrupts))?;
        let programs = match &self.programs {
            Some(folder) => Programs::find(folder)?,
            None => Programs::build(&workspace, &mut steps)?,
        };
        let started = Instant::now();
        let mut scene = steps.step("the stand-ins and the daemon", |interrupts| {
            Scene::open(&workspace, &programs, interrupts)
        })?;
        let ready = started.elapsed();
        let sent = steps.step("the events", |_| send_all(&scene, self.secret_wrong))?;
        let facts = steps.step("what came of them", |interrupts| settle(&mut scene, sent, interrupts))?;
        let rows = rows::judge(&facts);
        print!("\n{}", rows::table(&rows));
        println!("\nstand-ins and daemon ready in {}; {}", span(ready), rows::figures(&facts));
        let differing = rows.iter().filter(|row| !row.is_well()).count();
        if differing > 0 {
            scene.keep();
            println!("{differing} of {} rows differ; the daemon's log is {}", rows.len(), scene.log_shown());
        }
        if self.once {
            return Ok(ExitCode::from(u8::from(differing > 0)));
        }
        stay(&mut scene, interrupts)
    }
}

/// Where cargo says that it put a program.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut built = messages.filter(|message| message["target"]["name"] == name);
    built.find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

impl Programs {
    fn build(workspace: &Workspace, steps: &mut Steps<'_>) -> Result<Programs> {
        // Two programs, but of the whole workspace: cargo chooses the features of common dependencies by the packages
        // that are selected, and another choice than `cargo test --workspace` makes would compile wasmtime twice.
        let mut cargo = workspace.cargo();
        cargo.args(["build", "--workspace", "--bin", "longshore", "--bin", "stand-ins"]);
        cargo.args(["--message-format", "json-render-diagnostics"]);
        let messages = steps
            .run_for_output("the daemon and the stand-ins (the first time takes minutes)", &mut cargo)?;
        let program = |name: &str| {
            executable(&messages, name)
                .ok_or_else(|| Trouble::new(format!("cargo built no program `{name}`")))
        };
        Ok(Programs { longshore: program("longshore")?, stand_ins: program("stand-ins")? })
    }

    fn find(folder: &std::path::Path) -> Result<Programs> {
        let folder = folder.canonicalize().or_trouble(format!("`{}`", folder.display()))?;
        let program = |name: &str| {
            let path = folder.join(name);
            let missing = || {
                Trouble::new(format!("there is no `{}`; type `cargo xtask demo` to build it", path.display()))
            };
            if path.is_file() { Ok(path.clone()) } else { Err(missing()) }
        };
        Ok(Programs { longshore: program("longshore")?, stand_ins: program("stand-ins")? })
    }
}

/// One event of each type, the second once more, and one that is signed with another secret.
fn send_all(scene: &Scene, secret_wrong: bool) -> Result<Vec<Sent>> {
    rows::EVENTS
        .iter()
        .map(|event| {
            let sent = scene.send(event, secret_wrong || event.forged)?;
            eprintln!("      {}: {}", event.name, sent.shown());
            Ok(sent)
        })
        .collect()
}

/// Waits until no delivery is open, then asks everybody.
fn settle(scene: &mut Scene, sent: Vec<Sent>, interrupts: &Interrupts) -> Result<Facts> {
    let deadline = Instant::now() + SETTLE;
    let deliveries = interrupts.until(|| {
        let asked = scene.ask(&["deliveries", "list"]);
        let open = |rows: &Value| {
            rows["rows"].as_array().is_some_and(|all| all.iter().any(|row| row["status"] == "open"))
        };
        match asked {
            Ok(rows) if open(&rows) && Instant::now() < deadline => None,
            other => Some(other),
        }
    });
    let deliveries = deliveries.ok_or_else(Interrupts::interrupted)??;
    let events = scene.ask(&["events", "list"])?;
    let (slack, hubspot) = (scene.received_by_slack()?, scene.received_by_hubspot()?);
    Ok(Facts { sent, deliveries, events, slack, hubspot })
}

/// Leaves everything up until a signal comes or the daemon ends.
fn stay(scene: &mut Scene, interrupts: &Interrupts) -> Result<ExitCode> {
    println!("\n{}", scene.hints());
    let ended = interrupts.until(|| scene.daemon_ended());
    match ended {
        None => {
            eprintln!("\nxtask: ending the daemon and the stand-ins");
            Ok(ExitCode::SUCCESS)
        }
        Some(trouble) => Err(trouble),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_where_cargo_says() {
        let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"longshore\"},\"executable\":null}\n\
                        not json\n\
                        {\"target\":{\"name\":\"longshore\"},\"executable\":\"/t/debug/longshore\"}\n";
        assert_eq!(executable(messages, "longshore"), Some(PathBuf::from("/t/debug/longshore")));
        assert_eq!(executable(messages, "stand-ins"), None);
    }
}
