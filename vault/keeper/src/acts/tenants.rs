//! Tenants: made, disabled and deleted by whoever operates the vault.
//!
//! Invariant: a disabled tenant is stopped at once, calls under way included.
//! Invariant: what is deleted is what was counted; else nothing is.
//! Invariant: root before record when a tenant is made, records before root when it is deleted, its own record last: a crash
//! between them leaves a root without a record, which the next unsealing destroys, and never records without a root.

use strongroom_policy::id::TenantId;
use strongroom_policy::name::Label;
use strongroom_policy::rules::Standing;
use strongroom_protocol::operator::tenants::{
    Holdings, TenantCounted, TenantDeletion, TenantReceipt, TenantRow,
};
use strongroom_protocol::operator::{Answer, Fault, Pick};

use super::budgets::payers_of;
use super::people::{gone, taken};
use super::{Act, books_fault, fault, full_fault, picked, random_fault, write};
use crate::clock;
use crate::keeper::make_id;
use crate::keyring::ShredId;
use crate::records::{RecordName, RecordPlace, TenantRecord};
use crate::tables::{MAX_TENANTS, Tenant};

/// Most records of a tenant that go in one commit: a credential's description may have many pieces.
const MAX_TOGETHER: usize = 8;

impl Act<'_> {
    pub(super) fn tenants(&self) -> Result<Answer, Fault> {
        self.vault(|vault| {
            let row = |tenant: &Tenant| TenantRow {
                id: tenant.id,
                label: tenant.record.label.clone(),
                standing: tenant.record.standing,
                first: tenant.id == vault.tables.first(),
                holds: holdings(tenant),
                created: tenant.record.created,
            };
            Ok(Answer::Tenants(vault.tables.tenants().map(row).collect()))
        })
    }

    pub(super) async fn tenant_create(&self, label: Label) -> Result<Answer, Fault> {
        let id = make_id().map_err(random_fault)?;
        self.vault(|vault| {
            if vault.tables.tenants().any(|one| one.record.label == label) {
                return Err(taken("tenant", &label));
            }
            let few = vault.tables.tenants().count() < MAX_TENANTS;
            if few { Ok(()) } else { Err(full_fault("tenants")) }
        })?;
        let keys = self.tenant_keys(move |keyring| keyring.add_tenant(id, &mut getrandom::fill));
        let keys = keys.await?;
        self.vault(|vault| {
            vault.books.turn_to(keys);
            Ok(())
        })?;
        let created = Some(clock::now());
        let record = TenantRecord { label, standing: Standing::Active, created };
        let (kept, place) = (record.clone(), place_of(id));
        let act = self.within(id);
        act.commit(
            ("tenant.create", id.to_string()),
            |vault, changes| write(vault, changes, &place, &record),
            |vault| vault.tables.insert_tenant(id, kept),
        )
        .await?;
        Ok(Answer::Tenant(id))
    }

    pub(super) async fn tenant_disable(&self, pick: &Pick) -> Result<Answer, Fault> {
        let (id, record) = self.picked_tenant(pick)?;
        self.disable_tenant(id, record).await?;
        Ok(Answer::Done)
    }

    pub(super) async fn tenant_enable(&self, pick: &Pick) -> Result<Answer, Fault> {
        let (id, record) = self.picked_tenant(pick)?;
        let record = TenantRecord { standing: Standing::Active, ..record };
        self.put_tenant("tenant.enable", id, record).await?;
        Ok(Answer::Done)
    }

    pub(super) async fn tenant_delete(
        &self,
        pick: &Pick,
        deletion: TenantDeletion,
    ) -> Result<Answer, Fault> {
        let (id, record) = self.picked_tenant(pick)?;
        let act = self.within(id);
        let payers = act.in_tenant(|vault, tenant| Ok(payers_of(vault, tenant)))?;
        let (counted, places, owners) = act.in_tenant(|vault, tenant| {
            if id == vault.tables.first() {
                let what = "the first tenant holds what is the whole vault's, and is not deleted";
                return Err(fault("SR-TENANT-003", what, "disable it instead"));
            }
            let (label, holds) = (tenant.record.label.clone(), holdings(tenant));
            let owners: Vec<ShredId> = tenant.owners().collect();
            Ok((TenantCounted { id, label, holds }, tenant.places(), owners))
        })?;
        match deletion {
            TenantDeletion::Count => return Ok(Answer::TenantCounted(Box::new(counted))),
            TenantDeletion::Perform(holds) if holds == counted.holds => {}
            TenantDeletion::Perform(_) => {
                return Err(fault(
                    "SR-DELETE-001",
                    "what the tenant has changed since it was counted; nothing was deleted",
                    "run the command again and look at the count",
                ));
            }
        }
        let stopped = self.disable_tenant(id, record).await?;
        act.begin("tenant.delete", id.to_string()).await?;
        act.delete_places(&places).await?;
        self.vault(|vault| {
            vault.tables.remove_tenant(id);
            Ok(())
        })?;
        let commit = self.vault(|vault| Ok(vault.books.commit()))?;
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let destroyed_keys = number(owners.len()).saturating_add(1);
        let keyring_generation = self.destroy_tenant(id, owners).await?;
        // Last: the tenant and its keys are gone also when this fails.
        act.forget_budgets(payers.into_iter()).await?;
        Ok(Answer::TenantDeleted(Box::new(TenantReceipt {
            counted,
            records: number(places.len()),
            stopped_calls: number(stopped),
            destroyed_keys,
            keyring_generation,
            commit,
        })))
    }

    /// Takes a tenant's right to act, and answers how many calls were stopped.
    async fn disable_tenant(&self, id: TenantId, record: TenantRecord) -> Result<usize, Fault> {
        let record = TenantRecord { standing: Standing::Disabled, ..record };
        self.put_tenant("tenant.disable", id, record).await?;
        let stopped = self.stop(|party| party.tenant == id);
        // Nobody is signed in now, nor shall they be when it is enabled again.
        self.within(id).end_sessions(None).await?;
        Ok(stopped)
    }

    /// Removes records, a group's worth at a time.
    async fn delete_places(&self, places: &[RecordPlace]) -> Result<(), Fault> {
        for some in places.chunks(MAX_TOGETHER) {
            let changes = self.vault(|vault| {
                let delete = |changes, place| vault.books.delete(changes, place);
                let changes = some.iter().try_fold(vault.books.changes(), delete);
                changes.map_err(|error| books_fault(&error))
            })?;
            if let Err(error) = self.store(changes).await? {
                let act =
                    ("tenant.delete", self.tenant.map_or_else(String::new, |id| id.to_string()));
                return Err(self.store_failed(act, &error).await);
            }
        }
        Ok(())
    }

    fn picked_tenant(&self, pick: &Pick) -> Result<(TenantId, TenantRecord), Fault> {
        self.vault(|vault| {
            let id = picked(vault.tables.pick_tenant(pick))?;
            let tenant = vault.tables.tenant(id).ok_or_else(|| gone("tenant"))?;
            Ok((id, tenant.record.clone()))
        })
    }

    async fn put_tenant(
        &self,
        act: &'static str,
        id: TenantId,
        record: TenantRecord,
    ) -> Result<(), Fault> {
        let (kept, place) = (record.clone(), place_of(id));
        self.within(id)
            .commit_in(
                (act, id.to_string()),
                |vault, changes| write(vault, changes, &place, &record),
                |tenant| tenant.record = kept,
            )
            .await
    }
}

const fn place_of(tenant: TenantId) -> RecordPlace {
    RecordPlace { tenant, name: RecordName::Tenant }
}

fn holdings(tenant: &Tenant) -> Holdings {
    let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
    Holdings {
        users: number(tenant.users.len()),
        workspaces: number(tenant.workspaces.len()),
        tokens: number(tenant.tokens().len()),
        credentials: number(tenant.credentials.len()),
    }
}
