//! Simulated: a disk in memory that keeps what was synced apart from what was only written, and breaks when told.
//!
//! It is as bad as POSIX allows: a machine crash keeps or drops each sector and each name by itself. What it does
//! follows from its seed and its calls alone, so that a run can be lived through again, byte for byte. For tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::disk::{Disk, File};
use dice::Dice;
use pages::{Fate, Pages, Sector};

pub mod dice;
mod pages;
#[cfg(test)]
mod tests;

/// Sectors of deleted files that may show up in blocks which were never written.
const REMAINS_MAX: usize = 32;

/// What a disk can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Create,
    Open,
    Rename,
    Remove,
    Names,
    SyncDir,
    Write,
    Read,
    Sync,
    Reserve,
    Trim,
}

/// Cheap to clone; the clones are one disk. It outlives the processes that use it.
#[derive(Clone)]
pub struct Simulated {
    state: Arc<Mutex<State>>,
    before: Arc<Mutex<Option<Before>>>,
}

/// Told before a call is carried out. While it runs, calls of its own are carried out without a word.
pub type Before = Box<dyn FnMut(Ask) + Send>;

struct State {
    dice: Dice,
    names: BTreeMap<PathBuf, Entry>,
    files: BTreeMap<u64, Pages>,
    files_made: u64,
    /// Files opened in an earlier one are closed.
    process: u64,
    faults: Vec<Fault>,
    /// Calls that change something until the end comes.
    dies_in: Option<u64>,
    dead: bool,
    /// Bytes that files may still grow by; None: enough.
    room: Option<u64>,
    remains: Vec<Sector>,
    refused: u64,
    broke: u64,
}

struct Fault {
    on: Ask,
    passes: u64,
    errno: Errno,
}

/// One name in a directory.
#[derive(Clone, Default)]
struct Entry {
    durable: Option<u64>,
    /// What it named since the directory was synced; the last is what processes see.
    since: Vec<Option<u64>>,
    /// What processes see.
    seen: Option<u64>,
}

/// How a call goes.
enum Way {
    Well,
    Fails(Errno),
    /// The end comes in the middle of it.
    Ends,
}

impl Simulated {
    pub fn new(seed: u64) -> Simulated {
        let state = State {
            dice: Dice::new(seed),
            names: BTreeMap::new(),
            files: BTreeMap::new(),
            files_made: 0,
            process: 0,
            faults: Vec::new(),
            dies_in: None,
            dead: false,
            room: None,
            remains: Vec::new(),
            refused: 0,
            broke: 0,
        };
        Simulated { state: Arc::new(Mutex::new(state)), before: Arc::default() }
    }

    // === what breaks ===

    /// The call of this kind that comes after `passes` others fails. A write may have written a part then.
    pub fn fail(&self, on: Ask, passes: u64, errno: Errno) {
        self.lock().faults.push(Fault { on, passes, errno });
    }

    pub fn fail_nothing(&self) {
        self.lock().faults.clear();
    }

    /// The end comes in the middle of the call that changes something after `calls` others: from there on, every
    /// call fails, and `lose_power` or `end_process` says what it was.
    pub fn die_after(&self, calls: Option<u64>) {
        self.lock().dies_in = calls;
    }

    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Whether it has less room than it could have.
    pub fn is_tight(&self) -> bool {
        self.lock().room.is_some()
    }

    /// Files may grow by this much together, and then the disk is full.
    pub fn leave_room(&self, bytes: Option<u64>) {
        self.lock().room = bytes;
    }

    /// Calls that were refused so far, but for those about reserved blocks, which nobody needs.
    pub fn refused(&self) -> u64 {
        self.lock().refused
    }

    /// Calls that failed so far, whatever they were.
    pub fn broke(&self) -> u64 {
        self.lock().broke
    }

    /// Told of every call before it is carried out.
    pub fn tell_before(&self, before: Option<Before>) {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = before;
    }

    // === what ends ===

