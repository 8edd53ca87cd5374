//! Adyen: each item of a notification carries a signature of its own, over eight of its fields, and all of them must
//! be good.
//! <https://docs.adyen.com/development-resources/webhooks/secure-webhooks/verify-hmac-signatures> (2026-05)
//!
//! The fields are joined with `:` and, as Adyen's libraries have it, nothing is escaped. Only the merchant's own
//! reference may hold a `:` here, so that the signed text has one reading. Webhooks of Adyen's platforms are signed
//! in a header, over the body: they are data (`preset: adyen-platform`).

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use super::super::{Refused, Request};
use super::hash::{self, HmacSha256};
use super::place_of;
use crate::words::limits::SIGNED_ITEMS_MAX;

pub(super) const NOTE: &str = "Adyen signs eight fields of an item (references, merchant, amount, eventCode, success) and \
     nothing else of the body: additionalData, reason and live are as good as the way they came";

const SIGNATURE: &str = "JSON field `additionalData.hmacSignature`";

/// Each item's signature, and what it is made over.
pub(super) struct Claim {
    items: Vec<(Vec<u8>, String)>,
}

/// The secret as Adyen's Customer Area prints it: hex.
pub(super) fn key(secret: &[u8]) -> Result<Vec<u8>, String> {
    let key = hex::decode(secret)
        .map_err(|_| "the secret is not hex; copy the HMAC key whole from the Customer Area")?;
    if key.is_empty() {
        return Err("the secret is empty; anybody could sign with it".into());
    }
    Ok(key)
}

pub(super) fn claim(request: &Request<'_>) -> Result<Claim, Refused> {
    let notification: Notification<'_> = serde_json::from_slice(request.body).map_err(|error| {
        Refused::Malformed(format!("the body is no notification of Adyen's: {}", place_of(&error)))
    })?;
    if notification.items.0.is_empty() {
        return Err(Refused::Malformed("the notification has no items, and so no signature".into()));
    }
    let items = notification.items.0.iter().map(|wrapped| {
        let item = &wrapped.item;
        let text = item.additional_data.as_ref().and_then(|data| data.signature.as_deref());
        let text = text.filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| Refused::NoSignature(SIGNATURE.to_owned()))?;
        let signature = STANDARD.decode(text).ok().filter(|mac| mac.len() == 32);
        let signature =
            signature.ok_or_else(|| Refused::Malformed(format!("{SIGNATURE} is not 32 bytes of base64")))?;
        Ok((signature, item.signed()?))
    });
    Ok(Claim { items: items.collect::<Result<_, Refused>>()? })
}

impl Claim {
    /// Every item by the same key; each is looked at.
    pub(super) fn is_proved_by(&self, mac: &HmacSha256) -> bool {
        let good = self
            .items
            .iter()
            .filter(|(signature, signed)| hash::same(&hash::mac(mac, &[signed.as_bytes()]), signature));
        good.count() == self.items.len()
    }
}

// === the body ===

#[derive(Deserialize)]
struct Notification<'b> {
    #[serde(borrow, rename = "notificationItems")]
    items: Items<'b>,
}

/// At most so many.
struct Items<'b>(Vec<Wrapped<'b>>);

#[derive(Deserialize)]
struct Wrapped<'b> {
    #[serde(borrow, rename = "NotificationRequestItem")]
    item: Item<'b>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item<'b> {
    #[serde(borrow)]
    psp_reference: Cow<'b, str>,
    #[serde(borrow, default)]
    original_reference: Option<Cow<'b, str>>,
    #[serde(borrow)]
    merchant_account_code: Cow<'b, str>,
    #[serde(borrow, default)]
    merchant_reference: Option<Cow<'b, str>>,
    #[serde(borrow, default)]
    amount: Option<Amount<'b>>,
    #[serde(borrow)]
    event_code: Cow<'b, str>,
    success: Scalar,
    #[serde(borrow, default)]
    additional_data: Option<AdditionalData<'b>>,
}

#[derive(Deserialize)]
struct Amount<'b> {
    value: Scalar,
    #[serde(borrow)]
    currency: Cow<'b, str>,
}

#[derive(Deserialize)]
struct AdditionalData<'b> {
    #[serde(borrow, default, rename = "hmacSignature")]
    signature: Option<Cow<'b, str>>,
}

impl Item<'_> {
    fn signed(&self) -> Result<String, Refused> {
        let value = self.amount.as_ref().map_or("", |amount| amount.value.0.as_str());
        let currency = self.amount.as_ref().map_or("", |amount| &amount.currency);
        let original = self.original_reference.as_deref().unwrap_or_default();
        let reference = self.merchant_reference.as_deref().unwrap_or_default();
        let before = [&*self.psp_reference, original, &*self.merchant_account_code];
        let behind = [value, currency, &*self.event_code, self.success.0.as_str()];
        if before.iter().chain(&behind).any(|field| field.contains(':')) {
            return Err(Refused::Malformed(
                "a field of an item holds `:`, which ends it in what is signed; only merchantReference may"
                    .into(),
            ));
        }
        Ok([&before[..], &[reference], &behind[..]].concat().join(":"))
    }
}

impl<'de: 'b, 'b> Deserialize<'de> for Items<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Vec<Wrapped<'de>>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {SIGNED_ITEMS_MAX} items")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    if list.len() == SIGNED_ITEMS_MAX {
                        return Err(de::Error::custom("too many items"));
                    }
                    list.push(item);
                }
                Ok(list)
            }
        }
        deserializer.deserialize_seq(List).map(Items)
    }
}

/// A text, a whole number, true or false, as it is written.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a whole number, true or false")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }
        deserializer.deserialize_any(Written)
    }
}
