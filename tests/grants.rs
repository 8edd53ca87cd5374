//! Grants: a plugin uses secrets that it never sees, a payload asks for none, and a plugin that wants more gets nothing
//! by itself. The real daemon, and a receiver that tells whatever it is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::support::{Event, Home, SECRET, SENDPILOT, plugin, wait_for};

/// A request as it came.
#[derive(Clone, Debug)]
struct Seen {
    uri: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Sends back whatever it gets, in headers and in the body, in clear and decoded. `/fails`: with a 500.
struct Echo {
    origin: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Echo {
    async fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let seen = Arc::clone(&theirs);
                tokio::spawn(async move {
                    let service = service_fn(move |request| echo(request, Arc::clone(&seen)));
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Echo { origin, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn echo(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Full<Bytes>>, String> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes().to_vec();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: Vec<_> = head.headers.iter().map(|(n, v)| (n.to_string(), text(v))).collect();
    let uri = head.uri.to_string();
    seen.lock().unwrap().push(Seen { uri: uri.clone(), headers: headers.clone(), body: body.clone() });
    let mut told = format!("echo-of {uri} {headers:?} {}", String::from_utf8_lossy(&body));
    // As a helpful error page would show it: decoded, and encoded once more.
    for (name, value) in &headers {
        let pair = value.strip_prefix("Basic ").and_then(|pair| STANDARD.decode(pair).ok());
        told += &pair.map(|pair| format!(" {}", String::from_utf8_lossy(&pair))).unwrap_or_default();
        if ["authorization", "x-api-key"].contains(&name.as_str()) {
            told += &format!(" {} {}", hex::encode(value), STANDARD.encode(value));
        }
    }
    told +=
        &url::form_urlencoded::parse(uri.as_bytes()).map(|(n, v)| format!(" {n}={v}")).collect::<String>();
    let mut response = Response::builder().status(if uri.starts_with("/fails") { 500 } else { 200 });
    for (n, (_, value)) in headers.iter().enumerate() {
        response = response.header(format!("x-echo-{n}"), value);
    }
    let response = response.header("x-echo-uri", &uri);
    response.body(Full::new(told.into())).map_err(|e| e.to_string())
}

/// Name, how it is used, value. Each value has what encoding changes.
const SECRETS: [(&str, &str, &str); 6] = [
    ("bearer_one", "bearer", "Zq-bearer/1+a=b&c d%e-4711"),
    ("basic_one", "basic", "Zq-basic/2+a=b&c d%e-4712"),
    ("header_one", "header", "Zq-header/3+a=b&c d%e-4713"),
    ("query_one", "query", "Zq-query/4+a=b&c d%e-4714"),
    ("form_one", "form", "Zq-form/5+a=b&c d%e-4715"),
    ("url_one", "url", "ORIGIN/hooks/Zq-url-6-4716-abcdefgh"),
];

/// What of a secret must be nowhere, in every form that somebody could have made of it.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let secret = match value.split_once("/hooks/") {
        Some((_, token)) => token,
        None => value,
    };
    let percent: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let component = percent.replace('+', "%20");
    let mut all: Vec<String> = vec![
        secret.to_owned(),
        hex::encode(secret),
        hex::encode_upper(secret),
        STANDARD_NO_PAD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        STANDARD.encode(format!("user:{secret}")),
        percent.to_lowercase(),
        component.to_lowercase(),
        percent,
        component,
    ];
    // Of the encoding of something longer, all but what its neighbours touch.
    for shift in 1..3 {
        let shifted = STANDARD_NO_PAD.encode(format!("{}{secret}", &"xx"[..shift]));
        all.push(shifted[4..shifted.len() - 2].to_owned());
    }
    all.sort();
    all.dedup();
    all.into_iter().map(String::into_bytes).collect()
}

fn all_forms(echo: &Echo) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for (name, _, value) in SECRETS {
        let value = value.replace("ORIGIN", &echo.origin);
        all.extend(forms(&value).into_iter().map(|form| (name.to_owned(), form)));
    }
    all.extend(forms(SECRET).into_iter().map(|form| ("the source's".to_owned(), form)));
    all
}

fn contains(text: &[u8], form: &[u8]) -> bool {
    text.windows(form.len()).any(|window| window == form)
}

fn is_clean(what: &str, text: &[u8], forms: &[(String, Vec<u8>)]) {
    for (name, form) in forms {
        assert!(!contains(text, form), "{name} is in {what}, as {}", String::from_utf8_lossy(form));
    }
}

/// Every file below a folder, by name.
fn files(folder: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), into);
        } else if kind.is_file() {
            into.insert(entry.path().display().to_string(), std::fs::read(entry.path()).unwrap_or_default());
        }
    }
}

