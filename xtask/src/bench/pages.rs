//! Pages: how long a page of the history takes, by each filter and by two at once, for values that many rows have,
//! that few have, and that none has.
//!
//! What to ask for is learned from the history itself, so a prepared directory needs no list of its contents.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::daemon::{Daemon, Home, Wanted};
use super::figures::{quantile, span, whole};
use super::load::Load;
use super::machine;
use super::results::{self, number};
use super::site::{Place, Site};
use super::table::Table;
use crate::interrupt::Interrupts;
use crate::{OrTrouble as _, Result, Trouble};

/// Measure: a page of 50 deliveries by each filter of the history, and by two at once.
#[derive(Args)]
pub(super) struct Pages {
    /// How many are made through the daemon's own door, with handlers that succeed, skip and fail.
    #[arg(long, default_value_t = 200_000)]
    deliveries: u64,
    /// Use this data directory (a `store.path`) instead; it is written to as by any daemon.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// How often each question is asked.
    #[arg(long, default_value_t = 200)]
    asks: usize,
}

const PAGE_ROWS: usize = 50;
const BAR_US: f64 = 50_000.0;
/// A question that is slow is asked less often.
const QUESTION: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// What `--deliveries` makes, of a thousand. The last segment of a type is what the handler does.
const MIX: [&str; 10] = [
    "700:/webhooks/sendpilot:message.received.noop",
    "120:/webhooks/sendpilot:connection.accepted.noop",
    "80:/webhooks/sendpilot:message.sent.skip",
    "39:/webhooks/sendpilot:lead.updated.reject",
    "8:/webhooks/sendpilot:lead.updated.retry",
    "2:/webhooks/sendpilot:lead.updated.trap",
    "1:/webhooks/sendpilot:lead.updated.unheard-of",
    "40:/webhooks/partner:order.paid.noop",
    "9:/webhooks/partner:order.paid.reject",
    "1:/webhooks/seldom:report.ready.noop",
];

impl Pages {
    pub(super) fn run(self, interrupts: &Interrupts) -> Result<ExitCode> {
        let site = Site::open(&Place::default(), interrupts)?;
        let home = match &self.data {
            Some(data) => Home::around(&site, data, Wanted::ByType)?,
            None => Home::scratch(&site, Wanted::ByType, false)?,
        };
        let daemon = Daemon::start(&site, &home)?;
        if self.data.is_none() {
            self.fill(&site, &daemon)?;
        }
        daemon.wait_for_index(&site)?;
        let socket = daemon.socket();
        let known = Known::learn(&socket)?;
        let mut asked = Vec::new();
        for question in questions(&known) {
            let told = self.ask(&socket, &question)?;
            eprintln!("      {}: p99 {}", question.name, span(number(&told, "p99_us")));
            asked.push(told);
            site.until(|| Some(()))?;
        }
        let made = self.data.is_none().then_some(self.deliveries);
        let result = json!({"deliveries": made, "opened": daemon.opened, "questions": asked});
        let result = results::save(&site, "pages", result)?;
        println!("{}", shown(&result));
        Ok(ExitCode::SUCCESS)
    }

    fn fill(&self, site: &Site<'_>, daemon: &Daemon) -> Result {
        eprintln!("{} deliveries", whole(self.deliveries as f64));
        let load = Load {
            connections: 256,
            events: Some(self.deliveries),
            body_bytes: Some(200),
            mix: MIX.map(str::to_owned).into(),
            ..Load::default()
        };
        let loaded = load.run(site, &daemon.address)?;
        daemon.wait_until_ended(site, loaded.answered())
    }

