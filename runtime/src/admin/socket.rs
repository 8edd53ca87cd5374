//! Socket: the Unix socket in the data directory, from both ends.
//!
//! The directory is locked by one daemon, so a file that is already there is a dead one's and is replaced. It
//! is made under another name, closed to others and then moved into place: nobody ever sees it open to all.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

/// What `sockaddr_un` holds on every Unix, with its final zero.
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// A listening socket; its file goes with it.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// # Errors
    /// As the file system says; also where something other than a socket lies at `path`.
    pub fn bind(path: &Path) -> io::Result<Socket> {
        refuse_other_files(path)?;
        let fresh = path.with_extension("sock.new");
        remove_if_there(&fresh)?;
        let (_folder, short) = shortened(&fresh)?;
        let listener = UnixListener::bind(short)?;
        fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
        fs::rename(&fresh, path)?;
        Ok(Socket { listener, path: path.to_owned() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl axum::serve::Listener for Socket {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        axum::serve::Listener::accept(&mut self.listener).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Connects to the daemon whose socket lies at `path`.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` where no daemon listens.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let (_folder, short) = shortened(path)?;
    UnixStream::connect(short).await
}

/// A path that fits into a socket's address: the same one, or one through the open folder. Data directories of
/// tests and of containers are often longer than a socket's address can be.
fn shortened(path: &Path) -> io::Result<(Option<File>, PathBuf)> {
    if path.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok((None, path.to_owned()));
    }
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "a socket's path names a file in a folder");
    let name = path.file_name().ok_or_else(invalid)?;
    let folder = File::open(path.parent().ok_or_else(invalid)?)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    Ok((Some(folder), short))
}

fn refuse_other_files(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(()),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something that is not a socket lies there; move it away",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_private_replaces_a_dead_one_and_goes_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(crate::admin::SOCKET_NAME);
        let first = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // As a killed daemon leaves it: the file without anyone behind it.
        std::mem::forget(first);
        let second = Socket::bind(&path).unwrap();
        connect(&path).await.unwrap();
        drop(second);
        assert!(!path.exists());
        assert_eq!(connect(&path).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_long_data_directory_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        let path = deep.join(crate::admin::SOCKET_NAME);
        let _socket = Socket::bind(&path).unwrap();
        connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn another_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(crate::admin::SOCKET_NAME);
        fs::write(&path, "precious").unwrap();
        assert!(Socket::bind(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
