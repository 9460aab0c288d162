//! File systems made for one test; only root can mount, so these tests may have to be skipped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mounted file system, unmounted when dropped.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// A tmpfs of `size_kib`, or `None` with the reason printed.
    pub(crate) fn memory(at: &Path, size_kib: u32) -> Option<Self> {
        Self::new(at, &["-t", "tmpfs", "-o", &format!("size={size_kib}k"), "none"])
    }

    /// The file system in the file `image`, or `None` with the reason printed.
    pub(crate) fn image(at: &Path, (kind, image): (FileSystem, &Path)) -> Option<Self> {
        let options = match kind {
            FileSystem::Ext4 => "loop",
            // A copy has the identity of its original, which is mounted as well.
            FileSystem::Xfs => "loop,nouuid",
        };
        Self::new(at, &["-t", kind.name(), "-o", options, image.to_str().unwrap()])
    }

    fn new(at: &Path, what: &[&str]) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        run(mount.args(what).arg(at)).then(|| Self(at.to_owned()))
    }

    /// Gives a tmpfs more room.
    pub(crate) fn grow(&self, size_kib: u32) {
        let size = format!("remount,size={size_kib}k");
        assert!(run(Command::new("mount").args(["-o", &size]).arg(&self.0)));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        assert!(run(Command::new("umount").arg("-l").arg(&self.0)));
    }
}

/// The file systems that power is cut on.
#[derive(Clone, Copy)]
pub(crate) enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    pub(crate) const ALL: [Self; 2] = [Self::Ext4, Self::Xfs];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// Makes an empty one in the file `image`, as small as it can be.
    pub(crate) fn make(self, image: &Path) -> bool {
        let (mebibytes, quiet) = match self {
            Self::Ext4 => (24, "-q"),
            Self::Xfs => (300, "-q"),
        };
        std::fs::File::create(image).unwrap().set_len(mebibytes * 1024 * 1024).unwrap();
        run(Command::new(format!("mkfs.{}", self.name())).arg(quiet).arg(image))
    }
}

/// Copies an image, holes as holes.
pub(crate) fn copy(from: &Path, to: &Path) {
    assert!(run(Command::new("cp").args(["--sparse=always"]).arg(from).arg(to)));
}

/// Whether the command ran and succeeded; says why not.
pub(crate) fn run(command: &mut Command) -> bool {
    let told = match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    println!("{command:?}: {told}");
    false
}
