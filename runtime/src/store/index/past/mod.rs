//! Past: rows of deliveries that ended. Newest in memory, the rest in tables that are written once (`table`).
//!
//! Nearly all deliveries are over, and sled would need half a dozen keys for each so that people can filter by
//! source, type, handler, status and kind of error. A table costs a tenth of that. What is not yet in a table lies
//! in the tree in packed blocks, so that every generation is still written whole or not at all.
//!
//! A row may be out of date: its delivery was opened again and perhaps ended again. Whoever reads rows here asks
//! the tree for the key `z` of the delivery: only such a one has it.

mod table;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::prefixed;
use super::seen::Ops;
use super::tree::{Blob, Tree};
use crate::store::drill::bound;
use crate::store::rows::Row;
use crate::store::{DeliveryFilter, Error, keys};
use crate::words::event::DeliveryId;
use crate::words::limits::{INDEX_VALUE_BYTES_MAX, PAST_TABLE_ROWS};
use crate::words::time::Millis;

/// A delivery that ended, and how.
pub type Ended = (DeliveryId, Row);

pub struct Past {
    recent: RwLock<Recent>,
    tables: ArcSwap<Vec<Arc<Table>>>,
    next: Mutex<Next>,
}

#[derive(Default)]
struct Recent {
    rows: BTreeMap<DeliveryId, RecentRow>,
    /// How many of them are in the tree.
    applied: usize,
    /// How many came in the place of one that is in the tree, and are not there yet.
    replacing: usize,
}

struct RecentRow {
    row: Arc<Row>,
    applied: bool,
    replaces: bool,
}

struct Next {
    block: u64,
    table: u64,
}

/// What is known of a table without opening it.
struct Table {
    number: u64,
    bytes: u64,
    first: DeliveryId,
    last: DeliveryId,
    /// Its rows come from records below this.
    noted_below: u64,
    accepted_min: Millis,
    accepted_max: Millis,
}

impl Past {
    /// # Errors
    /// `Index` also where a table is missing.
    pub(super) fn open(tree: &dyn Tree) -> Result<Past, Error> {
        let mut tables = Vec::new();
        for (key, value) in all(tree, &keys::past_tables())? {
            tables.push(Arc::new(Table::decode(keys::number_in(&key, 1)?, &value)?));
        }
        for table in &tables {
            if tree.table_bytes(table.number)? != table.bytes {
                return Err(Error::Index(format!("table {} of the history is not whole", table.number)));
            }
        }
        // Written by a process that died before it could name it.
        for number in tree.tables()? {
            if !tables.iter().any(|table| table.number == number) {
                tree.remove_table(number)?;
            }
        }
        let mut recent = Recent::default();
        let mut next = Next { block: 1, table: tables.last().map_or(1, |table| table.number + 1) };
        for (key, value) in all(tree, &keys::past_blocks())? {
            next.block = keys::number_in(&key, 1)? + 1;
            for (id, row) in table::read_rows(&Bytes::copy_from_slice(&value))? {
                recent.put(id, Arc::new(row));
            }
            recent.all_applied();
        }
        Ok(Past {
            recent: RwLock::new(recent),
            tables: ArcSwap::from_pointee(tables),
            next: Mutex::new(next),
        })
    }

    /// From here on everybody sees these.
    pub(super) fn note(&self, ended: impl Iterator<Item = Ended>) {
        let mut ended = ended.peekable();
        if ended.peek().is_none() {
            return;
        }
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        ended.for_each(|(id, row)| recent.put(id, Arc::new(row)));
    }

    /// Rows as they are written to the tree with their generation.
    pub(super) fn written(&self, ended: &[Ended]) -> Ops {
        let mut next = self.next();
        let mut ops = Ops::new();
        let mut block: Vec<u8> = Vec::new();
        let mut put = |block: &mut Vec<u8>| {
            if !block.is_empty() {
                let value = Blob::from(std::mem::take(block));
                ops.push((Blob::from(keys::past_block(next.block)), Some(value)));
                next.block += 1;
            }
        };
        for (id, row) in ended {
            let mut bytes = Vec::new();
            table::put_row(&mut bytes, id, row);
            if block.len() + bytes.len() > INDEX_VALUE_BYTES_MAX {
                put(&mut block);
            }
            block.extend_from_slice(&bytes);
        }
        put(&mut block);
        ops
    }

