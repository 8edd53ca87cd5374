//! Load: the operator's layers, laid over one another into one tree, each value with the place it came from.
//!
//! figment merges: files in the order given (maps deeply, lists whole), then `LONGSHORE__SECTION__KEY`, then
//! flags. Defaults are not a layer: each stands beside its field in `types`, where one looks for it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use figment::value::{Dict, Map};
use figment::{Figment, Metadata, Profile, Provider};
use serde_json::Value;

use super::problem::{Origin, Problem, Problems, advised};
use crate::words::limits::{CONFIG_FILES_MAX, YAML_BYTES_MAX};
use crate::words::yaml;

/// What the command line and the process were given.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `--config`, in order; a later one wins.
    pub files: Vec<PathBuf>,
    pub environment: Environment,
    pub flags: Vec<Flag>,
}

/// A flag that sets one key: `--listen 127.0.0.1:0` sets `server.listen`.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As the operator typed it, `--listen`.
    pub name: String,
    /// `server.listen`
    pub key: String,
    pub value: Value,
}

/// The environment as a value, so that a test has one of its own.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    pub fn of_process() -> Self {
        Environment(std::env::vars_os().collect())
    }

    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Environment(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

/// The merged values, and where each came from.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    pub(super) value: Value,
    layers: Vec<Layer>,
}

#[derive(Clone, Debug)]
struct Layer {
    value: Value,
    /// What relative paths count from.
    base: PathBuf,
    /// By key path.
    origins: BTreeMap<String, Origin>,
    /// For what is missing altogether.
    start: Origin,
}

