//! The closed set of refusals, and how each is worded in each dialect.
//!
//! Invariant: the outside sees one of these and nothing of the inner error; unknown and forbidden look alike.
//! Invariant: a refusal that trying again cannot change says so, or the SDKs try again.

use serde::{Deserialize, Serialize};

use crate::dialect::Dialect;

/// Why a call is not made, or does not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Refusal {
    /// No token was presented.
    TokenMissing,
    /// Two different values, or one that is not of our form: probably a provider's real key.
    TokenForeign,
    /// Not a token that acts: unknown, revoked, of a disabled user.
    TokenInvalid,
    /// The token's time is over.
    TokenExpired,
    /// The vault is sealed.
    Sealed,
    /// No provider of this name.
    ProviderUnknown,
    /// The token may not call this provider.
    ProviderDenied,
    /// No rule for this method and path.
    PathUnknown,
    /// A query parameter that this path does not allow.
    QueryDenied,
    /// No credential for this provider that the subject may use.
    CredentialMissing,
    /// Several credentials would do.
    CredentialAmbiguous,
    /// The credential's time is over.
    CredentialExpired,
    /// The path reaches objects that others who share the key could reach too.
    StatefulDenied,
    /// The model is not allowed.
    ModelDenied,
    /// A rule names models, and this request's model cannot be read.
    ModelUnreadable,
    /// A feature or beta value is not allowed.
    FeatureDenied,
    /// Too many calls.
    RateLimited,
    /// The request head is malformed.
    HeadInvalid,
    /// The request target is malformed.
    TargetInvalid,
    /// The method is none that providers use.
    MethodUnknown,
    /// The body is malformed, or could be read in two ways.
    BodyInvalid,
    /// A content type or encoding that is not read here.
    BodyUnsupported,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodySlow,
    /// The body that travelled is not the body that was judged.
    BodyMismatch,
    /// Protocol upgrades are not carried.
    UpgradeUnsupported,
    /// No room for another call.
    Busy,
    /// The journal cannot be written, so nothing is released.
    JournalUnavailable,
    /// The store cannot be read or written.
    StoreUnavailable,
    /// The courier is not there.
    CourierUnavailable,
    /// The ticket is unknown, used or too old.
    TicketUnknown,
    /// The provider's name does not resolve, or nobody answers.
    ProviderUnreachable,
    /// The provider's address is one that must not be dialled.
    ProviderAddress,
    /// The provider's certificate does not hold.
    ProviderTls,
    /// The provider was silent for too long.
    ProviderTimeout,
    /// The provider's answer is malformed or ended early.
    ProviderBroken,
    /// The provider redirects to another origin.
    ProviderRedirect,
    /// The call was stopped: its token, credential or user was revoked, or the vault sealed.
    Recalled,
    /// The client went away.
    Cancelled,
    /// A fault of ours.
    Internal,
    /// A rule of the tenant forbids it.
    RuleDenied,
    /// A hard budget does not have what the call can cost.
    BudgetSpent,
    /// A hard budget applies, and nothing bounds what the call can cost.
    BudgetNoBound,
    /// The disk does not know yet of as much as the call can cost.
    BudgetNotReady,
}

/// How a refusal is told over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wording {
    /// The HTTP status.
    pub status: u16,
    /// The dialect's error type, code or status word.
    pub kind: &'static str,
    /// Whether the SDKs should try again.
    pub retry: Retry,
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same request will be refused again.
    Never,
    /// Later it may pass.
    Later,
}

/// One row of the table: stable code, status, message.
struct Row {
    code: &'static str,
    status: u16,
    retry: Retry,
    message: &'static str,
}

impl Refusal {
    /// Every refusal, for the golden table.
    pub const ALL: [Self; 44] = [
        Self::TokenMissing,
        Self::TokenForeign,
        Self::TokenInvalid,
        Self::TokenExpired,
        Self::Sealed,
        Self::ProviderUnknown,
        Self::ProviderDenied,
        Self::PathUnknown,
        Self::QueryDenied,
        Self::CredentialMissing,
        Self::CredentialAmbiguous,
        Self::CredentialExpired,
        Self::StatefulDenied,
        Self::ModelDenied,
        Self::ModelUnreadable,
        Self::FeatureDenied,
        Self::RateLimited,
        Self::HeadInvalid,
        Self::TargetInvalid,
        Self::MethodUnknown,
        Self::BodyInvalid,
        Self::BodyUnsupported,
        Self::BodyTooLarge,
        Self::BodySlow,
        Self::BodyMismatch,
        Self::UpgradeUnsupported,
        Self::Busy,
        Self::JournalUnavailable,
        Self::StoreUnavailable,
        Self::CourierUnavailable,
        Self::TicketUnknown,
        Self::ProviderUnreachable,
        Self::ProviderAddress,
        Self::ProviderTls,
        Self::ProviderTimeout,
        Self::ProviderBroken,
        Self::ProviderRedirect,
        Self::Recalled,
        Self::Cancelled,
        Self::Internal,
        Self::RuleDenied,
        Self::BudgetSpent,
        Self::BudgetNoBound,
        Self::BudgetNotReady,
    ];

