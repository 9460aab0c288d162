//! The reserve: room on the disk that was taken beforehand, for saying why the journal stopped when it can say nothing itself.
//!
//! ```text
//! {"t":"2026-01-02T03:04:05.678Z","reason":"…"}\n …          then zeros, 16 KiB in all
//! ```
//! The file is written whole when it is made, and written over in place: it needs no room on a full disk. Its words become entries
//! when the journal is opened again, and are wiped then. They are not authenticated: reasons come from a closed list.
//!
//! Invariant: saying never blocks: a thread of its own writes, and what does not fit is not said.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use super::lines::rfc3339;
use super::place::Place;
use super::writer::spawn;
use super::{JournalError, disk};
use crate::clock;

/// The file's length.
const RESERVE_BYTES: usize = 16 * 1024;
/// Words that wait; one per way to stop is enough.
const MAX_WORDS: usize = 16;

/// Every reason that can stand in the reserve and in the entries made of it.
pub(super) const REASONS: &[&str] = &[
    "the disk is full",
    "the disk is read-only",
    "the disk failed",
    "the disk did not answer in time",
    "entries could not be handed to the disk",
    "the journal's file was taken away",
    "a group of entries was written in part",
    "a partial entry cannot be cut off",
    "a file that was begun cannot be taken away",
    "a full bundle could not be put in its place",
    "an entry that nobody waited for could not be kept",
    "a checkpoint could not be kept",
    "a required sink takes no entries",
];
const UNKNOWN: &str = "unreadable";

/// One word.
#[derive(Debug, Serialize, Deserialize)]
struct Word<'a> {
    t: &'a str,
    reason: &'a str,
}

/// A word that was found at opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) at: String,
    pub(crate) reason: &'static str,
}

/// Where to say that nothing can be written any more.
pub(super) struct LastWords {
    queue: Option<SyncSender<&'static str>>,
    kept: Arc<AtomicU64>,
}

impl LastWords {
    /// Makes the reserve or takes it over, and answers what stands in it.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn open(place: &Place) -> Result<(Self, Vec<Found>), JournalError> {
        let (file, found) = open(place).map_err(|error| JournalError::write(&error))?;
        let (queue, words) = sync_channel(MAX_WORDS);
        let kept = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&kept);
        // It ends when the journal lets go of the queue; nobody waits for it.
        drop(spawn("journal-reserve", move || keep_words(&file, &words, &counting))?);
        Ok((Self { queue: Some(queue), kept }, found))
    }

    /// No reserve, for a test that plays the disk.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self { queue: None, kept: Arc::default() }
    }

    /// Says it; never waits.
    pub(super) fn say(&self, reason: &'static str) {
        if let Some(queue) = &self.queue
            && queue.try_send(reason).is_err()
        {
            tracing::error!(reason, "the reserve takes no more words");
        }
    }

    /// How many words are on the disk.
    pub(super) fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }
}

fn open(place: &Place) -> io::Result<(File, Vec<Found>)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits());
    let mut file = options.open(place.reserve())?;
    let mut text = Vec::new();
    let limit = u64::try_from(RESERVE_BYTES).unwrap_or(u64::MAX);
    (&mut file).take(limit).read_to_end(&mut text)?;
    let found = read(&text);
    if text.len() < RESERVE_BYTES {
        file.write_all_at(&vec![0; RESERVE_BYTES], 0)?;
        disk::sync(&file)?;
        disk::sync_directory(place.root())?;
    }
    Ok((file, found))
}

pub(crate) fn read(text: &[u8]) -> Vec<Found> {
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    let lines = text.get(..end).unwrap_or_default().split(|byte| *byte == b'\n');
    let word = |line: &[u8]| {
        let word: Option<Word<'_>> = serde_json::from_slice(line).ok();
        let reason = word.as_ref().map_or(UNKNOWN, |word| {
            REASONS.iter().find(|known| **known == word.reason).copied().unwrap_or(UNKNOWN)
        });
        let at = word.and_then(|word| super::line::millis(word.t)).map(rfc3339).unwrap_or_default();
        Found { at, reason }
    };
    lines.filter(|line| !line.is_empty()).take(MAX_WORDS).map(word).collect()
}

