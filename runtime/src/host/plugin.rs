//! Loading a plugin: read, checked, compiled, described. Whoever loads one learns everything that is wrong with
//! it, in words for its author or its operator.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, PoisonError, Weak};

use wasmtime::Engine as Wasm;
use wasmtime::component::Component;

use super::bindings::{CONTRACTS, Guest, OURS};
use super::http::Pattern;
use super::{Engine, Error, Manifest, Plugin, Setting, call, engine, settings};
use crate::words::digest::Digest;
use crate::words::limits;

pub(super) struct Inner {
    pub(super) digest: Digest,
    pub(super) manifest: Manifest,
    pub(super) contract: String,
    pub(super) imports: Vec<String>,
    pub(super) guest: Guest,
    /// The largest of its memories before the first instruction.
    pub(super) memory_initial: u64,
}

pub(super) fn load(engine: &Engine, path: &Path) -> Result<Plugin, Error> {
    let bytes = read(path).map_err(|why| Error::Plugin { path: path.to_owned(), why })?;
    load_bytes(engine, path, bytes)
}

pub(super) fn load_bytes(engine: &Engine, path: &Path, bytes: Vec<u8>) -> Result<Plugin, Error> {
    let plugin = |why: String| Error::Plugin { path: path.to_owned(), why };
    check_magic(&bytes).map_err(plugin)?;
    let digest = Digest::of(&bytes);
    let known = || engine.inner.plugins.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(inner) = known().get(&digest).and_then(Weak::upgrade) {
        return Ok(Plugin { inner });
    }
    let inner = Arc::new(on_a_thread(Arc::clone(&engine.inner), bytes, digest).map_err(plugin)?);
    let mut known = known();
    known.retain(|_, plugin| plugin.strong_count() > 0);
    known.insert(digest, Arc::downgrade(&inner));
    Ok(Plugin { inner })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            "no such file; build it: cargo build --release --target wasm32-wasip2".to_owned()
        }
        _ => error.to_string(),
    })?;
    let mut bytes = Vec::new();
    file.take(limits::PLUGIN_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limits::PLUGIN_BYTES_MAX {
        return Err(format!("is larger than {} MiB", limits::PLUGIN_BYTES_MAX / limits::MIB as u64));
    }
    Ok(bytes)
}

/// A component, and nothing that only resembles one. Compiled code above all is never taken from a user.
fn check_magic(bytes: &[u8]) -> Result<(), String> {
    let why = match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => return Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            "is a core module, not a component; build it with --target wasm32-wasip2"
        }
        _ if Wasm::detect_precompiled(bytes).is_some() => {
            "is compiled code, which is not accepted from a file; give the .wasm that it was compiled from"
        }
        [b'(', ..] => "is WebAssembly text; give the binary component",
        [] => "is empty",
        _ => "is no WebAssembly component",
    };
    Err(why.into())
}

/// Compiling is unbounded work, and describing needs a runtime of its own wherever we are called from.
fn on_a_thread(engine: Arc<engine::Inner>, bytes: Vec<u8>, digest: Digest) -> Result<Inner, String> {
    let (send, receive) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("compile".into())
        .spawn(move || {
            let _ = send.send(examine(&engine, &bytes, digest));
        })
        .map_err(|error| format!("no thread to compile it: {error}"))?;
    match receive.recv_timeout(limits::PLUGIN_COMPILE_TIMEOUT) {
        Ok(examined) => examined,
        Err(RecvTimeoutError::Timeout) => {
            Err(format!("was not compiled within {} s", limits::PLUGIN_COMPILE_TIMEOUT.as_secs()))
        }
        Err(RecvTimeoutError::Disconnected) => Err("the compiler panicked over it".into()),
    }
}

fn examine(engine: &engine::Inner, bytes: &[u8], digest: Digest) -> Result<Inner, String> {
    let component = compile(engine, bytes, digest)?;
    let kind = component.component_type();
    let exports: Vec<String> = kind.exports(&engine.wasm).map(|(name, _)| name.to_owned()).collect();
    let imports: Vec<String> = kind.imports(&engine.wasm).map(|(name, _)| name.to_owned()).collect();
    let contract = contract(&exports)?;
    check_imports(&imports)?;
    let memory_initial = check_resources(&component)?;
    let unfit = |error: wasmtime::Error| format!("does not fit this host: {error:#}");
    let instance = engine.linker.instantiate_pre(&component).map_err(unfit)?;
    let guest = Guest::new(&contract, instance).map_err(unfit)?;
    let manifest = call::describe(engine, &guest)?;
    check_manifest(&manifest)?;
    Ok(Inner { digest, manifest, contract, imports, guest, memory_initial })
}

