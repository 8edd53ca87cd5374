//! Test: deliveries of before, run with a plugin: each is to do what it did then.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::guests;
use crate::cli::failure::Failure;
use crate::cli::rerun::{bind_file, failed, read};
use crate::cli::screen::{Screen, Tone, clean};
use crate::cli::{Ended, Result};
use crate::host::DryAnswer;
use crate::replay::{self, Difference};

/// Run the deliveries in a folder with a plugin: each is to make the same calls and to end as it did.
///
/// The files are what `deliveries export` wrote. Nothing is sent. Exit code 1 where one of them differs.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longshore plugin test plugins/slack_notify.wasm tests/deliveries")]
pub(in crate::cli) struct Test {
    /// The component.
    #[arg(value_name = "FILE")]
    plugin: PathBuf,
    /// A folder of `.delivery` files, or one of them.
    #[arg(value_name = "DIR")]
    deliveries: PathBuf,
}

#[derive(Serialize)]
struct Tested {
    file: PathBuf,
    attempt: u32,
    calls: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<Difference>,
}

impl Test {
    pub(super) fn run(self, screen: &Screen) -> Result {
        let mut tested = Vec::new();
        for file in self.files()? {
            let one = self.one(&file)?;
            if !screen.json {
                screen.data(&line(&one, screen))?;
            }
            tested.push(one);
        }
        let differ = tested.iter().filter(|one| one.difference.is_some()).count();
        if screen.json {
            screen.print_json(&tested)?;
        } else {
            screen.data(&format!("{} of {} as they were\n", tested.len() - differ, tested.len()))?;
        }
        Ok(if differ == 0 { Ended::Well } else { Ended::Badly })
    }

    fn one(&self, file: &Path) -> Result<Tested> {
        let record = read(file)?;
        let attempt = record.attempt(None).map_err(failed)?;
        let handler = bind_file(&self.plugin, record.setup(attempt).map_err(failed)?.grants())?;
        let rerun = replay::rerun(&record, attempt, &handler, DryAnswer::default());
        let rerun = guests()?.block_on(rerun).map_err(failed)?;
        let (attempt, calls) = (attempt.number, rerun.called.calls.len());
        Ok(Tested { file: file.to_owned(), attempt, calls, difference: rerun.difference })
    }

    /// In the order of their names.
    fn files(&self) -> Result<Vec<PathBuf>> {
        if self.deliveries.is_file() {
            return Ok(vec![self.deliveries.clone()]);
        }
        let unreadable = |error: std::io::Error| Failure::unreadable(&self.deliveries, &error);
        let entries = std::fs::read_dir(&self.deliveries).map_err(unreadable)?;
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension == "delivery") {
                files.push(path);
            }
        }
        files.sort();
        if files.is_empty() {
            let why = format!("`{}` has no file that ends in .delivery", self.deliveries.display());
            return Err(Failure::failed_so(why, "longshore deliveries export DELIVERY > DIR/NAME.delivery"));
        }
        Ok(files)
    }
}

fn line(tested: &Tested, screen: &Screen) -> String {
    let name = tested.file.file_name().unwrap_or(tested.file.as_os_str()).to_string_lossy();
    match &tested.difference {
        None => format!(
            "{}  {}: attempt {}, {} calls\n",
            screen.paint(Tone::Good, "ok"),
            clean(&name),
            tested.attempt,
            tested.calls
        ),
        Some(difference) => {
            format!(
                "{}  {}: {}\n",
                screen.paint(Tone::Bad, "differs"),
                clean(&name),
                clean(&difference.to_string())
            )
        }
    }
}
