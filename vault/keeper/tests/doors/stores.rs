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
