//! The journal's promises about files, on a real disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::disk::Real;
use super::format::{BATCH_HEADER, SEGMENT_HEADER};
use super::held::{Call, Held};
use super::simulated::{Ask, Simulated};
use super::*;
use crate::store::Error;
use crate::store::machine::Machine;
use crate::words::limits::ZEROED_AHEAD_BYTES;
use crate::words::time::Millis;

const SEGMENT: u64 = 1 << 20;
const KIND_MAX: u8 = 9;

fn opening(dir: &Path, disk: Arc<dyn Disk>) -> Opening {
    let (machine, dir) = (Arc::new(Ticking::default()), dir.to_owned());
    Opening { disk, machine, dir, segment_bytes: SEGMENT, kind_max: KIND_MAX, now: Millis(1) }
}

/// Its clock goes by one whenever it is asked.
#[derive(Default)]
struct Ticking(AtomicU64);

impl Machine for Ticking {
    fn now_us(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    fn boot_id(&self) -> String {
        String::new()
    }

    fn salt(&self) -> u64 {
        rand::random()
    }
}

fn reopen(dir: &Path) -> Result<(Appender, Found), Error> {
    open(opening(dir, Arc::new(Real)))
}

fn append(journal: &mut Appender, payloads: &[&[u8]], sync: bool) -> Vec<u64> {
    let mut batch = journal.begin().unwrap();
    let positions = payloads.iter().map(|bytes| batch.push(&Draft::new(1, bytes.to_vec()), 0)).collect();
    journal.write(batch).unwrap();
    if sync {
        journal.sync().unwrap();
    }
    journal.publish();
    positions
}

/// Every payload, front to back.
fn payloads(segments: &Segments) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut position = segments.base();
    while let Some((header, records)) = segments.batch(position).unwrap() {
        all.extend(records.iter().map(|record| record.payload.to_vec()));
        position = header.end();
    }
    all
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn copy_dir(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in segment_files(from) {
        fs::copy(&file, to.path().join(file.file_name().unwrap())).unwrap();
    }
    to
}

#[test]
fn records_are_read_back_by_position_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, found) = reopen(dir.path()).unwrap();
    assert_eq!(found, Found::default());
    let large = vec![7; 10_000];
    let first = append(&mut journal, &[b"one", b"", &large], true);
    let second = append(&mut journal, &[b"two"], true);
    let segments = journal.segments().clone();
    assert_eq!(segments.record(first[0]).unwrap().unwrap().payload, &b"one"[..]);
    assert_eq!(segments.record(first[2]).unwrap().unwrap().payload, large);
    let two = segments.record(second[0]).unwrap().unwrap();
    let header = segments.batch_header(two.batch).unwrap().unwrap();
    assert_eq!((header.durable, header.durable_at, header.written_at), (two.batch, 2, 3));
    assert_eq!(segments.before(&header), Some(0));
    assert_eq!(payloads(&segments), [b"one".to_vec(), vec![], large, b"two".to_vec()]);
    assert!(matches!(segments.record(first[0] + 1), Err(Error::Damaged { .. })));
}

#[test]
fn a_full_segment_is_followed_by_another_and_positions_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = reopen(dir.path()).unwrap();
    let block = vec![1; 300_000];
    let mut positions = Vec::new();
    for _ in 0..10 {
        positions.extend(append(&mut journal, &[&block], true));
    }
    let segments = journal.segments().clone();
    assert_eq!(segments.list().len(), 3);
    for position in &positions {
        assert_eq!(segments.record(*position).unwrap().unwrap().payload.len(), block.len());
    }
    // Backwards over the seams.
    let mut batch = segments.batch_header(journal.last_batch()).unwrap().unwrap();
    let mut count = 1;
    while let Some(before) = segments.before(&batch) {
        batch = segments.batch_header(before).unwrap().unwrap();
        count += 1;
    }
    assert_eq!(count, 10);
    drop(journal);
    let (journal, found) = reopen(dir.path()).unwrap();
    assert_eq!(payloads(journal.segments()).len(), 10);
    assert_eq!(found.records_copied, 1, "the last batch is named durable by none after it");
}

#[test]
fn a_new_segment_is_in_its_directory_before_anything_in_it_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Held::default();
    let (mut journal, _) = open(opening(dir.path(), Arc::new(disk.clone()))).unwrap();
    append(&mut journal, &[&vec![0; SEGMENT as usize]], true);
    disk.take_calls();
    append(&mut journal, &[b"first of the second segment"], true);
    let new = "0000000002.new".to_owned();
    assert_eq!(
        disk.take_calls(),
        [
            Call::Create(new.clone()),
            Call::Write(new.clone()),
            Call::Sync(new.clone()),
            Call::Rename(new.clone(), "0000000002.seg".into()),
            Call::SyncDir,
            // The batch, and the zeros ahead of the next ones.
            Call::Write(new.clone()),
            Call::Write(new.clone()),
            Call::Sync(new),
        ]
    );
}

