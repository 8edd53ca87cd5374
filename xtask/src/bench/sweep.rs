//! Sweep: the same load over other numbers of connections, over TLS, and with other bodies.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::daemon::{Daemon, Home, Wanted};
use super::figures::{ratio, span, whole};
use super::load::Load;
use super::results::{self, number};
use super::site::{Place, Site};
use super::table::Table;
use super::{machine, servers};
use crate::Result;
use crate::interrupt::Interrupts;

/// Measure: 1 to 1,024 connections, TLS, and bodies of 200 B to 200 KiB, each beside the bare server.
#[derive(Args)]
pub(super) struct Sweep {
    /// Of each measurement.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Each point is measured so often, both sides in turns; the medians count.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[command(flatten)]
    place: Place,
}

const CONNECTIONS: [u32; 4] = [1, 16, 256, 1024];
const BODIES: [usize; 3] = [200, 6 << 10, 200 << 10];
/// Beside the axis that is looked along.
const USUAL_CONNECTIONS: u32 = 64;
const USUAL_BODY: usize = 600;
const WARM_UP_S: f64 = 1.0;

#[derive(Clone, Copy)]
struct Point {
    connections: u32,
    body: usize,
    tls: bool,
}

impl Sweep {
    pub(super) fn run(self, interrupts: &Interrupts) -> Result<ExitCode> {
        let site = Site::open(&self.place, interrupts)?;
        let mut measured = Vec::new();
        for point in points() {
            measured.push(self.point(&site, point)?);
        }
        let result = results::save(&site, "sweep", json!({"seconds": self.seconds, "points": measured}))?;
        println!("{}", shown(&result));
        Ok(ExitCode::SUCCESS)
    }

    fn point(&self, site: &Site<'_>, point: Point) -> Result<Value> {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let home = Home::scratch(site, Wanted::Nothing, point.tls)?;
            let mut daemon = Daemon::start(site, &home)?;
            let certificate = point.tls.then(|| daemon.certificate());
            let load = Load {
                connections: point.connections,
                seconds: self.seconds,
                warm_up: WARM_UP_S,
                body_bytes: Some(point.body),
                tls: certificate.as_ref().map(|files| files.certificate.clone()),
                ..Load::default()
            };
            let before = daemon.cpu_us();
            ours.push(load.run(site, &daemon.address)?.charged(daemon.cpu_us() - before));
            // One side at a time; the files of its certificate stay until the home goes.
            drop(daemon);
            let mut server = servers::bare(site, certificate.as_ref())?;
            let before = server.cpu_us();
            bare.push(load.run(site, &server.address)?.charged(server.cpu_us() - before));
        }
        let told = json!({
            "connections": point.connections, "body_bytes": point.body, "tls": point.tls,
            "ours": middle(&ours), "bare": middle(&bare),
        });
        let (us, them) = (number(&told, "ours.per_second"), number(&told, "bare.per_second"));
        eprintln!("      {}: {}/s, bare {}/s", point.name(), whole(us), whole(them));
        Ok(told)
    }
}

impl Point {
    fn name(self) -> String {
        let tls = if self.tls { ", TLS" } else { "" };
        format!("{} connections, {} B{tls}", self.connections, self.body)
    }
}

/// Along connections and along bodies, each plain and over TLS.
fn points() -> Vec<Point> {
    let mut points = Vec::new();
    for tls in [false, true] {
        points.extend(CONNECTIONS.map(|connections| Point { connections, body: USUAL_BODY, tls }));
        points.extend(BODIES.map(|body| Point { connections: USUAL_CONNECTIONS, body, tls }));
    }
    points
}

/// The run in the middle by its rate, whole: its waits belong to its rate.
fn middle(runs: &[Value]) -> &Value {
    let mut sorted: Vec<&Value> = runs.iter().collect();
    sorted.sort_by(|a, b| number(a, "per_second").total_cmp(&number(b, "per_second")));
    sorted[sorted.len() / 2]
}

// === what is shown ===

pub(super) fn shown(result: &Value) -> String {
    let mut table = Table::new(&[
        ">connections",
        ">body",
        "",
        ">accepts",
        ">bare",
        ">ratio",
        ">p50",
        ">p99",
        ">bare p99",
    ]);
    for point in result["points"].as_array().into_iter().flatten() {
        let of = |path: &str| number(point, path);
        table.row([
            whole(of("connections")),
            super::figures::bytes(of("body_bytes")),
            if point["tls"] == true { "TLS" } else { "plain" }.into(),
            format!("{} /s", whole(of("ours.per_second"))),
            format!("{} /s", whole(of("bare.per_second"))),
            ratio(of("ours.per_second") / of("bare.per_second")),
            span(of("ours.p50_us")),
            span(of("ours.p99_us")),
            span(of("bare.p99_us")),
        ]);
    }
    format!("{}\n\n{}", table.markdown(), machine::sentence(result))
}

/// Charts for `bench-plot`, by the name of their file.
pub(super) fn charts(result: &Value) -> Vec<(&'static str, Value)> {
    let series = |name: &str, side: &str, tls: bool, along: &str| {
        let points = result["points"].as_array().into_iter().flatten();
        let is_on = |point: &&Value| {
            point["tls"] == tls
                && match along {
                    "connections" => point["body_bytes"] == USUAL_BODY,
                    _ => point["connections"] == USUAL_CONNECTIONS,
                }
        };
        let xy = |point: &Value| json!([point[along], point[side]["per_second"]]);
        json!({"name": name, "points": points.filter(is_on).map(xy).collect::<Vec<_>>()})
    };
    let chart = |title: &str, along: &str, x: &str, log: bool| {
        json!({
            "title": title, "x": {"name": x, "log": true}, "y": {"name": "per second", "log": log},
            "series": [
                series("durable accepts", "ours", false, along), series("bare server", "bare", false, along),
                series("durable accepts, TLS", "ours", true, along), series("bare server, TLS", "bare", true, along),
            ],
        })
    };
    vec![
        (
            "sweep-connections",
            chart("Accepts by connections, bodies of 600 B", "connections", "connections", false),
        ),
        (
            "sweep-bodies",
            chart("Accepts by size of the body, 64 connections", "body_bytes", "bytes of the body", true),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> Value {
        let measured = |point: Point| {
            json!({"connections": point.connections, "body_bytes": point.body, "tls": point.tls,
                "ours": {"per_second": 20_000.0, "p50_us": 800, "p99_us": 2_000}, "bare": {"per_second": 40_000.0, "p99_us": 900}})
        };
        json!({"points": points().into_iter().map(measured).collect::<Vec<_>>()})
    }

    #[test]
    fn every_point_is_a_line_of_the_table() {
        let shown = shown(&result());
        assert_eq!(shown.matches("0.50").count(), 2 * (CONNECTIONS.len() + BODIES.len()));
        assert!(shown.contains("| 1,024 |") || shown.contains("1,024 |"), "{shown}");
    }

    #[test]
    fn each_chart_has_the_points_of_its_axis() {
        let charts = charts(&result());
        for ((name, chart), count) in charts.iter().zip([CONNECTIONS.len(), BODIES.len()]) {
            for series in chart["series"].as_array().unwrap() {
                assert_eq!(series["points"].as_array().unwrap().len(), count, "{name}");
            }
        }
    }
}
