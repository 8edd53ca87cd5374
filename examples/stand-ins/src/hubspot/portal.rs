//! One HubSpot account: which properties it knows, its contacts and its notes.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::refusal::{PropertyProblem, Refusal};
use crate::limits::HUBSPOT_PROPERTY_CHARS_MAX;
use crate::time::iso;

/// Contact properties that every HubSpot account has and a lead's payload may fill.
const CONTACT_DEFAULTS: &[&str] = &[
    "address",
    "city",
    "company",
    "country",
    "email",
    "firstname",
    "hs_lead_status",
    "hs_linkedin_url",
    "industry",
    "jobtitle",
    "lastname",
    "lifecyclestage",
    "message",
    "mobilephone",
    "phone",
    "state",
    "website",
    "zip",
];
/// Kept by HubSpot itself.
const CONTACT_READ_ONLY: &[&str] = &["createdate", "hs_object_id", "lastmodifieddate"];
const NOTE_PROPERTIES: &[&str] = &["hs_attachment_ids", "hs_note_body", "hs_timestamp", "hubspot_owner_id"];

/// What the account's owner prepared: properties beside those that every account has.
#[derive(Debug, Clone)]
pub struct PortalSetup {
    /// Custom contact properties with unique values, fit to be an `idProperty`.
    pub unique: Vec<String>,
    /// Custom contact properties of the ordinary kind.
    pub plain: Vec<String>,
}

impl Default for PortalSetup {
    /// The properties that the manual of `crm-sync` tells the operator to create.
    fn default() -> PortalSetup {
        let names = |all: &[&str]| all.iter().map(|&name| name.to_owned()).collect();
        PortalSetup {
            unique: names(&["sendpilot_lead_id"]),
            plain: names(&["sendpilot_campaign_id", "sendpilot_linkedin_url"]),
        }
    }
}

pub(super) type Properties = BTreeMap<String, String>;

pub(super) struct Portal {
    setup: PortalSetup,
    next_id: u64,
    contacts: BTreeMap<u64, Contact>,
    /// (property, value) of every unique property → contact.
    by_unique: HashMap<(String, String), u64>,
    notes: Vec<Note>,
}

pub(super) struct Contact {
    pub(super) properties: Properties,
    pub(super) created_ms: u64,
    pub(super) updated_ms: u64,
}

pub(super) struct Note {
    pub(super) id: u64,
    pub(super) properties: Properties,
    pub(super) contacts: Vec<u64>,
    pub(super) created_ms: u64,
}

