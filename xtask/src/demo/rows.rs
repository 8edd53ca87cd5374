//! What is sent, what should come of it, and what did: the table.

use std::process::Output;

use serde_json::Value;

/// One thing that the demo sends.
pub(super) struct Event {
    pub(super) name: &'static str,
    pub(super) event_type: &'static str,
    pub(super) id: &'static str,
    /// The payload, from the repository's root.
    pub(super) data: &'static str,
    /// Signed with a secret that the daemon does not have.
    pub(super) forged: bool,
}

const CONNECTION: &str = "examples/demo/connection.accepted.json";
const MESSAGE: &str = "examples/demo/message.received.json";

/// In the order in which they are sent.
pub(super) const EVENTS: &[Event] = &[
    Event {
        name: "connection.accepted",
        event_type: "connection.accepted",
        id: "evt_demo_connection",
        data: CONNECTION,
        forged: false,
    },
    Event {
        name: "message.received",
        event_type: "message.received",
        id: "evt_demo_message",
        data: MESSAGE,
        forged: false,
    },
    Event {
        name: "message.received, sent again",
        event_type: "message.received",
        id: "evt_demo_message",
        data: MESSAGE,
        forged: false,
    },
    Event {
        name: "message.received, forged",
        event_type: "message.received",
        id: "evt_demo_forged",
        data: MESSAGE,
        forged: true,
    },
];

/// Who the payloads are about: in a request to HubSpot the lead's id, in a message to Slack the profile.
const ADA: &str = "lead_demo_ada";
const GRACE: &str = "lead_demo_grace";
const GRACE_PROFILE: &str = "https://www.linkedin.com/in/grace-demo";
const GRACE_REPLY: &str = "Tuesday at ten would suit me.";

/// How the daemon answered.
pub(super) struct Sent {
    status: u64,
}

impl Sent {
    /// From what `longshore send --json` printed: `{"sent": [{"status": 200, …}]}`.
    pub(super) fn of(output: &Output) -> Option<Sent> {
        let printed: Value = serde_json::from_slice(&output.stdout).ok()?;
        printed["sent"][0]["status"].as_u64().map(|status| Sent { status })
    }

    pub(super) fn shown(&self) -> String {
        self.status.to_string()
    }
}

/// Everything that was asked after the events were sent.
pub(super) struct Facts {
    /// One for each of `EVENTS`.
    pub(super) sent: Vec<Sent>,
    /// `longshore deliveries list --json`
    pub(super) deliveries: Value,
    /// `longshore events list --json`
    pub(super) events: Value,
    /// `GET /received` of the stand-ins.
    pub(super) slack: Vec<Value>,
    pub(super) hubspot: Vec<Value>,
}

pub(super) struct Row {
    event: &'static str,
    what: &'static str,
    should: &'static str,
    did: String,
}

impl Row {
    pub(super) fn is_well(&self) -> bool {
        self.should == self.did
    }
}

/// One row for each thing that should have come of an event, and for each that should not.
pub(super) fn judge(facts: &Facts) -> Vec<Row> {
    let [connection, message, again, forged] = EVENTS else { unreachable!("four events are sent") };
    let row = |event: &Event, what, should, did| Row { event: event.name, what, should, did };
    let calls = Row {
        event: "all of them",
        what: "calls",
        should: "Slack 1, HubSpot 3, none refused",
        did: facts.calls(),
    };
    vec![
        row(connection, "answer", "200", facts.answer(0)),
        row(connection, "crm-sync", "done: 1 contact", facts.crm_sync(connection.id, ADA, None)),
        row(message, "answer", "200", facts.answer(1)),
        row(
            message,
            "crm-sync",
            "done: 1 contact, 1 note",
            facts.crm_sync(message.id, GRACE, Some(GRACE_REPLY)),
        ),
        row(message, "slack-notify", "done: 1 message", facts.slack_notify(message.id)),
        row(again, "answer", "200", facts.answer(2)),
        row(again, "handled again", "no: 1 event, 2 deliveries, 1 redelivery", facts.handled_again(again.id)),
        row(forged, "answer", "401", facts.answer(3)),
        row(forged, "stored", "no: 0 events, 0 deliveries", facts.stored(forged.id)),
        calls,
    ]
}

impl Facts {
    fn answer(&self, number: usize) -> String {
        self.sent.get(number).map_or("none".to_owned(), Sent::shown)
    }

