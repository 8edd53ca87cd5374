//! Public: signatures that a public key proves, by `ring`, which `rustls` brings.
//!
//! A public key comes as its provider prints it: bare bytes, a SubjectPublicKeyInfo, a certificate; as PEM or decoded
//! as the scheme says. It is taken apart once, at start.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo, X509Certificate};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Ed25519,
    /// ECDSA over P-256 with SHA-256, the signature in DER.
    EcdsaP256,
    /// The same, the signature as two numbers of 32 bytes: ES256 of a JWT.
    EcdsaP256Fixed,
    /// RSA PKCS#1 v1.5 with SHA-256, keys of 2048 to 8192 bits.
    RsaSha256,
    /// The same with SHA-1, for what an operator must still take: version 1 of SNS.
    RsaSha1,
}

/// A key as `ring` wants it.
pub(super) struct PublicKey(UnparsedPublicKey<Vec<u8>>);

/// Of Ed25519 in a SubjectPublicKeyInfo, RFC 8410.
const ED25519_OID: &str = "1.3.101.112";
const ED25519_KEY_BYTES: usize = 32;
/// Of P-256, uncompressed: 4, x, y.
const P256_POINT_BYTES: usize = 65;

impl Algorithm {
    /// How long a signature is, in bytes; from and to.
    pub(super) fn lengths(self) -> (usize, usize) {
        match self {
            Algorithm::Ed25519 => (64, 64),
            Algorithm::EcdsaP256 => (8, 72),
            Algorithm::EcdsaP256Fixed => (64, 64),
            Algorithm::RsaSha256 | Algorithm::RsaSha1 => (256, 1024),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Algorithm::Ed25519 => "Ed25519",
            Algorithm::EcdsaP256 | Algorithm::EcdsaP256Fixed => "ECDSA P-256",
            Algorithm::RsaSha256 | Algorithm::RsaSha1 => "RSA",
        }
    }

    /// The error never holds the key.
    pub(super) fn key(self, text: &[u8]) -> Result<PublicKey, String> {
        let der = unwrapped(text)?;
        let bytes = self.bytes(&der).ok_or_else(|| {
            format!("the secret is no public key for {}; copy it whole from the provider's page", self.name())
        })?;
        Ok(self.bare(bytes))
    }

    /// Of bytes as `ring` wants them: a point, or RSA's two numbers in PKCS #1.
    pub(super) fn bare(self, bytes: Vec<u8>) -> PublicKey {
        PublicKey(UnparsedPublicKey::new(self.verifier(), bytes))
    }

    fn verifier(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Algorithm::Ed25519 => &signature::ED25519,
            Algorithm::EcdsaP256 => &signature::ECDSA_P256_SHA256_ASN1,
            Algorithm::EcdsaP256Fixed => &signature::ECDSA_P256_SHA256_FIXED,
            Algorithm::RsaSha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::RsaSha1 => &signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
        }
    }

    /// From bare bytes, a SubjectPublicKeyInfo or a certificate.
    fn bytes(self, der: &[u8]) -> Option<Vec<u8>> {
        let is_bare = match self {
            Algorithm::Ed25519 => der.len() == ED25519_KEY_BYTES,
            Algorithm::EcdsaP256 | Algorithm::EcdsaP256Fixed => der.len() == P256_POINT_BYTES && der[0] == 4,
            Algorithm::RsaSha256 | Algorithm::RsaSha1 => false,
        };
        if is_bare {
            return Some(der.to_vec());
        }
        if let Ok((_, certificate)) = X509Certificate::from_der(der) {
            return self.of_info(certificate.public_key());
        }
        match SubjectPublicKeyInfo::from_der(der) {
            Ok(([], info)) => self.of_info(&info),
            _ => None,
        }
    }

    fn of_info(self, info: &SubjectPublicKeyInfo<'_>) -> Option<Vec<u8>> {
        use x509_parser::public_key::PublicKey as Parsed;
        let bytes = info.subject_public_key.data.to_vec();
        let fits = match self {
            Algorithm::Ed25519 => {
                info.algorithm.algorithm.to_id_string() == ED25519_OID && bytes.len() == ED25519_KEY_BYTES
            }
            Algorithm::EcdsaP256 | Algorithm::EcdsaP256Fixed => {
                matches!(info.parsed(), Ok(Parsed::EC(_))) && bytes.len() == P256_POINT_BYTES
            }
            Algorithm::RsaSha256 | Algorithm::RsaSha1 => {
                matches!(info.parsed(), Ok(Parsed::RSA(key)) if (2048..=8192).contains(&key.key_size()))
            }
        };
        fits.then_some(bytes)
    }
}

/// DER out of PEM; anything else as it is.
pub(super) fn unwrapped(text: &[u8]) -> Result<Vec<u8>, String> {
    if !text.starts_with(b"-----BEGIN ") {
        return Ok(text.to_vec());
    }
    let (_, pem) = x509_parser::pem::parse_x509_pem(text)
        .map_err(|_| "the secret begins like PEM and is none; copy it whole, with its first and last line")?;
    if pem.label.contains("PRIVATE") {
        return Err("the secret is a private key; it belongs to the sender alone, give the public one".into());
    }
    Ok(pem.contents)
}

impl PublicKey {
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify(message, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

    use super::*;

    #[test]
    fn ed25519_keys_come_bare_or_wrapped() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let bare = pair.public_key().as_ref().to_vec();
        let wrapped = [&hex::decode("302a300506032b6570032100").unwrap()[..], &bare].concat();
        for text in [bare, wrapped.clone(), pem("PUBLIC KEY", &wrapped).into_bytes()] {
            let key = Algorithm::Ed25519.key(&text).unwrap();
            assert!(key.verifies(b"message", pair.sign(b"message").as_ref()));
            assert!(!key.verifies(b"massage", pair.sign(b"message").as_ref()));
        }
    }

    #[test]
    fn ecdsa_keys_come_bare_or_wrapped() {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random).unwrap();
        let bare = pair.public_key().as_ref().to_vec();
        let info = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
        let wrapped = [&info[..], &bare].concat();
        for text in [bare, wrapped] {
            let key = Algorithm::EcdsaP256.key(&text).unwrap();
            let signature = pair.sign(&random, b"message").unwrap();
            assert!(key.verifies(b"message", signature.as_ref()));
            assert!(!key.verifies(b"massage", signature.as_ref()));
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused_without_being_told() {
        for (text, words) in [
            (b"topsecret".to_vec(), "no public key for Ed25519"),
            (pem("PRIVATE KEY", b"topsecret").into_bytes(), "a private key"),
            (pem("PUBLIC KEY", b"topsecret").into_bytes(), "no public key"),
            (b"-----BEGIN topsecret".to_vec(), "begins like PEM"),
        ] {
            let Err(why) = Algorithm::Ed25519.key(&text) else { panic!("taken: {words}") };
            assert!(why.contains(words) && !why.contains("topsecret"), "{why}");
        }
    }

    fn pem(label: &str, der: &[u8]) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    }
}
