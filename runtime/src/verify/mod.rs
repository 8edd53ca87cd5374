//! Verify: proves a request genuine by a scheme, which is data. The room's face.
//!
//! Pure: no clock, no I/O, no async. Raw bytes are signed, never text that was printed again. What is not
//! here: the provider's names and headers (they are in `presets.yaml`), and which secrets exist (`config`).
#![allow(clippy::todo, unused_variables)]

use http::HeaderMap;

use crate::words::event::Name;
use crate::words::secret::{Fingerprint, Secret};
use crate::words::time::Millis;

pub mod rotation;
pub mod spec;

/// A request as it came in: nothing decoded, nothing trusted.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// The URL as registered with the provider, where the scheme signs it.
    pub url: &'a str,
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

/// A scheme compiled from its spec: nothing is parsed per request that can be parsed here.
pub struct Scheme {}

/// A secret prepared for one scheme (decoded, MAC key set up), with the time at which it ends.
pub struct Key {
    pub fingerprint: Fingerprint,
    /// Last moment at which it is tried; None: no end.
    pub ends: Option<Millis>,
}

/// Proof that a request is genuine: only `Scheme::verify` makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    secret: Fingerprint,
    signed_at: Option<Millis>,
}

impl Verified {
    pub fn secret(&self) -> Fingerprint {
        self.secret
    }
    pub fn signed_at(&self) -> Option<Millis> {
        self.signed_at
    }
}

/// Why a request was not proved genuine. The sender gets a slug; this text is the operator's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("no signature: header `{0}` is absent or empty")]
    NoSignature(String),
    #[error("malformed signature: {0}")]
    Malformed(String),
    #[error("no live secret made this signature ({tried} tried)")]
    Mismatch { tried: usize },
    /// Genuine, but signed too long ago or too far ahead. `age_s` is negative for the future.
    #[error("the signature is genuine but {age_s} s old; {tolerance_s} s are allowed")]
    Stale { age_s: i64, tolerance_s: u64 },
}

/// What the event calls itself: the first parse of the body. Never refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: String,
    pub event_type: String,
    /// `no id`, `no type`, `body is not JSON`, …: warned, and the event is stored all the same.
    pub warnings: Vec<String>,
}

impl Scheme {
    /// # Errors
    /// Everything wrong with the spec at once, each with the path of the key inside it (`signature.format`).
    pub fn compile(spec: &spec::Spec) -> Result<Scheme, Vec<spec::Problem>> {
        todo!()
    }

    /// Prepares a secret: strips its prefix, decodes it, sets the MAC up.
    ///
    /// # Errors
    /// In words: empty, not base64, of zero bytes, ends with a newline. Never the secret's text.
    pub fn key(&self, secret: &Secret, ends: Option<Millis>) -> Result<Key, String> {
        todo!()
    }

    /// Tries every live key against every candidate, in constant time for each, without an early exit.
    pub fn verify(&self, request: Request<'_>, keys: &[Key], now: Millis) -> Result<Verified, Refused> {
        todo!()
    }

    pub fn identify(&self, verified: &Verified, request: Request<'_>) -> Identity {
        todo!()
    }

    /// The headers that a provider would send for this body: for `longshore send` and the tests. Also carries the
    /// id and type where the scheme reads them from headers.
    ///
    /// # Errors
    /// Where the scheme cannot sign (asymmetric, token in body).
    pub fn sign(
        &self,
        secret: &Secret,
        id: &str,
        event_type: &str,
        body: &[u8],
        url: &str,
        now: Millis,
    ) -> Result<Vec<(String, String)>, String> {
        todo!()
    }

    /// How far in the past and the future a signature's time may lie; None where the scheme has no time.
    pub fn tolerance(&self) -> Option<(std::time::Duration, std::time::Duration)> {
        todo!()
    }
}

/// A preset by name: `presets.yaml` is data in the language that a user writes.
pub fn preset(name: &str) -> Option<&'static spec::Spec> {
    todo!()
}

pub fn preset_names() -> Vec<&'static str> {
    todo!()
}

#[allow(dead_code)]
fn _unused(_: Name) {}
