//! Providers' keys: upload, rotation, test, deletion.
//!
//! Invariant: a key arrives sealed to this vault and bound to its destination, and never leaves but inside an errand.
//! Invariant: deletion destroys the shred key, in both slots, before it is answered; so does rotation with the old one.

use std::time::{Duration, Instant};

use strongroom_policy::budget::Payer;
use strongroom_policy::claims::{Claims, Length};
use strongroom_policy::destination::Destination;
use strongroom_policy::id::{CallId, CredentialId, TenantId, UploadId};
use strongroom_policy::provider::Origin;
use strongroom_policy::route::BodyKind;
use strongroom_policy::rules::{Choice, CredentialRules, Home, MAX_CHOICES};
use strongroom_protocol::SecretBytes;
use strongroom_protocol::errand::{Deadlines, Errand, Outcome, ToCourier};
use strongroom_protocol::operator::listing::CredentialRow;
use strongroom_protocol::operator::{Answer, CredentialWish, Fault, HomePick, Pick, Tested};
use strongroom_protocol::upload::{UploadAct, UploadBinding, digest_destination, open_upload};
use strongroom_sys::{Secret, stack};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::people::{gone, taken};
use super::providers::base_url;
use super::{Act, fault, full_fault, picked, plain, random_fault, write};
use crate::clock;
use crate::keeper::{Probing, make_id};
use crate::keyring::ShredId;
use crate::keys::{self, HPKE_STACK_BYTES};
use crate::pipeline;
use crate::records::{CredentialRecord, RecordName};
use crate::tables::{HeldCredential, Tenant};
use crate::uploads::Upload;
use crate::vault::Vault;

/// Most tests at once.
const MAX_PROBES: usize = 8;
/// How long an operator waits for a provider.
const PROBE_PATIENCE: Duration = Duration::from_secs(25);

