//! Case: one scheme and one request, laid out by the dice.
//!
//! Wholly random bytes would hardly ever be a scheme that compiles, or a signature that reaches the comparison. So a
//! case is put together from the words that schemes and requests are made of, with anything between them now and then;
//! and half of the requests are signed by the scheme itself and then changed.
//!
//! A few bytes stand for a large body: what is repeated is not in the input.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::dice::Dice;
use crate::verify::preset_names;
use crate::words::secret::Secret;
use crate::words::time::Millis;

/// What times are counted from.
pub const NOW: Millis = Millis(1_790_000_000_500);
pub const URL: &str = "https://hooks.example.com/a?q=Q&sig=s";

pub struct Case {
    /// None: all keys are in `scheme` and `event`.
    pub preset: Option<&'static str>,
    /// In the operator's language, laid over the preset.
    pub scheme: Value,
    pub event: Value,
    /// At least one, newest first.
    pub secrets: Vec<Secret>,
    pub request: Draft,
    /// None: the headers are the whole request's; else it is signed with that secret before `edits` are made.
    pub signs: Option<usize>,
    pub edits: Vec<Edit>,
}

/// A request as it is put together.
#[derive(Clone)]
pub struct Draft {
    pub method: &'static str,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub now: Millis,
}

/// One change of a request that is signed.
pub enum Edit {
    FlipBody { at: usize, bit: u8 },
    AppendBody(Vec<u8>),
    FlipHeader { which: usize, at: usize, bit: u8 },
    DropHeader { which: usize },
    RepeatHeader { which: usize },
    ExtendHeader { which: usize, with: Vec<u8> },
    Later { seconds: u64 },
}

impl Case {
    /// `body_bytes_max`: how large a body may become by repetition.
    pub fn read(bytes: &[u8], body_bytes_max: usize) -> Case {
        let dice = &mut Dice::new(bytes);
        let (preset, scheme, event) = scheme(dice);
        let secrets = (0..=*dice.pick(&[&0, &0, &0, &1, &7])).map(|_| secret(dice)).collect::<Vec<_>>();
        let signs = (!dice.one_in(2)).then(|| dice.up_to(secrets.len() - 1));
        let text = format!("{scheme}{event}");
        let request = request(dice, &text, preset, signs.is_none(), body_bytes_max);
        let edits =
            if signs.is_some() { (0..dice.up_to(3)).map(|_| edit(dice)).collect() } else { Vec::new() };
        Case { preset, scheme, event, secrets, request, signs, edits }
    }
}

// === the scheme ===

