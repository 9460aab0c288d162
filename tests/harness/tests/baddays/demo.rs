//! The demonstration where its vault is opened later than it starts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use strongroom_tests::command::{self, Ran};
use strongroom_tests::{processes, scratch, until};

/// A demonstration in a directory of its own; dropping it ends it.
struct Demo {
    program: PathBuf,
    data: PathBuf,
    up: Child,
}

impl Demo {
    fn start(program: &Path, data: &Path) -> Self {
        let log = File::create(data.with_extension("log")).expect("a log");
        // Whatever port is free the first time; it stays.
        let first = !data.join("strongroom.toml").exists();
        let port: &[&str] = if first { &["--port", "0"] } else { &[] };
        let dir = data.to_str().expect("text");
        let arguments = [&["up", "--demo", "--dir", dir], port].concat();
        let up = command::start(program, &arguments, b"", Stdio::null(), Stdio::from(log));
        Self { program: program.to_owned(), data: data.to_owned(), up }
    }

    fn cli(&self, arguments: &[&str], stdin: &[u8]) -> Ran {
        let dir = self.data.to_str().expect("text");
        command::run(&self.program, &[arguments, &["--dir", dir]].concat(), stdin)
    }

    fn wait(&self, state: &str) {
        until("all processes are there", || {
            let ran = self.cli(&["status", "--json"], b"");
            let told: Value = serde_json::from_str(ran.stdout.trim()).ok()?;
            let all = ["courier", "courier_defined", "gateway"].iter().all(|one| told[one] == true);
            (all && told["state"] == state).then_some(())
        });
    }

    /// The first example that a user is shown.
    fn call(&self) -> String {
        let ran =
            Command::new("sh").arg(self.data.join("examples/call.sh")).output().expect("a shell");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        processes::signal(
            Pid::from_raw(i32::try_from(self.up.id()).unwrap_or(i32::MAX)),
            Signal::SIGTERM,
        );
        let _status = self.up.wait();
    }
}

// Red when the emulator is started only by a start that opens the vault.
#[test]
fn a_demonstration_that_somebody_opens_by_hand_answers() {
    let scratch = scratch::directory();
    let (program, data) = (scratch::programs().join("strongroom"), scratch.path().join("d"));
    let demo = Demo::start(&program, &data);
    demo.wait("ready");
    until("the first call is answered", || demo.call().contains("chat.completion").then_some(()));
    drop(demo);
    // A protection that may be missing from now on: the vault waits until somebody says that this is meant.
    let settings = data.join("strongroom.toml");
    let text = fs::read_to_string(&settings).expect("settings");
    let weaker =
        |line: &str| match line.strip_suffix(']').filter(|_| line.starts_with("accept_missing")) {
            Some(names) if names.ends_with('[') => format!("{names}\"secret-memory\"]\n"),
            Some(names) => format!("{names}, \"secret-memory\"]\n"),
            None => format!("{line}\n"),
        };
    fs::write(&settings, text.lines().map(weaker).collect::<String>()).expect("settings");
    let demo = Demo::start(&program, &data);
    demo.wait("sealed");
    let passphrase = fs::read(data.join("demo-passphrase")).expect("it lies beside the vault");
    let asked = demo.cli(&["unseal", "-"], &passphrase);
    let (_, difference) = asked.stderr.split_once("--accept-settings ").expect("it asks");
    let difference: String = difference.chars().take_while(char::is_ascii_hexdigit).collect();
    demo.cli(&["unseal", "-", "--accept-settings", &difference], &passphrase).ok();
    demo.wait("ready");
    until("a call is answered", || demo.call().contains("chat.completion").then_some(()));
}
