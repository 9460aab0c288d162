//! The open vault's records in memory: each tenant's tables, what is the whole vault's, and the one place where a token is
//! resolved to its tenant.
//!
//! Invariant: whatever follows from a token is looked up in the tables of the tenant that the token's hash named.
//! Invariant: a change is here only after it is durable.
//! Invariant: the tables are bounded by what operators made, never by what callers send.

pub mod tenant;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::de::DeserializeOwned;
use strongroom_policy::id::{CredentialId, TenantId, TokenId, UserId};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{Label, ProviderName};
use strongroom_policy::provider::{Origin, ProviderDefinition, builtin};
use strongroom_policy::rules::{Standing, Subject};
use strongroom_protocol::operator::Pick;
use strongroom_protocol::operator::backup::Restored;
use strongroom_sys::Secret;
use strongroom_tlog::key::Name;

use crate::budgets::Stored;
use crate::keyring::ShredId;
use crate::memory_seal::SealedKey;
use crate::people::{Person, SignIns, SigningKey};
use crate::records::{CredentialRecord, RecordName, RecordPlace, TenantRecord, TokenRecord};
use crate::settings::Settings;
use crate::tickets::Party;
use crate::witnesses::WitnessRecord;
pub use tenant::{HeldCredential, HeldRules, HeldToken, Tenant};

/// Most records of one kind, in all tenants together.
pub const MAX_RECORDS: usize = 20_000;
/// Most records of one kind of a tenant that is not the first: no one of them takes all the room.
pub const MAX_RECORDS_OF_TENANT: usize = 5_000;
/// Most tenants.
pub const MAX_TENANTS: usize = 256;

/// Every record in memory.
pub struct Tables {
    /// The tenant that the vault was made with.
    first: TenantId,
    tenants: BTreeMap<TenantId, Tenant>,
    /// Tokens by the whole of their hash.
    by_hash: HashMap<[u8; 32], (TenantId, TokenId)>,
    /// Built-in and operator-defined providers.
    pub providers: BTreeMap<ProviderName, ProviderDefinition>,
    /// That the vault was restored, until an operator has looked at it: no power grows until then.
    pub restored: Option<Restored>,
    /// Enrolled witnesses.
    pub witnesses: BTreeMap<Name, WitnessRecord>,
    /// The settings that the vault was last opened under; of earlier versions none.
    pub settings: Option<Settings>,
    /// Signing in, of whichever tenant's people.
    pub sign_ins: SignIns,
    /// What the store says of budgets and prices, until the vault is open: then its `budgets` have it.
    pub stored_budgets: Stored,
}

/// Why a thing that was picked is not found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// No such id or label.
    #[error("no {what} is called '{pick}'")]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// By which text.
        pick: String,
    },
    /// Several of this label.
    #[error("several {what}s are called '{pick}'; use the id")]
    Several {
        /// What was looked for.
        what: &'static str,
        /// By which text.
        pick: String,
    },
    /// The first person is meant, and there is none.
    #[error("there is no user yet, and it has to be somebody's")]
    Nobody,
}

/// A record that no version of this program wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record is malformed")]
pub struct Malformed;

/// Records of one tenant as they come out of the store.
struct Draft {
    record: Option<TenantRecord>,
    tenant: Tenant,
    described: BTreeMap<CredentialId, CredentialRecord>,
    keys: BTreeMap<CredentialId, SealedKey>,
}

impl Draft {
    fn new(id: TenantId, nameless: &TenantRecord) -> Self {
        let tenant = Tenant::new(id, nameless.clone());
        Self { record: None, tenant, described: BTreeMap::new(), keys: BTreeMap::new() }
    }

