//! A neighbour: another user of the machine, at every socket, file and process of an appliance.
//!
//! Invariant: each attempt is also made where it must succeed, so that what is refused is refused by the appliance.
//! Without root there are no other users to be, and nothing is shown.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::{Pid, Uid, User};
use strongroom_emulator::Api;
use strongroom_protocol::call::FrameKind;
use strongroom_tests::captured::Socket;
use strongroom_tests::speak::models;
use strongroom_tests::{Appliance, PATIENCE, Part, canary, scratch, until};

use crate::doors::bytes;
use crate::scene::Scene;
use crate::speech::{frame_of, identify};

const NOBODY: u32 = 65_534;

pub(crate) fn is_root() -> bool {
    let root = Uid::effective().is_root();
    if !root {
        strongroom_soak::skipped("other users need root");
    }
    root
}

/// Of a system user its own group, as the supervisor starts it.
fn start(uid: u32, words: &[&str]) -> Child {
    let user = User::from_uid(Uid::from_raw(uid)).expect("users can be looked up");
    let gid = user.map_or(uid, |user| user.gid.as_raw());
    let mut command = Command::new(scratch::programs().join("strongroom-neighbour"));
    command.args(words).uid(uid).gid(gid).env_clear().current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it is built")
}

/// Makes one attempt as a user, and yields what it said.
fn attempt(uid: u32, words: &[&str], input: &[u8]) -> String {
    let mut child = start(uid, words);
    child.stdin.take().expect("it is piped").write_all(input).expect("it reads");
    let ran = child.wait_with_output().expect("it ends");
    String::from_utf8(ran.stdout).expect("it is text").trim_end().to_owned()
}

/// Our own processes and whoever watches them, each with an address in its memory.
fn victims(scene: &Scene) -> Vec<(String, Pid, String)> {
    let mut all: Vec<(String, Pid)> = Part::ALL
        .into_iter()
        .map(|part| (format!("{part:?}"), scene.appliance.pid(part).expect("it runs")))
        .collect();
    all.push(("supervisor".to_owned(), scene.appliance.supervisor()));
    let with_address = |(name, pid): (String, Pid)| {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("root may read it");
        let heap = maps.lines().find(|line| line.contains("rw-p")).expect("it has memory");
        (name, pid, heap.split('-').next().expect("an address").to_owned())
    };
    all.into_iter().map(with_address).collect()
}

/// What is tried on a process, as it is told to the neighbour.
const ON_PROCESSES: &[&[&str]] = &[
    &["attach"],
    &["seize"],
    &["read-memory"],
    &["write-memory"],
    &["handle", "take"],
    &["handle", "signal"],
    &["limit"],
    &["signal", "0"],
    &["signal", "1"],
    &["signal", "9"],
    &["signal", "10"],
    &["signal", "15"],
    &["signal", "19"],
    &["proc", "mem"],
    &["proc", "environ"],
    &["proc", "maps"],
    &["proc", "smaps"],
    &["proc", "pagemap"],
    &["proc", "auxv"],
    &["proc", "fd"],
    &["proc", "fd/0"],
    &["proc", "fdinfo"],
    &["proc", "map_files"],
    &["proc", "exe"],
    &["proc", "cwd"],
    &["proc", "root"],
    &["proc", "io"],
    &["proc", "syscall"],
    &["proc", "personality"],
    &["proc", "timers"],
    &["proc", "ns/net"],
];

#[test]
fn a_neighbour_reads_writes_traces_and_signals_no_process_of_ours() {
    if !is_root() {
        return;
    }
    let scene = Scene::set();
    let victims = victims(&scene);
    for words in ON_PROCESSES {
        let (what, rest) = words.split_first().expect("an attempt");
        let on =
            |pid: &str, more: &[&str]| attempt(NOBODY, &[&[what, pid], rest, more].concat(), b"");
        assert_eq!(on("own", &[]), "done", "{words:?} on its own process");
        for (name, pid, address) in &victims {
            let more: &[&str] = if what.ends_with("memory") { &[address] } else { &[] };
            let told = on(&pid.to_string(), more);
            let refused = told.contains("Permission denied") || told.contains("EACCES");
            let refused = refused || told.contains("not permitted") || told.contains("EPERM");
            assert!(refused && told.starts_with("refused"), "{words:?} on the {name}: {told}");
        }
    }
    for (name, pid, _) in &victims {
        assert!(strongroom_tests::processes::runs(*pid), "the {name}");
    }
}

