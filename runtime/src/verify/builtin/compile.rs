//! Compile: what an operator may write of a built-in scheme. A key that it has no use for is refused.

use std::time::Duration;

use super::super::extract::Place;
use super::super::spec::{ClaimsSpec, SecretSpec, SignatureSpec, Spec, Texts, TimestampSpec};
use super::hash::Encoding;
use super::jwt::{Algorithm, Audience, BodyHash, Id, Jwt, KeysAt, UrlHash, UrlKind};
use super::sns::{self, Sns, Version};
use super::twilio::{self, Twilio};
use super::{Builtin, shown};
use crate::words::limits::{JWT_LEEWAY_DEFAULT, TOPICS_MAX};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::verify) enum Kind {
    Twilio,
    Adyen,
    Sns,
    Plaid,
    Jwt,
}

/// What a scheme's `type` says, with the keys beside it that mean something.
const KINDS: &[(Kind, &str, &[&str])] = &[
    (Kind::Twilio, "twilio", &["algorithm"]),
    (Kind::Adyen, "adyen", &[]),
    (Kind::Sns, "aws-sns", &["topics", "signature_version"]),
    (Kind::Plaid, "plaid", &["environment", "timestamp.tolerance", "timestamp.future"]),
    (
        Kind::Jwt,
        "jwt",
        &[
            "algorithm",
            "signature.from",
            "signature.format",
            "signature.prefix",
            "timestamp.tolerance",
            "timestamp.future",
            "body_signed",
            "claims",
            "jwks",
        ],
    ),
];

/// How old a token of Plaid's may be, and how far ahead.
/// <https://plaid.com/docs/api/webhooks/webhook-verification/> (2026)
const PLAID_WINDOW: &str = "300s";

/// The span of time in a text; handed in, since the language has one grammar for it.
pub(in crate::verify) type ParseSpan = fn(&str) -> Option<Duration>;

/// None: something is wrong, and was said, each with its key (`scheme.topics`) and a sentence.
pub(in crate::verify) fn compile(
    kind: Kind,
    spec: &Spec,
    parse_span: ParseSpan,
    say: &mut dyn FnMut(&str, String),
) -> Option<Builtin> {
    let mut judge = Judge { spec, parse_span, say, is_sound: true };
    judge.meaningless(kind);
    let built = match kind {
        Kind::Twilio => judge.twilio(),
        Kind::Adyen => Some(Builtin::Adyen),
        Kind::Sns => judge.sns(),
        Kind::Plaid => judge.plaid(),
        Kind::Jwt => judge.jwt(),
    };
    built.filter(|_| judge.is_sound)
}

struct Judge<'a> {
    spec: &'a Spec,
    parse_span: ParseSpan,
    say: &'a mut dyn FnMut(&str, String),
    is_sound: bool,
}

