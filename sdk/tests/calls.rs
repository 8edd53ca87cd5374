//! What leaves the plugin: the request as it was built, and what the fake host makes of it.

use std::time::Duration;

use longshore_sdk::http::{Credential, Fault, Request};
use longshore_sdk::log::Level;
use longshore_sdk::prelude::*;
use longshore_sdk::testing::{Answer, Call, Host, event};

fn send(request: Request) -> Call {
    let host = Host::new();
    host.grant("https://x").secret("s").answer(200);
    request.send().unwrap();
    host.calls().remove(0)
}

#[test]
fn urls_and_queries() {
    let rows = [
        (http::get("https://x/a").query("q", "1 & 2"), "https://x/a?q=1+%26+2"),
        (http::get("https://x/a?b=1").query("q", "ü"), "https://x/a?b=1&q=%C3%BC"),
        (http::get("https://x/a?").query("q", "1").query("r", "2"), "https://x/a?q=1&r=2"),
        (http::get("https://x/a#top").query("q", "1"), "https://x/a?q=1#top"),
        (http::get(String::from("https://x")), "https://x"),
    ];
    for (request, expected) in rows {
        assert_eq!(send(request).url(), expected);
    }
}

#[test]
fn bodies_and_headers() {
    let call =
        send(http::put("https://x/a").json(&json!({ "a": 1 })).header("X-Trace", "1").header("X-Trace", "2"));
    assert_eq!((call.method.as_str(), call.text().as_str()), ("PUT", r#"{"a":1}"#));
    let headers = [("content-type", "application/json"), ("x-trace", "1"), ("x-trace", "2")];
    assert_eq!(call.headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));

    let call = send(http::post("https://x/a").form([("a b", "ü&="), ("c", "*-._~")]));
    assert_eq!(call.text(), "a+b=%C3%BC%26%3D&c=*-._%7E");
    assert_eq!(call.header("Content-Type"), Some("application/x-www-form-urlencoded"));

    let call =
        send(http::post("https://x/a").json(&1).header("Content-Type", "application/json; charset=utf-8"));
    assert_eq!(call.headers.len(), 1, "a content type is replaced, not added");

    let call =
        send(http::patch("https://x/a").body("text/plain", "hi").timeout(Duration::from_secs(3)).key("k"));
    assert_eq!((call.timeout, call.key.as_deref()), (Some(Duration::from_secs(3)), Some("k")));

    assert_eq!(send(http::delete("https://x/a")).body, None);
    assert_eq!(send(http::head("https://x/a")).method, "HEAD");
    assert_eq!(send(http::request("OPTIONS", "https://x/a")).method, "OPTIONS");
}

#[test]
fn credentials_are_names() {
    let s = || "s".to_owned();
    let rows = [
        (http::get("https://x").bearer("s"), Credential::Bearer(s())),
        (http::get("https://x").basic("user", "s"), Credential::Basic("user".into(), s())),
        (http::get("https://x").secret_header("X-Api-Key", "s"), Credential::Header("x-api-key".into(), s())),
        (http::get("https://x").secret_query("key", "s"), Credential::Query("key".into(), s())),
        (http::get("https://x").secret_form("token", "s"), Credential::Form("token".into(), s())),
    ];
    for (request, expected) in rows {
        assert_eq!(send(request).credentials, [expected]);
    }
    assert_eq!(send(http::post(Target::secret_url("s"))).target, Target::SecretUrl("s".into()));
}

#[test]
fn requests_that_cannot_be_built_are_not_sent() {
    let host = Host::new();
    host.secret("s");
    let unkeyed: std::collections::HashMap<(u8, u8), u8> = [((1, 2), 3)].into();
    let rows = [
        (http::post("https://x").json(&unkeyed), "the body cannot be written as JSON"),
        (http::post(Target::secret_url("s")).query("a", "b"), "a secret URL takes no query parameter"),
    ];
    for (request, expected) in rows {
        let fault = request.send().unwrap_err().fault;
        assert!(matches!(&fault, Fault::InvalidRequest(why) if why.contains(expected)), "{fault:?}");
    }
    assert!(host.calls().is_empty());
}

#[test]
fn what_was_not_granted_is_denied() {
    let host = Host::new();
    host.grant("https://api.example.com").secret("given");
    let rows = [
        (
            http::get("https://api.example.com.evil.com/a"),
            "origin https://api.example.com.evil.com is not granted",
        ),
        (http::get("http://api.example.com/a"), "origin http://api.example.com is not granted"),
        (http::get("https://api.example.com:444/a"), "origin https://api.example.com:444 is not granted"),
        (http::get("https://api.example.com/a").bearer("other"), "this handler has no secret `other`"),
        (http::post(Target::secret_url("other")), "this handler has no secret `other`"),
    ];
    for (request, expected) in rows {
        assert_eq!(request.send().unwrap_err().fault, Fault::Denied(expected.to_owned()));
    }
    assert!(matches!(http::get("nonsense").send().unwrap_err().fault, Fault::InvalidRequest(_)));
}

#[test]
fn answers_are_read_in_every_form() {
    let host = Host::new();
    host.grant("https://x").answer(Answer::new(200).header("X-A", "1").body(vec![0xff, b'a']));
    let answer = http::get("https://x").send().unwrap();
    assert_eq!(answer.header("x-a"), Some("1"));
    assert_eq!((answer.text().as_ref(), answer.bytes().len(), answer.headers().len()), ("\u{fffd}a", 2, 1));
    assert!(!answer.recorded() && answer.is_success());

    host.answer((400, "x".repeat(1000).as_str()));
    let failure = Failure::from(http::get("https://x?token=1").send().unwrap().ok().unwrap_err());
    assert!(failure.reason().len() < 400 && failure.reason().ends_with("x…"), "{failure}");
    assert!(!failure.reason().contains("token"), "a query string is nobody's business: {failure}");
}

#[test]
fn what_happened_is_answered_from_the_record() {
    let post = |key: Option<&'static str>| {
        move |event: Event| {
            let request = http::post("https://x").json(&event.value()?);
            let first =
                if let Some(key) = key { request.clone().key(key) } else { request.clone() }.send()?.ok()?;
            let second = request.key("second").send()?.ok()?;
            done(format!("{}{}", u8::from(first.recorded()), u8::from(second.recorded())))
        }
    };
    for key in [None, Some("first")] {
        let host = Host::new();
        host.grant("https://x").answer(201).answer(503);
        assert!(host.call(post(key), event("a", json!({}))).unwrap_err().is_retry());
        host.answer(200);
        assert_eq!(host.call(post(key), event("a", json!({}))), done("10"));
        assert_eq!(host.call(post(key), event("a", json!({}))), done("11"));

        host.answer(200).answer(200);
        let mut other = event("a", json!({}));
        other.delivery_id = "1.test".into();
        assert_eq!(host.call(post(key), other), done("00"), "another delivery has another record");
    }
}

