//! Recovery: what is whole, what is torn, what is damaged, and a new segment to go on in.
//!
//! A killed process leaves records that lie in the page cache and not on disk. Answering for them before they
//! are synced would be a promise on sand, and syncing a file after a failed sync promises nothing at all. So
//! everything behind the last durable mark is written again, into a new file, and that file is synced.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::appender::{Appender, Made, create_segment};
use super::disk::Disk;
use super::format::{
    BATCH_HEADER, BATCH_MAGIC, BatchHeader, NO_POSITION, RawRecord, SEGMENT_HEADER, SegmentHeader, resalt,
};
use super::segments::{Segment, Segments};
use crate::store::Error;
use crate::store::machine::Machine;
use crate::words::time::Millis;

pub(super) const SUFFIX: &str = ".seg";
/// A segment that is not yet in the chain: removed at the next start.
pub(super) const SUFFIX_NEW: &str = ".new";
const SEARCH_BYTES: usize = 1 << 20;

/// How a journal is opened.
pub struct Opening {
    pub disk: Arc<dyn Disk>,
    pub machine: Arc<dyn Machine>,
    pub dir: PathBuf,
    pub segment_bytes: u64,
    pub kind_max: u8,
    pub now: Millis,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub records_copied: u64,
    pub torn_bytes: u64,
    /// The last whole record of the journal, before this start added anything.
    pub last_record: Option<(u64, u8)>,
}

/// Reads the last segment, refuses damage, cuts a torn tail, and starts a new segment with what was not durable.
pub fn open(opening: Opening) -> Result<(Appender, Found), Error> {
    let list = load(&opening)?;
    refuse_unknown_kinds(&opening, &list)?;
    match list.last().cloned() {
        None => Ok((begin(opening)?, Found::default())),
        Some(last) => go_on(opening, list, &last),
    }
}

/// The very first segment.
fn begin(opening: Opening) -> Result<Appender, Error> {
    let header = new_header(&opening, 1, 0, NO_POSITION);
    let made = create(&opening, header, &[])?;
    let segments = Arc::new(Segments::new(vec![made.segment.clone()], 0, NO_POSITION));
    Ok(Appender::new(opening, segments, made, 0, NO_POSITION))
}

fn go_on(opening: Opening, list: Vec<Arc<Segment>>, last: &Arc<Segment>) -> Result<(Appender, Found), Error> {
    // Whoever made the last one may have died before its name was on disk; a later name must not be there without it.
    opening.disk.sync_dir(&opening.dir).map_err(|source| Error::Io {
        what: "cannot sync",
        path: opening.dir.clone(),
        source,
    })?;
    let tail = scan(last)?;
    #[cfg(test)]
    let tail = tail.uncopied_in_a_drill();
    refuse_unknown_before(last, tail.durable, opening.kind_max)?;
    for (_, records) in &tail.loose {
        refuse_unknown(last, records, opening.kind_max)?;
    }
    let base = last.header.base;
    if tail.end == base && tail.torn_bytes == 0 {
        return made_again(opening, list, last);
    }
    // What was reserved for appending; what was written is left as it is.
    let written = last.written_bytes()?.max(last.offset(tail.end));
    let _ = last.file.trim(written);
    let previous = tail.before_loose.unwrap_or(last.header.previous_batch);
    let header = new_header(&opening, last.header.sequence + 1, tail.durable, previous);
    let copies = copies(&tail.loose, header.salt);
    let made = create(&opening, header, &copies)?;
    let last_batch = tail.loose.last().map_or(previous, |(header, _)| header.position);
    let segments = Arc::new(Segments::new(list, tail.end, last_batch));
    segments.push(made.segment.clone());
    let found = Found {
        records_copied: tail.loose.iter().map(|(_, records)| records.len() as u64).sum(),
        torn_bytes: tail.torn_bytes,
        last_record: last_record(&segments, last_batch)?,
    };
    Ok((Appender::new(opening, segments, made, tail.end, last_batch), found))
}

