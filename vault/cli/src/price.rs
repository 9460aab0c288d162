//! `strongroom price`: what models cost, which budgets of money and `strongroom usage` count by.
//!
//! Invariant: prices are exact decimals; a table is checked as a whole before it counts.

mod table;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom_policy::money::Money;
use strongroom_policy::name::{ModelName, ProviderName};
use strongroom_policy::prices::{Author, Long, Price, PriceRow, builtin};
use strongroom_protocol::operator::budget::{PriceBook, PriceRequest};
use strongroom_protocol::operator::{Answer, Request};

use crate::confirm::{Confirmation, Decision};
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::out::{self, Form};
use crate::render;

/// Arguments of `price`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List prices, US dollars a million tokens
    #[command(before_help = "Example: strongroom price list --provider anthropic")]
    List {
        /// Only of this provider
        #[arg(long, value_parser = ProviderName::parse)]
        provider: Option<ProviderName>,
    },
    /// Set the price of a model, or of all whose names begin so
    #[command(
        before_help = "Example: strongroom price set openai my-model --input 1 --output 4 --max-input 9000 --max-output 900"
    )]
    Set(SetArguments),
    /// Remove a price: calls to that model have none from then on
    #[command(before_help = "Example: strongroom price remove openai gpt-5 --yes")]
    Remove {
        /// Whose
        #[arg(value_parser = ProviderName::parse)]
        provider: ProviderName,
        /// As it is listed
        #[arg(value_parser = ModelName::parse)]
        model: ModelName,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Put a table in the place of the one that is there
    #[command(before_help = "Example: strongroom price import prices.toml")]
    Import {
        /// TOML, as `price export` writes it
        #[arg(required_unless_present = "defaults")]
        file: Option<PathBuf>,
        /// The table that came with this program
        #[arg(long, conflicts_with = "file")]
        defaults: bool,
    },
    /// Print the table as TOML, to be edited and imported
    #[command(before_help = "Example: strongroom price export > prices.toml")]
    Export,
}

#[derive(Debug, Args)]
struct SetArguments {
    /// Whose
    #[arg(value_parser = ProviderName::parse)]
    provider: ProviderName,
    /// The model; a final * stands for any ending
    #[arg(value_parser = ModelName::parse)]
    model: ModelName,
    /// Input
    #[arg(long, value_name = "USD", value_parser = str::parse::<Money>)]
    input: Money,
    /// Input, where a body holds pictures, sound or files [default: as input]
    #[arg(long, value_name = "USD", value_parser = str::parse::<Money>)]
    media_input: Option<Money>,
    /// Input read from the provider's cache [default: as input]
    #[arg(long, value_name = "USD", value_parser = str::parse::<Money>)]
    cache_read: Option<Money>,
    /// Input written to the provider's cache, for the longest time [default: as input]
    #[arg(long, value_name = "USD", value_parser = str::parse::<Money>)]
    cache_write: Option<Money>,
    /// Output, reasoning included
    #[arg(long, value_name = "USD", value_parser = str::parse::<Money>)]
    output: Money,
    /// Most input tokens: the context window
    #[arg(long, value_name = "TOKENS")]
    max_input: u64,
    /// Most output tokens of one answer; 0 for models that only read
    #[arg(long, value_name = "TOKENS")]
    max_output: u64,
    /// Dearer when the input is longer than that many tokens: TOKENS:INPUT%:OUTPUT%, as 200000:200:150
    #[arg(long, value_name = "RULE", value_parser = long)]
    long: Option<Long>,
    /// The factor of the dearest service tier, per cent [default: such calls have no price]
    #[arg(long, value_name = "PERCENT")]
    tier_percent: Option<u32>,
}

/// Reads `200000:200:150`.
fn long(text: &str) -> Result<Long, String> {
    let bad = || "write TOKENS:INPUT%:OUTPUT%, as 200000:200:150".to_owned();
    let parts: Vec<&str> = text.split(':').collect();
    let [above, input, output] = parts.as_slice() else { return Err(bad()) };
    Ok(Long {
        above: above.parse().map_err(|_| bad())?,
        input_percent: input.parse().map_err(|_| bad())?,
        output_percent: output.parse().map_err(|_| bad())?,
    })
}

