//! What every stand-in does: take a request, answer as told or as the real service would, and keep both.
//!
//! A request is kept before it is answered, so a caller that hangs up while a fault holds the answer back is
//! in the list all the same: that is how a test sees a call that timed out.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{future, io};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::exchange::{Answer, Request};
use crate::limits::{BODY_BYTES_MAX, FAULT_DELAY_MAX, FAULTS_MAX, RECEIVED_MAX};
use crate::time::now_ms;

/// One request, and how it was answered.
#[derive(Debug, Clone, Serialize)]
pub struct Received {
    pub at_ms: u64,
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    /// Lower-case names; the values of a repeated header are joined by commas.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// The status answered, and the body with it.
    pub status: u16,
    pub answer: String,
}

impl Received {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// What to do with the next requests instead of answering as the service would.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Only requests whose path starts with this.
    #[serde(default)]
    path: String,
    /// How many requests.
    #[serde(default = "once")]
    times: u32,
    /// Hold the answer back this long.
    #[serde(default)]
    delay_ms: u64,
    /// Answer with this status; without one the service's own answer follows the delay.
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
    /// Do what the request asks for all the same: the answer that lies.
    #[serde(default)]
    acts: bool,
}

fn once() -> u32 {
    1
}

impl Fault {
    /// Answer the next request with `status` and do nothing.
    pub fn status(status: u16) -> Fault {
        Fault { status: Some(status), ..Fault::delay(Duration::ZERO) }
    }

    /// Answer the next request as the service would, but late.
    pub fn delay(delay: Duration) -> Fault {
        Fault {
            path: String::new(),
            times: once(),
            delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            status: None,
            headers: BTreeMap::new(),
            body: String::new(),
            acts: false,
        }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Fault {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    #[must_use]
    pub fn body(mut self, body: &str) -> Fault {
        body.clone_into(&mut self.body);
        self
    }

    /// For this many requests rather than one.
    #[must_use]
    pub fn times(mut self, times: u32) -> Fault {
        self.times = times;
        self
    }

    /// Only for requests whose path starts with `path`.
    #[must_use]
    pub fn on(mut self, path: &str) -> Fault {
        path.clone_into(&mut self.path);
        self
    }

    /// Do what the request asks for, and answer as told nevertheless.
    #[must_use]
    pub fn acting(mut self) -> Fault {
        self.acts = true;
        self
    }

    /// The same fault with an answer that comes late.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Fault {
        self.delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self
    }

    fn answer(&self) -> Option<Answer> {
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Some(Answer { status: self.status?, headers, body: self.body.clone() })
    }

    fn problem(&self) -> Option<String> {
        if Duration::from_millis(self.delay_ms) > FAULT_DELAY_MAX {
            return Some(format!("delay_ms is at most {}", FAULT_DELAY_MAX.as_millis()));
        }
        if self.status.is_some_and(|status| !(200..600).contains(&status)) {
            return Some("status is from 200 to 599".to_owned());
        }
        self.answer().and_then(|answer| answer.response().err())
    }
}

pub(crate) type Judge = Box<dyn FnMut(&Request) -> Answer + Send>;

/// A running stand-in; dropping it ends it.
pub(crate) struct Desk {
    url: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    state: Mutex<Work>,
    count: watch::Sender<usize>,
}

struct Work {
    judge: Judge,
    faults: VecDeque<Fault>,
    received: Vec<Received>,
}

/// Any free port of the loopback address.
pub(crate) fn anywhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

impl Desk {
    /// Listens at `address`, which must be a loopback one: a stand-in keeps what it is sent and shows it to
    /// whoever asks.
    pub(crate) async fn open(address: SocketAddr, judge: Judge) -> io::Result<Desk> {
        if !address.ip().is_loopback() {
            let why = format!("a stand-in listens on loopback only, not on {address}: give 127.0.0.1:0");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let listener = TcpListener::bind(address).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let work = Work { judge, faults: VecDeque::new(), received: Vec::new() };
        let shared = Arc::new(Shared { state: Mutex::new(work), count: watch::Sender::new(0) });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Desk { url, shared, server })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.work().received.clone()
    }

    /// Waits until `count` requests have come.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        let mut arrivals = self.shared.count.subscribe();
        if arrivals.wait_for(|have| *have >= count).await.is_err() {
            future::pending::<()>().await; // the sender lives in `self.shared`
        }
        self.received()
    }

    pub(crate) fn fail_next(&self, fault: Fault) -> Result<(), String> {
        self.shared.add(fault)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/received", get(list).delete(forget))
        .route("/faults", post(set_fault))
        .fallback(take)
        .with_state(shared);
    // `axum::serve` on a TCP listener answers errors of accept itself and never returns one.
    let _never = axum::serve(listener, router).await;
}

async fn take(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or broke off").into_response();
    };
    let (answer, delay) = shared.answer(&Request::new(&parts, body));
    tokio::time::sleep(delay).await;
    answer.into_response()
}

async fn list(State(shared): State<Arc<Shared>>) -> Response {
    axum::Json(&shared.work().received).into_response()
}

async fn forget(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.work().received.clear();
    shared.count.send_replace(0);
    StatusCode::NO_CONTENT
}

async fn set_fault(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let fault = serde_json::from_slice::<Fault>(&body).map_err(|e| e.to_string());
    match fault.and_then(|fault| shared.add(fault)) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(why) => (StatusCode::BAD_REQUEST, why).into_response(),
    }
}

impl Shared {
    fn work(&self) -> MutexGuard<'_, Work> {
        // A judge that panicked has spoilt one answer; the list is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, fault: Fault) -> Result<(), String> {
        if let Some(why) = fault.problem() {
            return Err(why);
        }
        let mut work = self.work();
        if work.faults.len() >= FAULTS_MAX {
            return Err(format!("{FAULTS_MAX} faults are waiting already"));
        }
        work.faults.push_back(fault);
        Ok(())
    }

    fn answer(&self, request: &Request) -> (Answer, Duration) {
        let mut work = self.work();
        if work.received.len() >= RECEIVED_MAX {
            let why = format!("{RECEIVED_MAX} requests are kept, and that is all: DELETE /received");
            return (Answer::text(507, &why), Duration::ZERO);
        }
        let (answer, delay) = work.decide(request);
        work.received.push(Received {
            at_ms: now_ms(),
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            headers: request.headers.clone(),
            body: String::from_utf8_lossy(&request.body).into_owned(),
            status: answer.status,
            answer: answer.body.clone(),
        });
        self.count.send_replace(work.received.len());
        (answer, delay)
    }
}

impl Work {
    fn decide(&mut self, request: &Request) -> (Answer, Duration) {
        let Some(fault) = self.next_fault(&request.path) else {
            return ((self.judge)(request), Duration::ZERO);
        };
        let delay = Duration::from_millis(fault.delay_ms);
        match fault.answer() {
            Some(told) => {
                if fault.acts {
                    (self.judge)(request);
                }
                (told, delay)
            }
            None => ((self.judge)(request), delay),
        }
    }

    /// The first fault for this path, with one of its times used up.
    fn next_fault(&mut self, path: &str) -> Option<Fault> {
        self.faults.retain(|fault| fault.times > 0);
        let fault = self.faults.iter_mut().find(|fault| path.starts_with(&fault.path))?;
        fault.times -= 1;
        Some(fault.clone())
    }
}
