//! Handshake: a challenge at the door: what must succeed before its answer goes out, and what is remembered of it.
//!
//! What it is, and what it says, is data that `verify` reads. A handshake is answered and not stored: it is no event.
//! One that nothing vouches for is held to all that holds for strangers.
//!
//! Not here: the file that a captured secret is written to (`capture`).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::capture::{self, Capture};
use super::refusal::{Answer, Refused};
use super::{Source, read};
use crate::verify::challenge::{Reply, ReplyBody};
use crate::verify::{Challenge, Challenges, Request};
use crate::words::time::Millis;

/// Calls a URL that a handshake brought, whose host was found to be one of the named; an error says why it did not
/// lead to a 2xx.
pub type Follower = Arc<dyn Fn(url::Url) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What a source answers without storing anything.
#[derive(Default)]
pub struct Handshakes {
    challenges: Challenges,
    /// One for each challenge, in their order.
    kept: Vec<Kept>,
    follower: Option<Follower>,
}

/// What belongs to one challenge and changes.
#[derive(Default)]
struct Kept {
    capture: Option<Capture>,
    answered: AtomicU64,
    /// In milliseconds since the epoch; 0: never.
    last: AtomicU64,
}

/// One handshake as `sources show` has it.
#[derive(Clone, Debug)]
pub struct HandshakeFacts {
    /// ``GET with query parameter `crc_token` ``
    pub when: String,
    /// `200, JSON, made with the secret`
    pub gives: String,
    /// Answered only after its signature was found good.
    pub signed: bool,
    /// What it brings is written here.
    pub file: Option<PathBuf>,
    /// It has brought nothing yet.
    pub is_pending: bool,
    /// Since the daemon started.
    pub answered: u64,
    pub last: Option<Millis>,
}

/// A handshake that may be answered.
#[derive(Debug)]
pub(super) struct Shaken {
    at: usize,
    reply: Reply,
}

impl Handshakes {
    /// `captures`: for each challenge that brings a secret, its place in the list.
    pub fn new(challenges: Challenges, captures: Vec<(usize, Capture)>) -> Handshakes {
        let mut kept: Vec<Kept> = challenges.iter().map(|_| Kept::default()).collect();
        for (at, capture) in captures {
            kept[at].capture = Some(capture);
        }
        Handshakes { challenges, kept, follower: None }
    }

    /// What calls URLs for `follow`; without one, such a handshake is refused.
    #[must_use]
    pub fn with_follower(self, follower: Follower) -> Handshakes {
        Handshakes { follower: Some(follower), ..self }
    }

    pub fn facts(&self) -> Vec<HandshakeFacts> {
        std::iter::zip(self.challenges.iter(), &self.kept)
            .map(|(challenge, kept)| kept.facts(challenge))
            .collect()
    }

    /// Whether a secret is still to come.
    pub(super) fn is_pending(&self) -> bool {
        self.kept.iter().any(Kept::is_pending)
    }

    pub(super) fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    pub(super) fn capture(&self, at: usize) -> Option<&Capture> {
        self.kept.get(at)?.capture.as_ref()
    }

    /// `GET, POST`: the methods that this source takes.
    pub(super) fn allow(&self) -> String {
        let mut methods = self.challenges.methods();
        methods.push("POST");
        methods.join(", ")
    }

    pub(super) fn takes(&self, method: &str) -> bool {
        method == "POST" || self.challenges.methods().contains(&method)
    }
}

impl Kept {
    fn is_pending(&self) -> bool {
        self.capture.as_ref().is_some_and(Capture::is_pending)
    }

    fn facts(&self, challenge: &Challenge) -> HandshakeFacts {
        let last = self.last.load(Ordering::Relaxed);
        HandshakeFacts {
            when: challenge.when(),
            gives: challenge.gives(),
            signed: challenge.is_verified(),
            file: self.capture.as_ref().map(|capture| capture.file().to_owned()),
            is_pending: self.is_pending(),
            answered: self.answered.load(Ordering::Relaxed),
            last: (last > 0).then_some(Millis(last)),
        }
    }
}

// === answering ===

/// None: the request is no handshake. `verified`: whether its signature was found good.
pub(super) async fn shake(
    source: &Arc<Source>,
    read: &read::Read,
    verified: bool,
) -> Result<Option<Shaken>, Refused> {
    let handshakes = &source.handshakes;
    if handshakes.challenges.is_empty() {
        return Ok(None);
    }
    let request: Request<'_> = read.as_signed(&source.public_url);
    let Some((at, challenge)) = handshakes.challenges.find(&request, verified) else { return Ok(None) };
    let ready = challenge.answer(request, &source.keys.load(), read.received_at)?;
    if let Some(secret) = ready.capture {
        capture::keep(source, at, secret).await?;
    }
    if let Some(url) = ready.follow {
        let Some(follower) = &handshakes.follower else {
            return Err(Refused::Follow("this daemon calls no URLs".to_owned()));
        };
        follower(url).await.map_err(Refused::Follow)?;
    }
    Ok(Some(Shaken { at, reply: ready.reply }))
}

impl Shaken {
    /// Counts it, and says which handshake it was.
    pub(super) fn remember(&self, handshakes: &Handshakes, now: Millis) -> String {
        if let Some(kept) = handshakes.kept.get(self.at) {
            kept.answered.fetch_add(1, Ordering::Relaxed);
            kept.last.store(now.0, Ordering::Relaxed);
        }
        handshakes.challenges.iter().nth(self.at).map(Challenge::when).unwrap_or_default()
    }

    /// A body is never taken for anything but what it is called: what it gives back, a stranger may have sent.
    pub(super) fn answer(self) -> Answer {
        let Reply { status, headers, body } = self.reply;
        let (kind, bytes) = match body {
            ReplyBody::None => (None, Bytes::new()),
            ReplyBody::Text(text) => (Some("text/plain"), Bytes::from(text)),
            ReplyBody::Json(value) => (Some("application/json"), Bytes::from(value.to_string())),
        };
        let mut answer = Response::new(Full::new(bytes));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        answer.headers_mut().extend(headers.into_iter().map(|(name, value)| (Some(name), value)));
        if let Some(kind) = kind {
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        answer
    }
}
