//! Core files and debuggers: what they would show of a process.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use strongroom_emulator::Api;
use strongroom_tests::speak::models;
use strongroom_tests::{Appliance, Part, canary, processes, until};

use crate::is_root;

#[test]
fn no_process_leaves_a_core_even_when_its_limit_is_raised_from_outside() {
    if !is_root() {
        return;
    }
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("a pattern");
    if pattern.contains(['|', '/', '%']) {
        strongroom_soak::skipped(&format!(
            "this machine writes cores elsewhere: {}",
            pattern.trim()
        ));
        return;
    }
    let scratch = strongroom_tests::scratch::directory();
    let cores = |place: &Path| -> usize {
        let names =
            fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().starts_with("core")).count()
    };
    // What is asked of ours leaves a core of another.
    let mut other =
        Command::new("sleep").arg("60").current_dir(scratch.path()).spawn().expect("sleep");
    let pid = Pid::from_raw(i32::try_from(other.id()).expect("a process id"));
    raise_core_limit(pid);
    processes::signal(pid, Signal::SIGQUIT);
    other.wait().expect("it ends");
    assert_eq!(cores(scratch.path()), 1, "a core is written where one may be");

    for (part, signal) in [
        (Part::Courier, Signal::SIGQUIT),
        (Part::Gateway, Signal::SIGABRT),
        (Part::Keeper, Signal::SIGABRT),
    ] {
        let (appliance, token) = Appliance::stocked();
        appliance.gate().call(&models(Api::OpenAi, &token)).is(200);
        let pid = appliance.pid(part).expect("it runs");
        raise_core_limit(pid);
        let place = fs::read_link(format!("/proc/{pid}/cwd")).expect("it runs");
        let before = cores(&place);
        processes::signal(pid, signal);
        until("it ends", || (!processes::runs(pid)).then_some(()));
        assert_eq!(cores(&place), before, "{part:?} left a core in {}", place.display());
        assert_eq!(cores(appliance.data()), 0, "{part:?}");
    }
}

/// Where the kernel lets this root do so: the limit of ours is zero for good, and only `CAP_SYS_RESOURCE` raises that.
fn raise_core_limit(pid: Pid) {
    let arguments = ["--core=unlimited", "--pid", &pid.to_string()];
    let ran = Command::new("prlimit").args(arguments).output().expect("prlimit runs");
    if !ran.status.success() {
        eprintln!("{pid}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}

#[test]
fn a_debuggers_dump_of_keeper_and_courier_holds_no_key() {
    if !is_root() {
        return;
    }
    let there = Command::new("gcore").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if there.is_err() {
        strongroom_soak::skipped("gcore is needed; the searches read what it would read");
        return;
    }
    let (appliance, token) = Appliance::stocked();
    let needles = canary::needles();
    for api in Api::ALL {
        appliance.gate().call(&models(api, &token)).is(200);
    }
    let known = vec![("the provider's host".to_owned(), Api::OpenAi.host().as_bytes().to_vec())];
    for part in [Part::Keeper, Part::Courier, Part::CourierDefined] {
        let pid = appliance.pid(part).expect("it runs");
        let place = appliance.scratch().join("dump");
        let ran = Command::new("gcore")
            .args(["-a", "-o", &place.display().to_string(), &pid.to_string()])
            .output()
            .expect("gcore runs");
        let dump = fs::read(format!("{}.{pid}", place.display()));
        let dump = dump
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&ran.stderr)));
        assert_eq!(canary::found(&dump, &needles), Vec::<String>::new(), "{part:?}");
        assert!(!canary::found(&dump, &known).is_empty(), "the dump is of the {part:?}");
    }
}
