//! One tenant's records in memory: who there is, what they may do, which keys there are.
//!
//! Invariant: nothing of another tenant is in here: whoever has one tenant's tables finds nothing of another's.
//! Invariant: a change is here only after it is durable; a credential's key lies here sealed.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use strongroom_policy::decide::{Access, still};
use strongroom_policy::id::{CredentialId, Id, Kind, TenantId, TokenId, UserId, WorkspaceId};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{Label, ProviderName};
use strongroom_policy::rules::{CredentialFacts, Home, Standing, Subject};
use strongroom_policy::tenant_rules::{RuleSet, What};
use strongroom_protocol::operator::Pick;

use super::{Malformed, PickError};
use crate::keyring::ShredId;
use crate::memory_seal::SealedKey;
use crate::people::People;
use crate::rates::Bucket;
use crate::records::{
    CredentialRecord, RecordName, RecordPlace, RulesRecord, TenantRecord, TokenRecord, UserRecord,
    WorkspaceRecord,
};
use crate::tickets::Party;

/// A credential as it lies in memory.
pub struct HeldCredential {
    /// Its description.
    pub record: CredentialRecord,
    /// What the decision needs of it.
    pub facts: CredentialFacts,
    /// Its key, sealed.
    pub sealed_key: SealedKey,
}

impl HeldCredential {
    /// Whether it is a subject's own, or of a workspace of theirs.
    pub fn is_at_home(&self, subject: &Subject) -> bool {
        match self.record.home {
            Home::Personal(owner) => owner == subject.user,
            Home::Workspace(home) => subject.workspaces.contains(&home),
        }
    }
}

/// A token as it lies in memory.
pub struct HeldToken {
    /// Its description.
    pub record: TokenRecord,
    /// How many calls it may still begin.
    pub bucket: Bucket,
}

/// A tenant's records in memory.
pub struct Tenant {
    /// Which.
    pub id: TenantId,
    /// What it is called, and whether its tokens count.
    pub record: TenantRecord,
    /// People.
    pub users: BTreeMap<UserId, UserRecord>,
    /// Workspaces.
    pub workspaces: BTreeMap<WorkspaceId, WorkspaceRecord>,
    /// Tokens.
    tokens: BTreeMap<TokenId, HeldToken>,
    /// Whose workspaces: the other way round, for the path of a call.
    memberships: HashMap<UserId, Vec<WorkspaceId>>,
    /// Credentials.
    pub credentials: BTreeMap<CredentialId, HeldCredential>,
    /// Credentials by whose, for the path of a call.
    at_home: HashMap<Home, Vec<CredentialId>>,
    /// How its people sign in.
    pub people: People,
    /// Its own rules.
    pub rules: HeldRules,
}

/// A tenant's rules as they lie in memory.
#[derive(Default)]
pub struct HeldRules {
    /// A stamp, drawn anew with each change; 0 when there never were any.
    pub version: u64,
    /// When they were put in force.
    pub changed: Option<Moment>,
    /// What the decision asks.
    pub set: RuleSet,
}

impl HeldRules {
    /// Rules that are durable.
    pub fn of(record: &RulesRecord, set: RuleSet) -> Self {
        Self { version: record.version, changed: Some(record.changed), set }
    }

    /// Rules as they were found.
    ///
    /// # Errors
    /// When no version of this program would have kept them.
    pub(super) fn read(record: RulesRecord) -> Result<Self, Malformed> {
        let RulesRecord { version, changed, rules } = record;
        let set = RuleSet::new(rules).map_err(|_| Malformed)?;
        Ok(Self { version, changed: Some(changed), set })
    }
}

impl Tenant {
    /// A tenant without people.
    pub fn new(id: TenantId, record: TenantRecord) -> Self {
        Self {
            id,
            record,
            users: BTreeMap::new(),
            workspaces: BTreeMap::new(),
            tokens: BTreeMap::new(),
            memberships: HashMap::new(),
            credentials: BTreeMap::new(),
            at_home: HashMap::new(),
            people: People::default(),
            rules: HeldRules::default(),
        }
    }

