//! Paths and queries that mean one thing to the judge and another to the provider (ledger rows 1 and 7).
//!
//! Invariant: what is not on a provider's list does not leave, however it is spelled.

use strongroom_emulator::Api;
use strongroom_tests::speak::models;
use strongroom_tests::{Answer, Appliance, Gate, Request};

fn get(gate: &Gate, token: &str, target: &str) -> Answer {
    gate.call(&Request::get(target).bearer(token))
}

#[test]
fn tricks_with_the_path_reach_nobody() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    for target in [
        "/openai/v1/../v1/models",
        "/openai/../anthropic/v1/models",
        "/openai/v1/./models",
        "/openai//v1/models",
        "//openai/v1/models",
        "/openai/v1/models/",
        "/openai/v1/%2e%2e/v1/models",
        "/openai/v1/%2E%2E/organization/admin_api_keys",
        "/openai/v1/models/..%2forganization",
        "/openai/v1/models%2f..%2forganization%2fusers",
        "/openai/v1/models%5c..%5corganization",
        "/openai/v1/models\\..\\organization",
        "/openai/v1/models;x=y",
        "/openai/v1/models%3bx",
        "/openai/v1/models%00",
        "/openai/v1/models%0d%0ax-evil:%20y",
        "/openai/v1/models%20HTTP/1.1",
        "/openai/v1/models%23x",
        "/openai/v1/models%3fx=y",
        "/openai/v1/%6dodels/%252e%252e",
        "/openai/v1/mod%C0%AEels",
        "/openai/v1/models/%u002e",
        "/openai/V1/models",
        "/OPENAI/v1/models",
        "/openai",
        "/openai/",
        "/p/openai@evil/v1/models",
        "/p/../openai/v1/models",
        "/p//v1/models",
        "/p/OPENAI/v1/models",
        "/p/openai%2fx/v1/models",
    ] {
        let answer = get(&gate, &token, target);
        assert!(matches!(answer.status, 400 | 404), "{target}: {}", answer.story());
    }
    assert_eq!(appliance.providers().counts().requests, 0, "{:#?}", appliance.providers().seen());
    // One that needs no escape is resolved before it is judged, and sent as it was judged.
    get(&gate, &token, "/openai/v1/%6d%6fdels").is(200);
    assert_eq!(appliance.providers().seen()[0].path, "/v1/models");
}

#[test]
fn paths_that_make_or_read_keys_and_people_are_not_reached() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    for target in [
        "/openai/v1/organization/admin_api_keys",
        "/openai/v1/organization/users",
        "/openai/v1/organization/projects",
        "/openai/v1/realtime/client_secrets",
        "/openai/v1/realtime/sessions",
        "/openai/v1/realtime/transcription_sessions",
        "/openai/v1/chatkit/sessions",
        "/openai/v1/fine_tuning/jobs",
        "/openai/v1/vector_stores",
        "/openai/v1/containers",
        "/openai/v1/assistants",
        "/openai/dashboard/billing/usage",
        "/anthropic/v1/organizations/me",
        "/anthropic/v1/organizations/api_keys",
        "/anthropic/v1/vaults",
        "/anthropic/v1/skills",
        "/google/v1alpha/auth_tokens",
        "/google/v1beta/auth_tokens",
        "/google/v1beta/tunedModels",
        "/google/v1beta/corpora",
        "/google/v1beta/models/m:delete",
        "/google/v1beta/models/m:generateContent:x",
        "/xai/v1/api-key",
        "/xai/auth/management-keys",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let request =
                Request::new(method, target).bearer(&token).body("application/json", b"{}");
            let answer = gate.call(&request).refused(404, "SR-PATH-001");
            assert_eq!(answer.header("x-should-retry"), Some("false"));
        }
    }
    assert_eq!(appliance.providers().counts().requests, 0);
}

