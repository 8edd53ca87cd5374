//! Kill: the promise under SIGKILL. What was answered 200 is handled; what kills the daemon is set aside.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use stand_ins::{Fault, Slack};

use crate::support::{Client, Event, Home, SENDPILOT, plugin, wait_for};

const KILLS: usize = 30;

fn config(slack: &Slack, other: &Slack) -> String {
    let handler = |name: &str, secret: &str, slack: &Slack| {
        let url = slack.url();
        format!(
            r#"  {name}:
    plugin: {}
    settings: {{ template: "{{/eventId}}" }}
    secrets: {{ webhook: {{ from: "env:{secret}", to: [ "{url}" ] }} }}
    grants: {{ http: [ "{url}" ], networks: [ 127.0.0.0/8 ] }}
    limits: {{ timeout: 60s }}
    retry: {{ first_delay: 100ms, max_delay: 500ms }}
"#,
            plugin("slack_notify").display()
        )
    };
    format!(
        "{SENDPILOT}handlers:\n{}{}subscriptions:\n  all: {{ source: sendpilot, events: [ message.received ], handler: slack-notify }}\n  poison: {{ source: sendpilot, events: [ poison.go ], handler: poisoned }}\n",
        handler("slack-notify", "SLACK_WEBHOOK_URL", slack),
        handler("poisoned", "OTHER_WEBHOOK_URL", other)
    )
}

fn home(slack: &Slack, other: &Slack) -> Home {
    let mut home = Home::new(&config(slack, other));
    home.set_env("SLACK_WEBHOOK_URL", &slack.webhook_url());
    home.set_env("OTHER_WEBHOOK_URL", &other.webhook_url());
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answered_event_is_handled_after_thirty_kills_under_load() {
    let seed: u64 = rand::random();
    say(&format!("seed {seed}"));
    let mut dice = rand::rngs::StdRng::seed_from_u64(seed);
    let slack = Slack::start().await;
    let home = home(&slack, &slack);
    let answered = Arc::new(Mutex::new(BTreeSet::new()));
    for round in 0..KILLS {
        let mut daemon = home.start().await;
        let senders: Vec<_> = (0..4)
            .map(|sender| {
                tokio::spawn(load(daemon.client(), format!("evt_{round}_{sender}"), Arc::clone(&answered)))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(dice.random_range(20..400))).await;
        daemon.kill();
        for sender in senders {
            sender.await.unwrap();
        }
    }
    let daemon = home.start().await;
    let answered = answered.lock().unwrap().clone();
    assert!(answered.len() >= KILLS, "only {} events were answered: no load", answered.len());
    let handled = wait_for("every answered event to be handled", async || {
        let handled = handled(&slack);
        let missing = answered.iter().filter(|id| !handled.contains_key(*id)).count();
        (missing == 0).then_some(handled)
    })
    .await;
    let repeated: usize = handled.values().map(|times| times - 1).sum();
    let answered = answered.len();
    say(&format!("{KILLS} kills, {answered} events answered 200, all handled; {repeated} calls repeated"));
    drop(daemon);
}

/// Past the harness, which keeps what a passing test prints to itself: these figures are the evidence.
fn say(figures: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{figures}").unwrap();
}

/// Sends events one after another until the connection fails, and notes those answered 200.
async fn load(client: Client, prefix: String, answered: Arc<Mutex<BTreeSet<String>>>) {
    for n in 0.. {
        let event = Event::new(&format!("{prefix}_{n}"), "message.received");
        match client.send(&event).await {
            Ok(answer) if answer.status == 200 => answered.lock().unwrap().insert(event.id),
            _ => return,
        };
    }
}

/// How often each event id was posted and accepted.
fn handled(slack: &Slack) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for call in slack.received().iter().filter(|call| call.status == 200) {
        let body = call.json().to_string();
        let start = body.find("evt_").expect("every message names its event");
        let id: String = body[start..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        *times.entry(id).or_default() += 1;
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_the_process_three_times_is_parked_and_the_others_are_handled() {
    let (slack, poison) = (Slack::start().await, Slack::start().await);
    let home = home(&slack, &poison);
    let mut daemon = home.start().await;
    // The poisoned call hangs, and the test is the fault that ends the process while it does.
    poison.fail_next(Fault::delay(Duration::from_secs(60)).times(3));
    assert_eq!(daemon.client().send(&Event::new("evt_poison", "poison.go")).await.unwrap().status, 200);
    for round in 1..=3 {
        wait_for("the poisoned call", async || (poison.received().len() >= round).then_some(())).await;
        // Others are under way when the process ends.
        for n in 0..4 {
            daemon.client().send(&Event::new(&format!("evt_{round}_{n}"), "message.received")).await.unwrap();
        }
        daemon.kill();
        daemon = home.start().await;
    }
    let rows = wait_for("twelve handled and one parked", async || {
        let rows = home.json(&["deliveries", "list"])["rows"].as_array().unwrap().clone();
        let count = |status: &str| rows.iter().filter(|row| row["status"] == status).count();
        (count("done") == 12 && count("parked") == 1).then_some(rows)
    })
    .await;
    let parked = rows.iter().find(|row| row["status"] == "parked").unwrap();
    assert_eq!(parked["type"], "poison.go");
    let said = parked["message"].as_str().unwrap();
    assert!(said.contains("deliveries retry"), "it says what to type: {said}");
    assert_eq!(poison.received().len(), 3, "it was called three times and not a fourth");
}
