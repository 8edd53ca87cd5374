//! Batches: the writer's steps and the indexer's, and what the model learns from what became durable.
//!
//! The model is told the records of a batch in their order, each beside the call that it must come from. What upkeep
//! wrote is judged by itself: whether it may hold, end or drop that.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::vec::IntoIter;

use super::calls::{Answer, Flight, Op};
use super::durable::{Safety, batch_at};
use super::life::Life;
use super::name;
use crate::store::codec::{AcceptRecord, CopyRecord, Mark, Record};
use crate::store::journal::RawRecord;
use crate::store::journal::simulated::Ask;
use crate::store::{EventRef, Status, deliveries};
use crate::words::event::DeliveryId;
use crate::words::time::Millis;

type Records = Peekable<IntoIter<(u64, Record)>>;

impl Life {
    // === the writer ===

    pub(super) fn write_batch(&mut self) -> Result<(), String> {
        if self.process().core.queue.waiting() == 0 {
            return Ok(());
        }
        let at = self.process().core.segments.end();
        let refused = self.disk.refused();
        let between = self.dice.percent(self.swarm.between);
        if between {
            self.come_between();
        }
        if self.dice.percent(self.swarm.dies) {
            let calls = self.dice.below(8);
            self.disk.die_after(Some(calls));
        }
        let taken = {
            let process = self.process();
            let mut flight = process.flight();
            flight.taken = std::mem::take(&mut flight.queue);
            flight.batch_at = at;
            flight.taken.clone()
        };
        self.note(format!("the writer takes {taken:?}{}", if between { ", and is watched" } else { "" }));
        self.process().writer.step();
        self.disk.tell_before(None);
        self.disk.die_after(None);
        if let Some(found) = self.process().flight().found.take() {
            return Err(found);
        }
        self.written_batch(at, taken, refused)
    }

    fn written_batch(&mut self, at: u64, taken: Vec<u64>, refused: u64) -> Result<(), String> {
        self.index_failed = self.index_fails;
        let process = self.process();
        let (end, failed, had_failed) =
            (process.core.segments.end(), process.core.health.failed().is_some(), process.failed);
        process.failed = failed;
        self.was_full |= self.disk.refused() > refused;
        if self.disk.is_dead() || (failed && !had_failed && end == at) {
            self.note("it is not known what was written");
            self.figures.failed += 1;
            let ops = taken.iter().map(|number| (*number, self.ops[number].clone())).collect();
            self.unsure = Some((at, taken.clone(), ops));
        }
        if self.disk.is_dead() {
            return Ok(());
        }
        if end > at {
            self.process().flight().prove_batch()?;
            let records = self.records_at(at)?;
            let ops = self.ops.clone_of(&taken);
            return self.commit(records, &taken, &ops, true);
        }
        if failed {
            let answer = if self.index_failed || self.stops { Answer::Any } else { Answer::Failed };
            taken.iter().for_each(|number| drop(self.expected.insert(*number, answer.clone())));
            return Ok(());
        }
        if self.stops {
            // What became of the batch, and what of the stop behind it, cannot be told apart from here.
            taken.iter().for_each(|number| drop(self.expected.insert(*number, Answer::Any)));
            return Ok(());
        }
        if self.disk.refused() > refused {
            self.note("there was no room");
            self.figures.full += 1;
            taken.iter().for_each(|number| drop(self.expected.insert(*number, Answer::Full)));
            return Ok(());
        }
        let ops = self.ops.clone_of(&taken);
        self.commit(Vec::new(), &taken, &ops, true)
    }

    /// Read from the bytes of the disk: a fault that waits there is not for us.
    pub(super) fn records_at(&self, at: u64) -> Result<Vec<RawRecord>, String> {
        batch_at(&self.disk, Safety::Cache, at).ok_or_else(|| format!("there is no batch at {at:x}"))
    }

    /// Watches what can be seen before the sync, and lets others come in between.
    fn come_between(&mut self) {
        let mut dice = self.dice.fork();
        let mut late = Vec::new();
        if dice.percent(50) {
            let request = self.request();
            late.push(Op::Accept(request));
        }
        if dice.percent(50) {
            let known =
                self.ops.values().filter(|op| matches!(op, Op::Accept(_))).cloned().collect::<Vec<_>>();
            late.extend(dice.pick(&known).cloned());
        }
        let (received_at, clock) = self.clock();
        let mut planned = Vec::new();
        for mut op in late {
            if let Op::Accept(request) = &mut op {
                (request.received_at, request.clock) = (received_at, clock);
            }
            planned.push((self.plan(op.clone()), op));
        }
        let flight = self.process().flight.clone();
        let handlers = self.swarm.handlers;
        let index_fails = self.index_fails;
        self.disk.tell_before(Some(Box::new(move |ask| {
            if !matches!(ask, Ask::Write | Ask::Sync) {
                return;
            }
            let mut flight = flight.lock().expect("nobody panics with it");
            if let Some((number, op)) = planned.pop() {
                flight.start(number, op);
            }
            flight.poll_woken(&mut dice);
            if !index_fails {
                flight.watch(handlers);
            }
            if dice.percent(50) {
                index_step(&flight.core);
            }
        })));
    }