#[test]
fn batches_are_written_into_bytes_that_the_file_has_and_a_stop_gives_the_rest_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = reopen(dir.path()).unwrap();
    append(&mut journal, &[b"one"], true);
    let file = segment_files(dir.path()).remove(0);
    let length = || fs::metadata(&file).unwrap().len();
    let filled = length();
    append(&mut journal, &[b"two"], true);
    assert_eq!(length(), filled);
    let end = SEGMENT_HEADER as u64 + journal.end();
    assert!(end < filled && fs::read(&file).unwrap()[end as usize..].iter().all(|byte| *byte == 0));
    journal.trim();
    assert_eq!(length(), end);

    // After a crash the zeros are no torn tail.
    append(&mut journal, &[b"three"], true);
    drop(journal);
    assert!(length() > end);
    let (journal, found) = reopen(dir.path()).unwrap();
    assert_eq!((found.torn_bytes, journal.segments().list().len()), (0, 2));
    let all: [&[u8]; 3] = [b"one", b"two", b"three"];
    assert_eq!(payloads(journal.segments()), all);
}

#[test]
fn a_recovered_segment_is_not_appended_to_and_its_loose_end_is_copied_and_synced() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = reopen(dir.path()).unwrap();
    append(&mut journal, &[b"one"], true);
    append(&mut journal, &[b"two"], true);
    let loose = append(&mut journal, &[b"seen but not synced"], false);
    drop(journal);
    let first = || {
        let bytes = fs::read(&segment_files(dir.path())[0]).unwrap();
        let written = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        bytes[..written].to_vec()
    };
    let before = first();

    let disk = Held::default();
    let (mut journal, found) = open(opening(dir.path(), Arc::new(disk.clone()))).unwrap();
    assert_eq!(found.records_copied, 1, "the last batch names the two before it durable");
    assert_eq!(found.last_record, Some((loose[0], 1)));
    let calls = disk.take_calls();
    let new = "0000000002.new".to_owned();
    let tail = [Call::Sync(new.clone()), Call::Rename(new, "0000000002.seg".into()), Call::SyncDir];
    assert!(calls.ends_with(&tail), "{calls:?}");
    append(&mut journal, &[b"three"], true);
    assert_eq!(first(), before);
    let segments = journal.segments();
    assert_eq!(segments.record(loose[0]).unwrap().unwrap().payload, &b"seen but not synced"[..]);
    let all: [&[u8]; 4] = [b"one", b"two", b"seen but not synced", b"three"];
    assert_eq!(payloads(segments), all);
    drop(journal);
    let (journal, _) = reopen(dir.path()).unwrap();
    assert_eq!(payloads(journal.segments()), all);
}

#[test]
fn a_start_that_was_cut_short_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = reopen(dir.path()).unwrap();
    append(&mut journal, &[b"one"], true);
    drop(journal);
    fs::write(dir.path().join("0000000002.new"), b"half a segm").unwrap();
    let (journal, _) = reopen(dir.path()).unwrap();
    assert_eq!(payloads(journal.segments()), [b"one"]);
}

