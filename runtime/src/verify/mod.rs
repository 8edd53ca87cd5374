//! Verify: proves a request genuine by a scheme, which is data. The room's face.
//!
//! Pure: no clock, no I/O, no async. Raw bytes are signed, never text that was printed again. What is not
//! here: the providers' names and headers (they are in `presets.yaml`), and which secrets exist (`config`).
//!
//! The order of `Scheme::verify` is the order of trust: read the signature and what it was made over, compare,
//! and only then ask how old it is. "Stale" therefore means genuine but old.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use subtle::{Choice, ConstantTimeEq};

use crate::words::secret::{Fingerprint, Secret};
use crate::words::time::Millis;

mod compile;
mod extract;
mod format;
mod identify;
mod json;
mod mac;
mod presets;
pub mod rotation;
mod sign;
mod signed;
mod skim;
pub mod spec;
mod stamp;
#[cfg(test)]
mod tests;
pub mod vectors;

pub use presets::{preset, preset_names};

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
pub struct Scheme {
    proof: mac::Proof,
    signature: format::Signature,
    /// What the signature is made over; empty for a token.
    signed: signed::Template,
    stamp: Option<stamp::Stamp>,
    id: Option<extract::Place>,
    secret: mac::SecretText,
    require: Vec<(extract::Place, String)>,
    event: identify::Event,
    notes: Vec<String>,
}

/// A secret prepared for one scheme (decoded, MAC key set up), with the time at which it ends.
pub struct Key {
    pub fingerprint: Fingerprint,
    /// Last moment at which it is tried; None: no end.
    pub ends: Option<Millis>,
    secret_bytes: usize,
    ready: mac::Ready,
}

impl Key {
    /// Length of the decoded secret, so that a short one can be warned about.
    pub fn secret_bytes(&self) -> usize {
        self.secret_bytes
    }
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

/// Why a request was not proved genuine. The sender gets a slug; this text is the operator's, and never holds
/// a signature: neither theirs nor the right one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("no signature: {0} is absent or empty")]
    NoSignature(String),
    #[error("malformed signature: {0}")]
    Malformed(String),
    #[error("no live secret made this signature ({tried} tried)")]
    Mismatch { tried: usize },
    /// Genuine, but signed too long ago or too far ahead. `age_s` is negative for the future.
    #[error("the signature is genuine but {}; {tolerance_s} s are allowed", distance(*age_s))]
    Stale { age_s: i64, tolerance_s: u64 },
}

