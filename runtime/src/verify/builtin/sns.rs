//! Sns: messages of Amazon SNS, signed with the private key of a certificate that the message names by URL.
//! <https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html> (2026)
//!
//! The URL must be SNS's own. `sns.*.amazonaws.com` alone would not do: `sns.s3.amazonaws.com` is a bucket that
//! somebody called `sns`. So the label between must be a region, and the path one that SNS uses. And since the same
//! certificate signs everybody's messages, the topic must be one that the operator lists.
//!
//! What is signed has lines of names and values. Only `Message` may hold a line break, so that it has one reading.
//! `MessageAttributes` and `UnsubscribeURL` are not signed.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::super::public::{Algorithm, PublicKey, unwrapped};
use super::super::{Refused, Request};
use super::{Ask, NoKey, Ready, Settled, Wanted, form, place_of, shown};
use crate::words::limits::KEY_LIFETIME_OF_CERTIFICATES;
use crate::words::time::Millis;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// RSA with SHA-1: only where the operator writes it.
    One,
    Two,
}

impl Version {
    fn name(self) -> &'static str {
        match self {
            Version::One => "1",
            Version::Two => "2",
        }
    }

    fn algorithm(self) -> Algorithm {
        match self {
            Version::One => Algorithm::RsaSha1,
            Version::Two => Algorithm::RsaSha256,
        }
    }
}

pub(in crate::verify) struct Sns {
    version: Version,
    /// None: not written, so that the scheme alone can be tried; a source without them is refused.
    topics: Option<Vec<String>>,
}

pub(in crate::verify) struct Certificate(PublicKey);

pub(super) struct Claim<'a> {
    message: Message<'a>,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message<'b> {
    #[serde(borrow, rename = "Type")]
    kind: Cow<'b, str>,
    #[serde(borrow)]
    message_id: Cow<'b, str>,
    #[serde(borrow)]
    topic_arn: Cow<'b, str>,
    #[serde(borrow)]
    message: Cow<'b, str>,
    #[serde(borrow, default)]
    subject: Option<Cow<'b, str>>,
    #[serde(borrow)]
    timestamp: Cow<'b, str>,
    #[serde(borrow)]
    signature_version: Cow<'b, str>,
    #[serde(borrow, default)]
    signature: Option<Cow<'b, str>>,
    #[serde(borrow, rename = "SigningCertURL")]
    signing_cert_url: Cow<'b, str>,
    #[serde(borrow, default, rename = "SubscribeURL")]
    subscribe_url: Option<Cow<'b, str>>,
    #[serde(borrow, default)]
    token: Option<Cow<'b, str>>,
}

impl Sns {
    pub(super) fn new(version: Version, topics: Option<Vec<String>>) -> Sns {
        Sns { version, topics }
    }

    pub(super) fn lacks(&self) -> Option<(&'static str, &'static str)> {
        let why = "anybody's topic is signed by the same certificate, so the topics are listed; \
                   type `scheme: { topics: [ \"arn:aws:sns:REGION:ACCOUNT:NAME\" ] }`";
        self.topics.is_none().then_some(("scheme.topics", why))
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let note =
            "`signature_version: 1` trusts SHA-1; set SignatureVersion 2 on the topic and remove it here";
        (self.version == Version::One).then(|| note.to_owned()).into_iter().collect()
    }

    /// PEM, of a certificate or of its public key.
    pub(super) fn certificate(&self, pem: &[u8]) -> Result<Certificate, String> {
        if !pem.starts_with(b"-----BEGIN ") {
            return Err(
                "the secret is not a certificate in PEM; without any, the one that a message names is \
                        fetched from Amazon"
                    .into(),
            );
        }
        self.version.algorithm().key(pem).map(Certificate)
    }

