//! What the open vault knows of its witnesses: what each has seen, and whether it waits for one.
//!
//! ```text
//! opened ──▶ waiting ──every required witness answers──▶ open
//!                │ PATIENCE                               ▲
//!                └──▶ narrowed ── calls are made, ────────┘
//!                                 powers only shrink
//! journal/witnessed/<name, hex>    the checkpoint that it cosigned last
//! ```
//! Invariant: what waits opens by answers over the number that was drawn when the vault was opened, or when an operator lets go, after
//! the wait, of the witness that does not come.
//! Invariant: without an answer nobody gets a right that they had not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use strongroom_policy::moment::Moment;
use strongroom_protocol::operator::witness::Awaited;
use strongroom_tlog::checkpoint::{BadCheckpoint, Checkpoint};
use strongroom_tlog::cosignature::{Nonce, WitnessKey};
use strongroom_tlog::key::Name;
use strongroom_tlog::note::MAX_NOTE_BYTES;
use strongroom_tlog::{Note, Size, Verifier};

/// How long calls wait for a witness after the vault was opened.
pub const PATIENCE: Duration = Duration::from_mins(2);
/// Most witnesses.
pub const MAX_WITNESSES: usize = 32;
/// Longest name of one that is enrolled.
pub const MAX_NAME_BYTES: usize = 64;
/// Where their checkpoints lie, in the journal's directory.
const DIRECTORY: &str = "witnessed";

/// An enrolled witness, as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessRecord {
    /// Its verifier key.
    pub key: String,
    /// Whether the vault waits for it when it is unsealed.
    pub required: bool,
    /// When it was enrolled.
    pub created: Moment,
}

/// What a witness saw last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How many entries.
    pub size: Size,
    /// When it signed, seconds since 1970.
    pub at: u64,
}

/// What the open vault knows of its witnesses.
pub struct Witnesses {
    seen: BTreeMap<Name, Seen>,
    gate: Gate,
}

/// Whether the vault waits.
enum Gate {
    Open,
    Waiting { nonce: Nonce, missing: BTreeSet<Name>, until: Instant },
}

/// What a witness showed, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Who.
    pub name: Name,
    /// The checkpoint.
    pub head: Checkpoint,
    /// With its signatures.
    pub note: Note,
    /// When it was cosigned, seconds since 1970.
    pub at: u64,
}

impl Witnesses {
    /// Those of a vault that is being opened: it waits for the required ones.
    pub fn begin(required: BTreeSet<Name>, nonce: [u8; 32], now: Instant) -> Self {
        let until = now.checked_add(PATIENCE).unwrap_or(now);
        let gate = if required.is_empty() {
            Gate::Open
        } else {
            Gate::Waiting { nonce: Nonce(nonce), missing: required, until }
        };
        Self { seen: BTreeMap::new(), gate }
    }

    /// Whether calls may be made.
    pub fn let_calls(&self, now: Instant) -> bool {
        match &self.gate {
            Gate::Open => true,
            Gate::Waiting { until, .. } => now >= *until,
        }
    }

    /// How long calls wait still.
    pub fn calls_wait(&self, now: Instant) -> Option<Duration> {
        match &self.gate {
            Gate::Open => None,
            Gate::Waiting { until, .. } => Some(until.saturating_duration_since(now)),
        }
    }

    /// Whether anybody may get a right that they have not.
    pub const fn let_grow(&self) -> bool {
        matches!(self.gate, Gate::Open)
    }

    /// The number to answer over, while it waits.
    pub const fn nonce(&self) -> Option<Nonce> {
        match &self.gate {
            Gate::Open => None,
            Gate::Waiting { nonce, .. } => Some(*nonce),
        }
    }

    /// Whom it waits for, and how long calls do.
    pub fn awaited(&self, now: Instant) -> Option<Awaited> {
        match &self.gate {
            Gate::Open => None,
            Gate::Waiting { missing, until, .. } => {
                let left = until.saturating_duration_since(now);
                let left = left.as_secs().saturating_add(u64::from(left.subsec_nanos() > 0));
                Some(Awaited {
                    witnesses: missing.iter().map(ToString::to_string).collect(),
                    calls_in_secs: u32::try_from(left).unwrap_or(u32::MAX),
                })
            }
        }
    }

    /// Takes in an answer that was verified; says whether it was waited for.
    pub fn answered(&mut self, name: &Name) -> bool {
        let Gate::Waiting { missing, .. } = &mut self.gate else { return false };
        let was_missing = missing.remove(name);
        if missing.is_empty() {
            self.gate = Gate::Open;
        }
        was_missing
    }

    /// Takes in what a witness saw.
    pub fn saw(&mut self, name: Name, seen: Seen) {
        self.seen.insert(name, seen);
    }

    /// What a witness saw last.
    pub fn seen(&self, name: &Name) -> Option<Seen> {
        self.seen.get(name).copied()
    }

    /// A witness was let go: it is not waited for any more.
    pub fn forget(&mut self, name: &Name) {
        self.seen.remove(name);
        self.answered(name);
    }
}

impl Shown {
    /// Reads what a witness shows: the log's own signature and the witness's must both hold.
    ///
    /// # Errors
    /// When either does not.
    pub fn verify(note: &str, key: &WitnessKey, log: &Verifier) -> Result<Self, BadCheckpoint> {
        let note = Note::parse(note.as_bytes())?;
        let head = Checkpoint::open(&note, log)?;
        let at = key.verify(&note)?.seconds();
        Ok(Self { name: key.name().clone(), head, note, at })
    }
}