    /// A tenant is one by its record; the first one may be without.
    fn finish(self, first: TenantId) -> Result<Tenant, Malformed> {
        let Self { record, mut tenant, described, mut keys } = self;
        match record {
            Some(record) => tenant.record = record,
            None if tenant.id == first => {}
            None => return Err(Malformed),
        }
        for (id, record) in described {
            let sealed_key = keys.remove(&id).ok_or(Malformed)?;
            tenant.insert_credential(id, record, sealed_key);
        }
        let known = |user: &UserId| tenant.users.contains_key(user);
        let whole = keys.is_empty() && tenant.people.owners().iter().all(known);
        if whole { Ok(tenant) } else { Err(Malformed) }
    }
}

impl Tables {
    /// Reads the tables out of the opened records. `hold` and `sign` seal a key for memory.
    ///
    /// # Errors
    /// When a record cannot be read, a credential has no key, or a tenant no record of its own.
    pub fn read(
        first: TenantId,
        records: impl IntoIterator<Item = (RecordPlace, Secret)>,
        hold: impl Fn(CredentialId, &Secret) -> Result<SealedKey, Malformed>,
        sign: impl Fn(&Secret) -> Result<SigningKey, Malformed>,
    ) -> Result<Self, Malformed> {
        let definitions = builtin::definitions().map_err(|_| Malformed)?;
        let mut tables = Self {
            first,
            tenants: BTreeMap::new(),
            by_hash: HashMap::new(),
            witnesses: BTreeMap::new(),
            providers: definitions.into_iter().map(|one| (one.name.clone(), one)).collect(),
            restored: None,
            settings: None,
            sign_ins: SignIns::default(),
            stored_budgets: Stored::default(),
        };
        let nameless = TenantRecord::first().map_err(|_| Malformed)?;
        let mut drafts = BTreeMap::from([(first, Draft::new(first, &nameless))]);
        for (RecordPlace { tenant, name }, plain) in records {
            let draft = drafts.entry(tenant).or_insert_with(|| Draft::new(tenant, &nameless));
            tables.take(draft, (name, &plain), (&hold, &sign))?;
        }
        for (id, draft) in drafts {
            tables.tenants.insert(id, draft.finish(first)?);
        }
        Ok(tables)
    }

    fn take(
        &mut self,
        draft: &mut Draft,
        (name, plain): (RecordName, &Secret),
        (hold, sign): (
            impl Fn(CredentialId, &Secret) -> Result<SealedKey, Malformed>,
            impl Fn(&Secret) -> Result<SigningKey, Malformed>,
        ),
    ) -> Result<(), Malformed> {
        match name {
            RecordName::Tenant => draft.record = Some(decode(plain)?),
            RecordName::User(id) => drop(draft.tenant.users.insert(id, decode(plain)?)),
            RecordName::Workspace(id) => draft.tenant.put_workspace(id, decode(plain)?),
            RecordName::LooseToken(id) => {
                let record: TokenRecord = decode(plain)?;
                self.by_hash.insert(record.hash, (draft.tenant.id, id));
                draft.tenant.insert_token(id, record);
            }
            RecordName::Token(user, id) => {
                let record: TokenRecord = decode(plain)?;
                if record.user != user {
                    return Err(Malformed);
                }
                self.by_hash.insert(record.hash, (draft.tenant.id, id));
                draft.tenant.insert_token(id, record);
            }
            RecordName::Provider(name) => {
                // Whatever it says of itself, what is stored is an operator's: its courier is not the built-in ones'.
                let definition = ProviderDefinition { origin: Origin::Operator, ..decode(plain)? };
                self.providers.insert(name, definition);
            }
            RecordName::Witness(name) => drop(self.witnesses.insert(name, decode(plain)?)),
            RecordName::Credential(id) => drop(draft.described.insert(id, decode(plain)?)),
            RecordName::Key(id) => drop(draft.keys.insert(id, hold(id, plain)?)),
            RecordName::Restored => self.restored = Some(decode(plain)?),
            RecordName::Settings => self.settings = Some(decode(plain)?),
            RecordName::Personal(user, part) => draft.tenant.people.read(user, part, plain)?,
            RecordName::Nobody => self.sign_ins.nobody = Some(decode(plain)?),
            RecordName::SessionKey => self.sign_ins.signing = Some(sign(plain)?),
            RecordName::Rules => draft.tenant.rules = HeldRules::read(decode(plain)?)?,
            RecordName::Budget(payer) => {
                self.stored_budgets.records.insert(payer, decode(plain)?);
            }
            RecordName::Spent(payer) => {
                self.stored_budgets.leases.insert(payer, decode(plain)?);
            }
            RecordName::Prices => self.stored_budgets.prices = Some(decode(plain)?),
        }
        Ok(())
    }

