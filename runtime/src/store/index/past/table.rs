//! Table: rows of deliveries that ended, in one file that is written once.
//!
//! Rows in the order of their deliveries, in blocks; for each value of each field that people filter by, the numbers
//! of its rows; a directory of both; and a trailer that says where the directory lies. Every part has a checksum.
//! A filter costs the directory, its postings, and the blocks of the rows that come out.

use std::collections::BTreeMap;

use crate::store::codec::{In, Out, Unreadable};
use crate::store::index::tree::Tree;
use crate::store::rows::Row;
use crate::store::{DeliveryFilter, Error};
use crate::words::event::DeliveryId;
use bytes::Bytes;

const MAGIC: &[u8; 8] = b"LSTABLE1";
const BLOCK_BYTES: usize = 4096;
const TRAILER_BYTES: usize = 32;

/// What people filter by, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Field {
    Source = 1,
    Type = 2,
    Handler = 3,
    Status = 4,
    ErrorKind = 5,
}

type Value = (u8, Vec<u8>);

fn values_of(row: &Row) -> Vec<Value> {
    let mut values = vec![
        (Field::Source as u8, row.source.as_str().as_bytes().to_vec()),
        (Field::Type as u8, row.event_type.as_bytes().to_vec()),
        (Field::Handler as u8, row.handler.as_str().as_bytes().to_vec()),
        (Field::Status as u8, vec![row.status_byte()]),
    ];
    values.extend(row.error_byte().map(|byte| (Field::ErrorKind as u8, vec![byte])));
    values
}

fn values_wanted(filter: &DeliveryFilter) -> Vec<Value> {
    use crate::store::{codec, rows};
    let source = filter.source.as_ref().map(|name| (Field::Source, name.as_str().as_bytes().to_vec()));
    // A row keeps the beginning of a type that is too long.
    let kind = filter.event_type.as_ref().map(|text| (Field::Type, rows::cut(text).as_bytes().to_vec()));
    let handler = filter.handler.as_ref().map(|name| (Field::Handler, name.as_str().as_bytes().to_vec()));
    let status = filter.status.map(|status| (Field::Status, vec![codec::status_byte(status)]));
    let error = filter.error_kind.map(|kind| (Field::ErrorKind, vec![rows::error_byte(kind)]));
    let all = [source, kind, handler, status, error].into_iter().flatten();
    all.map(|(field, value)| (field as u8, value)).collect()
}

// === writing ===

struct Block {
    first: DeliveryId,
    first_row: u32,
    rows: Vec<u8>,
}

/// The bytes of a table. `rows` are in order and not empty.
pub(super) fn encode(rows: &[(DeliveryId, Row)]) -> Vec<u8> {
    let mut postings: BTreeMap<Value, Vec<u32>> = BTreeMap::new();
    let mut blocks: Vec<Block> = Vec::new();
    for (number, (id, row)) in (0_u32..).zip(rows) {
        if blocks.last().is_none_or(|block| block.rows.len() >= BLOCK_BYTES) {
            blocks.push(Block { first: id.clone(), first_row: number, rows: Vec::new() });
        }
        let block = blocks.last_mut().expect("there is one: it was made where there was none");
        put_row(&mut block.rows, id, row);
        for value in values_of(row) {
            postings.entry(value).or_default().push(number);
        }
    }
    let mut file = MAGIC.to_vec();
    let mut directory = Out(Vec::new());
    directory.u32(u32::try_from(rows.len()).expect("a table has PAST_TABLE_ROWS rows"));
    directory.len(blocks.len());
    for block in &blocks {
        directory.delivery(&block.first);
        directory.u32(block.first_row);
        put_part(&mut file, &mut directory, &block.rows);
    }
    directory.len(postings.len());
    for ((field, value), numbers) in &postings {
        directory.u8(*field);
        directory.bytes(value);
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        put_part(&mut file, &mut directory, &bytes);
    }
    let mut trailer = Out(Vec::new());
    put_part(&mut file, &mut trailer, &directory.0);
    file.extend_from_slice(&trailer.0);
    file.extend_from_slice(&crc32fast::hash(&trailer.0).to_le_bytes());
    file.extend_from_slice(&[0; TRAILER_BYTES - 28]);
    file.extend_from_slice(MAGIC);
    file
}

