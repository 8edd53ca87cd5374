//! Mac: what proves a request, and the key that is set up for it once.
//!
//! A token is proved like a MAC: both sides are hashed, so that a comparison sees two values of one length and
//! its time tells nothing about the secret.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;
use hmac::{Hmac, KeyInit as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};

/// SHA-512's output, the longest.
pub(super) const PROOF_BYTES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    HmacSha1,
    HmacSha256,
    HmacSha512,
    /// The secret itself travels with the request.
    Token,
}

impl Proof {
    /// How long a proof is, in bytes.
    pub(super) fn len(self) -> usize {
        match self {
            Proof::HmacSha1 => 20,
            Proof::HmacSha256 | Proof::Token => 32,
            Proof::HmacSha512 => 64,
        }
    }

    pub(super) fn ready(self, secret: &[u8]) -> Ready {
        const ANY_LENGTH: &str = "HMAC takes a key of any length";
        match self {
            Proof::HmacSha1 => Ready::HmacSha1(Hmac::new_from_slice(secret).expect(ANY_LENGTH)),
            Proof::HmacSha256 => Ready::HmacSha256(Hmac::new_from_slice(secret).expect(ANY_LENGTH)),
            Proof::HmacSha512 => Ready::HmacSha512(Box::new(Hmac::new_from_slice(secret).expect(ANY_LENGTH))),
            Proof::Token => Ready::Token(Bytes::of_token(secret)),
        }
    }
}

/// A secret with its key schedule done: each request starts from a clone.
pub(super) enum Ready {
    HmacSha1(Hmac<Sha1>),
    HmacSha256(Hmac<Sha256>),
    HmacSha512(Box<Hmac<Sha512>>),
    Token(Bytes),
}

impl Ready {
    /// The right proof for what was signed; the parts go in one after the other, none is copied.
    pub(super) fn prove<'a>(&self, parts: impl Iterator<Item = &'a [u8]>) -> Bytes {
        match self {
            Ready::HmacSha1(mac) => finish(mac.clone(), parts),
            Ready::HmacSha256(mac) => finish(mac.clone(), parts),
            Ready::HmacSha512(mac) => finish(Hmac::clone(mac), parts),
            Ready::Token(token) => *token,
        }
    }
}

fn finish<'a, M: hmac::Mac>(mut mac: M, parts: impl Iterator<Item = &'a [u8]>) -> Bytes {
    for part in parts {
        mac.update(part);
    }
    let proof = mac.finalize().into_bytes();
    Bytes::new(&proof).expect("no hash here is longer than PROOF_BYTES_MAX")
}

/// A proof's bytes, padded with zeros to the longest.
#[derive(Clone, Copy)]
pub(super) struct Bytes {
    len: u8,
    padded: [u8; PROOF_BYTES_MAX],
}

impl Bytes {
    /// None: too long to be a proof.
    pub(super) fn new(bytes: &[u8]) -> Option<Bytes> {
        let mut padded = [0; PROOF_BYTES_MAX];
        padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Bytes { len: u8::try_from(bytes.len()).ok()?, padded })
    }

    pub(super) fn of_token(token: &[u8]) -> Bytes {
        Bytes::new(&Sha256::digest(token)).expect("SHA-256 has 32 bytes")
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.padded[..usize::from(self.len)]
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.len)
    }
}

impl ConstantTimeEq for Bytes {
    /// Eight bytes at a time: the guarantee of byte by byte, for a fraction of its time.
    fn ct_eq(&self, other: &Bytes) -> Choice {
        let (ours, theirs) = (self.padded.as_chunks::<8>().0, other.padded.as_chunks::<8>().0);
        let words = ours.iter().zip(theirs);
        words.fold(self.len.ct_eq(&other.len), |equal, (a, b)| {
            equal & u64::from_ne_bytes(*a).ct_eq(&u64::from_ne_bytes(*b))
        })
    }
}

