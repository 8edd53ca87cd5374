//! Mutants: the promise broken on purpose, one way at a time. The simulation must notice each of them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::life::{Life, live};
use crate::store::drill::Mutation;
use crate::store::journal::disk::{Disk, File};

const ALL: [Mutation; 7] = [
    Mutation::SyncLeftOut,
    Mutation::AnswerBeforeSync,
    Mutation::IndexAhead,
    Mutation::DirSyncLeftOut,
    Mutation::TailNotCopied,
    Mutation::ClaimDroppedEarly,
    Mutation::SecondSyncTrusted,
];

const SEEDS: u64 = 2000;

#[test]
fn every_mutant_is_noticed() {
    for mutation in ALL {
        let noticed = (0..SEEDS).find_map(|seed| Some((seed, live(seed, Some(mutation)).failure?)));
        let (seed, failure) = noticed.unwrap_or_else(|| panic!("{SEEDS} seeds did not notice {mutation:?}"));
        println!("{mutation:?}: noticed by seed {seed}: {failure}");
    }
}

impl Life {
    /// The disk as the store gets it.
    pub(super) fn disk_of_store(&self) -> Arc<dyn Disk> {
        match self.mutation {
            Some(mutation) => Arc::new(Mutant { disk: Arc::new(self.disk.clone()), mutation }),
            None => Arc::new(self.disk.clone()),
        }
    }
}

struct Mutant {
    disk: Arc<dyn Disk>,
    mutation: Mutation,
}

struct MutantFile {
    file: Arc<dyn File>,
    mutation: Mutation,
}

impl Mutant {
    fn file(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(MutantFile { file, mutation: self.mutation })
    }
}

impl Disk for Mutant {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.file(self.disk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.file(self.disk.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.names(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self.mutation {
            Mutation::DirSyncLeftOut => Ok(()),
            _ => self.disk.sync_dir(dir),
        }
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free_bytes(dir)
    }
}

impl File for MutantFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        match self.mutation {
            Mutation::SyncLeftOut => Ok(()),
            Mutation::SecondSyncTrusted => self.file.sync().or_else(|_| self.file.sync()),
            _ => self.file.sync(),
        }
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        self.file.preallocate(bytes)
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        self.file.trim(len)
    }
}