    fn crm_sync(&self, id: &str, lead: &str, reply: Option<&str>) -> String {
        let contacts = count(&self.hubspot, "/crm/v3/objects/contacts/batch/upsert", lead);
        let status = self.status(id, "crm-sync");
        match reply {
            None => format!("{status}: {}", plural(contacts, "contact")),
            Some(reply) => {
                let notes = count(&self.hubspot, "/crm/v3/objects/notes", reply);
                format!("{status}: {}, {}", plural(contacts, "contact"), plural(notes, "note"))
            }
        }
    }

    fn slack_notify(&self, id: &str) -> String {
        let messages = count(&self.slack, "/services/", GRACE_PROFILE);
        format!("{}: {}", self.status(id, "slack-notify"), plural(messages, "message"))
    }

    fn handled_again(&self, id: &str) -> String {
        let events = rows(&self.events, "id", id);
        let redeliveries: u64 = events.iter().filter_map(|event| event["redeliveries"].as_u64()).sum();
        let deliveries = rows(&self.deliveries, "event_id", id).len();
        let redeliveries = match redeliveries {
            1 => "1 redelivery".to_owned(),
            n => format!("{n} redeliveries"),
        };
        format!("{}, {redeliveries}", stored(events.len(), deliveries, events.len() < 2 && deliveries < 3))
    }

    fn stored(&self, id: &str) -> String {
        let (events, deliveries) = (rows(&self.events, "id", id), rows(&self.deliveries, "event_id", id));
        stored(events.len(), deliveries.len(), events.is_empty())
    }

    fn calls(&self) -> String {
        let refused = self.slack.iter().chain(&self.hubspot).filter(|call| !was_accepted(call)).count();
        let refused = if refused == 0 { "none".to_owned() } else { refused.to_string() };
        format!("Slack {}, HubSpot {}, {refused} refused", self.slack.len(), self.hubspot.len())
    }

    /// The status of an event's delivery to a handler; with more than one of them, all.
    fn status(&self, id: &str, handler: &str) -> String {
        let deliveries = rows(&self.deliveries, "event_id", id);
        let of_handler = deliveries.iter().filter(|row| row["handler"] == handler);
        let statuses: Vec<&str> = of_handler.map(|row| row["status"].as_str().unwrap_or("?")).collect();
        if statuses.is_empty() { "no delivery".to_owned() } else { statuses.join(" and ") }
    }
}

fn stored(events: usize, deliveries: usize, no: bool) -> String {
    let deliveries =
        if deliveries == 1 { "1 delivery".to_owned() } else { format!("{deliveries} deliveries") };
    format!("{}: {}, {deliveries}", if no { "no" } else { "yes" }, plural(events, "event"))
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The rows of a listing with this value in this field.
fn rows<'a>(page: &'a Value, field: &str, value: &str) -> Vec<&'a Value> {
    let all = page["rows"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    all.iter().filter(|row| row[field] == value).collect()
}

/// Accepted calls to a path of which the body says `text`.
fn count(calls: &[Value], path: &str, text: &str) -> usize {
    let to_path = |call: &&Value| call["path"].as_str().is_some_and(|of| of.starts_with(path));
    let says = |call: &&Value| call["body"].as_str().is_some_and(|body| body.contains(text));
    calls.iter().filter(to_path).filter(|call| was_accepted(call)).filter(says).count()
}

fn was_accepted(call: &Value) -> bool {
    call["status"].as_u64().is_some_and(|status| (200..300).contains(&status))
}

/// How long it took, by the daemon's own records: the slowest answer, and the slowest delivery.
pub(super) fn figures(facts: &Facts) -> String {
    let all = |page: &Value| page["rows"].as_array().cloned().unwrap_or_default();
    let answered = all(&facts.events).iter().filter_map(|event| event["answer_us"].as_u64()).max();
    let delivered = all(&facts.deliveries)
        .iter()
        .filter_map(|row| row["ended_at"].as_u64()?.checked_sub(row["accepted_at"].as_u64()?))
        .max();
    match (answered, delivered) {
        (Some(us), Some(ms)) => format!(
            "slowest durable answer {}.{} ms, slowest delivery from accepted to done {ms} ms",
            us / 1_000,
            us % 1_000 / 100
        ),
        _ => "nothing was accepted and delivered".to_owned(),
    }
}