/// Two durable batches and a last one of three records that no header names durable.
fn with_a_loose_batch() -> (tempfile::TempDir, usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = reopen(dir.path()).unwrap();
    append(&mut journal, &[b"one", b"two"], true);
    append(&mut journal, &[b"three"], true);
    let from = SEGMENT_HEADER + usize::try_from(journal.end()).unwrap();
    append(&mut journal, &[b"four", b"five", b"six"], true);
    let to = SEGMENT_HEADER + usize::try_from(journal.end()).unwrap();
    (dir, from, to)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_whole() {
    let (dir, from, to) = with_a_loose_batch();
    let bytes = fs::read(&segment_files(dir.path())[0]).unwrap();
    for cut in from..to {
        let copy = copy_dir(dir.path());
        let file = fs::OpenOptions::new().write(true).open(&segment_files(copy.path())[0]).unwrap();
        file.set_len(cut as u64).unwrap();
        let (journal, found) = reopen(copy.path()).unwrap();
        // Zeros at the end are what a segment is filled with.
        let torn = bytes[from..cut].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        assert_eq!(found.torn_bytes, torn as u64);
        assert_eq!(payloads(journal.segments()), [&b"one"[..], b"two", b"three"], "cut at {cut}");
    }
}

#[test]
fn a_flipped_byte_is_damage_below_the_durable_mark_and_a_torn_tail_above_it() {
    let (dir, _, to) = with_a_loose_batch();
    let bytes = fs::read(&segment_files(dir.path())[0]).unwrap();
    // The last batch names everything before itself durable, but itself not: `three` is the last that is.
    let last = to - (BATCH_HEADER + 3 * 32 + "fourfivesix".len());
    let (mut damaged, mut cut) = (0, 0);
    for at in 0..to {
        let copy = tempfile::tempdir().unwrap();
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        fs::write(copy.path().join("0000000001.seg"), &flipped).unwrap();
        match reopen(copy.path()) {
            Err(Error::Damaged { .. }) if at < last => damaged += 1,
            Ok((journal, found)) if at >= last => {
                assert_eq!(payloads(journal.segments()).len(), 3, "flip at {at}");
                assert!(found.torn_bytes > 0);
                cut += 1;
            }
            Ok(_) => panic!("flip at {at} of {last} went unnoticed"),
            Err(other) => panic!("flip at {at} of {last}: {other}"),
        }
    }
    assert_eq!((damaged, cut), (last, to - last));
}

#[test]
fn damage_in_an_older_segment_and_a_missing_one_refuse() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = reopen(dir.path()).unwrap();
    let block = vec![1; 600_000];
    for _ in 0..6 {
        append(&mut journal, &[&block], true);
    }
    drop(journal);
    let files = segment_files(dir.path());
    assert_eq!(files.len(), 3);
    let copy = copy_dir(dir.path());
    fs::remove_file(copy.path().join(files[1].file_name().unwrap())).unwrap();
    assert!(matches!(reopen(copy.path()), Err(Error::Damaged { .. })));

    let mut bytes = fs::read(&files[0]).unwrap();
    bytes[5000] ^= 1;
    fs::write(&files[0], bytes).unwrap();
    let (journal, _) = reopen(dir.path()).unwrap();
    assert!(matches!(journal.segments().batch(0), Err(Error::Damaged { .. })), "seen when it is read");
}

#[test]
fn a_segment_whose_records_all_lie_in_the_one_before_it_is_not_missed() {
    let (dir, ..) = with_a_loose_batch();
    let all = payloads(reopen(dir.path()).unwrap().0.segments());
    // Two starts that went no further: each copied the loose batch, and only the last one's name is on disk.
    assert_eq!(payloads(reopen(dir.path()).unwrap().0.segments()), all);
    let files = segment_files(dir.path());
    fs::remove_file(&files[files.len() - 2]).unwrap();
    assert_eq!(payloads(reopen(dir.path()).unwrap().0.segments()), all);
}

#[test]
fn an_unknown_kind_refuses_also_in_an_older_segment() {
    let dir = tempfile::tempdir().unwrap();
    let newer = Opening { kind_max: KIND_MAX + 1, ..opening(dir.path(), Arc::new(Real)) };
    let (mut journal, _) = open(newer).unwrap();
    let mut batch = journal.begin().unwrap();
    batch.push(&Draft::new(KIND_MAX + 1, vec![0; SEGMENT as usize]), 0);
    journal.write(batch).unwrap();
    journal.sync().unwrap();
    assert!(matches!(reopen(dir.path()), Err(Error::UnknownKind(_, 10))));
    append(&mut journal, &[b"rotates"], true);
    drop(journal);
    assert!(matches!(reopen(dir.path()), Err(Error::UnknownKind(_, 10))));
}

#[test]
fn a_full_disk_leaves_the_journal_usable_and_a_failed_sync_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Held::default();
    let (mut journal, _) = open(opening(dir.path(), Arc::new(disk.clone()))).unwrap();
    append(&mut journal, &[b"one"], true);
    disk.fail_writes(Some(rustix::io::Errno::NOSPC.raw_os_error()));
    let batch = journal.begin().unwrap();
    assert!(matches!(journal.write(batch), Err(AppendError::Full(_))));
    disk.fail_writes(None);
    append(&mut journal, &[b"two"], true);
    assert_eq!(payloads(journal.segments()), [b"one", b"two"]);
    disk.fail_syncs(true);
    let mut batch = journal.begin().unwrap();
    batch.push(&Draft::new(1, b"lost".to_vec()), 0);
    journal.write(batch).unwrap();
    assert!(matches!(journal.sync(), Err(AppendError::Failed(_))));
}

