//! Capture: a request as somebody wrote it down: the output of `curl -v`, a HAR file, or raw HTTP/1.1.
//!
//! Which of them it is shows in the content. The body's bytes are what was signed, so nothing is done to them that is
//! not told in a note; and what was lost on the way into the file is told where it can be seen.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;

use crate::words::limits::HEADERS_MAX;

/// A request, and how it was read.
#[derive(Debug)]
pub(super) struct Capture {
    /// `curl -v`, `HAR` or `raw HTTP`.
    pub(super) form: &'static str,
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    /// `https://hooks.example.com`, as far as the capture tells.
    pub(super) origin: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// What was done to the body, or is missing of it.
    pub(super) notes: Vec<String>,
}

/// What is given beside the file.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// The body, where the capture does not hold it.
    pub(super) body: Option<Vec<u8>>,
    /// Which of several requests, from 1.
    pub(super) entry: Option<usize>,
}

const EXPECTED: &str = "expected is the output of `curl -v` (lines that begin with `> `), a HAR file (JSON with \
                        `log.entries`) or a raw HTTP/1.1 request (it begins with `POST /path HTTP/1.1`)";

impl Capture {
    /// # Errors
    /// In words: what was expected, and where the file departs from it.
    pub(super) fn read(text: &[u8], aside: Aside) -> Result<Capture, String> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let start = text.trim_ascii_start();
        if start.is_empty() {
            return Err(format!("the capture is empty; {EXPECTED}"));
        }
        if start.starts_with(b"{") {
            return har(start, aside);
        }
        if lines(text).any(|line| is_sent_request_line(line.text)) {
            return curl(text, aside);
        }
        if is_raw_start(first_line(start)) {
            return raw(start, aside);
        }
        Err(format!("this is no capture of a request; {EXPECTED}"))
    }

    pub(super) fn url(&self) -> Option<String> {
        self.origin.as_ref().map(|origin| format!("{origin}{}", self.target))
    }

    /// The part of the target in front of `?`.
    pub(super) fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    pub(super) fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }
}

// === lines ===

struct Line<'t> {
    /// Without its end, be that LF or CRLF.
    text: &'t [u8],
    /// Where the next one begins.
    end: usize,
}

fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start >= text.len() {
            return None;
        }
        let rest = &text[start..];
        let (line, length) = match rest.iter().position(|byte| *byte == b'\n') {
            Some(at) => (&rest[..at], at + 1),
            None => (rest, rest.len()),
        };
        start += length;
        Some(Line { text: line.strip_suffix(b"\r").unwrap_or(line), end: start })
    })
}

fn first_line(text: &[u8]) -> &[u8] {
    lines(text).next().map_or(b"", |line| line.text)
}

fn shown(bytes: &[u8]) -> String {
    const SHOWN_CHARS: usize = 60;
    let text = String::from_utf8_lossy(bytes);
    let short: String = text.chars().take(SHOWN_CHARS).collect();
    if short.len() < text.len() { format!("`{short}…`") } else { format!("`{short}`") }
}

// === the head of a request ===

#[derive(Default)]
struct Head {
    method: String,
    target: String,
    origin: Option<String>,
    headers: HeaderMap,
}

