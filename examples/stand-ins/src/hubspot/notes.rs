//! `POST /crm/v3/objects/notes`.

use serde_json::{Map, Value};

use super::portal::{Portal, note_properties};
use super::refusal::Refusal;
use crate::exchange::Answer;
use crate::limits::HUBSPOT_NOTE_CHARS_MAX;
use crate::time::{is_timestamp, now_ms};

pub(super) const PATH: &str = "/crm/v3/objects/notes";

/// HubSpot's number for "this note belongs to that contact".
const NOTE_TO_CONTACT: u64 = 202;

pub(super) fn create(portal: &mut Portal, body: &Value) -> Result<Answer, Refusal> {
    let given = body["properties"].as_object();
    let given = given.ok_or_else(|| Refusal::missing("SimplePublicObjectInputForCreate", "properties"))?;
    let properties = note_properties(given)?;
    refuse_properties(given)?;
    let contacts = associations(portal, &body["associations"])?;
    Ok(Answer::json(201, &portal.add_note(properties, contacts, now_ms())))
}

fn refuse_properties(given: &Map<String, Value>) -> Result<(), Refusal> {
    let text =
        |name: &str| given.get(name).map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
    let Some(at) = text("hs_timestamp").filter(|at| !at.is_empty()) else {
        let message = "Error creating NOTE. Some required properties were not set.";
        return Err(Refusal::invalid(message).with("properties", &["hs_timestamp"]));
    };
    if !is_timestamp(&at) {
        return Err(Refusal::invalid(format!(
            "Property values were not valid: hs_timestamp: {at} was not a valid long."
        )));
    }
    if text("hs_note_body").is_some_and(|body| body.chars().count() > HUBSPOT_NOTE_CHARS_MAX) {
        return Err(Refusal::invalid(format!("hs_note_body is over {HUBSPOT_NOTE_CHARS_MAX} characters")));
    }
    Ok(())
}

/// The contacts that the note belongs to; each must exist.
fn associations(portal: &Portal, associations: &Value) -> Result<Vec<u64>, Refusal> {
    match associations {
        Value::Null => Ok(Vec::new()),
        Value::Array(all) => all.iter().map(|one| association(portal, one)).collect(),
        _ => Err(Refusal::shape("associations must be an array")),
    }
}

fn association(portal: &Portal, association: &Value) -> Result<u64, Refusal> {
    let id = match &association["to"]["id"] {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return Err(Refusal::missing("PublicObjectId", "id")),
    };
    let types = association["types"].as_array().filter(|types| !types.is_empty());
    let types = types.ok_or_else(|| Refusal::missing("PublicAssociationsForObject", "types"))?;
    let invalid = || Refusal::invalid("One or more associations are invalid");
    for kind in types {
        let (category, number) = (&kind["associationCategory"], &kind["associationTypeId"]);
        if category != "HUBSPOT_DEFINED" || number.as_u64() != Some(NOTE_TO_CONTACT) {
            let what = format!("{}={number} is not valid", category.as_str().unwrap_or_default());
            return Err(invalid().with("INVALID_ASSOCIATION_TYPE_ID", &[&what]));
        }
    }
    let known = id.parse().ok().filter(|id| portal.has_contact(*id));
    known.ok_or_else(|| invalid().with("INVALID_OBJECT_IDS", &[&format!("CONTACT={id} is not valid")]))
}