pub(super) fn put_row(out: &mut Vec<u8>, id: &DeliveryId, row: &Row) {
    let mut bytes = Out(std::mem::take(out));
    bytes.delivery(id);
    bytes.bytes(&row.encode());
    *out = bytes.0;
}

/// Appends a part to the file, and where it lies to whoever names it: 16 bytes.
fn put_part(file: &mut Vec<u8>, names: &mut Out, part: &[u8]) {
    names.u64(file.len() as u64);
    names.u32(u32::try_from(part.len()).expect("a table is far below 4 GiB"));
    names.u32(crc32fast::hash(part));
    file.extend_from_slice(part);
}

pub(super) fn read_rows(bytes: &Bytes) -> Result<Vec<(DeliveryId, Row)>, Error> {
    let mut bytes = In::new(bytes);
    let mut rows = Vec::new();
    while !bytes.is_empty() {
        let mut next = || Ok::<_, Unreadable>((bytes.delivery()?, bytes.bytes()?));
        let (id, row) = next().map_err(|error| Error::Index(error.to_string()))?;
        rows.push((id, Row::decode(&row)?));
    }
    Ok(rows)
}

// === reading ===

#[derive(Clone, Copy, Debug)]
struct Part {
    offset: u64,
    len: u32,
    crc: u32,
}

struct BlockAt {
    first: DeliveryId,
    first_row: u32,
    part: Part,
}

/// An open table, walked from its last row that matches to its first.
pub(super) struct Cursor {
    number: u64,
    blocks: Vec<BlockAt>,
    /// Rows that match what can be looked up, in order; None: all.
    wanted: Option<Vec<u32>>,
    /// Rows of `wanted`, or of all, that are still to come.
    left: usize,
    /// The block that was read last, by its number.
    block: Option<(usize, Vec<(DeliveryId, Row)>)>,
}

impl Cursor {
    /// At the last row before `below`.
    pub(super) fn open(
        tree: &dyn Tree,
        number: u64,
        filter: &DeliveryFilter,
        below: Option<&DeliveryId>,
    ) -> Result<Cursor, Error> {
        let directory = directory(tree, number)?;
        let (rows, blocks, mut parts) =
            read_directory(&directory, &values_wanted(filter)).map_err(|error| damaged(number, &error))?;
        // The rarest first: the others are looked up in what it leaves.
        parts.sort_by_key(|part| part.map_or(0, |part| part.len));
        let mut wanted: Option<Vec<u32>> = None;
        for part in parts {
            let numbers = match part {
                Some(part) => numbers(&read_part(tree, number, part)?),
                None => Vec::new(),
            };
            wanted = Some(match wanted {
                Some(before) => before.into_iter().filter(|row| numbers.binary_search(row).is_ok()).collect(),
                None => numbers,
            });
            if wanted.as_ref().is_some_and(Vec::is_empty) {
                break;
            }
        }
        let mut cursor = Cursor { number, blocks, wanted, left: 0, block: None };
        let end = match below {
            Some(below) => cursor.rows_before(tree, below)?,
            None => rows,
        };
        cursor.left = match &cursor.wanted {
            Some(wanted) => wanted.partition_point(|row| *row < end),
            None => end as usize,
        };
        Ok(cursor)
    }

