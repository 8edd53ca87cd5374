//! `cargo xtask fuzz`: coverage-guided fuzzing of verification, by libFuzzer and the stable toolchain.
//!
//! `fuzz/` is compiled with the compiler's coverage counters, which takes no nightly: they are an LLVM pass. What it
//! finds stays below the target directory: a corpus that the next run goes on from, the inputs that broke something,
//! and those that took longest. The latter are run again at the end as what ships is compiled, for their true times.

use std::collections::VecDeque;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::charge::Charge;
use crate::interrupt::Interrupts;
use crate::steps::{Steps, show, span};
use crate::workspace::Workspace;
use crate::{OrTrouble as _, Result, Trouble};

/// Fuzz verification for a while: no panic, no forgery, no slow input. Needs a C++ compiler.
#[derive(Args)]
pub(crate) struct Fuzz {
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    minutes: u64,
    /// Of the changes that are tried. Default: a new one, which is printed.
    #[arg(long, value_name = "S")]
    seed: Option<u32>,
    /// Forget the corpus of earlier runs.
    #[arg(long)]
    anew: bool,
}

/// What counts edges and comparisons; `cargo fuzz` sets the same.
const COVERAGE: [&str; 9] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "--cfg=fuzzing",
];
/// A case is laid out by some hundred bytes; large bodies are repetitions.
const INPUT_BYTES_MAX: usize = 2048;
/// A run that takes longer is an error by itself.
const HANG: Duration = Duration::from_secs(5);
const GRACE: Duration = Duration::from_secs(10);
/// Lines of the fuzzer that are shown where it ends badly.
const LAST_LINES: usize = 40;
const PROGRESS: Duration = Duration::from_secs(60);

struct Site {
    workspace: Workspace,
    /// Where everything that is found lies.
    folder: PathBuf,
    host: String,
}

impl Fuzz {
    pub(crate) fn run(self, interrupts: &Interrupts) -> Result<ExitCode> {
        let site = Site::open(self.anew)?;
        let mut steps = Steps::new(interrupts, 4);
        steps.run(
            "the fuzzer",
            &mut site.build(&["--release", "--bin", "verify", "--features", "engine"], true),
        )?;
        steps.run(
            "the same without counters",
            &mut site.build(&["--profile", "timed", "--bin", "replay"], false),
        )?;
        let seed = self.seed.unwrap_or_else(|| std::process::id().max(1));
        let said = steps.step(&format!("{} minutes, seed {seed}", self.minutes), |interrupts| {
            site.fuzz(self.minutes, seed, interrupts)
        })?;
        let slowest = site.slowest(&mut steps)?;
        let counts = fs::read_to_string(site.folder.join("counts.json")).unwrap_or_default();
        let counts: Value = serde_json::from_str(&counts).unwrap_or_default();
        let result = json!({"minutes": self.minutes, "seed": seed, "said": said.facts, "counts": counts, "slowest": slowest});
        let path = site.folder.join("result.json");
        let text = serde_json::to_string_pretty(&result).expect("a value is JSON") + "\n";
        fs::write(&path, text).or_trouble("the result cannot be written")?;
        print!("{}", summary(&result));
        println!("{}", site.workspace.shown(&path));
        if said.ended_well {
            return Ok(ExitCode::SUCCESS);
        }
        println!("{}", said.last.iter().cloned().collect::<Vec<_>>().join("\n"));
        println!("the fuzzer found something; the input is in {}", site.workspace.shown(&site.folder));
        Ok(ExitCode::FAILURE)
    }
}

impl Site {
    fn open(anew: bool) -> Result<Site> {
        let workspace = Workspace::find()?;
        let folder = workspace.target.join("fuzz/found");
        if anew {
            let _ = fs::remove_dir_all(&folder);
        }
        // Times of another build say nothing of this one.
        let _ = fs::remove_dir_all(folder.join("slowest"));
        fs::create_dir_all(folder.join("corpus")).or_trouble("the folder of the corpus cannot be made")?;
        Ok(Site { workspace, folder, host: host()? })
    }

    fn target(&self) -> PathBuf {
        self.workspace.target.join("fuzz")
    }

