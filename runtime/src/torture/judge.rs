//! Judge: what a disturbed run did beside what the undisturbed one did, and what its author is to change. Pure.
//!
//! The same effects, each once: a call is the same by method, place, and its key or its bytes. What was sent again with
//! its idempotency key after nobody knew what came of it is one effect, which a service without such keys may have done
//! twice: no handler can mend that, so it is named and is no finding.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::points::Point;
use super::run::{End, Run};
use super::world::{Did, Fault, Identity, Trouble, identity, is_safe};
use crate::words::effect::Asked;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// A service did it twice.
    Repeats,
    /// The handler is done, and no service did it.
    Lost,
    /// A service did something else than in the undisturbed run.
    Differs,
    /// The daemon would stop the delivery and ask the operator.
    Parks,
    /// It does not come to an end.
    NeverEnds,
}

pub(super) struct Finding {
    pub(super) kind: FindingKind,
    /// `POST https://…`
    pub(super) call: String,
    pub(super) says: String,
    pub(super) change: String,
}

impl Finding {
    pub(super) fn told(&self) -> String {
        let call = if self.call.is_empty() { String::new() } else { format!("{}: ", self.call) };
        format!("{call}{}; {}", self.says, self.change)
    }
}

#[derive(Default)]
pub(super) struct Verdict {
    pub(super) findings: Vec<Finding>,
    /// Calls that a service may have done twice, since nobody knew.
    pub(super) may_repeat: BTreeSet<String>,
    /// The handler knew that this call was refused, and went on without it.
    pub(super) went_without: BTreeSet<String>,
}

/// What the handler's calls depend on, from undisturbed runs in which one thing was different.
pub(super) struct Follows<'r> {
    pub(super) base: &'r Run,
    pub(super) probes: Vec<(&'static str, Run)>,
}

/// `like`: the runs that a disturbed one may be like. Where the shelf changed on its way, that is the one
/// with the shelf as it was, the one with the shelf as it became, or between them.
pub(super) fn judge(like: &[&Run], run: &Run, point: &Point, follows: &Follows<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let done = Done::of(run);
    let like: Vec<Done<'_>> = like.iter().map(|run| Done::of(run)).collect();
    let usual: BTreeSet<&String> = like.iter().flat_map(|done| &done.again).collect();
    verdict.may_repeat.extend(done.again.iter().filter(|call| !usual.contains(call)).cloned());
    let places = like.iter().chain([&done]).flat_map(|done| done.by_place.keys()).collect::<BTreeSet<_>>();
    for place in places {
        let counts = like.iter().map(|done| done.at(place).len());
        let (least, most) = (counts.clone().min().unwrap_or(0), counts.max().unwrap_or(0));
        let here = done.at(place);
        let known: BTreeSet<_> =
            like.iter().flat_map(|done| done.at(place)).map(|did| identity(&did.asked)).collect();
        let new = here.iter().find(|did| !known.contains(&identity(&did.asked)));
        if here.len() > most && (most > 0 || is_one_twice(here)) {
            verdict.findings.push(repeats(place, here, follows));
        } else if run.end == End::Settled && here.len() < least {
            verdict.missing(place, run, point, follows);
        } else if let Some(new) = new.filter(|_| !knew_of_no(run, point)) {
            verdict.other(place, new, follows);
        }
    }
    verdict.findings.extend(ended_badly(&run.end, follows));
    verdict
}

impl Verdict {
    fn missing(&mut self, place: &At, run: &Run, point: &Point, follows: &Follows<'_>) {
        if knew_of_no(run, point) {
            self.went_without.insert(call(place));
            return;
        }
        let fault = match &point.plan.trouble {
            Some(Trouble::Fault(at, fault)) if at.asked.as_ref().is_some_and(|asked| is_at(asked, place)) => {
                Some(*fault)
            }
            _ => None,
        };
        let (says, change) = match fault {
            Some(Fault::SaysNo) => (
                "its answer was a 200 whose content says `ok: false`, and the handler took it for a yes: it was never done",
                "read the content; where it says no, disown the answer and return a retry or a rejection"
                    .to_owned(),
            ),
            Some(Fault::TooMany | Fault::ServerError | Fault::PaymentRequired) => (
                "it was refused, the handler was done all the same, and it was never done",
                "look at the status: return a retry or a rejection where it is no success".to_owned(),
            ),
            Some(Fault::TimeoutBefore | Fault::TimeoutAfter | Fault::Refused) => (
                "it had no answer, the handler was done all the same, and it was never done",
                "return a retry where a call has no answer".to_owned(),
            ),
            None => {
                ("the handler was done, and it was never done", follows.advice(place, "whether it is made"))
            }
        };
        let says = says.to_owned();
        self.findings.push(Finding { kind: FindingKind::Lost, call: call(place), says, change });
    }

    fn other(&mut self, place: &At, new: &Did, follows: &Follows<'_>) {
        let says = format!("attempt {} made it with other content than the undisturbed run", new.turn + 1);
        let change = follows.advice(place, "its content");
        self.findings.push(Finding { kind: FindingKind::Differs, call: call(place), says, change });
    }
}

/// The service said no in so many words and the handler understood: what it does then is its own affair.
fn knew_of_no(run: &Run, point: &Point) -> bool {
    match &point.plan.trouble {
        Some(Trouble::Fault(_, Fault::PaymentRequired)) => true,
        Some(Trouble::Fault(_, Fault::SaysNo)) => run.has_disowned,
        _ => false,
    }
}

