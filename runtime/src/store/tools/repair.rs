//! Repair: gives up what cannot be read, so that everything else can be used again.
//!
//! A position never changes, since it is an event's name; so a damaged segment is written anew with every whole
//! record where it was, and with gaps in place of the rest: records of a kind of their own that say nothing. A gap
//! that others name as the record before them leads on to what is left of their chain.
//!
//! Nothing is written over: each new segment is whole and synced before it takes the place of the old one, which is
//! kept. A repair that is cut short leaves each segment as it was or as it should be, and is typed again.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::check::{Examined, Report, delivery_of, examine};
use super::survey::{Part, Piece, Seen, Stretch, Survey, What, whole_batches};
use super::{INDEX, JOURNAL, LOCK};
use crate::store::Error;
use crate::store::codec::{CopyRecord, Gap, KIND_MAX, Mark, Record};
use crate::store::journal::disk::{Disk, File};
use crate::store::journal::format::{BATCH_HEADER, RECORD_HEADER, SEGMENT_HEADER, SegmentHeader, resalt};
use crate::store::journal::{
    AppendError, BatchBuilder, BatchHeader, Draft, NO_POSITION, Opening, open as open_journal,
};
use crate::store::machine::{Machine, System};
use crate::words::event::DeliveryId;
use crate::words::limits::{GAP_BYTES_MAX, SEGMENT_BYTES};
use crate::words::time::Millis;

/// What a repair would do; nothing is changed yet. A daemon cannot start while this lives.
pub struct Plan {
    data: PathBuf,
    survey: Survey,
    report: Report,
    rewrites: Vec<Rewrite>,
    _lock: fs::File,
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct Repaired {
    /// Where everything is that was replaced.
    pub kept: PathBuf,
    /// Numbers of the segments that were written anew.
    pub segments: Vec<u64>,
    pub records_kept: u64,
}

/// A segment that is written anew.
struct Rewrite {
    /// Its place in the survey.
    part: usize,
    previous_batch: u64,
    stretches: Vec<Vec<NewBatch>>,
}

/// A batch in place of a damaged stretch, or of a part of one.
struct NewBatch {
    position: u64,
    /// Of the old one, where it was whole.
    header: Option<BatchHeader>,
    items: Vec<Item>,
}

enum Item {
    Record {
        position: u64,
    },
    /// With its header.
    Gap {
        bytes: u64,
        link: u64,
    },
}

impl Plan {
    /// Takes the lock and reads everything.
    ///
    /// # Errors
    /// `Locked`, where a daemon runs; `UnknownKind`, where a newer longshore wrote records: they are not given up;
    /// `Directory`, where this cannot be repaired.
    pub fn make(data: &Path) -> Result<Plan, Error> {
        let lock = lock(data)?;
        let Examined { survey, report, broken_links } = examine(data)?;
        if let Some(unknown) = survey.unknown.first() {
            return Err(Error::UnknownKind(unknown.segment.clone(), unknown.kind));
        }
        let cannot =
            |why| Error::Directory(data.to_owned(), format!("cannot be repaired: {why}; restore a backup"));
        let links = links(&survey, broken_links)?;
        let rewrites = rewrites(&survey, &links).map_err(cannot)?;
        Ok(Plan { data: data.to_owned(), survey, report, rewrites, _lock: lock })
    }

    pub fn is_needed(&self) -> bool {
        self.report.is_damaged
    }

    /// What is damaged; all that is lost in it is given up.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Whether the end of an attempt may be among what is lost, so that it is made again.
    pub fn may_run_again(&self) -> bool {
        let lost = self.report.damage.iter();
        let mut lost = lost.flat_map(|damage| &damage.lost).map(|lost| lost.kind.as_str());
        lost.any(|kind| !matches!(kind, "accept" | "mark" | "secrets seen" | "redelivery"))
            || self
                .report
                .damage
                .iter()
                .any(|damage| !damage.unreadable.is_empty() || damage.position.is_none())
    }

    /// # Errors
    /// `Io`, `DiskFull`, `Failed`. What was begun is begun again by the next call.
    pub fn carry_out(self, disk: &Arc<dyn Disk>, now: Millis) -> Result<Repaired, Error> {
        let journal = self.data.join(JOURNAL);
        let cannot = |what, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { what, path, source }
        };
        let mut made = Vec::new();
        for rewrite in &self.rewrites {
            let part = &self.survey.parts[rewrite.part];
            let passing = part.path.with_extension("new");
            self.write(&**disk, rewrite, &passing, now)?;
            made.push((passing, part));
        }
        let kept = self.keep(now)?;
        let index = self.data.join(INDEX);
        if index.exists() {
            // Before the journal changes: an index that knows what was given up must not be believed.
            disk.rename(&index, &kept.join(INDEX)).map_err(cannot("cannot set aside", &index))?;
            disk.sync_dir(&kept).map_err(cannot("cannot sync", &kept))?;
            disk.sync_dir(&self.data).map_err(cannot("cannot sync", &self.data))?;
        }
        for (passing, part) in &made {
            disk.rename(passing, &part.path).map_err(cannot("cannot replace", &part.path))?;
        }
        disk.sync_dir(&journal).map_err(cannot("cannot sync", &journal))?;
        if self.survey.missing_below().is_some() {
            self.mark_first(disk.clone(), now)?;
        }
        let segments = made.iter().map(|(_, part)| part.number).collect();
        Ok(Repaired { kept, segments, records_kept: self.report.records })
    }

