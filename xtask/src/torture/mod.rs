//! `cargo xtask torture`: the promise, under every death that the daemon can die.
//!
//! `--kill N` ends the real daemon with SIGKILL under load, starts it again on the same directory, and lays three
//! lists beside each other: what the senders were answered, what the ledger says, what the receivers got (`book`
//! has the rules). Some starts find no index, some are killed before they are ready. `--simulate N` runs the
//! store's own simulation, which knows what no process can be made to see: power cuts.
//!
//! What is not here: full disks, read-only disks, wrong clocks. Those are tests, in `tests/faults.rs`.

mod book;
mod dice;
mod life;
mod receivers;
mod senders;
mod simulate;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use crate::interrupt::Interrupts;
use crate::plugins::{self, Which};
use crate::steps::{Steps, span};
use crate::workspace::{Workspace, ensure_wasm_target};
use crate::{OrTrouble as _, Result, Trouble};
use book::{Book, Difference, HANDLERS};
use dice::Dice;
use life::{Life, Place};
use senders::Senders;

/// Kill the daemon under load, or simulate its disk, and see that nothing was lost and nothing done twice.
#[derive(Args)]
pub(crate) struct Torture {
    /// Kill the real daemon so many times.
    #[arg(long, value_name = "N", required_unless_present = "simulate", conflicts_with = "simulate")]
    kill: Option<u32>,
    /// Run the simulation of the store for so many seeds.
    #[arg(long, value_name = "N")]
    simulate: Option<u64>,
    /// Of `--kill` the plan of the run, of `--simulate` the first seed. Default: a new one.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Where the daemon's data lies meanwhile. Default: below the target directory.
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Do not build: use the daemon in this directory.
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,
}

const PROGRESS_EVERY: u32 = 10;
/// How long everything may take to end when nobody kills any more.
const LAST_SETTLE: Duration = Duration::from_secs(120);
/// Rows of a page; the most that the daemon gives.
const PAGE: usize = 1000;

impl Torture {
    pub(crate) fn run(self, interrupts: &Interrupts) -> Result<ExitCode> {
        let workspace = Workspace::find()?;
        let seed = self.seed.map_or_else(random_seed, Ok)?;
        let count = if self.simulate.is_some() { 1 } else { 3 - usize::from(self.programs.is_some()) };
        let mut steps = Steps::new(interrupts, count);
        if let Some(seeds) = self.simulate {
            return simulate::run(&workspace, &mut steps, seeds, seed).map(|()| ExitCode::SUCCESS);
        }
        let kills = self.kill.unwrap_or_default();
        let (longshore, plugin) = self.programs(&workspace, &mut steps)?;
        let all = self.data.unwrap_or_else(|| workspace.target.join("torture"));
        let folder = all.join(std::process::id().to_string());
        fs::create_dir_all(&folder).or_trouble(format!("`{}` cannot be made", folder.display()))?;
        let found = steps.step(&format!("{kills} kills, seed {seed}"), |interrupts| {
            let mut run = Run::new(folder.clone(), longshore, plugin, seed)?;
            let found = run.all(kills, interrupts)?;
            println!("{}", run.summary(kills, seed));
            Ok(found)
        });
        match found {
            Ok(None) => {
                // Whatever stays is only space.
                let _left = fs::remove_dir_all(&folder);
                println!("nothing was lost, and nothing was done twice that had ended");
                Ok(ExitCode::SUCCESS)
            }
            Ok(Some(difference)) => {
                println!("\n{difference}\nseed {seed}; the data is in {}", workspace.shown(&folder));
                Ok(ExitCode::FAILURE)
            }
            Err(trouble) => Err(Trouble::new(format!(
                "{trouble}\nseed {seed}; the data is in {}",
                workspace.shown(&folder)
            ))),
        }
    }

