//! Effect: one outbound call of a delivery as the ledger keeps it, entry by entry, so that a later attempt knows what
//! earlier ones did.
//!
//! An entry is framed as a length (4 bytes, little-endian), that much JSON, and the bytes that belong to it: of an
//! intent the request as the guest asked for it, of a response the body as the guest got it. Neither holds a secret.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::tape::Seed;
use super::time::Millis;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum Entry {
    /// A call that may change something is about to leave.
    Intent(Intent),
    /// What became of a call.
    Response(Response),
    /// The status said yes, the content said no: it did not happen.
    Disowned { effect: u32 },
    /// The delivery waits for the operator's word on a call.
    Waiting(Waiting),
    /// The operator's word.
    Ruled(Ruled),
}

/// How a call is recognised when it is asked for again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub method: String,
    /// Origin and path; of a secret URL its origin and the secret's name.
    pub place: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Of method, target, content type and body.
    pub digest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub attempt: u32,
    /// 0, 1, … within the delivery, in the order in which they were first asked for.
    pub effect: u32,
    pub asked: Asked,
    /// Rises when nothing happened; its idempotency key changes with it.
    pub generation: u32,
    /// When the attempt began, as its guest's clock shows it: its key is not older than that; 0: not known.
    #[serde(default)]
    pub started_at: Millis,
    /// The call of the attempt that it was, 0 for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<u32>,
    /// What the delivery's random numbers follow from, in the first intent behind which there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Seed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    pub attempt: u32,
    pub effect: u32,
    /// Of a call that changes nothing, which has no intent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    #[serde(flatten)]
    pub said: Said,
    /// How long the guest waited for it.
    #[serde(default)]
    pub took_us: u64,
}

/// What a guest was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "kebab-case")]
pub enum Said {
    Answer {
        status: u16,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        headers: Vec<(String, String)>,
    },
    /// A 2xx whose body was over the cap.
    TooLarge { status: u16 },
    /// A status, and then the connection broke or the time was over: the body is lost.
    Broken {
        status: u16,
        /// Empty for a timeout.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
    },
    /// Nothing left the machine: a name that does not resolve, a connection that is refused.
    NotSent { kind: NotSent, why: String },
    /// The request may have arrived: a timeout, a connection that broke. `why`: empty for a timeout.
    Unknown { why: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotSent {
    Denied,
    Dns,
    Connect,
    Tls,
    Unavailable,
}

/// What an attempt stopped at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "kebab-case")]
pub enum Waiting {
    /// Nobody knows whether this call happened.
    Unknown { effect: u32 },
    /// This call is new, and one with its method and path that happened was not asked for.
    Changed { effect: u32, asked: Asked },
}

/// What the operator says of the call that a delivery waits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolution {
    /// It happened: it is never sent again.
    Happened,
    /// It did not: it is sent as a new call, with a new idempotency key.
    DidNot,
    /// Nobody knows, send it again: with the same key.
    Send,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruled {
    pub on: Waiting,
    pub resolution: Resolution,
}

impl Said {
    /// Of the answer, where one came.
    pub fn status(&self) -> Option<u16> {
        match self {
            Said::Answer { status, .. } | Said::TooLarge { status } | Said::Broken { status, .. } => {
                Some(*status)
            }
            Said::NotSent { .. } | Said::Unknown { .. } => None,
        }
    }
}

impl Entry {
    /// With the bytes that belong to it.
    pub fn framed(&self, bytes: &[u8]) -> Bytes {
        let json = serde_json::to_vec(self).expect("an entry of plain data serialises");
        let mut out = Vec::with_capacity(4 + json.len() + bytes.len());
        out.extend_from_slice(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&json);
        out.extend_from_slice(bytes);
        Bytes::from(out)
    }

    /// # Errors
    /// In words: it was not written by `framed`, or by a later version of it.
    pub fn unframed(framed: &Bytes) -> Result<(Entry, Bytes), String> {
        let (length, rest) = framed.split_first_chunk::<4>().ok_or("an effect's entry is cut short")?;
        let length = u32::from_le_bytes(*length) as usize;
        let json = rest.get(..length).ok_or("an effect's entry is cut short")?;
        let entry = serde_json::from_slice(json)
            .map_err(|error| format!("an effect's entry does not read: {error}"))?;
        Ok((entry, framed.slice(4 + length..)))
    }
}

impl std::fmt::Display for Resolution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Resolution::Happened => "happened",
            Resolution::DidNot => "did-not",
            Resolution::Send => "send",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_framed_is_read_again() {
        let said = Said::Answer { status: 200, headers: vec![("a".into(), "b".into())] };
        let entry = Entry::Response(Response { attempt: 1, effect: 2, asked: None, said, took_us: 7 });
        let framed = entry.framed(b"body");
        assert_eq!(Entry::unframed(&framed), Ok((entry, Bytes::from_static(b"body"))));
        for cut in 0..framed.len() - 4 {
            assert!(Entry::unframed(&framed.slice(..cut)).is_err(), "{cut}");
        }
        let other = Bytes::from_static(b"\x11\x00\x00\x00{\"entry\":\"later\"}");
        assert!(Entry::unframed(&other).unwrap_err().contains("does not read"));
    }
}
