//! What operators can do: one function per request, all through one gate.
//!
//! Invariant: an act that changes something is in the journal before it is done, and durable before it is answered.
//! Invariant: one act at a time, and after each every call under way is judged again.

mod audit;
mod backups;
mod budgets;
pub mod closing;
mod credentials;
mod deletion;
mod effect;
mod keys;
pub mod leasing;
mod making;
mod people;
mod providers;
mod rules;
pub mod sealing;
mod settings;
mod signing_in;
mod sweeping;
mod tenants;
mod tokens;
pub mod tpm;
mod watching;
mod ways;
mod witnesses;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use strongroom_policy::id::TenantId;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::operator::about::About;
use strongroom_protocol::operator::{Answer, Exit, Fault, Request, VaultWish};
use strongroom_store::StoreError;
use strongroom_sys::Secret;
use tokio::time::timeout;

use crate::books::{BooksError, Changes};
use crate::clock;
use crate::journal::entry::{ActResult, Entry};
use crate::keeper::{After, Keeper, State};
use crate::pipeline;
use crate::records::{RecordName, RecordPlace};
use crate::store_fault::told;
use crate::tables::{PickError, Tenant};
use crate::tickets::Party;
use crate::vault::Vault;
pub use backups::restore_fault;
use effect::{Effect, Turn, effect};
use people::gone;
use sealing::Terms;
pub use signing_in::store_fault;

/// How long an act that takes something away waits for a checkpoint, and how often it looks.
const COVER_PATIENCE: Duration = Duration::from_secs(3);
const COVER_LOOKS: Duration = Duration::from_millis(5);
/// How long an act waits for the store.
const STORE_PATIENCE: Duration = Duration::from_secs(20);

/// Who asks, and where the answer is made.
#[derive(Clone)]
struct Act<'k> {
    keeper: &'k Rc<Keeper>,
    operator: u32,
    /// The one tenant that it is about; of an act on the whole vault none.
    tenant: Option<TenantId>,
    /// Whether the journal has taken an entry of it: something may be done then, also when it fails.
    begun: Rc<Cell<bool>>,
}

/// Does what an operator asks.
pub async fn perform(keeper: &Rc<Keeper>, operator: u32, request: Request) -> Answer {
    let act = Act::of(keeper, operator);
    let done = match act.addressed(request) {
        Ok((act, request)) => act.in_turn(request).await,
        Err(fault) => Err(fault),
    };
    done.unwrap_or_else(Answer::Failed)
}

impl<'k> Act<'k> {
    fn of(keeper: &'k Rc<Keeper>, operator: u32) -> Self {
        Self { keeper, operator, tenant: None, begun: Rc::default() }
    }

    /// The same act, about one tenant.
    fn within(&self, tenant: TenantId) -> Self {
        Self { tenant: Some(tenant), begun: Rc::clone(&self.begun), ..*self }
    }

    async fn in_turn(&self, request: Request) -> Result<Answer, Fault> {
        let Effect { turn, restricts, .. } = effect(&request);
        // Whoever would be refused anyway waits for nobody.
        self.refuse_growth(&request)?;
        self.refuse_unconfirmed(&request)?;
        match turn {
            Turn::NeedsNone => return self.answer(request).await,
            Turn::Takes => {}
        }
        let _turn = self.keeper.acts.lock().await;
        // While it waited the vault may have been sealed and opened again, or restored.
        self.refuse_growth(&request)?;
        self.refuse_unconfirmed(&request)?;
        let answer = self.answer(request).await;
        // Whatever it took from whom: a call that may not go on is stopped, also when the rest of the act failed.
        self.judge_again();
        // What failed may have been done in part; only the answer to what succeeded says that it is safe.
        let covered = if restricts && answer.is_ok() { self.cover().await } else { Ok(()) };
        let followed = self.follow(restricts && (answer.is_ok() || self.begun.get())).await;
        let answer = answer?;
        covered.and(followed).map(|()| answer)
    }

