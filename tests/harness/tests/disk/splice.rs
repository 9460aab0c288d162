//! Files of two vaults exchanged, each with each.
//!
//! Invariant: nothing of another vault is taken for our own, and nothing of ours opens with it in place.
//!
//! Seen red: with the manifest's vault not compared (`vault/keeper/src/manifest.rs`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::figures::tell;
use crate::lab::{Lab, clone};
use crate::scene::{Opened, Sight, files, kind, open, rest, sight};

#[test]
fn files_of_two_vaults_do_not_mix() {
    let Some(lab) = Lab::new() else { return };
    let [ours, theirs] = ["ours", "theirs"].map(|name| rest(&lab.shelf().join(name)));
    let untouched = lab.shelf().join("untouched");
    clone(&ours.data, &untouched);
    let whole = sight(&untouched, &ours.shares);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let copy = lab.shelf().join("copy");
    for (place, other) in pairs(&ours.data, &theirs.data) {
        clone(&ours.data, &copy);
        replace(&theirs.data.join(&other), &copy.join(&place));
        let what = format!("{} <- {}", kind(&place), kind(&other));
        // The thief may be the other vault's owner.
        for (shares, own) in [(&ours.shares, true), (&theirs.shares, false)] {
            let opened = open(&copy, shares);
            if own && kind(&place) == kind(&other) {
                foreign(&kind(&place), &opened);
            }
            let told = judge(&what, opened, &whole, own);
            *counts.entry(told).or_default() += 1;
        }
        fs::remove_dir_all(&copy).expect("it is ours");
    }
    for (figure, count) in counts {
        tell("splice", &figure, count);
    }
}

/// Every file of ours with every file of theirs, and the store as a whole.
fn pairs(ours: &Path, theirs: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut pairs = vec![(PathBuf::from(STORE), PathBuf::from(STORE))];
    for place in files(ours) {
        pairs.extend(files(theirs).into_iter().map(|other| (place.clone(), other)));
    }
    pairs
}

fn replace(from: &Path, to: &Path) {
    let removed = if to.is_dir() { fs::remove_dir_all(to) } else { fs::remove_file(to) };
    removed.expect("it is there");
    clone(from, to);
}

fn judge(what: &str, opened: Opened, whole: &Sight, own: bool) -> String {
    match opened {
        Opened::Refused(fault) => {
            let code = fault.exit.code();
            // Their shares are told that they are another vault's, before any file is looked at.
            let told =
                (5..=8).contains(&code) || (code == 1 && fault.code.starts_with("SR-SHARE-"));
            assert!(told, "{what}: {fault:?}");
            format!("refused with exit code {code}")
        }
        Opened::Shows(sight) if own && sight.holds(whole) => {
            "files that say nothing of a vault, and all is there".to_owned()
        }
        opened @ (Opened::Shows(_) | Opened::Ended(_)) => panic!("{what}: {}", opened.story()),
    }
}

/// What names its vault is told as another's.
fn foreign(place: &str, opened: &Opened) {
    if [STORE, "vault/keyring", "vault/manifest", "vault/store/db"].contains(&place) {
        let told = matches!(opened, Opened::Refused(fault) if matches!(fault.exit.code(), 7 | 8));
        assert!(told, "{place}: {}", opened.story());
    }
}

const STORE: &str = "vault/store";
