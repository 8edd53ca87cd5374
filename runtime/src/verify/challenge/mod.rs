//! Challenge: a request that a provider makes to see who answers, and the answer. Data, as schemes are. The face.
//!
//! One thing is dangerous here. Some providers want an answer made with the very key that signs events, over a text
//! that the request brings. Whoever may choose that text has the key's signature for whatever they like, so:
//!
//! 1. a keyed answer to somebody who proved nothing is compiled only with a pattern for the text, and the pattern lets
//!    through nothing that the scheme's own punctuation or a JSON object needs (`compile`);
//! 2. whatever a pattern says, a text with `:`, `{` or `"` is never given to the key (`template`);
//! 3. an event whose signed content is such a text is no event (`Challenges::signs_for_anybody`): what anybody can
//!    have signed and what is accepted as signed have nothing in common.
//!
//! A verify token is a secret of another kind. It travels in URLs, so it is never a key; it is compared here, in
//! constant time, and nowhere else.
//!
//! Not here: when a request may ask at all, and who writes what is captured (`intake`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use http::{HeaderName, HeaderValue};
use serde_json::Value;
use subtle::ConstantTimeEq as _;

use super::extract::Place;
use super::spec::Problem;
use super::{Key, Request, Scheme, mac, rotation, signed};
use crate::words::limits::{CAPTURED_SECRET_BYTES, CHALLENGE_BODY_BYTES_MAX};
use crate::words::secret::Secret;
use crate::words::time::Millis;
use crate::words::yaml;

mod compile;
mod pattern;
pub mod spec;
mod template;
#[cfg(test)]
mod tests;

use pattern::Pattern;
pub use spec::ChallengeSpec;
use template::{Json, Template};

static PRESETS: LazyLock<BTreeMap<String, ChallengeSpec>> = LazyLock::new(|| {
    let document = yaml::parse(include_str!("../challenges.yaml"))
        .expect("challenges.yaml is in the binary, and tested");
    serde_json::from_value(document.value).expect("challenges.yaml is in the binary, and tested")
});

/// A handshake that ships with the daemon, by name.
pub fn preset(name: &str) -> Option<&'static ChallengeSpec> {
    PRESETS.get(name)
}

/// All of them, in alphabetical order.
pub fn preset_names() -> Vec<&'static str> {
    PRESETS.keys().map(String::as_str).collect()
}

/// The handshakes of one source, compiled.
#[derive(Debug, Default)]
pub struct Challenges {
    list: Vec<Challenge>,
    /// Patterns of what a key is used on for anybody.
    for_anybody: Vec<Pattern>,
    notes: Vec<String>,
}

/// One handshake.
#[derive(Debug)]
pub struct Challenge {
    method: &'static str,
    conditions: Vec<Condition>,
    require: Vec<(Place, Pattern)>,
    verified: bool,
    token: Token,
    capture: Option<Place>,
    follow: Option<Follow>,
    respond: Respond,
}

#[derive(Debug)]
enum Condition {
    There(Place),
    Equal(Place, String),
}

/// The verify token: where the request shows it, and what it is. Until `trust` is called nothing is equal to it.
#[derive(Debug, Default)]
struct Token {
    from: Option<Place>,
    secret: Option<Secret>,
}

#[derive(Debug)]
struct Follow {
    from: Place,
    hosts: Vec<Pattern>,
}

#[derive(Debug)]
struct Respond {
    status: u16,
    headers: Vec<(HeaderName, Template)>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    None,
    Text(Template),
    Json(Json),
}

/// What is answered, and what is to be done before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// 2xx.
    pub status: u16,
    /// Beside those of the body.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: ReplyBody,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReplyBody {
    #[default]
    None,
    Text(String),
    Json(Value),
}

/// An answer that is ready, and what must succeed before it is given.
#[derive(Debug)]
pub struct Ready {
    pub reply: Reply,
    /// To be kept, or to be the one that is kept already.
    pub capture: Option<Secret>,
    /// To be called; its host is one of those that the handshake names.
    pub follow: Option<url::Url>,
}

