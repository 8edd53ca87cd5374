//! The room through its real door: TLS or not, a real ledger, signatures made by the scheme itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::share::share_of;
use super::*;
use crate::store::{self, EventFilter, EventRow};
use crate::words::limits::{OPEN_AGE_MAX_DEFAULT, RETAIN_AGE_DEFAULT, RETAIN_BYTES_DEFAULT};
use crate::words::secret::Secret;

const SECRET: &str = "a secret of the sender's";
const PATH: &str = "/webhooks/sendpilot";

// === the house of a test ===

/// A running intake. Dropping it stops it.
struct House {
    intake: Arc<Intake>,
    ledger: Ledger,
    metrics: Metrics,
    address: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<Result<(), Error>>,
    certificate: Option<PathBuf>,
    _folder: TempDir,
}

fn options() -> Options {
    Options {
        tls: Tls::Off,
        behind_proxy: false,
        body_bytes_max: 1000,
        connections_max: 64,
        requests_max: 64,
        header_timeout: Duration::from_secs(60),
        body_timeout: Duration::from_secs(60),
        drain: Duration::from_secs(60),
    }
}

fn source(name: &str) -> Source {
    let preset = verify::preset("sendpilot").unwrap();
    let scheme = verify::Scheme::compile(&preset.scheme, &preset.event).unwrap();
    let key = scheme.key(&Secret::new(SECRET), None).unwrap();
    Source {
        name: Name::new(name).unwrap(),
        path: format!("/webhooks/{name}"),
        enabled: true,
        scheme,
        keys: ArcSwap::from_pointee(vec![key]),
        dedupe_window: Duration::from_secs(3600),
        rate: None,
        public_url: String::new(),
        handshakes: Handshakes::default(),
        fetch: None,
    }
}

