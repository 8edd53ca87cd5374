//! Build: from the operator's words to the values that the rooms take.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::{info, warn};

use crate::admin::{HandlerFacts, SecretFacts, SourceFacts, SubscriptionFacts};
use crate::config::{self, Config, Environment, Secrets};
use crate::dispatch;
use crate::host;
use crate::intake;
use crate::route;
use crate::store::Ledger;
use crate::verify::rotation::{self, Turn};
use crate::words::event::Name;
use crate::words::secret::{Fingerprint, Secret};
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
) -> Result<(Vec<intake::Source>, BTreeMap<Name, SourceFacts>), String> {
    let mut facts = BTreeMap::new();
    let mut sources = Vec::new();
    for (name, source) in &config.sources {
        let scheme = source.compile().map_err(|problems| format!("sources.{name}.scheme: {problems:?}"))?;
        let secrets = secrets_of(source, environment)?;
        let fingerprints: Vec<_> = secrets.iter().map(Secret::fingerprint).collect();
        let seen =
            ledger.secrets_seen(name, &fingerprints, Millis::now()).await.map_err(|e| e.to_string())?;
        let turns: Vec<Turn> = std::iter::zip(&source.secrets, seen)
            .map(|(secret, demoted_at)| Turn { until: secret.until, demoted_at })
            .collect();
        let ends = rotation::ends(&turns, source.rotation_window);
        let keys: Result<Vec<_>, String> =
            std::iter::zip(&secrets, ends).map(|(secret, ends)| scheme.key(secret, ends)).collect();
        facts.insert(name.clone(), source_facts(source, &fingerprints));
        sources.push(intake::Source {
            name: name.clone(),
            path: source.path.clone(),
            enabled: source.enabled,
            scheme,
            keys: ArcSwap::from_pointee(keys.map_err(|why| format!("sources.{name}.secrets: {why}"))?),
            dedupe_window: source.dedupe_window,
            rate: source.rate,
            public_url: source.public_url.clone().unwrap_or_default(),
        });
    }
    Ok((sources, facts))
}

/// A disabled source may lack its secrets: it verifies nothing.
fn secrets_of(source: &config::Source, environment: &Environment) -> Result<Vec<Secret>, String> {
    if !source.enabled {
        return Ok(Vec::new());
    }
    let secrets = Secrets::new(environment);
    source.secrets.iter().map(|secret| secrets.read(&secret.from).map_err(|p| p.to_string())).collect()
}

fn source_facts(source: &config::Source, fingerprints: &[Fingerprint]) -> SourceFacts {
    let scheme = match (&source.preset, &source.scheme) {
        (Some(preset), None) => format!("preset {preset}"),
        (Some(preset), Some(_)) => format!("preset {preset}, changed"),
        (None, _) => "scheme of its own".to_owned(),
    };
    let secrets = std::iter::zip(&source.secrets, fingerprints).map(|(secret, fingerprint)| SecretFacts {
        fingerprint: *fingerprint,
        from: secret.from.to_string(),
        until: secret.until,
    });
    SourceFacts { scheme, rotation_window: source.rotation_window, secrets: secrets.collect() }
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
