//! Values: the words that an operator writes for spans, sizes, rates, times, addresses and secrets.
//!
//! Each refuses what could be meant in two ways: a bare `20` is neither seconds nor milliseconds here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;
use url::Url;

use super::problem::Origin;
use super::read::{Node, echo, kind};
use crate::words::time::Millis;

/// A value that has an order and a way of being written.
pub(super) trait Humane: PartialOrd + Sized {
    fn parse(value: &Value) -> Result<Self, String>;
    fn show(&self) -> String;
}

// === spans: 20s, 24h, 3d, 500ms, 1h30m ===

const SPAN_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Humane for Duration {
    fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::Number(number) => {
                Err(format!("`{number}` has no unit; type `{number}s`, or use ms, m, h, d"))
            }
            Value::String(text) => parse_span(text).ok_or_else(|| {
                format!("{} is not a span of time; type one as `500ms`, `20s`, `24h` or `3d`", echo(value))
            }),
            other => Err(format!("a span of time is expected here, not {}; type one as `20s`", kind(other))),
        }
    }

    fn show(&self) -> String {
        show_span(*self)
    }
}

fn parse_span(text: &str) -> Option<Duration> {
    let mut total: u64 = 0;
    let mut rest = text;
    let mut smaller_than = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
        let (unit, after) = after.split_at(letters);
        let (_, ms) = *SPAN_UNITS.iter().find(|(name, _)| *name == unit)?;
        // `1h30m` reads; `30m1h` and `1h1h` are slips.
        if ms >= smaller_than {
            return None;
        }
        smaller_than = ms;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(ms)?)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_millis(total))
}

/// `90000 ms` → `1m30s`; reads back to the same span.
pub fn show_span(span: Duration) -> String {
    let mut rest = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, ms) in SPAN_UNITS {
        if rest >= ms {
            text.push_str(&format!("{}{unit}", rest / ms));
            rest %= ms;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

// === sizes: 5MiB, 64KiB, 10GiB; MB and GB are decimal ===

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub(super) u64);

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl Humane for Size {
    fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::Number(number) => {
                Err(format!("`{number}` has no unit; type `{number}B` for bytes, or use KiB, MiB, GiB"))
            }
            Value::String(text) => parse_size(text).ok_or_else(|| {
                format!("{} is not a size; type one as `512KiB`, `5MiB` or `10GiB`", echo(value))
            }),
            other => Err(format!("a size is expected here, not {}; type one as `5MiB`", kind(other))),
        }
    }

    fn show(&self) -> String {
        let fits = |bytes: u64| self.0 >= bytes && self.0.is_multiple_of(bytes);
        let exact = SIZE_UNITS.iter().take(4).find(|(_, bytes)| fits(*bytes));
        let (unit, bytes) = exact.copied().unwrap_or(("B", 1));
        format!("{}{unit}", self.0 / bytes)
    }
}

fn parse_size(text: &str) -> Option<Size> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    Some(Size(number.parse::<u64>().ok()?.checked_mul(*bytes)?))
}

// === rates: 1/s, 10/m, 500/h, per second inside ===

#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) struct Rate(pub(super) f64);

impl Humane for Rate {
    fn parse(value: &Value) -> Result<Self, String> {
        let text = match value {
            Value::String(text) => text,
            Value::Number(n) => return Err(format!("`{n}` has no unit; type `{n}/s`, or use /m, /h")),
            other => return Err(format!("a rate is expected here, not {}; type one as `10/s`", kind(other))),
        };
        parse_rate(text)
            .ok_or_else(|| format!("{} is not a rate; type one as `1/s`, `10/m` or `500/h`", echo(value)))
    }

    fn show(&self) -> String {
        let (count, unit) = [(self.0, "s"), (self.0 * 60.0, "m"), (self.0 * 3600.0, "h")]
            .into_iter()
            .find(|(count, _)| *count >= 1.0 || *count == 0.0)
            .unwrap_or((self.0 * 3600.0, "h"));
        format!("{}/{unit}", (count * 1000.0).round() / 1000.0)
    }
}

fn parse_rate(text: &str) -> Option<Rate> {
    let (count, unit) = text.split_once('/')?;
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let plain = count.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let count: f64 = count.parse().ok()?;
    (plain && count.is_finite()).then_some(Rate(count / seconds))
}

