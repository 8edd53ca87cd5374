//! Open: the directory, the lock, the journal, and an index that is believed or made again.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::claims::Claims;
use super::codec::{KIND_MAX, Kind, Mark, Record};
use super::core::Core;
use super::deliveries::HELD_UNIT_BYTES;
use super::health::{Clock, Health};
use super::index::on_sled::Folder;
use super::index::{Home, Index, Progress};
use super::journal::disk::Real;
use super::journal::{self, Appender, Disk, NO_POSITION, Opening, Segments};
use super::machine::{Machine, System};
use super::stage::{Hot, Stage, apply};
use super::tools::UNFINISHED;
use super::view::{Reached, View};
use super::writer::{Queue, Writer, reached};
use super::{Error, Options, Recovery, keys};
use crate::words::limits::{EFFECTS_HELD_BYTES_MAX, SEGMENT_BYTES};
use crate::words::time::Millis;

/// What a store stands on: its seams to the world. Tests put other things there.
pub(super) struct Ground {
    pub disk: Arc<dyn Disk>,
    pub machine: Arc<dyn Machine>,
    pub index: Arc<dyn Home>,
    pub segment_bytes: u64,
}

impl Ground {
    /// The system's disk and clock, and sled.
    pub(super) fn of(options: &Options) -> Ground {
        Ground {
            disk: Arc::new(Real),
            machine: Arc::new(System::default()),
            index: Arc::new(Folder(options.path.join("index"))),
            segment_bytes: SEGMENT_BYTES,
        }
    }
}

/// An open store: what is shared, and the thread that writes.
pub(super) struct Opened {
    pub core: Arc<Core>,
    pub writer: std::thread::JoinHandle<()>,
}

pub(super) fn open(options: Options, ground: Ground, now: Millis) -> Result<(Opened, Recovery), Error> {
    prepare(&*ground.disk, &options.path)?;
    refuse_unfinished(&options.path)?;
    let lock = lock(&options.path)?;
    make_dir(&*ground.disk, &options.path.join("journal"))?;
    let (core, appender, recovery) = build(options, ground, Some(lock), now)?;
    let writer = start_threads(&core, appender)?;
    Ok((Opened { core, writer }, recovery))
}

/// The same for one thread that does everything in steps, and in a directory that is nowhere.
#[cfg(test)]
pub(super) fn open_in_steps(
    options: Options,
    ground: Ground,
    now: Millis,
) -> Result<(Arc<Core>, Writer, Recovery), Error> {
    let (core, appender, recovery) = build(options, ground, None, now)?;
    Ok((core.clone(), Writer::new(core, appender), recovery))
}

fn build(
    options: Options,
    ground: Ground,
    lock: Option<fs::File>,
    now: Millis,
) -> Result<(Arc<Core>, Appender, Recovery), Error> {
    let Ground { disk, machine, index: home, segment_bytes } = ground;
    let started = machine.elapsed();
    let journal_dir = options.path.join("journal");
    let opening = Opening {
        disk: disk.clone(),
        machine: machine.clone(),
        dir: journal_dir.clone(),
        segment_bytes,
        kind_max: KIND_MAX,
        now,
    };
    let (mut appender, found) = journal::open(opening)?;
    let segments = appender.segments().clone();
    let end = segments.end();
    // Before the index's files are touched: from here on a clean stop is not the last word any more.
    mark_opened(&mut appender, now)?;
    let clean = clean_mark(&segments, found.last_record)?;
    let boot = machine.boot_id();
    let (index, rebuilt) = open_index(&*home, &segments, end, clean, &boot)?;
    index.opened(&boot)?;
    let start = start_of(&index, &segments)?;
    let view = View::over(start);
    replay(&segments, &index, &view, start.end)?;
    drop_leftovers(&index, &segments, &*disk, &journal_dir)?;

    let clock = clock_of(&index, machine.clone(), now)?;
    let health = Health::new(disk.clone(), machine.clone(), options.path.clone(), options.retain_bytes);
    let live = index.number(keys::LIVE)?.unwrap_or(0);
    health.live_bytes.store(live, std::sync::atomic::Ordering::Relaxed);
    let gone = index.number(keys::GONE)?.unwrap_or(0);
    health.gone.store(gone, std::sync::atomic::Ordering::Relaxed);
    let core = Arc::new(Core {
        options,
        disk,
        machine,
        journal_dir,
        segments,
        index,
        view,
        claims: Claims::new(),
        queue: Queue::default(),
        health,
        clock,
        announce: Mutex::new(None),
        indexer: Mutex::new(None),
        effects_held: Arc::new(tokio::sync::Semaphore::new(EFFECTS_HELD_BYTES_MAX / HELD_UNIT_BYTES)),
        retaining: tokio::sync::Mutex::new(()),
        opened_at: end,
        has_threads: lock.is_some(),
        _lock: lock,
    });
    core.note_keys();
    let took = core.machine.elapsed().saturating_sub(started);
    let recovery = Recovery {
        segments: core.segments.list().len() as u64,
        journal_bytes: core.segments.bytes(),
        records_copied: found.records_copied,
        torn_bytes: found.torn_bytes,
        index_rebuilt: rebuilt,
        open_deliveries: super::deliveries::backlogs(&core)?.values().map(|backlog| backlog.open).sum(),
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    };
    Ok((core, appender, recovery))
}

