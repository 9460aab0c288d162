//! Without root: one user runs all processes, on the loopback alone, and is told what that is worth.
//!
//! Invariant: nothing here runs as root, neither the processes nor the operator's tool.

use std::fs;
use std::net::Ipv4Addr;

use nix::unistd::Uid;
use serde_json::Value;
use strongroom_emulator::Api;
use strongroom_tests::captured::Programs;
use strongroom_tests::speak::models;
use strongroom_tests::{Appliance, Options, Part};

const NOBODY: u32 = 65_534;
const EVERYWHERE: &str = "0.0.0.0";

/// The addresses at which a network namespace's sockets of a user listen.
fn listened_at(pid: nix::unistd::Pid, user: u32) -> Vec<Ipv4Addr> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("sockets are listed");
    let rows = table.lines().skip(1).map(|row| row.split_ascii_whitespace().collect::<Vec<_>>());
    let ours = rows.filter(|row| row[3] == "0A" && row[7] == user.to_string());
    ours.map(|row| {
        let (address, _port) = row[1].split_once(':').expect("an address and a port");
        Ipv4Addr::from(u32::from_str_radix(address, 16).expect("hex digits").to_ne_bytes())
    })
    .collect()
}

// Red when `refuse_exposure` lets it listen elsewhere.
#[test]
fn without_root_it_serves_the_loopback_alone_and_doctor_says_what_is_missing() {
    let user = if Uid::effective().is_root() { NOBODY } else { Uid::effective().as_raw() };
    let programs = Programs::new();
    let mut appliance = Appliance::start(&Options {
        user: Some(user),
        programs: Some(programs.path().to_owned()),
        ..Options::default()
    });
    let token = appliance.stock();
    appliance.gate().call(&models(Api::OpenAi, &token)).is(200);

    for part in Part::ALL {
        let pid = appliance.pid(part).expect("it runs");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let owner = format!("Uid:\t{user}\t{user}\t{user}\t{user}\n");
        assert!(status.contains(&owner), "{part:?}: {status}");
    }
    let gateway = appliance.pid(Part::Gateway).expect("it runs");
    let addresses = listened_at(gateway, user);
    assert!(!addresses.is_empty() && addresses.iter().all(Ipv4Addr::is_loopback), "{addresses:?}");

    let doctor = appliance.cli(&["doctor", "--json"], b"");
    assert_eq!(doctor.code, 1, "{}", doctor.stdout);
    let told: Value = serde_json::from_str(doctor.stdout.trim()).expect("JSON");
    let checks = told.as_array().or_else(|| told["checks"].as_array()).expect("a list");
    let users = checks.iter().find(|check| check["name"] == "users").expect("users are checked");
    assert_eq!(users["verdict"], "fail", "{users}");

    appliance.stop();
    let settings = appliance.data().join("strongroom.toml");
    let text = fs::read_to_string(&settings).expect("settings");
    let own = format!("listen = \"{}:", appliance.address());
    assert!(text.contains(&own), "{text}");
    let open = text.replace(&own, &format!("listen = \"{EVERYWHERE}:"));
    fs::write(&settings, open).expect("settings");
    let refused = appliance.up_again();
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("SR-CLI-004"), "{}", refused.stderr);
    assert!(refused.stderr.contains("it does not listen on 0.0.0.0"), "{}", refused.stderr);
}
