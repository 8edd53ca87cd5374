//! Where the repository and its target directory are, and how cargo is called in it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::interrupt::Interrupts;
use crate::steps::execute;
use crate::{OrTrouble as _, Result, Trouble};

/// What plugins are compiled for.
pub(crate) const WASM_TARGET: &str = "wasm32-wasip2";

pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// As cargo sees it: `CARGO_TARGET_DIR` and the configuration files count.
    pub(crate) target: PathBuf,
}

impl Workspace {
    pub(crate) fn find() -> Result<Workspace> {
        // `cargo run` says where this is now; what was compiled in may be a clone that shared the target directory.
        let own = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&own).parent().expect("xtask lies in the workspace");
        let mut metadata = cargo(root);
        metadata.args(["metadata", "--no-deps", "--format-version", "1"]);
        let output = metadata.output().or_trouble("cargo cannot be started")?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(Trouble::new(format!("`cargo metadata` failed: {why}")));
        }
        let facts: Value =
            serde_json::from_slice(&output.stdout).or_trouble("`cargo metadata` printed no JSON")?;
        let path = |name: &str| facts[name].as_str().map(PathBuf::from);
        match (path("workspace_root"), path("target_directory")) {
            (Some(root), Some(target)) => Ok(Workspace { root, target }),
            _ => Err(Trouble::new("`cargo metadata` names no target directory")),
        }
    }

    pub(crate) fn cargo(&self) -> Command {
        cargo(&self.root)
    }

    /// `path` as somebody in the repository's root would type it.
    pub(crate) fn shown<'p>(&self, path: &'p Path) -> std::path::Display<'p> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// Cargo in the repository's root, as if it were called from a shell.
///
/// What `cargo run` told this program about itself must not reach it: build scripts such as ring's watch those
/// variables, and would build half the tree anew.
fn cargo(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    for (name, _) in env::vars_os() {
        let of_ours = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_MANIFEST_")
                || name.starts_with("CARGO_BIN_")
        });
        if of_ours {
            command.env_remove(&name);
        }
    }
    command
}

/// Has rustup fetch the target where it is missing; with it there, nothing is asked of the network.
pub(crate) fn ensure_wasm_target(workspace: &Workspace, interrupts: &Interrupts) -> Result {
    if has_wasm_target(workspace)? {
        eprintln!("      {WASM_TARGET} is there");
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.current_dir(&workspace.root).args(["target", "add", WASM_TARGET]);
    execute(interrupts, &mut rustup)
}

fn has_wasm_target(workspace: &Workspace) -> Result<bool> {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let output = rustc.current_dir(&workspace.root).args(["--print", "sysroot"]).output();
    let output = output.or_trouble("rustc cannot be started")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Ok(sysroot.join("lib/rustlib").join(WASM_TARGET).is_dir())
}
