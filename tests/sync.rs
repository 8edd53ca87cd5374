//! Sync: no 200 leaves before the disk has said so. The daemon's own rooms, in this process, on a disk whose
//! syncs wait for a word, fail, or never return: the shipped binary has no switch for that.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use longshore::admin::{Admin, Facts};
use longshore::dispatch::{Dispatch, Lane};
use longshore::host::{self, Engine, Grants, Handler};
use longshore::intake::{self, Intake, Source, Tls};
use longshore::metrics::{ByOutcome, Metrics};
use longshore::store::journal::held::{Call, Held};
use longshore::store::{self, Durability, Ledger};
use longshore::words::digest::Digest;
use longshore::words::event::Name;
use longshore::words::limits::ATTEMPT_RESERVE_BYTES;
use longshore::words::secret::Secret;
use longshore::words::time::Millis;
use longshore::{backoff, route, verify};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Event, SECRET, plain, plain_text, plugin, wait_for};

const PATH: &str = "/webhooks/sendpilot";

/// The door, the ledger and the admin listener on a disk of the test's.
struct Scene {
    disk: Held,
    ledger: Ledger,
    metrics: Metrics,
    address: SocketAddr,
    admin: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let disk = Held::default();
        let options = store::Options {
            path: folder.path().join("data"),
            durability: Durability::PowerLoss,
            retain_age: Duration::from_secs(3600),
            retain_bytes: 1 << 30,
            open_age_max: Duration::from_secs(3600),
        };
        let (ledger, _) = Ledger::open_on(options, Arc::new(disk.clone()), Millis::now()).unwrap();
        let metrics = Metrics::default();
        let subscription = route::Subscription {
            name: name("all"),
            source: name("sendpilot"),
            handler: name("noop"),
            events: vec![route::Pattern::parse("*").unwrap()],
        };
        let routes = route::Table::new(vec![subscription]);
        let intake = Intake::new(door(), vec![source()], routes, ledger.clone(), metrics.clone());
        let guests = tokio::runtime::Handle::current();
        let nobody = Dispatch::start(Vec::new(), ledger.clone(), metrics.clone(), guests).await;
        let nobody = Arc::new(nobody.unwrap());
        let admin =
            Admin::new(ledger.clone(), Arc::clone(&intake), nobody, metrics.clone(), Facts::default());
        let (front, back) = (bind().await, bind().await);
        let (address, admin_address) = (front.local_addr().unwrap(), back.local_addr().unwrap());
        tokio::spawn(intake.serve(front, CancellationToken::new()));
        tokio::spawn(admin.serve_tcp(back, CancellationToken::new()));
        Scene { disk, ledger, metrics, address, admin: admin_address, _folder: folder }
    }

    fn post(&self, id: &str) -> JoinHandle<(u16, http::HeaderMap)> {
        let (address, event) = (self.address, Event::new(id, "message.received"));
        tokio::spawn(async move {
            plain(address, "POST", PATH, &[("webhook-signature", &event.signature())], &event.body).await
        })
    }

    async fn held_sync(&self) {
        let disk = self.disk.clone();
        tokio::task::spawn_blocking(move || disk.wait_for_held_sync()).await.unwrap();
    }

    /// The door is awake: it refuses a method while it makes others wait.
    async fn the_door_answers(&self) {
        assert_eq!(plain(self.address, "GET", PATH, &[], "").await.0, 405);
    }

    async fn ready(&self) -> u16 {
        self.asked("/readyz").await.0
    }

    async fn asked(&self, path: &str) -> (u16, String) {
        let (status, _, text) = plain_text(self.admin, "GET", path, &[], "").await;
        (status, text)
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn door() -> intake::Options {
    intake::Options {
        tls: Tls::Off,
        behind_proxy: false,
        body_bytes_max: 1 << 20,
        connections_max: 64,
        requests_max: 64,
        header_timeout: Duration::from_secs(5),
        body_timeout: Duration::from_secs(5),
        drain: Duration::from_secs(1),
    }
}

fn source() -> Source {
    let preset = verify::preset("sendpilot").unwrap();
    let scheme = verify::Scheme::compile(&preset.scheme, &preset.event).unwrap_or_else(|p| panic!("{p:?}"));
    let key = scheme.key(&Secret::new(SECRET), None).unwrap_or_else(|why| panic!("{why}"));
    Source {
        name: name("sendpilot"),
        path: PATH.to_owned(),
        enabled: true,
        scheme,
        keys: ArcSwap::from_pointee(vec![key]),
        dedupe_window: Duration::from_secs(3600),
        rate: None,
        public_url: String::new(),
        handshakes: intake::Handshakes::default(),
        fetch: None,
    }
}

/// `behaviour`: of the misbehaving component.
fn lane(behaviour: &str) -> Lane {
    let engine = Engine::new(host::Options { cache: None, instances_max: 4 }).unwrap();
    let grants = Grants {
        name: name("noop"),
        settings: serde_json::json!({"do": behaviour}).as_object().unwrap().clone(),
        secrets: BTreeMap::new(),
        origins: Vec::new(),
        networks: Vec::new(),
        limits: host::CallLimits { timeout: Duration::from_secs(300), ..host::CallLimits::default() },
        effects: host::EffectPolicy::default(),
    };
    let loaded = engine.load(&plugin("test_handlers")).unwrap();
    let handler = Handler::bind(&engine, loaded, grants).map_err(|p| format!("{p:?}")).unwrap().0;
    let retry = backoff::Policy {
        give_up_after: Duration::from_secs(60),
        first_delay: Duration::from_secs(1),
        factor: 2.0,
        max_delay: Duration::from_secs(1),
        jitter: backoff::Jitter::None,
    };
    Lane { handler: Arc::new(handler), concurrency: 4, rate: None, retry, breaker: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_200_leaves_before_the_sync_returns_and_two_copies_wait_for_one_sync() {
    let scene = Scene::new().await;
    scene.disk.hold();
    let first = scene.post("evt_1");
    scene.held_sync().await;
    let (copy, other) = (scene.post("evt_1"), scene.post("evt_2"));
    for _ in 0..20 {
        scene.the_door_answers().await;
    }
    for (what, request) in [("the first", &first), ("its copy", &copy), ("another", &other)] {
        assert!(!request.is_finished(), "{what} was answered while the sync was held back");
    }
    scene.disk.release();
    for request in [first, copy, other] {
        assert_eq!(request.await.unwrap().0, 200);
    }
    let events = scene.ledger.events(store::EventFilter { limit: 10, ..Default::default() }).await.unwrap();
    assert_eq!(events.rows.len(), 2, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_is_a_503_turns_readiness_red_and_ends_accepting_and_calling() {
    let scene = Scene::new().await;
    assert_eq!(scene.post("evt_1").await.unwrap().0, 200);
    assert_eq!(scene.ready().await, 200);
    scene.disk.fail_syncs(true);
    let (status, headers) = scene.post("evt_2").await.unwrap();
    assert_eq!(status, 503);
    assert!(headers.contains_key("retry-after"), "{headers:?}");
    let (status, why) = scene.asked("/readyz").await;
    assert_eq!(status, 503);
    assert!(why.contains("the store failed") && why.contains("restart the daemon"), "{why}");
    let (_, page) = scene.asked("/metrics").await;
    for line in ["longshore_ready 0", "longshore_store_failed 1"] {
        assert!(page.lines().any(|l| l == line), "no `{line}` in\n{page}");
    }
    scene.disk.fail_syncs(false);
    assert_eq!(scene.post("evt_3").await.unwrap().0, 503, "a later sync that succeeds proves nothing");
    assert_eq!(scene.ready().await, 503);

    // The delivery of the first event is open; a lane that starts now may not call its handler.
    let lanes = Dispatch::start(
        vec![lane("noop")],
        scene.ledger.clone(),
        scene.metrics.clone(),
        tokio::runtime::Handle::current(),
    )
    .await
    .unwrap();
    let open =
        scene.ledger.deliveries(store::DeliveryFilter { limit: 10, ..Default::default() }).await.unwrap();
    assert_eq!(open.rows.len(), 1, "{open:?}");
    let begun = scene.ledger.begin(&open.rows[0].delivery, 1, Digest::of(b""), Millis::now()).await;
    assert!(matches!(begun, Err(store::Error::Failed(_))), "{begun:?}");
    // More than one look of the lane into the index.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    lanes.drain(Duration::from_secs(5)).await;
    let done = ByOutcome { handler: "noop".to_owned(), outcome: "done".to_owned() };
    assert_eq!(scene.metrics.attempts.get_or_create(&done).get(), 0, "the handler was called");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_ends_the_call_that_is_under_way() {
    let scene = Scene::new().await;
    assert_eq!(scene.post("evt_1").await.unwrap().0, 200);
    let lanes = Dispatch::start(
        vec![lane("loop")],
        scene.ledger.clone(),
        scene.metrics.clone(),
        tokio::runtime::Handle::current(),
    )
    .await
    .unwrap();
    wait_for("the call to be under way", async || (lanes.stat()[0].running == 1).then_some(())).await;
    scene.disk.fail_syncs(true);
    assert_eq!(scene.post("evt_2").await.unwrap().0, 503);
    // It has five minutes of its own, which are longer than anybody waits here.
    wait_for("the call to be given up", async || (lanes.stat()[0].running == 0).then_some(())).await;
    lanes.drain(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_attempt_begins_while_its_end_would_not_fit_on_the_disk_and_none_is_lost() {
    let scene = Scene::new().await;
    assert_eq!(scene.post("evt_1").await.unwrap().0, 200);
    scene.disk.pretend_free(Some(ATTEMPT_RESERVE_BYTES - 1));
    wait_for("the store to notice", async || scene.ledger.may_begin().err()).await;
    let lanes = Dispatch::start(
        vec![lane("noop")],
        scene.ledger.clone(),
        scene.metrics.clone(),
        tokio::runtime::Handle::current(),
    )
    .await
    .unwrap();
    wait_for("the lane to find it", async || (lanes.stat()[0].in_memory == 1).then_some(())).await;
    assert_eq!(lanes.stat()[0].running, 0);
    assert!(!scene.metrics.encode().contains("longshore_attempts_total{"), "an attempt was counted");

    scene.disk.pretend_free(None);
    let done = ByOutcome { handler: "noop".to_owned(), outcome: "done".to_owned() };
    let count = || scene.metrics.deliveries.get_or_create(&done).get();
    wait_for("the delivery to be done", async || (count() == 1).then_some(())).await;
    let rows =
        scene.ledger.deliveries(store::DeliveryFilter { limit: 10, ..Default::default() }).await.unwrap();
    assert_eq!(rows.rows[0].attempts, 1, "{rows:?}");
    lanes.drain(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_sync_is_a_503_within_ten_seconds() {
    let scene = Scene::new().await;
    scene.disk.hold();
    let started = Instant::now();
    let first = scene.post("evt_1");
    scene.held_sync().await;
    let others: Vec<_> = ["evt_1", "evt_2", "evt_3"].map(|id| scene.post(id)).into();
    for request in std::iter::once(first).chain(others) {
        let (status, headers) = request.await.unwrap();
        assert_eq!(status, 503);
        assert!(headers.contains_key("retry-after"), "{headers:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(11), "answered after {:?}", started.elapsed());
    assert_eq!(scene.ready().await, 200, "nothing has failed");
    scene.disk.release();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_is_in_its_directory_before_its_first_answer() {
    let scene = Scene::new().await;
    assert_eq!(scene.post("evt_1").await.unwrap().0, 200);
    let calls = scene.disk.take_calls();
    let at = |wanted: &dyn Fn(&Call) -> bool| calls.iter().position(wanted);
    let named = at(&|call| matches!(call, Call::Rename(..))).expect("a segment got its name");
    // Those before are of the directories themselves, when they were made.
    let directory =
        calls.iter().rposition(|call| matches!(call, Call::SyncDir)).expect("its directory was synced");
    let data = calls.iter().rposition(|call| matches!(call, Call::Sync(_))).expect("the batch was synced");
    assert!(named < directory && directory < data, "{calls:?}");
}
