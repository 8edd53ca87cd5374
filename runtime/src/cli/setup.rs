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

pub(super) fn unsound(problems: &Problems) -> Failure {
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

pub(super) fn unknown<'a>(what: &str, name: &Name, known: impl Iterator<Item = &'a Name>) -> Failure {
    let known: Vec<_> = known.map(Name::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Failure::failed(format!("the configuration has no {what} `{name}`; it has {known}"))
}

/// A source, from its provider's side: what `send` signs with.
pub(super) struct Sender {
    pub(super) server: Server,
    pub(super) path: String,
    pub(super) preset: Option<String>,
    pub(super) looks: Looks,
    scheme: Scheme,
    secret: Secret,
    public_url: String,
}

/// Where a scheme looks into a body, each from the body's beginning: within a list, into its first element.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks {
    /// In the order in which it looks.
    pub(super) id: Vec<String>,
    pub(super) kind: Vec<String>,
    /// The element that is the event, where a request carries many.
    pub(super) element: Option<String>,
    /// Its own time, and the unit of that.
    pub(super) time: Option<(String, String)>,
    /// What else is signed.
    pub(super) signed: Vec<String>,
    pub(super) is_form: bool,
}

/// A request, and what the daemon will read from it.
pub(super) struct Signed {
    pub(super) headers: Vec<(String, String)>,
    /// None: as it was given.
    pub(super) body: Option<Vec<u8>>,
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
        Ok(Sender {
            server: server.clone(),
            path: source.path.clone(),
            preset: source.preset.clone(),
            looks: Looks::of(source),
            scheme,
            secret,
            public_url: source.public_url.clone().unwrap_or_default(),
        })
    }

    /// Signs as the provider does, and reads the result as the daemon will.
    pub(super) fn sign(&self, id: &str, event_type: &str, body: &[u8], now: Millis) -> Result<Signed> {
        let cannot = |why: String| Failure::failed(format!("this scheme cannot be signed with here: {why}"));
        let signed = self.scheme.sign(&self.secret, id, event_type, body, &self.public_url, now);
        let verify::Signed { mut headers, body: other } = signed.map_err(cannot)?;
        let identity = self.identify(&headers, other.as_deref().unwrap_or(body), now)?;
        let named = |name: &str| headers.iter().any(|(have, _)| have.eq_ignore_ascii_case(name));
        if !named("content-type") {
            let content_type =
                if self.looks.is_form { "application/x-www-form-urlencoded" } else { "application/json" };
            headers.push(("content-type".to_owned(), content_type.to_owned()));
        }
        headers.push((TEST_HEADER.to_owned(), "1".to_owned()));
        Ok(Signed { headers, body: other, identity })
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
        Ok(self.scheme.identify(&verified, request).swap_remove(0))
    }
}

impl Looks {
    fn of(source: &Source) -> Looks {
        let preset = source.preset.as_deref().and_then(verify::preset).cloned().unwrap_or_default();
        let event = source.event.as_ref().map_or(preset.event.clone(), |event| event.over(&preset.event));
        let scheme =
            source.scheme.as_ref().map_or(preset.scheme.clone(), |scheme| scheme.over(&preset.scheme));
        let each = event.each.filter(|each| each != "none");
        let within = |texts: Option<verify::spec::Texts>| {
            let texts = texts.map(|texts| texts.0).unwrap_or_default();
            texts.iter().map(|place| of_first(each.as_deref(), place)).collect::<Vec<_>>()
        };
        let signed = template_places(scheme.signed.as_deref().unwrap_or_default());
        let mut looks = Looks {
            id: within(event.id),
            kind: within(event.kind),
            element: each.as_deref().map(|each| of_first(Some(each), "json:")),
            time: scheme.timestamp.from.zip(scheme.timestamp.unit),
            signed: signed.into_iter().filter(|place| place.contains(':')).map(str::to_owned).collect(),
            is_form: scheme.signed.is_some_and(|signed| signed.contains("{form_sorted}")),
        };
        let from = scheme.signature.from.unwrap_or_default().0;
        let all = [&looks.id, &looks.kind, &looks.signed, &from];
        looks.is_form |= all.iter().any(|places| places.iter().any(|place| place.starts_with("form:")));
        looks
    }
}

/// The names in braces.
fn template_places(template: &str) -> Vec<&str> {
    template.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name).collect()
}

