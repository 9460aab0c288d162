//! Writing files so that nobody else reads them early and nobody's file is lost.
//!
//! Invariant: a file has its mode from its first byte; a replacement is whole or absent.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::AT_FDCWD;
use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid, fchownat};

use crate::failure::{Failure, Outcome};

/// A user and a group.
pub(crate) type Owner = (Uid, Gid);

/// Makes a directory with a mode, or sets the mode of one that is there. Its parents are made open to read.
pub(crate) fn directory(path: &Path, mode: u32) -> Outcome {
    let failed = |error: io::Error| Failure::file(path, error);
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    // Not following a link: it could name a directory of somebody else.
    if !fs::symlink_metadata(path).map_err(failed)?.is_dir() {
        return Err(Failure::file(path, "is not a directory"));
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)
}

/// Writes a file that must not exist yet.
pub(crate) fn create(path: &Path, bytes: &[u8], mode: u32) -> Outcome {
    let failed = |error: io::Error| Failure::file(path, error);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

/// Writes a file or replaces it whole; `owner` has it before it has its name.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32, owner: Option<Owner>) -> Outcome {
    let failed = |error: io::Error| Failure::file(path, error);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let draft = path.with_file_name(name);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    create(&draft, bytes, mode)?;
    if let Some(owner) = owner {
        give(&draft, owner)?;
    }
    fs::rename(&draft, path).map_err(failed)?;
    File::open(parent(path)).and_then(|parent| parent.sync_all()).map_err(failed)
}

/// The directory that holds a file; a bare name lies in the current one.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    }
}

/// Gives a path to a user and a group, without following a link.
pub(crate) fn give(path: &Path, (uid, gid): Owner) -> Outcome {
    fchownat(AT_FDCWD, path, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|error| Failure::file(path, error))
}

/// Gives a path to a group, without following a link.
pub(crate) fn give_to_group(path: &Path, gid: Gid) -> Outcome {
    fchownat(AT_FDCWD, path, None, Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|error| Failure::file(path, error))
}

/// Reads a small text file; `None` when there is none.
pub(crate) fn read(path: &Path) -> Outcome<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::file(path, error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::{create, directory, parent, replace};

    #[test]
    fn a_file_that_exists_is_not_overwritten_by_create() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("share-1.txt");
        create(&path, b"one", 0o600).unwrap();
        assert!(create(&path, b"two", 0o600).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_replacement_is_whole() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("token");
        replace(&path, b"one", 0o600, None).unwrap();
        replace(&path, b"two", 0o600, None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_bare_name_lies_in_the_current_directory() {
        for (path, expected) in [("token", "."), ("a/token", "a"), ("/token", "/"), ("/", "/")] {
            assert_eq!(parent(path.as_ref()).to_str(), Some(expected));
        }
        // Each test process has a name of its own here; it is gone again below.
        let name = format!("bare-name-{}", std::process::id());
        let replaced = replace(name.as_ref(), b"one", 0o600, None);
        let read = fs::read(&name);
        fs::remove_file(&name).unwrap();
        assert_eq!((replaced, read.unwrap()), (Ok(()), b"one".to_vec()));
    }

    #[test]
    fn a_link_in_place_of_a_directory_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let link = scratch.path().join("link");
        symlink("/tmp", &link).unwrap();
        assert!(directory(&link, 0o700).is_err());
    }
}
