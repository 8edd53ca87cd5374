//! Tally: what the attempts of one lane add to the metrics. Each counter is looked up by its labels once, when it is
//! first needed, so that `/metrics` shows what has happened and nothing else.

use std::sync::OnceLock;
use std::time::Duration;

use crate::metrics::{ByHandler, ByOutcome, Counter, Family, Histogram, Metrics};
use crate::words::attempt::{Outcome, Verdict};
use crate::words::event::Name;
use crate::words::lane::LaneChange;

pub struct Tally {
    metrics: Metrics,
    handler: Name,
    attempts: [OnceLock<Counter>; 3],
    deliveries: [OnceLock<Counter>; 5],
    seconds: OnceLock<Histogram>,
    /// Shown from the start: an alert needs the 0.
    openings: Counter,
}

impl Tally {
    pub fn new(metrics: Metrics, handler: Name) -> Tally {
        let label = ByHandler { handler: handler.to_string() };
        let openings = metrics.breaker_openings.get_or_create(&label).clone();
        Tally {
            metrics,
            handler,
            attempts: Default::default(),
            deliveries: Default::default(),
            seconds: OnceLock::new(),
            openings,
        }
    }

    /// An attempt has ended and is written down.
    pub fn settled(&self, outcome: &Outcome, took: Duration, verdict: &Verdict) {
        let (at, outcome) = match outcome {
            Outcome::Done { .. } => (0, "done"),
            Outcome::Skipped { .. } => (1, "skipped"),
            Outcome::Failed { .. } => (2, "failed"),
        };
        self.count(&self.attempts[at], &self.metrics.attempts, outcome);
        let (at, led_to) = match verdict {
            Verdict::Done => (0, "done"),
            Verdict::Skipped => (1, "skipped"),
            Verdict::Again { .. } => (2, "retried"),
            Verdict::Dead { .. } => (3, "dead"),
            Verdict::Parked { .. } => (PARKED, "parked"),
        };
        self.count(&self.deliveries[at], &self.metrics.deliveries, led_to);
        let seconds = self.seconds.get_or_init(|| {
            let label = ByHandler { handler: self.handler.to_string() };
            self.metrics.attempt_seconds.get_or_create(&label).clone()
        });
        seconds.observe(took.as_secs_f64());
    }

    /// The breaker did something.
    pub fn changed(&self, change: &LaneChange) {
        if matches!(change, LaneChange::Opened { .. }) {
            self.openings.inc();
        }
    }

    /// A delivery was set aside without an attempt.
    pub fn parked(&self) {
        self.count(&self.deliveries[PARKED], &self.metrics.deliveries, "parked");
    }

    fn count(&self, known: &OnceLock<Counter>, family: &Family<ByOutcome, Counter>, outcome: &str) {
        let counter = known.get_or_init(|| {
            let label = ByOutcome { handler: self.handler.to_string(), outcome: outcome.to_owned() };
            family.get_or_create(&label).clone()
        });
        counter.inc();
    }
}

const PARKED: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_counted_and_nothing_else_is_shown() {
        let metrics = Metrics::default();
        let tally = Tally::new(metrics.clone(), Name::new("h").unwrap());
        let done = Outcome::Done { note: None };
        tally.settled(&done, Duration::from_millis(3), &Verdict::Done);
        tally.settled(&done, Duration::from_millis(3), &Verdict::Done);
        tally.parked();
        let shown = metrics.encode();
        for line in [
            r#"longshore_attempts_total{handler="h",outcome="done"} 2"#,
            r#"longshore_deliveries_total{handler="h",outcome="done"} 2"#,
            r#"longshore_deliveries_total{handler="h",outcome="parked"} 1"#,
            r#"longshore_attempt_seconds_count{handler="h"} 2"#,
        ] {
            assert!(shown.contains(line), "no `{line}` in\n{shown}");
        }
        assert!(!shown.contains("retried") && !shown.contains("failed"), "{shown}");
    }
}
