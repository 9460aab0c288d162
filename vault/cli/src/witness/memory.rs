//! What a witness keeps: its key, the key of the one log that it watches, and the newest checkpoint that it has signed.
//!
//! ```text
//! witness.key   seed, for this user only     witness.pub   verifier key, type 0x04     lock
//! log.pub       the pinned audit key         checkpoint    the log's note, cosigned
//! ```
//! Invariant: `checkpoint` only ever moves on: to a tree that begins with the one before; it is replaced whole and durably.
//! Distrusts: the vault.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use strongroom_tlog::checkpoint::{BadCheckpoint, Checkpoint};
use strongroom_tlog::cosignature::{Nonce, Timestamp, Witness, WitnessKey};
use strongroom_tlog::hash::empty_root;
use strongroom_tlog::key::Name;
use strongroom_tlog::note::{BadNote, MAX_NOTE_BYTES};
use strongroom_tlog::{Hash, Note, Size, Verifier, verify_consistency};
use zeroize::Zeroizing;

use crate::audit::{directory, pinned};
use crate::failure::{Code, Failure, Outcome};
use crate::files;

/// A witness's directory, open.
#[derive(Debug)]
pub(crate) struct Memory {
    place: PathBuf,
    witness: Witness,
    log: Verifier,
    kept: Option<Kept>,
    _lock: Flock<File>,
}

/// The newest checkpoint that was signed.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) head: Checkpoint,
    pub(crate) note: Note,
}

/// Why a checkpoint is not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It covers less than one that was signed.
    #[error("the vault shows {shown} entries; it has shown {kept} before: it was rolled back")]
    Smaller {
        /// By the new one.
        shown: Size,
        /// By the one that is kept.
        kept: Size,
    },
    /// It is not a continuation.
    #[error(
        "the vault's journal of {shown} entries does not continue the {kept} that it has shown before: its history was rewritten"
    )]
    Forked {
        /// By the new one.
        shown: Size,
        /// By the one that is kept.
        kept: Size,
    },
    /// The entries of a mirror do not lead to it.
    #[error("the entries that the vault shows do not lead to the root that it signed for {shown}")]
    Entries {
        /// By the new one.
        shown: Size,
    },
    /// It is by another key, or none.
    #[error("the checkpoint is not to be believed: {0}")]
    Unsigned(BadCheckpoint),
}

impl Refusal {
    /// Whether what is kept shows that the vault was rolled back or forked.
    pub(crate) const fn is_evidence(&self) -> bool {
        match self {
            Self::Smaller { .. } | Self::Forked { .. } => true,
            Self::Entries { .. } | Self::Unsigned(_) => false,
        }
    }

    /// What the command ends with.
    pub(crate) fn failure(&self) -> Failure {
        let (code, exit) = match self {
            Self::Smaller { .. } => (Code::WitnessSmaller, 13),
            Self::Forked { .. } | Self::Entries { .. } => (Code::WitnessForked, 14),
            Self::Unsigned(_) => (Code::WitnessUnsigned, 15),
        };
        Failure::new(code, self.to_string())
            .next("nothing was signed; keep the witness's directory as evidence, and see the runbook, \"Witnesses\"")
            .exit(exit)
    }
}

/// Makes a witness's directory and key.
pub(crate) fn make(place: &Path, name: &Name, log: &Verifier) -> Outcome<WitnessKey> {
    files::directory(place, 0o700)?;
    let mut seed = Zeroizing::new([0_u8; 32]);
    getrandom::fill(seed.as_mut_slice())
        .map_err(|error| Failure::new(Code::WitnessState, format!("no randomness: {error}")))?;
    let witness = Witness::from_seed(name.clone(), &seed).map_err(Failure::argument)?;
    let mut text = Zeroizing::new(Vec::with_capacity(SEED_FILE_BYTES));
    text.extend_from_slice(SEED_HEADING);
    let mut digits = Zeroizing::new([0_u8; 64]);
    hex::encode_to_slice(seed.as_slice(), digits.as_mut_slice()).map_err(Failure::argument)?;
    text.extend_from_slice(digits.as_slice());
    text.push(b'\n');
    // Never over another witness's key: the file must not exist.
    files::create(&place.join("witness.key"), &text, 0o600)?;
    files::replace(
        &place.join("witness.pub"),
        format!("{}\n", witness.key().vkey()).as_bytes(),
        0o644,
        None,
    )?;
    pinned::write(&place.join("log.pub"), log)?;
    Ok(witness.key())
}

