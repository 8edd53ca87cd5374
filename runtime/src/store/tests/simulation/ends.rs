//! Ends and starts: clean stops, deaths of the process and of the machine, and how the store comes back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::oneshot;

use super::calls::Flight;
use super::life::{Life, Process};
use crate::store::Error;
use crate::store::codec::{Mark, Record};
use crate::store::journal::simulated::Ask;
use crate::store::open::{Ground, open_in_steps};
use crate::store::writer::Job;

impl Life {
    // === ends ===

    pub(super) fn kill(&mut self) -> Result<(), String> {
        self.note("the process is killed");
        self.die(false);
        self.start_and_check()
    }

    pub(super) fn lose_power(&mut self) -> Result<(), String> {
        self.note("the machine loses power");
        self.die(true);
        self.start_and_check()
    }

    /// One of both.
    pub(super) fn crash(&mut self) -> Result<(), String> {
        if !self.swarm.promises_less() && self.dice.percent(60) { self.lose_power() } else { self.kill() }
    }

    /// A clean stop; the next start believes the index. What is under way goes on to its end, or is refused.
    pub(super) fn stop(&mut self) -> Result<(), String> {
        self.note("a clean stop");
        let (reply, mut closed) = oneshot::channel();
        let process = self.process();
        process.core.health.close();
        process.closed = process.core.queue.close(Job::Close(reply));
        self.stops = true;
        let written = self.write_batch();
        self.stops = false;
        written?;
        if self.disk.is_dead() {
            self.note("the end comes in it");
            let machine = !self.swarm.promises_less() && self.dice.percent(60);
            self.die(machine);
            return Ok(());
        }
        let process = self.process.as_ref().expect("it runs until here");
        process.flight().poll_woken(&mut self.dice);
        let answer = closed.try_recv();
        self.hear()?;
        let is_well = match answer {
            Ok(Ok(())) => true,
            Ok(Err(error)) => self.excuse(&format!("the stop failed: {error}")).map(|()| false)?,
            Err(_) => self.excuse("nobody answered for the stop").map(|()| false)?,
        };
        let machine = is_well && self.dice.percent(20);
        self.die_with(machine, is_well);
        Ok(())
    }

    pub(super) fn die(&mut self, machine: bool) {
        self.die_with(machine, false);
    }

    fn die_with(&mut self, machine: bool, was_clean: bool) {
        self.disk.tell_before(None);
        let Some(process) = self.process.take() else { return };
        self.clock_seen = self.clock_seen.max(process.core.clock.seen().1);
        self.proved = std::mem::take(&mut process.flight().proved);
        drop(process);
        self.ops.clear();
        self.expected.clear();
        self.written.clear();
        self.lingering.clear();
        self.prepared.clear();
        self.held.clear();
        self.was_clean = was_clean;
        self.fall(machine);
    }

    /// What becomes of the files.
    fn fall(&mut self, machine: bool) {
        let kept = self.dice.index(self.index.unflushed() + 1);
        self.index.forget_unflushed(kept);
        if machine {
            self.disk.lose_power();
            self.machine.boot_again();
            if !self.was_clean && self.dice.percent(50) {
                self.index.remove();
            }
        } else {
            self.disk.end_process();
        }
        self.index_fails = false;
        self.index.fail(false);
        let down = 1 + self.dice.below(5000);
        self.machine.pass(Duration::from_millis(down));
    }

    // === starts ===

    pub(super) fn start_and_check(&mut self) -> Result<(), String> {
        self.start()?;
        self.check(false)
    }

    pub(super) fn start(&mut self) -> Result<(), String> {
        self.model.lapse(self.clock_seen);
        self.meddle();
        for attempt in 0..4 {
            if attempt == 3 {
                self.disk.leave_room(None);
            } else if self.dice.percent(self.swarm.rough_starts) {
                self.make_rough();
            }
            let broke = self.disk.broke();
            let opened = self.open();
            let was_rough = self.disk.is_dead() || self.disk.broke() > broke;
            self.disk.die_after(None);
            match opened {
                Ok(process) if !self.disk.is_dead() => {
                    self.process = Some(process);
                    return self.started();
                }
                Ok(process) => drop(process),
                Err(error) if was_rough => self.note(format!("the start fails: {error}")),
                Err(error) => return Err(format!("the store does not start: {error}")),
            }
            self.was_clean = false;
            let machine = !self.swarm.promises_less() && self.dice.percent(50);
            self.note(if machine { "and the power goes" } else { "and the process ends" });
            self.fall(machine);
        }
        Err("the store does not start, although nothing was in its way the last time".into())
    }

