//! Survey: every byte of a journal, read as far as it can be. It writes nothing, and one damaged place does not
//! keep it from the next.
//!
//! A start stops at the first damage; whoever wants to know what is left needs the rest. Memory is bounded by one
//! batch, and by what is damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::header::find_out;
use crate::store::Error;
use crate::store::codec::{CopyRecord, KIND_MAX, Mark, Record};
use crate::store::journal::disk::File;
use crate::store::journal::format::{
    BATCH_HEADER, BATCH_MAGIC, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader, check_payload,
};
use crate::store::journal::segments::Segment;
use crate::store::journal::{BatchHeader, NO_POSITION, RawRecord, Segments};

const WINDOW_BYTES: usize = 1 << 20;
/// What a disk that has bad places is read by.
const SECTOR_BYTES: usize = 4096;

/// A journal as it was found.
pub(super) struct Survey {
    /// Every segment of the chain in order, also those that are missing.
    pub parts: Vec<Part>,
    /// Everything that can be found by its position.
    pub segments: Segments,
    /// What a start will cut from the last segment.
    pub torn: Option<Torn>,
    /// Whole records of kinds that this version does not know: no damage, but not for this version to judge.
    pub unknown: Vec<Unknown>,
    /// The number of the first segment, as the last mark of it says.
    pub first: u64,
    /// The last whole record is the mark of a clean stop.
    pub is_clean_stop: bool,
}

/// One segment.
pub(super) struct Part {
    pub number: u64,
    pub path: PathBuf,
    /// Under its own header, or under what was found out about it. None: missing, or nothing in it is recognised.
    pub segment: Option<Arc<Segment>>,
    /// None: missing.
    pub file_bytes: Option<u64>,
    /// Why its header is not believed.
    pub header_damage: Option<String>,
    /// The positions that it covers.
    pub base: u64,
    pub end: u64,
    pub batches: u64,
    pub records: u64,
    /// Where its last batch begins that is whole, or was one; or that of an earlier segment.
    pub last_batch: u64,
    pub stretches: Vec<Stretch>,
}

impl Part {
    /// One that is missing is no damage where all that it covered lies in the one before it: what began there was
    /// left by a start that died.
    pub(super) fn is_damaged(&self) -> bool {
        self.header_damage.is_some() || !self.stretches.is_empty()
    }
}

/// A place that does not read, from where a batch began to where the next whole one does.
pub(super) struct Stretch {
    pub from: u64,
    pub to: u64,
    /// The position at which reading failed, and why.
    pub bad: u64,
    pub why: String,
    /// Of the batch at `from`, where that much is whole.
    pub header: Option<BatchHeader>,
    /// What lies behind the batch's header, without a gap between.
    pub pieces: Vec<Piece>,
}

pub(super) struct Piece {
    pub position: u64,
    pub bytes: u64,
    pub what: What,
}

pub(super) enum What {
    /// A record that is whole.
    Kept,
    /// A record whose header is whole and which is not.
    Lost { kind: u8, link: u64, why: String, guess: Option<Box<Record>> },
    /// The header of a batch, and no record.
    BatchHeader,
    /// What cannot be told apart.
    Unreadable,
}

impl Stretch {
    /// Whether what lay at a position is not readable any more.
    fn has_lost(&self, position: u64) -> bool {
        let after = self.pieces.partition_point(|piece| piece.position <= position);
        let piece = after.checked_sub(1).and_then(|at| self.pieces.get(at));
        !piece.is_some_and(|piece| piece.position == position && matches!(piece.what, What::Kept))
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Torn {
    pub position: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Unknown {
    pub segment: PathBuf,
    pub position: u64,
    pub kind: u8,
}

/// A whole record, where it lies.
pub(super) struct Seen<'a> {
    pub raw: &'a RawRecord,
    pub record: &'a Record,
}

/// What is known when a record is seen: everything that it can depend on lies before it.
pub(super) struct Past<'a> {
    pub segments: &'a Segments,
    stretches: &'a BTreeMap<u64, u64>,
    parts: &'a [Part],
    current: &'a [Stretch],
}

impl Past<'_> {
    /// Whether a record began there that is lost.
    pub(super) fn has_lost(&self, position: u64) -> bool {
        let near = self.stretches.range(..=position).next_back();
        if near.is_none_or(|(_, to)| position >= *to) {
            return false;
        }
        let all = self.parts.iter().flat_map(|part| &part.stretches).chain(self.current);
        all.filter(|stretch| (stretch.from..stretch.to).contains(&position))
            .any(|stretch| stretch.has_lost(position))
    }
}

