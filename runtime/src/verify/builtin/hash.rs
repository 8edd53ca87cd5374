//! Hash: the hashes and MACs of the built-in schemes, and the comparison that tells nothing by its time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

pub(super) type HmacSha1 = Hmac<Sha1>;
pub(super) type HmacSha256 = Hmac<Sha256>;

const ANY_LENGTH: &str = "HMAC takes a key of any length";

pub(super) fn hmac_sha1(key: &[u8]) -> HmacSha1 {
    Hmac::new_from_slice(key).expect(ANY_LENGTH)
}

pub(super) fn hmac_sha256(key: &[u8]) -> HmacSha256 {
    Hmac::new_from_slice(key).expect(ANY_LENGTH)
}

/// The MAC of parts that follow each other.
pub(super) fn mac<M: hmac::Mac + Clone>(ready: &M, parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = ready.clone();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// In constant time for values of one length; two lengths are never equal.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    bool::from(a.ct_eq(b))
}

/// How a claim writes a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Hex,
    Base64,
}

impl Encoding {
    pub(super) fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Encoding::Hex => hex::decode(text).ok(),
            Encoding::Base64 => STANDARD.decode(text).ok(),
        }
    }

    pub(super) fn encode(self, bytes: &[u8]) -> String {
        match self {
            Encoding::Hex => hex::encode(bytes),
            Encoding::Base64 => STANDARD.encode(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2, and RFC 2202, test case 2.
    #[test]
    fn macs_are_the_published_ones() {
        let parts: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        assert_eq!(
            hex::encode(mac(&hmac_sha256(b"Jefe"), &parts)),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(hex::encode(mac(&hmac_sha1(b"Jefe"), &parts)), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    }

    #[test]
    fn only_equal_bytes_are_the_same() {
        assert!(same(b"ab", b"ab") && !same(b"ab", b"ac") && !same(b"ab", b"abc") && !same(b"", b"a"));
    }

    #[test]
    fn a_hash_has_one_spelling_in_base64_and_two_cases_in_hex() {
        assert_eq!(Encoding::Hex.decode("00fF"), Some(vec![0, 255]));
        assert_eq!(Encoding::Base64.decode("AP8="), Some(vec![0, 255]));
        for wrong in ["AP8", "AP9=", "AP8=\n", "AP_="] {
            assert_eq!(Encoding::Base64.decode(wrong), None, "{wrong:?}");
        }
        assert_eq!(Encoding::Hex.encode(&[0, 255]), "00ff");
    }
}
