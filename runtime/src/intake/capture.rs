//! Capture: a signing secret that a handshake brings, kept in the file that the operator named, once.
//!
//! The handshake that brings it is signed by nobody, so the first one is believed and no other: what is kept is never
//! written over, and a second one is answered only where it brings the same. The bytes are in the file, with mode 0600,
//! on the disk and under their name, before the answer goes out; a sender that was told 200 will sign with them.
//!
//! They are never logged: their fingerprint is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use tracing::info;

use super::Source;
use super::refusal::Refused;
use crate::verify::{self, challenge};
use crate::words::secret::Secret;

/// Makes a source's keys again, from all its secrets, as at the start. Given by `app`, which alone knows them.
pub type Renew = Box<dyn Fn() -> BoxFuture<'static, Result<Vec<verify::Key>, String>> + Send + Sync>;

/// The file for one secret, and what is in it.
pub struct Capture {
    file: PathBuf,
    renew: Renew,
    state: tokio::sync::Mutex<State>,
    is_pending: AtomicBool,
}

struct State {
    held: Option<Secret>,
    /// The source's keys were made with it.
    is_in_use: bool,
}

impl Capture {
    /// `held`: what the file had at the start; None: it is still to come.
    pub fn new(file: PathBuf, held: Option<Secret>, renew: Renew) -> Capture {
        let (is_in_use, is_pending) = (held.is_some(), AtomicBool::new(held.is_none()));
        Capture { file, renew, state: tokio::sync::Mutex::new(State { held, is_in_use }), is_pending }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn is_pending(&self) -> bool {
        self.is_pending.load(Ordering::Acquire)
    }
}

/// Keeps the secret that the handshake at `at` brought, and puts it to use. The same one again is good.
///
/// # Errors
/// Where another one is kept already, the source's scheme cannot use it, or it could not be written.
pub(super) async fn keep(source: &Arc<Source>, at: usize, secret: Secret) -> Result<(), Refused> {
    source.scheme.key(&secret, None).map_err(|why| {
        Refused::Challenge(challenge::Refused::Value(format!(
            "this scheme cannot verify with what came: {why}"
        )))
    })?;
    let source = Arc::clone(source);
    // A sender that gives up does not leave it half done.
    let kept = tokio::spawn(async move {
        let Some(capture) = source.handshakes.capture(at) else {
            return Err(Refused::Capture("no file is named for it".to_owned()));
        };
        capture.keep(&source, secret).await
    });
    kept.await.unwrap_or_else(|error| Err(Refused::Capture(error.to_string())))
}

impl Capture {
    async fn keep(&self, source: &Source, secret: Secret) -> Result<(), Refused> {
        let mut state = self.state.lock().await;
        match &state.held {
            Some(held) if challenge::same_secret(held, &secret) => {}
            Some(_) => return Err(self.taken()),
            None => {
                self.write(secret.clone()).await?;
                state.held = Some(secret.clone());
            }
        }
        if state.is_in_use {
            return Ok(());
        }
        let keys = (self.renew)().await.map_err(Refused::Capture)?;
        source.keys.store(Arc::new(keys));
        state.is_in_use = true;
        self.is_pending.store(false, Ordering::Release);
        let (name, file, fingerprint) = (&source.name, self.file.display(), secret.fingerprint());
        info!(source = %name, %file, %fingerprint, "a handshake brought a secret; it is in use");
        Ok(())
    }

    async fn write(&self, secret: Secret) -> Result<(), Refused> {
        let file = self.file.clone();
        let written = tokio::task::spawn_blocking(move || write_once(&file, secret.expose())).await;
        let written = written.map_err(|error| Refused::Capture(error.to_string()))?;
        match written {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.taken()),
            Err(error) => Err(Refused::Capture(format!("`{}`: {error}", self.file.display()))),
        }
    }

    fn taken(&self) -> Refused {
        Refused::Captured(self.file.display().to_string())
    }
}

/// False: somebody else wrote there. The file has all of the bytes or is not there, whenever the power fails.
fn write_once(file: &Path, bytes: &[u8]) -> io::Result<bool> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut draft_name = std::ffi::OsString::from(".");
    draft_name.push(name);
    draft_name.push(".new");
    let draft = folder.join(draft_name);
    remove(&draft)?;
    let mut writing = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    writing.write_all(bytes)?;
    writing.sync_all()?;
    let is_ours = put_in_place(&draft, file);
    remove(&draft)?;
    File::open(folder)?.sync_all()?;
    is_ours
}

/// A link, unlike a rename, does not replace what is there. An empty file is nothing, and is replaced.
fn put_in_place(draft: &Path, file: &Path) -> io::Result<bool> {
    match fs::hard_link(draft, file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let there = fs::symlink_metadata(file)?;
            if !there.is_file() || there.len() > 0 {
                return Ok(false);
            }
            fs::rename(draft, file)?;
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn a_secret_is_written_once_and_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("asana");
        assert!(write_once(&file, b"first").unwrap());
        assert_eq!(fs::read(&file).unwrap(), b"first");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!write_once(&file, b"second").unwrap());
        assert_eq!(fs::read(&file).unwrap(), b"first");
        assert_eq!(names(folder.path()), ["asana"]);
    }

    #[test]
    fn an_empty_file_and_a_draft_that_was_left_are_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("asana");
        fs::write(&file, b"").unwrap();
        fs::write(folder.path().join(".asana.new"), b"half").unwrap();
        assert!(write_once(&file, b"whole").unwrap());
        assert_eq!(fs::read(&file).unwrap(), b"whole");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(folder.path()), ["asana"]);
    }

    #[test]
    fn what_is_no_file_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let (file, target) = (folder.path().join("asana"), folder.path().join("elsewhere"));
        fs::write(&target, b"").unwrap();
        std::os::unix::fs::symlink(&target, &file).unwrap();
        assert!(!write_once(&file, b"secret").unwrap());
        assert_eq!(fs::read(&target).unwrap(), b"");
        assert!(write_once(&folder.path().join("absent/asana"), b"secret").is_err());
        assert_eq!(names(folder.path()), ["asana", "elsewhere"]);
    }
}
