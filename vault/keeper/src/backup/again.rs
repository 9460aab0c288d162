//! What was taken away after a backup, and is taken away again before the restored vault serves anything.
//!
//! Invariant: powers only shrink: nothing that was granted after the backup is granted again, and what the backup has as
//! disabled stays so.
//! Invariant: whatever cannot be done again is listed, so that an operator can.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_policy::id::{CredentialId, TenantId, TokenId, UserId, WorkspaceId};
use strongroom_policy::rules::{Home, Standing};
use strongroom_protocol::operator::backup::{DoneAgain, LeftOpen, MAX_LEFT_OPEN};
use strongroom_sys::Secret;

use super::journals::SeenAct;
use crate::books::{Books, BooksError, Changes};
use crate::people::Personal;
use crate::records::{RecordName, RecordPlace, TenantRecord, UserRecord, WorkspaceRecord};
use crate::tables::{Tables, Tenant};

/// What acts come to, whatever the backup holds.
#[derive(Debug, Default)]
pub struct Taken {
    credentials: BTreeSet<CredentialId>,
    tokens: BTreeSet<TokenId>,
    users: BTreeSet<UserId>,
    workspaces: BTreeSet<WorkspaceId>,
    standing: BTreeMap<UserId, Standing>,
    passwords: BTreeSet<UserId>,
    left: BTreeSet<(WorkspaceId, UserId)>,
    tenants: BTreeSet<TenantId>,
    tenant_standing: BTreeMap<TenantId, Standing>,
    /// The first of what cannot be done again.
    pub left_open: Vec<LeftOpen>,
    /// How many of these there are.
    pub left_open_count: u32,
}

impl Taken {
    /// Adds up acts in their order.
    pub fn of(acts: &[SeenAct]) -> Self {
        let mut taken = Self::default();
        for SeenAct { act, target } in acts {
            if taken.take(act, target).is_none() {
                taken.left_open_count = taken.left_open_count.saturating_add(1);
                if taken.left_open.len() < MAX_LEFT_OPEN {
                    taken.left_open.push(LeftOpen { act: act.clone(), target: target.clone() });
                }
            }
        }
        taken
    }

    /// `None` for what cannot be done again.
    fn take(&mut self, act: &str, target: &str) -> Option<()> {
        match act {
            "credential.delete" => drop(self.credentials.insert(target.parse().ok()?)),
            "token.revoke" => drop(self.tokens.insert(target.parse().ok()?)),
            "user.delete" => drop(self.users.insert(target.parse().ok()?)),
            "workspace.delete" => drop(self.workspaces.insert(target.parse().ok()?)),
            "user.disable" => {
                self.standing.insert(target.parse().ok()?, Standing::Disabled);
            }
            "user.enable" => {
                self.standing.insert(target.parse().ok()?, Standing::Active);
            }
            "tenant.delete" => drop(self.tenants.insert(target.parse().ok()?)),
            "tenant.disable" => {
                self.tenant_standing.insert(target.parse().ok()?, Standing::Disabled);
            }
            "tenant.enable" => {
                self.tenant_standing.insert(target.parse().ok()?, Standing::Active);
            }
            "workspace.leave" => drop(self.left.insert(membership(target)?)),
            // Told, not done: it gave something, or a rule about its members took something away.
            "workspace.join" => {
                self.left.remove(&membership(target)?);
                return None;
            }
            // Looking changes nothing, and a backup takes nothing away; no session outlives a restore.
            "credential.test" | "backup.create" | "session.revoke" | "session.revoke-all" => {}
            // The older password is taken; nobody can set the newer one again.
            "person.password" => {
                self.passwords.insert(target.parse().ok()?);
                return None;
            }
            _ => return None,
        }
        Some(())
    }

