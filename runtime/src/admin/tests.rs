//! The two routers over a real ledger, asked without a socket; and the loop that serves them.

use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::routing::get;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::*;
use crate::intake::{self, Source, Tls};
use crate::store::{Accept, Durability, NewDelivery, NewEvent, Options};
use crate::verify::{self, Scheme};
use crate::words::limits;
use crate::words::secret::Secret;
use crate::{route, store};

/// An admin with one source, one event of it and one delivery that no lane takes.
struct Scene {
    admin: Arc<Admin>,
    event: String,
    _data: TempDir,
}

const NEW: &str = "whsec_new_new_new_new_new";
const OLD: &str = "whsec_old_old_old_old_old";

async fn scene(body: &'static [u8]) -> Scene {
    let data = tempfile::tempdir().unwrap();
    let ledger = open(data.path());
    let accepted = ledger.accept(accept(body)).await.unwrap();
    let metrics = Metrics::default();
    let intake =
        Intake::new(door(), vec![source()], route::Table::default(), ledger.clone(), metrics.clone());
    let guests = tokio::runtime::Handle::current();
    let dispatch = Dispatch::start(Vec::new(), ledger.clone(), metrics.clone(), guests).await.unwrap();
    let admin = Admin::new(ledger, intake, Arc::new(dispatch), metrics, facts());
    Scene { admin, event: accepted.events()[0].event.to_string(), _data: data }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn open(path: &std::path::Path) -> Ledger {
    let options = Options {
        path: path.to_owned(),
        durability: Durability::PowerLoss,
        retain_age: limits::RETAIN_AGE_DEFAULT,
        retain_bytes: limits::RETAIN_BYTES_DEFAULT,
        open_age_max: limits::OPEN_AGE_MAX_DEFAULT,
    };
    Ledger::open(options, Millis::now()).unwrap().0
}

fn accept(body: &'static [u8]) -> Accept {
    let delivery = NewDelivery { subscription: name("to-slack"), handler: name("slack") };
    Accept {
        source: name("sendpilot"),
        received_at: Millis::now(),
        signed_at: None,
        secret: Secret::new(NEW).fingerprint(),
        query: Some("a=b".to_owned()),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: Bytes::from_static(body),
        dedupe_window: Duration::from_secs(3600),
        events: vec![NewEvent {
            id: "evt_1".to_owned(),
            also: None,
            event_type: "message.received".to_owned(),
            range: None,
            test: true,
            deliveries: vec![delivery],
        }],
    }
}

fn door() -> intake::Options {
    intake::Options {
        tls: Tls::Off,
        behind_proxy: false,
        body_bytes_max: limits::MIB,
        connections_max: 8,
        requests_max: 8,
        header_timeout: Duration::from_secs(1),
        body_timeout: Duration::from_secs(1),
        drain: Duration::from_secs(1),
    }
}

/// The older secret ended at 10 s after the epoch.
fn source() -> Source {
    let preset = verify::preset("sendpilot").unwrap();
    let scheme = Scheme::compile(&preset.scheme, &preset.event).unwrap();
    let keys = vec![
        scheme.key(&Secret::new(NEW), None).unwrap(),
        scheme.key(&Secret::new(OLD), Some(Millis(10_000))).unwrap(),
    ];
    Source {
        name: name("sendpilot"),
        path: "/webhooks/sendpilot".to_owned(),
        enabled: true,
        scheme,
        keys: ArcSwap::from_pointee(keys),
        dedupe_window: Duration::from_secs(7 * 24 * 3600),
        rate: None,
        public_url: String::new(),
        handshakes: intake::Handshakes::default(),
        fetch: None,
    }
}

fn facts() -> Facts {
    let secret = |text: &str, from: &str| SecretFacts {
        fingerprint: Secret::new(text).fingerprint(),
        from: from.to_owned(),
        until: None,
    };
    let source = SourceFacts {
        scheme: "preset sendpilot".to_owned(),
        rotation_window: Duration::from_secs(4),
        secrets: Arc::new(ArcSwap::from_pointee(vec![secret(NEW, "env:NEW"), secret(OLD, "env:OLD")])),
    };
    Facts {
        started_at: Millis(5),
        listen: Some(([127, 0, 0, 1], 8443).into()),
        certificate: Some("certs/it.pem".into()),
        sources: [(name("sendpilot"), source)].into(),
        ..Facts::default()
    }
}

// === asking ===

async fn ask(router: Router, method: &str, target: &str) -> (StatusCode, String, String) {
    let request = Request::builder().method(method).uri(target).body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, kind, String::from_utf8(body.to_vec()).unwrap())
}

