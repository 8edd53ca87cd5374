//! Senders: the provider. Many connections, each waiting for its answer; copies on purpose, early and late.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::book::{Book, Wanted, id};
use super::dice::Dice;
use super::wire;

pub(super) const PATH: &str = "/webhooks/sendpilot";
/// It protects nothing.
pub(super) const SECRET: &str = "torture-secret-of-no-value-0123456789";
const FORGED: &str = "another-secret-that-the-daemon-lacks";
const CONNECTIONS: usize = 24;
/// Events that wait for their receivers, before the senders pause: handlers are slower than the door.
const OWED_MAX: usize = 600;
const PAUSE: Duration = Duration::from_millis(3);
/// The daemon answers within ten seconds whatever happens to it.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Senders {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Senders {
    pub(super) fn start(address: SocketAddr, book: &Arc<Mutex<Book>>, dice: &mut Dice) -> Senders {
        let over = Arc::new(AtomicBool::new(false));
        let sender = |_| {
            let (book, dice, over) = (Arc::clone(book), dice.split(), Arc::clone(&over));
            thread::spawn(move || Sender { address, book, dice }.run(&over))
        };
        let threads = (0..CONNECTIONS).map(sender).collect();
        Senders { over, threads }
    }

    /// Every request has been answered, or its connection has ended.
    pub(super) fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            if thread.join().is_err() {
                eprintln!("xtask: a sender panicked");
            }
        }
    }
}

/// What is sent next.
enum Next {
    Event(usize),
    Forged,
    Nothing,
}

struct Sender {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    dice: Dice,
}

impl Sender {
    /// Until it is over, or the daemon has gone.
    fn run(mut self, over: &AtomicBool) {
        let Ok(mut stream) = connect(self.address) else { return };
        while !over.load(Ordering::Relaxed) {
            let next = self.next();
            let answered = match next {
                Next::Nothing => {
                    thread::sleep(PAUSE);
                    continue;
                }
                Next::Event(number) => self.send(&mut stream, number),
                Next::Forged => self.forge(&mut stream),
            };
            if !answered {
                return;
            }
        }
    }

    fn next(&mut self) -> Next {
        let mut book = lock(&self.book);
        let throw = self.dice.between(0, 100);
        let in_flight = book.in_flight();
        let chosen = match throw {
            0..12 if !in_flight.is_empty() => Some(in_flight[self.dice.between(0, in_flight.len())]),
            12..20 if book.len() > 0 => Some(self.dice.between(0, book.len())),
            20..23 => return Next::Forged,
            _ => book.take_unanswered(),
        };
        let number = match chosen {
            Some(number) => number,
            None if book.owed() > OWED_MAX => return Next::Nothing,
            None => {
                let wanted = if throw > 90 { Wanted::ByNobody } else { Wanted::ByAll };
                book.new_event(wanted, now_ms())
            }
        };
        book.sending(number);
        Next::Event(number)
    }

    fn send(&mut self, stream: &mut TcpStream, number: usize) -> bool {
        let wanted = lock(&self.book).wanted(number);
        let is_other = self.dice.one_in(200);
        let body = body(&id(number), wanted, number, is_other);
        let status = post(stream, SECRET, &body);
        lock(&self.book).sent(number, status);
        status.is_some()
    }

    fn forge(&mut self, stream: &mut TcpStream) -> bool {
        let number = self.dice.between(0, 1_000_000);
        let body = body(&format!("forged_{number}"), Wanted::ByAll, number, false);
        let status = post(stream, FORGED, &body);
        lock(&self.book).forged(status);
        status.is_some()
    }
}

pub(super) fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Signs and sends; None where the connection ended without an answer.
pub(super) fn post(stream: &mut TcpStream, secret: &str, body: &[u8]) -> Option<u16> {
    let signature = sign(secret, now_ms() / 1000, body);
    let headers = [("content-type", "application/json"), ("webhook-signature", signature.as_str())];
    wire::ask(stream, "POST", PATH, &headers, body).ok().map(|(status, _)| status)
}

/// The same bytes whenever an event is sent; `is_other`: a copy that says something else.
fn body(id: &str, wanted: Wanted, number: usize, is_other: bool) -> Vec<u8> {
    let kind = if wanted == Wanted::ByAll { "job.tally" } else { "job.idle" };
    let mut dice = Dice::new(number as u64);
    // Most are small, as they are in life; some fill segments.
    let padding = if dice.one_in(6) { dice.between(40_000, 250_000) } else { dice.between(100, 2_000) };
    let (padding, other) = ("x".repeat(padding), if is_other { ",\"copy\":true" } else { "" });
    format!("{{\"eventId\":\"{id}\",\"eventType\":\"{kind}\",\"data\":{{\"padding\":\"{padding}\"}}{other}}}")
        .into_bytes()
}

/// `t=<at>,s=<hex>` over `<at>.<body>`.
fn sign(secret: &str, at: u64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{at}.").as_bytes());
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at},s={hex}")
}

pub(super) fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_same_bytes_whenever_it_is_sent() {
        let bytes = |other| body("evt_00000007", Wanted::ByAll, 7, other);
        assert_eq!(bytes(false), bytes(false));
        assert_ne!(bytes(false), bytes(true));
        let read: serde_json::Value = serde_json::from_slice(&bytes(true)).unwrap();
        assert_eq!((&read["eventId"], &read["eventType"]), (&"evt_00000007".into(), &"job.tally".into()));
    }

    #[test]
    fn signatures_are_as_the_provider_writes_them() {
        // printf '7.{}' | openssl dgst -sha256 -hmac key
        let hex = "77bc83bd1f40422311e47918b203449aecf84b02c1568bb1b570ac2a474cc2d8";
        assert_eq!(sign("key", 7, b"{}"), format!("t=7,s={hex}"));
    }
}
