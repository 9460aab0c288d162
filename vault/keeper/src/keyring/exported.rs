//! The keyring on its way into a backup and out of one.
//!
//! Invariant: it leaves sealed under the same R, and is opened by nothing else.
//! Invariant: a restored keyring begins above every generation and every commit of the disk that was lost.

use std::path::Path;

use super::{CAPACITY, KEYRING_FILE, KeyringError, KeyringFile, open_payload, seal};
use crate::backup::next_life;
use crate::keys::{Algorithm, FillRandom, KeyringKey, StoreId};
use crate::slots::{Generation, SlotFile};

impl KeyringFile {
    /// The keyring as it lies in its slot, sealed anew: for a backup.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub fn export(&self, random: FillRandom<'_>) -> Result<(Generation, Vec<u8>), KeyringError> {
        let generation = self.generation();
        Ok((generation, seal(&self.key, &self.keyring, generation, self.algorithm, random)?))
    }

    /// The key of this keyring, to open another one of the same R.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub fn copy_key(&self) -> Result<KeyringKey, KeyringError> {
        Ok(self.key.copy()?)
    }

    /// Writes the keyring of a restored vault out of an exported one: above `floor` in commits and in generations of a
    /// life of their own, so that no keyring and no manifest of the lost disk is taken for a newer one.
    ///
    /// # Errors
    /// When it does not open under `key`, there is one already, or it cannot be written.
    pub fn restore(
        directory: &Path,
        key: KeyringKey,
        (store, exported, payload): (StoreId, Generation, &[u8]),
        (floor, algorithm): (u64, Algorithm),
        random: FillRandom<'_>,
    ) -> Result<Self, KeyringError> {
        let mut keyring = open_payload(&key, (store, exported), payload)?;
        keyring.commit_floor = keyring.commit_floor.max(floor);
        // A backup that is restored a second time begins a life that the first restore did not have.
        let life = next_life(exported.0).ok_or(KeyringError::Full)?.max(floor);
        let generations = [1, 2].map(|number| Generation(life.saturating_add(number)));
        let [one, two] = generations;
        let first = seal(&key, &keyring, one, algorithm, random)?;
        let second = seal(&key, &keyring, two, algorithm, random)?;
        let payloads = (generations, [first.as_slice(), &second]);
        let slots = SlotFile::create_at(&directory.join(KEYRING_FILE), CAPACITY, payloads)?;
        Ok(Self { slots, key, algorithm, keyring })
    }
}

/// Writes an exported keyring as it was exported, for an unsealing that restores the vault it is of.
///
/// # Errors
/// When there is one already, or it cannot be written.
pub fn stage(
    directory: &Path,
    (generation, payload): (Generation, &[u8]),
) -> Result<(), KeyringError> {
    // Only the newer slot opens: a payload belongs to its generation.
    let before = generation.0.checked_sub(1).ok_or(KeyringError::Malformed)?;
    let slots = ([Generation(before), generation], [payload, payload]);
    drop(SlotFile::create_at(&directory.join(KEYRING_FILE), CAPACITY, slots)?);
    Ok(())
}
