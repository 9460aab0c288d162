//! `strongroom budget`: how much money, how many tokens and calls may be spent, by whom, in a day or a month.
//!
//! Invariant: amounts of money are exact decimals, never floating point.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use strongroom_policy::budget::{Force, Limit, Payer, Period, USUAL_WARNING, Unit};
use strongroom_policy::ledger::Figures;
use strongroom_policy::money::Money;
use strongroom_protocol::operator::budget::{
    BudgetRemoval, BudgetRequest, BudgetRow, BudgetWish, PayerPick, RateFate,
};
use strongroom_protocol::operator::{Answer, Request};

use crate::confirm::{Confirmation, Decision};
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::out::{self, Form};
use crate::{pick, render};

/// Arguments of `budget`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Set budgets or a rate; others of the same payer stay
    #[command(before_help = "Example: strongroom budget set user:alice --money 50 --per month")]
    Set(SetArguments),
    /// List budgets and rates
    #[command(before_help = "Example: strongroom budget list")]
    List,
    /// Show what is spent, reserved and left, and when it begins anew
    #[command(before_help = "Example: strongroom budget show user:alice")]
    Show {
        /// user:NAME, token:NAME, workspace:NAME, credential:NAME or tenant [default: everybody]
        #[arg(value_parser = payer)]
        payer: Option<PayerPick>,
    },
    /// Remove budgets or a rate; all of a payer's when nothing else is said
    #[command(
        before_help = "Example: strongroom budget remove user:alice --unit money --per month --yes"
    )]
    Remove(RemoveArguments),
}

