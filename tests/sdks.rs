//! Sdks: the providers' official packages sign, and the daemon accepts; `longshore send` signs, and they accept.
//!
//! The packages run in Node (`tests/sdks`), over HTTPS, with this test's certificate as the one that they trust. Both
//! sides are asked about each request, so that a case which both refuse for another reason than it says is seen.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::support::{Daemon, Home, now_s, skip};

const NEWEST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLDER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const STRANGE: &str = "whsec_TmVpdGhlciBvZiB0aGUgdHdvIHRoYXQgYXJlIGhlcmU=";

/// A package, and the source that takes what it signs.
struct Sdk {
    name: &'static str,
    source: &'static str,
    event_type: &'static str,
    has_time: bool,
}

static SDKS: [Sdk; 4] = [
    Sdk { name: "stripe", source: "preset: stripe", event_type: "invoice.paid", has_time: true },
    Sdk {
        name: "svix",
        source: "preset: standard-webhooks, event: { id: \"header:svix-id\" }, scheme: { id: \"header:svix-id\", \
                 signature: { from: \"header:svix-signature\" }, timestamp: { from: \"header:svix-timestamp\" } }",
        event_type: "invoice.paid",
        has_time: true,
    },
    Sdk {
        name: "standardwebhooks",
        source: "preset: standard-webhooks",
        event_type: "invoice.paid",
        has_time: true,
    },
    Sdk { name: "octokit", source: "preset: github", event_type: "push", has_time: false },
];

/// One request of each package.
struct Case {
    name: &'static str,
    secret: &'static str,
    age_s: u64,
    text: &'static str,
    /// After it was signed, by one byte.
    changed: bool,
    /// Which of the source's secrets it is genuine by; None: 401.
    matches: Option<usize>,
    only_with_time: bool,
}

const GOOD: Case = Case {
    name: "good",
    secret: NEWEST,
    age_s: 0,
    text: "four crates",
    changed: false,
    matches: Some(0),
    only_with_time: false,
};

static CASES: [Case; 7] = [
    GOOD,
    Case { name: "not ASCII", text: "Größe 4 · 港 · \u{1f6a2} \u{2028}</br>", ..GOOD },
    Case { name: "the older secret of two", secret: OLDER, matches: Some(1), ..GOOD },
    Case { name: "nearly five minutes old", age_s: 290, ..GOOD },
    Case { name: "a byte changed", changed: true, matches: None, ..GOOD },
    Case { name: "another secret", secret: STRANGE, matches: None, ..GOOD },
    Case { name: "six minutes old", age_s: 360, matches: None, only_with_time: true, ..GOOD },
];

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sdks_sign_is_accepted_and_what_they_refuse_is_refused() {
    let Some(node) = Node::found() else { return };
    let home = home();
    let daemon = home.start().await;
    let requests: Vec<Request> = SDKS.iter().flat_map(requests).collect();
    assert_eq!(requests.len(), 4 * CASES.len() - 1);
    let answers = node.send(&home, &daemon, &requests);
    assert_eq!(answers.len(), requests.len());
    for (request, answer) in requests.iter().zip(&answers) {
        let (name, is_good) = (request.name(), request.case.matches.is_some());
        assert_eq!(answer["itself"], is_good, "the package itself thinks otherwise of {name}: {answer}");
        assert_eq!(answer["status"], if is_good { 200 } else { 401 }, "{name}: {answer}");
    }
    for sdk in &SDKS {
        let of_sdk = requests.iter().filter(|request| request.sdk.name == sdk.name);
        stored_as_sent(&home, sdk, &of_sdk.collect::<Vec<_>>());
        refused_for_the_right_reasons(&home, sdk);
    }
}