    /// The place of a record of this tenant.
    pub fn place(&self, name: RecordName) -> RecordPlace {
        RecordPlace { tenant: self.id, name }
    }

    /// Whose shred keys there must be.
    pub fn owners(&self) -> impl Iterator<Item = ShredId> {
        let users = self.users.keys().map(|id| ShredId::of(*id));
        let workspaces = self.workspaces.keys().map(|id| ShredId::of(*id));
        let credentials = self.credentials.keys().map(|id| ShredId::of(*id));
        users.chain(workspaces).chain(credentials)
    }

    /// Every record that it has, for its deletion part by part: a credential's two follow each other at an even place, what depends on
    /// another goes before it, and its own record last.
    pub fn places(&self) -> Vec<RecordPlace> {
        let users = self.users.keys().map(|id| RecordName::User(*id));
        let workspaces = self.workspaces.keys().map(|id| RecordName::Workspace(*id));
        let tokens = self.tokens.iter();
        let tokens = tokens.map(|(id, held)| RecordName::Token(held.record.user, *id));
        let credentials = self.credentials.keys();
        let credentials =
            credentials.flat_map(|id| [RecordName::Key(*id), RecordName::Credential(*id)]);
        let people = self.people.owners().into_iter().flat_map(|id| self.people.names_of(id));
        let rules = self.rules.changed.map(|_| RecordName::Rules);
        let last = rules.into_iter().chain([RecordName::Tenant]);
        let all =
            credentials.chain(people).chain(tokens).chain(workspaces).chain(users).chain(last);
        all.map(|name| self.place(name)).collect()
    }

    /// Its tokens; they come and go by [`super::Tables`], which knows each by its hash.
    pub fn tokens(&self) -> &BTreeMap<TokenId, HeldToken> {
        &self.tokens
    }

    /// A token, to take from its bucket.
    pub fn bucket(&mut self, token: TokenId) -> Option<&mut Bucket> {
        self.tokens.get_mut(&token).map(|held| &mut held.bucket)
    }

    pub(super) fn insert_token(&mut self, id: TokenId, record: TokenRecord) {
        let bucket = Bucket::full(record.scope.calls_per_minute, Instant::now());
        self.tokens.insert(id, HeldToken { record, bucket });
    }

    pub(super) fn remove_token(&mut self, id: TokenId) -> Option<HeldToken> {
        self.tokens.remove(&id)
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
        let facts = record.facts(id, self.id);
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
        self.people.remove_user(id);
    }

    /// Who a token speaks for. In a tenant that is disabled everybody is.
    pub fn subject(&self, token: TokenId) -> Option<Subject> {
        let record = &self.tokens.get(&token)?.record;
        let standing = self.users.get(&record.user).map_or(Standing::Disabled, |one| one.standing);
        Some(Subject {
            tenant: self.id,
            user: record.user,
            token,
            scope: record.scope.clone(),
            workspaces: self.workspaces_of(record.user),
            standing: if self.record.standing == Standing::Active {
                standing
            } else {
                Standing::Disabled
            },
        })
    }

    fn workspaces_of(&self, user: UserId) -> Vec<WorkspaceId> {
        self.memberships.get(&user).cloned().unwrap_or_default()
    }

    /// The credentials for a provider that are the subject's own, of a workspace of theirs, or given to them by a rule; each once.
    pub fn usable<'t, 'a>(
        &'t self,
        subject: &'a Subject,
        provider: &'a ProviderName,
    ) -> impl Iterator<Item = (CredentialId, &'t HeldCredential)> {
        let shared = subject.workspaces.iter().map(|workspace| Home::Workspace(*workspace));
        let homes = std::iter::once(Home::Personal(subject.user)).chain(shared);
        let at_home = homes.filter_map(|home| self.at_home.get(&home)).flatten().copied();
        at_home
            .filter_map(|id| self.fitting(subject, provider, id))
            .chain(self.given(subject, provider))
    }

