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
use std::process::{Child, Command, Stdio};

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

/// Red when a script installs, builds or makes anything before it has read its arguments, or ignores one.
#[test]
fn every_script_says_its_use_and_refuses_what_it_does_not_know_before_it_begins() {
    let scratch = tempfile::tempdir().expect("a directory");
    let (tree, tools) = (scratch.path().join("tree"), scratch.path().join("tools"));
    for place in ["deploy/systemd", "fuzz"] {
        fs::create_dir_all(tree.join(place)).expect("a directory");
    }
    fs::create_dir(&tools).expect("a directory");
    fs::copy(root().join("fuzz/Cargo.toml"), tree.join("fuzz/Cargo.toml")).expect("a file");
    let scripts = scripts();
    assert!(scripts.len() > 8, "{scripts:?}");
    for script in &scripts {
        fs::copy(root().join(script), tree.join(script)).expect("a script");
    }
    // Who calls one of these has begun.
    for tool in ["cargo", "apt-get", "sudo", "git", "rustup", "systemd-analyze", "userdel"] {
        let tool = tools.join(tool);
        let script = "#!/bin/sh\necho $0 $* >>\"${0%/*}/called\"\nexit 1\n";
        fs::write(&tool, script).expect("a script");
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").expect("a path"));
    let before = entries(&tree);
    let run = |script: &str, arguments: &[&str]| {
        let mut command = Command::new("timeout");
        command.arg("20").arg("bash").arg(script).args(arguments);
        command.current_dir(&tree).env("PATH", &path).stdin(Stdio::null());
        let ran = command.output().expect("it starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (ran.status.code(), text(&ran.stdout), text(&ran.stderr))
    };
    for script in &scripts {
        let (code, said, complaint) = run(script, &["--help"]);
        let whole = said.contains(script) && said.contains("Exit codes: 0 ");
        assert!(code == Some(0) && whole && complaint.is_empty(), "{script}: {code:?} {said}");
        assert!(!said.contains("set -"), "{script}: more than its head: {said}");
    }
    let surplus = SURPLUS.iter().map(|(script, arguments, named)| (*script, *arguments, *named));
    let bogus = scripts.iter().map(|script| (script.as_str(), &["--bogus"][..], "'--bogus'"));
    for (script, arguments, named) in bogus.chain(surplus) {
        let (code, said, complaint) = run(script, arguments);
        assert_eq!(code, Some(2), "{script} {arguments:?}: {said}{complaint}");
        let one = complaint.lines().count() == 1 && said.is_empty();
        assert!(one && complaint.contains(named), "{script} {arguments:?}: {said}{complaint}");
    }
    let called = || fs::read_to_string(tools.join("called")).unwrap_or_default();
    assert_eq!(called(), "");
    // A list is no reason to install anything.
    let (code, said, _) = run("deploy/mutants", &["--list"]);
    assert!(code == Some(0) && said.contains("pipeline"), "{code:?} {said}");
    assert!(called().lines().all(|line| line.ends_with("mutants --version")), "{}", called());
    assert_eq!(entries(&tree), before);
}

/// All files and directories.
fn entries(tree: &Path) -> String {
    let found = Command::new("find").arg(tree).output().expect("find");
    String::from_utf8(found.stdout).expect("text")
}

/// Besides an unknown option: a script, its arguments, and what it must name.
const SURPLUS: &[(&str, &[&str], &str)] = &[
    ("deploy/bench", &["--quick", "--rounds"], "--rounds needs a value"),
    ("deploy/bench", &["--quick", "junk"], "'junk'"),
    ("deploy/fuzz", &["--list", "junk"], "'junk'"),
    ("deploy/fuzz", &["--minimise"], "--minimise needs a target"),
    ("deploy/fuzz", &["nosuch"], "'nosuch'"),
    ("deploy/fuzz", &["token", "5", "junk", "more"], "'junk'"),
    ("deploy/fuzz", &["token", "five"], "'five'"),
    ("deploy/mutants", &["--list", "junk"], "'junk'"),
    ("deploy/mutants", &["nosuch"], "'nosuch'"),
    ("deploy/quickstart", &["--demo", "junk"], "'junk'"),
    ("deploy/quickstart", &["--demo", "--port"], "--port needs a value"),
    ("deploy/release", &[], "where to?"),
    ("deploy/release", &["out", "--bogus"], "'--bogus'"),
    ("deploy/release", &["out", "more"], "'more'"),
    ("deploy/release", &["deploy"], "is not empty"),
    ("deploy/reproduce", &["extra"], "'extra'"),
    ("deploy/reproduce", &["a", "b"], "'b'"),
    ("deploy/reproduce", &["deploy"], "is not empty"),
    ("deploy/reproduce", &["--compare"], "--compare needs two directories"),
    ("deploy/reproduce", &["--compare", "nosuch", "more"], "nosuch/SHA256SUMS"),
    ("deploy/systemd/check", &[], "where are the programs?"),
    ("deploy/systemd/check", &["nosuch"], "'nosuch'"),
    ("deploy/systemd/check", &["deploy", "more"], "'more'"),
    ("deploy/test", &["--fast", "junk"], "'junk'"),
    ("deploy/test", &["--soak", "nosuch"], "'nosuch'"),
    ("deploy/uninstall", &["--data", "junk"], "'junk'"),
];

/// Every script that an operator or a developer calls.
fn scripts() -> Vec<String> {
    let files = strongroom_tests::journal::files(&root().join("deploy"));
    let mut scripts: Vec<String> = files
        .iter()
        .filter(|file| read(file).starts_with("#!"))
        .map(|file| file.strip_prefix(root()).expect("below it").display().to_string())
        .collect();
    scripts.sort();
    scripts
}

/// Red when a program gets an option that its script would refuse, or loses one.
#[test]
fn the_scripts_know_the_options_of_the_programs_that_they_build() {
    let mut bench = options("tests/bench/src/arguments.rs", "long");
    // What the script itself says to the program.
    assert!(bench.remove("--binaries"));
    assert_eq!(known("deploy/bench"), bench);
    let mut up = options("vault/cli/src/up.rs", "long");
    up.extend(options("vault/cli/src/arguments.rs", "global = true"));
    // Of the whole appliance, not of a tenant: `up` itself refuses it.
    assert!(up.remove("--tenant"));
    assert_eq!(known("deploy/quickstart"), up);
}

/// The options of a source for clap: those whose attribute has this word.
fn options(source: &str, word: &str) -> BTreeSet<String> {
    let source = read(&root().join(source));
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let fields = lines.windows(2).filter(|two| two[0].starts_with("#[arg(long"));
    let fields = fields.filter(|two| two[0].contains(word)).map(|two| {
        let (name, _) = two[1].split_once(':').expect("a field");
        format!("--{}", name.trim_start_matches("pub(crate) ").replace('_', "-"))
    });
    fields.collect()
}

/// What a script lets through.
fn known(script: &str) -> BTreeSet<String> {
    let script = read(&root().join(script));
    let lists = script
        .lines()
        .filter_map(|line| line.strip_prefix("alone='").or_else(|| line.strip_prefix("valued='")));
    lists
        .flat_map(|list| list.trim_end_matches('\'').split_whitespace())
        .map(String::from)
        .collect()
}

/// A process that ends with its test, however that ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _gone = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Red when a process counts by its name, when one of this install does not count, or when a locked vault is taken away.
#[test]
fn an_uninstall_waits_for_its_own_programs_and_vaults_and_for_no_others() {
    let scratch = tempfile::tempdir().expect("a directory");
    let at = |name: &str| scratch.path().join(name);
    let keepers = [at("target/release/strongroom-keeper"), at("else/strongroom-keeper")];
    let data = at("state/strongroom");
    for place in [at("deploy"), at("target/release"), at("else"), data.clone()] {
        fs::create_dir_all(place).expect("a directory");
    }
    fs::copy(root().join("deploy/uninstall"), at("deploy/uninstall")).expect("the script");
    for keeper in &keepers {
        fs::copy("/bin/sleep", keeper).expect("a program");
    }
    let lock = fs::File::create(data.join("keeper.lock")).expect("a file");
    let ours = Command::new("chmod").args(["-R", "a+rwX"]).arg(scratch.path()).status();
    assert!(ours.expect("it starts").success());
    // As root it would take this machine's install away.
    let command = |program: &Path| {
        let mut command = Command::new("setpriv");
        if nix::unistd::Uid::effective().is_root() {
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        }
        command.arg(program).env("XDG_STATE_HOME", at("state")).env_remove("CARGO_TARGET_DIR");
        command.env_remove("XDG_RUNTIME_DIR").stdin(Stdio::null());
        command
    };
    let uninstall = || {
        let ran = command(Path::new("bash")).arg(at("deploy/uninstall")).output().expect("bash");
        (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    let sleeper = |keeper: &PathBuf| {
        let mut command = command(keeper);
        command.arg("600").stdout(Stdio::null()).stderr(Stdio::null());
        let child = Ended(command.spawn().expect("it starts"));
        let exe = format!("/proc/{}/exe", child.0.id());
        let runs = || fs::read_link(&exe).is_ok_and(|program| program == *keeper).then_some(());
        strongroom_tests::until("it runs", runs);
        child
    };
    let elsewhere = sleeper(&keepers[1]);
    lock.lock().expect("nobody has it");
    let (code, said) = uninstall();
    assert!(code == Some(1) && said.contains("a keeper has"), "{code:?} {said}");
    lock.unlock().expect("it is ours");
    let own = sleeper(&keepers[0]);
    let (code, said) = uninstall();
    let named = said.contains(&format!("process {}", own.0.id()));
    assert!(code == Some(1) && named, "{code:?} {said}");
    drop(own);
    let (code, said) = uninstall();
    drop(elsewhere);
    assert!(code == Some(0) && said.contains("kept"), "{code:?} {said}");
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("two directories up").to_owned()
}
