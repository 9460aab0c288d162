//! The most that a call can cost, known before it is made, and what it did cost, known after.
//!
//! Invariant: a bound is never below what the call can cost, where the price table is right and no tokeniser makes more than one
//! token of a byte: the body's bytes (or the whole context window, where it holds more than text) at the dearest input price, and
//! the most output for each answer, at the factors of a long input and of the dearest tier.
//! Invariant: what is not known to be less is settled at the bound; what was told beyond the bound is settled as told.
//! Distrusts: what providers tell, and the gateway's claims (the courier holds the body to them).

use crate::claims::{Claims, Extent, Feature, Length};
use crate::decide::Permit;
use crate::dialect::Dialect;
use crate::money::Money;
use crate::prices::{Price, PriceTable};
use crate::provider::Origin;
use crate::route::{BodyKind, Method, PathClass};

/// What a provider adds to a body before a model reads it (how tools are used, the roles of messages), tokens.
pub const UNSEEN_TOKENS: u64 = 4096;

/// What can be said of a call's cost before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quote {
    /// Nothing: it looks at models, or counts tokens.
    Free,
    /// At most this.
    Bounded(Bound),
    /// Nothing bounds it; what a token costs is known where there is a price.
    Unbounded(NoBound, Option<Rates>),
}

/// Why a call's cost has no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoBound {
    /// The price table has no row for its model.
    NoPrice,
    /// Nobody here can read which model it names.
    ModelUnread,
    /// The path works on objects that are stored at the provider.
    Stored,
    /// It asks for this, which makes it cost more than its body shows.
    Feature(Feature),
    /// The body has the provider do more than answer once.
    Open,
}

/// The most that a call can cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    input: u64,
    output: u64,
    rates: Rates,
}

/// What a token of a call costs: a price, and the circumstances that choose among its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    price: Price,
    extent: Extent,
    /// Per cent.
    tier: u32,
}

/// What was measured of a call, as the provider told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// Input tokens, cached ones included.
    pub input: Option<u64>,
    /// Output tokens.
    pub output: Option<u64>,
    /// The part of the input that was read from a cache.
    pub cache_read: Option<u64>,
    /// The part of the input that was written to one.
    pub cache_write: Option<u64>,
    /// The provider's own price.
    pub cost: Option<Money>,
    /// Whether these are the final numbers.
    pub is_final: bool,
}

/// How a call ended, as far as its cost is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nothing that a provider could have read went out.
    Unsent,
    /// The provider refused it before it did anything, and charges nothing.
    Refused,
    /// What was told, perhaps nothing.
    Told(Measured),
}

/// What a call cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Tokens, where they are known or bounded.
    pub tokens: Option<u64>,
    /// Money, where a price is known.
    pub money: Option<Money>,
}

impl Cost {
    /// Nothing.
    pub const NOTHING: Self = Self { tokens: Some(0), money: Some(Money::ZERO) };
}

/// What a permitted call can cost.
pub fn quote(permit: &Permit, table: &PriceTable) -> Quote {
    if is_free(permit) {
        return Quote::Free;
    }
    let claims = permit.claims();
    let Some(model) = &claims.model else {
        return Quote::Unbounded(stored(permit).unwrap_or(NoBound::ModelUnread), None);
    };
    let Some(price) = table.find(permit.provider(), model) else {
        return Quote::Unbounded(stored(permit).unwrap_or(NoBound::NoPrice), None);
    };
    let extent = match permit.body() {
        BodyKind::Empty | BodyKind::Json => claims.extent,
        BodyKind::Multipart | BodyKind::Opaque => claims.extent.max(Extent::Media),
    };
    let tiered = claims.features.has(Feature::ServiceTier);
    let tier = if tiered { price.tier_percent } else { Some(100) };
    let rates = Rates { price: *price, extent, tier: tier.unwrap_or(100) };
    let unbounded = stored(permit).or_else(|| beyond(claims, extent, price));
    match (unbounded, tier) {
        (Some(why), _) => Quote::Unbounded(why, tier.map(|_| rates)),
        (None, None) => Quote::Unbounded(NoBound::Feature(Feature::ServiceTier), None),
        (None, Some(_)) => Quote::Bounded(bound_of(permit, rates)),
    }
}

fn stored(permit: &Permit) -> Option<NoBound> {
    match permit.class() {
        PathClass::Stateful => Some(NoBound::Stored),
        PathClass::Stateless => None,
    }
}

/// What makes a call cost more than its body shows.
fn beyond(claims: &Claims, extent: Extent, price: &Price) -> Option<NoBound> {
    let features = [Feature::HostedTools, Feature::RemoteUrls, Feature::ObjectReferences];
    if let Some(feature) = features.into_iter().find(|one| claims.features.has(*one)) {
        return Some(NoBound::Feature(feature));
    }
    match extent {
        Extent::Open => Some(NoBound::Open),
        // A list of pictures to a model that only reads is as many inputs as it has items.
        Extent::Media if price.max_output == 0 => Some(NoBound::Open),
        Extent::Text | Extent::Media => None,
    }
}

fn bound_of(permit: &Permit, rates: Rates) -> Bound {
    let (claims, price) = (permit.claims(), &rates.price);
    let answers = u64::from(claims.answers.max(1));
    let unseen = UNSEEN_TOKENS.saturating_mul(answers);
    let window = price.max_input.saturating_mul(answers);
    let input = match (rates.extent, permit.length()) {
        (Extent::Text, Length::Known(bytes)) if price.max_output == 0 => {
            bytes.saturating_add(unseen)
        }
        (Extent::Text, Length::Known(bytes)) => bytes.saturating_add(unseen).min(window),
        (Extent::Text, Length::Chunked) | (Extent::Media | Extent::Open, _) => window,
    };
    let said = claims.max_output.filter(|_| bounds_output(permit));
    let each = said.map_or(price.max_output, |said| said.min(price.max_output));
    Bound { input, output: each.saturating_mul(answers), rates }
}

