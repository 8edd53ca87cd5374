//! Random damage, mended: what no damage touched is answered for, what was given up is what was printed, and a
//! repair that dies half-way is typed again.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::store::journal::disk::{Disk, File};
use crate::store::journal::{BatchHeader, RawRecord};

/// What of a journal's bytes was damaged, as positions.
#[derive(Debug, Default)]
struct Broken {
    /// From and to, in positions; with the file's number.
    ranges: Vec<(u64, u64)>,
    /// Segments whose header and beginning were hit: they may be lost whole.
    lost_whole: Vec<(u64, u64)>,
}

struct Layout {
    /// By position: the record's end, and the batch that holds it.
    records: BTreeMap<u64, (u64, u64)>,
    batches: Vec<BatchHeader>,
    segments: Vec<(PathBuf, u64, u64)>,
}

fn layout(data: &Path) -> Layout {
    let mut records = BTreeMap::new();
    let survey = survey(&data.join(JOURNAL), &mut |seen, _| {
        let RawRecord { position, payload, batch, .. } = seen.raw;
        records.insert(*position, (position + (RECORD_HEADER + payload.len()) as u64, *batch));
    })
    .unwrap();
    let starts: BTreeSet<u64> = records.values().map(|(_, batch)| *batch).collect();
    let batches = starts.iter().map(|at| survey.segments.batch_header(*at).unwrap().unwrap()).collect();
    let segments = survey.parts.iter().map(|part| (part.path.clone(), part.base, part.end)).collect();
    Layout { records, batches, segments }
}

fn break_at_random(rng: &mut StdRng, data: &Path, layout: &Layout) -> Broken {
    let mut broken = Broken::default();
    for _ in 0..rng.random_range(1..6) {
        let (path, base, end) = &layout.segments[rng.random_range(0..layout.segments.len())];
        let path = data.join(JOURNAL).join(path.file_name().unwrap());
        let Ok(mut bytes) = fs::read(&path) else { continue };
        if bytes.len() <= SEGMENT_HEADER {
            continue;
        }
        let covered = usize::try_from(end - base).unwrap().min(bytes.len() - SEGMENT_HEADER);
        match rng.random_range(0..10) {
            0 => {
                fs::remove_file(&path).unwrap();
                broken.lost_whole.push((*base, *end));
                continue;
            }
            1 => {
                let at = rng.random_range(0..SEGMENT_HEADER);
                bytes[at] ^= 1 << rng.random_range(0..8);
                // What was in its first batch is needed to find out what the header said.
                let hit = broken.ranges.iter().any(|(from, to)| *from < base + 5000 && *to > *base);
                if hit {
                    broken.lost_whole.push((*base, *end));
                }
                broken.ranges.push((*base, *base));
            }
            2 if covered > 0 => {
                let cut = rng.random_range(0..covered);
                bytes.truncate(SEGMENT_HEADER + cut);
                broken.ranges.push((base + cut as u64, *end));
            }
            3..6 if covered > 0 => {
                let from = rng.random_range(0..covered);
                let to = (from + rng.random_range(1..700)).min(covered);
                for byte in &mut bytes[SEGMENT_HEADER + from..SEGMENT_HEADER + to] {
                    *byte = rng.random();
                }
                broken.ranges.push((base + from as u64, base + to as u64));
            }
            _ if covered > 0 => {
                let at = rng.random_range(0..covered);
                bytes[SEGMENT_HEADER + at] ^= 1 << rng.random_range(0..8);
                broken.ranges.push((base + at as u64, base + at as u64 + 1));
            }
            _ => {}
        }
        fs::write(&path, bytes).unwrap();
    }
    // A header that was damaged before its batch was.
    for (_, base, end) in &layout.segments {
        let header = broken.ranges.contains(&(*base, *base));
        let start = broken.ranges.iter().any(|(from, to)| to > from && *from < base + 5000 && *to > *base);
        if header && start {
            broken.lost_whole.push((*base, *end));
        }
    }
    broken
}

impl Broken {
    fn touches(&self, from: u64, to: u64) -> bool {
        let hits = |(start, end): &(u64, u64)| *start < to && *end > from;
        self.ranges.iter().any(hits) || self.lost_whole.iter().any(hits)
    }
}

/// What must be there: whole records, but those of a tail that nobody names durable any more.
fn must_be_left(layout: &Layout, broken: &Broken) -> BTreeSet<u64> {
    let (_, base, end) = layout.segments.last().unwrap();
    let is_hit = broken.touches(*base, *end) || broken.ranges.iter().any(|(from, _)| from == base);
    let headers = layout.batches.iter().filter(|batch| batch.position >= *base);
    let named = headers.filter(|batch| !broken.touches(batch.position, batch.position + BATCH_HEADER as u64));
    let durable = if is_hit { named.map(|batch| batch.durable).max().unwrap_or(*base) } else { *end };
    let whole = layout.records.iter().filter(|(from, (to, _))| !broken.touches(**from, *to));
    whole.map(|(position, _)| *position).filter(|position| *position < durable).collect()
}

