//! Refusal: one table that gives each reason for not answering 200 its status, its slugs and its sentence.
//!
//! Two audiences, two texts. The sender gets a status and a slug, and all four failures of a signature look the
//! same to it, as do an unknown path and a disabled source. The operator gets the reason, and what to type.
//!
//! Not here: who is told, how often, and what is remembered (`remembered`).

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode, Version};
use http_body_util::Full;

use crate::verify::challenge;
use crate::words::limits::{ANSWER_TIMEOUT, REQUEST_TEXT_CHARS_MAX, RETRY_AFTER_DEFAULT};
use crate::words::time::Millis;
use crate::{store, verify};

/// What a sender gets: small, and whole.
pub(super) type Answer = Response<Full<Bytes>>;

pub(super) fn json_answer(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// Why a request got no 200. What it prints is the operator's sentence.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("the request cannot be read: {0}; see what the sender or a proxy before us makes of it")]
    Malformed(String),
    #[error("the headers are larger than {bytes_max} bytes or more than {headers_max}")]
    HeadersTooLarge { bytes_max: usize, headers_max: usize },
    #[error("{0}; {advice}", advice = advice(.0))]
    Signature(#[from] verify::Refused),
    #[error("no source has the path `{0}`; `longshore sources show` prints the paths there are")]
    UnknownPath(String),
    #[error("the source is disabled; `enabled: true` in `sources.{0}` opens it")]
    Disabled(String),
    #[error("a {method} came and a webhook is a POST; nothing is wrong where a browser opened the address")]
    Method { method: String, allow: String },
    #[error(
        "a {0} came that is no handshake of this source; nothing is wrong where a browser opened the address, and \
         `longshore sources show` prints the handshakes"
    )]
    NoHandshake(String),
    #[error("{0}; {advice}", advice = handshake_advice(.0))]
    Challenge(#[from] challenge::Refused),
    #[error(
        "a handshake brought another secret than the one in `{0}`; where you make the webhook anew, type `rm {0}` and \
         restart the daemon"
    )]
    Captured(String),
    #[error(
        "the secret that a handshake brought could not be kept: {0}; see that its folder can be written to, and make \
         the webhook again"
    )]
    Capture(String),
    #[error("the source waits for the handshake that brings its secret; make the webhook at the provider")]
    NoSecretYet,
    #[error(
        "the URL of a handshake was not called: {0}; see the provider's page, where it can be confirmed by hand"
    )]
    Follow(String),
    #[error(
        "the signature is right, but anybody can have it: what it signs is a text that a handshake of this source is \
         answered with the secret for; somebody tries to forge events, so stop the address in the firewall"
    )]
    SignedForAnybody,
    #[error("the headers did not end within {} s of the request's first byte", .0.as_secs_f32())]
    SlowHeaders(Duration),
    #[error("the body did not end within {} s; the sender or the way to it is slow", .0.as_secs_f32())]
    SlowBody(Duration),
    #[error("the body is larger than {bytes_max} bytes; raise `server.max_body` to take it")]
    TooLarge { bytes_max: usize },
    #[error("more than {per_second} requests a second; raise `rate` in `sources.{source_name}` to take more")]
    Rate { source_name: String, per_second: f64, retry_after: Duration },
    #[error("{0} requests are in flight already; raise `server.max_requests` if the machine can carry more")]
    Requests(usize),
    #[error("bodies in flight fill their {0} bytes; senders come back, or send smaller bodies")]
    Bodies(usize),
    #[error(
        "one address has {max} {what} in flight that no signature vouches for yet; where it is a proxy of yours \
         type `behind_proxy: true` and see that it sends `X-Forwarded-For`, else stop it in the firewall"
    )]
    Share { max: usize, what: &'static str },
    #[error("{0}")]
    Store(#[from] store::Refused),
    #[error(
        "the key that the request names cannot be had: {0}; the sender comes back, and until then see that its host can be reached"
    )]
    Keys(String),
    #[error(
        "the subscription cannot be confirmed: {0}; the sender comes back, or visit its SubscribeURL yourself"
    )]
    Unconfirmed(String),
    #[error("the journal did not answer within {} s; see whether the disk is stuck", ANSWER_TIMEOUT.as_secs())]
    NoAnswer,
    #[error("{0} connections are open already; raise `server.max_connections` if the machine can carry more")]
    Connections(usize),
    #[error(
        "one address has {0} connections open; where it is a proxy of yours type `behind_proxy: true`, else stop it \
         in the firewall, or raise `server.max_connections`"
    )]
    ConnectionsShare(usize),
    #[error("the TLS handshake failed: {0}")]
    Handshake(String),
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// 0: the connection was closed without an answer.
    pub(super) status: u16,
    /// What the sender reads.
    pub(super) told: &'static str,
    /// What the operator filters by: `sources show`, the metrics' label.
    pub(super) reason: &'static str,
    /// Somebody should look at it: logged as a warning. The rest is the Internet's noise.
    pub(super) loud: bool,
}

