//! Earlier copies of the vault's parts put back, singly and mixed.
//!
//! Invariant: a mixture of moments is refused as what it is.
//!
//! Seen red: with the keyring's commit floor not compared, and with its generation not compared
//! (`vault/keeper/src/manifest/judge.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::figures::tell;
use crate::keeper::Keeper;
use crate::lab::{Lab, clone};
use crate::ledger::{Ledger, Writer, look};
use crate::scene::{Opened, Resting, live, open, rest};
use strongroom_soak::size;
use strongroom_tests::dice::Dice;

/// A moment: each part's path, and which of its contents it had, counted from 0.
struct Moment {
    copy: PathBuf,
    contents: BTreeMap<PathBuf, usize>,
}

#[test]
fn parts_of_different_moments_are_refused_and_a_whole_directory_is_the_limit() {
    let Some(lab) = Lab::new() else { return };
    let base = rest(&lab.shelf().join("base"));
    let moments = moments(&base, &lab.shelf());
    let parts: Vec<&PathBuf> = moments[0].contents.keys().collect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for picks in mixtures(parts.len(), moments.len(), size(30, usize::MAX)) {
        let copy = lab.shelf().join("copy");
        fs::create_dir_all(copy.join("vault")).expect("a directory");
        for (part, pick) in parts.iter().zip(&picks) {
            clone(&moments[*pick].copy.join(part), &copy.join(part));
        }
        let named = parts.iter().zip(&picks);
        let named: Vec<String> =
            named.map(|(part, pick)| format!("{}@{pick}", part.display())).collect();
        let expected = expected(&moments, &parts, &picks);
        let told = match (expected, open(&copy, &base.shares)) {
            (Expected::Open, Opened::Shows(_)) => "one moment, accepted: the limit".to_owned(),
            (Expected::Either, Opened::Shows(_)) => {
                "indistinguishable, accepted: the limit".to_owned()
            }
            (Expected::Refusal | Expected::Either, Opened::Refused(fault)) => {
                let code = fault.exit.code();
                assert!((5..=8).contains(&code), "{named:?}: {fault:?}");
                format!("mixtures refused with exit code {code}")
            }
            (_, opened) => panic!("{named:?} is not {expected:?}: {}", opened.story()),
        };
        *counts.entry(told).or_default() += 1;
        fs::remove_dir_all(&copy).expect("it is ours");
    }
    for (figure, count) in counts {
        tell("rollback", &figure, count);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Open,
    Refusal,
    Either,
}

/// What is promised of a mixture. Without a counter or a witness nobody can tell a whole directory of an earlier moment.
fn expected(moments: &[Moment], parts: &[&PathBuf], picks: &[usize]) -> Expected {
    let mixed = || parts.iter().zip(picks);
    let same = |part: &PathBuf, pick: usize, moment: usize| {
        moments[pick].contents[part] == moments[moment].contents[part]
    };
    let as_at = |moment: usize| mixed().all(|(part, pick)| same(part, *pick, moment));
    if (0..moments.len()).any(as_at) {
        return Expected::Open;
    }
    let crash = |moment: usize| {
        mixed().all(|(part, pick)| {
            let also = |name: &str, others: &[(usize, usize)]| {
                let mut others = others.iter().filter(|(of, _)| *of == moment);
                part.ends_with(name) && others.any(|(_, other)| same(part, *pick, *other))
            };
            same(part, *pick, moment)
                || also("keyring", &LATER_KEYRINGS)
                || also("journal", &EARLIER_JOURNALS)
        })
    };
    if (0..moments.len()).any(crash) { Expected::Either } else { Expected::Refusal }
}

/// Every moment whole, every moment with one part of another, and this many more at random, or all there are.
fn mixtures(parts: usize, moments: usize, more: usize) -> BTreeSet<Vec<usize>> {
    let mut mixtures = BTreeSet::new();
    for moment in 0..moments {
        for (part, other) in
            (0..parts).flat_map(|part| (0..moments).map(move |other| (part, other)))
        {
            let mut picks = vec![moment; parts];
            picks[part] = other;
            mixtures.insert(picks);
        }
    }
    let every = moments.pow(u32::try_from(parts).expect("a few parts"));
    let number = |mut number: usize| {
        let digits = (0..parts).map(|_| {
            let digit = number % moments;
            number /= moments;
            digit
        });
        digits.collect::<Vec<_>>()
    };
    if more >= every {
        mixtures.extend((0..every).map(number));
    } else {
        let mut dice = Dice::new();
        mixtures.extend((0..more).map(|_| number(dice.pick(every))));
    }
    mixtures
}

/// Of [`moments`]: one, and a later one that no unsealing of the earlier one's acts lies between. The keyring is written before
/// the manifest, so one that is newer is what a crash leaves; only an unsealing notes in it how far the store is.
const LATER_KEYRINGS: [(usize, usize); 4] = [(0, 1), (1, 2), (1, 3), (2, 3)];
/// Of [`moments`]: one at which the vault was open, and the closing before it. Until the first second's checkpoint the manifest
/// notes that closing's, and a journal that ends there is what it asks for.
const EARLIER_JOURNALS: [(usize, usize); 1] = [(2, 1)];

/// The same vault at four moments: after three unsealings, and in the middle of the last.
fn moments(base: &Resting, shelf: &Path) -> Vec<Moment> {
    let mut seen: BTreeMap<PathBuf, Vec<BTreeMap<PathBuf, Vec<u8>>>> = BTreeMap::new();
    let mut moments = vec![moment(base, shelf.join("m0"), &mut seen)];
    live(unsealed(base), base, |writer, ledger| writer.act_on_tokens(ledger, 5));
    moments.push(moment(base, shelf.join("m1"), &mut seen));
    let keeper = unsealed(base);
    let mut door = keeper.operator();
    let mut writer = Writer::new(1, keeper.operator(), &look(&mut door));
    writer.act_on_tokens(&Ledger::default(), 5).expect("nothing stands in the way");
    moments.push(moment(base, shelf.join("m2"), &mut seen));
    drop((door, writer));
    live(keeper, base, |writer, ledger| writer.act(ledger, 7));
    moments.push(moment(base, shelf.join("m3"), &mut seen));
    moments
}

fn unsealed(base: &Resting) -> Keeper {
    let keeper = Keeper::start(&base.data);
    let opened = keeper.operator().unseal(&base.shares);
    assert!(opened.is_ok(), "{opened:?}");
    keeper
}

fn moment(
    base: &Resting,
    copy: PathBuf,
    seen: &mut BTreeMap<PathBuf, Vec<BTreeMap<PathBuf, Vec<u8>>>>,
) -> Moment {
    clone(&base.data, &copy);
    let mut contents = BTreeMap::new();
    for part in parts(&copy) {
        let files = strongroom_tests::journal::files(&copy.join(&part)).into_iter();
        let mut bytes: BTreeMap<PathBuf, Vec<u8>> = files
            .map(|file| {
                let bytes = fs::read(&file).expect("it is there");
                (file.strip_prefix(&copy).expect("below it").to_owned(), bytes)
            })
            .collect();
        if bytes.is_empty() {
            bytes.insert(part.clone(), fs::read(copy.join(&part)).expect("a file"));
        }
        let known = seen.entry(part.clone()).or_default();
        let at = known.iter().position(|one| *one == bytes).unwrap_or(known.len());
        if at == known.len() {
            known.push(bytes);
        }
        contents.insert(part, at);
    }
    Moment { copy, contents }
}

/// What a thief would put back: each thing in the vault's directory, and the journal.
fn parts(data: &Path) -> Vec<PathBuf> {
    let vault = fs::read_dir(data.join("vault")).expect("a vault");
    let mut parts: Vec<PathBuf> =
        vault.map(|entry| Path::new("vault").join(entry.expect("an entry").file_name())).collect();
    parts.push(PathBuf::from("journal"));
    parts.sort();
    parts
}
