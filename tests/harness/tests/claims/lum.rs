//! Providers with the user's own keys: LUM-03, LUM-09, LUM-14.
//!
//! Invariant: what a provider saw is compared with what the user sent, not with what we meant to send.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use serde_json::json;
use strongroom_emulator::Api;
use strongroom_tests::speak::{Shape, events, models, said, say};
use strongroom_tests::{Appliance, Options, PATIENCE, Part, Request, canary};

use crate::sockets::sockets_of;

#[test]
fn lum_03_all_four_providers_work_plain_and_streaming() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let text = "One two three, four five six: is that so?";
    for api in Api::ALL {
        for shape in [Shape::Plain, Shape::Streamed] {
            let answer = gate.call(&say(api, &token, "a-model-1", text, shape)).is(200);
            let body = answer.text();
            assert_eq!(said(api, shape, &body), text, "{api:?} {shape:?} {body}");
            assert_eq!(body.contains("[DONE]"), shape == Shape::Streamed && openai_shaped(api));
            if shape == Shape::Streamed {
                assert!(events(&body).len() > 3, "{api:?}: {body}");
                let kind = answer.header("content-type").unwrap_or_default();
                assert!(kind.starts_with("text/event-stream"), "{kind}");
            }
        }
        gate.call(&models(api, &token)).is(200);
    }
    let seen = appliance.seen(|_, counts| counts.finished == 12);
    for one in &seen {
        let api = one.api.expect("an API");
        assert!(one.authorised && one.oddities.is_empty(), "{one:#?}");
        assert_eq!((one.host.as_str(), one.sni.as_deref()), (api.host(), Some(api.host())));
        assert!(!one.mentions(&token), "our token reached the provider: {one:#?}");
        let keys = one.headers.iter().filter(|(_, value)| value.contains(canary::key(api)));
        assert_eq!(keys.count(), 1, "exactly one credential goes out: {one:#?}");
    }
}

const fn openai_shaped(api: Api) -> bool {
    matches!(api, Api::OpenAi | Api::Xai)
}

#[test]
fn lum_03_the_bytes_of_a_request_are_the_users_own() {
    let (appliance, token) = Appliance::stocked();
    // Order, spaces, number forms, escapes and unknown harmless fields survive.
    let body = concat!(
        " {\t\"messages\" : [ {\"content\":\"\\u0048i \\/ \u{e9}\",\"role\":\"user\"} ] ,\r\n",
        "\"temperature\":1.0,\"top_p\":1E0, \"metadata\":{\"b\":1,\"a\":[ ]},\"model\":\"m\" } "
    );
    let request = Request::new("POST", "/openai/v1/chat/completions")
        .bearer(&token)
        .body("application/json", body.as_bytes());
    appliance.gate().call(&request).is(200);
    let seen = appliance.seen(|_, counts| counts.finished == 1);
    assert_eq!(seen[0].body.as_deref(), Some(body));
}

#[test]
fn lum_03_an_operator_defined_provider_works_and_starts_without_a_path() {
    let appliance = Appliance::start(&Options::default());
    let ca = appliance.providers().ca_path().display().to_string();
    let base = "https://api.openai.com";
    let define = |more: &[&str]| {
        let common =
            ["provider", "add", "mine", "--base-url", base, "--dialect", "openai", "--ca", &ca];
        appliance.json(&[&common[..], more].concat(), b"")
    };
    assert_eq!(define(&["--private"])["paths"], 0);
    let key = canary::key(Api::OpenAi).as_bytes();
    appliance.json(&["credential", "add", "mine", "-", "--no-test"], key);
    let token = appliance.token("t", &[]);
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hello there"}]});
    let request = Request::post("/p/mine/v1/chat/completions", &body).bearer(&token);
    let gate = appliance.gate();
    gate.call(&request).refused(404, "SR-PATH-001");
    define(&["--private", "--allow", "POST /v1/chat/completions"]);
    let text = gate.call(&request).is(200).text();
    assert_eq!(said(Api::OpenAi, Shape::Plain, &text), "hello there");
    gate.call(&Request::get("/p/other/v1/models").bearer(&token)).refused(404, "SR-PROVIDER-001");
}