#[test]
fn a_batch_that_found_no_room_does_not_come_back() {
    let disk = Simulated::new(7);
    let dir = Path::new("/journal");
    let reopen = || open(opening(dir, Arc::new(disk.clone()))).unwrap();
    let (mut journal, _) = reopen();
    append(&mut journal, &[b"kept"], true);
    // It ends in zeros, and all but some of those fit: what lies there is the batch, whole.
    disk.fail(Ask::Write, 0, rustix::io::Errno::NOSPC);
    let mut batch = journal.begin().unwrap();
    batch.push(&Draft::new(1, vec![0; ZEROED_AHEAD_BYTES / 2]), 0);
    assert!(matches!(journal.write(batch), Err(AppendError::Full(_))));
    disk.end_process();
    assert_eq!(payloads(reopen().0.segments()).len(), 1);
}

#[test]
fn an_empty_last_segment_is_made_again_whatever_became_of_its_name() {
    use super::simulated::{Ask, Simulated};
    use rustix::io::Errno;
    for seed in 0..50 {
        let disk = Simulated::new(seed);
        let start = || open(opening(Path::new("/journal"), Arc::new(disk.clone())));
        // A start names its segment, cannot sync the name, and dies before it takes it back.
        disk.fail(Ask::SyncDir, 0, Errno::IO);
        disk.fail(Ask::Remove, 0, Errno::IO);
        assert!(start().is_err());
        disk.end_process();
        let (mut journal, _) = start().unwrap();
        assert_eq!(journal.segments().list().len(), 1);
        append(&mut journal, &[b"one"], true);
        disk.lose_power();
        assert_eq!(payloads(start().unwrap().0.segments()), [b"one"], "seed {seed}");
    }
}

#[test]
fn an_unknown_kind_refuses_also_below_the_durable_mark_of_the_last_segment() {
    let dir = tempfile::tempdir().unwrap();
    let newer = Opening { kind_max: KIND_MAX + 1, ..opening(dir.path(), Arc::new(Real)) };
    let (mut journal, _) = open(newer).unwrap();
    let mut batch = journal.begin().unwrap();
    batch.push(&Draft::new(KIND_MAX + 1, b"new".to_vec()), 0);
    journal.write(batch).unwrap();
    journal.sync().unwrap();
    append(&mut journal, &[b"one"], true);
    append(&mut journal, &[b"two"], true);
    drop(journal);
    assert!(matches!(reopen(dir.path()), Err(Error::UnknownKind(_, 10))));
}

#[test]
fn blocks_that_cannot_be_reserved_are_done_without_and_given_back() {
    use std::os::unix::fs::MetadataExt;
    for errno in [rustix::io::Errno::NOSPC, rustix::io::Errno::INTR] {
        let dir = tempfile::tempdir().unwrap();
        let disk = Held::default();
        disk.fail_preallocations(Some(errno.raw_os_error()));
        let (mut journal, _) = open(opening(dir.path(), Arc::new(disk.clone()))).unwrap();
        append(&mut journal, &[&vec![0; SEGMENT as usize]], true);
        append(&mut journal, &[b"in the second segment"], true);
        let files = segment_files(dir.path());
        assert_eq!(files.len(), 2);
        assert!(fs::metadata(&files[1]).unwrap().blocks() * 512 < SEGMENT / 4);
        drop(journal);
        let (journal, _) = open(opening(dir.path(), Arc::new(disk))).unwrap();
        assert_eq!(payloads(journal.segments()).len(), 2);
    }
}

#[test]
fn a_rotation_without_a_free_file_may_be_tried_again_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Held::default();
    let (mut journal, _) = open(opening(dir.path(), Arc::new(disk.clone()))).unwrap();
    append(&mut journal, &[&vec![0; SEGMENT as usize]], true);
    let before = segment_files(dir.path());
    let fails = |errno: rustix::io::Errno| Some(errno.raw_os_error());
    for errno in [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE] {
        disk.fail_opens(fails(errno));
        assert!(matches!(journal.begin(), Err(AppendError::Full(_))));
        disk.fail_opens(None);
        assert_eq!(segment_files(dir.path()), before);
    }
    disk.fail_writes(fails(rustix::io::Errno::NOSPC));
    assert!(matches!(journal.begin(), Err(AppendError::Full(_))));
    disk.fail_writes(None);
    assert_eq!(segment_files(dir.path()), before, "nothing passing is left");
    append(&mut journal, &[b"in the second segment"], true);
    assert_eq!(payloads(journal.segments()).len(), 2);
}
