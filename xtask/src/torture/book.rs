//! Book: the three lists of a run, and what must be true of them together. No process, no socket, no clock.
//!
//! What the sender was answered is noted by the senders, what the receivers got by the receivers, and what the
//! ledger says is read after every start. The rules:
//!
//! - What was answered 2xx is in the ledger, once, under one place, for ever.
//! - What nobody sent, or sent with a wrong signature, is not.
//! - Each delivery ends in `done`, and its receiver said yes.
//! - A receiver that said yes is not asked again, save where the history names the call that may come twice: an
//!   attempt sent it after one that nobody knew the end of, or ended with the daemon itself.
//! - All calls of a delivery have one idempotency key: a receiver that keeps keys would see each once.

use std::collections::BTreeSet;

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

#[derive(Debug, Default)]
struct Delivery {
    /// Of its first call.
    key: Box<str>,
    /// How often its receiver said yes.
    taken: u32,
    has_ended: bool,
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
            && (self.wanted == Wanted::ByNobody || self.deliveries.iter().all(|d| d.has_ended))
    }

    fn is_owed(&self) -> bool {
        self.answered && self.wanted == Wanted::ByAll && self.deliveries.iter().any(|d| d.taken == 0)
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
    pub(super) fn called(&mut self, handler: usize, event: &str, key: &str, was_taken: bool) {
        let name = HANDLERS[handler];
        let number = number(event).filter(|number| *number < self.events.len());
        let Some(number) = number.filter(|number| self.events[*number].wanted == Wanted::ByAll) else {
            return self
                .differs(format!("`{name}` was called for `{event}`, which it should never have got"));
        };
        self.figures.calls += 1;
        self.figures.calls_refused += u64::from(!was_taken);
        let event = &mut self.events[number];
        let was_owed = event.is_owed();
        let delivery = &mut event.deliveries[handler];
        if delivery.key.is_empty() {
            delivery.key = key.into();
        }
        let is_other = key.is_empty() || *delivery.key != *key;
        if was_taken {
            self.figures.calls_repeated += u64::from(delivery.taken > 0);
            delivery.taken += 1;
        }
        // A call of a life that is over, heard late, or one that should not be: the history tells them apart.
        if was_taken && delivery.has_ended {
            let (event, taken) = (event.place.to_string(), delivery.taken);
            self.repeated.push(Repeated { event, handler: name, taken });
        }
        if was_owed && !self.events[number].is_owed() {
            self.owed -= 1;
        }
        if is_other {
            self.differs(format!(
                "`{name}` was called for {} with the key `{key}`, and before with another",
                id(number)
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
            if taken > 1 {
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

    /// Nothing more is asked of an event that is answered and ended.
    fn settle(&mut self, number: usize) {
        let event = &self.events[number];
        if event.answered && event.has_ended() {
            self.unsettled.remove(&number);
        }
    }
}

/// A delivery whose receiver said yes more than once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repeated {
    pub(super) event: String,
    pub(super) handler: &'static str,
    taken: u32,
}

impl Repeated {
    /// `history`: what `/deliveries/{id}` says of it. Every yes but the first must come from an attempt that says it
    /// sent a call after one that nobody knew the end of, or that ended with the daemon before it could say so.
    pub(super) fn judge(&self, history: &Value) -> Result<(), Difference> {
        let list = |name: &str| history[name].as_array().cloned().unwrap_or_default();
        let says_so = |attempt: &Value| {
            attempt["calls"]
                .as_array()
                .is_some_and(|calls| calls.iter().any(|call| call["after_unknown"] == true))
        };
        let attempts = list("attempts");
        let done = attempts.iter().filter(|attempt| attempt["outcome"] == "done").count();
        let named = attempts.iter().filter(|attempt| says_so(attempt)).count();
        // The first attempt sends nothing again.
        let cut_off = list("interrupted").iter().filter(|attempt| attempt["number"] != 1).count();
        if done > 1 || self.taken as usize > 1 + named + cut_off {
            return Err(format!(
                "{} was taken by `{}` {} times, and its history names {named} calls that may come twice and {cut_off} \
                 attempts that were cut off ({done} done)",
                self.event, self.handler, self.taken
            ));
        }
        Ok(())
    }
}

impl Delivery {
    /// How often it was taken, when it is seen as done for the first time; else 0.
    fn listed(&mut self, status: &str) -> Result<u32, Difference> {
        match status {
            "done" if self.has_ended => Ok(0),
            "done" if self.taken == 0 => Err("is done, and its receiver never said yes".to_owned()),
            "done" => {
                self.has_ended = true;
                Ok(self.taken)
            }
            "open" | "parked" if !self.has_ended => Ok(0),
            "open" | "parked" => Err(format!("was done and is {status}")),
            other => Err(format!("is {other}")),
        }
    }
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
            book.called(handler, &id(0), "k", true);
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
        book.called(0, &id(0), "k", true);
        book.called(1, &id(0), "l", false);
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
    fn a_call_is_for_whoever_wants_it_and_keeps_its_key() {
        let mut book = answered();
        book.called(0, &id(0), "k", false);
        book.called(0, &id(0), "k", true);
        assert_eq!((book.difference(), book.figures.calls_repeated), (None, 0), "a no is no yes");
        for key in ["l", ""] {
            let mut book = answered();
            book.called(0, &id(0), "k", false);
            book.called(0, &id(0), key, true);
            says(&book, "with another");
        }
        let mut book = answered();
        book.called(0, "evt_00000001", "k", true);
        says(&book, "should never have got");
    }

    #[test]
    fn a_call_may_come_twice_only_where_the_history_names_it() {
        let mut book = answered();
        book.called(0, &id(0), "k", true);
        book.called(0, &id(0), "k", true);
        book.listed(&[row(0, "e1", ["open", "open"])]);
        assert_eq!((book.difference(), book.figures.calls_repeated), (None, 1));
        assert_eq!(book.take_repeated(), [], "it is asked about once it is done");
        book.listed(&[row(0, "e1", ["done", "open"])]);
        let repeated = book.take_repeated();
        assert_eq!(repeated, [Repeated { event: "e1".into(), handler: "a", taken: 2 }]);
        let attempt = |number: u32, outcome: &str, again: bool| json!({"number": number, "outcome": outcome, "calls": [{"after_unknown": again}]});
        let judge = |attempts: Value, interrupted: Value| {
            repeated[0].judge(&json!({"attempts": attempts, "interrupted": interrupted}))
        };
        judge(json!([attempt(2, "done", true)]), json!([{"number": 1}])).unwrap();
        judge(json!([attempt(3, "done", false)]), json!([{"number": 1}, {"number": 2}])).unwrap();
        let unnamed = judge(json!([attempt(2, "done", false)]), json!([{"number": 1}]));
        assert!(unnamed.unwrap_err().contains("names 0 calls"));
        let twice = judge(json!([attempt(1, "done", false), attempt(2, "done", true)]), json!([]));
        assert!(twice.unwrap_err().contains("2 done"));
    }

    #[test]
    fn a_call_after_the_end_is_asked_about() {
        let mut book = done();
        book.called(0, &id(0), "k", true);
        let repeated = book.take_repeated();
        assert_eq!(repeated, [Repeated { event: "e1".into(), handler: "a", taken: 2 }]);
        assert!(repeated[0].judge(&json!({"attempts": [{"number": 1, "outcome": "done"}]})).is_err());
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
