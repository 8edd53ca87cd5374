//! What every chapter needs: the built plugin, one engine, a handler as configured, a shelf, a server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use crate::host::{
    BoundSecret, CallLimits, Called, EffectPolicy, Engine, Event, Grants, Handler, Options, Plugin, Shelf,
    ShelfFuture, Unrecorded, Wire,
};
use crate::words::attempt::{Blame, ErrorKind, Outcome};
use crate::words::event::Name;
use crate::words::secret::Secret;
use crate::words::shelf::ShelfRead;
use crate::words::time::Millis;

/// Builds `tests/handlers` once for all tests.
pub(in crate::host) fn wasm() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let status = Command::new(env!("CARGO"))
            .args(["build", "-p", "test-handlers", "--target", "wasm32-wasip2", "--profile", "plugin"])
            .args(["--target-dir", "target/plugins"])
            .current_dir(root)
            .status()
            .unwrap();
        assert!(status.success(), "tests/handlers does not build");
        root.join("target/plugins/wasm32-wasip2/plugin/test_handlers.wasm")
    })
}

pub(in crate::host) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(Options { cache: None, instances_max: 128 }).unwrap())
}

/// Held for as long as the tests run: the engine forgets a plugin that nobody uses.
pub(in crate::host) fn plugin() -> &'static Plugin {
    static PLUGIN: OnceLock<Plugin> = OnceLock::new();
    PLUGIN.get_or_init(|| engine().load(wasm()).unwrap())
}

/// Runs a test on the runtime that guests run on.
pub(in crate::host) fn on_guests<T>(test: impl Future<Output = T>) -> T {
    crate::host::runtime(2).unwrap().block_on(test)
}

/// A handler, as an operator would write it.
pub(in crate::host) struct Setup {
    pub(in crate::host) engine: Engine,
    pub(in crate::host) grants: Grants,
}

impl Setup {
    pub(in crate::host) fn new(behaviour: &str) -> Setup {
        let limits = CallLimits { timeout: Duration::from_secs(10), ..CallLimits::default() };
        let grants = Grants {
            name: Name::new("h").unwrap(),
            settings: Map::new(),
            secrets: BTreeMap::new(),
            origins: vec![],
            networks: vec!["127.0.0.0/8".parse().unwrap()],
            limits,
            effects: EffectPolicy::default(),
        };
        Setup { engine: engine().clone(), grants }.setting("do", behaviour)
    }

    pub(in crate::host) fn setting(mut self, key: &str, value: impl Into<Value>) -> Setup {
        self.grants.settings.insert(key.into(), value.into());
        self
    }

    /// The origin is granted and `url` set.
    pub(in crate::host) fn calling(mut self, origin: &str, path: &str) -> Setup {
        self.grants.origins.push(origin.into());
        self.setting("url", format!("{origin}{path}"))
    }

    pub(in crate::host) fn secret(mut self, name: &str, value: &str, to: &[&str]) -> Setup {
        let to = to.iter().map(|t| (*t).to_owned()).collect();
        self.grants.secrets.insert(name.into(), BoundSecret { value: Secret::new(value), to });
        self.setting("secret", name)
    }

    pub(in crate::host) fn limits(mut self, edit: impl FnOnce(&mut CallLimits)) -> Setup {
        edit(&mut self.grants.limits);
        self
    }

    pub(in crate::host) fn bind(self) -> Handler {
        plugin();
        let plugin = self.engine.load(wasm()).unwrap();
        Handler::bind(&self.engine, plugin, self.grants).ok().unwrap().0
    }

    pub(in crate::host) async fn call(self) -> Called {
        call(&self.bind()).await
    }
}

pub(in crate::host) async fn call(handler: &Handler) -> Called {
    handler.call(event(), Arc::new(Memory::default()), live()).await
}

/// Calls leave, and nobody writes down that they do.
pub(in crate::host) fn live() -> Wire {
    Wire::Live(Arc::new(Unrecorded::default()))
}

pub(in crate::host) fn event() -> Event {
    Event {
        id: "evt_1".into(),
        event_type: "message.received".into(),
        source: "sendpilot".into(),
        delivery_id: "1f.h".into(),
        received_at: Millis(1_790_000_000_000),
        signed_at: None,
        attempt: 1,
        query: None,
        headers: vec![("content-type".into(), "application/json".into())],
        body: Bytes::from_static(b"{}"),
        attributes: vec![],
    }
}

/// The note of a call that is done.
pub(in crate::host) fn note(called: &Called) -> &str {
    match &called.outcome {
        Outcome::Done { note: Some(note) } => note,
        other => panic!("{other:?}, {:?}", called.logs),
    }
}

