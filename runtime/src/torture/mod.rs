//! Torture: whether a handler can do harm by being killed. The room's face.
//!
//! A delivery is run in a simulated world, undisturbed, and then once for every place where it may be killed and for
//! every way in which a call of it may fail; each of these goes on until it ends, and what the services did is held
//! against the undisturbed run. `fixture` says what the delivery is, `world` simulates the services, `page` the ledger,
//! `run` leads a delivery to its end, `points` lists the disturbances, `judge` compares.
//!
//! What is not here: real services, real time, the daemon's own crash safety (`cargo xtask torture`).

mod fixture;
mod judge;
mod page;
mod points;
mod run;
mod world;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use serde::Serialize;

pub use self::fixture::Fixture;
pub use self::judge::FindingKind;
use self::judge::Follows;
use self::points::Point;
use self::run::{ATTEMPTS_APART, Bench, End, Plan, Run, Variation};
use crate::host::{Engine, Handler, Plugin, Problem};
use crate::words::digest::Digest;
use crate::words::event::Name;

/// What is known of a handler behind all its runs of one fixture.
#[derive(Clone, Debug, Serialize)]
pub struct Certificate {
    pub plugin: String,
    pub version: String,
    pub digest: Digest,
    pub fixture: String,
    /// What the undisturbed run did, in order: `POST https://…`.
    pub effects: Vec<String>,
    pub passed: u32,
    pub points: u32,
    /// Points by what disturbs them, in the order in which they come.
    pub kinds: Vec<Kind>,
    pub findings: Vec<Finding>,
    /// Calls that a service may do twice, where nobody knows what came of the first and it has no idempotency keys.
    pub may_repeat: Vec<Counted>,
    /// Calls that were refused in so many words, after which the handler was done without them.
    pub went_without: Vec<Counted>,
    /// Points at which the operator had to bring the delivery back or to say what became of a call.
    pub by_operator: u32,
    /// Every point, for CI.
    pub cases: Vec<Case>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Kind {
    pub kind: String,
    pub passed: u32,
    pub points: u32,
}

#[derive(Clone, Debug, Serialize)]
pub struct Counted {
    pub call: String,
    pub points: u32,
}

/// The same trouble with the same call, at one or more points.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub finding: FindingKind,
    /// `POST https://…`; empty where it is about no call.
    pub call: String,
    pub says: String,
    /// What to change.
    pub change: String,
    /// The names of the points.
    pub at: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Case {
    pub kind: String,
    pub name: String,
    /// Why it did not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Certificate {
    pub fn is_safe(&self) -> bool {
        self.passed == self.points && self.points > 0
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}", told(.0))]
    Unfit(Vec<Problem>),
    #[error("{0}")]
    Undisturbed(String),
}

fn told(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("{}: {}", problem.key, problem.message))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A plugin, and the same code in other bytes, as an update that changes nothing has it.
pub struct Subject {
    engine: Engine,
    plugin: Plugin,
    other: Plugin,
}

impl Subject {
    /// `path` is where the bytes are from. Blocking, it compiles.
    ///
    /// # Errors
    /// They are no plugin.
    pub fn new(engine: &Engine, path: &Path, bytes: Vec<u8>) -> Result<Subject, crate::host::Error> {
        let mut other = bytes.clone();
        other.extend_from_slice(NOTHING);
        let plugin = engine.load_bytes(path, bytes)?;
        Ok(Subject { engine: engine.clone(), plugin, other: engine.load_bytes(path, other)? })
    }

    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Must run on the guests' runtime. `name`: the handler's; `file`: the fixture's; `body`: of the event, where it is
    /// in a file of its own.
    ///
    /// # Errors
    /// The fixture does not fit the plugin, or its undisturbed run does not end well.
    pub async fn certify(
        &self,
        name: Name,
        (file, fixture): (&str, &Fixture),
        body: Option<Bytes>,
    ) -> Result<Certificate, Error> {
        let mut bench = self.bench(name, fixture, body)?;
        let base = bench.run(&Plan::default()).await;
        check(&base.end)?;
        let own = fixture.other_delivery();
        bench.others = if own.is_empty() { bench.others_of(&base.txn) } else { own };
        let follows = Follows { base: &base, probes: probes(&bench).await };
        let changed = follows.probes.iter().find(|(name, _)| *name == THE_SHELF).map(|(_, run)| run);
        let changed = changed.filter(|run| run.end == End::Settled);
        let mut variations = vec![Variation::Nothing, Variation::Attempt, Variation::Plugin];
        variations.extend(changed.map(|_| Variation::Shelf));
        let mut tally = Tally::default();
        for point in points::all(&base, &bench.rules, &variations) {
            let run = bench.run(&point.plan).await;
            let is_like_changed = point.plan.variation == Variation::Shelf;
            let like: Vec<&Run> = [&base].into_iter().chain(changed.filter(|_| is_like_changed)).collect();
            let verdict = judge::judge(&like, &run, &point, &follows);
            tally.take(point, &run, verdict);
        }
        Ok(tally.certificate(self.plugin(), file, judge::calls_of(&base)))
    }

