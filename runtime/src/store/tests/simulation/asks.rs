//! Asks: what the driver asks of the store, chosen at random from what the model knows.

use std::time::Duration;

use bytes::Bytes;

use super::calls::{Op, PLUGIN, Request, Want};
use super::life::Life;
use super::name;
use crate::store::{Ruling, Settle, Status, shelf};
use crate::words::attempt::{Attempt, Outcome, Verdict};
use crate::words::event::{DeliveryId, Name};
use crate::words::lane::LaneChange;
use crate::words::shelf::{ShelfListing, ShelfTxn, ShelfWrite};
use crate::words::time::Millis;

impl Life {
    /// Makes a call, and polls it once.
    pub(super) fn ask(&mut self, op: Op) {
        let number = self.plan(op.clone());
        let process = self.process.as_ref().expect("it runs between steps");
        process.flight().start(number, op);
    }

    /// Gives a call its number.
    pub(super) fn plan(&mut self, op: Op) -> u64 {
        self.calls_made += 1;
        let number = self.calls_made;
        self.note(format!("call {number}: {op}"));
        let process = self.process.as_ref().expect("it runs between steps");
        let waits = process.core.queue.waiting() > 0 || !process.flight().is_empty();
        if process.core.view.lag() > 0 || waits {
            self.lingering.insert(number);
        }
        self.ops.insert(number, op);
        number
    }

    // === senders ===

    pub(super) fn accept(&mut self) {
        let request = self.request();
        self.ask(Op::Accept(request));
    }

    pub(super) fn request(&mut self) -> Request {
        let source = name(["alpha", "beta"][self.dice.index(2)]);
        let count = 1 + self.dice.below(self.swarm.events_max);
        let events = (0..count).map(|_| self.want()).collect();
        let (received_at, clock) = self.clock();
        Request { source, received_at, clock, window: self.swarm.window, events }
    }

    fn want(&mut self) -> Want {
        let id = self.dice.below(self.swarm.ids);
        let deliveries = (0..self.dice.below(3)).map(|at| {
            // Which handler a subscription has never changes.
            let subscription = (id + at) % 4;
            let handler = subscription % self.swarm.handlers;
            (name(&format!("to-{subscription}")), name(&format!("handler-{handler}")))
        });
        let deliveries = deliveries.collect();
        let padding = usize::try_from((id * 37) % self.swarm.padding_max).expect("it is small");
        Want { id: format!("evt_{id}"), variant: self.dice.below(2), padding, deliveries }
    }

    /// Sends again what is known, or under way.
    pub(super) fn duplicate(&mut self) {
        let under_way = self.ops.values().filter_map(|op| match op {
            Op::Accept(request) => Some(request),
            _ => None,
        });
        let recent: Vec<&Request> = under_way.collect();
        let Some(request) = self.dice.pick(&recent) else { return self.accept() };
        let mut request = (*request).clone();
        (request.received_at, request.clock) = self.clock();
        if self.dice.percent(30) {
            request.events.reverse();
        }
        if self.dice.percent(20) {
            let more = self.want();
            request.events.push(more);
        }
        let copies = 1 + self.dice.below(3);
        for _ in 0..copies {
            self.ask(Op::Accept(request.clone()));
        }
    }

    /// Every event that the model has in its window is sent once more: not one may be new.
    pub(super) fn send_all_again(&mut self) -> Result<(), String> {
        let (received_at, clock) = self.clock();
        let mut all = Vec::new();
        for ((source, id), known) in &self.model.keys {
            let Some(last) = known.last().filter(|last| clock < last.expires && !last.lapsed) else {
                continue;
            };
            let text = String::from_utf8_lossy(&last.bytes).into_owned();
            let mut parts = text.split('/');
            let variant = parts.nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
            let padding = parts.next().map_or(0, str::len);
            let want = Want { id: id.clone(), variant, padding, deliveries: Vec::new() };
            let (source, window) = (source.clone(), self.swarm.window);
            all.push(Request { source, received_at, clock, window, events: vec![want] });
        }
        let accepted_before = self.figures.accepted;
        for request in all {
            self.ask(Op::Accept(request));
        }
        self.drain()?;
        match self.figures.accepted - accepted_before {
            0 => Ok(()),
            more => Err(format!("{more} events are new again in their window")),
        }
    }

    // === lanes ===

    fn any_row(&mut self, wanted: impl Fn(&super::model::Row) -> bool) -> Option<DeliveryId> {
        // Now and then one that makes no sense.
        let rows = if self.dice.percent(10) { self.rows_where(|_| true) } else { self.rows_where(wanted) };
        self.dice.pick(&rows).cloned()
    }

