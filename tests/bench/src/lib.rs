//! Bench: what the load generator and the bare server share, so that both sides speak of the same event.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The secret of the bench: it protects nothing.
pub const SECRET: &str = "bench-secret-of-no-value-0123456789";
/// Body of one event, in bytes: what a SendPilot `message.received` weighs.
pub const BODY_BYTES: usize = 600;
pub const PATH: &str = "/webhooks/sendpilot";

/// A MAC with its key set up; clone it for each request.
pub fn mac() -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("HMAC takes keys of every length")
}

/// A fresh event: its id is in its body, and nothing else differs.
pub fn body(run: u64, number: u64) -> String {
    let head = format!(
        r#"{{"eventId":"evt_{run}_{number}","eventType":"message.received","timestamp":"2026-11-24T08:00:00Z","workspaceId":"ws_bench","data":{{"leadId":"lead_{number}","campaignId":"c_1","linkedinUrl":"https://www.linkedin.com/in/lead-{number}","senderId":"s_1","reply":""#
    );
    let tail = r#""}}"#;
    let fill = BODY_BYTES.saturating_sub(head.len() + tail.len());
    format!("{head}{}{tail}", "x".repeat(fill))
}

/// `t=…,s=…` over `t.body`.
pub fn signature(mac: &Hmac<Sha256>, at: u64, body: &[u8]) -> String {
    let mut mac = mac.clone();
    mac.update(at.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("t={at},s={}", hex::encode(mac.finalize().into_bytes()))
}

pub fn now_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("the clock is past 1970").as_secs()
}