    /// They are in the tree.
    pub(super) fn applied(&self, ended: &[Ended]) {
        if ended.is_empty() {
            return;
        }
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        ended.iter().for_each(|(id, row)| recent.applied(id, row.changed_at));
    }

    /// The row of a delivery that ended, as it ended last.
    pub(super) fn find(&self, tree: &dyn Tree, id: &DeliveryId) -> Result<Option<Row>, Error> {
        if let Some(known) = self.recent.read().unwrap_or_else(PoisonError::into_inner).rows.get(id) {
            return Ok(Some(Row::clone(&known.row)));
        }
        loop {
            let tables = self.tables.load_full();
            let found = find_in(tree, &tables, id);
            // A table that retention removed meanwhile is no damage.
            if Arc::ptr_eq(&tables, &self.tables.load()) {
                return found;
            }
        }
    }

    /// Rows that may match, from the newest delivery on; before `below`. Times are looked at roughly, the text of
    /// an error is not.
    pub(super) fn walk<'a>(
        &'a self,
        tree: &'a dyn Tree,
        filter: &'a DeliveryFilter,
        below: Option<&DeliveryId>,
    ) -> Walk<'a> {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let end = below.map_or(Bound::Unbounded, Bound::Excluded);
        let matching = recent.rows.range((Bound::Unbounded, end)).filter(|(_, known)| known.row.is(filter));
        let recent = matching.map(|(id, known)| (id.clone(), known.row.clone())).collect();
        // Rows leave the memory after their table is there, so nothing is missed in this order.
        let tables = self.tables.load_full();
        let sources = tables.iter().filter(|table| table.may_have(filter, below)).cloned();
        let sources = sources.map(Source::Closed).collect();
        Walk { past: self, tree, filter, below: below.cloned(), recent, sources }
    }

    /// One bounded step behind everybody's back. False: there is nothing to do.
    pub(super) fn step(&self, tree: &dyn Tree, base: u64) -> Result<bool, Error> {
        Ok(self.drop_table(tree, base)? || (self.is_behind() && self.write_table(tree)?))
    }

    /// Enough rows for a table.
    pub(super) fn is_behind(&self) -> bool {
        self.recent.read().unwrap_or_else(PoisonError::into_inner).applied >= bound(PAST_TABLE_ROWS)
    }

    /// A table is of no use when the records that its rows come from are gone: what stays of them was noted again.
    fn drop_table(&self, tree: &dyn Tree, base: u64) -> Result<bool, Error> {
        let tables = self.tables.load_full();
        let Some(gone) = tables.iter().find(|table| table.noted_below <= base) else { return Ok(false) };
        tree.apply(&mut std::iter::once((Blob::from(keys::past_table(gone.number)), None)))?;
        let left = tables.iter().filter(|table| table.number != gone.number).cloned().collect();
        self.tables.store(Arc::new(left));
        tree.remove_table(gone.number)?;
        Ok(true)
    }

    fn write_table(&self, tree: &dyn Tree) -> Result<bool, Error> {
        let rows: Vec<Ended> = {
            let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
            if recent.replacing > 0 {
                // The older row must stay in the tree until the newer one is there.
                return Ok(false);
            }
            let applied = recent.rows.iter().filter(|(_, known)| known.applied);
            applied.map(|(id, known)| (id.clone(), Row::clone(&known.row))).collect()
        };
        let number = {
            let mut next = self.next();
            next.table += 1;
            next.table - 1
        };
        let bytes = table::encode(&rows);
        // A row that was copied forward is older than the copy that it comes from: the copy counts.
        let reached = tree.get(keys::POSITION)?.map(|value| keys::number_in(&value, 0)).transpose()?;
        let table = Table::of(number, bytes.len() as u64, reached.unwrap_or(0), &rows);
        let Some(table) = table else { return Ok(false) };
        tree.put_table(number, &bytes)?;
        let blocks = all(tree, &keys::past_blocks())?.into_iter().map(|(key, _)| (key, None));
        tree.apply(&mut blocks.chain([(Blob::from(keys::past_table(number)), Some(table.encode()))]))?;
        let tables = self.tables.load_full();
        self.tables.store(Arc::new(tables.iter().cloned().chain([Arc::new(table)]).collect()));
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        rows.iter().for_each(|(id, row)| recent.forget(id, row.changed_at));
        Ok(true)
    }

    fn next(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn put(&mut self, id: DeliveryId, row: Arc<Row>) {
        let old = self.rows.get(&id);
        let (was_applied, replaces) =
            old.map_or((false, false), |old| (old.applied, old.applied || old.replaces));
        let was_replacing = old.is_some_and(|old| old.replaces);
        self.applied -= usize::from(was_applied);
        self.replacing += usize::from(replaces && !was_replacing);
        self.rows.insert(id, RecentRow { row, applied: false, replaces });
    }

    fn applied(&mut self, id: &DeliveryId, changed_at: u64) {
        if let Some(known) = self.rows.get_mut(id)
            && known.row.changed_at == changed_at
            && !known.applied
        {
            self.applied += 1;
            self.replacing -= usize::from(known.replaces);
            (known.applied, known.replaces) = (true, false);
        }
    }

    fn all_applied(&mut self) {
        for known in self.rows.values_mut() {
            (known.applied, known.replaces) = (true, false);
        }
        (self.applied, self.replacing) = (self.rows.len(), 0);
    }

    /// It is in a table. A newer row of the same delivery stays; there is nothing that it replaces in the tree.
    fn forget(&mut self, id: &DeliveryId, changed_at: u64) {
        match self.rows.get_mut(id) {
            Some(known) if known.row.changed_at == changed_at => {
                self.applied -= usize::from(known.applied);
                self.replacing -= usize::from(known.replaces);
                self.rows.remove(id);
            }
            Some(known) => self.replacing -= usize::from(std::mem::take(&mut known.replaces)),
            None => {}
        }
    }
}