/// Begun and settled, by delivery, from whole records alone.
fn attempts_in(
    records: &BTreeMap<u64, (u8, bytes::Bytes)>,
) -> (BTreeSet<DeliveryId>, BTreeMap<DeliveryId, BTreeSet<u32>>) {
    let (mut known, mut attempts) = (BTreeSet::new(), BTreeMap::<_, BTreeSet<u32>>::new());
    for (position, (kind, payload)) in records {
        match Record::decode(*kind, payload).unwrap() {
            Record::Accept(accept) => {
                known.extend(super::super::stat::deliveries_of(*position, &accept).map(|(id, _)| id));
            }
            Record::Settle(settle) => {
                attempts.entry(settle.delivery.clone()).or_default().insert(settle.attempt.number);
            }
            Record::Copy(CopyRecord::Whole { .. }) => {}
            _ => {}
        }
    }
    (known, attempts)
}

/// Where what a start cuts begins, or what is gone without a trace.
fn torn_from(report: &Report) -> u64 {
    let base_of = |file: &str| report.segments.iter().find(|one| one.file == file).unwrap().base;
    let torn = report.torn.as_ref();
    torn.map_or(report.end, |torn| base_of(&torn.segment) + torn.byte - SEGMENT_HEADER as u64)
}

/// Whether a position lies where the report says that nothing can be told from another.
fn unreadable(report: &Report, position: u64) -> bool {
    report.damage.iter().any(|damage| {
        let Some(segment) = report.segments.iter().find(|one| one.file == damage.segment) else {
            // Segments that are missing below the first.
            return position < report.segments[0].base;
        };
        let byte = (SEGMENT_HEADER as u64 + position).saturating_sub(segment.base);
        damage.unreadable.iter().any(|(from, to)| (*from..*to).contains(&byte))
    })
}

async fn break_and_mend(seed: u64, home: &Path) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (whole, layout) = (records(home), layout(home));
    let copy = copy_of(home);
    let broken = break_at_random(&mut rng, copy.path(), &layout);
    let expected = must_be_left(&layout, &broken);
    if segment_files(copy.path()).is_empty() {
        return;
    }
    let before = everything(copy.path());
    let Examined { report, .. } = examine(copy.path()).unwrap();
    assert_eq!(everything(copy.path()), before, "seed {seed}: a check writes nothing");
    if report.is_damaged {
        repair(copy.path());
    }
    let report_after = check(copy.path()).unwrap();
    assert!(!report_after.is_damaged, "seed {seed}: {:?}", report_after.damage);
    let left = records(copy.path());
    for position in &expected {
        assert_eq!(left.get(position), Some(&whole[position]), "seed {seed}: {position:x} of {broken:?}");
    }
    // What was given up is what was printed.
    let named: BTreeSet<u64> =
        report.damage.iter().flat_map(|damage| &damage.lost).map(|lost| lost.position).collect();
    let too_much: Vec<_> = expected.intersection(&named).collect();
    assert!(too_much.is_empty(), "seed {seed}: {too_much:x?} was printed as lost and is there");
    let torn = torn_from(&report);
    for position in whole.keys().filter(|position| !left.contains_key(position) && **position < torn) {
        let is_told = named.contains(position) || unreadable(&report, *position);
        assert!(is_told, "seed {seed}: {position:x} was given up and not printed: {:?}", report.damage);
    }
    // A start, and every delivery whose event is there with every attempt that is.
    let (ledger, answers) = answers(copy.path()).await;
    let whole_left: BTreeMap<_, _> =
        left.into_iter().filter(|(position, _)| expected.contains(position)).collect();
    let (known, attempts) = attempts_in(&whole_left);
    for id in known {
        let (_, numbers) = answers.get(&id).unwrap_or_else(|| panic!("seed {seed}: {id} is gone"));
        let numbers: BTreeSet<u32> = numbers.iter().copied().collect();
        let wanted = attempts.get(&id).cloned().unwrap_or_default();
        assert!(wanted.is_subset(&numbers), "seed {seed}: {id} has {numbers:?} of {wanted:?}");
        ledger.event(id.event).await.unwrap();
    }
    // Life goes on.
    ledger.accept(for_crm("evt_after")).await.unwrap();
    ledger.close().await.unwrap();
    drop(ledger);
    assert!(!check(copy.path()).unwrap().is_damaged, "seed {seed}");
}

