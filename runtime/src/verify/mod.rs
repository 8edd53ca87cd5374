//! Verify: proves a request genuine by a scheme, which is data. The room's face.
//!
//! Pure: no clock, no I/O, no async. Raw bytes are signed, never text that was printed again. What is not
//! here: the providers' names and headers (they are in `presets.yaml`), and which secrets exist (`config`).
//!
//! The order of `Scheme::verify` is the order of trust: read the signature and what it was made over, compare,
//! and only then ask how old it is. "Stale" therefore means genuine but old.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::words::digest::Digest;
use crate::words::secret::{Fingerprint, Secret};
use crate::words::time::Millis;
use http::HeaderMap;

mod builtin;
pub mod challenge;
mod compile;
pub mod explain;
mod extract;
mod format;
#[cfg(test)]
mod fuzz;
mod identify;
mod json;
mod mac;
mod presets;
mod public;
pub mod rotation;
pub mod sample;
mod sign;
mod signed;
mod skim;
pub mod spec;
mod stamp;
#[cfg(test)]
mod tests;
pub mod vectors;

pub use builtin::{Ask, NoKey, Wanted};
pub use challenge::{Challenge, ChallengeSpec, Challenges};
pub use presets::{Card, preset, preset_cards, preset_names};
pub use sign::Signed;

/// A request as it came in: nothing decoded, nothing trusted.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// The URL as registered with the provider, where the scheme signs it.
    pub url: &'a str,
    /// What came behind the `?` of this request.
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
    /// What is not data; it then reads, compares and judges alone.
    builtin: Option<builtin::Builtin>,
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
    /// Of what was signed, where that is not the body and an event is to be known by it.
    signed: Option<Digest>,
    /// What the proof itself calls the event, where no place of the request does.
    id: Option<String>,
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
    #[error("the signature is genuine but ended {ago_s} s ago")]
    Expired { ago_s: u64 },
    #[error("the signature is genuine but begins in {in_s} s")]
    NotYet { in_s: u64 },
    /// Genuine, but made for something else: another body, another URL, somebody else.
    #[error("the signature is genuine but {0}")]
    Unfit(String),
    /// It names something that the configuration does not; whether it is genuine was not asked.
    #[error("{0}")]
    Foreign(String),
    /// It names a key that its host does not have.
    #[error("the signature names a key that there is not: {0}")]
    UnknownKey(String),
}

fn distance(age_s: i64) -> String {
    match age_s {
        ..0 => format!("{} s ahead of this clock", age_s.unsigned_abs()),
        _ => format!("{age_s} s old"),
    }
}

