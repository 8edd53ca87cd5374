//! A plain model and the store live through the same random days, with deaths, clean stops and lost indexes.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

#[derive(Clone, Debug)]
struct ModelEvent {
    event: EventRef,
    expires: Millis,
    body: u8,
    status: Status,
    due: Millis,
    attempts: u32,
    begun: u32,
    redeliveries: u64,
}

struct Life {
    dir: tempfile::TempDir,
    options: Options,
    ledger: Option<Ledger>,
    rng: StdRng,
    now: Millis,
    /// By id, the latest event under it.
    events: BTreeMap<u32, ModelEvent>,
    /// Every event ever, by id.
    refs: BTreeMap<EventRef, u32>,
}

#[tokio::test]
async fn the_store_answers_as_a_plain_model_does() {
    // A failure prints its seed; put it here to live through it again.
    for seed in [rand::random(), 1, 2] {
        println!("seed {seed}");
        live(seed).await;
    }
}

async fn live(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    // Open deliveries that end of age would need a model of their own.
    let options = Options { open_age_max: DAY * 10_000, retain_age: DAY * 10, ..options(dir.path()) };
    let now = Millis::now();
    let (ledger, _) = open_small(dir.path(), options.clone(), now);
    let rng = StdRng::seed_from_u64(seed);
    let mut life =
        Life { dir, options, ledger: Some(ledger), rng, now, events: BTreeMap::new(), refs: BTreeMap::new() };
    for _ in 0..400 {
        life.step().await;
    }
    life.check().await;
}