// === plain numbers ===

impl Humane for u64 {
    fn parse(value: &Value) -> Result<Self, String> {
        value
            .as_u64()
            .ok_or_else(|| format!("a whole number is expected here, not {}; type one as `32`", echo(value)))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Humane for f64 {
    fn parse(value: &Value) -> Result<Self, String> {
        value
            .as_f64()
            .ok_or_else(|| format!("a number is expected here, not {}; type one as `2`", echo(value)))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

// === words ===

pub(super) fn boolean(node: &Node<'_>) -> Result<bool, String> {
    match node.value {
        Value::Bool(value) => Ok(*value),
        Value::String(text) if text == "true" || text == "false" => {
            Err(format!("`\"{text}\"` is text; type `{text}`, without quotes"))
        }
        other => Err(format!("{} is neither true nor false; type `true` or `false`", echo(other))),
    }
}

pub(super) fn text(node: &Node<'_>) -> Result<String, String> {
    match node.value {
        Value::String(text) if text.is_empty() => {
            Err("this is empty; type something between the quotes".to_owned())
        }
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("text is expected here, not {}; put it in quotes", kind(other))),
    }
}

/// Relative ones count from the folder of the file that holds them.
pub(super) fn path(node: &Node<'_>) -> Result<PathBuf, String> {
    Ok(node.base().join(text(node)?))
}

pub(super) fn address(node: &Node<'_>) -> Result<SocketAddr, String> {
    if let Some(port) = port_alone(node.value) {
        let every = format!("`0.0.0.0:{port}` for every address");
        return Err(format!("{port} is a port alone; type `127.0.0.1:{port}`, or {every}"));
    }
    let text = text(node)?;
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse().map_err(|_| {
        format!(
            "{} is not an address with a port; type one as `127.0.0.1:8443` or `[::]:8443`",
            echo(node.value)
        )
    })
}

fn port_alone(value: &Value) -> Option<u16> {
    match value {
        Value::Number(number) => u16::try_from(number.as_u64()?).ok(),
        Value::String(text) => text.strip_prefix(':').unwrap_or(text).parse().ok(),
        _ => None,
    }
}

/// RFC 3339, with a zone.
pub(super) fn instant(node: &Node<'_>) -> Result<Millis, String> {
    let parsed = text(node)?.parse::<jiff::Timestamp>().ok();
    parsed
        .and_then(|at| u64::try_from(at.as_millisecond()).ok())
        .map(Millis)
        .ok_or_else(|| format!("{} is not a time; type one as `2026-12-01T00:00:00Z`", echo(node.value)))
}

pub(super) fn network(node: &Node<'_>) -> Result<IpNet, String> {
    let text = text(node)?;
    if let Ok(alone) = text.parse::<IpAddr>() {
        return Err(format!("{} has no prefix; type `{}`", echo(node.value), IpNet::from(alone)));
    }
    let net: IpNet = text.parse().map_err(|_| {
        format!("{} is not a network; type one as `10.0.0.0/8` or `fd00::/8`", echo(node.value))
    })?;
    if net.addr() != net.network() {
        return Err(format!("{} has bits beyond its prefix; type `{}`", echo(node.value), net.trunc()));
    }
    Ok(net)
}

/// `https://hooks.slack.com`, `http://127.0.0.1:8081`, `https://*.example.com`: lower case, no default port.
pub(super) fn origin(node: &Node<'_>) -> Result<String, String> {
    parse_origin(&text(node)?)
}

pub(super) fn parse_origin(text: &str) -> Result<String, String> {
    let shown = echo(&Value::from(text));
    let example = "type one as `https://hooks.slack.com` or `https://*.example.com`";
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!(
            "{shown} is not an origin; type `https://{}`",
            text.split('/').next().unwrap_or(text)
        ));
    };
    let (wild, host) = match rest.strip_prefix("*.") {
        Some(host) => ("*.", host),
        None => ("", rest),
    };
    if host.contains('*') {
        return Err(format!("{shown}: `*` stands only for the first labels of a host; {example}"));
    }
    let url = Url::parse(&format!("{scheme}://{host}"))
        .map_err(|e| format!("{shown} is not an origin ({e}); {example}"))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(format!("{shown} is neither https nor http; {example}"));
    }
    let Some(name) = url.host_str() else { return Err(format!("{shown} has no host; {example}")) };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let canonical = format!("{}://{wild}{name}{port}", url.scheme());
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !bare || !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{shown} is more than an origin; type `{canonical}`"));
    }
    if !wild.is_empty() && url.scheme() == "http" {
        return Err(format!("{shown}: plain HTTP is granted host by host; type the host, or https"));
    }
    if !wild.is_empty() && (!name.contains('.') || name.parse::<IpAddr>().is_ok()) {
        return Err(format!("{shown} would grant a whole top level; {example}"));
    }
    Ok(canonical)
}

