//! Backups by the clock: the supervisor makes them as `strongroom backup create` does, and keeps the newest.
//!
//! Invariant: a file is removed only if this schedule wrote it, and only after a newer one was restored by the keeper and
//! read back as it was written.
//! Invariant: a backup that fails never holds up anything; it is noted, and tried again, not before [`AGAIN_AFTER`].
//! Invariant: none is made that cannot be remembered, or into a directory that nobody prepared.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use strongroom_policy::moment::Moment;
use strongroom_protocol::ask::VaultState;
use strongroom_protocol::operator::backup::Care;
use strongroom_protocol::operator::{Check, Verdict};

use super::fetch::{self, Fetched, Target, Wish};
use super::place;
use super::recipients::Recipient;
use crate::failure::{Failure, Outcome};
use crate::files;
use crate::link::Link;
use crate::places::Places;
use crate::settings::Backup;
use crate::{out, render, status};

/// How soon a backup that failed is tried again, at most.
const AGAIN_AFTER: Duration = Duration::from_mins(10);
/// How often the schedule is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// And at least: the clock of the day may be set.
const LOOK_AT_LEAST: Duration = Duration::from_mins(1);

/// What the schedule knows of itself: `backups.json` in the install's directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    /// The files that it wrote and did not remove, oldest first.
    files: Vec<Kept>,
    /// Why the last try failed, if it did.
    failed: Option<Failed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Its name within the directory.
    name: String,
    /// When it was made, milliseconds since 1970.
    when: u64,
    /// The commit that it is of.
    commit: u64,
    /// SHA-256 of the file as it was read back.
    digest: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failed {
    when: u64,
    code: String,
    message: String,
}

/// The schedule within the supervisor.
#[derive(Debug)]
pub(crate) struct Clock {
    /// When the schedule is looked at again.
    next: Option<Instant>,
    running: Option<JoinHandle<Outcome<Duration>>>,
    /// No look before: none is due, or the last one failed, whether that could be noted or not.
    not_before: Option<Instant>,
}

impl Clock {
    /// Nothing runs yet.
    pub(crate) const fn new() -> Self {
        Self { next: None, running: None, not_before: None }
    }

    /// When to tick.
    pub(crate) fn next(&self) -> Instant {
        self.next.unwrap_or_else(Instant::now)
    }

    /// Makes a backup on a thread of its own if one is due.
    pub(crate) fn tick(&mut self, places: &Places, settings: Option<&Backup>) {
        let Some(settings) = settings else { return };
        if self.next() > Instant::now() {
            return;
        }
        self.next = Instant::now().checked_add(LOOK_EVERY);
        if self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        if let Some(ended) = self.running.take() {
            let wait = match ended.join() {
                Ok(Ok(wait)) => wait.min(LOOK_AT_LEAST),
                Ok(Err(_)) | Err(_) => settings.every.min(AGAIN_AFTER),
            };
            self.not_before = Instant::now().checked_add(wait);
        }
        if let Some(when) = self.not_before.filter(|when| Instant::now() < *when) {
            self.next = self.next.max(Some(when));
            return;
        }
        let (places, settings) = (places.clone(), settings.clone());
        let started = thread::Builder::new().name("backup".to_owned()).spawn(move || {
            look(&places, &settings, render::now()).inspect_err(|failure| {
                out::warn(&format!("the scheduled backup failed: {failure}"));
            })
        });
        match started {
            Ok(running) => self.running = Some(running),
            Err(error) => out::warn(&format!("no thread for the scheduled backup: {error}")),
        }
    }
}

/// Makes a backup if one is due and the vault is open; how long none will be due.
fn look(places: &Places, settings: &Backup, now: Moment) -> Outcome<Duration> {
    let memory = read(places)?;
    let due = due(&memory, settings.every, now.unix_millis());
    if let Some(wait) = due.checked_sub(now.unix_millis()).filter(|wait| *wait > 0) {
        return Ok(Duration::from_millis(wait));
    }
    // A sealed vault makes none, and that is no failure of the schedule: `doctor` tells the age of the last one.
    let Ok(mut link) = Link::open(&places.operator_socket()) else { return Ok(Duration::ZERO) };
    if status::ask(&mut link)?.state != VaultState::Ready {
        return Ok(Duration::ZERO);
    }
    // A backup that could not be remembered would be made again and again, and never removed.
    write(places, &memory)?;
    match make(&mut link, settings, now) {
        Ok(kept) => {
            out::say(&format!("scheduled backup: {} (commit {})", kept.name, kept.commit));
            let memory = Memory { files: [memory.files, vec![kept]].concat(), failed: None };
            write(places, &memory)?;
            write(places, &prune(memory, settings))?;
            Ok(Duration::ZERO)
        }
        Err(failure) => {
            let failed = Failed {
                when: now.unix_millis(),
                code: failure.code.to_string(),
                message: failure.message.clone(),
            };
            write(places, &Memory { failed: Some(failed), ..memory })?;
            Err(failure)
        }
    }
}

