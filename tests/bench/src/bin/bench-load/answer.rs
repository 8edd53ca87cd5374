//! Answer: is a response whole, and what is its status? As little of HTTP as our own servers speak.

/// The status, once the response has come to its end; None before. Panics on what cannot be counted honestly: a
/// response of unknown length, one that is longer than it said, and something that is no response.
pub fn status(bytes: &[u8]) -> Option<u16> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let mut lines = bytes[..end].split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.first_chunk::<3>()).and_then(number);
    let status = status.expect("an answer begins with its status");
    let length = lines.find_map(content_length).expect("an answer says how long it is");
    let whole = end + 4 + length;
    assert!(bytes.len() <= whole, "an answer is longer than it said");
    (bytes.len() == whole).then(|| u16::try_from(status).expect("it has three digits"))
}

fn content_length(line: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let (name, value) = line.split_at_checked(NAME.len())?;
    name.eq_ignore_ascii_case(NAME).then(|| number(value.trim_ascii()).expect("a length is a number"))
}

fn number(digits: impl AsRef<[u8]>) -> Option<usize> {
    std::str::from_utf8(digits.as_ref()).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_when_its_last_byte_is_there() {
        let whole = b"HTTP/1.1 503 Service Unavailable\r\nDate: x\r\nContent-Length: 5\r\n\r\nhello";
        for end in 0..whole.len() {
            assert_eq!(status(&whole[..end]), None, "{end}");
        }
        assert_eq!(status(whole), Some(503));
        assert_eq!(status(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), Some(200));
    }

    #[test]
    #[should_panic(expected = "how long")]
    fn an_answer_without_a_length_is_not_guessed_at() {
        status(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    }

    #[test]
    #[should_panic(expected = "longer than it said")]
    fn an_answer_with_more_behind_it_is_refused() {
        status(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK");
    }
}