#[test]
fn safe_and_disowned_calls_are_sent_again() {
    let host = Host::new();
    host.grant("https://x").answer_with(|_| 200.into());
    let calls = |_| {
        http::get("https://x").send()?;
        http::post("https://x").key("no").send()?.disown();
        done("")
    };
    for _ in 0..2 {
        host.call(calls, event("a", json!({}))).unwrap();
    }
    assert!(host.calls().iter().all(|call| !call.recorded));
    assert_eq!(host.calls().iter().filter(|call| call.disowned).count(), 2);
}

#[test]
fn a_failed_attempt_leaves_no_trace_in_state() {
    let host = Host::new();
    host.set_state("kept", "before");
    let fail = |_| {
        state::set("kept", "after")?;
        state::add("count", 2)?;
        assert_eq!(
            state::get::<String>("kept")?.as_deref(),
            Some("after"),
            "reads see the attempt's own writes"
        );
        retry("no")
    };
    assert!(host.call(fail, event("a", json!({}))).is_err());
    assert_eq!((host.state("kept"), host.state("count")), (Some(json!("before")), None));

    let pass = |_| {
        state::delete("kept")?;
        state::add_for("count", 2, Duration::from_secs(9))?;
        state::set_bytes("raw", vec![0xff], None)?;
        done("")
    };
    host.call(pass, event("a", json!({}))).unwrap();
    assert_eq!((host.state("kept"), host.state("count")), (None, Some(json!(2))));
    assert_eq!(host.state_bytes("count").unwrap().1, Some(Duration::from_secs(9)));
    assert_eq!(host.state_bytes("raw").unwrap().0, [0xff]);
}