    fn ask(&self, socket: &Path, question: &Question) -> Result<Value> {
        let path = question.path(PAGE_ROWS);
        let (started, mut waits, mut page) = (Instant::now(), Vec::new(), Value::Null);
        while waits.len() < self.asks.max(1) && (waits.is_empty() || started.elapsed() < QUESTION) {
            let asked = Instant::now();
            page = get(socket, &path)?;
            waits.push(asked.elapsed().as_secs_f64() * 1e6);
        }
        Ok(json!({
            "filter": question.name,
            "asks": waits.len(),
            "rows": page["rows"].as_array().map(Vec::len),
            "cut": page["cut"],
            "timed_out": page["timed_out"],
            "first_us": waits[0],
            "p50_us": quantile(&mut waits, 0.5),
            "p99_us": quantile(&mut waits, 0.99),
        }))
    }
}

struct Question {
    name: String,
    filters: Vec<(&'static str, String)>,
}

impl Question {
    fn new(name: impl Into<String>, filters: Vec<(&'static str, String)>) -> Question {
        Question { name: name.into(), filters }
    }

    fn path(&self, rows: usize) -> String {
        let filters = self.filters.iter().map(|(key, value)| format!("&{key}={}", encoded(value)));
        format!("/deliveries?limit={rows}{}", filters.collect::<String>())
    }
}

/// By each filter, by each two of them, and by each with a span of time.
fn questions(known: &Known) -> Vec<Question> {
    let mut all = vec![Question::new("none", Vec::new())];
    if let Some(cursor) = &known.second_page {
        all.push(Question::new("none, the second page", vec![("cursor", cursor.clone())]));
    }
    let [early, middle, later, late] = known.moments();
    let between = vec![("since", middle.clone()), ("until", later)];
    all.push(Question::new("since: the last tenth", vec![("since", late)]));
    all.push(Question::new("until: the first tenth", vec![("until", early)]));
    all.push(Question::new("since and until: a hundredth", between.clone()));
    for facet in &known.facets {
        for (how, value) in facet.values() {
            all.push(Question::new(format!("{}: {how}", facet.key), vec![(facet.key, value)]));
        }
    }
    for (place, one) in known.facets.iter().enumerate() {
        for (how, value) in one.values().into_iter().take(2) {
            let mut filters = vec![(one.key, value.clone())];
            filters.extend(between.iter().cloned());
            all.push(Question::new(format!("{}: {how}; since and until", one.key), filters));
            for two in &known.facets[place + 1..] {
                for (how_two, value_two) in two.values().into_iter().take(2) {
                    let filters = vec![(one.key, value.clone()), (two.key, value_two)];
                    all.push(Question::new(format!("{}: {how}; {}: {how_two}", one.key, two.key), filters));
                }
            }
        }
    }
    all
}

// === what the history holds ===

/// A column and how often each of its values was seen in a sample.
struct Facet {
    key: &'static str,
    column: &'static str,
    seen: BTreeMap<String, usize>,
}

const FACETS: [(&str, &str); 6] = [
    ("source", "source"),
    ("type", "type"),
    ("status", "status"),
    ("handler", "handler"),
    ("error_kind", "error_kind"),
    ("error", "message"),
];
/// A page that the sample is made of, and how many of them.
const SAMPLE_ROWS: usize = 500;
const SAMPLES: u64 = 24;
/// A type and a text that no row has; the other columns take only values that exist.
const ABSENT: [(&str, &str); 2] = [("type", "no.such.type"), ("error", "no such words in any error")];

impl Facet {
    /// The value that most rows have, one that few have, and one that none has.
    fn values(&self) -> Vec<(&'static str, String)> {
        let mut values = Vec::new();
        let most = self.seen.iter().max_by_key(|(_, count)| **count);
        let least = self.seen.iter().min_by_key(|(_, count)| **count);
        values.extend(most.map(|(value, _)| ("frequent", value.clone())));
        values.extend(least.filter(|least| Some(*least) != most).map(|(value, _)| ("rare", value.clone())));
        let absent = ABSENT.iter().find(|(key, _)| *key == self.key);
        values.extend(absent.map(|(_, value)| ("absent", (*value).to_owned())));
        values
    }

