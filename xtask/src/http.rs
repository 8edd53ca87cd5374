//! The smallest HTTP client that can read from our own processes on loopback.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Our own processes answer in milliseconds; a machine under load may need longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than the demo's stand-ins could have to say.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// `authority` is `127.0.0.1:1234`. Returns the status and the body.
pub(crate) fn get(authority: &str, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(authority)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // HTTP/1.0 rules out chunks and ends the answer with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {authority}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this is no HTTP answer"))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_parsed() {
        assert_eq!(
            parse("HTTP/1.0 503 Service Unavailable\r\na: b\r\n\r\nnot\r\n\r\nyet"),
            Some((503, "not\r\n\r\nyet".into()))
        );
        for bad in ["", "HTTP/1.1 200 OK", "SSH-2.0\r\n\r\n", "HTTP/1.1 ok\r\n\r\n"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
