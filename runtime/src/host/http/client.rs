//! The client: resolves once, vets every address, dials what it vetted, and keeps its connections.
//!
//! One for each handler and one for the daemon itself, with its own pool, TLS sessions and rules. A pooled connection skips the connector and
//! so the vetting: two handlers with different grants must not share one. Redirects are not followed and proxy
//! variables of the environment are not read.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Uri};
use http_body_util::{BodyExt, Full};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, capture_connection};
use hyper_util::client::legacy::{self};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ipnet::IpNet;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::Error;
use super::addresses::{Forbidden, Vetting};
use crate::words::event::Name;
use crate::words::limits;

/// What all handlers' clients share: whom they trust, and who knows names.
pub(in crate::host) struct Network {
    roots: Arc<RootCertStore>,
    resolver: Resolver,
}

/// The addresses of a host, with the port. Blocking.
type Resolver = Arc<dyn Fn(&str, u16) -> std::io::Result<Vec<SocketAddr>> + Send + Sync>;

/// One more than are vetted: so it shows that there are too many.
fn by_the_system(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    (host, port).to_socket_addrs().map(|found| found.take(limits::HTTP_ADDRESSES_MAX + 1).collect())
}

impl Network {
    pub(in crate::host) fn new() -> Network {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        Network { roots: Arc::new(roots), resolver: Arc::new(by_the_system) }
    }

    #[cfg(test)]
    pub(in crate::host) fn resolve_by(
        &mut self,
        resolver: impl Fn(&str, u16) -> std::io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) {
        self.resolver = Arc::new(resolver);
    }

    #[cfg(test)]
    pub(in crate::host) fn trust(&mut self, root: rustls::pki_types::CertificateDer<'static>) {
        let mut roots = RootCertStore::clone(&self.roots);
        roots.add(root).expect("a test's root is a certificate");
        self.roots = Arc::new(roots);
    }
}

pub(in crate::host) struct Client {
    /// None: the daemon itself, to which no network can be granted.
    handler: Option<Name>,
    http: legacy::Client<Connector, Full<Bytes>>,
}

/// An answer, read to its end or to the cap.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// There was more than the cap; `body` is its beginning.
    pub(super) is_cut: bool,
}

/// No answer, or only half of one.
pub(super) struct Failure {
    pub(super) error: Error,
    /// Set where the headers had come before it failed.
    pub(super) status: Option<u16>,
}

impl Client {
    pub(in crate::host) fn new(handler: Option<Name>, network: &Network, granted: &[IpNet]) -> Client {
        let connector = Connector(Arc::new(Dialler::new(network, granted)));
        let http = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits::HTTP_POOL_IDLE)
            .pool_max_idle_per_host(limits::HTTP_POOL_IDLE_CONNECTIONS_MAX)
            .http1_max_buf_size(2 * limits::HTTP_HEADERS_BYTES_MAX)
            .http2_max_header_list_size(2 * limits::HTTP_HEADERS_BYTES_MAX as u32)
            // A connection whose other end vanished is found out here, not by a delivery's timeout.
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            .build(connector);
        Client { handler, http }
    }

    pub(super) async fn send(
        &self,
        mut request: http::Request<Full<Bytes>>,
        deadline: Instant,
        body_bytes_max: usize,
    ) -> Result<Answer, Failure> {
        let captured = capture_connection(&mut request);
        let response = match timeout_at(deadline, self.http.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(Failure { error: self.classify(&error), status: None }),
            Err(_) if captured.connection_metadata().is_none() => {
                let error = Error::Connect("no connection within the time of the call".into());
                return Err(Failure { error, status: None });
            }
            Err(_) => return Err(Failure { error: Error::Timeout, status: None }),
        };
        let (head, body) = response.into_parts();
        let status = head.status.as_u16();
        match timeout_at(deadline, read(body, body_bytes_max)).await {
            Ok(Ok((body, is_cut))) => Ok(Answer { status, headers: head.headers, body, is_cut }),
            Ok(Err(error)) => {
                let error = Error::Protocol(format!("the answer broke off: {}", chain(&error)));
                Err(Failure { error, status: Some(status) })
            }
            Err(_) => Err(Failure { error: Error::Timeout, status: Some(status) }),
        }
    }

    /// Whether anything may have left is what the plugin, and later the record, must know.
    fn classify(&self, error: &legacy::Error) -> Error {
        match find::<DialError>(error) {
            Some(DialError::Forbidden { host, forbidden }) => return self.forbidden(host, forbidden),
            Some(DialError::Dns(why)) => return Error::Dns(why.clone()),
            Some(DialError::Busy) => return Error::Unavailable(DialError::Busy.to_string()),
            Some(DialError::Connect(why)) => return Error::Connect(why.clone()),
            Some(DialError::Tls(why)) => return Error::Tls(why.clone()),
            None => {}
        }
        // Cancelled: hyper hands the request back untouched.
        let is_unsent =
            error.is_connect() || find::<hyper::Error>(error).is_some_and(hyper::Error::is_canceled);
        if is_unsent { Error::Connect(chain(error)) } else { Error::Protocol(chain(error)) }
    }

    fn forbidden(&self, host: &str, Forbidden { address, why }: &Forbidden) -> Error {
        let network = IpNet::from(*address);
        let what = format!("`{host}` is {address} ({why}), which is not dialled");
        Error::Denied(match &self.handler {
            Some(handler) => {
                format!("{what} unless granted: handlers.{handler}.grants.networks: [\"{network}\"]")
            }
            None => what,
        })
    }
}

