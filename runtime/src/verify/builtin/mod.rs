//! Builtin: the schemes that are not data: Twilio, Adyen, Amazon SNS, Plaid, and a JWT that names the body's hash.
//!
//! Each reads its claim from the request, says whether a key proves it, and only then looks at what it claims: that it
//! is for this body, for us, and fresh. The order is the one of `Scheme::verify`.
//!
//! Some keys are not configured but named by the request. `wants` says which one, from a host that is pinned here or
//! by the operator, `ask` how to get it, and `learn` makes a key of the answer. Getting it is not this room's
//! business: it has no network. Whoever asks keeps what was learnt, and answers "no" where nothing was.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Key, Refused, Request, Verified, rotation};
use crate::words::digest::Digest;
use crate::words::secret::Secret;
use crate::words::time::Millis;

mod adyen;
mod compile;
mod form;
mod hash;
mod jwk;
mod jwt;
mod qsh;
mod sns;
#[cfg(test)]
mod tests;
mod twilio;
mod unique;

pub(super) use compile::{Kind, compile, written_for_builtins};

pub(super) enum Builtin {
    Twilio(Box<twilio::Twilio>),
    Adyen,
    Sns(sns::Sns),
    Jwt(Box<jwt::Jwt>),
}

/// A secret set up for one of them. A key of another scheme proves nothing.
pub(super) enum Ready {
    Twilio(twilio::Macs),
    Adyen(hash::HmacSha256),
    Sns(sns::Certificate),
    Jwt(jwt::Verifier),
}

/// What a request claims: read, not yet believed.
enum Claim<'a> {
    Twilio(twilio::Claim),
    Adyen(adyen::Claim),
    Sns(sns::Claim<'a>),
    Jwt(jwt::Claim<'a>),
}

/// What a claim says of itself, once it is believed.
#[derive(Debug, Default)]
struct Settled {
    signed_at: Option<Millis>,
    /// What the proof itself calls the event.
    id: Option<String>,
    /// What was signed, where that is not the body.
    signed: Option<Digest>,
}

/// A key that a request names, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of the pinned host; a GET, or the POST that `Scheme::ask` makes.
    pub url: String,
    /// Which of the host's keys; empty where the URL says it.
    pub key_id: String,
    /// How long what was learnt may be used before it is asked for again.
    pub lifetime: Duration,
}

/// One request to a host of keys, or to the URL that confirms a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub url: String,
    /// JSON to POST. It may hold a credential, and is never shown. None: a GET.
    pub json: Option<Vec<u8>>,
}

/// Why an answer of a host of keys holds no key to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// The host says so: there is no such key, or it has ended. Whoever named it is refused.
    Unknown(String),
    /// It cannot be said. Whoever named it may come back.
    Unavailable(String),
}

