//! Where the corpora begin: inputs made by the real encoders, each of which its target accepts.
//!
//! `UPDATE_SEEDS=1`, or a target's name, writes them into the corpora, for instance after a message was added.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod seeds {
    pub(crate) mod bodies;
    pub(crate) mod disk;
    pub(crate) mod http;
    pub(crate) mod texts;
    pub(crate) mod vectors;
}

use std::collections::BTreeMap;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use sha2::{Digest, Sha256};
use strongroom_fuzz::{TARGETS, Verdict};

/// A target's name and an input.
pub(crate) type Seed = (&'static str, Vec<u8>);

fn all() -> Vec<Seed> {
    [
        seeds::vectors::all(),
        seeds::bodies::all(),
        seeds::texts::all(),
        seeds::http::all(),
        seeds::disk::all(),
    ]
    .concat()
}

#[test]
fn every_seed_is_accepted_and_every_target_has_some() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let wanted = std::env::var_os("UPDATE_SEEDS");
    for (name, input) in all() {
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        let verdict = (target.run)(&input);
        assert_eq!(verdict, Verdict::Accepted, "{name}: {}", String::from_utf8_lossy(&input));
        *counts.entry(name).or_default() += 1;
        if wanted.as_ref().is_some_and(|wanted| wanted == "1" || wanted == name) {
            keep(name, &input);
            // The way out that refuses is seeded too.
            keep(name, &input[..input.len() / 2]);
            keep(name, &[]);
        }
    }
    for target in TARGETS {
        assert!(counts.get(target.name).is_some_and(|count| *count >= 2), "{}", target.name);
    }
}

fn keep(name: &str, input: &[u8]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(hex::encode(&Sha256::digest(input)[..10])), input).unwrap();
}

/// A little of what the fuzzer does, on stable and the same each time.
#[test]
fn a_seed_that_is_cut_short_or_changed_breaks_no_claim() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut broken = Vec::new();
    let (mut accepted, mut refused) = (0_u64, 0_u64);
    for (name, input) in all() {
        let turn = seen.entry(name).or_default();
        *turn += 1;
        if *turn > SEEDS_CHANGED {
            continue;
        }
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        let step = (input.len() / PLACES_CHANGED).max(1);
        for place in (0..input.len()).step_by(step) {
            let change = |change: fn(u8) -> u8| {
                let mut changed = input.clone();
                changed[place] = change(changed[place]);
                changed
            };
            let inputs = [
                input[..place].to_vec(),
                change(|byte| byte ^ 1),
                change(|byte| byte ^ 0x20),
                change(|_| 0),
                change(|_| 0xff),
                [&input[..place], &input[place + 1..]].concat(),
                [&input[..=place], &input[place..]].concat(),
            ];
            for input in inputs {
                match catch_unwind(|| (target.run)(&input)) {
                    Ok(Verdict::Accepted) => accepted += 1,
                    Ok(Verdict::Refused) => refused += 1,
                    Err(_) => broken.push((name, hex::encode(&input))),
                }
            }
        }
    }
    assert_eq!(broken, Vec::new());
    assert!(accepted > 1000 && refused > 1000, "{accepted} accepted, {refused} refused");
}

const SEEDS_CHANGED: usize = 6;
const PLACES_CHANGED: usize = 24;