type Scheme = (Option<&'static str>, Value, Value);

fn scheme(dice: &mut Dice<'_>) -> Scheme {
    match dice.up_to(3) {
        0 | 1 => {
            let names = preset_names();
            let preset = names[dice.up_to(names.len() - 1)];
            let scheme = if dice.one_in(4) { one_key(dice) } else { json!({}) };
            (Some(preset), scheme, json!({}))
        }
        2 => sane(dice),
        _ => (None, wild(dice), event(dice)),
    }
}

/// A preset with one thing changed.
fn one_key(dice: &mut Dice<'_>) -> Value {
    match dice.up_to(5) {
        0 => json!({"signature": {"from": place(dice, "sig")}}),
        1 => json!({"signature": {"encoding": word(dice, &ENCODINGS)}}),
        2 => json!({"timestamp": {"tolerance": word(dice, &SPANS)}}),
        3 => json!({"signed": template(dice)}),
        4 => json!({"require": {place(dice, "version"): "1"}}),
        _ => json!({"secret": {"decode": word(dice, &DECODES)}}),
    }
}

const KINDS: [&str; 8] = ["hmac", "hash", "ed25519", "ecdsa-p256", "rsa-sha256", "token", "basic", "none"];
const HASHES: [&str; 3] = ["sha256", "sha1", "sha512"];
const FORMATS: [&str; 5] = ["raw", "prefixed", "list", "fields", "positional"];
const ENCODINGS: [&str; 3] = ["hex", "base64", "base64url"];
const UNITS: [&str; 4] = ["s", "ms", "rfc3339", "http-date"];
const SPANS: [&str; 6] = ["300s", "none", "0s", "1ms", "10m", "9999999999d"];
const DECODES: [&str; 4] = ["utf8", "base64", "hex", "sha1"];
const SEPARATORS: [&str; 6] = [",", " ", ";", "&", "::", ", "];
const ASSIGNS: [&str; 4] = ["=", ",", "|", "=="];
const PARTS: [&str; 22] = [
    "{body}",
    "{timestamp}",
    "{id}",
    ".",
    ":",
    "{url}",
    "{method}",
    "{path}",
    "{secret}",
    "{crc32}",
    "{form_sorted}",
    "{url_decoded}",
    "{header:X-Version}",
    "{header:X-Id}",
    "{json:data.id}",
    "{json:list.0.id}",
    "{form:at}",
    "{query:q}",
    "{const:app}",
    "v0:",
    "{",
    "}",
];
const TEMPLATES: [&str; 10] = [
    "{timestamp}.{body}",
    "{body}",
    "{id}.{timestamp}.{body}",
    "v0:{timestamp}:{body}",
    "{timestamp}{body}",
    "{url}{body}",
    "{method}{url}{body}{timestamp}",
    "{secret}{body}",
    "{body}{secret}",
    "{id}|{timestamp}|{url}|{body}",
];

/// One that nearly always compiles: each key fits the others.
fn sane(dice: &mut Dice<'_>) -> Scheme {
    let kind = dice.pick(&[
        "hmac",
        "hmac",
        "hmac",
        "hash",
        "ed25519",
        "ecdsa-p256",
        "rsa-sha256",
        "token",
        "basic",
        "none",
    ]);
    let mut scheme = json!({"type": kind});
    if kind == "none" {
        scheme["i_know_this_is_unauthenticated"] = true.into();
        return (None, scheme, event(dice));
    }
    let format = dice.pick(&FORMATS);
    let is_stamped = !dice.one_in(3);
    let mut signature = json!({"from": places(dice, "sig")});
    if kind == "token" {
        signature["format"] = "prefixed".into();
        signature["prefix"] = "Bearer ".into();
    } else if kind != "basic" {
        let (keys, encoding) = (format_keys(dice, format), dice.pick(&ENCODINGS));
        signature["format"] = format.into();
        signature["encoding"] = encoding.into();
        signature.as_object_mut().expect("it is one").extend(keys);
        let mut signed = signed_by(dice, kind, is_stamped);
        if is_stamped {
            scheme["timestamp"] = stamp(dice, format);
        }
        if signed.contains("{id}") {
            scheme["id"] = place(dice, "id").into();
        }
        if dice.one_in(4) {
            signed += "{const:app}";
            scheme["const"] = json!({"app": "42"});
        }
        scheme["signed"] = signed.into();
    }
    if matches!(kind, "hmac" | "hash") {
        scheme["algorithm"] = dice.pick(&HASHES).into();
    }
    if dice.one_in(4) {
        scheme["require"] = json!({place(dice, "version"): "1"});
    }
    if !matches!(kind, "token" | "basic") && dice.one_in(2) {
        scheme["secret"] = json!({"strip_prefix": "whsec_", "decode": dice.pick(&DECODES)});
    }
    scheme["signature"] = signature;
    (None, scheme, event(dice))
}

fn signed_by(dice: &mut Dice<'_>, kind: &str, is_stamped: bool) -> String {
    let plain =
        ["{body}", "{id}.{body}", "{url}{body}", "{method}|{path}|{body}", "{header:X-Version}{body}"];
    let stamped =
        ["{timestamp}.{body}", "{id}.{timestamp}.{body}", "{timestamp}{body}", "{body}:{timestamp}"];
    let signed = if is_stamped { dice.pick(&stamped) } else { dice.pick(&plain) };
    match kind {
        "hash" if dice.one_in(2) => format!("{signed}{{secret}}"),
        "hash" => format!("{{secret}}{signed}"),
        _ => signed.to_owned(),
    }
}

fn format_keys(dice: &mut Dice<'_>, format: &str) -> Map<String, Value> {
    let keys = match format {
        "prefixed" => json!({"prefix": dice.pick(&["sha256=", "v0=", "x"])}),
        "positional" => json!({"separator": dice.pick(&SEPARATORS)}),
        "list" if dice.one_in(2) => json!({"separator": dice.pick(&SEPARATORS)}),
        "list" | "fields" => {
            let mut keys = json!({
                "separator": dice.pick(&SEPARATORS), "assign": dice.pick(&ASSIGNS), "key": dice.pick(&["v1", "s", "*"]),
            });
            if format == "fields" && dice.one_in(4) {
                keys["groups"] = dice.pick(&[" ", ";"]).into();
            }
            keys
        }
        _ => json!({}),
    };
    keys.as_object().cloned().unwrap_or_default()
}

fn stamp(dice: &mut Dice<'_>, format: &str) -> Value {
    let from = match format {
        "fields" => "field:t".to_owned(),
        "positional" => dice.pick(&["field:0", "field:1", "header:X-At"]).to_owned(),
        _ => place(dice, "at"),
    };
    json!({"from": from, "unit": dice.pick(&UNITS), "tolerance": dice.pick(&SPANS)})
}

/// Keys that may or may not fit each other, and words that may not be any.
fn wild(dice: &mut Dice<'_>) -> Value {
    let mut scheme = json!({
        "type": word(dice, &KINDS), "algorithm": word(dice, &HASHES), "signed": template(dice),
        "signature": {
            "from": places(dice, "sig"), "format": word(dice, &FORMATS), "encoding": word(dice, &ENCODINGS),
        },
    });
    let signature = &mut scheme["signature"];
    for (key, words) in [
        ("prefix", &ASSIGNS[..]),
        ("separator", &SEPARATORS),
        ("assign", &ASSIGNS),
        ("key", &["v1", "*"]),
        ("groups", &SEPARATORS),
    ] {
        if dice.one_in(3) {
            signature[key] = word(dice, words).into();
        }
    }
    if dice.one_in(2) {
        let (from, unit, tolerance) = (place(dice, "at"), word(dice, &UNITS), word(dice, &SPANS));
        scheme["timestamp"] =
            json!({"from": from, "unit": unit, "tolerance": tolerance, "signed": !dice.one_in(4)});
    }
    if dice.one_in(2) {
        scheme["id"] = place(dice, "id").into();
    }
    if dice.one_in(4) {
        scheme["body_signed"] = dice.one_in(2).into();
    }
    if dice.one_in(2) {
        scheme["const"] = json!({"app": dice.text(8)});
    }
    if dice.one_in(2) {
        scheme["secret"] = json!({"strip_prefix": word(dice, &["whsec_"]), "decode": word(dice, &DECODES)});
    }
    scheme
}

fn event(dice: &mut Dice<'_>) -> Value {
    let mut event = json!({"id": places(dice, "id"), "type": places(dice, "type")});
    if dice.one_in(3) {
        event["each"] = word(dice, &["json:events", "json:.", "json:data.list", "json:list.0"]).into();
    }
    if dice.one_in(4) {
        event["dedupe_body"] = dice.one_in(2).into();
    }
    event
}

/// A word of a set, or any text.
fn word(dice: &mut Dice<'_>, words: &[&str]) -> String {
    if dice.one_in(16) { dice.text(12) } else { dice.pick(words).to_owned() }
}

fn template(dice: &mut Dice<'_>) -> String {
    if !dice.one_in(3) {
        return dice.pick(&TEMPLATES).to_owned();
    }
    (0..=dice.up_to(7)).map(|_| word(dice, &PARTS)).collect()
}

fn places(dice: &mut Dice<'_>, name: &str) -> Value {
    match dice.up_to(5) {
        0..=3 => place(dice, name).into(),
        4 => json!([place(dice, name), place(dice, name)]),
        _ => json!([format!("json:{name}"), format!("form:{name}"), format!("header:X-{name}")]),
    }
}

/// A place that `request` puts something into, mostly.
fn place(dice: &mut Dice<'_>, name: &str) -> String {
    match dice.up_to(9) {
        0..=3 => format!("header:X-{name}"),
        4 => format!("json:{name}"),
        5 => format!("json:data.{name}"),
        6 => format!("form:{name}"),
        7 => format!("query:{name}"),
        8 => dice
            .pick(&["header-numbered:X-Sig-", "json:list.0.id", "json:.", "json:events.1.id", "field:t"])
            .to_owned(),
        _ => word(dice, &["header:", "json:", "form:", "query:", "json:a..b", "header:Authorization"]),
    }
}

// === secrets ===

fn secret(dice: &mut Dice<'_>) -> Secret {
    match dice.up_to(8) {
        0..=2 => Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        3 => Secret::new("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"),
        4 => Secret::new(ED25519_PEM),
        5 => Secret::new(P256_PEM),
        6 => Secret::new(RSA_PEM),
        7 => Secret::new(format!("whsec_{}", hex::encode(dice.bytes(16)))),
        _ => Secret::new(dice.bytes(32)),
    }
}

/// Public keys of no value, so that something is checked with them.
const ED25519_PEM: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAsOHKxtjPauNoZkQZuUGY5eHznUvx8v12jNfHaOzyEpQ=
-----END PUBLIC KEY-----";
const P256_PEM: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEbxsEkp8/oeQIKIqbsiTX2rVo8q4X
22MWpuZdln5oho/AEKtxKX3dKfiGu9NM/XavWxPU2XD89wUnw92/b35brw==
-----END PUBLIC KEY-----";
const RSA_PEM: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA2V8n6p76RygQ8QeRgQe4
Vwcg2diPmIJEdpF8DCRHikviyMrwAdPBqBcIPZwFgM4mxibM4vqRZxLVbN6N2zRl
d/ikXztDTj7kjlqHuDkZujduzyM5QKZ/nmHBCEIyXqLDETCvIbTGlmj5aDCmD0bw
7rzN9yCoxzRlAzyo82v8DI8ddGL75d9P9MwpwRa1JOS2k+51A/kzfr2H1Wc4tOpC
2whdcJ10EJTIqcFS8y15h9ki6nT9Db/8BFoZrlZ2TaqhofDyAvOiCC7+I6y1Cv51
aTwTHMeLNwsdo55IpDVud7p1zcM5vXTsiLfX9fVvzpn6Plv0NKfgRssqWDy7g3bg
zwIDAQAB
-----END PUBLIC KEY-----";

// === the request ===

const METHODS: [&str; 5] = ["POST", "GET", "PUT", "OPTIONS", "HEAD"];

fn request(
    dice: &mut Dice<'_>,
    scheme: &str,
    preset: Option<&str>,
    with_headers: bool,
    most: usize,
) -> Draft {
    let method = if dice.one_in(4) { dice.pick(&METHODS) } else { "POST" };
    let query = dice.one_in(3).then(|| String::from_utf8_lossy(&pieces(dice, 6, 1 << 10)).into_owned());
    let now = if dice.one_in(8) { Millis(dice.number()) } else { NOW };
    let headers = if with_headers { headers(dice, scheme, preset) } else { HeaderMap::new() };
    Draft { method, query, headers, body: body(dice, most), now }
}

fn body(dice: &mut Dice<'_>, most: usize) -> Vec<u8> {
    let filling = |dice: &mut Dice<'_>| {
        let piece = pieces(dice, 8, 256);
        // Large ones now and then, so that most tries are quick.
        let size = if dice.one_in(24) { 1 << dice.up_to(20) } else { dice.up_to(255) };
        piece
            .iter()
            .copied()
            .cycle()
            .take(if piece.is_empty() { 0 } else { size.min(most) })
            .collect::<Vec<u8>>()
    };
    match dice.up_to(5) {
        0 => Vec::new(),
        1 => filling(dice),
        2 => [&b"sig=00&at=1790000000&id=evt_1&version=1&type=a.b&"[..], &filling(dice)].concat(),
        3 => [&b"["[..], br#"{"id":"e1","type":"a"},"#, &filling(dice), br#"{"id":"e2"}]"#].concat(),
        4 => {
            let (first, last) =
                (br#"{"x":"#, br#","events":[{"id":1},{"id":"2","type":"t"},3],"id":"evt_1"}"#);
            [&first[..], &filling(dice), last].concat()
        }
        _ => {
            let head = br#"{"id":"evt_1","type":"a.b","at":1790000000,"sig":"00","version":"1","data":{"id":7,"sig":"#;
            [&head[..], b"\"", &pieces(dice, 4, 80), b"\"},\"x\":", &filling(dice), b"}"].concat()
        }
    }
}

/// Names that the scheme reads, with values that are nearly what it wants.
fn headers(dice: &mut Dice<'_>, scheme: &str, preset: Option<&str>) -> HeaderMap {
    let mut names: Vec<&str> =
        ["X-sig", "X-at", "X-id", "X-version", "X-type", "X-Sig-1", "X-Sig-2", "authorization"].to_vec();
    names.extend(named(scheme));
    let of_preset =
        preset.and_then(crate::verify::preset).map(|preset| format!("{preset:?}")).unwrap_or_default();
    names.extend(named(&of_preset));
    let mut headers = HeaderMap::new();
    for _ in 0..dice.up_to(12) {
        let name = names[names.len() - 1 - dice.up_to(names.len() - 1)];
        let value = pieces(dice, 12, 8 << 10);
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(&value))
        {
            headers.append(name, value);
        }
    }
    headers
}

/// Every `header:X` in a text.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.split("header:").skip(1).filter_map(|rest| rest.split(['"', '\\', '}']).next())
}

