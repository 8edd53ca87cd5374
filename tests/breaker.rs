//! Breaker: a service that is down costs no delivery an attempt, is met gently when it is back, and an operator's
//! pause holds. The real daemon, and a receiver that goes down and comes back.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use stand_ins::{Fault, Slack};
use tokio::net::TcpListener;

use crate::support::{Daemon, Event, Home, SENDPILOT, plugin, wait_for};

/// What a receiver was sent while it was up.
#[derive(Clone, Debug)]
struct Call {
    path: String,
    /// Requests under way when this one came, itself included.
    at_once: usize,
}

/// Answers 503 at once while it is down, and 200 after a moment while it is up.
struct Receiver {
    origin: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_down: AtomicBool,
    /// Answers wait.
    holds: AtomicBool,
    work: Mutex<Work>,
}

#[derive(Default)]
struct Work {
    at_once: usize,
    refused: usize,
    calls: Vec<Call>,
}

const MOMENT: Duration = Duration::from_millis(40);

impl Receiver {
    async fn start(is_down: bool) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { is_down: AtomicBool::new(is_down), ..Shared::default() });
        let theirs = Arc::clone(&shared);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&theirs);
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Receiver { origin, shared }
    }

    fn set_down(&self, is_down: bool) {
        self.shared.is_down.store(is_down, Ordering::SeqCst);
    }

    /// Requests that were answered 503.
    fn refused(&self) -> usize {
        self.shared.work.lock().unwrap().refused
    }

    fn calls(&self) -> Vec<Call> {
        self.shared.work.lock().unwrap().calls.clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    body.collect().await.unwrap();
    let path = head.uri.path().to_owned();
    let answer = |status: u16| Ok(Response::builder().status(status).body(Full::default()).unwrap());
    if shared.is_down.load(Ordering::SeqCst) {
        shared.work.lock().unwrap().refused += 1;
        return answer(503);
    }
    {
        let mut work = shared.work.lock().unwrap();
        work.at_once += 1;
        let at_once = work.at_once;
        work.calls.push(Call { path, at_once });
    }
    tokio::time::sleep(MOMENT).await;
    while shared.holds.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shared.work.lock().unwrap().at_once -= 1;
    answer(200)
}

/// One handler, `crm`, that makes the calls of `script`, in which the receivers are `{0}`, `{1}` …; `more`: further keys
/// of it.
fn home(receivers: &[&Receiver], script: &str, more: &str) -> Home {
    let mut script = script.to_owned();
    for (n, receiver) in receivers.iter().enumerate() {
        script = script.replace(&format!("{{{n}}}"), &receiver.origin);
    }
    let origins: Vec<Value> =
        receivers.iter().map(|receiver| Value::from(receiver.origin.as_str())).collect();
    Home::new(&format!(
        r#"{SENDPILOT}handlers:
  crm:
    plugin: {}
    settings: {{ do: script, script: {} }}
    grants: {{ http: {}, networks: [ 127.0.0.0/8 ] }}
{more}
subscriptions:
  all: {{ source: sendpilot, events: [ "*" ], handler: crm }}
"#,
        plugin("test_handlers").display(),
        Value::from(script),
        Value::from(origins),
    ))
}

/// The handler as `handlers list` has it.
fn handler(home: &Home) -> Value {
    home.json(&["handlers", "list"])[0].clone()
}

async fn in_state(home: &Home, state: &str) -> Value {
    wait_for(&format!("the breaker to be {state}"), async || {
        let handler = handler(home);
        (handler["lane"]["state"] == state).then_some(handler)
    })
    .await
}

/// What happened to the lane, oldest first.
fn history(home: &Home) -> Vec<Value> {
    let page = home.json(&["handlers", "history", "crm", "--limit", "1000"]);
    let mut rows = page["rows"].as_array().unwrap().clone();
    rows.reverse();
    rows
}

fn changes(history: &[Value]) -> Vec<&str> {
    history.iter().map(|row| row["change"].as_str().unwrap()).collect()
}

async fn send(daemon: &Daemon, from: usize, count: usize) {
    const SENDERS: usize = 4;
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..SENDERS {
        let client = daemon.client();
        senders.spawn(async move {
            for n in (from..from + count).skip(sender).step_by(SENDERS) {
                let event = Event::new(&format!("evt_{n}"), "message.received");
                assert_eq!(client.send(&event).await.unwrap().status, 200);
            }
        });
    }
    senders.join_all().await;
}

async fn all_done(home: &Home, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} deliveries to be done"), async || {
        let rows = home.json(&["deliveries", "list", "--limit", "1000", "--status", "done"])["rows"].clone();
        let rows = rows.as_array().unwrap().clone();
        (rows.len() >= count).then_some(rows)
    })
    .await
}

