//! Config: what the operator wrote, read from one file or several, judged all at once. The room's face.
//!
//! `load` reads the layers and judges what can be judged from the text alone; it opens nothing that the text
//! names. `check` goes on where that ends: secrets, certificates, plugins. What is not here: turning these
//! values into a running daemon, which is `app`.

mod check;
mod judge;
mod load;
mod probe;
mod problem;
mod read;
mod schema;
mod secrets;
mod types;
mod values;

pub use check::{End, Report, SecretEnd, Tools, Validity, bind, check, ends};
pub use load::{Environment, Flag, Request};
pub use problem::{Origin, Problem, Problems, Severity};
pub use read::nearest;
pub use schema::schema;
pub use secrets::{Secrets, is_to_come};
pub use types::{
    Admin, Breaker, Config, Grants, Handler, HandlerSecret, Limits, Log, LogFormat, Retain, Retry, Sample,
    Server, Source, SourceChallenge, SourceSecret, Store, Subscription, Tls,
};
pub use values::{Holder, SecretRef, show_span};

#[cfg(test)]
mod tests;

use std::sync::Arc;

use load::Tree;
use read::Reader;

use crate::words::event::Name;

/// A configuration as far as it could be read, and everything wrong with it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// None where a file could not be read at all. With an error among the problems it holds placeholders.
    config: Option<Config>,
    problems: Problems,
}

/// Reads every layer and judges it. Touches nothing but the files of `request`.
pub fn load(request: &Request) -> Loaded {
    let mut problems = Problems::default();
    let Some(tree) = Tree::grow(request, &mut problems) else {
        return Loaded { config: None, problems };
    };
    let tree = Arc::new(tree);
    let (config, found) = Reader::new(&tree).root(|fields| Config::read(fields, tree.clone()));
    problems.extend(found);
    judge::judge(&config, &mut problems);
    problems.sort();
    Loaded { config: Some(config), problems }
}

impl Loaded {
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    /// The configuration for somebody who needs one source, whatever is wrong elsewhere: a sample that is missing is
    /// no reason not to look at the request of which it will be made.
    ///
    /// # Errors
    /// What is wrong with the source beside its sample; all problems, where no configuration could be read.
    pub fn for_source(self, name: &Name) -> Result<Config, Problems> {
        let section = format!("sources.{name}.");
        let sample = format!("{section}sample");
        let mut of_source = Problems::default();
        let is_of_source = |p: &&Problem| {
            p.severity == Severity::Error && p.key.starts_with(&section) && !p.key.starts_with(&sample)
        };
        of_source.extend(self.problems.iter().filter(is_of_source).cloned());
        match self.config {
            Some(config) if of_source.is_empty() => Ok(config),
            Some(_) => Err(of_source),
            None => Err(self.problems),
        }
    }

    /// The configuration and its warnings.
    ///
    /// # Errors
    /// All problems, where one of them is an error.
    pub fn sound(self) -> Result<(Config, Problems), Problems> {
        match self.config {
            Some(config) if self.problems.errors() == 0 => Ok((config, self.problems)),
            _ => Err(self.problems),
        }
    }
}