/// What an event calls itself: the first parse of the body. Never refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub id: String,
    pub event_type: String,
    /// Where the event's bytes lie in the body; None: the whole body.
    pub range: Option<(u32, u32)>,
    /// A second name of the event, made of what is signed, where the id is not: under another id it is still a copy.
    pub also: Option<String>,
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
        if let Some(builtin) = &self.builtin {
            return builtin.carries_secret(header);
        }
        matches!(self.proof, mac::Proof::Token | mac::Proof::Basic)
            && self.signature.from.iter().any(in_header)
    }

    /// Prepares a secret: strips its prefix, decodes it, sets the MAC up.
    ///
    /// # Errors
    /// In words: empty, not base64, of zero bytes, ends with a newline. Never the secret's text.
    pub fn key(&self, secret: &Secret, ends: Option<Millis>) -> Result<Key, String> {
        if let Some(builtin) = &self.builtin {
            let (ready, secret_bytes) = builtin.ready(secret.expose())?;
            let ready = mac::Ready::Builtin(Box::new(ready));
            return Ok(Key { fingerprint: secret.fingerprint(), ends, secret_bytes, ready });
        }
        let bytes = self.secret.decode(secret.expose())?;
        let ready = self.proof.ready(&bytes)?;
        Ok(Key { fingerprint: secret.fingerprint(), ends, secret_bytes: bytes.len(), ready })
    }

    /// Tries every live key against every candidate, in constant time for each, without an early exit.
    ///
    /// # Errors
    /// Why the request is not proved genuine. `Stale` is the only one after a comparison that succeeded.
    pub fn verify(&self, request: Request<'_>, keys: &[Key], now: Millis) -> Result<Verified, Refused> {
        if matches!(self.proof, mac::Proof::Nothing) {
            return Ok(Verified { secret: Fingerprint::default(), signed_at: None, signed: None, id: None });
        }
        if let Some(builtin) = &self.builtin {
            return builtin.verify(&request, keys, now);
        }
        let claim = self.claim(&request)?;
        let mut verdict = self.judge(&request, &claim, &claim.first, keys, now);
        // All groups are looked at. The first that is good counts, and of bad ones the one that is only too old.
        for group in &claim.others {
            let other = self.judge(&request, &claim, group, keys, now);
            let is_better = other.is_ok() || matches!(other, Err(Refused::Stale { .. }));
            if verdict.is_err() && is_better {
                verdict = other;
            }
        }
        verdict
    }

    /// Id and type of each event of the request, by the source's `event:`; at least one. A genuine event is never
    /// refused for its content.
    pub fn identify(&self, verified: &Verified, request: Request<'_>) -> Vec<Identity> {
        let mut events = self.event.identify(&request, verified.signed.as_ref());
        if let Some(id) = &verified.id {
            self.event.name(&mut events, id);
        }
        events
    }

    /// Whether a source of this scheme needs no secret.
    pub fn proves_nothing(&self) -> bool {
        matches!(self.proof, mac::Proof::Nothing)
    }

    /// Whether the keys can be had by URL, so that a source needs no secret; with the names of the credentials that
    /// their host wants.
    pub fn fetches_keys(&self) -> Option<&'static [&'static str]> {
        self.builtin.as_ref()?.credentials()
    }

    /// The key that a request names, where a source has none of its own.
    ///
    /// # Errors
    /// Where the request is refused without one: it names no key, or is not for us.
    pub fn wants(&self, request: Request<'_>) -> Result<Option<Wanted>, Refused> {
        self.builtin.as_ref().map_or(Ok(None), |builtin| builtin.wants(&request))
    }

    /// How to ask the key's host for it.
    ///
    /// # Errors
    /// In words: a credential is missing, or is not text.
    pub fn ask(&self, wanted: &Wanted, credentials: &BTreeMap<String, Secret>) -> Result<Ask, String> {
        match &self.builtin {
            Some(builtin) => builtin.ask(wanted, credentials),
            None => Err("this scheme asks for no keys".to_owned()),
        }
    }

    /// The key in what its host answered.
    ///
    /// # Errors
    /// Why there is none in it: the host has no such key, or it cannot be said.
    pub fn learn(&self, wanted: &Wanted, status: u16, body: &[u8], now: Millis) -> Result<Key, NoKey> {
        let builtin =
            self.builtin.as_ref().ok_or_else(|| NoKey::Unavailable("no keys are asked for".into()))?;
        let (ready, ends) = builtin.learn(wanted, status, body, now)?;
        let fingerprint = Secret::new(body).fingerprint();
        Ok(Key { fingerprint, ends, secret_bytes: usize::MAX, ready: mac::Ready::Builtin(Box::new(ready)) })
    }

    /// What a genuine request asks to have visited before it is answered: the URL that confirms a subscription.
    pub fn follow(&self, _verified: &Verified, request: Request<'_>) -> Option<Ask> {
        self.builtin.as_ref()?.follow(&request)
    }

    /// Whether `follow` has anything to say of some request.
    fn confirms(&self) -> bool {
        matches!(self.builtin, Some(builtin::Builtin::Sns(_)))
    }

    /// What the scheme must have before a source may use it: the key, and a sentence that ends with what to type.
    pub fn lacks(&self) -> Option<(&'static str, &'static str)> {
        self.builtin.as_ref()?.lacks()
    }

    /// What a provider would send for this body: for `longshore send` and the tests. Also carries the id and type where
    /// the scheme reads them from headers.
    ///
    /// # Errors
    /// Where the scheme cannot sign (only the provider has the private key, a value is not to be had).
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, each of another kind")]
    pub fn sign(
        &self,
        secret: &Secret,
        id: &str,
        event_type: &str,
        body: &[u8],
        url: &str,
        now: Millis,
    ) -> Result<Signed, String> {
        let key = self.key(secret, None)?;
        sign::sign(self, &key, secret, &sign::Draft { id, event_type, body, url, now })
    }

    /// How far in the past and the future a signature's time may lie; None where the scheme has no time, or
    /// says `tolerance: none`.
    pub fn tolerance(&self) -> Option<(Duration, Duration)> {
        match &self.builtin {
            Some(builtin) => builtin.tolerance(),
            None => self.stamp.as_ref()?.tolerance(),
        }
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
    first: format::Group,
    others: Vec<format::Group>,
    id: Option<String>,
}

impl Scheme {
    fn claim(&self, request: &Request<'_>) -> Result<Claim, Refused> {
        let read = self.signature.read(request, self.proof)?;
        self.check_required(request)?;
        let id = match &self.id {
            Some(place) => Some(place.require(request, "id")?),
            None => None,
        };
        Ok(Claim { first: read.first, others: read.others, id })
    }

    /// One group of signatures, and the time that belongs to it.
    fn judge(
        &self,
        request: &Request<'_>,
        claim: &Claim,
        group: &format::Group,
        keys: &[Key],
        now: Millis,
    ) -> Result<Verified, Refused> {
        let stamp = match &self.stamp {
            Some(stamp) => Some(stamp.read(request, group.stamp.as_deref())?),
            None => None,
        };
        let claimed = signed::Claimed { stamp: stamp.as_ref(), id: claim.id.as_deref() };
        let pieces = self.signed.resolve(request, claimed)?;
        let secret = self.compare(&group.candidates, &pieces, keys, now)?;
        let signed_at = match (&self.stamp, &stamp) {
            (Some(stamp), Some(read)) => Some(stamp.check(read.at, now)?),
            _ => None,
        };
        let signed = self.event.wants_signed().then(|| {
            let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.bytes(b"")).collect();
            Digest::of_parts(&pieces)
        });
        Ok(Verified { secret, signed_at, signed, id: None })
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
        candidates: &[mac::Candidate],
        pieces: &[signed::Piece<'_>],
        keys: &[Key],
        now: Millis,
    ) -> Result<Fingerprint, Refused> {
        let mut matched = None;
        let mut tried = 0;
        for key in keys.iter().filter(|key| rotation::is_live(key.ends, now)) {
            tried += 1;
            let good = key.ready.proves(pieces, candidates);
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
