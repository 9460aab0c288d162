//! The ledger of known attacks in `SECURITY.md`: what it names is there.
//!
//! Invariant: a test or a file that is renamed or removed takes its row with it, or this fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

fn security() -> String {
    fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md")
}

/// The names of all tests in the sources.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for package in ["fuzz/targets", "gateway", "policy", "tests", "vault"] {
        for file in strongroom_tests::journal::files(&root().join(package)) {
            if file.extension().is_some_and(|kind| kind == "rs") {
                let text = fs::read_to_string(&file).expect("a source");
                found.extend(tests_in(&text));
            }
        }
    }
    found
}

/// Functions whose attributes say that they are tests, and the claims of a program that is a test without a harness.
fn tests_in(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let (mut is_test, mut in_claims) = (false, false);
    for line in source.lines().map(str::trim) {
        in_claims =
            line.starts_with("const CLAIMS: &[(&str, fn())]") || (in_claims && line != "];");
        if in_claims
            && let Some((name, _)) = line.strip_prefix("(\"").and_then(|row| row.split_once("\", "))
        {
            found.insert(name.to_owned());
        }
        if line.starts_with("#[")
            || line.starts_with("///")
            || line.starts_with("reason")
            || line == ")]"
        {
            is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
            continue;
        }
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if let (true, Some((name, _))) = (is_test, name.and_then(|rest| rest.split_once('('))) {
            found.insert(name.to_owned());
        }
        is_test = false;
    }
    found
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Whether a quoted word has the form of a test's name: a claim of several words.
fn is_claim(word: &str) -> bool {
    let plain =
        word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    plain && word.matches('_').count() >= 3
}

/// Whether a quoted word names a source, or a directory of them.
fn is_source(word: &str) -> bool {
    word.ends_with('/') || Path::new(word).extension().is_some_and(|kind| kind == "rs")
}

/// Rows of the ledger: number, attack, answer, tests.
fn rows(security: &str) -> Vec<Vec<&str>> {
    let (_, ledger) = security.split_once("## Known attacks").expect("the ledger");
    let is_row = |line: &&str| ["| L", "| R", "| A"].iter().any(|kind| line.starts_with(kind));
    let lines = ledger.lines().filter(is_row);
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn every_test_that_the_ledger_names_is_in_the_repository() {
    let (security, tests) = (security(), tests());
    let named: BTreeSet<&str> =
        quoted(&security).into_iter().filter(|word| is_claim(word)).collect();
    assert!(named.len() > 100 && tests.len() > 500, "{} of {}", named.len(), tests.len());
    let missing: Vec<_> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(missing.is_empty(), "SECURITY.md names tests that are not there: {missing:#?}");
}

#[test]
fn every_row_of_the_ledger_has_a_test_or_says_why_not() {
    let (security, tests) = (security(), tests());
    let rows = rows(&security);
    assert!(rows.len() > 30, "{}", rows.len());
    for row in rows {
        let [number, _, _, shown] = row[..] else { panic!("not four columns: {row:?}") };
        let has_test = quoted(shown).into_iter().any(|word| tests.contains(word));
        let says_why =
            ["nothing to test yet", "no test: a limit"].iter().any(|why| shown.contains(why));
        assert!(has_test || says_why, "{number}: {shown}");
    }
}

/// Red when two rows have one number: whoever names it means either.
#[test]
fn every_row_of_the_ledger_has_a_number_of_its_own() {
    let security = security();
    let mut numbers: Vec<&str> = rows(&security).iter().map(|row| row[0]).collect();
    numbers.sort_unstable();
    let twice: Vec<_> = numbers.windows(2).filter(|two| two[0] == two[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn every_file_that_the_ledger_names_is_in_the_repository() {
    let security = security();
    for row in rows(&security) {
        // A bare name stands beside the file before it.
        let mut directory = PathBuf::new();
        for word in quoted(row[2]).into_iter().filter(|word| is_source(word)) {
            let whole = root().join(word);
            let path = if whole.exists() { whole } else { directory.join(word) };
            assert!(path.exists(), "{}: {word}", row[0]);
            directory =
                if path.is_dir() { path } else { path.parent().expect("a directory").to_owned() };
        }
    }
}

#[test]
fn a_name_without_a_test_is_found() {
    let source = "#[test]\nfn one_is_a_test() {}\n/// No.\nfn two_is_no_test_at_all() {}\n\
                  #[tokio::test(flavor = \"x\")]\nasync fn three_is_one_too() {}\n";
    let found: Vec<_> = tests_in(source).into_iter().collect();
    assert_eq!(found, ["one_is_a_test", "three_is_one_too"]);
    assert!(is_claim("a_key_is_nowhere") && !is_claim("extra_roots") && !is_claim("L_1 x"));
}
