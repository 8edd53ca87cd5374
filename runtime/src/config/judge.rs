//! Judge: what a configuration says of itself, without opening anything: paths, schemes, names used elsewhere.

use std::collections::BTreeMap;
use std::path::Path;

use super::problem::{Problem, Problems};
use super::read::nearest;
use super::types::{Config, Handler, OriginGrant, Sample, Source, Subscription, Tls};
use super::values::{Holder, is_loopback_origin};
use crate::store::Durability;
use crate::verify::{self, Scheme};
use crate::words::event::Name;
use crate::words::limits::SOURCE_PATH_BYTES_MAX;

pub(super) fn judge(config: &Config, problems: &mut Problems) {
    let mut judge = Judge { config, problems };
    judge.server();
    judge.store();
    let mut paths = BTreeMap::new();
    for (name, source) in &config.sources {
        judge.source_path(name, source, &mut paths);
        judge.source_scheme(name, source);
        judge.source_secrets(name, source);
        judge.verify_tokens(name, source);
    }
    judge.captures();
    for (name, handler) in &config.handlers {
        judge.grants(name, handler);
        judge.retry(name, handler);
        judge.breaker(name, handler);
    }
    for (name, subscription) in &config.subscriptions {
        judge.subscription(name, subscription);
    }
    judge.unused();
}

struct Judge<'a> {
    config: &'a Config,
    problems: &'a mut Problems,
}