    fn bench(&self, name: Name, fixture: &Fixture, body: Option<Bytes>) -> Result<Bench, Error> {
        let bind = |plugin: &Plugin| {
            let grants = fixture.grants_for(name.clone(), plugin.manifest());
            Handler::bind(&self.engine, plugin.clone(), grants)
                .map(|(handler, _)| handler)
                .map_err(Error::Unfit)
        };
        Ok(Bench {
            handler: bind(&self.plugin)?,
            other: bind(&self.other)?,
            event: fixture.event(body),
            shelf: fixture.shelf(),
            others: BTreeMap::new(),
            rules: fixture.world.clone().into(),
        })
    }
}

/// A custom section of a component, named `t` and empty.
const NOTHING: &[u8] = &[0, 2, 1, b't'];

const THE_SHELF: &str = "the shelf";

/// Undisturbed runs in which one thing is different, to find what the handler's calls depend on.
async fn probes(bench: &Bench) -> Vec<(&'static str, Run)> {
    let plan = Plan::default;
    let mut plans = vec![
        ("the attempt's number", Plan { attempts_before: ATTEMPTS_APART, ..plan() }),
        ("the clock", Plan { later_ms: 3_600_000, ..plan() }),
        ("random numbers", Plan { seed: 1, ..plan() }),
    ];
    if !bench.others.is_empty() {
        plans.push((THE_SHELF, Plan { is_shelf_changed: true, ..plan() }));
    }
    let mut probes = Vec::new();
    for (name, plan) in plans {
        probes.push((name, bench.run(&plan).await));
    }
    probes
}

fn check(end: &End) -> Result<(), Error> {
    let why = match end {
        End::Settled => return Ok(()),
        End::Changed(asked) => format!(
            "{} {} is another call in each attempt; give it a `key`, the same in every attempt",
            asked.method, asked.place
        ),
        End::Stuck(why) => format!("it does not end well: {why}; its world must lead to done or skipped"),
        End::Unanswered(call) => {
            let (method, url) = call.split_once(' ').unwrap_or((call, ""));
            format!(
                "no rule of the world answers {call}; type `- {{ method: {method}, url: \"{url}\" }}` below `world:`"
            )
        }
        End::TooManyPlaces => {
            "it asks the host for more than is simulated; give the fixture a smaller event".to_owned()
        }
    };
    Err(Error::Undisturbed(format!("the undisturbed run: {why}")))
}

// === the sum ===

#[derive(Default)]
struct Tally {
    kinds: Vec<Kind>,
    findings: Vec<Finding>,
    may_repeat: BTreeMap<String, u32>,
    went_without: BTreeMap<String, u32>,
    by_operator: u32,
    cases: Vec<Case>,
}

impl Tally {
    fn take(&mut self, point: Point, run: &Run, verdict: judge::Verdict) {
        let told: Vec<String> = verdict.findings.iter().map(judge::Finding::told).collect();
        self.count(point.kind, told.is_empty());
        self.by_operator += u32::from(run.is_by_operator);
        verdict.may_repeat.into_iter().for_each(|call| *self.may_repeat.entry(call).or_default() += 1);
        verdict.went_without.into_iter().for_each(|call| *self.went_without.entry(call).or_default() += 1);
        verdict.findings.into_iter().for_each(|finding| self.find(finding, &point.name));
        let failure = (!told.is_empty()).then(|| told.join("\n"));
        self.cases.push(Case { kind: point.kind.to_owned(), name: point.name, failure });
    }

    fn count(&mut self, kind: &str, has_passed: bool) {
        let at = self.kinds.iter().position(|known| known.kind == kind).unwrap_or_else(|| {
            self.kinds.push(Kind { kind: kind.to_owned(), passed: 0, points: 0 });
            self.kinds.len() - 1
        });
        self.kinds[at].points += 1;
        self.kinds[at].passed += u32::from(has_passed);
    }

    fn find(&mut self, found: judge::Finding, point: &str) {
        let judge::Finding { kind, call, says, change } = found;
        let is_same =
            |known: &&mut Finding| known.finding == kind && known.call == call && known.change == change;
        match self.findings.iter_mut().find(is_same) {
            Some(known) => known.at.push(point.to_owned()),
            None => {
                self.findings.push(Finding { finding: kind, call, says, change, at: vec![point.to_owned()] })
            }
        }
    }

    fn certificate(self, plugin: &Plugin, fixture: &str, effects: Vec<String>) -> Certificate {
        let counted = |calls: BTreeMap<String, u32>| {
            calls.into_iter().map(|(call, points)| Counted { call, points }).collect::<Vec<_>>()
        };
        let manifest = plugin.manifest();
        Certificate {
            plugin: manifest.name.clone(),
            version: manifest.version.clone(),
            digest: plugin.digest(),
            fixture: fixture.to_owned(),
            effects,
            passed: self.kinds.iter().map(|kind| kind.passed).sum(),
            points: self.kinds.iter().map(|kind| kind.points).sum(),
            kinds: self.kinds,
            findings: self.findings,
            may_repeat: counted(self.may_repeat),
            went_without: counted(self.went_without),
            by_operator: self.by_operator,
            cases: self.cases,
        }
    }
}