    pub(super) fn claim<'a>(&self, request: &Request<'a>) -> Result<Claim<'a>, Refused> {
        let message: Message<'a> = serde_json::from_slice(request.body).map_err(|error| {
            Refused::Malformed(format!(
                "the body is no message of SNS: {}; raw message delivery is not signed, switch it off",
                place_of(&error)
            ))
        })?;
        message.check()?;
        if message.signature_version != self.version.name() {
            return Err(Refused::Malformed(format!(
                "the message is signed with version `{}`, and the scheme takes version {}; set SignatureVersion of \
                 the topic",
                shown(&message.signature_version),
                self.version.name()
            )));
        }
        if !is_certificate_url(&message.signing_cert_url) {
            return Err(Refused::Malformed(format!(
                "SigningCertURL is not one of Amazon SNS: `{}`",
                shown(&message.signing_cert_url)
            )));
        }
        self.check_topic(&message.topic_arn)?;
        let text = message.signature.as_deref().filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| Refused::NoSignature("JSON field `Signature`".to_owned()))?;
        let signature = STANDARD.decode(text).ok();
        let signature =
            signature.ok_or_else(|| Refused::Malformed("JSON field `Signature` is not base64".to_owned()))?;
        Ok(Claim { message, signature })
    }

    fn check_topic(&self, topic: &str) -> Result<(), Refused> {
        match &self.topics {
            Some(topics) if !topics.iter().any(|listed| listed == topic) => Err(Refused::Foreign(format!(
                "the topic `{}` is not one of the scheme's `topics`",
                shown(topic)
            ))),
            _ => Ok(()),
        }
    }

    // === the certificate by URL ===

    pub(super) fn wants(&self, request: &Request<'_>) -> Result<Wanted, Refused> {
        let claim = self.claim(request)?;
        Ok(Wanted {
            url: claim.message.signing_cert_url.into_owned(),
            key_id: String::new(),
            lifetime: KEY_LIFETIME_OF_CERTIFICATES,
        })
    }

    pub(super) fn learn(
        &self,
        status: u16,
        body: &[u8],
        now: Millis,
    ) -> Result<(Ready, Option<Millis>), NoKey> {
        match status {
            200 => {}
            403 | 404 | 410 => return Err(NoKey::Unknown("Amazon has no such certificate".into())),
            other => return Err(NoKey::Unavailable(format!("Amazon answered {other}"))),
        }
        let is_pem = body.starts_with(b"-----BEGIN CERTIFICATE-----");
        let der = unwrapped(body).ok().filter(|_| is_pem);
        let der = der.ok_or_else(|| NoKey::Unavailable("what Amazon answered is no certificate".into()))?;
        let (begins, ends) =
            validity(&der).ok_or_else(|| NoKey::Unavailable("the certificate cannot be read".into()))?;
        if now < begins || ends < now {
            return Err(NoKey::Unknown(format!("the certificate is good from {begins} to {ends}")));
        }
        let certificate = self.certificate(body).map_err(NoKey::Unavailable)?;
        Ok((Ready::Sns(certificate), Some(ends)))
    }

    /// The URL that a genuine confirmation of a subscription asks to be visited.
    pub(super) fn follow(&self, request: &Request<'_>) -> Option<Ask> {
        let message = self.claim(request).ok()?.message;
        let url = message.subscribe_url.as_deref().filter(|_| message.kind == CONFIRMATION)?;
        message.is_confirmed_by(url).then(|| Ask { url: url.to_owned(), json: None })
    }
}

const NOTIFICATION: &str = "Notification";
const CONFIRMATION: &str = "SubscriptionConfirmation";
const FAREWELL: &str = "UnsubscribeConfirmation";

impl Claim<'_> {
    pub(super) fn is_proved_by(&self, certificate: &Certificate) -> bool {
        certificate.0.verifies(self.message.signed().as_bytes(), &self.signature)
    }

    pub(super) fn settle(&self) -> Settled {
        Settled { signed_at: Millis::from_rfc3339(&self.message.timestamp), ..Settled::default() }
    }
}

