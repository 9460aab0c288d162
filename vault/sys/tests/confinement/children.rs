//! What the children of the spawning claims do.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::{env, fs};

use nix::errno::Errno;
use nix::unistd::{Pid, Uid};
use strongroom_sys::inherited::take_unix_stream;
use strongroom_sys::process::die_with_parent;
use strongroom_sys::spawn::{Child, FIRST_INHERITED, Network};

use crate::scene::NOBODY_UID;

pub(crate) fn report_child(leaked: &str) -> ExitCode {
    let mut stream = take_unix_stream(FIRST_INHERITED).unwrap();
    let _second = take_unix_stream(FIRST_INHERITED + 1).unwrap();
    let groups = nix::unistd::getgroups().unwrap().len();
    let groups = if Uid::effective() == NOBODY_UID { groups } else { 0 };
    let mut names: Vec<String> =
        env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    names.sort();
    let interfaces = fs::read_to_string("/proc/self/net/dev").unwrap();
    let outside = interfaces.lines().skip(2).any(|line| !line.trim_start().starts_with("lo:"));
    let mut descriptors: Vec<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    let leaks = descriptors.iter().any(|name| name == leaked);
    descriptors.retain(|name| name != leaked && name.parse::<i32>().unwrap() < 5);
    write!(
        stream,
        "uid={} groups={groups} variables={} descriptors={} leaked={leaks} outside={outside}",
        Uid::effective(),
        names.join(","),
        descriptors.len(),
    )
    .unwrap();
    ExitCode::SUCCESS
}

/// A supervisor whose streams are a terminal.
pub(crate) fn start_at_terminal() -> ExitCode {
    let program = env::current_exe().unwrap();
    let child = Child {
        program: &program,
        arguments: &["--read-terminal"],
        user: None,
        network: Network::Host,
        inherited: &[],
        keep_environment: &[],
        wipes_freed: false,
    };
    let ended = child.start().unwrap().wait().unwrap();
    if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub(crate) fn read_terminal() -> ExitCode {
    let (output, error) = (io::stdout(), io::stderr());
    for (number, stream) in [(1, output.as_fd()), (2, error.as_fd())] {
        let read = match nix::unistd::read(stream, &mut [0; 64]) {
            Ok(length) => format!("{length} bytes"),
            Err(errno) => format!("{errno:?}"),
        };
        nix::unistd::write(stream, format!("{number}: {read}\n").as_bytes()).unwrap();
    }
    ExitCode::SUCCESS
}

pub(crate) fn supervise() -> ExitCode {
    let stream = take_unix_stream(FIRST_INHERITED).unwrap();
    // A parent that is not ours is refused.
    assert_eq!(die_with_parent(Pid::from_raw(1_000_000_000)), Err(Errno::ESRCH));
    let program = env::current_exe().unwrap();
    let mut child = Child {
        program: &program,
        arguments: &["--outlive"],
        user: None,
        network: Network::Host,
        inherited: &[stream.as_fd()],
        keep_environment: &[],
        wipes_freed: false,
    }
    .start()
    .unwrap();
    (&stream).write_all(b"x").unwrap();
    // Until it is killed.
    child.wait().unwrap();
    ExitCode::SUCCESS
}
