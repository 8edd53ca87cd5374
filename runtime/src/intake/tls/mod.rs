//! TLS: the certificate from its PEM files, read again when they change, and one for development on request.
//!
//! Certificates are renewed by other programs, at night, file by file. So the files are looked at every few
//! seconds; a pair that does not fit or cannot be read is warned about and the old one stays in use.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, InconsistentKeys, InvalidMessage, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::interval;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use super::Error;
use crate::words::limits::{
    CERTIFICATE_ENDS_SOON, CERTIFICATE_POLL, DEVELOPMENT_CERTIFICATE_DAYS, DEVELOPMENT_CERTIFICATE_SPARE,
    PEM_BYTES_MAX,
};
use crate::words::time::Millis;

mod facts;

pub use facts::CertificateFacts;

/// Names that the development certificate is for.
const DEVELOPMENT_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Reads a certificate and its key and sees that they belong together, as `serve` would.
///
/// # Errors
/// Which of the two files is wrong, and how.
pub fn check(cert: &Path, key: &Path) -> Result<CertificateFacts, Error> {
    let certified = load(cert, key)?;
    facts(cert, &certified.cert[0])
}

/// A certificate for this machine alone, signed by nobody but itself, in `dir`. An earlier one is used again
/// while it is good. Returns the paths of the certificate and its key.
///
/// # Errors
/// Where the files cannot be written.
pub fn make_development_certificate(dir: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let (cert, key) = (dir.join("localhost.pem"), dir.join("localhost-key.pem"));
    if check(&cert, &key).is_ok_and(|facts| serves_development(&facts, Millis::now())) {
        return Ok((cert, key));
    }
    let failed = |why: rcgen::Error| error(&cert, why.to_string());
    let pair = rcgen::KeyPair::generate().map_err(failed)?;
    let made = development_params().and_then(|params| params.self_signed(&pair)).map_err(failed)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|why| error(dir, why.to_string()))?;
    write_private(&key, &pair.serialize_pem())?;
    write_private(&cert, &made.pem())?;
    Ok((cert, key))
}

fn serves_development(facts: &CertificateFacts, now: Millis) -> bool {
    let has_names = DEVELOPMENT_NAMES.iter().all(|name| facts.names.iter().any(|have| have == name));
    has_names && facts.not_before <= now && facts.not_after > now.plus(DEVELOPMENT_CERTIFICATE_SPARE)
}

fn development_params() -> Result<rcgen::CertificateParams, rcgen::Error> {
    let mut params = rcgen::CertificateParams::new(DEVELOPMENT_NAMES.map(str::to_owned))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Longshore development certificate");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let now = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
    let day = |days: i64| {
        let date = now.saturating_add(jiff::Span::new().days(days));
        rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    // A day of grace for clocks that disagree.
    (params.not_before, params.not_after) = (day(-1), day(DEVELOPMENT_CERTIFICATE_DAYS));
    Ok(params)
}

/// Whole or not at all, and readable by the owner only.
fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let aside = path.with_extension("pem.new");
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    write().map_err(|why: io::Error| error(path, why.to_string()))
}

// === Acceptor ===

/// Makes TLS streams of TCP streams, with the certificate of the moment. Cheap to clone.
#[derive(Clone)]
pub(super) struct Acceptor {
    tls: TlsAcceptor,
    certificate: Arc<Certificate>,
}

impl Acceptor {
    pub(super) fn new(cert: &Path, key: &Path) -> Result<Acceptor, Error> {
        let certificate = Arc::new(Certificate::new(cert, key)?);
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&certificate) as _;
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("ring has cipher suites for TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Acceptor { tls: TlsAcceptor::from(Arc::new(config)), certificate })
    }

    /// # Errors
    /// Why there is no TLS with this peer; None where it only left.
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Option<String>> {
        self.tls.accept(stream).await.map_err(|why| why_no_handshake(&why))
    }

    /// Looks at the files for ever.
    pub(super) async fn keep_fresh(self) {
        let mut tick = interval(CERTIFICATE_POLL);
        loop {
            tick.tick().await;
            let certificate = Arc::clone(&self.certificate);
            // A network file system may hang; the answers must not.
            if tokio::task::spawn_blocking(move || certificate.refresh()).await.is_err() {
                warn!("the certificate's files could not be looked at");
            }
        }
    }
}

fn why_no_handshake(error: &io::Error) -> Option<String> {
    use AlertDescription::{BadCertificate, CertificateExpired, CertificateUnknown, UnknownCA};
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())?;
    Some(match tls {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the client did not speak TLS; its URL must begin with `https://`".to_owned()
        }
        rustls::Error::AlertReceived(
            alert @ (UnknownCA | BadCertificate | CertificateUnknown | CertificateExpired),
        ) => format!(
            "the client does not trust the certificate ({alert:?}); take one from a public authority, with its intermediates in the file"
        ),
        other => other.to_string(),
    })
}

