//! Types: the file's sections as values, each field with its default, its range and its line for an editor.
//!
//! A section is read by a function beside it. Whatever a function asks for is a key of the file; whatever it
//! does not ask for is unknown. A test holds the two against the schema that is derived from the same types.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::load::Tree;
use super::problem::Origin;
use super::read::{Fields, Node, as_name, echo, kind};
use super::values::{
    self, AddressText, Holder, NetworkText, OriginText, Rate, RateText, SecretRef, SecretText, Size,
    SizeText, SpanText,
};
use super::{probe, schema};
use crate::backoff;
use crate::host;
use crate::route;
use crate::store::Durability;
use crate::verify;
use crate::words::event::Name;
use crate::words::limits as l;
use crate::words::secret::Secret;
use crate::words::time::Millis;

/// One file for one daemon: who may send, what carries, and what goes where.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "longshore configuration", extend("required" = ["server"]))]
pub struct Config {
    pub server: Server,
    pub admin: Admin,
    pub store: Store,
    pub log: Log,
    /// Configured senders, by name.
    #[schemars(with = "BTreeMap<String, Source>")]
    pub sources: BTreeMap<Name, Source>,
    /// Plugins with their settings and grants, by name.
    #[schemars(with = "BTreeMap<String, Handler>")]
    pub handlers: BTreeMap<Name, Handler>,
    /// Event types of a source → a handler, by name.
    #[schemars(with = "BTreeMap<String, Subscription>")]
    pub subscriptions: BTreeMap<Name, Subscription>,
    #[schemars(skip)]
    pub(super) tree: Arc<Tree>,
}

impl Config {
    pub(super) fn read(fields: &mut Fields<'_>, tree: Arc<Tree>) -> Config {
        Config {
            server: fields.section("server", Server::read),
            admin: fields.section("admin", Admin::read),
            store: fields.section("store", Store::read),
            log: fields.section("log", Log::read),
            sources: fields.named("sources", l::SOURCES_MAX, Source::read),
            handlers: fields.named("handlers", l::HANDLERS_MAX, Handler::read),
            subscriptions: fields.named("subscriptions", l::SUBSCRIPTIONS_MAX, Subscription::read),
            tree,
        }
    }

    /// Where a key was written, for problems that are found later.
    pub fn origin(&self, key: &str) -> Origin {
        self.tree.origin(key)
    }

    /// Whether an entry stands in the file, even one that could not be read.
    pub(super) fn is_written(&self, section: &str, name: &str) -> bool {
        self.names(section).contains(&name)
    }

    /// The names in a section as they are written.
    pub(super) fn names(&self, section: &str) -> Vec<&str> {
        let entries = self.tree.value.get(section).and_then(Value::as_object);
        entries.map(|map| map.keys().map(String::as_str).collect()).unwrap_or_default()
    }
}

// === server ===

/// The door: where senders come in.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = ["tls"]))]
pub struct Server {
    /// Address and port; port 0 takes a free one.
    #[schemars(with = "AddressText", extend("default" = "0.0.0.0:8443"))]
    pub listen: SocketAddr,
    /// Certificate and key as PEM files, `dev` for a certificate made for loopback, or `off`.
    #[schemars(schema_with = "schema::tls")]
    pub tls: Tls,
    /// A proxy in front ends TLS: allows `tls: off` beyond loopback.
    #[schemars(extend("default" = false))]
    pub behind_proxy: bool,
    /// A larger body is answered 413.
    #[schemars(with = "SizeText", extend("default" = "5MiB"))]
    pub max_body: usize,
    #[schemars(extend("default" = 4096))]
    pub max_connections: usize,
    /// Requests between their headers and their answer.
    #[schemars(extend("default" = 1024))]
    pub max_requests: usize,
    /// From the first byte of a request to the end of its headers.
    #[schemars(with = "SpanText", extend("default" = "5s"))]
    pub header_timeout: Duration,
    /// From the end of the headers to the end of the body.
    #[schemars(with = "SpanText", extend("default" = "8s"))]
    pub body_timeout: Duration,
    /// How long requests and attempts may take to end after SIGTERM.
    #[schemars(with = "SpanText", extend("default" = "20s"))]
    pub drain: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    Files {
        cert: PathBuf,
        key: PathBuf,
    },
    /// Self-signed, made in the data directory; loopback only.
    Dev,
    Off,
}

