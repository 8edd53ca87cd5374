//! What `?` makes of every error: the SDK's central promise, as rows.

use std::time::Duration;

use longshore_sdk::http::Fault;
use longshore_sdk::prelude::*;
use longshore_sdk::testing::{Answer, Host, event};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    Done,
    /// Seconds to wait at least.
    Retry(Option<u64>),
    Reject,
}

fn ends(result: &Result<Outcome, Failure>) -> Ends {
    match result {
        Ok(_) => Ends::Done,
        Err(Failure::Retry { after, .. }) => Ends::Retry(after.map(|wait| wait.as_secs())),
        Err(Failure::Reject { .. }) => Ends::Reject,
    }
}

fn post_and_read(_: Event) -> Result<Outcome, Failure> {
    let body: Value = http::post("https://api.example.com/a?secret=1").send()?.ok()?.json()?;
    done(body.to_string())
}

fn api() -> Host {
    let host = Host::new();
    host.grant("https://api.example.com");
    host
}

#[test]
fn answers_by_status() {
    let transient = [408, 425, 429, 500, 501, 502, 503, 504, 521, 599];
    for status in 100..600 {
        let expected = match status {
            200..300 => Ends::Done,
            _ if transient.contains(&status) || status >= 500 => Ends::Retry(Some(30)),
            _ => Ends::Reject,
        };
        let host = api();
        host.answer(Answer::from((status, json!({ "a": 1 }))).header("retry-after", "30"));
        let result = host.call(post_and_read, event("a", json!({})));
        assert_eq!(ends(&result), expected, "{status}");
        if let Err(failure) = result {
            let said = format!("POST https://api.example.com/a answered {status}");
            assert!(failure.reason().starts_with(&said), "{failure}");
            assert!(failure.reason().ends_with(r#"{"a":1}"#), "{failure}");
        }
    }
}

#[test]
fn calls_without_an_answer() {
    let rows = [
        (Fault::Denied("x".into()), Ends::Reject),
        (Fault::InvalidRequest("x".into()), Ends::Reject),
        (Fault::RequestTooLarge, Ends::Reject),
        (Fault::Dns("x".into()), Ends::Retry(None)),
        (Fault::Connect("x".into()), Ends::Retry(None)),
        (Fault::Tls("x".into()), Ends::Retry(None)),
        (Fault::Limit("x".into()), Ends::Reject),
        (Fault::Unavailable("x".into()), Ends::Retry(None)),
        (Fault::Timeout, Ends::Retry(None)),
        (Fault::Protocol("x".into()), Ends::Retry(None)),
        (Fault::ResponseTooLarge(200), Ends::Reject),
        (Fault::ResponseTooLarge(404), Ends::Reject),
        (Fault::ResponseTooLarge(429), Ends::Retry(None)),
        (Fault::ResponseTooLarge(503), Ends::Retry(None)),
    ];
    for (fault, expected) in rows {
        let host = api();
        host.answer(fault.clone());
        let result = host.call(post_and_read, event("a", json!({})));
        assert_eq!(ends(&result), expected, "{fault:?}");
        let failure = result.unwrap_err();
        assert!(failure.reason().starts_with("POST https://api.example.com/a: "), "{failure}");
    }
}

#[test]
fn json_that_does_not_fit() {
    let host = api();
    host.answer((200, "<html>"));
    let failure = host.call(post_and_read, event("a", json!({}))).unwrap_err();
    assert_eq!(ends(&Err(failure.clone())), Ends::Reject);
    assert!(
        failure.reason().starts_with("the answer of POST https://api.example.com/a is not the JSON expected")
    );

    let read = |event: Event| done(event.json::<u64>()?.to_string());
    assert_eq!(ends(&host.call(read, event("a", json!(7)))), Ends::Done);
    assert_eq!(ends(&host.call(read, event("a", json!("x")))), Ends::Reject);

    let parse = |_| done(longshore_sdk::serde_json::from_str::<u64>("x")?.to_string());
    assert_eq!(ends(&host.call(parse, event("a", json!({})))), Ends::Reject);
}

#[test]
fn settings_that_are_missing_or_malformed() {
    let host = Host::new();
    host.setting("blank", " ").setting("count", "many").setting("list", "[1,");
    let failures = [
        (settings::require("room").map(|_| ()), "setting `room` is missing"),
        (settings::require("blank").map(|_| ()), "setting `blank` is missing"),
        (settings::parse::<u32>("count").map(|_| ()), "setting `count` is not valid: invalid digit"),
        (settings::json::<Vec<u32>>("list").map(|_| ()), "setting `list` is not valid: EOF"),
        (settings::all::<Vec<u32>>().map(|_| ()), "the settings are not valid: invalid type: map"),
    ];
    for (result, expected) in failures {
        let failure = Failure::from(result.unwrap_err());
        assert!(!failure.is_retry() && failure.reason().starts_with(expected), "{failure}");
    }
    assert_eq!(settings::parse::<u32>("absent"), Ok(None));
}

#[test]
fn state_that_says_no() {
    let _host = Host::new();
    let large = vec![0; (256 << 10) + 1];
    let rows = [
        (state::set_bytes("a", large, None).unwrap_err(), Ends::Reject),
        (state::set(&"k".repeat(513), &1).unwrap_err(), Ends::Reject),
        (state::Error::Json("a".into(), "x".into()), Ends::Reject),
        (state::Error::Quota, Ends::Retry(None)),
        (state::Error::Unavailable("x".into()), Ends::Retry(None)),
    ];
    for (error, expected) in rows {
        assert_eq!(ends(&Err(error.clone().into())), expected, "{error}");
    }
    state::set("text", "x").unwrap();
    assert!(matches!(state::get::<u32>("text"), Err(state::Error::Json(..))));
    assert!(matches!(state::count("text"), Err(state::Error::Json(..))));
}

#[test]
fn other_errors_as_the_plugin_decides() {
    let bad = || "x".parse::<u32>();
    assert_eq!(ends(&bad().or_retry("n").and_then(|_| done(""))), Ends::Retry(None));
    assert_eq!(ends(&bad().or_reject("n").and_then(|_| done(""))), Ends::Reject);
    assert_eq!(None::<u32>.or_retry("none").unwrap_err().reason(), "none");
    assert_eq!(bad().or_reject("n").unwrap_err().reason(), "n: invalid digit found in string");

    let wait = Duration::from_secs(5);
    assert_eq!(ends(&retry_after(wait, "later")), Ends::Retry(Some(5)));
    assert_eq!(Failure::reject("never").after(Some(wait)), Failure::reject("never"));
    assert_eq!(done(""), Ok(Outcome::Done(None)));
    assert_eq!(skip(""), Ok(Outcome::Skipped(None)));
}
