//! Looking: status, doctor, journal and usage.
//!
//! Invariant: nothing here changes anything; reading files happens on another thread.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use strongroom_policy::id::{CredentialId, TenantId, TokenId, UserId, WorkspaceId};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::Label;
use strongroom_policy::provider::Origin;
use strongroom_policy::rules::Home;
use strongroom_protocol::operator::listing::{JournalRow, UsageRow};
use strongroom_protocol::operator::{Answer, Check, Fault, Status, UsageBy, Verdict};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::sealing::progress_of;
use super::{Act, fault, provisional_fault};
use crate::journal::read::{self, Sums, Whose};
use crate::journal::sinks::{Need, SinkHealth};
use crate::journal::{JournalError, Place};
use crate::keeper::State;
use crate::tables::{Tables, Tenant};
use crate::vault::{Vault, seal_kind};

/// Longest that a tail waits.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How often a waiting tail looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Act<'_> {
    pub(super) async fn status(&self) -> Answer {
        let is_sealed = matches!(&*self.keeper.state.borrow(), State::Sealed(_));
        let marked = is_sealed && self.is_marked().await;
        let state = self.keeper.vault_state();
        let mut status = Status {
            state,
            unsealing: None,
            seal: None,
            vault_key: None,
            courier: self.keeper.has_courier(Origin::BuiltIn),
            courier_defined: self.keeper.has_courier(Origin::Operator),
            gateway: self.keeper.has_gateway(),
            journal_entries: 0,
            credentials: 0,
            fault: None,
            old_records: 0,
            awaited: None,
            incoming: false,
            sealed_by_operator: false,
        };
        match &mut *self.keeper.state.borrow_mut() {
            State::Uninitialised(None) | State::Opening => {}
            State::Uninitialised(Some(founding)) => {
                status.seal = Some(seal_kind(founding.sealed()));
                status.unsealing = founding.standing().as_ref().map(progress_of);
                status.fault = Some(provisional_fault());
            }
            State::Sealed(waiting) => {
                status.seal = Some(seal_kind(&waiting.sealed));
                status.sealed_by_operator = marked;
                let now = Instant::now();
                let standing = waiting.ceremony.standing(now, &waiting.sealed);
                status.unsealing = standing.as_ref().map(progress_of);
            }
            State::Ready(vault) => {
                status.seal = Some(vault.seal);
                status.incoming = vault.incoming;
                status.vault_key = Some(vault.vault_key.clone());
                status.journal_entries = vault.journal.entries();
                let credentials = vault.tables.count(|tenant| tenant.credentials.len());
                status.credentials = u32::try_from(credentials).unwrap_or(u32::MAX);
                let old = vault.books.generations().old;
                status.old_records = u64::try_from(old).unwrap_or(u64::MAX);
                status.awaited = vault.witnesses.awaited(Instant::now());
                status.fault = vault.journal.health().err().map(|error| journal_fault(&error));
            }
            State::Faulty(fault) => status.fault = Some(fault.clone()),
        }
        Answer::Status(status)
    }

    pub(super) fn doctor(&self) -> Answer {
        let mut checks = self.keeper.settings.standing.clone();
        checks.push(match &*self.keeper.state.borrow() {
            State::Ready(vault) => journal_check(vault),
            State::Faulty(why) => {
                check("vault", Verdict::Fail, why.message.clone(), why.next.clone())
            }
            State::Uninitialised(_) | State::Sealed(_) | State::Opening => check(
                "vault",
                Verdict::Warn,
                "sealed or not made yet".to_owned(),
                Some("strongroom unseal".to_owned()),
            ),
        });
        if let State::Ready(vault) = &*self.keeper.state.borrow() {
            checks.extend(vault.journal.sinks().into_iter().map(sink_check));
            checks.push(witnesses_check(vault));
            checks.extend(vault.tables.restored.is_some().then(|| {
                let detail =
                    "restored and not confirmed: only revocations and deletions can be made";
                check(
                    "restore",
                    Verdict::Warn,
                    detail.to_owned(),
                    Some("strongroom backup confirm".to_owned()),
                )
            }));
        }
        let fix = "it is started again by 'strongroom up'; see its log".to_owned();
        for (name, there) in [
            ("courier", self.keeper.has_courier(Origin::BuiltIn)),
            ("courier-defined", self.keeper.has_courier(Origin::Operator)),
            ("gateway", self.keeper.has_gateway()),
        ] {
            checks.push(if there {
                check(name, Verdict::Ok, "connected".to_owned(), None)
            } else {
                check(name, Verdict::Fail, "not connected".to_owned(), Some(fix.clone()))
            });
        }
        Answer::Doctor(checks)
    }

    pub(super) async fn audit_tail(
        &self,
        after: Option<u64>,
        limit: u32,
        wait_ms: u32,
    ) -> Result<Answer, Fault> {
        let until = Instant::now()
            .checked_add(Duration::from_millis(wait_ms.into()).min(MAX_WAIT))
            .unwrap_or_else(Instant::now);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        loop {
            let entries = self.vault(|vault| Ok(vault.journal.entries()))?;
            let news = after.is_none_or(|after| entries > after);
            if news || Instant::now() >= until {
                let (place, span) = self.journal()?;
                let rows: Vec<JournalRow> =
                    on_thread(move || read::tail(&place, span, after, limit)).await?;
                return Ok(Answer::Journal(rows));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    pub(super) async fn usage(&self, since_ms: u64, by: UsageBy) -> Result<Answer, Fault> {
        let (place, span) = self.journal()?;
        let only = self.tenant;
        let first = self.vault(|vault| Ok(vault.tables.first()))?;
        let whose = Whose::of(first, only);
        let sums = Sums { since: Moment::from_unix_millis(since_ms), by, whose };
        let mut rows: Vec<UsageRow> = on_thread(move || read::usage(&place, span, &sums)).await?;
        self.vault(|vault| {
            if by == UsageBy::Workspace {
                rows = by_workspace(&vault.tables, std::mem::take(&mut rows));
            }
            for row in &mut rows {
                row.label =
                    vault.tables.some(only).find_map(|tenant| label_of(tenant, &row.key, by));
            }
            Ok(())
        })?;
        Ok(Answer::Usage(rows))
    }

    /// Where the journal lies, its newest entry's number and the oldest one's that is kept.
    pub(super) fn journal(&self) -> Result<(Place, (u64, u64)), Fault> {
        self.vault(|vault| {
            let span = (vault.journal.entries(), vault.journal.first_kept());
            Ok((Place::new(&vault.journal_directory), span))
        })
    }
}

fn journal_fault(error: &JournalError) -> Fault {
    let next = "look at the disk, then 'strongroom seal' and 'strongroom unseal'";
    fault("SR-JOURNAL-001", error.to_string(), next)
}

fn witnesses_check(vault: &Vault) -> Check {
    let run = "strongroom witness run --state DIR --once".to_owned();
    if let Some(awaited) = vault.witnesses.awaited(Instant::now()) {
        let detail = format!("{} did not answer since unsealing", awaited.witnesses.join(", "));
        return check("witnesses", Verdict::Warn, detail, Some(run));
    }
    let known = vault.tables.witnesses.len();
    let behind = vault.tables.witnesses.keys().filter(|name| vault.witnesses.seen(name).is_none());
    let behind: Vec<_> = behind.map(ToString::to_string).collect();
    if known == 0 {
        let detail = "none: a disk that is rolled back as a whole goes unnoticed".to_owned();
        let fix = "strongroom witness init, on a disk that is not this one".to_owned();
        return check("witnesses", Verdict::Warn, detail, Some(fix));
    }
    if behind.is_empty() {
        return check("witnesses", Verdict::Ok, format!("{known} enrolled"), None);
    }
    let detail = format!("{} has seen nothing yet", behind.join(", "));
    check("witnesses", Verdict::Warn, detail, Some(run))
}

fn journal_check(vault: &Vault) -> Check {
    let entries = vault.journal.entries();
    match vault.journal.health() {
        Ok(()) if let Some(refused) = vault.journal.refused() => refused_check(refused),
        Ok(()) => {
            let signed = vault.journal.checkpoint().map_or(0, |signed| signed.size);
            let detail = format!("{entries} entries, written; {signed} of them under a checkpoint");
            check("journal", Verdict::Ok, detail, None)
        }
        Err(error) => check(
            "journal",
            Verdict::Fail,
            match vault.journal.last_words() {
                0 => error.to_string(),
                words => format!("{error}; {words} words about it in the reserve"),
            },
            Some("look at the disk, then seal and unseal".to_owned()),
        ),
    }
}

/// The last entry was refused; the next one that can be written tells of the gap and ends it.
fn refused_check((refused, why): (u64, &str)) -> Check {
    let detail = format!("{why}: {refused} entries were refused, and none was written since");
    let fix = "make room; calls then go on by themselves".to_owned();
    check("journal", Verdict::Fail, detail, Some(fix))
}

fn sink_check(sink: SinkHealth) -> Check {
    let SinkHealth { name, need, fails, lost } = sink;
    let name = format!("journal sink {name}");
    let fix = || Some("mend it; if it was taken away, restart strongroom and unseal".to_owned());
    match (fails, need, lost) {
        (Some(why), Need::Required, _) => {
            check(&name, Verdict::Fail, format!("{why}; no call is admitted"), fix())
        }
        (Some(why), Need::Optional, lost) => {
            check(&name, Verdict::Warn, format!("{why}; it did not get {lost} entries"), fix())
        }
        (None, _, 0) => check(&name, Verdict::Ok, "takes entries".to_owned(), None),
        (None, _, lost) => {
            let detail = format!("takes entries; it did not get {lost} of them before");
            check(
                &name,
                Verdict::Warn,
                detail,
                Some("copy them: strongroom audit export".to_owned()),
            )
        }
    }
}

fn check(name: &str, verdict: Verdict, detail: String, fix: Option<String>) -> Check {
    Check { name: name.to_owned(), verdict, detail, fix }
}

/// Sums of credentials, put together by the workspace whose they are; those of people, and of credentials that are gone, under `-`.
fn by_workspace(tables: &Tables, rows: Vec<UsageRow>) -> Vec<UsageRow> {
    let mut sums: BTreeMap<String, UsageRow> = BTreeMap::new();
    for row in rows {
        let held = row.key.parse::<CredentialId>().ok();
        let held =
            held.and_then(|id| tables.some(None).find_map(|tenant| tenant.credentials.get(&id)));
        let key = match held.map(|held| held.record.home) {
            Some(Home::Workspace(id)) => id.to_string(),
            Some(Home::Personal(_)) | None => "-".to_owned(),
        };
        match sums.get_mut(&key) {
            Some(sum) => sum.add(&row),
            None => drop(sums.insert(key.clone(), UsageRow { key, ..row })),
        }
    }
    sums.into_values().collect()
}

/// The name of something whose sum is shown to whoever may see its tenant.
fn label_of(tenant: &Tenant, key: &str, by: UsageBy) -> Option<Label> {
    match by {
        UsageBy::User => {
            let id = key.parse::<UserId>().ok()?;
            tenant.users.get(&id).map(|one| one.label.clone())
        }
        UsageBy::Token => {
            let id = key.parse::<TokenId>().ok()?;
            tenant.tokens().get(&id).map(|one| one.record.label.clone())
        }
        UsageBy::Credential => {
            let id = key.parse::<CredentialId>().ok()?;
            tenant.credentials.get(&id).map(|one| one.record.label.clone())
        }
        UsageBy::Tenant => {
            let id = key.parse::<TenantId>().ok()?;
            (tenant.id == id).then(|| tenant.record.label.clone())
        }
        UsageBy::Workspace => {
            let id = key.parse::<WorkspaceId>().ok()?;
            tenant.workspaces.get(&id).map(|one| one.label.clone())
        }
        UsageBy::Model | UsageBy::Provider => None,
    }
}

/// Reads the journal where a disk may be waited for.
pub(super) async fn on_thread<T: Send + 'static, E: Display + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Fault> {
    let next = "look at the journal's directory and the disk";
    match spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            Err(fault("SR-JOURNAL-004", format!("the journal cannot be read: {error}"), next))
        }
        Err(_) => Err(fault("SR-JOURNAL-004", "the reading thread ended", next)),
    }
}
