//! Placeholder.
use longshore_sdk::prelude::*;

longshore_sdk::plugin! {
    events: ["message.*"],
    origins: ["https://hooks.slack.com"],
    settings: [text("template").help("x"), secret("webhook").required()],
    handle: handle,
}

fn handle(event: Event) -> Result<Outcome, Failure> {
    let body = event.value()?;
    http::post(Target::secret_url("webhook")).json(&body).key("notify").send()?.ok()?;
    done("posted")
}
