//! The golden vectors of every message, as frames of the side that says them.

use std::fs;
use std::path::Path;

use crate::Seed;

/// Beginnings of vectors' names, their target, and who says them: `None` where the input is the frame alone.
const KINDS: &[(&str, &str, Option<u8>)] = &[
    ("ask.answer", "ask", Some(1)),
    ("ask.snapshot", "ask", Some(1)),
    ("ask.", "ask", Some(0)),
    ("errand.redeem", "errand", Some(0)),
    ("errand.outcome", "errand", Some(0)),
    ("errand.probed", "errand", Some(0)),
    ("errand.", "errand", Some(1)),
    ("call.", "call", None),
];

pub(crate) fn all() -> Vec<Seed> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vault/protocol/vectors");
    let mut seeds = Vec::new();
    for entry in fs::read_dir(vectors).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let bytes = hex::decode(fs::read_to_string(&path).unwrap().replace('\n', "")).unwrap();
        seeds.extend(seeds_of(&name, &bytes));
    }
    seeds
}

fn seeds_of(name: &str, bytes: &[u8]) -> Vec<Seed> {
    // Of the sealed upload there is a seed of its own.
    if name.starts_with("upload.") {
        return Vec::new();
    }
    let known = KINDS.iter().find(|(begins, ..)| name.starts_with(begins));
    match known {
        Some((_, target, Some(side))) => vec![(*target, [&[*side], bytes].concat())],
        Some((_, target, None)) => vec![(*target, bytes.to_vec())],
        None => either_side(name, bytes),
    }
}

/// Requests and answers of operators, and datagrams of the TPM helper, tell by themselves which they are.
fn either_side(name: &str, bytes: &[u8]) -> Vec<Seed> {
    let (target, run): (_, fn(&[u8]) -> strongroom_fuzz::Verdict) = match name.split('.').next() {
        Some("tpm") => ("tpm", strongroom_fuzz::sockets::tpm),
        _ => ("operator", strongroom_fuzz::sockets::operator),
    };
    // The helper's datagrams have no length in front.
    let bytes = if target == "tpm" { &bytes[4..] } else { bytes };
    [0, 1]
        .into_iter()
        .map(|side| [&[side], bytes].concat())
        .filter(|input| run(input) == strongroom_fuzz::Verdict::Accepted)
        .map(|input| (target, input))
        .collect()
}
