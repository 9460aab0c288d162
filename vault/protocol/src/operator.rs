//! `operator.sock`: one request, one answer, for the operator's tool.
//!
//! Invariant: no answer carries a provider's key; a token's text is answered once, when it is made.
//! Invariant: every request that changes something is in the journal before it is answered.

pub mod about;
pub mod audit;
pub mod backup;
pub mod budget;
pub mod keys;
pub mod listing;
pub mod people;
pub mod rules;
pub mod sealing;
pub mod tenants;
pub mod tpm;
pub mod witness;

use serde::{Deserialize, Serialize};
use strongroom_policy::destination::Destination;
use strongroom_policy::id::{
    CallId, CredentialId, TenantId, TokenId, UploadId, UserId, WorkspaceId,
};
use strongroom_policy::name::{Label, ProviderName};
use strongroom_policy::provider::ProviderDefinition;
use strongroom_policy::rules::{CredentialRules, TokenScope};

use crate::SecretBytes;
use crate::ask::VaultState;
use crate::errand::Outcome;
use crate::operator::audit::{AuditAnswer, AuditRequest};
use crate::operator::backup::{BackupAnswer, BackupRequest};
use crate::operator::budget::{BudgetRequest, BudgetRow, PriceBook, PriceRequest};
use crate::operator::keys::{Counted, Deletion, KeyState, Receipt};
use crate::operator::listing::{
    CredentialRow, JournalRow, ProviderRow, TokenRow, UsageRow, UserRow, WorkspaceRow,
};
use crate::operator::people::{PeopleAnswer, PeopleRequest};
use crate::operator::rules::{RulesAnswer, RulesRequest};
use crate::operator::sealing::{LockName, WayRow, WaysChange};
use crate::operator::tenants::{TenantCounted, TenantDeletion, TenantReceipt, TenantRow, Wrapped};
use crate::operator::tpm::{TpmStatus, TpmWish};
use crate::operator::witness::{Awaited, FromWitness, KeyText, ToWitness, WitnessRow};
use crate::upload::{UploadBinding, VaultKey};

pub use crate::operator::sealing::{SealWish, VaultWish};

