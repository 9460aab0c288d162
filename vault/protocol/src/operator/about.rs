//! Which requests are about one tenant, and which about the whole vault: one row for each.
//!
//! Invariant: a new request does not compile before it has its row here.

use super::Request;
use super::audit::AuditRequest;

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The vault, with all tenants.
    Vault,
    /// One tenant: the first, unless another is named.
    Tenant,
    /// The whole vault, or the one tenant that is named.
    Either,
}

impl Request {
    /// What it is about.
    #[expect(clippy::too_many_lines, reason = "the page of all requests")]
    pub const fn about(&self) -> About {
        match self {
            Self::UserCreate(_)
            | Self::UserList
            | Self::UserDisable(_)
            | Self::UserEnable(_)
            | Self::UserDelete(..)
            | Self::WorkspaceCreate(_)
            | Self::WorkspaceList
            | Self::WorkspaceJoin(..)
            | Self::WorkspaceLeave(..)
            | Self::WorkspaceDelete(..)
            | Self::CredentialAdd(_)
            | Self::CredentialRotate(_)
            | Self::CredentialUpload { .. }
            | Self::CredentialList
            | Self::CredentialTest(_)
            | Self::CredentialDelete(_)
            | Self::CredentialRules(..)
            | Self::TokenCreate(_)
            | Self::TokenList
            | Self::TokenRevoke(_)
            | Self::People(_)
            | Self::Rules(_)
            | Self::Budget(_) => About::Tenant,
            Self::Usage { .. } | Self::Audit(AuditRequest::Search { .. }) => About::Either,
            Self::Status
            | Self::Doctor
            | Self::Init(_)
            | Self::ShowCustody(_)
            | Self::Unseal(_)
            | Self::Seal
            | Self::ProviderList
            | Self::ProviderShow(_)
            | Self::ProviderPut(_)
            | Self::ProviderRemove(_)
            | Self::AuditTail { .. }
            | Self::AuditKey
            | Self::Backup(_)
            | Self::KeyRotate
            | Self::KeyStatus
            | Self::UnsealConfirming { .. }
            | Self::TpmStatus
            | Self::TpmSeal(_)
            | Self::TpmRemove
            | Self::Audit(
                AuditRequest::Span | AuditRequest::Read { .. } | AuditRequest::Archive { .. },
            )
            | Self::Witness(_)
            | Self::WitnessAdd { .. }
            | Self::WitnessList
            | Self::WitnessRemove(_)
            | Self::InitWays(_)
            | Self::Join { .. }
            | Self::AbandonUnseal { .. }
            | Self::Panic
            | Self::Ways
            | Self::ChangeWays(_)
            | Self::DropWays
            | Self::UnsealUnattended
            | Self::AcceptSettings { .. }
            | Self::In { .. }
            | Self::TenantCreate(_)
            | Self::TenantList
            | Self::TenantDisable(_)
            | Self::TenantEnable(_)
            | Self::TenantDelete(..)
            | Self::Price(_) => About::Vault,
        }
    }
}
