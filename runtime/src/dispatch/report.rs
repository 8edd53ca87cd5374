//! Report: what one attempt says about the services that it called, for the breaker.
//!
//! A failure counts where the service is to blame: nobody answered, or with 408, 425, 429 or 5xx. What a plugin decides
//! by itself, a trap, and what the host or the operator is to blame for, say nothing against a service.

use std::time::Duration;

use crate::words::attempt::{Blame, CallRecord, ErrorKind, Outcome};
use crate::words::limits::SHORT_REASON_CHARS_MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The attempt did not come to its end, or the host failed.
    Nothing,
    /// No service is to blame for how it ended. `answered`: origins whose last answer was a sound one.
    Well {
        answered: Vec<String>,
    },
    Failed {
        failure: Failure,
        answered: Vec<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub origin: String,
    pub why: String,
    /// How long the handler asked to wait, mostly because the service did.
    pub asked: Option<Duration>,
}

impl Report {
    pub(super) fn of(outcome: &Outcome, calls: &[CallRecord]) -> Report {
        let (blame, reason, after_ms) = match outcome {
            Outcome::Done { .. } | Outcome::Skipped { .. } => {
                return Report::Well { answered: answered(calls) };
            }
            Outcome::Failed {
                kind: ErrorKind::Host | ErrorKind::Interrupted | ErrorKind::Uncertain, ..
            } => {
                return Report::Nothing;
            }
            Outcome::Failed { blame, reason, after_ms, .. } => (*blame, reason, *after_ms),
        };
        let at_fault = calls.iter().rev().find(|call| is_sent(call) && !is_sound(call));
        match at_fault {
            Some(call) if blame == Blame::Remote => Report::Failed {
                failure: Failure {
                    origin: origin(&call.target).to_owned(),
                    why: why(call, reason),
                    asked: after_ms.map(Duration::from_millis),
                },
                answered: answered(calls),
            },
            _ => Report::Well { answered: answered(calls) },
        }
    }
}

/// Origins, by the last call of each.
fn answered(calls: &[CallRecord]) -> Vec<String> {
    let mut seen: Vec<(&str, bool)> = Vec::new();
    for call in calls.iter().rev().filter(|call| is_sent(call)) {
        let origin = origin(&call.target);
        if seen.iter().all(|(known, _)| *known != origin) {
            seen.push((origin, is_sound(call)));
        }
    }
    seen.into_iter().filter(|(_, is_sound)| *is_sound).map(|(origin, _)| origin.to_owned()).collect()
}

/// An answer from the record says nothing of today, and what was refused here never left.
fn is_sent(call: &CallRecord) -> bool {
    let refused_here =
        ["denied: ", "invalid request: ", "the request is too large", "limit: ", "unavailable: "];
    let stayed = |error: &String| refused_here.iter().any(|begin| error.starts_with(begin));
    !call.recorded
        && call.target.contains("://")
        && (call.status.is_some() || !call.error.as_ref().is_some_and(stayed))
}

fn is_sound(call: &CallRecord) -> bool {
    call.status.is_some_and(|status| status < 500 && ![408, 425, 429].contains(&status))
}

/// `https://api.example.com` of `https://api.example.com/v1/notes` and of `https://api.example.com/[secret webhook]`.
fn origin(target: &str) -> &str {
    let host = target.find("://").map_or(0, |at| at + 3);
    let end = target[host..].find('/').map_or(target.len(), |at| host + at);
    &target[..end]
}

