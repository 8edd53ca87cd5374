//! New: a plugin to begin with, copied from `plugins/template`, which is inside this program.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::{Ended, Result};

/// Every file of the template, with its name in the copy. A test holds the list against the folder.
const FILES: [(&str, &str); 6] = [
    (".gitignore", include_str!("../../../../plugins/template/.gitignore")),
    ("Cargo.toml", include_str!("../../../../plugins/template/Cargo.toml.template")),
    ("README.md", include_str!("../../../../plugins/template/README.md")),
    ("reply.json", include_str!("../../../../plugins/template/reply.json")),
    ("src/lib.rs", include_str!("../../../../plugins/template/src/lib.rs")),
    ("torture.yaml", include_str!("../../../../plugins/template/torture.yaml")),
];

/// Begin a plugin in a new folder: a handler that works, with its tests.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longshore plugin new reply-notify --sdk-path sdk && cd reply-notify && cargo test")]
pub(in crate::cli) struct New {
    /// Its name, which becomes the folder's: a-z, 0-9 and `-`.
    #[arg(value_name = "NAME", value_parser = crate_name)]
    name: String,
    /// Make the folder here.
    #[arg(long, value_name = "DIR", default_value = ".")]
    into: PathBuf,
    /// Build with the SDK in this folder instead of the published one.
    #[arg(long, value_name = "DIR")]
    sdk_path: Option<PathBuf>,
}

/// Cargo's names, in the spelling that a handler's name can have too.
fn crate_name(text: &str) -> std::result::Result<String, String> {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if first && rest && !text.ends_with('-') && text.len() <= crate::words::event::NAME_BYTES_MAX {
        return Ok(text.to_owned());
    }
    Err(format!(
        "`{text}` is no name for a plugin; type a-z, 0-9 and `-`, beginning with a letter, as `reply-notify`"
    ))
}

impl New {
    pub(super) fn run(self, screen: &Screen) -> Result {
        let folder = self.into.join(&self.name);
        let sdk = self.sdk()?;
        let unwritable =
            |path: &Path, e: io::Error| Failure::failed(format!("`{}` cannot be made: {e}", path.display()));
        fs::create_dir(&folder).map_err(|e| unwritable(&folder, e))?;
        for (name, text) in FILES {
            let path = folder.join(name);
            let parent = path.parent().expect("a file of the folder is in a folder");
            fs::create_dir_all(parent).map_err(|e| unwritable(parent, e))?;
            fs::write(&path, self.filled(text, &sdk)).map_err(|e| unwritable(&path, e))?;
        }
        self.tell(&folder, screen)?;
        Ok(Ended::Well)
    }

    fn filled(&self, text: &str, sdk: &str) -> String {
        text.replace("{{name}}", &self.name)
            .replace("{{crate_name}}", &self.name.replace('-', "_"))
            .replace("{{sdk}}", sdk)
    }

    /// The dependency as Cargo reads it.
    fn sdk(&self) -> Result<String> {
        let Some(path) = &self.sdk_path else {
            return Ok(format!("\"{}\"", env!("CARGO_PKG_VERSION")));
        };
        let found = fs::canonicalize(path).ok().filter(|path| path.join("Cargo.toml").is_file());
        let Some(path) = found else {
            return Err(Failure::failed(format!("--sdk-path: `{}` holds no crate", path.display())));
        };
        // A JSON string is a TOML string.
        Ok(format!("{{ path = {} }}", serde_json::Value::from(path.display().to_string())))
    }

    fn tell(&self, folder: &Path, screen: &Screen) -> Result<()> {
        let files: Vec<_> = FILES.iter().map(|(name, _)| folder.join(name)).collect();
        if screen.json {
            return screen.print_json(&files);
        }
        for file in &files {
            screen.data(&format!("{}\n", file.display()))?;
        }
        screen.say(&format!("\nnext: cd {} && cargo test", folder.display()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(into: &Path, sdk_path: Option<PathBuf>) -> New {
        New { name: "reply-notify".to_owned(), into: into.to_owned(), sdk_path }
    }

    #[test]
    fn a_copy_has_every_file_and_no_placeholder() {
        let folder = tempfile::tempdir().unwrap();
        new(folder.path(), None).run(&Screen::plain()).unwrap();
        for (name, _) in FILES {
            let text = fs::read_to_string(folder.path().join("reply-notify").join(name)).unwrap();
            assert!(!text.contains("{{"), "{name}: {text}");
        }
        let manifest = fs::read_to_string(folder.path().join("reply-notify/Cargo.toml")).unwrap();
        assert!(manifest.contains("name = \"reply-notify\""), "{manifest}");
        assert!(
            manifest.contains(&format!("longshore-sdk = \"{}\"", env!("CARGO_PKG_VERSION"))),
            "{manifest}"
        );
        let failure = new(folder.path(), None).run(&Screen::plain()).unwrap_err();
        assert!(failure.to_string().contains("cannot be made"), "{failure}");
    }

    #[test]
    fn a_local_sdk_is_found_from_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk");
        let line = new(folder.path(), Some(sdk.clone())).sdk().unwrap();
        assert_eq!(line, format!("{{ path = {:?} }}", fs::canonicalize(sdk).unwrap()));
        assert!(new(folder.path(), Some(folder.path().to_owned())).run(&Screen::plain()).is_err());
        assert!(!folder.path().join("reply-notify").exists());
    }

    /// A file that is added to the template and forgotten here would be missing from every new plugin.
    #[test]
    fn the_list_is_the_folder() {
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/template");
        let mut found = Vec::new();
        let mut folders = vec![template.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.ends_with("target") {
                    folders.push(path);
                } else if path.is_file() && !path.ends_with("Cargo.lock") {
                    let name = path.strip_prefix(&template).unwrap().to_str().unwrap();
                    found.push(name.trim_end_matches(".template").to_owned());
                }
            }
        }
        found.sort();
        assert_eq!(found, FILES.map(|(name, _)| name));
    }

    #[test]
    fn names_are_checked() {
        for good in ["a", "reply-notify", "crm2"] {
            assert!(crate_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "2a", "../a", "a/b", &"a".repeat(64)] {
            assert!(crate_name(bad).is_err(), "{bad}");
        }
    }
}
