//! What is said about budgets and prices.

use strongroom_policy::budget::{Force, Limit, Payer, PayerKind, Period, Unit, Warning};
use strongroom_policy::ledger::Figures;
use strongroom_policy::money::Money;
use strongroom_policy::prices::{Author, Long, Price, PriceRow};
use strongroom_protocol::frame::MAX_OPERATOR_BYTES;
use strongroom_protocol::operator::Request;
use strongroom_protocol::operator::budget::{
    BudgetRemoval, BudgetRequest, BudgetRow, BudgetWish, PayerPick, PriceBook, PriceRequest,
    RateFate,
};

use crate::things::{id, label, model, moment, pick, provider};
use crate::{Vector, of_enum};

pub(crate) fn vectors() -> Vec<Vector> {
    [
        of_enum(budgets(), budget_name, Request::Budget, MAX_OPERATOR_BYTES),
        of_enum(prices(), price_name, Request::Price, MAX_OPERATOR_BYTES),
    ]
    .concat()
}

fn budget_name(request: &BudgetRequest) -> &'static str {
    match request {
        BudgetRequest::List => "operator.budget.list",
        BudgetRequest::Set(_) => "operator.budget.set",
        BudgetRequest::Remove(_) => "operator.budget.remove",
    }
}

fn limit() -> Limit {
    Limit {
        unit: Unit::Money,
        period: Period::Month,
        amount: 50_000_000,
        force: Force::Hard,
        warn_percent: 80,
    }
}

fn budgets() -> Vec<BudgetRequest> {
    let payer = PayerPick::User(pick("alice"));
    let wish =
        BudgetWish { payer: payer.clone(), limits: vec![limit()], calls_per_minute: Some(60) };
    let removal = BudgetRemoval {
        payer,
        unit: Some(Unit::Money),
        period: Some(Period::Month),
        rate: RateFate::Stays,
    };
    vec![
        BudgetRequest::List,
        BudgetRequest::Set(Box::new(wish)),
        BudgetRequest::Remove(Box::new(removal)),
    ]
}

fn price_name(request: &PriceRequest) -> &'static str {
    match request {
        PriceRequest::List => "operator.price.list",
        PriceRequest::Put(_) => "operator.price.put",
        PriceRequest::Remove(..) => "operator.price.remove",
        PriceRequest::Replace(_) => "operator.price.replace",
        PriceRequest::Restore => "operator.price.restore",
    }
}

fn price_row() -> PriceRow {
    let money = Money::from_micros;
    let price = Price {
        input: money(1_250_000),
        media_input: Some(money(1_300_000)),
        cache_read: Some(money(125_000)),
        cache_write: None,
        output: money(10_000_000),
        max_input: 400_000,
        max_output: 128_000,
        long: Some(Long { above: 272_000, input_percent: 200, output_percent: 150 }),
        tier_percent: Some(250),
    };
    PriceRow { provider: provider(), model: model(), price }
}

fn prices() -> Vec<PriceRequest> {
    vec![
        PriceRequest::List,
        PriceRequest::Put(Box::new(price_row())),
        PriceRequest::Remove(provider(), model()),
        PriceRequest::Replace(vec![price_row()]),
        PriceRequest::Restore,
    ]
}

pub(crate) fn budget_rows() -> Vec<BudgetRow> {
    let payer = Payer::User(id(4));
    let figures = Figures {
        payer,
        limit: limit(),
        spent: 12_000_000,
        reserved: 3_000_000,
        turns: moment(1_796_083_200_000),
    };
    vec![BudgetRow {
        payer,
        label: Some(label("alice")),
        budgets: vec![figures],
        calls_per_minute: Some(60),
    }]
}

pub(crate) fn price_book() -> PriceBook {
    PriceBook { author: Author::Operator, rows: vec![price_row()] }
}

pub(crate) fn warning() -> Warning {
    Warning {
        payer: PayerKind::User,
        unit: Unit::Money,
        period: Period::Day,
        percent: 83,
        turns: moment(1_795_910_400_000),
    }
}
