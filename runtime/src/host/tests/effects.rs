//! Effects: attempts of one delivery, one after the other, with what they did kept in memory as the ledger keeps it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::rig::*;
use crate::host::{Before, Called, EffectFuture, Effects, Event, Halt, Handler, OnChanged, OnUnknown, Wire};
use crate::words::attempt::{ErrorKind, Outcome};
use crate::words::effect::{Entry, Resolution, Ruled, Waiting};
use crate::words::time::Millis;

/// What the ledger would have of one delivery.
#[derive(Clone, Default)]
pub(super) struct Book(Arc<Mutex<Vec<Bytes>>>);

struct Page {
    book: Book,
    attempt: u32,
    /// How many entries are still written before the store fails.
    room: Mutex<usize>,
}

impl Effects for Page {
    fn delivery(&self) -> &str {
        "1f.h"
    }

    fn root(&self) -> &str {
        "1f.h of 1790000000000"
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }

    fn started_at(&self) -> Millis {
        Millis(1_790_000_000_000 + u64::from(self.attempt) * 60_000)
    }

    fn past(&self) -> EffectFuture<'_, Before> {
        let entries = self.book.0.lock().unwrap().clone();
        let up_to = entries.len() as u64;
        Box::pin(std::future::ready(Ok(Before { entries, up_to })))
    }

    fn begin(&self) -> EffectFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn note(&self, entry: Bytes, _: bool) -> EffectFuture<'_, ()> {
        let mut room = self.room.lock().unwrap();
        if *room == 0 {
            return Box::pin(std::future::ready(Err("the disk is full".to_owned())));
        }
        *room -= 1;
        self.book.0.lock().unwrap().push(entry);
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Book {
    async fn attempt(&self, setup: impl Fn() -> Setup, attempt: u32) -> Called {
        self.attempt_with_room(setup, attempt, usize::MAX).await
    }

    pub(super) async fn attempt_of(&self, handler: &Handler, attempt: u32) -> Called {
        let page = Page { book: self.clone(), attempt, room: Mutex::new(usize::MAX) };
        let event = Event { attempt, ..event() };
        handler.call(event, Arc::new(Memory::default()), Wire::Live(Arc::new(page))).await
    }

    async fn attempt_with_room(&self, setup: impl Fn() -> Setup, attempt: u32, room: usize) -> Called {
        let page = Page { book: self.clone(), attempt, room: Mutex::new(room) };
        let event = Event { attempt, ..event() };
        setup().bind().call(event, Arc::new(Memory::default()), Wire::Live(Arc::new(page))).await
    }

    /// The operator's word on what the last attempt stopped at.
    fn resolve(&self, resolution: Resolution) -> Waiting {
        let last = self.0.lock().unwrap().last().unwrap().clone();
        let Ok((Entry::Waiting(on), _)) = Entry::unframed(&last) else { panic!("it waits for nothing") };
        self.0.lock().unwrap().push(Entry::Ruled(Ruled { on: on.clone(), resolution }).framed(b""));
        on
    }
}

fn script(origin: &str, lines: &[&str]) -> impl Fn() -> Setup + use<> {
    let text = lines.join("\n").replace("ORIGIN", origin);
    let origin = origin.to_owned();
    move || Setup::new("script").calling(&origin, "/").setting("script", text.clone())
}

fn to<'a>(seen: &'a [String], path: &str) -> Vec<&'a str> {
    seen.iter().filter(|text| text.contains(path)).map(String::as_str).collect()
}

fn key_of(text: &str) -> &str {
    let (_, rest) = text.split_once("idempotency-key: ").expect("the call has a key");
    rest.split([',', ']']).next().unwrap()
}

fn is_retry(called: &Called) {
    assert_eq!(failure(called).0, ErrorKind::Retry, "{called:?}");
}

