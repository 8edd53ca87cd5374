//! Check: everything that can be asked of the store, beside the model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::model::{Model, Row};
use super::name;
use crate::store::core::Core;
use crate::store::{
    DeliveryFilter, Error, EventFilter, EventRef, Standing, Status, deliveries, history, lanes, shelf,
};
use crate::words::event::{DeliveryId, Name};
use crate::words::time::Millis;

pub(super) fn all(
    core: &Arc<Core>,
    model: &Model,
    times: (Millis, Millis),
    limit: usize,
    thoroughly: bool,
) -> Result<(), String> {
    events(core, model, limit)?;
    rows(core, model)?;
    due(core, model)?;
    backlogs(core, model)?;
    shelves(core, model, times)?;
    lanes_stand(core, model, limit)?;
    if thoroughly {
        listings(core, model, limit)?;
    }
    Ok(())
}

fn in_words(error: Error) -> String {
    format!("it cannot be read: {error}")
}

/// Each event exactly once, newest first, with its bytes.
fn events(core: &Core, model: &Model, limit: usize) -> Result<(), String> {
    let mut left: BTreeSet<EventRef> = model.events.keys().copied().collect();
    let mut filter = EventFilter { limit, ..EventFilter::default() };
    loop {
        let page = history::events(core, &filter).map_err(in_words)?;
        for row in page.rows {
            // Until its segment is deleted, the journal still has it.
            let position = row.event.position;
            let is_leaving = model.dropped.contains(&position) && position >= core.segments.base();
            if is_leaving && row.deliveries.is_empty() {
                continue;
            }
            if !left.remove(&row.event) {
                return Err(format!("{} ({}) is listed, and should not be, or twice", row.event, row.id));
            }
            let known = &model.events[&row.event];
            let counts = (row.redeliveries, row.body_differed);
            if (&row.source, &row.id) != (&known.key.0, &known.key.1) || row.received_at != known.received_at
            {
                return Err(format!("{} is listed as {}, and is {:?}", row.event, row.id, known.key));
            }
            if counts != (known.redeliveries, known.body_differed) {
                return Err(format!("{} came again {counts:?} times, and {known:?}", row.event));
            }
        }
        match page.next {
            Some(next) => filter.cursor = Some(next),
            None => break,
        }
    }
    if let Some(lost) = left.first() {
        return Err(format!("{lost} ({:?}) is lost", model.events[lost].key));
    }
    for (event, known) in &model.events {
        let stored = deliveries::event(core, *event).map_err(in_words)?;
        if stored.as_ref().is_none_or(|stored| stored.body != known.bytes || stored.id != known.key.1) {
            return Err(format!("{event} reads as {stored:?}, and is {known:?}"));
        }
    }
    Ok(())
}

fn rows(core: &Core, model: &Model) -> Result<(), String> {
    for (id, known) in &model.rows {
        let row = core.row(id).map_err(in_words)?;
        let effects = deliveries::effects(core, id).map_err(in_words)?.entries;
        let row = row.map(|row| Row {
            handler: row.handler,
            status: row.status,
            due: if row.status == Status::Open { row.due } else { known.due },
            attempts: row.attempts,
            begun: row.begun_without_end,
            counted_from: row.counted_from,
            aged_from: row.aged_from,
            effects,
            was_done: known.was_done,
        });
        if row.as_ref() != Some(known) {
            return Err(format!("{id} is {row:?}, and should be {known:?}"));
        }
    }
    Ok(())
}

fn handlers() -> impl Iterator<Item = Name> {
    (0..3).map(|at| name(&format!("handler-{at}")))
}

/// What a lane gets: what is open, and nothing that was settled.
fn due(core: &Core, model: &Model) -> Result<(), String> {
    for handler in handlers() {
        let found = deliveries::due(core, &handler, Millis(u64::MAX), 10_000, &Default::default());
        let found = found.map_err(in_words)?;
        let times: Vec<Millis> = found.iter().map(|open| open.due).collect();
        if !times.is_sorted() {
            return Err(format!("what is due for {handler} is not in order: {times:?}"));
        }
        let open: BTreeMap<_, _> = model
            .rows
            .iter()
            .filter(|(_, row)| row.handler == handler && row.status == Status::Open)
            .map(|(id, row)| (id.clone(), (row.due, row.attempts, row.begun, row.aged_from)))
            .collect();
        let next = deliveries::next_due(core, &handler).map_err(in_words)?;
        if next != open.values().map(|row| row.0).min() {
            return Err(format!("{handler} is next due at {next:?}"));
        }
        let found: BTreeMap<_, _> = found
            .into_iter()
            .map(|open| (open.id, (open.due, open.attempts, open.begun_without_end, open.accepted_at)))
            .collect();
        if found != open {
            return Err(format!("due for {handler} is {found:?}, and should be {open:?}"));
        }
    }
    Ok(())
}

