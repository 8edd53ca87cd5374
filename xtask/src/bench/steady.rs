//! Steady: events accepted and ended by a handler, at a rate at which nothing piles up.
//!
//! At full speed senders outrun any handler, and what is then done per second is bought with a backlog. So the
//! rate is sought first: from what is worked off per second of a burst, up or down in short tries until one holds
//! and the next does not. Then events come at that rate, at fixed moments, for the whole time; where the backlog
//! or the index's lag grew after all, again with less.

use std::ops::ControlFlow;
use std::time::Instant;

use serde_json::{Value, json};

use super::daemon::{Daemon, Home, Wanted};
use super::load::Load;
use super::site::Site;
use crate::{Result, Trouble};

/// Of the burst from which the first rate is taken.
const BURST_S: f64 = 5.0;
/// Of a try on the way to the rate.
const TRY_S: f64 = 8.0;
/// From one try to the next, up or down.
const STEP: f64 = 1.07;
const TRIES_MAX: usize = 6;
/// What counts is how many events come and not the moment of each; waking up for each would take the processors from
/// the daemon, three times as much as the closed load takes from the other sides.
const TICK_MS: u32 = 5;
/// A backlog of so many seconds will not go away any more.
const HOPELESS_S: f64 = 3.0;
/// So much more may wait in the last quarter than in the third: what comes and goes with a batch, and a share of
/// the quarter below which growth cannot be told from that.
const BATCH_S: f64 = 0.05;
const GROWTH_SHARE: f64 = 0.015;

/// Its figures, `per_second` among them.
pub(super) fn steady(site: &Site<'_>, connections: u32, seconds: f64) -> Result<Value> {
    let mut rate = seek(site, connections, seconds)?;
    for _ in 0..TRIES_MAX {
        let samples = hold(site, connections, seconds, rate)?;
        if samples.kept_up(rate) {
            return Ok(samples.told(rate));
        }
        eprintln!("      at {rate:.0}/s something piles up; again with less");
        rate /= STEP;
    }
    Err(Trouble::new(
        "no rate was found at which the backlog does not grow; is the machine busy with something else?",
    ))
}

/// The highest rate of a few that holds for a short time.
fn seek(site: &Site<'_>, connections: u32, seconds: f64) -> Result<f64> {
    let mut rate = burst(site, connections, BURST_S.min(seconds))?;
    let mut held = None;
    for _ in 0..TRIES_MAX {
        let holds = hold(site, connections, TRY_S.min(seconds), rate)?.kept_up(rate);
        rate = match (holds, held) {
            // The one before did not hold: this is the highest.
            (true, Some(false)) => return Ok(rate),
            (false, Some(true)) => return Ok(rate / STEP),
            (true, _) => rate * STEP,
            (false, _) => rate / STEP,
        };
        held = Some(holds);
    }
    Ok(rate)
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
    let mut seen = Vec::new();
    let (started, cpu) = (Instant::now(), daemon.cpu_us());
    let load = Load { connections, seconds, rate: Some(rate), tick_ms: TICK_MS, ..Load::default() };
    let loaded = load.watched(site, &daemon.address, || {
        let metrics = daemon.metrics()?;
        let (accepted, done) = (metrics.accepted(), metrics.done());
        let waiting = accepted.saturating_sub(done);
        seen.push(Sample { at_s: started.elapsed().as_secs_f64(), done, waiting, lag: metrics.index_lag() });
        let is_hopeless = waiting as f64 > rate * HOPELESS_S;
        Ok(if is_hopeless { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    let Some(loaded) = loaded else { return Ok(Samples { seen, load: Value::Null }) };
    daemon.wait_until_ended(site, loaded.answered())?;
    Ok(Samples { seen, load: loaded.charged(daemon.cpu_us() - cpu) })
}

#[derive(Clone, Copy)]
struct Sample {
    at_s: f64,
    done: u64,
    /// Accepted and not done.
    waiting: u64,
    lag: u64,
}

struct Samples {
    seen: Vec<Sample>,
    /// What the generator counted; null: it was broken off, since nothing could be hoped for any more.
    load: Value,
}

impl Samples {
    /// Neither the backlog nor the lag was larger in the last quarter than in the third.
    fn kept_up(&self, rate: f64) -> bool {
        let (Some(first), Some(last)) = (self.seen.first(), self.seen.last()) else { return false };
        let slack = rate * (BATCH_S + GROWTH_SHARE * (last.at_s - first.at_s) / 4.0);
        let grew = |pick: fn(&Sample) -> u64| self.mean(3, pick) > self.mean(2, pick) + slack;
        !self.load.is_null() && !grew(|sample| sample.waiting) && !grew(|sample| sample.lag)
    }

    /// Over one quarter of the time, 0 to 3.
    fn mean(&self, quarter: usize, pick: fn(&Sample) -> u64) -> f64 {
        let part = |n: usize| self.seen.len() * n / 4;
        let of = &self.seen[part(quarter)..part(quarter + 1)];
        of.iter().map(|sample| pick(sample) as f64).sum::<f64>() / of.len().max(1) as f64
    }

    /// From a tenth of the time to its end: the first moments are spent on waking up.
    fn done_per_second(&self) -> f64 {
        let (Some(first), Some(last)) = (self.seen.get(self.seen.len() / 10), self.seen.last()) else {
            return 0.0;
        };
        (last.done - first.done) as f64 / (last.at_s - first.at_s).max(f64::MIN_POSITIVE)
    }

    fn told(&self, rate: f64) -> Value {
        let at = |place: usize| {
            let sample = self.seen.get(place);
            sample.map(|s| json!({"at_s": s.at_s, "waiting": s.waiting, "index_lag_records": s.lag}))
        };
        let last = self.seen.len().saturating_sub(1);
        let most = |pick: fn(&Sample) -> u64| self.seen.iter().map(pick).max();
        json!({
            "per_second": self.done_per_second(),
            "offered_per_second": rate,
            "server_cpu_us": self.load["server_cpu_us"],
            "cpu_us": self.load["cpu_us"],
            "start": at(self.seen.len() / 10),
            "middle": at(last / 2),
            "end": at(last),
            "waiting_max": most(|s| s.waiting),
            "index_lag_max": most(|s| s.lag),
            "load": self.load,
        })
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
        Samples { seen: (20..240).map(sample).collect(), load: json!({"answered": 1}) }
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
    fn what_was_broken_off_did_not_hold() {
        let even = samples(|_| 10.0, |_| 0.0);
        assert!(even.kept_up(1000.0));
        assert!(!Samples { load: Value::Null, ..even }.kept_up(1000.0));
    }

    #[test]
    fn nothing_seen_is_nothing_shown() {
        assert!(!Samples { seen: Vec::new(), load: json!({}) }.kept_up(1000.0));
        assert_eq!(Samples { seen: Vec::new(), load: json!({}) }.done_per_second(), 0.0);
    }

    #[test]
    fn start_middle_and_end_are_told() {
        let told = samples(|at| at, |at| 2.0 * at).told(1000.0);
        for (when, at) in [("start", 10.5), ("middle", 32.25), ("end", 59.75)] {
            assert_eq!(told[when]["at_s"], at);
        }
        assert_eq!(told["index_lag_max"], 119);
    }
}