    // === what was there is kept ===

    /// Second names for the files that are replaced, and a page that says how to go back.
    fn keep(&self, now: Millis) -> Result<PathBuf, Error> {
        let cannot = |what, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { what, path, source }
        };
        let stamp: String = now.to_string().chars().filter(|c| !matches!(c, ':' | '.')).collect();
        let mut kept = self.data.join(format!("repair-{stamp}"));
        for again in 1.. {
            match fs::DirBuilder::new().mode(0o700).create(&kept) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && again < 1000 => {
                    kept = self.data.join(format!("repair-{stamp}-{again}"));
                }
                Err(error) => return Err(cannot("cannot make", &kept)(error)),
            }
        }
        for rewrite in &self.rewrites {
            let part = &self.survey.parts[rewrite.part];
            if part.file_bytes.is_some() {
                let name = kept.join(part.path.file_name().unwrap_or_default());
                keep_file(&part.path, &name).map_err(cannot("cannot keep", &part.path))?;
            }
        }
        let page = kept.join("README");
        let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&page).and_then(
            |mut file| {
                io::Write::write_all(&mut file, self.page(&kept).as_bytes())?;
                file.sync_all()
            },
        );
        written.map_err(cannot("cannot write", &page))?;
        for dir in [&kept, &self.data] {
            fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(cannot("cannot sync", dir))?;
        }
        Ok(kept)
    }

    fn page(&self, kept: &Path) -> String {
        let report = serde_json::to_string_pretty(&self.report).expect("a report has no maps");
        let made = self.rewrites.iter().map(|rewrite| &self.survey.parts[rewrite.part]);
        let made: Vec<_> = made
            .filter(|part| part.file_bytes.is_none())
            .map(|part| part.path.display().to_string())
            .collect();
        let remove = match made.as_slice() {
            [] => String::new(),
            made => format!("  rm {}\n", made.join(" ")),
        };
        format!(
            "`longshore store repair` wrote the segments in this folder anew. They are kept here as they were.\n\n\
             To go back, stop the daemon and type:\n\n\
             {remove}  cp {kept}/*.seg {journal}/\n  rm -r {index}\n\n\
             What was damaged, and so given up:\n\n{report}\n",
            kept = kept.display(),
            journal = self.data.join(JOURNAL).display(),
            index = self.data.join(INDEX).display(),
        )
    }

    /// The last word on where the chain begins: what lay before is missing, and stays so.
    fn mark_first(&self, disk: Arc<dyn Disk>, now: Millis) -> Result<(), Error> {
        let Some(first) = self.survey.parts.first() else { return Ok(()) };
        let failed = |error| match error {
            AppendError::Full(error) => Error::DiskFull(error.to_string()),
            AppendError::Failed(error) => Error::Failed(error.to_string()),
        };
        let dir = self.data.join(JOURNAL);
        let machine = Arc::new(System::default());
        let opening = Opening { disk, machine, dir, segment_bytes: SEGMENT_BYTES, kind_max: KIND_MAX, now };
        let (mut appender, _) = open_journal(opening)?;
        let mut batch = appender.begin().map_err(failed)?;
        batch.push(&Record::Mark(Mark::First { sequence: first.number }).draft(), 0);
        appender.write(batch).map_err(failed)?;
        appender.sync().map_err(failed)?;
        appender.trim();
        Ok(())
    }

    // === a segment anew ===

    fn write(&self, disk: &dyn Disk, rewrite: &Rewrite, passing: &Path, now: Millis) -> Result<(), Error> {
        let part = &self.survey.parts[rewrite.part];
        let file = disk.create(passing).map_err(|source| cannot_write(passing, source))?;
        let old = part.segment.as_ref().map(|segment| segment.header);
        let header = SegmentHeader {
            salt: System::default().salt(),
            sequence: part.number,
            base: part.base,
            previous_batch: rewrite.previous_batch,
            created_at: old.map_or_else(|| self.made_at(rewrite.part, now), |old| old.created_at),
            kind_max: KIND_MAX,
        };
        let mut out =
            Out { file: &*file, path: passing, header, before: None, durable: part.base, written_at: 0 };
        out.put(&header.encode(), 0)?;
        out.written_at = header.created_at.saturating_mul(1000);
        let mut position = part.base;
        for (stretch, batches) in part.stretches.iter().zip(&rewrite.stretches) {
            self.copy_whole(part, position, stretch.from, &mut out)?;
            for batch in batches {
                self.put_batch(batch, &mut out)?;
            }
            position = stretch.to;
        }
        self.copy_whole(part, position, part.end, &mut out)?;
        file.sync().map_err(|source| cannot_write(passing, source))
    }

    /// When a segment was made that is not there: as its neighbours were.
    fn made_at(&self, part: usize, now: Millis) -> u64 {
        let known = |part: &Part| part.segment.as_ref().map(|segment| segment.header.created_at);
        let before = self.survey.parts[..part].iter().rev().find_map(known);
        before.or_else(|| self.survey.parts[part..].iter().find_map(known)).unwrap_or(now.0)
    }

    fn copy_whole(&self, part: &Part, from: u64, to: u64, out: &mut Out<'_>) -> Result<(), Error> {
        let Some(segment) = &part.segment else { return Ok(()) };
        let mut failed = None;
        whole_batches(segment, from, to, &mut |header, records| {
            if failed.is_none() {
                failed = out
                    .batch(header, &resalt(header, records, out.header.salt, out.back(header.position)))
                    .err();
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn put_batch(&self, batch: &NewBatch, out: &mut Out<'_>) -> Result<(), Error> {
        let mut builder = BatchBuilder::new(out.header.salt, batch.position, Vec::new());
        for item in &batch.items {
            match item {
                Item::Record { position } => {
                    let gone = || Error::Failed(format!("the record at {position:x} does not read any more"));
                    let raw = self.survey.segments.record(*position)?.ok_or_else(gone)?;
                    let at = builder.push(&Draft::new(raw.kind, raw.payload.to_vec()), raw.link);
                    assert_eq!(at, *position, "a position never changes");
                }
                Item::Gap { bytes, link } => {
                    let bytes = usize::try_from(*bytes).expect("a gap is at most a segment") - RECORD_HEADER;
                    builder.push(&Record::Gap(Gap { bytes }).draft(), *link);
                }
            }
        }
        let header = BatchHeader {
            back: out.back(batch.position),
            ..batch.header.unwrap_or(BatchHeader {
                position: batch.position,
                body_bytes: 0,
                records: 0,
                durable: out.durable,
                durable_at: 0,
                written_at: out.written_at,
                back: 0,
                records_crc: 0,
            })
        };
        let (header, bytes) = builder.seal(header);
        out.batch(&header, &bytes)
    }
}

/// A segment being written.
struct Out<'a> {
    file: &'a dyn File,
    path: &'a Path,
    header: SegmentHeader,
    before: Option<u64>,
    durable: u64,
    written_at: u64,
}

impl Out<'_> {
    fn back(&self, position: u64) -> u32 {
        self.before.map_or(0, |before| u32::try_from(position - before).expect("a segment is below 4 GiB"))
    }

    fn batch(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<(), Error> {
        self.put(bytes, SEGMENT_HEADER as u64 + (header.position - self.header.base))?;
        self.before = Some(header.position);
        self.durable = self.durable.max(header.durable);
        self.written_at = header.written_at;
        Ok(())
    }

    fn put(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.file.write_at(bytes, offset).map_err(|source| cannot_write(self.path, source))
    }
}

/// Where a file system knows no second names, a copy.
fn keep_file(path: &Path, name: &Path) -> io::Result<()> {
    fs::hard_link(path, name).or_else(|_| {
        fs::copy(path, name)?;
        fs::File::open(name)?.sync_all()
    })
}

fn cannot_write(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull(source.to_string()),
        _ => Error::Io { what: "cannot write", path: path.to_owned(), source },
    }
}

fn lock(data: &Path) -> Result<fs::File, Error> {
    // Says what is wrong where there is no journal, and makes nothing there.
    drop(super::lock_shared(data)?);
    let path = data.join(LOCK);
    let cannot = |source| Error::Io { what: "cannot lock", path: path.clone(), source };
    let file =
        fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Locked(data.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(cannot(source)),
    }
}

// === the plan ===

/// By lost record that whole ones lead to: the whole record before it of the same delivery, or 0.
fn links(survey: &Survey, broken: Vec<(u64, DeliveryId)>) -> Result<BTreeMap<u64, u64>, Error> {
    let mut links: BTreeMap<u64, u64> = broken.iter().map(|(lost, _)| (*lost, 0)).collect();
    if links.is_empty() {
        return Ok(links);
    }
    let mut by_delivery: HashMap<DeliveryId, Vec<u64>> = HashMap::new();
    broken.into_iter().for_each(|(lost, id)| by_delivery.entry(id).or_default().push(lost));
    let mut note = |position: u64, record: &Record| {
        let lost = delivery_of(record).and_then(|id| by_delivery.get(id)).map_or(&[][..], Vec::as_slice);
        for later in lost.iter().filter(|later| position < **later) {
            let link = links.entry(*later).or_default();
            *link = position.max(*link);
        }
    };
    survey.again(&mut |Seen { raw, record }| match record {
        Record::Copy(CopyRecord::Whole { position, kind, payload, .. }) => {
            if let Ok(inner) = Record::decode(*kind, payload) {
                note(*position, &inner);
            }
        }
        other => note(raw.position, other),
    })?;
    Ok(links)
}

fn rewrites(survey: &Survey, links: &BTreeMap<u64, u64>) -> Result<Vec<Rewrite>, String> {
    let mut rewrites = Vec::new();
    let mut before = None;
    for (at, part) in survey.parts.iter().enumerate() {
        if part.header_damage.as_deref().is_some_and(|why| why.starts_with("it begins before")) {
            return Err(format!("`{}` begins before the segment before it", part.path.display()));
        }
        let stretches: Vec<_> =
            part.stretches.iter().map(|stretch| layout(stretch, links)).collect::<Result<_, _>>()?;
        let named = part.segment.as_ref().map_or(NO_POSITION, |segment| segment.header.previous_batch);
        let previous_batch = before.unwrap_or(named);
        let is_last_lost = part.stretches.last().is_some_and(|stretch| stretch.to == part.end);
        before = Some(match stretches.last().and_then(|batches: &Vec<NewBatch>| batches.last()) {
            Some(batch) if is_last_lost => batch.position,
            _ if part.batches > 0 => part.last_batch,
            _ => previous_batch,
        });
        // What is missing and covers nothing stays away.
        let is_there = part.file_bytes.is_some();
        if part.is_damaged() || (is_there && previous_batch != named) {
            rewrites.push(Rewrite { part: at, previous_batch, stretches });
        }
    }
    Ok(rewrites)
}

/// What stands in place of a stretch: every whole record where it was, and gaps between.
fn layout(stretch: &Stretch, links: &BTreeMap<u64, u64>) -> Result<Vec<NewBatch>, String> {
    let mut layout = Layout {
        batches: vec![NewBatch { position: stretch.from, header: stretch.header, items: Vec::new() }],
    };
    if stretch.to < stretch.from + BATCH_HEADER as u64 {
        return Err(format!(
            "{} bytes at {:x} are too few for a gap",
            stretch.to - stretch.from,
            stretch.from
        ));
    }
    for piece in &stretch.pieces {
        match piece.what {
            What::Kept => layout.item(Item::Record { position: piece.position }),
            What::BatchHeader => layout.begin(piece.position),
            What::Lost { .. } => {
                layout.gap(piece.position, piece.bytes, links.get(&piece.position).copied())?
            }
            What::Unreadable => layout.unreadable(piece, links)?,
        }
    }
    Ok(layout.batches)
}

struct Layout {
    batches: Vec<NewBatch>,
}

impl Layout {
    fn begin(&mut self, position: u64) {
        self.batches.push(NewBatch { position, header: None, items: Vec::new() });
    }

    fn item(&mut self, item: Item) {
        self.batches.last_mut().expect("the first is there from the start").items.push(item);
    }

    /// Cut wherever a whole record says that there was one.
    fn unreadable(&mut self, piece: &Piece, links: &BTreeMap<u64, u64>) -> Result<(), String> {
        let room = RECORD_HEADER as u64;
        let end = piece.position + piece.bytes;
        let (mut at, mut link) = (piece.position, links.get(&piece.position).copied());
        for (named, next) in links.range(piece.position + room..) {
            if named + room > end {
                break;
            }
            if *named >= at + room {
                self.gap(at, named - at, link)?;
                (at, link) = (*named, Some(*next));
            }
        }
        self.gap(at, end - at, link)
    }

    fn gap(&mut self, position: u64, bytes: u64, link: Option<u64>) -> Result<(), String> {
        let (mut position, mut bytes, mut link) = (position, bytes, link.unwrap_or(0));
        if bytes < RECORD_HEADER as u64 {
            return Err(format!("{bytes} bytes at {position:x} are too few for a gap"));
        }
        let batch_and_record = (BATCH_HEADER + RECORD_HEADER) as u64;
        while bytes >= GAP_BYTES_MAX + batch_and_record {
            self.item(Item::Gap { bytes: GAP_BYTES_MAX, link });
            position += GAP_BYTES_MAX;
            self.begin(position);
            position += BATCH_HEADER as u64;
            bytes -= GAP_BYTES_MAX + BATCH_HEADER as u64;
            link = 0;
        }
        self.item(Item::Gap { bytes, link });
        Ok(())
    }
}