fn compile(engine: &engine::Inner, bytes: &[u8], digest: Digest) -> Result<Component, String> {
    if let Some(component) = engine.cache.as_ref().and_then(|cache| cache.get(&engine.wasm, digest)) {
        return Ok(component);
    }
    let started = std::time::Instant::now();
    let broken = |error: wasmtime::Error| format!("does not compile: {error:#}");
    let component = match &engine.cache {
        None => Component::from_binary(&engine.wasm, bytes).map_err(broken)?,
        Some(cache) => {
            let compiled = engine.wasm.precompile_component(bytes).map_err(broken)?;
            match cache.put(&engine.wasm, digest, &compiled) {
                Ok(component) => component,
                Err(error) => {
                    tracing::warn!(%error, "a compiled plugin could not be kept; it will be compiled at every start");
                    Component::from_binary(&engine.wasm, bytes).map_err(broken)?
                }
            }
        }
    };
    tracing::info!(
        plugin = digest.short(),
        took_ms = started.elapsed().as_millis() as u64,
        "compiled a plugin"
    );
    Ok(component)
}

/// The version in the name of the exported handler: `0.1`.
fn contract(exports: &[String]) -> Result<String, String> {
    const HANDLER: &str = "longshore:plugin/handler@";
    let ours = CONTRACTS.join(", ");
    let mut found = exports.iter().filter_map(|name| name.strip_prefix(HANDLER));
    let Some(version) = found.next() else {
        return Err(format!(
            "exports no {HANDLER}…: it is not a Longshore plugin; this daemon speaks contract {ours}"
        ));
    };
    let minor: Vec<&str> = version.split('.').take(2).collect();
    let contract = minor.join(".");
    if CONTRACTS.contains(&contract.as_str()) {
        return Ok(contract);
    }
    Err(format!(
        "was built for contract {version}, this daemon speaks {ours}: use a daemon that knows {contract}, \
         or build the plugin with longshore-sdk {ours}"
    ))
}

