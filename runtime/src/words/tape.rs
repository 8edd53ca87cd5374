//! Tape: what one attempt was told beyond its event and its effects, so that it can be run again exactly.
//!
//! A guest is deterministic but for what the host tells it. Its event is in the ledger, the answers to its calls are
//! effects; the rest is here: what its shelf said, what its random numbers follow from, and under which setup it ran.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::digest::Digest;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tape {
    /// Of the handler's settings, grants and limits as they were, which are kept apart by this digest.
    pub setup: Digest,
    /// None: the guest asked for nothing that follows from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Seed>,
    /// The delivery's effects up to this position of the journal were there before the guest ran.
    #[serde(default)]
    pub past: u64,
    /// What the shelf answered, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<Read>,
    /// There was more than is kept: this attempt cannot be run again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
}

/// One answer of the shelf, beside what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "read", rename_all = "kebab-case")]
pub enum Read {
    Value {
        key: String,
        #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_base64")]
        value: Option<Bytes>,
    },
    Keys {
        prefix: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        limit: u32,
        keys: Vec<String>,
    },
    /// How much is on it, for the quota.
    Bytes {
        bytes: u64,
    },
    Failed {
        why: String,
    },
}

impl Read {
    /// Roughly what it takes in a record.
    pub fn bytes(&self) -> usize {
        const FRAME: usize = 32;
        FRAME
            + match self {
                Read::Value { key, value } => key.len() + value.as_ref().map_or(0, Bytes::len) * 4 / 3,
                Read::Keys { prefix, keys, .. } => {
                    prefix.len() + keys.iter().map(|key| key.len() + 3).sum::<usize>()
                }
                Read::Bytes { .. } => 0,
                Read::Failed { why } => why.len(),
            }
    }
}

/// 32 bytes that a delivery's random numbers follow from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub [u8; 32]);

impl Seed {
    /// For one use of it, apart from every other.
    pub fn branch(&self, purpose: &str) -> [u8; 32] {
        Digest::of_parts(&[&self.0, purpose.as_bytes()]).0
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for Seed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seed, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut seed = [0; 32];
        hex::decode_to_slice(&text, &mut seed).map_err(serde::de::Error::custom)?;
        Ok(Seed(seed))
    }
}

/// Bytes in JSON, where they need not be text.
mod optional_base64 {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(|value| STANDARD.encode(value)).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let decode = |text: String| STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom);
        text.map(decode).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tape_reads_as_it_was_written() {
        let tape = Tape {
            setup: Digest::of(b"setup"),
            seed: Some(Seed([7; 32])),
            past: 3,
            reads: vec![
                Read::Value { key: "k".into(), value: Some(Bytes::from_static(&[0, 159, 255])) },
                Read::Value { key: "none".into(), value: None },
                Read::Keys { prefix: "p".into(), after: None, limit: 9, keys: vec!["pa".into()] },
                Read::Bytes { bytes: 12 },
                Read::Failed { why: "the disk".into() },
            ],
            is_cut: false,
        };
        let text = serde_json::to_string(&tape).unwrap();
        assert_eq!(serde_json::from_str::<Tape>(&text).unwrap(), tape);
        let bare = Tape { seed: None, reads: Vec::new(), ..tape };
        assert!(!serde_json::to_string(&bare).unwrap().contains("reads"));
        assert!(serde_json::from_str::<Seed>("\"00ff\"").is_err());
    }

    #[test]
    fn each_purpose_has_numbers_of_its_own() {
        let seed = Seed([1; 32]);
        assert_ne!(seed.branch("a"), seed.branch("b"));
        assert_ne!(seed.branch("a"), Seed([2; 32]).branch("a"));
    }
}
