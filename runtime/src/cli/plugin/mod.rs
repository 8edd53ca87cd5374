//! Plugin: what its author needs: a new one, what one asks for, one call without a daemon, what deliveries did before, and
//! its certificate.

use clap::Subcommand;

use super::Result;
use super::screen::Screen;

mod inspect;
mod new;
mod run;
mod test;
mod torture;

pub(super) use run::{answer, guests, read_bounded, read_data, shelf_lines, shelf_text};

/// Begin a plugin, see what one asks for, call one without a daemon, or run deliveries of before with it.
#[derive(Debug, Subcommand)]
pub(super) enum Plugin {
    New(new::New),
    Inspect(inspect::Inspect),
    Run(run::Run),
    Test(test::Test),
    Torture(torture::Torture),
}

impl Plugin {
    pub(super) fn run(self, screen: &Screen) -> Result {
        match self {
            Plugin::New(new) => new.run(screen),
            Plugin::Inspect(inspect) => inspect.run(screen),
            Plugin::Run(run) => run.run(screen),
            Plugin::Test(test) => test.run(screen),
            Plugin::Torture(torture) => torture.run(screen),
        }
    }
}
