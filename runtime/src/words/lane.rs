//! Lane: how a handler's lane stands, and the changes of that, as history keeps them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::time::Millis;

/// Whether attempts start, as far as the lane's breaker is concerned. A pause is the operator's, and beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum LaneState {
    /// As many at once as the handler may have.
    #[default]
    Closed,
    /// None, but one probe at a time.
    Open {
        /// Whose failures opened it, `https://api.hubapi.com`.
        origin: String,
        /// Failures in a row when it opened.
        failures: u32,
        /// When the first of them ended.
        since: Millis,
        /// The last failure, in words.
        why: String,
        /// Probes that ended.
        probes: u32,
        /// None: a probe runs.
        probe_at: Option<Millis>,
    },
    /// A few, and twice as many whenever as many went well: a service that is back is not met by all at once.
    Returning {
        at_once: usize,
        /// As many at once as the handler may have.
        of: usize,
        since: Millis,
    },
}

impl LaneState {
    /// One word for a column.
    pub fn word(&self) -> &'static str {
        match self {
            LaneState::Closed => "closed",
            LaneState::Open { .. } => "open",
            LaneState::Returning { .. } => "returning",
        }
    }
}

/// The operator stopped the lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub since: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What happened to a lane: the first three are the daemon's doing, the others the operator's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "lowercase")]
pub enum LaneChange {
    /// So many attempts in a row failed at one origin: nothing starts but probes.
    Opened {
        origin: String,
        failures: u32,
        since: Millis,
        why: String,
        /// When the first probe may start.
        probe_at: Millis,
        /// Deliveries of the handler that were open then.
        waiting: u64,
    },
    /// The origin answered again: attempts start, few at once.
    Returning { origin: String, since: Millis, probes: u32 },
    /// As many attempts at once as ever. `since`: when the failures, or the return, began.
    Closed { why: String, since: Millis },
    Paused {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    Resumed {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

impl LaneChange {
    pub fn word(&self) -> &'static str {
        match self {
            LaneChange::Opened { .. } => "opened",
            LaneChange::Returning { .. } => "returning",
            LaneChange::Closed { .. } => "closed",
            LaneChange::Paused { .. } => "paused",
            LaneChange::Resumed { .. } => "resumed",
        }
    }

    /// `daemon` or `operator`.
    pub fn by(&self) -> &'static str {
        match self {
            LaneChange::Opened { .. } | LaneChange::Returning { .. } | LaneChange::Closed { .. } => "daemon",
            LaneChange::Paused { .. } | LaneChange::Resumed { .. } => "operator",
        }
    }
}

/// The sentence of the log and of the history.
impl fmt::Display for LaneChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LaneChange::Opened { origin, failures, since, why, probe_at, waiting } => write!(
                f,
                "opened: {failures} failures in a row at {origin} since {since}, the last: {why}; {waiting} deliveries wait; next probe at {probe_at}"
            ),
            LaneChange::Returning { origin, since, probes } => write!(
                f,
                "returning: {origin} answers again after {probes} probes, it failed since {since}; attempts start few at once"
            ),
            LaneChange::Closed { why, since } => write!(f, "closed: {why}, since {since}"),
            LaneChange::Paused { reason } => written(f, "paused by the operator", reason.as_deref()),
            LaneChange::Resumed { reason } => written(f, "resumed by the operator", reason.as_deref()),
        }
    }
}

fn written(f: &mut fmt::Formatter<'_>, what: &str, reason: Option<&str>) -> fmt::Result {
    match reason {
        Some(reason) => write!(f, "{what}: {reason}"),
        None => f.write_str(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reads_as_a_sentence() {
        let (since, probe_at) = (Millis(1_790_000_000_000), Millis(1_790_000_030_000));
        let opened = LaneChange::Opened {
            origin: "https://api.hubapi.com".to_owned(),
            failures: 20,
            since,
            why: "answered 503".to_owned(),
            probe_at,
            waiting: 40_000,
        };
        assert_eq!(
            opened.to_string(),
            format!(
                "opened: 20 failures in a row at https://api.hubapi.com since {since}, the last: answered 503; 40000 deliveries wait; next probe at {probe_at}"
            )
        );
        assert_eq!((opened.word(), opened.by()), ("opened", "daemon"));
        let paused = LaneChange::Paused { reason: Some("a new portal".to_owned()) };
        assert_eq!(paused.to_string(), "paused by the operator: a new portal");
        assert_eq!((paused.word(), paused.by()), ("paused", "operator"));
        assert_eq!(LaneChange::Resumed { reason: None }.to_string(), "resumed by the operator");
    }

    #[test]
    fn it_is_kept_as_flat_json() {
        let paused = LaneChange::Paused { reason: None };
        assert_eq!(serde_json::to_string(&paused).unwrap(), r#"{"change":"paused"}"#);
        let back: LaneChange = serde_json::from_str(r#"{"change":"resumed","reason":"x"}"#).unwrap();
        assert_eq!(back, LaneChange::Resumed { reason: Some("x".to_owned()) });
    }
}
