//! `POST /crm/v3/objects/contacts/batch/upsert`.
//!
//! Without `objectWriteTraceId` one bad input refuses the whole batch and nothing is written. With one on
//! every input the good ones are written and the answer is 207 with the others in `errors`. Equal ids refuse
//! the batch either way. (The reference describes 207 for batch create; that upsert does it too, and that results
//! come in an order of their own, was seen on the real API by others.)

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::portal::{Portal, Properties};
use super::refusal::Refusal;
use crate::exchange::Answer;
use crate::limits::HUBSPOT_INPUTS_MAX;
use crate::time::{iso, now_ms};

pub(super) const PATH: &str = "/crm/v3/objects/contacts/batch/upsert";

struct Input<'a> {
    id: &'a str,
    id_property: &'a str,
    properties: &'a Map<String, Value>,
    trace: Option<&'a str>,
}

/// One input that may be written.
struct Change {
    existing: Option<u64>,
    properties: Properties,
}

pub(super) fn upsert(portal: &mut Portal, body: &Value) -> Result<Answer, Refusal> {
    let started_ms = now_ms();
    let inputs = read(body)?;
    refuse_equal_ids(&inputs)?;
    for input in &inputs {
        refuse_id_property(portal, input.id_property)?;
    }
    let multi_status = inputs.iter().all(|input| input.trace.is_some());
    let mut changes = Vec::new();
    let mut errors = Vec::new();
    for input in &inputs {
        match change(portal, input) {
            Ok(change) => changes.push((change, input.trace)),
            Err(refusal) if multi_status => {
                errors.push(
                    refusal.with("objectWriteTraceId", &[input.trace.unwrap_or_default()]).into_entry(),
                );
            }
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(answer(&write(portal, changes, started_ms), errors, started_ms))
}

fn write(portal: &mut Portal, changes: Vec<(Change, Option<&str>)>, now_ms: u64) -> Vec<Value> {
    let mut results = Vec::new();
    for (change, trace) in changes {
        let (id, new) = portal.put(change.existing, change.properties, now_ms);
        let mut result = portal.show(id);
        result["new"] = new.into();
        if let Some(trace) = trace {
            result["objectWriteTraceId"] = trace.into();
        }
        results.push(result);
    }
    results.reverse(); // callers must not count on the order of their inputs
    results
}

fn answer(results: &[Value], errors: Vec<Value>, started_ms: u64) -> Answer {
    let mut body = json!({
        "status": "COMPLETE",
        "results": results,
        "startedAt": iso(started_ms),
        "completedAt": iso(now_ms()),
    });
    if errors.is_empty() {
        return Answer::json(200, &body);
    }
    body["numErrors"] = errors.len().into();
    body["errors"] = Value::Array(errors);
    Answer::json(207, &body)
}

fn read(body: &Value) -> Result<Vec<Input<'_>>, Refusal> {
    let batch = "BatchInputSimplePublicObjectBatchInputUpsert";
    let inputs = body.as_object().ok_or_else(|| Refusal::shape("the body must be an object"))?.get("inputs");
    let inputs = inputs.ok_or_else(|| Refusal::missing(batch, "inputs"))?;
    let inputs = inputs.as_array().ok_or_else(|| Refusal::shape("inputs must be an array"))?;
    if inputs.is_empty() {
        return Err(Refusal::invalid("inputs must not be empty"));
    }
    if inputs.len() > HUBSPOT_INPUTS_MAX {
        let count = inputs.len();
        return Err(Refusal::invalid(format!(
            "The maximum number of inputs supported in a batch request is {HUBSPOT_INPUTS_MAX}; {count} were given"
        )));
    }
    inputs.iter().map(read_input).collect()
}

fn read_input(input: &Value) -> Result<Input<'_>, Refusal> {
    let kind = "SimplePublicObjectBatchInputUpsert";
    let text = |name: &str| input[name].as_str().filter(|text| !text.is_empty());
    Ok(Input {
        id: text("id").ok_or_else(|| Refusal::missing(kind, "id"))?,
        id_property: text("idProperty").ok_or_else(|| Refusal::missing(kind, "idProperty"))?,
        properties: input["properties"].as_object().ok_or_else(|| Refusal::missing(kind, "properties"))?,
        trace: text("objectWriteTraceId"),
    })
}

fn refuse_equal_ids(inputs: &[Input<'_>]) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    let mut equal: Vec<&str> = inputs
        .iter()
        .filter(|input| !seen.insert((input.id_property, input.id)))
        .map(|input| input.id)
        .collect();
    equal.dedup();
    if equal.is_empty() {
        return Ok(());
    }
    let listed = equal.join(", ");
    Err(Refusal::invalid(format!("Duplicate IDs found in batch input: [{listed}]. IDs must be unique"))
        .with("ids", &equal))
}

fn refuse_id_property(portal: &Portal, name: &str) -> Result<(), Refusal> {
    if portal.is_unique(name) {
        return Ok(());
    }
    if portal.knows_contact_property(name) {
        // 0-1 is HubSpot's number for contacts.
        return Err(Refusal::invalid(format!(
            "Unable to perform update/upsert by non-unique 0-1 property {name}"
        )));
    }
    Err(Refusal::invalid(format!("Property \"{name}\" does not exist (PROPERTY_DOESNT_EXIST)"))
        .with("propertyName", &[name]))
}

fn change(portal: &Portal, input: &Input<'_>) -> Result<Change, Refusal> {
    let mut given = input.properties.clone();
    given.insert(input.id_property.to_owned(), input.id.into());
    let properties = portal.contact_properties(&given)?;
    let id = properties.get(input.id_property).map_or(input.id, String::as_str);
    let existing = portal.find(input.id_property, id);
    let mut unique = properties.iter().filter(|(name, _)| portal.is_unique(name));
    let other = unique.find_map(|(name, value)| portal.find(name, value).filter(|id| Some(*id) != existing));
    match other {
        Some(other) => Err(Refusal::conflict(other)),
        None => Ok(Change { existing, properties }),
    }
}