    /// The daemon and the handlers of the tests. The daemon is built with the bench: cargo chooses the features of
    /// common dependencies by the packages that are selected, and another choice would compile wasmtime twice.
    fn programs(&self, workspace: &Workspace, steps: &mut Steps<'_>) -> Result<(PathBuf, PathBuf)> {
        let folder = match &self.programs {
            Some(folder) => folder.canonicalize().or_trouble(format!("`{}`", folder.display()))?,
            None => {
                let mut cargo = workspace.cargo();
                cargo.args(["build", "--release", "--package", "longshore", "--package", "bench"]);
                steps.run("the daemon, optimised (the first time takes minutes)", &mut cargo)?;
                workspace.target.join("release")
            }
        };
        let files = steps.step("the plugins", |interrupts| {
            ensure_wasm_target(workspace, interrupts)?;
            plugins::build(workspace, Which::All, interrupts)
        })?;
        let plugin = files.into_iter().find(|file| file.ends_with("test_handlers.wasm"));
        let plugin = plugin.ok_or_else(|| Trouble::new("the handlers of the tests were not built"))?;
        Ok((folder.join("longshore"), plugin))
    }
}

fn random_seed() -> Result<u64> {
    use std::io::Read as _;
    let mut bytes = [0; 4];
    let read = fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes));
    read.or_trouble("this machine has no random numbers")?;
    Ok(u64::from(u32::from_le_bytes(bytes)))
}

// === a run ===

/// What the lives had behind them, in figures.
#[derive(Default)]
struct Deaths {
    kills: u32,
    in_startup: u32,
    clean_stops: u32,
    index_deleted: u32,
    index_rebuilt: u32,
    records_copied: u64,
    torn_bytes: u64,
    torn_tails: u32,
    segments_dropped: u64,
    start_ms: u64,
    start_ms_max: u64,
    opened: u32,
    journal_bytes: u64,
    journal_bytes_max: u64,
}

struct Run {
    place: Place,
    book: Arc<Mutex<Book>>,
    dice: Dice,
    deaths: Deaths,
    life: u32,
    /// From the start of a daemon to its open door; start-ups are killed within it.
    startup: Duration,
    begun: Instant,
}

/// How a life ends.
enum End {
    Killed,
    KilledInStartup,
    Stopped,
}

impl Run {
    fn new(folder: PathBuf, longshore: PathBuf, plugin: PathBuf, seed: u64) -> Result<Run> {
        let (book, mut dice) = (Arc::new(Mutex::new(Book::default())), Dice::new(seed));
        let receivers = receivers::open(&book, &mut dice)?;
        let place = Place { folder, longshore, plugin, receivers };
        let deaths = Deaths::default();
        let startup = Duration::from_millis(100);
        Ok(Run { place, book, dice, deaths, life: 0, startup, begun: Instant::now() })
    }

    /// The first difference, or none.
    fn all(&mut self, kills: u32, interrupts: &Interrupts) -> Result<Option<Difference>> {
        let mut told = 0;
        while self.deaths.kills < kills {
            if interrupts.heard() {
                eprintln!("      interrupted: no more kills; what there is is compared");
                break;
            }
            self.one_life()?;
            if let Some(difference) = self.book().difference() {
                return Ok(Some(difference.clone()));
            }
            if self.deaths.kills / PROGRESS_EVERY > told {
                told = self.deaths.kills / PROGRESS_EVERY;
                eprintln!("      {}", self.progress(kills));
            }
        }
        self.last_life()?;
        Ok(self.book().difference().cloned())
    }

    fn one_life(&mut self) -> Result {
        if self.life > 0 && self.dice.one_in(30) {
            self.deaths.index_deleted += 1;
            remove(&self.place.data().join("index"))?;
        }
        let end = match self.dice.between(0, 100) {
            // The first life compiles the plugin, and all later ones profit.
            _ if self.life == 0 => End::Killed,
            0..20 => End::KilledInStartup,
            20..24 => End::Stopped,
            _ => End::Killed,
        };
        let (mut life, started) = (self.start()?, Instant::now());
        if let End::KilledInStartup = end {
            let longest = u64::try_from(self.startup.as_millis()).unwrap_or(u64::MAX).clamp(20, 2000);
            thread::sleep(self.dice.milliseconds(0, longest));
            self.deaths.in_startup += 1;
            self.deaths.kills += 1;
            life.kill()?;
            return self.heard(&life);
        }
        let address = life.ready()?;
        // The first one is slow, and would only say that.
        if self.life > 1 {
            self.startup = (self.startup * 3 + started.elapsed()) / 4;
        }
        self.opened(&life);
        self.compare(&life, 2)?;
        let load = Senders::start(address, &self.book, &mut self.dice);
        thread::sleep(self.dice.milliseconds(20, 500));
        let ended = match end {
            End::Stopped => {
                self.deaths.clean_stops += 1;
                life.stop()
            }
            _ => {
                self.deaths.kills += 1;
                life.kill()
            }
        };
        load.end();
        ended?;
        self.heard(&life)
    }

