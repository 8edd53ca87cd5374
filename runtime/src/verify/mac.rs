//! Mac: what proves a request, and the key that is set up for it once. Public keys are in `public`.
//!
//! A token is proved like a MAC: both sides are hashed, so that a comparison sees two values of one length and
//! its time tells nothing about the secret.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;
use hmac::{Hmac, KeyInit as _};
use sha1::{Digest as _, Sha1};
use sha2::{Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};

use super::builtin;
use super::public::{self, PublicKey};
use super::signed::Piece;
use crate::words::limits::{PUBLIC_KEY_CANDIDATES_MAX, SIGNATURE_CANDIDATES_MAX};

/// SHA-512's output and Ed25519's signature, the longest that have one length.
pub(super) const PROOF_BYTES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Hmac(Hash),
    /// A plain hash that the secret goes into.
    Hash(Hash),
    Public(public::Algorithm),
    /// The secret itself travels with the request.
    Token,
    /// The same, as user and password.
    Basic,
    /// Whatever anybody sends is taken.
    Nothing,
    /// One of `builtin`, which proves it by itself.
    Builtin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
    Sha512,
}

impl Hash {
    fn len(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
            Hash::Sha512 => 64,
        }
    }
}

impl Proof {
    /// How long a proof is, in bytes; from and to.
    pub(super) fn lengths(self) -> (usize, usize) {
        match self {
            Proof::Hmac(hash) | Proof::Hash(hash) => (hash.len(), hash.len()),
            Proof::Public(algorithm) => algorithm.lengths(),
            Proof::Token | Proof::Basic => (32, 32),
            Proof::Nothing | Proof::Builtin => (0, 0),
        }
    }

    /// Comparing a MAC costs next to nothing once it is made; a public key is asked for each.
    pub(super) fn candidates_max(self) -> usize {
        match self {
            Proof::Public(_) => PUBLIC_KEY_CANDIDATES_MAX,
            _ => SIGNATURE_CANDIDATES_MAX,
        }
    }

    pub(super) fn ready(self, secret: &[u8]) -> Result<Ready, String> {
        const ANY_LENGTH: &str = "HMAC takes a key of any length";
        Ok(match self {
            Proof::Hmac(Hash::Sha1) => Ready::HmacSha1(Hmac::new_from_slice(secret).expect(ANY_LENGTH)),
            Proof::Hmac(Hash::Sha256) => Ready::HmacSha256(Hmac::new_from_slice(secret).expect(ANY_LENGTH)),
            Proof::Hmac(Hash::Sha512) => {
                Ready::HmacSha512(Box::new(Hmac::new_from_slice(secret).expect(ANY_LENGTH)))
            }
            Proof::Hash(hash) => Ready::Hash(hash, secret.into()),
            Proof::Public(algorithm) => Ready::Public(algorithm.key(secret)?),
            Proof::Basic if !secret.contains(&b':') => {
                return Err("the secret is not `user:password`; write both, with a colon between them".into());
            }
            Proof::Token | Proof::Basic => Ready::Token(Bytes::of_token(secret)),
            Proof::Nothing | Proof::Builtin => Ready::Nothing,
        })
    }
}

/// A secret with its key schedule done: each request starts from a clone.
pub(super) enum Ready {
    HmacSha1(Hmac<Sha1>),
    HmacSha256(Hmac<Sha256>),
    HmacSha512(Box<Hmac<Sha512>>),
    Hash(Hash, Box<[u8]>),
    Token(Bytes),
    Public(PublicKey),
    Builtin(Box<builtin::Ready>),
    Nothing,
}

/// What a request offers as its proof.
pub(super) enum Candidate {
    Mac(Bytes),
    Signature(Vec<u8>),
}

