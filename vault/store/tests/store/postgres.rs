//! What the store in PostgreSQL promises besides the contract: fencing, a fit server, and an end that says so.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use strongroom_store::{Batch, Choice, Database, Store, StoreError};

use crate::conformance::{conforms, follows_the_model};
use crate::power::assert_holds;
use crate::server::{Server, address};
use crate::{NAME, key, put, value};

/// Directories that each name a vault of their own.
struct Places {
    choice: Choice,
    scratch: tempfile::TempDir,
    made: Cell<u8>,
}

impl Places {
    fn new(choice: Choice) -> Self {
        Self { choice, scratch: tempfile::tempdir().unwrap(), made: Cell::new(0) }
    }

    fn current(&self) -> PathBuf {
        self.scratch.path().join(self.made.get().to_string())
    }

    fn make(&self) -> Arc<dyn Store> {
        self.made.set(self.made.get() + 1);
        self.choice.create(&self.current(), &[self.made.get(); 16]).unwrap()
    }
}

#[test]
fn postgres_conforms_and_follows_the_model_across_openings() {
    let Some(server) = Server::start(&[]) else { return };
    let places = Places::new(server.choice());
    conforms(|| places.make());
    let reopen = |store| {
        drop(store);
        places.choice.open(&places.current()).unwrap()
    };
    follows_the_model(|| places.make(), reopen, 24);
}

/// The same vault's directory, as on another machine.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    std::fs::copy(from.join("postgres"), to.join("postgres")).unwrap();
}

// Red when a commit does not ask for its turn.
#[test]
fn a_keeper_that_lost_its_place_is_refused_and_poisoned() {
    let Some(server) = Server::start(&[]) else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
    let first = server.choice().create(&one, &NAME).unwrap();
    first.commit(put("a", "1")).unwrap();
    copy(&one, &two);
    let choice = server.choice();
    // A look takes no turn from anybody.
    assert_eq!(choice.check(&two).unwrap().records, 1);
    first.commit(put("a", "2")).unwrap();
    let second = choice.open(&two).unwrap();
    let late = first.commit(put("a", "late"));
    assert!(matches!(late, Err(StoreError::Fenced)), "{late:?}");
    assert!(matches!(first.commit(put("a", "later")), Err(StoreError::Poisoned)));
    assert!(matches!(first.get(&key("a")), Err(StoreError::Poisoned)));
    assert_eq!(second.get(&key("a")).unwrap(), Some(value("2")));
    second.commit(put("a", "3")).unwrap();
    drop(first);
    let third = server.choice().open(&one).unwrap();
    assert!(matches!(second.commit(Batch::new()), Err(StoreError::Fenced)));
    assert_eq!(third.get(&key("a")).unwrap(), Some(value("3")));
}

#[test]
fn whoever_takes_over_amid_writes_sees_all_that_was_acknowledged_and_nothing_after() {
    let Some(server) = Server::start(&[]) else { return };
    let scratch = tempfile::tempdir().unwrap();
    let one = scratch.path().join("one");
    drop(server.choice().create(&one, &NAME).unwrap());
    let rounds = strongroom_soak::size(6, 100);
    for round in 0..rounds {
        let first = server.choice().open(&one).unwrap();
        let two = scratch.path().join(format!("two{round}"));
        copy(&one, &two);
        let (told, acked) = mpsc::channel();
        let writer = std::thread::spawn(move || {
            for number in 1_u64.. {
                match first.commit(put("count", &number.to_string())) {
                    Ok(()) => told.send(number).unwrap(),
                    Err(error) => return error,
                }
            }
            StoreError::Stopped
        });
        let mut last = acked.recv().unwrap();
        let second = server.choice().open(&two).unwrap();
        let seen = second.get(&key("count")).unwrap().unwrap();
        let ended = writer.join().unwrap();
        assert!(matches!(ended, StoreError::Fenced), "{ended:?}");
        last = acked.iter().last().unwrap_or(last);
        let seen: u64 = String::from_utf8(seen.as_bytes().to_vec()).unwrap().parse().unwrap();
        assert_eq!(seen, last, "round {round}");
        assert_eq!(second.get(&key("count")).unwrap(), Some(value(&last.to_string())));
    }
    strongroom_soak::tell(
        "store postgres",
        "take-overs amid writes, 0 late writes counted",
        rounds,
    );
}

