//! Changes of the keyring, each durable in both slots when it answers.
//!
//! Invariant: a change that is refused changes nothing; after a failed write the vault must seal itself.

use strongroom_policy::id::TenantId;

use super::{Keyring, KeyringError, KeyringFile, MAX_EPOCHS, ShredId};
use crate::keys::{Epoch, FillRandom, Format, KEY_BYTES, Key, KeyringKey, Resting};

impl KeyringFile {
    /// Draws the root of a new tenant.
    ///
    /// # Errors
    /// `Exists`, `Full`, or the write failed.
    pub fn add_tenant(
        &mut self,
        tenant: TenantId,
        random: FillRandom<'_>,
    ) -> Result<(), KeyringError> {
        self.keyring.has_room(1)?;
        if self.keyring.tenants.contains_key(&tenant) {
            return Err(KeyringError::Exists);
        }
        let root = Resting::make(&self.keyring.rest, random)?;
        self.keyring.tenants.insert(tenant, root);
        self.write_both(random)
    }

    /// Destroys a tenant's root and the shred keys of its owners in one change: every record of it is dead when this answers.
    ///
    /// # Errors
    /// `Unknown` when there is no such tenant (nothing is changed then), or the write failed.
    pub fn remove_tenant(
        &mut self,
        tenant: TenantId,
        owners: &[ShredId],
        random: FillRandom<'_>,
    ) -> Result<(), KeyringError> {
        self.keyring.tenants.remove(&tenant).ok_or(KeyringError::Unknown)?;
        for owner in owners {
            self.keyring.shreds.remove(owner);
            self.keyring.successors.remove(owner);
        }
        self.write_both(random)
    }

    /// Draws the shred key of a new owner.
    ///
    /// # Errors
    /// `Exists`, `Full`, or the write failed.
    pub fn add_shred_key(
        &mut self,
        owner: ShredId,
        random: FillRandom<'_>,
    ) -> Result<(), KeyringError> {
        self.add_shred_keys(&[owner], random)
    }

    /// Draws the shred keys of several owners in one write.
    ///
    /// # Errors
    /// `Exists`, `Full` (nothing is changed then), or the write failed.
    pub fn add_shred_keys(
        &mut self,
        owners: &[ShredId],
        random: FillRandom<'_>,
    ) -> Result<(), KeyringError> {
        self.keyring.has_room(owners.len())?;
        if owners.iter().any(|owner| self.keyring.shreds.contains_key(owner)) {
            return Err(KeyringError::Exists);
        }
        for owner in owners {
            let key = Resting::make(&self.keyring.rest, random)?;
            self.keyring.shreds.insert(*owner, key);
        }
        self.write_both(random)
    }

    /// Destroys owners' shred keys: their records are dead when this answers.
    ///
    /// # Errors
    /// `Unknown` when one of them has none (nothing is changed then), or the write failed.
    pub fn remove_shred_keys(
        &mut self,
        owners: &[ShredId],
        random: FillRandom<'_>,
    ) -> Result<(), KeyringError> {
        if owners.iter().any(|owner| !self.keyring.shreds.contains_key(owner)) {
            return Err(KeyringError::Unknown);
        }
        for owner in owners {
            self.keyring.shreds.remove(owner);
            self.keyring.successors.remove(owner);
        }
        self.write_both(random)
    }

    /// Draws the key that is to replace an owner's shred key; the old one stays until [`Self::settle_successors`].
    ///
    /// # Errors
    /// `Unknown`, `Full`, or the write failed.
    pub fn add_successor(
        &mut self,
        owner: ShredId,
        random: FillRandom<'_>,
    ) -> Result<(), KeyringError> {
        self.keyring.has_room(1)?;
        if !self.keyring.shreds.contains_key(&owner) {
            return Err(KeyringError::Unknown);
        }
        let key = Resting::make(&self.keyring.rest, random)?;
        self.keyring.successors.insert(owner, key);
        self.write_both(random)
    }

