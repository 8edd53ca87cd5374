//! Every answer that HubSpot documents, as rows: what is answered, and what becomes of the delivery.

use longshore_sdk::http::Fault;
use longshore_sdk::testing::{Answer, Host, event};

use super::*;
use crate::hubspot::CONFLICT_ATTEMPTS_MAX;

fn lead(event_type: &str, more: Value) -> Event {
    let mut data = json!({
        "leadId": "lead_1", "campaignId": "camp_1", "linkedinUrl": "https://linkedin.com/in/x", "senderId": "s_1",
    });
    data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event(
        event_type,
        json!({ "eventType": event_type, "timestamp": "2026-02-20T18:00:00.000Z", "data": data }),
    )
}

fn accepted() -> Event {
    lead("connection.accepted", json!({}))
}

fn reply() -> Event {
    lead("message.received", json!({ "replyPreview": "Sure <b>" }))
}

fn host() -> Host {
    let host = Host::of(&PLUGIN);
    host.secret("token");
    host
}

fn upserted(is_new: bool) -> Answer {
    let result = json!({ "id": "501", "new": is_new, "properties": {} });
    (200, json!({ "status": "COMPLETE", "results": [result] })).into()
}

fn noted() -> Answer {
    (201, json!({ "id": "77", "properties": {} })).into()
}

#[test]
fn a_lead_becomes_a_contact() {
    let host = host();
    host.answer(upserted(true));
    assert_eq!(host.deliver(accepted()), done("contact 501 created"));
    let call = &host.calls()[0];
    assert_eq!(call.url(), "https://api.hubapi.com/crm/v3/objects/contacts/batch/upsert");
    assert_eq!(call.credentials, [http::Credential::Bearer("token".to_owned())]);
    assert_eq!(call.key.as_deref(), Some("contact"));
    assert_eq!(
        call.json(),
        json!({ "inputs": [{
            "idProperty": "sendpilot_lead_id",
            "id": "lead_1",
            "properties": {
                "sendpilot_linkedin_url": "https://linkedin.com/in/x",
                "sendpilot_campaign_id": "camp_1",
            },
        }]})
    );
    assert_eq!(host.calls().len(), 1);
}

