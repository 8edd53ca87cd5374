//! World: what a record says in the place of the ledger, the shelf and the network.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::Error;
use super::record::{EffectLine, Record};
use crate::host::{
    Arrived, Before, Departed, DryAnswer, EffectFuture, Effects, Shelf, ShelfFuture, UNANSWERED, World,
    is_safe_method,
};
use crate::words::attempt::{Attempt, CallRecord};
use crate::words::effect::{Asked, Entry, Said};
use crate::words::shelf::ShelfRead;
use crate::words::tape::{Read, Seed, Tape};
use crate::words::time::Millis;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === the ledger ===

/// What earlier attempts noted; what this one notes is kept beside it.
pub(super) struct Page {
    delivery: String,
    root: String,
    attempt: u32,
    started_at: Millis,
    seed: Option<Seed>,
    before: Before,
    noted: Mutex<Vec<(Entry, Bytes)>>,
}

impl Page {
    pub(super) fn new(record: &Record, attempt: &Attempt, tape: &Tape) -> Result<Page, Error> {
        Page::up_to(record, tape.past, (attempt.number, attempt.started_at), tape.seed)
    }

    /// Behind all that was noted.
    pub(super) fn behind(record: &Record) -> Result<Page, Error> {
        let ended = record.attempts.iter().map(|attempt| attempt.number);
        let last = ended.chain(record.interrupted.iter().map(|attempt| attempt.number)).max().unwrap_or(0);
        Page::up_to(record, u64::MAX, (last.saturating_add(1), Millis::now()), None)
    }

    fn up_to(
        record: &Record,
        up_to: u64,
        (attempt, started_at): (u32, Millis),
        seed: Option<Seed>,
    ) -> Result<Page, Error> {
        let round = record.round(up_to);
        let is_before = |line: &&EffectLine| line.at > round && line.at <= up_to;
        let framed = |line: &EffectLine| line.bytes.bytes().map(|bytes| line.entry.framed(&bytes));
        let entries = record.effects.iter().filter(is_before).map(framed).collect::<Result<_, _>>()?;
        Ok(Page {
            delivery: record.delivery.to_string(),
            root: record.root(up_to),
            attempt,
            started_at,
            seed,
            before: Before { entries, up_to },
            noted: Mutex::default(),
        })
    }

    pub(super) fn noted(&self) -> Vec<(Entry, Bytes)> {
        locked(&self.noted).clone()
    }
}

impl Effects for Page {
    fn delivery(&self) -> &str {
        &self.delivery
    }

    fn root(&self) -> &str {
        &self.root
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }

    fn started_at(&self) -> Millis {
        self.started_at
    }

    fn seed(&self) -> Option<Seed> {
        self.seed
    }

    fn past(&self) -> EffectFuture<'_, Before> {
        Box::pin(std::future::ready(Ok(self.before.clone())))
    }

    fn begin(&self) -> EffectFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn note(&self, entry: Bytes, _: bool) -> EffectFuture<'_, ()> {
        let noted = Entry::unframed(&entry).map(|entry| locked(&self.noted).push(entry));
        Box::pin(std::future::ready(noted))
    }
}

// === the shelf ===

/// What the shelf answered, in order.
pub(super) struct ReadAgain {
    reads: Mutex<VecDeque<Read>>,
}

impl ReadAgain {
    pub(super) fn new(tape: &Tape) -> ReadAgain {
        ReadAgain { reads: Mutex::new(tape.reads.iter().cloned().collect()) }
    }

    /// The next answer where it is one to this question; else the next that is: another plugin may ask in another order.
    fn next<T>(&self, answers: impl Fn(&Read) -> Option<Result<T, String>>) -> Option<Result<T, String>> {
        let mut reads = locked(&self.reads);
        let at = reads.iter().position(|read| answers(read).is_some())?;
        reads.remove(at).and_then(|read| answers(&read))
    }
}

fn failed<T>(read: &Read) -> Option<Result<T, String>> {
    match read {
        Read::Failed { why } => Some(Err(why.clone())),
        _ => None,
    }
}

