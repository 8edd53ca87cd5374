//! View: the JSON that goes over the socket, from both ends. Times are milliseconds since the epoch.
//!
//! Listings are the store's own rows (`store::EventRow`, `store::DeliveryRow` in a `store::Page`); here is the
//! rest. Fields are added, never renamed: scripts read them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::store::{Backlog, DeliveryHistory, EventRow, Ruling, Stat};
use crate::words::digest::Digest;
use crate::words::event::{DeliveryId, Name};
use crate::words::lane::{LaneState, Pause};
use crate::words::secret::Fingerprint;
use crate::words::time::Millis;

/// An event whole. `body` where it is UTF-8, `body_base64` where it is not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventDetail {
    #[serde(flatten)]
    pub row: EventRow,
    pub query: Option<String>,
    pub headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourcesView {
    pub sources: Vec<SourceView>,
    /// Refusals that belong to no source, newest first: unknown paths, slow headers, handshakes.
    pub elsewhere: Vec<RefusalView>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceView {
    pub name: Name,
    pub path: String,
    pub enabled: bool,
    pub scheme: String,
    pub dedupe_window_ms: u64,
    /// Requests per second; null: no limit.
    pub rate: Option<f64>,
    /// Newest first.
    pub secrets: Vec<SecretView>,
    /// What it answers and is no event, in the order of the configuration.
    #[serde(default)]
    pub handshakes: Vec<HandshakeView>,
    /// Newest first, the last hundred since the daemon started.
    pub refusals: Vec<RefusalView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandshakeView {
    /// ``GET with query parameter `crc_token` ``
    pub when: String,
    /// `200, JSON, made with the secret`
    pub gives: String,
    /// Answered only after its signature was found good.
    pub signed: bool,
    /// The file that keeps the secret it brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// It has brought nothing yet.
    #[serde(default)]
    pub pending: bool,
    /// Since the daemon started.
    pub answered: u64,
    pub last: Option<Millis>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretView {
    pub fingerprint: Fingerprint,
    pub from: String,
    /// The last moment at which it is accepted; null: no end.
    pub ends: Option<Millis>,
    /// When the daemon first saw a newer one above it.
    pub demoted_at: Option<Millis>,
    pub live: bool,
    /// The same in words: `no end`, `ends …, 24 h after a newer one was first seen`.
    pub why: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefusalView {
    pub at: Millis,
    pub address: String,
    pub reason: String,
    pub status: u16,
    pub detail: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HandlerView {
    pub name: Name,
    pub enabled: bool,
    pub plugin: String,
    pub plugin_name: String,
    pub digest: Digest,
    pub contract: String,
    pub concurrency: usize,
    pub rate: Option<f64>,
    /// Attempts now running, and deliveries in the lane's memory; 0 where it has no lane.
    pub running: usize,
    pub in_memory: usize,
    /// `state`: closed, open or returning, and what belongs to it.
    #[serde(default)]
    pub lane: LaneState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    pub backlog: Backlog,
    pub subscriptions: Vec<SubscriptionView>,
}

/// A delivery whole, and where it is open, what keeps its handler's lane from running it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeliveryDetail {
    #[serde(flatten)]
    pub history: DeliveryHistory,
    #[serde(default)]
    pub lane: LaneState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
}

/// What an order to a handler's lane led to. `changed`: it was not so before.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LaneOrdered {
    pub handler: Name,
    pub changed: bool,
    pub lane: LaneState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Open deliveries of the handler.
    pub waiting: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SubscriptionView {
    pub name: Name,
    pub source: Name,
    pub events: Vec<String>,
    pub enabled: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatView {
    pub version: String,
    pub started_at: Millis,
    /// What is bound, also where the configuration says port 0.
    pub listen: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    /// The certificate that the door shows; null: plain HTTP.
    pub certificate: Option<PathBuf>,
    pub ready: bool,
    /// Why it is not ready.
    pub unready: Option<String>,
    pub connections: usize,
    pub requests: usize,
    pub body_bytes: usize,
    pub ledger: Stat,
}

/// An order that was carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ruled {
    pub delivery: DeliveryId,
    pub ruling: Ruling,
}

/// Every answer that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub error: String,
    /// What to type next, where there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub type_this: Option<String>,
}

/// A span as a person writes it in the configuration: `24h`, `7d`, `1h30m`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    // Up to two days in hours: a rotation of `24h` is written so everywhere.
    let (days, hours) =
        if seconds < 2 * 86_400 { (0, seconds / 3600) } else { (seconds / 86_400, seconds / 3600 % 24) };
    let mut text = String::new();
    for (unit, n) in [("d", days), ("h", hours), ("m", seconds / 60 % 60), ("s", seconds % 60)] {
        if n > 0 {
            text.push_str(&format!("{n}{unit}"));
        }
    }
    if text.is_empty() { format!("{}ms", span.as_millis()) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_they_are_written() {
        let cases = [
            (0, "0ms"),
            (250, "250ms"),
            (5_000, "5s"),
            (5_400_000, "1h30m"),
            (86_400_000, "24h"),
            (90_000_000, "25h"),
        ];
        for (ms, text) in cases {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
        assert_eq!(span(Duration::from_secs(7 * 86_400)), "7d");
    }
}
