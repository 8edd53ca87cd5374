//! Record: everything about one delivery, as one file of JSON. No secret is in it: none is in the ledger.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::host::{self, Setup};
use crate::store::{Interrupted, Status};
use crate::words::attempt::Attempt;
use crate::words::digest::Digest;
use crate::words::effect::Entry;
use crate::words::event::{DeliveryId, Name};
use crate::words::time::Millis;

/// What the file says of itself.
pub const FORMAT: &str = "longshore.delivery/1";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub format: String,
    pub delivery: DeliveryId,
    pub handler: Name,
    pub status: Status,
    pub event: EventLine,
    pub attempts: Vec<Attempt>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interrupted: Vec<InterruptedLine>,
    /// Positions of the retries that began a round of their own; the first round begins at 0.
    pub rounds: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<EffectLine>,
    /// As the handler was set up in each attempt, by digest.
    #[serde(default)]
    pub setups: BTreeMap<Digest, Setup>,
    /// Components, by digest, as base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plugins: BTreeMap<Digest, String>,
    /// What was taken out of it, as JSON pointers into the event's body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redacted: Vec<String>,
}

/// An attempt that began and never ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterruptedLine {
    pub number: u32,
    pub began_at: Millis,
    pub plugin: Digest,
}

/// The event as its guests got it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLine {
    pub id: String,
    #[serde(rename = "type")]
    pub event_type: String,
    pub source: String,
    pub received_at: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    pub headers: Vec<(String, String)>,
    pub attributes: Vec<(String, String)>,
    pub body: Blob,
}

/// One entry of the delivery's calls (`words::effect`), with where it lies in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectLine {
    pub at: u64,
    #[serde(flatten)]
    pub entry: Entry,
    #[serde(default, skip_serializing_if = "Blob::is_empty")]
    pub bytes: Blob,
}

/// Bytes, as text where they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blob {
    Text(String),
    Base64(String),
}

impl Default for Blob {
    fn default() -> Blob {
        Blob::Text(String::new())
    }
}

impl Blob {
    pub fn of(bytes: &[u8]) -> Blob {
        match std::str::from_utf8(bytes) {
            Ok(text) => Blob::Text(text.to_owned()),
            Err(_) => Blob::Base64(STANDARD.encode(bytes)),
        }
    }

    /// # Errors
    /// Where it is no base64.
    pub fn bytes(&self) -> Result<Bytes, Error> {
        match self {
            Blob::Text(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
            Blob::Base64(text) => match STANDARD.decode(text) {
                Ok(bytes) => Ok(bytes.into()),
                Err(error) => {
                    Err(Error::Unreadable(format!("the record has bytes that do not read: {error}")))
                }
            },
        }
    }

    fn is_empty(&self) -> bool {
        *self == Blob::default()
    }
}

impl EventLine {
    pub fn of(event: &host::Event) -> EventLine {
        EventLine {
            id: event.id.clone(),
            event_type: event.event_type.clone(),
            source: event.source.clone(),
            received_at: event.received_at,
            signed_at: event.signed_at,
            query: event.query.clone(),
            headers: event.headers.clone(),
            attributes: event.attributes.clone(),
            body: Blob::of(&event.body),
        }
    }

    /// A body that does not read is an empty one: `Record::read` has looked.
    pub fn guest_event(&self, delivery: &DeliveryId, attempt: u32) -> host::Event {
        host::Event {
            id: self.id.clone(),
            event_type: self.event_type.clone(),
            source: self.source.clone(),
            delivery_id: delivery.to_string(),
            received_at: self.received_at,
            signed_at: self.signed_at,
            attempt,
            query: self.query.clone(),
            headers: self.headers.clone(),
            body: self.body.bytes().unwrap_or_default(),
            attributes: self.attributes.clone(),
        }
    }
}

impl Record {
    /// # Errors
    /// In words: it is no record, or one of a later version.
    pub fn read(bytes: &[u8]) -> Result<Record, Error> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
        }
        let unreadable = |error: serde_json::Error| {
            let why = "type `longshore deliveries export DELIVERY > x.delivery` to make one";
            Error::Unreadable(format!("this is no record of a delivery: {error}; {why}"))
        };
        let head: Head = serde_json::from_slice(bytes).map_err(unreadable)?;
        if head.format != FORMAT {
            let why = format!("this record is a `{}`, and this longshore reads `{FORMAT}`", head.format);
            return Err(Error::Unreadable(why));
        }
        let record: Record = serde_json::from_slice(bytes).map_err(unreadable)?;
        record.event.body.bytes()?;
        record.effects.iter().try_for_each(|line| line.bytes.bytes().map(drop))?;
        Ok(record)
    }

    /// One line of JSON for each part would be read by nobody: it is laid out.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data serialises") + "\n"
    }

    /// The attempt with this number; without one the last that can be run again.
    ///
    /// # Errors
    /// `NoSuchAttempt`, `NoTape`.
    pub fn attempt(&self, number: Option<u32>) -> Result<&Attempt, Error> {
        let numbers = || self.attempts.iter().map(|attempt| attempt.number.to_string()).collect::<Vec<_>>();
        let missing = |number| {
            let there = if self.attempts.is_empty() { "none".to_owned() } else { numbers().join(", ") };
            Error::NoSuchAttempt { number, there }
        };
        let Some(number) = number else {
            let runnable = |attempt: &&Attempt| attempt.tape.as_ref().is_some_and(|tape| !tape.is_cut);
            let last = self.attempts.last().ok_or_else(|| missing(1))?;
            return self.attempts.iter().rev().find(runnable).ok_or(Error::NoTape(last.number));
        };
        self.attempts.iter().rev().find(|attempt| attempt.number == number).ok_or_else(|| missing(number))
    }

    /// Under which an attempt ran.
    ///
    /// # Errors
    /// `NoTape`, `NoSetup`.
    pub fn setup(&self, attempt: &Attempt) -> Result<&Setup, Error> {
        let tape = attempt.tape.as_ref().ok_or(Error::NoTape(attempt.number))?;
        self.setups.get(&tape.setup).ok_or_else(|| Error::NoSetup(tape.setup.short()))
    }

    /// The component that an attempt ran, where the record has it.
    ///
    /// # Errors
    /// Where it is no base64.
    pub fn plugin(&self, digest: Digest) -> Result<Option<Vec<u8>>, Error> {
        let Some(text) = self.plugins.get(&digest) else { return Ok(None) };
        let bytes =
            STANDARD.decode(text).map_err(|error| Error::Unreadable(format!("its plugin: {error}")))?;
        Ok(Some(bytes))
    }

    pub fn add_plugin(&mut self, bytes: &[u8]) {
        self.plugins.insert(Digest::of(bytes), STANDARD.encode(bytes));
    }

    /// Where the round began of which `past` is a position.
    pub(super) fn round(&self, past: u64) -> u64 {
        self.rounds.iter().copied().filter(|begins| *begins <= past).max().unwrap_or(0)
    }

    /// What idempotency keys follow from, as the dispatcher has it.
    pub(super) fn root(&self, past: u64) -> String {
        let event = &self.event;
        host::root(&self.delivery.to_string(), &event.source, event.received_at, &event.id, self.round(past))
    }
}

impl From<&Interrupted> for InterruptedLine {
    fn from(interrupted: &Interrupted) -> InterruptedLine {
        let Interrupted { number, began_at, plugin } = *interrupted;
        InterruptedLine { number, began_at, plugin }
    }
}
