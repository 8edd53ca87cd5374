//! Every answer that Slack documents, as rows: what is answered, and what becomes of the delivery.

use std::time::Duration;

use longshore_sdk::http::Fault;
use longshore_sdk::testing::{Answer, Host, event};

use super::*;

/// What a row expects.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    Done,
    Skipped,
    /// Seconds that Slack asked to wait.
    Retry(Option<u64>),
    Reject,
}

fn reply() -> Event {
    let data = json!({ "linkedinUrl": "https://linkedin.com/in/x", "reply": "Yes & <now>" });
    event("message.received", json!({ "eventType": "message.received", "data": data }))
}

fn with_webhook() -> Host {
    let host = Host::of(&PLUGIN);
    host.setting("template", "*{/data/linkedinUrl}* replied: {/data/reply}").secret("webhook");
    host
}

fn with_token() -> Host {
    let host = with_webhook();
    host.setting("channel", "C123").secret("token");
    host
}

fn check(host: &Host, answer: Answer, expected: Ends, words: &str) -> bool {
    host.answer(answer.clone());
    let result = host.deliver(reply());
    let (ends, text) = match result {
        Ok(Outcome::Done(note)) => (Ends::Done, note),
        Ok(Outcome::Skipped(note)) => (Ends::Skipped, note),
        Err(Failure::Retry { reason, after }) => (Ends::Retry(after.map(|w| w.as_secs())), Some(reason)),
        Err(Failure::Reject { reason }) => (Ends::Reject, Some(reason)),
    };
    let text = text.unwrap_or_default();
    assert_eq!(ends, expected, "{answer:?}: {text}");
    assert!(text.contains(words), "{answer:?}: {text}");
    host.calls().last().unwrap().disowned
}

#[test]
fn a_webhook_gets_one_section_and_a_fallback() {
    let host = with_webhook();
    assert!(!check(&host, (200, "ok").into(), Ends::Done, "posted"));
    let call = &host.calls()[0];
    let text = "*https://linkedin.com/in/x* replied: Yes &amp; &lt;now&gt;";
    assert_eq!(call.target, Target::secret_url("webhook"));
    assert_eq!(call.key.as_deref(), Some("notify"));
    assert_eq!(
        call.json(),
        json!({
            "text": text,
            "blocks": [{ "type": "section", "text": { "type": "mrkdwn", "text": text, "verbatim": true } }],
        })
    );
}

#[test]
fn readme_shows_what_is_sent() {
    let json =
        include_str!("../README.md").split("```json").nth(1).and_then(|block| block.split("```").next());
    let expected: Value = longshore_sdk::serde_json::from_str(json.unwrap()).unwrap();
    let host = with_webhook();
    host.setting("template", "*{/data/linkedinUrl}* replied: {/data/reply|/data/replyPreview}")
        .answer((200, "ok"));
    let data = json!({ "linkedinUrl": "https://linkedin.com/in/x", "replyPreview": "Yes & gladly" });
    host.deliver(event("message.received", json!({ "data": data }))).unwrap();
    assert_eq!(host.calls()[0].json(), expected);
}

#[test]
fn answers_of_a_webhook() {
    let rows: Vec<(Answer, Ends, &str)> = vec![
        ((200, "ok").into(), Ends::Done, "posted"),
        ((200, json!({ "ok": true })).into(), Ends::Done, "posted"),
        ((400, "invalid_payload").into(), Ends::Reject, "check `template`"),
        ((400, "no_text").into(), Ends::Reject, "check `template`"),
        ((400, "user_not_found").into(), Ends::Reject, "user_not_found"),
        ((403, "action_prohibited").into(), Ends::Reject, "ask its administrator"),
        ((403, "invalid_token").into(), Ends::Reject, "the secret `webhook`"),
        ((404, "no_service").into(), Ends::Reject, "the secret `webhook`"),
        ((404, "no_team").into(), Ends::Reject, "the secret `webhook`"),
        ((404, "channel_not_found").into(), Ends::Reject, "the channel is gone"),
        ((410, "channel_is_archived").into(), Ends::Reject, "unarchive it"),
        ((418, "I'm a teapot").into(), Ends::Reject, "answered 418: I'm a teapot"),
        ((302, "").into(), Ends::Reject, "answered 302"),
        (Answer::new(429).header("retry-after", "30"), Ends::Retry(Some(30)), "answered 429"),
        ((429, "rate_limited").into(), Ends::Retry(None), "rate_limited"),
        ((408, "").into(), Ends::Retry(None), "answered 408"),
        ((500, "rollup_error").into(), Ends::Retry(None), "rollup_error"),
        ((503, "").into(), Ends::Retry(None), "answered 503"),
        (Fault::Timeout.into(), Ends::Retry(None), "no answer in time"),
        (Fault::Connect("refused".into()).into(), Ends::Retry(None), "no connection: refused"),
        (Fault::Denied("not granted".into()).into(), Ends::Reject, "denied: not granted"),
        (Fault::ResponseTooLarge(200).into(), Ends::Reject, "answered 200"),
    ];
    for (answer, expected, words) in rows {
        assert!(!check(&with_webhook(), answer, expected, words));
    }
}

