//! Jwt: a signed token (RFC 7519) that names the hash of the body: MessageBird, Vonage, Netlify, Plaid and others.
//!
//! The algorithm is the scheme's. The token's `alg` must say the same, and decides nothing. `crit` is refused, since
//! none of its extensions is known here; `jku`, `x5u` and `jwk` are not looked at: a token does not bring its own key.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::super::extract::Place;
use super::super::public::{self, PublicKey};
use super::super::stamp::{From, Stamp, Unit};
use super::super::{Refused, Request};
use super::hash::{self, Encoding, HmacSha256};
use super::{Ask, NoKey, Ready, Settled, Wanted, called_url, jwk, qsh, shown, unique};
use crate::words::digest::Digest;
use crate::words::limits::{JWT_BYTES_MAX, KEY_ID_BYTES_MAX, KEY_LIFETIME, KEYS_OF_A_SET_MAX};
use crate::words::secret::Secret;
use crate::words::time::Millis;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Rs256,
    Es256,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
        }
    }

    /// None: a MAC.
    fn public(self) -> Option<public::Algorithm> {
        match self {
            Algorithm::Hs256 => None,
            Algorithm::Rs256 => Some(public::Algorithm::RsaSha256),
            Algorithm::Es256 => Some(public::Algorithm::EcdsaP256Fixed),
        }
    }
}

pub(in crate::verify) struct Jwt {
    pub(super) from: Place,
    pub(super) prefix: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<Audience>,
    /// None: the body is not signed, and the operator knows it.
    pub(super) body: Option<BodyHash>,
    pub(super) url: Option<UrlHash>,
    /// How old `iat` may be, and how far ahead; None: it need not be there.
    pub(super) window: Option<(Duration, Duration)>,
    /// `exp` must be there.
    pub(super) expires: bool,
    /// How far clocks may differ, for `nbf` and `exp`.
    pub(super) leeway: Duration,
    pub(super) id: Id,
    pub(super) keys: Option<KeysAt>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Audience {
    Text(String),
    /// The source's `public_url`.
    Url,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct BodyHash {
    pub(super) claim: String,
    pub(super) encoding: Encoding,
    /// The claim is left out where there is no body.
    pub(super) may_be_absent: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct UrlHash {
    pub(super) claim: String,
    pub(super) of: UrlKind,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum UrlKind {
    /// The URL as it was called.
    Whole,
    /// Atlassian's canonical request, below a path.
    Canonical { base: String },
}

/// What the proof calls the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    /// The claim `jti`, where there is one.
    Jti,
    /// When it was signed and the body's hash: Plaid's notifications have no id, and often the same body.
    SignedBody,
}

/// The host that has the keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeysAt {
    /// Plaid's, of production or the sandbox.
    Plaid { host: &'static str },
    /// A set of keys at a URL that the operator wrote.
    Set { url: String },
}

pub(in crate::verify) enum Verifier {
    Hmac(HmacSha256),
    Public { kid: Option<String>, key: PublicKey },
}

pub(super) struct Claim<'a> {
    token: Cow<'a, str>,
    /// Where the signature begins, behind a dot.
    signature_at: usize,
    kid: Option<String>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Jwt {
    pub(super) fn is_symmetric(&self) -> bool {
        self.algorithm.public().is_none()
    }

    /// In the language's words.
    pub(super) fn covers(&self) -> &'static str {
        let is_for_url = self.url.is_some() || self.audience == Some(Audience::Url);
        match (is_for_url, self.body.is_some()) {
            (true, true) => "{url} {body}",
            (true, false) => "{url}",
            (false, true) => "{body}",
            (false, false) => "",
        }
    }

    pub(super) fn tolerance(&self) -> Option<(Duration, Duration)> {
        self.window
    }

    /// A token that is not bound to a body is as good as a password until it ends.
    pub(super) fn carries_secret(&self, header: &http::HeaderName) -> bool {
        self.body.is_none() && matches!(&self.from, Place::Header { name, .. } if name == header)
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.body.is_none() {
            notes.push(
                "the token does not name the body, so anybody who sees one can send other bodies with it"
                    .to_owned(),
            );
        }
        if self.window.is_none() && !self.expires {
            notes.push(
                "nothing ends the token: whoever captured a request can send it again at any time".to_owned(),
            );
        }
        notes
    }

    pub(super) fn verifier(&self, secret: &[u8]) -> Result<Verifier, String> {
        let Some(algorithm) = self.algorithm.public() else {
            return Ok(Verifier::Hmac(hash::hmac_sha256(secret)));
        };
        let jwk::Jwk { kid, key, .. } = jwk::of_secret(secret, algorithm)?;
        Ok(Verifier::Public { kid, key })
    }

    // === reading ===

    pub(super) fn claim<'a>(&self, request: &Request<'a>) -> Result<Claim<'a>, Refused> {
        let found = self.from.find(request).map_err(Refused::Malformed)?;
        let found = found.ok_or_else(|| Refused::NoSignature(self.from.to_string()))?;
        let prefix = self.prefix.as_deref().unwrap_or_default();
        let token = match found {
            Cow::Borrowed(text) => text.strip_prefix(prefix).map(Into::into),
            Cow::Owned(text) => text.strip_prefix(prefix).map(|text| text.to_owned().into()),
        };
        let token: Cow<'a, str> = token
            .ok_or_else(|| Refused::Malformed(format!("{} does not begin with `{prefix}`", self.from)))?;
        self.parse(token)
    }

