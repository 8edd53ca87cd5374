//! Build: from the operator's words to the values that the rooms take.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::{info, warn};

use crate::admin::{HandlerFacts, SecretFacts, SourceFacts, SubscriptionFacts};
use crate::config::{self, Config, Environment, Holder, SecretRef, Secrets, SourceSecret};
use crate::dispatch;
use crate::host;
use crate::intake;
use crate::route;
use crate::store::Ledger;
use crate::verify;
use crate::verify::rotation::{self, Turn};
use crate::words::event::Name;
use crate::words::secret::Secret;
use crate::words::time::Millis;

/// The handlers that may run, by name.
pub type Handlers = BTreeMap<Name, Arc<host::Handler>>;

/// Deliveries of subscriptions and handlers that are gone or disabled wait; those of which they are back go on.
pub async fn hold_what_nobody_wants(
    config: &Config,
    handlers: &Handlers,
    ledger: &Ledger,
) -> Result<(), String> {
    let lanes: BTreeSet<Name> = handlers.keys().cloned().collect();
    let subscriptions: BTreeMap<Name, (Name, bool)> =
        config.subscriptions.iter().map(|(name, s)| (name.clone(), (s.handler.clone(), s.enabled))).collect();
    let wanted = move |subscription: &Name, handler: &Name| match subscriptions.get(subscription) {
        None => Err(format!("subscription `{subscription}` is gone from the configuration")),
        Some((_, false)) => Err(format!("subscription `{subscription}` is disabled")),
        Some((now, _)) if now != handler => {
            Err(format!("subscription `{subscription}` now names handler `{now}`"))
        }
        Some(_) if !lanes.contains(handler) => Err(format!("handler `{handler}` is gone or disabled")),
        Some(_) => Ok(()),
    };
    let (held, resumed) = ledger.hold_unwanted(wanted, Millis::now()).await.map_err(|e| e.to_string())?;
    if held > 0 {
        warn!(
            held,
            "deliveries are held, because nobody takes them now; see `longshore deliveries list --status held`"
        );
    }
    if resumed > 0 {
        info!(resumed, "held deliveries go on: what takes them is back");
    }
    Ok(())
}

/// The sources with their keys, each with the moment at which it ends, and the facts for `sources show`.
pub async fn sources(
    config: &Config,
    environment: &Environment,
    ledger: &Ledger,
    out: &Arc<dyn intake::Outward>,
) -> Result<(Vec<intake::Source>, BTreeMap<Name, SourceFacts>), String> {
    let mut facts = BTreeMap::new();
    let mut sources = Vec::new();
    for (name, source) in &config.sources {
        let scheme = source.compile().map_err(|problems| format!("sources.{name}.scheme: {problems:?}"))?;
        let keys = Keys { name, source, environment, ledger };
        let (ready, secrets) = keys.make(&scheme).await?;
        let secrets = Arc::new(ArcSwap::from_pointee(secrets));
        let handshakes = keys.handshakes(&scheme, &secrets)?.with_follower(follower(out));
        facts.insert(name.clone(), source_facts(source, secrets));
        sources.push(intake::Source {
            name: name.clone(),
            path: source.path.clone(),
            enabled: source.enabled,
            fetch: fetch(source, &scheme, environment, out)?,
            scheme,
            keys: ArcSwap::from_pointee(ready),
            dedupe_window: source.dedupe_window,
            rate: source.rate,
            public_url: source.public_url.clone().unwrap_or_default(),
            handshakes,
        });
    }
    Ok((sources, facts))
}

/// Calls a URL that a handshake brought, as it would be called for a key: over TLS, a public address, no redirect.
fn follower(out: &Arc<dyn intake::Outward>) -> intake::Follower {
    let out = Arc::clone(out);
    Arc::new(move |url| {
        let out = Arc::clone(&out);
        Box::pin(async move {
            match out.send(verify::Ask { url: url.into(), json: None }).await? {
                intake::Answered { status: 200..300, .. } => Ok(()),
                intake::Answered { status, .. } => Err(format!("it answered {status}")),
            }
        })
    })
}

