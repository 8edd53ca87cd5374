//! Signer: makes requests as a scheme's words say, from the spec alone.
//!
//! A second reading of the language, for the properties of every preset: it shares no line with the engine, so that
//! both must be wrong in the same way to agree. It is told which bytes the signature covers, and says where they lie.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Map, Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use super::kept;
use crate::verify::spec::Spec;

/// What is thrown for one request.
#[derive(Clone, Debug)]
pub(super) struct Dice {
    pub(super) body: Vec<u8>,
    pub(super) secret: Vec<u8>,
    /// `[A-Za-z0-9_-]+`, as ids are; no scheme lets them hold what ends them.
    pub(super) id: String,
    pub(super) now_s: u64,
}

/// A signed request, and where in it lies what must not change.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) secret: String,
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) covered: Vec<Span>,
}

#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) at: At,
    pub(super) from: usize,
    pub(super) to: usize,
    /// Two spellings of a letter are the same there: the digits of hex.
    pub(super) any_case: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum At {
    Method,
    Url,
    /// By its position in `headers`.
    Header(usize),
    Body,
}

const URL: &str = "https://hooks.example.com/in/door?a=%41&b=%2F";
/// Before the 65 bytes of a P-256 point (RFC 5480).
const P256_INFO: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";

/// None: a scheme that is code, not data.
pub(super) fn make(spec: &Spec, dice: &Dice) -> Option<Made> {
    let kind = spec.kind.as_deref()?;
    let (secret, key) = secret(spec, dice);
    let mut making = Making { spec, dice, headers: Vec::new(), body: Vec::new(), covered: Vec::new() };
    making.body();
    for (place, value) in &spec.require {
        let name = place.strip_prefix("header:").expect("presets require headers only");
        making.header(name, value.as_bytes(), None);
    }
    let signature = match kind {
        "token" => secret.clone().into_bytes(),
        "basic" => secret.clone().into_bytes(),
        _ => {
            let signed = making.signed(&key);
            prove(kind, spec.algorithm.as_deref(), &key, &signed)?
        }
    };
    making.put(kind, &signature);
    let Making { headers, body, covered, .. } = making;
    Some(Made { secret, method: "POST".into(), url: URL.into(), headers, body, covered })
}

// === secrets and proofs ===

static EC: LazyLock<EcdsaKeyPair> = LazyLock::new(|| {
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &SystemRandom::new())
        .unwrap()
});
static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| {
    let text = include_str!("../../../../tests/vectors/rsa-key-of-the-tests.txt");
    RsaKeyPair::from_pkcs8(&STANDARD.decode(text.trim()).unwrap()).unwrap()
});
/// The same key's public half: as PEM, and in a certificate.
static RSA_PUBLIC: LazyLock<BTreeMap<bool, String>> = LazyLock::new(|| {
    let of = |provider: &str| {
        let vectors = kept::made();
        vectors.iter().find(|vector| vector["provider"] == provider).unwrap()["secret"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    BTreeMap::from([(false, of("wise")), (true, of("paypal"))])
});

fn ed25519(dice: &Dice) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&Sha256::digest(&dice.secret)).unwrap()
}

/// The secret's text as an operator has it, and what signs.
fn secret(spec: &Spec, dice: &Dice) -> (String, Vec<u8>) {
    let prefix = spec.secret.strip_prefix.clone().unwrap_or_default();
    let written = |key: &[u8]| match spec.secret.decode.as_deref() {
        Some("base64") => format!("{prefix}{}", STANDARD.encode(key)),
        Some("hex") => hex::encode(key),
        _ => panic!("a public key is base64 or hex"),
    };
    match spec.kind.as_deref() {
        Some("ed25519") => (written(ed25519(dice).public_key().as_ref()), dice.secret.clone()),
        Some("ecdsa-p256") => {
            let info = [hex::decode(P256_INFO).unwrap(), EC.public_key().as_ref().to_vec()].concat();
            (written(&info), Vec::new())
        }
        Some("rsa-sha256") => (RSA_PUBLIC[&dice.secret[0].is_multiple_of(2)].clone(), Vec::new()),
        Some("token") => (hex::encode(&dice.secret), Vec::new()),
        Some("basic") => (format!("user:{}", hex::encode(&dice.secret)), Vec::new()),
        _ => match spec.secret.decode.as_deref() {
            Some("base64" | "hex") => (written(&dice.secret), dice.secret.clone()),
            decode => {
                let text = format!("{prefix}{}\u{e9}", hex::encode(&dice.secret));
                let plain = text.strip_prefix(&prefix).unwrap().as_bytes();
                let key = if decode == Some("sha1") { Sha1::digest(plain).to_vec() } else { plain.to_vec() };
                (text, key)
            }
        },
    }
}