impl Shelf for ReadAgain {
    fn get<'a>(&'a self, key: &'a str) -> ShelfFuture<'a, ShelfRead> {
        let answer = self.next(|read| match read {
            Read::Value { key: asked, value } if asked == key => {
                Some(Ok(ShelfRead { value: value.clone(), version: 0 }))
            }
            read => failed(read),
        });
        // Nothing is known of it: it is as if it had never been set.
        Box::pin(std::future::ready(answer.unwrap_or(Ok(ShelfRead { value: None, version: 0 }))))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
    ) -> ShelfFuture<'a, Vec<String>> {
        let answer = self.next(|read| match read {
            Read::Keys { prefix: p, after: a, limit: l, keys }
                if p == prefix && a.as_deref() == after && *l == limit =>
            {
                Some(Ok(keys.clone()))
            }
            read => failed(read),
        });
        Box::pin(std::future::ready(answer.unwrap_or(Ok(Vec::new()))))
    }

    fn bytes(&self) -> ShelfFuture<'_, u64> {
        let answer = self.next(|read| match read {
            Read::Bytes { bytes } => Some(Ok(*bytes)),
            read => failed(read),
        });
        Box::pin(std::future::ready(answer.unwrap_or(Ok(0))))
    }
}

// === the network ===

/// The answers that one attempt got from the network.
pub(super) struct FromRecord {
    answers: Mutex<Vec<Answer>>,
    otherwise: DryAnswer,
    unrecorded: Mutex<Vec<u32>>,
    is_redacted: bool,
    /// Calls that the attempt ended in, by number: a read leaves nothing before its answer.
    ended_in: Vec<u32>,
}

struct Answer {
    asked: Asked,
    /// None: the attempt ended in this call.
    said: Option<(Said, Bytes, Duration)>,
}

impl FromRecord {
    pub(super) fn new(
        record: &Record,
        attempt: &Attempt,
        tape: &Tape,
        otherwise: DryAnswer,
    ) -> Result<FromRecord, Error> {
        let mut answers: Vec<(u32, Answer)> = Vec::new();
        for line in record.effects.iter().filter(|line| line.at > tape.past) {
            match &line.entry {
                Entry::Intent(intent) if intent.attempt == attempt.number => {
                    answers.push((intent.effect, Answer { asked: intent.asked.clone(), said: None }));
                }
                Entry::Response(response) if response.attempt == attempt.number => {
                    let took = Duration::from_micros(response.took_us);
                    let said = Some((response.said.clone(), line.bytes.bytes()?, took));
                    if let Some(asked) = &response.asked {
                        answers.push((response.effect, Answer { asked: asked.clone(), said }));
                    } else if let Some((_, open)) =
                        answers.iter_mut().rev().find(|(effect, _)| *effect == response.effect)
                    {
                        open.said = said;
                    }
                }
                _ => {}
            }
        }
        Ok(FromRecord {
            answers: Mutex::new(answers.into_iter().map(|(_, answer)| answer).collect()),
            otherwise,
            unrecorded: Mutex::default(),
            is_redacted: !record.redacted.is_empty(),
            ended_in: attempt
                .calls
                .iter()
                .filter(|call| is_unanswered(call))
                .map(|call| call.number)
                .collect(),
        })
    }

    pub(super) fn unrecorded(&self) -> Vec<u32> {
        locked(&self.unrecorded).clone()
    }

    /// By its bytes, by its key; of what was redacted, a read by its place: its bytes are not in the record.
    fn is_same(&self, then: &Asked, now: &Asked) -> bool {
        let is_place = then.method == now.method && then.place == now.place;
        let is_read = self.is_redacted && is_safe_method(&now.method);
        then.digest == now.digest || (is_place && (is_read || (now.key.is_some() && then.key == now.key)))
    }
}

impl World for FromRecord {
    fn answer(&self, call: &Departed) -> Result<Arrived, String> {
        let mut answers = locked(&self.answers);
        let Some(at) = answers.iter().position(|answer| self.is_same(&answer.asked, &call.asked)) else {
            drop(answers);
            if self.ended_in.contains(&call.number) {
                return Err(ended_in(call));
            }
            locked(&self.unrecorded).push(call.number);
            return Ok(self.otherwise.clone().into());
        };
        match answers.remove(at).said {
            Some((said, body, took)) => Ok(Arrived { said, body, took }),
            None => Err(ended_in(call)),
        }
    }
}

fn is_unanswered(call: &CallRecord) -> bool {
    call.effect.is_some() && call.error.as_deref() == Some(UNANSWERED)
}

fn ended_in(call: &Departed) -> String {
    let Departed { number, asked, .. } = call;
    format!(
        "the record ends here: the attempt ended in call {number}, {} {}, without an answer",
        asked.method, asked.place
    )
}