impl Judge<'_> {
    fn say(&mut self, key: &str, message: impl Into<String>) {
        self.is_sound = false;
        (self.say)(&format!("scheme.{key}"), message.into());
    }

    fn meaningless(&mut self, kind: Kind) {
        let Some((_, word, allowed)) = KINDS.iter().find(|(known, ..)| *known == kind) else { return };
        for key in written(self.spec) {
            let section = key.split('.').next().unwrap_or(key);
            if !allowed.contains(&key) && !allowed.contains(&section) {
                self.say(key, format!("it has no meaning with type: {word}; remove it"));
            }
        }
    }

    fn twilio(&mut self) -> Option<Builtin> {
        let algorithm = match self.spec.algorithm.as_deref() {
            None => None,
            Some("sha1") => Some(twilio::Algorithm::Sha1),
            Some("sha256") => Some(twilio::Algorithm::Sha256),
            Some(other) => {
                let why = format!(
                    "`{other}` is not known here; write sha1 for an auth token, sha256 for a SharedKey, or nothing \
                     for either"
                );
                self.say("algorithm", why);
                return None;
            }
        };
        Some(Builtin::Twilio(Box::new(Twilio::new(algorithm))))
    }

    fn sns(&mut self) -> Option<Builtin> {
        let version = match self.spec.signature_version {
            None | Some(2) => Version::Two,
            Some(1) => Version::One,
            Some(_) => {
                self.say("signature_version", "SNS has versions 1 and 2; write 2, or take it away");
                return None;
            }
        };
        let topics = match &self.spec.topics {
            None => None,
            Some(topics) => Some(self.topics(topics)?),
        };
        Some(Builtin::Sns(Sns::new(version, topics)))
    }

    fn topics(&mut self, Texts(topics): &Texts) -> Option<Vec<String>> {
        const EXAMPLE: &str = "arn:aws:sns:us-west-2:123456789012:NAME";
        if topics.is_empty() || topics.len() > TOPICS_MAX {
            self.say("topics", format!("write 1 to {TOPICS_MAX} topics, as topics: [ \"{EXAMPLE}\" ]"));
            return None;
        }
        for (at, topic) in topics.iter().enumerate().filter(|(_, topic)| !sns::is_topic(topic)) {
            let key = format!("topics.{at}");
            self.say(&key, format!("`{}` is not the ARN of a topic; write one as {EXAMPLE}", shown(topic)));
        }
        Some(topics.clone())
    }

    fn plaid(&mut self) -> Option<Builtin> {
        let host = match self.spec.environment.as_deref() {
            None | Some("production") => "production.plaid.com",
            Some("sandbox") => "sandbox.plaid.com",
            Some(other) => {
                let why = format!("`{}` is not known here; write production or sandbox", shown(other));
                self.say("environment", why);
                return None;
            }
        };
        let window = self.window(Some(PLAID_WINDOW))?;
        Some(Builtin::Jwt(Box::new(Jwt {
            from: Place::parse("header:Plaid-Verification").ok()?,
            prefix: None,
            algorithm: Algorithm::Es256,
            issuer: None,
            audience: None,
            body: Some(BodyHash {
                claim: "request_body_sha256".to_owned(),
                encoding: Encoding::Hex,
                may_be_absent: false,
            }),
            url: None,
            window,
            expires: false,
            leeway: JWT_LEEWAY_DEFAULT,
            id: Id::SignedBody,
            keys: Some(KeysAt::Plaid { host }),
        })))
    }

    fn jwt(&mut self) -> Option<Builtin> {
        let algorithm = self.algorithm();
        let from = self.from();
        let prefix = self.prefix();
        let window = self.window(None);
        let leeway = self.leeway();
        let body = self.body();
        let url = self.url();
        let keys = self.keys(algorithm);
        let claims = &self.spec.claims;
        let audience = claims.audience.as_deref().map(|text| match text {
            "{url}" => Audience::Url,
            text => Audience::Text(text.to_owned()),
        });
        Some(Builtin::Jwt(Box::new(Jwt {
            from: from?,
            prefix: prefix?,
            algorithm: algorithm?,
            issuer: claims.issuer.clone(),
            audience,
            body: body?,
            url: url?,
            window: window?,
            expires: claims.expires == Some(true),
            leeway: leeway?,
            id: Id::Jti,
            keys: keys?,
        })))
    }

    fn algorithm(&mut self) -> Option<Algorithm> {
        let algorithm = match self.spec.algorithm.as_deref() {
            Some("hs256") => Algorithm::Hs256,
            Some("rs256") => Algorithm::Rs256,
            Some("es256") => Algorithm::Es256,
            Some(other) => {
                let why = format!("`{}` is not known here; write hs256, rs256 or es256", shown(other));
                self.say("algorithm", why);
                return None;
            }
            None => {
                self.say("algorithm", "it is missing; write hs256, rs256 or es256");
                return None;
            }
        };
        Some(algorithm)
    }

    fn from(&mut self) -> Option<Place> {
        const KEY: &str = "signature.from";
        let texts = self.spec.signature.from.as_ref().map_or(&[][..], |texts| texts.0.as_slice());
        let [text] = texts else {
            self.say(KEY, "where is the token? write one place, as from: \"header:X-Signature-JWT\"");
            return None;
        };
        match Place::parse(text) {
            Ok(place @ Place::Header { .. }) => Some(place),
            Ok(_) => {
                self.say(KEY, "a token travels in a header; write from: \"header:X-Signature-JWT\"");
                None
            }
            Err(why) => {
                self.say(KEY, why);
                None
            }
        }
    }

    fn prefix(&mut self) -> Option<Option<String>> {
        let SignatureSpec { format, prefix, .. } = &self.spec.signature;
        match (format.as_deref(), prefix.as_deref()) {
            (None | Some("raw"), None) => Some(None),
            (None | Some("raw"), Some(_)) => {
                self.say(
                    "signature.prefix",
                    "it has no meaning without format: prefixed; write that, or remove it",
                );
                None
            }
            (Some("prefixed"), Some(prefix)) if !prefix.is_empty() => Some(Some(prefix.to_owned())),
            (Some("prefixed"), _) => {
                self.say("signature.prefix", "it is missing or empty; write prefix: \"Bearer \"");
                None
            }
            (Some(_), _) => {
                self.say("signature.format", "a token is sent alone; write format: raw or format: prefixed");
                None
            }
        }
    }

    /// `default`: what stands for a tolerance that is not written; without one it must be.
    fn window(&mut self, default: Option<&str>) -> Option<Option<(Duration, Duration)>> {
        const KEY: &str = "timestamp.tolerance";
        let TimestampSpec { tolerance, future, .. } = &self.spec.timestamp;
        let Some(tolerance) = tolerance.as_deref().or(default) else {
            self.say(
                KEY,
                "how old may `iat` be? write tolerance: 300s, or tolerance: none where there is no `iat`",
            );
            return None;
        };
        if tolerance == "none" && default.is_none() {
            if future.is_some() {
                self.say("timestamp.future", "it has no meaning with tolerance: none; remove it");
            }
            return Some(None);
        }
        let future = future.clone();
        let past = self.span(KEY, tolerance)?;
        let future = match future {
            Some(future) => self.span("timestamp.future", &future)?,
            None => past,
        };
        Some(Some((past, future)))
    }

    fn leeway(&mut self) -> Option<Duration> {
        match self.spec.claims.leeway.clone() {
            Some(text) => self.span("claims.leeway", &text),
            None => Some(JWT_LEEWAY_DEFAULT),
        }
    }

    fn span(&mut self, key: &str, text: &str) -> Option<Duration> {
        let span = (self.parse_span)(text);
        if span.is_none() {
            self.say(key, format!("`{text}` is not a span of time; write one as 300s, 10m or 1h"));
        }
        span
    }

    fn body(&mut self) -> Option<Option<BodyHash>> {
        let ClaimsSpec { body, body_encoding, body_absent_when_empty, .. } = &self.spec.claims;
        match (body, self.spec.body_signed) {
            (None, Some(false)) => {
                if body_encoding.is_some() || body_absent_when_empty.is_some() {
                    self.say(
                        "claims.body",
                        "it is missing; write the claim with the body's hash, as body: sha256",
                    );
                    return None;
                }
                Some(None)
            }
            (None, _) => {
                let why = "the token does not name the body, so anybody could change it; write the claim that has its \
                           hash, as body: payload_hash, or body_signed: false where there is none";
                self.say("claims.body", why);
                None
            }
            (Some(_), Some(false)) => {
                self.say("body_signed", "claims.body names the body's hash; remove body_signed: false");
                None
            }
            (Some(claim), _) => {
                let encoding = match body_encoding.as_deref() {
                    None | Some("hex") => Encoding::Hex,
                    Some("base64") => Encoding::Base64,
                    Some(other) => {
                        let why = format!("`{}` is not known here; write hex or base64", shown(other));
                        self.say("claims.body_encoding", why);
                        return None;
                    }
                };
                let may_be_absent = *body_absent_when_empty == Some(true);
                Some(Some(BodyHash { claim: claim.clone(), encoding, may_be_absent }))
            }
        }
    }

    fn url(&mut self) -> Option<Option<UrlHash>> {
        let ClaimsSpec { url, url_of, url_base, .. } = &self.spec.claims;
        let Some(claim) = url.clone() else {
            for (key, written) in
                [("claims.url_of", url_of.is_some()), ("claims.url_base", url_base.is_some())]
            {
                if written {
                    self.say(key, "it has no meaning without claims.url; remove it");
                }
            }
            return Some(None);
        };
        let base = url_base.clone();
        let of = match url_of.as_deref() {
            None | Some("url") if base.is_some() => {
                self.say("claims.url_base", "it has no meaning without url_of: atlassian; remove it");
                return None;
            }
            None | Some("url") => UrlKind::Whole,
            Some("atlassian") => UrlKind::Canonical { base: self.base(base.unwrap_or_default())? },
            Some(other) => {
                let why = format!("`{}` is not known here; write url or atlassian", shown(other));
                self.say("claims.url_of", why);
                return None;
            }
        };
        Some(Some(UrlHash { claim, of }))
    }

    /// A path without a slash at its end, or nothing.
    fn base(&mut self, base: String) -> Option<String> {
        let is_path =
            base.is_empty() || (base.starts_with('/') && !base.ends_with('/') && !base.contains(['?', '#']));
        if !is_path {
            self.say("claims.url_base", "the path of the app's base URL, as url_base: /jira-connector");
        }
        is_path.then_some(base)
    }

    fn keys(&mut self, algorithm: Option<Algorithm>) -> Option<Option<KeysAt>> {
        let Some(url) = self.spec.jwks.clone() else { return Some(None) };
        if algorithm == Some(Algorithm::Hs256) {
            self.say("jwks", "a key of hs256 is a secret, and no host has it to give; remove this");
            return None;
        }
        let is_url = url::Url::parse(&url).is_ok_and(|parsed| {
            let is_bare =
                parsed.username().is_empty() && parsed.password().is_none() && parsed.fragment().is_none();
            parsed.scheme() == "https" && parsed.host().is_some() && is_bare
        });
        if !is_url {
            self.say(
                "jwks",
                "it is not a URL with https; write jwks: \"https://auth.example.com/jwks.json\"",
            );
            return None;
        }
        Some(Some(KeysAt::Set { url }))
    }
}

