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
    pub(crate) fn image(at: &Path, image: &Path) -> Option<Self> {
        Self::new(at, &["-t", "ext4", "-o", "loop", image.to_str().unwrap()])
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
