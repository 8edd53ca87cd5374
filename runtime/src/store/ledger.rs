//! The ledger: nothing leaves here as safe before it is on disk.
#![allow(clippy::todo, unused_variables)]

use bytes::Bytes;
use tokio::sync::mpsc;

use super::*;
use crate::words::shelf::ShelfRead;

/// Cheap to clone. Dropping the last clone without `close` is a crash as far as the files are concerned.
#[derive(Clone)]
pub struct Ledger {}

impl Ledger {
    /// Locks the directory, recovers the journal, opens or rebuilds the index. Blocking; call it off the runtime.
    ///
    /// # Errors
    /// `Locked`, `Damaged`, `UnknownKind`, `Io`, `Index`.
    pub fn open(options: Options, now: Millis) -> Result<(Ledger, Recovery), Error> {
        todo!()
    }

    /// Durable when it returns. A second copy waits for the first one's sync and shares its answer.
    /// Cancel-safe: a caller that stops waiting changes nothing about what is written.
    pub async fn accept(&self, accept: Accept) -> Result<Receipt, Refused> {
        todo!()
    }

    /// Newly durable open deliveries, in order of acceptance, bounded: one that finds the channel full is
    /// not lost, it waits in the index, where `due` finds it. One receiver; a second call replaces it.
    pub fn announcements(&self) -> mpsc::Receiver<OpenDelivery> {
        todo!()
    }

    /// Open deliveries of a handler due at or before `until`, by due time, at most `limit`. `skip` names those
    /// the lane already has. Includes accepted ones that the index has not yet seen.
    pub async fn due(
        &self,
        handler: &Name,
        until: Millis,
        limit: usize,
        skip: &std::collections::HashSet<DeliveryId>,
    ) -> Result<Vec<OpenDelivery>, Error> {
        todo!()
    }

    /// The earliest due time among a handler's open deliveries, whatever it is.
    pub async fn next_due(&self, handler: &Name) -> Result<Option<Millis>, Error> {
        todo!()
    }

    pub async fn event(&self, event: EventRef) -> Result<StoredEvent, Error> {
        todo!()
    }

    /// Written and durable before the handler is called. `number`: as history counts attempts.
    pub async fn begin(
        &self,
        delivery: &DeliveryId,
        number: u32,
        plugin: Digest,
        now: Millis,
    ) -> Result<(), Error> {
        todo!()
    }

    /// Durable when it returns `Written`. Shelf writes and verdict take effect together.
    pub async fn settle(&self, settle: Settle, now: Millis) -> Result<Settled, Error> {
        todo!()
    }

    pub async fn shelf_get(&self, handler: &Name, key: &str, now: Millis) -> Result<ShelfRead, Error> {
        todo!()
    }

    pub async fn shelf_list(
        &self,
        handler: &Name,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
        now: Millis,
    ) -> Result<Vec<String>, Error> {
        todo!()
    }

    /// Bytes of keys and values on a handler's shelf.
    pub async fn shelf_bytes(&self, handler: &Name) -> Result<u64, Error> {
        todo!()
    }

    /// Open deliveries for which `wanted` says no become held, held ones for which it says yes become open.
    /// Called at start, before any lane runs. Returns (held, resumed).
    pub async fn hold_unwanted(
        &self,
        wanted: impl Fn(&Name, &Name) -> Result<(), String> + Send + 'static,
        now: Millis,
    ) -> Result<(u64, u64), Error> {
        todo!()
    }

    /// Parks an open delivery without an attempt: three begun in a row never ended.
    pub async fn park(&self, delivery: &DeliveryId, reason: &str, now: Millis) -> Result<(), Error> {
        todo!()
    }

    /// The operator's word. `Retry` makes any delivery open and due now; `Cancel` ends one that is not ended.
    pub async fn rule(&self, delivery: &DeliveryId, ruling: Ruling, now: Millis) -> Result<(), Error> {
        todo!()
    }

    /// When the daemon first saw each secret below a newer one, `fingerprints` newest first. The first has none.
    /// What is new is written and synced before this returns; a secret that is first again forgets its time.
    pub async fn secrets_seen(
        &self,
        source: &Name,
        fingerprints: &[Fingerprint],
        now: Millis,
    ) -> Result<Vec<Option<Millis>>, Error> {
        todo!()
    }

    /// Ends deliveries older than `open_age_max`, drops history by age and size, frees segments. Returns what it did.
    pub async fn retain(&self, now: Millis) -> Result<Retained, Error> {
        todo!()
    }

    pub async fn events(&self, filter: EventFilter) -> Result<Page<EventRow>, Error> {
        todo!()
    }

    pub async fn event_row(&self, event: EventRef) -> Result<Option<EventRow>, Error> {
        todo!()
    }

    pub async fn deliveries(&self, filter: DeliveryFilter) -> Result<Page<DeliveryRow>, Error> {
        todo!()
    }

    pub async fn delivery(&self, delivery: &DeliveryId) -> Result<Option<DeliveryHistory>, Error> {
        todo!()
    }

    pub fn stat(&self) -> Stat {
        todo!()
    }

    /// None while accepts can be expected to succeed; else why not. Cheap: readiness and every request ask it.
    pub fn refusing(&self) -> Option<Refused> {
        todo!()
    }

    /// Stops taking records, syncs what is queued, brings the index up to date and marks a clean stop.
    pub async fn close(&self) -> Result<(), Error> {
        todo!()
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Retained {
    pub deliveries_dead: u64,
    pub events_dropped: u64,
    pub segments_dropped: u64,
    pub bytes_freed: u64,
}
