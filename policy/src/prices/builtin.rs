//! The prices that come with the program: a default that whoever sets a budget should check.
//!
//! Source: the providers' price lists and model pages (platform.openai.com/docs/pricing, docs.claude.com pricing,
//! ai.google.dev/pricing, docs.x.ai models) and what was published of them until [`DATE`]. Prices change without notice, and a
//! model that is missing here has none: `strongroom price set`.
//!
//! Decided: where a provider's price depends on what a call does not say, the dearest stands here: writes to Anthropic's cache cost
//! what the one-hour cache costs, and the tier's factor is the dearest tier's. xAI and Gemini publish limits of output that do not
//! bound the reasoning, so that the context window (xAI) or the model's own maximum (Gemini) stands.

use super::{Author, BadPrice, Long, Price, PriceRow, PriceTable};
use crate::money::Money;
use crate::name::{ModelName, ProviderName};

/// Until when the sources were read.
pub const DATE: &str = "2026-06-30";

/// Models, then thousandths of a dollar a million tokens: input, cache read, cache write, output.
#[derive(Clone, Copy)]
struct Row {
    models: &'static [&'static str],
    input: u64,
    cache_read: u64,
    cache_write: u64,
    output: u64,
    /// Thousands of tokens.
    max_input: u64,
    max_output: u64,
    long: Option<Long>,
    tier_percent: Option<u32>,
    media_input: Option<u64>,
}

/// As most rows are: no long input, no other tier.
const PLAIN: Row = Row {
    models: &[],
    input: 0,
    cache_read: 0,
    cache_write: 0,
    output: 0,
    max_input: 0,
    max_output: 0,
    long: None,
    tier_percent: None,
    media_input: None,
};

const fn row(models: &'static [&'static str], prices: [u64; 4], tokens: [u64; 2]) -> Row {
    let ([input, cache_read, cache_write, output], [max_input, max_output]) = (prices, tokens);
    Row { models, input, cache_read, cache_write, output, max_input, max_output, ..PLAIN }
}

const fn long(row: Row, above: u64, input_percent: u32, output_percent: u32) -> Row {
    Row { long: Some(Long { above, input_percent, output_percent }), ..row }
}

const fn tier(row: Row, percent: u32) -> Row {
    Row { tier_percent: Some(percent), ..row }
}

const fn media(row: Row, input: u64) -> Row {
    Row { media_input: Some(input), ..row }
}

const ANTHROPIC: &[Row] = &[
    tier(
        row(
            &["claude-opus-4-8*", "claude-opus-4-7*", "claude-opus-4-6*"],
            [5000, 500, 10_000, 25_000],
            [1000, 128],
        ),
        600,
    ),
    row(&["claude-opus-4-5*"], [5000, 500, 10_000, 25_000], [200, 64]),
    row(
        &["claude-opus-4-1*", "claude-opus-4-0*", "claude-opus-4-2025*"],
        [15_000, 1500, 30_000, 75_000],
        [200, 32],
    ),
    row(&["claude-sonnet-4-6*"], [3000, 300, 6000, 15_000], [1000, 128]),
    long(
        row(
            &["claude-sonnet-4-5*", "claude-sonnet-4-0*", "claude-sonnet-4-2025*"],
            [3000, 300, 6000, 15_000],
            [1000, 64],
        ),
        200_000,
        200,
        150,
    ),
    row(&["claude-3-7-sonnet*"], [3000, 300, 6000, 15_000], [200, 128]),
    row(&["claude-haiku-4-5*"], [1000, 100, 2000, 5000], [200, 64]),
    row(&["claude-3-5-haiku*"], [800, 80, 1600, 4000], [200, 9]),
    row(&["claude-3-haiku*"], [250, 30, 500, 1250], [200, 5]),
];

