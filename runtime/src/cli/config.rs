//! Config
use super::*;
#[derive(Debug, Subcommand)]
pub(super) enum Config { Check(Check) }
#[derive(Debug, Args)]
pub(super) struct Check { #[command(flatten)] files: ConfigFiles }
impl Config { pub(super) fn run(self, s: &Screen) -> Result { match self { Config::Check(c) => c.run(s) } } }
impl Check { pub(super) fn run(self, _: &Screen) -> Result { let _ = self.files; todo!() } }
