//! Twilio: an HMAC over the URL and the sorted parameters of a form.
//!
//! A body that is no form is not in it: the URL then holds the body's hash, as `bodySHA256`. Without that parameter
//! nothing proves the body, so the request is refused.
//! <https://www.twilio.com/docs/usage/webhooks/webhooks-security> (2026)
//!
//! An account's token signs with SHA-1; a SharedKey with SHA-256, and then a header says so
//! (<https://www.twilio.com/docs/usage/webhooks/webhook-shared-keys>, 2026-09, beta). What the header says must be
//! one of what the scheme allows: it never adds to it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::extract::Place;
use super::super::{Refused, Request};
use super::hash::{self, HmacSha1, HmacSha256};
use super::{Settled, called_url, form, shown};

const SIGNATURE: &str = "X-Twilio-Signature";
const SETTINGS: &str = "header:X-Twilio-Webhooks-Signature-Settings";
const BODY_HASH: &str = "bodySHA256";
const FORM: &str = "application/x-www-form-urlencoded";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Sha1,
    Sha256,
}

impl Algorithm {
    /// As the scheme and as Twilio write it.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Algorithm::Sha1 => ("sha1", "HMAC_SHA1"),
            Algorithm::Sha256 => ("sha256", "HMAC_SHA256"),
        }
    }
}

pub(in crate::verify) struct Twilio {
    signature: Place,
    settings: Place,
    content_type: Place,
    /// What the operator allows; None: both.
    algorithm: Option<Algorithm>,
}

/// One secret, set up for both algorithms.
pub(in crate::verify) struct Macs {
    sha1: HmacSha1,
    sha256: HmacSha256,
}

impl Macs {
    pub(super) fn new(secret: &[u8]) -> Macs {
        Macs { sha1: hash::hmac_sha1(secret), sha256: hash::hmac_sha256(secret) }
    }

    fn of(&self, algorithm: Algorithm, parts: &[&[u8]]) -> Vec<u8> {
        match algorithm {
            Algorithm::Sha1 => hash::mac(&self.sha1, parts),
            Algorithm::Sha256 => hash::mac(&self.sha256, parts),
        }
    }
}

pub(super) struct Claim {
    signature: Vec<u8>,
    algorithm: Algorithm,
    /// With a port and without: Twilio signs either.
    urls: [String; 2],
    /// Names and values of a form, sorted and joined.
    parameters: Vec<u8>,
    /// What the URL says that the body's hash is.
    body_hash: Option<Vec<u8>>,
}

impl Twilio {
    pub(super) fn new(algorithm: Option<Algorithm>) -> Twilio {
        let place = |text: &str| Place::parse(text).expect("a constant, and a test uses all of them");
        Twilio {
            signature: place(&format!("header:{SIGNATURE}")),
            settings: place(SETTINGS),
            content_type: place("header:Content-Type"),
            algorithm,
        }
    }

    pub(super) fn claim(&self, request: &Request<'_>) -> Result<Claim, Refused> {
        let text = self.signature.find(request).map_err(Refused::Malformed)?;
        let text = text.ok_or_else(|| Refused::NoSignature(self.signature.to_string()))?;
        let algorithm = self.algorithm(request)?;
        let signature = STANDARD.decode(text.as_bytes()).ok();
        let signature = signature
            .ok_or_else(|| Refused::Malformed(format!("{} holds nothing that is base64", self.signature)))?;
        let url = called_url(request)?;
        let body_hash = body_hash(request)?;
        let is_form = self.is_form(request)?;
        if !is_form && body_hash.is_none() && !request.body.is_empty() {
            return Err(Refused::Malformed(format!(
                "the body is no form and the URL has no `{BODY_HASH}`, so nothing signs it; see that the sender's \
                 query arrives whole"
            )));
        }
        let parameters = if is_form { parameters(request.body)? } else { Vec::new() };
        Ok(Claim { signature, algorithm, urls: with_and_without_port(&url), parameters, body_hash })
    }

    /// What the request says that it was signed with, if that is allowed.
    fn algorithm(&self, request: &Request<'_>) -> Result<Algorithm, Refused> {
        let settings = self.settings.find(request).map_err(Refused::Malformed)?;
        let said = match settings.as_deref() {
            None => Algorithm::Sha1,
            Some(settings) => {
                let mut items = settings.split(',').filter_map(|item| item.trim().strip_prefix("algorithm="));
                let said = items.next().unwrap_or_default();
                let known = [Algorithm::Sha1, Algorithm::Sha256].into_iter().find(|a| a.names().1 == said);
                let is_one = items.next().is_none();
                known.filter(|_| is_one).ok_or_else(|| {
                    Refused::Malformed(format!("{} names no algorithm: `{}`", self.settings, shown(settings)))
                })?
            }
        };
        match self.algorithm {
            Some(allowed) if allowed != said => Err(Refused::Malformed(format!(
                "the sender signs with {}, and the scheme says {}; write algorithm: {} with the secret of that kind",
                said.names().1,
                allowed.names().0,
                said.names().0,
            ))),
            _ => Ok(said),
        }
    }