fn start_threads(core: &Arc<Core>, appender: Appender) -> Result<std::thread::JoinHandle<()>, Error> {
    let cannot =
        |source| Error::Io { what: "cannot start a thread for", path: core.options.path.clone(), source };
    let for_indexer = core.clone();
    let indexer = std::thread::Builder::new()
        .name("store-index".into())
        .spawn(move || for_indexer.run_indexer())
        .map_err(cannot)?;
    *core.indexer.lock().expect("nobody else has it yet") = Some(indexer);
    let writer = Writer::new(core.clone(), appender);
    std::thread::Builder::new().name("store-writer".into()).spawn(move || writer.run()).map_err(cannot)
}

// === the directory ===

fn prepare(disk: &dyn Disk, path: &Path) -> Result<(), Error> {
    make_dir(disk, path)?;
    let cannot = |source| Error::Io { what: "cannot read", path: path.to_owned(), source };
    let data = fs::metadata(path).map_err(cannot)?;
    let (owner, us) = (data.uid(), rustix::process::geteuid().as_raw());
    if owner != us && us != 0 {
        let why = format!(
            "belongs to user {owner}, and longshore runs as user {us}; `sudo chown -R {us} {}`",
            path.display()
        );
        return Err(Error::Directory(path.to_owned(), why));
    }
    if data.mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "the data directory was open to others; now it is not");
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|source| Error::Io {
            what: "cannot set the mode of",
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// A backup that was cut short lacks segments, and what it has would look whole.
fn refuse_unfinished(path: &Path) -> Result<(), Error> {
    let mark = path.join(UNFINISHED);
    if !mark.exists() {
        return Ok(());
    }
    let why = format!(
        "is a backup that was cut short; take another: `rm -r {0} && longshore store backup {0}`",
        path.display()
    );
    Err(Error::Directory(path.to_owned(), why))
}

/// Makes a directory and those above it that are missing; each of them survives power loss, or nothing in them
/// does. Its parent is synced also where it is there already: whoever made it may not have come so far.
fn make_dir(disk: &dyn Disk, path: &Path) -> Result<(), Error> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !above.exists() {
        make_dir(disk, above)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let us = rustix::process::geteuid().as_raw();
            let why =
                format!("cannot be made: {error}; `sudo install -d -m 0700 -o {us} {}`", path.display());
            return Err(Error::Directory(path.to_owned(), why));
        }
        Err(source) => return Err(Error::Io { what: "cannot make", path: path.to_owned(), source }),
    }
    match disk.sync_dir(above) {
        // A parent that we may not read is not one that we made something in.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        Err(source) => Err(Error::Io { what: "cannot sync", path: above.to_owned(), source }),
        Ok(()) => Ok(()),
    }
}

/// Held as long as the file is open; the system lets go of it when the process ends, however it ends.
fn lock(path: &Path) -> Result<fs::File, Error> {
    let name = path.join("lock");
    let cannot = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::PermissionDenied => {
            let us = rustix::process::geteuid().as_raw();
            let why = format!("cannot be written to; `sudo chown -R {us} {}`", path.display());
            Error::Directory(path.to_owned(), why)
        }
        _ => Error::Io { what: "cannot open", path: name.clone(), source },
    };
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Locked(path.to_owned())),
        Err(fs::TryLockError::Error(source)) => {
            Err(Error::Io { what: "cannot lock", path: name.clone(), source })
        }
    }
}

// === the journal's first word ===

fn mark_opened(appender: &mut Appender, now: Millis) -> Result<(), Error> {
    let failed = |error| match error {
        journal::AppendError::Full(error) => Error::DiskFull(error.to_string()),
        journal::AppendError::Failed(error) => Error::Failed(error.to_string()),
    };
    let mut batch = appender.begin().map_err(failed)?;
    batch.push(&Record::Mark(Mark::Opened { at: now, clock: Millis(0) }).draft(), 0);
    appender.write(batch).map_err(failed)?;
    appender.sync().map_err(failed)?;
    appender.publish();
    Ok(())
}

/// Where the mark of a clean stop lies, if that is the journal's last word.
fn clean_mark(segments: &Segments, last: Option<(u64, u8)>) -> Result<Option<u64>, Error> {
    let Some((at, _)) = last.filter(|(_, kind)| *kind == Kind::Mark as u8) else { return Ok(None) };
    let Some(raw) = segments.record(at)? else { return Ok(None) };
    let record = Record::decode(raw.kind, &raw.payload);
    Ok(matches!(record, Ok(Record::Mark(Mark::Clean { .. }))).then_some(at))
}

// === the index ===

