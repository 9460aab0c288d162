//! People and workspaces.
//!
//! Invariant: who is disabled or leaves is stopped at once, calls under way included.

use strongroom_policy::id::{UserId, WorkspaceId};
use strongroom_policy::name::Label;
use strongroom_policy::rules::Standing;
use strongroom_protocol::operator::listing::{UserRow, WorkspaceRow};
use strongroom_protocol::operator::{Answer, Fault, Pick};

use super::{Act, fault, full_fault, picked, random_fault, write};
use crate::clock;
use crate::keeper::make_id;
use crate::keyring::ShredId;
use crate::records::{RecordName, UserRecord, WorkspaceRecord};

/// Most members of one workspace.
const MAX_MEMBERS: usize = 1000;

impl Act<'_> {
    pub(super) fn users(&self) -> Result<Answer, Fault> {
        self.in_tenant(|_, tenant| {
            let row = |(id, one): (&UserId, &UserRecord)| UserRow {
                id: *id,
                label: one.label.clone(),
                standing: one.standing,
                created: one.created,
            };
            Ok(Answer::Users(tenant.users.iter().map(row).collect()))
        })
    }

    pub(super) fn workspaces(&self) -> Result<Answer, Fault> {
        self.in_tenant(|_, tenant| {
            let users = &tenant.users;
            let member = |id: &UserId| users.get(id).map(|one| (*id, one.label.clone()));
            let row = |(id, one): (&WorkspaceId, &WorkspaceRecord)| WorkspaceRow {
                id: *id,
                label: one.label.clone(),
                members: one.members.iter().filter_map(member).collect(),
                created: one.created,
            };
            Ok(Answer::Workspaces(tenant.workspaces.iter().map(row).collect()))
        })
    }

    pub(super) async fn user_create(&self, label: Label) -> Result<Answer, Fault> {
        let id = make_id().map_err(random_fault)?;
        self.in_tenant(|vault, tenant| {
            if tenant.users.values().any(|one| one.label == label) {
                return Err(taken("user", &label));
            }
            let room = vault.tables.has_room(tenant, |one| one.users.len());
            if room { Ok(()) } else { Err(full_fault("users")) }
        })?;
        self.make_shred_key(ShredId::of(id)).await?;
        let record = UserRecord { label, standing: Standing::Active, created: clock::now() };
        self.put_user("user.create", id, record).await?;
        Ok(Answer::User(id))
    }

    pub(super) async fn user_disable(&self, pick: Pick) -> Result<Answer, Fault> {
        let (id, record) = self.user(&pick)?;
        let record = UserRecord { standing: Standing::Disabled, ..record };
        self.put_user("user.disable", id, record).await?;
        self.stop(|party| party.user == id);
        // Others, too, who use this person's keys by a rule.
        self.judge_again();
        // None of them counts any more; nor shall they when the person is enabled again.
        self.end_sessions(Some(id)).await?;
        Ok(Answer::Done)
    }

    pub(super) async fn user_enable(&self, pick: Pick) -> Result<Answer, Fault> {
        let (id, record) = self.user(&pick)?;
        let record = UserRecord { standing: Standing::Active, ..record };
        self.put_user("user.enable", id, record).await?;
        Ok(Answer::Done)
    }

    pub(super) async fn workspace_create(&self, label: Label) -> Result<Answer, Fault> {
        let id = make_id().map_err(random_fault)?;
        self.in_tenant(|vault, tenant| {
            if tenant.workspaces.values().any(|one| one.label == label) {
                return Err(taken("workspace", &label));
            }
            let room = vault.tables.has_room(tenant, |one| one.workspaces.len());
            if room { Ok(()) } else { Err(full_fault("workspaces")) }
        })?;
        self.make_shred_key(ShredId::of(id)).await?;
        let record = WorkspaceRecord { label, members: Vec::new(), created: clock::now() };
        self.put_workspace("workspace.create", id, record).await?;
        Ok(Answer::Workspace(id))
    }

    pub(super) async fn workspace_join(
        &self,
        workspace: Pick,
        user: Pick,
    ) -> Result<Answer, Fault> {
        let (id, mut record) = self.workspace(&workspace)?;
        let (user, _) = self.user(&user)?;
        if record.members.len() >= MAX_MEMBERS {
            return Err(full_fault("members in this workspace"));
        }
        if !record.members.contains(&user) {
            record.members.push(user);
            self.put_membership("workspace.join", (id, user), record).await?;
        }
        Ok(Answer::Done)
    }

    pub(super) async fn workspace_leave(
        &self,
        workspace: Pick,
        user: Pick,
    ) -> Result<Answer, Fault> {
        let (id, mut record) = self.workspace(&workspace)?;
        let (user, _) = self.user(&user)?;
        record.members.retain(|member| *member != user);
        self.put_membership("workspace.leave", (id, user), record).await?;
        // Whatever they used as a member: its own keys, and others' by a rule.
        self.judge_again();
        Ok(Answer::Done)
    }

    pub(super) fn user(&self, pick: &Pick) -> Result<(UserId, UserRecord), Fault> {
        self.in_tenant(|_, tenant| {
            let id = picked(tenant.pick_user(pick))?;
            let record = tenant.users.get(&id).cloned();
            record.map(|record| (id, record)).ok_or_else(|| gone("user"))
        })
    }

    pub(super) fn workspace(&self, pick: &Pick) -> Result<(WorkspaceId, WorkspaceRecord), Fault> {
        self.in_tenant(|_, tenant| {
            let id = picked(tenant.pick_workspace(pick))?;
            let record = tenant.workspaces.get(&id).cloned();
            record.map(|record| (id, record)).ok_or_else(|| gone("workspace"))
        })
    }

    pub(super) async fn put_user(
        &self,
        act: &'static str,
        id: UserId,
        record: UserRecord,
    ) -> Result<(), Fault> {
        let (kept, place) = (record.clone(), self.place(RecordName::User(id))?);
        self.commit_in(
            (act, id.to_string()),
            |vault, changes| write(vault, changes, &place, &record),
            |tenant| drop(tenant.users.insert(id, kept)),
        )
        .await
    }

    /// The journal names both, so that a restore can end a membership again.
    pub(super) async fn put_membership(
        &self,
        act: &'static str,
        (id, user): (WorkspaceId, UserId),
        record: WorkspaceRecord,
    ) -> Result<(), Fault> {
        self.put_workspace_as((act, format!("{id}/{user}")), id, record).await
    }

    pub(super) async fn put_workspace(
        &self,
        act: &'static str,
        id: WorkspaceId,
        record: WorkspaceRecord,
    ) -> Result<(), Fault> {
        self.put_workspace_as((act, id.to_string()), id, record).await
    }

    async fn put_workspace_as(
        &self,
        act: (&'static str, String),
        id: WorkspaceId,
        record: WorkspaceRecord,
    ) -> Result<(), Fault> {
        let (kept, place) = (record.clone(), self.place(RecordName::Workspace(id))?);
        self.commit_in(
            act,
            |vault, changes| write(vault, changes, &place, &record),
            |tenant| tenant.put_workspace(id, kept),
        )
        .await
    }
}

pub(super) fn taken(what: &str, label: &Label) -> Fault {
    fault(
        "SR-NAME-001",
        format!("there is a {what} called '{label}' already"),
        "choose another name",
    )
}

pub(super) fn gone(what: &str) -> Fault {
    let next = format!("see 'strongroom {what} list' for what there is");
    fault("SR-PICK-002", format!("there is no such {what}"), &next)
}