impl Act<'_> {
    pub(super) fn credentials(&self) -> Result<Answer, Fault> {
        self.in_tenant(|_, tenant| {
            let row = |(id, held): (&CredentialId, &HeldCredential)| {
                let record = &held.record;
                Some(CredentialRow {
                    id: *id,
                    label: record.label.clone(),
                    provider: record.provider.clone(),
                    home: record.home,
                    home_label: tenant.home_label(record.home)?.clone(),
                    base_url: base_url(&record.destination),
                    version: record.version,
                    rules: record.rules.clone(),
                    created: record.created,
                    rotated: record.rotated,
                })
            };
            Ok(Answer::Credentials(tenant.credentials.iter().filter_map(row).collect()))
        })
    }

    /// Opens an upload for a new credential: from here on nobody chooses its destination.
    pub(super) fn credential_add(&self, wish: CredentialWish) -> Result<Answer, Fault> {
        check_rules(&wish.rules)?;
        let (of, record) = self.in_tenant(|vault, tenant| {
            if !vault.tables.has_room(tenant, |one| one.credentials.len()) {
                return Err(full_fault("credentials"));
            }
            let home = home_of(tenant, &wish.home)?;
            let same =
                |one: &HeldCredential| one.record.label == wish.label && one.record.home == home;
            if tenant.credentials.values().any(same) {
                return Err(taken("credential", &wish.label));
            }
            let definition =
                vault.tables.providers.get(&wish.provider).ok_or_else(|| gone("provider"))?;
            let destination =
                Destination { fixed_headers: wish.fixed_headers, ..definition.destination.clone() };
            destination.check().map_err(|error| {
                fault(
                    "SR-CREDENTIAL-004",
                    error.to_string(),
                    "see 'strongroom credential add --help'",
                )
            })?;
            let now = clock::now();
            let record = CredentialRecord {
                label: wish.label,
                provider: wish.provider,
                home,
                destination,
                rules: wish.rules,
                version: 1,
                created: now,
                rotated: now,
            };
            Ok((tenant.id, record))
        })?;
        self.vault(|vault| open_upload_for(vault, of, record, UploadAct::Add))
    }

    /// Opens an upload for a new key of a credential; its destination becomes the provider's present one.
    pub(super) fn credential_rotate(&self, pick: &Pick) -> Result<Answer, Fault> {
        let (of, id, record) = self.in_tenant(|vault, tenant| {
            let id = picked(tenant.pick_credential(pick))?;
            let held = tenant.credentials.get(&id).ok_or_else(|| gone("credential"))?;
            let mut record = held.record.clone();
            if let Some(definition) = vault.tables.providers.get(&record.provider) {
                let fixed_headers = std::mem::take(&mut record.destination.fixed_headers);
                record.destination =
                    Destination { fixed_headers, ..definition.destination.clone() };
            }
            record.rotated = clock::now();
            Ok((tenant.id, id, record))
        })?;
        self.vault(|vault| open_upload_for(vault, of, record, UploadAct::Rotate(id)))
    }

    /// Ends an upload: opens the blob under exactly what the upload was opened for.
    pub(super) async fn credential_upload(
        &self,
        upload: UploadId,
        blob: Vec<u8>,
    ) -> Result<Answer, Fault> {
        let of = self.in_tenant(|_, tenant| Ok(tenant.id))?;
        let (upload, key) = self.vault(|vault| {
            let upload = vault.uploads.spend(upload, Instant::now());
            // One that was opened for another tenant is none here.
            let upload = upload.filter(|one| one.binding.tenant == of).ok_or_else(|| {
                fault("SR-UPLOAD-001", "this upload was used or is over", "begin again")
            })?;
            let key = vault.upload_key.secret().expose(|secret| {
                let secret = secret.try_into().map_err(|_| unusable_upload())?;
                let open = || open_upload(secret, &upload.binding, &blob);
                stack::wiping::<HPKE_STACK_BYTES, _>(open).map_err(|error| {
                    fault(
                        "SR-UPLOAD-002",
                        error.to_string(),
                        "begin again; check the pinned vault key (vault.pub)",
                    )
                })
            })?;
            Ok((upload, key.expose(Secret::copy_from)))
        })?;
        let id = match upload.binding.act {
            UploadAct::Add => make_id().map_err(random_fault)?,
            UploadAct::Rotate(id) => id,
        };
        self.store_key(id, upload, key).await?;
        Ok(Answer::Credential(id))
    }

    async fn store_key(&self, id: CredentialId, upload: Upload, key: Secret) -> Result<(), Fault> {
        let act = match upload.binding.act {
            UploadAct::Add => "credential.add",
            UploadAct::Rotate(_) => "credential.rotate",
        };
        let owner = ShredId::of(id);
        let record = self.in_tenant(|_, tenant| current_record(tenant, id, &upload))?;
        let description = plain(&record)?;
        // A new key lies under a shred key of its own: the ciphertext of the old one dies with the old shred key.
        let shred = match upload.binding.act {
            UploadAct::Add => self.make_shred_key(owner).await?,
            UploadAct::Rotate(_) => self.make_successor(owner).await?,
        };
        let sealed =
            self.vault(|vault| vault.memory_seal.seal(id, &key).map_err(|_| unusable_upload()))?;
        let places = [RecordName::Key(id), RecordName::Credential(id)].map(|name| self.place(name));
        let [at_key, at_description] = places;
        let (at_key, at_description) = (at_key?, at_description?);
        self.commit(
            (act, id.to_string()),
            |vault, changes| {
                let changes = vault.books.put_under(changes, (&at_key, Some(&shred)), &key)?;
                vault.books.put_under(changes, (&at_description, Some(&shred)), &description)
            },
            |_| (),
        )
        .await?;
        self.vault(|vault| {
            vault.books.hold_shred(owner, shred);
            let tenant = vault.tables.tenant_mut(at_key.tenant).ok_or_else(|| gone("tenant"))?;
            tenant.insert_credential(id, record, sealed);
            Ok(())
        })?;
        // What was admitted with the old key does not go on with it.
        self.stop(|party| party.credential == id);
        match upload.binding.act {
            UploadAct::Add => Ok(()),
            UploadAct::Rotate(_) => self.settle_successor(owner).await,
        }
    }

    pub(super) async fn credential_rules(
        &self,
        pick: &Pick,
        rules: CredentialRules,
    ) -> Result<Answer, Fault> {
        check_rules(&rules)?;
        let (id, record) = self.in_tenant(|_, tenant| {
            let id = picked(tenant.pick_credential(pick))?;
            let held = tenant.credentials.get(&id).ok_or_else(|| gone("credential"))?;
            Ok((id, CredentialRecord { rules, ..held.record.clone() }))
        })?;
        let (kept, place) = (record.clone(), self.place(RecordName::Credential(id))?);
        self.commit_in(
            ("credential.rules", id.to_string()),
            |vault, changes| write(vault, changes, &place, &record),
            |tenant| {
                let facts = kept.facts(id, tenant.id);
                if let Some(held) = tenant.credentials.get_mut(&id) {
                    held.record = kept;
                    held.facts = facts;
                }
            },
        )
        .await?;
        // Calls under way were judged by the old rules.
        self.stop(|party| party.credential == id);
        Ok(Answer::Done)
    }

    pub(super) async fn credential_delete(&self, pick: &Pick) -> Result<Answer, Fault> {
        let (id, places) = self.in_tenant(|_, tenant| {
            let id = picked(tenant.pick_credential(pick))?;
            let names = [RecordName::Key(id), RecordName::Credential(id)];
            Ok((id, names.map(|name| tenant.place(name))))
        })?;
        self.commit_in(
            ("credential.delete", id.to_string()),
            |vault, changes| {
                places.iter().try_fold(changes, |changes, place| vault.books.delete(changes, place))
            },
            |tenant| tenant.remove_credential(id),
        )
        .await?;
        self.stop(|party| party.credential == id);
        self.destroy_shred_keys(vec![ShredId::of(id)]).await?;
        self.forget_budgets(std::iter::once(Payer::Credential(id))).await?;
        Ok(Answer::Done)
    }

    /// The provider's cheapest call, as an errand without a gateway.
    pub(super) async fn credential_test(&self, pick: &Pick) -> Result<Answer, Fault> {
        let call = make_id().map_err(random_fault)?;
        let (id, origin) = self.in_tenant(|vault, tenant| {
            let id = picked(tenant.pick_credential(pick))?;
            Ok((id, origin_of((vault, tenant), id)?))
        })?;
        if !self.keeper.has_courier(origin) {
            return Err(fault(
                "SR-COURIER-001",
                format!("the courier of {} providers is not there", origin.name()),
                "try again in a moment; see 'strongroom status'",
            ));
        }
        if self.keeper.probes.borrow().len() >= MAX_PROBES {
            return Err(full_fault("tests under way"));
        }
        self.begin("credential.test", id.to_string()).await?;
        let public_url = &self.keeper.settings.public_url;
        let errand =
            self.in_tenant(|vault, tenant| probe((vault, tenant), (call, id), public_url))?;
        let (waiter, answer) = oneshot::channel();
        let probing = Probing { origin, waiter, outcome: None };
        self.keeper.probes.borrow_mut().insert(call, probing);
        self.keeper.tell_courier(origin, &ToCourier::Probe(Box::new(errand)));
        let told: Option<(Outcome, String)> =
            timeout(PROBE_PATIENCE, answer).await.ok().and_then(Result::ok);
        self.keeper.probes.borrow_mut().remove(&call);
        let Some((outcome, text)) = told else {
            return Err(fault(
                "SR-COURIER-003",
                "the courier did not report in time",
                "try again; see 'strongroom doctor'",
            ));
        };
        Ok(Answer::Tested(Box::new(Tested { call, outcome, text })))
    }
}

