//! `cargo xtask plugins`: the components, built for the guest and put where the configuration looks for them.
//!
//! They have a target directory of their own beneath the common one, so that a build for the guest never waits
//! for a build for the host. What the repository ships is copied into `plugins/` (git ignores it there), because
//! `config.yaml` names it by a path that does not depend on where cargo builds; the tests take theirs from the
//! target directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::interrupt::Interrupts;
use crate::steps::{Steps, execute};
use crate::workspace::{WASM_TARGET, Workspace, ensure_wasm_target};
use crate::{OrTrouble as _, Result};

/// Build the plugins for the guest and put those that ship where config.yaml looks for them.
#[derive(Args)]
pub(crate) struct Plugins {}

/// One component: its package, and the file that cargo makes of it.
struct Component {
    package: &'static str,
    file: &'static str,
    /// In `config.yaml`, and so in `plugins/`.
    shipped: bool,
}

const COMPONENTS: &[Component] = &[
    Component { package: "slack-notify", file: "slack_notify.wasm", shipped: true },
    Component { package: "crm-sync", file: "crm_sync.wasm", shipped: true },
    Component { package: "test-handlers", file: "test_handlers.wasm", shipped: false },
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Shipped,
    All,
}

impl Plugins {
    pub(crate) fn run(self, interrupts: &Interrupts) -> Result<ExitCode> {
        let workspace = Workspace::find()?;
        let mut steps = Steps::new(interrupts, 2);
        steps.step("the wasm target", |interrupts| ensure_wasm_target(&workspace, interrupts))?;
        let files = steps.step("the plugins", |interrupts| build(&workspace, Which::All, interrupts))?;
        for file in files {
            println!("{}", workspace.shown(&file));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Builds the components and returns where they are to be found.
pub(crate) fn build(workspace: &Workspace, which: Which, interrupts: &Interrupts) -> Result<Vec<PathBuf>> {
    let target_dir = workspace.target.join("plugins");
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--profile", "plugin", "--target", WASM_TARGET, "--target-dir"]).arg(&target_dir);
    for package in packages(which) {
        cargo.args(["--package", package]);
    }
    execute(interrupts, &mut cargo)?;
    let built = target_dir.join(WASM_TARGET).join("plugin");
    let place = |component: &Component| {
        let file = built.join(component.file);
        if component.shipped {
            put(&file, &workspace.root.join("plugins").join(component.file))
        } else {
            Ok(file)
        }
    };
    components(which).map(place).collect()
}

pub(crate) fn packages(which: Which) -> impl Iterator<Item = &'static str> {
    components(which).map(|component| component.package)
}

fn components(which: Which) -> impl Iterator<Item = &'static Component> {
    COMPONENTS.iter().filter(move |component| component.shipped || which == Which::All)
}

/// By way of a rename, so that a daemon which is starting sees the old file or the new one, whole.
fn put(from: &Path, to: &Path) -> Result<PathBuf> {
    let half = to.with_extension(format!("wasm.{}", std::process::id()));
    fs::copy(from, &half).and_then(|_| fs::rename(&half, to)).or_trouble(format!(
        "`{}` cannot be copied to `{}`",
        from.display(),
        to.display()
    ))?;
    Ok(to.to_owned())
}