pub(super) type Visit<'a> = &'a mut dyn FnMut(Seen<'_>, &Past<'_>);

/// Reads a journal from its beginning to its end, and shows every whole record, in order.
///
/// # Errors
/// Where the folder cannot be read, or a segment is of another format: that is for another version to judge.
pub(super) fn survey(dir: &Path, visit: Visit<'_>) -> Result<Survey, Error> {
    let mut parts = headers(dir)?;
    let list: Vec<_> = parts.iter().filter_map(|part| part.segment.clone()).collect();
    let segments = Segments::new(list, u64::MAX, NO_POSITION);
    let mut walk = Walk {
        segments: &segments,
        stretches: BTreeMap::new(),
        unknown: Vec::new(),
        first: 1,
        is_clean_stop: false,
        torn: None,
        visit,
    };
    for at in 0..parts.len() {
        let (done, rest) = parts.split_at_mut(at);
        let (part, later) = rest.split_first_mut().expect("`at` is below the number of parts");
        let before = done.last().map_or((0, NO_POSITION), |part| (part.end, part.last_batch));
        let bound = match later.first().map(base_of) {
            None => Bound::Journal,
            Some(Some(next)) => Bound::Next(next),
            Some(None) => Bound::Unknown(later.iter().find_map(base_of)),
        };
        walk.part(part, done, before, bound);
    }
    let Walk { torn, unknown, first, is_clean_stop, .. } = walk;
    Ok(Survey { parts, segments, torn, unknown, first, is_clean_stop })
}

impl Survey {
    pub(super) fn stretches(&self) -> impl Iterator<Item = (&Part, &Stretch)> {
        self.parts.iter().flat_map(|part| part.stretches.iter().map(move |stretch| (part, stretch)))
    }

    /// Segments that are missing below the first one that is there.
    pub(super) fn missing_below(&self) -> Option<(u64, u64)> {
        let number = self.parts.first()?.number;
        (number > self.first).then(|| (self.first, number - 1))
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.missing_below().is_some() || self.parts.iter().any(Part::is_damaged)
    }

    /// Behind the last whole batch.
    pub(super) fn end(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.end)
    }

    /// Every whole record once more, in order.
    pub(super) fn again(&self, visit: &mut dyn FnMut(Seen<'_>)) -> Result<(), Error> {
        let mut show = |raw: &RawRecord| {
            if let Ok(record) = Record::decode(raw.kind, &raw.payload) {
                visit(Seen { raw, record: &record });
            }
        };
        for part in &self.parts {
            let Some(segment) = &part.segment else { continue };
            let mut position = part.base;
            for stretch in &part.stretches {
                whole_batches(segment, position, stretch.from, &mut |_, records| {
                    records.iter().for_each(&mut show)
                })?;
                for piece in &stretch.pieces {
                    if matches!(piece.what, What::Kept) {
                        self.segments.record(piece.position)?.iter().for_each(&mut show);
                    }
                }
                position = stretch.to;
            }
            whole_batches(segment, position, part.end, &mut |_, records| records.iter().for_each(&mut show))?;
        }
        Ok(())
    }
}

/// Batches that are known to be whole.
pub(super) fn whole_batches(
    segment: &Segment,
    from: u64,
    to: u64,
    each: &mut dyn FnMut(&BatchHeader, &[RawRecord]),
) -> Result<(), Error> {
    let mut position = from;
    while position < to {
        let header = segment.batch_header(position)?;
        each(&header, &segment.batch_records(&header)?);
        position = header.end();
    }
    Ok(())
}

// === the files ===

fn headers(dir: &Path) -> Result<Vec<Part>, Error> {
    let cannot = |source| Error::Io { what: "cannot list", path: dir.to_owned(), source };
    let mut numbers = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == "seg")
            && let Some(number) = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok())
        {
            numbers.insert(number, path);
        }
    }
    let (Some(first), Some(last)) = (numbers.keys().next().copied(), numbers.keys().next_back().copied())
    else {
        return Ok(Vec::new());
    };
    if last - first >= 1_000_000 {
        let why = format!("holds segments {first} and {last} and most between them are missing");
        return Err(Error::Directory(dir.to_owned(), why));
    }
    (first..=last)
        .map(|number| match numbers.get(&number) {
            Some(path) => part_of(number, path),
            None => Ok(empty_part(number, &dir.join(format!("{number:010}.seg")))),
        })
        .collect()
}

