//! Format: the bytes of the journal. `docs/store-format.md` shows them as a table; this file is what makes them.
//!
//! A segment is a header and batches; a batch is a header and records; a record is a header and its payload.
//! Every checksum but the payload's covers the segment's salt and the position, so that bytes left over from
//! another file, or from another place of this one, are never taken for a record. All numbers are little-endian.

use bytes::Bytes;

pub const SEGMENT_HEADER: usize = 64;
pub const BATCH_HEADER: usize = 64;
pub const RECORD_HEADER: usize = 32;
pub const VERSION: u32 = 1;
/// No batch before this one.
pub const NO_POSITION: u64 = u64::MAX;

const SEGMENT_MAGIC: [u8; 8] = *b"LONGSHOR";
pub const BATCH_MAGIC: [u8; 8] = *b"LSBATCH1";

/// The first bytes of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Random, so that no checksum of one segment holds in another.
    pub salt: u64,
    /// Place in the chain of segments; also the file's name.
    pub sequence: u64,
    /// Position of its first batch. Where the segment before it goes on beyond this, those bytes do not count.
    pub base: u64,
    /// Position of the last batch below `base`, or `NO_POSITION`.
    pub previous_batch: u64,
    /// Milliseconds since the Unix epoch.
    pub created_at: u64,
    /// The highest kind that its writer knew: a reader that knows fewer looks through the segment first.
    pub kind_max: u8,
}

/// The first bytes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub position: u64,
    /// Bytes of its records, headers included.
    pub body_bytes: u32,
    pub records: u32,
    /// Everything below was on disk when this batch was written.
    pub durable: u64,
    /// When it got there, microseconds since the Unix epoch; 0: not known, a crash came between.
    pub durable_at: u64,
    /// Microseconds since the Unix epoch.
    pub written_at: u64,
    /// Bytes from the batch before to this one; 0 for the first of a segment.
    pub back: u32,
    /// Over the headers of its records, and so over everything.
    pub records_crc: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    pub payload_bytes: u32,
    pub payload_crc: u32,
    pub kind: u8,
    /// Bytes from the batch's header to this one.
    pub from_batch: u32,
    /// Position of the record before it in its chain (of a delivery), or 0.
    pub link: u64,
}

/// A record as it was read and found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRecord {
    pub position: u64,
    pub kind: u8,
    pub link: u64,
    /// Position of the batch that holds it.
    pub batch: u64,
    pub payload: Bytes,
}

impl BatchHeader {
    /// Position behind its last record.
    pub fn end(&self) -> u64 {
        self.position + BATCH_HEADER as u64 + u64::from(self.body_bytes)
    }
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut out = [0; SEGMENT_HEADER];
        out[..8].copy_from_slice(&SEGMENT_MAGIC);
        put_u32(&mut out, 8, VERSION);
        out[12] = self.kind_max;
        put_u64(&mut out, 16, self.salt);
        put_u64(&mut out, 24, self.sequence);
        put_u64(&mut out, 32, self.base);
        put_u64(&mut out, 40, self.previous_batch);
        put_u64(&mut out, 48, self.created_at);
        let crc = crc32fast::hash(&out[..60]);
        put_u32(&mut out, 60, crc);
        out
    }

    /// # Errors
    /// In words, for `Error::Damaged`.
    pub fn decode(bytes: &[u8; SEGMENT_HEADER]) -> Result<SegmentHeader, String> {
        if bytes[..8] != SEGMENT_MAGIC {
            return Err("this is not a segment of the journal".into());
        }
        if crc32fast::hash(&bytes[..60]) != get_u32(bytes, 60) {
            return Err("the checksum of its header is wrong".into());
        }
        let version = get_u32(bytes, 8);
        if version != VERSION {
            return Err(format!("its format is {version}, this longshore reads {VERSION}"));
        }
        Ok(SegmentHeader {
            salt: get_u64(bytes, 16),
            sequence: get_u64(bytes, 24),
            base: get_u64(bytes, 32),
            previous_batch: get_u64(bytes, 40),
            created_at: get_u64(bytes, 48),
            kind_max: bytes[12],
        })
    }
}