    /// The next row that may match; times are not looked at.
    pub(super) fn next(&mut self, tree: &dyn Tree) -> Result<Option<(DeliveryId, Row)>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let row = match &self.wanted {
            Some(wanted) => wanted[self.left],
            None => u32::try_from(self.left).expect("a table has PAST_TABLE_ROWS rows"),
        };
        self.row(tree, row).map(Some)
    }

    fn row(&mut self, tree: &dyn Tree, row: u32) -> Result<(DeliveryId, Row), Error> {
        let at = self.blocks.partition_point(|block| block.first_row <= row).saturating_sub(1);
        let first = self.blocks.get(at).map_or(0, |block| block.first_row);
        let rows = self.rows_of(tree, at)?;
        let found = rows.get((row - first) as usize).cloned();
        found.ok_or_else(|| damaged(self.number, &Unreadable("a row is missing")))
    }

    fn rows_of(&mut self, tree: &dyn Tree, at: usize) -> Result<&[(DeliveryId, Row)], Error> {
        if self.block.as_ref().is_none_or(|(known, _)| *known != at) {
            let part = self.blocks.get(at).map(|block| block.part);
            let part = part.ok_or_else(|| damaged(self.number, &Unreadable("a block is missing")))?;
            self.block = Some((at, read_rows(&read_part(tree, self.number, part)?)?));
        }
        Ok(&self.block.as_ref().expect("it was read above").1)
    }

    fn rows_before(&mut self, tree: &dyn Tree, id: &DeliveryId) -> Result<u32, Error> {
        let Some(at) = self.blocks.partition_point(|block| block.first < *id).checked_sub(1) else {
            return Ok(0);
        };
        let first = self.blocks[at].first_row;
        let before = self.rows_of(tree, at)?.partition_point(|(other, _)| other < id);
        Ok(first + u32::try_from(before).expect("a block has fewer rows than its table"))
    }
}

/// The row of one delivery.
pub(super) fn find(tree: &dyn Tree, number: u64, id: &DeliveryId) -> Result<Option<Row>, Error> {
    let directory = directory(tree, number)?;
    let (_, blocks, _) = read_directory(&directory, &[]).map_err(|error| damaged(number, &error))?;
    let Some(at) = blocks.partition_point(|block| block.first <= *id).checked_sub(1) else { return Ok(None) };
    let rows = read_rows(&read_part(tree, number, blocks[at].part)?)?;
    Ok(rows.into_iter().find(|(other, _)| other == id).map(|(_, row)| row))
}

fn damaged(number: u64, why: &Unreadable) -> Error {
    Error::Index(format!("table {number} of the history: {why}"))
}

fn directory(tree: &dyn Tree, number: u64) -> Result<Bytes, Error> {
    let not_one = || damaged(number, &Unreadable("it is not a table, or it is cut off"));
    let end = tree.table_bytes(number)?;
    let at = end.checked_sub(TRAILER_BYTES as u64).ok_or_else(not_one)?;
    let trailer = tree.read_table(number, at, TRAILER_BYTES)?;
    let crc = trailer.get(16..20).and_then(|bytes| bytes.first_chunk::<4>());
    let is_one = trailer.len() == TRAILER_BYTES
        && trailer[TRAILER_BYTES - 8..] == *MAGIC
        && crc.is_some_and(|crc| u32::from_le_bytes(*crc) == crc32fast::hash(&trailer[..16]));
    if !is_one {
        return Err(not_one());
    }
    let part = part(&mut In::new(&trailer)).map_err(|error| damaged(number, &error))?;
    read_part(tree, number, part)
}

type Directory = (u32, Vec<BlockAt>, Vec<Option<Part>>);

/// Number of rows, where the blocks lie, and where the postings of each of `wanted` do: None where it has no row.
fn read_directory(bytes: &Bytes, wanted: &[Value]) -> Result<Directory, Unreadable> {
    let mut bytes = In::new(bytes);
    let rows = bytes.u32()?;
    let blocks = bytes.list(|bytes| {
        Ok(BlockAt { first: bytes.delivery()?, first_row: bytes.u32()?, part: part(bytes)? })
    })?;
    let mut found = vec![None; wanted.len()];
    if !wanted.is_empty() {
        for _ in 0..bytes.u32()? {
            let (field, value, part) = (bytes.u8()?, bytes.bytes()?, part(&mut bytes)?);
            let at = wanted.iter().position(|(other, text)| *other == field && *text == value[..]);
            at.into_iter().for_each(|at| found[at] = Some(part));
        }
    }
    Ok((rows, blocks, found))
}

fn part(bytes: &mut In) -> Result<Part, Unreadable> {
    Ok(Part { offset: bytes.u64()?, len: bytes.u32()?, crc: bytes.u32()? })
}

fn read_part(tree: &dyn Tree, number: u64, part: Part) -> Result<Bytes, Error> {
    let bytes = tree.read_table(number, part.offset, part.len as usize)?;
    if bytes.len() != part.len as usize || crc32fast::hash(&bytes) != part.crc {
        return Err(damaged(number, &Unreadable("a checksum is wrong")));
    }
    Ok(bytes)
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
}