    fn see(&mut self, row: &Value) {
        // A message of what went well is no error.
        if self.key == "error" && row["error_kind"].is_null() {
            return;
        }
        if let Some(value) = row[self.column].as_str() {
            *self.seen.entry(value.to_owned()).or_default() += 1;
        }
    }
}

struct Known {
    facets: Vec<Facet>,
    oldest: u64,
    newest: u64,
    second_page: Option<String>,
}

impl Known {
    fn learn(socket: &Path) -> Result<Known> {
        let first = get(socket, &Question::new("", Vec::new()).path(PAGE_ROWS))?;
        let Some(newest) = accepted_at(&first) else {
            return Err(Trouble::new("the history holds no delivery to ask for"));
        };
        let until = |at: u64, rows: usize| {
            get(socket, &Question::new("", vec![("until", at.to_string())]).path(rows))
        };
        let is_there = |at: u64| Ok::<bool, Trouble>(accepted_at(&until(at, 1)?).is_some());
        let oldest = oldest(newest, is_there)?;
        let facets = FACETS.map(|(key, column)| Facet { key, column, seen: BTreeMap::new() });
        let second_page = first["next"].as_str().map(str::to_owned);
        let mut known = Known { facets: facets.into(), oldest, newest, second_page };
        for sample in 1..=SAMPLES {
            let page = until(oldest + (newest - oldest) * sample / SAMPLES, SAMPLE_ROWS)?;
            for row in page["rows"].as_array().into_iter().flatten() {
                known.facets.iter_mut().for_each(|facet| facet.see(row));
            }
        }
        known.facets.retain(|facet| !facet.seen.is_empty());
        Ok(known)
    }

