//! The open vault's records in memory: who there is, what they may do, which keys there are.
//!
//! Invariant: a change is here only after it is durable; a credential's key lies here sealed.
//! Invariant: the tables are bounded by what operators made, never by what callers send.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use serde::de::DeserializeOwned;
use strongroom_policy::id::{CredentialId, Id, Kind, TenantId, TokenId, UserId, WorkspaceId};
use strongroom_policy::name::{Label, ProviderName};
use strongroom_policy::provider::{Origin, ProviderDefinition, builtin};
use strongroom_policy::rules::{CredentialFacts, Home, Standing, Subject};
use strongroom_protocol::operator::Pick;
use strongroom_protocol::operator::backup::Restored;
use strongroom_sys::Secret;
use strongroom_tlog::key::Name;

use crate::keyring::ShredId;
use crate::memory_seal::SealedKey;
use crate::rates::Bucket;
use crate::records::{
    CredentialRecord, RecordName, RecordPlace, TokenRecord, UserRecord, WorkspaceRecord,
};
use crate::settings::Settings;
use crate::witnesses::WitnessRecord;

/// Most records of one kind.
pub const MAX_RECORDS: usize = 20_000;

/// A credential as it lies in memory.
pub struct HeldCredential {
    /// Its description.
    pub record: CredentialRecord,
    /// What the decision needs of it.
    pub facts: CredentialFacts,
    /// Its key, sealed.
    pub sealed_key: SealedKey,
}

/// A token as it lies in memory.
pub struct HeldToken {
    /// Its description.
    pub record: TokenRecord,
    /// How many calls it may still begin.
    pub bucket: Bucket,
}

/// Every record in memory.
pub struct Tables {
    /// The one tenant.
    pub tenant: TenantId,
    /// People.
    pub users: BTreeMap<UserId, UserRecord>,
    /// Workspaces.
    pub workspaces: BTreeMap<WorkspaceId, WorkspaceRecord>,
    /// Tokens.
    pub tokens: BTreeMap<TokenId, HeldToken>,
    /// Tokens by the whole of their hash.
    by_hash: HashMap<[u8; 32], TokenId>,
    /// Whose workspaces: the other way round, for the path of a call.
    memberships: HashMap<UserId, Vec<WorkspaceId>>,
    /// Credentials.
    pub credentials: BTreeMap<CredentialId, HeldCredential>,
    /// Credentials by whose, for the path of a call.
    at_home: HashMap<Home, Vec<CredentialId>>,
    /// Built-in and operator-defined providers.
    pub providers: BTreeMap<ProviderName, ProviderDefinition>,
    /// That the vault was restored, until an operator has looked at it: no power grows until then.
    pub restored: Option<Restored>,
    /// Enrolled witnesses.
    pub witnesses: BTreeMap<Name, WitnessRecord>,
    /// The settings that the vault was last opened under; of earlier versions none.
    pub settings: Option<Settings>,
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

impl Tables {
    /// Reads the tables out of the opened records. `hold` seals a key for memory.
    ///
    /// # Errors
    /// When a record cannot be read, or a credential has no key.
    pub fn read(
        tenant: TenantId,
        records: impl IntoIterator<Item = (RecordPlace, Secret)>,
        hold: impl Fn(CredentialId, &Secret) -> Result<SealedKey, Malformed>,
    ) -> Result<Self, Malformed> {
        let definitions = builtin::definitions().map_err(|_| Malformed)?;
        let mut tables = Self {
            tenant,
            users: BTreeMap::new(),
            workspaces: BTreeMap::new(),
            tokens: BTreeMap::new(),
            by_hash: HashMap::new(),
            memberships: HashMap::new(),
            credentials: BTreeMap::new(),
            at_home: HashMap::new(),
            witnesses: BTreeMap::new(),
            providers: definitions.into_iter().map(|one| (one.name.clone(), one)).collect(),
            restored: None,
            settings: None,
        };
        let mut described = BTreeMap::new();
        let mut keys = BTreeMap::new();
        for (RecordPlace { tenant: of, name }, plain) in records {
            if of != tenant {
                return Err(Malformed);
            }
            match name {
                RecordName::User(id) => drop(tables.users.insert(id, decode(&plain)?)),
                RecordName::Workspace(id) => tables.put_workspace(id, decode(&plain)?),
                RecordName::LooseToken(id) => tables.insert_token(id, decode(&plain)?),
                RecordName::Token(user, id) => {
                    let record: TokenRecord = decode(&plain)?;
                    if record.user != user {
                        return Err(Malformed);
                    }
                    tables.insert_token(id, record);
                }
                RecordName::Provider(name) => {
                    // Whatever it says of itself, what is stored is an operator's: its courier is not the built-in ones'.
                    let origin = Origin::Operator;
                    let definition = ProviderDefinition { origin, ..decode(&plain)? };
                    tables.providers.insert(name, definition);
                }
                RecordName::Witness(name) => drop(tables.witnesses.insert(name, decode(&plain)?)),
                RecordName::Credential(id) => drop(described.insert(id, decode(&plain)?)),
                RecordName::Key(id) => drop(keys.insert(id, hold(id, &plain)?)),
                RecordName::Restored => tables.restored = Some(decode(&plain)?),
                RecordName::Settings => tables.settings = Some(decode(&plain)?),
            }
        }
        for (id, record) in described {
            let sealed_key = keys.remove(&id).ok_or(Malformed)?;
            tables.insert_credential(id, record, sealed_key);
        }
        if keys.is_empty() { Ok(tables) } else { Err(Malformed) }
    }

