//! Event, delivery and their names: what the ledger keeps and everybody else refers to.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a source, handler or subscription as configured: `[a-z0-9][a-z0-9_-]*`, at most 63 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

pub const NAME_BYTES_MAX: usize = 63;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a name is 1 to 63 of a-z, 0-9, `_`, `-` and starts with a letter or digit; `{0}` is not")]
pub struct BadName(pub String);

impl Name {
    pub fn new(text: &str) -> Result<Self, BadName> {
        let first_ok = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let rest_ok =
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if first_ok && rest_ok && text.len() <= NAME_BYTES_MAX {
            Ok(Name(text.into()))
        } else {
            Err(BadName(text.chars().take(80).collect()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Name::new(text)
    }
}

impl Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Name::new(&text).map_err(serde::de::Error::custom)
    }
}

/// Names one event of the ledger: the journal position of its record, and its place in it where one request
/// carried several. Prints as `1f3a`, or `1f3a-2` for the third event of a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventRef {
    pub position: u64,
    pub ordinal: u16,
}

impl fmt::Display for EventRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ordinal {
            0 => write!(f, "{:x}", self.position),
            n => write!(f, "{:x}-{n}", self.position),
        }
    }
}

impl fmt::Debug for EventRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not the name of an event or delivery; `longshore events list` prints them")]
pub struct BadRef(pub String);

impl FromStr for EventRef {
    type Err = BadRef;
    fn from_str(text: &str) -> Result<Self, BadRef> {
        let bad = || BadRef(text.chars().take(80).collect());
        let (position, ordinal) = text.split_once('-').unwrap_or((text, "0"));
        let is_hex = !position.is_empty() && position.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex {
            return Err(bad());
        }
        Ok(EventRef {
            position: u64::from_str_radix(position, 16).map_err(|_| bad())?,
            ordinal: ordinal.parse().map_err(|_| bad())?,
        })
    }
}

/// One event for one subscription. Prints as `1f3a.replies-to-slack`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    pub event: EventRef,
    pub subscription: Name,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.event, self.subscription)
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for DeliveryId {
    type Err = BadRef;
    fn from_str(text: &str) -> Result<Self, BadRef> {
        let bad = || BadRef(text.chars().take(80).collect());
        let (event, subscription) = text.split_once('.').ok_or_else(bad)?;
        Ok(DeliveryId { event: event.parse()?, subscription: Name::new(subscription).map_err(|_| bad())? })
    }
}

macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
as_text!(EventRef);
as_text!(DeliveryId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_events_and_deliveries_read_back() {
        for text in ["1f3a", "1f3a-2", "0"] {
            assert_eq!(text.parse::<EventRef>().unwrap().to_string(), text);
        }
        let id: DeliveryId = "1f3a.replies-to-slack".parse().unwrap();
        assert_eq!(id.to_string(), "1f3a.replies-to-slack");
        for bad in ["", "xyz", "1f3a-", "-1", "+1", "1f3a.", "1f3a.Bad Name", "fffffffffffffffff"] {
            assert!(bad.parse::<DeliveryId>().is_err(), "{bad}");
        }
        assert!("+1".parse::<EventRef>().is_err());
    }

    #[test]
    fn names_are_checked() {
        for good in ["a", "slack-notify", "crm_sync2", &"a".repeat(63)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a b", "a.b", "ü", &"a".repeat(64)] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }
}
