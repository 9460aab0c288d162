//! What a restore brings back, what it does not, and what a crash leaves of it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use strongroom_policy::id::SessionId;
use strongroom_policy::moment::Moment;
use strongroom_policy::rules::Standing;
use strongroom_protocol::operator::SealKind;
use strongroom_protocol::operator::backup::{DoneAgain, LeftOpen};
use strongroom_protocol::person::{Agent, Told};
use strongroom_store::Choice;
use strongroom_tlog::{Bundle, Size};

use super::{RESTORE_DIRECTORY, RestoreError, STAGING_DIRECTORY, place, stage, tidy};
use crate::acts::restore_fault;
use crate::backup::content::JournalPoint;
use crate::backup::fixture::{
    ACME, ACME_CREDENTIAL, ACME_TOKEN, ACME_USER, CREDENTIAL, NOWHERE, OTHER_TOKEN, OTHER_USER,
    SHARED, Small, TOKEN, USER, WORKSPACE,
};
use crate::backup::journals::{self, JournalRefusal};
use crate::backup::transfer::{self, BACKUP_FILE, TRANSFER_DIRECTORY, journal_directory};
use crate::erase::afterlife;
use crate::founding::{FOUNDING_DIRECTORY, VAULT_DIRECTORY};
use crate::journal::entry::{ActResult, Entry};
use crate::journal::found::{Found, Head};
use crate::journal::{Journal, Manner};
use crate::keyring::ShredId;
use crate::keys::{self, MacKey};
use crate::people::{InvitationRecord, Personal, Scheme, SessionRecord, VerifierRecord};
use crate::records::RecordName;
use crate::seal::Sealed;
use crate::tpm::Demand;
use crate::vault::{
    JOURNAL_DIRECTORY, OpenError, Opening, Vault, algorithm, audit_signer, tenant_of,
};

