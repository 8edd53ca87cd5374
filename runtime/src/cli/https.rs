//! Https: posts a test event to the daemon's own door, as the provider would.
//!
//! The daemon proves itself by its certificate, not by a name: the one that the configuration names is the one
//! that it must show. So a certificate for `hooks.example.com`, a self-signed one and one of a private authority
//! all do on loopback, and nothing else does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Result;
use super::failure::Failure;
use crate::words::limits;

/// Where the daemon listens, and how it proves itself.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) listen: SocketAddr,
    /// The certificate file that the daemon was given; None: plain HTTP.
    pub(super) certificate: Option<PathBuf>,
    /// What starts the daemon that is meant.
    pub(super) run_command: String,
}

/// An open connection. Requests go one after another.
pub(super) struct Door {
    target: Target,
    http: SendRequest<Full<Bytes>>,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

impl Target {
    /// An address that can be dialled: `0.0.0.0` means every address, so loopback too.
    fn address(&self) -> SocketAddr {
        let ip = match self.listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.listen.port())
    }

    fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    fn absent(&self, error: impl std::fmt::Display) -> Failure {
        Failure::NoDaemon {
            message: format!("no daemon answers at {}: {error}", self.url()),
            type_this: self.run_command.clone(),
        }
    }
}

impl Door {
    pub(super) async fn open(target: Target) -> Result<Door> {
        Self::open_within(limits::CLI_CONNECT_TIMEOUT, target).await
    }

    async fn open_within(time: Duration, target: Target) -> Result<Door> {
        let http = match tokio::time::timeout(time, Self::dial(&target)).await {
            Ok(http) => http?,
            Err(_) => return Err(target.absent("it does not finish the handshake")),
        };
        Ok(Door { target, http })
    }

    async fn dial(target: &Target) -> Result<SendRequest<Full<Bytes>>> {
        let tcp = TcpStream::connect(target.address()).await.map_err(|e| target.absent(e))?;
        let Some(path) = &target.certificate else {
            let (http, connection) = handshake(TokioIo::new(tcp)).await.map_err(|e| target.absent(e))?;
            tokio::spawn(connection);
            return Ok(http);
        };
        let tls = TlsConnector::from(Arc::new(trusting_only(path)?));
        let name = ServerName::from(target.address().ip());
        let tls = tls.connect(name, tcp).await.map_err(|e| not_ours(target, path, &e))?;
        let (http, connection) = handshake(TokioIo::new(tls)).await.map_err(|e| target.absent(e))?;
        tokio::spawn(connection);
        Ok(http)
    }

