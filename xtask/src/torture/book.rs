//! Book: the three lists of a run, and what must be true of them together. No process, no socket, no clock.
//!
//! What the sender was answered is noted by the senders, what the receivers got by the receivers, and what the
//! ledger says is read after every start. The rules:
//!
//! - What was answered 2xx is in the ledger, once, under one place, for ever.
//! - What nobody sent, or sent with a wrong signature, is not.
//! - Each delivery ends in `done`, and its receiver was called. After that it is never called again.
//! - An attempt is called once. A second call of a delivery that got its 2xx comes from a later life of the daemon,
//!   and the ledger says that the earlier attempt never ended.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Handlers, each with a subscription of the same name and a receiver of its own.
pub(super) const HANDLERS: [&str; 2] = ["a", "b"];

/// A difference between the lists, in words.
pub(super) type Difference = String;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// By every handler.
    ByAll,
    ByNobody,
}

/// A call of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call {
    attempt: u32,
    /// Of the daemon: lives are counted from 1.
    life: u32,
    was_taken: bool,
}

#[derive(Debug, Default)]
struct Delivery {
    calls: Vec<Call>,
    /// The last attempt that was seen when the ledger said that it is done; 0: it has not said so.
    ended_with: u32,
}

#[derive(Debug)]
struct Event {
    wanted: Wanted,
    answered: bool,
    sent_at_ms: u64,
    /// Where the ledger says that it lies; empty: not seen there.
    place: Box<str>,
    deliveries: [Delivery; HANDLERS.len()],
}

impl Event {
    fn has_ended(&self) -> bool {
        !self.place.is_empty()
            && (self.wanted == Wanted::ByNobody || self.deliveries.iter().all(|d| d.ended_with > 0))
    }

    fn is_owed(&self) -> bool {
        let was_taken = |d: &Delivery| d.ended_with > 0 || d.calls.iter().any(|call| call.was_taken);
        self.answered && self.wanted == Wanted::ByAll && !self.deliveries.iter().all(was_taken)
    }
}

/// What happened, in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) answers: u64,
    pub(super) copies_answered: u64,
    pub(super) forged_refused: u64,
    pub(super) busy: u64,
    pub(super) calls: u64,
    pub(super) calls_refused: u64,
    pub(super) calls_repeated: u64,
    pub(super) compared: u64,
    /// Found in the ledger before they were ever answered: the answer was lost, which it may.
    pub(super) kept_unanswered: u64,
    pub(super) parked: u64,
}

#[derive(Default)]
pub(super) struct Book {
    events: Vec<Event>,
    /// Those that are not both answered and ended: all that is still looked at.
    unsettled: BTreeSet<usize>,
    /// Sent and not answered by a life that is over: a provider sends them again.
    unanswered: Vec<usize>,
    owed: usize,
    /// Being sent now, as often as they are.
    in_flight: Vec<usize>,
    repeated: Vec<Repeated>,
    pub(super) figures: Figures,
    difference: Option<Difference>,
}

impl Book {
    /// The first difference that was found.
    pub(super) fn difference(&self) -> Option<&Difference> {
        self.difference.as_ref()
    }

    pub(super) fn differs(&mut self, how: impl Into<Difference>) {
        self.difference.get_or_insert_with(|| how.into());
    }

    // === the sender's list ===

    pub(super) fn new_event(&mut self, wanted: Wanted, now_ms: u64) -> usize {
        let number = self.events.len();
        self.events.push(Event {
            wanted,
            answered: false,
            sent_at_ms: now_ms,
            place: "".into(),
            deliveries: Default::default(),
        });
        self.unsettled.insert(number);
        number
    }

    pub(super) fn wanted(&self, number: usize) -> Wanted {
        self.events[number].wanted
    }

    pub(super) fn sending(&mut self, number: usize) {
        self.in_flight.push(number);
    }

