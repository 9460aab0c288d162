//! Several tenants in one appliance: LUM-08, AUTH-01.
//!
//! Invariant: each attempt to cross is also made where it must succeed: in the tenant whose things they are.

use serde_json::Value;
use strongroom_emulator::Api;
use strongroom_tests::speak::models;
use strongroom_tests::{Appliance, Options};

/// A person, a workspace, a credential and a token, of the same names in each tenant.
fn furnish(appliance: &Appliance, within: &[&str]) -> (String, String) {
    let json = |words: &[&str]| appliance.json(&[words, within].concat(), b"");
    json(&["user", "create", "ann"]);
    json(&["workspace", "create", "team"]);
    json(&["workspace", "join", "team", "ann"]);
    let credential = appliance.deposit(
        Api::OpenAi,
        &[&["--for", "ann", "--label", "main", "--no-test"], within].concat(),
    );
    (credential, appliance.token("laptop", &[&["--user", "ann"], within].concat()))
}

fn rows<'v>(list: &'v Value, of: &str) -> &'v [Value] {
    list[of].as_array().expect("a list of them")
}

// Red when a name, an id, a credential or a sum of one tenant is found in another.
#[test]
fn lum_08_two_tenants_of_one_appliance_reach_nothing_of_each_other() {
    const ACME: &[&str] = &["--tenant", "acme"];
    let appliance = Appliance::start(&Options::default());
    appliance.json(&["tenant", "create", "acme"], b"");
    let (of_first, first) = furnish(&appliance, &[]);
    let (of_acme, acme) = furnish(&appliance, ACME);
    let gate = appliance.gate();
    for (token, own, other) in [(&first, &of_first, &of_acme), (&acme, &of_acme, &of_first)] {
        let named = |name: &str| models(Api::OpenAi, token).header("x-strongroom-credential", name);
        gate.call(&named("main")).is(200);
        gate.call(&named(own)).is(200);
        let crossed = gate.call(&named(other)).refused(404, "SR-CREDENTIAL-001").text();
        // Foreign and unknown look alike.
        let unknown = gate.call(&named("nobodys")).refused(404, "SR-CREDENTIAL-001").text();
        assert_eq!(crossed.len(), unknown.len(), "{crossed} {unknown}");
    }
    let of = |what: &str, label: &str, within: &[&str]| {
        let list = appliance.json(&[&[what, "list"], within].concat(), b"");
        let found: Vec<_> = rows(&list, &format!("{what}s"))
            .iter()
            .filter(|row| row["label"] == label)
            .map(|row| row["id"].as_str().expect("an id").to_owned())
            .collect();
        assert_eq!(found.len(), 1, "{list}");
        found[0].clone()
    };
    for (what, label) in
        [("user", "ann"), ("workspace", "team"), ("token", "laptop"), ("credential", "main")]
    {
        assert_ne!(of(what, label, &[]), of(what, label, ACME), "{what}");
    }
    // What is the first one's is unknown in the other, by its id as well, and stays as it is.
    let [user, space, token] = [("user", "ann"), ("workspace", "team"), ("token", "laptop")]
        .map(|(what, label)| of(what, label, &[]));
    let (user, space, token) = (user.as_str(), space.as_str(), token.as_str());
    for words in [
        &["user", "disable", user, "--yes"][..],
        &["user", "delete", user, "--yes"],
        &["workspace", "join", space, "ann"],
        &["workspace", "delete", space, "--yes"],
        &["token", "revoke", token, "--yes"],
        &["credential", "delete", &of_first, "--yes"],
        &["credential", "test", &of_first],
        &["token", "create", "stolen", "--user", user],
        &["token", "create", "stolen", "--credential", &of_first],
    ] {
        let ran = appliance.cli(&[words, ACME, &["--json"]].concat(), b"");
        // The tool looks into the tenant's list first, or the keeper says it.
        let unknown = ["SR-PICK-001", "SR-CLI-005"].iter().any(|code| ran.stderr.contains(code));
        assert!(ran.code != 0 && unknown, "{words:?} {}", ran.stderr);
    }
    gate.call(&models(Api::OpenAi, &first)).is(200);
    // Sums and searches of one are of that one.
    appliance.journaled("close", |entries| {
        (entries.iter().filter(|entry| entry["what"] == "close").count() == 5).then_some(())
    });
    let usage =
        |more: &[&str]| appliance.json(&[&["usage", "--by", "provider"], more].concat(), b"");
    assert_eq!(usage(ACME)["usage"][0]["calls"], 2);
    assert_eq!(usage(&[])["usage"][0]["calls"], 5);
    let found = appliance.cli(&["audit", "search", "--json", "--tenant", "acme"], b"").ok().stdout;
    assert!(found.contains(&of_acme) && !found.contains(&of_first), "{found}");
    stopped_and_gone(&appliance, (&first, &acme));
}

fn stopped_and_gone(appliance: &Appliance, (first, acme): (&str, &str)) {
    let gate = appliance.gate();
    appliance.json(&["tenant", "disable", "acme", "--yes"], b"");
    gate.call(&models(Api::OpenAi, acme)).refused(401, "SR-TOKEN-003");
    gate.call(&models(Api::OpenAi, first)).is(200);
    appliance.json(&["tenant", "enable", "acme"], b"");
    gate.call(&models(Api::OpenAi, acme)).is(200);
    let receipt = appliance.json(&["tenant", "delete", "acme", "--yes"], b"");
    assert_eq!(
        (&receipt["held"]["tokens"], &receipt["held"]["credentials"]),
        (&1.into(), &1.into())
    );
    gate.call(&models(Api::OpenAi, acme)).refused(401, "SR-TOKEN-003");
    // A tenant of that name is another one.
    appliance.json(&["tenant", "create", "acme"], b"");
    gate.call(&models(Api::OpenAi, acme)).refused(401, "SR-TOKEN-003");
    let people = appliance.json(&["user", "list", "--tenant", "acme"], b"");
    assert!(rows(&people, "users").is_empty());
    gate.call(&models(Api::OpenAi, first)).is(200);
}
