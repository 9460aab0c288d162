//! One courier process with all that it talks to.

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use strongroom_emulator::{Api, Counts, Emulator, Options, Outcome as Ended, Seen};
use strongroom_policy::claims::{Claims, Length};
use strongroom_policy::destination::{Destination, Injection, Reach};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::id::{CallId, CredentialId};
use strongroom_policy::name::HostName;
use strongroom_policy::route::{BodyKind, Method};
use strongroom_policy::target::Target;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::Ticket;
use strongroom_protocol::body::json::Scanner;
use strongroom_protocol::errand::{Deadlines, Errand};
use strongroom_sys::spawn;
use tempfile::TempDir;

use super::keeper::Keeper;
use super::lane::{Got, TestLane};

pub(crate) const KEY: &str = "sk-proj-Canary_0123-456789.abcdefXYZ";
pub(crate) const OTHER_KEY: &str = "sk-proj-Other_9876-543210.zyxwvutABC";
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const CHAT: &str = "/v1/chat/completions";

pub(crate) struct Scene {
    pub(crate) emulator: Emulator,
    pub(crate) keeper: Keeper,
    pub(crate) courier: Child,
    call: PathBuf,
    _dir: TempDir,
}

/// How the provider serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Day {
    /// Recording all.
    Usual,
    /// Fast, and recording nothing of the models for measurements.
    Measured,
}

impl Scene {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(more: &[&str]) -> Self {
        Self::start_as(&[&["--gateway-uid", "0"], more].concat()).await
    }

    /// Without a word on who the gateway is.
    pub(crate) async fn start_as(more: &[&str]) -> Self {
        Self::start_on(Day::Usual, more).await
    }

    pub(crate) async fn start_on(day: Day, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(dir.path().join("emulator"));
        for api in Api::ALL {
            options = options.key(api, KEY).key(api, OTHER_KEY);
        }
        options.bench = day == Day::Measured;
        let emulator = Emulator::start(options).await.unwrap();
        let (errand, call) = (dir.path().join("errand.sock"), dir.path().join("run/call.sock"));
        let keeper = Keeper::listen(&errand);
        let courier = start(&errand, &call, emulator.ca_path(), more);
        Self { emulator, keeper, courier, call, _dir: dir }
    }

    pub(crate) async fn lane(&self) -> TestLane {
        TestLane::open(&self.call).await
    }

    pub(crate) fn call_path(&self) -> &Path {
        &self.call
    }

    /// An errand for a call of the OpenAI shape with this body.
    pub(crate) fn errand(&self, body: &str) -> Errand {
        let target = Target::parse(CHAT).unwrap();
        let mut scanner = Scanner::new(Dialect::OpenAi, &target, None);
        scanner.feed(body.as_bytes()).unwrap();
        let claims = scanner.finish().unwrap();
        let length = Length::Known(body.len() as u64);
        Errand { body: BodyKind::Json, method: Method::Post, target, claims, length, ..self.get() }
    }

    /// An errand without a body.
    pub(crate) fn get(&self) -> Errand {
        Errand {
            call: CallId::from_random(next()),
            credential: CredentialId::from_random([1; 16]),
            credential_version: 1,
            destination: Destination {
                host: HostName::parse("api.openai.com").unwrap(),
                port: self.emulator.address().port(),
                tls_name: HostName::parse("api.openai.com").unwrap(),
                extra_authorities: Vec::new(),
                reach: Reach::Public,
                base_path: String::new(),
                injection: Injection::Bearer,
                fixed_headers: Vec::new(),
            },
            secret: SecretBytes::copy_from(KEY.as_bytes()),
            method: Method::Get,
            target: Target::parse("/v1/models").unwrap(),
            dialect: Dialect::OpenAi,
            body: BodyKind::Empty,
            claims: Claims::of_no_body(None),
            length: Length::Known(0),
            betas: Vec::new(),
            idempotency_tag: SecretBytes::copy_from(b"subject"),
            public_prefix: "https://our.example/openai".to_owned(),
            deadlines: Deadlines::USUAL,
        }
    }