    fn start(&mut self) -> Result<Life> {
        self.life += 1;
        self.place.start()
    }

    fn opened(&mut self, life: &Life) {
        let opened = life.opened();
        let deaths = &mut self.deaths;
        deaths.opened += 1;
        deaths.index_rebuilt += u32::from(opened.index_rebuilt);
        deaths.records_copied += opened.records_copied;
        deaths.torn_bytes += opened.torn_bytes;
        deaths.torn_tails += u32::from(opened.torn_bytes > 0);
        deaths.start_ms += opened.took_ms;
        deaths.start_ms_max = deaths.start_ms_max.max(opened.took_ms);
        deaths.journal_bytes = opened.journal_bytes;
        deaths.journal_bytes_max = deaths.journal_bytes_max.max(opened.journal_bytes);
    }

    /// What a life said before it ended.
    fn heard(&mut self, life: &Life) -> Result {
        self.deaths.segments_dropped += life.segments_dropped();
        if let Some(complaint) = life.complaint() {
            self.book().differs(complaint);
        }
        Ok(())
    }

    // === the comparison ===

    /// Reads what the ledger says of all that is not settled. One parked delivery of `one_in` is tried again.
    fn compare(&mut self, life: &Life, one_in: usize) -> Result {
        let Some(since) = self.book().oldest_unsettled_ms() else { return Ok(()) };
        // The daemon notes when it began to read a request: never long before it was sent.
        self.read_events(life, since.saturating_sub(1000))?;
        self.book().read_whole();
        self.ask_about_repeated(life)?;
        self.try_parked_again(life, one_in)
    }

