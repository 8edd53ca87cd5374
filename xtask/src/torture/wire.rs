//! Wire: as much of HTTP/1.1 as our own processes speak with each other, on connections that stay open.

use std::io::{self, Read, Write};

/// A head or a body that is larger is not one of ours.
const BYTES_MAX: usize = 64 << 20;

/// The head of a request or an answer, and its body.
pub(super) struct Message {
    head: String,
    pub(super) body: Vec<u8>,
}

impl Message {
    /// The next message of a connection; `left`: what was read beyond the one before. None: the peer has gone.
    pub(super) fn read(stream: &mut impl Read, left: &mut Vec<u8>) -> io::Result<Option<Message>> {
        let head_end = loop {
            if let Some(at) = left.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !more(stream, left)? {
                return if left.is_empty() { Ok(None) } else { Err(cut_off()) };
            }
        };
        let head = String::from_utf8_lossy(&left[..head_end]).into_owned();
        let mut message = Message { head, body: Vec::new() };
        let length = message.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        while left.len() < head_end + length {
            if !more(stream, left)? {
                return Err(cut_off());
            }
        }
        message.body = left[head_end..head_end + length].to_vec();
        left.drain(..head_end + length);
        Ok(Some(message))
    }

    /// Of an answer.
    pub(super) fn status(&self) -> Option<u16> {
        self.head.split(' ').nth(1)?.parse().ok()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

fn more(stream: &mut impl Read, left: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 16 * 1024];
    let read = stream.read(&mut chunk)?;
    left.extend_from_slice(&chunk[..read]);
    if left.len() > BYTES_MAX {
        return Err(io::Error::other("a message is larger than any of ours"));
    }
    Ok(read > 0)
}

fn cut_off() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

/// One request, and its answer.
pub(super) fn ask(
    stream: &mut (impl Read + Write),
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<(u16, Vec<u8>)> {
    let mut request =
        format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let mut bytes = request.into_bytes();
    bytes.extend_from_slice(body);
    stream.write_all(&bytes)?;
    let answer = Message::read(stream, &mut Vec::new())?.ok_or_else(cut_off)?;
    let status = answer.status().ok_or_else(|| io::Error::other("this is no HTTP answer"))?;
    Ok((status, answer.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_one_after_another_however_they_come() {
        let bytes =
            b"POST / HTTP/1.1\r\nX-Attempt: 3\r\ncontent-length: 5\r\n\r\nevt_1HTTP/1.1 204 No\r\n\r\n";
        let (mut left, mut rest) = (Vec::new(), &bytes[..]);
        let first = Message::read(&mut rest, &mut left).unwrap().unwrap();
        assert_eq!((first.header("x-attempt"), &first.body[..]), (Some("3"), &b"evt_1"[..]));
        let second = Message::read(&mut rest, &mut left).unwrap().unwrap();
        assert_eq!((second.status(), second.body.len()), (Some(204), 0));
        assert!(Message::read(&mut rest, &mut left).unwrap().is_none());
        let mut half = &bytes[..50];
        assert!(Message::read(&mut half, &mut Vec::new()).is_err(), "half a message is none");
    }
}
