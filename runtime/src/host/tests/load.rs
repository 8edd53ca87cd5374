//! Plugins that do not load, and what is said about them. They are made from the good one by writing over its
//! bytes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::rig::*;
use crate::host::{Engine, Handler, Options};
use crate::words::limits;

/// The good plugin with every `from` replaced by `to`, which is as long, and the answer to loading it.
fn load(changes: &[(&str, &str)]) -> Result<crate::host::Plugin, String> {
    let mut bytes = fs::read(wasm()).unwrap();
    for (from, to) in changes {
        assert_eq!(from.len(), to.len());
        let places: Vec<usize> =
            (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from.as_bytes())).collect();
        assert!(!places.is_empty(), "`{from}` is not in the plugin");
        for at in places {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    load_bytes(engine(), &bytes)
}

fn load_bytes(engine: &Engine, bytes: &[u8]) -> Result<crate::host::Plugin, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.wasm");
    fs::write(&path, bytes).unwrap();
    engine.load(&path).map_err(|error| error.to_string().replace(&path.display().to_string(), "plugin.wasm"))
}

#[test]
fn a_good_plugin_says_what_it_is() {
    let plugin = plugin();
    assert_eq!(plugin.manifest().name, "test-handlers");
    assert_eq!(plugin.contract(), "0.1");
    assert!(plugin.imports().iter().any(|import| import == "longshore:plugin/http@0.1.0"));
    assert_eq!(plugin.digest(), engine().load(wasm()).unwrap().digest());
}

#[test]
fn describe_has_a_second_and_no_capability() {
    let started = Instant::now();
    let refused = load(&[("describe:normal.", "describe:loop...")]).err().unwrap();
    assert_eq!(
        refused,
        "plugin `plugin.wasm`: its describe() failed: not done within 1000 ms: the handler was still running"
    );
    assert!(started.elapsed() < Duration::from_secs(60));
    let refused = load(&[("describe:normal.", "describe:sleep..")]).err().unwrap();
    assert!(refused.contains("not done within 1000 ms"), "{refused}");
    let refused = load(&[("describe:normal.", "describe:trap...")]).err().unwrap();
    assert!(
        refused.contains("describe() failed: panicked at") && refused.contains("told to panic"),
        "{refused}"
    );
    let grasped = load(&[("describe:normal.", "describe:grasp..")]).ok().unwrap();
    let description = &grasped.manifest().description;
    assert!(
        description.starts_with("{} Err(Error::Limit(") && description.contains("describe() has no state"),
        "{description}"
    );
}

#[test]
fn a_wrong_manifest_is_refused_whole() {
    let refused = load(&[("describe:normal.", "describe:wrong..")]).err().unwrap();
    assert!(
        refused.contains("its manifest is wrong: name is empty; origins: `no origin` is no origin"),
        "{refused}"
    );
}

#[test]
fn a_newer_contract_is_named() {
    let refused =
        load(&[("longshore:plugin/handler@0.1.0", "longshore:plugin/handler@0.7.0")]).err().unwrap();
    assert!(refused.contains("was built for contract 0.7.0, this daemon speaks 0.1"), "{refused}");
}

#[test]
fn missing_imports_are_all_named() {
    let changes = [
        ("longshore:plugin/state@0.1.0", "longshore:plugin/queue@0.1.0"),
        ("wasi:cli/exit@0.2.6", "wasi:cli/spin@0.2.6"),
    ];
    let refused = load(&changes).err().unwrap();
    assert!(refused.contains("imports what this host does not have: "), "{refused}");
    assert!(
        refused.contains("longshore:plugin/queue@0.1.0") && refused.contains("wasi:cli/spin@0.2.6"),
        "{refused}"
    );
}

#[test]
fn a_file_that_is_no_plugin() {
    let missing = engine().load(Path::new("/nowhere/x.wasm")).err().unwrap().to_string();
    assert!(missing.starts_with("plugin `/nowhere/x.wasm`: no such file; build it"), "{missing}");
    let empty = load_bytes(engine(), b"\0asm\x0d\0\x01\0").err().unwrap();
    assert!(empty.contains("not a Longshore plugin"), "{empty}");
    let mut broken = fs::read(wasm()).unwrap();
    broken.truncate(1000);
    let broken = load_bytes(engine(), &broken).err().unwrap();
    assert!(broken.contains("does not compile"), "{broken}");
}

#[test]
fn an_origin_that_is_wanted_must_be_granted() {
    let plugin = load(&[("describe:normal.", "describe:wants..")]).ok().unwrap();
    let problems = Handler::bind(engine(), plugin.clone(), Setup::new("noop").grants).err().unwrap();
    assert_eq!(problems[0].key, "grants.http");
    assert!(problems[0].message.contains("grants: { http: [\"https://api.example.com\"] }"), "{problems:?}");
    let granted = Setup::new("noop").calling("https://api.example.com", "/").grants;
    assert!(Handler::bind(engine(), plugin, granted).is_ok());
}

#[test]
fn a_compiled_plugin_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("plugins");
    let new = || Engine::new(Options { cache: Some(cache.clone()), instances_max: 2 }).unwrap();
    new().load(wasm()).unwrap();
    let names = || -> Vec<String> {
        fs::read_dir(&cache).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    };
    let kept = names();
    assert!(
        kept.len() == 2 && kept.iter().all(|n| n.starts_with(&plugin().digest().to_string())),
        "{kept:?}"
    );
    // The second engine maps what the first has written; a call of it runs.
    let engine = new();
    engine.load(wasm()).unwrap();
    assert_eq!(names().len(), 2);
    let mut setup = Setup::new("settings");
    setup.engine = engine;
    assert!(note(&on_guests(setup.call())).contains("settings"));
}

#[test]
fn a_plugin_has_a_largest_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.wasm");
    fs::File::create(&path).unwrap().set_len(limits::PLUGIN_BYTES_MAX + 1).unwrap();
    let refused = engine().load(&path).err().unwrap().to_string();
    assert!(refused.ends_with("is larger than 64 MiB"), "{refused}");
}
