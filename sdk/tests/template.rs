//! What `longshore plugin new` copies builds outside this workspace, and its own tests pass.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Every file of the template; the command embeds these.
const FILES: [&str; 6] =
    [".gitignore", "Cargo.toml.template", "README.md", "reply.json", "src/lib.rs", "torture.yaml"];

#[test]
fn a_copy_builds_outside_the_workspace() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("sdk/ is in the workspace");
    let copy = tempfile::tempdir().unwrap();
    assert_eq!(copy_template(&root.join("plugins/template"), copy.path()), FILES);
    // The same versions as here: nothing is asked of a registry.
    fs::copy(root.join("Cargo.lock"), copy.path().join("Cargo.lock")).unwrap();

    cargo(copy.path(), &["test"]);
    cargo(copy.path(), &["build", "--target", "wasm32-wasip2"]);
    let component = target().join("wasm32-wasip2/debug/my_plugin.wasm");
    let bytes = fs::read(&component).unwrap();
    assert_eq!(bytes[..8], *b"\0asm\x0d\0\x01\0", "a component, not a module");
    fs::remove_file(component).unwrap();
}

/// As the command does it: placeholders filled in, `.template` taken off.
fn copy_template(from: &Path, to: &Path) -> Vec<String> {
    let sdk = format!("{{ path = {:?} }}", env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for path in walk(from) {
        let name = path.strip_prefix(from).unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let text = text
            .replace("{{name}}", "my-plugin")
            .replace("{{crate_name}}", "my_plugin")
            .replace("{{sdk}}", &sdk);
        assert!(!text.contains("{{") && !text.contains("}}"), "{name} has an unknown placeholder");
        let target = to.join(name.trim_end_matches(".template"));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, text).unwrap();
        files.push(name);
    }
    files.sort();
    files
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// Without the network where it can be: the locked versions are there once the plugins have been built.
fn cargo(folder: &Path, arguments: &[&str]) {
    let run = |more: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(arguments).args(["--quiet", "--target-dir"]).arg(target()).args(more);
        cargo.current_dir(folder).output().unwrap()
    };
    if !run(&["--offline"]).status.success() {
        let output = run(&[]);
        assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Kept between runs, so that only the first one compiles the dependencies.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("template")
}