impl Judge<'_> {
    /// Told only where reading found nothing wrong at the key: a second error would only repeat the first.
    fn error(&mut self, key: &str, message: impl Into<String>) {
        if !self.problems.touch(key) {
            self.problems.push(Problem::error(self.config.origin(key), key, message));
        }
    }

    fn warn(&mut self, key: &str, message: impl Into<String>) {
        if !self.problems.touch(key) {
            self.problems.push(Problem::warning(self.config.origin(key), key, message));
        }
    }

    // === server, store ===

    fn server(&mut self) {
        let server = &self.config.server;
        let beyond = !server.listen.ip().is_loopback() && !self.problems.touch("server.listen");
        let port = server.listen.port();
        match server.tls {
            Tls::Off if beyond && !server.behind_proxy => self.error(
                "server.tls",
                format!(
                    "plain HTTP on {} shows every event to the network; type `behind_proxy: true` beside it \
                     where a proxy ends TLS, or `listen: 127.0.0.1:{port}`, or `tls: {{ cert: …, key: … }}`",
                    server.listen
                ),
            ),
            Tls::Dev if beyond => self.error(
                "server.tls",
                format!(
                    "the development certificate is for loopback, not {}; type `listen: 127.0.0.1:{port}` or \
                     `tls: {{ cert: …, key: … }}`",
                    server.listen
                ),
            ),
            _ => {}
        }
        if let Some(admin) = self.config.admin.listen
            && admin.port() == port
            && port != 0
            && (server.listen.ip().is_unspecified() || server.listen.ip() == admin.ip())
        {
            self.error(
                "admin.listen",
                format!("{admin} is the door's own port; type another, as `127.0.0.1:9443`"),
            );
        }
    }

    fn store(&mut self) {
        if self.config.store.durability == Durability::ProcessCrash {
            self.warn(
                "store.durability",
                "with `process-crash` events that were answered 200 are lost when the power fails; type \
                 `durability: power-loss` where that matters",
            );
        }
    }

    // === sources ===

    fn source_path<'s>(&mut self, name: &Name, source: &'s Source, paths: &mut BTreeMap<&'s str, Name>) {
        let key = format!("sources.{name}.path");
        if self.problems.touch(&key) {
            return;
        }
        if let Err(why) = source_path(&source.path) {
            self.error(&key, why);
        } else if let Some(other) = paths.insert(&source.path, name.clone()) {
            let path = &source.path;
            self.error(
                &key,
                format!("`{path}` is already the path of `{other}`; type `path: {path}-{name}`"),
            );
        }
    }

    fn source_scheme(&mut self, name: &Name, source: &Source) {
        let section = format!("sources.{name}");
        let preset_key = format!("{section}.preset");
        let known = verify::preset_names();
        match &source.preset {
            None if source.scheme.is_none() => {
                let why = "nothing says how this source signs; type `preset: NAME` with a name of \
                           `longshore presets list`, or `scheme: { … }`";
                return self.error(&preset_key, why);
            }
            Some(preset) if !known.contains(&preset.as_str()) => {
                let type_this = match nearest(preset, known.iter().copied()) {
                    Some(near) => format!("`preset: {near}`"),
                    None => "a name of `longshore presets list`".to_owned(),
                };
                return self.error(&preset_key, format!("there is no preset `{preset}`; type {type_this}"));
            }
            _ => {}
        }
        self.sample_missing(name, source);
        if self.problems.touch(&format!("{section}.scheme"))
            || self.problems.touch(&format!("{section}.event"))
        {
            return;
        }
        match source.compile() {
            Err(found) => {
                found.into_iter().for_each(|p| self.error(&format!("{section}.{}", p.key), p.message))
            }
            Ok(scheme) => {
                let written = if source.scheme.is_some() { "scheme" } else { "preset" };
                if let Some((key, why)) = scheme.lacks() {
                    self.error(&format!("{section}.{key}"), why);
                }
                scheme.notes().iter().for_each(|note| self.warn(&format!("{section}.{written}"), note));
                if scheme.needs_url() && source.public_url.is_none() {
                    let why =
                        "this scheme signs the URL; type `public_url: https://…`, as the provider has it";
                    self.error(&format!("{section}.public_url"), why);
                } else {
                    self.sample(name, source);
                }
                self.source_challenges(name, source, &scheme);
            }
        }
    }

    // === handshakes ===

    fn source_challenges(&mut self, name: &Name, source: &Source, scheme: &verify::Scheme) {
        let section = format!("sources.{name}");
        if self.problems.touch(&format!("{section}.challenge")) {
            return;
        }
        match source.challenges(scheme) {
            Err(found) => {
                found.into_iter().for_each(|p| self.error(&format!("{section}.{}", p.key), p.message))
            }
            Ok(challenges) => {
                challenges.notes().iter().for_each(|note| self.warn(&format!("{section}.preset"), note));
                if challenges.needs_url() && source.public_url.is_none() {
                    let why = "a handshake is answered with the URL; type `public_url: https://…`, as the provider \
                               has it";
                    self.error(&format!("{section}.public_url"), why);
                }
            }
        }
    }

    /// A verify token travels in URLs, which logs are full of. As a signing secret it would sign events for whoever
    /// reads one.
    fn verify_tokens(&mut self, name: &Name, source: &Source) {
        for token in source.challenge.iter().flatten().filter_map(|challenge| challenge.verify_token.as_ref())
        {
            if source.secrets.iter().any(|secret| secret.from.holder == token.holder) {
                let why = format!(
                    "`{token}` is a signing secret of `{name}` too, and a verify token is read in URLs; type one of \
                     its own, as `env:NAME`"
                );
                self.error(&token.key, why);
            }
        }
    }

    /// What a handshake brings is a secret of its own source, and of no other.
    fn captures(&mut self) {
        let config = self.config;
        let mut files: BTreeMap<&Path, String> = BTreeMap::new();
        for (name, source) in &config.sources {
            for challenge in source.challenge.iter().flatten() {
                let Some(file) = &challenge.capture_file else { continue };
                let key = format!("sources.{name}.{}.capture.file", challenge.key);
                let shown = file.display();
                if let Some(first) = files.insert(file, key.clone()) {
                    self.error(&key, format!("`{shown}` stands at `{first}` already; type another file"));
                }
                let is_it = |holder: &Holder| matches!(holder, Holder::File(path) if path == file);
                if !source.secrets.iter().any(|secret| is_it(&secret.from.holder)) {
                    let why = format!(
                        "nothing is verified with what is written there; type `secrets: [ \"file:{shown}\" ]`"
                    );
                    self.error(&key, why);
                }
            }
        }
    }

    /// A recipe that nobody has tried may verify nothing and look sound.
    fn sample_missing(&mut self, name: &Name, source: &Source) {
        let needed = source.is_spelled_out() && verify::sample::is_needed(&source.specs().0);
        if needed && source.sample.is_none() {
            let why = format!(
                "a scheme that is spelled out carries a request that proves it; `longshore verify --source {name} \
                 --request FILE --as-sample` prints one; type `sample: {{ secret: …, headers: …, body: … }}`"
            );
            self.error(&format!("sources.{name}.sample"), why);
        }
    }

    /// One that lies in a file is read by `check`.
    fn sample(&mut self, name: &Name, source: &Source) {
        let section = format!("sources.{name}");
        let Some(Sample::Here(sample)) = &source.sample else { return };
        if self.problems.touch(&format!("{section}.sample")) {
            return;
        }
        let (scheme, event) = source.specs();
        let found = verify::sample::prove(&scheme, &event, sample, source.public_url.as_deref());
        found.into_iter().for_each(|p| self.error(&format!("{section}.{}", p.key), p.message));
    }

    fn source_secrets(&mut self, name: &Name, source: &Source) {
        let mut seen: BTreeMap<&Holder, &str> = BTreeMap::new();
        for secret in &source.secrets {
            if let Some(first) = seen.insert(&secret.from.holder, &secret.from.key) {
                let why = format!("`{}` stands at `{first}` already; take one of them away", secret.from);
                self.error(&secret.from.key, why);
            }
        }
        let list = format!("sources.{name}.secrets");
        let scheme = source.compile().ok();
        let needs_none = scheme.as_ref().is_some_and(Scheme::proves_nothing);
        let fetches = scheme.as_ref().and_then(Scheme::fetches_keys);
        self.source_credentials(name, source, fetches.filter(|_| source.secrets.is_empty()));
        if source.secrets.is_empty() && !needs_none && fetches.is_none() && !self.problems.touch(&list) {
            self.error(&list, "no secret is left; type `secrets: [ \"env:NAME\" ]`");
        }
        if needs_none && !source.secrets.is_empty() {
            self.error(
                &list,
                "`type: none` proves nothing, so it has no use for a secret; take the list away",
            );
        }
    }

    /// `wanted`: what the host of the keys wants; None: nobody is asked.
    fn source_credentials(&mut self, name: &Name, source: &Source, wanted: Option<&[&str]>) {
        let section = format!("sources.{name}.credentials");
        for missing in wanted.unwrap_or_default().iter().filter(|key| !source.credentials.contains_key(**key))
        {
            let why = format!(
                "the host of the keys wants it; type `credentials: {{ {missing}: \"env:NAME\" }}`, or a key in `secrets`"
            );
            self.error(&format!("{section}.{missing}"), why);
        }
        for key in source.credentials.keys().filter(|key| !wanted.unwrap_or_default().contains(&key.as_str()))
        {
            let why = match wanted {
                Some(_) => format!("the host of the keys has no use for `{key}`; take it away"),
                None => "no keys are fetched for this source; take it away".to_owned(),
            };
            self.error(&format!("{section}.{key}"), why);
        }
    }

    // === handlers ===

    fn grants(&mut self, name: &Name, handler: &Handler) {
        let section = format!("handlers.{name}");
        for (i, grant) in handler.grants.http.iter().enumerate() {
            let (key, origin) = (format!("{section}.grants.http.{i}"), &grant.origin);
            let is_whole = |other: &&OriginGrant| other.methods.is_empty() && other.paths.is_empty();
            let before = handler.grants.http[..i].iter().filter(is_whole);
            if before.into_iter().any(|whole| covers(&whole.origin, origin)) {
                let why = format!(
                    "`{origin}` is granted whole further up, and the first grant that lets a call through counts; \
                     type this one above it, or take one of them away"
                );
                self.warn(&key, why);
            }
            if origin.starts_with("http://") && !is_loopback_origin(origin) {
                let why = format!(
                    "calls to `{origin}` travel in plain text; type `{}`",
                    origin.replacen("http", "https", 1)
                );
                self.warn(&key, why);
            }
        }
        for (i, network) in handler.grants.networks.iter().enumerate() {
            if network.prefix_len() == 0 {
                let why = "this grants every private address; type the network alone, as `10.0.0.0/8`";
                self.warn(&format!("{section}.grants.networks.{i}"), why);
            }
        }
        for (secret, bound) in &handler.secrets {
            for (i, origin) in bound.to.iter().enumerate() {
                if !handler.grants.http.iter().any(|granted| covers(&granted.origin, origin)) {
                    let why = format!(
                        "`{origin}` is not granted; type `grants: {{ http: [ \"{origin}\" ] }}`, or take it \
                         away here"
                    );
                    self.error(&format!("{section}.secrets.{secret}.to.{i}"), why);
                }
            }
        }
    }

    fn retry(&mut self, name: &Name, handler: &Handler) {
        let retry = &handler.retry;
        if retry.max_delay < retry.first_delay {
            let (most, first) = (super::show_span(retry.max_delay), super::show_span(retry.first_delay));
            let why = format!("{most} is below the first delay; type `max_delay: {first}` or more");
            self.error(&format!("handlers.{name}.retry.max_delay"), why);
        }
    }

    fn breaker(&mut self, name: &Name, handler: &Handler) {
        let Some(breaker) = &handler.breaker else { return };
        if breaker.probe_max < breaker.probe_after {
            let (most, first) = (super::show_span(breaker.probe_max), super::show_span(breaker.probe_after));
            let why =
                format!("{most} is below the wait for the first probe; type `probe_max: {first}` or more");
            self.error(&format!("handlers.{name}.breaker.probe_max"), why);
        }
    }

    // === subscriptions ===

    fn subscription(&mut self, name: &Name, subscription: &Subscription) {
        let key = |field: &str| format!("subscriptions.{name}.{field}");
        let source = self.config.sources.get(&subscription.source).map(|source| source.enabled);
        let handler = self.config.handlers.get(&subscription.handler).map(|handler| handler.enabled);
        self.reference(&key("source"), "sources", &subscription.source, source, subscription.enabled);
        self.reference(&key("handler"), "handlers", &subscription.handler, handler, subscription.enabled);
        for (i, pattern) in subscription.events.iter().enumerate() {
            if subscription.events[..i].contains(pattern) {
                self.warn(
                    &format!("{}.{i}", key("events")),
                    "this pattern stands here twice; take one of them away",
                );
            }
        }
    }

    /// `found`: whether the entry is enabled; None where there is no such entry that could be read.
    fn reference(&mut self, key: &str, section: &str, name: &Name, found: Option<bool>, wanted: bool) {
        match found {
            _ if self.problems.stand_at(section) => {}
            Some(true) => {}
            Some(false) if wanted => self.warn(
                key,
                format!(
                    "`{name}` is disabled, so nothing comes of this; type `enabled: false` here too, or \
                     enable it"
                ),
            ),
            Some(false) => {}
            // Written, but with a mistake of its own that is told there.
            None if self.config.is_written(section, name.as_str()) => {}
            None => {
                let names = self.config.names(section);
                let type_this = match nearest(name.as_str(), names.iter().copied()) {
                    Some(near) => format!("type `{near}`"),
                    None if names.is_empty() => format!("type `{section}: {{ {name}: {{ … }} }}`"),
                    None => format!("type `{}`", names.join("` or `")),
                };
                self.error(key, format!("there is no `{name}` among the {section}; {type_this}"));
            }
        }
    }

    fn unused(&mut self) {
        let config = self.config;
        if config.sources.is_empty() {
            self.warn("sources", "without a source nothing is accepted; type `sources: { NAME: { … } }`");
        }
        // A subscription with a mistake may be the one that is missed here.
        if self.problems.touch("subscriptions") {
            return;
        }
        let live = || config.subscriptions.values().filter(|subscription| subscription.enabled);
        for (name, handler) in &config.handlers {
            if handler.enabled && !live().any(|subscription| subscription.handler == *name) {
                let why = format!(
                    "no subscription uses this handler; type one with `handler: {name}`, or `enabled: false`"
                );
                self.warn(&format!("handlers.{name}"), why);
            }
        }
        for (name, source) in &config.sources {
            if source.enabled && !live().any(|subscription| subscription.source == *name) {
                let why =
                    format!("its events are kept and go nowhere; type a subscription with `source: {name}`");
                self.warn(&format!("sources.{name}"), why);
            }
        }
    }
}

