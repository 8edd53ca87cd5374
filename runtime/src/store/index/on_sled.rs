//! The tree in the daemon: sled, and nothing else of ours calls it.
//!
//! sled's `flush` promises nothing at power loss, its recovery can lose what it does not miss, and it can panic.
//! So every call of it is caught, and nobody believes it where a lie would not have been noticed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::tree::{Blob, Home, Range, Tree};
use crate::store::Error;
use crate::words::limits::INDEX_CACHE_BYTES;

/// A folder with one for sled and one for the tables in it.
pub struct Folder(pub PathBuf);

const SLED: &str = "sled";
const TABLES: &str = "history";

impl Home for Folder {
    fn is_there(&self) -> bool {
        self.0.exists()
    }

    fn open(&self) -> Result<Box<dyn Tree>, Error> {
        let tables = self.0.join(TABLES);
        let cannot = |error| Error::Index(format!("cannot make `{}`: {error}", tables.display()));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&tables).map_err(cannot)?;
        let db = caught(|| {
            sled::Config::new()
                .path(self.0.join(SLED))
                .cache_capacity(INDEX_CACHE_BYTES)
                .flush_every_ms(Some(1000))
                .open()
        })?;
        [self.0.clone(), self.0.join(SLED)]
            .iter()
            .try_for_each(|path| close_to_others(path))
            .map_err(|error| Error::Index(format!("cannot set permissions: {error}")))?;
        Ok(Box::new(OnSled { db, path: self.0.join(SLED), tables }))
    }

    fn set_aside(&self) -> Result<(), Error> {
        let path = &self.0;
        if !path.exists() {
            return Ok(());
        }
        let aside = path.with_extension("old");
        let cannot = |what| move |source| Error::Io { what, path: path.clone(), source };
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(cannot("cannot remove what was set aside for"))?;
        }
        fs::rename(path, &aside).map_err(cannot("cannot set aside"))
    }
}

struct OnSled {
    db: sled::Db,
    path: PathBuf,
    tables: PathBuf,
}

impl Tree for OnSled {
    fn get(&self, key: &[u8]) -> Result<Option<Blob>, Error> {
        caught(|| self.db.get(key))
    }

    fn page(&self, range: Range, reverse: bool, max: usize) -> Result<Vec<(Blob, Blob)>, Error> {
        caught(|| {
            let iter = self.db.range(range);
            if reverse { iter.rev().take(max).collect() } else { iter.take(max).collect() }
        })
    }

    fn apply(&self, ops: &mut dyn Iterator<Item = (Blob, Option<Blob>)>) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        for (key, value) in ops {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        caught(|| self.db.apply_batch(batch))
    }

    fn flush(&self) -> Result<(), Error> {
        caught(|| self.db.flush().map(drop))
    }

    fn sync(&self) -> Result<(), Error> {
        self.flush()?;
        sync_files(&self.path).map_err(|error| Error::Index(format!("cannot sync: {error}")))
    }

    fn size_on_disk(&self) -> u64 {
        let tables: u64 = fs::read_dir(&self.tables)
            .map(|entries| entries.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len())).sum())
            .unwrap_or(0);
        caught(|| self.db.size_on_disk()).unwrap_or(0) + tables
    }

    fn put_table(&self, number: u64, bytes: &[u8]) -> Result<(), Error> {
        let path = self.table(number);
        let write = || -> std::io::Result<()> {
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(bytes)?;
            file.sync_data()?;
            fs::File::open(&self.tables)?.sync_all()
        };
        write().map_err(|error| of_table("write", number, &error))
    }

    fn read_table(&self, number: u64, offset: u64, len: usize) -> Result<Bytes, Error> {
        let read = || -> std::io::Result<Bytes> {
            let file = fs::File::open(self.table(number))?;
            let mut bytes = vec![0; len];
            let mut filled = 0;
            while filled < len {
                match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            bytes.truncate(filled);
            Ok(Bytes::from(bytes))
        };
        read().map_err(|error| of_table("read", number, &error))
    }

    fn table_bytes(&self, number: u64) -> Result<u64, Error> {
        let facts = fs::metadata(self.table(number)).map_err(|error| of_table("find", number, &error))?;
        Ok(facts.len())
    }

    fn remove_table(&self, number: u64) -> Result<(), Error> {
        fs::remove_file(self.table(number)).map_err(|error| of_table("remove", number, &error))
    }

    fn tables(&self) -> Result<Vec<u64>, Error> {
        let cannot = |error: std::io::Error| Error::Index(format!("cannot list the history: {error}"));
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.tables).map_err(cannot)? {
            let name = entry.map_err(cannot)?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        Ok(numbers)
    }
}

impl OnSled {
    fn table(&self, number: u64) -> PathBuf {
        self.tables.join(format!("{number:010}"))
    }
}

fn of_table(what: &str, number: u64, error: &std::io::Error) -> Error {
    Error::Index(format!("cannot {what} table {number} of the history: {error}"))
}

/// sled makes its files for everybody to read; the directory above is closed, and these are too.
fn close_to_others(folder: &Path) -> std::io::Result<()> {
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    set(folder, 0o700)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        set(&entry.path(), if entry.file_type()?.is_dir() { 0o700 } else { 0o600 })?;
    }
    Ok(())
}

/// What sled's flush leaves out.
fn sync_files(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    fs::File::open(folder)?.sync_all()
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
