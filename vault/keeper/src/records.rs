//! What the keeper stores about people, workspaces, tokens, credentials and providers.
//!
//! | record | store key, before the piece | shred key that is mixed into its envelope's key |
//! |---|---|---|
//! | a tenant's name and standing | `n` | none: it dies with the tenant's root |
//! | a person | `u` ‖ user | the person's |
//! | a token | `t` ‖ user ‖ token | its person's |
//! | a workspace | `w` ‖ workspace | the workspace's |
//! | a credential's description | `c` ‖ credential | the credential's |
//! | a credential's key | `k` ‖ credential | the credential's |
//! | an operator's provider | `p` ‖ name | none: it tells of a service, not of a person |
//! | that the vault was restored | `r` | none |
//! | a person's password | `h` ‖ user | the person's |
//! | what was tried in vain with it | `f` ‖ user | the person's |
//! | an invitation of a person | `i` ‖ user | the person's |
//! | a session of a person | `e` ‖ user ‖ session | the person's |
//! | what was tried in vain with nobody's | `o` | none: it is a number |
//! | what signs sessions | `j` | none |
//! | the settings that it was last opened under | `s` | none |
//! | the tenant's own rules | `l` | none: ids are all they say of people |
//! | a token as the first version kept it | `t` ‖ token | none; rewritten under the name above |
//! | budgets and a rate | `b` ‖ letter of the payer ‖ payer | none: they must outlive nobody, and name an id only |
//! | what is spent of budgets, at most | `m` ‖ letter of the payer ‖ payer | none |
//! | an operator's prices | `x` | none |
//! | any of a tenant's but the first | `T` ‖ tenant ‖ what it would be called in the first | as there |
//!
//! In the first format only a credential's key was mixed with a shred key. The vault's own records (providers, witnesses,
//! budgets, prices, settings, the mark of a restore) lie with the first tenant's, whose root is never destroyed.
//!
//! Invariant: these shapes are encoded with postcard inside envelopes; a provider's key is a record of its own.
//! Invariant: a record's name says whose shred key seals it, so that it can be found before anything is opened.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strongroom_policy::budget::{Limit, Payer};
use strongroom_policy::destination::Destination;
use strongroom_policy::id::{CredentialId, Id, Kind, TenantId, TokenId, UserId, WorkspaceId};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{Label, NotAName, ProviderName};
use strongroom_policy::rules::{CredentialFacts, CredentialRules, Home, Standing, TokenScope};
use strongroom_policy::tenant_rules::Rule;
use strongroom_tlog::key::Name;

use crate::keyring::ShredId;
use crate::keys::{self, Format};
use crate::people::Personal;

/// A tenant: people, credentials and rules that know nothing of any other's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    /// The name that operators see.
    pub label: Label,
    /// Whether its tokens count.
    pub standing: Standing,
    /// When it was made; the first one with the vault.
    pub created: Option<Moment>,
}

impl TenantRecord {
    /// What the first tenant is called, and how it stands until an operator disables it.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub fn first() -> Result<Self, NotAName> {
        Ok(Self { label: Label::parse("first")?, standing: Standing::Active, created: None })
    }
}

/// A person, or a program that acts as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// The name that operators see.
    pub label: Label,
    /// Whether they may act.
    pub standing: Standing,
    /// When they were made.
    pub created: Moment,
}

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceRecord {
    /// The name that operators see.
    pub label: Label,
    /// Its members.
    pub members: Vec<UserId>,
    /// When it was made.
    pub created: Moment,
}

/// An API token: its hash, never its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Whose.
    pub user: UserId,
    /// The name that operators see.
    pub label: Label,
    /// What it may do.
    pub scope: TokenScope,
    /// HMAC of its text under the vault's token key.
    pub hash: [u8; 32],
    /// When it was made.
    pub created: Moment,
}

/// A credential, without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRecord {
    /// The name that operators and callers see.
    pub label: Label,
    /// For which provider.
    pub provider: ProviderName,
    /// Whose.
    pub home: Home,
    /// Where it may be sent: frozen when its key was entered.
    pub destination: Destination,
    /// What it may be used for.
    pub rules: CredentialRules,
    /// Grows with each rotation.
    pub version: u64,
    /// When it was made.
    pub created: Moment,
    /// When its key was last set.
    pub rotated: Moment,
}

