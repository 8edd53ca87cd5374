//! Tools: what an operator does with the files themselves: look whether they are whole, mend them, keep a copy of
//! them, take out what is in them, count.
//!
//! `survey` reads a journal past its damage · `check` says what is damaged and what depends on it · `repair` gives
//! up what cannot be read · `backup` copies · `export` prints · `stat` counts. All but a repair read the journal
//! alone, never the index, and write nothing: sled cannot be opened without writing.

use std::fs;
use std::path::Path;

use super::Error;

mod backup;
mod check;
mod export;
mod header;
mod repair;
mod stat;
mod state;
mod survey;

#[cfg(test)]
mod tests;

pub use backup::{Copied, Proved, give_to_owner_of, prove};
pub use check::{
    Damage, Inconsistent, LostEvent, LostRecord, Report, SegmentReport, Touched, TouchedDelivery, check,
};
pub use export::{Exported, Filter as ExportFilter, Snapshot};
pub use repair::{Plan, Repaired};
pub use stat::{OfflineStat, stat};

/// There while a backup is being made. Its text is for whoever finds it.
pub(super) const UNFINISHED: &str = "unfinished";
pub(super) const JOURNAL: &str = "journal";
const INDEX: &str = "index";
const LOCK: &str = "lock";

/// Keeps a daemon from starting, as long as it is held. Nothing is made where there is no lock yet.
fn lock_shared(data: &Path) -> Result<Option<fs::File>, Error> {
    let cannot = |what, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { what, path, source }
    };
    if !data.join(JOURNAL).is_dir() {
        let why = "holds no journal; name the folder of `store.path` with --data-dir".to_owned();
        return Err(Error::Directory(data.to_owned(), why));
    }
    let path = data.join(LOCK);
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot("cannot open", &path)(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Locked(data.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(cannot("cannot lock", &path)(source)),
    }
}
