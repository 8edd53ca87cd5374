//! The contact: made or updated by a property whose values are unique, so that a repeated call changes nothing.
//!
//! `POST /crm/v3/objects/contacts/batch/upsert`
//! (<https://developers.hubspot.com/docs/api-reference/crm-contacts-v3/batch/post-crm-v3-objects-contacts-batch-upsert>,
//! 2026-11), with a batch of one: HubSpot has no upsert of a single contact.

use std::collections::BTreeMap;
use std::fmt;

use longshore_sdk::http::Response;
use longshore_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::hubspot::{HubSpot, Problem};

const PATH: &str = "/crm/v3/objects/contacts/batch/upsert";

#[derive(Serialize)]
struct Batch<'a> {
    inputs: [Input<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Input<'a> {
    id_property: &'a str,
    id: &'a str,
    properties: &'a BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Upserted {
    #[serde(default)]
    results: Vec<Contact>,
    #[serde(default)]
    errors: Vec<Problem>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Contact {
    pub(crate) id: String,
    #[serde(default, rename = "new")]
    is_new: bool,
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "contact {} {}", self.id, if self.is_new { "created" } else { "updated" })
    }
}

pub(crate) fn upsert(
    hubspot: &HubSpot,
    id_property: &str,
    id: &str,
    properties: &BTreeMap<String, String>,
) -> Result<Contact, Failure> {
    let batch = Batch { inputs: [Input { id_property, id, properties }] };
    let answer = hubspot.post(PATH, &batch, "contact")?;
    judge(hubspot, &answer)
}

/// A 2xx, 207 among them, says yes to the batch; whether the contact is in it, only its content says. Where it is
/// not, the call is disowned, for a recorded 2xx would not be sent again.
fn judge(hubspot: &HubSpot, answer: &Response) -> Result<Contact, Failure> {
    let Upserted { results, errors } = match answer.json() {
        Ok(upserted) => upserted,
        Err(why) => {
            answer.disown();
            return retry(why.to_string());
        }
    };
    match (results.into_iter().next(), errors.first()) {
        (Some(contact), None) => Ok(contact),
        (Some(contact), Some(_)) => {
            for error in &errors {
                log::warn!(contact = contact.id, "the contact was written in part{error}");
            }
            Ok(contact)
        }
        (None, Some(problem)) => {
            answer.disown();
            Err(hubspot.failure(answer, problem))
        }
        (None, None) => {
            answer.disown();
            retry(format!("HubSpot answered {} with neither a contact nor an error", answer.status()))
        }
    }
}
