//! What an emulator is started with.
//!
//! Invariant: an API without a key accepts nobody.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Context as _, Result};

use crate::Api;

/// The settings of one emulator.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the TLS side listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the plain-HTTP control side listens.
    pub control: SocketAddr,
    /// Where `ca.pem`, the leaf and `addr.json` are kept; made if missing.
    pub dir: PathBuf,
    /// The keys that are accepted.
    pub keys: Keys,
    /// Serve `bench-*` models without recording anything.
    pub bench: bool,
    /// Answer with sentences that say who is speaking, and accept the demo keys.
    pub demo: bool,
}

impl Options {
    /// Free loopback ports, no keys, files under `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            listen: loopback,
            control: loopback,
            dir: dir.into(),
            keys: Keys::default(),
            bench: false,
            demo: false,
        }
    }

    /// Accept `key` for `api`, besides those already accepted.
    #[must_use]
    pub fn key(mut self, api: Api, key: &str) -> Self {
        self.keys.accept(api, key);
        self
    }
}

/// The accepted keys of each API.
#[derive(Clone, Debug, Default)]
pub struct Keys(BTreeMap<Api, Vec<String>>);

impl Keys {
    /// One well-known key per API, for demonstrations.
    pub fn demo() -> Self {
        let mut keys = Self::default();
        for api in Api::ALL {
            keys.accept(api, demo_key(api));
        }
        keys
    }

    /// Adds a key.
    pub fn accept(&mut self, api: Api, key: &str) {
        self.0.entry(api).or_default().push(key.to_owned());
    }

    /// Replaces every key of an API, as a rotation at the provider does.
    pub fn replace(&mut self, api: Api, key: &str) {
        self.0.insert(api, vec![key.to_owned()]);
    }

    /// Reads `openai=sk-…`.
    pub fn accept_text(&mut self, text: &str) -> Result<()> {
        let (name, key) = text.split_once('=').context("a key is given as api=key")?;
        let api = Api::from_name(name).with_context(|| format!("no API is called {name}"))?;
        self.accept(api, key);
        Ok(())
    }

    /// Whether `key` opens `api`.
    pub fn opens(&self, api: Api, key: &str) -> bool {
        self.of(api).iter().any(|known| known == key)
    }

    /// The keys of one API.
    pub fn of(&self, api: Api) -> &[String] {
        self.0.get(&api).map_or(&[], Vec::as_slice)
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The API whose key this is, if it is anyone's.
    pub fn owner(&self, key: &str) -> Option<Api> {
        self.0.iter().find(|(_, keys)| keys.iter().any(|known| known == key)).map(|(api, _)| *api)
    }
}

// Shaped like the real ones in prefix, length and alphabet, so that whatever handles keys by
// shape handles these too, and worthless by content.
fn demo_key(api: Api) -> &'static str {
    match api {
        Api::OpenAi => "sk-proj-emulator-0penA1-d3mo-Key_that-opens-nothing-real-7Qx2LwZr9KpT4bVn",
        Api::Anthropic => {
            "sk-ant-api03-emulator-demo-Key_that-opens-nothing-real-5Hs8NcYf3JmR6gXw-AA"
        }
        Api::Gemini => "AIzaSyEmu1atorDem0KeyOpensNoth1ngReal_9",
        Api::Xai => "xai-emulatorDemoKeyThatOpensNothingReal2Vt7BqMz4WdK8sLh1PcR6yGn3",
    }
}
