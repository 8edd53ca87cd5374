//! A life: one store, lived through from its first start to its last, as one seed has it.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::calls::{Answer, Flight, Op};
use super::durable::Safety;
use super::machine::Clockwork;
use super::model::Model;
use super::swarm::{Action, Swarm};
use super::{NOW, check};
use crate::store::EventRef;
use crate::store::core::Core;
use crate::store::drill::{self, Drill, Mutation};
use crate::store::index::in_memory::{Copy, Memory};
use crate::store::journal::simulated::Simulated;
use crate::store::journal::simulated::dice::Dice;
use crate::store::writer::Writer;
use crate::words::event::{DeliveryId, Name};
use crate::words::shelf::ShelfTxn;
use crate::words::time::Millis;

/// What a life leaves behind.
pub(super) struct Past {
    pub trace: Vec<String>,
    pub image: Vec<u8>,
    /// What was wrong; None: nothing.
    pub failure: Option<String>,
    pub figures: Figures,
}

/// What happened, to see that it does happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub accepted: u64,
    pub duplicates: u64,
    pub settled: u64,
    pub conflicts: u64,
    pub dropped: u64,
    pub failed: u64,
    pub full: u64,
    pub starts: u64,
    pub rebuilt: u64,
    pub unsure_kept: u64,
    pub unsure_lost: u64,
}

pub(super) struct Life {
    pub(super) dice: Dice,
    pub(super) swarm: Swarm,
    pub(super) machine: Clockwork,
    pub(super) disk: Simulated,
    pub(super) index: Memory,
    pub(super) mutation: Option<Mutation>,
    pub(super) model: Model,
    pub(super) process: Option<Process>,
    /// Calls of this process, by number.
    pub(super) ops: BTreeMap<u64, Op>,
    pub(super) calls_made: u64,
    /// What the writer has decided, and nobody has heard yet.
    pub(super) expected: BTreeMap<u64, Answer>,
    /// Where the record of an accept lies.
    pub(super) written: BTreeMap<u64, u64>,
    /// Calls at whose beginning claims could still be there whose window is over.
    pub(super) lingering: BTreeSet<u64>,
    /// What was written and not answered when the end came: where, and the calls.
    pub(super) unsure: Option<(u64, Vec<u64>, BTreeMap<u64, Op>)>,
    pub(super) proved: BTreeSet<EventRef>,
    /// Transactions that have read, and not written.
    pub(super) prepared: Vec<(Name, ShelfTxn)>,
    /// In this process, a batch found the disk full; or it had less room than it wants.
    pub(super) was_full: bool,
    pub(super) was_tight: bool,
    pub(super) index_fails: bool,
    /// It did when the last batch was written.
    pub(super) index_failed: bool,
    /// The batch that is written ends with a stop.
    pub(super) stops: bool,
    pub(super) index_copies: Vec<Copy>,
    pub(super) clock_seen: Millis,
    /// The last stop was clean, and nobody has touched anything since.
    pub(super) was_clean: bool,
    pub(super) index_was_rebuilt: Option<String>,
    /// How many a walk held and resumed so far.
    pub(super) held: BTreeMap<u64, (u64, u64)>,
    pub(super) trace: Vec<String>,
    pub(super) figures: Figures,
}

pub(super) struct Process {
    pub core: Arc<Core>,
    pub writer: Writer,
    pub flight: Arc<Mutex<Flight>>,
    /// Failures of the disk before it began.
    pub broke_before: u64,
    pub failed: bool,
    pub closed: bool,
}

impl Process {
    pub(super) fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lives through a seed. A panic of the store is a failure like others.
pub(super) fn live(seed: u64, mutation: Option<Mutation>) -> Past {
    let mut life = Life::new(seed, mutation);
    drill::begin(Drill { bound: life.swarm.bound, mutation });
    let lived = catch_unwind(AssertUnwindSafe(|| life.whole()));
    let failure = match lived {
        Ok(result) => result.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(format!("it panicked: {}", text.unwrap_or_default()))
        }
    };
    life.disk.tell_before(None);
    drill::begin(Drill::default());
    Past { trace: life.trace, image: life.disk.image(), failure, figures: life.figures }
}

impl Life {
    fn new(seed: u64, mutation: Option<Mutation>) -> Life {
        let mut dice = Dice::new(seed);
        let swarm = Swarm::draw(&mut dice);
        Life {
            machine: Clockwork::new(NOW, dice.fork()),
            disk: Simulated::new(dice.throw()),
            dice,
            trace: vec![format!("{swarm:?}")],
            swarm,
            index: Memory::default(),
            mutation,
            model: Model::default(),
            process: None,
            ops: BTreeMap::new(),
            calls_made: 0,
            expected: BTreeMap::new(),
            written: BTreeMap::new(),
            lingering: BTreeSet::new(),
            unsure: None,
            proved: BTreeSet::new(),
            prepared: Vec::new(),
            was_full: false,
            was_tight: false,
            index_fails: false,
            index_failed: false,
            stops: false,
            index_copies: Vec::new(),
            clock_seen: Millis(0),
            was_clean: false,
            index_was_rebuilt: None,
            held: BTreeMap::new(),
            figures: Figures::default(),
        }
    }