impl Tree {
    /// None where a file cannot be read or is not YAML: what else is wrong cannot be said then.
    pub(super) fn grow(request: &Request, problems: &mut Problems) -> Option<Tree> {
        let errors_before = problems.errors();
        if request.files.len() > CONFIG_FILES_MAX {
            let message = format!("more than {CONFIG_FILES_MAX} files; leave some `--config` out");
            problems.push(Problem::error(Origin::Flag("--config".to_owned()), "", message));
        }
        let mut layers: Vec<Layer> = Vec::new();
        for path in request.files.iter().take(CONFIG_FILES_MAX) {
            match file_layer(path) {
                Ok(mut layer) => {
                    drop_empty(&mut layer.value, &merge(&layers));
                    layers.push(layer);
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.errors() > errors_before {
            return None;
        }
        let written = merge(&layers);
        layers.push(environment_layer(&request.environment, &written, problems));
        layers.push(flags_layer(&request.flags));
        Some(Tree { value: merge(&layers), layers })
    }

    /// Where the value at `key` was written: in the last layer that has it. Where nobody wrote it,
    /// the nearest section above, in the first layer that has that.
    pub(super) fn origin(&self, key: &str) -> Origin {
        if let Some(origin) = self.layers.iter().rev().find_map(|layer| layer.origins.get(key)) {
            return origin.clone();
        }
        ancestors(key)
            .find_map(|above| self.layers.iter().find_map(|layer| layer.origins.get(above)))
            .or_else(|| self.layers.first().map(|layer| &layer.start))
            .cloned()
            .unwrap_or(Origin::Nowhere)
    }

    /// What a relative path at `key` counts from.
    pub(super) fn base(&self, key: &str) -> &Path {
        let wrote_it = self.layers.iter().rev().find(|layer| layer.origins.contains_key(key));
        wrote_it.or_else(|| self.layers.first()).map_or(Path::new(""), |layer| &layer.base)
    }
}

/// `a.b.c` → `a.b`, `a`
fn ancestors(key: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(key.rsplit_once('.').map(|(above, _)| above), |key| {
        key.rsplit_once('.').map(|(above, _)| above)
    })
}

fn merge(layers: &[Layer]) -> Value {
    let figment = layers.iter().fold(Figment::new(), |figment, layer| figment.merge(layer));
    let merged = figment.find_value("").expect("a layer's values are JSON, which figment holds whole");
    serde_json::to_value(merged).expect("what came from JSON goes back to it")
}

/// An empty value (`handlers:` with every line below it commented out) takes nothing from the layers below.
fn drop_empty(upper: &mut Value, lower: &Value) {
    let (Value::Object(upper), Value::Object(lower)) = (upper, lower) else { return };
    upper.retain(|key, value| !value.is_null() || lower.get(key).is_none_or(Value::is_null));
    upper.iter_mut().for_each(|(key, value)| drop_empty(value, lower.get(key).unwrap_or(&Value::Null)));
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.start.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let values = figment::value::Value::serialize(&self.value)?.into_dict().unwrap_or_default();
        Ok(Map::from([(Profile::Default, values)]))
    }
}

// === files ===

const YAML_ADVICE: &str = "put spaces before keys, and quotes around text with `: ` or ` #`";

fn file_layer(path: &Path) -> Result<Layer, Problem> {
    let file = Arc::new(path.to_path_buf());
    let at = |line, column| Origin::File { path: file.clone(), line, column };
    let text = read(path).map_err(|why| Problem::error(at(1, 1), "", why))?;
    let document = yaml::parse(&text).map_err(|e| {
        Problem::error(
            at(e.line, e.column),
            "",
            advised(&format!("this is not YAML: {}", e.message), YAML_ADVICE),
        )
    })?;
    if !matches!(document.value, Value::Object(_) | Value::Null) {
        let why = "the file must be a mapping; begin it with `server:`";
        return Err(Problem::error(at(1, 1), "", why));
    }
    let origins = document.places.iter().map(|(key, p)| (key.clone(), at(p.line, p.column))).collect();
    let base = path.parent().unwrap_or(Path::new("")).to_path_buf();
    Ok(Layer { value: document.value, base, origins, start: at(1, 1) })
}

fn read(path: &Path) -> Result<String, String> {
    let unreadable = |e: std::io::Error| format!("the file cannot be read: {e}; type `--config FILE`");
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // One byte more than fits, so that the parser sees that it is too long.
    file.take(YAML_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8; save it as UTF-8".to_owned())
}

// === environment ===

const PREFIX: &str = "LONGSHORE__";

fn environment_layer(environment: &Environment, written: &Value, problems: &mut Problems) -> Layer {
    let mut layer = Layer::empty(Origin::Nowhere);
    for (name, value) in &environment.0 {
        let Some(name) = name.to_str() else { continue };
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let origin = Origin::Environment(name.to_owned());
        let key = environment_key(rest, written);
        if key.iter().any(String::is_empty) {
            let why = "this names no key; type `LONGSHORE__SECTION__KEY`, as in `LONGSHORE__SERVER__LISTEN`";
            problems.push(Problem::error(origin, "", why));
            continue;
        }
        match value.to_str().map(yaml::parse) {
            Some(Ok(document)) => layer.set(&key, document.value, origin),
            Some(Err(e)) => {
                let why = format!("its value is not YAML: {}; put it in quotes", e.message);
                problems.push(Problem::error(origin, key.join("."), why));
            }
            None => problems.push(Problem::error(
                origin,
                key.join("."),
                "its value is not UTF-8; type plain text",
            )),
        }
    }
    layer
}

/// `HANDLERS__CRM_SYNC__ENABLED` → `handlers`, `crm-sync`, `enabled`: names that the files hold are found
/// whatever their case, and `_` finds `-`, which a shell does not allow in a variable.
fn environment_key(rest: &str, written: &Value) -> Vec<String> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let mut at = Some(written);
    rest.split("__")
        .map(|segment| {
            let keys = at.and_then(Value::as_object);
            let exact = segment.to_ascii_lowercase();
            let found = keys.and_then(|map| {
                let similar = map.keys().find(|key| plain(key) == plain(segment));
                map.get_key_value(&exact).map(|(key, _)| key).or(similar)
            });
            let name = found.cloned().unwrap_or(exact);
            at = keys.and_then(|map| map.get(&name));
            name
        })
        .collect()
}

fn flags_layer(flags: &[Flag]) -> Layer {
    let mut layer = Layer::empty(Origin::Nowhere);
    for flag in flags {
        let key: Vec<String> = flag.key.split('.').map(str::to_owned).collect();
        layer.set(&key, flag.value.clone(), Origin::Flag(flag.name.clone()));
    }
    layer
}

impl Layer {
    fn empty(start: Origin) -> Layer {
        let value = Value::Object(serde_json::Map::new());
        Layer { value, base: PathBuf::new(), origins: BTreeMap::new(), start }
    }

    fn set(&mut self, key: &[String], value: Value, origin: Origin) {
        note_origins(&key.join("."), &value, &origin, &mut self.origins);
        let mut at = &mut self.value;
        for segment in key {
            if !at.is_object() {
                *at = Value::Object(serde_json::Map::new());
            }
            at = &mut at[segment.as_str()];
        }
        *at = value;
    }
}

/// Every value inside a variable's value comes from that variable.
fn note_origins(key: &str, value: &Value, origin: &Origin, into: &mut BTreeMap<String, Origin>) {
    into.insert(key.to_owned(), origin.clone());
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(name, v)| note_origins(&format!("{key}.{name}"), v, origin, into));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, v)| note_origins(&format!("{key}.{i}"), v, origin, into));
        }
        _ => {}
    }
}
