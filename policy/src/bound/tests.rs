use proptest::prelude::*;

use super::*;
use crate::claims::{Features, Stream};
use crate::decide::{Access, Wish, decide};
use crate::id::{CredentialId, TenantId, TokenId, UserId};
use crate::moment::Moment;
use crate::name::{ModelName, ProviderName};
use crate::prices::{Author, Long, PriceRow, builtin};
use crate::provider::builtin as providers;
use crate::rules::{Choice, CredentialFacts, CredentialRules, Home, Standing, Subject, TokenScope};
use crate::target::Target;
use crate::tenant_rules::RuleSet;

/// A call with a personal key.
struct Asked<'a> {
    provider: &'a str,
    origin: Origin,
    method: Method,
    path: &'a str,
    claims: Claims,
    length: Length,
}

fn claims(model: &str) -> Claims {
    Claims::of_no_body(Some(ModelName::parse(model).unwrap()))
}

fn post<'a>(provider: &'a str, path: &'a str, claims: Claims, bytes: u64) -> Asked<'a> {
    let length = Length::Known(bytes);
    Asked { provider, origin: Origin::BuiltIn, method: Method::Post, path, claims, length }
}

fn chat(claims: Claims, bytes: u64) -> Asked<'static> {
    post("openai", "/v1/chat/completions", claims, bytes)
}

fn permit(asked: Asked<'_>) -> Permit {
    let mut provider = providers::definitions()
        .unwrap()
        .into_iter()
        .find(|one| one.name.as_ref() == asked.provider)
        .unwrap();
    provider.origin = asked.origin;
    let user = UserId::from_random([1; 16]);
    let tenant = TenantId::from_random([2; 16]);
    let subject = Subject {
        tenant,
        user,
        token: TokenId::from_random([3; 16]),
        scope: TokenScope {
            providers: Choice::Any,
            models: Choice::Any,
            credential: None,
            expires: None,
            calls_per_minute: 1,
        },
        workspaces: Vec::new(),
        standing: Standing::Active,
    };
    let credential = CredentialFacts {
        id: CredentialId::from_random([4; 16]),
        tenant,
        home: Home::Personal(user),
        provider: provider.name.clone(),
        destination: std::sync::Arc::new(provider.destination.clone()),
        rules: CredentialRules::default(),
    };
    let rules = RuleSet::default();
    let owner = Standing::Active;
    let wish = Wish {
        access: Access { subject: &subject, credential: &credential, owner, rules: &rules },
        provider: &provider,
        method: asked.method,
        target: Target::parse(asked.path).unwrap(),
        betas: Vec::new(),
        claims: asked.claims,
        length: asked.length,
    };
    decide(wish, Moment::from_unix_millis(1)).unwrap()
}

fn quoted(asked: Asked<'_>) -> Quote {
    quote(&permit(asked), &builtin::table().unwrap())
}

fn bound(asked: Asked<'_>) -> Bound {
    let quote = quoted(asked);
    let Quote::Bounded(bound) = quote else { panic!("{quote:?}") };
    bound
}

#[test]
fn a_call_s_bound_is_its_bytes_and_all_the_answers_it_may_get() {
    let said = Claims { max_output: Some(1000), answers: 3, ..claims("gpt-4o") };
    let three = bound(chat(said, 500));
    assert_eq!(three.tokens(), 500 + 3 * UNSEEN_TOKENS + 3 * 1000);
    // 2.50 and 10 dollars a million.
    assert_eq!(three.money(), Money::from_micros((500 + 3 * 4096) * 25 / 10 + 30_000));
    let unsaid = bound(chat(claims("gpt-4o"), 500));
    assert_eq!(unsaid.tokens(), 500 + UNSEEN_TOKENS + 17_000);
    let absurd = Claims { max_output: Some(u64::MAX), ..claims("gpt-4o") };
    assert_eq!(bound(chat(absurd, 500)), unsaid);
}

