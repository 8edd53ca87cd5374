//! Damage on purpose, in each part of a segment: the words for it, the repair, the start after it.

use super::*;

/// A part of a segment to damage.
struct Place {
    name: &'static str,
    /// Byte of the file.
    byte: u64,
    /// Positions of the records that are lost with it.
    lost: BTreeSet<u64>,
    says: &'static str,
}

/// A batch's position, and where its records begin and end.
type Batch = (u64, Vec<(u64, u64)>);

/// Where batches and records lie in a segment, and its base.
fn batches(data: &Path, file: &Path) -> (u64, Vec<Batch>) {
    let mut by_batch: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    let survey = survey(&data.join(JOURNAL), &mut |seen, _| {
        let end = seen.raw.position + (RECORD_HEADER + seen.raw.payload.len()) as u64;
        by_batch.entry(seen.raw.batch).or_default().push((seen.raw.position, end));
    })
    .unwrap();
    let part = survey.parts.iter().find(|part| part.path == file).unwrap();
    let own = by_batch.into_iter().filter(|(batch, _)| (part.base..part.end).contains(batch));
    (part.base, own.collect())
}

fn places(data: &Path, file: &Path) -> Vec<Place> {
    let (base, batches) = batches(data, file);
    let byte = |position: u64| SEGMENT_HEADER as u64 + position - base;
    let (middle, records) = &batches[batches.len() / 2];
    let (position, end) = records[0];
    let only = BTreeSet::from([position]);
    let place = |name, byte, lost: &BTreeSet<u64>, says| Place { name, byte, lost: lost.clone(), says };
    let none = BTreeSet::new();
    vec![
        place("magic", 0, &none, "not a segment"),
        place("salt", 17, &none, "checksum of its header"),
        place("base", 33, &none, "checksum of its header"),
        place("previous batch", 41, &none, "checksum of its header"),
        place("header's checksum", 61, &none, "checksum of its header"),
        place("first batch's header", 64 + 20, &none, "there is no batch"),
        place("batch's magic", byte(*middle), &none, "there is no batch"),
        place("batch's position", byte(*middle) + 9, &none, "there is no batch"),
        place("batch's durable", byte(*middle) + 25, &none, "there is no batch"),
        place("batch's checksum", byte(*middle) + 61, &none, "there is no batch"),
        place("record's length", byte(position), &only, "a record's header is wrong"),
        place("record's kind", byte(position) + 8, &only, "a record's header is wrong"),
        place("record's link", byte(position) + 17, &only, "a record's header is wrong"),
        place("payload's checksum", byte(position) + 5, &only, "a record's header is wrong"),
        place("payload", byte(position) + 32, &only, "the checksum of a record is wrong"),
        place("payload's end", byte(end) - 1, &only, "the checksum of a record is wrong"),
    ]
}

