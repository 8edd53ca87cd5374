//! Nasty: requests of 1 MiB that are made to be slow, each for what it makes somebody do for every byte.
//!
//! They are as large as `server.max_body` of the bar, or, where it is headers that are nasty, as large as headers may
//! be. Most are genuine: whoever holds the secret of one source must not be able to slow down the others.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};
use longshore::verify::spec::{EventSpec, Spec};
use longshore::verify::{Key, Request, Scheme, preset};
use longshore::words::limits::{HEADERS_BYTES_MAX, HEADERS_MAX, SECRETS_MAX, SIGNATURE_CANDIDATES_MAX};
use longshore::words::secret::Secret;
use longshore::words::time::Millis;
use serde_json::{Value, json};

pub const BODY_BYTES: usize = 1 << 20;
const NOW: Millis = Millis(1_790_000_000_500);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub struct Nasty {
    pub name: &'static str,
    pub genuine: bool,
    pub live_secrets: usize,
    scheme: Scheme,
    keys: Vec<Key>,
    headers: HeaderMap,
    query: Option<String>,
    pub body: Vec<u8>,
}

impl Nasty {
    /// From headers and bytes to a verdict and, where it is genuine, to the names of its events.
    pub fn receive(&self) -> bool {
        let request = self.request();
        match self.scheme.verify(request, &self.keys, NOW) {
            Ok(verified) => {
                std::hint::black_box(self.scheme.identify(&verified, request));
                true
            }
            Err(refused) => {
                std::hint::black_box(refused.to_string());
                false
            }
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            method: "POST",
            url: "",
            query: self.query.as_deref(),
            headers: &self.headers,
            body: &self.body,
        }
    }
}