fn empty_part(number: u64, path: &Path) -> Part {
    Part {
        number,
        path: path.to_owned(),
        segment: None,
        file_bytes: None,
        header_damage: None,
        base: 0,
        end: 0,
        batches: 0,
        records: 0,
        last_batch: NO_POSITION,
        stretches: Vec::new(),
    }
}

fn part_of(number: u64, path: &Path) -> Result<Part, Error> {
    let cannot = |what| move |source| Error::Io { what, path: path.to_owned(), source };
    let file: Arc<dyn File> = Arc::new(fs::File::open(path).map_err(cannot("cannot open"))?);
    let file_bytes = file.length().map_err(cannot("cannot read"))?;
    let mut bytes = [0; SEGMENT_HEADER];
    let read = file.read_at(&mut bytes, 0);
    let (header, damage) = match read
        .map_err(|error| error.to_string())
        .and_then(|_| SegmentHeader::decode(&bytes))
    {
        Ok(header) if header.sequence == number => (Some(header), None),
        Ok(header) => (Some(header), Some(format!("its header says that it is segment {}", header.sequence))),
        // Its checksum held: another version wrote it.
        Err(why) if why.starts_with("its format") => {
            return Err(Error::Damaged { segment: path.to_owned(), offset: 0, why });
        }
        Err(why) => (find_out(&*file, number, &bytes), Some(why)),
    };
    let segment = header.map(|header| {
        let header = SegmentHeader { sequence: number, ..header };
        Arc::new(Segment { header, path: path.to_owned(), file })
    });
    Ok(Part { segment, file_bytes: Some(file_bytes), header_damage: damage, ..empty_part(number, path) })
}

// === the walk ===

struct Walk<'a, 'v> {
    segments: &'a Segments,
    /// From where to where, over all segments.
    stretches: BTreeMap<u64, u64>,
    unknown: Vec<Unknown>,
    first: u64,
    is_clean_stop: bool,
    torn: Option<Torn>,
    visit: Visit<'v>,
}

/// Where a segment ends.
#[derive(Clone, Copy)]
enum Bound {
    /// Where the next one begins.
    Next(u64),
    /// Nothing is known of the next one; a later one begins here.
    Unknown(Option<u64>),
    /// It is the last one.
    Journal,
}

/// A batch that does not read.
struct Broken {
    header: Option<BatchHeader>,
    bad: u64,
    why: String,
    /// No torn tail looks like that: a writer wrote it so, or the disk fails.
    was_written: bool,
}

impl Walk<'_, '_> {
    /// `before`: where the segment before ends, and its last batch.
    fn part(&mut self, part: &mut Part, done: &[Part], before: (u64, u64), bound: Bound) {
        part.last_batch = before.1;
        match part.segment.clone() {
            Some(segment) => self.read(part, done, &segment, bound),
            None => self.lose(part, before.0, bound),
        }
    }

    /// A segment of which nothing is left covers what its neighbours leave.
    fn lose(&mut self, part: &mut Part, before: u64, bound: Bound) {
        let bytes = part.file_bytes.unwrap_or(0).saturating_sub(SEGMENT_HEADER as u64);
        let next = match bound {
            Bound::Next(next) | Bound::Unknown(Some(next)) => Some(next),
            Bound::Unknown(None) | Bound::Journal => None,
        };
        part.base = next.map_or(before, |next| before.min(next));
        let end = part.base + bytes;
        part.end = match (bound, next) {
            (Bound::Next(next), _) => next,
            (_, Some(next)) => end.min(next),
            (_, None) => end,
        };
        let too_few = (BATCH_HEADER + RECORD_HEADER) as u64;
        if next.is_none() && part.end < part.base + too_few {
            part.end = part.base;
        }
        if part.end > part.base {
            let why = match part.file_bytes {
                None => "the segment is missing",
                Some(_) => "nothing in it can be read",
            };
            let broken = Broken { header: None, bad: part.base, why: why.into(), was_written: true };
            self.add(part, stretch_of(part.base, part.end, broken, Vec::new()));
        }
    }