/// What the operator may ask for.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The state of the vault.
    Status,
    /// What the keeper can say about its own health.
    Doctor,
    /// Makes a vault that one lock opens: [`Request::InitWays`] in short.
    Init(SealWish),
    /// One part of what must be entered back after [`Answer::Shares`]: of a new vault, or of a change of its ways.
    ShowCustody(UnsealWith),
    /// Opens the seal, or a part of it.
    Unseal(UnsealWith),
    /// Wipes the keys from memory and stops all calls.
    Seal,
    /// Makes a person, or a program that acts as one.
    UserCreate(Label),
    /// Lists people.
    UserList,
    /// Takes a person's right to act: all their tokens stop at once.
    UserDisable(Pick),
    /// Gives it back.
    UserEnable(Pick),
    /// Makes a workspace.
    WorkspaceCreate(Label),
    /// Lists workspaces and their members.
    WorkspaceList,
    /// Adds a member.
    WorkspaceJoin(Pick, Pick),
    /// Removes a member.
    WorkspaceLeave(Pick, Pick),
    /// Lists providers.
    ProviderList,
    /// One provider's definition.
    ProviderShow(ProviderName),
    /// Adds or replaces an operator-defined provider.
    ProviderPut(Box<ProviderDefinition>),
    /// Removes an operator-defined provider that no credential names.
    ProviderRemove(ProviderName),
    /// Opens an upload for a new credential.
    CredentialAdd(Box<CredentialWish>),
    /// Opens an upload for a new key of this credential.
    CredentialRotate(Pick),
    /// Ends an upload.
    CredentialUpload {
        /// The upload.
        upload: UploadId,
        /// The sealed key.
        blob: Vec<u8>,
    },
    /// Lists credentials.
    CredentialList,
    /// Makes the provider's cheapest call with it.
    CredentialTest(Pick),
    /// Removes it; calls under way are stopped.
    CredentialDelete(Pick),
    /// Replaces its rules.
    CredentialRules(Pick, Box<CredentialRules>),
    /// Makes an API token.
    TokenCreate(Box<TokenWish>),
    /// Lists tokens.
    TokenList,
    /// Ends a token; calls under way are stopped.
    TokenRevoke(Pick),
    /// Journal entries after a sequence number.
    AuditTail {
        /// Entries with a greater number; `None` for the last ones.
        after: Option<u64>,
        /// At most this many.
        limit: u32,
        /// Wait up to this long for the first.
        wait_ms: u32,
    },
    /// Sums over the journal.
    Usage {
        /// Only calls that began at or after this moment, milliseconds since 1970.
        since_ms: u64,
        /// What to sum by.
        by: UsageBy,
    },
    /// The key that verifies the journal's checkpoints.
    AuditKey,
    /// Everything about backups.
    Backup(BackupRequest),
    /// Begins a new generation of keys: every new write uses it, old records are rewritten in the background.
    KeyRotate,
    /// Which generations of keys there are, and how far the rewriting is.
    KeyStatus,
    /// Deletes a person, their tokens and their personal credentials, and destroys what their records are sealed with.
    UserDelete(Pick, Deletion),
    /// Deletes a workspace and the credentials at home there, and destroys what their records are sealed with.
    WorkspaceDelete(Pick, Deletion),
    /// As `Unseal`, by somebody who confirms the checkpoint that they were shown: it may not be the newest there was.
    UnsealConfirming {
        /// What opens the seal.
        with: UnsealWith,
        /// The checkpoint.
        checkpoint: String,
    },
    /// How the vault stands to the TPM.
    TpmStatus,
    /// Seals an open vault to the TPM as well, in the place of an earlier seal to one.
    TpmSeal(Box<TpmWish>),
    /// Removes the seal to the TPM, also when the TPM is lost.
    TpmRemove,
    /// Searches, copies or archives the journal.
    Audit(AuditRequest),
    /// What a witness says: the one request that a relay passes on.
    Witness(FromWitness),
    /// Enrols a witness, or changes whether it is required.
    WitnessAdd {
        /// Its key, of type 0x04.
        key: KeyText,
        /// Whether the vault waits for it when it is unsealed.
        required: bool,
    },
    /// Lists witnesses.
    WitnessList,
    /// Lets a witness go, by its name.
    WitnessRemove(KeyText),
    /// Makes a vault. With shares nothing can be stored in it before [`Request::ShowCustody`].
    InitWays(Box<VaultWish>),
    /// A part for the attempt that somebody began, named by the first digits of its id.
    Join {
        /// At least four hex digits.
        attempt: String,
        /// The part.
        with: UnsealWith,
    },
    /// Throws an attempt to unseal away, by who brought a part of it.
    AbandonUnseal {
        /// At least four hex digits of its id.
        attempt: String,
    },
    /// Ends the keeper's process at once: keys leave memory, nothing is waited for, nothing is answered.
    Panic,
    /// Lists the ways into the vault.
    Ways,
    /// Changes the ways into an open vault.
    ChangeWays(Box<WaysChange>),
    /// Gives up a change whose shares were not entered back.
    DropWays,
    /// Opens the vault by its TPM with nobody there; refused when an operator sealed it.
    UnsealUnattended,
    /// Says that the settings of this start are meant, though the vault remembers others: those whose difference a refusal showed
    /// under this name. Counts for its next opening that is not unattended.
    AcceptSettings {
        /// The difference's digest, as it was shown.
        difference: String,
    },
    /// Everything about how people sign in.
    People(PeopleRequest),
    /// A request about one tenant, by its id or name, that is not the first.
    In {
        /// Which.
        tenant: Pick,
        /// The request as it would be sent alone, not one of these again.
        request: Wrapped,
    },
    /// Makes a tenant.
    TenantCreate(Label),
    /// Lists tenants.
    TenantList,
    /// Takes a tenant's right to act: all its tokens stop at once.
    TenantDisable(Pick),
    /// Gives it back.
    TenantEnable(Pick),
    /// Deletes a tenant with all that it has, and destroys its keys.
    TenantDelete(Pick, TenantDeletion),
    /// About the tenant's own rules.
    Rules(RulesRequest),
    /// Everything about budgets and rates.
    Budget(BudgetRequest),
    /// Everything about prices.
    Price(PriceRequest),
}

/// A thing named by its id or, where that is unique, its label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pick(pub Label);

/// Shortest passphrase, bytes.
pub const MIN_PASSPHRASE_BYTES: usize = 12;
/// Longest passphrase, bytes.
pub const MAX_PASSPHRASE_BYTES: usize = 1024;
/// Most shares.
pub const MAX_SHARES: u8 = 16;

