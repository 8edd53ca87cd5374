//! Schema: the JSON Schema of the file, so that an editor completes it and marks a slip while it is typed.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::types::{Breaker, Config, OriginGrant};
use super::values::{AddressText, OriginText, SecretText, TimeText};
use crate::verify;

/// `longshore config schema`
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

pub(super) fn tls(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [
        {
            "type": "object",
            "properties": { "cert": { "type": "string" }, "key": { "type": "string" } },
            "required": ["cert", "key"],
            "additionalProperties": false,
        },
        { "enum": ["off", "dev", false] },
    ] })
}

pub(super) fn address_or_off(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [generator.subschema_for::<AddressText>(), { "enum": ["off", false] }] })
}

pub(super) fn breaker(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [generator.subschema_for::<Breaker>(), { "enum": ["off", false] }] })
}

pub(super) fn preset(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": verify::preset_names() })
}

/// One handshake, several, or none.
pub(super) fn challenge(generator: &mut SchemaGenerator) -> Schema {
    let one = generator.subschema_for::<verify::ChallengeSpec>();
    json_schema!({ "anyOf": [one, { "type": "array", "items": one }, { "enum": ["off", false] }] })
}

/// In place, or the file that holds it.
pub(super) fn sample(generator: &mut SchemaGenerator) -> Schema {
    let here = generator.subschema_for::<verify::sample::Sample>();
    json_schema!({ "anyOf": [here, { "type": "string", "pattern": "^file:.+$" }] })
}

/// An origin alone, or with what of it is granted.
pub(super) fn origin_grants(generator: &mut SchemaGenerator) -> Schema {
    let whole = generator.subschema_for::<OriginText>();
    let part = generator.subschema_for::<OriginGrant>();
    json_schema!({ "type": "array", "items": { "anyOf": [whole, part] } })
}

/// `env:NAME` alone, or with the time at which it ends.
pub(super) fn source_secrets(generator: &mut SchemaGenerator) -> Schema {
    let from = generator.subschema_for::<SecretText>();
    let until = generator.subschema_for::<TimeText>();
    json_schema!({ "type": "array", "items": { "anyOf": [
        from,
        {
            "type": "object",
            "properties": { "from": from, "until": until },
            "required": ["from"],
            "additionalProperties": false,
        },
    ] } })
}
