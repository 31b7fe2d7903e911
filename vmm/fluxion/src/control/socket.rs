//! The control socket's place in the file system.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("cannot listen on {0}: {1}; check that its directory exists and is yours")]
    Bind(PathBuf, io::Error),
    #[error("{0} is in use by another VM; stop that one or choose another --socket")]
    InUse(PathBuf),
    #[error("{0} exists and is not a socket; choose another --socket")]
    NotASocket(PathBuf),
}

/// A listening socket that is removed when dropped.
pub struct Socket {
    pub listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens on `path`, in place of a socket that a dead VM has left there. For its owner only.
    pub fn bind(path: &Path) -> Result<Socket, SocketError> {
        let failed = |e| SocketError::Bind(path.to_owned(), e);
        if let Ok(there) = path.symlink_metadata() {
            use std::os::unix::fs::FileTypeExt;
            if !there.file_type().is_socket() {
                return Err(SocketError::NotASocket(path.to_owned()));
            }
            match UnixStream::connect(path) {
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(failed)?
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                _ => return Err(SocketError::InUse(path.to_owned())),
            }
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let socket = Socket {
            listener,
            path: path.to_owned(),
        };
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
        socket.listener.set_nonblocking(true).map_err(failed)?;
        Ok(socket)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // If it is gone already, so much the better.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_replaced_and_others_are_not() {
        let dir = std::env::temp_dir().join(format!("fluxion-socket-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("temporary directory");
        let path = dir.join("vm.sock");
        let first = Socket::bind(&path).expect("free");
        assert_eq!(
            path.metadata().expect("there").permissions().mode() & 0o777,
            0o600
        );
        assert!(matches!(Socket::bind(&path), Err(SocketError::InUse(_))));
        drop(first);
        assert!(!path.exists());
        drop(UnixListener::bind(&path).expect("bind"));
        assert!(path.exists(), "a plain listener leaves its path behind");
        drop(Socket::bind(&path).expect("replaces the leftover"));
        std::fs::write(&path, "precious").expect("write");
        assert!(matches!(Socket::bind(&path), Err(SocketError::NotASocket(_))));
        assert!(matches!(
            Socket::bind(&dir.join("no/dir")),
            Err(SocketError::Bind(..))
        ));
        std::fs::remove_dir_all(&dir).expect("clean up");
    }
}
