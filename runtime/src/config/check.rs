//! Check: goes on where the text ends, to what it points at: secrets, certificates, plugins.
//!
//! The tools are handed in: who reads a certificate or compiles a plugin is another room, and `run` keeps the
//! handlers that it binds here, so that what is checked is what is started.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::problem::{Problem, Problems, Severity, advised};
use super::secrets::{Secrets, is_to_come, readable_by_all};
use super::types::{Config, Handler, Sample, Source, Tls};
use super::values::{Holder, show_span};
use super::{Loaded, SecretRef, SourceSecret};
use crate::host;
use crate::verify::rotation::{self, Turn};
use crate::verify::{self, Scheme};
use crate::words::event::Name;
use crate::words::limits::{CERTIFICATE_ENDS_SOON, SECRET_BYTES_SHORT, YAML_BYTES_MAX};
use crate::words::secret::{Fingerprint, Secret};
use crate::words::time::Millis;
use crate::words::yaml;

/// What a check needs of the world.
pub struct Tools<'a> {
    /// None: secrets are not read (`--no-secrets`).
    pub secrets: Option<Secrets<'a>>,
    pub now: Millis,
    /// Reads a certificate and its key, and sees that they belong together.
    pub certificate: &'a dyn Fn(&Path, &Path) -> Result<Validity, String>,
    /// Loads a plugin and binds it to its grants. With `--no-secrets` each secret is a placeholder.
    pub bind: &'a dyn Fn(&Path, host::Grants) -> Vec<host::Problem>,
    /// When the daemon first saw a source's secret below a newer one, where that is known.
    pub demoted_at: &'a dyn Fn(&Name, Fingerprint) -> Option<Millis>,
}

/// From when until when a certificate is good.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    pub begins: Millis,
    pub ends: Millis,
}

/// Everything that `config check` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub problems: Problems,
    pub secrets: Vec<SecretEnd>,
    #[serde(skip)]
    config: Option<Config>,
}

impl Report {
    /// The configuration and its warnings.
    ///
    /// # Errors
    /// All problems, where one of them is an error.
    pub fn sound(self) -> Result<(Config, Problems), Problems> {
        Loaded { config: self.config, problems: self.problems }.sound()
    }
}

/// One secret of a source and the time until which it is accepted.
#[derive(Clone, Debug, Serialize)]
pub struct SecretEnd {
    pub source: Name,
    /// `env:SENDPILOT_SECRET`
    pub secret: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    #[serde(flatten)]
    pub end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum End {
    Never,
    At {
        at: Millis,
    },
    Ended {
        at: Millis,
    },
    /// Below a newer one, and no daemon's word yet on when it was first seen so.
    AfterSeen {
        #[serde(serialize_with = "span_ms", rename = "window_ms")]
        window: Duration,
    },
}

fn span_ms<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Never => f.write_str("has no end"),
            End::At { at } => write!(f, "ends {at}"),
            End::Ended { at } => write!(f, "ended {at}"),
            End::AfterSeen { window } => {
                write!(f, "ends {} after the daemon first sees a newer one", show_span(*window))
            }
        }
    }
}

impl fmt::Display for SecretEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.source, self.secret, self.end)
    }
}

/// Loads a plugin and binds it; a plugin that does not load is a problem at `plugin`.
pub fn bind(
    engine: &host::Engine,
    plugin: &Path,
    grants: host::Grants,
) -> (Option<host::Handler>, Vec<host::Problem>) {
    let loaded = match engine.load(plugin) {
        Ok(loaded) => loaded,
        Err(error) => {
            let problem = host::Problem { key: "plugin".to_owned(), message: error.to_string(), fatal: true };
            return (None, vec![problem]);
        }
    };
    match host::Handler::bind(engine, loaded, grants) {
        Ok((handler, warnings)) => (Some(handler), warnings),
        Err(problems) => (None, problems),
    }
}

