//! Settle: what an attempt wrote on its shelf and how the delivery stands are one write, or none.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Event, Home, SENDPILOT, plugin, wait_for};

fn config() -> String {
    format!(
        r#"{SENDPILOT}handlers:
  counting:
    plugin: {}
    settings: {{ do: count-state }}
    limits: {{ concurrency: 8 }}
    retry: {{ first_delay: 100ms, max_delay: 500ms }}
subscriptions:
  all: {{ source: sendpilot, events: [ "*.*" ], handler: counting }}
"#,
        plugin("test_handlers").display()
    )
}

/// Waits until none of `count` deliveries is open: each has ended, or was set aside.
async fn none_open(home: &Home, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} deliveries, none of them open"), async || {
        let rows = home.json(&["deliveries", "list", "--limit", "500"])["rows"].as_array().unwrap().clone();
        (rows.len() == count && rows.iter().all(|row| row["status"] != "open")).then_some(rows)
    })
    .await
}

/// What each delivery of these rows said when it was done.
fn notes(home: &Home, rows: &[Value]) -> Vec<usize> {
    let note = |row: &Value| {
        let shown = home.json(&["deliveries", "show", row["delivery"].as_str().unwrap()]);
        let last = shown["attempts"].as_array().unwrap().last().unwrap();
        last["note"].as_str().unwrap_or_else(|| panic!("no note in {shown:#}")).parse().unwrap()
    };
    rows.iter().map(note).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_deliveries_that_count_on_one_shelf_at_once_lose_no_count() {
    const EVENTS: usize = 100;
    let home = Home::new(&config());
    let daemon = home.start().await;
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..4 {
        let client = daemon.client();
        senders.spawn(async move {
            for n in 0..EVENTS / 4 {
                let event = Event::new(&format!("evt_{sender}_{n}"), "message.received");
                assert_eq!(client.send(&event).await.unwrap().status, 200);
            }
        });
    }
    senders.join_all().await;
    let rows = none_open(&home, EVENTS).await;
    for row in &rows {
        assert_eq!((row["status"].as_str(), row["attempts"].as_u64()), (Some("done"), Some(1)), "{row:#}");
    }
    let counts = notes(&home, &rows);
    let every: BTreeSet<usize> = (1..=EVENTS).collect();
    assert_eq!(counts.into_iter().collect::<BTreeSet<_>>(), every, "each attempt saw the count of one other");
    daemon.client().send(&Event::new("evt_last", "message.received")).await.unwrap();
    let rows = none_open(&home, EVENTS + 1).await;
    let last: Vec<Value> = rows.into_iter().filter(|row| row.to_string().contains("evt_last")).collect();
    assert_eq!(notes(&home, &last), [EVENTS + 1]);
}
