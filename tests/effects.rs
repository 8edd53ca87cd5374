//! Effects: what a handler did is not done again. The real daemon, receivers that fail, and SIGKILL.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::support::{Call, Daemon, Event, Home, Receiver, SENDPILOT, plugin, skip, wait_for};

fn home(origin: &str, script: &str, effects: &str) -> Home {
    home_with(origin, script, effects, "retry: { first_delay: 100ms, max_delay: 200ms, give_up_after: 1h }")
}

/// `more`: a last line of the handler.
fn home_with(origin: &str, script: &str, effects: &str, more: &str) -> Home {
    Home::new(&format!(
        r#"{SENDPILOT}handlers:
  scripted:
    plugin: {}
    settings: {{ do: script, script: {} }}
    grants: {{ http: [ "{origin}" ], networks: [ 127.0.0.0/8 ] }}
    effects: {{ {effects} }}
    {more}
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

/// Kills one thread's process when it makes its Nth call of this kind: `strace` writes the signal into it.
struct Executioner(std::process::Child);

impl Executioner {
    /// On the thread that writes the journal; None: there is no `strace`.
    fn at(daemon: &Daemon, call: &str, nth: usize) -> Option<Executioner> {
        let writer = thread_of(daemon, "store-writer");
        let inject = format!("inject={call}:signal=KILL:when={nth}");
        let mut strace = std::process::Command::new("strace");
        strace.args(["-p", &writer, "-e", &format!("trace={call}"), "-e", &inject, "-o", "/dev/null"]);
        let spawned = strace.stderr(std::process::Stdio::piped()).spawn();
        if spawned.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return None;
        }
        let mut child = spawned.unwrap();
        // It says so when it is there.
        let mut said = [0; 16];
        std::io::Read::read_exact(child.stderr.as_mut().unwrap(), &mut said).unwrap();
        assert!(said.starts_with(b"strace: Process"), "{}", String::from_utf8_lossy(&said));
        Some(Executioner(child))
    }
}

impl Drop for Executioner {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.0),
            rustix::process::Signal::INT,
        );
        let _ = self.0.wait();
    }
}

fn thread_of(daemon: &Daemon, name: &str) -> String {
    let tasks = format!("/proc/{}/task", daemon.pid().as_raw_nonzero());
    let named = |task: &std::path::Path| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let tasks = std::fs::read_dir(tasks).unwrap().map(|task| task.unwrap().path());
    let task = tasks.into_iter().find(|task| named(task)).expect("the daemon has a writer");
    task.file_name().unwrap().to_str().unwrap().to_owned()
}

/// A is done at once, B fails three times: with a kill at each write of the journal and at each sync, one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_write_of_the_journal_a_call_comes_again_only_where_the_history_says_so() {
    let receiver =
        Receiver::start(Arc::new(|path, earlier| if path == "/b" && earlier < 3 { 500 } else { 200 })).await;
    let home = home(&receiver.origin, "POST ORIGIN/a - {id}\nPOST ORIGIN/b - {id}", "");
    let (mut kills, mut named) = (0, 0);
    let mut daemon = home.start().await;
    for call in ["pwrite64", "fdatasync"] {
        for nth in 1.. {
            let id = format!("evt_{call}_{nth}");
            let Some(executioner) = Executioner::at(&daemon, call, nth) else {
                let why = "killing at a write needs strace: `apt-get install strace`";
                skip::<()>(why);
                return;
            };
            let event = Event::new(&id, "message.received");
            let accepted = daemon.client().send(&event).await.is_ok_and(|answer| answer.status == 200);
            let ended = async || {
                let died = daemon.has_ended();
                let done = !died && receiver.calls("/b").iter().any(|b| b.body == id && b.status == 200);
                (died || done).then_some(died)
            };
            let mut died = wait_for("an end of the delivery, or of the daemon", ended).await;
            if !died {
                // The last write is the settle behind the last answer.
                died = wait_for("the settle, or the end of the daemon", async || {
                    let died = daemon.has_ended();
                    (died || is_done(&home, &id)).then_some(died)
                })
                .await;
            }
            drop(executioner);
            if died {
                kills += 1;
                daemon = home.start().await;
            }
            if !accepted {
                assert_eq!(daemon.client().send(&event).await.unwrap().status, 200);
            }
            let row = done(&home, &id).await;
            named += judge(&home, &receiver, &id, &row);
            if !died {
                break;
            }
        }
    }
    assert!(kills > 20, "{kills} kills are not every write of a delivery with five calls");
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{kills} kills, each at another write; {named} calls came again, each named").unwrap();
}