/// The keeper's exit code after [`Request::Panic`]: whoever starts it again leaves it sealed.
pub const PANIC_EXIT: u8 = 87;
/// The keeper's exit code when an operator's seal did not end by itself: whoever starts it again leaves it sealed.
pub const SEAL_EXIT: u8 = 88;
/// The file in the keeper's directory that stands from an operator's seal until somebody opens the vault.
pub const SEAL_MARK: &str = "sealed-by-operator";

/// What opens the seal.
#[derive(Debug, Serialize, Deserialize)]
pub enum UnsealWith {
    /// The passphrase.
    Passphrase(SecretBytes),
    /// One share.
    Share(SecretBytes),
    /// What the TPM unseals, with the PIN if it wants one.
    Tpm(Option<SecretBytes>),
}

/// A credential to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialWish {
    /// For which provider.
    pub provider: ProviderName,
    /// Whose.
    pub home: HomePick,
    /// Its name.
    pub label: Label,
    /// Headers that always go with it (organisation, project).
    pub fixed_headers: Vec<(String, String)>,
    /// What it may be used for.
    pub rules: CredentialRules,
}

/// Whose a credential will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HomePick {
    /// One person's; `None` takes the first person of the tenant.
    Personal(Option<Pick>),
    /// A workspace's.
    Workspace(Pick),
}

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenWish {
    /// Whose; `None` takes the first person of the tenant.
    pub user: Option<Pick>,
    /// Its name.
    pub label: Label,
    /// What it may do; the credential is picked by [`TokenWish::credential`].
    pub scope: TokenScope,
    /// The one credential it is bound to.
    pub credential: Option<Pick>,
}

/// What to sum usage by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UsageBy {
    /// Whose token.
    User,
    /// Which token.
    Token,
    /// Which credential.
    Credential,
    /// Which model.
    Model,
    /// Which provider.
    Provider,
    /// Which tenant.
    Tenant,
    /// Whose credential: a workspace's, or a person's own.
    Workspace,
}

/// What the keeper answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done,
    /// It is not done.
    Failed(Fault),
    /// The state of the vault.
    Status(Status),
    /// The keeper's own health.
    Doctor(Vec<Check>),
    /// The shares of a vault that is being made; printed once.
    Shares(Vec<SecretBytes>),
    /// The vault is made; pin this key.
    Initialised(VaultKey),
    /// How far the unsealing is.
    Unsealing(Progress),
    /// The vault is open.
    Unsealed,
    /// A user was made.
    User(UserId),
    /// A workspace was made.
    Workspace(WorkspaceId),
    /// Seal the key to this, and upload it.
    Upload {
        /// What the blob is bound to.
        binding: Box<UploadBinding>,
        /// Shown to the operator; its digest is in the binding.
        destination: Box<Destination>,
    },
    /// The credential that was made or rotated.
    Credential(CredentialId),
    /// What the provider answered to a test.
    Tested(Box<Tested>),
    /// A token was made; its text is not kept.
    Token {
        /// Its id.
        id: TokenId,
        /// Its text.
        text: SecretBytes,
    },
    /// People.
    Users(Vec<UserRow>),
    /// Workspaces.
    Workspaces(Vec<WorkspaceRow>),
    /// Providers.
    Providers(Vec<ProviderRow>),
    /// One provider.
    Provider(Box<ProviderDefinition>),
    /// Credentials.
    Credentials(Vec<CredentialRow>),
    /// Tokens.
    Tokens(Vec<TokenRow>),
    /// Journal entries, oldest first.
    Journal(Vec<JournalRow>),
    /// Sums.
    Usage(Vec<UsageRow>),
    /// The key that verifies the journal's checkpoints, as a verifier key of C2SP signed-note.
    AuditKey(String),
    /// Everything about backups.
    Backup(BackupAnswer),
    /// Generations of keys.
    Keys(Box<KeyState>),
    /// What would be deleted.
    Counted(Box<Counted>),
    /// What was deleted and destroyed.
    Deleted(Box<Receipt>),
    /// How the vault stands to the TPM.
    Tpm(Box<TpmStatus>),
    /// About the journal.
    Audit(AuditAnswer),
    /// What a witness asked for.
    Witness(ToWitness),
    /// Witnesses.
    Witnesses(Vec<WitnessRow>),
    /// The ways into the vault.
    Ways(Vec<WayRow>),
    /// About how people sign in.
    People(PeopleAnswer),
    /// A tenant was made.
    Tenant(TenantId),
    /// Tenants.
    Tenants(Vec<TenantRow>),
    /// The tenant that would be deleted.
    TenantCounted(Box<TenantCounted>),
    /// The tenant that was deleted, and what was destroyed.
    TenantDeleted(Box<TenantReceipt>),
    /// About the tenant's own rules.
    Rules(RulesAnswer),
    /// How budgets stand.
    Budgets(Vec<BudgetRow>),
    /// Prices.
    Prices(Box<PriceBook>),
}

