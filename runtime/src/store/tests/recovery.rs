//! Recovery: a process that dies, an index that is gone or wrong, a directory that is not ours.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;

use super::*;
use crate::store::journal::simulated::dice::Dice;

/// Everything that the store answers about a small past, as text.
async fn answers(ledger: &Ledger) -> String {
    let events = ledger.events(all_events()).await.unwrap();
    let deliveries = ledger.deliveries(all_deliveries()).await.unwrap();
    let mut histories = Vec::new();
    for row in &deliveries.rows {
        histories.push(ledger.delivery(&row.delivery).await.unwrap().unwrap());
    }
    let open = due(ledger, NOW.plus(DAY)).await;
    let seen =
        ledger.secrets_seen(&name("sendpilot"), &[Fingerprint([2; 6]), Fingerprint([1; 6])], NOW).await;
    let shelf = ledger.shelf_get(&name("crm"), "cursor", NOW).await.unwrap();
    let stat = ledger.stat();
    format!(
        "{}\n{}\n{}\n{open:?}\n{:?}\n{shelf:?}\n{:?} {}",
        serde_json::to_string_pretty(&events).unwrap(),
        serde_json::to_string_pretty(&deliveries).unwrap(),
        serde_json::to_string_pretty(&histories).unwrap(),
        seen.unwrap(),
        stat.backlog,
        stat.live_bytes,
    )
}

/// Shows the first line that differs: the whole is long.
fn same(now: &str, before: &str) {
    assert_eq!(now.lines().count(), before.lines().count());
    for (now, before) in now.lines().zip(before.lines()) {
        assert_eq!(now, before);
    }
}

/// Accepts, duplicates, retries, ends, holds, rulings and shelves.
async fn live_a_little(ledger: &Ledger, from: usize) {
    for n in from..from + 6 {
        let event = accept_one(ledger, for_crm(&format!("evt_{n}"))).await;
        let id = delivery_of(event);
        match n % 6 {
            0 => run_done(ledger, event).await,
            1 => run(ledger, &id, 1, failed("503"), Verdict::Again { at: NOW.plus(DAY) }).await,
            2 => run(ledger, &id, 1, failed("no"), Verdict::Dead { reason: "no".into() }).await,
            3 => ledger.rule(&id, Ruling::Cancel, NOW).await.unwrap(),
            4 => {
                ledger.begin(&id, 1, Digest([3; 32]), NOW).await.unwrap();
                let mut settle = settle_with(&id, 1, done(), Verdict::Done);
                let value = Bytes::from(format!("value {n} {}", "x".repeat(100)));
                let write = crate::words::shelf::ShelfWrite::Set { value, ttl: None };
                settle.shelf.writes.insert("cursor".into(), write);
                assert_eq!(ledger.settle(settle, NOW).await.unwrap(), Settled::Written);
            }
            _ => ledger.begin(&id, 1, Digest([3; 32]), NOW).await.unwrap(),
        }
        ledger.accept(for_crm(&format!("evt_{n}"))).await.unwrap();
    }
    let prints = [Fingerprint([2; 6]), Fingerprint([1; 6])];
    ledger.secrets_seen(&name("sendpilot"), &prints, NOW).await.unwrap();
}

#[tokio::test]
async fn a_process_that_dies_loses_nothing_and_an_index_is_as_good_as_its_journal() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("index");
    let ledger = open(dir.path());
    live_a_little(&ledger, 0).await;
    drop(ledger);

    // Died: the index is believed within this boot, and goes on from where it was.
    let (ledger, recovery) = open_at(dir.path(), NOW);
    assert_eq!(recovery.index_rebuilt, None);
    assert!(recovery.records_copied > 0);
    assert_eq!(recovery.open_deliveries, 2);
    let before = answers(&ledger).await;
    ledger.close().await.unwrap();
    drop(ledger);

    // A clean stop: believed, whatever the boot.
    let (ledger, recovery) = open_at(dir.path(), NOW);
    assert_eq!(recovery.index_rebuilt, None);
    same(&answers(&ledger).await, &before);
    ledger.close().await.unwrap();
    drop(ledger);
    let older = tempfile::tempdir().unwrap();
    copy(&index, older.path());

    // Gone.
    fs::remove_dir_all(&index).unwrap();
    let (ledger, recovery) = open_at(dir.path(), NOW);
    assert!(recovery.index_rebuilt.unwrap().contains("no index"));
    same(&answers(&ledger).await, &before);
    live_a_little(&ledger, 6).await;
    drop(ledger);
    // What was under way counts as interrupted from the next start on.
    let (ledger, _) = open_at(dir.path(), NOW);
    let before = answers(&ledger).await;
    drop(ledger);

    // An older copy of itself: it goes on from there.
    fs::remove_dir_all(&index).unwrap();
    copy(older.path(), &index);
    let (ledger, recovery) = open_at(dir.path(), NOW);
    assert_eq!(recovery.index_rebuilt, None);
    same(&answers(&ledger).await, &before);
    ledger.close().await.unwrap();
    drop(ledger);

    // Damaged all over: sled may see it, or say nothing and be empty; both are rebuilt.
    for file in files_of(&index) {
        let len = fs::metadata(&file).unwrap().len();
        let file = fs::OpenOptions::new().write(true).open(&file).unwrap();
        file.write_all_at(&vec![0xA5; usize::try_from(len).unwrap()], 0).unwrap();
    }
    let (ledger, recovery) = open_at(dir.path(), NOW);
    assert!(recovery.index_rebuilt.is_some());
    same(&answers(&ledger).await, &before);
}