    pub(super) fn open(&mut self) -> Result<Process, Error> {
        let ground = Ground {
            disk: self.disk_of_store(),
            machine: Arc::new(self.machine.clone()),
            index: Arc::new(self.index.clone()),
            segment_bytes: self.swarm.segment_bytes,
        };
        let broke_before = self.disk.broke();
        let (core, writer, recovery) = open_in_steps(self.swarm.options.clone(), ground, self.machine.now())?;
        self.note(format!("it starts: {recovery:?}"));
        self.figures.starts += 1;
        self.figures.rebuilt += u64::from(recovery.index_rebuilt.is_some());
        self.index_was_rebuilt = recovery.index_rebuilt;
        let proved = std::mem::take(&mut self.proved);
        let flight = Flight::new(core.clone(), self.disk.clone(), self.safety(), proved);
        let flight = Arc::new(Mutex::new(flight));
        Ok(Process { core, writer, flight, broke_before, failed: false, closed: false })
    }

    /// What was not answered is there or is not, but whole.
    fn started(&mut self) -> Result<(), String> {
        if self.was_clean
            && let Some(why) = self.index_was_rebuilt.take()
        {
            return Err(format!("after a clean stop, the index was made again: {why}"));
        }
        let Some((at, calls, ops)) = self.unsure.take() else { return Ok(()) };
        let records = self.records_at(at)?;
        let is_start = |kind: u8, payload: &bytes::Bytes| {
            matches!(
                Record::decode(kind, payload),
                Ok(Record::Mark(Mark::Opened { .. } | Mark::Clean { .. }))
            )
        };
        if records.first().is_some_and(|raw| is_start(raw.kind, &raw.payload)) {
            self.note("what was not known was lost");
            self.figures.unsure_lost += 1;
            return Ok(());
        }
        self.note("what was not known was kept");
        self.figures.unsure_kept += 1;
        self.process().flight().batch_at = at;
        self.process().flight().prove_batch()?;
        self.commit(records, &calls, &ops, false)
    }

    fn make_rough(&mut self) {
        if self.dice.percent(70) || self.swarm.promises_less() {
            let calls = self.dice.below(14);
            self.disk.die_after(Some(calls));
            self.note(format!("the start will end at its call {calls}"));
        } else {
            self.break_disk();
        }
    }

    /// Somebody removes the index, or puts an older copy in its place.
    fn meddle(&mut self) {
        if !self.dice.percent(self.swarm.meddles) {
            return;
        }
        self.was_clean = false;
        if self.dice.percent(50) || self.index_copies.is_empty() {
            self.note("the index is removed");
            self.index.remove();
        } else {
            self.note("an older copy of the index is put in its place");
            let at = self.dice.index(self.index_copies.len());
            self.index.put_back(self.index_copies[at].clone());
        }
    }

    // === what breaks ===

    pub(super) fn break_disk(&mut self) {
        let faults = [
            (Ask::Sync, Errno::IO),
            (Ask::Sync, Errno::IO),
            (Ask::Write, Errno::IO),
            (Ask::Write, Errno::NOSPC),
            (Ask::SyncDir, Errno::IO),
            (Ask::Create, Errno::MFILE),
            (Ask::Create, Errno::NOSPC),
            (Ask::Rename, Errno::IO),
            (Ask::Remove, Errno::IO),
            (Ask::Read, Errno::IO),
            (Ask::Reserve, Errno::NOSPC),
            (Ask::Trim, Errno::IO),
        ];
        let (ask, errno) = faults[self.dice.index(faults.len())];
        let passes = self.dice.below(4);
        self.disk.fail(ask, passes, errno);
        self.note(format!("{ask:?} will fail with {errno:?} after {passes} others"));
    }

    /// Somebody sets the clock: an hour back, some days on, or far off for a while.
    pub(super) fn jump(&mut self) {
        let now = self.machine.now();
        let hour = Duration::from_secs(3600);
        let to = match self.dice.below(4) {
            0 => now.minus(hour),
            1 => now.plus(hour * 24 * 3),
            2 => now.plus(hour * 24 * 4000),
            _ => super::NOW,
        };
        self.machine.set(to);
        self.note(format!("the wall clock is set to {}", to.0));
    }
}
