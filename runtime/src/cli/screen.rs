//! Screen: what the output looks like, and the one way to stdout.
//!
//! Much of what is printed was written by strangers: event types, ids, error texts. `clean` takes the control
//! characters out, so that a webhook cannot move the operator's cursor.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use super::Result;
use super::failure::Failure;

/// Where the output goes, decided once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    pub(super) json: bool,
    /// Columns of the terminal that stdout is; None: a file or a pipe, where nothing is cut.
    pub(super) width: Option<u16>,
    colour: bool,
    colour_talk: bool,
}

/// What a row means, as a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Head,
    Good,
    Waiting,
    Bad,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Head => "\x1b[1m",
            Tone::Good => "\x1b[32m",
            Tone::Waiting => "\x1b[33m",
            Tone::Bad => "\x1b[31m",
        }
    }
}

impl Screen {
    pub(super) fn of_process(json: bool) -> Screen {
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let terminal = io::stdout().is_terminal();
        Screen {
            json,
            width: terminal.then(columns),
            colour: colours && terminal,
            colour_talk: colours && io::stderr().is_terminal(),
        }
    }

    /// As a pipe sees it.
    #[cfg(test)]
    pub(super) fn plain() -> Screen {
        Screen { json: false, width: None, colour: false, colour_talk: false }
    }

    #[cfg(test)]
    pub(super) fn terminal(width: u16) -> Screen {
        Screen { json: false, width: Some(width), colour: true, colour_talk: true }
    }

    /// Data: text as it is, to stdout.
    pub(super) fn data(&self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())
    }

    pub(super) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Unread),
            Err(error) => Err(Failure::failed(format!("stdout cannot be written: {error}"))),
        }
    }

    /// Data as JSON: on one line for a program, indented for a person.
    pub(super) fn print_json(&self, value: &impl Serialize) -> Result<()> {
        let text = if self.width.is_some() {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        let text = text.map_err(|e| Failure::failed(format!("this does not fit into JSON: {e}")))?;
        self.data(&(text + "\n"))
    }

    /// Talk: a line to stderr.
    pub(super) fn say(&self, text: &str) {
        // Nobody is left to tell where stderr is closed.
        let _ = writeln!(io::stderr(), "{text}");
    }

    pub(super) fn paint(&self, tone: Tone, text: &str) -> String {
        paint(self.colour, tone, text)
    }

    pub(super) fn paint_talk(&self, tone: Tone, text: &str) -> String {
        paint(self.colour_talk, tone, text)
    }
}

fn paint(colour: bool, tone: Tone, text: &str) -> String {
    if !colour || tone == Tone::Plain || text.is_empty() {
        return text.to_owned();
    }
    format!("{}{text}\x1b[0m", tone.code())
}

fn columns() -> u16 {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    size.map(|size| size.ws_col).ok().filter(|&columns| columns > 0).unwrap_or(80)
}

/// The text on one line without anything that a terminal would obey.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if is_harmless(c) { c } else { harmless(c) }).collect())
}

/// The same for a text that may have lines.
pub(super) fn clean_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(clean).collect();
    lines.join("\n")
}

fn is_harmless(c: char) -> bool {
    // The second: marks that turn the direction of writing, with which a text can show other than it is.
    !c.is_control()
        && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

fn harmless(c: char) -> char {
    if matches!(c, '\n' | '\r' | '\t') { ' ' } else { '\u{fffd}' }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_taken_out() {
        assert_eq!(clean("reply\u{1b}[2J \u{202e}gnp.exe\n"), "reply\u{fffd}[2J \u{fffd}gnp.exe ");
        assert_eq!(clean_lines("a\r\nb\u{7}\n"), "a\nb\u{fffd}");
    }

    proptest! {
        #[test]
        fn nothing_that_is_cleaned_has_a_control_character(text in any::<String>()) {
            prop_assert!(!clean(&text).chars().any(char::is_control));
            prop_assert_eq!(clean(&text).chars().count(), text.chars().count());
        }
    }

    #[test]
    fn colours_are_for_terminals() {
        assert_eq!(Screen::plain().paint(Tone::Bad, "dead"), "dead");
        assert_eq!(Screen::terminal(80).paint(Tone::Bad, "dead"), "\x1b[31mdead\x1b[0m");
    }
}