/// The tenant's own rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesRecord {
    /// A stamp, drawn anew with each change.
    pub version: u64,
    /// When they were put in force.
    pub changed: Moment,
    /// In their order.
    pub rules: Vec<Rule>,
}

/// What a payer may spend, and how many calls may begin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetRecord {
    /// Its budgets: each unit in each period once.
    pub limits: Vec<Limit>,
    /// Calls per minute; a burst of the same size is allowed.
    pub calls_per_minute: Option<u32>,
}

/// Where a record lies: in which tenant, and which it is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordPlace {
    /// Whose keys seal it.
    pub tenant: TenantId,
    /// Which it is.
    pub name: RecordName,
}

/// Names one record of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordName {
    /// The tenant's own; the first one's is written when it is changed.
    Tenant,
    /// A person.
    User(UserId),
    /// A workspace.
    Workspace(WorkspaceId),
    /// A token of a person.
    Token(UserId, TokenId),
    /// A token, under the name that the first version gave it.
    LooseToken(TokenId),
    /// A credential's description.
    Credential(CredentialId),
    /// A credential's key.
    Key(CredentialId),
    /// An operator's definition of a provider.
    Provider(ProviderName),
    /// That the vault was restored, until an operator has looked at it.
    Restored,
    /// An enrolled witness.
    Witness(Name),
    /// The settings that the vault was last opened under.
    Settings,
    /// What there is of a person beside their own record.
    Personal(UserId, Personal),
    /// What was tried in vain with nobody's password.
    Nobody,
    /// What signs sessions.
    SessionKey,
    /// The tenant's own rules.
    Rules,
    /// The budgets and the rate of a payer.
    Budget(Payer),
    /// What is spent of them, at most.
    Spent(Payer),
    /// The prices, when an operator edited them.
    Prices,
}

/// Begins the store's key of a record of any tenant but the first.
const OF_TENANT: u8 = b'T';

impl RecordPlace {
    /// The store's key of this record, before the number of its piece, in a vault whose first tenant is `first`.
    pub fn store_key(&self, first: TenantId) -> Vec<u8> {
        let name = self.name.store_key();
        if self.tenant == first {
            return name;
        }
        [&[OF_TENANT], self.tenant.bytes().as_slice(), &name].concat()
    }

    /// Reads a store key without the number of its piece. Each record has one key: the first tenant's never begins with `T`.
    pub fn parse(key: &[u8], first: TenantId) -> Option<Self> {
        let [OF_TENANT, rest @ ..] = key else {
            return Some(Self { tenant: first, name: RecordName::parse(key)? });
        };
        let (tenant, name) = rest.split_first_chunk::<16>()?;
        let (tenant, name) = (TenantId::from_random(*tenant), RecordName::parse(name)?);
        (tenant != first && name.is_of_any_tenant()).then_some(Self { tenant, name })
    }

    /// The place of the name under which an earlier version kept it.
    pub fn former(&self, first: TenantId) -> Option<Self> {
        let name = self.name.former().filter(|_| self.tenant == first)?;
        Some(Self { tenant: self.tenant, name })
    }
}

impl RecordName {
    /// Whether every tenant may have such a record: others are the vault's, or of a version that knew one tenant only.
    const fn is_of_any_tenant(&self) -> bool {
        match self {
            Self::Tenant
            | Self::User(_)
            | Self::Workspace(_)
            | Self::Token(..)
            | Self::Credential(_)
            | Self::Key(_)
            | Self::Personal(..)
            | Self::Rules => true,
            Self::LooseToken(_)
            | Self::Provider(_)
            | Self::Restored
            | Self::Settings
            | Self::Nobody
            | Self::SessionKey
            | Self::Witness(_)
            | Self::Budget(_)
            | Self::Spent(_)
            | Self::Prices => false,
        }
    }