/// Whether everything that `wanted` names is granted; both as `values::origin` writes them.
fn covers(granted: &str, wanted: &str) -> bool {
    granted == wanted
        || granted.strip_prefix("https://*.").is_some_and(|suffix| {
            let host = wanted.strip_prefix("https://").unwrap_or_default();
            let host = host.strip_prefix("*.").unwrap_or(host);
            host == suffix && wanted.starts_with("https://*.") || host.ends_with(&format!(".{suffix}"))
        })
}

/// Paths of the admin listener, which a proxy may hand on.
const RESERVED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// One spelling for each path: what a proxy or a client might rewrite on the way is refused here.
fn source_path(path: &str) -> Result<(), String> {
    let trimmed: Vec<&str> = path.split('/').map(|s| s.trim_matches('.')).filter(|s| !s.is_empty()).collect();
    let tidy = format!("/{}", trimmed.join("/"));
    let type_this = |path: &str| {
        let plain: String = path.chars().filter(|c| is_path_char(*c)).collect();
        format!("type `path: {plain}`")
    };
    if !path.starts_with('/') {
        return Err(format!("a path starts with `/`; {}", type_this(&tidy)));
    }
    if path.len() > SOURCE_PATH_BYTES_MAX {
        return Err(format!("the path is longer than {SOURCE_PATH_BYTES_MAX} bytes; type a shorter one"));
    }
    if let Some(odd) = path.chars().find(|c| !is_path_char(*c)) {
        return Err(format!("`{odd}` has no place in a path; {}", type_this(&tidy)));
    }
    if path != tidy {
        return Err(format!(
            "a path has no empty segment, no slash and no dot at an end; {}",
            type_this(&tidy)
        ));
    }
    let reserved = RESERVED.iter().any(|reserved| {
        path.strip_prefix(reserved).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    if reserved {
        return Err(format!("`{path}` is reserved; type `path: /webhooks{path}`"));
    }
    Ok(())
}

fn is_path_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/-._~".contains(c)
}
