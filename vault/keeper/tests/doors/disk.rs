//! A disk that stalls: a file system of the test's own that it freezes. Only root can; as root a mount that fails fails the test.

use std::fs::{File, create_dir_all};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::Uid;

/// A mounted file system; thawed and unmounted when dropped.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// An ext4 in a file of `place`, mounted at `below` it; `None` for who is not root.
    pub(crate) fn mount(place: &Path, below: &str) -> Option<Self> {
        if !Uid::effective().is_root() {
            return None;
        }
        let (image, at) = (place.join("disk.img"), place.join(below));
        create_dir_all(&at).unwrap();
        File::create(&image).unwrap().set_len(24 * 1024 * 1024).unwrap();
        assert!(run(Command::new("mkfs.ext4").arg("-q").arg(&image)));
        assert!(run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(&image).arg(&at)));
        Some(Self(at))
    }

    pub(crate) fn freeze(&self) {
        assert!(run(Command::new("fsfreeze").arg("--freeze").arg(&self.0)));
    }

    pub(crate) fn thaw(&self) {
        assert!(run(Command::new("fsfreeze").arg("--unfreeze").arg(&self.0)));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A test that failed has left it frozen.
        run(Command::new("fsfreeze").arg("--unfreeze").arg(&self.0));
        assert!(run(Command::new("umount").arg("-l").arg(&self.0)));
    }
}

fn run(command: &mut Command) -> bool {
    let told = match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    eprintln!("{command:?}: {told}");
    false
}