/// Writes acts into the vault's journal in a directory, and answers where it stands.
fn journal(
    small: &Small,
    directory: &Path,
    acts: &[(&'static str, String, ActResult)],
) -> JournalPoint {
    fs::create_dir_all(directory).unwrap();
    let signer = audit_signer(&small.unsealed, small.store).unwrap();
    let unsealed = small.unsealed.lock().unwrap();
    let keyring = unsealed.keyring().keyring();
    let key = keys::derive_journal_key(keyring.system(), keyring.store()).unwrap();
    let key = MacKey::new(&key).unwrap();
    let found = Found::look(directory, key, &signer.verifier(), Head::default()).unwrap();
    let (journal, _) = Journal::start(found, signer, &Manner::default()).unwrap();
    for some in acts.chunks(64) {
        let entry = |(act, target, result): &(&'static str, String, ActResult)| {
            if act.starts_with("person.") {
                let (tenant, user) = (tenant_of(small.store), target.parse().unwrap());
                return Entry::Person { act, tenant, user, session: None };
            }
            Entry::Act { tenant: None, act, operator: 0, target: target.clone(), result: *result }
        };
        let entries: Vec<_> = some.iter().map(entry).collect();
        journal.record_blocking(&entries, Moment::from_unix_millis(9)).unwrap();
    }
    journal.finish();
    journals::point(directory).unwrap()
}

fn begun<T: std::fmt::Display>(act: &'static str, target: T) -> (&'static str, String, ActResult) {
    (act, format!("{target}"), ActResult::Begun)
}

/// What lay in a backup's transfer directory when it was brought.
fn bring(data: &Path, backup: &Path, journals: &[&Path]) -> PathBuf {
    let brought = data.join(TRANSFER_DIRECTORY);
    fs::create_dir(&brought).unwrap();
    fs::copy(backup, brought.join(BACKUP_FILE)).unwrap();
    for (number, journal) in (0_u8..).zip(journals) {
        copy(journal, &journal_directory(&brought, number));
    }
    brought
}

fn data(small: &Small, name: &str) -> PathBuf {
    let data = small.scratch.path(name);
    fs::create_dir(&data).unwrap();
    fs::create_dir(data.join(JOURNAL_DIRECTORY)).unwrap();
    data
}

fn open(small: &Small, data: &Path) -> Result<Vault, OpenError> {
    let sealed = Sealed::load(&place(data).unwrap().unwrap()).unwrap();
    let unsealed = sealed.unseal(small.root(), algorithm(), &mut getrandom::fill).unwrap();
    let now = Moment::from_unix_millis(99);
    let opening = Opening {
        operator: 0,
        way: "passphrase",
        failed_attempts: 0,
        now,
        tpm: None,
        demand: Demand::None,
        confirmed: None,
        settings: std::sync::Arc::default(),
        accepted: None,
    };
    Vault::open(
        (unsealed, SealKind::Passphrase),
        (data, &Choice::Sled),
        &opening,
        &Manner::default(),
    )
}

fn close(vault: Vault) {
    let (journal, books, standing) = vault.into_writers();
    journal.finish();
    drop((books, standing));
}

fn restore(
    small: &Small,
    name: &str,
    backup: &Path,
    journals: &[&Path],
) -> Result<Vault, OpenError> {
    let data = data(small, name);
    stage(&data, &bring(&data, backup, journals)).unwrap();
    open(small, &data)
}

/// Everything that can be taken away, taken away after the backup.
fn taken() -> Vec<(&'static str, String, ActResult)> {
    vec![
        begun("credential.delete", CREDENTIAL),
        begun("token.revoke", TOKEN),
        begun("user.disable", OTHER_USER),
        begun("workspace.leave", format!("{WORKSPACE}/{OTHER_USER}")),
        begun("credential.rotate", SHARED),
        begun("user.enable", OTHER_USER),
        ("user.enable", OTHER_USER.to_string(), ActResult::Failed),
    ]
}

/// Red when the acts are not applied, or when the shred key is not destroyed again.
#[test]
fn what_was_taken_away_after_the_backup_is_taken_away_again() {
    let small = Small::make();
    let log = small.scratch.path("log");
    let point = journal(&small, &log, &[begun("token.create", TOKEN)]);
    let (backup, written) = small.backup_at("one", point);
    journal(&small, &log, &taken());
    let vault = restore(&small, "data", &backup, &[&log]).unwrap();
    let tables = &vault.tables;
    let first = tables.of_first();
    assert!(
        !first.credentials.contains_key(&CREDENTIAL) && first.credentials.contains_key(&SHARED)
    );
    assert!(!first.tokens().contains_key(&TOKEN) && first.tokens().contains_key(&OTHER_TOKEN));
    assert_eq!(first.users[&OTHER_USER].standing, Standing::Disabled);
    assert_eq!(first.workspaces[&WORKSPACE].members, [USER]);
    let unsealed = vault.unsealed.lock().unwrap();
    assert!(unsealed.keyring().keyring().shred_key(ShredId::of(CREDENTIAL)).is_err());
    assert!(unsealed.keyring().keyring().shred_key(ShredId::of(SHARED)).is_ok());
    drop(unsealed);
    let restored = tables.restored.clone().unwrap();
    assert_eq!((restored.commit, restored.sleeping_tokens), (written.commit, 1));
    assert_eq!(restored.journal.unwrap().entries, 8);
    let done = DoneAgain {
        credentials: 1,
        tokens: 1,
        disabled: 1,
        memberships: 1,
        ..DoneAgain::default()
    };
    assert_eq!(restored.done_again, done);
    let open = LeftOpen { act: "credential.rotate".to_owned(), target: SHARED.to_string() };
    assert_eq!((restored.left_open, restored.left_open_count), (vec![open], 1));
    assert!(tables.subject_of(&[8; 32]).is_none(), "it sleeps until an operator has looked");
    assert!(vault.journal.entries() > 8, "the journal goes on");
    close(vault);
    let again = open_again(&small, "data");
    assert!(again.tables.restored.is_some(), "it waits across an unsealing");
    close(again);
}

/// Red when a session or an invitation is brought back, or an older password.
#[test]
fn nobody_is_signed_in_after_a_restore_and_an_older_password_signs_nobody_in() {
    let mut small = Small::make();
    let now = Moment::from_unix_millis(5);
    let told = Told { address: IpAddr::V4(Ipv4Addr::LOCALHOST), agent: Agent::Other };
    let session = SessionRecord::begin([1; 32], told, now);
    let invitation = InvitationRecord { hash: [2; 32], made: now, expires: now };
    let password = VerifierRecord {
        scheme: Scheme::Pbkdf2Sha256 { iterations: 100_000, salt: [3; 16] },
        pepper: 1,
        mac: [4; 32],
        set: now,
    };
    let ids = [SessionId::from_random([5; 16]), SessionId::from_random([6; 16])];
    for user in [USER, OTHER_USER] {
        for id in ids {
            small.put(&RecordName::Personal(user, Personal::Session(id)), &session);
        }
        small.put(&RecordName::Personal(user, Personal::Invitation), &invitation);
        small.put(&RecordName::Personal(user, Personal::Password), &password);
    }
    let log = small.scratch.path("log");
    let point = journal(&small, &log, &[begun("token.create", TOKEN)]);
    let (backup, _) = small.backup_at("one", point);
    journal(&small, &log, &[begun("person.refused", OTHER_USER), begun("person.password", USER)]);
    let vault = restore(&small, "data", &backup, &[&log]).unwrap();
    let people = &vault.tables.tenant(vault.tables.first()).unwrap().people;
    assert_eq!(people.sessions().count(), 0);
    assert_eq!(people.invited(&[2; 32]), None);
    assert_eq!(people.with_password().collect::<Vec<_>>(), [OTHER_USER]);
    let open = LeftOpen { act: "person.password".to_owned(), target: USER.to_string() };
    assert_eq!(vault.tables.restored.as_ref().unwrap().left_open, [open]);
    close(vault);
    close(open_again(&small, "data"));
}

/// Red when a backup is of the first tenant only, or what happened to one tenant is done to another as well.
#[test]
fn a_backup_brings_every_tenant_back_each_with_its_own() {
    let mut small = Small::make();
    small.add_acme();
    let log = small.scratch.path("log");
    let point = journal(&small, &log, &[begun("tenant.create", ACME)]);
    let (backup, _) = small.backup_at("one", point);
    journal(&small, &log, &[begun("token.revoke", TOKEN), begun("tenant.disable", ACME)]);
    let mut vault = restore(&small, "data", &backup, &[&log]).unwrap();
    let acme = vault.tables.tenant(ACME).unwrap();
    assert_eq!(acme.record.standing, Standing::Disabled);
    assert!(acme.users.contains_key(&ACME_USER) && acme.credentials.contains_key(&ACME_CREDENTIAL));
    assert!(acme.tokens().contains_key(&ACME_TOKEN));
    let first = vault.tables.of_first();
    assert!(!first.users.contains_key(&ACME_USER) && first.users.contains_key(&USER));
    assert!(!first.tokens().contains_key(&TOKEN));
    assert_eq!(vault.tables.restored.take().unwrap().done_again.tokens, 1);
    // Awake, its token is known, and speaks for somebody who may not act.
    let subject = vault.tables.subject_of(&[6; 32]).unwrap();
    assert_eq!((subject.tenant, subject.standing), (ACME, Standing::Disabled));
    close(vault);
}

/// Red when the deletion is not done again, or when a root without records stays.
#[test]
fn a_tenant_that_was_deleted_after_the_backup_is_deleted_again_with_its_root() {
    let mut small = Small::make();
    small.add_acme();
    let log = small.scratch.path("log");
    let point = journal(&small, &log, &[begun("tenant.create", ACME)]);
    let (backup, _) = small.backup_at("one", point);
    journal(&small, &log, &[begun("tenant.disable", ACME), begun("tenant.delete", ACME)]);
    let vault = restore(&small, "data", &backup, &[&log]).unwrap();
    assert!(vault.tables.tenant(ACME).is_none());
    assert!(vault.tables.of_first().users.contains_key(&USER));
    let done = vault.tables.restored.as_ref().unwrap().done_again;
    assert_eq!((done.users, done.tokens, done.credentials), (1, 1, 1));
    let unsealed = vault.unsealed.lock().unwrap();
    let keyring = unsealed.keyring().keyring();
    assert!(keyring.tenant_key(ACME, keyring.epoch()).is_err());
    assert!(keyring.shred_key(ShredId::of(ACME_USER)).is_err());
    assert!(keyring.shred_key(ShredId::of(USER)).is_ok());
    drop(unsealed);
    close(vault);
    let again = open_again(&small, "data");
    assert!(again.tables.tenant(ACME).is_none());
    close(again);
}

/// A crash between a tenant's root and its record.
// Red when `settle_keyring` leaves roots without a record.
#[test]
fn a_root_of_a_tenant_that_was_never_made_is_destroyed_when_the_vault_is_opened() {
    let small = Small::make();
    small.unsealed.lock().unwrap().keyring_mut().add_tenant(ACME, &mut getrandom::fill).unwrap();
    let (backup, _) = small.backup_at("one", NOWHERE);
    let vault = restore(&small, "data", &backup, &[]).unwrap();
    let unsealed = vault.unsealed.lock().unwrap();
    assert_eq!(unsealed.keyring().keyring().tenants().count(), 1);
    drop(unsealed);
    close(vault);
}

fn open_again(small: &Small, name: &str) -> Vault {
    open(small, &small.scratch.path(name)).unwrap()
}

/// Red when `Tables::subject_of` asks for the journal alone.
#[test]
fn every_token_of_a_restored_vault_sleeps_with_a_journal_or_without() {
    let small = Small::make();
    let log = small.scratch.path("log");
    let point = journal(&small, &log, &[begun("token.create", TOKEN)]);
    let (backup, _) = small.backup_at("one", point);
    let vault = restore(&small, "none", &backup, &[]).unwrap();
    let restored = vault.tables.restored.clone().unwrap();
    assert_eq!((restored.journal, restored.sleeping_tokens), (None, 2));
    assert!(
        vault.tables.subject_of(&[9; 32]).is_none() && vault.tables.subject_of(&[8; 32]).is_none()
    );
    close(vault);
    // One that ends before the backup tells nothing either.
    let older = small.scratch.path("older");
    copy(&log, &older);
    let later = journal(&small, &log, &[begun("a", 1), begun("b", 2), begun("c", 3)]);
    let (backup, _) = small.backup_at("two", later);
    let vault = restore(&small, "older data", &backup, &[&older]).unwrap();
    assert_eq!(vault.tables.restored.as_ref().unwrap().sleeping_tokens, 2);
    close(vault);
}

#[test]
fn a_journal_that_does_not_hold_or_went_another_way_stops_the_restore() {
    let small = Small::make();
    let (log, other) = (small.scratch.path("log"), small.scratch.path("other"));
    let point = journal(&small, &log, &[begun("token.create", TOKEN)]);
    let (backup, _) = small.backup_at("one", point);
    journal(&small, &other, &[begun("token.create", OTHER_TOKEN), begun("token.revoke", TOKEN)]);
    let refusal = |name: &str, log: &Path| match restore(&small, name, &backup, &[log]) {
        Err(OpenError::Restore(RestoreError::Journal { refusal, .. })) => refusal,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was restored"),
    };
    assert!(matches!(refusal("fork", &other), JournalRefusal::Fork(1)));
    journal(&small, &log, &[begun("token.revoke", TOKEN)]);
    let tail = fs::read(log.join("tail")).unwrap();
    let at = tail.windows(12).rposition(|part| part == b"token.revoke").unwrap();
    let changed = [&tail[..at], b"token.create", &tail[at + 12..]].concat();
    fs::write(log.join("tail"), changed).unwrap();
    assert!(matches!(refusal("changed", &log), JournalRefusal::Damaged(2)));
    let data = small.scratch.path("changed");
    assert!(!data.join(VAULT_DIRECTORY).exists() && data.join(RESTORE_DIRECTORY).exists());
    assert!(!data.join(FOUNDING_DIRECTORY).exists(), "what was half built is erased");
    // Another try without it.
    let brought = bring(&data, &backup, &[]);
    stage(&data, &brought).unwrap();
    close(open(&small, &data).unwrap());
}

/// Red when `note` drops every act that is said to have failed.
#[test]
fn a_revocation_that_is_said_to_have_failed_is_done_again_all_the_same() {
    let small = Small::make();
    let log = small.scratch.path("log");
    let point = journal(&small, &log, &[begun("token.create", TOKEN)]);
    let (backup, _) = small.backup_at("one", point);
    let failed = ("token.revoke", TOKEN.to_string(), ActResult::Failed);
    journal(&small, &log, &[begun("token.revoke", TOKEN), failed]);
    let vault = restore(&small, "data", &backup, &[&log]).unwrap();
    assert!(!vault.tables.of_first().tokens().contains_key(&TOKEN));
    close(vault);
}

/// Red when `gather` does not look at the checkpoint.
#[test]
fn a_journal_whose_end_was_cut_off_stops_the_restore_where_its_checkpoint_tells() {
    let small = Small::make();
    let log = small.scratch.path("log");
    let point = journal(&small, &log, &[begun("token.create", TOKEN)]);
    let (backup, _) = small.backup_at("one", point);
    journal(&small, &log, &[begun("token.revoke", TOKEN)]);
    let tail = fs::read(log.join("tail")).unwrap();
    let first = 2 + usize::from(u16::from_be_bytes([tail[0], tail[1]]));
    fs::write(log.join("tail"), &tail[..first]).unwrap();
    let Err(OpenError::Restore(RestoreError::Journal { refusal, .. })) =
        restore(&small, "data", &backup, &[&log])
    else {
        panic!("it was restored")
    };
    assert!(matches!(refusal, JournalRefusal::Cut { entries: 1, signed: 2 }));
}

/// Red when `gather` takes a journal without a checkpoint, or under anybody's signature, for whole.
#[test]
fn a_journal_whose_end_and_checkpoint_are_gone_stops_the_restore() {
    let small = Small::make();
    let log = small.scratch.path("log");
    let point = journal(&small, &log, &[begun("token.create", TOKEN)]);
    let (backup, _) = small.backup_at("one", point);
    journal(&small, &log, &[begun("token.revoke", TOKEN)]);
    let tail = fs::read(log.join("tail")).unwrap();
    let first = 2 + usize::from(u16::from_be_bytes([tail[0], tail[1]]));
    fs::write(log.join("tail"), &tail[..first]).unwrap();
    let signed = fs::read_to_string(log.join("checkpoint")).unwrap();
    let forged = signed.replacen("\n2\n", "\n1\n", 1);
    assert_ne!(signed, forged);
    for (name, checkpoint) in [("none", None), ("forged", Some(forged))] {
        match checkpoint {
            Some(text) => fs::write(log.join("checkpoint"), text).unwrap(),
            None => fs::remove_file(log.join("checkpoint")).unwrap(),
        }
        let Err(OpenError::Restore(RestoreError::Journal { refusal, .. })) =
            restore(&small, name, &backup, &[&log])
        else {
            panic!("it was restored")
        };
        assert!(matches!(refusal, JournalRefusal::Unsigned), "{refusal}");
    }
}

/// Red when the restored vault's commits begin above the backup's alone, or when the entry of the restore is written for the
/// first try only.
#[test]
fn a_backup_is_restored_a_second_time_above_the_first_and_each_restore_is_in_the_journal_once() {
    let small = Small::make();
    let log = small.scratch.path("log");
    let point = journal(&small, &log, &[begun("token.create", TOKEN)]);
    let (backup, _) = small.backup_at("one", point);
    let first = restore(&small, "first", &backup, &[&log]).unwrap();
    let above = first.books.commit();
    close(first);
    close(open_again(&small, "first"));
    let journal = small.scratch.path("first").join(JOURNAL_DIRECTORY);
    assert_eq!(restores_in(&journal), 1);
    let second = restore(&small, "second", &backup, &[&journal]).unwrap();
    assert!(second.books.commit() >> 32 > above >> 32);
    close(second);
    close(open_again(&small, "second"));
    assert_eq!(restores_in(&small.scratch.path("second").join(JOURNAL_DIRECTORY)), 2);
    // A first try that went no further than the vault's place: a TPM that must be asked, a disk that is full.
    let third = data(&small, "third");
    stage(&third, &bring(&third, &backup, &[&log])).unwrap();
    let sealed = Sealed::load(&place(&third).unwrap().unwrap()).unwrap();
    let unsealed = sealed.unseal(small.root(), algorithm(), &mut getrandom::fill).unwrap();
    let now = Moment::from_unix_millis(55);
    drop(super::complete(unsealed, (&third, &Choice::Sled), now).unwrap());
    close(open(&small, &third).unwrap());
    assert_eq!(restores_in(&third.join(JOURNAL_DIRECTORY)), 1);
}

/// A journal of two full bundles before the backup's point, and what was taken away behind it.
fn long(small: &Small) -> (PathBuf, PathBuf) {
    let log = small.scratch.path("log");
    let point = journal(small, &log, &vec![begun("token.create", TOKEN); 520]);
    let (backup, _) = small.backup_at("one", point);
    journal(small, &log, &[begun("token.revoke", TOKEN)]);
    (log, backup)
}

fn edit(path: &Path, from: &[u8], to: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(from.len()).position(|part| part == from).unwrap();
    bytes[at..at + from.len()].copy_from_slice(to);
    fs::write(path, bytes).unwrap();
}

type Spoil = fn(&Path);

/// Red when `surviving` does not judge the journal as a whole: the restore then ends in a vault that does not open.
#[test]
fn a_journal_that_would_keep_the_vault_shut_is_refused_while_the_backup_is_still_there() {
    let small = Small::make();
    let (log, backup) = long(&small);
    let spoils: [(&str, Spoil); 3] = [
        ("edited", |log| edit(&log.join("tile/entries/000"), b"token.create", b"token.revoke")),
        ("missing", |log| fs::remove_file(log.join("tile/entries/000")).unwrap()),
        ("tile", |log| fs::write(log.join("tile/0/001"), [7; 256 * 32]).unwrap()),
    ];
    for (name, spoil) in spoils {
        let spoiled = small.scratch.path(&format!("spoiled {name}"));
        copy(&log, &spoiled);
        spoil(&spoiled);
        let refused = restore(&small, name, &backup, &[&spoiled]);
        let Err(OpenError::Restore(error)) = refused else { panic!("{name}") };
        assert!(
            matches!(
                &error,
                RestoreError::Journal { number: 1, refusal: JournalRefusal::Unsound(_) }
            ),
            "{name}: {error}"
        );
        assert_eq!(restore_fault(&error).code, "SR-BACKUP-015");
        let data = small.scratch.path(name);
        assert!(!data.join(VAULT_DIRECTORY).exists() && data.join(RESTORE_DIRECTORY).exists());
        assert!(!journals::is_begun(&data.join(JOURNAL_DIRECTORY)).unwrap(), "it is not taken in");
        // Nothing is lost: without it, and with a good one.
        let (good, with): (&[&Path], bool) =
            if name == "missing" { (&[], false) } else { (&[&log], true) };
        stage(&data, &bring(&data, &backup, good)).unwrap();
        let vault = open(&small, &data).unwrap();
        assert_eq!(vault.tables.of_first().tokens().contains_key(&TOKEN), !with);
        close(vault);
        close(open(&small, &data).unwrap());
    }
}

/// A hash tile is made again of its entries, here as after a power cut.
#[test]
fn a_journal_without_a_hash_tile_tells_as_much_as_a_whole_one() {
    let small = Small::make();
    let (log, backup) = long(&small);
    fs::remove_file(log.join("tile/0/001")).unwrap();
    let vault = restore(&small, "no tile", &backup, &[&log]).unwrap();
    assert!(
        !vault.tables.of_first().tokens().contains_key(&TOKEN),
        "it was revoked after the backup"
    );
    close(vault);
    assert!(small.scratch.path("no tile").join(JOURNAL_DIRECTORY).join("tile/0/001").exists());
}

/// Red when the end of a journal is asked for before its checkpoint, or no journal is seen where only a checkpoint is left.
#[test]
fn a_journal_that_was_cut_below_the_backups_point_is_cut_and_not_early() {
    let small = Small::make();
    let (log, backup) = long(&small);
    for (name, gone) in [("tail", vec!["tail"]), ("all", vec!["tail", "tile"])] {
        let cut = small.scratch.path(&format!("cut {name}"));
        copy(&log, &cut);
        for one in gone {
            let one = cut.join(one);
            if one.is_dir() { fs::remove_dir_all(one) } else { fs::remove_file(one) }.unwrap();
        }
        let refused = restore(&small, name, &backup, &[&cut]);
        let Err(OpenError::Restore(RestoreError::Journal { refusal, .. })) = refused else {
            panic!("{name}: it was restored")
        };
        assert!(matches!(refusal, JournalRefusal::Cut { signed: 521, .. }), "{name}: {refusal}");
    }
}

/// Red when the directory's own journal is passed over for ending before the backup's point.
#[test]
fn the_directorys_own_journal_is_judged_too_and_names_the_life_to_begin_above() {
    let small = Small::make();
    let (_, backup) = long(&small);
    let first = restore(&small, "own", &backup, &[]).unwrap();
    let above = first.books.commit();
    close(first);
    let data = small.scratch.path("own");
    fs::remove_dir_all(data.join(VAULT_DIRECTORY)).unwrap();
    let spoiled = copy_of(&small, &data, "spoiled own");
    edit(&spoiled.join(JOURNAL_DIRECTORY).join("tail"), b"backup.restore", b"backup.confirm");
    stage(&spoiled, &bring(&spoiled, &backup, &[])).unwrap();
    let refused = open(&small, &spoiled);
    assert!(
        matches!(refused, Err(OpenError::Restore(RestoreError::Journal { number: 0, .. }))),
        "it was restored"
    );
    stage(&data, &bring(&data, &backup, &[])).unwrap();
    let second = open(&small, &data).unwrap();
    assert!(second.books.commit() >> 32 > above >> 32);
    close(second);
}

/// Red when `gather` does not look into `next`.
#[test]
fn what_a_crash_left_in_the_file_after_the_tail_is_taken_away_again() {
    let small = Small::make();
    let log = small.scratch.path("log");
    let point = journal(&small, &log, &[begun("token.create", TOKEN)]);
    let (backup, _) = small.backup_at("one", point);
    let checkpoint = fs::read(log.join("checkpoint")).unwrap();
    journal(
        &small,
        &log,
        &[&vec![begun("token.create", TOKEN); 255][..], &[begun("token.revoke", TOKEN)]].concat(),
    );
    // As it is before the full tail has moved to its place: no tile is written, and the checkpoint is of before.
    fs::write(log.join("checkpoint"), checkpoint).unwrap();
    fs::rename(log.join("tail"), log.join("next")).unwrap();
    fs::rename(log.join("tile/entries/000"), log.join("tail")).unwrap();
    fs::remove_dir_all(log.join("tile")).unwrap();
    let vault = restore(&small, "data", &backup, &[&log]).unwrap();
    assert!(!vault.tables.of_first().tokens().contains_key(&TOKEN));
    close(vault);
}

fn restores_in(journal: &Path) -> usize {
    let tail = fs::read(journal.join("tail")).unwrap();
    String::from_utf8_lossy(&tail).matches("backup.restore").count()
}

/// As `audit export` lays it out. Red when a static copy's last bundle is not looked for.
#[test]
fn a_static_copy_of_the_journal_tells_what_was_taken_away() {
    let small = Small::make();
    for (name, before) in [("short", 3), ("long", 300), ("even", 255)] {
        let log = small.scratch.path(&format!("log {name}"));
        let point = journal(&small, &log, &vec![begun("token.create", TOKEN); before]);
        let (backup, _) = small.backup_at(name, point);
        journal(&small, &log, &[begun("token.revoke", TOKEN)]);
        let size = u64::try_from(before).unwrap() + 1;
        let copied = small.scratch.path(&format!("copied {name}"));
        copy(&log, &copied);
        for own in ["tail", "reserve", "next"] {
            drop(fs::remove_file(copied.join(own)));
        }
        if let Some(last) =
            Bundle::within(Size(size), size / 256).map(|last| copied.join(last.path()))
        {
            fs::create_dir_all(last.parent().unwrap()).unwrap();
            fs::copy(log.join("tail"), last).unwrap();
        }
        let vault = restore(&small, &format!("data {name}"), &backup, &[&copied]).unwrap();
        let restored = vault.tables.restored.as_ref().unwrap();
        assert_eq!(
            (restored.journal.as_ref().unwrap().entries, restored.done_again.tokens),
            (size, 1)
        );
        assert!(!vault.tables.of_first().tokens().contains_key(&TOKEN));
        close(vault);
        close(open_again(&small, &format!("data {name}")));
    }
}

#[test]
fn a_vault_that_is_there_is_never_restored_over() {
    let small = Small::make();
    let (backup, _) = small.backup("one");
    let data = data(&small, "data");
    stage(&data, &bring(&data, &backup, &[])).unwrap();
    close(open(&small, &data).unwrap());
    let brought = bring(&data, &backup, &[]);
    assert!(matches!(stage(&data, &brought), Err(RestoreError::Exists)));
    fs::write(brought.join(BACKUP_FILE), "no backup").unwrap();
    fs::remove_dir_all(data.join(VAULT_DIRECTORY)).unwrap();
    assert!(matches!(stage(&data, &brought), Err(RestoreError::Rebuild(_))));
    assert!(place(&data).unwrap().is_none());
}

#[test]
fn a_crash_at_any_step_leaves_no_vault_or_a_whole_one() {
    let small = Small::make();
    let (backup, _) = small.backup("one");
    // While it is brought, and while it is staged: nothing waits.
    let data = data(&small, "data");
    let brought = bring(&data, &backup, &[]);
    assert!(place(&data).unwrap().is_none());
    fs::rename(&brought, data.join(STAGING_DIRECTORY)).unwrap();
    tidy(&data);
    assert!(place(&data).unwrap().is_none() && !data.join(STAGING_DIRECTORY).exists());
    // While the vault is built: what is half there is built from nothing.
    stage(&data, &bring(&data, &backup, &[])).unwrap();
    for half in ["", "store", "seal"] {
        let building = data.join(FOUNDING_DIRECTORY);
        fs::create_dir_all(building.join(half)).unwrap();
        fs::write(building.join("junk"), "x").unwrap();
        assert_eq!(place(&data).unwrap(), Some(data.join(RESTORE_DIRECTORY)));
        let waiting = copy_of(&small, &data, half);
        close(open(&small, &waiting).unwrap());
        assert!(!waiting.join(RESTORE_DIRECTORY).exists());
        assert!(!waiting.join(VAULT_DIRECTORY).join("junk").exists());
    }
    // Between the rename and the tidying: the vault counts, and what was brought goes.
    let vault = copy_of(&small, &data, "renamed");
    close(open(&small, &vault).unwrap());
    copy(&data.join(RESTORE_DIRECTORY), &vault.join(RESTORE_DIRECTORY));
    assert_eq!(place(&vault).unwrap(), Some(vault.join(VAULT_DIRECTORY)));
    tidy(&vault);
    assert!(!vault.join(RESTORE_DIRECTORY).exists());
    close(open(&small, &vault).unwrap());
}

/// Red when a restore, a start or a transfer's end unlinks only.
#[test]
fn no_keyring_of_a_restore_lingers_in_freed_blocks() {
    let small = Small::make();
    let (backup, _) = small.backup("one");
    let data = data(&small, "data");
    let linked = |name: &str, directory: &str| {
        let to = small.scratch.path(name);
        assert!(afterlife::link(&data.join(directory), &to) > 0);
        assert!(!afterlife::legible(&to).is_empty());
        to
    };
    // What an ended transfer, a crash while it was staged and one while it was built leave behind.
    bring(&data, &backup, &[]);
    let transfer = linked("transfer", TRANSFER_DIRECTORY);
    transfer::clear(&data);
    let left = [STAGING_DIRECTORY, FOUNDING_DIRECTORY].map(|name| {
        fs::create_dir(data.join(name)).unwrap();
        fs::copy(&backup, data.join(name).join("keyring")).unwrap();
        linked(name, name)
    });
    tidy(&data);
    // One try in the place of another, and the one that succeeds.
    stage(&data, &bring(&data, &backup, &[])).unwrap();
    let first = linked("first", RESTORE_DIRECTORY);
    stage(&data, &bring(&data, &backup, &[])).unwrap();
    let second = linked("second", RESTORE_DIRECTORY);
    close(open(&small, &data).unwrap());
    for place in [&transfer, &left[0], &left[1], &first, &second] {
        assert!(afterlife::legible(place).is_empty(), "{}", place.display());
    }
}

fn copy_of(small: &Small, data: &Path, name: &str) -> PathBuf {
    let to = small.scratch.path(&format!("copy {name}"));
    copy(data, &to);
    to
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Red when the restored keyring keeps the generation of the exported one.
#[test]
fn the_lost_disks_keyring_and_manifest_do_not_fit_the_restored_vault() {
    let mut small = Small::make();
    let (backup, _) = small.backup_at("one", NOWHERE);
    let lost = small.scratch.path("vault");
    for _ in 0..3 {
        small.put(&RecordName::User(USER), &crate::backup::fixture::user("later"));
    }
    let vault = restore(&small, "data", &backup, &[]).unwrap();
    close(vault);
    for mixed in [vec!["keyring"], vec!["manifest", "store"], vec!["manifest"], vec!["store"]] {
        let data = small.scratch.path(&format!("mixed {}", mixed.join(" ")));
        copy(&small.scratch.path("data"), &data);
        for name in mixed {
            let to = data.join(VAULT_DIRECTORY).join(name);
            if to.is_dir() {
                fs::remove_dir_all(&to).unwrap();
                copy(&lost.join(name), &to);
            } else {
                fs::copy(lost.join(name), to).unwrap();
            }
        }
        let opened = open(&small, &data);
        assert!(opened.is_err(), "{}", data.display());
    }
}
