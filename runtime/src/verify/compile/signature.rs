//! The signature's part of a spec: where it is, and how it is written.

use super::{Judge, Words};
use crate::verify::extract::Place;
use crate::verify::format::{Encoding, Format, Items, Signature};
use crate::verify::spec::{SignatureSpec, Texts, TimestampSpec};
use crate::words::limits::SIGNATURE_CANDIDATES_MAX;

const ENCODINGS: Words<Encoding> =
    &[("hex", Encoding::Hex), ("base64", Encoding::Base64), ("base64url", Encoding::Base64Url)];
const FORMATS: Words<()> = &[("raw", ()), ("prefixed", ()), ("list", ()), ("fields", ()), ("positional", ())];

impl Judge {
    pub(super) fn signature(&mut self, spec: &SignatureSpec, timestamp: &TimestampSpec) -> Option<Signature> {
        let from = self.signature_from(spec.from.as_ref());
        let encoding = self.required("scheme.signature.encoding", spec.encoding.as_deref(), ENCODINGS);
        let format = self.format(spec);
        let stamp_field = timestamp.from.as_deref().and_then(|from| from.strip_prefix("field:"));
        let format = format?;
        if let Some(field) = stamp_field {
            self.stamp_field(field, &format);
        }
        Some(Signature {
            from: from?,
            format,
            encoding: encoding?,
            stamp_field: stamp_field.map(Into::into),
            groups: spec.groups.clone().filter(|separator| !separator.is_empty()),
        })
    }

    pub(super) fn signature_from(&mut self, from: Option<&Texts>) -> Option<Vec<Place>> {
        const KEY: &str = "scheme.signature.from";
        match from {
            Some(texts) if !texts.0.is_empty() => self.places(KEY, texts),
            _ => {
                self.say(KEY, "the signature's place is missing; write from: \"header:X-Signature\"");
                None
            }
        }
    }

    pub(super) fn format(&mut self, spec: &SignatureSpec) -> Option<Format> {
        let (prefix, separator) = (spec.prefix.as_deref(), spec.separator.as_deref());
        let (assign, key) = (spec.assign.as_deref(), spec.key.as_deref());
        let prefixes = [("scheme.signature.prefix", prefix)];
        let separators = [("scheme.signature.separator", separator)];
        let pairs = [("scheme.signature.assign", assign), ("scheme.signature.key", key)];
        let word = spec.format.as_deref();
        if word != Some("fields") {
            let groups = [("scheme.signature.groups", spec.groups.as_deref())];
            self.meaningless("a format that is not fields", &groups);
        }
        match word {
            Some("raw") => {
                self.meaningless("format: raw", &[&prefixes[..], &separators[..], &pairs[..]].concat());
                Some(Format::Raw)
            }
            Some("prefixed") => {
                self.meaningless("format: prefixed", &[&separators[..], &pairs[..]].concat());
                self.text("scheme.signature.prefix", prefix, "sha256=").map(Format::Prefixed)
            }
            Some("positional") => {
                self.meaningless("format: positional", &[&prefixes[..], &pairs[..]].concat());
                let separator = self.text("scheme.signature.separator", separator, ",")?;
                Some(Format::Positional { separator })
            }
            Some("list") => {
                self.meaningless("format: list", &prefixes);
                let is_bare = assign.is_none() && key.is_none_or(|key| key == "*");
                self.items(spec, is_bare).map(Format::List)
            }
            Some("fields") => {
                self.meaningless("format: fields", &prefixes);
                self.items(spec, false).map(Format::Fields)
            }
            _ => {
                self.unknown("scheme.signature.format", word, FORMATS);
                None
            }
        }
    }

    fn items(&mut self, spec: &SignatureSpec, is_bare: bool) -> Option<Items> {
        let separator = self.text("scheme.signature.separator", spec.separator.as_deref(), ",");
        if is_bare {
            return Some(Items { separator: separator?, assign: None, key: None });
        }
        let assign = self.text("scheme.signature.assign", spec.assign.as_deref(), "=");
        let key = self.text("scheme.signature.key", spec.key.as_deref(), "v1");
        Some(Items { separator: separator?, assign: Some(assign?), key: Some(key?).filter(|key| key != "*") })
    }

    /// The timestamp that is an item of the signature: `field:t`, or `field:0` by position.
    fn stamp_field(&mut self, field: &str, format: &Format) {
        const KEY: &str = "scheme.timestamp.from";
        match format {
            Format::Positional { .. } => match field.parse::<usize>() {
                Ok(position) if position < SIGNATURE_CANDIDATES_MAX && position.to_string() == field => {}
                _ => self.say(
                    KEY,
                    format!("`{field}` is not a position; write from: \"field:0\" for the first item"),
                ),
            },
            Format::Fields(items) if field.is_empty() || items.key.as_deref() == Some(field) => {
                self.say(KEY, "the timestamp needs a key of its own; write from: \"field:t\"");
            }
            Format::Fields(_) => {}
            _ => self.say(
                KEY,
                "only format: fields and format: positional have fields; write one of them, or header:X",
            ),
        }
    }
}