/// When the next one is due, milliseconds since 1970.
fn due(memory: &Memory, every: Duration, now: u64) -> u64 {
    let span = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match (&memory.failed, memory.files.last()) {
        (Some(failed), _) => failed.when.saturating_add(span(every.min(AGAIN_AFTER))),
        // A clock that was set back must not silence the schedule.
        (None, Some(last)) if last.when <= now => last.when.saturating_add(span(every)),
        (None, Some(_) | None) => now,
    }
}

/// Makes one, has it restored by the keeper, and reads back what was written.
fn make(link: &mut Link, settings: &Backup, now: Moment) -> Outcome<Kept> {
    let directory = &settings.directory;
    place::check(directory)?;
    let recipients = settings
        .recipients
        .iter()
        .map(|text| Recipient::parse(text).map_err(Failure::argument))
        .collect::<Outcome<Vec<_>>>()?;
    let name = fetch::name_of(now, !recipients.is_empty());
    let path = directory.join(&name);
    let wish =
        Wish { target: Target::File(path.clone()), recipients: &recipients, care: Care::Proved };
    let Fetched { made, bytes, .. } = fetch::fetch(link, &wish)?;
    let (length, digest) = digest(&path)?;
    if length != bytes || made.proved.is_none() {
        return Err(Failure::file(&path, "is not what was written to it"));
    }
    Ok(Kept { name, when: now.unix_millis(), commit: made.commit, digest })
}

/// Removes the oldest beyond those that are to be kept; the newest was proved. What cannot be read or removed now is tried
/// again after the next backup.
fn prune(memory: Memory, settings: &Backup) -> Memory {
    let keep = usize::try_from(settings.keep).unwrap_or(usize::MAX).max(1);
    let mut excess = memory.files.len().saturating_sub(keep);
    let stays = |one: &Kept| {
        if excess == 0 {
            return true;
        }
        excess -= 1;
        match remove(&settings.directory.join(&one.name), &one.digest) {
            Ok(()) => false,
            Err(failure) => {
                out::warn(&format!("an old backup is still there: {failure}"));
                true
            }
        }
    };
    let mut files = memory.files;
    files.retain(stays);
    Memory { files, ..memory }
}

/// Removes a file of ours. Somebody may have taken it away, or put another one in its place: that is left there and forgotten.
fn remove(path: &Path, expected: &str) -> Outcome {
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::file(path, error)),
        Ok(_) => {}
    }
    let (_, found) = digest(path)?;
    if found == expected {
        return fs::remove_file(path).map_err(|error| Failure::file(path, error));
    }
    out::warn(&format!("{} was changed; it is left there", path.display()));
    Ok(())
}

fn digest(path: &Path) -> Outcome<(u64, String)> {
    let failed = |error: std::io::Error| Failure::file(path, error);
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let (mut length, mut buffer) = (0_u64, vec![0_u8; 256 * 1024]);
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok((length, hex::encode(hash.finalize())));
        }
        length += u64::try_from(read).unwrap_or(u64::MAX);
        hash.update(buffer.get(..read).unwrap_or_default());
    }
}

fn read(places: &Places) -> Outcome<Memory> {
    let path = places.backups();
    match files::read(&path)? {
        None => Ok(Memory::default()),
        Some(text) => serde_json::from_str(&text).map_err(|error| {
            Failure::file(&path, error)
                .next("remove it: the files that it names are then kept for ever")
        }),
    }
}

fn write(places: &Places, memory: &Memory) -> Outcome {
    let text = serde_json::to_string_pretty(memory).map_err(Failure::argument)?;
    files::replace(&places.backups(), text.as_bytes(), 0o600, None)
}