    /// Puts an errand under a ticket.
    pub(crate) fn admit(&self, errand: Errand) -> (Ticket, CallId) {
        let (ticket, call) = (Ticket(next()), errand.call);
        self.keeper.admit(ticket, errand);
        (ticket, call)
    }

    /// One call from its ticket to its end, on this lane.
    pub(crate) async fn call(&self, lane: &mut TestLane, body: &str) -> (Got, CallId) {
        let (ticket, call) = self.admit(self.errand(body));
        lane.send(ticket, body).await;
        (lane.answer().await, call)
    }

    /// Waits until a request ended so at the provider.
    pub(crate) async fn provider_saw(&self, ended: Ended) -> Seen {
        let enough = |seen: &[Seen], _: Counts| seen.iter().any(|one| one.outcome == ended);
        let seen = self.emulator.until(PATIENCE, enough).await;
        let seen = seen.unwrap_or_else(|| panic!("not {ended:?}: {:?}", self.emulator.seen()));
        seen.into_iter().rfind(|one| one.outcome == ended).unwrap()
    }

    /// Waits until a request's head is there.
    pub(crate) async fn provider_hears(&self) {
        let enough = |seen: &[Seen], _: Counts| !seen.is_empty();
        self.emulator.until(PATIENCE, enough).await.unwrap();
    }

    /// Waits for the courier's end.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        let pid = self.courier.id();
        let mut courier = std::mem::replace(&mut self.courier, idle());
        let ended = tokio::task::spawn_blocking(move || courier.wait().unwrap().code());
        let ended = tokio::time::timeout(PATIENCE, ended).await;
        ended.unwrap_or_else(|_| panic!("the courier {pid} goes on")).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(self.courier.kill());
        drop(self.courier.wait());
    }
}

pub(crate) fn chat(model: &str, text: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{text}"}}]}}"#)
}

pub(crate) fn streamed(model: &str) -> String {
    format!(
        r#"{{"model":"{model}","stream":true,"stream_options":{{"include_usage":true}},"messages":[{{"role":"user","content":"hi there"}}]}}"#
    )
}

/// Starts the program and waits until it accepts lanes.
fn start(errand: &Path, call: &Path, root: &Path, more: &[&str]) -> Child {
    let (mut ready, theirs) = UnixStream::pair().unwrap();
    let mut arguments = vec!["--errand", errand.to_str().unwrap(), "--call"];
    arguments.extend([call.to_str().unwrap(), "--gateway-gid", "0"]);
    arguments.extend(["--extra-root", root.to_str().unwrap(), "--ready-fd", "3"]);
    for host in ["api.openai.com=127.0.0.1", "api.anthropic.com=127.0.0.1"] {
        arguments.extend(["--host", host]);
    }
    arguments.extend(more);
    let courier = spawn::Child {
        program: Path::new(env!("CARGO_BIN_EXE_strongroom-courier")),
        arguments: &arguments,
        user: None,
        network: spawn::Network::Host,
        inherited: &[theirs.as_fd()],
        keep_environment: &["RUST_LOG", "RUST_BACKTRACE"],
        wipes_freed: false,
    };
    let courier = courier.start().unwrap();
    drop(theirs);
    ready.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut byte = [0; 1];
    ready.read_exact(&mut byte).unwrap();
    courier
}

/// Stands in for a process that was waited for.
fn idle() -> Child {
    let program = Path::new("/bin/true");
    let child = spawn::Child {
        program,
        arguments: &[],
        user: None,
        network: spawn::Network::Host,
        inherited: &[],
        keep_environment: &[],
        wipes_freed: false,
    };
    child.start().unwrap()
}

/// Ids that differ within a test.
fn next() -> [u8; 16] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    u128::from(NEXT.fetch_add(1, Ordering::Relaxed)).to_be_bytes()
}
