//! Npm: packages of Node that the repository uses beside its own code: the provider's Express example (`bench`), and
//! the SDKs whose signatures are tried (`tests/sdks`).
//!
//! The repository holds what to install, with every version locked; it is installed once, below the target directory.
//! No package runs a script of its own while it is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use crate::charge::Charge;
use crate::interrupt::Interrupts;
use crate::steps::{show, span};
use crate::workspace::Workspace;
use crate::{OrTrouble as _, Result, Trouble};

/// Install the SDKs of providers that the tests sign with, and print the folder.
#[derive(Args)]
pub(crate) struct Sdks {}

/// The Debian package that has each program.
const NEEDED: [(&str, &str); 2] = [("node", "nodejs"), ("npm", "npm")];
const LOCKED: [&str; 2] = ["package.json", "package-lock.json"];
/// Four seconds where the registry answers; where nobody does, whoever runs the tests should not wait for long.
const INSTALL: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(5);

/// What came of an installation.
pub(crate) enum Packages {
    In(PathBuf),
    /// This machine has no Node, or the registry is away: why, in words. Not our fault, and not an error of everybody.
    Missing(String),
}

impl Sdks {
    pub(crate) fn run(self, interrupts: &Interrupts) -> Result<ExitCode> {
        match sdks(&Workspace::find()?, interrupts)? {
            Packages::In(folder) => println!("{}", folder.display()),
            Packages::Missing(why) => return Err(Trouble::new(why)),
        }
        Ok(ExitCode::SUCCESS)
    }
}

pub(crate) fn sdks(workspace: &Workspace, interrupts: &Interrupts) -> Result<Packages> {
    install(workspace, interrupts, "tests/sdks", "sdks", "sdks.mjs")
}

/// Copies `script` and what it needs from the folder `from` of the repository to `to` below the target directory,
/// and has npm install the packages beside it, unless they are there.
pub(crate) fn install(
    workspace: &Workspace,
    interrupts: &Interrupts,
    from: &str,
    to: &str,
    script: &str,
) -> Result<Packages> {
    if let Some((program, package)) = NEEDED.iter().find(|(program, _)| !is_there(program)) {
        return Ok(Packages::Missing(format!("`{program}` is missing; type `apt-get install {package}`")));
    }
    let (from, folder) = (workspace.root.join(from), workspace.target.join(to));
    fs::create_dir_all(&folder).or_trouble(format!("`{}` cannot be made", folder.display()))?;
    copy(&from, &folder, script)?;
    let mut is_new = !is_whole(&folder);
    for file in LOCKED {
        is_new |= copy(&from, &folder, file)?;
    }
    let missing = if is_new { ci(&folder, interrupts)? } else { None };
    Ok(missing.map_or(Packages::In(folder), Packages::Missing))
}

/// Written by npm when it is done.
fn is_whole(folder: &Path) -> bool {
    folder.join("node_modules/.package-lock.json").is_file()
}

/// Whether it differed from what was there.
fn copy(from: &Path, to: &Path, file: &str) -> Result<bool> {
    let bytes = fs::read(from.join(file)).or_trouble(format!("`{file}` cannot be read"))?;
    let there = to.join(file);
    if fs::read(&there).ok().as_ref() == Some(&bytes) {
        return Ok(false);
    }
    fs::write(&there, bytes).or_trouble(format!("`{file}` cannot be copied"))?;
    Ok(true)
}

/// Why they could not be had; None where they are there.
fn ci(folder: &Path, interrupts: &Interrupts) -> Result<Option<String>> {
    // Half an installation must not pass for a whole one.
    let _ = fs::remove_dir_all(folder.join("node_modules"));
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries", "1"]);
    npm.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
    let shown = show(&npm);
    eprintln!("      {shown}");
    let begun = Instant::now();
    let mut charge = Charge::start("npm", &mut npm, GRACE)?;
    let ended = interrupts.until(|| match charge.ended() {
        Some(status) => Some(Some(status)),
        None => (begun.elapsed() > INSTALL).then_some(None),
    });
    Ok(match ended.ok_or_else(Interrupts::interrupted)? {
        Some(status) if status.success() && is_whole(folder) => None,
        Some(status) => Some(format!(
            "npm could not install the packages ({status}); type `{shown}` in `{}` to see why",
            folder.display()
        )),
        None => Some(format!("the packages' registry did not answer within {}", span(INSTALL))),
    })
}

fn is_there(program: &str) -> bool {
    let asked = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_seen() {
        assert!(!is_there("no-such-program-anywhere"));
        assert!(is_there("true"));
    }

    #[test]
    fn every_package_is_locked() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for folder in ["tests/sdks", "tests/bench/express"] {
            let read = |file: &str| -> serde_json::Value {
                serde_json::from_str(&fs::read_to_string(root.join(folder).join(file)).unwrap()).unwrap()
            };
            let [wanted, locked] = LOCKED.map(read);
            let packages = locked["packages"].as_object().unwrap();
            let names: Vec<&String> = wanted["dependencies"].as_object().unwrap().keys().collect();
            assert!(!names.is_empty(), "{folder} installs nothing");
            for name in names {
                assert!(packages[&format!("node_modules/{name}")]["version"].is_string(), "{folder}: {name}");
            }
            for (path, package) in packages.iter().filter(|(path, _)| !path.is_empty()) {
                assert!(package["integrity"].is_string(), "{folder}: {path} has no hash");
            }
        }
    }
}
