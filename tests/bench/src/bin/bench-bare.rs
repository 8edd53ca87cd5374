//! The bare side: an axum server that verifies the same HMAC and does nothing else. It prints its address.
//!
//! With `--append` it also appends the body to one file and answers after a sync, which it shares with whoever waits at
//! that moment: the least that a durable answer can cost on this machine.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc as std_mpsc};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use clap::Parser;
use hmac::{Hmac, Mac as _};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::Sha256;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

#[derive(Parser)]
struct Args {
    /// Certificate and key, PEM.
    #[arg(long, num_args = 2, value_names = ["CERTIFICATE", "KEY"])]
    tls: Option<Vec<PathBuf>>,
    /// A folder for the file that every body is appended to before it is answered.
    #[arg(long, value_name = "FOLDER")]
    append: Option<PathBuf>,
}

#[derive(Clone)]
struct Server {
    mac: Hmac<Sha256>,
    appends: Option<std_mpsc::Sender<Append>>,
}

struct Append {
    body: Bytes,
    synced: oneshot::Sender<()>,
}

/// As in Longshore's own configuration.
const BODY_BYTES_MAX: usize = 5 << 20;
/// Handshakes that nobody has taken yet.
const HANDSHAKES_MAX: usize = 1024;

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let app = Router::new().route(bench::PATH, post(receive));
    let server = Server { mac: bench::mac(), appends: args.append.as_deref().map(appender) };
    let app = app.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(server);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    println!("{}", listener.local_addr().expect("a bound socket has an address"));
    let served = match args.tls.as_deref() {
        Some([certificate, key]) => {
            axum::serve(Handshakes::of(listener, acceptor(certificate, key)), app).await
        }
        _ => axum::serve(listener, app).await,
    };
    served.expect("the server runs until it is killed");
}

async fn receive(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if verify(server.mac, &headers, &body).is_none() {
        return StatusCode::UNAUTHORIZED;
    }
    if let Some(appends) = server.appends {
        let (synced, is_synced) = oneshot::channel();
        appends.send(Append { body, synced }).expect("the appending thread never ends");
        is_synced.await.expect("the appending thread answers everybody");
    }
    StatusCode::OK
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

// === appending ===

/// Zeros written beforehand, so that a sync carries bytes and no change of the file's size.
const APPENDED_BYTES_MAX: u64 = 1 << 30;

fn appender(folder: &Path) -> std_mpsc::Sender<Append> {
    let path = folder.join("appended");
    let file = File::create(&path).expect("the folder can be written to");
    // Nobody opens it again: it is gone when this process is.
    std::fs::remove_file(&path).expect("it was made one line above");
    let zeros = vec![0; 1 << 20];
    for offset in (0..APPENDED_BYTES_MAX).step_by(zeros.len()) {
        file.write_all_at(&zeros, offset).expect("the disk has room for the file");
    }
    file.sync_all().expect("the disk syncs");
    let (appends, waiting) = std_mpsc::channel();
    std::thread::spawn(move || append_all(&file, &waiting));
    appends
}

/// Begins again at the start of the file when it is full: nobody reads it.
fn append_all(file: &File, waiting: &std_mpsc::Receiver<Append>) {
    let mut offset = 0;
    while let Ok(first) = waiting.recv() {
        let batch: Vec<Append> = std::iter::once(first).chain(waiting.try_iter()).collect();
        let bytes: Vec<u8> = batch.iter().flat_map(|append| append.body.iter().copied()).collect();
        if offset + bytes.len() as u64 > APPENDED_BYTES_MAX {
            offset = 0;
        }
        file.write_all_at(&bytes, offset).expect("the file can be written to");
        file.sync_data().expect("the disk syncs");
        offset += bytes.len() as u64;
        for append in batch {
            let _ = append.synced.send(());
        }
    }
}

// === TLS ===

fn acceptor(certificate: &Path, key: &Path) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(certificate).expect("the file holds a certificate");
    let key = PrivateKeyDer::from_pem_file(key).expect("the file holds a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for every version")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("certificate and key belong together");
    TlsAcceptor::from(Arc::new(config))
}

/// Connections whose handshake is done. Each handshake is a task, so that none waits for another.
struct Handshakes {
    done: mpsc::Receiver<TlsStream<TcpStream>>,
    address: std::net::SocketAddr,
}

impl Handshakes {
    fn of(listener: TcpListener, acceptor: TlsAcceptor) -> Handshakes {
        let address = listener.local_addr().expect("a bound socket has an address");
        let (tell, done) = mpsc::channel(HANDSHAKES_MAX);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("connections can be accepted");
                let (acceptor, tell) = (acceptor.clone(), tell.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = tell.send(stream).await;
                    }
                });
            }
        });
        Handshakes { done, address }
    }
}

impl axum::serve::Listener for Handshakes {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        (self.done.recv().await.expect("the accepting task never ends"), self.address)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.address)
    }
}
