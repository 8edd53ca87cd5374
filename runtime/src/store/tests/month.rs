//! A month's load played fast: the disk stays bounded, and what somebody counts on is there at its end.

use std::collections::BTreeMap;

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::store::machine::{Machine, System};

const CAP: u64 = 1 << 20;
const SEGMENT: u64 = 16 * 1024;

#[tokio::test]
async fn a_month_of_load_stays_below_its_cap_and_forgets_nothing_that_counts() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { retain_bytes: CAP, retain_age: DAY * 10, ..options(dir.path()) };
    let start = Millis::now();
    let played = Arc::new(Played { start, passed: AtomicU64::new(0) });
    let open = |now| {
        let ground = Ground { machine: played.clone(), ..small(&options) };
        Ledger::open_upon(options.clone(), ground, now).unwrap().0
    };
    let mut now = start;
    let mut ledger = open(now);
    let mut waiting: BTreeMap<EventRef, Status> = BTreeMap::new();
    let (mut journal_max, mut index_max) = (0, 0);
    let mut last_of_day = Vec::new();
    for day in 0..30_u64 {
        for n in 0..100_u64 {
            now = played.pass(DAY / 100);
            let event = accept_one(&ledger, of_day(day, n, now)).await;
            last_of_day = vec![(day, n, event)];
            match n {
                7 => drop(waiting.insert(event, Status::Open)),
                8 => {
                    run(&ledger, &delivery_of(event), 1, failed("503"), Verdict::Again { at: now.plus(DAY) })
                        .await;
                    waiting.insert(event, Status::Open);
                }
                9 => {
                    ledger.park(&delivery_of(event), "it is in doubt", now).await.unwrap();
                    waiting.insert(event, Status::Parked);
                }
                n if n % 10 == 0 => {
                    let reason = Verdict::Dead { reason: "no".into() };
                    run(&ledger, &delivery_of(event), 1, failed("no"), reason).await;
                }
                _ => run_done(&ledger, event).await,
            }
            if n % 25 == 0 {
                ledger.retain(now).await.unwrap();
                let stat = ledger.stat();
                journal_max = stat.journal_bytes.max(journal_max);
                index_max = stat.index_bytes.max(index_max);
            }
        }
        if day % 7 == 3 {
            ledger.close().await.unwrap();
            drop(ledger);
            ledger = open(now);
        }
    }
    // What is under way is about a fifth of the cap by then; copies pass over it by a few segments at most.
    assert!(journal_max < CAP + 8 * SEGMENT, "the journal had {journal_max} bytes");
    assert!(index_max < 32 << 20, "the index had {index_max} bytes");
    for (event, status) in &waiting {
        let history = ledger.delivery(&delivery_of(*event)).await.unwrap().expect("it is under way");
        assert_eq!(history.row.status, *status, "{event}");
        assert_eq!(ledger.event(*event).await.unwrap().body.len(), 600);
    }
    let (day, n, event) = last_of_day[0];
    let again = ledger.accept(of_day(day, n, now)).await.unwrap();
    assert_eq!((again.events()[0].duplicate, again.events()[0].event), (true, event));
    let old = ledger.accept(of_day(29 - 6, 50, now)).await.unwrap();
    assert!(old.events()[0].duplicate, "it is in its window, and its event may be dropped");
    let older = ledger.accept(of_day(2, 50, now)).await.unwrap();
    assert!(!older.events()[0].duplicate, "its window is over");
}

/// A machine whose days pass as they are played.
struct Played {
    start: Millis,
    passed: AtomicU64,
}

impl Played {
    fn pass(&self, time: Duration) -> Millis {
        let ms = u64::try_from(time.as_millis()).unwrap();
        Millis(self.start.0 + self.passed.fetch_add(ms, Ordering::Relaxed) + ms)
    }
}

impl Machine for Played {
    fn now_us(&self) -> u64 {
        (self.start.0 + self.passed.load(Ordering::Relaxed)) * 1000
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.passed.load(Ordering::Relaxed))
    }

    fn boot_id(&self) -> String {
        System::default().boot_id()
    }

    fn salt(&self) -> u64 {
        System::default().salt()
    }
}

fn of_day(day: u64, n: u64, now: Millis) -> Accept {
    let accept = request(vec![new_event(&format!("evt_{day}_{n}"), &[("to-crm", "crm")])], &"x".repeat(600));
    Accept { received_at: now, dedupe_window: DAY * 7, ..accept }
}
