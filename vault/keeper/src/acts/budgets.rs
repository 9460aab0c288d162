//! Budgets, rates and prices.
//!
//! Invariant: a budget that is answered for is durable, and so is the lease that its first calls need.

use std::collections::BTreeMap;

use strongroom_policy::budget::{Limit, MAX_LIMITS, Payer, Unit};
use strongroom_policy::ledger::Figures;
use strongroom_policy::name::Label;
use strongroom_policy::prices::{Author, PriceRow, PriceTable, builtin};
use strongroom_protocol::operator::budget::{
    BudgetRemoval, BudgetRequest, BudgetRow, BudgetWish, PayerPick, PriceBook, PriceRequest,
    RateFate,
};
use strongroom_protocol::operator::{Answer, Fault, Pick};

use super::tokens::MAX_RATE;
use super::{Act, fault, full_fault, picked, write};
use crate::clock;
use crate::records::{BudgetRecord, RecordName};
use crate::tables::Tenant;
use crate::vault::Vault;

/// Most payers that have budgets or a rate.
const MAX_PAYERS: usize = 2000;
/// Greatest budget of money: a billion dollars.
const MAX_MONEY: u64 = 1_000_000_000_000_000;
/// Greatest budget of tokens or calls.
const MAX_COUNT: u64 = 1_000_000_000_000_000;

