//! `strongroom env`: the exports that point SDKs and tools at Strongroom.
//!
//! Invariant: the token is read from its file when the exports are evaluated; it is not in them.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use crate::authority::{self, Certificates};
use crate::desk::Desk;
use crate::failure::{Code, Failure, Outcome};
use crate::out::{self, Form};
use crate::places::Places;
use crate::settings::Settings;

/// Which routes the exports name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Routes {
    /// `/openai`, `/anthropic`, …
    BuiltIn,
    /// `/p/demo-openai`, …
    Demo,
}

impl Routes {
    /// The route of a provider.
    pub(crate) fn of(self, provider: &str) -> String {
        match self {
            Self::BuiltIn => format!("/{provider}"),
            Self::Demo => format!("/p/demo-{provider}"),
        }
    }

    /// Demonstrations have routes of their own.
    pub(crate) fn at(places: &Places) -> Self {
        if places.demo_passphrase().exists() { Self::Demo } else { Self::BuiltIn }
    }
}

/// Prints the exports.
pub(crate) fn run(desk: &Desk) -> Outcome {
    let places = &desk.places;
    let settings = Settings::read(&places.settings())?.ok_or_else(|| {
        Failure::new(Code::Settings, format!("{} does not exist", places.settings().display()))
            .next("strongroom up")
    })?;
    let exports = exports(&settings, places, &authority::locate(places, &settings));
    match desk.form {
        Form::Text => out::raw(script(&exports).as_bytes()),
        Form::Json => {
            let literal = |value: &Value| match value {
                Value::Text(text) => json!(text),
                Value::File(path) => json!({"file": path}),
                Value::Unset => json!(null),
            };
            let all = exports.iter().map(|(name, value)| ((*name).to_owned(), literal(value)));
            out::object(json!({"environment": all.collect::<serde_json::Map<_, _>>()}));
        }
    }
    Ok(())
}

/// What a variable is set to.
pub(crate) enum Value {
    /// This text.
    Text(String),
    /// The content of this file.
    File(String),
    /// It must not be set: SDKs would send a real key beside the token.
    Unset,
}

/// The variables, in the order in which they are written.
pub(crate) fn exports(
    settings: &Settings,
    places: &Places,
    certificates: &Certificates,
) -> Vec<(&'static str, Value)> {
    let (url, routes) = (settings.public_url(), Routes::at(places));
    let base = |provider: &str, version: &str| {
        Value::Text(format!("{url}{}{version}", routes.of(provider)))
    };
    let token = || Value::File(places.token().display().to_string());
    let mut exports = vec![
        ("OPENAI_BASE_URL", base("openai", "/v1")),
        ("OPENAI_API_KEY", token()),
        ("ANTHROPIC_BASE_URL", base("anthropic", "")),
        ("ANTHROPIC_AUTH_TOKEN", token()),
        ("ANTHROPIC_API_KEY", Value::Unset),
        ("GOOGLE_GEMINI_BASE_URL", base("google", "")),
        ("GEMINI_API_KEY", token()),
        ("GOOGLE_API_KEY", Value::Unset),
    ];
    if routes == Routes::BuiltIn {
        exports.extend([("XAI_BASE_URL", base("xai", "/v1")), ("XAI_API_KEY", token())]);
    }
    let file = |path: &Path| Value::Text(path.display().to_string());
    // These replace all roots, so they name the bundle; Node adds. curl and requests prefer their own
    // variables, which managed machines set.
    if let Some(bundle) = &certificates.bundle {
        let variables = ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"];
        exports.extend(variables.map(|variable| (variable, file(bundle))));
    }
    if let Some(authority) = &certificates.authority {
        exports.push(("NODE_EXTRA_CA_CERTS", file(authority)));
    }
    exports
}

/// The variables as a script for POSIX shells.
pub(crate) fn script(exports: &[(&'static str, Value)]) -> String {
    let mut script = String::new();
    for (name, value) in exports {
        // Writing to a string does not fail.
        let _infallible = match value {
            Value::Text(text) => writeln!(script, "export {name}={}", quote(text)),
            Value::File(path) => writeln!(script, "export {name}=\"$(cat {})\"", quote(path)),
            Value::Unset => writeln!(script, "unset {name}"),
        };
    }
    script
}

/// One word for a POSIX shell.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use crate::authority;
    use crate::places::{Install, Places};
    use crate::settings::Settings;

    use super::{exports, quote, script};

    #[test]
    fn the_exports_are_those_of_the_golden_page() {
        let places =
            Places { install: Install::System, data: "/d/x".into(), run: "/d/x/run".into() };
        let settings: Settings = toml::from_str("").unwrap();
        let exports = exports(&settings, &places, &authority::locate(&places, &settings));
        let golden = "\
export OPENAI_BASE_URL='https://localhost:8443/openai/v1'
export OPENAI_API_KEY=\"$(cat '/d/x/token')\"
export ANTHROPIC_BASE_URL='https://localhost:8443/anthropic'
export ANTHROPIC_AUTH_TOKEN=\"$(cat '/d/x/token')\"
unset ANTHROPIC_API_KEY
export GOOGLE_GEMINI_BASE_URL='https://localhost:8443/google'
export GEMINI_API_KEY=\"$(cat '/d/x/token')\"
unset GOOGLE_API_KEY
export XAI_BASE_URL='https://localhost:8443/xai/v1'
export XAI_API_KEY=\"$(cat '/d/x/token')\"
export SSL_CERT_FILE='/d/x/tls/ca-bundle.pem'
export CURL_CA_BUNDLE='/d/x/tls/ca-bundle.pem'
export REQUESTS_CA_BUNDLE='/d/x/tls/ca-bundle.pem'
export NODE_EXTRA_CA_CERTS='/d/x/tls/ca.pem'
";
        assert_eq!(script(&exports), golden);
    }

    #[test]
    fn a_path_with_a_quote_stays_one_word() {
        assert_eq!(quote("/a'b $(x)"), r"'/a'\''b $(x)'");
    }
}
