//! Making a vault, and showing that its shares are in somebody's hands.
//!
//! Invariant: a vault of shares counts only once a threshold of them was entered back, however often the keeper restarts.

use std::path::PathBuf;

use strongroom_protocol::operator::{
    Answer, Exit, Fault, MAX_PASSPHRASE_BYTES, MAX_SHARES, MIN_PASSPHRASE_BYTES, SealWish,
    UnsealWith, VaultWish,
};

use super::sealing::{Brought, Presence, on_thread, part_fault, progress_of};
use super::{Act, fault};
use crate::founding::{Founded, Founding, FoundingError, Shown, VAULT_DIRECTORY};
use crate::keeper::State;
use crate::keys::WayId;
use crate::seal::{Bringer, Sealed, Unsealed};
use crate::tpm::Demand;
use crate::vault::seal_kind;

impl Act<'_> {
    pub(super) async fn init(&self, wish: VaultWish) -> Result<Answer, Fault> {
        let before = match self.keeper.enter(State::Opening) {
            State::Uninitialised(before) => before,
            other @ (State::Sealed(_) | State::Opening | State::Ready(_) | State::Faulty(_)) => {
                self.keeper.enter(other);
                let next = "unseal it ('strongroom unseal'), or choose another --dir";
                let what = "there is a vault in this directory already";
                return Err(fault("SR-INIT-001", what, next));
            }
        };
        let data: PathBuf = self.keeper.settings.data.clone();
        let store = self.keeper.settings.store.clone();
        let made = match wish.ways.iter().flatten().try_for_each(check_lock) {
            Ok(()) => on_thread(move || {
                Founding::make((&data, &store), &wish).map_err(|error| founding_fault(&error))
            })
            .await
            .and_then(|made| made),
            Err(fault) => Err(fault),
        };
        match made {
            Ok(Founded::Open(unsealed, way)) => self.open_founded(*unsealed, way).await,
            Ok(Founded::Provisional(founding, shares)) => {
                self.keeper.enter(State::Uninitialised(Some(founding)));
                Ok(Answer::Shares(shares))
            }
            Err(fault) => {
                // Starting over may have taken away what waited before.
                let waits = Founding::find(&self.keeper.settings.data).ok().flatten();
                let waits = waits.map(Box::new).filter(|_| before.is_some());
                self.keeper.enter(State::Uninitialised(waits));
                Err(fault)
            }
        }
    }

    pub(super) async fn show_custody(&self, with: UnsealWith) -> Result<Answer, Fault> {
        let mut founding = match self.keeper.enter(State::Opening) {
            State::Uninitialised(Some(founding)) => founding,
            ready @ State::Ready(_) => {
                self.keeper.enter(ready);
                return self.show_incoming(with).await;
            }
            other @ (State::Uninitialised(None)
            | State::Sealed(_)
            | State::Opening
            | State::Faulty(_)) => {
                self.keeper.enter(other);
                let what = "no shares wait to be entered back";
                return Err(fault("SR-INIT-003", what, "see 'strongroom status'"));
            }
        };
        let by = Bringer(self.operator);
        let (founding, shown) = on_thread(move || {
            let shown = founding.show(by, &with);
            (founding, shown)
        })
        .await?;
        match shown {
            Ok(Shown::Open(unsealed, way)) => self.open_founded(*unsealed, way).await,
            Ok(Shown::Waiting(standing)) => {
                self.keeper.enter(State::Uninitialised(Some(founding)));
                Ok(Answer::Unsealing(progress_of(&standing)))
            }
            Err(error) => {
                self.keeper.enter(State::Uninitialised(Some(founding)));
                Err(Fault { exit: Exit::Provisional, ..founding_fault(&error) })
            }
        }
    }

    async fn open_founded(&self, unsealed: Unsealed, way: WayId) -> Result<Answer, Fault> {
        let place = self.keeper.settings.data.join(VAULT_DIRECTORY);
        let kind = Sealed::load(&place).map(|sealed| (seal_kind(&sealed), sealed.way_name(way)));
        let (kind, way) = kind.map_err(|error| {
            let why = founding_fault(&error.into());
            self.keeper.enter(State::Faulty(why.clone()));
            why
        })?;
        // It was made just now: a TPM can come to it only afterwards.
        let (demand, presence) = (Demand::None, Presence::Somebody);
        let brought = Brought { way, failed_attempts: 0, confirmed: None, demand, presence };
        self.open(unsealed, kind, brought).await?;
        let vault_key = self.vault(|vault| Ok(vault.vault_key.clone()))?;
        Ok(Answer::Initialised(vault_key))
    }
}

/// Whether a lock can be made: said before anything is written.
pub(super) fn check_lock(lock: &SealWish) -> Result<(), Fault> {
    match lock {
        SealWish::Passphrase(passphrase) => {
            if (MIN_PASSPHRASE_BYTES..=MAX_PASSPHRASE_BYTES).contains(&passphrase.len()) {
                return Ok(());
            }
            let rule =
                format!("a passphrase has {MIN_PASSPHRASE_BYTES} to {MAX_PASSPHRASE_BYTES} bytes");
            Err(fault("SR-INIT-004", rule, "choose a longer one, such as five random words"))
        }
        SealWish::Shares { threshold, count, .. } => {
            if *count <= MAX_SHARES && (2..=*count).contains(threshold) {
                return Ok(());
            }
            let rule = format!("2 <= threshold <= shares <= {MAX_SHARES}");
            Err(fault("SR-INIT-002", rule, "choose other numbers"))
        }
    }
}

fn founding_fault(error: &FoundingError) -> Fault {
    let next = match error {
        FoundingError::Part(refusal) => return part_fault(refusal),
        FoundingError::Exists => "unseal it ('strongroom unseal'), or choose another --dir",
        FoundingError::Provisional => {
            "enter them back ('strongroom share verify'), or make another: 'strongroom init --start-over'"
        }
        FoundingError::Ways | FoundingError::Way(_) => "choose other locks or numbers",
        FoundingError::NotTheShares => "enter the shares that were handed out",
        FoundingError::Files(_)
        | FoundingError::Random(_)
        | FoundingError::Seal(_)
        | FoundingError::Rehearsal(_)
        | FoundingError::Books(_) => "look at the disk's free space and the directory's owner",
    };
    fault("SR-INIT-005", error.to_string(), next)
}