    #[expect(clippy::too_many_lines, reason = "the page of all requests")]
    async fn answer(&self, request: Request) -> Result<Answer, Fault> {
        match request {
            Request::Status => Ok(self.status().await),
            Request::Doctor => Ok(self.doctor()),
            Request::UserList => self.users(),
            Request::WorkspaceList => self.workspaces(),
            Request::ProviderList => self.providers(),
            Request::ProviderShow(name) => self.provider(&name),
            Request::CredentialList => self.credentials(),
            Request::TokenList => self.tokens(),
            Request::AuditTail { after, limit, wait_ms } => {
                self.audit_tail(after, limit, wait_ms).await
            }
            Request::Usage { since_ms, by } => self.usage(since_ms, by).await,
            Request::AuditKey => self.audit_key(),
            Request::KeyStatus => self.key_status(),
            Request::Witness(say) => self.witness(&say).await,
            Request::WitnessList => self.witness_list(),
            Request::CredentialTest(pick) => self.credential_test(&pick).await,
            Request::Seal => self.seal().await,
            Request::Backup(request) => self.backup(&request).await,
            Request::TpmStatus => self.tpm_status().await,
            Request::Audit(request) => self.audit(&request).await,
            Request::Panic => self.keeper.panic(),
            Request::Ways => self.ways().await,
            Request::Init(lock) => self.init(VaultWish::of(lock)).await,
            Request::InitWays(wish) => self.init(*wish).await,
            Request::ShowCustody(with) => self.show_custody(with).await,
            Request::Unseal(with) => self.unseal(with, Terms::default()).await,
            Request::Join { attempt, with } => {
                self.unseal(with, Terms { attempt: Some(&attempt), ..Terms::default() }).await
            }
            Request::UnsealUnattended => self.unseal_unattended().await,
            Request::AbandonUnseal { attempt } => self.abandon_unseal(&attempt),
            Request::ChangeWays(change) => self.change_ways(*change).await,
            Request::DropWays => self.drop_ways().await,
            Request::UnsealConfirming { with, checkpoint } => {
                let checkpoint = Some(checkpoint);
                self.unseal(with, Terms { checkpoint, ..Terms::default() }).await
            }
            Request::TpmSeal(wish) => self.tpm_seal(*wish).await,
            Request::TpmRemove => self.tpm_remove().await,
            Request::UserCreate(label) => self.user_create(label).await,
            Request::UserDisable(pick) => self.user_disable(pick).await,
            Request::UserEnable(pick) => self.user_enable(pick).await,
            Request::WorkspaceCreate(label) => self.workspace_create(label).await,
            Request::WorkspaceJoin(workspace, user) => self.workspace_join(workspace, user).await,
            Request::WorkspaceLeave(workspace, user) => self.workspace_leave(workspace, user).await,
            Request::ProviderPut(definition) => self.provider_put(*definition).await,
            Request::ProviderRemove(name) => self.provider_remove(name).await,
            Request::CredentialAdd(wish) => self.credential_add(*wish),
            Request::CredentialRotate(pick) => self.credential_rotate(&pick),
            Request::CredentialUpload { upload, blob } => {
                self.credential_upload(upload, blob).await
            }
            Request::CredentialDelete(pick) => self.credential_delete(&pick).await,
            Request::CredentialRules(pick, rules) => self.credential_rules(&pick, *rules).await,
            Request::TokenCreate(wish) => self.token_create(*wish).await,
            Request::TokenRevoke(pick) => self.token_revoke(&pick).await,
            Request::KeyRotate => self.key_rotate().await,
            Request::UserDelete(pick, deletion) => self.user_delete(&pick, deletion).await,
            Request::WorkspaceDelete(pick, deletion) => {
                self.workspace_delete(&pick, deletion).await
            }
            Request::WitnessAdd { key, required } => self.witness_add(key, required).await,
            Request::WitnessRemove(name) => self.witness_remove(name).await,
            Request::AcceptSettings { difference } => self.accept_settings(difference),
            Request::People(request) => self.people(request).await,
            Request::In { .. } => Err(of_the_whole_vault()),
            Request::TenantList => self.tenants(),
            Request::TenantCreate(label) => self.tenant_create(label).await,
            Request::TenantDisable(pick) => self.tenant_disable(&pick).await,
            Request::TenantEnable(pick) => self.tenant_enable(&pick).await,
            Request::TenantDelete(pick, deletion) => self.tenant_delete(&pick, deletion).await,
            Request::Rules(request) => self.rules(request).await,
            Request::Budget(request) => Box::pin(self.budget(request)).await,
            Request::Price(request) => Box::pin(self.price(request)).await,
        }
    }

    /// What took something away is under a durable checkpoint before that is answered: whoever has a copy of the journal
    /// up to its checkpoint, a mirror or a crash, has it.
    async fn cover(&self) -> Result<(), Fault> {
        // A vault that was closed by now has signed its journal's end.
        let Ok(journal) = self.keeper.with_vault(|vault| vault.journal.clone()) else {
            return Ok(());
        };
        let entries = journal.entries();
        journal.hasten();
        let covered = async {
            while journal.checkpoint().is_none_or(|signed| signed.size < entries) {
                tokio::time::sleep(COVER_LOOKS).await;
            }
        };
        timeout(COVER_PATIENCE, covered).await.map_err(|_| {
            fault(
                "SR-JOURNAL-012",
                "it is done and durable, but no checkpoint covers its journal entry yet",
                "look at the disk ('strongroom doctor')",
            )
        })
    }

