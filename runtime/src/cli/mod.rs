//! Cli: the command line. One file for each subcommand; data goes to stdout, talk to stderr.
//!
//! The daemon owns the store, so whatever asks for history asks the daemon, over the socket in its data
//! directory. What is not here: what is true (the rooms below), only how a person asks for it and sees it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

mod config;
mod daemon;
mod deliveries;
mod events;
mod failure;
mod handlers;
mod https;
mod payload;
mod plugin;
mod presets;
mod rerun;
mod run;
mod screen;
mod send;
mod setup;
mod sources;
mod store;
mod table;
mod times;
mod verify;

use failure::Failure;
use screen::Screen;

const DEFAULT_CONFIG: &str = "config.yaml";

const EXIT_CODES: &str = "\
Exit codes:
  0  it was done
  1  it failed, or problems were found
  2  the command line is wrong
  3  no daemon answers

Data goes to stdout, everything else to stderr. NO_COLOR turns colours off.";

/// An integration runtime for webhooks: verifies, stores durably, and carries each event to WASM handlers.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, after_help = EXIT_CODES, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// Print JSON on stdout, times in milliseconds since the epoch.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    #[command(subcommand)]
    Config(config::Config),
    Check(config::Check),
    Send(send::Send),
    #[command(subcommand)]
    Events(events::Events),
    #[command(subcommand)]
    Deliveries(deliveries::Deliveries),
    #[command(subcommand)]
    Sources(sources::Sources),
    #[command(subcommand)]
    Handlers(handlers::Handlers),
    #[command(subcommand)]
    Store(store::Store),
    Verify(verify::Verify),
    #[command(subcommand)]
    Presets(presets::Presets),
    #[command(subcommand)]
    Plugin(plugin::Plugin),
}

/// How a command ended that did what it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Well,
    /// It found problems, and has said which.
    Badly,
}

type Result<T = Ended> = std::result::Result<T, Failure>;

/// Which files make the configuration.
#[derive(Clone, Debug, Args)]
struct ConfigFiles {
    /// Configuration file; may be repeated, later ones win.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: Vec<PathBuf>,
}

/// What `main` does.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let screen = Screen::of_process(cli.json);
    match cli.command.run(&screen) {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Badly) => ExitCode::from(1),
        Err(failure) => failure.tell(&screen),
    }
}

impl Command {
    fn run(self, screen: &Screen) -> Result {
        match self {
            Command::Run(run) => run.run(),
            Command::Config(config) => config.run(screen),
            Command::Check(check) => check.run(screen),
            Command::Send(send) => wait_for(send.run(screen)),
            Command::Events(events) => wait_for(events.run(screen)),
            Command::Deliveries(deliveries) => wait_for(deliveries.run(screen)),
            Command::Sources(sources) => wait_for(sources.run(screen)),
            Command::Handlers(handlers) => wait_for(handlers.run(screen)),
            Command::Store(store) => wait_for(store.run(screen)),
            Command::Verify(verify) => verify.run(screen),
            Command::Presets(presets) => presets.run(screen),
            Command::Plugin(plugin) => plugin.run(screen),
        }
    }
}

/// One thread is enough for a command that asks and waits.
fn wait_for<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Failure::failed(format!("this machine gives no event loop: {e}")))?.block_on(work)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use clap::{Command, CommandFactory as _};

    use super::*;

    /// What a reader of the help sees, by file name.
    fn pages(command: &mut Command, path: &str, into: &mut BTreeMap<String, String>) {
        let page = command.render_long_help().to_string();
        let lines: Vec<_> = page.lines().map(str::trim_end).collect();
        into.insert(format!("{path}.txt"), lines.join("\n") + "\n");
        for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
            let path = format!("{path}-{}", sub.get_name());
            pages(sub, &path, into);
        }
    }

    fn all_pages() -> BTreeMap<String, String> {
        let mut command = Cli::command().term_width(100);
        command.build();
        let mut all = BTreeMap::new();
        pages(&mut command, "longshore", &mut all);
        all
    }

    /// After a change that is meant: run with UPDATE_SNAPSHOTS=1 and read the difference.
    #[test]
    fn help_reads_as_it_did() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/help");
        let pages = all_pages();
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            pages.iter().for_each(|(name, page)| fs::write(folder.join(name), page).unwrap());
        }
        let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let found: BTreeMap<_, _> = entries
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs::read_to_string(&path).unwrap())
            })
            .collect();
        assert_eq!(found.keys().collect::<Vec<_>>(), pages.keys().collect::<Vec<_>>());
        for (name, page) in &pages {
            assert_eq!(found[name], *page, "{name}");
        }
        assert!(pages.len() > 20, "{}", pages.len());
    }

    #[test]
    fn every_command_that_does_something_has_an_example() {
        let mut command = Cli::command();
        command.build();
        let mut folders = vec![&command];
        let mut commands = 0;
        while let Some(folder) = folders.pop() {
            for sub in folder.get_subcommands().filter(|sub| sub.get_name() != "help") {
                if sub.has_subcommands() {
                    folders.push(sub);
                    continue;
                }
                let after = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(
                    after.contains(&format!("longshore {}", sub.get_name()))
                        || after.contains(sub.get_name()),
                    "{}",
                    sub.get_name()
                );
                assert!(after.starts_with("Example"), "{}", sub.get_name());
                commands += 1;
            }
        }
        assert!(commands > 14, "{commands}");
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
