//! Hostile handlers: each ends within its budget, the history says whose fault it was, and nobody else waits.

use serde_json::Value;

use crate::carry::ended;
use crate::support::{Event, Home, SENDPILOT, plugin, wait_for};

/// A handler of the misbehaving component, with a subscription for the event type `<name>.go`.
fn handlers(rows: &[(&str, &str, &str)]) -> String {
    let component = plugin("test_handlers");
    let mut text = format!("{SENDPILOT}handlers:\n");
    for (name, behaviour, limits) in rows {
        text += &format!(
            "  {name}:\n    plugin: {}\n    settings: {{ do: {behaviour}, url: \"https://not-granted.example\" }}\n    limits: {limits}\n    retry: {{ first_delay: 100ms, max_delay: 100ms, give_up_after: 1s }}\n",
            component.display()
        );
    }
    text += "subscriptions:\n";
    for (name, _, _) in rows {
        text += &format!("  to-{name}: {{ source: sendpilot, events: [ {name}.go ], handler: {name} }}\n");
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn each_ends_within_its_budget_with_the_right_blame() {
    let short = "{ timeout: 500ms, memory: 16MiB }";
    let rows = [
        ("looping", "loop", "timeout", "plugin"),
        ("hungry", "eat-memory", "memory", "plugin"),
        ("trapping", "trap", "trap", "plugin"),
        ("trespassing", "call-ungranted", "denied", "operator"),
        ("sleeping", "sleep", "timeout", "plugin"),
    ];
    let configured: Vec<_> = rows.iter().map(|(name, behaviour, _, _)| (*name, *behaviour, short)).collect();
    let home = Home::new(&handlers(&configured));
    let daemon = home.start().await;
    for (name, ..) in rows {
        let event = Event::new(&format!("evt_{name}"), &format!("{name}.go"));
        assert_eq!(daemon.client().send(&event).await.unwrap().status, 200);
    }
    ended(&home, rows.len()).await;
    for (name, _, kind, blame) in rows {
        let listed = home.json(&["deliveries", "list", "--handler", name]);
        let shown = home.json(&["deliveries", "show", listed["rows"][0]["delivery"].as_str().unwrap()]);
        assert_eq!(shown["row"]["status"], "dead", "{name}: {shown:#}");
        let first = &shown["attempts"][0];
        assert_eq!(
            (first["kind"].as_str(), first["blame"].as_str()),
            (Some(kind), Some(blame)),
            "{name}: {shown:#}"
        );
        let took = first["took_ms"].as_u64().unwrap();
        assert!(took < 2_000, "{name} had 500 ms and took {took}: {shown:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_loops_hold_up_neither_an_answer_nor_another_lane() {
    let home = Home::new(&handlers(&[
        ("looping", "loop", "{ timeout: 120s, concurrency: 32 }"),
        ("working", "noop", "{ concurrency: 8 }"),
    ]));
    let daemon = home.start().await;
    let client = daemon.client();
    for n in 0..32 {
        client.send(&Event::new(&format!("loop_{n}"), "looping.go")).await.unwrap();
    }
    wait_for("32 loops to run", async || {
        let handlers = home.json(&["handlers", "list"]).to_string();
        handlers.contains(r#""running":32"#).then_some(())
    })
    .await;
    for n in 0..200 {
        let answer = client.send(&Event::new(&format!("work_{n}"), "working.go")).await.unwrap();
        assert_eq!(answer.status, 200, "probe {n}: {answer:?}");
    }
    wait_for("200 deliveries of the other lane", async || {
        let done =
            home.json(&["deliveries", "list", "--handler", "working", "--status", "done", "--limit", "500"]);
        (done["rows"].as_array().unwrap().len() == 200).then_some(())
    })
    .await;
    let looping: Value = home.json(&["handlers", "list"]);
    assert!(looping.to_string().contains(r#""running":32"#), "the loops still run: {looping}");
}