fn flip(file: &Path, byte: u64) {
    let mut bytes = fs::read(file).unwrap();
    bytes[usize::try_from(byte).unwrap()] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_flipped_bit_costs_no_more_than_the_record_that_it_lies_in() {
    let home = past(1, 300, false).await;
    let whole = records(home.path());
    let files = segment_files(home.path());
    assert!(files.len() > 3, "{files:?}");
    let all = places(home.path(), &files[1]);
    assert_eq!(all.len(), 16);
    for place in all {
        let copy = copy_of(home.path());
        let file = segment_files(copy.path())[1].clone();
        flip(&file, place.byte);
        let before = everything(copy.path());
        let report = check(copy.path()).unwrap();
        assert_eq!(everything(copy.path()), before, "a check writes nothing");
        assert!(report.is_damaged, "{}", place.name);
        assert!(report.damage[0].why.contains(place.says), "{}: {:?}", place.name, report.damage);
        assert_eq!(report.damage[0].segment, file.file_name().unwrap().to_str().unwrap());
        assert!(
            matches!(Ledger::open(options(copy.path()), Millis::now()), Err(Error::Damaged { .. })),
            "{}",
            place.name
        );

        let copy = copy_of(home.path());
        let file = segment_files(copy.path())[1].clone();
        flip(&file, place.byte);
        let kept = repair(copy.path()).kept;
        assert_eq!(
            fs::read(kept.join(file.file_name().unwrap())).unwrap(),
            before[&before.keys().find(|path| path.ends_with(file.file_name().unwrap())).unwrap().clone()]
        );
        let mut left = records(copy.path());
        left.retain(|_, (kind, _)| *kind != crate::store::codec::Kind::Gap as u8);
        let lost: BTreeSet<u64> =
            whole.keys().filter(|position| !left.contains_key(position)).copied().collect();
        assert_eq!(lost, place.lost, "{}", place.name);
        assert!(left.iter().all(|(position, record)| whole[position] == *record), "{}", place.name);
        answers(copy.path()).await.0.close().await.unwrap();
        assert!(!check(copy.path()).unwrap().is_damaged, "{}", place.name);
    }
}

#[tokio::test]
async fn a_journal_that_is_whole_is_said_to_be_so_and_not_repaired() {
    let home = past(2, 150, true).await;
    let before = everything(home.path());
    let report = check(home.path()).unwrap();
    assert!(!report.is_damaged && report.inconsistent.is_empty() && report.torn.is_none(), "{report:?}");
    assert!(report.is_clean_stop && report.requests > 20 && report.records > 100, "{report:?}");
    assert!(!Plan::make(home.path()).unwrap().is_needed());
    assert_eq!(everything(home.path()), before);
}

#[tokio::test]
async fn a_missing_segment_costs_what_was_in_it() {
    let home = past(3, 300, false).await;
    let whole = records(home.path());
    let files = segment_files(home.path());
    for missing in [vec![1], vec![1, 2], vec![0], vec![0, 2]] {
        let copy = copy_of(home.path());
        for at in &missing {
            fs::remove_file(copy.path().join(JOURNAL).join(files[*at].file_name().unwrap())).unwrap();
        }
        let report = check(copy.path()).unwrap();
        let said: Vec<_> = report.damage.iter().map(|damage| damage.why.as_str()).collect();
        assert!(said.iter().any(|why| why.contains("missing")), "{said:?}");
        repair(copy.path());
        answers(copy.path()).await.0.close().await.unwrap();
        let left = records(copy.path());
        let mut gone = BTreeSet::new();
        for at in &missing {
            let (_, own) = batches(home.path(), &files[*at]);
            gone.extend(own.into_iter().flat_map(|(_, records)| records).map(|(position, _)| position));
        }
        for (position, record) in whole.iter().filter(|(position, _)| !gone.contains(position)) {
            assert_eq!(left.get(position), Some(record), "{missing:?}: {position:x}");
        }
        assert!(!check(copy.path()).unwrap().is_damaged, "{missing:?}");
    }
}

#[tokio::test]
async fn a_segment_cut_short_costs_its_end_and_a_last_one_is_torn() {
    let home = past(4, 300, false).await;
    let files = segment_files(home.path());
    for (at, is_torn) in [(1, false), (files.len() - 2, false), (files.len() - 1, true)] {
        let copy = copy_of(home.path());
        let file = segment_files(copy.path())[at].clone();
        let (base, own) = batches(home.path(), &files[at]);
        let Some((batch, _)) = own.last() else { panic!("{} holds nothing", file.display()) };
        let length = SEGMENT_HEADER as u64 + batch - base + 70;
        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length).unwrap();
        let report = check(copy.path()).unwrap();
        assert_eq!(
            (report.torn.is_some(), report.is_damaged),
            (is_torn, !is_torn),
            "segment {at}: {report:?}"
        );
        if is_torn {
            assert_eq!(report.torn.unwrap().bytes, 70);
            assert!(!Plan::make(copy.path()).unwrap().is_needed());
        } else {
            repair(copy.path());
        }
        answers(copy.path()).await.0.close().await.unwrap();
    }
}

#[tokio::test]
async fn nothing_of_a_segment_may_be_left_and_the_others_are() {
    let home = past(5, 300, false).await;
    let files = segment_files(home.path());
    for at in [1, files.len() - 1] {
        let copy = copy_of(home.path());
        let file = segment_files(copy.path())[at].clone();
        let length = fs::metadata(&file).unwrap().len();
        fs::write(&file, vec![0xA5; usize::try_from(length).unwrap()]).unwrap();
        let report = check(copy.path()).unwrap();
        assert!(report.damage.iter().any(|damage| damage.why == "nothing in it can be read"), "{report:?}");
        repair(copy.path());
        answers(copy.path()).await.0.close().await.unwrap();
        let end = check(copy.path()).unwrap().end;
        assert!(end >= check(home.path()).unwrap().end, "no position is given out a second time");
    }
}