/// Every key that stands in a scheme, beside its type.
fn written(spec: &Spec) -> Vec<&'static str> {
    let SignatureSpec { from, format, prefix, separator, assign, key, groups, encoding } = &spec.signature;
    let TimestampSpec { from: stamp_from, unit, tolerance, future, signed } = &spec.timestamp;
    let SecretSpec { strip_prefix, decode } = &spec.secret;
    let keys = [
        ("algorithm", spec.algorithm.is_some()),
        ("signature.from", from.is_some()),
        ("signature.format", format.is_some()),
        ("signature.prefix", prefix.is_some()),
        ("signature.separator", separator.is_some()),
        ("signature.assign", assign.is_some()),
        ("signature.key", key.is_some()),
        ("signature.groups", groups.is_some()),
        ("signature.encoding", encoding.is_some()),
        ("timestamp.from", stamp_from.is_some()),
        ("timestamp.unit", unit.is_some()),
        ("timestamp.tolerance", tolerance.is_some()),
        ("timestamp.future", future.is_some()),
        ("timestamp.signed", signed.is_some()),
        ("id", spec.id.is_some()),
        ("signed", spec.signed.is_some()),
        ("body_signed", spec.body_signed.is_some()),
        ("secret.strip_prefix", strip_prefix.is_some()),
        ("secret.decode", decode.is_some()),
        ("require", !spec.require.is_empty()),
        ("const", !spec.consts.is_empty()),
        ("i_know_this_is_unauthenticated", spec.i_know_this_is_unauthenticated.is_some()),
        ("topics", spec.topics.is_some()),
        ("signature_version", spec.signature_version.is_some()),
        ("environment", spec.environment.is_some()),
        ("claims", spec.claims != ClaimsSpec::default()),
        ("jwks", spec.jwks.is_some()),
    ];
    keys.into_iter().filter(|(_, is_written)| *is_written).map(|(key, _)| key).collect()
}

/// The keys that only built-in schemes have, as far as they are written: another scheme refuses them.
pub(in crate::verify) fn written_for_builtins(spec: &Spec) -> Vec<&'static str> {
    const OURS: [&str; 5] = ["topics", "signature_version", "environment", "claims", "jwks"];
    written(spec).into_iter().filter(|key| OURS.contains(key)).collect()
}
