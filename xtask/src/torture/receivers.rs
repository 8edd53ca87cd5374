//! Receivers: what the handlers call. Each notes a call before it answers; now and then one is slow, or says no.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::book::{Book, HANDLERS};
use super::dice::Dice;
use super::wire::Message;
use crate::{OrTrouble as _, Result};

/// Where the receiver of each handler listens. They end with this process.
pub(super) fn open(book: &Arc<Mutex<Book>>, dice: &mut Dice) -> Result<Vec<SocketAddr>> {
    (0..HANDLERS.len()).map(|handler| listen(handler, Arc::clone(book), dice.split())).collect()
}

fn listen(handler: usize, book: Arc<Mutex<Book>>, mut dice: Dice) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").or_trouble("a receiver finds no port")?;
    let address = listener.local_addr().or_trouble("a receiver finds no port")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (book, dice) = (Arc::clone(&book), dice.split());
            // A connection that breaks is the daemon's end, and no news.
            thread::spawn(move || serve(&stream, handler, &book, dice));
        }
    });
    Ok(address)
}

fn serve(mut stream: &TcpStream, handler: usize, book: &Mutex<Book>, mut dice: Dice) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut left = Vec::new();
    while let Some(request) = Message::read(&mut stream, &mut left)? {
        let key = request.header("idempotency-key").unwrap_or_default();
        let event = String::from_utf8_lossy(&request.body);
        let takes = !dice.one_in(25);
        book.lock().unwrap_or_else(PoisonError::into_inner).called(handler, &event, key, takes);
        if dice.one_in(12) {
            thread::sleep(dice.milliseconds(5, 80));
        }
        let status = if takes { "200 OK" } else { "500 Internal Server Error" };
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")?;
    }
    Ok(())
}
