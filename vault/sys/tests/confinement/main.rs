//! Shows that each ban of each process bites, and that its work still passes.
//!
//! Every attempt runs in a process of its own: this program starts itself again with a profile and
//! the name of an attempt, confines itself, tries, and tells how it went.
#![expect(unsafe_code, reason = "the attempts make system calls that no safe wrapper offers")]
#![expect(clippy::unwrap_used, reason = "a test program without a test harness")]
#![expect(clippy::panic, reason = "a test program without a test harness")]
#![expect(clippy::print_stdout, reason = "a test program without a test harness")]

mod attempts;
mod children;
mod scene;

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::{env, thread};

use nix::errno::Errno;
use nix::pty::openpty;
use nix::unistd::Uid;
use strongroom_sys::confine::{Layer, Profile, Violation, probe};
use strongroom_sys::spawn::{Child, Network};

use scene::{NOBODY_GID, NOBODY_UID, Scene, text};

const CLAIMS: &[(&str, fn())] = &[
    ("the_gateway_is_banned_from_files_sockets_and_programs", gateway_bans),
    ("the_gateway_can_do_its_work", gateway_works),
    ("the_courier_is_banned_from_files_unix_sockets_and_listening", courier_bans),
    ("the_courier_can_do_its_work", courier_works),
    ("a_courier_that_is_given_ports_dials_no_other", courier_dials),
    ("the_tpm_helper_is_banned_from_files_sockets_and_programs", tpm_bans),
    ("the_tpm_helper_can_do_its_work", tpm_works),
    ("the_helper_of_a_software_tpm_reaches_its_ports_and_no_more", software_tpm),
    ("the_keeper_is_banned_from_the_network_and_foreign_files", keeper_bans),
    ("the_keeper_can_do_its_work", keeper_works),
    ("a_violation_kills_in_kill_mode", violation_kills),
    ("the_work_of_every_process_passes_in_kill_mode", works_in_kill_mode),
    ("a_process_with_two_threads_is_not_confined", threads_are_refused),
    ("confinement_needs_no_root", without_root),
    ("a_missing_layer_stops_the_start_unless_accepted", missing_layers),
    ("hardening_takes_cores_variables_and_descriptors", hardening),
    ("a_panic_tells_a_place_and_no_value", panics_are_mute),
    ("a_child_has_its_user_descriptors_and_environment_and_nothing_else", spawned_child),
    ("a_child_dies_with_its_supervisor", child_dies_with_parent),
    ("a_child_writes_to_the_terminal_and_reads_nothing_there", child_at_terminal),
];

/// Every process is denied these, with this error.
const NOBODY: &[(&str, Errno)] = &[
    ("read_passwd", Errno::EACCES),
    ("run_program", Errno::EPERM),
    ("exec", Errno::EPERM),
    ("fork", Errno::EPERM),
    ("trace", Errno::EPERM),
    ("executable_memory", Errno::EPERM),
    ("make_memory_executable", Errno::EPERM),
    ("signal_parent", Errno::EPERM),
    ("unix_socket", Errno::EPERM),
    ("unix_datagram_pair", Errno::EPERM),
    ("netlink_socket", Errno::EPERM),
    ("listen", Errno::EPERM),
    ("receive_message", Errno::EPERM),
    ("io_uring", Errno::EPERM),
    ("new_namespace", Errno::EPERM),
    ("raise_limit", Errno::EPERM),
    ("become_dumpable", Errno::EPERM),
    ("chmod", Errno::EPERM),
    ("secret_memory", Errno::EPERM),
    ("dial_by_listener", Errno::EPERM),
    ("dial_in_first_packet", Errno::EPERM),
    ("option_device", Errno::EPERM),
    ("option_filter", Errno::EPERM),
    ("option_later_dial", Errno::EPERM),
    ("option_priority", Errno::EPERM),
    ("option_read", Errno::EPERM),
];