/// WASI 0.2 as `wasmtime_wasi::p2` links it: present, and with nothing behind it.
const WASI: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// All that are missing at once; the linker would name only the first.
fn check_imports(imports: &[String]) -> Result<(), String> {
    let missing: Vec<&str> = imports.iter().map(String::as_str).filter(|name| !is_linked(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let hint = if missing.iter().any(|name| name.starts_with("wasi:http/")) {
        "; outbound calls go through longshore:plugin/http"
    } else {
        ""
    };
    Err(format!("imports what this host does not have: {}{hint}", missing.join(", ")))
}

fn is_linked(import: &str) -> bool {
    let Some((interface, version)) = import.split_once('@') else { return false };
    match interface.strip_prefix("longshore:plugin/") {
        Some(ours) => OURS.contains(&ours) && CONTRACTS.iter().any(|c| is_of(version, c)),
        None => WASI.contains(&interface) && is_of(version, "0.2"),
    }
}

fn is_of(version: &str, minor: &str) -> bool {
    version.strip_prefix(minor).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What the pool would refuse later, in another word each time.
fn check_resources(component: &Component) -> Result<u64, String> {
    const PAGE: u64 = 64 << 10;
    let Some(needed) = component.resources_required() else { return Ok(0) };
    let memory = needed.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE);
    let counts = [
        (u64::from(needed.num_memories), limits::GUEST_MEMORIES_MAX as u64, "memories"),
        (u64::from(needed.num_tables), limits::GUEST_TABLES_MAX as u64, "tables"),
        (
            needed.max_initial_table_size.unwrap_or(0),
            limits::GUEST_TABLE_ELEMENTS_MAX as u64,
            "elements in a table",
        ),
        (memory, limits::GUEST_MEMORY_BYTES_MAX, "bytes of memory to start with"),
    ];
    match counts.iter().find(|(has, max, _)| has > max) {
        Some((has, max, what)) => Err(format!("has {has} {what}; at most {max}")),
        None => Ok(memory),
    }
}

// === the manifest ===

/// Every problem at once; a manifest is text that an operator will read.
fn check_manifest(manifest: &Manifest) -> Result<(), String> {
    let mut problems = Vec::new();
    let mut text = |what: &str, text: &str, max: usize, may_be_empty: bool| {
        if text.len() > max {
            problems.push(format!("{what} is longer than {max} bytes"));
        } else if text.is_empty() && !may_be_empty {
            problems.push(format!("{what} is empty"));
        } else if text.chars().any(|c| c.is_control() && c != '\n') {
            problems.push(format!("{what} has control characters"));
        }
    };
    text("name", &manifest.name, limits::MANIFEST_NAME_BYTES_MAX, false);
    text("version", &manifest.version, limits::MANIFEST_NAME_BYTES_MAX, false);
    text("description", &manifest.description, limits::MANIFEST_TEXT_BYTES_MAX, true);
    for event in manifest.events.iter().take(limits::MANIFEST_ITEMS_MAX) {
        text("an event", event, limits::EVENT_TYPE_BYTES_MAX, false);
    }
    for setting in manifest.settings.iter().take(limits::MANIFEST_ITEMS_MAX) {
        text("the key of a setting", &setting.key, limits::MANIFEST_NAME_BYTES_MAX, false);
        text("the help of a setting", &setting.help, limits::MANIFEST_TEXT_BYTES_MAX, true);
        let default = setting.default.as_deref().unwrap_or_default();
        text("the default of a setting", default, limits::MANIFEST_TEXT_BYTES_MAX, true);
    }
    for (what, items) in [
        ("events", manifest.events.len()),
        ("origins", manifest.origins.len()),
        ("settings", manifest.settings.len()),
    ] {
        if items > limits::MANIFEST_ITEMS_MAX {
            problems.push(format!("more than {} {what}", limits::MANIFEST_ITEMS_MAX));
        }
    }
    for origin in manifest.origins.iter().take(limits::MANIFEST_ITEMS_MAX) {
        problems.extend(Pattern::parse(&shorten(origin)).err().map(|why| format!("origins: {why}")));
    }
    problems.extend(setting_problems(&manifest.settings));
    if problems.is_empty() { Ok(()) } else { Err(format!("its manifest is wrong: {}", problems.join("; "))) }
}

fn setting_problems(settings: &[Setting]) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut problems = Vec::new();
    for setting in settings.iter().take(limits::MANIFEST_ITEMS_MAX) {
        let key = shorten(&setting.key);
        if !seen.insert(&setting.key) {
            problems.push(format!("setting `{key}` is there twice"));
        }
        if let Some(Err(why)) =
            setting.default.as_deref().map(|text| settings::parse_default(setting.kind, text))
        {
            problems.push(format!("the default of setting `{key}`: {why}"));
        }
    }
    problems
}

/// A plugin's words in an error.
fn shorten(text: &str) -> String {
    super::log::printable(text, 256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::SettingKind;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn what_is_no_component_says_what_it_is() {
        let precompiled = Wasm::default().precompile_component(b"\0asm\x0d\0\x01\0").unwrap();
        let cases: [(&[u8], &str); 6] = [
            (b"", "is empty"),
            (b"\0asm\x01\0\0\0", "is a core module"),
            (b"(component)", "is WebAssembly text"),
            (b"\x7fELF\x02", "is no WebAssembly component"),
            (b"hello", "is no WebAssembly component"),
            (&precompiled, "is compiled code, which is not accepted"),
        ];
        for (bytes, expected) in cases {
            let refused = check_magic(bytes).unwrap_err();
            assert!(refused.starts_with(expected), "{refused}");
        }
        assert!(check_magic(b"\0asm\x0d\0\x01\0").is_ok());
    }

    #[test]
    fn the_contract_is_in_the_name_of_the_export() {
        assert_eq!(contract(&names(&["init", "longshore:plugin/handler@0.1.7"])).unwrap(), "0.1");
        let newer = contract(&names(&["longshore:plugin/handler@0.12.0"])).unwrap_err();
        assert!(newer.contains("built for contract 0.12.0") && newer.contains("speaks 0.1:"), "{newer}");
        let none = contract(&names(&["wasi:http/incoming-handler@0.2.0"])).unwrap_err();
        assert!(none.contains("not a Longshore plugin"), "{none}");
    }

    #[test]
    fn all_missing_imports_are_named() {
        let given = names(&[
            "wasi:cli/stdout@0.2.12",
            "longshore:plugin/http@0.1.0",
            "longshore:plugin/queue@0.1.0",
            "longshore:plugin/http@0.2.0",
            "wasi:http/types@0.2.10",
            "wasi:cli/stdout@0.3.0",
            "wasi:io/error@0.20.0",
            "env",
        ]);
        let refused = check_imports(&given).unwrap_err();
        assert_eq!(
            refused,
            "imports what this host does not have: longshore:plugin/queue@0.1.0, longshore:plugin/http@0.2.0, \
             wasi:http/types@0.2.10, wasi:cli/stdout@0.3.0, wasi:io/error@0.20.0, env; outbound calls go through \
             longshore:plugin/http"
        );
    }

    #[test]
    fn a_manifest_is_checked_whole() {
        let setting = |key: &str, default: Option<&str>| Setting {
            key: key.into(),
            kind: SettingKind::Number,
            required: false,
            default: default.map(str::to_owned),
            help: String::new(),
        };
        let good = Manifest {
            name: "n".into(),
            version: "1".into(),
            description: "two\nlines".into(),
            events: names(&["message.*"]),
            origins: names(&["https://*.example.com"]),
            settings: vec![setting("a", Some("1"))],
        };
        check_manifest(&good).unwrap();
        let bad = Manifest {
            name: String::new(),
            version: "\x1b[2J".into(),
            description: "x".repeat(limits::MANIFEST_TEXT_BYTES_MAX + 1),
            events: vec!["e".into(); limits::MANIFEST_ITEMS_MAX + 1],
            origins: names(&["example.com"]),
            settings: vec![setting("a", Some("one")), setting("a", None), setting("", None)],
        };
        let refused = check_manifest(&bad).unwrap_err();
        for expected in [
            "name is empty",
            "version has control characters",
            "description is longer than 4096 bytes",
            "the key of a setting is empty",
            "more than 128 events",
            "origins: `example.com` is no origin",
            "setting `a` is there twice",
            "the default of setting `a`: is not a number",
        ] {
            assert!(refused.contains(expected), "{expected} in {refused}");
        }
        assert!(!refused.contains('\x1b'));
    }

    #[test]
    fn a_minor_version_is_whole() {
        assert!(is_of("0.1.0", "0.1") && is_of("0.1", "0.1") && !is_of("0.10.0", "0.1"));
    }
}
