//! Effects: what a handler did is not done again. The real daemon, receivers that fail, and SIGKILL.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::support::{Call, Event, Home, Receiver, SENDPILOT, plugin, wait_for};

fn home(origin: &str, script: &str, effects: &str) -> Home {
    Home::new(&format!(
        r#"{SENDPILOT}handlers:
  scripted:
    plugin: {}
    settings: {{ do: script, script: {} }}
    grants: {{ http: [ "{origin}" ], networks: [ 127.0.0.0/8 ] }}
    effects: {{ {effects} }}
    retry: {{ first_delay: 100ms, max_delay: 200ms, give_up_after: 1h }}
subscriptions:
  all: {{ source: sendpilot, events: [ "*" ], handler: scripted }}
"#,
        plugin("test_handlers").display(),
        Value::from(script.replace("ORIGIN", origin)),
    ))
}

async fn with_status(home: &Home, status: &str, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} deliveries to be {status}"), async || {
        let listed = home.json(&["deliveries", "list", "--limit", "500", "--status", status]);
        let rows = listed["rows"].as_array().unwrap().clone();
        (rows.len() >= count).then_some(rows)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_makes_only_the_call_that_failed_also_over_a_restart() {
    let receiver =
        Receiver::start(Arc::new(|path, earlier| if path == "/b" && earlier < 3 { 500 } else { 200 })).await;
    let home = home(&receiver.origin, "POST ORIGIN/a - {id}\nPOST ORIGIN/b - {id}", "");
    let mut daemon = home.start().await;
    daemon.client().send(&Event::new("evt_1", "message.received")).await.unwrap();
    wait_for("the second call of B", async || (receiver.calls("/b").len() >= 2).then_some(())).await;
    daemon.kill();
    let _daemon = home.start().await;
    let row = with_status(&home, "done", 1).await.remove(0);
    let (a, b) = (receiver.calls("/a"), receiver.calls("/b"));
    assert_eq!(a.len(), 1, "{a:?}");
    assert!(b.len() == 4 || b.len() == 5, "one may be cut off by the kill: {b:?}");
    assert!(b.iter().all(|call| call.key == b[0].key && !call.key.is_empty()), "{b:?}");
    let shown = home.json(&["deliveries", "show", row["delivery"].as_str().unwrap()]);
    let last = shown["attempts"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["calls"][0]["recorded"], &last["calls"][1]["recorded"]), (&true.into(), &false.into()));
    let name = row["delivery"].as_str().unwrap();
    let told = String::from_utf8(home.cli(&["deliveries", "show", name]).stdout);
    assert!(told.unwrap().contains("from the record"));

    // To run again what is done is to do it again.
    assert!(home.cli(&["deliveries", "retry", name]).status.success());
    wait_for("the new round", async || (receiver.calls("/b").len() > b.len()).then_some(())).await;
    let again = receiver.calls("/a");
    assert_eq!(again.len(), 2);
    assert_ne!(again[0].key, again[1].key);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_call_waits_for_the_operators_word() {
    let receiver = Receiver::start(Arc::new(|_, earlier| if earlier == 0 { 0 } else { 200 })).await;
    let home = home(&receiver.origin, "POST ORIGIN/a - {id}", "on_unknown: park");
    let daemon = home.start().await;
    for (n, word) in ["--happened", "--did-not", "--send"].into_iter().enumerate() {
        let id = format!("evt_{n}");
        daemon.client().send(&Event::new(&id, "message.received")).await.unwrap();
        let row = with_status(&home, "parked", 1).await.remove(0);
        let name = row["delivery"].as_str().unwrap();
        let said = row["message"].as_str().unwrap();
        assert!(said.contains(&format!("longshore deliveries resolve {name} --happened")), "{said}");
        assert_eq!(row["error_kind"], "uncertain");
        assert!(home.cli(&["deliveries", "resolve", name, word]).status.success());
        with_status(&home, "done", n + 1).await;
        let calls: Vec<Call> = receiver.calls("/a").into_iter().filter(|call| call.body == id).collect();
        assert_eq!(calls.len(), if word == "--happened" { 1 } else { 2 }, "{word}: {calls:?}");
        if let [first, second] = calls.as_slice() {
            assert_eq!(first.key == second.key, word == "--send", "{word}");
        }
        let again = home.cli(&["deliveries", "resolve", name, word]);
        assert!(!again.status.success(), "nothing waits any more");
    }
}