#[test]
fn a_reply_becomes_a_note_on_the_contact() {
    let rows = [
        ("message.received", json!({ "replyPreview": "Sure <b>" }), "Sure &lt;b&gt;"),
        ("reply.received", json!({ "reply": "All of it", "replyPreview": "All" }), "All of it"),
    ];
    for (event_type, more, text) in rows {
        let host = host();
        host.answer(upserted(false)).answer(noted());
        assert_eq!(host.deliver(lead(event_type, more)), done("contact 501 updated, note 77"));
        let call = &host.calls()[1];
        assert_eq!(call.url(), "https://api.hubapi.com/crm/v3/objects/notes");
        assert_eq!(call.key.as_deref(), Some("note"));
        assert_eq!(
            call.json(),
            json!({
                "properties": {
                    "hs_note_body": format!("<p><strong>LinkedIn reply</strong></p><p>{text}</p>"),
                    "hs_timestamp": "2026-02-20T18:00:00.000Z",
                },
                "associations": [{
                    "to": { "id": "501" },
                    "types": [{ "associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202 }],
                }],
            })
        );
    }
}

#[test]
fn a_note_without_a_readable_time_has_that_of_receipt() {
    let mut event = reply();
    event.body =
        json!({ "timestamp": "yesterday", "data": { "leadId": "l", "reply": "r" } }).to_string().into();
    let host = host();
    host.answer(upserted(false)).answer((201, "not JSON"));
    assert_eq!(host.deliver(event), done("contact 501 updated, note made"));
    assert_eq!(host.calls()[1].json()["properties"]["hs_timestamp"], "1700000000000");
}

#[test]
fn a_reply_without_text_makes_no_note() {
    let host = host();
    host.answer(upserted(false));
    assert_eq!(host.deliver(lead("message.received", json!({}))), done("contact 501 updated"));
    assert_eq!(host.logs()[0].message, "the event has no text for a note");
}

#[test]
fn an_event_without_the_key_is_skipped_with_the_reason() {
    let campaign = event("campaign.started", json!({ "data": { "campaignId": "c" } }));
    let host = host();
    assert_eq!(
        host.deliver(campaign),
        skip("no sendpilot_lead_id in this event: there is nothing at /data/leadId")
    );
    host.setting("id_property", "email").setting("id_pointer", "/data/email");
    assert_eq!(host.deliver(reply()), skip("no email in this event: there is nothing at /data/email"));
    assert!(host.calls().is_empty());
}

#[test]
fn key_fields_and_address_are_settings() {
    let host = host();
    host.setting("id_property", "email")
        .setting("id_pointer", "/data/email|/data/work/email")
        .setting(
            "fields",
            json!({ "score": "/data/score", "city": "/data/city", "lang": "/data/none|/data/lang" }),
        )
        .setting("note_types", json!([]))
        .setting("base_url", "http://127.0.0.1:8082/")
        .grant("http://127.0.0.1:8082")
        .answer(upserted(true));
    let more =
        json!({ "work": { "email": "x@example.com" }, "score": 7, "city": null, "lang": "de", "reply": "r" });
    assert_eq!(host.deliver(lead("message.received", more)), done("contact 501 created"));
    let call = &host.calls()[0];
    assert_eq!(call.url(), "http://127.0.0.1:8082/crm/v3/objects/contacts/batch/upsert");
    let properties = json!({ "score": "7", "lang": "de" });
    assert_eq!(
        call.json()["inputs"][0],
        json!({ "idProperty": "email", "id": "x@example.com", "properties": properties })
    );
}

#[test]
fn readme_shows_what_is_sent() {
    let mut blocks = include_str!("../README.md").split("```json").skip(1).map(|block| {
        let json = block.split("```").next().expect("a split has a first part");
        longshore_sdk::serde_json::from_str::<Value>(json).unwrap()
    });
    let host = host();
    host.answer(upserted(false)).answer(noted());
    host.deliver(event("message.received", blocks.next().unwrap())).unwrap();
    let sent: Vec<Value> = host.calls().iter().map(|call| call.json()).collect();
    assert_eq!(sent, blocks.collect::<Vec<_>>());
    assert_eq!(sent.len(), 2);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    /// Seconds to wait at least.
    Retry(Option<u64>),
    Reject,
}

fn ends(failure: &Failure) -> Ends {
    match failure {
        Failure::Retry { after, .. } => Ends::Retry(after.map(|wait| wait.as_secs())),
        Failure::Reject { .. } => Ends::Reject,
    }
}

fn error(status: u16, category: &str, message: &str) -> Answer {
    let error =
        json!({ "status": "error", "category": category, "message": message, "correlationId": "c-1" });
    (status, error).into()
}

fn limited(policy: &str) -> Answer {
    (429, json!({ "status": "error", "message": "limit", "errorType": "RATE_LIMIT", "policyName": policy }))
        .into()
}

#[test]
fn refusals_of_hubspot() {
    let rows: Vec<(Answer, Ends, &str)> = vec![
        (
            error(400, "VALIDATION_ERROR", "Property \"x\" does not exist"),
            Ends::Reject,
            "Property \"x\" does not exist",
        ),
        ((400, "bad").into(), Ends::Reject, "answered 400: bad"),
        (error(401, "INVALID_AUTHENTICATION", "no"), Ends::Reject, "the secret `token`"),
        (error(403, "MISSING_SCOPES", "no"), Ends::Reject, "crm.objects.contacts.write"),
        (error(404, "OBJECT_NOT_FOUND", "no"), Ends::Reject, "404 OBJECT_NOT_FOUND: no (correlation c-1)"),
        (error(409, "CONFLICT", "Contact already exists"), Ends::Retry(None), "Contact already exists"),
        ((409, "").into(), Ends::Retry(None), "answered 409"),
        ((423, "").into(), Ends::Retry(Some(2)), "answered 423"),
        (Answer::new(423).header("retry-after", "5"), Ends::Retry(Some(5)), "answered 423"),
        (limited("DAILY"), Ends::Retry(Some(3600)), "policy DAILY"),
        (limited("TEN_SECONDLY_ROLLING"), Ends::Retry(Some(10)), "policy TEN_SECONDLY_ROLLING"),
        (limited("DAILY").header("retry-after", "90"), Ends::Retry(Some(90)), "answered 429"),
        ((429, "").into(), Ends::Retry(None), "answered 429"),
        (Answer::new(477).header("retry-after", "86400"), Ends::Retry(Some(86_400)), "answered 477"),
        (error(500, "INTERNAL_ERROR", "oops"), Ends::Retry(None), "500 INTERNAL_ERROR: oops"),
        ((502, "<html>").into(), Ends::Retry(None), "answered 502: <html>"),
        (Answer::new(503).header("retry-after", "4"), Ends::Retry(Some(4)), "answered 503"),
        ((521, "").into(), Ends::Retry(None), "answered 521"),
        ((408, "").into(), Ends::Retry(None), "answered 408"),
        (Fault::Timeout.into(), Ends::Retry(None), "no answer in time"),
        (Fault::Dns("no such name".into()).into(), Ends::Retry(None), "no such name"),
        (Fault::Denied("not granted".into()).into(), Ends::Reject, "not granted"),
    ];
    for (answer, expected, words) in rows {
        // The contact's call and the note's are judged alike.
        for before in [vec![], vec![upserted(false)]] {
            let host = host();
            for answer in &before {
                host.answer(answer.clone());
            }
            host.answer(answer.clone());
            let failure = host.deliver(reply()).unwrap_err();
            assert_eq!(ends(&failure), expected, "{answer:?}: {failure}");
            assert!(failure.reason().contains(words), "{answer:?}: {failure}");
            assert_eq!(host.calls().len(), before.len() + 1);
        }
    }
}

#[test]
fn a_multi_status_is_judged_by_its_content() {
    let partial =
        |errors: Value| Answer::from((207, json!({ "status": "COMPLETE", "results": [], "errors": errors })));
    let one = |category: &str| partial(json!([{ "status": "error", "category": category, "message": "m" }]));
    let rows: Vec<(Answer, Ends, &str)> = vec![
        (one("VALIDATION_ERROR"), Ends::Reject, "207 VALIDATION_ERROR: m"),
        (one("OBJECT_NOT_FOUND"), Ends::Reject, "m"),
        (one("SOMETHING_NEW"), Ends::Reject, "SOMETHING_NEW"),
        (one("CONFLICT"), Ends::Retry(None), "207 CONFLICT: m"),
        (one("RATE_LIMITS"), Ends::Retry(None), "m"),
        (one("RATE_LIMITS").header("retry-after", "6"), Ends::Retry(Some(6)), "m"),
        (one("INTERNAL_ERROR"), Ends::Retry(None), "m"),
        (
            partial(
                json!([{ "category": "VALIDATION_ERROR", "message": "m", "errors": [{ "message": "detail" }] }]),
            ),
            Ends::Reject,
            "m; detail",
        ),
        (partial(json!([])), Ends::Retry(None), "neither a contact nor an error"),
        ((200, json!({ "status": "CANCELED" })).into(), Ends::Retry(None), "neither a contact nor an error"),
        ((200, "<html>").into(), Ends::Retry(None), "not the JSON expected"),
    ];
    for (answer, expected, words) in rows {
        let host = host();
        host.answer(answer.clone());
        let failure = host.deliver(reply()).unwrap_err();
        assert_eq!(ends(&failure), expected, "{answer:?}: {failure}");
        assert!(failure.reason().contains(words), "{answer:?}: {failure}");
        assert!(host.calls()[0].disowned, "{answer:?}: otherwise it would never be sent again");
    }
}

#[test]
fn a_note_that_the_content_refuses_is_not_taken_for_written() {
    let refused = |content: Value| Answer::from((200, content));
    let rows: Vec<(Answer, Ends, &str)> = vec![
        (refused(json!({ "ok": false })), Ends::Retry(None), "HubSpot answered 200"),
        (
            refused(json!({ "status": "error", "category": "VALIDATION_ERROR", "message": "m" })),
            Ends::Reject,
            "m",
        ),
        (refused(json!({ "category": "RATE_LIMITS", "message": "m" })), Ends::Retry(None), "RATE_LIMITS: m"),
    ];
    for (answer, expected, words) in rows {
        let host = host();
        host.answer(upserted(false)).answer(answer.clone());
        let failure = host.deliver(reply()).unwrap_err();
        assert_eq!(ends(&failure), expected, "{answer:?}: {failure}");
        assert!(failure.reason().contains(words), "{answer:?}: {failure}");
        assert!(host.calls()[1].disowned, "{answer:?}: otherwise it would never be sent again");
    }
    let host = host();
    host.answer(upserted(false)).answer((201, json!({ "id": "77", "status": "error" })));
    assert_eq!(host.deliver(reply()), done("contact 501 updated, note 77"), "it has an id, so it is there");
}

#[test]
fn a_contact_that_was_written_in_part_is_warned_about() {
    let body = json!({
        "results": [{ "id": "501", "new": false }],
        "errors": [{ "category": "VALIDATION_ERROR", "message": "Property \"x\" is read only" }],
    });
    let host = host();
    host.answer((207, body)).answer(noted());
    assert_eq!(host.deliver(reply()), done("contact 501 updated, note 77"));
    assert!(host.logs()[0].message.contains("in part VALIDATION_ERROR: Property \"x\" is read only"));
    assert!(!host.calls()[0].disowned);
}

#[test]
fn a_conflict_that_does_not_go_away_is_rejected() {
    let in_content = json!({ "results": [], "errors": [{ "category": "CONFLICT", "message": "exists" }] });
    for answer in [error(409, "CONFLICT", "exists"), (207, in_content).into()] {
        for (attempt, expected) in
            [(CONFLICT_ATTEMPTS_MAX - 1, Ends::Retry(None)), (CONFLICT_ATTEMPTS_MAX, Ends::Reject)]
        {
            let host = host();
            host.answer(answer.clone());
            let failure = host.deliver(Event { attempt, ..reply() }).unwrap_err();
            assert_eq!(ends(&failure), expected, "attempt {attempt}: {failure}");
        }
    }
}

#[test]
fn a_second_attempt_makes_only_what_is_missing() {
    let host = host();
    host.answer(upserted(true)).answer(503);
    assert!(host.deliver(reply()).unwrap_err().is_retry());
    host.answer(noted());
    assert_eq!(host.deliver(Event { attempt: 2, ..reply() }), done("contact 501 created, note 77"));
    let sent: Vec<_> = host.calls().iter().map(|call| (call.key.clone().unwrap(), call.recorded)).collect();
    let expected = [("contact", false), ("note", false), ("contact", true), ("note", false)];
    assert_eq!(sent, expected.map(|(key, recorded)| (key.to_owned(), recorded)));
    assert_eq!(host.calls()[1].body, host.calls()[3].body, "the same bytes in every attempt");
}

#[test]
fn what_the_operator_wrote_wrongly_is_named() {
    let rows = [
        (
            "id_pointer",
            json!("data.leadId"),
            "setting `id_pointer` is not valid: `data.leadId` is not a JSON pointer",
        ),
        ("id_property", json!(" "), "setting `id_property` is missing"),
        (
            "fields",
            json!({ "city": "city" }),
            "setting `fields` is not valid: `city`: `city` is not a JSON pointer",
        ),
        ("fields", json!(["city"]), "setting `fields` is not valid"),
        ("note_types", json!("message.received"), "setting `note_types` is not valid"),
        ("note_pointer", json!("reply"), "setting `note_pointer` is not valid"),
        ("note_time_pointer", json!("time"), "setting `note_time_pointer` is not valid"),
        ("base_url", json!(""), "setting `base_url` is missing"),
    ];
    for (key, value, expected) in rows {
        let host = host();
        host.setting(key, value.clone());
        let failure = host.deliver(reply()).unwrap_err();
        assert!(!failure.is_retry() && failure.reason().starts_with(expected), "{key} = {value}: {failure}");
        assert!(host.calls().is_empty());
    }
}

#[test]
fn an_event_that_is_not_json_is_rejected() {
    let failure = host().deliver(Event { body: b"<xml>".to_vec(), ..reply() }).unwrap_err();
    assert!(!failure.is_retry());
}
