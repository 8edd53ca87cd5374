//! The house: the table of arrows in ARCHITECTURE.md, held against every `use` of the daemon's source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

struct Room {
    kind: String,
    may_use: BTreeSet<String>,
    owns: BTreeSet<String>,
}

#[test]
fn no_use_breaks_the_table_of_arrows() {
    let rooms = table();
    assert!(rooms.len() >= 12, "the table of arrows has {} rows; was it cut?", rooms.len());
    let owned: BTreeSet<&String> = rooms.values().flat_map(|room| &room.owns).collect();
    let sources = sources();
    assert!(sources.len() >= 30, "only {} source files were found", sources.len());
    let mut broken = Vec::new();
    for (path, room_name) in &sources {
        if room_name == "lib" {
            continue;
        }
        let Some(room) = rooms.get(room_name) else {
            broken.push(format!("{}: room `{room_name}` is not in the table", path.display()));
            continue;
        };
        for (line, text) in code_lines(path) {
            let mut complain = |what: String| broken.push(format!("{}:{line}: {what}", path.display()));
            for used in names_after(&text, "crate::") {
                if rooms.contains_key(&used) && used != *room_name && !room.may_use.contains(&used) {
                    complain(format!("`{room_name}` may not use `{used}`"));
                }
            }
            for dependency in owned.iter().filter(|d| mentions(&text, d)) {
                if !room.owns.contains(dependency.as_str()) {
                    complain(format!(
                        "`{dependency}` is not owned by `{room_name}`; ask its owner for a verb"
                    ));
                }
            }
            if room.kind == "pure" {
                let banned =
                    ["Millis::now", "SystemTime", "Instant", "std::fs", "std::net", "tokio::", "async fn"];
                for word in banned.iter().filter(|word| text.contains(**word)) {
                    complain(format!("`{word}` in a pure room; make it an argument"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{} broken arrows:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn every_source_file_says_what_it_is_for() {
    for (path, _) in sources() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} does not open with `//!` and a sentence", path.display());
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the runtime lies in the workspace").to_owned()
}

fn table() -> BTreeMap<String, Room> {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let start = page.find("<!-- arrows").expect("ARCHITECTURE.md holds the table of arrows");
    let end = page.find("<!-- end of arrows").expect("the table of arrows has an end");
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect::<Vec<_>>();
    let list = |cell: &str| cell.split(',').map(|w| w.trim().to_owned()).filter(|w| !w.is_empty()).collect();
    let rows = page[start..end].lines().filter(|l| l.starts_with('|')).skip(2).map(cells);
    rows.map(|c| (c[0].clone(), Room { kind: c[1].clone(), may_use: list(&c[2]), owns: list(&c[3]) }))
        .collect()
}

/// Every file of the daemon with its room: the first folder below `src`, or the file's own name.
fn sources() -> Vec<(PathBuf, String)> {
    let src = root().join("runtime/src");
    let mut files = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let first = path.strip_prefix(&src).unwrap().components().next().unwrap();
                let room = Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned();
                files.push((path, room));
            }
        }
    }
    files.sort();
    files
}

/// Lines without comments, up to the file's own unit tests, which may use what they like.
fn code_lines(path: &Path) -> Vec<(usize, String)> {
    if path.file_stem().is_some_and(|stem| stem == "tests")
        || path.components().any(|c| c.as_os_str() == "tests")
    {
        return Vec::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let code = text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    code.map(|(n, line)| (n + 1, line.split("//").next().unwrap_or("").to_owned())).collect()
}

/// The identifiers that follow `prefix`, also inside `crate::{a, b}`.
fn names_after(text: &str, prefix: &str) -> Vec<String> {
    let word =
        |s: &str| s.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        let rest = &text[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(list) => names.extend(list.split('}').next().unwrap_or("").split(',').map(word)),
            None => names.push(word(rest)),
        }
    }
    names
}

/// Whether a line names a crate: `krate::` or `use krate;`, not as part of a longer word or path.
fn mentions(text: &str, krate: &str) -> bool {
    text.match_indices(krate).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = &text[at + krate.len()..];
        let starts = before.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':'));
        starts
            && (after.starts_with("::") || (text.trim_start().starts_with("use ") && after.starts_with(';')))
    })
}

#[test]
fn the_check_itself_sees_what_it_should() {
    assert_eq!(names_after("use crate::{store, words::time};", "crate::"), ["store", "words"]);
    assert_eq!(names_after("let x = crate::host::Engine::new();", "crate::"), ["host"]);
    assert!(mentions("use sled::Db;", "sled"));
    assert!(mentions("let x = sled::open(p);", "sled"));
    assert!(!mentions("use crate::assembled::x;", "sled"));
    assert!(!mentions("use tokio_rustls::x;", "rustls"));
    assert!(!mentions("crate::store::sled::x", "sled"));
}