fn parked(called: &Called) -> &str {
    assert_eq!(failure(called).0, ErrorKind::Uncertain);
    let Some(Halt::Park(reason)) = &called.halt else { panic!("{called:?}") };
    reason
}

#[test]
fn a_call_that_happened_is_not_made_again() {
    on_guests(async {
        let (origin, seen) = server().await;
        let lines = ["POST ORIGIN/in-turn/200/a - first", "POST ORIGIN/in-turn/500,500,500,200/b - second"];
        let (book, setup) = (Book::default(), script(&origin, &lines));
        for attempt in 1..=3 {
            is_retry(&book.attempt(&setup, attempt).await);
        }
        let done = book.attempt(&setup, 4).await;
        assert_eq!(note(&done), "200 again answer 1, 200 answer 4");
        assert!(done.calls[0].recorded && !done.calls[1].recorded);
        let seen = seen.all();
        assert_eq!(to(&seen, "/a").len(), 1);
        let b = to(&seen, "/b");
        assert_eq!(b.len(), 4);
        assert!(
            b.iter().all(|call| key_of(call) == key_of(b[0])),
            "one key as long as nothing is certain: {b:?}"
        );
        assert_ne!(key_of(b[0]), key_of(to(&seen, "/a")[0]));
    });
}

#[test]
fn a_text_with_the_time_and_a_random_number_in_it_is_the_same_text_on_a_retry() {
    on_guests(async {
        let (origin, seen) = server().await;
        let lines = [
            "SLEEP",
            "POST ORIGIN/in-turn/200/a - {now} {elapsed} {random}",
            "POST ORIGIN/in-turn/500,200/b - {random}",
            "POST ORIGIN/in-turn/200/c - {now}",
        ];
        let (book, setup) = (Book::default(), script(&origin, &lines));
        is_retry(&book.attempt(&setup, 1).await);
        let done = book.attempt(&setup, 2).await;
        assert!(note(&done).starts_with("200 again answer 1, 200 answer 2, 200 answer 1"), "{done:?}");
        let seen = seen.all();
        let (a, b, c) = (to(&seen, "/a"), to(&seen, "/b"), to(&seen, "/c"));
        assert_eq!((a.len(), b.len(), c.len()), (1, 2, 1));
        // Other bytes would be another call, with another key.
        assert_eq!(key_of(b[0]), key_of(b[1]));
        let words = |call: &str| -> Vec<u128> {
            call.rsplit("] ").next().unwrap().split(' ').map(|word| word.parse().unwrap()).collect()
        };
        let [now, elapsed, _] = words(a[0])[..] else { panic!("{a:?}") };
        let began = u128::from(1_790_000_000_000u64 + 60_000) * 1_000_000;
        assert!(now > began + 5_000_000 && now < began + 6_000_000, "5 ms of sleep and some looks: {now}");
        assert!((5_000_000..6_000_000).contains(&elapsed), "{elapsed}");
        // Behind all that happened it is the second attempt's own time.
        assert!(words(c[0])[0] >= began + 60_000 * 1_000_000, "{c:?}");
    });
}

#[test]
fn what_the_content_refuses_is_made_again_with_a_new_key() {
    on_guests(async {
        let (origin, seen) = server().await;
        let setup = script(&origin, &["POST ORIGIN/in-turn/no,no,200 - text"]);
        let book = Book::default();
        for attempt in 1..=2 {
            let called = book.attempt(&setup, attempt).await;
            is_retry(&called);
            assert!(called.calls[0].disowned);
        }
        assert_eq!(note(&book.attempt(&setup, 3).await), "200 answer 3");
        assert_eq!(note(&book.attempt(&setup, 4).await), "200 again answer 3");
        let seen = seen.all();
        let keys: std::collections::BTreeSet<&str> = seen.iter().map(|call| key_of(call)).collect();
        assert_eq!((seen.len(), keys.len()), (3, 3), "a refusal ends a key's life");
    });
}