impl Head {
    /// The lines up to the empty one, in front of each of which nothing stands any more.
    fn read<'t>(lines: impl IntoIterator<Item = &'t [u8]>) -> Result<Head, String> {
        let mut head = Head::default();
        let mut unfolded: Vec<Vec<u8>> = Vec::new();
        for (at, line) in lines.into_iter().enumerate() {
            if at == 0 && request_line(line).is_some() {
                head.request_line(line);
            } else if let (Some(before), true) =
                (unfolded.last_mut(), line.starts_with(b" ") || line.starts_with(b"\t"))
            {
                // A proxy may fold a long line into two (RFC 9112, 5.2); the break stands for one space.
                before.push(b' ');
                before.extend_from_slice(line.trim_ascii());
            } else {
                unfolded.push(line.to_vec());
            }
        }
        unfolded.iter().try_for_each(|line| head.line(line))?;
        if head.method.is_empty() || head.target.is_empty() {
            return Err(format!("the capture does not say which method and path were asked for; {EXPECTED}"));
        }
        Ok(head)
    }

    fn request_line(&mut self, line: &[u8]) {
        let Some((method, target)) = request_line(line) else { return };
        self.method = method.to_owned();
        self.target(target);
    }

    /// `/path?query`, or all of the URL as a proxy is asked.
    fn target(&mut self, target: &str) {
        if target.starts_with('/') || target == "*" {
            self.target = target.to_owned();
            return;
        }
        match url::Url::parse(target) {
            Ok(url) if url.has_host() => {
                self.origin = Some(url.origin().ascii_serialization());
                self.target = url[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
            }
            _ => self.target = target.to_owned(),
        }
    }

    /// `Name: value`, or `:method: POST` as HTTP/2 has it.
    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let from = usize::from(line.starts_with(b":"));
        let colon = line.iter().skip(from).position(|byte| *byte == b':').map(|at| at + from);
        let Some(colon) = colon else {
            return Err(format!("{} is no header; a header is `Name: value`", shown(line)));
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if from == 1 { self.pseudo(name, value) } else { self.header(name, value) }
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), String> {
        let value = std::str::from_utf8(value).map_err(|_| format!("{} is not text", shown(name)))?;
        match name {
            b":method" => value.clone_into(&mut self.method),
            b":path" => self.target(value),
            b":authority" => self.header(b"host", value.as_bytes())?,
            b":scheme" => self.scheme(value),
            _ => {}
        }
        Ok(())
    }

    fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), String> {
        let parsed = HeaderName::from_bytes(name)
            .map_err(|_| format!("{} is not a header's name; a header is `Name: value`", shown(name)))?;
        let value = HeaderValue::from_bytes(value)
            .map_err(|_| format!("the value of `{parsed}` holds a character that no header can carry"))?;
        if self.headers.len() >= HEADERS_MAX {
            return Err(format!("it has more than {HEADERS_MAX} headers, which the daemon does not take"));
        }
        self.headers.append(parsed, value);
        Ok(())
    }

    /// Known only with the host, which comes before or after it.
    fn scheme(&mut self, scheme: &str) {
        if matches!(scheme, "https" | "http") {
            self.origin = Some(format!("{scheme}://"));
        }
    }

    fn host(&self) -> Option<&str> {
        self.headers.get(HOST)?.to_str().ok().filter(|host| !host.is_empty())
    }

    fn into_capture(self, form: &'static str, body: Vec<u8>, notes: Vec<String>) -> Capture {
        let host = self.host().map(str::to_owned);
        let origin = match (self.origin, host) {
            (Some(origin), Some(host)) if origin.ends_with("://") => Some(format!("{origin}{host}")),
            (Some(origin), _) if !origin.ends_with("://") => Some(origin),
            (None, Some(host)) => Some(format!("https://{host}")),
            _ => None,
        };
        let Head { method, target, headers, .. } = self;
        Capture { form, method, target, origin, headers, body, notes }
    }
}

/// `POST /path HTTP/1.1`
fn request_line(line: &[u8]) -> Option<(&str, &str)> {
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_method =
        Method::from_bytes(method.as_bytes()).is_ok() && method.bytes().all(|b| b.is_ascii_uppercase());
    let is_target = !target.is_empty() && target.bytes().all(|b| b.is_ascii_graphic());
    (is_method && is_target && version.starts_with("HTTP/") && words.next().is_none())
        .then_some((method, target))
}

// === the body ===

/// What was sent as the body, from what the file holds behind the head.
fn body_in_file(head: &Head, found: &[u8], notes: &mut Vec<String>) -> Result<Vec<u8>, String> {
    if is_chunked(&head.headers) {
        return Ok(match joined_chunks(found) {
            Some((body, chunks)) => {
                notes.push(format!("the body is chunked; its {} joined", are(chunks, "chunk")));
                body
            }
            None => {
                notes.push("`transfer-encoding: chunked` is said, but the body holds no chunks: it is taken as it is".to_owned());
                found.to_vec()
            }
        });
    }
    let Some(said) = content_length(&head.headers) else {
        if !found.is_empty() {
            let length = found.len();
            notes.push(format!(
                "`content-length` is not there: all {length} bytes behind the head are taken as the body"
            ));
        }
        return Ok(found.to_vec());
    };
    if found.is_empty() && said > 0 {
        return Err(format!("its body of {said} bytes is not in the capture; give it with `--body FILE`"));
    }
    let (body, more) = found.split_at(said.min(found.len()));
    match more.len() {
        0 => note_length(said, body.len(), notes),
        _ if more.iter().all(|byte| matches!(byte, b'\r' | b'\n')) => {
            notes
                .push("a newline behind the body is left out: `content-length` does not count it".to_owned());
        }
        more => notes.push(format!(
            "behind the body {} left out: `content-length` says {said} bytes",
            are(more, "byte")
        )),
    }
    Ok(body.to_vec())
}