impl House {
    async fn open(options: Options, sources: Vec<Source>) -> House {
        let folder = tempfile::tempdir().unwrap();
        let (options, certificate) = with_certificate(options, &folder);
        let store = store::Options {
            path: folder.path().join("data"),
            durability: store::Durability::ProcessCrash,
            retain_age: RETAIN_AGE_DEFAULT,
            retain_bytes: RETAIN_BYTES_DEFAULT,
            open_age_max: OPEN_AGE_MAX_DEFAULT,
        };
        let opened = tokio::task::spawn_blocking(move || Ledger::open(store, Millis::now()));
        let (ledger, _) = opened.await.unwrap().unwrap();
        let metrics = Metrics::default();
        let routes = route::Table::new(vec![route::Subscription {
            name: Name::new("replies").unwrap(),
            source: Name::new("sendpilot").unwrap(),
            handler: Name::new("notify").unwrap(),
            events: vec![route::Pattern::parse("message.*").unwrap()],
        }]);
        let intake = Intake::new(options, sources, routes, ledger.clone(), metrics.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(Arc::clone(&intake).serve(listener, stop.clone()));
        House { intake, ledger, metrics, address, stop, served, certificate, _folder: folder }
    }

    async fn plain() -> House {
        House::open(options(), vec![source("sendpilot")]).await
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn tls(&self, alpn: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
        let pem = std::fs::read(self.certificate.as_ref().expect("this house has TLS")).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.tcp().await).await.unwrap()
    }

    /// Sends bytes on a connection of its own and reads to its end.
    async fn raw(&self, sent: &[u8]) -> Answer {
        talk(self.tcp().await, sent).await
    }

    async fn post(&self, path: &str, headers: &[(String, String)], body: &[u8]) -> Answer {
        self.raw(&request("POST", path, headers, body)).await
    }

    async fn send(&self, event: &Event) -> Answer {
        self.post(PATH, &event.signed(), event.body.as_bytes()).await
    }

    /// Sends from another address of loopback.
    async fn post_from(&self, address: &str, event: &Event) -> Answer {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
        let stream = socket.connect(self.address).await.unwrap();
        talk(stream, &request("POST", PATH, &event.signed(), event.body.as_bytes())).await
    }

    async fn events(&self) -> Vec<EventRow> {
        self.ledger.events(EventFilter { limit: 100, ..Default::default() }).await.unwrap().rows
    }

    fn reasons(&self, source: &str) -> Vec<String> {
        let refusals = self.intake.refusals(&Name::new(source).unwrap());
        refusals.into_iter().rev().map(|refusal| refusal.reason).collect()
    }

    fn reasons_elsewhere(&self) -> Vec<String> {
        self.intake.refusals_elsewhere().into_iter().rev().map(|refusal| refusal.reason).collect()
    }

    /// Waits until something holds that no answer tells of.
    async fn until(&self, holds: impl Fn(&House) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it never came to hold");
    }

    async fn closed(self) {
        self.stop.cancel();
        self.served.await.unwrap().unwrap();
        self.ledger.close().await.unwrap();
    }
}

fn with_certificate(options: Options, folder: &TempDir) -> (Options, Option<PathBuf>) {
    if matches!(options.tls, Tls::Off) {
        return (options, None);
    }
    let (cert, key) = tls::make_development_certificate(folder.path()).unwrap();
    (Options { tls: Tls::Files { cert: cert.clone(), key }, ..options }, Some(cert))
}

/// `House::open` makes the certificate.
fn some_tls() -> Tls {
    Tls::Files { cert: PathBuf::new(), key: PathBuf::new() }
}

struct Event {
    id: String,
    body: String,
}

fn event(id: &str) -> Event {
    let body = format!(r#"{{"eventId":"{id}","eventType":"message.received","data":{{}}}}"#);
    Event { id: id.to_owned(), body }
}

impl Event {
    fn signed(&self) -> Vec<(String, String)> {
        self.signed_at(Millis::now())
    }

    fn signed_at(&self, now: Millis) -> Vec<(String, String)> {
        sign(SECRET, &self.id, self.body.as_bytes(), now)
    }
}

fn sign(secret: &str, id: &str, body: &[u8], now: Millis) -> Vec<(String, String)> {
    source("x").scheme.sign(&Secret::new(secret), id, "message.received", body, "", now).unwrap().headers
}

fn request(method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// An answer as text.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Answer { status, headers, body: body.to_owned() }
    }

    fn told(&self) -> (u16, &str) {
        (self.status, &self.body)
    }
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, sent: &[u8]) -> Answer {
    // A refusal may come, and the connection end, before all is sent.
    let _ = stream.write_all(sent).await;
    read_answer(stream).await
}

async fn read_answer(mut stream: impl AsyncRead + Unpin) -> Answer {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    Answer::parse(&String::from_utf8(text).unwrap())
}

const ACCEPTED: (u16, &str) = (200, r#"{"status":"accepted"}"#);
const UNAUTHORIZED: (u16, &str) = (401, r#"{"error":"unauthorized"}"#);

// === what is accepted ===

#[tokio::test]
async fn new_and_duplicate_are_answered_the_same_and_stored_once() {
    let house = House::plain().await;
    let event = event("evt_1");
    let (first, second) = (house.send(&event).await, house.send(&event).await);
    assert_eq!((first.told(), second.told()), (ACCEPTED, ACCEPTED));
    assert_eq!(first.headers.keys().collect::<Vec<_>>(), second.headers.keys().collect::<Vec<_>>());
    let events = house.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].id.as_str(), events[0].event_type.as_str()), ("evt_1", "message.received"));
    assert_eq!(events[0].deliveries.len(), 1);
    let text = house.metrics.encode();
    assert!(text.contains(r#"longshore_events_accepted_total{source="sendpilot"} 1"#), "{text}");
    assert!(text.contains(r#"longshore_events_duplicate_total{source="sendpilot"} 1"#), "{text}");
    house.closed().await;
}

#[tokio::test]
async fn an_answer_has_no_header_that_nobody_asked_for() {
    let house = House::plain().await;
    let answers = [
        (house.send(&event("evt_1")).await, &["connection", "content-length", "content-type", "date"][..]),
        (house.post(PATH, &[], b"").await, &["connection", "content-length", "content-type", "date"]),
        (house.post("/nobody", &[], b"").await, &["connection", "content-length", "content-type", "date"]),
        (
            house.raw(&request("GET", PATH, &[], b"")).await,
            &["allow", "connection", "content-length", "content-type", "date"],
        ),
    ];
    for (answer, names) in answers {
        assert_eq!(answer.headers.keys().collect::<Vec<_>>(), names, "{answer:?}");
    }
    house.closed().await;
}

#[tokio::test]
async fn what_is_stored_is_what_came_less_the_credentials() {
    let house = House::plain().await;
    let event = event("evt_1");
    let mut headers = event.signed();
    for (name, value) in [("Authorization", "Bearer x"), ("X-Team", "a"), ("X-Team", "b"), ("Cookie", "c=d")]
    {
        headers.push((name.to_owned(), value.to_owned()));
    }
    let path = format!("{PATH}?team=a%20b&x");
    assert_eq!(house.post(&path, &headers, event.body.as_bytes()).await.told(), ACCEPTED);
    let row = &house.events().await[0];
    assert!(!row.test);
    let stored = house.ledger.event(row.event).await.unwrap();
    assert_eq!(stored.query.as_deref(), Some("team=a%20b&x"));
    assert_eq!(stored.body, event.body);
    assert_eq!(Some(stored.secret), Some(Secret::new(SECRET).fingerprint()));
    let names: Vec<_> = stored.headers.iter().map(|(name, _)| name.as_str()).collect();
    let signature = headers[0].0.to_lowercase();
    assert_eq!(names, ["host", "connection", "content-length", &signature, "x-team", "x-team"]);
    house.closed().await;
}

#[tokio::test]
async fn content_refuses_nothing_and_a_mark_makes_a_test() {
    let house = House::plain().await;
    for body in [&b"not JSON"[..], b"", b"{}", b"[1,2]", b"\xff\x00"] {
        let mut headers = sign(SECRET, "", body, Millis::now());
        headers.push(("longshore-test".to_owned(), "1".to_owned()));
        headers.push(("content-type".to_owned(), "application/x-whatever".to_owned()));
        assert_eq!(house.post(PATH, &headers, body).await.told(), ACCEPTED, "{body:?}");
    }
    let events = house.events().await;
    assert_eq!(events.len(), 5);
    assert!(
        events.iter().all(|event| event.test && event.event_type.is_empty() && event.deliveries.is_empty())
    );
    house.closed().await;
}

// === what is refused ===

#[tokio::test]
async fn what_is_not_proved_genuine_is_401_and_nothing_is_stored() {
    let house = House::plain().await;
    let event = event("evt_1");
    let body = event.body.as_bytes();
    let now = Millis::now();
    let header = event.signed()[0].0.clone();
    let cases = [
        (vec![], "no-signature"),
        (vec![(header, "nonsense".to_owned())], "malformed-signature"),
        (sign("another secret of some length", "evt_1", body, now), "mismatch"),
        (sign(SECRET, "evt_1", b"another body", now), "mismatch"),
        (event.signed_at(now.minus(Duration::from_secs(310))), "stale"),
    ];
    let mut seen = BTreeSet::new();
    for (headers, reason) in &cases {
        let mut answer = house.post(PATH, headers, body).await;
        assert_eq!(answer.told(), UNAUTHORIZED, "{reason}");
        answer.headers.remove("date");
        seen.insert(format!("{answer:?}"));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(house.reasons("sendpilot"), cases.map(|(_, reason)| reason));
    let last = &house.intake.refusals(&Name::new("sendpilot").unwrap())[0];
    assert_eq!((last.status, last.address.as_str()), (401, "127.0.0.1"));
    assert!(last.detail.contains("timedatectl"), "{}", last.detail);
    assert!(house.events().await.is_empty());
    assert!(
        house.metrics.encode().contains(r#"reason="stale",source="sendpilot"} 1"#)
            || house.metrics.encode().contains(r#"source="sendpilot",reason="stale"} 1"#)
    );
    house.closed().await;
}

#[tokio::test]
async fn paths_are_exact_and_only_post_is_taken() {
    let mut closed = source("closed");
    closed.enabled = false;
    let mut braces = source("braces");
    braces.path = "/webhooks/{team}".to_owned();
    let house = House::open(options(), vec![source("sendpilot"), closed, braces]).await;
    let event = event("evt_1");
    let not_found = (404, r#"{"error":"not-found"}"#);
    for path in [
        "/",
        "/webhooks",
        "/webhooks/sendpilot/",
        "/webhooks/SendPilot",
        "/webhooks/%73endpilot",
        "/webhooks/closed",
    ] {
        let answer = house.post(path, &event.signed(), event.body.as_bytes()).await;
        assert_eq!(answer.told(), not_found, "{path}");
    }
    assert_eq!(house.post("/webhooks/{team}", &event.signed(), event.body.as_bytes()).await.status, 200);
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let answer = house.raw(&request(method, PATH, &[], b"")).await;
        assert_eq!((answer.status, answer.headers["allow"].as_str()), (405, "POST"), "{method}");
    }
    assert_eq!(house.reasons("closed"), ["disabled"]);
    assert_eq!(house.reasons("sendpilot"), ["method"; 5]);
    assert_eq!(house.reasons_elsewhere(), ["unknown-path"; 5]);
    assert!(house.intake.refusals_elsewhere()[0].detail.contains("`/webhooks/%73endpilot`"));
    house.closed().await;
}

#[tokio::test]
async fn an_enabled_source_has_the_path_before_a_disabled_one() {
    let mut old = source("zold");
    old.enabled = false;
    old.path = PATH.to_owned();
    let house = House::open(options(), vec![source("sendpilot"), old]).await;
    assert_eq!(house.send(&event("evt_1")).await.told(), ACCEPTED);
    house.closed().await;
}

#[tokio::test]
async fn braces_of_a_path_are_braces() {
    let braces = Source { path: "/a/{b}/c".to_owned(), ..source("sendpilot") };
    let house = House::open(options(), vec![braces]).await;
    let event = event("evt_1");
    let post = async |path| house.post(path, &event.signed(), event.body.as_bytes()).await.status;
    assert_eq!([post("/a/{b}/c").await, post("/a/x/c").await, post("/a/{b}/c/").await], [200, 404, 404]);
    house.closed().await;
}

#[tokio::test]
async fn head_over_http_2_is_answered_without_a_body() {
    let house = House::plain().await;
    let stream = TokioIo::new(house.tcp().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let client = tokio::spawn(connection);
    for (path, status, length) in [(PATH, 405, "30"), ("/nobody", 404, "21")] {
        let asked = Request::head(format!("http://localhost{path}")).body(Full::new(Bytes::new())).unwrap();
        let answer = sender.send_request(asked).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-length"]),
            (status, &length.parse().unwrap())
        );
        assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    drop(sender);
    client.await.unwrap().unwrap();
    house.closed().await;
}

#[tokio::test]
async fn a_body_at_the_cap_is_taken_and_one_byte_over_is_413() {
    let house = House::plain().await;
    let max = house.intake.options.body_bytes_max;
    let body = |bytes| vec![b'x'; bytes];
    let signed = |body: &[u8]| sign(SECRET, "", body, Millis::now());
    let at_cap = body(max);
    assert_eq!(house.post(PATH, &signed(&at_cap), &at_cap).await.told(), ACCEPTED);
    let too_large = (413, r#"{"error":"too-large"}"#);
    // Claimed: refused before any of it is sent.
    let claimed = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", max + 1);
    assert_eq!(house.raw(claimed.as_bytes()).await.told(), too_large);
    // Chunked: counted.
    let chunked = |bytes: usize| {
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{bytes:x}\r\n"
        );
        [head.as_bytes(), &body(bytes), b"\r\n0\r\n\r\n"].concat()
    };
    assert_eq!(house.raw(&chunked(max)).await.told(), UNAUTHORIZED);
    assert_eq!(house.raw(&chunked(max + 1)).await.told(), too_large);
    assert_eq!(house.reasons("sendpilot"), ["too-large", "no-signature", "too-large"]);
    // The writer lets go of a body just after its answer.
    let released = async {
        while house.intake.in_flight().body_bytes > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), released).await.expect("every body is given back");
    house.closed().await;
}

#[tokio::test]
async fn a_sender_that_goes_on_sending_still_reads_413() {
    let house = House::plain().await;
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n");
    let answer = house.raw(&[head.as_bytes(), &vec![b'x'; 3_000_000]].concat()).await;
    assert_eq!((answer.status, answer.headers["connection"].as_str()), (413, "close"));
    house.closed().await;
}

#[tokio::test]
async fn a_rate_is_429_and_forgeries_do_not_use_it_up() {
    let mut limited = source("sendpilot");
    limited.rate = Some(0.001);
    let house = House::open(options(), vec![limited, source("other")]).await;
    for _ in 0..5 {
        assert_eq!(house.post(PATH, &[], b"").await.told(), UNAUTHORIZED);
    }
    assert_eq!(house.send(&event("evt_1")).await.told(), ACCEPTED);
    let answer = house.send(&event("evt_2")).await;
    assert_eq!(answer.told(), (429, r#"{"error":"rate"}"#));
    let wait: u64 = answer.headers["retry-after"].parse().unwrap();
    assert!((900..=1000).contains(&wait), "{wait}");
    let event = event("evt_3");
    assert_eq!(house.post("/webhooks/other", &event.signed(), event.body.as_bytes()).await.told(), ACCEPTED);
    house.closed().await;
}

#[tokio::test]
async fn too_many_requests_at_once_are_503_and_told_when_to_come_back() {
    let house = House::open(Options { requests_max: 1, ..options() }, vec![source("sendpilot")]).await;
    let event = event("evt_1");
    let whole = request("POST", PATH, &event.signed(), event.body.as_bytes());
    let mut first = house.tcp().await;
    first.write_all(&whole[..whole.len() - 1]).await.unwrap();
    house.until(|house| house.intake.in_flight().requests == 1).await;
    let answer = house.send(&event).await;
    assert_eq!(answer.told(), (503, r#"{"error":"busy"}"#));
    assert_eq!(answer.headers["retry-after"], "5");
    first.write_all(&whole[whole.len() - 1..]).await.unwrap();
    assert_eq!(read_answer(first).await.told(), ACCEPTED);
    assert_eq!(house.reasons("sendpilot"), ["requests-in-flight"]);
    house.closed().await;
}

#[tokio::test]
async fn a_connection_over_the_cap_is_closed() {
    let house = House::open(Options { connections_max: 1, ..options() }, vec![source("sendpilot")]).await;
    let first = house.tcp().await;
    house.until(|house| house.intake.in_flight().connections == 1).await;
    let mut second = house.tcp().await;
    let read = second.read(&mut [0; 10]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    drop(first);
    house.until(|house| house.intake.in_flight().connections == 0).await;
    assert_eq!(house.send(&event("evt_1")).await.told(), ACCEPTED);
    assert_eq!(house.reasons_elsewhere(), ["connections"]);
    house.closed().await;
}

// === handshakes ===

/// SendPilot with X's handshake, which nobody signs, and Slack's, which is signed.
fn shaking() -> Source {
    let source = source("sendpilot");
    let written = ["x", "slack"].map(|name| {
        let spec = serde_json::json!({ "preset": name });
        ("challenge".to_owned(), serde_json::from_value(spec).unwrap())
    });
    let challenges = verify::Challenges::compile(Some(&written), None, &source.scheme).unwrap();
    Source { handshakes: Handshakes::new(challenges, Vec::new()), ..source }
}

fn crc(token: &str) -> Vec<u8> {
    request("GET", &format!("{PATH}?crc_token={token}"), &[], b"")
}

#[tokio::test]
async fn a_handshake_is_answered_counted_and_not_stored() {
    let house = House::open(options(), vec![shaking()]).await;
    let answer = house.raw(&crc("abc")).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with(r#"{"response_token":"sha256="#), "{answer:?}");
    let names: Vec<_> = answer.headers.keys().map(String::as_str).collect();
    assert_eq!(names, ["connection", "content-length", "content-type", "date", "x-content-type-options"]);
    let body = r#"{"type":"url_verification","challenge":"3eZbrw1a"}"#;
    assert_eq!(house.post(PATH, &[], body.as_bytes()).await.told(), UNAUTHORIZED);
    let signed = sign(SECRET, "", body.as_bytes(), Millis::now());
    assert_eq!(house.post(PATH, &signed, body.as_bytes()).await.told(), (200, "3eZbrw1a"));
    assert!(house.events().await.is_empty());
    let text = house.metrics.encode();
    assert!(text.contains(r#"longshore_handshakes_answered_total{source="sendpilot"} 2"#), "{text}");
    assert!(text.contains(r#"longshore_events_accepted_total{source="sendpilot"} 0"#), "{text}");
    let facts = house.intake.sources()[&Name::new("sendpilot").unwrap()].handshakes.facts();
    let facts: Vec<_> =
        facts.iter().map(|f| (f.when.as_str(), f.signed, f.answered, f.last.is_some())).collect();
    assert_eq!(
        facts,
        [
            ("GET with query parameter `crc_token`", false, 1, true),
            ("POST with JSON field `type` = url_verification", true, 1, true)
        ]
    );
    assert_eq!(house.send(&event("evt_1")).await.told(), ACCEPTED);
    house.closed().await;
}

#[tokio::test]
async fn a_source_takes_the_methods_of_its_handshakes_and_no_others() {
    let house = House::open(options(), vec![shaking(), source("other")]).await;
    for method in ["HEAD", "PUT", "DELETE", "OPTIONS"] {
        let answer = house.raw(&request(method, PATH, &[], b"")).await;
        assert_eq!((answer.status, answer.headers["allow"].as_str()), (405, "GET, POST"), "{method}");
    }
    for method in ["GET", "HEAD"] {
        let answer = house.raw(&request(method, "/webhooks/other?crc_token=abc", &[], b"")).await;
        assert_eq!((answer.status, answer.headers["allow"].as_str()), (405, "POST"), "{method}");
    }
    let bad_request = (400, r#"{"error":"bad-request"}"#);
    assert_eq!(house.raw(&request("GET", PATH, &[], b"")).await.told(), bad_request);
    assert_eq!(house.raw(&crc("a:b")).await.told(), bad_request);
    assert_eq!(house.reasons("sendpilot")[4..], ["no-handshake", "handshake-value"]);
    house.closed().await;
}

#[tokio::test]
async fn strangers_handshakes_take_no_more_than_a_share_and_nothing_of_the_rate() {
    let limited = Source { rate: Some(0.001), ..shaking() };
    let house = House::open(Options { connections_max: 256, ..options() }, vec![limited]).await;
    for _ in 0..5 {
        assert_eq!(house.raw(&crc("abc")).await.status, 200);
    }
    let share = share_of(house.intake.options.requests_max);
    let mut held = Vec::new();
    for _ in 0..share {
        let mut stream = house.tcp().await;
        let unfinished = request("GET", &format!("{PATH}?crc_token=abc"), &[], b"x");
        stream.write_all(&unfinished[..unfinished.len() - 1]).await.unwrap();
        held.push(stream);
    }
    house.until(|house| house.intake.in_flight().requests == share).await;
    assert_eq!(house.raw(&crc("abc")).await.told(), (503, r#"{"error":"busy"}"#));
    assert_eq!(house.reasons("sendpilot"), ["too-much-from-one-address"]);
    drop(held);
    house.until(|house| house.intake.in_flight().requests == 0).await;
    assert_eq!(house.send(&event("evt_1")).await.told(), ACCEPTED, "the rate was not used up");
    house.closed().await;
}

#[tokio::test]
async fn what_is_signed_for_anybody_is_no_event() {
    let spec = serde_json::json!({
        "type": "hmac", "algorithm": "sha256", "signed": "{body}",
        "signature": {"from": "header:X-Sig", "format": "prefixed", "prefix": "sha256=", "encoding": "base64"},
    });
    let scheme = serde_json::from_value(spec).unwrap();
    let scheme = verify::Scheme::compile(&scheme, &verify::spec::EventSpec::default()).unwrap();
    let keys = ArcSwap::from_pointee(vec![scheme.key(&Secret::new(SECRET), None).unwrap()]);
    let house = House::open(options(), vec![Source { scheme, keys, ..shaking() }]).await;
    let answer = house.raw(&crc("12345")).await;
    let signature = answer.body.split('"').nth(3).unwrap().to_owned();
    let forged = [("x-sig".to_owned(), signature)];
    assert_eq!(house.post(PATH, &forged, b"12345").await.told(), UNAUTHORIZED);
    assert_eq!(house.reasons("sendpilot"), ["signed-for-anybody"]);
    assert!(house.events().await.is_empty());
    house.closed().await;
}

/// A source that waits for Asana's handshake, and where its secret is kept.
fn waiting(folder: &std::path::Path, renew: capture::Renew) -> (Source, PathBuf) {
    let file = folder.join("asana");
    let source = source("sendpilot");
    let spec = serde_json::json!({"preset": "asana", "capture": {"file": "asana"}});
    let written = ("challenge".to_owned(), serde_json::from_value(spec).unwrap());
    let challenges = verify::Challenges::compile(Some(&[written]), None, &source.scheme).unwrap();
    let capture = Capture::new(file.clone(), None, renew);
    let handshakes = Handshakes::new(challenges, vec![(0, capture)]);
    (Source { handshakes, keys: ArcSwap::from_pointee(Vec::new()), ..source }, file)
}

/// Keys from the file, as at the start.
fn renew_from(file: PathBuf) -> capture::Renew {
    Box::new(move || {
        let read = std::fs::read(&file);
        Box::pin(async move {
            let secret = Secret::new(read.map_err(|e| e.to_string())?);
            Ok(vec![source("x").scheme.key(&secret, None)?])
        })
    })
}

const BROUGHT: &str = "a_secret_of_the_sender_s";

fn brought(secret: &str) -> Vec<u8> {
    request("POST", PATH, &[("X-Hook-Secret".to_owned(), secret.to_owned())], b"")
}

#[tokio::test]
async fn a_secret_that_cannot_be_put_to_use_is_not_answered_200() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let folder = tempfile::tempdir().unwrap();
    let fails = Arc::new(AtomicBool::new(true));
    let (again, good) = (Arc::clone(&fails), renew_from(folder.path().join("asana")));
    let renew: capture::Renew = Box::new(move || match again.load(Ordering::SeqCst) {
        true => Box::pin(async { Err("the ledger is closing".to_owned()) }),
        false => good(),
    });
    let (source, file) = waiting(folder.path(), renew);
    let house = House::open(options(), vec![source]).await;
    let event = event("evt_1");
    let body = event.body.as_bytes();
    let send = async || house.post(PATH, &sign(BROUGHT, &event.id, body, Millis::now()), body).await;
    assert_eq!(house.raw(&brought(BROUGHT)).await.told(), (503, r#"{"error":"unavailable"}"#));
    fails.store(false, Ordering::SeqCst);
    assert_eq!(send().await.told(), UNAUTHORIZED);
    // The sender comes back with the same one, and nobody else gets in between.
    assert_eq!(house.raw(&brought("another_secret_of_a_stranger")).await.status, 403);
    let answer = house.raw(&brought(BROUGHT)).await;
    assert_eq!((answer.status, answer.headers["x-hook-secret"].as_str()), (200, BROUGHT));
    assert_eq!(std::fs::read_to_string(file).unwrap(), BROUGHT);
    assert_eq!(send().await.told(), ACCEPTED);
    assert_eq!(house.reasons("sendpilot"), ["secret-not-kept", "no-secret-yet", "secret-kept-already"]);
    house.closed().await;
}

#[tokio::test]
async fn of_many_handshakes_at_once_one_brings_its_secret() {
    let folder = tempfile::tempdir().unwrap();
    let (source, file) = waiting(folder.path(), renew_from(folder.path().join("asana")));
    let house = House::open(options(), vec![source]).await;
    let secrets: Vec<String> = (0..8).map(|n| format!("a_secret_and_its_number_is_{n}")).collect();
    let requests: Vec<_> = secrets.iter().map(|secret| brought(secret)).collect();
    let asked = requests.iter().map(|sent| house.raw(sent));
    let answers = futures_util::future::join_all(asked).await;
    let good: Vec<usize> = (0..8).filter(|at| answers[*at].status == 200).collect();
    assert_eq!(good.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| [200, 403].contains(&answer.status)), "{answers:?}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), secrets[good[0]]);
    house.closed().await;
}

// === what one address may hold ===

fn from(address: &str) -> (String, String) {
    ("x-forwarded-for".to_owned(), address.to_owned())
}

fn forwarded(event: &Event, address: &str) -> Vec<u8> {
    let headers = [event.signed(), vec![from(address)]].concat();
    request("POST", PATH, &headers, event.body.as_bytes())
}

#[tokio::test]
async fn one_address_cannot_take_the_requests_of_the_others() {
    let house = House::open(Options { behind_proxy: true, ..options() }, vec![source("sendpilot")]).await;
    let share = share_of(house.intake.options.requests_max);
    let mut held = Vec::new();
    for host in 1..=share {
        let mut stream = house.tcp().await;
        let unfinished = request("POST", PATH, &[from(&format!("2001:db8::{host:x}"))], b"x");
        stream.write_all(&unfinished[..unfinished.len() - 1]).await.unwrap();
        held.push(stream);
    }
    house.until(|house| house.intake.in_flight().requests == share).await;
    let event = event("evt_1");
    let answer = house.raw(&forwarded(&event, "2001:db8::ffff")).await;
    assert_eq!(answer.told(), (503, r#"{"error":"busy"}"#));
    assert_eq!(answer.headers["retry-after"], "5");
    assert_eq!(house.raw(&forwarded(&event, "2001:db8:0:1::1")).await.told(), ACCEPTED);
    assert_eq!(house.reasons("sendpilot"), ["too-much-from-one-address"]);
    let last = &house.intake.refusals(&Name::new("sendpilot").unwrap())[0];
    assert!(last.detail.contains("16 requests") && last.detail.contains("`behind_proxy: true`"));
    held.pop();
    house.until(|house| house.intake.in_flight().requests == share - 1).await;
    assert_eq!(house.raw(&forwarded(&event, "2001:db8::ffff")).await.told(), ACCEPTED);
    drop(held);
    house.closed().await;
}

/// A body that never comes.
struct Never;

impl hyper::body::Body for Never {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn streams_of_http_2_are_one_address_too() {
    let house = House::plain().await;
    let share = share_of(house.intake.options.requests_max);
    let stream = TokioIo::new(house.tcp().await);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let client = tokio::spawn(connection);
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..share {
        let mut sender = sender.clone();
        let request = Request::post(format!("http://localhost{PATH}")).body(Never).unwrap();
        senders.spawn(async move { sender.send_request(request).await });
    }
    house.until(|house| house.intake.in_flight().requests == share).await;
    assert_eq!(house.send(&event("evt_1")).await.told(), (503, r#"{"error":"busy"}"#));
    assert_eq!(house.reasons("sendpilot"), ["too-much-from-one-address"]);
    assert_eq!(house.post_from("127.0.0.2", &event("evt_2")).await.told(), ACCEPTED);
    senders.shutdown().await;
    drop(sender);
    client.await.unwrap().unwrap();
    house.closed().await;
}

#[tokio::test]
async fn one_address_cannot_take_the_body_bytes_of_the_others() {
    let max = 5 << 20;
    let house = House::open(Options { body_bytes_max: max, ..options() }, vec![source("sendpilot")]).await;
    let unfinished = request("POST", PATH, &[], &vec![b'x'; max]);
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = house.tcp().await;
        stream.write_all(&unfinished[..unfinished.len() - 1]).await.unwrap();
        held.push(stream);
    }
    house.until(|house| house.intake.in_flight().body_bytes == 3 * (max - 1)).await;
    let answer = house.post(PATH, &[], &vec![b'x'; 2 << 20]).await;
    assert_eq!(answer.told(), (503, r#"{"error":"busy"}"#));
    assert_eq!(house.reasons("sendpilot"), ["too-much-from-one-address"]);
    assert_eq!(house.send(&event("evt_1")).await.told(), ACCEPTED);
    drop(held);
    house.until(|house| house.intake.in_flight().body_bytes == 0).await;
    assert_eq!(house.post(PATH, &[], &vec![b'x'; max]).await.told(), UNAUTHORIZED);
    house.closed().await;
}

#[test]
fn the_largest_body_fits_into_a_share() {
    let all = Options { body_bytes_max: BODIES_IN_FLIGHT_BYTES_MAX, ..options() };
    assert_eq!(Share::new(&all).body_bytes, BODIES_IN_FLIGHT_BYTES_MAX);
    assert_eq!(Share::new(&options()).body_bytes, BODIES_IN_FLIGHT_BYTES_MAX / 4);
}

#[tokio::test]
async fn one_address_cannot_take_the_connections_of_the_others() {
    let house = House::plain().await;
    let share = share_of(house.intake.options.connections_max);
    let mut idle = Vec::new();
    for _ in 0..share {
        idle.push(house.tcp().await);
    }
    house.until(|house| house.intake.in_flight().connections == share).await;
    let read = house.tcp().await.read(&mut [0; 10]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert_eq!(house.post_from("127.0.0.2", &event("evt_1")).await.told(), ACCEPTED);
    assert_eq!(house.reasons_elsewhere(), ["connections-from-one-address"]);
    drop(idle);
    house.until(|house| house.intake.in_flight().connections == 0).await;
    assert_eq!(house.send(&event("evt_2")).await.told(), ACCEPTED);
    house.closed().await;
}

#[tokio::test]
async fn a_proxy_has_all_the_connections() {
    let house = House::open(Options { behind_proxy: true, ..options() }, vec![source("sendpilot")]).await;
    let mut idle = Vec::new();
    for _ in 1..house.intake.options.connections_max {
        idle.push(house.tcp().await);
    }
    house.until(|house| house.intake.in_flight().connections == idle.len()).await;
    assert_eq!(house.send(&event("evt_1")).await.told(), ACCEPTED);
    assert!(house.reasons_elsewhere().is_empty());
    drop(idle);
    house.closed().await;
}

#[tokio::test]
async fn connections_are_capped_at_what_the_process_may_open() {
    let many = Options { connections_max: usize::MAX, ..options() };
    let house = House::open(many, vec![source("sendpilot")]).await;
    assert_eq!(house.intake.options.connections_max, files::connections_max(usize::MAX));
    assert_eq!(house.send(&event("evt_1")).await.told(), ACCEPTED);
    house.closed().await;
}

#[tokio::test]
async fn a_store_that_closes_is_503_and_the_body_is_not_read() {
    let house = House::plain().await;
    house.ledger.close().await.unwrap();
    let claimed =
        format!("POST {PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 10\r\n\r\n");
    let answer = house.raw(claimed.as_bytes()).await;
    assert_eq!(answer.told(), (503, r#"{"error":"unavailable"}"#));
    assert_eq!(answer.headers["retry-after"], "5");
    assert_eq!(house.reasons("sendpilot"), ["closing"]);
    house.stop.cancel();
    house.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn slow_headers_and_slow_bodies_are_408_while_others_are_served() {
    let soon = Duration::from_millis(300);
    let slow = Options { header_timeout: soon, body_timeout: soon, ..options() };
    let house = House::open(Options { tls: some_tls(), ..slow }, vec![source("sendpilot")]).await;
    let slow_headers =
        async { talk(house.tls("http/1.1").await, b"POST /webhooks/sendpilot HTTP/1.1\r\nhost: ").await };
    let slow_body = async {
        let head = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{");
        talk(house.tls("http/1.1").await, head.as_bytes()).await
    };
    let others = async {
        for n in 0..3 {
            let event = event(&format!("evt_{n}"));
            let sent = request("POST", PATH, &event.signed(), event.body.as_bytes());
            assert_eq!(talk(house.tls("http/1.1").await, &sent).await.told(), ACCEPTED);
        }
    };
    let (headers, body, ()) = tokio::join!(slow_headers, slow_body, others);
    let timeout = (408, r#"{"error":"timeout"}"#);
    assert_eq!((headers.told(), body.told()), (timeout, timeout));
    assert_eq!(
        (headers.headers["connection"].as_str(), body.headers["connection"].as_str()),
        ("close", "close")
    );
    house.until(|house| house.reasons_elsewhere() == ["slow-headers"]).await;
    assert_eq!(house.reasons("sendpilot"), ["slow-body"]);
    house.closed().await;
}

#[tokio::test]
async fn no_log_line_holds_a_body_a_signature_or_a_secret() {
    let log = Log::of_this_room();
    let house = House::plain().await;
    let event = event("evt_1");
    let mut marked = Event { id: event.id.clone(), body: event.body.replace("{}", r#"{"x":"marked-body"}"#) };
    house.send(&event).await;
    house.send(&marked).await;
    let forged = sign("another secret of some length", "evt_1", b"x", Millis::now());
    house.post(&format!("{PATH}?marked-query=1"), &forged, marked.body.as_bytes()).await;
    house.post("/nobody?marked-query=1", &forged, b"").await;
    marked.body.truncate(20);
    house.post(PATH, &marked.signed(), marked.body.as_bytes()).await;
    let text = log.text();
    for verb in ["read", "verify", "identify", "route", "accept", "answer"] {
        assert!(text.contains(&format!("{verb}{{source=sendpilot}}")), "no span `{verb}` in {text}");
    }
    for said in
        ["refused: no live secret", "has another body", "without all its names", "no source has the path"]
    {
        assert!(text.contains(said), "`{said}` is missing in {text}");
    }
    let signature = forged[0].1.rsplit('=').next().unwrap();
    for never in [SECRET, "marked-body", "marked-query", signature] {
        assert!(!text.contains(never), "`{never}` in {text}");
    }
    house.closed().await;
}

/// What this room logs, in all its tests: one subscriber for the process, since callsites remember what the
/// subscribers of other threads wanted.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    fn of_this_room() -> &'static Log {
        static LOG: std::sync::OnceLock<Log> = std::sync::OnceLock::new();
        LOG.get_or_init(|| {
            let log = Log::default();
            let to = log.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_env_filter("longshore::intake=trace")
                .with_span_events(tracing_subscriber::fmt::format::FmtSpan::NEW)
                .with_writer(move || to.clone())
                .finish();
            tracing::subscriber::set_global_default(subscriber)
                .expect("nobody else in this process sets one");
            log
        })
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// === connections ===

#[tokio::test]
async fn http_2_over_tls_is_served() {
    let house = House::open(Options { tls: some_tls(), ..options() }, vec![source("sendpilot")]).await;
    let stream = TokioIo::new(house.tls("h2").await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let client = tokio::spawn(connection);
    for (event, status) in [(event("evt_1"), 200), (event("evt_2"), 200)] {
        let mut request = Request::post(format!("https://localhost{PATH}"));
        for (name, value) in event.signed() {
            request = request.header(name, value);
        }
        let body = Full::new(Bytes::from(event.body.clone()));
        let answer = sender.send_request(request.body(body).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status);
        let names: BTreeSet<_> = answer.headers().keys().map(|name| name.as_str().to_owned()).collect();
        assert_eq!(names, ["content-length", "content-type", "date"].map(str::to_owned).into());
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), ACCEPTED.1);
    }
    let too_large =
        Request::post(format!("https://localhost{PATH}")).body(Full::new(Bytes::from(vec![0; 200_000])));
    assert_eq!(sender.send_request(too_large.unwrap()).await.unwrap().status(), 413);
    assert_eq!(house.events().await.len(), 2);
    house.closed().await;
    client.await.unwrap().unwrap();
}

#[tokio::test]
async fn more_headers_than_allowed_are_431_with_http_2_too() {
    let house = House::plain().await;
    let stream = TokioIo::new(house.tcp().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let client = tokio::spawn(connection);
    let mut request = Request::post(format!("http://localhost{PATH}"));
    for n in 0..=crate::words::limits::HEADERS_MAX {
        request = request.header(format!("x-{n}"), "1");
    }
    let answer = sender.send_request(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 431);
    house.closed().await;
    client.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_without_tls_is_named_to_the_operator() {
    let house = House::open(Options { tls: some_tls(), ..options() }, vec![source("sendpilot")]).await;
    let mut plain = house.tcp().await;
    plain.write_all(&request("GET", "/", &[], b"")).await.unwrap();
    let _ = plain.read_to_end(&mut Vec::new()).await;
    house.until(|house| !house.intake.refusals_elsewhere().is_empty()).await;
    let refusal = &house.intake.refusals_elsewhere()[0];
    assert_eq!((refusal.reason.as_str(), refusal.status), ("tls-handshake", 0));
    assert!(refusal.detail.contains("https://"), "{}", refusal.detail);
    house.closed().await;
}

#[tokio::test]
async fn behind_a_proxy_the_sender_is_the_last_hop() {
    let house = House::open(Options { behind_proxy: true, ..options() }, vec![source("sendpilot")]).await;
    let hops = [("x-forwarded-for".to_owned(), "10.0.0.1, 203.0.113.7".to_owned())];
    house.post(PATH, &hops, b"").await;
    assert_eq!(house.intake.refusals(&Name::new("sendpilot").unwrap())[0].address, "203.0.113.7");
    house.closed().await;
}

#[tokio::test]
async fn a_drain_ends_what_is_in_flight_and_takes_nothing_new() {
    let house = House::plain().await;
    let event = event("evt_1");
    let whole = request("POST", PATH, &event.signed(), event.body.as_bytes());
    let mut busy = house.tcp().await;
    let idle = house.tcp().await;
    busy.write_all(&whole[..whole.len() - 1]).await.unwrap();
    house
        .until(|house| house.intake.in_flight().requests == 1 && house.intake.in_flight().connections == 2)
        .await;
    house.stop.cancel();
    house.until(|house| house.intake.in_flight().connections == 1).await;
    drop(idle);
    assert!(TcpStream::connect(house.address).await.is_err());
    busy.write_all(&whole[whole.len() - 1..]).await.unwrap();
    assert_eq!(read_answer(busy).await.told(), ACCEPTED);
    assert_eq!(house.events().await.len(), 1);
    house.closed().await;
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let house =
        House::open(Options { drain: Duration::from_millis(50), ..options() }, vec![source("sendpilot")])
            .await;
    let mut busy = house.tcp().await;
    busy.write_all(format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n").as_bytes())
        .await
        .unwrap();
    house.until(|house| house.intake.in_flight().requests == 1).await;
    house.stop.cancel();
    house.served.await.unwrap().unwrap();
    assert_eq!(house.intake.in_flight().connections, 0);
    house.ledger.close().await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_is_said_at_start() {
    let house = House::plain().await;
    let missing = Tls::Files { cert: "missing.pem".into(), key: "missing-key.pem".into() };
    let intake = Intake::new(
        Options { tls: missing, ..options() },
        vec![],
        route::Table::default(),
        house.ledger.clone(),
        Metrics::default(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = intake.serve(listener, CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().starts_with("certificate `missing.pem`: cannot be read"), "{error}");
    house.closed().await;
}

// === keys that requests name ===

/// A host of keys, and of subscriptions to confirm.
#[derive(Default)]
struct Keys {
    asked: std::sync::Mutex<Vec<verify::Ask>>,
    answers: std::sync::Mutex<std::collections::VecDeque<Result<Answered, String>>>,
}

impl Keys {
    fn will(self: &Arc<Self>, status: u16, body: impl Into<Vec<u8>>) {
        self.answers.lock().unwrap().push_back(Ok(Answered { status, body: body.into() }));
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|ask| ask.url.clone()).collect()
    }
}

impl Outward for Keys {
    fn send(
        &self,
        ask: verify::Ask,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Answered, String>> + Send + '_>> {
        self.asked.lock().unwrap().push(ask);
        let next = self.answers.lock().unwrap().pop_front();
        Box::pin(async move { next.unwrap_or_else(|| Err("nobody is there".to_owned())) })
    }
}

/// A source whose keys are asked for.
fn asking(name: &str, scheme: &serde_json::Value, keys: &Arc<Keys>) -> Source {
    let preset = verify::preset(name).unwrap();
    let upper: verify::spec::Spec = serde_json::from_value(scheme.clone()).unwrap();
    let scheme = verify::Scheme::compile(&upper.over(&preset.scheme), &preset.event).unwrap();
    let credentials = ["client_id", "secret"].map(|name| (name.to_owned(), Secret::new("x")));
    let out = Arc::clone(keys) as Arc<dyn Outward>;
    Source {
        scheme,
        keys: ArcSwap::default(),
        fetch: Some(Fetch { out, credentials: credentials.into() }),
        ..source(name)
    }
}

fn vector(id: &str) -> serde_json::Value {
    let all: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../../../tests/vectors/builtin.json")).unwrap();
    all.into_iter().find(|vector| vector["id"] == id).unwrap()
}

const TOPIC: &str = "arn:aws:sns:us-west-2:123456789012:MyTopic";
const CERTIFICATE: &str =
    "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem";

async fn sns_house(keys: &Arc<Keys>) -> House {
    let topics = serde_json::json!({ "topics": [TOPIC] });
    let options = Options { body_bytes_max: 10_000, ..options() };
    House::open(options, vec![asking("aws-sns", &topics, keys)]).await
}

async fn post_vector(house: &House, id: &str) -> Answer {
    let vector = vector(id);
    let path = format!("/webhooks/{}", vector["provider"].as_str().unwrap());
    house.post(&path, &[], vector["body"].as_str().unwrap().as_bytes()).await
}

#[tokio::test]
async fn a_message_of_sns_is_proved_by_the_certificate_that_it_names() {
    let keys = Arc::new(Keys::default());
    let house = sns_house(&keys).await;
    keys.will(200, vector("aws-sns-notification")["secret"].as_str().unwrap());
    assert_eq!(post_vector(&house, "aws-sns-notification").await.told(), ACCEPTED);
    assert_eq!(post_vector(&house, "aws-sns-subject").await.told(), ACCEPTED);
    assert_eq!(keys.asked(), [CERTIFICATE]);
    let events = house.events().await;
    assert_eq!((events.len(), events[0].event_type.as_str()), (1, "Notification"), "one id, two copies");
    for (id, reason) in [
        ("aws-sns-evil-cert-1", "malformed-signature"),
        ("aws-sns-evil-cert-6", "malformed-signature"),
        ("aws-sns-downgrade-1", "malformed-signature"),
        ("aws-sns-message-twice", "malformed-signature"),
        ("aws-sns-version-1-says-2", "mismatch"),
    ] {
        assert_eq!(post_vector(&house, id).await.told(), UNAUTHORIZED, "{id}");
        assert_eq!(house.reasons("aws-sns").last().unwrap(), reason, "{id}");
    }
    assert_eq!(keys.asked().len(), 1, "nobody is asked about what can be refused at once");
    house.closed().await;
}

#[tokio::test]
async fn a_topic_that_is_not_listed_is_refused_before_anybody_is_asked() {
    let keys = Arc::new(Keys::default());
    let other = serde_json::json!({ "topics": [format!("{TOPIC}-2")] });
    let options = Options { body_bytes_max: 10_000, ..options() };
    let house = House::open(options, vec![asking("aws-sns", &other, &keys)]).await;
    assert_eq!(post_vector(&house, "aws-sns-notification").await.told(), UNAUTHORIZED);
    assert_eq!(post_vector(&house, "aws-sns-subscription").await.told(), UNAUTHORIZED);
    assert_eq!(house.reasons("aws-sns"), ["foreign", "foreign"]);
    assert!(keys.asked().is_empty());
    house.closed().await;
}

#[tokio::test]
async fn a_key_that_cannot_be_had_is_503_and_one_that_there_is_not_is_401() {
    let keys = Arc::new(Keys::default());
    let house = sns_house(&keys).await;
    let answer = post_vector(&house, "aws-sns-notification").await;
    assert_eq!(answer.told(), (503, r#"{"error":"unavailable"}"#));
    assert_eq!(answer.headers["retry-after"], "5");
    assert_eq!(house.reasons("aws-sns"), ["keys"]);
    house.closed().await;

    let keys = Arc::new(Keys::default());
    let house = sns_house(&keys).await;
    keys.will(404, "");
    assert_eq!(post_vector(&house, "aws-sns-notification").await.told(), UNAUTHORIZED);
    assert_eq!(house.reasons("aws-sns"), ["unknown-key"]);
    assert!(house.events().await.is_empty());
    house.closed().await;
}

#[tokio::test]
async fn a_subscription_is_confirmed_before_it_is_answered() {
    let keys = Arc::new(Keys::default());
    let house = sns_house(&keys).await;
    keys.will(200, vector("aws-sns-subscription")["secret"].as_str().unwrap());
    keys.will(403, "no");
    let answer = post_vector(&house, "aws-sns-subscription").await;
    assert_eq!(answer.told(), (503, r#"{"error":"unavailable"}"#));
    assert_eq!(house.reasons("aws-sns"), ["unconfirmed"]);
    assert!(house.events().await.is_empty(), "what is not confirmed is not stored: the sender comes back");

    keys.will(200, "<ConfirmSubscriptionResponse/>");
    assert_eq!(post_vector(&house, "aws-sns-subscription").await.told(), ACCEPTED);
    let asked = keys.asked();
    assert_eq!(asked.len(), 3);
    assert!(
        asked[2].starts_with("https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&"),
        "{asked:?}"
    );
    let events = house.events().await;
    assert_eq!((events.len(), events[0].event_type.as_str()), (1, "SubscriptionConfirmation"));

    // A farewell is an event; to follow its URL would be to subscribe again. A tampered one asks nobody.
    assert_eq!(post_vector(&house, "aws-sns-unsubscribe").await.told(), ACCEPTED);
    assert_eq!(post_vector(&house, "aws-sns-confirmation-elsewhere").await.told(), UNAUTHORIZED);
    assert_eq!(keys.asked().len(), 3);
    house.closed().await;
}

#[tokio::test]
async fn a_source_with_a_secret_asks_nobody() {
    let keys = Arc::new(Keys::default());
    let topics = serde_json::json!({ "topics": [TOPIC] });
    let secret = Secret::new(vector("aws-sns-notification")["secret"].as_str().unwrap());
    let ended = Some(Millis(1));
    for (ends, told) in [(None, ACCEPTED), (ended, UNAUTHORIZED)] {
        let mut source = asking("aws-sns", &topics, &keys);
        source.keys = ArcSwap::from_pointee(vec![source.scheme.key(&secret, ends).unwrap()]);
        let options = Options { body_bytes_max: 10_000, ..options() };
        let house = House::open(options, vec![source]).await;
        assert_eq!(post_vector(&house, "aws-sns-notification").await.told(), told);
        house.closed().await;
    }
    assert!(keys.asked().is_empty());
}

#[tokio::test]
async fn a_token_of_plaids_is_proved_by_the_key_that_it_names() {
    use base64::Engine as _;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING as ES256, EcdsaKeyPair, KeyPair};
    let encoded = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let random = ring::rand::SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ES256, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ES256, document.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref();
    let answer = serde_json::json!({"key": {
        "alg": "ES256", "crv": "P-256", "kid": "k1", "kty": "EC", "use": "sig", "expired_at": null,
        "x": encoded(&point[1..33]), "y": encoded(&point[33..]),
    }});
    let token = |body: &[u8]| {
        let digest = crate::words::digest::Digest::of(body);
        let claims =
            serde_json::json!({"iat": Millis::now().0 / 1000, "request_body_sha256": digest.to_string()});
        let signed = format!(
            "{}.{}",
            encoded(br#"{"alg":"ES256","kid":"k1"}"#),
            encoded(claims.to_string().as_bytes())
        );
        let signature = pair.sign(&random, signed.as_bytes()).unwrap();
        vec![("Plaid-Verification".to_owned(), format!("{signed}.{}", encoded(signature.as_ref())))]
    };
    let keys = Arc::new(Keys::default());
    let house = House::open(options(), vec![asking("plaid", &serde_json::json!({}), &keys)]).await;
    keys.will(200, answer.to_string());
    let body = br#"{"webhook_type":"ITEM","webhook_code":"ERROR"}"#;
    assert_eq!(house.post("/webhooks/plaid", &token(body), body).await.told(), ACCEPTED);
    assert_eq!(house.post("/webhooks/plaid", &token(body), b"{}").await.told(), UNAUTHORIZED);
    assert_eq!(house.reasons("plaid"), ["unfit"]);
    assert_eq!(keys.asked(), ["https://production.plaid.com/webhook_verification_key/get"]);
    assert_eq!(house.events().await[0].event_type, "ERROR");
    house.closed().await;
}