#[tokio::test]
async fn a_record_of_a_newer_version_is_neither_damage_nor_given_up() {
    use crate::store::codec::KIND_MAX;
    use crate::store::journal::{self, Draft, Opening};
    let home = past(6, 20, false).await;
    let opening = Opening {
        disk: Arc::new(Real),
        machine: Arc::new(crate::store::machine::System::default()),
        dir: home.path().join(JOURNAL),
        segment_bytes: 1 << 20,
        kind_max: KIND_MAX + 1,
        now: Millis::now(),
    };
    let (mut journal, _) = journal::open(opening).unwrap();
    let mut batch = journal.begin().unwrap();
    batch.push(&Draft::new(KIND_MAX + 1, b"of a later version".to_vec()), 0);
    journal.write(batch).unwrap();
    journal.sync().unwrap();
    drop(journal);
    let report = check(home.path()).unwrap();
    assert!(!report.is_damaged);
    assert_eq!(report.unknown.len(), 1);
    assert_eq!(report.unknown[0].kind, KIND_MAX + 1);
    flip(&segment_files(home.path())[0], 200);
    assert!(matches!(Plan::make(home.path()), Err(Error::UnknownKind(..))));
}

#[tokio::test]
async fn a_store_that_runs_is_left_alone() {
    let home = past(7, 20, false).await;
    let (ledger, _) = open_small(home.path(), options(home.path()), Millis::now());
    assert!(matches!(check(home.path()), Err(Error::Locked(_))));
    assert!(matches!(Plan::make(home.path()), Err(Error::Locked(_))));
    assert!(matches!(stat(home.path(), Millis::now()), Err(Error::Locked(_))));
    drop(ledger);
    check(home.path()).unwrap();
    let nothing = tempfile::tempdir().unwrap();
    let error = check(nothing.path()).unwrap_err().to_string();
    assert!(error.contains("holds no journal"), "{error}");
    assert!(fs::read_dir(nothing.path()).unwrap().next().is_none(), "nor is anything made there");
}

#[tokio::test]
async fn what_depends_on_the_damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open_small(dir.path(), options(dir.path()), Millis::now());
    let fresh = |id: &str| crate::store::Accept { received_at: Millis::now(), ..for_crm(id) };
    let event = ledger.accept(fresh("evt_lost")).await.unwrap().events()[0].event;
    let other = ledger.accept(fresh("evt_kept")).await.unwrap().events()[0].event;
    for event in [event, other] {
        crate::store::tests::run_done(&ledger, event).await;
    }
    ledger.close().await.unwrap();
    drop(ledger);
    let file = segment_files(dir.path())[0].clone();
    // In the body's end: what stands before it reads, though nobody vouches for it.
    let length = records(dir.path())[&event.position].1.len() as u64;
    flip(&file, SEGMENT_HEADER as u64 + event.position + RECORD_HEADER as u64 + length - 1);
    let report = check(dir.path()).unwrap();
    assert!(report.damage.len() == 1, "{report:?}");
    let lost = &report.damage[0].lost[0];
    assert_eq!((lost.kind.as_str(), lost.events[0].id.as_str()), ("accept", "evt_lost"));
    assert_eq!(report.touched.events, [event], "its begun and its settle are whole");
    let touched: Vec<_> = report.touched.deliveries.iter().map(|one| one.delivery.clone()).collect();
    assert_eq!(touched, [delivery_of(event)]);
    assert_eq!(report.touched.keys[0].id, "evt_lost");

    repair(dir.path());
    let (ledger, answers) = answers(dir.path()).await;
    assert_eq!(answers.keys().cloned().collect::<Vec<_>>(), [delivery_of(other)]);
    assert!(matches!(ledger.event(event).await, Err(Error::NoSuchEvent(_))));
    let again = ledger.accept(fresh("evt_lost")).await.unwrap();
    assert!(!again.events()[0].duplicate, "nobody remembers it");
    let kept = ledger.accept(fresh("evt_kept")).await.unwrap();
    assert!(kept.events()[0].duplicate);
}

#[tokio::test]
async fn a_delivery_whose_end_is_lost_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open_small(dir.path(), options(dir.path()), Millis::now());
    let event = ledger.accept(for_crm("evt")).await.unwrap().events()[0].event;
    crate::store::tests::run_done(&ledger, event).await;
    ledger.close().await.unwrap();
    drop(ledger);
    let settle = records(dir.path()).into_iter().find(|(_, (kind, _))| *kind == 6).unwrap().0;
    let file = segment_files(dir.path())[0].clone();
    flip(&file, SEGMENT_HEADER as u64 + settle + RECORD_HEADER as u64 + 1);
    let plan = Plan::make(dir.path()).unwrap();
    assert!(plan.may_run_again());
    assert_eq!(
        plan.report().touched.deliveries[0].delivery,
        delivery_of(event),
        "its link says whose it was"
    );
    drop(plan);
    repair(dir.path());
    let (_, answers) = answers(dir.path()).await;
    assert_eq!(answers[&delivery_of(event)], (Status::Open, vec![]));
}