impl Server {
    fn read(fields: &mut Fields<'_>) -> Server {
        Server {
            listen: fields.or("listen", SocketAddr::from(([0, 0, 0, 0], 8443)), values::address),
            tls: Tls::read(fields),
            behind_proxy: fields.or("behind_proxy", false, values::boolean),
            max_body: count(
                fields
                    .within("max_body", Size(l::BODY_BYTES_MAX_DEFAULT as u64), sizes(l::BODY_BYTES_RANGE))
                    .0,
            ),
            max_connections: count(fields.within(
                "max_connections",
                l::CONNECTIONS_MAX_DEFAULT as u64,
                l::CONNECTIONS_RANGE,
            )),
            max_requests: count(fields.within(
                "max_requests",
                l::REQUESTS_IN_FLIGHT_MAX_DEFAULT as u64,
                l::REQUESTS_RANGE,
            )),
            header_timeout: fields.within(
                "header_timeout",
                l::HEADER_READ_TIMEOUT_DEFAULT,
                l::HEADER_TIMEOUT_RANGE,
            ),
            body_timeout: fields.within("body_timeout", l::BODY_READ_TIMEOUT_DEFAULT, l::BODY_TIMEOUT_RANGE),
            drain: fields.within("drain", l::DRAIN_DEFAULT, l::DRAIN_RANGE),
        }
    }
}

const TLS_EXAMPLE: &str = "tls: { cert: certs/fullchain.pem, key: certs/privkey.pem }";

impl Tls {
    fn read(fields: &mut Fields<'_>) -> Tls {
        let Some(node) = fields.node("tls") else {
            fields.missing("tls", &format!("{TLS_EXAMPLE}` or, behind a proxy that ends TLS, `tls: off"));
            return Tls::Off;
        };
        match node.value {
            // YAML 1.1 readers take `off` for false, and so do people.
            Value::Bool(false) => Tls::Off,
            Value::String(word) if word == "off" || word == "false" => Tls::Off,
            Value::String(word) if word == "dev" => Tls::Dev,
            Value::Object(_) => node.fields(TLS_EXAMPLE, Tls::files).unwrap_or(Tls::Off),
            other => {
                node.error(format!(
                    "{} is not understood here; type `{TLS_EXAMPLE}`, `tls: dev` or `tls: off`",
                    echo(other)
                ));
                Tls::Off
            }
        }
    }

    fn files(fields: &mut Fields<'_>) -> Tls {
        Tls::Files {
            cert: fields.required("cert", "cert: certs/fullchain.pem", values::path).unwrap_or_default(),
            key: fields.required("key", "key: certs/privkey.pem", values::path).unwrap_or_default(),
        }
    }
}

// === admin, store, log ===

/// Metrics, health and the local interface; loopback only.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = []))]
pub struct Admin {
    /// Address and port on loopback, or `off`.
    #[schemars(schema_with = "schema::address_or_off", extend("default" = "127.0.0.1:9443"))]
    pub listen: Option<SocketAddr>,
}

impl Admin {
    fn read(fields: &mut Fields<'_>) -> Admin {
        let default = Some(SocketAddr::from(([127, 0, 0, 1], 9443)));
        let listen = fields.or("listen", default, |node| match node.value {
            Value::Bool(false) => Ok(None),
            Value::String(word) if word == "off" || word == "false" => Ok(None),
            _ => {
                let address = values::address(node)?;
                if address.ip().is_loopback() {
                    return Ok(Some(address));
                }
                Err(format!("{address} is not loopback; type `127.0.0.1:{}` or `off`", address.port()))
            }
        });
        Admin { listen }
    }
}

/// Where events are kept, and for how long.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = []))]
pub struct Store {
    /// The data directory; made with mode 0700 where it is missing.
    #[schemars(with = "String", extend("default" = "data"))]
    pub path: PathBuf,
    /// What an event that was answered 200 survives.
    #[schemars(with = "String", extend("default" = "power-loss", "enum" = ["power-loss", "process-crash"]))]
    pub durability: Durability,
    pub retain: Retain,
    /// Deliveries that are open for longer become dead.
    #[schemars(with = "SpanText", extend("default" = "30d"))]
    pub open_max_age: Duration,
}

/// Ended deliveries are kept until either is reached.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = []))]
pub struct Retain {
    #[schemars(with = "SpanText", extend("default" = "30d"))]
    pub max_age: Duration,
    #[schemars(with = "SizeText", extend("default" = "10GiB"))]
    pub max_size: u64,
}

impl Store {
    fn read(fields: &mut Fields<'_>) -> Store {
        let durabilities =
            [("power-loss", Durability::PowerLoss), ("process-crash", Durability::ProcessCrash)];
        Store {
            path: fields.optional("path", values::path).unwrap_or_else(|| fields.base().join("data")),
            durability: fields.choice("durability", Durability::PowerLoss, &durabilities),
            retain: fields.section("retain", Retain::read),
            open_max_age: fields.within("open_max_age", l::OPEN_AGE_MAX_DEFAULT, l::OPEN_AGE_RANGE),
        }
    }
}

impl Retain {
    fn read(fields: &mut Fields<'_>) -> Retain {
        Retain {
            max_age: fields.within("max_age", l::RETAIN_AGE_DEFAULT, l::RETAIN_AGE_RANGE),
            max_size: fields
                .within("max_size", Size(l::RETAIN_BYTES_DEFAULT), sizes(l::RETAIN_BYTES_RANGE))
                .0,
        }
    }
}

