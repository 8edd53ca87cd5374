//! HubSpot's API: a POST with the token, and what its refusals mean for the delivery.
//!
//! Statuses and their meaning: <https://developers.hubspot.com/docs/api-reference/error-handling>, limits:
//! <https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines> (2026-11). All fields of an
//! error are optional there, and so they are here.

use std::fmt;
use std::time::Duration;

use longshore_sdk::http::Response;
use longshore_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// Two deliveries for a new lead at once both try to make its contact, and one of them gets a conflict that the
/// next attempt resolves. One that outlasts this many attempts (about ten minutes by default) is about a value
/// that another contact holds.
pub(crate) const CONFLICT_ATTEMPTS_MAX: u32 = 8;

/// A lock lasts for two seconds.
const LOCKED_WAIT: Duration = Duration::from_secs(2);

/// The rolling limit counts ten seconds.
const BURST_WAIT: Duration = Duration::from_secs(10);

/// The daily limit ends at midnight of the account's time zone, which is not known here.
const DAILY_WAIT: Duration = Duration::from_secs(3600);

pub(crate) struct HubSpot {
    base_url: String,
    attempt: u32,
}

impl HubSpot {
    pub(crate) fn of(event: &Event) -> Result<HubSpot, settings::Error> {
        let base_url = settings::require("base_url")?.trim_end_matches('/').to_owned();
        Ok(HubSpot { base_url, attempt: event.attempt })
    }

    /// The answer, if it is a 2xx.
    pub(crate) fn post<T: Serialize>(&self, path: &str, body: &T, key: &str) -> Result<Response, Failure> {
        let answer =
            http::post(format!("{}{path}", self.base_url)).bearer("token").json(body).key(key).send()?;
        if answer.is_success() { Ok(answer) } else { Err(self.refusal(&answer)) }
    }

    fn refusal(&self, answer: &Response) -> Failure {
        let problem: Problem = answer.json().unwrap_or_default();
        let says = format!("HubSpot answered {}{problem}", answer.status());
        let wait = answer.retry_after();
        match answer.status() {
            401 => Failure::reject(format!("{says}; put a valid token into the secret `token`")),
            403 => Failure::reject(format!(
                "{says}; give the private app the scopes crm.objects.contacts.read and crm.objects.contacts.write"
            )),
            409 => self.conflict(says, wait),
            423 => Failure::retry(says).after(wait.max(Some(LOCKED_WAIT))),
            429 => Failure::retry(says).after(wait.or_else(|| problem.limit_wait())),
            // The account moves between data centres; HubSpot says for how long.
            477 => Failure::retry(says).after(wait),
            _ if problem.is_empty() => answer.failure(""),
            status if http::is_transient(status) => Failure::retry(says).after(wait),
            _ => Failure::reject(says),
        }
    }

    /// A 2xx whose content is an error.
    pub(crate) fn failure(&self, answer: &Response, problem: &Problem) -> Failure {
        let says = format!("HubSpot answered {}{problem}", answer.status());
        match problem.category.as_str() {
            "CONFLICT" | "OBJECT_ALREADY_EXISTS" => self.conflict(says, None),
            "RATE_LIMITS" | "RATE_LIMIT" => {
                Failure::retry(says).after(answer.retry_after().or_else(|| problem.limit_wait()))
            }
            "INTERNAL_ERROR" | "SERVICE_UNAVAILABLE" | "TIMEOUT" => {
                Failure::retry(says).after(answer.retry_after())
            }
            // It says no, and not why.
            "" if problem.is_empty() => Failure::retry(says).after(answer.retry_after()),
            _ => Failure::reject(says),
        }
    }

    fn conflict(&self, says: String, wait: Option<Duration>) -> Failure {
        if self.attempt < CONFLICT_ATTEMPTS_MAX {
            return Failure::retry(says).after(wait);
        }
        Failure::reject(format!(
            "{says}; after {} attempts: another contact holds a value that must be unique; merge the two, or take \
             the property out of `fields`",
            self.attempt
        ))
    }
}

/// An error of HubSpot, as an answer or inside one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Problem {
    category: String,
    message: String,
    correlation_id: String,
    policy_name: String,
    errors: Vec<Detail>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    message: String,
}

impl Problem {
    fn is_empty(&self) -> bool {
        self.category.is_empty() && self.message.is_empty()
    }

    fn limit_wait(&self) -> Option<Duration> {
        match self.policy_name.as_str() {
            "" => None,
            "DAILY" => Some(DAILY_WAIT),
            _ => Some(BURST_WAIT),
        }
    }
}

/// ` CONFLICT: Contact already exists (policy DAILY, correlation 12)`; nothing of a problem that says nothing.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.category.is_empty() {
            write!(f, " {}", self.category)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        for detail in self.errors.iter().filter(|detail| detail.message != self.message) {
            write!(f, "; {}", detail.message)?;
        }
        let more: Vec<String> = [("policy", &self.policy_name), ("correlation", &self.correlation_id)]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        if more.is_empty() { Ok(()) } else { write!(f, " ({})", more.join(", ")) }
    }
}
