//! Breaker: whether a lane's attempts may start after others failed at one origin in a row. No clock: the time is an
//! argument.
//!
//! While a service is down, an attempt costs a delivery a try and the service a request, and neither gains by it. So
//! the lane waits, one delivery goes ahead at a time to look, and when it is answered the others follow, twice as many
//! at once whenever as many went well. A handler that calls two origins and fails at one cannot make progress: the
//! whole lane waits.
//!
//! What is not here: a pause, which is the operator's (`lane`), and what is told of a change (`lane`).

use std::collections::BTreeMap;
use std::time::Duration;

use super::report::{Failure, Report};
use crate::words::lane::{LaneChange, LaneState};
use crate::words::limits::{ORIGINS_MAX, PROBE_ASKED_MAX};
use crate::words::time::Millis;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row at one origin that open it; at least 1.
    pub failures: u32,
    /// From opening to the first probe; doubled after each that fails ...
    pub probe_after: Duration,
    /// ... up to this.
    pub probe_max: Duration,
}

pub(super) struct Breaker {
    /// None: it never opens.
    policy: Option<Policy>,
    concurrency: usize,
    state: State,
    in_a_row: BTreeMap<String, Row>,
    /// Raised when it opens: what began before that says nothing any more.
    round: u64,
    /// Attempts of this round.
    running: usize,
}

/// Failures at one origin since it last answered well.
struct Row {
    count: u32,
    since: Millis,
}

enum State {
    Closed,
    Open(Opening),
    Returning(Return),
}

struct Opening {
    origin: String,
    failures: u32,
    since: Millis,
    why: String,
    wait: Duration,
    probe_at: Millis,
    probes: u32,
    /// Probes in a row that went well without a word from the origin.
    passed: u32,
}

struct Return {
    /// None: it follows a pause.
    origin: Option<String>,
    since: Millis,
    /// Before the next probe, should it open again.
    wait: Duration,
    at_once: usize,
    went_well: usize,
    in_a_row: usize,
}

/// Who got one may run, and gives it back with what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permit {
    round: u64,
}

impl Breaker {
    pub(super) fn new(policy: Option<Policy>, concurrency: usize) -> Breaker {
        Breaker {
            policy,
            concurrency: concurrency.max(1),
            state: State::Closed,
            in_a_row: BTreeMap::new(),
            round: 0,
            running: 0,
        }
    }

    /// Goes on from what the last process left. A start is a good moment to look: the first probe is due at once.
    /// Returns a change where what stood stands no longer.
    pub(super) fn go_on(&mut self, standing: &LaneChange, now: Millis) -> Option<LaneChange> {
        let (origin, since) = match standing {
            LaneChange::Opened { origin, since, .. } | LaneChange::Returning { origin, since, .. } => {
                (origin.clone(), *since)
            }
            _ => return None,
        };
        let Some(policy) = self.policy else {
            return Some(LaneChange::Closed { why: "the breaker is off in the configuration".into(), since });
        };
        self.state = match standing {
            LaneChange::Opened { failures, why, .. } => State::Open(Opening {
                origin,
                failures: *failures,
                since,
                why: why.clone(),
                wait: policy.probe_after,
                probe_at: now,
                probes: 0,
                passed: 0,
            }),
            _ => State::Returning(Return::new(Some(origin), since, policy.probe_after)),
        };
        None
    }

    pub(super) fn allows(&self, now: Millis) -> bool {
        match &self.state {
            State::Closed => true,
            State::Open(open) => self.running == 0 && now >= open.probe_at,
            State::Returning(back) => self.running < back.at_once,
        }
    }

    /// From when on it allows an attempt; None: from when one of those that run has ended.
    pub(super) fn next_at(&self) -> Option<Millis> {
        match &self.state {
            State::Closed => Some(Millis(0)),
            State::Open(open) => (self.running == 0).then_some(open.probe_at),
            State::Returning(back) => (self.running < back.at_once).then_some(Millis(0)),
        }
    }

    /// An attempt that was allowed starts.
    pub(super) fn start(&mut self) -> Permit {
        self.running += 1;
        Permit { round: self.round }
    }