#[test]
fn lum_03_a_replaced_provider_says_which_keys_still_go_to_the_old_place() {
    let appliance = Appliance::start(&Options::default());
    let define = |base: &str, more: &[&str]| {
        let common = ["provider", "add", "mine", "--base-url", base, "--dialect", "openai"];
        let common = [&common[..], &["--paths-of", "openai"]].concat();
        appliance.cli(&[&common[..], more].concat(), b"").ok().stderr
    };
    let silent = |told: String| assert!(!told.contains("still go"), "{told}");
    silent(define("https://api.openai.com", &[]));
    let key = canary::key(Api::OpenAi).as_bytes();
    appliance.json(&["credential", "add", "mine", "-", "--no-test"], key);
    silent(define("https://api.openai.com", &["--allow", "GET /v1/more"]));
    let told = define("https://llm.example.com:8443/v2", &[]);
    let expected = "1 credential (mine) still goes to https://api.openai.com as it was defined before; \
                    'strongroom credential rotate mine' moves it";
    assert!(told.contains(expected), "{told}");
    // What is advised helps.
    appliance.json(&["credential", "rotate", "mine", "-", "--no-test"], key);
    silent(define("https://llm.example.com:8443/v2", &[]));
    // The same place by another header is another destination.
    let told = define("https://llm.example.com:8443/v2", &["--auth", "header:x-key"]);
    assert!(told.contains("still goes to https://llm.example.com:8443/v2 as"), "{told}");
    for label in ["second", "third"] {
        let add = ["credential", "add", "mine", "-", "--no-test", "--label", label];
        appliance.json(&add, key);
    }
    let told = define("https://api.openai.com", &[]);
    assert!(told.contains("3 credentials (mine, second, third) still go to"), "{told}");
}

#[test]
fn lum_09_tls_everywhere_and_the_vault_listens_on_no_network() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let mut connection = gate.connect().expect("it listens");
    assert!(connection.is_tls13());
    connection.call(&models(Api::OpenAi, &token)).is(200);
    // Plain HTTP on the TLS port is no conversation.
    assert!(plain_http(gate.address()).is_empty());
    for part in [Part::Keeper, Part::Courier, Part::CourierDefined] {
        let pid = appliance.pid(part).expect("it runs");
        let mine = sockets_of(pid.as_raw());
        for table in ["tcp", "tcp6", "udp", "udp6"] {
            let listening = listening(pid.as_raw(), table);
            let own: Vec<_> = listening.iter().filter(|inode| mine.contains(inode)).collect();
            assert!(own.is_empty(), "{part:?} listens on {table}");
        }
    }
    for socket in sockets_below(&appliance.data().join("run")) {
        let directory = fs::metadata(socket.parent().expect("a directory")).expect("it is there");
        let mode = directory.mode() & 0o777;
        assert_eq!(mode & 0o007, 0, "{} is open to others: {mode:o}", socket.display());
    }
}

/// Whether the text of an HTTP answer comes back from a TLS port that is spoken to in the clear.
fn plain_http(address: std::net::SocketAddr) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").expect("it reads");
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    if text.contains("HTTP/") { text } else { String::new() }
}

/// Inodes of sockets that take connections or datagrams, as the process's network shows them.
fn listening(pid: i32, table: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
    let fields = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let open = |fields: &Vec<&str>| match table {
        "tcp" | "tcp6" => fields.get(3) == Some(&"0A"),
        _ => fields.get(2).is_some_and(|remote| remote.ends_with(":0000")),
    };
    fields.filter(open).filter_map(|fields| fields.get(9).map(ToString::to_string)).collect()
}

fn sockets_below(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(sockets_below(&entry.path())),
            Ok(kind) if kind.is_socket() => found.push(entry.path()),
            Ok(_) | Err(_) => {}
        }
    }
    found
}

#[test]
fn lum_14_only_listed_hosts_are_dialled_whatever_a_request_says() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let elsewhere = format!("https://localhost:{}", appliance.providers().address().port());
    let chat = |request: Request| request.bearer(&token);
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}],
        "api_base": elsewhere, "base_url": elsewhere, "endpoint": elsewhere});
    // Fields that other gateways took for an address are text to us; unknown strings that are addresses count as such.
    let _judged = gate.call(&chat(Request::post("/openai/v1/chat/completions", &body)));
    let plain = json!({"model": "m", "messages": [{"role": "user", "content": elsewhere}]});
    for (name, value) in [
        ("x-forwarded-host", "localhost"),
        ("forwarded", "host=localhost"),
        ("x-original-url", elsewhere.as_str()),
        ("x-base-url", elsewhere.as_str()),
        ("x-portkey-custom-host", elsewhere.as_str()),
        ("helicone-target-url", elsewhere.as_str()),
    ] {
        let request = Request::post("/openai/v1/chat/completions", &plain).header(name, value);
        gate.call(&chat(request)).is(200);
    }
    let mut connection = gate.connect().expect("it listens");
    let bytes = chat(Request::post("/openai/v1/chat/completions", &plain)).bytes("localhost:443");
    connection.send(&bytes).expect("it reads");
    let _judged = connection.answer();
    let seen = appliance.seen(|_, counts| counts.open == 0 && counts.finished >= 7);
    for one in seen {
        assert_eq!(
            (one.host.as_str(), one.sni.as_deref()),
            ("api.openai.com", Some("api.openai.com"))
        );
    }
}