#[test]
fn a_poll_sees_every_answer() {
    on_guests(async {
        let (origin, seen) = server().await;
        let setup = script(&origin, &["GET ORIGIN/in-turn/200 -", "GET ORIGIN/in-turn/404/b -"]);
        let book = Book::default();
        for attempt in 1..=3 {
            is_retry(&book.attempt(&setup, attempt).await);
        }
        assert_eq!(to(&seen.all(), "/in-turn/200").len(), 3);
        assert!(!seen.all()[0].contains("idempotency-key"), "a read has no key");
    });
}

#[test]
fn what_the_handler_acted_on_is_told_again() {
    on_guests(async {
        let (origin, seen) = server().await;
        let lines = [
            "GET ORIGIN/in-turn/200/read -",
            "POST? ORIGIN/in-turn/402/a - card",
            "POST ORIGIN/in-turn/200/b - invoice",
            "POST ORIGIN/in-turn/503,200/c - mail",
        ];
        let (book, setup) = (Book::default(), script(&origin, &lines));
        is_retry(&book.attempt(&setup, 1).await);
        let done = book.attempt(&setup, 2).await;
        assert_eq!(note(&done), "200 again answer 1, 402 again answer 1, 200 again answer 1, 200 answer 2");
        let seen = seen.all();
        let counts = ["/read", "/a", "/b", "/c"].map(|path| to(&seen, path).len());
        assert_eq!(counts, [1, 1, 1, 2]);
    });
}

#[test]
fn a_redirection_is_no_success() {
    on_guests(async {
        let (origin, seen) = server().await;
        let setup =
            script(&origin, &["POST? ORIGIN/in-turn/307,200 - text", "POST ORIGIN/in-turn/500/b - x"]);
        let book = Book::default();
        is_retry(&book.attempt(&setup, 1).await);
        is_retry(&book.attempt(&setup, 2).await);
        assert_eq!(to(&seen.all(), "/in-turn/307").len(), 2);
        let see_other =
            script(&origin, &["POST? ORIGIN/in-turn/303/c - text", "POST ORIGIN/in-turn/500/d - x"]);
        let book = Book::default();
        is_retry(&book.attempt(&see_other, 1).await);
        is_retry(&book.attempt(&see_other, 2).await);
        assert_eq!(to(&seen.all(), "/c").len(), 1, "303 says that it happened");
    });
}

#[test]
fn an_unknown_call_goes_again_as_it_was_or_waits_for_the_operator() {
    on_guests(async {
        let (origin, seen) = server().await;
        let lines = ["POST ORIGIN/in-turn/break,200/KEYED k text {attempt}"];
        let (book, setup) = (Book::default(), script(&origin, &lines));
        is_retry(&book.attempt(&setup, 1).await);
        let second = book.attempt(&setup, 2).await;
        assert_eq!(note(&second), "200 answer 2");
        assert!(second.calls[0].after_unknown, "the history names it");
        let calls = seen.all();
        assert!(
            calls.iter().all(|call| call.ends_with("text 1")),
            "the bytes that the key stands for: {calls:?}"
        );
        assert_eq!(key_of(&calls[0]), key_of(&calls[1]));

        for (resolution, expected) in [
            (Resolution::Happened, "200 again "),
            (Resolution::DidNot, "200 answer 2"),
            (Resolution::Send, "200 answer 2"),
        ] {
            let path = format!("/in-turn/break,200/{resolution}");
            let base = script(&origin, &[&format!("POST ORIGIN{path} - text")]);
            let setup = move || {
                let mut setup = base();
                setup.grants.effects.on_unknown = OnUnknown::Park;
                setup
            };
            let book = Book::default();
            is_retry(&book.attempt(&setup, 1).await);
            let waits = book.attempt(&setup, 2).await;
            let reason = parked(&waits);
            assert!(
                reason.starts_with(&format!("POST {origin}{path} (call 0 of attempt 1) was perhaps sent"))
                    && reason.contains("longshore deliveries resolve 1f.h"),
                "{reason}"
            );
            let again = book.attempt(&setup, 3).await;
            parked(&again);
            book.resolve(resolution);
            assert_eq!(note(&book.attempt(&setup, 4).await), expected, "{resolution}");
            let calls = seen.all();
            let calls = to(&calls, &path);
            match resolution {
                Resolution::Happened => assert_eq!(calls.len(), 1),
                Resolution::DidNot => assert_ne!(key_of(calls[0]), key_of(calls[1])),
                Resolution::Send => assert_eq!(key_of(calls[0]), key_of(calls[1])),
            }
        }
    });
}

