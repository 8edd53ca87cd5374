//! What a guest says: lines it logs, and lines it prints to stdout and stderr. Bounded, escaped, kept with the
//! attempt and passed on to the daemon's own log.
//!
//! A guest's text is hostile: it may hold escape sequences for the operator's terminal, or a secret that came
//! back in a way it should not have.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::call::trace::Trace;
use super::http::Mask;
use crate::words::attempt::{LogLevel, LogLine};
use crate::words::event::Name;
use crate::words::limits;

/// Of a field's name or value.
const FIELD_BYTES_MAX: usize = limits::KIB;
/// Lines of stderr remembered for the reason of a trap, even when no more are kept.
const LAST_WORDS_MAX: usize = 4;

/// The lines of one attempt.
pub(super) struct Lines {
    handler: Name,
    mask: Arc<Mask>,
    began: Instant,
    kept: Vec<LogLine>,
    bytes: usize,
    dropped: u64,
    stdout: Printed,
    stderr: Printed,
    printed_bytes: usize,
    last_words: VecDeque<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// A line of stdout or stderr that has not ended yet.
#[derive(Default)]
struct Printed(Vec<u8>);

impl Lines {
    pub(super) fn new(handler: Name, mask: Arc<Mask>) -> Lines {
        Lines {
            handler,
            mask,
            began: Instant::now(),
            kept: Vec::new(),
            bytes: 0,
            dropped: 0,
            stdout: Printed::default(),
            stderr: Printed::default(),
            printed_bytes: 0,
            last_words: VecDeque::new(),
        }
    }

    pub(super) fn push(&mut self, level: LogLevel, message: &str, fields: &[(String, String)]) {
        if self.kept.len() >= limits::LOG_LINES_MAX || self.bytes >= limits::LOG_BYTES_MAX {
            self.dropped += 1;
            return;
        }
        let message = printable(&self.mask.text(message), limits::LOG_LINE_BYTES_MAX);
        let mut room = limits::LOG_LINE_BYTES_MAX.saturating_sub(message.len());
        let short = |text: &str| printable(&self.mask.text(text), FIELD_BYTES_MAX);
        let fields: Vec<(String, String)> = fields
            .iter()
            .take(limits::LOG_FIELDS_MAX)
            .map(|(name, value)| (short(name), short(value)))
            .take_while(|(name, value)| {
                let fits = name.len() + value.len() <= room;
                room = room.saturating_sub(name.len() + value.len());
                fits
            })
            .collect();
        self.bytes += message.len() + fields.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>();
        emit(&self.handler, level, &message, &fields);
        let at_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.kept.push(LogLine { at_ms, level, message, fields });
    }

    /// A piece of output: Rust prints a panic in a dozen of them.
    pub(super) fn print(&mut self, stream: Stream, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.partial(stream).extend(&bytes[..end]);
            self.end_line(stream);
            bytes = &bytes[end + 1..];
        }
        self.partial(stream).extend(bytes);
    }

    /// The end of stderr, where a runtime writes why it gave up.
    pub(super) fn last_words(&self) -> impl Iterator<Item = &str> {
        self.last_words.iter().map(String::as_str)
    }

    /// Ends unfinished lines and says what was dropped.
    pub(super) fn finish(&mut self) -> Vec<LogLine> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.partial(stream).0.is_empty() {
                self.end_line(stream);
            }
        }
        let mut kept = std::mem::take(&mut self.kept);
        if self.dropped > 0 {
            let message = format!("{} more lines were dropped", self.dropped);
            tracing::warn!(target: "longshore::guest", handler = %self.handler, "{message}");
            let at_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            kept.push(LogLine { at_ms, level: LogLevel::Warn, message, fields: Vec::new() });
        }
        kept
    }

    fn partial(&mut self, stream: Stream) -> &mut Printed {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn end_line(&mut self, stream: Stream) {
        let line = std::mem::take(&mut self.partial(stream).0);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\r');
        if text.trim().is_empty() {
            return;
        }
        if stream == Stream::Stderr {
            self.last_words.push_back(printable(&self.mask.text(text), FIELD_BYTES_MAX));
            if self.last_words.len() > LAST_WORDS_MAX {
                self.last_words.pop_front();
            }
        }
        self.printed_bytes = self.printed_bytes.saturating_add(text.len() + 1);
        if self.printed_bytes > limits::STDIO_BYTES_MAX {
            self.dropped += 1;
            return;
        }
        let (level, name) = match stream {
            Stream::Stdout => (LogLevel::Info, "stdout"),
            Stream::Stderr => (LogLevel::Warn, "stderr"),
        };
        self.push(level, text, &[("stream".into(), name.into())]);
    }
}