fn files_of(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    // sled keeps an empty folder beside its file.
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_of(&path)) } else { files.push(path) }
    }
    files
}

fn copy(from: &Path, to: &Path) {
    for file in files_of(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, target).unwrap();
    }
}

#[tokio::test]
async fn an_index_of_another_journal_or_ahead_of_its_own_is_not_believed() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (dir, events) in [(&one, 1), (&other, 5)] {
        let ledger = open(dir.path());
        for n in 0..events {
            accept_one(&ledger, for_crm(&format!("evt_{n}"))).await;
        }
        ledger.close().await.unwrap();
    }
    for (from, to, events, why) in [(&other, &one, 1, "ahead"), (&one, &other, 5, "another journal")] {
        let saved = tempfile::tempdir().unwrap();
        copy(&to.path().join("index"), saved.path());
        fs::remove_dir_all(to.path().join("index")).unwrap();
        copy(&from.path().join("index"), &to.path().join("index"));
        let (ledger, recovery) = open_at(to.path(), NOW);
        let reason = recovery.index_rebuilt.unwrap();
        assert!(reason.contains(why), "{reason}");
        assert_eq!(due(&ledger, NOW).await.len(), events);
        drop(ledger);
        fs::remove_dir_all(to.path().join("index")).unwrap();
        copy(saved.path(), &to.path().join("index"));
    }
}

#[tokio::test]
async fn after_another_boot_only_a_clean_stop_is_believed() {
    use crate::store::{index::Index, keys};
    let dir = tempfile::tempdir().unwrap();
    let boot_elsewhere = || {
        Index::open(&super::super::index::on_sled::Folder(dir.path().join("index")))
            .unwrap()
            .put_raw(keys::BOOT, b"another")
    };
    let ledger = open(dir.path());
    accept_one(&ledger, for_crm("evt_0")).await;
    ledger.close().await.unwrap();
    drop(ledger);
    boot_elsewhere();
    let (ledger, recovery) = open_at(dir.path(), NOW);
    assert_eq!(recovery.index_rebuilt, None);
    accept_one(&ledger, for_crm("evt_1")).await;
    drop(ledger);
    boot_elsewhere();
    let (ledger, recovery) = open_at(dir.path(), NOW);
    assert_eq!(recovery.index_rebuilt.as_deref(), Some("the machine went down without a clean stop"));
    assert_eq!(due(&ledger, NOW).await.len(), 2);
    drop(ledger);
    // Opened and died at once: the clean stop before that is not the last word any more.
    let ledger = open(dir.path());
    ledger.close().await.unwrap();
    drop(ledger);
    drop(open(dir.path()));
    boot_elsewhere();
    assert!(open_at(dir.path(), NOW).1.index_rebuilt.is_some());
}

#[tokio::test]
async fn a_journal_cut_anywhere_in_its_last_batch_opens_with_what_was_durable() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    accept_one(&ledger, for_crm("evt_0")).await;
    accept_one(&ledger, for_crm("evt_1")).await;
    let kept = ledger.inner_end();
    accept_one(&ledger, for_crm("evt_2")).await;
    let end = ledger.inner_end();
    drop(ledger);
    let segment = fs::read_dir(dir.path().join("journal")).unwrap().next().unwrap().unwrap().path();
    // Every cut is tried on the journal alone; here a few, with the index above them.
    for cut in (kept..end).step_by(61) {
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        let torn = copied.path().join("journal").join(segment.file_name().unwrap());
        fs::OpenOptions::new().write(true).open(&torn).unwrap().set_len(64 + cut).unwrap();
        let (ledger, recovery) = open_at(copied.path(), NOW);
        let bytes = fs::read(&segment).unwrap();
        let torn = bytes[..64 + cut as usize].iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
        assert_eq!(recovery.torn_bytes, torn.saturating_sub(64 + kept));
        assert_eq!(due(&ledger, NOW).await.len(), 2);
        let again = ledger.accept(for_crm("evt_2")).await.unwrap();
        assert!(!again.events()[0].duplicate, "it was cut, so it is new");
        assert!(ledger.accept(for_crm("evt_1")).await.unwrap().events()[0].duplicate);
    }
}

#[tokio::test]
async fn a_backup_that_was_cut_short_is_not_started_from() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    fs::write(dir.path().join("unfinished"), "a copy is being made").unwrap();
    let refused = Ledger::open(options(dir.path()), NOW).map(|_| ()).unwrap_err();
    assert!(matches!(refused, Error::Directory(..)), "{refused}");
    assert!(
        refused.to_string().contains("is a backup that was cut short; take another: `rm -r "),
        "{refused}"
    );
    fs::remove_file(dir.path().join("unfinished")).unwrap();
    drop(open(dir.path()));
}