fn gateway_bans() {
    let scene = Scene::new();
    scene.denies("gateway", NOBODY);
    scene.denies(
        "gateway",
        &[
            ("write_data", Errno::EACCES),
            ("connect_tcp", Errno::EPERM),
            ("connect_inherited", Errno::EPERM),
            ("datagram_elsewhere", Errno::EPERM),
            ("udp", Errno::EPERM),
            ("udp_unbound", Errno::EPERM),
            ("bind_tcp", Errno::EPERM),
            ("stat_shadow", Errno::EACCES),
        ],
    );
}

fn gateway_works() {
    let scene = Scene::new();
    scene.allows("gateway", &["threads", "tokio", "accept", "unix_stream", "processors", "abort"]);
}

fn courier_bans() {
    let scene = Scene::new();
    scene.denies("courier", NOBODY);
    scene.denies(
        "courier",
        &[
            ("write_data", Errno::EACCES),
            ("connect_inherited", Errno::EISCONN),
            ("bind_unbound", Errno::EACCES),
            ("bind_tcp", Errno::EPERM),
            ("listen_unbound", Errno::EPERM),
            ("multipath_tcp", Errno::EPERM),
            ("stat_shadow", Errno::EACCES),
        ],
    );
}

fn courier_works() {
    let scene = Scene::new();
    scene.allows("courier", &["threads", "tokio", "connect_tcp", "udp", "accept", "unix_stream"]);
}

fn courier_dials() {
    let scene = Scene::new();
    scene.allows("courier_here", &["connect_tcp", "udp", "accept"]);
    scene.denies("courier_elsewhere", NOBODY);
    scene.denies("courier_elsewhere", &[("connect_tcp", Errno::EACCES)]);
}

fn tpm_bans() {
    let scene = Scene::new();
    scene.denies("tpm", NOBODY);
    scene.denies(
        "tpm",
        &[
            ("write_data", Errno::EACCES),
            ("connect_tcp", Errno::EPERM),
            ("connect_inherited", Errno::EPERM),
            ("datagram_elsewhere", Errno::EPERM),
            ("udp", Errno::EPERM),
            ("udp_unbound", Errno::EPERM),
            ("bind_tcp", Errno::EPERM),
            ("stat_shadow", Errno::EACCES),
        ],
    );
}

fn tpm_works() {
    let scene = Scene::new();
    scene.allows("tpm", &["unix_stream", "unix_datagram", "abort"]);
}

fn software_tpm() {
    let scene = Scene::new();
    scene.allows("software_tpm", &["connect_tcp", "unix_datagram", "abort"]);
    scene.denies("software_tpm", NOBODY);
    scene.denies(
        "software_tpm",
        &[
            ("connect_other_tcp", Errno::EACCES),
            ("datagram_elsewhere", Errno::EPERM),
            ("write_data", Errno::EACCES),
            ("udp", Errno::EPERM),
            ("udp_unbound", Errno::EPERM),
            ("bind_tcp", Errno::EPERM),
            ("listen_unbound", Errno::EPERM),
            ("multipath_tcp", Errno::EPERM),
            ("stat_shadow", Errno::EACCES),
        ],
    );
}

fn keeper_bans() {
    let scene = Scene::new();
    scene.denies("keeper", NOBODY);
    scene.denies(
        "keeper",
        &[
            ("connect_tcp", Errno::EPERM),
            ("bind_tcp", Errno::EPERM),
            ("udp", Errno::EPERM),
            ("udp_unbound", Errno::EPERM),
            ("connect_inherited", Errno::EPERM),
            ("datagram_elsewhere", Errno::EPERM),
            ("write_run", Errno::EACCES),
            ("symlink", Errno::EPERM),
            ("sync_file_range", Errno::ENOSYS),
        ],
    );
}

fn keeper_works() {
    let scene = Scene::new();
    scene.allows(
        "keeper",
        &[
            "threads",
            "tokio",
            "write_data",
            "files",
            "sled",
            "redb",
            "locked_keys",
            "accept",
            "unix_datagram",
            "remove_socket",
        ],
    );
}

fn violation_kills() {
    let scene = Scene::new();
    for (profile, attempt) in [("gateway", "unix_socket"), ("courier", "trace"), ("keeper", "fork")]
    {
        let output = scene.run(profile, "kill", attempt);
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{profile} {attempt}: {output:?}");
    }
}

