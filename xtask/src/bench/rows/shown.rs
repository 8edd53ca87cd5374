//! Shown: the rows as tables: what each reaches, that nothing piled up, and what an event costs.

use serde_json::Value;

use crate::bench::figures::{bytes, mark, median, ratio, span, whole};
use crate::bench::results::number;
use crate::bench::table::Table;
use crate::bench::{machine, rebuild};

const MIB: f64 = (1u64 << 20) as f64;

/// The table, and below it what shows that nothing piled up.
/// `rebuilt`: the last row, which has a run of its own.
pub(in crate::bench) fn shown(result: &Value, rebuilt: Option<&Value>) -> String {
    let parts = [
        table(result, rebuilt).markdown(),
        lags(result),
        costs(result).markdown(),
        machine::sentence(result),
    ];
    parts.join("\n\n")
}

fn table(result: &Value, rebuilt: Option<&Value>) -> Table {
    let mut table = Table::new(&["", "what", ">measured", ">is", ">bar", ">wish", ""]);
    for line in lines(result, rebuilt) {
        let verdict = line.verdict();
        table.row([
            line.number.into(),
            line.what,
            line.measured,
            (line.show)(line.value),
            mark(&(line.show)(line.bar)),
            mark(&(line.show)(line.wish)),
            verdict.into(),
        ]);
    }
    table
}

struct Line {
    number: &'static str,
    what: String,
    measured: String,
    value: f64,
    bar: f64,
    wish: f64,
    more_is_better: bool,
    show: fn(f64) -> String,
}

impl Line {
    fn verdict(&self) -> &'static str {
        let reached = |mark: f64| if self.more_is_better { self.value >= mark } else { self.value <= mark };
        match () {
            () if self.value.is_nan() => "not measured",
            () if reached(self.wish) => "bar and wish reached",
            () if reached(self.bar) => "bar reached",
            () => "BAR MISSED",
        }
    }
}

fn lines(result: &Value, rebuilt: Option<&Value>) -> Vec<Line> {
    let mut lines = throughput(result);
    lines.extend(costs_of_one(result));
    lines.extend(memory_and_start(result, rebuilt.unwrap_or(&Value::Null)));
    lines
}

fn throughput(result: &Value) -> Vec<Line> {
    let line = |number, what: &str, sides: Sides, (bar, wish)| Line {
        number,
        what: what.into(),
        measured: format!("{} /s ÷ {} /s", whole(sides.ours()), whole(sides.theirs())),
        value: sides.ratio(),
        bar,
        wish,
        more_is_better: true,
        show: ratio,
    };
    let (accept, done) = (rates(result, "accept"), rates(result, "done"));
    let around = |first: usize| {
        let rates = |n: usize| move |round: &Value| number(&round["bare"][n], "per_second");
        let both = move |round| f64::midpoint(rates(first)(round), rates(first + 1)(round));
        rounds(result).map(both).collect::<Vec<_>>()
    };
    vec![
        line(
            "1",
            "durable accepts ÷ a bare axum server that verifies",
            Sides(accept.clone(), around(0)),
            (0.5, 0.7),
        ),
        line(
            "2",
            "accepted and done by a no-op handler ÷ the same server",
            Sides(done, around(1)),
            (0.12, 0.2),
        ),
        line(
            "3",
            "durable accepts ÷ the provider's Express example",
            Sides(accept, rates(result, "express")),
            (5.0, 10.0),
        ),
    ]
}

/// Two rates of each round.
struct Sides(Vec<f64>, Vec<f64>);

impl Sides {
    fn ours(&self) -> f64 {
        median(self.0.iter().copied())
    }

    fn theirs(&self) -> f64 {
        median(self.1.iter().copied())
    }

    fn ratio(&self) -> f64 {
        median(self.0.iter().zip(&self.1).map(|(ours, theirs)| ours / theirs))
    }
}

fn rates(result: &Value, side: &str) -> Vec<f64> {
    rounds(result).map(|round| number(&round[side], "per_second")).collect()
}

fn rounds(result: &Value) -> impl Iterator<Item = &Value> {
    result["rounds"].as_array().into_iter().flatten()
}

fn costs_of_one(result: &Value) -> Vec<Line> {
    let pairs = || result["half_load"]["pairs"].as_array().into_iter().flatten();
    let of_pairs = |path: &str| median(pairs().map(|pair| number(pair, path)));
    let host = |key: &str| number(&result["host"], key);
    let line = |number, what: &str, (ours, theirs): (f64, f64), value, (bar, wish)| Line {
        number,
        what: what.into(),
        measured: format!("{} ÷ {}", span(ours), span(theirs)),
        value,
        bar,
        wish,
        more_is_better: false,
        show: ratio,
    };
    let waits = (of_pairs("accept.p99_us"), of_pairs("sync.append.p99_us"));
    let calls = (host("host_us"), host("bare_us"));
    let appending = span(of_pairs("appending.p99_us"));
    vec![
        line(
            "4",
            &format!(
                "p99 of accept at half load ÷ p99 of one append and fdatasync (a bare server that appends: {appending})"
            ),
            waits,
            of_pairs("ratio"),
            (10.0, 4.0),
        ),
        line("5", "host cost of a delivery ÷ a bare wasmtime call", calls, host("ratio"), (1.5, 1.2)),
    ]
}