    /// The machine goes down. What was not synced is kept, dropped or torn; so are names.
    pub fn lose_power(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        let fate = Fate::any(&mut state.dice);
        for pages in state.files.values_mut() {
            let fate = if fate == Fate::Mixed { Fate::any(&mut state.dice) } else { fate };
            pages.lose_power(fate, &mut state.dice, &state.remains);
        }
        for entry in state.names.values_mut() {
            entry.lose_power(fate, &mut state.dice);
        }
        state.forget_unnamed();
        state.restart();
    }

    /// The process goes, the machine stays: what was written can still be read, and is no safer than before.
    pub fn end_process(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        for pages in state.files.values_mut() {
            pages.evict(&mut state.dice);
        }
        state.restart();
    }

    /// Turns one bit of a file, where it is synced. None: there is no such place.
    pub fn flip(&self, path: &Path, at: usize, bit: u32) -> Option<()> {
        let mut state = self.lock();
        let file = state.names.get(path)?.seen?;
        state.files.get_mut(&file)?.flip(at, bit)
    }

    // === what is there ===

    /// Files as every machine crash would leave them, by name.
    pub fn for_each_durable(&self, mut visit: impl FnMut(&Path, &[u8])) {
        let state = self.lock();
        for (path, entry) in &state.names {
            if let Some(pages) = entry.sure().and_then(|file| state.files.get(&file)) {
                visit(path, pages.durable());
            }
        }
    }

    /// Files as processes see them, by name.
    pub fn for_each_cached(&self, mut visit: impl FnMut(&Path, &[u8])) {
        let state = self.lock();
        for (path, entry) in &state.names {
            if let Some(pages) = entry.seen.and_then(|file| state.files.get(&file)) {
                visit(path, pages.cached());
            }
        }
    }

    /// Everything that it is, for a comparison.
    pub fn image(&self) -> Vec<u8> {
        let state = self.lock();
        let mut out = Vec::new();
        for (path, entry) in &state.names {
            out.extend_from_slice(path.as_os_str().as_encoded_bytes());
            out.extend_from_slice(format!("{:?}{:?}{:?}", entry.durable, entry.since, entry.seen).as_bytes());
        }
        for (file, pages) in &state.files {
            out.extend_from_slice(&file.to_le_bytes());
            pages.image(&mut out);
        }
        out
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, and how the call goes that is about to be carried out.
    fn enter(&self, ask: Ask, process: Option<u64>) -> io::Result<(MutexGuard<'_, State>, Way)> {
        let told = self.before.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut before) = told {
            before(ask);
            let mut place = self.before.lock().unwrap_or_else(PoisonError::into_inner);
            place.get_or_insert(before);
        }
        let mut state = self.lock();
        if state.dead || process.is_some_and(|process| process != state.process) {
            return Err(error_of(Errno::IO));
        }
        let way = state.way(ask);
        Ok((state, way))
    }

    /// A call that is carried out whole or not at all.
    fn whole<T>(&self, ask: Ask, call: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let (mut state, way) = self.enter(ask, None)?;
        match way {
            Way::Well => call(&mut state),
            Way::Fails(errno) => Err(error_of(errno)),
            Way::Ends => {
                if state.dice.percent(50) {
                    let _ = call(&mut state);
                }
                Err(error_of(Errno::IO))
            }
        }
    }
}

fn error_of(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw_os_error())
}

impl State {
    fn way(&mut self, ask: Ask) -> Way {
        let changes = !matches!(ask, Ask::Open | Ask::Names | Ask::Read);
        if changes && let Some(left) = &mut self.dies_in {
            if *left == 0 {
                self.dead = true;
                return Way::Ends;
            }
            *left -= 1;
        }
        let mut due = None;
        for (at, fault) in self.faults.iter_mut().enumerate().filter(|(_, fault)| fault.on == ask) {
            match fault.passes.checked_sub(1) {
                Some(left) => fault.passes = left,
                None => due = Some(at),
            }
        }
        match due.map(|at| self.faults.remove(at)) {
            Some(fault) => {
                self.broke += 1;
                self.refused += u64::from(!matches!(ask, Ask::Reserve | Ask::Trim));
                Way::Fails(fault.errno)
            }
            None => Way::Well,
        }
    }