/// Whether the caller's limit of output bounds all that is charged as output, reasoning included.
fn bounds_output(permit: &Permit) -> bool {
    match (permit.origin(), permit.dialect()) {
        (Origin::BuiltIn, Dialect::OpenAi | Dialect::Anthropic) => true,
        (Origin::BuiltIn, Dialect::Xai | Dialect::Gemini) | (Origin::Operator, _) => false,
    }
}

/// Whether a path costs nothing, at the four providers whose terms are known.
fn is_free(permit: &Permit) -> bool {
    let path = permit.target().path();
    let looks = permit.method() == Method::Get && permit.class() == PathClass::Stateless;
    let counts = match permit.dialect() {
        Dialect::OpenAi => matches!(path, "/v1/moderations" | "/v1/responses/input_tokens"),
        Dialect::Anthropic => path == "/v1/messages/count_tokens",
        Dialect::Gemini => path.ends_with(":countTokens"),
        Dialect::Xai => path == "/v1/tokenize-text",
    };
    permit.origin() == Origin::BuiltIn && (looks || counts)
}

impl Bound {
    /// Tokens, input and output together.
    pub const fn tokens(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// Money.
    pub fn money(&self) -> Money {
        self.rates.at_most(self.input, self.output)
    }

    /// What the call cost, once it has ended.
    pub fn settle(&self, ended: Ended) -> Cost {
        let measured = match ended {
            Ended::Unsent | Ended::Refused => return Cost::NOTHING,
            Ended::Told(measured) => measured,
        };
        let input = measured.input.unwrap_or(self.input);
        // What a cut answer told is what came through; more may have been made, and charged.
        let output = match measured.output {
            Some(told) if measured.is_final => told,
            told => told.unwrap_or(0).max(self.output),
        };
        let money = match (measured.cost, measured.is_final) {
            (Some(cost), true) => cost,
            (None, _) | (_, false) => match measured.input {
                Some(_) => self.rates.cost(&Measured { output: Some(output), ..measured }, input),
                None => self.rates.at_most(input, output),
            },
        };
        Cost { tokens: Some(input.saturating_add(output)), money: Some(money) }
    }
}

impl Quote {
    /// What the call cost, once it has ended.
    pub fn settle(&self, ended: Ended) -> Cost {
        match (self, ended) {
            (Self::Bounded(bound), _) => bound.settle(ended),
            (Self::Free, _) | (Self::Unbounded(..), Ended::Unsent | Ended::Refused) => {
                Cost::NOTHING
            }
            (Self::Unbounded(_, rates), Ended::Told(measured)) => {
                let both = measured.input.zip(measured.output);
                let money =
                    rates.zip(measured.input).map(|(rates, input)| rates.cost(&measured, input));
                Cost {
                    tokens: both.map(|(input, output)| input.saturating_add(output)),
                    money: measured.cost.or(money),
                }
            }
        }
    }
}

impl Rates {
    /// What these tokens cost where nobody knows which of them were cached.
    fn at_most(&self, input: u64, output: u64) -> Money {
        let price = &self.price;
        let kinds = [Some(self.input()), price.cache_read, price.cache_write];
        let dearest = kinds.into_iter().flatten().max().unwrap_or(price.input);
        self.sum(input, product(input, dearest), output)
    }

    /// What was told of a call, at these rates.
    fn cost(&self, measured: &Measured, input: u64) -> Money {
        let plain = self.input();
        let read = measured.cache_read.unwrap_or(0).min(input);
        let write = measured.cache_write.unwrap_or(0).min(input.saturating_sub(read));
        let rest = input.saturating_sub(read).saturating_sub(write);
        let parts = [
            product(rest, plain),
            product(read, self.price.cache_read.unwrap_or(plain)),
            product(write, self.price.cache_write.unwrap_or(plain)),
        ];
        let reading = parts.into_iter().fold(0_u128, u128::saturating_add);
        self.sum(input, reading, measured.output.unwrap_or(0))
    }

    fn input(&self) -> Money {
        match (self.extent, self.price.media_input) {
            (Extent::Media | Extent::Open, Some(media)) => media,
            (Extent::Text, _) | (_, None) => self.price.input,
        }
    }

    /// Input (in millionths of a dollar times a million) and output with their factors, rounded up.
    fn sum(&self, input: u64, reading: u128, output: u64) -> Money {
        let long = self.price.long.filter(|long| input > long.above);
        let (of_input, of_output) =
            long.map_or((100, 100), |long| (long.input_percent, long.output_percent));
        let reading = reading.saturating_mul(of_input.into());
        let writing = product(output, self.price.output).saturating_mul(of_output.into());
        let all = reading.saturating_add(writing).saturating_mul(self.tier.into());
        // Two factors in per cent, and a million tokens.
        let micros = all.div_ceil(100 * 100 * 1_000_000);
        Money::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

fn product(tokens: u64, price: Money) -> u128 {
    u128::from(tokens).saturating_mul(price.micros().into())
}

#[cfg(test)]
impl Bound {
    /// A bound of so many tokens that cost a millionth each.
    pub(crate) fn of_tokens(tokens: u64) -> Self {
        let price = Price {
            input: Money::from_micros(1_000_000),
            media_input: None,
            cache_read: None,
            cache_write: None,
            output: Money::from_micros(1_000_000),
            max_input: tokens,
            max_output: 0,
            long: None,
            tier_percent: None,
        };
        Self { input: tokens, output: 0, rates: Rates { price, extent: Extent::Text, tier: 100 } }
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests;
