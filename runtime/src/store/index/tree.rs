//! Tree: the sorted map under the index, and the tables beside it, behind a seam: sled and files in the daemon, maps
//! in memory in the simulation.

use std::ops::Bound;

use bytes::Bytes;

use crate::store::Error;

/// A key or a value: short ones lie inside, longer ones are shared, so that a clone costs little.
pub type Blob = sled::IVec;
pub type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Where an index lives, between the processes that open it.
pub trait Home: Send + Sync + 'static {
    fn is_there(&self) -> bool;
    /// # Errors
    /// `Index`
    fn open(&self) -> Result<Box<dyn Tree>, Error>;
    /// Makes room for an empty one. What was there is kept once, for whoever wants to know what was wrong with it.
    fn set_aside(&self) -> Result<(), Error>;
}

/// # Errors
/// `Index` of every method: what lies in it cannot be told, which never means that it is not there.
pub trait Tree: Send + Sync + 'static {
    fn get(&self, key: &[u8]) -> Result<Option<Blob>, Error>;
    /// Up to `max` entries from one end of a range.
    fn page(&self, range: Range, reverse: bool, max: usize) -> Result<Vec<(Blob, Blob)>, Error>;
    /// All or nothing.
    fn apply(&self, ops: &mut dyn Iterator<Item = (Blob, Option<Blob>)>) -> Result<(), Error>;
    /// What was applied survives this process.
    fn flush(&self) -> Result<(), Error>;
    /// What was applied survives power loss.
    fn sync(&self) -> Result<(), Error>;
    fn size_on_disk(&self) -> u64;

    /// Writes a table beside the tree, whole, so that it survives whatever the tree survives.
    fn put_table(&self, number: u64, bytes: &[u8]) -> Result<(), Error>;
    /// Fewer bytes than asked for mean its end.
    fn read_table(&self, number: u64, offset: u64, len: usize) -> Result<Bytes, Error>;
    /// How many it has.
    fn table_bytes(&self, number: u64) -> Result<u64, Error>;
    fn remove_table(&self, number: u64) -> Result<(), Error>;
    /// All that there are, in no order.
    fn tables(&self) -> Result<Vec<u64>, Error>;
}
