//! People who sign in: LUM-02, LUM-07, AUTH-11, LYNX-05, through CLI, gateway and keeper.
//!
//! Invariant: what a browser would hold (the cookie and the token against forged requests) is all that these tests hold.

use serde_json::{Value, json};
use strongroom_tests::{Answer, Appliance, Gate, Request};

const PASSWORD: &str = "five random words of mine";
const ORIGIN: (&str, &str) = ("sec-fetch-site", "same-origin");

/// A signed-in browser.
struct Browser {
    cookie: String,
    token: String,
}

fn post(path: &str, body: &Value) -> Request {
    let (name, value) = ORIGIN;
    Request::new("POST", path)
        .header(name, value)
        .body("application/json", body.to_string().as_bytes())
}

fn sign_in(gate: &Gate, login: &str, password: &str) -> Answer {
    gate.call(&post("/api/v1/sign-in", &json!({"login": login, "password": password})))
}

/// The cookie and the token that an answer gives.
fn browser(answer: &Answer) -> Browser {
    let line = answer.header("set-cookie").expect("a cookie");
    let (pair, attributes) = line.split_once(';').expect("with attributes");
    assert!(pair.starts_with("__Host-sid="), "{pair}");
    for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age=12"] {
        assert!(attributes.contains(attribute), "{attributes}");
    }
    assert!(!attributes.contains("Domain"), "{attributes}");
    let token = answer.json()["csrf_token"].as_str().expect("a token").to_owned();
    Browser { cookie: pair.to_owned(), token }
}

impl Browser {
    fn with(&self, request: Request) -> Request {
        request.header("cookie", &self.cookie).header("x-csrf-token", &self.token)
    }

    fn me(&self, gate: &Gate) -> Answer {
        gate.call(&self.with(Request::new("GET", "/api/v1/me")))
    }
}

fn invited(appliance: &Appliance, name: &str) -> String {
    appliance.cli(&["user", "create", name], b"").ok();
    let told = appliance.json(&["user", "invite", name], b"");
    assert!(told["url"].as_str().expect("a URL").ends_with("/api/v1/invitations/redeem"));
    told["invitation"].as_str().expect("a ticket").to_owned()
}

fn code(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    answer.json()["code"].as_str().expect("a code").to_owned()
}

#[test]
fn lum_07_and_lynx_05_an_invitation_a_password_a_session_and_its_end() {
    let (appliance, _) = Appliance::stocked();
    let gate = appliance.gate();
    let ticket = invited(&appliance, "alice");
    let redeem = |password: &str| {
        let body = json!({"invitation": ticket, "password": password});
        gate.call(&post("/api/v1/invitations/redeem", &body))
    };
    assert_eq!(code(&redeem("too short").is(422)), "SR-PASSWORD-001");
    assert_eq!(code(&redeem("alice alice alice alice").is(422)), "SR-PASSWORD-002");
    redeem(PASSWORD).is(204);
    assert_eq!(code(&redeem(PASSWORD).is(403)), "SR-INVITE-001");
    let signed_in = sign_in(&gate, "alice", PASSWORD).is(200);
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; sandbox"),
    ] {
        assert_eq!(signed_in.header(name), Some(value), "{name}");
    }
    let here = browser(&signed_in);
    let me = here.me(&gate).is(200).json();
    assert_eq!(
        (me["name"].as_str(), me["csrf_token"].as_str()),
        (Some("alice"), Some(here.token.as_str()))
    );
    // The text verifies by what is published, and names nobody.
    let keys = gate.call(&Request::new("GET", "/.well-known/jwks.json")).is(200).json();
    assert_eq!(
        (keys["keys"][0]["kty"].as_str(), keys["keys"][0]["e"].as_str()),
        (Some("RSA"), Some("AQAB"))
    );
    // A cookie alone changes nothing, and neither does another site's page.
    let out = || Request::new("POST", "/api/v1/sign-out");
    let (name, value) = ORIGIN;
    let bare = out().header(name, value).header("cookie", &here.cookie);
    assert_eq!(code(&gate.call(&bare).is(403)), "SR-CSRF-001");
    let foreign = here.with(out()).header("sec-fetch-site", "cross-site");
    assert_eq!(code(&gate.call(&foreign).is(403)), "SR-CSRF-001");
    let silent = here.with(out());
    assert_eq!(code(&gate.call(&silent).is(403)), "SR-CSRF-001");
    here.me(&gate).is(200);
    // An operator sees the session and ends it; the next request is refused.
    let there = browser(&sign_in(&gate, "alice", PASSWORD).is(200));
    let rows = appliance.json(&["session", "list", "--user", "alice"], b"");
    assert_eq!(rows["sessions"].as_array().map(Vec::len), Some(2));
    let id = me["session"].as_str().expect("an id");
    appliance.cli(&["session", "revoke", id, "--yes"], b"").ok();
    assert_eq!(code(&here.me(&gate).is(401)), "SR-SESSION-001");
    there.me(&gate).is(200);
    let leave = there.with(out()).header(name, value);
    let left = gate.call(&leave).is(204);
    assert!(
        left.header("set-cookie").expect("it is removed").starts_with("__Host-sid=; Max-Age=0")
    );
    assert_eq!(code(&there.me(&gate).is(401)), "SR-SESSION-001");
    // Nothing of it is in a log.
    let log = appliance.log();
    for secret in [PASSWORD, ticket.as_str(), here.cookie.as_str()] {
        assert!(!log.contains(secret));
    }
}