    /// The target is named, so that the flags are not those of build scripts and macros too.
    fn build(&self, which: &[&str], counted: bool) -> Command {
        let mut cargo = self.workspace.cargo();
        cargo.args(["build", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--target", &self.host]);
        cargo.arg("--target-dir").arg(self.target()).args(which);
        // Nobody's own flags: what is measured is what is written here.
        cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        if counted {
            cargo.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
        }
        cargo
    }

    fn program(&self, profile: &str, name: &str) -> PathBuf {
        self.target().join(&self.host).join(profile).join(name)
    }

    fn fuzz(&self, minutes: u64, seed: u32, interrupts: &Interrupts) -> Result<Said> {
        let mut command = Command::new(self.program("release", "verify"));
        command.env("LONGSHORE_FUZZ", &self.folder);
        command.arg(self.folder.join("corpus"));
        command.arg(format!("-max_total_time={}", minutes * 60)).arg(format!("-seed={seed}"));
        command.arg(format!("-max_len={INPUT_BYTES_MAX}")).arg(format!("-timeout={}", HANG.as_secs()));
        command.arg(format!("-artifact_prefix={}/", self.folder.display()));
        command.args(["-print_final_stats=1", "-use_value_profile=1", "-rss_limit_mb=2048"]);
        eprintln!("      {}", show(&command));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut charge = Charge::start("the fuzzer", &mut command, GRACE)?;
        let stderr = charge.child().stderr.take().expect("it was piped");
        let reader = std::thread::spawn(move || Said::read(BufReader::new(stderr)));
        let status = interrupts.until(|| charge.ended()).ok_or_else(Interrupts::interrupted)?;
        let mut said = reader.join().map_err(|_| Trouble::new("what the fuzzer says cannot be read"))?;
        said.ended_well = status.success();
        Ok(said)
    }

    /// The kept inputs with their times, the slowest first.
    fn slowest(&self, steps: &mut Steps<'_>) -> Result<Vec<Value>> {
        let files = fs::read_dir(self.folder.join("slowest")).into_iter().flatten().flatten();
        let mut command = Command::new(self.program("timed", "replay"));
        command.args(files.map(|file| file.path()));
        let lines = steps.run_for_output("the slowest, as what ships is compiled", &mut command)?;
        let mut slowest: Vec<Value> =
            lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        slowest.sort_by(|a, b| number(b, "median_us").total_cmp(&number(a, "median_us")));
        Ok(slowest)
    }
}

/// This machine as the compiler names it.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().or_trouble("rustc cannot be started")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Trouble::new("`rustc -vV` names no host"))
}

// === what it says ===

#[derive(Default)]
struct Said {
    facts: Value,
    last: VecDeque<String>,
    ended_well: bool,
}

impl Said {
    /// Shows a line of progress now and then.
    fn read(stderr: impl std::io::BufRead) -> Said {
        let mut said = Said { facts: json!({}), ..Said::default() };
        let mut shown = Instant::now();
        for line in stderr.lines().map_while(|line| line.ok()) {
            said.note(&line);
            if line.starts_with('#') && shown.elapsed() > PROGRESS {
                shown = Instant::now();
                eprintln!("      {line}");
            }
            said.last.push_back(line);
            if said.last.len() > LAST_LINES {
                said.last.pop_front();
            }
        }
        said
    }

    /// `#1024 NEW cov: 12 ft: 34 corp: 5/67b …`, and `stat::number_of_executed_units: 1024` at the end.
    fn note(&mut self, line: &str) {
        if let Some((name, value)) = line.strip_prefix("stat::").and_then(|line| line.split_once(':')) {
            if let Ok(value) = value.trim().parse::<u64>() {
                self.facts[name] = value.into();
            }
            return;
        }
        if !line.starts_with('#') {
            return;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            let name = match pair[0] {
                "cov:" => "edges",
                "ft:" => "features",
                "corp:" => "corpus",
                _ => continue,
            };
            let digits = pair[1].split('/').next().unwrap_or_default();
            if let Ok(value) = digits.parse::<u64>() {
                self.facts[name] = value.into();
            }
        }
    }
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_default()
}

fn summary(result: &Value) -> String {
    const ROWS: usize = 10;
    let said = &result["said"];
    let runs = said["number_of_executed_units"].as_u64().unwrap_or_default();
    let mut text = format!(
        "\n{runs} requests in {}: {} edges, {} features, a corpus of {}\n",
        span(Duration::from_secs(result["minutes"].as_u64().unwrap_or_default() * 60)),
        said["edges"],
        said["features"],
        said["corpus"]
    );
    text += &format!("of the first {}: {}\n", result["counts"]["runs"], result["counts"]["ends"]);
    for slow in result["slowest"].as_array().into_iter().flatten().take(ROWS) {
        text += &format!(
            "{:>9.0} us  {:>8} bytes  {:<11} {} {}\n",
            number(slow, "median_us"),
            slow["body_bytes"].as_u64().unwrap_or_default(),
            slow["end"].as_str().unwrap_or_default(),
            slow["preset"].as_str().unwrap_or("-"),
            Path::new(slow["file"].as_str().unwrap_or_default())
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_fuzzer_says_is_read() {
        let lines = "INFO: Seed: 7\n#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 30Mb\n\
            #4096\tNEW    cov: 1200 ft: 3400 corp: 56/7Kb lim: 40 exec/s: 9 rss: 44Mb L: 3/9 MS: 1\n\
            #5000\tDONE   cov: 1201 ft: 3401 corp: 57/7Kb lim: 40 exec/s: 9 rss: 44Mb\n\
            stat::number_of_executed_units: 5000\nstat::peak_rss_mb:              44\n";
        let said = Said::read(lines.as_bytes());
        assert_eq!(
            said.facts,
            json!({"edges": 1201, "features": 3401, "corpus": 57, "number_of_executed_units": 5000, "peak_rss_mb": 44})
        );
        assert_eq!(said.last.len(), 6);
    }

    #[test]
    fn the_summary_has_the_slowest_first() {
        let result = json!({
            "minutes": 30, "said": {"number_of_executed_units": 12, "edges": 3, "features": 4, "corpus": 5},
            "counts": {"runs": 8, "ends": {"Genuine": 8}},
            "slowest": [{"median_us": 912.4, "body_bytes": 1_048_576, "end": "Genuine", "preset": "slack", "file": "a/b"}],
        });
        let text = summary(&result);
        assert!(text.contains("12 requests in 30 min 00 s: 3 edges, 4 features, a corpus of 5"), "{text}");
        assert!(text.contains("912 us   1048576 bytes  Genuine     slack b"), "{text}");
    }
}