    /// The place of a record of this tenant.
    pub fn place(&self, name: RecordName) -> RecordPlace {
        RecordPlace { tenant: self.tenant, name }
    }

    /// Whose shred keys there must be.
    pub fn owners(&self) -> BTreeSet<ShredId> {
        let users = self.users.keys().map(|id| ShredId::of(*id));
        let workspaces = self.workspaces.keys().map(|id| ShredId::of(*id));
        let credentials = self.credentials.keys().map(|id| ShredId::of(*id));
        users.chain(workspaces).chain(credentials).collect()
    }

    /// Takes in a token that is durable.
    pub fn insert_token(&mut self, id: TokenId, record: TokenRecord) {
        self.by_hash.insert(record.hash, id);
        let bucket = Bucket::full(record.scope.calls_per_minute, Instant::now());
        self.tokens.insert(id, HeldToken { record, bucket });
    }

    /// Takes a token out.
    pub fn remove_token(&mut self, id: TokenId) {
        if let Some(token) = self.tokens.remove(&id) {
            self.by_hash.remove(&token.record.hash);
        }
    }

    /// Takes in a workspace that is durable, new or changed.
    pub fn put_workspace(&mut self, id: WorkspaceId, record: WorkspaceRecord) {
        for workspaces in self.memberships.values_mut() {
            workspaces.retain(|one| *one != id);
        }
        for member in &record.members {
            self.memberships.entry(*member).or_default().push(id);
        }
        self.workspaces.insert(id, record);
    }

    /// Takes in a credential that is durable, new or changed. Its home and provider never change.
    pub fn insert_credential(
        &mut self,
        id: CredentialId,
        record: CredentialRecord,
        sealed_key: SealedKey,
    ) {
        let facts = record.facts(id, self.tenant);
        let place = self.at_home.entry(record.home).or_default();
        if !place.contains(&id) {
            place.push(id);
        }
        self.credentials.insert(id, HeldCredential { record, facts, sealed_key });
    }

    /// Takes a credential out.
    pub fn remove_credential(&mut self, id: CredentialId) {
        let Some(held) = self.credentials.remove(&id) else { return };
        let home = held.record.home;
        if let Some(ids) = self.at_home.get_mut(&home) {
            ids.retain(|one| *one != id);
            if ids.is_empty() {
                self.at_home.remove(&home);
            }
        }
    }

    /// Takes a workspace out.
    pub fn remove_workspace(&mut self, id: WorkspaceId) {
        self.workspaces.remove(&id);
        for workspaces in self.memberships.values_mut() {
            workspaces.retain(|one| *one != id);
        }
    }

    /// Takes a person out, whose tokens, credentials and memberships are gone.
    pub fn remove_user(&mut self, id: UserId) {
        self.users.remove(&id);
        self.memberships.remove(&id);
    }

    /// The token of a hash. The hash is keyed, so finding it by map tells a guesser nothing.
    pub fn token_of(&self, hash: &[u8; 32]) -> Option<TokenId> {
        // It may have been revoked after the backup or after a journal's end, and nobody can tell: until an operator has
        // looked at a restored vault every token sleeps, and a sleeping token is none.
        if self.restored.is_some() {
            return None;
        }
        self.by_hash.get(hash).copied()
    }

