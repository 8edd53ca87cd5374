//! Grant: what a plugin asks for, held against what the operator gives. Everything that does not fit is found
//! here, at start, all of it at once, each with what to type.
//!
//! An origin that a manifest asks for and no grant covers is fatal where no wanted origin is covered at all: the
//! plugin could do nothing, or the operator mistyped the one it needs. Where some are covered it is a warning:
//! a plugin that can post to a webhook or to an API asks for both, and least privilege is to grant the one in use.
//! It is a warning too where the operator has pointed the handler elsewhere, to a proxy or a stand-in: a setting
//! holds a URL of a granted origin, or a secret is bound to one. Such a handler needs no grant for the real one.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::http::{Client, Error, Granted, Mask, Network, Origin, Pattern, parts_of_url};
use super::settings::{self, Settings};
use super::setup::Setup;
use super::{
    BoundSecret, CallLimits, EffectPolicy, Grants, Manifest, OriginGrant, Problem, Setting, SettingKind,
};
use crate::words::digest::Digest;
use crate::words::event::Name;
use crate::words::limits;

/// What one handler may touch, ready to be asked by every call.
pub(super) struct Grant {
    pub(super) handler: Name,
    pub(super) origins: Vec<Granted>,
    pub(super) credentials: Credentials,
    pub(super) mask: Arc<Mask>,
    pub(super) settings: Settings,
    pub(super) limits: CallLimits,
    pub(super) client: Client,
    pub(super) setup: Setup,
    pub(super) setup_digest: Digest,
}

pub(super) struct Credentials {
    handler: Name,
    secrets: BTreeMap<String, Bound>,
}

struct Bound {
    text: String,
    to: Vec<Pattern>,
}

impl Grant {
    /// `memory_initial`: what the plugin's largest memory has before its first instruction.
    pub(super) fn new(
        network: &Network,
        manifest: &Manifest,
        memory_initial: u64,
        grants: Grants,
    ) -> Result<(Grant, Vec<Problem>), Vec<Problem>> {
        let mut findings = Findings::default();
        let origins = findings.origins(&grants.origins, grants.effects);
        let patterns: Vec<Pattern> = origins.iter().map(|granted| granted.pattern.clone()).collect();
        findings.wanted(manifest, &patterns, &grants);
        findings.networks(&grants.networks);
        let secrets = findings.secrets(&grants.secrets, &patterns);
        let values = findings.settings(manifest, &grants);
        findings.limits(&grants.limits, memory_initial);

        let problems = findings.0;
        if problems.iter().any(|problem| problem.fatal) {
            return Err(problems);
        }
        let setup = Setup::of(&grants);
        let grant = Grant {
            setup_digest: setup.digest(),
            setup,
            client: Client::new(Some(grants.name.clone()), network, &grants.networks),
            origins,
            mask: Arc::new(mask(&secrets)),
            credentials: Credentials { handler: grants.name.clone(), secrets },
            settings: Settings::new(&values),
            limits: grants.limits,
            handler: grants.name,
        };
        Ok((grant, problems))
    }

    /// For `describe`: no capability at all.
    pub(super) fn nothing(network: &Network) -> Grant {
        let handler = Name::new("describe").expect("a name of eight letters");
        Grant {
            client: Client::new(Some(handler.clone()), network, &[]),
            origins: Vec::new(),
            mask: Arc::default(),
            credentials: Credentials { handler: handler.clone(), secrets: BTreeMap::new() },
            settings: Settings::default(),
            limits: CallLimits { timeout: limits::DESCRIBE_TIMEOUT, calls: 0, ..CallLimits::default() },
            setup: Setup::default(),
            setup_digest: Setup::default().digest(),
            handler,
        }
    }
}

impl Credentials {
    pub(super) fn text(&self, name: &str) -> Result<&str, Error> {
        match self.secrets.get(name) {
            Some(bound) => Ok(&bound.text),
            None => {
                let (handler, name) = (&self.handler, short(name));
                Err(Error::Denied(format!(
                    "secret `{name}` is not given; add it: \
                     handlers.{handler}.secrets.{name}: {{ from: \"env:{}\", to: [\"https://…\"] }}",
                    name.to_uppercase()
                )))
            }
        }
    }

    pub(super) fn check(&self, name: &str, origin: &Origin) -> Result<(), Error> {
        let bound = self.secrets.get(name).is_some_and(|bound| bound.to.iter().any(|to| to.matches(origin)));
        if bound {
            return Ok(());
        }
        let (handler, name) = (&self.handler, short(name));
        Err(Error::Denied(format!(
            "secret `{name}` is not bound to {origin}; add it: handlers.{handler}.secrets.{name}.to: [\"{origin}\"]"
        )))
    }
}