#[tokio::test]
async fn a_start_that_refuses_says_what_and_where() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    assert!(matches!(Ledger::open(options(dir.path()), NOW), Err(Error::Locked(_))));
    accept_one(&ledger, for_crm("evt_0")).await;
    accept_one(&ledger, for_crm("evt_1")).await;
    drop(ledger);
    let segment = fs::read_dir(dir.path().join("journal")).unwrap().next().unwrap().unwrap().path();
    let file = fs::OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 300).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 300).unwrap();
    let error = Ledger::open(options(dir.path()), NOW).err().unwrap();
    let Error::Damaged { segment: named, .. } = &error else { panic!("{error}") };
    assert_eq!(*named, segment);
    assert!(error.to_string().contains("`longshore store check`"), "{error}");
}

#[tokio::test]
async fn the_directory_is_closed_to_others_and_so_is_everything_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/by us");
    let ledger = open(&path);
    accept_one(&ledger, for_crm("evt_0")).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for folder in [path.clone(), path.join("journal"), path.join("index")] {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
    }
    for file in files_of(&path) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    drop(ledger);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let _ledger = open(&path);
    assert_eq!(mode(&path), 0o700);
}

#[tokio::test]
async fn a_store_that_is_closed_takes_nothing_and_still_answers_questions() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let event = accept_one(&ledger, for_crm("evt_0")).await;
    ledger.close().await.unwrap();
    ledger.close().await.unwrap();
    assert_eq!(ledger.refusing(), Some(Refused::Closing));
    assert_eq!(ledger.accept(for_crm("evt_1")).await.unwrap_err(), Refused::Closing);
    let begun = ledger.begin(&delivery_of(event), 1, Digest([0; 32]), NOW).await;
    assert!(matches!(begun, Err(Error::Closing)));
    assert_eq!(ledger.event(event).await.unwrap().id, "evt_0");
}

#[tokio::test]
async fn every_directory_that_is_made_is_synced_into_its_parent() {
    use crate::store::journal::held::Call;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("two/levels");
    let (_ledger, disk) = open_held(&path);
    let calls = disk.take_calls();
    // `two`, `levels` and `journal`, and the parent that was there; all before the first segment.
    let synced = calls.iter().take_while(|call| **call == Call::SyncDir).count();
    assert_eq!(synced, 3, "{calls:?}");
}

/// Does something to one of the files below a folder. Returns what, in words.
fn damage(folder: &Path, dice: &mut Dice) -> String {
    let mut files = files_of(folder);
    files.sort();
    let Some(path) = dice.pick(&files) else { return "nothing is left".to_owned() };
    let len = fs::metadata(path).unwrap().len();
    let open = || fs::OpenOptions::new().write(true).open(path).unwrap();
    let what = match dice.below(4) {
        0 if len > 0 => {
            let bytes = 1 + dice.below(20);
            for _ in 0..bytes {
                open().write_all_at(&[u8::try_from(dice.below(256)).unwrap()], dice.below(len)).unwrap();
            }
            format!("{bytes} bytes are others")
        }
        1 if len > 0 => {
            let left = dice.below(len);
            open().set_len(left).unwrap();
            format!("{left} of {len} bytes are left")
        }
        2 => {
            fs::remove_file(path).unwrap();
            "it is gone".to_owned()
        }
        _ => {
            let more = usize::try_from(dice.below(5000)).unwrap();
            open().write_all_at(&vec![0x5a; more], len).unwrap();
            format!("it has {more} bytes more")
        }
    };
    format!("{}: {what}", path.strip_prefix(folder).unwrap().display())
}

#[tokio::test]
async fn whatever_is_done_to_the_files_of_the_index_the_answers_are_the_same() {
    let first = tempfile::tempdir().unwrap();
    for from in [0, 6, 12, 18] {
        let ledger = open(first.path());
        live_a_little(&ledger, from).await;
        ledger.close().await.unwrap();
    }
    let ledger = open(first.path());
    let before = answers(&ledger).await;
    ledger.close().await.unwrap();
    drop(ledger);

    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let dir = tempfile::tempdir().unwrap();
        copy(first.path(), dir.path());
        if dice.percent(50) {
            // Then the index is believed for the boot's sake, and not for the stop's.
            drop(open(dir.path()));
        }
        let done: Vec<String> =
            (0..=dice.below(3)).map(|_| damage(&dir.path().join("index"), &mut dice)).collect();
        let (ledger, recovery) = open_at(dir.path(), NOW);
        println!("seed {seed}: {done:?}: {:?}", recovery.index_rebuilt);
        same(&answers(&ledger).await, &before);
        for n in 0..24 {
            let again = ledger.accept(for_crm(&format!("evt_{n}"))).await.unwrap();
            assert!(again.events()[0].duplicate, "seed {seed}: evt_{n} is new again");
        }
    }
}