/// Why a handshake is not answered. The text is the operator's, and never holds what the request sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the verify token is absent or another one: {0}")]
    Token(String),
    #[error("a value of the handshake is refused: {0}")]
    Value(String),
    #[error("no secret is live to answer with")]
    NoKey,
}

// === impl Challenges ===

impl Challenges {
    /// Compiles what a source says of its handshakes. `written`: each with its key counted from the source
    /// (`challenge`, or `challenge.1` in a list); None where it says nothing and the preset's own counts.
    ///
    /// # Errors
    /// Everything wrong at once, each with its key (`challenge.1.respond.json`).
    pub fn compile(
        written: Option<&[(String, ChallengeSpec)]>,
        preset: Option<&str>,
        scheme: &Scheme,
    ) -> Result<Challenges, Vec<Problem>> {
        compile::compile(written, preset, scheme)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// In the order in which they are written.
    pub fn iter(&self) -> impl Iterator<Item = &Challenge> {
        self.list.iter()
    }

    /// What `config check` should say: a handshake of the preset's that lacks what only the operator knows.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Gives the handshake at `at` its verify token.
    pub fn trust(&mut self, at: usize, token: Secret) {
        if let Some(challenge) = self.list.get_mut(at) {
            challenge.token.secret = Some(token);
        }
    }

    /// The methods beside POST, as one writes them in `Allow`: in alphabetical order, each once.
    pub fn methods(&self) -> Vec<&'static str> {
        let mut methods: Vec<_> = self.list.iter().map(|challenge| challenge.method).collect();
        methods.sort_unstable();
        methods.dedup();
        methods.retain(|method| *method != "POST");
        methods
    }

    /// Whether a request of this method is a handshake only once its signature was found good.
    pub fn wants_signed(&self, method: &str) -> bool {
        self.list.iter().any(|challenge| challenge.verified && challenge.method == method)
    }

    /// The first that a request is, and its place in the list. `verified`: whether its signature was found good; one that wants that
    /// is not found without it, and the others are not found with it.
    pub fn find(&self, request: &Request<'_>, verified: bool) -> Option<(usize, &Challenge)> {
        let mut all = self.list.iter().enumerate();
        all.find(|(_, challenge)| challenge.verified == verified && challenge.is(request))
    }

    /// The URL as registered is part of an answer: the source needs its `public_url`.
    pub fn needs_url(&self) -> bool {
        self.templates().any(Template::needs_url)
    }

    /// Whether what a genuine request signs is a text that anybody could have had signed here. Such a request proves
    /// nothing, though its signature is right.
    pub fn signs_for_anybody(&self, scheme: &Scheme, request: &Request<'_>) -> bool {
        let Some(longest) = self.for_anybody.iter().map(Pattern::longest).max() else { return false };
        let contents = scheme.signed_contents(request, longest);
        contents.iter().any(|content| self.for_anybody.iter().any(|pattern| pattern.matches(content)))
    }

    /// The patterns of what anybody can have signed here, as they are written.
    pub fn for_anybody(&self) -> Vec<String> {
        self.for_anybody.iter().map(ToString::to_string).collect()
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        self.list.iter().flat_map(|challenge| challenge.respond.templates())
    }
}

impl Scheme {
    /// What is signed, once for each group of signatures, where it is at most `longest` bytes.
    fn signed_contents(&self, request: &Request<'_>, longest: usize) -> Vec<Vec<u8>> {
        let Ok(claim) = self.claim(request) else { return Vec::new() };
        let groups = std::iter::once(&claim.first).chain(&claim.others);
        let contents = groups.filter_map(|group| {
            let stamp = self.stamp.as_ref().map(|stamp| stamp.read(request, group.stamp.as_deref()));
            let stamp = stamp.transpose().ok()?;
            let claimed = signed::Claimed { stamp: stamp.as_ref(), id: claim.id.as_deref() };
            let pieces = self.signed.resolve(request, claimed).ok()?;
            let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.bytes(b"")).collect();
            let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
            (bytes <= longest).then(|| pieces.concat())
        });
        contents.collect()
    }
}