    fn read(&mut self, part: &mut Part, done: &[Part], segment: &Segment, bound: Bound) {
        part.base = segment.header.base;
        if done.last().is_some_and(|earlier| earlier.segment.is_some() && earlier.base > part.base) {
            part.header_damage = Some("it begins before the segment before it".into());
        }
        let bytes = part.file_bytes.unwrap_or(0).saturating_sub(SEGMENT_HEADER as u64);
        let file_end = part.base + bytes;
        // Behind what was written lie the zeros that a segment is filled with for appending.
        let written = segment.written_bytes().map_or(bytes, |all| all.saturating_sub(SEGMENT_HEADER as u64));
        let (readable, end) = match bound {
            Bound::Next(next) => (next.max(part.base), next.max(part.base)),
            Bound::Unknown(Some(next)) => (next.clamp(part.base, file_end), next.clamp(part.base, file_end)),
            Bound::Unknown(None) | Bound::Journal => (file_end, part.base + written),
        };
        let is_last = matches!(bound, Bound::Journal);
        let mut at = part.base;
        let mut durable = None;
        while at < end {
            match read_batch(segment, at, readable) {
                Ok((header, records)) => {
                    part.batches += 1;
                    part.last_batch = at;
                    for (raw, record) in &records {
                        self.see(part, done, raw, record.as_ref());
                    }
                    at = header.end();
                }
                Err(broken) => {
                    let named = || highest_durable(segment, part.base, file_end, is_last);
                    let may_be_torn = !matches!(bound, Bound::Next(_)) && !broken.was_written;
                    if may_be_torn && *durable.get_or_insert_with(named) <= at {
                        break;
                    }
                    let stretch = scan(segment, at, end, broken);
                    at = stretch.to;
                    part.last_batch = stretch.from;
                    part.batches += 1;
                    let from = part.stretches.len();
                    self.add(part, stretch);
                    self.see_kept(part, done, from);
                }
            }
        }
        part.end = at;
        if is_last && end > at {
            self.torn = Some(Torn { position: at, bytes: end - at });
        }
    }

    fn add(&mut self, part: &mut Part, stretch: Stretch) {
        self.stretches.insert(stretch.from, stretch.to);
        part.stretches.push(stretch);
    }

    fn see_kept(&mut self, part: &mut Part, done: &[Part], stretch: usize) {
        let kept: Vec<u64> = part.stretches[stretch]
            .pieces
            .iter()
            .filter(|piece| matches!(piece.what, What::Kept))
            .map(|piece| piece.position)
            .collect();
        for position in kept {
            if let Ok(Some(raw)) = self.segments.record(position) {
                let record = Record::decode(raw.kind, &raw.payload).ok();
                self.see(part, done, &raw, record.as_ref());
            }
        }
    }

    fn see(&mut self, part: &mut Part, done: &[Part], raw: &RawRecord, record: Option<&Record>) {
        part.records += 1;
        self.is_clean_stop = matches!(record, Some(Record::Mark(Mark::Clean { .. })));
        let Some(record) = record else {
            self.unknown.push(Unknown { segment: part.path.clone(), position: raw.position, kind: raw.kind });
            return;
        };
        if let Record::Mark(Mark::First { sequence }) = record {
            self.first = *sequence;
        }
        let past = Past {
            segments: self.segments,
            stretches: &self.stretches,
            parts: done,
            current: &part.stretches,
        };
        (self.visit)(Seen { raw, record }, &past);
    }
}

type Decoded = (RawRecord, Option<Record>);

/// A batch with the meaning of its records; None: of a kind that is not known.
fn read_batch(segment: &Segment, at: u64, end: u64) -> Result<(BatchHeader, Vec<Decoded>), Broken> {
    let broken = |header, error: &Error| match error {
        Error::Damaged { offset, why, .. } => {
            let bad = segment.header.base + offset.saturating_sub(SEGMENT_HEADER as u64);
            Broken { header, bad, why: why.clone(), was_written: false }
        }
        // A disk that does not give it back is no crash: a start would stop here.
        other => Broken { header, bad: at, why: other.to_string(), was_written: true },
    };
    let header = segment.batch_header(at).map_err(|error| broken(None, &error))?;
    if header.end() > end {
        let why = "a batch is cut off".into();
        return Err(Broken { header: Some(header), bad: at, why, was_written: false });
    }
    let records = segment.batch_records(&header).map_err(|error| broken(Some(header), &error))?;
    let mut decoded = Vec::with_capacity(records.len());
    for raw in records {
        let (header, bad) = (Some(header), raw.position);
        let record = decode(&raw).map_err(|why| Broken { header, bad, why, was_written: true })?;
        decoded.push((raw, record));
    }
    Ok((header, decoded))
}