    pub(super) fn begin(&mut self) {
        let Some(id) = self.any_row(|row| row.status == Status::Open) else { return };
        let row = &self.model.rows[&id];
        let number = row.attempts + row.begun + if self.dice.percent(95) { 1 } else { 0 };
        let now = self.machine.now();
        self.ask(Op::Begin { id, number, now });
    }

    pub(super) fn settle(&mut self) -> Result<(), String> {
        let begun = self.dice.percent(70);
        let fits = |row: &super::model::Row| if begun { row.begun > 0 } else { row.status == Status::Open };
        let Some(id) = self.any_row(fits) else { return Ok(()) };
        let row = self.model.rows[&id].clone();
        let number = match begun {
            true => (row.attempts + row.begun).max(1),
            // It made no call, so nobody wrote that it had begun.
            false => row.attempts + row.begun + 1,
        };
        let (now, clock) = self.clock();
        let verdict = self.verdict(now);
        let shelf = self.transaction(&row.handler, clock)?;
        let outcome = match &verdict {
            Verdict::Skipped => Outcome::Skipped { note: None },
            _ => Outcome::Done { note: None },
        };
        let attempt = Attempt {
            number,
            started_at: now,
            took_ms: 1,
            outcome,
            calls: Vec::new(),
            logs: Vec::new(),
            plugin: PLUGIN,
            memory_bytes: 0,
            tape: None,
        };
        let settle = Settle { delivery: id, handler: row.handler, begun, attempt, verdict, shelf };
        self.ask(Op::Settle { settle: Box::new(settle), now, clock });
        Ok(())
    }

    pub(super) fn effect(&mut self) {
        let is_intent = self.dice.percent(50);
        let fits = |row: &super::model::Row| row.begun > 0 && (row.status == Status::Open || !is_intent);
        let Some(id) = self.any_row(fits) else { return };
        let row = &self.model.rows[&id];
        let number = row.attempts + row.begun + u32::from(self.dice.percent(5));
        // Numbered, so that no two are alike; some are larger than a block of the disk.
        let padding = [0, 40, 700][self.dice.index(3)];
        let detail = Bytes::from(format!("{:<padding$}", self.calls_made));
        let now = self.machine.now();
        self.ask(Op::Effect { id, number, detail, is_intent, now });
    }

    fn verdict(&mut self, now: Millis) -> Verdict {
        match self.dice.below(6) {
            0 => Verdict::Skipped,
            1 => Verdict::Dead { reason: "it cannot be done".into() },
            2 => Verdict::Again { at: now.plus(Duration::from_millis(self.dice.below(100_000))) },
            3 => Verdict::Parked { reason: "it was begun too often".into() },
            _ => Verdict::Done,
        }
    }

    pub(super) fn park(&mut self) {
        let Some(id) = self.any_row(|row| row.status == Status::Open) else { return };
        let now = self.machine.now();
        self.ask(Op::Park { id, now });
    }

    pub(super) fn rule(&mut self) {
        let ruling = if self.dice.percent(60) { Ruling::Retry } else { Ruling::Cancel };
        let Some(id) = self.any_row(|row| row.is_live() == (ruling == Ruling::Cancel)) else { return };
        let (now, clock) = self.clock();
        self.ask(Op::Rule { id, ruling, now, clock });
    }

    /// A breaker opens or closes, or the operator says something. Each is unlike every other.
    pub(super) fn change_lane(&mut self) {
        let handler = name(&format!("handler-{}", self.dice.below(self.swarm.handlers)));
        let (reason, since) = (format!("change {}", self.calls_made), self.machine.now());
        let change = match self.dice.below(5) {
            0 => LaneChange::Paused { reason: Some(reason) },
            1 => LaneChange::Resumed { reason: Some(reason) },
            2 => LaneChange::Returning { origin: reason, since, probes: 1 },
            3 => LaneChange::Closed { why: reason, since },
            _ => LaneChange::Opened {
                origin: "https://x.example".to_owned(),
                failures: 20,
                since,
                why: reason,
                probe_at: since,
                waiting: 7,
            },
        };
        self.ask(Op::Lane { handler, change, now: since });
    }

    // === upkeep ===

    pub(super) fn hold(&mut self) {
        if self.process().flight().has_upkeep() {
            return;
        }
        let wanted = (0..4).filter(|_| self.dice.percent(60)).map(|at| name(&format!("to-{at}"))).collect();
        let now = self.machine.now();
        self.ask(Op::Hold { wanted, now });
    }

    pub(super) fn retain(&mut self) {
        if self.process().flight().has_upkeep() {
            return;
        }
        let (now, clock) = self.clock();
        let age_max = self.swarm.options.open_age_max;
        let old = self.model.rows.iter();
        let old = old.filter(|(_, row)| row.is_live() && row.aged_from.plus(age_max) < clock);
        let old = old.map(|(id, row)| (id.clone(), row.clone())).collect();
        self.ask(Op::Retain { now, clock, old });
    }