#[test]
fn auth_11_unknown_and_wrong_are_told_alike_and_a_new_password_ends_every_session() {
    let (appliance, _) = Appliance::stocked();
    let gate = appliance.gate();
    let ticket = invited(&appliance, "alice");
    let body = json!({"invitation": ticket, "password": PASSWORD});
    gate.call(&post("/api/v1/invitations/redeem", &body)).is(204);
    let wrong = sign_in(&gate, "alice", "five other words of mine").is(401);
    let unknown = sign_in(&gate, "nobody", "five other words of mine").is(401);
    assert_eq!(wrong.body, unknown.body);
    let names =
        |answer: &Answer| answer.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&wrong), names(&unknown));
    assert_eq!(code(&wrong), "SR-SIGNIN-001");
    // What is no JSON, or too long, is refused before anybody is asked.
    let form = Request::new("POST", "/api/v1/sign-in").body("text/plain", b"{}");
    assert_eq!(code(&gate.call(&form).is(415)), "SR-API-005");
    let long = json!({"login": "alice", "password": "x".repeat(600)});
    assert_eq!(code(&gate.call(&post("/api/v1/sign-in", &long)).is(400)), "SR-API-006");
    let other = browser(&sign_in(&gate, "alice", PASSWORD).is(200));
    let here = browser(&sign_in(&gate, "alice", PASSWORD).is(200));
    let change = |old: &str| {
        let body = json!({"old": old, "new": "five newer words of mine"});
        gate.call(&here.with(post("/api/v1/me/password", &body)))
    };
    assert_eq!(code(&change("five other words of mine").is(401)), "SR-SIGNIN-001");
    let next = browser(&change(PASSWORD).is(200));
    for gone in [&other, &here] {
        assert_eq!(code(&gone.me(&gate).is(401)), "SR-SESSION-001");
    }
    next.me(&gate).is(200);
    sign_in(&gate, "alice", PASSWORD).is(401);
    let again = browser(&sign_in(&gate, "alice", "five newer words of mine").is(200));
    let (name, value) = ORIGIN;
    let others = again.with(Request::new("DELETE", "/api/v1/me/sessions")).header(name, value);
    gate.call(&others).is(204);
    assert_eq!(code(&next.me(&gate).is(401)), "SR-SESSION-001");
    let rows = gate.call(&again.with(Request::new("GET", "/api/v1/me/sessions"))).is(200).json();
    assert_eq!(
        (rows["sessions"].as_array().map(Vec::len), rows["sessions"][0]["this"].as_bool()),
        (Some(1), Some(true))
    );
    assert_eq!(rows["sessions"][0]["address"].as_str(), Some("127.0.0.1"));
}

/// PBKDF2-HMAC-SHA256 of `PASSWORD` with 100,000 iterations and the salt `0123456789abcdef`, by Python's hashlib.
#[test]
fn lum_02_an_imported_password_is_verified_and_ours_after_the_first_sign_in() {
    let (appliance, _) = Appliance::stocked();
    let gate = appliance.gate();
    appliance.cli(&["user", "create", "bob"], b"").ok();
    let file = appliance.data().join("passwords.txt");
    let line = format!("bob $pbkdf2-sha256$i=100000$MDEyMzQ1Njc4OWFiY2RlZg${IMPORTED}\n");
    std::fs::write(&file, line).expect("it is written");
    let path = file.display().to_string();
    appliance.cli(&["user", "import", &path], b"").ok();
    std::fs::remove_file(&file).expect("it is there");
    sign_in(&gate, "bob", "five other words of mine").is(401);
    for _ in 0..2 {
        let here = browser(&sign_in(&gate, "bob", PASSWORD).is(200));
        here.me(&gate).is(200);
    }
}

const IMPORTED: &str = "3h1HI5Fhh454zNJniQ7/Ay6ThIykzlyK+ZC9+MQXTpM";