/// Id, type, body and secret of every event of a source; and no event more than was accepted.
fn stored_as_sent(home: &Home, sdk: &Sdk, requests: &[&Request]) {
    let events = home.json(&["events", "list", "--source", sdk.name]);
    let rows = events["rows"].as_array().unwrap();
    let good = requests.iter().filter(|request| request.case.matches.is_some());
    assert_eq!(rows.len(), good.clone().count(), "{events}");
    let secrets = home.json(&["sources", "show", sdk.name])["sources"][0]["secrets"].clone();
    for request in good {
        let name = request.name();
        let row = rows.iter().find(|row| row["id"] == request.id);
        let row = row.unwrap_or_else(|| panic!("{name}: no event `{}` in {events}", request.id));
        assert_eq!(row["type"], sdk.event_type, "{name}");
        let matched = &secrets[request.case.matches.unwrap()]["fingerprint"];
        assert!(matched.is_string(), "{secrets}");
        assert_eq!(&row["secret"], matched, "{name}");
        assert_eq!(row["signed_at"].is_u64(), sdk.has_time, "{name}: {row}");
        let body = home.cli(&["events", "show", row["event"].as_str().unwrap(), "--body"]);
        assert_eq!(String::from_utf8_lossy(&body.stdout), request.sent, "{name}");
    }
}

