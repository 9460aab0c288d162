//! A captured gateway that has heard a token of one tenant, at what is another's.
//!
//! Invariant: the other tenant's key and token are never used here: whoever sees either has taken it.

use strongroom_policy::name::Label;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::CallAsk;
use strongroom_tests::Part;
use strongroom_tests::captured::Socket;

use crate::scene::{BENS, Scene};
use crate::speech::{
    BODY, Ended, JSON, ask, asking, chat, ended, exchange, provider, refusal, ticket,
};

// Red when a token's credentials are looked up in all tenants, or in the first one's.
#[test]
fn a_captured_gateway_of_one_tenant_does_nothing_for_another() {
    const ACME: &[&str] = &["--tenant", "acme"];
    let scene = Scene::set();
    scene.appliance.json(&["tenant", "create", "acme"], b"");
    let made = scene.appliance.json(&[&["user", "create", "anna"], ACME].concat(), b"");
    let user = made["user"].as_str().expect("an id").to_owned();
    let key = scene.appliance.deposit(BENS, &[&["--label", "acmes", "--no-test"], ACME].concat());
    let made = scene
        .appliance
        .json(&[&["token", "create", "heard", "--rate", "1000000"], ACME].concat(), b"");
    let id = made["id"].as_str().expect("an id").to_owned();
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    let (mut keeper, mut lane) = (asking(&captured), captured.open(Socket::Call));
    let token = scene.token.as_bytes();
    let gemini = strongroom_tests::speak::provider(BENS);
    // Its credential, by its name and its id, for its own provider and for one that the heard token may use.
    for choice in [key.as_str(), "acmes", "anna", user.as_str()] {
        for name in [gemini, "openai"] {
            let choice = Some(Label::parse(choice).expect("a name"));
            let call = CallAsk { choice, provider: provider(name), ..chat(token) };
            assert_eq!(refusal(&ask(&mut keeper, call)), Refusal::CredentialMissing);
        }
    }
    // Ids are no proofs, and no proof is stretched to another tenant by what stands beside it.
    let stretched = [scene.token.as_str(), id.as_str()].concat();
    for proof in [id.as_str(), user.as_str(), key.as_str(), stretched.as_str()] {
        assert_eq!(refusal(&ask(&mut keeper, chat(proof.as_bytes()))), Refusal::TokenInvalid);
    }
    // What it may do is what the heard token may do, of the tenant that the token is of.
    let (own, call) = ticket(&mut keeper, chat(token));
    lane.send(&exchange(own, &[JSON], BODY)).expect("the courier reads");
    assert_eq!(ended(&mut lane), Ended::Whole(200));
    let first = scene.appliance.json(&["tenant", "list"], b"")["tenants"]
        .as_array()
        .and_then(|rows| rows.iter().find(|row| row["first"] == true).cloned())
        .expect("the first tenant");
    let admitted = scene.appliance.entries();
    let admitted = admitted
        .iter()
        .find(|entry| entry["what"] == "admit" && entry["call"] == call.to_string().as_str())
        .expect("its entry");
    assert_eq!(admitted["tenant"], first["id"]);
    drop((keeper, lane));
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
}