const OPENAI: &[Row] = &[
    tier(
        long(
            row(&["gpt-5.5", "gpt-5.5-2026*"], [5000, 500, 5000, 30_000], [1050, 128]),
            272_000,
            200,
            150,
        ),
        250,
    ),
    tier(
        long(
            row(&["gpt-5.4", "gpt-5.4-2026*"], [2500, 250, 2500, 15_000], [1050, 128]),
            272_000,
            200,
            150,
        ),
        250,
    ),
    tier(row(&["gpt-5.4-mini", "gpt-5.4-mini-2026*"], [750, 75, 750, 4500], [400, 128]), 250),
    row(&["gpt-5.4-nano", "gpt-5.4-nano-2026*"], [200, 20, 200, 1250], [400, 128]),
    tier(
        row(
            &["gpt-5.3-codex*", "gpt-5.2-codex*", "gpt-5.2", "gpt-5.2-20*", "gpt-5.2-chat-latest"],
            [1750, 175, 1750, 14_000],
            [400, 128],
        ),
        250,
    ),
    tier(
        row(
            &[
                "gpt-5.1",
                "gpt-5.1-20*",
                "gpt-5.1-codex",
                "gpt-5.1-codex-max",
                "gpt-5.1-chat-latest",
            ],
            [1250, 125, 1250, 10_000],
            [400, 128],
        ),
        250,
    ),
    tier(
        row(
            &["gpt-5", "gpt-5-20*", "gpt-5-codex", "gpt-5-chat-latest"],
            [1250, 125, 1250, 10_000],
            [400, 128],
        ),
        250,
    ),
    tier(
        row(
            &["gpt-5-mini", "gpt-5-mini-20*", "gpt-5.1-codex-mini"],
            [250, 25, 250, 2000],
            [400, 128],
        ),
        250,
    ),
    row(&["gpt-5-nano", "gpt-5-nano-20*"], [50, 5, 50, 400], [400, 128]),
    row(&["gpt-5-pro", "gpt-5-pro-20*"], [15_000, 15_000, 15_000, 120_000], [400, 272]),
    tier(row(&["gpt-4.1", "gpt-4.1-2025*"], [2000, 500, 2000, 8000], [1048, 33]), 200),
    tier(row(&["gpt-4.1-mini", "gpt-4.1-mini-2025*"], [400, 100, 400, 1600], [1048, 33]), 200),
    tier(row(&["gpt-4.1-nano", "gpt-4.1-nano-2025*"], [100, 25, 100, 400], [1048, 33]), 200),
    tier(
        row(
            &["gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20"],
            [2500, 1250, 2500, 10_000],
            [128, 17],
        ),
        200,
    ),
    tier(row(&["gpt-4o-2024-05-13"], [5000, 5000, 5000, 15_000], [128, 5]), 200),
    tier(row(&["gpt-4o-mini", "gpt-4o-mini-2024*"], [150, 75, 150, 600], [128, 17]), 200),
    tier(row(&["o3", "o3-2025*"], [2000, 500, 2000, 8000], [200, 100]), 200),
    tier(row(&["o4-mini", "o4-mini-2025*"], [1100, 275, 1100, 4400], [200, 100]), 200),
    row(&["o3-mini", "o3-mini-2025*"], [1100, 550, 1100, 4400], [200, 100]),
    row(&["o1", "o1-2024*"], [15_000, 7500, 15_000, 60_000], [200, 100]),
    row(&["text-embedding-3-small"], [20, 20, 20, 0], [9, 0]),
    row(&["text-embedding-3-large"], [130, 130, 130, 0], [9, 0]),
    row(&["text-embedding-ada-002"], [100, 100, 100, 0], [9, 0]),
];

const GOOGLE: &[Row] = &[
    long(
        row(
            &["gemini-3-pro-preview", "gemini-3.1-pro-preview"],
            [2000, 200, 2000, 12_000],
            [1049, 66],
        ),
        200_000,
        200,
        150,
    ),
    media(row(&["gemini-3-flash-preview"], [500, 50, 500, 3000], [1049, 66]), 1000),
    long(row(&["gemini-2.5-pro"], [1250, 310, 1250, 10_000], [1049, 66]), 200_000, 200, 150),
    media(row(&["gemini-2.5-flash"], [300, 75, 300, 2500], [1049, 66]), 1000),
    media(row(&["gemini-2.5-flash-lite"], [100, 25, 100, 400], [1049, 66]), 300),
    media(row(&["gemini-2.0-flash", "gemini-2.0-flash-001"], [100, 25, 100, 400], [1049, 9]), 700),
    row(&["gemini-embedding-001"], [150, 150, 150, 0], [3, 0]),
];