/// What the daemon says on stderr.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = []))]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, or directives as `info,longshore::store=debug`.
    #[schemars(extend("default" = "info"))]
    pub level: String,
    /// `auto`: pretty on a terminal, JSON otherwise.
    #[schemars(with = "String", extend("default" = "auto", "enum" = ["auto", "pretty", "json"]))]
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Auto,
    Pretty,
    Json,
}

impl Log {
    fn read(fields: &mut Fields<'_>) -> Log {
        let formats = [("auto", LogFormat::Auto), ("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];
        Log {
            level: fields.or("level", "info".to_owned(), log_level),
            format: fields.choice("format", LogFormat::Auto, &formats),
        }
    }
}

fn log_level(node: &Node<'_>) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    // A bare `off` is false for some readers; here too it means what it says.
    if node.value == &Value::Bool(false) {
        return Ok("off".to_owned());
    }
    let text = values::text(node)?;
    let target = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:".contains(&b));
    let sound = text.split(',').all(|directive| match directive.split_once('=') {
        None => LEVELS.contains(&directive),
        Some((name, level)) => !name.is_empty() && target(name) && LEVELS.contains(&level),
    });
    if sound {
        return Ok(text);
    }
    Err(format!("{} is not a level; type `info`, or as `info,longshore::store=debug`", echo(node.value)))
}

// === sources ===

/// A configured sender: where it posts, how it signs, and with which secrets.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = ["path"]))]
pub struct Source {
    /// The exact path, `/webhooks/sendpilot`.
    pub path: String,
    /// How it signs: a scheme that is shipped, by name.
    #[schemars(schema_with = "schema::preset")]
    pub preset: Option<String>,
    /// How it signs, spelled out; beside a preset, its keys replace the preset's.
    pub scheme: Option<verify::spec::Spec>,
    /// Where an event's id and type are, where the preset's own places do not do.
    pub event: Option<verify::spec::EventSpec>,
    /// A captured request that proves the scheme: needed where that is spelled out. In place, or as `file:PATH`.
    #[schemars(schema_with = "schema::sample")]
    pub sample: Option<Sample>,
    /// Handshakes: what is answered and is no event, where the preset's own does not do. One, a list, or `off`.
    #[schemars(schema_with = "schema::challenge")]
    pub challenge: Option<Vec<SourceChallenge>>,
    /// Newest first. Required, but where the scheme fetches its keys (docs/builtins.md) or is `none`.
    #[schemars(schema_with = "schema::source_secrets")]
    pub secrets: Vec<SourceSecret>,
    /// What the host of the sender's keys wants to know us by, where the scheme fetches them: for `plaid`, `client_id`
    /// and `secret`.
    #[schemars(with = "BTreeMap<String, SecretText>")]
    pub credentials: BTreeMap<String, SecretRef>,
    /// A secret below the first, without `until`, ends this long after a newer one was first seen.
    #[schemars(with = "SpanText", extend("default" = "24h"))]
    pub rotation_window: Duration,
    /// How long an event's id is remembered, so that a second copy is not handled again.
    #[schemars(with = "SpanText", extend("default" = "7d"))]
    pub dedupe_window: Duration,
    #[schemars(extend("default" = true))]
    pub enabled: bool,
    /// More requests are answered 429; without it, none are.
    #[schemars(with = "Option<RateText>")]
    pub rate: Option<f64>,
    /// The URL as the provider has it, where the scheme signs it.
    pub public_url: Option<String>,
}

/// A source's sample, in place or in a file of its own.
#[derive(Clone, Debug)]
pub enum Sample {
    Here(verify::sample::Sample),
    File(PathBuf),
}

/// One secret of a source: where it is, and until when it is accepted.
#[derive(Clone, Debug)]
pub struct SourceSecret {
    pub from: SecretRef,
    pub until: Option<Millis>,
}

/// One handshake of a source, with what is not the data of `verify`: where its verify token is, and the file that what
/// it brings is written to.
#[derive(Clone, Debug)]
pub struct SourceChallenge {
    /// Counted from the source: `challenge`, or `challenge.1` in a list.
    pub key: String,
    pub spec: verify::ChallengeSpec,
    pub verify_token: Option<SecretRef>,
    pub capture_file: Option<PathBuf>,
}

impl Source {
    fn read(fields: &mut Fields<'_>) -> Source {
        const SECRETS: &str = "secrets: [ \"env:NAME\" ]";
        let scheme: Option<verify::spec::Spec> = fields.node("scheme").map(|node| probe::read(&node));
        let preset = fields.optional("preset", values::text);
        let below = preset.as_deref().and_then(verify::preset).map(|preset| &preset.scheme);
        let kinds = [scheme.as_ref(), below].map(|scheme| scheme.and_then(|scheme| scheme.kind.as_deref()));
        let secrets = if kinds.into_iter().flatten().next().is_some_and(verify::spec::may_lack_secrets) {
            fields.list("secrets", l::SECRETS_MAX, SECRETS, SourceSecret::read)
        } else {
            fields.required_list("secrets", l::SECRETS_MAX, SECRETS, SourceSecret::read)
        };
        Source {
            path: fields.required("path", "path: /webhooks/NAME", values::text).unwrap_or_default(),
            preset,
            scheme,
            event: fields.node("event").map(|node| probe::read(&node)),
            challenge: fields.node("challenge").map(|node| SourceChallenge::read_all(&node)),
            sample: fields.node("sample").map(|node| Sample::read(&node)),
            secrets,
            credentials: fields
                .entries("credentials", l::SOURCE_CREDENTIALS_MAX, |node| node.read(values::secret)),
            rotation_window: fields.within(
                "rotation_window",
                l::ROTATION_WINDOW_DEFAULT,
                l::ROTATION_WINDOW_RANGE,
            ),
            dedupe_window: fields.within("dedupe_window", l::DEDUPE_WINDOW_DEFAULT, l::DEDUPE_WINDOW_RANGE),
            enabled: fields.or("enabled", true, values::boolean),
            rate: rate(fields),
            public_url: fields.optional("public_url", public_url),
        }
    }
}

impl Source {
    /// The scheme's keys laid over the preset's, ready to verify.
    ///
    /// # Errors
    /// Everything wrong with it, each with its key counted from the source (`scheme.signature.format`).
    pub fn compile(&self) -> Result<verify::Scheme, Vec<verify::spec::Problem>> {
        let (scheme, event) = self.specs();
        verify::Scheme::compile(&scheme, &event)
    }

    /// The source's keys laid over the preset's.
    pub fn specs(&self) -> (verify::spec::Spec, verify::spec::EventSpec) {
        let preset = self.preset.as_deref().and_then(verify::preset).cloned().unwrap_or_default();
        let scheme = self.scheme.as_ref().map(|scheme| scheme.over(&preset.scheme));
        let event = self.event.as_ref().map(|event| event.over(&preset.event));
        (scheme.unwrap_or(preset.scheme), event.unwrap_or(preset.event))
    }

    /// Nothing of its scheme is a preset's: nobody but its writer has tried it.
    pub fn is_spelled_out(&self) -> bool {
        let Some(scheme) = &self.scheme else { return false };
        let preset = self.preset.as_deref().and_then(verify::preset);
        preset.is_none_or(|preset| scheme.kind.is_some() && scheme.kind != preset.scheme.kind)
    }
}

impl Sample {
    fn read(node: &Node<'_>) -> Sample {
        match node.value {
            Value::String(text) => match text.strip_prefix("file:").filter(|path| !path.is_empty()) {
                Some(path) => Sample::File(node.base().join(path)),
                None => {
                    node.error(format!(
                        "{} is no sample; type `file:PATH`, or `{{ secret: …, headers: …, body: … }}`",
                        echo(node.value)
                    ));
                    Sample::Here(verify::sample::Sample::default())
                }
            },
            _ => Sample::Here(probe::read(node)),
        }
    }
}

impl Source {
    /// Its handshakes, ready to answer, but for their verify tokens.
    ///
    /// # Errors
    /// Everything wrong with them, each with its key counted from the source (`challenge.respond.json`).
    pub fn challenges(
        &self,
        scheme: &verify::Scheme,
    ) -> Result<verify::Challenges, Vec<verify::spec::Problem>> {
        let written = self.challenge.as_ref().map(|list| {
            list.iter().map(|challenge| (challenge.key.clone(), challenge.spec.clone())).collect::<Vec<_>>()
        });
        verify::Challenges::compile(written.as_deref(), self.preset.as_deref(), scheme)
    }

    /// Whether a handshake brings this secret: then it need not be there before.
    pub fn is_brought(&self, secret: &SecretRef) -> bool {
        let Holder::File(path) = &secret.holder else { return false };
        self.challenge.iter().flatten().any(|challenge| challenge.capture_file.as_ref() == Some(path))
    }
}

impl SourceChallenge {
    fn read_all(node: &Node<'_>) -> Vec<SourceChallenge> {
        const EXAMPLE: &str = "challenge: { preset: slack }";
        match node.value {
            // YAML 1.1 readers take `off` for false, and so do people.
            Value::Bool(false) => Vec::new(),
            Value::String(word) if word == "off" || word == "false" => Vec::new(),
            Value::Array(_) => {
                node.list(l::CHALLENGES_MAX, EXAMPLE, SourceChallenge::read).unwrap_or_default()
            }
            _ => SourceChallenge::read(node).into_iter().collect(),
        }
    }

    fn read(node: &Node<'_>) -> Option<SourceChallenge> {
        if !node.value.is_object() {
            node.error(format!(
                "{} is not understood here; type `{{ preset: slack }}`, or `challenge: off` for none",
                echo(node.value)
            ));
            return None;
        }
        let token = node.get("verify_token");
        let token =
            token.and_then(|token| if token.value.is_object() { token.get("secret") } else { Some(token) });
        let file = node.get("capture").and_then(|capture| capture.get("file"));
        // A name of a source has no dot, so the last one is not its own.
        let from = node.key.rfind(".challenge").map_or(0, |at| at + 1);
        Some(SourceChallenge {
            key: node.key[from..].to_owned(),
            verify_token: token.and_then(|token| token.read(values::secret)),
            // What is no text is told by the reader of the rest.
            capture_file: file.filter(|file| file.value.is_string()).and_then(|file| file.read(values::path)),
            spec: probe::read(node),
        })
    }
}

fn public_url(node: &Node<'_>) -> Result<String, String> {
    let text = values::text(node)?;
    match url::Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "https" | "http") && url.host().is_some() => Ok(text),
        _ => {
            Err(format!("{} is not a URL; type the one that the provider has, `https://…`", echo(node.value)))
        }
    }
}

