//! Fetch: a request of the daemon's own, to a URL that its code or its operator pinned: the keys of a sender, and the
//! confirmation of a subscription.
//!
//! The same client as a handler's, and stricter: TLS alone, no network granted, one size of answer. A redirect is an
//! answer like another, and is not followed.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method};
use http_body_util::Full;
use tokio::time::Instant;
use url::Url;

use super::Error;
use super::client::{Client, Network};
use super::origin::Origin;
use crate::words::limits;

/// The daemon's own way out, with a pool of its own.
pub struct Fetcher {
    client: Client,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Fetcher {
    /// Dials public addresses only: nothing is granted.
    pub fn new() -> Fetcher {
        Fetcher::with(&Network::new(), &[])
    }

    fn with(network: &Network, granted: &[ipnet::IpNet]) -> Fetcher {
        Fetcher { client: Client::new(None, network, granted) }
    }

    /// A GET, or a POST of JSON.
    ///
    /// # Errors
    /// Why there is no answer, in words that hold nothing of the URL behind its host, and nothing of what was sent.
    pub async fn fetch(&self, url: &str, json: Option<Vec<u8>>, time: Duration) -> Result<Fetched, String> {
        let url = Url::parse(url).map_err(|error| format!("the URL does not parse: {error}"))?;
        if url.scheme() != "https" {
            return Err("the URL is not https".to_owned());
        }
        let origin = Origin::of(&url)?;
        let request = request(&url, json)?;
        let deadline = Instant::now() + time;
        let answer = self.client.send(request, deadline, limits::KEY_ANSWER_BYTES_MAX).await;
        let answer = answer.map_err(|failure| match failure.error {
            Error::Timeout => format!("{origin} did not answer in time"),
            error => format!("{origin}: {error}"),
        })?;
        if answer.is_cut {
            let most = limits::KEY_ANSWER_BYTES_MAX;
            return Err(format!("{origin} answered with more than {most} bytes"));
        }
        Ok(Fetched { status: answer.status, body: answer.body })
    }
}

impl Default for Fetcher {
    fn default() -> Self {
        Fetcher::new()
    }
}

fn request(url: &Url, json: Option<Vec<u8>>) -> Result<http::Request<Full<Bytes>>, String> {
    let method = if json.is_some() { Method::POST } else { Method::GET };
    let mut request = http::Request::builder()
        .method(method)
        .uri(url.as_str())
        .body(Full::default())
        .map_err(|_| "the URL makes no request".to_owned())?;
    let headers = request.headers_mut();
    let agent = concat!("longshore/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    if let Some(json) = json {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *request.body_mut() = Full::new(Bytes::from(json));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};

    use rustls::ServerConfig;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A host of keys on loopback, which answers by path and remembers what it was asked.
    struct Host {
        network: Network,
        address: SocketAddr,
        seen: Arc<Mutex<Vec<String>>>,
    }

    impl Host {
        async fn start() -> Host {
            let made = rcgen::generate_simple_self_signed(["keys.example".to_owned()]).unwrap();
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
                .unwrap();
            let acceptor = TlsAcceptor::from(Arc::new(config));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut network = Network::new();
            network.trust(made.cert.der().clone());
            network.resolve_by(move |_, _| Ok(vec![address]));
            let seen = Arc::<Mutex<Vec<String>>>::default();
            let noted = Arc::clone(&seen);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (acceptor, noted) = (acceptor.clone(), Arc::clone(&noted));
                    tokio::spawn(async move {
                        let Ok(mut stream) = acceptor.accept(stream).await else { return };
                        let mut bytes = vec![0; 4096];
                        let read = stream.read(&mut bytes).await.unwrap_or_default();
                        let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
                        let answer = answer(text.split(' ').nth(1).unwrap_or_default());
                        noted.lock().unwrap().push(text);
                        let _ = stream.write_all(&answer).await;
                        let _ = stream.shutdown().await;
                    });
                }
            });
            Host { network, address, seen }
        }

        fn fetcher(&self) -> Fetcher {
            Fetcher::with(&self.network, &["127.0.0.0/8".parse().unwrap()])
        }

