//! Read: the door. Sizes, slowness, methods and paths, before any signature is looked at.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Client, Event, Home, SECRET, now_s, sign};

const PATH: &str = "/webhooks/sendpilot";

#[tokio::test(flavor = "multi_thread")]
async fn a_body_at_the_cap_is_read_and_one_byte_more_is_413() {
    let home = Home::with_source_only();
    home.configure("  max_body: 8KiB\n", crate::support::SENDPILOT);
    let daemon = home.start().await;
    let client = daemon.client();
    let body = |bytes: usize| {
        let head = r#"{"eventId":"evt_cap","eventType":"message.received","fill":""#;
        format!("{head}{}\"}}", "x".repeat(bytes - head.len() - 2))
    };
    let at_the_cap = body(8 * 1024);
    let signature = sign(SECRET, now_s(), at_the_cap.as_bytes());
    let answer = client.post(PATH, &[("webhook-signature", &signature)], at_the_cap).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let over = body(8 * 1024 + 1);
    let signature = sign(SECRET, now_s(), over.as_bytes());
    let answer = client.post(PATH, &[("webhook-signature", &signature)], over).await.unwrap();
    assert_eq!(answer.status, 413, "{answer:?}");
    assert_eq!(home.json(&["events", "list"])["rows"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_other_methods_are_404_and_405() {
    let home = Home::with_source_only();
    let daemon = home.start().await;
    let client = daemon.client();
    let event = Event::new("evt_1", "message.received");
    let signature = event.signature();
    for path in ["/", "/webhooks", "/webhooks/sendpilot/", "/webhooks/SENDPILOT", "/webhooks/other"] {
        let answer =
            client.post(path, &[("webhook-signature", &signature)], event.body.clone()).await.unwrap();
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH"] {
        let request = http::Request::builder().method(method).uri(PATH).header("host", "localhost");
        let answer = client.request(request.body(Default::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.headers["allow"], "POST", "{method}");
    }
    let answer =
        client.post(&format!("{PATH}?team=a"), &[("webhook-signature", &signature)], event.body).await;
    assert_eq!(answer.unwrap().status, 200, "a query string is not part of the path");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_headers_and_slow_bodies_end_in_408_while_others_are_served() {
    let home = Home::with_source_only();
    home.configure("  header_timeout: 1s\n  body_timeout: 1s\n", crate::support::SENDPILOT);
    let daemon = home.start().await;
    let client = daemon.client();
    let slow_headers =
        half_a_request(&client, "POST /webhooks/sendpilot HTTP/1.1\r\nhost: localhost\r\nx-slow: ");
    let slow_body = half_a_request(
        &client,
        "POST /webhooks/sendpilot HTTP/1.1\r\nhost: localhost\r\nwebhook-signature: t=1,s=00\r\ncontent-length: 100\r\n\r\n{\"half\":",
    );
    let others = async {
        for n in 0..5 {
            let event = Event::new(&format!("evt_{n}"), "message.received");
            assert_eq!(client.send(&event).await.unwrap().status, 200);
        }
    };
    let (headers, body, ()) = tokio::join!(slow_headers, slow_body, others);
    assert!(headers.starts_with("HTTP/1.1 408 "), "slow headers were answered: {headers:?}");
    assert!(body.starts_with("HTTP/1.1 408 "), "a slow body was answered: {body:?}");
}

/// Sends part of a request and reads until the server has had enough.
async fn half_a_request(client: &Client, part: &str) -> String {
    let mut stream = client.raw().await;
    stream.write_all(part.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let started = Instant::now();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "no answer within {:?}", started.elapsed());
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_spoken_and_answers_hold_nothing_that_was_not_asked_for() {
    let home = Home::with_source_only();
    let daemon = home.start().await;
    let answer = daemon.client_h2().send(&Event::new("evt_h2", "message.received")).await.unwrap();
    assert_eq!((answer.status, answer.version), (200, http::Version::HTTP_2));
    let answer = daemon.client().send(&Event::new("evt_h1", "message.received")).await.unwrap();
    assert_eq!((answer.status, answer.version), (200, http::Version::HTTP_11));
    let refused = daemon.client().post(PATH, &[], "{}").await.unwrap();
    for answer in [answer, refused] {
        let known = ["content-type", "content-length", "date", "connection"];
        let unknown: Vec<_> = answer.headers.keys().filter(|name| !known.contains(&name.as_str())).collect();
        assert!(unknown.is_empty(), "{unknown:?} in {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_is_in_flight_and_sighup_is_ignored_with_a_word() {
    let home = Home::with_source_only();
    let mut daemon = home.start().await;
    daemon.signal(rustix::process::Signal::HUP);
    let client = daemon.client();
    crate::support::wait_for("a word about SIGHUP", async || {
        daemon.log().contains("SIGHUP is ignored").then_some(())
    })
    .await;
    assert_eq!(client.send(&Event::new("evt_1", "message.received")).await.unwrap().status, 200);
    let event = Event::new("evt_2", "message.received");
    let mut stream = client.raw().await;
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\nwebhook-signature: {}\r\ncontent-length: {}\r\n\r\n",
        event.signature(),
        event.body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    crate::support::wait_for("the request to be in flight", async || {
        let (_, metrics) = daemon.admin("/metrics").await;
        metrics
            .lines()
            .any(|l| l.starts_with("longshore_requests_in_flight") && l.ends_with(" 1"))
            .then_some(())
    })
    .await;
    daemon.signal(rustix::process::Signal::TERM);
    crate::support::wait_for("the stop to begin", async || daemon.log().contains("SIGTERM").then_some(()))
        .await;
    stream.write_all(event.body.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    assert!(daemon.wait().success(), "{}", daemon.log());
}
