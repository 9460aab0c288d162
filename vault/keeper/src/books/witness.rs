//! Keeping the manifest in step with each group of commits.
//!
//! Invariant: the number that is shared is that of a commit which the manifest has settled.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use strongroom_store::{Change, Key, Value, Witness, WitnessError};

use crate::keys::RecordId;
use crate::manifest::{MARK_RECORD, Manifest};
use crate::seal::Unsealed;

/// The manifest as the store's witness.
pub(super) struct ManifestWitness {
    /// Locked on the writer's thread alone, in commits and between them: nobody waits for it.
    pub(super) manifest: Arc<Mutex<Manifest>>,
    pub(super) unsealed: Arc<Mutex<Unsealed>>,
    /// The last settled commit.
    pub(super) commit: Arc<AtomicU64>,
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
        let generation =
            self.unsealed.lock().unwrap_or_else(PoisonError::into_inner).keyring().generation();
        let mark =
            manifest.begin(change, generation, &mut getrandom::fill).map_err(WitnessError::new)?;
        let key = Key::new(MARK_RECORD).map_err(WitnessError::new)?;
        let value = Value::new(&mark.0).map_err(WitnessError::new)?;
        Ok(Some((key, value)))
    }

    fn after(&mut self) -> Result<(), WitnessError> {
        let mut manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let commit = manifest.finish(&mut getrandom::fill).map_err(WitnessError::new)?;
        self.commit.store(commit, Ordering::Release);
        Ok(())
    }
}
