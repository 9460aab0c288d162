//! The keyring's keys: of owners, whose records die with them, and of generations.
//!
//! Invariant: a change of the keyring runs on a thread that may wait for the disk, and is durable before it is answered.
//! Invariant: a keyring in doubt closes the vault; one that is full changes nothing.

use std::sync::Arc;

use strongroom_policy::id::TenantId;
use strongroom_protocol::operator::keys::{Cipher, KeyState};
use strongroom_protocol::operator::{Answer, Fault};
use tokio::task::spawn_blocking;

use super::{Act, fault};
use crate::books::TenantKeys;
use crate::keeper::After;
use crate::keyring::{KeyringError, KeyringFile, MAX_KEYS, ShredId};
use crate::keys::{Algorithm, RestingShredKey};
use crate::vault::Vault;

impl Act<'_> {
    /// The shred key of a new owner, durable and known to the books.
    pub(super) async fn make_shred_key(&self, owner: ShredId) -> Result<RestingShredKey, Fault> {
        let key = self
            .change_keyring(move |keyring| {
                keyring.add_shred_key(owner, &mut getrandom::fill)?;
                keyring.keyring().shred_key(owner).cloned()
            })
            .await?;
        let copy = key.clone();
        self.vault(|vault| {
            vault.books.hold_shred(owner, copy);
            Ok(())
        })?;
        Ok(key)
    }

    /// The key that is to replace an owner's shred key; both stand until [`Self::settle_successor`].
    pub(super) async fn make_successor(&self, owner: ShredId) -> Result<RestingShredKey, Fault> {
        self.change_keyring(move |keyring| {
            keyring.add_successor(owner, &mut getrandom::fill)?;
            keyring.keyring().successor(owner).cloned().ok_or(KeyringError::Unknown)
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

    /// Destroys the shred keys of owners whose records are gone, in both slots; answers the keyring's generation.
    pub(super) async fn destroy_shred_keys(&self, owners: Vec<ShredId>) -> Result<u64, Fault> {
        self.vault(|vault| {
            for owner in &owners {
                vault.books.forget_shred(*owner);
            }
            Ok(())
        })?;
        self.change_keyring(move |keyring| {
            keyring.remove_shred_keys(&owners, &mut getrandom::fill)?;
            Ok(keyring.generation().0)
        })
        .await
    }

    /// Destroys a tenant's root and its owners' shred keys, in both slots; answers the keyring's generation.
    pub(super) async fn destroy_tenant(
        &self,
        tenant: TenantId,
        owners: Vec<ShredId>,
    ) -> Result<u64, Fault> {
        self.vault(|vault| {
            for owner in &owners {
                vault.books.forget_shred(*owner);
            }
            Ok(())
        })?;
        let keys = self.tenant_keys(move |keyring| {
            keyring.remove_tenant(tenant, &owners, &mut getrandom::fill)
        });
        let keys = keys.await?;
        self.vault(|vault| {
            vault.books.turn_to(keys);
            Ok(())
        })?;
        self.change_keyring(|keyring| Ok(keyring.generation().0)).await
    }

    pub(super) async fn key_rotate(&self) -> Result<Answer, Fault> {
        let next = self.vault(|vault| Ok(vault.books.generations().epoch.0.saturating_add(1)))?;
        self.begin("key.rotate", format!("epoch {next}")).await?;
        self.start_epoch().await?;
        self.key_status()
    }

    /// A new generation of keys for every write from now on; old records are rewritten in the background. For whoever
    /// has the turn: a rotation of the keys, or of the root key above them.
    pub(super) async fn start_epoch(&self) -> Result<(), Fault> {
        let keys = self.tenant_keys(|keyring| keyring.start_epoch(&mut getrandom::fill).map(drop));
        let keys = keys.await?;
        self.vault(|vault| {
            vault.books.turn_to(keys);
            Ok(())
        })?;
        self.resume_sweep();
        Ok(())
    }

    /// Destroys the generations that have no record left, and refuses old formats.
    pub(super) async fn retire_old_epochs(&self) -> Result<(), Fault> {
        let keys = self.tenant_keys(|keyring| keyring.retire_old_epochs(&mut getrandom::fill));
        let keys = keys.await?;
        self.vault(|vault| {
            vault.books.turn_to(keys);
            Ok(())
        })
    }

    /// Changes the keyring, and answers every tenant's keys as they are then.
    pub(super) async fn tenant_keys(
        &self,
        change: impl FnOnce(&mut KeyringFile) -> Result<(), KeyringError> + Send + 'static,
    ) -> Result<TenantKeys, Fault> {
        let (first, algorithm) =
            self.vault(|vault| Ok((vault.tables.first(), vault.books.generations().algorithm)))?;
        self.change_keyring(move |keyring| {
            change(keyring)?;
            TenantKeys::of(keyring.keyring(), first, algorithm)
        })
        .await
    }

    pub(super) fn key_status(&self) -> Result<Answer, Fault> {
        self.vault(|vault| {
            let state = vault.books.generations();
            let many = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
            let few = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            let epochs = state.epochs.iter().map(|(epoch, count)| (epoch.0, many(*count)));
            Ok(Answer::Keys(Box::new(KeyState {
                epoch: state.epoch.0,
                epochs: epochs.collect(),
                records: many(state.records),
                old_records: many(state.old),
                sweep: vault.sweep.clone(),
                lowest_format: state.lowest_format.code(),
                cipher: match state.algorithm {
                    Algorithm::Aes256Gcm => Cipher::Aes256Gcm,
                    Algorithm::ChaCha20Poly1305 => Cipher::Chacha20Poly1305,
                },
                keys: few(state.keys),
                most_keys: few(MAX_KEYS),
            })))
        })
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
        self.keeper.close("keyring failed", After::Faulty(faulty)).await;
        failed
    }
}

fn full(error: &KeyringError) -> Fault {
    let next = "delete credentials, people or workspaces that are no longer used, and let a \
                rotation under way end ('strongroom key status')";
    fault("SR-LIMIT-003", error.to_string(), next)
}