impl Message<'_> {
    /// Of a known kind, with what that kind has, each on one line.
    fn check(&self) -> Result<(), Refused> {
        let has_subscription = match &*self.kind {
            NOTIFICATION => false,
            CONFIRMATION | FAREWELL => true,
            other => {
                return Err(Refused::Malformed(format!("`{}` is no type of a message of SNS", shown(other))));
            }
        };
        let one_line = [
            Some(&self.message_id),
            self.subject.as_ref(),
            self.subscribe_url.as_ref(),
            Some(&self.timestamp),
            self.token.as_ref(),
            Some(&self.topic_arn),
        ];
        if one_line.into_iter().flatten().any(|text| text.chars().any(char::is_control)) {
            return Err(Refused::Malformed("a value beside Message holds a line break".into()));
        }
        if has_subscription && (self.subscribe_url.is_none() || self.token.is_none()) {
            return Err(Refused::Malformed("the message has no SubscribeURL and Token".into()));
        }
        if self.kind == CONFIRMATION
            && !self.subscribe_url.as_deref().is_some_and(|url| self.is_confirmed_by(url))
        {
            return Err(Refused::Malformed(format!(
                "SubscribeURL is not one of Amazon SNS for this topic: `{}`",
                shown(self.subscribe_url.as_deref().unwrap_or_default())
            )));
        }
        Ok(())
    }

    /// Names and values in the order of their names; a confirmation has others than a notification.
    fn signed(&self) -> String {
        let is_notification = self.kind == NOTIFICATION;
        let lines: [(&str, Option<&str>); 8] = [
            ("Message", Some(&self.message)),
            ("MessageId", Some(&self.message_id)),
            ("Subject", self.subject.as_deref().filter(|_| is_notification)),
            ("SubscribeURL", self.subscribe_url.as_deref().filter(|_| !is_notification)),
            ("Timestamp", Some(&self.timestamp)),
            ("Token", self.token.as_deref().filter(|_| !is_notification)),
            ("TopicArn", Some(&self.topic_arn)),
            ("Type", Some(&self.kind)),
        ];
        let mut text = String::with_capacity(self.message.len() + 512);
        for (name, value) in lines {
            if let Some(value) = value {
                for part in [name, "\n", value, "\n"] {
                    text.push_str(part);
                }
            }
        }
        text
    }

    /// `https://sns.REGION.amazonaws.com/?Action=ConfirmSubscription&TopicArn=…&Token=…`, of this topic and token.
    fn is_confirmed_by(&self, url: &str) -> bool {
        let Some(query) = behind_host(url).and_then(|path| path.strip_prefix("/?")) else { return false };
        let Ok(pairs) = form::pairs(query.as_bytes()) else { return false };
        let is = |name: &str, value: &str| form::one(&pairs, name) == Ok(Some(value.as_bytes()));
        query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
            && is("Action", "ConfirmSubscription")
            && is("TopicArn", &self.topic_arn)
            && is("Token", self.token.as_deref().unwrap_or_default())
    }
}

/// `https://sns.us-west-2.amazonaws.com/SimpleNotificationService-0123abcd.pem`
fn is_certificate_url(url: &str) -> bool {
    let name = behind_host(url).and_then(|path| path.strip_prefix("/SimpleNotificationService-"));
    let name = name.and_then(|path| path.strip_suffix(".pem")).unwrap_or_default();
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// What follows the host, where that is SNS of a region: `https://sns.REGION.amazonaws.com`, or `….com.cn`.
fn behind_host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://sns.")?;
    let (host, _) = rest.split_once('/')?;
    let domain = host.strip_suffix(".cn").unwrap_or(host);
    domain.strip_suffix(".amazonaws.com").filter(|region| is_region(region))?;
    Some(&rest[host.len()..])
}

/// `us-west-2`, `us-gov-east-1`, `ap-southeast-2`: words and a number. `s3` and `s3-us-west-2` are no regions.
fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let is_word =
        |part: &&str| (2..=16).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_lowercase());
    match parts.split_last() {
        Some((number, words)) => {
            let is_number =
                (1..=2).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
            is_number && (2..=4).contains(&words.len()) && words.iter().all(is_word)
        }
        None => false,
    }
}