/// A segment without a record. Whoever made it may have died before its name was on disk, or after a sync that
/// failed, behind which another proves nothing: a new file takes its place and its name.
fn made_again(
    opening: Opening,
    mut list: Vec<Arc<Segment>>,
    empty: &Segment,
) -> Result<(Appender, Found), Error> {
    let (base, previous) = (empty.header.base, empty.header.previous_batch);
    let header = new_header(&opening, empty.header.sequence, base, previous);
    let made = create(&opening, header, &[])?;
    list.pop();
    list.push(made.segment.clone());
    let segments = Arc::new(Segments::new(list, base, previous));
    let last_record = last_record(&segments, previous)?;
    let appender = Appender::new(opening, segments, made, base, previous);
    Ok((appender, Found { last_record, ..Found::default() }))
}

fn create(opening: &Opening, header: SegmentHeader, batches: &[Vec<u8>]) -> Result<Made, Error> {
    create_segment(&*opening.disk, &opening.dir, header, opening.segment_bytes, batches)
        .map_err(|source| Error::Io { what: "cannot create a segment in", path: opening.dir.clone(), source })
}

fn new_header(opening: &Opening, sequence: u64, base: u64, previous_batch: u64) -> SegmentHeader {
    SegmentHeader {
        salt: opening.machine.salt(),
        sequence,
        base,
        previous_batch,
        created_at: opening.now.0,
        kind_max: opening.kind_max,
    }
}

fn copies(loose: &[(BatchHeader, Vec<RawRecord>)], salt: u64) -> Vec<Vec<u8>> {
    let mut before: Option<u64> = None;
    loose
        .iter()
        .map(|(header, records)| {
            let back = before.map_or(0, |before| u32::try_from(header.position - before).expect("as before"));
            before = Some(header.position);
            resalt(header, records, salt, back)
        })
        .collect()
}

fn last_record(segments: &Segments, batch: u64) -> Result<Option<(u64, u8)>, Error> {
    let batch = if batch == NO_POSITION { None } else { segments.batch(batch)? };
    Ok(batch.and_then(|(_, records)| records.last().map(|record| (record.position, record.kind))))
}

// === the chain of files ===

fn load(opening: &Opening) -> Result<Vec<Arc<Segment>>, Error> {
    let cannot = |what, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { what, path, source }
    };
    let names = opening.disk.names(&opening.dir).map_err(cannot("cannot list", &opening.dir))?;
    for name in names.iter().filter(|name| name.ends_with(SUFFIX_NEW)) {
        let path = opening.dir.join(name);
        opening.disk.remove(&path).map_err(cannot("cannot remove", &path))?;
    }
    let mut list = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(SUFFIX)) {
        let path = opening.dir.join(name);
        let file = opening.disk.open(&path).map_err(cannot("cannot open", &path))?;
        let mut bytes = [0; SEGMENT_HEADER];
        file.read_at(&mut bytes, 0).map_err(cannot("cannot read", &path))?;
        let header = SegmentHeader::decode(&bytes).map_err(|why| Error::Damaged {
            segment: path.clone(),
            offset: 0,
            why,
        })?;
        list.push(Arc::new(Segment { header, path, file }));
    }
    list.sort_by_key(|segment| segment.header.sequence);
    check_chain(&list)?;
    Ok(list)
}

fn check_chain(list: &[Arc<Segment>]) -> Result<(), Error> {
    for pair in list.windows(2) {
        let (earlier, later) = (&pair[0], &pair[1]);
        let damaged =
            |why: &str| Err(Error::Damaged { segment: later.path.clone(), offset: 0, why: why.to_owned() });
        if later.header.base < earlier.header.base {
            return damaged("it begins before the segment before it");
        }
        let is_next = later.header.sequence == earlier.header.sequence + 1;
        if !is_next && !earlier.reaches(later.header.base) {
            return damaged("a segment before it is missing");
        }
    }
    Ok(())
}

/// Segments of a writer that knew more kinds are looked through: what this version cannot read it must not skip.
fn refuse_unknown_kinds(opening: &Opening, list: &[Arc<Segment>]) -> Result<(), Error> {
    for (segment, next) in list.iter().zip(list.iter().skip(1)) {
        refuse_unknown_before(segment, next.header.base, opening.kind_max)?;
    }
    Ok(())
}