const XAI: &[Row] = &[
    long(
        row(&["grok-4", "grok-4-0709", "grok-4-latest"], [3000, 750, 3000, 15_000], [263, 263]),
        128_000,
        200,
        200,
    ),
    long(
        row(&["grok-4-fast*", "grok-4-1-fast*"], [200, 50, 200, 500], [2000, 2000]),
        128_000,
        200,
        200,
    ),
    row(&["grok-3", "grok-3-latest"], [3000, 750, 3000, 15_000], [132, 132]),
    row(&["grok-3-mini", "grok-3-mini-latest"], [300, 75, 300, 500], [132, 132]),
    row(&["grok-code-fast-1*"], [200, 20, 200, 1500], [263, 263]),
];

/// The table as it comes with the program.
///
/// # Errors
/// Never with the rows above; the types demand the check.
pub fn table() -> Result<PriceTable, BadPrice> {
    let shelves = [("openai", OPENAI), ("anthropic", ANTHROPIC), ("google", GOOGLE), ("xai", XAI)];
    let rows = shelves.into_iter().flat_map(|(provider, rows)| {
        rows.iter().flat_map(move |row| {
            row.models.iter().filter_map(move |model| price_row(provider, model, row))
        })
    });
    PriceTable::new(Author::Program, rows.collect())
}

fn price_row(provider: &str, model: &str, row: &Row) -> Option<PriceRow> {
    let money = |thousandths: u64| Money::from_micros(thousandths.saturating_mul(1000));
    let tokens = |thousands: u64| thousands.saturating_mul(1000);
    Some(PriceRow {
        provider: ProviderName::parse(provider).ok()?,
        model: ModelName::parse(model).ok()?,
        price: Price {
            input: money(row.input),
            media_input: row.media_input.map(money),
            cache_read: Some(money(row.cache_read)),
            cache_write: Some(money(row.cache_write)),
            output: money(row.output),
            max_input: tokens(row.max_input),
            max_output: tokens(row.max_output),
            long: row.long,
            tier_percent: row.tier_percent,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_makes_the_table_and_has_a_price() {
        let table = table().unwrap();
        let rows = [OPENAI, ANTHROPIC, GOOGLE, XAI].into_iter().flatten();
        assert_eq!(table.rows().len(), rows.map(|row| row.models.len()).sum::<usize>());
        for row in table.rows() {
            let Price { input, cache_read, output, max_output, .. } = row.price;
            assert!(input > Money::ZERO && cache_read <= Some(input), "{row:?}");
            assert_eq!(output > Money::ZERO, max_output > 0, "{row:?}");
        }
    }

    /// A beginning must not catch a sibling of another price.
    #[test]
    fn siblings_have_their_own_price_or_none() {
        let table = table().unwrap();
        let found = |provider: &str, model: &str| {
            let provider = ProviderName::parse(provider).unwrap();
            let price = table.find(&provider, &ModelName::parse(model).unwrap());
            price.map(|price| (price.input.micros(), price.output.micros()))
        };
        for (provider, model, price) in [
            ("openai", "gpt-4o-2024-05-13", Some((5_000_000, 15_000_000))),
            ("openai", "gpt-4o", Some((2_500_000, 10_000_000))),
            ("openai", "gpt-4o-audio-preview", None),
            ("openai", "gpt-5.5-pro", None),
            ("openai", "gpt-5-mini-2025-08-07", Some((250_000, 2_000_000))),
            ("anthropic", "claude-opus-4-1-20250805", Some((15_000_000, 75_000_000))),
            ("anthropic", "claude-opus-4-5-20251101", Some((5_000_000, 25_000_000))),
            ("google", "gemini-2.5-flash-image", None),
            ("xai", "grok-4-fast-reasoning", Some((200_000, 500_000))),
            ("xai", "gpt-4o", None),
        ] {
            assert_eq!(found(provider, model), price, "{model}");
        }
    }
}
