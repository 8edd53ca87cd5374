//! Run: one call of a plugin without a daemon: its log, its calls, its outcome. Nothing is sent unless `--live`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::inspect::{handler_name, load};
use crate::cli::deliveries::{calls_text, logs_text, outcome_text, size};
use crate::cli::failure::Failure;
use crate::cli::payload::fresh_id;
use crate::cli::screen::{Screen, clean};
use crate::cli::times::took;
use crate::cli::{DEFAULT_CONFIG, Ended, Result, setup};
use crate::host::{
    self, BoundSecret, CallLimits, Called, DryAnswer, EffectPolicy, Event, Grants, Handler, Manifest,
    OriginGrant, Plugin, SettingKind, Shelf, ShelfFuture, Unrecorded, Wire,
};
use crate::words::attempt::{CallRecord, LogLine, Outcome};
use crate::words::event::Name;
use crate::words::limits;
use crate::words::secret::Secret;
use crate::words::shelf::{ShelfRead, ShelfTxn, ShelfWrite};
use crate::words::time::Millis;

/// Call a plugin once, without a daemon: prints its log, its calls and its outcome.
///
/// Nothing is sent unless --live: granted calls are answered with --answer, or 200 with an empty JSON object. Its
/// shelf is empty, and what it writes there is printed. Without --handler, --grant and --live, it gets the origins
/// that its manifest asks for.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  export SLACK_WEBHOOK_URL=https://hooks.slack.com/services/T000/B000/XXXXXXXX
  export HUBSPOT_TOKEN=pat-test
  longshore plugin run plugins/slack_notify.wasm --type message.received \\
    --data examples/demo/message.received.json --setting 'template=*{/data/linkedinUrl}*' \\
    --secret webhook=env:SLACK_WEBHOOK_URL --answer 200:ok
  longshore plugin run plugins/crm_sync.wasm --type message.received \\
    --data examples/demo/message.received.json --secret token=env:HUBSPOT_TOKEN \\
    --answer '200:{\"results\":[{\"id\":\"501\"}]}' --answer '201:{\"id\":\"7\"}'

With the settings, secrets and grants of a handler of the configuration, and for real:
  longshore plugin run plugins/slack_notify.wasm --type message.received \\
    --data examples/demo/message.received.json --config config.yaml --handler slack-notify --live")]
pub(in crate::cli) struct Run {
    /// The component.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The event's type.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: String,
    /// The event's body; `-` reads stdin.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The event's id; a fresh one without it.
    #[arg(long)]
    id: Option<String>,
    /// The event's source.
    #[arg(long, value_name = "NAME", default_value = "test")]
    source: Name,
    /// Settings, secrets and grants of this handler of the configuration.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["setting", "secret", "grant"])]
    handler: Option<Name>,
    /// Configuration file for --handler; may be repeated, later ones win; `config.yaml` without it.
    #[arg(long, value_name = "FILE", requires = "handler")]
    config: Vec<PathBuf>,
    /// A setting, as `template=text` or `limit=5`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    setting: Vec<(String, String)>,
    /// A secret, as `webhook=env:NAME` or `webhook=file:PATH`; may be repeated.
    #[arg(long, value_name = "KEY=WHERE", value_parser = pair)]
    secret: Vec<(String, String)>,
    /// An origin that it may call, and to which every --secret may be sent; may be repeated.
    #[arg(long, value_name = "ORIGIN")]
    grant: Vec<String>,
    /// What its next call is answered with, as `429` or `200:ok`; may be repeated, the last one answers the rest.
    #[arg(long, value_name = "STATUS[:BODY]", value_parser = answer, conflicts_with = "live")]
    answer: Vec<DryAnswer>,
    /// Send its calls for real.
    #[arg(long)]
    live: bool,
}

/// As the daemon's guests have it, with one thread for the one call.
pub(in crate::cli) fn guests() -> Result<tokio::runtime::Runtime> {
    host::runtime(1).map_err(|e| Failure::failed(format!("this machine gives no thread to the plugin: {e}")))
}

fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`; type KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(in crate::cli) fn answer(text: &str) -> std::result::Result<DryAnswer, String> {
    let (status, body) = text.split_once(':').unwrap_or((text, ""));
    match status.parse() {
        Ok(status @ 200..=599) => Ok(DryAnswer { status, body: Bytes::copy_from_slice(body.as_bytes()) }),
        _ => Err(format!("`{status}` is no status of an answer, 200 to 599; type STATUS or STATUS:BODY")),
    }
}

impl Run {
    pub(super) fn run(self, screen: &Screen) -> Result {
        let event = self.event()?;
        let (engine, plugin) = load(&self.file)?;
        let grants = self.grants(&plugin, screen)?;
        let (handler, warnings) = Handler::bind(&engine, plugin, grants).map_err(|problems| {
            let told: Vec<_> = problems.iter().map(|p| format!("{}: {}", p.key, p.message)).collect();
            Failure::failed_so(
                told.join("\n"),
                "longshore plugin run --help, for --setting, --secret and --grant",
            )
        })?;
        for warning in warnings {
            screen.say(&format!("{}: {}", clean(&warning.key), clean(&warning.message)));
        }
        let wire = if self.live {
            Wire::Live(Arc::new(Unrecorded::default()))
        } else {
            Wire::dry(self.answer.clone())
        };
        let runtime = guests()?;
        let called = runtime.block_on(handler.call(event, Arc::new(EmptyShelf), wire));
        self.show(&called, screen)?;
        Ok(if matches!(called.outcome, Outcome::Failed { .. }) { Ended::Badly } else { Ended::Well })
    }

    fn event(&self) -> Result<Event> {
        let now = Millis::now();
        let body = read_data(&self.data)?;
        Ok(Event {
            id: self.id.clone().unwrap_or_else(|| fresh_id(now)),
            event_type: self.event_type.clone(),
            source: self.source.to_string(),
            delivery_id: "0.plugin-run".to_owned(),
            received_at: now,
            signed_at: None,
            attempt: 1,
            query: None,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body,
            attributes: vec![
                ("subscription".to_owned(), "plugin-run".to_owned()),
                ("test".to_owned(), "true".to_owned()),
            ],
        })
    }

    fn grants(&self, plugin: &Plugin, screen: &Screen) -> Result<Grants> {
        if let Some(handler) = &self.handler {
            let usual = [PathBuf::from(DEFAULT_CONFIG)];
            return setup::grants(if self.config.is_empty() { &usual } else { &self.config }, handler);
        }
        let manifest = plugin.manifest();
        let mut origins = self.grant.clone();
        if origins.is_empty() && !self.live && !manifest.origins.is_empty() {
            origins.clone_from(&manifest.origins);
            screen.say(&format!(
                "granted for this call, of which nothing is sent: {}",
                clean(&origins.join(", "))
            ));
        }
        Ok(Grants {
            name: handler_name(manifest),
            settings: self.settings(manifest)?,
            secrets: self.secrets(&origins)?,
            origins: origins.into_iter().map(OriginGrant::from).collect(),
            networks: Vec::new(),
            limits: CallLimits::default(),
            effects: EffectPolicy::default(),
        })
    }

    fn settings(&self, manifest: &Manifest) -> Result<serde_json::Map<String, Value>> {
        let typed = |(key, text): &(String, String)| {
            let kind = manifest.settings.iter().find(|s| s.key == *key).map(|s| s.kind);
            setting_value(kind, text)
                .map(|value| (key.clone(), value))
                .map_err(|why| Failure::Usage(format!("--setting {key}: {why}")))
        };
        self.setting.iter().map(typed).collect()
    }

    fn secrets(&self, origins: &[String]) -> Result<BTreeMap<String, BoundSecret>> {
        let bound = |(key, from): &(String, String)| {
            let value = read_secret(from).map_err(|why| Failure::failed(format!("--secret {key}: {why}")))?;
            Ok((key.clone(), BoundSecret { value, to: origins.to_vec() }))
        };
        self.secret.iter().map(bound).collect()
    }

    fn show(&self, called: &Called, screen: &Screen) -> Result<()> {
        let took_ms = u64::try_from(called.took.as_millis()).unwrap_or(u64::MAX);
        let report = Report {
            outcome: &called.outcome,
            calls: &called.calls,
            logs: &called.logs,
            took_ms,
            memory_bytes: called.memory_bytes,
            live: self.live,
            shelf: shelf_lines(&called.shelf),
        };
        if screen.json { screen.print_json(&report) } else { screen.data(&text(&report, screen)) }
    }
}

/// A value as the manifest's kind has it: text stays text, even where it looks like a number.
fn setting_value(kind: Option<SettingKind>, text: &str) -> std::result::Result<Value, String> {
    match kind {
        Some(SettingKind::Number | SettingKind::Boolean | SettingKind::Json) => {
            serde_json::from_str(text).map_err(|e| format!("`{text}` is not JSON: {e}"))
        }
        Some(SettingKind::Secret) => Err("this is a secret; type --secret KEY=env:NAME".to_owned()),
        Some(SettingKind::Text) | None => Ok(Value::from(text)),
    }
}

fn read_secret(from: &str) -> std::result::Result<Secret, String> {
    if let Some(name) = from.strip_prefix("env:") {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| format!("the environment has no `{name}`; type export {name}=…"))?;
        return Ok(Secret::new(std::os::unix::ffi::OsStringExt::into_vec(value)));
    }
    if let Some(path) = from.strip_prefix("file:") {
        let bytes = std::fs::read(path).map_err(|e| format!("`{path}` cannot be read: {e}"))?;
        return Ok(Secret::new(bytes));
    }
    Err("a secret is not typed here; say where it is, as env:NAME or file:PATH".to_owned())
}

/// The whole file, or stdin for `-`; bounded as a webhook's body is.
pub(in crate::cli) fn read_data(path: &Path) -> Result<Bytes> {
    read_bounded(path, limits::DATA_BYTES_MAX)
}

/// The whole file, or stdin for `-`, where it is not larger than `bound` bytes.
pub(in crate::cli) fn read_bounded(path: &Path, bound: u64) -> Result<Bytes> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(bound + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(bound + 1).read_to_end(&mut bytes))
    };
    read.map_err(|e| Failure::unreadable(path, &e))?;
    if bytes.len() as u64 > bound {
        return Err(Failure::failed(format!("`{}` is larger than {}", path.display(), size(bound))));
    }
    Ok(bytes.into())
}

// === what it left behind ===

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    calls: &'a [CallRecord],
    logs: &'a [LogLine],
    took_ms: u64,
    memory_bytes: u64,
    live: bool,
    /// What it would have written to its shelf.
    shelf: BTreeMap<String, String>,
}

fn text(report: &Report<'_>, screen: &Screen) -> String {
    let mut text = logs_text(report.logs, screen);
    text += &calls_text(report.calls, screen);
    text += &shelf_text(&report.shelf);
    let (tone, outcome) = outcome_text(report.outcome);
    text += &format!("{}\n", screen.paint(tone, &clean(&outcome)));
    let sent = match (report.calls.is_empty(), report.live) {
        (true, _) => "",
        (false, true) => ", calls were sent",
        (false, false) => ", nothing was sent",
    };
    text + &format!("took {}, {} of memory{sent}\n", took(report.took_ms), size(report.memory_bytes))
}

pub(in crate::cli) fn shelf_text(shelf: &BTreeMap<String, String>) -> String {
    shelf.iter().map(|(key, write)| format!("shelf  {}: {}\n", clean(key), clean(write))).collect()
}

pub(in crate::cli) fn shelf_lines(txn: &ShelfTxn) -> BTreeMap<String, String> {
    let line = |write: &ShelfWrite| match write {
        ShelfWrite::Set { value, ttl } => {
            let ttl = ttl.map(|ttl| format!(", for {}", crate::admin::view::span(ttl))).unwrap_or_default();
            format!("set to {}{ttl}", String::from_utf8_lossy(value))
        }
        ShelfWrite::Delete => "deleted".to_owned(),
        ShelfWrite::Add { delta, .. } => format!("{delta:+}"),
    };
    txn.writes.iter().map(|(key, write)| (key.clone(), line(write))).collect()
}

/// The shelf of a handler that has never run.
struct EmptyShelf;

impl Shelf for EmptyShelf {
    fn get<'a>(&'a self, _: &'a str) -> ShelfFuture<'a, ShelfRead> {
        Box::pin(async { Ok(ShelfRead::default()) })
    }

    fn list<'a>(&'a self, _: &'a str, _: Option<&'a str>, _: u32) -> ShelfFuture<'a, Vec<String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn bytes<'a>(&'a self) -> ShelfFuture<'a, u64> {
        Box::pin(async { Ok(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::attempt::{Blame, ErrorKind, LogLevel};

    #[test]
    fn settings_have_the_kind_that_the_manifest_gives_them() {
        assert_eq!(setting_value(Some(SettingKind::Text), "5"), Ok(Value::from("5")));
        assert_eq!(setting_value(Some(SettingKind::Number), "5"), Ok(Value::from(5)));
        assert_eq!(setting_value(Some(SettingKind::Json), "[1]"), Ok(serde_json::json!([1])));
        assert_eq!(setting_value(None, "true"), Ok(Value::from("true")));
        assert!(setting_value(Some(SettingKind::Number), "five").unwrap_err().contains("`five` is not JSON"));
        assert!(setting_value(Some(SettingKind::Secret), "x").unwrap_err().contains("--secret"));
    }

    #[test]
    fn a_file_is_read_whole_or_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        assert_eq!(read_bounded(file.path(), 5).unwrap(), "12345");
        let refused = read_bounded(file.path(), 4).unwrap_err().to_string();
        assert!(refused.contains("is larger than 4 B"), "{refused}");
    }

    #[test]
    fn an_answer_has_a_status_and_perhaps_a_body() {
        let made = |status, body: &'static str| Ok(DryAnswer { status, body: body.into() });
        assert_eq!(answer("429"), made(429, ""));
        assert_eq!(answer("200:ok"), made(200, "ok"));
        assert_eq!(answer("200:{\"a\":1}"), made(200, "{\"a\":1}"));
        for wrong in ["", "ok", ":ok", "99", "199:x", "600", "70000"] {
            assert!(answer(wrong).unwrap_err().contains("STATUS:BODY"), "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_never_typed_on_the_command_line() {
        let why = read_secret("xoxb-topsecret").unwrap_err();
        assert!(!why.contains("topsecret") && why.contains("env:NAME"));
        assert!(read_secret("env:LONGSHORE_TEST_THAT_NOBODY_SETS").unwrap_err().contains("export"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "s3cret").unwrap();
        let secret = read_secret(&format!("file:{}", path.display())).unwrap();
        assert_eq!(secret.expose(), b"s3cret");
    }

    #[test]
    fn data_is_read_to_its_bound() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(limits::DATA_BYTES_MAX).unwrap();
        let path = file.path().to_owned();
        assert_eq!(read_data(&path).unwrap().len() as u64, limits::DATA_BYTES_MAX);
        file.as_file().set_len(limits::DATA_BYTES_MAX + 1).unwrap();
        assert!(read_data(&path).unwrap_err().to_string().contains("is larger than 25.0 MiB"));
    }

    #[test]
    fn a_call_is_told_from_its_log_to_its_outcome() {
        let outcome = Outcome::Failed {
            kind: ErrorKind::Reject,
            blame: Blame::Plugin,
            reason: "no leadId".to_owned(),
            permanent: true,
            after_ms: None,
        };
        let log = LogLine { at_ms: 3, level: LogLevel::Warn, message: "odd".to_owned(), fields: Vec::new() };
        let mut txn = ShelfTxn::default();
        txn.writes.insert("seen".to_owned(), ShelfWrite::Add { delta: 1, ttl: None });
        let report = Report {
            outcome: &outcome,
            calls: &[],
            logs: &[log],
            took_ms: 12,
            memory_bytes: 1 << 20,
            live: false,
            shelf: shelf_lines(&txn),
        };
        assert_eq!(
            text(&report, &Screen::plain()),
            "   +3ms  warn   odd\nshelf  seen: +1\nfailed for good (reject, blame: plugin): no leadId\ntook 12ms, 1.0 MiB of memory\n"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["outcome"], &json["shelf"]["seen"]), (&"failed".into(), &"+1".into()));
    }
}