    /// The store's key of this record in the first tenant, before the number of its piece.
    pub fn store_key(&self) -> Vec<u8> {
        let (letter, ids): (u8, [&[u8]; 2]) = match self {
            Self::Tenant => (b'n', [&[], &[]]),
            Self::User(id) => (b'u', [id.bytes(), &[]]),
            Self::Workspace(id) => (b'w', [id.bytes(), &[]]),
            Self::Token(user, id) => (b't', [user.bytes(), id.bytes()]),
            Self::LooseToken(id) => (b't', [id.bytes(), &[]]),
            Self::Credential(id) => (b'c', [id.bytes(), &[]]),
            Self::Key(id) => (b'k', [id.bytes(), &[]]),
            Self::Provider(name) => (b'p', [name.as_ref().as_bytes(), &[]]),
            Self::Restored => (b'r', [&[], &[]]),
            Self::Witness(name) => (b'v', [name.as_str().as_bytes(), &[]]),
            Self::Settings => (b's', [&[], &[]]),
            Self::Personal(user, part) => match part {
                Personal::Password => (b'h', [user.bytes(), &[]]),
                Personal::Tries => (b'f', [user.bytes(), &[]]),
                Personal::Invitation => (b'i', [user.bytes(), &[]]),
                Personal::Session(id) => (b'e', [user.bytes(), id.bytes()]),
            },
            Self::Nobody => (b'o', [&[], &[]]),
            Self::SessionKey => (b'j', [&[], &[]]),
            Self::Rules => (b'l', [&[], &[]]),
            Self::Budget(payer) => (b'b', payer_key(payer)),
            Self::Spent(payer) => (b'm', payer_key(payer)),
            Self::Prices => (b'x', [&[], &[]]),
        };
        [&[letter], ids.concat().as_slice()].concat()
    }

    /// Reads a store key of the first tenant without the number of its piece.
    pub fn parse(key: &[u8]) -> Option<Self> {
        let (letter, id) = key.split_first()?;
        Some(match letter {
            b'u' => Self::User(id_of(id)?),
            b'w' => Self::Workspace(id_of(id)?),
            b't' => match id.split_first_chunk::<16>()? {
                (token, []) => Self::LooseToken(Id::from_random(*token)),
                (user, token) => Self::Token(Id::from_random(*user), id_of(token)?),
            },
            b'c' => Self::Credential(id_of(id)?),
            b'k' => Self::Key(id_of(id)?),
            b'p' => Self::Provider(ProviderName::parse(std::str::from_utf8(id).ok()?).ok()?),
            b'n' if id.is_empty() => Self::Tenant,
            b'r' if id.is_empty() => Self::Restored,
            b's' if id.is_empty() => Self::Settings,
            b'h' => Self::Personal(id_of(id)?, Personal::Password),
            b'f' => Self::Personal(id_of(id)?, Personal::Tries),
            b'i' => Self::Personal(id_of(id)?, Personal::Invitation),
            b'e' => {
                let (user, session) = id.split_first_chunk::<16>()?;
                let part = Personal::Session(id_of(session)?);
                Self::Personal(Id::from_random(*user), part)
            }
            b'o' if id.is_empty() => Self::Nobody,
            b'j' if id.is_empty() => Self::SessionKey,
            b'l' if id.is_empty() => Self::Rules,
            b'b' => Self::Budget(payer_of(id)?),
            b'm' => Self::Spent(payer_of(id)?),
            b'x' if id.is_empty() => Self::Prices,
            b'v' => Self::Witness(Name::parse(std::str::from_utf8(id).ok()?).ok()?),
            _ => return None,
        })
    }