/// Kind, blame, reason and `permanent` of a call that failed.
pub(in crate::host) fn failure(called: &Called) -> (ErrorKind, Blame, &str, bool) {
    match &called.outcome {
        Outcome::Failed { kind, blame, reason, permanent, .. } => (*kind, *blame, reason, *permanent),
        other => panic!("{other:?}"),
    }
}

// === a shelf in memory ===

#[derive(Default)]
pub(in crate::host) struct Memory(pub(in crate::host) BTreeMap<String, Bytes>);

impl Shelf for Memory {
    fn get<'a>(&'a self, key: &'a str) -> ShelfFuture<'a, ShelfRead> {
        let value = self.0.get(key).cloned();
        let version = u64::from(value.is_some());
        Box::pin(std::future::ready(Ok(ShelfRead { value, version })))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
    ) -> ShelfFuture<'a, Vec<String>> {
        let keys = self.0.keys().filter(|k| k.starts_with(prefix) && after.is_none_or(|a| k.as_str() > a));
        Box::pin(std::future::ready(Ok(keys.take(limit as usize).cloned().collect())))
    }

    fn bytes(&self) -> ShelfFuture<'_, u64> {
        Box::pin(std::future::ready(Ok(0)))
    }
}

// === a server on loopback ===

/// What it was asked: request lines with headers and body, in order.
#[derive(Clone, Default)]
pub(in crate::host) struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub(in crate::host) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Starts the server on the current runtime; its origin, and what it sees.
pub(in crate::host) async fn server() -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let theirs = seen.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, theirs.clone()));
        }
    });
    (origin, seen)
}

pub(in crate::host) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, seen: Seen) {
    let service = service_fn(move |request| answer(request, seen.clone()));
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, seen: Seen) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let headers: Vec<String> =
        head.headers.iter().map(|(n, v)| format!("{n}: {}", String::from_utf8_lossy(v.as_bytes()))).collect();
    let text = format!(
        "{} {} {:?} [{}] {}",
        head.method,
        head.uri,
        head.version,
        headers.join(", "),
        String::from_utf8_lossy(&body)
    );
    let (is_first, earlier) = {
        let mut seen = seen.0.lock().unwrap();
        let start = format!("{} {} ", head.method, head.uri);
        let earlier = seen.iter().filter(|text| text.starts_with(&start)).count();
        seen.push(text.clone());
        (seen.len() == 1, earlier)
    };
    let response = Response::builder().header("server", "rig");
    let large = || Full::new(Bytes::from(vec![b'x'; 2 << 20]));
    let response = match head.uri.path() {
        "/echo" => {
            // Headers come back as headers too, as debugging services do it.
            let back = head.headers.get("authorization").or(head.headers.get("x-api-key")).cloned();
            response
                .header("x-was", back.unwrap_or_else(|| "nothing".parse().unwrap()))
                .body(Full::new(text.into()))
        }
        "/redirect" => response.status(302).header("location", "/echo").body(Full::default()),
        "/redirect-to" => {
            let to = url::form_urlencoded::parse(head.uri.query().unwrap_or("").as_bytes()).next();
            let to = to.map(|(name, _)| name.into_owned()).unwrap_or_default();
            response.status(302).header("location", to).body(Full::default())
        }
        "/echo-error" => response.status(500).body(Full::new(text.into())),
        "/fails-once" => response.status(if is_first { 500 } else { 200 }).body(Full::default()),
        "/large" => response.body(large()),
        "/large-error" => response.status(500).body(large()),
        "/gzip" => response.header("content-encoding", "gzip").body(Full::new("gzipped".into())),
        "/many-headers" => {
            (0..90).fold(response, |r, n| r.header(format!("x-{n}"), "y")).body(Full::default())
        }
        "/hang" => std::future::pending().await,
        // `/in-turn/500,no,200`: one after the other, and the last one again and again.
        path if path.starts_with("/in-turn/") => {
            let turns: Vec<&str> =
                path["/in-turn/".len()..].split('/').next().unwrap_or("").split(',').collect();
            match turns[earlier.min(turns.len() - 1)] {
                "no" => response.body(Full::new(r#"{"ok":false}"#.into())),
                "hang" => std::future::pending().await,
                "break" => return Err(std::io::Error::other("breaks off")),
                status => response
                    .status::<u16>(status.parse().unwrap())
                    .body(Full::new(format!("answer {}", earlier + 1).into())),
            }
        }
        "/break" => return Err(std::io::Error::other("breaks off")),
        path => {
            let status = path.strip_prefix("/status/").and_then(|s| s.parse().ok()).unwrap_or(200);
            response.status::<u16>(status).body(Full::new("ok".into()))
        }
    };
    Ok(response.unwrap())
}
