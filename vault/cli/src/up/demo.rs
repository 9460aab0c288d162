//! The demonstration: a provider of our own on this machine, with keys that open nothing.
//!
//! Invariant: nothing here is a secret, and it says so.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use strongroom_policy::destination::{Destination, Reach};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::name::{HostName, Label, ProviderName};
use strongroom_policy::provider::builtin::{injection_of, paths_of, probe_of};
use strongroom_policy::provider::{Origin, ProviderDefinition};
use strongroom_policy::rules::CredentialRules;
use strongroom_protocol::operator::{CredentialWish, HomePick, Request};
use strongroom_sys::Secret;

use crate::credential;
use crate::deposit::{Slot, Wanted};
use crate::failure::{Code, Failure, Outcome};
use crate::files;
use crate::link::Link;
use crate::out;
use crate::pin;
use crate::prompt::Typed;
use crate::provider;
use crate::up::ground::Ground;

/// One demonstration provider.
struct Demo {
    name: &'static str,
    dialect: Dialect,
    /// The emulator's name for the API, also the base path by which it knows it.
    api: &'static str,
    /// Shaped like a real one, worthless by content.
    key: &'static str,
}

const DEMOS: [Demo; 3] = [
    Demo {
        name: "demo-openai",
        dialect: Dialect::OpenAi,
        api: "openai",
        key: "sk-proj-strongroom-demo-Key_that-opens-nothing-real-7Qx2LwZr9KpT4bVn",
    },
    Demo {
        name: "demo-anthropic",
        dialect: Dialect::Anthropic,
        api: "anthropic",
        key: "sk-ant-api03-strongroom-demo-Key_that-opens-nothing-real-5Hs8NcYf3JmR6gXw-AA",
    },
    Demo {
        name: "demo-google",
        dialect: Dialect::Gemini,
        api: "gemini",
        key: "AIzaSyStrongro0mDem0KeyOpensNoth1ngRe_9",
    },
];

/// The demonstration's passphrase, made on its first start.
pub(crate) fn passphrase(ground: &Ground) -> Outcome<Typed> {
    let path = ground.places.demo_passphrase();
    if let Some(text) = files::read(&path)? {
        return Ok(Typed::of(text.trim_end().as_bytes()));
    }
    let random = Secret::random(16)
        .map_err(|error| Failure::new(Code::NoSecret, format!("randomness: {error}")))?;
    let text = random.expose(|bytes| hex::encode(bytes));
    files::create(&path, text.as_bytes(), 0o600)?;
    out::warn(&format!(
        "demonstration: the passphrase lies beside the vault in {} and protects nothing",
        path.display()
    ));
    Ok(Typed::of(text.as_bytes()))
}

/// The emulator's arguments. Credentials freeze a port, so it listens where it listened before.
pub(crate) fn arguments(ground: &Ground, ready: i32) -> Vec<String> {
    let directory = ground.places.emulator();
    let before = address(&directory).unwrap_or_else(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let mut arguments: Vec<String> = ["--demo", "--control", "127.0.0.1:0"].map(Into::into).into();
    arguments.extend(["--listen".to_owned(), before.to_string()]);
    arguments.extend(["--dir".to_owned(), directory.display().to_string()]);
    arguments.extend(["--ready-fd".to_owned(), ready.to_string()]);
    for demo in &DEMOS {
        arguments.extend(["--key".to_owned(), format!("{}={}", demo.api, demo.key)]);
    }
    arguments
}

/// Where the emulator listens, by the file that it wrote.
fn address(directory: &Path) -> Outcome<SocketAddr> {
    let path = directory.join("addr.json");
    let text = files::read(&path)?.ok_or_else(|| Failure::file(&path, "is missing"))?;
    let told: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Failure::file(&path, error))?;
    let listen = told.get("listen").and_then(serde_json::Value::as_str);
    listen
        .and_then(|listen| listen.parse().ok())
        .ok_or_else(|| Failure::file(&path, "does not say where the emulator listens"))
}

/// Defines the demonstration's providers and brings their keys in, where they are missing.
pub(crate) fn define(link: &mut Link, ground: &Ground) -> Outcome {
    let directory = ground.places.emulator();
    let address = address(&directory)?;
    let authorities = provider::authorities(&[directory.join("ca.pem")])?;
    let known = provider::rows(link)?;
    let stored = credential::rows(link)?;
    let pinned = pin::verified(&ground.places.pin(), link)?;
    for demo in &DEMOS {
        let name = ProviderName::parse(demo.name).map_err(Failure::argument)?;
        if !known.iter().any(|row| row.name == name) {
            let definition = demo.definition(address, authorities.clone())?;
            link.tell(&Request::ProviderPut(Box::new(definition)))?;
        }
        if !stored.iter().any(|row| row.provider == name) {
            let wish = CredentialWish {
                provider: name,
                home: HomePick::Personal(None),
                label: Label::parse(demo.name).map_err(Failure::argument)?,
                fixed_headers: Vec::new(),
                rules: CredentialRules::default(),
            };
            let slot = Slot::open(link, &Request::CredentialAdd(Box::new(wish)), Wanted::New)?;
            slot.fill(link, &pinned, &Typed::of(demo.key.as_bytes()))?;
        }
    }
    Ok(())
}

impl Demo {
    fn definition(
        &self,
        address: SocketAddr,
        extra_authorities: Vec<Vec<u8>>,
    ) -> Outcome<ProviderDefinition> {
        let host = |name: &str| HostName::parse(name).map_err(Failure::argument);
        let definition = ProviderDefinition {
            name: ProviderName::parse(self.name).map_err(Failure::argument)?,
            dialect: self.dialect,
            destination: Destination {
                host: host(&address.ip().to_string())?,
                port: address.port(),
                tls_name: host("localhost")?,
                extra_authorities,
                reach: Reach::Private,
                base_path: format!("/{}", self.api),
                injection: injection_of(self.dialect),
                fixed_headers: Vec::new(),
            },
            paths: paths_of(self.dialect),
            probe: probe_of(self.dialect),
            origin: Origin::Operator,
        };
        definition.check().map_err(Failure::argument)?;
        Ok(definition)
    }
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::upload::check_key;

    use super::DEMOS;

    #[test]
    fn every_demonstration_provider_holds() {
        for demo in &DEMOS {
            demo.definition("127.0.0.1:4443".parse().unwrap(), vec![vec![1]]).unwrap();
            check_key(demo.key.as_bytes()).unwrap();
            assert_eq!(crate::deposit::guess(demo.key.as_bytes()), Some(demo.dialect));
        }
    }
}