const PIECES: [&[u8]; 64] = [
    b"t=",
    b"v1=",
    b"s=",
    b"v0=",
    b",",
    b";",
    b" ",
    b"&",
    b"|",
    b"=",
    b".",
    b":",
    b"sha256=",
    b"sha1=",
    b"v1,",
    b"Basic ",
    b"Bearer ",
    b"1790000000",
    b"1790000000500",
    b"2026-09-21T14:13:20Z",
    b"Mon, 21 Sep 2026 14:13:20 GMT",
    b"evt_1",
    b"00000000000000000000000000000000000000000000000000000000000000ff",
    b"ffffffffffffffffffffffffffffffffffffffff",
    b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    b"AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    b"dXNlcjpwYXNz",
    b"\xff",
    b"\0",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\"id\":",
    b"\"a\":",
    b"{\"a\":",
    b"[[",
    b"]]",
    b"\\",
    b"\\u0041",
    b"\\ud83d",
    b"1e5",
    b"-0",
    b"0.5",
    b"12345678901234567890",
    b"true",
    b"null",
    b"\n",
    b"\t",
    b"id=",
    b"sig=",
    b"at=",
    b"a=&",
    b"%61",
    b"%",
    b"%FF",
    b"+",
    b"\xc3\xa9",
    b"\xef\xbf\xbd",
    b"q=Q",
    b"events",
    b"{\"id\":\"e\"},",
    b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
];

