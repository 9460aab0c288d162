//! Settings that were edited while the vault was sealed.

use strongroom_protocol::operator::{Answer, Fault, Request, UnsealWith};

use crate::keeper::Keeper;
use crate::{furnish, passphrase};

const BEFORE: [&str; 4] =
    ["--setting", "accept_missing=", "--setting", "journal.durability=strict"];
const WEAKER: [&str; 4] =
    ["--setting", "accept_missing=seccomp", "--setting", "journal.durability=group"];

fn unseal(keeper: &Keeper) -> Answer {
    keeper.operator().request(&Request::Unseal(UnsealWith::Passphrase(passphrase())))
}

fn accept(keeper: &Keeper) -> Answer {
    keeper.operator().request(&Request::AcceptSettings)
}

fn refused(keeper: &Keeper) -> Fault {
    match unseal(keeper) {
        Answer::Failed(fault) => fault,
        other => panic!("{other:?}"),
    }
}

// Red when anybody counts as having said so.
#[test]
fn a_vault_does_not_open_under_weaker_settings_before_an_operator_says_that_they_are_meant() {
    let mut keeper = Keeper::start_over(&BEFORE);
    furnish(&keeper);
    assert_eq!(keeper.acts("settings.record"), 1);
    assert!(matches!(accept(&keeper), Answer::Failed(_)), "an open vault asks for no word");
    keeper.kill_and_start();
    assert!(matches!(unseal(&keeper), Answer::Unsealed), "the same settings are no question");
    keeper.kill();
    keeper.choose(&WEAKER);
    keeper.start_again();
    let told = refused(&keeper);
    assert_eq!((told.code.as_str(), told.exit.code()), ("SR-SETTINGS-001", 2));
    for difference in ["accept_missing:  → seccomp", "journal.durability: strict → group"] {
        assert!(told.message.contains(difference), "{}", told.message);
    }
    assert_eq!(refused(&keeper).code, "SR-SETTINGS-001", "asking twice is no word");
    // A word that a crash came behind is forgotten.
    assert!(matches!(accept(&keeper), Answer::Done));
    keeper.kill_and_start();
    assert_eq!(refused(&keeper).code, "SR-SETTINGS-001");
    assert!(matches!(accept(&keeper), Answer::Done));
    assert!(matches!(unseal(&keeper), Answer::Unsealed));
    let accepted = "\"act\":\"settings.accept\"";
    let told = keeper.told();
    let entry = told.lines().find(|line| line.contains(accepted)).unwrap();
    assert!(entry.contains("\"target\":\"accept_missing,journal.durability\""), "{entry}");
    // What was accepted is remembered.
    keeper.kill_and_start();
    assert!(matches!(unseal(&keeper), Answer::Unsealed));
    keeper.kill();
    keeper.choose(&BEFORE);
    keeper.start_again();
    assert_eq!(refused(&keeper).code, "SR-SETTINGS-001");
}

#[test]
fn a_setting_that_is_not_given_any_more_is_a_difference_too() {
    let mut keeper = Keeper::start_over(&BEFORE);
    furnish(&keeper);
    keeper.kill();
    keeper.choose(&[]);
    keeper.start_again();
    assert!(refused(&keeper).message.contains("strict → (not set)"));
}