fn validity(der: &[u8]) -> Option<(Millis, Millis)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let at = |seconds: i64| u64::try_from(seconds).ok().map(Millis::from_seconds);
    let validity = certificate.validity();
    Some((at(validity.not_before.timestamp())?, at(validity.not_after.timestamp())?))
}

/// An ARN of a topic, as `topics` lists them.
pub(super) fn is_topic(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let [arn, partition, service, region, account, name] = parts[..] else { return false };
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    arn == "arn"
        && partition.starts_with("aws")
        && service == "sns"
        && is_region(region)
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && is_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sns_of_a_region_has_certificates() {
        for good in [
            "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
            "https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-a.pem",
            "https://sns.us-gov-west-1.amazonaws.com/SimpleNotificationService-a.pem",
            "https://sns.ap-southeast-12.amazonaws.com/SimpleNotificationService-a.pem",
        ] {
            assert!(is_certificate_url(good), "{good}");
        }
        for evil in [
            "http://sns.us-west-2.amazonaws.com/SimpleNotificationService-a.pem",
            "https://sns.us-west-2.amazonaws.com.evil.example/SimpleNotificationService-a.pem",
            "https://evil.example/sns.us-west-2.amazonaws.com/SimpleNotificationService-a.pem",
            "https://sns.us-west-2.amazonaws.com@evil.example/SimpleNotificationService-a.pem",
            "https://sns.us-west-2.amazonaws.com:8443/SimpleNotificationService-a.pem",
            "https://evil.example\\.sns.us-west-2.amazonaws.com/SimpleNotificationService-a.pem",
            "https://sns.evil.example#.us-west-2.amazonaws.com/SimpleNotificationService-a.pem",
            "https://sns.evil.example?.us-west-2.amazonaws.com/SimpleNotificationService-a.pem",
            "https://sns.s3.amazonaws.com/SimpleNotificationService-a.pem",
            "https://sns.s3-us-west-2.amazonaws.com/SimpleNotificationService-a.pem",
            "https://sns..amazonaws.com/SimpleNotificationService-a.pem",
            "https://sns.a.us-west-2.amazonaws.com/SimpleNotificationService-a.pem",
            "https://xsns.us-west-2.amazonaws.com/SimpleNotificationService-a.pem",
            "https://SNS.us-west-2.amazonaws.com/SimpleNotificationService-a.pem",
            " https://sns.us-west-2.amazonaws.com/SimpleNotificationService-a.pem",
            "https://sns.us-west-2.amazonaws.com.cn.cn/SimpleNotificationService-a.pem",
            "https://sns.us-west-2.amazonaws.org/SimpleNotificationService-a.pem",
            "https://sns.us-west-2.amazonaws.com/x.pem",
            "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-.pem",
            "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-a/../../x.pem",
            "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-a.pem?x=.pem",
            "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-a.PEM",
            "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-a%00.pem",
            "https://sns.us-west-2.amazonaws.com",
            "",
        ] {
            assert!(!is_certificate_url(evil), "{evil}");
        }
    }

    #[test]
    fn a_topic_is_named_by_its_arn() {
        for good in
            ["arn:aws:sns:us-west-2:123456789012:MyTopic", "arn:aws-cn:sns:cn-north-1:123456789012:a.fifo"]
        {
            assert!(is_topic(good), "{good}");
        }
        for wrong in [
            "MyTopic",
            "arn:aws:sqs:us-west-2:123456789012:q",
            "arn:aws:sns:us-west-2:1234:MyTopic",
            "arn:aws:sns:us-west-2:123456789012:",
            "arn:aws:sns:us-west-2:123456789012:*",
            "arn:aws:sns:us-west-2:123456789012:MyTopic:subscription",
        ] {
            assert!(!is_topic(wrong), "{wrong}");
        }
    }
}