    /// `status`: None where the connection ended without an answer.
    pub(super) fn sent(&mut self, number: usize, status: Option<u16>) {
        let at = self.in_flight.iter().position(|in_flight| *in_flight == number);
        self.in_flight.swap_remove(at.expect("it was noted when it was sent"));
        let event = &mut self.events[number];
        match status {
            Some(200..300) if event.answered => self.figures.copies_answered += 1,
            Some(200..300) => {
                event.answered = true;
                self.figures.answers += 1;
                if event.is_owed() {
                    self.owed += 1;
                }
            }
            // Nothing was kept, or nobody knows: the sender comes back.
            Some(503) | None => {
                self.figures.busy += u64::from(status.is_some());
                if !event.answered {
                    self.unanswered.push(number);
                }
            }
            Some(other) => self.differs(format!("{} is genuine and was answered {other}", id(number))),
        }
        self.settle(number);
    }

    pub(super) fn forged(&mut self, status: Option<u16>) {
        match status {
            Some(401) => self.figures.forged_refused += 1,
            Some(503) | None => {}
            Some(other) => self.differs(format!("an event with a wrong signature was answered {other}")),
        }
    }

    pub(super) fn take_unanswered(&mut self) -> Option<usize> {
        self.unanswered.pop()
    }

    pub(super) fn in_flight(&self) -> &[usize] {
        &self.in_flight
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Answered, and not yet taken by every receiver.
    pub(super) fn owed(&self) -> usize {
        self.owed
    }

    // === the receivers' list ===

    /// Notes a call before it is answered. `was_taken`: it is going to be answered 2xx.
    pub(super) fn called(&mut self, handler: usize, event: &str, call: (u32, u32), was_taken: bool) {
        let (attempt, life) = call;
        let (name, call) = (HANDLERS[handler], Call { attempt, life, was_taken });
        let number = number(event).filter(|number| *number < self.events.len());
        let Some(number) = number.filter(|number| self.events[*number].wanted == Wanted::ByAll) else {
            return self
                .differs(format!("`{name}` was called for `{event}`, which it should never have got"));
        };
        self.figures.calls += 1;
        self.figures.calls_refused += u64::from(!was_taken);
        let (was_owed, delivery) =
            (self.events[number].is_owed(), &mut self.events[number].deliveries[handler]);
        let wrong = wrong_about(delivery, call);
        if delivery.ended_with == 0 {
            self.figures.calls_repeated += u64::from(delivery.calls.iter().any(|c| c.was_taken));
            delivery.calls.push(call);
        }
        if was_owed && !self.events[number].is_owed() {
            self.owed -= 1;
        }
        if let Some(wrong) = wrong {
            self.differs(format!(
                "`{name}` was called for {event} in attempt {attempt} of life {life}: {wrong}"
            ));
        }
    }

    // === the ledger's list ===

    /// From when on the ledger has to be read.
    pub(super) fn oldest_unsettled_ms(&self) -> Option<u64> {
        self.unsettled.iter().map(|number| self.events[*number].sent_at_ms).min()
    }

    /// One page of `/events`, wherever it begins.
    pub(super) fn listed(&mut self, rows: &[Value]) {
        for row in rows {
            self.figures.compared += 1;
            if let Err(difference) = self.row(row) {
                self.differs(difference);
            }
        }
    }

    fn row(&mut self, row: &Value) -> Result<(), Difference> {
        let (listed, place) = (text(row, "id"), text(row, "event"));
        let number = number(listed).filter(|number| *number < self.events.len());
        let Some(number) = number else {
            return Err(format!("the ledger has `{listed}`, which no sender sent with a good signature"));
        };
        let event = &mut self.events[number];
        if event.place.is_empty() {
            event.place = place.into();
            self.figures.kept_unanswered += u64::from(!event.answered);
        } else if &*event.place != place {
            return Err(format!("{listed} is in the ledger twice: as {} and as {place}", event.place));
        }
        let deliveries = row["deliveries"].as_array().map_or(&[][..], Vec::as_slice);
        let count = if event.wanted == Wanted::ByAll { HANDLERS.len() } else { 0 };
        if deliveries.len() != count {
            return Err(format!("{listed} has {} deliveries and not {count}", deliveries.len()));
        }
        for delivery in deliveries {
            let name = text(delivery, "handler");
            let handler = HANDLERS.iter().position(|handler| *handler == name);
            let handler = handler.ok_or_else(|| format!("{listed} has a delivery for `{name}`"))?;
            let taken = event.deliveries[handler]
                .listed(text(delivery, "status"))
                .map_err(|wrong| format!("the delivery of {listed} to `{name}` {wrong}"))?;
            if taken.len() > 1 {
                self.repeated.push(Repeated { event: place.to_owned(), handler: HANDLERS[handler], taken });
            }
        }
        self.settle(number);
        Ok(())
    }

    /// After a whole reading: what was answered and has not been seen in any is lost.
    pub(super) fn read_whole(&mut self) {
        let lost = |number: &&usize| {
            let event = &self.events[**number];
            event.answered && event.place.is_empty()
        };
        if let Some(lost) = self.unsettled.iter().find(lost).copied() {
            self.differs(format!("{} was answered 200 and is not in the ledger", id(lost)));
        }
    }

    /// What has not ended although everything had time to: None, once all has.
    pub(super) fn unended(&self) -> Option<String> {
        let is_open = |number: &&usize| {
            let event = &self.events[**number];
            !event.place.is_empty() && !event.has_ended()
        };
        self.unsettled.iter().find(is_open).map(|number| {
            let event = &self.events[*number];
            format!("{} ({}) has a delivery that has not ended", id(*number), event.place)
        })
    }

    /// Events in the ledger that every handler wants: so often did each add one to its counter.
    pub(super) fn wanted_in_ledger(&self) -> u64 {
        self.events.iter().filter(|e| e.wanted == Wanted::ByAll && !e.place.is_empty()).count() as u64
    }

    // === repeated calls ===

    /// Deliveries that are done and were taken more than once: their history is to be asked.
    pub(super) fn take_repeated(&mut self) -> Vec<Repeated> {
        std::mem::take(&mut self.repeated)
    }

    /// Nothing more is asked of an event that is answered and ended; only its last attempts are kept.
    fn settle(&mut self, number: usize) {
        let event = &mut self.events[number];
        if event.answered && event.has_ended() && self.unsettled.remove(&number) {
            for delivery in &mut event.deliveries {
                delivery.calls = Vec::new();
            }
        }
    }
}

/// A delivery whose receiver said yes more than once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repeated {
    pub(super) event: String,
    pub(super) handler: &'static str,
    pub(super) taken: BTreeSet<u32>,
}