    /// An attempt has ended. Returns what that changed.
    pub(super) fn ended(&mut self, permit: Permit, report: Report, now: Millis) -> Option<LaneChange> {
        if permit.round != self.round {
            return None;
        }
        self.running = self.running.saturating_sub(1);
        let policy = self.policy?;
        match &mut self.state {
            State::Closed => self.counted(policy, report, now),
            State::Open(_) => self.probed(policy, report, now),
            State::Returning(_) => self.returned(policy, report, now),
        }
    }

    /// After a pause: few at once first, for nobody knows what the pause was for. Where it is open, it looks now.
    pub(super) fn ease_in(&mut self, now: Millis) {
        let Some(policy) = self.policy else { return };
        match &mut self.state {
            State::Closed => self.state = State::Returning(Return::new(None, now, policy.probe_after)),
            State::Open(open) => open.probe_at = open.probe_at.min(now),
            State::Returning(_) => {}
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    pub(super) fn is_returning(&self) -> bool {
        matches!(self.state, State::Returning(_))
    }

    pub(super) fn state(&self) -> LaneState {
        match &self.state {
            State::Closed => LaneState::Closed,
            State::Open(open) => LaneState::Open {
                origin: open.origin.clone(),
                failures: open.failures,
                since: open.since,
                why: open.why.clone(),
                probes: open.probes,
                probe_at: (self.running == 0).then_some(open.probe_at),
            },
            State::Returning(back) => {
                let at_once = back.at_once.min(self.concurrency);
                LaneState::Returning { at_once, of: self.concurrency, since: back.since }
            }
        }
    }

    // === closed ===

    fn counted(&mut self, policy: Policy, report: Report, now: Millis) -> Option<LaneChange> {
        let (failure, answered) = match report {
            Report::Nothing => return None,
            Report::Well { answered } => (None, answered),
            Report::Failed { failure, answered } => (Some(failure), answered),
        };
        let failed_at = failure.as_ref().map(|failure| failure.origin.as_str());
        for origin in answered.iter().filter(|origin| Some(origin.as_str()) != failed_at) {
            self.in_a_row.remove(origin);
        }
        let failure = failure?;
        let is_known = self.in_a_row.contains_key(&failure.origin);
        if !is_known && self.in_a_row.len() >= ORIGINS_MAX {
            // A handler is granted no more than that, so this is never reached.
            self.in_a_row.clear();
        }
        let row = self.in_a_row.entry(failure.origin.clone()).or_insert(Row { count: 0, since: now });
        row.count += 1;
        let (count, since) = (row.count, row.since);
        (count >= policy.failures).then(|| self.open(failure, (count, since), policy.probe_after, now))
    }

    fn open(
        &mut self,
        failure: Failure,
        (failures, since): (u32, Millis),
        wait: Duration,
        now: Millis,
    ) -> LaneChange {
        let Failure { origin, why, asked } = failure;
        let probe_at = now.plus(longer(wait, asked));
        self.round += 1;
        self.running = 0;
        self.in_a_row.clear();
        let (told_origin, told_why) = (origin.clone(), why.clone());
        let (probes, passed) = (0, 0);
        self.state = State::Open(Opening { origin, failures, since, why, wait, probe_at, probes, passed });
        LaneChange::Opened { origin: told_origin, failures, since, why: told_why, probe_at, waiting: 0 }
    }

    // === open ===

    fn probed(&mut self, policy: Policy, report: Report, now: Millis) -> Option<LaneChange> {
        let State::Open(open) = &mut self.state else { return None };
        open.probes += 1;
        match report {
            Report::Failed { failure, .. } => {
                open.wait = open.wait.saturating_mul(2).min(policy.probe_max).max(policy.probe_after);
                open.probe_at = now.plus(longer(open.wait, failure.asked));
                (open.origin, open.why, open.passed) = (failure.origin, failure.why, 0);
                return None;
            }
            // It did not get as far as the origin, and cost nothing: another one looks.
            Report::Nothing => return None,
            Report::Well { answered } if answered.contains(&open.origin) => {}
            Report::Well { .. } => {
                open.passed += 1;
                // A plugin that does not call this origin any more has nothing to wait for.
                if open.passed < policy.failures {
                    return None;
                }
            }
        }
        let (origin, since, probes) = (open.origin.clone(), open.since, open.probes);
        self.state = State::Returning(Return::new(Some(origin.clone()), since, open.wait));
        Some(LaneChange::Returning { origin, since, probes })
    }

    // === returning ===

    fn returned(&mut self, policy: Policy, report: Report, now: Millis) -> Option<LaneChange> {
        let State::Returning(back) = &mut self.state else { return None };
        match report {
            Report::Nothing => None,
            Report::Failed { failure, .. } => {
                back.in_a_row += 1;
                back.went_well = back.went_well.saturating_sub(1);
                let failures = u32::try_from(back.in_a_row).unwrap_or(u32::MAX);
                let most = u32::try_from(back.at_once).unwrap_or(u32::MAX).min(policy.failures);
                if failures < most {
                    return None;
                }
                let wait = back.wait.saturating_mul(2).min(policy.probe_max).max(policy.probe_after);
                let since = if back.origin.is_some() { back.since } else { now };
                Some(self.open(failure, (failures, since), wait, now))
            }
            Report::Well { .. } => {
                back.in_a_row = 0;
                back.went_well += 1;
                if back.went_well < back.at_once {
                    return None;
                }
                (back.at_once, back.went_well) = (back.at_once * 2, 0);
                (back.at_once > self.concurrency).then(|| self.close())
            }
        }
    }

    fn close(&mut self) -> LaneChange {
        let (origin, since) = match &mut self.state {
            State::Returning(back) => (back.origin.take(), back.since),
            State::Open(open) => (Some(open.origin.clone()), open.since),
            State::Closed => (None, Millis(0)),
        };
        self.state = State::Closed;
        let why = match origin {
            Some(origin) => format!("all attempts at once again, {origin} had failed"),
            None => "all attempts at once again, after a pause".to_owned(),
        };
        LaneChange::Closed { why, since }
    }
}

impl Return {
    fn new(origin: Option<String>, since: Millis, wait: Duration) -> Return {
        Return { origin, since, wait, at_once: 1, went_well: 0, in_a_row: 0 }
    }
}

/// What the service asked for, as `Retry-After`, is kept within bounds.
fn longer(wait: Duration, asked: Option<Duration>) -> Duration {
    wait.max(asked.unwrap_or_default().min(PROBE_ASKED_MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const X: &str = "https://x.example";
    const Y: &str = "https://y.example";
    const START: Millis = Millis(1_790_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn policy() -> Policy {
        Policy { failures: 3, probe_after: 10 * SECOND, probe_max: 60 * SECOND }
    }

    fn failed(origin: &str) -> Report {
        asked(origin, None)
    }

    fn asked(origin: &str, asked: Option<Duration>) -> Report {
        let failure = Failure { origin: origin.to_owned(), why: "answered 503".to_owned(), asked };
        Report::Failed { failure, answered: Vec::new() }
    }

    fn well(answered: &[&str]) -> Report {
        Report::Well { answered: answered.iter().map(ToString::to_string).collect() }
    }

    impl Breaker {
        fn run(&mut self, report: Report, now: Millis) -> Option<LaneChange> {
            assert!(self.allows(now), "{:?} at {now}", self.state());
            let permit = self.start();
            self.ended(permit, report, now)
        }
    }

    fn opened(concurrency: usize) -> Breaker {
        let mut breaker = Breaker::new(Some(policy()), concurrency);
        for _ in 0..2 {
            assert_eq!(breaker.run(failed(X), START), None);
        }
        let change = breaker.run(failed(X), START).unwrap();
        assert_eq!(change.word(), "opened");
        breaker
    }

    #[test]
    fn failures_in_a_row_at_one_origin_open_it() {
        let mut breaker = Breaker::new(Some(policy()), 8);
        breaker.run(failed(X), START);
        breaker.run(failed(X), START.plus(SECOND));
        let change = breaker.run(failed(X), START.plus(2 * SECOND)).unwrap();
        let expected = LaneChange::Opened {
            origin: X.to_owned(),
            failures: 3,
            since: START,
            why: "answered 503".to_owned(),
            probe_at: START.plus(12 * SECOND),
            waiting: 0,
        };
        assert_eq!(change, expected);
        assert!(!breaker.allows(START.plus(11 * SECOND)));
        assert!(breaker.allows(START.plus(12 * SECOND)));
    }

    #[test]
    fn an_answer_of_the_same_origin_ends_the_row_and_of_another_does_not() {
        let mut breaker = Breaker::new(Some(policy()), 8);
        for report in [failed(X), failed(X), well(&[X]), failed(X), failed(X), Report::Nothing, well(&[Y])] {
            assert_eq!(breaker.run(report, START), None);
        }
        assert!(breaker.run(failed(X), START).is_some());
    }

    #[test]
    fn failures_at_two_origins_are_two_rows() {
        let mut breaker = Breaker::new(Some(policy()), 8);
        for origin in [X, Y, X, Y] {
            assert_eq!(breaker.run(failed(origin), START), None);
        }
        let Some(LaneChange::Opened { origin, .. }) = breaker.run(failed(Y), START) else { panic!("closed") };
        assert_eq!(origin, Y);
    }

    #[test]
    fn a_failure_behind_an_answer_of_the_same_origin_counts() {
        let mut breaker = Breaker::new(Some(policy()), 8);
        let failure = |_| {
            let Report::Failed { failure, .. } = failed(X) else { unreachable!() };
            Report::Failed { failure, answered: vec![X.to_owned()] }
        };
        let changes: Vec<bool> = (0..3).map(failure).map(|r| breaker.run(r, START).is_some()).collect();
        assert_eq!(changes, [false, false, true]);
    }

    #[test]
    fn one_probe_at_a_time_and_each_failure_doubles_the_wait() {
        let mut breaker = opened(8);
        let mut now = START;
        for wait in [10, 20, 40, 60, 60] {
            assert!(!breaker.allows(now.plus(SECOND * (wait - 1))), "{wait}");
            now = now.plus(SECOND * wait);
            assert!(breaker.allows(now), "{wait}");
            let probe = breaker.start();
            assert!(!breaker.allows(now.plus(3600 * SECOND)), "one is under way");
            assert_eq!(breaker.next_at(), None);
            assert_eq!(breaker.ended(probe, failed(X), now), None);
        }
    }

    #[test]
    fn what_began_before_it_opened_says_nothing_any_more() {
        let mut breaker = Breaker::new(Some(policy()), 8);
        let permits: Vec<Permit> = (0..8).map(|_| breaker.start()).collect();
        let now = START.plus(10 * SECOND);
        let changes = permits[..3].iter().filter_map(|p| breaker.ended(*p, failed(X), START)).count();
        assert_eq!(changes, 1);
        assert_eq!(breaker.ended(permits[3], well(&[X]), START), None);
        assert_eq!(breaker.state().word(), "open");
        assert!(breaker.allows(now), "and does not count as a probe");
        breaker.run(well(&[X]), now).unwrap();
        assert_eq!(breaker.ended(permits[4], failed(X), now), None);
        assert_eq!(breaker.state().word(), "returning");
    }

    #[test]
    fn the_service_is_given_the_time_that_it_asks_for() {
        let mut breaker = Breaker::new(Some(Policy { failures: 1, ..policy() }), 8);
        breaker.run(asked(X, Some(90 * SECOND)), START);
        assert_eq!(breaker.next_at(), Some(START.plus(90 * SECOND)));
        let now = START.plus(90 * SECOND);
        breaker.run(asked(X, Some(2 * PROBE_ASKED_MAX)), now);
        assert_eq!(
            breaker.next_at(),
            Some(now.plus(PROBE_ASKED_MAX)),
            "and no longer than anybody may ask for"
        );
        let now = now.plus(PROBE_ASKED_MAX);
        breaker.run(asked(X, Some(SECOND)), now);
        assert_eq!(breaker.next_at(), Some(now.plus(40 * SECOND)), "nor shorter than it waits by itself");
    }

    #[test]
    fn a_probe_that_does_not_reach_the_origin_is_followed_by_another() {
        let mut breaker = opened(8);
        let now = START.plus(10 * SECOND);
        assert_eq!(breaker.run(well(&[]), now), None);
        assert_eq!(breaker.run(Report::Nothing, now), None);
        assert_eq!(breaker.run(well(&[Y]), now), None);
        assert_eq!(breaker.state().word(), "open");
        assert_eq!(breaker.run(well(&[X]), now).unwrap().word(), "returning");
    }

    #[test]
    fn a_plugin_that_does_not_call_the_origin_any_more_is_not_held_back_for_ever() {
        let mut breaker = opened(8);
        let now = START.plus(10 * SECOND);
        let words: Vec<_> = (0..3).map(|_| breaker.run(well(&[]), now).map(|change| change.word())).collect();
        assert_eq!(words, [None, None, Some("returning")]);
    }

    #[test]
    fn the_return_doubles_with_each_window_that_went_well() {
        let mut breaker = opened(8);
        let now = START.plus(10 * SECOND);
        breaker.run(well(&[X]), now).unwrap();
        let mut at_once = Vec::new();
        loop {
            let mut permits = Vec::new();
            while breaker.allows(now) {
                permits.push(breaker.start());
                if permits.len() > 8 {
                    break;
                }
            }
            at_once.push(permits.len());
            let closed = permits.iter().filter_map(|p| breaker.ended(*p, well(&[X]), now)).last();
            if let Some(change) = closed {
                assert_eq!(change.word(), "closed");
                break;
            }
        }
        assert_eq!(at_once, [1, 2, 4, 8]);
        assert_eq!(breaker.state(), LaneState::Closed);
    }

    #[test]
    fn a_service_that_falls_over_again_opens_it_with_a_longer_wait() {
        let mut breaker = opened(8);
        let now = START.plus(10 * SECOND);
        breaker.run(well(&[X]), now).unwrap();
        let change = breaker.run(failed(X), now).unwrap();
        let LaneChange::Opened { failures, since, probe_at, .. } = change else { panic!("{change:?}") };
        assert_eq!((failures, since, probe_at), (1, START, now.plus(20 * SECOND)));
    }

    #[test]
    fn a_few_failures_among_many_do_not_end_a_return() {
        let mut breaker = opened(4);
        let now = START.plus(10 * SECOND);
        for report in [well(&[X]), well(&[X]), failed(X), well(&[X]), well(&[X]), well(&[X])] {
            breaker.run(report, now);
        }
        assert_eq!(breaker.state(), LaneState::Returning { at_once: 4, of: 4, since: START });
    }

    #[test]
    fn without_a_policy_it_never_opens() {
        let mut breaker = Breaker::new(None, 8);
        for _ in 0..1000 {
            assert_eq!(breaker.run(failed(X), START), None);
        }
        breaker.ease_in(START);
        assert_eq!(breaker.state(), LaneState::Closed);
    }

    #[test]
    fn a_pause_is_followed_by_a_slow_return_or_by_a_probe() {
        let mut breaker = Breaker::new(Some(policy()), 2);
        breaker.ease_in(START);
        assert_eq!(breaker.state(), LaneState::Returning { at_once: 1, of: 2, since: START });
        assert_eq!(breaker.run(well(&[]), START), None);
        assert_eq!(breaker.run(well(&[]), START), None);
        let change = breaker.run(well(&[]), START).unwrap();
        assert_eq!(
            change.to_string(),
            format!("closed: all attempts at once again, after a pause, since {START}")
        );
        let mut breaker = opened(2);
        breaker.ease_in(START.plus(SECOND));
        assert!(breaker.allows(START.plus(SECOND)));
    }

    #[test]
    fn a_restart_goes_on_where_it_was() {
        let LaneChange::Opened { .. } = standing() else { unreachable!() };
        let later = START.plus(100 * SECOND);
        let mut breaker = Breaker::new(Some(policy()), 8);
        assert_eq!(breaker.go_on(&standing(), later), None);
        assert!(breaker.allows(later), "it looks at once");
        let permit = breaker.start();
        assert!(!breaker.allows(later));
        let change = breaker.ended(permit, well(&[X]), later).unwrap();
        let mut breaker = Breaker::new(Some(policy()), 8);
        breaker.go_on(&change, later);
        assert_eq!(breaker.state(), LaneState::Returning { at_once: 1, of: 8, since: START });
        let mut off = Breaker::new(None, 8);
        assert_eq!(off.go_on(&standing(), later).unwrap().word(), "closed");
        assert!(off.allows(later));
    }

    fn standing() -> LaneChange {
        LaneChange::Opened {
            origin: X.to_owned(),
            failures: 3,
            since: START,
            why: "answered 503".to_owned(),
            probe_at: START.plus(SECOND),
            waiting: 7,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Start,
        End(usize, u8),
        Wait(u64),
        Resume,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Start),
            4 => (any::<usize>(), 0..6u8).prop_map(|(which, how)| Step::End(which, how)),
            2 => (0..40_000u64).prop_map(Step::Wait),
            1 => Just(Step::Resume),
        ];
        proptest::collection::vec(step, 0..400)
    }

    fn report(how: u8) -> Report {
        match how {
            0 | 1 => failed(X),
            2 => asked(Y, Some(15 * SECOND)),
            3 => Report::Nothing,
            4 => well(&[X, Y]),
            _ => well(&[]),
        }
    }

    proptest! {
        /// Whatever happens: one probe at a time while it is open, never before its time, never more at once than the
        /// return allows, changes in an order that makes sense; and when all is well again, it closes.
        #[test]
        fn it_keeps_its_word(steps in steps(), concurrency in 1..40usize, failures in 1..6u32) {
            let policy = Policy { failures, ..policy() };
            let mut breaker = Breaker::new(Some(policy), concurrency);
            let (mut now, mut running, mut changes) = (START, Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Start => {
                        if breaker.allows(now) {
                            let state = breaker.state();
                            running.push((breaker.start(), state.word()));
                            if let LaneState::Open { probe_at, .. } = state {
                                prop_assert!(probe_at.unwrap() <= now);
                            }
                        }
                    }
                    Step::End(which, how) if !running.is_empty() => {
                        let (permit, _) = running.swap_remove(which % running.len());
                        changes.extend(breaker.ended(permit, report(how), now));
                    }
                    Step::End(..) => {}
                    Step::Wait(ms) => now = now.plus(Duration::from_millis(ms)),
                    Step::Resume => breaker.ease_in(now),
                }
                let of_round = running.iter().filter(|(permit, _)| permit.round == breaker.round).count();
                prop_assert_eq!(of_round, breaker.running);
                match breaker.state() {
                    LaneState::Open { probe_at, .. } => {
                        prop_assert!(of_round <= 1);
                        prop_assert_eq!(probe_at.is_none(), of_round == 1);
                        let longest = policy.probe_max;
                        prop_assert!(probe_at.is_none_or(|at| at <= now.plus(longest)));
                    }
                    LaneState::Returning { at_once, of, .. } => {
                        prop_assert!(at_once <= of && of == concurrency);
                    }
                    LaneState::Closed => {}
                }
            }
            for pair in changes.windows(2) {
                let is_sound = match pair[0].word() {
                    "opened" => pair[1].word() == "returning",
                    "returning" => ["opened", "closed"].contains(&pair[1].word()),
                    _ => pair[1].word() != "returning",
                };
                prop_assert!(is_sound, "{:?}", changes);
            }
            for (permit, _) in running {
                breaker.ended(permit, Report::Nothing, now);
            }
            for _ in 0..4 * concurrency + 8 {
                now = now.plus(PROBE_ASKED_MAX);
                prop_assert!(breaker.allows(now));
                let permit = breaker.start();
                breaker.ended(permit, well(&[X, Y]), now);
            }
            prop_assert_eq!(breaker.state(), LaneState::Closed);
        }

        /// A service that stays down sees no more than the row that opened it, what was under way then, and the probes.
        #[test]
        fn a_service_that_is_down_is_left_alone(concurrency in 1..64usize, failures in 1..40u32, order in any::<u64>()) {
            let policy = Policy { failures, ..policy() };
            let mut breaker = Breaker::new(Some(policy), concurrency);
            let (mut now, mut started, mut dice) = (START, 0usize, order);
            let mut running = Vec::new();
            let minutes = 30u64;
            while now < START.plus(Duration::from_secs(60 * minutes)) {
                while running.len() < concurrency && breaker.allows(now) {
                    running.push(breaker.start());
                    started += 1;
                }
                if !running.is_empty() {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let which = usize::try_from(dice >> 33).unwrap() % running.len();
                    breaker.ended(running.swap_remove(which), failed(X), now);
                }
                now = now.plus(Duration::from_millis(500));
            }
            // 10, 20, 40, 60, 60 … seconds.
            let probes = 4 + usize::try_from(minutes).unwrap();
            prop_assert!(started <= failures as usize + concurrency - 1 + probes, "{} started", started);
        }
    }
}
