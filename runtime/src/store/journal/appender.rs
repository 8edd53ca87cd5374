//! Appender: writes batches at the end, one after the other, and says when they are on disk. One per journal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, File};
use super::format::{BATCH_HEADER, BatchBuilder, BatchHeader, SEGMENT_HEADER, SegmentHeader};
use super::recovery::{Opening, SUFFIX, SUFFIX_NEW};
use super::segments::{Segment, Segments};
use crate::store::drill;
use crate::store::machine::Machine;
use crate::words::limits::ZEROED_AHEAD_BYTES;

pub struct Appender {
    disk: Arc<dyn Disk>,
    machine: Arc<dyn Machine>,
    dir: PathBuf,
    segment_bytes: u64,
    kind_max: u8,
    segments: Arc<Segments>,
    current: Arc<Segment>,
    /// Behind the last batch written.
    end: u64,
    last_batch: u64,
    durable: u64,
    /// Microseconds since the epoch; 0: not known.
    durable_at: u64,
    /// As far as the current file has bytes, from its beginning.
    filled: u64,
    /// Whether there are blocks for the rest of it.
    is_reserved: bool,
    buffer: Vec<u8>,
}

/// Why a batch is not in the journal.
#[derive(Debug)]
pub enum AppendError {
    /// The disk is full, or has no file for us: nothing was promised, and the same place can be written again.
    Full(io::Error),
    /// Nothing can be known about the file any more until it is recovered.
    Failed(io::Error),
}

impl AppendError {
    /// Of a new segment, in which nothing was promised: where only space or a free file is missing, the next batch
    /// tries again under the same number. A sync that failed is final here too: the disk is not to be trusted.
    fn of_rotation(error: io::Error) -> AppendError {
        use rustix::io::Errno;
        let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR, Errno::AGAIN];
        if error.raw_os_error().is_some_and(|raw| passing.iter().any(|errno| errno.raw_os_error() == raw)) {
            return AppendError::Full(error);
        }
        AppendError::of_write(error)
    }

    /// Of a write: where only space is missing, the place can be written again.
    fn of_write(error: io::Error) -> AppendError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::Full(error),
            _ => AppendError::Failed(error),
        }
    }
}

impl Appender {
    /// `end`: everything below is on disk.
    pub(super) fn new(
        opening: Opening,
        segments: Arc<Segments>,
        current: Made,
        end: u64,
        last_batch: u64,
    ) -> Appender {
        let Opening { disk, machine, dir, segment_bytes, kind_max, .. } = opening;
        let Made { segment: current, is_reserved } = current;
        let filled = current.offset(end);
        let buffer = Vec::new();
        Appender {
            disk,
            machine,
            dir,
            segment_bytes,
            kind_max,
            segments,
            current,
            end,
            last_batch,
            durable: end,
            durable_at: 0,
            filled,
            is_reserved,
            buffer,
        }
    }

    pub fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    /// Everything below this is on disk.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Position of the last batch written, or `NO_POSITION`.
    pub fn last_batch(&self) -> u64 {
        self.last_batch
    }

    /// An empty batch for the end of the journal. Starts a new segment where the current one is full.
    pub fn begin(&mut self) -> Result<BatchBuilder, AppendError> {
        if self.end - self.current.header.base >= self.segment_bytes {
            self.rotate()?;
        }
        let buffer = std::mem::take(&mut self.buffer);
        Ok(BatchBuilder::new(self.current.header.salt, self.end, buffer))
    }

    /// Puts a batch behind the last one. It is not durable, and not readable, before `sync`.
    pub fn write(&mut self, batch: BatchBuilder) -> Result<BatchHeader, AppendError> {
        let back = match self.end == self.current.header.base {
            true => 0,
            false => u32::try_from(self.end - self.last_batch).expect("a batch stays below 4 GiB"),
        };
        let (header, bytes) = batch.seal(BatchHeader {
            position: self.end,
            body_bytes: 0,
            records: 0,
            durable: self.durable,
            durable_at: self.durable_at,
            written_at: self.machine.now_us(),
            back,
            records_crc: 0,
        });
        assert_eq!(header.position, self.end, "a batch is written where it was begun");
        let offset = self.current.offset(self.end);
        let written = self.current.file.write_at(&bytes, offset);
        let behind = offset + bytes.len() as u64;
        self.buffer = bytes;
        written.map_err(|error| self.refused(error, offset))?;
        self.fill_ahead(behind);
        self.end = header.end();
        self.last_batch = header.position;
        Ok(header)
    }

    /// A batch that found no room was refused, and should not come back at the next start: all of it can lie there,
    /// where what is missing at its end are zeros and zeros are what lay there. A file system that has no room for
    /// that either leaves it to the start, as it does with everything that was never answered.
    fn refused(&self, error: io::Error, offset: u64) -> AppendError {
        let refused = AppendError::of_write(error);
        if let (AppendError::Full(_), Err(error)) = (&refused, self.wipe_header(offset))
            && let failed @ AppendError::Failed(_) = AppendError::of_write(error)
        {
            return failed;
        }
        refused
    }

