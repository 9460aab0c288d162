//! Every committed input through its target, on stable: the corpora, and what the fuzzer once found.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use strongroom_fuzz::{TARGETS, Target, Verdict};

/// Fewest inputs of a corpus: less shows that files were lost.
const LEAST_INPUTS: usize = 5;
/// Most bytes of a corpus; `deploy/fuzz --minimise` keeps it small.
const MOST_BYTES: usize = 400 * 1024;

/// `fuzz/`.
fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The inputs of a directory, in the order of their names; none without the directory.
fn inputs(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

/// What became of the inputs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    accepted: usize,
    refused: usize,
    failed: Vec<PathBuf>,
}

fn replay(target: &Target, inputs: &[(PathBuf, Vec<u8>)]) -> Told {
    let mut told = Told::default();
    for (path, input) in inputs {
        match catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
            Ok(Verdict::Accepted) => told.accepted += 1,
            Ok(Verdict::Refused) => told.refused += 1,
            Err(_) => told.failed.push(path.clone()),
        }
    }
    told
}

#[test]
fn no_committed_input_breaks_a_claim() {
    let mut broken = Vec::new();
    for target in TARGETS {
        let corpus = inputs(&home().join("corpus").join(target.name));
        let finds = inputs(&home().join("regressions").join(target.name));
        let (name, bytes) =
            (target.name, corpus.iter().map(|(_, input)| input.len()).sum::<usize>());
        assert!(corpus.len() >= LEAST_INPUTS, "corpus/{name} has {} inputs", corpus.len());
        assert!(bytes <= MOST_BYTES, "corpus/{name} has {bytes} bytes");
        let told = replay(target, &corpus);
        // Both ways out are taken, so the corpus still reaches what lies behind the first check.
        let both = told.accepted >= 2 && told.refused >= 1;
        assert!(both || !told.failed.is_empty(), "{name}: {told:?}");
        broken.extend(told.failed);
        broken.extend(replay(target, &finds).failed);
    }
    assert_eq!(broken, Vec::<PathBuf>::new(), "see what each says above");
}

#[test]
fn an_input_that_breaks_a_claim_is_named() {
    let broken = Target {
        name: "broken",
        run: |input| {
            assert!(!input.starts_with(b"bad"), "a claim");
            if input.is_empty() { Verdict::Refused } else { Verdict::Accepted }
        },
    };
    let inputs = ["good", "", "bad"].map(|text| (PathBuf::from(text), text.as_bytes().to_vec()));
    let told = replay(&broken, &inputs);
    assert_eq!(told, Told { accepted: 1, refused: 1, failed: vec![PathBuf::from("bad")] });
}

#[test]
fn each_target_has_a_fuzzer_and_nothing_lies_beside_them() {
    let manifest = fs::read_to_string(home().join("Cargo.toml")).unwrap();
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    for name in &names {
        assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name} twice");
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "no [[bin]] for {name}");
        let fuzzer = fs::read_to_string(home().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(
            fuzzer.contains(&format!("::{name}(input)")),
            "fuzz_targets/{name}.rs runs another"
        );
    }
    for kind in ["corpus", "regressions", "fuzz_targets"] {
        let Ok(entries) = fs::read_dir(home().join(kind)) else { continue };
        for entry in entries {
            let file = entry.unwrap().file_name().into_string().unwrap();
            assert!(names.contains(&file.trim_end_matches(".rs")), "{kind}/{file} is of no target");
        }
    }
}