#[test]
fn a_webhook_that_says_200_and_not_ok_is_disowned() {
    let rows: Vec<(Answer, Ends, &str)> = vec![
        ((200, "no_service").into(), Ends::Reject, "the secret `webhook`"),
        ((200, "<html>Sign in</html>").into(), Ends::Reject, "Sign in"),
        ((200, "").into(), Ends::Reject, "answered 200"),
        ((200, json!({ "ok": false })).into(), Ends::Reject, "answered 200"),
        ((200, "rate_limited").into(), Ends::Retry(None), "rate_limited"),
        (Answer::from((200, "rate_limited")).header("retry-after", "7"), Ends::Retry(Some(7)), ""),
    ];
    for (answer, expected, words) in rows {
        assert!(check(&with_webhook(), answer, expected, words));
    }
}

#[test]
fn a_channel_goes_to_chat_post_message() {
    let host = with_token();
    host.setting("base_url", "http://127.0.0.1:8081/api/").grant("http://127.0.0.1:8081");
    check(&host, (200, json!({ "ok": true, "ts": "17.1" })).into(), Ends::Done, "posted to C123 as 17.1");
    let call = &host.calls()[0];
    assert_eq!(call.url(), "http://127.0.0.1:8081/api/chat.postMessage");
    assert_eq!(call.credentials, [http::Credential::Bearer("token".to_owned())]);
    assert_eq!(call.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(call.json()["channel"], "C123");
    assert_eq!(call.json()["blocks"][0]["text"]["text"], call.json()["text"]);

    let host = with_token();
    check(&host, (200, json!({ "ok": true })).into(), Ends::Done, "posted");
    assert_eq!(host.calls()[0].url(), "https://slack.com/api/chat.postMessage");
}

#[test]
fn answers_of_chat_post_message() {
    let no = |code: &str| Answer::from((200, json!({ "ok": false, "error": code })));
    let rows: Vec<(Answer, Ends, &str)> = vec![
        (no("ratelimited").header("retry-after", "11"), Ends::Retry(Some(11)), "ratelimited"),
        (no("rate_limited"), Ends::Retry(None), "rate_limited"),
        (no("message_limit_exceeded"), Ends::Retry(None), ""),
        (no("internal_error"), Ends::Retry(None), "internal_error"),
        (no("fatal_error"), Ends::Retry(None), "fatal_error"),
        (no("service_unavailable"), Ends::Retry(None), "service_unavailable"),
        (no("request_timeout"), Ends::Retry(None), ""),
        (no("team_added_to_org"), Ends::Retry(None), ""),
        (no("external_channel_migrating"), Ends::Retry(None), ""),
        (no("invalid_auth"), Ends::Reject, "the secret `token`"),
        (no("token_revoked"), Ends::Reject, "the secret `token`"),
        (no("missing_scope"), Ends::Reject, "chat:write"),
        (no("channel_not_found"), Ends::Reject, "check `channel`"),
        (no("not_in_channel"), Ends::Reject, "/invite"),
        (no("is_archived"), Ends::Reject, "unarchive it"),
        (no("restricted_action"), Ends::Reject, "administrator"),
        (no("invalid_blocks"), Ends::Reject, "check `template`"),
        (no("msg_too_long"), Ends::Reject, "check `template`"),
        (no("something_new"), Ends::Reject, "Slack answered `something_new`"),
        ((200, json!({ "ok": false })).into(), Ends::Reject, "Slack answered"),
        ((200, "<html>").into(), Ends::Retry(None), "not the JSON expected"),
        ((200, json!({})).into(), Ends::Retry(None), "not the JSON expected"),
    ];
    for (answer, expected, words) in rows {
        assert!(check(&with_token(), answer, expected, words), "a 2xx that says no is disowned");
    }
    let rows: Vec<(Answer, Ends, &str)> = vec![
        (Answer::new(429).header("retry-after", "3"), Ends::Retry(Some(3)), "answered 429"),
        ((500, "").into(), Ends::Retry(None), "answered 500"),
        ((404, "").into(), Ends::Reject, "answered 404"),
        (Fault::Timeout.into(), Ends::Retry(None), "may have been acted on"),
        (Fault::Denied("no".into()).into(), Ends::Reject, "denied"),
    ];
    for (answer, expected, words) in rows {
        assert!(!check(&with_token(), answer, expected, words));
    }
}

#[test]
fn a_message_that_was_posted_is_not_posted_again() {
    let host = with_webhook();
    check(&host, (200, "ok").into(), Ends::Done, "posted");
    assert_eq!(host.deliver(reply()), done("posted"), "the second attempt needs no answer");
    assert!(host.calls()[1].recorded);
}

#[test]
fn the_template_of_the_event_type_comes_first() {
    let host = with_webhook();
    host.setting("templates", json!({ "message.received": "new: {/data/reply}", "x": "{" }));
    check(&host, (200, "ok").into(), Ends::Done, "posted");
    assert_eq!(host.calls()[0].json()["text"], "new: Yes &amp; &lt;now&gt;");

    host.answer((200, "ok"));
    host.deliver(Event { event_type: "y".into(), delivery_id: "1.y".into(), ..reply() }).unwrap();
    assert_eq!(host.calls()[1].json()["text"], "*https://linkedin.com/in/x* replied: Yes &amp; &lt;now&gt;");
}

#[test]
fn the_shipped_template_suits_every_event_of_a_lead() {
    let rows = [
        (json!({ "replyPreview": "hi" }), "*message.received* u\nhi"),
        (json!({ "messagePreview": "hello" }), "*message.received* u\nhello"),
        (json!({ "acceptedAt": "now" }), "*message.received* u"),
    ];
    for (mut data, expected) in rows {
        let host = Host::of(&PLUGIN);
        host.secret("webhook").answer((200, "ok"));
        data["linkedinUrl"] = json!("u");
        host.deliver(event("message.received", json!({ "data": data }))).unwrap();
        assert_eq!(host.calls()[0].json()["text"], expected);
    }
}

#[test]
fn what_the_operator_wrote_wrongly_is_named() {
    let rows = [
        (
            "template",
            json!("{/data"),
            "setting `template` is not valid: the `{` at character 1 is never closed",
        ),
        ("template", json!(""), "setting `template` is missing"),
        (
            "templates",
            json!({ "message.received": "{x}" }),
            "setting `templates` is not valid: `message.received`",
        ),
        ("templates", json!(["a"]), "setting `templates` is not valid"),
    ];
    for (key, value, expected) in rows {
        let host = with_webhook();
        host.setting(key, value);
        let failure = host.deliver(reply()).unwrap_err();
        assert!(!failure.is_retry());
        assert!(failure.reason().starts_with(expected), "{}", failure.reason());
        assert!(host.calls().is_empty());
    }
}

#[test]
fn a_handler_without_its_secret_is_told_which() {
    let host = Host::of(&PLUGIN);
    let failure = host.deliver(reply()).unwrap_err();
    assert!(!failure.is_retry() && failure.reason().contains("no secret `webhook`"), "{}", failure.reason());
    host.setting("channel", "C1");
    let failure = host.deliver(reply()).unwrap_err();
    assert!(!failure.is_retry() && failure.reason().contains("no secret `token`"), "{}", failure.reason());
}

#[test]
fn events_that_give_no_message() {
    let host = with_webhook();
    host.setting("template", "{/data/nothing|}");
    assert_eq!(host.deliver(reply()), skip("the template gives no text for this event"));

    let broken = Event { body: b"not json".to_vec(), ..reply() };
    assert!(!host.deliver(broken).unwrap_err().is_retry());
    assert!(host.calls().is_empty());
}

#[test]
fn retry_after_may_be_a_date() {
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let answer = Answer::new(429).header("date", date).header("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT");
    let host = with_webhook();
    host.answer(answer);
    let failure = host.deliver(reply()).unwrap_err();
    assert!(matches!(failure, Failure::Retry { after: Some(wait), .. } if wait == Duration::from_secs(30)));
}
