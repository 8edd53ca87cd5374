//! Lease: a handler is called at its own pace, however much waits for it, and a stop leaves no call half known.

use std::time::{Duration, Instant};

use serde_json::Value;
use stand_ins::{Fault, Received, Slack};

use crate::carry::ended;
use crate::support::{Daemon, Event, Home, PATIENCE, SENDPILOT, plugin};

/// How long a call takes where a test wants to see how many are under way.
const SLOW: Duration = Duration::from_millis(200);
/// Longer than any test: such a call ends with the daemon that made it.
const HANGS: Duration = Duration::from_secs(300);

fn config(slack: &Slack, limits: &str) -> String {
    let url = slack.url();
    format!(
        r#"{SENDPILOT}handlers:
  slack-notify:
    plugin: {}
    settings: {{ template: "{{/eventId}}" }}
    secrets: {{ webhook: {{ from: "env:SLACK_WEBHOOK_URL", to: [ "{url}" ] }} }}
    grants: {{ http: [ "{url}" ], networks: [ 127.0.0.0/8 ] }}
    limits: {limits}
    retry: {{ first_delay: 100ms, max_delay: 500ms }}
subscriptions:
  all: {{ source: sendpilot, events: [ "*.*" ], handler: slack-notify }}
"#,
        plugin("slack_notify").display()
    )
}

fn home(slack: &Slack, limits: &str) -> Home {
    let mut home = Home::new(&config(slack, limits));
    home.set_env("SLACK_WEBHOOK_URL", &slack.webhook_url());
    home
}

/// Ends with `count` open deliveries and no daemon: `begun` of them hang in a call when it is killed.
async fn leave_a_backlog(home: &Home, slack: &Slack, count: usize, begun: usize) {
    slack.fail_next(Fault::delay(HANGS).times(begun.try_into().unwrap()));
    let mut daemon = home.start().await;
    let client = daemon.client();
    for n in 0..count {
        let event = Event::new(&format!("evt_{n}"), "message.received");
        assert_eq!(client.send(&event).await.unwrap().status, 200);
    }
    calls(slack, begun).await;
    daemon.kill();
    assert_eq!(slack.received().len(), begun, "all others wait");
}

async fn calls(slack: &Slack, count: usize) -> Vec<Received> {
    tokio::time::timeout(PATIENCE, slack.wait_for(count)).await.expect("the calls come")
}

/// Waits until all `count` deliveries are done.
async fn all_done(home: &Home, count: usize) {
    let rows = ended(home, count).await;
    let done = rows.iter().filter(|row| row["status"] == "done").count();
    assert_eq!((done, rows.len()), (count, count), "{rows:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_at_start_is_called_three_at_once_and_never_more() {
    const BACKLOG: usize = 60;
    let slack = Slack::start().await;
    let home = home(&slack, "{ timeout: 60s, concurrency: 3 }");
    leave_a_backlog(&home, &slack, BACKLOG, 3).await;
    slack.fail_next(Fault::delay(SLOW).times(BACKLOG.try_into().unwrap()));
    let _daemon = home.start().await;
    let calls = calls(&slack, 3 + BACKLOG).await;
    assert_eq!(most_at_once(&calls[3..]), 3);
    all_done(&home, BACKLOG).await;
    assert_eq!(slack.received().len(), 3 + BACKLOG, "each was called once more and no more");
}

/// The most calls under way at once. Each was answered `SLOW` after it came, and not before.
fn most_at_once(calls: &[Received]) -> usize {
    let slow = u64::try_from(SLOW.as_millis()).unwrap();
    let under_way = |at: u64| calls.iter().filter(|c| c.at_ms <= at && at < c.at_ms + slow).count();
    calls.iter().map(|call| under_way(call.at_ms)).max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_at_start_is_called_at_the_rate_of_its_handler() {
    const BACKLOG: usize = 20;
    let slack = Slack::start().await;
    let home = home(&slack, "{ timeout: 60s, concurrency: 1 }");
    leave_a_backlog(&home, &slack, BACKLOG, 1).await;
    home.configure("", &config(&slack, "{ timeout: 60s, concurrency: 32, rate: 5/s }"));
    let daemon = home.start().await;
    let ready = ready_at_ms(&daemon);
    let calls = calls(&slack, 1 + BACKLOG).await;
    let early = calls[1..].iter().filter(|call| call.at_ms <= ready + 2_000).count();
    assert!(early <= 5 * 2 + 1, "{early} calls in two seconds");
    // A call may come late and never early, so the last of twenty is 19 intervals after the first at least. One
    // interval is for the moment between the start of the lanes and the word that all is ready.
    let last = calls.last().unwrap().at_ms - ready;
    assert!(last >= 18 * 200, "{BACKLOG} calls in {last} ms");
    all_done(&home, BACKLOG).await;
}

/// When the daemon said that it is ready. Its lanes start right before.
fn ready_at_ms(daemon: &Daemon) -> u64 {
    let log = daemon.log();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ready = events.into_iter().find(|event| event["message"] == "ready").expect("it has started");
    let at: jiff::Timestamp = ready["timestamp"].as_str().unwrap().parse().unwrap();
    at.as_millisecond().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_a_call_under_way() {
    let slack = Slack::start().await;
    let home = home(&slack, "{ timeout: 60s }");
    slack.fail_next(Fault::delay(Duration::from_secs(1)));
    let mut daemon = home.start().await;
    daemon.client().send(&Event::new("evt_1", "message.received")).await.unwrap();
    calls(&slack, 1).await;
    assert!(daemon.stop().success(), "{}", daemon.log());
    let _daemon = home.start().await;
    let listed = home.json(&["deliveries", "list"]);
    let row = &listed["rows"][0];
    assert_eq!((row["status"].as_str(), row["attempts"].as_u64()), (Some("done"), Some(1)), "{listed}");
    assert_eq!(slack.received().len(), 1, "it was written down before the end, and not called again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_longer_than_the_drain_is_given_up_written_down_and_made_again() {
    let slack = Slack::start().await;
    let mut home = home(&slack, "{ timeout: 60s }");
    home.set_env("LONGSHORE__SERVER__DRAIN", "1s");
    slack.fail_next(Fault::delay(Duration::from_secs(30)));
    let mut daemon = home.start().await;
    daemon.client().send(&Event::new("evt_1", "message.received")).await.unwrap();
    calls(&slack, 1).await;
    let told = Instant::now();
    assert!(daemon.stop().success(), "{}", daemon.log());
    let took = told.elapsed();
    assert!(took < Duration::from_secs(8), "it had 1 s and took {took:?}:\n{}", daemon.log());
    assert!(took >= Duration::from_secs(1), "the call had its second: {took:?}");
    let _daemon = home.start().await;
    all_done(&home, 1).await;
    let listed = home.json(&["deliveries", "list"]);
    let shown = home.json(&["deliveries", "show", listed["rows"][0]["delivery"].as_str().unwrap()]);
    let attempts = shown["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{shown:#}");
    assert_eq!(attempts[0]["kind"], "interrupted", "{shown:#}");
    assert_eq!(attempts[0]["blame"], "host", "{shown:#}");
    assert_eq!(attempts[1]["outcome"], "done", "{shown:#}");
    assert_eq!(slack.received().len(), 2);
}
