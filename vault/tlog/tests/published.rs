//! Vectors that others published.
//!
//! `vectors/{inclusion,consistency}.json`: every probe of github.com/transparency-dev/merkle `testdata` (Apache-2.0), each with the
//! file it comes from. The cosignatures are those of github.com/FiloSottile/sunlight `cmd/skylight/testdata/witness` (ISC).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use strongroom_tlog::cosignature::{Timestamp, WitnessKey};
use strongroom_tlog::{
    Checkpoint, Hash, Index, Note, Size, Verifier, verify_consistency, verify_inclusion,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inclusion {
    file: String,
    leaf_idx: u64,
    tree_size: u64,
    root: Option<String>,
    leaf_hash: Option<String>,
    proof: Option<Vec<Option<String>>>,
    want_err: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consistency {
    file: String,
    size1: u64,
    size2: u64,
    root1: Option<String>,
    root2: Option<String>,
    proof: Option<Vec<Option<String>>>,
    want_err: bool,
}

/// What is no hash is refused before a proof is looked at.
fn hash(text: Option<&String>) -> Option<Hash> {
    Some(Hash(STANDARD.decode(text?).ok()?.try_into().ok()?))
}

/// A root that nobody looks at ("don't care") is filled up to be one.
fn root(text: Option<&String>) -> Option<Hash> {
    let mut bytes = STANDARD.decode(text?).ok()?;
    bytes.resize(bytes.len().max(32), 0);
    Some(Hash(bytes.try_into().ok()?))
}

fn hashes(proof: Option<&Vec<Option<String>>>) -> Option<Vec<Hash>> {
    proof.map_or(Some(Vec::new()), |proof| proof.iter().map(|text| hash(text.as_ref())).collect())
}

#[test]
fn every_probe_of_inclusion_is_judged_as_published() {
    let probes: Vec<Inclusion> =
        serde_json::from_str(include_str!("vectors/inclusion.json")).unwrap();
    assert_eq!(probes.len(), 98);
    for probe in probes {
        let held = (|| {
            let tree = (Size(probe.tree_size), hash(probe.root.as_ref())?);
            let proof = hashes(probe.proof.as_ref())?;
            let leaf = hash(probe.leaf_hash.as_ref())?;
            verify_inclusion(leaf, Index(probe.leaf_idx), tree, &proof).ok()
        })();
        assert_eq!(held.is_none(), probe.want_err, "{}", probe.file);
    }
}

#[test]
fn every_probe_of_consistency_is_judged_as_published() {
    let probes: Vec<Consistency> =
        serde_json::from_str(include_str!("vectors/consistency.json")).unwrap();
    assert_eq!(probes.len(), 98);
    let mut otherwise = Vec::new();
    for probe in probes {
        let held = (|| {
            let old = (Size(probe.size1), root(probe.root1.as_ref())?);
            let new = (Size(probe.size2), root(probe.root2.as_ref())?);
            let proof = hashes(probe.proof.as_ref())?;
            verify_consistency(old, new, &proof).ok()
        })();
        if held.is_none() != probe.want_err {
            otherwise.push(probe.file);
        }
    }
    // They refuse to ask; C2SP tlog-witness says that the empty tree is the beginning of every tree, with an empty proof.
    assert_eq!(
        otherwise,
        ["testdata/consistency/additional/size1-is-zero-and-size2-is-not-zero.json"]
    );
}

const WITNESSED: &str = "rome2026h1.example.org\n300\nlCkHUpkmVBEms2r2T1K6Og69+wUuuN3MIEW1/ezu2v0=\n\n\
    — rome2026h1.example.org kVB1JgAAAZtxtEwABAMARzBFAiEAi+mTa2xjL1IdWpH82OeciGsGvwRAP+f1WkfKaSZCfFECIHoNPZ/Q3y6UNzvKOO9cuLr6V16vPNfhwhle9f6r5H/Z\n\
    — witness.example.org uKLPIAAAAABpVGeAhm2bOvKc3LaB9PFN1ruG19Y5yqslmcAAbhftnn1Zznmo0LXFZq4LGvqKqLX8jWlwLKasxEGTLIqAVusneCBmBw==\n";
const MIRRORED: &str = "rome2026h1.example.org\n300\ngw31yQrqZZCcEOPrzX+bpy3nJ6QgngTKn8G1m0i62uU=\n\n\
    — mirror.example.org P7FI7wAAAABpVGeAjA1S4pJm6MbcXjX7UUImu4azZtrfcVW2uyr/LXIYlwEJzXC0N0EiZkbqfLdXt/4gVEEuGmxJjAfXKMCISpsJAg==\n";

#[test]
fn cosignatures_by_others_verify() {
    for (note, vkey) in [
        (WITNESSED, "witness.example.org+b8a2cf20+BFLN3yikSfFkVAJtrnh/CiY3Zozkoy7clp+P7XB28qUN"),
        (MIRRORED, "mirror.example.org+3fb148ef+BAAjjch9GyYz0sJsJx7ALhbdAtz2ov0unbzSl1vMp94O"),
    ] {
        let witness = WitnessKey::parse(vkey).unwrap();
        let read = Note::parse(note.as_bytes()).unwrap();
        // 2025-12-31T00:00:00Z, as cmd/skylight/testdata/gen.go says.
        assert_eq!(witness.verify(&read).map(Timestamp::seconds), Ok(1_767_139_200));
        assert_eq!(Checkpoint::parse(read.text()).unwrap().size, Size(300));
        assert_eq!(read.encode(), note);
        let changed = note.replacen("300", "301", 1);
        assert!(witness.verify(&Note::parse(changed.as_bytes()).unwrap()).is_err());
    }
}

#[test]
fn the_key_of_the_go_checksum_database_reads_and_writes() {
    let vkey = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
    assert_eq!(Verifier::parse(vkey).unwrap().vkey(), vkey);
}
