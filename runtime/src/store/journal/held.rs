//! Held: a disk whose syncs wait for a word, fail, or never return, and that remembers the order of its calls.
//!
//! For tests, here and through the daemon's door (`Ledger::open_on`). Nothing in the shipped binary makes one.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, File, Real};

/// Cheap to clone; the clones are one disk.
#[derive(Clone, Default)]
pub struct Held {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    held: bool,
    /// Syncs that wait now.
    waiting: usize,
    fail_syncs: bool,
    fail_writes: Option<i32>,
    fail_opens: Option<i32>,
    fail_preallocations: Option<i32>,
    free_bytes: Option<u64>,
    calls: Vec<Call>,
}

/// What was asked of the disk, by file name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Create(String),
    Write(String),
    Sync(String),
    Rename(String, String),
    SyncDir,
    Remove(String),
}

impl Held {
    /// From now on a sync waits until `release`.
    pub fn hold(&self) {
        self.change(|state| state.held = true);
    }

    pub fn release(&self) {
        self.change(|state| state.held = false);
    }

    /// From now on a sync returns an error.
    pub fn fail_syncs(&self, fail: bool) {
        self.change(|state| state.fail_syncs = fail);
    }

    /// From now on a write returns this error of the operating system.
    pub fn fail_writes(&self, errno: Option<i32>) {
        self.change(|state| state.fail_writes = errno);
    }

    /// From now on no file is created and no directory opened, but for this error.
    pub fn fail_opens(&self, errno: Option<i32>) {
        self.change(|state| state.fail_opens = errno);
    }

    /// From now on a reservation of blocks ends half-way with this error.
    pub fn fail_preallocations(&self, errno: Option<i32>) {
        self.change(|state| state.fail_preallocations = errno);
    }

    fn may_open(&self) -> io::Result<()> {
        self.lock().fail_opens.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    /// What the disk says is free; None: the truth.
    pub fn pretend_free(&self, bytes: Option<u64>) {
        self.change(|state| state.free_bytes = bytes);
    }

    /// Blocks until a sync waits for `release`.
    pub fn wait_for_held_sync(&self) {
        let mut state = self.lock();
        while state.waiting == 0 {
            state = self.inner.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The calls that have returned, in order; forgets them.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.lock().calls)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.inner.changed.notify_all();
    }

    fn note(&self, call: Call) {
        self.lock().calls.push(call);
    }

    fn sync(&self, call: Call, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.lock();
        while state.held {
            state.waiting += 1;
            self.inner.changed.notify_all();
            state = self.inner.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        if state.fail_syncs {
            return Err(io::Error::other("the test failed this sync"));
        }
        drop(state);
        sync()?;
        self.note(call);
        Ok(())
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Disk for Held {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.may_open()?;
        let file = Real.create(path)?;
        self.note(Call::Create(name_of(path)));
        Ok(Arc::new(HeldFile { file, name: name_of(path), disk: self.clone() }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(HeldFile { file: Real.open(path)?, name: name_of(path), disk: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Real.rename(from, to)?;
        self.note(Call::Rename(name_of(from), name_of(to)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Real.remove(path)?;
        self.note(Call::Remove(name_of(path)));
        Ok(())
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        Real.names(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.may_open()?;
        self.sync(Call::SyncDir, || Real.sync_dir(dir))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let pretended = self.lock().free_bytes;
        pretended.map_or_else(|| Real.free_bytes(dir), Ok)
    }
}

struct HeldFile {
    file: Arc<dyn File>,
    /// As it was created: a rename does not change it.
    name: String,
    disk: Held,
}

impl File for HeldFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let errno = self.disk.lock().fail_writes;
        if let Some(errno) = errno {
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.file.write_at(bytes, offset)?;
        self.disk.note(Call::Write(self.name.clone()));
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync(Call::Sync(self.name.clone()), || self.file.sync())
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        let pretended = self.disk.lock().free_bytes;
        if pretended.is_some_and(|free| free < bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let errno = self.disk.lock().fail_preallocations;
        match errno {
            Some(errno) => {
                self.file.preallocate(bytes / 2)?;
                Err(io::Error::from_raw_os_error(errno))
            }
            None => self.file.preallocate(bytes),
        }
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        self.file.trim(len)
    }
}
