//! Store: the data directory as a whole: whether it is whole, a copy of it, what is in it, and its repair.

use clap::Subcommand;

use super::Result;
use super::failure::Failure;
use super::screen::Screen;
use crate::store::Error;

mod backup;
mod check;
mod export;
mod repair;
mod stat;

/// Check the store, repair it, copy it, print what is in it, or count.
#[derive(Debug, Subcommand)]
pub(super) enum Store {
    Check(check::Check),
    Repair(repair::Repair),
    Backup(backup::Backup),
    Export(export::Export),
    Stat(stat::Stat),
}

impl Store {
    pub(super) async fn run(self, screen: &Screen) -> Result {
        match self {
            Store::Check(check) => check.run(screen),
            Store::Repair(repair) => repair.run(screen),
            Store::Backup(backup) => backup.run(screen).await,
            Store::Export(export) => export.run(screen).await,
            Store::Stat(stat) => stat.run(screen).await,
        }
    }
}

/// What the store says, with what to type.
fn failure(error: Error, data: &std::path::Path) -> Failure {
    match error {
        Error::Damaged { .. } => {
            let type_this = format!("longshore store check --data-dir {}", data.display());
            Failure::failed_so(error.to_string(), type_this)
        }
        other => Failure::failed(other.to_string()),
    }
}

/// Of what cannot be done beside a daemon.
fn failure_alone(error: Error, data: &std::path::Path, type_this: &str) -> Failure {
    match error {
        Error::Locked(_) => {
            let why = format!(
                "a daemon runs on `{}`, and its journal changes while it is read; stop it",
                data.display()
            );
            Failure::failed_so(why, type_this)
        }
        other => failure(other, data),
    }
}

fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}
