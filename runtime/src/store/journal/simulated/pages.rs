//! Pages: the bytes of one file, as processes read them and as the platter has them.
//!
//! What Linux does: a write goes to the page cache and may reach the disk at any time, each sector on its own, or
//! never; a sync makes sure of it. After a sync that failed, what it was about counts as written although it may
//! not be: the next sync has nothing to do and succeeds. Only another write to the same page gives it a chance.

use std::collections::{BTreeMap, BTreeSet};

use super::dice::Dice;

/// What a disk writes whole or not at all.
pub(super) const SECTOR: usize = 512;
/// What the system remembers as written or not.
const PAGE_SECTORS: u64 = 8;
/// Of one sector, between two syncs.
const VERSIONS_MAX: usize = 4;

pub(super) type Sector = [u8; SECTOR];

#[derive(Clone, Default)]
pub(super) struct Pages {
    cache: Vec<u8>,
    /// Whole sectors; those behind `platter_len` are meant by nobody.
    platter: Vec<u8>,
    platter_len: usize,
    /// Sectors that a sync would write, with what else they held since the last one.
    unsynced: BTreeMap<u64, Vec<Sector>>,
    /// Sectors that a failed sync passed over: they count as written.
    lost: BTreeSet<u64>,
    /// Lengths that the file had since the last sync, but for the one it has.
    lengths: Vec<usize>,
    /// Blocks that belong to the file, in bytes.
    allocated: u64,
}

