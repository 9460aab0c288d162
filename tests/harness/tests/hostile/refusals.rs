//! Every refusal that a client can provoke, in every dialect, as it looks on the wire: golden text.
//!
//! Invariant: a change in what users see is a change in `golden/refusals.txt`; `SR_BLESS=1` rewrites it.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;
use strongroom_emulator::Api;
use strongroom_protocol::token::write_token;
use strongroom_tests::speak::{Shape, models, provider, route, say};
use strongroom_tests::{Answer, Appliance, Part, Request, until};

#[test]
fn every_refusal_looks_on_the_wire_as_it_is_written_down() {
    let (mut appliance, token) = Appliance::stocked();
    let mut page = String::new();
    for api in Api::ALL {
        for (name, answer) in refusals(&appliance, api, &token) {
            line(&mut page, api, name, &answer);
        }
    }
    appliance.stop_providers();
    for api in Api::ALL {
        let answer = appliance.gate().call(&models(api, &token));
        line(&mut page, api, "provider down", &answer);
    }
    appliance.cli(&["seal"], b"").ok();
    until("the gateway knows that the vault is sealed", || {
        let answer = appliance.gate().call(&Request::get("/healthz"));
        (answer.status == 503).then_some(())
    });
    for api in Api::ALL {
        line(&mut page, api, "sealed", &appliance.gate().call(&models(api, &token)));
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join("refusals.txt");
    if std::env::var_os("SR_BLESS").is_some() {
        std::fs::create_dir_all(file.parent().expect("a directory")).expect("it is ours");
        std::fs::write(&file, &page).expect("it is ours");
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    for (was, is) in golden.lines().zip(page.lines()) {
        assert_eq!(was, is, "see {}", file.display());
    }
    assert_eq!(golden.lines().count(), page.lines().count(), "{page}");
    assert!(appliance.pid(Part::Keeper).is_some());
}

fn refusals(appliance: &Appliance, api: Api, token: &str) -> Vec<(&'static str, Answer)> {
    let gate = appliance.gate();
    let prefix = route(api);
    let unknown = write_token(&[1; 32]).expose(|text| String::from_utf8_lossy(text).into_owned());
    let label = format!("narrow-{}", api.name());
    let narrow = appliance.token(&label, &["--models", "only-this", "--rate", "1000"]);
    let other = if api == Api::Xai { "openai" } else { "xai" };
    let elsewhere = appliance.token(&format!("else-{}", api.name()), &["--providers", other]);
    let once = appliance.token(&format!("once-{}", api.name()), &["--rate", "1"]);
    gate.call(&models(api, &once)).is(200);
    let chat = |token: &str, model: &str| say(api, token, model, "hi", Shape::Plain);
    let odd = chat(token, "m").body("application/json", br#"{"model":"m","Model":"n"}"#);
    vec![
        ("no token", gate.call(&Request::get(&format!("{prefix}/v1/models")))),
        ("foreign key", gate.call(&models(api, "sk-not-ours-0123456789"))),
        ("unknown token", gate.call(&models(api, &unknown))),
        ("provider denied", gate.call(&models(api, &elsewhere))),
        ("unknown path", gate.call(&Request::get(&format!("{prefix}/v1/nothing")).bearer(token))),
        ("query", gate.call(&Request::get(&format!("{prefix}/v1/models?evil=1")).bearer(token))),
        ("bad target", gate.call(&Request::get(&format!("{prefix}/v1//models")).bearer(token))),
        ("method", gate.call(&Request::new("PURGE", &format!("{prefix}/v1/models")).bearer(token))),
        (
            "no such credential",
            gate.call(&models(api, token).header("x-strongroom-credential", "none")),
        ),
        ("model", gate.call(&chat(&narrow, "another"))),
        ("odd body", gate.call(&odd)),
        ("type", gate.call(&chat(token, "m").body("text/plain", b"hi"))),
        ("rate", gate.call(&models(api, &once))),
        ("upgrade", gate.call(&models(api, token).header("upgrade", "websocket"))),
        (
            "twice",
            gate.call(&models(api, token).header("user-agent", "a").header("user-agent", "b")),
        ),
        ("redirect", gate.call(&chat(token, "emu-redirect-cross"))),
        ("broken", gate.call(&chat(token, "emu-badhead-nul"))),
        ("feature", gate.call(&hosted(appliance, api, token))),
    ]
}

/// A tool that runs at the provider, with a credential whose rules do not allow it.
fn hosted(appliance: &Appliance, api: Api, token: &str) -> Request {
    let rules = ["credential", "rules", provider(api), "--features", "many-answers"];
    appliance.json(&rules, b"");
    let tool = match api {
        Api::OpenAi | Api::Xai => json!({"model": "m", "tools": [{"type": "web_search_preview"}]}),
        Api::Anthropic => json!({"model": "m", "tools": [{"type": "web_search_20250305"}]}),
        Api::Gemini => json!({"tools": [{"googleSearch": {}}]}),
    };
    let request = say(api, token, "m", "hi", Shape::Plain);
    request.body("application/json", tool.to_string().as_bytes())
}

/// One line: dialect, cause, status, code, retry advice, and the body without its call's id.
fn line(page: &mut String, api: Api, name: &str, answer: &Answer) {
    let retry = answer.header("x-should-retry").unwrap_or("-");
    let after = if answer.header("retry-after").is_some() { "retry-after" } else { "-" };
    let mut body = answer.text();
    if let Some(call) = answer.call_id() {
        body = body.replace(call, "CALL");
    }
    let code = answer.refusal().unwrap_or("none of ours");
    let body = body.replace('\n', " ");
    let short: String = body.chars().take(400).collect();
    let _infallible = writeln!(
        page,
        "{:9} {name:18} {} {code} {retry} {after} {short}",
        api.name(),
        answer.status
    );
}
