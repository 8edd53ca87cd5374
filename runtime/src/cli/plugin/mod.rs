//! Plugin: what its author needs: a new one, what one asks for, and one call without a daemon.

use clap::Subcommand;

use super::Result;
use super::screen::Screen;

mod inspect;
mod new;
mod run;

pub(super) use run::read_data;

/// Begin a plugin, see what one asks for, or call one without a daemon.
#[derive(Debug, Subcommand)]
pub(super) enum Plugin {
    New(new::New),
    Inspect(inspect::Inspect),
    Run(run::Run),
}

impl Plugin {
    pub(super) fn run(self, screen: &Screen) -> Result {
        match self {
            Plugin::New(new) => new.run(screen),
            Plugin::Inspect(inspect) => inspect.run(screen),
            Plugin::Run(run) => run.run(screen),
        }
    }
}