impl Repeated {
    /// `history`: what `/deliveries/{id}` says of it. All but the last of the attempts that were taken must have
    /// ended with the daemon, and so must the last one until its delivery is done.
    pub(super) fn judge(&self, history: &Value) -> Result<(), Difference> {
        let numbers = |list: &str| -> BTreeMap<u32, &Value> {
            let rows = history[list].as_array().map_or(&[][..], Vec::as_slice);
            rows.iter().filter_map(|row| Some((u32::try_from(row["number"].as_u64()?).ok()?, row))).collect()
        };
        let ended = numbers("attempts");
        let done =
            ended.iter().filter(|(_, attempt)| attempt["outcome"] == "done").map(|(number, _)| *number);
        let done: Vec<u32> = done.collect();
        let last = self.taken.last();
        match done.as_slice() {
            [] => Ok(()),
            [one] if Some(one) == last => Ok(()),
            _ => Err(format!(
                "{} was carried to `{}` in attempts {:?}, and the ledger says that {done:?} were done",
                self.event, self.handler, self.taken
            )),
        }
    }
}

impl Delivery {
    /// The attempts that were taken, when it is seen as done for the first time; else none.
    fn listed(&mut self, status: &str) -> Result<BTreeSet<u32>, Difference> {
        match status {
            "done" if self.ended_with > 0 => Ok(BTreeSet::new()),
            "done" => {
                let taken = self.calls.iter().filter(|call| call.was_taken);
                let taken: BTreeSet<u32> = taken.map(|call| call.attempt).collect();
                if taken.is_empty() {
                    return Err("is done, and its receiver never said yes".to_owned());
                }
                self.ended_with = self.calls.iter().map(|call| call.attempt).max().unwrap_or_default();
                Ok(taken)
            }
            "open" | "parked" if self.ended_with == 0 => Ok(BTreeSet::new()),
            "open" | "parked" => Err(format!("was done and is {status}")),
            other => Err(format!("is {other}")),
        }
    }
}

