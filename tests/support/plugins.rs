//! Plugins: the components of this repository, built once for a run of the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The component of a package, as `slack_notify`, `crm_sync` or `test_handlers`.
pub fn plugin(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(build);
    let path = folder.join(name).with_extension("wasm");
    assert!(path.exists(), "{} was not built", path.display());
    path
}

fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = target_directory();
    let output = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["build", "--profile", "plugin", "--target", "wasm32-wasip2", "--target-dir"])
        .arg(&target)
        .args(["-p", "slack-notify", "-p", "crm-sync", "-p", "test-handlers"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("wasm32-wasip2/plugin")
}

/// `plugins` below the target directory of this build, so that guests and daemon do not wait for one lock.
fn target_directory() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_longshore"));
    binary.parent().and_then(Path::parent).expect("target/<profile>/longshore").join("plugins")
}