const fn row(status: u16, told: &'static str, reason: &'static str) -> Row {
    Row { status, told, reason, loud: true }
}

const fn noise(status: u16, told: &'static str, reason: &'static str) -> Row {
    Row { status, told, reason, loud: false }
}

impl Refused {
    pub(super) fn row(&self) -> Row {
        use store::Refused as Store;
        use verify::Refused as Signature;
        match self {
            Refused::Malformed(_) => noise(400, "bad-request", "malformed-request"),
            Refused::HeadersTooLarge { .. } => noise(431, "headers-too-large", "headers-too-large"),
            Refused::Signature(Signature::NoSignature(_)) => row(401, "unauthorized", "no-signature"),
            Refused::Signature(Signature::Malformed(_)) => row(401, "unauthorized", "malformed-signature"),
            Refused::Signature(Signature::Mismatch { .. }) => row(401, "unauthorized", "mismatch"),
            Refused::Signature(Signature::Stale { .. }) => row(401, "unauthorized", "stale"),
            Refused::Signature(Signature::Expired { .. }) => row(401, "unauthorized", "expired"),
            Refused::Signature(Signature::NotYet { .. }) => row(401, "unauthorized", "not-yet"),
            Refused::Signature(Signature::Unfit(_)) => row(401, "unauthorized", "unfit"),
            Refused::Signature(Signature::Foreign(_)) => row(401, "unauthorized", "foreign"),
            Refused::Signature(Signature::UnknownKey(_)) => row(401, "unauthorized", "unknown-key"),
            Refused::UnknownPath(_) => noise(404, "not-found", "unknown-path"),
            Refused::Disabled(_) => row(404, "not-found", "disabled"),
            Refused::Method { .. } => noise(405, "method-not-allowed", "method"),
            Refused::NoHandshake(_) => noise(400, "bad-request", "no-handshake"),
            Refused::Challenge(challenge::Refused::Token(_)) => row(403, "forbidden", "verify-token"),
            Refused::Challenge(challenge::Refused::Value(_)) => row(400, "bad-request", "handshake-value"),
            Refused::Challenge(challenge::Refused::NoKey) => {
                row(401, "unauthorized", "handshake-without-secret")
            }
            Refused::Captured(_) => row(403, "forbidden", "secret-kept-already"),
            Refused::Capture(_) => row(503, "unavailable", "secret-not-kept"),
            Refused::NoSecretYet => row(401, "unauthorized", "no-secret-yet"),
            Refused::Follow(_) => row(503, "unavailable", "handshake-url"),
            Refused::SignedForAnybody => row(401, "unauthorized", "signed-for-anybody"),
            Refused::SlowHeaders(_) => noise(408, "timeout", "slow-headers"),
            Refused::SlowBody(_) => row(408, "timeout", "slow-body"),
            Refused::TooLarge { .. } => row(413, "too-large", "too-large"),
            Refused::Rate { .. } => row(429, "rate", "rate"),
            Refused::Requests(_) => row(503, "busy", "requests-in-flight"),
            Refused::Bodies(_) => row(503, "busy", "bodies-in-flight"),
            Refused::Share { .. } => row(503, "busy", "too-much-from-one-address"),
            Refused::Store(Store::Busy) => row(503, "busy", "journal-queue"),
            Refused::Store(Store::DiskFull { .. }) => row(503, "unavailable", "disk-full"),
            Refused::Store(Store::SizeCap) => row(503, "unavailable", "size-cap"),
            Refused::Store(Store::IndexLag { .. }) => row(503, "busy", "index-lag"),
            Refused::Store(Store::Failed(_)) => row(503, "unavailable", "journal-failed"),
            Refused::Store(Store::Closing) => row(503, "unavailable", "closing"),
            Refused::Keys(_) => row(503, "unavailable", "keys"),
            Refused::Unconfirmed(_) => row(503, "unavailable", "unconfirmed"),
            Refused::NoAnswer => row(503, "unavailable", "no-answer"),
            Refused::Connections(_) => row(0, "", "connections"),
            Refused::ConnectionsShare(_) => row(0, "", "connections-from-one-address"),
            Refused::Handshake(_) => noise(0, "", "tls-handshake"),
        }
    }