/// None: of a kind that is not known. In words where its checksum holds and it does not read.
fn decode(raw: &RawRecord) -> Result<Option<Record>, String> {
    if raw.kind == 0 || raw.kind > KIND_MAX {
        return Ok(None);
    }
    let record = Record::decode(raw.kind, &raw.payload).map_err(|why| why.to_string())?;
    if let Record::Copy(CopyRecord::Whole { kind, payload, .. }) = &record {
        if *kind > KIND_MAX {
            return Ok(None);
        }
        Record::decode(*kind, payload).map_err(|why| format!("in a copy, {why}"))?;
    }
    Ok(Some(record))
}

/// The highest position that a batch names durable; of a segment that is not the last, where the last batch lies.
fn highest_durable(segment: &Segment, base: u64, file_end: u64, is_last: bool) -> u64 {
    let mut window = Window::new(segment);
    let (mut highest, mut at) = (0, base);
    while at < file_end {
        let bytes = window.at(at, BATCH_HEADER);
        if let Some(header) = batch_at(bytes, segment.header.salt, at) {
            highest = highest.max(if is_last { header.durable } else { at + 1 });
            // Its records may be damaged, and then its length leads nowhere: every byte is looked at.
        }
        at += 1;
    }
    highest
}

fn batch_at(bytes: &[u8], salt: u64, position: u64) -> Option<BatchHeader> {
    if !bytes.starts_with(&BATCH_MAGIC) {
        return None;
    }
    BatchHeader::decode(bytes.first_chunk()?, salt, position)
}

fn record_at(bytes: &[u8], salt: u64, position: u64) -> Option<RecordHeader> {
    let head: &[u8; RECORD_HEADER] = bytes.first_chunk()?;
    let is_like_one = head[9..12] == [0; 3] && head[24..28] == [0; 4];
    if is_like_one { RecordHeader::decode(head, salt, position) } else { None }
}

// === a damaged stretch ===

/// Finds every record that is whole between a batch that does not read and the next that does.
fn scan(segment: &Segment, from: u64, end: u64, broken: Broken) -> Stretch {
    let salt = segment.header.salt;
    let mut window = Window::new(segment);
    let mut pieces: Vec<(Piece, u64)> = Vec::new();
    let mut at = from + BATCH_HEADER as u64;
    let mut to = end;
    while at < end {
        let bytes = window.at(at, BATCH_HEADER);
        if bytes.is_empty() {
            break;
        }
        if batch_at(bytes, salt, at).is_some() {
            to = at;
            break;
        }
        let whole = record_at(bytes, salt, at)
            .map(|head| (head, RECORD_HEADER as u64 + u64::from(head.payload_bytes)))
            .filter(|(_, whole)| at + whole <= end);
        let Some((head, whole)) = whole else {
            at += 1;
            continue;
        };
        pieces.push((
            Piece { position: at, bytes: whole, what: judge(segment, at, &head) },
            u64::from(head.from_batch),
        ));
        at += whole;
    }
    stretch_of(from, to, broken, pieces)
}

fn judge(segment: &Segment, position: u64, head: &RecordHeader) -> What {
    let payload = segment.read(position + RECORD_HEADER as u64, head.payload_bytes as usize);
    let lost = |why: String, payload: Option<&Bytes>| What::Lost {
        kind: head.kind,
        link: head.link,
        why,
        guess: payload.and_then(|payload| Record::decode(head.kind, payload).ok()).map(Box::new),
    };
    let payload = match payload {
        Ok(payload) if payload.len() == head.payload_bytes as usize => payload,
        Ok(_) => return lost("it is cut off".into(), None),
        Err(error) => return lost(error.to_string(), None),
    };
    if let Err(why) = check_payload(head, &payload) {
        return lost(why, Some(&payload));
    }
    let raw = RawRecord { position, kind: head.kind, link: head.link, batch: position, payload };
    match decode(&raw) {
        Ok(_) => What::Kept,
        Err(why) => lost(why, None),
    }
}

