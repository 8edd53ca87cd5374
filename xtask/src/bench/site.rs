//! Site: where a bench stands. The programs, built; a folder on a real disk; a place for results.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::interrupt::Interrupts;
use crate::plugins::{self, Which};
use crate::steps::Steps;
use crate::workspace::{Workspace, ensure_wasm_target};
use crate::{OrTrouble as _, Result, Trouble};

#[derive(Args, Clone, Default)]
pub(super) struct Place {
    /// Where the daemon's data lies meanwhile; a real file system. Default: below the target directory.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
}

pub(super) struct Site<'a> {
    pub(super) interrupts: &'a Interrupts,
    pub(super) workspace: Workspace,
    /// Where daemons keep what they measure with.
    pub(super) data: PathBuf,
    programs: PathBuf,
    /// The component of the tests, which answers at once where it is told to.
    pub(super) handlers: PathBuf,
}

impl<'a> Site<'a> {
    pub(super) fn open(place: &Place, interrupts: &'a Interrupts) -> Result<Site<'a>> {
        let workspace = Workspace::find()?;
        let data = place.data.clone().unwrap_or_else(|| workspace.target.join("bench").join("data"));
        fs::create_dir_all(&data).or_trouble(format!("`{}` cannot be made", data.display()))?;
        // The configuration that names the plugin lies in this folder.
        let data = fs::canonicalize(&data).or_trouble(format!("`{}` cannot be found", data.display()))?;
        refuse_memory(&data)?;
        allow_open_files();
        let mut steps = Steps::new(interrupts, 2);
        let mut cargo = workspace.cargo();
        cargo.args(["build", "--release", "--package", "longshore", "--package", "bench"]);
        steps.run("the programs, optimised", &mut cargo)?;
        let files = steps.step("the plugins", |interrupts| {
            ensure_wasm_target(&workspace, interrupts)?;
            plugins::build(&workspace, Which::All, interrupts)
        })?;
        let handlers = files.into_iter().find(|file| file.ends_with("test_handlers.wasm"));
        let handlers = handlers.ok_or_else(|| Trouble::new("the handlers of the tests were not built"))?;
        let programs = workspace.target.join("release");
        eprintln!();
        Ok(Site { interrupts, workspace, data, programs, handlers })
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Waits for an answer; an interrupt ends the wait, and with it the bench.
    pub(super) fn until<T>(&self, ask: impl FnMut() -> Option<T>) -> Result<T> {
        self.interrupts.until(ask).ok_or_else(Interrupts::interrupted)
    }
}

/// A sync into memory costs nothing and proves nothing.
fn refuse_memory(folder: &Path) -> Result {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let facts =
        rustix::fs::statfs(folder).or_trouble(format!("`{}` cannot be looked at", folder.display()))?;
    match u64::try_from(facts.f_type) {
        Ok(TMPFS | RAMFS) => Err(Trouble::new(format!(
            "`{}` lies in memory, where a sync costs nothing; type `--data` and a folder on a disk",
            folder.display()
        ))),
        _ => Ok(()),
    }
}

/// For a thousand connections, at both ends. What we start inherits it.
fn allow_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("xtask: the limit on open files cannot be raised: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_refused_and_a_disk_is_not() {
        let shm = Path::new("/dev/shm");
        if shm.exists() {
            let trouble = refuse_memory(shm).unwrap_err().to_string();
            assert!(trouble.contains("lies in memory"), "{trouble}");
        }
        refuse_memory(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    }
}