/// Runs the verb.
pub(crate) fn run(arguments: Arguments, desk: &Desk) -> Outcome {
    match arguments.verb {
        Verb::List { provider } => list(provider.as_ref(), desk),
        Verb::Set(arguments) => set(arguments, desk),
        Verb::Remove { provider, model, confirmation } => {
            let act = format!("remove the price of {provider} {model}: calls to it have none");
            if confirmation.ask(&act)? == Decision::Go {
                tell(PriceRequest::Remove(provider, model), "removed", desk)?;
            }
            Ok(())
        }
        Verb::Import { file: Some(file), .. } => {
            let rows = table::read(&file)?;
            let said = format!("{} are in force", render::count(rows.len(), "price"));
            tell(PriceRequest::Replace(rows), &said, desk)
        }
        Verb::Import { file: None, .. } => {
            let said = format!("the prices of {} are in force", builtin::DATE);
            tell(PriceRequest::Restore, &said, desk)
        }
        Verb::Export => {
            let text = table::write(&book(desk)?)?;
            match desk.form {
                Form::Json => out::object(json!({"toml": text})),
                Form::Text => out::raw(text.as_bytes()),
            }
            Ok(())
        }
    }
}

fn set(arguments: SetArguments, desk: &Desk) -> Outcome {
    let SetArguments { provider, model, input, media_input, cache_read, cache_write, .. } =
        arguments;
    let SetArguments { output, max_input, max_output, long, tier_percent, .. } = arguments;
    let said = format!("the price of {provider} {model} is set");
    let price = Price {
        input,
        media_input,
        cache_read,
        cache_write,
        output,
        max_input,
        max_output,
        long,
        tier_percent,
    };
    tell(PriceRequest::Put(Box::new(PriceRow { provider, model, price })), &said, desk)
}

fn tell(request: PriceRequest, said: &str, desk: &Desk) -> Outcome {
    desk.link()?.tell(&Request::Price(request))?;
    match desk.form {
        Form::Json => out::object(json!({"done": said})),
        Form::Text => out::say(said),
    }
    Ok(())
}

fn book(desk: &Desk) -> Outcome<PriceBook> {
    match desk.link()?.ask(&Request::Price(PriceRequest::List))? {
        Answer::Prices(book) => Ok(*book),
        _ => Err(Failure::unexpected()),
    }
}

fn list(provider: Option<&ProviderName>, desk: &Desk) -> Outcome {
    let mut book = book(desk)?;
    book.rows.retain(|row| provider.is_none_or(|provider| row.provider == *provider));
    let date = match book.author {
        Author::Program => Some(builtin::DATE),
        Author::Operator => None,
    };
    match desk.form {
        Form::Json => {
            let rows = table::json(&book.rows);
            out::object(json!({"author": book.author, "date": date, "prices": rows}));
        }
        Form::Text => {
            let cells: Vec<_> = book.rows.iter().map(cells).collect();
            let headings = [
                "PROVIDER",
                "MODEL",
                "INPUT",
                "CACHE READ",
                "CACHE WRITE",
                "OUTPUT",
                "MAX INPUT",
                "MAX OUTPUT",
                "MORE",
            ];
            render::table(headings, &cells, "no prices");
            if let Some(date) = date {
                out::say(&format!(
                    "a default of {date}: check it before you set a budget of money"
                ));
            }
        }
    }
    Ok(())
}

fn cells(row: &PriceRow) -> [String; 9] {
    let Price { input, media_input, cache_read, cache_write, output, .. } = row.price;
    let Price { max_input, max_output, long, tier_percent, .. } = row.price;
    let or_input = |price: Option<Money>| price.unwrap_or(input).to_string();
    let more = [
        media_input.map(|media| format!("media {media}")),
        long.map(|long| {
            let Long { above, input_percent, output_percent } = long;
            format!("above {above}: {input_percent}%/{output_percent}%")
        }),
        tier_percent.map(|percent| format!("tier {percent}%")),
    ];
    [
        row.provider.to_string(),
        row.model.to_string(),
        input.to_string(),
        or_input(cache_read),
        or_input(cache_write),
        output.to_string(),
        max_input.to_string(),
        max_output.to_string(),
        more.into_iter().flatten().collect::<Vec<_>>().join(", "),
    ]
}
