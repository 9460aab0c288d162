//! What is linked into each program that holds keys or meets strangers, by name: a new crate is a line in a diff.
//!
//! Invariant: every dependency line of ours says what it is for.
//! `UPDATE_GOLDEN=1` writes the list anew: it may shrink as it likes, and grows with a reason in the commit.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise, with a sentence"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAMS: [&str; 5] = [
    "strongroom-keeper",
    "strongroom-courier",
    "strongroom-gateway",
    "strongroom-tpm",
    "strongroom",
];

/// Red when any crate joins a program unseen.
#[test]
fn the_crates_of_each_program_are_those_of_the_list() {
    let mut page = String::new();
    for program in PROGRAMS {
        let direct = crates_of(program, &["--depth", "1"]);
        let all = crates_of(program, &[]);
        let counts = format!("{program}: {} direct, {} in all", direct.len(), all.len());
        println!("{counts}");
        writeln!(page, "{counts}").expect("a string takes everything");
        for name in &all {
            let mark = if direct.contains(name) { "*" } else { " " };
            writeln!(page, "  {mark} {name}").expect("a string takes everything");
        }
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join("crates.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(golden.parent().expect("a directory")).expect("a directory");
        fs::write(&golden, &page).expect("the list");
    }
    let wanted = fs::read_to_string(&golden).expect("the list");
    let lines = |text: &str| text.lines().map(ToOwned::to_owned).collect::<BTreeSet<_>>();
    let (is, was) = (lines(&page), lines(&wanted));
    let new: Vec<_> = is.difference(&was).collect();
    let gone: Vec<_> = was.difference(&is).collect();
    assert_eq!(page, wanted, "new: {new:#?}\ngone: {gone:#?}");
}

/// Programs, and procedural macros that ran at build time; other crates of build scripts are not linked.
fn crates_of(program: &str, more: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tree = Command::new(cargo);
    tree.args(["tree", "--locked", "--offline", "-e", "normal", "--prefix", "none", "--no-dedupe"]);
    tree.args(["--target", "x86_64-unknown-linux-gnu", "--format", "{p}", "-p", program])
        .args(more);
    let told = tree.current_dir(root()).output().expect("cargo");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told = String::from_utf8(told.stdout).expect("text");
    let names = told.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, version) = (words.next()?, words.next()?);
        // Two versions of one crate are two crates; which they are is in Cargo.lock.
        let major = version.split('.').take(if version.starts_with("v0.") { 2 } else { 1 });
        Some(format!("{name} {}", major.collect::<Vec<_>>().join(".")))
    });
    names.filter(|name| name.split(' ').next() != Some(program)).collect()
}

/// In the root's manifest, where each crate has its one version.
#[test]
fn every_dependency_says_what_it_is_for_in_the_one_place_that_names_it() {
    let root_manifest = read(&root().join("Cargo.toml"));
    let (own, foreign): (Vec<&str>, Vec<&str>) =
        dependencies(&root_manifest).into_iter().partition(|line| line.contains("path ="));
    assert!(own.len() > 5 && foreign.len() > 40, "{own:#?} {foreign:#?}");
    let silent: Vec<_> = foreign.iter().filter(|line| !line.contains(" # ")).collect();
    assert!(silent.is_empty(), "no word of what it is for: {silent:#?}");

    let workspace: toml::Table = root_manifest.parse().expect("TOML");
    let members = workspace["workspace"]["members"].as_array().expect("members");
    for member in members.iter().map(|member| member.as_str().expect("a path")) {
        let manifest = read(&root().join(member).join("Cargo.toml"));
        for line in dependencies(&manifest) {
            // A crate of ours has no version.
            let is_ours = line.starts_with("strongroom-") && line.contains("path = ");
            let has_none = is_ours || line.contains("workspace = true");
            assert!(has_none, "{member} has its own version: {line}");
        }
    }
}

/// The lines of the tables of dependencies.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if inside && line.contains('=') && !line.starts_with('#') {
            found.push(line);
        }
    }
    found
}

/// Red when the lists of the programs go the way of the lists of all else, and when a file has no sum.
#[test]
fn a_release_into_a_directory_of_the_checkout_keeps_its_lists_and_sums_every_file() {
    let scratch = tempfile::tempdir().expect("a directory");
    let (tree, tools) = (scratch.path().join("tree"), scratch.path().join("tools"));
    for place in [tree.join("deploy"), tree.join("vault"), tools.clone()] {
        fs::create_dir_all(place).expect("a directory");
    }
    fs::copy(root().join("deploy/release"), tree.join("deploy/release")).expect("the script");
    // In cargo's place: programs and lists appear where it puts them.
    let cargo = tools.join("cargo");
    let names = [&PROGRAMS[..], &["another"]].concat().join(" ");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\nbuild*) mkdir -p target/release-programs/release\n\
         for p in {names}; do echo $p >target/release-programs/release/$p; done ;;\n\
         'cyclonedx --version') ;;\n\
         cyclonedx*) for p in {names}; do echo $p >vault/${{p}}_bin.cdx.json; done ;;\nesac\n"
    );
    fs::write(&cargo, script).expect("a script");
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").expect("a path"));
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&tree).env("PATH", &path);
        let ran = command.output().expect("it starts");
        assert!(ran.status.success(), "{program}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    run("git", &["init", "-q"]);
    run("git", &["add", "deploy"]);
    let named = ["-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "-qm", "x"];
    run("git", &named);
    run("bash", &["deploy/release", "out"]);
    let out = tree.join("out");
    let sums = read(&out.join("SHA256SUMS"));
    for program in PROGRAMS {
        let list = format!("{program}.cdx.json");
        assert!(out.join(&list).is_file() && sums.contains(&list), "{sums}");
        assert!(!tree.join(format!("vault/{program}_bin.cdx.json")).exists());
    }
    assert!(sums.contains("  BUILT-WITH\n") && !tree.join("vault/another_bin.cdx.json").exists());
}

/// Red when a longer program passes, or any few bytes do.
#[test]
fn two_builds_differ_in_the_known_place_alone_or_are_told_apart() {
    let scratch = tempfile::tempdir().expect("a directory");
    let write = |name: &str, keeper: &[u8], tool: &[u8]| {
        let place = scratch.path().join(name);
        fs::create_dir_all(&place).expect("a directory");
        fs::write(place.join("strongroom-keeper"), keeper).expect("a file");
        fs::write(place.join("strongroom"), tool).expect("a file");
        let sums = "sha256sum strongroom-keeper strongroom >SHA256SUMS";
        let ran = Command::new("sh").args(["-c", sums]).current_dir(&place).status();
        assert!(ran.expect("it starts").success());
        place
    };
    let tool = vec![7; 64 * 1024];
    let changed = |places: &[usize]| {
        let mut other = tool.clone();
        for at in places {
            other[*at] = 8;
        }
        other
    };
    let near: Vec<usize> = (1000..1012).collect();
    let one = write("one", b"k", &tool);
    for (keeper, other, same) in [
        (&b"k"[..], tool.clone(), true),
        (b"k", changed(&near), true),
        (b"k", [&tool[..], b"x"].concat(), false),
        (b"k", changed(&[&near[..], &[1012]].concat()), false),
        (b"k", changed(&[1000, 9000]), false),
        (b"K", tool.clone(), false),
    ] {
        let two = write("two", keeper, &other);
        let script = root().join("deploy/reproduce");
        let ran = Command::new("bash").arg(script).arg("--compare").args([&one, &two]).output();
        let ran = ran.expect("it starts");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.success(), same, "{} bytes: {said}", other.len());
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("two directories up").to_owned()
}
