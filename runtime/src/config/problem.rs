//! Problem: what is wrong with a configuration, where it stands, and what to type instead.
//!
//! Problems are collected, never thrown: an operator who has made seven mistakes is told of seven.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    File {
        path: Arc<PathBuf>,
        line: usize,
        column: usize,
    },
    /// The name of an environment variable.
    Environment(String),
    /// A flag of the command line, as `--listen`.
    Flag(String),
    /// Nobody wrote it, and there is no file to point at.
    Nowhere,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Origin::Environment(name) => write!(f, "${name}"),
            Origin::Flag(name) => f.write_str(name),
            Origin::Nowhere => f.write_str("configuration"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The daemon does not start.
    Error,
    /// It starts, and somebody should look.
    Warning,
}

/// One thing to change. Prints as `config.yaml:12:5: error: server.drain: `20` has no unit; type `20s``.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub severity: Severity,
    pub at: Origin,
    /// `sources.sendpilot.path`; empty for a whole file.
    pub key: String,
    /// Ends with what to type.
    pub message: String,
}

impl Problem {
    pub fn error(at: Origin, key: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { severity: Severity::Error, at, key: key.into(), message: message.into() }
    }

    pub fn warning(at: Origin, key: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { severity: Severity::Warning, at, key: key.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}: {severity}: ", self.at)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// The verbs with which the last part of a message begins.
const ADVICE: [&str; 13] = [
    "type", "write", "take", "keep", "put", "correct", "build", "renew", "copy", "ask", "begin", "split",
    "remove",
];

/// Whether a message ends with what to do.
pub(super) fn advises(message: &str) -> bool {
    message
        .rsplit_once("; ")
        .is_some_and(|(_, last)| ADVICE.contains(&last.split(' ').next().unwrap_or_default()))
}

/// What another room says mostly ends with what to do; where it does not, `advice` is added.
pub(super) fn advised(message: &str, advice: &str) -> String {
    if advises(message) { message.to_owned() } else { format!("{message}; {advice}") }
}

/// Every problem of one configuration. Prints one line for each, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub fn push(&mut self, problem: Problem) {
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    pub fn extend(&mut self, problems: impl IntoIterator<Item = Problem>) {
        problems.into_iter().for_each(|problem| self.push(problem));
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn errors(&self) -> usize {
        self.0.iter().filter(|p| p.severity == Severity::Error).count()
    }

    pub fn warnings(&self) -> usize {
        self.len() - self.errors()
    }

    /// Whether an error stands at `key`, below it or above it: a second one would only repeat the first.
    pub fn touch(&self, key: &str) -> bool {
        let within = |outer: &str, inner: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.0
            .iter()
            .filter(|p| p.severity == Severity::Error)
            .any(|p| within(&p.key, key) || within(key, &p.key))
    }

    /// Whether an error stands at exactly this key.
    pub fn stand_at(&self, key: &str) -> bool {
        self.0.iter().any(|p| p.severity == Severity::Error && p.key == key)
    }

    /// Into reading order.
    pub fn sort(&mut self) {
        self.0.sort_by(|a, b| a.at.cmp(&b.at).then_with(|| a.key.cmp(&b.key)));
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
