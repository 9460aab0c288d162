//! Two people on one workspace's key: neither reads the other through the provider's account (attack row 2).
//!
//! Invariant: by path, by a reference in a body, by a batch's file: refused before it leaves.

use serde_json::{Value, json};
use strongroom_emulator::Api;
use strongroom_tests::speak::{models, route};
use strongroom_tests::{Answer, Appliance, Options, Request};

struct Team {
    appliance: Appliance,
    anna: String,
    ben: String,
}

/// Two members of one workspace that holds a key for each API.
fn team() -> Team {
    let appliance = Appliance::start(&Options::default());
    appliance.json(&["workspace", "create", "team"], b"");
    for person in ["anna", "ben"] {
        appliance.json(&["user", "create", person], b"");
        appliance.json(&["workspace", "join", "team", person], b"");
    }
    for api in Api::ALL {
        appliance.deposit(api, &["--for", "workspace:team", "--no-test"]);
    }
    let token = |person: &str| appliance.token(person, &["--user", person, "--rate", "10000"]);
    let [anna, ben] = ["anna", "ben"].map(token);
    Team { appliance, anna, ben }
}

impl Team {
    fn ask(&self, method: &str, target: &str, body: Option<&Value>) -> Answer {
        let request = Request::new(method, target).bearer(&self.ben);
        let request = request.header("anthropic-version", "2023-06-01");
        let request = match body {
            Some(body) => request.body("application/json", body.to_string().as_bytes()),
            None => request,
        };
        self.appliance.gate().call(&request)
    }
}

#[test]
fn stored_objects_are_out_of_reach_by_path() {
    let team = team();
    for (api, method, path) in [
        (Api::OpenAi, "GET", "/v1/files"),
        (Api::OpenAi, "GET", "/v1/files/file-annas"),
        (Api::OpenAi, "GET", "/v1/files/file-annas/content"),
        (Api::OpenAi, "DELETE", "/v1/files/file-annas"),
        (Api::OpenAi, "GET", "/v1/batches"),
        (Api::OpenAi, "GET", "/v1/batches/batch_annas"),
        (Api::OpenAi, "POST", "/v1/batches/batch_annas/cancel"),
        (Api::OpenAi, "GET", "/v1/responses/resp_annas"),
        (Api::OpenAi, "GET", "/v1/responses/resp_annas/input_items"),
        (Api::OpenAi, "DELETE", "/v1/responses/resp_annas"),
        (Api::OpenAi, "GET", "/v1/chat/completions"),
        (Api::OpenAi, "GET", "/v1/chat/completions/chatcmpl-annas/messages"),
        (Api::Anthropic, "GET", "/v1/messages/batches"),
        (Api::Anthropic, "GET", "/v1/messages/batches/msgbatch_annas/results"),
        (Api::Anthropic, "GET", "/v1/files/file_annas/content"),
        (Api::Gemini, "GET", "/v1beta/files"),
        (Api::Gemini, "GET", "/v1beta/files/annas:download"),
        (Api::Gemini, "GET", "/v1beta/cachedContents"),
        (Api::Gemini, "POST", "/upload/v1beta/files"),
        (Api::Xai, "GET", "/v1/responses/resp_annas"),
        (Api::Xai, "GET", "/v1/chat/deferred-completion/annas"),
    ] {
        let answer = team.ask(method, &format!("{}{path}", route(api)), None);
        assert_eq!(answer.refusal(), Some("SR-POLICY-001"), "{method} {path}: {}", answer.story());
    }
    assert_eq!(team.appliance.providers().counts().requests, 0);
    for api in Api::ALL {
        team.appliance.gate().call(&models(api, &team.anna)).is(200);
    }
}

#[test]
fn stored_objects_are_out_of_reach_by_a_reference_in_a_body() {
    let team = team();
    let cases = references();
    for (target, body) in &cases {
        let answer = team.ask("POST", target, Some(body));
        assert_eq!(answer.refusal(), Some("SR-POLICY-004"), "{body} {}", answer.story());
    }
    // Whatever the credential's own rules say about references, a shared key never serves them.
    let all = "hosted-tools,remote-urls,object-references,stored-state,background,service-tier,many-answers";
    team.appliance.json(&["credential", "rules", "openai", "--features", all], b"");
    let (target, body) = &cases[0];
    let answer = team.ask("POST", target, Some(body));
    assert_eq!(answer.refusal(), Some("SR-POLICY-004"), "{}", answer.story());
    assert_eq!(team.appliance.providers().counts().requests, 0);
}