    fn parse<'a>(&self, token: Cow<'a, str>) -> Result<Claim<'a>, Refused> {
        let malformed = |why: &str| Refused::Malformed(format!("the token in {} {why}", self.from));
        if token.len() > JWT_BYTES_MAX {
            return Err(malformed(&format!("is longer than {JWT_BYTES_MAX} bytes")));
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            return Err(malformed("is not three parts with dots between"));
        };
        let decoded = |part: &str, name: &str| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| malformed(&format!("has a {name} that is not base64url")))
        };
        let header = unique::object(&decoded(header, "header")?)
            .ok_or_else(|| malformed("has a header that is no JSON object, or has a key twice"))?;
        let alg = header.get("alg").and_then(Value::as_str).unwrap_or_default();
        if alg != self.algorithm.name() {
            return Err(malformed(&format!(
                "says alg `{}`, and the scheme says {}",
                shown(alg),
                self.algorithm.name()
            )));
        }
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(malformed("has a critical extension, and none is known here"));
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if is_key_id(kid) => Some(kid.clone()),
            Some(_) => return Err(malformed("has a `kid` that names no key")),
        };
        let (payload, signature) = (decoded(payload, "payload")?, decoded(signature, "signature")?);
        let signature_at = token.rfind('.').unwrap_or_default();
        Ok(Claim { signature_at, kid, payload, signature, token })
    }

    // === believing ===

    pub(super) fn settle(
        &self,
        claim: &Claim<'_>,
        request: &Request<'_>,
        now: Millis,
    ) -> Result<Settled, Refused> {
        let claims = unique::object(&claim.payload)
            .ok_or_else(|| unfit("its claims are no JSON object, or one stands twice"))?;
        self.check_for_us(&claims, request)?;
        self.check_body(&claims, request)?;
        self.check_url(&claims, request)?;
        let signed_at = self.check_times(&claims, now)?;
        let id = match self.id {
            Id::Jti => text_of(&claims, "jti").filter(|id| !id.is_empty()),
            Id::SignedBody => {
                let hash = hex::encode(hash::sha256(request.body));
                signed_at.map(|at| format!("{}:{hash}", at.0 / 1000))
            }
        };
        // One token is one event, whatever body came with it.
        let signed = self.body.is_none().then(|| Digest::of(claim.signed()));
        Ok(Settled { signed_at, id, signed })
    }

    fn check_for_us(&self, claims: &Map<String, Value>, request: &Request<'_>) -> Result<(), Refused> {
        if let Some(issuer) = &self.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(unfit(&format!("its `iss` is not `{issuer}`")));
        }
        let (audience, other) = match &self.audience {
            None => return Ok(()),
            Some(Audience::Text(text)) => (text.as_str(), None),
            // With the query as it is registered, or as it came.
            Some(Audience::Url) => (request.url, Some(called_url(request)?)),
        };
        let is_ours =
            |one: &Value| one.as_str().is_some_and(|one| one == audience || Some(one) == other.as_deref());
        let is_for_us = match claims.get("aud") {
            Some(Value::Array(several)) => several.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        };
        if is_for_us { Ok(()) } else { Err(unfit(&format!("its `aud` is not `{audience}`"))) }
    }

    fn check_body(&self, claims: &Map<String, Value>, request: &Request<'_>) -> Result<(), Refused> {
        let Some(BodyHash { claim, encoding, may_be_absent }) = &self.body else { return Ok(()) };
        let Some(said) = claims.get(claim) else {
            if *may_be_absent && request.body.is_empty() {
                return Ok(());
            }
            return Err(unfit(&format!("it does not say what body it is for: `{claim}` is absent")));
        };
        let said = said.as_str().and_then(|text| encoding.decode(text));
        if said.is_some_and(|said| hash::same(&said, &hash::sha256(request.body))) {
            return Ok(());
        }
        Err(unfit(&format!("the body is another than the one that `{claim}` is the hash of")))
    }

    fn check_url(&self, claims: &Map<String, Value>, request: &Request<'_>) -> Result<(), Refused> {
        let Some(UrlHash { claim, of }) = &self.url else { return Ok(()) };
        let right = match of {
            UrlKind::Whole => hash::sha256(called_url(request)?.as_bytes()),
            UrlKind::Canonical { base } => qsh::hash_of(request, base)?,
        };
        let said = claims.get(claim).and_then(Value::as_str).and_then(|text| Encoding::Hex.decode(text));
        if said.is_some_and(|said| hash::same(&said, &right)) {
            return Ok(());
        }
        Err(unfit(&format!(
            "`{claim}` is the hash of another URL; see that `public_url` is the one that the sender has"
        )))
    }

    fn check_times(&self, claims: &Map<String, Value>, now: Millis) -> Result<Option<Millis>, Refused> {
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => match value.as_u64().filter(|seconds| *seconds < 100_000_000_000) {
                Some(seconds) => Ok(Some(Millis::from_seconds(seconds))),
                None => Err(unfit(&format!("its `{name}` is not Unix seconds"))),
            },
        };
        let (issued, begins, ends) = (time("iat")?, time("nbf")?, time("exp")?);
        if ends.is_none() && self.expires {
            return Err(unfit("it has no end: `exp` is absent"));
        }
        if let Some(window) = self.window {
            let at = issued.ok_or_else(|| unfit("it does not say when it was made: `iat` is absent"))?;
            Stamp { from: From::Field, unit: Unit::Seconds, window: Some(window) }.check(at, now)?;
        }
        if let Some(begins) = begins.filter(|begins| now.plus(self.leeway) < *begins) {
            return Err(Refused::NotYet { in_s: seconds_up(begins.since(now)) });
        }
        // RFC 7519: not on it either.
        if let Some(ends) = ends.filter(|ends| now >= ends.plus(self.leeway)) {
            return Err(Refused::Expired { ago_s: seconds_up(now.since(ends)) });
        }
        Ok(issued.or(begins))
    }

    // === keys by URL ===

    pub(super) fn credentials(&self) -> Option<&'static [&'static str]> {
        match self.keys.as_ref()? {
            KeysAt::Plaid { .. } => Some(&["client_id", "secret"]),
            KeysAt::Set { .. } => Some(&[]),
        }
    }

    pub(super) fn wants(&self, request: &Request<'_>) -> Result<Option<Wanted>, Refused> {
        let Some(keys) = &self.keys else { return Ok(None) };
        let claim = self.claim(request)?;
        let key_id = claim.kid.ok_or_else(|| {
            Refused::Malformed(format!(
                "the token in {} has no `kid`, so its key cannot be asked for",
                self.from
            ))
        })?;
        let url = match keys {
            KeysAt::Plaid { host } => format!("https://{host}/webhook_verification_key/get"),
            KeysAt::Set { url } => url.clone(),
        };
        Ok(Some(Wanted { url, key_id, lifetime: KEY_LIFETIME }))
    }

    pub(super) fn ask(&self, wanted: &Wanted, credentials: &BTreeMap<String, Secret>) -> Result<Ask, String> {
        if !matches!(self.keys, Some(KeysAt::Plaid { .. })) {
            return Ok(Ask { url: wanted.url.clone(), json: None });
        }
        let credential = |name: &str| {
            let secret = credentials.get(name).ok_or_else(|| format!("there is no credential `{name}`"))?;
            let text = std::str::from_utf8(secret.expose());
            text.map_err(|_| format!("the credential `{name}` is not text"))
        };
        let json = json!({
            "client_id": credential("client_id")?, "secret": credential("secret")?, "key_id": wanted.key_id,
        });
        Ok(Ask { url: wanted.url.clone(), json: Some(json.to_string().into_bytes()) })
    }

    pub(super) fn learn(
        &self,
        wanted: &Wanted,
        status: u16,
        body: &[u8],
        now: Millis,
    ) -> Result<(Ready, Option<Millis>), NoKey> {
        let unavailable = |why: String| NoKey::Unavailable(why);
        let answer = unique::object(body);
        let is_plaid = matches!(self.keys, Some(KeysAt::Plaid { .. }));
        if status != 200 {
            let code = answer.as_ref().and_then(|answer| answer.get("error_code")).and_then(Value::as_str);
            if is_plaid && status == 400 && code == Some("INVALID_WEBHOOK_VERIFICATION_KEY_ID") {
                return Err(NoKey::Unknown("Plaid has no such key".into()));
            }
            let code = code.map(|code| format!(" ({})", shown(code))).unwrap_or_default();
            return Err(unavailable(format!("the host of the keys answered {status}{code}")));
        }
        let answer =
            answer.ok_or_else(|| unavailable("what the host of the keys answered is no JSON".into()))?;
        let found =
            if is_plaid { answer.get("key").and_then(Value::as_object) } else { of_set(&answer, wanted)? };
        let found = found.ok_or_else(|| match is_plaid {
            true => unavailable("Plaid's answer holds no key".into()),
            false => NoKey::Unknown("the set of keys holds no such key".into()),
        })?;
        let algorithm = self.algorithm.public();
        let algorithm = algorithm.ok_or_else(|| unavailable("a MAC has no public key".into()))?;
        let jwk::Jwk { kid, key, ends } = jwk::of_map(found, algorithm).map_err(NoKey::Unavailable)?;
        if kid.as_deref() != Some(&wanted.key_id) {
            return Err(unavailable("the host of the keys answered with another key".into()));
        }
        match ends {
            Some(at) if at <= now => Err(NoKey::Unknown(format!("the key ended {at}"))),
            _ => Ok((Ready::Jwt(Verifier::Public { kid, key }), ends)),
        }
    }

    // === signing ===

    pub(super) fn sign(
        &self,
        verifier: &Verifier,
        request: &Request<'_>,
        id: &str,
        now: Millis,
    ) -> Result<Vec<(String, String)>, String> {
        let Verifier::Hmac(mac) = verifier else {
            return Err("only the sender has the private key that signs this".into());
        };
        let Place::Header { written, .. } = &self.from else {
            return Err(format!("the token travels in the {}; only headers can be made here", self.from));
        };
        let claims = self.claims(request, id, now).map_err(|refused| refused.to_string())?;
        let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": self.algorithm.name(), "typ": "JWT"});
        let signed = format!("{}.{}", encoded(&header), encoded(&Value::Object(claims)));
        let signature = URL_SAFE_NO_PAD.encode(hash::mac(mac, &[signed.as_bytes()]));
        let prefix = self.prefix.as_deref().unwrap_or_default();
        Ok(vec![(written.clone(), format!("{prefix}{signed}.{signature}"))])
    }

    fn claims(&self, request: &Request<'_>, id: &str, now: Millis) -> Result<Map<String, Value>, Refused> {
        let mut claims = Map::new();
        let seconds = now.0 / 1000;
        claims.insert("iat".into(), seconds.into());
        claims.insert("nbf".into(), seconds.into());
        claims.insert("exp".into(), (seconds + 60).into());
        claims.insert("jti".into(), id.into());
        if let Some(issuer) = &self.issuer {
            claims.insert("iss".into(), issuer.as_str().into());
        }
        match &self.audience {
            Some(Audience::Text(text)) => drop(claims.insert("aud".into(), text.as_str().into())),
            Some(Audience::Url) => drop(claims.insert("aud".into(), request.url.into())),
            None => {}
        }
        if let Some(body) = &self.body {
            claims.insert(body.claim.clone(), body.encoding.encode(&hash::sha256(request.body)).into());
        }
        if let Some(UrlHash { claim, of }) = &self.url {
            let hash = match of {
                UrlKind::Whole => hash::sha256(called_url(request)?.as_bytes()),
                UrlKind::Canonical { base } => qsh::hash_of(request, base)?,
            };
            claims.insert(claim.clone(), hex::encode(hash).into());
        }
        Ok(claims)
    }
}