impl Act<'_> {
    pub(super) async fn budget(&self, request: BudgetRequest) -> Result<Answer, Fault> {
        match request {
            BudgetRequest::List => self.budget_list(),
            BudgetRequest::Set(wish) => self.budget_set(*wish).await,
            BudgetRequest::Remove(removal) => self.budget_remove(&removal).await,
        }
    }

    /// Those of the act's tenant; those of what is gone from all of them are shown with the first one's.
    fn budget_list(&self) -> Result<Answer, Fault> {
        let own = self.in_tenant(|_, tenant| Ok(tenant.id))?;
        self.vault(|vault| {
            let tables = &vault.tables;
            let whose = |payer: &Payer| {
                let of = |one: &&Tenant| label_of(one, payer).is_some();
                tables.tenants().find(of).map_or(tables.first(), |tenant| tenant.id)
            };
            let mut figures: BTreeMap<Payer, Vec<Figures>> = BTreeMap::new();
            for one in vault.budgets.ledger.figures(clock::now()) {
                figures.entry(one.payer).or_default().push(one);
            }
            let records = vault.budgets.records.iter().filter(|(payer, _)| whose(payer) == own);
            let rows = records.map(|(payer, record)| BudgetRow {
                payer: *payer,
                label: tables.tenant(own).and_then(|tenant| label_of(tenant, payer)),
                budgets: figures.remove(payer).unwrap_or_default(),
                calls_per_minute: record.calls_per_minute,
            });
            Ok(Answer::Budgets(rows.collect()))
        })
    }

    async fn budget_set(&self, wish: BudgetWish) -> Result<Answer, Fault> {
        if wish.limits.len() > MAX_LIMITS {
            return Err(full_fault("budgets of one payer"));
        }
        wish.limits.iter().try_for_each(check)?;
        if wish.calls_per_minute.is_some_and(|rate| !(1..=MAX_RATE).contains(&rate)) {
            let range = format!("calls per minute must be 1 to {MAX_RATE}");
            return Err(fault("SR-LIMIT-002", range, "choose another --rate"));
        }
        let (payer, record) = self.in_tenant(|vault, tenant| {
            let payer = payer_of(tenant, &wish.payer)?;
            let records = &vault.budgets.records;
            if records.len() >= MAX_PAYERS && !records.contains_key(&payer) {
                return Err(full_fault("payers with budgets"));
            }
            let mut record = records.get(&payer).cloned().unwrap_or_default();
            for limit in &wish.limits {
                record.limits.retain(|one| (one.unit, one.period) != (limit.unit, limit.period));
                record.limits.push(*limit);
            }
            record.calls_per_minute = wish.calls_per_minute.or(record.calls_per_minute);
            Ok((payer, record))
        })?;
        self.budget_put("budget.set", payer, record).await?;
        Ok(Answer::Done)
    }

    async fn budget_remove(&self, removal: &BudgetRemoval) -> Result<Answer, Fault> {
        let BudgetRemoval { payer, unit, period, rate } = removal;
        let (payer, record) = self.in_tenant(|vault, tenant| {
            let records = &vault.budgets.records;
            let first = tenant.id == vault.tables.first();
            let is_anybodys = |payer: &Payer| {
                vault.tables.tenants().any(|tenant| label_of(tenant, payer).is_some())
            };
            let gone = payer_by_id(payer)
                .filter(|payer| first && records.contains_key(payer) && !is_anybodys(payer));
            let payer = gone.map_or_else(|| payer_of(tenant, payer), Ok)?;
            let before = records.get(&payer).cloned().unwrap_or_default();
            let mut record = before.clone();
            if *rate != RateFate::RemovedAlone {
                let is_meant = |one: &Limit| {
                    unit.is_none_or(|unit| unit == one.unit)
                        && period.is_none_or(|period| period == one.period)
                };
                record.limits.retain(|one| !is_meant(one));
            }
            if *rate != RateFate::Stays {
                record.calls_per_minute = None;
            }
            if record == before {
                let next = "see 'strongroom budget list'";
                return Err(fault("SR-BUDGET-004", "there is no such budget", next));
            }
            Ok((payer, record))
        })?;
        self.budget_put("budget.remove", payer, record).await?;
        Ok(Answer::Done)
    }

    /// Ends the budgets of what is deleted.
    pub(super) async fn forget_budgets(
        &self,
        payers: impl Iterator<Item = Payer>,
    ) -> Result<(), Fault> {
        for payer in payers {
            let has = self.vault(|vault| Ok(vault.budgets.records.contains_key(&payer)))?;
            if has {
                let gone = self.budget_put("budget.remove", payer, BudgetRecord::default());
                Box::pin(gone).await?;
            }
        }
        Ok(())
    }

    async fn budget_put(
        &self,
        act: &'static str,
        payer: Payer,
        record: BudgetRecord,
    ) -> Result<(), Fault> {
        let kept = record.clone();
        self.commit(
            (act, name_of(&payer)),
            |vault, changes| {
                let place = vault.place(RecordName::Budget(payer));
                if record != BudgetRecord::default() {
                    return write(vault, changes, &place, &record);
                }
                let changes = vault.books.delete(changes, &place)?;
                vault.books.delete(changes, &vault.place(RecordName::Spent(payer)))
            },
            |vault| vault.budgets.put(payer, kept, &[], clock::now()),
        )
        .await?;
        self.lease().await
    }

    pub(super) async fn price(&self, request: PriceRequest) -> Result<Answer, Fault> {
        let rows = |act: &Self| act.vault(|vault| Ok(vault.budgets.prices.rows().to_vec()));
        let (act, target, rows) = match request {
            PriceRequest::List => return self.price_list(),
            PriceRequest::Put(row) => {
                let mut rows = rows(self)?;
                rows.retain(|one| !is_same(one, &row));
                let target = format!("{} {}", row.provider, row.model);
                rows.push(*row);
                ("price.set", target, Some(rows))
            }
            PriceRequest::Remove(provider, model) => {
                let mut rows = rows(self)?;
                let before = rows.len();
                rows.retain(|one| (&one.provider, &one.model) != (&provider, &model));
                if rows.len() == before {
                    let next = "see 'strongroom price list'";
                    return Err(fault("SR-PRICE-001", "there is no such price", next));
                }
                ("price.remove", format!("{provider} {model}"), Some(rows))
            }
            PriceRequest::Replace(rows) => ("price.import", rows.len().to_string(), Some(rows)),
            PriceRequest::Restore => ("price.restore", builtin::DATE.to_owned(), None),
        };
        self.price_put((act, target), rows).await?;
        Ok(Answer::Done)
    }

    fn price_list(&self) -> Result<Answer, Fault> {
        self.vault(|vault| {
            let prices = &vault.budgets.prices;
            let book = PriceBook { author: prices.author(), rows: prices.rows().to_vec() };
            Ok(Answer::Prices(Box::new(book)))
        })
    }

    async fn price_put(
        &self,
        act: (&'static str, String),
        rows: Option<Vec<PriceRow>>,
    ) -> Result<(), Fault> {
        let table = match &rows {
            Some(rows) => PriceTable::new(Author::Operator, rows.clone()),
            None => builtin::table(),
        };
        let table = table.map_err(|error| {
            fault("SR-PRICE-002", error.to_string(), "mend it; nothing was changed")
        })?;
        self.commit(
            act,
            |vault, changes| {
                let place = vault.place(RecordName::Prices);
                match &rows {
                    Some(rows) => write(vault, changes, &place, rows),
                    None => vault.books.delete(changes, &place),
                }
            },
            |vault| vault.budgets.prices = table,
        )
        .await
    }
}

