//! API tokens.
//!
//! Invariant: a token's text exists here once, on its way to the operator; the store has its hash.

use strongroom_policy::budget::Payer;
use strongroom_policy::id::TokenId;
use strongroom_policy::rules::{Choice, MAX_CHOICES, TokenScope};
use strongroom_protocol::operator::listing::TokenRow;
use strongroom_protocol::operator::{Answer, Fault, Pick, TokenWish};
use strongroom_protocol::token::{TOKEN_RANDOM_BYTES, write_token};
use zeroize::Zeroizing;

use super::people::{gone, taken};
use super::{Act, fault, full_fault, picked, random_fault, write};
use crate::clock;
use crate::keeper::make_id;
use crate::keys;
use crate::records::{RecordName, TokenRecord};
use crate::tables::HeldToken;

/// Most calls a minute that one token may be given.
pub(super) const MAX_RATE: u32 = 1_000_000;

impl Act<'_> {
    pub(super) fn tokens(&self) -> Result<Answer, Fault> {
        self.in_tenant(|_, tenant| {
            let row = |(id, held): (&TokenId, &HeldToken)| {
                let record = &held.record;
                let user = tenant.users.get(&record.user)?;
                Some(TokenRow {
                    id: *id,
                    label: record.label.clone(),
                    user: record.user,
                    user_label: user.label.clone(),
                    scope: record.scope.clone(),
                    created: record.created,
                })
            };
            Ok(Answer::Tokens(tenant.tokens().iter().filter_map(row).collect()))
        })
    }

    pub(super) async fn token_create(&self, wish: TokenWish) -> Result<Answer, Fault> {
        let id = make_id().map_err(random_fault)?;
        let mut random = Zeroizing::new([0_u8; TOKEN_RANDOM_BYTES]);
        getrandom::fill(&mut *random).map_err(random_fault)?;
        let text = write_token(&random);
        let (of, record) = self.in_tenant(|vault, tenant| {
            if !vault.tables.has_room(tenant, |one| one.tokens().len()) {
                return Err(full_fault("tokens"));
            }
            if tenant.tokens().values().any(|one| one.record.label == wish.label) {
                return Err(taken("token", &wish.label));
            }
            check_scope(&wish.scope)?;
            let user = match &wish.user {
                Some(pick) => picked(tenant.pick_user(pick))?,
                None => picked(tenant.first_user())?,
            };
            let credential = wish.credential.as_ref();
            let credential = credential.map(|pick| picked(tenant.pick_credential(pick)));
            let scope = TokenScope { credential: credential.transpose()?, ..wish.scope };
            let hash = text.expose(|text| keys::tag_token(&vault.token_hash, text));
            let record =
                TokenRecord { user, label: wish.label, scope, hash, created: clock::now() };
            Ok((tenant.id, record))
        })?;
        let (kept, place) = (record.clone(), self.place(RecordName::Token(record.user, id))?);
        self.commit(
            ("token.create", id.to_string()),
            |vault, changes| write(vault, changes, &place, &record),
            |vault| vault.tables.insert_token(of, id, kept),
        )
        .await?;
        Ok(Answer::Token { id, text })
    }

    pub(super) async fn token_revoke(&self, pick: &Pick) -> Result<Answer, Fault> {
        let (of, id, place) = self.in_tenant(|_, tenant| {
            let id = picked(tenant.pick_token(pick))?;
            let held = tenant.tokens().get(&id).ok_or_else(|| gone("token"))?;
            Ok((tenant.id, id, tenant.place(RecordName::Token(held.record.user, id))))
        })?;
        self.commit(
            ("token.revoke", id.to_string()),
            |vault, changes| vault.books.delete(changes, &place),
            |vault| vault.tables.remove_token(of, id),
        )
        .await?;
        self.stop(|party| party.token == id);
        self.forget_budgets(std::iter::once(Payer::Token(id))).await?;
        Ok(Answer::Done)
    }
}

fn check_scope(scope: &TokenScope) -> Result<(), Fault> {
    let long = |length| length > MAX_CHOICES;
    let providers = matches!(&scope.providers, Choice::Only(list) if long(list.len()));
    let models = matches!(&scope.models, Choice::Only(list) if long(list.len()));
    if providers || models {
        return Err(full_fault("entries in one list"));
    }
    if !(1..=MAX_RATE).contains(&scope.calls_per_minute) {
        let range = format!("calls per minute must be 1 to {MAX_RATE}");
        return Err(fault("SR-LIMIT-002", range, "choose another --rate"));
    }
    Ok(())
}
