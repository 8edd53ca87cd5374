//! The journal: append-only segments that are the truth. Bytes only: what a record means is not known here.
//!
//! `format` the bytes · `disk` the seam to the file system · `segments` reading · `appender` writing and
//! syncing · `recovery` starting. `docs/store-format.md` describes the files.

pub mod appender;
pub mod disk;
pub mod format;
pub mod held;
pub mod recovery;
pub mod segments;
#[cfg(test)]
pub mod simulated;

#[cfg(test)]
mod tests;

pub use appender::{AppendError, Appender};
pub use disk::Disk;
pub use format::{BatchBuilder, BatchHeader, Draft, NO_POSITION, RawRecord};
pub use recovery::{Found, Opening, open};
pub use segments::Segments;
