//! Request: one signed event as bytes. Everything but the event's number, the time and the signature is laid out
//! before the clock starts, so that the generator takes little of the processors that it shares with the servers.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

const NUMBER_DIGITS: usize = 12;
const TIME_DIGITS: usize = 10;
const SIGNATURE_DIGITS: usize = 64;

/// One kind of event: where it goes and what it looks like.
pub struct Template {
    bytes: Vec<u8>,
    body_at: usize,
    time_at: usize,
    signature_at: usize,
    /// Where the event's number stands: in its id, and in its lead where the body has room for one.
    numbers_at: Vec<usize>,
    mac: Hmac<Sha256>,
}

impl Template {
    /// `run` names this run: ids of two runs never meet. The body has `body_bytes`, or what its fields need.
    pub fn new(path: &str, event_type: &str, run: u64, body_bytes: usize) -> Template {
        let (body, numbers_in_body) = body(event_type, run, body_bytes);
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\nwebhook-signature: t=",
            body.len()
        );
        let time_at = head.len();
        let signature_at = time_at + TIME_DIGITS + ",s=".len();
        let body_at = signature_at + SIGNATURE_DIGITS + "\r\n\r\n".len();
        let bytes =
            format!("{head}{:0TIME_DIGITS$},s={:0SIGNATURE_DIGITS$}\r\n\r\n{body}", 0, 0).into_bytes();
        let numbers_at = numbers_in_body.into_iter().map(|at| body_at + at).collect();
        Template { bytes, body_at, time_at, signature_at, numbers_at, mac: crate::mac() }
    }

    pub fn body_bytes(&self) -> usize {
        self.bytes.len() - self.body_at
    }

    /// Writes the request of event `number`, signed at `at_s`, over what `out` held.
    pub fn write(&self, number: u64, at_s: u64, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.bytes);
        for at in &self.numbers_at {
            digits(number, &mut out[*at..at + NUMBER_DIGITS]);
        }
        digits(at_s, &mut out[self.time_at..self.time_at + TIME_DIGITS]);
        let mut mac = self.mac.clone();
        mac.update(&out[self.time_at..self.time_at + TIME_DIGITS]);
        mac.update(b".");
        mac.update(&out[self.body_at..]);
        let signature = &mut out[self.signature_at..self.signature_at + SIGNATURE_DIGITS];
        hex::encode_to_slice(mac.finalize().into_bytes(), signature).expect("SHA-256 has 64 hex digits");
    }
}

/// The body of a SendPilot event as the load generator sends it.
pub fn sample_body() -> String {
    body(crate::EVENT_TYPE, 0, crate::BODY_BYTES).0.replace('#', "0")
}

/// The body, and where in it the number goes. Small ones have fewer fields.
fn body(event_type: &str, run: u64, bytes: usize) -> (String, Vec<usize>) {
    let number = "#".repeat(NUMBER_DIGITS);
    let head = format!(r#"{{"eventId":"evt_{run}_{number}","eventType":"{event_type}","#);
    let rest = r#""timestamp":"2026-11-24T08:00:00Z","workspaceId":"ws_bench","data":{"#;
    let lead = format!(
        r#""leadId":"lead_{number}","campaignId":"c_1","linkedinUrl":"https://www.linkedin.com/in/lead-{number}","senderId":"s_1","#
    );
    let (reply, tail) = (r#""reply":""#, r#""}}"#);
    let small = head.len() + rest.len() + reply.len() + tail.len();
    let lead = if small + lead.len() <= bytes { lead.as_str() } else { "" };
    let fill = bytes.saturating_sub(small + lead.len());
    let body = format!("{head}{rest}{lead}{reply}{}{tail}", "x".repeat(fill));
    let numbers = body.match_indices(&number).map(|(at, _)| at).collect();
    (body, numbers)
}

fn digits(mut number: u64, into: &mut [u8]) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a digit is below ten");
        number /= 10;
    }
    assert_eq!(number, 0, "the number has more digits than there is room for");
}

