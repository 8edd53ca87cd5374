//! Backup: a copy of the store, made while the daemon runs, and proved by opening it.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{count, failure};
use crate::cli::daemon::{Place, Query};
use crate::cli::deliveries::size;
use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::times::took;
use crate::cli::{Ended, Result};
use crate::store::tools::{Copied, Proved, Snapshot, give_to_owner_of, prove};
use crate::words::time::Millis;

/// Copy the store as it is now into an empty folder, and prove the copy by opening it.
///
/// The daemon may run, and goes on. On the same file system, full segments share their blocks with the original
/// until that is deleted: copy the folder to another disk as well. The copy is a data directory: to restore it, it
/// takes the place of the old one.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longshore store backup /backups/monday && rsync -a /backups/monday elsewhere:")]
pub(in crate::cli) struct Backup {
    /// The folder; it is made where there is none.
    #[arg(value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    copied: Copied,
    proved: Proved,
}

impl Backup {
    pub(super) async fn run(self, screen: &Screen) -> Result {
        let data = self.place.data_dir()?;
        let to = std::path::absolute(&self.to).map_err(|error| Failure::unreadable(&self.to, &error))?;
        let copied = match self.place.connect().await {
            Ok(mut daemon) => {
                daemon.post_with("/backup", &Query::default().with("dir", Some(to.display()))).await?
            }
            Err(Failure::NoDaemon { .. }) => {
                let snapshot = Snapshot::open(&data).map_err(|error| failure(error, &data))?;
                snapshot.copy(&to).map_err(|error| failure(error, &to))?
            }
            Err(other) => return Err(other),
        };
        screen.say(&format!(
            "copied {}; opening it to see whether it holds",
            count(copied.segments, "segment")
        ));
        let proved = prove(&copied, Millis::now()).await.map_err(|error| failure(error, &to))?;
        give_to_owner_of(&data, &to).map_err(|error| {
            Failure::failed(format!("`{}` cannot be given to its owner: {error}", to.display()))
        })?;
        self.tell(Told { copied, proved }, &data, screen)
    }

    fn tell(&self, told: Told, data: &Path, screen: &Screen) -> Result {
        if screen.json {
            screen.print_json(&told)?;
            return Ok(Ended::Well);
        }
        let Told { copied, proved } = told;
        let (to, data) = (copied.path.display(), data.display());
        screen.data(&format!(
            "{to}: {}, {} deliveries ({} open, {} held, {} parked), {} in {}, up to position {:x}\n",
            count(proved.events, "event"),
            proved.deliveries,
            proved.open,
            proved.held,
            proved.parked,
            size(copied.journal_bytes),
            count(copied.segments, "segment"),
            copied.end,
        ))?;
        screen.say(&format!("it opens, and its index was made again, in {}", took(proved.took_ms)));
        if copied.linked > 0 {
            screen.say(&format!(
                "{} on this disk twice by name and once in fact: copy the folder to another disk",
                if copied.linked == 1 {
                    "1 segment is".to_owned()
                } else {
                    format!("{} segments are", copied.linked)
                }
            ));
        }
        screen.say(&format!(
            "to restore it, stop the daemon\n  type: mv {data} {data}.before && cp -a {to} {data} && {}",
            self.place.run_command()
        ));
        Ok(Ended::Well)
    }
}
