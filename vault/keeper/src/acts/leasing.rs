//! Making durable what is spent of budgets, ahead of the calls that spend it.
//!
//! Invariant: it takes its turn among the acts, so that it never meets the rewriting of the same record.
//! Invariant: the ledger hears of a lease only after it is durable.

use std::rc::Rc;

use strongroom_policy::budget::Payer;
use strongroom_policy::ledger::{Extension, Lease};
use strongroom_store::StoreError;

use super::{Act, Fault, books_fault};
use crate::books::{BooksError, Changes};
use crate::clock;
use crate::keeper::Keeper;
use crate::records::RecordName;
use crate::vault::Vault;

/// Extends leases whenever they are wanted, for as long as the process lives.
pub async fn run(keeper: Rc<Keeper>) {
    loop {
        keeper.leases.notified().await;
        let _turn = keeper.acts.lock().await;
        if let Err(fault) = Act::of(&keeper, 0).lease().await {
            tracing::error!(code = fault.code, "budgets are not made durable: {}", fault.message);
        }
    }
}

impl Act<'_> {
    /// Makes every lease as long as it is wanted. In a turn.
    pub(super) async fn lease(&self) -> Result<(), Fault> {
        // A vault that is closed has written its exact figures.
        while let Ok(Some(extension)) =
            self.keeper.with_vault(|vault| vault.budgets.ledger.extend(clock::now()))
        {
            let stored = match self.changes_of(&extension) {
                Ok(changes) => self.store(changes).await?,
                Err(fault) => {
                    self.give_up(extension);
                    return Err(fault);
                }
            };
            if let Err(error) = stored {
                self.give_up(extension);
                return Err(self.lease_failed(&error).await);
            }
            self.vault(|vault| {
                vault.budgets.ledger.leased(extension);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn changes_of(&self, extension: &Extension) -> Result<Changes, Fault> {
        self.vault(|vault| {
            let records = extension.records.iter().map(|(payer, leases)| (*payer, leases.clone()));
            changes(vault, records).map_err(|error| books_fault(&error))
        })
    }

    fn give_up(&self, extension: Extension) {
        let given = self.keeper.with_vault(|vault| vault.budgets.ledger.not_leased(extension));
        if given.is_err() {
            tracing::debug!("the vault was closed meanwhile: it wrote its exact figures");
        }
    }

    async fn lease_failed(&self, error: &StoreError) -> Fault {
        self.store_failed(("budget.lease", "budgets".to_owned()), error).await
    }
}

/// The writing of leases.
pub fn changes(
    vault: &Vault,
    records: impl Iterator<Item = (Payer, Vec<Lease>)>,
) -> Result<Changes, BooksError> {
    let mut changes = vault.books.changes();
    for (payer, leases) in records {
        let place = vault.place(RecordName::Spent(payer));
        changes = super::write(vault, changes, &place, &leases)?;
    }
    Ok(changes)
}