/// Up to `many` pieces, each up to 80 times, and no more than so many bytes.
fn pieces(dice: &mut Dice<'_>, many: usize, bytes_max: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 0..dice.up_to(many) {
        let piece = if dice.one_in(12) { dice.bytes(12) } else { dice.pick(&PIECES) };
        let times = if dice.one_in(10) { 1 + dice.up_to(79) } else { 1 };
        all.extend(piece.repeat(times));
    }
    all.truncate(bytes_max);
    all
}

// === changes ===

fn edit(dice: &mut Dice<'_>) -> Edit {
    let (at, bit) = (dice.number() as usize, 1 << dice.up_to(7));
    let which = dice.up_to(7);
    match dice.up_to(6) {
        0 => Edit::FlipBody { at, bit },
        1 => Edit::AppendBody(pieces(dice, 2, 80)),
        2 => Edit::FlipHeader { which, at, bit },
        3 => Edit::DropHeader { which },
        4 => Edit::RepeatHeader { which },
        5 => Edit::ExtendHeader { which, with: pieces(dice, 6, 8 << 10) },
        _ => Edit::Later { seconds: dice.number() >> 24 },
    }
}

impl Edit {
    pub fn make(&self, request: &mut Draft) {
        match self {
            Edit::FlipBody { at, bit } => flip(&mut request.body, *at, *bit),
            Edit::AppendBody(with) => request.body.extend(with),
            Edit::Later { seconds } => {
                request.now = request.now.plus(std::time::Duration::from_secs(*seconds));
            }
            Edit::FlipHeader { which, at, bit } => change(request, *which, |value| {
                flip(value, *at, *bit);
                1
            }),
            Edit::DropHeader { which } => change(request, *which, |_| 0),
            Edit::RepeatHeader { which } => change(request, *which, |_| 2),
            Edit::ExtendHeader { which, with } => change(request, *which, |value| {
                value.extend(with);
                1
            }),
        }
    }
}

fn flip(bytes: &mut [u8], at: usize, bit: u8) {
    if !bytes.is_empty() {
        bytes[at % bytes.len()] ^= bit;
    }
}

/// `how` changes the value of one header, and says on how many lines it stands then.
fn change(request: &mut Draft, which: usize, how: impl FnOnce(&mut Vec<u8>) -> usize) {
    let names: Vec<HeaderName> = request.headers.keys().cloned().collect();
    let Some(name) = names.get(which % names.len().max(1)) else { return };
    let Some(value) = request.headers.remove(name) else { return };
    let mut bytes = value.as_bytes().to_vec();
    let lines = how(&mut bytes);
    // What HTTP cannot carry never reaches a scheme.
    let value = HeaderValue::from_bytes(&bytes).unwrap_or(value);
    for _ in 0..lines {
        request.headers.append(name.clone(), value.clone());
    }
}
