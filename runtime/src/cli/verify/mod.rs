//! Verify: judges requests that were written down: recorded vectors by the schemes that ship, and one captured request
//! by a source of the configuration, with every step told.

use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use super::screen::Screen;
use super::times::moment_argument;
use super::{ConfigFiles, Ended, Result};
use crate::words::event::Name;
use crate::words::limits::CAPTURE_BYTES_MAX;
use crate::words::time::Millis;

mod as_sample;
mod capture;
mod explained;
mod vectors;

/// Say why a request is genuine or not, step by step; or judge recorded vectors.
///
/// With --source and --request: a captured request is judged by the scheme and the secrets of a source. The capture
/// is the output of `curl -v`, a HAR file or raw HTTP/1.1; which one shows in the file. Told are: what was found where,
/// what is signed, which secret was tried, and where nothing matches, the first thing that differs. No signature
/// that was computed is ever printed, and no secret. Ends with 0 where the request is genuine, with 1 where not. One
/// that is genuine and old ends with 0 too, unless --now says at which time it is judged.
///
/// With --vectors: the file is a JSON array; each vector names a preset, a secret, a request and the time at which it is
/// judged. One JSON object a line comes out: id, valid, reason, event_id, event_type; valid is null where the preset
/// does not exist. How many are as they are marked is said on stderr; ends with 1 where one is not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  longshore verify --source acme --request request.http
  curl -v … 2>&1 | longshore verify --source acme --request - --body body.json
  longshore verify --source acme --request page.har --entry 3 --as-sample >> config.yaml
  longshore verify --vectors vectors.json | jq -c 'select(.valid == false)'")]
pub(super) struct Verify {
    /// The file with the vectors.
    #[arg(long, value_name = "FILE", required_unless_present = "source", conflicts_with = "source")]
    vectors: Option<PathBuf>,
    #[command(flatten)]
    explain: Explain,
}

/// One captured request and what judges it.
#[derive(Debug, Args)]
struct Explain {
    /// A source of the configuration.
    #[arg(long, value_name = "NAME", requires = "request")]
    source: Option<Name>,
    /// The captured request; `-` reads stdin.
    #[arg(long, value_name = "FILE", requires = "source")]
    request: Option<PathBuf>,
    /// The body's exact bytes, where the capture does not hold them.
    #[arg(long, value_name = "FILE", requires = "source")]
    body: Option<PathBuf>,
    /// Which request of a capture that holds several, from 1.
    #[arg(long, value_name = "N", requires = "source")]
    entry: Option<usize>,
    /// Another secret than those of the source: `env:NAME` or `file:PATH`.
    #[arg(long, value_name = "REF", requires = "source")]
    secret_from: Option<String>,
    /// Judge the request's age at this time (`2026-11-24T06:00:00Z`, `1h` ago, Unix seconds) instead of now.
    #[arg(long, value_name = "TIME", requires = "source", value_parser = time_argument)]
    now: Option<Millis>,
    /// Print the request as a `sample:` of the source, signed anew with a secret that is used nowhere else.
    #[arg(long, requires = "source")]
    as_sample: bool,
    #[command(flatten)]
    files: ConfigFiles,
}

impl Verify {
    pub(super) fn run(self, screen: &Screen) -> Result {
        match (&self.vectors, &self.explain.source, &self.explain.request) {
            (Some(file), ..) => vectors::run(file, screen),
            (None, Some(source), Some(request)) => self.explain.run(source, request, screen),
            _ => Err(Failure::Usage("type `--source NAME --request FILE`, or `--vectors FILE`".to_owned())),
        }
    }
}

impl Explain {
    fn run(&self, source: &Name, request: &Path, screen: &Screen) -> Result {
        let aside = capture::Aside { body: self.body.as_deref().map(read).transpose()?, entry: self.entry };
        let text = read(request)?;
        let capture = capture::Capture::read(&text, aside)
            .map_err(|why| Failure::failed(format!("`{}`: {why}", request.display())))?;
        let now = self.now.unwrap_or_else(Millis::now);
        let asked = explained::Asked {
            files: &self.files.config,
            source,
            secret_from: self.secret_from.as_deref(),
            now,
        };
        let known = asked.known()?;
        if self.as_sample {
            return as_sample::run(&known, &capture, screen);
        }
        let explanation = known.explain(&capture)?;
        explained::show(&known, &capture, &explanation, screen)?;
        Ok(if explained::is_well(&explanation, self.now.is_some()) { Ended::Well } else { Ended::Badly })
    }
}

/// Unix seconds or milliseconds, or whatever else is a time on this command line.
fn time_argument(text: &str) -> std::result::Result<Millis, String> {
    let number = || text.parse::<u64>().map_err(|_| format!("`{text}` is no time"));
    match text.len() {
        1..=11 if text.bytes().all(|b| b.is_ascii_digit()) => number().map(Millis::from_seconds),
        12..=14 if text.bytes().all(|b| b.is_ascii_digit()) => number().map(Millis),
        _ => moment_argument(text),
    }
}

/// A file, or stdin for `-`.
fn read(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let most = CAPTURE_BYTES_MAX as u64 + 1;
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    read.map_err(|e| Failure::unreadable(path, &e))?;
    if bytes.len() > CAPTURE_BYTES_MAX {
        return Err(Failure::failed(format!(
            "`{}` is longer than {CAPTURE_BYTES_MAX} bytes; cut it down to the request",
            path.display()
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_typed_in_any_way() {
        assert_eq!(time_argument("1790000000"), Ok(Millis(1_790_000_000_000)));
        assert_eq!(time_argument("1790000000123"), Ok(Millis(1_790_000_000_123)));
        assert_eq!(time_argument("2026-09-21T14:13:20Z"), Ok(Millis(1_790_000_000_000)));
        assert!(time_argument("1h").unwrap() < Millis::now());
        assert!(time_argument("yesterday").unwrap_err().contains("type how long ago"));
    }

    #[test]
    fn a_file_that_is_too_long_or_not_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert!(read(&path).unwrap_err().to_string().contains("cannot be read"));
        std::fs::File::create(&path).unwrap().set_len(CAPTURE_BYTES_MAX as u64 + 1).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("is longer than"));
        std::fs::File::create(&path).unwrap().set_len(CAPTURE_BYTES_MAX as u64).unwrap();
        assert_eq!(read(&path).unwrap().len(), CAPTURE_BYTES_MAX);
    }
}
