//! Run: the daemon, in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::{ConfigFiles, Ended, Result, setup};
use crate::app;
use crate::config::{Flag, Request};

/// Run the daemon until SIGTERM or Ctrl-C, then let what runs end.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore run
  longshore run --config config.yaml --config local.yaml --listen 127.0.0.1:8443")]
pub(super) struct Run {
    #[command(flatten)]
    files: ConfigFiles,
    /// Takes the place of the one that every other command has: a daemon prints no data.
    #[arg(long, hide = true)]
    json: bool,
    /// Listen here, instead of on `server.listen`.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Keep events here, instead of in `store.path`.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Run {
    pub(super) fn run(self) -> Result {
        if self.json {
            return Err(Failure::Usage("`longshore run` prints no data, so it has no --json".to_owned()));
        }
        start(&self.request())
    }

    fn request(&self) -> Request {
        let flag = |name: &str, key: &str, value: Option<String>| {
            value.map(|value| Flag { name: name.to_owned(), key: key.to_owned(), value: value.into() })
        };
        let data_dir = self.data_dir.as_ref().map(|dir| dir.display().to_string());
        let listen = flag("--listen", "server.listen", self.listen.map(|address| address.to_string()));
        let flags = listen.into_iter().chain(flag("--data-dir", "store.path", data_dir)).collect();
        Request { flags, ..setup::request(&self.files.config) }
    }
}

/// From here on the process is the daemon, which says itself why it ends.
fn start(request: &Request) -> Result {
    Ok(if app::run(request) { Ended::Well } else { Ended::Badly })
}