/// The state of the vault for people and scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "facts that have nothing to do with one another")]
pub struct Status {
    /// The state.
    pub state: VaultState,
    /// How far the unsealing is, or the showing of custody, while one of them is.
    pub unsealing: Option<Progress>,
    /// What seals it, when there is a vault.
    pub seal: Option<SealKind>,
    /// The vault's public key, when it is open.
    pub vault_key: Option<VaultKey>,
    /// Whether the courier of built-in providers is connected.
    pub courier: bool,
    /// Whether the courier of operator-defined providers is connected.
    pub courier_defined: bool,
    /// Whether a gateway is connected.
    pub gateway: bool,
    /// Entries in the journal.
    pub journal_entries: u64,
    /// Credentials, when it is open.
    pub credentials: u32,
    /// Why it is faulty, when it is.
    pub fault: Option<Fault>,
    /// Records that are still to be rewritten under the newest generation of keys.
    pub old_records: u64,
    /// The witnesses that it waits for, when it does.
    pub awaited: Option<Awaited>,
    /// Whether a change of the ways waits for its shares to be entered back.
    pub incoming: bool,
    /// Whether an operator sealed it and nobody opened it since.
    pub sealed_by_operator: bool,
}

/// What seals a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SealKind {
    /// One passphrase.
    Passphrase,
    /// Shares.
    Shares {
        /// How many are needed.
        threshold: u8,
        /// How many there are.
        count: u8,
    },
}

/// How far an unsealing by shares is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Ties shares to one attempt, four hex digits.
    pub attempt: String,
    /// Shares accepted so far, by index.
    pub accepted: Vec<u8>,
    /// Whose these are, where it is written down.
    pub holders: Vec<String>,
    /// Shares needed.
    pub needed: u8,
    /// Other locks of the same way that are still shut.
    pub shut: Vec<LockName>,
    /// When the attempt ends and the shares are wiped, seconds from now.
    pub expires_in_secs: u32,
}

/// Why something is not done: a stable code, what happened, what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// As in `SR-SEALED-002`.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// The next step, when there is one.
    pub next: Option<String>,
    /// The exit code of the operator's tool.
    pub exit: Exit,
}

/// The exit codes of the operator's tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// An error.
    Error,
    /// Sealed.
    Sealed,
    /// An unsealing is under way.
    Unsealing,
    /// Made, and custody not proved.
    Provisional,
    /// Store, keyring or manifest is damaged.
    Corrupt,
    /// The store is an older one.
    RolledBack,
    /// The store was put together from parts.
    Spliced,
    /// The store is another vault's.
    Foreign,
}

impl Exit {
    /// The process exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Error => 1,
            Self::Sealed => 2,
            Self::Unsealing => 3,
            Self::Provisional => 4,
            Self::Corrupt => 5,
            Self::RolledBack => 6,
            Self::Spliced => 7,
            Self::Foreign => 8,
        }
    }
}

/// One line of `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// What was found.
    pub verdict: Verdict,
    /// In words.
    pub detail: String,
    /// One fix, unless all is well.
    pub fix: Option<String>,
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, and could be better.
    Warn,
    /// Not as promised.
    Fail,
}

/// What a provider answered to `credential test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// In the journal.
    pub call: CallId,
    /// How it went.
    pub outcome: Outcome,
    /// The first bytes of the answer, scrubbed.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::Exit;

    // Scripts of operators tell states apart by them: they stay.
    #[test]
    fn each_state_has_the_exit_code_that_it_always_had() {
        let states = [
            Exit::Error,
            Exit::Sealed,
            Exit::Unsealing,
            Exit::Provisional,
            Exit::Corrupt,
            Exit::RolledBack,
            Exit::Spliced,
            Exit::Foreign,
        ];
        assert_eq!(states.map(Exit::code), [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