fn output(home: &Home, arguments: &[&str]) -> (bool, String) {
    let output = home.cli(arguments);
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.success(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_down_is_left_alone_and_met_gently_when_it_is_back() {
    const EVENTS: usize = 1000;
    const FAILURES: usize = 10;
    const CONCURRENCY: usize = 16;
    let receiver = Receiver::start(true).await;
    let home = home(
        &[&receiver],
        "POST {0}/notes - {id}",
        r"    limits: { concurrency: 16 }
    breaker: { failures: 10, probe_after: 300ms, probe_max: 600ms }
    retry: { first_delay: 100ms, max_delay: 200ms }",
    );
    let daemon = home.start().await;
    send(&daemon, 0, 50).await;
    in_state(&home, "open").await;
    send(&daemon, 50, EVENTS - 50).await;
    let open = wait_for("a few probes", async || {
        let handler = handler(&home);
        (handler["lane"]["probes"].as_u64() >= Some(3)).then_some(handler)
    })
    .await;
    assert_eq!(open["lane"]["origin"], receiver.origin, "{open:#}");
    assert_eq!(open["backlog"]["open"].as_u64(), Some(EVENTS as u64), "none has ended: {open:#}");
    let (_, metrics) = daemon.admin("/metrics").await;
    for line in [
        r#"longshore_breaker_state{handler="crm"} 2"#,
        r#"longshore_breaker_openings_total{handler="crm"} 1"#,
        r#"longshore_lane_paused{handler="crm"} 0"#,
    ] {
        assert!(metrics.lines().any(|l| l == line), "no `{line}` in\n{metrics}");
    }
    let (_, listed) = output(&home, &["handlers", "list"]);
    let sentence = format!("crm: open, {FAILURES} failures in a row at {}, the first", receiver.origin);
    assert!(listed.contains(&sentence) && listed.contains("1000 deliveries wait"), "{listed}");

    receiver.set_down(false);
    let rows = all_done(&home, EVENTS).await;
    in_state(&home, "closed").await;
    let refused = receiver.refused();
    let history = wait_for("the history of it", async || {
        let history = history(&home);
        (changes(&history).last() == Some(&"closed")).then_some(history)
    })
    .await;
    assert_eq!(changes(&history), ["opened", "returning", "closed"], "{history:#?}");
    let probes = usize::try_from(history[1]["probes"].as_u64().unwrap()).unwrap();
    assert!(
        refused < FAILURES + CONCURRENCY + probes,
        "{refused} requests while it was down, {probes} probes"
    );
    assert!(refused >= FAILURES, "{refused}");
    for said in
        ["the breaker opened: 10 failures in a row at", "the breaker returning: ", "the breaker closed: "]
    {
        assert!(daemon.log().contains(said), "no `{said}` in\n{}", daemon.log());
    }

    // No attempt was wasted on those that waited.
    let attempts: u64 = rows.iter().map(|row| row["attempts"].as_u64().unwrap()).sum();
    assert_eq!(attempts, (EVENTS + refused) as u64);
    let calls = receiver.calls();
    assert_eq!(calls.len(), EVENTS, "each was made once");

    // The return: with n answered, no more at once than the power of two that n allows.
    let most = calls.iter().map(|call| call.at_once).max().unwrap();
    for (n, call) in calls.iter().enumerate() {
        let allowed = 1 << n.max(1).ilog2();
        assert!(call.at_once <= allowed, "request {n} was one of {} at once", call.at_once);
    }
    assert!(most > CONCURRENCY / 4 && most <= CONCURRENCY, "it came back to {most} at once");
    let first_with = |at_once| calls.iter().position(|call| call.at_once >= at_once);
    say(&format!(
        "{EVENTS} deliveries: {refused} requests while down ({probes} probes), then at once 1, 2 from request {:?}, 4 from {:?}, 8 from {:?}, 16 from {:?}",
        first_with(2),
        first_with(4),
        first_with(8),
        first_with(16)
    ));
}

/// Past the harness, which keeps what a passing test prints to itself: these figures are the evidence.
fn say(figures: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{figures}").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_breaker_stays_open_over_a_kill_and_a_start_costs_one_probe() {
    let receiver = Receiver::start(true).await;
    let home = home(
        &[&receiver],
        "POST {0}/notes - {id}",
        r"    limits: { concurrency: 4 }
    breaker: { failures: 8, probe_after: 300ms, probe_max: 300ms }
    retry: { first_delay: 100ms, max_delay: 100ms }",
    );
    let mut daemon = home.start().await;
    send(&daemon, 0, 20).await;
    in_state(&home, "open").await;
    wait_for("the history of it", async || (!history(&home).is_empty()).then_some(())).await;
    daemon.kill();
    let before = receiver.refused();
    let daemon = home.start().await;
    assert!(daemon.log().contains("the breaker was open when the daemon ended"), "{}", daemon.log());
    let open = wait_for("two probes", async || {
        let handler = handler(&home);
        (handler["lane"]["probes"].as_u64() >= Some(2)).then_some(handler)
    })
    .await;
    assert_eq!(open["lane"]["failures"].as_u64(), Some(8), "{open:#}");
    receiver.set_down(false);
    all_done(&home, 20).await;
    wait_for("the history of it", async || {
        (changes(&history(&home)).last() == Some(&"closed")).then_some(())
    })
    .await;
    let history = history(&home);
    assert_eq!(changes(&history), ["opened", "returning", "closed"]);
    let probes = usize::try_from(history[1]["probes"].as_u64().unwrap()).unwrap();
    assert!(
        receiver.refused() - before < probes,
        "{} requests, {probes} probes",
        receiver.refused() - before
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_that_is_longer_than_give_up_after_kills_nothing() {
    let receiver = Receiver::start(true).await;
    let home = home(
        &[&receiver],
        "POST {0}/notes - {id}",
        r"    breaker: { failures: 3, probe_after: 500ms, probe_max: 500ms }
    retry: { first_delay: 100ms, max_delay: 100ms, give_up_after: 2s }",
    );
    let daemon = home.start().await;
    send(&daemon, 0, 20).await;
    wait_for("more probes than two seconds have", async || {
        (handler(&home)["lane"]["probes"].as_u64() >= Some(7)).then_some(())
    })
    .await;
    receiver.set_down(false);
    let rows = all_done(&home, 20).await;
    assert_eq!(rows.len(), 20, "{rows:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_fails_at_one_of_two_origins_waits_and_says_which() {
    let (well, down) = (Receiver::start(false).await, Receiver::start(true).await);
    let home = home(
        &[&well, &down],
        "POST {0}/first - {id}\nPOST {1}/second - {id}",
        r"    limits: { concurrency: 2 }
    breaker: { failures: 3, probe_after: 200ms, probe_max: 200ms }
    retry: { first_delay: 100ms, max_delay: 100ms }",
    );
    let daemon = home.start().await;
    send(&daemon, 0, 12).await;
    let open = in_state(&home, "open").await;
    assert_eq!(open["lane"]["origin"], down.origin, "{open:#}");
    assert_eq!(open["lane"]["why"], "answered 503");
    down.set_down(false);
    all_done(&home, 12).await;
    assert_eq!(well.calls().len(), 12, "what happened at the first was not done again");
    assert!(well.calls().iter().all(|call| call.path == "/first"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_does_wrong_does_not_open_it() {
    let home = Home::new(&format!(
        r#"{SENDPILOT}handlers:
  crm:
    plugin: {}
    settings: {{ do: by-type }}
    breaker: {{ failures: 1 }}
    retry: {{ first_delay: 100ms, max_delay: 100ms }}
subscriptions:
  all: {{ source: sendpilot, events: [ "*.*" ], handler: crm }}
"#,
        plugin("test_handlers").display(),
    ));
    let daemon = home.start().await;
    for (n, what) in ["trap", "reject", "retry", "noop"].iter().enumerate() {
        let event = Event::new(&format!("evt_{n}"), &format!("message.{what}"));
        assert_eq!(daemon.client().send(&event).await.unwrap().status, 200);
    }
    wait_for("traps in a row", async || {
        let rows = home.json(&["deliveries", "list", "--error-kind", "trap"])["rows"].clone();
        (rows[0]["attempts"].as_u64() >= Some(4)).then_some(())
    })
    .await;
    assert_eq!(handler(&home)["lane"]["state"], "closed");
    assert_eq!(history(&home), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_asks_for_time_gets_it_unless_the_operator_knows_better() {
    let slack = Slack::start().await;
    slack.fail_next(Fault::status(429).header("retry-after", "600").times(3));
    let url = slack.url();
    let mut home = Home::new(&format!(
        r#"{SENDPILOT}handlers:
  crm:
    plugin: {}
    settings: {{ template: "{{/eventId}}" }}
    secrets: {{ webhook: {{ from: "env:SLACK_WEBHOOK_URL", to: [ "{url}" ] }} }}
    grants: {{ http: [ "{url}" ], networks: [ 127.0.0.0/8 ] }}
    limits: {{ concurrency: 1 }}
    breaker: {{ failures: 3, probe_after: 100ms, probe_max: 200ms }}
subscriptions:
  all: {{ source: sendpilot, events: [ message.received ], handler: crm }}
"#,
        plugin("slack_notify").display(),
    ));
    home.set_env("SLACK_WEBHOOK_URL", &slack.webhook_url());
    let daemon = home.start().await;
    send(&daemon, 0, 6).await;
    in_state(&home, "open").await;
    let opened = wait_for("the history of it", async || history(&home).first().cloned()).await;
    let [at, probe_at] = ["at", "probe_at"].map(|field| opened[field].as_u64().unwrap());
    assert!(probe_at > at + 500_000, "the probe waits ten minutes: {opened:#}");
    assert_eq!(slack.received().len(), 3);
    let (well, said) = output(&home, &["handlers", "resume", "crm"]);
    assert!(well && said.contains("it was not paused; crm: open"), "{said}");
    // Three are done; the three that were refused were asked to wait, each of them.
    all_done(&home, 3).await;
    assert_eq!(slack.received().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_lets_attempts_end_and_holds_over_a_kill_until_it_is_resumed() {
    let receiver = Receiver::start(false).await;
    receiver.shared.holds.store(true, Ordering::SeqCst);
    let home = home(&[&receiver], "POST {0}/notes - {id}", "    limits: { concurrency: 4 }");
    let mut daemon = home.start().await;
    send(&daemon, 0, 1).await;
    wait_for("the call", async || (receiver.calls().len() == 1).then_some(())).await;
    let (well, said) = output(&home, &["handlers", "pause", "crm", "--reason", "HubSpot moves"]);
    assert!(well && said.contains("crm: paused") && said.contains("HubSpot moves"), "{said}");
    receiver.shared.holds.store(false, Ordering::SeqCst);
    all_done(&home, 1).await;
    send(&daemon, 1, 9).await;
    let (well, said) = output(&home, &["handlers", "pause", "crm", "--reason", "again"]);
    assert!(well && said.contains("it was paused already") && said.contains("9 deliveries wait"), "{said}");
    daemon.kill();

    let daemon = home.start().await;
    assert!(daemon.log().contains("paused by the operator: deliveries wait"), "{}", daemon.log());
    wait_for("the lane to find them", async || (handler(&home)["in_memory"] == 9).then_some(())).await;
    // More than one look of the lane into the index.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let paused = handler(&home);
    assert_eq!(paused["paused"]["reason"], "HubSpot moves", "{paused:#}");
    assert_eq!((paused["running"].as_u64(), receiver.calls().len()), (Some(0), 1), "{paused:#}");
    let (_, listed) = output(&home, &["handlers", "list"]);
    assert!(listed.contains("paused") && listed.contains("longshore handlers resume crm"), "{listed}");
    let (_, metrics) = daemon.admin("/metrics").await;
    assert!(metrics.lines().any(|l| l == r#"longshore_lane_paused{handler="crm"} 1"#), "{metrics}");

    let (well, said) = output(&home, &["handlers", "resume", "crm"]);
    assert!(well && said.contains("crm: "), "{said}");
    let rows = all_done(&home, 10).await;
    assert!(rows.iter().all(|row| row["attempts"] == 1), "{rows:#?}");
    assert_eq!(receiver.calls().len(), 10);
    wait_for("the history of it", async || (history(&home).len() == 3).then_some(())).await;
    let history = history(&home);
    assert_eq!(changes(&history), ["paused", "resumed", "closed"], "{history:#?}");
    let (_, table) = output(&home, &["handlers", "history", "crm"]);
    assert!(table.contains("operator") && table.contains("HubSpot moves"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_cannot_be_carried_out_says_what_to_type() {
    let receiver = Receiver::start(false).await;
    let home = home(&[&receiver], "POST {0}/notes - {id}", "    breaker: off");
    let _daemon = home.start().await;
    let (well, said) = output(&home, &["handlers", "pause", "nobody"]);
    assert!(
        !well && said.contains("no enabled handler `nobody`") && said.contains("handlers list"),
        "{said}"
    );
    let long = "x".repeat(201);
    let (well, said) = output(&home, &["handlers", "pause", "crm", "--reason", &long]);
    assert!(!well && said.contains("at most 200 characters"), "{said}");
    let (well, said) = output(&home, &["handlers", "pause", "crm", "--reason", "two\nlines"]);
    assert!(!well && said.contains("one line"), "{said}");
    let (well, said) = output(&home, &["handlers", "resume", "crm"]);
    assert!(well && said.contains("was not paused, and runs"), "{said}");
    assert_eq!(history(&home), Vec::<Value>::new());
}