/// Adds to what `load` found. What the text already got wrong is not looked at again.
pub fn check(loaded: Loaded, tools: &Tools<'_>) -> Report {
    let Loaded { config, problems } = loaded;
    let mut report = Report { problems, secrets: Vec::new(), config: None };
    if let Some(config) = &config {
        let (problems, ends) = (&mut report.problems, &mut report.secrets);
        let mut check = Check { config, tools, problems, ends, signing: Vec::new() };
        check.certificate();
        config
            .sources
            .iter()
            .filter(|(_, source)| source.enabled)
            .for_each(|(name, s)| check.source(name, s));
        check.answers_for_others();
        config
            .handlers
            .iter()
            .filter(|(_, handler)| handler.enabled)
            .for_each(|(name, h)| check.handler(name, h));
        report.problems.sort();
    }
    Report { config, ..report }
}

struct Check<'a> {
    config: &'a Config,
    tools: &'a Tools<'a>,
    problems: &'a mut Problems,
    ends: &'a mut Vec<SecretEnd>,
    /// Each signing secret that was read, with what anybody can have signed with it.
    signing: Vec<Signing<'a>>,
}

struct Signing<'a> {
    source: &'a Name,
    from: &'a SecretRef,
    fingerprint: Fingerprint,
    /// Patterns, as `Challenges::for_anybody` gives them.
    for_anybody: Vec<String>,
}

impl<'a> Check<'a> {
    fn add(&mut self, severity: Severity, key: &str, message: impl Into<String>) {
        if !self.problems.touch(key) {
            let at = self.config.origin(key);
            self.problems.push(Problem { severity, at, key: key.to_owned(), message: message.into() });
        }
    }

    fn certificate(&mut self) {
        let Tls::Files { cert, key } = &self.config.server.tls else { return };
        if self.problems.touch("server.tls") {
            return;
        }
        for (field, path) in [("cert", cert), ("key", key)] {
            if let Err(e) = std::fs::File::open(path) {
                let why = format!(
                    "`{}` cannot be read: {e}; correct the path, or type `tls: dev` on loopback",
                    path.display()
                );
                self.add(Severity::Error, &format!("server.tls.{field}"), why);
            }
        }
        if self.problems.touch("server.tls") {
            return;
        }
        if let Some(why) = readable_by_all(key) {
            self.add(Severity::Warning, "server.tls.key", why);
        }
        let now = self.tools.now;
        match (self.tools.certificate)(cert, key) {
            Err(why) => self.add(
                Severity::Error,
                "server.tls.cert",
                advised(&why, "type the PEM files of one certificate"),
            ),
            Ok(Validity { ends, .. }) if ends <= now => {
                self.add(
                    Severity::Warning,
                    "server.tls.cert",
                    format!("the certificate ended {ends}, and senders refuse it; renew it"),
                );
            }
            Ok(Validity { begins, .. }) if begins > now => {
                self.add(
                    Severity::Warning,
                    "server.tls.cert",
                    format!("the certificate begins only {begins}; set the clock, or renew it"),
                );
            }
            Ok(Validity { ends, .. }) if ends.minus(CERTIFICATE_ENDS_SOON) <= now => {
                self.add(
                    Severity::Warning,
                    "server.tls.cert",
                    format!("the certificate ends {ends}; renew it"),
                );
            }
            Ok(_) => {}
        }
    }

    // === sources ===

    fn source(&mut self, name: &'a Name, source: &'a Source) {
        let secrets: Vec<Option<Secret>> =
            source.secrets.iter().map(|s| self.source_secret(source, &s.from)).collect();
        if let Ok(scheme) = source.compile() {
            for (written, secret) in source.secrets.iter().zip(&secrets) {
                if let Some(secret) = secret {
                    self.secret_fits(&scheme, &written.from, secret);
                    let challenges = source.challenges(&scheme).unwrap_or_default();
                    self.signing.push(Signing {
                        source: name,
                        from: &written.from,
                        fingerprint: secret.fingerprint(),
                        for_anybody: challenges.for_anybody(),
                    });
                }
            }
        }
        for credential in source.credentials.values() {
            self.secret(credential);
        }
        self.same_secrets(source, &secrets);
        self.verify_tokens(source, &secrets);
        self.secret_ends(name, source, &secrets);
        self.sample(name, source, &secrets);
    }

