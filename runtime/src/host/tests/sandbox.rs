//! What a guest cannot do: run on, eat, crash, sleep, talk without end, reach out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::rig::*;
use crate::host::{DryAnswer, Engine, Options, Wire};
use crate::words::attempt::{Blame, ErrorKind, LogLevel, Outcome};
use crate::words::limits;

const SHORT: Duration = Duration::from_millis(300);
/// The machine of the tests is busy with other tests.
const SLACK: Duration = Duration::from_secs(5);

#[test]
fn every_hostile_handler_ends_with_the_right_blame() {
    use ErrorKind::{Memory, Timeout, Trap};
    let cases = [
        ("loop", Timeout, "not done within 300 ms: the handler was still running"),
        ("sleep", Timeout, "not done within 300 ms: the handler was still running"),
        ("recurse", Trap, "call stack exhausted"),
        ("eat-memory", Memory, "needs more than 64 MiB of memory; raise handlers.h.limits.memory"),
        ("trap", Trap, "told to panic"),
        ("exit", Trap, "exited with status 1"),
        ("huge-return", Trap, "hands over more than 8 MiB in one call"),
    ];
    // Built and compiled before any clock runs.
    plugin();
    on_guests(async {
        for (behaviour, kind, reason) in cases {
            let started = Instant::now();
            // Only those that run out of time get little of it.
            let timeout = if kind == Timeout { SHORT } else { Duration::from_secs(20) };
            let called = Setup::new(behaviour).limits(|l| l.timeout = timeout).call().await;
            assert!(started.elapsed() < timeout + SLACK, "{behaviour}: {:?}", started.elapsed());
            let (found, blame, said, permanent) = failure(&called);
            assert_eq!((found, blame, permanent), (kind, Blame::Plugin, false), "{behaviour}: {said}");
            assert!(said.contains(reason), "{behaviour}: {said}");
            assert!(said.len() <= limits::REASON_BYTES_MAX);
            assert_eq!(called.shelf, Default::default());
        }
    });
}

#[test]
fn a_panic_says_where() {
    let called = on_guests(Setup::new("trap").call());
    let (.., said, _) = failure(&called);
    assert!(said.starts_with("panicked at "), "{said}");
    assert!(said.contains("tests/handlers/src/lib.rs:") && said.contains("told to panic"), "{said}");
    assert!(said.contains("; in test_handlers::"), "{said}");
    // The panic's own lines are in the log as well.
    assert!(called.logs.iter().any(|line| line.message == "told to panic"), "{:?}", called.logs);
}

#[test]
fn well_behaved_answers_pass() {
    on_guests(async {
        assert_eq!(Setup::new("noop").call().await.outcome, Outcome::Done { note: None });
        let skipped = Outcome::Skipped { note: Some("nothing to do".into()) };
        assert_eq!(Setup::new("skip").call().await.outcome, skipped);
        let called = Setup::new("retry").call().await;
        assert_eq!(failure(&called), (ErrorKind::Retry, Blame::Plugin, "not today", false));
        assert!(matches!(called.outcome, Outcome::Failed { after_ms: Some(1234), .. }));
        let called = Setup::new("reject").call().await;
        assert_eq!(failure(&called), (ErrorKind::Reject, Blame::Plugin, "never", true));
        let called = Setup::new("by-type").call().await;
        assert_eq!(failure(&called).2, "no behaviour `received`");
        assert!(called.memory_bytes > 0 && called.memory_bytes < limits::GUEST_MEMORY_BYTES_DEFAULT);
    });
}

