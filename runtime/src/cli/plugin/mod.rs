//! Plugin: what its author needs: a new one, what one asks for, one call without a daemon, and what deliveries did before.

use clap::Subcommand;

use super::Result;
use super::screen::Screen;

mod inspect;
mod new;
mod run;
mod test;

pub(super) use run::{answer, guests, read_data, shelf_lines};

/// Begin a plugin, see what one asks for, call one without a daemon, or run deliveries of before with it.
#[derive(Debug, Subcommand)]
pub(super) enum Plugin {
    New(new::New),
    Inspect(inspect::Inspect),
    Run(run::Run),
    Test(test::Test),
}

impl Plugin {
    pub(super) fn run(self, screen: &Screen) -> Result {
        match self {
            Plugin::New(new) => new.run(screen),
            Plugin::Inspect(inspect) => inspect.run(screen),
            Plugin::Run(run) => run.run(screen),
            Plugin::Test(test) => test.run(screen),
        }
    }
}