fn memory_and_start(result: &Value, rebuilt: &Value) -> Vec<Line> {
    let memory = |path: &str| number(&result["memory"], path);
    let keys = whole(memory("keys"));
    let restarted = format!("after a restart {}", bytes(memory("restarted.resident_bytes")));
    let journal = if rebuilt.is_null() { "by `bench rebuild`".into() } else { rebuild::size(rebuilt) };
    let line = |number, what: String, measured, value, (bar, wish), show| Line {
        number,
        what,
        measured,
        value,
        bar,
        wish,
        more_is_better: false,
        show,
    };
    let size = |what: String, measured, value, (bar, wish): (f64, f64)| {
        line("6", what, measured, value, (bar * MIB, wish * MIB), bytes as fn(f64) -> String)
    };
    let start = |what: String, measured, value, marks| line("7", what, measured, value, marks, span);
    let lost = "start with the index lost, made again from the journal".to_owned();
    vec![
        size("resident memory, idle".into(), String::new(), memory("idle.resident_bytes"), (64.0, 40.0)),
        size(
            format!("resident memory, {keys} live keys"),
            restarted,
            memory("full.resident_bytes"),
            (256.0, 150.0),
        ),
        start(format!("start with {keys} live keys, clean"), String::new(), memory("start_us"), (2e6, 0.5e6)),
        start(lost, journal, number(rebuilt, "start_us"), (300e6, 60e6)),
    ]
}

/// Backlog and lag at the start, in the middle and at the end, of the round in the middle.
fn lags(result: &Value) -> String {
    let mut table = Table::new(&["held for the whole time", ">start", ">middle", ">end", ">most"]);
    let rounds = result["rounds"].as_array();
    let Some(round) = rounds.and_then(|rounds| rounds.get(rounds.len() / 2)) else { return String::new() };
    let cell = |path: String| whole(number(round, &path));
    let times = ["start", "middle", "end"];
    let mut row = |what: &str, path: &dyn Fn(&str) -> String, most: &str| {
        let mut cells = vec![what.to_owned()];
        cells.extend(times.iter().map(|time| cell(path(time))));
        cells.push(cell(most.to_owned()));
        table.row_of(cells);
    };
    row(
        "accepts alone: records that the index has not seen",
        &|time| format!("accept.index_lag_records.{time}"),
        "accept.index_lag_records.max",
    );
    row(
        "accepted and done: records that the index has not seen",
        &|time| format!("done.{time}.index_lag_records"),
        "done.index_lag_max",
    );
    row(
        "accepted and done: events accepted and not done",
        &|time| format!("done.{time}.waiting"),
        "done.waiting_max",
    );
    table.markdown()
}

/// Processor time for each event. It moves less than the clock does when something else runs on the machine.
fn costs(result: &Value) -> Table {
    let mut table = Table::new(&["processor time for each event", ">server", ">load generator"]);
    for (what, side) in [
        ("a bare axum server that verifies", "bare"),
        ("durable accepts", "accept"),
        ("accepted and done by a no-op handler", "done"),
        ("the provider's Express example", "express"),
    ] {
        let of = |round: &Value, key: &str| match &round[side] {
            Value::Array(turns) => median(turns.iter().map(|turn| number(turn, key))),
            turn => number(turn, key),
        };
        let us = |key: &str| {
            let value = median(rounds(result).map(|round| of(round, key)).filter(|value| value.is_finite()));
            if value.is_nan() { "-".to_owned() } else { format!("{value:.1} us") }
        };
        table.row([what.into(), us("server_cpu_us"), us("cpu_us")]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result() -> Value {
        let round = |bare: f64, accept: f64| {
            let turn = |per_second: f64| json!({"per_second": per_second, "server_cpu_us": 17.04});
            json!({
                "bare": [turn(bare - 1_000.0), turn(bare + 1_000.0), turn(bare - 3_000.0)], "express": {"per_second": 3_000.0},
                "accept": {"per_second": accept, "server_cpu_us": 41.26, "cpu_us": 9.0, "index_lag_records": {"start": 5, "middle": 6, "end": 7, "max": 80}},
                "done": {"per_second": 6_000.0, "start": {"waiting": 1, "index_lag_records": 2},
                    "middle": {"waiting": 3, "index_lag_records": 4}, "end": {"waiting": 5, "index_lag_records": 6},
                    "waiting_max": 7, "index_lag_max": 8},
            })
        };
        json!({
            "rounds": [round(50_000.0, 24_000.0), round(60_000.0, 31_000.0), round(40_000.0, 26_000.0)],
            "half_load": {"pairs": [{"accept": {"p99_us": 9_000}, "appending": {"p99_us": 5_000}, "sync": {"append": {"p99_us": 3_000}}, "ratio": 3.0}]},
            "host": {"host_us": 70.0, "bare_us": 50.0, "ratio": 1.4},
            "memory": {"keys": 1_000_000, "idle": {"resident_bytes": 50 << 20}, "full": {"resident_bytes": 300 << 20}, "start_us": 400_000},
        })
    }

    #[test]
    fn each_row_says_whether_its_bar_and_its_wish_are_reached() {
        let verdicts: Vec<_> =
            lines(&result(), None).iter().map(|line| (line.number, line.verdict())).collect();
        let wanted = [
            ("1", "bar reached"),
            ("2", "bar reached"),
            ("3", "bar reached"),
            ("4", "bar and wish reached"),
            ("5", "bar reached"),
            ("6", "bar reached"),
            ("6", "BAR MISSED"),
            ("7", "bar and wish reached"),
            ("7", "not measured"),
        ];
        assert_eq!(verdicts, wanted);
    }

    #[test]
    fn the_table_holds_the_medians_and_the_lags() {
        let shown = shown(&result(), None);
        for words in [
            "26,000 /s ÷ 50,000 /s",
            "0.52",
            "17.0 us",
            "9.00 ms ÷ 3.00 ms",
            "300 MiB",
            "41.3 us",
            "|     5 |      6 |   7 |   80 |",
        ] {
            assert!(shown.contains(words), "`{words}` is not in\n{shown}");
        }
    }
}
