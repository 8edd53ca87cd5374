//! State: what the records of a delivery say about it, read one after the other without an index.
//!
//! The rules are those of `rows`; a test holds the two together. Here they are as small as a count of millions
//! needs them.

use crate::store::codec::{HoldRecord, Record, RulingRecord, SettleRecord};
use crate::store::rows::Row;
use crate::store::{Ruling, Status};
use crate::words::attempt::Verdict;
use crate::words::time::Millis;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub status: Status,
    /// Number of the last attempt that is over.
    pub attempts: u32,
    pub begun_without_end: u32,
    /// Meant only while it is open.
    pub due: Millis,
    pub ended_at: Option<Millis>,
}

impl State {
    pub(super) fn accepted(due: Millis) -> State {
        State { status: Status::Open, attempts: 0, begun_without_end: 0, due, ended_at: None }
    }

    /// As it was when its event was copied.
    pub(super) fn of_row(row: &Row) -> State {
        State {
            status: row.status,
            attempts: row.attempts,
            begun_without_end: row.begun_without_end,
            due: row.due,
            ended_at: row.ended_at,
        }
    }

    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Begun(_) => self.begun_without_end += 1,
            Record::Settle(settle) => self.settled(settle),
            Record::Hold(hold) => self.held(hold),
            Record::Ruling(ruling) => self.ruled(ruling),
            _ => {}
        }
    }

    fn settled(&mut self, record: &SettleRecord) {
        let number = record.attempt.number;
        if number <= self.attempts {
            return;
        }
        let passed = number - self.attempts;
        self.attempts = number;
        let is_ended = self.status.is_ended();
        self.begun_without_end = if is_ended { self.begun_without_end.saturating_sub(passed) } else { 0 };
        if is_ended {
            return;
        }
        let status = match &record.verdict {
            Verdict::Done => Status::Done,
            Verdict::Skipped => Status::Skipped,
            Verdict::Dead { .. } => Status::Dead,
            Verdict::Parked { .. } => Status::Parked,
            Verdict::Again { at } => {
                self.due = *at;
                Status::Open
            }
        };
        self.become_at(status, record.at);
    }

    fn held(&mut self, record: &HoldRecord) {
        self.become_at(record.status, record.at);
    }

    fn ruled(&mut self, record: &RulingRecord) {
        match record.ruling {
            Ruling::Retry => {
                self.attempts += self.begun_without_end;
                self.begun_without_end = 0;
                self.due = record.at;
                self.become_at(Status::Open, record.at);
            }
            Ruling::Cancel => self.become_at(Status::Cancelled, record.at),
        }
    }

    fn become_at(&mut self, status: Status, at: Millis) {
        self.status = status;
        self.ended_at = status.is_ended().then_some(at);
    }
}