    // === the indexer ===

    pub(super) fn index_some(&mut self) -> Result<(), String> {
        let steps = 1 + self.dice.below(3);
        for _ in 0..steps {
            index_step(&self.process().core);
        }
        let process = self.process();
        process.failed = process.core.health.failed().is_some();
        Ok(())
    }

    // === what became durable ===

    pub(super) fn commit(
        &mut self,
        records: Vec<RawRecord>,
        calls: &[u64],
        ops: &BTreeMap<u64, Op>,
        is_heard: bool,
    ) -> Result<(), String> {
        let decode = |raw: &RawRecord| {
            let record = Record::decode(raw.kind, &raw.payload).map_err(|error| error.to_string())?;
            Ok::<_, String>((raw.position, record))
        };
        let records: Vec<_> = records.iter().map(decode).collect::<Result<_, _>>()?;
        let mut records: Records = records.into_iter().peekable();
        for number in calls {
            self.take_counts(&mut records);
            let answer = self.apply(*number, &ops[number], &mut records)?;
            if is_heard {
                self.expected.insert(*number, answer);
            }
        }
        self.take_counts(&mut records);
        match records.next() {
            None => Ok(()),
            Some((position, record)) => {
                Err(format!("{:?} at {position:x} comes from no call", record.kind() as u8))
            }
        }
    }

    /// What follows from a call, with the record that it must have left.
    fn apply(&mut self, number: u64, op: &Op, records: &mut Records) -> Result<Answer, String> {
        let answer = match op {
            Op::Accept(_) | Op::Lane { .. } | Op::Hold { .. } | Op::Retain { .. } => Answer::Fine,
            Op::Begin { id, number, .. } => self.model.can_begin(id, *number),
            Op::Settle { settle, clock, .. } => self.model.can_settle(settle, *clock),
            Op::Effect { id, number, is_intent, .. } => self.model.can_note(id, *number, *is_intent),
            Op::Park { id, .. } => self.model.can_park(id),
            Op::Rule { id, ruling, .. } => self.model.can_rule(id, *ruling),
        };
        if op.is_upkeep() {
            self.take_upkeep(number, op, records)?;
            return Ok(answer);
        }
        if answer != Answer::Fine && self.index_failed {
            return Ok(Answer::Any);
        }
        if answer != Answer::Fine {
            self.figures.conflicts += u64::from(answer == Answer::Conflict);
            return Ok(answer);
        }
        match records.next_if(|(_, record)| is_of(op, record)) {
            Some((position, record)) => self.record(number, op, position, &record)?,
            // It could not be judged.
            None if self.index_failed => return Ok(Answer::Any),
            None => return Err(format!("call {number} left no record, and nothing speaks against it")),
        }
        Ok(answer)
    }

    fn record(&mut self, number: u64, op: &Op, position: u64, record: &Record) -> Result<(), String> {
        match (op, record) {
            (Op::Accept(request), Record::Accept(accept)) => {
                let ids: Vec<&str> = accept.events.iter().map(|event| event.id.as_str()).collect();
                self.figures.accepted += ids.len() as u64;
                self.written.insert(number, position);
                self.same_bytes(request, accept)?;
                self.model.accepted(position, request, &ids)?;
                let mut flight = self.process.as_ref().expect("it runs between steps").flight();
                for ordinal in 0..ids.len() {
                    let ordinal = u16::try_from(ordinal).expect("there are few");
                    flight.prove(EventRef { position, ordinal })?;
                }
            }
            (Op::Begin { id, .. }, _) => self.model.begun(id),
            (Op::Settle { settle, clock, .. }, _) => {
                self.figures.settled += 1;
                self.model.settled(position, settle, *clock);
            }
            (Op::Effect { id, detail, .. }, _) => self.model.noted(id, detail),
            (Op::Park { id, .. }, _) => self.model.held(id, Status::Parked),
            (Op::Rule { id, ruling, now, clock }, _) => self.model.ruled(id, *ruling, *now, *clock),
            (Op::Lane { handler, change, .. }, _) => self.model.lane_changed(position, handler, change),
            (op, _) => unreachable!("{op} leaves no record of its own"),
        }
        Ok(())
    }

    fn same_bytes(&self, request: &super::calls::Request, accept: &AcceptRecord) -> Result<(), String> {
        for event in &accept.events {
            let want = request.events.iter().find(|want| want.id == event.id);
            if want.is_none_or(|want| want.bytes() != accept.body_of(event)) {
                return Err(format!("{} was written with other bytes", event.id));
            }
        }
        Ok(())
    }

    /// Counts of redeliveries lie anywhere between.
    fn take_counts(&mut self, records: &mut Records) {
        while let Some((_, record)) = records.next_if(|(_, record)| matches!(record, Record::Redelivery(_))) {
            if let Record::Redelivery(redelivery) = record {
                self.model.redelivered(redelivery.event, redelivery.body_differs);
            }
        }
    }

