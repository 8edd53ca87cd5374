//! Changed: a preset taken with one thing changed.

use super::properties::is_data;
use super::signer::{At, Dice, make};
use super::*;
use crate::verify::spec::Texts;

fn over(name: &str, scheme: Value, event: Value) -> (Spec, Scheme) {
    let preset = preset(name).unwrap();
    let (scheme, event): (Spec, EventSpec) =
        (serde_json::from_value(scheme).unwrap(), serde_json::from_value(event).unwrap());
    let spec = scheme.over(&preset.scheme);
    let compiled = Scheme::compile(&spec, &event.over(&preset.event));
    (spec, compiled.unwrap_or_else(|problems| panic!("{name}: {problems:?}")))
}

fn dice() -> Dice {
    Dice { body: b"{}".to_vec(), secret: b"of a customer".to_vec(), id: "evt_1".into(), now_s: 1_790_000_000 }
}

/// Signed by the changed words, by the second reading of the language; `name` renames one header on the way.
fn judged(
    spec: &Spec,
    scheme: &Scheme,
    rename: Option<(&str, &str)>,
    now: Millis,
) -> Result<Verified, Refused> {
    let made = make(spec, &dice()).unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in &made.headers {
        let name =
            rename.filter(|(from, _)| from.eq_ignore_ascii_case(name)).map_or(name.as_str(), |(_, to)| to);
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value).unwrap(),
        );
    }
    let query = made.url.split_once('?').map(|(_, query)| query);
    let request = Request { method: "POST", url: &made.url, query, headers: &headers, body: &made.body };
    scheme.verify(request, &[key(scheme, &made.secret)], now)
}

/// Every preset whose signature is in a header takes another header's name, and then no longer the old one.
#[test]
fn the_signatures_header() {
    let mut changed = 0;
    for name in preset_names() {
        let preset = preset(name).unwrap();
        if !is_data(&preset.scheme) {
            continue;
        }
        let Some(from) = preset.scheme.signature.from.as_ref() else { continue };
        let Some(header) = from.0[0].strip_prefix("header:") else { continue };
        let consts = match preset.scheme.signed.as_deref() {
            Some(signed) if signed.contains("{const:") => json!({ "webhook_id": "1" }),
            _ => json!({}),
        };
        let change = json!({ "signature": { "from": "header:Acme-Signature" }, "const": consts });
        let (spec, scheme) = over(name, change, json!({}));
        assert_eq!(spec.signature.from, Some(Texts(vec!["header:Acme-Signature".into()])));
        let now = Millis::from_seconds(dice().now_s);
        judged(&spec, &scheme, None, now).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        let refused = judged(&spec, &scheme, Some(("Acme-Signature", header)), now).unwrap_err();
        assert_eq!(refused, Refused::NoSignature("header `Acme-Signature`".into()), "{name}");
        changed += 1;
    }
    assert!(changed > 125, "{changed}");
}

#[test]
fn the_tolerance() {
    let late = |seconds| Millis::from_seconds(dice().now_s + seconds);
    for name in ["stripe", "paddle", "slack", "box", "linear", "webflow", "cloudinary"] {
        let (spec, scheme) = over(name, json!({ "timestamp": { "tolerance": "3h" } }), json!({}));
        assert_eq!(
            scheme.tolerance(),
            Some((Duration::from_secs(10_800), Duration::from_secs(10_800))),
            "{name}"
        );
        assert!(judged(&spec, &scheme, None, late(10_799)).is_ok(), "{name}");
        assert!(matches!(judged(&spec, &scheme, None, late(10_802)), Err(Refused::Stale { .. })), "{name}");
        let (spec, scheme) = over(name, json!({ "timestamp": { "tolerance": "none" } }), json!({}));
        assert!(judged(&spec, &scheme, None, late(1_000_000)).is_ok(), "{name}");
    }
    for name in ["sanity", "discord", "sendgrid"] {
        let (spec, scheme) = over(name, json!({ "timestamp": { "tolerance": "300s" } }), json!({}));
        assert!(judged(&spec, &scheme, None, late(299)).is_ok(), "{name}");
        assert!(matches!(judged(&spec, &scheme, None, late(302)), Err(Refused::Stale { .. })), "{name}");
    }
    let (_, scheme) = over("box", json!({ "timestamp": { "future": "0s" } }), json!({}));
    assert_eq!(scheme.tolerance(), Some((Duration::from_secs(600), Duration::ZERO)));
}