    fn whole(&mut self) -> Result<(), String> {
        self.start()?;
        for _ in 0..self.swarm.steps {
            let action = self.swarm.next(&mut self.dice);
            self.act(action)?;
            self.settle_down()?;
        }
        self.end()
    }

    /// All that was begun is brought to its end, and everything is asked for once more: as it is, after a crash,
    /// and from an index that was made again.
    fn end(&mut self) -> Result<(), String> {
        self.note("the end");
        self.disk.fail_nothing();
        self.disk.leave_room(None);
        self.index.fail(false);
        if self.process().failed || self.index_fails {
            self.index_fails = false;
            self.kill()?;
        }
        self.drain()?;
        self.check(true)?;
        self.send_all_again()?;
        if self.swarm.promises_less() {
            self.kill()?
        } else {
            self.lose_power()?
        }
        self.swarm.rough_starts = 0;
        self.stop()?;
        self.index.remove();
        self.was_clean = false;
        self.start()?;
        self.check(true)?;
        self.damage()
    }

    // === small words ===

    pub(super) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs between steps")
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.process.as_ref().expect("it runs between steps").core
    }

    pub(super) fn note(&mut self, what: impl Into<String>) {
        self.trace.push(what.into());
    }

    pub(super) fn safety(&self) -> Safety {
        if self.swarm.promises_less() { Safety::Cache } else { Safety::Platter }
    }

    /// The wall clock, and the time of expiry then.
    pub(super) fn clock(&mut self) -> (Millis, Millis) {
        let now = self.machine.now();
        let clock = self.core().clock.expiry(now);
        self.clock_seen = self.clock_seen.max(clock);
        (now, clock)
    }

    // === what happens ===

    fn act(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Accept => self.accept(),
            Action::Duplicate => self.duplicate(),
            Action::Begin => self.begin(),
            Action::Settle => self.settle()?,
            Action::Effect => self.effect(),
            Action::Park => self.park(),
            Action::Rule => self.rule(),
            Action::Hold => self.hold(),
            Action::Lane => self.change_lane(),
            Action::Retain => self.retain(),
            Action::Write => return self.write_batch(),
            Action::Index => return self.index_some(),
            Action::Cancel => {
                let process = self.process.as_ref().expect("it runs between steps");
                let gone = process.flight().cancel(&mut self.dice);
                self.note(format!("call {gone:?} is given up"));
            }
            Action::ReadShelf => return self.read_shelf(),
            Action::TimePasses => {
                let span = Duration::from_millis(self.dice.below(self.swarm.pass_ms));
                self.machine.pass(span);
                self.note(format!("{span:?} pass"));
            }
            Action::ClockJumps => self.jump(),
            Action::DiskFault => self.break_disk(),
            Action::DiskFills => {
                let room = [None, Some(0), Some(100), Some(3000)][self.dice.index(4)];
                self.disk.leave_room(room);
                self.was_tight |= room.is_some();
                self.note(format!("the disk has room for {room:?}"));
            }
            Action::IndexFails => {
                self.index_fails = !self.index_fails;
                self.index.fail(self.index_fails);
                self.note(format!("the index fails: {}", self.index_fails));
            }
            Action::CopyIndex => {
                if self.index_copies.len() < 3 {
                    self.index_copies.push(self.index.copy());
                    self.note("the index is copied away");
                }
            }
            Action::Close => return self.stop().and_then(|()| self.start_and_check()),
            Action::Kill => return self.kill(),
            Action::PowerLoss => return self.lose_power(),
            Action::Check => return self.check(false),
        }
        Ok(())
    }

    /// Whoever was woken goes on, and what is heard is compared. A disk that is gone ends the process.
    pub(super) fn settle_down(&mut self) -> Result<(), String> {
        let process = self.process.as_ref().expect("it runs between steps");
        process.flight().poll_woken(&mut self.dice);
        if self.disk.is_dead() {
            return self.crash();
        }
        self.hear()?;
        // A store that failed is not left running for long.
        if self.process().failed && self.dice.percent(30) {
            return if self.dice.percent(50) { self.kill() } else { self.crash() };
        }
        Ok(())
    }

    /// Whatever is under way is brought to its end.
    pub(super) fn drain(&mut self) -> Result<(), String> {
        self.swarm.between = 0;
        for _ in 0..10_000 {
            self.settle_down()?;
            let process = self.process();
            let is_idle = process.core.queue.waiting() == 0;
            if is_idle && process.flight().is_empty() {
                return Ok(());
            }
            self.write_batch()?;
            self.settle_down()?;
            self.index_some()?;
        }
        Err("something under way does not come to its end: nobody woke it".into())
    }

    /// Compares everything that can be asked with the model.
    pub(super) fn check(&mut self, thoroughly: bool) -> Result<(), String> {
        if self.index_fails || self.process().failed {
            return Ok(());
        }
        self.disk.fail_nothing();
        self.note("everything is looked at");
        let (now, clock) = self.clock();
        let limit = [1000, 1000, 7, 1][self.dice.index(4)];
        check::all(self.core(), &self.model, (now, clock), limit, thoroughly)
    }

    pub(super) fn rows_where(&self, wanted: impl Fn(&super::model::Row) -> bool) -> Vec<DeliveryId> {
        self.model.rows.iter().filter(|(_, row)| wanted(row)).map(|(id, _)| id.clone()).collect()
    }
}