/// How old the newest backup is.
pub(crate) fn check(places: &Places, settings: Option<&Backup>) -> Check {
    let told = |verdict, detail: String, fix: Option<&str>| Check {
        name: "backup".to_owned(),
        verdict,
        detail,
        fix: fix.map(ToOwned::to_owned),
    };
    let Some(settings) = settings else {
        let fix = "set [backup] directory in strongroom.toml, then start again";
        return told(Verdict::Warn, "none is scheduled".to_owned(), Some(fix));
    };
    let memory = place::check(&settings.directory).and_then(|()| read(places));
    let memory = match memory {
        Ok(memory) => memory,
        Err(failure) => return told(Verdict::Fail, failure.message, failure.next.as_deref()),
    };
    let age = memory.files.last().map(|last| {
        let millis = render::now().unix_millis().saturating_sub(last.when);
        (Duration::from_millis(millis), last)
    });
    let failed = memory
        .failed
        .map(|failed| format!("; the last try failed: {} {}", failed.code, failed.message));
    let failed = failed.unwrap_or_default();
    match age {
        None => told(
            Verdict::Fail,
            format!("none was made yet{failed}"),
            Some("strongroom unseal; then see what 'strongroom up' says"),
        ),
        Some((age, last)) => {
            let detail = format!("{} is {} old{failed}", last.name, render::span(age));
            // Twice the interval: one was missed.
            if age > settings.every * 2 {
                told(Verdict::Fail, detail, Some("strongroom backup create --to FILE says why"))
            } else if failed.is_empty() {
                told(Verdict::Ok, detail, None)
            } else {
                told(Verdict::Warn, detail, Some("strongroom backup create --to FILE says why"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::{Failed, Kept, Memory, due, place, prune};
    use crate::settings::Backup;

    const DAY: Duration = Duration::from_hours(24);
    const DAY_MS: u64 = 24 * 3_600 * 1_000;

    fn kept(name: &str, when: u64, content: &[u8]) -> Kept {
        use sha2::{Digest, Sha256};
        let digest = hex::encode(Sha256::digest(content));
        Kept { name: name.to_owned(), when, commit: 1, digest }
    }

    #[test]
    fn one_is_due_at_once_then_by_the_clock_and_soon_after_a_failure() {
        let none = Memory::default();
        assert_eq!(due(&none, DAY, 1_000), 1_000);
        let made = Memory { files: vec![kept("a", 1_000, b"")], failed: None };
        assert_eq!(due(&made, DAY, 2_000), 1_000 + DAY_MS);
        assert_eq!(due(&made, DAY, 500), 500, "a clock that was set back");
        let failed = Failed { when: 5_000, code: String::new(), message: String::new() };
        let failed = Memory { failed: Some(failed), ..made };
        assert_eq!(due(&failed, DAY, 6_000), 5_000 + 600_000);
        assert_eq!(due(&failed, Duration::from_secs(1), 6_000), 6_000);
    }

    /// Red when the digest is not compared.
    #[test]
    fn only_files_of_its_own_beyond_the_newest_are_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().to_owned();
        for name in ["a", "b", "c", "d", "foreign"] {
            fs::write(directory.join(name), name).unwrap();
        }
        fs::write(directory.join("b"), "somebody else's").unwrap();
        let files = ["a", "b", "c", "d"].map(|name| kept(name, 1, name.as_bytes())).to_vec();
        let settings = Backup { directory, every: DAY, keep: 2, recipients: Vec::new() };
        let left = prune(Memory { files, failed: None }, &settings);
        assert_eq!(left.files.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["c", "d"]);
        let mut names: Vec<_> = fs::read_dir(scratch.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["b", "c", "d", "foreign"]);
    }

    /// Red when an unreadable file is forgotten.
    #[test]
    fn a_file_that_cannot_be_read_now_is_tried_again_and_one_that_is_gone_is_forgotten() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().to_owned();
        // No file, whoever looks: root reads everything else.
        fs::create_dir(directory.join("a")).unwrap();
        fs::write(directory.join("c"), "c").unwrap();
        let files = ["a", "b", "c", "d"].map(|name| kept(name, 1, name.as_bytes())).to_vec();
        let settings = Backup { directory, every: DAY, keep: 1, recipients: Vec::new() };
        let left = prune(Memory { files, failed: None }, &settings);
        assert_eq!(left.files.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["a", "d"]);
        assert!(!scratch.path().join("c").exists());
    }

    /// Red when the marker is not asked for.
    #[test]
    fn nothing_is_written_where_nobody_prepared_a_place() {
        let scratch = tempfile::tempdir().unwrap();
        let mount = scratch.path().join("mount");
        assert_eq!(place::check(&mount).unwrap_err().code, "SR-BACKUP-019");
        fs::create_dir(&mount).unwrap();
        assert_eq!(place::check(&mount).unwrap_err().code, "SR-BACKUP-019");
        place::prepare(&mount).unwrap();
        place::prepare(&mount).unwrap();
        assert_eq!(place::check(&mount), Ok(()));
        let other = scratch.path().join("made/below");
        place::prepare(&other).unwrap();
        assert_eq!(place::check(&other), Ok(()));
    }
}