fn is_one_twice(here: &[&Did]) -> bool {
    here.iter().map(|did| identity(&did.asked)).collect::<BTreeSet<_>>().len() < here.len()
}

fn repeats(place: &At, here: &[&Did], follows: &Follows<'_>) -> Finding {
    let turns: BTreeSet<u32> = here.iter().map(|did| did.turn + 1).collect();
    let (says, change) = match turns.len() {
        1 => (
            format!("it was done {} times in one attempt", here.len()),
            "return a retry and leave the second try to the daemon, or give both tries one `key`".to_owned(),
        ),
        _ => {
            let turns: Vec<String> = turns.iter().map(u32::to_string).collect();
            (
                format!("it was done {} times, by attempts {}", here.len(), turns.join(" and ")),
                follows.advice(place, "its content"),
            )
        }
    };
    Finding { kind: FindingKind::Repeats, call: call(place), says, change }
}

fn ended_badly(end: &End, follows: &Follows<'_>) -> Option<Finding> {
    let (kind, call, says, change) = match end {
        End::Settled => return None,
        End::Changed(asked) => {
            let place = at_of(asked);
            let says = "it is another call than the one that happened: the delivery waits for the operator"
                .to_owned();
            (FindingKind::Parks, call(&place), says, follows.advice(&place, "its content"))
        }
        End::Stuck(why) => {
            let says = format!("the delivery does not end; the last attempt said: {why}");
            let change = "return a retry only for what another attempt can mend".to_owned();
            (FindingKind::NeverEnds, String::new(), says, change)
        }
        End::Unanswered(call) => {
            let says = "no rule of the fixture's world answers it, and the undisturbed run does not make it"
                .to_owned();
            let change = "give the world a rule for it, if the handler is to make it".to_owned();
            (FindingKind::Differs, call.clone(), says, change)
        }
        End::TooManyPlaces => {
            let change = "give the fixture a smaller event".to_owned();
            (
                FindingKind::NeverEnds,
                String::new(),
                "it asks the host for more than is simulated".to_owned(),
                change,
            )
        }
    };
    Some(Finding { kind, call, says, change })
}

// === what was done ===

/// Method and place.
type At = (String, String);

struct Done<'r> {
    /// Each effect once.
    by_place: BTreeMap<At, Vec<&'r Did>>,
    /// Done again with the same idempotency key.
    again: BTreeSet<String>,
}

impl<'r> Done<'r> {
    fn of(run: &'r Run) -> Done<'r> {
        let mut done = Done { by_place: BTreeMap::new(), again: BTreeSet::new() };
        let mut known: BTreeSet<(Identity, &String)> = BTreeSet::new();
        for did in &run.did {
            let place = at_of(&did.asked);
            let is_new =
                did.idempotency_key.as_ref().is_none_or(|key| known.insert((identity(&did.asked), key)));
            if is_new {
                done.by_place.entry(place).or_default().push(did);
            } else {
                done.again.insert(call(&place));
            }
        }
        done
    }

    fn at(&self, place: &At) -> &[&'r Did] {
        self.by_place.get(place).map_or(&[], Vec::as_slice)
    }
}

fn at_of(asked: &Asked) -> At {
    (asked.method.clone(), asked.place.clone())
}

fn is_at(asked: &Asked, place: &At) -> bool {
    asked.method == place.0 && asked.place == place.1
}

fn call((method, place): &At) -> String {
    format!("{method} {place}")
}

// === what to change ===

impl Follows<'_> {
    /// What to do about a call that is not the same in every attempt. `what`: where nothing was found that it follows.
    fn advice(&self, place: &At, what: &str) -> String {
        let of =
            |run: &Run| run.asked.iter().filter(|asked| is_at(asked, place)).cloned().collect::<Vec<_>>();
        let base = of(self.base);
        let following = |differs: fn(&Asked, &Asked) -> bool| {
            let probes = self.probes.iter().map(|(name, run)| (*name, of(run)));
            let names = probes.filter(|(_, asked)| base.iter().zip(asked).any(|(a, b)| differs(a, b)));
            names.map(|(name, _)| name).collect::<Vec<_>>().join(" and ")
        };
        let made = self.probes.iter().filter(|(_, run)| of(run).len() != base.len()).map(|(name, _)| *name);
        let made = made.collect::<Vec<_>>().join(" and ");
        let (keys, content) =
            (following(|a, b| a.key != b.key), following(|a, b| a.key == b.key && a.digest != b.digest));
        if !keys.is_empty() {
            format!("its `key` follows {keys}: give it one name, the same in every attempt")
        } else if !made.is_empty() {
            format!("whether it is made follows {made}: let it follow the event alone")
        } else if !content.is_empty() {
            format!("its content follows {content}: give the call a `key`, or take that out of it")
        } else {
            format!("{what} differs between attempts: give the call a `key`, the same in every attempt")
        }
    }
}

/// Calls that change something, as the certificate names them.
pub(super) fn calls_of(run: &Run) -> Vec<String> {
    run.did.iter().filter(|did| !is_safe(&did.asked.method)).map(|did| call(&at_of(&did.asked))).collect()
}
