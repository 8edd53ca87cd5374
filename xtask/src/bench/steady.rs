//! Steady: events accepted and ended by a handler, at a rate at which nothing piles up.
//!
//! At full speed senders outrun any handler, and what is then done per second is bought with a backlog. So the
//! rate is sought first: as much as is worked off from a burst. Then events come at nine tenths of it, at fixed
//! moments, for the whole time; where the backlog or the index's lag grew, again with less.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::daemon::{Daemon, Home, Wanted};
use super::load::Load;
use super::site::Site;
use crate::{Result, Trouble};

/// Of the burst from which the first rate is taken.
const BURST_S: f64 = 5.0;
/// Each try is at this share of what the one before could do.
const LESS: f64 = 0.93;
const TRIES_MAX: usize = 6;
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A backlog of so many seconds will not go away any more.
const HOPELESS_S: f64 = 5.0;
/// So much more may wait in the last quarter than in the third: what comes and goes with a batch.
const GROWTH_S: f64 = 0.25;

pub(super) struct Steady {
    pub(super) per_second: f64,
    pub(super) value: Value,
}

pub(super) fn steady(site: &Site<'_>, connections: u32, seconds: f64) -> Result<Steady> {
    let mut rate = burst(site, connections, BURST_S.min(seconds))? * LESS;
    for _ in 0..TRIES_MAX {
        let samples = hold(site, connections, seconds, rate)?;
        if samples.kept_up(rate) {
            return Ok(samples.told(rate));
        }
        eprintln!("      at {rate:.0}/s something piles up; again with less");
        rate = rate.min(samples.done_per_second()) * LESS;
    }
    Err(Trouble::new(
        "no rate was found at which the backlog does not grow; is the machine busy with something else?",
    ))
}

/// From the first request to the last delivery done.
fn burst(site: &Site<'_>, connections: u32, seconds: f64) -> Result<f64> {
    let home = Home::scratch(site, Wanted::Done, false)?;
    let daemon = Daemon::start(site, &home)?;
    let started = Instant::now();
    let loaded = Load { connections, seconds, ..Load::default() }.run(site, &daemon.address)?;
    daemon.wait_until_ended(site, loaded.answered())?;
    Ok(loaded.answered() as f64 / started.elapsed().as_secs_f64())
}

fn hold(site: &Site<'_>, connections: u32, seconds: f64, rate: f64) -> Result<Samples> {
    let home = Home::scratch(site, Wanted::Done, false)?;
    let mut daemon = Daemon::start(site, &home)?;
    let mut samples = Samples::default();
    let (started, mut next) = (Instant::now(), Instant::now());
    let cpu = daemon.cpu_us();
    let load = Load { connections, seconds, rate: Some(rate), ..Load::default() };
    let loaded = load.watched(site, &daemon.address, || {
        if Instant::now() < next {
            return Ok(ControlFlow::Continue(()));
        }
        next += LOOK_EVERY;
        let metrics = daemon.metrics()?;
        let (accepted, done) = (metrics.accepted(), metrics.done());
        let waiting = accepted.saturating_sub(done);
        samples.0.push(Sample {
            at_s: started.elapsed().as_secs_f64(),
            done,
            waiting,
            lag: metrics.index_lag(),
        });
        let is_hopeless = waiting as f64 > rate * HOPELESS_S;
        Ok(if is_hopeless { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    if let Some(loaded) = &loaded {
        daemon.wait_until_ended(site, loaded.answered())?;
        samples.1 = (daemon.cpu_us() - cpu) / loaded.answered().max(1) as f64;
    }
    Ok(samples)
}

#[derive(Clone, Copy)]
struct Sample {
    at_s: f64,
    done: u64,
    /// Accepted and not done.
    waiting: u64,
    lag: u64,
}

/// And the daemon's processor time for each event, in microseconds.
#[derive(Default)]
struct Samples(Vec<Sample>, f64);

impl Samples {
    /// Neither the backlog nor the lag was larger in the last quarter than in the third.
    fn kept_up(&self, rate: f64) -> bool {
        let slack = rate * GROWTH_S;
        let grew = |pick: fn(&Sample) -> u64| self.mean(3, pick) > self.mean(2, pick) + slack;
        let hopeless = self.0.last().is_none_or(|last| last.waiting as f64 > rate * HOPELESS_S);
        !hopeless && !grew(|sample| sample.waiting) && !grew(|sample| sample.lag)
    }

    /// Over one quarter of the time, 0 to 3.
    fn mean(&self, quarter: usize, pick: fn(&Sample) -> u64) -> f64 {
        let part = |n: usize| self.0.len() * n / 4;
        let of = &self.0[part(quarter)..part(quarter + 1)];
        of.iter().map(|sample| pick(sample) as f64).sum::<f64>() / of.len().max(1) as f64
    }

    /// From a tenth of the time to its end: the first moments are spent on waking up.
    fn done_per_second(&self) -> f64 {
        let (Some(first), Some(last)) = (self.0.get(self.0.len() / 10), self.0.last()) else { return 0.0 };
        (last.done - first.done) as f64 / (last.at_s - first.at_s).max(f64::MIN_POSITIVE)
    }

    fn told(&self, rate: f64) -> Steady {
        let at = |place: usize| {
            self.0
                .get(place)
                .map(|s| json!({"at_s": s.at_s, "waiting": s.waiting, "index_lag_records": s.lag}))
        };
        let last = self.0.len().saturating_sub(1);
        let most = |pick: fn(&Sample) -> u64| self.0.iter().map(pick).max();
        let per_second = self.done_per_second();
        Steady {
            per_second,
            value: json!({
                "per_second": per_second,
                "offered_per_second": rate,
                "daemon_cpu_us": self.1,
                "start": at(self.0.len() / 10),
                "middle": at(last / 2),
                "end": at(last),
                "waiting_max": most(|s| s.waiting),
                "index_lag_max": most(|s| s.lag),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minute at 1,000 a second, looked at four times a second.
    fn samples(waiting: impl Fn(f64) -> f64, lag: impl Fn(f64) -> f64) -> Samples {
        let sample = |n: u32| {
            let at_s = f64::from(n) / 4.0;
            let waiting = waiting(at_s);
            Sample {
                at_s,
                done: (at_s * 1000.0 - waiting) as u64,
                waiting: waiting as u64,
                lag: lag(at_s) as u64,
            }
        };
        Samples((20..240).map(sample).collect(), 0.0)
    }

    #[test]
    fn what_comes_and_goes_is_not_growth() {
        let even = samples(|at| 300.0 + 200.0 * (at * 3.0).sin(), |at| 500.0 * (at % 1.0));
        assert!(even.kept_up(1000.0));
        assert!((even.done_per_second() - 1000.0).abs() < 10.0, "{}", even.done_per_second());
    }

    #[test]
    fn a_slow_leak_is_growth() {
        assert!(!samples(|at| at * 30.0, |_| 0.0).kept_up(1000.0));
        assert!(!samples(|_| 0.0, |at| at * 30.0).kept_up(1000.0));
    }

    #[test]
    fn nothing_seen_is_nothing_shown() {
        assert!(!Samples::default().kept_up(1000.0));
        assert_eq!(Samples::default().done_per_second(), 0.0);
    }

    #[test]
    fn start_middle_and_end_are_told() {
        let told = samples(|at| at, |at| 2.0 * at).told(1000.0).value;
        for (when, at) in [("start", 10.5), ("middle", 32.25), ("end", 59.75)] {
            assert_eq!(told[when]["at_s"], at);
        }
        assert_eq!(told["index_lag_max"], 119);
    }
}
