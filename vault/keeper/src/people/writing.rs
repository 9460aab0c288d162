//! One change of people's records: journal, store, memory, in this order.
//!
//! Invariant: whoever calls this has the turn of acts, so that what was checked still holds when it is durable.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use strongroom_protocol::person::NotSignedIn;
use strongroom_store::StoreError;
use tokio::time::timeout;

use super::asks::closed;
use crate::acts::store_fault;
use crate::books::{BooksError, Changes};
use crate::clock;
use crate::journal::entry::Entry;
use crate::keeper::{After, Keeper};
use crate::vault::Vault;

/// What is said of a question that is not answered.
pub(super) type Said = NotSignedIn;

/// How long a change waits for the store.
const STORE_PATIENCE: Duration = Duration::from_secs(20);

/// Makes a change; an entry about it is in the journal before.
pub(super) async fn commit(
    keeper: &Rc<Keeper>,
    entry: Option<Entry<'_>>,
    build: impl FnOnce(&Vault, Changes) -> Result<Changes, BooksError>,
    apply: impl FnOnce(&mut Vault),
) -> Result<(), Said> {
    if let Some(entry) = entry {
        let journal = keeper.with_vault(|vault| Arc::clone(&vault.journal)).map_err(closed)?;
        journal.record(&entry, clock::now()).await.map_err(|_| Said::Unwritten)?;
    }
    let submitted = keeper.with_vault(|vault| {
        let changes = build(vault, vault.books.changes())?;
        Ok::<_, BooksError>(vault.books.submit(changes))
    });
    let submitted = submitted.map_err(closed)?;
    let (outcome, noted) = submitted.map_err(|error| {
        tracing::error!(%error, "a record of a person was not sealed");
        Said::Internal
    })?;
    let stored = match timeout(STORE_PATIENCE, outcome).await {
        Ok(Ok(stored)) => stored,
        Ok(Err(_)) => Err(StoreError::Stopped),
        Err(_) => Err(StoreError::TimedOut),
    };
    if let Err(error) = stored {
        return Err(failed(keeper, error).await);
    }
    let applied = keeper.with_vault(|vault| {
        vault.books.note(noted);
        apply(vault);
    });
    applied.map_err(closed)
}

/// What was refused did not happen; a store that failed closes the vault, as it does under an operator's act.
async fn failed(keeper: &Rc<Keeper>, error: StoreError) -> Said {
    tracing::error!(%error, "a change of people's records is not stored");
    if matches!(error, StoreError::Busy | StoreError::Limit(_)) {
        return Said::Busy;
    }
    keeper.close("store failed", After::Faulty(store_fault(error))).await;
    Said::Unwritten
}
