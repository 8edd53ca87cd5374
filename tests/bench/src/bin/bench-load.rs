//! The load: fresh signed events over kept-open connections, each waiting for its answer. Prints one JSON line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[derive(Parser)]
struct Args {
    /// host:port of a server without TLS.
    address: String,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Stop after this many events, whatever the time.
    #[arg(long)]
    events: Option<u64>,
}

#[derive(Default)]
struct Tally {
    next: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
    over: AtomicBool,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let run = bench::now_s();
    let tally = Arc::new(Tally::default());
    let started = Instant::now();
    let mut connections = Vec::new();
    for _ in 0..args.connections {
        let stream = TcpStream::connect(&args.address).await.expect("the server listens");
        stream.set_nodelay(true).expect("TCP knows no-delay");
        connections.push(tokio::spawn(drive(
            stream,
            run,
            Arc::clone(&tally),
            args.events.unwrap_or(u64::MAX),
        )));
    }
    if args.events.is_none() {
        tokio::time::sleep(Duration::from_secs_f64(args.seconds)).await;
        tally.over.store(true, Ordering::Relaxed);
    }
    let mut waits = Vec::new();
    for connection in connections {
        waits.extend(connection.await.expect("a connection does not panic"));
    }
    report(&tally, started.elapsed(), waits);
}

/// One connection: send, wait for the answer, again. Returns each wait in microseconds.
async fn drive(mut stream: TcpStream, run: u64, tally: Arc<Tally>, events: u64) -> Vec<u32> {
    let mac = bench::mac();
    let mut waits = Vec::new();
    let mut buffer = vec![0; 4096];
    while !tally.over.load(Ordering::Relaxed) {
        let number = tally.next.fetch_add(1, Ordering::Relaxed);
        if number >= events {
            break;
        }
        let body = bench::body(run, number);
        let signature = bench::signature(&mac, bench::now_s(), body.as_bytes());
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\nwebhook-signature: {signature}\r\ncontent-length: {}\r\n\r\n{body}",
            bench::PATH,
            body.len()
        );
        let sent = Instant::now();
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        let status = answer(&mut stream, &mut buffer).await;
        waits.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        let counter = if status == 200 { &tally.answered } else { &tally.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    waits
}

/// Reads one response: its head, then as many bytes as it announces.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> u16 {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.expect("the server answers");
        assert!(read > 0, "the server closed a kept-open connection");
        filled += read;
        let Some(end) = buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end]).expect("a head is text").to_ascii_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length:")).map_or("0", str::trim);
        if filled >= end + 4 + length.parse::<usize>().expect("a length is a number") {
            return head[9..12].parse().expect("a status is a number");
        }
    }
}

fn report(tally: &Tally, took: Duration, mut waits: Vec<u32>) {
    waits.sort_unstable();
    let percentile =
        |p: usize| waits.get((waits.len() * p / 100).min(waits.len().saturating_sub(1))).copied();
    let answered = tally.answered.load(Ordering::Relaxed);
    let line = serde_json::json!({
        "answered": answered,
        "refused": tally.refused.load(Ordering::Relaxed),
        "seconds": took.as_secs_f64(),
        "per_second": answered as f64 / took.as_secs_f64(),
        "p50_us": percentile(50),
        "p99_us": percentile(99),
    });
    println!("{line}");
}