#[test]
fn a_neighbour_at_the_metrics_reads_numbers_and_holds_nobody_up() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    gate.call(&models(Api::OpenAi, &token)).is(200);
    let address = appliance.metrics_address();
    // Whoever says nothing there keeps the next one waiting for a bounded time, and no call.
    let silent: Vec<_> = (0..4).map(|_| TcpStream::connect(address).expect("it listens")).collect();
    gate.call(&models(Api::OpenAi, &token)).is(200);
    let page = appliance.metrics();
    drop(silent);
    let (_, body) = page.split_once("\r\n\r\n").expect("a head and a page");
    assert!(body.contains("strongroom_asks_total 2"), "{body}");
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(value.parse::<u64>().is_ok() && name.starts_with("strongroom_"), "{line}");
        let labels = name.split_once('{').map_or("", |(_, labels)| labels);
        let closed = ["provider=\"openai\",status=\"", "courier=\""];
        let is_closed = labels.is_empty() || closed.iter().any(|known| labels.starts_with(known));
        assert!(is_closed, "{line}");
    }
    // Nothing else is there.
    for target in ["/", "/metrics/../debug", "/openai/v1/models", "/healthz", "*"] {
        for method in ["GET", "POST", "CONNECT", "metrics"] {
            let mut stream = TcpStream::connect(address).expect("it listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            let asked =
                format!("{method} {target} HTTP/1.1\r\nauthorization: Bearer {token}\r\n\r\n");
            stream.write_all(asked.as_bytes()).expect("it reads");
            let mut told = String::new();
            let _reset = stream.read_to_string(&mut told);
            let refused = told.starts_with("HTTP/1.1 404") && told.ends_with("\r\n\r\n");
            assert!(refused, "{method} {target}: {told}");
        }
    }
    let mut long = TcpStream::connect(address).expect("it listens");
    long.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let _cut = long.write_all(&vec![b'a'; 1 << 20]);
    let mut told = Vec::new();
    let _reset = long.read_to_end(&mut told);
    assert!(told.is_empty(), "{}", String::from_utf8_lossy(&told));
    assert_eq!(appliance.providers().counts().requests, 2);
}

/// What everybody may read: nothing of it is secret, and clients need some of it.
const OPEN_FILES: &[&str] = &[
    ": list",
    "audit.pub: read",
    "env.sh: read",
    "examples: list",
    "examples/call.mjs: read run",
    "examples/call.py: read run",
    "examples/call.sh: read run",
    "examples/claude-code.sh: read run",
    "run: list",
    "strongroom.toml: read",
    "tls: list",
    "tls/ca-bundle.pem: read",
    "tls/ca.pem: read",
    "tls/cert.pem: read",
    "tls/names: read",
    "vault.pub: read",
];

#[test]
fn a_neighbour_reaches_no_file_of_ours_but_those_that_clients_need() {
    if !is_root() {
        return;
    }
    let scene = Scene::set();
    let data = scene.appliance.data();
    let mut paths = vec![data.to_owned()];
    paths.extend(directories(data));
    paths.extend(strongroom_tests::journal::files(data));
    let theirs = neighbours_own(&scene);
    paths.extend([theirs.clone(), theirs.join("file")]);
    let reached = reach(&paths);
    assert_eq!(reached[&theirs], "list make");
    assert_eq!(reached[&theirs.join("file")], "read write");
    let open: Vec<String> = reached
        .iter()
        .filter(|(path, can)| path.starts_with(data) && !can.is_empty())
        .map(|(path, can)| format!("{}: {can}", path.strip_prefix(data).expect("below").display()))
        .collect();
    assert_eq!(open, OPEN_FILES);
    let needles = [("a token", scene.token.as_str()), ("a private key", "PRIVATE KEY")];
    let needles = needles.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
    for (path, _) in reached.iter().filter(|(path, can)| path.is_file() && can.contains("read")) {
        let bytes = fs::read(path).expect("root may read it");
        assert!(canary::found(&bytes, &needles).is_empty(), "{}", path.display());
        assert!(canary::found(&bytes, &canary::needles()).is_empty(), "{}", path.display());
    }
}

/// A directory and a file of the neighbour's own, where its attempts succeed.
fn neighbours_own(scene: &Scene) -> PathBuf {
    let theirs = scene.appliance.scratch().join("theirs");
    fs::create_dir(&theirs).expect("a directory");
    fs::write(theirs.join("file"), b"x").expect("a file");
    for path in [theirs.join("file"), theirs.clone()] {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    theirs
}

fn directories(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![below.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).expect("root may read it").flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(entry.path());
                open.push(entry.path());
            }
        }
    }
    found
}

fn reach(paths: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    let lines: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let told = attempt(NOBODY, &["reach"], lines.join("\n").as_bytes());
    let rows = told.lines().map(|line| line.split_once('\t').expect("a path, then what it can"));
    rows.map(|(path, can)| (PathBuf::from(path), can.to_owned())).collect()
}

