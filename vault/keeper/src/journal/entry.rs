//! What stands in the journal: one shape per kind of event, ids and numbers only.
//!
//! Invariant: every text here comes from a closed set or a type with an alphabet; nothing of a body but the model's name.

use serde::Serialize;
use strongroom_policy::claims::{Feature, Stream};
use strongroom_policy::decide::Permit;
use strongroom_policy::id::{CallId, CredentialId, SessionId, TenantId, TokenId, UserId};
use strongroom_policy::money::Money;
use strongroom_policy::name::ProviderName;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::errand::{Ending, Outcome};
use strongroom_protocol::usage::Told;

/// One event.
#[derive(Debug, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Entry<'a> {
    /// A call may be made: written before its key is opened.
    Admit(Box<AdmitEntry<'a>>),
    /// A call has ended.
    Close(Box<CloseEntry>),
    /// A call was admitted by a keeper that did not see its end.
    Lost {
        /// The call.
        #[serde(serialize_with = "text")]
        call: CallId,
    },
    /// A known token's call was refused.
    Refuse(RefuseEntry<'a>),
    /// Refusals of callers without a known token, counted.
    Strangers {
        /// How many since the last such entry.
        refused: u64,
    },
    /// An operator's act.
    Act {
        /// The act, as in `token.create`.
        act: &'static str,
        /// The Unix user.
        operator: u32,
        /// In which tenant; of an act on the whole vault none.
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text_if_any")]
        tenant: Option<TenantId>,
        /// The id or provider's name that it was done to.
        target: String,
        /// Whether it was done.
        result: ActResult,
    },
    /// What a person did about signing in, or what was refused to whoever tried it.
    Person {
        /// The act, as in `person.sign-in`.
        act: &'static str,
        /// In which tenant.
        #[serde(serialize_with = "text")]
        tenant: TenantId,
        /// Whose.
        #[serde(serialize_with = "text")]
        user: UserId,
        /// The one session that it was about.
        #[serde(serialize_with = "text_if_any", skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
    },
    /// The vault was unsealed.
    Unseal {
        /// What opened it.
        seal: &'static str,
        /// The Unix user who brought the last part.
        operator: u32,
        /// Attempts that failed since it was sealed.
        failed_attempts: u64,
        /// Bytes of an unacknowledged last line that were cut off.
        cut_bytes: u64,
        /// Hash tiles that a crash took, and that were made again of their entries.
        made_tiles: u64,
    },
    /// The vault was sealed.
    Seal {
        /// Why.
        reason: &'static str,
    },
    /// The store's state after a commit: what a witness of the journal vouches for as well.
    State {
        /// The commit.
        commit: u64,
        /// The digest of the manifest's settled state.
        #[serde(serialize_with = "digits")]
        digest: [u8; 32],
    },
    /// The oldest bundles were moved to an archive.
    Archive {
        /// The number of the oldest entry that stays.
        first: u64,
        /// The Unix user.
        operator: u32,
    },
    /// Entries could not be written for a while.
    Gap {
        /// Since when.
        since: &'a str,
        /// Why.
        reason: &'static str,
        /// How many entries were refused.
        refused: u64,
    },
    /// What the reserve kept of a time when nothing could be written here.
    Stopped {
        /// When.
        at: String,
        /// Why.
        reason: &'static str,
    },
    /// A sink began or ended to fail.
    Sink {
        /// Which.
        sink: &'a str,
        /// How it is.
        state: SinkState,
        /// Entries that it did not get, since it was opened.
        lost: u64,
    },
}

/// How a sink is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SinkState {
    /// It takes entries.
    Takes,
    /// It does not.
    Fails,
}

/// Whether an act was done.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActResult {
    /// It is about to be done: written first.
    Begun,
    /// It could not be done after all.
    Failed,
    /// It may have been done: the disk did not say.
    InDoubt,
    /// It took its time, and is done by now.
    Done,
}

/// A call that may be made.
#[derive(Debug, Serialize)]
pub struct AdmitEntry<'a> {
    #[serde(serialize_with = "text")]
    call: CallId,
    #[serde(serialize_with = "text")]
    tenant: TenantId,
    #[serde(serialize_with = "text")]
    user: UserId,
    #[serde(serialize_with = "text")]
    token: TokenId,
    #[serde(serialize_with = "text")]
    credential: CredentialId,
    provider: &'a ProviderName,
    host: &'a str,
    method: &'static str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output: Option<u64>,
    stream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    features: Vec<&'static str>,
    rule: &'a str,
}

/// A call that has ended.
#[derive(Debug, Serialize)]
pub struct CloseEntry {
    #[serde(serialize_with = "text")]
    call: CallId,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// `complete`, or the refusal's code.
    end: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_input: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_write: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_ticks: Option<u64>,
    /// What it cost at the price of its time, millionths of a US dollar; none where no price was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<u64>,
    told: Told,
    sent_bytes: u64,
    received_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    scrubbed: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_us: Option<u64>,
    total_us: u64,
}