    /// Whose shred key seals it in a format.
    pub fn owner(&self, format: Format) -> Option<ShredId> {
        match format {
            Format::One => match self {
                Self::Key(id) => Some(ShredId::of(*id)),
                Self::Tenant
                | Self::User(_)
                | Self::Workspace(_)
                | Self::Token(..)
                | Self::LooseToken(_)
                | Self::Credential(_)
                | Self::Provider(_)
                | Self::Restored
                | Self::Settings
                | Self::Personal(..)
                | Self::Nobody
                | Self::SessionKey
                | Self::Rules
                | Self::Witness(_)
                | Self::Budget(_)
                | Self::Spent(_)
                | Self::Prices => None,
            },
            Format::Two => match self {
                Self::User(id) | Self::Token(id, _) | Self::Personal(id, _) => {
                    Some(ShredId::of(*id))
                }
                Self::Workspace(id) => Some(ShredId::of(*id)),
                Self::Credential(id) | Self::Key(id) => Some(ShredId::of(*id)),
                Self::Tenant
                | Self::LooseToken(_)
                | Self::Provider(_)
                | Self::Restored
                | Self::Settings
                | Self::Nobody
                | Self::SessionKey
                | Self::Rules
                | Self::Witness(_)
                | Self::Budget(_)
                | Self::Spent(_)
                | Self::Prices => None,
            },
        }
    }

    /// The name under which an earlier version kept it: what is written under this name replaces that one.
    pub fn former(&self) -> Option<Self> {
        match self {
            Self::Token(_, id) => Some(Self::LooseToken(*id)),
            Self::Tenant
            | Self::User(_)
            | Self::Workspace(_)
            | Self::LooseToken(_)
            | Self::Credential(_)
            | Self::Key(_)
            | Self::Provider(_)
            | Self::Restored
            | Self::Settings
            | Self::Personal(..)
            | Self::Nobody
            | Self::SessionKey
            | Self::Rules
            | Self::Witness(_)
            | Self::Budget(_)
            | Self::Spent(_)
            | Self::Prices => None,
        }
    }

    /// What the record is, for its context.
    pub const fn kind(&self) -> keys::Kind {
        match self {
            Self::Tenant => keys::Kind::Tenant,
            Self::User(_) => keys::Kind::Person,
            Self::Workspace(_) => keys::Kind::Workspace,
            Self::Token(..) | Self::LooseToken(_) => keys::Kind::Token,
            Self::Credential(_) => keys::Kind::Rules,
            Self::Key(_) => keys::Kind::Credential,
            Self::Provider(_) => keys::Kind::Provider,
            Self::Personal(_, part) => match part {
                Personal::Password => keys::Kind::Verifier,
                Personal::Tries => keys::Kind::Tries,
                Personal::Invitation => keys::Kind::Invitation,
                Personal::Session(_) => keys::Kind::Session,
            },
            Self::Nobody => keys::Kind::Tries,
            Self::SessionKey => keys::Kind::SessionKey,
            Self::Budget(_) | Self::Spent(_) => keys::Kind::Budget,
            Self::Restored | Self::Settings | Self::Rules | Self::Witness(_) | Self::Prices => {
                keys::Kind::Settings
            }
        }
    }
}

fn payer_key(payer: &Payer) -> [&[u8]; 2] {
    match payer {
        Payer::Tenant(id) => [b"e", id.bytes()],
        Payer::Workspace(id) => [b"w", id.bytes()],
        Payer::User(id) => [b"u", id.bytes()],
        Payer::Token(id) => [b"t", id.bytes()],
        Payer::Credential(id) => [b"c", id.bytes()],
    }
}

fn payer_of(key: &[u8]) -> Option<Payer> {
    let (letter, id) = key.split_first()?;
    Some(match letter {
        b'e' => Payer::Tenant(id_of(id)?),
        b'w' => Payer::Workspace(id_of(id)?),
        b'u' => Payer::User(id_of(id)?),
        b't' => Payer::Token(id_of(id)?),
        b'c' => Payer::Credential(id_of(id)?),
        _ => return None,
    })
}

fn id_of<K: Kind>(bytes: &[u8]) -> Option<Id<K>> {
    bytes.try_into().ok().map(Id::from_random)
}