/// How the keys are had that a source's requests name, where its scheme asks for any.
fn fetch(
    source: &config::Source,
    scheme: &verify::Scheme,
    environment: &Environment,
    out: &Arc<dyn intake::Outward>,
) -> Result<Option<intake::Fetch>, String> {
    if !source.enabled || scheme.fetches_keys().is_none() {
        return Ok(None);
    }
    let secrets = Secrets::new(environment);
    let read = |(name, secret): (&String, &config::SecretRef)| {
        Ok((name.clone(), secrets.read(secret).map_err(|problem| problem.to_string())?))
    };
    let credentials = source.credentials.iter().map(read).collect::<Result<_, String>>()?;
    Ok(Some(intake::Fetch { out: Arc::clone(out), credentials }))
}

/// What a source's keys are made from: at the start, and again when a handshake has brought a secret.
struct Keys<'a> {
    name: &'a Name,
    source: &'a config::Source,
    environment: &'a Environment,
    ledger: &'a Ledger,
}

/// What is told of a source's secrets; it changes when one is brought.
type Told = Arc<ArcSwap<Vec<SecretFacts>>>;

impl Keys<'_> {
    async fn make(&self, scheme: &verify::Scheme) -> Result<(Vec<verify::Key>, Vec<SecretFacts>), String> {
        let Keys { name, source, ledger, .. } = self;
        let there = self.secrets()?;
        let fingerprints: Vec<_> = there.iter().map(|(_, secret)| secret.fingerprint()).collect();
        let seen =
            ledger.secrets_seen(name, &fingerprints, Millis::now()).await.map_err(|e| e.to_string())?;
        let turns: Vec<Turn> = std::iter::zip(&there, seen)
            .map(|((written, _), demoted_at)| Turn { until: written.until, demoted_at })
            .collect();
        let ends = rotation::ends(&turns, source.rotation_window);
        let keys = std::iter::zip(&there, ends).map(|((_, secret), ends)| scheme.key(secret, ends));
        let keys: Result<Vec<_>, String> = keys.collect();
        let facts = there.iter().map(|(written, secret)| SecretFacts {
            fingerprint: secret.fingerprint(),
            from: written.from.to_string(),
            until: written.until,
        });
        Ok((keys.map_err(|why| format!("sources.{name}.secrets: {why}"))?, facts.collect()))
    }

    /// A disabled source may lack its secrets: it verifies nothing. So may one that waits for a handshake.
    fn secrets(&self) -> Result<Vec<(&SourceSecret, Secret)>, String> {
        if !self.source.enabled {
            return Ok(Vec::new());
        }
        let is_there = |secret: &&SourceSecret| {
            !(self.source.is_brought(&secret.from) && config::is_to_come(&secret.from))
        };
        let there = self.source.secrets.iter().filter(is_there);
        there.map(|written| Ok((written, self.read(&written.from)?))).collect()
    }

    fn read(&self, secret: &SecretRef) -> Result<Secret, String> {
        Secrets::new(self.environment).read(secret).map_err(|problem| problem.to_string())
    }

    // === handshakes ===

    fn handshakes(&self, scheme: &verify::Scheme, facts: &Told) -> Result<intake::Handshakes, String> {
        let (name, source) = (self.name, self.source);
        let challenges = source.challenges(scheme);
        let mut challenges =
            challenges.map_err(|problems| format!("sources.{name}.challenge: {problems:?}"))?;
        let mut captures = Vec::new();
        let written = source.challenge.iter().flatten().filter(|_| source.enabled);
        for (at, challenge) in written.enumerate() {
            if let Some(token) = &challenge.verify_token {
                challenges.trust(at, self.read(token)?);
            }
            if let Some(file) = &challenge.capture_file {
                let holder = Holder::File(file.clone());
                let kept = source.secrets.iter().find(|secret| secret.from.holder == holder);
                let kept = kept.filter(|secret| !config::is_to_come(&secret.from));
                let held = kept.map(|secret| self.read(&secret.from)).transpose()?;
                captures.push((at, intake::Capture::new(file.clone(), held, self.renewal(facts))));
            }
        }
        Ok(intake::Handshakes::new(challenges, captures))
    }

    fn renewal(&self, facts: &Told) -> intake::Renew {
        let (name, source) = (self.name.clone(), self.source.clone());
        let (environment, ledger, facts) = (self.environment.clone(), self.ledger.clone(), Arc::clone(facts));
        Box::new(move || {
            let (name, source) = (name.clone(), source.clone());
            let (environment, ledger, facts) = (environment.clone(), ledger.clone(), Arc::clone(&facts));
            Box::pin(async move {
                let scheme = source.compile().map_err(|problems| format!("{problems:?}"))?;
                let keys = Keys { name: &name, source: &source, environment: &environment, ledger: &ledger };
                let (ready, secrets) = keys.make(&scheme).await?;
                facts.store(Arc::new(secrets));
                Ok(ready)
            })
        })
    }
}

