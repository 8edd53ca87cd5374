//! `cargo xtask test`: everything that a change must pass, from nothing, with no tool beside cargo.
//!
//! A test that cannot run on this machine says so on stderr itself (`writeln!(io::stderr(), "skipped: …")`);
//! the harness swallows what `eprintln!` prints, not that.

use std::process::ExitCode;

use clap::Args;

use crate::Result;
use crate::interrupt::Interrupts;
use crate::npm::{self, Packages};
use crate::plugins::{self, Which};
use crate::steps::Steps;
use crate::workspace::{WASM_TARGET, Workspace, ensure_wasm_target};

/// Format, clippy with warnings as errors, the plugins, the providers' SDKs, and every test of the workspace.
#[derive(Args)]
pub(crate) struct Test {}

impl Test {
    pub(crate) fn run(self, interrupts: &Interrupts) -> Result<ExitCode> {
        let workspace = Workspace::find()?;
        let mut steps = Steps::new(interrupts, 7);
        steps.run("format", workspace.cargo().args(["fmt", "--all", "--check"]))?;
        steps.step("the wasm target", |interrupts| ensure_wasm_target(&workspace, interrupts))?;
        // Before clippy and the tests: both may have a component compiled in.
        steps.step("the plugins", |interrupts| plugins::build(&workspace, Which::All, interrupts))?;
        steps.step("the providers' SDKs", |interrupts| sdks(&workspace, interrupts))?;
        steps.run("clippy, for the guest", &mut guest_clippy(&workspace))?;
        steps.run("clippy, for the host", &mut host_clippy(&workspace))?;
        steps.run("the tests", workspace.cargo().args(["test", "--workspace", "--no-fail-fast"]))?;
        steps.tell();
        Ok(ExitCode::SUCCESS)
    }
}

/// Without them the chapter that signs with them is skipped, and says so.
fn sdks(workspace: &Workspace, interrupts: &Interrupts) -> Result {
    match npm::sdks(workspace, interrupts)? {
        Packages::In(folder) => eprintln!("      {}", workspace.shown(&folder)),
        Packages::Missing(why) => eprintln!("      not there: {why}"),
    }
    Ok(())
}

fn host_clippy(workspace: &Workspace) -> std::process::Command {
    let mut cargo = workspace.cargo();
    cargo.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    cargo
}

/// What the host's compiler never sees: the half of the SDK that exists only in the guest.
fn guest_clippy(workspace: &Workspace) -> std::process::Command {
    let mut cargo = workspace.cargo();
    cargo.args(["clippy", "--target", WASM_TARGET, "--target-dir"]).arg(workspace.target.join("plugins"));
    cargo.args(["--package", "longshore-sdk"]);
    for package in plugins::packages(Which::All) {
        cargo.args(["--package", package]);
    }
    cargo.args(["--", "-D", "warnings"]);
    cargo
}
