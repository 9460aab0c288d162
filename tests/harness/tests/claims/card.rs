//! The shape of the appliance: CARD-01, CARD-03 to CARD-05.
//!
//! Invariant: what a process is, is read from the kernel.

use std::fs;

use strongroom_emulator::Api;
use strongroom_tests::speak::{Shape, models, say};
use strongroom_tests::{Appliance, Part, Request, canary, processes, until};

use crate::sockets::sockets_of;

#[test]
fn card_01_and_05_it_starts_sealed_serves_nothing_but_status_and_is_unsealed_by_the_cli() {
    let (appliance, token) = Appliance::stocked();
    appliance.cli(&["seal"], b"").ok();
    let status = appliance.cli(&["status", "--json"], b"");
    assert_eq!(status.code, 2, "{}", status.stdout);
    let gate = appliance.gate();
    until("the gateway knows", || {
        let answer = gate.call(&Request::get("/healthz"));
        (answer.status == 503).then_some(())
    });
    for api in Api::ALL {
        let answer = gate.call(&say(api, &token, "m", "hi", Shape::Plain));
        answer.refused(503, "SR-SEALED-001");
    }
    for act in [&["user", "list"][..], &["credential", "list"], &["token", "create", "x"]] {
        let ran = appliance.cli(act, b"");
        assert_eq!(ran.code, 2, "{act:?}: {}{}", ran.stdout, ran.stderr);
    }
    let wrong = appliance.cli(&["unseal", "-"], b"not the passphrase at all");
    assert_eq!(wrong.code, 1, "{}", wrong.stderr);
    assert_eq!(appliance.cli(&["status"], b"").code, 2);
    appliance.unseal();
    appliance.wait_ready();
    gate.call(&say(Api::OpenAi, &token, "m", "hi", Shape::Plain)).is(200);
    // A keeper that died comes back sealed.
    appliance.kill(Part::Keeper);
    appliance.wait_state("sealed");
    gate_refuses_sealed(&appliance, &token);
    appliance.unseal();
    appliance.wait_ready();
    gate.call(&models(Api::Gemini, &token)).is(200);
}

fn gate_refuses_sealed(appliance: &Appliance, token: &str) {
    let gate = appliance.gate();
    until("the gateway answers again", || {
        let mut connection = gate.connect().ok()?;
        let answer = connection.call(&models(Api::OpenAi, token));
        (answer.refusal() == Some("SR-SEALED-001")).then_some(())
    });
}

#[test]
fn card_03_an_echoed_key_never_leaves_the_vault() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let needles = canary::needles();
    for api in Api::ALL {
        for day in ["raw", "base64-1", "percent-partly", "json-lower", "hex-upper"] {
            for place in ["error", "text", "header", "cookie", "keyheader", "redirect", "trailer"] {
                let model = format!("emu-echo-key-{day}-at-{place}");
                let answer = gate.call(&say(api, &token, &model, "hi", Shape::Plain));
                let found = canary::found(&answer.visible(), &needles);
                assert!(found.is_empty(), "{api:?} {model}: {found:?}\n{}", answer.story());
            }
        }
    }
    let entries = appliance.entries();
    let scrubbed = entries.iter().filter(|entry| entry["scrubbed"].as_u64() > Some(0)).count();
    assert!(scrubbed >= 40, "echoes were made and masked: {scrubbed}");
}

#[test]
fn card_04_each_process_has_its_own_user_and_the_gateway_no_way_out() {
    let (appliance, token) = Appliance::stocked();
    appliance.gate().call(&models(Api::OpenAi, &token)).is(200);
    let mut users = Vec::new();
    for part in Part::ALL {
        let pid = appliance.pid(part).expect("it runs");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).unwrap_or_default().to_owned()
        };
        assert_eq!(field("NoNewPrivs:"), "1", "{part:?}");
        assert_eq!(field("Seccomp:"), "2", "{part:?}");
        assert_eq!(u64::from_str_radix(&field("CapEff:"), 16), Ok(0), "{part:?}");
        users.push(field("Uid:"));
    }
    if !nix::unistd::Uid::effective().is_root() {
        strongroom_soak::skipped("users and networks of their own need root");
        return;
    }
    assert!(!users.contains(&"0".to_owned()), "{users:?}");
    users.sort();
    users.dedup();
    assert_eq!(users.len(), 4, "four users: {users:?}");
    // Nor any interface, in keeper and gateway.
    for part in [Part::Keeper, Part::Gateway] {
        let pid = appliance.pid(part).expect("it runs");
        let told = fs::read_to_string(format!("/proc/{pid}/net/dev")).expect("it runs");
        let outside = told.lines().skip(2).any(|line| !line.trim_start().starts_with("lo:"));
        assert!(!outside, "{part:?}: {told}");
    }
    // What the gateway must not have: a connection to any provider.
    let gateway = appliance.pid(Part::Gateway).expect("it runs");
    let mine = sockets_of(gateway.as_raw());
    let text = fs::read_to_string(format!("/proc/{gateway}/net/tcp")).unwrap_or_default();
    for line in text.lines().skip(1) {
        let fields: Vec<_> = line.split_whitespace().collect();
        let outward = fields.get(2).is_some_and(|remote| remote.ends_with(":01BB"));
        let own = fields.get(9).is_some_and(|inode| mine.iter().any(|known| known == inode));
        assert!(!(outward && own), "the gateway talks to a provider: {line}");
    }
    assert!(processes::descendants(std::process::id()).len() >= 4);
}
