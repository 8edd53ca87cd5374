//! The bare side: an axum server that verifies the same HMAC and does nothing else. It prints its address.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

#[tokio::main]
async fn main() {
    let app = Router::new().route(bench::PATH, post(receive)).with_state(bench::mac());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    println!("{}", listener.local_addr().expect("a bound socket has an address"));
    axum::serve(listener, app).await.expect("the server runs until it is killed");
}

async fn receive(State(mac): State<Hmac<Sha256>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    match verify(mac, &headers, &body) {
        Some(()) => StatusCode::OK,
        None => StatusCode::UNAUTHORIZED,
    }
}

fn verify(mut mac: Hmac<Sha256>, headers: &HeaderMap, body: &[u8]) -> Option<()> {
    let header = headers.get("webhook-signature")?.to_str().ok()?;
    let (at, signature) = header.split_once(',')?;
    let (at, signature) = (at.strip_prefix("t=")?, signature.strip_prefix("s=")?);
    let age = bench::now_s().abs_diff(at.parse().ok()?);
    mac.update(at.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.verify_slice(&hex::decode(signature).ok()?).ok()?;
    (age <= 300).then_some(())
}