    // === shelves ===

    fn shelf_key(&mut self) -> String {
        format!("{}/{}", ["a", "b"][self.dice.index(2)], self.dice.below(self.swarm.shelf_keys))
    }

    /// A transaction that has just read, or one that did so a while ago.
    fn transaction(&mut self, handler: &Name, clock: Millis) -> Result<ShelfTxn, String> {
        if self.dice.percent(50) || self.index_fails || self.model.is_unsure(handler, clock) {
            return Ok(ShelfTxn::default());
        }
        let earlier = self.prepared.iter().position(|(of, _)| of == handler);
        if let Some(at) = earlier.filter(|_| self.dice.percent(50)) {
            return Ok(self.prepared.remove(at).1);
        }
        let mut txn = ShelfTxn::default();
        for _ in 0..self.dice.below(3) {
            let key = self.shelf_key();
            if let Some(version) = self.read_key(handler, &key)? {
                txn.reads.insert(key, version);
            }
        }
        if self.dice.percent(30) {
            txn.lists.extend(self.list_keys(handler)?);
        }
        for _ in 0..self.dice.below(4) {
            let key = self.shelf_key();
            let write = self.shelf_write();
            txn.writes.insert(key, write);
        }
        if self.dice.percent(30) {
            self.prepared.push((handler.clone(), txn));
            return Ok(ShelfTxn::default());
        }
        Ok(txn)
    }

    fn shelf_write(&mut self) -> ShelfWrite {
        let ttl =
            self.dice.percent(30).then(|| Duration::from_millis(1 + self.dice.below(self.swarm.pass_ms)));
        match self.dice.below(4) {
            0 => ShelfWrite::Delete,
            1 => ShelfWrite::Add { delta: i64::try_from(self.dice.below(9)).expect("it is small") - 3, ttl },
            _ => {
                let len = [1, 20, 65, 400][self.dice.index(4)];
                let digit = b'0' + u8::try_from(self.dice.below(10)).expect("it is small");
                ShelfWrite::Set { value: Bytes::from(vec![digit; len]), ttl }
            }
        }
    }

    pub(super) fn read_shelf(&mut self) -> Result<(), String> {
        let handler = name(&format!("handler-{}", self.dice.below(self.swarm.handlers)));
        let key = self.shelf_key();
        self.read_key(&handler, &key)?;
        self.list_keys(&handler).map(drop)
    }

    /// Reads a key and compares it. Returns the version, where it was to be had.
    fn read_key(&mut self, handler: &Name, key: &str) -> Result<Option<u64>, String> {
        let (now, clock) = self.clock();
        let read = shelf::read(self.core(), handler, key, now);
        let Ok(read) = read else { return self.excuse("a shelf cannot be read").map(|()| None) };
        let known = self.model.shelf.get(&(handler.clone(), key.to_owned()));
        if known.is_some_and(|entry| entry.is_unsure(clock)) {
            return Ok(None);
        }
        let known = known.filter(|entry| entry.is_live(clock));
        let expected = (known.map(|entry| entry.value.clone()), known.map_or(0, |entry| entry.version));
        if (read.value.clone(), read.version) != expected {
            return Err(format!("{handler}'s {key} reads as {read:?}, and should as {expected:?}"));
        }
        Ok(Some(read.version))
    }

    fn list_keys(&mut self, handler: &Name) -> Result<Option<ShelfListing>, String> {
        let (now, clock) = self.clock();
        let prefix = ["", "a", "b/"][self.dice.index(3)];
        let after = self.dice.percent(30).then(|| self.shelf_key());
        let limit = [1, 2, 100][self.dice.index(3)];
        let keys = shelf::listing(self.core(), handler, prefix, after.as_deref(), (limit, now));
        let Ok(keys) = keys else { return self.excuse("a shelf cannot be listed").map(|()| None) };
        if self.model.is_unsure(handler, clock) {
            return Ok(None);
        }
        let expected = self.model.list(handler, (prefix, after.as_deref(), limit), clock);
        if keys != expected {
            return Err(format!("{handler} has {keys:?} under {prefix:?} after {after:?}, not {expected:?}"));
        }
        Ok(Some(ShelfListing { prefix: prefix.to_owned(), after, limit, keys }))
    }

    /// An error is right where something was made to break in this process.
    pub(super) fn excuse(&mut self, what: &str) -> Result<(), String> {
        let broken = self.disk.broke();
        let process = self.process();
        let broke = process.failed || process.broke_before < broken;
        let broke = broke || self.index_fails || self.disk.is_dead();
        if broke { Ok(()) } else { Err(format!("{what}, and nothing was broken")) }
    }
}