/// The rows in columns, with a word at the end of each.
pub(super) fn table(rows: &[Row]) -> String {
    let heads = ["EVENT", "WHAT", "SHOULD", "DID", ""];
    let cells = rows.iter().map(|row| {
        [row.event, row.what, row.should, row.did.as_str(), if row.is_well() { "ok" } else { "DIFFERS" }]
    });
    let lines: Vec<[&str; 5]> = [heads].into_iter().chain(cells).collect();
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut table = String::new();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        table.push_str(cells.join("  ").trim_end());
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What everybody says after a demo in which all went well.
    fn good() -> Facts {
        let delivery = |id: &str, handler: &str| json!({"event_id": id, "handler": handler, "status": "done", "accepted_at": 1_000, "ended_at": 1_042});
        let call = |path: &str, body: &str| json!({"path": path, "body": body, "status": 201});
        Facts {
            sent: [200, 200, 200, 401].map(|status| Sent { status }).into(),
            deliveries: json!({"rows": [
                delivery("evt_demo_message", "slack-notify"),
                delivery("evt_demo_message", "crm-sync"),
                delivery("evt_demo_connection", "crm-sync"),
            ]}),
            events: json!({"rows": [
                {"id": "evt_demo_message", "redeliveries": 1, "answer_us": 1_234},
                {"id": "evt_demo_connection", "redeliveries": 0, "answer_us": 1_250},
            ]}),
            slack: vec![call("/services/T/B/x", &format!("{GRACE_PROFILE} {GRACE_REPLY}"))],
            hubspot: vec![
                call("/crm/v3/objects/contacts/batch/upsert", ADA),
                call("/crm/v3/objects/contacts/batch/upsert", GRACE),
                call("/crm/v3/objects/notes", GRACE_REPLY),
            ],
        }
    }

    /// The rows that differ, as `event / what: did`.
    fn differing(facts: &Facts) -> Vec<String> {
        let differing = judge(facts).into_iter().filter(|row| !row.is_well());
        differing.map(|row| format!("{} / {}: {}", row.event, row.what, row.did)).collect()
    }

    #[test]
    fn a_good_demo_has_no_row_that_differs() {
        let facts = good();
        assert_eq!(differing(&facts), [""; 0]);
        let said = "slowest durable answer 1.2 ms, slowest delivery from accepted to done 42 ms";
        assert_eq!(figures(&facts), said);
    }

    #[test]
    fn a_dead_delivery_and_a_refused_call_are_seen() {
        let mut facts = good();
        facts.deliveries["rows"][0]["status"] = "dead".into();
        facts.slack[0]["status"] = 404.into();
        let expected = [
            "message.received / slack-notify: dead: 0 messages",
            "all of them / calls: Slack 1, HubSpot 3, 1 refused",
        ];
        assert_eq!(differing(&facts), expected);
    }

    #[test]
    fn a_call_made_twice_is_seen() {
        let mut facts = good();
        let again = facts.slack[0].clone();
        facts.slack.push(again);
        let expected = [
            "message.received / slack-notify: done: 2 messages",
            "all of them / calls: Slack 2, HubSpot 3, none refused",
        ];
        assert_eq!(differing(&facts), expected);
    }

    #[test]
    fn a_forged_event_that_was_believed_is_seen() {
        let mut facts = good();
        facts.sent[3].status = 200;
        let forged = json!({"id": "evt_demo_forged", "redeliveries": 0, "answer_us": 900});
        facts.events["rows"].as_array_mut().unwrap().push(forged);
        let expected = [
            "message.received, forged / answer: 200",
            "message.received, forged / stored: yes: 1 event, 0 deliveries",
        ];
        assert_eq!(differing(&facts), expected);
    }

    #[test]
    fn a_duplicate_that_was_handled_is_seen() {
        let mut facts = good();
        let delivery = facts.deliveries["rows"][0].clone();
        facts.deliveries["rows"].as_array_mut().unwrap().push(delivery);
        let expected = [
            "message.received / slack-notify: done and done: 1 message",
            "message.received, sent again / handled again: yes: 1 event, 3 deliveries, 1 redelivery",
        ];
        assert_eq!(differing(&facts), expected);
    }

    #[test]
    fn with_a_wrong_secret_only_the_forged_event_does_as_it_should() {
        let nothing = Facts {
            sent: [401, 401, 401, 401].map(|status| Sent { status }).into(),
            deliveries: json!({"rows": []}),
            events: json!({"rows": []}),
            slack: vec![],
            hubspot: vec![],
        };
        assert_eq!(differing(&nothing).len(), 8);
        assert_eq!(figures(&nothing), "nothing was accepted and delivered");
    }

    #[test]
    fn the_table_is_in_columns() {
        let rows = [
            Row { event: "one", what: "answer", should: "200", did: "200".into() },
            Row { event: "another", what: "stored", should: "no", did: "yes".into() },
        ];
        let expected = "EVENT    WHAT    SHOULD  DID\n\
                        one      answer  200     200  ok\n\
                        another  stored  no      yes  DIFFERS\n";
        assert_eq!(table(&rows), expected);
    }
}
