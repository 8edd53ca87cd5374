//! Express: the provider's example, with its packages beside it. They are installed once, below the target
//! directory; the repository holds only what to install.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::site::Site;
use crate::steps::execute;
use crate::{OrTrouble as _, Result, Trouble};

const FILES: [&str; 3] = ["package.json", "package-lock.json", "server.js"];
/// The Debian package that has each program.
const NEEDED: [(&str, &str); 2] = [("node", "nodejs"), ("npm", "npm")];

/// The folder in which the example can be started.
pub(super) fn install(site: &Site<'_>) -> Result<PathBuf> {
    for (program, package) in NEEDED {
        if !is_there(program) {
            return Err(Trouble::new(format!(
                "`{program}` is missing, and the Express example needs it; type `apt-get install {package}`, or `--without-express`"
            )));
        }
    }
    let from = site.workspace.root.join("tests/bench/express");
    let folder = site.workspace.target.join("bench/express");
    fs::create_dir_all(&folder).or_trouble("the folder of the Express example cannot be made")?;
    let mut is_new = !folder.join("node_modules/express").is_dir();
    for file in FILES {
        let bytes = fs::read(from.join(file))
            .or_trouble(format!("`{file}` of the Express example cannot be read"))?;
        let there = folder.join(file);
        if fs::read(&there).ok().as_ref() != Some(&bytes) {
            is_new |= file != "server.js";
            fs::write(&there, bytes)
                .or_trouble(format!("`{file}` of the Express example cannot be copied"))?;
        }
    }
    if is_new {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder);
        execute(site.interrupts, &mut npm)?;
    }
    Ok(folder)
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
}
