//! Torture: certificates of the plugins that ship, and every kind of wrong that a certificate is to find.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Home, plugin};

fn folder(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("plugins").join(name).join("torture").display().to_string()
}

/// The report, and whether the command ended well.
fn torture(home: &Home, component: &str, more: &[&str]) -> (Value, bool) {
    let component = plugin(component);
    let words = [&["plugin", "torture", component.to_str().unwrap(), "--json"], more].concat();
    let output = home.cli(&words);
    let text = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (report, output.status.success())
}

const URL: &str = "https://svc.example.com";

/// A fixture of the handler that does what its settings say, in a world that does what it is asked.
fn fixture(settings: Value) -> Value {
    let get = json!({ "method": "GET", "url": format!("{URL}/*") });
    let post = json!({ "method": "POST", "url": format!("{URL}/*"), "answers": [{ "status": 201, "json": { "id": "1" } }] });
    json!({ "event": { "type": "a.b" }, "settings": settings, "grants": [URL], "world": [get, post] })
}

fn script(lines: &[&str]) -> Value {
    fixture(json!({ "do": "script", "script": lines.join("\n").replace("URL", URL) }))
}

fn wrong(behaviour: &str) -> Value {
    fixture(json!({ "do": behaviour, "url": format!("{URL}/a") }))
}

/// The certificate of one fixture, and whether it is one of safety.
fn certify(home: &Home, fixture: &Value) -> (Value, bool) {
    std::fs::write(home.path().join("f.json"), fixture.to_string()).unwrap();
    let (report, is_well) = torture(home, "test_handlers", &["--fixture", "f.json"]);
    assert_eq!(report["is_safe"], is_well);
    (report["certificates"][0].clone(), is_well)
}