    /// What the sender reads. `connection: close` where the rest of the request was left unread: the connection
    /// cannot carry another one.
    pub(super) fn answer(&self, version: Version) -> Answer {
        let row = self.row();
        let status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let mut answer = json_answer(status, body(row.told));
        let headers = answer.headers_mut();
        if let Some(wait) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if let Refused::Method { allow, .. } = self {
            let allow = HeaderValue::from_str(allow).unwrap_or(HeaderValue::from_static("POST"));
            headers.insert(ALLOW, allow);
        }
        let left_unread = matches!(row.status, 400 | 408 | 413);
        if left_unread && version < Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Refused::Rate { retry_after, .. } => Some(*retry_after),
            _ if self.row().status == 503 => Some(RETRY_AFTER_DEFAULT),
            _ => None,
        }
    }
}

/// What a sender of slow headers reads, as bytes: there is no request yet that hyper could answer.
pub(super) fn slow_headers_answer(now: Millis) -> Vec<u8> {
    let body = body(Refused::SlowHeaders(Duration::ZERO).row().told);
    let date = i64::try_from(now.0)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .and_then(|at| jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok())
        .map_or_else(String::new, |date| format!("date: {date}\r\n"));
    format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n{date}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Text of a request as it may be shown: short, on one line, without control characters.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(REQUEST_TEXT_CHARS_MAX).flat_map(char::escape_debug).collect()
}

fn body(told: &str) -> String {
    format!(r#"{{"error":"{told}"}}"#)
}

fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// What to do about a signature that was refused, beyond what `verify` says was wrong with it.
fn advice(refused: &verify::Refused) -> &'static str {
    match refused {
        verify::Refused::NoSignature(_) => {
            "see that the sender has a signing secret set, that no proxy drops the header, and that `preset` is right"
        }
        verify::Refused::Malformed(_) => "see that `preset` or `scheme` is the one this sender uses",
        verify::Refused::Mismatch { .. } => {
            "copy the secret from the sender again, and see that no proxy rewrites the body"
        }
        verify::Refused::Unfit(_) => {
            "see that no proxy rewrites the body or the URL, and that the scheme's `claims` are this sender's"
        }
        verify::Refused::Foreign(_) => {
            "add it to the scheme if it is yours, else somebody sends to a path of yours"
        }
        verify::Refused::UnknownKey(_) => {
            "see that the scheme names the right host of keys; somebody who makes keys up also looks like this"
        }
        verify::Refused::Stale { .. } | verify::Refused::Expired { .. } | verify::Refused::NotYet { .. } => {
            "see that this machine's clock is right (`timedatectl`); an old request sent again also looks like this"
        }
    }
}