#[tokio::test]
async fn a_long_stretch_becomes_several_gaps_and_a_page_says_how_to_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open_small(dir.path(), options(dir.path()), Millis::now());
    let mut events = Vec::new();
    for n in 0..3 {
        let mut accept = for_crm(&format!("evt_{n}"));
        accept.body = bytes::Bytes::from(vec![b'x'; 3_500_000]);
        events.push(ledger.accept(accept).await.unwrap().events()[0].event);
    }
    ledger.close().await.unwrap();
    drop(ledger);
    let (_, own) = batches(dir.path(), &segment_files(dir.path())[1]);
    assert_eq!(own.iter().flat_map(|(_, records)| records).next().unwrap().0, events[1].position);
    let whole = everything(&dir.path().join(JOURNAL));
    fs::remove_file(&segment_files(dir.path())[1]).unwrap();
    let kept = repair(dir.path()).kept;
    let page = fs::read_to_string(kept.join("README")).unwrap();
    assert!(page.contains("To go back, stop the daemon and type:"), "{page}");
    let gaps: Vec<_> = records(dir.path()).into_values().filter(|(kind, _)| *kind == 13).collect();
    assert_eq!(gaps.len(), 4);
    let largest = usize::try_from(crate::words::limits::GAP_BYTES_MAX).unwrap();
    assert!(
        gaps.iter()
            .all(|(_, payload)| RECORD_HEADER + payload.len() <= largest + BATCH_HEADER + RECORD_HEADER)
    );
    assert!(gaps.iter().all(|(_, payload)| payload.iter().all(|byte| *byte == 0)));
    let (ledger, answers) = answers(dir.path()).await;
    assert_eq!(answers.len(), 2);
    for event in [events[0], events[2]] {
        assert_eq!(ledger.event(event).await.unwrap().body.len(), 3_500_000);
    }
    // What the page says: what was made goes, what was there comes back.
    drop(ledger);
    let rm = page.lines().find(|line| line.trim().starts_with("rm /")).unwrap().trim();
    fs::remove_file(rm.strip_prefix("rm ").unwrap()).unwrap();
    for (path, bytes) in whole {
        fs::write(path, bytes).unwrap();
    }
    fs::remove_dir_all(dir.path().join(INDEX)).unwrap();
    let report = check(dir.path()).unwrap();
    assert!(!report.is_damaged, "{:?}", report.damage);
}

#[tokio::test]
async fn links_that_are_not_remembered_are_looked_up() {
    let home = past(8, 200, true).await;
    let all = crate::store::tools::check::examine_remembering(home.path(), 0).unwrap().report;
    let few = crate::store::tools::check::examine_remembering(home.path(), 3).unwrap().report;
    assert!(all.inconsistent.is_empty() && few.inconsistent.is_empty(), "{:?}", all.inconsistent);
}

#[tokio::test]
async fn a_segment_whose_records_all_lie_in_the_one_before_it_is_not_missed() {
    use crate::store::journal::{self, Opening};
    let home = past(9, 60, false).await;
    // Two starts that went no further: each copies what no batch names durable.
    for _ in 0..2 {
        let opening = Opening {
            disk: Arc::new(Real),
            machine: Arc::new(crate::store::machine::System::default()),
            dir: home.path().join(JOURNAL),
            segment_bytes: 1 << 20,
            kind_max: crate::store::codec::KIND_MAX,
            now: Millis::now(),
        };
        journal::open(opening).unwrap();
    }
    let whole = records(home.path());
    let files = segment_files(home.path());
    fs::remove_file(&files[files.len() - 2]).unwrap();
    let report = check(home.path()).unwrap();
    assert!(!report.is_damaged && report.segments.iter().any(|one| one.bytes.is_none()), "{report:?}");
    assert!(!Plan::make(home.path()).unwrap().is_needed());
    assert_eq!(records(home.path()), whole);
    let snapshot = Snapshot::open(home.path()).unwrap();
    assert!(snapshot.export(&ExportFilter::default(), &mut |_| true).unwrap() > 0);
    drop(snapshot);
    answers(home.path()).await.0.close().await.unwrap();
}