impl Scene {
    async fn public(&self, target: &str) -> (StatusCode, String, String) {
        ask(api::public(Arc::clone(&self.admin)), "GET", target).await
    }

    async fn private(&self, method: &str, target: &str) -> (u16, Value) {
        let (status, kind, text) = ask(api::private(Arc::clone(&self.admin)), method, target).await;
        assert_eq!(kind, "application/json", "{target}");
        (status.as_u16(), serde_json::from_str(&text).unwrap())
    }

    async fn get(&self, target: &str) -> Value {
        let (status, answer) = self.private("GET", target).await;
        assert_eq!(status, 200, "{target}: {answer}");
        answer
    }
}

#[tokio::test]
async fn figures_and_readiness_are_for_everybody_on_this_machine_and_history_is_not() {
    let scene = scene(b"{}").await;
    let (status, kind, page) = scene.public("/metrics").await;
    assert_eq!((status, kind.as_str()), (StatusCode::OK, scrape::CONTENT_TYPE));
    assert!(page.ends_with("# EOF\n") && page.matches("# EOF").count() == 1, "{page}");
    assert!(page.contains("longshore_ready 1\n"), "{page}");
    assert_eq!(scene.public("/healthz").await.0, StatusCode::OK);
    assert_eq!(scene.public("/readyz").await.0, StatusCode::OK);
    for private in ["/events", "/deliveries", "/sources", "/handlers", "/stat", "/export", "/backup"] {
        assert_eq!(scene.public(private).await.0, StatusCode::NOT_FOUND, "{private}");
    }
}