    /// The stable code, as in `x-strongroom-refusal`.
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// One sentence that says what is wrong and, where it can, what to do.
    pub const fn message(self) -> &'static str {
        self.row().message
    }

    /// Status, word and retry advice in a dialect.
    pub fn wording(self, dialect: Dialect) -> Wording {
        let row = self.row();
        Wording { status: row.status, kind: kind(dialect, row.status), retry: row.retry }
    }

    #[expect(clippy::too_many_lines, reason = "the table of refusals is one page")]
    const fn row(self) -> Row {
        use Retry::{Later, Never};
        match self {
            Self::TokenMissing => row(
                "SR-TOKEN-001",
                401,
                Never,
                "no API token; send a Strongroom token (sr_…) as the API key",
            ),
            Self::TokenForeign => row(
                "SR-TOKEN-002",
                401,
                Never,
                "a key that is not ours reached the gateway, or two different ones; use a Strongroom token (sr_…) and unset the provider's own key variable (OPENAI_API_KEY, ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN, GEMINI_API_KEY)",
            ),
            Self::TokenInvalid => row(
                "SR-TOKEN-003",
                401,
                Never,
                "this token is unknown or revoked; ask your operator for a new one (strongroom token create)",
            ),
            Self::TokenExpired => row(
                "SR-TOKEN-004",
                401,
                Never,
                "this token has expired; ask your operator for a new one (strongroom token create)",
            ),
            Self::Sealed => row(
                "SR-SEALED-001",
                503,
                Later,
                "the vault is sealed; an operator must run 'strongroom unseal'",
            ),
            Self::ProviderUnknown => row(
                "SR-PROVIDER-001",
                404,
                Never,
                "no provider of this name; see 'strongroom provider list'",
            ),
            Self::ProviderDenied => {
                row("SR-PROVIDER-002", 403, Never, "this token may not call this provider")
            }
            Self::PathUnknown => row(
                "SR-PATH-001",
                404,
                Never,
                "this method and path are not on the provider's list; see 'strongroom provider show'",
            ),
            Self::QueryDenied => {
                row("SR-PATH-002", 400, Never, "a query parameter is not on this path's list")
            }
            Self::CredentialMissing => row(
                "SR-CREDENTIAL-001",
                404,
                Never,
                "no key for this provider that you may use; an operator adds one with 'strongroom credential add'",
            ),
            Self::CredentialAmbiguous => row(
                "SR-CREDENTIAL-002",
                409,
                Never,
                "several keys would do; choose one with the header x-strongroom-credential, or bind the token with 'strongroom token create --credential'",
            ),
            Self::CredentialExpired => row(
                "SR-CREDENTIAL-003",
                403,
                Never,
                "this key's time is over; an operator sets a new one with 'strongroom credential rules NAME --expires …', naming its other rules again",
            ),
            Self::StatefulDenied => row(
                "SR-POLICY-001",
                403,
                Never,
                "this path reaches stored objects, which everyone who shares the key could reach; use a personal key",
            ),
            Self::ModelDenied => row("SR-POLICY-002", 403, Never, "this model is not allowed"),
            Self::ModelUnreadable => row(
                "SR-POLICY-003",
                403,
                Never,
                "a rule names models, and this request's model cannot be read",
            ),
            Self::FeatureDenied => row(
                "SR-POLICY-004",
                403,
                Never,
                "a feature of this request is not allowed with this key",
            ),
            Self::RuleDenied => row(
                "SR-POLICY-005",
                403,
                Never,
                "a rule of your organisation does not allow this call",
            ),
            Self::RateLimited => {
                row("SR-RATE-001", 429, Later, "too many calls in a minute; try again later")
            }
            Self::HeadInvalid => row("SR-HTTP-001", 400, Never, "the request head is malformed"),
            Self::TargetInvalid => {
                row("SR-HTTP-002", 400, Never, "the request target is malformed")
            }
            Self::MethodUnknown => row("SR-HTTP-003", 405, Never, "this method is not carried"),
            Self::BodyInvalid => row(
                "SR-BODY-001",
                400,
                Never,
                "the body is malformed, or could be read in two ways",
            ),
            Self::BodyUnsupported => row(
                "SR-BODY-002",
                415,
                Never,
                "this content type or encoding is not carried; send plain UTF-8 JSON, or plain multipart",
            ),
            Self::BodyTooLarge => row(
                "SR-BODY-003",
                413,
                Never,
                "the body is larger than this appliance carries (JSON: 32 MiB)",
            ),
            Self::BodySlow => row("SR-BODY-004", 408, Never, "the body did not arrive in time"),
            Self::BodyMismatch => row(
                "SR-BODY-005",
                400,
                Never,
                "the body that travelled is not the body that was judged",
            ),
            Self::UpgradeUnsupported => row(
                "SR-HTTP-004",
                426,
                Never,
                "WebSocket and other upgrades are not carried; use plain HTTP",
            ),
            Self::Busy => {
                row("SR-BUSY-001", 503, Later, "no room for another call; try again shortly")
            }
            Self::JournalUnavailable => row(
                "SR-JOURNAL-001",
                503,
                Later,
                "the audit journal cannot be written, so nothing is released; an operator must look at the disk ('strongroom doctor')",
            ),
            Self::StoreUnavailable => row(
                "SR-STORE-001",
                503,
                Later,
                "the vault's store cannot be used; an operator must look at the disk ('strongroom doctor')",
            ),
            Self::CourierUnavailable => row(
                "SR-COURIER-001",
                503,
                Later,
                "the courier is not there; it is being started again",
            ),
            Self::TicketUnknown => {
                row("SR-COURIER-002", 503, Later, "the call's ticket was too old; try again")
            }
            Self::ProviderUnreachable => {
                row("SR-UPSTREAM-001", 502, Later, "the provider cannot be reached")
            }
            Self::ProviderAddress => row(
                "SR-UPSTREAM-002",
                502,
                Never,
                "the provider's name leads to an address that must not be dialled",
            ),
            Self::ProviderTls => {
                row("SR-UPSTREAM-003", 502, Never, "the provider's certificate does not hold")
            }
            Self::ProviderTimeout => {
                row("SR-UPSTREAM-004", 504, Later, "the provider was silent for too long")
            }
            Self::ProviderBroken => row(
                "SR-UPSTREAM-005",
                502,
                Later,
                "the provider's answer is malformed or ended early",
            ),
            Self::ProviderRedirect => row(
                "SR-UPSTREAM-006",
                502,
                Never,
                "the provider redirects to another place; the key does not follow",
            ),
            Self::Recalled => row(
                "SR-RECALL-001",
                403,
                Never,
                "the call was stopped: its token, key or user was revoked, or the vault sealed",
            ),
            Self::Cancelled => row("SR-CANCEL-001", 499, Never, "the client went away"),
            Self::Internal => row(
                "SR-INTERNAL-001",
                500,
                Later,
                "a fault of the appliance; an operator finds it in the log",
            ),
            Self::BudgetSpent => row(
                "SR-BUDGET-001",
                402,
                Never,
                "a budget does not have what this call can cost; ask your operator (strongroom budget show)",
            ),
            Self::BudgetNoBound => row(
                "SR-BUDGET-002",
                403,
                Never,
                "a budget applies and nothing bounds what this call can cost; ask your operator (strongroom price list)",
            ),
            Self::BudgetNotReady => {
                row("SR-BUDGET-003", 503, Later, "a budget is being made ready; try again shortly")
            }
        }
    }
}

