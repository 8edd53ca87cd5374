//! Stand-ins for the two services that the shipped plugins call: Slack and HubSpot.
//!
//! A stand-in that says yes to everything proves nothing, so these refuse what the documentation of the real
//! services says is refused, in the words that the real ones use, and keep every request with the answer it
//! got. The demo starts them as a program; tests start them in-process:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use stand_ins::{Fault, Slack};
//!
//! let slack = Slack::start().await;
//! slack.fail_next(Fault::status(429).header("retry-after", "1").times(2));
//! assert!(slack.webhook_url().starts_with(slack.url()));
//! assert!(slack.received().is_empty());
//! # }
//! ```
//!
//! Over HTTP each of them also has `GET /received` (a JSON array), `DELETE /received` and `POST /faults`.
//!
//! Not here: rate limits of their own (set a fault), form-encoded bodies, reading back what was written. Where
//! the documentation is silent and a body of the real service was seen instead, the line says so.

mod desk;
mod exchange;
mod hubspot;
mod limits;
mod random;
mod slack;
mod time;

pub use desk::{Fault, Received};
pub use hubspot::{HubSpot, PortalSetup};
pub use slack::{Slack, SlackSetup};
