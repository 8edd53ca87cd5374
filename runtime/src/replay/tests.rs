//! Replay, with the plugins that are shipped and one of the tests: what is run again is the same, byte for byte.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::host::{
    Before, BoundSecret, CallLimits, EffectFuture, EffectPolicy, Effects, Engine, Grants, Options,
};
use crate::store::Status;
use crate::words::attempt::Outcome;
use crate::words::effect::Entry;
use crate::words::event::{DeliveryId, EventRef, Name};
use crate::words::secret::Secret;
use crate::words::shelf::ShelfRead;
use crate::words::time::Millis;

const RERUNS: usize = 1000;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("plugins").join(name)
}

fn engine() -> Engine {
    Engine::new(Options { cache: None, instances_max: 4 }).unwrap()
}

fn grants(settings: serde_json::Value, secret: (&str, &str), origin: &str) -> Grants {
    let (name, value) = secret;
    let bound = BoundSecret { value: Secret::new(value), to: vec![origin.to_owned()] };
    Grants {
        name: Name::new("h").unwrap(),
        settings: settings.as_object().cloned().unwrap(),
        secrets: std::collections::BTreeMap::from([(name.to_owned(), bound)]),
        origins: vec![origin.into()],
        networks: Vec::new(),
        limits: CallLimits::default(),
        effects: EffectPolicy::default(),
    }
}

/// The ledger's part: entries at positions 1, 2, …
struct Book {
    attempt: u32,
    entries: Mutex<Vec<Bytes>>,
}

impl Effects for Book {
    fn delivery(&self) -> &str {
        "1f.s"
    }

    fn root(&self) -> &str {
        "1f.s\nsendpilot\n1790000000000\nevt_1"
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }

    fn started_at(&self) -> Millis {
        Millis(1_790_000_100_000 + u64::from(self.attempt) * 60_000)
    }

    fn past(&self) -> EffectFuture<'_, Before> {
        let entries = self.entries.lock().unwrap().clone();
        let up_to = entries.len() as u64;
        Box::pin(std::future::ready(Ok(Before { entries, up_to })))
    }

    fn begin(&self) -> EffectFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn note(&self, entry: Bytes, _: bool) -> EffectFuture<'_, ()> {
        self.entries.lock().unwrap().push(entry);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A shelf on which everything has a value.
struct Full;

impl crate::host::Shelf for Full {
    fn get<'a>(&'a self, key: &'a str) -> crate::host::ShelfFuture<'a, ShelfRead> {
        let value = (!key.is_empty()).then(|| Bytes::from_static(b"41"));
        Box::pin(std::future::ready(Ok(ShelfRead { value, version: 7 })))
    }

    fn list<'a>(
        &'a self,
        _: &'a str,
        _: Option<&'a str>,
        _: u32,
    ) -> crate::host::ShelfFuture<'a, Vec<String>> {
        Box::pin(std::future::ready(Ok(vec!["a".to_owned()])))
    }

    fn bytes(&self) -> crate::host::ShelfFuture<'_, u64> {
        Box::pin(std::future::ready(Ok(5)))
    }
}

fn event(body: &serde_json::Value) -> EventLine {
    EventLine {
        id: "evt_1".into(),
        event_type: "message.received".into(),
        source: "sendpilot".into(),
        received_at: Millis(1_790_000_000_000),
        signed_at: None,
        query: None,
        headers: vec![("content-type".into(), "application/json".into())],
        attributes: vec![("subscription".into(), "s".into())],
        body: Blob::Text(body.to_string()),
    }
}