/// A body that was given by itself: nothing is cut off it.
fn body_aside(head: &Head, body: Vec<u8>, notes: &mut Vec<String>) -> Vec<u8> {
    if let Some(said) = content_length(&head.headers) {
        note_length(said, body.len(), notes);
    }
    body
}

fn note_length(said: usize, there: usize, notes: &mut Vec<String>) {
    if there == said {
        return;
    }
    let (difference, what) = if there < said {
        (said - there, "missing: the body was cut, or its line ends were changed, when it was captured")
    } else {
        (
            there - said,
            "too many: something was added to the body when it was captured, as an editor adds a newline",
        )
    };
    notes.push(format!(
        "`content-length` says {said} bytes and the body has {there}: {} {what}",
        are(difference, "byte")
    ));
}

fn are(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one} is") } else { format!("{count} {one}s are") }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_chunked(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(TRANSFER_ENCODING).iter().filter_map(|value| value.to_str().ok());
    codings.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("chunked"))
}

/// The content of all chunks and how many there are; None where they are no chunks.
fn joined_chunks(mut left: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut chunks) = (Vec::new(), 0);
    loop {
        let line = lines(left).next()?;
        let size = std::str::from_utf8(line.text).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        left = &left[line.end..];
        if size == 0 {
            return Some((body, chunks));
        }
        body.extend_from_slice(left.get(..size)?);
        left = left.get(size..)?;
        left = left.strip_prefix(b"\r\n").or_else(|| left.strip_prefix(b"\n"))?;
        chunks += 1;
    }
}

fn note_coding(headers: &HeaderMap, body: &[u8], notes: &mut Vec<String>) {
    let Some(coding) = headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok()) else { return };
    let is_gzip = body.starts_with(&[0x1f, 0x8b]);
    if coding.to_ascii_lowercase().contains("gzip") && !is_gzip {
        notes.push(
            "`content-encoding: gzip` is said, but the body is not compressed: what was signed may be the compressed bytes"
                .to_owned(),
        );
    }
}

fn only_one(entry: Option<usize>) -> Result<(), String> {
    match entry {
        None | Some(1) => Ok(()),
        Some(entry) => Err(format!("there is no request {entry}: the capture has one; leave `--entry` out")),
    }
}

/// The one that was asked for, of `count`.
fn chosen(entry: Option<usize>, count: usize, notes: &mut Vec<String>) -> Result<usize, String> {
    match entry {
        None => {
            if count > 1 {
                notes.push(format!("the first of {count} requests is read; `--entry N` reads another"));
            }
            Ok(0)
        }
        Some(entry) if (1..=count).contains(&entry) => Ok(entry - 1),
        Some(entry) => Err(format!(
            "there is no request {entry}: the capture has {count}; type `--entry` with 1 to {count}"
        )),
    }
}

// === raw HTTP ===

fn is_raw_start(line: &[u8]) -> bool {
    request_line(line).is_some() || line.starts_with(b":method:") || line.starts_with(b":authority:")
}

fn raw(text: &[u8], aside: Aside) -> Result<Capture, String> {
    only_one(aside.entry)?;
    let mut head_lines = Vec::new();
    let mut body_at = text.len();
    for line in lines(text) {
        if line.text.is_empty() {
            body_at = line.end;
            break;
        }
        head_lines.push(line.text);
    }
    let head = Head::read(head_lines)?;
    let mut notes = Vec::new();
    let body = match aside.body {
        Some(body) => body_aside(&head, body, &mut notes),
        None => body_in_file(&head, &text[body_at..], &mut notes)?,
    };
    note_coding(&head.headers, &body, &mut notes);
    Ok(head.into_capture("raw HTTP", body, notes))
}