impl BatchHeader {
    pub fn encode(&self, salt: u64) -> [u8; BATCH_HEADER] {
        let mut out = [0; BATCH_HEADER];
        out[..8].copy_from_slice(&BATCH_MAGIC);
        put_u64(&mut out, 8, self.position);
        put_u32(&mut out, 16, self.body_bytes);
        put_u32(&mut out, 20, self.records);
        put_u64(&mut out, 24, self.durable);
        put_u64(&mut out, 32, self.durable_at);
        put_u64(&mut out, 40, self.written_at);
        put_u32(&mut out, 48, self.back);
        put_u32(&mut out, 56, self.records_crc);
        let crc = salted(salt, self.position, &out[..60]);
        put_u32(&mut out, 60, crc);
        out
    }

    /// The header of the batch that begins at `position`, or None where these bytes are not that.
    pub fn decode(bytes: &[u8; BATCH_HEADER], salt: u64, position: u64) -> Option<BatchHeader> {
        let is_ours = bytes[..8] == BATCH_MAGIC
            && get_u64(bytes, 8) == position
            && get_u32(bytes, 60) == salted(salt, position, &bytes[..60]);
        is_ours.then(|| BatchHeader {
            position,
            body_bytes: get_u32(bytes, 16),
            records: get_u32(bytes, 20),
            durable: get_u64(bytes, 24),
            durable_at: get_u64(bytes, 32),
            written_at: get_u64(bytes, 40),
            back: get_u32(bytes, 48),
            records_crc: get_u32(bytes, 56),
        })
    }
}

impl RecordHeader {
    pub fn encode(&self, salt: u64, position: u64) -> [u8; RECORD_HEADER] {
        let mut out = [0; RECORD_HEADER];
        put_u32(&mut out, 0, self.payload_bytes);
        put_u32(&mut out, 4, self.payload_crc);
        out[8] = self.kind;
        put_u32(&mut out, 12, self.from_batch);
        put_u64(&mut out, 16, self.link);
        let check = salted(salt, position, &out[..28]);
        put_u32(&mut out, 28, check);
        out
    }

    pub fn decode(bytes: &[u8; RECORD_HEADER], salt: u64, position: u64) -> Option<RecordHeader> {
        (get_u32(bytes, 28) == salted(salt, position, &bytes[..28])).then(|| RecordHeader {
            payload_bytes: get_u32(bytes, 0),
            payload_crc: get_u32(bytes, 4),
            kind: bytes[8],
            from_batch: get_u32(bytes, 12),
            link: get_u64(bytes, 16),
        })
    }
}

/// A record on its way to the journal: everything that can be computed before its position is known.
#[derive(Clone, Debug)]
pub struct Draft {
    pub kind: u8,
    pub payload: Vec<u8>,
    crc: u32,
}

impl Draft {
    pub fn new(kind: u8, payload: Vec<u8>) -> Draft {
        let crc = crc32fast::hash(&payload);
        Draft { kind, payload, crc }
    }

    pub fn bytes(&self) -> usize {
        RECORD_HEADER + self.payload.len()
    }
}

/// A batch being filled, as one buffer: one write puts it on disk.
pub struct BatchBuilder {
    salt: u64,
    position: u64,
    records: u32,
    records_crc: crc32fast::Hasher,
    bytes: Vec<u8>,
}

impl BatchBuilder {
    /// `buffer` is used again from batch to batch.
    pub fn new(salt: u64, position: u64, mut buffer: Vec<u8>) -> BatchBuilder {
        buffer.clear();
        buffer.resize(BATCH_HEADER, 0);
        BatchBuilder { salt, position, records: 0, records_crc: crc32fast::Hasher::new(), bytes: buffer }
    }

    pub fn records(&self) -> u32 {
        self.records
    }

    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Where the next record will lie.
    pub fn next_position(&self) -> u64 {
        self.position + self.bytes.len() as u64
    }