/// Attempts one after another in a simulated world, written down as the ledger does it.
fn recorded(handler: &Handler, event: &EventLine, worlds: &[&[DryAnswer]]) -> Record {
    let id =
        DeliveryId { event: EventRef { position: 0x1f, ordinal: 0 }, subscription: Name::new("s").unwrap() };
    let mut record = Record {
        format: FORMAT.into(),
        delivery: id.clone(),
        handler: Name::new("h").unwrap(),
        status: Status::Open,
        event: event.clone(),
        attempts: Vec::new(),
        interrupted: Vec::new(),
        rounds: vec![0],
        effects: Vec::new(),
        setups: Default::default(),
        plugins: Default::default(),
        redacted: Vec::new(),
    };
    let mut entries = Vec::new();
    for (attempt, answers) in (1..).zip(worlds) {
        let book = Arc::new(Book { attempt, entries: Mutex::new(entries) });
        let Wire::Simulated(_, world) = Wire::dry(answers.to_vec()) else { unreachable!("it is simulated") };
        let wire = Wire::Simulated(book.clone(), world);
        let guest_event = event.guest_event(&id, attempt);
        let called = on_guests(handler.call(guest_event, Arc::new(Full), wire));
        record.attempts.push(Attempt {
            number: attempt,
            started_at: book.started_at(),
            took_ms: 1,
            outcome: called.outcome,
            calls: called.calls,
            logs: called.logs,
            plugin: handler.plugin().digest(),
            memory_bytes: called.memory_bytes,
            tape: called.tape,
        });
        entries = book.entries.lock().unwrap().clone();
    }
    for (at, framed) in (1..).zip(&entries) {
        let (entry, bytes) = Entry::unframed(framed).unwrap();
        record.effects.push(record::EffectLine { at, entry, bytes: Blob::of(&bytes) });
    }
    record.setups.insert(handler.setup().digest(), handler.setup().clone());
    Record::read(record.to_json().as_bytes()).unwrap()
}

fn on_guests<T>(run: impl Future<Output = T>) -> T {
    crate::host::runtime(2).unwrap().block_on(run)
}

fn bind(engine: &Engine, file: &Path, grants: Grants) -> Handler {
    Handler::bind(engine, engine.load(file).unwrap(), grants).ok().unwrap().0
}

fn status(status: u16, body: &'static str) -> DryAnswer {
    DryAnswer { status, body: Bytes::from_static(body.as_bytes()) }
}

fn lead() -> serde_json::Value {
    json!({"eventId": "evt_1", "eventType": "message.received", "data": {
        "linkedinUrl": "https://www.linkedin.com/in/jane-doe", "reply": "Tell me more", "message": "Tell me more",
        "leadId": "lead-1", "campaignId": "c-1", "workspaceId": "w-1", "email": "jane@example.com"}})
}

