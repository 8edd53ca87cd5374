//! The load: fresh signed events over kept-open connections. Prints one JSON line.
//!
//! Two ways. Closed: each connection sends, waits for the answer, and sends again: the most that the server takes.
//! Open (`--rate`): events are meant to leave at fixed moments whatever the server does, and a wait counts from
//! the moment that was meant. A server that stalls is then charged for every event that should have come meanwhile.
//!
//! One thread and one epoll, requests laid out beforehand: the generator shares the processors with the servers
//! that it measures, and what it takes itself (`cpu_us`) is missing to both sides alike.

mod answer;
mod connection;
mod cpu;
mod pace;

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::quantile;
use bench::request::{Mix, Share};
use clap::Parser;
use rustix::event::epoll::{self, EventData, EventFlags};

use connection::{Connection, Progress};
use pace::{Pace, Rhythm};

#[derive(Parser)]
struct Args {
    /// host:port
    address: String,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Load before the clock starts; what is sent in it is answered, but not measured.
    #[arg(long, default_value_t = 0.0)]
    warm_up: f64,
    /// Exactly this many events, whatever the time.
    #[arg(long)]
    events: Option<u64>,
    /// Events a second; without it, as many as are answered.
    #[arg(long)]
    rate: Option<f64>,
    /// With `--rate`: events leave together, this many milliseconds apart. Waking up for each would cost more than
    /// sending it; where the waits count, that is worth it, and this stays 0.
    #[arg(long, default_value_t = 0)]
    tick: u32,
    #[arg(long, default_value_t = bench::BODY_BYTES)]
    body_bytes: usize,
    /// Speak TLS, and trust this certificate (PEM) only.
    #[arg(long)]
    tls: Option<PathBuf>,
    /// WEIGHT:PATH:TYPE; may be repeated. Without it, all go to SendPilot's path with one type.
    #[arg(long)]
    mix: Vec<Share>,
}

/// After the end: how long an answer may take before the figures are thrown away.
const PATIENCE: Duration = Duration::from_secs(60);
const WOKEN_MAX: usize = 256;

fn main() {
    let args = Args::parse();
    let tls = args.tls.as_deref().map(connection::tls_config);
    let shares = match args.mix.as_slice() {
        [] => vec![Share { weight: 1, path: bench::PATH.into(), event_type: bench::EVENT_TYPE.into() }],
        shares => shares.to_vec(),
    };
    let mix = Mix::new(&shares, bench::now_us(), args.body_bytes);
    let connections = (0..args.connections).map(|_| connect(&args.address, tls.clone())).collect();
    let mut load = Load::new(&args, mix, connections);
    let before = cpu::used();
    load.run();
    load.report(cpu::used().saturating_sub(before));
}

fn connect(address: &str, tls: Option<Arc<rustls::ClientConfig>>) -> Connection {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("TCP knows no-delay");
    Connection::new(stream, tls).expect("the server takes the connection")
}

struct Load {
    epoll: rustix::fd::OwnedFd,
    pace: Pace,
    mix: Mix,
    connections: Vec<Connection>,
    /// In the order in which they became free, so that all are used.
    idle: VecDeque<usize>,
    sent: u64,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    answered: u64,
    refused: u64,
    first_refusal: Option<u16>,
    /// Answered between the end of the warm-up and the end.
    measured: u64,
    waits_us: Vec<u32>,
    /// How much later than meant the events left: of the open way only.
    late_us: Vec<u32>,
    last: Option<Instant>,
}

/// The event data of the timer; every other one is a connection's place.
const TIMER: u64 = u64::MAX;

impl Load {
    fn new(args: &Args, mix: Mix, connections: Vec<Connection>) -> Load {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("the kernel has epoll");
        // Edge-triggered: a free connection says nothing, and a whole answer needs one read.
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        for (place, connection) in connections.iter().enumerate() {
            let data = EventData::new_u64(place as u64);
            epoll::add(&epoll, connection.socket(), data, flags).expect("a socket can be waited for");
        }
        let rhythm = args.rate.map(|rate| Rhythm::new(rate, Duration::from_millis(args.tick.into())));
        let pace = Pace::start(rhythm, args.events, args.warm_up, args.seconds);
        epoll::add(&epoll, pace.timer(), EventData::new_u64(TIMER), EventFlags::IN)
            .expect("a timer can be waited for");
        let idle = (0..connections.len()).collect();
        Load { epoll, pace, mix, connections, idle, sent: 0, tally: Tally::default() }
    }

    fn run(&mut self) {
        let mut woken = [MaybeUninit::uninit(); WOKEN_MAX];
        loop {
            self.send_what_is_due();
            if self.idle.len() == self.connections.len() && self.pace.is_over(self.sent, Instant::now()) {
                return;
            }
            // With no connection free, only an answer can let the next one go.
            let next = self.pace.meant_at(self.sent).filter(|_| !self.idle.is_empty());
            self.pace.arm(next);
            let (events, _) = match epoll::wait(&self.epoll, &mut woken, None) {
                Err(rustix::io::Errno::INTR) => continue,
                waited => waited.expect("epoll waits"),
            };
            for event in events.iter() {
                match event.data.u64() {
                    TIMER => self.pace.rang(PATIENCE),
                    place => self.go_on(usize::try_from(place).expect("it is a place in a Vec")),
                }
            }
        }
    }

    fn send_what_is_due(&mut self) {
        let at_s = bench::now_s();
        while let Some(&place) = self.idle.front() {
            let now = Instant::now();
            if self.pace.is_over(self.sent, now) {
                return;
            }
            let meant = match self.pace.meant_at(self.sent) {
                Some(meant) if meant > now => return,
                Some(meant) => {
                    self.tally.late_us.push(quantile::micros(now - meant));
                    meant
                }
                None => now,
            };
            self.idle.pop_front();
            let template = self.mix.template(self.sent);
            self.connections[place].send(meant, |out| template.write(self.sent, at_s, out));
            self.sent += 1;
        }
    }

    fn go_on(&mut self, place: usize) {
        let Progress::Answered { status, meant } = self.connections[place].go_on() else { return };
        self.idle.push_back(place);
        let now = Instant::now();
        if (200..300).contains(&status) {
            self.tally.answered += 1;
            if self.pace.is_measured(now) {
                self.tally.measured += 1;
                self.tally.waits_us.push(quantile::micros(now - meant));
                self.tally.last = Some(now);
            }
        } else {
            self.tally.refused += 1;
            self.tally.first_refusal.get_or_insert(status);
        }
    }

    fn report(mut self, cpu: Duration) {
        let tally = &mut self.tally;
        let seconds = self.pace.measured_for(tally.last).as_secs_f64();
        let mut told = quantile::told(&mut tally.waits_us);
        let requests = (tally.answered + tally.refused).max(1);
        let more = serde_json::json!({
            "answered": tally.answered,
            "refused": tally.refused,
            "first_refusal": tally.first_refusal,
            "measured": tally.measured,
            "seconds": seconds,
            "per_second": tally.measured as f64 / seconds,
            "late": self.pace.is_open().then(|| quantile::told(&mut tally.late_us)),
            "cpu_us": cpu.as_secs_f64() * 1e6 / requests as f64,
        });
        if let (Some(told), serde_json::Value::Object(more)) = (told.as_object_mut(), more) {
            told.extend(more);
        }
        println!("{told}");
    }
}