// === impl Challenge ===

impl Challenge {
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Whether it is answered only after the request's signature was found good.
    pub fn is_verified(&self) -> bool {
        self.verified
    }

    pub fn has_token(&self) -> bool {
        self.token.from.is_some() || self.respond.templates().any(|template| template.needs_token())
    }

    pub fn captures(&self) -> bool {
        self.capture.is_some()
    }

    pub fn follows(&self) -> bool {
        self.follow.is_some()
    }

    /// Whether a request is this handshake. What is cheap to ask is asked first; a large body is no handshake.
    fn is(&self, request: &Request<'_>) -> bool {
        request.method == self.method && self.conditions.iter().all(|condition| condition.holds(request))
    }

    /// The answer, and what must be done before it is given. `keys`: the source's, newest first.
    ///
    /// # Errors
    /// Where the request does not show the verify token, or a value is not what `require` asks for.
    pub fn answer(&self, request: Request<'_>, keys: &[Key], now: Millis) -> Result<Ready, Refused> {
        let asked = Asked { request, keys, now, token: &self.token };
        self.token.check(&asked)?;
        for (place, pattern) in &self.require {
            let value = template::value(place, &asked)?;
            if !pattern.matches(value.as_bytes()) {
                return Err(Refused::Value(format!("{place} does not match {pattern}")));
            }
        }
        let capture = self.capture.as_ref().map(|place| captured(place, &asked)).transpose()?;
        let follow = self.follow.as_ref().map(|follow| follow.url(&asked)).transpose()?;
        Ok(Ready { reply: self.respond.fill(&asked)?, capture, follow })
    }

    /// Which requests it is, for a person: ``GET with query parameter `crc_token` ``.
    pub fn when(&self) -> String {
        let conditions: Vec<_> = self.conditions.iter().map(ToString::to_string).collect();
        match conditions.is_empty() {
            true => self.method.to_owned(),
            false => format!("{} with {}", self.method, conditions.join(", ")),
        }
    }

    /// What it answers, for a person: `200, JSON, made with the secret`.
    pub fn gives(&self) -> String {
        let Respond { status, headers, body } = &self.respond;
        let mut words = vec![status.to_string()];
        words.extend(headers.iter().map(|(name, _)| format!("header `{name}`")));
        match body {
            Body::None => {}
            Body::Text(_) => words.push("text".to_owned()),
            Body::Json(_) => words.push("JSON".to_owned()),
        }
        if self.respond.is_keyed() {
            words.push("made with the secret".to_owned());
        }
        words.join(", ")
    }
}

impl Condition {
    fn holds(&self, request: &Request<'_>) -> bool {
        let (Condition::There(place) | Condition::Equal(place, _)) = self;
        let is_in_body = matches!(place, Place::Json { .. } | Place::Form(_));
        if is_in_body && request.body.len() > CHALLENGE_BODY_BYTES_MAX {
            return false;
        }
        match (self, place.find(request)) {
            (Condition::Equal(_, wanted), Ok(found)) => found.is_some_and(|found| found == *wanted),
            (Condition::Equal(..), Err(_)) => false,
            (Condition::There(_), Ok(found)) => found.is_some(),
            // It is there, and more than once: its value is asked for later, and refused.
            (Condition::There(_), Err(_)) => true,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::There(place) => write!(f, "{place}"),
            Condition::Equal(place, wanted) => write!(f, "{place} = {wanted}"),
        }
    }
}

// === answering ===

/// A request that is a handshake, and what may be used to answer it.
struct Asked<'a> {
    request: Request<'a>,
    keys: &'a [Key],
    now: Millis,
    token: &'a Token,
}

