//! The rewriting of old records while the vault serves.
//!
//! A portion takes a turn among the acts, as an operator's act does, and then the sweep rests for as long as it worked: it
//! never has more than half of the disk, and an act waits for one portion at most. What is old is seen from the envelopes,
//! so that a sweep that was cut short by a crash or a seal goes on at the next unsealing.
//!
//! Invariant: old keys are destroyed only when no record is old, under the same turn.

use std::rc::Rc;
use std::time::{Duration, Instant};

use strongroom_protocol::operator::Fault;
use strongroom_protocol::operator::keys::Sweep;
use strongroom_store::StoreError;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::{Act, STORE_PATIENCE, books_fault, fault};
use crate::books::{BooksError, Changes, Portion};
use crate::clock;
use crate::journal::entry::{ActResult, Entry};
use crate::keeper::Keeper;

/// The longest rest between two portions.
const MAX_REST: Duration = Duration::from_secs(1);
/// How often a sweep begins anew when records turned out to be old behind it.
const MAX_WALKS: usize = 4;

/// Where a sweep is.
enum Step {
    More(Option<Vec<u8>>),
    Walked,
    /// Another one has begun, or the vault has closed.
    Over,
}

impl Act<'_> {
    /// Goes on with the rewriting of old records, if any are left; one that is under way begins anew.
    pub(super) fn resume_sweep(&self) {
        let number = self.keeper.next_sweep();
        let settled = self.vault(|vault| {
            let settled = vault.books.generations().is_settled();
            vault.sweep = if settled { Sweep::Idle } else { Sweep::Running };
            Ok(settled)
        });
        if matches!(settled, Ok(false)) {
            spawn_local(run(Rc::clone(self.keeper), self.operator, number));
        }
    }

    async fn sweep(&self, number: u64) -> Result<(), Fault> {
        for _ in 0..MAX_WALKS {
            let mut after = None;
            loop {
                let begun = Instant::now();
                match self.sweep_portion(number, after).await? {
                    Step::More(next) => after = next,
                    Step::Walked => break,
                    Step::Over => return Ok(()),
                }
                sleep(begun.elapsed().min(MAX_REST)).await;
            }
            if self.end_sweep(number).await? {
                return Ok(());
            }
        }
        let next = "seal and unseal; if it stays so, report this as a defect";
        Err(fault("SR-KEY-001", "records stay old however often they are rewritten", next))
    }

    async fn sweep_portion(&self, number: u64, after: Option<Vec<u8>>) -> Result<Step, Fault> {
        let _turn = self.keeper.acts.lock().await;
        if self.keeper.sweeps.get() != number {
            return Ok(Step::Over);
        }
        let portion = self.vault(|vault| {
            // Only the first version wrote tokens without their person, and knew the first tenant only.
            let first = vault.tables.tenant(vault.tables.first());
            let person_of = |id| first?.tokens().get(&id).map(|held| held.record.user);
            let found = vault.books.old_records(after.as_deref(), person_of);
            found.map_err(|error| books_fault(&error))
        })?;
        let next = portion.after.clone();
        if !portion.is_empty() {
            let changes = self.rewrite(portion).await?;
            if let Err(error) = self.store(changes).await? {
                return Err(self.store_failed(("key.sweep", "records".to_owned()), &error).await);
            }
        }
        Ok(next.map_or(Step::Walked, |next| Step::More(Some(next))))
    }

    /// Opens and seals anew on the thread that writes: it reads what the last commit left.
    async fn rewrite(&self, portion: Portion) -> Result<Changes, Fault> {
        let (answer, outcome) = oneshot::channel();
        self.vault(|vault| {
            // Whoever stopped waiting has reported the fault already.
            let work = move |store: &dyn strongroom_store::Store| {
                drop(answer.send(portion.rewrite(store)));
            };
            vault.books.at_rest(work).map_err(|error| books_fault(&error.into()))
        })?;
        let rewritten = match timeout(STORE_PATIENCE, outcome).await {
            Ok(Ok(rewritten)) => rewritten,
            Ok(Err(_)) => Err(BooksError::Store(StoreError::Stopped)),
            Err(_) => Err(BooksError::Store(StoreError::TimedOut)),
        };
        rewritten.map_err(|error| books_fault(&error))
    }

    /// Destroys the old keys when no record is old any more.
    async fn end_sweep(&self, number: u64) -> Result<bool, Fault> {
        let _turn = self.keeper.acts.lock().await;
        if self.keeper.sweeps.get() != number {
            return Ok(true);
        }
        let state = self.vault(|vault| Ok(vault.books.generations()))?;
        if state.old > 0 {
            return Ok(false);
        }
        self.retire_old_epochs().await?;
        self.vault(|vault| {
            vault.sweep = Sweep::Idle;
            let (act, target) = ("key.sweep", format!("epoch {}", state.epoch.0));
            let result = ActResult::Done;
            let (operator, tenant) = (self.operator, None);
            let entry = Entry::Act { act, operator, tenant, target, result };
            vault.journal.note(&entry, clock::now());
            Ok(())
        })?;
        Ok(true)
    }
}

async fn run(keeper: Rc<Keeper>, operator: u32, number: u64) {
    let act = Act::of(&keeper, operator);
    if let Err(fault) = act.sweep(number).await
        && keeper.sweeps.get() == number
    {
        tracing::error!(
            code = fault.code,
            "the rewriting of old records stopped: {}",
            fault.message
        );
        let noted = keeper.with_vault(|vault| vault.sweep = Sweep::Stopped(fault));
        if noted.is_err() {
            tracing::warn!("the vault has closed; the rewriting begins anew when it is opened");
        }
    }
}