/// The file of a witness: names may hold what a file name may not.
fn file(journal: &Path, name: &Name) -> PathBuf {
    journal.join(DIRECTORY).join(hex::encode(name.as_str()))
}

/// Keeps what a witness showed beside the journal; durable when it answers. Blocks.
///
/// # Errors
/// When the disk refuses.
pub fn keep(journal: &Path, shown: &Shown) -> io::Result<()> {
    let directory = journal.join(DIRECTORY);
    match DirBuilder::new().mode(0o700).create(&directory) {
        Ok(()) => File::open(journal)?.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let path = file(journal, &shown.name);
    let draft = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&draft)?;
    file.write_all(shown.note.encode().as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, &path)?;
    File::open(&directory)?.sync_all()
}

/// What was kept of a witness, if it holds. Blocks.
pub fn kept(journal: &Path, key: &WitnessKey, log: &Verifier) -> Option<Shown> {
    let most = u64::try_from(MAX_NOTE_BYTES).unwrap_or(u64::MAX);
    let mut text = String::new();
    File::open(file(journal, key.name())).ok()?.take(most).read_to_string(&mut text).ok()?;
    Shown::verify(&text, key, log).ok()
}

/// Takes away what was kept of a witness that was let go. Blocks.
///
/// # Errors
/// When the disk refuses.
pub fn forget(journal: &Path, name: &Name) -> io::Result<()> {
    match fs::remove_file(file(journal, name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use strongroom_tlog::cosignature::{Timestamp, Witness};
    use strongroom_tlog::{Hash, Signer};

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn both() -> BTreeSet<Name> {
        [name("usb"), name("cellar")].into()
    }

    #[test]
    fn a_vault_waits_for_every_required_witness() {
        let now = Instant::now();
        let mut waiting = Witnesses::begin(both(), [7; 32], now);
        assert!(!waiting.let_calls(now) && !waiting.let_grow());
        assert_eq!(waiting.nonce(), Some(Nonce([7; 32])));
        assert!(waiting.answered(&name("usb")));
        assert!(!waiting.answered(&name("usb")), "once is enough");
        assert!(!waiting.answered(&name("stranger")));
        assert!(!waiting.let_calls(now) && !waiting.let_grow());
        assert_eq!(waiting.awaited(now).unwrap().witnesses, ["cellar"]);
        assert!(waiting.answered(&name("cellar")));
        assert!(waiting.let_calls(now) && waiting.let_grow());
        assert_eq!((waiting.nonce(), waiting.awaited(now)), (None, None));
    }

    #[test]
    fn without_an_answer_calls_go_on_and_powers_do_not_grow() {
        let now = Instant::now();
        let waiting = Witnesses::begin(both(), [7; 32], now);
        let just_before = now + Duration::from_millis(119_999);
        assert!(!waiting.let_calls(just_before));
        assert_eq!(waiting.awaited(just_before).unwrap().calls_in_secs, 1);
        let after = now + PATIENCE;
        assert!(waiting.let_calls(after) && !waiting.let_grow());
        assert_eq!(waiting.awaited(after).unwrap().calls_in_secs, 0);
        assert!(!waiting.let_grow(), "however long it takes");
    }

    #[test]
    fn a_witness_that_was_let_go_is_not_waited_for() {
        let now = Instant::now();
        let mut waiting = Witnesses::begin(both(), [7; 32], now);
        waiting.forget(&name("usb"));
        assert_eq!(waiting.awaited(now).unwrap().witnesses, ["cellar"]);
        waiting.forget(&name("cellar"));
        assert!(waiting.let_calls(now) && waiting.let_grow());
    }

    #[test]
    fn a_vault_without_required_witnesses_waits_for_nobody() {
        let open = Witnesses::begin(BTreeSet::new(), [7; 32], Instant::now());
        assert!(open.let_calls(Instant::now()) && open.let_grow());
        assert_eq!(open.nonce(), None);
    }

    #[test]
    fn what_a_witness_showed_is_kept_beside_the_journal() {
        let scratch = tempfile::tempdir().unwrap();
        let log = Signer::from_seed(name("log"), &[1; 32]).unwrap();
        let witness = Witness::from_seed(name("host/usb"), &[2; 32]).unwrap();
        let head = Checkpoint { origin: name("log").into(), size: Size(3), root: Hash([4; 32]) };
        let mut note = head.sign(&log).unwrap();
        let key = witness.key();
        let unsigned = Shown::verify(&note.encode(), &key, &log.verifier());
        assert!(unsigned.is_err());
        note.push(witness.cosign(&head, Timestamp::new(1_700_000_000).unwrap()));
        let shown = Shown::verify(&note.encode(), &key, &log.verifier()).unwrap();
        assert_eq!((shown.head.size, shown.at), (Size(3), 1_700_000_000));
        assert_eq!(kept(scratch.path(), &key, &log.verifier()), None);
        keep(scratch.path(), &shown).unwrap();
        keep(scratch.path(), &shown).unwrap();
        assert_eq!(kept(scratch.path(), &key, &log.verifier()), Some(shown));
        let other = Witness::from_seed(name("host/usb"), &[3; 32]).unwrap().key();
        assert_eq!(kept(scratch.path(), &other, &log.verifier()), None);
        forget(scratch.path(), &name("host/usb")).unwrap();
        forget(scratch.path(), &name("host/usb")).unwrap();
        assert_eq!(kept(scratch.path(), &key, &log.verifier()), None);
    }
}