    /// Ends every replacement: the successors of `taken` take their place, and what they replace is destroyed; all others
    /// are destroyed themselves.
    ///
    /// # Errors
    /// When the write failed.
    pub fn settle_successors(
        &mut self,
        taken: &[ShredId],
        random: FillRandom<'_>,
    ) -> Result<(), KeyringError> {
        for (owner, key) in std::mem::take(&mut self.keyring.successors) {
            if taken.contains(&owner) {
                self.keyring.shreds.insert(owner, key);
            }
        }
        self.write_both(random)
    }

    /// Begins a new generation of tenant keys; old records stay readable until `retire_old_epochs`.
    ///
    /// # Errors
    /// `Epochs`, `Full`, or the write failed.
    pub fn start_epoch(&mut self, random: FillRandom<'_>) -> Result<Epoch, KeyringError> {
        let epoch = self.keyring.add_epoch(random)?;
        self.write_both(random)?;
        Ok(epoch)
    }

    /// Seals the keyring under another key from now on, and begins a new generation of tenant keys with it: between the
    /// writes of its two slots the newer one counts, so that one of the two keys opens at any time.
    ///
    /// # Errors
    /// `Epochs`, `Full` (nothing is changed then), or the write failed.
    pub fn move_under(
        &mut self,
        key: KeyringKey,
        random: FillRandom<'_>,
    ) -> Result<Epoch, KeyringError> {
        let epoch = self.keyring.add_epoch(random)?;
        self.key = key;
        self.write_both(random)?;
        Ok(epoch)
    }

    /// Destroys every generation but the newest and refuses old formats from now on, after the last record was rewritten.
    ///
    /// # Errors
    /// When the write failed.
    pub fn retire_old_epochs(&mut self, random: FillRandom<'_>) -> Result<(), KeyringError> {
        let newest = self.keyring.epoch;
        self.keyring.epochs.retain(|epoch, _| *epoch == newest);
        self.keyring.lowest_format = Format::NEWEST;
        self.write_both(random)
    }

    /// Wipes every key, and refuses every write from now on.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub fn wipe(&mut self) -> Result<(), KeyringError> {
        self.slots.abandon();
        self.keyring.epochs.clear();
        self.keyring.tenants.clear();
        self.keyring.shreds.clear();
        self.keyring.successors.clear();
        self.keyring.system = Key::from_bytes(&[0; KEY_BYTES])?;
        self.key = Key::from_bytes(&[0; KEY_BYTES])?;
        Ok(())
    }

    /// Notes that `commit` was reached, with the next change: an older manifest is refused from then on.
    pub fn reach(&mut self, commit: u64) {
        self.keyring.commit_floor = self.keyring.commit_floor.max(commit);
    }

    /// Notes that `commit` was reached: an older manifest is refused from now on.
    ///
    /// # Errors
    /// When the write failed.
    pub fn raise_commit_floor(
        &mut self,
        commit: u64,
        random: FillRandom<'_>,
    ) -> Result<(), KeyringError> {
        self.keyring.commit_floor = self.keyring.commit_floor.max(commit);
        self.write_both(random)
    }
}

impl Keyring {
    fn add_epoch(&mut self, random: FillRandom<'_>) -> Result<Epoch, KeyringError> {
        self.has_room(1)?;
        if self.epochs.len() >= MAX_EPOCHS {
            return Err(KeyringError::Epochs);
        }
        let epoch = Epoch(self.epoch.0.checked_add(1).ok_or(KeyringError::Full)?);
        self.epochs.insert(epoch, Key::make(random)?);
        self.epoch = epoch;
        Ok(epoch)
    }
}

#[cfg(test)]
impl KeyringFile {
    /// As the first version left it: records of its format are admitted.
    pub(crate) fn admit_first_format(&mut self) {
        self.keyring.lowest_format = Format::One;
        self.write_both(&mut getrandom::fill).unwrap();
    }
}