/// The body, or its first `max` bytes and true.
async fn read(mut body: hyper::body::Incoming, max: usize) -> Result<(Vec<u8>, bool), hyper::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = max - bytes.len();
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return Ok((bytes, true));
        }
    }
    Ok((bytes, false))
}

fn tls_config(roots: &Arc<RootCertStore>) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

// === dialling ===

#[derive(Clone)]
struct Connector(Arc<Dialler>);

struct Dialler {
    vetting: Vetting,
    tls: TlsConnector,
    resolver: Resolver,
    lookups: Arc<Semaphore>,
}

/// Nothing was sent.
#[derive(Debug)]
enum DialError {
    Forbidden { host: String, forbidden: Forbidden },
    Dns(String),
    Busy,
    Connect(String),
    Tls(String),
}

impl tower::Service<Uri> for Connector {
    type Response = Link;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Link, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialler = Arc::clone(&self.0);
        Box::pin(async move { dialler.connect(&uri).await })
    }
}

impl Dialler {
    fn new(network: &Network, granted: &[IpNet]) -> Dialler {
        Dialler {
            vetting: Vetting::new(granted),
            tls: tls_config(&network.roots),
            resolver: Arc::clone(&network.resolver),
            lookups: Arc::new(Semaphore::new(limits::HTTP_LOOKUPS_MAX)),
        }
    }

    async fn connect(&self, uri: &Uri) -> Result<Link, DialError> {
        let is_tls = uri.scheme_str() != Some("http");
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let addresses = self.resolve(host, port).await?;
        self.vetting
            .vet(addresses.iter().map(SocketAddr::ip))
            .map_err(|forbidden| DialError::Forbidden { host: host.to_owned(), forbidden })?;
        let stream = timeout(limits::HTTP_CONNECT_TIMEOUT, dial(&addresses))
            .await
            .unwrap_or_else(|_| Err(DialError::Connect(format!("no answer from `{host}` port {port}"))))?;
        if is_tls { self.handshake(host, stream).await } else { Ok(Link::plain(stream)) }
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        // The permit lives as long as the lookup, which outlives whoever stops waiting for it.
        let permit = Arc::clone(&self.lookups).try_acquire_owned().map_err(|_| DialError::Busy)?;
        let (asked, resolver) = (host.to_owned(), Arc::clone(&self.resolver));
        let lookup = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            resolver(&asked, port)
        });
        let found: Vec<SocketAddr> = match timeout(limits::HTTP_DNS_TIMEOUT, lookup).await {
            Ok(Ok(Ok(found))) => found,
            Ok(Ok(Err(error))) => return Err(DialError::Dns(format!("`{host}`: {error}"))),
            Ok(Err(_)) | Err(_) => {
                return Err(DialError::Dns(format!("`{host}`: no answer from the resolver")));
            }
        };
        match found.len() {
            0 => Err(DialError::Dns(format!("`{host}` has no address"))),
            n if n > limits::HTTP_ADDRESSES_MAX => {
                Err(DialError::Dns(format!("`{host}` has too many addresses")))
            }
            _ => Ok(found),
        }
    }

    async fn handshake(&self, host: &str, stream: TcpStream) -> Result<Link, DialError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| DialError::Tls(format!("`{host}` is no name for a certificate")))?;
        let stream = timeout(limits::HTTP_TLS_TIMEOUT, self.tls.connect(name, stream))
            .await
            .map_err(|_| DialError::Tls(format!("no handshake with `{host}`")))?
            .map_err(|error| DialError::Tls(format!("`{host}`: {}", chain(&error))))?;
        Ok(Link::tls(stream))
    }
}