/// Deliveries that read and write one key run again where another was faster; what they did meanwhile stands.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_lost_its_shelf_to_another_makes_no_call_again() {
    const EVENTS: usize = 40;
    let receiver = Receiver::start(Arc::new(|_, _| 200)).await;
    let home = home(&receiver.origin, "COUNT\nPOST ORIGIN/a - {id}", "");
    let daemon = home.start().await;
    let sends = (0..EVENTS).map(|n| {
        let client = daemon.client();
        tokio::spawn(async move {
            client.send(&Event::new(&format!("evt_{n}"), "message.received")).await.unwrap().status
        })
    });
    for send in sends.collect::<Vec<_>>() {
        assert_eq!(send.await.unwrap(), 200);
    }
    let rows = with_status(&home, "done", EVENTS).await;
    let mut counts: Vec<String> = Vec::new();
    let mut again = 0;
    for row in &rows {
        let shown = home.json(&["deliveries", "show", row["delivery"].as_str().unwrap()]);
        let note = shown["attempts"][0]["note"].as_str().unwrap().to_owned();
        again += usize::from(note.contains("again"));
        counts.push(note.split(',').next().unwrap().to_owned());
    }
    counts.sort();
    counts.dedup();
    assert_eq!(counts.len(), EVENTS, "no update is lost: {counts:?}");
    assert_eq!(receiver.calls("/a").len(), EVENTS, "and no call is made twice");
    assert!(again > 0, "none of them ran again: this shows nothing");
}

/// Random failures and kills: what a receiver said yes to comes again only where the history names it.
#[tokio::test(flavor = "multi_thread")]
async fn no_yes_comes_twice_unless_the_history_names_it_after_ten_kills_under_load() {
    const KILLS: usize = 10;
    let seed: u64 = rand::rng().next_u64();
    let dice = Arc::new(Mutex::new(rand::rngs::StdRng::seed_from_u64(seed)));
    let theirs = Arc::clone(&dice);
    let receiver = Receiver::start(Arc::new(move |_, _| match theirs.lock().unwrap().random_range(0..10) {
        0 => 0,
        1 => 500,
        2 => 429,
        _ => 200,
    }))
    .await;
    let script = "POST ORIGIN/a - {id}\nPOST ORIGIN/b key {id}\nPOST ORIGIN/c - {id}";
    let home = home(&receiver.origin, script, "");
    let mut sent = 0;
    for round in 0..KILLS {
        let mut daemon = home.start().await;
        let client = daemon.client();
        let called = || receiver.calls.lock().unwrap().len();
        let before = called();
        for n in 0..30 {
            let event = Event::new(&format!("evt_{round}_{n}"), "message.received");
            sent += usize::from(client.send(&event).await.is_ok_and(|answer| answer.status == 200));
        }
        // Thirty events are ninety calls at least.
        let until = before + dice.lock().unwrap().random_range(0..90);
        wait_for("the moment of the kill", async || (called() >= until).then_some(())).await;
        daemon.kill();
    }
    let _daemon = home.start().await;
    let rows = with_status(&home, "done", sent).await;
    let ids: BTreeMap<&str, &str> = rows
        .iter()
        .map(|row| (row["event_id"].as_str().unwrap(), row["delivery"].as_str().unwrap()))
        .collect();
    let mut yes: BTreeMap<(String, String), usize> = BTreeMap::new();
    for call in receiver.calls.lock().unwrap().iter().filter(|call| call.status == 200) {
        *yes.entry((call.body.clone(), call.path.clone())).or_default() += 1;
    }
    assert_eq!(yes.len(), sent * 3, "seed {seed}: every call of every event got its yes");
    let (mut twice, mut named) = (0, 0);
    for ((event, path), times) in yes.iter().filter(|(_, times)| **times > 1) {
        let history = home.json(&["deliveries", "show", ids[event.as_str()]]);
        let list = |name: &str| history[name].as_array().cloned().unwrap_or_default();
        let attempts = list("attempts");
        let calls = attempts.iter().flat_map(|attempt| attempt["calls"].as_array().unwrap());
        let here = calls.filter(|call| call["target"].as_str().unwrap().ends_with(path.as_str()));
        let may_be = here.filter(|call| call["after_unknown"] == true).count();
        let cut_off = list("interrupted").iter().filter(|attempt| attempt["number"] != 1).count();
        assert!(times - 1 <= may_be + cut_off, "seed {seed}: {event} {path} {times} times: {history:#}");
        twice += times - 1;
        named += may_be + cut_off;
    }
    let calls = receiver.calls.lock().unwrap().len();
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{KILLS} kills, {sent} deliveries, {calls} calls: {twice} came again after a yes, all of the {named} that the histories name").unwrap();
}
