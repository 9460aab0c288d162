//! Providers and names that misbehave (ledger rows 1, 3 and 17; attack rows 6 and 31).
//!
//! Invariant: a key goes to the bound destination and nowhere else, whatever a provider or a name server says.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::json;
use strongroom_emulator::Api;
use strongroom_tests::appliance::Names;
use strongroom_tests::speak::{Shape, models, said, say};
use strongroom_tests::{Appliance, Ending, Options, Request, canary, scratch};

use crate::names;

#[test]
fn a_redirect_takes_no_key_to_another_origin() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    for api in Api::ALL {
        for status in [301, 302, 303, 307, 308] {
            let model = format!("emu-redirect-cross-{status}");
            let answer = gate.call(&say(api, &token, &model, "hi", Shape::Plain));
            let answer = answer.refused(502, "SR-UPSTREAM-006");
            assert!(answer.header("location").is_none(), "{}", answer.story());
        }
    }
    for seen in appliance.seen(|_, counts| counts.finished == 20) {
        assert_eq!(Some(seen.host.as_str()), seen.api.map(Api::host), "{seen:#?}");
        assert!(!seen.path.contains("stolen"));
    }
}

#[test]
fn a_name_that_leads_to_a_private_or_metadata_address_is_not_dialled() {
    for address in
        [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::LOCALHOST]
    {
        let port = SocketAddr::from((scratch::address(&[53]), 53));
        let options =
            Options { names: Names::Server(names::serve(port, address)), ..Options::default() };
        let appliance = Appliance::start(&options);
        appliance.deposit(Api::OpenAi, &["--no-test"]);
        let token = appliance.token("t", &[]);
        let answer = appliance.gate().call(&models(Api::OpenAi, &token));
        answer.refused(502, "SR-UPSTREAM-002");
        assert_eq!(appliance.providers().counts().connections, 0);
        if address == Ipv4Addr::LOCALHOST {
            let tested = appliance.cli(&["credential", "test", "openai", "--json"], b"");
            assert_ne!(tested.code, 0, "{}", tested.stdout);
        }
    }
}

#[test]
fn a_certificate_for_another_name_gets_no_key() {
    let appliance = Appliance::start(&Options::default());
    let ca = appliance.providers().ca_path().display().to_string();
    let token = appliance.token("t", &[]);
    for (name, more) in
        [("wrongname", ["--tls-name", "evil.example"]), ("wrongpaths", ["--tls-name", "localhost"])]
    {
        let base = [
            "provider",
            "add",
            name,
            "--base-url",
            "https://api.openai.com",
            "--dialect",
            "openai",
        ];
        let rest = ["--ca", &ca, "--private", "--paths-of", "openai"];
        appliance.json(&[&base[..], &rest, &more].concat(), b"");
        let add = ["credential", "add", name, "-", "--no-test"];
        appliance.json(&add, canary::key(Api::OpenAi).as_bytes());
    }
    let gate = appliance.gate();
    gate.call(&Request::get("/p/wrongname/v1/models").bearer(&token))
        .refused(502, "SR-UPSTREAM-003");
    assert_eq!(appliance.providers().counts().requests, 0);
    gate.call(&Request::get("/p/wrongpaths/v1/models").bearer(&token)).is(200);
}

#[test]
fn malformed_answers_are_never_passed_off_as_good_ones() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    for model in [
        "emu-badchunk-size",
        "emu-badchunk-huge",
        "emu-badchunk-nocrlf",
        "emu-badchunk-negative",
        "emu-badchunk-clte",
        "emu-badchunk-lengths",
        "emu-badhead-fold",
        "emu-badhead-nul",
        "emu-badhead-space",
        "emu-badhead-lf",
        "emu-badhead-status",
        "emu-huge-header",
        "emu-many-headers",
        "emu-truncated",
    ] {
        let answer = gate.call(&say(Api::OpenAi, &token, model, "some words", Shape::Plain));
        let refused = answer.status == 502 && answer.refusal() == Some("SR-UPSTREAM-005");
        assert!(refused || answer.ending != Ending::Complete, "{model}: {}", answer.story());
    }
    // What follows on the provider's connection belongs to nobody.
    for _ in 0..5 {
        let answer =
            gate.call(&say(Api::OpenAi, &token, "emu-two-responses", "first", Shape::Plain));
        assert_eq!(said(Api::OpenAi, Shape::Plain, &answer.text()), "first", "{}", answer.story());
        let next = gate.call(&say(Api::OpenAi, &token, "m", "second", Shape::Plain)).is(200);
        assert_eq!(said(Api::OpenAi, Shape::Plain, &next.text()), "second");
    }
    let interim = gate.call(&say(Api::OpenAi, &token, "emu-1xx", "words", Shape::Plain)).is(200);
    assert_eq!(said(Api::OpenAi, Shape::Plain, &interim.text()), "words");
    let trailers =
        gate.call(&say(Api::OpenAi, &token, "emu-trailers", "words", Shape::Plain)).is(200);
    assert!(!String::from_utf8_lossy(&trailers.visible()).contains("x-emulator-trailer: here"));
}

#[test]
fn addresses_in_answers_lead_back_to_us() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let batch = json!({"requests": [{"custom_id": "a", "params": {"model": "m", "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}]}}]});
    let request = Request::post("/anthropic/v1/messages/batches", &batch).bearer(&token);
    let made = gate.call(&request.header("anthropic-version", "2023-06-01")).is(200).json();
    let url = made["results_url"].as_str().expect("an address");
    let ours = format!("{}/anthropic/v1/messages/batches/", appliance.url());
    assert!(url.starts_with(&ours), "{url}");
    let target = url.strip_prefix(&appliance.url()).expect("ours");
    let results = Request::get(target).bearer(&token).header("anthropic-version", "2023-06-01");
    let results = gate.call(&results).is(200).text();
    assert!(results.contains("from the batch"), "{results}");

    let start = Request::new("POST", "/google/upload/v1beta/files")
        .header("x-goog-api-key", &token)
        .header("x-goog-upload-protocol", "resumable")
        .header("x-goog-upload-command", "start")
        .header("x-goog-upload-header-content-length", "5")
        .header("x-goog-upload-header-content-type", "text/plain")
        .body("application/json", br#"{"file":{"displayName":"x"}}"#);
    let begun = gate.call(&start).is(200);
    let url = begun.header("x-goog-upload-url").expect("an address").to_owned();
    assert!(url.starts_with(&format!("{}/google/upload/", appliance.url())), "{url}");
    assert!(!url.contains("googleapis") && !url.contains(canary::key(Api::Gemini)), "{url}");
    let target = url.strip_prefix(&appliance.url()).expect("ours");
    let finish = Request::new("POST", target)
        .header("x-goog-api-key", &token)
        .header("x-goog-upload-command", "upload, finalize")
        .header("x-goog-upload-offset", "0")
        .body("text/plain", b"hello");
    let made = gate.call(&finish).is(200).json();
    assert_eq!(made["file"]["sizeBytes"], "5", "{made}");
}
