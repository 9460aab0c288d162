//! What each request does to rights, and whether it takes a turn: one row for each, that every gate asks.
//!
//! Invariant: a new request does not compile before it has its row here.

use strongroom_protocol::operator::Request;
use strongroom_protocol::operator::backup::BackupRequest;
use strongroom_protocol::operator::budget::{BudgetRequest, PriceRequest};
use strongroom_protocol::operator::people::PeopleRequest;
use strongroom_protocol::operator::rules::RulesRequest;

/// What a request does to rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effect {
    /// Whether others that change something wait for it.
    pub(super) turn: Turn,
    /// It takes something away that an older copy of the disk would give back: the TPM's counter moves before it is answered.
    pub(super) restricts: bool,
    /// It is refused in a restored vault until an operator has looked at it.
    pub(super) waits_for_confirmation: bool,
    /// It is refused while a required witness has not answered.
    pub(super) waits_for_witness: bool,
}

/// Whether a request is done one at a time with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It changes something.
    Takes,
    /// It looks, also at a sealed vault, or it must not wait: nothing holds up the seal, and a slow provider holds up no revocation.
    NeedsNone,
}

/// The effect of a request.
#[expect(clippy::too_many_lines, reason = "the page of all requests")]
pub(super) const fn effect(request: &Request) -> Effect {
    match request {
        Request::ChangeWays(_)
        | Request::ProviderPut(_)
        | Request::Rules(RulesRequest::Replace { .. })
        | Request::CredentialUpload { .. }
        | Request::CredentialRules(..)
        // A rule may deny its members something.
        | Request::WorkspaceJoin(..)
        // Opened before it comes here.
        | Request::In { .. }
        | Request::Budget(BudgetRequest::Set(_))
        | Request::Price(
            PriceRequest::Put(_)
            | PriceRequest::Remove(..)
            | PriceRequest::Replace(_)
            | PriceRequest::Restore,
        ) => REPLACES,
        Request::ShowCustody(_) | Request::ProviderRemove(_) => ENTERS_OR_CLEARS,
        Request::UserDisable(_)
        | Request::TenantDisable(_)
        | Request::TenantDelete(..)
        | Request::UserDelete(..)
        | Request::WorkspaceDelete(..)
        | Request::KeyRotate
        | Request::DropWays
        | Request::WorkspaceLeave(..)
        | Request::CredentialDelete(_)
        | Request::TokenRevoke(_) => TAKES_AWAY,
        Request::WitnessAdd { .. }
        | Request::UserCreate(_)
        | Request::TenantCreate(_)
        | Request::TenantEnable(_)
        | Request::UserEnable(_)
        | Request::WorkspaceCreate(_)
        | Request::CredentialAdd(_)
        | Request::CredentialRotate(_)
        | Request::TokenCreate(_)
        | Request::Budget(BudgetRequest::Remove(_)) => GIVES,
        Request::TpmSeal(_) => ADDS_A_WAY,
        Request::WitnessRemove(_) | Request::Backup(BackupRequest::Confirm(_)) => ENDS_A_WAIT,
        Request::Init(_)
        | Request::InitWays(_)
        | Request::Unseal(_)
        | Request::Join { .. }
        | Request::AbandonUnseal { .. }
        | Request::UnsealConfirming { .. }
        | Request::UnsealUnattended
        | Request::AcceptSettings { .. }
        | Request::TpmRemove => LEAVES_RIGHTS,
        Request::People(request) => of_people(request),
        Request::CredentialTest(_) => USES_A_KEY,
        Request::Status
        | Request::Doctor
        | Request::Panic
        | Request::Ways
        | Request::Seal
        | Request::Witness(_)
        | Request::WitnessList
        | Request::UserList
        | Request::TenantList
        | Request::WorkspaceList
        | Request::ProviderList
        | Request::ProviderShow(_)
        | Request::CredentialList
        | Request::TokenList
        | Request::AuditTail { .. }
        | Request::Usage { .. }
        | Request::AuditKey
        | Request::KeyStatus
        | Request::Backup(_)
        | Request::TpmStatus
        | Request::Rules(RulesRequest::Show | RulesRequest::Explain(_))
        | Request::Audit(_)
        | Request::Budget(BudgetRequest::List)
        | Request::Price(PriceRequest::List) => LOOKS,
    }
}

const fn of_people(request: &PeopleRequest) -> Effect {
    match request {
        PeopleRequest::Invite(_) | PeopleRequest::Import(_) => GIVES,
        PeopleRequest::Revoke(_) | PeopleRequest::RevokeAll(_) => TAKES_AWAY,
        PeopleRequest::Sessions(_) => LOOKS,
    }
}

/// Gives to some and takes from others.
const REPLACES: Effect = Effect { restricts: true, ..GIVES };
/// Puts in force what was asked for before, or clears away what nobody uses.
const ENTERS_OR_CLEARS: Effect = Effect { waits_for_confirmation: true, ..TAKES_AWAY };
/// Takes away; after a rotation nobody may do more than before.
const TAKES_AWAY: Effect = Effect { restricts: true, ..LEAVES_RIGHTS };
/// Gives somebody a right, or brings in what may be used.
const GIVES: Effect = Effect { waits_for_witness: true, ..ADDS_A_WAY };
/// Adds a way into the vault that stands beside the others.
const ADDS_A_WAY: Effect = Effect { waits_for_confirmation: true, ..LEAVES_RIGHTS };
/// Ends a wait: a witness that remembers the time before a restore would keep the vault shut.
const ENDS_A_WAIT: Effect = Effect { waits_for_witness: true, ..LEAVES_RIGHTS };
/// Leaves rights as they are in an open vault.
const LEAVES_RIGHTS: Effect = Effect { turn: Turn::Takes, ..LOOKS };
/// Sends a key to its provider: it may have been deleted after the backup. Whether a witness has answered is asked as for a call.
const USES_A_KEY: Effect = Effect { waits_for_confirmation: true, ..LOOKS };
/// Changes nothing that a turn protects, or takes its turn itself for as long as it must.
const LOOKS: Effect = Effect {
    turn: Turn::NeedsNone,
    restricts: false,
    waits_for_confirmation: false,
    waits_for_witness: false,
};