    /// One that stands in the configuration itself was judged with it.
    fn sample(&mut self, name: &Name, source: &Source, secrets: &[Option<Secret>]) {
        let section = format!("sources.{name}");
        let key = format!("{section}.sample");
        if self.problems.touch(&key) {
            return;
        }
        let sample = match &source.sample {
            None => return,
            Some(Sample::Here(sample)) => sample.clone(),
            Some(Sample::File(path)) => match read_sample(path) {
                Ok(sample) => {
                    self.sample_in_file(&section, source, &sample);
                    sample
                }
                Err(why) => return self.add(Severity::Error, &key, why),
            },
        };
        self.sample_secret(&key, source, &sample, secrets);
    }

    fn sample_in_file(&mut self, section: &str, source: &Source, sample: &verify::sample::Sample) {
        let (scheme, event) = source.specs();
        for problem in verify::sample::prove(&scheme, &event, sample, source.public_url.as_deref()) {
            let key = if problem.key.starts_with("sample.") { "sample" } else { &problem.key };
            self.add(Severity::Error, &format!("{section}.{key}"), problem.message);
        }
    }

    /// A sample's secret stands in a file that many may read; what it could sign must be worth nothing.
    fn sample_secret(
        &mut self,
        key: &str,
        source: &Source,
        sample: &verify::sample::Sample,
        secrets: &[Option<Secret>],
    ) {
        let is_public =
            matches!(source.specs().0.kind.as_deref(), Some("ed25519" | "ecdsa-p256" | "rsa-sha256"));
        let Some(shown) = sample.secret.as_deref().filter(|_| !is_public) else { return };
        let shown = Secret::new(shown).fingerprint();
        for (written, secret) in source.secrets.iter().zip(secrets) {
            if secret.as_ref().is_some_and(|secret| secret.fingerprint() == shown) {
                let why = format!(
                    "the sample shows the secret of `{}`, with which whoever reads it can sign; take a secret that is \
                     used nowhere else, as `--as-sample` does",
                    written.from
                );
                self.add(Severity::Error, key, why);
            }
        }
    }