fn backlogs(core: &Core, model: &Model) -> Result<(), String> {
    let found = deliveries::backlogs(core).map_err(in_words)?;
    for handler in handlers() {
        let count = |status| {
            model.rows.values().filter(|row| row.handler == handler && row.status == status).count() as u64
        };
        let known = [Status::Open, Status::Held, Status::Parked].map(count);
        let found = found.get(&handler).map_or([0; 3], |found| [found.open, found.held, found.parked]);
        if found != known {
            return Err(format!("the backlog of {handler} is {found:?}, and should be {known:?}"));
        }
    }
    Ok(())
}

/// What stands of each lane, and its changes, newest first.
fn lanes_stand(core: &Core, model: &Model, limit: usize) -> Result<(), String> {
    for handler in handlers() {
        let Standing { paused, breaker } = lanes::standing(core, &handler).map_err(in_words)?;
        let stands = [paused, breaker].map(|entry| entry.map(|entry| entry.change));
        let known = model.standing.get(&handler).cloned().unwrap_or_default();
        if stands != known {
            return Err(format!("of {handler} stands {stands:?}, and should {known:?}"));
        }
        let (mut told, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let page = lanes::history(core, &handler, cursor.as_deref(), limit).map_err(in_words)?;
            told.extend(page.rows.into_iter().map(|entry| entry.change));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let known = model.lanes.values().rev().filter(|(name, _)| *name == handler);
        if !told.iter().eq(known.map(|(_, change)| change)) {
            return Err(format!("the history of {handler} is {told:?}, and should be {:?}", model.lanes));
        }
    }
    Ok(())
}

fn shelves(core: &Core, model: &Model, (now, clock): (Millis, Millis)) -> Result<(), String> {
    for handler in handlers() {
        let sure = |key: &String| {
            let known = model.shelf.get(&(handler.clone(), key.clone()));
            known.is_none_or(|entry| !entry.is_unsure(clock))
        };
        let keys = shelf::listing(core, &handler, "", None, (1000, now)).map_err(in_words)?;
        let keys: Vec<String> = keys.into_iter().filter(&sure).collect();
        let known = model.list(&handler, ("", None, 1000), clock);
        let known: Vec<String> = known.into_iter().filter(&sure).collect();
        if keys != known {
            return Err(format!("the shelf of {handler} has {keys:?}, and should have {known:?}"));
        }
        for key in keys {
            let read = shelf::read(core, &handler, &key, now).map_err(in_words)?;
            let entry = &model.shelf[&(handler.clone(), key.clone())];
            if (read.value.as_ref(), read.version) != (Some(&entry.value), entry.version) {
                return Err(format!("{handler}'s {key} reads as {read:?}, and is {entry:?}"));
            }
        }
    }
    Ok(())
}

/// Deliveries as people list them, by each filter.
fn listings(core: &Core, model: &Model, limit: usize) -> Result<(), String> {
    let statuses = [
        Status::Open,
        Status::Held,
        Status::Parked,
        Status::Done,
        Status::Skipped,
        Status::Dead,
        Status::Cancelled,
    ];
    let of_status = |status| DeliveryFilter { status: Some(status), ..DeliveryFilter::default() };
    let of_handler = |handler| DeliveryFilter { handler: Some(handler), ..DeliveryFilter::default() };
    let mut filters = vec![DeliveryFilter::default()];
    filters.extend(statuses.map(of_status));
    filters.extend(handlers().map(of_handler));
    for filter in filters {
        let wanted = |(_, row): &(&DeliveryId, &Row)| {
            filter.status.is_none_or(|status| status == row.status)
                && filter.handler.as_ref().is_none_or(|handler| *handler == row.handler)
        };
        let known: Vec<DeliveryId> =
            model.rows.iter().rev().filter(wanted).map(|(id, _)| id.clone()).collect();
        let mut found = Vec::new();
        let mut page_of = DeliveryFilter { limit, ..filter.clone() };
        loop {
            let page = history::deliveries(core, &page_of).map_err(in_words)?;
            found.extend(page.rows.into_iter().map(|row| row.delivery));
            match page.next {
                Some(next) => page_of.cursor = Some(next),
                None => break,
            }
        }
        let sets = [&found, &known].map(|ids| ids.iter().collect::<BTreeSet<_>>());
        if sets[0] != sets[1] || found.len() != known.len() {
            return Err(format!("listed by {filter:?} are {found:?}, and should be {known:?}"));
        }
    }
    Ok(())
}