pub fn all() -> Vec<Nasty> {
    let sendpilot = |name, body| genuine(name, "sendpilot", body);
    let mut all = vec![
        sendpilot(
            "nothing special: one text of 1 MiB",
            filled("{\"eventId\":\"e\",\"eventType\":\"t\",\"x\":\"", "x", "\"}"),
        ),
        sendpilot("brackets within each other", filled("", "[", "")),
        sendpilot("brackets within each other, below a wanted key", filled("{\"eventId\":", "[", "")),
        sendpilot("objects a hundred deep, one after the other", filled("[", &nest(100), "1]")),
        sendpilot("a hundred thousand fields", filled("{", "\"a\":1,", "\"b\":1}")),
        sendpilot("a million elements", filled("[", "1,", "1]")),
        sendpilot("the wanted key again and again", filled("{", "\"eventId\":\"e\",", "\"b\":1}")),
        sendpilot("the wanted key again and again, as a number", filled("{", "\"eventId\":1,", "\"b\":1}")),
        sendpilot("a key that begins like the wanted one", filled("{", "\"eventI\":0,", "\"b\":1}")),
        sendpilot("a wanted text of 1 MiB", filled("{\"eventId\":\"", "x", "\"}")),
        sendpilot("a wanted text of escapes", filled("{\"eventId\":\"", "\\u0041", "\"}")),
        sendpilot("a text of escapes", filled("{\"x\":\"", "\\\"", "\"}")),
        sendpilot("keys of escapes", filled("{", "\"\\u0061\":1,", "\"b\":1}")),
        sendpilot("a wanted number of 1 MiB", filled("{\"eventId\":", "7", "}")),
        sendpilot("a number of 1 MiB", filled("{\"x\":", "7", "}")),
        sendpilot("numbers with exponents", filled("[", "-1.5e-300,", "1]")),
        sendpilot("spaces", filled("", " ", "{}")),
        sendpilot("emoji", filled("{\"eventId\":\"e\",\"x\":\"", "\u{1f6a2}", "\"}")),
        sendpilot("not UTF-8", [&b"{\"eventId\":\""[..], &vec![0xff; BODY_BYTES - 14], b"\"}"].concat()),
        sendpilot("JSON that ends in the last byte", filled("{\"eventId\":\"e\",\"x\":[", "{},", "{}]")),
        refused(
            "a signature of 32 KiB",
            "sendpilot",
            &[("webhook-signature", &"a".repeat(HEADERS_BYTES_MAX))],
        ),
        refused(
            "a signature of separators",
            "sendpilot",
            &[("webhook-signature", &",".repeat(HEADERS_BYTES_MAX))],
        ),
        refused("a signature of timestamps", "sendpilot", &[("webhook-signature", &"t=1,".repeat(8192))]),
        refused("a signature of unknown fields", "sendpilot", &[("webhook-signature", &"a=b,".repeat(8192))]),
        refused("a list of spaces", "standard-webhooks", &standard(&" ".repeat(HEADERS_BYTES_MAX))),
        refused(
            "an id of 32 KiB",
            "standard-webhooks",
            &[
                ("webhook-id", &"a.".repeat(16384)),
                ("webhook-timestamp", "1790000000"),
                ("webhook-signature", "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            ],
        ),
        refused("a hundred headers", "github", &hundred()),
        refused("64 signatures", "standard-webhooks", &standard(&sixty_four())),
    ];
    all.extend(in_the_body());
    all.extend(by_many_secrets());
    all
}

/// Schemes that read signature, timestamp or id out of the body, or sign what is in it.
fn in_the_body() -> Vec<Nasty> {
    let json = |signature: &str| {
        json!({
            "type": "hmac", "algorithm": "sha256", "signed": "{timestamp}.{id}.{body}", "id": "json:id",
            "signature": {"from": signature, "format": "raw", "encoding": "base64"},
            "timestamp": {"from": "json:at", "unit": "s", "tolerance": "300s"},
        })
    };
    let form = json!({
        "type": "hmac", "algorithm": "sha1", "signed": "{form:payload}{form:other}{body}", "secret": {"decode": "utf8"},
        "signature": {"from": "form:sig", "format": "fields", "separator": "&", "assign": "|", "key": "*", "encoding": "hex"},
    });
    let query = json!({
        "type": "hmac", "algorithm": "sha256", "signed": "{query:q}{body}",
        "signature": {"from": "query:sig", "format": "raw", "encoding": "hex"},
    });
    let in_query = |name, query: String, scheme: &Value| Nasty {
        query: Some(query),
        ..custom(name, scheme, &json!({}), &[], b"{}".to_vec())
    };
    let plain = json!({
        "type": "hmac", "algorithm": "sha256", "signed": "{body}",
        "signature": {"from": "header:x-sig", "format": "raw", "encoding": "hex"},
    });
    let each = json!({"id": "json:id", "type": "json:type", "each": "json:."});
    vec![
        custom(
            "a signature of 1 MiB of base64 in the body",
            &json("json:sig"),
            &json!({}),
            &[],
            filled("{\"at\":\"1790000000\",\"id\":\"i\",\"sig\":\"", "A", "\"}"),
        ),
        custom(
            "a timestamp of 1 MiB in the body",
            &json("header:x-sig"),
            &json!({}),
            &[("x-sig", &"A".repeat(44))],
            filled("{\"id\":\"i\",\"at\":\"", "1", "\"}"),
        ),
        custom(
            "an id of 1 MiB in the body",
            &json("header:x-sig"),
            &json!({}),
            &[("x-sig", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")],
            filled("{\"at\":\"1790000000\",\"id\":\"", "1", "\"}"),
        ),
        custom(
            "three places behind a million elements",
            &json("json:sig"),
            &json!({}),
            &[],
            filled("{\"x\":[", "1,", "1],\"at\":\"1790000000\",\"id\":\"i\",\"sig\":\"A\"}"),
        ),
        custom("a form of `a=&a=&…`", &form, &json!({}), &[], filled("", "a=&", "sig=00")),
        custom("a form of `&&&…`", &form, &json!({}), &[], filled("", "&", "sig=00")),
        custom("a form of `%61=&…`", &form, &json!({}), &[], filled("", "%61=&", "sig=00")),
        custom(
            "one field of a form, encoded",
            &form,
            &json!({}),
            &[],
            filled("sig=a|00&other=1&payload=", "%41", ""),
        ),
        custom(
            "one field of a form, of plus signs",
            &form,
            &json!({}),
            &[],
            filled("sig=a|00&other=1&payload=", "+", ""),
        ),
        in_query("a query of 32 KiB", format!("{}sig=00", "a=&".repeat(10_000)), &query),
        custom_signed("a list of a million events", &plain, &each, filled("[", "1,", "1]")),
        custom_signed("a list of events without a name", &plain, &each, filled("[", "{},", "{}]")),
        custom_signed(
            "a list of events",
            &plain,
            &each,
            filled("[", "{\"id\":\"e\",\"type\":\"t\"},", "{}]"),
        ),
        custom_signed(
            "ten events of 100 KiB",
            &plain,
            &each,
            filled("[", &format!("{{\"id\":\"e\",\"x\":\"{}\"}},", "x".repeat(100 << 10)), "{}]"),
        ),
    ]
}

fn by_many_secrets() -> Vec<Nasty> {
    let sixty_four = sixty_four();
    let lines = standard(&sixty_four);
    let small = refused("64 signatures, 8 secrets, 600 bytes", "standard-webhooks", &lines);
    let small = Nasty { body: vec![b'x'; 600], ..small };
    let large = refused("64 signatures, 8 secrets", "standard-webhooks", &lines);
    let two =
        genuine("nothing special, 2 secrets", "sendpilot", filled("{\"eventId\":\"e\",\"x\":\"", "x", "\"}"));
    vec![with_secrets(two, 2), with_secrets(small, SECRETS_MAX), with_secrets(large, SECRETS_MAX)]
}

// === making them ===

/// Signed as the provider signs.
fn genuine(name: &'static str, of: &str, body: Vec<u8>) -> Nasty {
    let preset = preset(of).expect("a preset that ships");
    signed(name, &preset.scheme, &preset.event, body)
}

fn custom_signed(name: &'static str, scheme: &Value, event: &Value, body: Vec<u8>) -> Nasty {
    let (scheme, event) = parsed(scheme, event);
    signed(name, &scheme, &event, body)
}

fn signed(name: &'static str, scheme: &Spec, event: &EventSpec, body: Vec<u8>) -> Nasty {
    let scheme = compile(name, scheme, event);
    let lines = scheme.sign(&Secret::new(SECRET), "evt_1", "a.b", &body, "", NOW).expect("it can sign");
    let lines: Vec<(&str, &str)> = lines.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    Nasty { genuine: true, ..nasty(name, scheme, &lines, body) }
}

/// Not genuine, with a body of 1 MiB.
fn refused(name: &'static str, of: &str, lines: &[(&str, &str)]) -> Nasty {
    let preset = preset(of).expect("a preset that ships");
    let body = filled("{\"x\":\"", "x", "\"}");
    nasty(name, compile(name, &preset.scheme, &preset.event), lines, body)
}

fn custom(name: &'static str, scheme: &Value, event: &Value, lines: &[(&str, &str)], body: Vec<u8>) -> Nasty {
    let (scheme, event) = parsed(scheme, event);
    nasty(name, compile(name, &scheme, &event), lines, body)
}

fn parsed(scheme: &Value, event: &Value) -> (Spec, EventSpec) {
    let scheme = serde_json::from_value(scheme.clone()).expect("a scheme's keys");
    (scheme, serde_json::from_value(event.clone()).expect("an event's keys"))
}

fn compile(name: &str, scheme: &Spec, event: &EventSpec) -> Scheme {
    Scheme::compile(scheme, event).unwrap_or_else(|problems| panic!("{name}: {problems:?}"))
}

fn nasty(name: &'static str, scheme: Scheme, lines: &[(&str, &str)], body: Vec<u8>) -> Nasty {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        headers.append(name, HeaderValue::from_str(value).expect("a header's value"));
    }
    let keys = vec![key(&scheme, SECRET)];
    Nasty { name, genuine: false, live_secrets: 1, scheme, keys, headers, query: None, body }
}

fn with_secrets(nasty: Nasty, count: usize) -> Nasty {
    let others = (1..count).map(|n| key(&nasty.scheme, &format!("whsec_{}", hex::encode([n as u8; 16]))));
    let keys = others.chain([key(&nasty.scheme, SECRET)]).collect();
    Nasty { keys, live_secrets: count, ..nasty }
}

fn key(scheme: &Scheme, secret: &str) -> Key {
    scheme.key(&Secret::new(secret), None).expect("a secret that fits")
}

/// Exactly 1 MiB: `first`, as many whole `piece`s as there is room for, spaces, `last`.
fn filled(first: &str, piece: &str, last: &str) -> Vec<u8> {
    let room = BODY_BYTES - first.len() - last.len();
    let mut body = first.to_owned() + &piece.repeat(room / piece.len());
    body += &" ".repeat(BODY_BYTES - last.len() - body.len());
    (body + last).into_bytes()
}

fn nest(deep: usize) -> String {
    format!("{}1{},", "{\"a\":".repeat(deep), "}".repeat(deep))
}

fn standard(signature: &str) -> [(&str, &str); 3] {
    [("webhook-id", "msg_1"), ("webhook-timestamp", "1790000000"), ("webhook-signature", signature)]
}

fn sixty_four() -> String {
    let item = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    vec![item; SIGNATURE_CANDIDATES_MAX].join(" ")
}

/// As many as a request may have, on one line each but the signature's, which is the last.
fn hundred() -> Vec<(&'static str, &'static str)> {
    let mut names = String::new();
    (1..HEADERS_MAX).for_each(|n| write!(names, "x-other-{n} ").expect("a text grows"));
    // Lives as long as the bench.
    let names: &'static str = names.leak();
    let zeros = "sha256=0000000000000000000000000000000000000000000000000000000000000000";
    names.split_whitespace().map(|name| (name, zeros)).chain([("x-hub-signature-256", zeros)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_come_out_as_marked() {
        let all = all();
        assert!(all.len() > 40);
        let mut sizes = 0;
        for nasty in &all {
            assert_eq!(nasty.receive(), nasty.genuine, "{}", nasty.name);
            sizes += usize::from(nasty.body.len() == BODY_BYTES);
        }
        assert!(sizes + 3 > all.len(), "{sizes} of {} have 1 MiB", all.len());
    }
}