impl Builtin {
    /// The names of the operator's credentials that the host of the keys wants; None: no key is asked for.
    pub(super) fn credentials(&self) -> Option<&'static [&'static str]> {
        match self {
            Builtin::Twilio(_) | Builtin::Adyen => None,
            Builtin::Sns(_) => Some(&[]),
            Builtin::Jwt(jwt) => jwt.credentials(),
        }
    }

    /// What is signed, in the language's words.
    pub(super) fn covers(&self) -> &'static str {
        match self {
            Builtin::Twilio(_) => "{url} {body}",
            Builtin::Adyen | Builtin::Sns(_) => "{body}",
            Builtin::Jwt(jwt) => jwt.covers(),
        }
    }

    /// What the operator must still write: the key, and a sentence.
    pub(super) fn lacks(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Builtin::Sns(sns) => sns.lacks(),
            _ => None,
        }
    }

    pub(super) fn notes(&self) -> Vec<String> {
        match self {
            Builtin::Twilio(_) => Vec::new(),
            Builtin::Adyen => vec![adyen::NOTE.to_owned()],
            Builtin::Sns(sns) => sns.notes(),
            Builtin::Jwt(jwt) => jwt.notes(),
        }
    }

    pub(super) fn carries_secret(&self, header: &http::HeaderName) -> bool {
        matches!(self, Builtin::Jwt(jwt) if jwt.carries_secret(header))
    }

    pub(super) fn tolerance(&self) -> Option<(Duration, Duration)> {
        match self {
            Builtin::Jwt(jwt) => jwt.tolerance(),
            _ => None,
        }
    }

    /// A key, and how many bytes of secret it holds; where it is public, that is no matter.
    pub(super) fn ready(&self, secret: &[u8]) -> Result<(Ready, usize), String> {
        if secret.is_empty() {
            return Err("the secret is empty; anybody could sign with it".into());
        }
        Ok(match self {
            Builtin::Twilio(_) => (Ready::Twilio(twilio::Macs::new(text(secret)?)), secret.len()),
            Builtin::Adyen => {
                let key = adyen::key(text(secret)?)?;
                (Ready::Adyen(hash::hmac_sha256(&key)), key.len())
            }
            Builtin::Sns(sns) => (Ready::Sns(sns.certificate(secret)?), usize::MAX),
            Builtin::Jwt(jwt) => {
                let is_symmetric = jwt.is_symmetric();
                let secret = if is_symmetric { text(secret)? } else { secret };
                (Ready::Jwt(jwt.verifier(secret)?), if is_symmetric { secret.len() } else { usize::MAX })
            }
        })
    }

    pub(super) fn verify(
        &self,
        request: &Request<'_>,
        keys: &[Key],
        now: Millis,
    ) -> Result<Verified, Refused> {
        let claim = self.claim(request)?;
        let (mut matched, mut tried) = (None, 0);
        for key in keys.iter().filter(|key| rotation::is_live(key.ends, now)) {
            tried += 1;
            let is_good = key.ready.builtin().is_some_and(|ready| claim.is_proved_by(ready));
            if is_good && matched.is_none() {
                matched = Some(key.fingerprint);
            }
        }
        let secret = matched.ok_or(Refused::Mismatch { tried })?;
        let Settled { signed_at, id, signed } = self.settle(&claim, request, now)?;
        Ok(Verified { secret, signed_at, signed, id })
    }

    fn claim<'a>(&self, request: &Request<'a>) -> Result<Claim<'a>, Refused> {
        Ok(match self {
            Builtin::Twilio(twilio) => Claim::Twilio(twilio.claim(request)?),
            Builtin::Adyen => Claim::Adyen(adyen::claim(request)?),
            Builtin::Sns(sns) => Claim::Sns(sns.claim(request)?),
            Builtin::Jwt(jwt) => Claim::Jwt(jwt.claim(request)?),
        })
    }

    fn settle(&self, claim: &Claim<'_>, request: &Request<'_>, now: Millis) -> Result<Settled, Refused> {
        match (self, claim) {
            (Builtin::Twilio(_), Claim::Twilio(claim)) => claim.settle(request),
            (Builtin::Sns(_), Claim::Sns(claim)) => Ok(claim.settle()),
            (Builtin::Jwt(jwt), Claim::Jwt(claim)) => jwt.settle(claim, request, now),
            _ => Ok(Settled::default()),
        }
    }

    // === keys by URL ===

    /// # Errors
    /// Where the request is not worth a question: it names no key, or one of somebody else's.
    pub(super) fn wants(&self, request: &Request<'_>) -> Result<Option<Wanted>, Refused> {
        match self {
            Builtin::Twilio(_) | Builtin::Adyen => Ok(None),
            Builtin::Sns(sns) => sns.wants(request).map(Some),
            Builtin::Jwt(jwt) => jwt.wants(request),
        }
    }

    pub(super) fn ask(&self, wanted: &Wanted, credentials: &BTreeMap<String, Secret>) -> Result<Ask, String> {
        match self {
            Builtin::Jwt(jwt) => jwt.ask(wanted, credentials),
            _ => Ok(Ask { url: wanted.url.clone(), json: None }),
        }
    }

    /// A key out of an answer, with the moment at which it ends.
    pub(super) fn learn(
        &self,
        wanted: &Wanted,
        status: u16,
        body: &[u8],
        now: Millis,
    ) -> Result<(Ready, Option<Millis>), NoKey> {
        match self {
            Builtin::Sns(sns) => sns.learn(status, body, now),
            Builtin::Jwt(jwt) => jwt.learn(wanted, status, body, now),
            Builtin::Twilio(_) | Builtin::Adyen => {
                Err(NoKey::Unavailable("this scheme asks for no keys".into()))
            }
        }
    }

    /// The URL that confirms what a genuine request asks to have confirmed.
    pub(super) fn follow(&self, request: &Request<'_>) -> Option<Ask> {
        match self {
            Builtin::Sns(sns) => sns.follow(request),
            _ => None,
        }
    }

    /// The headers that the sender would send for this body, where only headers are needed.
    pub(super) fn sign(
        &self,
        ready: &Ready,
        request: &Request<'_>,
        id: &str,
        now: Millis,
    ) -> Result<Vec<(String, String)>, String> {
        match (self, ready) {
            (Builtin::Twilio(twilio), Ready::Twilio(macs)) => twilio.sign(macs, request),
            (Builtin::Jwt(jwt), Ready::Jwt(verifier)) => jwt.sign(verifier, request, id, now),
            (Builtin::Adyen, _) => Err("Adyen signs inside the body; only headers can be made here".into()),
            _ => Err("only the sender has the private key that signs this".into()),
        }
    }
}

impl Claim<'_> {
    fn is_proved_by(&self, ready: &Ready) -> bool {
        match (self, ready) {
            (Claim::Twilio(claim), Ready::Twilio(macs)) => claim.is_proved_by(macs),
            (Claim::Adyen(claim), Ready::Adyen(mac)) => claim.is_proved_by(mac),
            (Claim::Sns(claim), Ready::Sns(certificate)) => claim.is_proved_by(certificate),
            (Claim::Jwt(claim), Ready::Jwt(verifier)) => claim.is_proved_by(verifier),
            _ => false,
        }
    }
}

/// A secret that is text, exactly as it is.
fn text(secret: &[u8]) -> Result<&[u8], String> {
    match secret.last() {
        Some(b'\n' | b'\r') => {
            Err("the secret ends with a newline; write it without one (`printf %s`, not `echo`)".into())
        }
        _ => Ok(secret),
    }
}

/// The URL that the sender called: the registered one, with the query that this request has.
fn called_url(request: &Request<'_>) -> Result<String, Refused> {
    if request.url.is_empty() {
        return Err(Refused::Malformed("the scheme signs the URL; set `public_url` of the source".into()));
    }
    let url = request.url.split(['?', '#']).next().unwrap_or_default();
    Ok(match request.query {
        Some(query) => format!("{url}?{query}"),
        None => url.to_owned(),
    })
}

/// A sender's text in a sentence: short, on one line.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// What serde says about a body, without the body: only where it is wrong.
fn place_of(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Data => "something is missing, there twice, or of another kind",
        Category::Eof => "it ends early",
        Category::Syntax | Category::Io => "it is not JSON",
    };
    format!("{what}, at line {} column {}", error.line(), error.column())
}
