//! Tools: the store looked at, copied, printed and mended by the command line, beside a running daemon and without.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Event, Home, SECRET, SENDPILOT, wait_for};

/// A store that was stopped, with events that nobody wants.
async fn home_with_events(count: usize) -> Home {
    let home = Home::new(SENDPILOT);
    let mut daemon = home.start().await;
    for n in 0..count {
        let answer =
            daemon.client().send(&Event::new(&format!("evt_{n}"), "message.received")).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    assert!(daemon.stop().success());
    home
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Standard output and error, and how it ended.
fn run(home: &Home, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = home.cli(arguments);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn segments(home: &Home) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(home.data().join("journal")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Flips a bit of the body of the event with this id.
fn damage(home: &Home, id: &str) -> PathBuf {
    for file in segments(home) {
        let mut bytes = std::fs::read(&file).unwrap();
        let needle = format!("lead-of-{id}\"");
        if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle.as_bytes()) {
            bytes[at] ^= 1;
            std::fs::write(&file, bytes).unwrap();
            return file;
        }
    }
    panic!("no segment holds {id}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_refused_named_and_mended_and_only_the_damaged_event_is_gone() {
    let home = home_with_events(5).await;
    let (code, _, said) = run(&home, &["store", "check"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("5 requests, 5 events, 0 deliveries") && said.contains("the journal is whole"),
        "{said}"
    );
    let (code, _, said) = run(&home, &["store", "repair", "--yes"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("nothing is damaged"), "{said}");

    damage(&home, "evt_2");
    std::fs::remove_dir_all(home.data().join("index")).unwrap();
    let (code, _, said) = run(&home, &["run", "--config", "config.yaml"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("longshore store check") && said.contains("longshore store repair"), "{said}");
    let (code, found, said) = run(&home, &["store", "check"]);
    assert_eq!(code, Some(1));
    assert!(found.contains("is damaged at byte") && found.contains("id `evt_2`"), "{found}");
    assert!(found.contains("idempotency key sendpilot `evt_2`"), "{found}");
    assert!(said.contains("type: longshore store repair"), "{said}");
    let report: Value = serde_json::from_str(&run(&home, &["store", "check", "--json"]).1).unwrap();
    assert_eq!(report["damage"][0]["lost"][0]["events"][0]["id"], "evt_2");

    let before: Vec<_> = segments(&home).iter().map(|file| std::fs::read(file).unwrap()).collect();
    let (code, _, said) = run(&home, &["store", "repair"]);
    assert_eq!(code, Some(2), "nobody is there to ask");
    assert!(said.contains("add --yes"), "{said}");
    let after: Vec<_> = segments(&home).iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert_eq!(before, after, "nothing was changed");
    let (code, given_up, said) = run(&home, &["store", "repair", "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(given_up.contains("id `evt_2`") && said.contains("repair-"), "{given_up}{said}");

    let daemon = home.start().await;
    let events = home.json(&["events", "list"]);
    let ids: Vec<_> =
        events["rows"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["evt_4", "evt_3", "evt_1", "evt_0"]);
    assert_eq!(daemon.client().send(&Event::new("evt_2", "message.received")).await.unwrap().status, 200);
    assert_eq!(
        home.json(&["events", "list"])["rows"].as_array().unwrap().len(),
        5,
        "it came again, and is new"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_the_files_or_reads_them_all_is_not_done_beside_a_daemon() {
    let home = home_with_events(1).await;
    let _daemon = home.start().await;
    for command in ["check", "repair"] {
        let (code, _, said) = run(&home, &["store", command]);
        assert_eq!(code, Some(1));
        assert!(said.contains("a daemon runs on") && said.contains("type: longshore store"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_store_is_a_store() {
    let home = Home::new(SENDPILOT);
    let mut daemon = home.start().await;
    let client = daemon.client();
    for n in 0..20 {
        client.send(&Event::new(&format!("evt_{n}"), "message.received")).await.unwrap();
    }
    let to = home.path().join("monday");
    let (code, told, said) = run(&home, &["store", "backup", "monday"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(told.contains("20 events") && said.contains("to restore it, stop the daemon"), "{told}{said}");
    let (code, _, said) = run(&home, &["store", "backup", "monday"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("is not empty"), "{said}");
    client.send(&Event::new("evt_later", "message.received")).await.unwrap();
    assert_eq!(run(&home, &["store", "check", "--data-dir", "monday"]).0, Some(0));

    assert!(daemon.stop().success());
    std::fs::rename(home.data(), home.path().join("data.before")).unwrap();
    std::fs::rename(&to, home.data()).unwrap();
    let daemon = home.start().await;
    assert_eq!(home.json(&["events", "list"])["rows"].as_array().unwrap().len(), 20);
    assert_eq!(daemon.client().send(&Event::new("evt_3", "message.received")).await.unwrap().status, 200);
    // The count of redeliveries comes after the answer.
    wait_for("evt_3 to be known", async || {
        let events = home.json(&["events", "list", "--id", "evt_3"]);
        assert_eq!(events["rows"].as_array().unwrap().len(), 1, "{events}");
        (events["rows"][0]["redeliveries"] == 1).then_some(())
    })
    .await;
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_and_the_figures_are_the_same_with_a_daemon_and_without() {
    let home = home_with_events(7).await;
    let offline = run(&home, &["store", "export", "--source", "sendpilot"]);
    let stopped = home.json(&["store", "stat"]);
    assert_eq!(
        (stopped["daemon"].as_bool(), stopped["events"].as_u64(), stopped["keys"].as_u64()),
        (Some(false), Some(7), Some(7))
    );
    let mut daemon = home.start().await;
    let online = run(&home, &["store", "export", "--source", "sendpilot"]);
    let running = home.json(&["store", "stat"]);
    assert!(daemon.stop().success());
    assert_eq!((offline.0, online.0), (Some(0), Some(0)), "{}{}", offline.2, online.2);
    let (offline, online) = (lines(&offline.1), lines(&online.1));
    assert_eq!(offline, online);
    assert_eq!(offline.len(), 7);
    assert_eq!(offline[0]["id"], "evt_6");
    assert!(offline[0]["body"].as_str().unwrap().contains("lead-of-evt_6"));
    assert_eq!(running["daemon"], true);
    assert!(running["durable_position"].as_u64() >= stopped["durable_position"].as_u64());
    let all = format!("{offline:?}");
    assert!(!all.contains(SECRET) && !all.contains("webhook-signature\", \"t="), "{all}");
    assert_eq!(run(&home, &["store", "export", "--type", "no.such"]).1, "");
    let (code, table, _) = run(&home, &["store", "stat"]);
    assert_eq!(code, Some(0));
    assert!(table.contains("does not run"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_no_store_is_told_so_and_left_empty() {
    let home = Home::new(SENDPILOT);
    for command in ["check", "repair", "stat", "export"] {
        let (code, _, said) = run(&home, &["store", command]);
        assert_eq!(code, Some(1), "{command}");
        assert!(said.contains("holds no journal"), "{command}: {said}");
    }
    assert!(!Path::new(&home.data()).exists());
}