#[test]
fn every_shipped_plugin_makes_the_same_calls_a_thousand_times() {
    let engine = engine();
    let slack = grants(
        json!({"template": "*{/data/linkedinUrl}* replied"}),
        ("webhook", "https://hooks.slack.com/services/T0/B0/XXXXXXXX"),
        "https://hooks.slack.com",
    );
    let crm = grants(json!({}), ("token", "pat-na1-0000-1111"), "https://api.hubapi.com");
    let answers: [&[DryAnswer]; 2] = [
        &[status(200, r#"{"results":[{"id":"501"}],"id":"501","total":1}"#), status(503, "busy")],
        &[status(200, r#"{"results":[{"id":"501"}],"id":"501","total":1}"#)],
    ];
    for (file, grants) in [("slack_notify.wasm", slack), ("crm_sync.wasm", crm)] {
        let handler = bind(&engine, &shipped(file), grants);
        let record = recorded(&handler, &event(&lead()), &answers);
        let again = bind(&engine, &shipped(file), record.setups.values().next().unwrap().grants());
        for attempt in &record.attempts {
            assert!(!attempt.calls.is_empty(), "{file}: {:?}", attempt.outcome);
            for _ in 0..RERUNS / 2 {
                let rerun = on_guests(rerun(&record, attempt, &again, DryAnswer::default())).unwrap();
                assert_eq!((rerun.difference, rerun.unrecorded), (None, Vec::new()), "{file}");
            }
        }
    }
}

fn scripted(lines: &[&str]) -> (Engine, PathBuf, Grants) {
    let script = lines.join("\n");
    let settings = json!({"do": "script", "script": script});
    let origin = "https://api.example.com";
    (engine(), crate::host::test_plugin(), grants(settings, ("token", "sk-not-a-real-secret"), origin))
}

/// The same component with another word in it.
fn mended(file: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(file).unwrap();
    let at = bytes.windows(16).position(|word| word == b"handler:broken..").unwrap();
    bytes[at..at + 16].copy_from_slice(b"handler:mended..");
    bytes
}

const LINES: [&str; 4] = [
    "COUNT",
    "POST https://api.example.com/a - {now} {random}",
    "GET https://api.example.com/read -",
    "POST https://api.example.com/b - {id} {state} {random}",
];

fn failing() -> (Engine, PathBuf, Record) {
    let (engine, file, grants) = scripted(&LINES);
    let handler = bind(&engine, &file, grants);
    let worlds: [&[DryAnswer]; 3] = [
        &[status(200, "made"), status(200, "read"), status(422, "no")],
        // The first is answered from the record.
        &[status(200, "read again"), status(422, "still no")],
        &[status(200, "read"), status(500, "down")],
    ];
    let record = recorded(&handler, &event(&lead()), &worlds);
    (engine, file, record)
}

#[test]
fn each_attempt_runs_again_as_it_was_and_keeps_its_idempotency_keys() {
    let (engine, file, record) = failing();
    let handler = bind(&engine, &file, record.setup(&record.attempts[0]).unwrap().grants());
    for attempt in &record.attempts {
        let rerun = on_guests(rerun(&record, attempt, &handler, DryAnswer::default())).unwrap();
        assert_eq!(
            (&rerun.difference, &rerun.unrecorded),
            (&None, &Vec::new()),
            "attempt {}",
            attempt.number
        );
        assert_eq!(rerun.called.outcome, attempt.outcome);
    }
    assert!(record.attempts[1].calls[0].recorded);
    assert_eq!(record.attempt(None).unwrap().number, 3);
    assert_eq!(
        record.attempt(Some(9)).unwrap_err(),
        Error::NoSuchAttempt { number: 9, there: "1, 2, 3".into() }
    );
}

#[test]
fn a_mended_plugin_shows_what_it_does_otherwise_and_ends() {
    let (engine, file, record) = failing();
    let attempt = &record.attempts[1];
    let plugin = engine.load_bytes(&file, mended(&file)).unwrap();
    let handler = Handler::bind(&engine, plugin, record.setup(attempt).unwrap().grants()).ok().unwrap().0;
    let rerun = on_guests(rerun(&record, attempt, &handler, DryAnswer::default())).unwrap();
    let difference = rerun.difference.unwrap();
    assert_eq!(difference.place, "call 2");
    assert!(difference.then.contains("broken") && difference.now.contains("mended"), "{difference}");
    assert_eq!(rerun.unrecorded, [2]);
    assert!(matches!(rerun.called.outcome, Outcome::Done { .. }), "{:?}", rerun.called.outcome);
}

#[test]
fn an_attempt_that_was_cut_off_ends_where_its_record_ends() {
    let (engine, file, mut record) = failing();
    // The process died in the last call: its answer was never written.
    let last = record.effects.pop().unwrap();
    assert!(matches!(last.entry, Entry::Response(_)));
    let handler = bind(&engine, &file, record.setup(&record.attempts[2]).unwrap().grants());
    let rerun = on_guests(rerun(&record, &record.attempts[2], &handler, DryAnswer::default())).unwrap();
    let Some(crate::host::Halt::World(why)) = &rerun.called.halt else { panic!("{:?}", rerun.called) };
    assert!(why.contains("ended in call 2, POST https://api.example.com/b"), "{why}");
}

#[test]
fn what_cannot_be_run_again_says_why() {
    let (engine, file, mut record) = failing();
    let handler = bind(&engine, &file, record.setup(&record.attempts[0]).unwrap().grants());
    record.attempts[0].tape.as_mut().unwrap().is_cut = true;
    let cut = on_guests(rerun(&record, &record.attempts[0], &handler, DryAnswer::default()));
    assert_eq!(cut.unwrap_err(), Error::TapeCut(1));
    record.attempts[0].tape = None;
    let none = on_guests(rerun(&record, &record.attempts[0], &handler, DryAnswer::default()));
    assert_eq!(none.unwrap_err(), Error::NoTape(1));
    record.setups.clear();
    assert!(matches!(record.setup(&record.attempts[1]), Err(Error::NoSetup(_))));
    assert!(Record::read(b"{\"format\":\"longshore.delivery/2\"}").unwrap_err().to_string().contains("/2"));
    assert!(Record::read(b"[]").unwrap_err().to_string().contains("deliveries export"));
}

#[test]
fn what_is_redacted_is_nowhere_and_the_rest_runs_again() {
    let slack = grants(
        json!({"template": "*{/data/linkedinUrl}* wrote {/data/email}: {/data/message}"}),
        ("webhook", "https://hooks.slack.com/services/T0/B0/XXXXXXXX"),
        "https://hooks.slack.com",
    );
    let (engine, file) = (engine(), shipped("slack_notify.wasm"));
    let handler = bind(&engine, &file, slack);
    let mut record = recorded(&handler, &event(&lead()), &[&[status(503, "busy jane@example.com")]]);
    assert!(record.to_json().contains("jane@example.com"));
    // It is elsewhere in the body too, in another case.
    let Blob::Text(body) = &mut record.event.body else { panic!("it is text") };
    *body = body.replacen("\"leadId\":\"lead-1\"", "\"leadId\":\"for Jane@Example.com\"", 1);
    assert!(matches!(record.redact(&["/data/none".into()]), Err(Error::Redaction(_))));
    record.redact(&["/data/email".into(), "/data/linkedinUrl".into()]).unwrap();
    let text = record.to_json();
    let lower = text.to_lowercase();
    assert!(!lower.contains("jane@example.com") && !lower.contains("in/jane-doe"), "{text}");
    assert!(text.contains("for redacted-1"), "{text}");
    let record = Record::read(text.as_bytes()).unwrap();
    let again = bind(&engine, &file, record.setup(&record.attempts[0]).unwrap().grants());
    let rerun = on_guests(rerun(&record, &record.attempts[0], &again, DryAnswer::default())).unwrap();
    assert_eq!((rerun.difference, rerun.unrecorded), (None, Vec::new()));
}

#[test]
fn a_redaction_that_leaves_something_behind_is_none() {
    let (_, _, mut record) = failing();
    let answer = record.effects.iter_mut().find(|line| matches!(line.entry, Entry::Response(_))).unwrap();
    // No text, so it is not looked through.
    answer.bytes = Blob::of(b"\xffjane@example.com");
    let why = record.redact(&["/data/email".into()]).unwrap_err().to_string();
    assert!(why.contains("nothing was written"), "{why}");
}

#[test]
fn what_the_host_says_of_the_network_and_a_read_that_was_cut_off_are_no_difference() {
    let (engine, file, grants) = scripted(&["GET https://api.example.com/read -"]);
    let handler = bind(&engine, &file, grants);
    let mut record = recorded(&handler, &event(&lead()), &[&[status(503, "busy")]]);
    let line = crate::words::attempt::LogLine {
        at_ms: 1,
        level: crate::words::attempt::LogLevel::Warn,
        message: "the answer is over the cap; the plugin gets its beginning".into(),
        fields: Vec::new(),
    };
    record.attempts[0].logs.push(line);
    let again = |record: &Record| {
        on_guests(rerun(record, &record.attempts[0], &handler, DryAnswer::default())).unwrap()
    };
    assert_eq!(again(&record).difference, None);
    // The daemon ended while the read had no answer: nothing of it is among the effects.
    record.effects.clear();
    let call = &mut record.attempts[0].calls[0];
    (call.status, call.error) = (None, Some(crate::host::UNANSWERED.into()));
    let rerun = again(&record);
    assert!(rerun.called.ended_with_its_record() && rerun.unrecorded.is_empty(), "{:?}", rerun.called);
}

#[test]
fn nothing_is_sent_for_real_that_could_do_harm() {
    let (engine, file, mut record) = failing();
    let handler = bind(&engine, &file, record.setup(&record.attempts[0]).unwrap().grants());
    assert_eq!(on_guests(go_on(&record, &handler)).unwrap_err(), Error::StillOpen);
    record.status = Status::Dead;
    record.attempts[2].tape.as_mut().unwrap().is_cut = true;
    assert_eq!(on_guests(go_on(&record, &handler)).unwrap_err(), Error::TapeCut(3));
    record.attempts[2].tape = None;
    assert_eq!(on_guests(go_on(&record, &handler)).unwrap_err(), Error::NoTape(3));
    record.redacted.push("/data/email".into());
    assert_eq!(on_guests(go_on(&record, &handler)).unwrap_err(), Error::Redacted);
}