    fn is_form(&self, request: &Request<'_>) -> Result<bool, Refused> {
        let found = self.content_type.find(request).map_err(Refused::Malformed)?;
        let media = found.as_deref().and_then(|text| text.split(';').next()).unwrap_or_default();
        Ok(media.trim().eq_ignore_ascii_case(FORM))
    }

    pub(super) fn sign(&self, macs: &Macs, request: &Request<'_>) -> Result<Vec<(String, String)>, String> {
        if request.body.starts_with(b"{") || request.body.starts_with(b"[") {
            return Err(format!(
                "a body of JSON is signed by `{BODY_HASH}` of the URL; write a form, as `a=b&c=d`"
            ));
        }
        let algorithm = self.algorithm.unwrap_or(Algorithm::Sha1);
        let url = called_url(request).map_err(|refused| refused.to_string())?;
        let parameters = parameters(request.body).map_err(|refused| refused.to_string())?;
        let signature = STANDARD.encode(macs.of(algorithm, &[url.as_bytes(), &parameters]));
        let mut lines = vec![("Content-Type".to_owned(), FORM.to_owned()), (SIGNATURE.to_owned(), signature)];
        if algorithm == Algorithm::Sha256 {
            let name = SETTINGS.trim_start_matches("header:").to_owned();
            lines.push((name, format!("key=test,algorithm={}", algorithm.names().1)));
        }
        Ok(lines)
    }
}

impl Claim {
    pub(super) fn is_proved_by(&self, macs: &Macs) -> bool {
        let good = self.urls.each_ref().map(|url| {
            hash::same(&macs.of(self.algorithm, &[url.as_bytes(), &self.parameters]), &self.signature)
        });
        good.contains(&true)
    }

    /// The hash is part of the signed URL: only now it is Twilio's word.
    pub(super) fn settle(&self, request: &Request<'_>) -> Result<Settled, Refused> {
        match &self.body_hash {
            Some(signed) if !hash::same(signed, &hash::sha256(request.body)) => Err(Refused::Unfit(format!(
                "the body is another than `{BODY_HASH}` of the URL is the hash of"
            ))),
            _ => Ok(Settled::default()),
        }
    }
}

fn body_hash(request: &Request<'_>) -> Result<Option<Vec<u8>>, Refused> {
    let query = form::pairs(request.query.unwrap_or_default().as_bytes()).map_err(Refused::Malformed)?;
    let Some(text) = form::one(&query, BODY_HASH).map_err(Refused::Malformed)? else { return Ok(None) };
    let decoded = hex::decode(text).ok().filter(|hash| hash.len() == 32);
    decoded.map(Some).ok_or_else(|| Refused::Malformed(format!("`{BODY_HASH}` is not 32 bytes of hex")))
}

/// Sorted by name, then by value; a pair that is there twice counts once.
fn parameters(body: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut pairs = form::pairs(body).map_err(|why| Refused::Malformed(format!("the form has {why}")))?;
    pairs.sort_unstable();
    pairs.dedup();
    Ok(pairs.into_iter().flat_map(|(name, value)| [name, value]).flatten().collect())
}

/// `https://host/…` and `https://host:443/…`, whichever of them came.
fn with_and_without_port(url: &str) -> [String; 2] {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let is_digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match authority.rsplit_once(':').filter(|(_, port)| is_digits(port)) {
        Some((host, _)) => [url.to_owned(), format!("{scheme}://{host}{path}")],
        None => {
            let port = if scheme == "http" { 80 } else { 443 };
            [url.to_owned(), format!("{scheme}://{authority}:{port}{path}")]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_tried_with_a_port_and_without() {
        for (url, other) in [
            ("https://a.example/p?q=1", "https://a.example:443/p?q=1"),
            ("http://a.example/p", "http://a.example:80/p"),
            ("https://a.example:1234/p", "https://a.example/p"),
            ("https://me:pw@a.example/p", "https://me:pw@a.example:443/p"),
            ("https://me:1@a.example:8443/p", "https://me:1@a.example/p"),
            ("https://[::1]/p", "https://[::1]:443/p"),
            ("https://[::1]:8443/p", "https://[::1]/p"),
            ("https://a.example", "https://a.example:443"),
            ("https://a.example?q=a:1", "https://a.example:443?q=a:1"),
        ] {
            assert_eq!(with_and_without_port(url), [url, other], "{url}");
        }
    }

    #[test]
    fn parameters_are_sorted_and_there_once() {
        assert_eq!(parameters(b"b=2&a=%2B1&b=1&b=2&c").unwrap(), b"a+1b1b2c");
        assert_eq!(parameters(b"").unwrap(), b"");
        // Bytes that are no UTF-8 are not replaced by something that is.
        assert_ne!(parameters(b"a=%FF").unwrap(), parameters(b"a=%EF%BF%BD").unwrap());
    }
}