/// A name that a guest made up, fit to be shown.
fn short(name: &str) -> String {
    super::log::printable(name, 64)
}

fn mask(secrets: &BTreeMap<String, Bound>) -> Mask {
    Mask::new(secrets.iter().flat_map(|(name, bound)| {
        // A basic credential's secret may look like a URL; masking its parts as well does no harm.
        let parts = if bound.text.contains("://") { parts_of_url(&bound.text) } else { Vec::new() };
        let values = std::iter::once(bound.text.as_str()).chain(parts);
        values.map(move |value| (name.as_str(), value.as_bytes()))
    }))
}

// === what does not fit ===

#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn fatal(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { key: key.into(), message: message.into(), fatal: true });
    }

    fn warn(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { key: key.into(), message: message.into(), fatal: false });
    }

    fn origins(&mut self, granted: &[OriginGrant], effects: EffectPolicy) -> Vec<Granted> {
        let mut origins = Vec::with_capacity(granted.len());
        for (i, grant) in granted.iter().enumerate() {
            match Granted::new(grant, effects) {
                Ok(granted) => origins.push(granted),
                Err(problems) => {
                    let at = |field: &str| format!("grants.http.{i}{field}");
                    problems.into_iter().for_each(|(field, why)| self.fatal(at(&field), why));
                }
            }
        }
        origins
    }

    fn wanted(&mut self, manifest: &Manifest, granted: &[Pattern], grants: &Grants) {
        let is_covered = |wanted: &Pattern| granted.iter().any(|pattern| pattern.covers(wanted));
        // The manifest was checked when the plugin was loaded: each of its origins parses.
        let wanted: Vec<Pattern> = manifest.origins.iter().flat_map(|text| Pattern::parse(text)).collect();
        let is_usable = wanted.iter().any(is_covered) || is_pointed_elsewhere(grants, granted);
        for origin in wanted.iter().filter(|wanted| !is_covered(wanted)) {
            let mut all: Vec<String> = grants.origins.iter().map(written).collect();
            all.push(format!("\"{origin}\""));
            let message = format!(
                "{} wants to call {origin}, which is not granted; add it: grants: {{ http: [{}] }}",
                manifest.name,
                all.join(", ")
            );
            if is_usable { self.warn("grants.http", message) } else { self.fatal("grants.http", message) }
        }
    }

    fn networks(&mut self, granted: &[IpNet]) {
        let metadata = std::net::IpAddr::from([169, 254, 169, 254]);
        for network in granted.iter().filter(|n| n.contains(&metadata) && n.prefix_len() < 32) {
            self.warn(
                "grants.networks",
                format!(
                    "{network} holds 169.254.169.254, where clouds hand out this machine's credentials; \
                     name the networks that the handler needs, as in [\"10.1.0.0/16\"]"
                ),
            );
        }
    }

    fn secrets(
        &mut self,
        given: &BTreeMap<String, BoundSecret>,
        granted: &[Pattern],
    ) -> BTreeMap<String, Bound> {
        let mut secrets = BTreeMap::new();
        for (name, secret) in given {
            let to = self.bindings(name, &secret.to, granted);
            if let Some(text) = self.secret_text(name, secret) {
                secrets.insert(name.clone(), Bound { text, to });
            }
        }
        secrets
    }

    fn bindings(&mut self, name: &str, to: &[String], granted: &[Pattern]) -> Vec<Pattern> {
        let key = format!("secrets.{name}.to");
        if to.is_empty() {
            self.fatal(&key, "no origin: the secret could be sent nowhere; write to: [\"https://…\"]");
        }
        let mut bound = Vec::with_capacity(to.len());
        for text in to {
            match Pattern::parse(text) {
                Ok(pattern) if granted.iter().any(|granted| granted.covers(&pattern)) => bound.push(pattern),
                Ok(pattern) => self.fatal(
                    &key,
                    format!("{pattern} is not granted to this handler; add it: grants: {{ http: [\"{pattern}\"] }}"),
                ),
                Err(why) => self.fatal(&key, why),
            }
        }
        bound
    }

    /// Never quotes the secret.
    fn secret_text(&mut self, name: &str, secret: &BoundSecret) -> Option<String> {
        let key = format!("secrets.{name}");
        let Ok(text) = std::str::from_utf8(secret.value.expose()) else {
            self.fatal(key, "the secret is not UTF-8 text, so it cannot be sent");
            return None;
        };
        // A file ends with a line break that no credential means.
        let text = text.trim_end_matches(['\r', '\n']);
        match text.len() {
            0 => self.fatal(key, "the secret is empty; set its environment variable or fill its file"),
            n if n < limits::CREDENTIAL_BYTES_MIN => self.fatal(
                key,
                format!(
                    "the secret has {n} bytes; under {} it cannot be hidden from the plugin",
                    limits::CREDENTIAL_BYTES_MIN
                ),
            ),
            n if n > limits::CREDENTIAL_BYTES_MAX => {
                self.fatal(
                    key,
                    format!("the secret has {n} bytes; at most {}", limits::CREDENTIAL_BYTES_MAX),
                );
            }
            _ => return Some(text.to_owned()),
        }
        None
    }

    fn settings(&mut self, manifest: &Manifest, grants: &Grants) -> Map<String, Value> {
        let mut values = Map::new();
        for setting in &manifest.settings {
            let given = grants.settings.get(&setting.key).filter(|value| !value.is_null());
            if setting.kind == SettingKind::Secret {
                self.secret_setting(manifest, setting, given.is_some(), grants);
            } else if let Some(value) = self.setting(manifest, setting, given) {
                values.insert(setting.key.clone(), value);
            }
        }
        self.unknown(manifest, grants, &mut values);
        values
    }

    fn setting(&mut self, manifest: &Manifest, setting: &Setting, given: Option<&Value>) -> Option<Value> {
        let Setting { key, kind, .. } = setting;
        let value = match (given, &setting.default) {
            (Some(given), _) => settings::fit(*kind, key, given),
            (None, Some(default)) => settings::parse_default(*kind, default).map_err(str::to_owned),
            (None, None) if setting.required => Err(format!(
                "is required by {}{}; add it: settings: {{ {key}: … }}",
                manifest.name,
                help(setting)
            )),
            (None, None) => return None,
        };
        value.map_err(|why| self.fatal(format!("settings.{key}"), why)).ok()
    }

    fn secret_setting(&mut self, manifest: &Manifest, setting: &Setting, is_setting: bool, grants: &Grants) {
        let key = &setting.key;
        let to = manifest.origins.first().map_or("https://…", String::as_str);
        let example = format!(
            "secrets: {{ {key}: {{ from: \"env:{}\", to: [\"{to}\"] }} }}",
            key.to_uppercase().replace('-', "_")
        );
        if is_setting {
            self.fatal(
                format!("settings.{key}"),
                format!("is a secret, which the plugin must not read; move it to {example}"),
            );
        } else if setting.required && !grants.secrets.contains_key(key) {
            let why = format!("is required by {}{}; add it: {example}", manifest.name, help(setting));
            self.fatal(format!("secrets.{key}"), why);
        }
    }

    /// What the plugin does not name it may still read: it gets it, with a warning, since most are typing errors.
    fn unknown(&mut self, manifest: &Manifest, grants: &Grants, values: &mut Map<String, Value>) {
        let known = |secret: bool| -> Vec<&str> {
            let of_kind = manifest.settings.iter().filter(|s| (s.kind == SettingKind::Secret) == secret);
            of_kind.map(|s| s.key.as_str()).collect()
        };
        let list = |known: &[&str]| if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let named = |key: &String| manifest.settings.iter().any(|setting| setting.key == *key);
        for (key, value) in grants.settings.iter().filter(|(key, _)| !named(key)) {
            let message = format!("{} has no such setting; it knows: {}", manifest.name, list(&known(false)));
            self.warn(format!("settings.{key}"), message);
            values.insert(key.clone(), value.clone());
        }
        for key in grants.secrets.keys().filter(|key| !known(true).contains(&key.as_str())) {
            let message = format!("{} names no such secret; it knows: {}", manifest.name, list(&known(true)));
            self.warn(format!("secrets.{key}"), message);
        }
    }

    fn limits(&mut self, limits: &CallLimits, memory_initial: u64) {
        use crate::words::limits as bounds;
        const MIB: u64 = bounds::MIB as u64;
        if limits.memory_bytes < memory_initial {
            let needed = memory_initial.div_ceil(MIB);
            self.fatal(
                "limits.memory",
                format!(
                    "the plugin starts with {needed} MiB; write limits: {{ memory: {}MiB }} or more",
                    needed + 1
                ),
            );
        }
        if limits.memory_bytes > bounds::GUEST_MEMORY_BYTES_MAX {
            let max = bounds::GUEST_MEMORY_BYTES_MAX / MIB;
            self.fatal("limits.memory", format!("at most {max} MiB; write limits: {{ memory: {max}MiB }}"));
        }
        if limits.timeout.is_zero() || limits.timeout > bounds::GUEST_TIMEOUT_MAX {
            let max = bounds::GUEST_TIMEOUT_MAX.as_secs();
            self.fatal(
                "limits.timeout",
                format!("more than 0 and at most {max} s; write limits: {{ timeout: 10s }}"),
            );
        }
    }
}