/// Opens the index where it can be believed; else makes an empty one, and says why.
fn open_index(
    home: &dyn Home,
    segments: &Segments,
    end: u64,
    clean: Option<u64>,
    boot: &str,
) -> Result<(Index, Option<String>), Error> {
    let was_there = home.is_there();
    let why = match Index::open(home)
        .and_then(|index| Ok((distrust(&index, segments, end, clean, boot)?, index)))
    {
        Ok((None, index)) => return Ok((index, None)),
        Ok((Some(why), index)) => {
            drop(index);
            why
        }
        Err(error) => error.to_string(),
    };
    // A journal without a past needs no word about an index that was never made.
    let is_news = was_there || end > 0;
    if is_news {
        tracing::warn!(%why, "the index is built again from the journal");
    }
    home.set_aside()?;
    Index::open(home).map(|index| (index, is_news.then_some(why)))
}

/// Why the index cannot be believed; None: it can.
fn distrust(
    index: &Index,
    segments: &Segments,
    end: u64,
    clean: Option<u64>,
    boot: &str,
) -> Result<Option<String>, Error> {
    let Some(progress) = index.progress()? else {
        return Ok(Some("there is no index of this version".into()));
    };
    let was_clean = clean.is_some() && progress.clean == clean;
    if progress.boot != boot && !was_clean {
        return Ok(Some("the machine went down without a clean stop".into()));
    }
    if progress.position > end {
        return Ok(Some("the index is ahead of the journal".into()));
    }
    if progress.position < segments.base() {
        return Ok(Some("the index is behind the beginning of the journal".into()));
    }
    if !is_of_this_journal(segments, &progress)? {
        return Ok(Some("the index belongs to another journal".into()));
    }
    Ok(None)
}

fn is_of_this_journal(segments: &Segments, progress: &Progress) -> Result<bool, Error> {
    if progress.batch == NO_POSITION {
        return Ok(progress.position <= segments.base());
    }
    match segments.batch_header(progress.batch) {
        Ok(Some(header)) => Ok(header.end() == progress.position && header.written_at == progress.written_at),
        Ok(None) | Err(Error::Damaged { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}

fn start_of(index: &Index, segments: &Segments) -> Result<Reached, Error> {
    Ok(match index.progress()? {
        Some(progress) => {
            Reached { end: progress.position, batch: progress.batch, written_at: progress.written_at }
        }
        None => Reached { end: segments.base(), batch: NO_POSITION, written_at: 0 },
    })
}

/// Reads what the index has not seen.
fn replay(segments: &Segments, index: &Index, view: &View, from: u64) -> Result<(), Error> {
    let mut hot = Hot::default();
    let (mut position, base) = (from, segments.base());
    while let Some((header, records)) = segments.batch(position)? {
        let mut stage = Stage::new(view, index, &mut hot);
        for raw in &records {
            if Kind::of(raw.kind).is_none() {
                return Err(Error::UnknownKind(segments.path_of(position), raw.kind));
            }
            let record = Record::decode(raw.kind, &raw.payload)
                .map_err(|why| segments.damaged(raw.position, &why.to_string()))?;
            let bytes = journal::format::RECORD_HEADER + raw.payload.len();
            apply(&mut stage, raw.position, bytes, &record)?;
        }
        let (changes, _) = stage.finish(records.len());
        index.note_ended(changes.ended.iter().map(|(id, row)| (id.clone(), row.clone())));
        view.commit(changes, Some(reached(&header)));
        while let Some(generation) = view.next_full() {
            generation.write_to(index, &|_| {})?;
            view.applied(&generation);
            index.tidy_if_behind(base)?;
        }
        position = header.end();
    }
    while let Some(generation) = view.next_now() {
        generation.write_to(index, &|_| {})?;
        view.applied(&generation);
    }
    Ok(())
}

/// Goes on from the last time of expiry that the journal names.
fn clock_of(index: &Index, machine: Arc<dyn Machine>, now: Millis) -> Result<Clock, Error> {
    let Some(pair) = index.get(keys::CLOCK)? else { return Ok(Clock::new(machine, now, None)) };
    let (clock, wall) = (keys::number_in(&pair, 0)?, keys::number_in(&pair, 8)?);
    Ok(Clock::new(machine, now, Some((Millis(wall), Millis(clock)))))
}

/// Segments that a retention was about to delete when the process ended; and what must not be missing.
fn drop_leftovers(index: &Index, segments: &Segments, disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let first = index.number(keys::FIRST)?.unwrap_or(1);
    let cannot = |what, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { what, path, source }
    };
    while segments.list().first().is_some_and(|segment| segment.header.sequence < first) {
        let Some(segment) = segments.remove_oldest() else { break };
        disk.remove(&segment.path).map_err(cannot("cannot remove", &segment.path))?;
        disk.sync_dir(dir).map_err(cannot("cannot sync", dir))?;
    }
    match segments.list().first() {
        Some(segment) if segment.header.sequence > first => Err(Error::Damaged {
            segment: segment.path.clone(),
            offset: 0,
            why: format!("segment {first} and those behind it are missing"),
        }),
        _ => Ok(()),
    }
}