/// A refusal of a known token's call.
#[derive(Debug, Serialize)]
pub struct RefuseEntry<'a> {
    /// Names the refusal towards the user.
    #[serde(serialize_with = "text")]
    pub call: CallId,
    /// In which tenant.
    #[serde(serialize_with = "text")]
    pub tenant: TenantId,
    /// Whose.
    #[serde(serialize_with = "text")]
    pub user: UserId,
    /// Which token.
    #[serde(serialize_with = "text")]
    pub token: TokenId,
    /// For which provider.
    pub provider: &'a ProviderName,
    /// The refusal's code.
    pub code: &'static str,
    /// The rule that decided.
    pub rule: &'a str,
    /// What was denied, when the rule says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<&'a str>,
}

impl<'a> Entry<'a> {
    /// The entry of a permit.
    pub fn admit(call: CallId, permit: &'a Permit) -> Self {
        let claims = permit.claims();
        Self::Admit(Box::new(AdmitEntry {
            call,
            tenant: permit.tenant(),
            user: permit.user(),
            token: permit.token(),
            credential: permit.credential(),
            provider: permit.provider(),
            host: permit.destination().host.as_ref(),
            method: permit.method().name(),
            path: permit.target().path(),
            model: claims.model.as_ref().map(AsRef::as_ref),
            max_output: claims.max_output,
            stream: claims.stream == Stream::Streamed,
            features: claims.features.iter().map(Feature::name).collect(),
            rule: permit.rule(),
        }))
    }

    /// The entry of an outcome, and of what it cost.
    pub fn close(outcome: &Outcome, cost: Option<Money>) -> Self {
        let usage = outcome.usage;
        Self::Close(Box::new(CloseEntry {
            call: outcome.call,
            status: outcome.status,
            end: match outcome.ending {
                Ending::Complete => "complete",
                Ending::Aborted(refusal) => refusal.code(),
            },
            input: usage.input,
            output: usage.output,
            cached_input: usage.cached_input,
            cache_write: usage.cache_write,
            reasoning: usage.reasoning,
            cost_ticks: usage.cost_ticks,
            cost: cost.map(Money::micros),
            told: usage.told,
            sent_bytes: outcome.sent_bytes,
            received_bytes: outcome.received_bytes,
            scrubbed: outcome.scrubbed,
            first_byte_us: outcome.first_byte.map(micros),
            total_us: micros(outcome.total),
        }))
    }

    /// The entry of a call that ended before any courier had it, or whose courier did not tell how.
    pub fn unmade(call: CallId, refusal: Refusal, cost: Option<Money>) -> Self {
        let outcome = Outcome {
            call,
            status: None,
            ending: Ending::Aborted(refusal),
            usage: strongroom_protocol::usage::Usage::default(),
            sent_bytes: 0,
            received_bytes: 0,
            scrubbed: 0,
            first_byte: None,
            total: std::time::Duration::ZERO,
        };
        Self::close(&outcome, cost)
    }
}

fn text<T: std::fmt::Display, S: serde::Serializer>(value: &T, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(value)
}

#[expect(clippy::ref_option, reason = "serde hands a reference")]
fn text_if_any<T: std::fmt::Display, S: serde::Serializer>(
    value: &Option<T>,
    out: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => out.collect_str(value),
        None => out.serialize_none(),
    }
}

fn digits<S: serde::Serializer>(bytes: &[u8; 32], out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&hex::encode(bytes))
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, to_value};

    use super::*;
    use crate::journal::tests::permit;

    const CALL: CallId = CallId::from_random([9; 16]);

    #[test]
    fn an_admission_says_whose_call_it_is_and_that_the_answer_comes_whole() {
        let permit = permit();
        let entry = to_value(Entry::admit(CALL, &permit)).unwrap();
        for (field, value) in [
            ("call", CALL.to_string()),
            ("user", permit.user().to_string()),
            ("token", permit.token().to_string()),
            ("credential", permit.credential().to_string()),
            ("host", "api.openai.com".to_owned()),
            ("path", "/v1/models".to_owned()),
        ] {
            assert_eq!(entry[field], value, "{field}");
        }
        assert!(matches!(entry.get("stream"), None | Some(Value::Bool(false))), "{entry}");
    }

    #[test]
    fn an_end_says_how_long_the_call_took() {
        let mut outcome = Outcome {
            call: CALL,
            status: Some(200),
            ending: Ending::Complete,
            usage: strongroom_protocol::usage::Usage::default(),
            sent_bytes: 10,
            received_bytes: 20,
            scrubbed: 0,
            first_byte: Some(Duration::from_micros(1500)),
            total: Duration::from_millis(2),
        };
        let entry = to_value(Entry::close(&outcome, None)).unwrap();
        assert_eq!(entry["first_byte_us"], 1500);
        assert_eq!(entry["total_us"], 2000);
        assert_eq!(entry["end"], "complete");
        assert_eq!(entry["status"], 200);
        assert_eq!(entry.get("scrubbed"), None);
        assert_eq!(entry.get("cost"), None);
        let cost = Some(Money::from_micros(1234));
        assert_eq!(to_value(Entry::close(&outcome, cost)).unwrap()["cost"], 1234);
        outcome.scrubbed = 3;
        assert_eq!(to_value(Entry::close(&outcome, None)).unwrap()["scrubbed"], 3);
        outcome.ending = Ending::Aborted(Refusal::Recalled);
        assert_eq!(to_value(Entry::close(&outcome, None)).unwrap()["end"], "SR-RECALL-001");
    }
}