impl SourceSecret {
    fn read(node: &Node<'_>) -> Option<SourceSecret> {
        if !node.value.is_object() {
            return Some(SourceSecret { from: node.read(values::secret)?, until: None });
        }
        node.fields("{ from: \"env:NAME\", until: 2026-12-01T00:00:00Z }", |fields| {
            let from = fields.required("from", "from: \"env:NAME\"", values::secret);
            let until = fields.optional("until", values::instant);
            from.map(|from| SourceSecret { from, until })
        })?
    }
}

// === handlers ===

/// A plugin with its settings and what it may touch.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = ["plugin"]))]
pub struct Handler {
    /// The component, `plugins/slack_notify.wasm`.
    #[schemars(with = "String")]
    pub plugin: PathBuf,
    /// What the plugin asks for; `longshore plugin inspect FILE` prints it.
    pub settings: Map<String, Value>,
    /// Credentials that the host sends for the plugin, which never sees them.
    pub secrets: BTreeMap<String, HandlerSecret>,
    pub grants: Grants,
    pub limits: Limits,
    pub effects: Effects,
    pub retry: Retry,
    /// When attempts stop for a service that fails; `off`: never.
    #[schemars(schema_with = "schema::breaker")]
    pub breaker: Option<Breaker>,
    #[schemars(extend("default" = true))]
    pub enabled: bool,
}

