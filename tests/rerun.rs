//! Rerun: what happened, once more: from the daemon, from a copy of its data directory, from a file, with another plugin.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use serde_json::Value;

use crate::support::{Event, Home, Receiver, SENDPILOT, plugin, wait_for};

const SECRET: &str = "sk-live-rerun-5c1f0a9d";

/// A handler that posts to A, counts on its shelf, and fails for good at B as long as it is broken.
fn home(origin: &str) -> Home {
    let script = "POST ORIGIN/a - {now} {random}\nCOUNT\nGET ORIGIN/read -\nPOST ORIGIN/b - {id} {state}";
    let mut home = Home::new(&format!(
        r#"{SENDPILOT}handlers:
  scripted:
    plugin: {}
    settings: {{ do: script, script: {} }}
    secrets: {{ token: {{ from: "env:RERUN_SECRET", to: [ "{origin}" ] }} }}
    grants: {{ http: [ "{origin}" ], networks: [ 127.0.0.0/8 ] }}
    retry: {{ first_delay: 100ms, max_delay: 200ms, give_up_after: 1s }}
subscriptions:
  all: {{ source: sendpilot, events: [ "*" ], handler: scripted }}
"#,
        plugin("test_handlers").display(),
        Value::from(script.replace("ORIGIN", origin)),
    ));
    home.set_env("RERUN_SECRET", SECRET);
    home
}

/// The name of the one delivery that is dead.
async fn dead(home: &Home) -> String {
    let rows = wait_for("a dead delivery", async || {
        let listed = home.json(&["deliveries", "list", "--status", "dead"]);
        let rows = listed["rows"].as_array().unwrap().clone();
        (!rows.is_empty()).then_some(rows)
    });
    rows.await[0]["delivery"].as_str().unwrap().to_owned()
}

/// The same component with another word in it, as after a deploy.
fn mended(home: &Home) -> std::path::PathBuf {
    let mut bytes = std::fs::read(plugin("test_handlers")).unwrap();
    let at = bytes.windows(16).position(|word| word == b"handler:broken..").unwrap();
    bytes[at..at + 16].copy_from_slice(b"handler:mended..");
    let path = home.path().join("mended.wasm");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        let to = to.join(entry.file_name());
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_run_again_from_the_daemon_a_copy_and_a_file_and_ends_with_a_mended_plugin() {
    let receiver = Receiver::start(Arc::new(|path, _| if path == "/b" { 422 } else { 200 })).await;
    let home = home(&receiver.origin);
    let mut daemon = home.start().await;
    daemon.client().send(&Event::new("evt_1", "message.received")).await.unwrap();
    let delivery = dead(&home).await;
    let calls = receiver.calls.lock().unwrap().len();

    let again = home.cli(&["deliveries", "rerun", &delivery]);
    assert!(again.status.success(), "{}", text(&again));
    assert!(text(&again).contains("as it was then: 3 calls, byte for byte"), "{}", text(&again));
    let first = home.json(&["deliveries", "rerun", &delivery, "--attempt", "1"]);
    assert_eq!((&first["difference"], &first["attempt"]), (&Value::Null, &1.into()));
    assert_eq!(first["calls"][0]["recorded"], false);

    let exported = home.cli(&["deliveries", "export", &delivery, "--with-plugin"]);
    assert!(exported.status.success(), "{}", text(&exported));
    assert!(!text(&exported).contains(SECRET));
    let folder = home.path().join("deliveries");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("failed.delivery"), &exported.stdout).unwrap();

    assert!(daemon.stop().success());
    copy(&home.data(), &home.path().join("copy"));
    let of_copy = home.json(&["deliveries", "rerun", &delivery, "--data-dir", "copy"]);
    let of_file = home.json(&["deliveries", "rerun", "deliveries/failed.delivery"]);
    for rerun in [&of_copy, &of_file] {
        assert_eq!(rerun["difference"], Value::Null, "{rerun}");
        let digests = |told: &Value| -> Vec<Value> {
            told["calls"].as_array().unwrap().iter().map(|call| call["digest"].clone()).collect()
        };
        assert_eq!(digests(rerun), digests(&of_copy));
        assert_eq!(digests(rerun).len(), 3);
    }

    let mended = mended(&home);
    let mended = mended.to_str().unwrap();
    let fixed = home.cli(&["deliveries", "rerun", "deliveries/failed.delivery", "--plugin", mended]);
    let told = text(&fixed);
    assert!(fixed.status.success() && told.contains("done"), "{told}");
    assert!(
        told.contains("differs in call 2") && told.contains("evt_1 broken") && told.contains("evt_1 mended"),
        "{told}"
    );

    let tested = home.cli(&["plugin", "test", plugin("test_handlers").to_str().unwrap(), "deliveries"]);
    assert!(tested.status.success() && text(&tested).contains("1 of 1 as they were"), "{}", text(&tested));
    let tested = home.cli(&["plugin", "test", mended, "deliveries"]);
    assert!(!tested.status.success() && text(&tested).contains("call 2"), "{}", text(&tested));
    assert_eq!(receiver.calls.lock().unwrap().len(), calls, "nothing was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_attempt_for_real_sends_only_what_did_not_happen() {
    let receiver = Receiver::start(Arc::new(|path, _| if path == "/b" { 422 } else { 200 })).await;
    let home = home(&receiver.origin);
    let daemon = home.start().await;
    daemon.client().send(&Event::new("evt_2", "message.received")).await.unwrap();
    let delivery = dead(&home).await;
    let (a, b) = (receiver.calls("/a").len(), receiver.calls("/b"));
    let live = home.cli(&["deliveries", "rerun", &delivery, "--live"]);
    assert!(text(&live).contains("the ledger does not know"), "{}", text(&live));
    assert_eq!(receiver.calls("/a").len(), a, "it happened");
    let after = receiver.calls("/b");
    assert_eq!(after.len(), b.len() + 1);
    // Refused each time, so each is a call of its own.
    assert_ne!(after[b.len()].key, b[b.len() - 1].key);
}