// === curl -v ===

fn is_sent_request_line(line: &[u8]) -> bool {
    sent(line).is_some_and(|line| request_line(line).is_some())
}

/// Curl writes its progress over the beginning of a line, and what it says next goes on behind that.
fn without_meter(line: &[u8]) -> &[u8] {
    const CLOCK: &[u8] = b"--:--:--";
    if !line.starts_with(b"\r") {
        return line;
    }
    let Some(at) = line.windows(CLOCK.len()).rposition(|window| window == CLOCK) else { return line };
    let behind = line[at + CLOCK.len()..].trim_ascii_start();
    let speed = behind.iter().take_while(|byte| byte.is_ascii_digit() || b".kMGTP".contains(byte)).count();
    &behind[speed..]
}

/// What stands behind `> `.
fn sent(line: &[u8]) -> Option<&[u8]> {
    let line = without_meter(line);
    match line {
        b">" => Some(b""),
        _ => line.strip_prefix(b"> "),
    }
}

/// Lines in which curl speaks of itself, or counts bytes.
fn is_talk(line: &[u8]) -> bool {
    let counts = |rest: &[u8]| rest.ends_with(b" bytes data]");
    let is_meter = line.starts_with(b"\r") && without_meter(line).is_empty();
    let line = without_meter(line);
    is_meter
        || line == b"*"
        || line.starts_with(b"* ")
        || line.strip_prefix(b"{ [").is_some_and(counts)
        || line.strip_prefix(b"} [").is_some_and(counts)
}

fn is_received(line: &[u8]) -> bool {
    let line = without_meter(line);
    line == b"<" || line.starts_with(b"< ")
}

fn curl(text: &[u8], aside: Aside) -> Result<Capture, String> {
    let mut notes = Vec::new();
    let starts: Vec<usize> = {
        let mut at = 0;
        lines(text)
            .filter_map(|line| {
                let start = std::mem::replace(&mut at, line.end);
                is_sent_request_line(line.text).then_some(start)
            })
            .collect()
    };
    let chosen = chosen(aside.entry, starts.len(), &mut notes)?;
    let end = starts.get(chosen + 1).copied().unwrap_or(text.len());
    let part = &text[starts[chosen]..end];
    let (head_lines, behind) = curl_head(part);
    let mut head = Head::read(head_lines)?;
    head.scheme(if is_over_tls(&text[..starts[chosen]]) { "https" } else { "http" });
    let body = match aside.body {
        Some(body) => body_aside(&head, body, &mut notes),
        None => {
            let found = curl_body(behind);
            if found.is_empty() && content_length(&head.headers).is_some_and(|said| said > 0) {
                return Err(
                    "`curl -v` does not print the body that it sent; give it with `--body FILE`".to_owned()
                );
            }
            body_in_file(&head, found, &mut notes)?
        }
    };
    note_coding(&head.headers, &body, &mut notes);
    Ok(head.into_capture("curl -v", body, notes))
}

fn is_over_tls(before: &[u8]) -> bool {
    let says = |line: Line<'_>| {
        let text = String::from_utf8_lossy(line.text);
        text.starts_with("* ") && (text.contains("SSL connection") || text.contains("stream for https://"))
    };
    lines(before).any(says)
}

/// The lines of the head, and everything behind its empty one.
fn curl_head(part: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let (mut head, mut at) = (Vec::new(), 0);
    for line in lines(part) {
        let begins = std::mem::replace(&mut at, line.end);
        match sent(line.text) {
            Some(b"") => return (head, &part[line.end..]),
            Some(text) => head.push(text),
            None if is_talk(line.text) => {}
            None => return (head, &part[begins..]),
        }
    }
    (head, b"")
}

/// What was pasted between what curl sent and what it says of the answer.
fn curl_body(behind: &[u8]) -> &[u8] {
    let (mut start, mut at) = (None, 0);
    for line in lines(behind) {
        let begins = std::mem::replace(&mut at, line.end);
        match start {
            None if is_received(line.text) => return b"",
            None if is_talk(line.text) || line.text.is_empty() => {}
            None => start = Some(begins),
            Some(start) if is_received(line.text) || is_talk(line.text) => return &behind[start..begins],
            Some(_) => {}
        }
    }
    start.map_or(b"", |start| &behind[start..])
}

