//! Config: judges the configuration before the daemon does, and describes it to an editor.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::daemon::{Daemon, Query};
use super::failure::Failure;
use super::screen::{Screen, Tone, clean};
use super::{ConfigFiles, Ended, Result, setup, wait_for};
use crate::admin::SOCKET_NAME;
use crate::admin::view::SourcesView;
use crate::app::{Examination, Known};
use crate::config::{self, Problem, Report, Severity};
use crate::words::event::Name;
use crate::words::secret::Fingerprint;
use crate::words::time::Millis;

/// Check the configuration, or print its schema.
#[derive(Debug, Subcommand)]
pub(super) enum Config {
    Check(Check),
    Schema(Schema),
}

/// Find everything wrong with the configuration at once: each problem with its place and what to type.
///
/// Reads what the daemon would read at its start: plugins, certificates, secrets. Also prints when each secret of
/// a source ends; when one was first seen below a newer one is asked of the daemon, where it runs. Ends with 1
/// where a problem is an error. `longshore check` is the same.
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
        let report = self.report()?;
        if screen.json {
            screen.print_json(&report)?;
        } else {
            screen.data(&text(&report, screen))?;
            screen.say(&verdict(&report));
        }
        Ok(if report.problems.errors() > 0 { Ended::Badly } else { Ended::Well })
    }

    fn report(&self) -> Result<Report> {
        let seen = seen(&self.files.config);
        let examination = Examination {
            request: &setup::request(&self.files.config),
            read_secrets: !self.no_secrets,
            cache: None,
            demoted_at: &|source, secret| seen.get(&(source.clone(), secret)).copied(),
            known: setup::data_dir(&self.files.config).map(|dir| Known::read(&dir)).unwrap_or_default(),
        };
        let examined = examination.run().map_err(|e| Failure::failed(e.to_string()))?;
        Ok(examined.report)
    }
}

/// What a running daemon knows of each secret's age. No daemon is no problem: then nothing is known.
pub(super) fn seen(files: &[PathBuf]) -> Seen {
    let Ok(data_dir) = setup::data_dir(files) else { return Seen::new() };
    let path = data_dir.join(SOCKET_NAME);
    let asked = wait_for(async {
        let mut daemon = Daemon::connect(&path, "").await?;
        daemon.get::<SourcesView>("/sources", &Query::default()).await
    });
    let sources = asked.map(|view| view.sources).unwrap_or_default();
    let secrets = sources.into_iter().flat_map(|source| {
        let name = source.name;
        source.secrets.into_iter().map(move |s| ((name.clone(), s.fingerprint), s.demoted_at))
    });
    secrets.filter_map(|(key, demoted_at)| Some((key, demoted_at?))).collect()
}

pub(super) type Seen = BTreeMap<(Name, Fingerprint), Millis>;

fn text(report: &Report, screen: &Screen) -> String {
    let problem = |problem: &Problem| {
        let tone = match problem.severity {
            Severity::Error => Tone::Bad,
            Severity::Warning => Tone::Waiting,
        };
        screen.paint(tone, &clean(&problem.to_string())) + "\n"
    };
    let mut text: String = report.problems.iter().map(problem).collect();
    for end in &report.secrets {
        text += &format!("{}\n", clean(&end.to_string()));
    }
    text
}

fn verdict(report: &Report) -> String {
    let count = |n: usize, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
    let (errors, warnings) = (report.problems.errors(), report.problems.warnings());
    match (errors, warnings) {
        (0, 0) => "the configuration is sound".to_owned(),
        (0, n) => format!("the configuration is sound, with {}", count(n, "warning")),
        (n, 0) => count(n, "error"),
        (n, m) => format!("{}, {}", count(n, "error"), count(m, "warning")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::setup::tests::configured;

    fn check(file: std::path::PathBuf, no_secrets: bool) -> Report {
        Check { files: ConfigFiles { config: vec![file] }, no_secrets }
            .report()
            .unwrap_or_else(|_| panic!("the engine starts"))
    }

    #[test]
    fn a_sound_configuration_prints_when_each_secret_ends() {
        let folder = tempfile::tempdir().unwrap();
        let file = configured(folder.path(), "standard-webhooks");
        let report = check(file, false);
        let text = text(&report, &Screen::plain());
        assert!(text.contains("has no end"), "{text}");
        assert_eq!(report.problems.errors(), 0, "{text}");
    }

    #[test]
    fn a_secret_that_is_not_there_is_a_problem_unless_none_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = configured(folder.path(), "standard-webhooks");
        std::fs::remove_file(folder.path().join("secret")).unwrap();
        let report = check(file.clone(), false);
        assert_eq!(report.problems.errors(), 1);
        assert!(verdict(&report).starts_with("1 error"), "{}", verdict(&report));
        assert!(
            text(&report, &Screen::plain()).contains("config.yaml:7:"),
            "{}",
            text(&report, &Screen::plain())
        );
        assert_eq!(check(file, true).problems.errors(), 0);
    }
}