/// Red when pictures count by their bytes, or a limit of output counts where it does not bound the reasoning.
#[test]
fn where_bytes_or_limits_prove_nothing_the_model_s_own_limits_do() {
    let media = Claims { extent: Extent::Media, max_output: Some(1), ..claims("gpt-4o") };
    assert_eq!(bound(chat(media, 500)).tokens(), 128_001);
    let mut chunked = chat(Claims { max_output: Some(1), ..claims("gpt-4o") }, 0);
    chunked.length = Length::Chunked;
    assert_eq!(bound(chunked).tokens(), 128_001);
    let long = Claims { max_output: Some(1), ..claims("gpt-4o") };
    assert_eq!(bound(chat(long, 10_000_000)).tokens(), 128_001);
    let limited = |model| Claims { max_output: Some(1), ..claims(model) };
    let grok = bound(post("xai", "/v1/chat/completions", limited("grok-3"), 500));
    assert_eq!(grok.tokens(), 500 + UNSEEN_TOKENS + 132_000);
    let path = "/v1beta/models/gemini-2.5-pro:generateContent";
    let gemini = bound(post("google", path, limited("gemini-2.5-pro"), 500));
    assert_eq!(gemini.tokens(), 500 + UNSEEN_TOKENS + 66_000);
    let mut defined = chat(limited("gpt-4o"), 500);
    defined.origin = Origin::Operator;
    assert_eq!(bound(defined).tokens(), 500 + UNSEEN_TOKENS + 17_000);
    // A list of texts to a model that only reads is longer than one window.
    let texts = post("openai", "/v1/embeddings", claims("text-embedding-3-small"), 900_000);
    assert_eq!(bound(texts).tokens(), 900_000 + UNSEEN_TOKENS);
}

#[test]
fn what_costs_more_than_its_body_shows_has_no_bound() {
    let with = |feature| Claims { features: Features::NONE.with(feature), ..claims("gpt-4o") };
    let why = |asked| {
        let quote = quoted(asked);
        let Quote::Unbounded(why, _) = quote else { panic!("{quote:?}") };
        why
    };
    for feature in [Feature::HostedTools, Feature::RemoteUrls, Feature::ObjectReferences] {
        assert_eq!(why(chat(with(feature), 9)), NoBound::Feature(feature));
    }
    let tiered =
        Claims { features: Features::NONE.with(Feature::ServiceTier), ..claims("o3-mini") };
    assert_eq!(why(chat(tiered, 9)), NoBound::Feature(Feature::ServiceTier));
    assert_eq!(why(chat(claims("gpt-9"), 9)), NoBound::NoPrice);
    assert_eq!(why(chat(Claims::of_no_body(None), 9)), NoBound::ModelUnread);
    let open = Claims { extent: Extent::Open, ..claims("gpt-4o") };
    assert_eq!(why(chat(open, 9)), NoBound::Open);
    let batch = post("openai", "/v1/batches", claims("gpt-4o"), 9);
    assert_eq!(why(batch), NoBound::Stored);
    let media = Claims { extent: Extent::Media, ..claims("text-embedding-3-small") };
    assert_eq!(why(post("openai", "/v1/embeddings", media, 9)), NoBound::Open);
}

/// Red when a path is free whoever defined the provider.
#[test]
fn looking_and_counting_are_free_where_the_terms_are_known() {
    let get = |provider, path| Asked {
        provider,
        origin: Origin::BuiltIn,
        method: Method::Get,
        path,
        claims: Claims::of_no_body(None),
        length: Length::Known(0),
    };
    assert_eq!(quoted(get("openai", "/v1/models")), Quote::Free);
    let count = || post("anthropic", "/v1/messages/count_tokens", claims("claude-opus-4-5"), 9);
    assert_eq!(quoted(count()), Quote::Free);
    assert!(matches!(quoted(get("openai", "/v1/files")), Quote::Unbounded(NoBound::Stored, _)));
    let mut defined = count();
    defined.origin = Origin::Operator;
    assert_ne!(quoted(defined), Quote::Free);
}

#[test]
fn the_dearest_tier_and_a_long_input_have_their_factors() {
    let plain = Claims { max_output: Some(1000), ..claims("gpt-4o") };
    let tiered = Claims { features: Features::NONE.with(Feature::ServiceTier), ..plain.clone() };
    let (plain, tiered) = (bound(chat(plain, 904)), bound(chat(tiered, 904)));
    assert_eq!(plain.money(), Money::from_micros(12_500 + 10_000));
    assert_eq!(tiered.money(), Money::from_micros(2 * 22_500));
    let long = Claims { max_output: Some(1000), ..claims("gpt-5.4") };
    let money = bound(chat(long, 300_000 - UNSEEN_TOKENS)).money();
    assert_eq!(money, Money::from_micros(300_000 * 5 + 22_500));
}