fn source_facts(source: &config::Source, secrets: Told) -> SourceFacts {
    let scheme = match (&source.preset, &source.scheme) {
        (Some(preset), None) => format!("preset {preset}"),
        (Some(preset), Some(_)) => format!("preset {preset}, changed"),
        (None, _) => "scheme of its own".to_owned(),
    };
    SourceFacts { scheme, rotation_window: source.rotation_window, secrets }
}

pub fn handler_facts(config: &Config, handlers: &Handlers) -> BTreeMap<Name, HandlerFacts> {
    let facts = |(name, handler): (&Name, &Arc<host::Handler>)| {
        let written = config.handlers.get(name)?;
        let manifest = handler.plugin().manifest();
        let subscriptions = config.subscriptions.iter().filter(|(_, s)| s.handler == *name);
        let facts = HandlerFacts {
            enabled: written.enabled,
            plugin: written.plugin.clone(),
            plugin_name: format!("{} {}", manifest.name, manifest.version),
            digest: handler.plugin().digest(),
            contract: handler.plugin().contract().to_owned(),
            concurrency: written.limits.concurrency,
            rate: written.limits.rate,
            subscriptions: subscriptions
                .map(|(name, s)| SubscriptionFacts {
                    name: name.clone(),
                    source: s.source.clone(),
                    events: s.events.iter().map(ToString::to_string).collect(),
                    enabled: s.enabled,
                })
                .collect(),
        };
        Some((name.clone(), facts))
    };
    handlers.iter().filter_map(facts).collect()
}

/// Only what is enabled routes: a subscription of a disabled handler makes no deliveries.
pub fn routes(config: &Config) -> route::Table {
    let enabled = config.subscriptions.iter().filter(|(_, s)| {
        let on = |name: &Name| config.handlers.get(name).is_some_and(|h| h.enabled);
        s.enabled && on(&s.handler)
    });
    let subscriptions = enabled.map(|(name, s)| route::Subscription {
        name: name.clone(),
        source: s.source.clone(),
        handler: s.handler.clone(),
        events: s.events.clone(),
    });
    route::Table::new(subscriptions.collect())
}

pub fn lanes(config: &Config, handlers: &Handlers) -> Vec<dispatch::Lane> {
    let lane = |(name, handler): (&Name, &Arc<host::Handler>)| {
        let written = config.handlers.get(name)?;
        Some(dispatch::Lane {
            handler: Arc::clone(handler),
            concurrency: written.limits.concurrency,
            rate: written.limits.rate,
            retry: written.retry.policy(),
            breaker: written.breaker.as_ref().map(|breaker| dispatch::Breaker {
                failures: breaker.failures,
                probe_after: breaker.probe_after,
                probe_max: breaker.probe_max,
            }),
        })
    };
    handlers.iter().filter_map(lane).collect()
}

/// # Errors
/// Where a development certificate was asked for and cannot be made.
pub fn intake_options(config: &Config) -> Result<intake::Options, String> {
    let server = &config.server;
    Ok(intake::Options {
        tls: match &server.tls {
            config::Tls::Off => intake::Tls::Off,
            config::Tls::Files { cert, key } => intake::Tls::Files { cert: cert.clone(), key: key.clone() },
            config::Tls::Dev => {
                let made = intake::tls::make_development_certificate(&config.store.path);
                let (cert, key) = made.map_err(|e| e.to_string())?;
                warn!(cert = %cert.display(), "`tls: dev`: a certificate made here, which only this machine trusts");
                intake::Tls::Files { cert, key }
            }
        },
        behind_proxy: server.behind_proxy,
        body_bytes_max: server.max_body,
        connections_max: server.max_connections,
        requests_max: server.max_requests,
        header_timeout: server.header_timeout,
        body_timeout: server.body_timeout,
        drain: server.drain,
    })
}
