//! A price table as text: TOML, one `[[price]]` a row, amounts as decimal text.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use strongroom_policy::money::Money;
use strongroom_policy::name::{ModelName, ProviderName};
use strongroom_policy::prices::{Author, Long, Price, PriceRow, PriceTable};
use strongroom_protocol::operator::budget::PriceBook;

use crate::failure::{Failure, Outcome};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default, rename = "price")]
    prices: Vec<Row>,
}

/// US dollars a million tokens.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    provider: ProviderName,
    model: ModelName,
    input: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_input: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_read: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_write: Option<String>,
    output: String,
    max_input: u64,
    max_output: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier_percent: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    long: Option<LongRow>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LongRow {
    above: u64,
    input_percent: u32,
    output_percent: u32,
}

const HEAD: &str =
    "# Prices, US dollars a million tokens. After editing: strongroom price import FILE\n\n";

/// Longest file that is read.
const MAX_BYTES: u64 = 1024 * 1024;

/// Reads and checks a file.
pub(super) fn read(file: &Path) -> Outcome<Vec<PriceRow>> {
    let length = fs::metadata(file).map_err(|error| Failure::file(file, error))?.len();
    if length > MAX_BYTES {
        return Err(Failure::file(file, "is longer than any price table"));
    }
    let text = fs::read_to_string(file).map_err(|error| Failure::file(file, error))?;
    parse(&text).map_err(|why| Failure::file(file, why))
}

fn parse(text: &str) -> Result<Vec<PriceRow>, String> {
    let table: Table = toml::from_str(text).map_err(|error| error.to_string())?;
    let rows: Result<Vec<_>, _> = table.prices.into_iter().map(price_row).collect();
    let checked = PriceTable::new(Author::Operator, rows?).map_err(|error| error.to_string())?;
    Ok(checked.rows().to_vec())
}

fn price_row(row: Row) -> Result<PriceRow, String> {
    let model = row.model.to_string();
    let money = |text: &str| text.parse::<Money>().map_err(|error| format!("{model}: {error}"));
    let some = |text: Option<String>| text.map(|text| money(&text)).transpose();
    let price = Price {
        input: money(&row.input)?,
        media_input: some(row.media_input)?,
        cache_read: some(row.cache_read)?,
        cache_write: some(row.cache_write)?,
        output: money(&row.output)?,
        max_input: row.max_input,
        max_output: row.max_output,
        long: row.long.map(|long| Long {
            above: long.above,
            input_percent: long.input_percent,
            output_percent: long.output_percent,
        }),
        tier_percent: row.tier_percent,
    };
    Ok(PriceRow { provider: row.provider, model: row.model, price })
}

fn row(row: &PriceRow) -> Row {
    let price = row.price;
    let some = |money: Option<Money>| money.map(|money| money.to_string());
    Row {
        provider: row.provider.clone(),
        model: row.model.clone(),
        input: price.input.to_string(),
        media_input: some(price.media_input),
        cache_read: some(price.cache_read),
        cache_write: some(price.cache_write),
        output: price.output.to_string(),
        max_input: price.max_input,
        max_output: price.max_output,
        tier_percent: price.tier_percent,
        long: price.long.map(|long| LongRow {
            above: long.above,
            input_percent: long.input_percent,
            output_percent: long.output_percent,
        }),
    }
}

/// The table as text.
pub(super) fn write(book: &PriceBook) -> Outcome<String> {
    let table = Table { prices: book.rows.iter().map(row).collect() };
    let text = toml::to_string(&table).map_err(|_| Failure::unexpected())?;
    Ok(format!("{HEAD}{text}"))
}

/// Rows for scripts, as in the text form.
pub(super) fn json(rows: &[PriceRow]) -> Value {
    rows.iter().map(|one| serde_json::to_value(row(one)).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use strongroom_policy::prices::{Author, builtin};
    use strongroom_protocol::operator::budget::PriceBook;

    use super::{parse, write};

    #[test]
    fn what_is_exported_is_imported_as_it_was() {
        let rows = builtin::table().unwrap().rows().to_vec();
        let book = PriceBook { author: Author::Program, rows: rows.clone() };
        assert_eq!(parse(&write(&book).unwrap()), Ok(rows));
    }

    #[test]
    fn a_table_that_does_not_hold_is_refused_with_its_row() {
        let row = "[[price]]\nprovider = \"openai\"\nmodel = \"m\"\ninput = \"1\"\noutput = \"2\"\nmax_input = 9\nmax_output = 9\n";
        assert_eq!(parse(row).map(|rows| rows.len()), Ok(1));
        for (bad, says) in [
            (row.replace("\"1\"", "\"-1\""), "m: an amount"),
            (row.replace("\"1\"", "1.5"), "expected a string"),
            (format!("{row}typo = 1\n"), "unknown field"),
            (format!("{row}{row}"), "given twice"),
            (row.replace("max_input = 9", "max_input = 0"), "max_input"),
        ] {
            let why = parse(&bad).unwrap_err();
            assert!(why.contains(says), "{bad}: {why}");
        }
    }
}
