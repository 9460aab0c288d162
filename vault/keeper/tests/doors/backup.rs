//! Backups through the operators' door.

use strongroom_protocol::operator::backup::{
    BackupAnswer, BackupRequest, BroughtFile, Care, Content, MAX_PART_BYTES, Made, TransferId,
};
use strongroom_protocol::operator::{Answer as Told, Exit, Request, UnsealWith};

use crate::keeper::{Door, Keeper, PROMPT, until};
use crate::{furnish, label, passphrase};

pub(crate) fn create(door: &mut Door, care: Care) -> (Made, Vec<u8>) {
    let made = match door.request(&Request::Backup(BackupRequest::Create(care))) {
        Told::Backup(BackupAnswer::Made(made)) => made,
        other => panic!("{other:?}"),
    };
    let mut bytes = Vec::new();
    loop {
        match door.request(&Request::Backup(BackupRequest::Next(made.transfer))) {
            Told::Backup(BackupAnswer::Part(part)) if part.is_empty() => return (made, bytes),
            Told::Backup(BackupAnswer::Part(part)) => bytes.extend(part),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn bring(door: &mut Door, bytes: &[u8]) -> TransferId {
    let transfer = match door.request(&Request::Backup(BackupRequest::Bring)) {
        Told::Backup(BackupAnswer::Bring(transfer)) => transfer,
        other => panic!("{other:?}"),
    };
    for part in bytes.chunks(MAX_PART_BYTES) {
        put(door, transfer, BroughtFile::Backup, part);
    }
    transfer
}

pub(crate) fn put(door: &mut Door, transfer: TransferId, file: BroughtFile, part: &[u8]) {
    let put = BackupRequest::Put { transfer, file, bytes: part.to_vec() };
    let told = door.request(&Request::Backup(put));
    assert!(matches!(told, Told::Done), "{told:?}");
}

fn verify(door: &mut Door, bytes: &[u8]) -> Result<Content, (String, Exit)> {
    let transfer = bring(door, bytes);
    match door.request(&Request::Backup(BackupRequest::Verify(transfer))) {
        Told::Backup(BackupAnswer::Verified(content)) => Ok(content),
        Told::Failed(fault) => Err((fault.code, fault.exit)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_backup_is_made_fetched_and_proved_and_leaves_no_file() {
    let keeper = Keeper::start();
    furnish(&keeper);
    let mut door = keeper.operator();
    let (made, bytes) = create(&mut door, Care::Proved);
    assert_eq!(u64::try_from(bytes.len()).unwrap(), made.bytes);
    let proved = made.proved.unwrap();
    assert_eq!((proved.users, proved.tokens, proved.credentials), (1, 1, 1));
    assert_eq!(verify(&mut door, &bytes), Ok(proved));
    assert_eq!(keeper.acts("backup.create"), 1, "it is in the journal");
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(verify(&mut door, &changed), Err(("SR-BACKUP-009".to_owned(), Exit::Corrupt)));
    assert!(!keeper.data().join("transfer").exists());
    assert!(matches!(door.request(&Request::UserCreate(label("eve"))), Told::User(_)));
}

#[test]
fn there_is_one_transfer_at_a_time_and_a_dead_keepers_is_removed() {
    let mut keeper = Keeper::start();
    furnish(&keeper);
    let mut door = keeper.operator();
    let transfer = bring(&mut door, b"half of a file");
    let code = |told| match told {
        Told::Failed(fault) => fault.code,
        other => panic!("{other:?}"),
    };
    let create = || Request::Backup(BackupRequest::Create(Care::Written));
    assert_eq!(code(door.request(&create())), "SR-BACKUP-001");
    let other = TransferId([0; 16]);
    assert_eq!(code(door.request(&Request::Backup(BackupRequest::Next(other)))), "SR-BACKUP-002");
    assert_eq!(
        code(door.request(&Request::Backup(BackupRequest::Next(transfer)))),
        "SR-BACKUP-002"
    );
    assert!(keeper.data().join("transfer").exists());
    keeper.kill_and_start();
    until(|| !keeper.data().join("transfer").exists());
    let mut door = keeper.operator();
    assert_eq!(code(door.request(&create())), "SR-SEALED-001", "a sealed vault makes none");
}

/// Who fetches a backup and stops half way holds up nobody.
#[test]
fn while_a_backup_is_made_and_not_fetched_changes_go_on_and_the_seal_is_prompt() {
    let keeper = Keeper::start();
    furnish(&keeper);
    let (mut slow, mut door) = (keeper.operator(), keeper.operator());
    let making = Request::Backup(BackupRequest::Create(Care::Proved));
    let made = std::thread::scope(|scope| {
        let made = scope.spawn(|| slow.request(&making));
        for round in 0..5 {
            let told = door.request(&Request::UserCreate(label(&format!("user {round}"))));
            assert!(matches!(told, Told::User(_)), "{told:?}");
        }
        made.join().unwrap()
    });
    let Told::Backup(BackupAnswer::Made(made)) = made else { panic!("{made:?}") };
    let next = || Request::Backup(BackupRequest::Next(made.transfer));
    assert!(matches!(slow.request(&next()), Told::Backup(BackupAnswer::Part(_))));
    assert!(matches!(door.request(&Request::UserCreate(label("late"))), Told::User(_)));
    let begun = std::time::Instant::now();
    assert!(matches!(door.request(&Request::Seal), Told::Done));
    let took = begun.elapsed();
    assert!(took < PROMPT, "{took:?}");
    // What was made is encrypted: a sealed vault's goes on being fetched.
    assert!(matches!(slow.request(&next()), Told::Backup(BackupAnswer::Part(_))));
}

/// The keys that prove a backup are those of a vault that was sealed by then.
// Red when a seal does not halt a backup, and waits for its end.
#[test]
fn a_seal_waits_for_no_backup_that_is_being_made_or_checked() {
    let keeper = Keeper::start();
    furnish(&keeper);
    // Halted is only what was not done yet: a seal that waits never comes in time, one that the machine holds up sometimes.
    for round in 1.. {
        let (mut slow, mut door) = (keeper.operator(), keeper.operator());
        let making = Request::Backup(BackupRequest::Create(Care::Proved));
        let told = std::thread::scope(|scope| {
            let made = scope.spawn(move || slow.request(&making));
            // It is being checked as soon as its scratch is there.
            until(|| made.is_finished() || keeper.data().join("transfer/scratch").exists());
            let begun = std::time::Instant::now();
            assert!(matches!(door.request(&Request::Seal), Told::Done));
            let took = begun.elapsed();
            assert!(took < PROMPT, "{took:?}");
            made.join().unwrap()
        });
        match told {
            Told::Failed(fault) if fault.code == "SR-BACKUP-017" => break,
            Told::Failed(fault) => assert_eq!(fault.exit, Exit::Sealed, "{fault:?}"),
            Told::Backup(BackupAnswer::Made(_)) => {}
            other => panic!("{other:?}"),
        }
        assert!(round < 10, "no seal came before the end of a backup");
        let unseal = Request::Unseal(UnsealWith::Passphrase(passphrase()));
        assert!(matches!(door.request(&unseal), Told::Unsealed));
    }
}
