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

/// The statements of a file, each with the number of its first line: without comments, without what is there for
/// unit tests only, and each `use` on one line.
fn code_lines(path: &Path) -> Vec<(usize, String)> {
    if path.file_stem().is_some_and(|stem| stem == "tests")
        || path.components().any(|c| c.as_os_str() == "tests")
    {
        return Vec::new();
    }
    joined_uses(shipped(&fs::read_to_string(path).unwrap()))
}

/// Lines without comments, up to the file's own unit tests, which may use what they like and come last. Any other
/// item under `#[cfg(test)]` is left out by itself.
fn shipped(text: &str) -> Vec<(usize, String)> {
    let mut kept = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((n, line)) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push((n + 1, line.split("//").next().unwrap_or("").to_owned()));
            continue;
        }
        let item = lines.by_ref().map(|(_, line)| line).find(|line| !line.trim().starts_with("#["));
        match item {
            Some(item) if item.ends_with("mod tests {") => break,
            Some(item) => skip_rest_of(item, &mut lines),
            None => {}
        }
    }
    kept
}

/// An item ends with its first line, or with the `}` or `;` below it that rustfmt indents as that line.
fn skip_rest_of<'t>(item: &str, lines: &mut impl Iterator<Item = (usize, &'t str)>) {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let ends = |line: &str| line.ends_with(';') || line.ends_with('}');
    if !ends(item) {
        lines.find(|(_, line)| indent(line) == indent(item) && ends(line));
    }
}

/// `use` statements over several lines become one line.
fn joined_uses(lines: Vec<(usize, String)>) -> Vec<(usize, String)> {
    let is_use = |l: &str| l.starts_with("use ") || (l.starts_with("pub") && l.contains(" use "));
    let mut joined: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (n, line) in lines {
        let starts = is_use(line.trim_start());
        match joined.last_mut() {
            Some((_, statement)) if open => *statement += line.trim(),
            _ => joined.push((n, line.clone())),
        }
        open = (open || starts) && !line.contains(';');
    }
    joined
}

/// The identifiers that follow `prefix`, also inside `crate::{a, b::{c, d}}`.
fn names_after(text: &str, prefix: &str) -> Vec<String> {
    let word =
        |s: &str| s.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        let rest = &text[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(list) => names.extend(outer_items(list).into_iter().map(word).filter(|w| !w.is_empty())),
            None => names.push(word(rest)),
        }
    }
    names
}

/// The items of a list in braces, whose opening brace is gone: split at its own commas only.
fn outer_items(list: &str) -> Vec<&str> {
    let (mut items, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                items.push(&list[start..at]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    items
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
    let nested = "pub use crate::{store::{A, ledger::{B, C}}, words::time,};";
    assert_eq!(names_after(nested, "crate::"), ["store", "words"]);
    assert!(mentions("use sled::Db;", "sled"));
    assert!(mentions("let x = sled::open(p);", "sled"));
    assert!(!mentions("use crate::assembled::x;", "sled"));
    assert!(!mentions("use tokio_rustls::x;", "rustls"));
    assert!(!mentions("crate::store::sled::x", "sled"));
}

#[test]
fn what_ships_is_read_to_its_end() {
    let text = "\
//! A room.
#[cfg(test)]
mod tests;
use crate::{
    store::A, // why
    words,
};
impl B {
    #[cfg(test)]
    #[must_use]
    fn only_for_tests() {
        crate::host::x()
    }
    fn b() {}
}
#[cfg(test)]
use crate::cli::{
    C,
};
fn d() {}
#[cfg(test)]
pub(super) mod tests {
    use crate::app;
}
";
    let read = joined_uses(shipped(text));
    let read: Vec<_> = read.iter().map(|(n, line)| (*n, line.trim())).collect();
    let expected = [
        (1, ""),
        (4, "use crate::{store::A,words,};"),
        (8, "impl B {"),
        (14, "fn b() {}"),
        (15, "}"),
        (20, "fn d() {}"),
    ];
    assert_eq!(read, expected);
}