/// XOR 0x5a and hex, so that looking for it puts it nowhere.
fn mark(form: &[u8]) -> String {
    form.iter().map(|byte| format!("{:02x}", byte ^ 0x5a)).collect()
}

/// A handler that uses each secret at a call that works and at one that fails, and looks for `marks`.
fn spying(echo: &Echo, marks: &[String]) -> Home {
    let mut script = String::new();
    let mut secrets = String::new();
    for (name, kind, _) in SECRETS {
        let variable = name.to_uppercase();
        secrets += &format!("      {name}: {{ from: \"env:{variable}\", to: [ \"{}\" ] }}\n", echo.origin);
        for path in ["/works", "/fails"] {
            script += &format!("{kind} {name} {}{path}\n", echo.origin);
        }
    }
    let mut home = Home::new(&format!(
        r#"log: {{ level: trace, format: json }}
{SENDPILOT}handlers:
  spying:
    plugin: {}
    settings: {{ do: spy, url: this-is-in-its-memory, script: {}, marks: {} }}
    secrets:
{secrets}    grants: {{ http: [ "{}" ], networks: [ 127.0.0.0/8 ] }}
    limits: {{ timeout: 60s }}
    retry: {{ first_delay: 100ms, max_delay: 100ms, give_up_after: 1h }}
subscriptions:
  all: {{ source: sendpilot, events: [ "*" ], handler: spying }}
"#,
        plugin("test_handlers").display(),
        Value::from(script),
        Value::from(marks.join("\n")),
        echo.origin
    ));
    for (name, _, value) in SECRETS {
        home.set_env(&name.to_uppercase(), &value.replace("ORIGIN", &echo.origin));
    }
    home
}

/// Or nothing is shown by what is nowhere.
fn every_secret_arrived(seen: &[Seen]) {
    let arrived = format!("{seen:?}");
    let body: Vec<u8> = seen.iter().flat_map(|seen| seen.body.clone()).collect();
    for (secret, kind, value) in SECRETS {
        let wire = match kind {
            "basic" => STANDARD.encode(format!("user:{value}")),
            "query" | "form" => url::form_urlencoded::byte_serialize(value.as_bytes()).collect(),
            "url" => value.replace("ORIGIN", ""),
            _ => value.to_owned(),
        };
        assert!(arrived.contains(&wire) || contains(&body, wire.as_bytes()), "{secret}: {arrived}");
    }
}