fn works_in_kill_mode() {
    let scene = Scene::new();
    let common = ["threads", "tokio", "accept", "unix_stream", "processors", "backtrace"];
    let own: [(&str, &[&str]); 5] = [
        ("gateway", &[]),
        ("courier", &["connect_tcp", "udp"]),
        ("keeper", &["write_data", "files", "sled", "redb", "locked_keys", "unix_datagram"]),
        ("tpm", &["unix_datagram"]),
        ("software_tpm", &["unix_datagram", "connect_tcp"]),
    ];
    for (profile, attempts) in own {
        for attempt in common.iter().chain(attempts) {
            let output = scene.run(profile, "kill", attempt);
            assert!(output.status.success(), "{profile} {attempt}: {output:?}");
        }
    }
}

fn threads_are_refused() {
    let scene = Scene::new();
    let output = scene.run("gateway", "threads", "threads");
    assert!(text(&output).contains("2 threads run already"), "{output:?}");
}

fn without_root() {
    if !Uid::effective().is_root() {
        strongroom_soak::skipped(
            "this runs as another user already: every claim here is without root",
        );
        return;
    }
    let scene = Scene::new();
    for name in ["", "data", "run"] {
        let path = scene.directory.path().join(name);
        nix::unistd::chown(&path, Some(NOBODY_UID), Some(NOBODY_GID)).unwrap();
    }
    // The build directory may lie where nobody else can enter.
    let program = scene.directory.path().join("program");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    let attempts = [
        ("keeper", "sled", "ok"),
        ("keeper", "redb", "ok"),
        ("keeper", "locked_keys", "ok"),
        ("keeper", "read_passwd", "EACCES"),
        ("keeper", "connect_tcp", "EPERM"),
        ("courier", "connect_tcp", "ok"),
        ("courier", "unix_socket", "EPERM"),
        ("courier", "bind_unbound", "EACCES"),
        ("gateway", "accept", "ok"),
        ("gateway", "connect_tcp", "EPERM"),
    ];
    for (profile, attempt, expected) in attempts {
        let mut command = scene.command(&program, profile, "errno", attempt);
        let output = command.uid(NOBODY_UID.as_raw()).gid(NOBODY_GID.as_raw()).output().unwrap();
        assert_eq!(text(&output), format!("{expected}\n"), "{profile} {attempt}: {output:?}");
    }
}

fn missing_layers() {
    let report = probe(Profile::Gateway, Violation::Kill).unwrap();
    assert!(report.has(Layer::Files) && !report.has(Layer::SecretMemory), "{report}");
    let scene = Scene::new();
    let refused = scene.run("keeper", "old kernel", "write_data");
    assert!(!refused.status.success());
    let said = text(&refused);
    assert!(said.contains("`landlock-files` is missing"), "{said}");
    assert!(said.contains("accept_missing = [\"landlock-files\"]"), "{said}");
    for (attempt, expected) in [("write_data", "ok"), ("locked_keys", "ok"), ("fork", "EPERM")] {
        let output = scene.run("keeper", "old kernel accepted", attempt);
        assert_eq!(text(&output), format!("{expected}\n"), "{attempt}: {output:?}");
    }
}

fn hardening() {
    let scene = Scene::new();
    let output = scene.run("none", "errno", "hardened");
    assert_eq!(text(&output), "ok\n", "{output:?}");
}

fn panics_are_mute() {
    let scene = Scene::new();
    for profile in ["gateway", "courier", "keeper", "tpm"] {
        let output = scene.run(profile, "errno", "panic");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("panic at ") && said.contains(".rs:"), "{profile}: {said}");
        assert!(!said.contains("CANARY") && !text(&output).contains("CANARY"), "{profile}: {said}");
    }
}