/// The record as it is now, with what the upload was opened for: rules that were changed meanwhile stay changed.
fn current_record(
    tenant: &Tenant,
    id: CredentialId,
    upload: &Upload,
) -> Result<CredentialRecord, Fault> {
    let UploadAct::Rotate(_) = upload.binding.act else {
        // Whose it is to be may have been deleted since the upload was opened.
        tenant.home_label(upload.record.home).ok_or_else(|| gone("home"))?;
        return Ok(upload.record.clone());
    };
    let held = tenant.credentials.get(&id).ok_or_else(|| gone("credential"))?;
    Ok(CredentialRecord {
        destination: upload.record.destination.clone(),
        rotated: upload.record.rotated,
        version: held.record.version.saturating_add(1),
        ..held.record.clone()
    })
}

fn open_upload_for(
    vault: &mut Vault,
    tenant: TenantId,
    record: CredentialRecord,
    act: UploadAct,
) -> Result<Answer, Fault> {
    let binding = UploadBinding {
        vault: vault.store.0,
        upload: make_id().map_err(random_fault)?,
        tenant,
        home: record.home,
        act,
        destination_digest: digest_destination(&record.destination),
    };
    let destination = Box::new(record.destination.clone());
    vault
        .uploads
        .open(binding.clone(), record, Instant::now())
        .map_err(|error| fault("SR-UPLOAD-003", error.to_string(), "try again in ten minutes"))?;
    Ok(Answer::Upload { binding: Box::new(binding), destination })
}