/// How a secret's text becomes a key.
#[derive(Clone, Debug, Default)]
pub(super) struct SecretText {
    pub(super) strip_prefix: Option<String>,
    pub(super) decode: Decode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Decode {
    #[default]
    Utf8,
    Base64,
    Hex,
}

impl SecretText {
    /// The error never holds the secret.
    pub(super) fn decode(&self, text: &[u8]) -> Result<Vec<u8>, String> {
        if text.is_empty() {
            return Err("the secret is empty; anybody could sign with it".into());
        }
        if matches!(text.last(), Some(b'\n' | b'\r')) {
            return Err(
                "the secret ends with a newline; write it without one (`printf %s`, not `echo`)".into()
            );
        }
        let prefix = self.strip_prefix.as_deref().unwrap_or_default();
        let text = text.strip_prefix(prefix.as_bytes()).unwrap_or(text);
        let key = match self.decode {
            Decode::Utf8 => text.to_vec(),
            // Unpadded secrets exist (standard-webhooks #265); a key has no other spelling to be confused with.
            Decode::Base64 => STANDARD_PAD_INDIFFERENT
                .decode(text)
                .map_err(|_| "the secret is not base64; copy it whole from the provider's page")?,
            Decode::Hex => hex::decode(text)
                .map_err(|_| "the secret is not hex; copy it whole from the provider's page")?,
        };
        if key.is_empty() {
            return Err(format!("the secret has nothing after `{prefix}`; anybody could sign with it"));
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_decode_as_the_scheme_says() {
        let plain = SecretText::default();
        assert_eq!(plain.decode(b"whsec_dGVzdA==").unwrap(), b"whsec_dGVzdA==");
        assert_eq!(plain.decode(b" spaces stay ").unwrap(), b" spaces stay ");
        assert_eq!(plain.decode(b"\xff\x00").unwrap(), b"\xff\x00");
        let base64 = SecretText { strip_prefix: Some("whsec_".into()), decode: Decode::Base64 };
        for text in ["whsec_dGVzdA==", "dGVzdA==", "whsec_dGVzdA"] {
            assert_eq!(base64.decode(text.as_bytes()).unwrap(), b"test", "{text}");
        }
        let hex = SecretText { strip_prefix: None, decode: Decode::Hex };
        assert_eq!(hex.decode(b"00fF").unwrap(), [0, 255]);
    }

    #[test]
    fn secrets_that_prove_nothing_are_refused_without_being_told() {
        let base64 = SecretText { strip_prefix: Some("whsec_".into()), decode: Decode::Base64 };
        for (text, words) in [
            ("", "empty"),
            ("whsec_", "nothing after `whsec_`"),
            ("whsec_dGVzdA==\n", "newline"),
            ("whsec_dGVzdA==\r\n", "newline"),
            ("whsec_topsecret!", "not base64"),
            (" whsec_dGVzdA==", "not base64"),
        ] {
            let error = base64.decode(text.as_bytes()).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
            assert!(!error.contains("dGVzdA") && !error.contains("topsecret"), "{error}");
        }
        let hex = SecretText { strip_prefix: None, decode: Decode::Hex };
        assert!(hex.decode(b"abc").unwrap_err().contains("not hex"));
    }

    #[test]
    fn proofs_of_two_lengths_are_never_equal() {
        let (short, long) = (Bytes::new(&[0; 20]).unwrap(), Bytes::new(&[0; 32]).unwrap());
        assert!(!bool::from(short.ct_eq(&long)));
        assert!(bool::from(short.ct_eq(&Bytes::new(&[0; 20]).unwrap())));
        assert!(Bytes::new(&[0; 65]).is_none());
    }

    /// RFC 2202 and RFC 4231, test case 2 of each.
    #[test]
    fn macs_are_the_published_ones() {
        let parts = ["what do ya want ", "for nothing?"];
        for (proof, expected) in [
            (Proof::HmacSha1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            (Proof::HmacSha256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (
                Proof::HmacSha512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
                 9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        ] {
            let made = proof.ready(b"Jefe").prove(parts.iter().map(|part| part.as_bytes()));
            assert_eq!(hex::encode(made.as_slice()), expected);
            assert_eq!(made.as_slice().len(), proof.len());
        }
    }
}