/// Every way in which a body can name an object that is stored at the provider.
fn references() -> Vec<(&'static str, Value)> {
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    let chat = "/openai/v1/chat/completions";
    let responses = "/openai/v1/responses";
    let messages = "/anthropic/v1/messages";
    let gemini = "/google/v1beta/models/gemini-2:generateContent";
    let claude = |extra: Value| {
        let mut body = json!({"model": "c", "max_tokens": 9, "messages": user(json!("hi"))});
        merge(&mut body, extra);
        body
    };
    vec![
        (
            responses,
            json!({"model": "m", "store": false, "previous_response_id": "resp_annas", "input": "x"}),
        ),
        (
            responses,
            json!({"model": "m", "store": false, "conversation": "conv_annas", "input": "x"}),
        ),
        (responses, json!({"model": "m", "store": false, "prompt": {"id": "pmpt_annas"}})),
        (
            responses,
            json!({"model": "m", "store": false, "input": [{"type": "item_reference", "id": "msg_annas"}]}),
        ),
        (
            responses,
            json!({"model": "m", "store": false, "input": user(json!([{"type": "input_file", "file_id": "file-annas"}]))}),
        ),
        (
            responses,
            json!({"model": "m", "store": false, "input": "x", "tools": [{"type": "file_search", "vector_store_ids": ["vs_annas"]}]}),
        ),
        (
            chat,
            json!({"model": "m", "messages": user(json!([{"type": "file", "file": {"file_id": "file-annas"}}]))}),
        ),
        (messages, claude(json!({"container": "container_annas"}))),
        (
            messages,
            claude(
                json!({"messages": user(json!([{"type": "document", "source": {"type": "file", "file_id": "file_annas"}}]))}),
            ),
        ),
        (
            messages,
            claude(json!({"mcp_servers": [{"type": "url", "url": "https://evil.example"}]})),
        ),
        (gemini, json!({"contents": [], "cachedContent": "cachedContents/annas"})),
        (
            gemini,
            json!({"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/annas"}}]}]}),
        ),
        (
            "/xai/v1/responses",
            json!({"model": "m", "store": false, "previous_response_id": "resp_annas", "input": "x"}),
        ),
    ]
}

fn merge(body: &mut Value, extra: Value) {
    if let (Value::Object(body), Value::Object(extra)) = (body, extra) {
        body.extend(extra);
    }
}

#[test]
fn a_batch_carries_nobodys_file_and_no_unjudged_model() {
    let team = team();
    let file = "--b\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\n\
                content-disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\r\n{}\r\n--b--\r\n";
    let upload = |token: &str| {
        let request = Request::new("POST", "/openai/v1/files").bearer(token);
        team.appliance
            .gate()
            .call(&request.body("multipart/form-data; boundary=b", file.as_bytes()))
    };
    upload(&team.ben).refused(403, "SR-POLICY-001");
    let batch = json!({"input_file_id": "file-annas", "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    team.ask("POST", "/openai/v1/batches", Some(&batch)).refused(403, "SR-POLICY-001");
    let requests = json!({"requests": [{"custom_id": "a", "params": {"model": "expensive", "max_tokens": 1, "messages": []}}]});
    let answer = team.ask("POST", "/anthropic/v1/messages/batches", Some(&requests));
    assert_eq!(answer.status, 403, "{}", answer.story());
    assert_eq!(team.appliance.providers().counts().requests, 0);
    // With a key of one's own all of it works, but not with a token that is bound to models.
    team.appliance.deposit(Api::OpenAi, &["--for", "ben", "--label", "bens", "--no-test"]);
    let own = team.appliance.token("own", &["--user", "ben", "--credential", "bens"]);
    let id = upload(&own).is(200).json()["id"].as_str().expect("an id").to_owned();
    let batch = json!({"input_file_id": id, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let post = |token: &str| {
        team.appliance.gate().call(&Request::post("/openai/v1/batches", &batch).bearer(token))
    };
    post(&own).is(200);
    let narrow = team
        .appliance
        .token("narrow", &["--user", "ben", "--credential", "bens", "--models", "gpt-4o*"]);
    post(&narrow).refused(403, "SR-POLICY-003");
}
