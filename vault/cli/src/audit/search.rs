//! `strongroom audit search`: entries that fit, page by page, printed as they are found.
//!
//! Invariant: one answer at a time, each with a bound; what is searched is what the keeper has, not what was verified.

use std::time::Duration;

use clap::Args;
use strongroom_policy::id::CallId;
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{Label, ProviderName};
use strongroom_protocol::operator::audit::{AuditAnswer, AuditFilter, AuditRequest};
use strongroom_protocol::operator::{Answer, Pick, Request};

use super::print;
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::out::{self, Form};
use crate::{pick, render};

/// Arguments of `audit search`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Not older than this, as 24h or 30d
    #[arg(long, value_name = "TIME", value_parser = pick::duration)]
    since: Option<Duration>,
    /// Older than this, as 1h
    #[arg(long, value_name = "TIME", value_parser = pick::duration)]
    until: Option<Duration>,
    /// Whose calls, by name or id
    #[arg(long, value_name = "USER", value_parser = pick::pick)]
    user: Option<Pick>,
    /// By which token, by name or id
    #[arg(long, value_name = "TOKEN", value_parser = pick::pick)]
    token: Option<Pick>,
    /// With which credential, by name or id
    #[arg(long, value_name = "CREDENTIAL", value_parser = pick::pick)]
    credential: Option<Pick>,
    /// To which provider
    #[arg(long, value_name = "NAME", value_parser = ProviderName::parse)]
    provider: Option<ProviderName>,
    /// About this call
    #[arg(long, value_name = "ID")]
    call: Option<CallId>,
    /// How it ended: complete, or a refusal's code as SR-POLICY-003
    #[arg(long, value_name = "OUTCOME", value_parser = Label::parse)]
    outcome: Option<Label>,
    /// The kind of entry (admit, close, refuse, act, …) or an operator's act, as token.create
    #[arg(long, value_name = "ACT", value_parser = Label::parse)]
    act: Option<Label>,
    /// By this Unix user
    #[arg(long, value_name = "UID")]
    operator: Option<u32>,
    /// At most so many entries, the oldest of those that fit; the newest of all are those of `audit tail`
    #[arg(short = 'n', long, default_value_t = 1000)]
    limit: u64,
}

/// Entries in one answer.
const PAGE: u32 = 256;
/// The keeper looks at a bounded part of the journal for one answer, and lets calls go first.
const PATIENCE: Duration = Duration::from_mins(1);

/// Prints what fits.
pub(super) fn run(arguments: &Arguments, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let (mut after, mut found, mut last) = (0, 0_u64, None);
    loop {
        let left = arguments.limit.saturating_sub(found);
        let limit = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        if limit == 0 {
            out::say("there may be newer ones: raise --limit, or begin later with --since");
            return Ok(());
        }
        let filter = Box::new(filter(arguments));
        let request = Request::Audit(AuditRequest::Search { filter, after, limit });
        let answer = link.ask_within(&request, PATIENCE)?;
        let Answer::Audit(AuditAnswer::Found { rows, looked, end }) = answer else {
            return Err(Failure::unexpected());
        };
        print(desk.form, &rows, &mut last);
        found = found.saturating_add(u64::try_from(rows.len()).unwrap_or(u64::MAX));
        if end {
            if found == 0 && desk.form == Form::Text {
                out::say("nothing fits");
            }
            return Ok(());
        }
        after = looked;
    }
}

fn filter(arguments: &Arguments) -> AuditFilter {
    let Arguments { since, until, user, token, credential, provider, call, .. } = arguments;
    let Arguments { outcome, act, operator, .. } = arguments;
    AuditFilter {
        since: since.map(ago),
        until: until.map(ago),
        user: user.clone(),
        token: token.clone(),
        credential: credential.clone(),
        provider: provider.clone(),
        call: *call,
        outcome: outcome.clone(),
        act: act.clone(),
        operator: *operator,
    }
}

/// A moment that far back.
pub(super) fn ago(span: Duration) -> Moment {
    let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Moment::from_unix_millis(render::now().unix_millis().saturating_sub(span))
}
