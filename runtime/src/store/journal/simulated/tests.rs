//! The simulated disk keeps its own rules.

use super::*;

const DIR: &str = "/journal";

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn sync_dir(disk: &Simulated) {
    disk.sync_dir(Path::new(DIR)).unwrap();
}

/// Of a file that lost power, over many seeds.
fn outcomes(made: impl Fn(&Simulated)) -> BTreeSet<Option<Vec<u8>>> {
    let after = |seed| {
        let disk = Simulated::new(seed);
        made(&disk);
        disk.lose_power();
        content(&disk, "a")
    };
    (0..200).map(after).collect()
}

fn content(disk: &Simulated, name: &str) -> Option<Vec<u8>> {
    let file = disk.open(&path(name)).ok()?;
    let mut bytes = vec![0; 1 << 16];
    let len = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(len);
    assert_eq!(file.length().unwrap(), len as u64);
    Some(bytes)
}

fn synced(disk: &Simulated, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.create(&path("a")).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync().unwrap();
    sync_dir(disk);
    file
}

#[test]
fn what_was_synced_with_its_name_survives_and_nothing_else_is_sure_to() {
    let safe = outcomes(|disk| drop(synced(disk, b"one")));
    assert_eq!(safe, BTreeSet::from([Some(b"one".to_vec())]));

    let unsynced = outcomes(|disk| {
        let file = synced(disk, b"one");
        file.write_at(b" two", 3).unwrap();
    });
    let expected = [&b"one"[..], b"one two", b"one\0\0\0\0"];
    assert_eq!(unsynced, expected.into_iter().map(|bytes| Some(bytes.to_vec())).collect());

    let unnamed = outcomes(|disk| {
        let file = disk.create(&path("a")).unwrap();
        file.write_at(b"one", 0).unwrap();
        file.sync().unwrap();
    });
    assert_eq!(unnamed, BTreeSet::from([None, Some(b"one".to_vec())]));
}

#[test]
fn sectors_are_torn_each_on_its_own_and_may_hold_what_was_written_between() {
    let torn = outcomes(|disk| {
        let file = synced(disk, &[b'0'; 1024]);
        file.write_at(&[b'1'; 1024], 0).unwrap();
        file.write_at(&[b'2'; 1024], 0).unwrap();
    });
    let sectors = |found: &Option<Vec<u8>>| {
        let bytes = found.as_ref().unwrap();
        assert!(bytes.as_chunks::<512>().0.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        (bytes[0], bytes[512])
    };
    let found: BTreeSet<(u8, u8)> = torn.iter().map(sectors).collect();
    assert_eq!(found.len(), 9, "{found:?}");
}

#[test]
fn a_second_sync_after_a_failed_one_succeeds_and_proves_nothing() {
    let lost = outcomes(|disk| {
        let file = synced(disk, b"one");
        file.write_at(b" two", 3).unwrap();
        disk.fail(Ask::Sync, 0, Errno::IO);
        assert!(file.sync().is_err());
        file.sync().unwrap();
        assert_eq!(content(disk, "a").unwrap(), b"one two", "readable until then");
    });
    assert!(lost.contains(&Some(b"one".to_vec())) && lost.contains(&Some(b"one two".to_vec())), "{lost:?}");

    let written_again = outcomes(|disk| {
        let file = synced(disk, b"one");
        file.write_at(b" two", 3).unwrap();
        disk.fail(Ask::Sync, 0, Errno::IO);
        assert!(file.sync().is_err());
        file.write_at(b"!", 7).unwrap();
        file.sync().unwrap();
    });
    assert_eq!(written_again, BTreeSet::from([Some(b"one two!".to_vec())]), "its page was");
}

#[test]
fn a_process_that_ends_leaves_its_writes_readable_and_as_unsafe_as_before() {
    let kept = outcomes(|disk| {
        let file = synced(disk, b"one");
        file.write_at(b" two", 3).unwrap();
        disk.end_process();
        assert!(file.write_at(b"!", 0).is_err() && file.sync().is_err(), "its files are closed");
        assert_eq!(content(disk, "a").unwrap(), b"one two");
    });
    assert!(kept.contains(&Some(b"one".to_vec())));
    let synced_by_the_next = outcomes(|disk| {
        synced(disk, b"one").write_at(b" two", 3).unwrap();
        disk.end_process();
        disk.open(&path("a")).unwrap().sync().unwrap();
    });
    assert_eq!(synced_by_the_next, BTreeSet::from([Some(b"one two".to_vec())]));
}

#[test]
fn names_that_were_not_synced_come_and_go_each_on_its_own() {
    let seen: BTreeSet<(bool, bool)> = (0..200)
        .map(|seed| {
            let disk = Simulated::new(seed);
            synced(&disk, b"one");
            disk.rename(&path("a"), &path("b")).unwrap();
            assert!(disk.open(&path("a")).is_err());
            assert_eq!(disk.names(Path::new(DIR)).unwrap(), ["b"]);
            disk.lose_power();
            (content(&disk, "a").is_some(), content(&disk, "b").is_some())
        })
        .collect();
    assert_eq!(seen.len(), 4);
    let removed = outcomes(|disk| {
        synced(disk, b"one");
        disk.remove(&path("a")).unwrap();
    });
    assert_eq!(removed, BTreeSet::from([None, Some(b"one".to_vec())]));
    let removed_for_good = outcomes(|disk| {
        synced(disk, b"one");
        disk.remove(&path("a")).unwrap();
        sync_dir(disk);
    });
    assert_eq!(removed_for_good, BTreeSet::from([None]));
    let failed = outcomes(|disk| {
        disk.create(&path("a")).unwrap().sync().unwrap();
        disk.fail(Ask::SyncDir, 0, Errno::IO);
        assert!(disk.sync_dir(Path::new(DIR)).is_err());
    });
    assert_eq!(failed, BTreeSet::from([None, Some(vec![])]));
}

#[test]
fn a_full_disk_takes_what_fits_and_gives_back_what_is_freed() {
    let disk = Simulated::new(1);
    let file = disk.create(&path("a")).unwrap();
    disk.leave_room(Some(10));
    assert_eq!(disk.free_bytes(Path::new(DIR)).unwrap(), 10);
    assert!(file.preallocate(20).is_err());
    assert_eq!(disk.free_bytes(Path::new(DIR)).unwrap(), 0, "half of a reservation stays");
    assert_eq!(disk.refused(), 0);
    file.write_at(b"01234567", 0).unwrap();
    let error = file.write_at(b"89abc", 8).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.refused(), 1);
    assert_eq!(content(&disk, "a").unwrap(), b"0123456789");
    file.trim(4).unwrap();
    assert_eq!(content(&disk, "a").unwrap(), b"0123");
    assert_eq!(disk.free_bytes(Path::new(DIR)).unwrap(), 6);
    disk.remove(&path("a")).unwrap();
    assert_eq!(disk.free_bytes(Path::new(DIR)).unwrap(), 10);
}