/// A credential, and the origins to which the host may send it.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = ["from", "to"]))]
pub struct HandlerSecret {
    #[schemars(with = "SecretText")]
    pub from: SecretRef,
    #[schemars(with = "Vec<OriginText>")]
    pub to: Vec<String>,
}

/// What a handler may reach; what is not granted does not exist for it.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = []))]
pub struct Grants {
    /// Origins that it may call: all of one, or some of its methods and paths.
    #[schemars(schema_with = "schema::origin_grants", extend("default" = []))]
    pub http: Vec<OriginGrant>,
    /// Private networks that these origins may resolve to.
    #[schemars(with = "Vec<NetworkText>", extend("default" = []))]
    pub networks: Vec<IpNet>,
}

/// An origin that a handler may call, and how. The first of the list that lets a call through says what is done about it.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = ["origin"]))]
pub struct OriginGrant {
    #[schemars(with = "OriginText")]
    pub origin: String,
    /// Methods, `GET`; without them, all.
    #[schemars(extend("default" = []))]
    pub methods: Vec<String>,
    /// Beginnings of paths in whole segments, `/crm/v3/`; without them, all.
    #[schemars(extend("default" = []))]
    pub paths: Vec<String>,
    /// In place of the handler's `effects.on_unknown`. `resend` is for calls too that no key protects any more.
    #[schemars(with = "Option<String>", extend("enum" = ["resend", "park"]))]
    pub on_unknown: Option<host::OnUnknown>,
    /// In place of the handler's `effects.on_changed`.
    #[schemars(with = "Option<String>", extend("enum" = ["park", "keep", "send"]))]
    pub on_changed: Option<host::OnChanged>,
    pub idempotency_key: IdempotencyKey,
}

/// How a service reads the keys by which it knows a call that it has seen.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = []))]
pub struct IdempotencyKey {
    /// The header that carries them.
    #[schemars(with = "String", extend("default" = "Idempotency-Key"))]
    pub header: Option<String>,
    /// How long the service remembers one after it was first sent; without it, for as long as a delivery lives.
    #[schemars(with = "Option<SpanText>")]
    pub ttl: Option<Duration>,
}

/// The budget of one attempt, and the pace of the lane.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = []))]
pub struct Limits {
    #[schemars(with = "SizeText", extend("default" = "64MiB"))]
    pub memory: u64,
    #[schemars(with = "SpanText", extend("default" = "10s"))]
    pub timeout: Duration,
    /// Attempts at once.
    #[schemars(extend("default" = 32))]
    pub concurrency: usize,
    /// Attempts started; without it, as many as there are.
    #[schemars(with = "Option<RateText>")]
    pub rate: Option<f64>,
    /// Outbound calls of one attempt.
    #[schemars(extend("default" = 64))]
    pub calls: u32,
    /// What the calls of one attempt add to the record: requests that change something, and answers.
    #[schemars(with = "SizeText", extend("default" = "4MiB"))]
    pub call_bytes: u64,
}

