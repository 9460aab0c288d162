//! What auditors and witnesses are told, and what witnesses tell.
//!
//! Invariant: of the key that signs checkpoints only its public half leaves.
//! Invariant: a note is believed that this vault's key has signed and an enrolled witness has cosigned; one that the journal does not
//! continue closes the vault.
//! Distrusts: whoever says to be a witness.

use std::path::PathBuf;
use std::time::Instant;

use strongroom_policy::moment::Moment;
use strongroom_protocol::operator::witness::{
    FromWitness, KeyText, MAX_ENTRIES_BYTES, MAX_PROOF_HASHES, NoteText, ToWitness, WitnessRow,
};
use strongroom_protocol::operator::{Answer, Exit, Fault, Request};
use strongroom_tlog::bundle::push_entry;
use strongroom_tlog::cosignature::WitnessKey;
use strongroom_tlog::{Entries, Size, Verifier, root};

use super::effect::effect;
use super::watching::on_thread;
use super::{Act, fault, full_fault, write};
use crate::clock;
use crate::journal::entry::{ActResult, Entry};
use crate::journal::proofs::{self, Kept};
use crate::journal::{Place, read};
use crate::keeper::After;
use crate::records::RecordName;
use crate::vault::Vault;
use crate::witnesses::{self, MAX_NAME_BYTES, MAX_WITNESSES, Seen, Shown, WitnessRecord};

