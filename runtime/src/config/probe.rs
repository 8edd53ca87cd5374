//! Probe: reads a part of the file that belongs to another room, whose type is read by serde.
//!
//! serde ends at its first error; an operator wants all of them. Every key of such a type may be left out, so
//! each can be tried alone: what fails is reported at its own line and taken out, and the rest still reads.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::read::{Node, unknown};

pub(super) fn read<T: DeserializeOwned + Default>(node: &Node<'_>) -> T {
    let mut value = node.value.clone();
    let mut misfits = Vec::new();
    prune::<T>(&mut Vec::new(), &mut value, &mut misfits);
    for (path, message) in misfits {
        node.below(&path).error(message);
    }
    serde_json::from_value(value).unwrap_or_default()
}

/// False where the value itself does not fit at `path`. What does not fit inside it is taken out.
fn prune<T: DeserializeOwned>(
    path: &mut Vec<String>,
    value: &mut Value,
    misfits: &mut Vec<(Vec<String>, String)>,
) -> bool {
    let Err(error) = try_alone::<T>(path, value) else { return true };
    let Value::Object(map) = value else {
        misfits.push((path.clone(), in_our_words(&error)));
        return false;
    };
    // Not its keys are wrong, but that it stands here, or that it is a mapping.
    if let Err(error) = try_alone::<T>(path, &Value::Object(Map::new())) {
        misfits.push((path.clone(), in_our_words(&error)));
        return false;
    }
    map.retain(|key, inner| {
        path.push(key.clone());
        let fits = prune::<T>(path, inner, misfits);
        path.pop();
        fits
    });
    true
}

/// A `T` of which nothing is written but `value` at `path`.
fn try_alone<T: DeserializeOwned>(path: &[String], value: &Value) -> Result<T, serde_json::Error> {
    let nested = path
        .iter()
        .rev()
        .fold(value.clone(), |inner, key| Value::Object(Map::from_iter([(key.clone(), inner)])));
    serde_json::from_value(nested)
}

/// serde says "unknown field `a`, expected one of `b`, `c`" or "invalid type: integer `5`, expected a string".
fn in_our_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let mut quoted = text.split('`').skip(1).step_by(2);
    if text.starts_with("unknown field") {
        let name = quoted.next().unwrap_or_default();
        return unknown(name, &quoted.collect::<Vec<_>>());
    }
    if text.ends_with("expected a string") {
        return format!("{text}; put it in quotes");
    }
    format!("{text}; type `longshore config schema` to see what fits here")
}
