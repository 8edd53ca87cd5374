//! Connection: one kept-open connection with at most one request on it. Never waits: what cannot go on now goes on
//! when epoll says so.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::answer;

/// More than any of our servers has to say about one event.
const ANSWER_BYTES_MAX: usize = 8 << 10;

pub struct Connection {
    wire: Wire,
    /// The moment from which the wait for the answer counts; None: the connection is free.
    meant: Option<Instant>,
    request: Vec<u8>,
    written: usize,
    answer: Box<[u8; ANSWER_BYTES_MAX]>,
    read: usize,
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

pub enum Progress {
    Waiting,
    Answered { status: u16, meant: Instant },
}

/// Trusts the one certificate in the file, which names the loopback address.
pub fn tls_config(certificate: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let read = rustls::pki_types::CertificateDer::from_pem_file(certificate);
    roots.add(read.expect("the file holds a certificate")).expect("the certificate can be trusted");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for every version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

impl Connection {
    /// With the handshake behind it: what is measured is requests.
    pub fn new(stream: TcpStream, tls: Option<Arc<ClientConfig>>) -> io::Result<Connection> {
        let wire = match tls {
            None => Wire::Plain(stream),
            Some(config) => {
                let name = ServerName::from(stream.peer_addr()?.ip());
                let client = ClientConnection::new(config, name).map_err(io::Error::other)?;
                let mut stream = StreamOwned::new(client, stream);
                while stream.conn.is_handshaking() {
                    stream.conn.complete_io(&mut stream.sock)?;
                }
                Wire::Tls(Box::new(stream))
            }
        };
        let connection = Connection {
            wire,
            meant: None,
            request: Vec::new(),
            written: 0,
            answer: Box::new([0; ANSWER_BYTES_MAX]),
            read: 0,
        };
        connection.socket().set_nonblocking(true)?;
        Ok(connection)
    }

    pub fn socket(&self) -> &TcpStream {
        match &self.wire {
            Wire::Plain(stream) => stream,
            Wire::Tls(stream) => &stream.sock,
        }
    }

    pub fn send(&mut self, meant: Instant, write: impl FnOnce(&mut Vec<u8>)) {
        assert!(self.meant.is_none(), "a connection has one request at a time");
        write(&mut self.request);
        (self.written, self.read, self.meant) = (0, 0, Some(meant));
        self.write();
    }

    /// As far as it goes now.
    pub fn go_on(&mut self) -> Progress {
        self.write();
        match (self.meant, self.read()) {
            (Some(meant), Some(status)) => {
                assert_eq!(self.written, self.request.len(), "an answer came before the end of its request");
                self.meant = None;
                Progress::Answered { status, meant }
            }
            _ => Progress::Waiting,
        }
    }

    fn write(&mut self) {
        while self.written < self.request.len() {
            match self.wire.write(&self.request[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the server does not read: {error}"),
            }
        }
        self.wire.flush();
    }

    fn read(&mut self) -> Option<u16> {
        loop {
            match self.wire.read(&mut self.answer[self.read..]) {
                Ok(0) => panic!("the server closed a kept-open connection"),
                Ok(read) => self.read += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => panic!("the server does not answer: {error}"),
            }
            // Nothing comes after a whole answer: no need to ask the kernel once more.
            if let Some(status) = answer::status(&self.answer[..self.read]) {
                return Some(status);
            }
        }
    }
}

impl Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.write(bytes),
            Wire::Tls(stream) => match stream.write(bytes) {
                // Its buffer is full, and so is the socket's.
                Ok(0) => Err(ErrorKind::WouldBlock.into()),
                written => written,
            },
        }
    }

    /// Of what TLS holds back, as much as the socket takes; the rest when epoll says so.
    fn flush(&mut self) {
        let Wire::Tls(stream) = self else { return };
        while stream.conn.wants_write() {
            match stream.conn.write_tls(&mut stream.sock) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the server does not read: {error}"),
            }
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.read(into),
            Wire::Tls(stream) => stream.read(into),
        }
    }
}
