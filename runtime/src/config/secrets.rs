//! Secrets: reads what `env:` and `file:` point at. The only place where a secret enters the daemon.

use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::load::Environment;
use super::problem::Problem;
use super::values::{Holder, SecretRef};
use crate::words::limits::SECRET_BYTES_MAX;
use crate::words::secret::Secret;

#[derive(Clone, Copy, Debug)]
pub struct Secrets<'e> {
    environment: &'e Environment,
}

impl<'e> Secrets<'e> {
    pub fn new(environment: &'e Environment) -> Self {
        Secrets { environment }
    }

    /// # Errors
    /// Unset, missing, unreadable, empty, too long, or ending in a newline: nothing is trimmed silently, since
    /// a secret with one byte more verifies nothing and says so only much later.
    pub fn read(&self, secret: &SecretRef) -> Result<Secret, Problem> {
        let bytes = match &secret.holder {
            Holder::Environment(name) => self.variable(name),
            Holder::File(path) => read_file(path),
        };
        bytes
            .and_then(|bytes| judge(&secret.holder, &bytes).map(|()| Secret::new(bytes)))
            .map_err(|why| Problem::error(secret.at.clone(), secret.key.clone(), why))
    }

    fn variable(&self, name: &str) -> Result<Vec<u8>, String> {
        let value = self.environment.get(name).ok_or_else(|| {
            format!("the variable `{name}` is not set; type `export {name}=…` before `longshore run`")
        })?;
        Ok(value.as_bytes().to_vec())
    }

    /// What is dangerous about where a secret lies, though it can be read.
    pub fn warning(&self, secret: &SecretRef) -> Option<Problem> {
        let Holder::File(path) = &secret.holder else { return None };
        readable_by_all(path).map(|why| Problem::warning(secret.at.clone(), secret.key.clone(), why))
    }
}

/// Whether a file is not there, or empty: what a handshake brings is then still to come.
pub fn is_to_come(secret: &SecretRef) -> bool {
    let Holder::File(path) = &secret.holder else { return false };
    match std::fs::metadata(path) {
        Ok(metadata) => metadata.is_file() && metadata.len() == 0,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

pub(super) fn readable_by_all(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let shown = path.display();
    (mode & 0o004 != 0)
        .then(|| format!("`{shown}` can be read by every user of this machine; type `chmod 600 {shown}`"))
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => {
            format!("there is no file `{shown}`; type `printf %s \"$SECRET\" > {shown}`")
        }
        _ => format!("`{shown}` cannot be read: {e}; type `chmod u+r {shown}`, or run as its owner"),
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn judge(holder: &Holder, bytes: &[u8]) -> Result<(), String> {
    let (name, again) = match holder {
        Holder::Environment(name) => (format!("`{name}`"), format!("export {name}=\"$(printf %s …)\"")),
        Holder::File(path) => {
            (format!("`{}`", path.display()), format!("printf %s \"$SECRET\" > {}", path.display()))
        }
    };
    if bytes.is_empty() {
        return Err(format!("{name} is empty, and an empty secret would accept anybody; type `{again}`"));
    }
    if bytes.len() > SECRET_BYTES_MAX {
        return Err(format!(
            "{name} is longer than {SECRET_BYTES_MAX} bytes; type the secret alone, `{again}`"
        ));
    }
    // A key or a certificate in PEM is a file of lines, and is read as one.
    let is_pem = bytes.starts_with(b"-----BEGIN ");
    if !is_pem && (bytes.ends_with(b"\n") || bytes.ends_with(b"\r")) {
        return Err(format!("{name} ends with a newline, which is not part of the secret; type `{again}`"));
    }
    Ok(())
}