impl Pages {
    // === what processes see ===

    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn read(&self, bytes: &mut [u8], offset: usize) -> usize {
        let Some(from) = self.cache.get(offset..) else { return 0 };
        let len = bytes.len().min(from.len());
        bytes[..len].copy_from_slice(&from[..len]);
        len
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        for sector in sectors(offset, end) {
            let before = sector_of(&self.cache, sector);
            match self.unsynced.get_mut(&sector) {
                Some(versions) if versions.len() < VERSIONS_MAX => versions.push(before),
                Some(_) => {}
                None => drop(self.unsynced.insert(sector, Vec::new())),
            }
        }
        self.dirty_again(offset, end);
        if end > self.cache.len() {
            self.lengths.push(self.cache.len());
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(bytes);
    }

    /// A page that is written to is written out whole: with what a failed sync had passed over.
    fn dirty_again(&mut self, offset: usize, end: usize) {
        let (first, last) = (offset / SECTOR, (end - 1) / SECTOR);
        let from = first as u64 / PAGE_SECTORS * PAGE_SECTORS;
        let to = (last as u64 / PAGE_SECTORS + 1) * PAGE_SECTORS;
        let found: Vec<u64> = self.lost.range(from..to).copied().collect();
        for sector in found {
            self.lost.remove(&sector);
            self.unsynced.entry(sector).or_default();
        }
    }

    pub(super) fn set_len(&mut self, len: usize) {
        if len != self.cache.len() {
            self.lengths.push(self.cache.len());
            self.cache.resize(len, 0);
        }
    }

    // === room ===

    pub(super) fn allocated(&self) -> u64 {
        self.allocated.max(self.cache.len() as u64)
    }

    pub(super) fn allocate(&mut self, bytes: u64) {
        self.allocated = bytes;
    }

    // === what lasts ===

    pub(super) fn sync(&mut self) {
        for (sector, _) in std::mem::take(&mut self.unsynced) {
            put_sector(&mut self.platter, sector, &sector_of(&self.cache, sector));
            let end = (sector as usize + 1) * SECTOR;
            self.platter_len = self.platter_len.max(end.min(self.cache.len()));
        }
        if !self.lengths.is_empty() {
            self.platter_len = self.cache.len();
        }
        self.lengths.clear();
    }

    /// Some of it is written, nobody knows what, and none of it is tried again.
    pub(super) fn fail_sync(&mut self, dice: &mut Dice) {
        for (sector, versions) in std::mem::take(&mut self.unsynced) {
            self.settle_sector(sector, versions, Fate::any(dice), dice);
            self.lost.insert(sector);
        }
        self.platter_len = self.any_len(Fate::Mixed, dice);
        self.lengths.clear();
    }

    /// The process is gone, and memory was short: what counts as written may be read from the platter again.
    pub(super) fn evict(&mut self, dice: &mut Dice) {
        for sector in self.lost.clone() {
            if dice.percent(50) {
                self.reread(sector);
                self.lost.remove(&sector);
            }
        }
    }

    /// From here on there is only what the platter has. `remains`: what a block may hold that was never written.
    pub(super) fn lose_power(&mut self, fate: Fate, dice: &mut Dice, remains: &[Sector]) {
        let len = self.any_len(fate, dice);
        for (sector, versions) in std::mem::take(&mut self.unsynced) {
            let fresh = sector as usize * SECTOR >= self.platter.len();
            let written = self.settle_sector(sector, versions, fate, dice);
            if let Some(remains) = dice.pick(remains).filter(|_| fresh && !written) {
                put_sector(&mut self.platter, sector, remains);
            }
        }
        self.platter.resize(len.next_multiple_of(SECTOR), 0);
        self.platter[len..].fill(0);
        self.platter_len = len;
        self.cache.clear();
        self.cache.extend_from_slice(&self.platter[..len]);
        self.lost.clear();
        self.lengths.clear();
        self.allocated = len as u64;
    }

    /// What every machine crash would leave of it, as far as that is known.
    pub(super) fn durable(&self) -> &[u8] {
        let shortest = self.lengths.iter().copied().fold(self.cache.len(), usize::min);
        &self.platter[..self.platter_len.min(shortest).min(self.platter.len())]
    }

    pub(super) fn cached(&self) -> &[u8] {
        &self.cache
    }

    pub(super) fn sectors_of_platter(&self) -> impl Iterator<Item = Sector> {
        self.platter.as_chunks::<SECTOR>().0.iter().copied()
    }

    /// Turns one bit, on the platter and for every reader. None: there is none.
    pub(super) fn flip(&mut self, at: usize, bit: u32) -> Option<()> {
        *self.platter.get_mut(at)? ^= 1 << bit;
        *self.cache.get_mut(at)? ^= 1 << bit;
        Some(())
    }

    /// Everything that decides what this file will be, for a comparison.
    pub(super) fn image(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.cache.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.cache);
        out.extend_from_slice(&(self.platter_len as u64).to_le_bytes());
        out.extend_from_slice(&self.platter);
        for (sector, versions) in &self.unsynced {
            out.extend_from_slice(&sector.to_le_bytes());
            versions.iter().for_each(|version| out.extend_from_slice(version));
        }
        for number in self.lost.iter().copied().chain(self.lengths.iter().map(|len| *len as u64)) {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Decides what the platter has of a sector. True: something that was written since the last sync.
    fn settle_sector(&mut self, sector: u64, versions: Vec<Sector>, fate: Fate, dice: &mut Dice) -> bool {
        let written = match fate {
            Fate::Kept => true,
            Fate::Dropped => false,
            Fate::Mixed => dice.percent(50),
        };
        if written {
            let older = if fate == Fate::Mixed && dice.percent(30) { dice.pick(&versions) } else { None };
            let bytes = older.copied().unwrap_or_else(|| sector_of(&self.cache, sector));
            put_sector(&mut self.platter, sector, &bytes);
        }
        written
    }

    fn any_len(&self, fate: Fate, dice: &mut Dice) -> usize {
        let (old, new) = (self.platter_len, self.cache.len());
        match fate {
            Fate::Kept => new,
            Fate::Dropped => old,
            Fate::Mixed => match dice.below(4) {
                0 => old,
                1 => dice.pick(&self.lengths).copied().unwrap_or(new),
                // Written out page by page, and no further.
                2 => dice
                    .index(new + 1)
                    .next_multiple_of(SECTOR * PAGE_SECTORS as usize)
                    .clamp(old.min(new), new),
                _ => new,
            },
        }
    }

    fn reread(&mut self, sector: u64) {
        let bytes = sector_of(&self.platter, sector);
        let from = (sector as usize * SECTOR).min(self.cache.len());
        let to = (from + SECTOR).min(self.cache.len());
        self.cache[from..to].copy_from_slice(&bytes[..to - from]);
    }
}

/// What becomes of that which was not synced, when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Dropped,
    /// Each sector on its own.
    Mixed,
}

impl Fate {
    pub(super) fn any(dice: &mut Dice) -> Fate {
        [Fate::Kept, Fate::Dropped, Fate::Mixed, Fate::Mixed][dice.index(4)]
    }
}

fn sectors(from: usize, to: usize) -> std::ops::RangeInclusive<u64> {
    (from / SECTOR) as u64..=((to - 1) / SECTOR) as u64
}

fn sector_of(bytes: &[u8], sector: u64) -> Sector {
    let mut out = [0; SECTOR];
    if let Some(from) = bytes.get(sector as usize * SECTOR..) {
        let len = from.len().min(SECTOR);
        out[..len].copy_from_slice(&from[..len]);
    }
    out
}

fn put_sector(bytes: &mut Vec<u8>, sector: u64, content: &Sector) {
    let from = sector as usize * SECTOR;
    if bytes.len() < from + SECTOR {
        bytes.resize(from + SECTOR, 0);
    }
    bytes[from..from + SECTOR].copy_from_slice(content);
}