    /// Takes room for a file that grows to `bytes`; returns how far it may.
    fn grow(&mut self, file: u64, bytes: u64) -> u64 {
        let pages = self.files.entry(file).or_default();
        let more = bytes.saturating_sub(pages.allocated());
        let granted = self.room.map_or(more, |room| more.min(room));
        self.room = self.room.map(|room| room - granted);
        if granted > 0 {
            pages.allocate(pages.allocated() + granted);
        }
        bytes - (more - granted)
    }

    fn give_back(&mut self, bytes: u64) {
        self.room = self.room.map(|room| room.saturating_add(bytes));
    }

    fn file_of(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).and_then(|entry| entry.seen).ok_or_else(|| error_of(Errno::NOENT))
    }

    fn name(&mut self, path: &Path, file: Option<u64>) {
        let entry = self.names.entry(path.to_owned()).or_default();
        entry.since.push(file);
        entry.seen = file;
    }

    /// Files that no name leads to any more; what they held may show up elsewhere.
    fn forget_unnamed(&mut self) {
        self.names.retain(|_, entry| entry.seen.is_some());
        let named: BTreeSet<u64> = self.names.values().filter_map(|entry| entry.seen).collect();
        let gone: Vec<u64> = self.files.keys().copied().filter(|file| !named.contains(file)).collect();
        for pages in gone.into_iter().filter_map(|file| self.files.remove(&file)) {
            let free = REMAINS_MAX.saturating_sub(self.remains.len());
            self.remains.extend(pages.sectors_of_platter().take(free));
        }
    }

    fn restart(&mut self) {
        self.process += 1;
        self.dead = false;
        self.dies_in = None;
        self.faults.clear();
    }
}

impl Entry {
    /// What it names whatever happens.
    fn sure(&self) -> Option<u64> {
        self.since.iter().all(|file| *file == self.durable).then_some(self.durable)?
    }

    fn sync(&mut self) {
        self.durable = self.seen;
        self.since.clear();
    }

    fn lose_power(&mut self, fate: Fate, dice: &mut Dice) {
        self.durable = self.any(fate, dice);
        self.seen = self.durable;
        self.since.clear();
    }

    fn any(&self, fate: Fate, dice: &mut Dice) -> Option<u64> {
        match fate {
            _ if self.since.is_empty() => self.durable,
            Fate::Kept => self.seen,
            Fate::Dropped => self.durable,
            Fate::Mixed => {
                let at = dice.index(self.since.len() + 1);
                self.since.get(at).copied().unwrap_or(self.durable)
            }
        }
    }
}

// === the disk ===

