//! Pace: how fast it is here, printed and not judged. `cargo test -p longshore --lib pace -- --ignored --nocapture`

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::*;

const TIME: Duration = Duration::from_secs(5);
const SENDERS: u64 = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; nothing to fail"]
async fn pace_of_accepts_and_of_deliveries() {
    for with_delivery in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(dir.path());
        let (accepted, worst) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let started = Instant::now();
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (ledger, accepted, worst) = (ledger.clone(), accepted.clone(), worst.clone());
                tokio::spawn(async move {
                    let mut n = 0;
                    while started.elapsed() < TIME {
                        let id = format!("evt_{sender}_{n}");
                        let deliveries: &[(&str, &str)] =
                            if with_delivery { &[("to-crm", "crm")] } else { &[] };
                        let began = Instant::now();
                        let accept = request(vec![new_event(&id, deliveries)], &"x".repeat(600));
                        let event = accept_one(&ledger, accept).await;
                        worst.fetch_max(began.elapsed().as_micros() as u64, Ordering::Relaxed);
                        if with_delivery {
                            run_done(&ledger, event).await;
                        }
                        accepted.fetch_add(1, Ordering::Relaxed);
                        n += 1;
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.await.unwrap();
        }
        let stat = ledger.stat();
        println!(
            "{} events/s (delivered: {with_delivery}), {:.1} records a sync, sync {} us, worst accept {} us, index lag {}",
            accepted.load(Ordering::Relaxed) / TIME.as_secs(),
            stat.records as f64 / stat.syncs as f64,
            stat.sync_us_total / stat.syncs,
            worst.load(Ordering::Relaxed),
            stat.index_lag_records,
        );
        let closing = Instant::now();
        ledger.close().await.unwrap();
        println!("closed in {:?}, index of {} MiB", closing.elapsed(), ledger.stat().index_bytes >> 20);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; nothing to fail"]
async fn pace_of_starts_with_a_million_keys() {
    const KEYS: u64 = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let senders: Vec<_> = (0..256)
        .map(|sender| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                for n in 0..KEYS / 256 {
                    let event = new_event(&format!("evt_{sender}_{n}"), &[]);
                    while ledger.accept(request(vec![event.clone()], &"x".repeat(100))).await.is_err() {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    println!("filled: {}", memory());
    ledger.close().await.unwrap();
    let stat = ledger.stat();
    println!("journal {} MiB, index {} MiB", stat.journal_bytes >> 20, stat.index_bytes >> 20);
    drop(ledger);
    for lost in [false, true] {
        if lost {
            std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        let (ledger, recovery) = open_at(dir.path(), NOW);
        println!("index lost: {lost}, open in {} ms, {}", recovery.took_ms, memory());
        assert!(
            ledger.accept(request(vec![new_event("evt_7_7", &[])], "")).await.unwrap().events()[0].duplicate
        );
        ledger.close().await.unwrap();
        println!("closed, {}", memory());
    }
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |field: &str| {
        let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    format!("resident {} MiB, at most {} MiB", of("VmRSS"), of("VmHWM"))
}
