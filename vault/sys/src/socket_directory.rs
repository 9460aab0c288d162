//! A directory for our sockets that nobody but its owner and one group can enter.
//!
//! Invariant: while a socket is made, only the owner can enter; it opens to the group last.
//! Distrusts: a directory or socket of another user waiting at the path, symbolic links.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, chown};

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The kernel's address holds no more.
    #[error(
        "the socket path {0} is longer than {MAX_PATH_BYTES} bytes; choose a shorter run directory"
    )]
    TooLong(PathBuf),
    /// Somebody else's, or no directory at all.
    #[error("{0} is not a directory of our own user")]
    NotOurs(PathBuf),
    /// Another process answers there.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// Neither free nor a socket.
    #[error("{0} exists and is no socket")]
    NotASocket(PathBuf),
    /// The file system's answer.
    #[error("{path}: {source}")]
    Io {
        /// Which path.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

/// A directory of sockets for one group of clients.
#[derive(Debug)]
pub struct SocketDirectory {
    path: PathBuf,
    client_gid: Option<Gid>,
}

impl SocketDirectory {
    /// Makes the directory, or takes over our own one, closed to everyone else (0700). Its parent
    /// must exist. Members of `client_gid` may enter once a socket stands; `None` means nobody.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn make(path: &Path, client_gid: Option<Gid>) -> Result<Self, SocketError> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(source) if source.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(SocketError::Io { path: path.to_owned(), source }),
        }
        // Not following a link: it could name a directory that others can write.
        let found = fs::symlink_metadata(path).map_err(at(path))?;
        if !found.is_dir() || found.uid() != Uid::effective().as_raw() {
            return Err(SocketError::NotOurs(path.to_owned()));
        }
        set_mode(path, 0o700)?;
        Ok(Self { path: path.to_owned(), client_gid })
    }

    /// Binds a listening socket `name` and then lets the clients' group reach it.
    ///
    /// # Errors
    /// [`SocketError`]; a dead socket of an earlier run is replaced, a live one is not.
    pub fn bind_in(&self, name: &str) -> Result<UnixListener, SocketError> {
        let path = self.path.join(name);
        if path.as_os_str().len() > MAX_PATH_BYTES {
            return Err(SocketError::TooLong(path));
        }
        set_mode(&self.path, 0o700)?;
        remove_dead_socket(&path)?;
        let listener = UnixListener::bind(&path).map_err(at(&path))?;
        let (socket_mode, directory_mode) = match self.client_gid {
            None => (0o600, 0o700),
            Some(gid) => {
                chown(&path, None, Some(gid)).map_err(|errno| at(&path)(errno.into()))?;
                chown(&self.path, None, Some(gid)).map_err(|errno| at(&self.path)(errno.into()))?;
                (0o660, 0o710)
            }
        };
        set_mode(&path, socket_mode)?;
        set_mode(&self.path, directory_mode)?;
        Ok(listener)
    }

    /// Where the sockets are.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// `sun_path` has 108 bytes, one of them the closing zero (unix(7)).
pub const MAX_PATH_BYTES: usize = 107;

fn remove_dead_socket(path: &Path) -> Result<(), SocketError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(path)(error)),
    };
    if !found.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(at(path))
        }
        Ok(_) | Err(_) => Err(SocketError::InUse(path.to_owned())),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), SocketError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(at(path))
}

fn at(path: &Path) -> impl Fn(io::Error) -> SocketError {
    move |source| SocketError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;

    use nix::unistd::Gid;

    use super::{MAX_PATH_BYTES, SocketDirectory, SocketError};

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn without_a_group_only_the_owner_enters() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("run");
        let directory = SocketDirectory::make(&path, None).unwrap();
        let _listener = directory.bind_in("a.sock").unwrap();
        assert_eq!((mode(&path), mode(&path.join("a.sock"))), (0o700, 0o600));
        UnixStream::connect(path.join("a.sock")).unwrap();
    }

    #[test]
    fn with_a_group_its_members_reach_the_socket_but_cannot_list() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("run");
        let gid = Gid::effective();
        let directory = SocketDirectory::make(&path, Some(gid)).unwrap();
        assert_eq!(mode(&path), 0o700, "closed until a socket stands");
        let _listener = directory.bind_in("a.sock").unwrap();
        assert_eq!((mode(&path), mode(&path.join("a.sock"))), (0o710, 0o660));
        assert_eq!(fs::metadata(path.join("a.sock")).unwrap().gid(), gid.as_raw());
    }

    #[test]
    fn a_live_socket_is_kept_and_a_dead_one_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = SocketDirectory::make(&scratch.path().join("run"), None).unwrap();
        let live = directory.bind_in("a.sock").unwrap();
        assert!(matches!(directory.bind_in("a.sock"), Err(SocketError::InUse(_))));
        drop(live);
        directory.bind_in("a.sock").unwrap();
    }

    #[test]
    fn a_file_or_link_in_the_way_is_not_touched() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("run");
        let directory = SocketDirectory::make(&path, None).unwrap();
        fs::write(path.join("a.sock"), b"mine").unwrap();
        assert!(matches!(directory.bind_in("a.sock"), Err(SocketError::NotASocket(_))));
        let link = scratch.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(SocketDirectory::make(&link, None), Err(SocketError::NotOurs(_))));
    }

    #[test]
    fn a_path_that_the_kernel_would_cut_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = SocketDirectory::make(&scratch.path().join("run"), None).unwrap();
        let room = MAX_PATH_BYTES - directory.path().as_os_str().len() - 1;
        let _fits: UnixListener = directory.bind_in(&"a".repeat(room)).unwrap();
        let over = directory.bind_in(&"a".repeat(room + 1));
        assert!(matches!(over, Err(SocketError::TooLong(_))));
    }
}