/// What to do where it cannot be known whether a call happened, or which one it is.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = []))]
pub struct Effects {
    /// A call was perhaps sent, and nobody knows what came of it: `resend` it, same bytes and same idempotency key, or
    /// `park` the delivery until `longshore deliveries resolve`.
    #[schemars(with = "String", extend("default" = "resend", "enum" = ["resend", "park"]))]
    pub on_unknown: host::OnUnknown,
    /// A call is new while one with its method and path happened and was not asked for again: `park` the delivery,
    /// `keep` what happened as its answer, or `send` it.
    #[schemars(with = "String", extend("default" = "park", "enum" = ["park", "keep", "send"]))]
    pub on_changed: host::OnChanged,
}

/// When attempts stop for a service that fails, and when one of them looks whether it is back.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = []))]
pub struct Breaker {
    /// Attempts in a row that fail at one origin: no answer, 408, 425, 429 or 5xx.
    #[schemars(extend("default" = 20))]
    pub failures: u32,
    /// From then to the first probe, one delivery that goes ahead; doubled after each that fails.
    #[schemars(with = "SpanText", extend("default" = "30s"))]
    pub probe_after: Duration,
    #[schemars(with = "SpanText", extend("default" = "10m"))]
    pub probe_max: Duration,
}

/// When a failed attempt is made again.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = []))]
pub struct Retry {
    /// After this long the delivery is dead.
    #[schemars(with = "SpanText", extend("default" = "3d"))]
    pub give_up_after: Duration,
    #[schemars(with = "SpanText", extend("default" = "5s"))]
    pub first_delay: Duration,
    /// Each delay is this many times the one before.
    #[schemars(extend("default" = 2.0))]
    pub factor: f64,
    #[schemars(with = "SpanText", extend("default" = "1h"))]
    pub max_delay: Duration,
    /// `full`: anything between nothing and the whole delay, so that failures do not come back all at once.
    #[schemars(with = "String", extend("default" = "full", "enum" = ["full", "none"]))]
    pub jitter: backoff::Jitter,
}

impl Handler {
    fn read(fields: &mut Fields<'_>) -> Handler {
        Handler {
            plugin: fields.required("plugin", "plugin: plugins/NAME.wasm", values::path).unwrap_or_default(),
            settings: fields.or("settings", Map::new(), mapping),
            secrets: fields.entries("secrets", l::HANDLER_SECRETS_MAX, HandlerSecret::read),
            grants: fields.section("grants", Grants::read),
            limits: fields.section("limits", Limits::read),
            effects: fields.section("effects", Effects::read),
            retry: fields.section("retry", Retry::read),
            breaker: Breaker::read(fields),
            enabled: fields.or("enabled", true, values::boolean),
        }
    }

    /// What the host is given for this handler, its secrets already read.
    pub fn grants(&self, name: &Name, secrets: BTreeMap<String, Secret>) -> host::Grants {
        let bound = |(key, value): (String, Secret)| {
            let to = self.secrets.get(&key)?.to.clone();
            Some((key, host::BoundSecret { value, to }))
        };
        host::Grants {
            name: name.clone(),
            settings: self.settings.clone(),
            secrets: secrets.into_iter().filter_map(bound).collect(),
            origins: self.grants.http.iter().map(OriginGrant::for_host).collect(),
            networks: self.grants.networks.clone(),
            limits: self.call_limits(),
            effects: host::EffectPolicy {
                on_unknown: self.effects.on_unknown,
                on_changed: self.effects.on_changed,
            },
        }
    }

    /// The budget in the host's terms.
    fn call_limits(&self) -> host::CallLimits {
        host::CallLimits {
            memory_bytes: self.limits.memory,
            timeout: self.limits.timeout,
            calls: self.limits.calls,
            call_bytes: self.limits.call_bytes,
            ..host::CallLimits::default()
        }
    }
}

const HANDLER_SECRET_EXAMPLE: &str = "{ from: \"env:NAME\", to: [ \"https://…\" ] }";

impl HandlerSecret {
    fn read(node: &Node<'_>) -> Option<HandlerSecret> {
        // A reference alone is the likely slip: it names no origin, and nothing may be sent everywhere.
        if node.value.is_string() {
            node.error(format!(
                "a secret says to which origins it may be sent; type `{HANDLER_SECRET_EXAMPLE}`"
            ));
            return None;
        }
        node.fields(HANDLER_SECRET_EXAMPLE, |fields| {
            let from = fields.required("from", "from: \"env:NAME\"", values::secret);
            let to = fields
                .required_list("to", l::ORIGINS_MAX, "to: [ \"https://…\" ]", |n| n.read(values::origin));
            from.map(|from| HandlerSecret { from, to })
        })?
    }
}