    /// # Errors
    /// Where no answer came; an answer of any status is an answer.
    pub(super) async fn post(
        &mut self,
        path: &str,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Answer> {
        if self.http.ready().await.is_err() {
            // The daemon ends a connection after some refusals; the next event gets a new one.
            self.http = Self::dial(&self.target).await?;
        }
        let request = request(&self.target, path, headers, body)?;
        let asking = async {
            let response = self.http.send_request(request).await.map_err(|e| self.target.absent(e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), limits::KIB * 64).collect().await;
            let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
            Ok(Answer { status, text: text.unwrap_or_default() })
        };
        // The daemon promises an answer in this time, whatever happens to it.
        match tokio::time::timeout(limits::ANSWER_TIMEOUT + limits::CLI_CONNECT_TIMEOUT, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(self.target.absent("it took the event and gives no answer")),
        }
    }
}

fn request(
    target: &Target,
    path: &str,
    headers: &[(String, String)],
    body: Bytes,
) -> Result<Request<Full<Bytes>>> {
    let bad = |e: &dyn std::fmt::Display| Failure::failed(format!("this does not fit into a request: {e}"));
    let mut request = Request::post(path).body(Full::new(body)).map_err(|e| bad(&e))?;
    let host = HeaderValue::from_str(&target.address().to_string()).map_err(|e| bad(&e))?;
    request.headers_mut().insert(header::HOST, host);
    for (name, value) in headers {
        let name = HeaderName::try_from(name.as_str()).map_err(|e| bad(&e))?;
        let value = HeaderValue::from_str(value).map_err(|e| bad(&e))?;
        request.headers_mut().append(name, value);
    }
    Ok(request)
}

// === the certificate ===

fn trusting_only(path: &Path) -> Result<ClientConfig> {
    let certificate = CertificateDer::from_pem_file(path).map_err(|e| {
        Failure::failed(format!("the daemon's certificate `{}` cannot be read: {e:?}", path.display()))
    })?;
    let provider = Arc::new(ring::default_provider());
    let only = Only { certificate, provider: provider.clone() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Failure::failed(format!("TLS does not start: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(only))
        .with_no_client_auth();
    Ok(config)
}

fn not_ours(target: &Target, path: &Path, error: &std::io::Error) -> Failure {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(_)) => Failure::failed_so(
            format!("{} shows another certificate than `{}`", target.url(), path.display()),
            "longshore config check, and see what else listens there",
        ),
        _ => target.absent(error),
    }
}

/// Accepts one certificate and no other; that the peer holds its key is checked as ever.
#[derive(Debug)]
struct Only {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, Error> {
        if *shown == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    struct Pair {
        pem: String,
        config: Arc<ServerConfig>,
    }

    /// A certificate for a name that no test connects to.
    fn pair() -> Pair {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["hooks.example.com".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        Pair { pem: cert.pem(), config: Arc::new(config) }
    }

    /// Answers one request and hands it back.
    async fn one_request(listener: TcpListener, config: Arc<ServerConfig>) -> Option<String> {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut tls = TlsAcceptor::from(config).accept(tcp).await.ok()?;
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            tls.read_buf(&mut request).await.unwrap();
        }
        tls.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 4\r\n\r\nnope").await.unwrap();
        Some(String::from_utf8(request).unwrap())
    }

    async fn listening() -> (TcpListener, Target, tempfile::TempDir) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let target = Target {
            listen: listener.local_addr().unwrap(),
            certificate: Some(folder.path().join("cert.pem")),
            run_command: "longshore run".to_owned(),
        };
        (listener, target, folder)
    }

    #[tokio::test]
    async fn the_configured_certificate_is_trusted_whatever_its_name() {
        let (listener, target, _folder) = listening().await;
        let pair = pair();
        std::fs::write(target.certificate.as_ref().unwrap(), pair.pem).unwrap();
        let served = tokio::spawn(one_request(listener, pair.config));
        let mut door = Door::open(target).await.unwrap();
        let headers = [("Webhook-Signature".to_owned(), "t=1,s=00".to_owned())];
        let answer = door.post("/webhooks/a?b=c", &headers, Bytes::from_static(b"{}")).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (401, "nope"));
        let request = served.await.unwrap().unwrap();
        assert!(request.starts_with("POST /webhooks/a?b=c HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("webhook-signature: t=1,s=00\r\n"), "{request}");
    }

    #[tokio::test]
    async fn any_other_certificate_is_not() {
        let (listener, target, _folder) = listening().await;
        std::fs::write(target.certificate.as_ref().unwrap(), pair().pem).unwrap();
        let served = tokio::spawn(one_request(listener, pair().config));
        let failure = Door::open(target).await.err().unwrap();
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.to_string().contains("shows another certificate than"), "{failure}");
        assert_eq!(served.await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_peer_that_says_nothing_is_not_waited_for() {
        let (_listener, target, _folder) = listening().await;
        std::fs::write(target.certificate.as_ref().unwrap(), pair().pem).unwrap();
        let failure = Door::open_within(Duration::from_millis(20), target).await.err().unwrap();
        assert_eq!(failure.exit_code(), 3);
        assert!(failure.to_string().contains("does not finish the handshake"), "{failure}");
    }

    #[tokio::test]
    async fn nobody_there_is_exit_code_3() {
        let (listener, target, _folder) = listening().await;
        drop(listener);
        let target = Target { certificate: None, ..target };
        let failure = Door::open(target).await.err().unwrap();
        assert_eq!(failure.exit_code(), 3);
        assert!(failure.to_string().ends_with("type: longshore run"), "{failure}");
    }

    #[test]
    fn every_address_is_reached_on_loopback() {
        let at = |listen: &str| Target {
            listen: listen.parse().unwrap(),
            certificate: None,
            run_command: String::new(),
        };
        assert_eq!(at("0.0.0.0:8443").url(), "http://127.0.0.1:8443");
        assert_eq!(at("[::]:8443").url(), "http://[::1]:8443");
        assert_eq!(at("192.0.2.1:1").url(), "http://192.0.2.1:1");
    }
}