// === Certificate ===

struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
    /// The files as they were when they were last read, whatever came of it.
    read: Mutex<[Option<Stamp>; 2]>,
}

/// Enough to see that a file is another one: by content, or by a link that points elsewhere now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

#[derive(Debug, PartialEq, Eq)]
enum Refreshed {
    Unchanged,
    Swapped,
    Kept,
}

impl Certificate {
    fn new(cert: &Path, key: &Path) -> Result<Certificate, Error> {
        let read = [stamp(cert), stamp(key)];
        let certified = load(cert, key)?;
        tell_end(cert, &facts(cert, &certified.cert[0])?, Millis::now());
        Ok(Certificate {
            cert: cert.to_owned(),
            key: key.to_owned(),
            current: ArcSwap::from_pointee(certified),
            read: Mutex::new(read),
        })
    }

    fn refresh(&self) -> Refreshed {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let now = [stamp(&self.cert), stamp(&self.key)];
        if *read == now {
            return Refreshed::Unchanged;
        }
        *read = now;
        let renewed = load(&self.cert, &self.key).and_then(|new| Ok((facts(&self.cert, &new.cert[0])?, new)));
        match renewed {
            Ok((facts, new)) => {
                self.current.store(Arc::new(new));
                info!(names = facts.names.join(", "), until = %facts.not_after, "the certificate was renewed");
                tell_end(&self.cert, &facts, Millis::now());
                Refreshed::Swapped
            }
            Err(error) => {
                warn!(%error, "the certificate's files changed and are not good; the old one stays in use");
                Refreshed::Kept
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.cert.display())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    Some(Stamp {
        device: file.dev(),
        inode: file.ino(),
        bytes: file.size(),
        modified: (file.mtime(), file.mtime_nsec()),
    })
}

fn tell_end(cert: &Path, facts: &CertificateFacts, now: Millis) {
    let (path, until) = (cert.display(), facts.not_after);
    if until <= now {
        warn!(%path, %until, "the certificate has expired; senders will refuse it");
    } else if until <= now.plus(CERTIFICATE_ENDS_SOON) {
        warn!(%path, %until, days = until.since(now).as_secs() / DAY.as_secs(), "the certificate ends soon");
    }
}

// === files ===

fn provider() -> CryptoProvider {
    ring::default_provider()
}

fn load(cert: &Path, key: &Path) -> Result<CertifiedKey, Error> {
    let chain = read_chain(cert)?;
    let private = read_key(key)?;
    CertifiedKey::from_der(chain, private, &provider()).map_err(|why| match why {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            error(key, format!("is not the key of the certificate `{}`", cert.display()))
        }
        rustls::Error::InvalidCertificate(why) => error(cert, format!("cannot be used: {why:?}")),
        why => error(key, format!("cannot be used: {why}")),
    })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read_capped(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|why| error(path, pem_problem(&why)))?;
    if chain.is_empty() {
        return Err(error(
            path,
            "holds no certificate; it must have a line `-----BEGIN CERTIFICATE-----`".to_owned(),
        ));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let pem = read_capped(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|why| match why {
        PemError::NoItemsFound => error(
            path,
            "holds no private key, or an encrypted one; `openssl pkey -in OLD -out NEW` decrypts it"
                .to_owned(),
        ),
        why => error(path, pem_problem(&why)),
    })
}

/// In our words: the library's quote the line, which may be of a key.
fn pem_problem(why: &PemError) -> String {
    match why {
        PemError::MissingSectionEnd { .. } => "is cut off: an `-----END` line is missing".to_owned(),
        PemError::IllegalSectionStart { .. } => "has a broken `-----BEGIN` line".to_owned(),
        PemError::Base64Decode(_) => "is not base64 between its lines".to_owned(),
        _ => "is not PEM".to_owned(),
    }
}

fn read_capped(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|why| error(path, format!("cannot be read: {why}")))?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        return Err(error(path, format!("is larger than {PEM_BYTES_MAX} bytes, so it is no PEM file")));
    }
    Ok(bytes)
}

fn facts(path: &Path, der: &CertificateDer<'_>) -> Result<CertificateFacts, Error> {
    facts::facts(der).ok_or_else(|| error(path, "is not a certificate that can be read".to_owned()))
}