impl Act<'_> {
    /// The key to pin for audits.
    pub(super) fn audit_key(&self) -> Result<Answer, Fault> {
        self.vault(|vault| Ok(Answer::AuditKey(vault.audit_key.clone())))
    }

    /// Answers a witness.
    pub(super) async fn witness(&self, say: &FromWitness) -> Result<Answer, Fault> {
        let answer = match say {
            FromWitness::Ask { size } => self.witness_ask(Size(*size)).await?,
            FromWitness::Tell { key, note, answer } => {
                self.witness_tell(key, note, answer.as_deref()).await?
            }
            FromWitness::Entries { bundle, from } => self.witness_entries(*bundle, *from).await?,
        };
        Ok(Answer::Witness(answer))
    }

    async fn witness_ask(&self, old: Size) -> Result<ToWitness, Fault> {
        let (signed, place, nonce) = self.vault(|vault| {
            let place = Place::new(&vault.journal_directory);
            Ok((vault.journal.checkpoint(), place, vault.witnesses.nonce()))
        })?;
        let signed = signed.ok_or_else(|| {
            fault("SR-WITNESS-003", "the journal has no checkpoint yet", "ask again in a second")
        })?;
        let new = Size(signed.size);
        let proof = if old > new {
            Vec::new()
        } else {
            on_thread(move || proofs::consistency(&place, old, new)).await?
        };
        let note = NoteText::new(signed.note.clone()).map_err(|_| defect())?;
        let proof: Vec<_> = proof.into_iter().take(MAX_PROOF_HASHES).map(|hash| hash.0).collect();
        Ok(ToWitness::Checkpoint { note, proof, nonce: nonce.map(|nonce| nonce.0) })
    }

    async fn witness_tell(
        &self,
        key: &KeyText,
        note: &NoteText,
        answer: Option<&[u8]>,
    ) -> Result<ToWitness, Fault> {
        let (key, log, place) = self.vault(|vault| {
            let key = enrolled(vault, key)?;
            let log = Verifier::parse(&vault.audit_key).map_err(|_| defect())?;
            Ok((key, log, vault.journal_directory.clone()))
        })?;
        let shown = Shown::verify(note.as_ref(), &key, &log).map_err(|error| {
            fault("SR-WITNESS-004", error.to_string(), "let the witness ask for a checkpoint first")
        })?;
        self.compare(&shown, place.clone()).await?;
        self.take_answer(&key, &shown, answer)?;
        let seen = Seen { size: shown.head.size, at: shown.at };
        let known = self.vault(|vault| Ok(vault.witnesses.seen(key.name())))?;
        if known.is_none_or(|known| known.size < seen.size || known.at < seen.at) {
            on_thread(move || witnesses::keep(&place, &shown)).await?;
            self.vault(|vault| {
                vault.witnesses.saw(key.name().clone(), seen);
                Ok(())
            })?;
        }
        Ok(ToWitness::Taken)
    }

    /// Whether the journal continues what a witness saw; if not, the vault closes.
    async fn compare(&self, shown: &Shown, place: PathBuf) -> Result<(), Fault> {
        let (size, seen) = (shown.head.size, shown.head.root);
        let entries = self.vault(|vault| Ok(vault.journal.entries()))?;
        let what = if size.0 > entries {
            format!("witness {} saw {size} entries, the journal has {entries}", shown.name)
        } else {
            let ours = on_thread(move || root(size, &Kept(&Place::new(&place))));
            if ours.await? == seen {
                return Ok(());
            }
            format!("the first {size} entries are not those that witness {} saw", shown.name)
        };
        let rolled_back = Fault {
            exit: Exit::RolledBack,
            ..fault(
                "SR-WITNESS-006",
                format!("{what}: this vault is an older copy, or its history was rewritten"),
                "keep this disk as evidence; bring back the newest one, or restore a backup on purpose",
            )
        };
        let entry = Entry::Act {
            tenant: None,
            act: "witness.contradicts",
            operator: self.operator,
            target: shown.name.to_string(),
            result: ActResult::Failed,
        };
        self.vault(|vault| {
            vault.journal.note(&entry, clock::now());
            Ok(())
        })?;
        let faulty = rolled_back.clone();
        self.keeper.close("a witness contradicts it", After::Faulty(faulty)).await;
        Err(rolled_back)
    }

    /// Opens what waits for this witness, by its signature over the number of this unsealing.
    fn take_answer(
        &self,
        key: &WitnessKey,
        shown: &Shown,
        answer: Option<&[u8]>,
    ) -> Result<(), Fault> {
        let was_awaited = self.vault(|vault| {
            let (Some(nonce), Some(answer)) = (vault.witnesses.nonce(), answer) else {
                return Ok(false);
            };
            key.verify_answer(nonce, &shown.head, answer).map_err(|error| {
                fault("SR-WITNESS-005", error.to_string(), "let the witness ask again")
            })?;
            let was_awaited = vault.witnesses.answered(key.name());
            if was_awaited {
                let entry = Entry::Act {
                    tenant: None,
                    act: "witness.answered",
                    operator: self.operator,
                    target: key.name().to_string(),
                    result: ActResult::Begun,
                };
                vault.journal.note(&entry, clock::now());
            }
            Ok(was_awaited)
        })?;
        if was_awaited {
            self.keeper.announce();
        }
        Ok(())
    }

    async fn witness_entries(&self, bundle: u64, from: u8) -> Result<ToWitness, Fault> {
        let (covered, place) = self.vault(|vault| {
            let covered = vault.journal.checkpoint().map_or(0, |signed| signed.size);
            Ok((covered, Place::new(&vault.journal_directory)))
        })?;
        let first = bundle.saturating_mul(256).saturating_add(u64::from(from));
        let most = usize::try_from(covered.saturating_sub(first)).unwrap_or(usize::MAX);
        let found = on_thread(move || read::bundle(&place, bundle)).await?;
        let bytes = found.ok_or_else(|| {
            let next =
                "fill the mirror from the archive: copy its bundles into the mirror's directory";
            fault("SR-WITNESS-007", "these entries were archived", next)
        })?;
        let mut answer = Vec::new();
        for entry in Entries::of(&bytes).map_while(Result::ok).skip(usize::from(from)).take(most) {
            if !answer.is_empty() && answer.len().saturating_add(entry.len()) > MAX_ENTRIES_BYTES {
                break;
            }
            push_entry(&mut answer, entry).map_err(|_| defect())?;
        }
        Ok(ToWitness::Entries(answer))
    }

    pub(super) fn witness_list(&self) -> Result<Answer, Fault> {
        self.vault(|vault| {
            let mut rows = Vec::new();
            for (name, record) in &vault.tables.witnesses {
                let seen = vault.witnesses.seen(name);
                let at = seen.map(|seen| seen.at.saturating_mul(1000));
                rows.push(WitnessRow {
                    key: KeyText::new(record.key.clone()).map_err(|_| defect())?,
                    required: record.required,
                    created: record.created,
                    seen_size: seen.map(|seen| seen.size.0),
                    seen_at: at.map(Moment::from_unix_millis),
                });
            }
            Ok(Answer::Witnesses(rows))
        })
    }

    pub(super) async fn witness_add(&self, key: KeyText, required: bool) -> Result<Answer, Fault> {
        let witness =
            WitnessKey::parse(key.as_ref()).map_err(|error| bad_key(&error.to_string()))?;
        let name = witness.name().clone();
        if name.as_str().len() > MAX_NAME_BYTES {
            return Err(bad_key(&format!("a witness's name has at most {MAX_NAME_BYTES} bytes")));
        }
        self.vault(|vault| {
            let known = &vault.tables.witnesses;
            match known.get(&name) {
                Some(record) if record.key != key.as_ref() => {
                    let what = format!("another key is enrolled as {name}");
                    Err(fault(
                        "SR-WITNESS-008",
                        what,
                        "let that witness go first, or use another name",
                    ))
                }
                None if known.len() >= MAX_WITNESSES => Err(full_fault("witnesses")),
                Some(_) | None => Ok(()),
            }
        })?;
        let record = WitnessRecord { key: key.into(), required, created: clock::now() };
        let kept = record.clone();
        self.commit(
            ("witness.add", name.to_string()),
            |vault, changes| {
                write(vault, changes, &vault.place(RecordName::Witness(name.clone())), &record)
            },
            |vault| drop(vault.tables.witnesses.insert(name.clone(), kept)),
        )
        .await?;
        Ok(Answer::Done)
    }

    pub(super) async fn witness_remove(&self, name: KeyText) -> Result<Answer, Fault> {
        let found = self.vault(|vault| {
            let found = vault.tables.witnesses.keys().find(|one| one.as_str() == name.as_ref());
            found.cloned().ok_or_else(|| {
                let what = format!("no witness is called '{}'", name.as_ref());
                fault("SR-PICK-001", what, "see 'strongroom witness list'")
            })
        })?;
        self.commit(
            ("witness.remove", found.to_string()),
            |vault, changes| {
                vault.books.delete(changes, &vault.place(RecordName::Witness(found.clone())))
            },
            |vault| {
                vault.tables.witnesses.remove(&found);
                vault.witnesses.forget(&found);
            },
        )
        .await?;
        let place = self.vault(|vault| Ok(vault.journal_directory.clone()))?;
        on_thread(move || witnesses::forget(&place, &found)).await?;
        Ok(Answer::Done)
    }

    /// Refuses what would give somebody a right that they have not, while a required witness has not answered.
    pub(super) fn refuse_growth(&self, request: &Request) -> Result<(), Fault> {
        let is_call = matches!(request, Request::CredentialTest(_));
        let is_farewell = matches!(request, Request::WitnessRemove(_));
        if !effect(request).waits_for_witness && !is_call {
            return Ok(());
        }
        let now = Instant::now();
        self.vault(|vault| match vault.witnesses.awaited(now) {
            None => Ok(()),
            // A witness that is lost for good: an operator may let it go once the wait is over.
            Some(_) if (is_call || is_farewell) && vault.witnesses.let_calls(now) => Ok(()),
            Some(awaited) => {
                let names = awaited.witnesses.join(", ");
                Err(Fault {
                    exit: Exit::Unsealing,
                    ..fault(
                        "SR-WITNESS-009",
                        format!("the vault waits for witness {names}: until it answers, rights can only be taken"),
                        "start it: 'strongroom witness run --state DIR --once'",
                    )
                })
            }
        })
    }
}

/// The enrolled witness that says to have this key.
fn enrolled(vault: &Vault, key: &KeyText) -> Result<WitnessKey, Fault> {
    let known = vault.tables.witnesses.values().find(|record| record.key == key.as_ref());
    let known = known.ok_or_else(|| {
        let next = "at the vault: strongroom witness add with the key that 'witness init' printed";
        fault("SR-WITNESS-010", "this witness is not enrolled", next)
    })?;
    WitnessKey::parse(&known.key).map_err(|_| defect())
}

fn bad_key(why: &str) -> Fault {
    fault("SR-WITNESS-011", why, "take the line that 'strongroom witness init' prints")
}

fn defect() -> Fault {
    fault(
        "SR-INTERNAL-010",
        "what the vault keeps of its journal cannot be read",
        "report this as a defect",
    )
}