    /// Adds a record; returns its position.
    pub fn push(&mut self, draft: &Draft, link: u64) -> u64 {
        let position = self.next_position();
        let header = RecordHeader {
            payload_bytes: u32::try_from(draft.payload.len()).expect("RECORD_BYTES_MAX is below 4 GiB"),
            payload_crc: draft.crc,
            kind: draft.kind,
            from_batch: u32::try_from(self.bytes.len()).expect("a batch stays below 4 GiB"),
            link,
        }
        .encode(self.salt, position);
        self.records_crc.update(&header);
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(&draft.payload);
        self.records += 1;
        position
    }

    /// Puts the header in front; the caller's `header` says what the batch cannot know by itself.
    pub fn seal(self, header: BatchHeader) -> (BatchHeader, Vec<u8>) {
        let header = BatchHeader {
            position: self.position,
            body_bytes: u32::try_from(self.bytes.len() - BATCH_HEADER).expect("a batch stays below 4 GiB"),
            records: self.records,
            records_crc: self.records_crc.finalize(),
            ..header
        };
        let mut bytes = self.bytes;
        bytes[..BATCH_HEADER].copy_from_slice(&header.encode(self.salt));
        (header, bytes)
    }
}

/// Reads the records of a batch from its body and checks all of it.
///
/// # Errors
/// In words, with the offset in the body.
pub fn read_body(header: &BatchHeader, salt: u64, body: &Bytes) -> Result<Vec<RawRecord>, (usize, String)> {
    let mut records = Vec::with_capacity(header.records.min(4096) as usize);
    let mut crc = crc32fast::Hasher::new();
    let mut at = 0;
    while at < body.len() {
        let record = read_record(header, salt, body, at).map_err(|why| (at, why))?;
        crc.update(&body[at..at + RECORD_HEADER]);
        at += RECORD_HEADER + record.payload.len();
        records.push(record);
    }
    if crc.finalize() != header.records_crc || records.len() != header.records as usize {
        return Err((0, "the batch does not hold the records that its header names".into()));
    }
    Ok(records)
}

fn read_record(header: &BatchHeader, salt: u64, body: &Bytes, at: usize) -> Result<RawRecord, String> {
    let position = header.position + (BATCH_HEADER + at) as u64;
    let head: &[u8; RECORD_HEADER] =
        body[at..].first_chunk().ok_or_else(|| "a record's header is cut off".to_owned())?;
    let head = RecordHeader::decode(head, salt, position)
        .ok_or_else(|| "the checksum of a record's header is wrong".to_owned())?;
    let start = at + RECORD_HEADER;
    let end = start.checked_add(head.payload_bytes as usize).filter(|end| *end <= body.len());
    let payload = body.slice(start..end.ok_or_else(|| "a record is cut off".to_owned())?);
    check_payload(&head, &payload)?;
    Ok(RawRecord { position, kind: head.kind, link: head.link, batch: header.position, payload })
}

/// # Errors
/// In words.
pub fn check_payload(head: &RecordHeader, payload: &[u8]) -> Result<(), String> {
    if crc32fast::hash(payload) == head.payload_crc {
        Ok(())
    } else {
        Err("the checksum of a record is wrong".into())
    }
}

/// Writes a batch that was read under one salt again under another, at the same position.
pub fn resalt(header: &BatchHeader, records: &[RawRecord], salt: u64, back: u32) -> Vec<u8> {
    let mut batch = BatchBuilder::new(salt, header.position, Vec::new());
    for record in records {
        batch.push(&Draft::new(record.kind, record.payload.to_vec()), record.link);
    }
    let (_, bytes) = batch.seal(BatchHeader { back, ..*header });
    bytes
}

fn salted(salt: u64, position: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&position.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn put_u32(out: &mut [u8], at: usize, value: u32) {
    out[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_u64(out: &mut [u8], at: usize, value: u64) {
    out[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were sliced"))
}

fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"))
}