fn error(path: &Path, why: String) -> Error {
    Error::Certificate { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn made(dir: &Path) -> (PathBuf, PathBuf) {
        make_development_certificate(dir).unwrap()
    }

    /// A pair in the same directory under other names, as another program would write it.
    fn renewed(dir: &Path) -> (PathBuf, PathBuf) {
        made(&dir.join("renewed"))
    }

    #[test]
    fn the_development_certificate_is_for_this_machine_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = made(&dir.path().join("certs"));
        let facts = check(&cert, &key).unwrap();
        assert_eq!(facts.names, DEVELOPMENT_NAMES);
        let now = Millis::now();
        assert!(facts.not_before < now, "{facts:?}");
        let days = facts.not_after.since(now).as_secs() / DAY.as_secs();
        assert!((364..=365).contains(&days), "{days}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&key), mode(&dir.path().join("certs"))), (0o600, 0o700));
    }

    #[test]
    fn the_development_certificate_is_made_once_and_again_when_it_is_no_good() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = made(dir.path());
        let first = fs::read(&cert).unwrap();
        made(dir.path());
        assert_eq!(fs::read(&cert).unwrap(), first);
        fs::write(&key, "broken").unwrap();
        made(dir.path());
        assert_ne!(fs::read(&cert).unwrap(), first);
        let facts = check(&cert, &key).unwrap();
        let last_good = facts.not_after.minus(DEVELOPMENT_CERTIFICATE_SPARE + Duration::from_secs(1));
        assert!(serves_development(&facts, last_good));
        assert!(!serves_development(&facts, facts.not_after.minus(DEVELOPMENT_CERTIFICATE_SPARE)));
    }

    #[test]
    fn what_is_wrong_with_the_files_is_said_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = made(dir.path());
        let (_, other_key) = renewed(dir.path());
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let secret_line = "MIGHAgEAMBMGByqGSM49";
        let cut = file("cut.pem", &format!("-----BEGIN PRIVATE KEY-----\n{secret_line}\n"));
        let empty = file("empty.pem", "");
        let garbage = file("garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let huge = file("huge.pem", &"#".repeat(PEM_BYTES_MAX as usize + 1));
        let missing = dir.path().join("missing.pem");
        let cases: [(&Path, &Path, &Path, &str); 7] = [
            (&missing, &key, &missing, "cannot be read: No such file"),
            (&empty, &key, &empty, "holds no certificate"),
            (&cert, &cert, &cert, "holds no private key"),
            (&cert, &other_key, &other_key, "is not the key of the certificate"),
            (&cert, &cut, &cut, "is cut off"),
            (&garbage, &key, &garbage, "cannot be used"),
            (&huge, &key, &huge, "is larger than"),
        ];
        for (cert, key, blamed, words) in cases {
            let said = check(cert, key).unwrap_err().to_string();
            assert!(said.contains(words) && said.contains(&blamed.display().to_string()), "{said}");
            assert!(!said.contains(secret_line), "{said}");
        }
    }

    #[test]
    fn a_renewed_pair_is_taken_when_both_files_have_come() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = made(dir.path());
        let (new_cert, new_key) = renewed(dir.path());
        let certificate = Certificate::new(&cert, &key).unwrap();
        let served = || certificate.current.load().cert[0].to_vec();
        let first = served();
        assert_eq!(certificate.refresh(), Refreshed::Unchanged);
        fs::rename(&new_cert, &cert).unwrap();
        assert_eq!(certificate.refresh(), Refreshed::Kept, "the key has not come yet");
        assert_eq!(certificate.refresh(), Refreshed::Unchanged, "warned about once");
        assert_eq!(served(), first);
        fs::rename(&new_key, &key).unwrap();
        assert_eq!(certificate.refresh(), Refreshed::Swapped);
        assert_ne!(served(), first);
    }

    #[test]
    fn a_broken_or_missing_new_file_leaves_the_old_one_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = made(dir.path());
        let certificate = Certificate::new(&cert, &key).unwrap();
        let served = || certificate.current.load().cert[0].to_vec();
        let first = served();
        fs::write(&cert, "not PEM").unwrap();
        assert_eq!(certificate.refresh(), Refreshed::Kept);
        fs::remove_file(&cert).unwrap();
        assert_eq!(certificate.refresh(), Refreshed::Kept);
        assert_eq!(served(), first);
    }

    #[test]
    fn a_link_that_points_elsewhere_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let (old_cert, old_key) = made(&dir.path().join("old"));
        let (new_cert, new_key) = made(&dir.path().join("new"));
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let link = |to: &Path, from: &Path| {
            let _ = fs::remove_file(from);
            std::os::unix::fs::symlink(to, from).unwrap();
        };
        link(&old_cert, &cert);
        link(&old_key, &key);
        let certificate = Certificate::new(&cert, &key).unwrap();
        link(&new_cert, &cert);
        link(&new_key, &key);
        assert_eq!(certificate.refresh(), Refreshed::Swapped);
    }

    #[test]
    fn the_operator_reads_why_there_was_no_handshake() {
        let io = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert!(why_no_handshake(&io(plain)).unwrap().contains("https://"));
        let untrusted = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
        assert!(why_no_handshake(&io(untrusted)).unwrap().contains("does not trust"));
        assert_eq!(why_no_handshake(&io::ErrorKind::UnexpectedEof.into()), None);
    }
}