    /// The tenant that the vault was made with: what is asked of none in particular is asked of it.
    pub fn first(&self) -> TenantId {
        self.first
    }

    /// Every tenant.
    pub fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.values()
    }

    /// One tenant's tables.
    pub fn tenant(&self, id: TenantId) -> Option<&Tenant> {
        self.tenants.get(&id)
    }

    /// One tenant's tables, to change them; tokens come and go by [`Self::insert_token`] and [`Self::remove_token`].
    pub fn tenant_mut(&mut self, id: TenantId) -> Option<&mut Tenant> {
        self.tenants.get_mut(&id)
    }

    /// Takes in a tenant that is durable, and has nothing yet.
    pub fn insert_tenant(&mut self, id: TenantId, record: TenantRecord) {
        self.tenants.insert(id, Tenant::new(id, record));
    }

    /// Takes a tenant out, with all that it had.
    pub fn remove_tenant(&mut self, id: TenantId) {
        self.by_hash.retain(|_, (tenant, _)| *tenant != id);
        self.tenants.remove(&id);
    }

    /// Whether a person acts: they and their tenant are active.
    pub fn acts(&self, person: Person) -> bool {
        let Some(tenant) = self.tenant(person.tenant) else { return false };
        let standing = tenant.users.get(&person.user).map(|record| record.standing);
        tenant.record.standing == Standing::Active && standing == Some(Standing::Active)
    }

    /// A person's name.
    pub fn name_of(&self, person: Person) -> Option<&Label> {
        self.tenant(person.tenant)?.users.get(&person.user).map(|record| &record.label)
    }

    /// Whose shred keys there must be.
    pub fn owners(&self) -> BTreeSet<ShredId> {
        self.tenants().flat_map(Tenant::owners).collect()
    }

    /// How many of something all tenants have together.
    pub fn count(&self, of: impl Fn(&Tenant) -> usize) -> usize {
        self.tenants().map(of).fold(0, usize::saturating_add)
    }

    /// Whether a tenant may have one more of something.
    pub fn has_room(&self, tenant: &Tenant, of: impl Fn(&Tenant) -> usize) -> bool {
        let own = if tenant.id == self.first { MAX_RECORDS } else { MAX_RECORDS_OF_TENANT };
        of(tenant) < own && self.count(of) < MAX_RECORDS
    }

    /// Takes in a tenant's token that is durable.
    pub fn insert_token(&mut self, tenant: TenantId, id: TokenId, record: TokenRecord) {
        if let Some(one) = self.tenants.get_mut(&tenant) {
            self.by_hash.insert(record.hash, (tenant, id));
            one.insert_token(id, record);
        }
    }

    /// Takes a tenant's token out.
    pub fn remove_token(&mut self, tenant: TenantId, id: TokenId) {
        let held = self.tenants.get_mut(&tenant).and_then(|one| one.remove_token(id));
        if let Some(held) = held {
            self.by_hash.remove(&held.record.hash);
        }
    }

    /// Who the token of a hash speaks for: the one place where a proof is resolved, to its tenant first. The hash is keyed, so
    /// finding it by map tells a guesser nothing.
    pub fn subject_of(&self, hash: &[u8; 32]) -> Option<Subject> {
        // It may have been revoked after the backup or after a journal's end, and nobody can tell: until an operator has
        // looked at a restored vault every token sleeps, and a sleeping token is none.
        if self.restored.is_some() {
            return None;
        }
        let (tenant, token) = self.by_hash.get(hash)?;
        self.tenants.get(tenant)?.subject(*token)
    }

    /// Whether a call under way may go on, as things are now.
    pub fn stands(&self, party: &Party, now: Moment) -> bool {
        self.tenants.get(&party.tenant).is_some_and(|tenant| tenant.stands(party, now))
    }

    /// Whether what may be done in a call's tenant depends on when.
    pub fn is_timed(&self, party: &Party) -> bool {
        self.tenants.get(&party.tenant).is_some_and(|tenant| tenant.rules.set.is_timed())
    }

    /// Finds a person by id or label, in one tenant or in all.
    ///
    /// # Errors
    /// When there is none, or several of that label.
    pub fn pick_user(&self, only: Option<TenantId>, pick: &Pick) -> Result<UserId, PickError> {
        let users = self.some(only).flat_map(|one| &one.users);
        tenant::pick_one("user", pick, users.map(|(id, one)| (*id, &one.label)))
    }

    /// Finds a token by id or label, in one tenant or in all.
    ///
    /// # Errors
    /// When there is none, or several of that label.
    pub fn pick_token(&self, only: Option<TenantId>, pick: &Pick) -> Result<TokenId, PickError> {
        let tokens = self.some(only).flat_map(Tenant::tokens);
        tenant::pick_one("token", pick, tokens.map(|(id, held)| (*id, &held.record.label)))
    }

    /// Finds a credential by id or label, in one tenant or in all.
    ///
    /// # Errors
    /// When there is none, or several of that label.
    pub fn pick_credential(
        &self,
        only: Option<TenantId>,
        pick: &Pick,
    ) -> Result<CredentialId, PickError> {
        let all = self.some(only).flat_map(|one| &one.credentials);
        tenant::pick_one("credential", pick, all.map(|(id, held)| (*id, &held.record.label)))
    }

    /// The one tenant that is named, or all.
    pub fn some(&self, only: Option<TenantId>) -> impl Iterator<Item = &Tenant> {
        self.tenants().filter(move |one| only.is_none_or(|only| one.id == only))
    }

    /// Finds a tenant by id or label.
    ///
    /// # Errors
    /// When there is none.
    pub fn pick_tenant(&self, pick: &Pick) -> Result<TenantId, PickError> {
        let all = self.tenants.iter().map(|(id, one)| (*id, &one.record.label));
        tenant::pick_one("tenant", pick, all)
    }
}