    /// A source that answers strangers with its secret takes none of those answers for an event. One that has the same
    /// secret and not the same handshake would.
    fn answers_for_others(&mut self) {
        for at in 0..self.signing.len() {
            let here = &self.signing[at];
            let answers = |there: &&Signing<'_>| {
                there.fingerprint == here.fingerprint
                    && there.for_anybody.iter().any(|pattern| !here.for_anybody.contains(pattern))
            };
            let Some(there) = self.signing.iter().find(answers) else { continue };
            let why = format!(
                "`{}` answers anybody's handshake at `{}`, and such an answer would be an event's signature here; take \
                 another secret, or write the same `challenge` here",
                here.from, there.source
            );
            let key = &here.from.key;
            self.add(Severity::Error, key, why);
        }
    }

    /// One that a handshake brings may be still to come.
    fn source_secret(&mut self, source: &Source, written: &SecretRef) -> Option<Secret> {
        self.tools.secrets?;
        if !source.is_brought(written) || !is_to_come(written) {
            return self.secret(written);
        }
        if self.problems.touch(&written.key) {
            return None;
        }
        match cannot_be_brought(written) {
            Some(why) => self.add(Severity::Error, &written.key, why),
            None => self.add(
                Severity::Warning,
                &written.key,
                format!(
                    "`{written}` is still to come: the source takes no event signed with it until the handshake has \
                     brought it; begin the registration at the provider"
                ),
            ),
        }
        None
    }

    /// The file system knows more names for one secret than the text does.
    fn verify_tokens(&mut self, source: &Source, secrets: &[Option<Secret>]) {
        for written in
            source.challenge.iter().flatten().filter_map(|challenge| challenge.verify_token.as_ref())
        {
            let Some(token) = self.secret(written) else { continue };
            let mut signing = std::iter::zip(&source.secrets, secrets);
            let same = signing.find(|(_, secret)| {
                secret.as_ref().is_some_and(|secret| secret.fingerprint() == token.fingerprint())
            });
            if let Some((secret, _)) = same {
                let why = format!(
                    "`{written}` is the same as the signing secret `{}`, and a verify token is read in URLs; take \
                     another one, and give the provider's page that",
                    secret.from
                );
                self.add(Severity::Error, &written.key, why);
            }
        }
    }

    fn secret_fits(&mut self, scheme: &Scheme, written: &SecretRef, secret: &Secret) {
        match scheme.key(secret, None) {
            Err(why) => {
                let why = advised(&format!("`{written}`: {why}"), "copy it whole from the provider");
                self.add(Severity::Error, &written.key, why);
            }
            Ok(key) if key.secret_bytes() < SECRET_BYTES_SHORT => {
                let bytes = key.secret_bytes();
                let why = format!(
                    "`{written}` has {bytes} bytes, and fewer than {SECRET_BYTES_SHORT} can be guessed; ask the \
                     provider for a longer one"
                );
                self.add(Severity::Warning, &written.key, why);
            }
            Ok(_) => {}
        }
    }

    /// The secret, where it is to be read and can be; else the problem is noted.
    fn secret(&mut self, written: &SecretRef) -> Option<Secret> {
        let secrets = self.tools.secrets?;
        if self.problems.touch(&written.key) {
            return None;
        }
        self.problems.extend(secrets.warning(written));
        secrets.read(written).map_err(|problem| self.problems.push(problem)).ok()
    }

    fn same_secrets(&mut self, source: &Source, secrets: &[Option<Secret>]) {
        let mut seen: BTreeMap<Fingerprint, &SecretRef> = BTreeMap::new();
        for (written, secret) in source.secrets.iter().zip(secrets) {
            let Some(secret) = secret else { continue };
            if let Some(first) = seen.insert(secret.fingerprint(), &written.from) {
                let why =
                    format!("`{}` holds the same secret as `{first}`; take one of them away", written.from);
                self.add(Severity::Error, &written.from.key, why);
            }
        }
    }

    fn secret_ends(&mut self, name: &Name, source: &Source, secrets: &[Option<Secret>]) {
        let fingerprints: Vec<Option<Fingerprint>> =
            secrets.iter().map(|secret| secret.as_ref().map(Secret::fingerprint)).collect();
        let ends = ends(source, &fingerprints, self.tools.now, |print| (self.tools.demoted_at)(name, print));
        let all_ended = !ends.is_empty() && ends.iter().all(|end| matches!(end, End::Ended { .. }));
        for ((written, fingerprint), end) in source.secrets.iter().zip(fingerprints).zip(ends) {
            if let End::Ended { at } = end {
                self.ended(written, at, all_ended);
            }
            self.ends.push(SecretEnd {
                source: name.clone(),
                secret: written.from.to_string(),
                fingerprint,
                end,
            });
        }
    }

    fn ended(&mut self, written: &SourceSecret, at: Millis, all_ended: bool) {
        let secret = &written.from;
        let key = match secret.key.strip_suffix(".from") {
            Some(section) if written.until.is_some() => format!("{section}.until"),
            _ => secret.key.clone(),
        };
        if all_ended {
            let why =
                format!("`{secret}` ended {at}, and no other is left; type a later `until`, or take it away");
            self.add(Severity::Error, &key, why);
        } else {
            self.add(Severity::Warning, &key, format!("`{secret}` ended {at}; take it away"));
        }
    }

    // === handlers ===

    fn handler(&mut self, name: &Name, handler: &Handler) {
        let section = format!("handlers.{name}");
        let mut values = BTreeMap::new();
        for (secret, bound) in &handler.secrets {
            if self.tools.secrets.is_none() {
                values.insert(secret.clone(), placeholder());
            } else if let Some(value) = self.secret(&bound.from) {
                values.insert(secret.clone(), value);
            }
        }
        let plugin_key = format!("{section}.plugin");
        if self.problems.touch(&plugin_key) {
            return;
        }
        if !handler.plugin.is_file() {
            let why =
                format!("there is no plugin `{}`; build it, or correct the path", handler.plugin.display());
            return self.add(Severity::Error, &plugin_key, why);
        }
        // Without a secret that could not be read the plugin would be blamed for what is told already.
        let unread = handler.secrets.keys().find(|secret| !values.contains_key(*secret));
        let grants = handler.grants(name, values);
        for problem in (self.tools.bind)(&handler.plugin, grants) {
            let key = format!("{section}.{}", problem.key);
            if unread.is_some_and(|secret| problem.key.starts_with(&format!("secrets.{secret}"))) {
                continue;
            }
            let severity = if problem.fatal { Severity::Error } else { Severity::Warning };
            self.add(severity, &key, problem.message);
        }
    }
}

