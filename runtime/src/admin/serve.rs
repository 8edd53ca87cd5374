//! Serve: HTTP/1.1 for a few connections at a time, until told to stop.
//!
//! `axum::serve` sets no bound on connections and no time on headers, so this loop is ours.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::words::limits;

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) connections_max: usize,
    /// To the end of a request's headers, from the connection or the request before.
    pub(super) header_timeout: Duration,
    /// What is being answered at `stop` gets this long to end.
    pub(super) drain: Duration,
}

pub(super) const BOUNDS: Bounds = Bounds {
    connections_max: limits::ADMIN_CONNECTIONS_MAX,
    header_timeout: limits::ADMIN_HEADER_TIMEOUT,
    drain: limits::ADMIN_DRAIN,
};

pub(super) async fn until(
    mut listener: impl Listener,
    router: Router,
    stop: CancellationToken,
    bounds: Bounds,
) {
    let permits = Arc::new(Semaphore::new(bounds.connections_max));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.header_timeout);
    let next = async |listener: &mut _| {
        let permit = Arc::clone(&permits).acquire_owned().await.expect("nobody closes this semaphore");
        let (io, _) = Listener::accept(listener).await;
        (permit, io)
    };
    while let Some((permit, io)) = stop.run_until_cancelled(next(&mut listener)).await {
        let connection = http.serve_connection(TokioIo::new(io), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A peer that hangs up or sends nonsense concerns nobody but itself.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(bounds.drain, graceful.shutdown()).await;
}
