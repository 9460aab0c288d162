//! What is said after a start: the next commands, to copy.
//!
//! Invariant: every command that is printed works as it stands.

use std::path::Path;

use serde_json::json;

use crate::environment::quote;
use crate::out::{self, Form};
use crate::places::{Install, Places, Surroundings};
use crate::up::first::Vault;
use crate::up::ground::Ground;

/// Says what can be done now.
pub(crate) fn next_steps(ground: &Ground, vault: Vault, form: Form) {
    let places = &ground.places;
    let url = ground.settings.public_url();
    if form == Form::Json {
        out::object(json!({
            "ready": vault == Vault::Open,
            "url": url,
            "data": places.data,
            "token_file": places.token(),
            "authority": ground.certificates.authority,
            "metrics": format!("http://{}/metrics", ground.settings.metrics),
        }));
    }
    match vault {
        Vault::Open => {}
        Vault::Waiting => return waiting(ground),
        Vault::Sealed => return sealed(ground),
        Vault::Empty => {
            out::warn(&format!("there is no vault yet; run: {} init", program(ground)));
            return;
        }
        Vault::Provisional => {
            let program = program(ground);
            out::warn(&format!("the vault waits for its shares; run: {program} share verify"));
            return;
        }
    }
    let example = |name: &str| quote(&places.examples().join(name).to_string_lossy());
    let program = program(ground);
    ready(ground);
    let mut steps = vec![
        ("one call with curl", format!("sh {}", example("call.sh"))),
        ("Python SDK (pip install openai)", format!("python3 {}", example("call.py"))),
        ("Node SDK (npm install openai)", format!("node {}", example("call.mjs"))),
        ("Claude Code", format!("sh {}", example("claude-code.sh"))),
        ("any other program", format!("eval \"$({program} env)\"")),
        ("what happened", format!("{program} audit tail")),
    ];
    if !ground.is_demo() {
        steps.insert(0, ("add a key", format!("{program} credential add openai")));
    }
    for (what, command) in steps {
        out::say(&format!("  {what:<31}  {command}"));
    }
    out::say("\nControl-C stops it.");
}

/// Says that calls can be made.
pub(crate) fn ready(ground: &Ground) {
    let (url, data) = (ground.settings.public_url(), ground.places.data.display());
    out::say(&format!("\nStrongroom is ready at {url} (data in {data})\n"));
}

/// Says that a restored vault takes no changes yet.
pub(crate) fn restored(ground: &Ground) {
    let program = program(ground);
    out::warn(&format!(
        "the vault was RESTORED and is read-only; look at it: {program} status; then run: {program} backup confirm"
    ));
}

/// Says that a witness is waited for.
pub(crate) fn waiting(ground: &Ground) {
    let program = program(ground);
    out::warn(&format!(
        "the vault is open and WAITS FOR ITS WITNESS: no call is made yet; let it run ({program} witness run), and see: {program} status"
    ));
}

/// Says that no call can be made.
pub(crate) fn sealed(ground: &Ground) {
    out::warn(&format!("the vault is SEALED; run: {} unseal", program(ground)));
}

/// How this program is called from here.
pub(crate) fn program(ground: &Ground) -> String {
    let mut words = vec![name()];
    words.extend(place(ground));
    let places = &ground.places;
    match (places.install, std::env::var_os("SUDO_UID")) {
        (Install::System, Some(_)) => words.insert(0, "sudo".to_owned()),
        (Install::System, None) | (Install::Personal, _) => {}
    }
    words.join(" ")
}

/// The words that name this install in another command, if it is not the usual one.
pub(crate) fn place(ground: &Ground) -> Option<String> {
    let places = &ground.places;
    let usual = Places::choose(&Surroundings::here(), None, ground.is_demo());
    if usual.as_ref() == Ok(places) {
        ground.is_demo().then(|| "--demo".to_owned())
    } else {
        Some(format!("--dir {}", quote(&places.data.to_string_lossy())))
    }
}

/// The bare name if the shell finds this program by it.
fn name() -> String {
    let Ok(own) = std::env::current_exe() else { return "strongroom".to_owned() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_own = |directory: &Path| {
        directory.join("strongroom").canonicalize().is_ok_and(|found| found == own)
    };
    if std::env::split_paths(&path).any(|directory| is_own(&directory)) {
        "strongroom".to_owned()
    } else {
        quote(&own.to_string_lossy())
    }
}