    fn read_events(&mut self, life: &Life, since: u64) -> Result {
        let mut cursor = String::new();
        loop {
            let page = life.get(&format!("/events?since={since}&limit={PAGE}{cursor}"))?;
            self.book().listed(rows(&page));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(()),
            }
        }
    }

    fn ask_about_repeated(&mut self, life: &Life) -> Result {
        let repeated = self.book().take_repeated();
        for repeated in repeated {
            let target = format!("/deliveries/{}.{}", repeated.event, repeated.handler);
            let history = life.get(&target)?;
            if let Err(difference) = repeated.judge(&history) {
                self.book().differs(difference);
            }
        }
        Ok(())
    }

    /// The operator: what three kills in a row have parked is tried again.
    fn try_parked_again(&mut self, life: &Life, one_in: usize) -> Result {
        let parked = life.get(&format!("/deliveries?status=parked&limit={PAGE}"))?;
        for row in rows(&parked) {
            if self.dice.one_in(one_in) {
                let delivery = row["delivery"].as_str().unwrap_or_default();
                let (status, answer) = life.ask("POST", &format!("/deliveries/{delivery}/retry"))?;
                if status != 200 {
                    self.book()
                        .differs(format!("`deliveries retry {delivery}` is answered {status}: {answer}"));
                }
                self.book().figures.parked += 1;
            }
        }
        Ok(())
    }

    // === the end ===

    /// Nobody kills any more: everything ends, and is compared whole.
    fn last_life(&mut self) -> Result {
        let mut life = self.start()?;
        let address = life.ready()?;
        self.opened(&life);
        let started = Instant::now();
        loop {
            self.compare(&life, 1)?;
            let unended = self.book().unended();
            match unended {
                None => break,
                Some(unended) if started.elapsed() > LAST_SETTLE => {
                    self.book().differs(format!("{unended} after {} s", LAST_SETTLE.as_secs()));
                    break;
                }
                Some(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
        // Everything that retention has left, from the beginning.
        self.read_events(&life, 0)?;
        self.compare_counters(&life, address)?;
        life.stop()?;
        self.heard(&life)
    }

    /// Each handler added one to its counter, on its shelf, for each event: as often as there are events, whatever
    /// was killed, repeated, copied forward and dropped meanwhile.
    fn compare_counters(&mut self, life: &Life, address: std::net::SocketAddr) -> Result {
        let mut stream = senders::connect(address).or_trouble("the door does not open")?;
        let event = br#"{"eventId":"counters","eventType":"job.count-state","data":{}}"#;
        if senders::post(&mut stream, senders::SECRET, event) != Some(200) {
            return Err(Trouble::new("the last event was not answered 200"));
        }
        let events = self.book().wanted_in_ledger();
        let started = Instant::now();
        for handler in HANDLERS {
            let counted = loop {
                let page =
                    life.get(&format!("/deliveries?type=job.count-state&handler={handler}&limit=1"))?;
                let row = rows(&page).first().cloned().unwrap_or_default();
                if row["status"] == "done" || started.elapsed() > LAST_SETTLE {
                    break row["message"].as_str().and_then(|sum| sum.parse::<u64>().ok());
                }
                thread::sleep(Duration::from_millis(20));
            };
            // Itself included.
            if counted != Some(events + 1) {
                let difference = format!(
                    "`{handler}` counted {counted:?} on its shelf, and there were {} events",
                    events + 1
                );
                self.book().differs(difference);
            }
        }
        Ok(())
    }

    // === what is told ===

    fn progress(&self, kills: u32) -> String {
        let (book, deaths) = (self.book(), &self.deaths);
        let figures = &book.figures;
        format!(
            "{:>5} of {kills} kills · {} answered, {} copies · {} calls, {} repeated · journal {} MiB · {:.2} s a kill",
            deaths.kills,
            figures.answers,
            figures.copies_answered,
            figures.calls,
            figures.calls_repeated,
            deaths.journal_bytes >> 20,
            self.begun.elapsed().as_secs_f64() / f64::from(deaths.kills.max(1)),
        )
    }

    fn summary(&self, kills: u32, seed: u64) -> String {
        let (book, deaths) = (self.book(), &self.deaths);
        let figures = &book.figures;
        let lines = [
            format!("seed {seed}: {} of {kills} kills in {}", deaths.kills, span(self.begun.elapsed())),
            format!(
                "kills: {} under load, {} in start-up; {} clean stops between them",
                deaths.kills - deaths.in_startup,
                deaths.in_startup,
                deaths.clean_stops
            ),
            format!(
                "senders: {} events answered 200, {} copies answered 200, {} forged ones refused, {} told to come back",
                figures.answers, figures.copies_answered, figures.forged_refused, figures.busy
            ),
            format!(
                "ledger: {} rows compared; {} events kept whose answer was lost, 0 answered ones lost, 0 twice",
                figures.compared, figures.kept_unanswered
            ),
            format!(
                "receivers: {} calls, {} refused on purpose, {} repeated after a kill in their attempt; {} deliveries \
                 parked and tried again",
                figures.calls, figures.calls_refused, figures.calls_repeated, figures.parked
            ),
            format!(
                "starts: {} records copied, {} torn tails ({} bytes) cut; index deleted {} times, built again {} times; \
                 {} ms on average, {} ms at most",
                deaths.records_copied,
                deaths.torn_tails,
                deaths.torn_bytes,
                deaths.index_deleted,
                deaths.index_rebuilt,
                deaths.start_ms / u64::from(deaths.opened.max(1)),
                deaths.start_ms_max
            ),
            format!(
                "disk: journal {} MiB at most, {} segments dropped by retention",
                deaths.journal_bytes_max >> 20,
                deaths.segments_dropped
            ),
        ];
        match book.difference() {
            None => format!("\n{}", lines.join("\n")),
            // The zeros above would not be true.
            Some(_) => format!("\n{}", lines[0]),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rows(page: &Value) -> &[Value] {
    page["rows"].as_array().map_or(&[], Vec::as_slice)
}

fn remove(folder: &Path) -> Result {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Trouble::new(format!("`{}` cannot be removed: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}
