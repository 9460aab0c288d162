//! Fetching a backup from the keeper into a file that appears whole.
//!
//! Invariant: an existing file is never overwritten; what was not finished leaves no file under the name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use strongroom_policy::moment::Moment;
use strongroom_protocol::operator::backup::{BackupAnswer, BackupRequest, Care, Made};

use super::ask;
use super::recipients::{Layer, Recipient};
use crate::failure::{Failure, Outcome};
use crate::files;
use crate::link::Link;
use crate::{out, render};

/// Where a backup goes.
pub(crate) enum Target {
    /// A file that does not exist yet.
    File(PathBuf),
    /// A pipe.
    StandardOutput,
}

/// A backup to be made.
pub(crate) struct Wish<'a> {
    /// Where it goes.
    pub(crate) target: Target,
    /// To whom it is encrypted besides.
    pub(crate) recipients: &'a [Recipient],
    /// Whether it is restored first.
    pub(crate) care: Care,
}

/// A backup that was made.
pub(crate) struct Fetched {
    /// Its file, unless it went down a pipe.
    pub(crate) path: Option<PathBuf>,
    /// What the keeper says of it.
    pub(crate) made: Made,
    /// How long the file is.
    pub(crate) bytes: u64,
}

/// A file's usual name.
pub(crate) fn name_of(now: Moment, aged: bool) -> String {
    let stamp: String = render::moment(now).chars().filter(char::is_ascii_alphanumeric).collect();
    format!("strongroom-{stamp}.backup{}", if aged { ".age" } else { "" })
}

/// Makes a backup and fetches it.
pub(crate) fn fetch(link: &mut Link, wish: &Wish<'_>) -> Outcome<Fetched> {
    let Wish { target, recipients, care } = wish;
    match target {
        Target::StandardOutput => {
            if io::stdout().is_terminal() {
                return Err(Failure::argument("a backup is no text: redirect it, or name a file"));
            }
            let (made, bytes, _) = pull(link, io::stdout().lock(), (recipients, *care))?;
            Ok(Fetched { path: None, made, bytes })
        }
        Target::File(path) => {
            if path.symlink_metadata().is_ok() {
                return Err(Failure::file(path, "exists; a backup is never written over a file"));
            }
            let draft = Draft::beside(path)?;
            let (made, bytes, out) =
                pull(link, BufWriter::new(draft.file()?), (recipients, *care))?;
            let file = out.into_inner().map_err(|error| Failure::file(path, error.error()))?;
            file.sync_all().map_err(|error| Failure::file(path, error))?;
            draft.publish(path)?;
            Ok(Fetched { path: Some(path.clone()), made, bytes })
        }
    }
}

/// Counts what is written.
struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += u64::try_from(written).unwrap_or(u64::MAX);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn pull<W: Write>(
    link: &mut Link,
    out: W,
    (recipients, care): (&[Recipient], Care),
) -> Outcome<(Made, u64, W)> {
    let BackupAnswer::Made(made) = ask(link, BackupRequest::Create(care))? else {
        return Err(Failure::unexpected());
    };
    let failed = |error: io::Error| {
        Failure::argument(format!("the backup cannot be written: {error}"))
            .next("free some space, or name another place with --to")
    };
    let mut layer = Layer::over(Counted { out, bytes: 0 }, recipients)?;
    let mut progress = Progress::of("fetched", made.bytes);
    let mut fetched = 0_u64;
    loop {
        let BackupAnswer::Part(part) = ask(link, BackupRequest::Next(made.transfer))? else {
            return Err(Failure::unexpected());
        };
        if part.is_empty() {
            break;
        }
        layer.write_all(&part).map_err(failed)?;
        fetched += u64::try_from(part.len()).unwrap_or(u64::MAX);
        progress.show(fetched);
    }
    progress.end();
    if fetched != made.bytes {
        return Err(Failure::unexpected());
    }
    let mut counted = layer.finish().map_err(failed)?;
    counted.flush().map_err(failed)?;
    Ok((made, counted.bytes, counted.out))
}

/// A file under another name until it is whole; removed when it never is.
struct Draft(Option<PathBuf>);

impl Draft {
    fn beside(path: &Path) -> Outcome<Self> {
        let name = path.file_name().ok_or_else(|| Failure::file(path, "names no file"))?;
        let mut draft = std::ffi::OsString::from(".");
        draft.push(name);
        draft.push(".part");
        let draft = path.with_file_name(draft);
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::file(&draft, error));
            }
            Ok(()) | Err(_) => {}
        }
        Ok(Self(Some(draft)))
    }

    fn file(&self) -> Outcome<File> {
        let path = self.0.as_deref().unwrap_or_else(|| Path::new(""));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options.open(path).map_err(|error| Failure::file(path, error))
    }

    fn publish(mut self, path: &Path) -> Outcome {
        let Some(draft) = self.0.take() else { return Err(Failure::unexpected()) };
        let moved = renameat2(AT_FDCWD, &draft, AT_FDCWD, path, RenameFlags::RENAME_NOREPLACE);
        if let Err(error) = moved {
            self.0 = Some(draft);
            return Err(Failure::file(path, error));
        }
        File::open(files::parent(path))
            .and_then(|parent| parent.sync_all())
            .map_err(|error| Failure::file(path, error))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(draft) = &self.0 {
            // What could not be removed is encrypted, and the next try removes it.
            let _left = fs::remove_file(draft);
        }
    }
}

/// A bar for whoever watches; silent without a terminal.
pub(crate) struct Progress {
    verb: &'static str,
    whole: u64,
    shown: Option<u64>,
}

impl Progress {
    /// Begins.
    pub(crate) fn of(verb: &'static str, whole: u64) -> Self {
        Self { verb, whole, shown: None }
    }

    /// Shows how far it is, when that is another per cent.
    pub(crate) fn show(&mut self, done: u64) {
        let per_cent =
            done.saturating_mul(100).checked_div(self.whole.max(1)).unwrap_or(100).min(100);
        if self.shown != Some(per_cent) && io::stderr().is_terminal() {
            let bars = usize::try_from(per_cent / 5).unwrap_or(20);
            out::ask(&format!("\r[{:<20}] {per_cent:3} % {}", "#".repeat(bars), self.verb));
            self.shown = Some(per_cent);
        }
    }

    /// Ends the line.
    pub(crate) fn end(&self) {
        if self.shown.is_some() {
            out::say("");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use strongroom_policy::moment::Moment;

    use super::{Draft, name_of};

    #[test]
    fn a_backup_appears_whole_private_and_never_over_a_file() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("one.backup");
        let draft = Draft::beside(&path).unwrap();
        draft.file().unwrap().write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(draft);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing half is left");
        let draft = Draft::beside(&path).unwrap();
        draft.file().unwrap().write_all(b"whole").unwrap();
        draft.publish(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let second = Draft::beside(&path).unwrap();
        second.file().unwrap().write_all(b"other").unwrap();
        assert!(second.publish(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_says_when() {
        let name = name_of(Moment::from_unix_millis(1_795_000_000_000), true);
        assert!(name.starts_with("strongroom-2026") && name.ends_with("Z.backup.age"), "{name}");
    }
}
