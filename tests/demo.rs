//! The two README commands, as far as a test can run one inside the other, and the pages that promise them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["xtask", "demo", "--once", "--programs"])
        .arg(Path::new(env!("CARGO_BIN_EXE_longshore")).parent().unwrap())
        .args(arguments)
        .output()
        .expect("cargo runs")
}

#[test]
fn the_demo_passes_twice_in_a_row_and_fails_with_a_wrong_secret() {
    for run in 1..=2 {
        let output = demo(&[]);
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "run {run}:\n{said}");
    }
    let output = demo(&["--secret-wrong"]);
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "the demo noticed nothing:\n{said}");
}
