//! Index: sled, and nothing else of ours knows it. What is in it can be read from the journal again.
//!
//! sled's `flush` promises nothing at power loss, its recovery can lose what it does not miss, and it can panic.
//! So it holds small values only, is believed only where a lie would have been noticed, and every call of it is
//! caught.

use std::ops::Bound;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::{Error, keys};
use crate::words::limits::{INDEX_CACHE_BYTES, INDEX_VALUE_BYTES_MAX};

/// A key or a value: short ones lie inside, longer ones are shared, so that a clone costs little.
pub(super) type Blob = sled::IVec;
pub(super) type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Raised when the layout of `keys` or of a value changes: an index of another number is rebuilt.
const SCHEMA: u64 = 2;

pub(super) struct Index {
    db: sled::Db,
    path: PathBuf,
}

/// How far the index has come, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Everything below is in it.
    pub position: u64,
    /// The batch that ends there, and when it was written: tells this journal from another.
    pub batch: u64,
    pub written_at: u64,
    pub boot: String,
    /// Where the mark of the clean stop lies that it was written out for.
    pub clean: Option<u64>,
}

impl Index {
    pub(super) fn open(path: &Path) -> Result<Index, Error> {
        caught(|| {
            let db = sled::Config::new()
                .path(path)
                .cache_capacity(INDEX_CACHE_BYTES)
                .flush_every_ms(Some(1000))
                .open()?;
            Ok(Index { db, path: path.to_owned() })
        })
        .and_then(|index| index.close_to_others().map(|()| index))
    }

    /// sled makes its files for everybody to read; the directory above is closed, and these are too.
    fn close_to_others(&self) -> Result<(), Error> {
        let set = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
        let all = || -> std::io::Result<()> {
            set(&self.path, 0o700)?;
            for entry in std::fs::read_dir(&self.path)? {
                let entry = entry?;
                set(&entry.path(), if entry.file_type()?.is_dir() { 0o700 } else { 0o600 })?;
            }
            Ok(())
        };
        all().map_err(|error| Error::Index(format!("cannot set permissions: {error}")))
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Blob>, Error> {
        caught(|| self.db.get(key))
    }

    /// Up to `max` entries from one end of a range.
    pub(super) fn page(&self, range: Range, reverse: bool, max: usize) -> Result<Vec<(Blob, Blob)>, Error> {
        caught(|| {
            let iter = self.db.range(range);
            if reverse { iter.rev().take(max).collect() } else { iter.take(max).collect() }
        })
    }

    /// All or nothing, together with how far the index has come.
    pub(super) fn apply(
        &self,
        ops: impl Iterator<Item = (Blob, Option<Blob>)>,
        progress: (u64, u64, u64),
    ) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        for (key, value) in ops {
            match value {
                Some(value) => {
                    assert!(value.len() <= INDEX_VALUE_BYTES_MAX, "a value of the index is too large");
                    batch.insert(key, value);
                }
                None => batch.remove(key),
            }
        }
        let (position, last_batch, written_at) = progress;
        batch.insert(keys::POSITION, &position.to_be_bytes());
        batch.insert(keys::BATCH, [last_batch.to_be_bytes(), written_at.to_be_bytes()].concat());
        caught(|| self.db.apply_batch(batch))
    }

    /// None where it was made by another version, or is empty.
    pub(super) fn progress(&self) -> Result<Option<Progress>, Error> {
        if self.number(keys::SCHEMA)? != Some(SCHEMA) {
            return Ok(None);
        }
        let Some(position) = self.number(keys::POSITION)? else { return Ok(None) };
        let batch = self.get(keys::BATCH)?.unwrap_or_default();
        let boot = self.get(keys::BOOT)?.unwrap_or_default();
        Ok(Some(Progress {
            position,
            batch: keys::number_in(&batch, 0)?,
            written_at: keys::number_in(&batch, 8)?,
            boot: String::from_utf8_lossy(&boot).into_owned(),
            clean: self.number(keys::CLEAN)?,
        }))
    }

    /// From here on the index is only to be believed within this boot.
    pub(super) fn opened(&self, boot: &str) -> Result<(), Error> {
        caught(|| {
            self.db.insert(keys::SCHEMA, &SCHEMA.to_be_bytes())?;
            self.db.insert(keys::BOOT, boot.as_bytes())?;
            self.db.remove(keys::CLEAN)?;
            self.db.flush().map(drop)
        })
    }

    /// Written out whole, with the place of the mark that will say so.
    pub(super) fn closed(&self, clean: u64) -> Result<(), Error> {
        caught(|| {
            self.db.insert(keys::CLEAN, &clean.to_be_bytes())?;
            self.db.flush().map(drop)
        })?;
        self.sync_files().map_err(|error| Error::Index(format!("cannot sync: {error}")))
    }

    /// What was applied survives this process.
    pub(super) fn flush(&self) -> Result<(), Error> {
        caught(|| self.db.flush().map(drop))
    }

    /// What sled's flush leaves out.
    fn sync_files(&self) -> std::io::Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::File::open(entry.path())?.sync_all()?;
            }
        }
        std::fs::File::open(&self.path)?.sync_all()
    }

    /// What no code of ours would write.
    #[cfg(test)]
    pub(super) fn put_raw(&self, key: &[u8], value: &[u8]) {
        self.db.insert(key, value).unwrap();
        self.db.flush().unwrap();
    }

    pub(super) fn size_on_disk(&self) -> u64 {
        caught(|| self.db.size_on_disk()).unwrap_or(0)
    }

    pub(super) fn number(&self, key: &[u8]) -> Result<Option<u64>, Error> {
        self.get(key)?.map(|value| keys::number_in(&value, 0)).transpose()
    }
}

fn caught<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| Error::Index(error.to_string())),
        Err(panic) => Err(Error::Index(format!("it panicked: {}", panic_text(&*panic)))),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "no message".to_owned())
}