#[test]
fn query_parameters_are_judged_by_their_decoded_names() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    for query in [
        "$httpMethod=DELETE",
        "%24httpMethod=DELETE",
        "$callback=x",
        "callback=x",
        "$.xgafv=2",
        "access_token=x",
        "oauth_token=x",
        "quotaUser=x",
        "fields=error",
        "%66ields=error",
        "prettyPrint=false&$httpMethod=PATCH",
        "alt=sse&alt=json",
        "api_key=x",
        "API_KEY=x",
        "uploadType=x",
        "=x",
        "a&&b",
        "pageSize=1;$httpMethod=DELETE",
        "pageSize=%0d%0a",
        "pageSize=%00",
        "pageSize=%zz",
        "pageSize=1&page%53ize=2",
    ] {
        let answer = get(&gate, &token, &format!("/google/v1beta/models?{query}"));
        assert!(matches!(answer.status, 400 | 401), "{query}: {}", answer.story());
    }
    assert_eq!(appliance.providers().counts().requests, 0, "{:#?}", appliance.providers().seen());
    get(&gate, &token, "/google/v1beta/models?pageSize=1").is(200);
    // A fragment has no place in a request's target (RFC 9112, 3.2), and readers differ on what it means there.
    let fragment = "/google/v1beta/models?pageSize=2#$httpMethod=DELETE";
    get(&gate, &token, fragment).refused(400, "SR-HTTP-002");
    let seen = appliance.seen(|_, counts| counts.finished == 1);
    assert_eq!(seen.len(), 1, "{seen:#?}");
}

#[test]
fn an_absolute_target_is_no_way_to_another_host() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    for (target, host) in [
        ("https://api.openai.com/openai/v1/models", "localhost"),
        ("https://evil.example/openai/v1/models", "localhost"),
        ("http://localhost@evil.example/openai/v1/models", "localhost"),
        ("https://user:pass@localhost/openai/v1/models", "localhost"),
        ("https://localhost/openai/v1/models", "evil.example"),
        ("api.openai.com:443", "localhost"),
    ] {
        let head = format!(
            "GET {target} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        let answer = gate.raw(head.as_bytes());
        assert!(matches!(answer.status, 0 | 400 | 404), "{target}: {}", answer.story());
    }
    assert_eq!(appliance.providers().counts().requests, 0);
    for host in ["evil.example", "localhost:1", "127.0.0.1"] {
        let head = format!(
            "GET /openai/v1/models HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        gate.raw(head.as_bytes()).is(200);
    }
    let no_host =
        format!("GET /openai/v1/models HTTP/1.1\r\nauthorization: Bearer {token}\r\n\r\n");
    assert!(matches!(gate.raw(no_host.as_bytes()).status, 0 | 400));
    for seen in appliance.seen(|_, counts| counts.finished == 3) {
        assert_eq!(seen.host, "api.openai.com");
    }
}

#[test]
fn the_key_parameter_is_our_token_and_goes_no_further() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let at = |query: &str| gate.call(&Request::get(&format!("/google/v1beta/models?{query}")));
    at(&format!("key={token}")).is(200);
    at(&format!("pageSize=2&key={token}")).is(200);
    at("key=AIzaSyNotOurs0123456789012345678901234").refused(401, "SR-TOKEN-002");
    at(&format!("key={token}&key={token}")).is(200);
    at(&format!("key={token}&key=another")).refused(401, "SR-TOKEN-002");
    let both = Request::get(&format!("/google/v1beta/models?key={token}"));
    gate.call(&both.header("x-goog-api-key", "AIzaSyNotOurs")).refused(401, "SR-TOKEN-002");
    gate.call(&models(Api::Gemini, &token)).is(200);
    for seen in appliance.seen(|_, counts| counts.finished == 4) {
        assert!(!seen.query.as_deref().unwrap_or_default().contains("key"), "{seen:#?}");
        assert!(!seen.mentions(&token));
    }
}