impl Claim<'_> {
    /// Header and payload, with the dot between them.
    fn signed(&self) -> &[u8] {
        &self.token.as_bytes()[..self.signature_at]
    }

    pub(super) fn is_proved_by(&self, verifier: &Verifier) -> bool {
        let signed = self.signed();
        match verifier {
            Verifier::Hmac(mac) => hash::same(&hash::mac(mac, &[signed]), &self.signature),
            Verifier::Public { kid, key } => {
                let is_named = self.kid.is_none() || kid.is_none() || self.kid == *kid;
                is_named && key.verifies(signed, &self.signature)
            }
        }
    }
}

/// The one key of a set that has the name; an error where the set is none, is too large, or has two.
fn of_set<'a>(
    answer: &'a Map<String, Value>,
    wanted: &Wanted,
) -> Result<Option<&'a Map<String, Value>>, NoKey> {
    let unavailable = |why: String| NoKey::Unavailable(why);
    let keys = answer.get("keys").and_then(Value::as_array);
    let keys =
        keys.ok_or_else(|| unavailable("what the host of the keys answered is no set of keys".into()))?;
    if keys.len() > KEYS_OF_A_SET_MAX {
        return Err(unavailable(format!("the set has more than {KEYS_OF_A_SET_MAX} keys")));
    }
    let named = |key: &&Map<String, Value>| key.get("kid").and_then(Value::as_str) == Some(&wanted.key_id);
    let mut found = keys.iter().filter_map(Value::as_object).filter(named);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(unavailable("the set of keys has that key twice".into())),
        (first, None) => Ok(first),
    }
}

fn is_key_id(kid: &str) -> bool {
    (1..=KEY_ID_BYTES_MAX).contains(&kid.len()) && kid.bytes().all(|byte| byte.is_ascii_graphic())
}

fn text_of(claims: &Map<String, Value>, name: &str) -> Option<String> {
    match claims.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

fn unfit(why: &str) -> Refused {
    Refused::Unfit(why.to_owned())
}

fn seconds_up(span: Duration) -> u64 {
    u64::try_from(span.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}