#[test]
fn keys_are_listed_in_pages() {
    let host = Host::new();
    for n in 0..1100 {
        host.set_state(&format!("k/{n:04}"), &n);
    }
    host.set_state("l/1", &1);
    assert_eq!(state::keys("k/").unwrap().len(), 1100);
    assert_eq!(state::list("k/", Some("k/0003"), 2).unwrap(), ["k/0004", "k/0005"]);
    assert_eq!(state::keys("m").unwrap(), Vec::<String>::new());
}

#[test]
fn lines_have_levels_and_fields() {
    let host = Host::new();
    let id = "lead_1";
    log::trace!("t");
    log::debug!(id, "d");
    log::info!(id, n = 1 + 1, "i {}", id.len());
    log::warn!("w",);
    log::error!(why = format!("{:?}", "x"), "e");
    let lines: Vec<_> = host.logs().into_iter().map(|l| (l.level, l.message, l.fields.len())).collect();
    let expected = [
        (Level::Trace, "t", 0),
        (Level::Debug, "d", 1),
        (Level::Info, "i 6", 2),
        (Level::Warn, "w", 0),
        (Level::Error, "e", 1),
    ];
    assert_eq!(lines, expected.map(|(level, message, fields)| (level, message.to_owned(), fields)));
}

#[test]
fn each_test_has_a_host_of_its_own() {
    let host = Host::new();
    host.setting("a", 1);
    std::thread::spawn(|| {
        let host = Host::new();
        assert_eq!(settings::get("a"), None);
        drop(host);
    })
    .join()
    .unwrap();
    assert_eq!(settings::get("a").as_deref(), Some("1"));

    let newer = Host::new();
    drop(host);
    newer.setting("a", 2);
    assert_eq!(settings::get("a").as_deref(), Some("2"), "dropping an older host leaves the newer one");
}

#[test]
#[should_panic(expected = "no answer for POST https://x: queue one")]
fn a_call_without_an_answer_is_a_mistake_of_the_test() {
    let host = Host::new();
    host.grant("https://x");
    let _ = http::post("https://x").send();
}

#[test]
#[should_panic(expected = "no host on this thread")]
fn a_test_without_a_host_is_told_so() {
    let _ = settings::get("a");
}

mod declared {
    use super::*;

    longshore_sdk::plugin! {
        settings: [text("known").default("x"), number("n").default("1"), json("j").default("[1]"), secret("token")],
        handle: |_| done(format!("{:?}", settings::all::<Value>()?)),
    }

    #[test]
    fn declared_defaults_apply() {
        let host = Host::of(&PLUGIN);
        assert_eq!(settings::all::<Value>().unwrap(), json!({ "known": "x", "n": 1, "j": [1] }));
        host.setting("known", "y");
        assert_eq!(settings::get("known").as_deref(), Some("y"));
    }

    #[test]
    #[should_panic(expected = "the plugin declares no setting `unknown`")]
    fn an_undeclared_setting_is_a_mistake_of_the_test() {
        Host::of(&PLUGIN).setting("unknown", 1);
    }

    #[test]
    #[should_panic(expected = "the plugin declares no setting `token`")]
    fn a_secret_is_no_setting() {
        Host::of(&PLUGIN).setting("token", "x");
    }
}
