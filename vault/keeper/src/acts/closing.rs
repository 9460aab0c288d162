//! Closing the vault, so that it stays closed.
//!
//! Invariant: an operator's seal is marked on the disk before the keys are dropped, and holds until somebody opens the vault.
//! Invariant: a disk that does not take the mark does not keep the keys in memory.

use std::time::Duration;

use strongroom_policy::refusal::Refusal;
use strongroom_protocol::operator::{Answer, Exit, Fault, UnsealWith};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{Act, fault};
use crate::founding::VAULT_DIRECTORY;
use crate::keeper::{State, Waiting};
use crate::seal::Sealed;
use crate::seal_mark;
use crate::vault::Vault;

/// How long a seal waits for its mark: a disk that stalls must not keep the keys in memory.
const MARK_PATIENCE: Duration = Duration::from_secs(2);

impl Act<'_> {
    /// Opens the vault by its TPM for nobody in particular, unless an operator sealed it.
    pub(super) async fn unseal_unattended(&self) -> Result<Answer, Fault> {
        if self.is_marked().await {
            let what = "an operator sealed the vault, so it is not opened unattended";
            let next = "look why, then open it: 'strongroom unseal' or 'strongroom unseal --tpm'";
            return Err(Fault { exit: Exit::Sealed, ..fault("SR-SEALED-017", what, next) });
        }
        self.unseal(UnsealWith::Tpm(None), (None, None)).await
    }

    /// Whether an operator sealed the vault and nobody opened it since; so too when the disk does not say.
    pub(super) async fn is_marked(&self) -> bool {
        if self.keeper.sealed_by_operator.get() {
            return true;
        }
        let data = self.keeper.settings.data.clone();
        let look = spawn_blocking(move || seal_mark::stands(&data));
        !matches!(timeout(MARK_PATIENCE, look).await, Ok(Ok(false)))
    }

    /// Closes the vault, and keeps a sealed one sealed. A disk that does not take the mark does not keep the keys in memory.
    pub(super) async fn seal(&self) -> Result<Answer, Fault> {
        match &*self.keeper.state.borrow() {
            State::Ready(_) | State::Sealed(_) => {}
            State::Opening => return Err(opening_fault()),
            State::Uninitialised(_) | State::Faulty(_) => {
                return Err(self.closed(Refusal::Sealed));
            }
        }
        let mut marked = self.mark().await;
        self.keeper.close("an operator sealed it", shut).await;
        if !self.keeper.sealed_by_operator.get() {
            // Somebody opened it while the mark was being written.
            marked = self.mark().await;
        }
        marked.map(|()| Answer::Done).map_err(|why| {
            let what = format!(
                "it is sealed, but the disk did not take the mark that keeps it so ({why})"
            );
            let next = "look at the disk; before a restart set `unattended = false` under [tpm]";
            fault("SR-SEALED-016", what, next)
        })
    }

    async fn mark(&self) -> Result<(), String> {
        self.keeper.sealed_by_operator.set(true);
        let data = self.keeper.settings.data.clone();
        match timeout(MARK_PATIENCE, spawn_blocking(move || seal_mark::set(&data))).await {
            Ok(Ok(set)) => set.map_err(|error| error.to_string()),
            Ok(Err(_)) => Err("a thread ended".to_owned()),
            Err(_) => Err("it does not answer".to_owned()),
        }
    }

    /// Somebody opened the vault.
    pub(super) async fn unmark(&self) {
        self.keeper.sealed_by_operator.set(false);
        let data = self.keeper.settings.data.clone();
        let cleared = spawn_blocking(move || seal_mark::clear(&data)).await;
        if !matches!(cleared, Ok(Ok(()))) {
            tracing::warn!(
                ?cleared,
                "the mark of an operator's seal stands still: no unattended start"
            );
        }
    }
}

pub(super) fn opening_fault() -> Fault {
    fault("SR-SEALED-006", "the vault is being opened or closed", "wait a moment, then again")
}

/// The state of a vault whose keys are dropped now. It takes no lock: a thread that waits for a disk may hold the keyring's.
pub fn shut(vault: &Vault) -> State {
    match Sealed::load(&vault.journal_directory.with_file_name(VAULT_DIRECTORY)) {
        Ok(sealed) => State::Sealed(Box::new(Waiting::new(sealed))),
        Err(_) => State::Faulty(fault(
            "SR-STORE-009",
            "the seal's file cannot be read",
            "look at the disk, then restart",
        )),
    }
}
