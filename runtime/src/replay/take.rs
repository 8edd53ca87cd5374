//! Take: a record out of a ledger.

use super::Error;
use super::record::{Blob, EffectLine, EventLine, FORMAT, Record};
use crate::dispatch;
use crate::host::Setup;
use crate::store::{self, Ledger};
use crate::words::effect::Entry;
use crate::words::event::DeliveryId;

/// Everything but the plugins' bytes, which are large: whoever wants them adds them.
///
/// # Errors
/// `Store`: there is no such delivery, or it cannot be read.
pub async fn take(ledger: &Ledger, id: &DeliveryId) -> Result<Record, Error> {
    let failed = |error: store::Error| Error::Store(error.to_string());
    let Some(history) = ledger.delivery(id).await.map_err(failed)? else {
        return Err(failed(store::Error::NoSuchDelivery(id.clone())));
    };
    let event = dispatch::guest_event(id, ledger.event(id.event).await.map_err(failed)?, 1);
    let recorded = ledger.recorded(id).await.map_err(failed)?;
    let mut record = Record {
        format: FORMAT.to_owned(),
        delivery: id.clone(),
        handler: history.row.handler.clone(),
        status: history.row.status,
        event: EventLine::of(&event),
        attempts: history.attempts,
        interrupted: history.interrupted.iter().map(Into::into).collect(),
        rounds: recorded.rounds,
        effects: Vec::with_capacity(recorded.entries.len()),
        setups: Default::default(),
        plugins: Default::default(),
        redacted: Vec::new(),
    };
    for (at, framed) in &recorded.entries {
        let (entry, bytes) = Entry::unframed(framed).map_err(Error::Unreadable)?;
        record.effects.push(EffectLine { at: *at, entry, bytes: Blob::of(&bytes) });
    }
    let kept = ledger.kept();
    let setups = record.attempts.iter().filter_map(|attempt| attempt.tape.as_ref()).map(|tape| tape.setup);
    for digest in setups.collect::<Vec<_>>() {
        if let Some(bytes) = kept.read(digest).map_err(|error| Error::Store(error.to_string()))? {
            record.setups.insert(digest, Setup::read(&bytes).map_err(Error::Unreadable)?);
        }
    }
    Ok(record)
}
