//! Kept: files that deliveries refer to by their digest: the plugins that they were run with, and how these were set up.
//!
//! They lie beside the journal, each under its SHA-256. The time of a file is when it was last in use; one that was not
//! in use for longer than any delivery is kept is referred to by none, and goes.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::words::digest::Digest;
use crate::words::time::Millis;

/// Below the data directory.
pub(super) const KEPT: &str = "kept";
const UNFINISHED: &str = "new";

/// The folder; it is made when the first file comes.
#[derive(Clone, Debug)]
pub struct Kept {
    dir: PathBuf,
}

impl Kept {
    /// In this data directory.
    pub fn of(store: &Path) -> Kept {
        Kept { dir: store.join(KEPT) }
    }

    /// Durable when it returns. What is there already is only marked as in use. Blocking.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn keep(&self, bytes: &[u8], now: Millis) -> io::Result<Digest> {
        let digest = Digest::of(bytes);
        if self.read(digest)?.is_some() {
            self.touch(digest, now)?;
            return Ok(digest);
        }
        fs::DirBuilder::new().mode(0o700).recursive(true).create(&self.dir)?;
        let (path, half) = (self.path(digest), self.dir.join(format!("{digest}.{UNFINISHED}")));
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&half, &path)?;
        fs::File::open(&self.dir)?.sync_all()?;
        self.touch(digest, now)?;
        Ok(digest)
    }

    /// None: it is not there, or what is there is not it. Blocking.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&self, digest: Digest) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(digest)) {
            Ok(bytes) => Ok(Some(bytes).filter(|bytes| Digest::of(bytes) == digest)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// It is in use. Of what is not there nothing is to be marked.
    ///
    /// # Errors
    /// Where its time cannot be set.
    pub fn touch(&self, digest: Digest, now: Millis) -> io::Result<()> {
        match fs::OpenOptions::new().append(true).open(self.path(digest)) {
            Ok(file) => file.set_modified(UNIX_EPOCH + Duration::from_millis(now.0)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes what was last in use before then; returns how many files. Blocking.
    ///
    /// # Errors
    /// Where the folder cannot be read, or a file in it not be deleted.
    pub fn sweep(&self, before: Millis) -> io::Result<usize> {
        let mut swept = 0;
        for path in self.files()? {
            let used = fs::metadata(&path)?.modified()?;
            if millis(used) < before {
                fs::remove_file(&path)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Copies all of it beside a copied journal.
    ///
    /// # Errors
    /// Where a file cannot be read or written.
    pub(super) fn copy(&self, to: &Path) -> io::Result<()> {
        let copy = Kept::of(to);
        for path in self.files()?.iter().filter(|path| path.extension().is_none()) {
            let used = fs::metadata(path)?.modified()?;
            copy.keep(&fs::read(path)?, millis(used))?;
        }
        Ok(())
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(&self.dir) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.dir.join(digest.to_string())
    }
}

fn millis(time: SystemTime) -> Millis {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_until_nobody_used_it_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::of(dir.path());
        assert_eq!((kept.sweep(Millis(9)).unwrap(), kept.read(Digest::of(b"a")).unwrap()), (0, None));
        let [a, b] = [b"a", b"b"].map(|bytes| kept.keep(bytes, Millis(1_000)).unwrap());
        assert_eq!(kept.keep(b"a", Millis(5_000)).unwrap(), a);
        kept.touch(Digest::of(b"c"), Millis(1)).unwrap();
        assert_eq!(kept.sweep(Millis(1_000)).unwrap(), 0);
        assert_eq!(kept.sweep(Millis(5_000)).unwrap(), 1);
        assert_eq!((kept.read(a).unwrap().as_deref(), kept.read(b).unwrap()), (Some(&b"a"[..]), None));
        let copy = tempfile::tempdir().unwrap();
        kept.copy(copy.path()).unwrap();
        assert!(Kept::of(copy.path()).read(a).unwrap().is_some());
    }

    #[test]
    fn what_was_changed_on_the_disk_is_not_taken_for_it_and_is_kept_anew() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::of(dir.path());
        let a = kept.keep(b"a", Millis(1)).unwrap();
        fs::write(kept.path(a), b"other").unwrap();
        assert_eq!(kept.read(a).unwrap(), None);
        assert_eq!(kept.keep(b"a", Millis(1)).unwrap(), a);
        assert!(kept.read(a).unwrap().is_some());
    }
}
