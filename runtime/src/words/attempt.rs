//! Attempt, outcome and verdict: what one call of a handler returned, and what we do about it.

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::tape::Tape;
use super::time::Millis;

/// Whose fault a failure is: the first question of whoever is woken by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// The handler's code: a trap, a loop, a rejected event.
    Plugin,
    /// This daemon or its machine: no memory for an instance, a store that does not answer.
    Host,
    /// The service that the handler called.
    Remote,
    /// The configuration: an origin that is not granted, a setting that is missing.
    Operator,
}

/// What kind of failure a call ended in; the key by which history is filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The handler asked to be called again.
    Retry,
    /// The handler said no for good.
    Reject,
    /// The guest trapped: a panic, an out-of-bounds access, an exit.
    Trap,
    /// The wall-clock budget ran out, in guest code or in a host call.
    Timeout,
    /// The memory limit was reached.
    Memory,
    /// A call of the attempt was refused by its grants.
    Denied,
    /// The host could not run the attempt.
    Host,
    /// The daemon ended during the attempt.
    Interrupted,
    /// Nobody knows whether a call happened, or a call changed between two attempts: the operator is asked.
    Uncertain,
}

/// What a call returned. Never an error: a trap or a timeout is an outcome with someone to blame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    Done {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    Skipped {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// `permanent`: trying again cannot help. `after_ms`: how long the handler asked to wait.
    Failed {
        kind: ErrorKind,
        blame: Blame,
        reason: String,
        permanent: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after_ms: Option<u64>,
    },
}

/// What we do about an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    Done,
    Skipped,
    Again { at: Millis },
    Dead { reason: String },
    Parked { reason: String },
}

/// One outbound HTTP call of an attempt, as history shows it. No secret, no body, no query string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    /// 0, 1, … within the attempt.
    pub number: u32,
    pub method: String,
    /// Origin and path; for a secret URL its origin and the secret's name.
    pub target: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why there is no status: `denied: …`, `timeout`, `connect: …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub took_ms: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Names of the secrets used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<String>,
    /// Answered from the record of an earlier attempt; nothing was sent.
    #[serde(default)]
    pub recorded: bool,
    #[serde(default)]
    pub disowned: bool,
    /// It was perhaps sent in an earlier attempt, without an answer, and was sent again: its receiver may have it twice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after_unknown: bool,
    /// Which of the delivery's effects it was; None: it was refused before anybody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<u32>,
    /// Of everything that was asked for: two calls are the same where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// A line that the guest logged, or printed to stdout or stderr (then `fields` names the stream).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Milliseconds since the attempt began.
    pub at_ms: u64,
    pub level: LogLevel,
    pub message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<(String, String)>,
}

/// One call of a handler for a delivery, as it is kept in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    pub started_at: Millis,
    pub took_ms: u64,
    #[serde(flatten)]
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<CallRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogLine>,
    /// SHA-256 of the plugin's bytes.
    pub plugin: Digest,
    /// Highest sum of the guest's linear memories.
    pub memory_bytes: u64,
    /// What it takes to run it again; None: it did not run, or an earlier version wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tape: Option<Tape>,
}