    /// What rules give a subject the use of, beside what is at home with them; nothing of someone who may not act.
    fn given<'t>(
        &'t self,
        subject: &Subject,
        provider: &ProviderName,
    ) -> BTreeMap<CredentialId, &'t HeldCredential> {
        let mut given = BTreeMap::new();
        let mut give = |id: &CredentialId| {
            let fits = |(_, held): &(CredentialId, &HeldCredential)| {
                !held.is_at_home(subject) && self.owner(held.record.home) == Standing::Active
            };
            given.extend(self.fitting(subject, provider, *id).filter(fits));
        };
        for what in self.rules.set.given_to(subject) {
            match what {
                What::Credential(id) => give(id),
                What::Workspace(home) => {
                    let there = self.at_home.get(&Home::Workspace(*home));
                    there.into_iter().flatten().for_each(&mut give);
                }
                What::Anything | What::Provider(_) => {}
            }
        }
        given
    }

    /// A credential, if it is for this provider and the subject's token is not bound to another.
    fn fitting(
        &self,
        subject: &Subject,
        provider: &ProviderName,
        id: CredentialId,
    ) -> Option<(CredentialId, &HeldCredential)> {
        if subject.scope.credential.is_some_and(|bound| bound != id) {
            return None;
        }
        let held = self.credentials.get(&id)?;
        (held.record.provider == *provider).then_some((id, held))
    }

    /// Whether whoever owns what is at home there may act; who is gone may not.
    pub fn owner(&self, home: Home) -> Standing {
        match home {
            Home::Workspace(_) => Standing::Active,
            Home::Personal(user) => {
                self.users.get(&user).map_or(Standing::Disabled, |user| user.standing)
            }
        }
    }

    /// What is judged when a subject uses a credential.
    pub fn access<'a>(&'a self, subject: &'a Subject, held: &'a HeldCredential) -> Access<'a> {
        let owner = self.owner(held.record.home);
        Access { subject, credential: &held.facts, owner, rules: &self.rules.set }
    }

    /// Whether a call under way may go on, as things are now.
    pub fn stands(&self, party: &Party, now: Moment) -> bool {
        let (subject, held) = (self.subject(party.token), self.credentials.get(&party.credential));
        let (Some(subject), Some(held)) = (subject, held) else { return false };
        still(&self.access(&subject, held), &party.facts, now).is_ok()
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

pub(super) fn pick_one<'t, K: Kind + 't>(
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

#[cfg(test)]
mod tests {
    use strongroom_policy::id::{CredentialId, TenantId, TokenId, UserId};
    use strongroom_policy::rules::Home;
    use strongroom_sys::Secret;

    use super::Tenant;
    use crate::backup::fixture;
    use crate::keys::Algorithm;
    use crate::memory_seal::MemorySeal;
    use crate::records::{RecordName, TenantRecord};

    // Red when tokens, of which there may be an odd number, go first: a deletion that is cut short would leave a key without its
    // description, and the vault shut.
    #[test]
    fn no_part_of_a_deletion_takes_one_of_a_credentials_two_records() {
        let mut tenant =
            Tenant::new(TenantId::from_random([1; 16]), TenantRecord::first().unwrap());
        for number in 0..9_u8 {
            let id = UserId::from_random([number; 16]);
            tenant.users.insert(id, fixture::user("ann"));
            let token = fixture::token(id, "one");
            tenant.insert_token(TokenId::from_random([number; 16]), token);
        }
        let places = |tenant: &Tenant| tenant.places().into_iter().map(|place| place.name);
        for number in 0..7_u8 {
            let id = CredentialId::from_random([number; 16]);
            let home = Home::Personal(UserId::from_random([0; 16]));
            let record = fixture::credential(home, "main");
            let seal = MemorySeal::draw(Algorithm::Aes256Gcm, &mut getrandom::fill);
            let key = Secret::copy_from(fixture::KEY);
            tenant.insert_credential(id, record, seal.unwrap().seal(id, &key).unwrap());
        }
        let all: Vec<RecordName> = places(&tenant).collect();
        assert_eq!((all.len(), all.last()), (7 * 2 + 9 + 9 + 1, Some(&RecordName::Tenant)));
        for part in all.chunks(2) {
            if let [RecordName::Key(one) | RecordName::Credential(one), other] = part {
                let same = [RecordName::Key(*one), RecordName::Credential(*one)];
                assert!(same.contains(other), "{part:?}");
            }
        }
    }
}
