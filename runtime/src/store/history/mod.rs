//! History: events and deliveries as people ask for them, newest first.
//!
//! `events` reads the journal backwards, `deliveries` goes by keys. What a row is too small for (ids, messages,
//! attempts) comes from the journal; how is below.

use std::collections::BTreeSet;
use std::time::Duration;

use super::codec::{Record, SettleRecord};
use super::core::Core;
use super::rows::Row;
use super::{DeliveryHistory, DeliveryRow, Error, Interrupted, RulingRow, Status};
use crate::words::attempt::{Outcome, Verdict};
use crate::words::effect::Entry;
use crate::words::event::DeliveryId;
use crate::words::limits::{
    DELIVERY_RECORDS_MAX, HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX, MESSAGE_RECORDS_MAX,
};
use crate::words::time::Millis;

mod deliveries;
mod events;

pub(super) use deliveries::deliveries;
pub(super) use events::{answer_us, event_row, events};

/// Events lie in the order in which they were written, which is nearly that of their times; a clock that is set
/// back by less than this hides nothing.
const ORDER_SLACK: Duration = Duration::from_secs(3600);

fn page_size(limit: usize) -> usize {
    if limit == 0 { HISTORY_PAGE_DEFAULT } else { limit.min(HISTORY_PAGE_MAX) }
}

fn bad_cursor(text: &str) -> Error {
    Error::BadCursor(text.chars().take(120).collect())
}

fn within(at: Millis, since: Option<Millis>, until: Option<Millis>) -> bool {
    since.is_none_or(|since| at >= since) && until.is_none_or(|until| at <= until)
}

fn delivery_row_of(core: &Core, id: &DeliveryId, row: &Row) -> Result<DeliveryRow, Error> {
    let (found, damage) = or_damage(core.record(id.event.position))?;
    let (message, damage_behind) = or_damage(message_of(core, row))?;
    let event_id = match found.flatten().map(|found| found.record) {
        Some(Record::Accept(record)) => {
            record.events.get(usize::from(id.event.ordinal)).map(|event| event.id.clone()).unwrap_or_default()
        }
        _ => String::new(),
    };
    Ok(DeliveryRow {
        delivery: id.clone(),
        event_id,
        event_type: row.event_type.clone(),
        source: row.source.clone(),
        handler: row.handler.clone(),
        status: row.status,
        accepted_at: row.accepted_at,
        attempts: row.attempts,
        next_at: (row.status == Status::Open).then_some(row.due),
        ended_at: row.ended_at,
        last_status: row.last_status,
        last_took_ms: row.last_took_ms,
        error_kind: row.error_kind,
        message: damage.or(damage_behind).or(message.flatten()),
        test: row.test,
    })
}

/// What was found, or the damage in words: one damaged record must not hide the other rows of a page, its row tells of it.
fn or_damage<T>(found: Result<T, Error>) -> Result<(Option<T>, Option<String>), Error> {
    match found {
        Ok(found) => Ok((Some(found), None)),
        Err(error @ Error::Damaged { .. }) => Ok((None, Some(error.to_string()))),
        Err(other) => Err(other),
    }
}

/// The last thing that was said about a delivery.
fn message_of(core: &Core, row: &Row) -> Result<Option<String>, Error> {
    let mut position = row.head;
    // Begun, effects and rulings say nothing; between two that do lie as many as an attempt makes calls.
    for _ in 0..MESSAGE_RECORDS_MAX {
        let Some(found) = chained(core, position)? else { return Ok(None) };
        match found.record {
            // A later attempt ended it: what a slow one said afterwards is not why.
            Record::Settle(settle) if row.status.is_ended() && settle.attempt.number < row.attempts => {
                position = found.link;
            }
            Record::Settle(settle) => return Ok(said_by(*settle)),
            // It is open again: what was said before is what there is to know.
            Record::Hold(hold) if hold.status != Status::Open => return Ok(Some(hold.reason)),
            _ => position = found.link,
        }
    }
    Ok(None)
}

fn said_by(settle: SettleRecord) -> Option<String> {
    match (settle.verdict, settle.attempt.outcome) {
        (Verdict::Dead { reason } | Verdict::Parked { reason }, _) => Some(reason),
        (_, Outcome::Failed { reason, .. }) => Some(reason),
        (_, Outcome::Done { note } | Outcome::Skipped { note }) => note,
    }
}

pub(super) fn chained(core: &Core, position: u64) -> Result<Option<super::core::Found>, Error> {
    if position == 0 { Ok(None) } else { core.record(position) }
}

// === one delivery ===

pub(super) fn delivery(core: &Core, id: &DeliveryId) -> Result<Option<DeliveryHistory>, Error> {
    let Some(row) = core.row(id)? else { return Ok(None) };
    let mut history = DeliveryHistory {
        row: delivery_row_of(core, id, &row)?,
        attempts: Vec::new(),
        interrupted: Vec::new(),
        rulings: Vec::new(),
    };
    let mut ended = BTreeSet::new();
    let mut position = row.head;
    for _ in 0..DELIVERY_RECORDS_MAX {
        let Some(found) = chained(core, position)? else { break };
        match found.record {
            Record::Settle(settle) => {
                ended.insert(settle.attempt.number);
                history.attempts.push(settle.attempt);
            }
            // What began since the start and has no end is under way.
            Record::Begun(begun) if position < core.opened_at && !ended.contains(&begun.number) => {
                history.interrupted.push(Interrupted {
                    number: begun.number,
                    began_at: begun.at,
                    plugin: begun.plugin,
                });
            }
            Record::Ruling(ruling) => {
                history.rulings.push(RulingRow { at: ruling.at, ruling: ruling.ruling, resolution: None })
            }
            // Written before its ruling, and so met after it.
            Record::EffectResponse(effect) => {
                if let Ok((Entry::Ruled(ruled), _)) = Entry::unframed(&effect.detail)
                    && let Some(ruling) = history.rulings.last_mut()
                {
                    ruling.resolution = Some(ruled.resolution);
                }
            }
            _ => {}
        }
        position = found.link;
    }
    history.attempts.reverse();
    history.interrupted.reverse();
    history.rulings.reverse();
    Ok(Some(history))
}