fn refused(home: &Home, fixture: &Value) -> String {
    std::fs::write(home.path().join("f.json"), fixture.to_string()).unwrap();
    let component = plugin("test_handlers");
    let output = home.cli(&["plugin", "torture", component.to_str().unwrap(), "--fixture", "f.json"]);
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `kind: advice` of all its findings.
fn findings(certificate: &Value) -> String {
    let findings = certificate["findings"].as_array().unwrap();
    let line = |f: &Value| format!("{}: {} {}; {}\n", f["finding"], f["call"], f["says"], f["change"]);
    findings.iter().map(line).collect()
}

fn points(certificate: &Value, kind: &str) -> (u64, u64) {
    let kinds = certificate["kinds"].as_array().unwrap();
    let found = kinds.iter().find(|k| k["kind"] == kind).unwrap_or_else(|| panic!("no {kind}: {kinds:?}"));
    (found["passed"].as_u64().unwrap(), found["points"].as_u64().unwrap())
}

#[test]
fn the_plugins_that_ship_are_crash_safe_at_every_point() {
    let home = Home::with_source_only();
    for (component, name, effects) in [("crm_sync", "crm-sync", 3), ("slack_notify", "slack-notify", 2)] {
        let junit = home.path().join("junit.xml");
        let more = ["--fixture", &folder(name), "--junit", junit.to_str().unwrap()];
        let (report, is_well) = torture(&home, component, &more);
        let certificates = report["certificates"].as_array().unwrap();
        let told: String = certificates.iter().map(findings).collect();
        assert!(is_well, "{name}: {told}");
        assert_eq!(certificates.len(), 2, "{name}");
        let done: usize = certificates.iter().map(|c| c["effects"].as_array().unwrap().len()).sum();
        assert_eq!(done, effects, "{name}");
        let mut cases = 0;
        for certificate in certificates {
            let (passed, all) =
                (certificate["passed"].as_u64().unwrap(), certificate["points"].as_u64().unwrap());
            assert_eq!(passed, all);
            cases += all;
            for kind in ["killed before a call leaves", "killed before an answer is written", "timeout, done"]
            {
                let count = 3 * certificate["effects"].as_array().unwrap().len() as u64;
                assert_eq!(points(certificate, kind), (count, count), "{name}: {kind}");
            }
        }
        let xml = std::fs::read_to_string(junit).unwrap();
        assert_eq!(xml.matches("<testcase ").count() as u64, cases);
        assert!(!xml.contains("<failure"));
    }
}

#[test]
fn a_certificate_names_what_an_unknown_call_may_do_twice_and_no_handler_can_mend() {
    let home = Home::with_source_only();
    let (report, is_well) =
        torture(&home, "crm_sync", &["--fixture", &format!("{}/reply.yaml", folder("crm-sync"))]);
    assert!(is_well);
    let named = report["certificates"][0]["may_repeat"].as_array().unwrap();
    assert_eq!(named.len(), 1, "an upsert repeats nothing: {named:?}");
    assert_eq!(named[0]["call"], "POST https://api.hubapi.com/crm/v3/objects/notes");
    // Killed before its answer is written, and timed out; each resumed in three ways.
    assert_eq!(named[0]["points"], 6);

    let mut fixture = script(&["POST URL/a k hello"]);
    fixture["world"][1]["idempotent"] = true.into();
    let (certificate, is_safe) = certify(&home, &fixture);
    assert!(is_safe, "{}", findings(&certificate));
    assert_eq!(certificate["may_repeat"], json!([]), "the service knows the key");
}

#[test]
fn what_changes_with_the_attempt_needs_a_key() {
    let home = Home::with_source_only();
    let (certificate, is_safe) = certify(&home, &script(&["POST URL/a - try {attempt}", "GET URL/b -"]));
    let told = findings(&certificate);
    assert!(!is_safe);
    for words in [
        "\"repeats\": \"POST https://svc.example.com/a\"",
        "it was done 2 times, by attempts 1 and 2",
        "\"parks\"",
        "\"differs\"",
        "its content follows the attempt's number: give the call a `key`",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(points(&certificate, "killed before an answer is written").0 < 6);

    let (certificate, is_safe) = certify(&home, &script(&["POST URL/a k try {attempt}", "GET URL/b -"]));
    assert!(is_safe, "{}", findings(&certificate));
}

#[test]
fn each_thing_that_a_call_may_follow_has_its_name() {
    let home = Home::with_source_only();
    let rows = [
        ("POST URL/a k{attempt} x", "its `key` follows the attempt's number"),
        ("POST URL/a - {now}", "its content follows the clock"),
        ("POST URL/a k{random} x\nGET URL/b -", ""),
    ];
    for (line, words) in rows {
        let (certificate, is_safe) = certify(&home, &script(&[line]));
        let told = findings(&certificate);
        assert_eq!(is_safe, words.is_empty(), "{line}: {told}");
        assert!(told.contains(words), "{line}: {told}");
    }
}

#[test]
fn a_second_try_within_an_attempt_is_found() {
    let home = Home::with_source_only();
    let (certificate, is_safe) = certify(&home, &wrong("insist"));
    let told = findings(&certificate);
    assert!(!is_safe);
    assert!(told.contains("it was done 2 times in one attempt"), "{told}");
    assert!(told.contains("leave the second try to the daemon"), "{told}");
    assert_eq!(points(&certificate, "timeout, done").0, 0);
    assert_eq!(points(&certificate, "timeout, not done"), (3, 3));
}

#[test]
fn a_handler_that_asks_for_ever_is_found() {
    let home = Home::with_source_only();
    let mut fixture = script(&["POST URL/a k x"]);
    // It is there already, by the first sending of the same call, and the handler does not see that.
    fixture["world"][1]["answers"] = json!([{ "status": 201 }, { "status": 409 }]);
    let (certificate, is_safe) = certify(&home, &fixture);
    let told = findings(&certificate);
    assert!(!is_safe && told.starts_with("\"never-ends\""), "{told}");
    assert!(told.contains("the last attempt said: status 409"), "{told}");
    assert_eq!(points(&certificate, "killed before an answer is written"), (0, 3));
    assert_eq!(points(&certificate, "killed before a call leaves"), (3, 3));
}

#[test]
fn a_no_that_is_taken_for_a_yes_is_a_lost_effect() {
    let home = Home::with_source_only();
    let (certificate, is_safe) = certify(&home, &wrong("post"));
    let told = findings(&certificate);
    assert!(!is_safe);
    assert!(told.starts_with("\"lost\"") && told.contains("disown the answer"), "{told}");
    assert_eq!(certificate["findings"].as_array().unwrap().len(), 1, "and nothing else: {told}");
    assert_eq!(points(&certificate, "200 with ok: false"), (0, 3));

    let mut honest = wrong("post");
    honest["world"][1]["honest_status"] = true.into();
    let (certificate, is_safe) = certify(&home, &honest);
    assert!(is_safe, "a service whose status tells the truth: {}", findings(&certificate));
    assert!(!certificate["kinds"].to_string().contains("ok: false"));

    let (certificate, is_safe) = certify(&home, &script(&["POST? URL/a - x"]));
    let told = findings(&certificate);
    assert!(!is_safe && told.contains("look at the status"), "{told}");
    // That it goes on behind a 402 is its own affair.
    assert_eq!(certificate["went_without"], json!([{ "call": format!("POST {URL}/a"), "points": 3 }]));
}

#[test]
fn a_shelf_that_another_delivery_changes_is_among_the_points() {
    let home = Home::with_source_only();
    let (certificate, is_safe) = certify(&home, &script(&["COUNT", "POST URL/a - number {count}"]));
    let told = findings(&certificate);
    assert!(!is_safe);
    assert!(told.contains("its content follows the shelf: give the call a `key`"), "{told}");
    let at = certificate["findings"][0]["at"].to_string();
    assert!(at.contains("with the shelf changed by another delivery"), "{at}");

    let (certificate, is_safe) = certify(&home, &script(&["COUNT", "POST URL/a k number {count}"]));
    assert!(is_safe, "{}", findings(&certificate));
    assert_eq!(points(&certificate, "killed before the outcome is written"), (4, 4), "the shelf is varied");
}

#[test]
fn the_operator_settles_what_waits_for_him() {
    let home = Home::with_source_only();
    let mut fixture = script(&["POST URL/a - x"]);
    fixture["effects"] = json!({ "on_unknown": "park" });
    let (certificate, is_safe) = certify(&home, &fixture);
    assert!(is_safe, "{}", findings(&certificate));
    // Killed before it left, before its answer was written, and two timeouts; each resumed in three ways.
    assert_eq!(certificate["by_operator"], 12);
    assert_eq!(certificate["may_repeat"], json!([]));
}

#[test]
fn a_world_finds_what_was_made_before() {
    let home = Home::with_source_only();
    let mut fixture = script(&["GET URL/search -", "POST URL/a k x", "GET URL/search -"]);
    let made = json!({ "method": "GET", "url": format!("{URL}/search"), "after": format!("POST {URL}/a"),
                       "answers": [{ "text": "found" }] });
    fixture["world"].as_array_mut().unwrap().insert(0, made);
    let (certificate, is_safe) = certify(&home, &fixture);
    assert!(is_safe, "{}", findings(&certificate));
    // The order of `world` decides: without the search before it, nothing answers.
    fixture["world"] = json!([fixture["world"][0], fixture["world"][2]]);
    let told = refused(&home, &fixture);
    assert!(
        told.contains("no rule of the world answers GET https://svc.example.com/search; type `- {"),
        "{told}"
    );
}

#[test]
fn what_cannot_be_certified_says_why() {
    let home = Home::with_source_only();
    let mut parked = script(&["POST URL/a - try {attempt}", "POST URL/b k x"]);
    parked["world"] = json!([
        { "method": "POST", "url": format!("{URL}/a") },
        { "method": "POST", "url": format!("{URL}/b"), "answers": [{ "status": 503 }, {}] },
    ]);
    let mut unfit = script(&[]);
    unfit["secrets"] = json!({ "token": { "value": "x", "to": ["https://elsewhere.example.com"] } });
    let rows = [
        (wrong("retry"), "does not end well: not today"),
        (parked, "another call in each attempt; give it a `key`"),
        (unfit, "elsewhere.example.com"),
        (wrong("big-log"), "more than is simulated"),
        (json!({ "event": { "type": "a" }, "wrold": [] }), "wrold"),
    ];
    for (fixture, words) in rows {
        let told = refused(&home, &fixture);
        assert!(told.contains(words) && told.contains("f.json"), "{words}: {told}");
    }
    let component = plugin("test_handlers");
    let many = home.path().join("many");
    std::fs::create_dir(&many).unwrap();
    let tortured = || home.cli(&["plugin", "torture", component.to_str().unwrap(), "--fixture", "many"]);
    assert!(String::from_utf8_lossy(&tortured().stderr).contains("holds no fixture"));
    for n in 0..101 {
        std::fs::write(many.join(format!("{n}.yaml")), "").unwrap();
    }
    assert!(String::from_utf8_lossy(&tortured().stderr).contains("at most 100 at once"));
}

#[test]
fn a_certificate_reads_well_and_a_failure_is_one_for_ci() {
    let home = Home::with_source_only();
    let component = plugin("test_handlers");
    std::fs::write(home.path().join("f.json"), wrong("post").to_string()).unwrap();
    let words = ["plugin", "torture", component.to_str().unwrap(), "--fixture", "f.json", "--junit", "j.xml"];
    let output = home.cli(&words);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    for words in [
        "not crash-safe: ",
        "LOST EFFECT POST https://svc.example.com/a",
        "  change: read the content",
        "  at: http.send ",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let xml = std::fs::read_to_string(home.path().join("j.xml")).unwrap();
    assert_eq!(
        xml.matches("<failure message=\"POST https://svc.example.com/a: its answer was a 200").count(),
        3
    );
    assert!(xml.contains("failures=\"3\""), "{xml}");
}