#[test]
fn an_ended_call_costs_what_was_told_and_what_was_not_told_costs_the_bound() {
    let said = Claims { max_output: Some(1000), ..claims("claude-sonnet-4-6") };
    let bound = bound(post("anthropic", "/v1/messages", said, 904));
    let full = Cost { tokens: Some(6000), money: Some(bound.money()) };
    assert_eq!(bound.money(), Money::from_micros(5000 * 6 + 15_000));
    let told = |input, output, is_final| {
        let measured = Measured { input, output, is_final, ..Measured::default() };
        bound.settle(Ended::Told(measured))
    };
    assert_eq!(bound.settle(Ended::Unsent), Cost::NOTHING);
    assert_eq!(bound.settle(Ended::Refused), Cost::NOTHING);
    assert_eq!(told(None, None, false), full);
    assert_eq!(told(None, None, true), full);
    let cost =
        |tokens, micros| Cost { tokens: Some(tokens), money: Some(Money::from_micros(micros)) };
    assert_eq!(told(Some(100), Some(10), true), cost(110, 300 + 150));
    // Cut: what came through is not all that was made.
    assert_eq!(told(Some(100), Some(10), false), cost(1100, 300 + 15_000));
    assert_eq!(told(Some(100), None, true), cost(1100, 300 + 15_000));
    // Told beyond the bound: the bill is what it is.
    assert_eq!(told(Some(9000), Some(5000), true), cost(14_000, 27_000 + 75_000));
    let cached = Measured {
        input: Some(1000),
        cache_read: Some(500),
        cache_write: Some(400),
        output: Some(0),
        cost: None,
        is_final: true,
    };
    let micros = 100 * 3 + 150 + 400 * 6;
    assert_eq!(bound.settle(Ended::Told(cached)), cost(1000, micros));
    let own = Measured { cost: Some(Money::from_micros(7)), ..cached };
    assert_eq!(bound.settle(Ended::Told(own)), cost(1000, 7));
}

#[test]
fn a_call_without_a_bound_costs_what_was_told() {
    let open = Claims { extent: Extent::Open, ..claims("gpt-4o") };
    let quote = quoted(chat(open, 9));
    let measured =
        Measured { input: Some(100), output: Some(10), is_final: true, ..Measured::default() };
    let cost = quote.settle(Ended::Told(measured));
    assert_eq!(cost, Cost { tokens: Some(110), money: Some(Money::from_micros(350)) });
    let nothing = Cost { tokens: None, money: None };
    assert_eq!(quote.settle(Ended::Told(Measured::default())), nothing);
}

fn prices() -> impl Strategy<Value = Price> {
    let money = || (0..40_000_000_u64).prop_map(Money::from_micros);
    let some = || prop::option::of(money());
    let long = prop::option::of((0..3000_u64, 100..300_u32, 100..300_u32));
    (money(), some(), some(), some(), money(), (1..20_000_u64, 1..5000_u64), long).prop_map(
        |(input, media_input, cache_read, cache_write, output, (max_input, max_output), long)| {
            Price {
                input,
                media_input,
                cache_read,
                cache_write,
                output,
                max_input,
                max_output,
                long: long.map(|(above, input_percent, output_percent)| Long {
                    above,
                    input_percent,
                    output_percent,
                }),
                tier_percent: Some(250),
            }
        },
    )
}

proptest! {
    /// Whatever a model's prices are: what an honest provider can charge for a body is within the bound. Red when the bound takes
    /// the plain input's price, leaves a factor out, or asks whether the told input is long instead of the most that it can be.
    #[test]
    fn no_honest_bill_is_above_the_bound(
        price in prices(),
        (bytes, answers, said) in (0..30_000_u64, 1..4_u32, prop::option::of(0..8000_u64)),
        (media, tiered) in any::<(bool, bool)>(),
        (read, write, rest, written) in any::<(u64, u64, u64, u64)>(),
    ) {
        let features =
            if tiered { Features::NONE.with(Feature::ServiceTier) } else { Features::NONE };
        let extent = if media { Extent::Media } else { Extent::Text };
        let model = ModelName::parse("m").unwrap();
        let claims = Claims {
            model: Some(model.clone()), max_output: said, answers, stream: Stream::Whole, features, extent,
        };
        let provider = ProviderName::parse("openai").unwrap();
        let rows = vec![PriceRow { provider, model, price }];
        let table = PriceTable::new(Author::Operator, rows).unwrap();
        let Quote::Bounded(bound) = quote(&permit(chat(claims, bytes)), &table) else {
            panic!("it has a bound")
        };
        // One token a byte, what the provider adds, never more than the window.
        let most_input = if media { price.max_input } else {
            (bytes + UNSEEN_TOKENS).min(price.max_input)
        };
        let input = if most_input == 0 { 0 } else { rest % (most_input + 1) };
        let read = if input == 0 { 0 } else { read % (input + 1) };
        let write = if input == read { 0 } else { write % (input - read + 1) };
        let most_output = said.unwrap_or(u64::MAX).min(price.max_output) * u64::from(answers);
        let measured = Measured {
            input: Some(input),
            output: Some(written % (most_output + 1)),
            cache_read: Some(read),
            cache_write: Some(write),
            cost: None,
            is_final: true,
        };
        let cost = bound.settle(Ended::Told(measured));
        prop_assert!(cost.tokens.unwrap() <= bound.tokens());
        prop_assert!(cost.money.unwrap() <= bound.money(), "{cost:?} {bound:?}");
    }
}