    /// After a tenth, at half, a hundredth later, and before the last tenth.
    fn moments(&self) -> [String; 4] {
        let after = |share: f64| self.oldest + ((self.newest - self.oldest) as f64 * share) as u64;
        [0.1, 0.5, 0.51, 0.9].map(|share| after(share).to_string())
    }
}

fn accepted_at(page: &Value) -> Option<u64> {
    page["rows"][0]["accepted_at"].as_u64()
}

/// The first moment up to which there is something: back in growing steps, then by halves.
fn oldest(newest: u64, is_there: impl Fn(u64) -> Result<bool>) -> Result<u64> {
    let mut back = 1_000;
    while back < newest && is_there(newest - back)? {
        back *= 2;
    }
    let (mut without, mut with) = (newest.saturating_sub(back), newest);
    while with - without > 1 {
        let middle = u64::midpoint(without, with);
        if is_there(middle)? { with = middle } else { without = middle }
    }
    Ok(with)
}

// === the socket ===

/// An answer that took the daemon too long is an answer too: `timed_out`.
pub(super) fn get(socket: &Path, path: &str) -> Result<Value> {
    let answer = ask(socket, path).or_trouble("the daemon's socket does not answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    match head.split(' ').nth(1) {
        Some("200") => serde_json::from_str(body).or_trouble(format!("`{path}` is not answered with JSON")),
        Some("504") => Ok(json!({"timed_out": true})),
        _ => Err(Trouble::new(format!("`{path}` is answered {answer}"))),
    }
}

fn ask(socket: &Path, path: &str) -> std::io::Result<String> {
    // A socket's address is short, and a folder's path may be long: by way of the open folder it always fits.
    let folder = File::open(socket.parent().unwrap_or(Path::new(".")))?;
    let name = socket.file_name().unwrap_or_default();
    let mut stream =
        UnixStream::connect(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // HTTP/1.0 rules out chunks and ends the answer with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: longshore\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

// === what is shown ===

pub(super) fn shown(result: &Value) -> String {
    let mut table = Table::new(&["filter", ">rows", ">p50", ">p99", ">first", ""]);
    let questions = || result["questions"].as_array().into_iter().flatten();
    for question in questions() {
        let of = |key: &str| number(question, key);
        let word = match (&question["timed_out"], &question["cut"]) {
            (Value::Bool(true), _) => "not answered in time",
            (_, Value::Bool(true)) => "cut: it says so, and where to go on",
            _ => "",
        };
        table.row([
            question["filter"].as_str().unwrap_or("?").to_owned(),
            whole(of("rows")),
            span(of("p50_us")),
            span(of("p99_us")),
            span(of("first_us")),
            word.to_owned(),
        ]);
    }
    let over = questions().filter(|q| q["timed_out"] == true || number(q, "p99_us") > BAR_US).count();
    let of = match result["deliveries"].as_u64() {
        Some(made) => whole(made as f64),
        None => "a prepared directory's".to_owned(),
    };
    let verdict = match over {
        0 => format!("All {} questions have a p99 below {}.", questions().count(), span(BAR_US)),
        over => format!("{over} of {} questions have a p99 above {}.", questions().count(), span(BAR_US)),
    };
    format!(
        "A page of {PAGE_ROWS} out of {of} deliveries. {verdict}\n\n{}\n\n{}",
        table.markdown(),
        machine::sentence(result)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let mut facets: Vec<Facet> =
            FACETS.iter().map(|(key, column)| Facet { key, column, seen: BTreeMap::new() }).collect();
        let row = |source: &str, message: &str, kind: Value| json!({"source": source, "type": "a.b", "status": "dead", "handler": "h", "error_kind": kind, "message": message});
        for row in [
            row("s", "never", json!("reject")),
            row("s", "never", json!("reject")),
            row("t", "all well", Value::Null),
        ] {
            facets.iter_mut().for_each(|facet| facet.see(&row));
        }
        Known { facets, oldest: 1_000, newest: 2_000, second_page: Some("c".into()) }
    }

    #[test]
    fn frequent_rare_and_absent_values_are_found() {
        let known = known();
        let values = |key: &str| known.facets.iter().find(|facet| facet.key == key).unwrap().values();
        assert_eq!(values("source"), [("frequent", "s".to_owned()), ("rare", "t".to_owned())]);
        assert_eq!(values("status"), [("frequent", "dead".to_owned())]);
        assert_eq!(values("error"), [("frequent", "never".to_owned()), ("absent", ABSENT[1].1.to_owned())]);
    }

    #[test]
    fn every_filter_is_asked_alone_and_with_each_other() {
        let questions = questions(&known());
        let paths: Vec<String> = questions.iter().map(|question| question.path(50)).collect();
        for path in [
            "/deliveries?limit=50",
            "/deliveries?limit=50&since=1900",
            "/deliveries?limit=50&until=1100",
            "/deliveries?limit=50&since=1500&until=1510",
            "/deliveries?limit=50&source=t",
            "/deliveries?limit=50&error=no%20such%20words%20in%20any%20error",
            "/deliveries?limit=50&source=s&error_kind=reject",
            "/deliveries?limit=50&status=dead&since=1500&until=1510",
        ] {
            assert!(paths.iter().any(|asked| asked == path), "{path} is not in {paths:#?}");
        }
        let mut once = paths.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), paths.len());
    }

    #[test]
    fn the_oldest_is_found_wherever_it_is() {
        for first in [1, 5_000, 1_763_999_990_001, 1_764_000_000_000] {
            assert_eq!(oldest(1_764_000_000_000, |at| Ok(at >= first)).unwrap(), first);
        }
    }

    #[test]
    fn slow_questions_are_counted() {
        let question = |p99: f64| json!({"filter": "f", "rows": 50, "p50_us": 1, "p99_us": p99, "first_us": 9, "cut": false});
        let shown = |p99| shown(&json!({"deliveries": 5_000_000, "questions": [question(p99)]}));
        assert!(shown(40_000.0).contains("out of 5,000,000 deliveries. All 1 questions"));
        assert!(shown(60_000.0).contains("1 of 1 questions have a p99 above"));
    }
}
