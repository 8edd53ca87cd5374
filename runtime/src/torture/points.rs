//! Points: every way in which a run is disturbed, with its name.

use super::fixture::Rule;
use super::run::{ATTEMPTS_APART, Plan, Run, Variation};
use super::world::{Fault, Moment, Place, Trouble, is_safe};
use crate::host::HostCall;

/// One run that is held against the undisturbed one.
pub(super) struct Point {
    pub(super) plan: Plan,
    /// The line of the certificate's table that it counts in.
    pub(super) kind: &'static str,
    pub(super) name: String,
}

/// Every place of the undisturbed run and every fault of each of its calls, with every variation.
pub(super) fn all(base: &Run, rules: &[Rule], variations: &[Variation]) -> Vec<Point> {
    let mut troubles = Vec::new();
    for place in &base.places {
        let call = named(place, &base.places);
        troubles.push((Trouble::Kill(place.clone()), kind_of(place), format!("killed {}", at(place, &call))));
    }
    for place in base.places.iter().filter(|place| place.moment == Moment::Intended) {
        let call = named(place, &base.places);
        // A read would be told another content and no no, and not every service has such a content.
        let may_say_no = place.asked.as_ref().is_some_and(|asked| {
            !is_safe(&asked.method) && !rules.iter().any(|rule| rule.is_honest(&asked.method, &asked.place))
        });
        for fault in Fault::ALL.into_iter().filter(|fault| may_say_no || *fault != Fault::SaysNo) {
            let trouble = Trouble::Fault(place.clone(), fault);
            troubles.push((trouble, fault.name(), format!("{call}: {}", fault.name())));
        }
    }
    let mut points = vec![Point {
        plan: Plan { attempts_before: ATTEMPTS_APART, ..Plan::default() },
        kind: "undisturbed, as a later attempt",
        name: format!("undisturbed, as attempt {}", 1 + ATTEMPTS_APART),
    }];
    for (trouble, kind, name) in troubles {
        points.extend(variations.iter().map(|variation| Point {
            plan: Plan { trouble: Some(trouble.clone()), variation: *variation, ..Plan::default() },
            kind,
            name: format!("{name}{}", variation.told()),
        }));
    }
    points
}

/// `http.send 2 (POST https://…)`; a call's number is that among all calls of the host of its attempt.
fn named(place: &Place, places: &[Place]) -> String {
    let is_same = |other: &&Place| (other.turn, other.number) == (place.turn, place.number);
    let asked = places.iter().filter(is_same).find_map(|other| other.asked.as_ref());
    let called = asked.map(|asked| format!(" ({} {})", asked.method, asked.place)).unwrap_or_default();
    let attempt = if place.turn == 0 { String::new() } else { format!(" of attempt {}", place.turn + 1) };
    format!("{} {}{called}{attempt}", word(place.call), place.number)
}

fn at(place: &Place, call: &str) -> String {
    match (place.moment, place.call) {
        (Moment::Settle, _) => "before the outcome was written".to_owned(),
        (Moment::Intended, _) => format!("with the intent of {call} written, before it left"),
        (Moment::Acted, _) => format!("with {call} done, before its answer was written"),
        (Moment::After, Some(HostCall::HttpSend)) => {
            format!("with the answer to {call} written, before the handler heard it")
        }
        (Moment::After, _) => format!("after {call}"),
        (Moment::Before, _) => format!("before {call}"),
    }
}

fn kind_of(place: &Place) -> &'static str {
    match (place.call, place.moment) {
        (_, Moment::Settle) => "killed before the outcome is written",
        (_, Moment::Intended) => "killed before a call leaves",
        (_, Moment::Acted) => "killed before an answer is written",
        (Some(HostCall::HttpSend), Moment::Before) => "killed before an intent is written",
        (Some(HostCall::HttpSend), Moment::After) => "killed before an answer is heard",
        (Some(HostCall::HttpDisown), _) => "killed at http.disown",
        (Some(HostCall::Log), _) => "killed at log",
        (Some(HostCall::Settings), _) => "killed at settings",
        (_, Moment::Before | Moment::After) => "killed at state",
    }
}

fn word(call: Option<HostCall>) -> &'static str {
    match call {
        Some(HostCall::HttpSend) => "http.send",
        Some(HostCall::HttpDisown) => "http.disown",
        Some(HostCall::StateGet) => "state.get",
        Some(HostCall::StateSet) => "state.set",
        Some(HostCall::StateDelete) => "state.delete",
        Some(HostCall::StateAdd) => "state.add",
        Some(HostCall::StateList) => "state.list-keys",
        Some(HostCall::Log) => "log",
        Some(HostCall::Settings) => "settings",
        None => "the end",
    }
}

impl Fault {
    pub(super) fn name(self) -> &'static str {
        match self {
            Fault::PaymentRequired => "402",
            Fault::TooMany => "429",
            Fault::ServerError => "500",
            Fault::SaysNo => "200 with ok: false",
            Fault::TimeoutBefore => "timeout, not done",
            Fault::TimeoutAfter => "timeout, done",
            Fault::Refused => "connection refused",
        }
    }
}

impl Variation {
    fn told(self) -> String {
        match self {
            Variation::Nothing => String::new(),
            Variation::Attempt => format!("; resumed {ATTEMPTS_APART} attempts later"),
            Variation::Shelf => "; resumed with the shelf changed by another delivery".to_owned(),
            Variation::Plugin => "; resumed with other plugin bytes".to_owned(),
        }
    }
}
