//! Deleting a person or a workspace, with what depends on it.
//!
//! Invariant: what is deleted is what was counted; else nothing is.
//! Invariant: who is deleted is stopped before anything else, and every single removal is in the journal before it is done.
//! Invariant: records first, then shred keys, in both slots, then the answer: a crash between them leaves keys without
//! records, which the next unsealing destroys, and never records without keys.

use strongroom_policy::budget::Payer;
use strongroom_policy::id::{CredentialId, TokenId, UserId, WorkspaceId};
use strongroom_policy::rules::{Home, Standing};
use strongroom_protocol::operator::keys::{Counted, Deletion, Dependents, Receipt};
use strongroom_protocol::operator::{Answer, Fault, Pick};

use super::people::gone;
use super::{Act, books_fault, fault};
use crate::keyring::ShredId;
use crate::records::{RecordName, UserRecord, WorkspaceRecord};
use crate::tables::Tenant;
use crate::tickets::Party;

/// What goes with what is deleted.
struct Plan {
    counted: Counted,
    tokens: Vec<(TokenId, UserId)>,
    credentials: Vec<CredentialId>,
    memberships: Vec<WorkspaceId>,
}

impl Plan {
    fn dependents(&self) -> impl Iterator<Item = Dependent> {
        let tokens = self.tokens.iter().map(|(id, user)| Dependent::Token(*id, *user));
        tokens.chain(self.credentials.iter().map(|id| Dependent::Credential(*id)))
    }

    /// Whoever had a budget, if they had one: the owner and what goes with them.
    fn payers(&self, owner: Payer) -> Vec<Payer> {
        self.dependents().map(|one| one.payer()).chain([owner]).collect()
    }
}

impl Act<'_> {
    pub(super) async fn user_delete(
        &self,
        pick: &Pick,
        deletion: Deletion,
    ) -> Result<Answer, Fault> {
        let (id, record) = self.user(pick)?;
        let plan = self.in_tenant(|_, tenant| Ok(plan_user(tenant, id, &record)))?;
        if let Some(counted) = settle(&plan, deletion)? {
            return Ok(counted);
        }
        let disabled = UserRecord { standing: Standing::Disabled, ..record };
        self.put_user("user.disable", id, disabled).await?;
        let goes = |party: &Party| party.user == id || plan.credentials.contains(&party.credential);
        let mut stopped = self.stop(goes);
        let mut records = self.delete_dependents(&plan).await?;
        // What others began with these keys meanwhile, by a rule, and what only a rule about this person allowed.
        stopped = stopped.saturating_add(self.stop(goes)).saturating_add(self.judge_again());
        for workspace in &plan.memberships {
            self.end_membership(*workspace, id).await?;
        }
        // At once with the person's own record: none of what signs them in is ever there without it.
        let places = self.in_tenant(|_, tenant| {
            let all = tenant.people.names_of(id).into_iter().chain([RecordName::User(id)]);
            Ok(all.map(|name| tenant.place(name)).collect::<Vec<_>>())
        })?;
        self.commit_in(
            ("user.delete", id.to_string()),
            |vault, changes| {
                places.iter().try_fold(changes, |changes, one| vault.books.delete(changes, one))
            },
            |tenant| tenant.remove_user(id),
        )
        .await?;
        records = records.saturating_add(1);
        let payers = plan.payers(Payer::User(id));
        let receipt = self.receipt(plan, ShredId::of(id), (records, stopped)).await?;
        // Last: keys are destroyed also when this fails.
        self.forget_budgets(payers.into_iter()).await?;
        Ok(receipt)
    }

    pub(super) async fn workspace_delete(
        &self,
        pick: &Pick,
        deletion: Deletion,
    ) -> Result<Answer, Fault> {
        let (id, record) = self.workspace(pick)?;
        let plan = self.in_tenant(|_, tenant| Ok(plan_workspace(tenant, id, &record)))?;
        if let Some(counted) = settle(&plan, deletion)? {
            return Ok(counted);
        }
        // Without members nobody may use what is at home there.
        let emptied = WorkspaceRecord { members: Vec::new(), ..record };
        self.put_workspace("workspace.empty", id, emptied).await?;
        let goes = |party: &Party| plan.credentials.contains(&party.credential);
        // Members of it may use others' keys by a rule about it.
        let mut stopped = self.stop(goes).saturating_add(self.judge_again());
        let mut records = self.delete_dependents(&plan).await?;
        // A rule may give the use of its keys to others than members: they called on until now.
        stopped = stopped.saturating_add(self.stop(goes));
        let place = self.place(RecordName::Workspace(id))?;
        self.commit_in(
            ("workspace.delete", id.to_string()),
            |vault, changes| vault.books.delete(changes, &place),
            |tenant| tenant.remove_workspace(id),
        )
        .await?;
        records = records.saturating_add(1);
        let payers = plan.payers(Payer::Workspace(id));
        let receipt = self.receipt(plan, ShredId::of(id), (records, stopped)).await?;
        self.forget_budgets(payers.into_iter()).await?;
        Ok(receipt)
    }

    /// Removes tokens and credentials, a group's worth at a time; answers how many records they were.
    async fn delete_dependents(&self, plan: &Plan) -> Result<u32, Fault> {
        let all: Vec<Dependent> = plan.dependents().collect();
        let mut records = 0_u32;
        for some in all.chunks(MAX_TOGETHER) {
            for one in some {
                let (act, target) = one.act();
                self.begin(act, target).await?;
            }
            let names: Vec<RecordName> = some.iter().flat_map(Dependent::records).collect();
            let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
            let changes = self.in_tenant(|vault, tenant| {
                let delete = |changes, name| vault.books.delete(changes, &tenant.place(name));
                let changes = names.into_iter().try_fold(vault.books.changes(), delete);
                changes.map_err(|error| books_fault(&error))
            })?;
            if let Err(error) = self.store(changes).await? {
                let act = ("delete", plan.counted.id.clone());
                return Err(self.store_failed(act, &error).await);
            }
            records = records.saturating_add(count);
            let id = self.in_tenant(|_, tenant| Ok(tenant.id))?;
            self.vault(|vault| {
                for one in some {
                    match one {
                        Dependent::Token(token, _) => vault.tables.remove_token(id, *token),
                        Dependent::Credential(credential) => vault
                            .tables
                            .tenant_mut(id)
                            .map_or((), |tenant| tenant.remove_credential(*credential)),
                    }
                }
                Ok(())
            })?;
        }
        Ok(records)
    }

    async fn end_membership(&self, id: WorkspaceId, user: UserId) -> Result<(), Fault> {
        let record = self.in_tenant(|_, tenant| {
            tenant.workspaces.get(&id).cloned().ok_or_else(|| gone("workspace"))
        })?;
        let members = record.members.iter().copied().filter(|one| *one != user).collect();
        self.put_membership("workspace.leave", (id, user), WorkspaceRecord { members, ..record })
            .await
    }

    /// Destroys the shred keys, and says what was done.
    async fn receipt(
        &self,
        plan: Plan,
        owner: ShredId,
        (records, stopped): (u32, usize),
    ) -> Result<Answer, Fault> {
        let mut owners: Vec<ShredId> = plan.credentials.iter().map(|id| ShredId::of(*id)).collect();
        owners.push(owner);
        let destroyed_keys = u32::try_from(owners.len()).unwrap_or(u32::MAX);
        let commit = self.vault(|vault| Ok(vault.books.commit()))?;
        let keyring_generation = self.destroy_shred_keys(owners).await?;
        Ok(Answer::Deleted(Box::new(Receipt {
            counted: plan.counted,
            records,
            stopped_calls: u32::try_from(stopped).unwrap_or(u32::MAX),
            destroyed_keys,
            keyring_generation,
            commit,
        })))
    }
}