impl Portal {
    pub(super) fn new(setup: &PortalSetup) -> Portal {
        Portal {
            setup: setup.clone(),
            next_id: 1_001,
            contacts: BTreeMap::new(),
            by_unique: HashMap::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn contacts(&self) -> Vec<Value> {
        self.contacts.iter().map(|(id, contact)| contact.show(*id)).collect()
    }

    pub(super) fn notes(&self) -> Vec<Value> {
        self.notes.iter().map(|note| note.show(true)).collect()
    }

    pub(super) fn has_contact(&self, id: u64) -> bool {
        self.contacts.contains_key(&id)
    }

    pub(super) fn is_unique(&self, property: &str) -> bool {
        property == "email" || self.setup.unique.iter().any(|name| name == property)
    }

    pub(super) fn knows_contact_property(&self, property: &str) -> bool {
        let custom = self.setup.unique.iter().chain(&self.setup.plain);
        CONTACT_DEFAULTS.contains(&property)
            || CONTACT_READ_ONLY.contains(&property)
            || custom.into_iter().any(|name| name == property)
    }

    pub(super) fn find(&self, property: &str, value: &str) -> Option<u64> {
        self.by_unique.get(&(property.to_owned(), value.to_owned())).copied()
    }

    /// The properties as HubSpot would keep them, or everything that is wrong with them.
    pub(super) fn contact_properties(&self, given: &Map<String, Value>) -> Result<Properties, Refusal> {
        properties(given, |name| {
            if CONTACT_READ_ONLY.contains(&name) {
                return Some((
                    "READ_ONLY_VALUE",
                    format!("\"{name}\" is a read only property; its value cannot be set."),
                ));
            }
            (!self.knows_contact_property(name)).then(|| unknown(name))
        })
    }

    /// Creates the contact, or changes the one that has the id. True where it is new.
    pub(super) fn put(&mut self, id: Option<u64>, properties: Properties, now_ms: u64) -> (u64, bool) {
        let new = id.is_none();
        let id = id.unwrap_or_else(|| self.take_id());
        let contact = self.contacts.entry(id).or_insert_with(|| Contact {
            properties: Properties::new(),
            created_ms: now_ms,
            updated_ms: now_ms,
        });
        contact.updated_ms = now_ms;
        for (name, value) in properties {
            if let Some(old) = contact.properties.remove(&name) {
                self.by_unique.remove(&(name.clone(), old));
            }
            if value.is_empty() {
                continue; // an empty text clears a property
            }
            if name == "email" || self.setup.unique.contains(&name) {
                self.by_unique.insert((name.clone(), value.clone()), id);
            }
            contact.properties.insert(name, value);
        }
        (id, new)
    }

    pub(super) fn show(&self, id: u64) -> Value {
        self.contacts.get(&id).map(|contact| contact.show(id)).unwrap_or_default()
    }

    pub(super) fn add_note(&mut self, properties: Properties, contacts: Vec<u64>, now_ms: u64) -> Value {
        let note = Note { id: self.take_id(), properties, contacts, created_ms: now_ms };
        let shown = note.show(false);
        self.notes.push(note);
        shown
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }
}

pub(super) fn note_properties(given: &Map<String, Value>) -> Result<Properties, Refusal> {
    properties(given, |name| (!NOTE_PROPERTIES.contains(&name)).then(|| unknown(name)))
}

fn unknown(name: &str) -> (&'static str, String) {
    ("PROPERTY_DOESNT_EXIST", format!("Property \"{name}\" does not exist"))
}

fn properties(
    given: &Map<String, Value>,
    judge: impl Fn(&str) -> Option<(&'static str, String)>,
) -> Result<Properties, Refusal> {
    let (mut kept, mut problems) = (Properties::new(), Vec::new());
    for (name, value) in given {
        let Some(value) = text(name, value)? else { continue };
        match judge(name).or_else(|| wrong_value(name, &value)) {
            Some((code, message)) => problems.push(PropertyProblem { name: name.clone(), code, message }),
            None => {
                kept.insert(name.clone(), value);
            }
        }
    }
    if problems.is_empty() { Ok(kept) } else { Err(Refusal::properties(&problems)) }
}

/// Values are texts; numbers and booleans are taken as theirs, null says nothing.
fn text(name: &str, value: &Value) -> Result<Option<String>, Refusal> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if name == "email" => Ok(Some(text.trim().to_lowercase())),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(_) | Value::Bool(_) => Ok(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => {
            Err(Refusal::shape(&format!("Cannot deserialize value of type `java.lang.String`: {name}")))
        }
    }
}

fn wrong_value(name: &str, value: &str) -> Option<(&'static str, String)> {
    if value.chars().count() > HUBSPOT_PROPERTY_CHARS_MAX {
        return Some((
            "PROPERTY_TOO_LONG",
            format!("{name} is over {HUBSPOT_PROPERTY_CHARS_MAX} characters"),
        ));
    }
    let is_address = value.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'));
    (name == "email" && !value.is_empty() && !is_address)
        .then(|| ("INVALID_EMAIL", format!("Email address {value} is invalid")))
}

impl Contact {
    fn show(&self, id: u64) -> Value {
        let mut properties = json!(self.properties);
        properties["hs_object_id"] = id.to_string().into();
        properties["createdate"] = iso(self.created_ms).into();
        properties["lastmodifieddate"] = iso(self.updated_ms).into();
        json!({
            "id": id.to_string(),
            "properties": properties,
            "createdAt": iso(self.created_ms),
            "updatedAt": iso(self.updated_ms),
            "archived": false,
        })
    }
}

impl Note {
    /// The API's answer does not name the contacts; the list that the tests read does.
    fn show(&self, with_contacts: bool) -> Value {
        let mut note = json!({
            "id": self.id.to_string(),
            "properties": self.properties,
            "createdAt": iso(self.created_ms),
            "updatedAt": iso(self.created_ms),
            "archived": false,
        });
        if with_contacts {
            note["contacts"] = self.contacts.iter().map(u64::to_string).collect();
        }
        note
    }
}