fn wrong_about(delivery: &Delivery, call: Call) -> Option<String> {
    if delivery.ended_with > 0 && call.attempt > delivery.ended_with {
        return Some(format!("it was done after attempt {}", delivery.ended_with));
    }
    if let Some(same) = delivery.calls.iter().find(|same| same.attempt == call.attempt) {
        return Some(format!("that attempt called it in life {} already", same.life));
    }
    let taken = delivery.calls.iter().find(|taken| taken.was_taken && taken.life >= call.life);
    taken.map(|taken| {
        format!("attempt {} of life {} was taken, and nobody killed it", taken.attempt, taken.life)
    })
}

pub(super) fn id(number: usize) -> String {
    format!("evt_{number:08}")
}

fn number(id: &str) -> Option<usize> {
    id.strip_prefix("evt_").filter(|digits| digits.len() == 8)?.parse().ok()
}

fn text<'v>(row: &'v Value, key: &str) -> &'v str {
    row[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(number: usize, place: &str, statuses: [&str; 2]) -> Value {
        let deliveries: Vec<Value> =
            HANDLERS.iter().zip(statuses).map(|(h, s)| json!({"handler": h, "status": s})).collect();
        json!({"id": id(number), "event": place, "deliveries": deliveries})
    }

    /// One event, sent and answered.
    fn answered() -> Book {
        let mut book = Book::default();
        let number = book.new_event(Wanted::ByAll, 1);
        book.sending(number);
        book.sent(number, Some(200));
        book
    }

    /// The same, taken by both receivers in attempt 1 of life 1, and done.
    fn done() -> Book {
        let mut book = answered();
        for handler in 0..2 {
            book.called(handler, &id(0), (1, 1), true);
        }
        book.listed(&[row(0, "e1", ["done", "done"])]);
        book.read_whole();
        book
    }

    fn says(book: &Book, words: &str) {
        let difference = book.difference().unwrap_or_else(|| panic!("nothing differs, and should: {words}"));
        assert!(difference.contains(words), "{difference}");
    }

    #[test]
    fn what_went_well_differs_in_nothing() {
        let mut book = done();
        assert_eq!((book.difference(), book.unended(), book.owed()), (None, None, 0));
        assert_eq!(book.oldest_unsettled_ms(), None);
        // A late copy, and the same rows again.
        book.sending(0);
        book.sent(0, Some(200));
        book.listed(&[row(0, "e1", ["done", "done"])]);
        assert_eq!(book.difference(), None);
        assert_eq!((book.figures.answers, book.figures.copies_answered, book.figures.calls), (1, 1, 2));
    }

    #[test]
    fn an_answered_event_that_is_not_there_is_lost() {
        let mut book = answered();
        book.read_whole();
        says(&book, "evt_00000000 was answered 200 and is not in the ledger");
    }

    #[test]
    fn an_unanswered_event_may_be_there_or_not_and_is_sent_again() {
        let mut book = Book::default();
        for status in [None, Some(503)] {
            let number = book.new_event(Wanted::ByNobody, 1);
            book.sending(number);
            book.sent(number, status);
        }
        book.listed(&[json!({"id": id(0), "event": "e1", "deliveries": []})]);
        book.read_whole();
        assert_eq!((book.difference(), book.figures.kept_unanswered), (None, 1));
        assert_eq!((book.take_unanswered(), book.take_unanswered()), (Some(1), Some(0)));
    }

    #[test]
    fn an_event_that_is_there_twice_or_that_nobody_sent_differs() {
        let mut book = done();
        book.listed(&[row(0, "e2", ["open", "open"])]);
        says(&book, "is in the ledger twice");
        for id in ["evt_00000007", "forged_1", "evt_7"] {
            let mut book = done();
            book.listed(&[json!({"id": id, "event": "e9", "deliveries": []})]);
            says(&book, "which no sender sent");
        }
    }

    #[test]
    fn a_delivery_is_done_only_where_its_receiver_said_yes_and_stays_so() {
        let mut book = answered();
        book.called(0, &id(0), (1, 1), true);
        book.called(1, &id(0), (1, 1), false);
        assert_eq!(book.owed(), 1);
        book.listed(&[row(0, "e1", ["done", "open"])]);
        assert_eq!(book.difference(), None);
        assert!(book.unended().is_some());
        book.listed(&[row(0, "e1", ["done", "done"])]);
        says(&book, "its receiver never said yes");
        for status in ["open", "parked", "dead", "held", "cancelled"] {
            let mut book = done();
            book.listed(&[row(0, "e1", ["done", status])]);
            says(&book, status);
        }
    }

    #[test]
    fn nothing_is_called_after_its_end_nor_twice_in_one_life_nor_twice_in_one_attempt() {
        let mut book = done();
        book.called(0, &id(0), (2, 2), true);
        says(&book, "it was done after attempt 1");

        let mut book = answered();
        book.called(0, &id(0), (1, 1), true);
        book.called(0, &id(0), (2, 1), true);
        says(&book, "nobody killed it");

        let mut book = answered();
        book.called(0, &id(0), (1, 1), false);
        book.called(0, &id(0), (1, 2), true);
        says(&book, "called it in life 1 already");

        let mut book = answered();
        book.called(0, "evt_00000001", (1, 1), true);
        says(&book, "should never have got");
    }

    #[test]
    fn a_call_may_repeat_over_a_kill_where_the_ledger_says_that_it_never_ended() {
        let mut book = answered();
        book.called(0, &id(0), (1, 1), true);
        book.called(0, &id(0), (2, 2), true);
        book.listed(&[row(0, "e1", ["open", "open"])]);
        assert_eq!((book.difference(), book.figures.calls_repeated), (None, 1));
        assert_eq!(book.take_repeated(), [], "it is asked about once it is done");
        book.listed(&[row(0, "e1", ["done", "open"])]);
        let repeated = book.take_repeated();
        assert_eq!(repeated, [Repeated { event: "e1".into(), handler: "a", taken: [1, 2].into() }]);
        let done = |number: u32| json!({"number": number, "outcome": "done"});
        let interrupted = json!([{"number": 1}]);
        let judge =
            |attempts: Value| repeated[0].judge(&json!({"attempts": attempts, "interrupted": interrupted}));
        judge(json!([done(2)])).unwrap();
        judge(json!([])).unwrap();
        assert!(judge(json!([done(1), done(2)])).unwrap_err().contains("[1, 2] were done"));
        assert!(judge(json!([done(1)])).is_err(), "it was done, and was called again");
    }

    #[test]
    fn a_forged_event_must_be_refused_and_a_genuine_one_must_not() {
        let mut book = Book::default();
        book.forged(Some(401));
        book.forged(None);
        assert_eq!((book.difference(), book.figures.forged_refused), (None, 1));
        book.forged(Some(200));
        says(&book, "a wrong signature was answered 200");
        let mut book = Book::default();
        let number = book.new_event(Wanted::ByNobody, 1);
        book.sending(number);
        book.sent(number, Some(401));
        says(&book, "is genuine and was answered 401");
    }
}