impl CredentialRecord {
    /// What the decision needs to know of it.
    pub fn facts(&self, id: CredentialId, tenant: TenantId) -> CredentialFacts {
        CredentialFacts {
            id,
            tenant,
            home: self.home,
            provider: self.provider.clone(),
            destination: Arc::new(self.destination.clone()),
            rules: self.rules.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use strongroom_policy::budget::Payer;
    use strongroom_policy::id::{CredentialId, SessionId, TenantId, TokenId, UserId, WorkspaceId};
    use strongroom_policy::name::ProviderName;
    use strongroom_tlog::key::Name;

    use super::{Personal, RecordName, RecordPlace};

    #[test]
    fn a_record_is_found_again_under_its_name() {
        for name in [
            RecordName::User(UserId::from_random([1; 16])),
            RecordName::Key(CredentialId::from_random([2; 16])),
            RecordName::Token(UserId::from_random([1; 16]), TokenId::from_random([3; 16])),
            RecordName::LooseToken(TokenId::from_random([3; 16])),
            RecordName::Provider(ProviderName::parse("local-ai").unwrap()),
            RecordName::Restored,
            RecordName::Settings,
            RecordName::Rules,
            RecordName::Witness(Name::parse("usb").unwrap()),
            RecordName::Personal(UserId::from_random([1; 16]), Personal::Password),
            RecordName::Personal(UserId::from_random([1; 16]), Personal::Tries),
            RecordName::Personal(UserId::from_random([1; 16]), Personal::Invitation),
            RecordName::Personal(
                UserId::from_random([1; 16]),
                Personal::Session(SessionId::from_random([2; 16])),
            ),
            RecordName::Nobody,
            RecordName::SessionKey,
            RecordName::Budget(Payer::User(UserId::from_random([1; 16]))),
            RecordName::Budget(Payer::Tenant(TenantId::from_random([1; 16]))),
            RecordName::Spent(Payer::Token(TokenId::from_random([3; 16]))),
            RecordName::Spent(Payer::Credential(CredentialId::from_random([2; 16]))),
            RecordName::Spent(Payer::Workspace(WorkspaceId::from_random([2; 16]))),
            RecordName::Prices,
        ] {
            assert_eq!(RecordName::parse(&name.store_key()), Some(name));
        }
        for bad in [
            &b""[..],
            b"u",
            b"x0123456789abcdef",
            b"u0123456789abcdefg",
            b"t0123456789abcdefg",
            b"pUpper",
            b"v",
            b"va b",
            b"e0123456789abcdef",
            b"ox",
            b"j0",
            b"b",
            b"bu",
            b"bz0123456789abcdef",
            b"mu0123456789abcdefg",
        ] {
            assert_eq!(RecordName::parse(bad), None);
        }
    }

    #[test]
    fn a_record_of_another_tenant_is_found_under_that_tenants_name_and_no_other() {
        let (first, other) = (TenantId::from_random([9; 16]), TenantId::from_random([8; 16]));
        for name in [
            RecordName::User(UserId::from_random([1; 16])),
            RecordName::Key(CredentialId::from_random([2; 16])),
            RecordName::Token(UserId::from_random([1; 16]), TokenId::from_random([3; 16])),
            RecordName::Personal(UserId::from_random([1; 16]), Personal::Password),
        ] {
            let at = |tenant| RecordPlace { tenant, name: name.clone() };
            assert_eq!(at(first).store_key(first), name.store_key());
            let key = at(other).store_key(first);
            assert_eq!(key, [b"T".as_slice(), &[8; 16], &name.store_key()].concat());
            assert_eq!(RecordPlace::parse(&key, first), Some(at(other)));
            // The first tenant's have one name each, and no name stands within another.
            assert_eq!(RecordPlace::parse(&at(first).store_key(other), first), None);
            let twice = [b"T".as_slice(), &[8; 16], &key].concat();
            assert_eq!(RecordPlace::parse(&twice, first), None);
        }
        for vaults in [
            RecordName::LooseToken(TokenId::from_random([3; 16])),
            RecordName::Provider(ProviderName::parse("local-ai").unwrap()),
            RecordName::Restored,
            RecordName::Settings,
            RecordName::Witness(Name::parse("usb").unwrap()),
            RecordName::Nobody,
            RecordName::SessionKey,
        ] {
            let place = RecordPlace { tenant: other, name: vaults };
            assert_eq!(RecordPlace::parse(&place.store_key(first), first), None);
        }
    }
}