fn refuse_unknown_before(segment: &Segment, end: u64, kind_max: u8) -> Result<(), Error> {
    let mut position = segment.header.base;
    while segment.header.kind_max > kind_max && position < end {
        let header = segment.batch_header(position)?;
        refuse_unknown(segment, &segment.batch_records(&header)?, kind_max)?;
        position = header.end();
    }
    Ok(())
}

fn refuse_unknown(segment: &Segment, records: &[RawRecord], kind_max: u8) -> Result<(), Error> {
    match records.iter().find(|record| record.kind == 0 || record.kind > kind_max) {
        Some(record) => Err(Error::UnknownKind(segment.path.clone(), record.kind)),
        None => Ok(()),
    }
}

// === the last segment ===

/// The last segment as far as it is whole.
struct Tail {
    /// The highest position that a header names durable.
    durable: u64,
    /// Behind the last whole batch.
    end: u64,
    torn_bytes: u64,
    /// The last batch below `durable`.
    before_loose: Option<u64>,
    /// Batches at and behind `durable`.
    loose: Vec<(BatchHeader, Vec<RawRecord>)>,
}

#[cfg(test)]
impl Tail {
    /// Takes what was only found for what is on disk.
    fn uncopied_in_a_drill(mut self) -> Tail {
        if crate::store::drill::breaks(crate::store::drill::Mutation::TailNotCopied) {
            self.durable = self.end;
            self.before_loose =
                self.loose.drain(..).next_back().map(|(batch, _)| batch.position).or(self.before_loose);
        }
        self
    }
}

fn scan(segment: &Segment) -> Result<Tail, Error> {
    let base = segment.header.base;
    let mut tail = Tail { durable: base, end: base, torn_bytes: 0, before_loose: None, loose: Vec::new() };
    let file_end = base + segment.written_bytes()?.saturating_sub(SEGMENT_HEADER as u64);
    while tail.end < file_end {
        let read = segment.batch_header(tail.end).and_then(|header| {
            let records = segment.batch_records(&header)?;
            Ok((header, records))
        });
        let (header, records) = match read {
            Ok(batch) => batch,
            Err(Error::Damaged { why, .. }) => {
                refuse_damage(segment, tail.end, file_end, &why)?;
                tail.torn_bytes = file_end - tail.end;
                break;
            }
            Err(other) => return Err(other),
        };
        tail.end = header.end();
        tail.durable = tail.durable.max(header.durable);
        tail.loose.push((header, records));
        let settled = tail.loose.partition_point(|(batch, _)| batch.position < tail.durable);
        if let Some((batch, _)) = tail.loose.drain(..settled).next_back() {
            tail.before_loose = Some(batch.position);
        }
    }
    Ok(tail)
}

/// A bad frame is a torn tail unless a later header, itself whole, says that this place was durable.
fn refuse_damage(segment: &Segment, bad: u64, file_end: u64, why: &str) -> Result<(), Error> {
    let mut position = bad + 1;
    while position < file_end {
        let bytes = segment.read(position, SEARCH_BYTES)?;
        for at in find_all(&bytes, &BATCH_MAGIC) {
            let candidate = position + at as u64;
            let Some(head) = bytes[at..].first_chunk::<BATCH_HEADER>() else { break };
            let header = BatchHeader::decode(head, segment.header.salt, candidate);
            if let Some(header) = header.filter(|header| header.durable > bad) {
                let why = format!("{why}, and it was durable: the batch at {:x} says so", header.position);
                return Err(segment.damaged(bad, why));
            }
        }
        // The next read begins where a header could still be cut off by the end of this one.
        position += (SEARCH_BYTES - BATCH_HEADER) as u64;
    }
    Ok(())
}

fn find_all<'a>(bytes: &'a [u8], wanted: &'a [u8; 8]) -> impl Iterator<Item = usize> + 'a {
    let first = wanted[0];
    bytes
        .iter()
        .enumerate()
        .filter(move |(at, byte)| **byte == first && bytes[*at..].starts_with(wanted))
        .map(|(at, _)| at)
}
