//! What an opening is refused with, for people: a code, an exit code, and what to do next.

use strongroom_protocol::operator::{Exit, Fault};
use strongroom_store::StoreError;
use strongroom_store::check::CheckError;
use strongroom_sys::locked::LockError;

use super::OpenError;
use crate::acts::restore_fault;
use crate::books::BooksError;
use crate::journal::JournalError;
use crate::keyring::KeyringError;
use crate::keys::DeriveError;
use crate::manifest::{ManifestError, Refusal};
use crate::seal::SealError;
use crate::settings::Differences;
use crate::slots::lacks_room;
use crate::store_fault::told;
use crate::tpm::standing::not_newest;

impl OpenError {
    /// The refusal for people: what happened and what to do.
    pub fn fault(&self) -> Fault {
        if let Some(fault) = lacks_locked_memory(self) {
            return fault;
        }
        let (code, exit, next) = match self {
            error if error.lacks_room() => (
                "SR-STORE-011",
                Exit::Error,
                "the disk is full, and nothing was damaged: free some space, then unseal again",
            ),
            Self::Books(BooksError::Refused(refusal)) => refused(*refusal),
            Self::Books(BooksError::Manifest(error)) => refused(error.refusal()),
            Self::Books(BooksError::NotNewest { checkpoint, .. }) => {
                return not_newest(self.to_string(), checkpoint);
            }
            Self::Books(BooksError::Check(CheckError::Io { .. })) => (
                "SR-STORE-011",
                Exit::Error,
                "the store is copied before it is opened: free some space, then unseal again",
            ),
            Self::Books(
                BooksError::Store(error) | BooksError::Check(CheckError::Original(error)),
            ) => match told(error) {
                Some((code, next)) => (code, Exit::Error, next),
                None => DAMAGED,
            },
            Self::Restore(error) => return restore_fault(error),
            Self::Books(_) | Self::Keyring(_) | Self::Malformed(_) => DAMAGED,
            Self::Journal(error) => journal_refused(error),
            Self::Seal(_) => (
                "SR-STORE-009",
                Exit::Corrupt,
                "keep the data directory as it is and restore a backup into another one",
            ),
            Self::Settings(differences) => return settings_changed(differences),
            Self::Derive(_) => ("SR-INTERNAL-002", Exit::Error, "report this as a defect"),
        };
        let next = Some(next.to_owned());
        Fault { code: code.to_owned(), message: self.to_string(), next, exit }
    }
}

