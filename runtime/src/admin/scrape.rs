//! Scrape: the page behind `/metrics`. Counters come from `metrics`; gauges are read here, at the moment of asking.

use prometheus_client::encoding::EncodeLabelSet;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::Admin;
use crate::dispatch::LaneStat;
use crate::intake::InFlight;
use crate::metrics::ByHandler;
use crate::store::{Backlog, Refused, Stat};
use crate::words::lane::LaneState;
use crate::words::time::Millis;

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the gauges show, read together.
struct Reading {
    stat: Stat,
    lanes: Vec<LaneStat>,
    in_flight: InFlight,
    ready: bool,
    /// For good, and not because it is closing.
    failed: bool,
    started_at: Millis,
}

pub(super) fn page(admin: &Admin, now: Millis) -> String {
    let reading = Reading {
        stat: admin.ledger.stat(),
        lanes: admin.dispatch.stat(),
        in_flight: admin.intake.in_flight(),
        ready: admin.unready().is_none(),
        failed: matches!(admin.ledger.refusing(), Some(Refused::Failed(_))),
        started_at: admin.facts.started_at,
    };
    let mut text = admin.metrics.encode();
    text.push_str(&gauges(&reading, now));
    text.push_str("# EOF\n");
    text
}

fn gauges(reading: &Reading, now: Millis) -> String {
    let mut registry = Registry::with_prefix("longshore");
    process(&mut registry, reading);
    intake(&mut registry, reading.in_flight);
    store(&mut registry, reading);
    backlog(&mut registry, reading, now);
    lanes(&mut registry, &reading.lanes);
    let mut text = String::new();
    encode_registry(&mut text, &registry).expect("a String takes all text");
    text
}

fn process(registry: &mut Registry, reading: &Reading) {
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The version that runs", build);
    gauge(registry, "ready", "1 while a sender may expect a 2xx", u64::from(reading.ready));
    let started_s = reading.started_at.0 as f64 / 1000.0;
    seconds(registry, "start_time", "When the daemon started, since the epoch", ConstGauge::new(started_s));
}

fn intake(registry: &mut Registry, now: InFlight) {
    gauge(registry, "connections", "Open connections of senders", now.connections as u64);
    gauge(registry, "requests_in_flight", "Requests between headers and answer", now.requests as u64);
    bytes(registry, "bodies_in_flight", "Bodies read and not yet durable", now.body_bytes as u64);
}

fn store(registry: &mut Registry, reading: &Reading) {
    let stat = &reading.stat;
    let failed = "1 once the store has failed: it takes nothing before a restart";
    gauge(registry, "store_failed", failed, u64::from(reading.failed));
    let damaged = "1 once an old segment was found that does not read: it stays, and all behind it";
    gauge(registry, "store_damaged", damaged, u64::from(stat.damaged.is_some()));
    gauge(registry, "journal_segments", "Segments of the journal", stat.segments);
    bytes(registry, "journal", "Size of the journal", stat.journal_bytes);
    bytes(registry, "journal_live", "What of the journal cannot be dropped", stat.live_bytes);
    bytes(registry, "index", "Size of the index", stat.index_bytes);
    bytes(registry, "disk_free", "Free on the file system of the store", stat.free_bytes);
    gauge(registry, "index_lag_records", "Records that the index has not seen", stat.index_lag_records);
    counter(registry, "journal_records", "Records written to the journal", stat.records);
    counter(registry, "journal_syncs", "Syncs of the journal", stat.syncs);
    let synced_s = ConstCounter::new(stat.sync_us_total as f64 / 1e6);
    seconds(registry, "journal_sync", "Time spent in syncs of the journal", synced_s);
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    handler: String,
    status: &'static str,
}

/// Every handler has its figures, also where nothing waits: an alert needs the 0.
fn backlog(registry: &mut Registry, reading: &Reading, now: Millis) {
    let count = Family::<ByStatus, Gauge>::default();
    let oldest = Family::<ByHandler, Gauge<f64, AtomicU64>>::default();
    let idle = reading.lanes.iter().map(|lane| (lane.handler.to_string(), Backlog::default()));
    let mut backlog: BTreeMap<String, Backlog> = idle.collect();
    backlog.extend(reading.stat.backlog.clone());
    for (handler, waiting) in &backlog {
        for (status, n) in by_status(waiting) {
            let labels = ByStatus { handler: handler.clone(), status };
            count.get_or_create(&labels).set(i64::try_from(n).unwrap_or(i64::MAX));
        }
        let age = waiting.oldest_accepted_at.map_or(0.0, |at| now.since(at).as_secs_f64());
        oldest.get_or_create(&ByHandler { handler: handler.clone() }).set(age);
    }
    registry.register("backlog_deliveries", "Deliveries that have not ended", count);
    seconds(registry, "backlog_oldest_age", "Age of the oldest delivery that has not ended", oldest);
}