    // === upkeep ===

    fn take_upkeep(&mut self, number: u64, op: &Op, records: &mut Records) -> Result<(), String> {
        let retains = matches!(op, Op::Retain { .. });
        while let Some((position, record)) = records.peek() {
            match record {
                // Else it comes from the next.
                Record::Lane(lane) if retains && self.model.stands(&lane.handler, &lane.change) => {
                    self.model.lane_changed(*position, &lane.handler, &lane.change);
                }
                Record::Hold(hold)
                    if hold.status != Status::Parked && retains == (hold.status == Status::Dead) =>
                {
                    let (id, status) = (hold.delivery.clone(), hold.status);
                    // Or it comes from the next.
                    if !self.may_hold(op, &id, status) {
                        return Ok(());
                    }
                    self.model.held(&id, status);
                    let (held, resumed) = self.held.entry(number).or_default();
                    *held += u64::from(status == Status::Held);
                    *resumed += u64::from(status == Status::Open);
                }
                Record::Copy(CopyRecord::Whole { .. } | CopyRecord::Keys(_)) | Record::Shelf(_)
                    if retains => {}
                Record::Mark(Mark::First { .. } | Mark::Clock { .. }) if retains => {}
                Record::Mark(Mark::Dropped { positions, .. }) if retains => {
                    for position in positions.clone() {
                        self.figures.dropped += 1;
                        self.model.dropped(position)?;
                    }
                }
                _ => return Ok(()),
            }
            records.next();
        }
        Ok(())
    }

    fn may_hold(&self, op: &Op, id: &DeliveryId, to: Status) -> bool {
        let Some(row) = self.model.rows.get(id) else { return false };
        let age_max = self.swarm.options.open_age_max;
        match (op, to) {
            (Op::Retain { clock, .. }, Status::Dead) => row.is_live() && row.aged_from.plus(age_max) < *clock,
            (Op::Hold { wanted, .. }, Status::Held) => {
                row.status == Status::Open && !wanted.contains(&id.subscription)
            }
            (Op::Hold { wanted, .. }, Status::Open) => {
                row.status == Status::Held && wanted.contains(&id.subscription)
            }
            _ => false,
        }
    }
}

/// Whether a record says what a call asked for.
fn is_of(op: &Op, record: &Record) -> bool {
    match (op, record) {
        (Op::Accept(request), Record::Accept(accept)) => {
            accept.source == request.source && accept.clock == request.clock
        }
        (Op::Begin { id, number, .. }, Record::Begun(begun)) => {
            begun.delivery == *id && begun.number == *number
        }
        (Op::Settle { settle, .. }, Record::Settle(settled)) => {
            settled.delivery == settle.delivery
                && settled.attempt == settle.attempt
                && settled.verdict == settle.verdict
                && settled.writes.iter().map(|(key, _)| key).eq(settle.shelf.writes.keys())
        }
        (Op::Effect { id, detail, is_intent: true, .. }, Record::EffectIntent(effect))
        | (Op::Effect { id, detail, is_intent: false, .. }, Record::EffectResponse(effect)) => {
            effect.delivery == *id && effect.detail == *detail
        }
        (Op::Park { id, .. }, Record::Hold(hold)) => hold.delivery == *id && hold.status == Status::Parked,
        (Op::Lane { handler, change, .. }, Record::Lane(lane)) => {
            lane.handler == *handler && lane.change == *change
        }
        (Op::Rule { id, ruling, .. }, Record::Ruling(ruled)) => {
            ruled.delivery == *id && ruled.ruling == *ruling
        }
        _ => false,
    }
}

/// As the thread of the index does.
fn index_step(core: &crate::store::core::Core) {
    if core.view.is_stopping() {
        return;
    }
    if let Err(error) = core.index_step() {
        core.index.disown();
        core.health.fail(error.to_string());
        core.view.stop();
    }
}

trait CloneOf {
    fn clone_of(&self, calls: &[u64]) -> BTreeMap<u64, Op>;
}

impl CloneOf for BTreeMap<u64, Op> {
    fn clone_of(&self, calls: &[u64]) -> BTreeMap<u64, Op> {
        calls.iter().map(|number| (*number, self[number].clone())).collect()
    }
}

impl Flight {
    /// A lane must not see what could still be lost.
    fn watch(&mut self, handlers: u64) {
        for handler in 0..handlers {
            let handler = name(&format!("handler-{handler}"));
            let due = deliveries::due(&self.core, &handler, Millis(u64::MAX), 1000, &Default::default());
            let seen: Vec<EventRef> = due.unwrap_or_default().iter().map(|due| due.id.event).collect();
            for event in seen {
                if let Err(why) = self.prove(event) {
                    self.found.get_or_insert(format!("a lane sees it: {why}"));
                }
            }
        }
    }
}