#[derive(Debug, Args)]
struct SetArguments {
    /// user:NAME, token:NAME, workspace:NAME, credential:NAME or tenant
    #[arg(value_parser = payer)]
    payer: PayerPick,
    /// US dollars, as 50 or 0.25
    #[arg(long, value_name = "USD", value_parser = str::parse::<Money>)]
    money: Option<Money>,
    /// Tokens, input and output together
    #[arg(long)]
    tokens: Option<u64>,
    /// Calls
    #[arg(long)]
    requests: Option<u64>,
    /// Within which time, UTC
    #[arg(long, value_enum, default_value_t = Per::Month)]
    per: Per,
    /// Only warn, and refuse nothing
    #[arg(long)]
    soft: bool,
    /// From which share on callers are warned, per cent
    #[arg(long, value_name = "PERCENT", default_value_t = USUAL_WARNING, value_parser = clap::value_parser!(u8).range(1..=100))]
    warn: u8,
    /// Calls per minute
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

#[derive(Debug, Args)]
struct RemoveArguments {
    /// user:NAME, token:NAME, workspace:NAME, credential:NAME or tenant
    #[arg(value_parser = payer)]
    payer: PayerPick,
    /// Only budgets of this
    #[arg(long, value_enum)]
    unit: Option<Of>,
    /// Only budgets for this time
    #[arg(long, value_enum)]
    per: Option<Per>,
    /// Only the rate
    #[arg(long, conflicts_with_all = ["unit", "per"])]
    rate: bool,
    #[command(flatten)]
    confirmation: Confirmation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Per {
    Day,
    Month,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Of {
    Money,
    Tokens,
    Requests,
}

impl Per {
    const fn period(self) -> Period {
        match self {
            Self::Day => Period::Day,
            Self::Month => Period::Month,
        }
    }
}

impl Of {
    const fn unit(self) -> Unit {
        match self {
            Self::Money => Unit::Money,
            Self::Tokens => Unit::Tokens,
            Self::Requests => Unit::Requests,
        }
    }
}

/// Reads `user:alice`, `token:laptop`, `workspace:research`, `credential:team`, `tenant`.
fn payer(text: &str) -> Result<PayerPick, String> {
    let form = || "write user:NAME, token:NAME, workspace:NAME, credential:NAME or tenant";
    if text == "tenant" {
        return Ok(PayerPick::Tenant);
    }
    let (kind, name) = text.split_once(':').ok_or_else(form)?;
    let pick = pick::pick(name).map_err(|error| error.to_string())?;
    Ok(match kind {
        "user" => PayerPick::User(pick),
        "token" => PayerPick::Token(pick),
        "workspace" => PayerPick::Workspace(pick),
        "credential" => PayerPick::Credential(pick),
        _ => return Err(form().to_owned()),
    })
}

/// Runs the verb.
pub(crate) fn run(arguments: Arguments, desk: &Desk) -> Outcome {
    match arguments.verb {
        Verb::Set(arguments) => set(arguments, desk),
        Verb::List => list(desk),
        Verb::Show { payer } => show(payer.as_ref(), desk),
        Verb::Remove(arguments) => remove(arguments, desk),
    }
}

fn set(arguments: SetArguments, desk: &Desk) -> Outcome {
    let SetArguments { payer, money, tokens, requests, per, soft, warn, rate } = arguments;
    let force = if soft { Force::Soft } else { Force::Hard };
    let period = per.period();
    let limit = |unit, amount| Limit { unit, period, amount, force, warn_percent: warn };
    let limits: Vec<Limit> = [
        money.map(|money| limit(Unit::Money, money.micros())),
        tokens.map(|tokens| limit(Unit::Tokens, tokens)),
        requests.map(|requests| limit(Unit::Requests, requests)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if limits.is_empty() && rate.is_none() {
        return Err(Failure::argument("nothing is to be set")
            .next("say --money, --tokens, --requests or --rate"));
    }
    let shown: Vec<String> = limits.iter().map(words).collect();
    let wish = BudgetWish { payer, limits, calls_per_minute: rate };
    desk.link()?.tell(&Request::Budget(BudgetRequest::Set(Box::new(wish))))?;
    match desk.form {
        Form::Json => out::object(json!({"set": shown, "calls_per_minute": rate})),
        Form::Text => {
            for line in shown {
                out::say(&line);
            }
            if let Some(rate) = rate {
                out::say(&format!("{rate} calls per minute"));
            }
        }
    }
    Ok(())
}

fn remove(arguments: RemoveArguments, desk: &Desk) -> Outcome {
    let RemoveArguments { payer, unit, per, rate, confirmation } = arguments;
    let fate = match (rate, unit, per) {
        (true, _, _) => RateFate::RemovedAlone,
        (false, None, None) => RateFate::RemovedToo,
        (false, _, _) => RateFate::Stays,
    };
    if confirmation.ask("remove budgets or rates: what they held back is held back no more")?
        == Decision::Go
    {
        let (unit, period) = (unit.map(Of::unit), per.map(Per::period));
        let removal = BudgetRemoval { payer, unit, period, rate: fate };
        desk.link()?.tell(&Request::Budget(BudgetRequest::Remove(Box::new(removal))))?;
        match desk.form {
            Form::Json => out::object(json!({"removed": true})),
            Form::Text => out::say("removed"),
        }
    }
    Ok(())
}

fn rows(desk: &Desk) -> Outcome<Vec<BudgetRow>> {
    match desk.link()?.ask(&Request::Budget(BudgetRequest::List))? {
        Answer::Budgets(rows) => Ok(rows),
        _ => Err(Failure::unexpected()),
    }
}

fn list(desk: &Desk) -> Outcome {
    let rows = rows(desk)?;
    match desk.form {
        Form::Json => out::object(json!({"budgets": rows.iter().map(json_of).collect::<Vec<_>>()})),
        Form::Text => {
            let mut cells = Vec::new();
            for row in &rows {
                let name = name_of(row);
                for figures in &row.budgets {
                    let Limit { unit, period, amount, force, warn_percent } = figures.limit;
                    cells.push([
                        name.clone(),
                        amount_of(unit, amount),
                        period.name().to_owned(),
                        force_name(force).to_owned(),
                        format!("{warn_percent}%"),
                    ]);
                }
                cells.extend(row.calls_per_minute.map(|rate| {
                    let rate = format!("{rate} calls");
                    [name.clone(), rate, "minute".to_owned(), "hard".to_owned(), "-".to_owned()]
                }));
            }
            let headings = ["WHOSE", "BUDGET", "PER", "FORCE", "WARNS AT"];
            render::table(headings, &cells, &desk.here(NOTHING));
        }
    }
    Ok(())
}

const NOTHING: &str = "no budgets; next: strongroom budget set user:NAME --money 50 --per month";

fn show(payer: Option<&PayerPick>, desk: &Desk) -> Outcome {
    let mut rows = rows(desk)?;
    if let Some(payer) = payer {
        rows.retain(|row| is_picked(row, payer));
        if rows.is_empty() {
            return Err(Failure::argument("it has no budget").next("strongroom budget list"));
        }
    }
    match desk.form {
        Form::Json => out::object(json!({"budgets": rows.iter().map(json_of).collect::<Vec<_>>()})),
        Form::Text => {
            let cells = |row: &BudgetRow| {
                let name = name_of(row);
                let cells = |figures: &Figures| {
                    let Limit { unit, period, amount, .. } = figures.limit;
                    let shown = |amount| amount_of(unit, amount);
                    [
                        name.clone(),
                        shown(amount),
                        period.name().to_owned(),
                        shown(figures.spent),
                        shown(figures.reserved),
                        shown(left(figures)),
                        render::moment(figures.turns),
                    ]
                };
                row.budgets.iter().map(cells).collect::<Vec<_>>()
            };
            let cells: Vec<_> = rows.iter().flat_map(cells).collect();
            let headings = ["WHOSE", "BUDGET", "PER", "SPENT", "RESERVED", "LEFT", "BEGINS ANEW"];
            render::table(headings, &cells, &desk.here(NOTHING));
        }
    }
    Ok(())
}

const fn left(figures: &Figures) -> u64 {
    let used = figures.spent.saturating_add(figures.reserved);
    figures.limit.amount.saturating_sub(used)
}

fn is_picked(row: &BudgetRow, pick: &PayerPick) -> bool {
    let (pick, is_kind) = match pick {
        PayerPick::Tenant => return matches!(row.payer, Payer::Tenant(_)),
        PayerPick::Workspace(pick) => (pick, matches!(row.payer, Payer::Workspace(_))),
        PayerPick::User(pick) => (pick, matches!(row.payer, Payer::User(_))),
        PayerPick::Token(pick) => (pick, matches!(row.payer, Payer::Token(_))),
        PayerPick::Credential(pick) => (pick, matches!(row.payer, Payer::Credential(_))),
    };
    is_kind && (row.label.as_ref() == Some(&pick.0) || id_of(&row.payer) == pick.0.as_ref())
}

fn words(limit: &Limit) -> String {
    let Limit { unit, period, amount, force, warn_percent } = *limit;
    let (amount, period) = (amount_of(unit, amount), period.name());
    let force = force_name(force);
    format!("{amount} for a {period}, {force}; callers are warned from {warn_percent}% on")
}

fn amount_of(unit: Unit, amount: u64) -> String {
    match unit {
        Unit::Money => format!("{} USD", Money::from_micros(amount)),
        Unit::Tokens => format!("{amount} tokens"),
        Unit::Requests => format!("{amount} calls"),
    }
}

const fn force_name(force: Force) -> &'static str {
    match force {
        Force::Hard => "hard",
        Force::Soft => "soft",
    }
}

fn name_of(row: &BudgetRow) -> String {
    let kind = row.payer.kind().name();
    match (&row.payer, &row.label) {
        (Payer::Tenant(_), _) => kind.to_owned(),
        (_, Some(label)) => format!("{kind}:{label}"),
        (_, None) => format!("{kind}:{} (gone)", id_of(&row.payer)),
    }
}

fn id_of(payer: &Payer) -> String {
    match payer {
        Payer::Tenant(id) => id.to_string(),
        Payer::Workspace(id) => id.to_string(),
        Payer::User(id) => id.to_string(),
        Payer::Token(id) => id.to_string(),
        Payer::Credential(id) => id.to_string(),
    }
}

fn json_of(row: &BudgetRow) -> Value {
    let amount = |unit, amount: u64| match unit {
        Unit::Money => json!(Money::from_micros(amount).to_string()),
        Unit::Tokens | Unit::Requests => json!(amount),
    };
    let budget = |figures: &Figures| {
        let Limit { unit, period, force, warn_percent, amount: of } = figures.limit;
        json!({
            "unit": unit,
            "per": period,
            "amount": amount(unit, of),
            "force": force,
            "warn_percent": warn_percent,
            "spent": amount(unit, figures.spent),
            "reserved": amount(unit, figures.reserved),
            "left": amount(unit, left(figures)),
            "begins_anew": render::moment(figures.turns),
        })
    };
    json!({
        "payer": {"kind": row.payer.kind(), "id": id_of(&row.payer), "label": row.label},
        "budgets": row.budgets.iter().map(budget).collect::<Vec<_>>(),
        "calls_per_minute": row.calls_per_minute,
    })
}

#[cfg(test)]
mod tests {
    use super::{PayerPick, payer};
    use crate::pick::pick;

    #[test]
    fn a_payer_says_its_kind() {
        assert_eq!(payer("user:alice"), Ok(PayerPick::User(pick("alice").unwrap())));
        assert_eq!(payer("tenant"), Ok(PayerPick::Tenant));
        for bad in ["alice", "group:a", "user:", "", "tenant:a"] {
            assert!(payer(bad).is_err(), "{bad}");
        }
    }
}