impl Grants {
    fn read(fields: &mut Fields<'_>) -> Grants {
        Grants {
            http: fields.list("http", l::ORIGINS_MAX, "http: [ \"https://…\" ]", OriginGrant::read),
            networks: fields
                .list("networks", l::NETWORKS_MAX, "networks: [ 10.0.0.0/8 ]", |n| n.read(values::network)),
        }
    }
}

const ORIGIN_GRANT_EXAMPLE: &str = "{ origin: \"https://…\", methods: [ GET ], paths: [ /v1/ ] }";

impl OriginGrant {
    fn read(node: &Node<'_>) -> Option<OriginGrant> {
        if !node.value.is_object() {
            return Some(OriginGrant::whole(node.read(values::origin)?));
        }
        node.fields(ORIGIN_GRANT_EXAMPLE, |fields| {
            let example = "origin: \"https://…\"";
            let origin = fields.required("origin", example, values::origin);
            let word = |check: fn(&str) -> Result<(), String>| {
                move |node: &Node<'_>| {
                    node.read(|node| {
                        let text = values::text(node)?;
                        check(&text).map(|()| text)
                    })
                }
            };
            let grant = OriginGrant {
                origin: String::new(),
                methods: fields.list(
                    "methods",
                    l::ORIGIN_METHODS_MAX,
                    "methods: [ GET, POST ]",
                    word(host::granted::method),
                ),
                paths: fields.list(
                    "paths",
                    l::ORIGIN_PATHS_MAX,
                    "paths: [ /v1/ ]",
                    word(host::granted::path),
                ),
                on_unknown: on_unknown(fields),
                on_changed: on_changed(fields),
                idempotency_key: fields.section("idempotency_key", IdempotencyKey::read),
            };
            origin.map(|origin| OriginGrant { origin, ..grant })
        })?
    }

    /// Every method and path of it, with the handler's policy.
    fn whole(origin: String) -> OriginGrant {
        OriginGrant {
            origin,
            methods: Vec::new(),
            paths: Vec::new(),
            on_unknown: None,
            on_changed: None,
            idempotency_key: IdempotencyKey::default(),
        }
    }

    fn for_host(&self) -> host::OriginGrant {
        host::OriginGrant {
            origin: self.origin.clone(),
            methods: self.methods.clone(),
            paths: self.paths.clone(),
            on_unknown: self.on_unknown,
            on_changed: self.on_changed,
            key_header: self.idempotency_key.header.clone(),
            key_ttl: self.idempotency_key.ttl,
        }
    }
}

impl IdempotencyKey {
    fn read(fields: &mut Fields<'_>) -> IdempotencyKey {
        IdempotencyKey {
            header: fields.optional("header", |node| {
                let text = values::text(node)?;
                host::granted::key_header(&text).map(|_| text)
            }),
            ttl: fields.optional_within("ttl", l::KEY_TTL_RANGE),
        }
    }
}

impl Limits {
    fn read(fields: &mut Fields<'_>) -> Limits {
        Limits {
            memory: fields
                .within("memory", Size(l::GUEST_MEMORY_BYTES_DEFAULT), sizes(l::GUEST_MEMORY_RANGE))
                .0,
            timeout: fields.within("timeout", l::GUEST_TIMEOUT_DEFAULT, l::GUEST_TIMEOUT_RANGE),
            concurrency: count(fields.within(
                "concurrency",
                l::LANE_CONCURRENCY_DEFAULT as u64,
                l::LANE_CONCURRENCY_RANGE,
            )),
            rate: rate(fields),
            calls: u32::try_from(fields.within("calls", u64::from(l::CALLS_MAX), l::CALLS_RANGE))
                .unwrap_or(u32::MAX),
            call_bytes: fields.within("call_bytes", Size(l::CALL_BYTES_MAX), sizes(l::CALL_BYTES_RANGE)).0,
        }
    }
}

impl Effects {
    fn read(fields: &mut Fields<'_>) -> Effects {
        Effects {
            on_unknown: on_unknown(fields).unwrap_or_default(),
            on_changed: on_changed(fields).unwrap_or_default(),
        }
    }
}

fn on_unknown(fields: &mut Fields<'_>) -> Option<host::OnUnknown> {
    use host::OnUnknown::{Park, Resend};
    fields.choice("on_unknown", None, &[("resend", Some(Resend)), ("park", Some(Park))])
}

fn on_changed(fields: &mut Fields<'_>) -> Option<host::OnChanged> {
    use host::OnChanged::{Keep, Park, Send};
    fields.choice("on_changed", None, &[("park", Some(Park)), ("keep", Some(Keep)), ("send", Some(Send))])
}

