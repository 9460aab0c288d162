//! What models cost: one row a model or family, in whole millionths of a US dollar for a million tokens.
//!
//! Invariant: a name without a row has no price; nothing is guessed from a similar name but by a row's own final `*`.
//! Invariant: the most exact row counts: the name itself, else the longest beginning.
//! Trusts: the operator who edits the table; a wrong price makes a wrong budget.

pub mod builtin;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::money::Money;
use crate::name::{ModelName, ProviderName};

/// Most rows of a table.
pub const MAX_ROWS: usize = 300;
/// Highest price of a million tokens: a slip of the pen is told at once.
pub const MAX_PRICE: Money = Money::from_micros(100_000_000_000);
/// Most tokens of one call that a row may speak of.
pub const MAX_TOKENS: u64 = 100_000_000;
/// Highest factor, per cent.
pub const MAX_PERCENT: u32 = 10_000;

/// What a model's tokens cost, a million of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Input tokens.
    pub input: Money,
    /// Input tokens of a body that holds pictures, sound or files, where they are dearer.
    pub media_input: Option<Money>,
    /// Input tokens read from the provider's cache; as `input` when unsaid.
    pub cache_read: Option<Money>,
    /// Input tokens written to the provider's cache, for the longest life there is; as `input` when unsaid.
    pub cache_write: Option<Money>,
    /// Output tokens, reasoning included.
    pub output: Money,
    /// Most input tokens that the model takes: its context window.
    pub max_input: u64,
    /// Most output tokens of one answer; 0 for models that only read (embeddings).
    pub max_output: u64,
    /// Dearer when the input is long.
    pub long: Option<Long>,
    /// The factor of the dearest tier beside the default one, per cent; unsaid, such calls have no price.
    pub tier_percent: Option<u32>,
}

/// Dearer prices of a long input; they count for the whole call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Long {
    /// Above this many input tokens.
    pub above: u64,
    /// The factor of input prices, per cent.
    pub input_percent: u32,
    /// The factor of the output's price, per cent.
    pub output_percent: u32,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceRow {
    /// Whose model.
    pub provider: ProviderName,
    /// Which: a name, or a beginning with a final `*`.
    pub model: ModelName,
    /// What it costs.
    pub price: Price,
}

/// Where a table comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Author {
    /// It came with the program, and is of [`builtin::DATE`].
    Program,
    /// An operator edited it.
    Operator,
}

/// Rows that do not make a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPrice {
    /// More than [`MAX_ROWS`].
    #[error("a price table has at most {MAX_ROWS} rows")]
    TooMany,
    /// Two rows for one name.
    #[error("'{0} {1}' is given twice")]
    Twice(ProviderName, ModelName),
    /// A star elsewhere than at the end.
    #[error("'{0}': only a final '*' stands for any ending")]
    Star(ModelName),
    /// Out of range.
    #[error("'{model}': {what} must be {rule}")]
    Range {
        /// Whose row.
        model: ModelName,
        /// Which field.
        what: &'static str,
        /// What it must be.
        rule: &'static str,
    },
}

/// Every price there is.
#[derive(Debug, Clone)]
pub struct PriceTable {
    author: Author,
    rows: Vec<PriceRow>,
    shelves: HashMap<ProviderName, Shelf>,
}

/// The prices of one provider, as they are looked up.
#[derive(Debug, Clone, Default)]
struct Shelf {
    exact: HashMap<ModelName, Price>,
    /// The longest first.
    beginnings: Vec<(ModelName, Price)>,
}

