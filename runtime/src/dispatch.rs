//! Dispatch: lease, call, settle. A lane for each handler carries its deliveries until each has ended.
#![allow(clippy::todo, unused_variables)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::backoff;
use crate::host;
use crate::metrics::Metrics;
use crate::store::Ledger;
use crate::words::event::Name;

/// What one lane needs: its handler and its own pace.
pub struct Lane {
    pub handler: Arc<host::Handler>,
    pub concurrency: usize,
    /// Attempts per second; None: no limit.
    pub rate: Option<f64>,
    pub retry: backoff::Policy,
}

/// A lane as `handlers list` and the metrics show it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LaneStat {
    pub handler: Name,
    pub in_memory: usize,
    pub running: usize,
}

pub struct Dispatch {}

impl Dispatch {
    /// Starts the lanes on the guests' runtime. Deliveries of no lane are `held` before this is called.
    pub fn start(
        lanes: Vec<Lane>,
        ledger: Ledger,
        metrics: Metrics,
        guests: tokio::runtime::Handle,
    ) -> Dispatch {
        todo!()
    }

    pub fn stat(&self) -> Vec<LaneStat> {
        todo!()
    }

    /// No new attempts; those running get `deadline` to end. What does not end is as if the daemon had died.
    pub async fn drain(&self, deadline: Duration) {
        todo!()
    }
}

#[allow(dead_code)]
fn _unused(_: BTreeMap<Name, CancellationToken>) {}
