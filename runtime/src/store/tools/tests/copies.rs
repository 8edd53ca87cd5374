//! Backups, exports and counts, held against what the ledger itself says.

use super::*;

type Numbers = BTreeMap<String, (u64, u64, u64)>;

fn numbers(backlog: &BTreeMap<String, crate::store::Backlog>) -> Numbers {
    let numbers = backlog.iter().map(|(name, one)| (name.clone(), (one.open, one.held, one.parked)));
    numbers.filter(|(_, numbers)| *numbers != (0, 0, 0)).collect()
}

#[tokio::test]
async fn the_files_alone_count_what_the_index_counts() {
    for (seed, with_retention) in [(21, false), (22, true), (rand::random(), true)] {
        println!("seed {seed}");
        let home = past(seed, 300, with_retention).await;
        let before = everything(home.path());
        let counted = stat(home.path(), Millis::now()).unwrap();
        assert_eq!(everything(home.path()), before, "nothing is written");
        let (ledger, _) = open_small(home.path(), options(home.path()), Millis::now());
        assert_eq!(numbers(&counted.backlog), numbers(&ledger.stat().backlog), "seed {seed}");
        assert!(counted.keys > 50 && counted.events > 20 && counted.damaged_places == 0, "{counted:?}");
        assert_eq!(counted.segments, check_segments(&counted));
    }
}

fn check_segments(counted: &OfflineStat) -> u64 {
    segment_files(&counted.path).len() as u64 - 1
}

fn export_all(snapshot: &Snapshot, filter: &ExportFilter) -> Vec<Value> {
    let mut lines = Vec::new();
    let count = snapshot
        .export(filter, &mut |line| {
            lines.push(serde_json::from_str(&line).unwrap());
            true
        })
        .unwrap();
    assert_eq!(count, lines.len() as u64);
    lines
}

#[tokio::test]
async fn an_export_says_what_the_ledger_says() {
    for (seed, with_retention) in [(31, false), (32, true), (rand::random(), true)] {
        println!("seed {seed}");
        let home = past(seed, 300, with_retention).await;
        let before = everything(home.path());
        let lines = export_all(&Snapshot::open(home.path()).unwrap(), &ExportFilter::default());
        assert_eq!(everything(home.path()), before, "nothing is written");
        let (ledger, answers) = answers(home.path()).await;
        let mut told = BTreeMap::new();
        for line in &lines {
            let event: EventRef = line["event"].as_str().unwrap().parse().unwrap();
            let row = ledger.event_row(event).await.unwrap().unwrap();
            assert_eq!(line["redeliveries"], row.redeliveries, "seed {seed}: {event}");
            let stored = ledger.event(event).await.unwrap();
            assert_eq!(line["body"].as_str().unwrap().as_bytes(), &stored.body[..]);
            assert_eq!(
                (line["id"].as_str(), line["type"].as_str()),
                (Some(&*stored.id), Some(&*stored.event_type))
            );
            for delivery in line["deliveries"].as_array().unwrap() {
                let id: DeliveryId = delivery["delivery"].as_str().unwrap().parse().unwrap();
                let status: Status = serde_json::from_value(delivery["status"].clone()).unwrap();
                let attempts = delivery["attempts"].as_array().unwrap();
                let numbers =
                    attempts.iter().map(|one| u32::try_from(one["number"].as_u64().unwrap()).unwrap());
                told.insert(id, (status, numbers.collect::<Vec<_>>()));
            }
        }
        assert_eq!(told, answers, "seed {seed}");
        let mut listed = 0;
        let mut filter = crate::store::tests::all_events();
        loop {
            let page = ledger.events(filter.clone()).await.unwrap();
            listed += page.rows.len();
            filter.cursor = page.next;
            if filter.cursor.is_none() {
                break;
            }
        }
        assert_eq!(lines.len(), listed, "seed {seed}");
    }
}

