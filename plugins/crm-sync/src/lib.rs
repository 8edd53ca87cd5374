//! crm-sync: keeps a HubSpot contact for each lead, and writes each reply as a note on it.
//!
//! The line: find the lead's key, upsert its contact, write the note. An upsert may be repeated without harm. The
//! note comes last, so that only an answer that was lost repeats it; once the daemon records calls, nothing does.
//! What HubSpot's answers mean is in [`hubspot`].
//!
//! Not here: anything about SendPilot. Where a value is in the event is a JSON pointer in the settings.

mod contact;
mod hubspot;
mod note;

use std::collections::BTreeMap;

use longshore_sdk::prelude::*;

use crate::hubspot::HubSpot;

longshore_sdk::plugin! {
    name: "crm-sync",
    version: env!("CARGO_PKG_VERSION"),
    description: env!("CARGO_PKG_DESCRIPTION"),
    origins: ["https://api.hubapi.com"],
    settings: [
        text("id_property").default("sendpilot_lead_id")
            .help("Contact property that identifies a lead; HubSpot must have it with unique values"),
        text("id_pointer").default("/data/leadId").help("Where the event has that property's value"),
        json("fields").default(FIELDS).help("Contact properties, each with where the event has its value"),
        json("note_types").default(NOTE_TYPES).help("Event types that become a note on the contact"),
        text("note_pointer").default("/data/reply|/data/replyPreview").help("Where the event has the note's text"),
        text("note_title").default("LinkedIn reply").help("First line of a note; may be empty"),
        text("note_time_pointer").default("/timestamp").help("Where the event has the note's time (ISO 8601, UTC)"),
        text("base_url").default("https://api.hubapi.com").help("Where HubSpot's API is"),
        secret("token").required().help("Access token of a private app with crm.objects.contacts.write and .read"),
    ],
    handle: handle,
}

/// Only properties that README tells to create: HubSpot refuses a contact with one that it does not know.
const FIELDS: &str =
    r#"{ "sendpilot_linkedin_url": "/data/linkedinUrl", "sendpilot_campaign_id": "/data/campaignId" }"#;

const NOTE_TYPES: &str = r#"["message.received", "reply.received"]"#;

fn handle(event: Event) -> Result<Outcome, Failure> {
    let body = event.value()?;
    let id_property = settings::require("id_property")?;
    let id_pointer = pointer_setting("id_pointer")?;
    let Some(id) = pointer::text(&body, &id_pointer) else {
        return skip(format!("no {id_property} in this event: there is nothing at {id_pointer}"));
    };
    let hubspot = HubSpot::of(&event)?;
    let note = note::of(&event, &body)?;

    let contact = contact::upsert(&hubspot, &id_property, &id, &properties(&body)?)?;
    match note {
        None => done(contact.to_string()),
        Some(note) => {
            let note_id = note::write(&hubspot, &note, &contact.id)?;
            done(format!("{contact}, note {note_id}"))
        }
    }
}

/// What the event has of the mapped fields. A field without a value is left as it is in HubSpot.
fn properties(body: &Value) -> Result<BTreeMap<String, String>, Failure> {
    let fields: BTreeMap<String, String> = settings::json("fields")?.unwrap_or_default();
    let mut properties = BTreeMap::new();
    for (property, pointers) in fields {
        pointer::check(&pointers)
            .map_err(|why| settings::Error::invalid("fields", format!("`{property}`: {why}")))?;
        if let Some(value) = pointer::text(body, &pointers) {
            properties.insert(property, value);
        }
    }
    Ok(properties)
}

fn pointer_setting(key: &str) -> Result<String, settings::Error> {
    let pointers = settings::require(key)?;
    pointer::check(&pointers).map_err(|why| settings::Error::invalid(key, why))?;
    Ok(pointers)
}

#[cfg(test)]
mod tests;
