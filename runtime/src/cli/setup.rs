//! Setup: what commands need of the configuration, without starting anything.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Result;
use super::failure::Failure;
use crate::config::{self, Config, Environment, Problem, Problems, Request, Secrets, Server, Source};
use crate::host::Grants;
use crate::verify::{self, Identity, Scheme};
use crate::words::event::Name;
use crate::words::secret::Secret;
use crate::words::time::Millis;

/// Marks an event as a test: the door passes it on, and handlers see it.
const TEST_HEADER: &str = "longshore-test";

/// The files, and the environment of this process.
pub(super) fn request(files: &[PathBuf]) -> Request {
    Request { files: files.to_vec(), environment: Environment::of_process(), flags: Vec::new() }
}

fn load(request: &Request) -> Result<Config> {
    let (config, _) = config::load(request).sound().map_err(|problems| unsound(&problems))?;
    Ok(config)
}

fn unsound(problems: &Problems) -> Failure {
    let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
    Failure::failed_so(
        format!("the configuration cannot be used\n{}", lines.join("\n")),
        "longshore config check",
    )
}

/// Where the daemon of this configuration keeps its socket.
pub(super) fn data_dir(files: &[PathBuf]) -> Result<PathBuf> {
    Ok(load(&request(files))?.store.path)
}

/// What starts the daemon of this configuration.
pub(super) fn run_command(files: &[PathBuf]) -> String {
    let files: String = files.iter().map(|file| format!(" --config {}", file.display())).collect();
    format!("longshore run{files}")
}

/// What a configured handler is given, its secrets read.
pub(super) fn grants(files: &[PathBuf], name: &Name) -> Result<Grants> {
    let request = request(files);
    let config = load(&request)?;
    let handler =
        config.handlers.get(name).ok_or_else(|| unknown("handler", name, config.handlers.keys()))?;
    let secrets = Secrets::new(&request.environment);
    let mut values = BTreeMap::new();
    for (key, bound) in &handler.secrets {
        let value = secrets.read(&bound.from).map_err(|problem| Failure::failed(problem.to_string()))?;
        values.insert(key.clone(), value);
    }
    Ok(handler.grants(name, values))
}