#[test]
fn how_the_secret_is_written() {
    let (spec, scheme) =
        over("openai", json!({ "secret": { "strip_prefix": "", "decode": "utf8" } }), json!({}));
    let now = Millis::from_seconds(dice().now_s);
    assert!(judged(&spec, &scheme, None, now).is_ok());
    let (spec, scheme) = over("cloudinary", json!({ "algorithm": "sha256" }), json!({}));
    assert!(judged(&spec, &scheme, None, now).is_ok());
}

fn named(scheme: &Scheme, spec: &Spec, body: &Value) -> Vec<(String, String)> {
    let made = make(spec, &Dice { body: body.to_string().into_bytes(), ..dice() }).unwrap();
    assert!(made.covered.iter().any(|span| span.at == At::Body));
    let lines: Vec<(String, String)> =
        made.headers.into_iter().map(|(name, value)| (name, String::from_utf8(value).unwrap())).collect();
    let headers = header_map(&lines);
    let query = made.url.split_once('?').map(|(_, query)| query);
    let request = Request { method: "POST", url: &made.url, query, headers: &headers, body: &made.body };
    let now = Millis::from_seconds(dice().now_s);
    let verified = scheme.verify(request, &[key(scheme, &made.secret)], now).unwrap();
    scheme.identify(&verified, request).into_iter().map(|event| (event.id, event.event_type)).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(id, kind)| ((*id).to_owned(), (*kind).to_owned())).collect()
}

/// The type stays the preset's, and of many events each is looked at where the preset looks.
#[test]
fn where_the_id_is() {
    let (spec, scheme) = over("stripe", json!({}), json!({ "id": "json:request.id" }));
    let body = json!({ "id": "evt_1", "type": "charge.failed", "request": { "id": "req_1" } });
    assert_eq!(named(&scheme, &spec, &body), pairs(&[("req_1", "charge.failed")]));

    let (spec, scheme) = over("hubspot", json!({}), json!({ "id": "json:objectId" }));
    let body = json!([
        { "eventId": 1, "objectId": 71, "subscriptionType": "contact.creation" },
        { "eventId": 2, "objectId": 72, "subscriptionType": "contact.deletion" },
    ]);
    assert_eq!(
        named(&scheme, &spec, &body),
        pairs(&[("71", "contact.creation"), ("72", "contact.deletion")])
    );
}

/// `each: none` takes a preset's list as one event, and its places then count from the body.
#[test]
fn whether_a_list_is_one_event_or_many() {
    let body = json!({ "destination": "U1", "events": [
        { "webhookEventId": "a", "type": "message" }, { "webhookEventId": "b", "type": "follow" },
    ] });
    let (spec, scheme) = over("line", json!({}), json!({}));
    assert_eq!(named(&scheme, &spec, &body), pairs(&[("a", "message"), ("b", "follow")]));
    let whole = json!({ "each": "none", "id": "json:events.0.webhookEventId", "type": "json:destination" });
    let (spec, scheme) = over("line", json!({}), whole);
    assert_eq!(named(&scheme, &spec, &body), pairs(&[("a", "U1")]));

    let many = json!({ "each": "json:items", "id": "json:key", "type": "json:what" });
    let (spec, scheme) = over("github", json!({}), many);
    let body = json!({ "items": [{ "key": "k1", "what": "x" }, { "key": "k2", "what": "y" }] });
    assert_eq!(named(&scheme, &spec, &body), pairs(&[("k1", "x"), ("k2", "y")]));
}
