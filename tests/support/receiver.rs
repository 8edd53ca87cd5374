//! Receiver: a service that a handler calls. It notes every call, and answers as it is told to.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What a receiver was sent, and what it answered.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub body: String,
    pub key: String,
    pub status: u16,
}

/// Answers as it is told to; a body names the event.
pub struct Receiver {
    pub origin: String,
    pub calls: Arc<Mutex<Vec<Call>>>,
}

pub type Answers = Arc<dyn Fn(&str, usize) -> u16 + Send + Sync>;

impl Receiver {
    /// `answers`: of a path, and how often this body came to it before. 0: the connection breaks.
    pub async fn start(answers: Answers) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let calls = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&calls);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (calls, answers) = (Arc::clone(&theirs), Arc::clone(&answers));
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, calls.clone(), answers.clone()));
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Receiver { origin, calls }
    }

    pub fn calls(&self, path: &str) -> Vec<Call> {
        self.calls.lock().unwrap().iter().filter(|call| call.path == path).cloned().collect()
    }
}

async fn answer(
    request: Request<Incoming>,
    calls: Arc<Mutex<Vec<Call>>>,
    answers: Answers,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let path = head.uri.path().to_owned();
    let key = head.headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
    let status = {
        let mut calls = calls.lock().unwrap();
        let earlier = calls.iter().filter(|call| call.path == path && call.body == body).count();
        let status = answers(&path, earlier);
        calls.push(Call { path, body, key: key.unwrap_or_default(), status });
        status
    };
    match status {
        0 => Err(std::io::Error::other("breaks off")),
        status => Ok(Response::builder().status(status).body(Full::default()).unwrap()),
    }
}
