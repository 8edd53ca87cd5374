//! Jwk: a public key as JSON writes it (RFC 7517), or as PEM.
//!
//! What a key says about itself must agree with the scheme: a key for another algorithm, or for encryption, is none.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::super::public::{Algorithm, PublicKey};
use super::unique;
use crate::words::time::Millis;

pub(super) struct Jwk {
    pub(super) kid: Option<String>,
    pub(super) key: PublicKey,
    /// Plaid's `expired_at`: from then on it signs nothing.
    pub(super) ends: Option<Millis>,
}

/// A secret that is a public key: a JWK, or PEM. The error never holds it.
pub(super) fn of_secret(secret: &[u8], algorithm: Algorithm) -> Result<Jwk, String> {
    if secret.trim_ascii_start().starts_with(b"{") {
        let map = unique::object(secret).ok_or("the secret begins like a JWK and is none; copy it whole")?;
        return of_map(&map, algorithm);
    }
    if !secret.starts_with(b"-----BEGIN ") {
        return Err("the secret is no public key; write a JWK, or a public key in PEM".into());
    }
    Ok(Jwk { kid: None, key: algorithm.key(secret)?, ends: None })
}

pub(super) fn of_map(map: &Map<String, Value>, algorithm: Algorithm) -> Result<Jwk, String> {
    if map.contains_key("d") || map.contains_key("k") {
        return Err("the JWK holds a private key; it belongs to the sender alone, give the public one".into());
    }
    let text = |name: &str| map.get(name).and_then(Value::as_str);
    let agrees = |name: &str, wanted: &str| text(name).is_none_or(|said| said == wanted);
    let (alg, kty) = match algorithm {
        Algorithm::EcdsaP256Fixed => ("ES256", "EC"),
        _ => ("RS256", "RSA"),
    };
    let is_for_signatures = match map.get("key_ops") {
        Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
        Some(_) => false,
        None => true,
    };
    if !agrees("alg", alg) || text("kty") != Some(kty) || !agrees("use", "sig") || !is_for_signatures {
        return Err(format!("the JWK is not one for {alg}"));
    }
    let number = |name: &str| text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let bytes = match algorithm {
        Algorithm::EcdsaP256Fixed if text("crv") == Some("P-256") => point(number("x"), number("y")),
        Algorithm::EcdsaP256Fixed => None,
        _ => rsa(number("n"), number("e")),
    };
    let bytes = bytes.ok_or_else(|| format!("the numbers of the JWK make no key for {alg}"))?;
    let ends = match map.get("expired_at") {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_u64().ok_or("`expired_at` of the JWK is no time")?),
    };
    Ok(Jwk {
        kid: text("kid").map(str::to_owned),
        key: algorithm.bare(bytes),
        ends: ends.map(Millis::from_seconds),
    })
}

/// Uncompressed: 4, x, y.
fn point(x: Option<Vec<u8>>, y: Option<Vec<u8>>) -> Option<Vec<u8>> {
    let (x, y) = (x.filter(|x| x.len() == 32)?, y.filter(|y| y.len() == 32)?);
    Some([&[4][..], &x, &y].concat())
}

/// PKCS #1: a sequence of modulus and exponent. 2048 to 8192 bits; `ring` takes no other.
fn rsa(modulus: Option<Vec<u8>>, exponent: Option<Vec<u8>>) -> Option<Vec<u8>> {
    let modulus = modulus.filter(|n| (256..=1024).contains(&n.len()) && n[0] != 0)?;
    let exponent = exponent.filter(|e| (1..=8).contains(&e.len()) && e[0] != 0)?;
    Some(der(0x30, &[der(0x02, &positive(&modulus)), der(0x02, &positive(&exponent))].concat()))
}

/// An integer whose first bit is set would be negative.
fn positive(number: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if number[0] & 0x80 == 0 { &[] } else { &[0] };
    [sign, number].concat()
}

/// Tag, length, contents of at most 65,535 bytes.
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len()).unwrap_or(u16::MAX).to_be_bytes();
    let head: Vec<u8> = match length {
        [0, low] if low < 0x80 => vec![tag, low],
        [0, low] => vec![tag, 0x81, low],
        [high, low] => vec![tag, 0x82, high, low],
    };
    [&head[..], contents].concat()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn jwk(value: &Value, algorithm: Algorithm) -> Result<Jwk, String> {
        of_secret(value.to_string().as_bytes(), algorithm)
    }

    /// From Plaid's documentation.
    fn plaid() -> Value {
        json!({
            "alg": "ES256", "created_at": 1_560_466_150, "crv": "P-256", "expired_at": null,
            "kid": "bfbd5111-8e33-4643-8ced-b2e642a72f3c", "kty": "EC", "use": "sig",
            "x": "hKXLGIjWvCBv-cP5euCTxl8g9GLG9zHo_3pO5NN1DwQ", "y": "shhexqPB7YffGn6fR6h2UhTSuCtPmfzQJ6ENVIoO4Ys",
        })
    }

    #[test]
    fn a_key_has_a_name_and_an_end() {
        let read = jwk(&plaid(), Algorithm::EcdsaP256Fixed).unwrap();
        assert_eq!(read.kid.as_deref(), Some("bfbd5111-8e33-4643-8ced-b2e642a72f3c"));
        assert_eq!(read.ends, None);
        let mut ended = plaid();
        ended["expired_at"] = json!(1_790_000_000);
        assert_eq!(
            jwk(&ended, Algorithm::EcdsaP256Fixed).unwrap().ends,
            Some(Millis::from_seconds(1_790_000_000))
        );
    }

    #[test]
    fn a_key_for_something_else_is_none() {
        for (key, value) in [
            ("alg", json!("HS256")),
            ("alg", json!("RS256")),
            ("kty", json!("oct")),
            ("kty", json!("RSA")),
            ("use", json!("enc")),
            ("crv", json!("P-384")),
            ("x", json!("AA")),
            ("x", json!("hKXLGIjWvCBv-cP5euCTxl8g9GLG9zHo_3pO5NN1DwQ=")),
            ("y", json!(null)),
            ("key_ops", json!(["sign"])),
            ("key_ops", json!("verify")),
            ("d", json!("AA")),
            ("k", json!("AA")),
            ("expired_at", json!("soon")),
        ] {
            let mut wrong = plaid();
            wrong[key] = value.clone();
            let Err(why) = jwk(&wrong, Algorithm::EcdsaP256Fixed) else { panic!("{key}: {value}") };
            assert!(why.contains("JWK"), "{why}");
        }
        assert!(jwk(&plaid(), Algorithm::RsaSha256).is_err());
        for text in ["{", "{\"kty\":\"EC\",\"kty\":\"EC\"}", "topsecret", ""] {
            let Err(why) = of_secret(text.as_bytes(), Algorithm::EcdsaP256Fixed) else { panic!("{text}") };
            assert!(!why.contains("topsecret"), "{why}");
        }
    }

    #[test]
    fn lengths_are_written_as_der_has_them() {
        for (bytes, head) in [(5, "3005"), (127, "307f"), (128, "308180"), (255, "3081ff"), (256, "30820100")]
        {
            assert_eq!(hex::encode(&der(0x30, &vec![7; bytes])[..head.len() / 2]), head);
        }
        assert_eq!(positive(&[0x80]), [0, 0x80]);
        assert_eq!(positive(&[0x7f]), [0x7f]);
        assert_eq!(rsa(Some(vec![0x80; 255]), Some(vec![1, 0, 1])), None);
    }
}