impl Asked<'_> {
    /// Made with the newest live key. Only a MAC: a scheme of another kind has nothing to answer with.
    fn prove(&self, value: &[u8]) -> Result<mac::Bytes, Refused> {
        let newest = self.keys.iter().find(|key| rotation::is_live(key.ends, self.now));
        let ready = &newest.ok_or(Refused::NoKey)?.ready;
        let made = match ready {
            mac::Ready::HmacSha1(_) | mac::Ready::HmacSha256(_) | mac::Ready::HmacSha512(_) => {
                ready.prove(&[signed::Piece::Bytes(value.into())])
            }
            _ => None,
        };
        made.ok_or(Refused::NoKey)
    }

    fn verify_token(&self) -> Result<&Secret, Refused> {
        self.token.secret.as_ref().ok_or_else(|| Refused::Token("none is configured".to_owned()))
    }
}

impl Token {
    fn check(&self, asked: &Asked<'_>) -> Result<(), Refused> {
        let Some(place) = &self.from else { return Ok(()) };
        let refused = || Refused::Token(place.to_string());
        let shown = place.find(&asked.request).ok().flatten().ok_or_else(refused)?;
        let ours = asked.verify_token()?;
        if same_bytes(shown.as_bytes(), ours.expose()) { Ok(()) } else { Err(refused()) }
    }
}

/// Whether two secrets are the same, in a time that tells nothing about either.
pub fn same_secret(one: &Secret, other: &Secret) -> bool {
    same_bytes(one.expose(), other.expose())
}

/// Both are hashed, so that lengths do not show.
fn same_bytes(one: &[u8], other: &[u8]) -> bool {
    mac::Bytes::of_token(one).ct_eq(&mac::Bytes::of_token(other)).into()
}

fn captured(place: &Place, asked: &Asked<'_>) -> Result<Secret, Refused> {
    let value = template::value(place, asked)?;
    let (least, most) = (CAPTURED_SECRET_BYTES.start(), CAPTURED_SECRET_BYTES.end());
    if !CAPTURED_SECRET_BYTES.contains(&value.len()) {
        let bytes = value.len();
        return Err(Refused::Value(format!(
            "{place} has {bytes} bytes, and a secret is taken from {least} to {most}"
        )));
    }
    // What could not stand in a header or a line of a file is nobody's secret.
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refused::Value(format!("{place} holds more than plain characters")));
    }
    Ok(Secret::new(value.as_bytes()))
}

impl Follow {
    fn url(&self, asked: &Asked<'_>) -> Result<url::Url, Refused> {
        let value = template::value(&self.from, asked)?;
        let refused = |why: &str| Refused::Value(format!("{} {why}", self.from));
        let url = url::Url::parse(&value).map_err(|_| refused("is not a URL"))?;
        let is_bare = url.username().is_empty() && url.password().is_none() && url.port().is_none();
        if url.scheme() != "https" || !is_bare {
            return Err(refused("is not a plain https URL"));
        }
        let Some(url::Host::Domain(host)) = url.host() else { return Err(refused("has no name for a host")) };
        if !self.hosts.iter().any(|pattern| pattern.matches(host.as_bytes())) {
            return Err(refused("names another host than `follow.hosts`"));
        }
        Ok(url)
    }
}

impl Respond {
    fn templates(&self) -> impl Iterator<Item = &Template> {
        let body = match &self.body {
            Body::None => Vec::new(),
            Body::Text(template) => vec![template],
            Body::Json(json) => json.templates(),
        };
        self.headers.iter().map(|(_, template)| template).chain(body)
    }

    fn is_keyed(&self) -> bool {
        self.templates().any(|template| template.keyed().next().is_some())
    }

    fn fill(&self, asked: &Asked<'_>) -> Result<Reply, Refused> {
        let header = |(name, template): &(HeaderName, Template)| {
            let value = HeaderValue::from_str(&template.fill(asked)?);
            let value = value
                .map_err(|_| Refused::Value(format!("what is given back does not fit header `{name}`")))?;
            Ok((name.clone(), value))
        };
        let body = match &self.body {
            Body::None => ReplyBody::None,
            Body::Text(template) => ReplyBody::Text(template.fill(asked)?),
            Body::Json(json) => ReplyBody::Json(json.fill(asked)?),
        };
        let headers = self.headers.iter().map(header).collect::<Result<_, Refused>>()?;
        Ok(Reply { status: self.status, headers, body })
    }
}
