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

fn accept(keeper: &Keeper, difference: &str) -> Answer {
    let difference = difference.to_owned();
    keeper.operator().request(&Request::AcceptSettings { difference })
}

/// The name of the difference, as the refusal says it.
fn shown(refusal: &Fault) -> String {
    let next = refusal.next.clone().unwrap();
    let (_, rest) = next.split_once("--accept-settings ").unwrap();
    rest.split('\'').next().unwrap().to_owned()
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
    assert!(matches!(accept(&keeper, ""), Answer::Failed(_)), "an open vault asks for no word");
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
    let name = shown(&told);
    // A word that a crash came behind is forgotten.
    assert!(matches!(accept(&keeper, &name), Answer::Done));
    keeper.kill_and_start();
    assert_eq!(refused(&keeper).code, "SR-SETTINGS-001");
    assert!(matches!(accept(&keeper, &name), Answer::Done));
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

// Red when a word for one difference serves for another.
#[test]
fn what_was_shown_is_accepted_and_nothing_that_was_added_since() {
    let mut keeper = Keeper::start_over(&BEFORE);
    furnish(&keeper);
    keeper.kill();
    keeper.choose(&WEAKER);
    keeper.start_again();
    let name = shown(&refused(&keeper));
    // Whoever has the disk goes on editing, and restarts.
    keeper.kill();
    keeper.choose(&[&WEAKER[..], &["--setting", "dns.hosts.api.example=10.0.0.1"]].concat());
    keeper.start_again();
    for word in [name.as_str(), "", "accept_missing,journal.durability"] {
        assert!(matches!(accept(&keeper, word), Answer::Done));
        let told = refused(&keeper);
        assert_eq!(told.code, "SR-SETTINGS-001", "{word}");
        assert_ne!(shown(&told), name);
    }
    assert!(matches!(accept(&keeper, &"a".repeat(65)), Answer::Failed(_)));
    // A word is spent by the opening that it did not serve.
    let all = shown(&refused(&keeper));
    assert!(matches!(accept(&keeper, &name), Answer::Done));
    refused(&keeper);
    assert!(matches!(accept(&keeper, &format!(" {all}\n")), Answer::Done));
    assert!(matches!(unseal(&keeper), Answer::Unsealed));
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