impl Retry {
    fn read(fields: &mut Fields<'_>) -> Retry {
        Retry {
            give_up_after: fields.within("give_up_after", l::GIVE_UP_AFTER_DEFAULT, l::GIVE_UP_AFTER_RANGE),
            first_delay: fields.within("first_delay", l::FIRST_DELAY_DEFAULT, l::DELAY_RANGE),
            factor: fields.within("factor", l::BACKOFF_FACTOR_DEFAULT, l::BACKOFF_FACTOR_RANGE),
            max_delay: fields.within("max_delay", l::MAX_DELAY_DEFAULT, l::DELAY_RANGE),
            jitter: fields.choice(
                "jitter",
                backoff::Jitter::Full,
                &[("full", backoff::Jitter::Full), ("none", backoff::Jitter::None)],
            ),
        }
    }

    pub fn policy(&self) -> backoff::Policy {
        backoff::Policy {
            give_up_after: self.give_up_after,
            first_delay: self.first_delay,
            factor: self.factor,
            max_delay: self.max_delay,
            jitter: self.jitter,
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker {
            failures: l::BREAKER_FAILURES_DEFAULT,
            probe_after: l::PROBE_AFTER_DEFAULT,
            probe_max: l::PROBE_MAX_DEFAULT,
        }
    }
}

const BREAKER_EXAMPLE: &str = "breaker: { failures: 20, probe_after: 30s, probe_max: 10m }";

impl Breaker {
    fn read(fields: &mut Fields<'_>) -> Option<Breaker> {
        let is_off = |word: &str| word == "off" || word == "false";
        match fields.node("breaker") {
            None => Some(Breaker::default()),
            // YAML 1.1 readers take `off` for false, and so do people.
            Some(node) if node.value == &Value::Bool(false) => None,
            Some(node) if node.value.as_str().is_some_and(is_off) => None,
            Some(node) if node.value.is_object() => node.fields(BREAKER_EXAMPLE, Breaker::fields),
            Some(node) => {
                node.error(format!(
                    "{} is not understood here; type `{BREAKER_EXAMPLE}` or `breaker: off`",
                    echo(node.value)
                ));
                None
            }
        }
    }

    fn fields(fields: &mut Fields<'_>) -> Breaker {
        let failures = u64::from(l::BREAKER_FAILURES_DEFAULT);
        Breaker {
            failures: u32::try_from(fields.within("failures", failures, l::BREAKER_FAILURES_RANGE))
                .unwrap_or(u32::MAX),
            probe_after: fields.within("probe_after", l::PROBE_AFTER_DEFAULT, l::DELAY_RANGE),
            probe_max: fields.within("probe_max", l::PROBE_MAX_DEFAULT, l::DELAY_RANGE),
        }
    }
}

// === subscriptions ===

/// Which events of a source go to which handler.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("required" = ["source", "events", "handler"]))]
pub struct Subscription {
    #[schemars(with = "String")]
    pub source: Name,
    /// Event types; `*` stands for one or more whole segments, and `["*"]` is all.
    #[schemars(with = "Vec<String>")]
    pub events: Vec<route::Pattern>,
    #[schemars(with = "String")]
    pub handler: Name,
    #[schemars(extend("default" = true))]
    pub enabled: bool,
}

impl Subscription {
    fn read(fields: &mut Fields<'_>) -> Subscription {
        let example = "events: [ \"*\" ]";
        Subscription {
            source: fields.required("source", "source: NAME", name).unwrap_or_else(nobody),
            events: fields.required_list("events", l::EVENT_PATTERNS_MAX, example, |n| n.read(pattern)),
            handler: fields.required("handler", "handler: NAME", name).unwrap_or_else(nobody),
            enabled: fields.or("enabled", true, values::boolean),
        }
    }
}

fn name(node: &Node<'_>) -> Result<Name, String> {
    let text = values::text(node)?;
    Name::new(&text).map_err(|e| format!("{e}; type `{}`", as_name(&text)))
}

/// Stands where a name could not be read; the problem with that name keeps the configuration inside.
fn nobody() -> Name {
    Name::new("nobody").expect("it is a name")
}

fn pattern(node: &Node<'_>) -> Result<route::Pattern, String> {
    route::Pattern::parse(&values::text(node)?)
}

// === what several sections share ===

fn mapping(node: &Node<'_>) -> Result<Map<String, Value>, String> {
    node.value.as_object().cloned().ok_or_else(|| {
        format!("a mapping is expected here, not {}; type `{{ key: value }}`", kind(node.value))
    })
}

fn rate(fields: &mut Fields<'_>) -> Option<f64> {
    let range = Rate(*l::RATE_RANGE.start())..=Rate(*l::RATE_RANGE.end());
    fields.optional_within("rate", range).map(|rate| rate.0)
}

fn sizes(bytes: RangeInclusive<u64>) -> RangeInclusive<Size> {
    Size(*bytes.start())..=Size(*bytes.end())
}

/// The ranges in `limits` keep every count and size of the door far below 32 bits.
fn count(number: u64) -> usize {
    usize::try_from(number).expect("inside a range of `limits`")
}
