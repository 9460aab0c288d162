//! `strongroom usage`: sums over the journal.
//!
//! Invariant: a call whose usage was not told is counted as such, not as zero.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;
use strongroom_policy::moment::Moment;
use strongroom_protocol::operator::listing::UsageRow;
use strongroom_protocol::operator::{Answer, Request, UsageBy};

use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::out::{self, Form};
use crate::{pick, render};

/// Arguments of `usage`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What to sum by
    #[arg(long, value_enum, default_value_t = By::Credential)]
    by: By,
    /// From when on, as 24h or 30d [default: the beginning]
    #[arg(long, value_name = "TIME", value_parser = pick::duration)]
    since: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    User,
    Token,
    Credential,
    Model,
    Provider,
    Tenant,
}

/// Ticks in a USD cent.
const TICKS_PER_CENT: u64 = 100_000_000;

/// Prints the sums.
pub(crate) fn run(arguments: &Arguments, desk: &Desk) -> Outcome {
    let by = match arguments.by {
        By::User => UsageBy::User,
        By::Token => UsageBy::Token,
        By::Credential => UsageBy::Credential,
        By::Model => UsageBy::Model,
        By::Provider => UsageBy::Provider,
        By::Tenant => UsageBy::Tenant,
    };
    let since = arguments.since.map_or(0, |span| {
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        render::now().unix_millis().saturating_sub(span)
    });
    let Answer::Usage(rows) = desk.link()?.ask(&Request::Usage { since_ms: since, by })? else {
        return Err(Failure::unexpected());
    };
    match desk.form {
        Form::Json => {
            let since = render::moment(Moment::from_unix_millis(since));
            out::object(json!({"by": by, "since": since, "usage": rows}));
        }
        Form::Text => {
            let cells: Vec<_> = rows.iter().map(cells).collect();
            let headings =
                ["WHO OR WHAT", "CALLS", "REFUSED", "INPUT", "OUTPUT", "UNTOLD", "USD TOLD"];
            render::table(headings, &cells, "no calls");
        }
    }
    Ok(())
}

fn cells(row: &UsageRow) -> [String; 7] {
    let cents = row.cost_ticks / TICKS_PER_CENT;
    [
        row.label.as_ref().map_or_else(|| row.key.clone(), ToString::to_string),
        row.calls.to_string(),
        row.refused.to_string(),
        row.input.to_string(),
        row.output.to_string(),
        row.untold.to_string(),
        format!("{}.{:02}", cents / 100, cents % 100),
    ]
}
