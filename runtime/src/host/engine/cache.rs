//! Compiled plugins on disk. Compiling takes seconds (StarlingMonkey: 17), mapping a compiled file takes
//! milliseconds.
//!
//! Wasmtime trusts such a file as it trusts itself: a crafted one runs any code in this process. So the folder
//! is ours alone (0700), a file is written whole and renamed into place, its digest is checked before it is
//! mapped, and nothing that a user names is ever read as compiled code.

use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use wasmtime::component::Component;

use crate::host::Error;
use crate::words::digest::Digest;
use crate::words::limits;

/// The pin in the manifest is `48.0.8` or later of that line; wasmtime itself refuses a file of another build.
const WASMTIME: &str = "48";
const COMPILED: &str = "cwasm";
const DIGEST: &str = "sha256";

pub(in crate::host) struct Cache {
    folder: PathBuf,
    /// Of everything that makes compiled code fit this engine: version, settings, processor.
    compatibility: u64,
}

impl Cache {
    pub(super) fn open(folder: &Path, engine: &wasmtime::Engine) -> Result<Cache, Error> {
        make_private(folder).map_err(|why| Error::Engine(format!("cache `{}`: {why}", folder.display())))?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Cache { folder: folder.to_owned(), compatibility: hasher.finish() })
    }

    /// The compiled form of `wasm` if we have written one and it is as we wrote it.
    pub(in crate::host) fn get(&self, engine: &wasmtime::Engine, wasm: Digest) -> Option<Component> {
        let path = self.path(wasm);
        let expected = fs::read_to_string(path.with_extension(DIGEST)).ok()?;
        let compiled = fs::read(&path).ok()?;
        if Digest::of(&compiled).to_string() != expected {
            tracing::warn!(path = %path.display(), "a compiled plugin was damaged; it is compiled again");
            return None;
        }
        drop(compiled);
        match map(engine, &path) {
            Ok(component) => {
                // What is used is not the oldest; a failure only makes it so.
                let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                Some(component)
            }
            Err(error) => {
                tracing::info!(path = %path.display(), error = format!("{error:#}"), "compiled plugin is not for this build; it is compiled again");
                None
            }
        }
    }

    /// Keeps `compiled` and maps it. A cache that cannot be written costs a compilation at the next start, so
    /// the caller goes on without.
    pub(in crate::host) fn put(
        &self,
        engine: &wasmtime::Engine,
        wasm: Digest,
        compiled: &[u8],
    ) -> io::Result<Component> {
        let path = self.path(wasm);
        self.write(&path, compiled)?;
        self.write(&path.with_extension(DIGEST), Digest::of(compiled).to_string().as_bytes())?;
        self.prune();
        map(engine, &path).map_err(|e| io::Error::other(format!("{e:#}")))
    }

    fn path(&self, wasm: Digest) -> PathBuf {
        self.folder.join(format!("{wasm}-{WASMTIME}-{:016x}.{COMPILED}", self.compatibility))
    }

    /// Never in place: a mapped file that changes is running code that changes.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // Another process, or another thread of ours, may be writing the same file.
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let temporary =
            self.folder.join(format!(".{}.{}", std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed)));
        let written = (|| {
            let mut file =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            File::open(&self.folder)?.sync_all()
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut files: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == COMPILED))
            .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
            .collect();
        files.sort();
        let surplus = files.len().saturating_sub(limits::COMPILED_FILES_MAX);
        for (_, path) in &files[..surplus] {
            let _ = fs::remove_file(path);
            let _ = fs::remove_file(path.with_extension(DIGEST));
        }
    }
}

#[allow(unsafe_code)]
fn map(engine: &wasmtime::Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file was written by `Cache::write` from the output of `Engine::precompile_component`, into a
    // folder that nobody else may write to, its digest was just compared, and files are replaced, not changed.
    unsafe { Component::deserialize_file(engine, path) }
}

fn make_private(folder: &Path) -> Result<(), String> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| e.to_string())?;
    let metadata = fs::metadata(folder).map_err(|e| e.to_string())?;
    let shown = folder.display();
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(format!("belongs to another user; chown it, or remove it: rm -r {shown}"));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(format!(
            "others can write to it, and what lies there is run; remove it, it is made anew: rm -r {shown}"
        ));
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> wasmtime::Engine {
        wasmtime::Engine::default()
    }

    /// `(component)`: eight bytes.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn what_was_put_comes_back_and_what_was_damaged_does_not() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine();
        let cache = Cache::open(&root.path().join("a/plugins"), &engine).unwrap();
        let wasm = Digest::of(EMPTY);
        assert!(cache.get(&engine, wasm).is_none());
        let compiled = engine.precompile_component(EMPTY).unwrap();
        cache.put(&engine, wasm, &compiled).unwrap();
        assert!(cache.get(&engine, wasm).is_some());

        let mut damaged = compiled;
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        fs::write(cache.path(wasm), damaged).unwrap();
        assert!(cache.get(&engine, wasm).is_none());
    }

    #[test]
    fn the_folder_is_ours_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("plugins");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        Cache::open(&folder, &engine()).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);

        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        let refused = Cache::open(&folder, &engine()).err().unwrap().to_string();
        assert!(refused.contains("others can write to it") && refused.contains("rm -r"), "{refused}");
    }

    #[test]
    fn the_longest_unused_go() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine();
        let cache = Cache::open(root.path(), &engine).unwrap();
        let compiled = engine.precompile_component(EMPTY).unwrap();
        let old = SystemTime::now() - std::time::Duration::from_secs(3600);
        for n in 0..limits::COMPILED_FILES_MAX {
            let path = cache.path(Digest::of(&n.to_le_bytes()));
            fs::write(&path, b"x").unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        }
        cache.put(&engine, Digest::of(EMPTY), &compiled).unwrap();
        assert!(cache.get(&engine, Digest::of(EMPTY)).is_some());
        let left = fs::read_dir(root.path())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == COMPILED))
            .count();
        assert_eq!(left, limits::COMPILED_FILES_MAX);
    }
}
