//! Credentials: CRED-01, CRED-03 to CRED-08.
//!
//! Invariant: who may not use a credential cannot tell it from one that does not exist.

use std::fs;

use serde_json::{Value, json};
use strongroom_emulator::Api;
use strongroom_policy::name::{Label, ProviderName};
use strongroom_policy::rules::CredentialRules;
use strongroom_protocol::operator::{Answer, CredentialWish, HomePick, Request as Ask};
use strongroom_protocol::upload::seal_upload;
use strongroom_tests::client::Body;
use strongroom_tests::operator::Operator;
use strongroom_tests::speak::{Shape, models, provider, say};
use strongroom_tests::{Appliance, Ending, Options, canary, journal};

#[test]
fn cred_01_credentials_are_added_tested_rotated_and_deleted() {
    let appliance = Appliance::start(&Options::default());
    let token = appliance.token("t", &[]);
    let gate = appliance.gate();
    gate.call(&models(Api::Anthropic, &token)).refused(404, "SR-CREDENTIAL-001");
    for api in Api::ALL {
        let added =
            appliance.json(&["credential", "add", provider(api), "-"], canary::key(api).as_bytes());
        assert_eq!(added["test"]["accepted"], true, "{added}");
    }
    // A wrong key is stored and said to be wrong, in the provider's words, without the key.
    let wrong = "sk-proj-wrong-wrong-wrong-wrong-1234567890";
    let rotated =
        appliance.cli(&["credential", "rotate", "openai", "-", "--json"], wrong.as_bytes());
    let told = rotated.json();
    assert_eq!((&told["test"]["accepted"], &told["test"]["status"]), (&json!(false), &json!(401)));
    assert!(!format!("{}{}", rotated.stdout, rotated.stderr).contains(wrong));
    gate.call(&models(Api::OpenAi, &token)).is(401);
    appliance.json(&["credential", "rotate", "openai", "-"], canary::key(Api::OpenAi).as_bytes());
    gate.call(&models(Api::OpenAi, &token)).is(200);
    assert_eq!(appliance.json(&["credential", "test", "openai"], b"")["test"]["accepted"], true);
    let list = appliance.json(&["credential", "list"], b"");
    let rows = list["credentials"].as_array().expect("a list");
    assert_eq!(rows.len(), 4);
    assert!(canary::found(list.to_string().as_bytes(), &canary::needles()).is_empty());
    appliance.cli(&["credential", "delete", "openai", "--yes"], b"").ok();
    gate.call(&models(Api::OpenAi, &token)).refused(404, "SR-CREDENTIAL-001");
    gate.call(&models(Api::Xai, &token)).is(200);
}

#[test]
fn cred_03_a_key_is_never_plaintext_on_the_disk() {
    let (appliance, token) = Appliance::stocked();
    for api in Api::ALL {
        appliance.gate().call(&say(api, &token, "m", "hi", Shape::Plain)).is(200);
    }
    appliance.cli(&["seal"], b"").ok();
    let needles = canary::needles();
    let mut searched = 0;
    for file in journal::files(appliance.data()) {
        let bytes = fs::read(&file).expect("a file");
        let found = canary::found(&bytes, &needles);
        assert!(found.is_empty(), "{found:?} in {}", file.display());
        searched += bytes.len();
    }
    assert!(searched > 4096, "the store was searched");
    // The search can fail: it finds a planted key.
    let planted = format!("x{}y", canary::key(Api::Xai));
    assert!(!canary::found(planted.as_bytes(), &needles).is_empty());
}

#[test]
fn cred_04_a_sealed_upload_opens_for_its_own_destination_once() {
    let appliance = Appliance::start(&Options::default());
    let mut operator = Operator::connect(&appliance.data().join("run"));
    let vault = match operator.ask(&Ask::Status) {
        Answer::Status(status) => status.vault_key.expect("it is open"),
        other => panic!("{other:?}"),
    };
    let wish = |provider: &str| {
        Ask::CredentialAdd(Box::new(CredentialWish {
            provider: ProviderName::parse(provider).expect("a name"),
            home: HomePick::Personal(None),
            label: Label::parse(provider).expect("a label"),
            fixed_headers: Vec::new(),
            rules: CredentialRules::default(),
        }))
    };
    let mut open = |provider: &str| match operator.ask(&wish(provider)) {
        Answer::Upload { binding, .. } => *binding,
        other => panic!("{other:?}"),
    };
    let (openai, xai, again) = (open("openai"), open("xai"), open("openai"));
    let key = canary::key(Api::OpenAi).as_bytes();
    let seal = |binding| seal_upload(&vault, binding, key).expect("it seals");
    // A victim's blob, submitted for another destination, or for another upload of the same one.
    for (upload, blob) in [(&xai, seal(&openai)), (&again, seal(&openai)), (&again, vec![0; 99])] {
        let answer = operator.ask(&Ask::CredentialUpload { upload: upload.upload, blob });
        assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
    }
    let upload = Ask::CredentialUpload { upload: openai.upload, blob: seal(&openai) };
    let answer = operator.ask(&upload);
    assert!(matches!(answer, Answer::Credential(_)), "{answer:?}");
    let replayed = operator.ask(&upload);
    assert!(matches!(replayed, Answer::Failed(_)), "{replayed:?}");
    let list = appliance.json(&["credential", "list"], b"");
    assert_eq!(list["credentials"].as_array().map(Vec::len), Some(1), "{list}");
    // The pinned key is the one that the vault has.
    let pin = fs::read_to_string(appliance.data().join("vault.pub")).expect("a pin");
    let hex = hex::encode(vault.0);
    assert!(pin.contains(&hex), "{pin}");
    let swapped = pin.replace(&hex, &"ab".repeat(32));
    fs::write(appliance.data().join("vault.pub"), swapped).expect("it is ours");
    let refused = appliance.cli(&["credential", "add", "anthropic", "-"], key);
    assert!(refused.code == 1 && refused.stderr.contains("SR-CLI-007"), "{}", refused.stderr);
}

