//! Serve: sockets. Takes connections up to a cap, and at the end drains them.
//!
//! A connection over the cap, or over its address's share of it, is closed at once: a sender that is turned away
//! tries again, one that hangs does not.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{debug, warn};

use super::alarm::Seldom;
use super::budget::{Full, Held};
use super::connection::{self, Pulse, Times};
use super::files;
use super::receive::Connection;
use super::refusal::Refused;
use super::share::Connected;
use super::tls::Acceptor;
use super::{Error, Intake, Tls};
use crate::words::limits::{ACCEPT_PAUSE, REFUSAL_LOG_WINDOW, TLS_HANDSHAKE_TIMEOUT};

pub(super) async fn serve(
    intake: Arc<Intake>,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), Error> {
    let tls = match &intake.options.tls {
        Tls::Off => None,
        Tls::Files { cert, key } => Some(Acceptor::new(cert, key)?),
    };
    let _housekeeping = [
        tls.clone().map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.keep_fresh()))),
        Some(AbortOnDropHandle::new(tokio::spawn(tell_left_out(Arc::clone(&intake))))),
    ];
    let server = Arc::new(Server {
        intake,
        tls,
        http: connection::http(),
        stop,
        drained: CancellationToken::new(),
        connections: TaskTracker::new(),
    });
    tokio::select! {
        () = server.stop.cancelled() => {}
        never = server.accept(&listener) => match never {},
    }
    drop(listener);
    server.drain().await;
    Ok(())
}

/// Counts of refusals that were left out of the log are told when their window is over.
async fn tell_left_out(intake: Arc<Intake>) {
    let mut tick = interval(REFUSAL_LOG_WINDOW);
    loop {
        tick.tick().await;
        intake.tell_left_out();
    }
}

/// What every connection shares.
struct Server {
    intake: Arc<Intake>,
    tls: Option<Acceptor>,
    http: auto::Builder<TokioExecutor>,
    /// No more requests.
    stop: CancellationToken,
    /// The drain is over.
    drained: CancellationToken,
    connections: TaskTracker,
}

/// What a connection holds as long as it is open.
struct Place {
    _room: Held,
    /// None behind a proxy.
    of_address: Option<Connected>,
}

impl Server {
    async fn accept(self: &Arc<Self>, listener: &TcpListener) -> Infallible {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.admit(stream, peer),
                // The peer went away between its handshake and our accept.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    let now = Instant::now();
                    self.intake.blocked.note(&error, now);
                    if let Some(left_out) = self.intake.elsewhere.may_tell("accept", now) {
                        warn!(left_out, "{}", files::no_connection(&error));
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        match self.place_for(peer) {
            Ok(place) => {
                // Answers are small and whole: there is nothing to wait for. Where it fails, they are only later.
                let _ = stream.set_nodelay(true);
                self.connections.spawn(Arc::clone(self).handle(stream, peer, place));
            }
            Err(refused) => self.intake.note(None, &refused, peer.ip()),
        }
    }

    fn place_for(&self, peer: SocketAddr) -> Result<Place, Refused> {
        let connections = &self.intake.connections;
        let room = connections.hold(1).map_err(|Full| Refused::Connections(connections.max()))?;
        // Behind a proxy every connection is the proxy's.
        let of_address = match self.intake.options.behind_proxy {
            true => None,
            false => Some(self.intake.shares.of(peer.ip()).connect()?),
        };
        Ok(Place { _room: room, of_address })
    }

    async fn handle(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, place: Place) {
        // Children of the tokens: connections do not share one lock.
        let drained = self.drained.child_token();
        let drained = pin!(drained.cancelled());
        let served = async {
            match &self.tls {
                None => self.serve(stream, peer, &place).await,
                Some(tls) => match timeout(TLS_HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => self.serve(stream, peer, &place).await,
                    Ok(Err(why)) => why.map_or(Ok(()), |why| Err(Refused::Handshake(why))),
                    Err(_) => Err(Refused::Handshake("it took too long".to_owned())),
                },
            }
        };
        tokio::select! {
            biased;
            served = served => if let Err(refused) = served {
                self.intake.note(None, &refused, peer.ip());
            },
            () = Seldom::new(drained) => {
                debug!(%peer, "a connection was dropped at the end of the drain");
            }
        }
    }

    async fn serve<I>(&self, stream: I, peer: SocketAddr, place: &Place) -> Result<(), Refused>
    where
        I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let pulse = Pulse::new(Times::new(self.intake.options.header_timeout));
        let address = place.of_address.as_ref().map(Connected::address);
        let connection = Arc::new(Connection { peer: peer.ip(), address, pulse: Arc::clone(&pulse) });
        let service = service_fn(|request: Request<Incoming>| {
            let (intake, connection) = (Arc::clone(&self.intake), Arc::clone(&connection));
            async move { Ok::<_, Infallible>(intake.answer(&connection, request).await) }
        });
        connection::serve(stream, &self.http, service, pulse, &self.stop.child_token()).await
    }

    async fn drain(&self) {
        self.connections.close();
        if timeout(self.intake.options.drain, self.connections.wait()).await.is_err() {
            warn!(connections = self.connections.len(), "the drain is over and connections are still open");
            self.drained.cancel();
            self.connections.wait().await;
        }
    }
}
