//! Shelf: what one attempt read from a handler's key-value state, and what it wants written.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

/// A value with the version under which it was read. Version 0: absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShelfRead {
    pub value: Option<Bytes>,
    pub version: u64,
}

/// Applied when the attempt is settled, whole or not at all: not at all where anything read has changed since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShelfTxn {
    /// Keys read (this attempt's own writes left out) and the versions seen.
    pub reads: BTreeMap<String, u64>,
    pub lists: Vec<ShelfListing>,
    pub writes: BTreeMap<String, ShelfWrite>,
}

/// A listing that was made, with the keys it returned (this attempt's own writes left out).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShelfListing {
    pub prefix: String,
    pub after: Option<String>,
    pub limit: u32,
    pub keys: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShelfWrite {
    Set {
        value: Bytes,
        ttl: Option<Duration>,
    },
    Delete,
    /// Added to whatever the decimal counter holds when the transaction is applied; absent counts as 0.
    Add {
        delta: i64,
        ttl: Option<Duration>,
    },
}
