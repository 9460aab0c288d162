//! Bringing a backup, and journals that survived, to the keeper.
//!
//! Invariant: one part of a file is in memory, whatever its length.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use strongroom_protocol::operator::Request;
use strongroom_protocol::operator::backup::{
    BackupAnswer, BackupRequest, BroughtFile, JournalPath, MAX_JOURNALS, MAX_PART_BYTES, TransferId,
};

use super::fetch::Progress;
use super::{ask, recipients};
use crate::failure::{Failure, Outcome};
use crate::link::Link;

/// Most files of one journal's directory.
const MAX_JOURNAL_FILES: usize = 100_000;

/// How every file of age begins.
const AGE_BEGINS: &[u8] = b"age-encryption.org/";

/// A file of a journal, and how the keeper calls it.
pub(crate) struct JournalFile {
    place: PathBuf,
    called: BroughtFile,
}

/// Brings a backup, out of age if an identity is given.
pub(crate) fn backup(link: &mut Link, file: &Path, identity: Option<&Path>) -> Outcome<TransferId> {
    let source = File::open(file).map_err(|error| Failure::file(file, error))?;
    let whole = source.metadata().map_or(0, |found| found.len());
    let mut source = BufReader::new(source);
    let begins = source.fill_buf().map_err(|error| Failure::file(file, error))?;
    if identity.is_none() && begins.starts_with(AGE_BEGINS) {
        let what = format!("{} is encrypted with age", file.display());
        return Err(Failure::argument(what).next("say --age-identity FILE"));
    }
    let mut source: Box<dyn Read> = match identity {
        Some(identity) => Box::new(recipients::open(source, identity)?),
        None => Box::new(source),
    };
    let BackupAnswer::Bring(transfer) = ask(link, BackupRequest::Bring)? else {
        return Err(Failure::unexpected());
    };
    let mut progress = Progress::of("brought", whole);
    put(link, (transfer, &BroughtFile::Backup), (file, &mut source), &mut progress)?;
    progress.end();
    Ok(transfer)
}

/// The files of journals that survived.
pub(crate) fn find_journals(directories: &[PathBuf]) -> Outcome<Vec<JournalFile>> {
    if directories.len() > usize::from(MAX_JOURNALS) {
        return Err(Failure::argument(format!("at most {MAX_JOURNALS} journals")));
    }
    let mut files = Vec::new();
    for (number, directory) in (0_u8..).zip(directories) {
        let before = files.len();
        walk(number, (directory, ""), &mut files)?;
        if files.len() == before {
            return Err(Failure::file(directory, "holds no journal"));
        }
    }
    Ok(files)
}

fn walk(number: u8, (directory, below): (&Path, &str), files: &mut Vec<JournalFile>) -> Outcome {
    let failed = |error: io::Error| Failure::file(directory, error);
    let mut entries: Vec<_> =
        fs::read_dir(directory).and_then(Iterator::collect).map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let kind = entry.file_type().map_err(failed)?;
        // What no journal has is left where it is.
        let Ok(called) = JournalPath::parse(&path) else { continue };
        if kind.is_dir() {
            walk(number, (&entry.path(), &path), files)?;
        } else if kind.is_file() {
            if files.len() >= MAX_JOURNAL_FILES {
                return Err(Failure::file(directory, "holds too many files"));
            }
            let called = BroughtFile::Journal { directory: number, path: called };
            files.push(JournalFile { place: entry.path(), called });
        }
    }
    Ok(())
}

/// Brings journals' files.
pub(crate) fn journals(link: &mut Link, transfer: TransferId, files: &[JournalFile]) -> Outcome {
    for JournalFile { place, called } in files {
        let file = File::open(place).map_err(|error| Failure::file(place, error))?;
        let whole = file.metadata().map_or(0, |found| found.len());
        let mut progress = Progress::of("brought (journal)", whole);
        put(link, (transfer, called), (place, &mut BufReader::new(file)), &mut progress)?;
        progress.end();
    }
    Ok(())
}

fn put(
    link: &mut Link,
    (transfer, file): (TransferId, &BroughtFile),
    (place, source): (&Path, &mut dyn Read),
    progress: &mut Progress,
) -> Outcome {
    let most = u64::try_from(MAX_PART_BYTES).unwrap_or(u64::MAX);
    let mut brought = 0_u64;
    loop {
        let mut bytes = Vec::with_capacity(MAX_PART_BYTES);
        (&mut *source)
            .take(most)
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::file(place, error))?;
        if bytes.is_empty() {
            return Ok(());
        }
        brought += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        link.tell(&Request::Backup(BackupRequest::Put { transfer, file: file.clone(), bytes }))?;
        progress.show(brought);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::find_journals;

    #[test]
    fn a_journals_files_are_found_and_links_are_not_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let journal = scratch.path().join("journal");
        fs::create_dir_all(journal.join("tile/0")).unwrap();
        for name in ["journal.jsonl", "tile/0/000", ".hidden"] {
            fs::write(journal.join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", journal.join("link")).unwrap();
        let found = find_journals(&[journal]).unwrap();
        assert_eq!(found.len(), 2);
        assert!(find_journals(&[scratch.path().join("none")]).is_err());
        fs::create_dir(scratch.path().join("empty")).unwrap();
        assert!(find_journals(&[scratch.path().join("empty")]).is_err());
    }
}
