//! The keeper over each store: what was acknowledged comes back, and another kind is refused by name.

use strongroom_protocol::operator::{Answer, Fault, Request, UnsealWith, Verdict};

use crate::keeper::{self, Keeper};
use crate::postgres::Postgres;
use crate::{furnish, passphrase, token, token_wish};

fn unseal(keeper: &Keeper) -> Answer {
    keeper.operator().request(&Request::Unseal(UnsealWith::Passphrase(passphrase())))
}

fn fault(answer: Answer) -> Fault {
    match answer {
        Answer::Failed(fault) => fault,
        other => panic!("{other:?}"),
    }
}

fn detail(keeper: &Keeper, name: &str) -> (Verdict, String) {
    match keeper.operator().request(&Request::Doctor) {
        Answer::Doctor(checks) => {
            let found = checks.into_iter().find(|check| check.name == name).unwrap();
            (found.verdict, found.detail)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_vault_in_redb_comes_back_and_an_older_copy_of_it_is_refused() {
    let mut keeper = Keeper::start_over(&["--store", "redb"]);
    assert_eq!(detail(&keeper, "store"), (Verdict::Ok, "redb, embedded".to_owned()));
    furnish(&keeper);
    keeper.kill();
    assert!(keeper.check().status.success());
    let store = keeper.data().join("vault/store");
    let old = keeper.data().join("old");
    keeper::copy(&store, &old);
    keeper.start_again();
    assert!(matches!(unseal(&keeper), Answer::Unsealed));
    token(&mut keeper.operator(), "newer");
    keeper.kill_and_start();
    assert!(matches!(unseal(&keeper), Answer::Unsealed));
    match keeper.operator().request(&Request::Status) {
        Answer::Status(status) => assert_eq!(status.credentials, 1),
        other => panic!("{other:?}"),
    }
    keeper.kill();
    std::fs::remove_dir_all(&store).unwrap();
    keeper::copy(&old, &store);
    keeper.start_again();
    let refused = fault(unseal(&keeper));
    assert_eq!((refused.code.as_str(), refused.exit.code()), ("SR-STORE-005", 6));
}

#[test]
fn a_store_of_another_kind_than_the_chosen_one_is_refused_by_name() {
    for (made, chosen) in [("sled", "redb"), ("redb", "sled")] {
        let mut keeper = Keeper::start_over(&["--store", made]);
        furnish(&keeper);
        keeper.kill();
        keeper.choose(&["--store", chosen]);
        assert_eq!(keeper.check().status.code(), Some(1));
        keeper.start_again();
        let refused = fault(unseal(&keeper));
        assert_eq!(refused.code, "SR-STORE-012");
        let told = format!("the store is kept by {made}, and {chosen} is chosen");
        assert!(refused.message.contains(&told), "{}", refused.message);
        keeper.kill();
        keeper.choose(&["--store", made]);
        keeper.start_again();
        assert!(matches!(unseal(&keeper), Answer::Unsealed));
    }
}

#[test]
fn a_vault_in_postgres_comes_back_and_a_database_that_dies_closes_it() {
    let Some(mut server) = Postgres::start() else { return };
    let arguments = server.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut keeper = Keeper::start_over(&arguments);
    assert!(detail(&keeper, "store").1.starts_with("postgres, database strongroom"));
    furnish(&keeper);
    assert!(matches!(keeper.operator().request(&Request::Seal), Answer::Done));
    assert!(matches!(unseal(&keeper), Answer::Unsealed));
    token(&mut keeper.operator(), "kept");
    server.kill();
    let lost = fault(keeper.operator().request(&token_wish("lost")));
    assert_eq!(lost.code, "SR-STORE-014", "{lost:?}");
    assert!(lost.message.contains("in doubt"), "{lost:?}");
    assert!(keeper.told().contains("\"result\":\"in-doubt\""));
    match keeper.operator().request(&Request::Status) {
        Answer::Status(status) => assert_eq!(status.fault.unwrap().code, "SR-STORE-014"),
        other => panic!("{other:?}"),
    }
    assert_eq!(keeper.check().status.code(), Some(75));
    server.start_again();
    // The confined keeper makes no new connection; one that is started again has one.
    assert_eq!(fault(unseal(&keeper)).code, "SR-STORE-014");
    keeper.kill();
    assert!(keeper.check().status.success());
    keeper.start_again();
    assert!(matches!(unseal(&keeper), Answer::Unsealed));
    token(&mut keeper.operator(), "later");
}

// The second keeper has a copy of the data directory, as after a failed machine was replaced.
#[test]
fn of_two_keepers_on_one_database_the_older_is_shut_at_its_next_write() {
    let Some(server) = Postgres::start() else { return };
    let arguments = server.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let first = Keeper::start_over(&arguments);
    furnish(&first);
    let second = Keeper::start_on_a_copy(&first, &arguments);
    assert!(matches!(unseal(&second), Answer::Unsealed));
    let shut = fault(first.operator().request(&token_wish("late")));
    assert_eq!(shut.code, "SR-STORE-013", "{shut:?}");
    assert!(!shut.message.contains("in doubt"), "{shut:?}");
    assert!(first.told().contains("\"result\":\"failed\""));
    match first.operator().request(&Request::Status) {
        Answer::Status(status) => assert_eq!(status.fault.unwrap().code, "SR-STORE-013"),
        other => panic!("{other:?}"),
    }
    token(&mut second.operator(), "counts");
    assert!(matches!(second.operator().request(&Request::Seal), Answer::Done));
    assert!(matches!(unseal(&second), Answer::Unsealed));
}

fn records(keeper: &Keeper) -> (u32, usize) {
    let mut door = keeper.operator();
    match (door.request(&Request::Status), door.request(&Request::TokenList)) {
        (Answer::Status(status), Answer::Tokens(tokens)) => (status.credentials, tokens.len()),
        other => panic!("{other:?}"),
    }
}

/// Red when a check or a rebuild follows what whoever has the disk put into its place.
#[test]
fn a_store_that_leads_out_of_the_vaults_directory_is_neither_checked_nor_rebuilt() {
    let mut keeper = Keeper::start();
    furnish(&keeper);
    keeper.kill();
    assert!(keeper.check().status.success());
    let outside = tempfile::tempdir().unwrap();
    let (store, there) = (keeper.data().join("vault/store"), outside.path().join("store"));
    keeper::copy(&store, &there);
    std::fs::remove_dir_all(&store).unwrap();
    std::os::unix::fs::symlink(&there, &store).unwrap();
    let compacted = keeper.rebuild(&["--compact"], &[]);
    for ran in [keeper.check(), compacted, keeper.rebuild(&["--move"], &["--store", "redb"])] {
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(!ran.status.success() && said.contains("ermission denied"), "{said}");
    }
}

/// Red when a store is moved while a keeper has it, when a moved store is not judged, or when an older one is taken.
#[test]
fn a_vault_moves_from_sled_to_redb_to_postgres_and_back_and_its_older_stores_are_refused() {
    let Some(server) = Postgres::start() else { return };
    let postgres = server.arguments();
    let postgres: Vec<&str> = postgres.iter().map(String::as_str).collect();
    let out: Vec<String> =
        server.arguments().iter().map(|one| one.replace("--store-", "--from-")).collect();
    let out: Vec<&str> = out.iter().map(String::as_str).skip(2).collect();
    let (out, owner) = out.split_at(6);
    let from_database = [&["--move"], out].concat();
    let sled = [&["--store", "sled", "--store-owner"], &owner[1..]].concat();
    let mut keeper = Keeper::start();
    furnish(&keeper);
    let store = keeper.data().join("vault/store");
    let former = keeper.data().join("vault/store.former");
    let refused = keeper.rebuild(&["--move"], &["--store", "redb"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("SR-STORE-002"), "it serves");
    keeper.kill();
    let first = keeper.data().join("first");
    keeper::copy(&store, &first);
    let mut made = records_after(&mut keeper, (&["--move"], &["--store", "redb"]), &former);
    for (task, chosen) in [
        (vec!["--compact"], vec!["--store", "redb"]),
        (vec!["--move"], postgres.clone()),
        (from_database, sled),
        (vec!["--compact"], vec!["--store", "sled"]),
    ] {
        token(&mut keeper.operator(), &format!("token {}", made.1));
        keeper.kill();
        let now = records_after(&mut keeper, (&task, &chosen), &former);
        assert_eq!(now, (made.0, made.1 + 1), "{task:?}");
        made = now;
    }
    keeper.kill();
    std::fs::remove_dir_all(&store).unwrap();
    keeper::copy(&first, &store);
    keeper.start_again();
    let refused = fault(unseal(&keeper));
    assert_eq!((refused.code.as_str(), refused.exit.code()), ("SR-STORE-005", 6));
}

/// Rebuilds the store, twice to see that the second time is refused, and opens the vault.
fn records_after(
    keeper: &mut Keeper,
    (task, store): (&[&str], &[&str]),
    former: &std::path::Path,
) -> (u32, usize) {
    let done = keeper.rebuild(task, store);
    assert!(done.status.success(), "{task:?} {}", String::from_utf8_lossy(&done.stderr));
    assert!(former.exists(), "the old store stays until the vault vouches for the new one");
    let again = keeper.rebuild(&["--compact"], store);
    assert!(!again.status.success());
    let kind: Vec<&str> =
        store.iter().copied().filter(|one| *one != "--store-owner").take(2).collect();
    if kind[1] != "postgres" {
        assert!(String::from_utf8_lossy(&again.stderr).contains("SR-STORE-021") || store.len() > 2);
        keeper.choose(&kind);
    }
    keeper.start_again();
    assert!(matches!(unseal(keeper), Answer::Unsealed));
    assert!(!former.exists());
    records(keeper)
}