#[test]
fn thirty_two_loops_do_not_keep_another_handler_from_ending() {
    on_guests(async {
        let looping = Setup::new("loop").limits(|l| l.timeout = Duration::from_secs(60)).bind();
        let loops: Vec<_> = (0..32)
            .map(|_| {
                let looping = looping.clone();
                tokio::spawn(async move { call(&looping).await })
            })
            .collect();
        let (origin, seen) = server().await;
        let good =
            Setup::new("post").calling(&origin, "/").limits(|l| l.timeout = Duration::from_secs(60)).bind();
        for _ in 0..3 {
            assert!(note(&call(&good).await).contains("200"));
        }
        assert_eq!(seen.all().len(), 3);
        assert!(loops.iter().all(|task| !task.is_finished()), "the loops were still live");
        // A dispatcher that gives up a call gives back its instance.
        loops.iter().for_each(tokio::task::JoinHandle::abort);
        for task in loops {
            assert!(task.await.unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn loops_end_though_all_threads_loop() {
    on_guests(async {
        let looping = Setup::new("loop").limits(|l| l.timeout = SHORT).bind();
        let started = Instant::now();
        let loops: Vec<_> = (0..8)
            .map(|_| {
                let looping = looping.clone();
                tokio::spawn(async move { call(&looping).await })
            })
            .collect();
        for task in loops {
            assert_eq!(failure(&task.await.unwrap()).0, ErrorKind::Timeout);
        }
        assert!(started.elapsed() < SHORT + SLACK);
    });
}

#[test]
fn the_clock_sleeps_while_nobody_is_called_and_wakes_in_time() {
    let engine = Engine::new(Options { cache: None, instances_max: 1 }).unwrap();
    let mut setup = Setup::new("loop").limits(|l| l.timeout = SHORT);
    setup.engine = engine.clone();
    let looping = setup.bind();
    while !engine.inner.ticker.is_parked() {
        std::thread::yield_now();
    }
    on_guests(async {
        assert_eq!(failure(&call(&looping).await).0, ErrorKind::Timeout);
    });
}

#[test]
fn an_instance_is_waited_for_and_given_back() {
    on_guests(async {
        let engine = Engine::new(Options { cache: None, instances_max: 1 }).unwrap();
        let with = |behaviour: &str, timeout: Duration| {
            let mut setup = Setup::new(behaviour).limits(|l| l.timeout = timeout);
            setup.engine = engine.clone();
            setup.bind()
        };
        let looping = with("loop", Duration::from_secs(60));
        let running = tokio::spawn(async move { call(&looping).await });
        while engine.inner.instances.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let called = call(&with("noop", SHORT)).await;
        let (kind, blame, reason, _) = failure(&called);
        assert_eq!((kind, blame), (ErrorKind::Host, Blame::Host));
        assert!(reason.starts_with("no instance was free within 300 ms"), "{reason}");
        assert!(called.was_not_begun());
        assert!(matches!(called.outcome, Outcome::Failed { permanent: false, after_ms: Some(1000), .. }));
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        let called = call(&with("noop", Duration::from_secs(60))).await;
        assert_eq!(called.outcome, Outcome::Done { note: None });
    });
}

#[test]
fn a_stopped_attempt_tells_what_it_did_up_to_then() {
    on_guests(async {
        let (origin, seen) = server().await;
        let handler = Setup::new("call-next")
            .calling(&origin, "/status/200")
            .setting("next", format!("{origin}/hang"))
            .bind();
        let stop = async {
            while seen.all().len() < 2 {
                tokio::task::yield_now().await;
            }
        };
        let called = handler.call_until(event(), Arc::new(Memory::default()), live(), stop).await;
        let stopped = "the daemon was stopped during this attempt";
        assert_eq!(failure(&called), (ErrorKind::Interrupted, Blame::Host, stopped, false));
        assert!(matches!(called.outcome, Outcome::Failed { after_ms: Some(0), .. }));
        assert!(!called.was_not_begun());
        let calls: Vec<_> = called.calls.iter().map(|c| (c.status, c.error.as_deref())).collect();
        let perhaps = "the attempt ended before the answer; the request was perhaps sent";
        assert_eq!(calls, [(Some(200), None), (None, Some(perhaps))]);
        assert!(called.memory_bytes > 0 && !called.took.is_zero());
        assert_eq!(called.logs[0].message, "the first call went through");
    });
}

#[test]
fn a_loop_is_stopped_and_gives_back_its_instance() {
    on_guests(async {
        let engine = Engine::new(Options { cache: None, instances_max: 1 }).unwrap();
        let with = |behaviour: &str| {
            let mut setup = Setup::new(behaviour);
            setup.engine = engine.clone();
            setup.bind()
        };
        let given_up = async {
            while engine.inner.instances.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let shelf = || Arc::new(Memory::default());
        let called = with("loop").call_until(event(), shelf(), live(), given_up).await;
        assert_eq!(failure(&called).0, ErrorKind::Interrupted);
        assert_eq!(engine.inner.instances.available_permits(), 1);

        let held = engine.inner.instances.acquire().await.unwrap();
        let at_once = std::future::ready(());
        let called = with("noop").call_until(event(), shelf(), live(), at_once).await;
        assert_eq!(failure(&called).0, ErrorKind::Interrupted, "also while it waits for an instance");
        drop(held);
        assert_eq!(call(&with("noop")).await.outcome, Outcome::Done { note: None });
    });
}

#[test]
fn stdout_and_stderr_become_lines() {
    let called = on_guests(Setup::new("print").call());
    assert_eq!(note(&called), "printed");
    let lines: Vec<_> =
        called.logs.iter().map(|l| (l.level, l.message.as_str(), l.fields[0].1.as_str())).collect();
    let expected = [
        (LogLevel::Info, "to stdout", "stdout"),
        (LogLevel::Warn, "to stderr", "stderr"),
        (LogLevel::Info, "without an end", "stdout"),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_flood_of_words_is_bounded() {
    // How long it may talk is not the point, and a busy machine lets it talk slowly.
    let patient = Setup::new("big-log").limits(|l| l.timeout = Duration::from_secs(60));
    let called = on_guests(patient.call());
    assert_eq!(note(&called), "logged");
    let bytes: usize = called.logs.iter().map(|l| l.message.len()).sum();
    assert!(bytes <= limits::LOG_BYTES_MAX + limits::LOG_LINE_BYTES_MAX, "{bytes}");
    assert!(called.logs.len() <= limits::LOG_LINES_MAX + 1);
    assert!(called.logs.last().unwrap().message.ends_with("more lines were dropped"));
}

#[test]
fn memory_is_capped_and_reported() {
    on_guests(async {
        let called = Setup::new("eat-memory").limits(|l| l.memory_bytes = 8 << 20).call().await;
        let (kind, blame, reason, _) = failure(&called);
        assert_eq!((kind, blame), (ErrorKind::Memory, Blame::Plugin));
        assert!(reason.contains("more than 8 MiB"), "{reason}");
        assert!(called.memory_bytes > 4 << 20 && called.memory_bytes <= 8 << 20, "{}", called.memory_bytes);
    });
}

#[test]
fn a_trap_after_a_growth_that_was_done_without_is_a_trap() {
    on_guests(async {
        let called = Setup::new("grow-in-vain-then-trap").call().await;
        let (kind, blame, reason, _) = failure(&called);
        assert_eq!((kind, blame), (ErrorKind::Trap, Blame::Plugin), "{reason}");
        assert!(reason.contains("told to panic after all"), "{reason}");
    });
}

#[test]
fn what_wasi_could_give_is_not_there() {
    on_guests(async {
        for (behaviour, absent) in [("sockets", "Ok"), ("files", "Ok"), ("environment", "(")] {
            let called = Setup::new(behaviour).call().await;
            assert!(!note(&called).contains(absent), "{behaviour}: {}", note(&called));
        }
        let called = Setup::new("environment").call().await;
        assert_eq!(note(&called), "[] []");
    });
}

#[test]
fn settings_arrive_with_defaults_and_without_secrets() {
    let setup = Setup::new("settings").calling("https://api.example.com", "/").setting("url", "do").secret(
        "token",
        "hunter2hunter2",
        &["https://api.example.com"],
    );
    let called = on_guests(setup.call());
    let said = note(&called);
    for expected in ["\"do\":\"settings\"", "\"count\":3", "\"credential\":\"bearer\"", "Some(\"settings\")"]
    {
        assert!(said.contains(expected), "{expected} in {said}");
    }
    assert!(!said.contains("hunter2"));
}

#[test]
fn a_dry_call_sends_nothing() {
    on_guests(async {
        let (origin, seen) = server().await;
        let handler = Setup::new("post").calling(&origin, "/").bind();
        let called = handler.call(event(), Arc::new(Memory::default()), Wire::dry(Vec::new())).await;
        assert_eq!(note(&called), "0 200 [content-type: application/json] {}");
        assert_eq!(called.calls[0].status, Some(200));
        assert!(seen.all().is_empty());
        let denied = Setup::new("post").setting("url", "http://127.0.0.1:1/").bind();
        let called = denied.call(event(), Arc::new(Memory::default()), Wire::dry(Vec::new())).await;
        assert_eq!(failure(&called).0, ErrorKind::Denied);
    });
}

#[test]
fn a_dry_wire_answers_in_turn_and_the_last_again() {
    on_guests(async {
        let answer = |status, body: &'static str| DryAnswer { status, body: body.into() };
        let answers = vec![answer(500, "{\"busy\":true}"), answer(200, "ok")];
        let setup = Setup::new("call-next").calling("https://a.example", "/");
        let handler = setup.setting("next", "https://a.example/next").bind();
        let called = handler.call(event(), Arc::new(Memory::default()), Wire::dry(answers.clone())).await;
        assert_eq!(note(&called), "1 200 [content-type: text/plain; charset=utf-8] ok");
        let statuses: Vec<_> = called.calls.iter().map(|call| call.status).collect();
        assert_eq!(statuses, [Some(500), Some(200)]);

        let many = Setup::new("many-calls").calling("https://a.example", "/").bind();
        let called = many.call(event(), Arc::new(Memory::default()), Wire::dry(answers)).await;
        let statuses: Vec<_> = called.calls.iter().map(|call| call.status).collect();
        assert_eq!(statuses, [Some(500), Some(200), Some(200)]);
    });
}
