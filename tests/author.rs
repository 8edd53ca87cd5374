//! Author: what somebody who writes a plugin does first, with the commands that README gives them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Home;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The fenced block of README that begins with the SDK's prelude.
fn readme_plugin() -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = readme.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let plugins: Vec<&str> = blocks.filter(|block| block.contains("longshore_sdk::plugin!")).collect();
    assert_eq!(plugins.len(), 1, "README shows one plugin");
    plugins[0].to_owned()
}

#[test]
fn the_plugin_of_readme_builds_outside_the_workspace_and_runs_without_a_daemon() {
    let home = Home::with_source_only();
    let sdk = root().join("sdk");
    let made = home.cli(&["plugin", "new", "lead-to-chat", "--sdk-path", sdk.to_str().unwrap()]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let folder = home.path().join("lead-to-chat");
    std::fs::write(folder.join("src/lib.rs"), readme_plugin()).unwrap();
    // The same crates at the same versions as the workspace, so that nothing new is fetched.
    std::fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let target = folder.join("target");
    let built = Command::new(env!("CARGO"))
        .current_dir(&folder)
        .args(["build", "--release", "--target", "wasm32-wasip2", "--target-dir"])
        .arg(&target)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let component = target.join("wasm32-wasip2/release/lead_to_chat.wasm");
    let component = component.to_str().unwrap();

    let inspected = home.json(&["plugin", "inspect", component]).to_string();
    assert!(inspected.contains("https://chat.example.com"), "{inspected}");

    std::fs::write(
        home.path().join("event.json"),
        r#"{"data":{"linkedinUrl":"https://www.linkedin.com/in/ada"}}"#,
    )
    .unwrap();
    let run = ["plugin", "run", component, "--type", "connection.accepted", "--data", "event.json"];
    let grants = ["--grant", "https://chat.example.com", "--secret", "token=env:SENDPILOT_SECRET"];
    let ran = home.json(&[&run[..], &grants].concat());
    assert!(ran.to_string().contains(r#""outcome":"done""#), "{ran}");
    assert!(ran.to_string().contains("https://chat.example.com/messages"), "the call is shown: {ran}");
}