impl Disk for Simulated {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let (file, process) = self.whole(Ask::Create, |state| {
            state.files_made += 1;
            let file = state.files_made;
            state.files.insert(file, Pages::default());
            state.name(path, Some(file));
            Ok((file, state.process))
        })?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), file, process }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let found = self.whole(Ask::Open, |state| Ok((state.file_of(path)?, state.process)));
        let (file, process) = found?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), file, process }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.whole(Ask::Rename, |state| {
            let file = state.file_of(from)?;
            state.name(from, None);
            state.name(to, Some(file));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.whole(Ask::Remove, |state| {
            let file = state.file_of(path)?;
            state.name(path, None);
            let freed = state.files.get(&file).map_or(0, Pages::allocated);
            state.give_back(freed);
            Ok(())
        })
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.whole(Ask::Names, |state| {
            let here =
                state.names.iter().filter(|(path, entry)| entry.seen.is_some() && path.parent() == Some(dir));
            let names = here.filter_map(|(path, _)| path.file_name());
            let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
            if state.dice.percent(50) {
                names.reverse();
            }
            Ok(names)
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let (mut state, way) = self.enter(Ask::SyncDir, None)?;
        let names = &mut state.names;
        let here = names.iter_mut().filter(|(path, _)| path.parent() == Some(dir)).map(|(_, entry)| entry);
        match way {
            Way::Well => {
                here.for_each(Entry::sync);
                names.retain(|_, entry| entry.seen.is_some());
                Ok(())
            }
            // A directory is not lost as pages are: where its changes cannot be written, they stay to be written.
            Way::Fails(errno) => Err(error_of(errno)),
            Way::Ends => Err(error_of(Errno::IO)),
        }
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.lock().room.unwrap_or(1 << 40))
    }
}

// === a file ===

struct SimulatedFile {
    disk: Simulated,
    file: u64,
    process: u64,
}

impl SimulatedFile {
    fn enter(&self, ask: Ask) -> io::Result<(MutexGuard<'_, State>, Way)> {
        self.disk.enter(ask, Some(self.process))
    }

    /// Writes up to where the disk is full.
    fn write_what_fits(&self, state: &mut State, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = state.grow(self.file, offset + bytes.len() as u64);
        let fits = place(end.saturating_sub(offset));
        let pages = state.files.entry(self.file).or_default();
        pages.write(&bytes[..fits.min(bytes.len())], place(offset));
        if fits < bytes.len() {
            state.refused += 1;
            state.broke += 1;
            return Err(error_of(Errno::NOSPC));
        }
        Ok(())
    }
}

/// A place in a file in memory.
fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("a simulated file is small")
}

impl File for SimulatedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut state, way) = self.enter(Ask::Write)?;
        let state = &mut *state;
        let errno = match way {
            Way::Well => return self.write_what_fits(state, bytes, offset),
            Way::Fails(errno) => errno,
            Way::Ends => Errno::IO,
        };
        let part = state.dice.index(bytes.len().max(1));
        let _ = self.write_what_fits(state, &bytes[..part], offset);
        Err(error_of(errno))
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let (state, way) = self.enter(Ask::Read)?;
        if let Way::Fails(errno) = way {
            return Err(error_of(errno));
        }
        Ok(state.files.get(&self.file).map_or(0, |pages| pages.read(bytes, place(offset))))
    }

    fn sync(&self) -> io::Result<()> {
        let (mut state, way) = self.enter(Ask::Sync)?;
        let State { files, dice, .. } = &mut *state;
        let pages = files.entry(self.file).or_default();
        match way {
            Way::Well => {
                pages.sync();
                Ok(())
            }
            Way::Fails(errno) => {
                pages.fail_sync(dice);
                Err(error_of(errno))
            }
            // How far it came is decided when the power is lost.
            Way::Ends => Err(error_of(Errno::IO)),
        }
    }

    fn length(&self) -> io::Result<u64> {
        let state = self.disk.lock();
        if state.dead || state.process != self.process {
            return Err(error_of(Errno::IO));
        }
        Ok(state.files.get(&self.file).map_or(0, |pages| pages.len() as u64))
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        let (mut state, way) = self.enter(Ask::Reserve)?;
        match way {
            Way::Well if state.grow(self.file, bytes) < bytes => {
                state.broke += 1;
                Err(error_of(Errno::NOSPC))
            }
            Way::Well => Ok(()),
            Way::Fails(errno) => {
                state.grow(self.file, bytes / 2);
                Err(error_of(errno))
            }
            Way::Ends => Err(error_of(Errno::IO)),
        }
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        let (mut state, way) = self.enter(Ask::Trim)?;
        match way {
            Way::Well => {
                let pages = state.files.entry(self.file).or_default();
                let before = pages.allocated();
                pages.set_len(place(len));
                pages.allocate(len);
                state.give_back(before.saturating_sub(len));
                Ok(())
            }
            Way::Fails(errno) => Err(error_of(errno)),
            Way::Ends => Err(error_of(Errno::IO)),
        }
    }
}