// === HAR ===

fn har(text: &[u8], aside: Aside) -> Result<Capture, String> {
    let document: Value = serde_json::from_slice(text)
        .map_err(|e| format!("this begins as JSON and is none: {e}; {EXPECTED}"))?;
    let entries = document.pointer("/log/entries").and_then(Value::as_array);
    let entries =
        entries.ok_or_else(|| format!("this is JSON without `log.entries`, so no HAR file; {EXPECTED}"))?;
    if entries.is_empty() {
        return Err("the HAR file has no entries; record the request, and save it again".to_owned());
    }
    let mut notes = Vec::new();
    let chosen = chosen(aside.entry, entries.len(), &mut notes)?;
    let request = &entries[chosen]["request"];
    let head = har_head(request).map_err(|why| format!("entry {}: {why}", chosen + 1))?;
    let body = match aside.body {
        Some(body) => body_aside(&head, body, &mut notes),
        None => {
            let body = har_body(request, &mut notes).map_err(|why| format!("entry {}: {why}", chosen + 1))?;
            body_aside(&head, body, &mut notes)
        }
    };
    note_coding(&head.headers, &body, &mut notes);
    Ok(head.into_capture("HAR", body, notes))
}

fn har_head(request: &Value) -> Result<Head, String> {
    let text = |key: &str| request.get(key).and_then(Value::as_str);
    let method = text("method").ok_or("`request.method` is not a text")?.to_owned();
    let mut head = Head { method, ..Head::default() };
    head.target(text("url").ok_or("`request.url` is not a text")?);
    let headers =
        request.get("headers").and_then(Value::as_array).ok_or("`request.headers` is not a list")?;
    for header in headers {
        let part = |key: &str| header.get(key).and_then(Value::as_str);
        let (Some(name), Some(value)) = (part("name"), part("value")) else {
            return Err("a header has no `name` and `value`".to_owned());
        };
        // The URL says it already.
        if name.starts_with(':') {
            continue;
        }
        head.header(name.as_bytes(), value.as_bytes())?;
    }
    Ok(head)
}