fn prove(kind: &str, algorithm: Option<&str>, key: &[u8], signed: &[u8]) -> Option<Vec<u8>> {
    macro_rules! hmac_of {
        ($hash:ty) => {{
            let mut mac = Hmac::<$hash>::new_from_slice(key).unwrap();
            mac.update(signed);
            mac.finalize().into_bytes().to_vec()
        }};
    }
    Some(match (kind, algorithm) {
        ("hmac", Some("sha1")) => hmac_of!(Sha1),
        ("hmac", Some("sha256")) => hmac_of!(Sha256),
        ("hmac", Some("sha512")) => hmac_of!(Sha512),
        ("hash", Some("sha1")) => Sha1::digest(signed).to_vec(),
        ("hash", Some("sha256")) => Sha256::digest(signed).to_vec(),
        ("ed25519", None) => {
            Ed25519KeyPair::from_seed_unchecked(&Sha256::digest(key)).unwrap().sign(signed).as_ref().to_vec()
        }
        ("ecdsa-p256", None) => EC.sign(&SystemRandom::new(), signed).unwrap().as_ref().to_vec(),
        ("rsa-sha256", None) => {
            let mut signature = vec![0; RSA.public().modulus_len()];
            RSA.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed, &mut signature).unwrap();
            signature
        }
        _ => return None,
    })
}

// === the request ===

struct Making<'a> {
    spec: &'a Spec,
    dice: &'a Dice,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    covered: Vec<Span>,
}