/// `found`: records in order, each with how far from its batch's header it says that it lies.
fn stretch_of(from: u64, to: u64, broken: Broken, found: Vec<(Piece, u64)>) -> Stretch {
    let mut pieces = Vec::with_capacity(found.len());
    let mut at = from + BATCH_HEADER as u64;
    let gap = |at: u64, to: u64, from_batch: Option<u64>| {
        let is_header = to - at == BATCH_HEADER as u64 && from_batch == Some(to - at);
        let what = if is_header { What::BatchHeader } else { What::Unreadable };
        Piece { position: at, bytes: to - at, what }
    };
    for (piece, from_batch) in found {
        if piece.position > at {
            pieces.push(gap(at, piece.position, Some(from_batch)));
        }
        at = piece.position + piece.bytes;
        pieces.push(piece);
    }
    if to > at {
        pieces.push(gap(at, to, None));
    }
    Stretch { from, to, bad: broken.bad, why: broken.why, header: broken.header, pieces }
}

/// A part of a segment, for looking at every byte of it.
struct Window<'a> {
    segment: &'a Segment,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(segment: &'a Segment) -> Window<'a> {
        Window { segment, start: 0, bytes: Vec::new() }
    }

    /// As many bytes as there are, at most `len`.
    fn at(&mut self, position: u64, len: usize) -> &[u8] {
        let has = self.start <= position && position + len as u64 <= self.start + self.bytes.len() as u64;
        if !has {
            self.start = position;
            self.bytes =
                self.segment.read(position, WINDOW_BYTES).map_or_else(|_| self.sectors(position), Vec::from);
        }
        let from = usize::try_from(position - self.start).expect("it lies in the window");
        &self.bytes[from..self.bytes.len().min(from + len)]
    }

    /// What a disk does not give back counts as zeros.
    fn sectors(&self, position: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(WINDOW_BYTES);
        while bytes.len() < WINDOW_BYTES {
            match self.segment.read(position + bytes.len() as u64, SECTOR_BYTES) {
                Ok(sector) if sector.is_empty() => break,
                Ok(sector) => bytes.extend_from_slice(&sector),
                Err(_) => bytes.resize(bytes.len() + SECTOR_BYTES, 0),
            }
        }
        bytes
    }
}

fn base_of(part: &Part) -> Option<u64> {
    part.segment.as_ref().map(|segment| segment.header.base)
}

/// A journal that is whole, for reading: only headers and the last segment are looked at, as a start does.
///
/// # Errors
/// `Damaged`, `UnknownKind`, `Io`.
pub(super) fn open_whole(dir: &Path) -> Result<Segments, Error> {
    let mut parts = headers(dir)?;
    let damaged = |part: &Part, offset, why: &str| {
        Err(Error::Damaged { segment: part.path.clone(), offset, why: why.to_owned() })
    };
    if let Some((part, why)) = parts.iter().find_map(|part| Some((part, part.header_damage.as_ref()?))) {
        return damaged(part, 0, why);
    }
    for pair in parts.windows(2).filter(|pair| pair[1].file_bytes.is_none()) {
        let next = parts.iter().filter(|part| part.number > pair[1].number).find_map(base_of);
        // Of several that are missing the first one tells.
        let before = pair[0].segment.as_ref();
        if before.zip(next).is_some_and(|(before, next)| !before.reaches(next)) {
            return damaged(&pair[1], 0, "the segment is missing");
        }
    }
    let list: Vec<_> = parts.iter().filter_map(|part| part.segment.clone()).collect();
    let Some((last, done)) = parts.split_last_mut() else { return Ok(Segments::new(list, 0, NO_POSITION)) };
    let all = Segments::new(list.clone(), u64::MAX, NO_POSITION);
    let mut walk = Walk {
        segments: &all,
        stretches: BTreeMap::new(),
        unknown: Vec::new(),
        first: 1,
        is_clean_stop: false,
        torn: None,
        visit: &mut |_, _| (),
    };
    let previous = last.segment.as_ref().map_or(NO_POSITION, |segment| segment.header.previous_batch);
    walk.part(last, done, (0, previous), Bound::Journal);
    if let Some(unknown) = walk.unknown.first() {
        return Err(Error::UnknownKind(unknown.segment.clone(), unknown.kind));
    }
    if let Some(stretch) = last.stretches.first() {
        let offset = SEGMENT_HEADER as u64 + stretch.bad.saturating_sub(last.base);
        return damaged(last, offset, &stretch.why);
    }
    Ok(Segments::new(list, last.end, last.last_batch))
}