impl Table {
    /// None of no rows.
    fn of(number: u64, bytes: u64, noted_below: u64, rows: &[Ended]) -> Option<Table> {
        let accepted = || rows.iter().map(|(_, row)| row.accepted_at);
        Some(Table {
            number,
            bytes,
            first: rows.first()?.0.clone(),
            last: rows.last()?.0.clone(),
            noted_below,
            accepted_min: accepted().min()?,
            accepted_max: accepted().max()?,
        })
    }

    fn may_have(&self, filter: &DeliveryFilter, below: Option<&DeliveryId>) -> bool {
        below.is_none_or(|below| self.first < *below)
            && filter.event.is_none_or(|event| self.first.event <= event && event <= self.last.event)
            && filter.since.is_none_or(|since| since <= self.accepted_max)
            && filter.until.is_none_or(|until| self.accepted_min <= until)
    }

    fn encode(&self) -> Blob {
        let mut out = crate::store::codec::Out(Vec::with_capacity(192));
        [self.bytes, self.noted_below, self.accepted_min.0, self.accepted_max.0]
            .into_iter()
            .for_each(|number| out.u64(number));
        out.delivery(&self.first);
        out.delivery(&self.last);
        Blob::from(out.0)
    }

    fn decode(number: u64, value: &[u8]) -> Result<Table, Error> {
        let bytes = Bytes::copy_from_slice(value);
        let mut bytes = crate::store::codec::In::new(&bytes);
        let mut read = || -> Result<Table, crate::store::codec::Unreadable> {
            Ok(Table {
                number,
                bytes: bytes.u64()?,
                noted_below: bytes.u64()?,
                accepted_min: bytes.millis()?,
                accepted_max: bytes.millis()?,
                first: bytes.delivery()?,
                last: bytes.delivery()?,
            })
        };
        read().map_err(|error| Error::Index(error.to_string()))
    }
}