    /// Does it again to what the backup holds, and counts what there was to do.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn apply(&self, books: &mut Books, tables: &Tables) -> Result<DoneAgain, BooksError> {
        let mut done = DoneAgain::default();
        for tenant in tables.tenants() {
            if self.tenants.contains(&tenant.id) && tenant.id != tables.first() {
                delete_whole(books, tenant, &mut done)?;
            } else {
                self.apply_to(books, tenant, &mut done)?;
            }
        }
        Ok(done)
    }

    fn apply_to(
        &self,
        books: &mut Books,
        tenant: &Tenant,
        done: &mut DoneAgain,
    ) -> Result<(), BooksError> {
        let disabled = self.tenant_standing.get(&tenant.id) == Some(&Standing::Disabled);
        if disabled && tenant.record.standing != Standing::Disabled {
            let record = TenantRecord { standing: Standing::Disabled, ..tenant.record.clone() };
            let place = tenant.place(RecordName::Tenant);
            commit(books, put(books, books.changes(), &place, &record)?)?;
        }
        self.people(books, tenant)?;
        for (id, held) in &tenant.credentials {
            if self.is_gone(*id, held.record.home) {
                let key = tenant.place(RecordName::Key(*id));
                let changes = books.delete(books.changes(), &key)?;
                let description = tenant.place(RecordName::Credential(*id));
                commit(books, books.delete(changes, &description)?)?;
                count(&mut done.credentials);
            }
        }
        for (id, held) in tenant.tokens() {
            if self.tokens.contains(id) || self.users.contains(&held.record.user) {
                let place = tenant.place(RecordName::Token(held.record.user, *id));
                commit(books, books.delete(books.changes(), &place)?)?;
                count(&mut done.tokens);
            }
        }
        for (id, record) in &tenant.workspaces {
            let place = tenant.place(RecordName::Workspace(*id));
            self.workspace(books, (&place, *id, record), done)?;
        }
        for (id, record) in &tenant.users {
            let place = tenant.place(RecordName::User(*id));
            self.user(books, (&place, *id, record), done)?;
        }
        Ok(())
    }

    /// Whoever was signed in or invited is so no more; who set a password since has none.
    fn people(&self, books: &mut Books, tenant: &Tenant) -> Result<(), BooksError> {
        for user in tenant.people.owners() {
            let over = |name: &RecordName| {
                matches!(name, RecordName::Personal(_, Personal::Session(_) | Personal::Invitation))
                    || *name == RecordName::Personal(user, Personal::Password)
                        && self.passwords.contains(&user)
            };
            let gone = tenant.people.names_of(user).into_iter();
            let gone = gone.filter(|name| self.users.contains(&user) || over(name));
            let gone: Vec<RecordPlace> = gone.map(|name| tenant.place(name)).collect();
            if gone.is_empty() {
                continue;
            }
            let delete = |changes, place| books.delete(changes, place);
            let changes = gone.iter().try_fold(books.changes(), delete)?;
            commit(books, changes)?;
        }
        Ok(())
    }

    fn user(
        &self,
        books: &mut Books,
        (place, id, record): (&RecordPlace, UserId, &UserRecord),
        done: &mut DoneAgain,
    ) -> Result<(), BooksError> {
        if self.users.contains(&id) {
            count(&mut done.users);
            return commit(books, books.delete(books.changes(), place)?);
        }
        let disabled = self.standing.get(&id) == Some(&Standing::Disabled);
        if !disabled || record.standing == Standing::Disabled {
            return Ok(());
        }
        count(&mut done.disabled);
        let record = UserRecord { standing: Standing::Disabled, ..record.clone() };
        commit(books, put(books, books.changes(), place, &record)?)
    }

    fn workspace(
        &self,
        books: &mut Books,
        (place, id, record): (&RecordPlace, WorkspaceId, &WorkspaceRecord),
        done: &mut DoneAgain,
    ) -> Result<(), BooksError> {
        if self.workspaces.contains(&id) {
            count(&mut done.workspaces);
            return commit(books, books.delete(books.changes(), place)?);
        }
        let mut record = record.clone();
        let before = record.members.len();
        record.members.retain(|one| !self.users.contains(one) && !self.left.contains(&(id, *one)));
        if record.members.len() == before {
            return Ok(());
        }
        for _ in record.members.len()..before {
            count(&mut done.memberships);
        }
        commit(books, put(books, books.changes(), place, &record)?)
    }

    fn is_gone(&self, id: CredentialId, home: Home) -> bool {
        self.credentials.contains(&id)
            || match home {
                Home::Personal(user) => self.users.contains(&user),
                Home::Workspace(workspace) => self.workspaces.contains(&workspace),
            }
    }
}

/// Most records of a deleted tenant in one commit: a credential's description may have many pieces.
const MAX_TOGETHER: usize = 8;

/// Deletes a tenant with all that the backup has of it; its own record last. Its root is destroyed when the vault is opened.
fn delete_whole(
    books: &mut Books,
    tenant: &Tenant,
    done: &mut DoneAgain,
) -> Result<(), BooksError> {
    for some in tenant.places().chunks(MAX_TOGETHER) {
        let delete = |changes, place| books.delete(changes, place);
        let changes = some.iter().try_fold(books.changes(), delete)?;
        commit(books, changes)?;
    }
    for (number, gone) in [
        (&mut done.credentials, tenant.credentials.len()),
        (&mut done.tokens, tenant.tokens().len()),
        (&mut done.workspaces, tenant.workspaces.len()),
        (&mut done.users, tenant.users.len()),
    ] {
        *number = number.saturating_add(u32::try_from(gone).unwrap_or(u32::MAX));
    }
    Ok(())
}

/// Adds the writing of a record.
///
/// # Errors
/// When it cannot be sealed.
pub fn put<T: serde::Serialize>(
    books: &Books,
    changes: Changes,
    place: &RecordPlace,
    record: &T,
) -> Result<Changes, BooksError> {
    let plain = postcard::to_stdvec(record).map_err(|_| BooksError::Malformed)?;
    books.put(changes, place, &Secret::take(plain))
}

/// Commits changes and waits until they are durable. Blocks.
///
/// # Errors
/// When they are not stored.
pub fn commit(books: &mut Books, changes: Changes) -> Result<(), BooksError> {
    let (outcome, noted) = books.submit(changes);
    outcome.blocking_recv().map_err(|_| BooksError::Stopped)??;
    books.note(noted);
    Ok(())
}

fn count(number: &mut u32) {
    *number = number.saturating_add(1);
}

/// `workspace id / user id`, as the acts of joining and leaving name it.
fn membership(target: &str) -> Option<(WorkspaceId, UserId)> {
    let (workspace, user) = target.split_once('/')?;
    Some((workspace.parse().ok()?, user.parse().ok()?))
}