#[tokio::test]
async fn an_export_is_filtered() {
    let home = past(33, 200, false).await;
    let snapshot = Snapshot::open(home.path()).unwrap();
    let all = export_all(&snapshot, &ExportFilter::default());
    let slack =
        export_all(&snapshot, &ExportFilter { handler: Some(name("slack")), ..ExportFilter::default() });
    assert!(!slack.is_empty() && slack.len() < all.len());
    let handlers = slack.iter().flat_map(|line| line["deliveries"].as_array().unwrap());
    assert!(handlers.map(|delivery| &delivery["handler"]).all(|handler| handler == "slack"));
    let middle = Millis(all[all.len() / 2]["received_at"].as_u64().unwrap());
    let since = export_all(&snapshot, &ExportFilter { since: Some(middle), ..ExportFilter::default() });
    let until = export_all(&snapshot, &ExportFilter { until: Some(middle), ..ExportFilter::default() });
    assert_eq!(since.len() + until.len(), all.len());
    assert!(since.len() > 10 && until.len() > 10);
    for filter in [
        ExportFilter { source: Some(name("nobody")), ..ExportFilter::default() },
        ExportFilter { event_type: Some("no.such".into()), ..ExportFilter::default() },
    ] {
        assert_eq!(export_all(&snapshot, &filter).len(), 0, "{filter:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_text_is_exported_in_base64_and_a_reader_may_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open_small(dir.path(), options(dir.path()), Millis::now());
    for n in 0..3 {
        let mut accept = for_crm(&format!("evt_{n}"));
        accept.body = bytes::Bytes::from_static(&[0xFF, 0xFE, 0]);
        ledger.accept(accept).await.unwrap();
    }
    let lines = export_all(&ledger.snapshot(), &ExportFilter::default());
    assert_eq!(lines[0]["body_base64"], "//4A");
    assert!(lines[0].get("body").is_none());
    let stopped = ledger.snapshot().export(&ExportFilter::default(), &mut |_| false).unwrap();
    assert_eq!(stopped, 1);
}

#[tokio::test]
async fn a_backup_beside_accepts_and_a_retention_is_consistent_and_opens() {
    let home = tempfile::tempdir().unwrap();
    let mut life = Life::begin(home.path(), 41);
    for _ in 0..300 {
        life.step().await;
    }
    let snapshot = life.ledger().snapshot();
    // What comes after the snapshot, a segment that goes among it, is not in the copy.
    life.accept().await;
    life.retain().await;
    let backups = tempfile::tempdir().unwrap();
    let to = backups.path().join("monday");
    let copied = snapshot.copy(&to).unwrap();
    assert!(copied.segments > 3 && copied.linked < copied.segments, "{copied:?}");
    let proved = prove(&copied, life.now).await.unwrap();
    assert!(proved.events > 50 && proved.open > 0, "{proved:?}");
    let (ledger, _) = answers(&to).await;
    ledger.accept(for_crm("evt_restored")).await.unwrap();
    ledger.close().await.unwrap();
    drop(ledger);
    assert!(!check(&to).unwrap().is_damaged);
    life.accept().await;
    life.end().await;
    assert!(!check(home.path()).unwrap().is_damaged, "the original does not feel what is done to the copy");

    let again = Snapshot::open(home.path()).unwrap();
    let error = again.copy(&to).unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
    let offline = again.copy(&backups.path().join("tuesday")).unwrap();
    assert_eq!(offline.linked, offline.segments - 1, "{offline:?}");
    drop(again);
    prove(&offline, Millis::now()).await.unwrap();
}

#[tokio::test]
async fn a_copy_that_does_not_hold_is_not_praised() {
    let home = past(42, 150, false).await;
    let backups = tempfile::tempdir().unwrap();
    let to = backups.path().join("it");
    let copied = Snapshot::open(home.path()).unwrap().copy(&to).unwrap();
    let file = segment_files(&to).pop().unwrap();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();
    let error = prove(&copied, Millis::now()).await.unwrap_err().to_string();
    assert!(error.contains("does not hold") && error.contains("delete it"), "{error}");
}

#[tokio::test]
async fn the_figures_of_a_damaged_journal_are_counted_past_the_damage() {
    let home = past(43, 200, false).await;
    let file = &segment_files(home.path())[1];
    let mut bytes = fs::read(file).unwrap();
    bytes[2000] ^= 1;
    fs::write(file, bytes).unwrap();
    let counted = stat(home.path(), Millis::now()).unwrap();
    assert_eq!(counted.damaged_places, 1);
    let mut fold = Fold::default();
    survey(&home.path().join(JOURNAL), &mut |seen, past| fold.see(&seen, past.segments)).unwrap();
    assert_eq!(fold.events(), counted.events);
    // The journal is whole for an export or a backup, or there is none.
    let snapshot = Snapshot::open(home.path()).unwrap();
    assert!(matches!(snapshot.export(&ExportFilter::default(), &mut |_| true), Err(Error::Damaged { .. })));
}