/// What to do about a handshake that was refused, beyond what `verify` says was wrong with it.
fn handshake_advice(refused: &challenge::Refused) -> &'static str {
    match refused {
        challenge::Refused::Token(_) => {
            "see that the provider's page and `challenge.verify_token` have the same one; others may also just try"
        }
        challenge::Refused::Value(_) => {
            "see `challenge.require`; where the provider really sends such a value, widen its pattern"
        }
        challenge::Refused::NoKey => {
            "see `longshore sources show` for the ends of its secrets, and write a new one"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    /// One of each.
    fn every_refusal() -> Vec<Refused> {
        use store::Refused as Store;
        use verify::Refused as Signature;
        vec![
            Refused::Malformed("the body ended early".into()),
            Refused::HeadersTooLarge { bytes_max: 32_768, headers_max: 100 },
            Refused::Signature(Signature::NoSignature("webhook-signature".into())),
            Refused::Signature(Signature::Malformed("`t` is missing".into())),
            Refused::Signature(Signature::Mismatch { tried: 2 }),
            Refused::Signature(Signature::Stale { age_s: 301, tolerance_s: 300 }),
            Refused::Signature(Signature::Expired { ago_s: 240 }),
            Refused::Signature(Signature::NotYet { in_s: 240 }),
            Refused::Signature(Signature::Unfit("the body is another".into())),
            Refused::Signature(Signature::Foreign(
                "the topic `a` is not one of the scheme's `topics`".into(),
            )),
            Refused::Signature(Signature::UnknownKey("Plaid has no such key".into())),
            Refused::UnknownPath("/wp-login.php".into()),
            Refused::Disabled("sendpilot".into()),
            Refused::Method { method: "GET".into(), allow: "POST".into() },
            Refused::NoHandshake("GET".into()),
            Refused::Challenge(challenge::Refused::Token("query parameter `hub.verify_token`".into())),
            Refused::Challenge(challenge::Refused::Value("query parameter `crc_token` is absent".into())),
            Refused::Challenge(challenge::Refused::NoKey),
            Refused::Captured("secrets/asana".into()),
            Refused::Capture("`secrets/asana`: no space left".into()),
            Refused::NoSecretYet,
            Refused::Follow("it was answered 403".into()),
            Refused::SignedForAnybody,
            Refused::SlowHeaders(Duration::from_secs(5)),
            Refused::SlowBody(Duration::from_secs(8)),
            Refused::TooLarge { bytes_max: 5_242_880 },
            Refused::Rate {
                source_name: "sendpilot".into(),
                per_second: 2.5,
                retry_after: Duration::from_millis(1400),
            },
            Refused::Requests(1024),
            Refused::Bodies(67_108_864),
            Refused::Share { max: 256, what: "requests" },
            Refused::Store(Store::Busy),
            Refused::Store(Store::DiskFull { free_bytes: 1, reserve_bytes: 2 }),
            Refused::Store(Store::SizeCap),
            Refused::Store(Store::IndexLag { records: 100_001 }),
            Refused::Store(Store::Failed("fdatasync: EIO".into())),
            Refused::Store(Store::Closing),
            Refused::Keys("its host did not answer in time".into()),
            Refused::Unconfirmed("the answer was 403".into()),
            Refused::NoAnswer,
            Refused::Connections(4096),
            Refused::ConnectionsShare(1024),
            Refused::Handshake("the client spoke plain HTTP".into()),
        ]
    }

    #[test]
    fn the_table() {
        let expected = [
            "400 bad-request malformed-request",
            "431 headers-too-large headers-too-large",
            "401 unauthorized no-signature",
            "401 unauthorized malformed-signature",
            "401 unauthorized mismatch",
            "401 unauthorized stale",
            "401 unauthorized expired",
            "401 unauthorized not-yet",
            "401 unauthorized unfit",
            "401 unauthorized foreign",
            "401 unauthorized unknown-key",
            "404 not-found unknown-path",
            "404 not-found disabled",
            "405 method-not-allowed method",
            "400 bad-request no-handshake",
            "403 forbidden verify-token",
            "400 bad-request handshake-value",
            "401 unauthorized handshake-without-secret",
            "403 forbidden secret-kept-already",
            "503 unavailable secret-not-kept",
            "401 unauthorized no-secret-yet",
            "503 unavailable handshake-url",
            "401 unauthorized signed-for-anybody",
            "408 timeout slow-headers",
            "408 timeout slow-body",
            "413 too-large too-large",
            "429 rate rate",
            "503 busy requests-in-flight",
            "503 busy bodies-in-flight",
            "503 busy too-much-from-one-address",
            "503 busy journal-queue",
            "503 unavailable disk-full",
            "503 unavailable size-cap",
            "503 busy index-lag",
            "503 unavailable journal-failed",
            "503 unavailable closing",
            "503 unavailable keys",
            "503 unavailable unconfirmed",
            "503 unavailable no-answer",
            "0  connections",
            "0  connections-from-one-address",
            "0  tls-handshake",
        ];
        let rows: Vec<String> = every_refusal()
            .iter()
            .map(Refused::row)
            .map(|row| format!("{} {} {}", row.status, row.told, row.reason))
            .collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn each_reason_has_a_slug_of_its_own_and_a_sentence() {
        let refusals = every_refusal();
        let reasons: std::collections::BTreeSet<_> = refusals.iter().map(|r| r.row().reason).collect();
        assert_eq!(reasons.len(), refusals.len());
        for refused in &refusals {
            let sentence = refused.to_string();
            assert!(sentence.len() >= 20 && !sentence.ends_with('.'), "{sentence}");
            assert!(!sentence.contains('\n'), "{sentence}");
        }
    }

    #[tokio::test]
    async fn the_sender_reads_a_status_and_a_slug_and_nothing_else() {
        for refused in every_refusal().into_iter().filter(|r| r.row().status != 0) {
            let row = refused.row();
            let response = refused.answer(Version::HTTP_11);
            assert_eq!(response.status().as_u16(), row.status);
            let mut names: Vec<_> = response.headers().keys().map(|name| name.as_str().to_owned()).collect();
            names.sort();
            let wanted: &[&str] = match row.status {
                405 => &["allow", "content-type"],
                429 | 503 => &["content-type", "retry-after"],
                400 | 408 | 413 => &["connection", "content-type"],
                _ => &["content-type"],
            };
            assert_eq!(names, wanted, "{refused}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, format!(r#"{{"error":"{}"}}"#, row.told).into_bytes());
        }
    }

    #[tokio::test]
    async fn a_bad_signature_looks_the_same_whatever_is_wrong_with_it() {
        let mut seen = std::collections::BTreeSet::new();
        for refused in every_refusal().into_iter().filter(|r| matches!(r, Refused::Signature(_))) {
            let response = refused.answer(Version::HTTP_11);
            let head = format!("{} {:?}", response.status(), response.headers());
            let body = response.into_body().collect().await.unwrap().to_bytes();
            seen.insert((head, body));
        }
        assert_eq!(seen.len(), 1);
    }

    #[test]
    fn a_signature_that_anybody_can_have_looks_like_a_bad_one() {
        let bad = Refused::Signature(verify::Refused::Mismatch { tried: 1 }).row();
        for refused in [Refused::SignedForAnybody, Refused::NoSecretYet] {
            assert_eq!((refused.row().status, refused.row().told), (bad.status, bad.told), "{refused}");
        }
    }

    #[test]
    fn a_405_names_the_methods_that_there_are() {
        let refused = Refused::Method { method: "PUT".into(), allow: "GET, POST".into() };
        assert_eq!(refused.answer(Version::HTTP_11).headers()[ALLOW], "GET, POST");
    }

    #[test]
    fn a_disabled_source_looks_like_an_unknown_path() {
        let (unknown, disabled) =
            (Refused::UnknownPath("/x".into()).row(), Refused::Disabled("x".into()).row());
        assert_eq!((unknown.status, unknown.told), (disabled.status, disabled.told));
    }

    #[test]
    fn waiting_is_told_in_whole_seconds_and_never_zero() {
        let refused = |ms| Refused::Rate {
            source_name: "s".into(),
            per_second: 1.0,
            retry_after: Duration::from_millis(ms),
        };
        for (ms, told) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (60_000, "60")] {
            assert_eq!(refused(ms).answer(Version::HTTP_11).headers()[RETRY_AFTER], told, "{ms} ms");
        }
        assert_eq!(Refused::NoAnswer.answer(Version::HTTP_11).headers()[RETRY_AFTER], "5");
    }

    #[test]
    fn http_2_has_no_connection_header() {
        let response = Refused::TooLarge { bytes_max: 1 }.answer(Version::HTTP_2);
        assert!(!response.headers().contains_key(CONNECTION));
    }

    #[test]
    fn slow_headers_are_answered_as_any_other_refusal() {
        let text = String::from_utf8(slow_headers_answer(Millis(0))).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: 19\r\n\
             connection: close\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n{\"error\":\"timeout\"}"
        );
    }

    #[test]
    fn text_of_a_request_is_shown_short_and_on_one_line() {
        assert_eq!(shown("/a\r\nb\u{1b}[31m"), "/a\\r\\nb\\u{1b}[31m");
        assert_eq!(shown(&"x".repeat(1000)).len(), REQUEST_TEXT_CHARS_MAX);
    }
}