#[tokio::test]
async fn readiness_says_why_not() {
    let scene = scene(b"{}").await;
    scene.admin.drain();
    let (status, kind, text) = scene.public("/readyz").await;
    assert_eq!((status, kind.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8"));
    assert_eq!(text, "draining: the daemon is stopping and takes no new events\n");
    assert_eq!(scene.get("/stat").await["ready"], false);

    let scene = self::scene(b"{}").await;
    scene.admin.ledger.close().await.unwrap();
    let (status, _, text) = scene.public("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, format!("{}\n", store::Refused::Closing));
    assert!(scene.public("/metrics").await.2.contains("longshore_ready 0\n"));
    assert_eq!(scene.public("/healthz").await.0, StatusCode::OK, "it is up all the same");
}

#[tokio::test]
async fn an_event_is_found_by_what_is_known_of_it_and_shown_whole() {
    let scene = scene(b"{\"a\":1}").await;
    let found = [
        "/events",
        "/events?source=sendpilot&type=message.received&id=evt_1&since=0&until=99999999999999&limit=1",
        "/events?limit=0",
        "/events?limit=99999999",
    ];
    for target in found {
        assert_eq!(scene.get(target).await["rows"][0]["event"], scene.event, "{target}");
    }
    assert_eq!(scene.get("/events?type=message.sent").await["rows"], json!([]));
    let shown = scene.get(&format!("/events/{}", scene.event)).await;
    assert_eq!(shown["id"], "evt_1");
    assert_eq!(shown["body"], "{\"a\":1}");
    assert_eq!(shown["query"], "a=b");
    assert_eq!(shown["headers"], json!([["content-type", "application/json"]]));
    assert_eq!(shown["deliveries"][0]["status"], "open");
}

#[tokio::test]
async fn a_body_that_is_no_text_is_base64() {
    let scene = scene(b"\xff\x00").await;
    let shown = scene.get(&format!("/events/{}", scene.event)).await;
    assert_eq!((&shown["body"], &shown["body_base64"]), (&Value::Null, &json!("/wA=")));
}

#[tokio::test]
async fn an_export_longer_than_a_chunk_comes_whole_and_filtered() {
    let body: &'static [u8] = vec![b'x'; limits::EXPORT_CHUNK_BYTES].leak();
    let scene = scene(body).await;
    for n in 0..limits::EXPORT_CHUNKS_MAX + 3 {
        let mut accept = accept(body);
        accept.events[0].id = format!("evt_more_{n}");
        scene.admin.ledger.accept(accept).await.unwrap();
    }
    let export = async |target: &str| ask(api::private(Arc::clone(&scene.admin)), "GET", target).await;
    let (status, kind, text) = export("/export?source=sendpilot&since=0").await;
    assert_eq!((status, kind.as_str()), (StatusCode::OK, "application/jsonl"));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), limits::EXPORT_CHUNKS_MAX + 4);
    assert_eq!(lines.last().unwrap()["event"], scene.event);
    assert!(lines.iter().all(|line| line["body"].as_str().unwrap().len() == body.len()));
    assert_eq!(export("/export?handler=nobody").await.2, "");
    assert_eq!(scene.private("GET", "/export?what=else").await.0, 400);
}

#[tokio::test]
async fn a_backup_is_made_in_an_empty_folder_named_from_the_root() {
    let scene = scene(b"{}").await;
    let folder = tempfile::tempdir().unwrap();
    let target = format!("/backup?dir={}", folder.path().join("it").display());
    let (status, told) = scene.private("POST", &target).await;
    assert_eq!(
        (status, told["segments"].as_u64(), told["linked"].as_u64()),
        (200, Some(1), Some(0)),
        "{told}"
    );
    let (status, problem) = scene.private("POST", &target).await;
    assert_eq!(status, 409);
    assert!(problem["error"].as_str().unwrap().contains("is not empty"), "{problem}");
    assert_eq!(scene.private("POST", "/backup?dir=monday").await.0, 400);
    assert_eq!(scene.private("POST", "/backup").await.0, 400);
    let _one = scene.admin.backing_up.lock().await;
    assert_eq!(scene.private("POST", &target).await.0, 409);
}

#[tokio::test]
async fn a_delivery_is_ended_and_run_again_by_order() {
    let scene = scene(b"{}").await;
    let id = format!("{}.to-slack", scene.event);
    let row = scene.get(&format!("/deliveries?event={}&status=open&handler=slack", scene.event)).await;
    assert_eq!(row["rows"][0]["delivery"], id);
    let (status, ruled) = scene.private("POST", &format!("/deliveries/{id}/cancel")).await;
    assert_eq!((status, &ruled), (200, &json!({ "delivery": id, "ruling": "cancel" })));
    let (status, problem) = scene.private("POST", &format!("/deliveries/{id}/cancel")).await;
    assert_eq!(status, 409);
    assert_eq!(problem["type_this"], format!("longshore deliveries show {id}"));
    assert_eq!(scene.private("POST", &format!("/deliveries/{id}/retry")).await.0, 200);
    let history = scene.get(&format!("/deliveries/{id}")).await;
    assert_eq!(history["row"]["status"], "open");
    let rulings: Vec<_> = history["rulings"].as_array().unwrap().iter().map(|r| &r["ruling"]).collect();
    assert_eq!(rulings, ["cancel", "retry"]);
}

#[tokio::test]
async fn what_cannot_be_answered_is_said_in_words() {
    let scene = scene(b"{}").await;
    let rows = [
        ("GET", "/events/fffff", 404, "no event `fffff`"),
        ("GET", "/events/xyz", 400, "`xyz` is not the name of an event"),
        ("GET", "/deliveries/fffff.to-slack", 404, "no delivery `fffff.to-slack`"),
        ("GET", "/deliveries/xyz", 400, "`xyz` is not the name of an event or delivery"),
        ("POST", "/deliveries/fffff.to-slack/retry", 404, "no delivery `fffff.to-slack`"),
        ("GET", "/events?limt=1", 400, "unknown field `limt`"),
        ("GET", "/events?source=A%20B", 400, "a name is 1 to 63"),
        ("GET", "/events?cursor=nonsense", 400, "the cursor `nonsense` is not one"),
        ("GET", "/deliveries?status=lost", 400, "unknown variant `lost`"),
        ("POST", "/events", 405, "not with this method"),
        ("GET", "/nothing", 404, "no such resource"),
    ];
    for (method, target, expected, words) in rows {
        let (status, problem) = scene.private(method, target).await;
        assert_eq!(status, expected, "{method} {target}");
        assert!(problem["error"].as_str().unwrap().contains(words), "{target}: {problem}");
    }
}

#[tokio::test]
async fn a_source_shows_until_when_each_secret_is_taken() {
    let scene = scene(b"{}").await;
    let view = scene.get("/sources").await;
    let source = &view["sources"][0];
    assert_eq!(
        (&source["path"], &source["scheme"]),
        (&json!("/webhooks/sendpilot"), &json!("preset sendpilot"))
    );
    let [new, old] = source["secrets"].as_array().unwrap().as_slice() else { panic!("{source}") };
    assert_eq!((&new["from"], &new["ends"], &new["live"]), (&json!("env:NEW"), &Value::Null, &json!(true)));
    assert_eq!(new["why"], "no end");
    assert_eq!(
        (&old["ends"], &old["demoted_at"], &old["live"]),
        (&json!(10_000), &json!(6_000), &json!(false))
    );
    assert_eq!(old["why"], "ended 1970-01-01T00:00:10.000Z, 4s after a newer one was first seen");
    let text = view.to_string();
    assert!(!text.contains(NEW) && !text.contains(OLD), "a secret is named, never shown");
}

#[tokio::test]
async fn the_daemon_says_where_it_listens_and_by_what_it_is_known() {
    let scene = scene(b"{}").await;
    let stat = scene.get("/stat").await;
    assert_eq!((&stat["listen"], &stat["ready"]), (&json!("127.0.0.1:8443"), &json!(true)));
    let certificate = std::path::absolute("certs/it.pem").unwrap();
    assert_eq!(stat["certificate"], certificate.to_str().unwrap());
    assert_eq!(scene.get("/handlers").await, json!([]));
}

// === serving ===

/// Small, so that a test reaches each of them.
const BOUNDS: serve::Bounds = serve::Bounds {
    connections_max: 2,
    header_timeout: Duration::from_millis(100),
    drain: Duration::from_millis(50),
};

struct Served {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

async fn serving(router: Router, bounds: serve::Bounds) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve::until(listener, router, stop.clone(), bounds));
    Served { address, stop, serving }
}