fn unknown<'a>(what: &str, name: &Name, known: impl Iterator<Item = &'a Name>) -> Failure {
    let known: Vec<_> = known.map(Name::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Failure::failed(format!("the configuration has no {what} `{name}`; it has {known}"))
}

/// A source, from its provider's side: what `send` signs with.
pub(super) struct Sender {
    pub(super) server: Server,
    pub(super) path: String,
    pub(super) preset: Option<String>,
    /// Where the scheme looks for an event's id and type, in its order.
    pub(super) id_from: Vec<String>,
    pub(super) type_from: Vec<String>,
    scheme: Scheme,
    secret: Secret,
    public_url: String,
}

/// A request's headers, and what the daemon will read from it.
pub(super) struct Signed {
    pub(super) headers: Vec<(String, String)>,
    pub(super) identity: Identity,
}

pub(super) fn sender(files: &[PathBuf], name: &Name) -> Result<Sender> {
    let request = request(files);
    let config = load(&request)?;
    let source = config.sources.get(name).ok_or_else(|| unknown("source", name, config.sources.keys()))?;
    let newest = source.secrets.first().ok_or_else(|| Failure::failed(format!("`{name}` has no secret")))?;
    let secret = Secrets::new(&request.environment).read(&newest.from);
    Sender::new(&config.server, source, secret.map_err(|problem| Failure::failed(problem.to_string()))?)
}

impl Sender {
    fn new(server: &Server, source: &Source, secret: Secret) -> Result<Sender> {
        let scheme = source.compile().map_err(|problems| {
            let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
            Failure::failed_so(lines.join("\n"), "longshore config check")
        })?;
        let (id_from, type_from) = event_places(source);
        Ok(Sender {
            server: server.clone(),
            path: source.path.clone(),
            preset: source.preset.clone(),
            id_from,
            type_from,
            scheme,
            secret,
            public_url: source.public_url.clone().unwrap_or_default(),
        })
    }

    /// Signs as the provider does, and reads the result as the daemon will.
    pub(super) fn sign(&self, id: &str, event_type: &str, body: &[u8], now: Millis) -> Result<Signed> {
        let cannot = |why: String| Failure::failed(format!("this scheme cannot be signed with here: {why}"));
        let mut headers =
            self.scheme.sign(&self.secret, id, event_type, body, &self.public_url, now).map_err(cannot)?;
        let identity = self.identify(&headers, body, now)?;
        let named = |name: &str| headers.iter().any(|(have, _)| have.eq_ignore_ascii_case(name));
        if !named("content-type") {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        headers.push((TEST_HEADER.to_owned(), "1".to_owned()));
        Ok(Signed { headers, identity })
    }

    fn identify(&self, headers: &[(String, String)], body: &[u8], now: Millis) -> Result<Identity> {
        let wrong = |why: &dyn std::fmt::Display| {
            Failure::failed(format!(
                "the scheme does not take its own signature: {why}; see `longshore config check`"
            ))
        };
        let headers = header_map(headers).map_err(|why| wrong(&why))?;
        let key = self.scheme.key(&self.secret, None).map_err(|why| wrong(&why))?;
        let query = self.public_url.split_once('?').map(|(_, query)| query);
        let request =
            verify::Request { method: "POST", url: &self.public_url, query, headers: &headers, body };
        let verified = self.scheme.verify(request, &[key], now).map_err(|refused| wrong(&refused))?;
        Ok(self.scheme.identify(&verified, request))
    }
}

fn event_places(source: &Source) -> (Vec<String>, Vec<String>) {
    let preset = source.preset.as_deref().and_then(verify::preset).map(|preset| preset.event.clone());
    let preset = preset.unwrap_or_default();
    let event = source.event.as_ref().map_or(preset.clone(), |event| event.over(&preset));
    let places = |texts: Option<verify::spec::Texts>| texts.map(|texts| texts.0).unwrap_or_default();
    (places(event.id), places(event.kind))
}

fn header_map(headers: &[(String, String)]) -> std::result::Result<HeaderMap, http::Error> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::try_from(name.as_str())?, HeaderValue::try_from(value.as_str())?);
    }
    Ok(map)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::payload::{Fill, default_for, documented_types};

    const NOW: Millis = Millis(1_790_000_000_123);

    /// A source of each preset that ships, its secret in a file.
    pub(in crate::cli) fn configured(folder: &std::path::Path, preset: &str) -> PathBuf {
        std::fs::write(folder.join("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let text = format!(
            "server: {{ listen: 127.0.0.1:0, tls: off }}\nstore: {{ path: data }}\nsources:\n  it:\n    path: /it\n    preset: {preset}\n    secrets: [ \"file:secret\" ]\n"
        );
        let file = folder.join("config.yaml");
        std::fs::write(&file, text).unwrap();
        file
    }

    #[test]
    fn every_preset_takes_the_documented_bodies_and_finds_their_id_and_type() {
        let mut bodies = 0;
        for preset in verify::preset_names() {
            let folder = tempfile::tempdir().unwrap();
            let sender = sender(&[configured(folder.path(), preset)], &Name::new("it").unwrap()).unwrap();
            let types = documented_types(Some(preset));
            for event_type in types.iter().map(String::as_str).chain(["some.other"]) {
                let fill = Fill { id: "evt_1", event_type, now: NOW };
                let body = default_for(Some(preset), &fill).to_string();
                let signed = sender.sign("evt_1", event_type, body.as_bytes(), NOW).unwrap();
                assert_eq!(signed.identity.id, "evt_1", "{preset} {event_type}");
                assert_eq!(signed.identity.event_type, event_type, "{preset}");
                assert_eq!(signed.identity.warnings, Vec::<String>::new(), "{preset} {event_type}");
                assert!(signed.headers.contains(&(TEST_HEADER.to_owned(), "1".to_owned())));
                bodies += 1;
            }
        }
        assert_eq!(bodies, 5 + 16 + 1);
    }

    #[test]
    fn what_the_configuration_does_not_have_is_told_with_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let file = configured(folder.path(), "stripe");
        let nobody = Name::new("nobody").unwrap();
        let failure = sender(std::slice::from_ref(&file), &nobody).err().unwrap();
        assert_eq!(failure.to_string(), "the configuration has no source `nobody`; it has it");
        let failure = grants(std::slice::from_ref(&file), &nobody).err().unwrap();
        assert_eq!(failure.to_string(), "the configuration has no handler `nobody`; it has none");
        assert_eq!(data_dir(&[file]).unwrap(), folder.path().join("data"));
    }

    #[test]
    fn a_configuration_that_cannot_be_used_says_everything_that_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, "server: { listen: nowhere, tls: off }\nstor: {}\n").unwrap();
        let failure = data_dir(std::slice::from_ref(&file)).unwrap_err();
        let text = failure.to_string();
        assert!(text.contains(&format!("{}:1:", file.display())), "{text}");
        assert!(text.contains(&format!("{}:2:", file.display())), "{text}");
        assert!(text.ends_with("type: longshore config check"), "{text}");
        assert_eq!(failure.exit_code(), 1);
    }

    #[test]
    fn the_command_that_starts_the_daemon_names_its_files() {
        assert_eq!(
            run_command(&["a.yaml".into(), "b.yaml".into()]),
            "longshore run --config a.yaml --config b.yaml"
        );
    }
}