/// A share of the load that has its own path and type: `90:/webhooks/sendpilot:message.received`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub weight: u64,
    pub path: String,
    pub event_type: String,
}

impl std::str::FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let parts: Vec<&str> = text.splitn(3, ':').collect();
        let [weight, path, event_type] = parts[..] else {
            return Err("a share is written WEIGHT:PATH:TYPE".to_owned());
        };
        let weight = match weight.parse() {
            Ok(0) | Err(_) => return Err(format!("`{weight}` is no whole number above 0")),
            Ok(weight) => weight,
        };
        Ok(Share { weight, path: path.to_owned(), event_type: event_type.to_owned() })
    }
}

/// Several templates by weight. Which one an event has follows from its number alone, and neighbours differ.
pub struct Mix {
    templates: Vec<(u64, Template)>,
    total: u64,
}

impl Mix {
    pub fn new(shares: &[Share], run: u64, body_bytes: usize) -> Mix {
        let mut total = 0;
        let template = |share: &Share| {
            total += share.weight;
            (total, Template::new(&share.path, &share.event_type, run, body_bytes))
        };
        let templates = shares.iter().map(template).collect();
        Mix { templates, total }
    }

    pub fn template(&self, number: u64) -> &Template {
        // The golden ratio scatters neighbours; with one template there is nothing to choose.
        let spot = (u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * u128::from(self.total)) >> 64;
        let found = self.templates.iter().find(|(below, _)| spot < u128::from(*below));
        &found.expect("a spot is below the total").1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(template: &Template, number: u64) -> String {
        let mut out = Vec::new();
        template.write(number, 1_764_000_000, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn bodies_have_their_size_and_are_json_with_their_number() {
        for bytes in [200, 600, 6 << 10, 200 << 10] {
            let template = Template::new("/p", "message.received", 1_764_000_000_000_000, bytes);
            let request = written(&template, 42);
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert_eq!((body.len(), template.body_bytes()), (bytes, bytes));
            assert!(head.contains(&format!("content-length: {bytes}\r\n")));
            let value: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(value["eventId"], "evt_1764000000000000_000000000042");
            assert_eq!(value["eventType"], "message.received");
        }
    }

    #[test]
    fn a_body_too_small_for_its_fields_takes_what_it_needs() {
        let template = Template::new("/p", "t", 1, 10);
        assert!(template.body_bytes() > 100);
        serde_json::from_str::<serde_json::Value>(written(&template, 1).split_once("\r\n\r\n").unwrap().1)
            .unwrap();
    }

    #[test]
    fn the_signature_is_over_time_and_body() {
        let request = written(&Template::new("/p", "t", 1, 600), 7);
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let (_, signature) = head.split_once("webhook-signature: t=1764000000,s=").unwrap();
        let mut mac = crate::mac();
        mac.update(b"1764000000.");
        mac.update(body.as_bytes());
        assert_eq!(signature, hex::encode(mac.finalize().into_bytes()));
    }

    #[test]
    fn a_mix_keeps_its_weights_and_scatters() {
        let shares: Vec<Share> =
            ["90:/a:x.y", "9:/b:x.z", "1:/c:x:with:colons"].iter().map(|s| s.parse().unwrap()).collect();
        assert_eq!(shares[2].event_type, "x:with:colons");
        let mix = Mix::new(&shares, 1, 200);
        let count = |path: &str| {
            let starts = |n: &u64| written(mix.template(*n), *n).starts_with(&format!("POST {path} "));
            (0..10_000).filter(starts).count()
        };
        assert!((8_950..9_050).contains(&count("/a")), "{}", count("/a"));
        assert!((90..110).contains(&count("/c")), "{}", count("/c"));
    }

    #[test]
    fn a_share_that_is_none_says_how_it_is_written() {
        assert!("90".parse::<Share>().unwrap_err().contains("WEIGHT:PATH:TYPE"));
        assert!("x:/a:b".parse::<Share>().unwrap_err().contains("`x`"));
    }
}
