//! Damage: one bit turns where it was thought safe. What is read after that is right, or it is told that it is not.

use super::life::Life;
use crate::store::journal::format::{SEGMENT_HEADER, SegmentHeader};
use crate::store::{Error, EventFilter, EventRef, deliveries, history};

impl Life {
    /// The last that a life sees.
    pub(super) fn damage(&mut self) -> Result<(), String> {
        let Some((lost, what)) = self.flip() else { return Ok(()) };
        self.note(what);
        if self.dice.percent(50) {
            self.note("the index is removed");
            self.index.remove();
        }
        match self.open() {
            Ok(process) => self.process = Some(process),
            Err(Error::Damaged { .. }) => return Ok(()),
            Err(other) => return Err(format!("a turned bit is told as: {other}")),
        }
        self.read_what_is_left(lost)
    }

    /// Ends the process and turns a bit. Returns the position from which on something may be lost: in the last
    /// segment, damage behind the last durable mark cannot be told from a tail that was torn.
    fn flip(&mut self) -> Option<(u64, String)> {
        self.die(false);
        let mut segments = Vec::new();
        self.disk.for_each_durable(|path, bytes| {
            let header = bytes.first_chunk().and_then(|header| SegmentHeader::decode(header).ok());
            segments.extend(header.map(|header| (path.to_owned(), header, bytes.len())));
        });
        let last = segments.iter().map(|(_, header, _)| header.sequence).max()?;
        let (path, header, len) = self.dice.pick(&segments)?.clone();
        let (at, bit) = (self.dice.index(len), u32::try_from(self.dice.below(8)).expect("it is small"));
        self.disk.flip(&path, at, bit)?;
        let is_tail = header.sequence == last && at >= SEGMENT_HEADER;
        let lost = if is_tail { header.base } else { u64::MAX };
        Some((lost, format!("bit {bit} of byte {at} of {} turns", path.display())))
    }

    fn read_what_is_left(&mut self, lost: u64) -> Result<(), String> {
        let core = self.core();
        let mut missing = 0;
        for (event, known) in &self.model.events {
            match deliveries::event(core, *event) {
                Ok(Some(stored)) if stored.body == known.bytes && stored.id == known.key.1 => {}
                Ok(None) if event.position >= lost => {}
                // Where the header of its record does not read, it looks like a name that somebody mistyped. One bit
                // is in one header.
                Ok(None) => missing += usize::from(event.ordinal == 0),
                Err(Error::Damaged { .. } | Error::Index(_)) => {}
                other => return Err(format!("with a turned bit, {event} reads as {other:?}")),
            }
        }
        if missing > 1 {
            return Err(format!("with a turned bit, {missing} records are missing"));
        }
        let mut filter = EventFilter { limit: 1000, ..EventFilter::default() };
        while let Ok(page) = history::events(core, &filter) {
            for row in page.rows {
                self.is_known(row.event, &row.id)?;
            }
            match page.next {
                Some(next) => filter.cursor = Some(next),
                None => break,
            }
        }
        Ok(())
    }

    fn is_known(&self, event: EventRef, id: &str) -> Result<(), String> {
        let is_leaving = self.model.dropped.contains(&event.position);
        let known = self.model.events.get(&event).is_some_and(|known| known.key.1 == id);
        if known || is_leaving {
            Ok(())
        } else {
            Err(format!("with a turned bit, {event} is listed as {id}"))
        }
    }
}