/// Something that goes with a person or a workspace.
enum Dependent {
    Token(TokenId, UserId),
    Credential(CredentialId),
}

/// Most of them in one commit: a credential's description may have many pieces.
const MAX_TOGETHER: usize = 8;

impl Dependent {
    fn act(&self) -> (&'static str, String) {
        match self {
            Self::Token(id, _) => ("token.revoke", id.to_string()),
            Self::Credential(id) => ("credential.delete", id.to_string()),
        }
    }

    const fn payer(&self) -> Payer {
        match self {
            Self::Token(id, _) => Payer::Token(*id),
            Self::Credential(id) => Payer::Credential(*id),
        }
    }

    fn records(&self) -> Vec<RecordName> {
        match self {
            Self::Token(id, user) => vec![RecordName::Token(*user, *id)],
            Self::Credential(id) => vec![RecordName::Key(*id), RecordName::Credential(*id)],
        }
    }
}

/// Answers the count, or nothing when it is what was counted before.
fn settle(plan: &Plan, deletion: Deletion) -> Result<Option<Answer>, Fault> {
    match deletion {
        Deletion::Count => Ok(Some(Answer::Counted(Box::new(plan.counted.clone())))),
        Deletion::Perform(counted) if counted == plan.counted.dependents => Ok(None),
        Deletion::Perform(_) => Err(fault(
            "SR-DELETE-001",
            "what depends on it has changed since it was counted; nothing was deleted",
            "run the command again and look at the count",
        )),
    }
}

fn plan_user(tenant: &Tenant, id: UserId, record: &UserRecord) -> Plan {
    let tokens = tenant.tokens().iter().filter(|(_, held)| held.record.user == id);
    let memberships = tenant.workspaces.iter().filter(|(_, one)| one.members.contains(&id));
    let tokens: Vec<_> = tokens.map(|(token, _)| (*token, id)).collect();
    let memberships: Vec<_> = memberships.map(|(workspace, _)| *workspace).collect();
    let credentials = at_home(tenant, Home::Personal(id));
    let dependents = dependents(tokens.len(), credentials.len(), memberships.len());
    let counted = Counted { id: id.to_string(), label: record.label.clone(), dependents };
    Plan { counted, tokens, credentials, memberships }
}

fn plan_workspace(tenant: &Tenant, id: WorkspaceId, record: &WorkspaceRecord) -> Plan {
    let credentials = at_home(tenant, Home::Workspace(id));
    let dependents = dependents(0, credentials.len(), record.members.len());
    let counted = Counted { id: id.to_string(), label: record.label.clone(), dependents };
    Plan { counted, tokens: Vec::new(), credentials, memberships: Vec::new() }
}

fn at_home(tenant: &Tenant, home: Home) -> Vec<CredentialId> {
    let all = tenant.credentials.iter();
    all.filter(|(_, held)| held.record.home == home).map(|(id, _)| *id).collect()
}

fn dependents(tokens: usize, credentials: usize, memberships: usize) -> Dependents {
    let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
    Dependents {
        tokens: number(tokens),
        credentials: number(credentials),
        memberships: number(memberships),
    }
}
