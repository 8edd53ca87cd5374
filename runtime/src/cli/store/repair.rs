//! Repair: the operator gives up what is lost.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;

use clap::Args;

use super::{check, failure_alone};
use crate::cli::daemon::Place;
use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::{Ended, Result};
use crate::store::journal::disk::Real;
use crate::store::tools::Plan;
use crate::words::time::Millis;

/// Give up what cannot be read, so that the daemon starts again with everything else.
///
/// Prints every record that is given up, as far as it can be named, and asks. Damaged segments are written anew with
/// every whole record at its old position, and what they were is kept in a folder `repair-<time>` of the data
/// directory, with a page that says how to go back. The index is made again at the next start. A delivery whose end
/// was among what is lost runs again: handlers may see it twice. The daemon must not run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore store repair
  longshore store repair --data-dir /var/lib/longshore --yes")]
pub(in crate::cli) struct Repair {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

impl Repair {
    pub(super) fn run(self, screen: &Screen) -> Result {
        let data = self.place.data_dir()?;
        let stop = "longshore store repair, when it has stopped";
        let plan = Plan::make(&data).map_err(|error| failure_alone(error, &data, stop))?;
        if !plan.is_needed() {
            return Err(Failure::failed("nothing is damaged, so there is nothing to repair"));
        }
        let report = serde_json::to_value(plan.report()).map_err(|e| Failure::failed(e.to_string()))?;
        match screen.json {
            true => screen.say(check::text(plan.report(), screen).trim_end()),
            false => screen.data(&check::text(plan.report(), screen))?,
        }
        screen.say("all that is lost above is given up, and can then only be had from a backup");
        if plan.may_run_again() {
            screen.say(
                "deliveries whose end is among it are open again and run again: handlers see them at least once more",
            );
        }
        if !self.yes {
            confirm()?;
        }
        let run = self.place.run_command();
        let done = plan.carry_out(&(Arc::new(Real) as _), Millis::now());
        let done = done.map_err(|error| failure_alone(error, &data, stop))?;
        if screen.json {
            screen.print_json(&serde_json::json!({ "given_up": report, "repaired": &done }))?;
        }
        let segments: Vec<_> = done.segments.iter().map(u64::to_string).collect();
        if !segments.is_empty() {
            screen.say(&format!("written anew: segment {}", segments.join(", ")));
        }
        screen.say(&format!(
            "what was there is kept in {}; its README says how to go back\n  type: {run}",
            done.kept.display()
        ));
        Ok(Ended::Well)
    }
}

fn confirm() -> Result<()> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage("nothing was changed; add --yes to do it".to_owned()));
    }
    let mut err = std::io::stderr();
    let _ = write!(err, "give it up? [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was changed")),
    }
}