    /// In a vault that was restored powers only shrink until an operator has looked at it.
    fn refuse_unconfirmed(&self, request: &Request) -> Result<(), Fault> {
        let restored = self.keeper.with_vault(|vault| vault.tables.restored.is_some());
        if !effect(request).waits_for_confirmation || restored != Ok(true) {
            return Ok(());
        }
        let what =
            "the vault was restored and is read-only: only revocations and deletions can be made";
        let next = "look at it ('strongroom status'), then 'strongroom backup confirm'";
        Err(fault("SR-BACKUP-011", what, next))
    }

    /// Lends the open vault, or says what an operator must do first.
    fn vault<T>(&self, see: impl FnOnce(&mut Vault) -> Result<T, Fault>) -> Result<T, Fault> {
        self.keeper.with_vault(see).map_err(|refusal| self.closed(refusal))?
    }

    fn closed(&self, refusal: Refusal) -> Fault {
        match &*self.keeper.state.borrow() {
            State::Faulty(why) => why.clone(),
            State::Uninitialised(None) => Fault {
                exit: Exit::Sealed,
                ..fault(
                    "SR-SEALED-003",
                    "there is no vault yet",
                    "run 'strongroom init' or 'strongroom up'",
                )
            },
            State::Uninitialised(Some(_)) => provisional_fault(),
            State::Sealed(_) | State::Opening | State::Ready(_) => Fault {
                exit: Exit::Sealed,
                ..fault(refusal.code(), "the vault is sealed", "run 'strongroom unseal'")
            },
        }
    }

    /// Lends the open vault and the one tenant that the act is about: the first one where none was named.
    fn in_tenant<T>(
        &self,
        see: impl FnOnce(&Vault, &Tenant) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.vault(|vault| {
            let id = self.tenant.unwrap_or(vault.tables.first());
            let tenant = vault.tables.tenant(id).ok_or_else(|| gone("tenant"))?;
            see(vault, tenant)
        })
    }

    /// The place of a record of that tenant.
    fn place(&self, name: RecordName) -> Result<RecordPlace, Fault> {
        self.in_tenant(|_, tenant| Ok(tenant.place(name)))
    }

    /// The act of a request, and the request out of its wrapper: what is about a tenant is about the one that it names, else the first.
    fn addressed(&self, request: Request) -> Result<(Self, Request), Fault> {
        if let Request::In { tenant, request } = request {
            let request = request.open().map_err(|_| of_the_whole_vault())?;
            match request.about() {
                About::Tenant | About::Either => {}
                About::Vault => return Err(of_the_whole_vault()),
            }
            let id = self.vault(|vault| picked(vault.tables.pick_tenant(&tenant)))?;
            return Ok((self.within(id), request));
        }
        let first = match request.about() {
            // A vault that is shut says so when it is asked.
            About::Tenant => self.keeper.with_vault(|vault| vault.tables.first()).ok(),
            About::Vault | About::Either => None,
        };
        Ok((Self { tenant: first, ..self.clone() }, request))
    }

    /// The one way to change a record: journal, store, memory, in this order.
    async fn commit(
        &self,
        (act, target): (&'static str, String),
        build: impl FnOnce(&Vault, Changes) -> Result<Changes, BooksError>,
        apply: impl FnOnce(&mut Vault),
    ) -> Result<(), Fault> {
        self.begin(act, target.clone()).await?;
        let changes = self.vault(|vault| {
            build(vault, vault.books.changes()).map_err(|error| books_fault(&error))
        })?;
        if let Err(error) = self.store(changes).await? {
            return Err(self.store_failed((act, target), &error).await);
        }
        self.vault(|vault| {
            apply(vault);
            Ok(())
        })?;
        self.keeper.announce();
        Ok(())
    }

    /// [`Self::commit`] of something that stands in the tables of the act's tenant.
    async fn commit_in(
        &self,
        about: (&'static str, String),
        build: impl FnOnce(&Vault, Changes) -> Result<Changes, BooksError>,
        apply: impl FnOnce(&mut Tenant),
    ) -> Result<(), Fault> {
        let id = self.in_tenant(|_, tenant| Ok(tenant.id))?;
        // Whoever has the turn keeps every tenant that there is.
        self.commit(about, build, |vault| vault.tables.tenant_mut(id).map_or((), apply)).await
    }

    /// Waits until changes are durable.
    async fn store(&self, changes: Changes) -> Result<Result<(), StoreError>, Fault> {
        let (outcome, noted) = self.vault(|vault| Ok(vault.books.submit(changes)))?;
        let stored = match timeout(STORE_PATIENCE, outcome).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StoreError::Stopped),
            Err(_) => Err(StoreError::TimedOut),
        };
        if stored.is_ok() {
            self.vault(|vault| {
                vault.books.note(noted);
                Ok(())
            })?;
        }
        Ok(stored)
    }