/// For an origin as `parse_origin` writes it.
pub(super) fn is_loopback_origin(origin: &str) -> bool {
    match Url::parse(origin).as_ref().map(Url::host) {
        Ok(Some(url::Host::Domain(name))) => name == "localhost",
        Ok(Some(url::Host::Ipv4(address))) => address.is_loopback(),
        Ok(Some(url::Host::Ipv6(address))) => address.is_loopback(),
        _ => false,
    }
}

// === secrets ===

/// Where a secret is; never the secret. Prints as it is written, `env:NAME`.
#[derive(Clone, Debug)]
pub struct SecretRef {
    pub holder: Holder,
    /// The key that holds it, and where that stands: what is wrong with the secret is told there.
    pub key: String,
    pub at: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    Environment(String),
    File(PathBuf),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.holder {
            Holder::Environment(name) => write!(f, "env:{name}"),
            Holder::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl SecretRef {
    /// As a flag of the command line has it.
    ///
    /// # Errors
    /// In words, with what to type. Nothing of the text is repeated: it may be the secret itself.
    pub fn of_flag(flag: &str, text: &str) -> Result<SecretRef, String> {
        let holder = holder(text, Path::new(""))?;
        Ok(SecretRef { holder, key: String::new(), at: Origin::Flag(flag.to_owned()) })
    }
}

const NEVER: &str = "a secret is never written in this file; type `env:NAME` or `file:PATH`";

/// Nothing of the text is repeated in a message: it may be the secret itself.
pub(super) fn secret(node: &Node<'_>) -> Result<SecretRef, String> {
    let Value::String(text) = node.value else { return Err(NEVER.to_owned()) };
    let holder = holder(text, node.base())?;
    Ok(SecretRef { holder, key: node.key.clone(), at: node.origin() })
}

fn holder(text: &str, base: &Path) -> Result<Holder, String> {
    if let Some(name) = text.strip_prefix("env:") {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || !name.bytes().all(word) || name.as_bytes()[0].is_ascii_digit() {
            return Err("the name of a variable has only letters, digits and `_`; type `env:NAME`".to_owned());
        }
        return Ok(Holder::Environment(name.to_owned()));
    }
    if let Some(path) = text.strip_prefix("file:") {
        if path.is_empty() {
            return Err("the path is missing; type `file:PATH`".to_owned());
        }
        return Ok(Holder::File(base.join(path)));
    }
    Err(NEVER.to_owned())
}

// === how an editor sees them ===

macro_rules! schema_of_text {
    ($type:ident, $description:literal, $pattern:literal) => {
        pub(super) struct $type;
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $description, "pattern": $pattern })
            }
        }
    };
}

schema_of_text!(SpanText, "A span of time: 500ms, 20s, 15m, 24h, 3d, 1h30m", "^([0-9]+(d|h|m|s|ms))+$");
schema_of_text!(SizeText, "A size: 64KiB, 5MiB, 10GiB", "^[0-9]+ *([KMGT]i?B|B)$");
schema_of_text!(RateText, "A rate: 1/s, 10/m, 500/h", "^[0-9]+(\\.[0-9]+)?/(s|m|h)$");
schema_of_text!(TimeText, "A time in RFC 3339: 2026-12-01T00:00:00Z", "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]");
schema_of_text!(AddressText, "An address with a port: 127.0.0.1:8443", ":[0-9]+$");
schema_of_text!(NetworkText, "A network: 10.0.0.0/8", "/[0-9]+$");
schema_of_text!(OriginText, "An origin: https://hooks.slack.com, https://*.example.com", "^https?://[^/]+$");
schema_of_text!(SecretText, "Where a secret is, never the secret: env:NAME or file:PATH", "^(env|file):.+$");