/// The same seeds each time; `LONGSHORE_FROM=n` tries others.
#[tokio::test]
async fn what_no_damage_touched_is_answered_for_after_a_repair() {
    let first: u64 = std::env::var("LONGSHORE_FROM").map_or(1, |from| from.parse().unwrap());
    for round in 0..3 {
        let seed = first.wrapping_add(round * 1000);
        println!("seeds from {seed}");
        let home = past(seed, 220, round == 1).await;
        for again in 0..10 {
            break_and_mend(seed.wrapping_add(again), home.path()).await;
        }
    }
}

/// The rows that travel with a copied event name the last record of their delivery.
#[tokio::test]
async fn a_lost_record_that_only_a_copied_row_names_leaves_the_history_before_it() {
    let home = past(12, 300, true).await;
    let layout = layout(home.path());
    let mut heads = BTreeMap::new();
    for (kind, payload) in records(home.path()).into_values() {
        let Ok(Record::Copy(CopyRecord::Whole { position, state, .. })) = Record::decode(kind, &payload)
        else {
            continue;
        };
        for copy in state {
            for (subscription, row) in copy.rows {
                let event = EventRef { position, ordinal: copy.ordinal };
                let head = crate::store::rows::Row::decode(&row).unwrap().head;
                heads.insert(head, DeliveryId { event, subscription });
            }
        }
    }
    heads.retain(|head, _| layout.records.contains_key(head));
    assert!(!heads.is_empty(), "some copied delivery has a record that was not copied");
    for (head, id) in heads.into_iter().take(3) {
        let copy = copy_of(home.path());
        let (path, base, _) =
            layout.segments.iter().find(|(_, from, to)| (*from..*to).contains(&head)).unwrap();
        let file = copy.path().join(JOURNAL).join(path.file_name().unwrap());
        let mut bytes = fs::read(&file).unwrap();
        // From the header of its batch on, so that nothing tells where it began.
        let (end, batch) = layout.records[&head];
        let offset = |position: u64| SEGMENT_HEADER + usize::try_from(position - base).unwrap();
        bytes[offset(batch)..offset(end)].fill(0xA5);
        fs::write(&file, bytes).unwrap();
        repair(copy.path());
        let (ledger, answers) = answers(copy.path()).await;
        assert!(answers.contains_key(&id), "{id}");
        ledger.close().await.unwrap();
    }
}

/// Fails everything from a certain change on, as if the process had died there.
struct Dying {
    left: AtomicUsize,
}

impl Dying {
    fn may(&self) -> io::Result<()> {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| io::Error::other("the process died here"))
    }
}

struct DyingFile(Arc<dyn File>, Arc<Dying>);

struct DyingDisk(Arc<Dying>);

impl Disk for DyingDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.0.may()?;
        Ok(Arc::new(DyingFile(Real.create(path)?, self.0.clone())))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Real.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.may()?;
        Real.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.may()?;
        Real.remove(path)
    }
    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        Real.names(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.may()?;
        Real.sync_dir(dir)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        Real.free_bytes(dir)
    }
}

impl File for DyingFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.may()?;
        self.0.write_at(bytes, offset)
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.1.may()?;
        self.0.sync()
    }
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        self.0.preallocate(bytes)
    }
    fn trim(&self, len: u64) -> io::Result<()> {
        self.0.trim(len)
    }
}

#[tokio::test]
async fn a_repair_that_dies_half_way_leaves_each_segment_old_or_new_and_is_typed_again() {
    let home = past(11, 300, false).await;
    let files = segment_files(home.path());
    let broken = copy_of(home.path());
    for at in [1, 2] {
        let file = broken.path().join(JOURNAL).join(files[at].file_name().unwrap());
        let mut bytes = fs::read(&file).unwrap();
        bytes[3000] ^= 1;
        fs::write(&file, bytes).unwrap();
    }
    fs::create_dir(broken.path().join(INDEX)).unwrap();
    let whole = copy_of(broken.path());
    repair(whole.path());
    let wanted = records(whole.path());
    for left in 0.. {
        let copy = copy_of(broken.path());
        let old: Vec<_> = segment_files(copy.path()).iter().map(|file| fs::read(file).unwrap()).collect();
        let dying = DyingDisk(Arc::new(Dying { left: AtomicUsize::new(left) }));
        let done = Plan::make(copy.path()).unwrap().carry_out(&(Arc::new(dying) as _), Millis::now());
        for (at, old) in old.iter().enumerate() {
            let number = files[at].file_name().unwrap();
            let now = fs::read(copy.path().join(JOURNAL).join(number)).unwrap();
            let part = |bytes: &[u8]| bytes[..SEGMENT_HEADER].to_vec();
            assert!(now == *old || part(&now) != part(old), "segment {at} is neither");
        }
        if done.is_ok() {
            assert!(left > 10, "it died at {left} places");
            break;
        }
        if check(copy.path()).unwrap().is_damaged {
            repair(copy.path());
        }
        assert_eq!(records(copy.path()), wanted, "after {left} changes");
    }
}
