//! Metrics: every figure that `/metrics` shows, named by the verbs. Counters only; gauges are read when scraped.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::histogram::exponential_buckets;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BySource {
    pub source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByReason {
    pub source: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByOutcome {
    pub handler: String,
    pub outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByHandler {
    pub handler: String,
}

/// Cheap to clone; one per process.
#[derive(Clone)]
pub struct Metrics {
    pub accepted: Family<BySource, Counter>,
    pub duplicates: Family<BySource, Counter>,
    /// Duplicates by id whose body differed.
    pub body_differed: Family<BySource, Counter>,
    /// Answered, and nothing stored.
    pub handshakes: Family<BySource, Counter>,
    /// `source` is empty where the path named none; `reason` is a slug of `intake/refusal`.
    pub refusals: Family<ByReason, Counter>,
    /// `outcome` is done, skipped, dead, parked or retried.
    pub deliveries: Family<ByOutcome, Counter>,
    pub attempts: Family<ByOutcome, Counter>,
    pub breaker_openings: Family<ByHandler, Counter>,
    pub answer_seconds: Histogram,
    pub attempt_seconds: Family<ByHandler, Histogram, fn() -> Histogram>,
    registry: Arc<Registry>,
}

/// The counters of one source, looked up once: a look-up by label is a lock and a hash.
#[derive(Clone, Debug)]
pub struct OfSource {
    pub accepted: Counter,
    pub duplicates: Counter,
    pub body_differed: Counter,
    pub handshakes: Counter,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 18))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("longshore");
        let metrics = Metrics {
            accepted: Family::default(),
            duplicates: Family::default(),
            body_differed: Family::default(),
            handshakes: Family::default(),
            refusals: Family::default(),
            deliveries: Family::default(),
            attempts: Family::default(),
            breaker_openings: Family::default(),
            answer_seconds: seconds(),
            attempt_seconds: Family::new_with_constructor(seconds as fn() -> Histogram),
            registry: Arc::default(),
        };
        let m = &metrics;
        registry.register(
            "events_accepted",
            "Events stored and answered 200 for the first time",
            m.accepted.clone(),
        );
        registry.register(
            "events_duplicate",
            "Redeliveries answered 200 and not handled again",
            m.duplicates.clone(),
        );
        registry.register(
            "events_body_differed",
            "Redeliveries whose body differed from the first",
            m.body_differed.clone(),
        );
        registry.register(
            "handshakes_answered",
            "Challenges of providers that were answered, and are no events",
            m.handshakes.clone(),
        );
        registry.register("refusals", "Requests that got no 2xx, by reason", m.refusals.clone());
        registry.register("deliveries", "Deliveries by what an attempt led to", m.deliveries.clone());
        registry.register("attempts", "Attempts by outcome", m.attempts.clone());
        registry.register(
            "breaker_openings",
            "How often a lane was stopped because a called service did not answer well",
            m.breaker_openings.clone(),
        );
        registry.register_with_unit(
            "answer",
            "From the end of a request's headers to its answer",
            Unit::Seconds,
            m.answer_seconds.clone(),
        );
        registry.register_with_unit(
            "attempt",
            "One call of a handler",
            Unit::Seconds,
            m.attempt_seconds.clone(),
        );
        Metrics { registry: Arc::new(registry), ..metrics }
    }
}

impl Metrics {
    pub fn of_source(&self, source: &str) -> OfSource {
        let label = BySource { source: source.to_owned() };
        let of = |family: &Family<BySource, Counter>| family.get_or_create(&label).clone();
        OfSource {
            accepted: of(&self.accepted),
            duplicates: of(&self.duplicates),
            body_differed: of(&self.body_differed),
            handshakes: of(&self.handshakes),
        }
    }

    /// The counters in OpenMetrics text, without its final `# EOF`.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode_registry(&mut text, &self.registry)
            .expect("a String takes all text");
        text
    }
}
