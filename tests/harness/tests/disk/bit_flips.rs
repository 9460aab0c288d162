//! One flipped bit, anywhere: refused, or everything is there.
//!
//! Seen red: with the journal's chain values compared as numbers and not as text (`vault/keeper/src/journal/read.rs`), which
//! lets a digit change its case.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use strongroom_protocol::SecretBytes;
use strongroom_tests::dice::Dice;
use strongroom_tests::scratch;

use crate::figures::tell;
use crate::keeper::check;
use crate::lab::{Lab, clone};
use crate::scene::{Opened, Sight, files, kind, open, rest, sight};
use strongroom_soak::size;

#[test]
fn one_flipped_bit_is_refused_or_everything_is_there() {
    let Some(lab) = Lab::new() else { return };
    let base = rest(&lab.shelf().join("base"));
    let untouched = lab.shelf().join("untouched");
    clone(&base.data, &untouched);
    let whole = sight(&untouched, &base.shares);
    let mut kinds: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for file in files(&base.data) {
        kinds.entry(kind(&file)).or_default().push(file);
    }
    let kinds: Vec<(String, Vec<_>)> = kinds.into_iter().collect();
    let mut dice = Dice::new();
    let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
    let flips = size(110, 1100);
    for flip in 0..flips {
        let (kind, files) = &kinds[flip % kinds.len()];
        let file = &files[dice.pick(files.len())];
        let copy = lab.shelf().join("copy");
        clone(&base.data, &copy);
        let at = flip_one(&copy.join(file), &mut dice);
        let changed = fs::read(copy.join(file)).expect("it is there");
        let count = counts.entry(kind).or_default();
        let what = format!("{} bit {at}", file.display());
        match outcome(&copy, (&base.shares, &whole), kind == SEAL) {
            Ok(Outcome::Refused) => {
                let left = fs::read(copy.join(file)).expect("it is there");
                assert!(left == changed, "{what}: the evidence was rewritten");
                count.refused += 1;
            }
            Ok(Outcome::Recovered) => count.recovered += 1,
            Err(why) => panic!("{what}: {why}"),
        }
        fs::remove_dir_all(&copy).expect("it is ours");
    }
    tell("bit-flips", "flips, each refused or recovered in full", flips);
    for (kind, Counts { refused, recovered }) in &counts {
        let figure = format!("{kind}: refused / recovered");
        tell("bit-flips", &figure, format!("{refused} / {recovered}"));
    }
    let refused: usize = counts.values().map(|count| count.refused).sum();
    assert!(refused > 0, "no flip met anything");
}

#[derive(Default)]
struct Counts {
    refused: usize,
    recovered: usize,
}

enum Outcome {
    Refused,
    Recovered,
}

/// A seal that was changed is told like a wrong share.
const SEAL: &str = "vault/seal";

/// What becomes of a damaged directory: the check, then the start, then the unsealing.
fn outcome(
    data: &Path,
    (shares, whole): (&[SecretBytes], &Sight),
    seal: bool,
) -> Result<Outcome, String> {
    let checked = check(data);
    // The check is a child of its own because sled may panic in it.
    match checked.code() {
        Some(0) => {}
        Some(5) | None => return Ok(Outcome::Refused),
        Some(101) if cfg!(debug_assertions) => return Ok(Outcome::Refused),
        Some(code) => return Err(format!("the check ended with {code}")),
    }
    match open(data, shares) {
        Opened::Shows(sight) if sight.holds(whole) => Ok(Outcome::Recovered),
        Opened::Shows(sight) => Err(lost(&sight, whole)),
        Opened::Refused(fault) => {
            let told = (5..=8).contains(&fault.exit.code()) || seal;
            told.then_some(Outcome::Refused).ok_or_else(|| format!("{fault:?}"))
        }
        Opened::Ended(ended) => {
            let clean = ended.status.code().is_some() && ended.said.contains("SR-");
            clean.then_some(Outcome::Refused).ok_or_else(|| format!("{ended:?}"))
        }
    }
}

fn lost(sight: &Sight, whole: &Sight) -> String {
    let gone: Vec<_> =
        whole.found.iter().filter(|(name, _)| !sight.found.contains_key(name)).collect();
    let same = sight.journal.iter().zip(&whole.journal).take_while(|(a, b)| a == b).count();
    let (of, next, now) = (whole.journal.len(), whole.journal.get(same), sight.journal.get(same));
    format!(
        "it opened without {gone:?}; {same} of {of} entries are as they were, not {next:?} but {now:?}"
    )
}

/// Flips a bit: of any byte, or, because most of a slot file is zeros, of one that is not zero.
fn flip_one(file: &Path, dice: &mut Dice) -> usize {
    let mut bytes = fs::read(file).expect("it is there");
    let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let at = if written.is_empty() || dice.roll(2) == 0 {
        dice.pick(bytes.len())
    } else {
        written[dice.pick(written.len())]
    };
    let bit = dice.pick(8);
    bytes[at] ^= 1 << bit;
    fs::write(file, bytes).expect("root may");
    at * 8 + bit
}

#[test]
fn a_digit_of_a_chain_in_the_other_case_is_refused() {
    let place = scratch::directory();
    let base = rest(&place.path().join("base"));
    let mut changed = 0;
    for file in files(&base.data).iter().filter(|file| file.starts_with("journal")) {
        let file = base.data.join(file);
        let mut bytes = fs::read(&file).expect("it is there");
        let Some(chain) = memchr::memmem::find(&bytes, b"\"chain\":\"") else { continue };
        let digits = bytes.iter().skip(chain + 9).take(64);
        let Some(letter) = digits.clone().position(u8::is_ascii_lowercase) else { continue };
        bytes[chain + 9 + letter] ^= 0x20;
        fs::write(&file, bytes).expect("root may");
        changed += 1;
    }
    assert!(changed > 0, "the journal has no chain");
    match open(&base.data, &base.shares) {
        Opened::Refused(fault) => assert_eq!(fault.exit.code(), 5, "{fault:?}"),
        other @ (Opened::Shows(_) | Opened::Ended(_)) => panic!("{}", other.story()),
    }
}
