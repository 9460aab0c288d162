//! A captured gateway or courier: stands in its place under the supervisor, and lends its user and its reach to a test.
//!
//! It does nothing by itself. For each connection at one of its own sockets it makes one at the appliance's socket of that name,
//! so that the kernel shows the appliance this process's user, and carries bytes both ways. In the courier's place it also listens
//! for the gateway's lanes, and carries each to the test; in the gateway's it shuts its listener down when the test wants it.
//!
//! Invariant: it confines itself in nothing: a test has at least what an attacker in that process would have.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    reason = "a test tool: what does not work here ends it, with a sentence"
)]

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::sys::socket::{Shutdown as Everything, shutdown};
use strongroom_sys::inherited::{take_tcp_listener, take_unix_stream};
use strongroom_tests::captured::{self, Socket};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1).cloned()
    };
    let own = captured::sockets_of(Path::new(arguments.first().expect("it has a name")));
    let call = PathBuf::from(value("--call").expect("all are told where lanes are"));
    let run = call.parent().and_then(Path::parent).expect("sockets have directories").to_owned();
    if value("--errand").is_some() {
        let lanes = own.join(captured::LANES);
        serve(&call, move |gateway| {
            if let Ok(test) = UnixStream::connect(&lanes) {
                carry_both_ways(gateway, test);
            }
        });
        // The supervisor gives both to the gateway's group.
        for (path, mode) in [(call.as_path(), 0o660), (call.parent().expect("a directory"), 0o710)]
        {
            let open = Permissions::from_mode(mode);
            fs::set_permissions(path, open).expect("it is this user's");
        }
    }
    if let Some(fd) = value("--listener-fd").and_then(|fd| fd.parse().ok()) {
        let listener = take_tcp_listener(fd).expect("the supervisor's listener");
        let listener = Arc::new(listener);
        serve(&own.join(captured::SHUT), move |mut test| {
            // A listener that was shut down before is none any more.
            let _none = shutdown(listener.as_raw_fd(), Everything::Both);
            let _gone = test.write_all(&[0]);
        });
    }
    for socket in Socket::ALL {
        let there = socket.below(&run);
        serve(&own.join(socket.name()), move |here| knock(here, &there));
    }
    let ready = value("--ready-fd").and_then(|fd| fd.parse().ok()).expect("a descriptor");
    let mut ready = take_unix_stream(ready).expect("the supervisor's socket");
    ready.write_all(b"\n").expect("the supervisor listens");
    loop {
        thread::park();
    }
}

/// Takes connections at a socket, each on a thread of its own.
fn serve(path: &Path, take: impl Fn(UnixStream) + Clone + Send + 'static) {
    // The one before, which was killed, may have left its own.
    let _none = fs::remove_file(path);
    let listener = UnixListener::bind(path).expect("the directory is this user's");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let take = take.clone();
            thread::spawn(move || take(stream));
        }
    });
}

/// Opens the appliance's socket for a test, which is told how that went: 0, or the kernel's refusal.
fn knock(mut here: UnixStream, there: &Path) {
    let (told, there) = match UnixStream::connect(there) {
        Ok(there) => (0, Some(there)),
        Err(error) => {
            (error.raw_os_error().and_then(|n| u8::try_from(n).ok()).unwrap_or(255), None)
        }
    };
    if let (Ok(()), Some(there)) = (here.write_all(&[told]), there) {
        carry_both_ways(here, there);
    }
}

/// Carries bytes both ways until both ends have ended.
fn carry_both_ways(one: UnixStream, other: UnixStream) {
    let (Ok(from_one), Ok(to_other)) = (one.try_clone(), other.try_clone()) else { return };
    thread::spawn(move || carry(from_one, to_other));
    carry(other, one);
}

fn carry(mut from: UnixStream, mut to: UnixStream) {
    // However it ended, what was read is passed on, and then the end.
    let _ended = io::copy(&mut from, &mut to);
    let _gone = to.shutdown(Shutdown::Write);
    let _gone = from.shutdown(Shutdown::Read);
}