/// The first of the addresses that answers. The next one is dialled when the one before has failed, or has been
/// silent for a moment.
async fn dial(addresses: &[SocketAddr]) -> Result<TcpStream, DialError> {
    let mut waiting = addresses.iter().copied().take(limits::HTTP_DIALS_MAX);
    let mut dials = JoinSet::new();
    let mut refused = String::new();
    loop {
        let next = waiting.next();
        let is_last = next.is_none();
        if let Some(address) = next {
            dials.spawn(async move { TcpStream::connect(address).await.map_err(|error| (address, error)) });
        }
        let patience = if is_last { limits::HTTP_CONNECT_TIMEOUT } else { limits::HTTP_DIAL_STAGGER };
        match timeout(patience, dials.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Some(Ok(Err((address, error))))) if refused.is_empty() => {
                refused = format!("{address}: {error}")
            }
            Ok(None) => return Err(DialError::Connect(refused)),
            // Another refusal, or nothing yet.
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Forbidden { host, forbidden } => {
                write!(f, "`{host}` is {} ({})", forbidden.address, forbidden.why)
            }
            DialError::Busy => write!(f, "{} lookups are waiting already", limits::HTTP_LOOKUPS_MAX),
            DialError::Dns(why) | DialError::Connect(why) | DialError::Tls(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for DialError {}

fn find<'a, E: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error with its causes. Hyper's and rustls' texts hold no URL and no header.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

// === a connection ===

struct Link {
    io: TokioIo<Either<TcpStream, Box<TlsStream<TcpStream>>>>,
    is_h2: bool,
}

impl Link {
    fn plain(stream: TcpStream) -> Link {
        Link { io: TokioIo::new(Either::Left(stream)), is_h2: false }
    }

    fn tls(stream: TlsStream<TcpStream>) -> Link {
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Link { io: TokioIo::new(Either::Right(Box::new(stream))), is_h2 }
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        if self.is_h2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl Write for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_handler_that_waits_for_names_takes_no_other_handlers_lookups() {
        let network = Network::new();
        let (waiting, other) = (Dialler::new(&network, &[]), Dialler::new(&network, &[]));
        let _held = waiting.lookups.try_acquire_many(limits::HTTP_LOOKUPS_MAX as u32).unwrap();
        run(async {
            assert!(matches!(waiting.resolve("localhost", 80).await, Err(DialError::Busy)));
            assert!(other.resolve("localhost", 80).await.is_ok());
        });
    }

    fn dialler(lookups: usize, granted: &[&str]) -> Dialler {
        let granted: Vec<IpNet> = granted.iter().map(|network| network.parse().unwrap()).collect();
        Dialler {
            vetting: Vetting::new(&granted),
            tls: tls_config(&Network::new().roots),
            resolver: Arc::new(by_the_system),
            lookups: Arc::new(Semaphore::new(lookups)),
        }
    }

    /// An address where nobody listens: it was free a moment ago.
    async fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[test]
    fn the_next_address_is_dialled_when_one_refuses() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let open = listener.local_addr().unwrap();
            let stream = dial(&[closed().await, open]).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), open);
            let (first, second) = (closed().await, closed().await);
            let Err(DialError::Connect(why)) = dial(&[first, second]).await else { panic!("connected") };
            assert!(why.starts_with("127.0.0.1:"), "{why}");
            let many = vec![first; limits::HTTP_DIALS_MAX].into_iter().chain([open]).collect::<Vec<_>>();
            assert!(dial(&many).await.is_err(), "an address past the cap was dialled");
        });
    }

    #[test]
    fn nothing_is_dialled_before_it_is_vetted() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
            let refused = dialler(1, &["10.0.0.0/8"]).connect(&uri).await.err().unwrap();
            assert!(matches!(refused, DialError::Forbidden { .. }), "{refused}");
            assert!(dialler(1, &["127.0.0.0/8"]).connect(&uri).await.is_ok());
        });
    }

    #[test]
    fn names_are_looked_up_so_many_at_once() {
        run(async {
            assert!(matches!(dialler(0, &[]).resolve("localhost", 80).await, Err(DialError::Busy)));
            let found = dialler(1, &[]).resolve("localhost", 80).await.unwrap();
            assert!(found.iter().all(|address| address.ip().is_loopback()));
            // An address is no name.
            assert_eq!(dialler(0, &[]).resolve("::1", 80).await.unwrap(), ["[::1]:80".parse().unwrap()]);
        });
    }
}
