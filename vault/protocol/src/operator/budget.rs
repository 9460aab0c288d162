//! Budgets, rates and prices, for the operator's tool.
//!
//! Invariant: amounts are whole: millionths of a US dollar, tokens, calls.

use serde::{Deserialize, Serialize};
use strongroom_policy::budget::{Limit, Payer, Period, Unit};
use strongroom_policy::ledger::Figures;
use strongroom_policy::name::{Label, ModelName, ProviderName};
use strongroom_policy::prices::{Author, PriceRow};

use super::Pick;

/// What may be asked about budgets and rates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BudgetRequest {
    /// How every budget stands.
    List,
    /// Adds budgets to a payer's, in the place of those of the same unit and period, or sets its rate.
    Set(Box<BudgetWish>),
    /// Removes some of a payer's.
    Remove(Box<BudgetRemoval>),
}

/// Whom a budget is about, named by people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayerPick {
    /// Everybody of the tenant.
    Tenant,
    /// Whoever uses a workspace's credentials.
    Workspace(Pick),
    /// A person.
    User(Pick),
    /// A token.
    Token(Pick),
    /// A credential.
    Credential(Pick),
}

/// Budgets to be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetWish {
    /// Whose.
    pub payer: PayerPick,
    /// Which; at most [`strongroom_policy::budget::MAX_LIMITS`].
    pub limits: Vec<Limit>,
    /// Calls per minute, when that is to be set.
    pub calls_per_minute: Option<u32>,
}

/// Budgets to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetRemoval {
    /// Whose.
    pub payer: PayerPick,
    /// Of this unit; of all when unsaid.
    pub unit: Option<Unit>,
    /// Of this period; of both when unsaid.
    pub period: Option<Period>,
    /// Whether the rate stays.
    pub rate: RateFate,
}

/// What becomes of a rate when budgets are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RateFate {
    /// It stays.
    Stays,
    /// It is removed, and no budget is.
    RemovedAlone,
    /// It is removed too.
    RemovedToo,
}

/// The budgets of one payer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetRow {
    /// Whose.
    pub payer: Payer,
    /// Its name; none when it is gone.
    pub label: Option<Label>,
    /// How each budget stands.
    pub budgets: Vec<Figures>,
    /// Calls per minute.
    pub calls_per_minute: Option<u32>,
}

/// What may be asked about prices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PriceRequest {
    /// Every price.
    List,
    /// Sets the price of one model or family.
    Put(Box<PriceRow>),
    /// Removes a row.
    Remove(ProviderName, ModelName),
    /// Puts a table in the place of the one that is there.
    Replace(Vec<PriceRow>),
    /// Puts the table that came with the program in its place.
    Restore,
}

/// Every price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceBook {
    /// Where it comes from.
    pub author: Author,
    /// By provider and model.
    pub rows: Vec<PriceRow>,
}