fn har_body(request: &Value, notes: &mut Vec<String>) -> Result<Vec<u8>, String> {
    let Some(data) = request.get("postData").filter(|data| !data.is_null()) else {
        return match request.get("bodySize").and_then(Value::as_i64) {
            Some(bytes) if bytes > 0 => {
                Err(format!("the body of {bytes} bytes was not recorded; give it with `--body FILE`"))
            }
            _ => Ok(Vec::new()),
        };
    };
    let text = data.get("text").and_then(Value::as_str);
    let encoding = data.get("encoding").and_then(Value::as_str).unwrap_or_default();
    match (text, encoding) {
        (Some(text), "base64") => STANDARD.decode(text).map_err(|_| "`postData.text` is not base64".to_owned()),
        (Some(text), "") => {
            if text.contains('\u{fffd}') {
                notes.push("a HAR file holds the body as text: bytes that are not UTF-8 are lost in it".to_owned());
            }
            Ok(text.as_bytes().to_vec())
        }
        (Some(_), other) => Err(format!("`postData.encoding` is `{other}`; known is `base64`")),
        (None, _) => Err("the form's fields were recorded and not its bytes, which are signed; give them with `--body FILE`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> Result<Capture, String> {
        Capture::read(text, Aside::default())
    }

    fn with_body(text: &str, body: &[u8]) -> Result<Capture, String> {
        Capture::read(text.as_bytes(), Aside { body: Some(body.to_vec()), entry: None })
    }

    fn entry(text: &str, entry: usize) -> Result<Capture, String> {
        Capture::read(text.as_bytes(), Aside { body: None, entry: Some(entry) })
    }

    const CURL: &str = "\
*   Trying 127.0.0.1:8443...
* Connected to hooks.example.com (127.0.0.1) port 8443
* SSL connection using TLSv1.3 / TLS_AES_256_GCM_SHA384
} [5 bytes data]
> POST /webhooks/acme?team=a HTTP/2\r
> Host: hooks.example.com:8443\r
> Acme-Signature: t=1,v1=00\r
> Content-Length: 12\r
> \r
";

    #[test]
    fn what_curl_says_is_read_with_the_body_that_was_pasted_or_given() {
        let answer =
            "* upload completely sent off\n< HTTP/2 401 \n< content-type: text/plain\n< \n{\"error\":1}\n";
        let pasted = format!("{CURL}{{\"a\": 1}}\r\n..\n{answer}");
        let capture = read(pasted.as_bytes()).unwrap();
        assert_eq!((capture.form, capture.method.as_str()), ("curl -v", "POST"));
        assert_eq!((capture.path(), capture.query()), ("/webhooks/acme", Some("team=a")));
        assert_eq!(capture.url().unwrap(), "https://hooks.example.com:8443/webhooks/acme?team=a");
        assert_eq!(capture.headers["acme-signature"], "t=1,v1=00");
        assert_eq!(capture.body, b"{\"a\": 1}\r\n..");
        assert_eq!(
            capture.notes,
            ["a newline behind the body is left out: `content-length` does not count it"]
        );

        let given = with_body(&format!("{CURL}{answer}"), b"{\"a\": 1}\r\n..\n").unwrap();
        assert_eq!(given.body, b"{\"a\": 1}\r\n..\n", "nothing is cut off a file");
        assert!(
            given.notes[0].contains("says 12 bytes and the body has 13: 1 byte is too many"),
            "{:?}",
            given.notes
        );
        let none = read(format!("{CURL}{answer}").as_bytes()).unwrap_err();
        assert!(none.contains("give it with `--body FILE`"), "{none}");
    }

    /// As curl 7.88 writes it into a file, its progress over the beginnings of lines.
    #[test]
    fn the_progress_of_curl_is_no_part_of_a_request() {
        let real = "  % Total    % Received % Xferd  Average Speed   Time    Time     Time  Current\n\
            \r  0     0    0     0    0     0      0      0 --:--:-- --:--:-- --:--:--     0*   Trying 127.0.0.1:1...\n\
            * Connected to 127.0.0.1 (127.0.0.1) port 1 (#0)\n\
            \r  0     0    0     0    0     0      0      0 --:--:--  0:00:01 --:--:--     0> POST /a HTTP/1.1\r\n\
            > Host: 127.0.0.1:1\r\n> Content-Length: 7\r\n> \r\n} [7 bytes data]\n* HTTP 1.0, assume close after body\n\
            < HTTP/1.0 501 Unsupported\r\n< \r\n{ [357 bytes data]\n\
            \r100   364  100   357  100     7  31431    616 --:--:-- --:--:-- --:--:-- 33090\n* Closing connection 0\n<html>\n";
        let capture = with_body(real, b"{\"a\":1}").unwrap();
        assert_eq!((capture.target.as_str(), capture.body.len()), ("/a", 7));
        assert_eq!(capture.url().unwrap(), "http://127.0.0.1:1/a");
        assert_eq!(capture.notes, [""; 0]);
        assert!(read(real.as_bytes()).unwrap_err().contains("does not print the body"));
    }

    #[test]
    fn of_several_requests_one_is_chosen() {
        let two = format!("{CURL}{{\"a\": 1}}....\n> GET /second HTTP/1.1\n> Host: b\n>\n");
        let first = read(two.as_bytes()).unwrap();
        assert!(first.notes[0].contains("the first of 2 requests"), "{:?}", first.notes);
        assert_eq!(entry(&two, 2).unwrap().target, "/second");
        assert!(entry(&two, 3).unwrap_err().contains("type `--entry` with 1 to 2"));
        assert!(entry("GET / HTTP/1.1\n\n", 2).unwrap_err().contains("leave `--entry` out"));
    }

    #[test]
    fn raw_http_keeps_the_exact_bytes_of_its_body() {
        for end in ["\r\n", "\n"] {
            let head = ["POST /a HTTP/1.1", "host: h", "x-folded: one", "  two", "content-length: 6", "", ""]
                .join(end);
            let text = [head.as_bytes(), b"\xff\r\n\r\n\x00", b"\n"].concat();
            let capture = read(&text).unwrap();
            assert_eq!(capture.body, b"\xff\r\n\r\n\x00");
            assert_eq!(capture.headers["x-folded"], "one two");
            assert_eq!(capture.notes.len(), 1, "{:?}", capture.notes);
        }
        let more = read(b"POST /a HTTP/1.1\ncontent-length: 2\n\nabcd").unwrap();
        assert_eq!(more.body, b"ab");
        assert_eq!(more.notes, ["behind the body 2 bytes are left out: `content-length` says 2 bytes"]);
        let cut = read(b"POST /a HTTP/1.1\ncontent-length: 9\n\nabcd").unwrap();
        assert!(cut.notes[0].contains("has 4: 5 bytes are missing"), "{:?}", cut.notes);
        let missing = read(b"POST /a HTTP/1.1\ncontent-length: 9\n\n").unwrap_err();
        assert!(missing.contains("its body of 9 bytes is not in the capture"), "{missing}");
        let unsaid = read(b"POST /a HTTP/1.1\n\nabcd\n").unwrap();
        assert_eq!(unsaid.body, b"abcd\n");
        assert!(unsaid.notes[0].contains("all 5 bytes"), "{:?}", unsaid.notes);
    }

    #[test]
    fn chunks_are_joined_and_that_is_said() {
        let head = "POST /a HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n";
        let capture = read(format!("{head}4;x=y\r\nWiki\r\n6\r\npedia \r\n0\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(capture.body, b"Wikipedia ");
        assert!(capture.notes[0].contains("chunked; its 2 chunks are joined"), "{:?}", capture.notes);
        for wrong in ["Wikipedia", "4\r\nWik", "zz\r\n", "4\r\nWikix\r\n0\r\n\r\n", "ffffffffffffffffff\r\n"]
        {
            let capture = read(format!("{head}{wrong}").as_bytes()).unwrap();
            assert_eq!(capture.body, wrong.as_bytes());
            assert!(capture.notes[0].contains("holds no chunks"), "{:?}", capture.notes);
        }
    }

    #[test]
    fn http_2_has_its_method_and_path_among_the_headers() {
        let capture =
            read(b":method: POST\n:scheme: https\n:authority: h.example.com\n:path: /a?b=c\nx-a: 1\n\nbody")
                .unwrap();
        assert_eq!((capture.method.as_str(), capture.target.as_str()), ("POST", "/a?b=c"));
        assert_eq!(capture.url().unwrap(), "https://h.example.com/a?b=c");
        let whole = read(b"POST http://h.example.com:81/a HTTP/1.1\nhost: other\n\n").unwrap();
        assert_eq!(whole.url().unwrap(), "http://h.example.com:81/a");
    }

    fn har_of(request: &Value) -> String {
        serde_json::json!({"log": {"version": "1.2", "entries": [{"request": request}]}}).to_string()
    }

    #[test]
    fn a_har_file_holds_text_or_base64() {
        let request = |data: Value| {
            serde_json::json!({
                "method": "POST", "url": "https://h.example.com/a?b=c", "bodySize": 4, "postData": data,
                "headers": [{"name": ":authority", "value": "h.example.com"}, {"name": "X-A", "value": "1"}],
            })
        };
        let read = |data: Value| read(har_of(&request(data)).as_bytes());
        let capture = read(serde_json::json!({"text": "{\"é\":1}"})).unwrap();
        assert_eq!((capture.form, capture.target.as_str()), ("HAR", "/a?b=c"));
        assert_eq!(capture.body, "{\"é\":1}".as_bytes());
        assert_eq!(capture.headers.len(), 1);
        let base64 = read(serde_json::json!({"text": "/wAN", "encoding": "base64"})).unwrap();
        assert_eq!(base64.body, b"\xff\x00\x0d");
        let lossy = read(serde_json::json!({"text": "a\u{fffd}"})).unwrap();
        assert!(lossy.notes[0].contains("are lost"), "{:?}", lossy.notes);
        for (data, words) in [
            (
                serde_json::json!({"text": "?", "encoding": "base64"}),
                "entry 1: `postData.text` is not base64",
            ),
            (serde_json::json!({"text": "a", "encoding": "gzip"}), "known is `base64`"),
            (
                serde_json::json!({"params": [{"name": "a", "value": "b"}]}),
                "fields were recorded and not its bytes",
            ),
            (Value::Null, "the body of 4 bytes was not recorded"),
        ] {
            let why = read(data).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn what_is_no_capture_is_told_what_was_expected() {
        for (text, words) in [
            ("", "the capture is empty"),
            (" \r\n", "the capture is empty"),
            ("hello", "this is no capture of a request"),
            ("{\"a\": ", "this begins as JSON and is none"),
            ("{\"a\": 1}", "without `log.entries`"),
            ("curl -v https://h/a -d x", "this is no capture"),
            ("HTTP/1.1 200 OK\n\n", "this is no capture"),
        ] {
            let why = read(text.as_bytes()).unwrap_err();
            assert!(why.contains(words) && why.contains("`curl -v`"), "{text}: {why}");
        }
        for (text, words) in [
            ("{\"log\": {\"entries\": []}}", "has no entries"),
            ("POST /a HTTP/1.1\nno header\n\n", "`no header` is no header"),
            ("POST /a HTTP/1.1\na b: c\n\n", "`a b` is not a header's name"),
            ("POST /a HTTP/1.1\na: \x01\n\n", "the value of `a` holds a character"),
            (":authority: h\nx: y\n\n", "does not say which method"),
        ] {
            let why = read(text.as_bytes()).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
        let many: String = (0..=HEADERS_MAX).map(|n| format!("x-{n}: 1\n")).collect();
        let why = read(format!("POST /a HTTP/1.1\n{many}\n").as_bytes()).unwrap_err();
        assert!(why.contains("more than 100 headers"), "{why}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), start in 0_usize..6, number in 0_usize..4) {
            let starts: [&[u8]; 6] = [
                b"", b"POST / HTTP/1.1\r\n", b"> POST / HTTP/1.1\n", b"{\"log\":{\"entries\":[", b":method: A\n",
                b"POST / HTTP/1.1\ntransfer-encoding: chunked\n\n",
            ];
            let text = [starts[start], &bytes].concat();
            let _ = Capture::read(&text, Aside { body: None, entry: (number > 0).then_some(number) });
            let _ = Capture::read(&text, Aside { body: Some(bytes), entry: None });
        }

        #[test]
        fn no_pieces_of_captures_panic(pieces in "(> |< |\\* |\\{ \\[|POST / HTTP/1.1|\r|\n|:|a|Content-Length: |9| |\"|\\{|\\}|\\[|\\]|log|entries|chunked){0,60}") {
            let _ = read(pieces.as_bytes());
        }

        #[test]
        fn what_was_sent_is_what_is_read(
            body in prop::collection::vec(any::<u8>(), 1..300),
            value in "[!-~]([ -~]{0,30}[!-~])?",
            path in "/[a-z0-9/]{0,20}",
        ) {
            let length = body.len();
            let head = |before: &str, end: &str| {
                format!("{before}PUT {path} HTTP/1.1{end}{before}host: h{end}{before}x-value: {value}{end}{before}content-length: {length}{end}{before}{end}")
            };
            let har = har_of(&serde_json::json!({
                "method": "PUT", "url": format!("https://h{path}"),
                "headers": [{"name": "Host", "value": "h"}, {"name": "x-value", "value": value}],
                "postData": {"text": STANDARD.encode(&body), "encoding": "base64"},
            }));
            let captures = [
                [head("", "\r\n").as_bytes(), &body].concat(),
                [head("", "\n").as_bytes(), &body].concat(),
                har.into_bytes(),
            ];
            let curl = Capture::read(head("> ", "\n").as_bytes(), Aside { body: Some(body.clone()), entry: None });
            for capture in captures.iter().map(|text| read(text)).chain([curl]) {
                let capture = capture.unwrap();
                prop_assert_eq!(&capture.body, &body);
                prop_assert_eq!(&capture.target, &path);
                prop_assert_eq!(&capture.method, "PUT");
                prop_assert_eq!(capture.headers["x-value"].as_bytes(), value.as_bytes());
            }
        }
    }
}