const fn row(code: &'static str, status: u16, retry: Retry, message: &'static str) -> Row {
    Row { code, status, retry, message }
}

/// The word that each dialect's SDK expects beside a status.
const fn kind(dialect: Dialect, status: u16) -> &'static str {
    match dialect {
        Dialect::OpenAi | Dialect::Xai => openai_kind(status),
        Dialect::Anthropic => anthropic_kind(status),
        Dialect::Gemini => gemini_kind(status),
    }
}

const fn openai_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "insufficient_quota",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

const fn anthropic_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

const fn gemini_kind(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "FAILED_PRECONDITION",
        402 | 429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        500 => "INTERNAL",
        504 => "DEADLINE_EXCEEDED",
        501.. => "UNAVAILABLE",
        _ => "INVALID_ARGUMENT",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;

    use super::Refusal;
    use crate::dialect::Dialect;

    #[test]
    fn every_refusal_has_a_code_and_a_sentence_of_its_own() {
        let codes: BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.code()).collect();
        let sentences: BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.message()).collect();
        assert_eq!((codes.len(), sentences.len()), (Refusal::ALL.len(), Refusal::ALL.len()));
    }

    #[test]
    fn the_table_of_refusals_is_the_golden_one() {
        let mut table = String::new();
        for refusal in Refusal::ALL {
            for dialect in Dialect::ALL {
                let wording = refusal.wording(dialect);
                writeln!(
                    table,
                    "{:<18} {:<20} {:<9} {} {:<22} {:?}",
                    refusal.code(),
                    format!("{refusal:?}"),
                    dialect.name(),
                    wording.status,
                    wording.kind,
                    wording.retry
                )
                .unwrap();
            }
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/refusals.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &table).unwrap();
        }
        let golden = std::fs::read_to_string(path).unwrap();
        assert!(table == golden, "{path} differs; UPDATE_GOLDEN=1 rewrites it");
    }
}