impl PriceTable {
    /// Checks rows and makes a table of them.
    ///
    /// # Errors
    /// When one is out of range or given twice, or there are too many.
    pub fn new(author: Author, mut rows: Vec<PriceRow>) -> Result<Self, BadPrice> {
        if rows.len() > MAX_ROWS {
            return Err(BadPrice::TooMany);
        }
        rows.sort_by(|a, b| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
        for (row, next) in rows.iter().zip(rows.iter().skip(1)) {
            if (&row.provider, &row.model) == (&next.provider, &next.model) {
                return Err(BadPrice::Twice(row.provider.clone(), row.model.clone()));
            }
        }
        let mut shelves: HashMap<ProviderName, Shelf> = HashMap::new();
        for row in &rows {
            row.check()?;
            let shelf = shelves.entry(row.provider.clone()).or_default();
            if row.model.as_ref().ends_with('*') {
                shelf.beginnings.push((row.model.clone(), row.price));
            } else {
                shelf.exact.insert(row.model.clone(), row.price);
            }
        }
        for shelf in shelves.values_mut() {
            shelf.beginnings.sort_by_key(|(model, _)| std::cmp::Reverse(model.as_ref().len()));
        }
        Ok(Self { author, rows, shelves })
    }

    /// What a model costs, when a row says it.
    pub fn find(&self, provider: &ProviderName, model: &ModelName) -> Option<&Price> {
        let shelf = self.shelves.get(provider)?;
        let beginning = || shelf.beginnings.iter().find(|(pattern, _)| model.matches(pattern));
        shelf.exact.get(model).or_else(|| beginning().map(|(_, price)| price))
    }

    /// Every row, by provider and model.
    pub fn rows(&self) -> &[PriceRow] {
        &self.rows
    }

    /// Where it comes from.
    pub const fn author(&self) -> Author {
        self.author
    }
}

impl PriceRow {
    fn check(&self) -> Result<(), BadPrice> {
        let model = &self.model;
        let beginning = model.as_ref().strip_suffix('*').unwrap_or(model.as_ref());
        if beginning.contains('*') {
            return Err(BadPrice::Star(model.clone()));
        }
        let range = |what, rule| BadPrice::Range { model: model.clone(), what, rule };
        let Price {
            input,
            media_input,
            cache_read,
            cache_write,
            output,
            max_input,
            max_output,
            long,
            tier_percent,
        } = self.price;
        let prices = [Some(input), media_input, cache_read, cache_write, Some(output)];
        if prices.into_iter().flatten().any(|price| price > MAX_PRICE) {
            return Err(range("a price", "at most 100000 US dollars a million tokens"));
        }
        if !(1..=MAX_TOKENS).contains(&max_input) {
            return Err(range("max_input", "1 to 100000000 tokens"));
        }
        if max_output > MAX_TOKENS {
            return Err(range("max_output", "at most 100000000 tokens"));
        }
        let percents =
            [tier_percent, long.map(|l| l.input_percent), long.map(|l| l.output_percent)];
        if percents.into_iter().flatten().any(|percent| !(100..=MAX_PERCENT).contains(&percent)) {
            return Err(range("a factor", "100 to 10000 per cent: it makes a call dearer"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(model: &str, input: u64) -> PriceRow {
        PriceRow {
            provider: ProviderName::parse("openai").unwrap(),
            model: ModelName::parse(model).unwrap(),
            price: Price {
                input: Money::from_micros(input),
                media_input: None,
                cache_read: None,
                cache_write: None,
                output: Money::from_micros(1),
                max_input: 1000,
                max_output: 10,
                long: None,
                tier_percent: None,
            },
        }
    }

    fn found(table: &PriceTable, provider: &str, model: &str) -> Option<u64> {
        let provider = ProviderName::parse(provider).unwrap();
        table.find(&provider, &ModelName::parse(model).unwrap()).map(|price| price.input.micros())
    }

    #[test]
    fn the_most_exact_row_counts_and_no_other_provider_s() {
        let rows = vec![row("gpt*", 1), row("gpt-5*", 2), row("gpt-5-mini", 3)];
        let table = PriceTable::new(Author::Operator, rows).unwrap();
        for (model, input) in
            [("gpt-5-mini", Some(3)), ("gpt-5-mini-2", Some(2)), ("gpt-4", Some(1)), ("o3", None)]
        {
            assert_eq!(found(&table, "openai", model), input, "{model}");
        }
        assert_eq!(found(&table, "other", "gpt-5-mini"), None);
    }

    #[test]
    fn rows_that_contradict_or_are_out_of_range_make_no_table() {
        let made = |rows| PriceTable::new(Author::Operator, rows).map(drop);
        let one = row("gpt-5", 1);
        assert!(matches!(made(vec![one.clone(), row("gpt-5", 2)]), Err(BadPrice::Twice(..))));
        assert!(matches!(made(vec![row("g*t", 1)]), Err(BadPrice::Star(_))));
        assert!(matches!(made(vec![one.clone(); MAX_ROWS + 1]), Err(BadPrice::TooMany)));
        let price = one.price;
        let long = |input_percent| Some(Long { above: 1, input_percent, output_percent: 100 });
        for bad in [
            Price { input: MAX_PRICE.plus(Money::from_micros(1)), ..price },
            Price { max_input: 0, ..price },
            Price { max_output: MAX_TOKENS + 1, ..price },
            Price { tier_percent: Some(99), ..price },
            Price { long: long(MAX_PERCENT + 1), ..price },
        ] {
            let row = PriceRow { price: bad, ..one.clone() };
            assert!(matches!(made(vec![row]), Err(BadPrice::Range { .. })), "{bad:?}");
        }
    }
}