#[test]
fn the_end_comes_in_the_middle_of_a_call_and_nothing_works_behind_it() {
    let parts: BTreeSet<usize> = (0..50)
        .map(|seed| {
            let disk = Simulated::new(seed);
            let file = disk.create(&path("a")).unwrap();
            disk.die_after(Some(1));
            file.write_at(b"one", 0).unwrap();
            assert!(!disk.is_dead());
            assert!(file.write_at(b"four", 3).is_err() && disk.is_dead());
            assert!(file.sync().is_err() && disk.open(&path("a")).is_err() && file.length().is_err());
            disk.end_process();
            content(&disk, "a").unwrap().len()
        })
        .collect();
    assert_eq!(parts, BTreeSet::from([3, 4, 5, 6]));
}

#[test]
fn what_is_durable_is_known_beforehand() {
    let disk = Simulated::new(1);
    let durable = || {
        let mut found = Vec::new();
        disk.for_each_durable(|path, bytes| found.push((path.to_owned(), bytes.to_vec())));
        found
    };
    let file = disk.create(&path("a")).unwrap();
    file.write_at(b"one", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(durable(), []);
    sync_dir(&disk);
    file.write_at(b" two", 3).unwrap();
    assert_eq!(durable(), [(path("a"), b"one".to_vec())]);
    disk.remove(&path("a")).unwrap();
    assert_eq!(durable(), []);
}

#[test]
fn a_bit_turns_for_good_and_the_word_before_a_call_comes_between() {
    let disk = Simulated::new(1);
    let file = synced(&disk, b"one");
    disk.flip(&path("a"), 1, 0).unwrap();
    assert_eq!(content(&disk, "a").unwrap(), b"ooe");
    assert_eq!(disk.flip(&path("a"), 3, 0), None);
    let told: Arc<Mutex<Vec<Ask>>> = Arc::default();
    let (of_hook, inside) = (told.clone(), disk.clone());
    disk.tell_before(Some(Box::new(move |ask| {
        of_hook.lock().unwrap().push(ask);
        assert_eq!(content(&inside, "a").unwrap(), b"ooe", "it can be read from inside");
    })));
    file.write_at(b"n", 1).unwrap();
    assert_eq!(*told.lock().unwrap(), [Ask::Write]);
}

#[test]
fn the_same_seed_and_calls_make_the_same_bytes() {
    let live = |seed| {
        let disk = Simulated::new(seed);
        for round in 0..10_u8 {
            let file = disk.create(&path("a")).unwrap();
            file.write_at(&[round; 5000], 100).unwrap();
            disk.fail(Ask::Sync, 0, Errno::IO);
            let _ = (file.sync(), disk.sync_dir(Path::new(DIR)));
            file.write_at(&[round; 3000], 3000).unwrap();
            if round % 3 == 0 { disk.end_process() } else { disk.lose_power() }
        }
        disk.image()
    };
    assert_eq!(live(7), live(7));
    assert_ne!(live(7), live(8));
}