    fn wipe_header(&self, offset: u64) -> io::Result<()> {
        let there = self.current.file.length()?.saturating_sub(offset);
        let zeros = [0; BATCH_HEADER];
        let zeros = &zeros[..BATCH_HEADER.min(usize::try_from(there).unwrap_or(usize::MAX))];
        if zeros.is_empty() { Ok(()) } else { self.current.file.write_at(zeros, offset) }
    }

    /// Keeps the next batches from making the file longer. The sync of this batch carries the zeros.
    fn fill_ahead(&mut self, behind: u64) {
        if behind <= self.filled || !self.is_reserved {
            return;
        }
        let step = drill::bound(ZEROED_AHEAD_BYTES) as u64;
        let to = behind.next_multiple_of(step).min(SEGMENT_HEADER as u64 + self.segment_bytes);
        self.filled = behind;
        if to > behind {
            let zeros = vec![0; (to - behind) as usize];
            match self.current.file.write_at(&zeros, behind) {
                Ok(()) => self.filled = to,
                // A wish: batches make the file longer themselves.
                Err(error) => tracing::debug!(%error, "a segment is not filled ahead"),
            }
        }
    }

    /// Makes everything written durable. After an error nothing may be appended any more.
    pub fn sync(&mut self) -> Result<(), AppendError> {
        self.current.file.sync().map_err(AppendError::Failed)?;
        self.durable = self.end;
        self.durable_at = self.machine.now_us();
        Ok(())
    }

    /// Lets readers see what was written.
    pub fn publish(&self) {
        self.segments.publish(self.end, self.last_batch);
    }

    /// Gives back what was reserved for appending: the zeros ahead, and blocks.
    pub fn trim(&self) {
        // They are given back at the next start, where this fails.
        let _ = self.current.file.trim(self.current.offset(self.end));
    }

    fn rotate(&mut self) -> Result<(), AppendError> {
        if self.durable < self.end {
            self.sync()?;
        }
        let header = SegmentHeader {
            salt: self.machine.salt(),
            sequence: self.current.header.sequence + 1,
            base: self.end,
            previous_batch: self.last_batch,
            created_at: self.machine.now_us() / 1000,
            kind_max: self.kind_max,
        };
        let made = create_segment(&*self.disk, &self.dir, header, self.segment_bytes, &[])
            .map_err(AppendError::of_rotation)?;
        let Made { segment, is_reserved } = made;
        self.trim();
        self.filled = segment.offset(header.base);
        self.is_reserved = is_reserved;
        self.segments.push(segment.clone());
        self.current = segment;
        Ok(())
    }
}

/// A wish, not a need: on a nearly full disk there is no room for a whole segment, but still for what must be
/// written. What was reserved before the disk was full is given back, or it would take that room.
fn reserve(file: &dyn File, bytes: u64) -> io::Result<bool> {
    if let Err(error) = file.preallocate(bytes) {
        tracing::debug!(%error, "a segment is written without reserved blocks");
        file.trim(file.length()?)?;
        return Ok(false);
    }
    Ok(true)
}

/// A segment to append to.
pub(super) struct Made {
    pub segment: Arc<Segment>,
    /// Whether blocks are reserved for all of it.
    pub is_reserved: bool,
}

/// Makes a segment under a passing name, with `batches` in it, syncs it, and only then gives it its name and
/// syncs the directory: a segment that is in the chain is whole, and survives power loss.
pub(super) fn create_segment(
    disk: &dyn Disk,
    dir: &Path,
    header: SegmentHeader,
    segment_bytes: u64,
    batches: &[Vec<u8>],
) -> io::Result<Made> {
    let path = dir.join(format!("{:010}{SUFFIX}", header.sequence));
    let passing = dir.join(format!("{:010}{SUFFIX_NEW}", header.sequence));
    let made = fill_segment(disk, &passing, header, segment_bytes, batches);
    let (file, is_reserved) = made.inspect_err(|_| drop(disk.remove(&passing)))?;
    if let Err(error) = disk.rename(&passing, &path) {
        let _ = disk.remove(&passing);
        return Err(error);
    }
    if let Err(error) = disk.sync_dir(dir) {
        // Not in the chain after all, so that its number can be used again.
        let _ = disk.remove(&path);
        return Err(error);
    }
    Ok(Made { segment: Arc::new(Segment { header, path, file }), is_reserved })
}

fn fill_segment(
    disk: &dyn Disk,
    passing: &Path,
    header: SegmentHeader,
    segment_bytes: u64,
    batches: &[Vec<u8>],
) -> io::Result<(Arc<dyn File>, bool)> {
    let file = disk.create(passing)?;
    let is_reserved = reserve(&*file, SEGMENT_HEADER as u64 + segment_bytes)?;
    file.write_at(&header.encode(), 0)?;
    let mut offset = SEGMENT_HEADER as u64;
    for batch in batches {
        file.write_at(batch, offset)?;
        offset += batch.len() as u64;
    }
    file.sync()?;
    Ok((file, is_reserved))
}