impl Making<'_> {
    /// Any bytes, or a document where the scheme looks into it.
    fn body(&mut self) {
        let signed = self.spec.signed.as_deref().unwrap_or_default();
        let places = [self.spec.timestamp.from.as_deref().unwrap_or_default()].map(str::to_owned).into_iter();
        let parts = parts(signed).into_iter().filter_map(|part| part.ok()).map(str::to_owned);
        let places: Vec<String> = places.chain(parts).collect();
        let mut document = Map::new();
        let mut form = Vec::new();
        for place in &places {
            if let Some(path) = place.strip_prefix("json:") {
                insert(&mut document, path, self.value(place));
            }
            if let Some(name) = place.strip_prefix("form:") {
                form.push(format!("{name}={}", self.dice.id));
            }
            if place == "form_sorted" {
                form.extend([format!("b={}", self.dice.id), "a=1".into(), "c".into()]);
            }
        }
        self.body = match (document.is_empty(), form.is_empty()) {
            (false, _) => {
                document.insert("note".into(), String::from_utf8_lossy(&self.dice.body).into());
                Value::Object(document).to_string().into_bytes()
            }
            (_, false) => form.join("&").into_bytes(),
            _ => self.dice.body.clone(),
        };
    }

    fn value(&self, place: &str) -> Value {
        if self.spec.timestamp.from.as_deref() == Some(place) {
            return json!(self.time().parse::<u64>().unwrap());
        }
        json!(self.dice.id)
    }

    fn header(&mut self, name: &str, value: &[u8], covered: Option<(usize, usize)>) {
        let written = self.headers.iter().position(|(have, _)| have.eq_ignore_ascii_case(name));
        let at = written.unwrap_or_else(|| {
            self.headers.push((name.to_owned(), value.to_vec()));
            self.headers.len() - 1
        });
        if let Some((from, to)) = covered {
            self.covered.push(Span { at: At::Header(at), from, to, any_case: false });
        }
    }

    fn whole(&mut self, name: &str, value: &str) {
        self.header(name, value.as_bytes(), Some((0, value.len())));
    }

    fn cover(&mut self, at: At, from: usize, to: usize) {
        self.covered.push(Span { at, from, to, any_case: false });
    }

    /// Of a value in the body, by its text.
    fn cover_text(&mut self, text: &str) {
        let at = find(&self.body, text.as_bytes());
        self.cover(At::Body, at, at + text.len());
    }

    fn time(&self) -> String {
        let now = self.dice.now_s;
        let format = |format: &str| {
            let at = jiff::Timestamp::from_second(i64::try_from(now).unwrap()).unwrap();
            at.strftime(format).to_string()
        };
        match self.spec.timestamp.unit.as_deref() {
            Some("s") => now.to_string(),
            Some("ms") => format!("{now}{:03}", now % 1000),
            Some("rfc3339") => format("%Y-%m-%dT%H:%M:%S.000000000Z"),
            Some("http-date") => format("%a, %d %b %Y %H:%M:%S GMT"),
            unit => panic!("{unit:?}"),
        }
    }

    /// The bytes that are signed; what they are made of goes into the request.
    fn signed(&mut self, key: &[u8]) -> Vec<u8> {
        let template = self.spec.signed.clone().unwrap();
        let mut out = Vec::new();
        for part in parts(&template) {
            match part {
                Err(literal) => out.extend_from_slice(literal.as_bytes()),
                Ok(name) => out.extend(self.part(name, key)),
            }
        }
        out
    }

    fn part(&mut self, name: &str, key: &[u8]) -> Vec<u8> {
        let id = self.dice.id.clone();
        match name.split_once(':') {
            None => {}
            Some(("header", header)) => {
                self.whole(header, &id);
                return id.into_bytes();
            }
            Some(("json" | "form", _)) => {
                self.cover_text(&id);
                return id.into_bytes();
            }
            Some(("const", name)) => return self.spec.consts[name].clone().into_bytes(),
            Some(other) => panic!("{other:?}"),
        }
        match name {
            "body" => {
                self.cover(At::Body, 0, self.body.len());
                self.body.clone()
            }
            "crc32" => {
                self.cover(At::Body, 0, self.body.len());
                crc32(&self.body).to_string().into_bytes()
            }
            "form_sorted" => {
                self.cover(At::Body, 0, self.body.len());
                format!("a1b{id}c").into_bytes()
            }
            "url" => {
                self.cover(At::Url, 0, URL.len());
                URL.into()
            }
            "url_decoded" => {
                // In the escape that is decoded a letter may have either case.
                self.cover(At::Url, 0, URL.len() - 1);
                URL.replace("%2F", "/").into()
            }
            "method" => {
                self.cover(At::Method, 0, 4);
                "POST".into()
            }
            "secret" => key.to_vec(),
            "id" => {
                let place = self.spec.id.clone().unwrap();
                self.whole(place.strip_prefix("header:").unwrap(), &id);
                id.into_bytes()
            }
            "timestamp" => {
                let time = self.time();
                if let Some(header) = self.spec.timestamp.from.clone().unwrap().strip_prefix("header:") {
                    self.whole(header, &time);
                }
                time.into_bytes()
            }
            other => panic!("{other}"),
        }
    }

    /// The signature in its place, as its format has it.
    fn put(&mut self, kind: &str, proof: &[u8]) {
        let spec = &self.spec.signature;
        let text = match (kind, spec.encoding.as_deref()) {
            ("token", _) => String::from_utf8(proof.to_vec()).unwrap(),
            ("basic", _) => STANDARD.encode(proof),
            (_, Some("hex")) => hex::encode(proof),
            (_, Some("base64")) => STANDARD.encode(proof),
            (_, Some("base64url")) => URL_SAFE_NO_PAD.encode(proof),
            other => panic!("{other:?}"),
        };
        let is_hex = kind != "token" && spec.encoding.as_deref() == Some("hex");
        let of = |value: &Option<String>| value.clone().unwrap_or_default();
        let (separator, assign) = (of(&spec.separator), of(&spec.assign));
        let field = self.spec.timestamp.from.as_deref().and_then(|from| from.strip_prefix("field:"));
        let (before, after) = match (kind, spec.format.as_deref()) {
            ("basic", _) => ("Basic ".to_owned(), String::new()),
            (_, None | Some("raw")) => (String::new(), String::new()),
            (_, Some("prefixed")) => (of(&spec.prefix), String::new()),
            (_, Some("positional")) => (format!("{}{separator}", self.time()), String::new()),
            (_, Some("list")) if assign.is_empty() => (String::new(), format!("{separator}bm90IG9uZQ==")),
            (_, Some("list" | "fields")) => {
                let key = spec.key.clone().filter(|key| key != "*").unwrap_or_else(|| "any".into());
                let time = field.map(|field| format!("{field}{assign}{}{separator}", self.time()));
                (format!("{}{key}{assign}", time.unwrap_or_default()), format!("{separator}v9{assign}x"))
            }
            other => panic!("{other:?}"),
        };
        let value = format!("{before}{text}{after}");
        let signature = (before.len(), before.len() + text.len());
        let place = spec.from.as_ref().map_or("header:Authorization", |from| from.0[0].as_str()).to_owned();
        let (at, start) = match place.split_once(':').unwrap() {
            ("header", name) => {
                self.header(name, value.as_bytes(), None);
                (At::Header(self.headers.len() - 1), 0)
            }
            ("header-numbered", name) => {
                self.header(&format!("{name}3"), value.as_bytes(), None);
                (At::Header(self.headers.len() - 1), 0)
            }
            ("json", path) => {
                let mut document: Map<String, Value> = serde_json::from_slice(&self.body).unwrap_or_default();
                insert(&mut document, path, value.clone().into());
                self.body = Value::Object(document).to_string().into_bytes();
                // What is before it has not moved.
                (At::Body, find(&self.body, value.as_bytes()))
            }
            ("form", name) => {
                let value = value.replace('&', "%26");
                self.body.extend_from_slice(format!("&{name}={value}").as_bytes());
                (At::Body, self.body.len() - value.len())
            }
            other => panic!("{other:?}"),
        };
        self.covered.push(Span {
            at: at.clone(),
            from: start + signature.0,
            to: start + signature.1,
            any_case: is_hex,
        });
        if field.is_some() && self.spec.signed.as_deref().is_some_and(|signed| signed.contains("{timestamp}"))
        {
            let time = self.time();
            let from = start + before.find(&time).unwrap();
            self.cover(at, from, from + time.len());
        }
    }
}

/// `Ok`: a name in braces; `Err`: text between them.
fn parts(template: &str) -> Vec<Result<&str, &str>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, behind) = behind.split_once('}').unwrap();
        parts.extend([Err(before), Ok(name)]);
        rest = behind;
    }
    parts.push(Err(rest));
    parts
}

/// A value at a dotted path; a number is a position of a list.
fn insert(document: &mut Map<String, Value>, path: &str, value: Value) {
    fn at(rest: &[&str], value: Value, old: Value) -> Value {
        let Some((first, rest)) = rest.split_first() else { return value };
        if *first == "0" {
            return json!([at(rest, value, Value::Null)]);
        }
        let mut map = old.as_object().cloned().unwrap_or_default();
        let old = map.get(*first).cloned().unwrap_or_default();
        map.insert((*first).to_owned(), at(rest, value, old));
        Value::Object(map)
    }
    let path: Vec<&str> = path.split('.').collect();
    let Value::Object(made) = at(&path, value, Value::Object(document.clone())) else { panic!("{path:?}") };
    *document = made;
}

fn find(body: &[u8], text: &[u8]) -> usize {
    body.windows(text.len()).rposition(|window| window == text).expect("it was put there")
}

/// Bit by bit, as the standard draws it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
