//! Journals with a random past, damaged at random or on purpose: what is said of them, and what is left after a
//! repair.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::check::{Examined, examine};
use super::stat::Fold;
use super::survey::survey;
use super::*;
use crate::store::codec::{CopyRecord, Record};
use crate::store::journal::disk::Real;
use crate::store::journal::format::{BATCH_HEADER, RECORD_HEADER, SEGMENT_HEADER};
use crate::store::tests::{
    DAY, delivery_of, done, failed, for_crm, name, new_event, open_small, options, request, settle_with,
};
use crate::store::{Ledger, Ruling, Settled, Status, Verdict};
use crate::words::digest::Digest;
use crate::words::event::{DeliveryId, EventRef, Name};
use crate::words::shelf::ShelfWrite;
use crate::words::time::Millis;

mod breaking;
mod copies;
mod mending;

/// A few segments of a random past, in a folder of its own. `with_retention`: old segments went, copies were made.
async fn past(seed: u64, steps: usize, with_retention: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut life = Life::begin(dir.path(), seed);
    for step in 0..steps {
        life.step().await;
        if with_retention && step == steps / 2 {
            life.retain().await;
        }
    }
    life.end().await;
    dir
}

struct Life {
    path: PathBuf,
    ledger: Option<Ledger>,
    rng: StdRng,
    now: Millis,
    /// With the number of the last attempt.
    deliveries: Vec<(DeliveryId, u32)>,
    ids: u32,
}

impl Life {
    fn begin(path: &Path, seed: u64) -> Life {
        let now = Millis::now();
        let ledger = Some(open_small(path, options(path), now).0);
        let rng = StdRng::seed_from_u64(seed);
        Life { path: path.to_owned(), ledger, rng, now, deliveries: Vec::new(), ids: 0 }
    }

    fn ledger(&self) -> &Ledger {
        self.ledger.as_ref().expect("it is open between steps")
    }

    async fn step(&mut self) {
        self.now = self.now.plus(std::time::Duration::from_millis(50));
        match self.rng.random_range(0..100) {
            0..45 => self.accept().await,
            45..80 => self.attempt().await,
            80..85 => self.rule().await,
            85..90 => self.hold().await,
            90..97 => self.again().await,
            _ => self.restart().await,
        }
    }

    async fn accept(&mut self) {
        self.ids += 1;
        let sizes = [10, 100, 900];
        let body = "b".repeat(sizes[self.rng.random_range(0..sizes.len())]);
        let events: Vec<_> = (0..self.rng.random_range(1..3_u32))
            .map(|n| {
                let to: &[(&str, &str)] = match self.rng.random_range(0..4) {
                    0 => &[],
                    1 => &[("to-crm", "crm"), ("to-slack", "slack")],
                    _ => &[("to-crm", "crm")],
                };
                new_event(&format!("evt_{}_{n}", self.ids), to)
            })
            .collect();
        let wanted: Vec<_> = events.iter().map(|event| event.deliveries.clone()).collect();
        let mut accept = request(events, &body);
        accept.received_at = self.now;
        let receipt = self.ledger().accept(accept).await.unwrap();
        for (accepted, deliveries) in receipt.events().iter().zip(wanted) {
            self.deliveries.extend(
                deliveries
                    .into_iter()
                    .map(|to| (DeliveryId { event: accepted.event, subscription: to.subscription }, 0)),
            );
        }
    }

    fn some_delivery(&mut self) -> Option<usize> {
        (!self.deliveries.is_empty()).then(|| self.rng.random_range(0..self.deliveries.len()))
    }

    async fn attempt(&mut self) {
        let Some(at) = self.some_delivery() else { return };
        let (id, before) = self.deliveries[at].clone();
        let number = before + 1;
        if self.ledger().begin(&id, number, Digest([3; 32]), self.now).await.is_err() {
            return;
        }
        self.deliveries[at].1 = number;
        let (outcome, verdict) = match self.rng.random_range(0..5) {
            0 => return,
            1 => (failed("503"), Verdict::Again { at: self.now.plus(DAY) }),
            2 => (failed("no"), Verdict::Dead { reason: "no".into() }),
            _ => (done(), Verdict::Done),
        };
        let mut settle = settle_with(&id, number, outcome, verdict);
        settle.handler = if id.subscription == name("to-crm") { name("crm") } else { name("slack") };
        if self.rng.random_bool(0.3) {
            settle.shelf.writes.insert("count".into(), ShelfWrite::Add { delta: 1, ttl: None });
        }
        assert_eq!(self.ledger().settle(settle, self.now).await.unwrap(), Settled::Written);
    }

