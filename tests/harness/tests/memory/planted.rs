//! The search finds what is there: each form of a key, planted in another process.

use std::io::Write;
use std::process::{Command, Stdio};

use nix::unistd::Pid;
use strongroom_emulator::Api;
use strongroom_tests::patience::within;
use strongroom_tests::speak::{Request, route};
use strongroom_tests::{Appliance, PATIENCE, canary};

use crate::{Needles, is_root, search};

#[test]
fn each_form_of_a_key_is_found_where_it_was_planted() {
    if !is_root() {
        return;
    }
    let mut needles = canary::needles_of("a provider's key", canary::key(Api::OpenAi).as_bytes());
    let mut key = [0; 32];
    getrandom::fill(&mut key).expect("randomness");
    needles.extend(canary::traces_of("a vault's key", &key));
    // It copies what it reads to its output, and keeps it in its buffer.
    let mut holder =
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cat runs");
    let all: Vec<u8> =
        needles.iter().flat_map(|(_, needle)| [needle, &b"--"[..]].concat()).collect();
    assert!(all.len() < 32 * 1024, "one read takes all");
    let input = holder.stdin.as_mut().expect("a pipe");
    input.write_all(&all).expect("cat reads");
    let pid = Pid::from_raw(i32::try_from(holder.id()).expect("a process id"));
    let missing = || -> Vec<String> {
        let hits = search(pid, &needles).hits;
        let there = |name: &str| hits.iter().any(|hit| hit.starts_with(&format!("{name} at ")));
        needles.iter().map(|(name, _)| name.clone()).filter(|name| !there(name)).collect()
    };
    let found = within(PATIENCE, || missing().is_empty().then_some(()));
    let left = missing();
    drop(holder.stdin.take());
    holder.wait().expect("cat ends");
    assert!(found.is_some(), "never seen: {left:?}");
}

#[test]
fn a_tokens_text_is_found_in_the_gateway_that_reads_it() {
    if !is_root() {
        return;
    }
    let appliance = Appliance::start(&strongroom_tests::Options::default());
    let token = "srt_CANARY_of_no_token_9vKq2Zt7WxL5rNbP4cHsYg3m1n1";
    let needles: Needles = vec![("a token".to_owned(), token.as_bytes().to_vec())];
    let gateway = appliance.pid(strongroom_tests::Part::Gateway).expect("it runs");
    assert_eq!(search(gateway, &needles).hits, Vec::<String>::new());
    // A head whose body does not come: the gateway holds it and waits.
    let mut connection = appliance.gate().connect().expect("a connection");
    let head = Request::new("POST", route(Api::OpenAi))
        .bearer(token)
        .body("application/json", &[b' '; 600]);
    let bytes = head.bytes("localhost");
    connection.send(&bytes[..bytes.len() - 1]).expect("sent");
    crate::seen(("gateway", gateway), &needles);
}
