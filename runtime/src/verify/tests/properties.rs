//! Properties: what every preset must have, whatever the body, the secret, the id and the time.
//!
//! Signed by the second reading of the language in `signer.rs`: accepted; with any bit changed of what is signed, of
//! the decoded signature or of the token: refused.

use std::sync::LazyLock;

use super::signer::{At, Dice, Made, Span, make};
use super::*;

struct Subject {
    name: &'static str,
    spec: Spec,
    scheme: Scheme,
}

/// Every preset whose scheme is data.
static SUBJECTS: LazyLock<Vec<Subject>> = LazyLock::new(|| {
    let presets = preset_names().into_iter().map(|name| (name, preset(name).unwrap()));
    let subjects = presets.filter(|(_, preset)| is_data(&preset.scheme)).map(|(name, preset)| {
        let id: Spec = match preset.scheme.signed.as_deref() {
            Some(signed) if signed.contains("{const:webhook_id}") => {
                serde_json::from_value(json!({ "const": { "webhook_id": "8PT597110X687430LKGECATA" } }))
                    .unwrap()
            }
            _ => Spec::default(),
        };
        let spec = id.over(&preset.scheme);
        let scheme = Scheme::compile(&spec, &preset.event).unwrap_or_else(|p| panic!("{name}: {p:?}"));
        Subject { name, spec, scheme }
    });
    subjects.collect()
});

/// The others are code, and `builtin` has properties of its own.
pub(super) fn is_data(spec: &Spec) -> bool {
    const KINDS: [&str; 7] = ["hmac", "hash", "ed25519", "ecdsa-p256", "rsa-sha256", "token", "basic"];
    spec.kind.as_deref().is_some_and(|kind| KINDS.contains(&kind))
}

fn refused_or_not(subject: &Subject, made: &Made, secret: &str, now: Millis) -> Result<(), Refused> {
    let mut headers = HeaderMap::new();
    for (name, value) in &made.headers {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value).map_err(|_| Refused::Malformed("HTTP cannot carry it".into()))?,
        );
    }
    let query = made.url.split_once('?').map(|(_, query)| query);
    let request =
        Request { method: &made.method, url: &made.url, query, headers: &headers, body: &made.body };
    let key = subject.scheme.key(&Secret::new(secret), None).map_err(Refused::Malformed)?;
    subject.scheme.verify(request, &[key], now).map(|_| ())
}

fn accepted(subject: &Subject, made: &Made, dice: &Dice) -> Result<(), String> {
    let now = Millis::from_seconds(dice.now_s);
    refused_or_not(subject, made, &made.secret, now)
        .map_err(|refused| format!("{}: {refused}\n{made:#?}", subject.name))
}

/// The request with one bit changed; None where that is no other request: the other case of a digit of hex.
fn flipped(made: &Made, span: &Span, byte: usize, bit: u8) -> Option<Made> {
    let mut other = made.clone();
    let mut method = other.method.clone().into_bytes();
    let mut url = other.url.clone().into_bytes();
    let bytes = match span.at {
        At::Method => &mut method,
        At::Url => &mut url,
        At::Header(at) => &mut other.headers[at].1,
        At::Body => &mut other.body,
    };
    let before = bytes[byte];
    bytes[byte] ^= 1 << bit;
    if span.any_case && before.eq_ignore_ascii_case(&bytes[byte]) {
        return None;
    }
    // Neither is anything but text.
    other.method = String::from_utf8(method).ok()?;
    other.url = String::from_utf8(url).ok()?;
    Some(other)
}

fn dice() -> impl Strategy<Value = Dice> {
    (
        proptest::collection::vec(any::<u8>(), 1..48),
        proptest::collection::vec(any::<u8>(), 1..40),
        "[A-Za-z0-9_-]{6,24}",
        1_000_000_000_u64..4_000_000_000,
    )
        .prop_map(|(body, secret, id, now_s)| Dice { body, secret, id, now_s })
}

fn refused(
    subject: &Subject,
    made: &Made,
    span: &Span,
    byte: usize,
    bit: u8,
    dice: &Dice,
) -> Result<bool, String> {
    let Some(other) = flipped(made, span, byte, bit) else { return Ok(false) };
    match refused_or_not(subject, &other, &made.secret, Millis::from_seconds(dice.now_s)) {
        Err(_) => Ok(true),
        Ok(()) => {
            Err(format!("{}: bit {bit} of byte {byte} of {span:?} is not covered\n{made:#?}", subject.name))
        }
    }
}

/// All bits of one request of each preset.
#[test]
fn no_bit_of_what_is_signed_can_change() {
    let dice = Dice {
        body: b"{\"a\":1}".to_vec(),
        secret: b"secret of tests".to_vec(),
        id: "evt_1-aZ9".into(),
        now_s: 1_790_000_000,
    };
    let mut flips = 0;
    for subject in SUBJECTS.iter() {
        let made = make(&subject.spec, &dice).unwrap_or_else(|| panic!("{} cannot be signed", subject.name));
        accepted(subject, &made, &dice).unwrap();
        assert!(!made.covered.is_empty(), "{}", subject.name);
        for span in &made.covered {
            for (byte, bit) in (span.from..span.to).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
                flips += usize::from(refused(subject, &made, span, byte, bit, &dice).unwrap());
            }
        }
    }
    assert!(
        SUBJECTS.len() > 130 && flips > SUBJECTS.len() * 300,
        "{} presets, {flips} flips",
        SUBJECTS.len()
    );
}