/// Whatever the command line prints, asked of the running daemon.
fn no_answer_has(home: &Home, delivery: &str, forms: &[(String, Vec<u8>)]) {
    for arguments in [
        &["deliveries", "show", delivery][..],
        &["deliveries", "show", delivery, "--json"],
        &["deliveries", "list", "--json"],
        &["events", "list", "--json"],
        &["events", "show", delivery.split('.').next().unwrap(), "--json"],
        &["handlers", "list", "--json"],
        &["sources", "show", "--json"],
        &["store", "export"],
        &["store", "stat", "--json"],
        &["config", "check", "--json"],
    ] {
        let output = home.cli(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stdout.is_empty(), "{arguments:?}");
        is_clean(&format!("{arguments:?}"), &output.stdout, forms);
        is_clean(&format!("{arguments:?}"), &output.stderr, forms);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_used_and_nowhere_to_be_seen() {
    let echo = Echo::start().await;
    let forms = all_forms(&echo);
    // The last mark is there for certain: a word of its own settings. If that is not found, nothing would be.
    let mut marks: Vec<String> = forms.iter().map(|(_, form)| mark(form)).collect();
    marks.push(mark(b"this-is-in-its-memory"));
    let home = spying(&echo, &marks);
    let mut daemon = home.start().await;
    daemon.client().send(&Event::new("evt_1", "message.received")).await.unwrap();
    let row = wait_for("the third attempt", async || {
        let listed = home.json(&["deliveries", "list", "--status", "done"]);
        listed["rows"].as_array().unwrap().first().cloned()
    })
    .await;
    let name = row["delivery"].as_str().unwrap();
    every_secret_arrived(&echo.seen());

    // What it got, it told: the history, the log, the shelf and its memory know the echo, and no secret.
    let shown = home.json(&["deliveries", "show", name]);
    let attempts = shown["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 3);
    let last = attempts[2]["note"].as_str().unwrap();
    assert!(last.starts_with(&format!("found [{}] of {} marks", forms.len(), marks.len())), "{last}");
    assert!(shown.to_string().contains("echo-of") && shown.to_string().contains("[secret bearer_one]"));
    no_answer_has(&home, name, &forms);
    for path in ["/metrics", "/healthz", "/readyz"] {
        is_clean(path, daemon.admin(path).await.1.as_bytes(), &forms);
    }
    assert!(daemon.stop().success());
    let log = daemon.log();
    assert!(log.contains("echo-of"), "the guest's lines are in the log");
    is_clean("the log", log.as_bytes(), &forms);
    let mut all = BTreeMap::new();
    files(&home.data(), &mut all);
    let with_echo = all.values().filter(|bytes| contains(bytes, b"echo-of")).count();
    assert!(all.len() > 3 && with_echo > 0, "{:?}", all.keys());
    for (path, bytes) in &all {
        is_clean(path, bytes, &forms);
    }
}

/// There are no templates: what looks like one is text, in whatever place it is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_asks_for_secrets_is_text() {
    const TOKEN: &str = "Zq-token-which-nobody-asked-for";
    let echo = Echo::start().await;
    let mut home = Home::new(&format!(
        r#"{SENDPILOT}handlers:
  relaying:
    plugin: {}
    settings: {{ do: relay, url: "{}/relay" }}
    secrets: {{ token: {{ from: "env:TOKEN", to: [ "{}" ] }} }}
    grants: {{ http: [ "{}" ], networks: [ 127.0.0.0/8 ] }}
subscriptions:
  all: {{ source: sendpilot, events: [ "*" ], handler: relaying }}
"#,
        plugin("test_handlers").display(),
        echo.origin,
        echo.origin,
        echo.origin
    ));
    home.set_env("TOKEN", TOKEN);
    let daemon = home.start().await;
    let asks = [
        "{{secret:token}}",
        "{{ secret.token }}",
        "secret:token",
        "secret-url:token",
        "[secret token]",
        "${env:TOKEN}",
        "${TOKEN}",
        "$TOKEN",
        "$(printenv TOKEN)",
        "`printenv TOKEN`",
        "env:TOKEN",
        "file:/proc/self/environ",
        "%TOKEN%",
        "%{TOKEN}",
        "{token}",
        "{/secrets/token}",
        "{{token}}",
        "<%= ENV['TOKEN'] %>",
        "#{ENV['TOKEN']}",
        "${jndi:ldap://127.0.0.1/token}",
        "Bearer {{token}}",
        "bearer(token)",
    ];
    for (n, ask) in asks.iter().enumerate() {
        let body = serde_json::json!({ "eventId": format!("evt_{n}"), "eventType": "message.received", "text": ask });
        let event = Event { id: format!("evt_{n}"), body: body.to_string() };
        daemon.client().send(&event).await.unwrap();
    }
    let seen = wait_for("every payload", async || {
        let seen = echo.seen();
        (seen.len() >= asks.len()).then_some(seen)
    })
    .await;
    for (n, ask) in asks.iter().enumerate() {
        let body = serde_json::json!({ "eventId": format!("evt_{n}"), "eventType": "message.received", "text": ask });
        let expected = body.to_string();
        let sent = seen.iter().find(|sent| sent.body == expected.as_bytes());
        let sent = sent.unwrap_or_else(|| panic!("`{ask}` came as something else: {seen:?}"));
        let header = sent.headers.iter().find(|(name, _)| name == "x-relay").unwrap();
        assert_eq!(header.1, expected, "{ask}");
        let query: String = expected.bytes().map(|b| format!("%{b:02X}")).collect();
        assert_eq!(sent.uri, format!("/relay?{query}"), "{ask}");
    }
    assert!(!format!("{seen:?}").contains(TOKEN));
    let bodies: Vec<u8> = seen.into_iter().flat_map(|sent| sent.body).collect();
    assert!(!contains(&bodies, TOKEN.as_bytes()));
}

/// The component with another word over its own: the one that `describe` looks at.
fn that_wants_more(old: &Path, new: &Path) {
    let mut bytes = std::fs::read(old).unwrap();
    let word = b"describe:normal.";
    let at: Vec<usize> = (0..bytes.len() - word.len()).filter(|at| bytes[*at..].starts_with(word)).collect();
    assert_eq!(at.len(), 1);
    bytes[at[0]..at[0] + word.len()].copy_from_slice(b"describe:wants..");
    std::fs::write(new, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_asks_for_more_is_told_and_gets_nothing() {
    let home = Home::new(&format!(
        r#"{SENDPILOT}handlers:
  growing: {{ plugin: growing.wasm, settings: {{ do: call-ungranted, url: "https://api.example.com/" }}, grants: {{ http: [ "https://other.example" ] }} }}
subscriptions:
  all: {{ source: sendpilot, events: [ "*" ], handler: growing }}
"#
    ));
    let (old, new) = (plugin("test_handlers"), home.path().join("new.wasm"));
    that_wants_more(&old, &new);
    let said = home.cli(&["plugin", "inspect", "new.wasm", "--against", old.to_str().unwrap()]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.contains("+ origin https://api.example.com\n") && said.contains("it asks for more than"),
        "{said}"
    );
    let told = home.json(&["plugin", "inspect", "new.wasm", "--against", old.to_str().unwrap()]);
    assert_eq!(told["against"]["more"]["origins"], serde_json::json!(["https://api.example.com"]));
    let same = home.cli(&["plugin", "inspect", "new.wasm", "--against", "new.wasm"]);
    assert!(String::from_utf8(same.stdout).unwrap().contains("it asks for the same as new.wasm"));

    std::fs::copy(&old, home.path().join("growing.wasm")).unwrap();
    let check = |home: &Home| {
        let output = home.cli(&["check"]);
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    assert!(!check(&home).contains("asks for more"), "nothing is known yet");
    let mut daemon = home.start().await;
    assert!(!daemon.log().contains("asks for more"), "{}", daemon.log());
    daemon.stop();
    // Its setting leads to a granted origin, so that what it wants is no reason not to start.
    let text = std::fs::read_to_string(home.path().join("config.yaml")).unwrap();
    let text = text.replace("do: call-ungranted,", "do: call-ungranted, next: \"https://other.example/\",");
    std::fs::write(home.path().join("config.yaml"), text).unwrap();
    std::fs::copy(&new, home.path().join("growing.wasm")).unwrap();
    let said = check(&home);
    assert!(
        said.contains("handlers.growing.plugin: test-handlers")
            && said.contains("asks for more: origin https://api.example.com; nothing of it is given"),
        "{said}"
    );
    let mut daemon = home.start().await;
    assert!(daemon.log().contains("asks for more: origin https://api.example.com"), "{}", daemon.log());
    daemon.client().send(&Event::new("evt_1", "message.received")).await.unwrap();
    let row = wait_for("the call that is not granted", async || {
        home.json(&["deliveries", "list", "--status", "dead"])["rows"].as_array().unwrap().first().cloned()
    })
    .await;
    assert!(row["message"].as_str().unwrap().contains("https://api.example.com is not granted"), "{row}");
    daemon.stop();
    assert!(!check(&home).contains("asks for more"), "it was said, and this is the plugin of the last run");
}