fn spawned_child() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let leaked = File::open("/dev/null").unwrap();
    let leaked = nix::fcntl::fcntl(&leaked, nix::fcntl::FcntlArg::F_DUPFD(20)).unwrap();
    let (second, _other) = UnixStream::pair().unwrap();
    let root = Uid::effective().is_root();
    let scratch = tempfile::tempdir().unwrap();
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
    let program = scratch.path().join("program");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    let mut child = Child {
        program: &program,
        arguments: &["--report-child", &leaked.to_string()],
        user: root.then_some((NOBODY_UID, NOBODY_GID)),
        network: if root { Network::None } else { Network::Host },
        inherited: &[theirs.as_fd(), second.as_fd()],
        keep_environment: &["PATH", "NOT_SET"],
        wipes_freed: false,
    }
    .start()
    .unwrap();
    drop((theirs, second));
    let mut told = String::new();
    (&ours).read_to_string(&mut told).unwrap();
    assert!(child.wait().unwrap().success(), "{told}");
    let uid = if root { NOBODY_UID } else { Uid::effective() };
    let told = told.strip_prefix(&format!(
        "uid={uid} groups=0 variables=GLIBC_TUNABLES,PATH descriptors=5 leaked=false "
    ));
    // Without root nobody takes the host's interfaces away, and there may be none.
    assert!(told == Some("outside=false") || (!root && told.is_some()), "{told:?}");
    let absent = Path::new("/does/not/exist");
    let failed = Child {
        program: absent,
        arguments: &[],
        user: None,
        network: Network::Host,
        inherited: &[],
        keep_environment: &[],
        wipes_freed: false,
    };
    assert!(failed.start().unwrap_err().to_string().contains("/does/not/exist"));
}

fn child_dies_with_parent() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let program = env::current_exe().unwrap();
    let mut supervisor = Child {
        program: &program,
        arguments: &["--supervise"],
        user: None,
        network: Network::Host,
        inherited: &[theirs.as_fd()],
        keep_environment: &[],
        wipes_freed: false,
    }
    .start()
    .unwrap();
    drop(theirs);
    let mut ready = [0];
    ours.read_exact(&mut ready).unwrap();
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    // The grandchild holds the other end: only its death ends the stream.
    assert_eq!(ours.read(&mut ready).unwrap(), 0);
}

fn child_at_terminal() {
    let ends = openpty(None, None).unwrap();
    let stream = || Stdio::from(ends.slave.try_clone().unwrap());
    let mut supervisor = Command::new(env::current_exe().unwrap());
    supervisor.arg("--at-terminal").stdin(stream()).stdout(stream()).stderr(stream());
    // A line for each stream is there before anybody could read it.
    let mut terminal = File::from(ends.master);
    terminal.write_all(b"my passphrase\nmy passphrase\n").unwrap();
    assert!(supervisor.status().unwrap().success());
    drop((supervisor, ends.slave));
    // What was written arrives in parts; a terminal that nobody holds any more ends with EIO.
    let mut shown = Vec::new();
    let ended = terminal.read_to_end(&mut shown).unwrap_err();
    assert_eq!(ended.raw_os_error(), Some(Errno::EIO as i32));
    let shown = String::from_utf8_lossy(&shown);
    // Each stream: what reading it said, written to it.
    assert!(shown.contains("1: EBADF") && shown.contains("2: EBADF"), "{shown}");
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let told: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match told.as_slice() {
        ["--attempt", profile, mode, attempt, directory, port] => attempts::attempt_alone(
            profile,
            mode,
            attempt,
            Path::new(directory),
            port.parse().unwrap(),
        ),
        ["--report-child", leaked] => children::report_child(leaked),
        ["--supervise"] => children::supervise(),
        ["--at-terminal"] => children::start_at_terminal(),
        ["--read-terminal"] => children::read_terminal(),
        ["--outlive"] => loop {
            thread::park();
        },
        told if told.contains(&"--list") => {
            let ignored = told.contains(&"--ignored");
            CLAIMS.iter().filter(|_| !ignored).for_each(|(name, _)| println!("{name}: test"));
            ExitCode::SUCCESS
        }
        told => run_claims(told),
    }
}

fn run_claims(told: &[&str]) -> ExitCode {
    let exact = told.contains(&"--exact");
    let wanted: Vec<&&str> = told.iter().filter(|word| !word.starts_with("--")).collect();
    for (name, claim) in CLAIMS {
        let name = *name;
        let matches = |word: &&&str| name == **word || (!exact && name.contains(**word));
        if wanted.is_empty() || wanted.iter().any(matches) {
            claim();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}