fn distance(age_s: i64) -> String {
    match age_s {
        ..0 => format!("{} s ahead of this clock", age_s.unsigned_abs()),
        _ => format!("{age_s} s old"),
    }
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
    /// Compiles a source's `scheme:` and `event:`, a preset already laid below both.
    ///
    /// # Errors
    /// Everything wrong at once, each with its key counted from the source (`scheme.signature.format`).
    pub fn compile(scheme: &spec::Spec, event: &spec::EventSpec) -> Result<Scheme, Vec<spec::Problem>> {
        compile::compile(scheme, event)
    }

    /// Headers that carry the secret itself, not something made with it: they are never stored.
    pub fn carries_secret(&self, header: &http::HeaderName) -> bool {
        let in_header =
            |place: &extract::Place| matches!(place, extract::Place::Header { name, .. } if name == header);
        matches!(self.proof, mac::Proof::Token) && self.signature.from.iter().any(in_header)
    }

    /// Prepares a secret: strips its prefix, decodes it, sets the MAC up.
    ///
    /// # Errors
    /// In words: empty, not base64, of zero bytes, ends with a newline. Never the secret's text.
    pub fn key(&self, secret: &Secret, ends: Option<Millis>) -> Result<Key, String> {
        let bytes = self.secret.decode(secret.expose())?;
        let ready = self.proof.ready(&bytes);
        Ok(Key { fingerprint: secret.fingerprint(), ends, secret_bytes: bytes.len(), ready })
    }

    /// Tries every live key against every candidate, in constant time for each, without an early exit.
    ///
    /// # Errors
    /// Why the request is not proved genuine. `Stale` is the only one after a comparison that succeeded.
    pub fn verify(&self, request: Request<'_>, keys: &[Key], now: Millis) -> Result<Verified, Refused> {
        let claim = self.claim(&request)?;
        let parts = self.signed.resolve(&request, &claim)?;
        let secret = self.compare(&claim, &parts, keys, now)?;
        let signed_at = match (&self.stamp, &claim.stamp) {
            (Some(stamp), Some(read)) => Some(stamp.check(read.at, now)?),
            _ => None,
        };
        Ok(Verified { secret, signed_at })
    }

    /// Id and type, by the source's `event:`. A genuine event is never refused for its content.
    pub fn identify(&self, _verified: &Verified, request: Request<'_>) -> Identity {
        self.event.identify(&request)
    }

    /// The headers that a provider would send for this body: for `longshore send` and the tests. Also carries the
    /// id and type where the scheme reads them from headers.
    ///
    /// # Errors
    /// Where the scheme cannot sign (the signature travels in the body, a value is not to be had).
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, each of another kind")]
    pub fn sign(
        &self,
        secret: &Secret,
        id: &str,
        event_type: &str,
        body: &[u8],
        url: &str,
        now: Millis,
    ) -> Result<Vec<(String, String)>, String> {
        let key = self.key(secret, None)?;
        sign::sign(self, &key, secret, &sign::Draft { id, event_type, body, url, now })
    }

    /// How far in the past and the future a signature's time may lie; None where the scheme has no time, or
    /// says `tolerance: none`.
    pub fn tolerance(&self) -> Option<(Duration, Duration)> {
        self.stamp.as_ref()?.tolerance()
    }

    /// The scheme signs the registered URL: the source needs its `public_url`.
    pub fn needs_url(&self) -> bool {
        self.signed.needs_url()
    }

    /// What `config check` should say about a scheme that works but is weaker than it looks.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// What a request claims: read, not yet believed.
struct Claim {
    /// Each decoded to exactly the proof's length.
    candidates: Vec<mac::Bytes>,
    stamp: Option<stamp::Read>,
    id: Option<String>,
}

impl Scheme {
    fn claim(&self, request: &Request<'_>) -> Result<Claim, Refused> {
        let mut read = self.signature.read(request, self.proof)?;
        self.check_required(request)?;
        let stamp = match &self.stamp {
            Some(stamp) => Some(stamp.read(request, read.stamp.take())?),
            None => None,
        };
        let id = match &self.id {
            Some(place) => Some(place.require(request, "id")?),
            None => None,
        };
        Ok(Claim { candidates: read.candidates, stamp, id })
    }

    fn check_required(&self, request: &Request<'_>) -> Result<(), Refused> {
        for (place, expected) in &self.require {
            let found = place.find(request).map_err(Refused::Malformed)?;
            if found.is_some_and(|found| found != *expected) {
                return Err(Refused::Malformed(format!("{place} is not `{expected}`")));
            }
        }
        Ok(())
    }

    /// One MAC for each live key, compared with all candidates. Nothing here depends on which one was right
    /// before all have been compared.
    fn compare(
        &self,
        claim: &Claim,
        parts: &[signed::Piece<'_>],
        keys: &[Key],
        now: Millis,
    ) -> Result<Fingerprint, Refused> {
        let mut matched = None;
        let mut tried = 0;
        for key in keys.iter().filter(|key| rotation::is_live(key.ends, now)) {
            tried += 1;
            let expected = key.ready.prove(parts.iter().map(signed::Piece::bytes));
            let mut good = Choice::from(0);
            for candidate in &claim.candidates {
                good |= candidate.ct_eq(&expected);
            }
            if bool::from(good) && matched.is_none() {
                matched = Some(key.fingerprint);
            }
        }
        matched.ok_or(Refused::Mismatch { tried })
    }
}

impl fmt::Debug for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheme").field("signature", &self.signature).finish_non_exhaustive()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("fingerprint", &self.fingerprint)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}