#[test]
fn words_that_changed_wait_for_the_operator_unless_the_call_has_a_key() {
    on_guests(async {
        let (origin, seen) = server().await;
        let with = |key: &str, on_changed: OnChanged, name: &str| {
            let slack = format!("POST ORIGIN/in-turn/200/{name} {key} hello {{attempt}}");
            let crm = format!("POST ORIGIN/in-turn/500,200/{name}/crm - lead");
            let base = script(&origin, &[&slack, &crm]);
            move || {
                let mut setup = base();
                setup.grants.effects.on_changed = on_changed;
                setup
            }
        };
        let posted = |name: &str| to(&seen.all(), &format!("/in-turn/200/{name} ")).len();

        let (book, keyed) = (Book::default(), with("message", OnChanged::Park, "keyed"));
        is_retry(&book.attempt(&keyed, 1).await);
        assert_eq!(note(&book.attempt(&keyed, 2).await), "200 again answer 1, 200 answer 2");
        assert_eq!(posted("keyed"), 1);

        let (book, kept) = (Book::default(), with("-", OnChanged::Keep, "kept"));
        is_retry(&book.attempt(&kept, 1).await);
        assert_eq!(note(&book.attempt(&kept, 2).await), "200 again answer 1, 200 answer 2");
        assert_eq!(posted("kept"), 1);

        let (book, sent) = (Book::default(), with("-", OnChanged::Send, "sent"));
        is_retry(&book.attempt(&sent, 1).await);
        let called = book.attempt(&sent, 2).await;
        assert_eq!(note(&called), "200 answer 2, 200 answer 2");
        assert_eq!(posted("sent"), 2);
        let told = called.logs.iter().map(|line| line.message.as_str()).collect::<Vec<_>>().join(" ");
        assert!(told.contains("orphan: POST") && told.contains("attempt 1"), "{told}");

        for (resolution, times) in [(Resolution::Happened, 1), (Resolution::DidNot, 2), (Resolution::Send, 2)]
        {
            let name = format!("asked-{resolution}");
            let (book, asked) = (Book::default(), with("-", OnChanged::Park, &name));
            is_retry(&book.attempt(&asked, 1).await);
            let waits = book.attempt(&asked, 2).await;
            let expected =
                "(call 0 of attempt 1) happened, and call 0 of this attempt is another one to the same place";
            assert!(parked(&waits).contains(expected), "{}", parked(&waits));
            assert!(matches!(book.resolve(resolution), Waiting::Changed { effect: 0, .. }));
            // The same words as in the attempt that waited.
            assert!(matches!(book.attempt(&asked, 2).await.outcome, Outcome::Done { .. }));
            assert_eq!(posted(&name), times, "{resolution}");
        }
    });
}

