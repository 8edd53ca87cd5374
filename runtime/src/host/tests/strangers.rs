//! Strangers: every hostile component of `tests/strangers` alone, through the host's face: does it load, how does its
//! call end, in which words, and within its budget?

use std::fs;
use std::time::{Duration, Instant};

use super::effects::Book;
use super::rig::*;
use crate::host::{DryAnswer, Handler, Wire};
use crate::words::attempt::{Blame, ErrorKind, Outcome};
use crate::words::limits;
use strangers::{End, Stranger};

/// Beside the handler's own time: the machine of the tests is busy with other tests.
const ALLOWANCE: Duration = Duration::from_secs(5);
/// To find that a component does not load. Most of it is reading 50 MiB in a build without optimisation.
const LOADING: Duration = Duration::from_secs(30);
/// Where its calls go; nobody listens there.
const ORIGIN: &str = "http://127.0.0.1:1";

fn bind(stranger: &Stranger, component: &[u8], origin: &str) -> Result<Handler, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stranger.wasm");
    fs::write(&path, component).unwrap();
    let plugin = engine().load(&path).map_err(|error| error.to_string())?;
    let mut grants = Setup::new("").grants;
    grants.settings.clear();
    grants.origins.push(origin.into());
    grants.limits.timeout = Duration::from_millis(stranger.timeout_ms);
    grants.limits.memory_bytes = stranger.memory_mib << 20;
    Ok(Handler::bind(engine(), plugin, grants).map_err(|problems| format!("{problems:?}"))?.0)
}

fn named(name: &str) -> Stranger {
    strangers::all().into_iter().find(|stranger| stranger.name == name).unwrap()
}

/// As the history writes it.
fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
}

/// What is wrong with how it ended.
async fn judge(stranger: &Stranger) -> Result<(), String> {
    let component = stranger.component();
    let started = Instant::now();
    let bound = bind(stranger, &component, ORIGIN);
    if started.elapsed() > LOADING {
        return Err(format!("loading took {:?}", started.elapsed()));
    }
    let handler = match (bound, stranger.end) {
        (Err(said), End::Refused { says }) => {
            let is_short = said.len() < 4 * limits::REASON_BYTES_MAX;
            return if said.contains(says) && is_short { Ok(()) } else { Err(said) };
        }
        (Err(said), _) => return Err(format!("does not load: {said}")),
        (Ok(_), End::Refused { .. }) => return Err("it loads".into()),
        (Ok(handler), _) => handler,
    };
    let started = Instant::now();
    let called = call(&handler).await;
    let took = started.elapsed();
    if took > Duration::from_millis(stranger.timeout_ms) + ALLOWANCE {
        return Err(format!("took {took:?}"));
    }
    match (&called.outcome, stranger.end) {
        (Outcome::Done { .. }, End::Done) => Ok(()),
        (Outcome::Failed { kind, blame, reason, .. }, End::Failed { kind: k, blame: b, says })
            if word(kind) == k && word(blame) == b && reason.contains(says) =>
        {
            Ok(())
        }
        (outcome, _) => Err(format!("{outcome:?}")),
    }
}

#[test]
fn every_stranger_ends_in_its_word_and_within_its_budget() {
    on_guests(async {
        let mut wrong = Vec::new();
        for stranger in strangers::all() {
            if let Err(said) = judge(&stranger).await {
                wrong.push(format!("{}: {said}\n  instead of {:?}", stranger.name, stranger.end));
            }
        }
        assert!(wrong.is_empty(), "{} strangers end otherwise:\n{}", wrong.len(), wrong.join("\n"));
    });
}

#[test]
fn compiled_code_is_no_plugin() {
    let compiled = engine().inner.wasm.precompile_component(&strangers::good()).unwrap();
    let refused = bind(&named("endless-loop"), &compiled, ORIGIN).err().unwrap();
    assert!(refused.contains("is compiled code, which is not accepted from a file"), "{refused}");
}

#[test]
fn of_ten_thousand_calls_the_allowed_ones_are_made() {
    on_guests(async {
        let stranger = named("host-calls");
        let handler = bind(&stranger, &stranger.component(), ORIGIN).unwrap();
        let answer = DryAnswer { status: 200, body: "ok".into() };
        let shelf = std::sync::Arc::new(Memory::default());
        let called = handler.call(event(), shelf, Wire::dry(vec![answer])).await;
        assert_eq!(failure(&called), (ErrorKind::Reject, Blame::Plugin, "no more", true));
        assert_eq!(called.calls.len(), limits::CALLS_MAX as usize);
        assert!(called.calls.iter().all(|call| call.status == Some(200)));
    });
}

#[test]
fn a_trap_between_a_call_and_its_answer_does_not_make_it_twice() {
    on_guests(async {
        let (origin, seen) = server().await;
        let stranger = named("trap-in-a-call");
        // The port in its URL has five digits.
        let port: u16 = origin.rsplit(':').next().unwrap().parse().unwrap();
        let mut component = stranger.component();
        let at = component.windows(6).position(|six| six == b":00001").unwrap();
        component[at + 1..at + 6].copy_from_slice(format!("{port:05}").as_bytes());
        let handler = bind(&stranger, &component, &origin).unwrap();
        let book = Book::default();
        for attempt in 1..=3 {
            let called = book.attempt_of(&handler, attempt).await;
            assert_eq!(failure(&called).0, ErrorKind::Trap, "{called:?}");
            assert_eq!((called.calls[0].status, called.calls[0].recorded), (Some(200), attempt > 1));
        }
        assert_eq!(seen.all().len(), 1, "{:?}", seen.all());
    });
}