fn refused_for_the_right_reasons(home: &Home, sdk: &Sdk) {
    let shown = home.json(&["sources", "show", sdk.name]);
    let refusals = shown["sources"][0]["refusals"].as_array().unwrap();
    let count = |reason: &str| refusals.iter().filter(|refusal| refusal["reason"] == reason).count();
    let expected = (2, usize::from(sdk.has_time), 2 + usize::from(sdk.has_time));
    assert_eq!((count("mismatch"), count("stale"), refusals.len()), expected, "{}: {shown}", sdk.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_know_the_certificate_sends_nothing() {
    let Some(node) = Node::found() else { return };
    let home = home();
    let daemon = home.start().await;
    let requests = requests(&SDKS[0]);
    let output = node.run_to_end("send", None, &plan(&daemon, &requests[..1]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("SELF_SIGNED"), "{said}");
    assert_eq!(home.json(&["events", "list"])["rows"].as_array().unwrap().len(), 0);
}

#[test]
fn what_longshore_signs_the_sdks_accept() {
    let Some(node) = Node::found() else { return };
    let mut home = home();
    let mut receiver = node.receive(&home);
    let port = receiver.said()["port"].as_u64().unwrap();
    let config = format!(
        "server: {{ listen: \"127.0.0.1:{port}\", tls: {{ cert: cert.pem, key: key.pem }} }}\nstore: {{ path: data }}\n{}",
        sources()
    );
    std::fs::write(home.path().join("sender.yaml"), config).unwrap();
    let body = body("evt_sent", "invoice.paid", CASES[1].text);
    std::fs::write(home.path().join("body.json"), &body).unwrap();
    for sdk in &SDKS {
        let send = ["send", sdk.name, sdk.event_type, "--no-wait", "--config", "sender.yaml"];
        for given in [&["--data", "body.json"][..], &[]] {
            let sent = home.cli(&[&send[..], given].concat());
            let said = String::from_utf8_lossy(&sent.stderr).into_owned();
            let received = receiver.said();
            assert_eq!((&received["sdk"], &received["verified"]), (&json!(sdk.name), &json!(true)), "{said}");
            assert!(sent.status.success(), "{}: {said}", sdk.name);
            assert!(given.is_empty() || received["body"] == body, "{}: {received}", sdk.name);
        }
        home.set_env("NEWEST", STRANGE);
        let refused = home.cli(&send);
        assert_eq!(receiver.said()["verified"], false, "{} accepts a secret that it does not have", sdk.name);
        assert_eq!(refused.status.code(), Some(1), "{}", sdk.name);
        home.set_env("NEWEST", NEWEST);
    }
}

// === the sources ===

fn home() -> Home {
    let mut home = Home::new(&sources());
    home.set_env("NEWEST", NEWEST);
    home.set_env("OLDER", OLDER);
    home
}

fn sources() -> String {
    let secrets = "[ \"env:NEWEST\", { from: \"env:OLDER\", until: 2099-01-01T00:00:00Z } ]";
    let source = |sdk: &Sdk| {
        format!("  {0}: {{ path: /webhooks/{0}, {1}, secrets: {secrets} }}\n", sdk.name, sdk.source)
    };
    format!("sources:\n{}", SDKS.iter().map(source).collect::<String>())
}

// === the requests ===

struct Request {
    sdk: &'static Sdk,
    case: &'static Case,
    id: String,
    signed: String,
    sent: String,
}

fn requests(sdk: &'static Sdk) -> Vec<Request> {
    let cases = CASES.iter().enumerate().filter(|(_, case)| sdk.has_time || !case.only_with_time);
    let request = |(n, case): (usize, &'static Case)| {
        let id = format!("evt_{}_{n}", sdk.name);
        let signed = body(&id, sdk.event_type, case.text);
        let changed = signed.replace("4200", "4201");
        let sent = if case.changed { changed } else { signed.clone() };
        Request { sdk, case, id, signed, sent }
    };
    cases.map(request).collect()
}

/// Spelled as no serializer would, so that whoever parses it and prints it again is found out.
fn body(id: &str, event_type: &str, text: &str) -> String {
    format!(
        "{{ \"id\": \"{id}\",\"type\":\"{event_type}\" , \"text\":\"{text}\",\"amount\":4200,\"rate\":1.50}}\n"
    )
}

impl Request {
    fn name(&self) -> String {
        format!("{}, {}", self.sdk.name, self.case.name)
    }

    fn plan(&self) -> Value {
        json!({
            "sdk": self.sdk.name, "name": self.name(), "secret": self.case.secret, "secrets": [NEWEST, OLDER],
            "id": self.id, "type": self.sdk.event_type, "at": now_s() - self.case.age_s,
            "signed": self.signed, "sent": self.sent,
        })
    }
}

fn plan(daemon: &Daemon, requests: &[Request]) -> Value {
    let requests: Vec<Value> = requests.iter().map(Request::plan).collect();
    json!({"origin": format!("https://{}", daemon.address()), "requests": requests})
}

// === Node ===

/// The folder with the packages.
struct Node(PathBuf);

impl Node {
    /// None, and the test is skipped: there is no Node, or the packages are not to be had.
    fn found() -> Option<Node> {
        static INSTALLED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        match INSTALLED.get_or_init(install) {
            Ok(folder) => Some(Node(folder.clone())),
            Err(why) => skip(&format!("the providers' SDKs are not there: {why}")),
        }
    }

    fn command(&self, mode: &str, certificate: Option<&Path>) -> Command {
        let mut command = Command::new("node");
        command.current_dir(&self.0).args(["sdks.mjs", mode]).env_remove("NODE_EXTRA_CA_CERTS");
        // What is on a developer's machine must not switch the check off.
        command.env_remove("NODE_TLS_REJECT_UNAUTHORIZED").env_remove("NODE_OPTIONS");
        command.envs(certificate.map(|path| ("NODE_EXTRA_CA_CERTS", path)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run_to_end(&self, mode: &str, certificate: Option<&Path>, input: &Value) -> Output {
        let child = start(&mut self.command(mode, certificate), input);
        child.wait_with_output().unwrap()
    }

    /// What came of each request, in their order.
    fn send(&self, home: &Home, daemon: &Daemon, requests: &[Request]) -> Vec<Value> {
        let certificate = home.path().join("cert.pem");
        let output = self.run_to_end("send", Some(&certificate), &plan(daemon, requests));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn receive(&self, home: &Home) -> Receiver {
        let mut command = self.command("receive", None);
        command.arg(home.path().join("cert.pem")).arg(home.path().join("key.pem")).stderr(Stdio::inherit());
        let secrets = SDKS.iter().map(|sdk| (sdk.name.to_owned(), NEWEST.into()));
        let mut child = start(&mut command, &Value::Object(secrets.collect()));
        let lines = BufReader::new(child.stdout.take().unwrap());
        Receiver { child, lines }
    }
}

fn start(command: &mut Command, input: &Value) -> Child {
    let mut child = command.spawn().expect("node was there a moment ago");
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    child
}

/// By the chore that the test command uses too; it does nothing where they are there.
fn install() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = Command::new(env!("CARGO")).current_dir(root).args(["xtask", "sdks"]).output();
    let output = output.expect("cargo runs");
    let last = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().last().unwrap_or_default().to_owned();
    match output.status.success() {
        true => Ok(last(&output.stdout).into()),
        false => Err(last(&output.stderr).trim_start_matches("xtask: ").to_owned()),
    }
}

/// An HTTPS server that verifies by the packages. Dropping it kills it.
struct Receiver {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Receiver {
    fn said(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("the receiver ended or said `{line}`: {e}"))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