/// Who of a tenant has budgets or a rate, itself included.
pub(super) fn payers_of(vault: &Vault, tenant: &Tenant) -> Vec<Payer> {
    let all = vault.budgets.records.keys().copied();
    all.filter(|payer| label_of(tenant, payer).is_some()).collect()
}

fn is_same(one: &PriceRow, other: &PriceRow) -> bool {
    (&one.provider, &one.model) == (&other.provider, &other.model)
}

fn check(limit: &Limit) -> Result<(), Fault> {
    let most = match limit.unit {
        Unit::Money => MAX_MONEY,
        Unit::Tokens | Unit::Requests => MAX_COUNT,
    };
    if limit.amount > most {
        return Err(fault("SR-BUDGET-005", "a budget is too large to mean anything", "lower it"));
    }
    if !(1..=100).contains(&limit.warn_percent) {
        let next = "choose another --warn";
        return Err(fault("SR-BUDGET-006", "the warning share is 1 to 100 per cent", next));
    }
    Ok(())
}

fn payer_of(tenant: &Tenant, pick: &PayerPick) -> Result<Payer, Fault> {
    Ok(match pick {
        PayerPick::Tenant => Payer::Tenant(tenant.id),
        PayerPick::Workspace(pick) => Payer::Workspace(picked(tenant.pick_workspace(pick))?),
        PayerPick::User(pick) => Payer::User(picked(tenant.pick_user(pick))?),
        PayerPick::Token(pick) => Payer::Token(picked(tenant.pick_token(pick))?),
        PayerPick::Credential(pick) => Payer::Credential(picked(tenant.pick_credential(pick))?),
    })
}

/// A payer that may be gone, named by its id.
fn payer_by_id(pick: &PayerPick) -> Option<Payer> {
    let text = |pick: &Pick| pick.0.to_string();
    Some(match pick {
        PayerPick::Tenant => return None,
        PayerPick::Workspace(pick) => Payer::Workspace(text(pick).parse().ok()?),
        PayerPick::User(pick) => Payer::User(text(pick).parse().ok()?),
        PayerPick::Token(pick) => Payer::Token(text(pick).parse().ok()?),
        PayerPick::Credential(pick) => Payer::Credential(text(pick).parse().ok()?),
    })
}

fn label_of(tenant: &Tenant, payer: &Payer) -> Option<Label> {
    match payer {
        Payer::Tenant(id) => (*id == tenant.id).then(|| tenant.record.label.clone()),
        Payer::Workspace(id) => tenant.workspaces.get(id).map(|one| one.label.clone()),
        Payer::User(id) => tenant.users.get(id).map(|one| one.label.clone()),
        Payer::Token(id) => tenant.tokens().get(id).map(|one| one.record.label.clone()),
        Payer::Credential(id) => tenant.credentials.get(id).map(|one| one.record.label.clone()),
    }
}

fn name_of(payer: &Payer) -> String {
    match payer {
        Payer::Tenant(id) => id.to_string(),
        Payer::Workspace(id) => id.to_string(),
        Payer::User(id) => id.to_string(),
        Payer::Token(id) => id.to_string(),
        Payer::Credential(id) => id.to_string(),
    }
}
