//! Replay: kept inputs, without coverage counters, as what ships is compiled. Prints a line of JSON for each file.

use std::time::Duration;

use longshore_fuzz::case::Case;
use longshore_fuzz::check::check;

const BODY_BYTES_MAX: usize = 1 << 20;
const ROUNDS: usize = 21;

fn main() {
    for file in std::env::args_os().skip(1) {
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(why) => {
                eprintln!("replay: {}: {why}", file.display());
                std::process::exit(1);
            }
        };
        let case = Case::read(&bytes, BODY_BYTES_MAX);
        let end = check(&case, longshore_fuzz::cpu).end;
        let mut times: Vec<Duration> = (0..ROUNDS).map(|_| check(&case, longshore_fuzz::cpu).took).collect();
        times.sort();
        let us = |took: Duration| took.as_secs_f64() * 1e6;
        let line = serde_json::json!({
            "file": file.display().to_string(), "end": format!("{end:?}"), "median_us": us(times[ROUNDS / 2]),
            "least_us": us(times[0]), "body_bytes": case.request.body.len(), "secrets": case.secrets.len(),
            "preset": case.preset, "scheme": case.scheme, "event": case.event,
        });
        println!("{line}");
    }
}
