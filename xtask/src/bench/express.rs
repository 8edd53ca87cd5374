//! Express: the provider's example, with its packages beside it.

use std::path::PathBuf;

use super::site::Site;
use crate::npm::{self, Packages};
use crate::{Result, Trouble};

/// The folder in which the example can be started.
pub(super) fn install(site: &Site<'_>) -> Result<PathBuf> {
    let (from, to) = ("tests/bench/express", "bench/express");
    match npm::install(&site.workspace, site.interrupts, from, to, "server.js")? {
        Packages::In(folder) => Ok(folder),
        Packages::Missing(why) => {
            Err(Trouble::new(format!("the Express example is not there: {why}, or `--without-express`")))
        }
    }
}