/// Whose courier makes the calls of a credential.
fn origin_of((vault, tenant): (&Vault, &Tenant), id: CredentialId) -> Result<Origin, Fault> {
    let held = tenant.credentials.get(&id).ok_or_else(|| gone("credential"))?;
    let provider = vault.tables.providers.get(&held.record.provider);
    Ok(provider.ok_or_else(|| gone("provider"))?.origin)
}

fn probe(
    (vault, tenant): (&Vault, &Tenant),
    (call, id): (CallId, CredentialId),
    public_url: &str,
) -> Result<Errand, Fault> {
    let held = tenant.credentials.get(&id).ok_or_else(|| gone("credential"))?;
    let record = &held.record;
    let definition =
        vault.tables.providers.get(&record.provider).ok_or_else(|| gone("provider"))?;
    let probe = definition.probe.clone().ok_or_else(|| {
        fault(
            "SR-CREDENTIAL-005",
            "this provider has no test request",
            "make a call with it instead",
        )
    })?;
    let key = vault.memory_seal.open(id, &held.sealed_key).map_err(|_| unusable_upload())?;
    let nobody = strongroom_policy::id::UserId::from_random([0; 16]);
    let tag = keys::tag_idempotency(&vault.subject_tag, &nobody, b"");
    Ok(Errand {
        call,
        credential: id,
        credential_version: record.version,
        destination: record.destination.clone(),
        secret: key.expose(SecretBytes::copy_from),
        method: probe.method,
        target: probe.target,
        dialect: definition.dialect,
        body: BodyKind::Empty,
        claims: Claims::of_no_body(None),
        length: Length::Known(0),
        betas: Vec::new(),
        idempotency_tag: SecretBytes::copy_from(&tag),
        public_prefix: pipeline::public_prefix(vault, &record.provider, public_url),
        deadlines: Deadlines::PROBE,
    })
}

fn home_of(tenant: &Tenant, pick: &HomePick) -> Result<Home, Fault> {
    Ok(match pick {
        HomePick::Personal(None) => Home::Personal(picked(tenant.first_user())?),
        HomePick::Personal(Some(user)) => Home::Personal(picked(tenant.pick_user(user))?),
        HomePick::Workspace(workspace) => {
            Home::Workspace(picked(tenant.pick_workspace(workspace))?)
        }
    })
}

fn check_rules(rules: &CredentialRules) -> Result<(), Fault> {
    let models = matches!(&rules.models, Choice::Only(list) if list.len() > MAX_CHOICES);
    let betas = matches!(&rules.betas, Choice::Only(list) if list.len() > MAX_CHOICES);
    if models || betas { Err(full_fault("entries in one list")) } else { Ok(()) }
}

fn unusable_upload() -> Fault {
    fault("SR-INTERNAL-006", "a key cannot be sealed or opened", "report this as a defect")
}
