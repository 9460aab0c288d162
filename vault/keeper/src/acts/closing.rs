//! Closing the vault, so that it stays closed.
//!
//! Invariant: an operator's seal is marked on the disk before the keys are dropped, and holds until somebody opens the vault.
//! Invariant: a disk that does not take the mark does not keep the keys in memory.
//! Invariant: a seal wipes what was brought to an attempt under way; nothing that was brought before it opens the vault.

use std::sync::Arc;
use std::time::Duration;

use strongroom_policy::refusal::Refusal;
use strongroom_protocol::operator::{Answer, Exit, Fault, UnsealWith};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::sealing::{Presence, Terms};
use super::{Act, fault};
use crate::keeper::{After, State};
use crate::seal_mark;

/// How long a seal waits for its mark, and an opening for its end: a disk that stalls must not keep the keys in memory, nor a
/// vault half open that nobody can seal.
const MARK_PATIENCE: Duration = Duration::from_secs(2);

impl Act<'_> {
    /// Opens the vault by its TPM for nobody in particular, unless an operator sealed it.
    pub(super) async fn unseal_unattended(&self) -> Result<Answer, Fault> {
        if self.is_marked().await {
            let what = "an operator sealed the vault, so it is not opened unattended";
            let next = "look why, then open it: 'strongroom unseal' or 'strongroom unseal --tpm'";
            return Err(Fault { exit: Exit::Sealed, ..fault("SR-SEALED-017", what, next) });
        }
        let terms = Terms { presence: Presence::Nobody, ..Terms::default() };
        self.unseal(UnsealWith::Tpm(None), terms).await
    }

    /// Whether an operator sealed the vault and nobody opened it since; so too when the disk does not say.
    pub(super) async fn is_marked(&self) -> bool {
        if self.keeper.sealed_by_operator.is_wanted() {
            return true;
        }
        let data = self.keeper.settings.data.clone();
        let look = spawn_blocking(move || seal_mark::stands(&data));
        !matches!(timeout(MARK_PATIENCE, look).await, Ok(Ok(false)))
    }

    /// Closes the vault, and keeps closed what is closed, by a fault too; an attempt to open it ends. A disk that does not take
    /// the mark does not keep the keys in memory.
    pub(super) async fn seal(&self) -> Result<Answer, Fault> {
        match &*self.keeper.state.borrow() {
            State::Ready(_) | State::Sealed(_) | State::Faulty(_) => {}
            State::Opening => return Err(opening_fault()),
            State::Uninitialised(_) => return Err(self.closed(Refusal::Sealed)),
        }
        self.keeper.drop_parts();
        let mut marked = self.write_mark(true).await;
        self.keeper.close("an operator sealed it", After::Sealed).await;
        // Somebody brought one while the mark was being written.
        self.keeper.drop_parts();
        if !self.keeper.sealed_by_operator.is_wanted() {
            // Somebody opened it while the mark was being written.
            marked = self.write_mark(true).await;
        }
        marked.map(|()| Answer::Done).map_err(|why| {
            let what = format!(
                "it is sealed, but the disk did not take the mark that keeps it so ({why})"
            );
            let next = "look at the disk; before a restart set `unattended = false` under [tpm]";
            fault("SR-SEALED-016", what, next)
        })
    }

    /// Says on the disk whether an operator sealed it.
    async fn write_mark(&self, wanted: bool) -> Result<(), String> {
        let mark = Arc::clone(&self.keeper.sealed_by_operator);
        mark.want(wanted);
        let data = self.keeper.settings.data.clone();
        match timeout(MARK_PATIENCE, spawn_blocking(move || mark.write(&data))).await {
            Ok(Ok(written)) => written.map_err(|error| error.to_string()),
            Ok(Err(_)) => Err("a thread ended".to_owned()),
            Err(_) => Err("it does not answer".to_owned()),
        }
    }

    /// Somebody opened the vault.
    pub(super) async fn unmark(&self) {
        if let Err(why) = self.write_mark(false).await {
            tracing::warn!(why, "the mark of an operator's seal stands still: no unattended start");
        }
    }
}

pub(super) fn opening_fault() -> Fault {
    fault("SR-SEALED-006", "the vault is being opened or closed", "wait a moment, then again")
}