/// Everything under a prefix. There is little of it.
fn all(tree: &dyn Tree, prefix: &[u8]) -> Result<Vec<(Blob, Blob)>, Error> {
    let (mut from, to) = prefixed(prefix);
    let mut found = Vec::new();
    loop {
        let page = tree.page((from, to.clone()), false, 1024)?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        from = Bound::Excluded(last.to_vec());
        found.extend(page);
    }
}

/// The newest table that has a delivery has the last word of it.
fn find_in(tree: &dyn Tree, tables: &[Arc<Table>], id: &DeliveryId) -> Result<Option<Row>, Error> {
    for table in tables.iter().rev().filter(|table| table.first <= *id && *id <= table.last) {
        if let Some(row) = table::find(tree, table.number, id)? {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

// === walking ===

/// Rows of all places in one order. One that lies in two places comes twice.
pub(in crate::store) struct Walk<'a> {
    past: &'a Past,
    tree: &'a dyn Tree,
    filter: &'a DeliveryFilter,
    below: Option<DeliveryId>,
    /// In order; the last comes first.
    recent: Vec<(DeliveryId, Arc<Row>)>,
    sources: Vec<Source>,
}

enum Source {
    /// Not opened before its turn may have come.
    Closed(Arc<Table>),
    Open(Box<Opened>),
}

struct Opened {
    cursor: table::Cursor,
    /// What comes next from it.
    head: Ended,
}

impl Source {
    /// Nothing behind this comes from here.
    fn bound(&self) -> &DeliveryId {
        match self {
            Source::Closed(table) => &table.last,
            Source::Open(opened) => &opened.head.0,
        }
    }
}

impl Walk<'_> {
    pub(in crate::store) fn next(&mut self) -> Result<Option<Ended>, Error> {
        loop {
            let Some(next) = self.step()? else { return Ok(None) };
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    /// None: it is over. Some(None): a table was opened.
    fn step(&mut self) -> Result<Option<Option<Ended>>, Error> {
        let newest = (0..self.sources.len()).max_by(|a, b| {
            let (a, b) = (&self.sources[*a], &self.sources[*b]);
            let is_closed = |source: &Source| matches!(source, Source::Closed(_));
            a.bound().cmp(b.bound()).then(is_closed(a).cmp(&is_closed(b)))
        });
        let from_memory = match (self.recent.last(), newest) {
            (Some((id, _)), Some(at)) => id >= self.sources[at].bound(),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return Ok(None),
        };
        if from_memory {
            let (id, row) = self.recent.pop().expect("it was looked at above");
            return Ok(Some(Some((id, Row::clone(&row)))));
        }
        let at = newest.expect("it was looked at above");
        match self.sources.swap_remove(at) {
            Source::Closed(table) => {
                let opened = self.open(&table);
                // A table that retention removed meanwhile is no damage.
                let is_there = self.past.tables.load().iter().any(|other| Arc::ptr_eq(other, &table));
                if is_there {
                    self.sources.extend(opened?);
                }
                Ok(Some(None))
            }
            Source::Open(opened) => {
                let Opened { mut cursor, head } = *opened;
                let next = cursor.next(self.tree)?;
                self.sources.extend(next.map(|head| Source::Open(Box::new(Opened { cursor, head }))));
                Ok(Some(Some(head)))
            }
        }
    }

    fn open(&self, table: &Table) -> Result<Option<Source>, Error> {
        let mut cursor = table::Cursor::open(self.tree, table.number, self.filter, self.below.as_ref())?;
        Ok(cursor.next(self.tree)?.map(|head| Source::Open(Box::new(Opened { cursor, head }))))
    }
}

#[cfg(test)]
mod tests;
