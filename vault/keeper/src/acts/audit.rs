//! The journal searched, copied in parts, and archived.
//!
//! Invariant: files are read on another thread, one search or archiving at a time; the loop that answers calls never waits for them.
//! Invariant: what is archived is recorded, on the disk, before it is taken away here.

use std::sync::atomic::{AtomicBool, Ordering};

use strongroom_protocol::operator::audit::{
    AuditAnswer, AuditFilter, AuditPart, AuditRequest, MAX_AUDIT_PART_BYTES,
};
use strongroom_protocol::operator::{Answer, Fault};

use super::watching::on_thread;
use super::{Act, fault, picked};
use crate::clock;
use crate::journal::entry::Entry;
use crate::journal::read::Whose;
use crate::journal::search::{Filter, search};
use crate::journal::{Place, files};

/// One search at a time: more would read the disk for longer than they would help anyone.
static BUSY: AtomicBool = AtomicBool::new(false);

/// The turn of the one who searches.
struct Turn;

impl Turn {
    fn take() -> Result<Self, Fault> {
        if BUSY.swap(true, Ordering::AcqRel) {
            let next = "wait until it is done, then try again";
            return Err(fault("SR-JOURNAL-010", "the journal is being searched already", next));
        }
        Ok(Self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        BUSY.store(false, Ordering::Release);
    }
}

impl Act<'_> {
    pub(super) async fn audit(&self, request: &AuditRequest) -> Result<Answer, Fault> {
        let answer = match request {
            AuditRequest::Search { filter, after, limit } => {
                self.audit_search(filter, *after, *limit).await?
            }
            AuditRequest::Span => self.audit_span()?,
            AuditRequest::Read { part, offset } => self.audit_read(*part, *offset).await?,
            AuditRequest::Archive { bundle } => self.audit_archive(*bundle).await?,
        };
        Ok(Answer::Audit(answer))
    }

    async fn audit_search(
        &self,
        filter: &AuditFilter,
        after: u64,
        limit: u32,
    ) -> Result<AuditAnswer, Fault> {
        let filter = self.resolve(filter)?;
        let (place, span) = self.journal()?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let turn = Turn::take()?;
        let found = on_thread(move || {
            let found = search(&place, span, &filter, (after, limit));
            drop(turn);
            found
        });
        let found = found.await?;
        Ok(AuditAnswer::Found { rows: found.rows, looked: found.looked, end: found.end })
    }

    /// Names to ids; what is gone can be searched for by its id.
    fn resolve(&self, filter: &AuditFilter) -> Result<Filter, Fault> {
        let AuditFilter { since, until, user, token, credential, provider, call, .. } = filter;
        let AuditFilter { outcome, act, operator, .. } = filter;
        let only = self.tenant;
        self.vault(|vault| {
            let tables = &vault.tables;
            let user = user.as_ref().map(|pick| match pick.0.as_ref().parse() {
                Ok(id) => Ok(id),
                Err(_) => picked(tables.pick_user(only, pick)),
            });
            let token = token.as_ref().map(|pick| match pick.0.as_ref().parse() {
                Ok(id) => Ok(id),
                Err(_) => picked(tables.pick_token(only, pick)),
            });
            let credential = credential.as_ref().map(|pick| match pick.0.as_ref().parse() {
                Ok(id) => Ok(id),
                Err(_) => picked(tables.pick_credential(only, pick)),
            });
            Ok(Filter {
                whose: Whose::of(tables.first(), only),
                since: *since,
                until: *until,
                user: user.transpose()?,
                token: token.transpose()?,
                credential: credential.transpose()?,
                provider: provider.clone(),
                call: *call,
                outcome: outcome.clone(),
                act: act.clone(),
                operator: *operator,
            })
        })
    }

    fn audit_span(&self) -> Result<AuditAnswer, Fault> {
        self.vault(|vault| {
            let signed = vault.journal.checkpoint();
            Ok(AuditAnswer::Span {
                first_bundle: files::bundle_of(vault.journal.first_kept()),
                entries: vault.journal.entries(),
                checkpoint: signed.map(|signed| signed.note.clone()).unwrap_or_default(),
            })
        })
    }

    async fn audit_read(&self, part: AuditPart, offset: u64) -> Result<AuditAnswer, Fault> {
        let (place, _) = self.journal()?;
        let bytes = on_thread(move || match part {
            AuditPart::Entries(index) => files::entries(&place, index),
            AuditPart::Hashes { level, index } => files::hashes(&place, level, index),
        });
        let bytes = bytes.await?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = bytes.get(offset..).unwrap_or_default();
        let part = rest.get(..MAX_AUDIT_PART_BYTES).unwrap_or(rest);
        Ok(AuditAnswer::Part(part.to_vec()))
    }

    async fn audit_archive(&self, bundle: u64) -> Result<AuditAnswer, Fault> {
        let (journal, place, first, newest) = self.vault(|vault| {
            let journal = vault.journal.clone();
            let (first, newest) = (journal.first_kept(), journal.checkpoint());
            let place = Place::new(&vault.journal_directory);
            Ok((journal, place, files::bundle_of(first), newest.map_or(0, |signed| signed.size)))
        })?;
        // The bundle that the checkpoint ends in stays: the chain goes on from it.
        let most = files::bundle_of(newest);
        if bundle <= first || bundle > most {
            let what = format!("bundles {first} to {} can be archived", most.saturating_sub(1));
            return Err(fault("SR-JOURNAL-011", what, "choose an earlier moment or entry"));
        }
        let turn = Turn::take()?;
        let entry = Entry::Archive { first: files::first_of(bundle), operator: self.operator };
        let recorded = journal.record(&entry, clock::now()).await;
        recorded.map_err(|error| {
            fault("SR-JOURNAL-001", error.to_string(), "look at the disk, then archive again")
        })?;
        journal.archived_below(bundle);
        on_thread(move || {
            let removed = files::remove(&place, first..bundle);
            drop(turn);
            removed
        })
        .await?;
        let entries = bundle.saturating_sub(first).saturating_mul(files::ENTRIES);
        Ok(AuditAnswer::Archived(entries))
    }
}