    /// Who a token speaks for.
    pub fn subject(&self, token: TokenId) -> Option<Subject> {
        let record = &self.tokens.get(&token)?.record;
        let user = self.users.get(&record.user);
        Some(Subject {
            tenant: self.tenant,
            user: record.user,
            token,
            scope: record.scope.clone(),
            workspaces: self.workspaces_of(record.user),
            standing: user.map_or(Standing::Disabled, |user| user.standing),
        })
    }

    fn workspaces_of(&self, user: UserId) -> Vec<WorkspaceId> {
        self.memberships.get(&user).cloned().unwrap_or_default()
    }

    /// The credentials for a provider that are the subject's own or of a workspace of theirs.
    pub fn usable<'t, 'a>(
        &'t self,
        subject: &'a Subject,
        provider: &'a ProviderName,
    ) -> impl Iterator<Item = (CredentialId, &'t HeldCredential)> {
        let shared = subject.workspaces.iter().map(|workspace| Home::Workspace(*workspace));
        let homes = std::iter::once(Home::Personal(subject.user)).chain(shared);
        homes
            .filter_map(|home| self.at_home.get(&home))
            .flatten()
            .filter(|id| subject.scope.credential.is_none_or(|bound| bound == **id))
            .filter_map(|id| self.credentials.get(id).map(|held| (*id, held)))
            .filter(|(_, held)| held.record.provider == *provider)
    }

    /// Finds a person by id or label.
    pub fn pick_user(&self, pick: &Pick) -> Result<UserId, PickError> {
        pick_one("user", pick, self.users.iter().map(|(id, one)| (*id, &one.label)))
    }

    /// Finds a workspace by id or label.
    pub fn pick_workspace(&self, pick: &Pick) -> Result<WorkspaceId, PickError> {
        pick_one("workspace", pick, self.workspaces.iter().map(|(id, one)| (*id, &one.label)))
    }

    /// Finds a token by id or label.
    pub fn pick_token(&self, pick: &Pick) -> Result<TokenId, PickError> {
        pick_one("token", pick, self.tokens.iter().map(|(id, one)| (*id, &one.record.label)))
    }

    /// Finds a credential by id or label.
    pub fn pick_credential(&self, pick: &Pick) -> Result<CredentialId, PickError> {
        let all = self.credentials.iter().map(|(id, one)| (*id, &one.record.label));
        pick_one("credential", pick, all)
    }

    /// The first person who was made.
    pub fn first_user(&self) -> Result<UserId, PickError> {
        let first = self.users.iter().min_by_key(|(id, one)| (one.created, **id));
        first.map(|(id, _)| *id).ok_or(PickError::Nobody)
    }

    /// The name of whose a credential is.
    pub fn home_label(&self, home: Home) -> Option<&Label> {
        match home {
            Home::Personal(user) => self.users.get(&user).map(|one| &one.label),
            Home::Workspace(workspace) => self.workspaces.get(&workspace).map(|one| &one.label),
        }
    }
}

fn pick_one<'t, K: Kind + 't>(
    what: &'static str,
    pick: &Pick,
    all: impl Iterator<Item = (Id<K>, &'t Label)>,
) -> Result<Id<K>, PickError> {
    let text = pick.0.as_ref();
    let wanted_id = text.parse::<Id<K>>().ok();
    let mut found = None;
    for (id, label) in all {
        if wanted_id == Some(id) {
            return Ok(id);
        }
        if *label == pick.0 && found.replace(id).is_some() {
            return Err(PickError::Several { what, pick: text.to_owned() });
        }
    }
    found.ok_or(PickError::Missing { what, pick: text.to_owned() })
}

fn decode<T: DeserializeOwned>(plain: &Secret) -> Result<T, Malformed> {
    plain.expose(|plain| match postcard::take_from_bytes(plain) {
        Ok((record, [])) => Ok(record),
        Ok(_) | Err(_) => Err(Malformed),
    })
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
        let tables = Tables::read(tenant, records, |_, _| Err(Malformed)).unwrap();
        assert_eq!(tables.providers.get(&name).unwrap().origin, Origin::Operator);
    }
}
