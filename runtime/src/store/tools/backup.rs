//! Backup: a copy of the journal as it was at one moment, proved by opening it.
//!
//! A segment that is full never changes, so on the same file system a second name for it is a copy. The current one
//! is copied as far as it was durable. The index is not copied: it is made again from the copy, which is what
//! proves the copy.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::export::Snapshot;
use super::stat::Fold;
use super::survey::survey;
use super::{JOURNAL, UNFINISHED};
use crate::store::journal::disk::File;
use crate::store::journal::format::SEGMENT_HEADER;
use crate::store::journal::segments::Segment;
use crate::store::{Backlog, Durability, Error, Kept, Ledger, Options};
use crate::words::limits::{MIB, OPEN_AGE_MAX_DEFAULT, RETAIN_AGE_DEFAULT, RETAIN_BYTES_DEFAULT};
use crate::words::time::Millis;

const COPY_BYTES: usize = MIB;

/// What was copied.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Copied {
    pub path: PathBuf,
    pub segments: u64,
    /// Of these, the ones that share their blocks with the original.
    pub linked: u64,
    pub journal_bytes: u64,
    /// Everything below is in the copy.
    pub end: u64,
}

/// What the copy was found to hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Proved {
    pub events: u64,
    pub deliveries: u64,
    pub records: u64,
    pub open: u64,
    pub held: u64,
    pub parked: u64,
    pub took_ms: u64,
}

impl Snapshot {
    /// Copies the journal into an empty folder, or one that is made. Blocking.
    ///
    /// # Errors
    /// `Directory`, where it is not empty; `Io`.
    pub fn copy(&self, to: &Path) -> Result<Copied, Error> {
        let cannot = |what, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { what, path, source }
        };
        make_empty(to)?;
        let mark = to.join(UNFINISHED);
        write_mark(&mark).map_err(cannot("cannot write", &mark))?;
        let dir = to.join(JOURNAL);
        fs::DirBuilder::new().mode(0o700).create(&dir).map_err(cannot("cannot make", &dir))?;
        let mut copied = Copied { path: to.to_owned(), end: self.segments().end(), ..Copied::default() };
        let list = self.segments().list();
        for (at, segment) in list.iter().enumerate() {
            let end = list.get(at + 1).map_or(copied.end, |next| next.header.base);
            let bytes = SEGMENT_HEADER as u64 + end.saturating_sub(segment.header.base);
            let name = dir.join(segment.path.file_name().unwrap_or_default());
            let is_current = at + 1 == list.len();
            // Its name may be gone by now, or the copy is on another disk: then it is read.
            if !is_current && fs::hard_link(&segment.path, &name).is_ok() {
                copied.linked += 1;
            } else {
                copy_file(segment, bytes, &name).map_err(cannot("cannot copy to", &name))?;
            }
            copied.segments += 1;
            copied.journal_bytes += bytes;
        }
        sync_dir(&dir).map_err(cannot("cannot sync", &dir))?;
        if let Some(store) = list.first().and_then(|segment| segment.path.ancestors().nth(2)) {
            Kept::of(store).copy(to).map_err(cannot("cannot copy what is kept to", to))?;
        }
        fs::remove_file(&mark).map_err(cannot("cannot remove", &mark))?;
        sync_dir(to).map_err(cannot("cannot sync", to))?;
        Ok(copied)
    }
}

fn make_empty(to: &Path) -> Result<(), Error> {
    let cannot = |what| move |source| Error::Io { what, path: to.to_owned(), source };
    match fs::DirBuilder::new().mode(0o700).create(to) {
        Ok(()) => {
            let above = to.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            sync_dir(above).map_err(cannot("cannot sync the folder above"))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && to.is_dir() => {
            let mut entries = fs::read_dir(to).map_err(cannot("cannot read"))?;
            if entries.next().is_some() {
                let why = "is not empty; name a folder that is, or one that does not exist yet".to_owned();
                return Err(Error::Directory(to.to_owned(), why));
            }
            Ok(())
        }
        Err(source) => Err(cannot("cannot make")(source)),
    }
}

fn write_mark(path: &Path) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(b"This backup was not finished, and segments are missing in it. Delete the folder.\n")?;
    file.sync_all()
}

/// What counts of a segment, a piece at a time.
fn copy_file(segment: &Segment, bytes: u64, to: &Path) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let wanted = usize::try_from(bytes - offset).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        let read = segment.file.read_at(&mut buffer[..wanted], offset)?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the segment is shorter than it should be",
            ));
        }
        file.write_at(&buffer[..read], offset)?;
        offset += read as u64;
    }
    file.sync_all()
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

/// Reads a copy whole, opens it as a start would, and compares what the journal says with what the index that was
/// made from it says. Leaves it as a clean stop does.
///
/// # Errors
/// `Damaged`; `Directory`, where they do not agree; what `Ledger::open` says.
pub async fn prove(copied: &Copied, now: Millis) -> Result<Proved, Error> {
    let to = &copied.path;
    let disagree =
        |why: String| Error::Directory(to.clone(), format!("is a copy that does not hold: {why}; delete it"));
    let mut fold = Fold::default();
    let survey = survey(&to.join(JOURNAL), &mut |seen, past| fold.see(&seen, past.segments))?;
    if let Some((part, stretch)) = survey.stretches().next() {
        let offset = SEGMENT_HEADER as u64 + stretch.bad.saturating_sub(part.base);
        return Err(Error::Damaged { segment: part.path.clone(), offset, why: stretch.why.clone() });
    }
    if survey.is_damaged() || survey.torn.is_some() || survey.end() != copied.end {
        return Err(disagree(format!("it ends at {:x} and should at {:x}", survey.end(), copied.end)));
    }
    let options = Options {
        path: to.clone(),
        durability: Durability::PowerLoss,
        retain_age: RETAIN_AGE_DEFAULT,
        retain_bytes: RETAIN_BYTES_DEFAULT,
        open_age_max: OPEN_AGE_MAX_DEFAULT,
    };
    let (ledger, recovery) = Ledger::open(options, now)?;
    let told = ledger.stat().backlog;
    ledger.close().await?;
    drop(ledger);
    let counted = fold.backlog();
    let numbers = |all: &std::collections::BTreeMap<String, Backlog>| {
        let numbers = all.iter().map(|(name, one)| (name.clone(), (one.open, one.held, one.parked)));
        numbers.filter(|(_, numbers)| *numbers != (0, 0, 0)).collect::<Vec<_>>()
    };
    if numbers(&counted) != numbers(&told) {
        return Err(disagree(format!(
            "its journal has {:?} open, held and parked, and the index made from it {:?}",
            numbers(&counted),
            numbers(&told)
        )));
    }
    Ok(Proved {
        events: fold.events(),
        deliveries: fold.deliveries_accepted(),
        records: survey.parts.iter().map(|part| part.records).sum(),
        open: counted.values().map(|one| one.open).sum(),
        held: counted.values().map(|one| one.held).sum(),
        parked: counted.values().map(|one| one.parked).sum(),
        took_ms: recovery.took_ms,
    })
}

/// Gives everything below a copy to the owner of the original: root may have made it.
///
/// # Errors
/// As the file system says.
pub fn give_to_owner_of(data: &Path, copy: &Path) -> io::Result<()> {
    let owner = fs::metadata(data)?;
    if rustix::process::geteuid().is_root() && !owner.uid().eq(&0) {
        give(copy, owner.uid(), owner.gid())?;
    }
    Ok(())
}

fn give(path: &Path, user: u32, group: u32) -> io::Result<()> {
    chown(path, Some(user), Some(group))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), user, group)?;
        }
    }
    Ok(())
}
