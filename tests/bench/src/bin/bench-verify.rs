//! The cost of verifying: a SendPilot request beside a bare HMAC of the same bytes, in turns; and requests that are made
//! to be slow. Prints JSON.
//!
//! All times are processor time of this thread: nothing here waits, and what others do on the machine is not in it.

use std::hint::black_box;

use bench::nasty;
use clap::Parser;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue};
use longshore::verify::{Key, Request, Scheme, preset};
use longshore::words::secret::Secret;
use longshore::words::time::Millis;
use serde_json::{Value, json};
use sha2::Sha256;

#[derive(Parser)]
struct Args {
    /// Both sides in turns; the median of the rounds' ratios counts.
    #[arg(long, default_value_t = 301)]
    rounds: usize,
    /// Of each side in a round. A round is short, so that what disturbs one side of it disturbs the other.
    #[arg(long, default_value_t = 1000)]
    calls: usize,
    /// Of each nasty request.
    #[arg(long, default_value_t = 51)]
    nasty: usize,
}

fn main() {
    let args = Args::parse();
    let result = json!({"cost": cost(args.rounds, args.calls), "nasty": nasty(args.nasty)});
    println!("{result}");
}

// === one request of 600 bytes ===

/// A request as it comes from the door, and what the source's start made.
struct Sendpilot {
    scheme: Scheme,
    keys: [Key; 1],
    headers: HeaderMap,
    body: Vec<u8>,
    at: String,
    now: Millis,
}

impl Sendpilot {
    fn new() -> Sendpilot {
        let preset = preset("sendpilot").expect("it ships");
        let scheme = Scheme::compile(&preset.scheme, &preset.event).expect("it compiles");
        let secret = Secret::new(bench::SECRET);
        let keys = [scheme.key(&secret, None).expect("it fits")];
        let (body, now) = (bench::request::sample_body().into_bytes(), Millis::from_seconds(bench::now_s()));
        let mut headers = HeaderMap::new();
        // What SendPilot's client and a proxy send beside the signature.
        for (name, value) in [
            ("host", "hooks.example.com"),
            ("user-agent", "SendPilot-Webhooks/1.0"),
            ("accept", "*/*"),
            ("accept-encoding", "gzip, deflate, br"),
            ("content-type", "application/json"),
            ("content-length", "600"),
            ("x-forwarded-for", "203.0.113.7"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let lines = scheme.sign(&secret, "", "", &body, "", now).expect("it can sign");
        let [(name, value)] = &lines.headers[..] else { panic!("one header is signed") };
        assert_eq!(name, "Webhook-Signature");
        headers.insert("webhook-signature", value.parse().expect("a header's value"));
        Sendpilot { scheme, keys, headers, body, at: (now.0 / 1000).to_string(), now }
    }

    /// Everything from headers and bytes to verdict.
    fn verify(&self) {
        let request = self.request();
        let verdict = self.scheme.verify(black_box(request), black_box(&self.keys), self.now);
        assert!(black_box(verdict).is_ok());
    }

    fn identify(&self) {
        let verified = self.scheme.verify(self.request(), &self.keys, self.now).expect("it is genuine");
        black_box(self.scheme.identify(black_box(&verified), black_box(self.request())));
    }

    /// The same bytes, with the key set up from the secret each time.
    fn bare(&self) {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(black_box(bench::SECRET.as_bytes())).expect("any length");
        mac.update(black_box(self.at.as_bytes()));
        mac.update(b".");
        mac.update(black_box(&self.body));
        black_box(mac.finalize().into_bytes());
    }

    fn request(&self) -> Request<'_> {
        Request { method: "POST", url: "", query: None, headers: &self.headers, body: &self.body }
    }
}

fn cost(rounds: usize, calls: usize) -> Value {
    let request = Sendpilot::new();
    let sides: [&dyn Fn(); 3] = [&|| request.verify(), &|| request.bare(), &|| request.identify()];
    // The first round warms up and is thrown away.
    let mut times: Vec<[f64; 3]> = (0..=rounds).map(|_| sides.map(|side| per_call_ns(calls, side))).collect();
    times.remove(0);
    let of = |at: usize| median(times.iter().map(|round| round[at]).collect());
    let ratio = median(times.iter().map(|round| round[0] / round[1]).collect());
    json!({
        "body_bytes": request.body.len(), "rounds": rounds, "calls": calls,
        "verify_ns": of(0), "bare_ns": of(1), "verify_and_identify_ns": of(2), "ratio": ratio,
    })
}

fn per_call_ns(calls: usize, call: &dyn Fn()) -> f64 {
    let before = bench::cpu();
    for _ in 0..calls {
        call();
    }
    (bench::cpu() - before).as_secs_f64() * 1e9 / calls as f64
}

// === requests of 1 MiB ===

fn nasty(rounds: usize) -> Value {
    let all = nasty::all();
    let bare = vec![b'x'; nasty::BODY_BYTES];
    let mut mac = Vec::new();
    let mut rows: Vec<Value> = Vec::new();
    for nasty in &all {
        let mut times = Vec::new();
        for _ in 0..rounds {
            times
                .push(per_call_ns(1, &|| assert_eq!(nasty.receive(), nasty.genuine, "{}", nasty.name)) / 1e3);
            mac.push(per_call_ns(1, &|| bare_mac(&bare)) / 1e3);
        }
        rows.push(json!({
            "name": nasty.name, "body_bytes": nasty.body.len(), "secrets": nasty.live_secrets,
            "genuine": nasty.genuine, "median_us": median(times),
        }));
    }
    let us = |row: &Value| row["median_us"].as_f64().unwrap_or_default();
    rows.sort_by(|a, b| us(b).total_cmp(&us(a)));
    json!({"bare_us": median(mac), "rounds": rounds, "rows": rows})
}

fn bare_mac(body: &[u8]) {
    let mut mac = bench::mac();
    mac.update(black_box(body));
    black_box(mac.finalize().into_bytes());
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