/// False also where nobody answers.
fn is_done(home: &Home, id: &str) -> bool {
    let listed = home.cli(&["deliveries", "list", "--json", "--limit", "500", "--status", "done"]);
    let Ok(listed) = serde_json::from_slice::<Value>(&listed.stdout) else { return false };
    listed["rows"].as_array().is_some_and(|rows| rows.iter().any(|row| row["event_id"] == id))
}

async fn nothing_open(home: &Home) {
    wait_for("nothing to be open any more", async || {
        let open = home.json(&["deliveries", "list", "--status", "open", "--limit", "1"]);
        open["rows"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
}

async fn done(home: &Home, id: &str) -> Value {
    wait_for(&format!("{id} to be done"), async || {
        let listed = home.json(&["deliveries", "list", "--limit", "500", "--status", "done"]);
        let rows = listed["rows"].as_array().unwrap();
        rows.iter().find(|row| row["event_id"] == id).cloned()
    })
    .await
}

/// How often a call of this event came again, all of it named by the history.
fn judge(home: &Home, receiver: &Receiver, id: &str, row: &Value) -> usize {
    let history = home.json(&["deliveries", "show", row["delivery"].as_str().unwrap()]);
    let list = |name: &str| history[name].as_array().cloned().unwrap_or_default();
    let attempts = list("attempts");
    let named = |path: &str| {
        let calls = attempts.iter().flat_map(|attempt| attempt["calls"].as_array().unwrap());
        let here = calls.filter(|call| call["target"].as_str().unwrap().ends_with(path));
        here.filter(|call| call["after_unknown"] == true).count()
    };
    let mut again = 0;
    for (path, times) in [("/a", 1), ("/b", 4)] {
        let calls: Vec<Call> = receiver.calls(path).into_iter().filter(|call| call.body == id).collect();
        // Cut off in a call that was answered after all.
        let cut_off = list("interrupted").len();
        let more = calls.len().checked_sub(times).unwrap_or_else(|| panic!("{id} {path}: {calls:?}"));
        assert!(more <= named(path).min(cut_off), "{id} {path}: {calls:?} {history:#}");
        assert!(calls.iter().all(|call| call.key == calls[0].key && !call.key.is_empty()), "{id}: {calls:?}");
        again += more;
    }
    again
}

/// Slack has a thousand messages, the CRM is down, and a plugin with other words is deployed.
#[tokio::test(flavor = "multi_thread")]
async fn a_reworded_message_is_posted_to_nobody_twice() {
    const DELIVERIES: usize = 1000;
    for (key, ends) in [("lead-{id}", "done"), ("-", "parked")] {
        let is_up = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let up = Arc::clone(&is_up);
        let receiver = Receiver::start(Arc::new(move |path, _| {
            if path == "/crm" && !up.load(std::sync::atomic::Ordering::Relaxed) { 503 } else { 200 }
        }))
        .await;
        let script = format!("POST ORIGIN/slack {key} {{id}} {{state}}\nPOST ORIGIN/crm - {{id}}");
        let home = home_with(
            &receiver.origin,
            &script,
            "",
            "breaker: off\n    retry: { first_delay: 3s, give_up_after: 1h }",
        );
        let mut daemon = home.start().await;
        let sends = (0..DELIVERIES).map(|n| {
            let client = daemon.client();
            tokio::spawn(async move {
                client.send(&Event::new(&format!("evt_{n}"), "message.received")).await.unwrap().status
            })
        });
        for send in sends.collect::<Vec<_>>() {
            assert_eq!(send.await.unwrap(), 200);
        }
        wait_for("all messages to be posted", async || {
            (receiver.calls("/slack").len() >= DELIVERIES).then_some(())
        })
        .await;
        wait_for("the CRM to have refused each", async || {
            (receiver.calls("/crm").len() >= DELIVERIES).then_some(())
        })
        .await;
        assert!(daemon.stop().success());
        // The same component with another word in it, under the same name.
        let file = home.path().join("handlers.wasm");
        let mut bytes = std::fs::read(plugin("test_handlers")).unwrap();
        let at = bytes.windows(16).position(|word| word == b"handler:broken..").unwrap();
        bytes[at..at + 16].copy_from_slice(b"handler:mended..");
        std::fs::write(&file, bytes).unwrap();
        let config = std::fs::read_to_string(home.path().join("config.yaml")).unwrap();
        let config = config.replace(&plugin("test_handlers").display().to_string(), "handlers.wasm");
        std::fs::write(home.path().join("config.yaml"), config).unwrap();
        is_up.store(true, std::sync::atomic::Ordering::Relaxed);
        let _daemon = home.start().await;
        nothing_open(&home).await;
        let ended = home.json(&["deliveries", "list", "--limit", "1000", "--status", ends]);
        assert_eq!(ended["rows"].as_array().unwrap().len(), DELIVERIES);
        let slack = receiver.calls("/slack");
        assert_eq!(slack.len(), DELIVERIES, "key {key}: none is posted twice");
        assert!(slack.iter().all(|call| call.body.ends_with(" broken")));
        let crm = receiver.calls("/crm").iter().filter(|call| call.status == 200).count();
        assert_eq!(crm, if ends == "done" { DELIVERIES } else { 0 });
    }
}

/// Every delivery reads a counter and writes one more; kills in between. `LONGSHORE_ROUNDS` for more of them.
#[tokio::test(flavor = "multi_thread")]
async fn no_update_of_a_shelf_is_lost_over_kills() {
    const KILLS: usize = 5;
    const SENDERS: usize = 16;
    let rounds = std::env::var("LONGSHORE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(500);
    let receiver = Receiver::start(Arc::new(|_, _| 200)).await;
    let home = home(&receiver.origin, "COUNT", "");
    let mut accepted = 0;
    let mut daemon = home.start().await;
    for life in 0..=KILLS {
        let each = rounds / (KILLS + 1) / SENDERS + 1;
        let senders = (0..SENDERS).map(|sender| {
            let client = daemon.client();
            tokio::spawn(async move {
                for n in 0..each {
                    let event = Event::new(&format!("evt_{life}_{sender}_{n}"), "message.received");
                    assert_eq!(client.send(&event).await.unwrap().status, 200);
                }
                each
            })
        });
        for sender in senders.collect::<Vec<_>>() {
            accepted += sender.await.unwrap();
        }
        if life < KILLS {
            // In the middle of it: they are worked off one by one.
            daemon.kill();
            daemon = home.start().await;
        }
    }
    nothing_open(&home).await;
    // One that was under way at three of the kills waits for the operator.
    home.cli(&["deliveries", "retry", "--status", "parked", "--yes"]);
    nothing_open(&home).await;
    daemon.client().send(&Event::new("evt_last", "message.received")).await.unwrap();
    let last = done(&home, "evt_last").await;
    let rows = home.json(&["deliveries", "list", "--status", "done", "--limit", "1000"]);
    let mut counts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows["rows"].as_array().unwrap() {
        let name = |key: &str| row[key].as_str().unwrap().to_owned();
        counts.entry(name("message")).or_default().push(format!("{} {}", name("event_id"), name("delivery")));
    }
    counts.retain(|_, of| of.len() > 1);
    assert!(counts.is_empty(), "two deliveries came to the same count: {counts:#?}");
    assert!(daemon.stop().success());
    assert_eq!(last["message"], format!("count {}", accepted + 1));
    assert_eq!(home.json(&["store", "stat"])["events"], accepted + 1);
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{KILLS} kills, {accepted} updates of one counter, none lost").unwrap();
}

/// Syncs of the journal for one delivery that is alone: the event and its end, and two for each call.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_costs_two_syncs_and_a_handler_without_calls_pays_for_none() {
    let receiver = Receiver::start(Arc::new(|_, _| 200)).await;
    for (script, calls) in
        [("SLEEP", 0), ("POST ORIGIN/a - {id}", 1), ("POST ORIGIN/a - {id}\nPOST ORIGIN/b - {id}", 2)]
    {
        let home = home(&receiver.origin, script, "");
        let daemon = home.start().await;
        let syncs = async || {
            let (_, page) = daemon.admin("/metrics").await;
            let line = page.lines().find_map(|line| line.strip_prefix("longshore_journal_syncs_total "));
            line.unwrap().parse::<u64>().unwrap()
        };
        let mut costs = Vec::new();
        for n in 0..5 {
            let (before, id) = (syncs().await, format!("evt_{n}"));
            daemon.client().send(&Event::new(&id, "message.received")).await.unwrap();
            done(&home, &id).await;
            costs.push(syncs().await - before);
        }
        // Upkeep may write in between.
        assert_eq!(costs.iter().min(), Some(&(2 + 2 * calls)), "{script}: {costs:?}");
    }
}