        fn seen(&self) -> Vec<String> {
            self.seen.lock().unwrap().clone()
        }
    }

    fn answer(path: &str) -> Vec<u8> {
        let (head, body) = match path.split('?').next().unwrap_or_default() {
            "/redirect" => ("302 Found\r\nlocation: https://keys.example/key", vec![]),
            "/absent" => ("404 Not Found", b"no".to_vec()),
            "/most" => ("200 OK", vec![b'x'; limits::KEY_ANSWER_BYTES_MAX]),
            "/huge" => ("200 OK", vec![b'x'; limits::KEY_ANSWER_BYTES_MAX + 1]),
            "/broken" => return b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort".to_vec(),
            "/noise" => return b"hello".to_vec(),
            _ => ("200 OK", b"key".to_vec()),
        };
        let head = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        [head.as_bytes(), &body].concat()
    }

    const SHORT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn an_answer_is_whole_and_a_redirect_is_one() {
        let host = Host::start().await;
        let fetcher = host.fetcher();
        let get = |path: &'static str| {
            let fetcher = &fetcher;
            async move { fetcher.fetch(&format!("https://keys.example{path}"), None, SHORT).await }
        };
        assert_eq!(get("/key").await.unwrap(), Fetched { status: 200, body: b"key".to_vec() });
        assert_eq!(get("/redirect").await.unwrap().status, 302);
        assert_eq!(get("/absent").await.unwrap().status, 404);
        assert_eq!(get("/most").await.unwrap().body.len(), limits::KEY_ANSWER_BYTES_MAX);
        for (path, words) in
            [("/huge", "more than 65536 bytes"), ("/broken", "broke off"), ("/noise", "protocol")]
        {
            let why = get(path).await.unwrap_err();
            assert!(why.starts_with("https://keys.example") && why.contains(words), "{path}: {why}");
        }
        assert_eq!(host.seen().len(), 7, "nothing was followed");
    }

    #[tokio::test]
    async fn a_post_sends_json_and_no_error_shows_it() {
        let host = Host::start().await;
        let json = br#"{"secret":"topsecret"}"#.to_vec();
        let fetcher = host.fetcher();
        fetcher.fetch("https://keys.example/key?a=b", Some(json.clone()), SHORT).await.unwrap();
        let sent = host.seen()[0].to_lowercase();
        assert!(sent.starts_with("post /key?a=b http/1.1\r\n"), "{sent}");
        for line in [
            "content-type: application/json",
            "user-agent: longshore/",
            "accept-encoding: identity",
            "topsecret",
        ] {
            assert!(sent.contains(line), "{sent}");
        }
        let why = fetcher.fetch("https://keys.example/huge?hidden", Some(json), SHORT).await.unwrap_err();
        assert!(!why.contains("topsecret") && !why.contains("hidden"), "{why}");
    }

    #[tokio::test]
    async fn only_public_addresses_over_tls_are_dialled() {
        let host = Host::start().await;
        let strict = Fetcher::with(&host.network, &[]);
        let why = strict.fetch("https://keys.example/key", None, SHORT).await.unwrap_err();
        assert!(
            why.contains("127.0.0.1 (loopback), which is not dialled") && !why.contains("grants"),
            "{why}"
        );
        for url in
            ["http://keys.example/key", "file:///etc/passwd", "keys.example", "https://me:pw@keys.example/"]
        {
            assert!(host.fetcher().fetch(url, None, SHORT).await.is_err(), "{url}");
        }
        // Another name than the certificate's, and a certificate that nobody trusts.
        assert!(
            host.fetcher().fetch("https://other.example/key", None, SHORT).await.unwrap_err().contains("tls")
        );
        let mut stranger = Network::new();
        let address = host.address;
        stranger.resolve_by(move |_, _| Ok(vec![address]));
        let fetcher = Fetcher::with(&stranger, &["127.0.0.0/8".parse().unwrap()]);
        assert!(fetcher.fetch("https://keys.example/key", None, SHORT).await.unwrap_err().contains("tls"));
        assert!(host.seen().is_empty());
    }

    #[tokio::test]
    async fn a_host_that_says_nothing_is_not_waited_for() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let mut network = Network::new();
        network.resolve_by(move |_, _| Ok(vec![address]));
        let fetcher = Fetcher::with(&network, &["127.0.0.0/8".parse().unwrap()]);
        let why =
            fetcher.fetch("https://keys.example/key", None, Duration::from_millis(50)).await.unwrap_err();
        assert!(why.contains("https://keys.example"), "{why}");
    }
}
