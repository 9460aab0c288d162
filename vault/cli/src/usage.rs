//! `strongroom usage`: sums over the journal.
//!
//! Invariant: a call whose usage was not told is counted as such, not as zero; so is one without a price.

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
    Workspace,
}

/// Prints the sums.
pub(crate) fn run(arguments: &Arguments, desk: &Desk) -> Outcome {
    let by = match arguments.by {
        By::User => UsageBy::User,
        By::Token => UsageBy::Token,
        By::Credential => UsageBy::Credential,
        By::Model => UsageBy::Model,
        By::Provider => UsageBy::Provider,
        By::Tenant => UsageBy::Tenant,
        By::Workspace => UsageBy::Workspace,
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
            let rows: Vec<_> = rows.iter().map(json_of).collect();
            out::object(json!({"by": by, "since": since, "usage": rows}));
        }
        Form::Text => {
            let cells: Vec<_> = rows.iter().map(cells).collect();
            let headings =
                ["WHO OR WHAT", "CALLS", "REFUSED", "INPUT", "OUTPUT", "UNTOLD", "USD", "UNPRICED"];
            render::table(headings, &cells, "no calls");
        }
    }
    Ok(())
}

/// The cost in dollars beside the sums.
fn json_of(row: &UsageRow) -> serde_json::Value {
    let mut shown = json!(row);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("cost".to_owned(), json!(row.cost.to_string()));
    }
    shown
}

fn cells(row: &UsageRow) -> [String; 8] {
    [
        row.label.as_ref().map_or_else(|| row.key.clone(), ToString::to_string),
        row.calls.to_string(),
        row.refused.to_string(),
        row.input.to_string(),
        row.output.to_string(),
        row.untold.to_string(),
        row.cost.to_string(),
        row.unpriced.to_string(),
    ]
}