#[test]
fn cred_05_and_06_each_use_is_one_opening_with_who_what_and_outcome() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let before = appliance.entries().len();
    let mut calls = Vec::new();
    for api in Api::ALL {
        let answer = gate.call(&say(api, &token, "a-model", "hello you", Shape::Streamed)).is(200);
        calls.push((api, answer.call_id().expect("a call has a name").to_owned()));
    }
    let entries = appliance.journaled("every call is closed", |entries| {
        let closed = entries.iter().filter(|entry| entry["what"] == "close").count();
        (closed == 4).then(|| entries.to_vec())
    });
    let people = appliance.json(&["user", "list"], b"");
    let person = &people["users"][0];
    for (api, call) in &calls {
        let [admit] = journal::about(&entries, "admit", call)[..] else {
            panic!("one opening: {entries:#?}")
        };
        let [close] = journal::about(&entries, "close", call)[..] else {
            panic!("one closing: {entries:#?}")
        };
        assert_eq!(admit["user"], person["id"]);
        assert_eq!(admit["provider"], provider(*api));
        assert_eq!(admit["host"], api.host());
        assert_eq!(admit["model"], "a-model");
        assert_eq!((&close["end"], &close["status"]), (&json!("complete"), &json!(200)));
        assert!(close["input"].as_u64() > Some(0) && close["output"].as_u64() > Some(0), "{close}");
        assert!(admit["n"].as_u64() < close["n"].as_u64());
    }
    // Ids only: no label of a person, no word of a prompt, no token.
    let text: String = entries.iter().skip(before).map(Value::to_string).collect();
    let label = person["label"].as_str().expect("a label");
    for private in ["hello you", token.as_str(), &format!("\"{label}\"")] {
        assert!(!text.contains(private), "{private} stands in the journal: {text}");
    }
}

#[test]
fn cred_07_a_personal_key_is_its_owners_and_a_shared_one_its_members_only() {
    let appliance = Appliance::start(&Options::default());
    for person in ["anna", "ben", "carl"] {
        appliance.json(&["user", "create", person], b"");
    }
    appliance.json(&["workspace", "create", "team"], b"");
    for person in ["anna", "ben"] {
        appliance.json(&["workspace", "join", "team", person], b"");
    }
    let token = |person: &str| appliance.token(person, &["--user", person]);
    let [anna, ben, carl] = ["anna", "ben", "carl"].map(token);
    appliance.deposit(Api::OpenAi, &["--for", "anna", "--label", "annas", "--no-test"]);
    appliance
        .deposit(Api::Anthropic, &["--for", "workspace:team", "--label", "teams", "--no-test"]);
    let gate = appliance.gate();
    gate.call(&models(Api::OpenAi, &anna)).is(200);
    for other in [&ben, &carl] {
        gate.call(&models(Api::OpenAi, other)).refused(404, "SR-CREDENTIAL-001");
        let named = models(Api::OpenAi, other).header("x-strongroom-credential", "annas");
        gate.call(&named).refused(404, "SR-CREDENTIAL-001");
    }
    gate.call(&models(Api::Anthropic, &anna)).is(200);
    gate.call(&models(Api::Anthropic, &ben)).is(200);
    gate.call(&models(Api::Anthropic, &carl)).refused(404, "SR-CREDENTIAL-001");
    appliance.cli(&["workspace", "leave", "team", "ben", "--yes"], b"").ok();
    gate.call(&models(Api::Anthropic, &ben)).refused(404, "SR-CREDENTIAL-001");
    // Two that would do are never chosen between in silence.
    appliance.deposit(Api::Anthropic, &["--for", "anna", "--label", "mine", "--no-test"]);
    let answer = gate.call(&models(Api::Anthropic, &anna)).refused(409, "SR-CREDENTIAL-002");
    assert!(answer.text().contains("mine") && answer.text().contains("teams"), "{}", answer.text());
    let named = models(Api::Anthropic, &anna).header("x-strongroom-credential", "teams");
    gate.call(&named).is(200);
    // Unknown and foreign look alike.
    let ask = |name: &str| {
        let request = models(Api::OpenAi, &carl).header("x-strongroom-credential", name);
        let answer = gate.call(&request);
        (answer.status, answer.text())
    };
    assert_eq!(ask("annas"), ask("nobodys"));
}

#[test]
fn cred_08_a_deleted_credential_is_gone_at_once_and_a_running_stream_ends() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let mut connection = gate.connect().expect("it listens");
    let request = say(Api::OpenAi, &token, "emu-paced-50-2000", "go on", Shape::Streamed);
    connection.send(&request.bytes("localhost")).expect("it reads");
    let (status, _, framing) = connection.head().expect("a head");
    assert_eq!(status, 200);
    let mut body = Body::new(framing);
    let mut text = Vec::new();
    assert!(connection.await_text(&mut body, &mut text, "\"content\""), "it streams");
    appliance.cli(&["credential", "delete", "openai", "--yes"], b"").ok();
    let ending = connection.rest(&mut body, &mut text);
    assert_eq!(ending, Ending::Cut, "a recalled stream never looks finished");
    let text = String::from_utf8_lossy(&text);
    assert!(!text.contains("[DONE]") && text.contains("SR-RECALL-001"), "{text}");
    gate.call(&models(Api::OpenAi, &token)).refused(404, "SR-CREDENTIAL-001");
    appliance.seen(|seen, _| seen.iter().any(|one| one.client_left));
}
