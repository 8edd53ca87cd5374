//! Signatures: `verify --source` on captured requests, the page of its true outputs, and samples that prove schemes.

use std::path::{Path, PathBuf};
use std::process::Output;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;

use crate::support::{Event, Home, SECRET, now_s, sign};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

// === the page ===

/// Name, arguments, and how it ends.
const CASES: [(&str, &[&str], i32); 3] = [
    ("newline", &["--source", "stripe", "--request", "newline.http", "--now", "1790000060"], 1),
    ("secret", &["--source", "partner", "--request", "secret.har", "--now", "1790000060"], 1),
    ("old", &["--source", "sendpilot", "--request", "old.txt", "--now", "1790011520"], 1),
];

/// The folder of the cases, with the secrets that they were signed with.
fn home_of_cases() -> Home {
    let mut home = Home::with_source_only();
    for entry in std::fs::read_dir(root().join("tests/signatures")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, home.path().join(path.file_name().unwrap())).unwrap();
    }
    for (name, secret) in SECRETS {
        home.set_env(name, secret);
    }
    home
}

const SECRETS: [(&str, &str); 3] = [
    ("STRIPE_SECRET", "whsec_4f8a1c90d2b7e6a35f0c2a91"),
    ("PARTNER_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ("SENDPILOT_SECRET", "whsec_c7d1e0b94a6f2835"),
];

/// What stands on the page is what is printed. After a change that is meant: run with UPDATE_SNAPSHOTS=1.
#[test]
fn the_page_has_the_true_output_of_three_cases() {
    let home = home_of_cases();
    let page = root().join("docs/signatures.md");
    let mut written = std::fs::read_to_string(&page).unwrap();
    for (name, arguments, code) in CASES {
        let output = home.cli(&[&["verify"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{name}: {}", text(&output.stderr));
        let said = text(&output.stdout);
        for (_, secret) in SECRETS {
            assert!(!said.contains(secret), "{name} tells a secret: {said}");
        }
        let block = format!("<!-- {name} -->\n```\n$ longshore verify {}\n{said}```\n", arguments.join(" "));
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            let start = written.find(&format!("<!-- {name} -->")).unwrap();
            let rest = &written[start..];
            let end = rest.find("\n\n").map_or(rest.len(), |at| at + 1);
            written.replace_range(start..start + end, &block);
            std::fs::write(&page, &written).unwrap();
        }
        assert!(written.contains(&block), "docs/signatures.md has not: {block}");
    }
}

// === verify --source ===

fn verify(home: &Home, arguments: &[&str]) -> Output {
    home.cli(&[&["verify", "--source", "sendpilot"], arguments].concat())
}

/// A raw request to the source of `Home::with_source_only`, signed `ago_s` before now.
fn captured(home: &Home, ago_s: u64) -> String {
    let body = Event::new("evt_1", "message.received").body;
    let signature = sign(SECRET, now_s() - ago_s, body.as_bytes());
    let request = format!(
        "POST /webhooks/sendpilot HTTP/1.1\r\nhost: h\r\nwebhook-signature: {signature}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    std::fs::write(home.path().join("request.http"), &request).unwrap();
    request
}

#[test]
fn it_ends_as_the_request_is() {
    let home = Home::with_source_only();
    captured(&home, 0);
    let good = verify(&home, &["--request", "request.http"]);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stdout));
    assert!(text(&good.stdout).contains("verdict\n    genuine\n"), "{}", text(&good.stdout));
    // Old, and nobody asked about a time.
    let request = captured(&home, 7200);
    let old = verify(&home, &["--request", "request.http"]);
    assert_eq!(old.status.code(), Some(0), "{}", text(&old.stdout));
    assert!(text(&old.stdout).contains("2h 0m back, and 300s are allowed"), "{}", text(&old.stdout));
    assert_eq!(verify(&home, &["--request", "request.http", "--now", "0s"]).status.code(), Some(1));
    assert_eq!(verify(&home, &["--request", "request.http", "--now", "2h"]).status.code(), Some(0));
    std::fs::write(home.path().join("request.http"), request.replace("message.received", "message.deceived"))
        .unwrap();
    assert_eq!(verify(&home, &["--request", "request.http"]).status.code(), Some(1));
    for wrong in [
        &["verify"][..],
        &["verify", "--source", "sendpilot"],
        &["verify", "--request", "request.http"],
        &["verify", "--source", "sendpilot", "--request", "request.http", "--vectors", "x"],
        &["verify", "--source", "sendpilot", "--request", "request.http", "--now", "yesterday"],
        &["verify", "--source", "sendpilot", "--request", "request.http", "--secret-from", "hunter2"],
    ] {
        let output = home.cli(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("hunter2"), "{}", text(&output.stderr));
    }
    for (arguments, words) in [
        (&["--request", "absent.http"][..], "`absent.http` cannot be read"),
        (
            &["--request", "config.yaml"],
            "this is no capture of a request; expected is the output of `curl -v`",
        ),
    ] {
        let output = verify(&home, arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(words), "{}", text(&output.stderr));
    }
    let nobody = home.cli(&["verify", "--source", "nobody", "--request", "request.http"]);
    assert!(
        text(&nobody.stderr).contains("the configuration has no source `nobody`; it has sendpilot"),
        "{}",
        text(&nobody.stderr)
    );
}

#[test]
fn another_secret_can_be_named_and_a_body_be_given() {
    let mut home = Home::with_source_only();
    captured(&home, 0);
    home.set_env("SENDPILOT_SECRET", "another secret of the source");
    home.set_env("RIGHT", SECRET);
    assert_eq!(verify(&home, &["--request", "request.http"]).status.code(), Some(1));
    let named = verify(&home, &["--request", "request.http", "--secret-from", "env:RIGHT"]);
    assert_eq!(named.status.code(), Some(0), "{}", text(&named.stdout));
    std::fs::write(home.path().join("body"), "{}").unwrap();
    let other = verify(&home, &["--request", "request.http", "--secret-from", "env:RIGHT", "--body", "body"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stdout).contains("the body has 2"), "{}", text(&other.stdout));
    let unset = verify(&home, &["--request", "request.http", "--secret-from", "env:UNSET"]);
    assert!(text(&unset.stderr).contains("the variable `UNSET` is not set"), "{}", text(&unset.stderr));
}

#[test]
fn a_program_reads_it_as_json() {
    let home = Home::with_source_only();
    captured(&home, 0);
    let said = home.json(&["verify", "--source", "sendpilot", "--request", "request.http"]);
    assert_eq!((&said["verdict"], &said["in_time"]), (&Value::from("genuine"), &Value::from(true)), "{said}");
    assert_eq!(said["event_id"], "evt_1");
    assert_eq!(said["source"], "sendpilot");
    assert_eq!(said["capture"]["form"], "raw HTTP");
    let request = std::fs::read_to_string(home.path().join("request.http")).unwrap();
    std::fs::write(home.path().join("request.http"), request + "\n").unwrap();
    let body = Event::new("evt_1", "message.received").body;
    std::fs::write(home.path().join("body"), format!("{body}\n")).unwrap();
    let output = verify(&home, &["--request", "request.http", "--body", "body", "--json"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["verdict"], "refused", "{said}");
    assert_eq!(said["difference"]["changes"][0]["what"], "body", "{said}");
}

// === samples ===

const SPELLED: &str = r#"sources:
  acme:
    path: /webhooks/acme
    scheme:
      type: hmac
      algorithm: sha256
      signature: { from: "header:Acme-Signature", format: fields, separator: ",", assign: "=", key: v1, encoding: hex }
      timestamp: { from: "field:t", unit: s, tolerance: 300s }
      signed: "{timestamp}.{body}"
    event: { id: "json:id", type: "json:type" }
    secrets: [ "env:SENDPILOT_SECRET" ]
"#;

fn acme_request(body: &str) -> String {
    let stamp = now_s();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{stamp}.{body}").as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    format!(
        "POST /webhooks/acme HTTP/1.1\nAcme-Signature: t={stamp},v1={signature}\nx-other: left out\ncontent-length: {}\n\n{body}",
        body.len()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheme_that_is_spelled_out_starts_with_its_sample_and_not_without() {
    let home = Home::new(SPELLED);
    let refused = home.cli(&["run"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));
    assert!(
        text(&refused.stderr).contains("sources.acme.sample: a scheme that is spelled out carries a request"),
        "{}",
        text(&refused.stderr)
    );

    std::fs::write(home.path().join("request.http"), acme_request(r#"{"id":"evt_1","type":"a.b"}"#)).unwrap();
    let made = home.cli(&["verify", "--source", "acme", "--request", "request.http", "--as-sample"]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let sample = text(&made.stdout);
    assert!(!sample.contains(SECRET) && !sample.contains("x-other"), "{sample}");
    assert!(text(&made.stderr).contains("signed anew"), "{}", text(&made.stderr));

    home.configure("", &format!("{SPELLED}{sample}"));
    let check = home.cli(&["config", "check"]);
    assert_eq!(check.status.code(), Some(0), "{}{}", text(&check.stdout), text(&check.stderr));
    let daemon = home.start().await;
    let request = acme_request(r#"{"id":"evt_2","type":"a.b"}"#);
    let (head, body) = request.split_once("\n\n").unwrap();
    let signature = head.lines().find_map(|line| line.strip_prefix("Acme-Signature: ")).unwrap();
    let answer = daemon
        .client()
        .post("/webhooks/acme", &[("acme-signature", signature)], body.to_owned())
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    drop(daemon);

    let hollow = sample.replace("\"type\\\":\\\"a.b", "\"type\\\":\\\"c.d");
    assert_ne!(hollow, sample);
    home.configure("", &format!("{SPELLED}{hollow}"));
    let refused = home.cli(&["run"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("sources.acme.sample: the sample does not verify"),
        "{}",
        text(&refused.stderr)
    );
}

#[test]
fn a_secret_that_is_used_nowhere_else_leaves_the_sample_as_it_was_sent() {
    let mut home = Home::new(SPELLED);
    let request = acme_request("{\"id\":\"\u{7}\"}");
    std::fs::write(home.path().join("request.http"), &request).unwrap();
    home.set_env("THROWAWAY", SECRET);
    home.set_env("SENDPILOT_SECRET", "another secret of the source");
    let made = home.cli(&[
        "verify",
        "--source",
        "acme",
        "--request",
        "request.http",
        "--as-sample",
        "--secret-from",
        "env:THROWAWAY",
    ]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let sample = text(&made.stdout);
    let signature = request.lines().find_map(|line| line.strip_prefix("Acme-Signature: ")).unwrap();
    assert!(
        sample.contains(SECRET) && sample.contains(signature) && sample.contains("body_base64"),
        "{sample}"
    );
    home.configure("", &format!("{SPELLED}{sample}"));
    assert_eq!(home.cli(&["config", "check"]).status.code(), Some(0));
    // The same as a file of its own.
    let lines: String =
        sample.lines().skip(1).map(|line| format!("{}\n", line.strip_prefix("      ").unwrap())).collect();
    std::fs::write(home.path().join("acme.sample.yaml"), lines).unwrap();
    home.configure("", &format!("{SPELLED}    sample: \"file:acme.sample.yaml\"\n"));
    let check = home.cli(&["config", "check"]);
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stdout));
    // It shows the source's own secret now.
    home.set_env("SENDPILOT_SECRET", SECRET);
    let check = home.cli(&["config", "check"]);
    assert!(
        text(&check.stdout).contains("the sample shows the secret of `env:SENDPILOT_SECRET`"),
        "{}",
        text(&check.stdout)
    );
    let forged = home.cli(&[
        "verify",
        "--source",
        "acme",
        "--request",
        "request.http",
        "--as-sample",
        "--body",
        "config.yaml",
    ]);
    assert_eq!(forged.status.code(), Some(1));
    assert!(
        text(&forged.stderr).contains("is not genuine, so it proves nothing"),
        "{}",
        text(&forged.stderr)
    );
}