/// Reads a record.
pub(crate) fn decode<T: DeserializeOwned>(plain: &Secret) -> Result<T, Malformed> {
    plain.expose(|plain| match postcard::take_from_bytes(plain) {
        Ok((record, [])) => Ok(record),
        Ok(_) | Err(_) => Err(Malformed),
    })
}

#[cfg(test)]
impl Tables {
    /// The tables of the tenant that the vault was made with.
    pub(crate) fn of_first(&self) -> &Tenant {
        self.tenant(self.first).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Red when the stored origin is believed.
    #[test]
    fn a_stored_provider_is_an_operators_whatever_it_says() {
        let builtin = builtin::definitions().unwrap().into_iter().next().unwrap();
        assert_eq!(builtin.origin, Origin::BuiltIn);
        let name = ProviderName::parse("mine").unwrap();
        let stored = ProviderDefinition { name: name.clone(), ..builtin };
        let plain = Secret::take(postcard::to_stdvec(&stored).unwrap());
        let tenant = TenantId::from_random([1; 16]);
        let place = RecordPlace { tenant, name: RecordName::Provider(name.clone()) };
        let records = [(place, plain)];
        let tables = Tables::read(tenant, records, |_, _| Err(Malformed), |_| Err(Malformed));
        let tables = tables.unwrap();
        assert_eq!(tables.providers.get(&name).unwrap().origin, Origin::Operator);
    }
}