fn why(call: &CallRecord, reason: &str) -> String {
    let cut = |text: &str| text.chars().take(SHORT_REASON_CHARS_MAX).collect::<String>();
    match (call.status, &call.error) {
        (Some(status), _) => format!("answered {status}"),
        (None, Some(error)) => cut(error),
        (None, None) => cut(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(target: &str, status: Option<u16>, error: Option<&str>) -> CallRecord {
        CallRecord {
            number: 0,
            method: "POST".to_owned(),
            target: target.to_owned(),
            key: None,
            status,
            error: error.map(str::to_owned),
            took_ms: 1,
            request_bytes: 0,
            response_bytes: 0,
            credentials: Vec::new(),
            recorded: false,
            disowned: false,
            after_unknown: false,
            effect: None,
            digest: None,
        }
    }

    fn failed(kind: ErrorKind, blame: Blame) -> Outcome {
        let reason = "no luck".to_owned();
        Outcome::Failed { kind, blame, reason, permanent: false, after_ms: Some(1500) }
    }

    fn retry() -> Outcome {
        failed(ErrorKind::Retry, Blame::Remote)
    }

    /// Origin and words, where a service is to blame.
    fn blamed(outcome: &Outcome, calls: &[CallRecord]) -> Option<(String, String)> {
        match Report::of(outcome, calls) {
            Report::Failed { failure, .. } => Some((failure.origin, failure.why)),
            _ => None,
        }
    }

    #[test]
    fn what_a_service_is_to_blame_for() {
        let url = "https://api.example.com:8443/v1/notes";
        let cases = [
            (Some(500), None, Some("answered 500")),
            (Some(503), None, Some("answered 503")),
            (Some(408), None, Some("answered 408")),
            (Some(425), None, Some("answered 425")),
            (Some(429), None, Some("answered 429")),
            (None, Some("dns: no such name"), Some("dns: no such name")),
            (None, Some("connect: refused"), Some("connect: refused")),
            (None, Some("tls: expired"), Some("tls: expired")),
            (None, Some("timeout"), Some("timeout")),
            (None, Some("protocol: nonsense"), Some("protocol: nonsense")),
            (Some(404), None, None),
            (None, Some("denied: not granted"), None),
            (None, Some("limit: 64 calls"), None),
        ];
        for (status, error, expected) in cases {
            let found = blamed(&retry(), &[call(url, status, error)]);
            let expected = expected.map(|why| ("https://api.example.com:8443".to_owned(), why.to_owned()));
            assert_eq!(found, expected, "{status:?} {error:?}");
        }
    }

    #[test]
    fn whom_the_host_does_not_blame_is_not_counted() {
        let calls = [call("https://x.example/a", Some(503), None)];
        for (kind, blame) in [
            (ErrorKind::Reject, Blame::Plugin),
            (ErrorKind::Trap, Blame::Plugin),
            (ErrorKind::Retry, Blame::Plugin),
            (ErrorKind::Denied, Blame::Operator),
        ] {
            assert_eq!(
                Report::of(&failed(kind, blame), &calls),
                Report::Well { answered: vec![] },
                "{kind:?}"
            );
        }
        for kind in [ErrorKind::Host, ErrorKind::Interrupted, ErrorKind::Uncertain] {
            assert_eq!(Report::of(&failed(kind, Blame::Host), &calls), Report::Nothing, "{kind:?}");
        }
        assert!(blamed(&failed(ErrorKind::Timeout, Blame::Remote), &calls).is_some());
    }

    #[test]
    fn the_last_call_that_failed_is_the_one_and_the_last_of_each_origin_says_how_it_is() {
        let calls = [
            call("https://x.example/a", Some(503), None),
            call("https://x.example/a", Some(200), None),
            call("https://y.example/[secret webhook]", Some(200), None),
            call("https://y.example/[secret webhook]", None, Some("timeout")),
            call("https://z.example", Some(404), None),
        ];
        let Report::Failed { failure, answered } = Report::of(&retry(), &calls) else { panic!() };
        assert_eq!(
            (failure.origin.as_str(), failure.asked),
            ("https://y.example", Some(Duration::from_millis(1500)))
        );
        assert_eq!(answered, ["https://z.example", "https://x.example"]);
    }

    #[test]
    fn an_answer_from_the_record_says_nothing() {
        let recorded = CallRecord { recorded: true, ..call("https://x.example/a", Some(200), None) };
        let done = Outcome::Done { note: None };
        assert_eq!(Report::of(&done, std::slice::from_ref(&recorded)), Report::Well { answered: vec![] });
        assert_eq!(blamed(&retry(), &[recorded]), None);
    }

    #[test]
    fn words_are_short() {
        let long = format!("connect: {}", "é".repeat(1000));
        let (_, why) = blamed(&retry(), &[call("https://x.example/a", None, Some(&long))]).unwrap();
        assert_eq!(why.chars().count(), SHORT_REASON_CHARS_MAX);
    }
}