/// Takes what was found out of the reserve, once it stands in the journal.
pub(super) fn wipe(place: &Place) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits());
    let file = options.open(place.reserve())?;
    file.write_all_at(&vec![0; RESERVE_BYTES], 0)?;
    disk::sync(&file)
}

fn keep_words(file: &File, words: &Receiver<&'static str>, kept: &AtomicU64) {
    let mut at = 0;
    while let Ok(reason) = words.recv() {
        let moment = rfc3339(clock::now());
        let Ok(mut line) = serde_json::to_vec(&Word { t: &moment, reason }) else { continue };
        line.push(b'\n');
        let end = usize::try_from(at).unwrap_or(usize::MAX).saturating_add(line.len());
        if end >= RESERVE_BYTES {
            return;
        }
        match file.write_all_at(&line, at).and_then(|()| file.sync_data()) {
            Ok(()) => {
                kept.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => tracing::error!(%error, reason, "the reserve cannot be written"),
        }
        at = u64::try_from(end).unwrap_or(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_and_an_unknown_reason_is_not_repeated() {
        let scratch = tempfile::tempdir().unwrap();
        let place = Place::new(scratch.path());
        let (words, found) = LastWords::open(&place).unwrap();
        assert!(found.is_empty());
        let before = std::fs::metadata(place.reserve()).unwrap().len();
        words.say(REASONS[0]);
        words.say("what somebody made up");
        while words.kept() < 2 {
            std::thread::yield_now();
        }
        assert_eq!(std::fs::metadata(place.reserve()).unwrap().len(), before);
        let (_, found) = LastWords::open(&place).unwrap();
        let reasons: Vec<_> = found.iter().map(|one| one.reason).collect();
        assert_eq!(reasons, [REASONS[0], UNKNOWN]);
        assert!(found.iter().all(|one| one.at.starts_with("20")));
        assert_eq!(LastWords::open(&place).unwrap().1, found, "they stay until they are recorded");
        wipe(&place).unwrap();
        assert!(LastWords::open(&place).unwrap().1.is_empty());
    }

    #[test]
    fn words_that_do_not_fit_are_not_kept_and_no_link_is_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let place = Place::new(scratch.path());
        let (file, _) = open(&place).unwrap();
        let (queue, words) = sync_channel(1000);
        for _ in 0..1000 {
            queue.send(REASONS[0]).unwrap();
        }
        drop(queue);
        let kept = AtomicU64::new(0);
        keep_words(&file, &words, &kept);
        let text = std::fs::read(place.reserve()).unwrap();
        assert_eq!(text.len(), RESERVE_BYTES);
        let lines = text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{")).count();
        assert_eq!(u64::try_from(lines).unwrap(), kept.load(Ordering::Relaxed));
        assert!(lines > 200);
        assert_eq!(read(&text).len(), MAX_WORDS);
        std::fs::rename(place.reserve(), scratch.path().join("theirs")).unwrap();
        std::os::unix::fs::symlink(scratch.path().join("theirs"), place.reserve()).unwrap();
        assert!(open(&place).is_err());
        assert!(wipe(&place).is_err());
        assert_eq!(std::fs::read(scratch.path().join("theirs")).unwrap(), text);
    }

    #[test]
    fn what_is_no_word_is_told_as_such() {
        let found = read(b"{\"t\":\"x\",\"reason\":\"the disk is full\"}\nrubbish\n\0\0");
        assert_eq!(found[0], Found { at: String::new(), reason: REASONS[0] });
        assert_eq!(found[1], Found { at: String::new(), reason: UNKNOWN });
        assert_eq!(found.len(), 2);
    }
}