impl Memory {
    /// Opens a directory for this process alone.
    pub(crate) fn open(place: &Path) -> Outcome<Self> {
        let bad = |why: &str| {
            Failure::new(Code::WitnessState, format!("{}: {why}", place.display()))
                .next("strongroom witness init --state DIR --name NAME, or plug in the right disk")
        };
        let text = files::read(&place.join("witness.pub"))?
            .ok_or_else(|| bad("is no witness's directory"))?;
        let key = WitnessKey::parse(text.trim_end()).map_err(|_| bad("witness.pub is damaged"))?;
        let log = pinned::read(&place.join("log.pub"))?.ok_or_else(|| bad("log.pub is missing"))?;
        let seed =
            seed(&place.join("witness.key"))?.ok_or_else(|| bad("witness.key is damaged"))?;
        let witness = Witness::from_seed(key.name().clone(), &seed)
            .map_err(|_| bad("witness.key is damaged"))?;
        if witness.key() != key {
            return Err(bad("witness.key and witness.pub are of different witnesses"));
        }
        let path = place.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|error| Failure::file(&path, error))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| bad("another witness runs on it"))?;
        let kept = kept(&place.join("checkpoint"), &log, &key)?;
        Ok(Self { place: place.to_owned(), witness, log, kept, _lock: lock })
    }

    /// Whose checkpoints it signs.
    pub(crate) const fn log(&self) -> &Verifier {
        &self.log
    }

    /// Its own key.
    pub(crate) fn key(&self) -> WitnessKey {
        self.witness.key()
    }

    /// What it keeps.
    pub(crate) const fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// How many entries that covers.
    pub(crate) fn size(&self) -> Size {
        self.kept.as_ref().map_or(Size(0), |kept| kept.head.size)
    }

    /// Whether a checkpoint continues the one that is kept.
    pub(crate) fn judge(&self, note: &str, proof: &[Hash]) -> Result<Kept, Refusal> {
        let note = Note::parse(note.as_bytes()).map_err(|error| Refusal::Unsigned(error.into()))?;
        let head = Checkpoint::open(&note, &self.log).map_err(Refusal::Unsigned)?;
        if head.origin.as_str() != self.log.name().as_str() {
            return Err(Refusal::Unsigned(BadNote::Unsigned.into()));
        }
        let (size, root) = match &self.kept {
            Some(kept) => (kept.head.size, kept.head.root),
            None => (Size(0), empty_root()),
        };
        if head.size < size {
            return Err(Refusal::Smaller { shown: head.size, kept: size });
        }
        verify_consistency((size, root), (head.size, head.root), proof)
            .map_err(|_| Refusal::Forked { shown: head.size, kept: size })?;
        Ok(Kept { head, note })
    }

    /// Cosigns a checkpoint that was judged, and answers once it is on the disk for certain.
    pub(crate) fn keep(&mut self, judged: Kept, now: Timestamp) -> Outcome<&Kept> {
        let Kept { head, note } = judged;
        let mut cosigned = Note::new(note.text()).map_err(Failure::argument)?;
        // What others cosigned is theirs to keep.
        for line in note.lines().iter().filter(|line| line.name() == self.log.name()) {
            cosigned.push(line.clone());
        }
        cosigned.push(self.witness.cosign(&head, now));
        let bytes = cosigned.encode();
        files::replace(&self.place.join("checkpoint"), bytes.as_bytes(), 0o644, None)?;
        Ok(self.kept.insert(Kept { head, note: cosigned }))
    }

    /// The answer to a vault that waits.
    pub(crate) fn answer(&self, nonce: Nonce, head: &Checkpoint) -> Vec<u8> {
        self.witness.answer(nonce, head)
    }
}

/// The checkpoint that is kept; a damaged one is not taken for none, for then anything would follow it.
fn kept(path: &Path, log: &Verifier, key: &WitnessKey) -> Outcome<Option<Kept>> {
    let Some(bytes) = directory::read(path, MAX_NOTE_BYTES)? else { return Ok(None) };
    let bad = |error: BadCheckpoint| {
        Failure::new(Code::WitnessState, format!("{}: {error}", path.display()))
            .next("take the directory for damaged: keep it as evidence, and make a new witness")
    };
    let note = Note::parse(&bytes).map_err(|error| bad(error.into()))?;
    let head = Checkpoint::open(&note, log).map_err(bad)?;
    key.verify(&note).map_err(bad)?;
    Ok(Some(Kept { head, note }))
}

fn seed(path: &Path) -> Outcome<Option<Zeroizing<[u8; 32]>>> {
    let Some(bytes) = directory::read(path, SEED_FILE_BYTES)?.map(Zeroizing::new) else {
        return Ok(None);
    };
    let digits = bytes.strip_prefix(SEED_HEADING).and_then(|rest| rest.strip_suffix(b"\n"));
    let mut seed = Zeroizing::new([0_u8; 32]);
    let read = digits.map(|digits| hex::decode_to_slice(digits, seed.as_mut_slice()));
    Ok(matches!(read, Some(Ok(()))).then_some(seed))
}

const SEED_HEADING: &[u8] = b"strongroom witness seed 1\n";
const SEED_FILE_BYTES: usize = 128;