fn by_status(waiting: &Backlog) -> [(&'static str, u64); 3] {
    [("open", waiting.open), ("held", waiting.held), ("parked", waiting.parked)]
}

fn lanes(registry: &mut Registry, lanes: &[LaneStat]) {
    let running = Family::<ByHandler, Gauge>::default();
    let in_memory = Family::<ByHandler, Gauge>::default();
    for lane in lanes {
        let labels = ByHandler { handler: lane.handler.to_string() };
        running.get_or_create(&labels).set(i64::try_from(lane.running).unwrap_or(i64::MAX));
        in_memory.get_or_create(&labels).set(i64::try_from(lane.in_memory).unwrap_or(i64::MAX));
    }
    let breaker = Family::<ByHandler, Gauge>::default();
    let paused = Family::<ByHandler, Gauge>::default();
    for lane in lanes {
        let labels = ByHandler { handler: lane.handler.to_string() };
        breaker.get_or_create(&labels).set(match lane.lane {
            LaneState::Closed => 0,
            LaneState::Returning { .. } => 1,
            LaneState::Open { .. } => 2,
        });
        paused.get_or_create(&labels).set(i64::from(lane.paused.is_some()));
    }
    let help =
        "0: attempts start as ever, 1: few at once after an outage, 2: none but probes, a service is down";
    registry.register("breaker_state", help, breaker);
    registry.register("lane_paused", "1 while the operator has paused the handler", paused);
    registry.register("lane_running", "Attempts now running", running);
    registry.register("lane_in_memory", "Deliveries in the memory of a lane", in_memory);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstCounter::new(value));
}

fn bytes(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register_with_unit(name, help, Unit::Bytes, value);
}

fn seconds(registry: &mut Registry, name: &str, help: &str, metric: impl Metric) {
    registry.register_with_unit(name, help, Unit::Seconds, metric);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{ByOutcome, ByReason, BySource, Metrics};
    use crate::words::event::Name;
    use crate::words::lane::Pause;

    fn lane(handler: &str, in_memory: usize, running: usize) -> LaneStat {
        let handler = Name::new(handler).unwrap();
        LaneStat { handler, in_memory, running, lane: LaneState::Closed, paused: None }
    }

    fn down(lane: LaneStat) -> LaneStat {
        let open = LaneState::Open {
            origin: "https://api.hubapi.com".to_owned(),
            failures: 20,
            since: Millis(0),
            why: "answered 503".to_owned(),
            probes: 0,
            probe_at: None,
        };
        LaneStat { lane: open, paused: Some(Pause { since: Millis(0), reason: None }), ..lane }
    }

    fn reading() -> Reading {
        let waiting = Backlog { open: 3, held: 1, parked: 0, oldest_accepted_at: Some(Millis(1_000)) };
        Reading {
            stat: Stat {
                damaged: Some("`3.seg` is damaged at byte 7: a checksum is wrong".to_owned()),
                journal_bytes: 4096,
                free_bytes: 1 << 40,
                index_lag_records: 7,
                syncs: 2,
                sync_us_total: 1_500_000,
                backlog: [("slack-notify".to_owned(), waiting)].into(),
                ..Stat::default()
            },
            lanes: vec![lane("slack-notify", 4, 2), down(lane("crm-sync", 0, 0))],
            in_flight: InFlight { connections: 5, requests: 6, body_bytes: 700 },
            ready: true,
            failed: false,
            started_at: Millis(90_500),
        }
    }

    #[test]
    fn every_gauge_is_on_the_page_with_its_unit() {
        let page = gauges(&reading(), Millis(61_000));
        for line in [
            &format!("longshore_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
            "longshore_ready 1",
            "longshore_start_time_seconds 90.5",
            "longshore_connections 5",
            "longshore_requests_in_flight 6",
            "longshore_bodies_in_flight_bytes 700",
            "longshore_store_failed 0",
            "longshore_store_damaged 1",
            "longshore_journal_bytes 4096",
            "longshore_disk_free_bytes 1099511627776",
            "longshore_index_lag_records 7",
            "longshore_journal_syncs_total 2",
            "longshore_journal_sync_seconds_total 1.5",
            "longshore_backlog_deliveries{handler=\"slack-notify\",status=\"open\"} 3",
            "longshore_backlog_deliveries{handler=\"slack-notify\",status=\"held\"} 1",
            "longshore_backlog_oldest_age_seconds{handler=\"slack-notify\"} 60.0",
            "longshore_backlog_deliveries{handler=\"crm-sync\",status=\"parked\"} 0",
            "longshore_backlog_oldest_age_seconds{handler=\"crm-sync\"} 0.0",
            "longshore_lane_running{handler=\"slack-notify\"} 2",
            "longshore_lane_in_memory{handler=\"slack-notify\"} 4",
            "longshore_breaker_state{handler=\"slack-notify\"} 0",
            "longshore_breaker_state{handler=\"crm-sync\"} 2",
            "longshore_lane_paused{handler=\"slack-notify\"} 0",
            "longshore_lane_paused{handler=\"crm-sync\"} 1",
        ] {
            assert!(page.lines().any(|l| l == line), "`{line}` is not in\n{page}");
        }
    }

    /// Two families of one name make the whole page unreadable to a scraper.
    #[test]
    fn no_name_is_given_twice() {
        let metrics = Metrics::default();
        for family in [&metrics.accepted, &metrics.duplicates, &metrics.body_differed] {
            family.get_or_create(&BySource { source: String::new() }).inc();
        }
        metrics.refusals.get_or_create(&ByReason { source: String::new(), reason: String::new() }).inc();
        metrics.deliveries.get_or_create(&ByOutcome { handler: String::new(), outcome: String::new() }).inc();
        metrics.attempts.get_or_create(&ByOutcome { handler: String::new(), outcome: String::new() }).inc();
        metrics.attempt_seconds.get_or_create(&ByHandler { handler: String::new() }).observe(0.1);
        metrics.breaker_openings.get_or_create(&ByHandler { handler: String::new() }).inc();
        let page = metrics.encode() + &gauges(&reading(), Millis(0));
        let mut names: Vec<_> = page.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup_by_key(|l| l.split(' ').next());
        assert_eq!(names.len(), all);
        assert!(all > 25, "{all}");
    }
}
