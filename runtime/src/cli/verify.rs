//! Verify: judges recorded requests by the schemes that are shipped, one line of JSON for each.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::failure::Failure;
use super::screen::Screen;
use super::{Ended, Result};
use crate::verify::vectors::judge;

/// Judge recorded requests by the schemes that ship with this program.
///
/// The file is a JSON array; each vector names a preset, a secret, a request and the time at which it is judged.
/// One JSON object a line comes out: id, valid, reason, event_id, event_type; valid is null where the preset does
/// not exist.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longshore verify --vectors vectors.json | jq -c 'select(.valid == false)'")]
pub(super) struct Verify {
    /// The file with the vectors.
    #[arg(long, value_name = "FILE")]
    vectors: PathBuf,
}

impl Verify {
    pub(super) fn run(self, screen: &Screen) -> Result {
        let text = std::fs::read(&self.vectors).map_err(|e| Failure::unreadable(&self.vectors, &e))?;
        let vectors: Vec<Value> = serde_json::from_slice(&text).map_err(|e| {
            Failure::failed(format!("`{}` is no JSON array of vectors: {e}", self.vectors.display()))
        })?;
        let mut lines = String::new();
        for vector in &vectors {
            let line = serde_json::to_string(&judge(vector)).expect("five plain fields are JSON");
            writeln!(lines, "{line}").expect("a String takes all text");
        }
        screen.data(&lines)?;
        Ok(Ended::Well)
    }
}