impl Life {
    fn ledger(&self) -> Ledger {
        self.ledger.clone().expect("it is open between steps")
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..40 => self.accept().await,
            40..75 => self.attempt().await,
            75..80 => self.begin_only().await,
            80..90 => self.rule().await,
            90..96 => self.check().await,
            _ => self.restart().await,
        }
    }

    async fn accept(&mut self) {
        let id = self.rng.random_range(0..60);
        let body = self.rng.random_range(0..2_u8);
        let text = format!("{body}{}", "x".repeat(300));
        let mut accept = request(vec![new_event(&format!("evt_{id}"), &[("to-crm", "crm")])], &text);
        accept.received_at = self.now;
        let accepted = self.ledger().accept(accept).await.unwrap().events()[0].clone();
        let known = self.events.get_mut(&id).filter(|known| self.now < known.expires);
        match known {
            Some(known) => {
                let expected =
                    Accepted { event: known.event, duplicate: true, body_differs: known.body != body };
                assert_eq!(accepted, expected);
                known.redeliveries += 1;
            }
            None => {
                assert!(!accepted.duplicate, "evt_{id} is new, or new again");
                let event = ModelEvent {
                    event: accepted.event,
                    expires: self.now.plus(DAY * 7),
                    body,
                    status: Status::Open,
                    due: self.now,
                    attempts: 0,
                    begun: 0,
                    redeliveries: 0,
                };
                self.events.insert(id, event);
                assert!(self.refs.insert(accepted.event, id).is_none(), "a position names one event");
            }
        }
    }

    fn any(&mut self) -> Option<u32> {
        let ids: Vec<u32> = self.events.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[self.rng.random_range(0..ids.len())])
    }

    async fn begin(&mut self, id: u32) -> bool {
        let ledger = self.ledger();
        let known = self.events.get_mut(&id).unwrap();
        let number = known.attempts + known.begun + 1;
        let begun = ledger.begin(&delivery_of(known.event), number, Digest([3; 32]), self.now).await;
        let is_open = known.status == Status::Open;
        match begun {
            Ok(()) => known.begun += 1,
            Err(Error::WrongState(_, status)) => assert_eq!(status, known.status),
            Err(Error::NoSuchDelivery(_)) => assert!(known.status.is_ended(), "only history is dropped"),
            Err(other) => panic!("{other}"),
        }
        is_open
    }

    async fn begin_only(&mut self) {
        if let Some(id) = self.any() {
            self.begin(id).await;
        }
    }

    async fn attempt(&mut self) {
        let Some(id) = self.any() else { return };
        if !self.begin(id).await {
            return;
        }
        let again = self.now.plus(Duration::from_secs(self.rng.random_range(0..100_000)));
        let (verdict, status) = match self.rng.random_range(0..4) {
            0 => (Verdict::Again { at: again }, Status::Open),
            1 => (Verdict::Dead { reason: "no".into() }, Status::Dead),
            2 => (Verdict::Skipped, Status::Skipped),
            _ => (Verdict::Done, Status::Done),
        };
        let known = self.events.get_mut(&id).unwrap();
        let number = known.attempts + known.begun;
        known.attempts = number;
        known.begun = 0;
        known.status = status;
        if status == Status::Open {
            known.due = again;
        }
        let outcome = if status == Status::Dead { failed("no") } else { done() };
        let settle = settle_with(&delivery_of(known.event), number, outcome, verdict);
        assert_eq!(self.ledger().settle(settle, self.now).await.unwrap(), Settled::Written);
    }

    async fn rule(&mut self) {
        let Some(id) = self.any() else { return };
        let ruling = if self.rng.random_bool(0.6) { Ruling::Retry } else { Ruling::Cancel };
        let ledger = self.ledger();
        let known = self.events.get_mut(&id).unwrap();
        match (ledger.rule(&delivery_of(known.event), ruling, self.now).await, ruling) {
            (Ok(()), Ruling::Retry) => {
                known.attempts += known.begun;
                known.begun = 0;
                known.status = Status::Open;
                known.due = self.now;
            }
            (Ok(()), Ruling::Cancel) => known.status = Status::Cancelled,
            (Err(Error::WrongState(..)), Ruling::Cancel) => assert!(known.status.is_ended()),
            (Err(Error::NoSuchDelivery(_)), _) => assert!(known.status.is_ended(), "only history is dropped"),
            (Err(other), _) => panic!("{other}"),
        }
    }

    /// Nobody waits for the count of a redelivery, and a death may lose it; what is asked later comes behind it.
    async fn wait_for_notes(&self) {
        self.ledger().secrets_seen(&name("sendpilot"), &[], self.now).await.unwrap();
    }

    async fn restart(&mut self) {
        self.wait_for_notes().await;
        let ledger = self.ledger.take().unwrap();
        if self.rng.random_bool(0.5) {
            ledger.close().await.unwrap();
        }
        drop(ledger);
        if self.rng.random_bool(0.3) {
            std::fs::remove_dir_all(self.dir.path().join("index")).unwrap();
        }
        self.now = self.now.plus(DAY * self.rng.random_range(0..4));
        let (ledger, _) = open_small(self.dir.path(), self.options.clone(), self.now);
        self.ledger = Some(ledger);
        self.check().await;
        if self.rng.random_bool(0.5) {
            self.ledger().retain(self.now).await.unwrap();
            self.check().await;
        }
    }

    async fn check(&mut self) {
        self.wait_for_notes().await;
        let ledger = self.ledger();
        let due: BTreeMap<EventRef, OpenDelivery> =
            due(&ledger, Millis(u64::MAX)).await.into_iter().map(|open| (open.id.event, open)).collect();
        let latest: BTreeSet<EventRef> = self.events.values().map(|known| known.event).collect();
        for (id, known) in &self.events {
            let open = due.get(&known.event);
            assert_eq!(open.is_some(), known.status == Status::Open, "evt_{id}: {known:?}");
            if let Some(open) = open {
                assert_eq!(
                    (open.due, open.attempts, open.begun_without_end),
                    (known.due, known.attempts, known.begun),
                    "evt_{id}"
                );
            }
            let history = ledger.delivery(&delivery_of(known.event)).await.unwrap();
            match history {
                Some(history) => {
                    assert_eq!(history.row.status, known.status, "evt_{id}");
                    let row = ledger.event_row(known.event).await.unwrap().unwrap();
                    assert_eq!((row.id, row.redeliveries), (format!("evt_{id}"), known.redeliveries));
                    assert_eq!(history.row.event_id, format!("evt_{id}"));
                }
                None => {
                    assert!(known.status.is_ended(), "evt_{id} is {} and gone", known.status);
                    assert!(ledger.event_row(known.event).await.unwrap().is_none());
                }
            }
        }
        // Ids that were new again left events of their own behind.
        assert!(due.keys().all(|event| latest.contains(event) || self.refs.contains_key(event)));
        let stat = ledger.stat();
        let open = stat.backlog.get("crm").map_or(0, |backlog| backlog.open);
        assert_eq!(open, due.len() as u64);
        assert!(due.len() < 1000);
    }
}
