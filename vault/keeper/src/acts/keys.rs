//! The keyring's keys: of owners, whose records die with them, and of generations.
//!
//! Invariant: a change of the keyring runs on a thread that may wait for the disk, and is durable before it is answered.
//! Invariant: a keyring in doubt closes the vault; one that is full changes nothing.

use std::sync::Arc;

use strongroom_protocol::operator::Fault;
use tokio::task::spawn_blocking;

use super::{Act, fault};
use crate::keeper::State;
use crate::keyring::{KeyringError, KeyringFile, ShredId};
use crate::keys::{DeriveError, ShredKey};
use crate::vault::Vault;

impl Act<'_> {
    /// The shred key of a new owner, durable and known to the books.
    pub(super) async fn make_shred_key(&self, owner: ShredId) -> Result<ShredKey, Fault> {
        let key = self
            .change_keyring(move |keyring| {
                keyring.add_shred_key(owner, &mut getrandom::fill)?;
                keyring.keyring().shred_key(owner)?.copy().map_err(KeyringError::from)
            })
            .await?;
        let copy = key.copy().map_err(defect)?;
        self.vault(|vault| {
            vault.books.hold_shred(owner, copy);
            Ok(())
        })?;
        Ok(key)
    }

    /// The key that is to replace an owner's shred key; both stand until [`Self::settle_successor`].
    pub(super) async fn make_successor(&self, owner: ShredId) -> Result<ShredKey, Fault> {
        self.change_keyring(move |keyring| {
            keyring.add_successor(owner, &mut getrandom::fill)?;
            let successor = keyring.keyring().successor(owner).ok_or(KeyringError::Unknown)?;
            successor.copy().map_err(KeyringError::from)
        })
        .await
    }

    /// Destroys the shred key that was replaced, in both slots.
    pub(super) async fn settle_successor(&self, owner: ShredId) -> Result<(), Fault> {
        self.change_keyring(move |keyring| {
            keyring.settle_successors(&[owner], &mut getrandom::fill)
        })
        .await
    }

    /// Destroys the shred keys of owners whose records are gone, in both slots.
    pub(super) async fn destroy_shred_keys(&self, owners: Vec<ShredId>) -> Result<(), Fault> {
        self.vault(|vault| {
            for owner in &owners {
                vault.books.forget_shred(*owner);
            }
            Ok(())
        })?;
        self.change_keyring(move |keyring| keyring.remove_shred_keys(&owners, &mut getrandom::fill))
            .await
    }

    /// Changes the keyring on a thread that may wait for the disk.
    async fn change_keyring<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut KeyringFile) -> Result<T, KeyringError> + Send + 'static,
    ) -> Result<T, Fault> {
        let (unsealed, commit) =
            self.vault(|vault| Ok((Arc::clone(&vault.unsealed), vault.books.commit())))?;
        match spawn_blocking(move || Vault::change_keyring((&unsealed, commit), change)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error @ (KeyringError::Full | KeyringError::Epochs))) => Err(full(&error)),
            Ok(Err(error)) => Err(self.keyring_failed(&error.to_string()).await),
            Err(_) => Err(self.keyring_failed("its writer has ended").await),
        }
    }

    /// A keyring in doubt closes the vault: memory may be ahead of the disk.
    async fn keyring_failed(&self, why: &str) -> Fault {
        let failed = fault(
            "SR-STORE-008",
            format!("the keyring cannot be written: {why}"),
            "look at the disk's free space and health, then restart and unseal",
        );
        let faulty = failed.clone();
        self.keeper.close("keyring failed", |_| State::Faulty(faulty)).await;
        failed
    }
}

fn full(error: &KeyringError) -> Fault {
    let next = "delete credentials, people or workspaces that are no longer used, and let a \
                rotation under way end ('strongroom key status')";
    fault("SR-LIMIT-003", error.to_string(), next)
}

fn defect(error: DeriveError) -> Fault {
    fault("SR-INTERNAL-009", error.to_string(), "report this as a defect")
}