#[test]
fn a_neighbour_is_let_in_at_no_socket_of_ours() {
    if !is_root() {
        return;
    }
    let scene = Scene::set();
    let theirs = neighbours_own(&scene);
    let open = UnixListener::bind(theirs.join("open")).expect("a socket");
    fs::set_permissions(theirs.join("open"), Permissions::from_mode(0o777)).expect("ours");
    let path = theirs.join("open").display().to_string();
    assert_eq!(attempt(NOBODY, &["connect", &path], b""), "done", "a socket that is open to it");
    drop(open);
    let run = scene.appliance.data().join("run");
    let users = [
        "strongroom-gateway",
        "strongroom-courier",
        "strongroom-courier-defined",
        "strongroom-keeper",
    ];
    let uid = |name: &str| User::from_name(name).ok().flatten().expect("a user").uid.as_raw();
    for socket in Socket::ALL {
        let path = socket.below(&run).display().to_string();
        let mut let_in = Vec::new();
        for (name, uid) in
            users.map(|name| (name, uid(name))).into_iter().chain([("nobody", NOBODY)])
        {
            let told = attempt(uid, &["connect", &path], b"");
            assert!(told == "done" || told.starts_with("refused"), "{told}");
            if told == "done" {
                let_in.push(name);
            }
        }
        // The keeper owns the directories of its own sockets; it has no use for the couriers'. They are there already, and a
        // second one of either kind is turned away.
        let expected: &[&str] = match socket {
            Socket::Ask | Socket::Call | Socket::CallDefined => &["strongroom-gateway"],
            Socket::Errand | Socket::ErrandDefined => &[],
            Socket::Operator => &["strongroom-keeper"],
        };
        assert_eq!(let_in, expected, "{socket:?}");
    }
    for part in Part::ALL {
        let pid = scene.appliance.pid(part).expect("it runs");
        assert_eq!(abstract_sockets(pid), Vec::<String>::new(), "{part:?}");
    }
}

/// Names of sockets that no directory guards.
fn abstract_sockets(pid: Pid) -> Vec<String> {
    let own = fs::read_to_string(format!("/proc/{pid}/net/unix")).expect("root may read it");
    let links = fs::read_dir(format!("/proc/{pid}/fd")).expect("root may").flatten();
    let links: Vec<String> = links
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|link| link.display().to_string())
        .collect();
    own.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(6);
            let (inode, name) = (fields.next()?, fields.next()?);
            let is_own = links.contains(&format!("socket:[{inode}]"));
            (is_own && name.starts_with('@')).then(|| name.to_owned())
        })
        .collect()
}

#[test]
fn descriptors_that_are_pushed_at_a_socket_arrive_nowhere() {
    if !is_root() {
        return;
    }
    let scene = Scene::set();
    // They arrive where somebody takes them.
    let theirs = neighbours_own(&scene);
    let path = theirs.join("takes");
    let taking = UnixListener::bind(&path).expect("a socket");
    fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("ours");
    let pushing = push(NOBODY, &path, 1, b"x");
    let (stream, _) = taking.accept().expect("it pushes");
    assert_eq!(taken(&stream), 8);
    drop(stream);
    pushed(pushing);
    // From the captured gateway's user at both of its doors.
    let gateway = User::from_name("strongroom-gateway").ok().flatten().expect("a user").uid;
    let run = scene.appliance.data().join("run");
    let question = bytes(&identify(1, scene.token.as_bytes(), "openai"));
    for (socket, part, message) in [
        (Socket::Ask, Part::Keeper, question),
        (Socket::Call, Part::Courier, frame_of(FrameKind::Cancel, b"")),
        (Socket::CallDefined, Part::CourierDefined, frame_of(FrameKind::Cancel, b"")),
    ] {
        let pid = scene.appliance.pid(part).expect("it runs");
        let before = descriptors(pid);
        pushed(push(gateway.as_raw(), &socket.below(&run), 100, &message));
        // All was read, and the connection is over: nothing of the 800 is left.
        until("the connection is gone", || (descriptors(pid) <= before).then_some(()));
    }
    scene.appliance.gate().call(&models(Api::OpenAi, &scene.token)).is(200);
}

/// Sends a message so often, each with eight descriptors beside it.
fn push(uid: u32, path: &Path, times: usize, message: &[u8]) -> Child {
    let (path, times) = (path.display().to_string(), times.to_string());
    let mut child = start(uid, &["push", &path, &times]);
    child.stdin.take().expect("it is piped").write_all(message).expect("it reads");
    child
}

fn pushed(child: Child) {
    let ran = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&ran.stdout).trim_end(), "done");
}

/// How many descriptors come with the next bytes.
fn taken(stream: &UnixStream) -> usize {
    let (mut bytes, mut room) = ([0; 16], nix::cmsg_space!([i32; 16]));
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let got = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut room), MsgFlags::empty());
    let got = got.expect("something was sent");
    let all = got.cmsgs().expect("what came fits").map(|with| match with {
        ControlMessageOwned::ScmRights(fds) => fds.len(),
        _ => 0,
    });
    all.sum()
}

fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("root may read it").count()
}
