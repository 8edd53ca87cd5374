//! Logging: `tracing` to stderr, pretty on a terminal and JSON otherwise. Data goes to stdout, so logs never do.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{Log, LogFormat};

/// # Panics
/// When called twice: there is one subscriber in a process.
pub fn init(log: &Log) {
    // Sled and wasmtime talk at info of things that mean nothing to an operator.
    let directives = format!("warn,longshore={}", log.level);
    let filter = match log.level.contains(['=', ',']) {
        true => EnvFilter::new(&log.level),
        false => EnvFilter::new(directives),
    };
    // A line for each verb that an event has passed, with its time: for whoever asks for that much.
    let asked_for_much = ["debug", "trace"].iter().any(|level| log.level.contains(level));
    let spans = if asked_for_much { FmtSpan::CLOSE } else { FmtSpan::NONE };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(spans)
        .with_target(false);
    let pretty = match log.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    match pretty {
        true => subscriber.with_ansi(std::io::stderr().is_terminal()).init(),
        false => subscriber.json().flatten_event(true).init(),
    }
}