/// The refusal where no place was left for a key: nothing is damaged then, and nothing is kept elsewhere instead.
pub fn lacks_locked_memory(error: &(dyn std::error::Error + 'static)) -> Option<Fault> {
    DeriveError::is_behind(error).then(|| Fault {
        code: "SR-LIMIT-004".to_owned(),
        message: LockError::Exhausted.to_string(),
        next: Some(
            "nothing was damaged: restart the appliance, then unseal again; if it comes back, report it"
                .to_owned(),
        ),
        exit: Exit::Error,
    })
}

fn settings_changed(differences: &Differences) -> Fault {
    let next = format!(
        "if this is meant, all of it: 'strongroom unseal --accept-settings {}'; if not, look who wrote strongroom.toml",
        differences.digest()
    );
    Fault {
        code: "SR-SETTINGS-001".to_owned(),
        message: differences.to_string(),
        next: Some(next),
        exit: Exit::Sealed,
    }
}

impl OpenError {
    /// Whether nothing is wrong but that the disk is full.
    fn lacks_room(&self) -> bool {
        match self {
            Self::Keyring(KeyringError::Slots(error))
            | Self::Seal(SealError::Slots(error))
            | Self::Books(
                BooksError::Manifest(ManifestError::Slots(error))
                | BooksError::Keyring(KeyringError::Slots(error)),
            ) => error.is_full(),
            Self::Books(
                BooksError::Store(StoreError::Io { kind, .. })
                | BooksError::Check(
                    CheckError::Io { kind, .. } | CheckError::Original(StoreError::Io { kind, .. }),
                ),
            ) => lacks_room(*kind),
            Self::Books(_)
            | Self::Keyring(_)
            | Self::Seal(_)
            | Self::Journal(_)
            | Self::Derive(_)
            | Self::Restore(_)
            | Self::Settings(_)
            | Self::Malformed(_) => false,
        }
    }
}

/// What does not open, and why is not known.
const DAMAGED: (&str, Exit, &str) = (
    "SR-STORE-003",
    Exit::Corrupt,
    "keep the data directory as it is and restore a backup into another one",
);

/// What to do about a hash tile where all entries hold.
const TILE_NEXT: &str = "hash tiles follow from the entries: move that file out of the journal's directory, keep it as evidence, and unseal again, which makes it anew";
/// About a bundle that is not here.
const GONE_NEXT: &str = "if they were archived, put the archive's own copy of that hash tile in its place; else keep the journal directory as evidence and bring back the newest copy of it";
/// About what does not hold over hash tiles of archived entries.
const ARCHIVE_NEXT: &str = "ask 'strongroom audit verify --archive DIR': a hash tile of archived entries that it names is mended by the archive's own copy of it; if it names none, keep journal and store as evidence and bring back the newest";

fn journal_refused(error: &JournalError) -> (&'static str, Exit, &'static str) {
    match error {
        JournalError::Tile { .. } => ("SR-JOURNAL-002", Exit::Corrupt, TILE_NEXT),
        JournalError::Gone { .. } => ("SR-JOURNAL-002", Exit::Corrupt, GONE_NEXT),
        JournalError::OverArchived { why, .. } => {
            let (code, exit, _) = journal_refused(why);
            (code, exit, ARCHIVE_NEXT)
        }
        JournalError::Damaged { .. } | JournalError::Below { .. } | JournalError::Oversized(_) => (
            "SR-JOURNAL-002",
            Exit::Corrupt,
            "keep the journal directory as evidence and bring back the newest copy of it",
        ),
        JournalError::Checkpoint => (
            "SR-JOURNAL-005",
            Exit::Corrupt,
            "the journal is another vault's, or was signed by somebody else: bring back this vault's",
        ),
        JournalError::Another { .. } => (
            "SR-JOURNAL-006",
            Exit::Spliced,
            "journal and store are not of one history: keep both as evidence and bring back the newest",
        ),
        JournalError::RolledBack { .. } => (
            "SR-JOURNAL-007",
            Exit::RolledBack,
            "an older journal was put in place: bring back the newest one",
        ),
        JournalError::StoreRolledBack { .. } => (
            "SR-STORE-005",
            Exit::RolledBack,
            "an older copy was put in place; bring back the newest, or restore a backup on purpose",
        ),
        JournalError::OldFormat => (
            "SR-JOURNAL-008",
            Exit::Error,
            "keep journal.jsonl elsewhere as the record of its time; a new journal begins without it",
        ),
        JournalError::Write(_)
        | JournalError::Read(_)
        | JournalError::Broken(_)
        | JournalError::Sink
        | JournalError::Stalled
        | JournalError::Full
        | JournalError::TooLong
        | JournalError::Slow
        | JournalError::Stopped => (
            "SR-JOURNAL-003",
            Exit::Error,
            "look at the disk's free space and the journal directory's owner, then unseal again",
        ),
    }
}

fn refused(refusal: Refusal) -> (&'static str, Exit, &'static str) {
    match refusal {
        Refusal::Corrupt => (
            "SR-STORE-004",
            Exit::Corrupt,
            "keep the data directory as it is and restore a backup into another one",
        ),
        Refusal::RolledBack { .. } => (
            "SR-STORE-005",
            Exit::RolledBack,
            "an older copy was put in place; bring back the newest, or restore a backup on purpose",
        ),
        Refusal::Spliced => (
            "SR-STORE-006",
            Exit::Spliced,
            "someone changed the files; keep them as evidence and restore a backup",
        ),
        Refusal::Foreign => (
            "SR-STORE-007",
            Exit::Foreign,
            "these files are of different vaults; bring back the ones that belong together",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::envelope::EnvelopeError;
    use crate::seal::{AttemptRefusal, PassphraseError, ShareRefusal};
    use crate::slots::SlotError;

    // Red when `is_behind` does not look at the causes.
    #[test]
    fn a_want_of_locked_memory_is_no_damage_wherever_it_is_met() {
        let none = || DeriveError::Memory(LockError::Exhausted);
        let envelope = || EnvelopeError::Derive(none());
        for error in [
            OpenError::Derive(none()),
            OpenError::Keyring(KeyringError::Derive(none())),
            OpenError::Keyring(KeyringError::Envelope(envelope())),
            OpenError::Books(BooksError::Keyring(KeyringError::Derive(none()))),
            OpenError::Books(BooksError::Envelope(envelope())),
            OpenError::Books(BooksError::Manifest(ManifestError::Derive(none()))),
            OpenError::Seal(SealError::Keyring(KeyringError::Derive(none()))),
        ] {
            let fault = error.fault();
            assert_eq!((fault.code.as_str(), fault.exit), ("SR-LIMIT-004", Exit::Error), "{error}");
        }
        let defect = OpenError::Derive(DeriveError::Defect).fault();
        assert_eq!(defect.code, "SR-INTERNAL-002");
        let refusals = [
            AttemptRefusal::Damaged(envelope()),
            AttemptRefusal::Passphrase(PassphraseError::Key(none())),
            AttemptRefusal::Share(ShareRefusal::Derive(none())),
        ];
        assert!(refusals.iter().all(|refusal| lacks_locked_memory(refusal).is_some()));
    }

    // Red when a journal over an archive is refused by another code than one without.
    #[test]
    fn an_archive_makes_no_refusal_milder() {
        for why in [
            JournalError::Another { entry: 7 },
            JournalError::Damaged { entry: 7, reason: "a line is not an entry" },
        ] {
            let over = JournalError::OverArchived {
                why: Box::new(why.clone()),
                last: "tile/0/001".to_owned(),
            };
            let (alone, over) = (OpenError::Journal(why).fault(), OpenError::Journal(over).fault());
            assert_eq!((&over.code, over.exit), (&alone.code, alone.exit));
            assert!(over.message.starts_with(&alone.message), "{}", over.message);
            assert!(over.next.unwrap().contains("audit verify --archive"));
        }
    }

    // Red when a full disk is told as a damaged one.
    #[test]
    fn a_disk_without_room_is_no_damage() {
        let no_room = || SlotError::Io(io::ErrorKind::StorageFull.into());
        let store = StoreError::Io { act: "write", kind: io::ErrorKind::QuotaExceeded };
        for error in [
            OpenError::Keyring(KeyringError::Slots(no_room())),
            OpenError::Seal(SealError::Slots(no_room())),
            OpenError::Books(BooksError::Manifest(ManifestError::Slots(no_room()))),
            OpenError::Books(BooksError::Store(store)),
        ] {
            let fault = error.fault();
            assert_eq!((fault.code.as_str(), fault.exit), ("SR-STORE-011", Exit::Error), "{error}");
        }
        let damaged = OpenError::Keyring(KeyringError::Slots(SlotError::NoValidSlot));
        assert_eq!(damaged.fault().exit, Exit::Corrupt);
    }
}
