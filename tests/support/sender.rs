//! Sender: SendPilot as its documentation describes it, signing with code of its own, not the daemon's.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The secret of every test that does not bring its own.
pub const SECRET: &str = "sp_test_secret_0123456789abcdef";

pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// `t=<at>,s=<hex>` over `<at>.<body>`.
pub fn sign(secret: &str, at: u64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{at}.").as_bytes());
    mac.update(body);
    format!("t={at},s={}", hex::encode(mac.finalize().into_bytes()))
}

/// One SendPilot event with its body as text.
#[derive(Clone)]
pub struct Event {
    pub id: String,
    pub body: String,
}

impl Event {
    pub fn new(id: &str, event_type: &str) -> Event {
        let data = serde_json::json!({
            "leadId": format!("lead-of-{id}"), "campaignId": "camp_1", "senderId": "snd_1",
            "linkedinUrl": "https://www.linkedin.com/in/ada", "reply": "Yes & gladly, <b>Tuesday</b>?",
        });
        let body = serde_json::json!({
            "eventId": id, "eventType": event_type, "timestamp": "2026-11-24T08:00:00Z",
            "workspaceId": "ws_1", "data": data,
        });
        Event { id: id.to_owned(), body: body.to_string() }
    }

    pub fn signature(&self) -> String {
        self.signature_at(now_s())
    }

    pub fn signature_at(&self, at: u64) -> String {
        sign(SECRET, at, self.body.as_bytes())
    }
}