/// What a scheme covers besides its signature, so that the test above cannot become one that flips nothing else.
#[test]
fn what_is_covered_is_what_the_facts_say() {
    let dice = Dice {
        body: b"body".to_vec(),
        secret: b"secret".to_vec(),
        id: "evt_1x".into(),
        now_s: 1_790_000_000,
    };
    let covered = |name: &str| {
        let subject = SUBJECTS.iter().find(|subject| subject.name == name).unwrap();
        let made = make(&subject.spec, &dice).unwrap();
        let mut words: Vec<String> = made
            .covered
            .iter()
            .map(|span| match span.at {
                At::Method => "method".into(),
                At::Url => "url".into(),
                At::Body => "body".into(),
                At::Header(at) => made.headers[at].0.clone(),
            })
            .collect();
        words.sort_unstable();
        words.join(" ")
    };
    assert_eq!(covered("github"), "X-Hub-Signature-256 body");
    assert_eq!(covered("stripe"), "Stripe-Signature Stripe-Signature body");
    assert_eq!(covered("standard-webhooks"), "body webhook-id webhook-signature webhook-timestamp");
    assert_eq!(covered("hubspot"), "X-HubSpot-Request-Timestamp X-HubSpot-Signature-v3 body method url");
    assert_eq!(covered("mailgun"), "body body body");
    assert_eq!(covered("telegram"), "X-Telegram-Bot-Api-Secret-Token");
    assert_eq!(
        covered("paypal"),
        "PAYPAL-TRANSMISSION-ID PAYPAL-TRANSMISSION-SIG PAYPAL-TRANSMISSION-TIME body"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// For every preset in each case: random body, secret, id and time.
    #[test]
    fn what_a_provider_signs_is_accepted_until_anything_changes(
        dice in dice(),
        other in proptest::collection::vec(any::<u8>(), 1..40),
        flips in proptest::collection::vec((any::<usize>(), any::<usize>(), 0_u8..8), 6),
    ) {
        for subject in SUBJECTS.iter() {
            let Some(made) = make(&subject.spec, &dice) else { panic!("{}", subject.name) };
            accepted(subject, &made, &dice).map_err(TestCaseError::fail)?;
            for (span, byte, bit) in &flips {
                let span = &made.covered[span % made.covered.len()];
                if span.from < span.to {
                    let byte = span.from + byte % (span.to - span.from);
                    refused(subject, &made, span, byte, *bit, &dice).map_err(TestCaseError::fail)?;
                }
            }
            let others = make(&subject.spec, &Dice { secret: other.clone(), ..dice.clone() }).unwrap();
            if others.secret != made.secret && !is_one_key(&subject.spec) {
                let now = Millis::from_seconds(dice.now_s);
                prop_assert!(refused_or_not(subject, &made, &others.secret, now).is_err(), "{}", subject.name);
            }
            if let Some((past, future)) = subject.scheme.tolerance() {
                for (now, is_good) in around(&dice, past, future) {
                    let found = refused_or_not(subject, &made, &made.secret, now);
                    prop_assert_eq!(found.is_ok(), is_good, "{} at {:?}: {:?}", subject.name, now, found);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// No request makes a preset panic, and none without a signature gets past it: any bytes, or texts that look like
    /// signatures, in every header that it reads.
    #[test]
    fn no_request_panics_or_is_taken(
        dice in dice(),
        junk in proptest::collection::vec(any::<u8>(), 0..80),
        text in "[tsv01=,;|&. +sha256a-f]{0,80}",
        number in "[0-9TZ:.+-]{0,24}",
        body in proptest::collection::vec(any::<u8>(), 0..80),
        now in any::<u64>(),
    ) {
        for subject in SUBJECTS.iter() {
            let made = make(&subject.spec, &dice).unwrap();
            for value in [&junk[..], text.as_bytes(), number.as_bytes()] {
                let mut other = made.clone();
                other.headers.iter_mut().for_each(|(_, have)| *have = value.to_vec());
                for body in [&made.body, &body] {
                    other.body.clone_from(body);
                    let found = refused_or_not(subject, &other, &made.secret, Millis(now));
                    let is_in_body = made.covered.iter().all(|span| span.at == At::Body);
                    prop_assert!(found.is_err() || is_in_body, "{}: {:?}", subject.name, other);
                }
            }
        }
    }
}

/// The tests have one key of these kinds, in two wrappings.
fn is_one_key(spec: &Spec) -> bool {
    matches!(spec.kind.as_deref(), Some("rsa-sha256" | "ecdsa-p256"))
}

/// Both edges of the window, and a second beyond each. Milliseconds of a stamp are its last three digits.
fn around(dice: &Dice, past: Duration, future: Duration) -> [(Millis, bool); 4] {
    let second = Duration::from_secs(1);
    let at = Millis::from_seconds(dice.now_s);
    let late = at.plus(past);
    let early = at.minus(future).plus(second);
    [
        (late, true),
        (late.plus(second).plus(second), false),
        (early, true),
        (early.minus(second).minus(second), false),
    ]
}
