//! HubSpot's error body, and the refusals that are made of it.
//!
//! `status`, `message`, `correlationId` and `category` are documented, and so is that any of them may be
//! missing. The wording of the messages was seen in answers of the real API that others published.

use serde_json::{Value, json};

use crate::exchange::Answer;
use crate::random;

#[derive(Debug)]
pub(super) struct Refusal {
    status: u16,
    body: Value,
}

impl Refusal {
    pub(super) fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(400, "VALIDATION_ERROR", message)
    }

    fn new(status: u16, category: &'static str, message: impl Into<String>) -> Refusal {
        let body = json!({"status": "error", "message": message.into(), "category": category});
        Refusal { status, body }
    }

    pub(super) fn not_found() -> Refusal {
        Refusal::new(404, "OBJECT_NOT_FOUND", "resource not found")
    }

    pub(super) fn method_not_allowed() -> Refusal {
        Refusal::new(405, "METHOD_NOT_ALLOWED", "the method is not allowed on this resource")
    }

    pub(super) fn unsupported_media_type() -> Refusal {
        Refusal::new(415, "UNSUPPORTED_MEDIA_TYPE", "the request must be application/json")
    }

    pub(super) fn unauthenticated() -> Refusal {
        let message = "Authentication credentials not found. This API supports OAuth 2.0 authentication and you \
                       can find more details at https://developers.hubspot.com/docs/methods/auth/oauth-overview";
        Refusal::new(401, "INVALID_AUTHENTICATION", message)
    }

    pub(super) fn not_json(error: &serde_json::Error) -> Refusal {
        let (line, column) = (error.line(), error.column());
        Refusal::invalid(format!("Invalid input JSON on line {line}, column {column}: {error}"))
    }

    /// A body that is JSON of another shape.
    pub(super) fn shape(what: &str) -> Refusal {
        Refusal::invalid(format!("Invalid input JSON on line 1, column 1: {what}"))
    }

    pub(super) fn missing(kind: &str, attribute: &str) -> Refusal {
        Refusal::shape(&format!("Cannot build {kind}, some of required attributes are not set [{attribute}]"))
    }

    pub(super) fn conflict(existing: u64) -> Refusal {
        Refusal::new(409, "CONFLICT", format!("Contact already exists. Existing ID: {existing}"))
    }

    /// Every property that is not acceptable, at once, as the real API reports them.
    pub(super) fn properties(problems: &[PropertyProblem]) -> Refusal {
        let listed: Vec<Value> = problems
            .iter()
            .map(|p| json!({"isValid": false, "message": p.message, "error": p.code, "name": p.name}))
            .collect();
        let mut refusal =
            Refusal::invalid(format!("Property values were not valid: {}", Value::from(listed)));
        refusal.body["errors"] = problems
            .iter()
            .map(|p| json!({"message": p.message, "code": p.code, "context": {"propertyName": [p.name]}}))
            .collect();
        refusal
    }

    #[must_use]
    pub(super) fn with(mut self, name: &str, values: &[&str]) -> Refusal {
        self.body["context"][name] = json!(values);
        self
    }

    pub(super) fn answer(mut self) -> Answer {
        self.body["correlationId"] = correlation_id().into();
        Answer::json(self.status, &self.body)
    }

    /// As an entry of a batch's `errors`.
    pub(super) fn into_entry(self) -> Value {
        self.body
    }
}

pub(super) struct PropertyProblem {
    pub(super) name: String,
    pub(super) code: &'static str,
    pub(super) message: String,
}

fn correlation_id() -> String {
    let word = random::word(32).to_lowercase();
    [&word[..8], &word[8..12], &word[12..16], &word[16..20], &word[20..]].join("-")
}