/// A granted origin as it stands in the file, shortened where it is more than an origin.
fn written(grant: &OriginGrant) -> String {
    match *grant == OriginGrant::from(grant.origin.as_str()) {
        true => format!("\"{}\"", grant.origin),
        false => format!("{{ origin: \"{}\", … }}", grant.origin),
    }
}

/// Whether something that the operator wrote leads to a granted origin.
fn is_pointed_elsewhere(grants: &Grants, granted: &[Pattern]) -> bool {
    let mut bindings =
        grants.secrets.values().flat_map(|secret| &secret.to).flat_map(|to| Pattern::parse(to));
    let mut origins = grants.settings.values().filter_map(Value::as_str).filter_map(Origin::of_text);
    bindings.any(|to| granted.iter().any(|pattern| pattern.covers(&to)))
        || origins.any(|origin| granted.iter().any(|pattern| pattern.matches(&origin)))
}

fn help(setting: &Setting) -> String {
    if setting.help.is_empty() {
        String::new()
    } else {
        format!(" ({})", super::log::printable(&setting.help, 200))
    }
}

#[cfg(test)]
pub(in crate::host) mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::words::secret::Secret;

    /// A handler `h` with these origins and secrets.
    pub(in crate::host) fn grant_with(origins: &[&str], secrets: &[(&str, &str, &[&str])]) -> Grant {
        let grants = Grants { secrets: secrets.iter().map(bound).collect(), ..grants(origins) };
        Grant::new(&Network::new(), &manifest(&[], vec![]), 0, grants).ok().unwrap().0
    }

    fn bound((name, value, to): &(&str, &str, &[&str])) -> (String, BoundSecret) {
        let to = to.iter().map(|t| (*t).to_owned()).collect();
        ((*name).to_owned(), BoundSecret { value: Secret::new(*value), to })
    }

    fn grants(origins: &[&str]) -> Grants {
        Grants {
            name: Name::new("h").unwrap(),
            settings: Map::new(),
            secrets: BTreeMap::new(),
            origins: origins.iter().map(|o| OriginGrant::from(*o)).collect(),
            networks: vec![],
            limits: CallLimits::default(),
            effects: EffectPolicy::default(),
        }
    }

    fn manifest(origins: &[&str], settings: Vec<Setting>) -> Manifest {
        Manifest {
            name: "notify".into(),
            version: "1.0.0".into(),
            description: String::new(),
            events: vec![],
            origins: origins.iter().map(|o| (*o).to_owned()).collect(),
            settings,
        }
    }

    fn setting(key: &str, kind: SettingKind, required: bool, default: Option<&str>) -> Setting {
        Setting {
            key: key.into(),
            kind,
            required,
            default: default.map(str::to_owned),
            help: "what it is for".into(),
        }
    }

    fn problems(manifest: &Manifest, grants: Grants) -> Vec<Problem> {
        match Grant::new(&Network::new(), manifest, 2 << 20, grants) {
            Ok((_, warnings)) => warnings,
            Err(problems) => problems,
        }
    }

    #[test]
    fn all_problems_come_at_once_each_with_what_to_type() {
        let manifest = manifest(
            &["https://hooks.slack.com"],
            vec![
                setting("template", SettingKind::Text, true, None),
                setting("webhook", SettingKind::Secret, true, None),
                setting("token", SettingKind::Secret, false, None),
                setting("count", SettingKind::Number, false, Some("3")),
            ],
        );
        let mut grants = grants(&["hooks.slack.com", "https://other.example"]);
        grants.settings =
            json!({"token": "xoxb", "count": "many", "templat": "x"}).as_object().unwrap().clone();
        grants.secrets =
            [bound(&("spare", "abcdefgh", &["https://evil.example"])), bound(&("short", "abc", &[]))].into();
        grants.networks = vec!["0.0.0.0/0".parse().unwrap()];
        grants.limits = CallLimits { memory_bytes: 1, timeout: Duration::ZERO, ..CallLimits::default() };
        let found = problems(&manifest, grants);
        let expected = [
            ("grants.http.0", true, "write scheme and host"),
            (
                "grants.http",
                true,
                "add it: grants: { http: [\"hooks.slack.com\", \"https://other.example\", \"https://hooks.slack.com\"] }",
            ),
            ("grants.networks", false, "169.254.169.254"),
            ("secrets.short.to", true, "to: [\"https://…\"]"),
            ("secrets.short", true, "3 bytes"),
            ("secrets.spare.to", true, "add it: grants: { http: [\"https://evil.example\"] }"),
            (
                "settings.template",
                true,
                "is required by notify (what it is for); add it: settings: { template: … }",
            ),
            (
                "secrets.webhook",
                true,
                "add it: secrets: { webhook: { from: \"env:WEBHOOK\", to: [\"https://hooks.slack.com\"] } }",
            ),
            (
                "settings.token",
                true,
                "is a secret, which the plugin must not read; move it to secrets: { token:",
            ),
            ("settings.count", true, "is a text, not a number; write count: 5"),
            ("settings.templat", false, "notify has no such setting; it knows: template, count"),
            ("secrets.short", false, "notify names no such secret; it knows: webhook, token"),
            ("secrets.spare", false, "names no such secret"),
            ("limits.memory", true, "the plugin starts with 2 MiB; write limits: { memory: 3MiB }"),
            ("limits.timeout", true, "limits: { timeout: 10s }"),
        ];
        let shown = format!("{found:#?}");
        assert_eq!(found.len(), expected.len(), "{shown}");
        for (problem, (key, fatal, text)) in found.iter().zip(expected) {
            assert_eq!((problem.key.as_str(), problem.fatal), (key, fatal), "{shown}");
            assert!(problem.message.contains(text), "{text} in {problem:?}");
            assert!(
                !problem.message.contains("abcdefgh") && !problem.message.contains("xoxb"),
                "{problem:?}"
            );
        }
    }

    #[test]
    fn wanted_origins_are_fatal_only_where_none_is_granted() {
        let manifest = manifest(&["https://hooks.slack.com", "https://slack.com"], vec![]);
        let fatal = |origins: &[&str]| -> Vec<bool> {
            problems(&manifest, grants(origins)).iter().map(|p| p.fatal).collect()
        };
        assert_eq!(fatal(&[]), [true, true]);
        assert_eq!(fatal(&["https://hooks.slack.co"]), [true, true]);
        assert_eq!(fatal(&["https://hooks.slack.com"]), [false]);
        assert_eq!(fatal(&["https://slack.com", "https://*.slack.com"]), [false; 0]);

        // Pointed at a stand-in by a setting, or by a secret's binding; pointed at nothing that is granted.
        let stand_in = "http://127.0.0.1:7401";
        let mut by_setting = grants(&[stand_in]);
        by_setting.settings.insert("base_url".into(), format!("{stand_in}/api").into());
        let mut by_secret = grants(&[stand_in]);
        by_secret.secrets = [bound(&("webhook", "abcdefgh", &[stand_in]))].into();
        for pointed in [by_setting.clone(), by_secret] {
            assert!(problems(&manifest, pointed).iter().all(|p| !p.fatal));
        }
        let elsewhere = Grants { origins: vec!["http://127.0.0.1:7402".into()], ..by_setting };
        assert!(problems(&manifest, elsewhere).iter().any(|p| p.fatal));
    }

    #[test]
    fn defaults_are_applied_and_nulls_are_absent() {
        let manifest = manifest(
            &[],
            vec![
                setting("a", SettingKind::Text, true, Some("x")),
                setting("b", SettingKind::Json, false, Some("{\"k\":1}")),
                setting("c", SettingKind::Number, false, None),
            ],
        );
        let mut grants = grants(&[]);
        grants.settings = json!({"a": null, "b": "[1]"}).as_object().unwrap().clone();
        let (grant, warnings) = Grant::new(&Network::new(), &manifest, 0, grants).ok().unwrap();
        assert_eq!(warnings, []);
        assert_eq!(grant.settings.all(), "{\"a\":\"x\",\"b\":[1]}");
    }

    #[test]
    fn empty_secrets_are_refused() {
        let with = |value: &[u8]| {
            let secret = BoundSecret { value: Secret::new(value), to: vec!["https://a.example".into()] };
            let grants =
                Grants { secrets: [("s".to_owned(), secret)].into(), ..grants(&["https://a.example"]) };
            problems(&manifest(&[], vec![setting("s", SettingKind::Secret, true, None)]), grants)
        };
        assert_eq!(with(b"long enough\r\n"), []);
        for (value, expected) in [
            (b"\n".as_slice(), "is empty"),
            (b"\xff\xff\xff\xff", "not UTF-8"),
            (&[b'x'; limits::CREDENTIAL_BYTES_MAX + 1], "at most"),
        ] {
            let found = with(value);
            assert!(found.len() == 1 && found[0].fatal && found[0].message.contains(expected), "{found:?}");
        }
    }
}