/// The handler says `park`, one of its origins says otherwise; and each service has its own name for a key.
#[test]
fn an_origin_has_its_own_word_on_unknown_and_changed_calls() {
    on_guests(async {
        let ((one, seen), (two, other)) = (server().await, server().await);
        let lines = [
            format!("POST? {one}/in-turn/500,200/first - hello"),
            format!("POST {one}/in-turn/break,200/second - text"),
            format!("POST {two}/in-turn/break,200/third - text"),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let base = script(&one, &lines);
        let setup = move || {
            let mut setup = base();
            setup.grants.effects.on_unknown = OnUnknown::Park;
            setup.grants.origins[0].on_unknown = Some(OnUnknown::Resend);
            setup.grants.origins[0].key_header = Some("X-Request-Id".into());
            setup.grants.origins.push(two.as_str().into());
            setup
        };
        let book = Book::default();
        is_retry(&book.attempt(&setup, 1).await);
        is_retry(&book.attempt(&setup, 2).await);
        let waits = book.attempt(&setup, 3).await;
        let reason = parked(&waits);
        assert!(reason.contains("/third (call 2 of attempt 2) was perhaps sent"), "{reason}");
        let seen = seen.all();
        let second = to(&seen, "/second");
        assert_eq!(second.len(), 2, "sent again, as its origin says");
        assert!(
            second.iter().all(|call| call.contains("x-request-id: ") && !call.contains("idempotency-key"))
        );
        assert_eq!(other.all().len(), 1);
        assert!(other.all()[0].contains("idempotency-key: "));

        for (on_changed, times) in [(OnChanged::Send, 2), (OnChanged::Keep, 1)] {
            let (origin, seen) = server().await;
            let lines =
                ["POST ORIGIN/in-turn/200/a - hello {attempt}", "POST ORIGIN/in-turn/500,200/b - lead"];
            let base = script(&origin, &lines);
            let setup = move || {
                let mut setup = base();
                setup.grants.origins[0].on_changed = Some(on_changed);
                setup
            };
            let book = Book::default();
            is_retry(&book.attempt(&setup, 1).await);
            assert!(matches!(book.attempt(&setup, 2).await.outcome, Outcome::Done { .. }));
            assert_eq!(to(&seen.all(), "/a").len(), times, "{on_changed:?}");
        }
    });
}

#[test]
fn a_call_whose_key_has_run_out_waits_and_says_so() {
    on_guests(async {
        let (origin, seen) = server().await;
        let base = script(&origin, &["POST ORIGIN/in-turn/500,200 - text"]);
        let setup = |on_unknown: Option<OnUnknown>| {
            let base = &base;
            move || {
                let mut setup = base();
                setup.grants.origins[0].key_ttl = Some(std::time::Duration::from_secs(24 * 3600));
                setup.grants.origins[0].on_unknown = on_unknown;
                setup
            }
        };
        let book = Book::default();
        is_retry(&book.attempt(setup(None), 1).await);
        // A day goes by.
        let aged: Vec<Bytes> = book.0.lock().unwrap().iter().map(aged_by_a_day).collect();
        *book.0.lock().unwrap() = aged;
        let waits = book.attempt(setup(None), 2).await;
        let reason = parked(&waits);
        assert!(reason.contains("its idempotency key was first sent more than 86400 s ago"), "{reason}");
        assert!(reason.contains("longshore deliveries resolve 1f.h --happened"), "{reason}");
        assert_eq!(seen.all().len(), 1);
        let done = book.attempt(setup(Some(OnUnknown::Resend)), 3).await;
        assert_eq!(note(&done), "200 answer 2");
        assert!(done.calls[0].after_unknown, "the history names it");
    });
}

fn aged_by_a_day(framed: &Bytes) -> Bytes {
    let (entry, bytes) = Entry::unframed(framed).unwrap();
    let entry = match entry {
        Entry::Intent(mut intent) => {
            assert_ne!(intent.started_at.0, 0);
            intent.started_at = intent.started_at.minus(std::time::Duration::from_secs(24 * 3600));
            Entry::Intent(intent)
        }
        other => other,
    };
    entry.framed(&bytes)
}

/// What is told again is in the record already.
#[test]
fn answers_from_the_record_do_not_count_twice() {
    on_guests(async {
        let (origin, seen) = server().await;
        let calls: Vec<String> = (0..4).map(|n| format!("POST ORIGIN/in-turn/200/{n} - text")).collect();
        let mut lines: Vec<&str> = calls.iter().map(String::as_str).collect();
        lines.push("POST ORIGIN/in-turn/500,200/last - text");
        let base = script(&origin, &lines);
        let whole = Book::default();
        is_retry(&whole.attempt(&base, 1).await);
        let written: usize = whole.0.lock().unwrap().iter().map(Bytes::len).sum();
        // Room for the last call alone, and not for the four before it.
        let setup = || base().limits(|limits| limits.call_bytes = (written / 2) as u64);
        let done = whole.attempt(setup, 2).await;
        assert_eq!(note(&done).matches("again").count(), 4);
        assert_eq!(to(&seen.all(), "/last").len(), 2);
        let anew = Book::default().attempt(setup, 1).await;
        assert!(failure(&anew).2.starts_with("Error::Limit("), "{:?}", anew.outcome);
        let anew = Book::default().attempt(|| base().limits(|l| l.call_bytes = 2 * written as u64), 1).await;
        assert!(matches!(anew.outcome, Outcome::Done { .. }), "{:?}", anew.outcome);
    });
}

#[test]
fn nothing_leaves_and_nothing_is_told_that_is_not_written_down() {
    on_guests(async {
        let (origin, seen) = server().await;
        let setup = script(&origin, &["POST ORIGIN/in-turn/200 - text", "POST ORIGIN/in-turn/200/b - text"]);
        for room in 0..4 {
            let (book, before) = (Book::default(), seen.all().len());
            let called = book.attempt_with_room(&setup, 1, room).await;
            assert_eq!(called.halt, Some(Halt::Store("the disk is full".to_owned())), "{room}");
            assert_eq!(seen.all().len() - before, room.div_ceil(2), "an intent for each that left");
            let after = book.attempt(&setup, 2).await;
            let asked_again = room % 2;
            assert_eq!(usize::from(after.calls.iter().any(|call| call.after_unknown)), asked_again);
        }
        assert!(matches!(
            Book::default().attempt_with_room(&setup, 1, 4).await.outcome,
            Outcome::Done { .. }
        ));
    });
}

#[test]
fn a_call_without_an_answer_in_time_is_unknown() {
    on_guests(async {
        let (origin, seen) = server().await;
        let base = script(&origin, &["POST ORIGIN/in-turn/hang,200 - text"]);
        let setup = move || base().limits(|limits| limits.timeout = std::time::Duration::from_millis(400));
        let book = Book::default();
        let first = book.attempt(&setup, 1).await;
        assert!(matches!(first.outcome, Outcome::Failed { .. }));
        let second = book.attempt(&setup, 2).await;
        assert_eq!(note(&second), "200 answer 2");
        assert!(second.calls[0].after_unknown);
        assert_eq!(key_of(&seen.all()[0]), key_of(&seen.all()[1]));
    });
}

#[test]
fn equal_calls_are_told_apart_by_their_order_and_a_key_is_one_call() {
    on_guests(async {
        let (origin, seen) = server().await;
        let lines = [
            "POST ORIGIN/in-turn/200/x - same",
            "POST ORIGIN/in-turn/200/x - same",
            "POST ORIGIN/in-turn/200/y k one",
            "POST ORIGIN/in-turn/200/y k two",
            "POST ORIGIN/in-turn/500,200/z - end",
        ];
        let (book, setup) = (Book::default(), script(&origin, &lines));
        is_retry(&book.attempt(&setup, 1).await);
        let note_of_second = book.attempt(&setup, 2).await;
        assert_eq!(
            note(&note_of_second),
            "200 again answer 1, 200 again answer 2, 200 again answer 1, 200 again answer 1, 200 answer 2"
        );
        let seen = seen.all();
        assert_eq!(["/x", "/y"].map(|path| to(&seen, path).len()), [2, 1]);
    });
}