impl Printed {
    /// A line without an end is cut: what is past a line's cap is not shown anyway.
    fn extend(&mut self, bytes: &[u8]) {
        let room = limits::LOG_LINE_BYTES_MAX.saturating_sub(self.0.len());
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// To the daemon's log, at the guest's level. The span around it names delivery and attempt.
fn emit(handler: &Name, level: LogLevel, message: &str, fields: &[(String, String)]) {
    const TARGET: &str = "longshore::guest";
    let fields = || fields.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" ");
    match level {
        LogLevel::Trace => tracing::trace!(target: TARGET, %handler, fields = fields(), "{message}"),
        LogLevel::Debug => tracing::debug!(target: TARGET, %handler, fields = fields(), "{message}"),
        LogLevel::Info => tracing::info!(target: TARGET, %handler, fields = fields(), "{message}"),
        LogLevel::Warn => tracing::warn!(target: TARGET, %handler, fields = fields(), "{message}"),
        LogLevel::Error => tracing::error!(target: TARGET, %handler, fields = fields(), "{message}"),
    }
}

/// At most `max` bytes of text that a terminal shows and does not obey.
pub fn printable(text: &str, max: usize) -> String {
    const CUT: &str = "…";
    let mut out = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        let mark = out.len();
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push(' '),
            c if is_hostile(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
        if out.len() > max {
            out.truncate(mark);
            while out.len() + CUT.len() > max && out.pop().is_some() {}
            if out.len() + CUT.len() <= max {
                out.push_str(CUT);
            }
            break;
        }
    }
    out
}

/// Control characters, line separators, and marks that turn the direction of what follows.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}')
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

// === as WASI sees it ===

/// Where a guest's stdout or stderr goes. Never full: what is over the cap is counted, not refused, since a
/// guest that cannot print may fail for it.
#[derive(Clone)]
pub(super) struct Stdio {
    pub(super) trace: Trace,
    pub(super) stream: Stream,
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdio {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for this form, which is not linked.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Stdio {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.trace.print(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(limits::STDIO_BYTES_MAX)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stdio {
    async fn ready(&mut self) {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines() -> Lines {
        let mask = Mask::new([("token", b"s3cret-token".as_slice())]);
        Lines::new(Name::new("h").unwrap(), Arc::new(mask))
    }

    #[test]
    fn output_becomes_lines_however_it_is_cut() {
        let mut lines = lines();
        for piece in ["thread ", "'main'", " panicked at x.rs:1:2:\nbo", "om\r\n\nnote"] {
            lines.print(Stream::Stderr, piece.as_bytes());
        }
        lines.print(Stream::Stdout, b"half a line");
        let last: Vec<_> = lines.last_words().map(str::to_owned).collect();
        assert_eq!(last, ["thread 'main' panicked at x.rs:1:2:", "boom"]);
        let kept = lines.finish();
        let messages: Vec<_> = kept.iter().map(|l| l.message.as_str()).collect();
        assert_eq!(messages, ["thread 'main' panicked at x.rs:1:2:", "boom", "half a line", "note"]);
        assert_eq!(kept[0].fields, [("stream".to_owned(), "stderr".to_owned())]);
        assert_eq!(kept[2].fields, [("stream".to_owned(), "stdout".to_owned())]);
    }

    #[test]
    fn lines_and_bytes_are_capped() {
        let mut lines = lines();
        for n in 0..limits::LOG_LINES_MAX + 7 {
            lines.push(LogLevel::Info, &n.to_string(), &[]);
        }
        let kept = lines.finish();
        assert_eq!(kept.len(), limits::LOG_LINES_MAX + 1);
        assert_eq!(kept.last().unwrap().message, "7 more lines were dropped");

        let mut lines = self::lines();
        let long = "x".repeat(2 * limits::LOG_LINE_BYTES_MAX);
        let fields = vec![(long.clone(), long.clone()); limits::LOG_FIELDS_MAX + 1];
        for _ in 0..limits::LOG_LINES_MAX {
            lines.push(LogLevel::Info, "short", &fields);
        }
        let kept = lines.finish();
        let bytes = |line: &LogLine| {
            line.message.len() + line.fields.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
        };
        assert!(kept.iter().all(|line| bytes(line) <= limits::LOG_LINE_BYTES_MAX));
        assert!(kept.iter().map(bytes).sum::<usize>() <= limits::LOG_BYTES_MAX + limits::LOG_LINE_BYTES_MAX);
    }

    #[test]
    fn stdio_is_capped_and_its_end_is_kept() {
        let mut lines = lines();
        lines.print(Stream::Stderr, &vec![b'x'; 10 * limits::STDIO_BYTES_MAX]);
        lines.print(Stream::Stderr, b"\n");
        for _ in 0..limits::STDIO_BYTES_MAX {
            lines.print(Stream::Stderr, b"y\n");
        }
        lines.print(Stream::Stderr, b"the reason\n");
        assert_eq!(lines.last_words().last(), Some("the reason"));
        let kept = lines.finish();
        assert!(kept.iter().map(|l| l.message.len()).sum::<usize>() <= limits::STDIO_BYTES_MAX);
    }

    #[test]
    fn secrets_and_escapes_do_not_reach_a_terminal() {
        let mut lines = lines();
        lines.push(
            LogLevel::Info,
            "\x1b[31mred s3cret-token\u{202e}",
            &[("s3cret-token".into(), "a\nb".into())],
        );
        let kept = lines.finish();
        assert_eq!(kept[0].message, "\\u{1b}[31mred [secret token]\\u{202e}");
        assert_eq!(kept[0].fields, [("[secret token]".to_owned(), "a\\nb".to_owned())]);
    }

    proptest! {
        #[test]
        fn printable_text_fits_and_does_no_harm(text in "\\PC{0,20}[\\x00-\\x20]{0,5}\\PC{0,20}", max in 0usize..60) {
            let shown = printable(&text, max);
            prop_assert!(shown.len() <= max);
            prop_assert!(!shown.chars().any(is_hostile));
            if text.len() <= max && !text.chars().any(is_hostile) {
                prop_assert_eq!(shown, text);
            }
        }
    }
}