/// `json:id` within `json:events` is `json:events.0.id` of the body.
fn of_first(each: Option<&str>, place: &str) -> String {
    let list = each.and_then(|each| each.strip_prefix("json:"));
    let (Some(list), Some(path)) = (list, place.strip_prefix("json:")) else { return place.to_owned() };
    let segments = [list.trim_matches('.'), "0", path];
    let segments: Vec<&str> = segments.into_iter().filter(|segment| !segment.is_empty()).collect();
    format!("json:{}", segments.join("."))
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
    use crate::cli::payload::{Fill, documented_types};
    use crate::cli::send::body;

    const NOW: Millis = Millis(1_790_000_000_123);

    /// A source of each preset that ships, its secret in a file.
    pub(in crate::cli) fn configured(folder: &std::path::Path, preset: &str) -> PathBuf {
        std::fs::write(folder.join("secret"), secret_for(preset)).unwrap();
        let change = match preset {
            "paypal" => "scheme: { const: { webhook_id: \"1\" } }",
            _ => "enabled: true",
        };
        let text = format!(
            "server: {{ listen: 127.0.0.1:0, tls: off }}\nstore: {{ path: data }}\nsources:\n  it:\n    path: /it\n    preset: {preset}\n    secrets: [ \"file:secret\" ]\n    public_url: \"https://hooks.example.com/it?a=%2F\"\n    {change}\n"
        );
        let file = folder.join("config.yaml");
        std::fs::write(&file, text).unwrap();
        file
    }

    /// As its provider writes one: that of the preset's own good vector.
    fn secret_for(preset: &str) -> String {
        let vectors = include_str!("../../../tests/vectors/made.json");
        let vectors: Vec<serde_json::Value> = serde_json::from_str(vectors).unwrap();
        let vector = vectors.iter().find(|vector| vector["provider"] == preset);
        vector.and_then(|vector| vector["secret"].as_str()).unwrap_or("none").to_owned()
    }

    #[test]
    fn every_preset_takes_the_documented_bodies_and_finds_their_id_and_type() {
        let (mut bodies, mut not_ours, mut undated) = (0, Vec::new(), Vec::new());
        // Those that are code have their own: `verify::builtin::tests::what_is_signed_here_is_accepted`.
        let is_data = |preset: &&str| {
            let kind = verify::preset(preset).and_then(|preset| preset.scheme.kind.as_deref());
            !matches!(kind, Some("twilio" | "adyen" | "aws-sns" | "plaid" | "jwt"))
        };
        let presets: Vec<&str> = verify::preset_names().into_iter().filter(is_data).collect();
        for preset in &presets {
            let preset = *preset;
            let folder = tempfile::tempdir().unwrap();
            let sender = sender(&[configured(folder.path(), preset)], &Name::new("it").unwrap()).unwrap();
            let types = documented_types(Some(preset));
            for event_type in types.iter().map(String::as_str).chain(["some.other"]) {
                let fill = Fill { id: "evt_1", event_type, now: NOW };
                let body = body(&sender, &fill);
                let signed = match sender.sign("evt_1", event_type, &body, NOW) {
                    Ok(signed) => signed,
                    Err(failure) => {
                        let why = failure.to_string();
                        if why.contains("which is signed, is absent or empty") {
                            // A time in a header, of a unit that is not documented: it is signed as it comes.
                            undated.push(preset);
                            continue;
                        }
                        assert!(why.contains("only the provider has the private one"), "{preset}: {why}");
                        not_ours.push(preset);
                        continue;
                    }
                };
                let (id, kind) = (!sender.looks.id.is_empty(), !sender.looks.kind.is_empty());
                match id {
                    true => assert_eq!(signed.identity.id, "evt_1", "{preset} {event_type}"),
                    false => assert!(signed.identity.id.starts_with("sha256:"), "{preset}"),
                }
                assert_eq!(signed.identity.event_type, if kind { event_type } else { "" }, "{preset}");
                assert_eq!(signed.identity.warnings, Vec::<String>::new(), "{preset} {event_type}");
                assert!(signed.headers.contains(&(TEST_HEADER.to_owned(), "1".to_owned())));
                bodies += 1;
            }
        }
        not_ours.dedup();
        undated.dedup();
        assert!(undated.len() < 8, "{undated:?}");
        let public = ["discord", "sendgrid", "standard-webhooks-ed25519", "telnyx", "wise"];
        assert_eq!(not_ours, public);
        assert_eq!(bodies, presets.len() - public.len() - undated.len() + 16 + 1);
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
