//! How people sign in, as operators have a hand in it: invitations, passwords of another system, sessions.
//!
//! Invariant: no operator makes a session; an invitation is told once, and the store has its hash.

use strongroom_policy::id::{SessionId, UserId};
use strongroom_protocol::operator::people::{
    INVITATION_LIFE, ImportedVerifier, Invitation, PeopleAnswer, PeopleRequest, PersonSession,
};
use strongroom_protocol::operator::{Answer, Fault, Pick};
use strongroom_protocol::person::{PBKDF2_ITERATIONS, TAG_BYTES};
use strongroom_protocol::token::{TOKEN_RANDOM_BYTES, write_invitation};
use zeroize::Zeroizing;

use super::people::gone;
use super::{Act, books_fault, fault, picked, random_fault, write};
use crate::clock;
use crate::keys;
use crate::people::{InvitationRecord, Personal, ensure_key, wrap_imported};
use crate::records::RecordName;

/// Most sessions that end in one commit.
const MAX_TOGETHER: usize = 32;

impl Act<'_> {
    pub(super) async fn people(&self, request: PeopleRequest) -> Result<Answer, Fault> {
        let answer = match request {
            PeopleRequest::Invite(pick) => self.invite(&pick).await?,
            PeopleRequest::Import(imported) => return self.import(&imported).await,
            PeopleRequest::Sessions(pick) => self.sessions(pick.as_ref())?,
            PeopleRequest::Revoke(id) => self.revoke(id).await?,
            PeopleRequest::RevokeAll(pick) => self.revoke_all(pick.as_ref()).await?,
        };
        Ok(Answer::People(answer))
    }

    async fn invite(&self, pick: &Pick) -> Result<PeopleAnswer, Fault> {
        let (user, record) = self.user(pick)?;
        let mut random = Zeroizing::new([0_u8; TOKEN_RANDOM_BYTES]);
        getrandom::fill(&mut *random).map_err(random_fault)?;
        let text = write_invitation(&random);
        ensure_key(self.keeper).await.map_err(|why| {
            fault(why.code(), why.message(), "look at the disk ('strongroom doctor'), then again")
        })?;
        let (made, hash) = (clock::now(), |text: &[u8]| {
            self.vault(|vault| Ok(keys::tag_invitation(&vault.token_hash, text)))
        });
        let invitation = InvitationRecord {
            hash: text.expose(hash)?,
            made,
            expires: made.after(INVITATION_LIFE),
        };
        let (kept, expires) = (invitation.clone(), invitation.expires);
        let place = self.place(RecordName::Personal(user, Personal::Invitation))?;
        self.commit_in(
            ("user.invite", user.to_string()),
            |vault, changes| write(vault, changes, &place, &invitation),
            |tenant| tenant.people.put_invitation(user, Some(kept)),
        )
        .await?;
        let public_url = self.keeper.settings.public_url.clone();
        let label = record.label;
        let made = Invitation { user, label, text, public_url, expires };
        Ok(PeopleAnswer::Invitation(Box::new(made)))
    }

    /// Whoever has a password keeps it: an import gives the first one.
    async fn import(&self, imported: &ImportedVerifier) -> Result<Answer, Fault> {
        let (user, record) = self.user(&imported.user)?;
        if !PBKDF2_ITERATIONS.contains(&imported.iterations) || imported.hash.len() != TAG_BYTES {
            let (least, most) = PBKDF2_ITERATIONS.into_inner();
            let what = format!(
                "a verifier has {least} to {most} iterations, and {TAG_BYTES} bytes of PBKDF2-HMAC-SHA256"
            );
            return Err(fault("SR-IMPORT-001", what, "invite this person instead"));
        }
        let verifier = self.in_tenant(|vault, tenant| {
            if tenant.people.password(user).is_some() {
                let what = format!("'{}' has a password already", record.label);
                let next = "invite them, if they need another one ('strongroom user invite')";
                return Err(fault("SR-IMPORT-002", what, next));
            }
            Ok(wrap_imported(&vault.pepper, (user, imported), clock::now()))
        })?;
        let kept = verifier.clone();
        let place = self.place(RecordName::Personal(user, Personal::Password))?;
        self.commit_in(
            ("user.import", user.to_string()),
            |vault, changes| write(vault, changes, &place, &verifier),
            |tenant| tenant.people.put_password(user, kept),
        )
        .await?;
        Ok(Answer::Done)
    }

    fn sessions(&self, pick: Option<&Pick>) -> Result<PeopleAnswer, Fault> {
        self.in_tenant(|_, tenant| {
            let one = pick.map(|pick| picked(tenant.pick_user(pick))).transpose()?;
            let now = clock::now();
            let rows = tenant.people.sessions().filter_map(|(user, id, record)| {
                let label = tenant.users.get(&user)?.label.clone();
                let told = one.is_none_or(|one| one == user) && !record.is_over(now);
                told.then(|| PersonSession { user, label, row: record.row(id, false) })
            });
            Ok(PeopleAnswer::Sessions(rows.take(MAX_ROWS).collect()))
        })
    }

    async fn revoke(&self, id: SessionId) -> Result<PeopleAnswer, Fault> {
        let user =
            self.in_tenant(|_, tenant| tenant.people.owner_of(id).ok_or_else(|| gone("session")))?;
        self.end_together("session.revoke", (id.to_string(), &[(user, id)])).await?;
        Ok(PeopleAnswer::Ended(1))
    }

    async fn revoke_all(&self, pick: Option<&Pick>) -> Result<PeopleAnswer, Fault> {
        let one = pick.map(|pick| self.user(pick)).transpose()?.map(|(user, _)| user);
        let count = self.end_sessions(one).await?;
        Ok(PeopleAnswer::Ended(u32::try_from(count).unwrap_or(u32::MAX)))
    }

    /// Ends every session in the tenant, of one person or of all; answers how many there were.
    pub(super) async fn end_sessions(&self, one: Option<UserId>) -> Result<usize, Fault> {
        let all = self.in_tenant(|_, tenant| {
            let all = tenant.people.sessions().map(|(user, id, _)| (user, id));
            Ok(all.filter(|(user, _)| one.is_none_or(|one| one == *user)).collect::<Vec<_>>())
        })?;
        let target = one.map_or_else(|| "all".to_owned(), |user| user.to_string());
        for some in all.chunks(MAX_TOGETHER) {
            self.end_together("session.revoke-all", (target.clone(), some)).await?;
        }
        Ok(all.len())
    }

    async fn end_together(
        &self,
        act: &'static str,
        (target, some): (String, &[(UserId, SessionId)]),
    ) -> Result<(), Fault> {
        let names = some.iter().map(|(user, id)| (*user, Personal::Session(*id)));
        let names = names.map(|(user, part)| RecordName::Personal(user, part));
        let places = names.map(|name| self.place(name)).collect::<Result<Vec<_>, _>>()?;
        self.commit_in(
            (act, target),
            |vault, changes| {
                places.iter().try_fold(changes, |changes, one| vault.books.delete(changes, one))
            },
            |tenant| {
                for (user, id) in some {
                    tenant.people.remove_session(*user, *id);
                }
            },
        )
        .await
    }
}

/// Most sessions in one list: they must fit into one answer.
const MAX_ROWS: usize = 5000;

/// What a store that failed under a person's change is to operators.
pub fn store_fault(error: strongroom_store::StoreError) -> Fault {
    books_fault(&crate::books::BooksError::Store(error))
}