    /// Writes that an act is about to be done.
    async fn begin(&self, act: &'static str, target: String) -> Result<(), Fault> {
        let journal = self.vault(|vault| Ok(vault.journal.clone()))?;
        let (operator, tenant, result) = (self.operator, self.tenant, ActResult::Begun);
        let entry = Entry::Act { act, operator, tenant, target, result };
        self.begun.set(true);
        journal.record(&entry, clock::now()).await.map_err(|error| {
            fault(
                "SR-JOURNAL-001",
                error.to_string(),
                "look at the disk, then unseal again ('strongroom doctor')",
            )
        })
    }

    /// What was refused did not happen, what may have reached the disk is in doubt; a store that failed closes the vault.
    async fn store_failed(
        &self,
        (act, target): (&'static str, String),
        error: &StoreError,
    ) -> Fault {
        let in_doubt = error.is_in_doubt();
        let result = if in_doubt { ActResult::InDoubt } else { ActResult::Failed };
        let (operator, tenant) = (self.operator, self.tenant);
        let entry = Entry::Act { act, operator, tenant, target, result };
        // A vault that is closed by now has closed its journal too.
        if self.keeper.with_vault(|vault| vault.journal.note(&entry, clock::now())).is_err() {
            tracing::warn!(act, "an act failed while the vault was closing");
        }
        let mut failed = books_fault(&BooksError::Store(error.clone()));
        if in_doubt {
            failed.message.push_str(
                ": whether the change was made is in doubt; look when the vault is open again",
            );
        }
        if !matches!(error, StoreError::Busy | StoreError::Limit(_)) {
            let faulty = failed.clone();
            self.keeper.close("store failed", After::Faulty(faulty)).await;
        }
        failed
    }
}

impl Act<'_> {
    /// Stops calls under way; answers how many there were.
    fn stop(&self, about: impl Fn(&Party) -> bool) -> usize {
        pipeline::stop(self.keeper, about)
    }

    /// Stops the calls under way that may not go on as things are now; answers how many there were.
    fn judge_again(&self) -> usize {
        pipeline::judge_again(self.keeper)
    }
}

fn provisional_fault() -> Fault {
    let (what, next) = (
        "the vault is provisional: custody of its shares is not shown yet",
        "enter a threshold of them back: 'strongroom share verify'",
    );
    Fault { exit: Exit::Provisional, ..fault("SR-SEALED-004", what, next) }
}

/// A fault with its next step.
pub fn fault(code: &str, message: impl Into<String>, next: &str) -> Fault {
    Fault {
        code: code.to_owned(),
        message: message.into(),
        next: Some(next.to_owned()),
        exit: Exit::Error,
    }
}

fn of_the_whole_vault() -> Fault {
    let what = "this is about the whole vault, not about one tenant";
    fault("SR-TENANT-002", what, "leave --tenant out")
}

fn books_fault(error: &BooksError) -> Fault {
    let known = if let BooksError::Store(error) = error { told(error) } else { None };
    let (code, next) = known.unwrap_or((
        "SR-STORE-001",
        "look at the disk's free space and health ('strongroom doctor'), then restart and unseal",
    ));
    fault(code, error.to_string(), next)
}

fn random_fault(_: getrandom::Error) -> Fault {
    fault("SR-INTERNAL-005", "the kernel gave no randomness", "look at the kernel's log")
}

fn full_fault(what: &str) -> Fault {
    fault("SR-LIMIT-001", format!("there are too many {what}"), "remove what is no longer used")
}

fn picked<T>(found: Result<T, PickError>) -> Result<T, Fault> {
    found.map_err(|error| {
        let next = match error {
            PickError::Nobody => "strongroom user create NAME",
            PickError::Missing { .. } | PickError::Several { .. } => {
                "see the matching 'list' command for names and ids"
            }
        };
        fault("SR-PICK-001", error.to_string(), next)
    })
}

/// Adds a record to a set of changes.
fn write<T: serde::Serialize>(
    vault: &Vault,
    changes: Changes,
    place: &RecordPlace,
    record: &T,
) -> Result<Changes, BooksError> {
    let plain = postcard::to_stdvec(record).map_err(|_| BooksError::Malformed)?;
    vault.books.put(changes, place, &Secret::take(plain))
}

/// A record as it is sealed.
fn plain<T: serde::Serialize>(record: &T) -> Result<Secret, Fault> {
    postcard::to_stdvec(record).map(Secret::take).map_err(|_| books_fault(&BooksError::Malformed))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod under_way;