impl Ready {
    /// Whether one of the candidates proves the pieces. Each of them is looked at, and none in less time.
    pub(super) fn proves(&self, pieces: &[Piece<'_>], candidates: &[Candidate]) -> Choice {
        let mut good = Choice::from(0);
        match self {
            Ready::Public(key) => {
                let message = pieces.iter().map(|piece| piece.bytes(b"")).collect::<Vec<_>>().concat();
                for candidate in candidates {
                    if let Candidate::Signature(signature) = candidate {
                        good |= Choice::from(u8::from(key.verifies(&message, signature)));
                    }
                }
            }
            _ => {
                if let Some(expected) = self.prove(pieces) {
                    for candidate in candidates {
                        if let Candidate::Mac(mac) = candidate {
                            good |= mac.ct_eq(&expected);
                        }
                    }
                }
            }
        }
        good
    }

    /// The right proof for what was signed; the pieces go in one after the other, none is copied. None: whoever has
    /// this key cannot make one.
    pub(super) fn prove(&self, pieces: &[Piece<'_>]) -> Option<Bytes> {
        match self {
            Ready::HmacSha1(mac) => Some(finish(mac.clone(), pieces)),
            Ready::HmacSha256(mac) => Some(finish(mac.clone(), pieces)),
            Ready::HmacSha512(mac) => Some(finish(Hmac::clone(mac), pieces)),
            Ready::Hash(hash, secret) => Some(match hash {
                Hash::Sha1 => digest::<Sha1>(secret, pieces),
                Hash::Sha256 => digest::<Sha256>(secret, pieces),
                Hash::Sha512 => digest::<Sha512>(secret, pieces),
            }),
            Ready::Token(token) => Some(*token),
            Ready::Public(_) | Ready::Builtin(_) | Ready::Nothing => None,
        }
    }

    pub(super) fn builtin(&self) -> Option<&builtin::Ready> {
        match self {
            Ready::Builtin(ready) => Some(ready),
            _ => None,
        }
    }
}

const NONE_IS_LONGER: &str = "no hash here is longer than PROOF_BYTES_MAX";

fn finish<M: hmac::Mac>(mut mac: M, pieces: &[Piece<'_>]) -> Bytes {
    for piece in pieces {
        mac.update(piece.bytes(b""));
    }
    Bytes::new(&mac.finalize().into_bytes()).expect(NONE_IS_LONGER)
}

fn digest<D: sha1::Digest>(secret: &[u8], pieces: &[Piece<'_>]) -> Bytes {
    let mut hasher = D::new();
    for piece in pieces {
        hasher.update(piece.bytes(secret));
    }
    Bytes::new(&hasher.finalize()).expect(NONE_IS_LONGER)
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
    /// A public key: as PEM it is taken whole.
    pub(super) is_public: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Decode {
    #[default]
    Utf8,
    Base64,
    Hex,
    /// The text's SHA-1 is the key.
    Sha1,
}

impl SecretText {
    /// The error never holds the secret.
    pub(super) fn decode(&self, text: &[u8]) -> Result<Vec<u8>, String> {
        if text.is_empty() {
            return Err("the secret is empty; anybody could sign with it".into());
        }
        if self.is_public && text.starts_with(b"-----BEGIN ") {
            return Ok(text.to_vec());
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
            Decode::Sha1 if text.is_empty() => Vec::new(),
            Decode::Sha1 => Sha1::digest(text).to_vec(),
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
        let base64 = SecretText {
            strip_prefix: Some("whsec_".into()),
            decode: Decode::Base64,
            ..SecretText::default()
        };
        for text in ["whsec_dGVzdA==", "dGVzdA==", "whsec_dGVzdA"] {
            assert_eq!(base64.decode(text.as_bytes()).unwrap(), b"test", "{text}");
        }
        let hex = SecretText { strip_prefix: None, decode: Decode::Hex, ..SecretText::default() };
        assert_eq!(hex.decode(b"00fF").unwrap(), [0, 255]);
        let sha1 = SecretText { strip_prefix: None, decode: Decode::Sha1, ..SecretText::default() };
        assert_eq!(hex::encode(sha1.decode(b"abc").unwrap()), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }

    #[test]
    fn secrets_that_prove_nothing_are_refused_without_being_told() {
        let base64 = SecretText {
            strip_prefix: Some("whsec_".into()),
            decode: Decode::Base64,
            ..SecretText::default()
        };
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
        let hex = SecretText { strip_prefix: None, decode: Decode::Hex, ..SecretText::default() };
        assert!(hex.decode(b"abc").unwrap_err().contains("not hex"));
        let sha1 =
            SecretText { strip_prefix: Some("k_".into()), decode: Decode::Sha1, ..SecretText::default() };
        assert!(sha1.decode(b"k_").unwrap_err().contains("nothing after `k_`"));
        let Err(why) = Proof::Basic.ready(b"only-a-user") else { panic!("taken") };
        assert!(why.contains("user:password"), "{why}");
    }

    #[test]
    fn a_plain_hash_has_its_secret_where_the_template_says() {
        let ready = Proof::Hash(Hash::Sha1).ready(b"b").unwrap();
        let piece = |text: &'static str| Piece::Bytes(text.as_bytes().into());
        let made = ready.prove(&[piece("a"), Piece::Secret, piece("c")]).unwrap();
        assert_eq!(hex::encode(made.as_slice()), "a9993e364706816aba3e25717850c26c9cd0d89d");
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
        let pieces = ["what do ya want ", "for nothing?"].map(|text| Piece::Bytes(text.as_bytes().into()));
        for (hash, expected) in [
            (Hash::Sha1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            (Hash::Sha256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (
                Hash::Sha512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
                 9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        ] {
            let made = Proof::Hmac(hash).ready(b"Jefe").unwrap().prove(&pieces).unwrap();
            assert_eq!(hex::encode(made.as_slice()), expected);
            assert_eq!(made.as_slice().len(), hash.len());
        }
    }
}
