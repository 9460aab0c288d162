//! Keeping the manifest in step with each group of commits, and journal and manifest with each other: each commit notes how
//! far the journal is on the disk, and the journal names each commit's state.
//!
//! Invariant: the number that is shared is that of a commit which the manifest has settled.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use strongroom_store::{Change, Key, Value, Witness, WitnessError};

use crate::clock;
use crate::journal::Journal;
use crate::journal::entry::Entry;
use crate::journal::found::{Head, StoreState};
use crate::keys::RecordId;
use crate::manifest::{MARK_RECORD, Manifest, ManifestError};
use crate::seal::Unsealed;

/// The manifest as the store's witness.
pub(super) struct ManifestWitness {
    /// Locked on the writer's thread, in commits and between them, and by who notes a TPM's counter in it.
    pub(super) manifest: Arc<Mutex<Manifest>>,
    pub(super) unsealed: Arc<Mutex<Unsealed>>,
    /// The last settled commit.
    pub(super) commit: Arc<AtomicU64>,
    pub(super) journal: JournalLink,
}

/// The journal as the store's writer sees it: absent until it is open.
#[derive(Clone, Default)]
pub struct JournalLink(Arc<OnceLock<Arc<Journal>>>);

impl JournalLink {
    /// From now on each commit is told to this journal; the first one stays.
    pub fn open(&self, journal: &Arc<Journal>) {
        if self.0.set(Arc::clone(journal)).is_err() {
            tracing::error!("the store's writer has a journal already");
        }
    }

    /// How far the journal is on the disk, for the manifest's next state.
    fn note_in(&self, manifest: &mut Manifest) {
        if let Some(signed) = self.0.get().and_then(|journal| journal.checkpoint()) {
            manifest.note(Head { size: signed.size, root: signed.root });
        }
    }
}

/// The vault is being sealed: the journal, finished before the store, is noted once more.
impl Drop for ManifestWitness {
    fn drop(&mut self) {
        let mut manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        self.journal.note_in(&mut manifest);
        match manifest.keep_note(&mut getrandom::fill) {
            // A commit in doubt is settled by the next unseal, and must stay as it is.
            Ok(()) | Err(ManifestError::OutOfOrder) => {}
            Err(error) => tracing::error!(%error, "the journal's end is not in the manifest"),
        }
    }
}

impl Witness for ManifestWitness {
    fn before(&mut self, changes: &[Change]) -> Result<Option<(Key, Value)>, WitnessError> {
        let mut manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut delta = manifest.delta();
        for change in changes {
            let record = RecordId(change.key.as_bytes());
            let before = change.before.as_ref().map(Value::as_bytes);
            match (&change.after, before) {
                (Some(after), before) => delta.put(record, before, after.as_bytes()),
                (None, Some(before)) => delta.delete(record, before),
                (None, None) => Ok(()),
            }
            .map_err(WitnessError::new)?;
        }
        let change = delta.change();
        self.journal.note_in(&mut manifest);
        let generation =
            self.unsealed.lock().unwrap_or_else(PoisonError::into_inner).keyring().generation();
        let mark =
            manifest.begin(change, generation, &mut getrandom::fill).map_err(WitnessError::new)?;
        drop(manifest);
        let key = Key::new(MARK_RECORD).map_err(WitnessError::new)?;
        let value = Value::new(&mark.0).map_err(WitnessError::new)?;
        Ok(Some((key, value)))
    }

    fn after(&mut self) -> Result<(), WitnessError> {
        let mut manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let commit = manifest.finish(&mut getrandom::fill).map_err(WitnessError::new)?;
        self.commit.store(commit, Ordering::Release);
        if let Some(journal) = self.journal.0.get() {
            let StoreState { commit, digest } = manifest.state();
            journal.note(&Entry::State { commit, digest }, clock::now());
        }
        Ok(())
    }
}
