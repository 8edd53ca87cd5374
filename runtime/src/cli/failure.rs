//! Failure: why a command did not do what it was asked, the exit code for it, and what to type next.

use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::screen::{Screen, Tone, clean_lines};

#[derive(Debug)]
pub(super) enum Failure {
    /// It failed: exit code 1.
    Failed { message: String, type_this: Option<String> },
    /// The command line is wrong: exit code 2.
    Usage(String),
    /// No daemon answers: exit code 3.
    NoDaemon { message: String, type_this: String },
    /// Whoever read our stdout has seen enough, as `head` has.
    Unread,
}

impl Failure {
    pub(super) fn failed(message: impl Into<String>) -> Failure {
        Failure::Failed { message: message.into(), type_this: None }
    }

    pub(super) fn failed_so(message: impl Into<String>, type_this: impl Into<String>) -> Failure {
        Failure::Failed { message: message.into(), type_this: Some(type_this.into()) }
    }

    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
        Failure::failed(format!("`{}` cannot be read: {error}", path.display()))
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Failure::Unread => 0,
            Failure::Failed { .. } => 1,
            Failure::Usage(_) => 2,
            Failure::NoDaemon { .. } => 3,
        }
    }

    pub(super) fn tell(&self, screen: &Screen) -> ExitCode {
        if !matches!(self, Failure::Unread) {
            let label = screen.paint_talk(Tone::Bad, "error:");
            // Nobody is left to tell where stderr is closed.
            let _ = writeln!(std::io::stderr(), "{label} {self}");
        }
        ExitCode::from(self.exit_code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unread => Ok(()),
            Failure::Usage(message) | Failure::Failed { message, type_this: None } => {
                f.write_str(&clean_lines(message))
            }
            Failure::Failed { message, type_this: Some(type_this) }
            | Failure::NoDaemon { message, type_this } => {
                write!(f, "{}\n  type: {}", clean_lines(message), clean_lines(type_this))
            }
        }
    }
}