#[test]
fn a_server_that_dies_ends_the_store_and_keeps_what_it_confirmed() {
    let Some(mut server) = Server::start(&[]) else { return };
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("store");
    drop(server.choice().create(&dir, &NAME).unwrap());
    let mut expected = BTreeMap::new();
    let crashes = strongroom_soak::size(3, 100);
    for round in 0..crashes {
        let choice = server.choice();
        let store = choice.open(&dir).unwrap();
        assert_holds(&*store, &expected);
        for number in 0..20 {
            let name = format!("k{}", (number * 7 + round) % 31);
            if number % 5 == 4 {
                store.commit(Batch::new().delete(key(&name))).unwrap();
                expected.remove(&name);
            } else {
                let text = format!("{round}.{number}");
                store.commit(put(&name, &text)).unwrap();
                expected.insert(name, text);
            }
        }
        server.kill();
        lose(&*store);
        drop(store);
        server.start_again();
        // The connection is not made anew behind anybody's back.
        assert!(matches!(choice.open(&dir), Err(StoreError::Disconnected)));
        // What was written while the server died may count or not.
        let found = server.choice().open(&dir).unwrap().get(&key("late")).unwrap();
        if let Some(late) = found {
            expected
                .insert("late".to_owned(), String::from_utf8(late.as_bytes().to_vec()).unwrap());
        }
    }
    assert_holds(&*server.choice().open(&dir).unwrap(), &expected);
    strongroom_soak::tell("store postgres", "crashes of the server, 0 acknowledged lost", crashes);
}

/// The server's process for our session outlives the one that was killed by a moment.
fn lose(store: &dyn Store) {
    let lost = loop {
        if let Err(error) = store.commit(put("late", "1")) {
            break error;
        }
    };
    assert!(matches!(lost, StoreError::Disconnected), "{lost:?}");
    assert!(matches!(store.get(&key("late")), Err(StoreError::Poisoned)));
}

#[test]
fn a_server_that_does_not_keep_what_it_confirms_or_makes_us_superuser_is_refused() {
    let Some(server) = Server::start(&["fsync=off"]) else { return };
    let refused = Database::connect(address(server.socket())).unwrap_err();
    assert!(matches!(refused, StoreError::Unfit(why) if why.contains("fsync is off")), "{refused}");
    let address = strongroom_store::Server { role: "super".to_owned(), ..address(server.socket()) };
    let refused = Database::connect(address).unwrap_err();
    assert!(matches!(refused, StoreError::Unfit(why) if why.contains("superuser")), "{refused}");
}

/// Red when the peer is not asked for, or the directory is not looked at.
#[test]
fn a_socket_of_another_user_or_in_a_directory_of_everybodys_is_told_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let Some(server) = Server::start(&[]) else { return };
    let ours = address(server.socket());
    let stranger = strongroom_store::Server { trusted: vec![4_000_000_000], ..ours.clone() };
    let refused = Database::connect(stranger).unwrap_err();
    assert!(matches!(refused, StoreError::Unfit(why) if why.contains("another user")), "{refused}");
    let set = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(server.socket(), mode).unwrap();
    };
    set(0o777);
    let refused = Database::connect(ours.clone()).unwrap_err();
    assert!(matches!(refused, StoreError::Unfit(why) if why.contains("everybody")), "{refused}");
    set(0o1777);
    assert!(Database::connect(ours).is_ok(), "names in it belong to those who made them");
}

#[test]
fn a_vault_that_is_not_in_this_database_is_missing_and_never_made_anew() {
    let Some(server) = Server::start(&[]) else { return };
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("store");
    let choice = server.choice();
    drop(choice.create(&dir, &NAME).unwrap());
    assert!(matches!(choice.create(&dir, &NAME), Err(StoreError::Exists)));
    assert!(matches!(Choice::Sled.open(&dir), Err(StoreError::OtherKind { .. })));
    server.sql("strongroom", &format!("DROP SCHEMA sr_{} CASCADE", "07".repeat(16)));
    let missing = choice.open(&dir);
    assert!(matches!(missing, Err(StoreError::Missing)));
    std::fs::remove_file(dir.join("postgres")).unwrap();
    assert!(matches!(choice.open(&dir), Err(StoreError::Missing)));
}

#[test]
fn a_value_that_is_longer_than_any_of_ours_is_corrupt() {
    let Some(server) = Server::start(&[]) else { return };
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("store");
    let choice = server.choice();
    let store = choice.create(&dir, &NAME).unwrap();
    store.commit(put("a", "1")).unwrap();
    let records = format!("sr_{}.records", "07".repeat(16));
    server.sql("strongroom", &format!("ALTER TABLE {records} DROP CONSTRAINT records_value_check"));
    let long = format!("UPDATE {records} SET value = decode(repeat('00', 8193), 'hex')");
    server.sql("strongroom", &long);
    assert!(matches!(store.get(&key("a")), Err(StoreError::Corrupt)));
    assert!(matches!(store.scan(b"", None, 1), Err(StoreError::Poisoned)));
    drop(store);
    assert!(choice.check(&dir).is_err());
}