    async fn rule(&mut self) {
        let Some(at) = self.some_delivery() else { return };
        let (id, before) = self.deliveries[at].clone();
        let ruling = if self.rng.random_bool(0.6) { Ruling::Retry } else { Ruling::Cancel };
        // One that has ended cannot be cancelled, and one whose event was dropped not be ruled at all.
        if self.ledger().rule(&id, ruling, self.now).await.is_ok() {
            self.deliveries[at].1 = before;
        }
    }

    async fn hold(&mut self) {
        let is_back = self.rng.random_bool(0.5);
        let wanted = move |_: &Name, handler: &Name| match handler.as_str() {
            "slack" if !is_back => Err("gone".to_owned()),
            _ => Ok(()),
        };
        self.ledger().hold_unwanted(wanted, self.now).await.unwrap();
    }

    async fn again(&mut self) {
        let id = self.rng.random_range(0..self.ids + 1);
        let mut accept = request(vec![new_event(&format!("evt_{id}_0"), &[])], "another body");
        accept.received_at = self.now;
        self.ledger().accept(accept).await.unwrap();
    }

    /// Old history goes, what is open is copied.
    async fn retain(&mut self) {
        self.now = self.now.plus(DAY * 20);
        self.ledger().close().await.unwrap();
        self.reopen(crate::store::Options { retain_bytes: 16 << 10, ..options(&self.path) });
        let retained = self.ledger().retain(self.now).await.unwrap();
        assert!(retained.segments_dropped > 0, "{retained:?}");
        self.ledger().close().await.unwrap();
        self.reopen(options(&self.path));
    }

    async fn restart(&mut self) {
        if self.rng.random_bool(0.5) {
            self.ledger().close().await.unwrap();
        }
        self.reopen(options(&self.path));
    }

    fn reopen(&mut self, options: crate::store::Options) {
        self.ledger = None;
        self.ledger = Some(open_small(&self.path, options, self.now).0);
    }

    async fn end(self) {
        self.ledger().close().await.unwrap();
    }
}

/// Every record of a whole journal: where it lies, its bytes, its kind and payload.
fn records(data: &Path) -> BTreeMap<u64, (u8, bytes::Bytes)> {
    let mut all = BTreeMap::new();
    let survey = survey(&data.join(JOURNAL), &mut |seen, _| {
        all.insert(seen.raw.position, (seen.raw.kind, seen.raw.payload.clone()));
    })
    .unwrap();
    assert!(!survey.is_damaged());
    all
}

fn segment_files(data: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(data.join(JOURNAL)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn copy_of(data: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join(JOURNAL)).unwrap();
    for file in segment_files(data) {
        fs::copy(&file, copy.path().join(JOURNAL).join(file.file_name().unwrap())).unwrap();
    }
    copy
}

/// Every file below a folder with its bytes: nothing may have been written.
fn everything(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.insert(path.clone(), Vec::new());
            all.extend(everything(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

fn repair(data: &Path) -> Repaired {
    let plan = Plan::make(data).unwrap();
    assert!(plan.is_needed());
    plan.carry_out(&(Arc::new(Real) as _), Millis::now()).unwrap()
}

/// The deliveries and their attempts, as a start finds them.
async fn answers(data: &Path) -> (Ledger, BTreeMap<DeliveryId, (Status, Vec<u32>)>) {
    let (ledger, _) = open_small(data, options(data), Millis::now());
    let mut all = BTreeMap::new();
    let mut filter = crate::store::tests::all_deliveries();
    loop {
        let page = ledger.deliveries(filter.clone()).await.unwrap();
        for row in page.rows {
            let history = ledger.delivery(&row.delivery).await.unwrap().unwrap();
            let numbers = history.attempts.iter().map(|attempt| attempt.number).collect();
            all.insert(row.delivery, (row.status, numbers));
        }
        filter.cursor = page.next;
        if filter.cursor.is_none() {
            return (ledger, all);
        }
    }
}
