//! Disks to pull the plug of: a file system on a drive with a write cache, of which a copy is made in one instant.
//!
//! ```text
//! tmpfs ▸ shelf.img: XFS, the shelf ▸ drive.img: XFS, the drive ▸ disk.img: ext4 or XFS, the disk under test
//! ```
//!
//! A file on the drive is the drive's platter, and the pages of it that nobody has synced are the drive's cache. `FICLONE`
//! copies a file between two of its writes: of the disk's file it makes what a drive holds that keeps its cache, of the
//! drive's file what is left when the cache is lost and only what was flushed is certain.
//!
//! Invariant: what is mounted here is unmounted with the value that stands for it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::Uid;
use strongroom_tests::scratch;
use tempfile::TempDir;

/// A file system to be tested on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ext4,
    Xfs,
}

/// What a drive does with its cache when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cache {
    Kept,
    Lost,
}

/// Memory that holds files.
pub(crate) struct Lab {
    // Dropped in this order: what is mounted cannot be removed.
    _shelf: Mount,
    _memory: Mount,
    scratch: TempDir,
}

/// A disk in use, on a drive in use.
pub(crate) struct Disk {
    // Dropped in this order.
    mounted: Mount,
    drive: Mount,
    file_system: FileSystem,
    place: PathBuf,
}

/// A disk as a power cut left it.
pub(crate) struct Cut {
    disk: Option<Mount>,
    drive: Option<Mount>,
    image: PathBuf,
}

/// A mounted file system.
struct Mount(PathBuf);

impl Lab {
    /// `None` for who is not root; as root, a mount that fails fails the test.
    pub(crate) fn new() -> Option<Self> {
        if !Uid::effective().is_root() {
            strongroom_soak::skipped("only root mounts a file system");
            return None;
        }
        let scratch = scratch::directory();
        let at = |name: &str| scratch.path().join(name);
        let memory = Mount::new(&at("m"), &["-t", "tmpfs", "-o", "size=4g", "none"]);
        let shelf = scratch.path().join("m/shelf.img");
        make(&shelf, 4096, FileSystem::Xfs);
        let shelf = Mount::image(&at("s"), &shelf, FileSystem::Xfs);
        Some(Self { _shelf: shelf, _memory: memory, scratch })
    }

    /// Where files are copied without their bytes being copied.
    pub(crate) fn shelf(&self) -> PathBuf {
        self.scratch.path().join("s")
    }

    /// An empty disk.
    pub(crate) fn disk(&self, file_system: FileSystem, mebibytes: u64) -> Disk {
        let image = self.shelf().join(DRIVE);
        make(&image, mebibytes + 512, FileSystem::Xfs);
        let drive = Mount::image(&self.scratch.path().join("drive"), &image, FileSystem::Xfs);
        let image = drive.0.join(DISK);
        make(&image, mebibytes, file_system);
        let mounted = Mount::image(&self.scratch.path().join("disk"), &image, file_system);
        Disk { mounted, drive, file_system, place: self.scratch.path().to_owned() }
    }
}

impl Disk {
    pub(crate) fn path(&self) -> &Path {
        &self.mounted.0
    }

    /// Cuts the power, in effect: what is on the disk at this instant, for a drive that keeps or loses its cache.
    pub(crate) fn cut(&self, cache: Cache) -> Cut {
        let image = match cache {
            Cache::Kept => self.drive.0.join("cut.img"),
            Cache::Lost => self.place.join("s/cut.img"),
        };
        match cache {
            Cache::Kept => clone(&self.drive.0.join(DISK), &image),
            Cache::Lost => clone(&self.place.join("s").join(DRIVE), &image),
        }
        Cut { disk: None, drive: None, image }
    }

    /// Turns the power of a copy on again; answers where the disk is.
    pub(crate) fn mount(&self, cut: &mut Cut, cache: Cache) -> PathBuf {
        let (drive, disk) = (self.place.join("cut-drive"), self.place.join("cut"));
        let image = match cache {
            Cache::Kept => cut.image.clone(),
            Cache::Lost => {
                cut.drive = Some(Mount::image(&drive, &cut.image, FileSystem::Xfs));
                drive.join(DISK)
            }
        };
        cut.disk = Some(Mount::image(&disk, &image, self.file_system));
        disk
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        drop(self.disk.take());
        drop(self.drive.take());
        let removed = fs::remove_file(&self.image);
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

impl Mount {
    fn image(at: &Path, image: &Path, file_system: FileSystem) -> Self {
        let image = image.to_str().expect("our own names");
        match file_system {
            FileSystem::Ext4 => Self::new(at, &["-t", "ext4", "-o", "loop", image]),
            // A copy has the identity of what it was copied from.
            FileSystem::Xfs => Self::new(at, &["-t", "xfs", "-o", "loop,nouuid", image]),
        }
    }

    fn new(at: &Path, what: &[&str]) -> Self {
        fs::create_dir_all(at).expect("a directory");
        run(Command::new("mount").args(what).arg(at));
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmount = |how: &[&str]| {
            let mut unmount = Command::new("umount");
            unmount.args(how).arg(&self.0).stderr(Stdio::null());
            unmount.status().is_ok_and(|status| status.success())
        };
        // A killed process's last thread may hold it for a moment.
        let gone = unmount(&[]) || unmount(&["-l"]);
        assert!(gone || std::thread::panicking(), "{} stays mounted", self.0.display());
    }
}

const DRIVE: &str = "drive.img";
const DISK: &str = "disk.img";

/// Copies a directory or a file of one file system, sharing its bytes.
pub(crate) fn clone(from: &Path, to: &Path) {
    run(Command::new("cp").args(["-a", "--reflink=always"]).arg(from).arg(to));
}

fn make(image: &Path, mebibytes: u64, file_system: FileSystem) {
    let made = File::create(image).and_then(|made| made.set_len(mebibytes * 1024 * 1024));
    made.expect("a file in memory");
    let mut mkfs = match file_system {
        FileSystem::Ext4 => Command::new("mkfs.ext4"),
        FileSystem::Xfs => Command::new("mkfs.xfs"),
    };
    match file_system {
        FileSystem::Ext4 => run(mkfs.args(["-q", "-F"]).arg(image)),
        FileSystem::Xfs => run(mkfs.args(["-q", "-f", "-m", "reflink=1"]).arg(image)),
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("it is installed");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
}