/// Why a file for a secret could not be made when a handshake brings it.
fn cannot_be_brought(written: &SecretRef) -> Option<String> {
    use rustix::fs::{Access, access};
    let Holder::File(path) = &written.holder else { return None };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = folder.display();
    if !folder.is_dir() {
        return Some(format!("there is no folder `{shown}` to keep it in; type `mkdir -m 700 -p {shown}`"));
    }
    let may_write = access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    (!may_write).then(|| {
        format!(
            "`{shown}` cannot be written to, and the handshake's secret goes there; type `chmod u+wx {shown}`"
        )
    })
}

fn read_sample(path: &Path) -> Result<verify::sample::Sample, String> {
    let shown = path.display();
    let unreadable = |e: std::io::Error| format!("`{shown}` cannot be read: {e}; correct the path");
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // One byte more than fits, so that the parser sees that it is too long.
    std::io::Read::read_to_end(&mut std::io::Read::take(file, YAML_BYTES_MAX as u64 + 1), &mut bytes)
        .map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| format!("`{shown}` is not UTF-8; write it as UTF-8"))?;
    let document = yaml::parse(&text)
        .map_err(|e| advised(&format!("`{shown}`:{e}"), "write a mapping: secret, headers, body"))?;
    serde_json::from_value(document.value)
        .map_err(|e| format!("`{shown}` is no sample: {e}; write a mapping: secret, headers, body"))
}

/// Stands for a secret that is not to be read: long enough for every rule about a secret's length.
fn placeholder() -> Secret {
    Secret::new("not-read-because-of-no-secrets")
}

/// Until when each secret of a source is accepted.
pub fn ends(
    source: &Source,
    fingerprints: &[Option<Fingerprint>],
    now: Millis,
    demoted_at: impl Fn(Fingerprint) -> Option<Millis>,
) -> Vec<End> {
    let turn = |(i, secret): (usize, &SourceSecret)| Turn {
        until: secret.until,
        demoted_at: if i == 0 { None } else { fingerprints.get(i).copied().flatten().and_then(&demoted_at) },
    };
    let turns: Vec<Turn> = source.secrets.iter().enumerate().map(turn).collect();
    let ends = rotation::ends(&turns, source.rotation_window);
    ends.iter()
        .enumerate()
        .map(|(i, end)| match end {
            Some(at) if rotation::is_live(Some(*at), now) => End::At { at: *at },
            Some(at) => End::Ended { at: *at },
            None if i == 0 => End::Never,
            None => End::AfterSeen { window: source.rotation_window },
        })
        .collect()
}
