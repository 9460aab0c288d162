//! The whole role × act matrix of the decision as golden text, and what must hold for every wish.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cost;
mod properties;
mod scene;
mod tenant;

use std::collections::BTreeSet;
use std::fmt::Write;

use strongroom_policy::decide::{Denial, Permit, decide};

use scene::{NOW, Wanted, credentials, subjects, wanted};

/// One line each; where a subject gets the same answer for every wish, one line for all of them.
fn matrix() -> String {
    let mut text = String::from(HEADER);
    for (who, subject) in subjects() {
        for (which, credential) in credentials() {
            let answers: Vec<(&str, String)> = wanted()
                .iter()
                .map(|(what, wanted)| (*what, answer(wanted, &subject, &credential)))
                .collect();
            let one = answers.iter().all(|(_, answer)| *answer == answers[0].1);
            let lines = if one { &[("(every wish)", answers[0].1.clone())] } else { &answers[..] };
            for (what, answer) in lines {
                writeln!(text, "{who:<18} {which:<18} {what:<16} {answer}").unwrap();
            }
        }
    }
    text
}

fn answer(
    wanted: &Wanted,
    subject: &strongroom_policy::rules::Subject,
    credential: &strongroom_policy::rules::CredentialFacts,
) -> String {
    line_of(decide(wanted.wish(subject, credential), NOW))
}

/// What was decided, by which rule, and about what.
fn line_of(decided: Result<Permit, Denial>) -> String {
    let line = match decided {
        Ok(permit) => format!("{:<20} {:<28}", "permit", permit.rule()),
        Err(denial) => format!(
            "{:<20} {:<28} {}",
            format!("{:?}", denial.refusal),
            denial.rule,
            denial.about.unwrap_or_default()
        ),
    };
    line.trim_end().to_owned()
}

const HEADER: &str = "\
# Who may do what with which key: every subject, credential and wish of the matrix, and the rule that decided.
# Rewritten by: UPDATE_GOLDEN=1 cargo test -p strongroom-policy --test matrix
# subject          credential         wish             decision             rule                         about
";

#[test]
fn the_matrix_is_the_golden_one() {
    compare("matrix.txt", &matrix());
}

/// Holds a table against the golden file of a name.
fn compare(name: &str, table: &str) {
    let path = format!("{}/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, table).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(table == golden, "{path} differs; UPDATE_GOLDEN=1 rewrites it");
}

/// A new rule in `decide.rs` fails here until the matrix holds a case that it decides.
#[test]
fn every_rule_of_the_decision_decides_a_line_of_the_matrix() {
    let table = [matrix(), tenant::table()].concat();
    let decided: BTreeSet<&str> = table.split_whitespace().collect();
    let named = rules_named_in(include_str!("../../src/decide.rs"));
    assert!(named.len() >= 20, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|rule| !decided.contains(**rule)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

/// Quoted words with a dot between: how rules are named.
fn rules_named_in(source: &str) -> BTreeSet<&str> {
    let is_rule = |text: &&str| {
        text.contains('.')
            && text.split('.').all(|word| {
                !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
            })
    };
    source.split('"').skip(1).step_by(2).filter(is_rule).collect()
}