impl Served {
    async fn send(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        stream
    }
}

async fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// Idle connections fill the room and are put out after their time: only then is the one that asks served.
#[tokio::test]
async fn connections_are_few_and_do_not_idle_for_ever() {
    let served = serving(Router::new().route("/", get(async || "here")), BOUNDS).await;
    let begun = Instant::now();
    let mut idle = Vec::new();
    for _ in 0..BOUNDS.connections_max {
        idle.push(TcpStream::connect(served.address).await.unwrap());
    }
    let text = answer(served.send().await).await;
    assert!(text.ends_with("here"), "{text}");
    assert!(begun.elapsed() >= BOUNDS.header_timeout, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_question_that_takes_too_long_is_answered_all_the_same() {
    let never = Router::new().route("/", get(std::future::pending::<()>));
    let (status, kind, text) = ask(api::bounded(never, Duration::from_millis(20)), "GET", "/").await;
    assert_eq!((status, kind.as_str()), (StatusCode::GATEWAY_TIMEOUT, "application/json"));
    assert!(text.contains("this took too long"), "{text}");
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel();
    let hangs = move || {
        asked.send(()).unwrap();
        std::future::pending::<()>()
    };
    let served = serving(Router::new().route("/", get(hangs)), BOUNDS).await;
    let _stream = served.send().await;
    was_asked.recv().await.unwrap();
    let begun = Instant::now();
    served.stop.cancel();
    served.serving.await.unwrap();
    assert!(begun.elapsed() >= BOUNDS.drain, "{:?}", begun.elapsed());
    assert!(TcpStream::connect(served.address).await.is_err(), "nobody listens any more");
}
